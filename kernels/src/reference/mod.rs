//! Each operation as the plainest loop that can be read as its definition.
//!
//! Arithmetic runs in FP64 and results are rounded once to what is stored: FP32 makes this backend the more exact side of
//! every comparison; FP64 stores without rounding, which is what finite differences need. Slow on purpose.

mod gradient;

use crate::backend::{
    Activation, Attention, Backend, BackendError, LinearArgs, LinearSpec, Map, Matrix, Norm, Precision, Rotary, View,
    ViewMut, LAYER_NORM_EPSILON,
};

/// What elements are stored as.
pub trait Element: Copy + Default + std::fmt::Debug + PartialEq + Send + Sync + 'static {
    /// Rounds to the nearest.
    fn of(x: f64) -> Self;
    /// The value.
    fn get(self) -> f64;
}

impl Element for f32 {
    fn of(x: f64) -> Self {
        x as f32
    }
    fn get(self) -> f64 {
        f64::from(self)
    }
}

impl Element for f64 {
    fn of(x: f64) -> Self {
        x
    }
    fn get(self) -> f64 {
        self
    }
}

/// The definition of every operation, storing elements as `S`.
#[derive(Debug, Default)]
pub struct Reference<S = f32> {
    /// Added to one element of a named parameter as it is taken in: what a finite difference moves.
    nudge: Option<Nudge>,
    element: std::marker::PhantomData<S>,
}

/// The definition of every operation in FP32.
pub type ReferenceBackend = Reference<f32>;

/// A change of one element of a named parameter.
#[derive(Debug, Clone, PartialEq)]
pub struct Nudge {
    /// Name of the parameter.
    pub name: String,
    /// Row of the element; 0 for a vector.
    pub row: usize,
    /// Column of the element.
    pub col: usize,
    /// What is added.
    pub change: f64,
}

impl<S> Reference<S> {
    /// A backend that takes one parameter in a little changed.
    pub fn nudged(nudge: Nudge) -> Self {
        Reference {
            nudge: Some(nudge),
            element: std::marker::PhantomData,
        }
    }
}

/// A row-major matrix in a vector.
#[derive(Debug, Clone, PartialEq)]
pub struct HostMatrix<S = f32> {
    rows: usize,
    cols: usize,
    data: Vec<S>,
}

impl<S: Element> HostMatrix<S> {
    /// Row `row`.
    pub fn row(&self, row: usize) -> &[S] {
        &self.data[row * self.cols..(row + 1) * self.cols]
    }
}

impl<S: Element> Matrix for HostMatrix<S> {
    fn rows(&self) -> usize {
        self.rows
    }
    fn cols(&self) -> usize {
        self.cols
    }
}

impl<S: Element> View<'_, HostMatrix<S>> {
    fn at(&self, row: usize, col: usize) -> f64 {
        assert!(row < self.rows && col < self.cols);
        self.tensor.data[(self.row + row) * self.tensor.cols + self.col + col].get()
    }
    fn row_vec(&self, row: usize) -> Vec<f64> {
        (0..self.cols).map(|col| self.at(row, col)).collect()
    }
}

impl<S: Element> ViewMut<'_, HostMatrix<S>> {
    fn at(&self, row: usize, col: usize) -> f64 {
        assert!(row < self.rows && col < self.cols);
        self.tensor.data[(self.row + row) * self.tensor.cols + self.col + col].get()
    }
    fn set(&mut self, row: usize, col: usize, value: f64) {
        assert!(row < self.rows && col < self.cols);
        self.tensor.data[(self.row + row) * self.tensor.cols + self.col + col] = S::of(value);
    }
    fn add(&mut self, row: usize, col: usize, value: f64) {
        self.set(row, col, self.at(row, col) + value);
    }
}

/// A linear layer as it was given, its weights rounded to their precision.
#[derive(Debug)]
pub struct HostLinear {
    weight: Vec<f64>,
    bias: Vec<f64>,
    outputs: usize,
    inputs: usize,
    gated: bool,
    precision: Precision,
}

/// Sine and cosine of `t·ω`, `[capacity, Dh/2]`.
#[derive(Debug)]
pub struct HostRotation {
    omega: Vec<f32>,
    cos: Vec<f64>,
    sin: Vec<f64>,
}

