//! How parameters follow their gradients: [`AdamW`] and [`SparseLamb`] behind one trait, and clipping of gradients.
//!
//! Elements are updated in FP32, norms are summed in FP64 in the order of the parameters: the same gradients give the
//! same bits, also after the moments were stored in a checkpoint and restored.

mod adamw;
mod sparse_lamb;

pub use adamw::AdamW;
pub use sparse_lamb::SparseLamb;

/// What a parameter is, as far as its optimiser cares.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ParameterKind {
    /// A weight matrix, rows × columns.
    Matrix,
    /// A bias or the scale of a norm; [`weight_decays`] gives it none.
    Vector,
    /// A table of embeddings. A row that a batch did not use has no gradient, and [`SparseLamb`] leaves it alone.
    Embedding,
}

/// One named parameter tensor with its gradient.
#[derive(Debug, Clone, PartialEq)]
pub struct Parameter {
    /// Its name in a checkpoint.
    pub name: String,
    /// Rows; 1 for a vector.
    pub rows: usize,
    /// Columns.
    pub cols: usize,
    /// `[rows × cols]`, row-major.
    pub value: Vec<f32>,
    /// Gradient of the loss by `value`, in the same order.
    pub gradient: Vec<f32>,
    /// How it is treated.
    pub kind: ParameterKind,
}

/// Why stored moments were refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the optimiser's stored state {0}")]
pub struct OptimiserError(String);

/// Moments of every parameter, in the order of the parameters, and the number of steps taken: what a checkpoint has to
/// hold for training to go on with the same bits.
#[derive(Debug, Clone, PartialEq)]
pub struct OptimiserState {
    /// Steps taken.
    pub steps: u64,
    /// Running mean of the gradient, one vector a parameter, each as long as the parameter's value.
    pub first: Vec<Vec<f32>>,
    /// Running mean of the squared gradient, in the same form.
    pub second: Vec<Vec<f32>>,
}

impl OptimiserState {
    fn new(parameters: &[Parameter]) -> Self {
        let zeros = || parameters.iter().map(|p| vec![0.0; p.value.len()]).collect();
        OptimiserState {
            steps: 0,
            first: zeros(),
            second: zeros(),
        }
    }

    /// Takes over `stored` if it is a state of the same parameters.
    fn restore(&mut self, stored: &OptimiserState) -> Result<(), OptimiserError> {
        for (what, own, stored) in [
            ("first moments", &self.first, &stored.first),
            ("second moments", &self.second, &stored.second),
        ] {
            if own.len() != stored.len() {
                return Err(OptimiserError(format!(
                    "has {what} of {} parameters, expected {}",
                    stored.len(),
                    own.len()
                )));
            }
            for (index, (own, stored)) in own.iter().zip(stored).enumerate() {
                if own.len() != stored.len() {
                    return Err(OptimiserError(format!(
                        "has {} {what} of parameter {index}, expected {}",
                        stored.len(),
                        own.len()
                    )));
                }
            }
        }
        self.clone_from(stored);
        Ok(())
    }
}

/// Decay rates of the two moments, and what keeps the quotient of the two finite.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Moments {
    /// β₁, of the mean gradient.
    pub beta1: f64,
    /// β₂, of the mean squared gradient.
    pub beta2: f64,
    /// ε, added to the root of the mean squared gradient.
    pub epsilon: f64,
}

impl Moments {
    /// Brings both moments of a run of elements up to date with their gradient.
    fn update(&self, gradient: &[f32], first: &mut [f32], second: &mut [f32]) {
        let (keep1, keep2) = (self.beta1 as f32, self.beta2 as f32);
        let (take1, take2) = ((1.0 - self.beta1) as f32, (1.0 - self.beta2) as f32);
        for ((&g, m), v) in gradient.iter().zip(first).zip(second) {
            *m = keep1 * *m + take1 * g;
            *v = keep2 * *v + take2 * g * g;
        }
    }
}

/// Changes parameters by their gradients.
pub trait Optimiser: Send {
    /// One step. The rate of parameter i is `learning_rate · multipliers[i]`, its weight decay `decay[i]`.
    ///
    /// Panics unless the parameters are those that the optimiser was made for, with one multiplier and one decay each.
    fn step(&mut self, parameters: &mut [Parameter], learning_rate: f64, multipliers: &[f64], decay: &[f64]);

    /// What a checkpoint has to hold.
    fn state(&self) -> OptimiserState;

    /// Goes on from a stored state.
    ///
    /// # Errors
    /// If it is not of the same parameters.
    fn restore(&mut self, state: &OptimiserState) -> Result<(), OptimiserError>;
}

/// Weight decay of each parameter: `decay` for matrices and embeddings, none for vectors.
pub fn weight_decays(parameters: &[Parameter], decay: f64) -> Vec<f64> {
    let of = |p: &Parameter| if p.kind == ParameterKind::Vector { 0.0 } else { decay };
    parameters.iter().map(of).collect()
}

/// Scales all gradients by one factor so that their common Euclidean norm is at most `max_norm`; returns the norm before.
/// Where that is not finite the gradients are left as they are, and the caller has to leave out the step.
pub fn clip_gradients(parameters: &mut [Parameter], max_norm: f64) -> f64 {
    let sum: f64 = parameters.iter().map(|p| sum_of_squares(&p.gradient)).sum();
    let norm = sum.sqrt();
    if norm.is_finite() && norm > max_norm {
        let factor = max_norm / norm;
        for gradient in parameters.iter_mut().flat_map(|p| &mut p.gradient) {
            *gradient = (f64::from(*gradient) * factor) as f32;
        }
    }
    norm
}

