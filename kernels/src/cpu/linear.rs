//! Products with packed weights: `activation(norm(x) Wᵀ + bias + addend)`.
//!
//! A register block of M rows × 2 vectors reads a panel of [`super::pack`] in order and once. Rows are normalised into a scratch block of at most [`MOST_ROWS`] rows that stays in the first cache.

#[cfg(target_arch = "x86_64")]
use super::amx;
use super::math::{gelu, layer_norm};
use super::memory::Aligned;
use super::pack::{PackedLinear, Panels};
use super::vector::{Isa, Kernel, Vector};
use crate::backend::{Activation, LinearSpec, Precision};

/// Rows of the largest block: 12 in registers, 16 in tiles.
pub const MOST_ROWS: usize = 16;

/// One thread's part of a product.
pub struct LinearJob<'a> {
    /// The weights.
    pub layer: &'a PackedLinear,
    /// First row of the input.
    pub x: *const f32,
    /// Distance of its rows.
    pub x_stride: usize,
    /// Gain and bias of a LayerNorm before the product.
    pub norm: Option<(*const f32, *const f32)>,
    /// Added before the activation; distance of its rows.
    pub addend: Option<(*const f32, usize)>,
    /// Applied to the sum.
    pub activation: Activation,
    /// Adds to the output.
    pub accumulate: bool,
    /// First row of the output.
    pub out: *mut f32,
    /// Distance of its rows.
    pub out_stride: usize,
    /// Rows to compute.
    pub rows: std::ops::Range<usize>,
    /// Panels to compute.
    pub panels: std::ops::Range<usize>,
    /// Room for [`PackedLinear::scratch`] elements, this thread's own.
    pub scratch: *mut f32,
}

// SAFETY of every block below: `V`'s instruction set is there; `x`, `norm`, `addend` and `out` are valid for the rows and
// columns of the job, `scratch` for its size, and nobody else touches the output's rows and panels meanwhile.
#[allow(clippy::undocumented_unsafe_blocks)] // said once, above
impl Kernel for LinearJob<'_> {
    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let inputs = self.layer.inputs;
        let mut row = self.rows.start;
        while row < self.rows.end {
            let left = self.rows.end - row;
            let rows = if self.in_tiles::<V>() {
                left.min(MOST_ROWS)
            } else {
                let left = left.min(V::BLOCK_ROWS);
                [12, 8, 6, 4, 2, 1].into_iter().find(|&rows| rows <= left).unwrap_or(1)
            };
            unsafe {
                let mut a = self.x.add(row * self.x_stride);
                let mut a_stride = self.x_stride;
                if let Some((gain, bias)) = self.norm {
                    for i in 0..rows {
                        layer_norm::<V>(a.add(i * a_stride), inputs, gain, bias, self.scratch.add(i * inputs));
                    }
                    (a, a_stride) = (self.scratch, inputs);
                }
                match &self.layer.panels {
                    Panels::F32(panels) => self.block::<V, _>(F32Panel(panels.as_ptr()), row, rows, a, a_stride),
                    Panels::F16(panels) => self.block::<V, _>(F16Panel(panels.as_ptr()), row, rows, a, a_stride),
                    Panels::Bf16(panels) => {
                        let pairs = self.scratch.add(MOST_ROWS * inputs.next_multiple_of(16)).cast::<u32>();
                        let depth = inputs.div_ceil(2);
                        for i in 0..rows {
                            round_row::<V>(a.add(i * a_stride), inputs, pairs.add(i * depth));
                        }
                        if self.in_tiles::<V>() {
                            self.tile_block::<V>(panels.as_ptr(), row, rows, pairs);
                        } else {
                            self.block::<V, _>(Bf16Panel(panels.as_ptr()), row, rows, pairs.cast(), depth);
                        }
                    }
                }
            }
            row += rows;
        }
    }
}

