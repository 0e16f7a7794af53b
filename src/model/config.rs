//! Sizes and variants of the network, as the reference's constructor takes them.

mod conditions;
mod readouts;

use serde_json::{json, Map, Value};

pub use conditions::{ConditionConfig, ConditionKind};
pub use readouts::{ReadoutConfig, ReadoutKind};

/// How a bin sees the counts of the bin before it, in the `query_aug` decoder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Feedback {
    /// It does not.
    None,
    /// A mean over units of an MLP.
    MlpPool,
    /// Unit embeddings weighted by the softmax of the counts.
    RateWeighted,
    /// A learned query over the units.
    CrossAttn,
}

/// Decoder variant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decoder {
    /// Counts are added to the bin queries.
    QueryAug(Feedback),
    /// Bins attend to memory tokens of all earlier bins.
    PredictionMemory,
    /// Bins attend to memory tokens of the bin before.
    LocalPredictionMemory,
}

/// Names in a checkpoint's hyper-parameters.
const FEEDBACKS: [(&str, Feedback); 4] = [
    ("none", Feedback::None),
    ("mlp_pool", Feedback::MlpPool),
    ("rate_weighted", Feedback::RateWeighted),
    ("cross_attn", Feedback::CrossAttn),
];

/// The path of recent history ([`super::recent`]), which the reference lacks.
#[derive(Debug, Clone, PartialEq)]
pub struct HistoryConfig {
    /// Time constants of the K traces, seconds, ascending.
    pub time_constants_s: Vec<f64>,
    /// J: the first so many of them are read from the whole population.
    pub population_time_constants: usize,
    /// Components read from the population.
    pub components: usize,
}

/// What a unit's identity is computed from ([`super::identity`]).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IdentityScheme {
    /// Counts in windows.
    Binned,
    /// Spike times.
    Events,
}

/// Names in a checkpoint's hyper-parameters.
const SCHEMES: [(&str, IdentityScheme); 2] = [("binned", IdentityScheme::Binned), ("events", IdentityScheme::Events)];

/// The encoder of identities, in place of a table of embeddings.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct IdentityConfig {
    /// From counts or from spike times.
    pub scheme: IdentityScheme,
    /// T: bins of a window.
    pub window_bins: usize,
    /// Width of such a bin, seconds.
    pub bin_s: f64,
    /// Width of its hidden layers.
    pub hidden: usize,
    /// Whether the counts of all other units stand beside a unit's own (`binned` only).
    pub population: bool,
    /// Components of the population that a unit's loadings are computed of; 0 for none.
    pub components: usize,
    /// Whether units' weights of recent history are then fitted to the reference ([`super::identity`]).
    pub refine: bool,
}

/// Sizes of the network. Times in seconds. Names are those of the reference's constructor but for the memory's.
#[derive(Debug, Clone, PartialEq)]
pub struct ModelConfig {
    /// History and horizon together.
    pub sequence_length: f64,
    /// Horizon.
    pub pred_window: f64,
    /// Width of a predicted bin.
    pub bin_size: f64,
    /// Distance between groups of latents.
    pub latent_step: f64,
    /// Latents in a group.
    pub num_latents_per_step: usize,
    /// D.
    pub dim: usize,
    /// Processor layers.
    pub enc_depth: usize,
    /// Decoder layers.
    pub dec_depth: usize,
    /// Dh.
    pub dim_head: usize,
    /// Heads of every cross-attention.
    pub cross_heads: usize,
    /// Heads of every self-attention.
    pub self_heads: usize,
    /// Bins that there are learned queries for.
    pub max_pred_bins: usize,
    /// Shortest rotary period.
    pub t_min: f64,
    /// Longest rotary period.
    pub t_max: f64,
    /// A bin sees no later bin.
    pub causal: bool,
    /// Decoder variant.
    pub decoder: Decoder,
    /// Memory tokens a bin (`prediction_memory_k`).
    pub memory_tokens: usize,
    /// Heads of the memory's pooling (`prediction_memory_heads`).
    pub memory_heads: usize,
    /// The path of recent history (`recent_history`), where there is one.
    pub history: Option<HistoryConfig>,
    /// The encoder of identities (`identity`), where there is one.
    pub identity: Option<IdentityConfig>,
    /// Other modalities that it may see (`conditions`).
    pub conditions: Vec<ConditionConfig>,
    /// Behaviour that it reads out (`readouts`).
    pub readouts: Vec<ReadoutConfig>,
}

