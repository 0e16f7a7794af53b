//! [`Differentiable`] on the device. No sum is taken by atomics: the same inputs give the same bits.

use super::device::Kernel;
use super::driver::Driver;
use super::elementwise::{cover, map_parameters};
use super::parameters::Parameters;
use super::storage::{CudaRotation, CudaRows, CudaTensor, Slice};
use super::sums::{Summand, Sums};
use super::{CudaBackend, Scratch};
use crate::backend::{Activation, BackendError, Map, Norm, Rotary, View, ViewMut};
use crate::gradient::{Attend, Differentiable, DropMask, Unit};

const fn kernel(entry: &'static str) -> Kernel {
    Kernel {
        file: "backward.ptx",
        text: include_str!("../../ptx/backward.ptx"),
        entry,
        block: 256,
    }
}

const MAP_BACKWARD: Kernel = kernel("map_backward");
const OUTER_GELU_BACKWARD: Kernel = kernel("outer_gelu_backward");
const ACTIVATE_BACKWARD: Kernel = kernel("activate_backward");

impl<D: Driver> Differentiable for CudaBackend<D> {
    fn normalise(&mut self, x: View<'_, CudaTensor>, norm: Norm<'_, CudaTensor>, out: ViewMut<'_, CudaTensor>) {
        let (gain, bias) = (Slice::of_tensor(norm.gain), Slice::of_tensor(norm.bias));
        self.launch_normalise(Slice::of(x), gain, bias, Slice::of_out(&out));
    }

    fn activate(&mut self, unit: Unit, x: View<'_, CudaTensor>, out: ViewMut<'_, CudaTensor>) {
        self.launch_activate(unit, Slice::of(x), Slice::of_out(&out));
    }

    fn drop_elements(&mut self, mask: DropMask, x: ViewMut<'_, CudaTensor>) {
        self.launch_drop(mask, Slice::of_out(&x));
    }

    fn rotate_back(&mut self, rotary: Rotary<'_, CudaRotation>, x: ViewMut<'_, CudaTensor>) {
        self.launch_rotate(rotary, -1.0, Slice::of_out(&x));
    }

    fn attend(&mut self, args: Attend<'_, Self>, weights: ViewMut<'_, CudaTensor>, out: ViewMut<'_, CudaTensor>) {
        self.launch_attend(args, Slice::of_out(&weights), Slice::of_out(&out));
    }

    fn poisson_loss(
        &mut self,
        log_rates: View<'_, CudaTensor>,
        counts: View<'_, CudaTensor>,
        weights: View<'_, CudaTensor>,
    ) -> Result<f64, BackendError> {
        self.launch_poisson_loss(Slice::of(log_rates), Slice::of(counts), Slice::of(weights))
    }

    fn poisson_loss_backward(
        &mut self,
        log_rates: View<'_, CudaTensor>,
        counts: View<'_, CudaTensor>,
        weights: View<'_, CudaTensor>,
        scale: f32,
        g: ViewMut<'_, CudaTensor>,
    ) {
        let (log_rates, counts, weights) = (Slice::of(log_rates), Slice::of(counts), Slice::of(weights));
        self.launch_poisson_loss_backward(log_rates, counts, weights, scale, Slice::of_out(&g));
    }

    fn weight_gradient(&mut self, gy: View<'_, CudaTensor>, x: View<'_, CudaTensor>, gw: ViewMut<'_, CudaTensor>) {
        self.launch_weight_gradient(Slice::of(gy), Slice::of(x), Slice::of_out(&gw));
    }

    fn column_sums(&mut self, g: View<'_, CudaTensor>, out: ViewMut<'_, CudaTensor>) {
        self.add_column_sums(Slice::of(g), None, Slice::of_out(&out));
    }

    fn normalise_backward(
        &mut self,
        x: View<'_, CudaTensor>,
        norm: Norm<'_, CudaTensor>,
        gy: View<'_, CudaTensor>,
        gx: ViewMut<'_, CudaTensor>,
        ggain: &mut CudaTensor,
        gbias: &mut CudaTensor,
    ) {
        let (gain, gy) = (Slice::of_tensor(norm.gain), Slice::of(gy));
        let standard = self.launch_normalise_backward(Slice::of(x), gain, gy, Slice::of_out(&gx));
        self.add_column_sums(gy, Some(standard), Slice::of_tensor(ggain));
        self.add_column_sums(gy, None, Slice::of_tensor(gbias));
    }

