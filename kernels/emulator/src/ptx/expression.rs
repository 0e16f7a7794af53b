//! A place in the tokens, and the constant expressions of PTX over it.

use super::lexer::{Placed, Token};
use super::Refusal;

/// Reads tokens one after the other.
pub struct Reader {
    tokens: Vec<Placed>,
    next: usize,
}

impl Reader {
    /// At the first token.
    pub fn new(tokens: Vec<Placed>) -> Self {
        Self { tokens, next: 0 }
    }

    /// The line of the next token, or of the last one.
    pub fn line(&self) -> u32 {
        self.tokens
            .get(self.next)
            .or(self.tokens.last())
            .map_or(1, |placed| placed.line)
    }

    /// Where the next token begins in the text.
    pub fn begin(&self) -> usize {
        self.tokens.get(self.next).map_or(0, |placed| placed.range.0)
    }

    /// Where the last token that was taken ends in the text.
    pub fn end(&self) -> usize {
        self.next
            .checked_sub(1)
            .and_then(|last| self.tokens.get(last))
            .map_or(0, |placed| placed.range.1)
    }

    /// The next token, which stays.
    pub fn peek(&self) -> Option<&Token> {
        self.tokens.get(self.next).map(|placed| &placed.token)
    }

    /// The token after the next.
    pub fn peek_second(&self) -> Option<&Token> {
        self.tokens.get(self.next + 1).map(|placed| &placed.token)
    }

    /// Takes the next token.
    pub fn take(&mut self) -> Option<Token> {
        let token = self.peek().cloned();
        self.next += 1;
        token
    }

    /// A refusal of the next token.
    pub fn unexpected<T>(&self, wanted: &str) -> Result<T, Refusal> {
        let found = match self.peek() {
            None => "the end".to_string(),
            Some(Token::Word(word)) => format!("`{word}`"),
            Some(Token::Mark(mark)) => format!("`{mark}`"),
            Some(Token::Integer(value)) => format!("{value}"),
            Some(token) => format!("{token:?}"),
        };
        Err(Refusal::new(self.line(), format!("{wanted} is expected, not {found}")))
    }

    /// Whether the next token is this mark.
    pub fn is(&self, mark: &str) -> bool {
        matches!(self.peek(), Some(Token::Mark(m)) if *m == mark)
    }

    /// Takes this mark if it is next.
    pub fn eat(&mut self, mark: &str) -> bool {
        let there = self.is(mark);
        self.next += usize::from(there);
        there
    }

    /// Takes this mark, or refuses what is there.
    pub fn expect(&mut self, mark: &str) -> Result<(), Refusal> {
        if self.eat(mark) {
            Ok(())
        } else {
            self.unexpected(&format!("`{mark}`"))
        }
    }

    /// Takes a word.
    pub fn word(&mut self) -> Result<String, Refusal> {
        match self.peek() {
            Some(Token::Word(word)) => {
                let word = word.clone();
                self.next += 1;
                Ok(word)
            }
            _ => self.unexpected("a name"),
        }
    }

    /// Takes a constant expression.
    pub fn constant(&mut self) -> Result<i64, Refusal> {
        let condition = self.binary(0)?;
        if !self.eat("?") {
            return Ok(condition);
        }
        let yes = self.constant()?;
        self.expect(":")?;
        let no = self.constant()?;
        Ok(if condition != 0 { yes } else { no })
    }

    /// Takes a plain integer: what the assembler wants for sizes and counts.
    pub fn count(&mut self) -> Result<usize, Refusal> {
        match self.peek() {
            Some(Token::Integer(value)) => {
                let value = usize::try_from(*value).unwrap_or(usize::MAX);
                self.next += 1;
                Ok(value)
            }
            _ => self.unexpected("a plain integer"),
        }
    }

    /// Takes `+` and a constant, what is added to a name, if anything is. The assembler knows no `-` there.
    pub fn added(&mut self) -> Result<i64, Refusal> {
        if self.eat("+") {
            self.constant()
        } else {
            Ok(0)
        }
    }

    fn binary(&mut self, level: usize) -> Result<i64, Refusal> {
        let Some(marks) = LEVELS.get(level) else {
            return self.unary();
        };
        let mut left = self.binary(level + 1)?;
        while let Some(mark) = marks.iter().find(|mark| self.is(mark)) {
            let line = self.line();
            self.next += 1;
            let right = self.binary(level + 1)?;
            left = apply(mark, left, right).ok_or_else(|| Refusal::new(line, "division by zero"))?;
        }
        Ok(left)
    }

    fn unary(&mut self) -> Result<i64, Refusal> {
        for (mark, apply) in [
            ("-", (|v| v.wrapping_neg()) as fn(i64) -> i64),
            ("+", |v| v),
            ("~", |v| !v),
            ("!", |v| i64::from(v == 0)),
        ] {
            if self.eat(mark) {
                return Ok(apply(self.unary()?));
            }
        }
        if self.eat("(") {
            let value = self.constant()?;
            self.expect(")")?;
            return Ok(value);
        }
        match self.peek() {
            Some(Token::Integer(value)) => {
                let value = *value;
                self.next += 1;
                Ok(value)
            }
            Some(Token::Word(word)) if word == "WARP_SZ" => {
                self.next += 1;
                Ok(32)
            }
            _ => self.unexpected("a constant"),
        }
    }
}

/// Operators from the loosest to the tightest.
const LEVELS: [&[&str]; 10] = [
    &["||"],
    &["&&"],
    &["|"],
    &["^"],
    &["&"],
    &["==", "!="],
    &["<=", ">=", "<", ">"],
    &["<<", ">>"],
    &["+", "-"],
    &["*", "/", "%"],
];

fn apply(mark: &str, a: i64, b: i64) -> Option<i64> {
    let shift = u32::try_from(b).ok().filter(|b| *b < 64);
    Some(match mark {
        "||" => i64::from(a != 0 || b != 0),
        "&&" => i64::from(a != 0 && b != 0),
        "|" => a | b,
        "^" => a ^ b,
        "&" => a & b,
        "==" => i64::from(a == b),
        "!=" => i64::from(a != b),
        "<=" => i64::from(a <= b),
        ">=" => i64::from(a >= b),
        "<" => i64::from(a < b),
        ">" => i64::from(a > b),
        "<<" => shift.map_or(0, |b| a << b),
        ">>" => shift.map_or(0, |b| a >> b),
        "+" => a.wrapping_add(b),
        "-" => a.wrapping_sub(b),
        "*" => a.wrapping_mul(b),
        "/" => a.checked_div(b)?,
        _ => a.checked_rem(b)?,
    })
}
