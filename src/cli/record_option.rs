//! `[record]` and `run --record`: the recording of a run, and what its first chunk says.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Deserialize;

use super::run_config::RunFile;
use super::run_source::SourceFacts;
use super::CliError;
use crate::acquire::host_time::monotonic_ns;
use crate::acquire::Source;
use crate::pipeline::{Predictor, RunConfig};
use crate::record::header::{BinsHeader, CheckpointHeader, OutputHeader, RunHeader, SourceHeader};
use crate::record::RecordOptions;

/// `[record]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RecordSection {
    /// The file.
    pub file: Option<PathBuf>,
    /// Replace it where there is one.
    pub overwrite: bool,
    /// What may wait for the disk, MB, of what comes in and as much of what is published.
    pub buffer_mb: usize,
    /// Between two times that it is brought to the disk, s.
    pub sync_s: f64,
}

impl Default for RecordSection {
    fn default() -> Self {
        Self {
            file: None,
            overwrite: false,
            buffer_mb: 16,
            sync_s: 1.0,
        }
    }
}

impl RecordSection {
    /// Puts the flags in place of what the configuration says.
    ///
    /// # Errors
    /// `--overwrite` where nothing is recorded.
    pub fn apply_flags(section: &mut Option<Self>, file: Option<&Path>, overwrite: bool) -> Result<(), CliError> {
        if let Some(file) = file {
            section.get_or_insert_default().file = Some(file.to_path_buf());
        }
        match section {
            None if overwrite => Err(CliError::Config("--overwrite is for a recording: --record FILE".into())),
            None => Ok(()),
            Some(section) => {
                section.overwrite |= overwrite;
                Ok(())
            }
        }
    }

    /// The file.
    ///
    /// # Errors
    /// Where none is named.
    pub fn file(&self) -> Result<&Path, CliError> {
        let file = self.file.as_deref();
        file.ok_or_else(|| CliError::Config("[record] names no file (record.file, --record FILE)".into()))
    }

    /// How it is written.
    ///
    /// # Errors
    /// A number that is out of its range.
    pub fn options(&self) -> Result<RecordOptions, CliError> {
        let Self { buffer_mb, sync_s, .. } = *self;
        if !(1..=512).contains(&buffer_mb) {
            return Err(CliError::Config(format!(
                "record.buffer_mb = {buffer_mb} is not in 1–512"
            )));
        }
        if !(0.05..=3600.0).contains(&sync_s) {
            return Err(CliError::Config(format!(
                "record.sync_s = {sync_s} is not in 0.05–3600"
            )));
        }
        Ok(RecordOptions {
            buffer_bytes: buffer_mb << 20,
            sync_every: Duration::from_secs_f64(sync_s),
            overwrite: self.overwrite,
        })
    }
}

/// What the first chunk says; the run itself adds its epoch and the series that samples are numbered by.
///
/// # Errors
/// Where it cannot be put into words.
pub fn header(
    file: &RunFile,
    config: &RunConfig,
    sources: &[Box<dyn Source>],
    facts: &SourceFacts,
    predictor: &dyn Predictor,
) -> Result<RunHeader, CliError> {
    let model_hash = format!("{:016x}", predictor.model_hash());
    let checkpoint = file.model.checkpoint.as_ref().map(|path| CheckpointHeader {
        path: std::path::absolute(path)
            .unwrap_or_else(|_| path.clone())
            .display()
            .to_string(),
        hash: model_hash.clone(),
    });
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH);
    Ok(RunHeader {
        program: env!("CARGO_PKG_VERSION").into(),
        created_unix_ns: since_1970.map_or(0, |time| time.as_nanos() as u64),
        created_monotonic_ns: monotonic_ns(),
        epoch: 0,
        arguments: std::env::args().skip(1).collect(),
        config: file.text.clone(),
        model: serde_json::to_value(&file.model)?,
        latents: file.publish.latents.to_string(),
        checkpoint,
        description: predictor.describe(),
        model_hash,
        unit_ids: predictor.unit_ids().to_vec(),
        bins: BinsHeader {
            start_ns: config.start_ns,
            bin_ns: predictor.bin_ns(),
            history_ns: predictor.history_ns(),
            grace_ns: config.grace_ns,
            horizon_bins: predictor.horizon_bins(),
            ring_events: config.ring_events,
        },
        sources: sources
            .iter()
            .map(|source| SourceHeader::from(source.as_ref()))
            .collect(),
        series: Vec::new(),
        outputs: predictor.outputs().iter().map(OutputHeader::from).collect(),
        mean_log_rate_bits: facts.mean_log_rates.iter().map(|rate| rate.to_bits()).collect(),
        means_from: facts.means_from.clone(),
        observed_ns: facts
            .observed
            .iter()
            .map(|interval| [interval.start_ns, interval.end_ns])
            .collect(),
        recent_history: predictor
            .recent_history()
            .map(|state| state.iter().map(|value| value.to_bits()).collect()),
    })
}
