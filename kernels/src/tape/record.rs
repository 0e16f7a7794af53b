//! The way forward: every operation of [`Backend`], run on the inner backend and recorded.

use super::entry::{parts, AttentionRecord, LinearRecord, NormRecord, Product, Record, Source, Turn};
use super::storage::{put, take, view, Area, Saved, IN_PLACE};
use super::{Layer, Parameter, Tape, TapeLinear, TapeRotation, TapeRows, TapeTensor};
use crate::backend::{
    Activation, Attention, Backend, BackendError, LinearArgs, LinearSpec, Map, Matrix, Rotary, View, ViewMut,
};
use crate::gradient::{Attend, Differentiable, Unit};
use crate::Precision;

fn turn(rotary: Rotary<'_, TapeRotation>) -> Turn {
    Turn {
        rotation: rotary.rotation.0,
        first: rotary.first,
    }
}

impl<B: Differentiable> Tape<B> {
    /// A turn on the inner backend.
    pub(super) fn rotary(rotations: &[B::Rotation], turn: Turn) -> Rotary<'_, B::Rotation> {
        Rotary {
            rotation: &rotations[turn.rotation],
            first: turn.first,
        }
    }

    fn product(&mut self, kind: Product, a: Area, b: Area, accumulate: bool, out: Area) {
        let mut tensor = take(&mut self.values, out);
        let (x, y, to) = (view(&self.values, a), view(&self.values, b), out.of_mut(&mut tensor));
        match kind {
            Product::Outer => self.inner.outer_dot(x, y, accumulate, to),
            Product::Elements => self.inner.multiply(x, y, to),
            Product::Rows => self.inner.sum_rows(x, y, accumulate, to),
        }
        put(&mut self.values, out, tensor);
        if self.recording {
            let saved = [a, b].map(|area| self.slots.save(&mut self.inner, view(&self.values, area)));
            self.push(Record::Product {
                kind,
                a,
                b,
                saved,
                accumulate,
                out,
            });
        }
    }

    fn push(&mut self, record: Record) {
        if self.recording {
            self.records.push(record);
        }
    }

    /// Rows of a source as attention multiplies them.
    fn collect(&mut self, source: Source) -> Saved {
        let rows = source.rows.map_or(source.area.rows, |rows| self.row_counts[rows]);
        let saved = self.slots.take(&mut self.inner, rows, source.area.cols);
        let from = view(&self.values, source.area);
        match source.rows {
            Some(rows) => self.inner.gather(from, &self.rows[rows], self.slots.view_mut(saved)),
            None => self.inner.copy(from, false, self.slots.view_mut(saved)),
        }
        if let Some(turn) = source.turn {
            let rotary = Self::rotary(&self.rotations, turn);
            self.inner.rotate(rotary, self.slots.view_mut(saved));
        }
        saved
    }
}

impl<B: Differentiable> Backend for Tape<B> {
    type Tensor = TapeTensor;
    type Linear = TapeLinear;
    type Rotation = TapeRotation;
    type Rows = TapeRows;

    fn describe(&self) -> String {
        format!("{}, recorded", self.inner.describe())
    }

    fn zeros(&mut self, rows: usize, cols: usize) -> TapeTensor {
        self.new_tensor(rows, cols)
    }

    fn tensor(&mut self, rows: usize, cols: usize, data: &[f32]) -> TapeTensor {
        let tensor = self.new_tensor(rows, cols);
        let value = self.values[tensor.id].as_mut().expect(IN_PLACE);
        self.inner.upload(data, value.view_mut());
        tensor
    }

    fn parameter(&mut self, name: &str, rows: usize, cols: usize, data: &[f32]) -> TapeTensor {
        let tensor = self.new_tensor(rows, cols);
        self.values[tensor.id] = Some(self.inner.parameter(name, rows, cols, data));
        self.parameters.push(Parameter {
            name: name.to_string(),
            tensor: tensor.id,
        });
        tensor
    }

