//! The autoregressive part of a prediction as one launch: programs for the machine of `ptx/decode.ptx`.
//!
//! How the work is shared out: keys of an attention to latents or memory by ranges, heads of the attention of bins to bins,
//! hidden channels of the feed-forward layer, units of head and memory encoder. What is small is computed by every block
//! alike. A bin has two meetings a layer for attentions, two for sums, and one for the memory encoder.

use super::device::{Kernel, Shape};
use super::driver::{Address, Driver, Mapped};
use super::parameters::Parameters;
use super::program::{Attending, Emitting, Instruction, Place, Places, Step, Target, WORDS};
use super::storage::{Allocation, CudaLinear, CudaTensor, Slice};
use super::watch::Counted;
use super::CudaBackend;
use crate::backend::{Norm, View};
use crate::generation::{GeneratedAttention, GeneratedLayer, Generation};

/// Blocks that share the work: a cluster that every device with clusters can have.
const BLOCKS: usize = 8;
const THREADS: u32 = 256;

const GRID: Kernel = Kernel {
    file: "decode.ptx, meeting in the grid",
    text: include_str!("../../ptx/decode.ptx"),
    entry: "decode",
    block: THREADS,
};

/// A program that was made, and what it works in.
pub(super) struct Generator {
    programs: Allocation,
    program_bytes: usize,
    pitch: usize,
    scores: usize,
    shared: usize,
    counter: Allocation,
    heartbeat: Mapped,
    /// The device has clusters, in which the blocks meet.
    clusters: bool,
    /// What the instructions address lives as long as they do.
    _workspace: Vec<Allocation>,
}

/// Part `rank` of `total` things in shares of a multiple of `step`.
fn share(total: usize, step: usize, rank: usize) -> (usize, usize) {
    let each = total.div_ceil(BLOCKS).next_multiple_of(step);
    let first = (rank * each).min(total);
    (first, each.min(total - first))
}

/// Sizes.
#[derive(Clone, Copy)]
struct Sizes {
    dim: usize,
    bins: usize,
    units: usize,
    /// W of the attentions to latents and memory.
    cross: usize,
    cross_head: usize,
    own_head: usize,
    /// 4D.
    hidden: usize,
    /// K.
    tokens: usize,
}

/// Places in a block's shared memory.
#[derive(Clone, Copy)]
struct Layout {
    x: Place,
    query: Place,
    attended: Place,
    gated: Place,
    half: Place,
    head_bin: Place,
    code: [Place; 2],
    log_counts: Place,
    raw: Place,
    queries: Place,
    tokens: Place,
}

/// Device memory of all blocks.
struct Workspace {
    /// What blocks tell each other, in turns, so that nobody overwrites what another still reads.
    exchange: [Address; 2],
    block_bytes: usize,
    /// Of each layer: keys and values of the memory, `[T·K, 2W]`.
    memory: Vec<Address>,
    /// Of each layer and block: queries, keys and values of its heads, `[T, 3 · heads · Dh]`.
    own: Vec<Vec<Address>>,
    /// Of each block: keys and values of its units, `[units, 2D]`.
    units: Vec<Address>,
    zeros: Address,
}

/// Makes the program of one block.
struct Author<'a, 'g, D: Driver> {
    args: &'a Generation<'g, CudaBackend<D>>,
    sizes: Sizes,
    layout: Layout,
    workspace: &'a Workspace,
    rank: usize,
    /// Meetings so far.
    meetings: usize,
    program: Vec<Instruction>,
}

fn norm(norm: Norm<'_, CudaTensor>) -> Option<(Address, Address)> {
    Some((Slice::of_tensor(norm.gain).address, Slice::of_tensor(norm.bias).address))
}

/// All of a layer on one row that lies at `from`, to `target`.
fn whole(layer: &CudaLinear, from: Place, target: Target) -> Step<'_> {
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

/// Rows `first .. first + count`.
fn rows(slice: Slice, first: usize, count: usize) -> Slice {
    Slice {
        address: slice.address + 4 * (first * slice.stride) as u64,
        rows: count,
        ..slice
    }
}

