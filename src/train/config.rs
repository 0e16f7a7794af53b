//! The TOML of a training run. Unknown keys are refused; `configs/train-*.toml` document every key in place.

use std::path::Path;

use serde::Deserialize;

use super::optimiser::{AdamW, Optimiser, Parameter, SparseLamb};
use super::sampler::{SamplerOptions, UnitDropout};
use super::schedule::{Schedule, ScheduleError};
use super::sections::WARM_UP_STEPS;
pub use super::sections::{
    ConditionSection, DataSection, DropoutSection, ExposureSection, HistorySection, IdentitySection, JudgedBy,
    ModelSection, Only, OptimiserKind, OptimiserSection, Part, RateOver, ReadoutSection, RecordingSection,
    ScheduleSection, SimulateSection, TrainingSection, UnitDropoutSection,
};
use super::TrainError;
use crate::model::config::{Decoder, Feedback, HistoryConfig, IdentityConfig, IdentityScheme, ModelConfig};
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

/// Bins narrower than the spikes' own width, and wider than anything that is predicted here, are mistakes.
const MIN_BIN_MS: f64 = 1.0;
const MAX_BIN_MS: f64 = 10_000.0;

fn identity_config(section: &IdentitySection) -> Result<IdentityConfig, String> {
    let scheme = match section.scheme.as_str() {
        "binned" => IdentityScheme::Binned,
        "events" => IdentityScheme::Events,
        other => return Err(format!("model.identity.scheme is {other:?}, expected binned or events")),
    };
    let bins = section.window_ms / section.bin_ms;
    let window_bins = bins.round();
    if !((bins - window_bins).abs() < 1e-9 && (1.0..=4096.0).contains(&window_bins)) {
        return Err(format!(
            "model.identity.window_ms is {} and bin_ms {}, expected 1 to 4096 whole bins in a window",
            section.window_ms, section.bin_ms
        ));
    }
    let window_s = section.window_ms * 1e-3;
    if !(section.shortest_s >= window_s && section.longest_s >= section.shortest_s && section.longest_s <= 1e5) {
        return Err(format!(
            "model.identity.shortest_s is {} and longest_s {}, expected a window ({window_s} s) at least, in this order",
            section.shortest_s, section.longest_s
        ));
    }
    if section.validation_s.is_nan() || section.validation_s < window_s {
        return Err(format!(
            "model.identity.validation_s is {}, expected a window ({window_s} s) at least",
            section.validation_s
        ));
    }
    Ok(IdentityConfig {
        scheme,
        window_bins: window_bins as usize,
        bin_s: section.bin_ms * 1e-3,
        hidden: section.hidden,
        population: section.population && scheme == IdentityScheme::Binned,
        components: section.components,
        refine: section.refine,
    })
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

    /// Whether every number is in its range; again after any was changed.
    ///
    /// # Errors
    /// The key, its value and what was expected.
    pub fn check(&self) -> Result<(), String> {
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
            ("dropout.modalities", self.dropout.modalities),
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
        for readout in &self.model.readout {
            if !(readout.weight.is_finite() && readout.weight > 0.0) {
                return Err(format!(
                    "model.readout of series {:?}: weight is {}, expected a number above 0",
                    readout.series, readout.weight
                ));
            }
        }
        let reads_out = !self.model.readout.is_empty();
        if !reads_out && self.judged_by() == JudgedBy::Behaviour {
            return Err("training.only or judged_by asks for readouts, and there is no [[model.readout]]".into());
        }
        if self.data.recording.is_empty() == self.data.simulate.is_none() {
            return Err("expected either [[data.recording]] or [data.simulate]".into());
        }
        if !(MIN_BIN_MS..=MAX_BIN_MS).contains(&self.model.bin_ms) {
            return Err(format!(
                "model.bin_ms is {}, expected {MIN_BIN_MS} to {MAX_BIN_MS}",
                self.model.bin_ms
            ));
        }
        self.schedule().map_err(|error| error.to_string())?;
        self.model_config().map(|_| ())
    }

    /// What validations are compared by.
    pub fn judged_by(&self) -> JudgedBy {
        let of_readouts = self.training.only == Some(Only::Readouts);
        let unless_said = if of_readouts {
            JudgedBy::Behaviour
        } else {
            JudgedBy::Spikes
        };
        self.training.judged_by.unwrap_or(unless_said)
    }

    /// Sizes and variant of the network, without modalities and readouts, whose channels the recordings tell
    /// ([`super::modalities::model_of`]).
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
        let identity = model.identity.as_ref().map(identity_config).transpose()?;
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
            identity,
            conditions: Vec::new(),
            readouts: Vec::new(),
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