impl Default for ModelConfig {
    /// The constructor's defaults; it has none for `sequence_length`, so the reference recipe's 0.75 s stands here.
    fn default() -> Self {
        ModelConfig {
            sequence_length: 0.75,
            pred_window: 0.25,
            bin_size: 0.02,
            latent_step: 0.05,
            num_latents_per_step: 64,
            dim: 512,
            enc_depth: 2,
            dec_depth: 2,
            dim_head: 64,
            cross_heads: 2,
            self_heads: 8,
            max_pred_bins: 50,
            t_min: 1e-4,
            t_max: 2.0627,
            causal: true,
            decoder: Decoder::QueryAug(Feedback::None),
            memory_tokens: 4,
            memory_heads: 4,
            history: None,
            identity: None,
            conditions: Vec::new(),
            readouts: Vec::new(),
        }
    }
}

/// A configuration that is no network; the text names the key and the value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("configuration: {0}")]
pub struct ConfigError(pub String);

/// Most latents, channels or layers that anything asks for; keeps a damaged file from asking for absurd memory.
const MOST: usize = 1 << 16;

impl ModelConfig {
    /// Reads the keys of `hyper_parameters.model`. A missing key takes the constructor's default; keys that say nothing
    /// about the forward pass (dropout, initialisation, the class to instantiate) are passed over.
    pub fn from_json(value: &Value) -> Result<Self, ConfigError> {
        let keys = value
            .as_object()
            .ok_or_else(|| ConfigError("is not a table of keys".into()))?;
        let defaults = ModelConfig::default();
        let reader = Reader(keys);
        if !keys.contains_key("sequence_length") {
            return Err(ConfigError("`sequence_length` is missing".into()));
        }
        let feedback = reader.word("feedback_method", "none")?;
        let feedback = FEEDBACKS
            .iter()
            .find(|(name, _)| *name == feedback)
            .map(|&(_, feedback)| feedback)
            .ok_or_else(|| ConfigError(format!("`feedback_method` is `{feedback}`, which no network here has")))?;
        let decoder = match (reader.word("decoder_variant", "query_aug")?, feedback) {
            ("query_aug", feedback) => Decoder::QueryAug(feedback),
            ("prediction_memory", Feedback::None) => Decoder::PredictionMemory,
            ("local_prediction_memory", Feedback::None) => Decoder::LocalPredictionMemory,
            ("prediction_memory" | "local_prediction_memory", _) => {
                return Err(ConfigError(
                    "`feedback_method` goes with the `query_aug` decoder only".into(),
                ))
            }
            (other, _) => {
                return Err(ConfigError(format!(
                    "`decoder_variant` is `{other}`, which no network here has"
                )))
            }
        };
        let config = ModelConfig {
            sequence_length: reader.number("sequence_length", defaults.sequence_length)?,
            pred_window: reader.number("pred_window", defaults.pred_window)?,
            bin_size: reader.number("bin_size", defaults.bin_size)?,
            latent_step: reader.number("latent_step", defaults.latent_step)?,
            num_latents_per_step: reader.size("num_latents_per_step", defaults.num_latents_per_step)?,
            dim: reader.size("dim", defaults.dim)?,
            enc_depth: reader.size("enc_depth", defaults.enc_depth)?,
            dec_depth: reader.size("dec_depth", defaults.dec_depth)?,
            dim_head: reader.size("dim_head", defaults.dim_head)?,
            cross_heads: reader.size("cross_heads", defaults.cross_heads)?,
            self_heads: reader.size("self_heads", defaults.self_heads)?,
            max_pred_bins: reader.size("max_pred_bins", defaults.max_pred_bins)?,
            t_min: reader.number("t_min", defaults.t_min)?,
            t_max: reader.number("t_max", defaults.t_max)?,
            causal: reader.flag("causal_decoder", defaults.causal)?,
            decoder,
            memory_tokens: reader.size("prediction_memory_k", defaults.memory_tokens)?,
            memory_heads: reader.size("prediction_memory_heads", defaults.memory_heads)?,
            history: keys.get("recent_history").map(HistoryConfig::from_json).transpose()?,
            identity: keys.get("identity").map(IdentityConfig::from_json).transpose()?,
            conditions: ConditionConfig::list_from_json(keys)?,
            readouts: ReadoutConfig::list_from_json(keys)?,
        };
        config.validate()?;
        Ok(config)
    }

