//! `neurohorizon reach`: decoders in a closed loop, each bringing a cursor to targets that a simulated population intends to reach.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;

use super::latents_option::LatentsOption;
use super::reach_cursor::{follow, Control, Followed};
use super::reach_decoders::{fit, DecoderOutput};
use super::reach_report::ReachReport;
use super::reach_screen::Screen;
use super::run::SIGNAL_BURST;
use super::run_config::{s_to_ns, ModelSection};
use super::run_model::{bin_ns, build_predictor};
use super::run_source::{BuiltSource, BuiltSources};
use super::{print_json, CliError};
use crate::acquire::simulate::closed_loop::{ClosedLoop, ReachPort, ReachTask};
use crate::acquire::simulate::{Population, SimulationConfig, STEP_NS};
use crate::acquire::simulated::Simulated;
use crate::acquire::Pace;
use crate::model::checkpoint::Checkpoint;
use crate::model::config::{ReadoutConfig, ReadoutKind};
use crate::model::UnitMatch;
use crate::pipeline::behaviour::BEHAVIOUR_TOPIC;
use crate::pipeline::bin_output::{BinOutput, WithBinOutputs};
use crate::pipeline::{Outcome, Predictor, PublishConfig, PublishError, Run, RunConfig, RunError, RunSummary};
use crate::train::state::write_whole;

/// The series that is decoded.
pub(super) const SERIES: &str = "hand_vel";
/// Seed of the population that the shipped network learned from.
const SHIPPED_SEED: u64 = 1;
/// Events that the source's ring holds.
const RING_EVENTS: usize = 65_536;
/// Time between two looks at the loop.
const REFRESH: Duration = Duration::from_millis(50);

/// Let decoders bring a cursor to targets, in a closed loop with a simulated population
///
/// A simulated population of motor-cortex-like units intends to bring a cursor to one of eight targets. The runtime decodes the
/// intended velocity from its spikes, live and through ZeroMQ; a subscriber moves the cursor by what it receives; the population sees
/// where the cursor is and corrects. The network takes turns with a Kalman filter and a Wiener filter, which are fitted at the start
/// on open-loop reaches of the same population, and with what the population intends itself (`ideal`), which no decoding blurs or delays. Each
/// takes over for one trial with every target before the next target comes.
///
/// A trial succeeds when the cursor stays within 3 cm of the target for the hold time before the time-out. Prints success rates with
/// 95 % intervals, times to target, straightness, paired differences, and the time from the end of a bin to the cursor's move.
#[derive(Args, Clone, Debug)]
#[command(
    after_help = "Examples:\n  neurohorizon reach\n  neurohorizon reach --trials 32 --html reach.html\n  \
                  neurohorizon reach --seed 5 --checkpoint trained/best.safetensors --json\n  \
                  neurohorizon reach --trials 8 --time-out 2 --quiet"
)]
pub struct ReachArgs {
    /// Network with a readout of `hand_vel`, trained on the population of this seed; without it the shipped one for seed 1
    #[arg(long, value_name = "FILE")]
    checkpoint: Option<PathBuf>,
    /// Trials of each decoder; a multiple of 8 has every target equally often
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..=10_000))]
    trials: u16,
    /// Seed of the population, its noise and the order of targets
    #[arg(long, default_value_t = SHIPPED_SEED)]
    seed: u64,
    /// Units of the population
    #[arg(long, value_name = "N", default_value_t = 96)]
    units: usize,
    /// Seconds of open-loop reaches that the Kalman and the Wiener filter are fitted on
    #[arg(long, value_name = "SECONDS", default_value_t = 600.0)]
    fit: f64,
    /// A trial fails after so many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 4.0)]
    time_out: f64,
    /// The cursor has to stay at the target for so many seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 0.3)]
    hold: f64,
    /// Where everything is published; `*` is any free port
    #[arg(long, default_value = "tcp://127.0.0.1:*")]
    endpoint: String,
    /// Threads that compute the network
    #[arg(long, default_value_t = 2)]
    threads: usize,
    /// Also write a report with the paths: one HTML file that needs no network
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Print one JSON object with every figure
    #[arg(long)]
    json: bool,
    /// No picture and no lines while it runs
    #[arg(long)]
    quiet: bool,
}

