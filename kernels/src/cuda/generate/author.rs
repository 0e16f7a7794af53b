//! The program of one block, step by step.
//!
//! How the work is shared out: keys of an attention to latents or memory by ranges, heads of the attention of bins to bins,
//! hidden channels of the feed-forward layer, units of head and feedback encoder. What is small is computed by every block
//! alike. A bin has one meeting a layer for each attention to latents or memory, two for sums, and one for the encoder.

use super::super::driver::{Address, Driver};
use super::super::program::{Attending, Emitting, Instruction, Place, Step, Target};
use super::super::storage::{CudaLinear, CudaTensor, Slice};
use super::super::CudaBackend;
use super::feedback::FeedbackSizes;
use super::BLOCKS;
use crate::backend::Norm;
use crate::generation::{GeneratedAttention, GeneratedLayer, GeneratedMemoryAttention, Generation};

/// Part `rank` of `total` things in shares of a multiple of `step`.
pub(super) fn share(total: usize, step: usize, rank: usize) -> (usize, usize) {
    let each = total.div_ceil(BLOCKS).next_multiple_of(step);
    let first = (rank * each).min(total);
    (first, each.min(total - first))
}

/// Sizes.
#[derive(Clone, Copy)]
pub(super) struct Sizes {
    pub(super) dim: usize,
    pub(super) bins: usize,
    pub(super) units: usize,
    /// W of the attentions to latents and memory.
    pub(super) cross: usize,
    pub(super) cross_head: usize,
    pub(super) own_head: usize,
    /// 4D.
    pub(super) hidden: usize,
    pub(super) feedback: FeedbackSizes,
}

/// Places in a block's shared memory.
#[derive(Clone, Copy)]
pub(super) struct Layout {
    pub(super) x: Place,
    pub(super) query: Place,
    pub(super) attended: Place,
    pub(super) gated: Place,
    pub(super) half: Place,
    pub(super) head_bin: Place,
    pub(super) code: [Place; 2],
    pub(super) counts: Place,
    pub(super) raw: Place,
    pub(super) queries: Place,
    pub(super) tokens: Place,
}

/// Device memory of all blocks.
pub(super) struct Workspace {
    /// What blocks tell each other, in turns, so that nobody overwrites what another still reads.
    pub(super) exchange: [Address; 2],
    pub(super) block_bytes: usize,
    /// Of each layer: keys and values of the memory, `[T·K, 2W]`; empty without a memory.
    pub(super) memory: Vec<Address>,
    /// Of each layer and block: queries, keys and values of its heads, `[T, 3 · heads · Dh]`.
    pub(super) own: Vec<Vec<Address>>,
    /// Of each block: what the encoder keeps of its units, as many rows.
    pub(super) units: Vec<Address>,
    /// `[K, D]`: tokens of the first bin.
    pub(super) zeros: Address,
    /// A single one.
    pub(super) one: Address,
}

/// Makes the program of one block.
pub(super) struct Author<'a, 'g, D: Driver> {
    pub(super) args: &'a Generation<'g, CudaBackend<D>>,
    pub(super) sizes: Sizes,
    pub(super) layout: Layout,
    pub(super) workspace: &'a Workspace,
    pub(super) rank: usize,
    /// Meetings so far.
    pub(super) meetings: usize,
    pub(super) program: Vec<Instruction>,
}

fn norm(norm: Norm<'_, CudaTensor>) -> Option<(Address, Address)> {
    Some((Slice::of_tensor(norm.gain).address, Slice::of_tensor(norm.bias).address))
}

/// All of a layer on one row that lies at `from`, to `target`.
pub(super) fn whole(layer: &CudaLinear, from: Place, target: Target) -> Step<'_> {
    Step {
        layer,
        first: 0,
        run: layer.outputs,
        runs: 1,
        next: 0,
        col: 0,
        cols: layer.inputs,
        m: 1,
        from,
        from_pitch: 4 * layer.inputs,
        norm: None,
        bias: true,
        target,
        pitch: 4 * layer.outputs,
        target_next: 0,
        addend: None,
        turn: None,
        gate: None,
        gelu: false,
        accumulate: false,
    }
}

/// What scores of heads of so many channels are multiplied with.
pub(super) fn scale(head_dim: usize) -> f32 {
    1.0 / (head_dim as f32).sqrt()
}

/// Rows `first .. first + count`.
pub(super) fn rows(slice: Slice, first: usize, count: usize) -> Slice {
    Slice {
        address: slice.address + 4 * (first * slice.stride) as u64,
        rows: count,
        ..slice
    }
}

