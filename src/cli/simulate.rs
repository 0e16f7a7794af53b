//! `neurohorizon simulate`: a session of the built-in population as a recording.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use super::{print_json, CliError};
use crate::acquire::simulate::archive::archive;
use crate::acquire::simulate::SimulationConfig;
use crate::train::state::write_whole;

/// Longest session, s: its true rates are kept in memory.
const MOST_S: f64 = 100_000.0;

/// Write a session of simulated motor-cortex-like units as a recording
///
/// Spikes, the hand's position and velocity at 100 Hz, and every unit's true rate, which `eval` and `transfer` score beside
/// the models. Another seed is another population at another sequence of reaches; the same seed gives the same bytes, and the
/// beginning of a longer session is the shorter one.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  neurohorizon simulate --seed 7 --seconds 300 --out session.npz\n  \
                  neurohorizon eval model.safetensors session.npz"
)]
pub struct SimulateArgs {
    /// Seed of the units' tuning, the reaches and the spikes
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Units
    #[arg(long, default_value_t = 96)]
    units: usize,
    /// Length, s
    #[arg(long, default_value_t = 120.0)]
    seconds: f64,
    /// The file that is written (.npz)
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Print one JSON object: units, seconds, bytes, out
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report<'a> {
    units: usize,
    seconds: f64,
    bytes: usize,
    out: &'a PathBuf,
}

/// Runs the subcommand.
pub fn run(args: &SimulateArgs) -> Result<ExitCode, CliError> {
    if !(args.seconds >= 0.01 && args.seconds <= MOST_S) {
        return Err(CliError::Config(format!(
            "--seconds is {}, expected 0.01 to {MOST_S}",
            args.seconds
        )));
    }
    let config = SimulationConfig {
        n_units: args.units,
        ..SimulationConfig::default()
    };
    let bytes = archive(&config, args.seed, (args.seconds * 1e9).round() as i64)?;
    write_whole(&args.out, &bytes)?;
    if args.json {
        print_json(&Report {
            units: args.units,
            seconds: args.seconds,
            bytes: bytes.len(),
            out: &args.out,
        })?;
    } else {
        say!("{} s of {} units: {}", args.seconds, args.units, args.out.display());
    }
    Ok(ExitCode::SUCCESS)
}
