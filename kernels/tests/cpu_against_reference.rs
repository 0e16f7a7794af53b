//! Every operation of the CPU backend against its definition, on random shapes, for every instruction set of this machine.

use kernels::cpu::{CpuBackend, CpuOptions, Isa};
use kernels::reference::ReferenceBackend;
use kernels::{Activation, Attention, Backend, LinearArgs, LinearSpec, Map, Mask, Matrix, Norm, Precision, Rotary};
use proptest::prelude::*;

/// Backends under test: every instruction set, with one thread and several.
fn cpus() -> Vec<CpuBackend> {
    let backend = |isa, threads| {
        CpuBackend::new(CpuOptions {
            threads,
            isa: Some(isa),
            ..CpuOptions::default()
        })
    };
    Isa::available()
        .into_iter()
        .flat_map(|isa| [backend(isa, 1), backend(isa, 3)])
        .collect()
}

/// Numbers from a seed, roughly between −1 and 1; a stand-in for a random generator that needs no state.
fn numbers(seed: u64, count: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    (0..count)
        .map(|_| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 40) as f32 / (1u32 << 23) as f32 - 1.0
        })
        .collect()
}

fn download<B: Backend>(backend: &mut B, x: &B::Tensor) -> Vec<f32> {
    let mut out = vec![0.0; x.rows() * x.cols()];
    backend.download(x.view(), &mut out).expect("a CPU does not fail");
    out
}

fn assert_close(what: &str, expected: &[f32], found: &[f32], bound: f32) {
    for (i, (e, f)) in expected.iter().zip(found).enumerate() {
        assert!(
            (e - f).abs() <= bound * (1.0 + e.abs()),
            "{what}: element {i} is {f}, expected {e}"
        );
    }
}

#[derive(Debug, Clone)]
struct LinearCase {
    rows: usize,
    inputs: usize,
    outputs: usize,
    /// Columns around the views.
    margin: usize,
    gated: bool,
    norm: bool,
    bias: bool,
    addend: bool,
    gelu: bool,
    accumulate: bool,
    precision: Precision,
    seed: u64,
}

fn linear<B: Backend>(backend: &mut B, case: &LinearCase) -> Vec<f32> {
    let &LinearCase {
        rows,
        inputs,
        outputs,
        margin,
        ..
    } = case;
    let width = if case.gated { outputs / 2 } else { outputs };
    let x = backend.tensor(
        rows + 2,
        inputs + margin,
        &numbers(case.seed, (rows + 2) * (inputs + margin)),
    );
    let gain = backend.tensor(1, inputs, &numbers(case.seed + 1, inputs));
    let shift = backend.tensor(1, inputs, &numbers(case.seed + 2, inputs));
    let addend = backend.tensor(rows, width, &numbers(case.seed + 3, rows * width));
    // Scaled so that sums stay near one, as in a trained network.
    let scale = 1.0 / (inputs as f32).sqrt();
    let weight: Vec<f32> = numbers(case.seed + 4, outputs * (inputs + margin))
        .into_iter()
        .map(|x| scale * x)
        .collect();
    let bias = numbers(case.seed + 5, outputs);
    let layer = backend.linear_layer(&LinearSpec {
        weight: &weight,
        row_stride: inputs + margin,
        outputs,
        inputs,
        bias: case.bias.then_some(&bias[..]),
        gated: case.gated,
        precision: case.precision,
        origin: kernels::Origin::default(),
    });
    let out_cols = width + margin;
    let mut out = backend.tensor(rows + 1, out_cols, &numbers(case.seed + 6, (rows + 1) * out_cols));
    let args = LinearArgs {
        norm: case.norm.then_some(Norm {
            gain: &gain,
            bias: &shift,
        }),
        addend: (case.addend && !case.gated).then(|| addend.view()),
        activation: if case.gelu && !case.gated {
            Activation::Gelu
        } else {
            Activation::Identity
        },
        dropout: kernels::Dropout::None,
        accumulate: case.accumulate,
    };
    backend.linear(
        x.block(1, rows, margin, inputs),
        &layer,
        args,
        out.block_mut(1, rows, margin, width),
    );
    download(backend, &out)
}

