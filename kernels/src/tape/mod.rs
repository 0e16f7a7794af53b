//! [`Tape`]: a backend that runs another one, remembers what it ran, and runs it backwards.
//!
//! The network is written once over [`Backend`]; a network on a tape learns. Tensors are written in place there, again and
//! again, so the tape differentiates a program of assignments rather than a graph: every tensor has a gradient of its own
//! shape, and going back over `out = f(x)` adds `f′(x) · g(out)` to `g(x)` and then sets `g(out)` to zero, because what
//! `out` held before has no part in the result (`out += f(x)` leaves it). Values that the way back needs and that a later
//! assignment may destroy are copied as they are recorded.
//!
//! One way through a window:
//! ```text
//! clear → build the network (recorded once) → mark
//!   each window: start(seed) → forward → poisson_loss → backward(mark ..)
//! backward(.. mark) → gradients
//! ```

mod backward;
mod entry;
mod record;
mod storage;

use crate::backend::{Backend, Matrix, View};
use crate::gradient::{Differentiable, DropMask};
use crate::Dropout;
use entry::Record;
use storage::{Area, Pool, Slots};

/// A tensor of a tape.
#[derive(Debug)]
pub struct TapeTensor {
    id: usize,
    rows: usize,
    cols: usize,
}

impl Matrix for TapeTensor {
    fn rows(&self) -> usize {
        self.rows
    }
    fn cols(&self) -> usize {
        self.cols
    }
}

/// A linear layer of a tape.
#[derive(Debug)]
pub struct TapeLinear(usize);

/// A rotation of a tape.
#[derive(Debug)]
pub struct TapeRotation(usize);

/// A list of rows of a tape.
#[derive(Debug)]
pub struct TapeRows(usize);

/// A layer's parts on the inner backend.
struct Layer<B: Backend> {
    forward: B::Linear,
    /// `Wᵀ`, for the way back.
    transposed: B::Linear,
    gated: bool,
    inputs: usize,
    /// Rows of `W`: twice the columns that come out of a gated layer.
    outputs: usize,
    weight_gradient: B::Tensor,
    bias_gradient: Option<B::Tensor>,
    weight_name: String,
    bias_name: String,
    row: usize,
    col: usize,
}

/// A named tensor.
struct Parameter {
    name: String,
    tensor: usize,
}

/// A piece of the gradient of a named parameter: rows `row ..`, columns `col ..` of it, row-major.
#[derive(Debug, Clone, Copy)]
pub struct Gradient<'a> {
    /// Name of the parameter.
    pub name: &'a str,
    /// First row.
    pub row: usize,
    /// First column.
    pub col: usize,
    /// Number of rows.
    pub rows: usize,
    /// Number of columns.
    pub cols: usize,
    /// Derivatives, `rows · cols`.
    pub data: &'a [f32],
}

/// What is dropped while recording.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct DropRates {
    /// Of the hidden channels of feed-forward layers.
    pub hidden: f32,
    /// Of attention weights.
    pub weights: f32,
    /// Of what processor layers add to the residual stream.
    pub residual: f32,
}

/// Position on a tape.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    records: usize,
    slots: usize,
}

/// See the [module](self).
pub struct Tape<B: Differentiable> {
    inner: B,
    values: Vec<Option<B::Tensor>>,
    gradients: Vec<Option<B::Tensor>>,
    layers: Vec<Layer<B>>,
    rotations: Vec<B::Rotation>,
    rows: Vec<B::Rows>,
    /// Length of each list.
    row_counts: Vec<usize>,
    parameters: Vec<Parameter>,
    records: Vec<Record>,
    slots: Slots<B>,
    pool: Pool<B>,
    recording: bool,
    /// Whether the way back keeps the derivatives of what it reads.
    watching: bool,
    /// Derivatives of rows that attention took from tables, as it took them.
    listed: Result<Vec<Vec<f32>>, crate::BackendError>,
    rates: DropRates,
    seed: u64,
    stream: u64,
}

impl<B: Differentiable> Tape<B> {
    /// An empty tape, recording.
    pub fn new(inner: B, rates: DropRates) -> Self {
        Tape {
            inner,
            values: Vec::new(),
            gradients: Vec::new(),
            layers: Vec::new(),
            rotations: Vec::new(),
            rows: Vec::new(),
            row_counts: Vec::new(),
            parameters: Vec::new(),
            records: Vec::new(),
            slots: Slots::new(),
            pool: Pool::new(),
            recording: true,
            watching: false,
            listed: Ok(Vec::new()),
            rates,
            seed: 0,
            stream: 0,
        }
    }

    /// Forgets everything: tensors that were handed out mean nothing afterwards. Their memory is used again.
    pub fn clear(&mut self) {
        let Tape {
            values,
            gradients,
            layers,
            pool,
            ..
        } = self;
        for tensor in values.drain(..).chain(gradients.drain(..)).flatten() {
            pool.give(tensor);
        }
        for layer in layers.drain(..) {
            pool.give(layer.weight_gradient);
            layer.bias_gradient.into_iter().for_each(|bias| pool.give(bias));
        }
        self.rotations.clear();
        self.rows.clear();
        self.row_counts.clear();
        self.parameters.clear();
        self.records.clear();
        self.slots.truncate(0);
        self.recording = true;
    }

    /// Where the tape ends now.
    pub fn mark(&self) -> Mark {
        Mark {
            records: self.records.len(),
            slots: self.slots.len(),
        }
    }

    /// Whether operations are recorded and elements dropped; without it the tape predicts as its inner backend does.
    pub fn record(&mut self, recording: bool) {
        self.recording = recording;
    }

