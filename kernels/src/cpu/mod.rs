//! The fast CPU implementation: instruction set chosen at run time, weights packed, a spinning pool of threads.
//!
//! [`vector`] makes one source serve every instruction set; [`linear`] and [`attention`] hold the two kernels that the time
//! goes to; [`pool`] shares them between threads. This module turns [`Backend`] calls into jobs and shares them out.

#[cfg(target_arch = "x86_64")]
mod amx;
mod attention;
mod derivative;
mod elementwise;
mod gradient;
mod linear;
mod math;
mod memory;
mod pack;
mod place;
pub mod pool;
mod rotation;
mod tensor;
mod vector;
#[cfg(target_arch = "aarch64")]
mod vector_neon;
mod vector_scalar;
#[cfg(target_arch = "x86_64")]
mod vector_x86;

pub use pack::PackedLinear;
pub use rotation::CpuRotation;
pub use tensor::CpuTensor;
pub use vector::Isa;

use attention::{BlockJob, FewJob, Operand, PackJob};
use elementwise::{OuterAddJob, OuterDotJob, PoolJob};
use linear::LinearJob;
use memory::{Aligned, Shared};
use pool::{share, Pool};
use rotation::{RotateJob, SetRotation};

use crate::backend::{
    Activation, Attention, Backend, BackendError, LinearArgs, LinearSpec, Map, Rotary, View, ViewMut,
};

/// Multiplications below which an operation stays on the calling thread: handing half of it over costs as much.
const WORTH_SHARING: usize = 64 * 1024;

/// Queries up to which attention takes the dot-product path.
const FEW_QUERIES: usize = 4;

/// How the backend runs.
#[derive(Debug, Clone)]
pub struct CpuOptions {
    /// Threads, the calling one included.
    pub threads: usize,
    /// Cores that worker threads are pinned to, in turn from the second; the calling thread is its owner's to pin.
    pub cores: Option<Vec<usize>>,
    /// Instruction set; the best there is if `None`. One that the processor lacks is refused.
    pub isa: Option<Isa>,
}

impl Default for CpuOptions {
    fn default() -> Self {
        CpuOptions {
            threads: 1,
            cores: None,
            isa: None,
        }
    }
}

/// The CPU.
pub struct CpuBackend {
    isa: Isa,
    pool: Pool,
    /// Every thread's own, one after the other.
    scratch: Aligned<f32>,
    scratch_each: usize,
    packed_key: Aligned<f32>,
    packed_value: Aligned<f32>,
    /// Attention weights of a head and their derivatives, while learning.
    head_weights: [Aligned<f32>; 2],
}

impl CpuBackend {
    /// Starts the threads.
    ///
    /// # Panics
    /// If an instruction set is asked for that the processor lacks.
    pub fn new(options: CpuOptions) -> Self {
        let isa = options.isa.unwrap_or_else(|| match Isa::detect() {
            // Tiles are seldom met: they are used only where they prove themselves first.
            Isa::AmxBf16 if !linear::tiles_agree() => Isa::Avx512Bf16,
            isa => isa,
        });
        assert!(Isa::available().contains(&isa), "this processor has no {isa:?}");
        CpuBackend {
            isa,
            pool: Pool::new(options.threads, options.cores.as_deref()),
            scratch: Aligned::zeros(0),
            scratch_each: 0,
            packed_key: Aligned::zeros(0),
            packed_value: Aligned::zeros(0),
            head_weights: [Aligned::zeros(0), Aligned::zeros(0)],
        }
    }

    /// Every thread gets at least so many elements of scratch.
    fn need_scratch(&mut self, elements: usize) {
        if elements > self.scratch_each {
            self.scratch_each = elements.next_multiple_of(16);
            self.scratch.grow(self.scratch_each * self.pool.threads());
        }
    }

    fn thread_scratch(&mut self) -> (Shared<f32>, usize) {
        (Shared(self.scratch.as_mut_ptr()), self.scratch_each)
    }

    /// Runs `job(thread, threads)` on all threads, or on the calling one alone if there is little to do.
    fn share_work(&mut self, multiplications: usize, job: impl Fn(usize, usize) + Sync) {
        let threads = self.pool.threads();
        if multiplications < WORTH_SHARING || threads == 1 {
            job(0, 1);
        } else {
            self.pool.run(&|thread| job(thread, threads));
        }
    }