/// Rounds to the nearest value of a storage type.
pub fn round_to(precision: Precision, x: f32) -> f32 {
    match precision {
        Precision::F32 => x,
        Precision::F16 => half::f16::from_f32(x).to_f32(),
        Precision::Bf16 => half::bf16::from_f32(x).to_f32(),
    }
}

/// `x Φ(x)`, Φ the standard normal distribution function, by the exact error function.
pub fn gelu(x: f64) -> f64 {
    0.5 * x * (1.0 + libm::erf(x * std::f64::consts::FRAC_1_SQRT_2))
}

fn activate(activation: Activation, x: f64) -> f64 {
    match activation {
        Activation::Identity => x,
        Activation::Gelu => gelu(x),
    }
}

/// A row normalised (see [`Norm`]), and the reciprocal of its standard deviation.
fn standardise(row: &[f64]) -> (Vec<f64>, f64) {
    let n = row.len() as f64;
    let mean = row.iter().sum::<f64>() / n;
    let variance = row.iter().map(|&x| (x - mean).powi(2)).sum::<f64>() / n;
    let scale = 1.0 / (variance + f64::from(LAYER_NORM_EPSILON)).sqrt();
    (row.iter().map(|&x| (x - mean) * scale).collect(), scale)
}

fn layer_norm<S: Element>(row: &[f64], norm: Norm<'_, HostMatrix<S>>) -> Vec<f64> {
    let (standard, _) = standardise(row);
    standard
        .iter()
        .zip(norm.gain.row(0).iter().zip(norm.bias.row(0)))
        .map(|(&x, (&gain, &bias))| S::of(x * gain.get() + bias.get()).get())
        .collect()
}

/// Turns every head of a row by angle row `row`, backwards if `sign` is −1.
fn rotate_row(rotation: &HostRotation, row: usize, sign: f64, x: &mut [f64]) {
    let pairs = rotation.omega.len();
    for head in x.chunks_exact_mut(2 * pairs) {
        for (i, pair) in head.chunks_exact_mut(2).enumerate() {
            let (cos, sin) = (rotation.cos[row * pairs + i], sign * rotation.sin[row * pairs + i]);
            (pair[0], pair[1]) = (pair[0] * cos - pair[1] * sin, pair[1] * cos + pair[0] * sin);
        }
    }
}

/// `softmax(scores)`; empty for no scores.
fn softmax(scores: &[f64]) -> Vec<f64> {
    let largest = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    let weights: Vec<f64> = scores.iter().map(|s| (s - largest).exp()).collect();
    let sum: f64 = weights.iter().sum();
    weights.iter().map(|w| w / sum).collect()
}

/// Rows of a view that are taken: all, or the listed ones.
fn taken_rows<S: Element>(
    view: View<'_, HostMatrix<S>>,
    rows: Option<&Vec<u32>>,
    rotary: Option<Rotary<'_, HostRotation>>,
) -> Vec<Vec<f64>> {
    let count = rows.map_or(view.rows, Vec::len);
    (0..count)
        .map(|i| {
            let mut row = view.row_vec(rows.map_or(i, |rows| rows[i] as usize));
            if let Some(rotary) = rotary {
                rotate_row(rotary.rotation, rotary.first + i, 1.0, &mut row);
                row.iter_mut().for_each(|x| *x = S::of(*x).get());
            }
            row
        })
        .collect()
}

/// Turns the rows of a view, backwards if `sign` is −1.
fn turn<S: Element>(rotary: Rotary<'_, HostRotation>, sign: f64, x: &mut ViewMut<'_, HostMatrix<S>>) {
    for i in 0..x.rows {
        let mut row: Vec<f64> = (0..x.cols).map(|j| x.at(i, j)).collect();
        rotate_row(rotary.rotation, rotary.first + i, sign, &mut row);
        row.iter().enumerate().for_each(|(j, &y)| x.set(i, j, y));
    }
}

impl<S: Element> Backend for Reference<S> {
    type Tensor = HostMatrix<S>;
    type Linear = HostLinear;
    type Rotation = HostRotation;
    type Rows = Vec<u32>;

    fn describe(&self) -> String {
        "reference (plain loops, 1 thread)".into()
    }

    fn zeros(&mut self, rows: usize, cols: usize) -> HostMatrix<S> {
        HostMatrix {
            rows,
            cols,
            data: vec![S::default(); rows * cols],
        }
    }

