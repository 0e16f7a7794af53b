//! A recording's series as the modalities that a network knows.

use thiserror::Error;

use crate::data::Recording;
use crate::model::conditions::{ConditionReader, Samples};
use crate::model::config::ModelConfig;

/// A series that is not what the network learned from.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("{recording}: series {series} has {found} channels, and the network learned from {expected}")]
pub struct SeriesError {
    /// The recording's name.
    pub recording: String,
    /// The series' name.
    pub series: String,
    /// Channels that it has.
    pub found: usize,
    /// Channels that the network knows.
    pub expected: usize,
}

/// What a network may see of a recording beside the spikes. A series that the recording lacks is not shown.
///
/// # Errors
/// A series of another number of channels.
pub fn conditions_of<'a>(config: &ModelConfig, recording: &'a Recording) -> Result<ConditionReader<'a>, SeriesError> {
    for condition in &config.conditions {
        if let Some(series) = recording.series(&condition.series) {
            if series.channels != condition.channels() {
                return Err(SeriesError {
                    recording: recording.name.clone(),
                    series: series.name.clone(),
                    found: series.channels,
                    expected: condition.channels(),
                });
            }
        }
    }
    Ok(ConditionReader::new(config, |condition| {
        recording.series(&condition.series).map(|series| Samples {
            times_ns: &series.times_ns,
            values: &series.values,
        })
    }))
}
