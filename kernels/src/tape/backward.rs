//! The way back.

use super::entry::{parts, AttentionRecord, LinearRecord, Product, Record, Source};
use super::storage::{put, take, view, Area, IN_PLACE};
use super::{Mark, Tape};
use crate::backend::{LinearArgs, Matrix};
use crate::gradient::{Attend, Differentiable};

impl<B: Differentiable> Tape<B> {
    /// Goes back from the end of the tape to `mark`, and forgets what it went over.
    pub fn backward(&mut self, mark: Mark) {
        self.go_back(mark.records, self.records.len());
        self.records.truncate(mark.records);
        self.slots.truncate(mark.slots);
    }

    /// Goes back over all of the tape, and forgets it.
    pub fn backward_all(&mut self) {
        self.backward(Mark { records: 0, slots: 0 });
    }

    /// Goes back from `mark` to the beginning and keeps it all, so that more windows can follow.
    pub fn backward_before(&mut self, mark: Mark) {
        self.go_back(0, mark.records);
    }

    fn go_back(&mut self, first: usize, end: usize) {
        let records = std::mem::take(&mut self.records);
        for record in records[first..end].iter().rev() {
            let temporary = self.slots.len();
            self.undo(record);
            self.slots.truncate(temporary);
        }
        self.records = records;
    }

    fn undo(&mut self, record: &Record) {
        match record {
            Record::Constant { out } => self.forget(*out),
            Record::Gather { table, rows, out } => {
                let mut g = take(&mut self.gradients, *table);
                let from = view(&self.gradients, *out);
                self.inner.scatter_add(from, &self.rows[*rows], table.of_mut(&mut g));
                put(&mut self.gradients, *table, g);
                self.forget(*out);
            }
            Record::Copy { x, accumulate, out } => {
                let mut g = take(&mut self.gradients, *x);
                self.inner.copy(view(&self.gradients, *out), true, x.of_mut(&mut g));
                put(&mut self.gradients, *x, g);
                self.forget_unless(*accumulate, *out);
            }
            Record::Map { f, x, saved, out } => {
                let mut g = take(&mut self.gradients, *x);
                let from = view(&self.gradients, *out);
                self.inner
                    .map_backward(*f, self.slots.view(*saved), from, x.of_mut(&mut g));
                put(&mut self.gradients, *x, g);
                self.forget(*out);
            }
            Record::OuterAdd {
                a,
                b,
                activation,
                saved,
                out,
            } => {
                let mut ga = take(&mut self.gradients, *a);
                let mut gb = take(&mut self.gradients, *b);
                self.inner.outer_add_backward(
                    self.slots.view(saved[0]),
                    self.slots.view(saved[1]),
                    *activation,
                    view(&self.gradients, *out),
                    a.of_mut(&mut ga),
                    b.of_mut(&mut gb),
                );
                put(&mut self.gradients, *a, ga);
                put(&mut self.gradients, *b, gb);
                self.forget(*out);
            }
            Record::Product {
                kind,
                a,
                b,
                saved,
                accumulate,
                out,
            } => {
                let mut ga = take(&mut self.gradients, *a);
                let mut gb = take(&mut self.gradients, *b);
                let (x, y) = (self.slots.view(saved[0]), self.slots.view(saved[1]));
                let g = view(&self.gradients, *out);
                let (gx, gy) = (a.of_mut(&mut ga), b.of_mut(&mut gb));
                match kind {
                    Product::Outer => self.inner.outer_dot_backward(x, y, g, gx, gy),
                    Product::Elements => self.inner.multiply_backward(x, y, g, gx, gy),
                    Product::Rows => self.inner.sum_rows_backward(x, y, g, gx, gy),
                }
                put(&mut self.gradients, *a, ga);
                put(&mut self.gradients, *b, gb);
                self.forget_unless(*accumulate, *out);
            }
            Record::Linear(record) => self.undo_linear(record),
            Record::Rotate { turn, x } => {
                let mut g = take(&mut self.gradients, *x);
                self.inner
                    .rotate_back(Self::rotary(&self.rotations, *turn), x.of_mut(&mut g));
                put(&mut self.gradients, *x, g);
            }
            Record::Attention(record) => self.undo_attention(record),
            Record::Pool {
                scores,
                values,
                saved,
                accumulate,
                out,
            } => {
                let mut gvalues = take(&mut self.gradients, *values);
                let mut gscores = scores.map(|(area, _)| take(&mut self.gradients, area));
                self.inner.pool_backward(
                    scores.map(|(_, saved)| self.slots.view(saved)),
                    self.slots.view(*saved),
                    view(&self.gradients, *out),
                    scores.zip(gscores.as_mut()).map(|((area, _), g)| area.of_mut(g)),
                    values.of_mut(&mut gvalues),
                );
                put(&mut self.gradients, *values, gvalues);
                if let Some(((area, _), g)) = scores.zip(gscores) {
                    put(&mut self.gradients, area, g);
                }
                self.forget_unless(*accumulate, *out);
            }
        }
    }

