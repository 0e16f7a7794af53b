//! A runtime with something broken in it that no file of the real one can break: a GPU that hangs, weights that are not numbers.
//! The library's own run with the bridge before it; only the predictor is not what it should be.

use std::io::{Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::Arc;
use std::time::Duration;

use kernels::cuda::{CudaBackend, CudaOptions};
use kernels::Precision;
use neurohorizon::acquire::bridge::{Bridge, BridgeConfig, Carrier};
use neurohorizon::acquire::wire::ClockConfig;
use neurohorizon::model::checkpoint::{Checkpoint, Stored};
use neurohorizon::model::network::{Network, SessionPlan};
use neurohorizon::model::{build, BuildOptions, UnitMatch};
use neurohorizon::pipeline::network::NetworkPredictor;
use neurohorizon::pipeline::{NullModel, Predictor, PublishConfig, Run, RunConfig};

use super::child::{command, end_with_the_parent};
use super::runtime::{Ends, Runtime};
use crate::breaking::Fault;
use crate::idle::IdleDevice;

/// The role.
pub const ROLE: &str = "rt-faulty";
/// Units of the network that breaks.
pub const UNITS: u32 = 4;
/// Its bins, ms.
pub const BIN_MS: f64 = 20.0;
/// Predictions before the device hangs, after the warm-up's two.
const GOOD: usize = 2 + 10;
/// How long the device's answer is waited for.
const PATIENCE: Duration = Duration::from_millis(50);
/// Spikes of a window.
const MAX_SPIKES: usize = 64;

/// What is broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Broken {
    /// The GPU gives no answer any more. A device that computes nothing plays it: the emulator takes longer than a bin.
    GpuHangs,
    /// Weights are not numbers.
    NanWeights,
}

fn golden() -> Result<Checkpoint, String> {
    let file = crate::golden().join("prediction_memory.ckpt");
    Checkpoint::load(&file).map_err(|error| error.to_string())
}

/// The same with weights of which one in seven is not a number.
fn poisoned(mut checkpoint: Checkpoint) -> Checkpoint {
    for tensor in checkpoint.tensors.values_mut() {
        tensor.data.iter_mut().step_by(7).for_each(|weight| *weight = f32::NAN);
    }
    checkpoint
}

/// A file of them, which no runtime is to take.
///
/// # Errors
/// What did not work, in words.
pub fn poisoned_file(folder: &Path) -> Result<PathBuf, String> {
    let file = folder.join("nan.safetensors");
    let bytes = poisoned(golden()?)
        .to_safetensors(Stored::F32)
        .map_err(|error| error.to_string())?;
    std::fs::write(&file, bytes).map_err(|error| error.to_string())?;
    Ok(file)
}

/// The network of the demonstration with other weights: another model of the same shape.
///
/// # Errors
/// What did not work, in words.
pub fn another_model(folder: &Path) -> Result<PathBuf, String> {
    let file = crate::root().join("configs/demo.safetensors");
    let mut checkpoint = Checkpoint::load(&file).map_err(|error| error.to_string())?;
    for (name, tensor) in &mut checkpoint.tensors {
        if name.ends_with("weight") {
            tensor.data.iter_mut().for_each(|weight| *weight *= 0.99);
        }
    }
    let bytes = checkpoint
        .to_safetensors(Stored::F32)
        .map_err(|error| error.to_string())?;
    let other = folder.join("another.safetensors");
    std::fs::write(&other, bytes).map_err(|error| error.to_string())?;
    Ok(other)
}

