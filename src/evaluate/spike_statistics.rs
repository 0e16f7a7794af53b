//! What spike trains are like, and how far two of them are apart: rates, Fano factors, correlations of counts between units,
//! intervals between spikes, and the synchrony of the population.
//!
//! Counts are looked at in single bins and in whole windows (T bins), where slower variation shows. A Poisson process with
//! given rates has, beyond what its rates vary, a Fano factor of 1, no correlations, no refractory period and no bursts:
//! where the observed trains differ in these, drawing counts cannot show it, however good the rates are.

use serde::Serialize;

use super::spike_trains::{SpikeTrains, Stretches};

/// Intervals that a unit needs before its distribution is looked at.
const LEAST_INTERVALS: usize = 20;

/// Statistics of trains of N units.
#[derive(Debug, Clone, PartialEq)]
pub struct TrainStatistics {
    /// Spikes a second, `[N]`.
    pub rate_hz: Vec<f64>,
    /// Of the counts in bins.
    pub bin: CountStatistics,
    /// Of the counts in windows.
    pub window: CountStatistics,
    /// Intervals between a unit's spikes, ns, ascending, `[N][…]`.
    pub intervals_ns: Vec<Vec<i64>>,
    /// Standard deviation over mean of these, `[N]`; NaN of fewer than 20.
    pub interval_cv: Vec<f64>,
}

/// Statistics of counts `[rows, N]`.
#[derive(Debug, Clone, PartialEq)]
pub struct CountStatistics {
    /// Variance over mean of each unit's counts, `[N]`; NaN of a silent unit.
    pub fano: Vec<f64>,
    /// Pearson's correlation of counts, `[N, N]`; NaN where a unit's do not vary.
    pub correlations: Vec<f64>,
    /// Sum over all units in each row, `[rows]`.
    pub population: Vec<u32>,
    /// Variance of that sum over the sum of the units' variances: 1 where units vary independently; NaN where none varies.
    pub synchrony: f64,
}

impl CountStatistics {
    /// Of counts `[rows, N]`.
    pub fn new(counts: &[u32], units: usize) -> Self {
        let n = counts.len() as f64 / units.max(1) as f64;
        let rows = counts.chunks_exact(units.max(1));
        let mut mean = vec![0.0; units];
        for row in rows.clone() {
            mean.iter_mut().zip(row).for_each(|(sum, &x)| *sum += f64::from(x) / n);
        }
        let mut covariance = vec![0.0; units * units];
        let mut centred = vec![0.0; units];
        for row in rows.clone() {
            let pairs = centred.iter_mut().zip(row).zip(&mean);
            pairs.for_each(|((centred, &x), mean)| *centred = f64::from(x) - mean);
            for (i, sums) in covariance.chunks_exact_mut(units.max(1)).enumerate() {
                let (x, from_here) = (centred[i] / n, &centred[i..]);
                sums[i..].iter_mut().zip(from_here).for_each(|(sum, y)| *sum += x * y);
            }
        }
        let variance: Vec<f64> = (0..units).map(|i| covariance[i * units + i]).collect();
        let mut correlations = vec![1.0; units * units];
        for i in 0..units {
            for j in i..units {
                let correlation = covariance[i * units + j] / (variance[i] * variance[j]).sqrt();
                correlations[i * units + j] = correlation;
                correlations[j * units + i] = correlation;
            }
        }
        let population: Vec<u32> = rows.map(|row| row.iter().sum()).collect();
        let sums: Vec<f64> = population.iter().map(|&sum| f64::from(sum)).collect();
        CountStatistics {
            fano: variance
                .iter()
                .zip(&mean)
                .map(|(variance, mean)| variance / mean)
                .collect(),
            correlations,
            synchrony: moments(&sums).1 / variance.iter().sum::<f64>(),
            population,
        }
    }

    /// Correlations of different units, each pair once.
    pub fn pairs(&self) -> impl Iterator<Item = f64> + '_ {
        let units = self.fano.len();
        (0..units).flat_map(move |i| (i + 1..units).map(move |j| self.correlations[i * units + j]))
    }
}

impl TrainStatistics {
    /// Of trains in these stretches.
    pub fn new(stretches: &Stretches, trains: &SpikeTrains) -> Self {
        let units = trains.units;
        let seconds = stretches.bins() as f64 * stretches.bin_ns as f64 * 1e-9;
        let mut rate_hz = vec![0.0; units];
        for &unit in &trains.spike_units {
            rate_hz[unit as usize] += 1.0 / seconds;
        }
        let windows = trains.counts.chunks_exact((units * stretches.window_bins).max(1));
        let in_windows: Vec<u32> = windows
            .flat_map(|window| (0..units).map(move |unit| window[unit..].iter().step_by(units).sum()))
            .collect();
        let intervals_ns = trains.intervals(stretches);
        let cv = |intervals: &Vec<i64>| {
            let values: Vec<f64> = intervals.iter().map(|&interval| interval as f64).collect();
            let (mean, variance) = moments(&values);
            if values.len() < LEAST_INTERVALS {
                f64::NAN
            } else {
                variance.sqrt() / mean
            }
        };
        TrainStatistics {
            rate_hz,
            bin: CountStatistics::new(&trains.counts, units),
            window: CountStatistics::new(&in_windows, units),
            interval_cv: intervals_ns.iter().map(cv).collect(),
            intervals_ns,
        }
    }

