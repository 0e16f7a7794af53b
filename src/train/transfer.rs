//! What can be made of the first seconds of a session that a network never saw: identities in one pass, simple models fitted
//! on them, and fine-tuning, all scored on the same later windows.
//!
//! Whatever is made of the first S seconds is made of a recording that ends there, so that nothing which is scored can be
//! learned from.

use kernels::BackendError;
use serde::Serialize;
use thiserror::Error;

use super::config::Only;
use super::few_shot::{parts_of, Choice, FewShot, FewShotOptions};
use super::sampler::Span;
use super::TrainError;
use crate::data::{DataError, Interval, Position, Recording};
use crate::evaluate::baseline::{FitData, FitPart, Glm, GlmOptions, Persistence, Recent, Source};
use crate::evaluate::conditions::{conditions_of, notes_on_samples, SeriesError};
use crate::evaluate::forward::Inputs;
use crate::evaluate::predictions::{of_network, Observed, Predictions};
use crate::evaluate::transfer::{Comparison, Transfer};
use crate::evaluate::truth::{self, TRUE_RATES};
use crate::model::checkpoint::Checkpoint;
use crate::model::identity::{identified, reference_of, set_refine, without_encoder, IdentityError};
use crate::model::network::LOG_RATE_LIMIT;
use crate::model::traces::TraceReader;
use crate::model::window::{Spikes, WindowShape};
use crate::model::{build, BuildError, BuildOptions, UnitMatch};

/// Identities of one pass, without a gradient. The first row is what the checkpoint makes of identities, this or the next.
pub const ONE_PASS: &str = "identities, one pass";
/// Identities that are refined.
pub const REFINED: &str = "identities, refined";
/// Each unit's mean rate in the seconds.
pub const MEAN_RATE: &str = "mean rate";
/// An exponential average of the recent past.
pub const RECENT_AVERAGE: &str = "recent average";
/// A Poisson regression fitted on the seconds.
pub const GLM: &str = "GLM";
/// Identities as weights that go on learning.
pub const TUNED_EMBEDDINGS: &str = "fine-tuned embeddings";
/// All weights go on learning.
pub const TUNED_ALL: &str = "fine-tuned, all weights";

