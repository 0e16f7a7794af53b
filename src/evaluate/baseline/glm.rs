//! A direct Poisson regression of every bin of the horizon on recent activity: model.md §11 without the network.
//!
//! ```text
//! log_rate[t, n] = ln mean[n] + b[t] + c[n] + Σ_k (w[t, k] + u[n, k]) · own[k, n] + Σ_p h[t, p] · pop[p] · A[p, n]
//! ```
//!
//! `own` are the features of [`Traces`] at four time constants; `pop` the leading principal components of the square roots of
//! the population's traces at two of these, whitened. `w`, `h` and `b` belong to a bin of the horizon, `u`, `A` and `c` to a
//! unit.

use super::binned::{FitData, FitPart};
use super::components::Components;
use super::{glm_fit, log_means, Recent};
use crate::evaluate::predictions::{Observed, Predictions};
use crate::model::network::LOG_RATE_LIMIT;
use crate::model::traces::Traces;
use crate::model::window::WindowShape;

/// Weight decays of which the best is taken. The regression has a few thousand weights, and two minutes of recording tell
/// little about each: without decay it learns accidents. From ten seconds only the strongest keep it near the means.
pub const WEIGHT_DECAYS: [f32; 7] = [30.0, 10.0, 3.0, 1.0, 0.3, 0.1, 0.0];

/// How a [`Glm`] is fitted.
#[derive(Debug, Clone, PartialEq)]
pub struct GlmOptions {
    /// Time constants of the traces, seconds.
    pub time_constants_s: Vec<f64>,
    /// Which of them the population's components are made from.
    pub population_traces: Vec<usize>,
    /// Components of the population, P, at most.
    pub components: usize,
    /// Steps of the optimiser.
    pub steps: usize,
    /// Windows a step.
    pub batch: usize,
    /// Largest step size; it falls to zero as a cosine.
    pub learning_rate: f32,
    /// Weight decay: a step takes this part of the step size off every parameter. Without one, that of
    /// [`WEIGHT_DECAYS`] is taken which, fitted on the first four fifths of each part, predicts the last fifth best.
    pub weight_decay: Option<f32>,
    /// Whether units' means are those of [`FitData::with_one_more_spike`].
    pub one_more_spike: bool,
    /// Seed of the drawn windows.
    pub seed: u64,
}

impl Default for GlmOptions {
    fn default() -> Self {
        GlmOptions {
            time_constants_s: vec![0.02, 0.1, 0.5, 2.0],
            population_traces: vec![1, 2],
            components: 20,
            steps: 1000,
            batch: 64,
            learning_rate: 0.02,
            weight_decay: None,
            one_more_spike: false,
            seed: 0,
        }
    }
}

/// Sizes of a [`Glm`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Sizes {
    /// Bins of the horizon, T.
    pub bins: usize,
    /// Units, N.
    pub units: usize,
    /// Time constants, K.
    pub traces: usize,
    /// Components, P.
    pub components: usize,
}

/// What is fitted.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Parameters {
    /// `b [T]`.
    pub bin_bias: Vec<f32>,
    /// `c [N]`.
    pub unit_bias: Vec<f32>,
    /// `w [T, K]`.
    pub bin_own: Vec<f32>,
    /// `u [K, N]`.
    pub unit_own: Vec<f32>,
    /// `h [T, P]`.
    pub bin_population: Vec<f32>,
    /// `A [P, N]`.
    pub unit_population: Vec<f32>,
}

impl Parameters {
    pub fn zeros(sizes: Sizes) -> Self {
        let Sizes {
            bins,
            units,
            traces,
            components,
        } = sizes;
        Parameters {
            bin_bias: vec![0.0; bins],
            unit_bias: vec![0.0; units],
            bin_own: vec![0.0; bins * traces],
            unit_own: vec![0.0; traces * units],
            bin_population: vec![0.0; bins * components],
            unit_population: vec![0.0; components * units],
        }
    }

    pub fn arrays_mut(&mut self) -> [&mut Vec<f32>; 6] {
        [
            &mut self.bin_bias,
            &mut self.unit_bias,
            &mut self.bin_own,
            &mut self.unit_own,
            &mut self.bin_population,
            &mut self.unit_population,
        ]
    }
}

/// The fitted regression.
#[derive(Debug, Clone, PartialEq)]
pub struct Glm {
    pub(super) sizes: Sizes,
    pub(super) mean: Vec<f32>,
    /// ln of the mean, within the limit of log rates, `[N]`.
    pub(super) log_mean: Vec<f32>,
    pub(super) components: Components,
    pub(super) parameters: Parameters,
    pub(super) options: GlmOptions,
    bin_s: f64,
}

