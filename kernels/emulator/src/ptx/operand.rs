//! Instructions and their operands.

use super::expression::Reader;
use super::lexer::Token;
use super::tree::{Instruction, Operand};
use super::Refusal;

/// Takes an instruction up to its semicolon.
pub fn instruction(reader: &mut Reader) -> Result<Instruction, Refusal> {
    let begin = reader.begin();
    let guard = if reader.eat("@") {
        let not = reader.eat("!");
        Some((reader.word()?, not))
    } else {
        None
    };
    let line = reader.line();
    let name = reader.word()?;
    let mut operands = Vec::new();
    if !reader.eat(";") {
        loop {
            operands.push(operand(reader)?);
            if reader.eat(";") {
                break;
            }
            reader.expect(",")?;
        }
    }
    let range = (begin, reader.end());
    Ok(Instruction {
        line,
        range,
        guard,
        name,
        operands,
    })
}

fn operand(reader: &mut Reader) -> Result<Operand, Refusal> {
    if reader.eat("[") {
        let memory = match reader.peek() {
            Some(Token::Word(word)) if word != "WARP_SZ" => {
                let name = reader.word()?;
                Operand::Memory(Some(name), reader.added()?)
            }
            _ => Operand::Memory(None, reader.constant()?),
        };
        reader.expect("]")?;
        return Ok(memory);
    }
    if reader.eat("{") {
        let mut parts = Vec::new();
        loop {
            parts.push(operand(reader)?);
            if reader.eat("}") {
                return Ok(Operand::Vector(parts));
            }
            reader.expect(",")?;
        }
    }
    if reader.is("!") && matches!(reader.peek_second(), Some(Token::Word(word)) if word != "WARP_SZ") {
        reader.expect("!")?;
        return Ok(Operand::Not(reader.word()?));
    }
    let negative = reader.is("-") && matches!(reader.peek_second(), Some(Token::Single(_) | Token::Double(_)));
    if negative {
        reader.expect("-")?;
    }
    match reader.peek() {
        Some(Token::Single(bits)) => {
            let bits = *bits;
            reader.take();
            Ok(Operand::Single(if negative { bits ^ 0x8000_0000 } else { bits }))
        }
        Some(Token::Double(value)) => {
            let value = *value;
            reader.take();
            Ok(Operand::Double(if negative { -value } else { value }))
        }
        Some(Token::Word(word)) if word != "WARP_SZ" => {
            let name = reader.word()?;
            if reader.eat("|") {
                return Ok(Operand::Pair(name, reader.word()?));
            }
            Ok(Operand::Name(name, reader.added()?))
        }
        _ => Ok(Operand::Integer(reader.constant()?)),
    }
}
