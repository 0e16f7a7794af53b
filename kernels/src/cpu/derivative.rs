//! Vector kernels of what only learning needs: parts of the fused operations, and their derivatives.

use super::math::{exp, gelu, gelu_and_slope};
use super::vector::{Kernel, Vector};
use crate::backend::{Mask, LAYER_NORM_EPSILON};
use crate::gradient::DropMask;
use crate::philox::eight;

/// Rows in memory: the first element, and the distance of rows.
pub type Rows = (*const f32, usize);

/// The same, to be written.
pub type RowsMut = (*mut f32, usize);

/// Plain loops, compiled for the instruction set.
pub struct Loops<F>(pub F);

impl<F: FnOnce()> Kernel for Loops<F> {
    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        (self.0)();
    }
}

/// `y = unit(x)`, or with `gy` the derivative `gx`.
pub struct UnitJob {
    /// The input.
    pub x: Rows,
    /// Derivative by the output.
    pub gy: Option<Rows>,
    /// The output, or the derivative by the input.
    pub out: RowsMut,
    /// Rows.
    pub rows: usize,
    /// Columns of the output of the unit.
    pub cols: usize,
    /// The first half of the input times the GELU of the second.
    pub gated: bool,
}

// SAFETY of every block below: `V`'s instruction set is there, pointers are valid for the rows and columns named, and the
// outputs are nobody else's.
#[allow(clippy::undocumented_unsafe_blocks)] // said once, above
impl Kernel for UnitJob {
    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        for i in 0..self.rows {
            unsafe {
                let x = self.x.0.add(i * self.x.1);
                let out = self.out.0.add(i * self.out.1);
                for c in (0..self.cols).step_by(V::LANES) {
                    let lanes = (self.cols - c).min(V::LANES);
                    let first = V::load_first(x.add(c), lanes);
                    let Some((gy, stride)) = self.gy else {
                        let y = if self.gated {
                            first.mul(gelu(V::load_first(x.add(self.cols + c), lanes)))
                        } else {
                            gelu(first)
                        };
                        y.store_first(out.add(c), lanes);
                        continue;
                    };
                    let g = V::load_first(gy.add(i * stride + c), lanes);
                    if self.gated {
                        let (open, slope) = gelu_and_slope(V::load_first(x.add(self.cols + c), lanes));
                        g.mul(open).store_first(out.add(c), lanes);
                        g.mul(first).mul(slope).store_first(out.add(self.cols + c), lanes);
                    } else {
                        g.mul(gelu_and_slope(first).1).store_first(out.add(c), lanes);
                    }
                }
            }
        }
    }
}

/// Derivative of a LayerNorm, added to all three.
pub struct NormBackwardJob {
    /// The input.
    pub x: Rows,
    /// Gain.
    pub gain: *const f32,
    /// Derivative by the output.
    pub gy: Rows,
    /// Derivative by the input.
    pub gx: RowsMut,
    /// Derivative by the gain.
    pub ggain: *mut f32,
    /// Derivative by the bias.
    pub gbias: *mut f32,
    /// Rows.
    pub rows: usize,
    /// Columns.
    pub cols: usize,
}

