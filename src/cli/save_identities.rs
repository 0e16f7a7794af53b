//! The identities that a run has computed, as a checkpoint of its session.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::Arc;

use super::CliError;
use crate::model::checkpoint::{Checkpoint, Stored};
use crate::model::identity::unidentified;
use crate::pipeline::calibrate::{Asked, CalibrationControl};
use crate::pipeline::RunHandle;
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

    /// Writes the checkpoint with this session's units and the identities computed last: the whole file, or none. Units that took a
    /// place are named as what they are. Returns what to say of it.
    ///
    /// # Errors
    /// Where none were computed yet, or by another model than the checkpoint's, or the file cannot be written.
    pub fn save(&self, run: &RunHandle, control: &CalibrationControl) -> Result<String, CliError> {
        let path = self.path.display();
        if run.exchanged() > 0 {
            return Err(CliError::Config(format!(
                "{path} was not written: another model took the first one's place, and its identities are none of this checkpoint"
            )));
        }
        let Some(identities) = control.latest() else {
            return Err(CliError::Config(format!(
                "{path} was not written: no identities were computed, the run was shorter than model.calibrate.reference_s \
                 (--calibrate) or had gaps"
            )));
        };
        let session = &self.session;
        let mut unit_ids = self.unit_ids.clone();
        for spare in run.sources().iter().flat_map(|source| &source.spare_units) {
            unit_ids
                .iter_mut()
                .filter(|id| **id == spare.id)
                .for_each(|id| id.clone_from(&spare.is));
        }
        let mut named = unidentified(&self.checkpoint, session, &unit_ids, identities.log_rates())?;
        identities.write(&mut named, 1);
        write_whole(&self.path, &named.to_safetensors(Stored::F32)?)?;
        Ok(format!("{} units of {session}: {path}", self.unit_ids.len()))
    }
}

/// What SIGUSR1 asks of a run: new identities, and the file that is written once they are there.
pub struct RecalibrationCalls<'a> {
    asked: Arc<AtomicBool>,
    saver: Option<&'a IdentitySaver>,
    /// Whose identities were asked for, and which.
    awaited: Option<(Arc<CalibrationControl>, Asked)>,
}

impl<'a> RecalibrationCalls<'a> {
    /// `asked` is set by the signal.
    pub fn new(asked: Arc<AtomicBool>, saver: Option<&'a IdentitySaver>) -> Self {
        Self {
            asked,
            saver,
            awaited: None,
        }
    }

    /// Hands a signal on, and calls `handed_on` if there was one and it changes something; says what has come of it.
    pub fn look(&mut self, run: &RunHandle, handed_on: impl FnOnce()) -> Option<String> {
        let control = run.calibration();
        let Some(control) = control else {
            let nothing = "this run computes none (--calibrate): SIGUSR1 does nothing";
            return self.asked.swap(false, Relaxed).then(|| nothing.to_string());
        };
        if self.asked.swap(false, Relaxed) {
            let asked = control.recalibrate();
            self.awaited = Some((control, asked));
            handed_on();
        }
        // Not those that were being computed already: they are of the time before.
        let (control, _) = self.awaited.take_if(|(control, asked)| control.is_answered(*asked))?;
        Some(match self.saver.map(|saver| saver.save(run, &control)) {
            None => "computed anew, as SIGUSR1 asked".into(),
            Some(Ok(saved)) => saved,
            Some(Err(error)) => format!("NOT SAVED: {error}"),
        })
    }
}
