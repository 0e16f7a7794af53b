//! `cvt` between all types and in all directions, against definitions by neighbours.

mod common;
use common::{apply, check, pairs};
use half::{bf16, f16};

/// A float type: its name, its bits, and what its bits are worth.
#[derive(Clone, Copy)]
struct Float {
    name: &'static str,
    bits: u32,
    value: fn(u64) -> f64,
}

const HALF: Float = Float {
    name: "f16",
    bits: 16,
    value: |bits| f16::from_bits(bits as u16).to_f64(),
};
const BRAIN: Float = Float {
    name: "bf16",
    bits: 16,
    value: |bits| bf16::from_bits(bits as u16).to_f64(),
};
const SINGLE: Float = Float {
    name: "f32",
    bits: 32,
    value: |bits| f64::from(f32::from_bits(bits as u32)),
};
const DOUBLE: Float = Float {
    name: "f64",
    bits: 64,
    value: f64::from_bits,
};

/// Registers of so many bits as sources and results in `apply`.
fn source(bits: u32) -> &'static str {
    ["%ha", "%a", "%x"][(bits / 32) as usize]
}
fn result(bits: u32) -> &'static str {
    ["%h", "%r", "%l"][(bits / 32) as usize]
}

fn doubles() -> Vec<u64> {
    let mut values = vec![
        0.0, 0.3, 0.5, 0.500_001, 1.0, 1.5, 2.5, 3.5, 7.999, 127.5, 128.0, 255.5, 256.0, 1e-3, 65519.9, 65520.0,
    ];
    values.extend([
        65504.0,
        32767.5,
        65535.5,
        65536.0,
        2147483647.5,
        4294967295.5,
        1e10,
        9.3e18,
        1.9e19,
        1e30,
        1e-8,
        3e-8,
        6e-8,
    ]);
    values.extend([
        1.0 + 2f64.powi(-11),
        1.0 + 3.0 * 2f64.powi(-11),
        1.0 + 2f64.powi(-24),
        1.0 + 3.0 * 2f64.powi(-24),
        1e-40,
    ]);
    values.extend([
        1.0 + 2f64.powi(-8),
        1.0 + 3.0 * 2f64.powi(-8),
        1e-45,
        3.5e38,
        1e300,
        f64::INFINITY,
        1e-310,
    ]);
    let negative: Vec<f64> = values.iter().map(|v: &f64| -v).collect();
    values.extend(negative);
    values.push(f64::NAN);
    values.into_iter().map(f64::to_bits).collect()
}

/// Values of a type, as the bits of operands.
fn values(float: Float) -> Vec<u64> {
    match float.name {
        "f64" => doubles(),
        "f32" => doubles()
            .iter()
            .map(|v| u64::from((f64::from_bits(*v) as f32).to_bits()))
            .collect(),
        _ => (0..65536)
            .step_by(97)
            .chain([0x7c00, 0xfc00, 0x7f80, 0x7bff, 0x3c01, 0x0001, 0x8001])
            .collect(),
    }
}

fn operands(values: &[u64]) -> Vec<[u64; 4]> {
    values.iter().map(|value| [*value, 0, 0, 0]).collect()
}

