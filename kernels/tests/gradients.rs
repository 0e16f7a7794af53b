//! The derivative of every operation: the reference's against central finite differences in FP64, the CPU's against the
//! reference's on random shapes.

use std::collections::BTreeMap;

use kernels::cpu::{CpuBackend, CpuOptions, Isa};
use kernels::gradient::Differentiable;
use kernels::reference::{Nudge, Reference};
use kernels::tape::{DropRates, Tape, TapeTensor};
use kernels::{
    Activation, Attention, Backend, Dropout, LinearArgs, LinearSpec, Map, Mask, Matrix, Norm, Origin, Precision, Rotary,
};
use proptest::prelude::*;

/// What is run. Every input is a named parameter.
#[derive(Debug, Clone)]
enum Program {
    Gather,
    Copy {
        accumulate: bool,
    },
    Map(Map),
    OuterAdd(Activation),
    OuterDot {
        accumulate: bool,
    },
    Multiply {
        one_row: bool,
    },
    SumRows {
        accumulate: bool,
    },
    Linear(Product),
    Rotate,
    Attention(Looks),
    Pool {
        scores: bool,
        accumulate: bool,
    },
    /// Places written twice, in part, and read in between.
    Overwrite,
}

#[derive(Debug, Clone)]
struct Product {
    norm: bool,
    bias: bool,
    addend: bool,
    gated: bool,
    gelu: bool,
    accumulate: bool,
    dropout: Dropout,
}

#[derive(Debug, Clone)]
struct Looks {
    heads: usize,
    listed: bool,
    turned: bool,
    mask: Mask,
    dropout: Dropout,
}

#[derive(Debug, Clone)]
struct Case {
    program: Program,
    /// Rows, columns, and rows of the other operand.
    shape: (usize, usize, usize),
    seed: u32,
}

/// Numbers between −1 and 1 that depend on a name.
fn numbers(name: &str, seed: u32, count: usize) -> Vec<f32> {
    let mut state = name.bytes().fold(u64::from(seed) + 1, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3)
    });
    (0..count)
        .map(|_| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
        })
        .collect()
}

struct Runner<B: Differentiable> {
    tape: Tape<B>,
    seed: u32,
}

impl<B: Differentiable> Runner<B> {
    fn input(&mut self, name: &str, rows: usize, cols: usize) -> TapeTensor {
        let data = numbers(name, self.seed, rows * cols);
        self.tape.parameter(name, rows, cols, &data)
    }

    /// A number from 0 to below `most` for each row.
    fn list(&mut self, name: &str, count: usize, most: usize) -> kernels::tape::TapeRows {
        let values: Vec<u32> = numbers(name, self.seed, count)
            .iter()
            .map(|x| ((x + 1.0) * 0.5 * most as f32) as u32 % most as u32)
            .collect();
        let mut rows = self.tape.rows(count);
        self.tape.set_rows(&mut rows, &values);
        rows
    }

