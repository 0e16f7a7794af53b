//! What an optimiser of the [`Glm`] needs: the gradient of the negative log-likelihood, and AdamW.

use super::glm::{Features, Glm, Parameters, Sizes};
use crate::model::network::LOG_RATE_LIMIT;

const BETAS: (f32, f32) = (0.9, 0.999);
const EPSILON: f32 = 1e-8;

/// Gradient of the negative log-likelihood, summed over places.
pub(super) struct Gradient {
    pub sums: Parameters,
    /// `[T, N]`.
    pub counts: Vec<f32>,
    /// Expected less observed counts, `[T, N]`.
    errors: Vec<f32>,
    /// Errors summed over the horizon, `[N]`.
    unit_errors: Vec<f32>,
}

impl Gradient {
    pub fn new(sizes: Sizes) -> Self {
        Gradient {
            sums: Parameters::zeros(sizes),
            counts: vec![0.0; sizes.bins * sizes.units],
            errors: vec![0.0; sizes.bins * sizes.units],
            unit_errors: vec![0.0; sizes.units],
        }
    }

    pub fn clear(&mut self) {
        self.sums.arrays_mut().into_iter().for_each(|array| array.fill(0.0));
    }

    /// Adds the place whose counts are in `counts`.
    pub fn add(&mut self, glm: &Glm, features: &Features) {
        let Sizes {
            units,
            traces,
            components,
            ..
        } = glm.sizes;
        glm.log_rates(&features.own, &features.population, &mut self.errors);
        for (error, &count) in self.errors.iter_mut().zip(&self.counts) {
            *error = error.min(LOG_RATE_LIMIT).exp() - count;
        }
        let sums = &mut self.sums;
        self.unit_errors.fill(0.0);
        for (t, errors) in self.errors.chunks_exact(units).enumerate() {
            add_scaled(&mut self.unit_errors, 1.0, errors);
            sums.bin_bias[t] += errors.iter().sum::<f32>();
            for (k, own) in features.own.chunks_exact(units).enumerate() {
                sums.bin_own[t * traces + k] += dot(errors, own);
            }
            for (p, a) in glm.parameters.unit_population.chunks_exact(units).enumerate() {
                let (h, population) = (
                    glm.parameters.bin_population[t * components + p],
                    features.population[p],
                );
                sums.bin_population[t * components + p] += population * dot(errors, a);
                add_scaled(
                    &mut sums.unit_population[p * units..(p + 1) * units],
                    h * population,
                    errors,
                );
            }
        }
        add_scaled(&mut sums.unit_bias, 1.0, &self.unit_errors);
        for (k, own) in features.own.chunks_exact(units).enumerate() {
            let sums = &mut sums.unit_own[k * units..(k + 1) * units];
            for ((sum, &error), &own) in sums.iter_mut().zip(&self.unit_errors).zip(own) {
                *sum += error * own;
            }
        }
    }
}

fn add_scaled(sums: &mut [f32], scale: f32, values: &[f32]) {
    sums.iter_mut()
        .zip(values)
        .for_each(|(sum, value)| *sum += scale * value);
}

/// Eight sums at a time, which the compiler can keep in one register.
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0f32; 8];
    let (a8, b8) = (a.chunks_exact(8), b.chunks_exact(8));
    let rest: f32 = a8.remainder().iter().zip(b8.remainder()).map(|(a, b)| a * b).sum();
    for (a, b) in a8.zip(b8) {
        for i in 0..8 {
            sums[i] += a[i] * b[i];
        }
    }
    rest + sums.iter().sum::<f32>()
}

/// AdamW with decoupled decay.
pub(super) struct AdamW {
    first: Parameters,
    second: Parameters,
    steps: i32,
    weight_decay: f32,
}

impl AdamW {
    pub fn new(sizes: Sizes, weight_decay: f32) -> Self {
        AdamW {
            first: Parameters::zeros(sizes),
            second: Parameters::zeros(sizes),
            steps: 0,
            weight_decay,
        }
    }

    pub fn step(&mut self, parameters: &mut Parameters, gradient: &mut Parameters, batch: usize, rate: f32) {
        self.steps += 1;
        let corrections = (1.0 - BETAS.0.powi(self.steps), 1.0 - BETAS.1.powi(self.steps));
        let arrays = parameters.arrays_mut().into_iter().zip(gradient.arrays_mut());
        let moments = self.first.arrays_mut().into_iter().zip(self.second.arrays_mut());
        for ((values, gradient), (first, second)) in arrays.zip(moments) {
            for (i, value) in values.iter_mut().enumerate() {
                let slope = gradient[i] / batch as f32;
                first[i] = BETAS.0 * first[i] + (1.0 - BETAS.0) * slope;
                second[i] = BETAS.1 * second[i] + (1.0 - BETAS.1) * slope * slope;
                let step = first[i] / corrections.0 / ((second[i] / corrections.1).sqrt() + EPSILON);
                *value -= rate * (step + self.weight_decay * *value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::binned::{FitData, FitPart, Source};
    use super::super::glm::GlmOptions;
    use super::super::glm_fit::tests::{switching, BIN, SHAPE, UNITS};
    use super::super::glm_fit::{components, loss, places};
    use super::*;
    use crate::data::Interval;
    use crate::model::window::Spikes;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;

    #[test]
    fn gradients_are_those_of_the_loss() {
        let (times, units, _) = switching(60, 1);
        let observed = [Interval {
            start_ns: 0,
            end_ns: 60 * BIN,
        }];
        let source = Source {
            spikes: Spikes {
                times_ns: &times,
                units: &units,
            },
            observed: &observed,
        };
        let part = FitPart {
            source,
            interval_ns: (0, 60 * BIN),
        };
        let fit = FitData::new(&[part], UNITS, SHAPE);
        let options = GlmOptions {
            components: 3,
            ..GlmOptions::default()
        };
        let chosen = [(0, 40)];
        let all: Vec<(usize, usize)> = (0..50).map(|bin| (0, bin)).collect();
        let mut glm = Glm::flat(&fit, &options, components(&fit, &options, &all));
        let mut random = ChaCha8Rng::seed_from_u64(2);
        for array in glm.parameters.arrays_mut() {
            array
                .iter_mut()
                .for_each(|value| *value += random.random_range(-0.3..0.3));
        }
        let mut gradient = Gradient::new(glm.sizes);
        let place = &places(&fit, &glm, &chosen)[0];
        fit.targets(0, 40, &mut gradient.counts);
        gradient.add(&glm, &place.features);

        let step = 1e-2;
        for array in 0..6 {
            for i in 0..glm.parameters.arrays_mut()[array].len() {
                let at = |offset: f32| {
                    let mut moved = glm.clone();
                    moved.parameters.arrays_mut()[array][i] += offset;
                    loss(&moved, &fit, &chosen)
                };
                let slope = (at(step) - at(-step)) / f64::from(2.0 * step);
                let found = f64::from(gradient.sums.arrays_mut()[array][i]);
                assert!(
                    (found - slope).abs() < 2e-3 * (1.0 + slope.abs()),
                    "{array} {i}: {found} and not {slope}"
                );
            }
        }
    }
}
