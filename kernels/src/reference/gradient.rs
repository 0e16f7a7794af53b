//! The derivatives, as the plainest loops.

use super::{gelu, softmax, standardise, turn, Element, HostMatrix, HostRotation, Reference};
use crate::backend::{Activation, BackendError, Map, Norm, Rotary, View, ViewMut};
use crate::gradient::{Attend, Differentiable, DropMask, Unit};
use crate::philox::eight;

/// Derivative of `x Φ(x)`: `Φ(x) + x φ(x)`.
pub fn gelu_slope(x: f64) -> f64 {
    let distribution = 0.5 * (1.0 + libm::erf(x * std::f64::consts::FRAC_1_SQRT_2));
    let density = (-0.5 * x * x).exp() / std::f64::consts::TAU.sqrt();
    distribution + x * density
}

/// What element `index` is multiplied by.
fn kept(mask: DropMask, index: usize) -> f64 {
    let number = eight(mask.seed, mask.stream, index as u64 / 8)[index % 8];
    if number < mask.threshold() {
        0.0
    } else {
        f64::from(mask.scale())
    }
}

/// Softmax weights and kept factors of one query in one head, over all keys (zero where masked).
fn weights_of<S: Element>(args: &Attend<'_, Reference<S>>, head: usize, i: usize) -> (Vec<f64>, Vec<f64>) {
    let (queries, keys) = (args.query.rows, args.key.rows);
    let head_dim = args.query.cols / args.heads;
    let scale = 1.0 / (head_dim as f64).sqrt();
    let visible = args.mask.range(i, keys);
    let dot = |j: usize| {
        let channels = head * head_dim..(head + 1) * head_dim;
        scale * channels.map(|c| args.query.at(i, c) * args.key.at(j, c)).sum::<f64>()
    };
    let mut weights = vec![0.0; keys];
    weights[visible.clone()].copy_from_slice(&softmax(&visible.map(dot).collect::<Vec<_>>()));
    let factors = (0..keys)
        .map(|j| {
            args.drop
                .map_or(1.0, |mask| kept(mask, (head * queries + i) * keys + j))
        })
        .collect();
    (weights, factors)
}

impl<S: Element> Differentiable for Reference<S> {
    fn normalise(
        &mut self,
        x: View<'_, HostMatrix<S>>,
        norm: Norm<'_, HostMatrix<S>>,
        mut out: ViewMut<'_, HostMatrix<S>>,
    ) {
        assert_eq!((x.rows, x.cols), (out.rows, out.cols));
        for i in 0..x.rows {
            let row = super::layer_norm(&x.row_vec(i), norm);
            row.iter().enumerate().for_each(|(j, &y)| out.set(i, j, y));
        }
    }

    fn activate(&mut self, unit: Unit, x: View<'_, HostMatrix<S>>, mut out: ViewMut<'_, HostMatrix<S>>) {
        for i in 0..out.rows {
            for j in 0..out.cols {
                let y = match unit {
                    Unit::Gelu => gelu(x.at(i, j)),
                    Unit::Geglu => x.at(i, j) * gelu(x.at(i, out.cols + j)),
                };
                out.set(i, j, y);
            }
        }
    }

    fn drop_elements(&mut self, mask: DropMask, mut x: ViewMut<'_, HostMatrix<S>>) {
        for i in 0..x.rows {
            for j in 0..x.cols {
                x.set(i, j, x.at(i, j) * kept(mask, i * x.cols + j));
            }
        }
    }

    fn rotate_back(&mut self, rotary: Rotary<'_, HostRotation>, mut x: ViewMut<'_, HostMatrix<S>>) {
        turn(rotary, -1.0, &mut x);
    }

    fn attend(
        &mut self,
        args: Attend<'_, Self>,
        mut weights: ViewMut<'_, HostMatrix<S>>,
        mut out: ViewMut<'_, HostMatrix<S>>,
    ) {
        let (queries, keys, head_dim) = (args.query.rows, args.key.rows, args.query.cols / args.heads);
        assert_eq!((weights.rows, weights.cols), (args.heads * queries, keys));
        for head in 0..args.heads {
            for i in 0..queries {
                let (softmaxed, factors) = weights_of(&args, head, i);
                for j in 0..keys {
                    weights.set(head * queries + i, j, softmaxed[j] * factors[j]);
                }
                for c in head * head_dim..(head + 1) * head_dim {
                    let y = (0..keys).map(|j| softmaxed[j] * factors[j] * args.value.at(j, c)).sum();
                    out.set(i, c, y);
                }
            }
        }
    }

    fn poisson_loss(
        &mut self,
        log_rates: View<'_, HostMatrix<S>>,
        counts: View<'_, HostMatrix<S>>,
        weights: View<'_, HostMatrix<S>>,
    ) -> Result<f64, BackendError> {
        let mut sum = 0.0;
        for i in 0..log_rates.rows {
            for j in 0..log_rates.cols {
                let rate = log_rates.at(i, j);
                sum += weights.at(i, j) * (rate.exp() - counts.at(i, j) * rate);
            }
        }
        Ok(sum)
    }

