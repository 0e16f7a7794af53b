//! Launch plan of `ptx/sample.ptx`.

use super::device::Kernel;
use super::driver::Driver;
use super::elementwise::cover;
use super::parameters::Parameters;
use super::storage::{CudaTensor, Slice};
use super::CudaBackend;
use crate::backend::{View, ViewMut};

const SAMPLE: Kernel = Kernel {
    file: "sample.ptx",
    text: include_str!("../../ptx/sample.ptx"),
    entry: "sample_poisson",
    block: 256,
};

impl<D: Driver> CudaBackend<D> {
    /// Draws `out` `[M, N]` from Poisson distributions of means `rates` `[M, N]`, independent of each other. Element `i` of
    /// the row-major views is a function of its rate and of Philox numbers `i` of `stream` under `seed` alone; a
    /// [`DropMask`](crate::gradient::DropMask) of the same seed should have another stream. Rates that are not finite come
    /// out as they are, negative ones as 0.
    pub fn sample_poisson(
        &mut self,
        rates: View<'_, CudaTensor>,
        seed: u64,
        stream: u64,
        out: ViewMut<'_, CudaTensor>,
    ) {
        let (rates, out) = (Slice::of(rates), Slice::of_out(&out));
        assert_eq!((rates.rows, rates.cols), (out.rows, out.cols));
        let parameters = Parameters::new()
            .matrix(rates)
            .matrix(out)
            .word(out.rows)
            .word(out.cols)
            .long(seed)
            .long(stream);
        self.device.launch(SAMPLE, cover(out.rows * out.cols), &parameters);
    }
}
