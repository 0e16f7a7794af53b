//! Derivatives of the CUDA backend, its optimisers and its random numbers, on an emulated device, against their
//! definitions.

mod cuda_support;

use cuda_support::{assert_all_close, backend, backend_in_order, numbers, Part, Results};
use kernels::cuda::{StepRates, Stepped};
use kernels::gradient::{Differentiable, DropMask, Unit};
use kernels::reference::ReferenceBackend;
use kernels::{Activation, Backend, Map, Matrix, Norm, Rotary};
use proptest::prelude::*;

#[derive(Debug, Clone, Copy)]
struct Case {
    rows: usize,
    others: usize,
    cols: usize,
    margin: usize,
    seed: u64,
}

fn cases() -> impl Strategy<Value = Case> {
    (1..30usize, 1..5usize, 1..70usize, 0..4usize, any::<u32>()).prop_map(|(rows, others, cols, margin, seed)| Case {
        rows,
        others,
        cols,
        margin,
        seed: u64::from(seed),
    })
}

/// Every part and every derivative once, on rectangles of larger matrices.
fn derivatives<B: Differentiable>(backend: &mut B, case: Case) -> Results {
    let Case {
        rows,
        others,
        cols,
        margin,
        seed,
    } = case;
    let mut results = Results::new();
    let mut salt = seed;
    let mut part = |backend: &mut B, rows, cols| {
        salt += 1;
        Part::new(backend, salt, rows, cols, margin)
    };
    let (x, y, g) = (
        part(backend, rows, cols),
        part(backend, rows, cols),
        part(backend, rows, cols),
    );
    let (mut gx, mut gy) = (part(backend, rows, cols), part(backend, rows, cols));
    let (one, g_one) = (part(backend, 1, cols), part(backend, 1, cols));
    let mut g_line = part(backend, 1, cols);

    // Parts.
    let gain = backend.tensor(1, cols, &numbers(seed + 100, cols));
    let bias = backend.tensor(1, cols, &numbers(seed + 101, cols));
    let norm = Norm {
        gain: &gain,
        bias: &bias,
    };
    backend.normalise(x.view(), norm, gx.view_mut());
    results.push(("normalise", gx.download(backend)));
    let (wide, mut g_wide) = (part(backend, rows, 2 * cols), part(backend, rows, 2 * cols));
    backend.activate(Unit::Gelu, x.view(), gx.view_mut());
    results.push(("gelu", gx.download(backend)));
    backend.activate(Unit::Geglu, wide.view(), gx.view_mut());
    results.push(("geglu", gx.download(backend)));
    let mask = DropMask {
        rate: 0.3,
        seed: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15),
        stream: seed << 20 | 7,
    };
    backend.drop_elements(mask, gx.view_mut());
    results.push(("drop_elements", gx.download(backend)));
    let mut rotation = backend.rotation(rows, &vec![100.0; cols]);
    backend.set_rotation(&mut rotation, 0, &vec![1.5; rows]);
    let rotary = Rotary {
        rotation: &rotation,
        first: 0,
    };
    backend.rotate_back(rotary, g_wide.view_mut());
    results.push(("rotate_back", g_wide.download(backend)));

    // Derivatives.
    let loss = backend
        .poisson_loss(x.view(), y.view(), g.view())
        .expect("the device answers");
    results.push(("poisson_loss", vec![loss as f32]));
    backend.poisson_loss_backward(x.view(), y.view(), g.view(), 0.7, gx.view_mut());
    results.push(("poisson_loss_backward", gx.download(backend)));
    backend.column_sums(g.view(), g_line.view_mut());
    results.push(("column_sums", g_line.download(backend)));
    let (mut ggain, mut gbias) = (
        backend.tensor(1, cols, &numbers(seed + 102, cols)),
        backend.tensor(1, cols, &numbers(seed + 103, cols)),
    );
    backend.normalise_backward(x.view(), norm, g.view(), gx.view_mut(), &mut ggain, &mut gbias);
    results.push(("normalise_backward", gx.download(backend)));
    for (what, of) in [("by the gain", &ggain), ("by the bias", &gbias)] {
        let mut numbers = vec![0.0; cols];
        backend.download(of.view(), &mut numbers).expect("the device answers");
        results.push((what, numbers));
    }
    backend.activate_backward(Unit::Geglu, wide.view(), g.view(), g_wide.view_mut());
    results.push(("geglu backward", g_wide.download(backend)));
    for (what, f) in [("log1p", Map::Log1p), ("exp", Map::Exp), ("clamp", Map::Clamp(0.5))] {
        // The slope of the logarithm is steep near −1; `y` takes its place where it would be.
        let of = if f == Map::Log1p { gx.view_mut() } else { gy.view_mut() };
        let shifted: Vec<f32> = numbers(seed + 104, rows * cols).iter().map(|x| x + 1.0).collect();
        backend.upload(&shifted, of);
        if f == Map::Log1p {
            backend.map_backward(f, gx.view(), g.view(), gy.view_mut());
        } else {
            backend.map_backward(f, x.view(), g.view(), gy.view_mut());
        }
        results.push((what, gy.download(backend)));
    }
    backend.activate_backward(Unit::Gelu, x.view(), g.view(), gx.view_mut());
    results.push(("gelu backward", gx.download(backend)));

    let (b, mut gb) = (part(backend, others, cols), part(backend, others, cols));
    let g_outer = part(backend, rows * others, cols);
    for (what, activation) in [("add", Activation::Identity), ("add, gelu", Activation::Gelu)] {
        backend.outer_add_backward(
            x.view(),
            b.view(),
            activation,
            g_outer.view(),
            gx.view_mut(),
            gb.view_mut(),
        );
        results.push((what, gx.download(backend)));
        results.push((what, gb.download(backend)));
    }
    let g_dots = part(backend, rows * others, 1);
    backend.outer_dot_backward(x.view(), b.view(), g_dots.view(), gx.view_mut(), gb.view_mut());
    results.push(("outer_dot by a", gx.download(backend)));
    results.push(("outer_dot by b", gb.download(backend)));
    backend.multiply_backward(x.view(), y.view(), g.view(), gx.view_mut(), gy.view_mut());
    results.push(("multiply by x", gx.download(backend)));
    results.push(("multiply by y", gy.download(backend)));
    backend.multiply_backward(x.view(), one.view(), g.view(), gx.view_mut(), g_line.view_mut());
    results.push(("multiply by a row, by x", gx.download(backend)));
    results.push(("multiply by a row, by the row", g_line.download(backend)));
    let (weights, mut g_weights) = (part(backend, 1, rows), part(backend, 1, rows));
    backend.sum_rows_backward(
        weights.view(),
        x.view(),
        g_one.view(),
        g_weights.view_mut(),
        gx.view_mut(),
    );
    results.push(("sum_rows by weights", g_weights.download(backend)));
    results.push(("sum_rows by x", gx.download(backend)));
    backend.pool_backward(None, x.view(), g_one.view(), None, gx.view_mut());
    results.push(("mean", gx.download(backend)));
    let (scores, mut g_scores) = (part(backend, rows, others), part(backend, rows, others));
    backend.pool_backward(
        Some(scores.view()),
        x.view(),
        b.view(),
        Some(g_scores.view_mut()),
        gx.view_mut(),
    );
    results.push(("pool by scores", g_scores.download(backend)));
    results.push(("pool by values", gx.download(backend)));

    // Rows of a table, some of them several times.
    let mut g_table = part(backend, others + 2, cols);
    let mut list = backend.rows(rows + 1);
    let picked: Vec<u32> = (0..rows).map(|i| (i * i % (others + 2)) as u32).collect();
    backend.set_rows(&mut list, &picked);
    backend.scatter_add(g.view(), &list, g_table.view_mut());
    results.push(("scatter_add", g_table.download(backend)));
    results
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn derivatives_agree(case in cases()) {
        let expected = derivatives(&mut ReferenceBackend::default(), case);
        assert_all_close(&expected, &derivatives(&mut backend(true), case), 5e-6);
    }

    #[test]
    fn derivatives_have_the_same_bits_in_any_order_of_warps(case in cases()) {
        let bits = |results: Results| -> Vec<u32> {
            results.iter().flat_map(|(_, x)| x.iter().map(|x| x.to_bits())).collect()
        };
        let [first, second] = [2, 3].map(|order| bits(derivatives(&mut backend_in_order(order), case)));
        assert_eq!(first, second);
    }
}

