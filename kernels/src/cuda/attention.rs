//! Attention: the launch plans of `ptx/attention.ptx`.

use super::device::{Kernel, Shape};
use super::driver::{Address, Driver};
use super::parameters::Parameters;
use super::products::Product;
use super::storage::{CudaRotation, CudaRows, Slice};
use super::{CudaBackend, Scratch};
use crate::backend::{Attention, Mask, Rotary};
use crate::gradient::{Attend, DropMask};

const fn kernel(entry: &'static str, block: u32) -> Kernel {
    Kernel {
        file: "attention.ptx",
        text: include_str!("../../ptx/attention.ptx"),
        entry,
        block,
    }
}

const PACK: Kernel = kernel("pack", 256);
const ATTENTION: Kernel = kernel("attention_f16", 128);
const SOFTMAX: Kernel = kernel("softmax_rows", 128);
const SOFTMAX_BACKWARD: Kernel = kernel("softmax_rows_backward", 128);

/// Queries of a block.
const QUERIES: usize = 16;
/// Keys of a step.
const KEYS: usize = 32;
/// Channels of the values of a block.
const CHANNELS: usize = 64;

/// What is packed to FP16.
struct Packing<'a> {
    from: Slice,
    rows: Option<&'a CudaRows>,
    rotary: Option<Rotary<'a, CudaRotation>>,
    to: Address,
    to_rows: usize,
    pad: usize,
}

impl Packing<'_> {
    fn add_to(&self, parameters: Parameters) -> Parameters {
        parameters
            .matrix(self.from)
            .word(self.from.rows)
            .address(self.rows.map_or(0, CudaRows::rows_address))
            .address(self.rows.map_or(0, CudaRows::count_address))
            .address(turn(self.rotary))
            .address(self.to)
            .word(self.to_rows)
            .word(self.pad)
    }
}

fn turn(rotary: Option<Rotary<'_, CudaRotation>>) -> Address {
    rotary.map_or(0, |rotary| rotary.rotation.row_address(rotary.first))
}

/// Kind, first query, keys a query.
fn mask_words(mask: Mask) -> [usize; 3] {
    match mask {
        Mask::All => [0, 0, 0],
        Mask::Causal { first, keys_per_query } => [1, first, keys_per_query],
        Mask::Local { first, keys_per_query } => [2, first, keys_per_query],
    }
}

/// Rows at most, and rows now, of what may be a list.
fn capacity(slice: Slice, rows: Option<&CudaRows>) -> usize {
    rows.map_or(slice.rows, |rows| rows.capacity)
}

impl<D: Driver> CudaBackend<D> {
    pub(super) fn reserve_attention(&mut self, queries: usize, keys: usize, heads: usize, head_dim: usize) {
        if self.options.half {
            let (depth, pad) = (head_dim.next_multiple_of(16), head_dim.next_multiple_of(CHANNELS));
            self.scratch(Scratch::Query, 2 * heads * queries.next_multiple_of(QUERIES) * depth);
            self.scratch(Scratch::Key, 2 * heads * keys.next_multiple_of(KEYS) * depth);
            self.scratch(Scratch::Value, 2 * heads * keys.next_multiple_of(KEYS) * pad);
        }
    }

    pub(super) fn launch_attention(&mut self, args: Attention<'_, Self>, out: Slice) {
        let (query, key, value) = (Slice::of(args.query), Slice::of(args.key), Slice::of(args.value));
        let width = query.cols;
        assert_eq!((key.cols, value.cols, out.cols), (width, width, width));
        assert!(width % args.heads == 0 && (width / args.heads).is_multiple_of(2));
        assert_eq!(args.query_rows.map_or(query.rows, |rows| rows.count), out.rows);
        assert!(!args.rotate_value || (args.query_rotary.is_some() && args.key_rotary.is_some()));
        if self.options.half {
            self.attention_f16(args, [query, key, value], out);
        } else {
            self.attention_f32(args, [query, key, value], out);
        }
    }

