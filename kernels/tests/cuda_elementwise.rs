//! Operations of the CUDA backend without products of matrices or attention, on an emulated device, against their
//! definitions.

mod cuda_support;

use cuda_support::{assert_all_close, backend, backend_in_order, numbers, Part, Results};
use kernels::reference::{gelu, ReferenceBackend};
use kernels::{Activation, Backend, Map, Matrix, Rotary};
use proptest::prelude::*;

#[derive(Debug, Clone, Copy)]
struct Case {
    rows: usize,
    others: usize,
    cols: usize,
    margin: usize,
    accumulate: bool,
    seed: u64,
}

fn cases() -> impl Strategy<Value = Case> {
    (
        1..40usize,
        1..6usize,
        1..70usize,
        0..4usize,
        any::<bool>(),
        any::<u32>(),
    )
        .prop_map(|(rows, others, cols, margin, accumulate, seed)| Case {
            rows,
            others,
            cols,
            margin,
            accumulate,
            seed: u64::from(seed),
        })
}

/// Every operation once, on rectangles of larger matrices.
fn operations<B: Backend>(backend: &mut B, case: Case) -> Results {
    let Case {
        rows,
        others,
        cols,
        margin,
        accumulate,
        seed,
    } = case;
    let mut results = Results::new();
    let x = Part::new(backend, seed, rows, cols, margin);
    let y = Part::new(backend, seed + 1, rows, cols, margin + 1);
    let b = Part::new(backend, seed + 2, others, cols, margin);
    let one = Part::new(backend, seed + 3, 1, cols, margin);
    let mut out = Part::new(backend, seed + 4, rows, cols, margin);
    let mut outer = Part::new(backend, seed + 5, rows * others, cols, margin);
    let mut column = Part::new(backend, seed + 6, rows * others, 1, margin);
    let mut line = Part::new(backend, seed + 7, 1, cols, margin);

    backend.fill(0.25, out.view_mut());
    results.push(("fill", out.download(backend)));
    backend.copy(x.view(), accumulate, out.view_mut());
    results.push(("copy", out.download(backend)));
    backend.multiply(x.view(), y.view(), out.view_mut());
    results.push(("multiply", out.download(backend)));
    backend.multiply(x.view(), one.view(), out.view_mut());
    results.push(("multiply by a row", out.download(backend)));
    backend.upload(&numbers(seed + 8, rows * cols), out.view_mut());
    results.push(("upload", out.download(backend)));
    for (what, f) in [("log1p", Map::Log1p), ("exp", Map::Exp), ("clamp", Map::Clamp(0.5))] {
        backend.map(f, x.view(), out.view_mut());
        results.push((what, out.download(backend)));
    }
    for (what, activation) in [("add", Activation::Identity), ("add, gelu", Activation::Gelu)] {
        backend.outer_add(x.view(), b.view(), activation, outer.view_mut());
        results.push((what, outer.download(backend)));
    }
    backend.outer_dot(x.view(), b.view(), accumulate, column.view_mut());
    results.push(("outer_dot", column.download(backend)));
    let weights = Part::new(backend, seed + 9, 1, rows, margin);
    backend.sum_rows(weights.view(), x.view(), accumulate, line.view_mut());
    results.push(("sum_rows", line.download(backend)));
    backend.pool(None, x.view(), accumulate, line.view_mut());
    results.push(("mean", line.download(backend)));
    let scores = Part::new(backend, seed + 10, rows, others, margin);
    let mut pooled = Part::new(backend, seed + 11, others, cols, margin);
    backend.pool(Some(scores.view()), x.view(), accumulate, pooled.view_mut());
    results.push(("pool", pooled.download(backend)));

    let mut list = backend.rows(rows + 3);
    let picked: Vec<u32> = (0..rows as u32).map(|i| (i * 7 + 3) % rows as u32).collect();
    backend.set_rows(&mut list, &picked);
    backend.gather(x.view(), &list, out.view_mut());
    results.push(("gather", out.download(backend)));

    let pairs = cols.div_ceil(2);
    let omega: Vec<f32> = (0..pairs).map(|i| 60_000.0 / (i * i + 1) as f32).collect();
    let mut rotation = backend.rotation(rows + 2, &omega);
    let times: Vec<f64> = numbers(seed + 12, rows).into_iter().map(f64::from).collect();
    let half = rows / 2;
    backend.set_rotation(&mut rotation, 1, &times[..half]);
    backend.set_rotation(&mut rotation, 1 + half, &times[half..]);
    let mut turned = Part::new(backend, seed + 13, rows + 1, 4 * pairs, margin);
    let rotary = Rotary {
        rotation: &rotation,
        first: 0,
    };
    backend.rotate(rotary, turned.view_mut());
    results.push(("rotate", turned.download(backend)));
    results
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    #[test]
    fn operations_agree(case in cases()) {
        let expected = operations(&mut ReferenceBackend::default(), case);
        let device = &mut backend_in_order(case.seed);
        assert_all_close(&expected, &operations(device, case), 2e-6);
    }
}

