//! Launch plans of `ptx/elementwise.ptx`: one thread an element.

use super::device::{Kernel, Shape};
use super::driver::Driver;
use super::parameters::Parameters;
use super::storage::Slice;
use super::CudaBackend;

const BLOCK: u32 = 256;

const fn kernel(entry: &'static str) -> Kernel {
    Kernel {
        file: "elementwise.ptx",
        text: include_str!("../../ptx/elementwise.ptx"),
        entry,
        block: BLOCK,
    }
}

/// Blocks that cover `n` threads.
fn cover(n: usize) -> Shape<'static> {
    Shape::blocks(n.div_ceil(BLOCK as usize))
}

impl<D: Driver> CudaBackend<D> {
    pub(super) fn launch_fill(&mut self, value: f32, out: Slice) {
        const FILL: Kernel = kernel("fill");
        let parameters = Parameters::new()
            .matrix(out)
            .word(out.rows)
            .word(out.cols)
            .float(value);
        self.device.launch(FILL, cover(out.rows * out.cols), &parameters);
    }
}