/// Recent activity at one place: what the log rates of a horizon are computed from.
#[derive(Debug, Clone)]
pub(super) struct Features {
    /// `[K, N]`.
    pub own: Vec<f32>,
    /// `[P]`.
    pub population: Vec<f32>,
}

impl Glm {
    /// Fits the regression of N `units` for windows of this form, on all places of the parts at which a horizon can begin.
    /// `progress` is called with (done, all).
    pub fn fit(
        parts: &[FitPart<'_>],
        units: usize,
        shape: WindowShape,
        options: &GlmOptions,
        progress: impl FnMut(usize, usize),
    ) -> Self {
        glm_fit::fit(parts, units, shape, options, progress)
    }

    /// The weight decay that it was fitted with.
    pub fn weight_decay(&self) -> f32 {
        self.options.weight_decay.unwrap_or_default()
    }

    /// A regression that predicts the means, with the population's components.
    pub(super) fn flat(fit: &FitData, options: &GlmOptions, components: Components) -> Self {
        let sizes = Sizes {
            bins: fit.shape().bins,
            units: fit.units(),
            traces: options.time_constants_s.len(),
            components: components.count(),
        };
        let mut parameters = Parameters::zeros(sizes);
        parameters.bin_population.fill(1.0);
        Glm {
            sizes,
            mean: fit.mean().to_vec(),
            log_mean: log_means(fit.mean()),
            components,
            parameters,
            options: options.clone(),
            bin_s: fit.shape().bin_ns as f64 * 1e-9,
        }
    }

    pub(super) fn traces(&self) -> Traces {
        Traces::new(&self.options.time_constants_s, self.bin_s, &self.mean)
    }

    pub(super) fn features(&self) -> Features {
        Features {
            own: vec![0.0; self.sizes.traces * self.sizes.units],
            population: vec![0.0; self.sizes.components],
        }
    }

    /// Reads the features off the traces.
    pub(super) fn read(&self, traces: &Traces, features: &mut Features, scratch: &mut Vec<f32>) {
        traces.log_ratios(&mut features.own);
        population_features(traces, &self.options, scratch);
        self.components.project(scratch, &mut features.population);
    }

    /// Log rates of the horizon, not limited, into `out` `[T, N]`.
    pub(super) fn log_rates(&self, own: &[f32], population: &[f32], out: &mut [f32]) {
        let Sizes {
            units,
            traces,
            components,
            ..
        } = self.sizes;
        let parameters = &self.parameters;
        let (first, rest) = out.split_at_mut(units);
        for (n, out) in first.iter_mut().enumerate() {
            *out = self.log_mean[n] + parameters.unit_bias[n];
        }
        for k in 0..traces {
            let row = k * units..(k + 1) * units;
            let pairs = parameters.unit_own[row.clone()].iter().zip(&own[row]);
            first.iter_mut().zip(pairs).for_each(|(out, (u, own))| *out += u * own);
        }
        rest.chunks_exact_mut(units).for_each(|row| row.copy_from_slice(first));
        for (t, out) in out.chunks_exact_mut(units).enumerate() {
            out.iter_mut().for_each(|out| *out += parameters.bin_bias[t]);
            for (k, own) in own.chunks_exact(units).enumerate() {
                let weight = parameters.bin_own[t * traces + k];
                out.iter_mut().zip(own).for_each(|(out, own)| *out += weight * own);
            }
            for (p, row) in parameters.unit_population.chunks_exact(units).enumerate() {
                let weight = parameters.bin_population[t * components + p] * population[p];
                out.iter_mut().zip(row).for_each(|(out, a)| *out += weight * a);
            }
        }
    }

    /// Predicts the windows of `observed`. Hidden units are taken to be at their means.
    pub fn predict(&self, recent: Recent<'_>, observed: &Observed) -> Predictions {
        let mut predictions = Predictions::empty("GLM", observed);
        let mut features = self.features();
        let mut scratch = Vec::new();
        recent.each_window(observed, &self.mean, &mut self.traces(), |window, traces| {
            self.read(traces, &mut features, &mut scratch);
            let out = predictions.window_mut(window);
            self.log_rates(&features.own, &features.population, out);
            out.iter_mut()
                .for_each(|rate| *rate = rate.clamp(-LOG_RATE_LIMIT, LOG_RATE_LIMIT));
        });
        predictions
    }
}

/// Square roots of the traces that the population's components are made from.
pub(super) fn population_features(traces: &Traces, options: &GlmOptions, out: &mut Vec<f32>) {
    out.clear();
    let units = traces.units();
    for &k in &options.population_traces {
        out.extend(
            traces.state()[k * units..(k + 1) * units]
                .iter()
                .map(|trace| trace.sqrt()),
        );
    }
}
