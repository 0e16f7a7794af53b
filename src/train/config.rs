//! The TOML of a training run. Unknown keys are refused; `configs/train-*.toml` document every key in place.

use std::path::{Path, PathBuf};

use serde::de::{Deserializer, Error as _};
use serde::Deserialize;

use super::optimiser::{AdamW, Optimiser, Parameter, SparseLamb};
use super::sampler::{SamplerOptions, Span, UnitDropout};
use super::schedule::{Schedule, ScheduleError};
use super::TrainError;
use crate::data::Position;
use crate::model::config::{Decoder, Feedback, HistoryConfig, ModelConfig};
use kernels::tape::DropRates;

/// A whole training run.
#[derive(Clone, Debug, Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub struct TrainConfig {
    /// What is learned from.
    pub data: DataSection,
    /// The network.
    #[serde(default)]
    pub model: ModelSection,
    /// How long, how often judged, where to.
    #[serde(default)]
    pub training: TrainingSection,
    /// How parameters follow their gradients.
    #[serde(default)]
    pub optimiser: OptimiserSection,
    /// How the learning rate changes.
    #[serde(default)]
    pub schedule: ScheduleSection,
    /// What is left out at random.
    #[serde(default)]
    pub dropout: DropoutSection,
    /// What a model with feedback is fed while it learns.
    #[serde(default)]
    pub exposure: ExposureSection,
}

/// `[data]`
#[derive(Clone, Debug, Default, Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct DataSection {
    /// The recordings.
    pub recording: Vec<RecordingSection>,
    /// The built-in population instead of recordings.
    pub simulate: Option<SimulateSection>,
    /// Units below this rate are left out, Hz.
    pub min_rate_hz: f64,
    /// Over what that rate is taken.
    pub min_rate_over: RateOver,
    /// Histories begin on the grid of bins, on which traces of recent history are exact; otherwise at any time.
    pub grid_starts: Option<bool>,
    /// Spikes of a recording of counts get new times inside their bins in every draw.
    pub spread: Option<bool>,
}

/// What a unit's rate is taken over, where units are chosen by it.
#[derive(Clone, Copy, Debug, Default, Deserialize, serde::Serialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum RateOver {
    /// The session's training parts.
    #[default]
    Training,
    /// Each whole recording, as who sorts spikes would do it.
    Recording,
}

/// `[[data.recording]]`
#[derive(Clone, Debug, Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub struct RecordingSection {
    /// The file: .npz or .nwb.
    pub path: PathBuf,
    /// The session's name; the file's stem without it. Recordings of one session are of the same units.
    pub session: Option<String>,
    /// Parts that are trained on, `FROM..TO`.
    #[serde(default)]
    pub train: Vec<Part>,
    /// Parts that training is judged by.
    #[serde(default)]
    pub validate: Vec<Part>,
    /// Parts that must overlap neither.
    #[serde(default)]
    pub test: Vec<Part>,
}

/// `[data.simulate]`
#[derive(Clone, Debug, Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub struct SimulateSection {
    /// Units of the population.
    pub units: usize,
    /// Its seed.
    pub seed: u64,
    /// Seconds that are trained on.
    pub train_s: f64,
    /// Seconds that follow, which training is judged by.
    pub validate_s: f64,
}

/// A part of a recording, written `FROM..TO`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Part(pub Span);

impl<'de> Deserialize<'de> for Part {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let (from, to) = text
            .split_once("..")
            .ok_or_else(|| D::Error::custom(format!("part {text:?} is not FROM..TO, such as \"0..0.8\"")))?;
        let position = |text: &str| text.trim().parse::<Position>().map_err(D::Error::custom);
        Ok(Part(Span {
            from: position(from)?,
            to: position(to)?,
        }))
    }
}

