//! `cvt`: any type to any other, in any direction of rounding; the usual ones fast.

use super::half::{half_to_single, single_to_brain, single_to_half};
use super::round::{integral, Format, Mode, BRAIN, DOUBLE, HALF, SINGLE};
use super::{lanes, Longs, Word1, Word2, Words};
use crate::ptx::tree::Type;

/// One conversion.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conversion {
    /// Of what.
    pub from: Type,
    /// To what.
    pub to: Type,
    /// In which direction.
    pub mode: Mode,
    /// Whether a float becomes integral.
    pub integral: bool,
    /// Whether results are kept in the range of the type, or in [0, 1].
    pub sat: bool,
    /// Whether subnormal 32-bit floats are zeros.
    pub ftz: bool,
    /// Bits of the register of the result, for the sign.
    pub register: u32,
}

/// The format of a float type.
pub fn format(kind: Type) -> Option<Format> {
    Some(match kind {
        Type::F(16) => HALF,
        Type::Bf16 => BRAIN,
        Type::F(32) => SINGLE,
        Type::F(64) => DOUBLE,
        _ => return None,
    })
}

fn mask(bits: u32) -> u64 {
    u64::MAX >> (64 - bits)
}

/// What the low bits of a register mean as an integer.
fn integer(kind: Type, bits: u64) -> i128 {
    let width = kind.bits();
    let value = bits & mask(width);
    if kind.signed() && value >> (width - 1) == 1 {
        i128::from(value) - (1 << width)
    } else {
        i128::from(value)
    }
}

fn range(kind: Type) -> (i128, i128) {
    let width = kind.bits();
    if kind.signed() {
        (-(1 << (width - 1)), (1 << (width - 1)) - 1)
    } else {
        (0, (1 << width) - 1)
    }
}

impl Conversion {
    /// Converts the bits of one value.
    pub fn convert(&self, bits: u64) -> u64 {
        match (format(self.from), format(self.to)) {
            (None, None) => {
                let value = integer(self.from, bits);
                let (least, greatest) = range(self.to);
                self.place(if self.sat { value.clamp(least, greatest) } else { value })
            }
            (None, Some(to)) => {
                let value = integer(self.from, bits);
                let bits = to.encode(value < 0, value.unsigned_abs() as u64, 0, self.mode);
                self.saturate(to, bits)
            }
            (Some(from), None) => self.place(self.to_integer(from, bits)),
            (Some(from), Some(to)) => self.to_float(from, to, bits),
        }
    }

    /// The bits of an integer in its register.
    fn place(&self, value: i128) -> u64 {
        let bits = value as u64 & mask(self.to.bits());
        let value = integer(self.to, bits);
        value as u64 & mask(self.register.max(self.to.bits()))
    }

    fn flushed(&self, format: Format, bits: u64) -> u64 {
        let subnormal = bits & 0x7f80_0000 == 0;
        if self.ftz && format == SINGLE && subnormal {
            bits & 0x8000_0000
        } else {
            bits
        }
    }

    fn saturate(&self, format: Format, bits: u64) -> u64 {
        if !self.sat {
            return bits;
        }
        let value = format.value(bits);
        if value > 0.0 {
            format.round(value.min(1.0), Mode::Nearest)
        } else {
            0
        }
    }

    fn to_integer(self, from: Format, bits: u64) -> i128 {
        let value = from.value(self.flushed(from, bits));
        let (least, greatest) = range(self.to);
        if value.is_nan() {
            let width = self.to.bits();
            return if from == DOUBLE || width == 64 {
                1 << (width - 1)
            } else {
                0
            };
        }
        let value = integral(value, self.mode);
        if value <= least as f64 {
            least
        } else if value >= greatest as f64 {
            greatest
        } else {
            value as i128
        }
    }

    fn to_float(self, from: Format, to: Format, bits: u64) -> u64 {
        let bits = self.flushed(from, bits & mask(from.fraction + from.exponent + 1));
        let value = from.value(bits);
        if from == to && !self.integral {
            return self.flushed(to, self.saturate(to, bits));
        }
        let (value, mode) = if self.integral {
            (integral(value, self.mode), Mode::Nearest)
        } else {
            (value, self.mode)
        };
        let bits = self.saturate(to, to.round(value, mode));
        self.flushed(to, bits)
    }

