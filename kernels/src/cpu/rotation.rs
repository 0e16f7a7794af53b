//! Sines and cosines of times, and turning rows by them.

use super::math::sin_turns;
use super::memory::Aligned;
use super::vector::{Kernel, Vector};

/// Angles of a number of times. Channels whose frequency is zero are not turned, so that only the leading ones are kept.
pub struct CpuRotation {
    head_dim: usize,
    omega: Vec<f32>,
    /// Channels kept a time: those that turn, up to a multiple of 16, the rest of them with cosine 1 and sine 0.
    width: usize,
    /// `[capacity, width]`, cosine of each channel's pair.
    cos: Aligned<f32>,
    /// `[capacity, width]`, sine of each channel's pair, negative for the first of the pair.
    sin: Aligned<f32>,
}

impl CpuRotation {
    /// Room for `capacity` times, all angles zero.
    pub fn new(capacity: usize, omega: &[f32]) -> Self {
        let turning = omega.iter().rposition(|&omega| omega != 0.0).map_or(0, |last| last + 1);
        let width = (2 * turning).next_multiple_of(16);
        let mut cos: Aligned<f32> = Aligned::zeros(capacity * width);
        cos.as_mut_slice().fill(1.0);
        CpuRotation {
            head_dim: 2 * omega.len(),
            omega: omega[..turning].to_vec(),
            width,
            cos,
            sin: Aligned::zeros(capacity * width),
        }
    }

    /// Channels a head.
    pub fn head_dim(&self) -> usize {
        self.head_dim
    }

    /// Sets rows `first ..`. Inlined into a kernel, so that the loop over pairs becomes vectors.
    #[inline(always)]
    fn set(&mut self, first: usize, times: &[f64]) {
        let rows = first * self.width..(first + times.len()) * self.width;
        let cos = self.cos.as_mut_slice()[rows.clone()].chunks_exact_mut(self.width.max(1));
        let sin = self.sin.as_mut_slice()[rows].chunks_exact_mut(self.width.max(1));
        for ((&time, cos), sin) in times.iter().zip(cos).zip(sin) {
            let pairs = cos.as_chunks_mut::<2>().0.iter_mut().zip(sin.as_chunks_mut::<2>().0);
            for (&omega, (cos, sin)) in self.omega.iter().zip(pairs) {
                let turns = f64::from(time as f32 * omega) * (1.0 / std::f64::consts::TAU);
                let (s, c) = (sin_turns(turns) as f32, sin_turns(turns + 0.25) as f32);
                *cos = [c, c];
                *sin = [-s, s];
            }
        }
    }

    /// Angles of time `row`.
    pub fn angles(&self, row: usize) -> Angles {
        assert!(self.width == 0 || (row + 1) * self.width <= self.cos.len());
        // SAFETY: the row lies within both tables.
        unsafe {
            Angles {
                cos: self.cos.as_ptr().add(row * self.width),
                sin: self.sin.as_ptr().add(row * self.width),
                width: self.width,
            }
        }
    }
}

/// Angles of one time.
#[derive(Clone, Copy)]
pub struct Angles {
    cos: *const f32,
    sin: *const f32,
    width: usize,
}

// SAFETY: the pointers are read only, into a rotation that is borrowed for as long as an operation runs.
unsafe impl Send for Angles {}
// SAFETY: as above.
unsafe impl Sync for Angles {}

/// Turns `channels` of `x` into `out`, backwards with `BACK`. `out` may be `x`.
///
/// # Safety
/// `V`'s instruction set is there, `channels` elements are readable at `x` and writable at `out`.
#[inline(always)]
pub unsafe fn turn<V: Vector, const BACK: bool>(x: *const f32, channels: usize, angles: Option<Angles>, out: *mut f32) {
    for c in (0..channels).step_by(V::LANES) {
        let lanes = (channels - c).min(V::LANES);
        // SAFETY: as the caller's; angles are kept for a whole number of vectors.
        unsafe {
            let mut y = if lanes == V::LANES {
                V::load(x.add(c))
            } else {
                V::load_first(x.add(c), lanes)
            };
            if let Some(angles) = angles.filter(|angles| c < angles.width) {
                let (cos, sin) = (V::load(angles.cos.add(c)), V::load(angles.sin.add(c)));
                let crossed = y.swap_pairs().mul(sin);
                y = if BACK {
                    y.mul(cos).sub(crossed)
                } else {
                    y.fma(cos, crossed)
                };
            }
            if lanes == V::LANES {
                y.store(out.add(c));
            } else {
                y.store_first(out.add(c), lanes);
            }
        }
    }
}

/// Turns every head of rows in place.
pub struct RotateJob<'a> {
    /// The angles.
    pub rotation: &'a CpuRotation,
    /// Angle row of the first row.
    pub first: usize,
    /// First row.
    pub x: *mut f32,
    /// Distance of rows.
    pub stride: usize,
    /// Rows.
    pub rows: usize,
    /// Heads a row.
    pub heads: usize,
    /// Channels a head.
    pub head_dim: usize,
    /// By the opposite angles.
    pub back: bool,
}

impl Kernel for RotateJob<'_> {
    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        for row in 0..self.rows {
            let angles = self.rotation.angles(self.first + row);
            for head in 0..self.heads {
                // SAFETY: the job's rows and heads are valid and nobody else's.
                unsafe {
                    let x = self.x.add(row * self.stride + head * self.head_dim);
                    if self.back {
                        turn::<V, true>(x, self.head_dim, Some(angles), x);
                    } else {
                        turn::<V, false>(x, self.head_dim, Some(angles), x);
                    }
                }
            }
        }
    }
}

/// Sets rows of angles; as a kernel, so that the loops are compiled for the instruction set.
pub struct SetRotation<'a> {
    /// What is set.
    pub rotation: &'a mut CpuRotation,
    /// First row.
    pub first: usize,
    /// Times, seconds.
    pub times: &'a [f64],
}

impl Kernel for SetRotation<'_> {
    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        self.rotation.set(self.first, self.times);
    }
}
