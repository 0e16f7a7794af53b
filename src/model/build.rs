//! From a checkpoint and a session's unit ids to a network on a chosen backend.

use std::collections::HashMap;
use std::time::Duration;

use kernels::cpu::{CpuBackend, CpuOptions};
use kernels::cuda::gpu::Gpu;
use kernels::cuda::{CudaBackend, CudaOptions};
use kernels::reference::ReferenceBackend;
use kernels::{Backend, BackendError, Precision};

use super::checkpoint::Checkpoint;
use super::conditions::Tokens;
use super::config::{Decoder, Feedback, ModelConfig};
use super::feedback::CROSS_ATTENTION_FEEDBACK_HEADS;
use super::identity::{Identities, IDENTITIES_NOTE};
use super::network::{Network, SessionPlan};
use super::traces::Traces;

/// Spikes that a window may hold unless asked otherwise: 0.5 s of 300 units at an average of 50 spikes a second each.
pub const DEFAULT_MAX_SPIKES: usize = 8192;

/// What computes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum BackendKind {
    /// The fast CPU implementation.
    #[default]
    Cpu,
    /// The PTX kernels on the first NVIDIA GPU.
    Cuda,
    /// The plain loops that define every operation; slow.
    Reference,
}

/// Choices that do not change the model.
#[derive(Debug, Clone)]
pub struct BuildOptions {
    /// What computes.
    pub backend: BackendKind,
    /// Storage of the weights.
    pub precision: Precision,
    /// Threads of the CPU backend, the calling one included.
    pub threads: usize,
    /// Cores that the backend's threads are pinned to, from the second on; the calling thread is its owner's to pin.
    pub cores: Option<Vec<usize>>,
    /// Predicted bins; the checkpoint's own if `None`.
    pub bins: Option<usize>,
    /// Spikes that a window may hold.
    pub max_spikes: usize,
    /// Which of the checkpoint's sessions the units are of, where it has several.
    pub session: Option<String>,
    /// How long a GPU's answer may take before it is given up.
    pub patience: Duration,
}

impl Default for BuildOptions {
    fn default() -> Self {
        BuildOptions {
            backend: BackendKind::Cpu,
            precision: Precision::F32,
            threads: std::thread::available_parallelism().map_or(1, |n| n.get().min(2)),
            cores: None,
            bins: None,
            max_spikes: DEFAULT_MAX_SPIKES,
            session: None,
            patience: Duration::from_secs(2),
        }
    }
}

/// A network that cannot be built as asked.
#[derive(Debug, thiserror::Error)]
pub enum BuildError {
    /// None of the units is in the checkpoint.
    #[error(
        "none of the {asked} units of this session is in the checkpoint, which knows {known} (its first is `{first}`, \
         the session's first `{asked_first}`); where its ids are `SESSION/unit`, say which session this is (--session); units that it \
         never saw need identities (`calibrate`, --identify, run --calibrate)"
    )]
    NoKnownUnit {
        /// Units of the session.
        asked: usize,
        /// Its first id.
        asked_first: String,
        /// Units of the checkpoint.
        known: usize,
        /// Its first id.
        first: String,
    },
    /// A unit is named twice.
    #[error("unit `{0}` appears twice in this session")]
    DuplicateUnit(String),
    /// More bins than the checkpoint has queries for, or none.
    #[error("a horizon of {asked} bins is asked for; this checkpoint can predict 1 to {most}")]
    Horizon {
        /// Bins asked for.
        asked: usize,
        /// `max_pred_bins`.
        most: usize,
    },
    /// No thread.
    #[error("the CPU backend needs at least one thread and takes at most {most}, not {asked}")]
    Threads {
        /// Threads asked for.
        asked: usize,
        /// Largest number taken.
        most: usize,
    },
    /// The units are named like the checkpoint's, and do not fire like them.
    #[error(
        "{matched} units of this session are named like units of the checkpoint, but do not fire like them (their mean \
         rates correlate with {correlation:.2}; the same units' rates do with 0.5 to 1): these are likely other units. Where \
         the checkpoint knows several sessions, say which this is (--session); to go on all the same, say that its units are \
         trusted (--trust-units, model.trust_units)"
    )]
    OtherUnits {
        /// Units named alike.
        matched: usize,
        /// Of the logarithms of their rates.
        correlation: f64,
    },
    /// There is no GPU, none that the kernels run on, or it failed when it was first used.
    #[error("the GPU cannot be used: {0}")]
    Device(String),
    /// The GPU kernels take heads of an even number of channels only.
    #[error("the GPU kernels take heads of an even number of channels; {key} makes them {channels} wide (`--device cpu` takes them)")]
    OddHeads {
        /// What in the configuration does.
        key: &'static str,
        /// Width.
        channels: usize,
    },
    /// The GPU kernels have no BF16 weights.
    #[error("weights on a CUDA device are f16 or f32, not bf16")]
    Bf16OnCuda,
}

