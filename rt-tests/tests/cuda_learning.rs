//! Learning through the PTX kernels: the loss and every gradient of the whole network, against the reference.

use std::time::Duration;

use emulator::TestDevice;
use kernels::cpu::{CpuBackend, CpuOptions};
use kernels::cuda::{CudaBackend, CudaOptions};
use kernels::reference::Reference;
use kernels::tape::DropRates;
use neurohorizon::model::config::{Decoder, ModelConfig};
use rt_tests::tiny::{config, history, readouts, Case, DECODERS};

/// Of a gradient's elements, relative to the largest of its tensor: FP32 sums in another order, approximate exponentials.
const BOUND: f64 = 1e-4;

/// Or so many times what the CPU backend is off, whose sums are FP32 too: the first slot of a memory is zeros, and the
/// derivative of a LayerNorm of zeros is large.
const TIMES_CPU: f64 = 8.0;

fn agrees(case: &Case, rates: DropRates) {
    let options = CudaOptions {
        half: false,
        patience: Duration::from_secs(1000),
    };
    let (expected_loss, expected) = case.learn(Reference::<f64>::default(), rates);
    let (_, on_cpu) = case.learn(CpuBackend::new(CpuOptions::default()), rates);
    let (loss, found) = case.learn(CudaBackend::new(TestDevice::new(), options), rates);
    assert!(
        (loss - expected_loss).abs() <= 1e-5 * expected_loss.abs(),
        "loss {loss}, expected {expected_loss}"
    );
    assert_eq!(expected.len(), found.len());
    for (name, expected) in &expected {
        let largest = expected.iter().fold(1e-3f64, |most, g| most.max(g.abs()));
        let of_cpu = expected.iter().zip(&on_cpu[name]).map(|(e, c)| (e - c).abs());
        let bound = of_cpu.fold(BOUND * largest, |most, off| most.max(TIMES_CPU * off));
        for (i, (e, f)) in expected.iter().zip(&found[name]).enumerate() {
            assert!(
                (e - f).abs() <= bound,
                "{name}[{i}]: {f}, expected {e}, largest {largest}"
            );
        }
    }
}

#[test]
fn every_decoder() {
    for decoder in DECODERS {
        println!("{decoder:?}");
        agrees(&Case::new(decoder), DropRates::default());
    }
}

#[test]
fn with_recent_history_and_dropout() {
    let rates = DropRates {
        hidden: 0.2,
        weights: 0.3,
        residual: 0.4,
    };
    let config = ModelConfig {
        history: Some(history()),
        readouts: readouts(),
        ..config(Decoder::PredictionMemory)
    };
    agrees(&Case::of(config), rates);
}