    fn poisson_loss_backward(
        &mut self,
        log_rates: View<'_, HostMatrix<S>>,
        counts: View<'_, HostMatrix<S>>,
        weights: View<'_, HostMatrix<S>>,
        scale: f32,
        mut g: ViewMut<'_, HostMatrix<S>>,
    ) {
        for i in 0..g.rows {
            for j in 0..g.cols {
                let slope = log_rates.at(i, j).exp() - counts.at(i, j);
                g.add(i, j, f64::from(scale) * weights.at(i, j) * slope);
            }
        }
    }

    fn weight_gradient(
        &mut self,
        gy: View<'_, HostMatrix<S>>,
        x: View<'_, HostMatrix<S>>,
        mut gw: ViewMut<'_, HostMatrix<S>>,
    ) {
        assert_eq!((gy.rows, gy.cols, x.cols), (x.rows, gw.rows, gw.cols));
        for o in 0..gw.rows {
            for i in 0..gw.cols {
                gw.add(o, i, (0..x.rows).map(|m| gy.at(m, o) * x.at(m, i)).sum());
            }
        }
    }

    fn column_sums(&mut self, g: View<'_, HostMatrix<S>>, mut out: ViewMut<'_, HostMatrix<S>>) {
        for c in 0..g.cols {
            out.add(0, c, (0..g.rows).map(|m| g.at(m, c)).sum());
        }
    }

    fn normalise_backward(
        &mut self,
        x: View<'_, HostMatrix<S>>,
        norm: Norm<'_, HostMatrix<S>>,
        gy: View<'_, HostMatrix<S>>,
        mut gx: ViewMut<'_, HostMatrix<S>>,
        ggain: &mut HostMatrix<S>,
        gbias: &mut HostMatrix<S>,
    ) {
        let n = x.cols as f64;
        for i in 0..x.rows {
            let (standard, scale) = standardise(&x.row_vec(i));
            let g: Vec<f64> = (0..x.cols).map(|j| gy.at(i, j) * norm.gain.row(0)[j].get()).collect();
            let mean = g.iter().sum::<f64>() / n;
            let along = g.iter().zip(&standard).map(|(g, x)| g * x).sum::<f64>() / n;
            for j in 0..x.cols {
                gx.add(i, j, scale * (g[j] - mean - standard[j] * along));
                ggain.data[j] = S::of(ggain.data[j].get() + gy.at(i, j) * standard[j]);
                gbias.data[j] = S::of(gbias.data[j].get() + gy.at(i, j));
            }
        }
    }

    fn activate_backward(
        &mut self,
        unit: Unit,
        x: View<'_, HostMatrix<S>>,
        gy: View<'_, HostMatrix<S>>,
        mut gx: ViewMut<'_, HostMatrix<S>>,
    ) {
        for i in 0..gy.rows {
            for j in 0..gy.cols {
                let g = gy.at(i, j);
                match unit {
                    Unit::Gelu => gx.set(i, j, g * gelu_slope(x.at(i, j))),
                    Unit::Geglu => {
                        let (a, b) = (x.at(i, j), x.at(i, gy.cols + j));
                        gx.set(i, j, g * gelu(b));
                        gx.set(i, gy.cols + j, g * a * gelu_slope(b));
                    }
                }
            }
        }
    }

    fn attend_backward(
        &mut self,
        args: Attend<'_, Self>,
        _weights: View<'_, HostMatrix<S>>,
        _out: View<'_, HostMatrix<S>>,
        gout: View<'_, HostMatrix<S>>,
        mut gq: ViewMut<'_, HostMatrix<S>>,
        mut gk: ViewMut<'_, HostMatrix<S>>,
        mut gv: ViewMut<'_, HostMatrix<S>>,
    ) {
        let (queries, keys, head_dim) = (args.query.rows, args.key.rows, args.query.cols / args.heads);
        let scale = 1.0 / (head_dim as f64).sqrt();
        for head in 0..args.heads {
            let channels = || head * head_dim..(head + 1) * head_dim;
            let mut to_key = vec![0.0; keys * head_dim];
            let mut to_value = vec![0.0; keys * head_dim];
            for i in 0..queries {
                let (weights, factors) = weights_of(&args, head, i);
                // By the weights before dropping, then by the scores.
                let g: Vec<f64> = (0..keys)
                    .map(|j| factors[j] * channels().map(|c| gout.at(i, c) * args.value.at(j, c)).sum::<f64>())
                    .collect();
                let mean: f64 = weights.iter().zip(&g).map(|(w, g)| w * g).sum();
                for c in channels() {
                    let to_query: f64 = (0..keys).map(|j| weights[j] * (g[j] - mean) * args.key.at(j, c)).sum();
                    gq.set(i, c, scale * to_query);
                    for j in 0..keys {
                        let at = j * head_dim + c - head * head_dim;
                        to_key[at] += scale * weights[j] * (g[j] - mean) * args.query.at(i, c);
                        to_value[at] += weights[j] * factors[j] * gout.at(i, c);
                    }
                }
            }
            for j in 0..keys {
                for c in channels() {
                    let at = j * head_dim + c - head * head_dim;
                    gk.set(j, c, to_key[at]);
                    gv.set(j, c, to_value[at]);
                }
            }
        }
    }

