//! Histograms of latency.

use hdrhistogram::Histogram;
use serde::Serialize;

/// Longest time that a histogram tells apart, ns.
const LONGEST_NS: u64 = 60_000_000_000;

/// Times in ns, to three significant digits, up to a minute (longer ones count as a minute). Recording never allocates.
#[derive(Clone, Debug)]
pub struct Latency(Histogram<u64>);

impl Default for Latency {
    fn default() -> Self {
        // The bounds and digits are constants that the constructor accepts.
        Self(Histogram::new_with_bounds(1, LONGEST_NS, 3).expect("1 ns to 60 s at 3 digits is a valid histogram"))
    }
}

/// Percentiles of a [`Latency`], in µs.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct LatencySummary {
    /// Times recorded.
    pub count: u64,
    /// Median.
    pub p50_us: f64,
    /// 99th percentile.
    pub p99_us: f64,
    /// 99.9th percentile.
    pub p999_us: f64,
    /// Longest.
    pub max_us: f64,
}

impl Latency {
    /// Adds one time; one before its cause (clocks read on two cores) counts as 0.
    pub fn record(&mut self, ns: i64) {
        self.0.saturating_record(ns.max(0) as u64);
    }

    /// A quantile in ns, 0 ≤ q ≤ 1; 0 while nothing is recorded.
    pub fn quantile_ns(&self, q: f64) -> u64 {
        self.0.value_at_quantile(q)
    }

    /// The percentiles.
    pub fn summary(&self) -> LatencySummary {
        let us = |q| self.quantile_ns(q) as f64 / 1e3;
        LatencySummary {
            count: self.0.len(),
            p50_us: us(0.5),
            p99_us: us(0.99),
            p999_us: us(0.999),
            max_us: self.0.max() as f64 / 1e3,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_those_of_the_recorded_times() {
        let mut latency = Latency::default();
        (1..=1000).for_each(|time| latency.record(time * 1_000));
        latency.record(i64::MAX);
        latency.record(-5);
        let summary = latency.summary();
        assert_eq!(summary.count, 1002);
        assert!((summary.p50_us - 500.0).abs() < 1.0, "{summary:?}");
        assert!((summary.p99_us - 991.0).abs() < 1.5, "{summary:?}");
        assert!((summary.max_us / 60e6 - 1.0).abs() < 1e-3, "{summary:?}");
    }
}
