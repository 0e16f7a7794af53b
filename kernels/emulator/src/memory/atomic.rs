//! What atomic instructions make of an old value and an operand.

use crate::op::Combine;
use crate::ptx::tree::Type;

fn single(a: u64) -> f32 {
    f32::from_bits(a as u32)
}

/// Subnormal values are zeros of their sign.
fn flush(x: f32) -> f32 {
    if x.is_subnormal() {
        0.0f32.copysign(x)
    } else {
        x
    }
}

/// The function of an atomic instruction. Sums of 32-bit floats in global memory flush subnormal values.
pub fn combine(name: &str, kind: Type, global: bool) -> Option<Combine> {
    Some(match (name, kind) {
        ("add", Type::U(32) | Type::S(32)) => |a, b| u64::from((a as u32).wrapping_add(b as u32)),
        ("add", Type::U(64)) => |a, b| a.wrapping_add(b),
        ("add", Type::F(32)) if global => |a, b| u64::from(flush(flush(single(a)) + flush(single(b))).to_bits()),
        ("add", Type::F(32)) => |a, b| u64::from((single(a) + single(b)).to_bits()),
        ("add", Type::F(64)) => |a, b| (f64::from_bits(a) + f64::from_bits(b)).to_bits(),
        ("min", Type::U(32 | 64)) => |a, b| a.min(b),
        ("max", Type::U(32 | 64)) => |a, b| a.max(b),
        ("min", Type::S(32)) => |a, b| if (a as i32) < b as i32 { a } else { b },
        ("max", Type::S(32)) => |a, b| if a as i32 > b as i32 { a } else { b },
        ("min", Type::S(64)) => |a, b| if (a as i64) < b as i64 { a } else { b },
        ("max", Type::S(64)) => |a, b| if a as i64 > b as i64 { a } else { b },
        ("and", Type::B(32 | 64)) => |a, b| a & b,
        ("or", Type::B(32 | 64)) => |a, b| a | b,
        ("xor", Type::B(32 | 64)) => |a, b| a ^ b,
        ("exch", Type::B(32 | 64)) => |_, b| b,
        ("inc", Type::U(32)) => |a, b| if a >= b { 0 } else { a + 1 },
        ("dec", Type::U(32)) => |a, b| if a == 0 || a > b { b } else { a - 1 },
        _ => return None,
    })
}