    fn tensor(&mut self, rows: usize, cols: usize, data: &[f32]) -> HostMatrix<S> {
        assert_eq!(data.len(), rows * cols);
        HostMatrix {
            rows,
            cols,
            data: data.iter().map(|&x| S::of(f64::from(x))).collect(),
        }
    }

    fn parameter(&mut self, name: &str, rows: usize, cols: usize, data: &[f32]) -> HostMatrix<S> {
        let mut tensor = self.tensor(rows, cols, data);
        if let Some(nudge) = self.nudge.as_ref().filter(|nudge| nudge.name == name) {
            let element = &mut tensor.data[nudge.row * cols + nudge.col];
            *element = S::of(element.get() + nudge.change);
        }
        tensor
    }

    fn linear_layer(&mut self, spec: &LinearSpec<'_>) -> HostLinear {
        let mut weight: Vec<f64> = (0..spec.outputs)
            .flat_map(|i| &spec.weight[i * spec.row_stride..][..spec.inputs])
            .map(|&w| f64::from(round_to(spec.precision, w)))
            .collect();
        let mut bias = spec.bias.map_or(vec![0.0; spec.outputs], |bias| {
            bias.iter().map(|&b| f64::from(b)).collect()
        });
        if let Some(nudge) = &self.nudge {
            let origin = spec.origin;
            let row = nudge.row.wrapping_sub(origin.row);
            let col = nudge.col.wrapping_sub(origin.col);
            if nudge.name == origin.weight && row < spec.outputs && col < spec.inputs {
                weight[row * spec.inputs + col] += nudge.change;
            }
            let element = nudge.col.wrapping_sub(origin.row);
            if nudge.name == origin.bias && spec.bias.is_some() && element < spec.outputs {
                bias[element] += nudge.change;
            }
        }
        assert!(!spec.gated || spec.outputs.is_multiple_of(2));
        HostLinear {
            weight,
            bias,
            outputs: spec.outputs,
            inputs: spec.inputs,
            gated: spec.gated,
            precision: spec.precision,
        }
    }

    fn rotation(&mut self, capacity: usize, omega: &[f32]) -> HostRotation {
        HostRotation {
            omega: omega.to_vec(),
            cos: vec![1.0; capacity * omega.len()],
            sin: vec![0.0; capacity * omega.len()],
        }
    }

    fn rows(&mut self, capacity: usize) -> Vec<u32> {
        Vec::with_capacity(capacity)
    }

    fn reserve(&mut self, _queries: usize, _keys: usize, _heads: usize, _head_dim: usize, _cols: usize) {}

    fn upload(&mut self, data: &[f32], mut out: ViewMut<'_, HostMatrix<S>>) {
        assert_eq!(data.len(), out.rows * out.cols);
        for i in 0..out.rows {
            for j in 0..out.cols {
                out.set(i, j, f64::from(data[i * out.cols + j]));
            }
        }
    }

    fn download(&mut self, x: View<'_, HostMatrix<S>>, out: &mut [f32]) -> Result<(), BackendError> {
        assert_eq!(out.len(), x.rows * x.cols);
        for i in 0..x.rows {
            for j in 0..x.cols {
                out[i * x.cols + j] = x.at(i, j) as f32;
            }
        }
        Ok(())
    }

    fn set_rows(&mut self, rows: &mut Vec<u32>, values: &[u32]) {
        assert!(values.len() <= rows.capacity());
        rows.clear();
        rows.extend_from_slice(values);
    }

    fn set_rotation(&mut self, rotation: &mut HostRotation, first: usize, times: &[f64]) {
        let pairs = rotation.omega.len();
        for (i, &t) in times.iter().enumerate() {
            for (j, &omega) in rotation.omega.iter().enumerate() {
                let angle = f64::from(t as f32 * omega);
                rotation.cos[(first + i) * pairs + j] = S::of(angle.cos()).get();
                rotation.sin[(first + i) * pairs + j] = S::of(angle.sin()).get();
            }
        }
    }

    fn gather(&mut self, table: View<'_, HostMatrix<S>>, rows: &Vec<u32>, mut out: ViewMut<'_, HostMatrix<S>>) {
        assert_eq!((rows.len(), table.cols), (out.rows, out.cols));
        for (i, &row) in rows.iter().enumerate() {
            for j in 0..out.cols {
                out.set(i, j, table.at(row as usize, j));
            }
        }
    }

