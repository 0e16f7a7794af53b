//! [`Backend`]: every numeric operation that the network is made of, with shapes.
//!
//! A backend owns its storage. The network is written once over this trait and never sees an element except through
//! [`Backend::upload`] and [`Backend::download`].
//!
//! Conventions of every operation:
//! - A tensor is a dense row-major matrix of `f32`, `[rows, cols]`. Operations act on rectangular [`View`]s of tensors.
//! - Shapes are checked; a mismatch is a bug of the caller and panics. Data never panics.
//! - No operation allocates once its largest shape has been seen (see [`Backend::reserve`]).
//! - Inputs and output of one operation are different tensors: the borrow checker sees to that.

use crate::generation::Generation;

/// Rows `row .. row + rows`, columns `col .. col + cols` of a tensor.
#[derive(Debug)]
pub struct View<'a, T> {
    /// The tensor looked at.
    pub tensor: &'a T,
    /// First row.
    pub row: usize,
    /// Number of rows.
    pub rows: usize,
    /// First column.
    pub col: usize,
    /// Number of columns.
    pub cols: usize,
}

impl<T> Clone for View<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for View<'_, T> {}

/// Like [`View`], to be written.
#[derive(Debug)]
pub struct ViewMut<'a, T> {
    /// The tensor written to.
    pub tensor: &'a mut T,
    /// First row.
    pub row: usize,
    /// Number of rows.
    pub rows: usize,
    /// First column.
    pub col: usize,
    /// Number of columns.
    pub cols: usize,
}

/// A dense row-major matrix of `f32` that a backend stores.
pub trait Matrix: Sized {
    /// Number of rows.
    fn rows(&self) -> usize;
    /// Number of columns.
    fn cols(&self) -> usize;

    /// All of it.
    fn view(&self) -> View<'_, Self> {
        self.block(0, self.rows(), 0, self.cols())
    }
    /// Rows `row .. row + rows`, all columns.
    fn row_block(&self, row: usize, rows: usize) -> View<'_, Self> {
        self.block(row, rows, 0, self.cols())
    }
    /// A rectangle.
    fn block(&self, row: usize, rows: usize, col: usize, cols: usize) -> View<'_, Self> {
        assert!(
            row + rows <= self.rows() && col + cols <= self.cols(),
            "block out of range"
        );
        View {
            tensor: self,
            row,
            rows,
            col,
            cols,
        }
    }
    /// All of it, to be written.
    fn view_mut(&mut self) -> ViewMut<'_, Self> {
        let (rows, cols) = (self.rows(), self.cols());
        self.block_mut(0, rows, 0, cols)
    }
    /// Rows `row .. row + rows`, all columns, to be written.
    fn row_block_mut(&mut self, row: usize, rows: usize) -> ViewMut<'_, Self> {
        let cols = self.cols();
        self.block_mut(row, rows, 0, cols)
    }
    /// A rectangle, to be written.
    fn block_mut(&mut self, row: usize, rows: usize, col: usize, cols: usize) -> ViewMut<'_, Self> {
        assert!(
            row + rows <= self.rows() && col + cols <= self.cols(),
            "block out of range"
        );
        ViewMut {
            tensor: self,
            row,
            rows,
            col,
            cols,
        }
    }
}

/// How the weights of a [`Linear`](Backend::linear) are stored and multiplied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Precision {
    /// Weights FP32, products and sums FP32.
    #[default]
    F32,
    /// Weights rounded to FP16, products and sums FP32.
    F16,
    /// Weights and inputs rounded to BF16, products summed in FP32.
    Bf16,
}

/// A linear layer `y = x Wᵀ + b` to be made by [`Backend::linear_layer`].
#[derive(Debug, Clone, Copy)]
pub struct LinearSpec<'a> {
    /// `W`, row-major `[outputs, inputs]`; row `i` starts at `i * row_stride`, so that a slice of columns of a larger
    /// matrix can be a layer of its own.
    pub weight: &'a [f32],
    /// Distance between rows of `weight`, at least `inputs`.
    pub row_stride: usize,
    /// Rows of `W`.
    pub outputs: usize,
    /// Columns of `W`.
    pub inputs: usize,
    /// `b`, `[outputs]`.
    pub bias: Option<&'a [f32]>,
    /// GEGLU: the first half of the outputs times the GELU of the second half, so that `outputs / 2` columns come out.
    pub gated: bool,
    /// Storage and arithmetic.
    pub precision: Precision,
    /// Where the numbers stand among the model's named parameters.
    pub origin: Origin<'a>,
}

