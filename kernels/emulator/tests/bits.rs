//! Shifts, fields, parts of registers, constants.

mod common;
use common::{apply, check, integers as values, pairs};

#[test]
fn shifts_stop_at_the_width() {
    let count = |b: u64| b as u32;
    check("shl.b32 %r, %a, %b;", "%r", &pairs(&values()), |o| {
        if count(o[1]) > 31 {
            0
        } else {
            (o[0] << count(o[1])) & 0xffff_ffff
        }
    });
    check("shr.u32 %r, %a, %b;", "%r", &pairs(&values()), |o| {
        if count(o[1]) > 31 {
            0
        } else {
            (o[0] & 0xffff_ffff) >> count(o[1])
        }
    });
    check("shr.s32 %r, %a, %b;", "%r", &pairs(&values()), |o| {
        u64::from((i64::from(o[0] as i32) >> count(o[1]).min(63)) as u32)
    });
    check("shl.b64 %l, %x, %b;", "%l", &pairs(&values()), |o| {
        if count(o[1]) > 63 {
            0
        } else {
            o[0] << count(o[1])
        }
    });
    check("shr.u64 %l, %x, %b;", "%l", &pairs(&values()), |o| {
        if count(o[1]) > 63 {
            0
        } else {
            o[0] >> count(o[1])
        }
    });
    check("shr.s64 %l, %x, %b;", "%l", &pairs(&values()), |o| {
        (i128::from(o[0] as i64) >> count(o[1]).min(127)) as u64
    });
    check("shl.b16 %h, %ha, %b;", "%h", &pairs(&values()), |o| {
        if count(o[1]) > 15 {
            0
        } else {
            (o[0] << count(o[1])) & 0xffff
        }
    });
    check("shr.s16 %h, %ha, %b;", "%h", &pairs(&values()), |o| {
        u64::from((i32::from(o[0] as i16) >> count(o[1]).min(31)) as u16)
    });
    check("shf.l.wrap.b32 %r, %a, %b, %c;", "%r", &pairs(&values()), |o| {
        let both = (o[0] & 0xffff_ffff) | o[1] << 32;
        (both << (o[2] & 31)) >> 32
    });
    check("shf.r.clamp.b32 %r, %a, %b, %c;", "%r", &pairs(&values()), |o| {
        let both = (o[0] & 0xffff_ffff) | o[1] << 32;
        (both >> count(o[2]).min(32)) & 0xffff_ffff
    });
}

/// Bits one at a time, as PTX defines `bfe`.
fn field(a: u64, place: u64, length: u64, bits: u64, signed: bool) -> u64 {
    let (place, length) = (place & 0xff, length & 0xff);
    let last = bits - 1;
    let sign = if signed && length > 0 {
        a >> (place + length - 1).min(last) & 1
    } else {
        0
    };
    (0..bits).fold(0, |out, i| {
        let bit = if i < length && place + i <= last {
            a >> (place + i) & 1
        } else {
            sign
        };
        out | bit << i
    })
}

/// Bits one at a time, as PTX defines `bfi`.
fn inserted(a: u64, b: u64, place: u64, length: u64, bits: u64) -> u64 {
    let (place, length) = (place & 0xff, length & 0xff);
    let mut out = b;
    for i in 0..length {
        if place + i < bits {
            out = (out & !(1 << (place + i))) | (a >> i & 1) << (place + i);
        }
    }
    out
}

