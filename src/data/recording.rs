//! The type that every reader produces and every later part uses.

use std::ops::Range;

use super::interval::{Interval, Split};
use super::time::ns_to_seconds;
use super::DataError;

/// A behavioural series: samples of one or more channels, or bare event times.
#[derive(Debug, Clone, PartialEq)]
pub struct Series {
    /// What is measured, such as `hand_pos`.
    pub name: String,
    /// The unit as the file states it, such as `m/s`; empty when it does not.
    pub unit: String,
    /// Sample times, ascending, `[n]`.
    pub times_ns: Vec<i64>,
    /// Values a sample; 0 for a series of event times that have no value.
    pub channels: usize,
    /// One name a channel, or none at all.
    pub channel_names: Vec<String>,
    /// `[n × channels]`, row-major; NaN where the file has NaN (an animal not tracked).
    pub values: Vec<f32>,
}

impl Series {
    /// Number of samples.
    pub fn len(&self) -> usize {
        self.times_ns.len()
    }

    /// Whether there is no sample.
    pub fn is_empty(&self) -> bool {
        self.times_ns.is_empty()
    }

    /// The values of sample `index`, `[channels]`. Panics if there is no such sample, like slice indexing.
    pub fn row(&self, index: usize) -> &[f32] {
        &self.values[index * self.channels..(index + 1) * self.channels]
    }

    /// The samples with `start_ns <= t < end_ns`.
    pub fn between(&self, start_ns: i64, end_ns: i64) -> Range<usize> {
        index_range(&self.times_ns, start_ns, end_ns)
    }
}

/// One trial of an experiment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trial {
    /// Its start.
    pub start_ns: i64,
    /// Its end, exclusive.
    pub end_ns: i64,
    /// The condition's number (reach target, stimulus), where the file states one.
    pub condition: Option<i64>,
}

/// A named stretch of an experiment, such as "linear track" or "rest".
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Epoch {
    /// Its start.
    pub start_ns: i64,
    /// Its end, exclusive.
    pub end_ns: i64,
    /// The file's tags, joined by ", "; may be empty.
    pub label: String,
}

/// Spikes of sorted units over a stretch of time, with the behaviour and trials recorded beside them.
///
/// Spikes are two parallel vectors in time order. Times are nanoseconds on the recording's own clock: time zero is the
/// file's, and may be far from the first spike (or after it).
#[derive(Debug, Clone, PartialEq)]
pub struct Recording {
    /// Stands for the recording in messages: the file's path, or a name.
    pub name: String,
    /// The units' ids, `[n_units]`, each once; a unit may have no spikes.
    pub unit_ids: Vec<String>,
    /// Spike times, ascending, `[n_spikes]`.
    pub spike_times_ns: Vec<i64>,
    /// Each spike's unit, an index into `unit_ids`, `[n_spikes]`.
    pub spike_units: Vec<u32>,
    /// Start of the recording: no spike and no observed interval is before it.
    pub start_ns: i64,
    /// End, exclusive, in the same sense.
    pub end_ns: i64,
    /// When the units were observed, ascending, disjoint: silence inside is data, outside it is not.
    pub intervals: Vec<Interval>,
    /// Width of the bins that the file counts spikes in, where it does not hold their times: bins follow one another from
    /// the start of each interval, and where in its bin a spike lies was drawn.
    pub count_bin_ns: Option<i64>,
    /// Behavioural series; they may begin before and end after the spikes.
    pub behaviour: Vec<Series>,
    /// Trials in order of their start.
    pub trials: Vec<Trial>,
    /// Named stretches in order of their start.
    pub epochs: Vec<Epoch>,
    /// What reading changed, assumed or left out, one sentence each.
    pub notes: Vec<String>,
}

impl Recording {
    /// Number of units, those without spikes included.
    pub fn n_units(&self) -> usize {
        self.unit_ids.len()
    }

    /// Number of spikes.
    pub fn n_spikes(&self) -> usize {
        self.spike_times_ns.len()
    }

    /// From the start to the end, gaps between intervals included.
    pub fn duration_ns(&self) -> i64 {
        self.end_ns - self.start_ns
    }

