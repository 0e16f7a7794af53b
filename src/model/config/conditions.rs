//! Which other modalities the network may see beside the spikes.

use serde_json::{json, Map, Value};

use super::{ConfigError, Reader};

/// What a modality is, and so how its samples become tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConditionKind {
    /// Sampled densely, such as a hand's velocity: a token is the mean of a step's samples.
    Behaviour,
    /// Shown until the next one is, such as an image's embedding: a token is what was shown last. A sample of NaN ends it.
    Stimulus,
}

const KINDS: [(&str, ConditionKind); 2] = [
    ("behaviour", ConditionKind::Behaviour),
    ("stimulus", ConditionKind::Stimulus),
];

/// A modality that the network sees as tokens: one for each step of the history in which there are samples.
#[derive(Debug, Clone, PartialEq)]
pub struct ConditionConfig {
    /// The series' name in recordings and sources.
    pub series: String,
    /// How samples become tokens.
    pub kind: ConditionKind,
    /// Length of a step, s; steps are counted back from the history's end.
    pub step_s: f64,
    /// Mean of each channel where the network was trained, `[C]`: it is taken away.
    pub mean: Vec<f32>,
    /// Standard deviation of each channel there, `[C]`: what is left is divided by it.
    pub deviation: Vec<f32>,
}

impl ConditionConfig {
    /// C.
    pub fn channels(&self) -> usize {
        self.mean.len()
    }

    /// Length of a step, ns.
    pub fn step_ns(&self) -> i64 {
        (self.step_s * 1e9).round() as i64
    }

    /// Steps of a history, M: whole ones, and one at least.
    pub fn steps(&self, history_s: f64) -> usize {
        ((history_s / self.step_s + 1e-6) as usize).max(1)
    }

    pub(super) fn list_from_json(keys: &Map<String, Value>) -> Result<Vec<Self>, ConfigError> {
        let Some(value) = keys.get("conditions") else {
            return Ok(Vec::new());
        };
        let list = value
            .as_array()
            .ok_or_else(|| ConfigError(format!("`conditions` is {value}, expected a list")))?;
        list.iter().map(Self::from_json).collect()
    }

    fn from_json(value: &Value) -> Result<Self, ConfigError> {
        let keys = value
            .as_object()
            .ok_or_else(|| ConfigError(format!("one of `conditions` is {value}, expected a table of keys")))?;
        let reader = Reader(keys);
        let name = reader.word("kind", "behaviour")?;
        let kind = KINDS.iter().find(|(known, _)| *known == name).map(|&(_, kind)| kind);
        Ok(ConditionConfig {
            series: reader.word("series", "")?.to_owned(),
            kind: kind
                .ok_or_else(|| ConfigError(format!("`conditions.kind` is `{name}`, expected behaviour or stimulus")))?,
            step_s: reader.number("step_s", 0.0)?,
            mean: reader.numbers("conditions", "mean")?,
            deviation: reader.numbers("conditions", "deviation")?,
        })
    }

    pub(super) fn to_json(&self) -> Value {
        let kind = KINDS.iter().find(|(_, kind)| *kind == self.kind);
        json!({
            "series": self.series,
            "kind": kind.map(|(name, _)| *name),
            "step_s": self.step_s,
            "mean": self.mean,
            "deviation": self.deviation,
        })
    }

    /// Refuses what is no modality, naming the key.
    pub(super) fn validate(&self, history_s: f64) -> Result<(), ConfigError> {
        let refuse = |what: String| Err(ConfigError(format!("`conditions` of series {:?}: {what}", self.series)));
        if self.series.is_empty() {
            return Err(ConfigError("one of `conditions` names no `series`".into()));
        }
        if !(self.step_s >= 1e-3 && self.step_s <= history_s * (1.0 + 1e-6)) {
            return refuse(format!(
                "`step_s` is {}, expected 0.001 s to the history's {history_s} s",
                self.step_s
            ));
        }
        let channels = self.mean.len();
        if !(1..=65_536).contains(&channels) || self.deviation.len() != channels {
            return refuse(format!(
                "`mean` and `deviation` have {channels} and {} numbers, expected one a channel",
                self.deviation.len()
            ));
        }
        let sound = |x: &f32| x.is_finite();
        if !self.mean.iter().all(sound) || !self.deviation.iter().all(|x| x.is_finite() && *x > 0.0) {
            return refuse("`mean` is expected finite and `deviation` above 0".into());
        }
        Ok(())
    }
}
