//! A recording as tables: spikes, samples, and what was published.

use std::path::Path;

use super::header::{OutputHeader, RunHeader, SeriesHeader};
use super::reader::{Ending, RecordError, RecordReader};
use crate::acquire::SpikeEvent;
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
    /// `[n, rows, columns]`.
    pub array: Vec<f32>,
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
    /// Entries that are missing.
    pub lost: u64,
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

    /// Messages of another shape have no place in the table.
    fn add(&mut self, message: Message) {
        let shape = (message.header.bins as usize, message.header.units as usize);
        if shape == (self.output.rows, self.output.cols) {
            self.headers.push(message.header);
            self.array.extend(message.array);
        }
    }

    /// A column of the headers.
    pub fn column<T>(&self, of: impl Fn(&MessageHeader) -> T) -> Vec<T> {
        self.headers.iter().map(of).collect()
    }
}

impl Tables {
    /// Reads a recording as far as it is whole.
    ///
    /// # Errors
    /// [`RecordError`].
    pub fn read(path: &Path) -> Result<Self, RecordError> {
        let mut reader = RecordReader::open(path)?;
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
            lost: 0,
            ending: Ending::CutOff { at: 0, left_over: 0 },
            header,
        };
        while let Some((_, entries)) = reader.next_entries()? {
            entries.into_iter().for_each(|entry| tables.add(&first_units, entry));
        }
        tables.ending = reader.ending().cloned().unwrap_or(tables.ending);
        tables.spikes.sort_unstable();
        tables.series.retain(|series| !series.times_ns.is_empty());
        Ok(tables)
    }

    fn add(&mut self, first_units: &[(u32, u32)], entry: Entry) {
        match entry {
            Entry::Events { source, events } => {
                if let Some(&(first, units)) = first_units.get(source as usize) {
                    let known = |event: &&SpikeEvent| event.is_spike() && event.unit < units;
                    let spikes = events.iter().filter(known);
                    self.spikes
                        .extend(spikes.map(|spike| (spike.time_ns, first + spike.unit)));
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
                }
            }
            Entry::Prediction(message) => self.predictions.add(message),
            Entry::Output { output, message } => {
                if let Some(table) = self.outputs.get_mut(output as usize) {
                    table.add(message);
                }
            }
            Entry::Lost { entries } => self.lost += entries,
            Entry::Closed { .. } | Entry::Joins { .. } | Entry::Predicts { .. } => {}
        }
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