/// Whether `got` is what rounding `exact` gives. Its neighbours are those of its bits.
fn rounded(to: Float, mode: &str, exact: f64, got: u64) -> bool {
    let value = (to.value)(got);
    if exact.is_nan() {
        return value.is_nan();
    }
    let sign = 1u64 << (to.bits - 1);
    if value.is_nan() || (value == 0.0 && (got & sign != 0) != exact.is_sign_negative()) {
        return false;
    }
    if exact == value {
        return true;
    }
    if exact.is_infinite() {
        return false;
    }
    let towards_zero = (exact > 0.0) == (mode == "rm") || mode == "rz";
    let magnitude = got & !sign;
    let (own, exact) = (value.abs(), exact.abs());
    let above = (to.value)(magnitude + 1);
    let below = if magnitude == 0 { 0.0 } else { (to.value)(magnitude - 1) };
    match mode {
        "rn" => {
            // An infinite value stands where the next power of two would.
            let place = |bits: u64, value: f64| {
                if value.is_infinite() {
                    2.0 * (to.value)(bits - 1) - (to.value)(bits - 2)
                } else {
                    value
                }
            };
            let own = place(magnitude, own);
            let to_above = if above.is_nan() {
                f64::INFINITY
            } else {
                place(magnitude + 1, above) - exact
            };
            let to_below = if magnitude == 0 { f64::INFINITY } else { exact - below };
            let distance = (own - exact).abs();
            let tie = distance == to_above.abs() || distance == to_below.abs();
            let beyond = (to.value)(magnitude).is_infinite() && exact >= own;
            beyond
                || (distance <= to_above.abs() && distance <= to_below.abs() && (!tie || magnitude.is_multiple_of(2)))
        }
        _ if towards_zero => own < exact && (above > exact || above.is_nan()),
        _ => own > exact && below < exact,
    }
}

#[test]
fn floats_to_floats() {
    for (from, to) in [(SINGLE, HALF), (SINGLE, BRAIN), (DOUBLE, SINGLE), (DOUBLE, HALF)] {
        for mode in ["rn", "rz", "rm", "rp"] {
            if to.name == "bf16" && matches!(mode, "rm" | "rp") {
                continue;
            }
            let instruction = format!(
                "cvt.{mode}.{}.{} {}, {};",
                to.name,
                from.name,
                result(to.bits),
                source(from.bits)
            );
            let operands = operands(&values(from));
            for (o, got) in operands.iter().zip(apply(&instruction, result(to.bits), &operands)) {
                let exact = (from.value)(o[0]);
                assert!(
                    rounded(to, mode, exact, got),
                    "{instruction} of {exact:e} gives {:e}",
                    (to.value)(got)
                );
            }
        }
    }
    for (from, to) in [(HALF, SINGLE), (HALF, DOUBLE), (SINGLE, DOUBLE), (BRAIN, SINGLE)] {
        let instruction = format!(
            "cvt.{}.{} {}, {};",
            to.name,
            from.name,
            result(to.bits),
            source(from.bits)
        );
        let operands = operands(&values(from));
        for (o, got) in operands.iter().zip(apply(&instruction, result(to.bits), &operands)) {
            let (exact, got) = ((from.value)(o[0]), (to.value)(got));
            assert!(
                exact.to_bits() == got.to_bits() || (exact.is_nan() && got.is_nan()),
                "{instruction} of {exact:e}"
            );
        }
    }
}

/// What rounding to an integer gives.
fn integral(mode: &str, value: f64) -> f64 {
    let (floor, ceil) = (value.floor(), value.ceil());
    match mode {
        "rmi" => floor,
        "rpi" => ceil,
        "rzi" => {
            if value < 0.0 {
                ceil
            } else {
                floor
            }
        }
        _ if value - floor < ceil - value => floor,
        _ if value - floor > ceil - value => ceil,
        _ => {
            if floor % 2.0 == 0.0 {
                floor
            } else {
                ceil
            }
        }
    }
}

#[test]
fn floats_to_integers() {
    for from in [HALF, SINGLE, DOUBLE] {
        for (name, bits, signed) in [
            ("u16", 16, false),
            ("s16", 16, true),
            ("u32", 32, false),
            ("s32", 32, true),
            ("u64", 64, false),
            ("s64", 64, true),
        ] {
            for mode in ["rni", "rzi", "rmi", "rpi"] {
                let instruction = format!(
                    "cvt.{mode}.{name}.{} {}, {};",
                    from.name,
                    result(bits),
                    source(from.bits)
                );
                let mask = u64::MAX >> (64 - bits);
                let (least, greatest) = if signed {
                    (-(1i128 << (bits - 1)), (1i128 << (bits - 1)) - 1)
                } else {
                    (0, (1i128 << bits) - 1)
                };
                check(&instruction, result(bits), &operands(&values(from)), |o| {
                    let value = (from.value)(o[0]);
                    if value.is_nan() {
                        return if from.name == "f64" || bits == 64 {
                            1 << (bits - 1)
                        } else {
                            0
                        };
                    }
                    (integral(mode, value) as i128).clamp(least, greatest) as u64 & mask
                });
            }
        }
    }
}

