//! Operands to registers, with their types checked.

use super::builder::Builder;
use super::kernel::Special;
use super::scope::{File, Symbol};
use crate::op::{Reg, Slot};
use crate::ptx::tree::{Operand, Type};

/// Special registers by name.
fn special(name: &str) -> Option<Special> {
    let axis = |rest: &str| match rest {
        "x" => Some(0),
        "y" => Some(1),
        "z" => Some(2),
        _ => None,
    };
    if let Some((register, rest)) = name.split_once('.') {
        let axis = axis(rest)?;
        return Some(match register {
            "%tid" => Special::Thread(axis),
            "%ntid" => Special::Threads(axis),
            "%ctaid" => Special::Block(axis),
            "%nctaid" => Special::Blocks(axis),
            "%cluster_ctaid" if axis == 0 => Special::ClusterBlock,
            "%cluster_nctaid" if axis == 0 => Special::ClusterBlocks,
            "%clusterid" => Special::Cluster(axis),
            "%nclusterid" => Special::Clusters(axis),
            _ => return None,
        });
    }
    Some(match name {
        "%laneid" => Special::Lane,
        "%warpid" => Special::Warp,
        "%nwarpid" => Special::Warps,
        "%cluster_ctarank" => Special::ClusterBlock,
        "%cluster_nctarank" => Special::ClusterBlocks,
        "%lanemask_lt" => Special::Below,
        "%lanemask_le" => Special::UpTo,
        "%lanemask_eq" => Special::Only,
        "%lanemask_gt" => Special::Above,
        "%lanemask_ge" => Special::From,
        "%dynamic_smem_size" => Special::DynamicShared,
        "%total_smem_size" => Special::TotalShared,
        "%smid" => Special::Multiprocessor,
        "%nsmid" => Special::Multiprocessors,
        _ => return None,
    })
}

/// The bits of a constant as a value of a type.
fn constant(operand: &Operand, kind: Type) -> Result<u64, String> {
    let single = kind == Type::F(32);
    match operand {
        Operand::Integer(_) if matches!(kind, Type::F(_) | Type::Bf16 | Type::Bf16x2 | Type::F16x2 | Type::Tf32) => {
            Err("an integer stands for a float".into())
        }
        Operand::Integer(value) => {
            let bits = kind.bits();
            let fits = bits == 64 || (-(1i64 << (bits - 1))..1i64 << bits).contains(value);
            if fits {
                Ok(*value as u64 & (u64::MAX >> (64 - bits)))
            } else {
                Err(format!("{value} does not fit in {bits} bits"))
            }
        }
        Operand::Single(bits) if kind.bits() == 32 => Ok(u64::from(*bits)),
        Operand::Single(bits) if kind == Type::F(64) => Ok(f64::from(f32::from_bits(*bits)).to_bits()),
        Operand::Double(value) if single => Ok(u64::from((*value as f32).to_bits())),
        Operand::Double(value) if kind.bits() == 64 => Ok(value.to_bits()),
        _ => Err(format!("{operand:?} is no constant of its type")),
    }
}

/// Whether a register that was declared with one type can stand where an instruction wants another of the same size.
fn fits(register: Type, wanted: Type) -> bool {
    let untyped = |kind| matches!(kind, Type::B(_));
    untyped(register) || untyped(wanted) || register == wanted || (register.integer() && wanted.integer())
}

