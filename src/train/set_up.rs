//! From a configuration to the recordings that are learned from.

use super::config::{ConditionSection, RateOver, RecordingSection, SimulateSection, TrainConfig};
use super::sampler::{Source, Span, TrainingSet};
use super::TrainError;
use crate::acquire::simulate::{Population, SimulationConfig};
use crate::data::{Position, Recording};
use crate::hash::Fnv1a;
use crate::model::window::WindowShape;

/// Reads the recordings, or simulates them; returns the set and a hash of what is in it.
///
/// # Errors
/// What cannot be read, or holds nothing to learn from.
pub fn training_set(config: &TrainConfig) -> Result<(TrainingSet, u64), TrainError> {
    let sources = match &config.data.simulate {
        Some(section) => vec![simulated(section)?],
        None => config
            .data
            .recording
            .iter()
            .map(source)
            .collect::<Result<Vec<_>, _>>()?,
    };
    let (mut sources, mut min_rate_hz) = (sources, config.data.min_rate_hz);
    if config.data.min_rate_over == RateOver::Recording {
        for source in &mut sources {
            let ids = source.recording.units_at_or_above(min_rate_hz);
            source.recording = source.recording.select_units(&ids)?;
        }
        min_rate_hz = 0.0;
    }
    let hash = hash(&sources, &config.model.condition);
    let model = config.model_config().map_err(TrainError::Config)?;
    let shape = WindowShape::new(&model, model.bins());
    let set = TrainingSet::new(sources, shape, min_rate_hz)?;
    if config.model.identity.is_none() {
        set.all_trained()?;
    }
    if let Some(lone) = set.sessions().iter().find(|session| session.recorded_ids.len() == 1) {
        return Err(TrainError::Config(format!(
            "session {} has one unit, {}; a population has at least two",
            lone.name, lone.recorded_ids[0]
        )));
    }
    Ok((set, hash))
}

fn source(section: &RecordingSection) -> Result<Source, TrainError> {
    let stem = || {
        section
            .path
            .file_stem()
            .map_or(String::new(), |stem| stem.to_string_lossy().into_owned())
    };
    let spans = |parts: &[super::config::Part]| parts.iter().map(|part| part.0).collect();
    Ok(Source {
        session: section.session.clone().unwrap_or_else(stem),
        recording: Recording::load(&section.path)?,
        training: spans(&section.train),
        validation: spans(&section.validate),
        reference: spans(&section.reference),
        test: spans(&section.test),
    })
}

fn simulated(section: &SimulateSection) -> Result<Source, TrainError> {
    let whole_s = section.train_s + section.validate_s;
    if !(section.train_s > 0.0 && section.validate_s > 0.0 && whole_s <= 1e6) {
        return Err(TrainError::Config(
            "data.simulate: train_s and validate_s are expected above 0, and 10⁶ s at most together".into(),
        ));
    }
    let population = SimulationConfig {
        n_units: section.units,
        ..SimulationConfig::default()
    };
    let recording = Population::new(population, section.seed)?.record((whole_s * 1e9) as i64);
    let part = |from: f64, to: f64| {
        vec![Span {
            from: Position::Seconds(from),
            to: Position::Seconds(to),
        }]
    };
    Ok(Source {
        session: "simulated".into(),
        training: part(0.0, section.train_s),
        reference: Vec::new(),
        validation: part(section.train_s, whole_s),
        test: Vec::new(),
        recording,
    })
}

/// Of sessions, unit ids, spike times and units, and the series that are learned from.
fn hash(sources: &[Source], conditions: &[ConditionSection]) -> u64 {
    let mut hash = Fnv1a::default();
    for source in sources {
        hash.add(source.session.as_bytes());
        source.recording.unit_ids.iter().for_each(|id| hash.add(id.as_bytes()));
        hash.add(bytemuck::cast_slice(&source.recording.spike_times_ns));
        hash.add(bytemuck::cast_slice(&source.recording.spike_units));
        for series in conditions
            .iter()
            .filter_map(|section| source.recording.series(&section.series))
        {
            hash.add(bytemuck::cast_slice(&series.times_ns));
            hash.add(bytemuck::cast_slice(&series.values));
        }
    }
    hash.value()
}
