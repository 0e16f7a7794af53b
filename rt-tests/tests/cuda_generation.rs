//! The autoregressive part of a prediction as one launch, against the reference backend with the same weights: every way to
//! feed counts back, on sizes that no golden case has, and what the decoder's machine declines. Emulated with and without
//! clusters, or on a GPU with `NEUROHORIZON_TEST_DEVICE=cuda`.

use std::time::Duration;

use emulator::{EmulatorOptions, MmaModel, TestDevice};
use kernels::cuda::driver::Driver;
use kernels::cuda::{CudaBackend, CudaOptions};
use kernels::reference::ReferenceBackend;
use kernels::{Backend, Precision};
use neurohorizon::model::checkpoint::Checkpoint;
use neurohorizon::model::config::{Decoder, Feedback, ModelConfig};
use neurohorizon::model::network::{Network, SessionPlan};
use rt_tests::breaking::BreakingDevice;
use rt_tests::tiny::{config, history};

const FEEDBACKS: [Decoder; 5] = [
    Decoder::PredictionMemory,
    Decoder::LocalPredictionMemory,
    Decoder::QueryAug(Feedback::MlpPool),
    Decoder::QueryAug(Feedback::RateWeighted),
    Decoder::QueryAug(Feedback::CrossAttn),
];

/// Weights are FP16 on both sides and everything else as good as FP32: the order of sums differs, and tensor cores cut sums off.
const BOUND: f32 = 3e-5;

/// An emulated device takes its time.
const PATIENCE: Duration = Duration::from_secs(1000);

/// A network of random weights, and what it sees.
struct Case {
    checkpoint: Checkpoint,
    plan: SessionPlan,
    /// ln of each unit's mean count, where the network sees recent history.
    log_means: Option<Vec<f32>>,
}

impl Case {
    fn new(config: ModelConfig, units: usize, bins: usize, precision: Precision) -> Self {
        Case {
            checkpoint: Checkpoint::random(&config, units, 7),
            plan: SessionPlan {
                unit_rows: (1..=units).collect(),
                reference: None,
                bins,
                max_spikes: 8,
                precision,
            },
            log_means: None,
        }
    }

    /// With a path of recent history, in which unit i's mean count is `exp(log_mean(i))`.
    fn with_history(config: ModelConfig, units: usize, bins: usize, log_mean: impl Fn(usize) -> f32) -> Self {
        let config = ModelConfig {
            history: Some(history()),
            ..config
        };
        Case {
            log_means: Some((0..units).map(log_mean).collect()),
            ..Case::new(config, units, bins, Precision::F16)
        }
    }

    /// With all inputs taken in, ready to generate.
    fn network<B: Backend>(&self, backend: B) -> Network<B> {
        let mut network = Network::new(backend, &self.checkpoint, self.plan.clone());
        let units = self.plan.unit_rows.len();
        if let Some(log_means) = &self.log_means {
            let features: Vec<f32> = (0..units)
                .flat_map(|i| {
                    [
                        0.1 * (i % 5) as f32,
                        -0.2,
                        0.3 - 0.1 * (i % 3) as f32,
                        1.0,
                        log_means[i],
                    ]
                })
                .collect();
            let population: Vec<f32> = (0..2 * units).map(|i| 0.05 * (i % 7) as f32 - 0.1).collect();
            network.set_history(&features, &population);
        }
        let spiking: Vec<u32> = (0..6).map(|i| (3 * i) % units as u32).collect();
        network.encode(&[0.01, 0.02, 0.035, 0.05, 0.07, 0.09], &spiking);
        network
    }

    fn log_rates<B: Backend>(&self, network: &mut Network<B>) -> Vec<f32> {
        let mut out = vec![0.0; self.plan.bins * self.plan.unit_rows.len()];
        network.log_rates(&mut out).expect("nothing fails");
        out
    }

    fn expected(&self) -> Vec<f32> {
        let mut network = self.network(ReferenceBackend::default());
        network.generate();
        self.log_rates(&mut network)
    }

    /// What a device generates, and the kernels that it launches for that.
    fn generated(&self, device: TestDevice) -> (Vec<f32>, Vec<String>) {
        let device = BreakingDevice::watched(device);
        let launched = device.launched();
        // Attention in FP32, for the latents to be as exact as what is generated from them.
        let options = CudaOptions {
            half: false,
            patience: PATIENCE,
        };
        let mut network = self.network(CudaBackend::new(device, options));
        let before = launched.lock().unwrap().len();
        network.generate();
        let kernels = launched.lock().unwrap()[before..].to_vec();
        let log_rates = self.log_rates(&mut network);
        network.generate();
        let again = self.log_rates(&mut network);
        let bits = |rates: &[f32]| rates.iter().map(|rate| rate.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&log_rates), bits(&again), "a prediction leaves something behind");
        (log_rates, kernels)
    }

    /// Asserts that one launch makes the reference's log rates, with NaN where it has NaN.
    fn one_launch_agrees(&self, what: &str) {
        let expected = self.expected();
        for device in devices() {
            let compute = device.capability().compute;
            let (found, kernels) = self.generated(device);
            // Without clusters blocks meet at a counter, which is set to zero first.
            let launches: &[&str] = if compute >= 90 {
                &["decode"]
            } else {
                &["fill", "decode"]
            };
            assert_eq!(kernels, launches, "sm_{compute} {what}");
            assert_agree(&expected, &found, &format!("sm_{compute} {what}"));
        }
    }

    /// Asserts that a device generates the reference's log rates without the machine.
    fn is_declined(&self, device: TestDevice, what: &str) {
        let (found, kernels) = self.generated(device);
        assert!(!kernels.iter().any(|kernel| kernel == "decode"), "{what}");
        assert_agree(&self.expected(), &found, what);
    }
}

