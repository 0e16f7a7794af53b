//! SparseLamb: Lamb (You et al., 2020) without bias correction, and with rows of embeddings that rest.

use super::{
    check_lengths, sum_of_squares, Moments, Optimiser, OptimiserError, OptimiserState, Parameter, ParameterKind,
};

/// Largest weight norm that counts in the trust ratio.
const WEIGHT_NORM_CLAMP: f64 = 10.0;

/// Per parameter tensor, with α its learning rate and λ its weight decay:
///
/// ```text
/// m ← β₁·m + (1 − β₁)·g          v ← β₂·v + (1 − β₂)·g²
/// u = m / (√v + ε) + λ·p
/// p ← p − α · min(‖p‖, 10) / ‖u‖ · u
/// ```
///
/// The trust ratio min(‖p‖, 10) / ‖u‖ is 1 where either norm is 0. In a table of embeddings a row whose gradient is zero
/// has both its moments set to zero and is not changed; it counts in both norms all the same.
pub struct SparseLamb {
    moments: Moments,
    state: OptimiserState,
    update: Vec<f32>,
}

impl SparseLamb {
    /// β₁ 0.9, β₂ 0.999, ε 1e-6.
    pub const DEFAULT: Moments = Moments {
        beta1: 0.9,
        beta2: 0.999,
        epsilon: 1e-6,
    };

    /// For these parameters, no step taken yet.
    pub fn new(parameters: &[Parameter], moments: Moments) -> Self {
        SparseLamb {
            moments,
            state: OptimiserState::new(parameters),
            update: Vec::new(),
        }
    }
}

/// Whether a row of a table of embeddings is left alone in this step.
fn rests(kind: ParameterKind, gradient: &[f32]) -> bool {
    kind == ParameterKind::Embedding && gradient.iter().all(|&g| g == 0.0)
}