    /// Largest difference between the cumulated distributions of each unit's intervals and those of `other`, `[N]`; NaN where
    /// one side has fewer than 20.
    pub fn interval_distances(&self, other: &Self) -> Vec<f64> {
        let pairs = self.intervals_ns.iter().zip(&other.intervals_ns);
        pairs
            .map(|(own, other)| {
                if own.len().min(other.len()) < LEAST_INTERVALS {
                    f64::NAN
                } else {
                    kolmogorov_smirnov(own, other)
                }
            })
            .collect()
    }
}

/// Middle and quarters of values over units or pairs, of those that are defined.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Spread {
    /// How many are defined.
    pub n: usize,
    /// Mean.
    pub mean: f64,
    /// First quarter, median, third quarter.
    pub quartiles: [f64; 3],
}

impl Spread {
    /// Nothing where no value is defined.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut values: Vec<f64> = values.into_iter().filter(|x| x.is_finite()).collect();
        values.sort_by(f64::total_cmp);
        let last = values.len().checked_sub(1)?;
        let at = |q: f64| values[(last as f64 * q).round() as usize];
        Some(Spread {
            n: values.len(),
            mean: moments(&values).0,
            quartiles: [at(0.25), at(0.5), at(0.75)],
        })
    }
}

/// What trains are like, over all units.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TrainSummary {
    /// Spikes a second of the units.
    pub rate_hz: Option<Spread>,
    /// Fano factors of counts in bins and in windows.
    pub fano_bin: Option<Spread>,
    /// See `fano_bin`.
    pub fano_window: Option<Spread>,
    /// Correlations between units in bins and in windows.
    pub correlation_bin: Option<Spread>,
    /// See `correlation_bin`.
    pub correlation_window: Option<Spread>,
    /// Standard deviation over mean of intervals.
    pub interval_cv: Option<Spread>,
    /// Variance of the summed count over the sum of variances, in bins and in windows.
    pub synchrony_bin: Option<f64>,
    /// See `synchrony_bin`.
    pub synchrony_window: Option<f64>,
}

impl From<&TrainStatistics> for TrainSummary {
    fn from(of: &TrainStatistics) -> Self {
        let finite = |x: f64| Some(x).filter(|x| x.is_finite());
        TrainSummary {
            rate_hz: Spread::of(of.rate_hz.iter().copied()),
            fano_bin: Spread::of(of.bin.fano.iter().copied()),
            fano_window: Spread::of(of.window.fano.iter().copied()),
            correlation_bin: Spread::of(of.bin.pairs()),
            correlation_window: Spread::of(of.window.pairs()),
            interval_cv: Spread::of(of.interval_cv.iter().copied()),
            synchrony_bin: finite(of.bin.synchrony),
            synchrony_window: finite(of.window.synchrony),
        }
    }
}

/// How far trains are from others.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct TrainDifference {
    /// Correlation of the units' rates.
    pub rate: Option<f64>,
    /// Correlation of the units' Fano factors in windows.
    pub fano_window: Option<f64>,
    /// Correlation, over pairs of units, of the correlations between their counts: in bins and in windows.
    pub correlation_bin: Option<f64>,
    /// See `correlation_bin`.
    pub correlation_window: Option<f64>,
    /// Kolmogorov-Smirnov distances of the units' intervals.
    pub interval_ks: Option<Spread>,
    /// Variance of the summed count in bins over the others'.
    pub population_variance_ratio: Option<f64>,
    /// Total variation between the distributions of the summed count in bins: 0 the same, 1 without overlap.
    pub population_distance: Option<f64>,
}

impl TrainDifference {
    /// From `a` to `b`, of the same units.
    pub fn new(a: &TrainStatistics, b: &TrainStatistics) -> Self {
        let finite = |x: f64| Some(x).filter(|x| x.is_finite());
        let variance = |of: &TrainStatistics| {
            let sums: Vec<f64> = of.bin.population.iter().map(|&sum| f64::from(sum)).collect();
            moments(&sums).1
        };
        TrainDifference {
            rate: correlation(a.rate_hz.iter().copied().zip(b.rate_hz.iter().copied())),
            fano_window: correlation(a.window.fano.iter().copied().zip(b.window.fano.iter().copied())),
            correlation_bin: correlation(a.bin.pairs().zip(b.bin.pairs())),
            correlation_window: correlation(a.window.pairs().zip(b.window.pairs())),
            interval_ks: Spread::of(a.interval_distances(b)),
            population_variance_ratio: finite(variance(a) / variance(b)),
            population_distance: finite(total_variation(&a.bin.population, &b.bin.population)),
        }
    }
}

