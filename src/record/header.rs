//! What the first chunk says of a run: enough to build it again.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::acquire::{SampledSeries, Source};
use crate::pipeline::OutputSpec;

/// Values that a sample has at most, and events that a ring holds at most: no run has more.
const MOST_CHANNELS: usize = u16::MAX as usize;
const MOST_RING_EVENTS: usize = 1 << 28;

/// A series of samples.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SeriesHeader {
    /// Its name.
    pub name: String,
    /// Its unit; may be empty.
    pub unit: String,
    /// Values a sample.
    pub channels: usize,
}

/// A source.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceHeader {
    /// Its name.
    pub name: String,
    /// Ids of the units that its events number.
    pub unit_ids: Vec<String>,
    /// What it delivers beside spikes.
    pub series: Vec<SeriesHeader>,
}

/// An output beside the predictions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputHeader {
    /// Its topic.
    pub topic: String,
    /// Rows.
    pub rows: usize,
    /// Columns.
    pub cols: usize,
}

/// The file of the model.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CheckpointHeader {
    /// Where it was.
    pub path: String,
    /// FNV-1a of its bytes, 16 hexadecimal digits: the messages' model hash.
    pub hash: String,
}

/// How time was cut.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BinsHeader {
    /// Device time of the start of bin 0, ns.
    pub start_ns: i64,
    /// Bin width, ns.
    pub bin_ns: i64,
    /// History of a prediction, ns.
    pub history_ns: i64,
    /// How long a bin stays open for late spikes, ns.
    pub grace_ns: i64,
    /// Bins predicted.
    pub horizon_bins: usize,
    /// Events that a ring held, and spikes that waited for their bin.
    pub ring_events: usize,
}

/// The first chunk.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunHeader {
    /// Version of the program.
    pub program: String,
    /// When the run began, ns since 1970.
    pub created_unix_ns: u64,
    /// Monotonic host time at that moment, ns: what the entries' host times count from.
    pub created_monotonic_ns: i64,
    /// The publisher's epoch.
    pub epoch: u64,
    /// The command's arguments.
    pub arguments: Vec<String>,
    /// The configuration's text.
    pub config: String,
    /// What the configuration and the flags came to, of the model.
    pub model: Value,
    /// The same of the latents that were published.
    pub latents: String,
    /// The checkpoint; none where mean rates were predicted.
    pub checkpoint: Option<CheckpointHeader>,
    /// The model in one line, with what computed it.
    pub description: String,
    /// The messages' model hash, 16 hexadecimal digits.
    pub model_hash: String,
    /// The model's units.
    pub unit_ids: Vec<String>,
    /// Bins.
    pub bins: BinsHeader,
    /// The sources; entries number them.
    pub sources: Vec<SourceHeader>,
    /// The series; entries number them.
    pub series: Vec<SeriesHeader>,
    /// The outputs; entries number them.
    pub outputs: Vec<OutputHeader>,
    /// ln of each source unit's mean count a bin, as the bits of a double: JSON has no −∞.
    pub mean_log_rate_bits: Vec<u64>,
    /// What the means were taken over.
    pub means_from: String,
    /// When the units were observed, where the source was a recording: start and end, device ns, ascending.
    #[serde(default)]
    pub observed_ns: Vec<[i64; 2]>,
    /// Where the network's recent history stood at the start, as the bits of floats; none where it sees none.
    pub recent_history: Option<Vec<u32>>,
}

impl From<&SampledSeries> for SeriesHeader {
    fn from(series: &SampledSeries) -> Self {
        Self {
            name: series.name.clone(),
            unit: series.unit.clone(),
            channels: series.channels,
        }
    }
}

impl From<&SeriesHeader> for SampledSeries {
    fn from(series: &SeriesHeader) -> Self {
        Self {
            name: series.name.clone(),
            unit: series.unit.clone(),
            channels: series.channels,
        }
    }
}

impl From<&dyn Source> for SourceHeader {
    fn from(source: &dyn Source) -> Self {
        Self {
            name: source.name().to_string(),
            unit_ids: source.unit_ids().to_vec(),
            series: source.series().iter().map(SeriesHeader::from).collect(),
        }
    }
}

impl From<&OutputSpec> for OutputHeader {
    fn from(output: &OutputSpec) -> Self {
        Self {
            topic: output.topic.clone(),
            rows: output.rows,
            cols: output.cols,
        }
    }
}

impl RunHeader {
    /// Ids of all sources' units, one source's after another's.
    pub fn source_units(&self) -> Vec<String> {
        let units = self.sources.iter().flat_map(|source| &source.unit_ids);
        units.cloned().collect()
    }

    /// Checks what the rest of the program relies on.
    ///
    /// # Errors
    /// One sentence about what cannot be.
    pub fn check(&self) -> Result<(), String> {
        let units: usize = self.sources.iter().map(|source| source.unit_ids.len()).sum();
        if self.mean_log_rate_bits.len() != units {
            let rates = self.mean_log_rate_bits.len();
            return Err(format!("{rates} mean rates for {units} units of the sources"));
        }
        if self.sources.is_empty() || self.bins.bin_ns <= 0 || self.bins.history_ns <= 0 || self.bins.grace_ns < 0 {
            return Err(format!("a run with {:?} cannot have been", self.bins));
        }
        let series = self.sources.iter().flat_map(|source| &source.series);
        for series in self.series.iter().chain(series) {
            if !(1..=MOST_CHANNELS).contains(&series.channels) {
                return Err(format!("a series of {} channels", series.channels));
            }
        }
        if !(1..=MOST_RING_EVENTS).contains(&self.bins.ring_events) {
            return Err(format!("rings of {} events", self.bins.ring_events));
        }
        Ok(())
    }
}
