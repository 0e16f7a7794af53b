//! The offline trainer: from recordings to a checkpoint, on the operations that predict.
//!
//! [`config`] is the TOML; [`sampler`] draws windows, [`prepare`] adds what a step needs beside them; [`learner`] runs the
//! network on a tape; [`readouts`] is the loss of what it reads out; [`optimiser`] and [`schedule`] change its [`parameters`];
//! [`trainer`] is the loop, [`judge`] its validation, [`state`] its files, [`display`] what a person sees, [`speed`] times it.
//! [`few_shot`] goes on from a checkpoint with some seconds of a session, and [`transfer`] compares that with identities that
//! need no gradient.

pub mod config;
mod curve;
pub mod display;
pub mod few_shot;
mod initial;
pub mod judge;
pub mod learner;
pub mod modalities;
pub mod optimiser;
pub mod parameters;
pub mod prepare;
pub mod readouts;
pub mod references;
pub mod sampler;
pub mod schedule;
mod sections;
pub mod set_up;
pub mod speed;
pub mod state;
pub mod trainer;
pub mod transfer;

use std::path::PathBuf;

use thiserror::Error;

use crate::acquire::simulate::SimulationError;
use crate::data::DataError;
use crate::model::checkpoint::CheckpointError;

/// Why training cannot start or go on; each is one sentence.
#[derive(Debug, Error)]
pub enum TrainError {
    /// The configuration is wrong: file, key, and what was expected.
    #[error("{0}")]
    Config(String),
    /// A recording cannot be used.
    #[error(transparent)]
    Recording(#[from] DataError),
    /// There is nothing to draw.
    #[error(transparent)]
    Sampler(#[from] sampler::SamplerError),
    /// The simulated population cannot be made.
    #[error(transparent)]
    Simulation(#[from] SimulationError),
    /// A checkpoint cannot be used.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// Stored moments cannot be used.
    #[error(transparent)]
    Optimiser(#[from] optimiser::OptimiserError),
    /// A saved training cannot be gone on with.
    #[error("{} {what}", path.display())]
    State {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// A file cannot be written.
    #[error("{} cannot be written: {source}", path.display())]
    Write {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Training diverged.
    #[error("step {step}: the {what} is not a finite number; {kept}; the batch was: {batch}")]
    NotFinite {
        /// The step.
        step: u64,
        /// Loss or gradient.
        what: &'static str,
        /// Recordings and times of its windows.
        batch: String,
        /// What was kept, in words.
        kept: String,
    },
    /// The device that computes failed.
    #[error(transparent)]
    Backend(#[from] kernels::BackendError),
}
