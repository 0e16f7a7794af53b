//! From the configuration to a source of spikes, and the mean rates that go with it.

use std::collections::HashMap;

use super::run_config::{ms_to_ns, s_to_ns, ReplaySection, RunFile, SimulateSection};
use super::run_device_sources::build_devices;
use super::CliError;
use crate::acquire::replay::{RecordedSeries, RecordedSpikes, Replay};
use crate::acquire::simulate::{Population, SimulationConfig, STEP_NS};
use crate::acquire::simulated::Simulated;
use crate::acquire::{Pace, SampledSeries, Source};
use crate::data::{Interval, Position, Recording};
use crate::model::config::ConditionConfig;
use crate::pipeline::network::Past;
use crate::pipeline::predictor::mean_log_rates;

/// A source, when its run begins, and each unit's mean rate before that.
pub struct BuiltSource {
    /// The source.
    pub source: Box<dyn Source>,
    /// ln of each source unit's mean count a bin.
    pub mean_log_rates: Vec<f64>,
    /// What the means were taken over, for people.
    pub means_from: String,
    /// What reading the recording changed or left out.
    pub notes: Vec<String>,
    /// Where recent history begins; at the mean rates without it.
    pub before: Option<Before>,
    /// When a recording's units were observed, ascending; empty where there is no recording.
    pub observed: Vec<Interval>,
}

/// Where recent history begins.
pub enum Before {
    /// Behind what a recording has before the part of it that is replayed.
    Recorded(BeforeReplay),
    /// Where it stood when a run began.
    RecentHistory(Vec<f32>),
}

/// What a recording has before the part of it that is replayed.
pub struct BeforeReplay {
    spikes: RecordedSpikes,
    /// Start of the grid of bins, device ns.
    origin_ns: i64,
    /// Where the replay begins, device ns.
    pub until_ns: i64,
}

impl BeforeReplay {
    /// The spikes of the units that the model knows, `model_unit` being each one's number among these.
    pub fn of_units(&self, model_unit: &[Option<u32>]) -> Past {
        let all = self.spikes.times_ns.iter().zip(self.spikes.units.iter());
        let known = all.filter_map(|(&time_ns, &unit)| Some((time_ns, model_unit[unit as usize]?)));
        let (times_ns, units) = known.take_while(|&(time_ns, _)| time_ns < self.until_ns).unzip();
        Past {
            times_ns,
            units,
            origin_ns: self.origin_ns,
        }
    }
}

/// The sources of a run, and what is known of all their units together.
pub struct BuiltSources {
    /// The sources.
    pub sources: Vec<Box<dyn Source>>,
    /// What a model has to know of them.
    pub facts: SourceFacts,
    /// What reading a recording changed or left out, and what is assumed.
    pub notes: Vec<String>,
    /// Where recent history begins; at the mean rates without it.
    pub before: Option<Before>,
}

/// What a model has to know of a run's sources.
#[derive(Clone, Debug, Default)]
pub struct SourceFacts {
    /// Their names.
    pub name: String,
    /// Their units, one source's after another's.
    pub unit_ids: Vec<String>,
    /// ln of each unit's mean count a bin.
    pub mean_log_rates: Vec<f64>,
    /// What the means were taken over, for people.
    pub means_from: String,
    /// Whether what computes identities beside the run goes in step with it: where no time passes but that of the spikes.
    pub in_step: bool,
    /// When a recording's units were observed, ascending; empty where there is no recording.
    pub observed: Vec<Interval>,
    /// Whether spikes come from devices, whose rates nobody knows before the run.
    pub are_devices: bool,
}

