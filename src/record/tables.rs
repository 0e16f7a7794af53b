//! A recording as tables: spikes, samples, and what was published.

use std::path::Path;

use super::header::{OutputHeader, RunHeader, SeriesHeader};
use super::reader::{Damage, Ending, RecordError, RecordReader};
use super::requests::ChangingRequest;
use crate::data::unit_id;
use crate::pipeline::entry::{Entry, Message};
use crate::pipeline::message::MessageHeader;

/// A series' samples.
#[derive(Clone, Debug, PartialEq)]
pub struct SeriesTable {
    /// What it is.
    pub series: SeriesHeader,
    /// Device times, ns, `[n]`.
    pub times_ns: Vec<i64>,
    /// `[n, channels]`.
    pub values: Vec<f32>,
}

/// Messages of one topic.
#[derive(Clone, Debug, PartialEq)]
pub struct MessageTable {
    /// Its topic, and its shape.
    pub output: OutputHeader,
    /// The headers, `[n]`.
    pub headers: Vec<MessageHeader>,
    /// `[n, rows, columns]`; rows that a message does not have, its horizon being shortened, are NaN.
    pub array: Vec<f32>,
}

/// What the recording has, and the tables have no place for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LeftOut {
    /// Predictions and outputs with more rows or other columns than the run said, or of an output that it did not name.
    pub messages: u64,
    /// Samples of a series that the run did not name, or with another number of channels.
    pub samples: u64,
    /// Spikes of a source or a unit that the run did not name.
    pub spikes: u64,
}

/// All of it.
#[derive(Clone, Debug, PartialEq)]
pub struct Tables {
    /// The run.
    pub header: RunHeader,
    /// Ids of the sources' units.
    pub unit_ids: Vec<String>,
    /// Spikes by time: device ns and unit.
    pub spikes: Vec<(i64, u32)>,
    /// Series that have samples.
    pub series: Vec<SeriesTable>,
    /// Predictions.
    pub predictions: MessageTable,
    /// What was published beside them.
    pub outputs: Vec<MessageTable>,
    /// Requests that changed the run.
    pub requests: Vec<ChangingRequest>,
    /// Such requests that are not there.
    pub requests_left_out: u64,
    /// Entries that are missing.
    pub lost: u64,
    /// Entries that are not missing and have no place.
    pub left_out: LeftOut,
    /// Pieces of the file that could not be read.
    pub damage: Vec<Damage>,
    /// How the recording ends.
    pub ending: Ending,
}

impl MessageTable {
    fn new(output: OutputHeader) -> Self {
        Self {
            output,
            headers: Vec::new(),
            array: Vec::new(),
        }
    }

    /// False where the message has more rows than the table, or other columns.
    fn add(&mut self, message: Message) -> bool {
        let (rows, columns) = (message.header.bins as usize, message.header.units as usize);
        let fits = rows <= self.output.rows && columns == self.output.cols;
        if fits {
            self.headers.push(message.header);
            self.array.extend(message.array);
            self.array
                .resize(self.headers.len() * self.output.rows * self.output.cols, f32::NAN);
        }
        fits
    }

    /// A column of the headers.
    pub fn column<T>(&self, of: impl Fn(&MessageHeader) -> T) -> Vec<T> {
        self.headers.iter().map(of).collect()
    }
}

impl Tables {
    /// Reads all of a recording that is whole: pieces that are damaged are left out, and said.
    ///
    /// # Errors
    /// [`RecordError`].
    pub fn read(path: &Path) -> Result<Self, RecordError> {
        let mut reader = RecordReader::open(path)?.past_damage();
        let header = reader.header().clone();
        let mut first_units = Vec::new();
        let mut units = 0;
        for source in &header.sources {
            first_units.push((units, source.unit_ids.len() as u32));
            units += source.unit_ids.len() as u32;
        }
        let predictions = MessageTable::new(OutputHeader {
            topic: "prediction".into(),
            rows: header.bins.horizon_bins,
            cols: header.unit_ids.len(),
        });
        let mut tables = Self {
            unit_ids: header.source_units(),
            spikes: Vec::new(),
            series: header.series.iter().cloned().map(SeriesTable::new).collect(),
            predictions,
            outputs: header.outputs.iter().cloned().map(MessageTable::new).collect(),
            requests: Vec::new(),
            requests_left_out: 0,
            lost: 0,
            left_out: LeftOut::default(),
            damage: Vec::new(),
            ending: Ending::CutOff { at: 0, left_over: 0 },
            header,
        };
        while let Some((_, entries)) = reader.next_entries()? {
            entries.into_iter().for_each(|entry| tables.add(&first_units, entry));
        }
        tables.ending = reader.ending().cloned().unwrap_or(tables.ending);
        tables.requests = reader.requests().to_vec();
        tables.requests_left_out = reader.requests_left_out();
        tables.damage = reader.damage().to_vec();
        tables.spikes.sort_unstable();
        tables.series.retain(|series| !series.times_ns.is_empty());
        Ok(tables)
    }

