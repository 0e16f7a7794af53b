//! PTX text to a tree: words, constant expressions, directives and instructions, all with their lines.

pub mod expression;
pub mod lexer;
pub mod operand;
pub mod parser;
pub mod tree;

/// What is wrong with a text, and on which line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Line, from 1.
    pub line: u32,
    /// What is wrong.
    pub what: String,
}

impl Refusal {
    /// A refusal of something on a line.
    pub fn new(line: u32, what: impl Into<String>) -> Self {
        Self {
            line,
            what: what.into(),
        }
    }
}