/// More rows than a warp looks at in one go, and sums taken in parts.
fn many_rows<B: Differentiable>(backend: &mut B) -> Results {
    let rows = 700;
    let g = Part::new(backend, 1, rows, 5, 1);
    let x = Part::new(backend, 2, rows, 5, 1);
    let mut results = Results::new();
    let mut table = Part::new(backend, 3, 40, 5, 1);
    let mut list = backend.rows(rows);
    let picked: Vec<u32> = (0..rows).map(|i| (i * i / 7 % 40) as u32).collect();
    backend.set_rows(&mut list, &picked);
    backend.scatter_add(g.view(), &list, table.view_mut());
    results.push(("scatter_add", table.download(backend)));
    let mut line = Part::new(backend, 4, 1, 5, 1);
    backend.column_sums(g.view(), line.view_mut());
    results.push(("column_sums", line.download(backend)));
    let gain = backend.tensor(1, 5, &numbers(5, 5));
    let (mut ggain, mut gbias) = (backend.zeros(1, 5), backend.zeros(1, 5));
    let mut gx = Part::new(backend, 6, rows, 5, 1);
    let norm = Norm {
        gain: &gain,
        bias: &gain,
    };
    backend.normalise_backward(x.view(), norm, g.view(), gx.view_mut(), &mut ggain, &mut gbias);
    results.push(("normalise_backward", gx.download(backend)));
    let loss = backend
        .poisson_loss(x.view(), g.view(), g.view())
        .expect("the device answers");
    results.push(("poisson_loss", vec![loss as f32]));
    let scores = Part::new(backend, 7, rows, 2, 1);
    let mut g_scores = Part::new(backend, 8, rows, 2, 1);
    let g_pooled = Part::new(backend, 9, 2, 5, 1);
    backend.pool_backward(
        Some(scores.view()),
        x.view(),
        g_pooled.view(),
        Some(g_scores.view_mut()),
        gx.view_mut(),
    );
    results.push(("pool by scores", g_scores.download(backend)));
    results.push(("pool by values", gx.download(backend)));
    results
}

