//! `neurohorizon run`: predicts while spikes come in, and publishes the predictions.

use std::process::ExitCode;
use std::sync::atomic::Ordering::Relaxed;
use std::time::{Duration, Instant};

use super::progress::Progress;
use super::record_option::header;
pub use super::run_args::RunArgs;
use super::run_config::{ms_to_ns, s_to_ns, RunFile, SimulateSection};
use super::run_control::{loader, RequestNotes};
use super::run_model::{bin_ns, build_predictor, load_checkpoint, BuiltPredictor};
use super::run_news::{DeviceWatch, GuardNews, SpareNews};
use super::run_source::{build_sources, end_ns, population, BuiltSources};
use super::save_identities::{IdentitySaver, RecalibrationCalls};
use super::CliError;
use crate::control::{ControlServer, ControlSocket};
use crate::evaluate::oracle::{score, OracleWindows};
use crate::pipeline::{Attached, Outcome, PublishConfig, Run, RunConfig, RunSummary};
use crate::record::Recorder;

/// Signals within this time of the first belong to it: `timeout` and some shells send each twice.
pub(super) const SIGNAL_BURST: Duration = Duration::from_millis(500);

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
    let in_file = |error: CliError| error.in_file(&args.config);
    let mut source = build_sources(&file, bin_ns, conditions).map_err(in_file)?;
    check_reference(&file, &source).map_err(in_file)?;
    check_spares(&file, &source).map_err(in_file)?;
    let unobserved_s = source.unobserved_s();
    if file.model.calibrate.is_some() && unobserved_s > 0.0 {
        source.notes.push(format!(
            "the units were not observed in {unobserved_s:.1} s of what is replayed: --calibrate takes that for silence, as of a device; \
             `calibrate` and `eval --identify` leave it out"
        ));
    }
    let model = build_predictor(
        &file.model,
        &file.publish.latents,
        checkpoint.as_ref(),
        &source.facts,
        source.before.as_ref(),
    )
    .map_err(in_file)?;
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
    run_to_the_end(&file, source, model, saver, (args.realtime, args.json, args.quiet)).map_err(in_file)
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

/// Refuses places for units that are not listed where nothing would ever give them an identity.
fn check_spares(file: &RunFile, source: &BuiltSources) -> Result<(), CliError> {
    let with_places = source.sources.iter().find(|source| source.spare_units().is_some());
    match with_places {
        Some(source) if file.model.calibrate.is_none() => Err(CliError::Config(format!(
            "spare_units of {} needs a network that computes identities: model.checkpoint (--checkpoint) and [model.calibrate] (--calibrate)",
            source.name()
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
    let sources = source.sources;
    let start_ns = sources[0].start_ns();
    let end_ns = end_ns(&sources);
    let mut watches: Vec<DeviceWatch> = sources
        .iter()
        .filter_map(|source| DeviceWatch::new(source.as_ref()))
        .collect();
    let reference = file
        .model
        .calibrate
        .map(|section| Duration::from_secs_f64(section.reference_s));
    let mut spares = SpareNews::new(&sources, reference.unwrap_or_default());
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
            let header = header(file, &config, &sources, &facts, model.predictor.as_ref())?;
            let (recorder, taps) = Recorder::create(section.file()?, section.options()?)?;
            (Some((recorder, header)), Some(taps))
        }
    };
    let switch = config.switch();
    let emergency = switch.clone();
    let emergency_at_ns = super::signals::catch_emergency(move || emergency.stop())?;
    let notes = RequestNotes::new(recording.as_ref().map(|(recorder, _)| recorder), emergency_at_ns);
    let note = notes.of_control();
    let (served, control_server) = crossbeam_channel::bounded(1);
    let attached = Attached {
        taps,
        feed: None,
        switch: Some(switch),
        before_waiting: Some(Box::new(move |handle| {
            let server = control.map(|socket| socket.noting(note).serve(handle, load));
            // The other end is still there.
            let _ = served.send(server.transpose());
        })),
    };
    let run = match Run::start_with(&config, sources, model.predictor, &model.null, stop.clone(), attached) {
        Ok(run) => run,
        Err(error) => {
            if let Some((recorder, _)) = recording {
                recorder.discard();
            }
            if let Ok(Ok(Some(server))) = control_server.try_recv() {
                server.finish();
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
    let control = control_server.try_recv().unwrap_or(Ok(None))?;
    if let (Some(control), false) = (&control, quiet) {
        eprintln!("control      on {}", control.address());
    }
    let mut progress = Progress::new(start_ns, end_ns, quiet);
    let mut guard_news = GuardNews::default();
    let (mut stopping_since, mut told) = (None, false);
    let mut set_up_told = false;
    let mut ended = false;
    // Once more after the end: what it was told last is said too.
    while !std::mem::replace(&mut ended, run.wait(Progress::REFRESH)) {
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
        if spares.look(|news| progress.tell(&format!("identities   {news}"))) {
            handle.recalibrate();
        }
        notes.look_for_emergency();
        if let Some(news) = calls.look(&handle, || notes.recalibration_by_signal()) {
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
        (Some(saver), Some(control)) => saver.save(&handle, &control),
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

fn print(summary: &RunSummary, json: bool) {
    if json {
        // A summary has no map with keys that are not strings, the only thing that JSON refuses.
        say!("{}", serde_json::to_string(summary).unwrap_or_default());
    } else {
        say!("{summary}");
    }
}
