//! `neurohorizon bench`: how fast predictions are on this machine, and what the floor is.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use kernels::cpu::{CpuBackend, CpuOptions};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use super::{print_json, progress_bar, CliError, ComputeArgs};
use crate::evaluate::speed::{gemm_gflops, time, SpeedReport};
use crate::model::checkpoint::Checkpoint;
use crate::model::config::{Decoder, Feedback, ModelConfig};
use crate::model::{build, BackendKind, BuildOptions};
use crate::pipeline::{ingest_benchmark, IngestReport};
use crate::train::speed::{measure, TrainingSpeed};

/// Time predictions on this machine, beside the floor
///
/// Times whole generations (spikes in host memory to log rates of every bin in host memory) of the reference's "small" model at 12 and 50 bins, with
/// prediction memory and without feedback, or of a given checkpoint at its own horizon and at the longest that it allows.
/// The floor is the number of operations over the rate at which the CPU multiplies large matrices with the same threads and
/// weights; there is none for a GPU. `encode` and `generate` are the two parts, each waited for. Also measures how fast events go through a ring into closed bins, and how fast training goes (dim
/// 64, 2 + 2 layers, 80 latents, 173 units, 32 windows of 900 tokens and 12 bins a step).
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  neurohorizon bench\n  \
                        neurohorizon bench my.ckpt --threads 2 --weights f16 --repetitions 500 --json")]
pub struct BenchArgs {
    /// Checkpoint to time [default: the reference's "small" sizes with random weights]
    checkpoint: Option<PathBuf>,
    /// Spikes in the window
    #[arg(long, default_value_t = 224)]
    spikes: usize,
    /// Timed generations a case
    #[arg(long, default_value_t = 200)]
    repetitions: usize,
    /// Timed optimiser steps of training, with dropout and without; 0 leaves them out
    #[arg(long, default_value_t = 20)]
    training_steps: u64,
    /// Events of the ingest measurement
    #[arg(long, default_value_t = 20_000_000)]
    events: u64,
    #[command(flatten)]
    compute: ComputeArgs,
    /// Print one JSON object: cases[].name, .median_ms, .p99_ms, .floor_ms, .encode, .generate, .operations,
    /// .gemm_gflops; ingest; training[].steps_per_s; backend
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    backend: String,
    cases: Vec<SpeedReport>,
    ingest: IngestReport,
    training: Vec<TrainingSpeed>,
}

/// Units of the random model, as many as in the reference's benchmark case.
const UNITS: usize = 64;

/// The reference's "small" sizes, see model.md §1 of the specification: 250 ms in 20 ms bins.
fn small(decoder: Decoder) -> ModelConfig {
    ModelConfig {
        sequence_length: 0.75,
        pred_window: 0.25,
        dim: 128,
        dim_head: 64,
        enc_depth: 6,
        dec_depth: 2,
        num_latents_per_step: 32,
        decoder,
        ..ModelConfig::default()
    }
}

