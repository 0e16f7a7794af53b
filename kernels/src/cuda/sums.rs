//! Launch plans of `ptx/sums.ptx`, `ptx/pool.ptx` and `ptx/normalise.ptx`: sums along rows or columns.

use super::device::{Kernel, Shape};
use super::driver::{Address, Driver};
use super::parameters::Parameters;
use super::storage::{CudaRows, Slice};
use super::{CudaBackend, Scratch};

const BLOCK: u32 = 256;
/// Warps a block, where a warp has a row or an element.
const WARPS: usize = 8;
/// Columns a block, where a lane has a column.
const LANES: usize = 32;
/// One sum over at least this many rows is taken in parts.
const MANY_ROWS: usize = 512;
/// Rows of a part, unless that would make more parts than this.
const PART: usize = 256;

const fn sums(entry: &'static str) -> Kernel {
    Kernel {
        file: "sums.ptx",
        text: include_str!("../../ptx/sums.ptx"),
        entry,
        block: BLOCK,
    }
}

const fn pooling(entry: &'static str) -> Kernel {
    Kernel {
        file: "pool.ptx",
        text: include_str!("../../ptx/pool.ptx"),
        entry,
        block: BLOCK,
    }
}

const fn norm(entry: &'static str) -> Kernel {
    Kernel {
        file: "normalise.ptx",
        text: include_str!("../../ptx/normalise.ptx"),
        entry,
        block: BLOCK,
    }
}

const OUTER_DOT: Kernel = sums("outer_dot");
const WEIGHTED_SUMS: Kernel = sums("weighted_sums");
const SCATTER_ADD: Kernel = sums("scatter_add");
const POOL: Kernel = pooling("pool");
const POOL_SCORES_BACKWARD: Kernel = pooling("pool_scores_backward");
const NORMALISE: Kernel = norm("normalise");
const NORMALISE_BACKWARD: Kernel = norm("normalise_backward");

/// What is summed, or what it is weighted with: element `(batch, row, col)` lies this many elements from the first.
#[derive(Debug, Clone, Copy)]
pub(super) struct Summand {
    /// Of the first element; 0 for ones, as weights.
    pub address: Address,
    /// Elements from a batch to the next.
    pub batch: usize,
    /// Elements from a row to the next.
    pub step: usize,
    /// Elements from a column to the next; what is summed has 1.
    pub col: usize,
}

impl Summand {
    /// Weights that are all one.
    pub const ONES: Summand = Summand {
        address: 0,
        batch: 0,
        step: 0,
        col: 0,
    };

    /// The rows of a matrix; one batch.
    pub fn rows(x: Slice) -> Self {
        Summand {
            address: x.address,
            batch: 0,
            step: x.stride,
            col: 1,
        }
    }

    /// One number a row.
    pub fn numbers(address: Address, batch: usize, step: usize) -> Self {
        Summand {
            address,
            batch,
            step,
            col: 0,
        }
    }
}

/// `out[b, c] = scale · Σᵣ weights(b, r, c) · x(b, r, c)`, or `out +=` that; `out` `[batches, cols]`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sums {
    pub x: Summand,
    pub weights: Summand,
    pub rows: usize,
    pub scale: f32,
    pub accumulate: bool,
    pub out: Slice,
}

fn column_blocks(first: usize, cols: usize) -> Shape<'static> {
    Shape {
        grid: [first, cols.div_ceil(LANES), 1],
        shared: 0,
        constants: &[],
    }
}

impl<D: Driver> CudaBackend<D> {
    /// Many rows of one sum are summed in parts first, so that the device has enough to do at once.
    pub(super) fn launch_sums(&mut self, sums: Sums) {
        if sums.out.rows != 1 || sums.rows < MANY_ROWS {
            return self.launch_sums_once(sums, sums.out.rows * sums.rows);
        }
        let cols = sums.out.cols;
        let part = PART.max(sums.rows.div_ceil(PART));
        let parts = sums.rows.div_ceil(part);
        let partial = Slice {
            address: self.scratch(Scratch::Partial, 4 * parts * cols),
            stride: cols,
            rows: parts,
            cols,
        };
        let in_part = |summand: Summand| Summand {
            batch: part * summand.step,
            ..summand
        };
        let first = Sums {
            x: in_part(sums.x),
            weights: in_part(sums.weights),
            rows: part,
            scale: 1.0,
            accumulate: false,
            out: partial,
        };
        self.launch_sums_once(first, sums.rows);
        let second = Sums {
            x: Summand::rows(partial),
            weights: Summand::ONES,
            rows: parts,
            ..sums
        };
        self.launch_sums_once(second, parts);
    }

    /// `last`: rows of all batches together.
    fn launch_sums_once(&mut self, sums: Sums, last: usize) {
        let Sums { x, weights, out, .. } = sums;
        let parameters = Parameters::new()
            .address(x.address)
            .word(x.batch)
            .word(x.step)
            .address(weights.address)
            .word(weights.batch)
            .word(weights.step)
            .word(weights.col)
            .matrix(out)
            .word(sums.rows)
            .word(last)
            .word(out.cols)
            .float(sums.scale)
            .word(usize::from(sums.accumulate));
        self.device
            .launch(WEIGHTED_SUMS, column_blocks(out.rows, out.cols), &parameters);
    }

