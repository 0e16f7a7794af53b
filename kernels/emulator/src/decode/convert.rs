//! `cvt`, `mov` and `cvta`.

use super::builder::Builder;
use super::modifiers::Modifiers;
use super::operands::expect;
use super::scope::File;
use crate::lanes::convert::{pair, pair_towards_zero, Conversion, TENSOR};
use crate::lanes::long::{HIGH, HIGH_HALF, JOIN, JOIN_HALVES, LOW, LOW_HALF, SAME, SAME_LONG};
use crate::lanes::round::Mode;
use crate::op::{Op, Slot};
use crate::ptx::tree::{Instruction, Operand, Type};

/// Decodes what belongs here, and tells whether it did.
pub fn decode(b: &mut Builder<'_>, i: &Instruction) -> Result<bool, String> {
    let mut parts = i.name.split('.');
    let head = parts.next().unwrap_or("");
    let mut m = Modifiers::new(parts);
    match head {
        "cvt" => convert(b, &mut m, &i.operands)?,
        "mov" => {
            let kind = m.kind()?;
            m.done()?;
            expect(&i.operands, 2..=2)?;
            copy(b, kind, &i.operands[0], &i.operands[1])?;
        }
        "cvta" => {
            m.ignore(&["to"]);
            m.any(&["global", "shared::cta", "shared", "const", "param"])
                .ok_or("a space is expected")?;
            let kind = m.kind()?;
            m.done()?;
            expect(&i.operands, 2..=2)?;
            copy(b, kind, &i.operands[0], &i.operands[1])?;
        }
        _ => return Ok(false),
    }
    Ok(true)
}

fn copy(b: &mut Builder<'_>, kind: Type, to: &Operand, from: &Operand) -> Result<(), String> {
    if let Operand::Name(name, 0) = from {
        let clock = match name.as_str() {
            "%clock" | "%clock_hi" => Some(32),
            "%clock64" | "%globaltimer" => Some(64),
            _ => None,
        };
        if let Some(bits) = clock.filter(|_| b.find(name).is_none()) {
            let result = b.result_of(to, Type::U(bits))?;
            b.emit(Op::Clock(result));
            return Ok(());
        }
    }
    match (to, from) {
        (Operand::Vector(parts), from) => unpack(b, kind, parts, from),
        (to, Operand::Vector(parts)) => pack(b, kind, to, parts),
        (to, from) => {
            let op = match (b.moved(from, kind)?, b.result_of(to, kind)?) {
                (Slot::Word(a), Slot::Word(d)) => Op::Word1(SAME, d, a),
                (Slot::Long(a), Slot::Long(d)) => Op::Long1(SAME_LONG, d, a),
                _ => return Err("its operands have different sizes".into()),
            };
            b.emit(op);
            Ok(())
        }
    }
}

fn unpack(b: &mut Builder<'_>, kind: Type, parts: &[Operand], from: &Operand) -> Result<(), String> {
    let part = Type::B(kind.bits() / parts.len() as u32);
    let d = parts
        .iter()
        .map(|p| b.word_result(p, part))
        .collect::<Result<Vec<_>, _>>()?;
    match (b.source(from, kind)?, d.as_slice()) {
        (Slot::Word(a), [low, high]) => {
            b.emit(Op::Word1(LOW_HALF, *low, a));
            b.emit(Op::Word1(HIGH_HALF, *high, a));
        }
        (Slot::Long(a), [low, high]) => {
            b.emit(Op::Narrow1(LOW, *low, a));
            b.emit(Op::Narrow1(HIGH, *high, a));
        }
        (Slot::Long(a), [first, second, third, fourth]) => {
            let word = b.fresh(File::Word, "a half of a register")?;
            for (half, low, high) in [(LOW, first, second), (HIGH, third, fourth)] {
                b.emit(Op::Narrow1(half, word, a));
                b.emit(Op::Word1(LOW_HALF, *low, word));
                b.emit(Op::Word1(HIGH_HALF, *high, word));
            }
        }
        _ => return Err("it has parts of sizes that are not known".into()),
    }
    Ok(())
}

