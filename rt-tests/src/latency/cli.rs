//! The command line of the suite.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Instant;

use clap::{Parser, ValueEnum};

use super::baseline::{Baseline, Machine};
use super::floor::Floor;
use super::gates::{self, Gate, Kind, Strictness, Verdict};
use super::looped::Looped;
use super::measure::{measure, Measured, Plan};
use super::report::{Floors, Report, VERSION};
use super::scenario::{self, Scenario};
use super::wake::fifo_is_permitted;
use super::{disturb, faulty, floor, html, subscriber};

/// Exit status where a gate failed, and where the suite could not do its work.
const FAILED: u8 = 1;
const MISUSE: u8 = 2;

/// How much is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Profile {
    /// Every scenario, some seconds each, about two minutes in all; of times only ratios of medians are gated
    Ci,
    /// Every scenario and every gate, some ten minutes in all, on a quiet machine
    Rig,
    /// One hour (--seconds: shorter) of the neuropixels recording in a loop: memory, and the last ten minutes against the first
    Soak,
}

/// Latency regression suite: what a prediction takes from the spike that closes its bin to a subscriber, and whether any bin or
/// spike is lost, while the machine and everything around the run misbehaves
#[derive(Debug, Parser)]
#[command(
    name = "rt-tests",
    version,
    after_help = "Examples:\n  cargo run -p rt-tests --release -- --profile rig --json report.json --html report.html\n  \
                  cargo run -p rt-tests --release -- --profile soak --json soak.json --html soak.html\n  \
                  cargo run -p rt-tests --release -- --profile ci --scenario idle --scenario hogs\n\n\
                  Exit status: 0 every gate that was measured holds, 1 one does not, 2 wrong usage or nothing could be measured."
)]
struct Arguments {
    /// How much is done
    #[arg(long, value_enum)]
    profile: Option<Profile>,
    /// Only this scenario; may be given several times
    #[arg(long, value_name = "NAME")]
    scenario: Vec<String>,
    /// Print the scenarios and end
    #[arg(long)]
    list: bool,
    /// Write the report as JSON
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write the report as a page
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Figures to compare with [default: rt-tests/baselines/KIND.json, of this kind of machine, where there is one]
    #[arg(long, value_name = "FILE")]
    baseline: Option<PathBuf>,
    /// Keep the figures as those of this kind of machine, in that file
    #[arg(long)]
    save_baseline: bool,
    /// Seconds that each scenario is measured for [default: the profile's]
    #[arg(long, value_parser = seconds)]
    seconds: Option<f64>,
    /// Seed of the spikes
    #[arg(long, default_value_t = 1)]
    seed: u64,
}

fn seconds(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(seconds) if (0.5..=86_400.0).contains(&seconds) => Ok(seconds),
        _ => Err("seconds are between 0.5 and 86400".into()),
    }
}