    fn activate_backward(
        &mut self,
        unit: Unit,
        x: View<'_, CudaTensor>,
        gy: View<'_, CudaTensor>,
        gx: ViewMut<'_, CudaTensor>,
    ) {
        let (x, gy, gx) = (Slice::of(x), Slice::of(gy), Slice::of_out(&gx));
        let gated = usize::from(unit == Unit::Geglu);
        assert_eq!((x.rows, x.cols), (gy.rows, gy.cols * (1 + gated)));
        assert_eq!((x.rows, x.cols), (gx.rows, gx.cols));
        let parameters = Parameters::new()
            .matrix(x)
            .matrix(gy)
            .matrix(gx)
            .word(gy.rows)
            .word(gy.cols)
            .word(gated);
        let shape = cover(gy.rows * gy.cols);
        self.device.launch(ACTIVATE_BACKWARD, shape, &parameters);
    }

    fn attend_backward(
        &mut self,
        args: Attend<'_, Self>,
        weights: View<'_, CudaTensor>,
        _out: View<'_, CudaTensor>,
        gout: View<'_, CudaTensor>,
        gq: ViewMut<'_, CudaTensor>,
        gk: ViewMut<'_, CudaTensor>,
        gv: ViewMut<'_, CudaTensor>,
    ) {
        let (weights, gout) = (Slice::of(weights), Slice::of(gout));
        let to = [Slice::of_out(&gq), Slice::of_out(&gk), Slice::of_out(&gv)];
        self.launch_attend_backward(args, weights, gout, to);
    }

    fn map_backward(&mut self, f: Map, x: View<'_, CudaTensor>, gy: View<'_, CudaTensor>, gx: ViewMut<'_, CudaTensor>) {
        let (x, gy, gx) = (Slice::of(x), Slice::of(gy), Slice::of_out(&gx));
        assert_eq!((x.rows, x.cols), (gy.rows, gy.cols));
        assert_eq!((x.rows, x.cols), (gx.rows, gx.cols));
        let (number, limit) = map_parameters(f);
        let parameters = Parameters::new()
            .matrix(x)
            .matrix(gy)
            .matrix(gx)
            .word(x.rows)
            .word(x.cols)
            .word(number)
            .float(limit);
        self.device.launch(MAP_BACKWARD, cover(x.rows * x.cols), &parameters);
    }

    fn outer_add_backward(
        &mut self,
        a: View<'_, CudaTensor>,
        b: View<'_, CudaTensor>,
        activation: Activation,
        gy: View<'_, CudaTensor>,
        ga: ViewMut<'_, CudaTensor>,
        gb: ViewMut<'_, CudaTensor>,
    ) {
        let (a, b, gy) = (Slice::of(a), Slice::of(b), Slice::of(gy));
        let (ga, gb) = (Slice::of_out(&ga), Slice::of_out(&gb));
        assert_eq!((a.rows * b.rows, a.cols, b.cols), (gy.rows, gy.cols, gy.cols));
        assert_eq!((ga.rows, ga.cols, gb.rows, gb.cols), (a.rows, a.cols, b.rows, b.cols));
        let g = match activation {
            Activation::Identity => gy,
            Activation::Gelu => self.launch_outer_gelu_backward(a, b, gy),
        };
        // Row i·N + n belongs to row i of `a` and row n of `b`: each sums over the other.
        let one = g.stride;
        let all = b.rows * g.stride;
        for (batch, step, rows, out) in [(all, one, b.rows, ga), (one, all, a.rows, gb)] {
            let x = Summand {
                address: g.address,
                batch,
                step,
                col: 1,
            };
            self.launch_sums(Sums {
                x,
                weights: Summand::ONES,
                rows,
                scale: 1.0,
                accumulate: true,
                out,
            });
        }
    }

    fn outer_dot_backward(
        &mut self,
        a: View<'_, CudaTensor>,
        b: View<'_, CudaTensor>,
        gy: View<'_, CudaTensor>,
        ga: ViewMut<'_, CudaTensor>,
        gb: ViewMut<'_, CudaTensor>,
    ) {
        let (a, b, gy) = (Slice::of(a), Slice::of(b), Slice::of(gy));
        let (ga, gb) = (Slice::of_out(&ga), Slice::of_out(&gb));
        assert_eq!((a.rows * b.rows, a.cols, 1), (gy.rows, b.cols, gy.cols));
        assert_eq!((ga.rows, ga.cols, gb.rows, gb.cols), (a.rows, a.cols, b.rows, b.cols));
        let one = gy.stride;
        let all = b.rows * gy.stride;
        for (batch, step, x, out) in [(all, one, b, ga), (one, all, a, gb)] {
            self.launch_sums(Sums {
                x: Summand::rows(x),
                weights: Summand::numbers(gy.address, batch, step),
                rows: x.rows,
                scale: 1.0,
                accumulate: true,
                out,
            });
        }
    }