    fn run(&mut self, case: &Case) -> TapeTensor {
        let (m, n, s) = case.shape;
        match &case.program {
            Program::Gather => {
                let (table, rows) = (self.input("table", s, n), self.list("rows", m, s));
                let mut out = self.tape.zeros(m, n);
                self.tape.gather(table.view(), &rows, out.view_mut());
                out
            }
            Program::Copy { accumulate } => {
                let (x, mut out) = (self.input("x", m, n), self.input("out", m, n));
                self.tape.copy(x.view(), *accumulate, out.view_mut());
                self.tape.copy(x.block(0, 1, 0, n), true, out.row_block_mut(m - 1, 1));
                out
            }
            Program::Map(f) => {
                let mut x = self.input("x", m, n);
                if *f == Map::Log1p {
                    let mut positive = self.tape.zeros(m, n);
                    self.tape.map(Map::Exp, x.view(), positive.view_mut());
                    x = positive;
                }
                let mut out = self.tape.zeros(m, n);
                self.tape.map(*f, x.view(), out.view_mut());
                out
            }
            Program::OuterAdd(activation) => {
                let (a, b) = (self.input("a", m, n), self.input("b", s, n));
                let mut out = self.tape.zeros(m * s, n);
                self.tape.outer_add(a.view(), b.view(), *activation, out.view_mut());
                out
            }
            Program::OuterDot { accumulate } => {
                let (a, b) = (self.input("a", m, n), self.input("b", s, n));
                let mut out = self.input("out", m * s, 1);
                self.tape.outer_dot(a.view(), b.view(), *accumulate, out.view_mut());
                out
            }
            Program::Multiply { one_row } => {
                let (x, y) = (self.input("x", m, n), self.input("y", if *one_row { 1 } else { m }, n));
                let mut out = self.tape.zeros(m, n);
                self.tape.multiply(x.view(), y.view(), out.view_mut());
                out
            }
            Program::SumRows { accumulate } => {
                let (weights, x) = (self.input("weights", 1, s), self.input("x", s, n));
                let mut out = self.input("out", 1, n);
                self.tape
                    .sum_rows(weights.view(), x.view(), *accumulate, out.view_mut());
                out
            }
            Program::Linear(product) => self.linear(product, m, n, s),
            Program::Rotate => {
                let mut x = self.input("x", m, 4 * n);
                let rotation = self.rotation("angles", m + 1, 2);
                let rotary = Rotary {
                    rotation: &rotation,
                    first: 1,
                };
                self.tape.rotate(rotary, x.block_mut(0, m, 0, 4 * n));
                x
            }
            Program::Attention(looks) => self.attention(looks, m, n, s),
            Program::Pool { scores, accumulate } => {
                let values = self.input("values", s, n);
                let outputs = if *scores { m } else { 1 };
                let (given, mut out) = (self.input("scores", s, outputs), self.input("out", outputs, n));
                self.tape
                    .pool(scores.then(|| given.view()), values.view(), *accumulate, out.view_mut());
                out
            }
            Program::Overwrite => {
                let (x, mut y, mut out) = (self.input("x", m, n), self.input("y", m, n), self.input("out", m, n));
                self.tape.map(Map::Exp, y.view(), out.view_mut());
                self.tape.copy(x.view(), true, y.view_mut());
                self.tape.copy(y.view(), true, out.view_mut());
                self.tape.fill(0.5, y.row_block_mut(0, 1));
                self.tape.upload(&vec![0.25; n], out.row_block_mut(m - 1, 1));
                self.tape.copy(y.view(), true, out.view_mut());
                out
            }
        }
    }

    fn rotation(&mut self, name: &str, rows: usize, pairs: usize) -> kernels::tape::TapeRotation {
        let omega: Vec<f32> = (0..pairs)
            .map(|i| if i % 2 == 0 { 3.0 + i as f32 } else { 0.0 })
            .collect();
        let mut rotation = self.tape.rotation(rows, &omega);
        let times: Vec<f64> = numbers(name, self.seed, rows).iter().map(|&x| f64::from(x)).collect();
        self.tape.set_rotation(&mut rotation, 0, &times);
        rotation
    }

