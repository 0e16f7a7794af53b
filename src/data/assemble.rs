//! From what a reader found to a [`Recording`] that keeps its promises: sorted, indexed within bounds, observed.

use super::interval::Interval;
use super::recording::{Epoch, Recording, Series, Trial};
use super::{one_line, DataError};

/// A recording as a reader found it.
pub(super) struct RawRecording {
    pub name: String,
    pub unit_ids: Vec<String>,
    /// Spikes in the file's order.
    pub spikes: Vec<(i64, u32)>,
    /// Observed intervals, in any order, possibly touching; empty when the file states none: then the recording is
    /// taken to be observed from its first spike to its last.
    pub intervals: Vec<Interval>,
    /// As in [`Recording`].
    pub count_bin_ns: Option<i64>,
    pub behaviour: Vec<Series>,
    pub trials: Vec<Trial>,
    pub epochs: Vec<Epoch>,
    pub notes: Vec<String>,
}

impl RawRecording {
    pub fn new(name: &str) -> RawRecording {
        RawRecording {
            name: name.to_owned(),
            unit_ids: Vec::new(),
            spikes: Vec::new(),
            intervals: Vec::new(),
            count_bin_ns: None,
            behaviour: Vec::new(),
            trials: Vec::new(),
            epochs: Vec::new(),
            notes: Vec::new(),
        }
    }

    /// Sorts, bounds and counts; what it changes it notes.
    ///
    /// # Errors
    /// [`DataError::NoSpikes`].
    pub fn finish(mut self) -> Result<Recording, DataError> {
        let n_spikes = self.spikes.len();
        let unsorted = self.spikes.windows(2).filter(|pair| pair[1].0 < pair[0].0).count();
        if unsorted > 0 {
            self.spikes.sort_by_key(|&(t, _)| t);
            self.notes.push(format!(
                "sorted the spikes by time: {unsorted} of {n_spikes} came before their predecessor"
            ));
        }
        let (Some(&(first, _)), Some(&(last, _))) = (self.spikes.first(), self.spikes.last()) else {
            return Err(DataError::NoSpikes { name: self.name });
        };
        let negative = self.spikes.partition_point(|&(t, _)| t < 0);
        if negative > 0 {
            self.notes.push(format!(
                "{negative} of {n_spikes} spike times are negative; kept, since time zero is the file's"
            ));
        }

        let intervals = if self.intervals.is_empty() {
            vec![Interval {
                start_ns: first,
                end_ns: last + 1,
            }]
        } else {
            united(self.intervals)
        };
        let unobserved = n_spikes - spikes_inside(&self.spikes, &intervals);
        if unobserved > 0 {
            self.notes.push(format!(
                "{unobserved} of {n_spikes} spikes lie outside the observed intervals; kept"
            ));
        }
        let start_ns = intervals.iter().map(|interval| interval.start_ns).fold(first, i64::min);
        let end_ns = intervals
            .iter()
            .map(|interval| interval.end_ns)
            .fold(last + 1, i64::max);

        self.trials.sort_by_key(|trial| trial.start_ns);
        self.epochs.sort_by_key(|epoch| epoch.start_ns);
        let (spike_times_ns, spike_units) = self.spikes.into_iter().unzip();
        Ok(Recording {
            name: self.name,
            unit_ids: self.unit_ids,
            spike_times_ns,
            spike_units,
            start_ns,
            end_ns,
            intervals,
            count_bin_ns: self.count_bin_ns,
            behaviour: self.behaviour,
            trials: self.trials,
            epochs: self.epochs,
            notes: self.notes.iter().map(|note| one_line(note)).collect(),
        })
    }
}

/// The union of intervals, ascending and disjoint; touching ones become one.
pub(super) fn united(mut intervals: Vec<Interval>) -> Vec<Interval> {
    intervals.retain(|interval| interval.duration_ns() > 0);
    intervals.sort_by_key(|interval| interval.start_ns);
    let mut result: Vec<Interval> = Vec::with_capacity(intervals.len());
    for interval in intervals {
        match result.last_mut() {
            Some(last) if interval.start_ns <= last.end_ns => last.end_ns = last.end_ns.max(interval.end_ns),
            _ => result.push(interval),
        }
    }
    result
}

