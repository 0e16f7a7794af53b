//! The loop: batches, gradients, steps, validations, checkpoints.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;

use kernels::BackendError;

use super::config::{JudgedBy, Only, ReadoutSection, TrainConfig};
use super::judge::{chosen, judge, unit_rows, Score};
use super::learner::{Lane, LaneSum, Learner, StepPlan};
use super::modalities::model_of;
use super::optimiser::{clip_gradients, weight_decays, Optimiser, Parameter};
use super::parameters::{is_history, is_of_readouts, is_of_units, parameters, store, GradientMap};
use super::prepare::{Prepared, Preparer};
use super::readouts::present;
use super::references::References;
use super::sampler::{Prefetch, Sampler, TrainingSet};
use super::schedule::Schedule;
use super::state::{load, save, write_whole, Progress};
use super::{initial::initial, TrainError};
use crate::model::checkpoint::{Checkpoint, Stored};
use crate::model::identity::IDENTITIES_NOTE;

/// Windows of a lane.
const LANE: usize = 4;

/// Room for spikes grows by this: buffers of a step are those of the steps before.
const SPIKE_ROOM: usize = 256;

/// What happens while training goes on.
#[derive(Debug, Clone, PartialEq)]
pub enum Event {
    /// A step was taken.
    Step {
        /// Steps taken.
        step: u64,
        /// Mean Poisson negative log-likelihood of the batch.
        loss: f64,
        /// Mean loss of the readouts, each multiplied by its weight; none where nothing is read out.
        readout_loss: Option<f64>,
        /// Learning rate of the network.
        learning_rate: f64,
        /// Norm of the gradient before clipping.
        gradient_norm: f64,
    },
    /// A validation was made.
    Validated {
        /// Steps taken.
        step: u64,
        /// Generated bits per spike, and what was read out.
        score: Score,
        /// What it is compared by with others.
        criterion: Option<f64>,
        /// Whether it is the best so far, and its weights were kept.
        best: bool,
    },
}

/// Why training ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ending {
    /// All steps were taken.
    Finished,
    /// The validations got no better.
    Patience,
    /// It was asked to stop; it can go on from here.
    Stopped,
}

/// What training came to.
#[derive(Debug, Clone)]
pub struct Outcome {
    /// Why it ended.
    pub ending: Ending,
    /// Steps taken.
    pub step: u64,
    /// Best validation, by [`Outcome::judged_by`]; none where there is no validation part.
    pub best: Option<f64>,
    /// What it was judged by.
    pub judged_by: JudgedBy,
    /// The checkpoint of that validation, or without a validation part the latest; none if training ended before the first
    /// validation.
    pub checkpoint: Option<PathBuf>,
}

/// A training run.
pub struct Trainer {
    config: TrainConfig,
    set: Arc<TrainingSet>,
    preparer: Arc<Preparer>,
    sampler: Sampler,
    schedule: Schedule,
    checkpoint: Checkpoint,
    parameters: Vec<Parameter>,
    multipliers: Vec<f64>,
    decays: Vec<f64>,
    map: GradientMap,
    optimiser: Box<dyn Optimiser>,
    learners: Vec<Box<dyn Learner>>,
    validation: Vec<Prepared>,
    progress: Progress,
    /// Whether this training has kept a checkpoint.
    kept: bool,
}

impl Trainer {
    /// Sets everything up for these learners, at least one, with `resume` from where the output folder's last state stands.
    ///
    /// # Errors
    /// What the configuration, the recordings or a checkpoint lack.
    pub fn new(
        config: TrainConfig,
        set: TrainingSet,
        data_hash: u64,
        learners: Vec<Box<dyn Learner>>,
        resume: bool,
    ) -> Result<Self, TrainError> {
        Self::made(config, set, data_hash, learners, resume, None)
    }

    /// Sets everything up to go on from a checkpoint, whose network is taken in place of `[model]`.
    ///
    /// # Errors
    /// As [`Trainer::new`]; a checkpoint of other units than those of the set.
    pub fn from_checkpoint(
        config: TrainConfig,
        set: TrainingSet,
        learners: Vec<Box<dyn Learner>>,
        checkpoint: Checkpoint,
    ) -> Result<Self, TrainError> {
        Self::made(config, set, 0, learners, false, Some(checkpoint))
    }