    fn many_queries(
        &mut self,
        args: Attention<'_, Self>,
        queries: usize,
        keys: usize,
        mut out: ViewMut<'_, CpuTensor>,
    ) {
        let isa = self.isa;
        let (heads, head_dim) = (args.heads, args.query.cols / args.heads);
        let width = attention::padded(head_dim);
        self.need_scratch(attention::scratch(keys, head_dim));
        self.packed_key.grow(heads * keys * width);
        self.packed_value.grow(heads * keys * width);
        let (packed_key, packed_value) = (
            Shared(self.packed_key.as_mut_ptr()),
            Shared(self.packed_value.as_mut_ptr()),
        );
        let query = operand(args.query, args.query_rows, args.query_rotary);
        let key = operand(args.key, args.key_rows, args.key_rotary);
        let value = operand(args.value, args.key_rows, args.key_rotary.filter(|_| args.rotate_value));
        let work = heads * queries * keys * head_dim;

        self.share_work(work, |thread, threads| {
            // Whole heads a thread where they divide, so that each then reads what it packed itself.
            let (heads, range) = if heads % threads == 0 {
                (share(heads, thread, threads), 0..keys)
            } else {
                (0..heads, share(keys, thread, threads))
            };
            let job = PackJob {
                key,
                value,
                keys,
                heads,
                range,
                head_dim,
                packed_key: packed_key.get(),
                packed_value: packed_value.get(),
            };
            // SAFETY: the instruction set was checked; operands have the rows and channels named (asserted by the caller);
            // threads write disjoint rows.
            unsafe { vector::run(isa, job) };
        });

        let (out_pointer, out_stride) = (Shared(out.ptr()), out.tensor.cols);
        let (scratch, each) = self.thread_scratch();
        let tasks = heads * attention::blocks(queries, isa.lanes());
        self.share_work(work, |thread, threads| {
            let job = BlockJob {
                query,
                queries,
                keys,
                head_dim,
                packed_key: packed_key.get(),
                packed_value: packed_value.get(),
                turn_back: args.rotate_value,
                mask: args.mask,
                out: out_pointer.get(),
                out_stride,
                tasks: share(tasks, thread, threads),
                scratch: scratch.get().wrapping_add(thread * each),
            };
            // SAFETY: as above; packing is done, tasks write disjoint parts of the output, scratch is the thread's own.
            unsafe { vector::run(isa, job) };
        });
    }

    fn few_queries(&mut self, args: Attention<'_, Self>, queries: usize, keys: usize, mut out: ViewMut<'_, CpuTensor>) {
        let isa = self.isa;
        let (heads, head_dim) = (args.heads, args.query.cols / args.heads);
        self.need_scratch(attention::scratch(keys, head_dim));
        let query = operand(args.query, None, None);
        let (key, value) = (operand(args.key, None, None), operand(args.value, None, None));
        let (out_pointer, out_stride) = (Shared(out.ptr()), out.tensor.cols);
        let (scratch, each) = self.thread_scratch();
        // A dot product for each score and one for each sum, at a fraction of the rate of the blocks.
        self.share_work(8 * heads * queries * keys * head_dim, |thread, threads| {
            let job = FewJob {
                query,
                queries,
                key,
                value,
                keys,
                head_dim,
                heads: share(heads, thread, threads),
                mask: args.mask,
                out: out_pointer.get(),
                out_stride,
                scratch: scratch.get().wrapping_add(thread * each),
            };
            // SAFETY: the instruction set was checked; operands have the rows and channels named (asserted by the caller);
            // heads write disjoint columns, scratch is the thread's own.
            unsafe { vector::run(isa, job) };
        });
    }
}

impl CpuBackend {
    /// Turns every head of rows in place.
    fn turn(&mut self, rotary: Rotary<'_, CpuRotation>, back: bool, mut x: ViewMut<'_, CpuTensor>) {
        let head_dim = rotary.rotation.head_dim();
        assert_eq!(x.cols % head_dim, 0);
        let job = RotateJob {
            rotation: rotary.rotation,
            first: rotary.first,
            x: x.ptr(),
            stride: x.tensor.cols,
            rows: x.rows,
            heads: x.cols / head_dim,
            head_dim,
            back,
        };
        // SAFETY: the instruction set was checked; the view lies within its tensor.
        unsafe { vector::run(self.isa, job) };
    }
}

