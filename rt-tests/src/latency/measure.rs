//! Runs a scenario: the runtime, its subscribers and a device, each for itself, and what goes on beside them.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use neurohorizon::control::{Client, Request};
use rustix::process::Signal;
use serde::{Deserialize, Serialize};

use super::child::Kept;
use super::disturb;
use super::expected;
use super::faulty::{self, Broken};
use super::ledger::{offset_ns, Counted, Ledger, Terms};
use super::load::Sender;
use super::looped::Looped;
use super::quantiles::Quantiles;
use super::record::Received;
use super::runtime::{Runtime, Setup};
use super::scenario::{Event, Model, Scenario};
use super::sending::{send, Sending};
use super::stages::{Answer, Stages};
use super::subscriber::Subscriber;
use super::swap;

/// Its history, ms.
const HISTORY_MS: f64 = 100.0;
/// How much later than the quickest spikes others may come, ms.
const LATENESS_MS: f64 = 2.0;
/// Longest wait for a run's first prediction.
const FIRST_PREDICTION: Duration = Duration::from_secs(60);
/// Time from the last packet to the end of the run: its bin closes and is published.
const AFTER: Duration = Duration::from_millis(200);
/// How long a run may take to take up another model.
const SWAP: Duration = Duration::from_secs(20);
/// Bytes of a recording on a full disk.
const DISK_BYTES: u64 = 256 << 10;

/// Least time between two looks at the runtime's memory, and how many there are in a scenario.
const LOOK: Duration = Duration::from_millis(250);
const LOOKS: u32 = 240;
/// What is compared of a soak: its first and last ten minutes, or a sixth.
const COMPARED_S: f64 = 600.0;

/// How scenarios are run.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Seconds that are measured.
    pub seconds: f64,
    /// Seconds before that.
    pub warm_up_s: f64,
    /// Most memory that is taken from others, MiB.
    pub memory_mib: u64,
    /// Seed of the spikes.
    pub seed: u64,
    /// A recording in place of spikes at random times; a soak.
    pub recording: Option<Looped>,
    /// Times that a scenario is measured, floor and all, before a ratio is said to fail.
    pub tries: usize,
}

/// What came of a scenario.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Measured {
    /// Its name.
    pub name: String,
    /// What happened.
    pub about: String,
    /// Whether it ran under FIFO.
    pub fifo: bool,
    /// Whether gates speak of its latency.
    pub gated: bool,
    /// Times.
    pub stages: Stages,
    /// What is to be alike at two times.
    pub compared: Vec<Compared>,
    /// Resident memory of the runtime, KiB, look by look, for a soak.
    pub memory: Option<Vec<u64>>,
    /// Bins beside a swap of the model that were kept waiting, where no other of the run was.
    pub beside_the_swap: Option<Vec<String>>,
    /// Predictions whose bin a look at the clock had closed before the packet came that was to close it.
    pub closed_before: u64,
    /// The books.
    pub ledger: Ledger,
    /// What else there is to say.
    pub notes: Vec<String>,
}

/// A distribution before and after something.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Compared {
    /// Whose.
    pub what: String,
    /// Before.
    pub before: Quantiles,
    /// After.
    pub after: Quantiles,
}

/// Runs it.
///
/// # Errors
/// What did not work, in words: there is nothing to gate then.
pub fn measure(scenario: &Scenario, plan: &Plan, folder: &Path) -> Result<Measured, String> {
    let is_network = scenario.model == Model::Network;
    let ids = |units| (0..units).map(|unit| format!("unit{unit:04}")).collect();
    let setup = Setup {
        units: scenario.units,
        ids: if is_network { ids(scenario.units) } else { Vec::new() },
        unit_rate_hz: scenario.rate.hz / f64::from(scenario.units),
        bin_ms: scenario.bin_ms,
        history_ms: HISTORY_MS,
        checkpoint: is_network.then(|| crate::root().join("configs/demo.safetensors")),
        deadline_ms: scenario.bin_ms,
        lateness_ms: LATENESS_MS,
        fifo: scenario.fifo,
        record: (scenario.event == Event::DiskFull).then(|| (folder.join("full.nhr"), DISK_BYTES)),
        control: scenario.event == Event::ModelSwap,
    };
    let beside = beside(scenario.event, plan)?;
    let runtime = match scenario.model {
        Model::MeanRate | Model::Network => Runtime::start(&setup, folder)?,
        Model::GpuHangs => faulty::start(Broken::GpuHangs, LATENESS_MS)?,
        Model::NanWeights => {
            refuses(&setup, &faulty::poisoned_file(folder)?, folder)?;
            faulty::start(Broken::NanWeights, LATENESS_MS)?
        }
    };
    let other_model = match scenario.event {
        Event::ModelSwap => Some(faulty::another_model(folder)?),
        _ => None,
    };
    run(scenario, plan, runtime, (beside, other_model))
}