    fn attention_f16(&mut self, args: Attention<'_, Self>, [query, key, value]: [Slice; 3], out: Slice) {
        let head_dim = query.cols / args.heads;
        let (depth, pad) = (head_dim.next_multiple_of(16), head_dim.next_multiple_of(CHANNELS));
        let query_rows = out.rows.next_multiple_of(QUERIES);
        let key_rows = capacity(key, args.key_rows).next_multiple_of(KEYS);
        let heads = args.heads;
        let q = self.scratch(Scratch::Query, 2 * heads * query_rows * depth);
        let k = self.scratch(Scratch::Key, 2 * heads * key_rows * depth);
        let v = self.scratch(Scratch::Value, 2 * heads * key_rows * pad);
        let jobs = [
            Packing {
                from: query,
                rows: args.query_rows,
                rotary: args.query_rotary,
                to: q,
                to_rows: query_rows,
                pad: depth,
            },
            Packing {
                from: key,
                rows: args.key_rows,
                rotary: args.key_rotary,
                to: k,
                to_rows: key_rows,
                pad: depth,
            },
            Packing {
                from: value,
                rows: args.key_rows,
                rotary: args.key_rotary.filter(|_| args.rotate_value),
                to: v,
                to_rows: key_rows,
                pad,
            },
        ];
        // Weights are powers of two: the logarithm's base goes into the queries with the scale.
        let scale = std::f32::consts::LOG2_E / (head_dim as f32).sqrt();
        let parameters = jobs.iter().fold(Parameters::new(), |all, job| job.add_to(all));
        let parameters = parameters.word(heads).word(head_dim).float(scale);
        let pairs = jobs
            .iter()
            .map(|job| job.to_rows * heads * job.pad / 2)
            .max()
            .unwrap_or(0);
        let shape = Shape {
            grid: [pairs.div_ceil(PACK.block as usize), jobs.len(), 1],
            ..Shape::blocks(1)
        };
        self.device.launch(PACK, shape, &parameters);

        let mask = mask_words(args.mask);
        let parameters = Parameters::new()
            .address(q)
            .address(k)
            .address(v)
            .word(query_rows)
            .word(key_rows)
            .word(depth)
            .word(pad)
            .word(out.rows)
            .word(key.rows)
            .address(args.key_rows.map_or(0, CudaRows::count_address))
            .word(head_dim)
            .word(mask[0])
            .word(mask[1])
            .word(mask[2])
            .address(turn(args.query_rotary.filter(|_| args.rotate_value)))
            .matrix(out);
        let stage = 2 * (QUERIES * (depth + 8) + 4 * KEYS * (depth + 8 + CHANNELS + 8));
        let merge = 4 * QUERIES * (68 + 2) * 4;
        let shape = Shape {
            grid: [out.rows.div_ceil(QUERIES), heads, pad / CHANNELS],
            shared: stage.max(merge),
            constants: &[],
        };
        self.device.launch(ATTENTION, shape, &parameters);
    }

    /// In FP32 by way of the parts that learning uses. The number of keys is the host's: not for sequences that repeat with
    /// another.
    fn attention_f32(&mut self, args: Attention<'_, Self>, sources: [Slice; 3], out: Slice) {
        let lists = [args.query_rows, args.key_rows, args.key_rows];
        let turns = [
            args.query_rotary,
            args.key_rotary,
            args.key_rotary.filter(|_| args.rotate_value),
        ];
        let places = [Scratch::Query, Scratch::Key, Scratch::Value];
        let mut taken = sources;
        for i in 0..3 {
            if lists[i].is_none() && turns[i].is_none() {
                continue;
            }
            let rows = lists[i].map_or(sources[i].rows, |rows| rows.count);
            let cols = sources[i].cols;
            taken[i] = Slice {
                address: self.scratch(places[i], 4 * rows * cols),
                stride: cols,
                rows,
                cols,
            };
            match lists[i] {
                Some(rows) => self.launch_gather(sources[i], rows, taken[i]),
                None => self.launch_copy(sources[i], false, taken[i]),
            }
            if let Some(rotary) = turns[i] {
                self.launch_rotate(rotary, 1.0, taken[i]);
            }
        }
        let [query, key, value] = taken;
        if key.rows == 0 {
            self.launch_fill(0.0, out);
            return;
        }
        let rows = args.heads * query.rows;
        let weights = Slice {
            address: self.scratch(Scratch::Wide, 4 * rows * key.rows),
            stride: key.rows,
            rows,
            cols: key.rows,
        };
        self.weigh(query, key, args.heads, args.mask, weights);
        self.mix(weights, value, args.heads, out);
        if let Some(rotary) = args.query_rotary.filter(|_| args.rotate_value) {
            self.launch_rotate(rotary, -1.0, out);
        }
    }

    /// `weights[h · M + i, j]`: the softmax over j of scaled products.
    fn weigh(&mut self, query: Slice, key: Slice, heads: usize, mask: Mask, weights: Slice) {
        let head_dim = query.cols / heads;
        let scores = Product {
            a: (query.address, query.stride, 1),
            b: (key.address, key.stride, 1),
            batch_strides: [head_dim, head_dim, query.rows * weights.stride],
            batch: heads,
            rows: query.rows,
            cols: key.rows,
            depth: head_dim,
            scale: 1.0 / (head_dim as f32).sqrt(),
            ..Product::default()
        };
        self.product(scores, weights);
        let mask = mask_words(mask);
        let rows = heads * query.rows;
        let parameters = Parameters::new()
            .matrix(weights)
            .word(rows)
            .word(key.rows)
            .word(query.rows)
            .word(mask[0])
            .word(mask[1])
            .word(mask[2]);
        self.device
            .launch(SOFTMAX, Shape::blocks(rows.div_ceil(4)), &parameters);
    }

