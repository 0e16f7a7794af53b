//! `neurohorizon calibrate`: a checkpoint for a session that it never saw.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Instant;

use clap::Args;
use serde::Serialize;

use super::{print_json, CliError};
use crate::data::{Interval, Position, Recording};
use crate::model::checkpoint::{Checkpoint, Stored};
use crate::model::identity::{identified, reference_of, set_refine, without_encoder, IdentityError};
use crate::train::state::write_whole;

/// Compute the units' identities in a session that the network never saw, without a gradient
///
/// From some seconds of every unit's activity, in one forward pass, and refined by the same seconds where the checkpoint was trained
/// with `refine`, or --refine says so. The checkpoint that is written knows this session's units
/// by their ids; `run` and `eval` take it like any other. It needs a checkpoint that was trained with [model.identity].
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  neurohorizon calibrate model.safetensors new.npz --to 30s --out new.safetensors\n  \
                  neurohorizon run rig.toml --checkpoint new.safetensors --recording new.npz --from 30s"
)]
pub struct CalibrateArgs {
    /// Checkpoint with an encoder of identities
    checkpoint: PathBuf,
    /// Recording of the session: .npz or .nwb
    recording: PathBuf,
    /// Start of the reference, counted from the first spike: a fraction (0.1), a percentage (10%) or seconds (12s)
    #[arg(long, default_value = "0s")]
    from: Position,
    /// End of the reference, in the same forms
    #[arg(long, default_value = "30s")]
    to: Position,
    /// The checkpoint that is written
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Whether identities are refined by the counts of the reference (weights of recent history, in closed form); what is written says
    /// so too [default: as the checkpoint says]
    #[arg(long, value_name = "BOOL")]
    refine: Option<bool>,
    /// Leave the encoder of identities out of what is written: identities are then weights like others, which `train` can go
    /// on from (training.start_from, training.only = "embeddings")
    #[arg(long)]
    drop_encoder: bool,
    /// Name of the session [default: the recording's]
    #[arg(long, value_parser = clap::builder::NonEmptyStringValueParser::new())]
    session: Option<String>,
    /// Print one JSON object: units, reference_s, windows, refined, forward_ms, out
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    units: usize,
    reference_s: f64,
    windows: usize,
    refined: bool,
    /// What refines them included.
    forward_ms: f64,
    out: PathBuf,
}

/// The part of a recording that identities are computed from.
///
/// # Errors
/// A checkpoint without an encoder; a part that is empty or goes beyond the recording's end.
pub fn reference_interval(
    checkpoint: &Checkpoint,
    recording: &Recording,
    from: Position,
    to: Position,
) -> Result<Interval, CliError> {
    let config = checkpoint.config.identity.ok_or(IdentityError::NoEncoder)?;
    let (start_ns, end_ns) = recording.grid_interval(from, to, config.bin_ns())?;
    let origin_ns = recording.grid_origin_ns().unwrap_or(start_ns);
    let length_s = (recording.end_ns - origin_ns) as f64 * 1e-9;
    match to {
        // A millisecond is the last digit of a length that people read off.
        Position::Seconds(asked_s) if asked_s > length_s + 1e-3 => Err(CliError::Config(format!(
            "identities from a reference up to {asked_s} s: {} is {length_s:.3} s long from its first spike",
            recording.name
        ))),
        _ => Ok(Interval { start_ns, end_ns }),
    }
}

/// Runs the subcommand.
pub fn run(args: &CalibrateArgs) -> Result<ExitCode, CliError> {
    let mut checkpoint = Checkpoint::load(&args.checkpoint)?;
    set_refine(&mut checkpoint, args.refine)?;
    let recording = Recording::load(&args.recording)?;
    let interval = reference_interval(&checkpoint, &recording, args.from, args.to)?;
    let reference = reference_of(&checkpoint, &recording, interval)?;
    let session = args.session.as_ref().unwrap_or(&recording.name);
    let begin = Instant::now();
    let mut calibrated = identified(&checkpoint, &reference, session, &recording.unit_ids)?;
    let forward_ms = begin.elapsed().as_secs_f64() * 1e3;
    if args.drop_encoder {
        calibrated = without_encoder(calibrated);
    }
    write_whole(&args.out, &calibrated.to_safetensors(Stored::F32)?)?;
    let identity = checkpoint.config.identity.ok_or(IdentityError::NoEncoder)?;
    let window_s = identity.window_ns() as f64 * 1e-9;
    let report = Report {
        units: reference.units(),
        reference_s: reference.windows() as f64 * window_s,
        windows: reference.windows(),
        refined: identity.refine,
        forward_ms,
        out: args.out.clone(),
    };
    if args.json {
        print_json(&report)?;
    } else {
        say!(
            "{} units of {session} from {} s of their activity{} in {forward_ms:.1} ms: {}",
            report.units,
            report.reference_s,
            if report.refined { ", refined," } else { "" },
            args.out.display()
        );
    }
    Ok(ExitCode::SUCCESS)
}
