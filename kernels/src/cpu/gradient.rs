//! [`Differentiable`] on the CPU. Large products go through the `gemm` crate; a training batch is shared out by windows, so
//! everything here runs on the calling thread.

use super::derivative::{drop_row, Loops, NormBackwardJob, ScoreBackwardJob, SoftmaxJob, UnitJob};
use super::math;
use super::tensor::CpuTensor;
use super::vector::{self, Kernel, Vector};
use super::{CpuBackend, CpuRotation};
use crate::backend::{Activation, BackendError, Map, Matrix, Norm, Rotary, View, ViewMut};
use crate::gradient::{Attend, Differentiable, DropMask, Unit};

/// A matrix to be multiplied: first element, distance of rows, distance of columns.
type Strided = (*const f32, usize, usize);

/// `out (+)= scale · a b`, `a` `[m, k]`, `b` `[k, n]`; rows of `out` are `stride` apart.
///
/// # Safety
/// The pointers are valid for their shapes, and `out` is nobody else's.
unsafe fn product(
    (m, n, k): (usize, usize, usize),
    a: Strided,
    b: Strided,
    (out, stride): (*mut f32, usize),
    accumulate: bool,
    scale: f32,
) {
    if m == 0 || n == 0 {
        return;
    }
    // SAFETY: as the caller's.
    unsafe {
        gemm::gemm(
            m,
            n,
            k,
            out,
            1,
            stride as isize,
            accumulate,
            a.0,
            a.2 as isize,
            a.1 as isize,
            b.0,
            b.2 as isize,
            b.1 as isize,
            1.0,
            scale,
            false,
            false,
            false,
            gemm::Parallelism::None,
        );
    }
}

/// LayerNorm of some rows.
struct NormJob<'a> {
    x: View<'a, CpuTensor>,
    norm: Norm<'a, CpuTensor>,
    out: (*mut f32, usize),
}

impl Kernel for NormJob<'_> {
    #[inline(always)]
    unsafe fn run<V: Vector>(self) {
        let (gain, bias) = (self.norm.gain.data.as_ptr(), self.norm.bias.data.as_ptr());
        for i in 0..self.x.rows {
            let x = self.x.row_slice(i);
            // SAFETY: the caller checked the shapes; the output is nobody else's.
            unsafe { math::layer_norm::<V>(x.as_ptr(), x.len(), gain, bias, self.out.0.add(i * self.out.1)) };
        }
    }
}

impl CpuBackend {
    /// Runs loops compiled for the instruction set.
    fn loops(&self, f: impl FnOnce()) {
        // SAFETY: the instruction set was checked; the kernel has no pointers.
        unsafe { vector::run(self.isa, Loops(f)) };
    }
}

impl Differentiable for CpuBackend {
    fn normalise(&mut self, x: View<'_, CpuTensor>, norm: Norm<'_, CpuTensor>, mut out: ViewMut<'_, CpuTensor>) {
        assert_eq!((x.rows, x.cols), (out.rows, out.cols));
        assert!(norm.gain.cols() == x.cols && norm.bias.cols() == x.cols);
        let out = (out.ptr(), out.tensor.cols);
        // SAFETY: the instruction set was checked; views lie within their tensors and the shapes agree.
        unsafe { vector::run(self.isa, NormJob { x, norm, out }) };
    }

    fn activate(&mut self, unit: Unit, x: View<'_, CpuTensor>, mut out: ViewMut<'_, CpuTensor>) {
        let gated = unit == Unit::Geglu;
        assert_eq!((x.rows, x.cols), (out.rows, out.cols * (1 + usize::from(gated))));
        let job = UnitJob {
            x: (x.ptr(), x.tensor.cols),
            gy: None,
            out: (out.ptr(), out.tensor.cols),
            rows: out.rows,
            cols: out.cols,
            gated,
        };
        // SAFETY: the instruction set was checked; views lie within their tensors and the shapes agree.
        unsafe { vector::run(self.isa, job) };
    }

