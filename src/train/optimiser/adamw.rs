//! AdamW: Adam with weight decay decoupled from the gradient (Loshchilov and Hutter, 2019).

use super::{check_lengths, Moments, Optimiser, OptimiserError, OptimiserState, Parameter};

/// Per element, with t the number of the step from 1, α its learning rate and λ its weight decay:
///
/// ```text
/// m ← β₁·m + (1 − β₁)·g          v ← β₂·v + (1 − β₂)·g²
/// p ← p − α·λ·p − α · (m / (1 − β₁ᵗ)) / (√(v / (1 − β₂ᵗ)) + ε)
/// ```
///
/// Tables of embeddings are treated as any matrix.
pub struct AdamW {
    moments: Moments,
    state: OptimiserState,
}

impl AdamW {
    /// β₁ 0.9, β₂ 0.999, ε 1e-8.
    pub const DEFAULT: Moments = Moments {
        beta1: 0.9,
        beta2: 0.999,
        epsilon: 1e-8,
    };

    /// For these parameters, no step taken yet.
    pub fn new(parameters: &[Parameter], moments: Moments) -> Self {
        AdamW {
            moments,
            state: OptimiserState::new(parameters),
        }
    }
}

impl Optimiser for AdamW {
    fn step(&mut self, parameters: &mut [Parameter], learning_rate: f64, multipliers: &[f64], decay: &[f64]) {
        check_lengths(&self.state, parameters, multipliers, decay);
        self.state.steps += 1;
        let steps = self.state.steps as f64;
        let first_scale = 1.0 / (1.0 - self.moments.beta1.powf(steps));
        let second_scale = (1.0 / (1.0 - self.moments.beta2.powf(steps))) as f32;
        let epsilon = self.moments.epsilon as f32;
        let moments = self.state.first.iter_mut().zip(&mut self.state.second);
        let rates = multipliers.iter().zip(decay);
        for ((parameter, (first, second)), (multiplier, decay)) in parameters.iter_mut().zip(moments).zip(rates) {
            self.moments.update(&parameter.gradient, first, second);
            let rate = learning_rate * multiplier;
            let kept = (1.0 - rate * decay) as f32;
            let rate = (rate * first_scale) as f32;
            for ((p, &m), &v) in parameter.value.iter_mut().zip(&*first).zip(&*second) {
                *p = kept * *p - rate * m / ((v * second_scale).sqrt() + epsilon);
            }
        }
    }

    fn state(&self) -> OptimiserState {
        self.state.clone()
    }

    fn restore(&mut self, state: &OptimiserState) -> Result<(), OptimiserError> {
        self.state.restore(state)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{parameter, resumes_bit_for_bit};
    use super::super::ParameterKind;
    use super::*;

    /// Two parameters over three steps.
    ///
    /// Parameter 0, rate 0.1, no decay, gradient always 2: m/(1 − 0.9ᵗ) = 2 and v/(1 − 0.999ᵗ) = 4 at every step, so each
    /// step takes off 0.1. Parameter 1, rate 0.1 · 0.5, decay 0.2, gradients 1, 0, 0: its value is 2, then
    /// 2·0.99 − 0.05 = 1.93, then with m = 0.09, v = 0.000999: (0.09 / 0.19) / √(0.000999 / 0.001999) = 0.6700583 and
    /// 1.93·0.99 − 0.05·0.6700583 = 1.8771971, then with m = 0.081, v = 0.000998001: (0.081 / 0.271) /
    /// √(0.000998001 / 0.002997001) = 0.5179570 and 1.8771971·0.99 − 0.05·0.5179570 = 1.8325273.
    #[test]
    fn three_steps_by_hand() {
        let mut parameters = vec![
            parameter(ParameterKind::Vector, 1, &[1.0]),
            parameter(ParameterKind::Matrix, 1, &[2.0]),
        ];
        let mut optimiser = AdamW::new(&parameters, AdamW::DEFAULT);
        let expected = [(0.9, 1.93), (0.8, 1.8771970873), (0.7, 1.8325272678)];
        for (gradient, (p0, p1)) in [1.0, 0.0, 0.0].into_iter().zip(expected) {
            parameters[0].gradient = vec![2.0];
            parameters[1].gradient = vec![gradient];
            optimiser.step(&mut parameters, 0.1, &[1.0, 0.5], &[0.0, 0.2]);
            for (parameter, expected) in parameters.iter().zip([p0, p1]) {
                let value = f64::from(parameter.value[0]);
                assert!((value - expected).abs() < 1e-6, "{value}, expected {expected}");
            }
        }
        assert_eq!(optimiser.state().steps, 3);
    }

    #[test]
    fn training_goes_on_from_a_stored_state_with_the_same_bits() {
        resumes_bit_for_bit(|parameters| Box::new(AdamW::new(parameters, AdamW::DEFAULT)));
    }
}