/// Why there is no comparison; each is one sentence.
#[derive(Debug, Error)]
pub enum TransferError {
    /// What was asked for cannot be.
    #[error("{0}")]
    Asked(String),
    /// A recording that lacks a part.
    #[error(transparent)]
    Recording(#[from] DataError),
    /// No identities.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// A network that cannot be built.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// A device that failed.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// A series that is not what a network learned from.
    #[error(transparent)]
    Series(#[from] SeriesError),
    /// Fine-tuning from so many seconds.
    #[error("fine-tuning on {seconds} s: {source}")]
    Tuning {
        /// The seconds.
        seconds: f64,
        /// What was wrong.
        source: TrainError,
    },
}

/// A network that knows the session.
#[derive(Debug, Clone)]
pub struct Upper {
    /// As reports call it.
    pub name: String,
    /// The network.
    pub checkpoint: Checkpoint,
    /// Which of its sessions, where it knows several.
    pub session: Option<String>,
}

/// What is compared.
#[derive(Debug, Clone)]
pub struct TransferOptions {
    /// Seconds of the session's beginning, ascending.
    pub seconds: Vec<f64>,
    /// Where scoring begins: not before the longest of these has ended.
    pub from: Position,
    /// Where it ends.
    pub to: Position,
    /// Leaves out windows that predict time in which the units were not observed.
    pub observed_only: bool,
    /// Resamples for the intervals.
    pub bootstrap: usize,
    /// Seed of the resamples, the windows that the regression is fitted on, and fine-tuning.
    pub seed: u64,
    /// How fine-tuning is tried; none without it.
    pub few_shot: Option<FewShotOptions>,
    /// What computes.
    pub build: BuildOptions,
}

/// What is being done, for people.
#[derive(Debug, Clone, PartialEq)]
pub enum Doing {
    /// Something begins: what, and how many steps it has at most.
    Begins(String, u64),
    /// A step of it is done.
    Step,
}

/// What fine-tuning chose.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Tuned {
    /// The row.
    pub name: &'static str,
    /// Of the first so many seconds.
    pub seconds: f64,
    /// What was chosen.
    #[serde(flatten)]
    pub choice: Choice,
}

/// Everything that was found.
#[derive(Debug, Clone)]
pub struct Found {
    /// The figures.
    pub transfer: Transfer,
    /// What fine-tuning chose.
    pub tuned: Vec<Tuned>,
    /// What was scored: start and end, s from the origin of the recording's grid.
    pub interval_s: [f64; 2],
    /// Windows, spikes, units and bins.
    pub observed: Observed,
    /// What a reader should know beside the figures.
    pub notes: Vec<String>,
}

/// For how many of a recording's first seconds its units were observed.
fn observed_within(recording: &Recording, seconds: f64) -> f64 {
    let start_ns = recording.grid_origin_ns().unwrap_or(recording.start_ns);
    let first = Interval {
        start_ns,
        end_ns: start_ns + (seconds * 1e9).round() as i64,
    };
    first.part_in_ns(&recording.intervals) as f64 * 1e-9
}

/// Compares on a recording of the session. `other` is a recording of another session that the network never saw, on whose
/// scored part the steps of fine-tuning are chosen; without it they are chosen on the end of the same seconds.
///
/// # Errors
/// [`TransferError`].
pub fn transfer(
    checkpoint: &Checkpoint,
    recording: &Recording,
    uppers: &[Upper],
    other: Option<&Recording>,
    options: &TransferOptions,
    doing: &mut dyn FnMut(Doing),
) -> Result<Found, TransferError> {
    let shape = WindowShape::new(&checkpoint.config, checkpoint.config.bins());
    let session = Session::new(checkpoint, recording, options, shape)?;
    if other.is_some_and(|other| other.spike_times_ns == recording.spike_times_ns) {
        return Err(TransferError::Asked(format!(
            "{}: fine-tuning cannot be chosen on what is scored; --tune-on takes a recording of another session",
            recording.name
        )));
    }
    let longest = session.first(*options.seconds.last().unwrap_or(&0.0))?;
    let null = log_means(&session.fit_data(&longest))
        .into_iter()
        .map(f64::from)
        .collect();
    let mut observed = Observed::new(session.spikes(), shape, session.interval_ns, shape.bins, null);
    let was_observed = |start: i64| {
        let from = start + shape.history_ns;
        recording.is_observed(from, from + shape.horizon_ns)
    };
    let unobserved = observed.starts_ns.iter().filter(|&&start| !was_observed(start)).count();
    if options.observed_only {
        observed.retain(was_observed);
    }
    if observed.windows() == 0 || observed.spikes() == 0 {
        return Err(TransferError::Asked(format!(
            "{}: there is nothing to score, no window of {:.3} s or no spike in any predicted bin",
            recording.name,
            (shape.history_ns + shape.horizon_ns) as f64 * 1e-9
        )));
    }
    let mut notes = recording.notes.clone();
    notes.extend(notes_on_samples(&checkpoint.config, recording));
    if unobserved > 0 {
        notes.push(format!(
            "{unobserved} windows predict time in which the units were not observed: {}",
            match options.observed_only {
                true => "left out",
                false => "counted as silence; --observed-only leaves them out",
            }
        ));
    }

    // Before anything that takes long.
    for upper in uppers {
        let units = session.known_to(&upper.checkpoint, upper.session.as_deref())?;
        units.check_rates(&upper.checkpoint, &mean_log_rates(&observed))?;
    }

    let observed_s = options
        .seconds
        .iter()
        .map(|&seconds| observed_within(recording, seconds));
    let mut comparison = Comparison::new(observed, options.seconds.clone(), observed_s.collect());
    let mut tuned = Vec::new();
    for &seconds in &options.seconds {
        session.identities(seconds, &mut comparison, doing)?;
        session.simple_models(seconds, &mut comparison, doing)?;
        if let Some(few_shot) = &options.few_shot {
            session.fine_tuned(seconds, few_shot, other, &mut comparison, &mut tuned, doing)?;
        }
    }
    for upper in uppers {
        let name = format!("upper bound, {}", upper.name);
        doing(Doing::Begins(name.clone(), 0));
        let predictions = session.predicted(&upper.checkpoint, upper.session.as_deref(), &comparison)?;
        comparison.add_fixed(&name, &predictions, "trained on this session");
    }
    if let Some(truth) = session.true_rates(&comparison) {
        comparison.add_fixed("true rates", &truth, "of the recording");
    }
    let origin_ns = session.origin_ns;
    Ok(Found {
        transfer: comparison.figures(options.bootstrap, options.seed),
        tuned,
        interval_s: [session.interval_ns.0, session.interval_ns.1].map(|ns| (ns - origin_ns) as f64 / 1e9),
        observed: comparison.observed().clone(),
        notes,
    })
}

/// The session that the network never saw.
struct Session<'a> {
    checkpoint: &'a Checkpoint,
    recording: &'a Recording,
    options: &'a TransferOptions,
    shape: WindowShape,
    origin_ns: i64,
    interval_ns: (i64, i64),
}