fn operand<'a>(
    view: View<'a, CpuTensor>,
    rows: Option<&'a Vec<u32>>,
    rotary: Option<Rotary<'a, CpuRotation>>,
) -> Operand<'a> {
    if let Some(rows) = rows {
        assert!(
            rows.iter().all(|&row| (row as usize) < view.rows),
            "a row beyond the table"
        );
    }
    Operand {
        data: view.ptr(),
        stride: view.tensor.cols,
        rows: rows.map(Vec::as_slice),
        rotation: rotary.map(|rotary| (rotary.rotation, rotary.first)),
    }
}

impl Backend for CpuBackend {
    type Tensor = CpuTensor;
    type Linear = PackedLinear;
    type Rotation = CpuRotation;
    type Rows = Vec<u32>;

    fn describe(&self) -> String {
        let threads = self.pool.threads();
        format!(
            "cpu ({:?}, {threads} thread{})",
            self.isa,
            if threads == 1 { "" } else { "s" }
        )
    }

    fn worker_threads(&self) -> &[i32] {
        self.pool.worker_ids()
    }

    fn zeros(&mut self, rows: usize, cols: usize) -> CpuTensor {
        CpuTensor {
            rows,
            cols,
            data: Aligned::zeros(rows * cols),
        }
    }

    fn tensor(&mut self, rows: usize, cols: usize, data: &[f32]) -> CpuTensor {
        let mut tensor = self.zeros(rows, cols);
        tensor.data.as_mut_slice().copy_from_slice(data);
        tensor
    }

    fn linear_layer(&mut self, spec: &LinearSpec<'_>) -> PackedLinear {
        PackedLinear::new(self.isa, spec)
    }

    fn rotation(&mut self, capacity: usize, omega: &[f32]) -> CpuRotation {
        CpuRotation::new(capacity, omega)
    }

    fn rows(&mut self, capacity: usize) -> Vec<u32> {
        Vec::with_capacity(capacity)
    }

    fn reserve(&mut self, queries: usize, keys: usize, heads: usize, head_dim: usize, cols: usize) {
        let rows = queries.max(keys);
        self.need_scratch(attention::scratch(rows, head_dim).max(PackedLinear::scratch(cols)));
        let packed = heads * keys * attention::padded(head_dim);
        self.packed_key.grow(packed);
        self.packed_value.grow(packed);
    }

    fn upload(&mut self, data: &[f32], mut out: ViewMut<'_, CpuTensor>) {
        assert_eq!(data.len(), out.rows * out.cols);
        for (i, row) in data.chunks_exact(out.cols.max(1)).enumerate() {
            out.row_slice(i).copy_from_slice(row);
        }
    }

    fn download(&mut self, x: View<'_, CpuTensor>, out: &mut [f32]) -> Result<(), BackendError> {
        assert_eq!(out.len(), x.rows * x.cols);
        for (i, row) in out.chunks_exact_mut(x.cols.max(1)).enumerate() {
            row.copy_from_slice(x.row_slice(i));
        }
        Ok(())
    }

    fn set_rows(&mut self, rows: &mut Vec<u32>, values: &[u32]) {
        assert!(values.len() <= rows.capacity());
        rows.clear();
        rows.extend_from_slice(values);
    }

    fn set_rotation(&mut self, rotation: &mut CpuRotation, first: usize, times: &[f64]) {
        let job = SetRotation { rotation, first, times };
        // SAFETY: the instruction set was checked; the kernel has no pointers.
        unsafe { vector::run(self.isa, job) };
    }

    fn gather(&mut self, table: View<'_, CpuTensor>, rows: &Vec<u32>, mut out: ViewMut<'_, CpuTensor>) {
        assert_eq!((rows.len(), table.cols), (out.rows, out.cols));
        for (i, &row) in rows.iter().enumerate() {
            assert!((row as usize) < table.rows, "a row beyond the table");
            out.row_slice(i).copy_from_slice(table.row_slice(row as usize));
        }
    }

    fn fill(&mut self, value: f32, mut out: ViewMut<'_, CpuTensor>) {
        (0..out.rows).for_each(|i| out.row_slice(i).fill(value));
    }