/// Units whose rates are compared at least: of fewer the correlation says little.
const LEAST_COMPARED: usize = 20;

/// Expected counts a bin below which rates are alike: 0.01 Hz in bins of 20 ms.
const LEAST_RATE: f64 = 2e-4;

/// Correlation of the logarithms of rates below which units are others. Between parts of one recording, and between
/// recordings of one preparation on one day, it was 0.55 to 0.97 (12 recordings); between different ones at most 0.26.
const LEAST_CORRELATION: f64 = 0.35;

/// Pearson's; NaN where one side does not vary.
fn correlation(a: &[f64], b: &[f64]) -> f64 {
    let mean = |x: &[f64]| x.iter().sum::<f64>() / x.len() as f64;
    let (of_a, of_b) = (mean(a), mean(b));
    let sum = |f: &dyn Fn(f64, f64) -> f64| a.iter().zip(b).map(|(a, b)| f(a - of_a, b - of_b)).sum::<f64>();
    sum(&|a, b| a * b) / (sum(&|a, _| a * a) * sum(&|_, b| b * b)).sqrt()
}

/// Which of a session's units a checkpoint knows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnitMatch {
    /// For every unit of the session, its number among the known ones.
    pub model_unit: Vec<Option<u32>>,
    /// Rows of `unit_emb` of the known ones, in the session's order.
    pub rows: Vec<usize>,
    /// Ids of the known ones.
    pub ids: Vec<String>,
}

impl UnitMatch {
    /// Looks every id up in the checkpoint: with `session` as `session/id`, as checkpoints of several sessions have them, or as
    /// it is where that is the checkpoint's only session.
    pub fn new(checkpoint: &Checkpoint, session_ids: &[String], session: Option<&str>) -> Result<Self, BuildError> {
        let rows_by_id: HashMap<&str, usize> = checkpoint
            .unit_ids
            .iter()
            .enumerate()
            .skip(1)
            .map(|(row, id)| (id.as_str(), row))
            .collect();
        // Row 0 is no session.
        let alone = checkpoint.session_ids.len() == 2 && checkpoint.session_ids.get(1).map(String::as_str) == session;
        let mut matched = UnitMatch {
            model_unit: Vec::with_capacity(session_ids.len()),
            rows: Vec::new(),
            ids: Vec::new(),
        };
        let mut seen = std::collections::HashSet::new();
        for id in session_ids {
            if !seen.insert(id) {
                return Err(BuildError::DuplicateUnit(id.clone()));
            }
            let known_as = session.map_or(id.clone(), |session| format!("{session}/{id}"));
            let row = rows_by_id.get(known_as.as_str());
            let row = row.or_else(|| rows_by_id.get(id.as_str()).filter(|_| alone));
            matched.model_unit.push(row.map(|&row| {
                matched.rows.push(row);
                matched.ids.push(id.clone());
                (matched.rows.len() - 1) as u32
            }));
        }
        if matched.rows.is_empty() {
            return Err(BuildError::NoKnownUnit {
                asked: session_ids.len(),
                asked_first: session_ids.first().map_or(String::new(), |id| {
                    session.map_or(id.clone(), |session| format!("{session}/{id}"))
                }),
                known: rows_by_id.len(),
                first: checkpoint.unit_ids.get(1).cloned().unwrap_or_default(),
            });
        }
        Ok(matched)
    }