    fn made(
        config: TrainConfig,
        set: TrainingSet,
        data_hash: u64,
        learners: Vec<Box<dyn Learner>>,
        resume: bool,
        start: Option<Checkpoint>,
    ) -> Result<Self, TrainError> {
        let model = match &start {
            Some(checkpoint) => checkpoint.config.clone(),
            None => model_of(&config, &set).map_err(TrainError::Config)?,
        };
        let written = serde_json::to_string(&config).map_err(|error| TrainError::Config(error.to_string()))?;
        let set = Arc::new(set);
        let null: Vec<f64> = set
            .sessions()
            .iter()
            .flat_map(|session| session.null_log_rates.clone())
            .collect();
        let sessions: Vec<String> = set.sessions().iter().map(|session| session.name.clone()).collect();
        let mut progress = Progress {
            step: 0,
            best: None,
            since_best: 0,
            config: written,
        };
        let begin = || initial(&model, set.unit_ids(), &sessions, &null, config.training.seed);
        let mut checkpoint = match (start, &config.training.start_from) {
            (Some(checkpoint), _) => of_units(checkpoint, &set).map_err(TrainError::Config)?,
            (None, Some(path)) => started_from(path, begin(), &set)?,
            (None, None) => begin(),
        };
        // From here on its units are learned.
        checkpoint.notes.remove(IDENTITIES_NOTE);
        checkpoint.notes.insert("seed".into(), config.training.seed.to_string());
        checkpoint.notes.insert("data_hash".into(), format!("{data_hash:016x}"));
        let mut state = None;
        if resume {
            let path = config.training.out.join(LAST);
            let (saved, moments, stood) = load(&path)?;
            let refuse = |what: &str| TrainError::State {
                path: path.clone(),
                what: what.to_owned(),
            };
            if comparable(&stood.config) != comparable(&progress.config) {
                return Err(refuse("was trained with another configuration"));
            }
            if saved.notes.get("data_hash") != checkpoint.notes.get("data_hash") {
                return Err(refuse("was trained on other data"));
            }
            (checkpoint, progress, state) = (
                saved,
                Progress {
                    config: progress.config,
                    ..stood
                },
                Some(moments),
            );
        }

        let parameters = parameters(&checkpoint);
        let mut optimiser = config.optimiser(&parameters);
        if let Some(state) = &state {
            optimiser.restore(state)?;
        }
        let rates = &config.optimiser;
        let rate = |parameter: &Parameter| {
            let stays = match config.training.only {
                None => false,
                Some(Only::Embeddings) => !is_of_units(parameter),
                Some(Only::Readouts) => !is_of_readouts(parameter),
            };
            if stays {
                0.0
            } else if is_history(parameter) {
                rates.history_learning_rate
            } else {
                rates.learning_rate
            }
        };
        let mut decays = weight_decays(&parameters, rates.weight_decay);
        for (decay, _) in decays
            .iter_mut()
            .zip(&parameters)
            .filter(|(_, parameter)| is_history(parameter))
        {
            *decay = rates.history_weight_decay;
        }
        let references = match (model.identity, &config.model.identity) {
            (Some(identity), Some(section)) => Some(References::new(set.clone(), identity, section)?),
            _ => None,
        };
        let preparer = Arc::new(Preparer::new(set.clone(), &model, references));
        let validation: Vec<Prepared> = chosen(&set, config.training.validation_windows)
            .into_iter()
            .map(|(recording, start_ns)| preparer.whole(set.window(recording, start_ns)))
            .collect();
        let silent = |prepared: &Prepared| prepared.window.counts.iter().all(|&count| count == 0.0);
        if !validation.is_empty() && validation.iter().all(silent) {
            return Err(TrainError::Config(
                "the validation parts hold no spikes in any predicted bin, so that nothing can be judged by them"
                    .into(),
            ));
        }
        Ok(Trainer {
            sampler: Sampler::new(set.clone(), config.sampler())?,
            schedule: config
                .schedule()
                .map_err(|error| TrainError::Config(error.to_string()))?,
            multipliers: parameters.iter().map(rate).collect(),
            decays,
            map: GradientMap::new(&parameters),
            optimiser,
            learners,
            validation,
            kept: resume && config.training.out.join(BEST).is_file(),
            progress,
            parameters,
            checkpoint,
            preparer,
            set,
            config,
        })
    }