#[test]
fn floats_to_integral_floats() {
    for mode in ["rni", "rzi", "rmi", "rpi"] {
        let operands = operands(&values(SINGLE));
        let instruction = format!("cvt.{mode}.f32.f32 %r, %a;");
        for (o, got) in operands.iter().zip(apply(&instruction, "%r", &operands)) {
            let (value, got) = ((SINGLE.value)(o[0]), (SINGLE.value)(got));
            let expected = if value.is_finite() {
                integral(mode, value)
            } else {
                value
            };
            assert!(
                expected == got || (value.is_nan() && got.is_nan()),
                "{instruction} of {value:e} gives {got:e}"
            );
        }
    }
}

fn integers() -> Vec<u64> {
    let mut values = vec![
        0, 1, 5, 127, 128, 255, 256, 2047, 2049, 2051, 32767, 32768, 65504, 65519, 65520, 65535, 65536,
    ];
    values.extend([
        (1 << 24) + 1,
        (1 << 24) + 3,
        (1 << 25) + 2,
        u64::from(u32::MAX),
        1 << 31,
        (1 << 53) + 1,
        (1 << 53) + 3,
    ]);
    values.extend([
        (1 << 63) - 1,
        1 << 63,
        (1 << 63) + 1025,
        u64::MAX,
        u64::MAX - 4,
        u64::MAX << 39,
        (u64::MAX << 39) + 1,
    ]);
    let negative: Vec<u64> = values.iter().map(|v: &u64| v.wrapping_neg()).collect();
    values.extend(negative);
    values
}

#[test]
fn integers_to_floats() {
    for (name, bits, signed) in [
        ("u8", 8, false),
        ("s8", 8, true),
        ("u16", 16, false),
        ("s16", 16, true),
        ("u32", 32, false),
        ("s32", 32, true),
    ] {
        for to in [HALF, SINGLE, DOUBLE] {
            for mode in ["rn", "rz", "rm", "rp"] {
                let instruction = format!(
                    "cvt.{mode}.{}.{name} {}, {};",
                    to.name,
                    result(to.bits),
                    source(bits.max(16))
                );
                let operands = operands(&integers());
                for (o, got) in operands.iter().zip(apply(&instruction, result(to.bits), &operands)) {
                    let shift = 64 - bits;
                    let exact = if signed {
                        ((o[0] << shift) as i64 >> shift) as f64
                    } else {
                        (o[0] << shift >> shift) as f64
                    };
                    assert!(
                        rounded(to, mode, exact, got),
                        "{instruction} of {exact:e} gives {:e}",
                        (to.value)(got)
                    );
                }
            }
        }
    }
    // The language rounds 64-bit integers to the nearest too.
    let operands = operands(&integers());
    check("cvt.rn.f32.u64 %r, %x;", "%r", &operands, |o| {
        u64::from((o[0] as f32).to_bits())
    });
    check("cvt.rn.f32.s64 %r, %x;", "%r", &operands, |o| {
        u64::from((o[0] as i64 as f32).to_bits())
    });
    check("cvt.rn.f64.u64 %l, %x;", "%l", &operands, |o| (o[0] as f64).to_bits());
    check("cvt.rn.f64.s64 %l, %x;", "%l", &operands, |o| {
        (o[0] as i64 as f64).to_bits()
    });
    for (o, got) in operands.iter().zip(apply("cvt.rz.f32.u64 %r, %x;", "%r", &operands)) {
        let got = f32::from_bits(got as u32);
        let above = f32::from_bits(got.to_bits() + 1);
        assert!(got as u128 <= u128::from(o[0]) && above as u128 > u128::from(o[0]) || got as u128 == u128::from(o[0]));
    }
}

