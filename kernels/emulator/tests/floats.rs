//! Instructions on 32-bit and 64-bit floats against what the language computes.

mod common;
use common::{apply, check, pairs};

fn singles() -> Vec<u64> {
    let mut values: Vec<f32> = vec![
        0.0,
        1.0,
        1.5,
        2.0,
        3.0,
        0.1,
        1e-20,
        1e20,
        3e38,
        1.000_000_1,
        0.333_333_34,
        8_388_609.0,
    ];
    values.extend([
        f32::MIN_POSITIVE,
        f32::MIN_POSITIVE / 3.0,
        f32::from_bits(1),
        f32::INFINITY,
        5.960_464_5e-8,
        0.999_999_94,
    ]);
    let negative: Vec<f32> = values.iter().map(|v| -v).collect();
    values.extend(negative);
    values.push(f32::NAN);
    values.iter().map(|v| u64::from(v.to_bits())).collect()
}

fn doubles() -> Vec<u64> {
    let mut values: Vec<f64> = vec![
        0.0,
        1.0,
        1.5,
        3.0,
        0.1,
        1e-300,
        1e300,
        1.000_000_000_000_000_2,
        f64::from_bits(7),
        f64::INFINITY,
    ];
    let negative: Vec<f64> = values.iter().map(|v| -v).collect();
    values.extend(negative);
    values.push(f64::NAN);
    values.iter().map(|v| v.to_bits()).collect()
}

fn single(bits: u64) -> f32 {
    f32::from_bits(bits as u32)
}

/// Zero of the same sign for what is subnormal.
fn flushed(x: f32) -> f32 {
    if x.is_subnormal() {
        x.signum() * 0.0
    } else {
        x
    }
}

/// Checks an instruction on 32-bit floats; what is no number need only be none.
fn of_singles(instruction: &str, f: impl Fn(f32, f32, f32) -> f32) {
    let operands = pairs(&singles());
    for (o, got) in operands.iter().zip(apply(instruction, "%r", &operands)) {
        let (expected, got) = (f(single(o[0]), single(o[1]), single(o[2])), single(got));
        let same = expected.to_bits() == got.to_bits() || (expected.is_nan() && got.is_nan());
        assert!(
            same,
            "{instruction} of {:?} gives {got:e}, not {expected:e}",
            o.map(single)
        );
    }
}

fn of_doubles(instruction: &str, f: impl Fn(f64, f64, f64) -> f64) {
    let operands = pairs(&doubles());
    for (o, got) in operands.iter().zip(apply(instruction, "%l", &operands)) {
        let [a, b, c, _] = o.map(f64::from_bits);
        let (expected, got) = (f(a, b, c), f64::from_bits(got));
        let same = expected.to_bits() == got.to_bits() || (expected.is_nan() && got.is_nan());
        assert!(
            same,
            "{instruction} of {a:e} {b:e} {c:e} gives {got:e}, not {expected:e}"
        );
    }
}

#[test]
fn of_32_bits() {
    of_singles("add.f32 %r, %a, %b;", |a, b, _| a + b);
    of_singles("sub.rn.f32 %r, %a, %b;", |a, b, _| a - b);
    of_singles("mul.f32 %r, %a, %b;", |a, b, _| a * b);
    of_singles("div.rn.f32 %r, %a, %b;", |a, b, _| a / b);
    of_singles("fma.rn.f32 %r, %a, %b, %c;", f32::mul_add);
    of_singles("neg.f32 %r, %a;", |a, _, _| -a);
    of_singles("abs.f32 %r, %a;", |a, _, _| a.abs());
    of_singles("rcp.rn.f32 %r, %a;", |a, _, _| 1.0 / a);
    of_singles("sqrt.rn.f32 %r, %a;", |a, _, _| a.sqrt());
    of_singles("copysign.f32 %r, %a, %b;", |a, b, _| b.copysign(a));
}

#[test]
fn subnormals_are_flushed_where_asked() {
    of_singles("add.ftz.f32 %r, %a, %b;", |a, b, _| flushed(flushed(a) + flushed(b)));
    of_singles("mul.ftz.f32 %r, %a, %b;", |a, b, _| flushed(flushed(a) * flushed(b)));
    of_singles("fma.rn.ftz.f32 %r, %a, %b, %c;", |a, b, c| {
        flushed(flushed(a).mul_add(flushed(b), flushed(c)))
    });
    of_singles("abs.ftz.f32 %r, %a;", |a, _, _| flushed(a).abs());
    let operands = pairs(&singles());
    check("setp.eq.ftz.f32 %p, %a, %b;", "%p", &operands, |o| {
        u64::from(flushed(single(o[0])) == flushed(single(o[1])))
    });
}