    fn multiply_backward(
        &mut self,
        x: View<'_, CudaTensor>,
        y: View<'_, CudaTensor>,
        gz: View<'_, CudaTensor>,
        gx: ViewMut<'_, CudaTensor>,
        gy: ViewMut<'_, CudaTensor>,
    ) {
        let (x, y, gz) = (Slice::of(x), Slice::of(y), Slice::of(gz));
        let (gx, gy) = (Slice::of_out(&gx), Slice::of_out(&gy));
        assert_eq!((gy.rows, gy.cols), (y.rows, y.cols));
        self.launch_multiply(gz, y, true, gx);
        if y.rows == 1 {
            self.add_column_sums(gz, Some(x), gy);
        } else {
            self.launch_multiply(gz, x, true, gy);
        }
    }

    fn sum_rows_backward(
        &mut self,
        weights: View<'_, CudaTensor>,
        x: View<'_, CudaTensor>,
        gy: View<'_, CudaTensor>,
        gweights: ViewMut<'_, CudaTensor>,
        gx: ViewMut<'_, CudaTensor>,
    ) {
        let (weights, x, gy) = (Slice::of(weights), Slice::of(x), Slice::of(gy));
        let (gweights, gx) = (Slice::of_out(&gweights), Slice::of_out(&gx));
        assert_eq!((weights.rows, weights.cols), (1, x.rows));
        assert_eq!((gweights.rows, gweights.cols), (1, x.rows));
        assert_eq!((gy.rows, gy.cols, gx.rows, gx.cols), (1, x.cols, x.rows, x.cols));
        // A row of N numbers is a column of N numbers that are 1 apart.
        let column = Slice {
            stride: 1,
            rows: x.rows,
            cols: 1,
            ..gweights
        };
        self.launch_outer_dot(gy, x, true, column);
        self.launch_sums(Sums {
            x: Summand::rows(gy),
            weights: Summand::numbers(weights.address, 1, 0),
            rows: 1,
            scale: 1.0,
            accumulate: true,
            out: gx,
        });
    }

    fn pool_backward(
        &mut self,
        scores: Option<View<'_, CudaTensor>>,
        values: View<'_, CudaTensor>,
        gy: View<'_, CudaTensor>,
        gscores: Option<ViewMut<'_, CudaTensor>>,
        gvalues: ViewMut<'_, CudaTensor>,
    ) {
        let (values, gy, gvalues) = (Slice::of(values), Slice::of(gy), Slice::of_out(&gvalues));
        assert_eq!(scores.is_some(), gscores.is_some());
        assert_eq!((gvalues.rows, gvalues.cols), (values.rows, values.cols));
        let (weights, scale) = match (scores, gscores) {
            (Some(scores), Some(gscores)) => {
                let (scores, gscores) = (Slice::of(scores), Slice::of_out(&gscores));
                assert_eq!((scores.rows, scores.cols), (values.rows, gy.rows));
                let weights = self.pool_weights_backward(scores, values, gy, gscores);
                (Summand::numbers(weights, 1, values.rows), 1.0)
            }
            _ => (Summand::ONES, 1.0 / values.rows.max(1) as f32),
        };
        assert_eq!(gy.cols, values.cols);
        self.launch_sums(Sums {
            x: Summand::rows(gy),
            weights,
            rows: gy.rows,
            scale,
            accumulate: true,
            out: gvalues,
        });
    }

    fn scatter_add(&mut self, g: View<'_, CudaTensor>, rows: &CudaRows, gtable: ViewMut<'_, CudaTensor>) {
        self.launch_scatter_add(Slice::of(g), rows, Slice::of_out(&gtable));
    }
}

impl<D: Driver> CudaBackend<D> {
    /// `gy` times the slope of the GELU of each sum, in scratch memory.
    fn launch_outer_gelu_backward(&mut self, a: Slice, b: Slice, gy: Slice) -> Slice {
        let out = Slice {
            address: self.scratch(Scratch::Wide, 4 * gy.rows * gy.cols),
            stride: gy.cols,
            ..gy
        };
        let parameters = Parameters::new()
            .matrix(a)
            .matrix(b)
            .matrix(gy)
            .matrix(out)
            .word(b.rows)
            .word(gy.rows)
            .word(gy.cols);
        let shape = cover(gy.rows * gy.cols);
        self.device.launch(OUTER_GELU_BACKWARD, shape, &parameters);
        out
    }

    /// Adds to `gscores` and returns the weights of the pooling `[C, N]`, in scratch memory.
    fn pool_weights_backward(&mut self, scores: Slice, values: Slice, gy: Slice, gscores: Slice) -> u64 {
        let elements = gy.rows * values.rows;
        let along = self.scratch(Scratch::Wide, 8 * elements);
        let weights = along + 4 * elements as u64;
        let column = Slice {
            address: along,
            stride: 1,
            rows: elements,
            cols: 1,
        };
        self.launch_outer_dot(gy, values, false, column);
        self.launch_pool_scores_backward(scores, along, weights, gscores);
        weights
    }
}
