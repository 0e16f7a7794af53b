//! A recording through the pipeline again, and what comes out beside what came out then.

use std::iter::Peekable;
use std::sync::Arc;

use serde::Serialize;

use super::format::Kind;
use super::header::RunHeader;
use super::reader::RecordReader;
use crate::acquire::{EventSink, Pace, Poll, SampledSeries, Source, SourceError};
use crate::pipeline::entry::{Entry, Message};
use crate::pipeline::message::flags;
use crate::pipeline::tap::TapReader;
use crate::pipeline::{Fed, Feed, LoadRecorded};

/// Flags of arrays that are not what the model makes of its bin: a stand-in, or made elsewhere, without identities or by a guard.
const NOT_FULL: u32 = flags::HELD
    | flags::NEUTRAL
    | flags::SKIPPED
    | flags::SHORTENED
    | flags::MODEL_FAILED
    | flags::STANDBY
    | flags::CALIBRATING
    | flags::LIMITED
    | flags::STOPPED;

/// A source of a recorded run: it says what there was, and its events come from the recording.
struct RecordedSource {
    name: String,
    unit_ids: Vec<String>,
    series: Vec<SampledSeries>,
    start_ns: i64,
}

impl Source for RecordedSource {
    fn name(&self) -> &str {
        &self.name
    }
    fn unit_ids(&self) -> &[String] {
        &self.unit_ids
    }
    fn series(&self) -> &[SampledSeries] {
        &self.series
    }
    fn pace(&self) -> Pace {
        Pace::AsFast
    }
    fn start_ns(&self) -> i64 {
        self.start_ns
    }
    fn end_ns(&self) -> Option<i64> {
        None
    }
    fn start(&mut self, _host_ns: i64) {}
    fn poll(&mut self, _now_ns: i64, _sink: &mut dyn EventSink) -> Result<Poll, SourceError> {
        Ok(Poll::Finished)
    }
}

/// The sources of a recorded run.
pub fn sources(header: &RunHeader) -> Vec<Box<dyn Source>> {
    let source = |source: &super::header::SourceHeader| {
        Box::new(RecordedSource {
            name: source.name.clone(),
            unit_ids: source.unit_ids.clone(),
            series: source.series.iter().map(SampledSeries::from).collect(),
            start_ns: header.bins.start_ns,
        }) as Box<dyn Source>
    };
    header.sources.iter().map(source).collect()
}

/// Checks entry after entry that it fits the run.
struct Check {
    sources: usize,
    channels: Vec<usize>,
    next_bin: i64,
}

impl Check {
    fn problem(&mut self, entry: &Entry) -> Option<String> {
        match entry {
            Entry::Events { source, .. } if *source as usize >= self.sources => {
                Some(format!("events of source {source} of {}", self.sources))
            }
            Entry::Sample { series, values, .. } => match self.channels.get(*series as usize) {
                Some(&channels) if channels == values.len() => None,
                _ => Some(format!("a sample of {} values of series {series}", values.len())),
            },
            Entry::Closed { bin, .. } => {
                let expected = std::mem::replace(&mut self.next_bin, bin.saturating_add(1));
                (*bin != expected).then(|| format!("bin {bin} closed where bin {expected} was open"))
            }
            Entry::Lost { entries } => Some(format!(
                "{entries} entries are missing after bin {}: what follows cannot be what it was",
                self.next_bin - 1
            )),
            _ => None,
        }
    }
}

/// What the run took in, up to where it is whole, and a place that says what became of it. `identities` are all of them that it has
/// ([`Feed::identities`]); `load` finds the models that took another one's place.
pub fn feed(reader: RecordReader, identities: Vec<(u64, i64)>, load: Box<LoadRecorded>) -> (Feed, Arc<Fed>) {
    let header = reader.header();
    let mut check = Check {
        sources: header.sources.len(),
        channels: header.series.iter().map(|series| series.channels).collect(),
        next_bin: 0,
    };
    let fed = Arc::<Fed>::default();
    let why = fed.clone();
    let entries = reader
        .entries(Kind::Ingested)
        .take_while(move |entry| match check.problem(entry) {
            None => true,
            Some(problem) => {
                why.ended.get_or_init(|| problem);
                false
            }
        });
    let feed = Feed {
        entries: Box::new(entries),
        identities,
        load,
        fed: fed.clone(),
    };
    (feed, fed)
}

/// The first number that is not the same.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// The bin.
    pub bin: i64,
    /// `prediction`, or the output's number.
    pub of: String,
    /// What differs: `array` with its place, or a field of the header.
    pub what: String,
    /// As recorded.
    pub recorded: f64,
    /// As it came out now.
    pub replayed: f64,
}

/// What a comparison came to.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Compared {
    /// Predictions in the recording that were looked at.
    pub recorded: u64,
    /// Predictions of the replay.
    pub replayed: u64,
    /// Predictions that are the model's own both times, and were compared bit by bit.
    pub compared: u64,
    /// Of these, the same bits.
    pub equal: u64,
    /// In both, but not the model's own in one: held, neutral, shortened, on the standby, or before identities were known.
    pub not_full: u64,
    /// Only in the replay: lost, or not written any more, when it was recorded.
    pub only_replayed: u64,
    /// Only in the recording.
    pub only_recorded: u64,
    /// Arrays of outputs compared, and of these the same bits.
    pub outputs: [u64; 2],
    /// The first difference.
    pub first_difference: Option<Difference>,
}

/// A bin's prediction and what was published beside it.
struct Group {
    prediction: Message,
    outputs: Vec<(u32, Message)>,
}