    fn drop_elements(&mut self, mask: DropMask, mut x: ViewMut<'_, CpuTensor>) {
        self.loops(|| {
            for i in 0..x.rows {
                let first = i * x.cols;
                drop_row(mask, first, x.row_slice(i));
            }
        });
    }

    fn rotate_back(&mut self, rotary: Rotary<'_, CpuRotation>, x: ViewMut<'_, CpuTensor>) {
        self.turn(rotary, true, x);
    }

    fn attend(&mut self, args: Attend<'_, Self>, mut weights: ViewMut<'_, CpuTensor>, mut out: ViewMut<'_, CpuTensor>) {
        let (queries, keys, head_dim) = (args.query.rows, args.key.rows, args.query.cols / args.heads);
        assert_eq!((weights.rows, weights.cols), (args.heads * queries, keys));
        assert_eq!((out.rows, out.cols), (queries, args.query.cols));
        assert_eq!(
            (args.value.rows, args.value.cols, args.key.cols),
            (keys, out.cols, out.cols)
        );
        let [kept, _] = &mut self.head_weights;
        kept.grow(queries * keys);
        let kept = kept.as_mut_ptr();
        let stride = weights.tensor.cols;
        for head in 0..args.heads {
            let (query, key, value) = (
                head_of(args.query, head, head_dim),
                head_of(args.key, head, head_dim),
                head_of(args.value, head, head_dim),
            );
            let scores = weights.ptr().wrapping_add(head * queries * stride);
            let job = SoftmaxJob {
                weights: (scores, stride),
                kept: args.drop.map(|mask| ((kept, keys), mask, head * queries * keys)),
                queries,
                keys,
                mask: args.mask,
            };
            let (from, from_stride) = if args.drop.is_some() {
                (kept, keys)
            } else {
                (scores, stride)
            };
            let scale = 1.0 / (head_dim as f32).sqrt();
            let to = (out.ptr().wrapping_add(head * head_dim), out.tensor.cols);
            // SAFETY: views lie within their tensors and the shapes agree; `kept` has room for a head; the instruction set
            // was checked.
            unsafe {
                product(
                    (queries, keys, head_dim),
                    query,
                    turned(key),
                    (scores, stride),
                    false,
                    scale,
                );
                vector::run(self.isa, job);
                product((queries, head_dim, keys), (from, from_stride, 1), value, to, false, 1.0);
            }
        }
    }

    fn poisson_loss(
        &mut self,
        log_rates: View<'_, CpuTensor>,
        counts: View<'_, CpuTensor>,
        weights: View<'_, CpuTensor>,
    ) -> Result<f64, BackendError> {
        let mut sum = 0.0;
        for i in 0..log_rates.rows {
            let rows = log_rates.row_slice(i).iter().zip(counts.row_slice(i));
            for ((&rate, &count), &weight) in rows.zip(weights.row_slice(i)) {
                let (rate, count, weight) = (f64::from(rate), f64::from(count), f64::from(weight));
                sum += weight * (rate.exp() - count * rate);
            }
        }
        Ok(sum)
    }

    fn poisson_loss_backward(
        &mut self,
        log_rates: View<'_, CpuTensor>,
        counts: View<'_, CpuTensor>,
        weights: View<'_, CpuTensor>,
        scale: f32,
        mut g: ViewMut<'_, CpuTensor>,
    ) {
        for i in 0..g.rows {
            let rows = log_rates.row_slice(i).iter().zip(counts.row_slice(i));
            for (((&rate, &count), &weight), g) in rows.zip(weights.row_slice(i)).zip(g.row_slice(i)) {
                *g += scale * weight * (rate.exp() - count);
            }
        }
    }

    fn weight_gradient(&mut self, gy: View<'_, CpuTensor>, x: View<'_, CpuTensor>, mut gw: ViewMut<'_, CpuTensor>) {
        assert_eq!((gy.rows, gy.cols, x.cols), (x.rows, gw.rows, gw.cols));
        let shape = (gy.cols, x.cols, x.rows);
        let (gy, x) = ((gy.ptr(), gy.tensor.cols, 1), (x.ptr(), x.tensor.cols, 1));
        let out = (gw.ptr(), gw.tensor.cols);
        // SAFETY: views lie within their tensors and the shapes agree.
        unsafe { product(shape, turned(gy), x, out, true, 1.0) };
    }

