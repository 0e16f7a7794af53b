//! The steps by which the counts of a bin reach the next one: tokens of a memory, or what is added to the query.
//!
//! Every encoder is a few products on the block's units, and one attention over the units of all blocks: with learned queries,
//! with the same weight for all, or with the counts themselves for scores.

use super::super::driver::Driver;
use super::super::program::{Attending, Instruction, Place, Step, Target};
use super::super::storage::{CudaLinear, CudaTensor, Slice};
use super::super::CudaBackend;
use super::author::{rows, scale, share, whole, Author, Layout};
use crate::backend::View;
use crate::generation::{GeneratedCountQuery, GeneratedFeedback, GeneratedMemory, GeneratedMlpPool};

/// Sizes of an encoder.
#[derive(Clone, Copy)]
pub(super) struct FeedbackSizes {
    /// K; 0 where what comes out is added to the query.
    pub(super) tokens: usize,
    /// Rows that come out.
    pub(super) rows: usize,
    /// Heads of the attention over units.
    pub(super) heads: usize,
    /// The widest row that it makes of a unit in shared memory.
    pub(super) code: usize,
    /// f32 that it keeps of a unit in device memory.
    pub(super) kept: usize,
}

impl FeedbackSizes {
    pub(super) fn of<D: Driver>(feedback: &GeneratedFeedback<'_, CudaBackend<D>>, dim: usize) -> Self {
        let vector = FeedbackSizes {
            tokens: 0,
            rows: 1,
            heads: 1,
            code: dim,
            kept: dim,
        };
        match feedback {
            GeneratedFeedback::Memory(memory) => FeedbackSizes {
                tokens: memory.queries.rows,
                rows: memory.queries.rows,
                heads: memory.heads,
                kept: 2 * dim,
                ..vector
            },
            GeneratedFeedback::MlpPool(pool) => FeedbackSizes {
                code: pool.from_count.inputs,
                ..vector
            },
            GeneratedFeedback::RateWeighted(_) => FeedbackSizes { kept: 1, ..vector },
            GeneratedFeedback::CrossAttn(query) => FeedbackSizes {
                heads: query.heads,
                ..vector
            },
        }
    }

    /// Combinations of a row that comes out and a head.
    pub(super) fn combinations(self) -> usize {
        self.rows * self.heads
    }
}

/// The learned queries of an encoder, projected, where it has some.
pub(super) fn queries<'a, D: Driver>(feedback: &GeneratedFeedback<'a, CudaBackend<D>>) -> Option<View<'a, CudaTensor>> {
    match feedback {
        GeneratedFeedback::Memory(memory) => Some(memory.queries),
        GeneratedFeedback::CrossAttn(query) => Some(query.query),
        GeneratedFeedback::MlpPool(_) | GeneratedFeedback::RateWeighted(_) => None,
    }
}

impl<D: Driver> Author<'_, '_, D> {
    /// What stays the same from bin to bin: the queries; and the tokens of the first bin.
    pub(super) fn begin_feedback(&mut self) {
        let Layout {
            queries: to, tokens, ..
        } = self.layout;
        let mut load = |to, count, from| self.program.push(Instruction::load(to, count, from, false));
        if let Some(learned) = queries(&self.args.feedback) {
            load(to, learned.rows * learned.cols, Slice::of(learned).address);
        }
        match self.args.feedback {
            GeneratedFeedback::Memory(_) => {
                let count = self.sizes.feedback.tokens * self.sizes.dim;
                load(tokens, count, self.workspace.zeros);
            }
            GeneratedFeedback::RateWeighted(_) => load(to, 1, self.workspace.one),
            GeneratedFeedback::MlpPool(_) | GeneratedFeedback::CrossAttn(_) => {}
        }
    }

    /// Where the last instruction of a bin leaves the counts of this block's units, and whether as ln(1 + count).
    pub(super) fn counts_wanted(&self) -> (Target, bool) {
        match self.args.feedback {
            // They are keys.
            GeneratedFeedback::RateWeighted(_) => (Target::Device(self.kept().address), false),
            GeneratedFeedback::Memory(_) => (Target::Shared(self.layout.counts), true),
            GeneratedFeedback::MlpPool(_) | GeneratedFeedback::CrossAttn(_) => {
                (Target::Shared(self.layout.counts), false)
            }
        }
    }

    /// From the counts of the bin before: the tokens of this one, or x = what is added to its query.
    pub(super) fn encode_counts(&mut self) {
        let args = self.args;
        match &args.feedback {
            GeneratedFeedback::Memory(memory) => self.encode_memory(memory),
            GeneratedFeedback::MlpPool(pool) => self.encode_mlp_pool(pool),
            GeneratedFeedback::RateWeighted(units) => self.weigh_by_counts(*units),
            GeneratedFeedback::CrossAttn(query) => self.encode_count_query(query),
        }
    }