/// `intervals` without the parts inside `removed`; both ascending and disjoint.
pub(super) fn without(intervals: &[Interval], removed: &[Interval]) -> Vec<Interval> {
    let mut result = Vec::new();
    for interval in intervals {
        let mut start_ns = interval.start_ns;
        for hole in removed.iter().filter_map(|hole| hole.intersection(interval)) {
            result.push(Interval {
                start_ns,
                end_ns: hole.start_ns,
            });
            start_ns = hole.end_ns;
        }
        result.push(Interval {
            start_ns,
            end_ns: interval.end_ns,
        });
    }
    result.retain(|interval| interval.duration_ns() > 0);
    result
}

fn spikes_inside(sorted_spikes: &[(i64, u32)], intervals: &[Interval]) -> usize {
    let before = |t_ns| sorted_spikes.partition_point(|&(t, _)| t < t_ns);
    intervals
        .iter()
        .map(|interval| before(interval.end_ns) - before(interval.start_ns))
        .sum()
}

/// A series sorted by time; `values` holds `channels` values a sample. Times out of order are stably sorted and noted.
pub(super) fn sorted_series(mut series: Series, notes: &mut Vec<String>) -> Series {
    let unsorted = series.times_ns.windows(2).filter(|pair| pair[1] < pair[0]).count();
    if unsorted > 0 {
        let mut order: Vec<usize> = (0..series.len()).collect();
        order.sort_by_key(|&index| series.times_ns[index]);
        series.values = order.iter().flat_map(|&index| series.row(index).to_vec()).collect();
        series.times_ns = order.iter().map(|&index| series.times_ns[index]).collect();
        notes.push(format!(
            "sorted the samples of {} by time: {unsorted} of {} came before their predecessor",
            series.name,
            series.len()
        ));
    }
    series
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interval(start_ns: i64, end_ns: i64) -> Interval {
        Interval { start_ns, end_ns }
    }

    #[test]
    fn sorting_is_stable_and_counted() {
        let mut raw = RawRecording::new("x");
        raw.unit_ids = vec!["a".to_owned(), "b".to_owned()];
        raw.spikes = vec![(5, 0), (3, 1), (3, 0), (-7, 1)];
        let recording = raw.finish().unwrap();
        assert_eq!(recording.spike_times_ns, [-7, 3, 3, 5]);
        assert_eq!(recording.spike_units, [1, 1, 0, 0]);
        assert_eq!((recording.start_ns, recording.end_ns), (-7, 6));
        assert!(recording.notes[0].contains("2 of 4"), "{:?}", recording.notes);
        assert!(
            recording.notes[1].contains("1 of 4 spike times are negative"),
            "{:?}",
            recording.notes
        );
    }

    #[test]
    fn spikes_outside_the_observed_intervals_are_counted() {
        let mut raw = RawRecording::new("x");
        raw.spikes = vec![(1, 0), (10, 0), (20, 0)];
        raw.intervals = vec![interval(15, 30), interval(0, 5)];
        let recording = raw.finish().unwrap();
        assert_eq!(recording.intervals, [interval(0, 5), interval(15, 30)]);
        assert_eq!(recording.n_spikes(), 3);
        assert!(
            recording.notes[0].starts_with("1 of 3 spikes lie outside"),
            "{:?}",
            recording.notes
        );
    }

    #[test]
    fn no_spikes_is_an_error() {
        assert!(matches!(RawRecording::new("quiet").finish(), Err(DataError::NoSpikes { name }) if name == "quiet"));
    }

    #[test]
    fn interval_arithmetic() {
        let whole = united(vec![interval(5, 9), interval(0, 5), interval(20, 30), interval(7, 7)]);
        assert_eq!(whole, [interval(0, 9), interval(20, 30)]);
        let rest = without(&whole, &[interval(2, 3), interval(8, 25)]);
        assert_eq!(rest, [interval(0, 2), interval(3, 8), interval(25, 30)]);
    }

    #[test]
    fn series_rows_move_with_their_times() {
        let series = Series {
            name: "pos".to_owned(),
            unit: String::new(),
            times_ns: vec![2, 1],
            channels: 2,
            channel_names: Vec::new(),
            values: vec![1.0, 2.0, 3.0, 4.0],
        };
        let mut notes = Vec::new();
        let sorted = sorted_series(series, &mut notes);
        assert_eq!((sorted.times_ns, sorted.values), (vec![1, 2], vec![3.0, 4.0, 1.0, 2.0]));
        assert_eq!(notes.len(), 1);
    }
}