#[test]
fn sums_over_many_rows() {
    let expected = many_rows(&mut ReferenceBackend::default());
    assert_all_close(&expected, &many_rows(&mut backend(true)), 1e-5);
}

const RATES: StepRates = StepRates {
    beta1: 0.9,
    beta2: 0.999,
    epsilon: 1e-6,
    rate: 0.01,
    decay: 0.1,
};

/// Value, gradient and moments of one parameter on the host.
struct Host {
    value: Vec<f32>,
    gradient: Vec<f32>,
    first: Vec<f32>,
    second: Vec<f32>,
}

impl Host {
    /// Row 1 has no gradient.
    fn new(rows: usize, cols: usize) -> Self {
        let count = rows * cols;
        let mut gradient = numbers(2, count);
        gradient[cols..2 * cols].fill(0.0);
        Host {
            value: numbers(1, count),
            gradient,
            first: numbers(3, count),
            second: numbers(4, count).iter().map(|x| x.abs()).collect(),
        }
    }

    fn moments(&mut self, element: usize) {
        let g = self.gradient[element];
        let (m, v) = (&mut self.first[element], &mut self.second[element]);
        *m = RATES.beta1 as f32 * *m + (1.0 - RATES.beta1) as f32 * g;
        *v = RATES.beta2 as f32 * *v + (1.0 - RATES.beta2) as f32 * g * g;
    }

    fn adamw(&mut self, steps: f64) {
        let first_scale = 1.0 / (1.0 - RATES.beta1.powf(steps));
        let second_scale = (1.0 / (1.0 - RATES.beta2.powf(steps))) as f32;
        let kept = (1.0 - RATES.rate * RATES.decay) as f32;
        let rate = (RATES.rate * first_scale) as f32;
        for i in 0..self.value.len() {
            self.moments(i);
            let root = (self.second[i] * second_scale).sqrt() + RATES.epsilon as f32;
            self.value[i] = kept * self.value[i] - rate * self.first[i] / root;
        }
    }

