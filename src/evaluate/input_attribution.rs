//! Integrated gradients and attention over the windows of a recording: by source, by unit, by time before the prediction.

use kernels::BackendError;
use serde::Serialize;

use super::forward::Inputs;
use super::gradients::{GradientWindow, InputGradients, WindowGradients};
use super::metrics::{Bits, Resamples};
use super::predictions::Observed;
use super::quadrature::nodes;
use crate::model::conditions::Tokens;
use crate::model::config::ModelConfig;
use crate::model::network::Token;
use crate::model::traces::Traces;

/// Sources beside the modalities, which follow them in every list.
const SOURCES: [&str; 4] = ["spikes", "starts and ends", "own history", "population's history"];

/// Largest share of what the inputs gained that contributions may miss.
pub const LARGEST_RESIDUAL: f64 = 0.05;

/// Bits a window that contributions may miss in any case: FP32 sums leave as much.
const LEAST_BITS: f64 = 1e-3;

/// What is asked of the gradients.
#[derive(Debug, Clone, Copy)]
pub struct GradientOptions {
    /// Steps from the baseline to the inputs that every window begins with, at least 1.
    pub steps: usize,
    /// Steps are doubled where contributions miss too much, up to this number.
    pub most_steps: usize,
    /// Most windows, evenly spread over those of the observed.
    pub windows: usize,
    /// Whether each unit's prediction is attributed by itself, too.
    pub by_target: bool,
}

/// Contributions to the log-likelihood, in bits per spike of what was predicted, and attention.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct InputAttribution {
    /// Whether contributions add up: `residual` is at most [`LARGEST_RESIDUAL`]. Where they do not, none of them says anything.
    pub complete: bool,
    /// Mean over windows of what contributions miss, without its sign, over the mean of what the inputs gained, also without.
    pub residual: f64,
    /// Windows looked at.
    pub windows: usize,
    /// Most steps from the baseline that a window took.
    pub steps: usize,
    /// Their mean over windows.
    pub steps_mean: f64,
    /// Names of the sources: spikes, starts and ends, own history, the population's history, then the modalities.
    pub sources: Vec<String>,
    /// What each source contributed.
    pub by_source: Vec<Bits>,
    /// Log-likelihood of the inputs less that of the baseline: what contributions add up to.
    pub gained: Bits,
    /// Middle of each time before the prediction, s (negative), `[S]`.
    pub times_s: Vec<f64>,
    /// What spikes of each time contributed, `[S]`.
    pub spikes_by_time: Vec<f64>,
    /// What spikes of each unit contributed, by time, `[N, S]`.
    pub spikes_by_unit_and_time: Vec<f64>,
    /// Of each unit: its spikes, its start and end, its own history, its part in the population's, `[N, 4]`.
    pub by_unit: Vec<[f64; 4]>,
    /// Of each modality: by step of the history, `[M]`, and by channel, `[C]`.
    pub by_modality: Vec<(Vec<f64>, Vec<f64>)>,
    /// What each source contributed to the prediction of each unit, per spike of that unit, `[N][sources]`; where it was asked for.
    pub by_target: Vec<Vec<Bits>>,
    /// The same of the contributions' sizes, whether they helped or harmed: by how much a source moves a unit's prediction.
    pub influence_by_target: Vec<Vec<Bits>>,
    /// The encoder's attention to spikes, starts and ends, and each modality, mean over heads and windows; they add up to 1.
    pub attention_by_source: Vec<f64>,
    /// The same of every head, `[H][sources]`.
    pub attention_by_head: Vec<Vec<f64>>,
    /// Attention to the spikes of each time, `[S]`.
    pub attention_by_time: Vec<f64>,
    /// Attention to each unit: its spikes, its start and end, `[N, 2]`.
    pub attention_by_unit: Vec<[f64; 2]>,
}

impl InputAttribution {
    /// How far contributions add up, for people.
    pub fn in_words(&self) -> String {
        let missed = format!(
            "{:.1} % of what the inputs gained, in the mean over windows",
            100.0 * self.residual
        );
        match self.complete {
            true => format!(
                "contributions miss {missed}, with {:.0} steps in the mean and {} at most",
                self.steps_mean, self.steps
            ),
            false => format!(
                "INCOMPLETE: with {} steps contributions still miss {missed} (at most {:.0} % would do): they do not say what any \
                 input contributed",
                self.steps,
                100.0 * LARGEST_RESIDUAL
            ),
        }
    }
}