    /// Whether derivatives of inputs are kept on the way back: of what is uploaded, in the gradient of its tensor
    /// ([`take_gradient`](Self::take_gradient)), which must be uploaded once between two marks; and of rows that attention takes
    /// from tables, one by one ([`take_listed`](Self::take_listed)).
    pub fn watch(&mut self, watching: bool) {
        self.watching = watching;
    }

    /// The gradient of an input, `[rows, cols]` of the view, and sets it to zero.
    ///
    /// # Errors
    /// A device that failed.
    pub fn take_gradient(&mut self, of: View<'_, TapeTensor>, out: &mut [f32]) -> Result<(), crate::BackendError> {
        let area = Area::of(of);
        self.inner.download(storage::view(&self.gradients, area), out)?;
        let mut g = storage::take(&mut self.gradients, area);
        self.inner.fill(0.0, area.of_mut(&mut g));
        storage::put(&mut self.gradients, area, g);
        Ok(())
    }

    /// For each attention that the way back went over, the last first: derivatives of the queries, keys and values that it took
    /// from tables by lists of rows, each `[rows of the list, H·Dh]`, before they were turned.
    ///
    /// # Errors
    /// A device that failed.
    pub fn take_listed(&mut self) -> Result<Vec<Vec<f32>>, crate::BackendError> {
        std::mem::replace(&mut self.listed, Ok(Vec::new()))
    }

    /// Starts a window: what is dropped from here on is a function of `seed` and of the order of operations.
    pub fn start(&mut self, seed: u64) {
        self.seed = seed;
        self.stream = 0;
    }

    /// `Σ w (exp(r) − y r)` of predicted log rates, all of one shape, and adds its derivative times `scale` to their
    /// gradient. `counts` and `weights` row-major.
    ///
    /// # Errors
    /// A device that failed.
    pub fn poisson_loss(
        &mut self,
        log_rates: View<'_, TapeTensor>,
        counts: &[f32],
        weights: &[f32],
        scale: f32,
    ) -> Result<f64, crate::BackendError> {
        let area = Area::of(log_rates);
        let counts = self.inner.tensor(area.rows, area.cols, counts);
        let weights = self.inner.tensor(area.rows, area.cols, weights);
        let predicted = storage::view(&self.values, area);
        let loss = self.inner.poisson_loss(predicted, counts.view(), weights.view())?;
        let mut g = storage::take(&mut self.gradients, area);
        self.inner
            .poisson_loss_backward(predicted, counts.view(), weights.view(), scale, area.of_mut(&mut g));
        storage::put(&mut self.gradients, area, g);
        Ok(loss)
    }

    /// Adds the derivative of a loss that is computed elsewhere to a tensor's gradient: `data` row-major, of the view's shape.
    pub fn add_gradient(&mut self, of: View<'_, TapeTensor>, data: &[f32]) {
        let area = Area::of(of);
        let data = self.inner.tensor(area.rows, area.cols, data);
        let mut g = storage::take(&mut self.gradients, area);
        self.inner.copy(data.view(), true, area.of_mut(&mut g));
        storage::put(&mut self.gradients, area, g);
    }

    /// Hands out every piece of every parameter's gradient, and sets them to zero. Pieces of one parameter add up.
    ///
    /// # Errors
    /// A device that failed.
    pub fn take_gradients(&mut self, sink: &mut dyn FnMut(Gradient<'_>)) -> Result<(), crate::BackendError> {
        let mut data = Vec::new();
        for layer in &mut self.layers {
            read_and_clear(&mut self.inner, &mut layer.weight_gradient, &mut data)?;
            sink(Gradient {
                name: &layer.weight_name,
                row: layer.row,
                col: layer.col,
                rows: layer.outputs,
                cols: layer.inputs,
                data: &data,
            });
            if let Some(bias) = &mut layer.bias_gradient {
                read_and_clear(&mut self.inner, bias, &mut data)?;
                sink(Gradient {
                    name: &layer.bias_name,
                    row: 0,
                    col: layer.row,
                    rows: 1,
                    cols: layer.outputs,
                    data: &data,
                });
            }
        }
        for parameter in &self.parameters {
            let gradient = self.gradients[parameter.tensor].as_mut().expect(storage::IN_PLACE);
            read_and_clear(&mut self.inner, gradient, &mut data)?;
            sink(Gradient {
                name: &parameter.name,
                row: 0,
                col: 0,
                rows: gradient.rows(),
                cols: gradient.cols(),
                data: &data,
            });
        }
        Ok(())
    }

    /// A mask for the next dropping of a kind, if that kind is dropped now.
    fn next_mask(&mut self, dropout: Dropout) -> Option<DropMask> {
        let rate = match dropout {
            Dropout::None => 0.0,
            Dropout::Hidden => self.rates.hidden,
            Dropout::Weights => self.rates.weights,
            Dropout::Residual => self.rates.residual,
        };
        if !self.recording || rate <= 0.0 {
            return None;
        }
        self.stream += 1;
        Some(DropMask {
            rate,
            seed: self.seed,
            stream: self.stream,
        })
    }

    fn new_tensor(&mut self, rows: usize, cols: usize) -> TapeTensor {
        let (value, gradient) = (
            self.pool.take(&mut self.inner, rows, cols),
            self.pool.take(&mut self.inner, rows, cols),
        );
        self.values.push(Some(value));
        self.gradients.push(Some(gradient));
        TapeTensor {
            id: self.values.len() - 1,
            rows,
            cols,
        }
    }
}

fn read_and_clear<B: Backend>(
    inner: &mut B,
    tensor: &mut B::Tensor,
    data: &mut Vec<f32>,
) -> Result<(), crate::BackendError> {
    data.resize(tensor.rows() * tensor.cols(), 0.0);
    inner.download(tensor.view(), data)?;
    inner.fill(0.0, tensor.view_mut());
    Ok(())
}