/// Runs the subcommand.
pub fn run(args: &BenchArgs) -> Result<ExitCode, CliError> {
    if args.repetitions == 0 {
        return Err(CliError::Config("--repetitions must be at least 1".into()));
    }
    let models = match &args.checkpoint {
        Some(path) => {
            let name = path
                .file_stem()
                .map_or_else(String::new, |stem| stem.to_string_lossy().into_owned());
            vec![(name, Checkpoint::load(path)?)]
        }
        None => [
            ("small_prediction_memory", Decoder::PredictionMemory),
            ("small_no_feedback", Decoder::QueryAug(Feedback::None)),
        ]
        .map(|(name, decoder)| (name.to_string(), Checkpoint::random(&small(decoder), UNITS, 1)))
        .into(),
    };
    let options = args.compute.options()?;
    let gflops = match options.backend {
        BackendKind::Cpu | BackendKind::Reference => {
            let mut backend = CpuBackend::new(CpuOptions {
                threads: options.threads,
                ..CpuOptions::default()
            });
            Some(gemm_gflops(&mut backend, options.precision)?)
        }
        BackendKind::Cuda => None,
    };

    let mut cases = Vec::new();
    let mut description = String::new();
    let bar = progress_bar(args.json, "cases");
    bar.set_length(2 * models.len() as u64);
    for (name, checkpoint) in &models {
        let mut horizons = vec![checkpoint.config.bins(), checkpoint.config.max_pred_bins];
        horizons.dedup();
        for bins in horizons {
            let options = BuildOptions {
                bins: Some(bins),
                ..options.clone()
            };
            let rows: Vec<usize> = (1..checkpoint.unit_ids.len()).collect();
            let mut network = build(checkpoint, &rows, &options)?;
            let (times, units) = random_spikes(args.spikes.min(options.max_spikes), rows.len(), network.config());
            let name = format!("{name}_{bins}_bins");
            cases.push(time(&name, network.as_mut(), &times, &units, args.repetitions, gflops)?);
            description = network.describe();
            bar.inc(1);
        }
    }
    bar.finish_and_clear();
    let dropouts = if args.training_steps > 0 {
        &[true, false][..]
    } else {
        &[]
    };
    let training = dropouts
        .iter()
        .map(|&dropout| measure(options.backend, options.threads, args.training_steps, dropout))
        .collect::<Result<_, _>>()?;
    let report = Report {
        backend: description,
        cases,
        ingest: ingest_benchmark(args.events),
        training,
    };
    if args.json {
        print_json(&report)?;
    } else {
        print_report(&report);
    }
    Ok(ExitCode::SUCCESS)
}

/// Spikes spread evenly over the history, sorted, seeded.
fn random_spikes(count: usize, units: usize, config: &ModelConfig) -> (Vec<f64>, Vec<u32>) {
    let mut random = ChaCha8Rng::seed_from_u64(7);
    let mut times: Vec<f64> = (0..count)
        .map(|_| random.random_range(0.0..config.history_s()))
        .collect();
    times.sort_by(f64::total_cmp);
    let units = (0..count).map(|_| random.random_range(0..units as u32)).collect();
    (times, units)
}

fn print_report(report: &Report) {
    say!("{}", report.backend);
    say!(
        "{:<36} {:>9} {:>9} {:>9} {:>7} {:>9} {:>9} {:>8}",
        "case",
        "median ms",
        "p99 ms",
        "floor ms",
        "ratio",
        "encode",
        "generate",
        "GFLOP"
    );
    for case in &report.cases {
        let or_dash = |value: Option<f64>, decimals| value.map_or("-".into(), |value| format!("{value:.decimals$}"));
        say!(
            "{:<36} {:>9.3} {:>9.3} {:>9} {:>7} {:>9.3} {:>9.3} {:>8.3}",
            case.name,
            case.whole.median_ms,
            case.whole.p99_ms,
            or_dash(case.floor_ms, 3),
            or_dash(case.floor_ms.map(|floor| case.whole.median_ms / floor), 2),
            case.encode.median_ms,
            case.generate.median_ms,
            case.operations.total() as f64 * 1e-9,
        );
    }
    if let Some(gflops) = report.cases.first().and_then(|case| case.gemm_gflops) {
        say!("floor: operations over {gflops:.1} GFLOP/s, the best measured matrix product");
    }
    for training in &report.training {
        say!(
            "training: {:.2} steps a second on the CPU ({}; median {:.0} ms, slowest {:.0} ms of {})",
            training.steps_per_s,
            if training.dropout {
                "with dropout"
            } else {
                "without dropout"
            },
            training.median_ms,
            training.slowest_ms,
            training.steps
        );
    }
    say!(
        "ingest: {:.1} million events a second from one source through its ring into closed bins, on one core",
        report.ingest.events_per_s * 1e-6
    );
}
