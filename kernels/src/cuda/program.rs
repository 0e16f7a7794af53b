//! Instructions of the machine in `ptx/decode.ptx`, and the shared memory that they address.

use super::driver::Address;
use super::storage::{CudaLinear, Slice};

/// Words of an instruction.
pub(super) const WORDS: usize = 32;

/// One instruction.
#[derive(Debug, Clone, Copy)]
pub(super) struct Instruction([u32; WORDS]);

const LOAD: u32 = 1;
const PRODUCT: u32 = 2;
const ATTEND: u32 = 3;
const COMBINE: u32 = 4;
const SUM: u32 = 5;
const OUTER: u32 = 6;
const EMIT: u32 = 7;

/// Bytes from the beginning of dynamic shared memory.
pub(super) type Place = u32;

/// Where a result goes.
#[derive(Debug, Clone, Copy)]
pub(super) enum Target {
    /// Shared memory.
    Shared(Place),
    /// Device memory.
    Device(Address),
}

/// `dst[m, o] (+)= f(Σ_k a[m, k] W[o, k] + bias[o] + addend[m, o])` of some rows and columns of a linear layer.
#[derive(Debug, Clone, Copy)]
pub(super) struct Step<'a> {
    pub(super) layer: &'a CudaLinear,
    /// Rows of the layer: runs of `run` of them, the first of each `next` after the one before.
    pub(super) first: usize,
    pub(super) run: usize,
    pub(super) runs: usize,
    pub(super) next: usize,
    /// Columns of the layer.
    pub(super) col: usize,
    pub(super) cols: usize,
    pub(super) m: usize,
    pub(super) from: Place,
    /// Bytes.
    pub(super) from_pitch: usize,
    /// Gain and bias of the norm.
    pub(super) norm: Option<(Address, Address)>,
    pub(super) bias: bool,
    pub(super) target: Target,
    /// Bytes.
    pub(super) pitch: usize,
    /// Elements from one run to the next.
    pub(super) target_next: usize,
    pub(super) addend: Option<Slice>,
    /// Angles, channels a head, channel of the first row, and how many of the first rows are turned.
    pub(super) turn: Option<(Address, usize, usize, usize)>,
    /// Bytes from a value of the input to its gate.
    pub(super) gate: Option<usize>,
    pub(super) gelu: bool,
    pub(super) accumulate: bool,
}

/// What an attention reads, and its shape.
#[derive(Debug, Clone, Copy)]
pub(super) struct Attending {
    pub(super) query: Place,
    /// The query is first read from here.
    pub(super) query_from: Option<Address>,
    /// Of query and head.
    pub(super) combinations: usize,
    pub(super) heads: usize,
    /// Channels of a head in query and keys; without any, every key has the same weight.
    pub(super) key_dim: usize,
    /// Channels of a head in the values.
    pub(super) head_dim: usize,
    /// What scores are multiplied with before the softmax.
    pub(super) scale: f32,
    pub(super) keys: Address,
    /// Bytes from key to key.
    pub(super) keys_pitch: usize,
    pub(super) values: Address,
    /// Bytes.
    pub(super) values_pitch: usize,
    pub(super) count: usize,
    pub(super) target: Target,
}

/// The units of a block, for the last instruction of a bin.
#[derive(Debug, Clone, Copy)]
pub(super) struct Emitting {
    pub(super) raw: Place,
    pub(super) units: usize,
    pub(super) log_rates: Address,
    /// Where the expected counts go.
    pub(super) counts: Target,
    /// ln(1 + count) goes there instead.
    pub(super) logarithm: bool,
    /// Left row and right rows.
    pub(super) history: Option<(Address, Slice)>,
    pub(super) limit: f32,
}

fn word(value: usize) -> u32 {
    u32::try_from(value).expect("what an instruction addresses is below 2³²")
}

impl Instruction {
    /// The last one.
    pub(super) const END: Instruction = Instruction([0; WORDS]);

    fn new(op: u32) -> Self {
        let mut words = [0; WORDS];
        words[0] = op;
        Instruction(words)
    }

    fn set(mut self, at: usize, value: usize) -> Self {
        self.0[at] = word(value);
        self
    }

    fn address(mut self, at: usize, value: Address) -> Self {
        self.0[at] = value as u32;
        self.0[at + 1] = (value >> 32) as u32;
        self
    }

    fn target(self, at: usize, target: Target) -> Self {
        match target {
            Target::Shared(place) => self.set(at, place as usize),
            Target::Device(address) => self.address(at, address),
        }
    }

    /// `to[i] (+)= from[i]`.
    pub(super) fn load(to: Place, count: usize, from: Address, accumulate: bool) -> Self {
        Self::new(LOAD)
            .set(2, to as usize)
            .set(3, count)
            .address(4, from)
            .set(6, usize::from(accumulate))
    }

