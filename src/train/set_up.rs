//! From a configuration to the recordings that are learned from.

use super::config::{ConditionSection, RateOver, RecordingSection, SimulateSection, TrainConfig};
use super::sampler::{Source, Span, TrainingSet};
use super::TrainError;
use crate::acquire::simulate::{Population, SimulationConfig};
use crate::data::{Position, Recording};
use crate::hash::Fnv1a;
use crate::model::window::WindowShape;

/// Most simulated sessions of one kind.
const MOST_SESSIONS: usize = 10_000;

/// Reads the recordings, or simulates them; returns the set and a hash of what is in it.
///
/// # Errors
/// What cannot be read, or holds nothing to learn from.
pub fn training_set(config: &TrainConfig) -> Result<(TrainingSet, u64), TrainError> {
    let sources = match &config.data.simulate {
        Some(section) => simulated(section)?,
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

/// Populations that are trained on, then those held out.
fn simulated(section: &SimulateSection) -> Result<Vec<Source>, TrainError> {
    let refuse = |what: &str| Err(TrainError::Config(format!("data.simulate: {what}")));
    if !(1..=MOST_SESSIONS).contains(&section.sessions) || section.held_out > MOST_SESSIONS {
        return refuse("sessions is expected from 1, and no more than 10 000 of either kind");
    }
    let before_s = section.train_s.max(section.reference_s);
    let lengths = [section.train_s, section.validate_s, section.reference_s];
    if !(lengths.iter().all(|&length| length > 0.0) && before_s + section.validate_s <= 1e6) {
        return refuse("train_s, validate_s and reference_s are expected above 0, and 10⁶ s at most together");
    }
    let part = |from: f64, to: f64| {
        vec![Span {
            from: Position::Seconds(from),
            to: Position::Seconds(to),
        }]
    };
    let several = section.sessions + section.held_out > 1;
    let source = |number: usize| {
        let population = SimulationConfig {
            n_units: section.units,
            ..SimulationConfig::default()
        };
        let mut population = Population::new(population, section.seed + number as u64)?;
        let held_out = number >= section.sessions;
        let known_s = if held_out { section.reference_s } else { section.train_s };
        let judged = held_out || section.held_out == 0;
        let whole_s = known_s + if judged { section.validate_s } else { 0.0 };
        let (known, nothing) = (part(0.0, known_s), Vec::new());
        Ok(Source {
            session: if several {
                format!("simulated{number}")
            } else {
                "simulated".into()
            },
            training: if held_out { nothing.clone() } else { known.clone() },
            reference: if held_out { known } else { nothing },
            validation: if judged { part(known_s, whole_s) } else { Vec::new() },
            test: Vec::new(),
            recording: population.record((whole_s * 1e9) as i64),
        })
    };
    (0..section.sessions + section.held_out).map(source).collect()
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
