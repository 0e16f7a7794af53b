//! Fine-tuning on a few seconds: a network that knows a session by its identities alone goes on learning from the seconds that
//! these were computed from.
//!
//! How many steps, and how large, is chosen by what is generated on windows that are neither learned from nor scored in the
//! end; no step at all is among the choices.

use serde::Serialize;

use super::config::{
    DataSection, DropoutSection, ExposureSection, ModelSection, Only, OptimiserSection, ScheduleSection, TrainConfig,
    TrainingSection,
};
use super::learner::learners;
use super::sampler::{Source, Span, TrainingSet};
use super::trainer::Trainer;
use super::TrainError;
use crate::data::{Position, Recording};
use crate::model::checkpoint::Checkpoint;
use crate::model::window::WindowShape;
use crate::model::BackendKind;

/// Learning rate of the path of recent history, against the network's.
pub const HISTORY_RATE: f64 = 3.0;
/// Share of the units that the population's components lose in each window while it learns.
const POPULATION_DROPOUT: f64 = 0.5;

/// How fine-tuning is tried.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FewShotOptions {
    /// Steps at most.
    pub steps: u64,
    /// Steps between two looks at the windows that it is chosen by.
    pub judge_every: u64,
    /// Looks without a better one after which a learning rate is given up.
    pub patience: u64,
    /// Learning rates of which one is chosen.
    pub learning_rates: Vec<f64>,
    /// Windows a step.
    pub batch: usize,
    /// Most windows that it is chosen by.
    pub judged_windows: usize,
    /// Seed of what is drawn.
    pub seed: u64,
    /// Threads of the CPU.
    pub threads: usize,
}

impl Default for FewShotOptions {
    fn default() -> Self {
        FewShotOptions {
            steps: 100,
            judge_every: 10,
            patience: 4,
            learning_rates: vec![3e-4, 1e-3, 3e-3],
            batch: 16,
            judged_windows: 60,
            seed: 0,
            threads: 2,
        }
    }
}

/// What was chosen.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Choice {
    /// Learning rate of the network; that of the path of recent history is three times as large.
    pub learning_rate: f64,
    /// Steps; 0 where none made it better.
    pub steps: u64,
    /// Bits per spike on the windows that it was chosen by.
    pub bits_per_spike: Option<f64>,
    /// The same before any step.
    pub before: Option<f64>,
}

/// Fine-tunes checkpoints of one kind.
#[derive(Debug, Clone)]
pub struct FewShot<'a> {
    /// How.
    pub options: &'a FewShotOptions,
    /// What of the weights; everything without it.
    pub only: Option<Only>,
}