/// Runs the command.
///
/// # Errors
/// What in the flags, the checkpoint or the endpoint cannot be used.
pub fn run(args: &ReachArgs) -> Result<ExitCode, CliError> {
    let (stop, impatient) = super::signals::catch()?;
    let mut notes = Vec::new();
    let (section, checkpoint) = network(args, &mut notes)?;
    let bin_ns = bin_ns(&section, checkpoint.as_ref())?;
    if bin_ns % STEP_NS != 0 {
        let bin_ms = bin_ns as f64 * 1e-6;
        return Err(CliError::Config(format!(
            "the checkpoint's bins of {bin_ms} ms are not a whole number of ms, the simulation's step"
        )));
    }
    let task = task(args, checkpoint.as_ref())?;
    let fit_ns = whole_steps("--fit", args.fit, [10.0, 7200.0])?;
    let config = SimulationConfig {
        n_units: args.units,
        ..SimulationConfig::default()
    };
    if !args.quiet {
        eprintln!(
            "fitting      Kalman and Wiener filters on {} s of open-loop reaches of {} units",
            args.fit, args.units
        );
    }
    let ids = Population::new(config.clone(), args.seed)?.unit_ids();
    let known = match &checkpoint {
        Some(checkpoint) => UnitMatch::new(checkpoint, &ids, None)?.ids,
        None => ids,
    };
    let fitted = fit(&config, args.seed, fit_ns, bin_ns, &known)?;
    let controls = controls(checkpoint.as_ref());
    let (closed_loop, port) = ClosedLoop::new(config, args.seed, task, args.trials.into(), controls.len())?;
    let end_ns = task.longest_ns(port.plan().len());
    let source = BuiltSources::new(vec![BuiltSource {
        source: Box::new(Simulated::new(closed_loop, 0, end_ns, Pace::Clocked(1.0), STEP_NS)),
        mean_log_rates: fitted.mean_log_rates,
        means_from: fitted.means_from,
        notes: Vec::new(),
        before: None,
        observed: Vec::new(),
    }])?;
    let model = build_predictor(
        &section,
        &LatentsOption::Off,
        checkpoint.as_ref(),
        &source.facts,
        source.before.as_ref(),
    )?;
    let outputs = fitted.decoders.into_iter().map(DecoderOutput::new);
    let outputs = outputs.map(|output| Box::new(output) as Box<dyn BinOutput>).collect();
    let predictor = Box::new(WithBinOutputs::new(model.predictor, outputs));
    if !args.quiet {
        eprintln!("model        {}", predictor.describe());
        notes.iter().for_each(|note| eprintln!("note         {note}"));
    }
    let run = Run::start(&run_config(args), source.sources, predictor, &model.null, stop.clone())?;
    let (summary, followed) = drive(args, run, &port, &controls, bin_ns, (&stop, &impatient))?;
    let report = ReachReport::new(args.seed, &controls, &port, followed, summary, notes);
    if let Some(path) = &args.html {
        write_whole(path, report.html().as_bytes())?;
    }
    if args.json {
        print_json(&report)?;
    } else {
        say!("{report}");
    }
    let good = report.run.outcome != Outcome::Failed && report.run.imbalances.is_empty();
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Goes on to the end of the trials, or a signal's.
fn drive(
    args: &ReachArgs,
    run: Run,
    port: &Arc<ReachPort>,
    controls: &[Control],
    bin_ns: i64,
    (stop, impatient): (&AtomicBool, &AtomicBool),
) -> Result<(RunSummary, Followed), CliError> {
    let over = Arc::new(AtomicBool::new(false));
    let follower = follow(
        &run.endpoints().every,
        port.clone(),
        controls.to_vec(),
        bin_ns,
        over.clone(),
    )
    .map_err(PublishError::from)
    .map_err(RunError::from)?;
    if !args.quiet {
        eprintln!("decodings    on {}", run.endpoints().every);
    }
    let mut screen = Screen::new(args.quiet);
    let mut stopping_since = None;
    while !run.wait(REFRESH) {
        screen.show(port, controls);
        if stop.load(Relaxed) && stopping_since.get_or_insert_with(Instant::now).elapsed() > SIGNAL_BURST {
            impatient.store(true, Relaxed);
        }
    }
    screen.finish();
    let failed = |problem: String| CliError::Config(format!("the cursor's subscriber failed: {problem}"));
    let summary = run.join();
    over.store(true, Relaxed);
    let followed = follower
        .join()
        .map_err(|_| failed("it panicked".into()))?
        .map_err(failed)?;
    Ok((summary, followed))
}

/// The network: the one that was asked for, or the shipped one where it knows the population and can decode.
fn network(args: &ReachArgs, notes: &mut Vec<String>) -> Result<(ModelSection, Option<Checkpoint>), CliError> {
    let mut section = ModelSection {
        threads: args.threads,
        ..ModelSection::default()
    };
    let (name, checkpoint) = match &args.checkpoint {
        Some(path) => (path.clone(), Checkpoint::load(path)?),
        None if args.seed == SHIPPED_SEED => ("configs/demo.safetensors, built in".into(), super::demo::shipped()?),
        None => {
            notes.push(format!(
                "the shipped network knows the population of seed {SHIPPED_SEED}; without --checkpoint the classical decoders \
                 compete alone"
            ));
            return Ok((section, None));
        }
    };
    if readout(&checkpoint).is_none() {
        notes.push(format!(
            "the network {} has no readout of {SERIES} in two channels: the classical decoders compete alone",
            name.display()
        ));
        return Ok((section, None));
    }
    section.checkpoint = Some(name);
    Ok((section, Some(checkpoint)))
}

fn readout(checkpoint: &Checkpoint) -> Option<&ReadoutConfig> {
    let fits = |readout: &&ReadoutConfig| {
        readout.series == SERIES && readout.kind == ReadoutKind::Regression && readout.channels() == 2
    };
    checkpoint.config.readouts.iter().find(fits)
}

/// A flag's seconds as whole steps of the simulation, ns.
fn whole_steps(key: &str, seconds: f64, [least, most]: [f64; 2]) -> Result<i64, CliError> {
    if !(least..=most).contains(&seconds) {
        return Err(CliError::Config(format!("{key} {seconds} is not in {least}–{most} s")));
    }
    Ok(s_to_ns(key, seconds)? / STEP_NS * STEP_NS)
}

/// The decoders that take turns.
fn controls(checkpoint: Option<&Checkpoint>) -> Vec<Control> {
    let decoder = |name: &str, topic: String, row: usize| Control {
        name: name.to_owned(),
        topic: Some(topic),
        row,
    };
    let network = checkpoint
        .and_then(readout)
        .map(|readout| decoder("network", format!("{BEHAVIOUR_TOPIC}{SERIES}"), readout.present()));
    let classical = ["Kalman", "Wiener"].map(|name| decoder(name, super::reach_decoders::topic(name), 0));
    let ideal = Control {
        name: "ideal".into(),
        topic: None,
        row: 0,
    };
    network.into_iter().chain(classical).chain([ideal]).collect()
}

fn task(args: &ReachArgs, checkpoint: Option<&Checkpoint>) -> Result<ReachTask, CliError> {
    let task = ReachTask {
        hold_ns: whole_steps("--hold", args.hold, [0.0, 10.0])?,
        time_out_ns: whole_steps("--time-out", args.time_out, [0.1, 60.0])?,
        ..ReachTask::default()
    };
    if task.hold_ns >= task.time_out_ns {
        return Err(CliError::Config(format!(
            "--hold {} leaves no time to reach the target before --time-out {}",
            args.hold, args.time_out
        )));
    }
    // Nothing is decoded before the history is whole.
    let history_ns = checkpoint.map_or(0, |checkpoint| (checkpoint.config.sequence_length * 1e9) as i64);
    Ok(ReachTask {
        first_pause_ns: task.first_pause_ns + history_ns,
        ..task
    })
}

fn run_config(args: &ReachArgs) -> RunConfig {
    RunConfig {
        ring_events: RING_EVENTS,
        ..RunConfig::new(PublishConfig::at(&args.endpoint))
    }
}
