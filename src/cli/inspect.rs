//! `neurohorizon inspect`: what a checkpoint holds.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use super::{print_json, CliError};
use crate::model::checkpoint::Checkpoint;

/// Show what a checkpoint holds: sizes, variant, units, tensors
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  neurohorizon inspect model.ckpt\n  neurohorizon inspect model.safetensors --json")]
pub struct InspectArgs {
    /// Checkpoint: a .ckpt of the reference model, or .safetensors
    checkpoint: PathBuf,
    /// Print one JSON object: config, units, sessions, epoch, global_step, parameters, stored, hash, tensors[], unused[]
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    config: serde_json::Value,
    units: Vec<String>,
    sessions: Vec<String>,
    epoch: u64,
    global_step: u64,
    parameters: usize,
    stored: String,
    hash: String,
    has_null_rates: bool,
    tensors: Vec<TensorReport>,
    unused: Vec<String>,
}

#[derive(Serialize)]
struct TensorReport {
    name: String,
    shape: Vec<usize>,
}

/// Runs the subcommand.
pub fn run(args: &InspectArgs) -> Result<ExitCode, CliError> {
    let checkpoint = Checkpoint::load(&args.checkpoint)?;
    let report = Report {
        config: checkpoint.config.to_json(),
        units: checkpoint.unit_ids.iter().skip(1).cloned().collect(),
        sessions: checkpoint.session_ids.iter().skip(1).cloned().collect(),
        epoch: checkpoint.epoch,
        global_step: checkpoint.global_step,
        parameters: checkpoint.tensors.values().map(|tensor| tensor.data.len()).sum(),
        stored: checkpoint.stored.to_string(),
        hash: format!("{:016x}", checkpoint.hash),
        has_null_rates: checkpoint.null_log_rates.is_some(),
        tensors: checkpoint
            .tensors
            .iter()
            .map(|(name, tensor)| TensorReport {
                name: name.clone(),
                shape: tensor.shape.clone(),
            })
            .collect(),
        unused: checkpoint.unused.clone(),
    };
    if args.json {
        print_json(&report)?;
    } else {
        print_report(args, &report);
    }
    Ok(ExitCode::SUCCESS)
}

fn print_report(args: &InspectArgs, report: &Report) {
    say!("{}", args.checkpoint.display());
    say!("stored      {}, hash {}", report.stored, report.hash);
    say!("trained     epoch {}, step {}", report.epoch, report.global_step);
    say!("parameters  {} in {} tensors", report.parameters, report.tensors.len());
    say!("units       {}", summary(&report.units));
    say!("sessions    {}", summary(&report.sessions));
    say!(
        "null rates  {}",
        if report.has_null_rates { "of every unit" } else { "none" }
    );
    if let Some(config) = report.config.as_object() {
        config.iter().for_each(|(key, value)| say!("  {key:<24} {value}"));
    }
    report
        .tensors
        .iter()
        .for_each(|tensor| say!("  {:<56} {:?}", tensor.name, tensor.shape));
    report
        .unused
        .iter()
        .for_each(|name| say!("  {name:<56} not used by the network"));
}

fn summary(names: &[String]) -> String {
    match names {
        [] => "none".into(),
        [only] => format!("1: {only}"),
        [first, .., last] => format!("{}: {first} … {last}", names.len()),
    }
}