#[allow(clippy::undocumented_unsafe_blocks)] // said at `UnitJob`
impl Kernel for NormBackwardJob {
    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let n = self.cols as f32;
        for i in 0..self.rows {
            unsafe {
                let x = self.x.0.add(i * self.x.1);
                let gy = self.gy.0.add(i * self.gy.1);
                let gx = self.gx.0.add(i * self.gx.1);
                let columns = || {
                    (0..self.cols)
                        .step_by(V::LANES)
                        .map(|c| (c, (self.cols - c).min(V::LANES)))
                };

                let mut sum = V::splat(0.0);
                for (c, lanes) in columns() {
                    sum = sum.add(V::load_first(x.add(c), lanes));
                }
                let mean = V::splat(sum.sum() / n);
                let mut squares = 0.0;
                for (c, lanes) in columns() {
                    let d = V::load_first(x.add(c), lanes).sub(mean);
                    if lanes == V::LANES {
                        squares += d.mul(d).sum();
                    } else {
                        let mut rest = [0.0f32; 16];
                        d.mul(d).store_first(rest.as_mut_ptr(), lanes);
                        squares += rest[..lanes].iter().sum::<f32>();
                    }
                }
                let scale = V::splat(1.0 / (squares / n + LAYER_NORM_EPSILON).sqrt());
                let (mut total, mut along) = (V::splat(0.0), V::splat(0.0));
                for (c, lanes) in columns() {
                    let standard = V::load_first(x.add(c), lanes).sub(mean).mul(scale);
                    let g_out = V::load_first(gy.add(c), lanes);
                    let g = g_out.mul(V::load_first(self.gain.add(c), lanes));
                    total = total.add(g);
                    along = g.fma(standard, along);
                    let (gain, bias) = (self.ggain.add(c), self.gbias.add(c));
                    g_out.fma(standard, V::load_first(gain, lanes)).store_first(gain, lanes);
                    g_out.add(V::load_first(bias, lanes)).store_first(bias, lanes);
                }
                let (total, along) = (V::splat(total.sum() / n), V::splat(along.sum() / n));
                for (c, lanes) in columns() {
                    let standard = V::load_first(x.add(c), lanes).sub(mean).mul(scale);
                    let g = V::load_first(gy.add(c), lanes).mul(V::load_first(self.gain.add(c), lanes));
                    let g = g.sub(total).sub(standard.mul(along)).mul(scale);
                    g.add(V::load_first(gx.add(c), lanes)).store_first(gx.add(c), lanes);
                }
            }
        }
    }
}

/// Scores of one head to softmax weights, in place; masked keys get zero. With dropping, `kept` receives what remains, and
/// the weight of a dropped key is stored negative, so that the way back finds both.
pub struct SoftmaxJob {
    /// Scores, scaled.
    pub weights: RowsMut,
    /// Weights after dropping.
    pub kept: Option<(RowsMut, DropMask, usize)>,
    /// Rows.
    pub queries: usize,
    /// Columns.
    pub keys: usize,
    /// Which keys a query sees.
    pub mask: Mask,
}

#[allow(clippy::undocumented_unsafe_blocks)] // said at `UnitJob`
impl Kernel for SoftmaxJob {
    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        for i in 0..self.queries {
            unsafe {
                let row = self.weights.0.add(i * self.weights.1);
                let visible = self.mask.range(i, self.keys);
                std::slice::from_raw_parts_mut(row, visible.start).fill(0.0);
                std::slice::from_raw_parts_mut(row.add(visible.end), self.keys - visible.end).fill(0.0);
                let (seen, keys) = (row.add(visible.start), visible.len());
                let mut largest = f32::MIN;
                let mut most = V::splat(f32::MIN);
                let whole = keys / V::LANES * V::LANES;
                for j in (0..whole).step_by(V::LANES) {
                    most = most.max(V::load(seen.add(j)));
                }
                let mut lanes = [f32::MIN; 16];
                most.store(lanes.as_mut_ptr());
                for x in lanes {
                    largest = largest.max(x);
                }
                for j in whole..keys {
                    largest = largest.max(*seen.add(j));
                }
                let mut sum = V::splat(0.0);
                let mut rest = 0.0;
                for j in (0..keys).step_by(V::LANES) {
                    let lanes = (keys - j).min(V::LANES);
                    let weight = exp(V::load_first(seen.add(j), lanes).sub(V::splat(largest)));
                    weight.store_first(seen.add(j), lanes);
                    if lanes == V::LANES {
                        sum = sum.add(weight);
                    } else {
                        (j..keys).for_each(|j| rest += *seen.add(j));
                    }
                }
                let scale = 1.0 / (sum.sum() + rest);
                let seen = std::slice::from_raw_parts_mut(seen, keys);
                seen.iter_mut().for_each(|w| *w *= scale);
                if let Some((kept, mask, first)) = self.kept {
                    let row = std::slice::from_raw_parts_mut(row, self.keys);
                    let kept = std::slice::from_raw_parts_mut(kept.0.add(i * kept.1), self.keys);
                    drop_weights(mask, first + i * self.keys, row, kept);
                }
            }
        }
    }
}

