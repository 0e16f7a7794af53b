//! Integers of 32 and of 16 bits.

use super::{lanes, test, Longs, Word1, Word2, Word3, WordTest, Words};

/// What a division by zero gives: unspecified, and this on the hardware known.
const BY_ZERO: u32 = u32::MAX;

fn signed_quotient(a: i32, b: i32) -> u32 {
    if b == 0 {
        BY_ZERO
    } else {
        a.wrapping_div(b) as u32
    }
}

fn signed_remainder(a: i32, b: i32) -> u32 {
    if b == 0 {
        BY_ZERO
    } else {
        a.wrapping_rem(b) as u32
    }
}

fn short(a: u32) -> i32 {
    i32::from(a as i16)
}

/// Functions of two 32-bit integers. Those that do not know signs have one name for both.
pub fn two(name: &str, signed: bool) -> Option<Word2> {
    Some(match (name, signed) {
        ("add", _) => lanes!(|a, b| a.wrapping_add(b)),
        ("sub", _) => lanes!(|a, b| a.wrapping_sub(b)),
        ("mul.lo", _) => lanes!(|a, b| a.wrapping_mul(b)),
        ("mul.hi", false) => lanes!(|a, b| ((u64::from(a) * u64::from(b)) >> 32) as u32),
        ("mul.hi", true) => lanes!(|a, b| ((i64::from(a as i32) * i64::from(b as i32)) >> 32) as u32),
        ("div", false) => lanes!(|a, b| a.checked_div(b).unwrap_or(BY_ZERO)),
        ("div", true) => lanes!(|a, b| signed_quotient(a as i32, b as i32)),
        ("rem", false) => lanes!(|a, b| a.checked_rem(b).unwrap_or(BY_ZERO)),
        ("rem", true) => lanes!(|a, b| signed_remainder(a as i32, b as i32)),
        ("min", false) => lanes!(|a, b| a.min(b)),
        ("min", true) => lanes!(|a, b| (a as i32).min(b as i32) as u32),
        ("max", false) => lanes!(|a, b| a.max(b)),
        ("max", true) => lanes!(|a, b| (a as i32).max(b as i32) as u32),
        ("and", _) => lanes!(|a, b| a & b),
        ("or", _) => lanes!(|a, b| a | b),
        ("xor", _) => lanes!(|a, b| a ^ b),
        ("shl", _) => lanes!(|a, b| if b > 31 { 0 } else { a << b }),
        ("shr", false) => lanes!(|a, b| if b > 31 { 0 } else { a >> b }),
        ("shr", true) => lanes!(|a, b| ((a as i32) >> b.min(31)) as u32),
        _ => return None,
    })
}

/// Functions of two 16-bit integers.
pub fn two_short(name: &str, signed: bool) -> Option<Word2> {
    Some(match (name, signed) {
        ("add", _) => lanes!(|a, b| a.wrapping_add(b) & 0xffff),
        ("sub", _) => lanes!(|a, b| a.wrapping_sub(b) & 0xffff),
        ("mul.lo", _) => lanes!(|a, b| a.wrapping_mul(b) & 0xffff),
        ("mul.hi", false) => lanes!(|a, b| a.wrapping_mul(b) >> 16),
        ("mul.hi", true) => lanes!(|a, b| (short(a).wrapping_mul(short(b)) as u32) >> 16),
        ("div", false) => lanes!(|a, b| a.checked_div(b).unwrap_or(0xffff)),
        ("div", true) => lanes!(|a, b| signed_quotient(short(a), short(b)) & 0xffff),
        ("rem", false) => lanes!(|a, b| a.checked_rem(b).unwrap_or(0xffff)),
        ("rem", true) => lanes!(|a, b| signed_remainder(short(a), short(b)) & 0xffff),
        ("min", true) => lanes!(|a, b| short(a).min(short(b)) as u32 & 0xffff),
        ("max", true) => lanes!(|a, b| short(a).max(short(b)) as u32 & 0xffff),
        ("min" | "max" | "and" | "or" | "xor", _) => return two(name, false),
        ("shl", _) => lanes!(|a, b| if b > 15 { 0 } else { (a << b) & 0xffff }),
        ("shr", false) => lanes!(|a, b| if b > 15 { 0 } else { a >> b }),
        ("shr", true) => lanes!(|a, b| (short(a) >> b.min(15)) as u32 & 0xffff),
        _ => return None,
    })
}