    /// The keys that [`from_json`](Self::from_json) reads.
    pub fn to_json(&self) -> Value {
        let (variant, feedback) = match self.decoder {
            Decoder::QueryAug(feedback) => ("query_aug", feedback),
            Decoder::PredictionMemory => ("prediction_memory", Feedback::None),
            Decoder::LocalPredictionMemory => ("local_prediction_memory", Feedback::None),
        };
        let feedback = FEEDBACKS
            .iter()
            .find(|(_, candidate)| *candidate == feedback)
            .map(|(name, _)| *name);
        let mut keys = json!({
            "sequence_length": self.sequence_length,
            "pred_window": self.pred_window,
            "bin_size": self.bin_size,
            "latent_step": self.latent_step,
            "num_latents_per_step": self.num_latents_per_step,
            "dim": self.dim,
            "enc_depth": self.enc_depth,
            "dec_depth": self.dec_depth,
            "dim_head": self.dim_head,
            "cross_heads": self.cross_heads,
            "self_heads": self.self_heads,
            "max_pred_bins": self.max_pred_bins,
            "t_min": self.t_min,
            "t_max": self.t_max,
            "causal_decoder": self.causal,
            "decoder_variant": variant,
            "feedback_method": feedback,
            "prediction_memory_k": self.memory_tokens,
            "prediction_memory_heads": self.memory_heads,
        });
        if let Some(history) = &self.history {
            keys["recent_history"] = json!({
                "time_constants_s": history.time_constants_s,
                "population_time_constants": history.population_time_constants,
                "components": history.components,
            });
        }
        if let Some(identity) = &self.identity {
            keys["identity"] = identity.to_json();
        }
        if !self.conditions.is_empty() {
            keys["conditions"] = self.conditions.iter().map(ConditionConfig::to_json).collect();
        }
        if !self.readouts.is_empty() {
            keys["readouts"] = self.readouts.iter().map(ReadoutConfig::to_json).collect();
        }
        keys
    }

