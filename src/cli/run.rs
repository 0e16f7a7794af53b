//! `neurohorizon run`: predicts while spikes come in, and publishes the predictions.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;

use super::latents_option::LatentsOption;
use super::progress::Progress;
use super::record_option::{header, RecordSection};
use super::run_config::{ms_to_ns, s_to_ns, ReplaySection, RunFile, SimulateSection, Speed};
use super::run_control::loader;
use super::run_devices::apply_flags;
use super::run_model::{bin_ns, build_predictor, load_checkpoint, BuiltPredictor};
use super::run_source::{build_sources, end_ns, population, BuiltSources};
use super::save_identities::{IdentitySaver, RecalibrationCalls};
use super::{CliError, Device, Weights};
use crate::acquire::wire::WireCounters;
use crate::acquire::Source;
use crate::control::{ControlServer, ControlSocket};
use crate::data::Position;
use crate::evaluate::oracle::{score, OracleWindows};
use crate::pipeline::{Attached, Outcome, PublishConfig, Run, RunConfig, RunSummary, StopCause};
use crate::record::Recorder;

/// Signals within this time of the first belong to it: `timeout` and some shells send each twice.
pub(super) const SIGNAL_BURST: Duration = Duration::from_millis(500);

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

/// Runs the command.
///
/// # Errors
/// What in the configuration, the source, the model or the endpoints cannot be used.
pub fn run(args: &RunArgs) -> Result<ExitCode, CliError> {
    let mut file = RunFile::read(&args.config)?;
    args.apply(&mut file)?;
    let checkpoint = load_checkpoint(&file.model)?;
    let bin_ns = bin_ns(&file.model, checkpoint.as_ref())?;
    let conditions = checkpoint
        .as_ref()
        .map_or(&[][..], |checkpoint| &checkpoint.config.conditions);
    let source = build_sources(&file, bin_ns, conditions)?;
    check_reference(&file, &source)?;
    let model = build_predictor(
        &file.model,
        &file.publish.latents,
        checkpoint.as_ref(),
        &source.facts,
        source.before.as_ref(),
    )?;
    let saver = match (&args.save_identities, checkpoint) {
        (None, _) => None,
        (Some(path), Some(checkpoint)) if file.model.calibrate.is_some() => Some(IdentitySaver {
            checkpoint,
            unit_ids: model.predictor.unit_ids().to_vec(),
            session: args.session_name.clone().unwrap_or_else(|| source.facts.name.clone()),
            path: path.clone(),
        }),
        (Some(_), _) => {
            return Err(CliError::Config(
                "--save-identities saves what a run has computed: it needs a checkpoint and --calibrate ([model.calibrate])"
                    .into(),
            ))
        }
    };
    if let Some(saver) = &saver {
        saver.check()?;
    }
    run_to_the_end(&file, source, model, saver, (args.realtime, args.json, args.quiet))
}

/// Refuses a reference that is longer than the run: no identities would ever be computed.
fn check_reference(file: &RunFile, source: &BuiltSources) -> Result<(), CliError> {
    let length_s = source.length_ns().map(|ns| ns as f64 * 1e-9);
    match (file.model.calibrate, length_s) {
        (Some(calibrate), Some(length_s)) if calibrate.reference_s > length_s => Err(CliError::Config(format!(
            "model.calibrate.reference_s (--calibrate) = {} is longer than the run, {length_s:.3} s: identities would never be computed",
            calibrate.reference_s
        ))),
        _ => Ok(()),
    }
}

