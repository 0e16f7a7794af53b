//! A kernel ready to run, and how it is made of its tree.

use std::collections::HashMap;

use super::builder::Builder;
use crate::op::{Op, Slot, Step};
use crate::ptx::tree::{Entry, Item, Limits, Module, Operand, Place, Variable};
use crate::ptx::Refusal;

/// A register that says where a thread is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Special {
    /// The thread in its block, along an axis.
    Thread(u8),
    /// Threads of a block, along an axis.
    Threads(u8),
    /// The block, along an axis.
    Block(u8),
    /// Blocks, along an axis.
    Blocks(u8),
    /// The lane.
    Lane,
    /// The warp in its block.
    Warp,
    /// Warps of a block.
    Warps,
    /// The block in its cluster, along x.
    ClusterBlock,
    /// Blocks of a cluster, along x.
    ClusterBlocks,
    /// The cluster, along an axis.
    Cluster(u8),
    /// Clusters, along an axis.
    Clusters(u8),
    /// Lanes below.
    Below,
    /// Lanes up to and with this.
    UpTo,
    /// This lane.
    Only,
    /// Lanes above.
    Above,
    /// Lanes from this.
    From,
    /// Bytes of dynamic shared memory.
    DynamicShared,
    /// Bytes of shared memory.
    TotalShared,
    /// A multiprocessor.
    Multiprocessor,
    /// Multiprocessors.
    Multiprocessors,
}

/// An instruction as it was written.
#[derive(Debug, Clone)]
pub struct Source {
    /// Its line.
    pub line: u32,
    /// Its text.
    pub text: String,
}

/// A kernel ready to run.
#[derive(Debug)]
pub struct Kernel {
    /// Its name.
    pub name: String,
    /// Compute capability times ten that it asks for.
    pub target: u32,
    /// What it does.
    pub steps: Vec<Step>,
    /// Instructions as they were written.
    pub sources: Vec<Source>,
    /// Registers of 32 bits or fewer, by name; constants and special ones among them.
    pub words: Vec<String>,
    /// Registers of 64 bits.
    pub longs: Vec<String>,
    /// Predicates.
    pub predicates: Vec<String>,
    /// What is in registers from the beginning.
    pub constants: Vec<(Slot, u64)>,
    /// Which registers say where a thread is.
    pub specials: Vec<(Special, Slot)>,
    /// Bytes of all parameters.
    pub parameter_bytes: usize,
    /// How it may be launched.
    pub limits: Limits,
    /// Bytes of shared memory that it declares.
    pub shared_bytes: u32,
    /// Bytes of dynamic shared memory that a launch may add.
    pub dynamic_limit: u32,
}

/// Makes a kernel of its tree. `globals` says where the module's variables lie.
pub fn kernel(
    module: &Module,
    entry: &Entry,
    text: &str,
    globals: &HashMap<String, u64>,
    dynamic_limit: u32,
) -> Result<Kernel, Refusal> {
    let mut builder = Builder::new(entry.line, text);
    builder.declare_module(module, entry, globals)?;
    builder.items(&entry.body)?;
    // A thread that runs past the last instruction is done.
    builder.emit(Op::Exit);
    let mut kernel = builder.finish()?;
    kernel.name.clone_from(&entry.name);
    kernel.target = module.target;
    kernel.limits = entry.limits.clone();
    kernel.dynamic_limit = dynamic_limit;
    Ok(kernel)
}

/// A line without its comment and the blanks around it.
pub fn code_of(line: &str) -> String {
    line.split("//").next().unwrap_or("").trim().to_string()
}

/// Names of everything that the items mention, to know which of the module's variables a kernel uses.
pub fn mentioned(items: &[Item], out: &mut Vec<String>) {
    for item in items {
        match item {
            Item::Scope(items) => mentioned(items, out),
            Item::Instruction(instruction) => {
                for operand in &instruction.operands {
                    if let Operand::Name(name, _) | Operand::Memory(Some(name), _) = operand {
                        out.push(name.clone());
                    }
                }
            }
            _ => {}
        }
    }
}

/// Whether a variable is shared memory whose size the launch gives.
pub fn dynamic(variable: &Variable) -> bool {
    variable.place == Place::Shared && variable.bytes.is_none()
}
