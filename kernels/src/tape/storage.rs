//! Rectangles of numbered tensors, copies that the way back needs, and tensors to be used again.

use std::collections::HashMap;

use super::TapeTensor;
use crate::backend::{Backend, Matrix, View, ViewMut};

/// A rectangle of a tensor, by its number.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Area {
    pub(super) id: usize,
    pub(super) row: usize,
    pub(super) rows: usize,
    pub(super) col: usize,
    pub(super) cols: usize,
}

impl Area {
    pub(super) fn of(view: View<'_, TapeTensor>) -> Self {
        Area {
            id: view.tensor.id,
            row: view.row,
            rows: view.rows,
            col: view.col,
            cols: view.cols,
        }
    }

    pub(super) fn of_out(view: &ViewMut<'_, TapeTensor>) -> Self {
        Area {
            id: view.tensor.id,
            row: view.row,
            rows: view.rows,
            col: view.col,
            cols: view.cols,
        }
    }

    /// This rectangle of a tensor that was taken out.
    pub(super) fn of_mut<T: Matrix>(self, tensor: &mut T) -> ViewMut<'_, T> {
        tensor.block_mut(self.row, self.rows, self.col, self.cols)
    }

    /// The same, to be read.
    pub(super) fn of_ref<T: Matrix>(self, tensor: &T) -> View<'_, T> {
        tensor.block(self.row, self.rows, self.col, self.cols)
    }
}

/// A rectangle of a tensor in place.
pub(super) fn view<T: Matrix>(tensors: &[Option<T>], area: Area) -> View<'_, T> {
    area.of_ref(tensors[area.id].as_ref().expect(IN_PLACE))
}

/// Takes a tensor out, to be written while others are read.
pub(super) fn take<T>(tensors: &mut [Option<T>], area: Area) -> T {
    tensors[area.id].take().expect(IN_PLACE)
}

/// Puts it back.
pub(super) fn put<T>(tensors: &mut [Option<T>], area: Area, tensor: T) {
    tensors[area.id] = Some(tensor);
}

/// A copy that was kept: the first `rows` × `cols` of slot `slot`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Saved {
    slot: usize,
    pub(super) rows: usize,
    pub(super) cols: usize,
}

impl Saved {
    /// The copy in its slot's tensor.
    pub(super) fn of_ref<T: Matrix>(self, tensor: &T) -> View<'_, T> {
        tensor.block(0, self.rows, 0, self.cols)
    }

    /// The same, to be written.
    pub(super) fn of_mut<T: Matrix>(self, tensor: &mut T) -> ViewMut<'_, T> {
        tensor.block_mut(0, self.rows, 0, self.cols)
    }
}

/// Why a tensor is there.
pub(super) const IN_PLACE: &str = "tensors are out of their place only while they are written";

/// Copies in the order of recording. A window is much like the one before, so that slot `i` nearly always has the room
/// that is asked of it.
pub(super) struct Slots<B: Backend> {
    tensors: Vec<Option<B::Tensor>>,
    used: usize,
}

/// Sizes grow by this, so that a window with a few more spikes finds room.
const GROWTH: usize = 64;

impl<B: Backend> Slots<B> {
    pub(super) fn new() -> Self {
        Slots {
            tensors: Vec::new(),
            used: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.used
    }

    pub(super) fn truncate(&mut self, used: usize) {
        self.used = used;
    }

    /// Room for a matrix, its contents unspecified.
    pub(super) fn take(&mut self, inner: &mut B, rows: usize, cols: usize) -> Saved {
        let slot = self.used;
        if slot == self.tensors.len() {
            self.tensors.push(Some(inner.zeros(rows, cols)));
        }
        let tensor = self.tensors[slot].as_mut().expect(IN_PLACE);
        if tensor.rows() < rows || tensor.cols() < cols {
            let grown = |now: usize, need: usize| if need > now { need.next_multiple_of(GROWTH) } else { now };
            *tensor = inner.zeros(grown(tensor.rows(), rows), grown(tensor.cols(), cols));
        }
        self.used += 1;
        Saved { slot, rows, cols }
    }

    /// A copy of a rectangle.
    pub(super) fn save(&mut self, inner: &mut B, x: View<'_, B::Tensor>) -> Saved {
        let saved = self.take(inner, x.rows, x.cols);
        inner.copy(x, false, self.view_mut(saved));
        saved
    }

    pub(super) fn view(&self, saved: Saved) -> View<'_, B::Tensor> {
        saved.of_ref(self.tensors[saved.slot].as_ref().expect(IN_PLACE))
    }

    pub(super) fn view_mut(&mut self, saved: Saved) -> ViewMut<'_, B::Tensor> {
        saved.of_mut(self.tensors[saved.slot].as_mut().expect(IN_PLACE))
    }

    /// Takes a slot's tensor out, to be written while others are read.
    pub(super) fn out(&mut self, saved: Saved) -> B::Tensor {
        self.tensors[saved.slot].take().expect(IN_PLACE)
    }

    /// Puts it back.
    pub(super) fn back(&mut self, saved: Saved, tensor: B::Tensor) {
        self.tensors[saved.slot] = Some(tensor);
    }
}

/// Tensors of a tape that was cleared, by shape.
pub(super) struct Pool<B: Backend> {
    free: HashMap<(usize, usize), Vec<B::Tensor>>,
}

impl<B: Backend> Pool<B> {
    pub(super) fn new() -> Self {
        Pool { free: HashMap::new() }
    }

    pub(super) fn give(&mut self, tensor: B::Tensor) {
        self.free
            .entry((tensor.rows(), tensor.cols()))
            .or_default()
            .push(tensor);
    }

    /// A tensor of zeros.
    pub(super) fn take(&mut self, inner: &mut B, rows: usize, cols: usize) -> B::Tensor {
        match self.free.get_mut(&(rows, cols)).and_then(Vec::pop) {
            Some(mut tensor) => {
                inner.fill(0.0, tensor.view_mut());
                tensor
            }
            None => inner.zeros(rows, cols),
        }
    }
}
