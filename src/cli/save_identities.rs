//! The identities that a run has computed, as a checkpoint of its session.

use std::path::PathBuf;

use super::CliError;
use crate::model::checkpoint::{Checkpoint, Stored};
use crate::model::identity::unidentified;
use crate::pipeline::calibrate::CalibrationControl;
use crate::train::state::write_whole;

/// Writes a run's identities. The thread that calls it waits for the disk; those of the run do not.
pub struct IdentitySaver {
    /// What they are computed with.
    pub checkpoint: Checkpoint,
    /// Ids of the run's units.
    pub unit_ids: Vec<String>,
    /// The session's name.
    pub session: String,
    /// The file.
    pub path: PathBuf,
}

impl IdentitySaver {
    /// Checks, before the run, that the file can be written after it.
    ///
    /// # Errors
    /// What the system says.
    pub fn check(&self) -> Result<(), CliError> {
        let trial = self.path.with_extension("trial");
        let written = std::fs::File::create(&trial).and_then(|_| std::fs::remove_file(&trial));
        written.map_err(|source| CliError::System {
            what: format!(
                "--save-identities {}: nothing can be written there",
                self.path.display()
            ),
            source,
        })
    }

    /// Writes the checkpoint with this session's units and the identities computed last: the whole file, or none. Returns what
    /// to say of it.
    ///
    /// # Errors
    /// Where none were computed yet, or the file cannot be written.
    pub fn save(&self, control: &CalibrationControl) -> Result<String, CliError> {
        let path = self.path.display();
        let Some(identities) = control.latest() else {
            return Err(CliError::Config(format!(
                "{path} was not written: no identities were computed, the run was shorter than model.calibrate.reference_s \
                 (--calibrate) or had gaps"
            )));
        };
        let session = &self.session;
        let mut named = unidentified(&self.checkpoint, session, &self.unit_ids, identities.log_rates())?;
        identities.write(&mut named, 1);
        write_whole(&self.path, &named.to_safetensors(Stored::F32)?)?;
        Ok(format!("{} units of {session}: {path}", self.unit_ids.len()))
    }
}
