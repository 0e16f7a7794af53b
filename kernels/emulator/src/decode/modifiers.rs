//! The parts of an instruction's name.

use crate::ptx::tree::Type;

/// What dots join to an instruction, each to be taken once.
pub struct Modifiers<'a> {
    parts: Vec<&'a str>,
}

impl<'a> Modifiers<'a> {
    /// Of a name without its first part.
    pub fn new(parts: impl Iterator<Item = &'a str>) -> Self {
        Self { parts: parts.collect() }
    }

    /// Takes one, if it is there.
    pub fn take(&mut self, part: &str) -> bool {
        let found = self.parts.iter().position(|p| *p == part);
        if let Some(found) = found {
            self.parts.remove(found);
        }
        found.is_some()
    }

    /// Takes whichever of these is there.
    pub fn any(&mut self, parts: &[&'static str]) -> Option<&'static str> {
        parts.iter().copied().find(|part| self.take(part))
    }

    /// Takes all of these that are there.
    pub fn ignore(&mut self, parts: &[&str]) {
        self.parts.retain(|part| !parts.contains(part));
    }

    /// Takes those that must be there.
    pub fn require(&mut self, parts: &[&str]) -> Result<(), String> {
        match parts.iter().find(|part| !self.take(part)) {
            None => Ok(()),
            Some(part) => Err(format!("`.{part}` is expected")),
        }
    }

    /// Takes the first type.
    pub fn kind(&mut self) -> Result<Type, String> {
        let found = self.parts.iter().position(|part| Type::named(part).is_some());
        let part = found.map(|found| self.parts.remove(found));
        part.and_then(Type::named)
            .ok_or_else(|| "a type is expected".to_string())
    }

    /// Takes the first.
    pub fn first(&mut self) -> Option<&'a str> {
        if self.parts.is_empty() {
            None
        } else {
            Some(self.parts.remove(0))
        }
    }

    /// Refuses what has not been taken.
    pub fn done(&self) -> Result<(), String> {
        match self.parts.first() {
            None => Ok(()),
            Some(part) => Err(format!("`.{part}` is not known of it")),
        }
    }
}