    fn fill(&mut self, value: f32, mut out: ViewMut<'_, HostMatrix<S>>) {
        for i in 0..out.rows {
            for j in 0..out.cols {
                out.set(i, j, f64::from(value));
            }
        }
    }

    fn copy(&mut self, x: View<'_, HostMatrix<S>>, accumulate: bool, mut out: ViewMut<'_, HostMatrix<S>>) {
        assert_eq!((x.rows, x.cols), (out.rows, out.cols));
        for i in 0..out.rows {
            for j in 0..out.cols {
                let before = if accumulate { out.at(i, j) } else { 0.0 };
                out.set(i, j, before + x.at(i, j));
            }
        }
    }

    fn map(&mut self, f: Map, x: View<'_, HostMatrix<S>>, mut out: ViewMut<'_, HostMatrix<S>>) {
        assert_eq!((x.rows, x.cols), (out.rows, out.cols));
        for i in 0..out.rows {
            for j in 0..out.cols {
                let x = x.at(i, j);
                let y = match f {
                    Map::Log1p => x.ln_1p(),
                    Map::Exp => x.exp(),
                    Map::Clamp(limit) => x.clamp(-f64::from(limit), f64::from(limit)),
                };
                out.set(i, j, y);
            }
        }
    }

    fn outer_add(
        &mut self,
        a: View<'_, HostMatrix<S>>,
        b: View<'_, HostMatrix<S>>,
        activation: Activation,
        mut out: ViewMut<'_, HostMatrix<S>>,
    ) {
        assert_eq!((a.rows * b.rows, a.cols, b.cols), (out.rows, out.cols, out.cols));
        for i in 0..a.rows {
            for n in 0..b.rows {
                for j in 0..out.cols {
                    out.set(i * b.rows + n, j, activate(activation, a.at(i, j) + b.at(n, j)));
                }
            }
        }
    }

    fn outer_dot(
        &mut self,
        a: View<'_, HostMatrix<S>>,
        b: View<'_, HostMatrix<S>>,
        accumulate: bool,
        mut out: ViewMut<'_, HostMatrix<S>>,
    ) {
        assert_eq!((a.rows * b.rows, a.cols, 1), (out.rows, b.cols, out.cols));
        for i in 0..a.rows {
            for n in 0..b.rows {
                let before = if accumulate { out.at(i * b.rows + n, 0) } else { 0.0 };
                let dot: f64 = (0..a.cols).map(|c| a.at(i, c) * b.at(n, c)).sum();
                out.set(i * b.rows + n, 0, before + dot);
            }
        }
    }

    fn multiply(
        &mut self,
        x: View<'_, HostMatrix<S>>,
        y: View<'_, HostMatrix<S>>,
        mut out: ViewMut<'_, HostMatrix<S>>,
    ) {
        assert_eq!((x.rows, x.cols), (out.rows, out.cols));
        assert!(y.cols == x.cols && (y.rows == x.rows || y.rows == 1));
        for i in 0..x.rows {
            for j in 0..x.cols {
                out.set(i, j, x.at(i, j) * y.at(i.min(y.rows - 1), j));
            }
        }
    }

    fn sum_rows(
        &mut self,
        weights: View<'_, HostMatrix<S>>,
        x: View<'_, HostMatrix<S>>,
        accumulate: bool,
        mut out: ViewMut<'_, HostMatrix<S>>,
    ) {
        assert_eq!((weights.rows, weights.cols, x.cols), (1, x.rows, out.cols));
        for j in 0..x.cols {
            let before = if accumulate { out.at(0, j) } else { 0.0 };
            out.set(
                0,
                j,
                before + (0..x.rows).map(|n| weights.at(0, n) * x.at(n, j)).sum::<f64>(),
            );
        }
    }

