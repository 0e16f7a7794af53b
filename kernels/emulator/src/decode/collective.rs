//! What the lanes of a warp do together.

use super::builder::Builder;
use super::modifiers::Modifiers;
use super::operands::expect;
use crate::op::{Element, Multiply, Op, Reg, Shuffle, Vote};
use crate::ptx::tree::{Instruction, Operand, Type};

const B32: Type = Type::B(32);

/// Decodes what belongs here, and tells whether it did.
pub fn decode(b: &mut Builder<'_>, i: &Instruction) -> Result<bool, String> {
    let mut parts = i.name.split('.');
    let head = parts.next().unwrap_or("");
    let mut m = Modifiers::new(parts);
    let o = &i.operands;
    match head {
        "shfl" => shuffle(b, &mut m, o)?,
        "vote" => vote(b, &mut m, o)?,
        "activemask" => {
            m.require(&["b32"])?;
            expect(o, 1..=1)?;
            let result = b.word_result(&o[0], B32)?;
            b.emit(Op::ActiveMask(result));
        }
        "redux" => reduce(b, &mut m, o)?,
        "ldmatrix" => matrix(b, &mut m, o)?,
        "mma" => multiply(b, &mut m, o)?,
        _ => return Ok(false),
    }
    m.done()?;
    Ok(true)
}

fn shuffle(b: &mut Builder<'_>, m: &mut Modifiers, o: &[Operand]) -> Result<(), String> {
    m.require(&["sync", "b32"])?;
    let how = match m.any(&["up", "down", "bfly", "idx"]) {
        Some("up") => Shuffle::Up,
        Some("down") => Shuffle::Down,
        Some("bfly") => Shuffle::Butterfly,
        Some(_) => Shuffle::Index,
        None => return Err("`.up`, `.down`, `.bfly` or `.idx` is expected".into()),
    };
    expect(o, 5..=5)?;
    let (result, inside) = match &o[0] {
        Operand::Pair(result, inside) => (Operand::Name(result.clone(), 0), Some(b.predicate_named(inside)?)),
        other => (other.clone(), None),
    };
    let sources = [
        b.word(&o[1], B32)?,
        b.word(&o[2], B32)?,
        b.word(&o[3], B32)?,
        b.word(&o[4], B32)?,
    ];
    let result = b.word_result(&result, B32)?;
    b.emit(Op::Shuffle(how, result, inside, sources));
    Ok(())
}

fn vote(b: &mut Builder<'_>, m: &mut Modifiers, o: &[Operand]) -> Result<(), String> {
    m.require(&["sync"])?;
    expect(o, 3..=3)?;
    let (predicate, negate) = b.predicate(&o[1])?;
    let members = b.word(&o[2], B32)?;
    let (vote, result) = match m.any(&["any", "all", "uni", "ballot"]) {
        Some("ballot") => {
            m.require(&["b32"])?;
            (Vote::Ballot, b.word_result(&o[0], B32)?)
        }
        Some(how) => {
            m.require(&["pred"])?;
            let vote = match how {
                "any" => Vote::Any,
                "all" => Vote::All,
                _ => Vote::Uniform,
            };
            (vote, b.predicate(&o[0])?.0)
        }
        None => return Err("`.any`, `.all`, `.uni` or `.ballot` is expected".into()),
    };
    b.emit(Op::Vote(vote, result, predicate, negate, members));
    Ok(())
}

fn reduce(b: &mut Builder<'_>, m: &mut Modifiers, o: &[Operand]) -> Result<(), String> {
    m.require(&["sync"])?;
    let name = m
        .any(&["add", "min", "max", "and", "or", "xor"])
        .ok_or("an operation is expected")?;
    let kind = m.kind()?;
    let f: fn(u32, u32) -> u32 = match (name, kind) {
        ("add", Type::U(32) | Type::S(32)) => |a, b| a.wrapping_add(b),
        ("min", Type::U(32)) => |a, b| a.min(b),
        ("min", Type::S(32)) => |a, b| (a as i32).min(b as i32) as u32,
        ("max", Type::U(32)) => |a, b| a.max(b),
        ("max", Type::S(32)) => |a, b| (a as i32).max(b as i32) as u32,
        ("and", Type::B(32)) => |a, b| a & b,
        ("or", Type::B(32)) => |a, b| a | b,
        ("xor", Type::B(32)) => |a, b| a ^ b,
        _ => return Err("this operation is not known of this type".into()),
    };
    expect(o, 3..=3)?;
    let (source, members) = (b.word(&o[1], kind)?, b.word(&o[2], B32)?);
    let result = b.word_result(&o[0], kind)?;
    b.emit(Op::Reduce(f, result, source, members));
    Ok(())
}

