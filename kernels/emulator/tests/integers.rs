//! Integer instructions against what the language computes.

mod common;
use common::{check, integers as values, pairs};

fn nonzero() -> Vec<[u64; 4]> {
    pairs(&values()).into_iter().filter(|o| o[1] as u16 != 0).collect()
}

/// A function of 32-bit operands without signs.
fn unsigned(instruction: &str, f: impl Fn(u32, u32, u32) -> u32) {
    check(instruction, "%r", &pairs(&values()), |o| {
        u64::from(f(o[0] as u32, o[1] as u32, o[2] as u32))
    });
}

/// A function of 32-bit operands with signs.
fn signed(instruction: &str, f: impl Fn(i32, i32, i32) -> i32) {
    unsigned(instruction, |a, b, c| f(a as i32, b as i32, c as i32) as u32);
}

/// A function of 64-bit operands.
fn long(instruction: &str, f: impl Fn(u64, u64, u64) -> u64) {
    check(instruction, "%l", &pairs(&values()), |o| f(o[0], o[1], o[2]));
}

/// A function of 16-bit operands.
fn short(instruction: &str, f: impl Fn(u16, u16, u16) -> u16) {
    check(instruction, "%h", &pairs(&values()), |o| {
        u64::from(f(o[0] as u16, o[1] as u16, o[2] as u16))
    });
}

#[test]
fn of_32_bits() {
    unsigned("add.u32 %r, %a, %b;", |a, b, _| a.wrapping_add(b));
    unsigned("sub.s32 %r, %a, %b;", |a, b, _| a.wrapping_sub(b));
    unsigned("mul.lo.u32 %r, %a, %b;", |a, b, _| a.wrapping_mul(b));
    unsigned("mul.hi.u32 %r, %a, %b;", |a, b, _| {
        ((u64::from(a) * u64::from(b)) >> 32) as u32
    });
    signed("mul.hi.s32 %r, %a, %b;", |a, b, _| {
        ((i64::from(a) * i64::from(b)) >> 32) as i32
    });
    unsigned("mad.lo.u32 %r, %a, %b, %c;", |a, b, c| {
        a.wrapping_mul(b).wrapping_add(c)
    });
    unsigned("mad.hi.u32 %r, %a, %b, %c;", |a, b, c| {
        ((u64::from(a) * u64::from(b)) >> 32).wrapping_add(c.into()) as u32
    });
    signed("mad.hi.s32 %r, %a, %b, %c;", |a, b, c| {
        (((i64::from(a) * i64::from(b)) >> 32) as i32).wrapping_add(c)
    });
    unsigned("min.u32 %r, %a, %b;", |a, b, _| if a < b { a } else { b });
    unsigned("max.u32 %r, %a, %b;", |a, b, _| if a > b { a } else { b });
    signed("min.s32 %r, %a, %b;", |a, b, _| if a < b { a } else { b });
    signed("max.s32 %r, %a, %b;", |a, b, _| if a > b { a } else { b });
    signed("neg.s32 %r, %a;", |a, _, _| 0i32.wrapping_sub(a));
    signed(
        "abs.s32 %r, %a;",
        |a, _, _| if a < 0 { 0i32.wrapping_sub(a) } else { a },
    );
    unsigned("and.b32 %r, %a, %b;", |a, b, _| a & b);
    unsigned("or.b32 %r, %a, %b;", |a, b, _| a | b);
    unsigned("xor.b32 %r, %a, %b;", |a, b, _| a ^ b);
    unsigned("not.b32 %r, %a;", |a, _, _| !a);
    unsigned("popc.b32 %r, %a;", |a, _, _| (0..32).map(|i| a >> i & 1).sum());
    unsigned("clz.b32 %r, %a;", |a, _, _| {
        (0..32).rev().take_while(|i| a >> i & 1 == 0).count() as u32
    });
    unsigned("brev.b32 %r, %a;", |a, _, _| {
        (0..32).fold(0, |out, i| out | (a >> i & 1) << (31 - i))
    });
}

