//! The future is like the recent past: every bin of the horizon gets an exponential average of the unit's own counts.

use super::binned::FitData;
use super::Recent;
use crate::evaluate::predictions::{Observed, Predictions};
use crate::model::poisson::negative_log_likelihood;
use crate::model::traces::Traces;

/// Time constants, in bins, of which the best is taken.
const TIME_CONSTANTS_BINS: [f64; 10] = [1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0];
/// Lowest rate, as a part of the unit's mean: a unit that has been silent may fire again.
const FLOOR: f32 = 0.1;
/// Lowest expected count.
const LEAST: f32 = 4.54e-5;
/// Part of the fit interval, at its end, on which the time constant is chosen.
const CHOSEN_ON: f64 = 0.2;

/// Exponential average of the recent past.
#[derive(Debug, Clone, PartialEq)]
pub struct Persistence {
    mean: Vec<f32>,
    bin_s: f64,
    tau_s: f64,
}

impl Persistence {
    /// Chooses the time constant that predicts the last fifth of each part best.
    pub fn fit(fit: &FitData) -> Self {
        let bin_s = fit.shape().bin_ns as f64 * 1e-9;
        let candidate = |bins: f64| Persistence {
            mean: fit.mean().to_vec(),
            bin_s,
            tau_s: bins * bin_s,
        };
        let mut candidates: Vec<(f64, Persistence)> = TIME_CONSTANTS_BINS
            .iter()
            .map(|&bins| (candidate(bins).loss(fit), candidate(bins)))
            .collect();
        candidates.sort_by(|a, b| a.0.total_cmp(&b.0));
        candidates.swap_remove(0).1
    }

    /// The chosen time constant, seconds.
    pub fn tau_s(&self) -> f64 {
        self.tau_s
    }

    fn traces(&self) -> Traces {
        Traces::new(&[self.tau_s], self.bin_s, &self.mean)
    }

    fn log_rates(&self, trace: &[f32], out: &mut [f32]) {
        for ((out, &trace), &mean) in out.iter_mut().zip(trace).zip(&self.mean) {
            *out = trace.max(FLOOR * mean).max(LEAST).ln();
        }
    }

    /// Negative log-likelihood of the horizons in the last part.
    fn loss(&self, fit: &FitData) -> f64 {
        let units = fit.units();
        let mut loss = 0.0;
        let mut log_rates = vec![0.0; units];
        let mut counts = vec![0.0; fit.shape().bins * units];
        for part in 0..fit.parts() {
            let binned = fit.part(part);
            let first = (binned.bins() as f64 * (1.0 - CHOSEN_ON)) as usize;
            let mut places = fit.places(part).into_iter().filter(|&place| place >= first).peekable();
            binned.walk(&mut self.traces(), &self.mean, &[], |bin, traces| {
                if places.next_if_eq(&bin).is_none() {
                    return;
                }
                self.log_rates(traces.state(), &mut log_rates);
                fit.targets(part, bin, &mut counts);
                for counts in counts.chunks_exact(units.max(1)) {
                    for (&rate, &count) in log_rates.iter().zip(counts) {
                        loss += negative_log_likelihood(f64::from(rate), f64::from(count));
                    }
                }
            });
        }
        loss
    }

    /// Predicts the windows of `observed`.
    pub fn predict(&self, recent: Recent<'_>, observed: &Observed) -> Predictions {
        let mut predictions = Predictions::empty("persistence", observed);
        let units = observed.units();
        recent.each_window(observed, &self.mean, &mut self.traces(), |window, traces| {
            for row in predictions.window_mut(window).chunks_exact_mut(units.max(1)) {
                self.log_rates(traces.state(), row);
            }
        });
        predictions
    }
}

#[cfg(test)]
mod tests {
    use super::super::binned::{FitPart, Source};
    use super::*;
    use crate::data::Interval;
    use crate::model::window::{Spikes, WindowShape};

    const BIN: i64 = 10_000_000;
    const SHAPE: WindowShape = WindowShape {
        history_ns: 2 * BIN,
        bin_ns: BIN,
        bins: 2,
        horizon_ns: 2 * BIN,
    };

    #[test]
    fn rates_that_last_are_followed_and_floored() {
        // One unit, on for 100 bins (one spike each) and off for 100, twice over.
        let times: Vec<i64> = (0..400).filter(|bin| bin / 100 % 2 == 0).map(|bin| bin * BIN).collect();
        let units = vec![0; times.len()];
        let observed = [Interval {
            start_ns: 0,
            end_ns: 400 * BIN,
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
            interval_ns: (0, 330 * BIN),
        };
        let fit = FitData::new(&[part], 1, SHAPE);
        let persistence = Persistence::fit(&fit);
        // The rate changes once in a hundred bins: the shortest memory is the best.
        assert_eq!(persistence.tau_s(), 0.01);
        let windows = Observed::new(source.spikes, SHAPE, (200 * BIN, 400 * BIN), 2, vec![-1.0]);
        let recent = Recent { source, hidden: &[] };
        let predictions = persistence.predict(recent, &windows);
        // Long after the change: the last count, and a tenth of the mean of 200 spikes in 330 bins.
        let at = |bin: i64| predictions.log_rates[(bin - 202) as usize];
        assert!(at(280).abs() < 1e-3);
        assert!((at(380).exp() - 0.1 * 200.0 / 330.0).abs() < 1e-6);
        // Two silent bins after a rate of 1.
        assert!((at(302).exp() - (-2.0f32).exp()).abs() < 1e-5);
    }
}