impl BuiltSources {
    /// Sources side by side.
    ///
    /// # Errors
    /// A unit's id that two of them have.
    pub fn new(built: Vec<BuiltSource>) -> Result<Self, CliError> {
        let mut owners: HashMap<&str, &str> = HashMap::new();
        for one in &built {
            for id in one.source.unit_ids() {
                if let Some(first) = owners.insert(id, one.source.name()).filter(|_| built.len() > 1) {
                    let second = one.source.name();
                    return Err(CliError::Config(format!(
                        "unit {id:?} is one of {first} and one of {second}: give one of them a unit_prefix"
                    )));
                }
            }
        }
        let names: Vec<&str> = built.iter().map(|one| one.source.name()).collect();
        let mut facts = SourceFacts {
            name: names.join(" + "),
            unit_ids: built.iter().flat_map(|one| one.source.unit_ids()).cloned().collect(),
            in_step: built.iter().all(|one| one.source.pace() == Pace::AsFast),
            are_devices: built.iter().any(|one| one.source.wire_counters().is_some()),
            ..SourceFacts::default()
        };
        let (mut sources, mut notes, mut before) = (Vec::new(), Vec::new(), None);
        for one in built {
            // A recording stands alone.
            (before, facts.observed) = (one.before, one.observed);
            sources.push(one.source);
            facts.mean_log_rates.extend(one.mean_log_rates);
            if !facts.means_from.contains(&one.means_from) {
                let and = if facts.means_from.is_empty() { "" } else { " and " };
                facts.means_from += &format!("{and}{}", one.means_from);
            }
            notes.extend(one.notes);
        }
        Ok(Self {
            sources,
            facts,
            notes,
            before,
        })
    }

    /// How much of what is replayed the units were not observed in, s; 0 where there is no recording.
    pub fn unobserved_s(&self) -> f64 {
        let (Some(end_ns), Some(source)) = (end_ns(&self.sources), self.sources.first()) else {
            return 0.0;
        };
        if self.facts.observed.is_empty() {
            return 0.0;
        }
        let run = Interval {
            start_ns: source.start_ns(),
            end_ns,
        };
        (run.duration_ns() - run.part_in_ns(&self.facts.observed)) as f64 * 1e-9
    }

    /// How long they run, ns of device time, where that is known beforehand.
    pub fn length_ns(&self) -> Option<i64> {
        Some(end_ns(&self.sources)? - self.sources.first()?.start_ns())
    }
}

/// Device time, ns, at which the last of the sources ends, where all of them know it.
pub fn end_ns(sources: &[Box<dyn Source>]) -> Option<i64> {
    let ends: Option<Vec<i64>> = sources.iter().map(|source| source.end_ns()).collect();
    ends?.into_iter().max()
}

/// The sources that the configuration asks for.
///
/// # Errors
/// Where there is none, or one cannot be used.
pub fn build_sources(file: &RunFile, bin_ns: i64, conditions: &[ConditionConfig]) -> Result<BuiltSources, CliError> {
    let built = if let Some(replay) = &file.replay {
        let wanted = |name: &str| conditions.iter().any(|condition| condition.series == name);
        vec![build_replay(replay, bin_ns, wanted)?]
    } else if let Some(simulate) = &file.simulate {
        vec![build_simulation(simulate, bin_ns)?]
    } else {
        build_devices(file, bin_ns)?
    };
    if built.is_empty() {
        return Err(CliError::Config("there is no source of spikes".into()));
    }
    BuiltSources::new(built)
}

/// The part of a recording to replay, device ns, on the grid of bins that starts at its first spike.
fn replay_interval(recording: &Recording, section: &ReplaySection, bin_ns: i64) -> Result<(i64, i64), CliError> {
    let from = section.from.unwrap_or(Position::Fraction(0.0));
    let to = section.to.unwrap_or(Position::Fraction(1.0));
    let (start_ns, end_ns) = recording.grid_interval(from, to, bin_ns)?;
    Ok(match section.duration_s {
        Some(duration) => (start_ns, end_ns.min(start_ns + s_to_ns("replay.duration_s", duration)?)),
        None => (start_ns, end_ns),
    })
}

/// The recording's series that are wanted beside the spikes.
fn replayed_series(recording: &mut Recording, known: impl Fn(&str) -> bool) -> Vec<RecordedSeries> {
    let series = std::mem::take(&mut recording.behaviour).into_iter();
    let known = series.filter(|series| known(&series.name));
    known
        .map(|series| RecordedSeries {
            series: SampledSeries {
                name: series.name,
                unit: series.unit,
                channels: series.channels,
            },
            times_ns: series.times_ns.into(),
            values: series.values.into(),
        })
        .collect()
}