    /// Refuses what is no network, naming the key.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let refuse = |text: String| Err(ConfigError(text));
        for (key, value) in [
            ("sequence_length", self.sequence_length),
            ("pred_window", self.pred_window),
            ("bin_size", self.bin_size),
            ("latent_step", self.latent_step),
            ("t_min", self.t_min),
            ("t_max", self.t_max),
        ] {
            if !(value.is_finite() && value > 0.0 && value <= 3600.0) {
                return refuse(format!("`{key}` is {value}, expected seconds above 0 and at most 3600"));
            }
        }
        for (key, value, most) in [
            ("num_latents_per_step", self.num_latents_per_step, MOST),
            ("dim", self.dim, MOST),
            ("dec_depth", self.dec_depth, 1024),
            ("dim_head", self.dim_head, 4096),
            ("cross_heads", self.cross_heads, 1024),
            ("self_heads", self.self_heads, 1024),
            ("max_pred_bins", self.max_pred_bins, MOST),
            ("prediction_memory_k", self.memory_tokens, 1024),
            ("prediction_memory_heads", self.memory_heads, 1024),
        ] {
            if !(1..=most).contains(&value) {
                return refuse(format!("`{key}` is {value}, expected 1 to {most}"));
            }
        }
        if let Some(history) = &self.history {
            history.validate()?;
        }
        if let Some(identity) = &self.identity {
            identity.validate()?;
            if identity.refine && self.history.is_none() {
                return Err(ConfigError(
                    "`identity.refine` goes with `recent_history` only: its weights are what is refined".into(),
                ));
            }
        }
        if self.enc_depth > 1024 {
            return refuse(format!("`enc_depth` is {}, expected at most 1024", self.enc_depth));
        }
        if self.pred_window >= self.sequence_length {
            return refuse(format!(
                "`pred_window` is {}, expected less than `sequence_length`, which is {}",
                self.pred_window, self.sequence_length
            ));
        }
        for (index, condition) in self.conditions.iter().enumerate() {
            condition.validate(self.history_s())?;
            if self.conditions[..index]
                .iter()
                .any(|other| other.series == condition.series)
            {
                return refuse(format!("`conditions` names the series {:?} twice", condition.series));
            }
        }
        for (index, readout) in self.readouts.iter().enumerate() {
            readout.validate(self.history_s())?;
            let series = &readout.series;
            if self.readouts[..index].iter().any(|other| other.series == *series) {
                return refuse(format!("`readouts` names the series {series:?} twice"));
            }
            if self.conditions.iter().any(|condition| condition.series == *series) {
                return refuse(format!(
                    "the series {series:?} is among `conditions` and `readouts`: what is shown need not be read out"
                ));
            }
        }
        if self.dim < 4 || !self.dim.is_multiple_of(2) {
            return refuse(format!(
                "`dim` is {}, expected an even number from 4 (the head halves it)",
                self.dim
            ));
        }
        if !self.dim_head.is_multiple_of(2) {
            return refuse(format!(
                "`dim_head` is {}, expected an even number (channels turn in pairs)",
                self.dim_head
            ));
        }
        let memory = matches!(self.decoder, Decoder::PredictionMemory | Decoder::LocalPredictionMemory);
        if memory && !self.dim.is_multiple_of(self.memory_heads) {
            return refuse(format!(
                "`prediction_memory_heads` is {}, which does not divide `dim`, which is {}",
                self.memory_heads, self.dim
            ));
        }
        let query_heads = super::feedback::CROSS_ATTENTION_FEEDBACK_HEADS;
        if self.decoder == Decoder::QueryAug(Feedback::CrossAttn) && !self.dim.is_multiple_of(query_heads) {
            return refuse(format!(
                "`dim` is {}, which the {query_heads} heads of `cross_attn` do not divide",
                self.dim
            ));
        }
        let bins = self.bins();
        if !(1..=self.max_pred_bins).contains(&bins) {
            return refuse(format!(
                "`pred_window` / `bin_size` is {bins} bins, expected 1 to `max_pred_bins`, which is {}",
                self.max_pred_bins
            ));
        }
        let groups = self.history_s() / self.latent_step;
        if groups * self.num_latents_per_step as f64 > MOST as f64 {
            return refuse(format!(
                "`latent_step` is {}, which makes more than {MOST} latents",
                self.latent_step
            ));
        }
        Ok(())
    }

    /// Length of the history window, seconds; FP64 subtraction as in the reference.
    pub fn history_s(&self) -> f64 {
        self.sequence_length - self.pred_window
    }

    /// T as trained: `pred_window / bin_size`, halves rounded to even.
    pub fn bins(&self) -> usize {
        (self.pred_window / self.bin_size).round_ties_even() as usize
    }

    /// Times of the L latents, seconds from the window's start: half a step after each multiple of the step below the
    /// history's end, each `num_latents_per_step` times.
    pub fn latent_times(&self) -> Vec<f64> {
        let groups = (self.history_s() / self.latent_step).ceil() as usize;
        (0..groups)
            .flat_map(|i| {
                let time = i as f64 * self.latent_step + self.latent_step / 2.0;
                std::iter::repeat_n(time, self.num_latents_per_step)
            })
            .collect()
    }

    /// Row of the latent embedding of each latent.
    pub fn latent_rows(&self) -> Vec<u32> {
        let groups = (self.history_s() / self.latent_step).ceil() as usize;
        (0..groups).flat_map(|_| 0..self.num_latents_per_step as u32).collect()
    }

    /// Horizon of `bins` bins, seconds: the trained one, or whole bins.
    pub fn horizon_s(&self, bins: usize) -> f64 {
        if bins == self.bins() {
            self.pred_window
        } else {
            bins as f64 * self.bin_size
        }
    }

    /// Centres of `bins` predicted bins, seconds from the window's start: evenly spaced from half a bin after the history
    /// to half a bin before the horizon's end, computed in FP64 and stored as FP32. 250 ms of 20 ms bins gives twelve
    /// centres 20.909 ms apart, as the reference has it.
    pub fn bin_centres(&self, bins: usize) -> Vec<f32> {
        let first = self.history_s() + self.bin_size / 2.0;
        let last = self.history_s() + self.horizon_s(bins) - self.bin_size / 2.0;
        let step = if bins > 1 {
            (last - first) / (bins - 1) as f64
        } else {
            0.0
        };
        (0..bins)
            .map(|i| if i > 0 && i == bins - 1 { last } else { first + i as f64 * step } as f32)
            .collect()
    }
}