impl serde::Serialize for Part {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let position = |position: Position| match position {
            Position::Fraction(fraction) => fraction.to_string(),
            Position::Seconds(seconds) => format!("{seconds}s"),
        };
        serializer.serialize_str(&format!("{}..{}", position(self.0.from), position(self.0.to)))
    }
}

/// `[model]`
#[derive(Clone, Debug, Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct ModelSection {
    /// Width of a bin, ms.
    pub bin_ms: f64,
    /// History window, ms.
    pub history_ms: f64,
    /// Predicted bins.
    pub horizon_bins: usize,
    /// Most bins that the checkpoint can be asked for; `horizon_bins` without it.
    pub max_bins: Option<usize>,
    /// D.
    pub dim: usize,
    /// Dh.
    pub dim_head: usize,
    /// Heads of cross-attention.
    pub cross_heads: usize,
    /// Heads of self-attention.
    pub self_heads: usize,
    /// Processor layers.
    pub processor_layers: usize,
    /// Decoder layers.
    pub decoder_layers: usize,
    /// Distance of groups of latents, ms.
    pub latent_step_ms: f64,
    /// Latents in a group.
    pub latents_per_step: usize,
    /// Shortest rotary period, ms.
    pub shortest_period_ms: f64,
    /// Longest rotary period, ms.
    pub longest_period_ms: f64,
    /// `none`, `mlp_pool`, `rate_weighted`, `cross_attn`, `prediction_memory`, `local_prediction_memory`.
    pub feedback: String,
    /// Memory tokens a bin.
    pub memory_tokens: usize,
    /// Heads of the memory's pooling.
    pub memory_heads: usize,
    /// The path of recent history; the reference's network alone without it.
    pub recent_history: Option<HistorySection>,
}

impl Default for ModelSection {
    fn default() -> Self {
        ModelSection {
            bin_ms: 20.0,
            history_ms: 500.0,
            horizon_bins: 12,
            max_bins: None,
            dim: 64,
            dim_head: 32,
            cross_heads: 2,
            self_heads: 4,
            processor_layers: 2,
            decoder_layers: 2,
            latent_step_ms: 50.0,
            latents_per_step: 8,
            shortest_period_ms: 0.1,
            longest_period_ms: 2062.7,
            feedback: "none".into(),
            memory_tokens: 4,
            memory_heads: 4,
            recent_history: None,
        }
    }
}

/// `[model.recent_history]`
#[derive(Clone, Debug, Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct HistorySection {
    /// Time constants of the traces, in bins, ascending.
    pub time_constants_bins: Vec<f64>,
    /// The first so many of them are read from the whole population.
    pub population_time_constants: usize,
    /// Components read from the population.
    pub components: usize,
}

impl Default for HistorySection {
    fn default() -> Self {
        HistorySection {
            time_constants_bins: vec![1.0, 3.0, 10.0, 30.0, 100.0],
            population_time_constants: 4,
            components: 64,
        }
    }
}

/// `[training]`
#[derive(Clone, Debug, Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct TrainingSection {
    /// Optimiser steps.
    pub steps: u64,
    /// Windows a step.
    pub batch: usize,
    /// Seed of everything random.
    pub seed: u64,
    /// Threads; the figures do not depend on their number.
    pub threads: usize,
    /// Steps between two validations.
    pub validate_every: u64,
    /// Validation windows, evenly spread over the validation parts; all of them without it.
    pub validation_windows: Option<usize>,
    /// Validations without a better one after which training ends.
    pub patience: u64,
    /// Folder of the checkpoints and the log.
    pub out: PathBuf,
    /// The checkpoint that training begins with, in place of random weights.
    pub start_from: Option<PathBuf>,
}

impl Default for TrainingSection {
    fn default() -> Self {
        TrainingSection {
            steps: 1000,
            batch: 32,
            seed: 0,
            threads: std::thread::available_parallelism().map_or(1, |n| n.get().min(8)),
            validate_every: 50,
            validation_windows: None,
            patience: 10,
            out: "trained".into(),
            start_from: None,
        }
    }
}