/// Sums over so many rows that they are taken in parts, and over none.
fn long_sums<B: Backend>(backend: &mut B) -> Results {
    let mut results = Results::new();
    let mut line = Part::new(backend, 1, 1, 35, 1);
    for rows in [511, 512, 700, 0] {
        let x = Part::new(backend, 2, rows, 35, 2);
        let weights = Part::new(backend, 3, 1, rows, 0);
        backend.sum_rows(weights.view(), x.view(), true, line.view_mut());
        results.push(("sum_rows", line.download(backend)));
        backend.pool(None, x.view(), false, line.view_mut());
        results.push(("mean", line.download(backend)));
        let scores = Part::new(backend, 4, rows, 2, 1);
        let mut pooled = Part::new(backend, 5, 2, 35, 1);
        backend.pool(Some(scores.view()), x.view(), true, pooled.view_mut());
        results.push(("pool", pooled.download(backend)));
    }
    results
}

#[test]
fn sums_over_many_rows_and_none() {
    let expected = long_sums(&mut ReferenceBackend::default());
    assert_all_close(&expected, &long_sums(&mut backend(true)), 5e-6);
}

/// Distance in units of the last place of the expected.
fn ulps(expected: f64, found: f32) -> f64 {
    let rounded = (expected as f32).abs().max(f32::MIN_POSITIVE);
    let ulp = f64::from(f32::from_bits(rounded.to_bits() + 1)) - f64::from(rounded);
    (expected - f64::from(found)).abs() / ulp
}

/// One function of many numbers, by the backend.
fn mapped(f: Map, x: &[f32]) -> Vec<f32> {
    let mut backend = backend(true);
    let of = backend.tensor(1, x.len(), x);
    let mut out = backend.zeros(1, x.len());
    backend.map(f, of.view(), out.view_mut());
    let mut y = vec![0.0; x.len()];
    backend.download(out.view(), &mut y).expect("the device answers");
    y
}

#[test]
fn logarithms_and_exponentials_are_good_to_the_last_places() {
    let spread: Vec<f32> = numbers(1, 6000)
        .into_iter()
        .enumerate()
        .map(|(i, x)| x * 2f32.powi(i as i32 % 160 - 120))
        .chain(numbers(2, 2000).into_iter().map(|x| x * 0.9999))
        .chain([f32::MAX, 1e-40, -1e-40, 0.0, 0.414_213_5, 0.414_213_6, -0.292_893_2])
        .filter(|&x| x > -1.0)
        .collect();
    let logarithms = mapped(Map::Log1p, &spread);
    let worst = spread.iter().zip(&logarithms);
    let worst = worst.map(|(&x, &y)| ulps(f64::from(x).ln_1p(), y)).fold(0.0, f64::max);
    println!("ln(1 + x): {worst} ulp");
    assert!(worst < 2.0, "{worst}");

    let spread: Vec<f32> = numbers(3, 4000).into_iter().map(|x| 87.0 * x).collect();
    let exponentials = mapped(Map::Exp, &spread);
    let worst = spread.iter().zip(&exponentials);
    let worst = worst.map(|(&x, &y)| ulps(f64::from(x).exp(), y)).fold(0.0, f64::max);
    println!("exp(x): {worst} ulp");
    assert!(worst < 4.0, "{worst}");
}

#[test]
fn functions_of_what_is_not_finite() {
    let x = [
        f32::NAN,
        f32::INFINITY,
        f32::NEG_INFINITY,
        -1.0,
        -2.0,
        100.0,
        -200.0,
        -0.0,
    ];
    for f in [Map::Log1p, Map::Exp, Map::Clamp(3.0)] {
        let expected = x.map(|x| match f {
            Map::Log1p => f64::from(x).ln_1p() as f32,
            Map::Exp => f64::from(x).exp() as f32,
            Map::Clamp(limit) => x.clamp(-limit, limit),
        });
        for ((e, y), x) in expected.iter().zip(mapped(f, &x)).zip(x) {
            assert!(
                (e - y).abs() <= 1e-6 * e.abs() || *e == y || (e.is_nan() && y.is_nan()),
                "{f:?} of {x} is {y}, not {e}"
            );
        }
    }
}