impl<D: Driver> Author<'_, '_, D> {
    pub(super) fn push(&mut self, step: Step<'_>) {
        self.program.push(Instruction::product(&step));
    }

    /// Where this block writes for the next meeting, and where the first block does.
    fn exchange(&self) -> (Address, Address) {
        let base = self.workspace.exchange[self.meetings % 2];
        (base + (self.rank * self.workspace.block_bytes) as u64, base)
    }

    /// `to` = what all blocks attended, each to its share of the keys.
    pub(super) fn attend_shared(&mut self, to: Place, attending: Attending) {
        let (mine, all) = self.exchange();
        self.program.push(Instruction::attend(&Attending {
            target: Target::Device(mine),
            ..attending
        }));
        let (combinations, head_dim) = (attending.combinations, attending.head_dim);
        let bytes = self.workspace.block_bytes;
        self.program
            .push(Instruction::combine(to, combinations, head_dim, all, bytes, BLOCKS));
        self.meetings += 1;
    }

    /// `x +=` the sum over blocks of a layer on the columns that each has, and its bias.
    fn add_shared(&mut self, layer: &CudaLinear, col: usize, cols: usize, from: Place, gate: Option<usize>) {
        let (mine, all) = self.exchange();
        self.push(Step {
            col,
            cols,
            from_pitch: 4 * cols,
            bias: false,
            gate,
            ..whole(layer, from, Target::Device(mine))
        });
        let bias = layer.bias.as_ref().map(|bias| bias.address);
        let (x, bytes) = (self.layout.x, self.workspace.block_bytes);
        self.program
            .push(Instruction::sum(x, self.sizes.dim, all, bytes, BLOCKS, bias));
        self.meetings += 1;
    }

    /// Attention of the bin to `count` rows of keys and values next to each other, `[.., 2W]`.
    fn attend_to(
        &mut self,
        attention: &GeneratedAttention<'_, CudaBackend<D>>,
        turn: Address,
        table: Address,
        stride: usize,
        count: usize,
    ) {
        let Layout { x, query, attended, .. } = self.layout;
        let sizes = self.sizes;
        self.push(Step {
            norm: norm(attention.norm),
            turn: Some((turn, sizes.cross_head, 0, sizes.cross)),
            ..whole(attention.to_q, x, Target::Shared(query))
        });
        let (first, mine) = share(count, 1, self.rank);
        let keys_pitch = 4 * stride;
        let keys = table + (first * keys_pitch) as u64;
        self.attend_shared(
            attended,
            Attending {
                query,
                query_from: None,
                combinations: self.args.cross_heads,
                heads: self.args.cross_heads,
                key_dim: sizes.cross_head,
                head_dim: sizes.cross_head,
                scale: scale(sizes.cross_head),
                keys,
                keys_pitch,
                values: keys + 4 * sizes.cross as u64,
                values_pitch: keys_pitch,
                count: mine,
                target: Target::Shared(attended),
            },
        );
        self.push(Step {
            accumulate: true,
            ..whole(attention.to_out, attended, Target::Shared(x))
        });
    }

    /// Keys and values of bin `t`'s tokens, this block's channels of them.
    fn remember(&mut self, t: usize, index: usize, memory: &GeneratedMemoryAttention<'_, CudaBackend<D>>) {
        let sizes = self.sizes;
        let (first, mine) = share(sizes.cross, 2, self.rank);
        let pitch = 8 * sizes.cross;
        let slot = t * sizes.feedback.tokens;
        let to = self.workspace.memory[index] + (slot * pitch + 4 * first) as u64;
        let both = Step {
            first,
            run: mine,
            runs: 2,
            next: sizes.cross,
            m: sizes.feedback.tokens,
            norm: norm(memory.norm),
            pitch,
            target_next: sizes.cross,
            turn: Some((memory.slots.row_address(slot), sizes.cross_head, first, mine)),
            ..whole(memory.to_kv, self.layout.tokens, Target::Device(to))
        };
        if t > 0 || !memory.local {
            self.push(both);
            return;
        }
        // A product over no columns: the first local slot has no keys.
        self.push(Step {
            runs: 1,
            cols: 0,
            bias: false,
            turn: None,
            ..both
        });
        self.push(Step {
            first: sizes.cross + first,
            runs: 1,
            turn: None,
            target: Target::Device(to + 4 * sizes.cross as u64),
            ..both
        });
    }

