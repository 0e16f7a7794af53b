//! What a PTX text says, before names are looked up.

/// A type of PTX.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Type {
    /// A truth value.
    Pred,
    /// Bits without a meaning, so many.
    B(u32),
    /// Unsigned integer of so many bits.
    U(u32),
    /// Signed integer of so many bits.
    S(u32),
    /// Float of so many bits.
    F(u32),
    /// Two 16-bit floats in one register, the first in the low half.
    F16x2,
    /// A 32-bit float with 8 bits of significand.
    Bf16,
    /// Two of them in one register.
    Bf16x2,
    /// A 32-bit float with 11 bits of significand.
    Tf32,
}

impl Type {
    /// The type of that name, which is without a dot.
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "pred" => Self::Pred,
            "f16x2" => Self::F16x2,
            "bf16" => Self::Bf16,
            "bf16x2" => Self::Bf16x2,
            "tf32" => Self::Tf32,
            _ => {
                if !name.is_ascii() || name.is_empty() {
                    return None;
                }
                let (kind, bits) = name.split_at(1);
                let bits = match bits {
                    "8" => 8,
                    "16" => 16,
                    "32" => 32,
                    "64" => 64,
                    _ => return None,
                };
                match kind {
                    "b" => Self::B(bits),
                    "u" => Self::U(bits),
                    "s" => Self::S(bits),
                    "f" if bits >= 16 => Self::F(bits),
                    _ => return None,
                }
            }
        })
    }

    /// Bits of a register of this type; 1 of a predicate.
    pub fn bits(self) -> u32 {
        match self {
            Self::Pred => 1,
            Self::B(bits) | Self::U(bits) | Self::S(bits) | Self::F(bits) => bits,
            Self::Bf16 => 16,
            Self::F16x2 | Self::Bf16x2 | Self::Tf32 => 32,
        }
    }

    /// Bytes in memory.
    pub fn bytes(self) -> usize {
        self.bits() as usize / 8
    }

    /// Whether it is a signed integer.
    pub fn signed(self) -> bool {
        matches!(self, Self::S(_))
    }

    /// Whether it is an integer or bits.
    pub fn integer(self) -> bool {
        matches!(self, Self::B(_) | Self::U(_) | Self::S(_))
    }
}

/// An operand of an instruction.
#[derive(Debug, Clone, PartialEq)]
pub enum Operand {
    /// A register, a variable or a label, and what is added to its address.
    Name(String, i64),
    /// The opposite of a predicate.
    Not(String),
    /// An integer.
    Integer(i64),
    /// The bits of a 32-bit float.
    Single(u32),
    /// A 64-bit float.
    Double(f64),
    /// Memory: a register or a variable, if any, and a distance in bytes.
    Memory(Option<String>, i64),
    /// Several registers or constants.
    Vector(Vec<Operand>),
    /// Two results.
    Pair(String, String),
}

/// One instruction.
#[derive(Debug, Clone)]
pub struct Instruction {
    /// Its line, from 1.
    pub line: u32,
    /// Where it begins and ends in the text.
    pub range: (usize, usize),
    /// The predicate on which it runs, and whether that must be false.
    pub guard: Option<(String, bool)>,
    /// What it does, and everything joined by dots.
    pub name: String,
    /// What it does it with.
    pub operands: Vec<Operand>,
}

/// A space of memory in which a variable is declared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// Of a block.
    Shared,
    /// Of the device.
    Global,
    /// Of the device, never written.
    Const,
}

/// A variable.
#[derive(Debug, Clone)]
pub struct Variable {
    /// Its line.
    pub line: u32,
    /// Its name.
    pub name: String,
    /// Where it lies.
    pub place: Place,
    /// Its address is a multiple of this.
    pub align: usize,
    /// Bytes; none if the launch says how many (`.extern .shared`).
    pub bytes: Option<usize>,
    /// What it holds at first, if anything is said; the rest is zeros.
    pub content: Vec<u8>,
}

/// A parameter of a kernel.
#[derive(Debug, Clone)]
pub struct Parameter {
    /// Its name.
    pub name: String,
    /// Its address is a multiple of this.
    pub align: usize,
    /// Bytes.
    pub bytes: usize,
}

/// What stands in the body of a kernel.
#[derive(Debug, Clone)]
pub enum Item {
    /// A place to branch to.
    Label(u32, String),
    /// Registers of one type: names, or a name and how many are made of it.
    Registers(u32, Type, Vec<(String, Option<u32>)>),
    /// A variable.
    Variable(Variable),
    /// An instruction.
    Instruction(Instruction),
    /// `{ … }`.
    Scope(Vec<Item>),
}

/// What a kernel says about how it may be launched.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Limits {
    /// At most so many threads.
    pub max_threads: Option<u32>,
    /// Exactly so many threads.
    pub threads: Option<u32>,
    /// Exactly so many blocks a cluster.
    pub cluster: Option<u32>,
    /// Only as clusters.
    pub explicit_cluster: bool,
}

/// A kernel.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Its line.
    pub line: u32,
    /// Its name.
    pub name: String,
    /// Its parameters.
    pub parameters: Vec<Parameter>,
    /// How it may be launched.
    pub limits: Limits,
    /// What it does.
    pub body: Vec<Item>,
}

/// A PTX text.
#[derive(Debug, Clone, Default)]
pub struct Module {
    /// Compute capability times ten of `.target`.
    pub target: u32,
    /// Variables outside of kernels.
    pub variables: Vec<Variable>,
    /// Kernels.
    pub entries: Vec<Entry>,
}