/// Rounds `n` numbers to pairs of BF16, the first of a pair in the low half; a last one without a second is paired with zero.
///
/// # Safety
/// `V`'s instruction set is there; `n` elements are readable at `x`, half as many, rounded up, writable at `out`.
#[inline(always)]
unsafe fn round_row<V: Vector>(x: *const f32, n: usize, out: *mut u32) {
    let whole = n / V::LANES * V::LANES;
    // SAFETY: as the caller's; `last` holds the pairs of any vector.
    unsafe {
        for c in (0..whole).step_by(V::LANES) {
            V::load(x.add(c)).store_bf16_pairs(out.add(c / 2));
        }
        if whole < n {
            let mut last = [0u32; 8];
            V::load_first(x.add(whole), n - whole).store_bf16_pairs(last.as_mut_ptr());
            std::ptr::copy_nonoverlapping(last.as_ptr(), out.add(whole / 2), (n - whole).div_ceil(2));
        }
    }
}

/// How a panel multiplies: `depth` steps, each adding `a · b` for one element of `a` and two vectors of `b`.
trait Panel: Copy {
    /// Steps for so many inputs.
    fn depth(inputs: usize) -> usize;
    /// Panel `index` of `depth` steps.
    unsafe fn at<V: Vector>(self, index: usize, depth: usize) -> Self;
    /// `acc += a[k] · b[k]`.
    unsafe fn step<V: Vector, const M: usize>(self, k: usize, a: *const f32, a_stride: usize, acc: &mut [[V; 2]; M]);
}

#[derive(Clone, Copy)]
struct F32Panel(*const f32);
#[derive(Clone, Copy)]
struct F16Panel(*const u16);
#[derive(Clone, Copy)]
struct Bf16Panel(*const u32);

#[allow(clippy::undocumented_unsafe_blocks)] // said at `LinearJob`
impl Panel for F32Panel {
    #[inline(always)]
    fn depth(inputs: usize) -> usize {
        inputs
    }
    #[inline(always)]
    unsafe fn at<V: Vector>(self, index: usize, depth: usize) -> Self {
        unsafe { F32Panel(self.0.add(index * depth * 2 * V::LANES)) }
    }
    #[inline(always)]
    unsafe fn step<V: Vector, const M: usize>(self, k: usize, a: *const f32, a_stride: usize, acc: &mut [[V; 2]; M]) {
        unsafe {
            let b = self.0.add(k * 2 * V::LANES);
            multiply(V::load(b), V::load(b.add(V::LANES)), a.add(k), a_stride, acc);
        }
    }
}

#[allow(clippy::undocumented_unsafe_blocks)] // said at `LinearJob`
impl Panel for F16Panel {
    #[inline(always)]
    fn depth(inputs: usize) -> usize {
        inputs
    }
    #[inline(always)]
    unsafe fn at<V: Vector>(self, index: usize, depth: usize) -> Self {
        unsafe { F16Panel(self.0.add(index * depth * 2 * V::LANES)) }
    }
    #[inline(always)]
    unsafe fn step<V: Vector, const M: usize>(self, k: usize, a: *const f32, a_stride: usize, acc: &mut [[V; 2]; M]) {
        unsafe {
            let b = self.0.add(k * 2 * V::LANES);
            multiply(V::load_f16(b), V::load_f16(b.add(V::LANES)), a.add(k), a_stride, acc);
        }
    }
}

#[allow(clippy::undocumented_unsafe_blocks)] // said at `LinearJob`
impl Panel for Bf16Panel {
    #[inline(always)]
    fn depth(inputs: usize) -> usize {
        inputs.div_ceil(2)
    }
    #[inline(always)]
    unsafe fn at<V: Vector>(self, index: usize, depth: usize) -> Self {
        unsafe { Bf16Panel(self.0.add(index * depth * 2 * V::LANES)) }
    }
    #[inline(always)]
    unsafe fn step<V: Vector, const M: usize>(self, k: usize, a: *const f32, a_stride: usize, acc: &mut [[V; 2]; M]) {
        unsafe {
            let b = self.0.add(k * 2 * V::LANES);
            for (i, acc) in acc.iter_mut().enumerate() {
                let a = (*a.add(i * a_stride + k)).to_bits();
                acc[0] = V::dot_bf16(acc[0], a, b);
                acc[1] = V::dot_bf16(acc[1], a, b.add(V::LANES));
            }
        }
    }
}

