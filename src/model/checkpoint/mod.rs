//! Checkpoints: the reference's `.ckpt` and the project's own safetensors.
//!
//! A file is told apart by its content, not its name. Reading never executes anything: [`pickle`] is an interpreter with an
//! allow-list. What is read is checked against [`layout`] before anyone sees it.

mod archive;
pub mod layout;
mod native;
pub mod pickle;
mod random;
pub mod value;

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use super::config::{ConfigError, ModelConfig};

/// A tensor in memory, row-major FP32.
#[derive(Debug, Clone, PartialEq)]
pub struct HostTensor {
    /// Size of every dimension.
    pub shape: Vec<usize>,
    /// Elements.
    pub data: Vec<f32>,
}

/// How a file stores its matrices.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stored {
    /// FP32.
    F32,
    /// FP16 for some or all.
    F16,
}

impl fmt::Display for Stored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Stored::F32 => "FP32",
            Stored::F16 => "FP16",
        })
    }
}

/// A validated checkpoint.
#[derive(Debug, Clone, PartialEq)]
pub struct Checkpoint {
    /// Sizes and variant.
    pub config: ModelConfig,
    /// Tensors by the reference's names, without `model.`; decoder layers have four places (cross, memory, self,
    /// feed-forward) also where the file had three.
    pub tensors: BTreeMap<String, HostTensor>,
    /// Unit ids by their row in `unit_emb`; row 0 is no unit.
    pub unit_ids: Vec<String>,
    /// Session ids by row, likewise.
    pub session_ids: Vec<String>,
    /// ln of each unit's mean count a bin on the training data, by row.
    pub null_log_rates: Option<Vec<f32>>,
    /// Epochs trained.
    pub epoch: u64,
    /// Optimiser steps taken.
    pub global_step: u64,
    /// Hash of the file's bytes (FNV-1a, 64 bits), which predictions carry.
    pub hash: u64,
    /// How the file stored the matrices.
    pub stored: Stored,
    /// Tensors that the network does not read.
    pub unused: Vec<String>,
    /// What a file of the project's own says beside: seed, hash of the training data.
    pub notes: BTreeMap<String, String>,
}

/// What is wrong with a checkpoint.
#[derive(Debug, thiserror::Error)]
pub enum Reason {
    /// It cannot be read at all.
    #[error("{0}")]
    Io(#[from] std::io::Error),
    /// Neither zip nor safetensors.
    #[error("it is neither a PyTorch checkpoint (zip) nor safetensors")]
    UnknownFormat,
    /// The container is damaged.
    #[error("{0}")]
    Archive(String),
    /// The pickle was refused.
    #[error(transparent)]
    Pickle(#[from] pickle::PickleError),
    /// A part is missing.
    #[error("{0} is missing")]
    Missing(&'static str),
    /// A metadata entry is wrong.
    #[error("metadata `{0}` {1}")]
    Metadata(&'static str, String),
    /// The configuration is no network.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The ids are wrong.
    #[error("vocabulary: {0}")]
    Vocabulary(String),
    /// A tensor is wrong.
    #[error("tensor `{name}` {reason}")]
    Tensor {
        /// Its name.
        name: String,
        /// What is wrong.
        reason: String,
    },
}

/// A checkpoint that was refused: one sentence with the file and what is wrong with which part.
#[derive(Debug, thiserror::Error)]
#[error("checkpoint {file}: {reason}")]
pub struct CheckpointError {
    /// The file.
    pub file: String,
    /// What is wrong.
    #[source]
    pub reason: Reason,
}

impl Checkpoint {
    /// Reads and checks a file.
    pub fn load(path: &Path) -> Result<Self, CheckpointError> {
        let file = path.display().to_string();
        // What has no end, or waits for another program, is never read to its end.
        let regular = std::fs::metadata(path).and_then(|found| match found.is_file() {
            true => std::fs::read(path),
            false => Err(std::io::Error::new(
                std::io::ErrorKind::InvalidInput,
                "it is no regular file",
            )),
        });
        match regular {
            Ok(bytes) => Self::from_bytes(&file, &bytes),
            Err(error) => Err(CheckpointError {
                file,
                reason: Reason::Io(error),
            }),
        }
    }

    /// Reads and checks a file's bytes; `file` names it in errors.
    pub fn from_bytes(file: &str, bytes: &[u8]) -> Result<Self, CheckpointError> {
        let hash = crate::hash::fnv1a(bytes);
        let checkpoint = if bytes.starts_with(b"PK") {
            archive::read(bytes, hash)
        } else if bytes.len() > 9 && bytes[8] == b'{' {
            native::read(bytes, hash)
        } else {
            Err(Reason::UnknownFormat)
        };
        let checked = checkpoint.and_then(|mut checkpoint| {
            layout::validate(&mut checkpoint)?;
            Ok(checkpoint)
        });
        checked.map_err(|reason| CheckpointError {
            file: file.to_string(),
            reason,
        })
    }

    /// The project's own format.
    pub fn to_safetensors(&self, stored: Stored) -> Result<Vec<u8>, CheckpointError> {
        native::write(self, stored).map_err(|reason| CheckpointError {
            file: "to be written".into(),
            reason,
        })
    }
}
