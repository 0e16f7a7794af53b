//! What `neurohorizon eval` compares models on: units, windows, and what baselines are fitted on.

use std::path::{Path, PathBuf};

use super::calibrate::reference_interval;
use super::eval::EvalArgs;
use super::CliError;
use crate::data::{Interval, Position, Recording};
use crate::evaluate::baseline::{FitData, FitPart, Source};
use crate::evaluate::conditions::{conditions_of, notes_on_samples, SeriesError};
use crate::evaluate::forward::Inputs;
use crate::evaluate::predictions::{Observed, Predictions};
use crate::evaluate::truth::{self, TRUE_RATES};
use crate::hash::fnv1a;
use crate::model::checkpoint::Checkpoint;
use crate::model::config::ModelConfig;
use crate::model::factors::network_hash;
use crate::model::identity::{identified, reference_of};
use crate::model::traces::{TraceReader, Traces};
use crate::model::window::{Spikes, WindowShape};
use crate::model::{build, Inference, UnitMatch};
use crate::pipeline::predictor::mean_log_rates;
use crate::train::config::Part;

/// Bins that baselines predict at most.
const MOST_BINS: usize = 10_000;

/// Spikes numbered within the scored units.
#[derive(Debug, Clone, Default)]
pub struct OwnedSpikes {
    times_ns: Vec<i64>,
    units: Vec<u32>,
}

impl OwnedSpikes {
    /// Borrowed, as models take them.
    pub fn as_spikes(&self) -> Spikes<'_> {
        Spikes {
            times_ns: &self.times_ns,
            units: &self.units,
        }
    }
}

/// A recording that baselines are fitted on.
struct FitRecording {
    spikes: OwnedSpikes,
    observed: Vec<Interval>,
    interval_ns: (i64, i64),
}

/// A file and a hash of its contents (64-bit FNV-1a).
#[derive(Debug, Clone, serde::Serialize)]
pub struct FileIdentity {
    /// As it was named.
    pub path: String,
    /// 16 hexadecimal digits.
    pub hash: String,
}

impl FileIdentity {
    /// Reads the file.
    ///
    /// # Errors
    /// Where it cannot be read.
    pub fn of(path: &Path) -> Result<Self, CliError> {
        let name = path.display().to_string();
        let bytes = std::fs::read(path).map_err(|source| CliError::System {
            what: format!("cannot read {name}"),
            source,
        })?;
        Ok(FileIdentity {
            hash: format!("{:016x}", fnv1a(&bytes)),
            path: name,
        })
    }
}

/// Units, windows, spikes.
pub struct Setup {
    pub recording: Recording,
    pub unit_ids: Vec<String>,
    /// Of the recording's units, those that are not scored.
    pub unscored_units: usize,
    pub spikes: OwnedSpikes,
    pub observed: Observed,
    /// First spike of the recording; positions count from it.
    pub origin_ns: i64,
    pub interval_ns: (i64, i64),
    /// Indices into `unit_ids`, ascending.
    pub held_out: Vec<usize>,
    /// The checkpoint as it is used here, and the rows of its units.
    pub of_checkpoint: Option<(Checkpoint, Vec<usize>)>,
    pub network: Option<Box<dyn Inference>>,
    /// See [`network_hash`].
    pub network_hash: u64,
    /// At the mean; for a network with the path of recent history.
    pub traces: Option<Traces>,
    pub backend: String,
    /// What the null model's rates are the means of.
    pub null: &'static str,
    pub checkpoint_file: Option<FileIdentity>,
    pub recording_file: FileIdentity,
    pub fit_files: Vec<FileIdentity>,
    /// What reading the recording changed, and windows in time that was not observed.
    pub notes: Vec<String>,
    fit: Vec<FitRecording>,
}