    /// Whether the known units fire like those that the checkpoint was trained on. `log_rates` are ln of their mean counts
    /// a bin now. Says nothing of fewer than 20 units, or where the checkpoint has no rates.
    ///
    /// # Errors
    /// Where they are other units by their rates.
    pub fn check_rates(&self, checkpoint: &Checkpoint, log_rates: &[f64]) -> Result<(), BuildError> {
        // Rates of a short reference say little of whose they are, and identities were computed for these very units.
        let computed = checkpoint.notes.contains_key(IDENTITIES_NOTE);
        let (Some(trained), true, false) = (
            self.null_log_rates(checkpoint),
            self.rows.len() >= LEAST_COMPARED,
            computed,
        ) else {
            return Ok(());
        };
        let floor = |log_rate: f64| (log_rate.exp() + LEAST_RATE).ln();
        let now: Vec<f64> = log_rates.iter().map(|&rate| floor(rate)).collect();
        let then: Vec<f64> = trained.iter().map(|&rate| floor(f64::from(rate))).collect();
        let correlation = correlation(&now, &then);
        // Two that do not vary say nothing.
        if correlation < LEAST_CORRELATION {
            return Err(BuildError::OtherUnits {
                matched: self.rows.len(),
                correlation,
            });
        }
        Ok(())
    }

    /// Units of the session that the checkpoint does not know.
    pub fn unknown(&self) -> usize {
        self.model_unit.iter().filter(|unit| unit.is_none()).count()
    }

    /// Traces of the known units, where the checkpoint has the path of recent history.
    pub fn traces(&self, checkpoint: &Checkpoint) -> Option<Traces> {
        let config = checkpoint.config.history.as_ref()?;
        let rates = self.null_log_rates(checkpoint)?;
        Some(Traces::of_path(config, checkpoint.config.bin_size, &rates))
    }

    /// ln of each known unit's mean count a bin on the training data, where the checkpoint has them.
    pub fn null_log_rates(&self, checkpoint: &Checkpoint) -> Option<Vec<f32>> {
        let rates = checkpoint.null_log_rates.as_ref()?;
        Some(self.rows.iter().map(|&row| rates[row]).collect())
    }
}

/// A network whose backend is chosen at run time. See [`Network`] for what each does.
pub trait Inference: Send {
    /// The backend, for people.
    fn describe(&self) -> String;
    /// The system's numbers of the threads that compute beside the calling one.
    fn worker_threads(&self) -> &[i32];
    /// Sizes and variant.
    fn config(&self) -> &ModelConfig;
    /// What it was built for.
    fn plan(&self) -> &SessionPlan;
    /// See [`Network::predict`].
    fn predict(
        &mut self,
        traces: Option<&Traces>,
        times_s: &[f64],
        units: &[u32],
        log_rates: &mut [f32],
    ) -> Result<(), BackendError>;
    /// See [`Network::shortens`].
    fn shortens(&self) -> bool;
    /// See [`Network::predict_within`].
    fn predict_within(
        &mut self,
        traces: Option<&Traces>,
        times_s: &[f64],
        units: &[u32],
        bins: &mut dyn FnMut() -> usize,
        log_rates: &mut [f32],
    ) -> Result<usize, BackendError>;
    /// See [`Network::set_conditions`].
    fn set_conditions(&mut self, conditions: &[Tokens]);
    /// See [`Network::identify`].
    fn identify(&mut self, identities: &Identities);
    /// See [`Network::set_traces`].
    fn set_traces(&mut self, traces: &Traces);
    /// See [`Network::encode`].
    fn encode(&mut self, times_s: &[f64], units: &[u32]);
    /// See [`Network::generate`].
    fn generate(&mut self);
    /// See [`Network::teacher_force`].
    fn teacher_force(&mut self, counts: &[f32]);
    /// See [`Network::log_rates`].
    fn log_rates(&mut self, out: &mut [f32]) -> Result<(), BackendError>;
    /// See [`Network::latents`].
    fn latents(&mut self, out: &mut [f32]) -> Result<(), BackendError>;
    /// L and D.
    fn latent_shape(&self) -> (usize, usize);
    /// See [`Network::readout`].
    fn readout(&mut self, task: usize, out: &mut [f32]) -> Result<(), BackendError>;
}