    fn sparse_lamb(&mut self, cols: usize, resting: bool) {
        let rests: Vec<bool> = self
            .gradient
            .chunks(cols)
            .flat_map(|row| vec![resting && row.iter().all(|&g| g == 0.0); cols])
            .collect();
        for (i, &rests) in rests.iter().enumerate() {
            if rests {
                (self.first[i], self.second[i]) = (0.0, 0.0);
            } else {
                self.moments(i);
            }
        }
        let update: Vec<f32> = (0..self.value.len())
            .map(|i| {
                self.first[i] / (self.second[i].sqrt() + RATES.epsilon as f32) + RATES.decay as f32 * self.value[i]
            })
            .collect();
        let norm = |x: &[f32]| x.iter().map(|&x| f64::from(x) * f64::from(x)).sum::<f64>().sqrt();
        let (weights, updates) = (norm(&self.value).min(10.0), norm(&update));
        let trust = if weights == 0.0 || updates == 0.0 {
            1.0
        } else {
            weights / updates
        };
        let rate = (RATES.rate * trust) as f32;
        for (i, &rests) in rests.iter().enumerate() {
            if !rests {
                self.value[i] -= rate * update[i];
            }
        }
    }
}

/// Three steps on the device and on the host.
fn steps(rows: usize, cols: usize, lamb: Option<bool>) -> (Results, Results) {
    let mut host = Host::new(rows, cols);
    let mut backend = backend(true);
    let mut value = backend.tensor(rows, cols, &host.value);
    let gradient = backend.tensor(rows, cols, &host.gradient);
    let mut first = backend.tensor(rows, cols, &host.first);
    let mut second = backend.tensor(rows, cols, &host.second);
    for step in 1..4 {
        let parameter = Stepped {
            value: &mut value,
            gradient: &gradient,
            first: &mut first,
            second: &mut second,
        };
        match lamb {
            None => {
                host.adamw(f64::from(step));
                backend.adamw(parameter, &RATES, step as u64);
            }
            Some(resting) => {
                host.sparse_lamb(cols, resting);
                backend.sparse_lamb(parameter, &RATES, resting);
            }
        }
    }
    let expected = vec![("value", host.value), ("first", host.first), ("second", host.second)];
    let found = [("value", &value), ("first", &first), ("second", &second)];
    let found = found.map(|(what, x)| {
        let mut numbers = vec![0.0; rows * cols];
        backend.download(x.view(), &mut numbers).expect("the device answers");
        (what, numbers)
    });
    (expected, found.into())
}

#[test]
fn adamw_steps_as_the_host_does() {
    let (expected, found) = steps(19, 37, None);
    assert_all_close(&expected, &found, 0.0);
}

#[test]
fn sparse_lamb_steps_as_the_host_does() {
    for (rows, cols) in [(19, 37), (2, 300)] {
        for resting in [false, true] {
            let (expected, found) = steps(rows, cols, Some(resting));
            // Sums of squares are taken in another order, which may move the last bit of the rate.
            assert_all_close(&expected, &found, 1e-7);
        }
    }
}

#[test]
fn gradients_are_measured_and_clipped_as_on_the_host() {
    let mut backend = backend(true);
    let host = numbers(1, 3000);
    let mut x = backend.tensor(30, 100, &host);
    let expected: f64 = host.iter().map(|&x| f64::from(x) * f64::from(x)).sum();
    let found = backend.sum_of_squares(&x).expect("the device answers");
    assert!(
        (found - expected).abs() < 1e-12 * expected,
        "{found}, expected {expected}"
    );
    let factor = 1.0 / expected.sqrt();
    backend.rescale(factor, &mut x);
    let mut scaled = vec![0.0; 3000];
    backend.download(x.view(), &mut scaled).expect("the device answers");
    let expected: Vec<f32> = host.iter().map(|&x| (f64::from(x) * factor) as f32).collect();
    assert_eq!(scaled, expected);
}

/// `count` counts of one rate.
fn drawn(rate: f32, count: usize, stream: u64) -> Vec<f32> {
    let mut backend = backend(true);
    let rates = backend.tensor(count, 1, &vec![rate; count]);
    let mut out = backend.zeros(count, 1);
    backend.sample_poisson(rates.view(), 12, stream, out.view_mut());
    let mut counts = vec![0.0; count];
    backend.download(out.view(), &mut counts).expect("the device answers");
    counts
}