/// `[optimiser]`
#[derive(Clone, Debug, Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct OptimiserSection {
    /// Which.
    pub kind: OptimiserKind,
    /// Highest learning rate of the network.
    pub learning_rate: f64,
    /// Highest learning rate of the path of recent history.
    pub history_learning_rate: f64,
    /// Weight decay of the network's matrices and embeddings.
    pub weight_decay: f64,
    /// Weight decay of the path of recent history.
    pub history_weight_decay: f64,
    /// Largest norm of the gradient.
    pub clip: f64,
}

/// The optimisers.
#[derive(Clone, Copy, Debug, Deserialize, serde::Serialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum OptimiserKind {
    /// [`AdamW`].
    Adamw,
    /// [`SparseLamb`].
    SparseLamb,
}

impl Default for OptimiserSection {
    fn default() -> Self {
        OptimiserSection {
            kind: OptimiserKind::Adamw,
            learning_rate: 1e-3,
            history_learning_rate: 3e-3,
            weight_decay: 1e-2,
            history_weight_decay: 0.0,
            clip: 1.0,
        }
    }
}

/// `[schedule]`
#[derive(Clone, Copy, Debug, Deserialize, serde::Serialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum ScheduleSection {
    /// One rate throughout.
    Constant,
    /// Flat or rising, then a cosine down (the reference's).
    OneCycle {
        /// Share of the steps before the rate goes down.
        #[serde(default = "half")]
        pct_start: f64,
        /// Highest rate over first rate.
        #[serde(default = "one")]
        div_factor: f64,
        /// First rate over last rate.
        #[serde(default = "ten_thousand")]
        final_div_factor: f64,
    },
    /// A linear rise, then a cosine down.
    WarmUpCosine {
        /// Steps of the rise; 20, or a tenth of all if that is less, without it.
        #[serde(default)]
        warm_up_steps: Option<u64>,
        /// Last rate over highest rate.
        #[serde(default)]
        floor: f64,
    },
}

/// Steps of the rise unless asked otherwise.
const WARM_UP_STEPS: u64 = 20;

fn half() -> f64 {
    0.5
}
fn one() -> f64 {
    1.0
}
fn ten_thousand() -> f64 {
    1e4
}

impl Default for ScheduleSection {
    fn default() -> Self {
        ScheduleSection::WarmUpCosine {
            warm_up_steps: None,
            floor: 0.0,
        }
    }
}

/// `[dropout]`
#[derive(Clone, Debug, Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct DropoutSection {
    /// Hidden channels of feed-forward layers.
    pub hidden: f32,
    /// Attention weights.
    pub attention: f32,
    /// What processor layers add to the residual stream.
    pub residual: f32,
    /// Units, as the population's components of recent history see them.
    pub population: f64,
    /// Units that are left out of a window altogether: how many are kept.
    pub units: Option<UnitDropoutSection>,
}

impl Default for DropoutSection {
    fn default() -> Self {
        DropoutSection {
            hidden: 0.2,
            attention: 0.2,
            residual: 0.4,
            population: 0.5,
            units: None,
        }
    }
}

/// `[dropout.units]`: a triangular distribution of the number of units kept.
#[derive(Clone, Copy, Debug, Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub struct UnitDropoutSection {
    /// Fewest.
    pub min: usize,
    /// Most likely.
    pub mode: usize,
    /// Most.
    pub max: usize,
}

/// `[exposure]`: a model with feedback meets its own predictions while it learns, as it will when it generates.
#[derive(Clone, Debug, Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct ExposureSection {
    /// Share of windows, or of bins, that are fed with the model's own expected counts instead of the true ones.
    pub own: f64,
    /// Whether the choice is made for each bin; otherwise for each window.
    pub each_bin: bool,
    /// Steps over which the share rises from nothing.
    pub ramp_steps: u64,
    /// Own counts are drawn from the Poisson distribution of the prediction rather than its mean.
    pub sample: bool,
    /// Standard deviation of noise on `ln(1 + count)` of what is fed.
    pub noise: f64,
    /// Share of fed counts that are set to zero.
    pub dropout: f64,
}

