//! Units that appear, vanish and change while a run goes on: with a reference that goes along, predictions follow.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::AtomicBool;
use std::sync::Arc;
use std::time::{Duration, Instant};

use neurohorizon::acquire::replay::{RecordedSpikes, Replay};
use neurohorizon::acquire::simulate::{Population, SimulationConfig};
use neurohorizon::acquire::simulated::Simulated;
use neurohorizon::acquire::{Pace, Source as _};
use neurohorizon::data::{unit_id, Interval, Position, Recording};
use neurohorizon::model::checkpoint::{Checkpoint, Stored};
use neurohorizon::model::config::{HistoryConfig, IdentityConfig, IdentityScheme, ModelConfig};
use neurohorizon::model::identity::unidentified;
use neurohorizon::model::poisson::BitsPerSpike;
use neurohorizon::model::window::WindowShape;
use neurohorizon::model::{BackendKind, BuildOptions};
use neurohorizon::pipeline::calibrate::Calibration;
use neurohorizon::pipeline::message::{flags, MessageHeader};
use neurohorizon::pipeline::network::NetworkPredictor;
use neurohorizon::pipeline::{Latency, NullModel, Outcome, PublishConfig, Run, RunConfig, RunSummary};
use neurohorizon::train::config::TrainConfig;
use neurohorizon::train::learner::learners;
use neurohorizon::train::sampler::{Source, Span, TrainingSet};
use neurohorizon::train::trainer::Trainer;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rt_tests::subscriber::{free_endpoint, subscribe, Received};

const MS: i64 = 1_000_000;
const S: i64 = 1_000 * MS;

fn run_config(endpoint: &str, deadline_ns: i64) -> RunConfig {
    RunConfig {
        deadline_ns: Some(deadline_ns),
        ..RunConfig::new(PublishConfig {
            wait_for_subscriber: Duration::from_secs(10),
            ..PublishConfig::at(endpoint)
        })
    }
}

/// Nothing was lost on the way, and no bin came twice or not at all.
fn check_whole(summary: &RunSummary, received: &Received) {
    assert_eq!(summary.outcome, Outcome::Finished, "{summary}");
    assert!(summary.imbalances.is_empty(), "{:?}", summary.imbalances);
    assert_eq!((summary.bins.without_slot, summary.bins.subscriber_overflows), (0, 0));
    assert_eq!(summary.bins.published, received.len() as u64);
    for pair in received.windows(2) {
        assert_eq!(pair[1].0.bin_index, pair[0].0.bin_index + 1);
        assert_eq!(pair[1].0.sequence, pair[0].0.sequence + 1);
    }
}

const UNITS: usize = 10;
const BIN: i64 = 50 * MS;
const BINS: usize = 4;
/// Length of the live session, and when its units change.
const LIVE: i64 = 36 * S;
const CHANGE: i64 = 14 * S;
/// From here on the running reference, with some room, holds nothing from before the change.
const AFTER: i64 = CHANGE + 6 * S;

const CONFIG: &str = r#"
[data.simulate]
units = 2
seed = 0
train_s = 1.0
validate_s = 1.0

[model]
bin_ms = 50.0
horizon_bins = 4
history_ms = 300.0
dim = 16
dim_head = 8
cross_heads = 1
self_heads = 2
processor_layers = 1
decoder_layers = 1
latents_per_step = 1

[model.identity]
window_ms = 500.0
bin_ms = 50.0
hidden = 16
population = false
shortest_s = 3.0
longest_s = 6.0

[training]
steps = 500
batch = 16
validate_every = 500
threads = 2

[optimiser]
learning_rate = 5e-3

[dropout]
hidden = 0.0
attention = 0.0
residual = 0.0
"#;

/// Poisson units; `rates_hz(unit, time)` in steps of 1 ms.
fn poisson(seed: u64, end_ns: i64, rates_hz: impl Fn(usize, i64) -> f64) -> Recording {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let (mut times, mut units) = (Vec::new(), Vec::new());
    for now in (0..end_ns).step_by(MS as usize) {
        for unit in 0..UNITS {
            if random.random::<f64>() < rates_hz(unit, now) * 1e-3 {
                times.push(now);
                units.push(unit as u32);
            }
        }
    }
    Recording {
        name: format!("session {seed}"),
        unit_ids: (0..UNITS as u64).map(unit_id).collect(),
        spike_times_ns: times,
        spike_units: units,
        start_ns: 0,
        end_ns,
        intervals: vec![Interval { start_ns: 0, end_ns }],
        count_bin_ns: None,
        behaviour: Vec::new(),
        trials: Vec::new(),
        epochs: Vec::new(),
        notes: Vec::new(),
    }
}

