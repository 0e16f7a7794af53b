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

#[test]
fn expected_counts_by_hand() {
    // Rates 1, 3 and 3, 1 in two bins: means 2, variances 1 + 2, covariance −1; in the one window nothing varies but the draws.
    let stretches = Stretches::new(SHAPE, &[0]).unwrap();
    let expected = [1.0, 3.0, 3.0, 1.0];
    let of = CountStatistics::expected(&expected, 2);
    close(of.fano[0], 1.5);
    close(of.pairs().next().unwrap(), -1.0 / 3.0);
    // 3 + 3 − 2 over 3 + 3.
    close(of.synchrony, 4.0 / 6.0);
    assert_eq!(sums_of_windows(&expected, 2, stretches.window_bins), [4.0, 4.0]);
    let observed = TrainStatistics::new(&stretches, &SpikeTrains::drawn(&stretches, 2, &expected, 1, 0));
    let summary = ExpectedSummary::new(&stretches, &expected, &observed);
    close(summary.fano_window.unwrap().mean, 1.0);
    close(summary.correlation_window.unwrap().mean, 0.0);
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
