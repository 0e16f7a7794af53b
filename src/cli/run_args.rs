//! The flags of `neurohorizon run`.

use std::path::PathBuf;

use clap::Args;

use super::latents_option::LatentsOption;
use super::record_option::RecordSection;
use super::run_config::{ReplaySection, RunFile, Speed};
use super::run_devices::apply_flags;
use super::{CliError, Device, Weights};
use crate::data::Position;

/// Predict while spikes come in, and publish the predictions
///
/// Sources, model, endpoints and the latency budget come from a TOML file; flags override it.
#[derive(Args, Clone, Debug, Default)]
#[command(after_help = "Examples:\n  neurohorizon run configs/simulate.toml --duration 10\n  \
                        neurohorizon run configs/replay.toml --recording session.npz --checkpoint model.ckpt --from 0.8\n  \
                        neurohorizon run configs/replay.toml --recording new.npz --checkpoint model.safetensors --calibrate 30\n  \
                        neurohorizon run configs/replay.toml --checkpoint model.ckpt --latents newest\n  \
                        neurohorizon run rig.toml --realtime     # `neurohorizon doctor` says what the machine lacks for it\n\n\
                        SIGUSR1 has the units' identities computed anew (--calibrate), from their last activity.")]
pub struct RunArgs {
    /// The configuration: `configs/*.toml` document every key.
    pub config: PathBuf,
    /// Checkpoint of the model.
    #[arg(long)]
    pub checkpoint: Option<PathBuf>,
    /// Recording to replay.
    #[arg(long)]
    pub recording: Option<PathBuf>,
    /// Speed against life: a number, or `max`.
    #[arg(long)]
    pub speed: Option<Speed>,
    /// Where the replay begins: a fraction (0.8), a percentage (80%) or seconds (96s) from the first spike.
    #[arg(long)]
    pub from: Option<Position>,
    /// Where the replay ends, in the same forms.
    #[arg(long)]
    pub to: Option<Position>,
    /// Most seconds of device time to run.
    #[arg(long)]
    pub duration: Option<f64>,
    /// Threads that compute the model.
    #[arg(long)]
    pub threads: Option<usize>,
    /// Bins to predict.
    #[arg(long)]
    pub horizon_bins: Option<usize>,
    /// Compute the units' identities from so many seconds of their activity, in place of looking them up.
    #[arg(long, value_name = "SECONDS")]
    pub calibrate: Option<f64>,
    /// At the end, and on SIGUSR1, write the checkpoint with this session's units and the identities computed last, which
    /// `run` and `eval` take like any other. Needs --calibrate.
    #[arg(long, value_name = "FILE")]
    pub save_identities: Option<PathBuf>,
    /// Name of the session in that file [default: the source's]
    #[arg(long, value_name = "NAME", requires = "save_identities")]
    pub session_name: Option<String>,
    /// What computes the model.
    #[arg(long)]
    pub device: Option<Device>,
    /// Precision of the weights.
    #[arg(long)]
    pub weights: Option<Weights>,
    /// Endpoint of every prediction.
    #[arg(long)]
    pub endpoint: Option<String>,
    /// Endpoint of the latest prediction only; empty: none.
    #[arg(long)]
    pub latest_endpoint: Option<String>,
    /// Where `neurohorizon ctl` can tell the run what to do; empty: nowhere.
    #[arg(long, value_name = "ENDPOINT")]
    pub control: Option<String>,
    /// Let other machines control the run though nothing is encrypted.
    #[arg(long)]
    pub insecure_bind: bool,
    /// Seconds to wait for a subscriber before the run starts.
    #[arg(long)]
    pub wait_for_subscriber: Option<f64>,
    /// Also publish the network's latents, on the topic `latents`: `full`, all of the window; `newest`, the mean of those of
    /// its newest time; FILE.npz, the same along the principal components in a file of `eval --export`; `off`.
    #[arg(long, value_name = "off|full|newest|FILE.npz")]
    pub latents: Option<LatentsOption>,
    /// Ask the system for real-time priorities, locked memory, touched stacks and cores that wake quickly, as recommended where
    /// [realtime] says nothing else. What is refused is reported, and the run goes on without.
    #[arg(long)]
    pub realtime: bool,
    /// Record everything that comes in and goes out into this file, which `replay` and `export` take.
    #[arg(long, value_name = "FILE")]
    pub record: Option<PathBuf>,
    /// Replace that file where there is one.
    #[arg(long)]
    pub overwrite: bool,
    /// One JSON object on standard output at the end (the fields of `RunSummary`) instead of text.
    #[arg(long)]
    pub json: bool,
    /// No progress line.
    #[arg(long)]
    pub quiet: bool,
}

fn replace<T: Clone>(value: &mut T, flag: &Option<T>) {
    if let Some(flag) = flag {
        *value = flag.clone();
    }
}

impl RunArgs {
    /// Puts the flags in place of what the file says.
    ///
    /// # Errors
    /// Where a flag is for another kind of source than the file's.
    pub fn apply(&self, file: &mut RunFile) -> Result<(), CliError> {
        if let Some(recording) = &self.recording {
            let replay = file.replay.take();
            file.clear_sources();
            file.replay = Some(ReplaySection {
                recording: recording.clone(),
                ..replay.unwrap_or_else(|| ReplaySection::of(recording.clone()))
            });
        }
        if !file.has_sources() {
            let (config, sources) = (self.config.display(), RunFile::SOURCES);
            return Err(CliError::Config(format!("{config} must have {sources}")));
        }
        if file.replay.is_none() && (self.from.is_some() || self.to.is_some()) {
            return Err(CliError::Config("--from and --to need a recording to replay".into()));
        }
        if let Some(replay) = &mut file.replay {
            replace(&mut replay.speed, &self.speed);
            replay.from = self.from.or(replay.from);
            replay.to = self.to.or(replay.to);
            replay.duration_s = self.duration.or(replay.duration_s);
        }
        if let Some(simulate) = &mut file.simulate {
            replace(&mut simulate.speed, &self.speed);
            replace(&mut simulate.duration_s, &self.duration);
        }
        apply_flags(file, self.speed.map(|speed| speed.0), self.duration)?;
        file.model.checkpoint = self.checkpoint.clone().or(file.model.checkpoint.take());
        replace(&mut file.model.threads, &self.threads);
        file.model.horizon_bins = self.horizon_bins.or(file.model.horizon_bins);
        if let Some(reference_s) = self.calibrate {
            file.model.calibrate.get_or_insert_default().reference_s = reference_s;
        }
        replace(&mut file.model.device, &self.device);
        file.model.weights = self.weights.or(file.model.weights);
        replace(&mut file.publish.endpoint, &self.endpoint);
        replace(&mut file.publish.latest_endpoint, &self.latest_endpoint);
        replace(&mut file.publish.wait_for_subscriber_s, &self.wait_for_subscriber);
        replace(&mut file.publish.latents, &self.latents);
        file.control.endpoint = self.control.clone().or(file.control.endpoint.take());
        file.control.insecure_bind = self.insecure_bind;
        RecordSection::apply_flags(&mut file.record, self.record.as_deref(), self.overwrite)
    }
}