    /// The same for all lanes, of words, for the usual conversions.
    pub fn words(&self) -> Option<Word1> {
        if self.sat || self.ftz {
            return None;
        }
        let nearest = self.mode == Mode::Nearest && !self.integral;
        Some(match (self.from, self.to) {
            (Type::U(32) | Type::S(32), Type::U(32) | Type::S(32)) => lanes!(|a| a),
            (Type::U(32), Type::F(32)) if nearest => lanes!(|a| (a as f32).to_bits()),
            (Type::S(32), Type::F(32)) if nearest => lanes!(|a| (a as i32 as f32).to_bits()),
            (Type::F(32), Type::S(32)) if self.mode == Mode::Zero => lanes!(|a| f32::from_bits(a) as i32 as u32),
            (Type::F(32), Type::U(32)) if self.mode == Mode::Zero => lanes!(|a| f32::from_bits(a) as u32),
            (Type::F(16), Type::F(32)) if !self.integral => lanes!(|a| half_to_single(a & 0xffff).to_bits()),
            (Type::F(32), Type::F(16)) if nearest => lanes!(|a| single_to_half(f32::from_bits(a))),
            (Type::F(32), Type::Bf16) if nearest => lanes!(|a| single_to_brain(f32::from_bits(a))),
            _ => return None,
        })
    }

    /// The same of words to longs.
    pub fn widen(&self) -> Option<fn(&Words) -> Longs> {
        if self.sat || self.ftz || self.integral {
            return None;
        }
        Some(match (self.from, self.to) {
            (Type::U(32), Type::U(64) | Type::S(64)) => lanes!(|a| u64::from(a)),
            (Type::S(32), Type::U(64) | Type::S(64)) => lanes!(|a| i64::from(a as i32) as u64),
            (Type::F(32), Type::F(64)) => lanes!(|a| f64::from(f32::from_bits(a)).to_bits()),
            (Type::U(32), Type::F(64)) => lanes!(|a| f64::from(a).to_bits()),
            _ => return None,
        })
    }

    /// The same of longs to words.
    pub fn narrow(&self) -> Option<fn(&Longs) -> Words> {
        if self.sat || self.ftz || self.integral {
            return None;
        }
        Some(match (self.from, self.to) {
            (Type::U(64) | Type::S(64), Type::U(32) | Type::S(32)) => lanes!(|a| a as u32),
            (Type::F(64), Type::F(32)) if self.mode == Mode::Nearest => {
                lanes!(|a| (f64::from_bits(a) as f32).to_bits())
            }
            _ => return None,
        })
    }
}

/// Two 32-bit floats to a pair of halves to the nearest, the first of them in the high half.
pub fn pair(brain: bool, relu: bool) -> Word2 {
    match (brain, relu) {
        (false, false) => lanes!(|a, b| single_to_half(f32::from_bits(a)) << 16 | single_to_half(f32::from_bits(b))),
        (true, false) => lanes!(|a, b| single_to_brain(f32::from_bits(a)) << 16 | single_to_brain(f32::from_bits(b))),
        (false, true) => lanes!(|a, b| single_to_half(positive(a)) << 16 | single_to_half(positive(b))),
        (true, true) => lanes!(|a, b| single_to_brain(positive(a)) << 16 | single_to_brain(positive(b))),
    }
}

/// A pair of halves towards zero.
pub fn pair_towards_zero(brain: bool) -> Word2 {
    if brain {
        lanes!(|a, b| towards_zero(BRAIN, a) << 16 | towards_zero(BRAIN, b))
    } else {
        lanes!(|a, b| towards_zero(HALF, a) << 16 | towards_zero(HALF, b))
    }
}

fn towards_zero(format: Format, bits: u32) -> u32 {
    format.round(f64::from(f32::from_bits(bits)), Mode::Zero) as u32
}

fn positive(bits: u32) -> f32 {
    let x = f32::from_bits(bits);
    if x < 0.0 {
        0.0
    } else {
        x
    }
}

/// `cvt.rna.tf32.f32`: 10 bits of fraction, ties away from zero. The bits below are zeros.
pub const TENSOR: Word1 = lanes!(|a| if f32::from_bits(a).is_finite() {
    a.wrapping_add(0x1000) & !0x1fff
} else {
    a
});