#[test]
fn results_are_saturated_where_asked() {
    let saturated = |x: f32| if x.is_nan() || x <= 0.0 { 0.0 } else { x.min(1.0) };
    of_singles("add.sat.f32 %r, %a, %b;", |a, b, _| saturated(a + b));
    of_singles("fma.rn.sat.f32 %r, %a, %b, %c;", |a, b, c| saturated(a.mul_add(b, c)));
    of_singles("mul.ftz.sat.f32 %r, %a, %b;", |a, b, _| {
        saturated(flushed(flushed(a) * flushed(b)))
    });
}

#[test]
fn a_fused_product_is_rounded_once() {
    let mut state = 1u64;
    let mut operands = Vec::new();
    for i in 0..20_000u64 {
        let mut next = || {
            state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(12345);
            // Close exponents, and few bits, so that sums often lie halfway between two floats.
            let exponent = 120 + (state >> 60);
            let mask = if i % 2 == 0 { 0x7f_ffff } else { 0x7f_f000 };
            (state >> 33 & 0x8000_0000) | exponent << 23 | (state >> 20 & mask)
        };
        let (a, b) = (next(), next());
        let c = u64::from(((single(a) * single(b)).to_bits()).wrapping_sub((next() as u32 & 31) << 23));
        operands.push([a, b, c, 0]);
    }
    operands.push([0x3f80_0001, 0x3f80_0001, 0xb3ff_ffff, 0]);
    operands.push([0x3f80_0800, 0x3f80_0800, 0x0000_0001, 0]);
    check("fma.rn.f32 %r, %a, %b, %c;", "%r", &operands, |o| {
        u64::from(single(o[0]).mul_add(single(o[1]), single(o[2])).to_bits())
    });
}

#[test]
fn of_64_bits() {
    of_doubles("add.f64 %l, %x, %y;", |a, b, _| a + b);
    of_doubles("sub.f64 %l, %x, %y;", |a, b, _| a - b);
    of_doubles("mul.rn.f64 %l, %x, %y;", |a, b, _| a * b);
    of_doubles("div.rn.f64 %l, %x, %y;", |a, b, _| a / b);
    of_doubles("fma.rn.f64 %l, %x, %y, %z;", f64::mul_add);
    of_doubles("sqrt.rn.f64 %l, %x;", |a, _, _| a.sqrt());
    of_doubles("neg.f64 %l, %x;", |a, _, _| -a);
    of_doubles("abs.f64 %l, %x;", |a, _, _| a.abs());
    of_doubles("copysign.f64 %l, %x, %y;", |a, b, _| b.copysign(a));
}

#[test]
fn least_and_greatest() {
    let zero = |a: f32, b: f32| a == 0.0 && b == 0.0;
    let least = |a: f32, b: f32| {
        if zero(a, b) {
            if a.is_sign_negative() {
                a
            } else {
                b
            }
        } else {
            a.min(b)
        }
    };
    let greatest = |a: f32, b: f32| {
        if zero(a, b) {
            if a.is_sign_negative() {
                b
            } else {
                a
            }
        } else {
            a.max(b)
        }
    };
    let none = |a: f32, b: f32| a.is_nan() || b.is_nan();
    of_singles("min.f32 %r, %a, %b;", |a, b, _| least(a, b));
    of_singles("max.f32 %r, %a, %b;", |a, b, _| greatest(a, b));
    of_singles("min.NaN.f32 %r, %a, %b;", |a, b, _| {
        if none(a, b) {
            f32::NAN
        } else {
            least(a, b)
        }
    });
    of_singles("max.NaN.f32 %r, %a, %b;", |a, b, _| {
        if none(a, b) {
            f32::NAN
        } else {
            greatest(a, b)
        }
    });
    let least = |a: f64, b: f64| {
        if a == b {
            f64::from_bits(a.to_bits() | b.to_bits())
        } else {
            a.min(b)
        }
    };
    let greatest = |a: f64, b: f64| {
        if a == b {
            f64::from_bits(a.to_bits() & b.to_bits())
        } else {
            a.max(b)
        }
    };
    of_doubles("min.f64 %l, %x, %y;", |a, b, _| least(a, b));
    of_doubles("max.f64 %l, %x, %y;", |a, b, _| greatest(a, b));
}