/// Pearson's statistic of the counts against the probabilities, counts that are rarely expected taken together, and its
/// degrees of freedom.
fn chi_squared(rate: f64, counts: &[f32]) -> (f64, f64) {
    let n = counts.len() as f64;
    let most = (rate + 12.0 * rate.sqrt() + 20.0) as usize;
    let mut logarithm = -rate;
    let (mut statistic, mut cells) = (0.0, 0.0);
    let (mut expected, mut found, mut left) = (0.0, 0.0, n);
    for k in 0..=most {
        if k > 0 {
            logarithm += (rate / k as f64).ln();
        }
        expected += n * logarithm.exp();
        found += counts.iter().filter(|&&count| count == k as f32).count() as f64;
        // What is left joins the last cell.
        if expected >= 10.0 && left - expected >= 10.0 {
            statistic += (found - expected) * (found - expected) / expected;
            cells += 1.0;
            left -= expected;
            (expected, found) = (0.0, 0.0);
        }
    }
    statistic += (found - left) * (found - left) / left;
    (statistic, cells)
}

#[test]
fn counts_are_drawn_from_poisson_distributions() {
    for (stream, rate) in [0.02, 0.7, 4.0, 30.0, 63.9, 64.0, 150.0, 2000.0]
        .into_iter()
        .enumerate()
    {
        let counts = drawn(rate, 3000, stream as u64);
        assert!(counts.iter().all(|&count| count >= 0.0 && count.fract() == 0.0));
        let (n, rate) = (counts.len() as f64, f64::from(rate));
        let mean = counts.iter().map(|&count| f64::from(count)).sum::<f64>() / n;
        let variance = counts
            .iter()
            .map(|&count| (f64::from(count) - rate).powi(2))
            .sum::<f64>()
            / n;
        let (statistic, freedom) = chi_squared(rate, &counts);
        println!("rate {rate}: mean {mean:.3}, variance {variance:.3}, χ² {statistic:.1} of {freedom}");
        // Four standard deviations each; the seeds are fixed, so that this fails for a reason or never.
        assert!((mean - rate).abs() < 4.0 * (rate / n).sqrt(), "{rate}: mean {mean}");
        let spread = (rate * (1.0 + 2.0 * rate) / n).sqrt();
        assert!((variance - rate).abs() < 4.0 * spread, "{rate}: variance {variance}");
        assert!(
            statistic < freedom + 4.0 * (2.0 * freedom).sqrt() + 4.0,
            "{rate}: χ² {statistic} of {freedom}"
        );
    }
}

#[test]
fn the_host_draws_the_same_counts() {
    for (stream, rate) in [0.02, 0.7, 30.0, 63.9, 64.0, 150.0, 2000.0].into_iter().enumerate() {
        let host: Vec<f32> = (0..3000)
            .map(|element| kernels::poisson::poisson(rate, 12, stream as u64, element))
            .collect();
        assert_eq!(drawn(rate, 3000, stream as u64), host, "rate {rate}");
    }
}

#[test]
fn counts_of_odd_rates() {
    let odd = [0.0, -1.0, f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e-30, 1e30];
    let mut backend = backend(true);
    let rates = backend.tensor(1, odd.len(), &odd);
    let mut out = backend.zeros(1, odd.len());
    backend.sample_poisson(rates.view(), 1, 1, out.view_mut());
    let mut counts = vec![1.0; odd.len()];
    backend.download(out.view(), &mut counts).expect("the device answers");
    assert_eq!([counts[0], counts[1], counts[4], counts[5]], [0.0; 4]);
    assert!(counts[2].is_nan() && counts[3] == f32::INFINITY);
    assert!((counts[6] - 1e30).abs() < 1e25);
}

#[test]
fn counts_are_a_function_of_the_seed_and_the_stream() {
    assert_eq!(drawn(5.0, 100, 1), drawn(5.0, 100, 1));
    assert_ne!(drawn(5.0, 100, 1), drawn(5.0, 100, 2));
}
