//! What a command fails with.

use std::path::Path;

use thiserror::Error;

use crate::acquire::simulate::archive::ArchiveError;
use crate::acquire::simulate::SimulationError;
use crate::acquire::SourceError;
use crate::actuate::line::LineError;
use crate::actuate::trigger::TriggerError;
use crate::control::ControlError;
use crate::data::DataError;
use crate::evaluate::baseline::decoding::FitError;
use crate::evaluate::conditions::SeriesError;
use crate::evaluate::conformance::ConformanceError;
use crate::model::checkpoint::CheckpointError;
use crate::model::identity::IdentityError;
use crate::model::BuildError;
use crate::pipeline::{PredictError, RunError};
use crate::record::RecordError;
use crate::train::transfer::TransferError;
use crate::train::TrainError;

/// A command's failure; each is one sentence for the user.
#[derive(Debug, Error)]
pub enum CliError {
    /// A configuration file or a flag is wrong: which, where, and what.
    #[error("{0}")]
    Config(String),
    /// A checkpoint cannot be used.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// A network cannot be built.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// Reference outputs cannot be compared with.
    #[error(transparent)]
    Conformance(#[from] ConformanceError),
    /// A recording's series is not what a network learned from.
    #[error(transparent)]
    Series(#[from] SeriesError),
    /// Classical decoders have nothing to be fitted on.
    #[error(transparent)]
    Fit(#[from] FitError),
    /// Units' identities cannot be computed.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The device that computes failed.
    #[error(transparent)]
    Backend(#[from] kernels::BackendError),
    /// A report cannot be written as JSON.
    #[error("the report cannot be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
    /// A recording cannot be used.
    #[error(transparent)]
    Recording(#[from] DataError),
    /// A source cannot be used.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The simulated population cannot be made.
    #[error(transparent)]
    Simulation(#[from] SimulationError),
    /// A simulated session cannot be written.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
    /// A model cannot be used.
    #[error(transparent)]
    Model(#[from] PredictError),
    /// Training cannot start or go on.
    #[error(transparent)]
    Train(#[from] TrainError),
    /// Nothing can be compared.
    #[error(transparent)]
    Transfer(#[from] TransferError),
    /// A run could not start.
    #[error(transparent)]
    Run(#[from] RunError),
    /// A run cannot be controlled, or does not answer.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// A line cannot be used.
    #[error(transparent)]
    Line(#[from] LineError),
    /// A trigger cannot go on.
    #[error(transparent)]
    Trigger(#[from] TriggerError),
    /// A recording of a run cannot be made or read.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The operating system refused something.
    #[error("{what}: {source}")]
    System {
        /// What was tried.
        what: String,
        /// What the system said.
        source: std::io::Error,
    },
}

impl CliError {
    /// The same, with the configuration file before what is wrong in it.
    #[must_use]
    pub fn in_file(self, file: &Path) -> Self {
        match self {
            Self::Config(problem) => Self::Config(format!("{}: {problem}", file.display())),
            Self::Source(error @ SourceError::Invalid { .. }) => Self::Config(format!("{}: {error}", file.display())),
            Self::Run(error @ RunError::Setup(_)) => Self::Config(format!("{}: {error}", file.display())),
            other => other,
        }
    }
}
