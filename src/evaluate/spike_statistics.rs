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
    /// Sum over all units in each row, `[rows]`; nothing where counts are only expected.
    pub population: Vec<u32>,
    /// Variance of that sum over the sum of the units' variances: 1 where units vary independently; NaN where none varies.
    pub synchrony: f64,
}

impl CountStatistics {
    /// Of counts `[rows, N]`.
    pub fn new(counts: &[u32], units: usize) -> Self {
        let (mean, covariance) = mean_and_covariance(counts, units);
        let rows = counts.chunks_exact(units.max(1));
        let population: Vec<u32> = rows.map(|row| row.iter().sum()).collect();
        Self::of_moments(&mean, &covariance, population)
    }

    /// What counts that are drawn from `expected` ones `[rows, N]` would show if they were without end: those of the rates,
    /// with a Poisson variance of the mean added to each unit's.
    pub fn expected(expected: &[f32], units: usize) -> Self {
        let (mean, mut covariance) = mean_and_covariance(expected, units);
        for (unit, mean) in mean.iter().enumerate() {
            covariance[unit * (units + 1)] += mean;
        }
        Self::of_moments(&mean, &covariance, Vec::new())
    }

    fn of_moments(mean: &[f64], covariance: &[f64], population: Vec<u32>) -> Self {
        let units = mean.len();
        let variance: Vec<f64> = (0..units).map(|i| covariance[i * units + i]).collect();
        let mut correlations = vec![1.0; units * units];
        for i in 0..units {
            for j in 0..units {
                correlations[i * units + j] = covariance[i * units + j] / (variance[i] * variance[j]).sqrt();
            }
        }
        CountStatistics {
            fano: variance
                .iter()
                .zip(mean)
                .map(|(variance, mean)| variance / mean)
                .collect(),
            correlations,
            synchrony: covariance.iter().sum::<f64>() / variance.iter().sum::<f64>(),
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
        let in_windows: Vec<u32> = sums_of_windows(&trains.counts, units, stretches.window_bins);
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

/// What counts drawn without end from the same rates would show: the rates' own part, without the chance of one draw.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ExpectedSummary {
    /// Fano factors of counts in bins and in windows.
    pub fano_bin: Option<Spread>,
    /// See `fano_bin`.
    pub fano_window: Option<Spread>,
    /// Correlations between units in bins and in windows.
    pub correlation_bin: Option<Spread>,
    /// See `correlation_bin`.
    pub correlation_window: Option<Spread>,
    /// Synchrony in bins and in windows.
    pub synchrony_bin: Option<f64>,
    /// See `synchrony_bin`.
    pub synchrony_window: Option<f64>,
    /// Correlation, over pairs of units, of the correlations with the observed ones: in bins and in windows.
    pub to_observed_bin: Option<f64>,
    /// See `to_observed_bin`.
    pub to_observed_window: Option<f64>,
}

impl ExpectedSummary {
    /// Of expected counts `[B, N]`, beside what was observed in the same bins.
    pub fn new(stretches: &Stretches, expected: &[f32], observed: &TrainStatistics) -> Self {
        let units = observed.rate_hz.len();
        let bin = CountStatistics::expected(expected, units);
        let window = CountStatistics::expected(&sums_of_windows(expected, units, stretches.window_bins), units);
        let finite = |x: f64| Some(x).filter(|x| x.is_finite());
        ExpectedSummary {
            fano_bin: Spread::of(bin.fano.iter().copied()),
            fano_window: Spread::of(window.fano.iter().copied()),
            correlation_bin: Spread::of(bin.pairs()),
            correlation_window: Spread::of(window.pairs()),
            synchrony_bin: finite(bin.synchrony),
            synchrony_window: finite(window.synchrony),
            to_observed_bin: agreement(&bin, &observed.bin),
            to_observed_window: agreement(&window, &observed.window),
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
            correlation_bin: agreement(&a.bin, &b.bin),
            correlation_window: agreement(&a.window, &b.window),
            interval_ks: Spread::of(a.interval_distances(b)),
            population_variance_ratio: finite(variance(a) / variance(b)),
            population_distance: finite(total_variation(&a.bin.population, &b.bin.population)),
        }
    }
}

/// `[B, N]` summed over the bins of each window: `[W, N]`.
pub fn sums_of_windows<T: Copy + std::iter::Sum<T>>(values: &[T], units: usize, bins: usize) -> Vec<T> {
    let windows = values.chunks_exact((units * bins).max(1));
    windows
        .flat_map(|window| (0..units).map(move |unit| window[unit..].iter().step_by(units).copied().sum()))
        .collect()
}

/// Mean `[N]` and covariance `[N, N]` of rows of N.
fn mean_and_covariance<T: Copy + Into<f64>>(values: &[T], units: usize) -> (Vec<f64>, Vec<f64>) {
    let rows = values.chunks_exact(units.max(1));
    let n = rows.len() as f64;
    let mut mean = vec![0.0; units];
    for row in rows.clone() {
        mean.iter_mut().zip(row).for_each(|(sum, &x)| *sum += x.into() / n);
    }
    let mut covariance = vec![0.0; units * units];
    let mut centred = vec![0.0; units];
    for row in rows {
        let pairs = centred.iter_mut().zip(row).zip(&mean);
        pairs.for_each(|((centred, &x), mean)| *centred = x.into() - mean);
        for (i, sums) in covariance.chunks_exact_mut(units.max(1)).enumerate() {
            let (x, from_here) = (centred[i] / n, &centred[i..]);
            sums[i..].iter_mut().zip(from_here).for_each(|(sum, y)| *sum += x * y);
        }
    }
    for i in 0..units {
        for j in 0..i {
            covariance[i * units + j] = covariance[j * units + i];
        }
    }
    (mean, covariance)
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

/// Correlation, over pairs of units, of two matrices of correlations between the same units.
pub fn agreement(a: &CountStatistics, b: &CountStatistics) -> Option<f64> {
    correlation(a.pairs().zip(b.pairs()))
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
mod tests;