    /// [`Recording::duration_ns`] in seconds.
    pub fn duration_s(&self) -> f64 {
        ns_to_seconds(self.duration_ns())
    }

    /// Total length of the observed intervals.
    pub fn observed_ns(&self) -> i64 {
        self.intervals.iter().map(Interval::duration_ns).sum()
    }

    /// Time of the first spike; none without spikes.
    pub fn first_spike_ns(&self) -> Option<i64> {
        self.spike_times_ns.first().copied()
    }

    /// Where the grid of bins begins, on which recordings are replayed, evaluated and trained on: with the first spike, or
    /// with the bin that it was counted in, so that the grid's bins hold the counts of the file; none without spikes.
    pub fn grid_origin_ns(&self) -> Option<i64> {
        let first_ns = self.first_spike_ns()?;
        Some(self.count_bin_of(first_ns).map_or(first_ns, |bin| bin.start_ns))
    }

    /// The bin that a spike at `t_ns` was counted in; none where the file holds spike times.
    pub fn count_bin_of(&self, t_ns: i64) -> Option<Interval> {
        let bin_ns = self.count_bin_ns?;
        let interval = self.intervals[..self.intervals.partition_point(|i| i.start_ns <= t_ns)].last()?;
        let start_ns = t_ns - (t_ns - interval.start_ns) % bin_ns;
        Some(Interval {
            start_ns,
            end_ns: start_ns + bin_ns,
        })
    }

    /// The behavioural series of this name.
    pub fn series(&self, name: &str) -> Option<&Series> {
        self.behaviour.iter().find(|series| series.name == name)
    }

    /// The index of a unit id.
    pub fn unit_index(&self, id: &str) -> Option<usize> {
        self.unit_ids.iter().position(|known| known == id)
    }

    /// Spikes of each unit, `[n_units]`.
    pub fn unit_counts(&self) -> Vec<u64> {
        let mut counts = vec![0; self.n_units()];
        for &unit in &self.spike_units {
            counts[unit as usize] += 1;
        }
        counts
    }

    /// Each unit's spikes a second of observed time, `[n_units]`.
    pub fn mean_rates_hz(&self) -> Vec<f64> {
        let observed_s = ns_to_seconds(self.observed_ns());
        self.unit_counts()
            .into_iter()
            .map(|count| count as f64 / observed_s)
            .collect()
    }

    /// The spikes with `start_ns <= t < end_ns`, as a range of indices into the two spike vectors.
    pub fn spikes_between(&self, start_ns: i64, end_ns: i64) -> Range<usize> {
        index_range(&self.spike_times_ns, start_ns, end_ns)
    }

    /// Whether one interval of observation holds all of `start_ns <= t < end_ns`.
    pub fn is_observed(&self, start_ns: i64, end_ns: i64) -> bool {
        Interval::any_holds(&self.intervals, start_ns, end_ns)
    }

    /// A split as a stretch of time of this recording, rounded to the nanosecond. Parts that share a boundary fraction
    /// share the boundary nanosecond, and overlap nowhere.
    pub fn split(&self, split: Split) -> Interval {
        let at = |fraction: f64| {
            let offset = (fraction * self.duration_ns() as f64).round() as i64;
            self.start_ns + offset.min(self.duration_ns())
        };
        Interval {
            start_ns: at(split.from),
            end_ns: at(split.to),
        }
    }