impl Setup {
    /// Reads the files that the arguments name.
    pub fn new(args: &EvalArgs) -> Result<Self, CliError> {
        let mut checkpoint = args.checkpoint().map(|path| Checkpoint::load(path)).transpose()?;
        let recording = Recording::load(args.recording())?;
        let mut made_of = None;
        if let (Some(checkpoint), Some(Part(span))) = (&mut checkpoint, args.identify) {
            let interval = reference_interval(checkpoint, &recording, span.from, span.to)?;
            made_of = Some(interval);
            let reference = reference_of(checkpoint, &recording, interval)?;
            *checkpoint = identified(checkpoint, &reference, &recording.name, &recording.unit_ids)?;
        }
        let units = Units::new(args, checkpoint.as_ref(), &recording)?;
        let network = match (&checkpoint, &units.matched) {
            (Some(checkpoint), Some(matched)) => {
                let mut options = args.compute.options()?;
                options.bins = args.horizon_bins;
                Some(build(checkpoint, &matched.rows, &options)?)
            }
            _ => None,
        };
        let shape = match &network {
            Some(network) => WindowShape::new(network.config(), network.plan().bins),
            None => shape_without_network(args)?,
        };

        let interval_ns = recording.grid_interval(args.from, args.to, shape.bin_ns)?;
        let origin_ns = recording.grid_origin_ns().unwrap_or(interval_ns.0);
        if let Some(reference) = made_of {
            check_apart(reference, interval_ns, origin_ns, shape.bin_ns)?;
        }
        let spikes = units.spikes_of(&recording);
        let fit = fit_recordings(args, &recording, &units, (origin_ns, interval_ns.0), shape.bin_ns)?;

        let n = units.ids.len();
        let matched = checkpoint.as_ref().zip(units.matched.as_ref());
        let traces = matched.and_then(|(checkpoint, matched)| matched.traces(checkpoint));
        let rates = checkpoint.as_ref().zip(units.matched.as_ref());
        let rates = rates.map(|(checkpoint, matched)| matched.null_log_rates(checkpoint));
        let (null_log_rates, null) = match rates {
            Some(Some(rates)) => {
                let null = if args.identify.is_some() {
                    "reference"
                } else {
                    "checkpoint"
                };
                (rates.into_iter().map(f64::from).collect(), null)
            }
            Some(None) => {
                let (times, units) = (&spikes.times_ns, &spikes.units);
                let rates = mean_log_rates(times, units, n, origin_ns, interval_ns.0, shape.bin_ns);
                (rates, "recording before the interval")
            }
            None => {
                let parts: Vec<FitPart<'_>> = fit.iter().map(FitRecording::part).collect();
                let mean = fit_data(&parts, n, shape)?.mean().to_vec();
                let log = |mean: &f32| f64::from(*mean).ln().clamp(-10.0, 10.0);
                (mean.iter().map(log).collect(), "fit interval")
            }
        };
        let stride = args.stride_bins.unwrap_or(shape.bins);
        let mut observed = Observed::new(spikes.as_spikes(), shape, interval_ns, stride, null_log_rates);
        if observed.windows() == 0 {
            return Err(CliError::Config(format!(
                "the interval is {:.3} s long, and a window of history and horizon takes {:.3} s",
                (interval_ns.1 - interval_ns.0) as f64 * 1e-9,
                (shape.history_ns + shape.horizon_ns) as f64 * 1e-9
            )));
        }
        if observed.spikes() == 0 {
            return Err(CliError::Config(
                "the interval holds no spike of these units in any predicted bin: there is nothing to score".into(),
            ));
        }
        if let (Some((checkpoint, matched)), false) = (matched, args.trust_units || args.identify.is_some()) {
            let (times, units) = (&spikes.times_ns, &spikes.units);
            let rates = mean_log_rates(times, units, n, interval_ns.0, interval_ns.1, shape.bin_ns);
            matched.check_rates(checkpoint, &rates)?;
        }
        let was_observed = |start: i64| {
            let from = start + shape.history_ns;
            recording.is_observed(from, from + shape.horizon_ns)
        };
        let unobserved = observed.starts_ns.iter().filter(|&&start| !was_observed(start)).count();
        if args.observed_only {
            observed.retain(was_observed);
        }
        if observed.windows() == 0 {
            let what = "--observed-only leaves no window: every horizon reaches into time that was not observed";
            return Err(CliError::Config(what.to_string()));
        }
        let mut notes = notes(&recording, unobserved, args.observed_only);
        notes.extend(
            checkpoint
                .iter()
                .flat_map(|known| notes_on_samples(&known.config, &recording)),
        );
        let conditions = checkpoint.iter().flat_map(|checkpoint| &checkpoint.config.conditions);
        let missing = conditions.filter(|condition| recording.series(&condition.series).is_none());
        notes.extend(missing.map(|condition| {
            format!(
                "the recording has no series {:?}, which the network may see: predicted without it",
                condition.series
            )
        }));
        let held_out = args.held_out_units.as_ref();
        let held_out = held_out
            .map(|held_out| held_out.select(&units.ids, args.seed))
            .transpose()?;
        Ok(Setup {
            unscored_units: recording.n_units() - n,
            unit_ids: units.ids,
            spikes,
            observed,
            origin_ns,
            interval_ns,
            held_out: held_out.unwrap_or_default(),
            backend: network.as_ref().map_or(String::new(), |network| network.describe()),
            network,
            network_hash: checkpoint.as_ref().map_or(0, network_hash),
            traces,
            null,
            of_checkpoint: checkpoint.clone().zip(units.matched.map(|matched| matched.rows)),
            checkpoint_file: checkpoint
                .as_ref()
                .zip(args.checkpoint())
                .map(|(checkpoint, path)| FileIdentity {
                    path: path.display().to_string(),
                    hash: format!("{:016x}", checkpoint.hash),
                }),
            recording_file: FileIdentity::of(args.recording())?,
            fit_files: args
                .fit
                .fit_on
                .iter()
                .map(|path| FileIdentity::of(path))
                .collect::<Result<_, _>>()?,
            notes,
            recording,
            fit,
        })
    }