/// A unit's rate in a session: a third are nearly silent, the others up to 40 Hz.
fn rates_of_session(seed: u64) -> Vec<f64> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let rate = |unit: usize| match unit % 3 {
        0 => 0.2,
        _ => (random.random_range(0.0..1.0f64) * 40f64.ln()).exp(),
    };
    (0..UNITS).map(rate).collect()
}

/// Trained on sessions of other units, each of which fires at a rate of its own.
fn trained(folder: &Path) -> Checkpoint {
    let mut config = TrainConfig::parse("test", CONFIG).unwrap();
    config.training.out = folder.to_owned();
    let sources = (1..=6).map(|seed| {
        let rates = rates_of_session(seed);
        let whole = Span {
            from: Position::Fraction(0.0),
            to: Position::Fraction(1.0),
        };
        Source {
            session: format!("s{seed}"),
            recording: poisson(seed, 40 * S, |unit, _| rates[unit]),
            training: vec![whole],
            validation: Vec::new(),
            reference: Vec::new(),
            test: Vec::new(),
        }
    });
    let plain = config.model_config().unwrap();
    let shape = WindowShape::new(&plain, plain.bins());
    let set = TrainingSet::new(sources.collect(), shape, 0.0).unwrap();
    let threads = learners(&config, BackendKind::Cpu).unwrap();
    let mut trainer = Trainer::new(config, set, 0, threads, false).unwrap();
    let outcome = trainer.run(&AtomicBool::new(false), &mut |_| ()).unwrap();
    Checkpoint::load(&outcome.checkpoint.unwrap()).unwrap()
}

/// Units 0 to 2 appear, 3 to 5 vanish, 6 and 7 exchange their rates, 8 and 9 stay.
fn live_session() -> Recording {
    let before = [0.0, 0.0, 0.0, 30.0, 25.0, 20.0, 3.0, 35.0, 10.0, 15.0];
    let after = [30.0, 25.0, 20.0, 0.0, 0.0, 0.0, 35.0, 3.0, 10.0, 15.0];
    poisson(
        77,
        LIVE,
        |unit, now| if now < CHANGE { before[unit] } else { after[unit] },
    )
}

fn live(checkpoint: &Checkpoint, recording: &Recording, every_s: Option<f64>) -> (RunSummary, Received) {
    let unknown = unidentified(checkpoint, "new", &recording.unit_ids, &[-3.0; UNITS]).unwrap();
    let options = BuildOptions {
        threads: 1,
        ..BuildOptions::default()
    };
    let predictor = NetworkPredictor::new(&unknown, "test", &recording.unit_ids, &options).unwrap();
    let wanted = Calibration {
        reference_s: 4.0,
        every_s,
        in_step: false,
    };
    let predictor = predictor.calibrate(&unknown, wanted).unwrap();
    let null = NullModel {
        log_rates: vec![-3.0; UNITS],
        last_bin_ns: predictor.last_bin_ns(),
    };
    let spikes = RecordedSpikes {
        times_ns: recording.spike_times_ns.clone().into(),
        units: recording.spike_units.clone().into(),
        unit_ids: recording.unit_ids.clone().into(),
    };
    let source = Replay::new("test", spikes, 0, LIVE, Pace::Clocked(4.0), 5 * MS).unwrap();
    let endpoint = free_endpoint();
    let subscriber = subscribe(&endpoint, LIVE / BIN - 1);
    // Whatever else the machine does, the bins must come.
    let config = run_config(&endpoint, S);
    let run = Run::start(
        &config,
        vec![Box::new(source)],
        Box::new(predictor),
        &null,
        Arc::default(),
    )
    .unwrap();
    let summary = run.join();
    (summary, subscriber.join().unwrap())
}

/// Bits per spike of the predictions made from `from_ns` on, against a mean rate that is the same for every unit.
fn bits(received: &Received, recording: &Recording, from_ns: i64) -> f64 {
    let mut counts = vec![[0.0f64; UNITS]; (LIVE / BIN) as usize + BINS];
    for (&time, &unit) in recording.spike_times_ns.iter().zip(&recording.spike_units) {
        counts[(time / BIN) as usize][unit as usize] += 1.0;
    }
    let null = (12.0f64 * BIN as f64 * 1e-9).ln();
    let mut sums = BitsPerSpike::new(BINS);
    let last = LIVE - BINS as i64 * BIN;
    for (header, log_rates) in received {
        if (from_ns..=last).contains(&header.bin_end_ns) {
            for (bin, log_rates) in log_rates.chunks_exact(UNITS).enumerate() {
                let truth = counts[(header.bin_end_ns / BIN) as usize + bin];
                sums.add_bin(bin, log_rates, truth, &[null; UNITS]);
            }
        }
    }
    sums.overall().unwrap()
}

