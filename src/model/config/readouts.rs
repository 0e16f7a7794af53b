//! Which behaviour the network reads out of its latents.

use serde_json::{json, Map, Value};

use super::{ConfigError, Reader};

/// What is read out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReadoutKind {
    /// Numbers, such as a hand's velocity.
    Regression,
    /// One of a few classes, such as the target of a reach.
    Classes,
}

const KINDS: [(&str, ReadoutKind); 2] = [
    ("regression", ReadoutKind::Regression),
    ("classes", ReadoutKind::Classes),
];

/// A task of the behaviour head: a series that is read out at R times around the end of the history.
///
/// Time is cut into steps, counted from the history's end: the last `back` of the history, whose spikes have all been seen, and
/// `ahead` after it. Row r of what is read out is of one step, the earliest first; row `back − 1` is that of the present.
#[derive(Debug, Clone, PartialEq)]
pub struct ReadoutConfig {
    /// The series' name in recordings, and so in the topic.
    pub series: String,
    /// Numbers or classes.
    pub kind: ReadoutKind,
    /// Length of a step, s.
    pub step_s: f64,
    /// Steps before the history's end, at least 1.
    pub back: usize,
    /// Steps after it.
    pub ahead: usize,
    /// What the numbers are measured in, as the recordings state it; may be empty.
    pub unit: String,
    /// Names of the C channels, or the K labels of the classes.
    pub labels: Vec<String>,
    /// Mean of each channel where the network was trained, `[C]`; of classes the numbers that stand for them, `[K]`.
    pub mean: Vec<f32>,
    /// Standard deviation of each channel there, `[C]`; nothing of classes.
    pub deviation: Vec<f32>,
}

impl ReadoutConfig {
    /// R.
    pub fn rows(&self) -> usize {
        self.back + self.ahead
    }

    /// The row of the present: the last step that the history holds.
    pub fn present(&self) -> usize {
        self.back - 1
    }

    /// Columns of a row: C channels, or K classes.
    pub fn columns(&self) -> usize {
        self.mean.len()
    }

    /// Channels of the series: a class is one number.
    pub fn channels(&self) -> usize {
        match self.kind {
            ReadoutKind::Regression => self.mean.len(),
            ReadoutKind::Classes => 1,
        }
    }

    /// Middle of each step, s from the history's end, `[R]`.
    pub fn times_s(&self) -> Vec<f64> {
        let middle = |row: usize| (row as f64 + 0.5 - self.back as f64) * self.step_s;
        (0..self.rows()).map(middle).collect()
    }

    pub(super) fn list_from_json(keys: &Map<String, Value>) -> Result<Vec<Self>, ConfigError> {
        let Some(value) = keys.get("readouts") else {
            return Ok(Vec::new());
        };
        let list = value
            .as_array()
            .ok_or_else(|| ConfigError(format!("`readouts` is {value}, expected a list")))?;
        list.iter().map(Self::from_json).collect()
    }

    fn from_json(value: &Value) -> Result<Self, ConfigError> {
        let keys = value
            .as_object()
            .ok_or_else(|| ConfigError(format!("one of `readouts` is {value}, expected a table of keys")))?;
        let reader = Reader(keys);
        let name = reader.word("kind", "regression")?;
        let kind = KINDS.iter().find(|(known, _)| *known == name).map(|&(_, kind)| kind);
        let labels = keys.get("labels").and_then(Value::as_array);
        let labels: Option<Vec<String>> = labels.and_then(|list| {
            let text = |value: &Value| value.as_str().map(str::to_owned);
            list.iter().map(text).collect()
        });
        Ok(ReadoutConfig {
            series: reader.word("series", "")?.to_owned(),
            kind: kind
                .ok_or_else(|| ConfigError(format!("`readouts.kind` is `{name}`, expected regression or classes")))?,
            step_s: reader.number("step_s", 0.0)?,
            back: reader.size("back", 0)?,
            ahead: reader.size("ahead", 0)?,
            unit: reader.word("unit", "")?.to_owned(),
            labels: labels.ok_or_else(|| ConfigError("`readouts.labels` is no list of words".into()))?,
            mean: reader.numbers("readouts", "mean")?,
            deviation: reader.numbers("readouts", "deviation")?,
        })
    }

    pub(super) fn to_json(&self) -> Value {
        let kind = KINDS.iter().find(|(_, kind)| *kind == self.kind);
        json!({
            "series": self.series,
            "kind": kind.map(|(name, _)| *name),
            "step_s": self.step_s,
            "back": self.back,
            "ahead": self.ahead,
            "unit": self.unit,
            "labels": self.labels,
            "mean": self.mean,
            "deviation": self.deviation,
        })
    }

    /// Refuses what is no readout, naming the key.
    pub(super) fn validate(&self, history_s: f64) -> Result<(), ConfigError> {
        let refuse = |what: String| Err(ConfigError(format!("`readouts` of series {:?}: {what}", self.series)));
        if self.series.is_empty() {
            return Err(ConfigError("one of `readouts` names no `series`".into()));
        }
        if !(1e-3..=3600.0).contains(&self.step_s) {
            return refuse(format!("`step_s` is {}, expected 0.001 to 3600 s", self.step_s));
        }
        let back_s = self.back as f64 * self.step_s;
        if self.back == 0 || back_s > history_s * (1.0 + 1e-6) {
            return refuse(format!(
                "`back` is {}, expected 1 to as many steps as the history of {history_s} s holds",
                self.back
            ));
        }
        if self.ahead > 4096 {
            return refuse(format!("`ahead` is {}, expected at most 4096", self.ahead));
        }
        let (columns, least, deviations) = match self.kind {
            ReadoutKind::Regression => (self.mean.len(), 1, self.mean.len()),
            ReadoutKind::Classes => (self.mean.len(), 2, 0),
        };
        if !(least..=65_536).contains(&columns) || self.deviation.len() != deviations || self.labels.len() != columns {
            return refuse(format!(
                "`mean`, `deviation` and `labels` have {columns}, {} and {} elements, expected one a channel; or one a class, two \
                 at least, and no deviation",
                self.deviation.len(),
                self.labels.len()
            ));
        }
        let finite = self.mean.iter().all(|x| x.is_finite());
        if !finite || !self.deviation.iter().all(|x| x.is_finite() && *x > 0.0) {
            return refuse("`mean` is expected finite and `deviation` above 0".into());
        }
        Ok(())
    }
}
