//! The command line: one file a subcommand, each a thin shell over the library.

/// Writes a line to standard output. A reader who has gone (`| head`) is no error, and nobody is left to tell.
macro_rules! say {
    ($($argument:tt)*) => {{
        use std::io::Write;
        let _ = writeln!(std::io::stdout(), $($argument)*);
    }};
}

mod attribute;
mod attribute_inputs;
mod bench;
mod calibrate;
mod compute;
mod ctl;
mod decode;
pub mod demo;
mod doctor;
mod emulate;
mod emulate_network_events;
mod error;
mod eval;
mod eval_export;
mod eval_options;
mod eval_report;
mod eval_samples;
mod eval_setup;
mod export;
mod inspect;
pub mod latents_option;
mod progress;
mod reach;
mod reach_cursor;
mod reach_decoders;
mod reach_report;
mod reach_screen;
mod record_option;
mod replay;
mod replay_verdict;
pub mod run;
mod run_args;
pub mod run_config;
pub mod run_control;
pub mod run_device_sources;
mod run_devices;
pub mod run_guards;
pub mod run_model;
mod run_news;
pub mod run_realtime;
pub mod run_source;
mod save_identities;
mod signals;
mod simulate;
mod train;
mod transfer;
mod trigger;
mod trigger_report;
mod verify;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

pub use compute::{Compute, ComputeArgs, Device, Weights};
pub use error::CliError;

/// NeuroHorizon: live spikes in, predicted spike counts of every unit out, within a deadline.
#[derive(Debug, Parser)]
#[command(version, about)]
pub struct Cli {
    /// What to do; without a command, a simulated population is predicted for a minute.
    #[command(subcommand)]
    command: Option<Command>,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
enum Command {
    Run(run::RunArgs),
    Ctl(ctl::CtlArgs),
    Reach(reach::ReachArgs),
    Train(train::TrainArgs),
    Eval(eval::EvalArgs),
    Attribute(attribute::AttributeArgs),
    Decode(decode::DecodeArgs),
    Calibrate(calibrate::CalibrateArgs),
    Transfer(transfer::TransferArgs),
    Simulate(simulate::SimulateArgs),
    Trigger(trigger::TriggerArgs),
    Emulate(emulate::EmulateArgs),
    Replay(replay::ReplayArgs),
    Export(export::ExportFileArgs),
    Inspect(inspect::InspectArgs),
    Doctor(doctor::DoctorArgs),
    Verify(verify::VerifyArgs),
    Bench(bench::BenchArgs),
}

/// Exit status of a command that did its work and found a fault.
const FAULT_FOUND: u8 = 1;

/// Exit status of a command that could not do its work.
const NOT_DONE: u8 = 2;

/// Parses the command line, runs the command, and turns its error into one line on standard error.
pub fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Some(Command::Run(args)) => run::run(&args),
        Some(Command::Ctl(args)) => ctl::run(&args),
        Some(Command::Reach(args)) => reach::run(&args),
        Some(Command::Train(args)) => train::run(&args),
        Some(Command::Eval(args)) => eval::run(&args),
        Some(Command::Attribute(args)) => attribute::run(&args),
        Some(Command::Decode(args)) => decode::run(&args),
        Some(Command::Calibrate(args)) => calibrate::run(&args),
        Some(Command::Transfer(args)) => transfer::run(&args),
        Some(Command::Simulate(args)) => simulate::run(&args),
        Some(Command::Trigger(args)) => trigger::run(&args),
        Some(Command::Emulate(args)) => emulate::run(&args),
        Some(Command::Replay(args)) => replay::run(&args),
        Some(Command::Export(args)) => export::run(&args),
        Some(Command::Inspect(args)) => inspect::run(&args),
        Some(Command::Doctor(args)) => doctor::run(&args),
        Some(Command::Verify(args)) => verify::run(&args),
        Some(Command::Bench(args)) => bench::run(&args),
        None => demo::demo(),
    };
    done.unwrap_or_else(|error| {
        eprintln!("error: {error}");
        ExitCode::from(NOT_DONE)
    })
}

/// One JSON object on standard output.
fn print_json(report: &impl Serialize) -> Result<(), CliError> {
    say!("{}", serde_json::to_string_pretty(report)?);
    Ok(())
}

/// A bar on standard error; hidden with `quiet` and where standard error is no terminal.
fn progress_bar(quiet: bool, what: &str) -> ProgressBar {
    let bar = if quiet {
        ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden())
    } else {
        ProgressBar::new(0)
    };
    let template = format!("{{bar:40}} {{pos}}/{{len}} {what} {{eta}} left");
    bar.with_style(ProgressStyle::with_template(&template).expect("a fixed template"))
}