fn linear_cases() -> impl Strategy<Value = LinearCase> {
    let precision = prop_oneof![Just(Precision::F32), Just(Precision::F16), Just(Precision::Bf16)];
    let sizes = (1..40usize, 1..90usize, 1..50usize, 0..3usize);
    (sizes, any::<[bool; 6]>(), precision, any::<u32>()).prop_map(
        |((rows, inputs, half, margin), flags, precision, seed)| LinearCase {
            rows,
            inputs,
            outputs: if flags[0] { 2 * half } else { half },
            margin,
            gated: flags[0],
            norm: flags[1],
            bias: flags[2],
            addend: flags[3],
            gelu: flags[4],
            accumulate: flags[5],
            precision,
            seed: u64::from(seed),
        },
    )
}

#[derive(Debug, Clone)]
struct AttentionCase {
    queries: usize,
    keys: usize,
    heads: usize,
    pairs: usize,
    /// Pairs that turn.
    turning: usize,
    gathered: bool,
    rotated: bool,
    rotate_value: bool,
    mask: Mask,
    seed: u64,
}

fn attention<B: Backend>(backend: &mut B, case: &AttentionCase) -> Vec<f32> {
    let &AttentionCase {
        queries,
        keys,
        heads,
        pairs,
        seed,
        ..
    } = case;
    let width = heads * 2 * pairs;
    let omega: Vec<f32> = (0..pairs)
        .map(|i| {
            if i < case.turning {
                7000.0 / (1 + i * i) as f32
            } else {
                0.0
            }
        })
        .collect();
    let times = |seed, count| -> Vec<f64> { numbers(seed, count).into_iter().map(|t| f64::from(t.abs())).collect() };
    let mut query_rotation = backend.rotation(queries + 1, &omega);
    backend.set_rotation(&mut query_rotation, 1, &times(seed + 1, queries));
    let mut key_rotation = backend.rotation(keys, &omega);
    backend.set_rotation(&mut key_rotation, 0, &times(seed + 2, keys));

    // Queries, keys and values stand side by side, as in a packed projection.
    let table_rows = queries.max(keys).max(1);
    let table = backend.tensor(table_rows, 3 * width, &numbers(seed + 3, table_rows * 3 * width));
    let pick = |count: usize, salt: u64| -> Vec<u32> {
        numbers(seed + salt, count)
            .iter()
            .map(|x| (x.abs() * table_rows as f32) as u32 % table_rows as u32)
            .collect()
    };
    let (mut query_rows, mut key_rows) = (backend.rows(queries), backend.rows(keys));
    backend.set_rows(&mut query_rows, &pick(queries, 4));
    backend.set_rows(&mut key_rows, &pick(keys, 5));
    let (query_count, key_count) = if case.gathered {
        (table_rows, table_rows)
    } else {
        (queries, keys)
    };
    let mut out = backend.tensor(queries, width + 1, &numbers(seed + 6, queries * (width + 1)));
    let args = Attention {
        query: table.block(0, query_count, 0, width),
        query_rows: case.gathered.then_some(&query_rows),
        query_rotary: case.rotated.then_some(Rotary {
            rotation: &query_rotation,
            first: 1,
        }),
        key: table.block(0, key_count, width, width),
        value: table.block(0, key_count, 2 * width, width),
        key_rows: case.gathered.then_some(&key_rows),
        key_rotary: case.rotated.then_some(Rotary {
            rotation: &key_rotation,
            first: 0,
        }),
        rotate_value: case.rotated && case.rotate_value,
        heads,
        mask: case.mask,
        dropout: kernels::Dropout::None,
    };
    backend.attention(args, out.block_mut(0, queries, 1, width));
    download(backend, &out)
}