fn say(text: &str) {
    use std::io::Write;
    // A reader who has gone is no error.
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// The suite's role in this process, by the name that it was started under.
fn role(name: &str, arguments: &[String]) -> Option<Result<(), String>> {
    match name {
        subscriber::ROLE => Some(subscriber::run(arguments)),
        floor::PING => Some(floor::ping(arguments)),
        floor::ECHO => Some(floor::echo(arguments)),
        faulty::ROLE => Some(faulty::run(arguments)),
        disturb::HOG => Some(disturb::hog()),
        disturb::MEMORY => Some(disturb::take_memory(arguments)),
        _ => None,
    }
}

/// The program.
pub fn main() -> ExitCode {
    let mut words = std::env::args();
    let name = words.next().unwrap_or_default();
    if name == super::runtime::ROLE {
        let ready = super::child::end_with_the_parent().and_then(|()| super::runtime::limit_files());
        return match ready {
            Ok(()) => neurohorizon::cli::main(),
            Err(error) => told(&error.to_string()),
        };
    }
    let arguments: Vec<String> = words.collect();
    match role(&name, &arguments) {
        Some(Ok(())) => ExitCode::SUCCESS,
        Some(Err(problem)) => told(&problem),
        None => match suite(&Arguments::parse()) {
            Ok(true) => ExitCode::SUCCESS,
            Ok(false) => ExitCode::from(FAILED),
            Err(problem) => told(&problem),
        },
    }
}

fn told(problem: &str) -> ExitCode {
    eprintln!("error: {problem}");
    ExitCode::from(MISUSE)
}

/// The scenarios asked for.
fn chosen(names: &[String]) -> Result<Vec<Scenario>, String> {
    let all = scenario::all();
    if let Some(unknown) = names.iter().find(|name| !all.iter().any(|one| one.name == **name)) {
        let known: Vec<&str> = all.iter().map(|one| one.name).collect();
        return Err(format!(
            "there is no scenario {unknown:?}; there are {}",
            known.join(", ")
        ));
    }
    Ok(all
        .into_iter()
        .filter(|one| names.is_empty() || names.iter().any(|name| name == one.name))
        .collect())
}

fn suite(arguments: &Arguments) -> Result<bool, String> {
    let scenarios = chosen(&arguments.scenario)?;
    if arguments.list {
        scenarios
            .iter()
            .for_each(|one| say(&format!("{:<20} {}", one.name, one.about)));
        return Ok(true);
    }
    let profile = arguments
        .profile
        .ok_or("--profile ci|rig|soak is needed; --help has examples")?;
    // Before minutes are spent on what could not be kept.
    [&arguments.json, &arguments.html]
        .into_iter()
        .flatten()
        .try_for_each(|file| write(file, String::new()))?;
    let strict = strictness(profile);
    let without_fifo = fifo_is_permitted().err();
    let machine = Machine::here(without_fifo.is_none());
    let baseline = baseline(arguments, &machine)?;
    let mut report = run(profile, &scenarios, arguments, (machine, without_fifo))?;
    let compared = match &baseline {
        Ok(baseline) => baseline.gates(&report, &strict),
        Err(why) => vec![Gate::not_measured(
            "all",
            Kind::Baseline,
            "as quick as the last release",
            why,
        )],
    };
    report.gates.extend(compared);
    report.gates.iter().for_each(|gate| say(&gate.to_string()));
    if let Some(file) = &arguments.json {
        write(file, pretty(&report)?)?;
    }
    if let Some(file) = &arguments.html {
        write(file, html::page(&report))?;
    }
    if arguments.save_baseline {
        let file = arguments.baseline.clone().unwrap_or_else(|| report.machine.file());
        let folder = file.parent().unwrap_or(Path::new("."));
        std::fs::create_dir_all(folder).map_err(|error| format!("{} cannot be made: {error}", folder.display()))?;
        write(&file, pretty(&Baseline::of(&report))?)?;
        say(&format!("the figures are kept in {}", file.display()));
    }
    say(&report.summary());
    if gates::none_measured(&report.gates) {
        return Err("nothing could be measured: no gate passed, and none failed".into());
    }
    Ok(gates::all_passed(&report.gates))
}

fn write(file: &Path, text: String) -> Result<(), String> {
    std::fs::write(file, text).map_err(|error| format!("{} cannot be written: {error}", file.display()))
}

fn pretty(value: &impl serde::Serialize) -> Result<String, String> {
    let json = serde_json::to_string_pretty(value).map_err(|error| error.to_string())?;
    Ok(json + "\n")
}

/// The figures to compare with, or why there are none.
fn baseline(arguments: &Arguments, machine: &Machine) -> Result<Result<Baseline, String>, String> {
    if arguments.save_baseline {
        return Ok(Err("the figures of this run are to be kept".into()));
    }
    match &arguments.baseline {
        Some(file) => Baseline::read(file).map(Ok),
        None if machine.file().exists() => Baseline::read(&machine.file()).map(Ok),
        None => Ok(Err(format!("no figures of this kind of machine, {}", machine.kind()))),
    }
}

fn strictness(profile: Profile) -> Strictness {
    Strictness {
        told_only: match profile {
            Profile::Ci => Some("profile ci: too short, and the machine is not quiet".into()),
            _ if cfg!(debug_assertions) => Some("not an optimised build".into()),
            Profile::Rig | Profile::Soak => None,
        },
    }
}

/// A scenario and its gates. Where nothing fails but a ratio and the plan has tries left, floor and scenario are measured
/// again: a regression is there every time, a program that began between the two is not.
fn measured_with_its_floor(
    scenario: &Scenario,
    plan: &Plan,
    folder: &Path,
    (mut floor, floor_s): (Floor, f64),
    strict: &Strictness,
    progress: &impl Fn(&str),
) -> Result<(Measured, Vec<Gate>), String> {
    let (mut again, mut tries) = (Vec::new(), 1);
    loop {
        let mut one = measure(scenario, plan, folder)?;
        let gates = gates::of_scenario(&one, &floor, strict);
        if tries < plan.tries && gates::only_ratios_failed(&gates) {
            let failed = gates.iter().filter(|gate| gate.verdict == Verdict::Failed);
            again.extend(failed.map(|gate| format!("measured again, with its floor: {gate}")));
            tries += 1;
            floor = floor::measure(floor_s, scenario.fifo)?;
            continue;
        }
        one.notes.extend(again);
        progress(&format!("  spike → prediction  {}", one.stages.total.line()));
        for (name, stage) in one.stages.named() {
            progress(&format!("    {name:<9} {}", stage.line()));
        }
        one.notes.iter().for_each(|note| progress(&format!("  {note}")));
        return Ok((one, gates));
    }
}

fn run(
    profile: Profile,
    scenarios: &[Scenario],
    arguments: &Arguments,
    (machine, without_fifo): (Machine, Option<String>),
) -> Result<Report, String> {
    let strict = strictness(profile);
    let (floor_s, seconds, warm_up_s, memory_mib) = match profile {
        Profile::Ci => (3.0, 3.5, 1.0, 1_024),
        Profile::Rig => (20.0, 25.0, 2.0, 32_768),
        Profile::Soak => (20.0, 3_600.0, 5.0, 0),
    };
    let seconds = arguments.seconds.unwrap_or(seconds);
    let floor_s = match profile {
        // A short soak has a short floor.
        Profile::Soak => (seconds / 30.0).clamp(3.0, floor_s),
        _ => floor_s,
    };
    let recording = match profile {
        Profile::Soak => Some(Looped::neuropixels()?),
        _ => None,
    };
    let soak = recording.as_ref().map(|recording| {
        [scenario::soak(
            recording.units,
            recording.rate_hz(),
            without_fifo.is_none(),
        )]
    });
    let scenarios = soak.as_ref().map_or(scenarios, |soak| &soak[..]);
    let plan = Plan {
        seconds,
        warm_up_s,
        memory_mib,
        seed: arguments.seed,
        recording,
        tries: match profile {
            // The machine is not quiet.
            Profile::Ci => 3,
            Profile::Rig | Profile::Soak => 1,
        },
    };
    let begun = Instant::now();
    let progress = |what: &str| eprintln!("{:6.1} s  {what}", begun.elapsed().as_secs_f64());
    progress("the floor of this machine");
    let other = floor::measure(floor_s, false)?;
    progress(&format!("  timer       {}", other.timer.line()));
    progress(&format!("  round trip  {}", other.round_trip.line()));
    progress(&format!("  both        {}", other.both.line()));
    let fifo = match &without_fifo {
        None => {
            let floor = floor::measure(floor_s, true)?;
            progress(&format!("  both, FIFO  {}", floor.both.line()));
            Some(floor)
        }
        Some(why) => {
            progress(&format!("  nothing under FIFO: {why}"));
            None
        }
    };
    let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
    let (mut measured, mut gates) = (Vec::new(), Vec::new());
    for scenario in scenarios {
        progress(&format!("{}: {}", scenario.name, scenario.about));
        let against = if scenario.fifo { fifo.as_ref() } else { Some(&other) };
        let Some(against) = against else {
            let why = without_fifo.clone().unwrap_or_default();
            gates.push(Gate::not_measured(
                scenario.name,
                Kind::Ratio,
                "everything under FIFO",
                &why,
            ));
            continue;
        };
        match measured_with_its_floor(
            scenario,
            &plan,
            folder.path(),
            (against.clone(), floor_s),
            &strict,
            &progress,
        ) {
            Ok((one, of_it)) => {
                gates.extend(of_it);
                measured.push(one);
            }
            Err(why) => gates.push(Gate::broken(scenario.name, &why)),
        }
    }
    Ok(Report {
        version: VERSION,
        program: env!("CARGO_PKG_VERSION").into(),
        machine,
        optimised: !cfg!(debug_assertions),
        profile: format!("{profile:?}").to_lowercase(),
        without_fifo,
        floors: Floors { other, fifo },
        scenarios: measured,
        gates,
    })
}