impl HistoryConfig {
    fn from_json(value: &Value) -> Result<Self, ConfigError> {
        let keys = value
            .as_object()
            .ok_or_else(|| ConfigError(format!("`recent_history` is {value}, expected a table of keys")))?;
        let reader = Reader(keys);
        let constants = keys.get("time_constants_s").and_then(Value::as_array);
        let constants: Option<Vec<f64>> = constants.and_then(|list| list.iter().map(Value::as_f64).collect());
        Ok(HistoryConfig {
            time_constants_s: constants
                .ok_or_else(|| ConfigError("`recent_history.time_constants_s` is no list of numbers".into()))?,
            population_time_constants: reader.size("population_time_constants", 0)?,
            components: reader.size("components", 0)?,
        })
    }

    /// Refuses what is no path, naming the key.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let constants = &self.time_constants_s;
        let ascending = constants.windows(2).all(|pair| pair[0] < pair[1]);
        let positive = constants.iter().all(|&tau| tau.is_finite() && tau > 0.0);
        if constants.is_empty() || constants.len() > 64 || !ascending || !positive {
            return Err(ConfigError(format!(
                "`time_constants_s` is {constants:?}, expected 1 to 64 ascending times above 0"
            )));
        }
        if !(1..=constants.len()).contains(&self.population_time_constants) {
            return Err(ConfigError(format!(
                "`population_time_constants` is {}, expected 1 to the {} time constants",
                self.population_time_constants,
                constants.len()
            )));
        }
        if !(1..=4096).contains(&self.components) {
            return Err(ConfigError(format!(
                "`components` is {}, expected 1 to 4096",
                self.components
            )));
        }
        Ok(())
    }
}

impl IdentityConfig {
    fn from_json(value: &Value) -> Result<Self, ConfigError> {
        let keys = value
            .as_object()
            .ok_or_else(|| ConfigError(format!("`identity` is {value}, expected a table of keys")))?;
        let reader = Reader(keys);
        let name = reader.word("scheme", "binned")?;
        let scheme = SCHEMES.iter().find(|(known, _)| *known == name);
        Ok(IdentityConfig {
            scheme: scheme
                .map(|&(_, scheme)| scheme)
                .ok_or_else(|| ConfigError(format!("`identity.scheme` is `{name}`, expected binned or events")))?,
            window_bins: reader.size("window_bins", 0)?,
            bin_s: reader.number("bin_s", 0.0)?,
            hidden: reader.size("hidden", 0)?,
            population: reader.flag("population", false)?,
            components: reader.size("components", 0)?,
            refine: reader.flag("refine", false)?,
        })
    }