    /// The recording as baselines see it.
    pub fn source(&self) -> Source<'_> {
        Source {
            spikes: self.spikes.as_spikes(),
            observed: &self.recording.intervals,
        }
    }

    /// What baselines are fitted on.
    pub fn fit_parts(&self) -> Vec<FitPart<'_>> {
        self.fit.iter().map(FitRecording::part).collect()
    }

    /// The same, binned.
    ///
    /// # Errors
    /// If no window fits.
    pub fn fit_data(&self) -> Result<FitData, CliError> {
        fit_data(&self.fit_parts(), self.unit_ids.len(), self.observed.shape)
    }

    /// The true rates, where the recording brings those of all of its units.
    pub fn true_rates(&self) -> Option<Predictions> {
        let series = self
            .recording
            .behaviour
            .iter()
            .find(|series| series.name == TRUE_RATES)?;
        let channel = |id: &String| self.recording.unit_index(id);
        let channels: Option<Vec<usize>> = self.unit_ids.iter().map(channel).collect();
        let channels = channels.filter(|_| series.channels == self.recording.n_units())?;
        Some(truth::predictions(series, &channels, &self.observed))
    }

    /// Traces that follow the recording from its beginning; those of `hidden` units stay at the mean.
    fn trace_reader(&self, hidden: Vec<bool>) -> Option<TraceReader<'_>> {
        let (traces, bin_ns) = (self.traces.clone()?, self.observed.shape.bin_ns);
        let reader = TraceReader::new(traces, self.origin_ns, bin_ns, &self.recording.intervals);
        Some(reader.hiding(hidden))
    }

    /// What the network is shown of these spikes, and of the recording's other series; the traces of `hidden` units stay at
    /// the mean.
    ///
    /// # Errors
    /// A series that is not what the network learned from.
    pub fn inputs<'a>(
        &'a self,
        config: &ModelConfig,
        spikes: Spikes<'a>,
        hidden: Vec<bool>,
    ) -> Result<Inputs<'a>, SeriesError> {
        Ok(Inputs {
            spikes,
            spike_tokens: true,
            traces: self.trace_reader(hidden),
            conditions: conditions_of(config, &self.recording)?,
        })
    }

    /// Whether each unit is held out.
    pub fn hidden(&self) -> Vec<bool> {
        (0..self.unit_ids.len())
            .map(|unit| self.held_out.binary_search(&unit).is_ok())
            .collect()
    }

    /// The spikes of the units that are not held out.
    pub fn spikes_shown(&self) -> OwnedSpikes {
        let hidden = self.hidden();
        let all = self.spikes.times_ns.iter().zip(&self.spikes.units);
        let (times_ns, units) = all.filter(|(_, &unit)| !hidden[unit as usize]).unzip();
        OwnedSpikes { times_ns, units }
    }

    /// Seconds from the first spike.
    pub fn seconds(&self, time_ns: i64) -> f64 {
        (time_ns - self.origin_ns) as f64 * 1e-9
    }

    /// Intervals that baselines are fitted on, seconds from the first spike of their recording; whole ones with `fit_on`.
    pub fn fit_intervals_s(&self) -> Vec<[f64; 2]> {
        let whole = !self.fit_files.is_empty();
        let origin = |part: &FitRecording| if whole { part.interval_ns.0 } else { self.origin_ns };
        let seconds = |part: &FitRecording| {
            [part.interval_ns.0, part.interval_ns.1].map(|time| (time - origin(part)) as f64 * 1e-9)
        };
        self.fit.iter().map(seconds).collect()
    }
}

impl FitRecording {
    fn part(&self) -> FitPart<'_> {
        FitPart {
            source: Source {
                spikes: self.spikes.as_spikes(),
                observed: &self.observed,
            },
            interval_ns: self.interval_ns,
        }
    }
}

/// The scored units: those that the checkpoint knows, or those that fire often enough.
struct Units {
    ids: Vec<String>,
    matched: Option<UnitMatch>,
}

impl Units {
    fn new(args: &EvalArgs, checkpoint: Option<&Checkpoint>, recording: &Recording) -> Result<Self, CliError> {
        if let Some(checkpoint) = checkpoint {
            let matched = UnitMatch::new(checkpoint, &recording.unit_ids, args.session.as_deref())?;
            return Ok(Units {
                ids: matched.ids.clone(),
                matched: Some(matched),
            });
        }
        let least = args.fit.min_rate_hz.unwrap_or(0.0);
        let ids = recording.units_at_or_above(least);
        if ids.is_empty() {
            let what = format!("no unit of {} fires at {least} Hz or more", recording.name);
            return Err(CliError::Config(what));
        }
        Ok(Units { ids, matched: None })
    }

