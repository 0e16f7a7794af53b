//! The CUDA backend: hand-written PTX (`kernels/ptx`) and the launch plans of it, over any [`driver::Driver`].
//!
//! Tensors are FP32 in device memory. A linear layer of [`Precision::F16`] multiplies FP16 weights with FP16 activations on
//! tensor cores and sums in FP32; one of [`Precision::F32`] multiplies in FP32. Attention follows
//! [`CudaOptions::half`]. Everything else is FP32.
//!
//! Every operation is one launch, or a few. A predicting network does the same ones each time, so it marks them as a
//! sequence that repeats ([`Backend::repeat`]): they are captured in a graph once and replayed. What changes from one time
//! to the next (row lists, times, uploads) goes through memory that host and device both see.

mod attention;
mod backward;
mod device;
pub mod driver;
mod elementwise;
mod generate;
pub mod gpu;
mod linear;
mod loss;
mod optimiser;
mod parameters;
mod products;
mod program;
mod rotation;
mod rows;
mod sample;
mod storage;
mod sums;
mod template;
mod watch;

use std::collections::HashMap;
use std::time::Duration;

use device::Device;
use driver::{Driver, Mapped};
pub use optimiser::{StepRates, Stepped};
pub use storage::CudaTensor;
use storage::{CudaLinear, CudaRotation, CudaRows, Slice};

use crate::backend::{
    Activation, Attention, Backend, BackendError, LinearArgs, LinearSpec, Map, Matrix, Rotary, View, ViewMut,
};
use crate::generation::Generation;

/// How a CUDA backend computes.
#[derive(Debug, Clone, Copy)]
pub struct CudaOptions {
    /// Attention multiplies FP16 on tensor cores rather than FP32.
    pub half: bool,
    /// How long an answer may take before the device is given up.
    pub patience: Duration,
}

impl Default for CudaOptions {
    fn default() -> Self {
        CudaOptions {
            half: true,
            patience: Duration::from_secs(2),
        }
    }
}

/// The network's operations on a GPU, or on what stands for one.
pub struct CudaBackend<D: Driver> {
    device: Device<D>,
    options: CudaOptions,
    /// Where repeated sequences leave their answers: a sequence number, then the numbers.
    answers: HashMap<u64, Mapped>,
    /// The number that the next answer will carry, written by the host.
    ticket: Option<Mapped>,
    sequence: u32,
    /// Memory that one operation uses and the next may use again.
    scratch: Vec<Option<storage::Allocation>>,
    /// Programs for the decoder's machine, by where their log rates go.
    generators: HashMap<driver::Address, generate::Generator>,
}

/// Bytes before the numbers of an answer.
const ANSWER_HEADER: usize = 16;

impl<D: Driver> CudaBackend<D> {
    /// On this device.
    pub fn new(driver: D, options: CudaOptions) -> Self {
        CudaBackend {
            device: Device::new(driver, options.patience),
            options,
            answers: HashMap::new(),
            ticket: None,
            sequence: 0,
            scratch: Vec::new(),
            generators: HashMap::new(),
        }
    }

    /// The driver.
    pub fn driver(&self) -> &D {
        self.device.driver()
    }

    fn new_tensor(&mut self, rows: usize, cols: usize) -> CudaTensor {
        CudaTensor {
            memory: self.device.allocate(4 * rows * cols),
            rows,
            cols,
        }
    }

    /// Scratch `slot` of at least `bytes`. Its content is that of the last operation that wrote to it.
    fn scratch(&mut self, slot: Scratch, bytes: usize) -> driver::Address {
        let slot = slot as usize;
        while self.scratch.len() <= slot {
            self.scratch.push(None);
        }
        if self.scratch[slot].as_ref().is_none_or(|memory| memory.bytes < bytes) {
            self.scratch[slot] = None;
            self.scratch[slot] = Some(self.device.allocate(bytes));
        }
        self.scratch[slot].as_ref().map_or(0, |memory| memory.address)
    }
}