fn assert_agree(expected: &[f32], found: &[f32], what: &str) {
    for (i, (expected, found)) in expected.iter().zip(found).enumerate() {
        let agree = (expected - found).abs() <= BOUND || (expected.is_nan() && found.is_nan());
        assert!(agree, "{what}: log rate {i} is {found}, not {expected}");
    }
}

/// Both ways in which blocks meet, warps in orders of their own; or the GPU.
fn devices() -> Vec<TestDevice> {
    if std::env::var_os("NEUROHORIZON_TEST_DEVICE").is_some() {
        return vec![TestDevice::new()];
    }
    [(80, 3, MmaModel::F64), (90, 4, MmaModel::Truncating)]
        .map(|(compute, seed, mma)| {
            TestDevice::with(EmulatorOptions {
                compute,
                seed,
                mma,
                ..EmulatorOptions::default()
            })
        })
        .into()
}

fn emulated() -> TestDevice {
    TestDevice::with(EmulatorOptions::default())
}

/// Fewer units than blocks, a unit, a bin; more units a block than a product stages rows of at a time.
#[test]
fn odd_sizes() {
    // (D, units, bins)
    let sizes = [(8, 1, 1), (24, 1, 3), (16, 5, 4), (24, 13, 1), (8, 67, 2), (16, 140, 3)];
    for decoder in FEEDBACKS {
        for (dim, units, bins) in sizes {
            let config = ModelConfig { dim, ..config(decoder) };
            let what = format!("{decoder:?}: D {dim}, {units} units, {bins} bins");
            Case::new(config, units, bins, Precision::F16).one_launch_agrees(&what);
        }
    }
}

#[test]
fn with_recent_history() {
    for decoder in FEEDBACKS {
        for units in [3, 13, 75] {
            let config = ModelConfig {
                dim: 16,
                self_heads: 3,
                ..config(decoder)
            };
            let case = Case::with_history(config, units, 3, |i| -2.0 + 0.3 * (i % 8) as f32);
            case.one_launch_agrees(&format!("{decoder:?}: {units} units"));
        }
    }
}

/// Expected counts from e⁻¹⁰ to e¹⁰, the limits of a log rate: the softmax of such counts is none of a careless sum.
#[test]
fn counts_of_every_size() {
    for decoder in FEEDBACKS {
        for largest in [4.0, 8.0, 14.0] {
            let case = Case::with_history(
                config(decoder),
                11,
                3,
                |i| if i == 6 { largest } else { -1.3 * i as f32 },
            );
            case.one_launch_agrees(&format!("{decoder:?}: e^{largest}"));
        }
    }
}

/// A unit whose rate is no number, alone in its block: whoever attends to it must hear of it.
#[test]
fn no_number_stays_none() {
    for decoder in FEEDBACKS {
        let case = Case::with_history(config(decoder), 5, 2, |i| if i == 2 { f32::NAN } else { -1.0 });
        let expected = case.expected();
        assert!(expected[5..].iter().all(|rate| rate.is_nan()) && !expected[1].is_nan());
        case.one_launch_agrees(&format!("{decoder:?}"));
    }
}

#[test]
fn what_the_machine_declines() {
    for decoder in FEEDBACKS {
        let tiny = config(decoder);
        let case = |config| Case::new(config, 5, 2, Precision::F16);
        Case::new(tiny.clone(), 5, 2, Precision::F32).is_declined(emulated(), &format!("{decoder:?}: FP32 weights"));
        let narrow = ModelConfig {
            dim_head: 6,
            ..tiny.clone()
        };
        case(narrow).is_declined(emulated(), &format!("{decoder:?}: heads of six channels"));
        // `cross_attn` has four heads, and heads of three channels cannot be had on CUDA at all.
        if decoder != Decoder::QueryAug(Feedback::CrossAttn) {
            let uneven = ModelConfig {
                dim: 12,
                ..tiny.clone()
            };
            case(uneven).is_declined(emulated(), &format!("{decoder:?}: twelve channels"));
        }
        let seeing_ahead = ModelConfig {
            causal: false,
            ..tiny.clone()
        };
        case(seeing_ahead).is_declined(emulated(), &format!("{decoder:?}: no causal mask"));
        let many = Case::new(tiny, 1500, 2, Precision::F16);
        let small = TestDevice::with(EmulatorOptions {
            shared_bytes: 20_000,
            ..EmulatorOptions::default()
        });
        many.is_declined(small, &format!("{decoder:?}: 20 kB of shared memory"));
        many.one_launch_agrees(&format!("{decoder:?}: 1500 units"));
    }
}