    /// A recording's spikes of these units; units are told by their ids.
    fn spikes_of(&self, recording: &Recording) -> OwnedSpikes {
        let numbers: std::collections::HashMap<&str, u32> = self
            .ids
            .iter()
            .zip(0..)
            .map(|(id, number)| (id.as_str(), number))
            .collect();
        let number = |id: &String| numbers.get(id.as_str()).copied();
        let model_unit: Vec<Option<u32>> = recording.unit_ids.iter().map(number).collect();
        let (times_ns, units) = recording.spikes_of(&model_unit);
        OwnedSpikes { times_ns, units }
    }
}

/// Nothing that is scored may be what identities were made of.
fn check_apart(reference: Interval, scored_ns: (i64, i64), origin_ns: i64, bin_ns: i64) -> Result<(), CliError> {
    let scored = Interval {
        start_ns: scored_ns.0,
        end_ns: scored_ns.1,
    };
    if reference.intersection(&scored).is_none() {
        return Ok(());
    }
    let seconds = |time_ns: i64| (time_ns - origin_ns) as f64 * 1e-9;
    // The next bin's: an interval begins where one does.
    let bins = (reference.end_ns - origin_ns + bin_ns - 1) / bin_ns;
    Err(CliError::Config(format!(
        "scoring {:.3} to {:.3} s would score what identities were made of (--identify, {:.3} to {:.3} s): with it, --from is {}s at the \
         earliest",
        seconds(scored.start_ns),
        seconds(scored.end_ns),
        seconds(reference.start_ns),
        seconds(reference.end_ns),
        (bins * bin_ns) as f64 / 1e9
    )))
}

fn shape_without_network(args: &EvalArgs) -> Result<WindowShape, CliError> {
    let ns = |ms: f64| (ms * 1e6).round() as i64;
    let bin_ns = ns(args.fit.bin_ms.unwrap_or(20.0));
    let bins = args.horizon_bins.unwrap_or(12);
    if !(1..=MOST_BINS).contains(&bins) {
        let what = format!("--bins is {bins}, and a horizon has 1 to {MOST_BINS}");
        return Err(CliError::Config(what));
    }
    Ok(WindowShape {
        history_ns: ns(args.fit.history_ms.unwrap_or(500.0)),
        bin_ns,
        bins,
        horizon_ns: bin_ns * bins as i64,
    })
}

fn fit_recordings(
    args: &EvalArgs,
    recording: &Recording,
    units: &Units,
    before_ns: (i64, i64),
    bin_ns: i64,
) -> Result<Vec<FitRecording>, CliError> {
    if args.fit.fit_on.is_empty() {
        let interval_ns = match (args.fit.fit_from, args.fit.fit_to) {
            (None, None) => before_ns,
            (from, to) => {
                let start = from.unwrap_or(Position::Fraction(0.0));
                let end = to.unwrap_or(Position::Seconds((before_ns.1 - before_ns.0) as f64 * 1e-9));
                recording.grid_interval(start, end, bin_ns)?
            }
        };
        return Ok(vec![FitRecording {
            spikes: units.spikes_of(recording),
            observed: recording.intervals.clone(),
            interval_ns,
        }]);
    }
    let read = |path: &PathBuf| {
        let recording = Recording::load(path)?;
        Ok(FitRecording {
            spikes: units.spikes_of(&recording),
            interval_ns: (recording.start_ns, recording.end_ns),
            observed: recording.intervals,
        })
    };
    args.fit.fit_on.iter().map(read).collect()
}

fn fit_data(parts: &[FitPart<'_>], units: usize, shape: WindowShape) -> Result<FitData, CliError> {
    let fit = FitData::new(parts, units, shape);
    if (0..fit.parts()).all(|part| fit.places(part).is_empty()) {
        return Err(CliError::Config(
            "baselines have nothing to be fitted on: no horizon lies within the observed part of the recording before the \
             scored interval, or of what --fit-from, --fit-to and --fit-on name"
                .to_string(),
        ));
    }
    Ok(fit)
}

fn notes(recording: &Recording, unobserved: usize, left_out: bool) -> Vec<String> {
    let mut notes = recording.notes.clone();
    if unobserved > 0 {
        let what = match left_out {
            true => "left out",
            false => "counted as silence; --observed-only leaves them out",
        };
        notes.push(format!(
            "{unobserved} windows predict time in which the units were not observed: {what}"
        ));
    }
    notes
}
