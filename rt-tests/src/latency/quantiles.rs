//! Distributions of times: histograms of high dynamic range, what is left out of them, and where their extremes were.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// Times left out at the start and at the end of a measurement: caches, first pages and the way to the end are not what is
/// measured.
pub const TRIM: usize = 10;
/// Longest time that is told apart, ns.
const LONGEST_NS: u64 = 60_000_000_000;
/// Figures of a curve.
const CURVE: usize = 60;

/// A time and what it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extreme {
    /// Id: the index of the bin, or the number of the repetition.
    pub id: i64,
    /// The time, ns.
    pub ns: i64,
}

/// A distribution, in µs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Quantiles {
    /// Times in it.
    pub count: u64,
    /// Shortest.
    pub min_us: f64,
    /// Mean.
    pub mean_us: f64,
    /// Median.
    pub p50_us: f64,
    /// 90 % are not longer.
    pub p90_us: f64,
    /// 99 % are not longer.
    pub p99_us: f64,
    /// 99.9 % are not longer.
    pub p999_us: f64,
    /// Where the 99.9th percentile lies with 95 % confidence, by the times that are so many ranks from it.
    pub p999_between_us: (f64, f64),
    /// 99.99 % are not longer.
    pub p9999_us: f64,
    /// Longest.
    pub max_us: f64,
    /// The shortest, with its id.
    pub shortest: Option<Extreme>,
    /// The longest five, with their ids.
    pub longest: Vec<Extreme>,
    /// The curve: share of times that are not longer, and the time in µs.
    pub curve: Vec<(f64, f64)>,
}

/// The times of a measurement without its first and last [`TRIM`].
pub fn trimmed<T>(times: &[T]) -> &[T] {
    match times.len().checked_sub(2 * TRIM) {
        Some(left) => &times[TRIM..TRIM + left],
        None => &[],
    }
}

/// The times, µs, between which a quantile lies with 95 % confidence: the number of times below it is binomial, so that it is
/// 1.96 standard deviations of that away in rank. The longest time stands for those that there are too few times for.
fn between(sorted: &[Extreme], q: f64) -> (f64, f64) {
    let count = sorted.len() as f64;
    let (rank, apart) = (count * q, 1.96 * (count * q * (1.0 - q)).sqrt());
    let at = |rank: f64| {
        let index = (rank.max(0.0) as usize).min(sorted.len().saturating_sub(1));
        sorted.get(index).map_or(0.0, |extreme| extreme.ns.max(0) as f64 / 1e3)
    };
    (at((rank - apart).floor()), at((rank + apart).ceil()))
}

impl Quantiles {
    /// The distribution of these times, ns, with their ids. Nothing is left out here: see [`trimmed`]. A time below zero, of an
    /// effect that was there before its cause, counts as 0, and stands among the extremes as it is.
    pub fn of(times: &[(i64, i64)]) -> Self {
        // The bounds and digits are constants that the constructor accepts.
        let mut histogram = Histogram::<u64>::new_with_bounds(1, LONGEST_NS, 3).expect("1 ns to 60 s at 3 digits");
        for (_, ns) in times {
            histogram.saturating_record((*ns).max(0) as u64);
        }
        let us = |q: f64| histogram.value_at_quantile(q) as f64 / 1e3;
        let mut sorted: Vec<Extreme> = times.iter().map(|&(id, ns)| Extreme { id, ns }).collect();
        sorted.sort_by_key(|extreme| (extreme.ns, extreme.id));
        // From none to as many nines as there are times for.
        let nines = (times.len().max(1) as f64).log10();
        let shares = (0..=CURVE).map(|step| {
            let share = 1.0 - 10f64.powf(-nines * step as f64 / CURVE as f64);
            // Digits enough, and few enough to be read back as they are.
            (share * 1e9).round() / 1e9
        });
        Self {
            count: histogram.len(),
            min_us: if times.is_empty() {
                0.0
            } else {
                histogram.min() as f64 / 1e3
            },
            mean_us: histogram.mean().round() / 1e3,
            p50_us: us(0.5),
            p90_us: us(0.9),
            p99_us: us(0.99),
            p999_us: us(0.999),
            p999_between_us: between(&sorted, 0.999),
            p9999_us: us(0.9999),
            max_us: if times.is_empty() {
                0.0
            } else {
                histogram.max() as f64 / 1e3
            },
            shortest: sorted.first().copied(),
            longest: sorted.iter().rev().take(5).copied().collect(),
            curve: if times.is_empty() {
                Vec::new()
            } else {
                shares.map(|share| (share, us(share))).collect()
            },
        }
    }

    /// The same in words.
    pub fn line(&self) -> String {
        format!(
            "p50 {:.0} µs, p99 {:.0} µs, p99.9 {:.0} µs, max {:.0} µs ({} times)",
            self.p50_us, self.p99_us, self.p999_us, self.max_us, self.count
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_and_last_ten_are_left_out_and_no_others() {
        let times: Vec<i64> = (0..25).collect();
        assert_eq!(trimmed(&times), [10, 11, 12, 13, 14]);
        assert_eq!(trimmed(&times[..20]), [0i64; 0]);
        assert_eq!(trimmed(&times[..3]), [0i64; 0]);
    }

    #[test]
    fn quantiles_and_the_ids_of_the_extremes() {
        let mut times: Vec<(i64, i64)> = (1..=1_000).map(|number| (number, number * 1_000)).collect();
        times.push((77, 5_000_000));
        times.push((78, -20));
        let quantiles = Quantiles::of(&times);
        assert_eq!(quantiles.count, 1_002);
        assert!((quantiles.p50_us - 500.0).abs() <= 1.0, "{quantiles:?}");
        assert!((quantiles.p99_us - 991.0).abs() <= 1.5, "{quantiles:?}");
        assert!((quantiles.max_us - 5_000.0).abs() <= 5.0, "{quantiles:?}");
        assert_eq!(quantiles.p999_between_us, (999.0, 5_000.0));
        assert_eq!(quantiles.longest[0], Extreme { id: 77, ns: 5_000_000 });
        assert_eq!(quantiles.shortest, Some(Extreme { id: 78, ns: -20 }));
        let (last_share, last_us) = *quantiles.curve.last().unwrap();
        assert!(last_share > 0.999 && last_us >= 999.0, "{last_share} {last_us}");
    }

    #[test]
    fn nothing_measured_is_no_time() {
        let none = Quantiles::of(&[]);
        assert_eq!((none.count, none.p999_us, none.longest.len()), (0, 0.0, 0));
    }
}
