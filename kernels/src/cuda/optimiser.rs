//! Steps of optimisers on the device (`ptx/optimiser.ptx`), with the arithmetic that the host has for them: elements in
//! FP32 with the same roundings, norms in FP64 in an order that depends on the shapes alone.
//!
//! A parameter, its gradient and its two moments are tensors of one shape.

use super::device::{Kernel, Shape};
use super::driver::Driver;
use super::elementwise::cover;
use super::loss::{parts, MOST_PARTS};
use super::parameters::Parameters;
use super::storage::CudaTensor;
use super::{CudaBackend, Scratch};
use crate::backend::{BackendError, Matrix};

const fn kernel(entry: &'static str) -> Kernel {
    Kernel {
        file: "optimiser.ptx",
        text: include_str!("../../ptx/optimiser.ptx"),
        entry,
        block: 256,
    }
}

const ADAMW: Kernel = kernel("adamw");
const SPARSE_LAMB_MOMENTS: Kernel = kernel("sparse_lamb_moments");
const SPARSE_LAMB_STEP: Kernel = kernel("sparse_lamb_step");
const SQUARES: Kernel = kernel("squares");
const RESCALE: Kernel = kernel("rescale");
/// Rows that a block has at once.
const WARPS: usize = 8;

/// A parameter with its gradient and its moments, all `[rows, cols]`.
#[derive(Debug)]
pub struct Stepped<'a> {
    /// What is changed.
    pub value: &'a mut CudaTensor,
    /// Its gradient.
    pub gradient: &'a CudaTensor,
    /// Running mean of the gradient.
    pub first: &'a mut CudaTensor,
    /// Running mean of the squared gradient.
    pub second: &'a mut CudaTensor,
}

impl Stepped<'_> {
    fn check(&self) {
        let shape = (self.value.rows, self.value.cols);
        for other in [self.gradient, &*self.first, &*self.second] {
            assert_eq!((other.rows, other.cols), shape, "a parameter's tensors differ in shape");
        }
    }

    /// Value, gradient and moments.
    fn parameters(&self) -> Parameters {
        Parameters::new()
            .address(self.value.memory.address)
            .address(self.gradient.memory.address)
            .address(self.first.memory.address)
            .address(self.second.memory.address)
    }
}

/// What a step is made with.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct StepRates {
    /// β₁, of the mean gradient.
    pub beta1: f64,
    /// β₂, of the mean squared gradient.
    pub beta2: f64,
    /// ε, added to the root of the mean squared gradient.
    pub epsilon: f64,
    /// The parameter's learning rate.
    pub rate: f64,
    /// Its weight decay.
    pub decay: f64,
}

impl StepRates {
    /// What the moments keep and take.
    fn moments(&self, parameters: Parameters) -> Parameters {
        parameters
            .float(self.beta1 as f32)
            .float((1.0 - self.beta1) as f32)
            .float(self.beta2 as f32)
            .float((1.0 - self.beta2) as f32)
            .float(self.epsilon as f32)
    }
}

impl<D: Driver> CudaBackend<D> {
    /// Step number `steps`, from 1, of AdamW:
    ///
    /// ```text
    /// m ← β₁·m + (1 − β₁)·g          v ← β₂·v + (1 − β₂)·g²
    /// p ← p − α·λ·p − α · (m / (1 − β₁ᵗ)) / (√(v / (1 − β₂ᵗ)) + ε)
    /// ```
    pub fn adamw(&mut self, parameter: Stepped<'_>, rates: &StepRates, steps: u64) {
        parameter.check();
        let elements = parameter.value.rows * parameter.value.cols;
        let first_scale = 1.0 / (1.0 - rates.beta1.powf(steps as f64));
        let second_scale = 1.0 / (1.0 - rates.beta2.powf(steps as f64));
        let parameters = rates
            .moments(parameter.parameters().word(elements))
            .float((1.0 - rates.rate * rates.decay) as f32)
            .float((rates.rate * first_scale) as f32)
            .float(second_scale as f32);
        self.device.launch(ADAMW, cover(elements), &parameters);
    }

    /// A step of SparseLamb:
    ///
    /// ```text
    /// m ← β₁·m + (1 − β₁)·g          v ← β₂·v + (1 − β₂)·g²
    /// u = m / (√v + ε) + λ·p
    /// p ← p − α · min(‖p‖, 10) / ‖u‖ · u
    /// ```
    ///
    /// The ratio is 1 where either norm is 0. With `resting`, as in a table of embeddings, a row whose gradient is zero has
    /// both its moments set to zero and is not changed; it counts in both norms all the same.
    pub fn sparse_lamb(&mut self, parameter: Stepped<'_>, rates: &StepRates, resting: bool) {
        parameter.check();
        let (rows, cols) = (parameter.value.rows, parameter.value.cols);
        let blocks = rows.div_ceil(WARPS).min(MOST_PARTS);
        let partial = self.scratch(Scratch::Partial, 16 * blocks);
        let moments = parameter
            .parameters()
            .address(partial)
            .word(rows)
            .word(cols)
            .word(usize::from(resting));
        let moments = rates.moments(moments).float(rates.decay as f32);
        self.device.launch(SPARSE_LAMB_MOMENTS, Shape::blocks(blocks), &moments);
        let step = parameter
            .parameters()
            .address(partial)
            .word(blocks)
            .word(rows)
            .word(cols)
            .word(usize::from(resting))
            .float(rates.epsilon as f32)
            .float(rates.decay as f32)
            .long(rates.rate.to_bits());
        self.device.launch(SPARSE_LAMB_STEP, Shape::blocks(blocks), &step);
    }

    /// The sum of the squares of all elements.
    ///
    /// # Errors
    /// The first failure since the last answer.
    pub fn sum_of_squares(&mut self, x: &CudaTensor) -> Result<f64, BackendError> {
        let elements = x.rows() * x.cols();
        let parts = parts(elements);
        let partial = self.scratch(Scratch::Partial, 8 * parts);
        let parameters = Parameters::new()
            .address(x.memory.address)
            .word(elements)
            .address(partial);
        self.device.launch(SQUARES, Shape::blocks(parts), &parameters);
        self.sum_of_parts(partial, parts)
    }

    /// Multiplies all elements by `factor`, in FP64, as gradients are clipped.
    pub fn rescale(&mut self, factor: f64, x: &mut CudaTensor) {
        let elements = x.rows() * x.cols();
        let parameters = Parameters::new()
            .address(x.memory.address)
            .word(elements)
            .long(factor.to_bits());
        self.device.launch(RESCALE, cover(elements), &parameters);
    }
}