fn attention_cases() -> impl Strategy<Value = AttentionCase> {
    let mask = prop_oneof![
        Just(Mask::All),
        (0..4usize, 1..4usize).prop_map(|(first, keys_per_query)| Mask::Causal { first, keys_per_query }),
        (0..4usize, 1..4usize).prop_map(|(first, keys_per_query)| Mask::Local { first, keys_per_query }),
    ];
    let sizes = (1..70usize, 0..90usize, 1..5usize, 1..34usize);
    (sizes, any::<[bool; 3]>(), mask, any::<u32>()).prop_map(|((queries, keys, heads, pairs), flags, mask, seed)| {
        AttentionCase {
            queries,
            keys,
            heads,
            pairs,
            turning: pairs.div_ceil(2),
            gathered: flags[0],
            rotated: flags[1],
            rotate_value: flags[2],
            mask,
            seed: u64::from(seed),
        }
    })
}

/// Operations without variants, one after the other on shared shapes.
fn small_operations<B: Backend>(backend: &mut B, rows: usize, others: usize, pairs: usize, seed: u64) -> Vec<f32> {
    let cols = 2 * pairs;
    let a = backend.tensor(rows, cols, &numbers(seed, rows * cols));
    let b = backend.tensor(others, cols, &numbers(seed + 1, others * cols));
    let mut sums = backend.zeros(rows * others, cols);
    backend.outer_add(a.view(), b.view(), Activation::Gelu, sums.view_mut());
    let mut all = download(backend, &sums);
    backend.outer_add(a.view(), b.view(), Activation::Identity, sums.view_mut());
    all.extend(download(backend, &sums));

    let scores = backend.tensor(rows, 3, &numbers(seed + 2, rows * 3));
    let mut pooled = backend.tensor(3, cols, &numbers(seed + 3, 3 * cols));
    backend.pool(Some(scores.view()), a.view(), true, pooled.view_mut());
    backend.pool(None, a.view(), false, pooled.row_block_mut(1, 1));
    all.extend(download(backend, &pooled));

    let omega: Vec<f32> = (0..pairs).map(|i| 60000.0 / (i + 1) as f32).collect();
    let mut rotation = backend.rotation(rows, &omega);
    let times: Vec<f64> = numbers(seed + 4, rows).into_iter().map(f64::from).collect();
    backend.set_rotation(&mut rotation, 0, &times);
    let mut turned = backend.tensor(rows, cols, &numbers(seed + 5, rows * cols));
    backend.rotate(
        Rotary {
            rotation: &rotation,
            first: 0,
        },
        turned.view_mut(),
    );
    all.extend(download(backend, &turned));

    let mut list = backend.rows(rows);
    backend.set_rows(&mut list, &(0..rows as u32).rev().collect::<Vec<_>>());
    let mut copy = backend.zeros(rows, cols);
    backend.gather(a.view(), &list, copy.view_mut());
    backend.copy(turned.view(), true, copy.view_mut());
    backend.fill(0.25, copy.row_block_mut(rows / 2, 1));
    let mut mapped = backend.zeros(rows, cols);
    backend.map(Map::Exp, copy.view(), mapped.view_mut());
    all.extend(download(backend, &mapped));
    backend.map(Map::Clamp(0.5), copy.view(), mapped.view_mut());
    all.extend(download(backend, &mapped));
    backend.map(Map::Log1p, a.view(), mapped.view_mut());
    all.extend(
        download(backend, &mapped)
            .into_iter()
            .map(|x| if x.is_finite() { x } else { -99.0 }),
    );
    all
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn linear_layers(case in linear_cases()) {
        let expected = linear(&mut ReferenceBackend::default(), &case);
        // A sum of up to 90 products of BF16 inputs: the rounding of a normalised input may fall the other way.
        let bound = if case.precision == Precision::Bf16 { 2e-2 } else { 1e-5 };
        for backend in &mut cpus() {
            let what = format!("{} {case:?}", backend.describe());
            assert_close(&what, &expected, &linear(backend, &case), bound);
        }
    }

    #[test]
    fn attentions(case in attention_cases()) {
        let expected = attention(&mut ReferenceBackend::default(), &case);
        for backend in &mut cpus() {
            let what = format!("{} {case:?}", backend.describe());
            assert_close(&what, &expected, &attention(backend, &case), 1e-5);
        }
    }

    #[test]
    fn small_operations_agree(rows in 1..40usize, others in 1..5usize, pairs in 1..20usize, seed in any::<u32>()) {
        let expected = small_operations(&mut ReferenceBackend::default(), rows, others, pairs, u64::from(seed));
        for backend in &mut cpus() {
            let found = small_operations(backend, rows, others, pairs, u64::from(seed));
            assert_close(&backend.describe(), &expected, &found, 1e-5);
        }
    }
}

