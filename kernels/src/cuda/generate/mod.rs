//! The autoregressive part of a prediction as one launch: programs for the machine of `ptx/decode.ptx`, written once for the
//! tensors that they address ([`author`]), what they work in, and the launch.

mod author;
mod feedback;

use super::device::{Kernel, Shape};
use super::driver::{Driver, Mapped};
use super::parameters::Parameters;
use super::program::{Places, WORDS};
use super::storage::{Allocation, CudaTensor, Slice};
use super::watch::Counted;
use super::CudaBackend;
use crate::backend::View;
use crate::generation::Generation;
use author::{share, Author, Layout, Sizes, Workspace};
use feedback::{queries, FeedbackSizes};

/// Blocks that share the work: a cluster that every device with clusters can have.
const BLOCKS: usize = 8;
const THREADS: u32 = 256;
/// Rows in which a product stages its input.
const STAGED_ROWS: usize = 32;

const GRID: Kernel = Kernel {
    file: "decode.ptx, meeting in the grid",
    text: include_str!("../../../ptx/decode.ptx"),
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

fn is_dense(view: View<'_, CudaTensor>) -> bool {
    Slice::of(view).is_dense()
}

impl<D: Driver> CudaBackend<D> {
    /// Generates by one launch. False for what the machine does not do: FP32 weights, D or heads of the attention of bins to
    /// bins that are no multiple of eight channels, and sizes for which a block has too little shared memory.
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
            feedback: FeedbackSizes::of(&args.feedback, args.queries.cols),
        };
        let halves = layer.cross.to_q.half && args.head.output.half;
        let narrow = !sizes.own_head.is_multiple_of(8) || !sizes.dim.is_multiple_of(8);
        let loaded = [Some(args.queries), queries(&args.feedback)];
        if !halves || narrow || !loaded.into_iter().flatten().all(is_dense) {
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
                ("BARRIER", include_str!("../../../ptx/barrier_cluster.txt")),
            ]
        } else {
            &[
                ("TARGET", "sm_80"),
                ("VERSION", "7.8"),
                ("BARRIER", include_str!("../../../ptx/barrier_grid.txt")),
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

        let feedback = sizes.feedback;
        let code = feedback.code.max(sizes.dim);
        let depth = [code, sizes.cross, own_width, most_channels].into_iter().max()?;
        let pitch = 2 * (depth.next_multiple_of(128) + 8);
        let mut places = Places::after(STAGED_ROWS * pitch);
        let pooled = feedback.rows * sizes.dim;
        let layout = Layout {
            x: places.floats(sizes.dim),
            query: places.floats(sizes.cross.max(own_width)),
            attended: places.floats(sizes.cross.max(own_width).max(pooled)),
            gated: places.floats(2 * most_channels),
            half: places.floats(sizes.dim / 2),
            head_bin: places.floats(sizes.dim / 2),
            code: [0; 2].map(|_| places.floats(most_units * code)),
            counts: places.floats(most_units),
            raw: places.floats(most_units),
            queries: places.floats(pooled),
            tokens: places.floats(feedback.tokens * sizes.dim),
        };
        // Weights and pairs of the largest attention.
        let largest = [
            (args.cross_heads, latents.div_ceil(BLOCKS)),
            (args.cross_heads, (sizes.bins * feedback.tokens).div_ceil(BLOCKS)),
            (most_heads, sizes.bins),
            (feedback.combinations(), most_units),
        ];
        let weights = largest.iter().map(|(c, s)| c * s + 2 * c).max()?;
        let scores = places.floats(weights) as usize;
        if places.bytes() > self.device.driver().capability().shared_bytes as usize {
            return None;
        }

        let combined = [
            (args.cross_heads, sizes.cross_head),
            (feedback.combinations(), sizes.dim / feedback.heads),
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
                .filter(|_| feedback.tokens > 0)
                .map(|_| take(self, sizes.bins * feedback.tokens * 2 * sizes.cross))
                .collect(),
            own: layers
                .map(|_| (0..BLOCKS).map(|_| take(self, sizes.bins * 3 * own_width)).collect())
                .collect(),
            units: (0..BLOCKS).map(|_| take(self, most_units * feedback.kept)).collect(),
            zeros: take(self, feedback.tokens * sizes.dim),
            one: take(self, 1),
        };
        self.device
            .write(workspace.zeros, &vec![0; 4 * feedback.tokens * sizes.dim]);
        self.device.write(workspace.one, &1f32.to_le_bytes());

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