/// A window's inputs, kept while others are looked at.
struct Seen<'a> {
    times_s: Vec<f64>,
    units: &'a [u32],
    traces: Option<Traces>,
    conditions: Vec<Tokens>,
    counts: &'a [f32],
}

impl Seen<'_> {
    fn window(&self) -> GradientWindow<'_> {
        GradientWindow {
            times_s: &self.times_s,
            units: self.units,
            traces: self.traces.as_ref(),
            conditions: &self.conditions,
            counts: self.counts,
        }
    }
}

/// Some of the windows of `observed`, evenly spread.
fn spread<'a>(inputs: &mut Inputs<'a>, observed: &'a Observed, most: usize) -> Vec<Seen<'a>> {
    let (all, size) = (observed.windows(), observed.bins() * observed.units());
    let count = most.min(all);
    let seen = |window: usize| {
        let start_ns = observed.starts_ns[window];
        let end_ns = start_ns + observed.shape.history_ns;
        let spikes = inputs.spikes;
        let past = spikes.between(start_ns, end_ns);
        let seconds = |&time: &i64| (time - start_ns) as f64 * 1e-9;
        Seen {
            times_s: past.times_ns.iter().map(seconds).collect(),
            units: past.units,
            traces: inputs
                .traces
                .as_mut()
                .map(|traces| traces.advance(spikes, end_ns).clone()),
            conditions: inputs.conditions.at(end_ns).to_vec(),
            counts: &observed.counts[window * size..(window + 1) * size],
        }
    };
    (0..count).map(|i| i * all / count).map(seen).collect()
}

/// Gradients of a window with twice as many steps again and again until they miss at most `tolerance` bits, and those steps.
fn refined(
    gradients: &mut InputGradients,
    window: &GradientWindow<'_>,
    target: Option<usize>,
    options: &GradientOptions,
    tolerance: f64,
) -> Result<(WindowGradients, usize), BackendError> {
    let mut steps = options.steps.max(1);
    loop {
        let found = gradients.window(window, target, &nodes(steps))?;
        let next = (2 * steps).min(options.most_steps);
        if found.residual().abs() <= tolerance || next <= steps {
            return Ok((found, steps));
        }
        steps = next;
    }
}

/// Sums of windows.
struct Sums {
    /// Steps of all windows.
    steps: usize,
    /// Bits that contributions to all units miss, without their sign; the same of single targets.
    missed: [f64; 2],
    /// Of each window: contributions by source, gained, spikes predicted.
    windows: Vec<(Vec<f64>, f64, f64)>,
    /// The same of each target: contributions by source, spikes of the target.
    targets: Vec<Vec<(Vec<f64>, f64)>>,
    out: InputAttribution,
}

/// Contributions of every source of a window.
fn by_source(gradients: &WindowGradients) -> Vec<f64> {
    let sum = |values: &Vec<f64>| values.iter().sum::<f64>();
    let beside = gradients.conditions.iter().map(sum);
    let own = [
        sum(&gradients.spikes),
        sum(&gradients.ends),
        sum(&gradients.own_history),
        sum(&gradients.population),
    ];
    own.into_iter().chain(beside).collect()
}

