//! Fused attention: gather, rotation, scores, softmax, weighted sum, rotation back.
//!
//! Many queries ([`PackJob`], then [`BlockJob`]): keys and values are gathered and turned once a head into padded rows. A
//! block of two vectors of queries is turned, scaled and transposed; then queries are lanes, so that maximum, exponential
//! and sum of the softmax are plain vector operations over keys, and both products are the register block of the linear
//! layers. Few queries ([`FewJob`]): dot products with the keys where they lie, which are turned already.

use super::linear::multiply;
use super::math::exp;
use super::rotation::{turn, Angles, CpuRotation};
use super::vector::{Kernel, Vector};
use crate::backend::Mask;

/// Score of a key that a query does not see: its weight is below 1e-37 of the largest. Infinite, so that a query whose own
/// scores are all −∞ comes out NaN, as its softmax is, and not as an average of what it must not see.
const HIDDEN: f32 = f32::NEG_INFINITY;

/// Rows of one operand: a table with the numbers of the rows taken, or all of its rows.
#[derive(Clone, Copy)]
pub struct Operand<'a> {
    /// First element of the first row.
    pub data: *const f32,
    /// Distance of rows.
    pub stride: usize,
    /// Rows taken, if not all in order.
    pub rows: Option<&'a [u32]>,
    /// Angles of the rows, and which belongs to the first.
    pub rotation: Option<(&'a CpuRotation, usize)>,
}

// SAFETY: read only while an operation runs.
unsafe impl Send for Operand<'_> {}
// SAFETY: as above.
unsafe impl Sync for Operand<'_> {}

impl Operand<'_> {
    /// Element 0 of row `i`.
    ///
    /// # Safety
    /// Row `i` exists.
    #[inline(always)]
    unsafe fn row(&self, i: usize) -> *const f32 {
        let row = self.rows.map_or(i, |rows| rows[i] as usize);
        // SAFETY: as the caller's.
        unsafe { self.data.add(row * self.stride) }
    }

    #[inline(always)]
    fn angles(&self, i: usize) -> Option<Angles> {
        self.rotation.map(|(rotation, first)| rotation.angles(first + i))
    }
}

/// Channels of a head in padded rows.
pub fn padded(head_dim: usize) -> usize {
    head_dim.next_multiple_of(32)
}

/// Scratch elements of one thread in [`BlockJob`] and [`FewJob`] for so many keys.
pub fn scratch(keys: usize, head_dim: usize) -> usize {
    // Scores, transposed queries, outputs, one row; at most 32 queries a block.
    (keys + 16) * 32 + 3 * 32 * padded(head_dim) + padded(head_dim)
}

/// Turns keys and values of some rows into padded rows, `[heads][keys][padded]` each.
pub struct PackJob<'a> {
    /// Keys.
    pub key: Operand<'a>,
    /// Values.
    pub value: Operand<'a>,
    /// Number of keys.
    pub keys: usize,
    /// Heads to pack.
    pub heads: std::ops::Range<usize>,
    /// Keys to pack.
    pub range: std::ops::Range<usize>,
    /// Channels a head.
    pub head_dim: usize,
    /// Turned keys.
    pub packed_key: *mut f32,
    /// Turned values.
    pub packed_value: *mut f32,
}

// SAFETY of every block below: `V`'s instruction set is there, operands have the rows and channels that the job names, and
// outputs and scratch are this thread's own.
#[allow(clippy::undocumented_unsafe_blocks)] // said once, above
impl Kernel for PackJob<'_> {
    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let width = padded(self.head_dim);
        for head in self.heads {
            for i in self.range.clone() {
                let to = (head * self.keys + i) * width;
                unsafe {
                    let key = self.key.row(i).add(head * self.head_dim);
                    turn::<V, false>(key, self.head_dim, self.key.angles(i), self.packed_key.add(to));
                    let value = self.value.row(i).add(head * self.head_dim);
                    turn::<V, false>(value, self.head_dim, self.value.angles(i), self.packed_value.add(to));
                }
            }
        }
    }
}

/// Blocks of queries against packed keys and values.
pub struct BlockJob<'a> {
    /// Queries.
    pub query: Operand<'a>,
    /// Their number.
    pub queries: usize,
    /// Number of keys, at least one.
    pub keys: usize,
    /// Channels a head.
    pub head_dim: usize,
    /// See [`PackJob`]. The padding of values is zero.
    pub packed_key: *const f32,
    /// See [`PackJob`].
    pub packed_value: *const f32,
    /// Turn the output back by the queries' angles.
    pub turn_back: bool,
    /// Which keys a query sees.
    pub mask: Mask,
    /// First row of the output.
    pub out: *mut f32,
    /// Distance of its rows.
    pub out_stride: usize,
    /// Tasks to do: `head · blocks + block`.
    pub tasks: std::ops::Range<usize>,
    /// Room for [`scratch`] elements.
    pub scratch: *mut f32,
}

