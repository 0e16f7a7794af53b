//! Fits a [`Glm`]: mini-batches of windows drawn from the whole fit interval, and AdamW.

use rand::seq::SliceRandom;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::binned::{FitData, FitPart};
use super::components::Components;
use super::glm::{population_features, Features, Glm, GlmOptions, WEIGHT_DECAYS};
use super::glm_gradient::{AdamW, Gradient};
use crate::model::poisson::negative_log_likelihood;
use crate::model::traces::Traces;
use crate::model::window::WindowShape;

/// Most places whose features are kept: about 160 MB for 300 units. Of more, as many are drawn.
const MOST_PLACES: usize = 32_768;
/// Most places that the components are computed from.
const COMPONENT_PLACES: usize = 8192;

/// A place of the fit data, with its features.
pub(super) struct Place {
    pub part: usize,
    pub bin: usize,
    pub features: Features,
}

pub(super) fn fit(
    parts: &[FitPart<'_>],
    units: usize,
    shape: WindowShape,
    options: &GlmOptions,
    mut progress: impl FnMut(usize, usize),
) -> Glm {
    let all = data(parts, units, shape, options);
    let Some(decay) = options.weight_decay else {
        let runs = WEIGHT_DECAYS.len() + 1;
        let mut step = 0;
        let mut progress = || {
            step += 1;
            progress(step, runs * options.steps);
        };
        let decay = choose_decay(parts, &all, options, &mut progress);
        return fit_with(&all, options, decay, progress);
    };
    let mut step = 0;
    fit_with(&all, options, decay, || {
        step += 1;
        progress(step, options.steps);
    })
}

fn data(parts: &[FitPart<'_>], units: usize, shape: WindowShape, options: &GlmOptions) -> FitData {
    let data = FitData::new(parts, units, shape);
    match options.one_more_spike {
        true => data.with_one_more_spike(),
        false => data,
    }
}

/// The decay that, fitted on the first four fifths of each part, predicts the last fifth best.
fn choose_decay(parts: &[FitPart<'_>], all: &FitData, options: &GlmOptions, mut progress: impl FnMut()) -> f32 {
    let (units, shape) = (all.units(), all.shape());
    let first_parts = parts.iter().map(|part| {
        let (start, end) = part.interval_ns;
        let bins = (end - start).max(0) / shape.bin_ns * 4 / 5;
        FitPart {
            interval_ns: (start, start + bins * shape.bin_ns),
            ..*part
        }
    });
    let first_parts: Vec<FitPart<'_>> = first_parts.collect();
    let first = data(&first_parts, units, shape, options);
    let rest: Vec<(usize, usize)> = (0..all.parts())
        .flat_map(|part| {
            let places = all.places(part).into_iter();
            let from = first.part(part).bins();
            places.filter(move |&bin| bin >= from).map(move |bin| (part, bin))
        })
        .collect();
    let mut losses = WEIGHT_DECAYS.map(|decay| {
        (
            loss(&fit_with(&first, options, decay, &mut progress), all, &rest),
            decay,
        )
    });
    losses.sort_by(|a, b| a.0.total_cmp(&b.0));
    losses[0].1
}

/// Negative log-likelihood of the horizons at these places.
pub(super) fn loss(glm: &Glm, fit: &FitData, places: &[(usize, usize)]) -> f64 {
    let mut features = glm.features();
    let mut scratch = Vec::new();
    let mut counts = vec![0.0; glm.sizes.bins * glm.sizes.units];
    let mut log_rates = counts.clone();
    let mut loss = 0.0;
    each_place(fit, places, &mut glm.traces(), |(part, bin), traces| {
        glm.read(traces, &mut features, &mut scratch);
        glm.log_rates(&features.own, &features.population, &mut log_rates);
        fit.targets(part, bin, &mut counts);
        for (&rate, &count) in log_rates.iter().zip(&counts) {
            loss += negative_log_likelihood(f64::from(rate), f64::from(count));
        }
    });
    loss
}

fn fit_with(fit: &FitData, options: &GlmOptions, decay: f32, mut progress: impl FnMut()) -> Glm {
    let options = &GlmOptions {
        weight_decay: Some(decay),
        ..options.clone()
    };
    let mut random = ChaCha8Rng::seed_from_u64(options.seed);
    let mut chosen: Vec<(usize, usize)> = (0..fit.parts())
        .flat_map(|part| fit.places(part).into_iter().map(move |bin| (part, bin)))
        .collect();
    chosen.shuffle(&mut random);
    chosen.truncate(MOST_PLACES);
    let components = components(fit, options, &chosen);
    let mut glm = Glm::flat(fit, options, components);
    chosen.sort_unstable();
    let places = places(fit, &glm, &chosen);
    if places.is_empty() {
        return glm;
    }

    let mut optimiser = AdamW::new(glm.sizes, decay);
    let mut gradient = Gradient::new(glm.sizes);
    let mut order: Vec<usize> = Vec::new();
    for step in 0..options.steps {
        gradient.clear();
        for _ in 0..options.batch {
            if order.is_empty() {
                order.extend(0..places.len());
                order.shuffle(&mut random);
            }
            let place = &places[order.pop().expect("refilled above")];
            fit.targets(place.part, place.bin, &mut gradient.counts);
            gradient.add(&glm, &place.features);
        }
        let done = step as f32 / options.steps as f32;
        let rate = options.learning_rate * 0.5 * (1.0 + (std::f32::consts::PI * done).cos());
        optimiser.step(&mut glm.parameters, &mut gradient.sums, options.batch, rate);
        progress();
    }
    glm
}

/// Principal components of the population's traces at some of the chosen places.
pub(super) fn components(fit: &FitData, options: &GlmOptions, chosen: &[(usize, usize)]) -> Components {
    let bin_s = fit.shape().bin_ns as f64 * 1e-9;
    let mut some = chosen[..chosen.len().min(COMPONENT_PLACES)].to_vec();
    some.sort_unstable();
    let mut traces = Traces::new(&options.time_constants_s, bin_s, fit.mean());
    let (mut rows, mut row) = (Vec::new(), Vec::new());
    each_place(fit, &some, &mut traces, |_, traces| {
        population_features(traces, options, &mut row);
        rows.extend_from_slice(&row);
    });
    let width = options.population_traces.len() * fit.units();
    Components::fit(&rows, width, options.components, options.seed)
}

pub(super) fn places(fit: &FitData, glm: &Glm, chosen: &[(usize, usize)]) -> Vec<Place> {
    let mut places = Vec::with_capacity(chosen.len());
    let mut scratch = Vec::new();
    each_place(fit, chosen, &mut glm.traces(), |(part, bin), traces| {
        let mut features = glm.features();
        glm.read(traces, &mut features, &mut scratch);
        places.push(Place { part, bin, features });
    });
    places
}

/// Calls `visit` at every place of the ascending `chosen`.
fn each_place(
    fit: &FitData,
    chosen: &[(usize, usize)],
    traces: &mut Traces,
    mut visit: impl FnMut((usize, usize), &Traces),
) {
    let mut chosen = chosen.iter().peekable();
    for part in 0..fit.parts() {
        fit.part(part).walk(traces, fit.mean(), &[], |bin, traces| {
            if chosen.next_if_eq(&&(part, bin)).is_some() {
                visit((part, bin), traces);
            }
        });
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::super::binned::Source;
    use super::super::Recent;
    use super::*;
    use crate::data::Interval;
    use crate::evaluate::metrics::{Gains, Resamples};
    use crate::evaluate::predictions::{Observed, Predictions};
    use crate::model::window::Spikes;
    use rand::Rng;
    use rand_distr::{Distribution, Poisson};

    pub const BIN: i64 = 20_000_000;
    pub const SHAPE: WindowShape = WindowShape {
        history_ns: 2 * BIN,
        bin_ns: BIN,
        bins: 2,
        horizon_ns: 2 * BIN,
    };
    pub const UNITS: usize = 6;

    /// Units whose common rate, in counts a bin, switches between 0.1 and 0.9 at random, on average every 50 bins.
    pub fn switching(bins: usize, seed: u64) -> (Vec<i64>, Vec<u32>, Vec<f64>) {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let (mut times, mut units, mut rates) = (Vec::new(), Vec::new(), Vec::new());
        let mut rate = 0.1;
        for bin in 0..bins {
            if random.random_bool(0.02) {
                rate = 1.0 - rate;
            }
            rates.push(rate);
            for unit in 0..UNITS as u32 {
                for _ in 0..Poisson::new(rate).expect("positive").sample(&mut random) as usize {
                    times.push(bin as i64 * BIN);
                    units.push(unit);
                }
            }
        }
        (times, units, rates)
    }

    #[test]
    fn it_gains_most_of_what_the_true_rates_gain() {
        let (bins, train) = (6000, 4000);
        let (times, units, rates) = switching(bins, 3);
        let observed = [Interval {
            start_ns: 0,
            end_ns: bins as i64 * BIN,
        }];
        let source = Source {
            spikes: Spikes {
                times_ns: &times,
                units: &units,
            },
            observed: &observed,
        };
        let part = FitPart {
            source,
            interval_ns: (0, train * BIN),
        };
        let options = GlmOptions {
            steps: 200,
            ..GlmOptions::default()
        };
        // Each decay on the first part, and the best on all of it.
        let (runs, mut calls) = (WEIGHT_DECAYS.len() + 1, 0);
        let glm = Glm::fit(&[part], UNITS, SHAPE, &options, |done, all| {
            calls += 1;
            assert!(done == calls && all == runs * 200);
        });
        assert_eq!(calls, runs * 200);

        let interval = (train * BIN, bins as i64 * BIN);
        let fit = FitData::new(&[part], UNITS, SHAPE);
        let null = fit.mean().iter().map(|&mean| f64::from(mean.ln()));
        let windows = Observed::new(source.spikes, SHAPE, interval, 2, null.collect());
        let bits = |predictions: &Predictions| {
            let gains = Gains::new(&windows, predictions).figures(&Resamples::new(windows.windows(), 0, 0));
            gains.overall.value.expect("there are spikes")
        };
        // Nobody can know when the rate will switch: the true rate of the bin just past is the most that can be known.
        let mut oracle = Predictions::empty("oracle", &windows);
        for (window, start) in windows.starts_ns.iter().enumerate() {
            let now = rates[((start + SHAPE.history_ns) / BIN) as usize - 1];
            let expected = |ahead: i32| 0.5 + (now - 0.5) * 0.96f64.powi(ahead);
            for (i, rate) in oracle.window_mut(window).iter_mut().enumerate() {
                *rate = expected(1 + (i / UNITS) as i32).ln() as f32;
            }
        }
        let recent = Recent { source, hidden: &[] };
        let (glm, oracle) = (bits(&glm.predict(recent, &windows)), bits(&oracle));
        assert!(oracle > 0.15, "{oracle}");
        assert!(glm > 0.75 * oracle && glm < 1.02 * oracle, "{glm} of {oracle}");
    }
}