fn parts(operand: &Operand, count: usize) -> Result<&[Operand], String> {
    let parts = match operand {
        Operand::Vector(parts) => parts.as_slice(),
        single => std::slice::from_ref(single),
    };
    if parts.len() == count {
        Ok(parts)
    } else {
        Err(format!("{} registers where {count} are expected", parts.len()))
    }
}

fn matrix(b: &mut Builder<'_>, m: &mut Modifiers, o: &[Operand]) -> Result<(), String> {
    m.require(&["sync", "aligned", "m8n8", "b16"])?;
    m.any(&["shared", "shared::cta"]).ok_or("`.shared` is expected")?;
    let turned = m.take("trans");
    let count = match m.any(&["x1", "x2", "x4"]) {
        Some("x1") => 1,
        Some("x2") => 2,
        Some(_) => 4,
        None => return Err("`.x1`, `.x2` or `.x4` is expected".into()),
    };
    expect(o, 2..=2)?;
    let place = b.place(&o[1])?;
    let mut results = [0; 4];
    for (result, part) in results.iter_mut().zip(parts(&o[0], count)?) {
        *result = b.word_result(part, B32)?;
    }
    b.emit(Op::LoadMatrix(place, count as u8, turned, results));
    Ok(())
}

fn multiply(b: &mut Builder<'_>, m: &mut Modifiers, o: &[Operand]) -> Result<(), String> {
    m.require(&["sync", "aligned", "row", "col"])?;
    let shape = m.any(&["m16n8k16", "m16n8k8"]).ok_or("its shape is not known")?;
    let kinds = [m.kind()?, m.kind()?, m.kind()?, m.kind()?];
    let single = Type::F(32);
    let (element, depth) = match (shape, kinds[1]) {
        ("m16n8k16", Type::F(16)) => (Element::Half, 16),
        ("m16n8k16", Type::Bf16) => (Element::Brain, 16),
        ("m16n8k8", Type::F(16)) => (Element::Half, 8),
        ("m16n8k8", Type::Bf16) => (Element::Brain, 8),
        ("m16n8k8", Type::Tf32) => (Element::Tensor, 8),
        _ => return Err("this product is not known".into()),
    };
    if kinds != [single, kinds[1], kinds[1], single] {
        return Err("this product is not known".into());
    }
    expect(o, 4..=4)?;
    let left = if element != Element::Tensor && depth == 8 { 2 } else { 4 };
    let mut multiply = Multiply {
        element,
        depth,
        d: [0; 4],
        a: [0; 4],
        b: [0; 2],
        c: [0; 4],
    };
    let factor = match element {
        Element::Half => Type::F16x2,
        Element::Brain => Type::Bf16x2,
        Element::Tensor => Type::Tf32,
    };
    fill(b, &mut multiply.a[..left], &o[1], factor)?;
    fill(b, &mut multiply.b[..left / 2], &o[2], factor)?;
    fill(b, &mut multiply.c, &o[3], single)?;
    for (d, part) in multiply.d.iter_mut().zip(parts(&o[0], 4)?) {
        *d = b.word_result(part, single)?;
    }
    b.emit(Op::Multiply(Box::new(multiply)));
    Ok(())
}

fn fill(b: &mut Builder<'_>, registers: &mut [Reg], operand: &Operand, kind: Type) -> Result<(), String> {
    let parts = parts(operand, registers.len())?;
    for (register, part) in registers.iter_mut().zip(parts) {
        *register = b.word(part, kind)?;
    }
    Ok(())
}