impl<'a> Session<'a> {
    fn new(
        checkpoint: &'a Checkpoint,
        recording: &'a Recording,
        options: &'a TransferOptions,
        shape: WindowShape,
    ) -> Result<Self, TransferError> {
        if checkpoint.config.identity.is_none() {
            return Err(IdentityError::NoEncoder.into());
        }
        let ascending = options.seconds.windows(2).all(|pair| pair[0] < pair[1]);
        let positive = options
            .seconds
            .iter()
            .all(|&seconds| seconds.is_finite() && seconds > 0.0);
        let Some(&longest) = options.seconds.last().filter(|_| ascending && positive) else {
            return Err(TransferError::Asked(format!(
                "--seconds is {:?}, expected numbers above 0 that ascend",
                options.seconds
            )));
        };
        let interval_ns = recording.grid_interval(options.from, options.to, shape.bin_ns)?;
        let origin_ns = recording.grid_origin_ns().unwrap_or(interval_ns.0);
        if interval_ns.0 < origin_ns + ns(longest) {
            return Err(TransferError::Asked(format!(
                "scoring from {} s on would score what models were made of: --seconds goes up to {longest} s, so that --from \
                 is {longest}s at the earliest",
                (interval_ns.0 - origin_ns) as f64 * 1e-9
            )));
        }
        Ok(Session {
            checkpoint,
            recording,
            options,
            shape,
            origin_ns,
            interval_ns,
        })
    }