    fn layer(&mut self, t: usize, index: usize, layer: &GeneratedLayer<'_, CudaBackend<D>>) {
        let sizes = self.sizes;
        let turn = self.args.bins.row_address(t);
        let latents = Slice::of(layer.latents);
        self.attend_to(&layer.cross, turn, latents.address, latents.stride, latents.rows);

        if let Some(memory) = &layer.memory {
            let tokens = sizes.feedback.tokens;
            let first = if memory.local { t * tokens } else { 0 };
            let table = self.workspace.memory[index] + (first * 8 * sizes.cross) as u64;
            self.attend_to(&memory.query, turn, table, 2 * sizes.cross, (t + 1) * tokens - first);
        }

        let (head, heads) = share(self.args.self_heads, 1, self.rank);
        let width = heads * sizes.own_head;
        let all = self.args.self_heads * sizes.own_head;
        let cache = self.workspace.own[index][self.rank];
        let row = cache + (t * 12 * width) as u64;
        let Layout {
            x,
            query,
            attended,
            gated,
            ..
        } = self.layout;
        self.push(Step {
            first: head * sizes.own_head,
            run: width,
            runs: 3,
            next: all,
            norm: norm(layer.own_norm),
            target_next: width,
            pitch: 12 * width,
            turn: Some((turn, sizes.own_head, 0, 2 * width)),
            ..whole(layer.own_to_qkv, x, Target::Device(row))
        });
        self.program.push(Instruction::attend(&Attending {
            query,
            query_from: Some(row),
            combinations: heads,
            heads: heads.max(1),
            key_dim: sizes.own_head,
            head_dim: sizes.own_head,
            scale: scale(sizes.own_head),
            keys: cache + 4 * width as u64,
            keys_pitch: 12 * width,
            values: cache + 8 * width as u64,
            values_pitch: 12 * width,
            count: t + 1,
            target: Target::Shared(attended),
        }));
        self.add_shared(layer.own_to_out, head * sizes.own_head, width, attended, None);

        let (channel, channels) = share(sizes.hidden, 8, self.rank);
        self.push(Step {
            first: channel,
            run: channels,
            runs: 2,
            next: sizes.hidden,
            norm: norm(layer.gate_norm),
            target_next: channels,
            ..whole(layer.gate, x, Target::Shared(gated))
        });
        self.add_shared(layer.down, channel, channels, gated, Some(4 * channels));
    }

    fn head(&mut self, t: usize, log_rates: Slice) {
        let head = &self.args.head;
        let Layout {
            x,
            half,
            head_bin,
            code,
            raw,
            ..
        } = self.layout;
        let (first, mine) = share(self.sizes.units, 1, self.rank);
        self.push(whole(head.bin_proj, x, Target::Shared(half)));
        self.push(whole(head.from_bin, half, Target::Shared(head_bin)));
        let table = rows(Slice::of(head.units), first, mine);
        self.program.push(Instruction::outer(code[0], head_bin, table));
        self.push(Step {
            m: mine,
            gelu: true,
            ..whole(head.hidden, code[0], Target::Shared(code[1]))
        });
        self.push(Step {
            m: mine,
            ..whole(head.output, code[1], Target::Shared(raw))
        });
        let history = self.args.history.as_ref().map(|history| {
            let left = rows(Slice::of(history.bins), t, 1).address;
            (left, rows(Slice::of(history.units), first, mine))
        });
        let (counts, logarithm) = self.counts_wanted();
        self.program.push(Instruction::emit(&Emitting {
            raw,
            units: mine,
            log_rates: rows(log_rates, t * self.sizes.units + first, mine).address,
            counts,
            logarithm,
            history,
            limit: self.args.limit,
        }));
    }

    pub(super) fn write(mut self, log_rates: Slice) -> Vec<Instruction> {
        let (sizes, x) = (self.sizes, self.layout.x);
        self.begin_feedback();
        for t in 0..sizes.bins {
            if t > 0 {
                self.encode_counts();
            }
            // An encoder without tokens left in x what is added to the query.
            let accumulate = t > 0 && sizes.feedback.tokens == 0;
            let query = rows(Slice::of(self.args.queries), t, 1);
            self.program
                .push(Instruction::load(x, sizes.dim, query.address, accumulate));
            for index in 0..self.args.layers {
                let layer = (self.args.layer)(index);
                if let Some(memory) = &layer.memory {
                    self.remember(t, index, memory);
                }
                self.layer(t, index, &layer);
            }
            self.head(t, log_rates);
        }
        self.program.push(Instruction::END);
        self.program
    }
}