    fn linear(
        &mut self,
        x: View<'_, HostMatrix<S>>,
        layer: &HostLinear,
        args: LinearArgs<'_, HostMatrix<S>>,
        mut out: ViewMut<'_, HostMatrix<S>>,
    ) {
        let width = if layer.gated { layer.outputs / 2 } else { layer.outputs };
        assert_eq!((x.cols, x.rows, width), (layer.inputs, out.rows, out.cols));
        assert!(!layer.gated || (args.addend.is_none() && args.activation == Activation::Identity));
        for i in 0..x.rows {
            let mut row = x.row_vec(i);
            if let Some(norm) = args.norm {
                row = layer_norm(&row, norm);
            }
            if layer.precision == Precision::Bf16 {
                row.iter_mut()
                    .for_each(|x| *x = f64::from(round_to(Precision::Bf16, *x as f32)));
            }
            let product: Vec<f64> = (0..layer.outputs)
                .map(|o| {
                    let weights = &layer.weight[o * layer.inputs..][..layer.inputs];
                    weights.iter().zip(&row).map(|(w, x)| w * x).sum::<f64>() + layer.bias[o]
                })
                .collect();
            for o in 0..width {
                let y = if layer.gated {
                    product[o] * gelu(product[width + o])
                } else {
                    activate(
                        args.activation,
                        product[o] + args.addend.map_or(0.0, |addend| addend.at(i, o)),
                    )
                };
                let before = if args.accumulate { out.at(i, o) } else { 0.0 };
                out.set(i, o, before + y);
            }
        }
    }

    fn rotate(&mut self, rotary: Rotary<'_, HostRotation>, mut x: ViewMut<'_, HostMatrix<S>>) {
        turn(rotary, 1.0, &mut x);
    }

    fn attention(&mut self, args: Attention<'_, Self>, mut out: ViewMut<'_, HostMatrix<S>>) {
        let width = args.query.cols;
        assert_eq!((args.key.cols, args.value.cols, out.cols), (width, width, width));
        assert_eq!(width % args.heads, 0);
        let head_dim = width / args.heads;
        let scale = 1.0 / (head_dim as f64).sqrt();

        let queries = taken_rows(args.query, args.query_rows, args.query_rotary);
        let keys = taken_rows(args.key, args.key_rows, args.key_rotary);
        let value_rotary = args.key_rotary.filter(|_| args.rotate_value);
        let values = taken_rows(args.value, args.key_rows, value_rotary);
        assert_eq!(queries.len(), out.rows);
        assert_eq!(keys.len(), values.len());

        for (i, query) in queries.iter().enumerate() {
            let visible = args.mask.range(i, keys.len());
            let mut row = vec![0.0; width];
            for head in 0..args.heads {
                let channels = head * head_dim..(head + 1) * head_dim;
                let dot = |key: &Vec<f64>| -> f64 {
                    let pairs = query[channels.clone()].iter().zip(&key[channels.clone()]);
                    scale * pairs.map(|(q, k)| q * k).sum::<f64>()
                };
                let weights = softmax(&keys[visible.clone()].iter().map(dot).collect::<Vec<_>>());
                for c in channels.clone() {
                    let weighted = weights.iter().zip(&values[visible.clone()]);
                    row[c] = weighted.map(|(w, value)| w * value[c]).sum::<f64>();
                }
            }
            if args.rotate_value {
                let rotary = args.query_rotary.expect("rotate_value needs the queries' rotation");
                rotate_row(rotary.rotation, rotary.first + i, -1.0, &mut row);
            }
            for (j, &y) in row.iter().enumerate() {
                out.set(i, j, y);
            }
        }
    }

    fn pool(
        &mut self,
        scores: Option<View<'_, HostMatrix<S>>>,
        values: View<'_, HostMatrix<S>>,
        accumulate: bool,
        mut out: ViewMut<'_, HostMatrix<S>>,
    ) {
        assert_eq!(
            (out.rows, out.cols),
            (scores.map_or(1, |scores| scores.cols), values.cols)
        );
        assert!(scores.is_none_or(|scores| scores.rows == values.rows));
        for c in 0..out.rows {
            let weights = match scores {
                Some(scores) => softmax(&(0..scores.rows).map(|n| scores.at(n, c)).collect::<Vec<_>>()),
                None => vec![1.0 / values.rows as f64; values.rows],
            };
            for j in 0..values.cols {
                let y: f64 = (0..values.rows).map(|n| weights[n] * values.at(n, j)).sum();
                let before = if accumulate { out.at(c, j) } else { 0.0 };
                out.set(c, j, before + y);
            }
        }
    }
}
