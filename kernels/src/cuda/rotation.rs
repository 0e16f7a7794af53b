//! Sines and cosines of times, and turning rows by them (`ptx/inputs.ptx`).

use super::device::Kernel;
use super::driver::Driver;
use super::elementwise::cover;
use super::parameters::Parameters;
use super::storage::{CudaRotation, Slice};
use super::CudaBackend;
use crate::backend::Rotary;

const fn kernel(entry: &'static str) -> Kernel {
    Kernel {
        file: "inputs.ptx",
        text: include_str!("../../ptx/inputs.ptx"),
        entry,
        block: 256,
    }
}

const SET_ROTATION: Kernel = kernel("set_rotation");
const ROTATE: Kernel = kernel("rotate");

/// Bytes before the times: the first row and their count.
const HEADER: usize = 8;
/// Times that are rounded at once, on the stack.
const CHUNK: usize = 64;

impl<D: Driver> CudaBackend<D> {
    pub(super) fn new_rotation(&mut self, capacity: usize, omega: &[f32]) -> CudaRotation {
        let pairs = omega.len();
        let table = self.device.allocate(8 * capacity * pairs);
        let omega_memory = self.device.allocate(4 * pairs);
        let staging = self.device.staging(HEADER + 4 * capacity);
        self.device.write(omega_memory.address, bytemuck::cast_slice(omega));
        let at_rest = [1.0f32, 0.0].repeat(capacity * pairs);
        self.device.write(table.address, bytemuck::cast_slice(&at_rest));
        CudaRotation {
            table,
            omega: omega_memory,
            staging,
            pairs,
            capacity,
        }
    }

    /// Sets the angles of rows `first ..`. The launch is the same for any rows. Writing waits for what may still read the
    /// staging memory, so that rows can be set one call after the other; within a sequence that repeats nothing runs
    /// before its end, and each rotation is set at most once.
    pub(super) fn write_rotation(&mut self, rotation: &mut CudaRotation, first: usize, times: &[f64]) {
        assert!(
            first + times.len() <= rotation.capacity,
            "more times than there is room"
        );
        let header = [first as u32, times.len() as u32];
        self.device
            .stage(rotation.staging.mapped, 0, bytemuck::bytes_of(&header));
        for (i, chunk) in times.chunks(CHUNK).enumerate() {
            let mut rounded = [0.0f32; CHUNK];
            rounded.iter_mut().zip(chunk).for_each(|(to, &time)| *to = time as f32);
            let bytes = bytemuck::cast_slice(&rounded[..chunk.len()]);
            self.device
                .stage(rotation.staging.mapped, HEADER + 4 * CHUNK * i, bytes);
        }
        let parameters = Parameters::new()
            .address(rotation.staging.mapped.address)
            .address(rotation.omega.address)
            .address(rotation.table.address)
            .word(rotation.pairs);
        let shape = cover(rotation.capacity * rotation.pairs);
        self.device.launch(SET_ROTATION, shape, &parameters);
    }

    /// Turns every head of `x` by its row's angles, by the opposite ones if `sign` is −1.
    pub(super) fn launch_rotate(&mut self, rotary: Rotary<'_, CudaRotation>, sign: f32, x: Slice) {
        let Rotary { rotation, first } = rotary;
        assert!(first + x.rows <= rotation.capacity);
        assert!(rotation.pairs > 0 && x.cols.is_multiple_of(2 * rotation.pairs));
        let half = x.cols / 2;
        let parameters = Parameters::new()
            .address(rotation.row_address(first))
            .matrix(x)
            .word(x.rows)
            .word(half)
            .word(rotation.pairs)
            .float(sign);
        self.device.launch(ROTATE, cover(x.rows * half), &parameters);
    }
}