/// Who uses which scratch memory. One operation's own slots are apart; different operations may share.
#[derive(Debug, Clone, Copy)]
enum Scratch {
    /// Queries, packed.
    Query,
    /// Keys, packed.
    Key,
    /// Values, packed.
    Value,
    /// Attention weights, or a normalised input.
    Wide,
    /// Partial sums.
    Partial,
}

impl<D: Driver> Backend for CudaBackend<D> {
    type Tensor = CudaTensor;
    type Linear = CudaLinear;
    type Rotation = CudaRotation;
    type Rows = CudaRows;

    fn describe(&self) -> String {
        let device = self.device.driver().capability();
        format!("cuda ({}, sm_{})", device.name, device.compute)
    }

    fn zeros(&mut self, rows: usize, cols: usize) -> CudaTensor {
        let mut tensor = self.new_tensor(rows, cols);
        self.fill(0.0, tensor.view_mut());
        tensor
    }

    fn tensor(&mut self, rows: usize, cols: usize, data: &[f32]) -> CudaTensor {
        assert_eq!(data.len(), rows * cols);
        let tensor = self.new_tensor(rows, cols);
        self.device.write(tensor.memory.address, bytemuck::cast_slice(data));
        tensor
    }

    fn linear_layer(&mut self, spec: &LinearSpec<'_>) -> CudaLinear {
        self.new_linear(spec)
    }

    fn rotation(&mut self, capacity: usize, omega: &[f32]) -> CudaRotation {
        self.new_rotation(capacity, omega)
    }

    fn rows(&mut self, capacity: usize) -> CudaRows {
        self.new_rows(capacity)
    }

    fn reserve(&mut self, queries: usize, keys: usize, heads: usize, head_dim: usize, cols: usize) {
        self.reserve_attention(queries, keys, heads, head_dim);
        self.scratch(Scratch::Wide, 4 * queries * cols);
    }

    fn upload(&mut self, data: &[f32], out: ViewMut<'_, CudaTensor>) {
        let out = Slice::of_out(&out);
        assert_eq!(data.len(), out.rows * out.cols);
        let bytes: &[u8] = bytemuck::cast_slice(data);
        if let Some(staging) = self.device.upload_staging(bytes.len()) {
            self.device.stage(staging, 0, bytes);
            self.fetch(staging.address, out);
        } else if out.is_dense() {
            self.device.write(out.address, bytes);
        } else {
            for (i, row) in data.chunks(out.cols).enumerate() {
                let address = out.address + 4 * (i * out.stride) as u64;
                self.device.write(address, bytemuck::cast_slice(row));
            }
        }
    }

    fn download(&mut self, x: View<'_, CudaTensor>, out: &mut [f32]) -> Result<(), BackendError> {
        let x = Slice::of(x);
        assert_eq!(out.len(), x.rows * x.cols);
        if let Some(key) = self.device.repeated() {
            return self.download_answer(key, x, out);
        }
        if x.is_dense() {
            return self.device.read(x.address, bytemuck::cast_slice_mut(out));
        }
        for (i, row) in out.chunks_mut(x.cols).enumerate() {
            let address = x.address + 4 * (i * x.stride) as u64;
            self.device.read(address, bytemuck::cast_slice_mut(row))?;
        }
        Ok(())
    }

    fn repeat(&mut self, key: u64) {
        // In FP32 the number of keys is the host's, and another one is another sequence.
        if self.options.half {
            self.device.repeat(key);
        }
    }

    fn repeats(&self) -> bool {
        true
    }

    fn set_rows(&mut self, rows: &mut CudaRows, values: &[u32]) {
        self.write_rows(rows, values);
    }

    fn set_rotation(&mut self, rotation: &mut CudaRotation, first: usize, times: &[f64]) {
        self.write_rotation(rotation, first, times);
    }

    fn gather(&mut self, table: View<'_, CudaTensor>, rows: &CudaRows, out: ViewMut<'_, CudaTensor>) {
        self.launch_gather(Slice::of(table), rows, Slice::of_out(&out));
    }

    fn fill(&mut self, value: f32, out: ViewMut<'_, CudaTensor>) {
        self.launch_fill(value, Slice::of_out(&out));
    }