/// That the runtime does not begin with this checkpoint, and says why.
fn refuses(setup: &Setup, checkpoint: &Path, folder: &Path) -> Result<(), String> {
    let setup = Setup {
        checkpoint: Some(checkpoint.into()),
        ..setup.clone()
    };
    match Runtime::start(&setup, folder)?.ended() {
        Ok(errors) if errors.contains("finite") || errors.contains("NaN") => Ok(()),
        Ok(errors) => Err(format!(
            "weights that are not numbers are refused for another reason: {errors}"
        )),
        Err(why) => Err(format!("weights that are not numbers are not refused: {why}")),
    }
}

/// What goes on beside a run, from before its start.
fn beside(event: Event, plan: &Plan) -> Result<Vec<Kept>, String> {
    match event {
        Event::Hogs => disturb::hogs(),
        Event::Memory => Ok(vec![disturb::memory(disturb::pressure_mib(plan.memory_mib))?]),
        _ => Ok(Vec::new()),
    }
}

fn others(event: Event, endpoint: &str) -> Result<Vec<Subscriber>, String> {
    let count = match event {
        Event::SlowSubscriber | Event::GoneSubscriber => 1,
        Event::FrozenSubscribers => 2,
        Event::TenSubscribers => 9,
        _ => 0,
    };
    let slow = event == Event::SlowSubscriber;
    (0..count).map(|_| Subscriber::start(endpoint, false, slow)).collect()
}