impl<D: Driver> Author<'_, '_, D> {
    fn push(&mut self, step: Step<'_>) {
        self.program.push(Instruction::product(&step));
    }

    /// Where this block writes for the next meeting, and where the first block does.
    fn exchange(&self) -> (Address, Address) {
        let base = self.workspace.exchange[self.meetings % 2];
        (base + (self.rank * self.workspace.block_bytes) as u64, base)
    }

    /// `to` = what all blocks attended, each to its share of the keys.
    fn attend_shared(&mut self, to: Place, attending: Attending) {
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
        let pitch = 4 * stride;
        let keys = table + (first * pitch) as u64;
        self.attend_shared(
            attended,
            Attending {
                query,
                query_from: None,
                combinations: self.args.cross_heads,
                heads: self.args.cross_heads,
                head_dim: sizes.cross_head,
                keys,
                values: keys + 4 * sizes.cross as u64,
                pitch,
                count: mine,
                target: Target::Shared(attended),
            },
        );
        self.push(Step {
            accumulate: true,
            ..whole(attention.to_out, attended, Target::Shared(x))
        });
    }

    /// The tokens of bin `t`'s slot from the counts of the bin before.
    fn encode_counts(&mut self) {
        let memory = &self.args.memory;
        let Layout {
            code,
            log_counts,
            queries,
            attended,
            tokens,
            ..
        } = self.layout;
        let sizes = self.sizes;
        let (first, mine) = share(sizes.units, 1, self.rank);
        let [a, b] = code.map(Target::Shared);
        let every = |layer, from, target| Step {
            m: mine,
            ..whole(layer, from, target)
        };
        let unit_part = rows(Slice::of(memory.unit_part), first, mine);
        let kv = self.workspace.units[self.rank];
        let steps = [
            Step {
                gelu: true,
                ..every(memory.count_in, log_counts, a)
            },
            every(memory.count_out, code[0], b),
            Step {
                gelu: true,
                addend: Some(unit_part),
                ..every(memory.from_count, code[1], a)
            },
            every(memory.unit_out, code[0], b),
            every(memory.to_kv, code[1], Target::Device(kv)),
        ];
        for step in steps {
            self.push(step);
        }
        let attending = Attending {
            query: queries,
            query_from: None,
            combinations: sizes.tokens * memory.heads,
            heads: memory.heads,
            head_dim: sizes.dim / memory.heads,
            keys: kv,
            values: kv + 4 * sizes.dim as u64,
            pitch: 8 * sizes.dim,
            count: mine,
            target: Target::Shared(attended),
        };
        self.attend_shared(attended, attending);
        self.push(Step {
            m: sizes.tokens,
            ..whole(memory.to_out, attended, Target::Shared(tokens))
        });
    }