fn predictor(broken: Broken) -> Result<NetworkPredictor, String> {
    let words = |error: &dyn std::fmt::Display| error.to_string();
    let checkpoint = golden()?;
    let ids = &checkpoint.unit_ids[1..=UNITS as usize];
    let matched = UnitMatch::new(&checkpoint, ids, None).map_err(|error| words(&error))?;
    let options = BuildOptions {
        max_spikes: MAX_SPIKES,
        ..BuildOptions::default()
    };
    let built = match broken {
        Broken::NanWeights => {
            let checkpoint = poisoned(checkpoint);
            let network = build(&checkpoint, &matched.rows, &options).map_err(|error| words(&error))?;
            NetworkPredictor::of(&checkpoint, "with weights that are not numbers", matched, network, None)
        }
        Broken::GpuHangs => {
            let plan = SessionPlan {
                unit_rows: matched.rows.clone(),
                reference: None,
                bins: checkpoint.config.bins(),
                max_spikes: MAX_SPIKES,
                precision: Precision::F16,
            };
            let device = IdleDevice::breaking_at_replay(GOOD, Fault::Hangs);
            let backend = CudaBackend::new(
                device,
                CudaOptions {
                    half: true,
                    patience: PATIENCE,
                },
            );
            let standby = build(&checkpoint, &matched.rows, &options).map_err(|error| words(&error))?;
            let network = Box::new(Network::new(backend, &checkpoint, plan));
            NetworkPredictor::of(&checkpoint, "on a device that hangs", matched, network, Some(standby))
        }
    };
    built.map_err(|error| words(&error))
}

/// Starts one.
///
/// # Errors
/// What did not work, in words.
pub fn start(broken: Broken, lateness_ms: f64) -> Result<Runtime, String> {
    let problem = |error: std::io::Error| format!("the runtime cannot be started: {error}");
    let device = super::runtime::free_udp().map_err(problem)?;
    let endpoint = crate::subscriber::free_endpoint();
    let mut command = command(ROLE).map_err(problem)?;
    let word = match broken {
        Broken::GpuHangs => "gpu-hangs",
        Broken::NanWeights => "nan-weights",
    };
    command.args([word, &device.to_string(), &endpoint, &lateness_ms.to_string()]);
    Runtime::of(&mut command, device, endpoint, None, Ends::ByInput)
}

/// The role: `gpu-hangs|nan-weights LISTEN ENDPOINT LATENESS`. Ends with its input; prints the run's summary.
///
/// # Errors
/// What did not work, in words.
pub fn run(arguments: &[String]) -> Result<(), String> {
    end_with_the_parent().map_err(|error| error.to_string())?;
    let [word, listen, endpoint, lateness_ms] = arguments else {
        return Err("rt-faulty gpu-hangs|nan-weights LISTEN ENDPOINT LATENESS_MS".into());
    };
    let broken = match word.as_str() {
        "gpu-hangs" => Broken::GpuHangs,
        "nan-weights" => Broken::NanWeights,
        other => return Err(format!("nothing is known of {other}")),
    };
    let listen: SocketAddr = listen.parse().map_err(|_| format!("{listen} is no address"))?;
    let lateness_ms: f64 = lateness_ms.parse().map_err(|_| format!("{lateness_ms} ms"))?;
    let predictor = predictor(broken)?;
    let ids = predictor.unit_ids().to_vec();
    let source = Bridge::new(&BridgeConfig {
        carrier: Carrier::Udp {
            listen,
            predictions_back: false,
        },
        device_id: None,
        clock_exchange: false,
        units: ids
            .iter()
            .enumerate()
            .map(|(channel, id)| format!("{channel}:1={id}"))
            .collect(),
        series: Vec::new(),
        clock: ClockConfig {
            speed: 1.0,
            lateness_ns: (lateness_ms * 1e6) as i64,
            end_ns: None,
        },
    });
    let source = source.map_err(|error| error.to_string())?;
    let null = NullModel {
        log_rates: vec![-1.0; ids.len()],
        last_bin_ns: predictor.last_bin_ns(),
    };
    let config = RunConfig::new(PublishConfig {
        wait_for_subscriber: Duration::from_secs(10),
        ..PublishConfig::at(endpoint)
    });
    let stop = Arc::<AtomicBool>::default();
    std::thread::spawn({
        let stop = stop.clone();
        move || {
            let mut nothing = Vec::new();
            let _ = std::io::stdin().read_to_end(&mut nothing);
            stop.store(true, Relaxed);
        }
    });
    let run = Run::start(&config, vec![Box::new(source)], Box::new(predictor), &null, stop);
    let summary = run.map_err(|error| error.to_string())?.join();
    let json = serde_json::to_string(&summary).map_err(|error| error.to_string())?;
    writeln!(std::io::stdout(), "{json}").map_err(|error| error.to_string())
}