#[test]
fn integers_to_integers() {
    let types = [("8", 8u32), ("16", 16), ("32", 32), ("64", 64)];
    let read = |value: u64, bits: u32, signed: bool| {
        let shift = 64 - bits;
        if signed {
            i128::from((value << shift) as i64 >> shift)
        } else {
            i128::from(value << shift >> shift)
        }
    };
    for (from, from_bits) in types {
        for (to, to_bits) in types {
            for (from_sign, to_sign) in [("u", "u"), ("u", "s"), ("s", "u"), ("s", "s")] {
                // A result of 8 bits lies in a register of 16.
                let register = to_bits.max(16);
                let place = format!("{}, {};", result(register), source(from_bits.max(16)));
                let place_bits = u64::MAX >> (64 - register);
                let operands = pairs(&integers()).into_iter().step_by(5).collect::<Vec<_>>();
                let plain = format!("cvt.{to_sign}{to}.{from_sign}{from} {place}");
                check(&plain, result(register), &operands, |o| {
                    let value = read(o[0], from_bits, from_sign == "s");
                    read(value as u64, to_bits, to_sign == "s") as u64 & place_bits
                });
                let (least, greatest) = if to_sign == "s" {
                    (-(1i128 << (to_bits - 1)), (1i128 << (to_bits - 1)) - 1)
                } else {
                    (0, (1i128 << to_bits) - 1)
                };
                let saturated = format!("cvt.sat.{to_sign}{to}.{from_sign}{from} {place}");
                if to_bits > from_bits || (to_bits == from_bits && to_sign == from_sign) {
                    continue;
                }
                check(&saturated, result(register), &operands, |o| {
                    let value = read(o[0], from_bits, from_sign == "s").clamp(least, greatest);
                    value as u64 & place_bits
                });
            }
        }
    }
}

#[test]
fn flushed_and_saturated() {
    let operands = operands(&values(SINGLE));
    let single = |bits: u64| f32::from_bits(bits as u32);
    check("cvt.sat.f32.f32 %r, %a;", "%r", &operands, |o| {
        let x = single(o[0]);
        u64::from(if x > 0.0 { x.min(1.0) } else { 0.0 }.to_bits())
    });
    check("cvt.ftz.f32.f32 %r, %a;", "%r", &operands, |o| {
        if single(o[0]).is_subnormal() {
            o[0] & 0x8000_0000
        } else {
            o[0]
        }
    });
    check("cvt.rzi.ftz.s32.f32 %r, %a;", "%r", &operands, |o| {
        u64::from(single(o[0]) as i32 as u32)
    });
}

#[test]
fn pairs_and_tf32() {
    let operands = pairs(&values(SINGLE));
    let half = |bits: u64| {
        let x = f16::from_f32(f32::from_bits(bits as u32));
        u64::from(if x.is_nan() { 0x7fff } else { x.to_bits() })
    };
    let brain = |bits: u64| {
        let x = bf16::from_f32(f32::from_bits(bits as u32));
        u64::from(if x.is_nan() { 0x7fff } else { x.to_bits() })
    };
    check("cvt.rn.f16x2.f32 %r, %a, %b;", "%r", &operands, |o| {
        half(o[0]) << 16 | half(o[1])
    });
    check("cvt.rn.bf16x2.f32 %r, %a, %b;", "%r", &operands, |o| {
        brain(o[0]) << 16 | brain(o[1])
    });
    // Ten bits of fraction, ties away from zero.
    for (o, got) in operands.iter().zip(apply("cvt.rna.tf32.f32 %r, %a;", "%r", &operands)) {
        let (exact, got) = (
            f64::from(f32::from_bits(o[0] as u32)),
            f64::from(f32::from_bits(got as u32)),
        );
        if exact.is_finite() && exact != 0.0 && exact.abs() < 3e38 {
            let unit = 2f64.powi((exact.abs().log2().floor() as i32).max(-126) - 10);
            let expected = (exact.abs() / unit + 0.5).floor() * unit * exact.signum();
            assert_eq!(got, expected, "{exact:e}");
        }
    }
}