    fn copy(&mut self, x: View<'_, CpuTensor>, accumulate: bool, mut out: ViewMut<'_, CpuTensor>) {
        assert_eq!((x.rows, x.cols), (out.rows, out.cols));
        for i in 0..x.rows {
            let row = out.row_slice(i);
            if accumulate {
                row.iter_mut().zip(x.row_slice(i)).for_each(|(y, &x)| *y += x);
            } else {
                row.copy_from_slice(x.row_slice(i));
            }
        }
    }

    fn map(&mut self, f: Map, x: View<'_, CpuTensor>, mut out: ViewMut<'_, CpuTensor>) {
        assert_eq!((x.rows, x.cols), (out.rows, out.cols));
        for i in 0..x.rows {
            let pairs = out.row_slice(i).iter_mut().zip(x.row_slice(i));
            match f {
                Map::Log1p => pairs.for_each(|(y, &x)| *y = x.ln_1p()),
                Map::Exp => pairs.for_each(|(y, &x)| *y = x.exp()),
                Map::Clamp(limit) => pairs.for_each(|(y, &x)| *y = x.clamp(-limit, limit)),
            }
        }
    }

    fn outer_add(
        &mut self,
        a: View<'_, CpuTensor>,
        b: View<'_, CpuTensor>,
        activation: Activation,
        mut out: ViewMut<'_, CpuTensor>,
    ) {
        assert_eq!((a.rows * b.rows, a.cols, b.cols), (out.rows, out.cols, out.cols));
        let job = OuterAddJob {
            a: (a.ptr(), a.tensor.cols, a.rows),
            b: (b.ptr(), b.tensor.cols, b.rows),
            out: (out.ptr(), out.tensor.cols),
            cols: out.cols,
            gelu: activation == Activation::Gelu,
        };
        // SAFETY: the instruction set was checked; views lie within their tensors and the shapes agree.
        unsafe { vector::run(self.isa, job) };
    }

    fn outer_dot(
        &mut self,
        a: View<'_, CpuTensor>,
        b: View<'_, CpuTensor>,
        accumulate: bool,
        mut out: ViewMut<'_, CpuTensor>,
    ) {
        assert_eq!((a.rows * b.rows, a.cols, 1), (out.rows, b.cols, out.cols));
        let job = OuterDotJob {
            a: (a.ptr(), a.tensor.cols, a.rows),
            b: (b.ptr(), b.tensor.cols, b.rows),
            out: (out.ptr(), out.tensor.cols),
            cols: a.cols,
            accumulate,
        };
        // SAFETY: the instruction set was checked; views lie within their tensors and the shapes agree.
        unsafe { vector::run(self.isa, job) };
    }

    fn multiply(&mut self, x: View<'_, CpuTensor>, y: View<'_, CpuTensor>, mut out: ViewMut<'_, CpuTensor>) {
        assert_eq!((x.rows, x.cols), (out.rows, out.cols));
        assert!(y.cols == x.cols && (y.rows == x.rows || y.rows == 1));
        for i in 0..x.rows {
            let pairs = x.row_slice(i).iter().zip(y.row_slice(i.min(y.rows - 1)));
            out.row_slice(i)
                .iter_mut()
                .zip(pairs)
                .for_each(|(out, (x, y))| *out = x * y);
        }
    }

    fn sum_rows(
        &mut self,
        weights: View<'_, CpuTensor>,
        x: View<'_, CpuTensor>,
        accumulate: bool,
        mut out: ViewMut<'_, CpuTensor>,
    ) {
        assert_eq!((weights.rows, weights.cols, x.cols), (1, x.rows, out.cols));
        let sum = out.row_slice(0);
        if !accumulate {
            sum.fill(0.0);
        }
        for (n, &weight) in weights.row_slice(0).iter().enumerate() {
            sum.iter_mut()
                .zip(x.row_slice(n))
                .for_each(|(sum, x)| *sum += weight * x);
        }
    }