impl Optimiser for SparseLamb {
    fn step(&mut self, parameters: &mut [Parameter], learning_rate: f64, multipliers: &[f64], decay: &[f64]) {
        check_lengths(&self.state, parameters, multipliers, decay);
        self.state.steps += 1;
        let epsilon = self.moments.epsilon as f32;
        let moments = self.state.first.iter_mut().zip(&mut self.state.second);
        let rates = multipliers.iter().zip(decay);
        for ((parameter, (first, second)), (multiplier, &decay)) in parameters.iter_mut().zip(moments).zip(rates) {
            let (cols, decay) = (parameter.cols.max(1), decay as f32);
            let rows = first.chunks_exact_mut(cols).zip(second.chunks_exact_mut(cols));
            for (gradient, (first, second)) in parameter.gradient.chunks_exact(cols).zip(rows) {
                if rests(parameter.kind, gradient) {
                    first.fill(0.0);
                    second.fill(0.0);
                } else {
                    self.moments.update(gradient, first, second);
                }
            }
            self.update.clear();
            let elements = parameter.value.iter().zip(&*first).zip(&*second);
            self.update
                .extend(elements.map(|((p, m), v)| m / (v.sqrt() + epsilon) + decay * p));

            let weight_norm = sum_of_squares(&parameter.value).sqrt().min(WEIGHT_NORM_CLAMP);
            let update_norm = sum_of_squares(&self.update).sqrt();
            let trust = if weight_norm == 0.0 || update_norm == 0.0 {
                1.0
            } else {
                weight_norm / update_norm
            };
            let rate = (learning_rate * multiplier * trust) as f32;
            let rows = parameter
                .value
                .chunks_exact_mut(cols)
                .zip(self.update.chunks_exact(cols));
            for (gradient, (value, update)) in parameter.gradient.chunks_exact(cols).zip(rows) {
                if !rests(parameter.kind, gradient) {
                    value.iter_mut().zip(update).for_each(|(p, u)| *p -= rate * u);
                }
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
    use super::*;

    fn assert_close(values: &[f32], expected: &[f64]) {
        for (value, expected) in values.iter().zip(expected) {
            assert!(
                (f64::from(*value) - expected).abs() < 2e-6,
                "{values:?}, expected {expected:?}"
            );
        }
    }

    /// With a negligible ε and no decay the first step's u is 0.1·g / √(0.001·g²) = ±√10 a component.
    const EXACT: Moments = Moments {
        epsilon: 1e-30,
        ..SparseLamb::DEFAULT
    };

    /// The value (3, 4) has norm 5, u = (√10, −√10) has norm √20; the step of rate 0.1 is 0.1 · 5/√20 · u =
    /// (0.5/√2, −0.5/√2). Then, gradient zero: m = 0.09·g, v = 0.000999·g², u = ±0.09/√0.000999 = ±2.8474738, whose norm is
    /// u·√2: the step is 0.1·‖p‖/√2 in each component, with ‖p‖ = √(2.6464466² + 4.3535534²) = 5.0948118.
    #[test]
    fn the_step_is_the_clamped_weight_norm_in_the_direction_of_the_update() {
        let mut parameters = vec![parameter(ParameterKind::Matrix, 1, &[3.0, 4.0])];
        let mut optimiser = SparseLamb::new(&parameters, EXACT);
        parameters[0].gradient = vec![7.0, -0.5];
        optimiser.step(&mut parameters, 0.1, &[1.0], &[0.0]);
        assert_close(&parameters[0].value, &[2.646446609, 4.353553391]);
        parameters[0].gradient = vec![0.0, 0.0];
        optimiser.step(&mut parameters, 0.1, &[1.0], &[0.0]);
        assert_close(&parameters[0].value, &[2.286189016, 4.713810984]);
    }

    /// Weight norm 50 counts as 10; a zero weight has trust ratio 1.
    #[test]
    fn the_weight_norm_is_clamped_and_zero_weights_move() {
        let mut parameters = vec![
            parameter(ParameterKind::Matrix, 1, &[30.0, 40.0]),
            parameter(ParameterKind::Vector, 1, &[0.0]),
        ];
        let mut optimiser = SparseLamb::new(&parameters, EXACT);
        parameters[0].gradient = vec![1.0, 1.0];
        parameters[1].gradient = vec![-3.0];
        optimiser.step(&mut parameters, 0.1, &[0.5, 1.0], &[0.0, 0.0]);
        // 0.05 · 10/√2; 0.1 · √10.
        let by = 0.5 / 2f64.sqrt();
        assert!((f64::from(parameters[0].value[0]) - (30.0 - by)).abs() < 4e-6);
        assert!((f64::from(parameters[0].value[1]) - (40.0 - by)).abs() < 4e-6);
        assert_close(&parameters[1].value, &[0.316227766]);
    }

    /// Row 1 has no gradient in the second step: its moments become zero and its value stays, but its weight (norm 3 of
    /// the table's) and its decayed weight in u (0.5 · 3) count. After the first step with rate 0 the values are still
    /// (4, 3). In the second, row 0: m = 0.9·0.1 + 0.1 = 0.19, v = 0.001999, so u₀ = 0.19/√0.001999 + 0.5·4 =
    /// 6.249591688, u₁ = 1.5, trust = 5/√(6.249591688² + 1.5²) = 0.777957897, and the step of row 0 is
    /// 0.01 · 0.777957897 · 6.249591688 = 0.048619192.
    #[test]
    fn a_row_without_gradient_rests_and_counts_in_the_norms() {
        let mut parameters = vec![parameter(ParameterKind::Embedding, 2, &[4.0, 3.0])];
        let mut optimiser = SparseLamb::new(&parameters, EXACT);
        parameters[0].gradient = vec![1.0, 1.0];
        optimiser.step(&mut parameters, 0.0, &[1.0], &[0.5]);
        assert_close(&optimiser.state().first[0], &[0.1, 0.1]);
        parameters[0].gradient = vec![1.0, 0.0];
        optimiser.step(&mut parameters, 0.01, &[1.0], &[0.5]);
        assert_eq!(parameters[0].value[1], 3.0);
        assert_close(&parameters[0].value, &[3.951380808, 3.0]);
        let state = optimiser.state();
        assert_eq!((state.first[0][1], state.second[0][1]), (0.0, 0.0));
        assert_close(&state.first[0], &[0.19, 0.0]);
        assert_close(&state.second[0], &[0.001999, 0.0]);
    }

    #[test]
    fn training_goes_on_from_a_stored_state_with_the_same_bits() {
        resumes_bit_for_bit(|parameters| Box::new(SparseLamb::new(parameters, SparseLamb::DEFAULT)));
    }
}