    fn linear(&mut self, product: &Product, m: usize, inputs: usize, width: usize) -> TapeTensor {
        let (x, mut out) = (self.input("x", m, inputs), self.input("out", m, width));
        let (gain, shift) = (self.input("gain", 1, inputs), self.input("shift", 1, inputs));
        let addend = self.input("addend", m, width);
        let outputs = width * (1 + usize::from(product.gated));
        // The layer is a rectangle of a larger matrix.
        let scale = 1.0 / (inputs as f32).sqrt();
        let weight = numbers("weight", self.seed, (outputs + 1) * (inputs + 2));
        let weight: Vec<f32> = weight.iter().map(|w| w * scale).collect();
        let bias = numbers("bias", self.seed, outputs + 1);
        let layer = self.tape.linear_layer(&LinearSpec {
            weight: &weight[inputs + 2 + 2..],
            row_stride: inputs + 2,
            outputs,
            inputs,
            bias: product.bias.then_some(&bias[1..]),
            gated: product.gated,
            precision: Precision::F32,
            origin: Origin {
                weight: "weight",
                bias: "bias",
                row: 1,
                col: 2,
            },
        });
        let args = LinearArgs {
            norm: product.norm.then_some(Norm {
                gain: &gain,
                bias: &shift,
            }),
            addend: (product.addend && !product.gated).then(|| addend.view()),
            activation: if product.gelu && !product.gated {
                Activation::Gelu
            } else {
                Activation::Identity
            },
            dropout: product.dropout,
            accumulate: product.accumulate,
        };
        self.tape.linear(x.view(), &layer, args, out.view_mut());
        out
    }

    fn attention(&mut self, looks: &Looks, m: usize, pairs: usize, s: usize) -> TapeTensor {
        let width = looks.heads * 2 * pairs;
        let (query, packed) = (self.input("query", m, width), self.input("key_value", s, 2 * width));
        let (query_rows, key_rows) = (self.list("query rows", m, m), self.list("key rows", s + 1, s));
        let keys = if looks.listed { s + 1 } else { s };
        let (query_turn, key_turn) = (
            self.rotation("query times", m, pairs),
            self.rotation("key times", keys, pairs),
        );
        let mut out = self.tape.zeros(m, width);
        let args = Attention {
            query: query.view(),
            query_rows: looks.listed.then_some(&query_rows),
            query_rotary: looks.turned.then_some(Rotary {
                rotation: &query_turn,
                first: 0,
            }),
            key: packed.block(0, s, 0, width),
            value: packed.block(0, s, width, width),
            key_rows: looks.listed.then_some(&key_rows),
            key_rotary: looks.turned.then_some(Rotary {
                rotation: &key_turn,
                first: 0,
            }),
            rotate_value: looks.turned,
            heads: looks.heads,
            mask: looks.mask,
            dropout: looks.dropout,
        };
        self.tape.attention(args, out.view_mut());
        out
    }
}

/// What a program's way there and back gives.
struct Learnt {
    loss: f64,
    /// Sum of the absolute values of the loss's terms.
    terms: f64,
    gradients: BTreeMap<String, Vec<f32>>,
}

fn learn<B: Differentiable>(inner: B, case: &Case) -> Learnt {
    let rates = DropRates {
        hidden: 0.25,
        weights: 0.3,
        residual: 0.5,
    };
    let mut runner = Runner {
        tape: Tape::new(inner, rates),
        seed: case.seed,
    };
    let start = runner.tape.mark();
    runner.tape.start(7);
    let out = runner.run(case);
    let count = out.rows() * out.cols();
    let (counts, weights) = (
        numbers("counts", case.seed, count),
        numbers("loss weights", case.seed, count),
    );
    let loss = runner
        .tape
        .poisson_loss(out.view(), &counts, &weights, 1.0)
        .expect("no device");
    let mut log_rates = vec![0.0; count];
    runner.tape.download(out.view(), &mut log_rates).expect("no device");
    let terms = log_rates.iter().map(|&r| f64::from(r.exp() + r.abs())).sum();
    runner.tape.backward(start);
    let mut gradients = BTreeMap::new();
    runner
        .tape
        .take_gradients(&mut |piece| {
            let previous = gradients.insert(piece.name.to_string(), piece.data.to_vec());
            assert!(previous.is_none());
        })
        .expect("no device");
    Learnt { loss, terms, gradients }
}