#[test]
fn divisions() {
    check("div.u32 %r, %a, %b;", "%r", &nonzero(), |o| {
        u64::from(o[0] as u32 / o[1] as u32)
    });
    check("rem.u32 %r, %a, %b;", "%r", &nonzero(), |o| {
        u64::from(o[0] as u32 % o[1] as u32)
    });
    check("div.s32 %r, %a, %b;", "%r", &nonzero(), |o| {
        u64::from((o[0] as i32).wrapping_div(o[1] as i32) as u32)
    });
    check("rem.s32 %r, %a, %b;", "%r", &nonzero(), |o| {
        u64::from((o[0] as i32).wrapping_rem(o[1] as i32) as u32)
    });
    check("div.u64 %l, %x, %y;", "%l", &nonzero(), |o| o[0] / o[1]);
    check("rem.u64 %l, %x, %y;", "%l", &nonzero(), |o| o[0] % o[1]);
    check("div.s64 %l, %x, %y;", "%l", &nonzero(), |o| {
        (o[0] as i64).wrapping_div(o[1] as i64) as u64
    });
    check("rem.s64 %l, %x, %y;", "%l", &nonzero(), |o| {
        (o[0] as i64).wrapping_rem(o[1] as i64) as u64
    });
    check("div.u16 %h, %ha, %hb;", "%h", &nonzero(), |o| {
        u64::from(o[0] as u16 / o[1] as u16)
    });
    check("rem.s16 %h, %ha, %hb;", "%h", &nonzero(), |o| {
        u64::from((o[0] as i16).wrapping_rem(o[1] as i16) as u16)
    });
}

#[test]
fn wide_products() {
    check("mul.wide.u32 %l, %a, %b;", "%l", &pairs(&values()), |o| {
        (o[0] & 0xffff_ffff) * (o[1] & 0xffff_ffff)
    });
    let wide = |o: [u64; 4]| i64::from(o[0] as i32) * i64::from(o[1] as i32);
    check("mul.wide.s32 %l, %a, %b;", "%l", &pairs(&values()), |o| wide(o) as u64);
    check("mad.wide.s32 %l, %a, %b, %z;", "%l", &pairs(&values()), |o| {
        wide(o).wrapping_add(o[2] as i64) as u64
    });
    check("mul.wide.u16 %r, %ha, %hb;", "%r", &pairs(&values()), |o| {
        (o[0] & 0xffff) * (o[1] & 0xffff)
    });
    check("mul.wide.s16 %r, %ha, %hb;", "%r", &pairs(&values()), |o| {
        u64::from((i32::from(o[0] as i16) * i32::from(o[1] as i16)) as u32)
    });
}

#[test]
fn of_64_bits() {
    long("add.u64 %l, %x, %y;", |a, b, _| a.wrapping_add(b));
    long("sub.s64 %l, %x, %y;", |a, b, _| a.wrapping_sub(b));
    long("mul.lo.u64 %l, %x, %y;", |a, b, _| a.wrapping_mul(b));
    long("mul.hi.u64 %l, %x, %y;", |a, b, _| {
        ((u128::from(a) * u128::from(b)) >> 64) as u64
    });
    long("mul.hi.s64 %l, %x, %y;", |a, b, _| {
        ((i128::from(a as i64) * i128::from(b as i64)) >> 64) as u64
    });
    long("mad.lo.s64 %l, %x, %y, %z;", |a, b, c| {
        a.wrapping_mul(b).wrapping_add(c)
    });
    long(
        "min.s64 %l, %x, %y;",
        |a, b, _| if (a as i64) < b as i64 { a } else { b },
    );
    long("max.u64 %l, %x, %y;", |a, b, _| if a > b { a } else { b });
    long("and.b64 %l, %x, %y;", |a, b, _| a & b);
    long("or.b64 %l, %x, %y;", |a, b, _| a | b);
    long("xor.b64 %l, %x, %y;", |a, b, _| a ^ b);
    long("not.b64 %l, %x;", |a, _, _| !a);
    long("neg.s64 %l, %x;", |a, _, _| 0u64.wrapping_sub(a));
    check("popc.b64 %r, %x;", "%r", &pairs(&values()), |o| {
        (0..64).map(|i| o[0] >> i & 1).sum()
    });
    check("clz.b64 %r, %x;", "%r", &pairs(&values()), |o| {
        (0..64).rev().take_while(|i| o[0] >> i & 1 == 0).count() as u64
    });
}

