//! The gradient of the whole network, every decoder variant, against central finite differences in FP64.

use kernels::reference::{Nudge, Reference};
use kernels::tape::{DropRates, Tape};
use kernels::Precision;
use neurohorizon::model::checkpoint::Checkpoint;
use neurohorizon::model::config::{Decoder, Feedback, HistoryConfig, ModelConfig};
use neurohorizon::model::network::{Network, SessionPlan};
use neurohorizon::model::traces::Traces;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeMap;

const UNITS: usize = 3;
const BINS: usize = 3;

/// Step of the finite differences: over five points their error is about its fourth power; that of rounding, 1e-15 over it.
const STEP: f64 = 2e-4;

fn config(decoder: Decoder) -> ModelConfig {
    let pred_window = BINS as f64 * 0.02;
    ModelConfig {
        sequence_length: 0.1 + pred_window,
        pred_window,
        dim: 8,
        dim_head: 8,
        enc_depth: 1,
        dec_depth: 2,
        cross_heads: 2,
        self_heads: 2,
        num_latents_per_step: 2,
        memory_tokens: 2,
        memory_heads: 2,
        max_pred_bins: 4,
        decoder,
        ..ModelConfig::default()
    }
}

struct Case {
    checkpoint: Checkpoint,
    plan: SessionPlan,
    windows: Vec<(Vec<f64>, Vec<u32>, Vec<f32>)>,
    weights: Vec<f32>,
}

impl Case {
    fn new(decoder: Decoder) -> Self {
        Case::of(config(decoder))
    }

    fn of(config: ModelConfig) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(5);
        let windows = [7, 4].map(|spikes| {
            let times = (0..spikes).map(|_| random.random_range(0.0..0.1)).collect();
            let units = (0..spikes).map(|_| random.random_range(0..UNITS as u32)).collect();
            let counts = (0..BINS * UNITS).map(|_| random.random_range(0..3) as f32).collect();
            (times, units, counts)
        });
        Case {
            checkpoint: Checkpoint::random(&config, UNITS + 1, 3),
            plan: SessionPlan {
                // Not in the order of the table, and not all of it.
                unit_rows: vec![4, 1, 2],
                bins: BINS,
                max_spikes: 8,
                precision: Precision::F32,
            },
            windows: windows.to_vec(),
            weights: (0..BINS * UNITS).map(|i| if i == 4 { 0.0 } else { 1.0 }).collect(),
        }
    }

    /// Loss over the windows, and its gradient by parameter.
    fn learn(&self, nudge: Option<Nudge>, rates: DropRates) -> (f64, BTreeMap<String, Vec<f64>>) {
        let reference = nudge.map_or_else(Reference::<f64>::default, Reference::nudged);
        let tape = Tape::new(reference, rates);
        let mut network = Network::new(tape, &self.checkpoint, self.plan.clone());
        let mark = network.predicted().0.mark();
        let mut loss = 0.0;
        for (seed, (times, units, counts)) in self.windows.iter().enumerate() {
            network.predicted().0.start(seed as u64);
            if let Some(history) = &self.checkpoint.config.history {
                let mut traces = Traces::of_path(history, 0.02, &[-1.5, -0.5, -2.0]);
                (0..=seed as u32).for_each(|bin| traces.push_bin([bin as f32, 1.0, 2.0].into_iter()));
                network.set_traces(&traces);
            }
            network.encode(times, units);
            network.teacher_force(counts);
            let (tape, log_rates) = network.predicted();
            loss += tape.poisson_loss(log_rates, counts, &self.weights, 1.0).unwrap();
            tape.backward(mark);
        }
        let tape = network.predicted().0;
        tape.backward_before(mark);
        let mut gradients = BTreeMap::new();
        tape.take_gradients(&mut |piece| {
            let tensor = &self.checkpoint.tensors[piece.name];
            let cols = *tensor.shape.last().unwrap();
            let whole = gradients
                .entry(piece.name.to_string())
                .or_insert_with(|| vec![0.0; tensor.data.len()]);
            for (i, row) in piece.data.chunks(piece.cols).enumerate() {
                for (j, &g) in row.iter().enumerate() {
                    whole[(piece.row + i) * cols + piece.col + j] += f64::from(g);
                }
            }
        })
        .unwrap();
        (loss, gradients)
    }

    fn check(&self, rates: DropRates) {
        let (_, gradients) = self.learn(None, rates);
        let mut random = ChaCha8Rng::seed_from_u64(9);
        let mut moved = 0;
        for (name, gradient) in &gradients {
            let largest = gradient.iter().fold(0.0f64, |most, g| most.max(g.abs()));
            moved += usize::from(largest > 0.0);
            let cols = *self.checkpoint.tensors[name].shape.last().unwrap();
            for _ in 0..4 {
                let at = random.random_range(0..gradient.len());
                let loss = |change| {
                    let nudge = Nudge {
                        name: name.clone(),
                        row: at / cols,
                        col: at % cols,
                        change,
                    };
                    self.learn(Some(nudge), rates).0
                };
                let (near, far) = (loss(STEP) - loss(-STEP), loss(2.0 * STEP) - loss(-2.0 * STEP));
                let expected = (8.0 * near - far) / (12.0 * STEP);
                // The gradient is handed out in FP32.
                let error = (gradient[at] - expected).abs();
                assert!(
                    error <= 1e-7 * expected.abs().max(largest).max(1e-2),
                    "{name}[{at}]: {} but {expected} by finite differences",
                    gradient[at]
                );
            }
        }
        // Memory attention exists in every checkpoint and is of use to two variants only.
        let unused = gradients.len() - moved;
        assert!(
            unused <= 2,
            "{unused} parameters of {} have no gradient",
            gradients.len()
        );
    }
}

#[test]
fn every_decoder() {
    for decoder in [
        Decoder::QueryAug(Feedback::None),
        Decoder::QueryAug(Feedback::MlpPool),
        Decoder::QueryAug(Feedback::RateWeighted),
        Decoder::QueryAug(Feedback::CrossAttn),
        Decoder::PredictionMemory,
        Decoder::LocalPredictionMemory,
    ] {
        println!("{decoder:?}");
        Case::new(decoder).check(DropRates::default());
    }
}

#[test]
fn with_recent_history() {
    let history = HistoryConfig {
        time_constants_s: vec![0.02, 0.1, 0.5],
        population_time_constants: 2,
        components: 3,
    };
    let history = Some(history);
    let decoder = Decoder::QueryAug(Feedback::None);
    Case::of(ModelConfig {
        history,
        ..config(decoder)
    })
    .check(DropRates::default());
}

#[test]
fn with_dropout() {
    let rates = DropRates {
        hidden: 0.2,
        weights: 0.3,
        residual: 0.4,
    };
    let case = Case::new(Decoder::PredictionMemory);
    assert_ne!(case.learn(None, rates).0, case.learn(None, DropRates::default()).0);
    case.check(rates);
}