    fn column_sums(&mut self, g: View<'_, CpuTensor>, mut out: ViewMut<'_, CpuTensor>) {
        assert_eq!(g.cols, out.cols);
        self.loops(|| {
            let sums = out.row_slice(0);
            for i in 0..g.rows {
                sums.iter_mut().zip(g.row_slice(i)).for_each(|(sum, g)| *sum += g);
            }
        });
    }

    fn normalise_backward(
        &mut self,
        x: View<'_, CpuTensor>,
        norm: Norm<'_, CpuTensor>,
        gy: View<'_, CpuTensor>,
        mut gx: ViewMut<'_, CpuTensor>,
        ggain: &mut CpuTensor,
        gbias: &mut CpuTensor,
    ) {
        assert_eq!((x.rows, x.cols, gy.rows, gy.cols), (gx.rows, gx.cols, x.rows, x.cols));
        assert!(norm.gain.cols() == x.cols && ggain.cols() == x.cols && gbias.cols() == x.cols);
        let job = NormBackwardJob {
            x: (x.ptr(), x.tensor.cols),
            gain: norm.gain.data.as_ptr(),
            gy: (gy.ptr(), gy.tensor.cols),
            gx: (gx.ptr(), gx.tensor.cols),
            ggain: ggain.data.as_mut_ptr(),
            gbias: gbias.data.as_mut_ptr(),
            rows: x.rows,
            cols: x.cols,
        };
        // SAFETY: the instruction set was checked; views lie within their tensors and the shapes agree.
        unsafe { vector::run(self.isa, job) };
    }

    fn activate_backward(
        &mut self,
        unit: Unit,
        x: View<'_, CpuTensor>,
        gy: View<'_, CpuTensor>,
        mut gx: ViewMut<'_, CpuTensor>,
    ) {
        let gated = unit == Unit::Geglu;
        assert_eq!((x.rows, x.cols), (gy.rows, gy.cols * (1 + usize::from(gated))));
        assert_eq!((x.rows, x.cols), (gx.rows, gx.cols));
        let job = UnitJob {
            x: (x.ptr(), x.tensor.cols),
            gy: Some((gy.ptr(), gy.tensor.cols)),
            out: (gx.ptr(), gx.tensor.cols),
            rows: gy.rows,
            cols: gy.cols,
            gated,
        };
        // SAFETY: the instruction set was checked; views lie within their tensors and the shapes agree.
        unsafe { vector::run(self.isa, job) };
    }

    fn attend_backward(
        &mut self,
        args: Attend<'_, Self>,
        weights: View<'_, CpuTensor>,
        out: View<'_, CpuTensor>,
        gout: View<'_, CpuTensor>,
        mut gq: ViewMut<'_, CpuTensor>,
        mut gk: ViewMut<'_, CpuTensor>,
        mut gv: ViewMut<'_, CpuTensor>,
    ) {
        let (queries, keys, head_dim) = (args.query.rows, args.key.rows, args.query.cols / args.heads);
        assert_eq!((weights.rows, weights.cols), (args.heads * queries, keys));
        assert_eq!((gq.rows, gk.rows, gv.rows), (queries, keys, keys));
        assert_eq!((out.rows, gout.rows), (queries, queries));
        let [kept, scores] = &mut self.head_weights;
        kept.grow(queries * keys);
        scores.grow(queries * keys);
        let (kept, scores) = (kept.as_mut_ptr(), scores.as_mut_ptr());
        for head in 0..args.heads {
            let of = |view| head_of(view, head, head_dim);
            let (query, key, value) = (of(args.query), of(args.key), of(args.value));
            let (out, gout) = (of(out), of(gout));
            let job = ScoreBackwardJob {
                weights: (
                    weights.ptr().wrapping_add(head * queries * weights.tensor.cols),
                    weights.tensor.cols,
                ),
                g: (scores, keys),
                kept: (kept, keys),
                out: (out.0, out.1),
                gout: (gout.0, gout.1),
                channels: head_dim,
                queries,
                keys,
                keep_scale: args.drop.map_or(1.0, |mask| mask.scale()),
                scale: 1.0 / (head_dim as f32).sqrt(),
            };
            let (kept, scores) = ((kept.cast_const(), keys, 1), (scores.cast_const(), keys, 1));
            let to = |g: &mut ViewMut<'_, CpuTensor>| (g.ptr().wrapping_add(head * head_dim), g.tensor.cols);
            // SAFETY: views lie within their tensors and the shapes agree; the scratch has room for a head; the instruction
            // set was checked.
            unsafe {
                product((queries, keys, head_dim), gout, turned(value), job.g, false, 1.0);
                vector::run(self.isa, job);
                product((keys, head_dim, queries), turned(kept), gout, to(&mut gv), false, 1.0);
                product((queries, head_dim, keys), scores, key, to(&mut gq), false, 1.0);
                product(
                    (keys, head_dim, queries),
                    turned(scores),
                    query,
                    to(&mut gk),
                    false,
                    1.0,
                );
            }
        }
    }

