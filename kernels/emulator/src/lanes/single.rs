//! 32-bit floats. `FTZ` flushes subnormal operands and results to zeros of their sign, `SAT` keeps results in [0, 1].

use super::round::add_odd;
use super::{lanes, test, Word1, Word2, Word3, WordTest, Words, LANES};

/// The bits of what is no number, as the hardware gives it.
const NAN: f32 = f32::from_bits(0x7fff_ffff);

/// Below this a float is subnormal or nearly so.
const SMALL: f64 = 2.0 * f32::MIN_POSITIVE as f64;

#[inline(always)]
fn flush<const FTZ: bool>(x: f32) -> f32 {
    if FTZ && x.abs() < f32::MIN_POSITIVE {
        f32::from_bits(x.to_bits() & 0x8000_0000)
    } else {
        x
    }
}

#[inline(always)]
fn read<const FTZ: bool>(bits: u32) -> f32 {
    flush::<FTZ>(f32::from_bits(bits))
}

#[inline(always)]
fn result<const FTZ: bool, const SAT: bool>(x: f32) -> u32 {
    let x = flush::<FTZ>(x);
    if SAT {
        if x > 0.0 {
            x.min(1.0).to_bits()
        } else {
            0
        }
    } else {
        x.to_bits()
    }
}

/// `a · b + c`, rounded once.
#[inline(always)]
pub fn fused(a: f32, b: f32, c: f32) -> f32 {
    add_odd(f64::from(a) * f64::from(b), f64::from(c)) as f32
}

fn least(a: f32, b: f32) -> f32 {
    match (a.is_nan(), b.is_nan()) {
        (true, true) => NAN,
        (true, false) => b,
        (false, true) => a,
        _ if a == b => f32::from_bits(a.to_bits() | b.to_bits()),
        _ => a.min(b),
    }
}

fn greatest(a: f32, b: f32) -> f32 {
    match (a.is_nan(), b.is_nan()) {
        (true, true) => NAN,
        (true, false) => b,
        (false, true) => a,
        _ if a == b => f32::from_bits(a.to_bits() & b.to_bits()),
        _ => a.max(b),
    }
}

fn no_number(a: f32, b: f32) -> bool {
    a.is_nan() || b.is_nan()
}

/// `div.approx`: large divisors give zeros.
fn approximate_quotient(a: f32, b: f32) -> f32 {
    let large = b.is_finite() && b.abs() > f32::from_bits(0x7e80_0000);
    match large {
        true if a.is_infinite() => NAN,
        true => 0.0f32.copysign(a) * 1.0f32.copysign(b),
        false => a / b,
    }
}

/// All four combinations of a function with `FTZ` and `SAT`.
macro_rules! variants {
    ($ftz:expr, $sat:expr, |$($x:ident),+| $body:expr) => {
        match ($ftz, $sat) {
            (false, false) => lanes!(|$($x),+| { $(let $x = read::<false>($x);)+ result::<false, false>($body) }),
            (true, false) => lanes!(|$($x),+| { $(let $x = read::<true>($x);)+ result::<true, false>($body) }),
            (false, true) => lanes!(|$($x),+| { $(let $x = read::<false>($x);)+ result::<false, true>($body) }),
            (true, true) => lanes!(|$($x),+| { $(let $x = read::<true>($x);)+ result::<true, true>($body) }),
        }
    };
}

/// Functions of two floats.
pub fn two(name: &str, ftz: bool, sat: bool) -> Option<Word2> {
    Some(match name {
        "add" => variants!(ftz, sat, |a, b| a + b),
        "sub" => variants!(ftz, sat, |a, b| a - b),
        "mul" => variants!(ftz, sat, |a, b| a * b),
        "div.rn" | "div.full" => variants!(ftz, sat, |a, b| a / b),
        "div.approx" => variants!(ftz, sat, |a, b| approximate_quotient(a, b)),
        "min" => variants!(ftz, sat, |a, b| least(a, b)),
        "max" => variants!(ftz, sat, |a, b| greatest(a, b)),
        "min.NaN" => variants!(ftz, sat, |a, b| if no_number(a, b) { NAN } else { least(a, b) }),
        "max.NaN" => variants!(ftz, sat, |a, b| if no_number(a, b) { NAN } else { greatest(a, b) }),
        "copysign" => lanes!(|a, b| (a & 0x8000_0000) | (b & 0x7fff_ffff)),
        _ => return None,
    })
}

/// `fma`.
pub fn fma(ftz: bool, sat: bool) -> Word3 {
    let exact: Word3 = variants!(ftz, sat, |a, b, c| fused(a, b, c));
    match (ftz, sat) {
        (false, false) => |a, b, c| fused_lanes::<false>(a, b, c),
        (true, false) => |a, b, c| fused_lanes::<true>(a, b, c),
        _ => exact,
    }
}

