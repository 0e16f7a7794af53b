//! `[control]` of a configuration, and what a run under control loads.

use std::path::Path;
#[cfg(feature = "curve")]
use std::path::PathBuf;
use std::sync::Arc;

use serde::Deserialize;

use super::latents_option::LatentsOption;
use super::run_config::ModelSection;
use super::run_model::build_predictor;
use super::run_source::SourceFacts;
use super::CliError;
use crate::control::{ControlConfig, LoadModel, LoadedModel, DEFAULT_ENDPOINT};
use crate::model::checkpoint::Checkpoint;

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
