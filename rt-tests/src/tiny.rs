//! A network of tiny sizes with windows to learn from, for tests of gradients.

use std::collections::BTreeMap;
use std::sync::Arc;

use kernels::gradient::Differentiable;
use kernels::tape::{DropRates, Tape};
use kernels::Precision;
use neurohorizon::model::checkpoint::Checkpoint;
use neurohorizon::model::conditions::{ConditionReader, Samples, Tokens};
use neurohorizon::model::config::{
    ConditionConfig, ConditionKind, Decoder, Feedback, HistoryConfig, IdentityConfig, IdentityScheme, ModelConfig,
    ReadoutConfig, ReadoutKind,
};
use neurohorizon::model::identity::Reference;
use neurohorizon::model::network::{Network, SessionPlan};
use neurohorizon::model::traces::Traces;
use neurohorizon::model::window::Spikes;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

const UNITS: usize = 3;
const BINS: usize = 3;

/// Every decoder that the reference has.
pub const DECODERS: [Decoder; 6] = [
    Decoder::QueryAug(Feedback::None),
    Decoder::QueryAug(Feedback::MlpPool),
    Decoder::QueryAug(Feedback::RateWeighted),
    Decoder::QueryAug(Feedback::CrossAttn),
    Decoder::PredictionMemory,
    Decoder::LocalPredictionMemory,
];

/// Tiny sizes.
pub fn config(decoder: Decoder) -> ModelConfig {
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

/// A network and windows.
pub struct Case {
    /// Random weights.
    pub checkpoint: Checkpoint,
    plan: SessionPlan,
    windows: Vec<(Vec<f64>, Vec<u32>, Vec<f32>)>,
    weights: Vec<f32>,
}

/// A path of recent history.
pub fn history() -> HistoryConfig {
    HistoryConfig {
        time_constants_s: vec![0.02, 0.1, 0.5],
        population_time_constants: 2,
        components: 3,
    }
}

/// An encoder of identities.
pub fn identity(scheme: IdentityScheme) -> IdentityConfig {
    IdentityConfig {
        scheme,
        window_bins: 3,
        bin_s: 0.02,
        hidden: 5,
        population: scheme == IdentityScheme::Binned,
        components: 0,
        refine: false,
    }
}

/// Two other modalities.
pub fn conditions() -> Vec<ConditionConfig> {
    let of = |series: &str, kind, channels: usize, step_s| ConditionConfig {
        series: series.into(),
        kind,
        step_s,
        mean: vec![0.25; channels],
        deviation: vec![0.5; channels],
    };
    vec![
        of("hand", ConditionKind::Behaviour, 2, 0.02),
        of("image", ConditionKind::Stimulus, 3, 0.05),
    ]
}

/// Two tasks of a behaviour head.
pub fn readouts() -> Vec<ReadoutConfig> {
    let of = |series: &str, kind, columns: usize, (back, ahead)| ReadoutConfig {
        series: series.into(),
        kind,
        step_s: 0.02,
        back,
        ahead,
        unit: "m/s".into(),
        labels: (0..columns).map(|column| column.to_string()).collect(),
        mean: vec![0.25; columns],
        deviation: vec![0.5; if kind == ReadoutKind::Classes { 0 } else { columns }],
    };
    vec![
        of("hand", ReadoutKind::Regression, 2, (3, 1)),
        of("target", ReadoutKind::Classes, 3, (1, 0)),
    ]
}

/// What window `number` shows of the modalities of [`conditions`], by its end at 100 ms: all of both, a part, nothing of the
/// image.
pub fn shown(config: &ModelConfig, number: u64) -> Vec<Tokens> {
    const MS: i64 = 1_000_000;
    let hand = Samples {
        times_ns: &[5 * MS, 15 * MS, 42 * MS, 61 * MS, 99 * MS],
        values: &[0.1, -0.4, 0.7, 0.2, -0.3, 1.0, 0.9, 0.6, -0.8, 0.3],
    };
    let image = Samples {
        times_ns: &[-30 * MS, 60 * MS],
        values: &[0.3, -0.2, 0.8, -0.5, 0.4, 0.1],
    };
    let image = if number == 0 { image } else { Samples::default() };
    let mut reader = ConditionReader::new(config, |condition| {
        Some(if condition.series == "hand" { hand } else { image })
    });
    reader.at((100 - 20 * number as i64) * MS).to_vec()
}

/// Two windows of activity; the last unit is silent.
fn reference(identity: &IdentityConfig) -> Reference {
    const MS: i64 = 1_000_000;
    let spikes = Spikes {
        times_ns: &[2 * MS, 13 * MS, 25 * MS, 44 * MS, 71 * MS, 77 * MS, 110 * MS],
        units: &[0, 1, 0, 0, 1, 0, 1],
    };
    Reference::new(identity, 20 * MS, UNITS, &[(spikes, 0), (spikes, 60 * MS)])
}

impl Case {
    /// With a decoder.
    pub fn new(decoder: Decoder) -> Self {
        Case::of(config(decoder))
    }

    /// With a configuration.
    pub fn of(config: ModelConfig) -> Self {
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
                reference: config.identity.map(|identity| Arc::new(reference(&identity))),
                bins: BINS,
                max_spikes: 8,
                precision: Precision::F32,
            },
            windows: windows.to_vec(),
            weights: (0..BINS * UNITS).map(|i| if i == 4 { 0.0 } else { 1.0 }).collect(),
        }
    }

    /// Loss over the windows, and its gradient by parameter.
    pub fn learn<B: Differentiable>(&self, backend: B, rates: DropRates) -> (f64, BTreeMap<String, Vec<f64>>) {
        let tape = Tape::new(backend, rates);
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
            network.set_conditions(&shown(&self.checkpoint.config, seed as u64));
            network.encode(times, units);
            network.teacher_force(counts);
            let (tape, log_rates) = network.predicted();
            loss += tape.poisson_loss(log_rates, counts, &self.weights, 1.0).unwrap();
            // Of what is read out any function will do; this one is known in FP64.
            for (task, readout) in self.checkpoint.config.readouts.iter().enumerate() {
                let (tape, read) = network.read_out(task);
                let size = readout.rows() * readout.columns();
                let wanted: Vec<f32> = (0..size).map(|i| i as f32 - 2.0).collect();
                loss += tape.poisson_loss(read, &wanted, &vec![0.5; size], 1.0).unwrap();
            }
            network.predicted().0.backward(mark);
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
}
