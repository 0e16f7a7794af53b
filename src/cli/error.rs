//! What a command fails with.

use thiserror::Error;

use crate::acquire::simulate::SimulationError;
use crate::acquire::SourceError;
use crate::data::DataError;
use crate::pipeline::{PredictError, RunError};

/// A command's failure; each is one sentence for the user.
#[derive(Debug, Error)]
pub enum CliError {
    /// A configuration file or a flag is wrong: which, where, and what.
    #[error("{0}")]
    Config(String),
    /// A recording cannot be used.
    #[error(transparent)]
    Recording(#[from] DataError),
    /// A source cannot be used.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The simulated population cannot be made.
    #[error(transparent)]
    Simulation(#[from] SimulationError),
    /// A model cannot be used.
    #[error(transparent)]
    Model(#[from] PredictError),
    /// A run could not start.
    #[error(transparent)]
    Run(#[from] RunError),
    /// The operating system refused something.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: String,
        /// What the system said.
        source: std::io::Error,
    },
}