    fn linear(
        &mut self,
        x: View<'_, CpuTensor>,
        layer: &PackedLinear,
        args: LinearArgs<'_, CpuTensor>,
        mut out: ViewMut<'_, CpuTensor>,
    ) {
        assert_eq!((x.cols, x.rows, layer.outputs), (layer.inputs, out.rows, out.cols));
        assert!(!layer.gated || (args.addend.is_none() && args.activation == Activation::Identity));
        if let Some(norm) = &args.norm {
            assert!(norm.gain.cols == x.cols && norm.bias.cols == x.cols && norm.gain.rows == 1 && norm.bias.rows == 1);
        }
        if let Some(addend) = &args.addend {
            assert_eq!((addend.rows, addend.cols), (out.rows, out.cols));
        }
        self.need_scratch(PackedLinear::scratch(layer.inputs));
        let (isa, rows, panels) = (self.isa, x.rows, layer.panels());
        let (x_pointer, out_pointer) = (Shared(x.ptr().cast_mut()), Shared(out.ptr()));
        let (x_stride, out_stride) = (x.tensor.cols, out.tensor.cols);
        let norm = args.norm.map(|norm| {
            (
                Shared(norm.gain.data.as_ptr().cast_mut()),
                Shared(norm.bias.data.as_ptr().cast_mut()),
            )
        });
        let addend = args
            .addend
            .map(|addend| (Shared(addend.ptr().cast_mut()), addend.tensor.cols));
        let (scratch, each) = self.thread_scratch();
        let work = rows * layer.inputs * layer.outputs * (1 + usize::from(layer.gated));
        self.share_work(work, |thread, threads| {
            // Many rows are shared out, so that each is normalised once; of few rows every thread does some columns.
            let by_rows = rows >= 2 * linear::MOST_ROWS * threads || panels < threads;
            let job = LinearJob {
                layer,
                x: x_pointer.get(),
                x_stride,
                norm: norm.map(|(gain, bias)| (gain.get().cast_const(), bias.get().cast_const())),
                addend: addend.map(|(addend, stride)| (addend.get().cast_const(), stride)),
                activation: args.activation,
                accumulate: args.accumulate,
                out: out_pointer.get(),
                out_stride,
                rows: if by_rows { share(rows, thread, threads) } else { 0..rows },
                panels: if by_rows {
                    0..panels
                } else {
                    share(panels, thread, threads)
                },
                scratch: scratch.get().wrapping_add(thread * each),
            };
            // SAFETY: the instruction set was checked; views lie within their tensors and the shapes agree; threads write
            // disjoint rows or columns, scratch is the thread's own.
            unsafe { vector::run(isa, job) };
        });
    }

    fn rotate(&mut self, rotary: Rotary<'_, CpuRotation>, x: ViewMut<'_, CpuTensor>) {
        self.turn(rotary, false, x);
    }

    fn attention(&mut self, args: Attention<'_, Self>, out: ViewMut<'_, CpuTensor>) {
        let width = args.query.cols;
        assert_eq!((args.key.cols, args.value.cols, out.cols), (width, width, width));
        assert_eq!((width % args.heads, args.key.rows), (0, args.value.rows));
        let queries = args.query_rows.map_or(args.query.rows, Vec::len);
        let keys = args.key_rows.map_or(args.key.rows, Vec::len);
        assert_eq!(queries, out.rows);
        assert!(!args.rotate_value || (args.query_rotary.is_some() && args.key_rotary.is_some()));
        for rotary in [args.query_rotary, args.key_rotary].into_iter().flatten() {
            assert_eq!(rotary.rotation.head_dim(), width / args.heads);
        }
        let plain = args.query_rows.is_none()
            && args.key_rows.is_none()
            && args.query_rotary.is_none()
            && args.key_rotary.is_none();
        if keys == 0 {
            self.fill(0.0, out);
        } else if plain && queries <= FEW_QUERIES {
            self.few_queries(args, queries, keys, out);
        } else {
            self.many_queries(args, queries, keys, out);
        }
    }

    fn pool(
        &mut self,
        scores: Option<View<'_, CpuTensor>>,
        values: View<'_, CpuTensor>,
        accumulate: bool,
        mut out: ViewMut<'_, CpuTensor>,
    ) {
        let outputs = scores.map_or(1, |scores| scores.cols);
        assert_eq!((out.rows, out.cols), (outputs, values.cols));
        assert!(scores.is_none_or(|scores| scores.rows == values.rows));
        self.need_scratch(values.rows + 16);
        let job = PoolJob {
            scores: scores.map(|scores| (scores.ptr(), scores.tensor.cols)),
            outputs,
            values: (values.ptr(), values.tensor.cols),
            rows: values.rows,
            cols: values.cols,
            accumulate,
            out: (out.ptr(), out.tensor.cols),
            scratch: self.scratch.as_mut_ptr(),
        };
        // SAFETY: the instruction set was checked; views lie within their tensors and the shapes agree.
        unsafe { vector::run(self.isa, job) };
    }
}