impl FewShot<'_> {
    /// Goes on from `checkpoint`, which has no encoder of identities and knows the units of `recording`, with
    /// windows of its `train` part, and takes the steps and the learning rate that do best on its `judge` part. `step` is
    /// called after every step.
    ///
    /// # Errors
    /// Parts in which no window fits, or without a spike; a loss that is no number.
    pub fn choose(
        &self,
        checkpoint: &Checkpoint,
        recording: &Recording,
        train: Span,
        judge: Span,
        step: &mut dyn FnMut(),
    ) -> Result<Choice, TrainError> {
        let mut chosen: Option<Choice> = None;
        for &learning_rate in &self.options.learning_rates {
            let mut trainer = self.trainer(checkpoint, recording, train, Some(judge), learning_rate)?;
            let before = trainer.validate()?.bits_per_spike;
            let best = chosen.get_or_insert(Choice {
                learning_rate,
                steps: 0,
                bits_per_spike: before,
                before,
            });
            let (mut of_rate, mut since) = (before, 0);
            while trainer.step() < self.options.steps && since < self.options.patience {
                trainer.next_step()?;
                step();
                if !trainer.step().is_multiple_of(self.options.judge_every) {
                    continue;
                }
                let bits_per_spike = trainer.validate()?.bits_per_spike;
                since += 1;
                if bits_per_spike > of_rate {
                    (of_rate, since) = (bits_per_spike, 0);
                }
                if bits_per_spike > best.bits_per_spike {
                    *best = Choice {
                        learning_rate,
                        steps: trainer.step(),
                        bits_per_spike,
                        before,
                    };
                }
            }
        }
        chosen.ok_or_else(|| TrainError::Config("fine-tuning has no learning rate to choose from".into()))
    }

    /// The checkpoint after the steps that were chosen, on windows of the `train` part.
    ///
    /// # Errors
    /// As [`FewShot::choose`].
    pub fn tune(
        &self,
        checkpoint: &Checkpoint,
        recording: &Recording,
        train: Span,
        choice: &Choice,
        step: &mut dyn FnMut(),
    ) -> Result<Checkpoint, TrainError> {
        if choice.steps == 0 {
            return Ok(checkpoint.clone());
        }
        let mut trainer = self.trainer(checkpoint, recording, train, None, choice.learning_rate)?;
        for _ in 0..choice.steps {
            trainer.next_step()?;
            step();
        }
        Ok(trainer.into_checkpoint())
    }

    fn trainer(
        &self,
        checkpoint: &Checkpoint,
        recording: &Recording,
        train: Span,
        judge: Option<Span>,
        learning_rate: f64,
    ) -> Result<Trainer, TrainError> {
        let config = self.config(learning_rate);
        let source = Source {
            session: recording.name.clone(),
            recording: recording.clone(),
            training: vec![train],
            validation: judge.into_iter().collect(),
            reference: Vec::new(),
            test: Vec::new(),
        };
        let shape = WindowShape::new(&checkpoint.config, checkpoint.config.bins());
        let set = TrainingSet::new(vec![source], shape, 0.0)?;
        // The rates that the identities came with are those that the network will be used with.
        let rates = checkpoint.null_log_rates.as_deref().and_then(|rates| rates.get(1..));
        let set = match rates.filter(|rates| rates.len() == recording.n_units()) {
            Some(rates) => set.with_null_log_rates(0, rates.iter().map(|&rate| f64::from(rate)).collect()),
            None => set,
        };
        let threads = learners(&config, BackendKind::Cpu)?;
        Trainer::from_checkpoint(config, set, threads, checkpoint.clone())
    }

    /// What a training run would have in its file. Nothing is written to a folder, and `[model]` is the checkpoint's.
    fn config(&self, learning_rate: f64) -> TrainConfig {
        TrainConfig {
            data: DataSection::default(),
            model: ModelSection::default(),
            training: TrainingSection {
                steps: self.options.steps,
                batch: self.options.batch,
                seed: self.options.seed,
                threads: self.options.threads,
                validation_windows: Some(self.options.judged_windows),
                only: self.only,
                ..TrainingSection::default()
            },
            optimiser: OptimiserSection {
                learning_rate,
                history_learning_rate: HISTORY_RATE * learning_rate,
                weight_decay: 0.0,
                ..OptimiserSection::default()
            },
            schedule: ScheduleSection::Constant,
            dropout: DropoutSection {
                hidden: 0.0,
                attention: 0.0,
                residual: 0.0,
                population: POPULATION_DROPOUT,
                modalities: 0.0,
                units: None,
            },
            exposure: ExposureSection::default(),
        }
    }
}

/// The first seconds, and their parts to learn from and to choose by: the last fifth, or a window and a bin where that is more.
pub fn parts_of(seconds: f64, shape: WindowShape) -> (Span, Span, Span) {
    let window_s = (shape.history_ns + shape.horizon_ns + shape.bin_ns) as f64 * 1e-9;
    let border = (0.8 * seconds).min(seconds - window_s).max(0.0);
    let span = |from: f64, to: f64| Span {
        from: Position::Seconds(from),
        to: Position::Seconds(to),
    };
    (span(0.0, seconds), span(0.0, border), span(border, seconds))
}
