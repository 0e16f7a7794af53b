//! Weights laid out for products.
//!
//! They lie in panels of two vectors of outputs, input by input, so that a register block reads them in order. A gated
//! layer's panel holds one vector of values and one of gates, so that GEGLU happens in registers.

use super::linear::MOST_ROWS;
use super::memory::Aligned;
use super::vector::Isa;
use crate::backend::{LinearSpec, Precision};

/// Weights in panels.
pub(super) enum Panels {
    /// One input an element.
    F32(Aligned<f32>),
    /// One input an element.
    F16(Aligned<u16>),
    /// Two successive inputs an element, the first in the low half.
    Bf16(Aligned<u32>),
}

/// A linear layer laid out for one instruction set.
pub struct PackedLinear {
    /// `W`.
    pub(super) panels: Panels,
    /// `b`, a panel's worth a panel; zeros without one.
    pub(super) bias: Aligned<f32>,
    /// Columns that come out.
    pub(super) outputs: usize,
    /// Columns that go in.
    pub(super) inputs: usize,
    /// GEGLU.
    pub(super) gated: bool,
    /// Columns that a panel puts out.
    pub(super) panel_outputs: usize,
}

impl PackedLinear {
    /// Packs a layer.
    pub fn new(isa: Isa, spec: &LinearSpec<'_>) -> Self {
        assert!(!spec.gated || spec.outputs.is_multiple_of(2));
        let lanes = isa.lanes();
        let outputs = if spec.gated { spec.outputs / 2 } else { spec.outputs };
        let panel_outputs = if spec.gated { lanes } else { 2 * lanes };
        let count = outputs.div_ceil(panel_outputs);
        // Row of `W` behind lane `lane` of panel `panel`.
        let row_of = |panel: usize, lane: usize| {
            let output = panel * panel_outputs + if spec.gated { lane % lanes } else { lane };
            (output < outputs).then_some(if spec.gated && lane >= lanes {
                outputs + output
            } else {
                output
            })
        };
        let weight = |row: usize, input: usize| {
            if input < spec.inputs {
                spec.weight[row * spec.row_stride + input]
            } else {
                0.0
            }
        };
        let mut bias = Aligned::zeros(count * 2 * lanes);
        if let Some(values) = spec.bias {
            for (i, slot) in bias.as_mut_slice().iter_mut().enumerate() {
                *slot = row_of(i / (2 * lanes), i % (2 * lanes)).map_or(0.0, |row| values[row]);
            }
        }
        // Calls `put(index, row, input)` for every lane of every panel, `step` inputs an element.
        let each = |step: usize, put: &mut dyn FnMut(usize, usize, usize)| {
            let depth = spec.inputs.div_ceil(step);
            for panel in 0..count {
                for k in 0..depth {
                    for lane in 0..2 * lanes {
                        if let Some(row) = row_of(panel, lane) {
                            put((panel * depth + k) * 2 * lanes + lane, row, k * step);
                        }
                    }
                }
            }
        };
        let size = count * spec.inputs * 2 * lanes;
        let panels = match spec.precision {
            Precision::F32 => {
                let mut packed = Aligned::zeros(size);
                let slots: &mut [f32] = packed.as_mut_slice();
                each(1, &mut |at, row, input| slots[at] = weight(row, input));
                Panels::F32(packed)
            }
            Precision::F16 => {
                let mut packed = Aligned::zeros(size);
                let slots: &mut [u16] = packed.as_mut_slice();
                each(1, &mut |at, row, input| {
                    slots[at] = half::f16::from_f32(weight(row, input)).to_bits()
                });
                Panels::F16(packed)
            }
            Precision::Bf16 => {
                let mut packed = Aligned::zeros(count * spec.inputs.div_ceil(2) * 2 * lanes);
                let slots: &mut [u32] = packed.as_mut_slice();
                each(2, &mut |at, row, input| {
                    slots[at] = bf16_pair(weight(row, input), weight(row, input + 1))
                });
                Panels::Bf16(packed)
            }
        };
        PackedLinear {
            panels,
            bias,
            outputs,
            inputs: spec.inputs,
            gated: spec.gated,
            panel_outputs,
        }
    }

    /// Number of panels.
    pub fn panels(&self) -> usize {
        self.outputs.div_ceil(self.panel_outputs)
    }

    /// Scratch elements that [`LinearJob::scratch`] needs for a layer of `inputs`.
    pub fn scratch(inputs: usize) -> usize {
        // Normalised rows, rows in BF16, and a panel's sums.
        2 * MOST_ROWS * inputs.next_multiple_of(16) + MOST_ROWS * 32
    }
}

/// Rounds both to BF16, `first` in the low half.
fn bf16_pair(first: f32, second: f32) -> u32 {
    let bits = |x: f32| u32::from(half::bf16::from_f32(x).to_bits());
    bits(second) << 16 | bits(first)
}
