//! The tables of a training run's TOML, with what each key is when it is left out.

use std::path::PathBuf;

use serde::de::{Deserializer, Error as _};
use serde::Deserialize;

use super::sampler::Span;
use crate::data::Position;
use crate::model::config::{ConditionKind, ReadoutKind};
use crate::model::BackendKind;

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
    /// In a session of which nothing is trained on: parts that its units' identities and rates are taken from.
    #[serde(default)]
    pub reference: Vec<Part>,
    /// Parts that must overlap none of these.
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
    /// Populations that are trained on, each a session with units of its own; the seed of each further one is one more.
    #[serde(default = "one_session")]
    pub sessions: usize,
    /// Further populations of which nothing is trained on: training is judged by them alone, with `[model.identity]`.
    #[serde(default)]
    pub held_out: usize,
    /// Seconds at the beginning of a population held out that its units' identities and rates are taken from.
    #[serde(default = "thirty_s")]
    pub reference_s: f64,
    /// Seconds that are trained on.
    pub train_s: f64,
    /// Seconds that follow, which training is judged by; with `held_out` those that follow the reference.
    pub validate_s: f64,
}

fn one_session() -> usize {
    1
}
fn thirty_s() -> f64 {
    30.0
}

/// A part of a recording, written `FROM..TO`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Part(pub Span);

impl std::str::FromStr for Part {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (from, to) = text
            .split_once("..")
            .ok_or_else(|| format!("part {text:?} is not FROM..TO, such as \"0..0.8\""))?;
        let position = |text: &str| text.trim().parse::<Position>().map_err(|error| error.to_string());
        Ok(Part(Span {
            from: position(from)?,
            to: position(to)?,
        }))
    }
}

impl<'de> Deserialize<'de> for Part {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
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
    /// Identities computed from the units' own activity; a table of embeddings without it.
    pub identity: Option<IdentitySection>,
    /// Other modalities that the network may see.
    pub condition: Vec<ConditionSection>,
    /// Behaviour that the network reads out.
    pub readout: Vec<ReadoutSection>,
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
            identity: None,
            condition: Vec::new(),
            readout: Vec::new(),
        }
    }
}

/// `[[model.condition]]`
#[derive(Clone, Debug, Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub struct ConditionSection {
    /// Name of the series in the recordings.
    pub series: String,
    /// `behaviour` (a token is the mean of a step) or `stimulus` (what was shown last).
    #[serde(default = "behaviour")]
    pub kind: ConditionKind,
    /// Length of a step of the history, each a token, ms.
    #[serde(default = "fifty")]
    pub step_ms: f64,
}

fn behaviour() -> ConditionKind {
    ConditionKind::Behaviour
}
fn fifty() -> f64 {
    50.0
}

/// `[[model.readout]]`
#[derive(Clone, Debug, Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields)]
pub struct ReadoutSection {
    /// Name of the series in the recordings, or `trial_condition`.
    pub series: String,
    /// `regression` (numbers) or `classes` (a few of them).
    #[serde(default = "regression")]
    pub kind: ReadoutKind,
    /// Length of a step, ms.
    #[serde(default = "fifty")]
    pub step_ms: f64,
    /// Steps of the history that are read out; all of them without it.
    #[serde(default)]
    pub back: Option<usize>,
    /// Steps after it.
    #[serde(default)]
    pub ahead: usize,
    /// Weight of its loss beside that of the predicted spikes.
    #[serde(default = "one")]
    pub weight: f64,
}

fn regression() -> ReadoutKind {
    ReadoutKind::Regression
}

/// `[model.identity]`
#[derive(Clone, Debug, Deserialize, serde::Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct IdentitySection {
    /// `binned` (counts) or `events` (spike times).
    pub scheme: String,
    /// Length of a window, ms.
    pub window_ms: f64,
    /// Width of a bin in it, ms.
    pub bin_ms: f64,
    /// Width of the encoder's hidden layers.
    pub hidden: usize,
    /// The counts of all other units stand beside a unit's own (`binned` only).
    pub population: bool,
    /// Components of the population on which units' loadings are computed; 0 for none.
    pub components: usize,
    /// Whether units' weights of recent history are fitted to a reference once they are computed from it, in closed form; not while
    /// it learns and is validated.
    pub refine: bool,
    /// Shortest reference while learning, s.
    pub shortest_s: f64,
    /// Longest reference while learning, s.
    pub longest_s: f64,
    /// Reference of the validations, s.
    pub validation_s: f64,
}

impl Default for IdentitySection {
    fn default() -> Self {
        IdentitySection {
            scheme: "binned".into(),
            window_ms: 1000.0,
            bin_ms: 20.0,
            hidden: 64,
            population: true,
            components: 0,
            refine: false,
            shortest_s: 10.0,
            longest_s: 60.0,
            validation_s: 30.0,
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
    /// What computes: `cpu`, `cuda` (the first NVIDIA GPU) or `reference`. Bits are the same on one of them only.
    pub device: BackendKind,
    /// Threads of the CPU; the figures do not depend on their number.
    pub threads: usize,
    /// Steps between two validations.
    pub validate_every: u64,
    /// Validation windows, spread over the validation parts; all of them without it.
    pub validation_windows: Option<usize>,
    /// Validations without a better one after which training ends.
    pub patience: u64,
    /// Folder of the checkpoints and the log.
    pub out: PathBuf,
    /// The checkpoint that training begins with, in place of random weights.
    pub start_from: Option<PathBuf>,
    /// What is trained; everything without it.
    pub only: Option<Only>,
    /// What validations are compared by; predicted spikes without it, unless only readouts are trained.
    pub judged_by: Option<JudgedBy>,
}

impl Default for TrainingSection {
    fn default() -> Self {
        TrainingSection {
            steps: 1000,
            batch: 32,
            seed: 0,
            device: BackendKind::Cpu,
            threads: std::thread::available_parallelism().map_or(1, |n| n.get().min(8)),
            validate_every: 50,
            validation_windows: None,
            patience: 10,
            out: "trained".into(),
            start_from: None,
            only: None,
            judged_by: None,
        }
    }
}

/// A part of the weights.
#[derive(Clone, Copy, Debug, Deserialize, serde::Serialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum Only {
    /// What is looked up by a unit's name: embeddings, and the units' part in the path of recent history.
    Embeddings,
    /// What reads behaviour out of the latents.
    Readouts,
}

/// What tells which validation is the best.
#[derive(Clone, Copy, Debug, Deserialize, serde::Serialize, PartialEq, Eq)]
#[serde(rename_all = "snake_case")]
pub enum JudgedBy {
    /// Bits per spike that are generated.
    Spikes,
    /// The mean over readouts of R², or the share of classes that are right.
    Behaviour,
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
pub(super) const WARM_UP_STEPS: u64 = 20;

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
    /// Each of the other modalities, as a whole.
    pub modalities: f64,
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
            modalities: 0.3,
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
