//! Linear layers and attention of the CUDA backend against the reference: FP16 on tensor cores and FP32, forward and
//! backward, on shapes that are no multiple of any tile.

mod cuda_support;

use cuda_support::{assert_all_close, backend, numbers, Part, Results};
use kernels::gradient::{Attend, Differentiable, DropMask};
use kernels::reference::ReferenceBackend;
use kernels::{Activation, Attention, Backend, Dropout, LinearArgs, LinearSpec, Mask, Matrix, Norm, Precision, Rotary};

/// FP16 has 11 bits, activations are rounded to it, and 512 of them are summed: relative to 1 plus the result.
const HALF_BOUND: f32 = 4e-3;
const SINGLE_BOUND: f32 = 2e-5;

/// A linear layer's case.
#[derive(Debug, Clone, Copy)]
struct Layer {
    rows: usize,
    inputs: usize,
    outputs: usize,
    gated: bool,
    norm: bool,
    bias: bool,
    addend: bool,
    gelu: bool,
    accumulate: bool,
    margin: usize,
}

const PLAIN: Layer = Layer {
    rows: 1,
    inputs: 1,
    outputs: 1,
    gated: false,
    norm: false,
    bias: false,
    addend: false,
    gelu: false,
    accumulate: false,
    margin: 0,
};

fn layer_cases() -> Vec<Layer> {
    let mut cases = vec![
        PLAIN,
        Layer {
            rows: 33,
            inputs: 70,
            outputs: 67,
            norm: true,
            bias: true,
            margin: 3,
            ..PLAIN
        },
        Layer {
            rows: 5,
            inputs: 128,
            outputs: 130,
            gated: true,
            norm: true,
            bias: true,
            ..PLAIN
        },
        Layer {
            rows: 17,
            inputs: 600,
            outputs: 9,
            bias: true,
            accumulate: true,
            margin: 1,
            ..PLAIN
        },
        Layer {
            rows: 16,
            inputs: 65,
            outputs: 64,
            addend: true,
            gelu: true,
            bias: true,
            margin: 2,
            ..PLAIN
        },
        Layer {
            rows: 40,
            inputs: 12,
            outputs: 96,
            gated: true,
            accumulate: true,
            ..PLAIN
        },
        Layer {
            rows: 3,
            inputs: 1030,
            outputs: 20,
            norm: true,
            accumulate: true,
            gelu: true,
            ..PLAIN
        },
    ];
    cases.push(Layer {
        addend: true,
        ..cases[1]
    });
    cases
}

fn linear<B: Backend>(backend: &mut B, case: Layer, precision: Precision) -> Results {
    let scale = 1.0 / (case.inputs as f32).sqrt();
    let weight: Vec<f32> = numbers(1, case.outputs * (case.inputs + 2))
        .iter()
        .map(|w| w * scale)
        .collect();
    let bias = numbers(2, case.outputs);
    let spec = LinearSpec {
        weight: &weight,
        row_stride: case.inputs + 2,
        outputs: case.outputs,
        inputs: case.inputs,
        bias: case.bias.then_some(&bias[..]),
        gated: case.gated,
        precision,
        origin: Default::default(),
    };
    let layer = backend.linear_layer(&spec);
    let width = if case.gated { case.outputs / 2 } else { case.outputs };
    let x = Part::new(backend, 3, case.rows, case.inputs, case.margin);
    let mut out = Part::new(backend, 4, case.rows, width, case.margin);
    let addend = Part::new(backend, 5, case.rows, width, case.margin);
    let gain = backend.tensor(1, case.inputs, &numbers(6, case.inputs));
    let shift = backend.tensor(1, case.inputs, &numbers(7, case.inputs));
    let args = LinearArgs {
        norm: case.norm.then_some(Norm {
            gain: &gain,
            bias: &shift,
        }),
        addend: case.addend.then_some(addend.view()),
        activation: if case.gelu {
            Activation::Gelu
        } else {
            Activation::Identity
        },
        dropout: Dropout::None,
        accumulate: case.accumulate,
    };
    backend.linear(x.view(), &layer, args, out.view_mut());
    vec![("out", out.download(backend))]
}

#[test]
fn linear_layers() {
    for case in layer_cases() {
        for (precision, bound) in [(Precision::F16, HALF_BOUND), (Precision::F32, SINGLE_BOUND)] {
            println!("{precision:?} {case:?}");
            let expected = linear(&mut ReferenceBackend::default(), case, precision);
            let found = linear(&mut backend(true), case, precision);
            assert_all_close(&expected, &found, bound);
        }
    }
}

/// An attention's case.
#[derive(Debug, Clone, Copy)]
struct Case {
    queries: usize,
    keys: usize,
    heads: usize,
    head_dim: usize,
    mask: Mask,
    /// Queries and keys are rows of tables.
    listed: bool,
    turned: bool,
}

fn attention_cases() -> Vec<Case> {
    let case = |queries, keys, heads, head_dim, mask, listed, turned| Case {
        queries,
        keys,
        heads,
        head_dim,
        mask,
        listed,
        turned,
    };
    let causal = |first, keys_per_query| Mask::Causal { first, keys_per_query };
    let local = |first, keys_per_query| Mask::Local { first, keys_per_query };
    vec![
        case(1, 1, 1, 2, Mask::All, false, false),
        case(20, 37, 2, 64, Mask::All, false, true),
        case(7, 150, 3, 8, Mask::All, true, true),
        case(33, 70, 1, 96, Mask::All, false, false),
        case(13, 13, 2, 16, causal(0, 1), false, false),
        case(1, 40, 2, 24, causal(9, 4), false, false),
        case(12, 48, 2, 32, local(0, 4), false, false),
        // The first query sees nothing.
        case(3, 8, 1, 16, local(2, 4), false, false),
    ]
}

