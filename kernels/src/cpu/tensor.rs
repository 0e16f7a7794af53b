//! Matrices in memory, and views of them.

use super::memory::Aligned;
use crate::backend::{Matrix, View, ViewMut};

/// A row-major matrix.
pub struct CpuTensor {
    pub(super) rows: usize,
    pub(super) cols: usize,
    pub(super) data: Aligned<f32>,
}

impl Matrix for CpuTensor {
    fn rows(&self) -> usize {
        self.rows
    }
    fn cols(&self) -> usize {
        self.cols
    }
}

impl View<'_, CpuTensor> {
    /// First element. Rows are `tensor.cols` apart.
    pub(super) fn ptr(&self) -> *const f32 {
        assert!(self.row + self.rows <= self.tensor.rows && self.col + self.cols <= self.tensor.cols);
        // Wrapping: an empty view may begin beyond the end.
        self.tensor
            .data
            .as_ptr()
            .wrapping_add(self.row * self.tensor.cols + self.col)
    }
    pub(super) fn row_slice(&self, i: usize) -> &[f32] {
        let start = (self.row + i) * self.tensor.cols + self.col;
        &self.tensor.data.as_slice()[start..start + self.cols]
    }
}

impl ViewMut<'_, CpuTensor> {
    pub(super) fn ptr(&mut self) -> *mut f32 {
        assert!(self.row + self.rows <= self.tensor.rows && self.col + self.cols <= self.tensor.cols);
        self.tensor
            .data
            .as_mut_ptr()
            .wrapping_add(self.row * self.tensor.cols + self.col)
    }
    pub(super) fn row_slice(&mut self, i: usize) -> &mut [f32] {
        let start = (self.row + i) * self.tensor.cols + self.col;
        &mut self.tensor.data.as_mut_slice()[start..start + self.cols]
    }
}