    fn copy(&mut self, x: View<'_, CudaTensor>, accumulate: bool, out: ViewMut<'_, CudaTensor>) {
        self.launch_copy(Slice::of(x), accumulate, Slice::of_out(&out));
    }

    fn map(&mut self, f: Map, x: View<'_, CudaTensor>, out: ViewMut<'_, CudaTensor>) {
        self.launch_map(f, Slice::of(x), Slice::of_out(&out));
    }

    fn outer_add(
        &mut self,
        a: View<'_, CudaTensor>,
        b: View<'_, CudaTensor>,
        activation: Activation,
        out: ViewMut<'_, CudaTensor>,
    ) {
        self.launch_outer_add(Slice::of(a), Slice::of(b), activation, Slice::of_out(&out));
    }

    fn outer_dot(
        &mut self,
        a: View<'_, CudaTensor>,
        b: View<'_, CudaTensor>,
        accumulate: bool,
        out: ViewMut<'_, CudaTensor>,
    ) {
        self.launch_outer_dot(Slice::of(a), Slice::of(b), accumulate, Slice::of_out(&out));
    }

    fn multiply(&mut self, x: View<'_, CudaTensor>, y: View<'_, CudaTensor>, out: ViewMut<'_, CudaTensor>) {
        self.launch_multiply(Slice::of(x), Slice::of(y), false, Slice::of_out(&out));
    }

    fn sum_rows(
        &mut self,
        weights: View<'_, CudaTensor>,
        x: View<'_, CudaTensor>,
        accumulate: bool,
        out: ViewMut<'_, CudaTensor>,
    ) {
        self.launch_sum_rows(Slice::of(weights), Slice::of(x), accumulate, Slice::of_out(&out));
    }

    fn linear(
        &mut self,
        x: View<'_, CudaTensor>,
        layer: &CudaLinear,
        args: LinearArgs<'_, CudaTensor>,
        out: ViewMut<'_, CudaTensor>,
    ) {
        self.launch_linear(Slice::of(x), layer, args, Slice::of_out(&out));
    }

    fn rotate(&mut self, rotary: Rotary<'_, CudaRotation>, x: ViewMut<'_, CudaTensor>) {
        self.launch_rotate(rotary, 1.0, Slice::of_out(&x));
    }

    fn attention(&mut self, args: Attention<'_, Self>, out: ViewMut<'_, CudaTensor>) {
        self.launch_attention(args, Slice::of_out(&out));
    }

    fn pool(
        &mut self,
        scores: Option<View<'_, CudaTensor>>,
        values: View<'_, CudaTensor>,
        accumulate: bool,
        out: ViewMut<'_, CudaTensor>,
    ) {
        self.launch_pool(
            scores.map(Slice::of),
            Slice::of(values),
            accumulate,
            Slice::of_out(&out),
        );
    }

    fn generate(&mut self, args: Generation<'_, Self>) -> bool {
        self.launch_generate(&args)
    }
}

impl<D: Driver> CudaBackend<D> {
    /// The last launch of a repeated sequence: the numbers and their sequence number go where the host polls.
    fn download_answer(&mut self, key: u64, x: Slice, out: &mut [f32]) -> Result<(), BackendError> {
        let bytes = ANSWER_HEADER + 4 * out.len();
        let answer = match self.answers.get(&key) {
            Some(&answer) if answer.bytes >= bytes => answer,
            _ => self.device.map(bytes),
        };
        self.answers.insert(key, answer);
        let ticket = match self.ticket {
            Some(ticket) => ticket,
            None => self.device.map(ANSWER_HEADER),
        };
        self.ticket = Some(ticket);
        self.sequence = self.sequence.wrapping_add(1);
        self.device.stage(ticket, 0, &self.sequence.to_le_bytes());
        self.deliver(ticket.address, x, answer.address);
        self.device.finish(Some((answer, self.sequence)))?;
        self.device
            .read_mapped(answer, ANSWER_HEADER, bytemuck::cast_slice_mut(out));
        Ok(())
    }
}