/// Compares what a replay publishes with what was published when it was recorded, bin by bin.
pub struct Comparison<I: Iterator<Item = Entry>> {
    recorded: Peekable<I>,
    ahead: Option<Group>,
    replayed: Option<Group>,
    last_matched: Option<i64>,
    report: Compared,
    bytes: Vec<u8>,
}

fn next_group(entries: &mut Peekable<impl Iterator<Item = Entry>>) -> Option<Group> {
    let prediction = loop {
        match entries.next()? {
            Entry::Prediction(message) => break message,
            _ => continue,
        }
    };
    let mut outputs = Vec::new();
    while let Some(Entry::Output { .. }) = entries.peek() {
        if let Some(Entry::Output { output, message }) = entries.next() {
            outputs.push((output, message));
        }
    }
    Some(Group { prediction, outputs })
}

/// Whether it may be what stood in for a bin that was late or had no slot: its counts are then the next one's.
fn has_no_counts(prediction: &Message) -> bool {
    prediction.header.flags & flags::SKIPPED != 0
}

impl<I: Iterator<Item = Entry>> Comparison<I> {
    /// With what was published.
    pub fn new(recorded: I) -> Self {
        Self {
            recorded: recorded.peekable(),
            ahead: None,
            replayed: None,
            last_matched: None,
            report: Compared::default(),
            bytes: Vec::new(),
        }
    }

    /// Takes what the replay has published since the last call.
    ///
    /// # Errors
    /// Bytes that are no entries: a fault of the program.
    pub fn look(&mut self, reader: &mut TapReader) -> Result<(), String> {
        self.bytes.clear();
        reader.take(&mut self.bytes);
        self.take(Entry::parse_all(&self.bytes)?);
        Ok(())
    }

    /// The same of entries.
    pub(super) fn take(&mut self, entries: Vec<Entry>) {
        for entry in entries {
            match entry {
                Entry::Prediction(prediction) => {
                    self.flush();
                    self.replayed = Some(Group {
                        prediction,
                        outputs: Vec::new(),
                    });
                }
                Entry::Output { output, message } => {
                    if let Some(group) = &mut self.replayed {
                        group.outputs.push((output, message));
                    }
                }
                _ => {}
            }
        }
    }

    /// What it came to.
    pub fn finish(mut self) -> Compared {
        self.flush();
        // It was taken to be looked at, and the replay did not come to it.
        self.report.recorded -= u64::from(self.ahead.is_some());
        self.report
    }

    fn flush(&mut self) {
        let Some(replayed) = self.replayed.take() else { return };
        self.report.replayed += 1;
        let bin = replayed.prediction.header.bin_index;
        loop {
            let recorded = self.ahead.take().or_else(|| {
                let group = next_group(&mut self.recorded)?;
                self.report.recorded += 1;
                Some(group)
            });
            match recorded {
                Some(recorded) if recorded.prediction.header.bin_index < bin => self.report.only_recorded += 1,
                Some(recorded) if recorded.prediction.header.bin_index == bin => {
                    self.compare(&recorded, &replayed);
                    self.last_matched = (!has_no_counts(&recorded.prediction)).then_some(bin);
                    return;
                }
                later => {
                    self.ahead = later;
                    self.report.only_replayed += 1;
                    return;
                }
            }
        }
    }

    fn compare(&mut self, recorded: &Group, replayed: &Group) {
        let (was, is) = (&recorded.prediction.header, &replayed.prediction.header);
        let bin = was.bin_index;
        let mut fields = vec![("bin_end_ns", was.bin_end_ns as f64, is.bin_end_ns as f64)];
        // It counts since the last prediction: where one was lost, since another.
        if self.last_matched == Some(bin - 1) && !has_no_counts(&recorded.prediction) {
            fields.push(("spikes_in", f64::from(was.spikes_in), f64::from(is.spikes_in)));
        }
        for (what, recorded, replayed) in fields {
            if recorded != replayed {
                self.differs(bin, "prediction", what.into(), recorded, replayed);
            }
        }
        if (was.flags | is.flags) & NOT_FULL != 0 {
            self.report.not_full += 1;
            return;
        }
        self.report.compared += 1;
        let equal = self.arrays(bin, "prediction", &recorded.prediction, &replayed.prediction);
        self.report.equal += u64::from(equal);
        for (number, output) in &recorded.outputs {
            let Some((_, other)) = replayed.outputs.iter().find(|(other, _)| other == number) else {
                continue;
            };
            if (output.header.flags | other.header.flags) & NOT_FULL == 0 {
                self.report.outputs[0] += 1;
                let equal = self.arrays(bin, &format!("output {number}"), output, other);
                self.report.outputs[1] += u64::from(equal);
            }
        }
    }

    /// Whether two arrays have the same bits.
    fn arrays(&mut self, bin: i64, of: &str, recorded: &Message, replayed: &Message) -> bool {
        let (was, is) = (&recorded.array, &replayed.array);
        if was.len() != is.len() {
            self.differs(bin, of, "numbers".into(), was.len() as f64, is.len() as f64);
            return false;
        }
        let place = was.iter().zip(is).position(|(a, b)| a.to_bits() != b.to_bits());
        if let Some(place) = place {
            let columns = (recorded.header.units as usize).max(1);
            let what = format!("array [{}, {}]", place / columns, place % columns);
            self.differs(bin, of, what, was[place].into(), is[place].into());
        }
        place.is_none()
    }

    fn differs(&mut self, bin: i64, of: &str, what: String, recorded: f64, replayed: f64) {
        self.report.first_difference.get_or_insert(Difference {
            bin,
            of: of.into(),
            what,
            recorded,
            replayed,
        });
    }
}
