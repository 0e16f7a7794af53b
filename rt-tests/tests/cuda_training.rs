//! The trainer on the PTX kernels: the CPU's steps, and no more memory from step to step.

use std::sync::atomic::Ordering;
use std::time::Duration;

use emulator::{EmulatorOptions, TestDevice};
use kernels::cuda::driver::Driver;
use kernels::cuda::{CudaBackend, CudaOptions};
use neurohorizon::model::BackendKind;
use neurohorizon::train::config::TrainConfig;
use neurohorizon::train::learner::{learners, Learner, OnTape};
use neurohorizon::train::prepare::Preparer;
use neurohorizon::train::set_up::training_set;
use neurohorizon::train::trainer::{Event, Trainer};
use rt_tests::breaking::BreakingDevice;

/// A small network that is fed its own counts, with everything dropped that can be.
const CONFIG: &str = r#"
[data.simulate]
units = 5
seed = 3
train_s = 20.0
validate_s = 8.0

[model]
horizon_bins = 3
history_ms = 200.0
dim = 16
dim_head = 8
cross_heads = 1
self_heads = 2
processor_layers = 1
decoder_layers = 1
latents_per_step = 2

[training]
steps = 6
batch = 3
validation_windows = 2

[dropout]
population = 0.2

[exposure]
own = 1.0
"#;

/// Steps that are taken.
const STEPS: usize = 5;

fn on_device<D: Driver + Send + 'static>(device: D, config: &TrainConfig) -> Box<dyn Learner> {
    let options = CudaOptions {
        half: false,
        patience: Duration::from_secs(1000),
    };
    Box::new(OnTape::new(CudaBackend::new(device, options), config.drop_rates()))
}

/// Loss and norm of the gradient of every step, and the bits per spike of a validation at the end; `each` runs after a step.
fn figures(learners: Vec<Box<dyn Learner>>, mut each: impl FnMut()) -> (Vec<(f64, f64)>, f64) {
    let config = TrainConfig::parse("test", CONFIG).unwrap();
    let (set, hash) = training_set(&config).unwrap();
    let (first_ns, step_ns) = (set.recordings()[0].grid_origin_ns, set.shape().bin_ns);
    let shared = std::sync::Arc::new(set.clone());
    let preparer = Preparer::new(shared.clone(), &config.model_config().unwrap(), None);
    let batch: Vec<_> = (0..config.training.batch as i64)
        .map(|number| {
            preparer.to_learn(
                shared.window(0, first_ns + 50 * number * step_ns),
                None,
                number as u64,
                &config.dropout,
            )
        })
        .collect();
    let mut trainer = Trainer::new(config, set, hash, learners, false).unwrap();
    let steps = (0..STEPS).map(|_| {
        let event = trainer.take_step(&batch).unwrap();
        each();
        match event {
            Event::Step {
                loss, gradient_norm, ..
            } => (loss, gradient_norm),
            Event::Validated { .. } => unreachable!("a step validates nothing"),
        }
    });
    let steps = steps.collect();
    (steps, trainer.validate().unwrap().bits_per_spike.unwrap())
}

#[test]
fn steps_are_those_of_the_cpu() {
    let config = TrainConfig::parse("test", CONFIG).unwrap();
    let (cpu, cpu_score) = figures(learners(&config, BackendKind::Cpu).unwrap(), || {});
    let (found, score) = figures(vec![on_device(TestDevice::new(), &config)], || {});
    for ((loss, norm), (cpu_loss, cpu_norm)) in found.iter().zip(&cpu) {
        assert!(
            (loss - cpu_loss).abs() < 1e-4 * cpu_loss.abs(),
            "{found:?}, expected {cpu:?}"
        );
        assert!((norm - cpu_norm).abs() < 1e-3 * cpu_norm, "{found:?}, expected {cpu:?}");
    }
    assert!(cpu[0].0 > cpu[STEPS - 1].0, "it learns: {cpu:?}");
    assert!((score - cpu_score).abs() < 1e-3, "{score}, expected {cpu_score}");
}

#[test]
fn steps_take_no_more_memory() {
    let config = TrainConfig::parse("test", CONFIG).unwrap();
    let device = BreakingDevice::watched(TestDevice::with(EmulatorOptions::default()));
    let taken = device.taken();
    let mut after = Vec::new();
    figures(vec![on_device(device, &config)], || {
        after.push(taken.load(Ordering::Relaxed))
    });
    assert!(after[0] > 0);
    assert_eq!(after[1], after[STEPS - 1], "bytes taken after each step: {after:?}");
}