    fn linear_layer(&mut self, spec: &LinearSpec<'_>) -> TapeLinear {
        assert_eq!(spec.precision, Precision::F32, "a tape learns in FP32");
        let forward = self.inner.linear_layer(&LinearSpec { gated: false, ..*spec });
        let mut columns = vec![0.0; spec.inputs * spec.outputs];
        for (o, row) in spec.weight.chunks(spec.row_stride).take(spec.outputs).enumerate() {
            for (i, &w) in row[..spec.inputs].iter().enumerate() {
                columns[i * spec.outputs + o] = w;
            }
        }
        let transposed = self.inner.linear_layer(&LinearSpec {
            weight: &columns,
            row_stride: spec.outputs,
            outputs: spec.inputs,
            inputs: spec.outputs,
            bias: None,
            gated: false,
            precision: Precision::F32,
            origin: Default::default(),
        });
        let layer = Layer {
            forward,
            transposed,
            gated: spec.gated,
            inputs: spec.inputs,
            outputs: spec.outputs,
            weight_gradient: self.pool.take(&mut self.inner, spec.outputs, spec.inputs),
            bias_gradient: spec.bias.map(|_| self.pool.take(&mut self.inner, 1, spec.outputs)),
            weight_name: spec.origin.weight.to_string(),
            bias_name: spec.origin.bias.to_string(),
            row: spec.origin.row,
            col: spec.origin.col,
        };
        self.layers.push(layer);
        TapeLinear(self.layers.len() - 1)
    }

    fn rotation(&mut self, capacity: usize, omega: &[f32]) -> TapeRotation {
        self.rotations.push(self.inner.rotation(capacity, omega));
        TapeRotation(self.rotations.len() - 1)
    }

    fn rows(&mut self, capacity: usize) -> TapeRows {
        self.rows.push(self.inner.rows(capacity));
        self.row_counts.push(0);
        TapeRows(self.rows.len() - 1)
    }

    fn reserve(&mut self, queries: usize, keys: usize, heads: usize, head_dim: usize, cols: usize) {
        self.inner.reserve(queries, keys, heads, head_dim, cols);
    }

    fn upload(&mut self, data: &[f32], out: ViewMut<'_, TapeTensor>) {
        let area = Area::of_out(&out);
        let mut tensor = take(&mut self.values, area);
        self.inner.upload(data, area.of_mut(&mut tensor));
        put(&mut self.values, area, tensor);
        if !self.watching {
            self.push(Record::Constant { out: area });
        }
    }

    fn download(&mut self, x: View<'_, TapeTensor>, out: &mut [f32]) -> Result<(), BackendError> {
        self.inner.download(view(&self.values, Area::of(x)), out)
    }

    fn set_rows(&mut self, rows: &mut TapeRows, values: &[u32]) {
        self.inner.set_rows(&mut self.rows[rows.0], values);
        self.row_counts[rows.0] = values.len();
    }

    fn set_rotation(&mut self, rotation: &mut TapeRotation, first: usize, times: &[f64]) {
        self.inner.set_rotation(&mut self.rotations[rotation.0], first, times);
    }

    fn gather(&mut self, table: View<'_, TapeTensor>, rows: &TapeRows, out: ViewMut<'_, TapeTensor>) {
        let (table, out, rows) = (Area::of(table), Area::of_out(&out), rows.0);
        let mut tensor = take(&mut self.values, out);
        let from = view(&self.values, table);
        self.inner.gather(from, &self.rows[rows], out.of_mut(&mut tensor));
        put(&mut self.values, out, tensor);
        self.push(Record::Gather { table, rows, out });
    }

    fn fill(&mut self, value: f32, out: ViewMut<'_, TapeTensor>) {
        let out = Area::of_out(&out);
        let mut tensor = take(&mut self.values, out);
        self.inner.fill(value, out.of_mut(&mut tensor));
        put(&mut self.values, out, tensor);
        self.push(Record::Constant { out });
    }

    fn copy(&mut self, x: View<'_, TapeTensor>, accumulate: bool, out: ViewMut<'_, TapeTensor>) {
        let (x, out) = (Area::of(x), Area::of_out(&out));
        let mut tensor = take(&mut self.values, out);
        self.inner
            .copy(view(&self.values, x), accumulate, out.of_mut(&mut tensor));
        put(&mut self.values, out, tensor);
        self.push(Record::Copy { x, accumulate, out });
    }

