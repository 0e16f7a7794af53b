//! What a warp does in one step: instructions, decoded.

use crate::lanes::convert::Conversion;
use crate::lanes::{Longs, Words};

/// The place of a register in the file of its kind. Constants and special registers have places too.
pub type Reg = u16;

/// Runs only the lanes whose predicate is true, or false if `negate`.
#[derive(Debug, Clone, Copy)]
pub struct Guard {
    /// The predicate.
    pub predicate: Reg,
    /// Whether it must be false.
    pub negate: bool,
}

/// A step, on what it depends, and where it came from.
#[derive(Debug, Clone)]
pub struct Step {
    /// What is done.
    pub op: Op,
    /// By which lanes.
    pub guard: Option<Guard>,
    /// Index of the instruction among the kernel's, for messages.
    pub source: u32,
}

/// A register of 32 bits or fewer, or one of 64.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Slot {
    /// 32 bits or fewer.
    Word(Reg),
    /// 64 bits.
    Long(Reg),
}

/// The part of an address that is not constant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Base {
    /// None.
    Zero,
    /// A register.
    Slot(Slot),
}

/// An address: a register and a distance.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    /// The register.
    pub base: Base,
    /// The distance.
    pub offset: i64,
}

/// A space of memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Space {
    /// Of the device: global and constant memory.
    Global,
    /// Of a block, or with an address by `mapa` of another block of the cluster.
    Shared,
}

/// How an access takes part in the search for races.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Manner {
    /// Must be separated from others by barriers.
    Plain,
    /// Relaxed or volatile: may meet others of its like.
    Atomic,
    /// The same, and what others released is visible after it.
    Acquire,
}

/// A load or a store.
#[derive(Debug, Clone)]
pub struct Access {
    /// Where.
    pub space: Space,
    /// Where in it.
    pub place: Place,
    /// Bytes of an element.
    pub width: u8,
    /// Elements.
    pub count: u8,
    /// Whether a narrow value is extended by its sign, and to how many bits of the register (16, 32 or 64).
    pub extend: Option<u8>,
    /// What is loaded or stored.
    pub slots: [Slot; 4],
    /// How.
    pub manner: Manner,
}

/// What an atomic instruction makes of the old value and its operand.
pub type Combine = fn(u64, u64) -> u64;

/// What an atomic instruction does.
#[derive(Debug, Clone, Copy)]
pub enum Atomic {
    /// A function of the old value and an operand.
    Combine(Combine),
    /// The second operand if the old value equals the first.
    CompareAndSwap,
}

/// `atom` or `red`.
#[derive(Debug, Clone)]
pub struct AtomicAccess {
    /// Where.
    pub space: Space,
    /// Where in it.
    pub place: Place,
    /// Bytes.
    pub width: u8,
    /// What.
    pub atomic: Atomic,
    /// The old value goes here.
    pub destination: Option<Slot>,
    /// Operands; the second only of compare and swap.
    pub operands: [Slot; 2],
    /// Whether what others released is visible after it.
    pub acquire: bool,
}

/// How a shuffle finds the lane that it reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shuffle {
    /// A lower lane.
    Up,
    /// A higher lane.
    Down,
    /// By exclusive or.
    Butterfly,
    /// By number.
    Index,
}

/// What a vote tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Vote {
    /// Whether it is true of any lane.
    Any,
    /// Whether it is true of all.
    All,
    /// Whether it is the same of all.
    Uniform,
    /// Of which lanes it is true.
    Ballot,
}

/// What is made of two predicates.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Logic {
    /// The second is not looked at.
    First,
    /// Both.
    And,
    /// Either.
    Or,
    /// One.
    Xor,
}

impl Logic {
    /// The result for all lanes.
    pub fn of(self, a: u32, b: u32) -> u32 {
        match self {
            Self::First => a,
            Self::And => a & b,
            Self::Or => a | b,
            Self::Xor => a ^ b,
        }
    }
}

/// Where the result of a comparison goes.
#[derive(Debug, Clone, Copy)]
pub struct Verdict {
    /// The result, combined with `other`.
    pub yes: Reg,
    /// The opposite of the comparison, combined with `other`.
    pub no: Option<Reg>,
    /// How.
    pub logic: Logic,
    /// A predicate, read only if `logic` looks at it.
    pub other: Reg,
    /// Whether its opposite is meant.
    pub negate: bool,
}

/// Elements of the matrices of `mma`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Element {
    /// 16-bit floats.
    Half,
    /// 16-bit floats with the exponents of 32-bit ones.
    Brain,
    /// 32-bit floats, of which 19 bits count.
    Tensor,
}

/// `mma` of 16 rows and 8 columns.
#[derive(Debug, Clone)]
pub struct Multiply {
    /// What the factors hold.
    pub element: Element,
    /// Depth: 8 or 16.
    pub depth: u8,
    /// The sums.
    pub d: [Reg; 4],
    /// The left factor; two registers if its depth is 8 halves.
    pub a: [Reg; 4],
    /// The right factor; one register if its depth is 8 halves.
    pub b: [Reg; 2],
    /// What is added.
    pub c: [Reg; 4],
}

