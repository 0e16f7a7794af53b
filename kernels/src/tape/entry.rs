//! What the tape holds: one entry an assignment, with what its derivative needs.

use super::storage::{Area, Saved, IN_PLACE};
use crate::backend::{Activation, Map, Mask, Matrix, Norm};
use crate::gradient::{DropMask, Unit};

/// The angles of a rotation that belong to a matrix's rows.
#[derive(Debug, Clone, Copy)]
pub(super) struct Turn {
    pub(super) rotation: usize,
    pub(super) first: usize,
}

/// A matrix that attention reads: rows of a tensor, perhaps listed, perhaps turned.
#[derive(Debug, Clone, Copy)]
pub(super) struct Source {
    pub(super) area: Area,
    pub(super) rows: Option<usize>,
    pub(super) turn: Option<Turn>,
}

/// One assignment, with what its derivative needs.
#[allow(clippy::large_enum_variant)] // a window makes a hundred of them
pub(super) enum Record {
    /// `out` no longer depends on anything.
    Constant {
        out: Area,
    },
    Gather {
        table: Area,
        rows: usize,
        out: Area,
    },
    Copy {
        x: Area,
        accumulate: bool,
        out: Area,
    },
    Map {
        f: Map,
        x: Area,
        saved: Saved,
        out: Area,
    },
    OuterAdd {
        a: Area,
        b: Area,
        activation: Activation,
        saved: [Saved; 2],
        out: Area,
    },
    Product {
        kind: Product,
        a: Area,
        b: Area,
        saved: [Saved; 2],
        accumulate: bool,
        out: Area,
    },
    Linear(LinearRecord),
    Rotate {
        turn: Turn,
        x: Area,
    },
    Attention(AttentionRecord),
    Pool {
        scores: Option<(Area, Saved)>,
        values: Area,
        saved: Saved,
        accumulate: bool,
        out: Area,
    },
}

/// A product of two tensors.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Product {
    /// [`Backend::outer_dot`].
    Outer,
    /// [`Backend::multiply`].
    Elements,
    /// [`Backend::sum_rows`].
    Rows,
}

pub(super) struct LinearRecord {
    pub(super) x: Area,
    pub(super) layer: usize,
    pub(super) norm: Option<NormRecord>,
    pub(super) addend: Option<Area>,
    /// What was multiplied: `x`, or what the norm made of it.
    pub(super) input: Saved,
    /// The function after the product, and the product.
    pub(super) unit: Option<(Unit, Saved)>,
    pub(super) drop: Option<DropMask>,
    pub(super) accumulate: bool,
    pub(super) out: Area,
}

pub(super) struct NormRecord {
    pub(super) gain: usize,
    pub(super) bias: usize,
    pub(super) x: Saved,
}

pub(super) struct AttentionRecord {
    pub(super) sources: [Source; 3],
    /// Queries, keys and values as they were multiplied.
    pub(super) saved: [Saved; 3],
    pub(super) weights: Saved,
    pub(super) result: Saved,
    /// The output was turned back by this.
    pub(super) back: Option<Turn>,
    pub(super) heads: usize,
    pub(super) mask: Mask,
    pub(super) drop: Option<DropMask>,
    pub(super) out: Area,
}

/// Gain and bias of a recorded norm.
pub(super) fn parts<'a, T: Matrix>(values: &'a [Option<T>], norm: &NormRecord) -> Norm<'a, T> {
    let tensor = |id: usize| values[id].as_ref().expect(IN_PLACE);
    Norm {
        gain: tensor(norm.gain),
        bias: tensor(norm.bias),
    }
}
