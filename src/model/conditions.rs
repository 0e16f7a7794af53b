//! Other modalities beside the spikes: behaviour and stimuli as tokens of the encoder, each with its own type and time.
//!
//! The history is cut into steps, counted back from its end. A step in which there are samples is a token, its time the
//! step's middle: `Linear(channels → D)` of the samples, each channel less its mean and divided by its deviation. What is
//! left out is no token at all, so that a network that learned with every subset of its modalities predicts with any.

use kernels::{Backend, LinearArgs, Matrix};

use super::config::{ConditionConfig, ConditionKind, ModelConfig};
use super::layers::NormedLinear;

/// Samples of a modality.
#[derive(Debug, Clone, Copy, Default)]
pub struct Samples<'a> {
    /// Nanoseconds on the device clock, ascending, `[n]`.
    pub times_ns: &'a [i64],
    /// Values in the units of the series, `[n, C]`.
    pub values: &'a [f32],
}

/// What a window shows of one modality.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Tokens {
    /// Steps with a token, ascending; step 0 is the history's first.
    steps: Vec<u32>,
    /// A row for each step, `[M, C]`, in deviations from the mean; zeros where there is no token.
    values: Vec<f32>,
}

impl Tokens {
    /// No token, with room for all of them.
    pub fn none(config: &ConditionConfig, history_s: f64) -> Self {
        let steps = config.steps(history_s);
        Tokens {
            steps: Vec::with_capacity(steps),
            values: vec![0.0; steps * config.channels()],
        }
    }

    /// Shows nothing.
    pub fn clear(&mut self) {
        self.steps.clear();
        self.values.fill(0.0);
    }

    /// Number of tokens.
    pub fn len(&self) -> usize {
        self.steps.len()
    }

    /// Whether nothing is shown.
    pub fn is_empty(&self) -> bool {
        self.steps.is_empty()
    }

    /// Shows what the samples say of a history that ends at `end_ns`: none at or after it is looked at. Stimuli from before
    /// the history count as long as nothing else was shown. Allocates nothing.
    pub fn fill(&mut self, config: &ConditionConfig, samples: Samples<'_>, end_ns: i64) {
        self.clear();
        let (channels, step_ns) = (config.channels(), config.step_ns());
        let steps = self.values.len() / channels;
        for (step, out) in self.values.chunks_exact_mut(channels).enumerate() {
            let until_ns = end_ns - (steps - 1 - step) as i64 * step_ns;
            let last = samples.times_ns.partition_point(|&time| time < until_ns);
            let first = match config.kind {
                ConditionKind::Behaviour => samples.times_ns.partition_point(|&time| time < until_ns - step_ns),
                ConditionKind::Stimulus => last.saturating_sub(1),
            };
            let rows = samples.values[first * channels..last * channels].chunks_exact(channels);
            let mut seen = 0;
            for row in rows.filter(|row| row.iter().all(|x| x.is_finite())) {
                out.iter_mut().zip(row).for_each(|(sum, x)| *sum += x);
                seen += 1;
            }
            if seen > 0 {
                let scales = config.mean.iter().zip(&config.deviation);
                for (x, (mean, deviation)) in out.iter_mut().zip(scales) {
                    *x = (*x / seen as f32 - mean) / deviation;
                }
                self.steps.push(step as u32);
            }
        }
    }

    /// The same steps, and values so many times as far from the mean.
    pub fn scaled(&self, by: f32) -> Tokens {
        Tokens {
            steps: self.steps.clone(),
            values: self.values.iter().map(|x| x * by).collect(),
        }
    }

    /// A row for each step, `[M, C]`, in deviations from the mean.
    pub fn values(&self) -> &[f32] {
        &self.values
    }

    /// Takes another's place; of the same modality.
    pub(super) fn copy(&mut self, other: &Tokens) {
        self.steps.clear();
        self.steps.extend_from_slice(&other.steps);
        self.values.copy_from_slice(&other.values);
    }
}

/// Steps of all modalities together.
pub(super) fn condition_steps(config: &ModelConfig) -> usize {
    let history_s = config.history_s();
    config
        .conditions
        .iter()
        .map(|condition| condition.steps(history_s))
        .sum()
}

/// Tokens of one modality on a backend.
pub(super) struct ModalityTokens<B: Backend> {
    pub(super) shown: Tokens,
    /// Middle of each step, s from the window's start.
    times_s: Vec<f64>,
    /// First of their rows among the tokens' keys and values.
    first_row: usize,
    /// `[M, C]`.
    values: B::Tensor,
    /// `[M, D]`.
    tokens: B::Tensor,
}

/// Room for the tokens of every modality, whose rows begin at `first_row`.
pub(super) fn modality_tokens<B: Backend>(
    backend: &mut B,
    config: &ModelConfig,
    mut first_row: usize,
) -> Vec<ModalityTokens<B>> {
    let history_s = config.history_s();
    let mut room = |condition: &ConditionConfig| {
        let steps = condition.steps(history_s);
        let to_end = |step: usize| (steps - step) as f64 - 0.5;
        first_row += steps;
        ModalityTokens {
            shown: Tokens::none(condition, history_s),
            times_s: (0..steps)
                .map(|step| history_s - to_end(step) * condition.step_s)
                .collect(),
            first_row: first_row - steps,
            values: backend.zeros(steps, condition.channels()),
            tokens: backend.zeros(steps, config.dim),
        }
    };
    config.conditions.iter().map(&mut room).collect()
}

