//! What lies in device memory: matrices, lists of rows, tables of sines and cosines.

use std::sync::{Arc, Mutex};

use super::driver::{Address, Mapped};
use crate::backend::{Matrix, View, ViewMut};

/// Memory that was given back, by size: taken again before the driver is asked for more. Everything runs in one order, so
/// that what is taken again is no longer read by what ran before.
#[derive(Debug, Default)]
pub(super) struct Returned {
    /// Device memory.
    pub(super) memory: Mutex<Vec<(usize, Address)>>,
    /// Memory that the host sees too.
    pub(super) staging: Mutex<Vec<Mapped>>,
}

/// A piece of device memory; given back when it is dropped.
#[derive(Debug)]
pub struct Allocation {
    pub(super) address: Address,
    pub(super) bytes: usize,
    pub(super) returned: Arc<Returned>,
}

impl Drop for Allocation {
    fn drop(&mut self) {
        if let Ok(mut list) = self.returned.memory.lock() {
            list.push((self.bytes, self.address));
        }
    }
}

/// Mapped memory through which the host says what changes; given back when it is dropped.
#[derive(Debug)]
pub struct Staging {
    pub(super) mapped: Mapped,
    pub(super) returned: Arc<Returned>,
}

impl Drop for Staging {
    fn drop(&mut self) {
        if let Ok(mut list) = self.returned.staging.lock() {
            list.push(self.mapped);
        }
    }
}

/// A dense row-major matrix of `f32`.
#[derive(Debug)]
pub struct CudaTensor {
    pub(super) memory: Allocation,
    pub(super) rows: usize,
    pub(super) cols: usize,
}

impl Matrix for CudaTensor {
    fn rows(&self) -> usize {
        self.rows
    }
    fn cols(&self) -> usize {
        self.cols
    }
}

/// A rectangle in device memory, as kernels see it.
#[derive(Debug, Clone, Copy)]
pub struct Slice {
    /// Of the first element.
    pub address: Address,
    /// Elements from one row to the next.
    pub stride: usize,
    /// Rows.
    pub rows: usize,
    /// Columns.
    pub cols: usize,
}

impl Slice {
    pub(super) fn of(view: View<'_, CudaTensor>) -> Self {
        Slice {
            address: view.tensor.memory.address + 4 * (view.row * view.tensor.cols + view.col) as u64,
            stride: view.tensor.cols,
            rows: view.rows,
            cols: view.cols,
        }
    }

    pub(super) fn of_out(view: &ViewMut<'_, CudaTensor>) -> Self {
        Slice {
            address: view.tensor.memory.address + 4 * (view.row * view.tensor.cols + view.col) as u64,
            stride: view.tensor.cols,
            rows: view.rows,
            cols: view.cols,
        }
    }

    pub(super) fn of_tensor(tensor: &CudaTensor) -> Self {
        Slice::of(tensor.view())
    }

    /// Whether its elements follow one another without gaps.
    pub(super) fn is_dense(self) -> bool {
        self.stride == self.cols || self.rows <= 1
    }
}

/// A list of row numbers. The host writes it to `staging`, a kernel copies it to `list`; both begin with the count.
#[derive(Debug)]
pub struct CudaRows {
    /// `1 + capacity` words: the count, then the row numbers.
    pub(super) list: Allocation,
    pub(super) staging: Staging,
    pub(super) capacity: usize,
    /// The count as the host knows it.
    pub(super) count: usize,
}

impl CudaRows {
    /// Where the count stands.
    pub(super) fn count_address(&self) -> Address {
        self.list.address
    }
    /// Where the first row number stands.
    pub(super) fn rows_address(&self) -> Address {
        self.list.address + 4
    }
}

/// Cosine and sine of every angle, next to each other: `[capacity, 2 · pairs]`.
#[derive(Debug)]
pub struct CudaRotation {
    pub(super) table: Allocation,
    /// `[pairs]` rad/s.
    pub(super) omega: Allocation,
    /// Two words, first row and count, then `[capacity]` times in seconds.
    pub(super) staging: Staging,
    pub(super) pairs: usize,
    pub(super) capacity: usize,
}

impl CudaRotation {
    /// Where row `first` begins.
    pub(super) fn row_address(&self, first: usize) -> Address {
        self.table.address + 8 * (first * self.pairs) as u64
    }
}

/// A linear layer.
#[derive(Debug)]
pub struct CudaLinear {
    /// `[outputs, inputs]`: `f32`, or `f16` with rows of `stride` elements, the rest of them zeros.
    pub(super) weight: Allocation,
    pub(super) stride: usize,
    pub(super) half: bool,
    pub(super) bias: Option<Allocation>,
    pub(super) outputs: usize,
    pub(super) inputs: usize,
    pub(super) gated: bool,
}
