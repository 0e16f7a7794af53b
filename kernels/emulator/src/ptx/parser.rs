//! Tokens to a tree: directives, variables, kernels.

use super::expression::Reader;
use super::lexer::{tokens, Token};
use super::operand::instruction;
use super::tree::{Entry, Item, Limits, Module, Parameter, Place, Type, Variable};
use super::Refusal;

/// Reads a PTX text.
pub fn parse(text: &str) -> Result<Module, Refusal> {
    let mut reader = Reader::new(tokens(text)?);
    let mut module = Module::default();
    while reader.peek().is_some() {
        let line = reader.line();
        let word = reader.word()?;
        match word.as_str() {
            ".version" => {
                reader.take();
            }
            ".target" => {
                module.target = target(&mut reader)?;
                while reader.eat(",") {
                    reader.word()?;
                }
            }
            ".address_size" => {
                let size = reader.count()?;
                if size != 64 {
                    return Err(Refusal::new(
                        line,
                        format!("addresses of {size} bits; only 64 are known"),
                    ));
                }
            }
            ".file" | ".loc" | ".pragma" => skip_line(&mut reader, line),
            ".visible" | ".weak" | ".extern" | ".entry" | ".shared" | ".global" | ".const" | ".func" => {
                declaration(&mut reader, &word, line, &mut module)?;
            }
            _ => return Err(Refusal::new(line, format!("`{word}` is not known outside of a kernel"))),
        }
    }
    Ok(module)
}

/// Compute capability times ten of a target such as sm_90a.
fn target(reader: &mut Reader) -> Result<u32, Refusal> {
    let line = reader.line();
    let word = reader.word()?;
    let number = word
        .strip_prefix("sm_")
        .map(|rest| rest.trim_end_matches(|c: char| c.is_ascii_alphabetic()));
    match number.and_then(|number| number.parse().ok()) {
        Some(number) => Ok(number),
        None => Err(Refusal::new(line, format!("the target `{word}` is not known"))),
    }
}

/// Passes over everything on a line.
fn skip_line(reader: &mut Reader, line: u32) {
    while reader.peek().is_some() && reader.line() == line {
        reader.take();
    }
}

fn declaration(reader: &mut Reader, first: &str, line: u32, module: &mut Module) -> Result<(), Refusal> {
    let mut word = first.to_string();
    let mut external = false;
    while matches!(word.as_str(), ".visible" | ".weak" | ".extern") {
        external |= word == ".extern";
        word = reader.word()?;
    }
    match word.as_str() {
        ".entry" => module.entries.push(entry(reader, line)?),
        ".func" => return Err(Refusal::new(line, "functions (`.func`) are not known")),
        _ => {
            let place = place(&word).ok_or_else(|| Refusal::new(line, format!("`{word}` is not known here")))?;
            variables(reader, place, line, external, &mut module.variables)?;
        }
    }
    Ok(())
}

fn place(word: &str) -> Option<Place> {
    Some(match word {
        ".shared" => Place::Shared,
        ".global" => Place::Global,
        ".const" => Place::Const,
        _ => return None,
    })
}

/// `.align n .type name[count] = { … }, …;`
fn variables(
    reader: &mut Reader,
    place: Place,
    line: u32,
    external: bool,
    out: &mut Vec<Variable>,
) -> Result<(), Refusal> {
    let (align, kind) = aligned_type(reader)?;
    loop {
        let name = reader.word()?;
        let mut count = Some(1usize);
        if reader.eat("[") {
            if reader.eat("]") {
                count = None;
            } else {
                count = Some(reader.count()?);
                reader.expect("]")?;
            }
        }
        let mut content = Vec::new();
        if reader.eat("=") {
            if place == Place::Shared {
                return Err(Refusal::new(line, "shared variables cannot be given values"));
            }
            if reader.eat("{") {
                loop {
                    literal(reader, kind, &mut content)?;
                    if reader.eat("}") {
                        break;
                    }
                    reader.expect(",")?;
                }
            } else {
                literal(reader, kind, &mut content)?;
            }
        }
        let bytes = match count {
            Some(count) => Some(count * kind.bytes()),
            None if external && place == Place::Shared => None,
            None if !content.is_empty() => Some(content.len()),
            None => return Err(Refusal::new(line, format!("the size of `{name}` is not given"))),
        };
        if bytes.is_some_and(|bytes| bytes == 0 || content.len() > bytes) {
            return Err(Refusal::new(line, format!("`{name}` has no room for what it is given")));
        }
        let align = align.unwrap_or(kind.bytes()).max(kind.bytes());
        out.push(Variable {
            line,
            name,
            place,
            align,
            bytes,
            content,
        });
        if reader.eat(";") {
            return Ok(());
        }
        reader.expect(",")?;
    }
}

fn aligned_type(reader: &mut Reader) -> Result<(Option<usize>, Type), Refusal> {
    let mut align = None;
    loop {
        let line = reader.line();
        let word = reader.word()?;
        if word == ".align" {
            let value = reader.count()?;
            if !value.is_power_of_two() {
                return Err(Refusal::new(line, "an alignment is a power of two"));
            }
            align = Some(value);
        } else {
            let kind = word.strip_prefix('.').and_then(Type::named);
            return match kind {
                Some(kind) => Ok((align, kind)),
                None => Err(Refusal::new(line, format!("`{word}` is not a type"))),
            };
        }
    }
}