    fn add(&mut self, first_units: &[(u32, u32)], entry: Entry) {
        match entry {
            Entry::Events { source, events } => {
                let (first, units) = first_units.get(source as usize).copied().unwrap_or_default();
                for spike in events.iter().filter(|event| event.is_spike()) {
                    if spike.unit < units {
                        self.spikes.push((spike.time_ns, first + spike.unit));
                    } else {
                        self.left_out.spikes += 1;
                    }
                }
            }
            Entry::Sample {
                series,
                time_ns,
                values,
                ..
            } => {
                let table = self.series.get_mut(series as usize);
                if let Some(table) = table.filter(|table| table.series.channels == values.len()) {
                    table.times_ns.push(time_ns);
                    table.values.extend(values);
                } else {
                    self.left_out.samples += 1;
                }
            }
            Entry::Prediction(message) => self.left_out.messages += u64::from(!self.predictions.add(message)),
            Entry::Output { output, message } => {
                let table = self.outputs.get_mut(output as usize);
                let placed = table.is_some_and(|table| table.add(message));
                self.left_out.messages += u64::from(!placed);
            }
            Entry::Lost { entries } => self.lost += entries,
            Entry::Closed { .. } | Entry::Joins { .. } | Entry::Predicts { .. } | Entry::Identities { .. } => {}
        }
    }

    /// What is not in the tables though it was in the run, a sentence for each kind of it.
    pub fn missing(&self) -> Vec<String> {
        let mut sentences = Vec::new();
        if self.lost > 0 {
            sentences.push(format!("{} entries were lost while this was recorded", self.lost));
        }
        if self.requests_left_out > 0 {
            sentences.push(format!(
                "{} requests that changed the run are left out: there were too many at once, or they could not be written",
                self.requests_left_out
            ));
        }
        let LeftOut {
            messages,
            samples,
            spikes,
        } = self.left_out;
        for (count, what) in [
            (messages, "predictions or outputs have a shape"),
            (samples, "samples have a series or number of channels"),
            (spikes, "spikes have a unit"),
        ] {
            if count > 0 {
                sentences.push(format!("{count} {what} that the run did not name: they are left out"));
            }
        }
        for damage in &self.damage {
            let Damage {
                at,
                bytes,
                chunks,
                problem,
            } = damage;
            sentences.push(format!(
                "the recording is DAMAGED at byte {at} ({problem}): {bytes} bytes, {chunks} chunks, are left out"
            ));
        }
        match &self.ending {
            Ending::Whole { .. } => {}
            Ending::CutOff { left_over, .. } => sentences.push(format!(
                "the recording is cut off: the last {left_over} bytes are of no use"
            )),
            Ending::Damaged { at, left_over, problem } => sentences.push(format!(
                "the recording is DAMAGED at byte {at} ({problem}): the last {left_over} bytes are left out"
            )),
        }
        sentences
    }

    /// A number for each unit: the one in its id where every id is one of a recording's, otherwise its place.
    pub fn unit_numbers(&self) -> Vec<i64> {
        let number = |id: &String| {
            let number = id.strip_prefix("unit")?.parse::<u64>().ok()?;
            (unit_id(number) == *id).then_some(number as i64)
        };
        let named: Option<Vec<i64>> = self.unit_ids.iter().map(number).collect();
        let distinct = |numbers: &Vec<i64>| {
            let mut sorted = numbers.clone();
            sorted.sort_unstable();
            sorted.windows(2).all(|pair| pair[0] != pair[1])
        };
        named
            .filter(distinct)
            .unwrap_or_else(|| (0..self.unit_ids.len() as i64).collect())
    }
}

impl SeriesTable {
    fn new(series: SeriesHeader) -> Self {
        Self {
            series,
            times_ns: Vec::new(),
            values: Vec::new(),
        }
    }
}