/// A replay of a recording, with the mean rates of what comes before its start (or, where nothing does, of the part
/// that is replayed). Its series whose names are `wanted` are replayed too.
///
/// # Errors
/// Where the recording cannot be read or the interval holds nothing.
pub fn build_replay(
    section: &ReplaySection,
    bin_ns: i64,
    wanted: impl Fn(&str) -> bool,
) -> Result<BuiltSource, CliError> {
    let mut recording = Recording::load(&section.recording)?;
    let series = replayed_series(&mut recording, wanted);
    let (start_ns, end_ns) = replay_interval(&recording, section, bin_ns)?;
    let tick_ns = ms_to_ns("replay.tick_ms", section.tick_ms, 0.01)?;
    let first_ns = recording.grid_origin_ns().unwrap_or(start_ns);
    let (mean_from, mean_to) = if start_ns - first_ns >= bin_ns {
        (first_ns, start_ns)
    } else {
        (start_ns, end_ns)
    };
    let mean_log_rates = mean_log_rates(
        &recording.spike_times_ns,
        &recording.spike_units,
        recording.unit_ids.len(),
        mean_from,
        mean_to,
        bin_ns,
    );
    let seconds = |ns: i64| (ns - first_ns) as f64 * 1e-9;
    let means_from = format!(
        "{:.2} s to {:.2} s of {}",
        seconds(mean_from),
        seconds(mean_to),
        recording.name
    );
    let spikes = RecordedSpikes {
        times_ns: recording.spike_times_ns.into(),
        units: recording.spike_units.into(),
        unit_ids: recording.unit_ids.into(),
    };
    let before = BeforeReplay {
        spikes: spikes.clone(),
        origin_ns: first_ns,
        until_ns: start_ns,
    };
    let source = Replay::new(&recording.name, spikes, start_ns, end_ns, section.speed.0, tick_ns)?;
    Ok(BuiltSource {
        source: Box::new(source.with_series(series)?),
        mean_log_rates,
        means_from,
        notes: recording.notes,
        before: Some(Before::Recorded(before)),
        observed: recording.intervals,
    })
}

/// The simulated population, at its beginning.
///
/// # Errors
/// Where there are no units, or too many.
pub fn population(section: &SimulateSection) -> Result<Population, CliError> {
    let config = SimulationConfig {
        n_units: section.units,
        ..SimulationConfig::default()
    };
    Ok(Population::new(config, section.seed)?)
}

/// The simulated population as a source; its mean rates are those of its first seconds, which the run leaves out.
///
/// # Errors
/// Where a number of the configuration is out of its range.
pub fn build_simulation(section: &SimulateSection, bin_ns: i64) -> Result<BuiltSource, CliError> {
    let tick_ns = ms_to_ns("simulate.tick_ms", section.tick_ms, 0.01)?;
    if tick_ns % STEP_NS != 0 {
        let tick_ms = section.tick_ms;
        return Err(CliError::Config(format!(
            "simulate.tick_ms = {tick_ms} is not a whole number of ms"
        )));
    }
    let fit_ns = s_to_ns("simulate.fit_s", section.fit_s)? / bin_ns * bin_ns;
    let duration_ns = s_to_ns("simulate.duration_s", section.duration_s)?;
    if fit_ns == 0 || duration_ns == 0 {
        return Err(CliError::Config(
            "simulate.fit_s and simulate.duration_s must be above 0".into(),
        ));
    }
    let mut population = population(section)?;
    let (mut times, mut units) = (Vec::new(), Vec::new());
    population.advance_to(fit_ns, &mut |time, unit| {
        times.push(time);
        units.push(unit);
    });
    let mean_log_rates = mean_log_rates(&times, &units, population.n_units(), 0, fit_ns, bin_ns);
    let source = Simulated::new(population, fit_ns, fit_ns + duration_ns, section.speed.0, tick_ns);
    let means_from = format!("the first {} s of the simulation", section.fit_s);
    Ok(BuiltSource {
        source: Box::new(source),
        mean_log_rates,
        means_from,
        notes: Vec::new(),
        before: None,
        observed: Vec::new(),
    })
}