/// Attributes windows of `observed` to their inputs. Steps are doubled window by window where contributions miss more than
/// [`LARGEST_RESIDUAL`] of what the inputs of a window gain in the mean. `each` is called after every window.
///
/// # Errors
/// A device that failed.
pub fn attribute_inputs<'a>(
    gradients: &mut InputGradients,
    config: &ModelConfig,
    mut inputs: Inputs<'a>,
    observed: &'a Observed,
    options: &GradientOptions,
    resamples: impl Fn(usize) -> Resamples,
    mut each: impl FnMut(),
) -> Result<InputAttribution, BackendError> {
    let (units, history_s) = (observed.units(), config.history_s());
    let groups = (history_s / config.latent_step).ceil().max(1.0) as usize;
    let group_of = |time_s: f64| ((time_s / config.latent_step) as usize).min(groups - 1);
    let sources: Vec<String> = SOURCES
        .iter()
        .map(|source| (*source).to_owned())
        .chain(config.conditions.iter().map(|condition| condition.series.clone()))
        .collect();
    let beside = config.conditions.len();
    let mut sums = Sums {
        steps: 0,
        missed: [0.0; 2],
        windows: Vec::new(),
        targets: vec![Vec::new(); if options.by_target { units } else { 0 }],
        out: InputAttribution {
            complete: false,
            residual: 0.0,
            windows: 0,
            steps: 0,
            steps_mean: 0.0,
            by_source: Vec::new(),
            gained: Bits {
                value: None,
                ci95: None,
            },
            times_s: (0..groups)
                .map(|group| (group as f64 + 0.5) * config.latent_step - history_s)
                .collect(),
            spikes_by_time: vec![0.0; groups],
            spikes_by_unit_and_time: vec![0.0; units * groups],
            by_unit: vec![[0.0; 4]; units],
            by_modality: config
                .conditions
                .iter()
                .map(|condition| (vec![0.0; condition.steps(history_s)], vec![0.0; condition.channels()]))
                .collect(),
            by_target: Vec::new(),
            influence_by_target: Vec::new(),
            attention_by_source: vec![0.0; 2 + beside],
            attention_by_head: vec![vec![0.0; 2 + beside]; config.cross_heads],
            attention_by_time: vec![0.0; groups],
            attention_by_unit: vec![[0.0; 2]; units],
            sources,
        },
    };
    let windows = spread(&mut inputs, observed, options.windows);
    let mut gained = 0.0;
    for seen in &windows {
        gained += gradients.gained(&seen.window())?.abs();
    }
    gained /= windows.len().max(1) as f64;
    let tolerance = (LARGEST_RESIDUAL * gained).max(LEAST_BITS);
    for seen in &windows {
        let seen = seen.window();
        let (found, steps) = refined(gradients, &seen, None, options, tolerance)?;
        sums.add(&found, steps, &seen, &group_of);
        for target in 0..sums.targets.len() {
            let counted = seen.counts.iter().skip(target).step_by(units);
            let spikes = counted.map(|&count| f64::from(count)).sum();
            // All targets together may miss as much as the whole prediction.
            let (found, steps) = refined(gradients, &seen, Some(target), options, tolerance / units as f64)?;
            sums.missed[1] += found.residual().abs();
            sums.out.steps = sums.out.steps.max(steps);
            sums.targets[target].push((by_source(&found), spikes));
        }
        let (tokens, attention) = gradients.attention(&seen)?;
        sums.attend(&tokens, &attention, &group_of);
        each();
    }
    let count = sums.windows.len();
    Ok(sums.finish(&resamples(count), gained, tolerance))
}

impl Sums {
    fn add(
        &mut self,
        found: &WindowGradients,
        steps: usize,
        seen: &GradientWindow<'_>,
        group_of: &dyn Fn(f64) -> usize,
    ) {
        self.steps += steps;
        self.missed[0] += found.residual().abs();
        let out = &mut self.out;
        out.steps = out.steps.max(steps);
        let (units, groups) = (out.by_unit.len(), out.times_s.len());
        let spikes: f64 = seen.counts.iter().map(|&count| f64::from(count)).sum();
        self.windows.push((by_source(found), found.gained(), spikes));
        for ((&bits, &time), &unit) in found.spikes.iter().zip(seen.times_s).zip(seen.units) {
            let group = group_of(time);
            out.spikes_by_time[group] += bits;
            out.spikes_by_unit_and_time[unit as usize * groups + group] += bits;
            out.by_unit[unit as usize][0] += bits;
        }
        let constants = found.own_history.len() / units;
        for (unit, sums) in out.by_unit.iter_mut().enumerate() {
            sums[1] += found.ends[unit];
            sums[2] += found.own_history[unit * constants..][..constants].iter().sum::<f64>();
            sums[3] += found.population.iter().skip(unit).step_by(units).sum::<f64>();
        }
        for ((steps, channels), bits) in out.by_modality.iter_mut().zip(&found.conditions) {
            let width = channels.len();
            for (step, row) in steps.iter_mut().zip(bits.chunks_exact(width)) {
                *step += row.iter().sum::<f64>();
                channels.iter_mut().zip(row).for_each(|(sum, bits)| *sum += bits);
            }
        }
    }

