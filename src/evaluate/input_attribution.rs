//! Integrated gradients and attention over the windows of a recording: by source, by unit, by time before the prediction.

use kernels::BackendError;
use serde::Serialize;

use super::forward::Inputs;
use super::gradients::{GradientWindow, InputGradients, WindowGradients};
use super::metrics::{Bits, Resamples};
use super::predictions::Observed;
use crate::model::config::ModelConfig;
use crate::model::network::Token;

/// Sources beside the modalities, which follow them in every list.
const SOURCES: [&str; 4] = ["spikes", "starts and ends", "own history", "population's history"];

/// What is asked of the gradients.
#[derive(Debug, Clone, Copy)]
pub struct GradientOptions {
    /// Steps from the baseline to the inputs.
    pub steps: usize,
    /// Most windows, evenly spread over those of the observed.
    pub windows: usize,
    /// Whether each unit's prediction is attributed by itself, too.
    pub by_target: bool,
}

/// Contributions to the log-likelihood, in bits per spike of what was predicted, and attention.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct InputAttribution {
    /// Windows looked at, and steps from the baseline.
    pub windows: usize,
    /// See [`GradientOptions`].
    pub steps: usize,
    /// Names of the sources: spikes, starts and ends, own history, the population's history, then the modalities.
    pub sources: Vec<String>,
    /// What each source contributed.
    pub by_source: Vec<Bits>,
    /// Log-likelihood of the inputs less that of the baseline: what contributions add up to.
    pub gained: Bits,
    /// Largest share of |gained| of a window that its contributions miss.
    pub largest_residual: f64,
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

/// Sums of windows.
struct Sums {
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

/// Attributes windows of `observed` to their inputs. `each` is called after every window.
///
/// # Errors
/// A device that failed.
pub fn attribute_inputs(
    gradients: &mut InputGradients,
    config: &ModelConfig,
    mut inputs: Inputs<'_>,
    observed: &Observed,
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
        windows: Vec::new(),
        targets: vec![Vec::new(); if options.by_target { units } else { 0 }],
        out: InputAttribution {
            windows: 0,
            steps: options.steps,
            by_source: Vec::new(),
            gained: Bits {
                value: None,
                ci95: None,
            },
            largest_residual: 0.0,
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
    let all = observed.windows();
    let chosen: Vec<usize> = match options.windows {
        most if most < all => (0..most).map(|i| i * all / most).collect(),
        _ => (0..all).collect(),
    };
    let size = observed.bins() * units;
    for window in chosen {
        let start_ns = observed.starts_ns[window];
        let end_ns = start_ns + observed.shape.history_ns;
        let past = inputs.spikes.between(start_ns, end_ns);
        let times_s: Vec<f64> = past
            .times_ns
            .iter()
            .map(|&time| (time - start_ns) as f64 * 1e-9)
            .collect();
        let spikes = inputs.spikes;
        let traces = inputs
            .traces
            .as_mut()
            .map(|traces| traces.advance(spikes, end_ns).clone());
        let seen = GradientWindow {
            times_s: &times_s,
            units: past.units,
            traces: traces.as_ref(),
            conditions: inputs.conditions.at(end_ns),
            counts: &observed.counts[window * size..(window + 1) * size],
        };
        let found = gradients.window(&seen, None)?;
        sums.add(&found, &seen, &group_of);
        for (target, sums) in sums.targets.iter_mut().enumerate() {
            let counted = seen.counts.iter().skip(target).step_by(units);
            let spikes = counted.map(|&count| f64::from(count)).sum();
            sums.push((by_source(&gradients.window(&seen, Some(target))?), spikes));
        }
        let (tokens, attention) = gradients.attention(&seen)?;
        sums.attend(&tokens, &attention, &group_of);
        each();
    }
    let count = sums.windows.len();
    Ok(sums.finish(&resamples(count)))
}

impl Sums {
    fn add(&mut self, found: &WindowGradients, seen: &GradientWindow<'_>, group_of: &dyn Fn(f64) -> usize) {
        let out = &mut self.out;
        let (units, groups) = (out.by_unit.len(), out.times_s.len());
        let gained = found.ends_of_path[0] - found.ends_of_path[1];
        let residual = found.residual().abs() / gained.abs().max(f64::MIN_POSITIVE);
        out.largest_residual = out.largest_residual.max(residual);
        let spikes: f64 = seen.counts.iter().map(|&count| f64::from(count)).sum();
        self.windows.push((by_source(found), gained, spikes));
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

    fn finish(self, resamples: &Resamples) -> InputAttribution {
        let Sums {
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
        let per_window = 1.0 / windows.len().max(1) as f64;
        let attention = [&mut out.attention_by_source, &mut out.attention_by_time];
        let attention = attention.into_iter().chain(&mut out.attention_by_head).flatten();
        attention
            .chain(out.attention_by_unit.iter_mut().flatten())
            .for_each(|share| *share *= per_window);
        out
    }
}