/// Where an element of a layer's rectangle lies in its matrix.
fn place(case: &Case, name: &str, at: usize) -> (usize, usize) {
    let (m, n, _) = case.shape;
    let cols = match (name, &case.program) {
        ("weight", _) => return (1 + at / n, 2 + at % n),
        ("bias", _) => return (0, 1 + at),
        ("gain" | "shift", _) => n,
        ("x" | "out" | "addend", Program::Linear(_)) if name != "x" => case.shape.2,
        ("x", Program::Rotate) => 4 * n,
        ("query", Program::Attention(looks)) => looks.heads * 2 * n,
        ("key_value", Program::Attention(looks)) => looks.heads * 4 * n,
        ("scores", Program::Pool { scores, .. }) => {
            if *scores {
                m
            } else {
                1
            }
        }
        ("out", Program::OuterDot { .. }) => 1,
        ("weights", Program::SumRows { .. }) => case.shape.2,
        _ => n,
    };
    (at / cols, at % cols)
}

fn check_by_differences(case: &Case) {
    const STEP: f64 = 1e-4;
    let gradients = learn(Reference::<f64>::default(), case).gradients;
    for (name, gradient) in &gradients {
        for at in (0..gradient.len()).step_by(gradient.len() / 7 + 1) {
            let (row, col) = place(case, name, at);
            let loss = |change| {
                let nudge = Nudge {
                    name: name.clone(),
                    row,
                    col,
                    change,
                };
                learn(Reference::<f64>::nudged(nudge), case).loss
            };
            let (near, far) = (loss(STEP) - loss(-STEP), loss(2.0 * STEP) - loss(-2.0 * STEP));
            let expected = (8.0 * near - far) / (12.0 * STEP);
            let error = (f64::from(gradient[at]) - expected).abs();
            // The gradient is handed out in FP32.
            let bound = 1e-7 * expected.abs().max(1.0);
            assert!(
                error <= bound,
                "{case:?}\n{name}[{at}]: {} but {expected}",
                gradient[at]
            );
        }
    }
}

fn check_cpu(case: &Case, isa: Isa) {
    let options = CpuOptions {
        isa: Some(isa),
        ..CpuOptions::default()
    };
    let found = learn(CpuBackend::new(options), case);
    let expected = learn(Reference::<f64>::default(), case);
    let error = (found.loss - expected.loss).abs();
    assert!(
        error <= 1e-5 * expected.terms,
        "{case:?} {isa:?}: {} but {}",
        found.loss,
        expected.loss
    );
    for (name, expected) in &expected.gradients {
        let largest = expected.iter().fold(1.0f32, |most, x| most.max(x.abs()));
        for (at, (a, b)) in found.gradients[name].iter().zip(expected).enumerate() {
            assert!(
                (a - b).abs() <= 2e-5 * largest,
                "{case:?} {isa:?}\n{name}[{at}]: {a} but {b}"
            );
        }
    }
}

fn dropouts() -> impl Strategy<Value = Dropout> {
    prop_oneof![Just(Dropout::None), Just(Dropout::Hidden), Just(Dropout::Residual)]
}

fn products() -> impl Strategy<Value = Program> {
    (any::<[bool; 6]>(), dropouts()).prop_map(|([norm, bias, addend, gated, gelu, accumulate], dropout)| {
        Program::Linear(Product {
            norm,
            bias,
            addend,
            gated,
            gelu,
            accumulate,
            dropout,
        })
    })
}

fn attentions() -> impl Strategy<Value = Program> {
    let masks = prop_oneof![
        Just(Mask::All),
        (0usize..2, 1usize..3).prop_map(|(first, keys_per_query)| Mask::Causal { first, keys_per_query }),
        (0usize..2, 1usize..3).prop_map(|(first, keys_per_query)| Mask::Local { first, keys_per_query }),
    ];
    let dropouts = prop_oneof![Just(Dropout::None), Just(Dropout::Weights)];
    (1usize..4, any::<[bool; 2]>(), masks, dropouts).prop_map(|(heads, [listed, turned], mask, dropout)| {
        Program::Attention(Looks {
            heads,
            listed,
            turned,
            mask,
            dropout,
        })
    })
}