/// Mean and variance.
fn moments(values: &[f64]) -> (f64, f64) {
    let n = values.len() as f64;
    let mean = values.iter().sum::<f64>() / n;
    (mean, values.iter().map(|x| (x - mean).powi(2)).sum::<f64>() / n)
}

/// Pearson's correlation of the pairs that are defined; nothing where a side does not vary.
fn correlation(pairs: impl Iterator<Item = (f64, f64)>) -> Option<f64> {
    let (x, y): (Vec<f64>, Vec<f64>) = pairs.filter(|(x, y)| x.is_finite() && y.is_finite()).unzip();
    let ((mean_x, variance_x), (mean_y, variance_y)) = (moments(&x), moments(&y));
    let products = x.iter().zip(&y).map(|(x, y)| (x - mean_x) * (y - mean_y));
    let correlation = products.sum::<f64>() / x.len() as f64 / (variance_x * variance_y).sqrt();
    Some(correlation).filter(|correlation| correlation.is_finite())
}

/// Largest difference of the cumulated distributions of two ascending samples.
fn kolmogorov_smirnov(a: &[i64], b: &[i64]) -> f64 {
    let share = |of: &[i64], x: i64| of.partition_point(|&y| y <= x) as f64 / of.len() as f64;
    let steps = a.iter().chain(b);
    steps.map(|&x| (share(a, x) - share(b, x)).abs()).fold(0.0, f64::max)
}