    fn attend(&mut self, tokens: &[(Token, f64)], attention: &[f64], group_of: &dyn Fn(f64) -> usize) {
        let out = &mut self.out;
        let heads = out.attention_by_head.len();
        for (head, of_head) in attention.chunks_exact(tokens.len().max(1)).enumerate() {
            for (&(token, time), &share) in tokens.iter().zip(of_head) {
                let of_all = share / heads as f64;
                let source = match token {
                    Token::Spike(unit) => {
                        out.attention_by_time[group_of(time)] += of_all;
                        out.attention_by_unit[unit as usize][0] += of_all;
                        0
                    }
                    Token::End(unit) => {
                        out.attention_by_unit[unit as usize][1] += of_all;
                        1
                    }
                    Token::Condition(modality, _) => 2 + modality,
                };
                out.attention_by_source[source] += of_all;
                out.attention_by_head[head][source] += share;
            }
        }
    }

    /// `gained` is the mean over windows of what the inputs gained, without its sign, and `tolerance` what may be missed of it.
    fn finish(self, resamples: &Resamples, gained: f64, tolerance: f64) -> InputAttribution {
        let Sums {
            steps,
            missed,
            windows,
            targets,
            mut out,
        } = self;
        let spikes: f64 = windows.iter().map(|window| window.2).sum();
        let figure = |of: &dyn Fn(usize) -> (f64, f64)| {
            let ratio = |weights: Option<&[f64]>| {
                let weight = |window: usize| weights.map_or(1.0, |weights| weights[window]);
                let sum = |pick: &dyn Fn((f64, f64)) -> f64| {
                    (0..windows.len())
                        .map(|window| weight(window) * pick(of(window)))
                        .sum::<f64>()
                };
                let spikes = sum(&|pair| pair.1);
                (spikes > 0.0).then(|| sum(&|pair| pair.0) / spikes)
            };
            Bits {
                value: ratio(None),
                ci95: resamples.intervals95(1, |weights| vec![ratio(Some(weights))])[0],
            }
        };
        let sources = 0..out.sources.len();
        out.windows = windows.len();
        let per_window = 1.0 / windows.len().max(1) as f64;
        out.steps_mean = steps as f64 * per_window;
        let missed = missed[0].max(missed[1]) * per_window;
        out.complete = missed <= tolerance;
        out.residual = missed / gained.max(LEAST_BITS);
        out.gained = figure(&|window| (windows[window].1, windows[window].2));
        out.by_source = sources
            .clone()
            .map(|source| figure(&|window| (windows[window].0[source], windows[window].2)))
            .collect();
        let of_targets = |size: fn(f64) -> f64| {
            let of_target = |target: &Vec<(Vec<f64>, f64)>| {
                let of_source = |source: usize| figure(&|window| (size(target[window].0[source]), target[window].1));
                sources.clone().map(of_source).collect()
            };
            targets.iter().map(of_target).collect()
        };
        (out.by_target, out.influence_by_target) = (of_targets(|bits| bits), of_targets(f64::abs));
        let per_spike = 1.0 / spikes.max(1.0);
        let of_bits = [&mut out.spikes_by_time, &mut out.spikes_by_unit_and_time];
        let modalities = out
            .by_modality
            .iter_mut()
            .flat_map(|(steps, channels)| [steps, channels]);
        let all = of_bits.into_iter().chain(modalities).flatten();
        all.chain(out.by_unit.iter_mut().flatten())
            .for_each(|bits| *bits *= per_spike);
        let attention = [&mut out.attention_by_source, &mut out.attention_by_time];
        let attention = attention.into_iter().chain(&mut out.attention_by_head).flatten();
        attention
            .chain(out.attention_by_unit.iter_mut().flatten())
            .for_each(|share| *share *= per_window);
        out
    }
}