    /// Keys and values of bin `t`'s tokens, this block's channels of them.
    fn remember(&mut self, t: usize, index: usize, layer: &GeneratedLayer<'_, CudaBackend<D>>) {
        let sizes = self.sizes;
        let (first, mine) = share(sizes.cross, 2, self.rank);
        let pitch = 8 * sizes.cross;
        let slot = t * sizes.tokens;
        let to = self.workspace.memory[index] + (slot * pitch + 4 * first) as u64;
        let both = Step {
            first,
            run: mine,
            runs: 2,
            next: sizes.cross,
            m: sizes.tokens,
            norm: norm(layer.memory_norm),
            pitch,
            target_next: sizes.cross,
            turn: Some((self.args.slots.row_address(slot), sizes.cross_head, first, mine)),
            ..whole(layer.memory_to_kv, self.layout.tokens, Target::Device(to))
        };
        if t > 0 || !self.args.local {
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

        let first = if self.args.local { t * sizes.tokens } else { 0 };
        let table = self.workspace.memory[index] + (first * 8 * sizes.cross) as u64;
        let slots = (t + 1) * sizes.tokens - first;
        self.attend_to(&layer.memory, turn, table, 2 * sizes.cross, slots);

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
            head_dim: sizes.own_head,
            keys: cache + 4 * width as u64,
            values: cache + 8 * width as u64,
            pitch: 12 * width,
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
            log_counts,
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
        self.program.push(Instruction::emit(&Emitting {
            raw,
            units: mine,
            log_rates: rows(log_rates, t * self.sizes.units + first, mine).address,
            log_counts,
            history,
            limit: self.args.limit,
        }));
    }

    fn write(mut self, log_rates: Slice) -> Vec<Instruction> {
        let sizes = self.sizes;
        let count = sizes.tokens * sizes.dim;
        let Layout { queries, tokens, x, .. } = self.layout;
        let learned = Slice::of(self.args.memory.queries);
        self.program.push(Instruction::load(queries, count, learned.address));
        self.program
            .push(Instruction::load(tokens, count, self.workspace.zeros));
        for t in 0..sizes.bins {
            if t > 0 {
                self.encode_counts();
            }
            let query = rows(Slice::of(self.args.queries), t, 1);
            self.program.push(Instruction::load(x, sizes.dim, query.address));
            for index in 0..self.args.layers {
                let layer = (self.args.layer)(index);
                self.remember(t, index, &layer);
                self.layer(t, index, &layer);
            }
            self.head(t, log_rates);
        }
        self.program.push(Instruction::END);
        self.program
    }
}

fn is_dense(view: View<'_, CudaTensor>) -> bool {
    Slice::of(view).is_dense()
}

impl<D: Driver> CudaBackend<D> {
    /// Generates by one launch. False for what the machine does not do: FP32 weights, and heads narrower than eight channels.
    pub(super) fn launch_generate(&mut self, args: &Generation<'_, Self>) -> bool {
        let layer = (args.layer)(0);
        let (cross, own) = (layer.cross.to_q.outputs, layer.own_to_out.inputs);
        let sizes = Sizes {
            dim: args.queries.cols,
            bins: args.queries.rows,
            units: args.head.units.rows,
            cross,
            cross_head: cross / args.cross_heads,
            own_head: own / args.self_heads,
            hidden: layer.down.inputs,
            tokens: args.memory.queries.rows,
        };
        let halves = layer.cross.to_q.half && args.head.output.half;
        let narrow = !sizes.own_head.is_multiple_of(8) || !sizes.dim.is_multiple_of(8);
        if !halves || narrow || !is_dense(args.memory.queries) || !is_dense(args.queries) {
            return false;
        }
        let log_rates = Slice::of_out(&args.log_rates);
        assert_eq!(log_rates.rows, sizes.bins * sizes.units);
        if !self.generators.contains_key(&log_rates.address) {
            let Some(generator) = self.new_generator(args, sizes, log_rates) else {
                return false;
            };
            self.generators.insert(log_rates.address, generator);
        }
        let generator = &self.generators[&log_rates.address];
        let parameters = Parameters::new()
            .address(generator.programs.address)
            .word(generator.program_bytes)
            .word(generator.pitch)
            .word(generator.scores)
            .address(generator.counter.address)
            .address(generator.heartbeat.address);
        let counted = Counted {
            entry: GRID.entry,
            file: GRID.file,
            done: generator.heartbeat,
            steps: sizes.bins,
        };
        let clusters = generator.clusters;
        let constants: &[(&str, &str)] = if clusters {
            &[
                ("TARGET", "sm_90"),
                ("VERSION", "8.0"),
                ("BARRIER", include_str!("../../ptx/barrier_cluster.txt")),
            ]
        } else {
            &[
                ("TARGET", "sm_80"),
                ("VERSION", "7.8"),
                ("BARRIER", include_str!("../../ptx/barrier_grid.txt")),
            ]
        };
        let shape = Shape {
            grid: [BLOCKS, 1, 1],
            shared: generator.shared,
            constants,
        };
        let counter = Slice {
            address: generator.counter.address,
            stride: 1,
            rows: 1,
            cols: 1,
        };
        self.device.watch(counted);
        if clusters {
            self.device.launch_with(GRID, shape, BLOCKS as u32, false, &parameters);
        } else {
            self.launch_fill(0.0, counter);
            self.device.launch_with(GRID, shape, 1, true, &parameters);
        }
        true
    }