#[test]
fn predictions_follow_units_that_appear_vanish_and_change() {
    let folder = tempfile::tempdir().unwrap();
    let begin = Instant::now();
    let checkpoint = trained(folder.path());
    println!("trained in {:.1} s", begin.elapsed().as_secs_f64());
    let recording = live_session();
    let (frozen, of_frozen) = live(&checkpoint, &recording, None);
    let (running, of_running) = live(&checkpoint, &recording, Some(1.0));
    for (summary, received) in [(&frozen, &of_frozen), (&running, &of_running)] {
        check_whole(summary, received);
        // Mean rates until the first reference is ready, and never again; on a busy machine some of them held.
        let calibrating = |(header, _): &(MessageHeader, Vec<f32>)| header.flags & flags::CALIBRATING != 0;
        let first = 1 + received.iter().rposition(calibrating).unwrap();
        assert!((70..120).contains(&first), "{first}");
        let held = |(header, _): &(MessageHeader, Vec<f32>)| header.flags & flags::HELD != 0;
        assert!(received[..first].iter().all(|each| calibrating(each) || held(each)));
        let calibrated = received.iter().filter(|each| calibrating(each)).count();
        assert_eq!(summary.bins.calibrating, calibrated as u64);
    }
    let [frozen, running] = [frozen, running].map(|summary| summary.calibration.unwrap());
    println!("{frozen:?}\n{running:?}");
    assert_eq!((frozen.made, frozen.taken_in, frozen.gaps, running.gaps), (1, 1, 0, 0));
    assert!(running.made >= 30 && running.taken_in >= 25, "{running:?}");

    let [before, after] = [(5 * S, CHANGE - S), (AFTER, LIVE)].map(|(from, until)| {
        let within = |received: &Received| {
            let part: Received = received
                .iter()
                .filter(|(header, _)| header.bin_end_ns < until)
                .cloned()
                .collect();
            bits(&part, &recording, from)
        };
        [within(&of_frozen), within(&of_running)]
    });
    println!("bits per spike, frozen and running: before {before:.3?}, after {after:.3?}");
    // The same predictions before, but that a reference that goes on wavers a little.
    assert!(before[0] > 0.2 && (before[0] - before[1]).abs() < 0.1, "{before:?}");
    assert!(after[1] > 0.2 && after[1] > after[0] + 0.3, "{after:?}");
}

/// The sizes of the recipe for Neuropixels, with an encoder of identities.
fn sizes_of_a_recipe(refine: bool) -> ModelConfig {
    ModelConfig {
        dim: 64,
        dim_head: 16,
        num_latents_per_step: 8,
        history: Some(HistoryConfig {
            time_constants_s: vec![0.02, 0.1, 0.5, 2.0, 10.0],
            population_time_constants: 3,
            components: 8,
        }),
        identity: Some(IdentityConfig {
            scheme: IdentityScheme::Binned,
            window_bins: 50,
            bin_s: 0.02,
            hidden: 64,
            population: true,
            components: 0,
            refine,
        }),
        ..ModelConfig::default()
    }
}

/// p50, p99 and the largest of close → publication as a subscriber reads them, ms.
fn latencies(received: &Received, from_ns: i64, until_ns: i64) -> [f64; 3] {
    let mut latency = Latency::default();
    for (header, _) in received {
        if (from_ns..until_ns).contains(&header.bin_end_ns) {
            // The source delivers on its clock: the bin closed when the clock marker was taken in, at the latest.
            latency.record(header.publish_ns - header.ingest_ns);
        }
    }
    let ms = |q| latency.quantile_ns(q) as f64 * 1e-6;
    [ms(0.5), ms(0.99), ms(1.0)]
}

#[test]
fn two_hundred_units_are_calibrated_while_bins_close() {
    // The first comes by itself; the second is asked for, while the network predicts.
    let again = 36 * S;
    two_hundred_units(
        false,
        Some(again),
        42 * S,
        &[
            ("network, before", 31 * S, again),
            ("the second after the calibration", again, again + S),
            ("network, after", again + S, 42 * S),
        ],
    );
}