/// Products of 16-bit integers, 32 bits wide.
pub fn wide_short(signed: bool) -> Word2 {
    if signed {
        lanes!(|a, b| short(a).wrapping_mul(short(b)) as u32)
    } else {
        lanes!(|a, b| a.wrapping_mul(b))
    }
}

/// Products of 16-bit integers, 32 bits wide, and a sum.
pub fn wide_add_short(signed: bool) -> Word3 {
    if signed {
        lanes!(|a, b, c| (short(a).wrapping_mul(short(b)) as u32).wrapping_add(c))
    } else {
        lanes!(|a, b, c| a.wrapping_mul(b).wrapping_add(c))
    }
}

/// Products of 32-bit integers, 64 bits wide.
pub fn wide(signed: bool) -> fn(&Words, &Words) -> Longs {
    if signed {
        lanes!(|a, b| (i64::from(a as i32) * i64::from(b as i32)) as u64)
    } else {
        lanes!(|a, b| u64::from(a) * u64::from(b))
    }
}

/// Products of 32-bit integers, 64 bits wide, and a sum.
pub fn wide_add(signed: bool) -> fn(&Words, &Words, &Longs) -> Longs {
    if signed {
        lanes!(|a, b, c| ((i64::from(a as i32) * i64::from(b as i32)) as u64).wrapping_add(c))
    } else {
        lanes!(|a, b, c| (u64::from(a) * u64::from(b)).wrapping_add(c))
    }
}

/// Functions of one 32-bit integer.
pub fn one(name: &str) -> Option<Word1> {
    Some(match name {
        "neg" => lanes!(|a| a.wrapping_neg()),
        "abs" => lanes!(|a| (a as i32).wrapping_abs() as u32),
        "not" => lanes!(|a| !a),
        "cnot" => lanes!(|a| u32::from(a == 0)),
        "popc" => lanes!(|a| a.count_ones()),
        "clz" => lanes!(|a| a.leading_zeros()),
        "brev" => lanes!(|a| a.reverse_bits()),
        _ => return None,
    })
}

/// Functions of one 16-bit integer.
pub fn one_short(name: &str) -> Option<Word1> {
    Some(match name {
        "neg" => lanes!(|a| a.wrapping_neg() & 0xffff),
        "abs" => lanes!(|a| short(a).wrapping_abs() as u32 & 0xffff),
        "not" => lanes!(|a| !a & 0xffff),
        "cnot" => lanes!(|a| u32::from(a == 0)),
        _ => return None,
    })
}

/// Functions of three 32-bit integers.
pub fn three(name: &str, signed: bool) -> Option<Word3> {
    Some(match (name, signed) {
        ("mad.lo", _) => lanes!(|a, b, c| a.wrapping_mul(b).wrapping_add(c)),
        ("mad.hi", false) => lanes!(|a, b, c| (((u64::from(a) * u64::from(b)) >> 32) as u32).wrapping_add(c)),
        ("mad.hi", true) => {
            lanes!(|a, b, c| (((i64::from(a as i32) * i64::from(b as i32)) >> 32) as u32).wrapping_add(c))
        }
        ("bfe", signed) => {
            if signed {
                lanes!(|a, b, c| field(u64::from(a), b, c, 32, true) as u32)
            } else {
                lanes!(|a, b, c| field(u64::from(a), b, c, 32, false) as u32)
            }
        }
        ("prmt", _) => lanes!(|a, b, c| permute(a, b, c)),
        ("shf.l.wrap", _) => lanes!(|a, b, c| funnel(a, b, 32 - (c & 31))),
        ("shf.l.clamp", _) => lanes!(|a, b, c| funnel(a, b, 32 - c.min(32))),
        ("shf.r.wrap", _) => lanes!(|a, b, c| funnel(a, b, c & 31)),
        ("shf.r.clamp", _) => lanes!(|a, b, c| funnel(a, b, c.min(32))),
        _ => return None,
    })
}

/// `mad.lo` of 16-bit integers.
pub const MAD_SHORT: Word3 = lanes!(|a, b, c| a.wrapping_mul(b).wrapping_add(c) & 0xffff);

