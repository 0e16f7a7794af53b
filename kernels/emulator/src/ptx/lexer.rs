//! PTX text to tokens.

use super::Refusal;

/// The least piece of PTX.
#[derive(Debug, Clone, PartialEq)]
pub enum Token {
    /// A name, a register, a directive, or an instruction with everything that dots join to it.
    Word(String),
    /// An integer.
    Integer(i64),
    /// The bits of a 32-bit float, written `0f…`.
    Single(u32),
    /// A 64-bit float, written `0d…` or with a decimal point.
    Double(f64),
    /// Text in quotes.
    Text(String),
    /// Anything else: one or two characters.
    Mark(&'static str),
}

/// A token and the line that it is on.
#[derive(Debug, Clone)]
pub struct Placed {
    /// The token.
    pub token: Token,
    /// Its line, from 1.
    pub line: u32,
    /// Where it begins and ends in the text.
    pub range: (usize, usize),
}

const MARKS: [&str; 32] = [
    "<<", ">>", "==", "!=", "<=", ">=", "&&", "||", ",", ";", ":", "{", "}", "[", "]", "(", ")", "<", ">", "=", "+",
    "-", "*", "/", "%", "&", "|", "^", "~", "!", "@", "?",
];

fn begins_word(c: u8) -> bool {
    c.is_ascii_alphabetic() || c == b'_' || c == b'$'
}

fn in_word(c: u8) -> bool {
    c.is_ascii_alphanumeric() || c == b'_' || c == b'$'
}

/// Cuts a text into tokens.
pub fn tokens(text: &str) -> Result<Vec<Placed>, Refusal> {
    let bytes = text.as_bytes();
    let at = |i: usize| bytes.get(i).copied().unwrap_or(0);
    let mut out = Vec::new();
    let (mut i, mut line) = (0, 1u32);
    while i < bytes.len() {
        let c = bytes[i];
        if c == b'\n' {
            line += 1;
            i += 1;
        } else if c.is_ascii_whitespace() {
            i += 1;
        } else if c == b'/' && at(i + 1) == b'/' {
            while i < bytes.len() && bytes[i] != b'\n' {
                i += 1;
            }
        } else if c == b'/' && at(i + 1) == b'*' {
            let begin = line;
            i += 2;
            while !(at(i) == b'*' && at(i + 1) == b'/') {
                if i >= bytes.len() {
                    return Err(Refusal::new(begin, "a comment that does not end"));
                }
                line += u32::from(bytes[i] == b'\n');
                i += 1;
            }
            i += 2;
        } else if c == b'"' {
            let begin = i + 1;
            i = begin;
            while i < bytes.len() && bytes[i] != b'"' && bytes[i] != b'\n' {
                i += 1;
            }
            if at(i) != b'"' {
                return Err(Refusal::new(line, "text in quotes that does not end"));
            }
            out.push(Placed {
                token: Token::Text(text[begin..i].to_string()),
                line,
                range: (begin - 1, i + 1),
            });
            i += 1;
        } else if begins_word(c) || ((c == b'.' || c == b'%') && begins_word(at(i + 1))) {
            let end = word_end(bytes, i);
            out.push(Placed {
                token: Token::Word(text[i..end].to_string()),
                line,
                range: (i, end),
            });
            i = end;
        } else if c.is_ascii_digit() {
            let (token, end) = number(text, i).map_err(|what| Refusal::new(line, what))?;
            out.push(Placed {
                token,
                line,
                range: (i, end),
            });
            i = end;
        } else if let Some(mark) = MARKS.iter().find(|mark| text[i..].starts_with(**mark)) {
            out.push(Placed {
                token: Token::Mark(mark),
                line,
                range: (i, i + mark.len()),
            });
            i += mark.len();
        } else {
            let c = text[i..].chars().next().unwrap_or(' ');
            return Err(Refusal::new(line, format!("the character {c:?} means nothing here")));
        }
    }
    Ok(out)
}

/// Where the word that begins at `i` ends: letters and digits, joined by dots and by `::`.
fn word_end(bytes: &[u8], mut i: usize) -> usize {
    let at = |i: usize| bytes.get(i).copied().unwrap_or(0);
    i += 1;
    loop {
        if in_word(at(i)) {
            i += 1;
        } else if at(i) == b'.' && in_word(at(i + 1)) {
            i += 2;
        } else if at(i) == b':' && at(i + 1) == b':' && in_word(at(i + 2)) {
            i += 3;
        } else {
            return i;
        }
    }
}

/// The number that begins at `i`, and where it ends.
fn number(text: &str, i: usize) -> Result<(Token, usize), String> {
    let bytes = text.as_bytes();
    let mut end = i;
    while end < bytes.len() && (bytes[end].is_ascii_alphanumeric()) {
        end += 1;
    }
    let word = &text[i..end];
    let wrong = || format!("{word:?} is not a number");
    let hex = |digits: &str, count: usize| -> Result<u64, String> {
        if digits.len() != count {
            return Err(format!("{word:?} has {} digits, not {count}", digits.len()));
        }
        u64::from_str_radix(digits, 16).map_err(|_| wrong())
    };
    match word.get(..2) {
        Some("0f" | "0F") => return Ok((Token::Single(hex(&word[2..], 8)? as u32), end)),
        Some("0d" | "0D") => return Ok((Token::Double(f64::from_bits(hex(&word[2..], 16)?)), end)),
        _ => {}
    }
    let decimal = word.bytes().all(|c| c.is_ascii_digit() || c == b'e' || c == b'E');
    let fraction = bytes.get(end) == Some(&b'.') && decimal;
    let exponent = decimal && word.contains(['e', 'E']);
    if fraction || exponent {
        if fraction {
            end += 1;
        }
        while end < bytes.len()
            && (bytes[end].is_ascii_alphanumeric()
                || (matches!(bytes[end], b'+' | b'-') && matches!(bytes[end - 1], b'e' | b'E')))
        {
            end += 1;
        }
        let word = &text[i..end];
        return word
            .parse()
            .map(|v| (Token::Double(v), end))
            .map_err(|_| format!("{word:?} is not a number"));
    }
    let digits = word.strip_suffix('U').unwrap_or(word);
    let value = if let Some(hex) = digits.strip_prefix("0x").or_else(|| digits.strip_prefix("0X")) {
        u64::from_str_radix(hex, 16)
    } else if let Some(binary) = digits.strip_prefix("0b").or_else(|| digits.strip_prefix("0B")) {
        u64::from_str_radix(binary, 2)
    } else if digits.len() > 1 && digits.starts_with('0') {
        u64::from_str_radix(&digits[1..], 8)
    } else {
        digits.parse()
    };
    Ok((Token::Integer(value.map_err(|_| wrong())? as i64), end))
}