    fn map(&mut self, f: Map, x: View<'_, TapeTensor>, out: ViewMut<'_, TapeTensor>) {
        let (x, out) = (Area::of(x), Area::of_out(&out));
        let mut tensor = take(&mut self.values, out);
        self.inner.map(f, view(&self.values, x), out.of_mut(&mut tensor));
        put(&mut self.values, out, tensor);
        if self.recording {
            let saved = self.slots.save(&mut self.inner, view(&self.values, x));
            self.push(Record::Map { f, x, saved, out });
        }
    }

    fn outer_add(
        &mut self,
        a: View<'_, TapeTensor>,
        b: View<'_, TapeTensor>,
        activation: Activation,
        out: ViewMut<'_, TapeTensor>,
    ) {
        let (a, b, out) = (Area::of(a), Area::of(b), Area::of_out(&out));
        let mut tensor = take(&mut self.values, out);
        let (from_a, from_b) = (view(&self.values, a), view(&self.values, b));
        self.inner
            .outer_add(from_a, from_b, activation, out.of_mut(&mut tensor));
        put(&mut self.values, out, tensor);
        if self.recording {
            let saved = [a, b].map(|area| self.slots.save(&mut self.inner, view(&self.values, area)));
            self.push(Record::OuterAdd {
                a,
                b,
                activation,
                saved,
                out,
            });
        }
    }

    fn outer_dot(
        &mut self,
        a: View<'_, TapeTensor>,
        b: View<'_, TapeTensor>,
        accumulate: bool,
        out: ViewMut<'_, TapeTensor>,
    ) {
        self.product(Product::Outer, Area::of(a), Area::of(b), accumulate, Area::of_out(&out));
    }

    fn multiply(&mut self, x: View<'_, TapeTensor>, y: View<'_, TapeTensor>, out: ViewMut<'_, TapeTensor>) {
        self.product(Product::Elements, Area::of(x), Area::of(y), false, Area::of_out(&out));
    }

    fn sum_rows(
        &mut self,
        weights: View<'_, TapeTensor>,
        x: View<'_, TapeTensor>,
        accumulate: bool,
        out: ViewMut<'_, TapeTensor>,
    ) {
        let (weights, x) = (Area::of(weights), Area::of(x));
        self.product(Product::Rows, weights, x, accumulate, Area::of_out(&out));
    }

    fn linear(
        &mut self,
        x: View<'_, TapeTensor>,
        layer: &TapeLinear,
        args: LinearArgs<'_, TapeTensor>,
        out: ViewMut<'_, TapeTensor>,
    ) {
        let (x, out, layer) = (Area::of(x), Area::of_out(&out), layer.0);
        let addend = args.addend.map(Area::of);
        let drop = self.next_mask(args.dropout);
        let before = self.slots.len();

        let norm = args.norm.map(|norm| NormRecord {
            gain: norm.gain.id,
            bias: norm.bias.id,
            x: self.slots.save(&mut self.inner, view(&self.values, x)),
        });
        let input = match &norm {
            None => self.slots.save(&mut self.inner, view(&self.values, x)),
            Some(norm) => {
                let input = self.slots.take(&mut self.inner, x.rows, x.cols);
                let mut to = self.slots.out(input);
                let from = self.slots.view(norm.x);
                self.inner
                    .normalise(from, parts(&self.values, norm), input.of_mut(&mut to));
                self.slots.back(input, to);
                input
            }
        };
        let Layer {
            forward,
            gated,
            outputs,
            ..
        } = &self.layers[layer];
        let unit = match (gated, args.activation) {
            (true, _) => Some(Unit::Geglu),
            (false, Activation::Gelu) => Some(Unit::Gelu),
            (false, Activation::Identity) => None,
        };
        let product = self.slots.take(&mut self.inner, x.rows, *outputs);
        let mut to = self.slots.out(product);
        let with_addend = LinearArgs {
            addend: addend.map(|addend| view(&self.values, addend)),
            ..LinearArgs::default()
        };
        self.inner
            .linear(self.slots.view(input), forward, with_addend, product.of_mut(&mut to));
        self.slots.back(product, to);
        let mut result = product;
        if let Some(unit) = unit {
            result = self.slots.take(&mut self.inner, x.rows, out.cols);
            let mut to = self.slots.out(result);
            self.inner
                .activate(unit, self.slots.view(product), result.of_mut(&mut to));
            self.slots.back(result, to);
        }
        if let Some(mask) = drop {
            self.inner.drop_elements(mask, self.slots.view_mut(result));
        }
        let mut tensor = take(&mut self.values, out);
        self.inner
            .copy(self.slots.view(result), args.accumulate, out.of_mut(&mut tensor));
        put(&mut self.values, out, tensor);

        if self.recording {
            self.records.push(Record::Linear(LinearRecord {
                x,
                layer,
                norm,
                addend,
                input,
                unit: unit.map(|unit| (unit, product)),
                drop,
                accumulate: args.accumulate,
                out,
            }));
        } else {
            self.slots.truncate(before);
        }
    }