impl Default for ExposureSection {
    fn default() -> Self {
        ExposureSection {
            own: 1.0,
            each_bin: false,
            ramp_steps: 0,
            sample: false,
            noise: 0.0,
            dropout: 0.0,
        }
    }
}

impl TrainConfig {
    /// Reads a file.
    ///
    /// # Errors
    /// Where it cannot be read, or a key is unknown or out of range.
    pub fn load(path: &Path) -> Result<Self, TrainError> {
        let name = path.display().to_string();
        let text = std::fs::read_to_string(path).map_err(|error| TrainError::Config(format!("{name}: {error}")))?;
        Self::parse(&name, &text)
    }

    /// Reads the text of a file called `name`.
    ///
    /// # Errors
    /// Where a key is unknown or out of range; the text names key and line.
    pub fn parse(name: &str, text: &str) -> Result<Self, TrainError> {
        let config: TrainConfig = toml::from_str(text)
            .map_err(|error| TrainError::Config(format!("{name}: {}", error.to_string().trim())))?;
        config
            .check()
            .map_err(|what| TrainError::Config(format!("{name}: {what}")))?;
        Ok(config)
    }

    fn check(&self) -> Result<(), String> {
        let whole = |key: &str, value: u64| {
            (value > 0)
                .then_some(())
                .ok_or(format!("{key} is 0, expected at least 1"))
        };
        whole("training.steps", self.training.steps)?;
        whole("training.batch", self.training.batch as u64)?;
        whole("training.threads", self.training.threads as u64)?;
        whole("training.validate_every", self.training.validate_every)?;
        whole("training.patience", self.training.patience)?;
        for (key, share) in [
            ("dropout.hidden", f64::from(self.dropout.hidden)),
            ("dropout.attention", f64::from(self.dropout.attention)),
            ("dropout.residual", f64::from(self.dropout.residual)),
            ("dropout.population", self.dropout.population),
            ("exposure.dropout", self.exposure.dropout),
        ] {
            if !(0.0..=0.95).contains(&share) {
                return Err(format!("{key} is {share}, expected 0 to 0.95"));
            }
        }
        if !(0.0..=1.0).contains(&self.exposure.own) {
            return Err(format!("exposure.own is {}, expected 0 to 1", self.exposure.own));
        }
        for (key, value) in [
            ("optimiser.learning_rate", self.optimiser.learning_rate),
            ("optimiser.history_learning_rate", self.optimiser.history_learning_rate),
            ("optimiser.clip", self.optimiser.clip),
        ] {
            if !(value.is_finite() && value > 0.0) {
                return Err(format!("{key} is {value}, expected a number above 0"));
            }
        }
        for (key, value) in [
            ("optimiser.weight_decay", self.optimiser.weight_decay),
            ("optimiser.history_weight_decay", self.optimiser.history_weight_decay),
            ("exposure.noise", self.exposure.noise),
        ] {
            if !(value.is_finite() && value >= 0.0) {
                return Err(format!("{key} is {value}, expected a number from 0"));
            }
        }
        if self.data.recording.is_empty() == self.data.simulate.is_none() {
            return Err("expected either [[data.recording]] or [data.simulate]".into());
        }
        self.schedule().map_err(|error| error.to_string())?;
        self.model_config().map(|_| ())
    }