/// Blocks of queries that [`BlockJob`] makes of `queries`.
pub fn blocks(queries: usize, lanes: usize) -> usize {
    queries.div_ceil(2 * lanes)
}

#[allow(clippy::undocumented_unsafe_blocks)] // said at `PackJob`
impl Kernel for BlockJob<'_> {
    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let per_head = blocks(self.queries, V::LANES);
        for task in self.tasks.clone() {
            unsafe { self.block::<V>(task / per_head, task % per_head * 2 * V::LANES) };
        }
    }
}

#[allow(clippy::undocumented_unsafe_blocks)] // said at `PackJob`
impl BlockJob<'_> {
    /// Queries `first ..` of one head.
    #[inline(always)]
    unsafe fn block<V: Vector>(&self, head: usize, first: usize) {
        let lanes = 2 * V::LANES;
        let width = padded(self.head_dim);
        let count = (self.queries - first).min(lanes);
        unsafe {
            let scores = self.scratch;
            let transposed = scores.add((self.keys + 16) * lanes);
            let outputs = transposed.add(width * lanes);
            let row = outputs.add(width * lanes);
            let key = self.packed_key.add(head * self.keys * width);
            let value = self.packed_value.add(head * self.keys * width);

            self.transpose::<V>(head, first, count, row, transposed);
            self.scores::<V>(key, transposed, scores);
            if self.mask != Mask::All {
                for lane in 0..count {
                    let seen = self.mask.range(first + lane, self.keys);
                    (0..self.keys)
                        .filter(|s| !seen.contains(s))
                        .for_each(|s| *scores.add(s * lanes + lane) = HIDDEN);
                }
            }
            let sums = softmax::<V>(scores, self.keys);
            self.weigh::<V>(scores, value, outputs);

            let mut scale = [0.0f32; 32];
            V::splat(1.0).div(sums[0]).store(scale.as_mut_ptr());
            V::splat(1.0).div(sums[1]).store(scale.as_mut_ptr().add(V::LANES));
            for (lane, &scale) in scale.iter().enumerate().take(count) {
                let blind = self.mask != Mask::All && self.mask.range(first + lane, self.keys).is_empty();
                let output = outputs.add(lane * width);
                for c in (0..width).step_by(V::LANES) {
                    let y = if blind {
                        V::splat(0.0)
                    } else {
                        V::load(output.add(c)).mul(V::splat(scale))
                    };
                    y.store(output.add(c));
                }
                let angles = self.query.angles(first + lane).filter(|_| self.turn_back);
                let out = self.out.add((first + lane) * self.out_stride + head * self.head_dim);
                turn::<V, true>(output, self.head_dim, angles, out);
            }
        }
    }

    /// Queries turned, scaled and transposed to `[head_dim][lanes]`.
    #[inline(always)]
    unsafe fn transpose<V: Vector>(&self, head: usize, first: usize, count: usize, row: *mut f32, out: *mut f32) {
        let lanes = 2 * V::LANES;
        let scale = 1.0 / (self.head_dim as f32).sqrt();
        unsafe {
            for lane in 0..lanes {
                if lane < count {
                    let query = self.query.row(first + lane).add(head * self.head_dim);
                    turn::<V, false>(query, self.head_dim, self.query.angles(first + lane), row);
                    for d in 0..self.head_dim {
                        *out.add(d * lanes + lane) = *row.add(d) * scale;
                    }
                } else {
                    (0..self.head_dim).for_each(|d| *out.add(d * lanes + lane) = 0.0);
                }
            }
        }
    }

    /// `[keys][lanes]`.
    #[inline(always)]
    unsafe fn scores<V: Vector>(&self, key: *const f32, query: *const f32, out: *mut f32) {
        let width = padded(self.head_dim);
        let mut s = 0;
        while s < self.keys {
            let left = (self.keys - s).min(V::BLOCK_ROWS);
            unsafe {
                let (key, out) = (key.add(s * width), out.add(s * 2 * V::LANES));
                s += match left {
                    12 => score_tile::<V, 12>(key, width, query, self.head_dim, out),
                    8.. => score_tile::<V, 8>(key, width, query, self.head_dim, out),
                    6.. => score_tile::<V, 6>(key, width, query, self.head_dim, out),
                    4.. => score_tile::<V, 4>(key, width, query, self.head_dim, out),
                    _ => score_tile::<V, 1>(key, width, query, self.head_dim, out),
                };
            }
        }
    }

    /// `outputs[lane][c] = Σₛ weights[s][lane] · value[s][c]`.
    #[inline(always)]
    unsafe fn weigh<V: Vector>(&self, weights: *const f32, value: *const f32, out: *mut f32) {
        let width = padded(self.head_dim);
        let lanes = 2 * V::LANES;
        for c in (0..self.head_dim).step_by(lanes) {
            let mut lane = 0;
            while lane < lanes {
                let left = (lanes - lane).min(V::BLOCK_ROWS);
                unsafe {
                    let (weights, value, out) = (weights.add(lane), value.add(c), out.add(lane * width + c));
                    lane += match left {
                        12 => weigh_tile::<V, 12>(weights, value, self.keys, width, out),
                        8.. => weigh_tile::<V, 8>(weights, value, self.keys, width, out),
                        6.. => weigh_tile::<V, 6>(weights, value, self.keys, width, out),
                        4.. => weigh_tile::<V, 4>(weights, value, self.keys, width, out),
                        _ => weigh_tile::<V, 1>(weights, value, self.keys, width, out),
                    };
                }
            }
        }
    }
}