#[test]
fn the_gelu_is_exact_to_fp32() {
    let x: Vec<f32> = numbers(1, 6000).into_iter().map(|x| 10.0 * x).collect();
    let mut backend = backend(true);
    let of = backend.tensor(1, x.len(), &x);
    let zero = backend.zeros(1, x.len());
    let mut out = backend.zeros(1, x.len());
    backend.outer_add(of.view(), zero.view(), Activation::Gelu, out.view_mut());
    let mut y = vec![0.0; x.len()];
    backend.download(out.view(), &mut y).expect("the device answers");
    let worst = x.iter().zip(&y);
    let worst = worst
        .map(|(&x, &y)| (gelu(f64::from(x)) - f64::from(y)).abs())
        .fold(0.0, f64::max);
    println!("gelu: {worst:.1e}");
    assert!(worst < 6e-7, "{worst}");
}

#[test]
fn sines_of_large_angles_are_good_to_fp32() {
    let times: Vec<f64> = (0..500).map(|i| f64::from(i) * 0.2 - 20.0).chain([1e4, 3e6]).collect();
    let omega = [1.0f32, 1000.3, 0.0, 0.013];
    let mut backend = backend(true);
    let mut rotation = backend.rotation(times.len(), &omega);
    backend.set_rotation(&mut rotation, 0, &times);
    // Turning (1, 0) gives the cosine and the sine.
    let ones = [1.0f32, 0.0].repeat(omega.len() * times.len());
    let mut x = backend.tensor(times.len(), 2 * omega.len(), &ones);
    let rotary = Rotary {
        rotation: &rotation,
        first: 0,
    };
    backend.rotate(rotary, x.view_mut());
    let mut found = vec![0.0; ones.len()];
    backend.download(x.view(), &mut found).expect("the device answers");
    let mut worst = 0f64;
    for (row, &time) in found.chunks(2 * omega.len()).zip(&times) {
        for (pair, omega) in row.chunks(2).zip(omega) {
            let angle = f64::from(time as f32 * omega);
            let (sin, cos) = angle.sin_cos();
            worst = worst
                .max((cos - f64::from(pair[0])).abs())
                .max((sin - f64::from(pair[1])).abs());
        }
    }
    println!("sine and cosine: {worst:.1e}");
    assert!(worst < 1e-7, "{worst}");
}

/// Pooling with one score that is not a number, or all.
fn damaged_pool<B: Backend>(backend: &mut B, bad: f32, every: bool) -> Vec<bool> {
    let mut scores = numbers(6, 21);
    if every {
        scores.fill(bad);
    } else {
        scores[7] = bad;
    }
    let scores = backend.tensor(21, 1, &scores);
    let values = backend.tensor(21, 3, &numbers(7, 63));
    let mut out = backend.zeros(1, 3);
    backend.pool(Some(scores.view()), values.view(), false, out.view_mut());
    let mut y = vec![0.0; 3];
    backend.download(out.view(), &mut y).expect("the device answers");
    y.iter().map(|y| y.is_finite()).collect()
}

#[test]
fn what_is_not_finite_shows() {
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        for every in [false, true] {
            let expected = damaged_pool(&mut ReferenceBackend::default(), bad, every);
            assert_eq!(expected, damaged_pool(&mut backend(true), bad, every), "{bad} {every}");
        }
    }
}

/// A sequence that is recorded once and repeated with other data, lists and times.
fn repeated<B: Backend>(backend: &mut B) -> Results {
    let table = Part::new(backend, 1, 9, 6, 1);
    let mut uploaded = Part::new(backend, 2, 4, 6, 2);
    let mut picked = Part::new(backend, 3, 4, 6, 1);
    let mut list = backend.rows(8);
    let mut rotation = backend.rotation(5, &[3.0, 0.5, 0.0]);
    let mut results = Results::new();
    for time in 0..4u32 {
        backend.repeat(5);
        let rows: Vec<u32> = (0..4).map(|i| (i * 2 + time) % 9).collect();
        backend.set_rows(&mut list, &rows);
        let times: Vec<f64> = (0..=time).map(|i| f64::from(i + time) * 0.3).collect();
        backend.set_rotation(&mut rotation, time as usize % 2, &times);
        backend.upload(&numbers(u64::from(time) + 4, 24), uploaded.view_mut());
        backend.gather(table.view(), &list, picked.view_mut());
        backend.copy(uploaded.view(), true, picked.view_mut());
        let rotary = Rotary {
            rotation: &rotation,
            first: 1,
        };
        backend.rotate(rotary, picked.view_mut());
        let mut answer = vec![0.0; 24];
        backend
            .download(picked.view(), &mut answer)
            .expect("the device answers");
        results.push(("answer", answer));
    }
    results
}

#[test]
fn sequences_repeat_with_other_data() {
    let expected = repeated(&mut ReferenceBackend::default());
    assert_all_close(&expected, &repeated(&mut backend(true)), 1e-6);
}