impl Builder<'_> {
    /// The register of a source of this type.
    pub fn source(&mut self, operand: &Operand, kind: Type) -> Result<Slot, String> {
        let long = kind.bits() == 64;
        let Operand::Name(name, offset) = operand else {
            let value = constant(operand, kind)?;
            let reg = self.constant(long, value)?;
            return Ok(if long { Slot::Long(reg) } else { Slot::Word(reg) });
        };
        if *offset != 0 {
            return Err(format!("nothing can be added to `{name}` here"));
        }
        match self.find(name) {
            Some(Symbol::Register(_, _, declared)) if declared.bits() != kind.bits() => {
                Err(format!("`{name}` has {} bits, not {}", declared.bits(), kind.bits()))
            }
            Some(Symbol::Register(_, _, declared)) if !fits(declared, kind) => Err(format!(
                "`{name}` is declared as {declared:?}, and {kind:?} is expected"
            )),
            Some(Symbol::Register(File::Word, reg, _)) => Ok(Slot::Word(reg)),
            Some(Symbol::Register(File::Long, reg, _)) => Ok(Slot::Long(reg)),
            Some(_) => Err(format!("`{name}` cannot be used so")),
            None if special(name).is_some() => Err(format!("`{name}` can only be moved")),
            None => Err(format!("`{name}` is not declared")),
        }
    }

    /// The register of what is moved: also a special register or the address of a variable.
    pub fn moved(&mut self, operand: &Operand, kind: Type) -> Result<Slot, String> {
        let bits = kind.bits();
        let long = bits == 64;
        let slot = |reg| if long { Slot::Long(reg) } else { Slot::Word(reg) };
        let Operand::Name(name, offset) = operand else {
            return self.source(operand, kind);
        };
        match self.find(name) {
            Some(Symbol::Shared(at)) if bits >= 32 => Ok(slot(self.constant(long, (i64::from(at) + offset) as u64)?)),
            Some(Symbol::Global(at)) if long => Ok(slot(self.constant(true, at.wrapping_add(*offset as u64))?)),
            None if special(name).is_some() && *offset == 0 => match special(name) {
                Some(register) if bits >= 32 => Ok(slot(self.special(register, long)?)),
                _ => Err(format!("`{name}` has 32 bits")),
            },
            _ => self.source(operand, kind),
        }
    }

    /// The register of a source of 32 bits or fewer.
    pub fn word(&mut self, operand: &Operand, kind: Type) -> Result<Reg, String> {
        match self.source(operand, kind)? {
            Slot::Word(reg) => Ok(reg),
            Slot::Long(_) => Err("64 bits stand where fewer are expected".into()),
        }
    }

    /// The register of a source of 64 bits.
    pub fn long(&mut self, operand: &Operand, kind: Type) -> Result<Reg, String> {
        match self.source(operand, kind)? {
            Slot::Long(reg) => Ok(reg),
            Slot::Word(_) => Err("fewer than 64 bits stand where 64 are expected".into()),
        }
    }

    /// The register of a result, and how it is declared.
    pub fn result(&mut self, operand: &Operand) -> Result<(Slot, Type), String> {
        let Operand::Name(name, 0) = operand else {
            return Err("a register is expected".into());
        };
        match self.find(name) {
            Some(Symbol::Register(File::Word, reg, kind)) => Ok((Slot::Word(reg), kind)),
            Some(Symbol::Register(File::Long, reg, kind)) => Ok((Slot::Long(reg), kind)),
            Some(_) => Err(format!("`{name}` cannot be written here")),
            None => Err(format!("`{name}` is not a register that can be written")),
        }
    }

    /// The register of a result of exactly this type.
    pub fn result_of(&mut self, operand: &Operand, kind: Type) -> Result<Slot, String> {
        let bits = kind.bits();
        if *operand == Operand::Name("_".into(), 0) {
            let file = if bits == 64 { File::Long } else { File::Word };
            let reg = self.fresh(file, "_")?;
            return Ok(if bits == 64 { Slot::Long(reg) } else { Slot::Word(reg) });
        }
        let (slot, declared) = self.result(operand)?;
        if declared.bits() != bits {
            Err(format!(
                "the result has {bits} bits, and its register {}",
                declared.bits()
            ))
        } else if fits(declared, kind) {
            Ok(slot)
        } else {
            Err(format!(
                "the result is {kind:?}, and its register is declared as {declared:?}"
            ))
        }
    }

    /// The register of a result that may be wider than its type, and its bits.
    pub fn wide_result(&mut self, operand: &Operand, kind: Type) -> Result<(Slot, u32), String> {
        let (slot, declared) = self.result(operand)?;
        let wider = declared.bits() > kind.bits() && kind.integer() && declared.integer();
        if wider {
            return Ok((slot, declared.bits()));
        }
        Ok((self.result_of(operand, kind)?, kind.bits()))
    }

    /// The register of a source that may be wider than its type.
    pub fn wide_source(&mut self, operand: &Operand, kind: Type) -> Result<Slot, String> {
        match operand {
            Operand::Name(name, 0) => match self.find(name) {
                Some(Symbol::Register(_, _, declared))
                    if declared.bits() > kind.bits() && kind.integer() && declared.integer() =>
                {
                    self.source(operand, declared)
                }
                _ => self.source(operand, kind),
            },
            _ => self.source(operand, kind),
        }
    }

    /// The register of a result of 32 bits or fewer.
    pub fn word_result(&mut self, operand: &Operand, kind: Type) -> Result<Reg, String> {
        match self.result_of(operand, kind)? {
            Slot::Word(reg) => Ok(reg),
            Slot::Long(_) => Err("64 bits stand where fewer are expected".into()),
        }
    }

    /// The register of a result of 64 bits.
    pub fn long_result(&mut self, operand: &Operand, kind: Type) -> Result<Reg, String> {
        match self.result_of(operand, kind)? {
            Slot::Long(reg) => Ok(reg),
            Slot::Word(_) => Err("fewer than 64 bits stand where 64 are expected".into()),
        }
    }

    /// The predicate of this name.
    pub fn predicate_named(&mut self, name: &str) -> Result<Reg, String> {
        match self.find(name) {
            Some(Symbol::Register(File::Predicate, reg, _)) => Ok(reg),
            Some(_) => Err(format!("`{name}` is not a predicate")),
            None if name == "_" => self.fresh(File::Predicate, "_"),
            None => Err(format!("`{name}` is not declared")),
        }
    }

    /// A predicate, and whether its opposite is meant.
    pub fn predicate(&mut self, operand: &Operand) -> Result<(Reg, bool), String> {
        match operand {
            Operand::Name(name, 0) => Ok((self.predicate_named(name)?, false)),
            Operand::Not(name) => Ok((self.predicate_named(name)?, true)),
            _ => Err("a predicate is expected".into()),
        }
    }
}

/// Refuses another number of operands.
pub fn expect(operands: &[Operand], counts: std::ops::RangeInclusive<usize>) -> Result<(), String> {
    if counts.contains(&operands.len()) {
        Ok(())
    } else {
        Err(format!(
            "{} operands where {} to {} are expected",
            operands.len(),
            counts.start(),
            counts.end()
        ))
    }
}