    fn spikes(&self) -> Spikes<'a> {
        Spikes {
            times_ns: &self.recording.spike_times_ns,
            units: &self.recording.spike_units,
        }
    }

    /// A recording that ends after the first `seconds`.
    fn first(&self, seconds: f64) -> Result<Recording, TransferError> {
        beginning(self.recording, seconds)
    }

    /// A beginning as simple models are fitted on it.
    fn fit_part<'p>(&self, part: &'p Recording) -> FitPart<'p> {
        FitPart {
            source: Source {
                spikes: Spikes {
                    times_ns: &part.spike_times_ns,
                    units: &part.spike_units,
                },
                observed: &part.intervals,
            },
            interval_ns: (self.origin_ns, part.end_ns),
        }
    }

    fn fit_data(&self, part: &Recording) -> FitData {
        FitData::new(&[self.fit_part(part)], part.n_units(), self.shape).with_one_more_spike()
    }

    fn identities(
        &self,
        seconds: f64,
        comparison: &mut Comparison,
        doing: &mut dyn FnMut(Doing),
    ) -> Result<(), TransferError> {
        doing(Doing::Begins(format!("{seconds} s: identities"), 0));
        let part = self.first(seconds)?;
        let mut add = |name, checkpoint: &Checkpoint| {
            let known = known_by(checkpoint, &part)?;
            let predictions = self.predicted(&known, None, comparison)?;
            comparison.add(name, &predictions, String::new());
            Ok::<_, TransferError>(())
        };
        add(name_of(self.checkpoint), self.checkpoint)?;
        match other_way(self.checkpoint) {
            Some(checkpoint) => add(name_of(&checkpoint), &checkpoint),
            None => Ok(()),
        }
    }

    fn simple_models(
        &self,
        seconds: f64,
        comparison: &mut Comparison,
        doing: &mut dyn FnMut(Doing),
    ) -> Result<(), TransferError> {
        let part = self.first(seconds)?;
        let units = part.n_units();
        let fit = self.fit_data(&part);
        if fit.places(0).is_empty() {
            return Err(TransferError::Asked(format!(
                "no horizon of {:.3} s lies within the observed part of the first {seconds} s, so that the simple models have \
                 nothing to be fitted on",
                self.shape.horizon_ns as f64 * 1e-9
            )));
        }
        let rates = log_means(&fit);
        let mut mean = Predictions::empty(MEAN_RATE, comparison.observed());
        for row in mean.log_rates.chunks_exact_mut(units.max(1)) {
            row.copy_from_slice(&rates);
        }
        comparison.add(MEAN_RATE, &mean, String::new());

        let recent = Recent {
            source: Source {
                spikes: self.spikes(),
                observed: &self.recording.intervals,
            },
            hidden: &[],
        };
        let persistence = Persistence::fit(&fit);
        let detail = format!("time constant {:.3} s", persistence.tau_s());
        let predictions = persistence.predict(recent, comparison.observed());
        comparison.add(RECENT_AVERAGE, &predictions, detail);

        let options = GlmOptions {
            one_more_spike: true,
            seed: self.options.seed,
            ..GlmOptions::default()
        };
        let name = format!("{seconds} s: {GLM}");
        let mut begun = false;
        let glm = Glm::fit(&[self.fit_part(&part)], units, self.shape, &options, |_, all| {
            if !std::mem::replace(&mut begun, true) {
                doing(Doing::Begins(name.clone(), all as u64));
            }
            doing(Doing::Step);
        });
        let predictions = glm.predict(recent, comparison.observed());
        comparison.add(GLM, &predictions, format!("weight decay {}", glm.weight_decay()));
        Ok(())
    }

    fn fine_tuned(
        &self,
        seconds: f64,
        few_shot: &FewShotOptions,
        other: Option<&Recording>,
        comparison: &mut Comparison,
        tuned: &mut Vec<Tuned>,
        doing: &mut dyn FnMut(Doing),
    ) -> Result<(), TransferError> {
        let failed = |source| TransferError::Tuning { seconds, source };
        let part = self.first(seconds)?;
        let known = without_encoder(known_by(self.checkpoint, &part)?);
        let (all, train, judge) = parts_of(seconds, self.shape);
        for (name, only) in [(TUNED_EMBEDDINGS, Some(Only::Embeddings)), (TUNED_ALL, None)] {
            let tuner = FewShot {
                options: few_shot,
                only,
            };
            let most = few_shot.steps * few_shot.learning_rates.len() as u64;
            doing(Doing::Begins(format!("{seconds} s: {name}, choosing"), most));
            let mut step = || doing(Doing::Step);
            let choice = match other {
                Some(other) => {
                    let known = without_encoder(known_by(self.checkpoint, &beginning(other, seconds)?)?);
                    let judge = Span {
                        from: self.options.from,
                        to: self.options.to,
                    };
                    tuner.choose(&known, other, all, judge, &mut step)
                }
                None => tuner.choose(&known, &part, train, judge, &mut step),
            };
            let choice = choice.map_err(failed)?;
            doing(Doing::Begins(format!("{seconds} s: {name}"), choice.steps));
            let made = tuner
                .tune(&known, &part, all, &choice, &mut || doing(Doing::Step))
                .map_err(failed)?;
            let predictions = self.predicted(&made, None, comparison)?;
            let detail = match choice.steps {
                0 => "no step was better than none".to_owned(),
                steps => format!("{steps} steps of {}", choice.learning_rate),
            };
            comparison.add(name, &predictions, detail);
            tuned.push(Tuned { name, seconds, choice });
        }
        Ok(())
    }

    /// The session's units in a network that knows all of them, and predicts the same windows.
    fn known_to(&self, checkpoint: &Checkpoint, session: Option<&str>) -> Result<UnitMatch, TransferError> {
        let matched = UnitMatch::new(checkpoint, &self.recording.unit_ids, session)?;
        if matched.unknown() > 0 {
            return Err(TransferError::Asked(format!(
                "the upper bound's checkpoint does not know {} of the {} units of {}: all are scored",
                matched.unknown(),
                self.recording.n_units(),
                self.recording.name
            )));
        }
        if WindowShape::new(&checkpoint.config, checkpoint.config.bins()) != self.shape {
            return Err(TransferError::Asked(
                "the upper bound's checkpoint has another history, bin or horizon: the same windows cannot be scored"
                    .into(),
            ));
        }
        Ok(matched)
    }

    /// What a network that knows the session's units predicts in the windows.
    fn predicted(
        &self,
        checkpoint: &Checkpoint,
        session: Option<&str>,
        comparison: &Comparison,
    ) -> Result<Predictions, TransferError> {
        let matched = self.known_to(checkpoint, session)?;
        let mut network = build(checkpoint, &matched.rows, &self.options.build)?;
        let traces = matched
            .traces(checkpoint)
            .map(|traces| TraceReader::new(traces, self.origin_ns, self.shape.bin_ns, &self.recording.intervals));
        let inputs = Inputs {
            spikes: self.spikes(),
            spike_tokens: true,
            traces,
            conditions: conditions_of(network.config(), self.recording)?,
        };
        let observed = comparison.observed();
        Ok(of_network(
            network.as_mut(),
            "network",
            inputs,
            observed,
            |_, _| Ok(()),
        )?)
    }

    fn true_rates(&self, comparison: &Comparison) -> Option<Predictions> {
        let series = self.recording.series(TRUE_RATES)?;
        let channels: Vec<usize> = (0..self.recording.n_units()).collect();
        (series.channels == channels.len()).then(|| truth::predictions(series, &channels, comparison.observed()))
    }
}