/// Half the sum of differences between the frequencies of every value.
fn total_variation(a: &[u32], b: &[u32]) -> f64 {
    let most = a.iter().chain(b).max().map_or(0, |&most| most as usize);
    let frequencies = |of: &[u32]| {
        let mut frequencies = vec![0.0; most + 1];
        of.iter()
            .for_each(|&x| frequencies[x as usize] += 1.0 / of.len() as f64);
        frequencies
    };
    let (a, b) = (frequencies(a), frequencies(b));
    0.5 * a.iter().zip(&b).map(|(a, b)| (a - b).abs()).sum::<f64>()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::window::{Spikes, WindowShape};

    const MS: i64 = 1_000_000;
    const SHAPE: WindowShape = WindowShape {
        history_ns: 0,
        bin_ns: 20 * MS,
        bins: 2,
        horizon_ns: 40 * MS,
    };

    fn close(found: f64, expected: f64) {
        assert!((found - expected).abs() < 1e-12, "{found} and not {expected}");
    }

    #[test]
    fn counts_by_hand() {
        // Four bins, three units: 0 2 1 1 | 1 3 2 2 | silent. Means 1 and 2, variances ½ and ½, the two rise together.
        let counts = [0, 1, 0, 2, 3, 0, 1, 2, 0, 1, 2, 0];
        let of = CountStatistics::new(&counts, 3);
        close(of.fano[0], 0.5);
        close(of.fano[1], 0.25);
        assert!(of.fano[2].is_nan());
        let pairs: Vec<f64> = of.pairs().collect();
        close(pairs[0], 1.0);
        assert!(pairs[1].is_nan() && pairs[2].is_nan());
        assert_eq!(of.population, [1, 5, 3, 3]);
        // Variance 2 over ½ + ½.
        close(of.synchrony, 2.0);
    }

    #[test]
    fn trains_by_hand() {
        // One unit, spikes 10 ms apart and then 30 ms: 21 intervals of 10, 1 of 30.
        let mut times_ns: Vec<i64> = (0..22).map(|spike| 10 * MS * spike).collect();
        times_ns.push(240 * MS);
        let units = vec![0; times_ns.len()];
        let spikes = Spikes {
            times_ns: &times_ns,
            units: &units,
        };
        let histories: Vec<i64> = (0..7).map(|window| 40 * MS * window).collect();
        let stretches = Stretches::new(SHAPE, &histories).unwrap();
        let trains = SpikeTrains::observed(&stretches, 1, spikes);
        let of = TrainStatistics::new(&stretches, &trains);
        // 23 spikes in 0.28 s.
        close(of.rate_hz[0], 23.0 / 0.28);
        let mean = 240.0 / 22.0;
        let variance = (21.0 * (10.0f64 - mean).powi(2) + (30.0 - mean).powi(2)) / 22.0;
        close(of.interval_cv[0], variance.sqrt() / mean);
        // Bins hold 2 each up to 220 ms, then 0, 1, 0; windows 4, 4, 4, 4, 4, 2, 1.
        assert_eq!(of.bin.population, [2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 0, 1, 0]);
        assert_eq!(of.window.population, [4, 4, 4, 4, 4, 2, 1]);
        let sum = TrainSummary::from(&of);
        assert_eq!(sum.correlation_bin, None);
        close(sum.synchrony_window.unwrap(), 1.0);
    }

    #[test]
    fn distances_by_hand() {
        // Of 1 2 3 4 and 3 4 5 6 half lies below 3 on one side, nothing on the other.
        close(kolmogorov_smirnov(&[1, 2, 3, 4], &[3, 4, 5, 6]), 0.5);
        close(kolmogorov_smirnov(&[1, 1, 2], &[1, 1, 2]), 0.0);
        close(total_variation(&[0, 1, 1, 2], &[1, 1, 3, 3]), 0.5);
        close(
            correlation([(1.0, 2.0), (2.0, 4.0), (f64::NAN, 1.0), (3.0, 6.0)].into_iter()).unwrap(),
            1.0,
        );
        assert_eq!(correlation([(1.0, 2.0), (1.0, 4.0)].into_iter()), None);
        let spread = Spread::of([4.0, f64::NAN, 1.0, 2.0, 3.0, 10.0]).unwrap();
        assert_eq!((spread.n, spread.mean, spread.quartiles), (5, 4.0, [2.0, 3.0, 4.0]));
    }

    /// Two groups of five units whose rates swing together within the group, one group against the other: what a draw of
    /// these rates must show follows from the rates alone.
    #[test]
    fn a_planted_population_shows_the_statistics_of_its_rates() {
        const UNITS: usize = 10;
        const WINDOWS: i64 = 10_000;
        let histories: Vec<i64> = (0..WINDOWS).map(|window| 40 * MS * window).collect();
        let stretches = Stretches::new(SHAPE, &histories).unwrap();
        // Mean 1, amplitude ½; the last unit of each group is constant.
        let swing = |bin: usize, unit: usize| {
            let phase = bin as f64 / 50.0 * std::f64::consts::TAU;
            let sign = if unit < 5 { 1.0 } else { -1.0 };
            if unit % 5 == 4 {
                1.0
            } else {
                1.0 + 0.5 * sign * phase.sin()
            }
        };
        let bins = stretches.bins();
        let expected: Vec<f32> = (0..bins * UNITS).map(|i| swing(i / UNITS, i % UNITS) as f32).collect();
        let trains = SpikeTrains::drawn(&stretches, UNITS, &expected, 5, 0);
        let of = TrainStatistics::new(&stretches, &trains);
        // Standard errors: about 1/√20000 = 0.007 of rates a bin, 0.01 of Fano factors, 0.007 of correlations.
        for unit in 0..UNITS {
            let varies = unit % 5 != 4;
            assert!((of.rate_hz[unit] - 50.0).abs() < 1.5, "{:?}", of.rate_hz);
            // A rate of mean 1 and variance 1/8 makes counts of variance 9/8.
            let fano = if varies { 1.125 } else { 1.0 };
            assert!((of.bin.fano[unit] - fano).abs() < 0.045, "{:?}", of.bin.fano);
            for other in 0..unit {
                let together = varies && other % 5 != 4;
                let sign = if (unit < 5) == (other < 5) { 1.0 } else { -1.0 };
                // Covariance 1/8 over variance 9/8.
                let correlation = if together { sign / 9.0 } else { 0.0 };
                let found = of.bin.correlations[unit * UNITS + other];
                assert!(
                    (found - correlation).abs() < 0.03,
                    "{unit} {other}: {found} and not {correlation}"
                );
            }
        }
        // A Poisson process of a constant rate has exponential intervals but for the even spread within bins: CV near 1.
        assert!((of.interval_cv[4] - 1.0).abs() < 0.03, "{}", of.interval_cv[4]);
        // The groups cancel: the sum's rate is constant, and eight units lose 1/8 each of their variance 9/8.
        assert!((of.bin.synchrony - 10.0 / 11.0).abs() < 0.04, "{}", of.bin.synchrony);
        let again = TrainStatistics::new(&stretches, &SpikeTrains::drawn(&stretches, UNITS, &expected, 5, 1));
        let difference = TrainDifference::new(&of, &again);
        assert!(difference.correlation_bin.unwrap() > 0.9, "{difference:?}");
        // For two samples of 20 000 the distance exceeds 1.95 √(2/20000) = 0.0195 once in a thousand.
        assert!(difference.interval_ks.unwrap().quartiles[2] < 0.0195, "{difference:?}");
        assert!(
            (difference.population_variance_ratio.unwrap() - 1.0).abs() < 0.06,
            "{difference:?}"
        );
        assert!(difference.population_distance.unwrap() < 0.05, "{difference:?}");
    }
}