    /// `out[i, h · Dh + c] = Σ_j weights[h · M + i, j] value[j, h · Dh + c]`.
    fn mix(&mut self, weights: Slice, value: Slice, heads: usize, out: Slice) {
        let head_dim = out.cols / heads;
        let product = Product {
            a: (weights.address, weights.stride, 1),
            b: (value.address, 1, value.stride),
            batch_strides: [out.rows * weights.stride, head_dim, head_dim],
            batch: heads,
            rows: out.rows,
            cols: head_dim,
            depth: value.rows,
            ..Product::default()
        };
        self.product(product, out);
    }

    /// The weights after dropping: themselves, or a copy in scratch memory.
    fn dropped(&mut self, weights: Slice, drop: Option<DropMask>, place: Scratch) -> Slice {
        let Some(drop) = drop else { return weights };
        let copy = Slice {
            address: self.scratch(place, 4 * weights.rows * weights.cols),
            stride: weights.cols,
            ..weights
        };
        self.launch_copy(weights, false, copy);
        self.launch_drop(drop, copy);
        copy
    }

    pub(super) fn launch_attend(&mut self, args: Attend<'_, Self>, weights: Slice, out: Slice) {
        let (query, key, value) = (Slice::of(args.query), Slice::of(args.key), Slice::of(args.value));
        if key.rows == 0 {
            self.launch_fill(0.0, out);
            return;
        }
        self.weigh(query, key, args.heads, args.mask, weights);
        let dropped = self.dropped(weights, args.drop, Scratch::Wide);
        self.mix(dropped, value, args.heads, out);
    }

    /// Replaces the three derivatives.
    pub(super) fn launch_attend_backward(
        &mut self,
        args: Attend<'_, Self>,
        weights: Slice,
        gout: Slice,
        [gq, gk, gv]: [Slice; 3],
    ) {
        let (query, key, value) = (Slice::of(args.query), Slice::of(args.key), Slice::of(args.value));
        let (heads, head_dim) = (args.heads, query.cols / args.heads);
        if key.rows == 0 {
            self.launch_fill(0.0, gq);
            return;
        }
        if query.rows == 0 {
            self.launch_fill(0.0, gk);
            self.launch_fill(0.0, gv);
            return;
        }
        let dropped = self.dropped(weights, args.drop, Scratch::Wide);
        let of_value = Product {
            a: (dropped.address, 1, dropped.stride),
            b: (gout.address, 1, gout.stride),
            batch_strides: [query.rows * dropped.stride, head_dim, head_dim],
            batch: heads,
            rows: key.rows,
            cols: head_dim,
            depth: query.rows,
            ..Product::default()
        };
        self.product(of_value, gv);

        let scores = Slice {
            address: self.scratch(Scratch::Key, 4 * weights.rows * weights.cols),
            stride: weights.cols,
            ..weights
        };
        let of_weights = Product {
            a: (gout.address, gout.stride, 1),
            b: (value.address, value.stride, 1),
            batch_strides: [head_dim, head_dim, query.rows * scores.stride],
            batch: heads,
            rows: query.rows,
            cols: key.rows,
            depth: head_dim,
            ..Product::default()
        };
        self.product(of_weights, scores);
        if let Some(drop) = args.drop {
            self.launch_drop(drop, scores);
        }
        let rows = heads * query.rows;
        let parameters = Parameters::new()
            .matrix(weights)
            .matrix(scores)
            .word(rows)
            .word(key.rows);
        self.device
            .launch(SOFTMAX_BACKWARD, Shape::blocks(rows.div_ceil(4)), &parameters);

        let scale = 1.0 / (head_dim as f32).sqrt();
        let of_query = Product {
            a: (scores.address, scores.stride, 1),
            b: (key.address, 1, key.stride),
            batch_strides: [query.rows * scores.stride, head_dim, head_dim],
            batch: heads,
            rows: query.rows,
            cols: head_dim,
            depth: key.rows,
            scale,
            ..Product::default()
        };
        self.product(of_query, gq);
        let of_key = Product {
            a: (scores.address, 1, scores.stride),
            b: (query.address, 1, query.stride),
            batch_strides: [query.rows * scores.stride, head_dim, head_dim],
            batch: heads,
            rows: key.rows,
            cols: head_dim,
            depth: query.rows,
            scale,
            ..Product::default()
        };
        self.product(of_key, gk);
    }
}