fn pack(b: &mut Builder<'_>, kind: Type, to: &Operand, parts: &[Operand]) -> Result<(), String> {
    let part = Type::B(kind.bits() / parts.len() as u32);
    let a = parts.iter().map(|p| b.word(p, part)).collect::<Result<Vec<_>, _>>()?;
    match (b.result_of(to, kind)?, a.as_slice()) {
        (Slot::Word(d), [low, high]) => b.emit(Op::Word2(JOIN_HALVES, d, [*low, *high])),
        (Slot::Long(d), [low, high]) => b.emit(Op::Widen2(JOIN, d, [*low, *high])),
        (Slot::Long(d), [first, second, third, fourth]) => {
            let low = b.fresh(File::Word, "a half of a register")?;
            let high = b.fresh(File::Word, "a half of a register")?;
            b.emit(Op::Word2(JOIN_HALVES, low, [*first, *second]));
            b.emit(Op::Word2(JOIN_HALVES, high, [*third, *fourth]));
            b.emit(Op::Widen2(JOIN, d, [low, high]));
        }
        _ => return Err("it has parts of sizes that are not known".into()),
    }
    Ok(())
}

fn convert(b: &mut Builder<'_>, m: &mut Modifiers, o: &[Operand]) -> Result<(), String> {
    let direction = m.any(&["rn", "rz", "rm", "rp", "rna", "rni", "rzi", "rmi", "rpi"]);
    let (ftz, sat, relu) = (m.take("ftz"), m.take("sat"), m.take("relu"));
    let (to, from) = (m.kind()?, m.kind()?);
    m.done()?;
    let single = Type::F(32);
    if matches!(to, Type::F16x2 | Type::Bf16x2) {
        expect(o, 3..=3)?;
        let f = match direction {
            Some("rn") if from == single && !sat => pair(to == Type::Bf16x2, relu),
            Some("rz") if from == single && !sat && !relu => pair_towards_zero(to == Type::Bf16x2),
            _ => return Err("this conversion to a pair is not known".into()),
        };
        let sources = [b.word(&o[1], from)?, b.word(&o[2], from)?];
        let result = b.word_result(&o[0], to)?;
        b.emit(Op::Word2(f, result, sources));
        return Ok(());
    }
    expect(o, 2..=2)?;
    if to == Type::Tf32 {
        if direction != Some("rna") || from != single || sat || relu {
            return Err("to tf32 only `.rna` is known".into());
        }
        let source = b.word(&o[1], from)?;
        let result = b.word_result(&o[0], Type::Tf32)?;
        b.emit(Op::Word1(TENSOR, result, source));
        return Ok(());
    }
    if relu {
        return Err("`.relu` is not known of it".into());
    }
    let float = |kind: Type| !kind.integer();
    let size = |kind: Type| if kind == Type::Bf16 { 16 } else { kind.bits() };
    let mode = match direction {
        None | Some("rn" | "rni") => Mode::Nearest,
        Some("rz" | "rzi") => Mode::Zero,
        Some("rm" | "rmi") => Mode::Down,
        Some("rp" | "rpi") => Mode::Up,
        Some(_) => return Err("`.rna` is known only of tf32".into()),
    };
    let integral = direction.is_some_and(|d| d.len() == 3);
    let needed = match (float(from), float(to)) {
        (true, false) => integral,
        (false, true) => direction.is_some() && !integral,
        (true, true) if size(to) < size(from) => direction.is_some() && !integral,
        (true, true) if size(to) > size(from) => direction.is_none(),
        (true, true) => direction.is_none() || integral,
        (false, false) => direction.is_none(),
    };
    if !needed {
        return Err("its direction of rounding is missing or does not fit its types".into());
    }
    // The source may lie in a wider register, of which the low bits count; the result in a wider one too.
    let source = b.wide_source(&o[1], from)?;
    let (result, register) = b.wide_result(&o[0], to)?;
    let conversion = Conversion {
        from,
        to,
        mode,
        integral,
        sat,
        ftz,
        register,
    };
    let fast = match (source, result) {
        (Slot::Word(a), Slot::Word(d)) if register <= 32 => conversion.words().map(|f| Op::Word1(f, d, a)),
        (Slot::Word(a), Slot::Long(d)) => conversion.widen().map(|f| Op::Widen1(f, d, a)),
        (Slot::Long(a), Slot::Word(d)) => conversion.narrow().map(|f| Op::Narrow1(f, d, a)),
        _ => None,
    };
    b.emit(fast.unwrap_or_else(|| Op::Convert(Box::new(conversion), result, source)));
    Ok(())
}