    /// Sizes and variant of the network.
    ///
    /// # Errors
    /// What is no network, naming the key.
    pub fn model_config(&self) -> Result<ModelConfig, String> {
        let model = &self.model;
        let bin_size = model.bin_ms * 1e-3;
        let pred_window = bin_size * model.horizon_bins as f64;
        let decoder = match model.feedback.as_str() {
            "none" => Decoder::QueryAug(Feedback::None),
            "mlp_pool" => Decoder::QueryAug(Feedback::MlpPool),
            "rate_weighted" => Decoder::QueryAug(Feedback::RateWeighted),
            "cross_attn" => Decoder::QueryAug(Feedback::CrossAttn),
            "prediction_memory" => Decoder::PredictionMemory,
            "local_prediction_memory" => Decoder::LocalPredictionMemory,
            other => {
                return Err(format!(
                    "model.feedback is {other:?}, expected none, mlp_pool, rate_weighted, cross_attn, prediction_memory or \
                     local_prediction_memory"
                ))
            }
        };
        let history = model.recent_history.as_ref().map(|history| HistoryConfig {
            time_constants_s: history.time_constants_bins.iter().map(|bins| bins * bin_size).collect(),
            population_time_constants: history.population_time_constants,
            components: history.components,
        });
        let config = ModelConfig {
            sequence_length: model.history_ms * 1e-3 + pred_window,
            pred_window,
            bin_size,
            latent_step: model.latent_step_ms * 1e-3,
            num_latents_per_step: model.latents_per_step,
            dim: model.dim,
            enc_depth: model.processor_layers,
            dec_depth: model.decoder_layers,
            dim_head: model.dim_head,
            cross_heads: model.cross_heads,
            self_heads: model.self_heads,
            max_pred_bins: model.max_bins.unwrap_or(model.horizon_bins),
            t_min: model.shortest_period_ms * 1e-3,
            t_max: model.longest_period_ms * 1e-3,
            causal: true,
            decoder,
            memory_tokens: model.memory_tokens,
            memory_heads: model.memory_heads,
            history,
        };
        config.validate().map_err(|error| format!("[model]: {error}"))?;
        Ok(config)
    }

    /// The schedule, of a highest rate of 1.
    ///
    /// # Errors
    /// A key out of range.
    pub fn schedule(&self) -> Result<Schedule, ScheduleError> {
        let (max_lr, total_steps) = (1.0, self.training.steps);
        match self.schedule {
            ScheduleSection::Constant => Schedule::Constant { learning_rate: max_lr },
            ScheduleSection::OneCycle {
                pct_start,
                div_factor,
                final_div_factor,
            } => Schedule::OneCycle {
                max_lr,
                total_steps,
                pct_start,
                div_factor,
                final_div_factor,
            },
            ScheduleSection::WarmUpCosine { warm_up_steps, floor } => Schedule::WarmUpCosine {
                max_lr,
                total_steps,
                warm_up_steps: warm_up_steps.unwrap_or(WARM_UP_STEPS.min(total_steps / 10)),
                floor,
            },
        }
        .checked()
    }

    /// The optimiser, made for these parameters.
    pub fn optimiser(&self, parameters: &[Parameter]) -> Box<dyn Optimiser> {
        match self.optimiser.kind {
            OptimiserKind::Adamw => Box::new(AdamW::new(parameters, AdamW::DEFAULT)),
            OptimiserKind::SparseLamb => Box::new(SparseLamb::new(parameters, SparseLamb::DEFAULT)),
        }
    }

    /// What is drawn, and how.
    pub fn sampler(&self) -> SamplerOptions {
        SamplerOptions {
            seed: self.training.seed,
            batch_size: self.training.batch,
            grid_starts: self.data.grid_starts.unwrap_or(true),
            unit_dropout: self.dropout.units.map(|units| UnitDropout {
                min: units.min,
                mode: units.mode,
                max: units.max,
            }),
            spread: self.data.spread.unwrap_or(true),
        }
    }

    /// What a tape drops.
    pub fn drop_rates(&self) -> DropRates {
        DropRates {
            hidden: self.dropout.hidden,
            weights: self.dropout.attention,
            residual: self.dropout.residual,
        }
    }
}
