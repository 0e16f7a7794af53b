//! Rounding to any float format, in any direction.

/// In which direction an inexact value goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// To the nearest, to the even one of two.
    Nearest,
    /// Towards zero.
    Zero,
    /// Down.
    Down,
    /// Up.
    Up,
}

/// Where the bits of a float are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Format {
    /// Bits of the fraction.
    pub fraction: u32,
    /// Bits of the exponent.
    pub exponent: u32,
}

/// 16-bit floats.
pub const HALF: Format = Format {
    fraction: 10,
    exponent: 5,
};
/// 16-bit floats with the exponents of 32-bit ones.
pub const BRAIN: Format = Format {
    fraction: 7,
    exponent: 8,
};
/// 32-bit floats.
pub const SINGLE: Format = Format {
    fraction: 23,
    exponent: 8,
};
/// 64-bit floats.
pub const DOUBLE: Format = Format {
    fraction: 52,
    exponent: 11,
};

impl Format {
    fn infinity(self) -> u64 {
        ((1 << self.exponent) - 1) << self.fraction
    }

    fn sign(self) -> u64 {
        1 << (self.fraction + self.exponent)
    }

    /// The bits of what is no number, as conversions give it.
    pub fn nan(self) -> u64 {
        if self == DOUBLE {
            0x7ff8_0000_0000_0000
        } else {
            self.sign() - 1
        }
    }

    /// The bits of `±significand · 2^exponent`, rounded.
    pub fn encode(self, negative: bool, significand: u64, exponent: i32, mode: Mode) -> u64 {
        let sign = if negative { self.sign() } else { 0 };
        if significand == 0 {
            return sign;
        }
        let bias = (1i32 << (self.exponent - 1)) - 1;
        // The exponent of the leading bit, and of the last bit that is kept.
        let leading = exponent + 63 - significand.leading_zeros() as i32;
        let kept = leading.max(1 - bias);
        let drop = kept - self.fraction as i32 - exponent;
        let quotient = if drop <= 0 {
            significand << -drop
        } else {
            let whole = if drop > 63 { 0 } else { significand >> drop };
            let rest = if drop > 63 {
                significand
            } else {
                significand & ((1 << drop) - 1)
            };
            let half = if drop > 64 { None } else { Some(1u64 << (drop - 1)) };
            let up = match mode {
                Mode::Nearest => half.is_some_and(|half| rest > half || (rest == half && whole & 1 == 1)),
                Mode::Zero => false,
                Mode::Down => negative && rest > 0,
                Mode::Up => !negative && rest > 0,
            };
            whole + u64::from(up)
        };
        // The leading bit of a normal number adds one to the exponent.
        let bits = (((kept + bias - 1) as u128) << self.fraction) + u128::from(quotient);
        if bits < u128::from(self.infinity()) {
            return sign | bits as u64;
        }
        let beyond = match mode {
            Mode::Nearest => true,
            Mode::Zero => false,
            Mode::Down => negative,
            Mode::Up => !negative,
        };
        sign | (self.infinity() - u64::from(!beyond))
    }

    /// The bits of `x`, rounded.
    pub fn round(self, x: f64, mode: Mode) -> u64 {
        if x.is_nan() {
            return self.nan();
        }
        let sign = if x.is_sign_negative() { self.sign() } else { 0 };
        if x.is_infinite() {
            return sign | self.infinity();
        }
        let bits = x.to_bits();
        let field = (bits >> 52 & 0x7ff) as i32;
        let fraction = bits & ((1 << 52) - 1);
        let significand = if field == 0 { fraction } else { fraction | 1 << 52 };
        self.encode(x.is_sign_negative(), significand, field.max(1) - 1075, mode)
    }

    /// The value of the bits.
    pub fn value(self, bits: u64) -> f64 {
        if self == DOUBLE {
            return f64::from_bits(bits);
        }
        let fraction = bits & ((1 << self.fraction) - 1);
        let field = bits >> self.fraction & ((1 << self.exponent) - 1);
        let bias = (1i32 << (self.exponent - 1)) - 1;
        let scale = |exponent: i32| f64::from_bits(((exponent + 1023) as u64) << 52);
        let magnitude = if field == (1 << self.exponent) - 1 {
            if fraction == 0 {
                f64::INFINITY
            } else {
                f64::NAN
            }
        } else if field == 0 {
            fraction as f64 * scale(1 - bias - self.fraction as i32)
        } else {
            (fraction | 1 << self.fraction) as f64 * scale(field as i32 - bias - self.fraction as i32)
        };
        if bits & self.sign() != 0 {
            -magnitude
        } else {
            magnitude
        }
    }
}

/// `a + b`, and if that is inexact the one of its two neighbours whose last bit is odd: rounding this again to 50 bits or
/// fewer gives what rounding the exact sum once does.
#[inline(always)]
pub fn add_odd(a: f64, b: f64) -> f64 {
    let sum = a + b;
    let part = sum - a;
    let error = (a - (sum - part)) + (b - part);
    let inexact = (error > 0.0) | (error < 0.0);
    let bits = sum.to_bits();
    let towards = if (error > 0.0) == (sum > 0.0) { 1 } else { u64::MAX };
    let step = if inexact & (bits & 1 == 0) { towards } else { 0 };
    f64::from_bits(bits.wrapping_add(step))
}

/// `x` to an integer.
pub fn integral(x: f64, mode: Mode) -> f64 {
    match mode {
        Mode::Nearest => x.round_ties_even(),
        Mode::Zero => x.trunc(),
        Mode::Down => x.floor(),
        Mode::Up => x.ceil(),
    }
}
