//! Behaviour read out of the latents, beside the predicted spikes: the network as a decoder.
//!
//! ```text
//! b[r] = query[task] + cross(query ← latents), turned by the step's time;  b += ffn(b)
//! y[r] = W b[r] + bias + V[r] · components of recent history
//! ```
//! as POYO reads out (Azabou et al. 2023): a query is what is asked for, and when. The last term is there where the network has
//! the path of recent history. Numbers come out in deviations from their mean, classes as logits; [`ReadoutConfig`] says of
//! which times. Every task has a query and a readout of its own; the attention is one for all.

use kernels::{Backend, LinearArgs, Mask, Matrix, Rotary, View};

use super::conditions::Samples;
use super::config::{ModelConfig, ReadoutConfig, ReadoutKind};
use super::layers::{CrossAttention, FeedForward};

/// One task's weights.
pub struct Task<B: Backend> {
    /// R.
    pub(super) rows: usize,
    /// C or K.
    pub(super) columns: usize,
    /// `[1, D]`.
    pub(super) query: B::Tensor,
    /// D → columns.
    pub(super) output: B::Linear,
    /// Components of recent history → columns, one for each row; none without that path.
    pub(super) recent: Vec<B::Linear>,
}

/// All tasks, and what they share.
pub struct ReadoutHead<B: Backend> {
    pub(super) cross: CrossAttention<B>,
    pub(super) ffn: FeedForward<B>,
    pub(super) tasks: Vec<Task<B>>,
}

/// What a head holds beside its weights. Q = rows of all tasks.
pub(super) struct ReadoutBuffers<B: Backend> {
    /// Times of the queries.
    rotation: B::Rotation,
    /// Queries of every row, `[Q, D]`.
    queries: B::Tensor,
    /// Keys (rotated) and values of the latents, `[L, 2W]`.
    key_value: B::Tensor,
    /// `[Q, D]`.
    x: B::Tensor,
    /// `[Q, W]` each.
    query: B::Tensor,
    attended: B::Tensor,
    /// `[Q, 4D]`.
    hidden: B::Tensor,
    /// What each task reads out, `[R, columns]`.
    outputs: Vec<B::Tensor>,
}

impl<B: Backend> ReadoutHead<B> {
    /// Takes every buffer.
    pub(super) fn prepare(&self, backend: &mut B, config: &ModelConfig, omega: &[f32]) -> ReadoutBuffers<B> {
        let rows: usize = self.tasks.iter().map(|task| task.rows).sum();
        let (dim, width, latents) = (config.dim, self.cross.width, config.latent_times().len());
        let mut queries = backend.zeros(rows, dim);
        let mut row = 0;
        for task in &self.tasks {
            for _ in 0..task.rows {
                backend.copy(task.query.view(), false, queries.row_block_mut(row, 1));
                row += 1;
            }
        }
        let times = config.readouts.iter().flat_map(ReadoutConfig::times_s);
        let times: Vec<f64> = times.map(|time| config.history_s() + time).collect();
        let mut rotation = backend.rotation(rows, omega);
        backend.set_rotation(&mut rotation, 0, &times);
        backend.reserve(rows, latents, config.cross_heads, config.dim_head, 4 * dim);
        ReadoutBuffers {
            rotation,
            queries,
            key_value: backend.zeros(latents, 2 * width),
            x: backend.zeros(rows, dim),
            query: backend.zeros(rows, width),
            attended: backend.zeros(rows, width),
            hidden: backend.zeros(rows, 4 * dim),
            outputs: self
                .tasks
                .iter()
                .map(|task| backend.zeros(task.rows, task.columns))
                .collect(),
        }
    }

    /// Reads every task out of the latents `[L, D]`, whose times are `latent_rotary`; `components` `[1, components]` are those
    /// of recent history, where the network has that path.
    pub(super) fn read_out(
        &self,
        backend: &mut B,
        latents: &B::Tensor,
        latent_rotary: Rotary<'_, B::Rotation>,
        components: Option<&B::Tensor>,
        buffers: &mut ReadoutBuffers<B>,
    ) {
        let ReadoutBuffers {
            rotation,
            queries,
            key_value,
            x,
            query,
            attended,
            hidden,
            outputs,
        } = buffers;
        let rows = x.rows();
        let rotary = Rotary { rotation, first: 0 };
        backend.copy(queries.view(), false, x.view_mut());
        self.cross
            .keys_and_values(backend, latents.view(), latent_rotary, key_value, 0);
        self.cross
            .apply(backend, x, rows, rotary, key_value.view(), Mask::All, query, attended);
        self.ffn.apply(backend, x, rows, hidden);
        let mut first = 0;
        for (task, output) in self.tasks.iter().zip(outputs) {
            let plain = LinearArgs::default();
            backend.linear(x.row_block(first, task.rows), &task.output, plain, output.view_mut());
            first += task.rows;
            if let Some(components) = components {
                for (row, layer) in task.recent.iter().enumerate() {
                    let added = LinearArgs {
                        accumulate: true,
                        ..LinearArgs::default()
                    };
                    backend.linear(components.view(), layer, added, output.row_block_mut(row, 1));
                }
            }
        }
    }
}

impl<B: Backend> ReadoutBuffers<B> {
    /// What a task read out, `[R, columns]`: deviations or logits.
    pub(super) fn output(&self, task: usize) -> View<'_, B::Tensor> {
        self.outputs[task].view()
    }
}