    fn rotate(&mut self, rotary: Rotary<'_, TapeRotation>, x: ViewMut<'_, TapeTensor>) {
        let (turn, x) = (turn(rotary), Area::of_out(&x));
        let mut tensor = take(&mut self.values, x);
        self.inner
            .rotate(Self::rotary(&self.rotations, turn), x.of_mut(&mut tensor));
        put(&mut self.values, x, tensor);
        self.push(Record::Rotate { turn, x });
    }

    fn attention(&mut self, args: Attention<'_, Self>, out: ViewMut<'_, TapeTensor>) {
        let out = Area::of_out(&out);
        let source = |area: View<'_, TapeTensor>, rows: Option<&TapeRows>, turn: Option<Turn>| Source {
            area: Area::of(area),
            rows: rows.map(|rows| rows.0),
            turn,
        };
        let (query_turn, key_turn) = (args.query_rotary.map(turn), args.key_rotary.map(turn));
        let sources = [
            source(args.query, args.query_rows, query_turn),
            source(args.key, args.key_rows, key_turn),
            source(args.value, args.key_rows, key_turn.filter(|_| args.rotate_value)),
        ];
        let back = args
            .rotate_value
            .then(|| query_turn.expect("rotate_value needs the queries' rotation"));
        let drop = self.next_mask(args.dropout);
        let before = self.slots.len();

        let saved = sources.map(|source| self.collect(source));
        let [queries, keys, _] = saved.map(|saved| saved.rows);
        let weights = self.slots.take(&mut self.inner, args.heads * queries, keys);
        let result = self.slots.take(&mut self.inner, queries, out.cols);
        let (mut to_weights, mut to_result) = (self.slots.out(weights), self.slots.out(result));
        let [query, key, value] = saved.map(|saved| self.slots.view(saved));
        let attend = Attend {
            query,
            key,
            value,
            heads: args.heads,
            mask: args.mask,
            drop,
        };
        self.inner
            .attend(attend, weights.of_mut(&mut to_weights), result.of_mut(&mut to_result));
        self.slots.back(weights, to_weights);
        self.slots.back(result, to_result);
        let mut tensor = take(&mut self.values, out);
        self.inner.copy(self.slots.view(result), false, out.of_mut(&mut tensor));
        if let Some(back) = back {
            let rotary = Self::rotary(&self.rotations, back);
            self.inner.rotate_back(rotary, out.of_mut(&mut tensor));
        }
        put(&mut self.values, out, tensor);

        if self.recording {
            self.records.push(Record::Attention(AttentionRecord {
                sources,
                saved,
                weights,
                result,
                back,
                heads: args.heads,
                mask: args.mask,
                drop,
                out,
            }));
        } else {
            self.slots.truncate(before);
        }
    }

    fn pool(
        &mut self,
        scores: Option<View<'_, TapeTensor>>,
        values: View<'_, TapeTensor>,
        accumulate: bool,
        out: ViewMut<'_, TapeTensor>,
    ) {
        let (scores, values, out) = (scores.map(Area::of), Area::of(values), Area::of_out(&out));
        let mut tensor = take(&mut self.values, out);
        let from = scores.map(|scores| view(&self.values, scores));
        self.inner
            .pool(from, view(&self.values, values), accumulate, out.of_mut(&mut tensor));
        put(&mut self.values, out, tensor);
        if self.recording {
            let scores = scores.map(|area| (area, self.slots.save(&mut self.inner, view(&self.values, area))));
            let saved = self.slots.save(&mut self.inner, view(&self.values, values));
            self.push(Record::Pool {
                scores,
                values,
                saved,
                accumulate,
                out,
            });
        }
    }
}