/// Scores of `M` keys with a block of queries.
#[allow(clippy::undocumented_unsafe_blocks)] // said at `PackJob`
#[inline(always)]
unsafe fn score_tile<V: Vector, const M: usize>(
    key: *const f32,
    width: usize,
    query: *const f32,
    head_dim: usize,
    out: *mut f32,
) -> usize {
    unsafe {
        let mut acc = [[V::splat(0.0); 2]; M];
        for d in 0..head_dim {
            let b = query.add(d * 2 * V::LANES);
            multiply(V::load(b), V::load(b.add(V::LANES)), key.add(d), width, &mut acc);
        }
        for (i, acc) in acc.into_iter().enumerate() {
            acc[0].store(out.add(i * 2 * V::LANES));
            acc[1].store(out.add(i * 2 * V::LANES + V::LANES));
        }
    }
    M
}

/// Weighted sums of two vectors of channels for `M` queries.
#[allow(clippy::undocumented_unsafe_blocks)] // said at `PackJob`
#[inline(always)]
unsafe fn weigh_tile<V: Vector, const M: usize>(
    weights: *const f32,
    value: *const f32,
    keys: usize,
    width: usize,
    out: *mut f32,
) -> usize {
    unsafe {
        let mut acc = [[V::splat(0.0); 2]; M];
        for s in 0..keys {
            let b = value.add(s * width);
            multiply(
                V::load(b),
                V::load(b.add(V::LANES)),
                weights.add(s * 2 * V::LANES),
                1,
                &mut acc,
            );
        }
        for (i, acc) in acc.into_iter().enumerate() {
            acc[0].store(out.add(i * width));
            acc[1].store(out.add(i * width + V::LANES));
        }
    }
    M
}

/// Replaces scores `[keys][lanes]` by their exponentials after taking away the lane's largest; returns the lanes' sums.
#[allow(clippy::undocumented_unsafe_blocks)] // said at `PackJob`
#[inline(always)]
unsafe fn softmax<V: Vector>(scores: *mut f32, keys: usize) -> [V; 2] {
    unsafe {
        let mut largest = [V::splat(HIDDEN); 2];
        for s in 0..keys {
            let row = scores.add(s * 2 * V::LANES);
            largest = [largest[0].max(V::load(row)), largest[1].max(V::load(row.add(V::LANES)))];
        }
        let mut sums = [V::splat(0.0); 2];
        for s in 0..keys {
            for (half, sum) in sums.iter_mut().enumerate() {
                let at = scores.add(s * 2 * V::LANES + half * V::LANES);
                let weight = exp(V::load(at).sub(largest[half]));
                weight.store(at);
                *sum = sum.add(weight);
            }
        }
        sums
    }
}

