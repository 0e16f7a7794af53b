//! What `eval --sample` prints: drawn trains beside the observed ones.

use super::eval_export::SampleReport;
use super::eval_report::{number, print_table};
use crate::evaluate::spike_statistics::{Spread, TrainDifference};

fn row<const N: usize>(name: &str, cells: [Option<f64>; N]) -> Vec<String> {
    let cells = cells.map(|value| value.map_or("–".to_string(), |value| number(Some(value), 3)));
    std::iter::once(name.to_string()).chain(cells).collect()
}

fn title(cells: &[&str]) -> Vec<String> {
    cells.iter().map(|cell| cell.to_string()).collect()
}

fn mean(spread: Option<Spread>) -> Option<f64> {
    spread.map(|spread| spread.mean)
}

fn median(spread: Option<Spread>) -> Option<f64> {
    spread.map(|spread| spread.quartiles[1])
}

/// Two tables: what the trains are like, and how far the drawn are from the observed, beside how far two draws are apart.
pub fn print_samples(samples: &SampleReport) {
    let (observed, sampled, expected) = (&samples.observed, &samples.sampled, &samples.expected);
    say!(
        "{} bins drawn with seed {}, stretches without a gap: {}; medians over units where not said otherwise",
        samples.bins,
        samples.seed,
        samples.stretches
    );
    print_table(&[
        title(&["", "observed", "sampled", "expected"]),
        row("rate, Hz, mean", [mean(observed.rate_hz), mean(sampled.rate_hz), None]),
        row(
            "Fano factor in bins",
            [observed.fano_bin, sampled.fano_bin, expected.fano_bin].map(median),
        ),
        row(
            "Fano factor in windows",
            [observed.fano_window, sampled.fano_window, expected.fano_window].map(median),
        ),
        row(
            "correlation in bins, mean of pairs",
            [
                observed.correlation_bin,
                sampled.correlation_bin,
                expected.correlation_bin,
            ]
            .map(mean),
        ),
        row(
            "correlation in windows, mean of pairs",
            [
                observed.correlation_window,
                sampled.correlation_window,
                expected.correlation_window,
            ]
            .map(mean),
        ),
        row(
            "CV of intervals",
            [median(observed.interval_cv), median(sampled.interval_cv), None],
        ),
        row(
            "synchrony in bins",
            [observed.synchrony_bin, sampled.synchrony_bin, expected.synchrony_bin],
        ),
        row(
            "synchrony in windows",
            [
                observed.synchrony_window,
                sampled.synchrony_window,
                expected.synchrony_window,
            ],
        ),
    ]);
    say!("");
    let (to_observed, to_sampled) = (&samples.sampled_to_observed, &samples.sampled_to_sampled);
    let apart = |name: &str, of: fn(&TrainDifference) -> Option<f64>, expected: Option<f64>| {
        row(name, [of(to_observed), of(to_sampled), expected])
    };
    print_table(&[
        title(&["", "sampled, observed", "sampled twice", "expected, observed"]),
        apart("correlation of rates", |of| of.rate, None),
        apart("of Fano factors in windows", |of| of.fano_window, None),
        apart(
            "of pairs' correlations in bins",
            |of| of.correlation_bin,
            expected.to_observed_bin,
        ),
        apart(
            "of pairs' correlations in windows",
            |of| of.correlation_window,
            expected.to_observed_window,
        ),
        apart("KS distance of intervals", |of| median(of.interval_ks), None),
        apart(
            "variance of the summed count, ratio",
            |of| of.population_variance_ratio,
            None,
        ),
        apart("distance of its distributions", |of| of.population_distance, None),
    ]);
}