#[test]
fn fields() {
    let low = |value: u64| value & 0xffff_ffff;
    let operands = pairs(&values());
    check("bfe.u32 %r, %a, %b, %c;", "%r", &operands, |o| {
        field(low(o[0]), o[1], o[2], 32, false)
    });
    check("bfe.s32 %r, %a, %b, %c;", "%r", &operands, |o| {
        field(low(o[0]), o[1], o[2], 32, true)
    });
    check("bfe.u64 %l, %x, %b, %c;", "%l", &operands, |o| {
        field(o[0], o[1], o[2], 64, false)
    });
    check("bfe.s64 %l, %x, %b, %c;", "%l", &operands, |o| {
        field(o[0], o[1], o[2], 64, true)
    });
    check("bfi.b32 %r, %a, %b, %c, %d;", "%r", &operands, |o| {
        inserted(low(o[0]), low(o[1]), o[2], o[3], 32)
    });
    check("bfi.b64 %l, %x, %y, %c, %d;", "%l", &operands, |o| {
        inserted(o[0], o[1], o[2], o[3], 64)
    });
    check("prmt.b32 %r, %a, %b, %c;", "%r", &operands, |o| {
        let bytes: Vec<u64> = (0..8)
            .map(|i| if i < 4 { o[0] >> (8 * i) } else { o[1] >> (8 * (i - 4)) } & 0xff)
            .collect();
        (0..4).fold(0, |out, i| {
            let choice = o[2] >> (4 * i) & 15;
            let byte = bytes[(choice & 7) as usize];
            let byte = if choice < 8 {
                byte
            } else if byte > 127 {
                0xff
            } else {
                0
            };
            out | byte << (8 * i)
        })
    });
    for table in [0x80u32, 0xe8, 0x96, 0x1b, 0xca, 0x00, 0xff] {
        check(&format!("lop3.b32 %r, %a, %b, %c, {table};"), "%r", &operands, |o| {
            (0..32).fold(0, |out, i| {
                let index = (o[0] >> i & 1) << 2 | (o[1] >> i & 1) << 1 | (o[2] >> i & 1);
                out | u64::from(table >> index & 1) << i
            })
        });
    }
}

#[test]
fn parts_of_registers() {
    let operands = pairs(&values());
    check("mov.b32 {%h, %hb}, %a;", "%h", &operands, |o| o[0] & 0xffff);
    check("mov.b32 {%hb, %h}, %a;", "%h", &operands, |o| o[0] >> 16 & 0xffff);
    check("mov.b32 %r, {%ha, %hb};", "%r", &operands, |o| {
        (o[0] & 0xffff) | (o[1] & 0xffff) << 16
    });
    check("mov.b64 {%b, %r}, %x;", "%r", &operands, |o| o[0] >> 32);
    check("mov.b64 %l, {%a, %b};", "%l", &operands, |o| {
        (o[0] & 0xffff_ffff) | o[1] << 32
    });
    check("mov.b64 {%ha, %hb, %h, %hc}, %x;", "%h", &operands, |o| {
        o[0] >> 32 & 0xffff
    });
    check("mov.b64 %l, {%ha, %hb, %hc, %ha};", "%l", &operands, |o| {
        (o[0] & 0xffff) | (o[1] & 0xffff) << 16 | (o[2] & 0xffff) << 32 | (o[0] & 0xffff) << 48
    });
}

#[test]
fn constants() {
    let one = [[5, 6, 7, 8]];
    for (text, value) in [
        ("64*4+16", 272u64),
        ("(8+1)*2", 18),
        ("1<<4|3", 19),
        ("-5 + 8/3", 0xffff_fffd),
        ("7 % 4 == 3 ? 10 : 20", 10),
        ("!(3 > 2) + ~0", 0xffff_ffff),
        ("0x1F + 017 + 0b11", 49),
        ("WARP_SZ * 2", 64),
        ("0xffffffffU", 0xffff_ffff),
    ] {
        assert_eq!(apply(&format!("mov.u32 %r, {text};"), "%r", &one)[0], value, "{text}");
    }
    assert_eq!(apply("mov.b32 %r, 0f3F800000;", "%r", &one)[0], 0x3f80_0000);
    assert_eq!(apply("mov.f32 %r, 1.5;", "%r", &one)[0], 0x3fc0_0000);
    assert_eq!(
        apply("mov.f64 %l, 0d3FF8000000000000;", "%l", &one)[0],
        0x3ff8_0000_0000_0000
    );
    assert_eq!(apply("mov.f64 %l, -2.5e-1;", "%l", &one)[0], (-0.25f64).to_bits());
}