/// Runs a source through a model to its end or a signal, shows progress, and prints the summary.
///
/// # Errors
/// Where the run cannot start.
pub(super) fn run_to_the_end(
    file: &RunFile,
    source: BuiltSources,
    model: BuiltPredictor,
    saver: Option<IdentitySaver>,
    (realtime, json, quiet): (bool, bool, bool),
) -> Result<ExitCode, CliError> {
    let (stop, impatient) = super::signals::catch()?;
    let mut calls = RecalibrationCalls::new(super::signals::catch_recalibrate()?, saver.as_ref());
    if !quiet {
        source.notes.iter().for_each(|note| eprintln!("note         {note}"));
    }
    let facts = source.facts;
    let (name, units) = (facts.name.clone(), facts.unit_ids.len());
    let load = loader(&file.model, &file.publish.latents, &facts);
    let control = file.control.config()?;
    let control = control.as_ref().map(ControlSocket::bind).transpose()?;
    let rates = (facts.mean_log_rates, facts.means_from);
    let sources = source.sources;
    let start_ns = sources[0].start_ns();
    let end_ns = end_ns(&sources);
    let mut watches: Vec<DeviceWatch> = sources
        .iter()
        .filter_map(|source| DeviceWatch::new(source.as_ref()))
        .collect();
    let config = run_config(file, start_ns, realtime)?;
    let description = model.predictor.describe();
    let model_units = model.predictor.unit_ids().len();
    let windows = OracleWindows {
        start_ns,
        end_ns: end_ns.unwrap_or(start_ns),
        history_ns: model.predictor.history_ns(),
        bin_ns: model.predictor.bin_ns(),
        bins: model.predictor.horizon_bins(),
    };
    let null_log_rates = model.null.log_rates.clone();
    let (recording, taps) = match &file.record {
        None => (None, None),
        Some(section) => {
            super::signals::survive_full_files()?;
            let header = header(file, &config, &sources, &rates, model.predictor.as_ref())?;
            let (recorder, taps) = Recorder::create(section.file()?, section.options()?)?;
            (Some((recorder, header)), Some(taps))
        }
    };
    let attached = Attached { taps, feed: None };
    let run = match Run::start_with(&config, sources, model.predictor, &model.null, stop.clone(), attached) {
        Ok(run) => run,
        Err(error) => {
            if let Some((recorder, _)) = recording {
                recorder.discard();
            }
            return Err(error.into());
        }
    };
    let recorder = match recording {
        None => None,
        Some((recorder, mut header)) => {
            header.epoch = run.handle().epoch();
            header.series = run.series().iter().map(Into::into).collect();
            Some(recorder.start(&header)?)
        }
    };
    if !quiet {
        eprintln!(
            "source       {name}: {units} units, {} of them among the model's {model_units}",
            run.known_units()
        );
        eprintln!("model        {description}");
        for series in run.not_delivered() {
            eprintln!("note         no source delivers the series {series}: the network is shown nothing of it");
        }
        let latest = run
            .endpoints()
            .latest
            .as_ref()
            .map_or(String::new(), |at| format!("; the latest only on {at}"));
        eprintln!("predictions  on {}{latest}", run.endpoints().every);
    }
    let handle = run.handle();
    let emergency = handle.clone();
    super::signals::catch_emergency(move || emergency.switch().stop())?;
    let control = control.map(|socket| socket.serve(handle.clone(), load)).transpose()?;
    if let (Some(control), false) = (&control, quiet) {
        eprintln!("control      on {}", control.address());
    }
    let mut progress = Progress::new(start_ns, end_ns, quiet);
    let mut guard_news = GuardNews::default();
    let (mut stopping_since, mut told) = (None, false);
    let mut set_up_told = false;
    while !run.wait(Progress::REFRESH) {
        progress.show(&handle.live());
        // By now every thread has set itself up. What is granted stands in the summary.
        if !std::mem::replace(&mut set_up_told, true) {
            let report = run.realtime().unwrap_or_default();
            report
                .refused()
                .for_each(|step| progress.tell(&format!("real time    {step}")));
        }
        for news in control.iter().flat_map(ControlServer::news) {
            progress.tell(&format!("control      {news}"));
        }
        if let Some(news) = guard_news.look(handle.switch().cause()) {
            progress.tell(&format!("guards       {news}"));
        }
        for watch in &mut watches {
            if let Some(news) = watch.news() {
                progress.tell(&format!("source       {}: {news}", watch.name));
            }
        }
        if let Some(news) = calls.look(&handle) {
            progress.tell(&format!("identities   {news}"));
        }
        if let (Some(failure), false) = (handle.device_failure(), told) {
            progress.tell(&format!(
                "device       FAILED, the CPU computes from here on: {failure}"
            ));
            told = true;
        }
        if stop.load(Relaxed) && stopping_since.get_or_insert_with(Instant::now).elapsed() > SIGNAL_BURST {
            impatient.store(true, Relaxed);
        }
    }
    progress.finish();
    let calibration = handle.calibration();
    let mut summary = run.join();
    if let Some(failure) = control.and_then(ControlServer::finish) {
        summary.failures.push(failure);
    }
    let saved = match (&saver, calibration) {
        (Some(saver), Some(control)) => saver.save(&control),
        _ => Ok(String::new()),
    };
    if let Some(recorder) = recorder {
        recorder.finish(&mut summary);
    }
    if let (Some(simulate), Outcome::Finished) = (&file.simulate, summary.outcome) {
        summary.oracle_fp_bps = oracle(simulate, windows, &null_log_rates)?;
    }
    print(&summary, json);
    match &saved {
        Ok(news) if news.is_empty() || quiet => {}
        Ok(news) => eprintln!("identities   {news}"),
        Err(error) => eprintln!("error: {error}"),
    }
    let good = summary.outcome != Outcome::Failed && summary.imbalances.is_empty() && saved.is_ok();
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// What the true rates of the simulated population score; nothing where the model knows only some of its units.
fn oracle(section: &SimulateSection, windows: OracleWindows, null_log_rates: &[f64]) -> Result<Option<f64>, CliError> {
    if null_log_rates.len() != section.units {
        return Ok(None);
    }
    Ok(score(population(section)?, windows, null_log_rates).overall())
}

fn run_config(file: &RunFile, start_ns: i64, realtime: bool) -> Result<RunConfig, CliError> {
    let (pipeline, publish) = (&file.pipeline, &file.publish);
    if publish.high_water_mark < 1_000 {
        return Err(CliError::Config(format!(
            "publish.high_water_mark = {} is below 1000, where ZeroMQ loses messages even of quick subscribers",
            publish.high_water_mark
        )));
    }
    if !(1_024..=1 << 28).contains(&pipeline.ring_events) {
        return Err(CliError::Config(format!(
            "pipeline.ring_events = {} is not in 1024–2^28",
            pipeline.ring_events
        )));
    }
    let wait_ns = s_to_ns("publish.wait_for_subscriber_s", publish.wait_for_subscriber_s)?;
    let decode_core = file.model.cores.as_ref().and_then(|cores| cores.first().copied());
    Ok(RunConfig {
        start_ns,
        grace_ns: ms_to_ns("pipeline.grace_ms", pipeline.grace_ms, 0.0)?,
        deadline_ns: pipeline
            .deadline_ms
            .map(|ms| ms_to_ns("pipeline.deadline_ms", ms, 0.1))
            .transpose()?,
        stuck_after_ns: pipeline
            .stuck_after_ms
            .map(|ms| ms_to_ns("pipeline.stuck_after_ms", ms, 0.1))
            .transpose()?,
        ring_events: pipeline.ring_events,
        decode_core,
        realtime: file.realtime.settings(realtime, decode_core)?,
        guard: file.guards.config(file.control.listens())?,
        publish: PublishConfig {
            endpoint: publish.endpoint.clone(),
            latest_endpoint: Some(publish.latest_endpoint.clone()).filter(|endpoint| !endpoint.is_empty()),
            high_water_mark: publish.high_water_mark,
            wait_for_subscriber: Duration::from_nanos(wait_ns as u64),
        },
    })
}

/// Notices that predictions were stopped, or go out again.
#[derive(Default)]
struct GuardNews(Option<StopCause>);

impl GuardNews {
    fn look(&mut self, cause: Option<StopCause>) -> Option<&'static str> {
        if cause == std::mem::replace(&mut self.0, cause) {
            return None;
        }
        Some(match cause {
            None => "predictions go out",
            Some(StopCause::Command) => "STOPPED by a command: only mean rates go out",
            Some(StopCause::HeartbeatLost) => {
                "STOPPED, the consumer's heartbeat did not come: only mean rates go out until `ctl release`"
            }
            Some(StopCause::NoHeartbeatYet) => "only mean rates go out until the consumer's first heartbeat",
        })
    }
}

/// Notices that a device has been reached or lost.
struct DeviceWatch {
    name: String,
    counters: Arc<WireCounters>,
    away: bool,
}

impl DeviceWatch {
    fn new(source: &dyn Source) -> Option<Self> {
        Some(Self {
            name: source.name().to_string(),
            counters: source.wire_counters()?,
            away: true,
        })
    }

    fn news(&mut self) -> Option<&'static str> {
        let away = self.counters.is_away();
        if away == std::mem::replace(&mut self.away, away) {
            return None;
        }
        Some(if away {
            "LOST; the run goes on without its spikes until it is back"
        } else {
            "connected"
        })
    }
}

fn print(summary: &RunSummary, json: bool) {
    if json {
        // A summary has no map with keys that are not strings, the only thing that JSON refuses.
        say!("{}", serde_json::to_string(summary).unwrap_or_default());
    } else {
        say!("{summary}");
    }
}
