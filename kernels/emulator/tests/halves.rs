//! Instructions on 16-bit floats, against searches among all of them.

mod common;
use common::{apply, check, pairs};
use half::{bf16, f16};

/// The bits of some halves of all sizes.
fn halves() -> Vec<u64> {
    (0..180u64)
        .map(|i| (i * 0x0b6d + i * i) & 0xffff)
        .chain([0, 0x8000, 1, 0x03ff, 0x0400, 0x7bff, 0x7c00, 0xfc00, 0x7e00])
        .collect()
}

/// A half as a multiple of 2^-48.
fn fixed(bits: u64) -> Option<i128> {
    let value = f16::from_bits(bits as u16);
    value
        .is_finite()
        .then(|| (value.to_f64() * 2f64.powi(24)) as i128 * (1 << 24))
}

/// The half nearest to a multiple of 2^-48, found among all.
fn nearest(value: i128) -> u16 {
    let sign = if value < 0 { 0x8000 } else { 0 };
    let value = value.abs();
    let at = |bits: u16| fixed(u64::from(bits)).unwrap_or(65536 << 48);
    let (mut low, mut high) = (0u16, 0x7c00u16);
    while high - low > 1 {
        let middle = (low + high) / 2;
        if at(middle) <= value {
            low = middle;
        } else {
            high = middle;
        }
    }
    let (below, above) = (value - at(low), at(high) - value);
    let up = below > above || (below == above && low % 2 == 1);
    sign | if up { high } else { low }
}

#[test]
fn halves_are_rounded_once() {
    let operands = pairs(&halves());
    let exact = |instruction: &str, f: &dyn Fn(i128, i128, i128) -> i128| {
        for (o, got) in operands.iter().zip(apply(instruction, "%h", &operands)) {
            let (Some(a), Some(b), Some(c)) = (fixed(o[0]), fixed(o[1]), fixed(o[2])) else {
                continue;
            };
            let expected = nearest(f(a, b, c));
            let zero = expected & 0x7fff == 0 && got & 0x7fff == 0;
            assert!(
                zero || got == u64::from(expected),
                "{instruction} of {o:x?} gives {got:x}, not {expected:x}"
            );
        }
    };
    exact("add.f16 %h, %ha, %hb;", &|a, b, _| a + b);
    exact("sub.rn.f16 %h, %ha, %hb;", &|a, b, _| a - b);
    exact("mul.f16 %h, %ha, %hb;", &|a, b, _| (a >> 24) * (b >> 24));
    exact("fma.rn.f16 %h, %ha, %hb, %hc;", &|a, b, c| (a >> 24) * (b >> 24) + c);
    let number = |bits: u64| f16::from_bits(bits as u16);
    for (o, got) in operands.iter().zip(apply("max.f16 %h, %ha, %hb;", "%h", &operands)) {
        let (a, b) = (number(o[0]), number(o[1]));
        let expected = if a.is_nan() {
            b
        } else if b.is_nan() || a > b {
            a
        } else {
            b
        };
        assert!(number(got) == expected || (expected.is_nan() && number(got).is_nan()));
    }
    check("setp.lt.f16 %p, %ha, %hb;", "%p", &operands, |o| {
        u64::from(number(o[0]) < number(o[1]))
    });
    check("neg.f16 %h, %ha;", "%h", &operands, |o| (o[0] ^ 0x8000) & 0xffff);
}

#[test]
fn pairs_of_halves() {
    let operands: Vec<[u64; 4]> = pairs(&halves())
        .iter()
        .map(|o| [o[0] | o[1] << 16, o[2] | o[3] << 16, o[1] | o[0] << 16, 0])
        .collect();
    let part = |o: [u64; 4], shift: u32| {
        [
            o[0] >> shift & 0xffff,
            o[1] >> shift & 0xffff,
            o[2] >> shift & 0xffff,
            0,
        ]
    };
    for (pair, one) in [
        ("add.f16x2 %r, %a, %b;", "add.f16 %h, %ha, %hb;"),
        ("mul.f16x2 %r, %a, %b;", "mul.f16 %h, %ha, %hb;"),
        ("fma.rn.f16x2 %r, %a, %b, %c;", "fma.rn.f16 %h, %ha, %hb, %hc;"),
        ("min.f16x2 %r, %a, %b;", "min.f16 %h, %ha, %hb;"),
        ("neg.f16x2 %r, %a;", "neg.f16 %h, %ha;"),
        ("fma.rn.bf16x2 %r, %a, %b, %c;", "fma.rn.bf16 %h, %ha, %hb, %hc;"),
    ] {
        let low = apply(one, "%h", &operands.iter().map(|o| part(*o, 0)).collect::<Vec<_>>());
        let high = apply(one, "%h", &operands.iter().map(|o| part(*o, 16)).collect::<Vec<_>>());
        let both = apply(pair, "%r", &operands);
        for i in 0..operands.len() {
            assert_eq!(both[i], low[i] | high[i] << 16, "{pair} of {:x?}", operands[i]);
        }
    }
}

#[test]
fn brain_floats() {
    let operands = pairs(&halves());
    let value = |bits: u64| bf16::from_bits(bits as u16).to_f64();
    // These products are exact in 64 bits; sums are where the exponents are near.
    for (instruction, f) in [
        ("mul.bf16 %h, %ha, %hb;", (|a, b| a * b) as fn(f64, f64) -> f64),
        ("add.bf16 %h, %ha, %hb;", |a, b| a + b),
    ] {
        for (o, got) in operands.iter().zip(apply(instruction, "%h", &operands)) {
            let (a, b) = (value(o[0]), value(o[1]));
            if a.is_nan() || b.is_nan() || (a.abs().log2() - b.abs().log2()).abs() > 40.0 {
                continue;
            }
            let (expected, got) = (bf16::from_f64(f(a, b)), bf16::from_bits(got as u16));
            assert!(
                expected == got || (expected.is_nan() && got.is_nan()),
                "{instruction} of {o:x?}"
            );
        }
    }
}
