//! What the network may see beside the spikes, from the configuration and what the recordings hold.

use super::config::{ConditionSection, TrainConfig};
use super::sampler::TrainingSet;
use crate::data::Series;
use crate::model::config::{ConditionConfig, ModelConfig};

/// Sizes and variant of the network, the modalities' channels and scales from the training parts of the recordings.
///
/// # Errors
/// What is no network, or a series that the recordings do not hold alike.
pub fn model_of(config: &TrainConfig, set: &TrainingSet) -> Result<ModelConfig, String> {
    let mut model = config.model_config()?;
    let conditions = config.model.condition.iter().map(|section| condition(section, set));
    model.conditions = conditions.collect::<Result<_, _>>()?;
    model
        .validate()
        .map_err(|error| format!("[[model.condition]]: {error}"))?;
    Ok(model)
}

fn condition(section: &ConditionSection, set: &TrainingSet) -> Result<ConditionConfig, String> {
    let name = &section.series;
    let found: Vec<(&str, &Series)> = set
        .recordings()
        .iter()
        .filter_map(|recording| Some((recording.recording.name.as_str(), recording.recording.series(name)?)))
        .collect();
    let Some(&(first, series)) = found.first() else {
        let mut held: Vec<&str> = set
            .recordings()
            .iter()
            .flat_map(|r| &r.recording.behaviour)
            .map(|s| s.name.as_str())
            .collect();
        held.sort_unstable();
        held.dedup();
        return Err(format!(
            "model.condition: no recording has a series named {name:?}; there are: {}",
            if held.is_empty() {
                "none".to_owned()
            } else {
                held.join(", ")
            }
        ));
    };
    let channels = series.channels;
    if channels == 0 {
        return Err(format!(
            "model.condition: series {name:?} of {first} has times, but no values"
        ));
    }
    if let Some((other, series)) = found.iter().find(|(_, series)| series.channels != channels) {
        return Err(format!(
            "model.condition: series {name:?} has {channels} channels in {first} and {} in {other}",
            series.channels
        ));
    }
    let (mut sums, mut squares, mut seen) = (vec![0.0f64; channels], vec![0.0f64; channels], 0.0);
    for recording in set.recordings() {
        let Some(series) = recording.recording.series(name) else {
            continue;
        };
        for part in &recording.training {
            for sample in series.between(part.start_ns, part.end_ns) {
                let row = series.row(sample);
                if row.iter().all(|x| x.is_finite()) {
                    seen += 1.0;
                    for (channel, &x) in row.iter().enumerate() {
                        sums[channel] += f64::from(x);
                        squares[channel] += f64::from(x) * f64::from(x);
                    }
                }
            }
        }
    }
    if seen == 0.0 {
        return Err(format!(
            "model.condition: series {name:?} has no sample in the training parts"
        ));
    }
    let mean = sums.iter().map(|sum| (sum / seen) as f32).collect();
    let deviation = sums.iter().zip(&squares).map(|(sum, square)| {
        let variance = square / seen - (sum / seen) * (sum / seen);
        // A channel that never changed says nothing, whatever it is divided by.
        if variance > 1e-12 * (square / seen).max(f64::MIN_POSITIVE) {
            variance.sqrt() as f32
        } else {
            1.0
        }
    });
    Ok(ConditionConfig {
        series: name.clone(),
        kind: section.kind,
        step_s: section.step_ms * 1e-3,
        mean,
        deviation: deviation.collect(),
    })
}