/// `cp.async`.
#[derive(Debug, Clone)]
pub struct AsyncCopy {
    /// To shared memory.
    pub to: Place,
    /// From global memory.
    pub from: Place,
    /// Bytes: 4, 8 or 16.
    pub bytes: u8,
    /// How many of them are read; the rest are zeros.
    pub read: Option<Reg>,
}

/// A step. `Word` operations are on registers of 32 bits or fewer, `Long` ones on those of 64.
#[derive(Debug, Clone)]
pub enum Op {
    /// Of one word.
    Word1(fn(&Words) -> Words, Reg, Reg),
    /// Of two words.
    Word2(fn(&Words, &Words) -> Words, Reg, [Reg; 2]),
    /// Of three words.
    Word3(fn(&Words, &Words, &Words) -> Words, Reg, [Reg; 3]),
    /// Of four words.
    Word4(fn(&Words, &Words, &Words, &Words) -> Words, Reg, [Reg; 4]),
    /// Of one long.
    Long1(fn(&Longs) -> Longs, Reg, Reg),
    /// Of two longs.
    Long2(fn(&Longs, &Longs) -> Longs, Reg, [Reg; 2]),
    /// Of three longs.
    Long3(fn(&Longs, &Longs, &Longs) -> Longs, Reg, [Reg; 3]),
    /// A word to a long.
    Widen1(fn(&Words) -> Longs, Reg, Reg),
    /// Two words to a long.
    Widen2(fn(&Words, &Words) -> Longs, Reg, [Reg; 2]),
    /// Two words and a long to a long.
    Widen3(fn(&Words, &Words, &Longs) -> Longs, Reg, [Reg; 3]),
    /// A long to a word.
    Narrow1(fn(&Longs) -> Words, Reg, Reg),
    /// A long by a word.
    Shift(fn(&Longs, &Words) -> Longs, Reg, [Reg; 2]),
    /// A long by two words.
    Field(fn(&Longs, &Words, &Words) -> Longs, Reg, [Reg; 3]),
    /// Two longs by two words.
    Insert(fn(&Longs, &Longs, &Words, &Words) -> Longs, Reg, [Reg; 4]),
    /// A comparison of two words (or of one with itself).
    WordTest(fn(&Words, &Words) -> u32, Verdict, [Reg; 2]),
    /// A comparison of two longs (or of one with itself).
    LongTest(fn(&Longs, &Longs) -> u32, Verdict, [Reg; 2]),
    /// One of two words by a predicate.
    WordSelect(Reg, [Reg; 2], Reg),
    /// One of two longs by a predicate.
    LongSelect(Reg, [Reg; 2], Reg),
    /// Of predicates, each reversed if so said.
    Logic(Logic, Reg, [(Reg, bool); 2]),
    /// A conversion that is not one of the usual: result, source.
    Convert(Box<Conversion>, Slot, Slot),
    /// The clock, in words or longs.
    Clock(Slot),
    /// A parameter: where it begins, and what it is.
    Parameter(u16, u8, Option<u8>, Slot),
    /// `ld`.
    Load(Box<Access>),
    /// `st`.
    Store(Box<Access>),
    /// `atom` and `red`.
    Atomic(Box<AtomicAccess>),
    /// `prefetch`.
    Prefetch(Place),
    /// `cp.async`.
    AsyncCopy(Box<AsyncCopy>),
    /// `cp.async.commit_group`.
    Commit,
    /// `cp.async.wait_group`: all but so many groups are complete.
    WaitGroup(u32),
    /// `cp.async.wait_all`.
    WaitAll,
    /// To a step. Whether all lanes must go the same way.
    Branch(u32, bool),
    /// The thread is done.
    Exit,
    /// The kernel fails.
    Trap,
    /// A barrier of the block: its number, and how many threads meet if not all.
    Barrier(Reg, Option<Reg>),
    /// A barrier of the lanes of a warp.
    WarpBarrier(Reg),
    /// Tells the cluster that this thread came.
    ClusterArrive,
    /// Waits until all of the cluster came.
    ClusterWait,
    /// Orders memory; whether what others released is visible after it.
    Fence(bool),
    /// Lets others run.
    Pause,
    /// Nothing that can be seen here.
    Nothing,
    /// `shfl`: destination, predicate, value, lane, clamp and segment, members.
    Shuffle(Shuffle, Reg, Option<Reg>, [Reg; 4]),
    /// `vote` with its result in a predicate, or with a ballot in a word: predicate, opposite, members.
    Vote(Vote, Reg, Reg, bool, Reg),
    /// `activemask`.
    ActiveMask(Reg),
    /// `redux`: a function of all lanes' words; members.
    Reduce(fn(u32, u32) -> u32, Reg, Reg, Reg),
    /// `ldmatrix`: so many, turned or not, to these.
    LoadMatrix(Place, u8, bool, [Reg; 4]),
    /// `mma`.
    Multiply(Box<Multiply>),
    /// `mapa`: an address of this block's shared memory, and a block of the cluster.
    MapShared(Reg, Reg, Reg),
}