    /// Weights as they are now.
    pub fn checkpoint(&self) -> &Checkpoint {
        &self.checkpoint
    }

    /// The same, when nothing more is to be learned.
    pub fn into_checkpoint(self) -> Checkpoint {
        self.checkpoint
    }

    /// Steps taken.
    pub fn step(&self) -> u64 {
        self.progress.step
    }

    /// Windows that a validation scores.
    pub fn validation_windows(&self) -> usize {
        self.validation.len()
    }

    /// Trains until the end, until patience runs out, or until `stop` is set: then the state is saved first.
    ///
    /// # Errors
    /// A loss that is no number, a file that cannot be written, a device that failed.
    pub fn run(&mut self, stop: &AtomicBool, observer: &mut dyn FnMut(&Event)) -> Result<Outcome, TrainError> {
        let out = self.config.training.out.clone();
        std::fs::create_dir_all(&out).map_err(|source| TrainError::Write {
            path: out.clone(),
            source,
        })?;
        let (first, steps) = (self.progress.step, self.config.training.steps);
        let (sampler, preparer) = (self.sampler.clone(), self.preparer.clone());
        let (seed, dropout) = (self.config.training.seed, self.config.dropout.clone());
        let batches = Prefetch::new(first..steps, move |step| {
            Ok(preparer.step(sampler.batch(step), seed, &dropout))
        })?;
        let mut ending = Ending::Finished;
        for batch in batches {
            let batch = batch?;
            let event = self.take_step(&batch)?;
            observer(&event);
            let step = self.progress.step;
            if step.is_multiple_of(self.config.training.validate_every) || step == steps {
                if self.validation.is_empty() {
                    self.keep()?;
                } else {
                    observer(&self.judge()?);
                }
                self.save_last()?;
                if self.progress.since_best >= self.config.training.patience {
                    ending = Ending::Patience;
                    break;
                }
            }
            if stop.load(Ordering::Relaxed) && step < steps {
                if self.validation.is_empty() {
                    self.keep()?;
                }
                self.save_last()?;
                ending = Ending::Stopped;
                break;
            }
        }
        Ok(Outcome {
            ending,
            step: self.progress.step,
            best: self.progress.best,
            judged_by: self.config.judged_by(),
            checkpoint: self.kept.then(|| out.join(BEST)),
        })
    }

    /// Draws the next batch and takes a step on it, writing nothing.
    ///
    /// # Errors
    /// As [`Trainer::take_step`].
    pub fn next_step(&mut self) -> Result<Event, TrainError> {
        let batch = self.sampler.batch(self.progress.step);
        let (seed, dropout) = (self.config.training.seed, &self.config.dropout);
        let batch = self.preparer.step(batch, seed, dropout);
        self.take_step(&batch)
    }

