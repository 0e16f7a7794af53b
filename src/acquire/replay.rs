//! Replay of a recording: at the speed of life, at another speed, or as fast as what follows can take it.

use std::sync::Arc;

use super::pace::{Due, Pacer};
use super::{EventSink, Pace, Poll, SampledSeries, Source, SourceError, SpikeEvent};

/// Spikes pushed to the sink at once.
const CHUNK: usize = 512;

/// The part of a recording that a replay needs, shared and not copied.
#[derive(Clone, Debug)]
pub struct RecordedSpikes {
    /// Spike times in ns, sorted.
    pub times_ns: Arc<[i64]>,
    /// Unit index of each spike, into `unit_ids`.
    pub units: Arc<[u32]>,
    /// Ids of the units.
    pub unit_ids: Arc<[String]>,
}

/// A series of a recording, shared and not copied.
#[derive(Clone, Debug)]
pub struct RecordedSeries {
    /// Its name, unit and channels.
    pub series: SampledSeries,
    /// Sample times in ns, ascending, `[n]`.
    pub times_ns: Arc<[i64]>,
    /// Values, `[n, channels]`.
    pub values: Arc<[f32]>,
}

/// A series on its way: its samples, and the next of them.
#[derive(Debug)]
struct Track {
    times_ns: Arc<[i64]>,
    values: Arc<[f32]>,
    channels: usize,
    position: usize,
}

/// A source that replays [`RecordedSpikes`] between two device times.
#[derive(Debug)]
pub struct Replay {
    name: String,
    spikes: RecordedSpikes,
    pacer: Pacer,
    start_ns: i64,
    end_ns: i64,
    position: usize,
    chunk: Vec<SpikeEvent>,
    series: Vec<SampledSeries>,
    tracks: Vec<Track>,
}

impl Replay {
    /// A replay of the spikes in `[start_ns, end_ns)`, delivered every `tick_ns` of device time.
    ///
    /// # Errors
    /// Where times and units differ in number, times are not sorted, a unit has no id, the interval is empty, or the
    /// speed is not a positive number.
    pub fn new(
        name: &str,
        spikes: RecordedSpikes,
        start_ns: i64,
        end_ns: i64,
        pace: Pace,
        tick_ns: i64,
    ) -> Result<Self, SourceError> {
        let invalid = |problem: String| SourceError::Invalid {
            name: name.to_string(),
            problem,
        };
        if spikes.times_ns.len() != spikes.units.len() {
            let (times, units) = (spikes.times_ns.len(), spikes.units.len());
            return Err(invalid(format!("{times} spike times but {units} spike units")));
        }
        if let Some(at) = spikes.times_ns.windows(2).position(|pair| pair[0] > pair[1]) {
            return Err(invalid(format!(
                "spike times are not sorted: spike {} is earlier than spike {at}",
                at + 1
            )));
        }
        if let Some(at) = spikes
            .units
            .iter()
            .position(|&unit| unit as usize >= spikes.unit_ids.len())
        {
            let (unit, ids) = (spikes.units[at], spikes.unit_ids.len());
            return Err(invalid(format!(
                "spike {at} is of unit {unit}, but there are {ids} unit ids"
            )));
        }
        if end_ns <= start_ns {
            return Err(invalid(format!(
                "the interval from {start_ns} ns to {end_ns} ns is empty"
            )));
        }
        if let Pace::Clocked(speed) = pace {
            if !(speed.is_finite() && speed > 0.0) {
                return Err(invalid(format!("speed {speed} is not a positive number")));
            }
        }
        let position = spikes.times_ns.partition_point(|&time| time < start_ns);
        let pacer = Pacer::new(pace, start_ns, tick_ns);
        Ok(Self {
            name: name.to_string(),
            spikes,
            pacer,
            start_ns,
            end_ns,
            position,
            chunk: Vec::with_capacity(CHUNK),
            series: Vec::new(),
            tracks: Vec::new(),
        })
    }