fn sum_of_squares(values: &[f32]) -> f64 {
    values.iter().map(|&value| f64::from(value) * f64::from(value)).sum()
}

/// Panics unless every list has one entry a parameter and every gradient is as long as its value.
fn check_lengths(state: &OptimiserState, parameters: &[Parameter], multipliers: &[f64], decay: &[f64]) {
    let n = parameters.len();
    assert!(
        state.first.len() == n && multipliers.len() == n && decay.len() == n,
        "{n} parameters, {} with moments, {} multipliers, {} weight decays",
        state.first.len(),
        multipliers.len(),
        decay.len()
    );
    for (p, first) in parameters.iter().zip(&state.first) {
        assert!(
            p.value.len() == first.len() && p.gradient.len() == first.len() && p.rows * p.cols == first.len(),
            "{} has changed its shape",
            p.name
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn parameter(kind: ParameterKind, rows: usize, value: &[f32]) -> Parameter {
        Parameter {
            name: "p".to_owned(),
            rows,
            cols: value.len() / rows,
            value: value.to_vec(),
            gradient: vec![0.0; value.len()],
            kind,
        }
    }

    /// Trains two optimisers on made-up gradients, one of them by way of a stored state halfway; the bits must agree.
    pub(super) fn resumes_bit_for_bit(new: impl Fn(&[Parameter]) -> Box<dyn Optimiser>) {
        let mut parameters = vec![
            parameter(ParameterKind::Embedding, 3, &[0.3, -0.2, 0.5, 0.1, -0.9, 0.7]),
            parameter(ParameterKind::Vector, 1, &[1.0, -1.5]),
        ];
        let run = |parameters: &mut Vec<Parameter>, optimiser: &mut dyn Optimiser, steps: std::ops::Range<u32>| {
            for step in steps {
                for p in parameters.iter_mut() {
                    for (i, gradient) in p.gradient.iter_mut().enumerate() {
                        *gradient = ((step * 7 + i as u32 * 3) % 11) as f32 / 11.0 - 0.4;
                    }
                }
                parameters[0].gradient[2..4].fill(0.0);
                optimiser.step(parameters, 0.01, &[1.0, 2.0], &[0.1, 0.0]);
            }
        };
        let mut optimiser = new(&parameters);
        run(&mut parameters, optimiser.as_mut(), 0..3);
        let (stored, mut resumed) = (optimiser.state(), parameters.clone());
        run(&mut parameters, optimiser.as_mut(), 3..6);

        let mut second = new(&resumed);
        second.restore(&stored).unwrap();
        run(&mut resumed, second.as_mut(), 3..6);
        assert_eq!(resumed, parameters);
        assert_eq!(second.state(), optimiser.state());

        let mut damaged = stored;
        damaged.second[1].pop();
        let refused = second.restore(&damaged).unwrap_err().to_string();
        assert!(
            refused.contains("1 second moments of parameter 1, expected 2"),
            "{refused}"
        );
        damaged.first.pop();
        assert!(second
            .restore(&damaged)
            .unwrap_err()
            .to_string()
            .contains("of 1 parameters, expected 2"));
    }

    #[test]
    fn clipping_scales_all_gradients_by_one_factor() {
        let mut parameters = vec![
            parameter(ParameterKind::Matrix, 1, &[0.0, 0.0]),
            parameter(ParameterKind::Vector, 1, &[0.0]),
        ];
        parameters[0].gradient = vec![2.0, -3.0];
        parameters[1].gradient = vec![6.0];
        // √(4 + 9 + 36) = 7.
        assert_eq!(clip_gradients(&mut parameters, 7.0), 7.0);
        assert_eq!(parameters[0].gradient, [2.0, -3.0]);
        assert_eq!(clip_gradients(&mut parameters, 3.5), 7.0);
        assert_eq!(parameters[0].gradient, [1.0, -1.5]);
        assert_eq!(parameters[1].gradient, [3.0]);
    }

    #[test]
    fn a_norm_that_is_not_finite_is_returned_and_nothing_scaled() {
        let mut parameters = vec![parameter(ParameterKind::Matrix, 1, &[0.0, 0.0])];
        parameters[0].gradient = vec![2.0, f32::NAN];
        assert!(clip_gradients(&mut parameters, 1.0).is_nan());
        assert_eq!(parameters[0].gradient[0], 2.0);
        parameters[0].gradient = vec![2.0, f32::NEG_INFINITY];
        assert_eq!(clip_gradients(&mut parameters, 1.0), f64::INFINITY);
        assert_eq!(parameters[0].gradient[0], 2.0);
        // The square of the largest FP32 number overflows FP32, and the norm does not.
        parameters[0].gradient = vec![f32::MAX, 0.0];
        assert_eq!(clip_gradients(&mut parameters, 1.0), f64::from(f32::MAX));
        assert_eq!(parameters[0].gradient, [1.0, 0.0]);
    }

    #[test]
    fn vectors_do_not_decay() {
        let parameters = [
            parameter(ParameterKind::Matrix, 1, &[0.0]),
            parameter(ParameterKind::Vector, 1, &[0.0]),
            parameter(ParameterKind::Embedding, 1, &[0.0]),
        ];
        assert_eq!(weight_decays(&parameters, 0.1), [0.1, 0.0, 0.1]);
    }
}