    /// One step on a batch.
    ///
    /// # Errors
    /// A loss or a gradient that is no number.
    pub fn take_step(&mut self, batch: &[Prepared]) -> Result<Event, TrainError> {
        let step = self.progress.step;
        let elements: usize = batch.iter().map(|prepared| prepared.window.counts.len()).sum();
        let exposure = &self.config.exposure;
        let ramp = match exposure.ramp_steps {
            0 => 1.0,
            steps => (step as f64 / steps as f64).min(1.0),
        };
        let plan = StepPlan {
            checkpoint: &self.checkpoint,
            map: &self.map,
            exposure,
            own: exposure.own * ramp,
            scale: 1.0 / elements as f32,
            readout_scales: self.readout_scales(batch),
            max_spikes: batch
                .iter()
                .map(|prepared| prepared.window.unit.len())
                .max()
                .unwrap_or(0)
                .next_multiple_of(SPIKE_ROOM),
        };
        let lanes = lanes(&self.set, batch);
        let sums = shared_out(&mut self.learners, &plan, &lanes)?;
        let (mut loss, mut readout_loss) = (0.0, 0.0);
        self.parameters
            .iter_mut()
            .for_each(|parameter| parameter.gradient.fill(0.0));
        for sum in &sums {
            loss += sum.loss / elements as f64;
            readout_loss += sum.readout_loss;
            for (parameter, gradient) in self.parameters.iter_mut().zip(&sum.gradients) {
                parameter
                    .gradient
                    .iter_mut()
                    .zip(gradient)
                    .for_each(|(sum, g)| *sum += g);
            }
        }
        // What stays as it is has no part in how far the rest goes.
        let held = self.parameters.iter_mut().zip(&self.multipliers);
        for (parameter, _) in held.filter(|(_, &rate)| rate == 0.0) {
            parameter.gradient.fill(0.0);
        }
        let gradient_norm = clip_gradients(&mut self.parameters, self.config.optimiser.clip);
        if !(loss + readout_loss).is_finite() || !gradient_norm.is_finite() {
            let window = batch.iter().map(|prepared| {
                let recording = &self.set.recordings()[prepared.window.recording].recording;
                format!("{} at {:.3} s", recording.name, prepared.window.start_ns as f64 * 1e-9)
            });
            return Err(TrainError::NotFinite {
                step: step + 1,
                what: if (loss + readout_loss).is_finite() {
                    "gradient"
                } else {
                    "loss"
                },
                batch: window.collect::<Vec<_>>().join(", "),
                kept: match self.kept {
                    true => format!(
                        "the last good checkpoint is {}",
                        self.config.training.out.join(BEST).display()
                    ),
                    false => "no checkpoint had been kept yet".into(),
                },
            });
        }
        let factor = self.schedule.learning_rate(step);
        self.optimiser
            .step(&mut self.parameters, factor, &self.multipliers, &self.decays);
        store(&self.parameters, &mut self.checkpoint);
        self.progress.step += 1;
        self.checkpoint.global_step = self.progress.step;
        Ok(Event::Step {
            step: self.progress.step,
            loss,
            readout_loss: (!self.checkpoint.config.readouts.is_empty()).then_some(readout_loss),
            learning_rate: factor * self.config.optimiser.learning_rate,
            gradient_norm,
        })
    }

    /// What each readout's losses are multiplied by: its weight over the targets that there are in the batch.
    fn readout_scales(&self, batch: &[Prepared]) -> Vec<f32> {
        let sections = self.config.model.readout.iter().enumerate();
        let scale = |(task, section): (usize, &ReadoutSection)| {
            let there: usize = batch.iter().map(|prepared| present(&prepared.targets[task])).sum();
            match there {
                0 => 0.0,
                _ => (section.weight / there as f64) as f32,
            }
        };
        sections.map(scale).collect()
    }

    /// Scores the validation windows, and keeps the weights if they are the best.
    fn judge(&mut self) -> Result<Event, TrainError> {
        let score = self.validate()?;
        let criterion = score.criterion(self.config.judged_by());
        let best = match (criterion, self.progress.best) {
            (Some(bits), Some(best)) => bits > best,
            (bits, None) => bits.is_some() || self.progress.step == self.config.training.steps,
            (None, Some(_)) => false,
        };
        if best {
            self.progress.best = criterion;
            self.progress.since_best = 0;
            self.keep()?;
        } else {
            self.progress.since_best += 1;
        }
        Ok(Event::Validated {
            step: self.progress.step,
            score,
            criterion,
            best,
        })
    }

    /// Writes the weights as they are: the best that there are, or the latest where nothing judges them.
    fn keep(&mut self) -> Result<(), TrainError> {
        let path = self.config.training.out.join(BEST);
        self.preparer.write_identities(&mut self.checkpoint)?;
        write_whole(&path, &self.checkpoint.to_safetensors(Stored::F32)?)?;
        self.kept = true;
        Ok(())
    }

    fn save_last(&self) -> Result<(), TrainError> {
        let path = self.config.training.out.join(LAST);
        save(
            &path,
            &self.checkpoint,
            &self.parameters,
            &self.optimiser.state(),
            &self.progress,
        )
    }

