//! The command line: one file a subcommand, each a thin shell over the library.

pub mod demo;
mod error;
mod progress;
pub mod run;
pub mod run_config;
pub mod run_model;
pub mod run_source;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

pub use error::CliError;

/// NeuroHorizon: live spikes in, predicted spike counts of every unit out, within a deadline.
#[derive(Debug, Parser)]
#[command(version, about)]
pub struct Cli {
    /// What to do; without a command, a simulated population is predicted for a minute.
    #[command(subcommand)]
    pub command: Option<Command>,
}

/// The subcommands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Predicts while spikes come in, and publishes the predictions.
    Run(run::RunArgs),
}

/// Parses the command line, runs the command, and turns its error into one line on standard error.
pub fn main() -> ExitCode {
    let done = match Cli::parse().command {
        Some(Command::Run(args)) => run::run(&args),
        None => demo::demo(),
    };
    done.unwrap_or_else(|error| {
        eprintln!("error: {error}");
        ExitCode::FAILURE
    })
}