fn programs() -> impl Strategy<Value = Program> {
    prop_oneof![
        1 => Just(Program::Gather),
        1 => any::<bool>().prop_map(|accumulate| Program::Copy { accumulate }),
        2 => prop_oneof![Just(Map::Exp), Just(Map::Log1p), Just(Map::Clamp(0.5))].prop_map(Program::Map),
        2 => prop_oneof![Just(Activation::Identity), Just(Activation::Gelu)].prop_map(Program::OuterAdd),
        1 => any::<bool>().prop_map(|accumulate| Program::OuterDot { accumulate }),
        1 => any::<bool>().prop_map(|one_row| Program::Multiply { one_row }),
        1 => any::<bool>().prop_map(|accumulate| Program::SumRows { accumulate }),
        6 => products(),
        1 => Just(Program::Rotate),
        6 => attentions(),
        2 => any::<[bool; 2]>().prop_map(|[scores, accumulate]| Program::Pool { scores, accumulate }),
        1 => Just(Program::Overwrite),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn reference_against_finite_differences(
        program in programs(), shape in (1usize..5, 1usize..5, 1usize..6), seed in any::<u32>()
    ) {
        check_by_differences(&Case { program, shape, seed });
    }

    #[test]
    fn cpu_against_reference(
        program in programs(), shape in (1usize..40, 1usize..40, 1usize..60), seed in any::<u32>()
    ) {
        let mut case = Case { program, shape, seed };
        if matches!(&case.program, Program::Linear(product) if product.norm) {
            // Two or three nearly equal numbers, normalised, magnify rounding without bound.
            case.shape.1 += 8;
        }
        for isa in Isa::available() {
            check_cpu(&case, isa);
        }
    }
}

#[test]
fn a_derivative_from_elsewhere_goes_the_same_way_back() {
    // The Poisson loss of a product, once by the tape and once with its derivative computed here.
    let (x, counts) = ([0.3f32, -0.2, 0.5, 0.1], [1.0f32, 0.0, 2.0]);
    let weight = [0.2f32, -0.1, 0.4, 0.3, 0.6, -0.5];
    let mut gradients = Vec::new();
    for elsewhere in [false, true] {
        let mut tape = Tape::new(Reference::<f32>::default(), DropRates::default());
        let input = tape.parameter("x", 2, 2, &x);
        let layer = tape.linear_layer(&LinearSpec {
            weight: &weight,
            row_stride: 2,
            outputs: 3,
            inputs: 2,
            bias: None,
            gated: false,
            precision: Precision::F32,
            origin: Origin {
                weight: "w",
                ..Origin::default()
            },
        });
        let mut out = tape.zeros(2, 3);
        let mark = tape.mark();
        tape.linear(input.view(), &layer, LinearArgs::default(), out.view_mut());
        let last = out.row_block(1, 1);
        if elsewhere {
            let mut rates = [0.0; 3];
            tape.download(last, &mut rates).unwrap();
            let g: Vec<f32> = rates.iter().zip(counts).map(|(r, y)| r.exp() - y).collect();
            tape.add_gradient(last, &g);
        } else {
            tape.poisson_loss(last, &counts, &[1.0; 3], 1.0).unwrap();
        }
        tape.backward(mark);
        let mut all = BTreeMap::new();
        tape.take_gradients(&mut |piece| {
            all.insert(piece.name.to_owned(), piece.data.to_vec());
        })
        .unwrap();
        gradients.push(all);
    }
    for (name, expected) in &gradients[0] {
        assert!(expected.iter().any(|g| g.abs() > 0.01));
        let found = &gradients[1][name];
        assert!(
            expected.iter().zip(found).all(|(e, f)| (e - f).abs() < 1e-6),
            "{name}: {found:?} but {expected:?}"
        );
    }
}