    /// See [`Step`].
    pub(super) fn product(step: &Step<'_>) -> Self {
        let row = |rows: usize| step.layer.weight.address + 2 * (rows * step.layer.stride + step.col) as u64;
        let bias = step.layer.bias.as_ref().filter(|_| step.bias);
        let (gain, norm_bias) = step.norm.unwrap_or((0, 0));
        let (turn, head_dim, channel, turned) = step.turn.unwrap_or((0, 1, 0, 0));
        let mut flags = 0;
        for (flag, set) in [
            (1, step.gate.is_some()),
            (2, step.gelu),
            (4, step.accumulate),
            (8, matches!(step.target, Target::Device(_))),
        ] {
            flags |= if set { flag } else { 0 };
        }
        Self::new(PRODUCT)
            .set(1, flags)
            .address(2, row(step.first))
            .set(4, step.layer.stride)
            .set(5, step.run * step.runs)
            .set(6, step.cols)
            .set(7, step.m)
            .set(8, step.from as usize)
            .set(9, step.from_pitch)
            .address(10, bias.map_or(0, |bias| bias.address + 4 * step.first as u64))
            .address(12, gain)
            .address(14, norm_bias)
            .target(16, step.target)
            .set(18, step.pitch)
            .address(19, step.addend.map_or(0, |addend| addend.address))
            .set(21, step.addend.map_or(0, |addend| 4 * addend.stride))
            .address(22, turn)
            .set(24, head_dim)
            .set(25, channel)
            .set(26, turned)
            .set(27, step.run)
            .set(28, step.next)
            .set(29, step.target_next)
            .set(30, step.gate.unwrap_or(0))
    }

    /// See [`Attending`].
    pub(super) fn attend(attending: &Attending) -> Self {
        let scale = std::f32::consts::LOG2_E * attending.scale;
        let inside = matches!(attending.target, Target::Shared(_));
        let flags = usize::from(attending.query_from.is_some()) | if inside { 2 } else { 0 };
        Self::new(ATTEND)
            .set(2, attending.query as usize)
            .set(3, attending.combinations)
            .set(4, attending.heads)
            .set(5, attending.head_dim)
            .address(6, attending.keys)
            .set(8, attending.keys_pitch)
            .address(9, attending.values)
            .set(11, attending.values_pitch)
            .set(12, attending.count)
            .set(13, scale.to_bits() as usize)
            .target(14, attending.target)
            .set(16, flags)
            .address(17, attending.query_from.unwrap_or(0))
            .set(19, attending.key_dim)
    }

    /// Meets, and puts together what the blocks attended.
    pub(super) fn combine(
        to: Place,
        combinations: usize,
        head_dim: usize,
        from: Address,
        block_bytes: usize,
        blocks: usize,
    ) -> Self {
        Self::new(COMBINE)
            .set(2, to as usize)
            .set(3, combinations)
            .set(4, head_dim)
            .address(5, from)
            .set(7, block_bytes)
            .set(8, blocks)
    }

    /// Meets, and adds what the blocks found and a bias.
    pub(super) fn sum(
        to: Place,
        count: usize,
        from: Address,
        block_bytes: usize,
        blocks: usize,
        bias: Option<Address>,
    ) -> Self {
        Self::new(SUM)
            .set(2, to as usize)
            .set(3, count)
            .address(4, from)
            .set(6, block_bytes)
            .set(7, blocks)
            .address(8, bias.unwrap_or(0))
    }

    /// `to[m, c] = gelu(a[c] + table[m, c])`, rows of `to` without gaps.
    pub(super) fn outer(to: Place, a: Place, table: Slice) -> Self {
        Self::new(OUTER)
            .set(2, to as usize)
            .set(3, 4 * table.cols)
            .set(4, table.rows)
            .set(5, table.cols)
            .set(6, a as usize)
            .address(7, table.address)
            .set(9, 4 * table.stride)
    }

    /// See [`Emitting`].
    pub(super) fn emit(emitting: &Emitting) -> Self {
        let (left, right) = match emitting.history {
            Some((left, right)) => (left, right),
            None => (
                0,
                Slice {
                    address: 0,
                    stride: 0,
                    rows: 0,
                    cols: 0,
                },
            ),
        };
        let outside = matches!(emitting.counts, Target::Device(_));
        let flags = usize::from(emitting.logarithm) | if outside { 2 } else { 0 };
        Self::new(EMIT)
            .set(2, emitting.raw as usize)
            .set(3, emitting.units)
            .address(4, emitting.log_rates)
            .target(6, emitting.counts)
            .address(8, left)
            .address(10, right.address)
            .set(12, 4 * right.stride)
            .set(13, right.cols)
            .set(14, emitting.limit.to_bits() as usize)
            .set(15, flags)
    }

    /// Its words.
    pub(super) fn words(&self) -> &[u32; WORDS] {
        &self.0
    }
}

/// Places in shared memory, one after another.
#[derive(Debug)]
pub(super) struct Places {
    next: usize,
}

impl Places {
    /// After `taken` bytes.
    pub(super) fn after(taken: usize) -> Self {
        Places {
            next: taken.next_multiple_of(16),
        }
    }

    /// Room for so many f32.
    pub(super) fn floats(&mut self, count: usize) -> Place {
        let place = self.next;
        self.next = (place + 4 * count).next_multiple_of(16);
        word(place)
    }

    /// Bytes taken in all.
    pub(super) fn bytes(&self) -> usize {
        self.next
    }
}