    fn to_json(self) -> Value {
        let scheme = SCHEMES.iter().find(|(_, scheme)| *scheme == self.scheme);
        json!({
            "scheme": scheme.map(|(name, _)| *name),
            "window_bins": self.window_bins,
            "bin_s": self.bin_s,
            "hidden": self.hidden,
            "population": self.population,
            "components": self.components,
            "refine": self.refine,
        })
    }

    /// Refuses what is no encoder, naming the key.
    pub fn validate(&self) -> Result<(), ConfigError> {
        for (key, value, most) in [
            ("identity.window_bins", self.window_bins, 4096),
            ("identity.hidden", self.hidden, 4096),
        ] {
            if !(1..=most).contains(&value) {
                return Err(ConfigError(format!("`{key}` is {value}, expected 1 to {most}")));
            }
        }
        if self.components > 256 {
            return Err(ConfigError(format!(
                "`identity.components` is {}, expected at most 256",
                self.components
            )));
        }
        if !(1e-3..=10.0).contains(&self.bin_s) {
            return Err(ConfigError(format!(
                "`identity.bin_s` is {}, expected 0.001 to 10 seconds",
                self.bin_s
            )));
        }
        if self.population && self.scheme == IdentityScheme::Events {
            return Err(ConfigError(
                "`identity.population` goes with the `binned` scheme only".into(),
            ));
        }
        Ok(())
    }

    /// Width of a bin, ns.
    pub fn bin_ns(&self) -> i64 {
        (self.bin_s * 1e9).round() as i64
    }

    /// Length of a window, ns.
    pub fn window_ns(&self) -> i64 {
        self.window_bins as i64 * self.bin_ns()
    }

    /// Numbers that say what a unit did in a window.
    pub fn inputs(&self) -> usize {
        self.window_bins * (1 + usize::from(self.population))
    }
}

/// Typed access to keys.
struct Reader<'a>(&'a Map<String, Value>);

impl<'a> Reader<'a> {
    fn get<T>(
        &self,
        key: &str,
        default: T,
        expected: &str,
        read: impl Fn(&'a Value) -> Option<T>,
    ) -> Result<T, ConfigError> {
        match self.0.get(key) {
            None => Ok(default),
            Some(value) => read(value).ok_or_else(|| ConfigError(format!("`{key}` is {value}, expected {expected}"))),
        }
    }
    fn number(&self, key: &str, default: f64) -> Result<f64, ConfigError> {
        self.get(key, default, "a number", Value::as_f64)
    }
    fn size(&self, key: &str, default: usize) -> Result<usize, ConfigError> {
        self.get(key, default, "a whole number", |value| {
            value.as_u64().and_then(|n| usize::try_from(n).ok())
        })
    }
    fn flag(&self, key: &str, default: bool) -> Result<bool, ConfigError> {
        self.get(key, default, "true or false", Value::as_bool)
    }
    fn word(&self, key: &str, default: &'a str) -> Result<&'a str, ConfigError> {
        self.get(key, default, "a word", Value::as_str)
    }
    /// A list of numbers, which must be there, of `table`.
    fn numbers(&self, table: &str, key: &str) -> Result<Vec<f32>, ConfigError> {
        let list = self.0.get(key).and_then(Value::as_array);
        let list: Option<Vec<f32>> = list.and_then(|list| {
            let number = |value: &Value| value.as_f64().map(|number| number as f32);
            list.iter().map(number).collect()
        });
        list.ok_or_else(|| ConfigError(format!("`{table}.{key}` is no list of numbers")))
    }
}