/// `bfi`: the field, where it goes, its place and its length.
pub const INSERT: fn(&Words, &Words, &Words, &Words) -> Words =
    lanes!(|a, b, c, d| insert(u64::from(a), u64::from(b), c, d, 32) as u32);

/// `lop3`: three words, and the function's table.
pub const LOOKUP: fn(&Words, &Words, &Words, &Words) -> Words = |a, b, c, d| {
    let mut out = [0; super::LANES];
    for (index, inputs) in [
        (!0, !0, !0),
        (!0, !0, 0),
        (!0, 0, !0),
        (!0, 0, 0),
        (0, !0, !0),
        (0, !0, 0),
        (0, 0, !0),
        (0, 0, 0),
    ]
    .into_iter()
    .enumerate()
    {
        let (na, nb, nc): (u32, u32, u32) = inputs;
        if d[0] >> index & 1 == 1 {
            for (lane, out) in out.iter_mut().enumerate() {
                *out |= (a[lane] ^ na) & (b[lane] ^ nb) & (c[lane] ^ nc);
            }
        }
    }
    out
};

/// Comparisons of 32-bit integers, and of 16-bit ones without signs.
pub fn compare(name: &str, signed: bool) -> Option<WordTest> {
    Some(match (name, signed) {
        ("eq", _) => test!(|a, b| a == b),
        ("ne", _) => test!(|a, b| a != b),
        ("lt", true) => test!(|a, b| (a as i32) < b as i32),
        ("le", true) => test!(|a, b| a as i32 <= b as i32),
        ("gt", true) => test!(|a, b| a as i32 > b as i32),
        ("ge", true) => test!(|a, b| a as i32 >= b as i32),
        ("lt" | "lo", false) => test!(|a, b| a < b),
        ("le" | "ls", false) => test!(|a, b| a <= b),
        ("gt" | "hi", false) => test!(|a, b| a > b),
        ("ge" | "hs", false) => test!(|a, b| a >= b),
        _ => return None,
    })
}

/// Comparisons of 16-bit integers with signs.
pub fn compare_short(name: &str) -> Option<WordTest> {
    Some(match name {
        "eq" => test!(|a, b| a == b),
        "ne" => test!(|a, b| a != b),
        "lt" => test!(|a, b| short(a) < short(b)),
        "le" => test!(|a, b| short(a) <= short(b)),
        "gt" => test!(|a, b| short(a) > short(b)),
        "ge" => test!(|a, b| short(a) >= short(b)),
        _ => return None,
    })
}

/// `bfe` of an integer of `bits` bits: place and length are the low bytes of `b` and `c`.
pub(super) fn field(a: u64, b: u32, c: u32, bits: u32, signed: bool) -> u64 {
    let (place, length) = (b & 0xff, c & 0xff);
    let present = length.min(bits.saturating_sub(place));
    let taken = if present == 0 {
        0
    } else {
        (a >> place) & (u64::MAX >> (64 - present))
    };
    let last = (place + length).saturating_sub(1).min(bits - 1);
    if signed && length > 0 && a >> last & 1 == 1 && present < 64 {
        taken | u64::MAX << present
    } else {
        taken
    }
}

/// `bfi` into an integer of `bits` bits.
pub(super) fn insert(a: u64, b: u64, c: u32, d: u32, bits: u32) -> u64 {
    let (place, length) = (c & 0xff, d & 0xff);
    let present = length.min(bits.saturating_sub(place));
    if present == 0 {
        return b;
    }
    let mask = (u64::MAX >> (64 - present)) << place;
    (b & !mask) | ((a << place) & mask)
}

fn permute(a: u32, b: u32, selector: u32) -> u32 {
    let bytes = u64::from(a) | u64::from(b) << 32;
    (0..4).fold(0, |out, i| {
        let choice = selector >> (4 * i);
        let byte = (bytes >> (8 * (choice & 7))) as u8;
        let byte = if choice & 8 != 0 {
            ((byte as i8) >> 7) as u8
        } else {
            byte
        };
        out | u32::from(byte) << (8 * i)
    })
}

/// The word that begins at bit `shift` of two, the first of them the lower.
fn funnel(low: u32, high: u32, shift: u32) -> u32 {
    ((u64::from(low) | u64::from(high) << 32) >> shift) as u32
}