    /// What `out` held before the assignment has no part in the result.
    fn forget(&mut self, out: Area) {
        let g = self.gradients[out.id].as_mut().expect(IN_PLACE);
        self.inner.fill(0.0, out.of_mut(g));
    }

    fn forget_unless(&mut self, accumulate: bool, out: Area) {
        if !accumulate {
            self.forget(out);
        }
    }

    fn undo_linear(&mut self, record: &LinearRecord) {
        let LinearRecord { x, layer, out, .. } = record;
        let mut g = self.slots.save(&mut self.inner, view(&self.gradients, *out));
        self.forget_unless(record.accumulate, *out);
        if let Some(mask) = record.drop {
            self.inner.drop_elements(mask, self.slots.view_mut(g));
        }
        if let Some((unit, product)) = record.unit {
            let before = self.slots.take(&mut self.inner, product.rows, product.cols);
            let mut to = self.slots.out(before);
            let (product, g_out) = (self.slots.view(product), self.slots.view(g));
            self.inner
                .activate_backward(unit, product, g_out, before.of_mut(&mut to));
            self.slots.back(before, to);
            g = before;
        }
        if let Some(addend) = record.addend {
            let mut to = take(&mut self.gradients, addend);
            self.inner.copy(self.slots.view(g), true, addend.of_mut(&mut to));
            put(&mut self.gradients, addend, to);
        }
        let layer = &mut self.layers[*layer];
        let (product, input) = (self.slots.view(g), self.slots.view(record.input));
        self.inner
            .weight_gradient(product, input, layer.weight_gradient.view_mut());
        if let Some(bias) = &mut layer.bias_gradient {
            self.inner.column_sums(product, bias.view_mut());
        }
        match &record.norm {
            None => {
                let mut to = take(&mut self.gradients, *x);
                let args = LinearArgs {
                    accumulate: true,
                    ..LinearArgs::default()
                };
                self.inner
                    .linear(self.slots.view(g), &layer.transposed, args, x.of_mut(&mut to));
                put(&mut self.gradients, *x, to);
            }
            Some(norm) => {
                let normalised = self.slots.take(&mut self.inner, x.rows, x.cols);
                let mut to = self.slots.out(normalised);
                let (from, args) = (self.slots.view(g), LinearArgs::default());
                self.inner
                    .linear(from, &layer.transposed, args, normalised.of_mut(&mut to));
                self.slots.back(normalised, to);
                let mut to = take(&mut self.gradients, *x);
                let mut gain = self.gradients[norm.gain].take().expect(IN_PLACE);
                let mut bias = self.gradients[norm.bias].take().expect(IN_PLACE);
                self.inner.normalise_backward(
                    self.slots.view(norm.x),
                    parts(&self.values, norm),
                    self.slots.view(normalised),
                    x.of_mut(&mut to),
                    &mut gain,
                    &mut bias,
                );
                put(&mut self.gradients, *x, to);
                self.gradients[norm.gain] = Some(gain);
                self.gradients[norm.bias] = Some(bias);
            }
        }
    }

    fn undo_attention(&mut self, record: &AttentionRecord) {
        let gout = self.slots.save(&mut self.inner, view(&self.gradients, record.out));
        self.forget(record.out);
        if let Some(back) = record.back {
            let rotary = Self::rotary(&self.rotations, back);
            self.inner.rotate(rotary, self.slots.view_mut(gout));
        }
        let g = record
            .saved
            .map(|saved| self.slots.take(&mut self.inner, saved.rows, saved.cols));
        let [mut gq, mut gk, mut gv] = g.map(|saved| self.slots.out(saved));
        let [query, key, value] = record.saved.map(|saved| self.slots.view(saved));
        let args = Attend {
            query,
            key,
            value,
            heads: record.heads,
            mask: record.mask,
            drop: record.drop,
        };
        self.inner.attend_backward(
            args,
            self.slots.view(record.weights),
            self.slots.view(record.result),
            self.slots.view(gout),
            g[0].of_mut(&mut gq),
            g[1].of_mut(&mut gk),
            g[2].of_mut(&mut gv),
        );
        for (saved, tensor) in g.into_iter().zip([gq, gk, gv]) {
            self.slots.back(saved, tensor);
        }
        for (source, g) in record.sources.iter().zip(g) {
            let Source { area, rows, turn } = *source;
            if let Some(turn) = turn {
                let rotary = Self::rotary(&self.rotations, turn);
                self.inner.rotate_back(rotary, self.slots.view_mut(g));
            }
            if let (true, Some(_), Ok(listed)) = (self.watching, rows, &mut self.listed) {
                let mut one_by_one = vec![0.0; g.rows * g.cols];
                match self.inner.download(self.slots.view(g), &mut one_by_one) {
                    Ok(()) => listed.push(one_by_one),
                    Err(error) => self.listed = Err(error),
                }
            }
            let mut to = take(&mut self.gradients, area);
            match rows {
                Some(rows) => self
                    .inner
                    .scatter_add(self.slots.view(g), &self.rows[rows], area.of_mut(&mut to)),
                None => self.inner.copy(self.slots.view(g), true, area.of_mut(&mut to)),
            }
            put(&mut self.gradients, area, to);
        }
    }
}
