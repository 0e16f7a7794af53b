//! 64-bit floats.

use super::{lanes, test, Long1, Long2, Long3, LongTest};

const NAN: f64 = f64::from_bits(0x7fff_ffff_ffff_ffff);

/// A function of floats.
macro_rules! floats {
    (|$($x:ident),+| $body:expr) => {
        lanes!(|$($x),+| {
            $(let $x = f64::from_bits($x);)+
            f64::to_bits($body)
        })
    };
}

fn least(a: f64, b: f64) -> f64 {
    match (a.is_nan(), b.is_nan()) {
        (true, true) => NAN,
        (true, false) => b,
        (false, true) => a,
        _ if a == b => f64::from_bits(a.to_bits() | b.to_bits()),
        _ => a.min(b),
    }
}

fn greatest(a: f64, b: f64) -> f64 {
    match (a.is_nan(), b.is_nan()) {
        (true, true) => NAN,
        (true, false) => b,
        (false, true) => a,
        _ if a == b => f64::from_bits(a.to_bits() & b.to_bits()),
        _ => a.max(b),
    }
}

/// Functions of two floats.
pub fn two(name: &str) -> Option<Long2> {
    Some(match name {
        "add" => floats!(|a, b| a + b),
        "sub" => floats!(|a, b| a - b),
        "mul" => floats!(|a, b| a * b),
        "div" => floats!(|a, b| a / b),
        "min" => floats!(|a, b| least(a, b)),
        "max" => floats!(|a, b| greatest(a, b)),
        "copysign" => lanes!(|a, b| (a & 1 << 63) | (b & !(1 << 63))),
        _ => return None,
    })
}

/// `fma`.
pub const FMA: Long3 = floats!(|a, b, c| a.mul_add(b, c));

/// Functions of one float.
pub fn one(name: &str) -> Option<Long1> {
    Some(match name {
        "neg" => floats!(|a| -a),
        "abs" => floats!(|a| a.abs()),
        "sqrt" => floats!(|a| a.sqrt()),
        "rcp" => floats!(|a| 1.0 / a),
        _ => return None,
    })
}

/// A comparison of floats.
macro_rules! compared {
    (|$a:ident, $b:ident| $body:expr) => {
        test!(|$a, $b| {
            let ($a, $b) = (f64::from_bits($a), f64::from_bits($b));
            $body
        })
    };
}

/// Comparisons.
#[allow(clippy::neg_cmp_op_on_partial_ord)] // What is no number is meant to make these true.
pub fn compare(name: &str) -> Option<LongTest> {
    Some(match name {
        "eq" => compared!(|a, b| a == b),
        "ne" => compared!(|a, b| (a < b) | (a > b)),
        "lt" => compared!(|a, b| a < b),
        "le" => compared!(|a, b| a <= b),
        "gt" => compared!(|a, b| a > b),
        "ge" => compared!(|a, b| a >= b),
        "equ" => compared!(|a, b| !((a < b) | (a > b))),
        "neu" => compared!(|a, b| a != b),
        "ltu" => compared!(|a, b| !(a >= b)),
        "leu" => compared!(|a, b| !(a > b)),
        "gtu" => compared!(|a, b| !(a <= b)),
        "geu" => compared!(|a, b| !(a < b)),
        "num" => compared!(|a, b| !(a.is_nan() || b.is_nan())),
        "nan" => compared!(|a, b| a.is_nan() || b.is_nan()),
        _ => return None,
    })
}

/// What `testp` asks of a float; the operand stands on both sides.
pub fn property(name: &str) -> Option<LongTest> {
    Some(match name {
        "finite" => compared!(|a, _b| a.is_finite()),
        "infinite" => compared!(|a, _b| a.is_infinite()),
        "number" => compared!(|a, _b| !a.is_nan()),
        "notanumber" => compared!(|a, _b| a.is_nan()),
        "normal" => compared!(|a, _b| a.is_normal()),
        "subnormal" => compared!(|a, _b| a.is_subnormal()),
        _ => return None,
    })
}
