//! Integers of 64 bits.

use super::integer::{field, insert};
use super::{lanes, test, Long1, Long2, Long3, LongTest, Longs, Words};

/// What a division by zero gives: unspecified.
const BY_ZERO: u64 = u64::MAX;

/// Functions of two integers.
pub fn two(name: &str, signed: bool) -> Option<Long2> {
    Some(match (name, signed) {
        ("add", _) => lanes!(|a, b| a.wrapping_add(b)),
        ("sub", _) => lanes!(|a, b| a.wrapping_sub(b)),
        ("mul.lo", _) => lanes!(|a, b| a.wrapping_mul(b)),
        ("mul.hi", false) => lanes!(|a, b| ((u128::from(a) * u128::from(b)) >> 64) as u64),
        ("mul.hi", true) => lanes!(|a, b| ((i128::from(a as i64) * i128::from(b as i64)) >> 64) as u64),
        ("div", false) => lanes!(|a, b| a.checked_div(b).unwrap_or(BY_ZERO)),
        ("div", true) => lanes!(|a, b| if b == 0 {
            BY_ZERO
        } else {
            (a as i64).wrapping_div(b as i64) as u64
        }),
        ("rem", false) => lanes!(|a, b| a.checked_rem(b).unwrap_or(BY_ZERO)),
        ("rem", true) => lanes!(|a, b| if b == 0 {
            BY_ZERO
        } else {
            (a as i64).wrapping_rem(b as i64) as u64
        }),
        ("min", false) => lanes!(|a, b| a.min(b)),
        ("min", true) => lanes!(|a, b| (a as i64).min(b as i64) as u64),
        ("max", false) => lanes!(|a, b| a.max(b)),
        ("max", true) => lanes!(|a, b| (a as i64).max(b as i64) as u64),
        ("and", _) => lanes!(|a, b| a & b),
        ("or", _) => lanes!(|a, b| a | b),
        ("xor", _) => lanes!(|a, b| a ^ b),
        _ => return None,
    })
}

/// Shifts by a word.
pub fn shift(name: &str, signed: bool) -> Option<fn(&Longs, &Words) -> Longs> {
    Some(match (name, signed) {
        ("shl", _) => lanes!(|a, b| if b > 63 { 0 } else { a << b }),
        ("shr", false) => lanes!(|a, b| if b > 63 { 0 } else { a >> b }),
        ("shr", true) => lanes!(|a, b| ((a as i64) >> b.min(63)) as u64),
        _ => return None,
    })
}

/// Functions of one integer.
pub fn one(name: &str) -> Option<Long1> {
    Some(match name {
        "neg" => lanes!(|a| a.wrapping_neg()),
        "abs" => lanes!(|a| (a as i64).wrapping_abs() as u64),
        "not" => lanes!(|a| !a),
        "cnot" => lanes!(|a| u64::from(a == 0)),
        "brev" => lanes!(|a| a.reverse_bits()),
        _ => return None,
    })
}

/// Counts of bits.
pub fn count(name: &str) -> Option<fn(&Longs) -> Words> {
    Some(match name {
        "popc" => lanes!(|a| a.count_ones()),
        "clz" => lanes!(|a| a.leading_zeros()),
        _ => return None,
    })
}

/// Functions of three integers.
pub fn three(name: &str, signed: bool) -> Option<Long3> {
    Some(match (name, signed) {
        ("mad.lo", _) => lanes!(|a, b, c| a.wrapping_mul(b).wrapping_add(c)),
        ("mad.hi", false) => lanes!(|a, b, c| (((u128::from(a) * u128::from(b)) >> 64) as u64).wrapping_add(c)),
        ("mad.hi", true) => {
            lanes!(|a, b, c| (((i128::from(a as i64) * i128::from(b as i64)) >> 64) as u64).wrapping_add(c))
        }
        _ => return None,
    })
}

/// `bfe`.
pub fn extract(signed: bool) -> fn(&Longs, &Words, &Words) -> Longs {
    if signed {
        lanes!(|a, b, c| field(a, b, c, 64, true))
    } else {
        lanes!(|a, b, c| field(a, b, c, 64, false))
    }
}

/// `bfi`.
pub const INSERT: fn(&Longs, &Longs, &Words, &Words) -> Longs = lanes!(|a, b, c, d| insert(a, b, c, d, 64));

/// Comparisons.
pub fn compare(name: &str, signed: bool) -> Option<LongTest> {
    Some(match (name, signed) {
        ("eq", _) => test!(|a, b| a == b),
        ("ne", _) => test!(|a, b| a != b),
        ("lt", true) => test!(|a, b| (a as i64) < b as i64),
        ("le", true) => test!(|a, b| a as i64 <= b as i64),
        ("gt", true) => test!(|a, b| a as i64 > b as i64),
        ("ge", true) => test!(|a, b| a as i64 >= b as i64),
        ("lt" | "lo", false) => test!(|a, b| a < b),
        ("le" | "ls", false) => test!(|a, b| a <= b),
        ("gt" | "hi", false) => test!(|a, b| a > b),
        ("ge" | "hs", false) => test!(|a, b| a >= b),
        _ => return None,
    })
}

/// The low word.
pub const LOW: fn(&Longs) -> Words = lanes!(|a| a as u32);
/// The high word.
pub const HIGH: fn(&Longs) -> Words = lanes!(|a| (a >> 32) as u32);
/// Two words, the first of them the lower.
pub const JOIN: fn(&Words, &Words) -> Longs = lanes!(|a, b| u64::from(a) | u64::from(b) << 32);
/// The low half of a word.
pub const LOW_HALF: super::Word1 = lanes!(|a| a & 0xffff);
/// The high half of a word.
pub const HIGH_HALF: super::Word1 = lanes!(|a| a >> 16);
/// Two halves, the first of them the lower.
pub const JOIN_HALVES: super::Word2 = lanes!(|a, b| a | b << 16);
/// A word as it is.
pub const SAME: super::Word1 = lanes!(|a| a);
/// A long as it is.
pub const SAME_LONG: Long1 = lanes!(|a| a);
