//! Launch plans of `ptx/loss.ptx`.

use super::device::{Kernel, Shape};
use super::driver::Driver;
use super::elementwise::cover;
use super::parameters::Parameters;
use super::storage::Slice;
use super::{CudaBackend, Scratch};
use crate::backend::BackendError;

const BLOCK: usize = 256;
/// Blocks of a sum at most, each with one partial sum.
pub(super) const MOST_PARTS: usize = 256;
/// Elements that are worth a block.
const ELEMENTS: usize = 4 * BLOCK;

const fn kernel(entry: &'static str) -> Kernel {
    Kernel {
        file: "loss.ptx",
        text: include_str!("../../ptx/loss.ptx"),
        entry,
        block: BLOCK as u32,
    }
}

const LOSS: Kernel = kernel("poisson_loss");
const LOSS_BACKWARD: Kernel = kernel("poisson_loss_backward");

/// Blocks that sum `elements` numbers: a function of their count alone, so that sums are the same each time.
pub(super) fn parts(elements: usize) -> usize {
    elements.div_ceil(ELEMENTS).clamp(1, MOST_PARTS)
}

impl<D: Driver> CudaBackend<D> {
    /// Blocks sum their shares in FP64, the host adds them up in order.
    pub(super) fn launch_poisson_loss(
        &mut self,
        log_rates: Slice,
        counts: Slice,
        weights: Slice,
    ) -> Result<f64, BackendError> {
        assert_eq!((log_rates.rows, log_rates.cols), (counts.rows, counts.cols));
        assert_eq!((log_rates.rows, log_rates.cols), (weights.rows, weights.cols));
        let parts = parts(log_rates.rows * log_rates.cols);
        let partial = self.scratch(Scratch::Partial, 8 * parts);
        let parameters = Parameters::new()
            .matrix(log_rates)
            .matrix(counts)
            .matrix(weights)
            .address(partial)
            .word(log_rates.rows)
            .word(log_rates.cols);
        self.device.launch(LOSS, Shape::blocks(parts), &parameters);
        self.sum_of_parts(partial, parts)
    }

    /// The sum of `parts` FP64 numbers on the device.
    pub(super) fn sum_of_parts(&mut self, partial: u64, parts: usize) -> Result<f64, BackendError> {
        let mut sums = [0.0f64; MOST_PARTS];
        let sums = &mut sums[..parts];
        self.device.read(partial, bytemuck::cast_slice_mut(sums))?;
        Ok(sums.iter().sum())
    }

    pub(super) fn launch_poisson_loss_backward(
        &mut self,
        log_rates: Slice,
        counts: Slice,
        weights: Slice,
        scale: f32,
        g: Slice,
    ) {
        for x in [log_rates, counts, weights] {
            assert_eq!((x.rows, x.cols), (g.rows, g.cols));
        }
        let parameters = Parameters::new()
            .matrix(log_rates)
            .matrix(counts)
            .matrix(weights)
            .matrix(g)
            .word(g.rows)
            .word(g.cols)
            .float(scale);
        self.device.launch(LOSS_BACKWARD, cover(g.rows * g.cols), &parameters);
    }
}
