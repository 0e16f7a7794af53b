//! The command line: one file a subcommand, each a thin shell over the library.

mod bench;
mod compute;
mod eval;
mod inspect;
mod verify;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

pub use compute::{ComputeArgs, Weights};

/// Anything that ends a command; its text is for the person who typed it.
pub type CliError = Box<dyn std::error::Error + Send + Sync>;

/// Predict every unit's spike counts, live, within a deadline
#[derive(Debug, Parser)]
#[command(name = "neurohorizon", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    Eval(eval::EvalArgs),
    Inspect(inspect::InspectArgs),
    Verify(verify::VerifyArgs),
    Bench(bench::BenchArgs),
}

/// Parses the command line and runs it.
pub fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Eval(args) => eval::run(&args),
        Command::Inspect(args) => inspect::run(&args),
        Command::Verify(args) => verify::run(&args),
        Command::Bench(args) => bench::run(&args),
    };
    outcome.unwrap_or_else(|error| {
        eprintln!("error: {error}");
        ExitCode::from(2)
    })
}

/// One JSON object on standard output.
fn print_json(report: &impl Serialize) -> Result<(), CliError> {
    println!("{}", serde_json::to_string_pretty(report)?);
    Ok(())
}

/// A bar on standard error; hidden with `quiet` and where standard error is no terminal.
fn progress_bar(quiet: bool, what: &str) -> ProgressBar {
    let bar = if quiet { ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden()) } else { ProgressBar::new(0) };
    let template = format!("{{bar:40}} {{pos}}/{{len}} {what} {{eta}} left");
    bar.with_style(ProgressStyle::with_template(&template).expect("a fixed template"))
}