    /// Delivers these series beside the spikes, each from its last sample before the start on: that is what was shown then.
    ///
    /// # Errors
    /// Where times and values do not fit each other, or times are not sorted.
    pub fn with_series(mut self, series: Vec<RecordedSeries>) -> Result<Self, SourceError> {
        for recorded in series {
            let RecordedSeries {
                series,
                times_ns,
                values,
            } = recorded;
            let (name, channels) = (&series.name, series.channels);
            let problem = if channels == 0 || times_ns.len() * channels != values.len() {
                let (times, numbers) = (times_ns.len(), values.len());
                Some(format!(
                    "series {name}: {numbers} values are not {times} samples of {channels} channels"
                ))
            } else if !times_ns.is_sorted() {
                Some(format!("series {name}: sample times are not sorted"))
            } else {
                None
            };
            if let Some(problem) = problem {
                let name = self.name;
                return Err(SourceError::Invalid { name, problem });
            }
            self.tracks.push(Track {
                position: times_ns.partition_point(|&time| time < self.start_ns).saturating_sub(1),
                times_ns,
                values,
                channels,
            });
            self.series.push(series);
        }
        Ok(self)
    }

    fn push_until(&mut self, until_ns: i64, sink: &mut dyn EventSink) {
        let times = &self.spikes.times_ns;
        while self.position < times.len() && times[self.position] < until_ns {
            self.chunk.clear();
            while self.chunk.len() < CHUNK && self.position < times.len() && times[self.position] < until_ns {
                self.chunk.push(SpikeEvent::spike(
                    times[self.position],
                    self.spikes.units[self.position],
                ));
                self.position += 1;
            }
            sink.spikes(&self.chunk);
        }
        for (series, track) in self.tracks.iter_mut().enumerate() {
            while let Some(&time_ns) = track.times_ns.get(track.position).filter(|&&time| time < until_ns) {
                let first = track.position * track.channels;
                sink.sample(series, time_ns, &track.values[first..first + track.channels]);
                track.position += 1;
            }
        }
    }
}

impl Source for Replay {
    fn name(&self) -> &str {
        &self.name
    }

    fn unit_ids(&self) -> &[String] {
        &self.spikes.unit_ids
    }

    fn series(&self) -> &[SampledSeries] {
        &self.series
    }

    fn pace(&self) -> Pace {
        self.pacer.pace()
    }

    fn start_ns(&self) -> i64 {
        self.start_ns
    }

    fn end_ns(&self) -> Option<i64> {
        Some(self.end_ns)
    }

    fn start(&mut self, host_ns: i64) {
        self.pacer.start(host_ns);
    }