    /// The program for these tensors, or nothing if a block's shared memory is too small for it.
    fn new_generator(&mut self, args: &Generation<'_, Self>, sizes: Sizes, log_rates: Slice) -> Option<Generator> {
        let (_, most_units) = share(sizes.units, 1, 0);
        let (_, most_heads) = share(args.self_heads, 1, 0);
        let (_, most_channels) = share(sizes.hidden, 8, 0);
        let own_width = most_heads * sizes.own_head;
        let latents = Slice::of((args.layer)(0).latents).rows;

        let depth = [sizes.dim, sizes.cross, own_width, most_channels].into_iter().max()?;
        let pitch = 2 * (depth.next_multiple_of(128) + 8);
        let mut places = Places::after(16 * pitch);
        let pooled = sizes.tokens * sizes.dim;
        let layout = Layout {
            x: places.floats(sizes.dim),
            query: places.floats(sizes.cross.max(own_width)),
            attended: places.floats(sizes.cross.max(own_width).max(pooled)),
            gated: places.floats(2 * most_channels),
            half: places.floats(sizes.dim / 2),
            head_bin: places.floats(sizes.dim / 2),
            code: [0; 2].map(|_| places.floats(most_units * sizes.dim)),
            log_counts: places.floats(most_units),
            raw: places.floats(most_units),
            queries: places.floats(pooled),
            tokens: places.floats(pooled),
        };
        // Weights and pairs of the largest attention.
        let pool_combinations = sizes.tokens * args.memory.heads;
        let largest = [
            (args.cross_heads, latents.div_ceil(BLOCKS)),
            (args.cross_heads, (sizes.bins * sizes.tokens).div_ceil(BLOCKS)),
            (most_heads, sizes.bins),
            (pool_combinations, most_units),
        ];
        let weights = largest.iter().map(|(c, s)| c * s + 2 * c).max()?;
        let scores = places.floats(weights) as usize;
        if places.bytes() > self.device.driver().capability().shared_bytes as usize {
            return None;
        }

        let combined = [
            (args.cross_heads, sizes.cross_head),
            (pool_combinations, sizes.dim / args.memory.heads),
        ];
        let told = combined.iter().map(|(c, d)| 2 * c + c * d).max()?.max(sizes.dim);
        let block_bytes = 4 * told.next_multiple_of(32);
        let mut kept = Vec::new();
        let mut take = |backend: &mut Self, floats: usize| {
            let memory = backend.device.allocate(4 * floats);
            let address = memory.address;
            kept.push(memory);
            address
        };
        let layers = 0..args.layers;
        let workspace = Workspace {
            exchange: [0; 2].map(|_| take(self, BLOCKS * block_bytes / 4)),
            block_bytes,
            memory: layers
                .clone()
                .map(|_| take(self, sizes.bins * sizes.tokens * 2 * sizes.cross))
                .collect(),
            own: layers
                .map(|_| (0..BLOCKS).map(|_| take(self, sizes.bins * 3 * own_width)).collect())
                .collect(),
            units: (0..BLOCKS).map(|_| take(self, most_units * 2 * sizes.dim)).collect(),
            zeros: take(self, pooled),
        };
        self.device.write(workspace.zeros, &vec![0; 4 * pooled]);

        let mut words: Vec<u32> = Vec::new();
        let mut program_bytes = 0;
        for rank in 0..BLOCKS {
            let author = Author {
                args,
                sizes,
                layout,
                workspace: &workspace,
                rank,
                meetings: 0,
                program: Vec::new(),
            };
            let program = author.write(log_rates);
            program_bytes = 4 * WORDS * program.len();
            words.extend(program.iter().flat_map(|instruction| instruction.words()));
        }
        let programs = self.device.allocate(4 * words.len());
        self.device.write(programs.address, bytemuck::cast_slice(&words));
        Some(Generator {
            programs,
            program_bytes,
            pitch,
            scores,
            shared: places.bytes(),
            counter: self.device.allocate(4),
            heartbeat: self.device.map(16),
            clusters: self.device.driver().capability().compute >= 90,
            _workspace: kept,
        })
    }
}