/// What is not a number never becomes one: an output is finite exactly where the definition's is.
#[test]
fn what_is_not_finite_shows() {
    let (keys, width) = (20, 16);
    // Two NaNs: what the processor makes, and the one whose rounding to BF16 carries into the sign.
    for bad in [f32::NAN, f32::from_bits(0x7fff_ffff), f32::INFINITY, f32::NEG_INFINITY] {
        // One query takes the path of few queries, the rest that of blocks; the last is rotated.
        for (queries, rotated) in [(1, false), (9, false), (2, true)] {
            for (place, mask) in [
                ("query", Mask::All),
                ("every key", Mask::All),
                ("one key", Mask::All),
                ("value", Mask::All),
                (
                    "query",
                    Mask::Local {
                        first: 1,
                        keys_per_query: 4,
                    },
                ),
            ] {
                let expected = damaged_attention(
                    &mut ReferenceBackend::default(),
                    (queries, keys, width),
                    place,
                    bad,
                    rotated,
                    mask,
                );
                for backend in &mut cpus() {
                    let found = damaged_attention(backend, (queries, keys, width), place, bad, rotated, mask);
                    let what = format!("{} {place} {bad} {queries} {mask:?}", backend.describe());
                    assert_eq!(finite(&expected), finite(&found), "attention {what}");
                }
            }
        }
        for (norm, gated, precision) in [
            (false, false, Precision::F32),
            (true, false, Precision::F16),
            (false, false, Precision::Bf16),
            (false, true, Precision::F32),
            (false, true, Precision::Bf16),
        ] {
            let expected = damaged_linear(&mut ReferenceBackend::default(), bad, norm, gated, precision);
            for backend in &mut cpus() {
                let found = damaged_linear(backend, bad, norm, gated, precision);
                let what = format!("{} {bad} {norm} {gated} {precision:?}", backend.describe());
                assert_eq!(finite(&expected), finite(&found), "linear {what}");
            }
        }
        for every in [false, true] {
            let expected = damaged_pool(&mut ReferenceBackend::default(), bad, every);
            for backend in &mut cpus() {
                let what = format!("pool {} {bad} {every}", backend.describe());
                assert_eq!(finite(&expected), finite(&damaged_pool(backend, bad, every)), "{what}");
            }
        }
    }
}

fn finite(x: &[f32]) -> Vec<bool> {
    x.iter().map(|x| x.is_finite()).collect()
}