    /// The part inside `window`: its spikes, observed intervals (cut at the window's edges) and samples, and those
    /// trials and epochs that lie wholly inside. Units, also silent ones, keep their indices. Edges may cut through bins that
    /// spikes were counted in, so the part no longer tells these bins.
    ///
    /// # Errors
    /// If the window is empty or lies outside the recording.
    pub fn slice(&self, window: Interval) -> Result<Recording, DataError> {
        let whole = Interval {
            start_ns: self.start_ns,
            end_ns: self.end_ns,
        };
        let window = whole.intersection(&window).ok_or_else(|| {
            DataError::Selection(format!(
                "{} ({}..{} s) has nothing in {}..{} s",
                self.name,
                ns_to_seconds(self.start_ns),
                ns_to_seconds(self.end_ns),
                ns_to_seconds(window.start_ns),
                ns_to_seconds(window.end_ns)
            ))
        })?;
        let inside = |start_ns, end_ns| window.start_ns <= start_ns && end_ns <= window.end_ns;
        let spikes = self.spikes_between(window.start_ns, window.end_ns);
        let behaviour = self.behaviour.iter().map(|series| {
            let samples = series.between(window.start_ns, window.end_ns);
            Series {
                times_ns: series.times_ns[samples.clone()].to_vec(),
                values: series.values[samples.start * series.channels..samples.end * series.channels].to_vec(),
                name: series.name.clone(),
                unit: series.unit.clone(),
                channels: series.channels,
                channel_names: series.channel_names.clone(),
            }
        });
        Ok(Recording {
            name: self.name.clone(),
            unit_ids: self.unit_ids.clone(),
            spike_times_ns: self.spike_times_ns[spikes.clone()].to_vec(),
            spike_units: self.spike_units[spikes].to_vec(),
            start_ns: window.start_ns,
            end_ns: window.end_ns,
            intervals: self
                .intervals
                .iter()
                .filter_map(|interval| interval.intersection(&window))
                .collect(),
            count_bin_ns: None,
            behaviour: behaviour.collect(),
            trials: self
                .trials
                .iter()
                .filter(|trial| inside(trial.start_ns, trial.end_ns))
                .copied()
                .collect(),
            epochs: self
                .epochs
                .iter()
                .filter(|epoch| inside(epoch.start_ns, epoch.end_ns))
                .cloned()
                .collect(),
            notes: self.notes.clone(),
        })
    }

    /// The same recording with only the named units, in the order given; spikes of the others are dropped.
    ///
    /// # Errors
    /// If an id is unknown or given twice.
    pub fn select_units<S: AsRef<str>>(&self, ids: &[S]) -> Result<Recording, DataError> {
        let index_of: std::collections::HashMap<&str, usize> = self
            .unit_ids
            .iter()
            .enumerate()
            .map(|(index, id)| (id.as_str(), index))
            .collect();
        let mut new_index = vec![None; self.n_units()];
        for (position, id) in ids.iter().map(AsRef::as_ref).enumerate() {
            let index = *index_of
                .get(id)
                .ok_or_else(|| DataError::Selection(format!("{} has no unit named {id:?}", self.name)))?;
            if new_index[index].replace(position as u32).is_some() {
                return Err(DataError::Selection(format!(
                    "unit {id:?} of {} is selected twice",
                    self.name
                )));
            }
        }
        let kept = self.spike_times_ns.iter().zip(&self.spike_units);
        let (spike_times_ns, spike_units) = kept
            .filter_map(|(&t, &unit)| new_index[unit as usize].map(|position| (t, position)))
            .unzip();
        let unit_ids = ids.iter().map(|id| id.as_ref().to_owned()).collect();
        Ok(Recording {
            unit_ids,
            spike_times_ns,
            spike_units,
            ..self.clone()
        })
    }

    /// The ids of the units that fire at `min_rate_hz` or more over the observed time, in the recording's order.
    pub fn units_at_or_above(&self, min_rate_hz: f64) -> Vec<String> {
        let rates = self.mean_rates_hz();
        let kept = self.unit_ids.iter().zip(rates).filter(|(_, rate)| *rate >= min_rate_hz);
        kept.map(|(id, _)| id.clone()).collect()
    }
}

