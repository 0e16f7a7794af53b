//! Linear layers: `ptx/linear.ptx` for FP16 weights, `ptx/products.ptx` for FP32.

use half::f16;

use super::device::{Kernel, Shape};
use super::driver::Driver;
use super::parameters::Parameters;
use super::products::Product;
use super::storage::{CudaLinear, CudaTensor, Slice};
use super::{CudaBackend, Scratch};
use crate::backend::{Activation, LinearArgs, LinearSpec, Precision};
use crate::gradient::Unit;

const LINEAR: Kernel = Kernel {
    file: "linear.ptx",
    text: include_str!("../../ptx/linear.ptx"),
    entry: "linear_f16",
    block: 128,
};

/// Columns of FP16 weights come in multiples of this, filled up with zeros.
const DEPTH_STEP: usize = 64;
/// Columns staged at a time at most.
const MOST_CHUNK: usize = 512;
/// Rows of the output that a block makes, and rows of the weights that it multiplies.
const TILE: (usize, usize) = (16, 64);
/// Bytes of a block's partial sums: four warps, rows of 68.
const PARTIAL_BYTES: usize = 4 * 16 * 68 * 4;

pub(super) const FLAG_GATED: usize = 1;
pub(super) const FLAG_GELU: usize = 2;
pub(super) const FLAG_ACCUMULATE: usize = 4;

/// Address of what may not be there; 0 then.
fn address(tensor: Option<&CudaTensor>) -> u64 {
    tensor.map_or(0, |tensor| Slice::of_tensor(tensor).address)
}

impl<D: Driver> CudaBackend<D> {
    pub(super) fn new_linear(&mut self, spec: &LinearSpec<'_>) -> CudaLinear {
        assert!(!spec.gated || spec.outputs.is_multiple_of(2));
        let half = match spec.precision {
            Precision::F16 => true,
            Precision::F32 => false,
            Precision::Bf16 => panic!("a CUDA backend has FP16 and FP32 weights; callers refuse BF16 first"),
        };
        let stride = if half {
            spec.inputs.next_multiple_of(DEPTH_STEP)
        } else {
            spec.inputs
        };
        let rows = spec.weight.chunks(spec.row_stride).take(spec.outputs);
        let weight = if half {
            let mut packed = vec![0u16; spec.outputs * stride];
            for (to, from) in packed.chunks_mut(stride).zip(rows) {
                for (to, &from) in to.iter_mut().zip(&from[..spec.inputs]) {
                    *to = f16::from_f32(from).to_bits();
                }
            }
            let memory = self.device.allocate(2 * packed.len());
            self.device.write(memory.address, bytemuck::cast_slice(&packed));
            memory
        } else {
            let packed: Vec<f32> = rows.flat_map(|row| &row[..spec.inputs]).copied().collect();
            let memory = self.device.allocate(4 * packed.len());
            self.device.write(memory.address, bytemuck::cast_slice(&packed));
            memory
        };
        let bias = spec.bias.map(|bias| {
            let memory = self.device.allocate(4 * spec.outputs);
            self.device
                .write(memory.address, bytemuck::cast_slice(&bias[..spec.outputs]));
            memory
        });
        CudaLinear {
            weight,
            stride,
            half,
            bias,
            outputs: spec.outputs,
            inputs: spec.inputs,
            gated: spec.gated,
        }
    }

    pub(super) fn launch_linear(&mut self, x: Slice, layer: &CudaLinear, args: LinearArgs<'_, CudaTensor>, out: Slice) {
        let width = if layer.gated { layer.outputs / 2 } else { layer.outputs };
        assert_eq!((x.cols, x.rows, width), (layer.inputs, out.rows, out.cols));
        let addend = args.addend.map(Slice::of);
        assert!(!layer.gated || (addend.is_none() && args.activation == Activation::Identity));
        let mut flags = 0;
        if args.activation == Activation::Gelu {
            flags |= FLAG_GELU;
        }
        if args.accumulate {
            flags |= FLAG_ACCUMULATE;
        }
        if layer.half {
            self.linear_f16(x, layer, &args, addend, flags, out);
        } else {
            self.linear_f32(x, layer, args, addend, flags, out);
        }
    }

    fn linear_f16(
        &mut self,
        x: Slice,
        layer: &CudaLinear,
        args: &LinearArgs<'_, CudaTensor>,
        addend: Option<Slice>,
        flags: usize,
        out: Slice,
    ) {
        let (gated, columns) = if layer.gated {
            (FLAG_GATED, TILE.1 / 2)
        } else {
            (0, TILE.1)
        };
        let chunk = layer.stride.min(MOST_CHUNK);
        let stage = 2 * (2 * TILE.0 + TILE.1) * (chunk + 8);
        let parameters = Parameters::new()
            .matrix(x)
            .word(x.rows)
            .word(layer.inputs)
            .address(address(args.norm.map(|norm| norm.gain)))
            .address(address(args.norm.map(|norm| norm.bias)))
            .address(layer.weight.address)
            .word(layer.stride)
            .word(out.cols)
            .address(layer.bias.as_ref().map_or(0, |bias| bias.address))
            .address(addend.map_or(0, |addend| addend.address))
            .word(addend.map_or(0, |addend| addend.stride))
            .matrix(out)
            .word(chunk)
            .word(flags | gated);
        let shape = Shape {
            grid: [out.cols.div_ceil(columns), out.rows.div_ceil(TILE.0), 1],
            shared: stage.max(PARTIAL_BYTES),
            constants: &[],
        };
        self.device.launch(LINEAR, shape, &parameters);
    }

    fn linear_f32(
        &mut self,
        x: Slice,
        layer: &CudaLinear,
        args: LinearArgs<'_, CudaTensor>,
        addend: Option<Slice>,
        flags: usize,
        out: Slice,
    ) {
        let mut x = x;
        if let Some(norm) = args.norm {
            let memory = self.scratch(Scratch::Query, 4 * x.rows * x.cols);
            let normed = Slice {
                address: memory,
                stride: x.cols,
                ..x
            };
            self.launch_normalise(x, Slice::of_tensor(norm.gain), Slice::of_tensor(norm.bias), normed);
            x = normed;
        }
        let bias = layer.bias.as_ref().map_or(0, |bias| bias.address);
        let product = Product {
            a: (x.address, x.stride, 1),
            b: (layer.weight.address, layer.stride, 1),
            rows: x.rows,
            cols: layer.outputs,
            depth: layer.inputs,
            bias,
            addend,
            flags,
            ..Product::default()
        };
        if !layer.gated {
            self.product(product, out);
            return;
        }
        let memory = self.scratch(Scratch::Wide, 4 * x.rows * (layer.outputs + out.cols));
        let both = Slice {
            address: memory,
            stride: layer.outputs,
            rows: x.rows,
            cols: layer.outputs,
        };
        self.product(Product { flags: 0, ..product }, both);
        if flags & FLAG_ACCUMULATE == 0 {
            self.launch_activate(Unit::Geglu, both, out);
            return;
        }
        let gated = Slice {
            address: memory + 4 * (x.rows * layer.outputs) as u64,
            stride: out.cols,
            rows: x.rows,
            cols: out.cols,
        };
        self.launch_activate(Unit::Geglu, both, gated);
        self.launch_copy(gated, true, out);
    }
}
