//! What names mean.

use std::collections::HashMap;

use crate::op::Reg;
use crate::ptx::tree::Type;

/// Where a register is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum File {
    /// 32 bits or fewer.
    Word,
    /// 64 bits.
    Long,
    /// A predicate.
    Predicate,
}

/// What a name means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Symbol {
    /// A register and the type with which it is declared.
    Register(File, Reg, Type),
    /// A place in the block's shared memory.
    Shared(u32),
    /// An address on the device.
    Global(u64),
    /// Where a parameter begins, and its bytes.
    Parameter(u32, u32),
    /// A number of a label.
    Label(u32),
}

/// Names by scope, the innermost last.
#[derive(Default)]
pub struct Scopes {
    scopes: Vec<HashMap<String, Symbol>>,
}

impl Scopes {
    /// Opens a scope.
    pub fn open(&mut self) {
        self.scopes.push(HashMap::new());
    }

    /// Closes the innermost.
    pub fn close(&mut self) {
        self.scopes.pop();
    }

    /// Gives a name a meaning in the innermost scope.
    pub fn declare(&mut self, name: &str, symbol: Symbol) -> Result<(), String> {
        let scope = self.scopes.last_mut().ok_or("a name outside of all scopes")?;
        match scope.insert(name.to_string(), symbol) {
            None => Ok(()),
            Some(_) => Err(format!("`{name}` is declared twice")),
        }
    }

    /// What a name means.
    pub fn find(&self, name: &str) -> Option<Symbol> {
        self.scopes.iter().rev().find_map(|scope| scope.get(name)).copied()
    }
}