/// The named parameters that a layer is a rectangle of. Names are for backends that keep gradients; others ignore them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Origin<'a> {
    /// The matrix that `W` is a part of.
    pub weight: &'a str,
    /// The vector that `b` is a part of.
    pub bias: &'a str,
    /// Row of the matrix, and element of the vector, where the layer begins.
    pub row: usize,
    /// Column of the matrix where the layer begins.
    pub col: usize,
}

/// What a network that learns drops at random, so that no part relies on another (Srivastava et al. 2014). A backend that
/// predicts drops nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Dropout {
    /// Nothing.
    #[default]
    None,
    /// Hidden channels of a feed-forward layer.
    Hidden,
    /// Attention weights.
    Weights,
    /// What a layer adds to the residual stream.
    Residual,
}

/// What happens to a product before it is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Activation {
    /// Nothing.
    #[default]
    Identity,
    /// `x Φ(x)` with the exact error function.
    Gelu,
}

/// LayerNorm over a row: `(x − mean) / √(variance + 1e-5) · gain + bias`, the variance being the biased one.
#[derive(Debug)]
pub struct Norm<'a, T> {
    /// `[1, cols]`.
    pub gain: &'a T,
    /// `[1, cols]`.
    pub bias: &'a T,
}

impl<T> Clone for Norm<'_, T> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<T> Copy for Norm<'_, T> {}

/// ε of every LayerNorm.
pub const LAYER_NORM_EPSILON: f32 = 1e-5;

/// What surrounds the product in [`Backend::linear`].
#[derive(Debug)]
pub struct LinearArgs<'a, T> {
    /// The input is first normalised.
    pub norm: Option<Norm<'a, T>>,
    /// Added to the product (after the bias, before the activation); shape of the output. Not with a gated layer.
    pub addend: Option<View<'a, T>>,
    /// Applied to the sum. Not with a gated layer.
    pub activation: Activation,
    /// What is dropped of the result while learning, before it is stored or added.
    pub dropout: Dropout,
    /// The result is added to what the output holds (a residual connection) rather than replacing it.
    pub accumulate: bool,
}

impl<T> Default for LinearArgs<'_, T> {
    fn default() -> Self {
        LinearArgs {
            norm: None,
            addend: None,
            activation: Activation::Identity,
            dropout: Dropout::None,
            accumulate: false,
        }
    }
}

/// Which keys a query may see. Query `i` of the view is query number `first + i` of its sequence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mask {
    /// Every key.
    All,
    /// Query `t` sees keys `0 .. (t + 1) * keys_per_query`.
    Causal {
        /// Number of the first query.
        first: usize,
        /// Keys that belong to one query.
        keys_per_query: usize,
    },
    /// Query `t` sees keys `t * keys_per_query .. (t + 1) * keys_per_query`.
    Local {
        /// Number of the first query.
        first: usize,
        /// Keys that belong to one query.
        keys_per_query: usize,
    },
}

impl Mask {
    /// The keys that row `i` of the query view sees, of `keys` there are.
    pub fn range(self, i: usize, keys: usize) -> std::ops::Range<usize> {
        match self {
            Mask::All => 0..keys,
            Mask::Causal { first, keys_per_query } => 0..((first + i + 1) * keys_per_query).min(keys),
            Mask::Local { first, keys_per_query } => {
                ((first + i) * keys_per_query).min(keys)..((first + i + 1) * keys_per_query).min(keys)
            }
        }
    }
}

/// Rows `first ..` of a rotation, one a row of what is rotated.
#[derive(Debug)]
pub struct Rotary<'a, R> {
    /// The angles.
    pub rotation: &'a R,
    /// The angle row that belongs to the first row.
    pub first: usize,
}

impl<R> Clone for Rotary<'_, R> {
    fn clone(&self) -> Self {
        *self
    }
}
impl<R> Copy for Rotary<'_, R> {}

