//! Branches, exits, barriers, fences.

use super::builder::Builder;
use super::modifiers::Modifiers;
use super::operands::expect;
use crate::op::Op;
use crate::ptx::tree::{Instruction, Operand, Type};

const U32: Type = Type::U(32);

/// Decodes what belongs here, and tells whether it did.
pub fn decode(b: &mut Builder<'_>, i: &Instruction) -> Result<bool, String> {
    let mut parts = i.name.split('.');
    let head = parts.next().unwrap_or("");
    let mut m = Modifiers::new(parts);
    let operands = &i.operands;
    match head {
        "bra" => {
            let uniform = m.take("uni");
            expect(operands, 1..=1)?;
            let label = b.label(&operands[0])?;
            b.emit(Op::Branch(label, uniform));
        }
        "ret" | "exit" => {
            m.ignore(&["uni"]);
            expect(operands, 0..=0)?;
            b.emit(Op::Exit);
        }
        "trap" => {
            expect(operands, 0..=0)?;
            b.emit(Op::Trap);
        }
        "bar" if m.take("warp") => {
            m.require(&["sync"])?;
            expect(operands, 1..=1)?;
            let members = b.word(&operands[0], U32)?;
            b.emit(Op::WarpBarrier(members));
        }
        "barrier" if m.take("cluster") => {
            let arrive = m.take("arrive");
            if !arrive {
                m.require(&["wait"])?;
            }
            m.ignore(&["release", "acquire", "relaxed", "aligned"]);
            expect(operands, 0..=0)?;
            b.emit(if arrive { Op::ClusterArrive } else { Op::ClusterWait });
        }
        "bar" | "barrier" => {
            m.ignore(&["cta", "aligned"]);
            m.require(&["sync"])?;
            expect(operands, 1..=2)?;
            let id = b.word(&operands[0], U32)?;
            let count = operands.get(1).map(|count| b.word(count, U32)).transpose()?;
            b.emit(Op::Barrier(id, count));
        }
        "membar" => {
            let scope = m.any(&["cta", "gl", "sys"]).ok_or("a scope is expected")?;
            expect(operands, 0..=0)?;
            b.emit(Op::Fence(scope != "cta"));
        }
        "fence" => {
            if m.take("proxy") {
                m.any(&["alias", "async"]).ok_or("a proxy is expected")?;
                m.ignore(&["shared::cta", "shared::cluster", "global"]);
                b.emit(Op::Fence(false));
            } else {
                m.ignore(&["sc", "acq_rel"]);
                let scope = m.any(&["cta", "cluster", "gpu", "sys"]).ok_or("a scope is expected")?;
                b.emit(Op::Fence(scope != "cta"));
            }
            expect(operands, 0..=0)?;
        }
        "griddepcontrol" => {
            m.any(&["wait", "launch_dependents"])
                .ok_or("`.wait` or `.launch_dependents` is expected")?;
            expect(operands, 0..=0)?;
            b.emit(Op::Nothing);
        }
        "nanosleep" => {
            m.require(&["u32"])?;
            expect(operands, 1..=1)?;
            b.word(&operands[0], U32)?;
            b.emit(Op::Pause);
        }
        "selp" | "and" | "or" | "xor" | "not" | "mov" => return select(b, head, &mut m, operands),
        _ => return Ok(false),
    }
    m.done()?;
    Ok(true)
}

/// What has to do with predicates.
fn select(b: &mut Builder<'_>, head: &str, m: &mut Modifiers, operands: &[Operand]) -> Result<bool, String> {
    use crate::op::Logic;
    if head == "selp" {
        let kind = m.kind()?;
        m.done()?;
        expect(operands, 4..=4)?;
        let (predicate, negate) = b.predicate(&operands[3])?;
        let (first, second) = if negate { (2, 1) } else { (1, 2) };
        if kind.bits() == 64 {
            let sources = [b.long(&operands[first], kind)?, b.long(&operands[second], kind)?];
            let result = b.long_result(&operands[0], kind)?;
            b.emit(Op::LongSelect(result, sources, predicate));
        } else {
            let sources = [b.word(&operands[first], kind)?, b.word(&operands[second], kind)?];
            let result = b.word_result(&operands[0], kind)?;
            b.emit(Op::WordSelect(result, sources, predicate));
        }
        return Ok(true);
    }
    if !m.take("pred") {
        return Ok(false);
    }
    m.done()?;
    let (logic, count) = match head {
        "and" => (Logic::And, 3),
        "or" => (Logic::Or, 3),
        "xor" => (Logic::Xor, 3),
        _ => (Logic::First, 2),
    };
    expect(operands, count..=count)?;
    let (result, _) = b.predicate(&operands[0])?;
    let (first, reversed) = b.predicate(&operands[1])?;
    let second = b.predicate(&operands[count - 1])?;
    b.emit(Op::Logic(logic, result, [(first, reversed != (head == "not")), second]));
    Ok(true)
}