    fn map_backward(
        &mut self,
        f: Map,
        x: View<'_, HostMatrix<S>>,
        gy: View<'_, HostMatrix<S>>,
        mut gx: ViewMut<'_, HostMatrix<S>>,
    ) {
        for i in 0..x.rows {
            for j in 0..x.cols {
                let x = x.at(i, j);
                let slope = match f {
                    Map::Log1p => 1.0 / (1.0 + x),
                    Map::Exp => x.exp(),
                    Map::Clamp(limit) => f64::from(u8::from(x.abs() < f64::from(limit))),
                };
                gx.add(i, j, slope * gy.at(i, j));
            }
        }
    }

    fn outer_add_backward(
        &mut self,
        a: View<'_, HostMatrix<S>>,
        b: View<'_, HostMatrix<S>>,
        activation: Activation,
        gy: View<'_, HostMatrix<S>>,
        mut ga: ViewMut<'_, HostMatrix<S>>,
        mut gb: ViewMut<'_, HostMatrix<S>>,
    ) {
        for i in 0..a.rows {
            for n in 0..b.rows {
                for j in 0..a.cols {
                    let slope = match activation {
                        Activation::Identity => 1.0,
                        Activation::Gelu => gelu_slope(a.at(i, j) + b.at(n, j)),
                    };
                    let g = slope * gy.at(i * b.rows + n, j);
                    ga.add(i, j, g);
                    gb.add(n, j, g);
                }
            }
        }
    }

    fn outer_dot_backward(
        &mut self,
        a: View<'_, HostMatrix<S>>,
        b: View<'_, HostMatrix<S>>,
        gy: View<'_, HostMatrix<S>>,
        mut ga: ViewMut<'_, HostMatrix<S>>,
        mut gb: ViewMut<'_, HostMatrix<S>>,
    ) {
        for i in 0..a.rows {
            for n in 0..b.rows {
                for c in 0..a.cols {
                    let g = gy.at(i * b.rows + n, 0);
                    ga.add(i, c, g * b.at(n, c));
                    gb.add(n, c, g * a.at(i, c));
                }
            }
        }
    }

    fn multiply_backward(
        &mut self,
        x: View<'_, HostMatrix<S>>,
        y: View<'_, HostMatrix<S>>,
        gz: View<'_, HostMatrix<S>>,
        mut gx: ViewMut<'_, HostMatrix<S>>,
        mut gy: ViewMut<'_, HostMatrix<S>>,
    ) {
        for i in 0..x.rows {
            for j in 0..x.cols {
                let row = i.min(y.rows - 1);
                gx.add(i, j, gz.at(i, j) * y.at(row, j));
                gy.add(row, j, gz.at(i, j) * x.at(i, j));
            }
        }
    }

    fn sum_rows_backward(
        &mut self,
        weights: View<'_, HostMatrix<S>>,
        x: View<'_, HostMatrix<S>>,
        gy: View<'_, HostMatrix<S>>,
        mut gweights: ViewMut<'_, HostMatrix<S>>,
        mut gx: ViewMut<'_, HostMatrix<S>>,
    ) {
        for n in 0..x.rows {
            for j in 0..x.cols {
                gweights.add(0, n, gy.at(0, j) * x.at(n, j));
                gx.add(n, j, gy.at(0, j) * weights.at(0, n));
            }
        }
    }

    fn pool_backward(
        &mut self,
        scores: Option<View<'_, HostMatrix<S>>>,
        values: View<'_, HostMatrix<S>>,
        gy: View<'_, HostMatrix<S>>,
        mut gscores: Option<ViewMut<'_, HostMatrix<S>>>,
        mut gvalues: ViewMut<'_, HostMatrix<S>>,
    ) {
        for c in 0..gy.rows {
            let weights = match scores {
                Some(scores) => softmax(&(0..scores.rows).map(|n| scores.at(n, c)).collect::<Vec<_>>()),
                None => vec![1.0 / values.rows as f64; values.rows],
            };
            let along: Vec<f64> = (0..values.rows)
                .map(|n| (0..values.cols).map(|j| gy.at(c, j) * values.at(n, j)).sum())
                .collect();
            let mean: f64 = weights.iter().zip(&along).map(|(w, a)| w * a).sum();
            for n in 0..values.rows {
                if let Some(gscores) = &mut gscores {
                    gscores.add(n, c, weights[n] * (along[n] - mean));
                }
                for j in 0..values.cols {
                    gvalues.add(n, j, weights[n] * gy.at(c, j));
                }
            }
        }
    }

    fn scatter_add(&mut self, g: View<'_, HostMatrix<S>>, rows: &Vec<u32>, mut gtable: ViewMut<'_, HostMatrix<S>>) {
        assert_eq!((rows.len(), gtable.cols), (g.rows, g.cols));
        for (i, &row) in rows.iter().enumerate() {
            for j in 0..g.cols {
                gtable.add(row as usize, j, g.at(i, j));
            }
        }
    }
}