/// Attention of one head over an input of which one number, or one a key, is `bad`.
fn damaged_attention<B: Backend>(
    backend: &mut B,
    (queries, keys, width): (usize, usize, usize),
    place: &str,
    bad: f32,
    rotated: bool,
    mask: Mask,
) -> Vec<f32> {
    let positive = |seed, count| -> Vec<f32> { numbers(seed, count).iter().map(|x| x.abs() + 0.1).collect() };
    let (mut query, mut key, mut value) = (
        positive(1, queries * width),
        positive(2, keys * width),
        positive(3, keys * width),
    );
    match place {
        "query" => query[3] = bad,
        "one key" => key[4 * width + 3] = bad,
        "every key" => key.iter_mut().step_by(width).for_each(|x| *x = bad),
        _ => value[4 * width + 3] = bad,
    }
    let (query, key, value) = (
        backend.tensor(queries, width, &query),
        backend.tensor(keys, width, &key),
        backend.tensor(keys, width, &value),
    );
    let mut rotation = backend.rotation(keys, &vec![1.0; width / 2]);
    backend.set_rotation(&mut rotation, 0, &vec![0.1; keys]);
    let rotary = rotated.then_some(Rotary {
        rotation: &rotation,
        first: 0,
    });
    let mut out = backend.zeros(queries, width);
    let args = Attention {
        query: query.view(),
        query_rows: None,
        query_rotary: rotary,
        key: key.view(),
        value: value.view(),
        key_rows: None,
        key_rotary: rotary,
        rotate_value: false,
        heads: 1,
        mask,
        dropout: kernels::Dropout::None,
    };
    backend.attention(args, out.view_mut());
    download(backend, &out)
}

/// A layer without structure on three rows, of which the middle one holds `bad`.
fn damaged_linear<B: Backend>(backend: &mut B, bad: f32, norm: bool, gated: bool, precision: Precision) -> Vec<f32> {
    let (inputs, outputs) = (32, 64);
    let mut x = numbers(4, 3 * inputs);
    x[inputs + 5] = bad;
    let x = backend.tensor(3, inputs, &x);
    let ones = backend.tensor(1, inputs, &vec![1.0; inputs]);
    let layer = backend.linear_layer(&LinearSpec {
        weight: &numbers(5, outputs * inputs),
        row_stride: inputs,
        outputs,
        inputs,
        bias: None,
        gated,
        precision,
        origin: kernels::Origin::default(),
    });
    let mut out = backend.zeros(3, if gated { outputs / 2 } else { outputs });
    let args = LinearArgs {
        norm: norm.then_some(Norm {
            gain: &ones,
            bias: &ones,
        }),
        ..LinearArgs::default()
    };
    backend.linear(x.view(), &layer, args, out.view_mut());
    download(backend, &out)
}

/// Pooling with one score `bad`, or all.
fn damaged_pool<B: Backend>(backend: &mut B, bad: f32, every: bool) -> Vec<f32> {
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
    download(backend, &out)
}

/// The sizes of the network itself, shared between threads.
#[test]
fn large_shapes() {
    let base = LinearCase {
        rows: 320,
        inputs: 128,
        outputs: 1024,
        margin: 0,
        gated: true,
        norm: true,
        bias: true,
        addend: false,
        gelu: false,
        accumulate: false,
        precision: Precision::F16,
        seed: 9,
    };
    let down = LinearCase {
        inputs: 512,
        outputs: 128,
        gated: false,
        norm: false,
        accumulate: true,
        ..base.clone()
    };
    let single = LinearCase {
        rows: 1,
        ..base.clone()
    };
    for case in [base, down, single] {
        let expected = linear(&mut ReferenceBackend::default(), &case);
        for backend in &mut cpus() {
            assert_close(&backend.describe(), &expected, &linear(backend, &case), 2e-5);
        }
    }
    let case = AttentionCase {
        queries: 320,
        keys: 700,
        heads: 2,
        pairs: 32,
        turning: 16,
        gathered: true,
        rotated: true,
        rotate_value: true,
        mask: Mask::All,
        seed: 10,
    };
    let expected = attention(&mut ReferenceBackend::default(), &case);
    for backend in &mut cpus() {
        assert_close(&backend.describe(), &expected, &attention(backend, &case), 1e-5);
    }
}

/// The other tests run every instruction set that there is; this one says which were not there to run.
#[test]
fn instruction_sets_of_this_machine() {
    let available = Isa::available();
    assert!(available.contains(&Isa::Scalar));
    for isa in [Isa::AmxBf16, Isa::Avx512Bf16, Isa::Avx512, Isa::Avx2, Isa::Neon] {
        if !available.contains(&isa) {
            println!("skipped: this processor has no {isa:?}");
        }
    }
}