fn wait_for_the_first(subscriber: &Subscriber, runtime: &mut Runtime) -> Result<(), String> {
    let begun = Instant::now();
    while subscriber.count() == 0 {
        if begun.elapsed() > FIRST_PREDICTION || !runtime.process.runs() {
            runtime.process.kill();
            let said = runtime.process.errors();
            let waited = begun.elapsed().as_secs_f64();
            return Err(format!("no prediction within {waited:.1} s: {}", said.trim()));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}

/// What happens to others in the middle.
fn happen(event: Event, others: &mut [Subscriber], runtime: &Runtime, model: Option<&Path>) -> Result<(), String> {
    match (event, model, &runtime.control) {
        (Event::FrozenSubscribers, ..) => others.iter().for_each(|one| one.process.signal(Signal::STOP)),
        (Event::GoneSubscriber, ..) => others.iter_mut().for_each(|one| one.process.kill()),
        (Event::ModelSwap, Some(model), Some(endpoint)) => {
            let client = Client::connect(endpoint, SWAP, |_| Ok(())).map_err(|error| error.to_string())?;
            let swap = Request::Swap {
                checkpoint: model.into(),
                session: None,
            };
            client.ask(&swap).map_err(|error| error.to_string())?;
        }
        _ => {}
    }
    Ok(())
}

fn run(
    scenario: &Scenario,
    plan: &Plan,
    mut runtime: Runtime,
    (beside, other_model): (Vec<Kept>, Option<PathBuf>),
) -> Result<Measured, String> {
    let bin_ns = (scenario.bin_ms * 1e6) as i64;
    let subscriber = Subscriber::start(&runtime.endpoint, scenario.fifo, false)?;
    wait_for_the_first(&subscriber, &mut runtime)?;
    // After the first: the run waits for one subscriber, and that is to be the one that misses nothing.
    let mut others = others(scenario.event, &runtime.endpoint)?;
    let mut sender = Sender::new(runtime.device, scenario.units).map_err(|error| error.to_string())?;
    let seconds = plan.warm_up_s + plan.seconds;
    let half = Duration::from_secs_f64(plan.warm_up_s + plan.seconds / 2.0);
    let look = LOOK.max(Duration::from_secs_f64(seconds) / LOOKS);
    let mut memory = Vec::new();
    let sending = std::thread::scope(|scope| {
        let sending = scope.spawn(|| send(scenario, plan, &mut sender, bin_ns, || subscriber.so_far()));
        let (begun, mut happened) = (Instant::now(), Ok(false));
        while !sending.is_finished() {
            std::thread::sleep(LOOK / 10);
            if begun.elapsed() >= look * memory.len() as u32 {
                memory.extend(runtime.process.status("VmRSS"));
            }
            if happened == Ok(false) && begun.elapsed() >= half {
                happened = happen(scenario.event, &mut others, &runtime, other_model.as_deref()).map(|()| true);
            }
        }
        let sent = sending.join().map_err(|_| "the sender panicked".to_string())?;
        happened.and(sent)
    })?;
    std::thread::sleep(AFTER);
    drop(beside);
    let summary = runtime.finish()?;
    let received = subscriber.finish()?;
    drop(others);
    let terms = Terms {
        bin_ns,
        deadline_ns: bin_ns,
    };
    let mut ledger = Ledger::of(&received, sending.sent, Counted::read(&summary)?, terms);
    let missing = expected::missing(scenario.event, scenario.model, &summary, &ledger);
    ledger.problems.extend(missing);
    if scenario.event == Event::ModelSwap {
        ledger.problems.extend(swap::problems(&received, bin_ns));
    }
    let mut measured = sum_up(scenario, plan, &received, &sending, ledger, bin_ns);
    tell(&summary, memory.last().copied(), &mut measured);
    measured.beside_the_swap = (scenario.event == Event::ModelSwap).then(|| swap::kept_waiting(&received));
    measured.memory = plan.recording.is_some().then_some(memory);
    Ok(measured)
}

/// Every prediction with the packet that was to close its bin. The first bin that was closed by one is found by its time; from
/// there on bins are counted.
fn answers(received: &[Received], sending: &Sending, bin_ns: i64) -> Vec<Answer> {
    let early: Vec<Received> = received
        .iter()
        .filter(|one| one.header.ingest_ns < sending.first_ns)
        .copied()
        .collect();
    let Some(offset_ns) = offset_ns(&early[early.len() / 4..]) else {
        return Vec::new();
    };
    let intended = |one: &Received| {
        let since = one.header.bin_end_ns + offset_ns - sending.first_ns;
        let bins = (since as f64 / bin_ns as f64).round() as i64;
        sending.first_ns + bins * bin_ns
    };
    received
        .iter()
        .map(|one| Answer {
            intended_ns: intended(one),
            received: *one,
        })
        .filter(|answer| sending.closing.contains(&answer.intended_ns))
        .collect()
}

/// What is to be alike before and after: the publisher with and without frozen subscribers, and a soak at its two ends.
fn compared(scenario: &Scenario, plan: &Plan, answers: &[Answer], from_ns: i64) -> Vec<Compared> {
    let (what, part_s, of): (_, _, fn(&Stages) -> &Quantiles) = match (scenario.event, &plan.recording) {
        (Event::FrozenSubscribers, _) => ("the publisher's", plan.seconds / 2.0, |stages| &stages.publisher),
        (_, Some(_)) => {
            let part_s = COMPARED_S.min(plan.seconds / 6.0);
            ("from spike to prediction,", part_s, |stages| &stages.total)
        }
        _ => return Vec::new(),
    };
    let part_ns = (part_s * 1e9) as i64;
    let end_ns = from_ns + (plan.seconds * 1e9) as i64;
    let within = |begin_ns: i64| -> Quantiles {
        let range = begin_ns..begin_ns + part_ns;
        let part: Vec<Answer> = answers
            .iter()
            .filter(|one| range.contains(&one.intended_ns))
            .copied()
            .collect();
        of(&Stages::of(&part)).clone()
    };
    vec![Compared {
        what: what.into(),
        before: within(from_ns),
        after: within(end_ns - part_ns),
    }]
}

fn sum_up(
    scenario: &Scenario,
    plan: &Plan,
    received: &[Received],
    sending: &Sending,
    ledger: Ledger,
    bin_ns: i64,
) -> Measured {
    let answers = answers(received, sending, bin_ns);
    let compared = compared(scenario, plan, &answers, sending.from_ns);
    Measured {
        name: scenario.name.into(),
        about: scenario.about.into(),
        fifo: scenario.fifo,
        gated: scenario.gated,
        stages: Stages::of(&answers),
        compared,
        memory: None,
        beside_the_swap: None,
        closed_before: answers
            .iter()
            .filter(|one| one.received.header.ingest_ns < one.intended_ns)
            .count() as u64,
        ledger,
        notes: Vec::new(),
    }
}

/// Whether what should have happened did, and what else the run says.
fn tell(summary: &serde_json::Value, resident_kib: Option<u64>, measured: &mut Measured) {
    let problems = &mut measured.ledger.problems;
    let listed = |name: &str| summary[name].as_array().cloned().unwrap_or_default();
    for name in ["imbalances", "failures"] {
        problems.extend(listed(name).iter().map(|one| format!("{name}: {one}")));
    }
    if measured.closed_before > 0 {
        let (before, all) = (measured.closed_before, measured.stages.total.count);
        measured.notes.push(format!(
            "bins closed by the clock before their packet came: {before} of {all}"
        ));
    }
    if let Some(kib) = resident_kib {
        measured.notes.push(format!("resident at the end: {} MiB", kib / 1_024));
    }
    for (what, path) in [
        ("times that a subscriber was full", "/bins/subscriber_overflows"),
        ("clock resets", "/sources/0/clock_resets"),
        ("times that the device was lost", "/sources/0/disconnections"),
        ("spikes with an implausible time", "/sources/0/implausible_times"),
    ] {
        match summary.pointer(path).and_then(serde_json::Value::as_u64) {
            Some(count) if count > 0 => measured.notes.push(format!("{what}: {count}")),
            _ => {}
        }
    }
    if let Some(failure) = summary
        .pointer("/recording/failure")
        .and_then(serde_json::Value::as_str)
    {
        measured.notes.push(format!("recording: {failure}"));
    }
    let refused = summary
        .pointer("/realtime")
        .map(ToString::to_string)
        .unwrap_or_default();
    if measured.fifo && refused.contains("refused") {
        measured.notes.push("some of --realtime was refused".into());
    }
}
