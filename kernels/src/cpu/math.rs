//! Functions of vectors.

use super::vector::Vector;
use crate::backend::LAYER_NORM_EPSILON;

/// `exp(x)`, relative error below 2e-7: `2ⁿ · exp(r)`, `|r| ≤ ln 2 / 2`, a Taylor polynomial of degree 7. Below −87 the
/// result is that of −87 (1.6e-38), above 88 that of 88. NaN stays NaN.
///
/// # Safety
/// `V`'s instruction set is there.
#[inline(always)]
pub unsafe fn exp<V: Vector>(x: V) -> V {
    // SAFETY: as the caller's.
    unsafe {
        // `x` second, see `Vector::max`.
        let x = V::splat(88.0).min(V::splat(-87.0).max(x));
        let n = x.mul(V::splat(std::f32::consts::LOG2_E)).round();
        // ln 2 in two parts, the first with few enough digits that n times it is exact (Cody and Waite).
        let r = n.fma(V::splat(-0.693_359_4), x);
        let r = n.fma(V::splat(2.121_944_4e-4), r);
        let mut p = V::splat(1.0 / 5040.0);
        for coefficient in [1.0 / 720.0, 1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
            p = p.fma(r, V::splat(coefficient));
        }
        p.scale(n)
    }
}

/// `x Φ(x)`, Φ the standard normal distribution function, absolute error below 1e-6: the error function is formula 7.1.26
/// of Abramowitz and Stegun.
///
/// # Safety
/// `V`'s instruction set is there.
#[inline(always)]
pub unsafe fn gelu<V: Vector>(x: V) -> V {
    // SAFETY: as the caller's.
    unsafe { gelu_parts(x).0 }
}

/// `x Φ(x)` and its derivative `Φ(x) + x φ(x)`.
///
/// # Safety
/// `V`'s instruction set is there.
#[inline(always)]
pub unsafe fn gelu_and_slope<V: Vector>(x: V) -> (V, V) {
    // SAFETY: as the caller's.
    unsafe {
        let (gelu, distribution, bell) = gelu_parts(x);
        let root = V::splat(0.398_942_3);
        (gelu, x.mul(bell).fma(root, distribution))
    }
}

/// `x Φ(x)`, `Φ(x)` and `exp(−x²/2)`.
///
/// # Safety
/// `V`'s instruction set is there.
#[inline(always)]
unsafe fn gelu_parts<V: Vector>(x: V) -> (V, V, V) {
    // SAFETY: as the caller's.
    unsafe {
        let z = x.abs().mul(V::splat(std::f32::consts::FRAC_1_SQRT_2));
        let one = V::splat(1.0);
        let t = one.div(z.fma(V::splat(0.327_591_1), one));
        let mut p = V::splat(1.061_405_4);
        for coefficient in [-1.453_152, 1.421_413_7, -0.284_496_74, 0.254_829_6] {
            p = p.fma(t, V::splat(coefficient));
        }
        let minus_z = V::splat(0.0).sub(z);
        let bell = exp(minus_z.mul(z));
        let tail = p.mul(t).mul(bell);
        let erf = one.sub(tail).with_sign(x);
        let half = V::splat(0.5);
        (x.mul(half).mul(one.add(erf)), half.mul(one.add(erf)), bell)
    }
}

/// LayerNorm of one row.
///
/// # Safety
/// `V`'s instruction set is there; `n` elements are readable at `x`, `gain` and `bias` and writable at `out`.
#[inline(always)]
pub unsafe fn layer_norm<V: Vector>(x: *const f32, n: usize, gain: *const f32, bias: *const f32, out: *mut f32) {
    // SAFETY: as the caller's.
    unsafe {
        let whole = n / V::LANES * V::LANES;
        let rest = n - whole;
        let mut sum = V::splat(0.0);
        for i in (0..whole).step_by(V::LANES) {
            sum = sum.add(V::load(x.add(i)));
        }
        let mut total = sum.sum();
        for i in whole..n {
            total += *x.add(i);
        }
        let mean = total / n as f32;
        let mean_v = V::splat(mean);
        let mut squares = V::splat(0.0);
        for i in (0..whole).step_by(V::LANES) {
            let d = V::load(x.add(i)).sub(mean_v);
            squares = d.fma(d, squares);
        }
        let mut variance = squares.sum();
        for i in whole..n {
            variance += (*x.add(i) - mean).powi(2);
        }
        let scale = V::splat(1.0 / (variance / n as f32 + LAYER_NORM_EPSILON).sqrt());
        for i in (0..whole).step_by(V::LANES) {
            let y = V::load(x.add(i)).sub(mean_v).mul(scale);
            y.fma(V::load(gain.add(i)), V::load(bias.add(i))).store(out.add(i));
        }
        if rest > 0 {
            let y = V::load_first(x.add(whole), rest).sub(mean_v).mul(scale);
            let (gain, bias) = (
                V::load_first(gain.add(whole), rest),
                V::load_first(bias.add(whole), rest),
            );
            y.fma(gain, bias).store_first(out.add(whole), rest);
        }
    }
}

/// `sin(2π r)` of turns, absolute error below 1e-8; `r` in FP64, so that thousands of turns lose nothing.
#[inline(always)]
pub fn sin_turns(r: f64) -> f64 {
    let r = r - r.round_ties_even();
    let a = r.abs();
    let x = a.min(0.5 - a) * std::f64::consts::TAU;
    let x2 = x * x;
    // Taylor series; |x| ≤ π/2.
    let mut p = 1.0 / 6_227_020_800.0;
    for coefficient in [
        -1.0 / 39_916_800.0,
        1.0 / 362_880.0,
        -1.0 / 5040.0,
        1.0 / 120.0,
        -1.0 / 6.0,
        1.0,
    ] {
        p = p * x2 + coefficient;
    }
    (x * p).copysign(r)
}