    fn map_backward(
        &mut self,
        f: Map,
        x: View<'_, CpuTensor>,
        gy: View<'_, CpuTensor>,
        mut gx: ViewMut<'_, CpuTensor>,
    ) {
        for i in 0..x.rows {
            let pairs = x.row_slice(i).iter().zip(gy.row_slice(i)).zip(gx.row_slice(i));
            match f {
                Map::Log1p => pairs.for_each(|((&x, &gy), gx)| *gx += gy / (1.0 + x)),
                Map::Exp => pairs.for_each(|((&x, &gy), gx)| *gx += gy * x.exp()),
                Map::Clamp(limit) => pairs.for_each(|((&x, &gy), gx)| *gx += if x.abs() < limit { gy } else { 0.0 }),
            }
        }
    }

    fn outer_add_backward(
        &mut self,
        a: View<'_, CpuTensor>,
        b: View<'_, CpuTensor>,
        activation: Activation,
        gy: View<'_, CpuTensor>,
        mut ga: ViewMut<'_, CpuTensor>,
        mut gb: ViewMut<'_, CpuTensor>,
    ) {
        let cols = a.cols;
        let mut sum = vec![0.0; cols];
        let mut slopes = vec![1.0; cols];
        for i in 0..a.rows {
            for n in 0..b.rows {
                let g = gy.row_slice(i * b.rows + n);
                if activation == Activation::Gelu {
                    let pairs = a.row_slice(i).iter().zip(b.row_slice(n));
                    sum.iter_mut().zip(pairs).for_each(|(sum, (a, b))| *sum = a + b);
                    let job = UnitJob {
                        x: (sum.as_ptr(), cols),
                        gy: Some((g.as_ptr(), cols)),
                        out: (slopes.as_mut_ptr(), cols),
                        rows: 1,
                        cols,
                        gated: false,
                    };
                    // SAFETY: the instruction set was checked; the rows have `cols` elements.
                    unsafe { vector::run(self.isa, job) };
                } else {
                    slopes.copy_from_slice(g);
                }
                ga.row_slice(i).iter_mut().zip(&slopes).for_each(|(ga, g)| *ga += g);
                gb.row_slice(n).iter_mut().zip(&slopes).for_each(|(gb, g)| *gb += g);
            }
        }
    }

    fn outer_dot_backward(
        &mut self,
        a: View<'_, CpuTensor>,
        b: View<'_, CpuTensor>,
        gy: View<'_, CpuTensor>,
        mut ga: ViewMut<'_, CpuTensor>,
        mut gb: ViewMut<'_, CpuTensor>,
    ) {
        assert_eq!((a.rows * b.rows, a.cols), (gy.rows, b.cols));
        self.loops(|| {
            for i in 0..a.rows {
                for n in 0..b.rows {
                    let g = gy.row_slice(i * b.rows + n)[0];
                    add_scaled(g, b.row_slice(n), ga.row_slice(i));
                    add_scaled(g, a.row_slice(i), gb.row_slice(n));
                }
            }
        });
    }