/// `fma` of all lanes. Rounding the 64-bit sum is right unless that lies between two floats or its float is subnormal.
#[inline(always)]
fn fused_lanes<const FTZ: bool>(a: &Words, b: &Words, c: &Words) -> Words {
    let mut out = [0; LANES];
    let mut doubtful = false;
    for (lane, out) in out.iter_mut().enumerate() {
        let (a, b, c) = (read::<FTZ>(a[lane]), read::<FTZ>(b[lane]), read::<FTZ>(c[lane]));
        let sum = f64::from(a) * f64::from(b) + f64::from(c);
        doubtful |= (sum.to_bits() & 0x1fff_ffff == 0x1000_0000) | ((sum.abs() < SMALL) & (sum != 0.0));
        *out = result::<FTZ, false>(sum as f32);
    }
    if doubtful {
        for (lane, out) in out.iter_mut().enumerate() {
            let (a, b, c) = (read::<FTZ>(a[lane]), read::<FTZ>(b[lane]), read::<FTZ>(c[lane]));
            *out = result::<FTZ, false>(fused(a, b, c));
        }
    }
    out
}

/// Functions of one float.
pub fn one(name: &str, ftz: bool) -> Option<Word1> {
    Some(match name {
        "neg" => variants!(ftz, false, |a| -a),
        "abs" => variants!(ftz, false, |a| a.abs()),
        "rcp" => variants!(ftz, false, |a| 1.0 / a),
        "sqrt" => variants!(ftz, false, |a| a.sqrt()),
        "rsqrt" => variants!(ftz, false, |a| inverse_root(a)),
        "ex2" => variants!(ftz, false, |a| f64::from(a).exp2() as f32),
        "lg2" => variants!(ftz, false, |a| f64::from(a).log2() as f32),
        "sin" => variants!(ftz, false, |a| f64::from(a).sin() as f32),
        "cos" => variants!(ftz, false, |a| f64::from(a).cos() as f32),
        "tanh" => variants!(ftz, false, |a| f64::from(a).tanh() as f32),
        _ => return None,
    })
}

fn inverse_root(a: f32) -> f32 {
    if a == 0.0 {
        f32::INFINITY.copysign(a)
    } else {
        (1.0 / f64::from(a).sqrt()) as f32
    }
}

/// A comparison with or without flushing.
macro_rules! compared {
    ($ftz:expr, |$a:ident, $b:ident| $body:expr) => {
        if $ftz {
            test!(|$a, $b| {
                let ($a, $b) = (read::<true>($a), read::<true>($b));
                $body
            })
        } else {
            test!(|$a, $b| {
                let ($a, $b) = (f32::from_bits($a), f32::from_bits($b));
                $body
            })
        }
    };
}

/// Comparisons.
#[allow(clippy::neg_cmp_op_on_partial_ord)] // What is no number is meant to make these true.
pub fn compare(name: &str, ftz: bool) -> Option<WordTest> {
    Some(match name {
        "eq" => compared!(ftz, |a, b| a == b),
        "ne" => compared!(ftz, |a, b| (a < b) | (a > b)),
        "lt" => compared!(ftz, |a, b| a < b),
        "le" => compared!(ftz, |a, b| a <= b),
        "gt" => compared!(ftz, |a, b| a > b),
        "ge" => compared!(ftz, |a, b| a >= b),
        "equ" => compared!(ftz, |a, b| !((a < b) | (a > b))),
        "neu" => compared!(ftz, |a, b| a != b),
        "ltu" => compared!(ftz, |a, b| !(a >= b)),
        "leu" => compared!(ftz, |a, b| !(a > b)),
        "gtu" => compared!(ftz, |a, b| !(a <= b)),
        "geu" => compared!(ftz, |a, b| !(a < b)),
        "num" => compared!(ftz, |a, b| !no_number(a, b)),
        "nan" => compared!(ftz, |a, b| no_number(a, b)),
        _ => return None,
    })
}

/// What `testp` asks of a float; the operand stands on both sides.
pub fn property(name: &str) -> Option<WordTest> {
    Some(match name {
        "finite" => compared!(false, |a, _b| a.is_finite()),
        "infinite" => compared!(false, |a, _b| a.is_infinite()),
        "number" => compared!(false, |a, _b| !a.is_nan()),
        "notanumber" => compared!(false, |a, _b| a.is_nan()),
        "normal" => compared!(false, |a, _b| a.is_normal()),
        "subnormal" => compared!(false, |a, _b| a.is_subnormal()),
        _ => return None,
    })
}