#[test]
fn comparisons() {
    let none = |a: f64, b: f64| a.is_nan() || b.is_nan();
    let wide = |bits: u64| f64::from(single(bits));
    for (name, ordered) in [
        ("eq", (|a, b| a == b) as fn(f64, f64) -> bool),
        ("ne", |a, b| a != b),
        ("lt", |a, b| a < b),
        ("le", |a, b| a <= b),
        ("gt", |a, b| a > b),
        ("ge", |a, b| a >= b),
    ] {
        let test = |o: [u64; 4], value: &dyn Fn(u64) -> f64, unordered: bool| {
            let (a, b) = (value(o[0]), value(o[1]));
            u64::from(if none(a, b) { unordered } else { ordered(a, b) })
        };
        let (s, d) = (pairs(&singles()), pairs(&doubles()));
        check(&format!("setp.{name}.f32 %p, %a, %b;"), "%p", &s, |o| {
            test(o, &wide, false)
        });
        check(&format!("setp.{name}u.f32 %p, %a, %b;"), "%p", &s, |o| {
            test(o, &wide, true)
        });
        check(&format!("setp.{name}.f64 %p, %x, %y;"), "%p", &d, |o| {
            test(o, &f64::from_bits, false)
        });
        check(&format!("setp.{name}u.f64 %p, %x, %y;"), "%p", &d, |o| {
            test(o, &f64::from_bits, true)
        });
    }
    let operands = pairs(&singles());
    check("setp.num.f32 %p, %a, %b;", "%p", &operands, |o| {
        u64::from(!none(wide(o[0]), wide(o[1])))
    });
    check("setp.nan.f32 %p, %a, %b;", "%p", &operands, |o| {
        u64::from(none(wide(o[0]), wide(o[1])))
    });
    check("testp.finite.f32 %p, %a;", "%p", &operands, |o| {
        u64::from(single(o[0]).is_finite())
    });
    check("testp.subnormal.f32 %p, %a;", "%p", &operands, |o| {
        u64::from(single(o[0]).is_subnormal())
    });
}

#[test]
fn approximations_are_close() {
    let values: Vec<u64> = (-40..40)
        .map(|i| u64::from((i as f32 * 0.37 + 0.01).to_bits()))
        .collect();
    let close = |instruction: &str, f: fn(f64) -> f64| {
        let operands = pairs(&values);
        for (o, got) in operands.iter().zip(apply(instruction, "%r", &operands)) {
            let (expected, got) = (f(f64::from(single(o[0]))), f64::from(single(got)));
            let same = (expected.is_nan() && got.is_nan()) || (expected - got).abs() <= 3e-7 * expected.abs().max(1e-6);
            assert!(
                same,
                "{instruction} of {:e} gives {got:e}, not {expected:e}",
                single(o[0])
            );
        }
    };
    close("ex2.approx.f32 %r, %a;", f64::exp2);
    close("ex2.approx.ftz.f32 %r, %a;", f64::exp2);
    close("lg2.approx.f32 %r, %a;", f64::log2);
    close("sin.approx.f32 %r, %a;", f64::sin);
    close("cos.approx.f32 %r, %a;", f64::cos);
    close("tanh.approx.f32 %r, %a;", f64::tanh);
    close("rcp.approx.f32 %r, %a;", |x| 1.0 / x);
    close("sqrt.approx.f32 %r, %a;", f64::sqrt);
    close("rsqrt.approx.f32 %r, %a;", |x| 1.0 / x.sqrt());
    close("div.approx.f32 %r, %a, %a;", |x| x / x);
    close("div.full.f32 %r, %a, 0f40000000;", |x| x / 2.0);
    // Beyond 2^126 the approximate quotient is zero.
    assert_eq!(
        apply("div.approx.f32 %r, %a, %b;", "%r", &[[0x3f80_0000, 0x7f00_0000, 0, 0]]),
        [0]
    );
    let special = [f32::NEG_INFINITY, 0.0, -0.0, f32::INFINITY].map(|x| [u64::from(x.to_bits()), 0, 0, 0]);
    let of = |instruction: &str| {
        apply(instruction, "%r", &special)
            .into_iter()
            .map(single)
            .collect::<Vec<_>>()
    };
    assert_eq!(of("ex2.approx.f32 %r, %a;"), [0.0, 1.0, 1.0, f32::INFINITY]);
    assert_eq!(
        of("rcp.approx.f32 %r, %a;"),
        [-0.0, f32::INFINITY, f32::NEG_INFINITY, 0.0]
    );
    assert_eq!(
        of("rsqrt.approx.f32 %r, %a;")[1..],
        [f32::INFINITY, f32::NEG_INFINITY, 0.0]
    );
}