/// What its identities are called.
fn name_of(checkpoint: &Checkpoint) -> &'static str {
    match checkpoint.config.identity {
        Some(identity) if identity.refine => REFINED,
        _ => ONE_PASS,
    }
}

/// The checkpoint with its identities refined where they are not, or not where they are; `None` where there is nothing to refine.
fn other_way(checkpoint: &Checkpoint) -> Option<Checkpoint> {
    let refine = !checkpoint.config.identity?.refine;
    let mut other = checkpoint.clone();
    set_refine(&mut other, Some(refine)).ok()?;
    Some(other)
}

/// ln of each unit's mean, within the limit of log rates, `[N]`.
fn log_means(fit: &FitData) -> Vec<f32> {
    let log = |mean: &f32| mean.ln().clamp(-LOG_RATE_LIMIT, LOG_RATE_LIMIT);
    fit.mean().iter().map(log).collect()
}

/// ln of each unit's mean count in a predicted bin, `[N]`.
fn mean_log_rates(observed: &Observed) -> Vec<f64> {
    let mut sums = vec![0.0; observed.units()];
    let rows = observed.counts.chunks_exact(observed.units().max(1));
    let count = (rows.len() as f64).max(1.0);
    for row in rows {
        sums.iter_mut()
            .zip(row)
            .for_each(|(sum, &count)| *sum += f64::from(count));
    }
    sums.into_iter().map(|sum| (sum / count).ln()).collect()
}

fn ns(seconds: f64) -> i64 {
    (seconds * 1e9).round() as i64
}

/// The recording up to `seconds` after its grid's origin; its bins are those of the whole.
fn beginning(recording: &Recording, seconds: f64) -> Result<Recording, TransferError> {
    let origin_ns = recording.grid_origin_ns().unwrap_or(recording.start_ns);
    let end_ns = origin_ns + ns(seconds);
    if end_ns > recording.end_ns {
        return Err(TransferError::Asked(format!(
            "{} is {:.3} s long from its first spike, and {seconds} s of it are asked for",
            recording.name,
            (recording.end_ns - origin_ns) as f64 * 1e-9
        )));
    }
    let mut part = recording.slice(Interval {
        start_ns: recording.start_ns,
        end_ns,
    })?;
    // Only the end is cut, and no bin that spikes were counted in reaches beyond it into what is looked at.
    part.count_bin_ns = recording.count_bin_ns;
    Ok(part)
}

/// The checkpoint with identities of a beginning's units.
fn known_by(checkpoint: &Checkpoint, part: &Recording) -> Result<Checkpoint, TransferError> {
    let whole = Interval {
        start_ns: part.grid_origin_ns().unwrap_or(part.start_ns),
        end_ns: part.end_ns,
    };
    let reference = reference_of(checkpoint, part, whole)?;
    Ok(identified(checkpoint, &reference, &part.name, &part.unit_ids)?)
}
