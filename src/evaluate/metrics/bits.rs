//! Forward-prediction bits per spike, over the horizon, bin by bin, up to each bin and unit by unit.
//!
//! `(NLL_null − NLL_model) / (spikes · ln 2)`, sums in FP64: the observation model and the null model are those of
//! [`crate::model::poisson`]. On units that the model was not shown the same figure is called co-bps.

use serde::Serialize;

use super::bootstrap::Resamples;
use crate::evaluate::predictions::{Observed, Predictions};
use crate::model::poisson::negative_log_likelihood;

/// A figure in bits per spike and its 95 % bootstrap interval; `None` where there was no spike.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Bits {
    /// Bits per spike.
    pub value: Option<f64>,
    /// 2.5th and 97.5th percentile over the resamples.
    pub ci95: Option<[f64; 2]>,
}

/// Nats gained over the null model and spikes, a row a window and a column a part of the horizon or a unit.
#[derive(Debug, Clone, PartialEq)]
struct Table {
    columns: usize,
    /// `[W, C]`.
    gain: Vec<f64>,
    /// `[W, C]`.
    spikes: Vec<f64>,
}

/// What one model gained over the null model, window by window.
#[derive(Debug, Clone, PartialEq)]
pub struct Gains {
    by_bin: Table,
    by_unit: Table,
}

/// Bits per spike in every breakdown.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct BitsFigures {
    /// Over all bins and units.
    pub overall: Bits,
    /// Bin by bin, `[T]`.
    pub by_bin: Vec<Bits>,
    /// Over all bins up to this one, `[T]`; the last is `overall`.
    pub by_horizon: Vec<Bits>,
    /// Unit by unit, over all bins, `[N]`.
    pub by_unit: Vec<Bits>,
}

impl Table {
    fn zeros(windows: usize, columns: usize) -> Self {
        Table {
            columns,
            gain: vec![0.0; windows * columns],
            spikes: vec![0.0; windows * columns],
        }
    }

    fn add(&mut self, window: usize, column: usize, gain: f64, spikes: f64) {
        self.gain[window * self.columns + column] += gain;
        self.spikes[window * self.columns + column] += spikes;
    }

    /// Column c becomes the sum of columns 0 to c.
    fn cumulative(&self) -> Table {
        let mut sums = self.clone();
        for values in [&mut sums.gain, &mut sums.spikes] {
            for row in values.chunks_exact_mut(self.columns.max(1)) {
                for column in 1..row.len() {
                    row[column] += row[column - 1];
                }
            }
        }
        sums
    }

    /// Bits per spike of each column, windows weighted by `weights` `[W]`.
    fn bits(&self, weights: impl IntoIterator<Item = f64>) -> Vec<Option<f64>> {
        let mut sums = vec![(0.0, 0.0); self.columns];
        let rows = self.gain.chunks_exact(self.columns.max(1));
        let rows = rows.zip(self.spikes.chunks_exact(self.columns.max(1)));
        for ((gain, spikes), weight) in rows.zip(weights) {
            for ((sum, &gain), &spikes) in sums.iter_mut().zip(gain).zip(spikes) {
                sum.0 += weight * gain;
                sum.1 += weight * spikes;
            }
        }
        let bits = |(gain, spikes): (f64, f64)| (spikes > 0.0).then(|| gain / (spikes * std::f64::consts::LN_2));
        sums.into_iter().map(bits).collect()
    }

    fn figures(&self, resamples: &Resamples) -> Vec<Bits> {
        let values = self.bits(std::iter::repeat(1.0));
        let intervals = resamples.intervals95(self.columns, |weights| self.bits(weights.iter().copied()));
        values
            .into_iter()
            .zip(intervals)
            .map(|(value, ci95)| Bits { value, ci95 })
            .collect()
    }
}

impl Gains {
    /// Compares a model's predictions with what was observed, window by window.
    pub fn new(observed: &Observed, predictions: &Predictions) -> Self {
        assert_eq!(observed.counts.len(), predictions.log_rates.len(), "the same windows");
        let (windows, bins, units) = (observed.windows(), observed.bins(), observed.units());
        let mut gains = Gains {
            by_bin: Table::zeros(windows, bins),
            by_unit: Table::zeros(windows, units),
        };
        let rows = observed.counts.chunks_exact(units.max(1));
        let rows = rows.zip(predictions.log_rates.chunks_exact(units.max(1)));
        for (row, (counts, log_rates)) in rows.enumerate() {
            let (window, bin) = (row / bins, row % bins);
            for (unit, (&count, &log_rate)) in counts.iter().zip(log_rates).enumerate() {
                let count = f64::from(count);
                let null = negative_log_likelihood(observed.null_log_rates[unit], count);
                let gain = null - negative_log_likelihood(f64::from(log_rate), count);
                gains.by_bin.add(window, bin, gain, count);
                gains.by_unit.add(window, unit, gain, count);
            }
        }
        gains
    }

    /// A weighted sum of what models gained on the same windows; spikes are those of each.
    pub fn sum(terms: &[(f64, &Gains)]) -> Gains {
        let mut sum = terms[0].1.clone();
        for (table, of) in [
            (&mut sum.by_bin, (|gains: &Gains| &gains.by_bin) as fn(&Gains) -> &Table),
            (&mut sum.by_unit, |gains: &Gains| &gains.by_unit),
        ] {
            table.gain.fill(0.0);
            for (weight, gains) in terms {
                let term = table.gain.iter_mut().zip(&of(gains).gain);
                term.for_each(|(sum, gain)| *sum += weight * gain);
            }
        }
        sum
    }