/// Few queries against keys and values that need neither gathering nor turning.
pub struct FewJob<'a> {
    /// Queries.
    pub query: Operand<'a>,
    /// Their number.
    pub queries: usize,
    /// Keys.
    pub key: Operand<'a>,
    /// Values.
    pub value: Operand<'a>,
    /// Their number.
    pub keys: usize,
    /// Channels a head.
    pub head_dim: usize,
    /// Heads to do.
    pub heads: std::ops::Range<usize>,
    /// Which keys a query sees.
    pub mask: Mask,
    /// First row of the output.
    pub out: *mut f32,
    /// Distance of its rows.
    pub out_stride: usize,
    /// Room for [`scratch`] elements.
    pub scratch: *mut f32,
}

#[allow(clippy::undocumented_unsafe_blocks)] // said at `PackJob`
impl Kernel for FewJob<'_> {
    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        for head in self.heads.clone() {
            for i in 0..self.queries {
                unsafe { self.one::<V>(head, i) };
            }
        }
    }
}

#[allow(clippy::undocumented_unsafe_blocks)] // said at `PackJob`
impl FewJob<'_> {
    #[inline(always)]
    unsafe fn one<V: Vector>(&self, head: usize, i: usize) {
        let (dim, start) = (self.head_dim, head * self.head_dim);
        let seen = self.mask.range(i, self.keys);
        unsafe {
            let query = self.query.row(i).add(start);
            let scores = self.scratch;
            let scale = 1.0 / (dim as f32).sqrt();
            let mut largest = HIDDEN;
            for (at, s) in seen.clone().enumerate() {
                let score = dot::<V>(query, self.key.row(s).add(start), dim) * scale;
                *scores.add(at) = score;
                largest = largest.max(score);
            }
            let count = seen.len();
            // Up to a whole vector beyond, so that no lane is special; those weigh nothing.
            for at in count..count.next_multiple_of(V::LANES) {
                *scores.add(at) = HIDDEN;
            }
            let mut sum = V::splat(0.0);
            for at in (0..count).step_by(V::LANES) {
                let weight = exp(V::load(scores.add(at)).sub(V::splat(largest)));
                weight.store(scores.add(at));
                sum = sum.add(weight);
            }
            let scale = V::splat(if count == 0 { 0.0 } else { 1.0 / sum.sum() });

            let out = self.out.add(i * self.out_stride + start);
            let mut c = 0;
            while c < dim {
                let value = |s: usize| self.value.row(s).add(start + c);
                let whole = (dim - c) / V::LANES;
                if whole >= 4 {
                    weighted::<V, 4>(value, seen.clone(), scores, scale, out.add(c));
                    c += 4 * V::LANES;
                } else if whole >= 1 {
                    weighted::<V, 1>(value, seen.clone(), scores, scale, out.add(c));
                    c += V::LANES;
                } else {
                    let lanes = dim - c;
                    let mut acc = V::splat(0.0);
                    for (at, s) in seen.clone().enumerate() {
                        acc = V::splat(*scores.add(at)).fma(V::load_first(value(s), lanes), acc);
                    }
                    acc.mul(scale).store_first(out.add(c), lanes);
                    c = dim;
                }
            }
        }
    }
}

/// `out = scale · Σ weights · value` over `N` vectors of channels.
#[allow(clippy::undocumented_unsafe_blocks)] // said at `PackJob`
#[inline(always)]
unsafe fn weighted<V: Vector, const N: usize>(
    value: impl Fn(usize) -> *const f32,
    seen: std::ops::Range<usize>,
    weights: *const f32,
    scale: V,
    out: *mut f32,
) {
    unsafe {
        let mut acc = [V::splat(0.0); N];
        for (at, s) in seen.enumerate() {
            let weight = V::splat(*weights.add(at));
            let value = value(s);
            for (v, acc) in acc.iter_mut().enumerate() {
                *acc = weight.fma(V::load(value.add(v * V::LANES)), *acc);
            }
        }
        for (v, acc) in acc.into_iter().enumerate() {
            acc.mul(scale).store(out.add(v * V::LANES));
        }
    }
}

#[allow(clippy::undocumented_unsafe_blocks)] // said at `PackJob`
#[inline(always)]
unsafe fn dot<V: Vector>(a: *const f32, b: *const f32, n: usize) -> f32 {
    unsafe {
        let whole = n / V::LANES * V::LANES;
        let mut acc = V::splat(0.0);
        for c in (0..whole).step_by(V::LANES) {
            acc = V::load(a.add(c)).fma(V::load(b.add(c)), acc);
        }
        if whole < n {
            acc = V::load_first(a.add(whole), n - whole).fma(V::load_first(b.add(whole), n - whole), acc);
        }
        acc.sum()
    }
}
