//! `[control]` of a configuration, what a run under control loads, and what of it is recorded.

use std::path::Path;
#[cfg(feature = "curve")]
use std::path::PathBuf;
use std::sync::atomic::{AtomicI64, Ordering::Relaxed};
use std::sync::Arc;

use serde::Deserialize;
use serde_json::{json, Value};

use super::latents_option::LatentsOption;
use super::run_config::ModelSection;
use super::run_model::build_predictor;
use super::run_source::SourceFacts;
use super::CliError;
use crate::acquire::host_time::monotonic_ns;
use crate::control::{ControlConfig, LoadModel, LoadedModel, NoteRequest, Request, DEFAULT_ENDPOINT};
use crate::model::checkpoint::Checkpoint;
use crate::record::{ChangingRequest, Recorder, RequestLog};

/// `[control]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ControlSection {
    /// Where the run listens; empty: nowhere. Left out: [`DEFAULT_ENDPOINT`], or any port where that is taken.
    pub endpoint: Option<String>,
    /// Encryption, and who may connect.
    #[cfg(feature = "curve")]
    pub curve: Option<CurveSection>,
    /// The same, which this build cannot do.
    #[cfg(not(feature = "curve"))]
    pub curve: Option<serde::de::IgnoredAny>,
    /// Set by `--insecure-bind`, never by a file.
    #[serde(skip)]
    pub insecure_bind: bool,
}

/// `[control.curve]`
#[cfg(feature = "curve")]
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CurveSection {
    /// The run's own keys, as `ctl keygen` writes them.
    pub keys: PathBuf,
    /// Public keys of those who may connect.
    pub clients: Vec<String>,
}

impl ControlSection {
    /// Whether the run listens at all.
    pub fn listens(&self) -> bool {
        self.endpoint.as_deref() != Some("")
    }

    /// What the control socket takes of it; none where the run does not listen.
    ///
    /// # Errors
    /// Keys that cannot be read.
    pub fn config(&self) -> Result<Option<ControlConfig>, CliError> {
        if !self.listens() {
            return Ok(None);
        }
        #[cfg(not(feature = "curve"))]
        if self.curve.is_some() {
            return Err(CliError::Config(
                "[control.curve] asks for encryption, and this program was built without the feature `curve`".into(),
            ));
        }
        Ok(Some(ControlConfig {
            endpoint: self.endpoint.clone().unwrap_or_else(|| DEFAULT_ENDPOINT.into()),
            or_any_port: self.endpoint.is_none(),
            insecure_bind: self.insecure_bind,
            #[cfg(feature = "curve")]
            curve: match &self.curve {
                Some(section) => Some(crate::control::curve::CurveServer::read(
                    &section.keys,
                    &section.clients,
                )?),
                None => None,
            },
        }))
    }
}

/// Loads models for a run of these units, as its configuration says of the first one.
pub fn loader(model: &ModelSection, latents: &LatentsOption, facts: &SourceFacts) -> Arc<LoadModel> {
    let (model, latents, facts) = (model.clone(), latents.clone(), facts.clone());
    Arc::new(move |path: &Path, session: Option<&str>| {
        let section = ModelSection {
            checkpoint: Some(path.to_path_buf()),
            session: session.map(str::to_string),
            ..model.clone()
        };
        let load = || -> Result<LoadedModel, CliError> {
            // A pipe or a device may never end.
            if std::fs::metadata(path).is_ok_and(|about| !about.is_file()) {
                return Err(CliError::Config(format!("{} is no regular file", path.display())));
            }
            let checkpoint = Checkpoint::load(path)?;
            let built = build_predictor(&section, &latents, Some(&checkpoint), &facts, None)?;
            Ok(LoadedModel {
                predictor: built.predictor,
                last_bin_ns: built.null.last_bin_ns,
            })
        };
        load().map_err(|error| error.to_string())
    })
}

/// Notes requests that change the run in its recording, where there is one.
pub struct RequestNotes {
    log: Option<Arc<RequestLog>>,
    /// Host time of the last SIGUSR2 that is not noted yet, ns; 0 for none.
    emergency_at_ns: Arc<AtomicI64>,
}

impl RequestNotes {
    /// In this recording. `emergency_at_ns` is set by SIGUSR2.
    pub fn new(recorder: Option<&Recorder>, emergency_at_ns: Arc<AtomicI64>) -> Self {
        Self {
            log: recorder.map(Recorder::requests),
            emergency_at_ns,
        }
    }

    /// Those that the control socket hears.
    pub fn of_control(&self) -> Arc<NoteRequest> {
        let log = self.log.clone();
        Arc::new(move |host_ns, request, answer| note(log.as_deref(), (host_ns, "control"), request, answer.clone()))
    }

    /// SIGUSR1 has asked for identities.
    pub fn recalibration_by_signal(&self) {
        let at = (monotonic_ns(), "SIGUSR1");
        note(self.log.as_deref(), at, &Request::Recalibrate {}, Value::Null);
    }

    /// Notes a stop by SIGUSR2, if one has come since the last call.
    pub fn look_for_emergency(&self) {
        let at_ns = self.emergency_at_ns.swap(0, Relaxed);
        if at_ns != 0 {
            note(
                self.log.as_deref(),
                (at_ns, "SIGUSR2"),
                &Request::EmergencyStop {},
                Value::Null,
            );
        }
    }
}

fn note(log: Option<&RequestLog>, (host_ns, from): (i64, &str), request: &Request, answer: Value) {
    if let Some(log) = log {
        log.note(ChangingRequest {
            host_ns,
            from: from.into(),
            request: json!(request),
            answer,
        });
    }
}
