//! Launch plans of `ptx/elementwise.ptx`, `ptx/functions.ptx` and `ptx/drop.ptx`: one thread an element, or a few.

use super::device::{Kernel, Shape};
use super::driver::{Address, Driver};
use super::parameters::Parameters;
use super::storage::{CudaRows, Slice};
use super::CudaBackend;
use crate::backend::{Activation, Map};
use crate::gradient::{DropMask, Unit};

const BLOCK: u32 = 256;
/// Of the one block that delivers.
const DELIVER_BLOCK: u32 = 1024;
/// Numbers that one counter of the random generator gives.
const NUMBERS: usize = 8;

const fn elementwise(entry: &'static str) -> Kernel {
    Kernel {
        file: "elementwise.ptx",
        text: include_str!("../../ptx/elementwise.ptx"),
        entry,
        block: BLOCK,
    }
}

const fn function(entry: &'static str) -> Kernel {
    Kernel {
        file: "functions.ptx",
        text: include_str!("../../ptx/functions.ptx"),
        entry,
        block: BLOCK,
    }
}

const FILL: Kernel = elementwise("fill");
const COPY: Kernel = elementwise("copy");
const MULTIPLY: Kernel = elementwise("multiply");
const GATHER: Kernel = elementwise("gather");
const DELIVER: Kernel = Kernel {
    block: DELIVER_BLOCK,
    ..elementwise("deliver")
};
const MAP: Kernel = function("map");
const OUTER_ADD: Kernel = function("outer_add");
const ACTIVATE: Kernel = function("activate");
const DROP: Kernel = Kernel {
    file: "drop.ptx",
    text: include_str!("../../ptx/drop.ptx"),
    entry: "drop_elements",
    block: BLOCK,
};

/// Blocks of 256 that cover `n` threads.
pub(super) fn cover(n: usize) -> Shape<'static> {
    Shape::blocks(n.div_ceil(BLOCK as usize))
}

/// How kernels are told a function: its number, and the limit of a clamp.
pub(super) fn map_parameters(f: Map) -> (usize, f32) {
    match f {
        Map::Log1p => (0, 0.0),
        Map::Exp => (1, 0.0),
        Map::Clamp(limit) => (2, limit),
    }
}

impl<D: Driver> CudaBackend<D> {
    pub(super) fn launch_fill(&mut self, value: f32, out: Slice) {
        let parameters = Parameters::new().matrix(out).word(out.rows).word(out.cols).float(value);
        self.device.launch(FILL, cover(out.rows * out.cols), &parameters);
    }

    pub(super) fn launch_copy(&mut self, x: Slice, accumulate: bool, out: Slice) {
        assert_eq!((x.rows, x.cols), (out.rows, out.cols));
        let parameters = Parameters::new()
            .matrix(x)
            .matrix(out)
            .word(out.rows)
            .word(out.cols)
            .word(usize::from(accumulate));
        self.device.launch(COPY, cover(out.rows * out.cols), &parameters);
    }

    /// `out = x · y`, or `out +=` that; a single row of `y` serves all rows of `x`.
    pub(super) fn launch_multiply(&mut self, x: Slice, y: Slice, accumulate: bool, out: Slice) {
        assert_eq!((x.rows, x.cols), (out.rows, out.cols));
        assert!(y.cols == x.cols && (y.rows == x.rows || y.rows == 1));
        let stride = if y.rows == 1 { 0 } else { y.stride };
        let parameters = Parameters::new()
            .matrix(x)
            .matrix(Slice { stride, ..y })
            .matrix(out)
            .word(out.rows)
            .word(out.cols)
            .word(usize::from(accumulate));
        self.device.launch(MULTIPLY, cover(out.rows * out.cols), &parameters);
    }

    pub(super) fn launch_gather(&mut self, table: Slice, rows: &CudaRows, out: Slice) {
        assert_eq!((rows.count, table.cols), (out.rows, out.cols));
        let parameters = Parameters::new()
            .matrix(table)
            .address(rows.rows_address())
            .matrix(out)
            .word(out.rows)
            .word(out.cols);
        self.device.launch(GATHER, cover(out.rows * out.cols), &parameters);
    }

    /// Copies the dense rows at `from`, which the host wrote, to `out`.
    pub(super) fn fetch(&mut self, from: Address, out: Slice) {
        let from = Slice {
            address: from,
            stride: out.cols,
            ..out
        };
        self.launch_copy(from, false, out);
    }

    /// Copies `x` densely behind the header of `answer`, and after that the word at `ticket` to its first word, for a host
    /// that polls it.
    pub(super) fn deliver(&mut self, ticket: Address, x: Slice, answer: Address) {
        let parameters = Parameters::new()
            .address(ticket)
            .matrix(x)
            .word(x.rows)
            .word(x.cols)
            .address(answer);
        self.device.launch(DELIVER, Shape::blocks(1), &parameters);
    }

    pub(super) fn launch_map(&mut self, f: Map, x: Slice, out: Slice) {
        assert_eq!((x.rows, x.cols), (out.rows, out.cols));
        let (number, limit) = map_parameters(f);
        let parameters = Parameters::new()
            .matrix(x)
            .matrix(out)
            .word(out.rows)
            .word(out.cols)
            .word(number)
            .float(limit);
        self.device.launch(MAP, cover(out.rows * out.cols), &parameters);
    }

    pub(super) fn launch_outer_add(&mut self, a: Slice, b: Slice, activation: Activation, out: Slice) {
        assert_eq!((a.rows * b.rows, a.cols, b.cols), (out.rows, out.cols, out.cols));
        let parameters = Parameters::new()
            .matrix(a)
            .matrix(b)
            .matrix(out)
            .word(b.rows)
            .word(out.rows)
            .word(out.cols)
            .word(usize::from(activation == Activation::Gelu));
        self.device.launch(OUTER_ADD, cover(out.rows * out.cols), &parameters);
    }

    pub(super) fn launch_activate(&mut self, unit: Unit, x: Slice, out: Slice) {
        let gated = usize::from(unit == Unit::Geglu);
        assert_eq!((x.rows, x.cols), (out.rows, out.cols * (1 + gated)));
        let parameters = Parameters::new()
            .matrix(x)
            .matrix(out)
            .word(out.rows)
            .word(out.cols)
            .word(gated);
        self.device.launch(ACTIVATE, cover(out.rows * out.cols), &parameters);
    }

    pub(super) fn launch_drop(&mut self, mask: DropMask, x: Slice) {
        let parameters = Parameters::new()
            .matrix(x)
            .word(x.rows)
            .word(x.cols)
            .long(mask.seed)
            .long(mask.stream)
            .word(usize::from(mask.threshold()))
            .float(mask.scale());
        let threads = (x.rows * x.cols).div_ceil(NUMBERS);
        self.device.launch(DROP, cover(threads), &parameters);
    }
}
