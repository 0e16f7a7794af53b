//! Each operation as the plainest loop that can be read as its definition.
//!
//! Sums run in FP64 and are rounded once, so that this backend is the more exact side of every comparison. Slow on purpose.

use crate::backend::{
    Activation, Attention, Backend, BackendError, LinearArgs, LinearSpec, Map, Matrix, Precision, Rotary, View,
    ViewMut, LAYER_NORM_EPSILON,
};

/// The definition of every operation.
#[derive(Debug, Default)]
pub struct ReferenceBackend;

/// A row-major matrix in a vector.
#[derive(Debug, Clone, PartialEq)]
pub struct HostMatrix {
    rows: usize,
    cols: usize,
    data: Vec<f32>,
}

impl HostMatrix {
    /// Row `row`.
    pub fn row(&self, row: usize) -> &[f32] {
        &self.data[row * self.cols..(row + 1) * self.cols]
    }
}

impl Matrix for HostMatrix {
    fn rows(&self) -> usize {
        self.rows
    }
    fn cols(&self) -> usize {
        self.cols
    }
}

impl View<'_, HostMatrix> {
    fn at(&self, row: usize, col: usize) -> f32 {
        assert!(row < self.rows && col < self.cols);
        self.tensor.data[(self.row + row) * self.tensor.cols + self.col + col]
    }
    fn row_vec(&self, row: usize) -> Vec<f32> {
        (0..self.cols).map(|col| self.at(row, col)).collect()
    }
}

impl ViewMut<'_, HostMatrix> {
    fn at(&mut self, row: usize, col: usize) -> &mut f32 {
        assert!(row < self.rows && col < self.cols);
        &mut self.tensor.data[(self.row + row) * self.tensor.cols + self.col + col]
    }
}

/// A linear layer as it was given, its weights rounded to their precision.
#[derive(Debug)]
pub struct HostLinear {
    weight: Vec<f32>,
    bias: Vec<f32>,
    outputs: usize,
    inputs: usize,
    gated: bool,
    precision: Precision,
}