    fn encode_memory(&mut self, memory: &GeneratedMemory<'_, CudaBackend<D>>) {
        let Layout {
            code,
            counts,
            attended,
            tokens,
            ..
        } = self.layout;
        let [a, b] = code.map(Target::Shared);
        let kept = self.kept();
        let steps = [
            Step {
                gelu: true,
                ..self.each_unit(memory.count_in, counts, a)
            },
            self.each_unit(memory.count_out, code[0], b),
            Step {
                gelu: true,
                addend: Some(self.own_units(memory.unit_part)),
                ..self.each_unit(memory.from_count, code[1], a)
            },
            self.each_unit(memory.unit_out, code[0], b),
            self.each_unit(memory.to_kv, code[1], Target::Device(kept.address)),
        ];
        for step in steps {
            self.push(step);
        }
        let values = Slice {
            address: kept.address + 4 * self.sizes.dim as u64,
            ..kept
        };
        let attending = self.over_units(kept, values);
        self.attend_shared(attended, attending);
        self.push(Step {
            m: self.sizes.feedback.tokens,
            ..whole(memory.to_out, attended, Target::Shared(tokens))
        });
    }

    fn encode_mlp_pool(&mut self, pool: &GeneratedMlpPool<'_, CudaBackend<D>>) {
        let Layout {
            x,
            code,
            counts,
            attended,
            ..
        } = self.layout;
        let kept = self.kept();
        self.push(self.each_unit(pool.count, counts, Target::Shared(code[0])));
        self.push(Step {
            gelu: true,
            addend: Some(self.own_units(pool.unit_part)),
            ..self.each_unit(pool.from_count, code[0], Target::Device(kept.address))
        });
        // Keys without channels: the mean; that of an affine map is the affine map of the mean.
        let mean = Attending {
            key_dim: 0,
            ..self.over_units(kept, kept)
        };
        self.attend_shared(attended, mean);
        self.push(whole(pool.output, attended, Target::Shared(x)));
    }

    /// Every count is a key of one channel, and the query is one.
    fn weigh_by_counts(&mut self, units: View<'_, CudaTensor>) {
        let attending = Attending {
            key_dim: 1,
            scale: 1.0,
            ..self.over_units(self.kept(), self.own_units(units))
        };
        self.attend_shared(self.layout.x, attending);
    }

    fn encode_count_query(&mut self, query: &GeneratedCountQuery<'_, CudaBackend<D>>) {
        let Layout {
            x,
            code,
            counts,
            attended,
            ..
        } = self.layout;
        let kept = self.kept();
        self.push(Step {
            addend: Some(self.own_units(query.units)),
            ..self.each_unit(query.count, counts, Target::Shared(code[0]))
        });
        self.push(self.each_unit(query.to_v, code[0], Target::Device(kept.address)));
        let attending = self.over_units(self.own_units(query.keys), kept);
        self.attend_shared(attended, attending);
        self.push(whole(query.to_out, attended, Target::Shared(x)));
    }

    /// What this block keeps of its units in device memory.
    fn kept(&self) -> Slice {
        let (_, mine) = share(self.sizes.units, 1, self.rank);
        let width = self.sizes.feedback.kept;
        Slice {
            address: self.workspace.units[self.rank],
            stride: width,
            rows: mine,
            cols: width,
        }
    }

    /// Rows of this block's units.
    fn own_units(&self, table: View<'_, CudaTensor>) -> Slice {
        let (first, mine) = share(self.sizes.units, 1, self.rank);
        rows(Slice::of(table), first, mine)
    }

    /// All of a layer on the row of each of this block's units.
    fn each_unit<'l>(&self, layer: &'l CudaLinear, from: Place, target: Target) -> Step<'l> {
        let (_, mine) = share(self.sizes.units, 1, self.rank);
        Step {
            m: mine,
            ..whole(layer, from, target)
        }
    }

    /// The attention of the encoder's queries to this block's units.
    fn over_units(&self, keys: Slice, values: Slice) -> Attending {
        let feedback = self.sizes.feedback;
        let head_dim = self.sizes.dim / feedback.heads;
        Attending {
            query: self.layout.queries,
            query_from: None,
            combinations: feedback.combinations(),
            heads: feedback.heads,
            key_dim: head_dim,
            head_dim,
            scale: scale(head_dim),
            keys: keys.address,
            keys_pitch: 4 * keys.stride,
            values: values.address,
            values_pitch: 4 * values.stride,
            count: values.rows,
            target: Target::Shared(self.layout.attended),
        }
    }
}
