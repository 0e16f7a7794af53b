//! A recording's series as the modalities that a network knows.

use thiserror::Error;

use super::predictions::Observed;
use crate::data::Recording;
use crate::model::conditions::{ConditionReader, Samples};
use crate::model::config::{ConditionConfig, ModelConfig};

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

/// Windows in which anything of each modality is shown, `[M]`.
pub fn windows_shown(reader: &mut ConditionReader<'_>, observed: &Observed) -> Vec<usize> {
    let mut counts = Vec::new();
    for &start_ns in &observed.starts_ns {
        let shown = reader.at(start_ns + observed.shape.history_ns);
        counts.resize(shown.len(), 0);
        let each = counts.iter_mut().zip(shown);
        each.for_each(|(count, tokens)| *count += usize::from(!tokens.is_empty()));
    }
    counts
}

/// A sentence on each series of which samples are not shown although they say something: values that are not finite stand beside
/// others. A row of NaN says that there is nothing to show.
pub fn notes_on_samples(config: &ModelConfig, recording: &Recording) -> Vec<String> {
    let of_series = |condition: &ConditionConfig| {
        let series = recording.series(&condition.series)?;
        let rows = series.values.chunks_exact(series.channels.max(1));
        let (samples, damaged) = (rows.len(), rows.filter(|row| partly_finite(row)).count());
        (damaged > 0).then(|| {
            format!(
                "{}: {damaged} of {samples} samples have values that are not finite in some channels and were not shown",
                series.name
            )
        })
    };
    config.conditions.iter().filter_map(of_series).collect()
}

/// Whether a sample has values that are not finite, but does not say by NaN throughout that there is nothing.
fn partly_finite(row: &[f32]) -> bool {
    row.iter().any(|x| !x.is_finite()) && !row.iter().all(|x| x.is_nan())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Series;
    use crate::model::config::ConditionKind;

    #[test]
    fn only_rows_that_say_something_are_missed() {
        const NAN: f32 = f32::NAN;
        let rows = [
            [1.0, 2.0],
            [NAN, NAN],
            [NAN, 1.0],
            [1.0, f32::INFINITY],
            [f32::INFINITY, NAN],
        ];
        assert_eq!(rows.map(|row| partly_finite(&row)), [false, false, true, true, true]);

        let recording = Recording {
            name: "session".into(),
            unit_ids: Vec::new(),
            spike_times_ns: Vec::new(),
            spike_units: Vec::new(),
            start_ns: 0,
            end_ns: 5,
            intervals: Vec::new(),
            count_bin_ns: None,
            behaviour: vec![Series {
                name: "stim_embedding".into(),
                unit: String::new(),
                times_ns: (0..5).collect(),
                channels: 2,
                channel_names: Vec::new(),
                values: rows.as_flattened().to_vec(),
            }],
            trials: Vec::new(),
            epochs: Vec::new(),
            notes: Vec::new(),
        };
        let seen = |series: &str| ModelConfig {
            conditions: vec![ConditionConfig {
                series: series.into(),
                kind: ConditionKind::Stimulus,
                step_s: 0.1,
                mean: vec![0.0; 2],
                deviation: vec![1.0; 2],
            }],
            ..ModelConfig::default()
        };
        assert_eq!(
            notes_on_samples(&seen("stim_embedding"), &recording),
            ["stim_embedding: 3 of 5 samples have values that are not finite in some channels and were not shown"]
        );
        assert!(notes_on_samples(&seen("another"), &recording).is_empty());
    }
}