#[test]
fn of_16_bits() {
    short("add.u16 %h, %ha, %hb;", |a, b, _| a.wrapping_add(b));
    short("sub.s16 %h, %ha, %hb;", |a, b, _| a.wrapping_sub(b));
    short("mul.lo.u16 %h, %ha, %hb;", |a, b, _| a.wrapping_mul(b));
    short("mad.lo.s16 %h, %ha, %hb, %hc;", |a, b, c| {
        a.wrapping_mul(b).wrapping_add(c)
    });
    short(
        "min.s16 %h, %ha, %hb;",
        |a, b, _| if (a as i16) < b as i16 { a } else { b },
    );
    short("max.u16 %h, %ha, %hb;", |a, b, _| if a > b { a } else { b });
    short("xor.b16 %h, %ha, %hb;", |a, b, _| a ^ b);
    short("not.b16 %h, %ha;", |a, _, _| !a);
    short("neg.s16 %h, %ha;", |a, _, _| 0u16.wrapping_sub(a));
}

#[test]
fn comparisons() {
    let operands = pairs(&values());
    for (name, test) in [
        ("eq", (|a, b| a == b) as fn(i128, i128) -> bool),
        ("ne", |a, b| a != b),
        ("lt", |a, b| a < b),
        ("le", |a, b| a <= b),
        ("gt", |a, b| a > b),
        ("ge", |a, b| a >= b),
    ] {
        let is = |kind: &str, a: &str, b: &str, value: &dyn Fn(u64) -> i128| {
            let instruction = format!("setp.{name}.{kind} %p, {a}, {b};");
            check(&instruction, "%p", &operands, |o| {
                u64::from(test(value(o[0]), value(o[1])))
            });
        };
        is("u16", "%ha", "%hb", &|v| i128::from(v as u16));
        is("s16", "%ha", "%hb", &|v| i128::from(v as i16));
        is("u32", "%a", "%b", &|v| i128::from(v as u32));
        is("s32", "%a", "%b", &|v| i128::from(v as i32));
        is("u64", "%x", "%y", &|v| i128::from(v));
        is("s64", "%x", "%y", &|v| i128::from(v as i64));
    }
    check("setp.lo.u32 %p, %a, %b;", "%p", &operands, |o| {
        u64::from((o[0] as u32) < o[1] as u32)
    });
    check("setp.hs.u64 %p, %x, %y;", "%p", &operands, |o| u64::from(o[0] >= o[1]));
    let less = |o: [u64; 4]| (o[0] as u32) < o[1] as u32;
    let odd = |o: [u64; 4]| o[3] % 2 == 1;
    check("setp.lt.and.u32 %p, %a, %b, %q;", "%p", &operands, |o| {
        u64::from(less(o) && odd(o))
    });
    check("setp.lt.or.u32 %p, %a, %b, !%q;", "%p", &operands, |o| {
        u64::from(less(o) || !odd(o))
    });
    check("setp.lt.xor.u32 %p, %a, %b, %q;", "%p", &operands, |o| {
        u64::from(less(o) != odd(o))
    });
    check(
        ".reg .pred %no; setp.lt.and.u32 %no|%p, %a, %b, %q;",
        "%p",
        &operands,
        |o| u64::from(!less(o) && odd(o)),
    );
    check("setp.lt.u32 %p, %a, %b; and.pred %p, %p, !%q;", "%p", &operands, |o| {
        u64::from(less(o) && !odd(o))
    });
    check("setp.lt.u32 %p, %a, %b; xor.pred %p, %p, %q;", "%p", &operands, |o| {
        u64::from(less(o) != odd(o))
    });
    check("setp.lt.u32 %p, %a, %b; not.pred %p, %p;", "%p", &operands, |o| {
        u64::from(!less(o))
    });
    check("selp.b32 %r, %a, %b, %q;", "%r", &operands, |o| {
        u64::from(if odd(o) { o[0] } else { o[1] } as u32)
    });
    check("selp.b64 %l, %x, 7, !%q;", "%l", &operands, |o| {
        if odd(o) {
            7
        } else {
            o[0]
        }
    });
}