    fn multiply_backward(
        &mut self,
        x: View<'_, CpuTensor>,
        y: View<'_, CpuTensor>,
        gz: View<'_, CpuTensor>,
        mut gx: ViewMut<'_, CpuTensor>,
        mut gy: ViewMut<'_, CpuTensor>,
    ) {
        self.loops(|| {
            for i in 0..x.rows {
                let row = i.min(y.rows - 1);
                let pairs = gz.row_slice(i).iter().zip(y.row_slice(row));
                gx.row_slice(i)
                    .iter_mut()
                    .zip(pairs)
                    .for_each(|(gx, (gz, y))| *gx += gz * y);
                let pairs = gz.row_slice(i).iter().zip(x.row_slice(i));
                gy.row_slice(row)
                    .iter_mut()
                    .zip(pairs)
                    .for_each(|(gy, (gz, x))| *gy += gz * x);
            }
        });
    }

    fn sum_rows_backward(
        &mut self,
        weights: View<'_, CpuTensor>,
        x: View<'_, CpuTensor>,
        gy: View<'_, CpuTensor>,
        mut gweights: ViewMut<'_, CpuTensor>,
        mut gx: ViewMut<'_, CpuTensor>,
    ) {
        let g = gy.row_slice(0);
        for n in 0..x.rows {
            gweights.row_slice(0)[n] += x.row_slice(n).iter().zip(g).map(|(x, g)| x * g).sum::<f32>();
            add_scaled(weights.row_slice(0)[n], g, gx.row_slice(n));
        }
    }

    fn pool_backward(
        &mut self,
        scores: Option<View<'_, CpuTensor>>,
        values: View<'_, CpuTensor>,
        gy: View<'_, CpuTensor>,
        mut gscores: Option<ViewMut<'_, CpuTensor>>,
        mut gvalues: ViewMut<'_, CpuTensor>,
    ) {
        let rows = values.rows;
        let mut weights = vec![1.0 / rows as f32; rows];
        for c in 0..gy.rows {
            if let Some(scores) = scores {
                let column = |n: usize| scores.row_slice(n)[c];
                let largest = (0..rows).map(column).fold(f32::MIN, f32::max);
                (0..rows).for_each(|n| weights[n] = (column(n) - largest).exp());
                let sum: f32 = weights.iter().sum();
                weights.iter_mut().for_each(|w| *w /= sum);
            }
            let g = gy.row_slice(c);
            let along = |n: usize| -> f32 { values.row_slice(n).iter().zip(g).map(|(v, g)| v * g).sum() };
            let mean: f32 = weights.iter().enumerate().map(|(n, w)| w * along(n)).sum();
            for (n, &weight) in weights.iter().enumerate() {
                if let Some(gscores) = &mut gscores {
                    gscores.row_slice(n)[c] += weight * (along(n) - mean);
                }
                gvalues
                    .row_slice(n)
                    .iter_mut()
                    .zip(g)
                    .for_each(|(gv, g)| *gv += weight * g);
            }
        }
    }

    fn scatter_add(&mut self, g: View<'_, CpuTensor>, rows: &Vec<u32>, mut gtable: ViewMut<'_, CpuTensor>) {
        assert_eq!((rows.len(), gtable.cols), (g.rows, g.cols));
        self.loops(|| {
            for (i, &row) in rows.iter().enumerate() {
                let to = gtable.row_slice(row as usize);
                to.iter_mut().zip(g.row_slice(i)).for_each(|(to, g)| *to += g);
            }
        });
    }
}

/// `out += scale · x`.
#[inline(always)]
fn add_scaled(scale: f32, x: &[f32], out: &mut [f32]) {
    out.iter_mut().zip(x).for_each(|(y, x)| *y += scale * x);
}

/// The channels of a head.
fn head_of(view: View<'_, CpuTensor>, head: usize, head_dim: usize) -> Strided {
    (view.ptr().wrapping_add(head * head_dim), view.tensor.cols, 1)
}

/// The transposed matrix.
fn turned((first, rows, cols): Strided) -> Strided {
    (first, cols, rows)
}