/// Sine and cosine of `t·ω`, `[capacity, Dh/2]`.
#[derive(Debug)]
pub struct HostRotation {
    omega: Vec<f32>,
    cos: Vec<f32>,
    sin: Vec<f32>,
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
pub fn gelu(x: f32) -> f32 {
    let x = f64::from(x);
    (0.5 * x * (1.0 + libm::erf(x * std::f64::consts::FRAC_1_SQRT_2))) as f32
}

fn activate(activation: Activation, x: f32) -> f32 {
    match activation {
        Activation::Identity => x,
        Activation::Gelu => gelu(x),
    }
}

/// A row normalised, see [`crate::Norm`].
fn layer_norm(row: &[f32], gain: &HostMatrix, bias: &HostMatrix) -> Vec<f32> {
    let n = row.len() as f64;
    let mean = row.iter().map(|&x| f64::from(x)).sum::<f64>() / n;
    let variance = row.iter().map(|&x| (f64::from(x) - mean).powi(2)).sum::<f64>() / n;
    let scale = 1.0 / (variance + f64::from(LAYER_NORM_EPSILON)).sqrt();
    row.iter()
        .zip(gain.row(0).iter().zip(bias.row(0)))
        .map(|(&x, (&g, &b))| ((f64::from(x) - mean) * scale * f64::from(g) + f64::from(b)) as f32)
        .collect()
}

/// Turns every head of a row by angle row `row`, backwards if `sign` is −1.
fn rotate_row(rotation: &HostRotation, row: usize, sign: f32, x: &mut [f32]) {
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
fn taken_rows(
    view: View<'_, HostMatrix>,
    rows: Option<&Vec<u32>>,
    rotary: Option<Rotary<'_, HostRotation>>,
) -> Vec<Vec<f32>> {
    let count = rows.map_or(view.rows, Vec::len);
    (0..count)
        .map(|i| {
            let mut row = view.row_vec(rows.map_or(i, |rows| rows[i] as usize));
            if let Some(rotary) = rotary {
                rotate_row(rotary.rotation, rotary.first + i, 1.0, &mut row);
            }
            row
        })
        .collect()
}

impl Backend for ReferenceBackend {
    type Tensor = HostMatrix;
    type Linear = HostLinear;
    type Rotation = HostRotation;
    type Rows = Vec<u32>;

    fn describe(&self) -> String {
        "reference (plain loops, 1 thread)".into()
    }

    fn zeros(&mut self, rows: usize, cols: usize) -> HostMatrix {
        HostMatrix {
            rows,
            cols,
            data: vec![0.0; rows * cols],
        }
    }

    fn tensor(&mut self, rows: usize, cols: usize, data: &[f32]) -> HostMatrix {
        assert_eq!(data.len(), rows * cols);
        HostMatrix {
            rows,
            cols,
            data: data.to_vec(),
        }
    }

    fn linear_layer(&mut self, spec: &LinearSpec<'_>) -> HostLinear {
        let weight = (0..spec.outputs)
            .flat_map(|i| &spec.weight[i * spec.row_stride..][..spec.inputs])
            .map(|&w| round_to(spec.precision, w))
            .collect();
        assert!(!spec.gated || spec.outputs.is_multiple_of(2));
        HostLinear {
            weight,
            bias: spec.bias.map_or(vec![0.0; spec.outputs], <[f32]>::to_vec),
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

    fn upload(&mut self, data: &[f32], mut out: ViewMut<'_, HostMatrix>) {
        assert_eq!(data.len(), out.rows * out.cols);
        for i in 0..out.rows {
            for j in 0..out.cols {
                *out.at(i, j) = data[i * out.cols + j];
            }
        }
    }

    fn download(&mut self, x: View<'_, HostMatrix>, out: &mut [f32]) -> Result<(), BackendError> {
        assert_eq!(out.len(), x.rows * x.cols);
        for i in 0..x.rows {
            for j in 0..x.cols {
                out[i * x.cols + j] = x.at(i, j);
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
                rotation.cos[(first + i) * pairs + j] = angle.cos() as f32;
                rotation.sin[(first + i) * pairs + j] = angle.sin() as f32;
            }
        }
    }

    fn gather(&mut self, table: View<'_, HostMatrix>, rows: &Vec<u32>, mut out: ViewMut<'_, HostMatrix>) {
        assert_eq!((rows.len(), table.cols), (out.rows, out.cols));
        for (i, &row) in rows.iter().enumerate() {
            for j in 0..out.cols {
                *out.at(i, j) = table.at(row as usize, j);
            }
        }
    }

    fn fill(&mut self, value: f32, mut out: ViewMut<'_, HostMatrix>) {
        for i in 0..out.rows {
            for j in 0..out.cols {
                *out.at(i, j) = value;
            }
        }
    }

    fn copy(&mut self, x: View<'_, HostMatrix>, accumulate: bool, mut out: ViewMut<'_, HostMatrix>) {
        assert_eq!((x.rows, x.cols), (out.rows, out.cols));
        for i in 0..out.rows {
            for j in 0..out.cols {
                let before = if accumulate { *out.at(i, j) } else { 0.0 };
                *out.at(i, j) = before + x.at(i, j);
            }
        }
    }

    fn map(&mut self, f: Map, x: View<'_, HostMatrix>, mut out: ViewMut<'_, HostMatrix>) {
        assert_eq!((x.rows, x.cols), (out.rows, out.cols));
        for i in 0..out.rows {
            for j in 0..out.cols {
                let x = x.at(i, j);
                *out.at(i, j) = match f {
                    Map::Log1p => x.ln_1p(),
                    Map::Exp => x.exp(),
                    Map::Clamp(limit) => x.clamp(-limit, limit),
                };
            }
        }
    }

    fn outer_add(
        &mut self,
        a: View<'_, HostMatrix>,
        b: View<'_, HostMatrix>,
        activation: Activation,
        mut out: ViewMut<'_, HostMatrix>,
    ) {
        assert_eq!((a.rows * b.rows, a.cols, b.cols), (out.rows, out.cols, out.cols));
        for i in 0..a.rows {
            for n in 0..b.rows {
                for j in 0..out.cols {
                    *out.at(i * b.rows + n, j) = activate(activation, a.at(i, j) + b.at(n, j));
                }
            }
        }
    }

    fn linear(
        &mut self,
        x: View<'_, HostMatrix>,
        layer: &HostLinear,
        args: LinearArgs<'_, HostMatrix>,
        mut out: ViewMut<'_, HostMatrix>,
    ) {
        let width = if layer.gated { layer.outputs / 2 } else { layer.outputs };
        assert_eq!((x.cols, x.rows, width), (layer.inputs, out.rows, out.cols));
        assert!(!layer.gated || (args.addend.is_none() && args.activation == Activation::Identity));
        for i in 0..x.rows {
            let mut row = x.row_vec(i);
            if let Some(norm) = args.norm {
                row = layer_norm(&row, norm.gain, norm.bias);
            }
            if layer.precision == Precision::Bf16 {
                row.iter_mut().for_each(|x| *x = round_to(Precision::Bf16, *x));
            }
            let product: Vec<f32> = (0..layer.outputs)
                .map(|o| {
                    let weights = &layer.weight[o * layer.inputs..][..layer.inputs];
                    let sum: f64 = weights
                        .iter()
                        .zip(&row)
                        .map(|(&w, &x)| f64::from(w) * f64::from(x))
                        .sum();
                    (sum + f64::from(layer.bias[o])) as f32
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
                let before = if args.accumulate { *out.at(i, o) } else { 0.0 };
                *out.at(i, o) = before + y;
            }
        }
    }

    fn rotate(&mut self, rotary: Rotary<'_, HostRotation>, x: ViewMut<'_, HostMatrix>) {
        for i in 0..x.rows {
            let start = (x.row + i) * x.tensor.cols + x.col;
            rotate_row(
                rotary.rotation,
                rotary.first + i,
                1.0,
                &mut x.tensor.data[start..start + x.cols],
            );
        }
    }

    fn attention(&mut self, args: Attention<'_, Self>, mut out: ViewMut<'_, HostMatrix>) {
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
                let dot = |key: &Vec<f32>| -> f64 {
                    let pairs = query[channels.clone()].iter().zip(&key[channels.clone()]);
                    scale * pairs.map(|(&q, &k)| f64::from(q) * f64::from(k)).sum::<f64>()
                };
                let weights = softmax(&keys[visible.clone()].iter().map(dot).collect::<Vec<_>>());
                for c in channels.clone() {
                    let weighted = weights.iter().zip(&values[visible.clone()]);
                    row[c] = weighted.map(|(w, value)| w * f64::from(value[c])).sum::<f64>() as f32;
                }
            }
            if args.rotate_value {
                let rotary = args.query_rotary.expect("rotate_value needs the queries' rotation");
                rotate_row(rotary.rotation, rotary.first + i, -1.0, &mut row);
            }
            for (j, &y) in row.iter().enumerate() {
                *out.at(i, j) = y;
            }
        }
    }

    fn pool(
        &mut self,
        scores: Option<View<'_, HostMatrix>>,
        values: View<'_, HostMatrix>,
        accumulate: bool,
        mut out: ViewMut<'_, HostMatrix>,
    ) {
        assert_eq!(
            (out.rows, out.cols),
            (scores.map_or(1, |scores| scores.cols), values.cols)
        );
        assert!(scores.is_none_or(|scores| scores.rows == values.rows));
        for c in 0..out.rows {
            let weights = match scores {
                Some(scores) => softmax(&(0..scores.rows).map(|n| f64::from(scores.at(n, c))).collect::<Vec<_>>()),
                None => vec![1.0 / values.rows as f64; values.rows],
            };
            for j in 0..values.cols {
                let y = (0..values.rows)
                    .map(|n| weights[n] * f64::from(values.at(n, j)))
                    .sum::<f64>() as f32;
                let before = if accumulate { *out.at(c, j) } else { 0.0 };
                *out.at(c, j) = before + y;
            }
        }
    }
}