/// Arguments of [`Backend::attention`]. `M` queries, `S` keys, `H` heads of `Dh` channels.
#[derive(Debug)]
pub struct Attention<'a, B: Backend + ?Sized> {
    /// `[M, H·Dh]`, or with `query_rows` the table that they are taken from.
    pub query: View<'a, B::Tensor>,
    /// Rows of `query` that are the queries, in order.
    pub query_rows: Option<&'a B::Rows>,
    /// Rotates the queries, and with `rotate_value` the output back.
    pub query_rotary: Option<Rotary<'a, B::Rotation>>,
    /// `[S, H·Dh]`, or with `key_rows` the table that they are taken from.
    pub key: View<'a, B::Tensor>,
    /// Like `key`.
    pub value: View<'a, B::Tensor>,
    /// Rows of `key` and `value` that are the keys, in order; their number is `S`.
    pub key_rows: Option<&'a B::Rows>,
    /// Rotates the keys, and with `rotate_value` the values.
    pub key_rotary: Option<Rotary<'a, B::Rotation>>,
    /// Values are rotated by the key's angles, the output back by the query's. Needs both rotations.
    pub rotate_value: bool,
    /// `H`.
    pub heads: usize,
    /// Which keys a query sees. A query that sees none gets zeros.
    pub mask: Mask,
    /// What is dropped while learning: nothing or attention weights.
    pub dropout: Dropout,
}

/// An element-wise function.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Map {
    /// `ln(1 + x)`.
    Log1p,
    /// `exp(x)`.
    Exp,
    /// `min(max(x, −limit), limit)`.
    Clamp(f32),
}

/// A device that failed; the CPU backends never return it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackendError(pub String);

impl std::fmt::Display for BackendError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}
impl std::error::Error for BackendError {}

/// Storage and operations. See the [module](self) for the conventions.
pub trait Backend {
    /// `[rows, cols]` of `f32`.
    type Tensor: Matrix + Send;
    /// A linear layer, laid out for products.
    type Linear: Send;
    /// Sines and cosines of a number of times.
    type Rotation: Send;
    /// A list of row numbers whose length varies.
    type Rows: Send;

    /// What runs, for people: instruction set, threads, device.
    fn describe(&self) -> String;

    /// The system's numbers of the threads that compute beside the calling one.
    fn worker_threads(&self) -> &[i32] {
        &[]
    }

    // ---- storage; may allocate -----------------------------------------------------------------------------------

