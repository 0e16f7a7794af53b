//! 16-bit floats of both formats, alone and in pairs. Everything is computed in 64 bits and rounded once.

use super::round::{add_odd, Format, Mode, BRAIN, HALF};
use super::{lanes, test, Word1, Word2, Word3, WordTest};

/// A format that is known when the function is compiled.
trait Kind {
    const FORMAT: Format;
    fn value(bits: u32) -> f64;
}
struct Half;
struct Brain;

impl Kind for Half {
    const FORMAT: Format = HALF;
    fn value(bits: u32) -> f64 {
        f64::from(half_to_single(bits))
    }
}
impl Kind for Brain {
    const FORMAT: Format = BRAIN;
    fn value(bits: u32) -> f64 {
        f64::from(f32::from_bits(bits << 16))
    }
}

/// The value of a 16-bit float.
#[inline(always)]
pub fn half_to_single(bits: u32) -> f32 {
    let magnitude = f32::from_bits((bits & 0x7fff) << 13) * f32::from_bits(0x7780_0000);
    let special = if bits & 0x7c00 == 0x7c00 { 0x7f80_0000 } else { 0 };
    f32::from_bits(magnitude.to_bits() | special | (bits & 0x8000) << 16)
}

/// The 16-bit float nearest to a 32-bit one.
#[inline(always)]
pub fn single_to_half(x: f32) -> u32 {
    if x.is_nan() {
        0x7fff
    } else {
        u32::from(half::f16::from_f32(x).to_bits())
    }
}

/// The float of 8 bits of significand nearest to a 32-bit one.
#[inline(always)]
pub fn single_to_brain(x: f32) -> u32 {
    if x.is_nan() {
        0x7fff
    } else {
        let bits = x.to_bits();
        (bits + 0x7fff + (bits >> 16 & 1)) >> 16
    }
}

fn rounded<K: Kind>(x: f64) -> u32 {
    K::FORMAT.round(x, Mode::Nearest) as u32
}

fn add<K: Kind>(a: u32, b: u32) -> u32 {
    rounded::<K>(add_odd(K::value(a), K::value(b)))
}
fn sub<K: Kind>(a: u32, b: u32) -> u32 {
    rounded::<K>(add_odd(K::value(a), -K::value(b)))
}
fn mul<K: Kind>(a: u32, b: u32) -> u32 {
    rounded::<K>(K::value(a) * K::value(b))
}
fn fused<K: Kind>(a: u32, b: u32, c: u32) -> u32 {
    rounded::<K>(add_odd(K::value(a) * K::value(b), K::value(c)))
}

/// The lesser or the greater of two. What is no number yields to what is one, unless `STRICT`.
fn pick<K: Kind, const GREATER: bool, const STRICT: bool>(a: u32, b: u32) -> u32 {
    let (x, y) = (K::value(a), K::value(b));
    match (x.is_nan(), y.is_nan()) {
        (true, true) => 0x7fff,
        (true, false) | (false, true) if STRICT => 0x7fff,
        (true, false) => b,
        (false, true) => a,
        _ if x == y && GREATER => a & b,
        _ if x == y => a | b,
        _ => {
            if (x > y) == GREATER {
                a
            } else {
                b
            }
        }
    }
}

/// A function of both halves.
macro_rules! both {
    (|$($x:ident),+| $body:expr) => {
        lanes!(|$($x),+| {
            let low = { $(let $x = $x & 0xffff;)+ $body };
            let high = { $(let $x = $x >> 16;)+ $body };
            low | high << 16
        })
    };
}

/// A function of one half or of both, of one format or the other.
macro_rules! kinds {
    ($brain:expr, $pair:expr, $f:ident :: <_ $(, $flag:literal)*>, |$($x:ident),+|) => {
        match ($brain, $pair) {
            (false, false) => lanes!(|$($x),+| $f::<Half $(, $flag)*>($($x),+)),
            (false, true) => both!(|$($x),+| $f::<Half $(, $flag)*>($($x),+)),
            (true, false) => lanes!(|$($x),+| $f::<Brain $(, $flag)*>($($x),+)),
            (true, true) => both!(|$($x),+| $f::<Brain $(, $flag)*>($($x),+)),
        }
    };
}

/// Functions of two.
pub fn two(name: &str, brain: bool, pair: bool) -> Option<Word2> {
    Some(match name {
        "add" => kinds!(brain, pair, add::<_>, |a, b|),
        "sub" => kinds!(brain, pair, sub::<_>, |a, b|),
        "mul" => kinds!(brain, pair, mul::<_>, |a, b|),
        "min" => kinds!(brain, pair, pick::<_, false, false>, |a, b|),
        "max" => kinds!(brain, pair, pick::<_, true, false>, |a, b|),
        "min.NaN" => kinds!(brain, pair, pick::<_, false, true>, |a, b|),
        "max.NaN" => kinds!(brain, pair, pick::<_, true, true>, |a, b|),
        _ => return None,
    })
}

/// `fma`.
pub fn fma(brain: bool, pair: bool) -> Word3 {
    kinds!(brain, pair, fused::<_>, |a, b, c|)
}

/// Functions of one, of either format.
pub fn one(name: &str, pair: bool) -> Option<Word1> {
    Some(match (name, pair) {
        ("neg", false) => lanes!(|a| a ^ 0x8000),
        ("neg", true) => lanes!(|a| a ^ 0x8000_8000),
        ("abs", false) => lanes!(|a| a & 0x7fff),
        ("abs", true) => lanes!(|a| a & 0x7fff_7fff),
        _ => return None,
    })
}

/// A comparison in either format.
macro_rules! compared {
    ($brain:expr, |$a:ident, $b:ident| $body:expr) => {
        if $brain {
            test!(|$a, $b| {
                let ($a, $b) = (Brain::value($a), Brain::value($b));
                $body
            })
        } else {
            test!(|$a, $b| {
                let ($a, $b) = (Half::value($a), Half::value($b));
                $body
            })
        }
    };
}

/// Comparisons.
#[allow(clippy::neg_cmp_op_on_partial_ord)] // What is no number is meant to make these true.
pub fn compare(name: &str, brain: bool) -> Option<WordTest> {
    Some(match name {
        "eq" => compared!(brain, |a, b| a == b),
        "ne" => compared!(brain, |a, b| (a < b) | (a > b)),
        "lt" => compared!(brain, |a, b| a < b),
        "le" => compared!(brain, |a, b| a <= b),
        "gt" => compared!(brain, |a, b| a > b),
        "ge" => compared!(brain, |a, b| a >= b),
        "equ" => compared!(brain, |a, b| !((a < b) | (a > b))),
        "neu" => compared!(brain, |a, b| a != b),
        "ltu" => compared!(brain, |a, b| !(a >= b)),
        "leu" => compared!(brain, |a, b| !(a > b)),
        "gtu" => compared!(brain, |a, b| !(a <= b)),
        "geu" => compared!(brain, |a, b| !(a < b)),
        "num" => compared!(brain, |a, b| !(a.is_nan() || b.is_nan())),
        "nan" => compared!(brain, |a, b| a.is_nan() || b.is_nan()),
        _ => return None,
    })
}
