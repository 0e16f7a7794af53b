//! Products of FP32 matrices: the launch plan of `ptx/products.ptx`.

use super::device::{Kernel, Shape};
use super::driver::{Address, Driver};
use super::linear::FLAG_ACCUMULATE;
use super::parameters::Parameters;
use super::storage::Slice;
use super::CudaBackend;

const PRODUCT: Kernel = Kernel {
    file: "products.ptx",
    text: include_str!("../../ptx/products.ptx"),
    entry: "product_f32",
    block: 128,
};

/// A matrix read with any strides: its first element, elements from row to row, and from column to column.
pub(super) type Strided = (Address, usize, usize);

/// `out[z, i, j] (+)= f(scale · Σ_k a(z, i, k) b(z, j, k) + bias[j] + addend[i, j])`
#[derive(Debug, Clone, Copy)]
pub(super) struct Product {
    pub(super) a: Strided,
    pub(super) b: Strided,
    /// Elements from one z to the next, of a, b and out.
    pub(super) batch_strides: [usize; 3],
    pub(super) batch: usize,
    pub(super) rows: usize,
    pub(super) cols: usize,
    pub(super) depth: usize,
    pub(super) scale: f32,
    /// Or 0.
    pub(super) bias: Address,
    pub(super) addend: Option<Slice>,
    /// [`super::linear::FLAG_GELU`], [`FLAG_ACCUMULATE`].
    pub(super) flags: usize,
}

impl Default for Product {
    fn default() -> Self {
        Product {
            a: (0, 0, 0),
            b: (0, 0, 0),
            batch_strides: [0; 3],
            batch: 1,
            rows: 0,
            cols: 0,
            depth: 0,
            scale: 1.0,
            bias: 0,
            addend: None,
            flags: 0,
        }
    }
}

impl<D: Driver> CudaBackend<D> {
    /// Only the address and the stride of `out` count.
    pub(super) fn product(&mut self, product: Product, out: Slice) {
        let Product { a, b, .. } = product;
        assert!(product.depth > 0 || product.rows * product.cols == 0);
        let parameters = Parameters::new()
            .address(a.0)
            .word(product.batch_strides[0])
            .word(a.1)
            .word(a.2)
            .address(b.0)
            .word(product.batch_strides[1])
            .word(b.1)
            .word(b.2)
            .address(out.address)
            .word(product.batch_strides[2])
            .word(out.stride)
            .word(product.rows)
            .word(product.cols)
            .word(product.depth)
            .float(product.scale)
            .address(product.bias)
            .address(product.addend.map_or(0, |addend| addend.address))
            .word(product.addend.map_or(0, |addend| addend.stride))
            .word(product.flags);
        let shape = Shape {
            grid: [product.cols.div_ceil(64), product.rows.div_ceil(32), product.batch],
            ..Shape::blocks(1)
        };
        self.device.launch(PRODUCT, shape, &parameters);
    }

    /// `gw += gyᵀ x`.
    pub(super) fn launch_weight_gradient(&mut self, gy: Slice, x: Slice, gw: Slice) {
        assert_eq!((gy.rows, gy.cols, x.cols), (x.rows, gw.rows, gw.cols));
        if gy.rows == 0 {
            return;
        }
        let product = Product {
            a: (gy.address, 1, gy.stride),
            b: (x.address, 1, x.stride),
            rows: gy.cols,
            cols: x.cols,
            depth: gy.rows,
            flags: FLAG_ACCUMULATE,
            ..Product::default()
        };
        self.product(product, gw);
    }
}
