//! Floats of all kinds.

use super::builder::Builder;
use super::modifiers::Modifiers;
use super::operands::expect;
use crate::lanes::{double, half, single};
use crate::op::Op;
use crate::ptx::tree::{Instruction, Type};

/// Refuses directions of rounding other than to the nearest.
const ROUNDED: &str = "of the directions of rounding only `.rn` is known here";

/// Decodes what belongs here, and tells whether it did.
pub fn decode(b: &mut Builder<'_>, i: &Instruction) -> Result<bool, String> {
    let mut parts = i.name.split('.');
    let head = parts.next().unwrap_or("");
    let mut m = Modifiers::new(parts);
    if head == "setp" || head == "cvt" {
        return Ok(false);
    }
    let Ok(kind) = m.kind() else { return Ok(false) };
    if kind.integer() || kind == Type::Pred {
        return Ok(false);
    }
    if m.any(&["rz", "rm", "rp"]).is_some() {
        return Err(ROUNDED.into());
    }
    let known = match kind {
        Type::F(32) => f32(b, i, head, &mut m)?,
        Type::F(64) => f64(b, i, head, &mut m)?,
        Type::F(16) => f16(b, i, head, &mut m, kind, false, false)?,
        Type::F16x2 => f16(b, i, head, &mut m, kind, false, true)?,
        Type::Bf16 => f16(b, i, head, &mut m, kind, true, false)?,
        Type::Bf16x2 => f16(b, i, head, &mut m, kind, true, true)?,
        _ => false,
    };
    if known {
        m.done()?;
    }
    Ok(known)
}

fn f32(b: &mut Builder<'_>, i: &Instruction, head: &str, m: &mut Modifiers) -> Result<bool, String> {
    let kind = Type::F(32);
    let operands = &i.operands;
    let (ftz, sat) = (m.take("ftz"), m.take("sat"));
    let name = match head {
        "div" => match m.any(&["rn", "approx", "full"]) {
            Some(how) => format!("div.{how}"),
            None => return Err("`.rn`, `.approx` or `.full` is expected".into()),
        },
        "min" | "max" if m.take("NaN") => format!("{head}.NaN"),
        _ => head.to_string(),
    };
    if let Some(f) = single::two(&name, ftz, sat) {
        if matches!(head, "add" | "sub" | "mul") {
            m.ignore(&["rn"]);
        }
        expect(operands, 3..=3)?;
        let sources = [b.word(&operands[1], kind)?, b.word(&operands[2], kind)?];
        let result = b.word_result(&operands[0], kind)?;
        b.emit(Op::Word2(f, result, sources));
        return Ok(true);
    }
    if matches!(head, "fma" | "mad") {
        m.require(&["rn"])?;
        expect(operands, 4..=4)?;
        let sources = [
            b.word(&operands[1], kind)?,
            b.word(&operands[2], kind)?,
            b.word(&operands[3], kind)?,
        ];
        let result = b.word_result(&operands[0], kind)?;
        b.emit(Op::Word3(single::fma(ftz, sat), result, sources));
        return Ok(true);
    }
    if head == "testp" {
        let property = m
            .first()
            .and_then(single::property)
            .ok_or("the property is not known")?;
        expect(operands, 2..=2)?;
        let source = b.word(&operands[1], kind)?;
        let (yes, _) = b.predicate(&operands[0])?;
        b.emit(Op::WordTest(
            property,
            super::arithmetic::verdict(yes),
            [source, source],
        ));
        return Ok(true);
    }
    if let Some(f) = single::one(head, ftz) {
        match head {
            "rcp" | "sqrt" => {
                m.any(&["rn", "approx"]).ok_or("`.rn` or `.approx` is expected")?;
            }
            "rsqrt" | "ex2" | "lg2" | "sin" | "cos" | "tanh" => m.require(&["approx"])?,
            _ => {}
        }
        if sat {
            return Err("`.sat` is not known of it".into());
        }
        expect(operands, 2..=2)?;
        let source = b.word(&operands[1], kind)?;
        let result = b.word_result(&operands[0], kind)?;
        b.emit(Op::Word1(f, result, source));
        return Ok(true);
    }
    Ok(false)
}

fn f64(b: &mut Builder<'_>, i: &Instruction, head: &str, m: &mut Modifiers) -> Result<bool, String> {
    let kind = Type::F(64);
    let operands = &i.operands;
    if let Some(f) = double::two(head) {
        match head {
            "div" => m.require(&["rn"])?,
            "add" | "sub" | "mul" => m.ignore(&["rn"]),
            _ => {}
        }
        expect(operands, 3..=3)?;
        let sources = [b.long(&operands[1], kind)?, b.long(&operands[2], kind)?];
        let result = b.long_result(&operands[0], kind)?;
        b.emit(Op::Long2(f, result, sources));
        return Ok(true);
    }
    if matches!(head, "fma" | "mad") {
        m.require(&["rn"])?;
        expect(operands, 4..=4)?;
        let sources = [
            b.long(&operands[1], kind)?,
            b.long(&operands[2], kind)?,
            b.long(&operands[3], kind)?,
        ];
        let result = b.long_result(&operands[0], kind)?;
        b.emit(Op::Long3(double::FMA, result, sources));
        return Ok(true);
    }
    if head == "testp" {
        let property = m
            .first()
            .and_then(double::property)
            .ok_or("the property is not known")?;
        expect(operands, 2..=2)?;
        let source = b.long(&operands[1], kind)?;
        let (yes, _) = b.predicate(&operands[0])?;
        b.emit(Op::LongTest(
            property,
            super::arithmetic::verdict(yes),
            [source, source],
        ));
        return Ok(true);
    }
    if let Some(f) = double::one(head) {
        if matches!(head, "sqrt" | "rcp") {
            m.require(&["rn"])?;
        }
        expect(operands, 2..=2)?;
        let source = b.long(&operands[1], kind)?;
        let result = b.long_result(&operands[0], kind)?;
        b.emit(Op::Long1(f, result, source));
        return Ok(true);
    }
    Ok(false)
}

fn f16(
    b: &mut Builder<'_>,
    i: &Instruction,
    head: &str,
    m: &mut Modifiers,
    kind: Type,
    brain: bool,
    pair: bool,
) -> Result<bool, String> {
    let operands = &i.operands;
    let name = if matches!(head, "min" | "max") && m.take("NaN") {
        format!("{head}.NaN")
    } else {
        head.to_string()
    };
    if let Some(f) = half::two(&name, brain, pair) {
        if matches!(head, "add" | "sub" | "mul") {
            m.ignore(&["rn"]);
        }
        expect(operands, 3..=3)?;
        let sources = [b.word(&operands[1], kind)?, b.word(&operands[2], kind)?];
        let result = b.word_result(&operands[0], kind)?;
        b.emit(Op::Word2(f, result, sources));
        return Ok(true);
    }
    if head == "fma" {
        m.require(&["rn"])?;
        expect(operands, 4..=4)?;
        let sources = [
            b.word(&operands[1], kind)?,
            b.word(&operands[2], kind)?,
            b.word(&operands[3], kind)?,
        ];
        let result = b.word_result(&operands[0], kind)?;
        b.emit(Op::Word3(half::fma(brain, pair), result, sources));
        return Ok(true);
    }
    if let Some(f) = half::one(head, pair) {
        expect(operands, 2..=2)?;
        let source = b.word(&operands[1], kind)?;
        let result = b.word_result(&operands[0], kind)?;
        b.emit(Op::Word1(f, result, source));
        return Ok(true);
    }
    Ok(false)
}