/// Marks dropped weights by their sign; `kept` gets the others, scaled.
#[inline(always)]
fn drop_weights(mask: DropMask, first: usize, weights: &mut [f32], kept: &mut [f32]) {
    let (threshold, scale) = (mask.threshold(), mask.scale());
    for_each_number(mask, first, weights.len(), |j, number| {
        if number < threshold {
            weights[j] = -weights[j];
            kept[j] = 0.0;
        } else {
            kept[j] = weights[j] * scale;
        }
    });
}

/// Drops elements of a row whose first element has number `first`.
#[inline(always)]
pub fn drop_row(mask: DropMask, first: usize, row: &mut [f32]) {
    let (threshold, scale) = (mask.threshold(), mask.scale());
    for_each_number(mask, first, row.len(), |j, number| {
        row[j] = if number < threshold { 0.0 } else { row[j] * scale };
    });
}

/// Calls `f(j, number)` for the numbers `first ..` of a stream.
#[inline(always)]
fn for_each_number(mask: DropMask, first: usize, count: usize, mut f: impl FnMut(usize, u16)) {
    let mut j = 0;
    while j < count {
        let index = first + j;
        let numbers = eight(mask.seed, mask.stream, index as u64 / 8);
        let lanes = &numbers[index % 8..];
        for (k, &number) in lanes.iter().take(count - j).enumerate() {
            f(j + k, number);
        }
        j += lanes.len();
    }
}

/// From weights and the derivative by the weights after dropping to the derivative by the scores, in place, and the weights
/// after dropping.
pub struct ScoreBackwardJob {
    /// As [`SoftmaxJob`] left them.
    pub weights: Rows,
    /// Derivative by the kept weights; becomes that by the scores, times `scale`.
    pub g: RowsMut,
    /// Receives the weights after dropping.
    pub kept: RowsMut,
    /// Attention's output and the derivative by it, `[queries, channels]`.
    pub out: Rows,
    /// See `out`.
    pub gout: Rows,
    /// Channels of the head.
    pub channels: usize,
    /// Rows.
    pub queries: usize,
    /// Columns.
    pub keys: usize,
    /// What kept weights were multiplied by.
    pub keep_scale: f32,
    /// Of the scores.
    pub scale: f32,
}

#[allow(clippy::undocumented_unsafe_blocks)] // said at `UnitJob`
impl Kernel for ScoreBackwardJob {
    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        for i in 0..self.queries {
            unsafe {
                let (out, gout) = (self.out.0.add(i * self.out.1), self.gout.0.add(i * self.gout.1));
                // Σ weight · derivative over the keys is this product over the channels.
                let mean: f32 = (0..self.channels).map(|c| *out.add(c) * *gout.add(c)).sum();
                let weights = std::slice::from_raw_parts(self.weights.0.add(i * self.weights.1), self.keys);
                let g = std::slice::from_raw_parts_mut(self.g.0.add(i * self.g.1), self.keys);
                let kept = std::slice::from_raw_parts_mut(self.kept.0.add(i * self.kept.1), self.keys);
                for ((&weight, g), kept) in weights.iter().zip(g).zip(kept) {
                    let factor = if weight > 0.0 { self.keep_scale } else { 0.0 };
                    *kept = weight * factor;
                    *g = weight.abs() * (*g * factor - mean) * self.scale;
                }
            }
        }
    }
}