    fn poll(&mut self, now_ns: i64, sink: &mut dyn EventSink) -> Result<Poll, SourceError> {
        let due = match self.pacer.due(now_ns) {
            Due::At(host_ns) => return Ok(Poll::WaitUntil(host_ns)),
            Due::Until(due) => due.min(self.end_ns),
        };
        self.push_until(due, sink);
        sink.clock(due, now_ns);
        Ok(if due == self.end_ns {
            Poll::Finished
        } else {
            Poll::Again
        })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A sink that keeps everything.
    #[derive(Default)]
    pub(crate) struct Kept {
        pub(crate) spikes: Vec<SpikeEvent>,
        pub(crate) clocks: Vec<i64>,
        /// Series, time, values.
        pub(crate) samples: Vec<(usize, i64, Vec<f32>)>,
    }

    impl EventSink for Kept {
        fn spikes(&mut self, spikes: &[SpikeEvent]) {
            self.spikes.extend_from_slice(spikes);
        }
        fn sample(&mut self, series: usize, time_ns: i64, values: &[f32]) {
            self.samples.push((series, time_ns, values.to_vec()));
        }
        fn clock(&mut self, device_ns: i64, _host_ns: i64) {
            self.clocks.push(device_ns);
        }
    }

    fn recorded(times: &[i64], units: &[u32], ids: &[&str]) -> RecordedSpikes {
        RecordedSpikes {
            times_ns: times.into(),
            units: units.into(),
            unit_ids: ids.iter().map(|id| id.to_string()).collect(),
        }
    }

    #[test]
    fn only_the_interval_is_replayed_and_its_end_is_the_last_clock() {
        let spikes = recorded(&[5, 10, 19, 20, 35, 40], &[0, 1, 0, 1, 0, 1], &["a", "b"]);
        let mut replay = Replay::new("r", spikes, 10, 38, Pace::AsFast, 10).unwrap();
        replay.start(0);
        let mut kept = Kept::default();
        while replay.poll(0, &mut kept).unwrap() != Poll::Finished {}
        let times: Vec<i64> = kept.spikes.iter().map(|event| event.time_ns).collect();
        assert_eq!(times, [10, 19, 20, 35]);
        assert_eq!(kept.clocks, [20, 30, 38]);
    }

    fn series(name: &str, times: &[i64], values: &[f32]) -> RecordedSeries {
        RecordedSeries {
            series: SampledSeries {
                name: name.into(),
                unit: String::new(),
                channels: 2,
            },
            times_ns: times.into(),
            values: values.into(),
        }
    }

    #[test]
    fn series_come_beside_the_spikes_from_what_was_shown_at_the_start_on() {
        let replay = Replay::new("r", recorded(&[5], &[0], &["a"]), 10, 30, Pace::AsFast, 10).unwrap();
        let shown = series("image", &[2, 7, 25, 30], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]);
        let late = series("hand", &[19, 20], &[1.0, 1.5, 2.0, 2.5]);
        let mut replay = replay.with_series(vec![shown, late]).unwrap();
        assert_eq!(replay.series()[1].name, "hand");
        replay.start(0);
        let mut kept = Kept::default();
        replay.poll(0, &mut kept).unwrap();
        assert_eq!(kept.samples, [(0, 7, vec![3.0, 4.0]), (1, 19, vec![1.0, 1.5])]);
        replay.poll(0, &mut kept).unwrap();
        assert_eq!(kept.samples[2..], [(0, 25, vec![5.0, 6.0]), (1, 20, vec![2.0, 2.5])]);
    }

    #[test]
    fn series_that_are_none_are_refused_by_name() {
        let refused = |series: RecordedSeries| {
            let replay = Replay::new("r", recorded(&[5], &[0], &["a"]), 0, 30, Pace::AsFast, 10).unwrap();
            replay.with_series(vec![series]).unwrap_err().to_string()
        };
        assert!(refused(series("hand", &[1, 2], &[1.0; 3])).contains("series hand: 3 values are not 2 samples of 2"));
        assert!(refused(series("hand", &[2, 1], &[1.0; 4])).contains("series hand: sample times are not sorted"));
    }

    #[test]
    fn nothing_is_pushed_before_its_time() {
        let mut replay = Replay::new("r", recorded(&[5, 15], &[0, 0], &["a"]), 0, 20, Pace::Clocked(1.0), 10).unwrap();
        replay.start(1_000);
        let mut kept = Kept::default();
        assert_eq!(replay.poll(1_009, &mut kept).unwrap(), Poll::WaitUntil(1_010));
        assert!(kept.spikes.is_empty());
        assert_eq!(replay.poll(1_010, &mut kept).unwrap(), Poll::Again);
        assert_eq!(kept.spikes.len(), 1);
    }

    #[test]
    fn what_cannot_be_replayed_is_refused_in_one_sentence() {
        let new = |spikes, speed| {
            Replay::new("file.npz", spikes, 0, 10, Pace::Clocked(speed), 1)
                .unwrap_err()
                .to_string()
        };
        assert!(new(recorded(&[2, 1], &[0, 0], &["a"]), 1.0).contains("not sorted"));
        assert!(new(recorded(&[1, 2], &[0, 1], &["a"]), 1.0).contains("unit 1"));
        assert!(new(recorded(&[1, 2], &[0], &["a"]), 1.0).contains("2 spike times but 1 spike units"));
        assert!(new(recorded(&[1], &[0], &["a"]), 0.0).contains("speed"));
    }
}