impl<B> Inference for Network<B>
where
    B: Backend + Send,
{
    fn describe(&self) -> String {
        Network::describe(self)
    }
    fn worker_threads(&self) -> &[i32] {
        Network::worker_threads(self)
    }
    fn config(&self) -> &ModelConfig {
        Network::config(self)
    }
    fn plan(&self) -> &SessionPlan {
        Network::plan(self)
    }
    fn predict(
        &mut self,
        traces: Option<&Traces>,
        times_s: &[f64],
        units: &[u32],
        log_rates: &mut [f32],
    ) -> Result<(), BackendError> {
        Network::predict(self, traces, times_s, units, log_rates)
    }
    fn shortens(&self) -> bool {
        Network::shortens(self)
    }
    fn predict_within(
        &mut self,
        traces: Option<&Traces>,
        times_s: &[f64],
        units: &[u32],
        bins: &mut dyn FnMut() -> usize,
        log_rates: &mut [f32],
    ) -> Result<usize, BackendError> {
        Network::predict_within(self, traces, times_s, units, bins, log_rates)
    }
    fn set_conditions(&mut self, conditions: &[Tokens]) {
        Network::set_conditions(self, conditions);
    }
    fn identify(&mut self, identities: &Identities) {
        Network::identify(self, identities);
    }
    fn set_traces(&mut self, traces: &Traces) {
        Network::set_traces(self, traces);
    }
    fn encode(&mut self, times_s: &[f64], units: &[u32]) {
        Network::encode(self, times_s, units);
    }
    fn generate(&mut self) {
        Network::generate(self);
    }
    fn teacher_force(&mut self, counts: &[f32]) {
        Network::teacher_force(self, counts);
    }
    fn log_rates(&mut self, out: &mut [f32]) -> Result<(), BackendError> {
        Network::log_rates(self, out)
    }
    fn latents(&mut self, out: &mut [f32]) -> Result<(), BackendError> {
        Network::latents(self, out)
    }
    fn latent_shape(&self) -> (usize, usize) {
        Network::latent_shape(self)
    }
    fn readout(&mut self, task: usize, out: &mut [f32]) -> Result<(), BackendError> {
        Network::readout(self, task, out)
    }
}

/// Threads that the CPU backend takes at most.
const MOST_THREADS: usize = 64;

/// Whether the GPU kernels take the heads of every attention. Those of the layers are even in every configuration.
///
/// # Errors
/// The first that they do not.
pub fn check_heads(config: &ModelConfig) -> Result<(), BuildError> {
    let (key, heads) = match config.decoder {
        Decoder::QueryAug(Feedback::CrossAttn) => {
            ("`dim` over the heads of `cross_attn`", CROSS_ATTENTION_FEEDBACK_HEADS)
        }
        Decoder::QueryAug(_) => return Ok(()),
        Decoder::PredictionMemory | Decoder::LocalPredictionMemory => {
            ("`dim` over `prediction_memory_heads`", config.memory_heads)
        }
    };
    let channels = config.dim / heads;
    if channels.is_multiple_of(2) {
        Ok(())
    } else {
        Err(BuildError::OddHeads { key, channels })
    }
}

/// Builds the network for the units at `unit_rows` of the checkpoint.
pub fn build(
    checkpoint: &Checkpoint,
    unit_rows: &[usize],
    options: &BuildOptions,
) -> Result<Box<dyn Inference>, BuildError> {
    let bins = options.bins.unwrap_or_else(|| checkpoint.config.bins());
    let most = checkpoint.config.max_pred_bins;
    if !(1..=most).contains(&bins) {
        return Err(BuildError::Horizon { asked: bins, most });
    }
    if !(1..=MOST_THREADS).contains(&options.threads) {
        return Err(BuildError::Threads {
            asked: options.threads,
            most: MOST_THREADS,
        });
    }
    let plan = SessionPlan {
        unit_rows: unit_rows.to_vec(),
        reference: None,
        bins,
        max_spikes: options.max_spikes,
        precision: options.precision,
    };
    Ok(match options.backend {
        BackendKind::Cuda => {
            if options.precision == Precision::Bf16 {
                return Err(BuildError::Bf16OnCuda);
            }
            check_heads(&checkpoint.config)?;
            let gpu = Gpu::open(0).map_err(|error| BuildError::Device(error.to_string()))?;
            let cuda = CudaOptions {
                half: options.precision == Precision::F16,
                patience: options.patience,
            };
            Box::new(Network::new(CudaBackend::new(gpu, cuda), checkpoint, plan))
        }
        BackendKind::Reference => Box::new(Network::new(ReferenceBackend::default(), checkpoint, plan)),
        BackendKind::Cpu => {
            let backend = CpuBackend::new(CpuOptions {
                threads: options.threads,
                cores: options.cores.clone(),
                ..CpuOptions::default()
            });
            Box::new(Network::new(backend, checkpoint, plan))
        }
    })
}