    /// Adds the sums of the columns of `x` to `out` `[1, C]`, each element times its own of `weights`.
    pub(super) fn add_column_sums(&mut self, x: Slice, weights: Option<Slice>, out: Slice) {
        assert_eq!((x.cols, 1), (out.cols, out.rows));
        assert!(weights.is_none_or(|weights| (weights.rows, weights.cols) == (x.rows, x.cols)));
        self.launch_sums(Sums {
            x: Summand::rows(x),
            weights: weights.map_or(Summand::ONES, Summand::rows),
            rows: x.rows,
            scale: 1.0,
            accumulate: true,
            out,
        });
    }

    /// `a` `[I, C]`, `b` `[N, C]`; the `I · N` products go to elements of `out` that are `out.stride` apart.
    pub(super) fn launch_outer_dot(&mut self, a: Slice, b: Slice, accumulate: bool, out: Slice) {
        assert_eq!((a.rows * b.rows, a.cols, 1), (out.rows, b.cols, out.cols));
        let parameters = Parameters::new()
            .matrix(a)
            .matrix(b)
            .matrix(out)
            .word(b.rows)
            .word(out.rows)
            .word(a.cols)
            .word(usize::from(accumulate));
        let shape = Shape::blocks(out.rows.div_ceil(WARPS));
        self.device.launch(OUTER_DOT, shape, &parameters);
    }

    pub(super) fn launch_sum_rows(&mut self, weights: Slice, x: Slice, accumulate: bool, out: Slice) {
        assert_eq!((weights.rows, weights.cols, x.cols), (1, x.rows, out.cols));
        assert_eq!(out.rows, 1);
        self.launch_sums(Sums {
            x: Summand::rows(x),
            weights: Summand::numbers(weights.address, 0, 1),
            rows: x.rows,
            scale: 1.0,
            accumulate,
            out,
        });
    }

    pub(super) fn launch_pool(&mut self, scores: Option<Slice>, values: Slice, accumulate: bool, out: Slice) {
        let columns = scores.map_or(1, |scores| scores.cols);
        assert_eq!((out.rows, out.cols), (columns, values.cols));
        assert!(scores.is_none_or(|scores| scores.rows == values.rows));
        let Some(scores) = scores.filter(|scores| scores.rows > 0) else {
            // The mean; of no rows, zeros.
            return self.launch_sums(Sums {
                x: Summand::rows(values),
                weights: Summand::ONES,
                rows: values.rows,
                scale: 1.0 / values.rows.max(1) as f32,
                accumulate,
                out,
            });
        };
        let parameters = Parameters::new()
            .matrix(scores)
            .matrix(values)
            .matrix(out)
            .word(values.rows)
            .word(values.cols)
            .word(usize::from(accumulate));
        self.device
            .launch(POOL, column_blocks(scores.cols, values.cols), &parameters);
    }

    /// Adds the derivative by the scores `[N, C]` to `gscores`, `along` `[C, N]` being that by the weights; `weights`
    /// `[C, N]` receives these.
    pub(super) fn launch_pool_scores_backward(
        &mut self,
        scores: Slice,
        along: Address,
        weights: Address,
        gscores: Slice,
    ) {
        assert_eq!((scores.rows, scores.cols), (gscores.rows, gscores.cols));
        let parameters = Parameters::new()
            .matrix(scores)
            .address(along)
            .address(weights)
            .matrix(gscores)
            .word(scores.rows);
        let shape = Shape::blocks(scores.cols);
        self.device.launch(POOL_SCORES_BACKWARD, shape, &parameters);
    }

    /// `gain` and `bias` `[1, C]`.
    pub(super) fn launch_normalise(&mut self, x: Slice, gain: Slice, bias: Slice, out: Slice) {
        assert_eq!((x.rows, x.cols), (out.rows, out.cols));
        assert!(gain.cols == x.cols && bias.cols == x.cols);
        let parameters = Parameters::new()
            .matrix(x)
            .address(gain.address)
            .address(bias.address)
            .matrix(out)
            .word(x.rows)
            .word(x.cols);
        let shape = Shape::blocks(x.rows.div_ceil(WARPS));
        self.device.launch(NORMALISE, shape, &parameters);
    }

    /// Adds to `gx`; returns the rows as they were before gain and bias, in scratch memory.
    pub(super) fn launch_normalise_backward(&mut self, x: Slice, gain: Slice, gy: Slice, gx: Slice) -> Slice {
        assert_eq!((x.rows, x.cols), (gx.rows, gx.cols));
        assert_eq!((x.rows, x.cols), (gy.rows, gy.cols));
        assert_eq!(gain.cols, x.cols);
        let standard = Slice {
            address: self.scratch(Scratch::Wide, 4 * x.rows * x.cols),
            stride: x.cols,
            ..x
        };
        let parameters = Parameters::new()
            .matrix(x)
            .address(gain.address)
            .matrix(gy)
            .matrix(gx)
            .address(standard.address)
            .word(x.rows)
            .word(x.cols);
        let shape = Shape::blocks(x.rows.div_ceil(WARPS));
        self.device.launch(NORMALISE_BACKWARD, shape, &parameters);
        standard
    }

    pub(super) fn launch_scatter_add(&mut self, g: Slice, rows: &CudaRows, gtable: Slice) {
        assert_eq!((rows.count, gtable.cols), (g.rows, g.cols));
        let parameters = Parameters::new()
            .matrix(g)
            .address(rows.rows_address())
            .matrix(gtable)
            .word(g.rows)
            .word(g.cols);
        let shape = column_blocks(g.rows.div_ceil(WARPS), g.cols);
        self.device.launch(SCATTER_ADD, shape, &parameters);
    }
}