    /// Generated bits per spike over the validation windows.
    ///
    /// # Errors
    /// A device that failed.
    pub fn validate(&mut self) -> Result<Score, TrainError> {
        Ok(judge(
            &self.checkpoint,
            &self.set,
            &self.validation,
            &mut self.learners,
        )?)
    }
}

/// Name of the best checkpoint in the output folder.
pub const BEST: &str = "best.safetensors";
/// Name of the state to go on from.
pub const LAST: &str = "last.safetensors";

/// What of a configuration has to be the same for training to go on: not where, how fast and how long.
fn comparable(config: &str) -> Option<serde_json::Value> {
    let mut value: serde_json::Value = serde_json::from_str(config).ok()?;
    let training = value.get_mut("training")?.as_object_mut()?;
    for key in [
        "out",
        "device",
        "threads",
        "patience",
        "validation_windows",
        "start_from",
    ] {
        training.remove(key);
    }
    Some(value)
}

/// The checkpoint that training starts from, if it is of this network and these units. Its readouts may be others or none: those
/// then begin as `begin`, a network that has learned nothing, has them.
fn started_from(path: &std::path::Path, begin: Checkpoint, set: &TrainingSet) -> Result<Checkpoint, TrainError> {
    let mut checkpoint = Checkpoint::load(path)?;
    let refuse = |what: String| TrainError::State {
        path: path.to_path_buf(),
        what,
    };
    if checkpoint.config.readouts != begin.config.readouts {
        checkpoint.tensors.retain(|name, _| !name.starts_with("readout."));
        let readouts = begin
            .tensors
            .into_iter()
            .filter(|(name, _)| name.starts_with("readout."));
        checkpoint.tensors.extend(readouts);
        checkpoint.config.readouts.clone_from(&begin.config.readouts);
    }
    if checkpoint.config != begin.config {
        return Err(refuse(
            "is of another network than [model] asks for (see `neurohorizon inspect`)".into(),
        ));
    }
    of_units(checkpoint, set).map_err(refuse)
}

/// The checkpoint, if it knows the units of the set and no others.
fn of_units(checkpoint: Checkpoint, set: &TrainingSet) -> Result<Checkpoint, String> {
    let known = checkpoint.unit_ids.get(1..).unwrap_or_default();
    if known != set.unit_ids() {
        return Err(format!(
            "knows {} units, first {:?}; the training data has {}, first {:?}",
            known.len(),
            known.first(),
            set.unit_ids().len(),
            set.unit_ids().first()
        ));
    }
    Ok(checkpoint)
}

/// A batch in lanes of one session each, in the order of sessions.
fn lanes<'a>(set: &TrainingSet, batch: &'a [Prepared]) -> Vec<Lane<'a>> {
    let session = |prepared: &Prepared| set.recordings()[prepared.window.recording].session;
    let mut ordered: Vec<&Prepared> = batch.iter().collect();
    ordered.sort_by_key(|prepared| session(prepared));
    let of_session = ordered.chunk_by(|a, b| session(a) == session(b));
    of_session
        .flat_map(|windows| windows.chunks(LANE))
        .map(|windows| Lane {
            unit_rows: unit_rows(set, windows[0].window.recording),
            reference: windows[0].reference.clone(),
            windows: windows.to_vec(),
        })
        .collect()
}

/// Every learner takes a stretch of the lanes; sums in the order of lanes.
fn shared_out(
    learners: &mut [Box<dyn Learner>],
    plan: &StepPlan<'_>,
    lanes: &[Lane<'_>],
) -> Result<Vec<LaneSum>, BackendError> {
    let lanes: Vec<&Lane<'_>> = lanes.iter().collect();
    let each = lanes.len().div_ceil(learners.len()).max(1);
    let parts: Vec<Result<Vec<LaneSum>, BackendError>> = std::thread::scope(|scope| {
        let threads: Vec<_> = learners
            .iter_mut()
            .zip(lanes.chunks(each))
            .map(|(learner, lanes)| scope.spawn(move || learner.learn(plan, lanes)))
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().expect("a learning thread does not panic"))
            .collect()
    });
    let parts: Result<Vec<_>, _> = parts.into_iter().collect();
    Ok(parts?.into_iter().flatten().collect())
}