/// One step of a register block: `acc[i] += a[i] · (b0, b1)`.
///
/// # Safety
/// `V`'s instruction set is there and `a` is readable at `M` rows.
#[inline(always)]
pub unsafe fn multiply<V: Vector, const M: usize>(b0: V, b1: V, a: *const f32, a_stride: usize, acc: &mut [[V; 2]; M]) {
    for (i, acc) in acc.iter_mut().enumerate() {
        // SAFETY: as the caller's.
        unsafe {
            let a = V::splat(*a.add(i * a_stride));
            acc[0] = a.fma(b0, acc[0]);
            acc[1] = a.fma(b1, acc[1]);
        }
    }
}

#[allow(clippy::undocumented_unsafe_blocks)] // said at `LinearJob`
impl LinearJob<'_> {
    /// Whether this layer goes through AMX tiles, which take 32 inputs at a time.
    #[inline(always)]
    fn in_tiles<V: Vector>(&self) -> bool {
        V::TILES && matches!(self.layer.panels, Panels::Bf16(_)) && self.layer.inputs.is_multiple_of(32)
    }

    #[cfg(target_arch = "x86_64")]
    #[inline(always)]
    unsafe fn tile_block<V: Vector>(&self, panels: *const u32, row: usize, rows: usize, pairs: *const u32) {
        let depth = self.layer.inputs / 2;
        unsafe {
            let sums = self.scratch.add(2 * MOST_ROWS * self.layer.inputs.next_multiple_of(16));
            amx::configure(rows);
            for panel in self.panels.clone() {
                amx::multiply(pairs, panels.add(panel * depth * 2 * V::LANES), depth, sums);
                let bias = self.layer.bias.as_ptr().add(panel * 2 * V::LANES);
                let bias = [V::load(bias), V::load(bias.add(V::LANES))];
                for i in 0..rows {
                    let sum = sums.add(i * 2 * V::LANES);
                    let acc = [V::load(sum).add(bias[0]), V::load(sum.add(V::LANES)).add(bias[1])];
                    self.store(panel, row + i, &[acc]);
                }
            }
            amx::release();
        }
    }

    /// There are no tiles here, see [`Self::in_tiles`].
    #[cfg(not(target_arch = "x86_64"))]
    unsafe fn tile_block<V: Vector>(&self, _panels: *const u32, _row: usize, _rows: usize, _pairs: *const u32) {
        unreachable!("no instruction set of this processor has tiles");
    }

    #[inline(always)]
    unsafe fn block<V: Vector, P: Panel>(&self, panels: P, row: usize, rows: usize, a: *const f32, a_stride: usize) {
        unsafe {
            match rows {
                12 => self.tiles::<V, P, 12>(panels, row, a, a_stride),
                8 => self.tiles::<V, P, 8>(panels, row, a, a_stride),
                6 => self.tiles::<V, P, 6>(panels, row, a, a_stride),
                4 => self.tiles::<V, P, 4>(panels, row, a, a_stride),
                2 => self.tiles::<V, P, 2>(panels, row, a, a_stride),
                _ => self.tiles::<V, P, 1>(panels, row, a, a_stride),
            }
        }
    }

    #[inline(always)]
    unsafe fn tiles<V: Vector, P: Panel, const M: usize>(&self, panels: P, row: usize, a: *const f32, a_stride: usize) {
        let depth = P::depth(self.layer.inputs);
        for panel in self.panels.clone() {
            unsafe {
                let b = panels.at::<V>(panel, depth);
                let bias = self.layer.bias.as_ptr().add(panel * 2 * V::LANES);
                let mut acc = [[V::load(bias), V::load(bias.add(V::LANES))]; M];
                let mut k = 0;
                if M <= 2 {
                    // Few rows leave the multipliers waiting for each sum; three more sums hide that.
                    let mut more = [[[V::splat(0.0); 2]; M]; 3];
                    while k + 4 <= depth {
                        b.step(k, a, a_stride, &mut acc);
                        b.step(k + 1, a, a_stride, &mut more[0]);
                        b.step(k + 2, a, a_stride, &mut more[1]);
                        b.step(k + 3, a, a_stride, &mut more[2]);
                        k += 4;
                    }
                    for sums in more {
                        for (acc, sum) in acc.iter_mut().zip(sums) {
                            *acc = [acc[0].add(sum[0]), acc[1].add(sum[1])];
                        }
                    }
                }
                while k < depth {
                    b.step(k, a, a_stride, &mut acc);
                    k += 1;
                }
                self.store(panel, row, &acc);
            }
        }
    }

    /// Everything after the product.
    #[inline(always)]
    unsafe fn store<V: Vector, const M: usize>(&self, panel: usize, row: usize, acc: &[[V; 2]; M]) {
        let first = panel * self.layer.panel_outputs;
        for (i, acc) in acc.iter().enumerate() {
            unsafe {
                if self.layer.gated {
                    self.store_vector(row + i, first, acc[0].mul(gelu(acc[1])));
                } else {
                    self.store_vector(row + i, first, acc[0]);
                    if first + V::LANES < self.layer.outputs {
                        self.store_vector(row + i, first + V::LANES, acc[1]);
                    }
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn store_vector<V: Vector>(&self, row: usize, col: usize, y: V) {
        let lanes = (self.layer.outputs - col).min(V::LANES);
        unsafe {
            let out = self.out.add(row * self.out_stride + col);
            let mut y = y;
            if lanes == V::LANES {
                if let Some((addend, stride)) = self.addend {
                    y = y.add(V::load(addend.add(row * stride + col)));
                }
                if self.activation == Activation::Gelu {
                    y = gelu(y);
                }
                if self.accumulate {
                    y = y.add(V::load(out));
                }
                y.store(out);
            } else {
                if let Some((addend, stride)) = self.addend {
                    y = y.add(V::load_first(addend.add(row * stride + col), lanes));
                }
                if self.activation == Activation::Gelu {
                    y = gelu(y);
                }
                if self.accumulate {
                    y = y.add(V::load_first(out, lanes));
                }
                y.store_first(out, lanes);
            }
        }
    }
}

/// Whether AMX tiles and plain vectors give the same sums on this machine, to rounding: one product of 5 × 64 with 40 outputs.
pub fn tiles_agree() -> bool {
    const ROWS: usize = 5;
    const INPUTS: usize = 64;
    const OUTPUTS: usize = 40;
    let weight: Vec<f32> = (0..OUTPUTS * INPUTS)
        .map(|i| ((i * 37 % 101) as f32 - 50.0) / 64.0)
        .collect();
    let x: Vec<f32> = (0..ROWS * INPUTS)
        .map(|i| ((i * 29 % 89) as f32 - 44.0) / 64.0)
        .collect();
    let product = |isa| {
        let layer = PackedLinear::new(
            isa,
            &LinearSpec {
                weight: &weight,
                row_stride: INPUTS,
                outputs: OUTPUTS,
                inputs: INPUTS,
                bias: None,
                gated: false,
                precision: Precision::Bf16,
                origin: crate::Origin::default(),
            },
        );
        let mut scratch: Aligned<f32> = Aligned::zeros(PackedLinear::scratch(INPUTS));
        let mut out = vec![0.0f32; ROWS * OUTPUTS];
        let job = LinearJob {
            layer: &layer,
            x: x.as_ptr(),
            x_stride: INPUTS,
            norm: None,
            addend: None,
            activation: Activation::Identity,
            accumulate: false,
            out: out.as_mut_ptr(),
            out_stride: OUTPUTS,
            rows: 0..ROWS,
            panels: 0..layer.panels(),
            scratch: scratch.as_mut_ptr(),
        };
        // SAFETY: the caller found both instruction sets; the vectors have the shapes that the job names.
        unsafe { super::vector::run(isa, job) };
        out
    };
    let (tiles, vectors) = (product(Isa::AmxBf16), product(Isa::Avx512Bf16));
    tiles.iter().zip(&vectors).all(|(a, b)| (a - b).abs() < 1e-3)
}