#[test]
fn two_hundred_units_are_refined_while_bins_close() {
    // Some seconds in an unoptimised build.
    two_hundred_units(
        true,
        None,
        50 * S,
        &[
            ("mean rates, before", 20 * S, 30 * S),
            ("the second after the reference was whole", 30 * S, 31 * S),
            ("network, after", 45 * S, 50 * S),
        ],
    );
}

/// Identities of 200 units from 30 s in a run that ends at `end_ns`, computed a second time from `again_ns` on; prints how late
/// predictions were within some times.
fn two_hundred_units(refine: bool, again_ns: Option<i64>, end_ns: i64, within: &[(&str, i64, i64)]) {
    const MANY: usize = 200;
    let population = SimulationConfig {
        n_units: MANY,
        ..SimulationConfig::default()
    };
    let source = Simulated::new(
        Population::new(population, 5).unwrap(),
        0,
        end_ns,
        Pace::Clocked(1.0),
        MS,
    );
    let ids = source.unit_ids().to_vec();
    let checkpoint = Checkpoint::random(&sizes_of_a_recipe(refine), MANY, 3);
    let unknown = unidentified(&checkpoint, "new", &ids, &[-2.0; MANY]).unwrap();
    let predictor = NetworkPredictor::new(&unknown, "test", &ids, &BuildOptions::default()).unwrap();
    let wanted = Calibration {
        reference_s: 30.0,
        every_s: None,
        in_step: false,
    };
    let predictor = predictor.calibrate(&unknown, wanted).unwrap();
    let null = NullModel {
        log_rates: vec![-2.0; MANY],
        last_bin_ns: predictor.last_bin_ns(),
    };
    let endpoint = free_endpoint();
    let subscriber = subscribe(&endpoint, end_ns / (20 * MS) - 1);
    let config = run_config(&endpoint, 20 * MS);
    let run = Run::start(
        &config,
        vec![Box::new(source)],
        Box::new(predictor),
        &null,
        Arc::default(),
    )
    .unwrap();
    if let Some(again_ns) = again_ns {
        while run.live().device_ns < again_ns {
            assert!(!run.wait(Duration::from_millis(20)), "the run ended before");
        }
        assert!(run.handle().recalibrate());
    }
    let summary = run.join();
    let received = subscriber.join().unwrap();
    check_whole(&summary, &received);
    let calibration = summary.calibration.unwrap();
    let expected = 1 + u64::from(again_ns.is_some());
    assert_eq!(
        (calibration.made, calibration.taken_in, calibration.gaps),
        (expected, expected, 0)
    );
    let bins = &summary.bins;
    println!(
        "200 units from 30 s, refined: {refine}: computed in {:.1} ms beside the decode thread, taken in within {:.2} ms; {} bins held, {} \
         after their deadline of 20 ms, 0 lost",
        calibration.longest_ms, calibration.longest_take_ms, bins.held, bins.missed_deadline
    );
    for &(what, from, until) in within {
        let [p50, p99, max] = latencies(&received, from, until);
        println!("ingest → publication, {what}: p50 {p50:.2} ms, p99 {p99:.2} ms, largest {max:.2} ms");
    }
}

/// A small network that knows none of the units.
fn small() -> Checkpoint {
    let config = ModelConfig {
        dim: 16,
        dim_head: 8,
        num_latents_per_step: 2,
        enc_depth: 1,
        dec_depth: 1,
        identity: Some(IdentityConfig {
            scheme: IdentityScheme::Binned,
            window_bins: 10,
            bin_s: 0.02,
            hidden: 8,
            population: false,
            components: 0,
            refine: false,
        }),
        ..ModelConfig::default()
    };
    Checkpoint::random(&config, 3, 8)
}

fn saved(path: &Path) -> Vec<f32> {
    let checkpoint = Checkpoint::load(path).unwrap();
    assert_eq!(checkpoint.session_ids, ["NA", "rat7"]);
    assert_eq!(
        (checkpoint.unit_ids.len(), &checkpoint.unit_ids[1][..]),
        (25, "unit0000")
    );
    let table = &checkpoint.tensors["unit_emb.weight"];
    assert_eq!(table.shape, [25, 16]);
    assert!(table.data[16..].iter().any(|&x| x != 0.0));
    table.data.clone()
}