const PAIR_FREQUENCIES: [f32; 4] = [6000.0, 400.0, 30.0, 2.5];

fn attention<B: Backend>(backend: &mut B, case: Case) -> Results {
    let width = case.heads * case.head_dim;
    let table = |count: usize| if case.listed { count / 2 + 1 } else { count };
    let query = Part::new(backend, 1, table(case.queries), width, 2);
    let key = Part::new(backend, 2, table(case.keys), width, 1);
    let value = Part::new(backend, 3, table(case.keys), width, 1);
    let omega: Vec<f32> = (0..case.head_dim / 2)
        .map(|i| {
            if i < case.head_dim / 4 {
                PAIR_FREQUENCIES[i % 4]
            } else {
                0.0
            }
        })
        .collect();
    let mut turns = backend.rotation(case.queries + case.keys + 1, &omega);
    let times: Vec<f64> = (0..case.queries + case.keys).map(|i| 0.013 * i as f64).collect();
    backend.set_rotation(&mut turns, 1, &times);
    let rows: Vec<Vec<u32>> = [case.queries, case.keys]
        .iter()
        .map(|&count| (0..count).map(|i| ((7 * i + 3) % table(count)) as u32).collect())
        .collect();
    let mut query_rows = backend.rows(case.queries + 5);
    let mut key_rows = backend.rows(case.keys + 70);
    backend.set_rows(&mut query_rows, &rows[0]);
    backend.set_rows(&mut key_rows, &rows[1]);
    let mut out = Part::new(backend, 4, case.queries, width, 3);
    let rotary = |first| Rotary {
        rotation: &turns,
        first,
    };
    let args = Attention {
        query: query.view(),
        query_rows: case.listed.then_some(&query_rows),
        query_rotary: case.turned.then_some(rotary(1)),
        key: key.view(),
        value: value.view(),
        key_rows: case.listed.then_some(&key_rows),
        key_rotary: case.turned.then_some(rotary(2)),
        rotate_value: case.turned,
        heads: case.heads,
        mask: case.mask,
        dropout: Dropout::None,
    };
    backend.attention(args, out.view_mut());
    vec![("out", out.download(backend))]
}

#[test]
fn attentions() {
    for case in attention_cases() {
        for (half, bound) in [(true, HALF_BOUND), (false, SINGLE_BOUND)] {
            println!("half {half} {case:?}");
            let expected = attention(&mut ReferenceBackend::default(), case);
            let found = attention(&mut backend(half), case);
            assert_all_close(&expected, &found, bound);
        }
    }
}

/// What learning needs of an attention: output and three derivatives.
fn attend<B: Differentiable>(backend: &mut B, case: Case, drop: Option<DropMask>) -> Results {
    let width = case.heads * case.head_dim;
    let query = Part::new(backend, 1, case.queries, width, 2);
    let key = Part::new(backend, 2, case.keys, width, 1);
    let value = Part::new(backend, 3, case.keys, width, 0);
    let gout = Part::new(backend, 4, case.queries, width, 1);
    let mut weights = backend.zeros(case.heads * case.queries, case.keys + 2);
    let mut out = Part::new(backend, 5, case.queries, width, 1);
    let mut gq = Part::new(backend, 6, case.queries, width, 1);
    let mut gk = Part::new(backend, 7, case.keys, width, 2);
    let mut gv = Part::new(backend, 8, case.keys, width, 0);
    let args = Attend {
        query: query.view(),
        key: key.view(),
        value: value.view(),
        heads: case.heads,
        mask: case.mask,
        drop,
    };
    let rows = case.heads * case.queries;
    backend.attend(args, weights.block_mut(0, rows, 1, case.keys), out.view_mut());
    backend.attend_backward(
        args,
        weights.block(0, rows, 1, case.keys),
        out.view(),
        gout.view(),
        gq.view_mut(),
        gk.view_mut(),
        gv.view_mut(),
    );
    vec![
        ("out", out.download(backend)),
        ("query", gq.download(backend)),
        ("key", gk.download(backend)),
        ("value", gv.download(backend)),
    ]
}

#[test]
fn attentions_that_learn() {
    let drop = DropMask {
        rate: 0.3,
        seed: 11,
        stream: 5,
    };
    for case in attention_cases()
        .into_iter()
        .filter(|case| !case.listed && case.queries < 30)
    {
        for drop in [None, Some(drop)] {
            println!("{drop:?} {case:?}");
            let expected = attend(&mut ReferenceBackend::default(), case, drop);
            let found = attend(&mut backend(false), case, drop);
            assert_all_close(&expected, &found, SINGLE_BOUND);
        }
    }
}

fn weight_gradient<B: Differentiable>(backend: &mut B, rows: usize, outputs: usize, inputs: usize) -> Results {
    let gy = Part::new(backend, 1, rows, outputs, 1);
    let x = Part::new(backend, 2, rows, inputs, 2);
    let mut gw = Part::new(backend, 3, outputs, inputs, 1);
    backend.weight_gradient(gy.view(), x.view(), gw.view_mut());
    vec![("weight", gw.download(backend))]
}

#[test]
fn weight_gradients() {
    for (rows, outputs, inputs) in [(1, 1, 1), (35, 70, 65), (3, 40, 130)] {
        let expected = weight_gradient(&mut ReferenceBackend::default(), rows, outputs, inputs);
        let found = weight_gradient(&mut backend(false), rows, outputs, inputs);
        assert_all_close(&expected, &found, SINGLE_BOUND);
    }
}
