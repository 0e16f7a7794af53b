//! `neurohorizon doctor`: what this machine lacks for real time.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use super::{print_json, CliError};
use crate::doctor::{examine, Finding, Options};

/// Check the machine for real time: what is, what to change, and what it is worth
///
/// Takes a few seconds, in which timers and a message's way through ZeroMQ are measured. Changes nothing.
#[derive(Args, Debug)]
#[command(
    after_help = "Examples:\n  neurohorizon doctor\n  neurohorizon doctor --recordings /data/sessions\n  neurohorizon doctor --json\n\n\
                  Exit status: 0 nothing to change, 1 something to change."
)]
pub struct DoctorArgs {
    /// Where recordings would be written.
    #[arg(long, value_name = "FOLDER", default_value = ".")]
    recordings: PathBuf,
    /// Print one JSON object: good, findings[] with name, verdict (good, note, change), now, change, worth
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report<'a> {
    good: bool,
    findings: &'a [Finding],
}

/// Runs the subcommand.
///
/// # Errors
/// Where the report cannot be written as JSON.
pub fn run(args: &DoctorArgs) -> Result<ExitCode, CliError> {
    let found = examine(&Options {
        recordings: args.recordings.clone(),
    });
    if args.json {
        print_json(&Report {
            good: found.is_good(),
            findings: &found.findings,
        })?;
    } else {
        found.findings.iter().for_each(|finding| say!("{finding}"));
        match found.to_change() {
            0 => say!("\nNothing to change."),
            1 => say!("\nOne thing to change."),
            many => say!("\n{many} things to change."),
        }
    }
    Ok(if found.is_good() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
