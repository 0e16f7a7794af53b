//! What the network may see beside the spikes and what it reads out, from the configuration and what the recordings hold.

use super::config::{ConditionSection, ReadoutSection, TrainConfig};
use super::sampler::{TrainingRecording, TrainingSet};
use crate::evaluate::behaviour::{samples_of, TRIAL_CONDITION};
use crate::model::config::{ConditionConfig, ModelConfig, ReadoutConfig, ReadoutKind};

/// Most classes that a readout tells apart: a series with more is one of numbers.
const MOST_CLASSES: usize = 1000;

/// Sizes and variant of the network, the channels and scales of modalities and readouts from the training parts of the recordings.
///
/// # Errors
/// What is no network, or a series that the recordings do not hold alike.
pub fn model_of(config: &TrainConfig, set: &TrainingSet) -> Result<ModelConfig, String> {
    let mut model = config.model_config()?;
    let conditions = config.model.condition.iter().map(|section| condition(section, set));
    model.conditions = conditions.collect::<Result<_, _>>()?;
    let history_s = model.history_s();
    let readouts = config
        .model
        .readout
        .iter()
        .map(|section| readout(section, set, history_s));
    model.readouts = readouts.collect::<Result<_, _>>()?;
    model
        .validate()
        .map_err(|error| format!("[[model.condition]], [[model.readout]]: {error}"))?;
    Ok(model)
}

fn condition(section: &ConditionSection, set: &TrainingSet) -> Result<ConditionConfig, String> {
    let trained = Trained::new("model.condition", &section.series, set)?;
    let (mean, deviation) = trained.scales();
    Ok(ConditionConfig {
        series: section.series.clone(),
        kind: section.kind,
        step_s: section.step_ms * 1e-3,
        mean,
        deviation,
    })
}

fn readout(section: &ReadoutSection, set: &TrainingSet, history_s: f64) -> Result<ReadoutConfig, String> {
    let name = &section.series;
    let trained = Trained::new("model.readout", name, set)?;
    let step_s = section.step_ms * 1e-3;
    let series = set
        .recordings()
        .iter()
        .find_map(|recording| recording.recording.series(name));
    let (mean, deviation, labels) = match section.kind {
        ReadoutKind::Regression => {
            let (mean, deviation) = trained.scales();
            let named = series.map_or(&[][..], |series| &series.channel_names);
            let labels = match named.len() == mean.len() {
                true => named.to_vec(),
                false => (0..mean.len()).map(|channel| channel.to_string()).collect(),
            };
            (mean, deviation, labels)
        }
        ReadoutKind::Classes => {
            let classes = trained.classes()?;
            let labels = classes.iter().map(f32::to_string).collect();
            (classes, Vec::new(), labels)
        }
    };
    Ok(ReadoutConfig {
        series: name.clone(),
        kind: section.kind,
        step_s,
        back: section.back.unwrap_or(((history_s / step_s + 1e-6) as usize).max(1)),
        ahead: section.ahead,
        unit: series.map_or(String::new(), |series| series.unit.clone()),
        labels,
        mean,
        deviation,
    })
}

/// A series in the training parts of the recordings that have it: its finite samples.
struct Trained<'a> {
    key: &'static str,
    series: &'a str,
    channels: usize,
    /// `[n, C]`.
    values: Vec<f32>,
}

impl<'a> Trained<'a> {
    fn new(key: &'static str, series: &'a str, set: &TrainingSet) -> Result<Self, String> {
        let of = |recording: &'_ TrainingRecording| samples_of(&recording.recording, series);
        let mut found: Option<(String, usize)> = None;
        let mut trained = Vec::new();
        for recording in set.recordings() {
            let Some((times_ns, values, channels)) = of(recording) else {
                continue;
            };
            let name = &recording.recording.name;
            if channels == 0 {
                return Err(format!("{key}: series {series:?} of {name} has times, but no values"));
            }
            let (first, expected) = found.get_or_insert((name.clone(), channels));
            if *expected != channels {
                return Err(format!(
                    "{key}: series {series:?} has {expected} channels in {first} and {channels} in {name}"
                ));
            }
            for part in &recording.training {
                let from = times_ns.partition_point(|&time| time < part.start_ns);
                let to = times_ns.partition_point(|&time| time < part.end_ns).max(from);
                let rows = values[from * channels..to * channels].chunks_exact(channels);
                trained.extend(rows.filter(|row| row.iter().all(|x| x.is_finite())).flatten());
            }
        }
        let Some((_, channels)) = found else {
            return Err(format!(
                "{key}: no recording has a series named {series:?}; there are: {}",
                held_by(set)
            ));
        };
        if trained.is_empty() {
            return Err(format!("{key}: series {series:?} has no sample in the training parts"));
        }
        Ok(Trained {
            key,
            series,
            channels,
            values: trained,
        })
    }

    /// Mean and deviation of each channel.
    fn scales(&self) -> (Vec<f32>, Vec<f32>) {
        let seen = (self.values.len() / self.channels) as f64;
        let sum = |channel: usize, of: fn(f64) -> f64| {
            let values = self.values.iter().skip(channel).step_by(self.channels);
            values.map(|&x| of(f64::from(x))).sum::<f64>()
        };
        let scale = |channel: usize| {
            let (mean, square) = (sum(channel, |x| x) / seen, sum(channel, |x| x * x) / seen);
            let variance = square - mean * mean;
            // A channel that never changed says nothing, whatever it is divided by.
            let varies = variance > 1e-12 * square.max(f64::MIN_POSITIVE);
            (mean as f32, if varies { variance.sqrt() as f32 } else { 1.0 })
        };
        (0..self.channels).map(scale).unzip()
    }

    /// The numbers that stand for classes, ascending.
    fn classes(&self) -> Result<Vec<f32>, String> {
        let (key, series) = (self.key, self.series);
        if self.channels != 1 {
            let channels = self.channels;
            return Err(format!(
                "{key}: series {series:?} has {channels} channels; a class is one number"
            ));
        }
        let mut classes = self.values.clone();
        classes.sort_by(f32::total_cmp);
        classes.dedup();
        match classes.len() {
            2..=MOST_CLASSES => Ok(classes),
            many => Err(format!(
                "{key}: series {series:?} has {many} different values in the training parts, expected 2 to {MOST_CLASSES} classes"
            )),
        }
    }
}

/// Names of all series, for people.
fn held_by(set: &TrainingSet) -> String {
    let recordings = set.recordings().iter();
    let mut held: Vec<&str> = recordings
        .flat_map(|r| r.recording.behaviour.iter().map(|series| series.name.as_str()))
        .collect();
    if set.recordings().iter().any(|r| !r.recording.trials.is_empty()) {
        held.push(TRIAL_CONDITION);
    }
    held.sort_unstable();
    held.dedup();
    match held.is_empty() {
        true => "none".to_owned(),
        false => held.join(", "),
    }
}
