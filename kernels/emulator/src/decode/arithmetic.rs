//! Integers and comparisons.

use super::builder::Builder;
use super::modifiers::Modifiers;
use super::operands::expect;
use crate::lanes::{double, half, integer, long, single};
use crate::op::{Logic, Op, Reg, Verdict};
use crate::ptx::tree::{Instruction, Operand, Type};

const U32: Type = Type::U(32);

/// A comparison that goes to one predicate.
pub fn verdict(yes: Reg) -> Verdict {
    Verdict {
        yes,
        no: None,
        logic: Logic::First,
        other: yes,
        negate: false,
    }
}

/// Decodes what belongs here, and tells whether it did.
pub fn decode(b: &mut Builder<'_>, i: &Instruction) -> Result<bool, String> {
    let mut parts = i.name.split('.');
    let head = parts.next().unwrap_or("");
    let mut m = Modifiers::new(parts);
    if head == "setp" {
        compare(b, &mut m, &i.operands)?;
        return Ok(true);
    }
    let Ok(kind) = m.kind() else { return Ok(false) };
    if !kind.integer() {
        return Ok(false);
    }
    let untyped = matches!(kind, Type::B(_));
    let fits = match head {
        "and" | "or" | "xor" | "not" | "cnot" | "shl" | "popc" | "clz" | "brev" | "bfi" | "prmt" | "lop3" | "shf" => {
            untyped
        }
        "neg" | "abs" => kind.signed(),
        "shr" => true,
        _ => !untyped,
    };
    if !fits {
        return Err("it is not known of this type".into());
    }
    let name = match head {
        "mul" | "mad" => match m.any(&["lo", "hi", "wide"]) {
            Some(part) => format!("{head}.{part}"),
            None => return Err("`.lo`, `.hi` or `.wide` is expected".into()),
        },
        "shf" => {
            let side = m.any(&["l", "r"]).ok_or("`.l` or `.r` is expected")?;
            format!(
                "shf.{side}.{}",
                m.any(&["wrap", "clamp"]).ok_or("`.wrap` or `.clamp` is expected")?
            )
        }
        _ => head.to_string(),
    };
    let known = match kind.bits() {
        16 => short(b, i, &name, kind)?,
        32 => word(b, i, &name, kind)?,
        64 => wide(b, i, &name, kind)?,
        _ => false,
    };
    if known {
        m.done()?;
    }
    Ok(known)
}

/// Whether the second operand is a count of bits, which has 32 of its own.
fn counted(name: &str) -> bool {
    matches!(name, "shl" | "shr")
}

fn short(b: &mut Builder<'_>, i: &Instruction, name: &str, kind: Type) -> Result<bool, String> {
    let o = &i.operands;
    if name == "mul.wide" || name == "mad.wide" {
        let product = Type::B(32);
        expect(o, 3..=4)?;
        let (x, y) = (b.word(&o[1], kind)?, b.word(&o[2], kind)?);
        let result = b.word_result(&o[0], product)?;
        let op = match o.get(3) {
            Some(sum) => Op::Word3(
                integer::wide_add_short(kind.signed()),
                result,
                [x, y, b.word(sum, product)?],
            ),
            None => Op::Word2(integer::wide_short(kind.signed()), result, [x, y]),
        };
        b.emit(op);
    } else if name == "mad.lo" {
        expect(o, 4..=4)?;
        let sources = [b.word(&o[1], kind)?, b.word(&o[2], kind)?, b.word(&o[3], kind)?];
        let result = b.word_result(&o[0], kind)?;
        b.emit(Op::Word3(integer::MAD_SHORT, result, sources));
    } else if let Some(f) = integer::two_short(name, kind.signed()) {
        expect(o, 3..=3)?;
        let second = if counted(name) { U32 } else { kind };
        let sources = [b.word(&o[1], kind)?, b.word(&o[2], second)?];
        let result = b.word_result(&o[0], kind)?;
        b.emit(Op::Word2(f, result, sources));
    } else if let Some(f) = integer::one_short(name) {
        expect(o, 2..=2)?;
        let source = b.word(&o[1], kind)?;
        let result = b.word_result(&o[0], kind)?;
        b.emit(Op::Word1(f, result, source));
    } else {
        return Ok(false);
    }
    Ok(true)
}

fn word(b: &mut Builder<'_>, i: &Instruction, name: &str, kind: Type) -> Result<bool, String> {
    let o = &i.operands;
    let signed = kind.signed();
    if name == "mul.wide" || name == "mad.wide" {
        let product = Type::B(64);
        expect(o, 3..=4)?;
        let (x, y) = (b.word(&o[1], kind)?, b.word(&o[2], kind)?);
        let result = b.long_result(&o[0], product)?;
        let op = match o.get(3) {
            Some(sum) => Op::Widen3(integer::wide_add(signed), result, [x, y, b.long(sum, product)?]),
            None => Op::Widen2(integer::wide(signed), result, [x, y]),
        };
        b.emit(op);
    } else if let Some(f) = integer::three(name, signed) {
        expect(o, 4..=4)?;
        let rest = if name == "bfe" { U32 } else { kind };
        let sources = [b.word(&o[1], kind)?, b.word(&o[2], rest)?, b.word(&o[3], rest)?];
        let result = b.word_result(&o[0], kind)?;
        b.emit(Op::Word3(f, result, sources));
    } else if name == "lop3" || name == "bfi" {
        expect(o, 5..=5)?;
        if name == "lop3" && !matches!(o[4], Operand::Integer(0..=255)) {
            return Err("the table of `lop3` is a constant below 256".into());
        }
        let rest = if name == "bfi" { U32 } else { kind };
        let sources = [
            b.word(&o[1], kind)?,
            b.word(&o[2], kind)?,
            b.word(&o[3], rest)?,
            b.word(&o[4], U32)?,
        ];
        let result = b.word_result(&o[0], kind)?;
        let f = if name == "lop3" {
            integer::LOOKUP
        } else {
            integer::INSERT
        };
        b.emit(Op::Word4(f, result, sources));
    } else if let Some(f) = integer::two(name, signed) {
        expect(o, 3..=3)?;
        let second = if counted(name) { U32 } else { kind };
        let sources = [b.word(&o[1], kind)?, b.word(&o[2], second)?];
        let result = b.word_result(&o[0], kind)?;
        b.emit(Op::Word2(f, result, sources));
    } else if let Some(f) = integer::one(name) {
        expect(o, 2..=2)?;
        let source = b.word(&o[1], kind)?;
        let result = b.word_result(&o[0], kind)?;
        b.emit(Op::Word1(f, result, source));
    } else {
        return Ok(false);
    }
    Ok(true)
}