/// The part of the ascending `times` with `start_ns <= t < end_ns`; empty for an inverted interval.
fn index_range(times: &[i64], start_ns: i64, end_ns: i64) -> Range<usize> {
    let start = times.partition_point(|&t| t < start_ns);
    let end = times.partition_point(|&t| t < end_ns);
    start..end.max(start)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Recording {
        Recording {
            name: "sample".to_owned(),
            unit_ids: ["a", "b", "c"].map(str::to_owned).to_vec(),
            spike_times_ns: vec![10, 20, 20, 30, 99],
            spike_units: vec![0, 2, 0, 0, 2],
            start_ns: 0,
            end_ns: 100,
            intervals: vec![
                Interval {
                    start_ns: 0,
                    end_ns: 40,
                },
                Interval {
                    start_ns: 60,
                    end_ns: 100,
                },
            ],
            count_bin_ns: None,
            behaviour: vec![Series {
                name: "x".to_owned(),
                unit: "m".to_owned(),
                times_ns: vec![5, 25, 65],
                channels: 2,
                channel_names: Vec::new(),
                values: vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0],
            }],
            trials: vec![
                Trial {
                    start_ns: 0,
                    end_ns: 15,
                    condition: Some(3),
                },
                Trial {
                    start_ns: 20,
                    end_ns: 40,
                    condition: None,
                },
            ],
            epochs: Vec::new(),
            notes: Vec::new(),
        }
    }

    #[test]
    fn half_open_ranges() {
        let recording = sample();
        assert_eq!(recording.spikes_between(10, 20), 0..1);
        assert_eq!(recording.spikes_between(20, 31), 1..4);
        assert_eq!(recording.spikes_between(40, 10), 4..4);
        assert_eq!(recording.unit_counts(), [3, 0, 2]);
        assert!(recording.is_observed(0, 40) && !recording.is_observed(30, 61));
    }

    #[test]
    fn bins_of_counts_follow_one_another_in_each_interval() {
        let mut recording = sample();
        assert_eq!(
            (recording.grid_origin_ns(), recording.count_bin_of(10)),
            (Some(10), None)
        );
        recording.count_bin_ns = Some(8);
        let bin = |t_ns| recording.count_bin_of(t_ns).map(|bin| (bin.start_ns, bin.end_ns));
        assert_eq!(
            (bin(0), bin(15), bin(16)),
            (Some((0, 8)), Some((8, 16)), Some((16, 24)))
        );
        assert_eq!((bin(67), bin(99), bin(-1)), (Some((60, 68)), Some((92, 100)), None));
        assert_eq!(recording.grid_origin_ns(), Some(8));
    }

    #[test]
    fn splits_meet_without_overlap() {
        let recording = sample();
        let train = recording.split(Split::new(0.0, 0.3).unwrap());
        let test = recording.split("0.3..1".parse().unwrap());
        assert_eq!(
            (train.start_ns, train.end_ns, test.start_ns, test.end_ns),
            (0, 30, 30, 100)
        );
        let spikes = [train, test].map(|part| recording.slice(part).unwrap().n_spikes());
        assert_eq!(spikes, [3, 2]);
    }

    #[test]
    fn slice_cuts_everything_at_the_window() {
        let part = sample()
            .slice(Interval {
                start_ns: 20,
                end_ns: 70,
            })
            .unwrap();
        assert_eq!(part.spike_times_ns, [20, 20, 30]);
        assert_eq!(
            part.intervals,
            [
                Interval {
                    start_ns: 20,
                    end_ns: 40
                },
                Interval {
                    start_ns: 60,
                    end_ns: 70
                }
            ]
        );
        assert_eq!(part.behaviour[0].times_ns, [25, 65]);
        assert_eq!(part.behaviour[0].row(1), [5.0, 6.0]);
        assert_eq!(
            part.trials,
            [Trial {
                start_ns: 20,
                end_ns: 40,
                condition: None
            }]
        );
        assert!(sample()
            .slice(Interval {
                start_ns: 100,
                end_ns: 200
            })
            .is_err());
    }

    #[test]
    fn selecting_units_renumbers_them() {
        let part = sample().select_units(&["c", "a"]).unwrap();
        assert_eq!(part.spike_units, [1, 0, 1, 1, 0]);
        assert_eq!(part.unit_ids, ["c", "a"]);
        let only_c = sample().select_units(&["c"]).unwrap();
        assert_eq!(only_c.spike_times_ns, [20, 99]);
        assert!(sample().select_units(&["d"]).unwrap_err().to_string().contains("\"d\""));
        assert!(sample().select_units(&["a", "a"]).is_err());
    }
}
