//! The small operations: sums of rows and pooling over units.

use super::math::{exp, gelu};
use super::vector::{Kernel, Vector};

/// `out[i·N + n] = activation(a[i] + b[n])`.
pub struct OuterAddJob {
    /// First row of `a`, distance of rows, rows.
    pub a: (*const f32, usize, usize),
    /// The same of `b`.
    pub b: (*const f32, usize, usize),
    /// First row of the output, distance of rows.
    pub out: (*mut f32, usize),
    /// Columns.
    pub cols: usize,
    /// GELU of the sum.
    pub gelu: bool,
}

// SAFETY of every block below: `V`'s instruction set is there, pointers are valid for the rows and columns named, and the
// output is nobody else's.
#[allow(clippy::undocumented_unsafe_blocks)] // said once, above
impl Kernel for OuterAddJob {
    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        for i in 0..self.a.2 {
            for n in 0..self.b.2 {
                unsafe {
                    let (a, b) = (self.a.0.add(i * self.a.1), self.b.0.add(n * self.b.1));
                    let out = self.out.0.add((i * self.b.2 + n) * self.out.1);
                    for c in (0..self.cols).step_by(V::LANES) {
                        let lanes = (self.cols - c).min(V::LANES);
                        if lanes == V::LANES {
                            let y = V::load(a.add(c)).add(V::load(b.add(c)));
                            if self.gelu { gelu(y) } else { y }.store(out.add(c));
                        } else {
                            let y = V::load_first(a.add(c), lanes).add(V::load_first(b.add(c), lanes));
                            if self.gelu { gelu(y) } else { y }.store_first(out.add(c), lanes);
                        }
                    }
                }
            }
        }
    }
}

/// `out[i·N + n] = a[i] · b[n]`.
pub struct OuterDotJob {
    /// First row of `a`, distance of rows, rows.
    pub a: (*const f32, usize, usize),
    /// The same of `b`.
    pub b: (*const f32, usize, usize),
    /// First row of the output, distance of rows.
    pub out: (*mut f32, usize),
    /// Columns of `a` and `b`.
    pub cols: usize,
    /// Add to the output.
    pub accumulate: bool,
}

#[allow(clippy::undocumented_unsafe_blocks)] // said at `OuterAddJob`
impl Kernel for OuterDotJob {
    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        for i in 0..self.a.2 {
            for n in 0..self.b.2 {
                unsafe {
                    let (a, b) = (self.a.0.add(i * self.a.1), self.b.0.add(n * self.b.1));
                    let mut sum = V::splat(0.0);
                    for c in (0..self.cols).step_by(V::LANES) {
                        let lanes = (self.cols - c).min(V::LANES);
                        sum = V::load_first(a.add(c), lanes).fma(V::load_first(b.add(c), lanes), sum);
                    }
                    let out = self.out.0.add((i * self.b.2 + n) * self.out.1);
                    *out = if self.accumulate { *out } else { 0.0 } + sum.sum();
                }
            }
        }
    }
}

/// `out[c] = Σₙ softmaxₙ(scores[n, c]) values[n]`, or the mean without scores.
pub struct PoolJob {
    /// First row of the scores, distance of rows.
    pub scores: Option<(*const f32, usize)>,
    /// Columns of the scores, which are rows of the output.
    pub outputs: usize,
    /// First row of the values, distance of rows.
    pub values: (*const f32, usize),
    /// Rows of scores and values.
    pub rows: usize,
    /// Columns of the values.
    pub cols: usize,
    /// Add to the output.
    pub accumulate: bool,
    /// First row of the output, distance of rows.
    pub out: (*mut f32, usize),
    /// Room for `rows` elements and a vector.
    pub scratch: *mut f32,
}

#[allow(clippy::undocumented_unsafe_blocks)] // said at `OuterAddJob`
impl Kernel for PoolJob {
    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        for c in 0..self.outputs {
            unsafe {
                let scale = self.weights::<V>(c);
                for j in (0..self.cols).step_by(V::LANES) {
                    let lanes = (self.cols - j).min(V::LANES);
                    let mut acc = V::splat(0.0);
                    for n in 0..self.rows {
                        let value = self.values.0.add(n * self.values.1 + j);
                        let value = if lanes == V::LANES {
                            V::load(value)
                        } else {
                            V::load_first(value, lanes)
                        };
                        acc = V::splat(*self.scratch.add(n)).fma(value, acc);
                    }
                    let out = self.out.0.add(c * self.out.1 + j);
                    let before = if self.accumulate {
                        V::load_first(out, lanes)
                    } else {
                        V::splat(0.0)
                    };
                    acc.fma(V::splat(scale), before).store_first(out, lanes);
                }
            }
        }
    }
}

#[allow(clippy::undocumented_unsafe_blocks)] // said at `OuterAddJob`
impl PoolJob {
    /// Writes unnormalised weights of column `c` to scratch; returns what normalises them.
    #[inline(always)]
    unsafe fn weights<V: Vector>(&self, c: usize) -> f32 {
        unsafe {
            let Some((scores, stride)) = self.scores else {
                (0..self.rows).for_each(|n| *self.scratch.add(n) = 1.0);
                return 1.0 / self.rows as f32;
            };
            let mut largest = f32::NEG_INFINITY;
            for n in 0..self.rows {
                let score = *scores.add(n * stride + c);
                *self.scratch.add(n) = score;
                largest = largest.max(score);
            }
            let mut sum = 0.0;
            for n in (0..self.rows).step_by(V::LANES) {
                let lanes = (self.rows - n).min(V::LANES);
                let weight = exp(V::load_first(self.scratch.add(n), lanes).sub(V::splat(largest)));
                weight.store_first(self.scratch.add(n), lanes);
                (n..n + lanes).for_each(|n| sum += *self.scratch.add(n));
            }
            1.0 / sum
        }
    }
}