impl<B: Backend> ModalityTokens<B> {
    /// `[M, C]`, as they were taken in.
    pub(super) fn values(&self) -> &B::Tensor {
        &self.values
    }

    /// First of their rows among the tokens' keys and values.
    pub(super) fn first_row(&self) -> usize {
        self.first_row
    }

    /// Adds rows and times of the tokens that are shown.
    pub(super) fn list(&self, rows: &mut Vec<u32>, times_s: &mut Vec<f64>) {
        rows.extend(self.shown.steps.iter().map(|step| self.first_row as u32 + step));
        times_s.extend(self.shown.steps.iter().map(|&step| self.times_s[step as usize]));
    }

    /// Keys and values of every step, shown or not: a backend may repeat the same operations for every window.
    pub(super) fn embed(
        &mut self,
        backend: &mut B,
        to_token: &B::Linear,
        to_kv: &NormedLinear<B>,
        token_key_value: &mut B::Tensor,
    ) {
        backend.upload(&self.shown.values, self.values.view_mut());
        backend.linear(
            self.values.view(),
            to_token,
            LinearArgs::default(),
            self.tokens.view_mut(),
        );
        let rows = token_key_value.row_block_mut(self.first_row, self.tokens.rows());
        to_kv.apply(backend, self.tokens.view(), rows);
    }
}

/// Samples of a recording's series as what windows show.
pub struct ConditionReader<'a> {
    modalities: Vec<(ConditionConfig, Option<Samples<'a>>)>,
    tokens: Vec<Tokens>,
}

impl<'a> ConditionReader<'a> {
    /// Of a network; `samples` finds those of a modality, where there are any.
    pub fn new(config: &ModelConfig, samples: impl Fn(&ConditionConfig) -> Option<Samples<'a>>) -> Self {
        let history_s = config.history_s();
        let room = |condition| Tokens::none(condition, history_s);
        ConditionReader {
            tokens: config.conditions.iter().map(room).collect(),
            modalities: config
                .conditions
                .iter()
                .map(|condition| (condition.clone(), samples(condition)))
                .collect(),
        }
    }

    /// Shows only those modalities for which `shown`, by their number, is true.
    pub fn showing(mut self, shown: impl Fn(usize) -> bool) -> Self {
        for (number, (_, samples)) in self.modalities.iter_mut().enumerate() {
            *samples = samples.filter(|_| shown(number));
        }
        self
    }

    /// What a history that ends at `end_ns` shows.
    pub fn at(&mut self, end_ns: i64) -> &[Tokens] {
        for (tokens, (config, samples)) in self.tokens.iter_mut().zip(&self.modalities) {
            match samples {
                Some(samples) => tokens.fill(config, *samples, end_ns),
                None => tokens.clear(),
            }
        }
        &self.tokens
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(kind: ConditionKind, channels: usize) -> ConditionConfig {
        ConditionConfig {
            series: "x".into(),
            kind,
            step_s: 0.1,
            mean: vec![1.0; channels],
            deviation: vec![2.0; channels],
        }
    }

    const MS: i64 = 1_000_000;

    #[test]
    fn behaviour_is_the_mean_of_a_step() {
        let config = config(ConditionKind::Behaviour, 2);
        let mut tokens = Tokens::none(&config, 0.35);
        let samples = Samples {
            times_ns: &[99 * MS, 100 * MS, 199 * MS, 250 * MS, 399 * MS, 400 * MS],
            values: &[9.0, 9.0, 1.0, 3.0, 3.0, 7.0, f32::NAN, 1.0, 5.0, -1.0, 9.0, 9.0],
        };
        tokens.fill(&config, samples, 400 * MS);
        // Steps 100-200, 200-300 (its only sample is not a number), 300-400.
        assert_eq!(tokens.steps, [0, 2]);
        assert_eq!(tokens.values, [0.5, 2.0, 0.0, 0.0, 2.0, -1.0]);
    }

    #[test]
    fn a_stimulus_is_shown_until_the_next() {
        let config = config(ConditionKind::Stimulus, 1);
        let mut tokens = Tokens::none(&config, 0.4);
        let samples = Samples {
            times_ns: &[0, 150 * MS, 250 * MS, 399 * MS, 400 * MS],
            values: &[3.0, 5.0, f32::NAN, 7.0, 9.0],
        };
        tokens.fill(&config, samples, 400 * MS);
        // By 100 ms the one from before the history, by 200 the second, by 300 nothing, by 400 the last but one.
        assert_eq!(tokens.steps, [0, 1, 3]);
        assert_eq!(tokens.values, [1.0, 2.0, 0.0, 3.0]);
        tokens.fill(&config, Samples::default(), 400 * MS);
        assert!(tokens.is_empty() && tokens.values == [0.0; 4]);
    }
}