    /// A tensor of zeros.
    fn zeros(&mut self, rows: usize, cols: usize) -> Self::Tensor;
    /// A tensor holding `data`, row-major, `rows · cols` elements.
    fn tensor(&mut self, rows: usize, cols: usize, data: &[f32]) -> Self::Tensor;
    /// A tensor of trained numbers. A backend that keeps gradients keeps them by the name.
    fn parameter(&mut self, name: &str, rows: usize, cols: usize, data: &[f32]) -> Self::Tensor {
        let _ = name;
        self.tensor(rows, cols, data)
    }
    /// A linear layer.
    fn linear_layer(&mut self, spec: &LinearSpec<'_>) -> Self::Linear;
    /// Room for `capacity` rows of angles; `omega[i]` rad/s turns the channel pair `(2i, 2i + 1)` of every head, so
    /// `Dh = 2 · omega.len()`. All angles are zero at first.
    fn rotation(&mut self, capacity: usize, omega: &[f32]) -> Self::Rotation;
    /// Room for `capacity` row numbers; empty at first.
    fn rows(&mut self, capacity: usize) -> Self::Rows;
    /// Makes room for attention over up to `queries` × `keys` with `heads` heads of `head_dim`, and for linear layers on
    /// `queries` rows of `cols` inputs, so that later calls within these sizes do not allocate.
    fn reserve(&mut self, queries: usize, keys: usize, heads: usize, head_dim: usize, cols: usize);

    // ---- data in and out -----------------------------------------------------------------------------------------

    /// Copies `data` (row-major, the size of `out`) in.
    fn upload(&mut self, data: &[f32], out: ViewMut<'_, Self::Tensor>);
    /// Copies `x` out, row-major, after everything before it is done.
    fn download(&mut self, x: View<'_, Self::Tensor>, out: &mut [f32]) -> Result<(), BackendError>;
    /// Replaces the list; at most its capacity.
    fn set_rows(&mut self, rows: &mut Self::Rows, values: &[u32]);
    /// Sets the angles of rows `first ..` to `times[i] · omega`, times in seconds. The time and the product are rounded to
    /// FP32, as in the reference model (an angle of 6e4 rad then has a step of 0.004 rad: exactness means rounding alike);
    /// its sine and cosine are good to FP32 at any angle.
    fn set_rotation(&mut self, rotation: &mut Self::Rotation, first: usize, times: &[f64]);
    /// What follows, up to and with the next [`download`](Self::download), is the sequence of operations `key`: the same
    /// operations on the same tensors each time, with other data, row lists and times. A backend may record it the first time
    /// and repeat it as a whole from then on.
    fn repeat(&mut self, key: u64) {
        let _ = key;
    }

    /// Whether it repeats sequences as a whole, so that one cannot be cut short.
    fn repeats(&self) -> bool {
        false
    }

    // ---- operations ----------------------------------------------------------------------------------------------

    /// `out[i, :] = table[rows[i], :]`.
    fn gather(&mut self, table: View<'_, Self::Tensor>, rows: &Self::Rows, out: ViewMut<'_, Self::Tensor>);
    /// `out = value`.
    fn fill(&mut self, value: f32, out: ViewMut<'_, Self::Tensor>);
    /// `out = x`, or `out += x` with `accumulate`.
    fn copy(&mut self, x: View<'_, Self::Tensor>, accumulate: bool, out: ViewMut<'_, Self::Tensor>);
    /// `out = f(x)`, element by element.
    fn map(&mut self, f: Map, x: View<'_, Self::Tensor>, out: ViewMut<'_, Self::Tensor>);
    /// `out[i·N + n, :] = activation(a[i, :] + b[n, :])`, `a` `[I, C]`, `b` `[N, C]`, `out` `[I·N, C]`.
    fn outer_add(
        &mut self,
        a: View<'_, Self::Tensor>,
        b: View<'_, Self::Tensor>,
        activation: Activation,
        out: ViewMut<'_, Self::Tensor>,
    );
    /// `out[i·N + n] = a[i, :] · b[n, :]`, or `out +=` that; `a` `[I, C]`, `b` `[N, C]`, `out` `[I·N, 1]`.
    fn outer_dot(
        &mut self,
        a: View<'_, Self::Tensor>,
        b: View<'_, Self::Tensor>,
        accumulate: bool,
        out: ViewMut<'_, Self::Tensor>,
    );
    /// `out = x · y`, element by element; `x` and `out` `[M, C]`, `y` `[M, C]`, or `[1, C]` for every row.
    fn multiply(&mut self, x: View<'_, Self::Tensor>, y: View<'_, Self::Tensor>, out: ViewMut<'_, Self::Tensor>);
    /// `out = Σₙ weights[n] x[n, :]`, or `out +=` that; `weights` `[1, N]`, `x` `[N, C]`, `out` `[1, C]`.
    fn sum_rows(
        &mut self,
        weights: View<'_, Self::Tensor>,
        x: View<'_, Self::Tensor>,
        accumulate: bool,
        out: ViewMut<'_, Self::Tensor>,
    );
    /// `out = activation(norm(x) Wᵀ + bias + addend)`, or `out +=` that; `x` `[M, inputs]`, `out` `[M, outputs]`
    /// (`[M, outputs / 2]` if gated).
    fn linear(
        &mut self,
        x: View<'_, Self::Tensor>,
        layer: &Self::Linear,
        args: LinearArgs<'_, Self::Tensor>,
        out: ViewMut<'_, Self::Tensor>,
    );
    /// Rotates every head of `x` `[M, H·Dh]` in place: adjacent channels `(x0, x1)` become
    /// `(x0 cos − x1 sin, x1 cos + x0 sin)`.
    fn rotate(&mut self, rotary: Rotary<'_, Self::Rotation>, x: ViewMut<'_, Self::Tensor>);
    /// `out[i, h] = R⁻¹(qᵢ) Σⱼ softmaxⱼ(R(q)[i,h] · R(k)[j,h] / √Dh) R(v)[j,h]`, `out` `[M, H·Dh]`; `Dh` is the width of
    /// the views over `heads`.
    fn attention(&mut self, args: Attention<'_, Self>, out: ViewMut<'_, Self::Tensor>);
    /// `out[c, :] = Σₙ softmaxₙ(scores[n, c]) values[n, :]`, `scores` `[N, C]`, `values` `[N, D]`, `out` `[C, D]`;
    /// without scores the mean over `n`, `out` `[1, D]`. With `accumulate` added to `out`.
    fn pool(
        &mut self,
        scores: Option<View<'_, Self::Tensor>>,
        values: View<'_, Self::Tensor>,
        accumulate: bool,
        out: ViewMut<'_, Self::Tensor>,
    );
    /// Generates all bins, if the backend can as one operation: see [`Generation`]. False if it did nothing.
    fn generate(&mut self, args: Generation<'_, Self>) -> bool {
        let _ = args;
        false
    }
}
