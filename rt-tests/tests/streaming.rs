//! Caches and tables do not change the numbers, and both backends agree on sizes that the golden cases do not have.

use kernels::Precision;
use neurohorizon::model::checkpoint::Checkpoint;
use neurohorizon::model::config::{Decoder, Feedback, ModelConfig};
use neurohorizon::model::{build, BackendKind, BuildOptions, Inference};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

const DECODERS: [Decoder; 6] = [
    Decoder::QueryAug(Feedback::None),
    Decoder::QueryAug(Feedback::MlpPool),
    Decoder::QueryAug(Feedback::RateWeighted),
    Decoder::QueryAug(Feedback::CrossAttn),
    Decoder::PredictionMemory,
    Decoder::LocalPredictionMemory,
];

/// A small network: `bins` bins of 20 ms ahead.
fn config(decoder: Decoder, dim_head: usize, bins: usize) -> ModelConfig {
    let pred_window = bins as f64 * 0.02;
    ModelConfig {
        sequence_length: 0.5 + pred_window,
        pred_window,
        dim: 24,
        dim_head,
        enc_depth: 1,
        dec_depth: 2,
        cross_heads: 2,
        self_heads: 3,
        num_latents_per_step: 5,
        memory_tokens: 3,
        memory_heads: 2,
        decoder,
        ..ModelConfig::default()
    }
}

struct Case {
    checkpoint: Checkpoint,
    units: usize,
    times: Vec<f64>,
    spikes: Vec<u32>,
}

impl Case {
    fn new(config: &ModelConfig, units: usize, spikes: usize, seed: u64) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut times: Vec<f64> = (0..spikes)
            .map(|_| random.random_range(0.0..config.history_s()))
            .collect();
        times.sort_by(f64::total_cmp);
        Case {
            checkpoint: Checkpoint::random(config, units, seed),
            units,
            times,
            spikes: (0..spikes).map(|_| random.random_range(0..units as u32)).collect(),
        }
    }

    fn network(&self, backend: BackendKind, precision: Precision) -> Box<dyn Inference> {
        let options = BuildOptions {
            backend,
            precision,
            threads: 2,
            max_spikes: self.times.len(),
            ..BuildOptions::default()
        };
        let rows: Vec<usize> = (1..=self.units).collect();
        build(&self.checkpoint, &rows, &options).expect("a valid plan")
    }

    fn generate(&self, network: &mut dyn Inference) -> Vec<f32> {
        network.encode(&self.times, &self.spikes);
        network.generate();
        log_rates(network)
    }
}

fn log_rates(network: &mut dyn Inference) -> Vec<f32> {
    let mut out = vec![0.0; network.plan().bins * network.plan().unit_rows.len()];
    network.log_rates(&mut out).expect("the CPU does not fail");
    assert!(out.iter().all(|x| x.is_finite()));
    out
}

fn largest_difference(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

/// With a memory, feeding the model's own expected counts to one full pass is what generating bin by bin does.
#[test]
fn generating_with_caches_equals_one_pass_over_the_same_counts() {
    for backend in [BackendKind::Reference, BackendKind::Cpu] {
        for decoder in [Decoder::PredictionMemory, Decoder::LocalPredictionMemory] {
            let case = Case::new(&config(decoder, 8, 7), 9, 40, 3);
            let mut network = case.network(backend, Precision::F32);
            let generated = case.generate(network.as_mut());
            let counts: Vec<f32> = generated.iter().map(|rate| rate.exp()).collect();
            network.teacher_force(&counts);
            let difference = largest_difference(&generated, &log_rates(network.as_mut()));
            assert!(difference < 2e-5, "{backend:?} {decoder:?}: {difference}");
        }
    }
}

/// A window leaves nothing behind: the same spikes give the same bits after other windows.
#[test]
fn windows_do_not_leak_into_each_other() {
    for decoder in DECODERS {
        let case = Case::new(&config(decoder, 8, 5), 6, 30, 4);
        let mut network = case.network(BackendKind::Cpu, Precision::F32);
        let first = case.generate(network.as_mut());
        network.encode(&[0.1, 0.2, 0.3], &[5, 5, 0]);
        network.generate();
        let other = log_rates(network.as_mut());
        assert!(
            largest_difference(&first, &other) > 1e-4,
            "{decoder:?}: the spikes make no difference"
        );
        assert_eq!(first, case.generate(network.as_mut()), "{decoder:?}");
    }
}

/// One thread and several give the same numbers to rounding; backends agree on odd sizes.
#[test]
fn backends_agree_on_sizes_that_no_golden_case_has() {
    // (head size, bins, units, spikes)
    let sizes = [
        (2, 3, 1, 0),
        (6, 1, 1, 17),
        (10, 50, 3, 5),
        (20, 4, 300, 900),
        (48, 9, 33, 0),
        (64, 2, 65, 257),
    ];
    for decoder in DECODERS {
        for (dim_head, bins, units, spikes) in sizes {
            let case = Case::new(&config(decoder, dim_head, bins), units, spikes, 5);
            let reference = case.generate(case.network(BackendKind::Reference, Precision::F32).as_mut());
            for (precision, bound) in [(Precision::F32, 1e-4), (Precision::F16, 2e-2), (Precision::Bf16, 2e-1)] {
                let fast = case.generate(case.network(BackendKind::Cpu, precision).as_mut());
                let difference = largest_difference(&reference, &fast);
                assert!(
                    difference < bound,
                    "{decoder:?} {dim_head} {bins} {units} {spikes} {precision:?}: {difference}"
                );
            }
        }
    }
}