    /// What was gained in some of the windows, `[W]`; the others count nothing.
    pub fn of_windows(&self, windows: &[bool]) -> Gains {
        let mut part = self.clone();
        for table in [&mut part.by_bin, &mut part.by_unit] {
            let columns = table.columns.max(1);
            for values in [&mut table.gain, &mut table.spikes] {
                let left_out = values
                    .chunks_exact_mut(columns)
                    .zip(windows)
                    .filter(|(_, &inside)| !inside);
                left_out.for_each(|(row, _)| row.fill(0.0));
            }
        }
        part
    }

    /// How much more than `other` this model gained on the same windows, in bits per spike over the horizon. The interval
    /// is of the difference: both models are resampled together.
    pub fn over(&self, other: &Gains, resamples: &Resamples) -> Bits {
        let mut difference = self.by_bin.cumulative();
        let other = other.by_bin.cumulative();
        difference.gain.iter_mut().zip(&other.gain).for_each(|(a, b)| *a -= b);
        last(difference.figures(resamples))
    }

    /// All breakdowns, with intervals from `resamples`.
    pub fn figures(&self, resamples: &Resamples) -> BitsFigures {
        let by_horizon = self.by_bin.cumulative().figures(resamples);
        BitsFigures {
            overall: last(by_horizon.clone()),
            by_bin: self.by_bin.figures(resamples),
            by_horizon,
            by_unit: self.by_unit.figures(resamples),
        }
    }
}

fn last(figures: Vec<Bits>) -> Bits {
    let none = Bits {
        value: None,
        ci95: None,
    };
    figures.last().copied().unwrap_or(none)
}

#[cfg(test)]
mod tests {
    use super::super::tests::{observed, predictions};
    use super::*;
    use std::f64::consts::LN_2;

    #[test]
    fn null_rates_give_zero_everywhere() {
        let null = [0.3f64.ln(), -4.0];
        let observed = observed(2, &[0.0, 1.0, 3.0, 0.0, 2.0, 2.0, 1.0, 0.0], &null);
        let rates: Vec<f32> = (0..8).map(|i| null[i % 2] as f32).collect();
        let figures = Gains::new(&observed, &predictions(&observed, &rates)).figures(&Resamples::new(2, 200, 0));
        let all = [
            vec![figures.overall],
            figures.by_bin,
            figures.by_horizon,
            figures.by_unit,
        ]
        .concat();
        assert_eq!(all.len(), 1 + 2 + 2 + 2);
        for bits in all {
            assert!(bits.value.unwrap().abs() < 1e-6, "{bits:?}");
            assert!(bits.ci95.unwrap().iter().all(|end| end.abs() < 1e-6), "{bits:?}");
        }
    }

    #[test]
    fn breakdowns_by_hand() {
        // Two windows, two bins, two units; the null model expects 1/2 of every unit. The model expects 1 of unit 0 in
        // bin 0, and what the null model does elsewhere. So a spike there is worth ln 2 nats, less 1/2 for the rate.
        let null = [0.5f64.ln(); 2];
        let counts = [1.0, 0.0, 0.0, 1.0, 1.0, 0.0, 1.0, 1.0];
        let observed = observed(2, &counts, &null);
        let half = 0.5f32.ln();
        let rates = [0.0, half, half, half, 0.0, half, half, half];
        let gains = Gains::new(&observed, &predictions(&observed, &rates));
        let figures = gains.figures(&Resamples::new(2, 0, 0));
        let each = LN_2 - 0.5;
        let close = |bits: Bits, expected: f64| {
            assert!(
                (bits.value.unwrap() - expected).abs() < 1e-6,
                "{bits:?} and not {expected}"
            );
        };
        close(figures.by_bin[0], 2.0 * each / (2.0 * LN_2));
        close(figures.by_bin[1], 0.0);
        close(figures.by_horizon[0], 2.0 * each / (2.0 * LN_2));
        close(figures.by_horizon[1], 2.0 * each / (5.0 * LN_2));
        close(figures.overall, 2.0 * each / (5.0 * LN_2));
        close(figures.by_unit[0], 2.0 * each / (3.0 * LN_2));
        close(figures.by_unit[1], 0.0);
        assert_eq!(figures.overall.ci95, None);

        let nothing = Gains::new(&observed, &predictions(&observed, &[half; 8]));
        close(
            gains.over(&nothing, &Resamples::new(2, 0, 0)),
            2.0 * each / (5.0 * LN_2),
        );
        close(
            nothing.over(&gains, &Resamples::new(2, 0, 0)),
            -2.0 * each / (5.0 * LN_2),
        );
    }

    #[test]
    fn without_a_spike_there_is_no_figure() {
        let observed = observed(1, &[0.0, 1.0, 0.0, 2.0], &[-1.0, -1.0]);
        let figures = Gains::new(&observed, &predictions(&observed, &[-1.0; 4])).figures(&Resamples::new(2, 50, 0));
        assert_eq!(figures.by_unit[0].value, None);
        assert_eq!(figures.by_unit[0].ci95, None);
        assert!(figures.by_unit[1].ci95.is_some());
    }
}