#[cfg(unix)]
#[test]
fn a_signal_has_identities_computed_anew_and_saved() {
    let folder = tempfile::tempdir().unwrap();
    let [file, out] = ["model.safetensors", "rat7.safetensors"].map(|name| folder.path().join(name));
    std::fs::write(&file, small().to_safetensors(Stored::F32).unwrap()).unwrap();
    let rig = folder.path().join("rig.toml");
    let text = "[simulate]\nunits = 24\nfit_s = 1.0\nduration_s = 600.0\nspeed = 4.0\n[publish]\nendpoint = \
                \"tcp://127.0.0.1:*\"\nlatest_endpoint = \"\"\n";
    std::fs::write(&rig, text).unwrap();
    let program = rt_tests::program();
    let run = |checkpoint: &Path, flags: &[&str]| {
        let mut command = Command::new(&program);
        command.arg("run").arg(&rig).arg("--checkpoint").arg(checkpoint);
        command.args(["--device", "cpu", "--json", "--quiet"]).args(flags);
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    };
    let save = [
        "--calibrate",
        "2",
        "--session-name",
        "rat7",
        "--save-identities",
        out.to_str().unwrap(),
    ];
    let child = run(&file, &save).spawn().unwrap();
    let signal = |name: &str| {
        let sent = Command::new("kill").args([name, &child.id().to_string()]).status();
        assert!(sent.unwrap().success());
    };
    let patience = Instant::now() + Duration::from_secs(60);
    // The file appears once the first reference is whole and a signal has come after it.
    std::thread::sleep(Duration::from_millis(1_500));
    while !out.exists() {
        assert!(Instant::now() < patience, "nothing was saved");
        signal("-USR1");
        std::thread::sleep(Duration::from_millis(500));
    }
    let first = saved(&out);
    std::thread::sleep(Duration::from_millis(1_500));
    signal("-USR1");
    let changed = || saved(&out) != first;
    while !changed() {
        assert!(Instant::now() < patience, "nothing was saved anew");
        std::thread::sleep(Duration::from_millis(100));
    }
    signal("-INT");
    let output = child.wait_with_output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    assert!(errors.contains("24 units of rat7"), "{errors}");
    assert!(!out.with_extension("partial").exists());

    // Known by their names from now on.
    let output = run(&out, &["--speed", "max", "--duration", "5"]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let summary: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&summary["units"], &summary["bins"]["neutral"]),
        (&24.into(), &0.into())
    );

    // A run that is over before there would be anything to save is not begun.
    let none = folder.path().join("none.safetensors");
    let flags = [
        "--calibrate",
        "30",
        "--duration",
        "2",
        "--speed",
        "max",
        "--save-identities",
        none.to_str().unwrap(),
    ];
    let output = run(&file, &flags).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && errors.contains("--calibrate"), "{errors}");
    assert!(!none.exists());
}

#[test]
fn identities_of_a_model_that_came_later_are_not_saved_as_the_first_ones() {
    let folder = tempfile::tempdir().unwrap();
    let [file, out] = ["model.safetensors", "saved.safetensors"].map(|name| folder.path().join(name));
    std::fs::write(&file, small().to_safetensors(Stored::F32).unwrap()).unwrap();
    let rig = folder.path().join("rig.toml");
    let text = "[simulate]\nunits = 24\nfit_s = 1.0\nduration_s = 600.0\nspeed = 4.0\n[publish]\nendpoint = \
                \"tcp://127.0.0.1:*\"\nlatest_endpoint = \"\"\n";
    std::fs::write(&rig, text).unwrap();
    let (program, control) = (rt_tests::program(), free_endpoint());
    let mut run = Command::new(&program);
    run.arg("run")
        .arg(&rig)
        .arg("--checkpoint")
        .arg(&file)
        .arg("--save-identities")
        .arg(&out);
    run.args([
        "--device",
        "cpu",
        "--json",
        "--quiet",
        "--calibrate",
        "2",
        "--control",
        &control,
    ]);
    let child = run.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let ctl = |arguments: &[&str]| {
        let mut command = Command::new(&program);
        command
            .args(["ctl", "--endpoint", &control, "--patience", "30", "--json"])
            .args(arguments);
        serde_json::from_slice::<serde_json::Value>(&command.output().unwrap().stdout).unwrap()
    };
    ctl(&["swap", file.to_str().unwrap()]);
    let patience = Instant::now() + Duration::from_secs(60);
    // It goes along until it has identities of its own.
    while ctl(&["state"])["exchanged"] != 1 {
        assert!(Instant::now() < patience, "the second model never predicted");
        std::thread::sleep(Duration::from_millis(50));
    }
    ctl(&["stop"]);
    let output = child.wait_with_output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && errors.contains("another model took the first one's place"),
        "{errors}"
    );
    assert!(!out.exists());
}