fn literal(reader: &mut Reader, kind: Type, out: &mut Vec<u8>) -> Result<(), Refusal> {
    let negative = reader.is("-") && matches!(reader.peek_second(), Some(Token::Double(_) | Token::Single(_)));
    if negative {
        reader.expect("-")?;
    }
    let sign = if negative { -1.0 } else { 1.0 };
    let bits = match (reader.peek(), kind) {
        (Some(Token::Single(bits)), _) => {
            let bits = u64::from((f32::from_bits(*bits) * sign as f32).to_bits());
            reader.take();
            bits
        }
        (Some(Token::Double(value)), Type::F(32)) => {
            let bits = u64::from(((*value * sign) as f32).to_bits());
            reader.take();
            bits
        }
        (Some(Token::Double(value)), Type::F(64)) => {
            let bits = (*value * sign).to_bits();
            reader.take();
            bits
        }
        _ => reader.constant()? as u64,
    };
    out.extend_from_slice(&bits.to_le_bytes()[..kind.bytes()]);
    Ok(())
}

fn entry(reader: &mut Reader, line: u32) -> Result<Entry, Refusal> {
    let name = reader.word()?;
    let mut parameters = Vec::new();
    if reader.eat("(") && !reader.eat(")") {
        loop {
            parameters.push(parameter(reader)?);
            if reader.eat(")") {
                break;
            }
            reader.expect(",")?;
        }
    }
    let mut limits = Limits::default();
    while !reader.eat("{") {
        limit(reader, &mut limits)?;
    }
    let body = body(reader)?;
    Ok(Entry {
        line,
        name,
        parameters,
        limits,
        body,
    })
}

fn parameter(reader: &mut Reader) -> Result<Parameter, Refusal> {
    let line = reader.line();
    if reader.word()? != ".param" {
        return Err(Refusal::new(line, "`.param` is expected"));
    }
    let (mut align, kind) = aligned_type(reader)?;
    let mut name = reader.word()?;
    // `.ptr .global .align n` says what a pointer points to.
    while name.starts_with('.') {
        if name == ".align" {
            reader.count()?;
        } else if !matches!(name.as_str(), ".ptr" | ".global" | ".shared" | ".const") {
            return Err(Refusal::new(line, format!("`{name}` is not known of a parameter")));
        }
        name = reader.word()?;
    }
    let mut bytes = kind.bytes();
    if reader.eat("[") {
        bytes *= reader.count()?;
        reader.expect("]")?;
    }
    let align = align.take().unwrap_or(kind.bytes());
    Ok(Parameter { name, align, bytes })
}

fn limit(reader: &mut Reader, limits: &mut Limits) -> Result<(), Refusal> {
    let line = reader.line();
    let word = reader.word()?;
    if word == ".explicitcluster" {
        limits.explicit_cluster = true;
        return Ok(());
    }
    if word == ".pragma" {
        skip_line(reader, line);
        return Ok(());
    }
    let mut product = 1u32;
    loop {
        product = product.saturating_mul(u32::try_from(reader.count()?).unwrap_or(u32::MAX));
        if !reader.eat(",") {
            break;
        }
    }
    match word.as_str() {
        ".maxntid" => limits.max_threads = Some(product),
        ".reqntid" => limits.threads = Some(product),
        ".reqnctapercluster" => limits.cluster = Some(product),
        ".minnctapersm" | ".maxnreg" | ".maxclusterrank" => {}
        _ => return Err(Refusal::new(line, format!("`{word}` is not known of a kernel"))),
    }
    Ok(())
}

/// Everything up to the closing brace.
fn body(reader: &mut Reader) -> Result<Vec<Item>, Refusal> {
    let mut items = Vec::new();
    loop {
        let line = reader.line();
        if reader.eat("}") {
            return Ok(items);
        }
        if reader.eat("{") {
            items.push(Item::Scope(body(reader)?));
            continue;
        }
        if reader.eat(";") {
            continue;
        }
        let Some(Token::Word(word)) = reader.peek() else {
            if reader.is("@") {
                items.push(Item::Instruction(instruction(reader)?));
                continue;
            }
            return reader.unexpected("an instruction");
        };
        let word = word.clone();
        if matches!(reader.peek_second(), Some(Token::Mark(":"))) {
            reader.word()?;
            reader.expect(":")?;
            items.push(Item::Label(line, word));
        } else if word == ".reg" {
            reader.word()?;
            items.push(registers(reader, line)?);
        } else if matches!(word.as_str(), ".loc" | ".file" | ".pragma") {
            skip_line(reader, line);
        } else if let Some(place) = place(&word) {
            reader.word()?;
            let mut found = Vec::new();
            variables(reader, place, line, false, &mut found)?;
            items.extend(found.into_iter().map(Item::Variable));
        } else if word.starts_with('.') {
            return Err(Refusal::new(line, format!("`{word}` is not known in a kernel")));
        } else {
            items.push(Item::Instruction(instruction(reader)?));
        }
    }
}

fn registers(reader: &mut Reader, line: u32) -> Result<Item, Refusal> {
    let (_, kind) = aligned_type(reader)?;
    let mut names = Vec::new();
    loop {
        let name = reader.word()?;
        let count = if reader.eat("<") {
            let count = u32::try_from(reader.count()?).unwrap_or(u32::MAX);
            reader.expect(">")?;
            Some(count)
        } else {
            None
        };
        names.push((name, count));
        if reader.eat(";") {
            return Ok(Item::Registers(line, kind, names));
        }
        reader.expect(",")?;
    }
}