/// Deviations become numbers in the series' unit, logits probabilities; `values` `[R, columns]`, in place.
pub fn in_units(config: &ReadoutConfig, values: &mut [f32]) {
    for row in values.chunks_exact_mut(config.columns()) {
        match config.kind {
            ReadoutKind::Regression => {
                let scales = config.mean.iter().zip(&config.deviation);
                for (x, (mean, deviation)) in row.iter_mut().zip(scales) {
                    *x = *x * deviation + mean;
                }
            }
            ReadoutKind::Classes => {
                let most = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
                row.iter_mut().for_each(|x| *x = (*x - most).exp());
                let sum: f32 = row.iter().sum();
                row.iter_mut().for_each(|x| *x /= sum);
            }
        }
    }
}

/// What a readout should have said: for each row its columns' numbers, or the number of its class; NaN where the series says
/// nothing.
///
/// A number is the mean of the step's samples, as a token of behaviour is; a class is the last sample by the step's end, until one
/// that is no number ends it. In deviations from the mean with `scaled`. `[R, C]`, of classes `[R, 1]`.
pub fn targets(config: &ReadoutConfig, samples: Samples<'_>, end_ns: i64, scaled: bool) -> Vec<f32> {
    let channels = config.channels();
    let step_ns = (config.step_s * 1e9).round() as i64;
    let mut out = vec![f32::NAN; config.rows() * channels];
    for (row, out) in out.chunks_exact_mut(channels).enumerate() {
        let until_ns = end_ns + (row as i64 + 1 - config.back as i64) * step_ns;
        let last = samples.times_ns.partition_point(|&time| time < until_ns);
        match config.kind {
            ReadoutKind::Regression => {
                let first = samples.times_ns.partition_point(|&time| time < until_ns - step_ns);
                let rows = samples.values[first * channels..last * channels].chunks_exact(channels);
                let rows: Vec<&[f32]> = rows.filter(|row| row.iter().all(|x| x.is_finite())).collect();
                if rows.is_empty() {
                    continue;
                }
                for (channel, x) in out.iter_mut().enumerate() {
                    let mean = rows.iter().map(|row| f64::from(row[channel])).sum::<f64>() / rows.len() as f64;
                    *x = mean as f32;
                    if scaled {
                        *x = (*x - config.mean[channel]) / config.deviation[channel];
                    }
                }
            }
            ReadoutKind::Classes => {
                let Some(label) = last.checked_sub(1).map(|last| samples.values[last]) else {
                    continue;
                };
                if let Some(class) = config.mean.iter().position(|&known| known == label) {
                    out[0] = class as f32;
                }
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: i64 = 1_000_000;

    fn config(kind: ReadoutKind, mean: Vec<f32>, deviation: Vec<f32>) -> ReadoutConfig {
        ReadoutConfig {
            series: "x".into(),
            kind,
            step_s: 0.1,
            back: 2,
            ahead: 1,
            unit: String::new(),
            labels: mean.iter().map(f32::to_string).collect(),
            mean,
            deviation,
        }
    }

    #[test]
    fn rows_lie_about_the_end_of_the_history() {
        let config = config(ReadoutKind::Regression, vec![1.0], vec![2.0]);
        assert_eq!((config.rows(), config.present()), (3, 1));
        let expected = [-0.15, -0.05, 0.05];
        assert!(config
            .times_s()
            .iter()
            .zip(expected)
            .all(|(t, e)| (t - e).abs() < 1e-12));
        let samples = Samples {
            times_ns: &[299 * MS, 300 * MS, 399 * MS, 400 * MS, 500 * MS],
            values: &[9.0, 1.0, 2.0, f32::NAN, 7.0],
        };
        // Steps 300-400, 400-500 (its only sample is no number), 500-600, of a history that ends at 500.
        let found = targets(&config, samples, 500 * MS, false);
        assert!(found[0] == 1.5 && found[1].is_nan() && found[2] == 7.0, "{found:?}");
        let mut scaled = targets(&config, samples, 500 * MS, true);
        assert_eq!((scaled[0], scaled[2]), (0.25, 3.0));
        in_units(&config, &mut scaled);
        assert_eq!((scaled[0], scaled[2]), (1.5, 7.0));
    }

    #[test]
    fn a_class_lasts_until_the_next() {
        let config = config(ReadoutKind::Classes, vec![3.0, 5.0], Vec::new());
        let samples = Samples {
            times_ns: &[0, 350 * MS, 450 * MS, 550 * MS],
            values: &[5.0, 3.0, 4.0, f32::NAN],
        };
        // By 400 the second class is over, by 500 there is one that is not known, by 600 none.
        let found = targets(&config, samples, 500 * MS, true);
        assert!(found[0] == 0.0 && found[1].is_nan() && found[2].is_nan(), "{found:?}");
        assert_eq!(targets(&config, samples, 300 * MS, true)[0], 1.0);
        assert!(targets(&config, Samples::default(), 0, true).iter().all(|x| x.is_nan()));
        let mut logits = [0.0, 3f32.ln(), 0.0, 0.0, -200.0, 200.0];
        in_units(&config, &mut logits);
        let expected = [0.25, 0.75, 0.5, 0.5, 0.0, 1.0];
        assert!(
            logits.iter().zip(expected).all(|(x, e)| (x - e).abs() < 1e-6),
            "{logits:?}"
        );
    }
}
