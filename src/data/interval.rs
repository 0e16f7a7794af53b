//! Stretches of time.

use std::str::FromStr;

use super::DataError;

/// A stretch of time, `start_ns <= t < end_ns`, on the recording's device clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Interval {
    /// First nanosecond inside.
    pub start_ns: i64,
    /// First nanosecond after it.
    pub end_ns: i64,
}

impl Interval {
    /// Length in nanoseconds; zero for an inverted interval.
    pub fn duration_ns(&self) -> i64 {
        (self.end_ns - self.start_ns).max(0)
    }

    /// Whether one of these intervals, ascending, holds all of `start_ns <= t < end_ns`.
    pub fn any_holds(intervals: &[Self], start_ns: i64, end_ns: i64) -> bool {
        let before = intervals.partition_point(|interval| interval.start_ns <= start_ns);
        intervals[..before]
            .last()
            .is_some_and(|interval| end_ns <= interval.end_ns)
    }

    /// How much of this interval lies in `intervals`, which do not overlap, ns.
    pub fn part_in_ns(&self, intervals: &[Self]) -> i64 {
        let parts = intervals.iter().filter_map(|interval| interval.intersection(self));
        parts.map(|part| part.duration_ns()).sum()
    }

    /// Whether time `t_ns` lies inside.
    pub fn contains(&self, t_ns: i64) -> bool {
        (self.start_ns..self.end_ns).contains(&t_ns)
    }

    /// The part that both have in common, if any.
    pub fn intersection(&self, other: &Interval) -> Option<Interval> {
        let common = Interval {
            start_ns: self.start_ns.max(other.start_ns),
            end_ns: self.end_ns.min(other.end_ns),
        };
        (common.start_ns < common.end_ns).then_some(common)
    }
}

/// A part of a recording in time, as fractions of its duration: `0.8..1` is the last fifth.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Split {
    pub(super) from: f64,
    pub(super) to: f64,
}

impl Split {
    /// The whole recording.
    pub const ALL: Split = Split { from: 0.0, to: 1.0 };

    /// The part from fraction `from` to fraction `to` of the duration.
    ///
    /// # Errors
    /// Unless `0 <= from < to <= 1`.
    pub fn new(from: f64, to: f64) -> Result<Split, DataError> {
        if from >= 0.0 && from < to && to <= 1.0 {
            Ok(Split { from, to })
        } else {
            Err(DataError::Selection(format!(
                "a split needs 0 <= from < to <= 1, not {from}..{to}"
            )))
        }
    }
}

impl FromStr for Split {
    type Err = DataError;

    /// Reads `FROM..TO`, such as `0.8..1`.
    fn from_str(text: &str) -> Result<Split, DataError> {
        let malformed = || DataError::Selection(format!("{text:?} is not a split; write FROM..TO, such as 0.8..1"));
        let (from, to) = text.split_once("..").ok_or_else(malformed)?;
        Split::new(
            from.trim().parse().map_err(|_| malformed())?,
            to.trim().parse().map_err(|_| malformed())?,
        )
    }
}

impl std::fmt::Display for Split {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}..{}", self.from, self.to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn splits_are_read_and_bounded() {
        assert_eq!("0.8 .. 1".parse::<Split>().unwrap(), Split::new(0.8, 1.0).unwrap());
        assert_eq!(Split::new(0.25, 0.5).unwrap().to_string(), "0.25..0.5");
        for bad in ["1..0", "0.5", "a..b", "0..1.1", "nan..1", "-0.1..1"] {
            assert!(bad.parse::<Split>().is_err(), "{bad} was accepted");
        }
    }

    #[test]
    fn intersections_are_half_open() {
        let interval = |start_ns, end_ns| Interval { start_ns, end_ns };
        assert_eq!(interval(0, 5).intersection(&interval(3, 9)), Some(interval(3, 5)));
        assert_eq!(interval(0, 5).intersection(&interval(5, 9)), None);
        assert!(interval(0, 5).contains(0) && !interval(0, 5).contains(5));
    }
}
