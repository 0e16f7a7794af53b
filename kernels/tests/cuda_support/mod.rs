//! What the tests of the CUDA backend share: the backend on an emulated device, and random matrices with room around them.

use emulator::TestDevice;
use kernels::cuda::{CudaBackend, CudaOptions};
use kernels::{Backend, Matrix, View, ViewMut};

fn on(device: TestDevice, half: bool) -> CudaBackend<TestDevice> {
    let options = CudaOptions {
        half,
        // An emulated device takes its time.
        patience: std::time::Duration::from_secs(120),
    };
    CudaBackend::new(device, options)
}

/// The backend on the device that tests run on; attention in FP16 or not.
pub fn backend(half: bool) -> CudaBackend<TestDevice> {
    on(TestDevice::new(), half)
}

/// The same, its warps in an order of this seed where it is emulated.
#[allow(dead_code)] // not every test that includes this module needs it
pub fn backend_in_order(seed: u64) -> CudaBackend<TestDevice> {
    on(TestDevice::in_order(seed), true)
}

/// Numbers from a seed, roughly between −1 and 1; a stand-in for a random generator that needs no state.
pub fn numbers(seed: u64, count: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..count)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as f32 / (1u32 << 23) as f32 - 1.0
        })
        .collect()
}

/// A rectangle of a larger matrix of random numbers.
pub struct Part<T> {
    tensor: T,
    margin: usize,
    rows: usize,
    cols: usize,
}

impl<T: Matrix> Part<T> {
    /// `[rows, cols]` with a row above and `margin` columns on the left and on the right.
    pub fn new<B: Backend<Tensor = T>>(backend: &mut B, seed: u64, rows: usize, cols: usize, margin: usize) -> Self {
        let (all_rows, all_cols) = (rows + 1, cols + 2 * margin);
        Part {
            tensor: backend.tensor(all_rows, all_cols, &numbers(seed, all_rows * all_cols)),
            margin,
            rows,
            cols,
        }
    }

    pub fn view(&self) -> View<'_, T> {
        self.tensor.block(1, self.rows, self.margin, self.cols)
    }

    pub fn view_mut(&mut self) -> ViewMut<'_, T> {
        self.tensor.block_mut(1, self.rows, self.margin, self.cols)
    }

    /// All of it, with what is around it, so that nothing may be written there.
    pub fn download<B: Backend<Tensor = T>>(&self, backend: &mut B) -> Vec<f32> {
        let mut out = vec![0.0; self.tensor.rows() * self.tensor.cols()];
        backend
            .download(self.tensor.view(), &mut out)
            .expect("the device answers");
        out
    }
}

/// What an operation left, by name.
pub type Results = Vec<(&'static str, Vec<f32>)>;

/// Every result within `bound` of the expected, relative to 1 plus its size.
pub fn assert_all_close(expected: &Results, found: &Results, bound: f32) {
    assert_eq!(expected.len(), found.len());
    for ((what, expected), (_, found)) in expected.iter().zip(found) {
        assert_eq!(expected.len(), found.len(), "{what}");
        for (i, (e, f)) in expected.iter().zip(found).enumerate() {
            assert!(
                (e - f).abs() <= bound * (1.0 + e.abs()) || e.to_bits() == f.to_bits() || (e.is_nan() && f.is_nan()),
                "{what}: element {i} is {f}, expected {e}"
            );
        }
    }
}