fn wide(b: &mut Builder<'_>, i: &Instruction, name: &str, kind: Type) -> Result<bool, String> {
    let o = &i.operands;
    let signed = kind.signed();
    if let Some(f) = long::shift(name, signed) {
        expect(o, 3..=3)?;
        let sources = [b.long(&o[1], kind)?, b.word(&o[2], U32)?];
        let result = b.long_result(&o[0], kind)?;
        b.emit(Op::Shift(f, result, sources));
    } else if let Some(f) = long::three(name, signed) {
        expect(o, 4..=4)?;
        let sources = [b.long(&o[1], kind)?, b.long(&o[2], kind)?, b.long(&o[3], kind)?];
        let result = b.long_result(&o[0], kind)?;
        b.emit(Op::Long3(f, result, sources));
    } else if name == "bfe" {
        expect(o, 4..=4)?;
        let sources = [b.long(&o[1], kind)?, b.word(&o[2], U32)?, b.word(&o[3], U32)?];
        let result = b.long_result(&o[0], kind)?;
        b.emit(Op::Field(long::extract(signed), result, sources));
    } else if name == "bfi" {
        expect(o, 5..=5)?;
        let sources = [
            b.long(&o[1], kind)?,
            b.long(&o[2], kind)?,
            b.word(&o[3], U32)?,
            b.word(&o[4], U32)?,
        ];
        let result = b.long_result(&o[0], kind)?;
        b.emit(Op::Insert(long::INSERT, result, sources));
    } else if let Some(f) = long::two(name, signed) {
        expect(o, 3..=3)?;
        let sources = [b.long(&o[1], kind)?, b.long(&o[2], kind)?];
        let result = b.long_result(&o[0], kind)?;
        b.emit(Op::Long2(f, result, sources));
    } else if let Some(f) = long::count(name) {
        expect(o, 2..=2)?;
        let source = b.long(&o[1], kind)?;
        let result = b.word_result(&o[0], U32)?;
        b.emit(Op::Narrow1(f, result, source));
    } else if let Some(f) = long::one(name) {
        expect(o, 2..=2)?;
        let source = b.long(&o[1], kind)?;
        let result = b.long_result(&o[0], kind)?;
        b.emit(Op::Long1(f, result, source));
    } else {
        return Ok(false);
    }
    Ok(true)
}

/// `setp`.
fn compare(b: &mut Builder<'_>, m: &mut Modifiers, o: &[Operand]) -> Result<(), String> {
    let name = m.first().ok_or("a comparison is expected")?;
    let logic = match m.any(&["and", "or", "xor"]) {
        None => Logic::First,
        Some("and") => Logic::And,
        Some("or") => Logic::Or,
        Some(_) => Logic::Xor,
    };
    let ftz = m.take("ftz");
    let kind = m.kind()?;
    m.done()?;
    let count = if logic == Logic::First { 3 } else { 4 };
    expect(o, count..=count)?;
    let (yes, no) = match &o[0] {
        Operand::Pair(yes, no) => (b.predicate_named(yes)?, Some(b.predicate_named(no)?)),
        other => (b.predicate(other)?.0, None),
    };
    let (other, negate) = match o.get(3) {
        Some(other) => b.predicate(other)?,
        None => (yes, false),
    };
    let verdict = Verdict {
        yes,
        no,
        logic,
        other,
        negate,
    };
    let unknown = || format!("`.{name}` is not known of it");
    if kind.bits() == 64 {
        let test = if kind == Type::F(64) {
            double::compare(name)
        } else {
            long::compare(name, kind.signed())
        };
        let sources = [b.long(&o[1], kind)?, b.long(&o[2], kind)?];
        b.emit(Op::LongTest(test.ok_or_else(unknown)?, verdict, sources));
    } else {
        let test = match kind {
            Type::F(32) => single::compare(name, ftz),
            Type::F(16) => half::compare(name, false),
            Type::Bf16 => half::compare(name, true),
            Type::S(16) => integer::compare_short(name),
            Type::B(_) if !matches!(name, "eq" | "ne") => None,
            Type::B(16 | 32) | Type::U(16 | 32) | Type::S(32) => integer::compare(name, kind.signed()),
            _ => None,
        };
        let sources = [b.word(&o[1], kind)?, b.word(&o[2], kind)?];
        b.emit(Op::WordTest(test.ok_or_else(unknown)?, verdict, sources));
    }
    Ok(())
}
