//! Sessions that a network never saw: simulated ones are learned from, others are scored, and nothing that is scored is
//! learned from.

use std::path::Path;
use std::process::{Command, Output};
use std::sync::atomic::AtomicBool;

use neurohorizon::acquire::simulate::archive::archive;
use neurohorizon::acquire::simulate::SimulationConfig;
use neurohorizon::data::{Interval, LoadOptions, Position, Recording};
use neurohorizon::model::checkpoint::Checkpoint;
use neurohorizon::model::identity::{identified, reference_of, without_encoder, TABLES};
use neurohorizon::model::BuildOptions;
use neurohorizon::train::config::{Only, TrainConfig};
use neurohorizon::train::few_shot::{Choice, FewShot, FewShotOptions};
use neurohorizon::train::learner::learners;
use neurohorizon::train::sampler::Span;
use neurohorizon::train::set_up::training_set;
use neurohorizon::train::trainer::Trainer;
use neurohorizon::train::transfer::{
    transfer, TransferError, TransferOptions, GLM, MEAN_RATE, ONE_PASS, REFINED, TUNED_ALL,
};
use rt_tests::program;
use serde_json::Value;

const UNITS: usize = 12;

const CONFIG: &str = r#"
[data.simulate]
units = 12
seed = 40
sessions = 4
held_out = 1
train_s = 30.0
reference_s = 20.0
validate_s = 10.0

[model]
bin_ms = 50.0
horizon_bins = 2
history_ms = 200.0
dim = 8
dim_head = 8
cross_heads = 1
self_heads = 2
processor_layers = 1
decoder_layers = 1
latents_per_step = 2

[model.recent_history]
time_constants_bins = [1.0, 4.0]
population_time_constants = 2
components = 4

[model.identity]
window_ms = 1000
bin_ms = 100
hidden = 12
population = false
components = 3
shortest_s = 5
longest_s = 20
validation_s = 20

[training]
steps = 150
batch = 16
validate_every = 50
threads = 2

[optimiser]
learning_rate = 5e-3
weight_decay = 0.0

[dropout]
hidden = 0.0
attention = 0.0
residual = 0.0
population = 0.2
"#;

/// Trained on four simulated populations, judged by a fifth.
fn trained(folder: &Path) -> Checkpoint {
    let mut config = TrainConfig::parse("test", CONFIG).unwrap();
    config.training.out = folder.to_owned();
    let (set, hash) = training_set(&config).unwrap();
    assert_eq!(set.sessions().len(), 5);
    let judged: Vec<bool> = set
        .recordings()
        .iter()
        .map(|recording| !recording.validation.is_empty())
        .collect();
    assert_eq!(judged, [false, false, false, false, true]);
    assert!(set.recordings()[4].training.is_empty());
    let threads = learners(&config, config.training.device).unwrap();
    let mut trainer = Trainer::new(config, set, hash, threads, false).unwrap();
    let outcome = trainer.run(&AtomicBool::new(false), &mut |_| ()).unwrap();
    Checkpoint::load(&outcome.checkpoint.unwrap()).unwrap()
}

/// Another population than any of these.
fn session_bytes() -> Vec<u8> {
    let config = SimulationConfig {
        n_units: UNITS,
        ..SimulationConfig::default()
    };
    archive(&config, 900, 60_000_000_000).unwrap()
}

fn session() -> Recording {
    Recording::from_bytes("session", &session_bytes(), &LoadOptions::default()).unwrap()
}

fn few_shot() -> FewShotOptions {
    FewShotOptions {
        steps: 12,
        judge_every: 4,
        learning_rates: vec![1e-3, 1e-2],
        batch: 8,
        ..FewShotOptions::default()
    }
}

fn options(seconds: &[f64], from_s: f64) -> TransferOptions {
    TransferOptions {
        seconds: seconds.to_vec(),
        from: Position::Seconds(from_s),
        to: Position::Fraction(1.0),
        observed_only: false,
        bootstrap: 100,
        seed: 3,
        few_shot: Some(few_shot()),
        build: BuildOptions::default(),
    }
}

#[test]
fn a_session_is_scored_from_its_first_seconds() {
    let folder = tempfile::tempdir().unwrap();
    let checkpoint = trained(folder.path());
    let recording = session();
    let run = |recording: &Recording, options: &TransferOptions| {
        let mut begun = 0;
        let found = transfer(&checkpoint, recording, &[], None, options, &mut |_| begun += 1);
        assert!(begun > 0);
        found.unwrap()
    };
    let found = run(&recording, &options(&[8.0, 20.0], 20.0));
    let rows = &found.transfer.rows;
    let names: Vec<&str> = rows.iter().map(|row| row.name.as_str()).collect();
    assert_eq!(names.len(), 8, "{names:?}");
    assert_eq!((names[0], names[1], names[7]), (ONE_PASS, REFINED, "true rates"));
    let value = |name: &str, column: usize| {
        let row = rows.iter().find(|row| row.name == name).unwrap();
        row.cells[column].bits.value.unwrap()
    };
    // The null model is the mean rate of the longest beginning.
    assert!(value(MEAN_RATE, 1).abs() < 1e-9 && value(MEAN_RATE, 0) < 0.0);
    assert!(value(ONE_PASS, 1) > 0.0 && value("true rates", 1) > 3.0 * value(ONE_PASS, 1).abs());
    assert!(value(ONE_PASS, 0) > value(GLM, 0));
    // Every difference is that of the two figures.
    for row in &rows[1..] {
        for (column, cell) in row.cells.iter().enumerate() {
            let more = cell.first_gains_more.unwrap();
            let expected = value(ONE_PASS, column) - cell.bits.value.unwrap();
            assert!(
                (more.value.unwrap() - expected).abs() < 1e-9 && more.ci95.is_some(),
                "{}",
                row.name
            );
        }
    }
    assert_eq!(found.tuned.len(), 4);
    assert!(found
        .tuned
        .iter()
        .all(|tuned| tuned.choice.bits_per_spike >= tuned.choice.before));

    // The same seed, the same figures; another, others.
    assert_eq!(run(&recording, &options(&[8.0, 20.0], 20.0)).transfer, found.transfer);
    let mut reseeded = options(&[8.0, 20.0], 20.0);
    reseeded.seed = 4;
    assert_ne!(run(&recording, &reseeded).transfer, found.transfer);

    // What is scored is learned from by nobody: with spikes taken out of it, everything that was chosen and fitted is the same.
    let mut thinned = recording.clone();
    let origin_ns = recording.grid_origin_ns().unwrap();
    let keep = |&(time_ns, _): &(&i64, &u32)| *time_ns < origin_ns + 20_000_000_000 || time_ns % 3 != 0;
    let kept = recording.spike_times_ns.iter().zip(&recording.spike_units).filter(keep);
    (thinned.spike_times_ns, thinned.spike_units) = kept.map(|(&time_ns, &unit)| (time_ns, unit)).unzip();
    let again = run(&thinned, &options(&[8.0, 20.0], 20.0));
    assert_ne!(again.transfer.rows[0].cells, found.transfer.rows[0].cells);
    assert_eq!(again.tuned, found.tuned);
    for (row, of) in again.transfer.rows.iter().zip(rows) {
        for (cell, of) in row.cells.iter().zip(&of.cells) {
            assert_eq!(cell.detail, of.detail, "{}", row.name);
        }
    }
}

#[test]
fn what_is_scored_cannot_be_fitted_on() {
    let folder = tempfile::tempdir().unwrap();
    let checkpoint = trained(folder.path());
    let recording = session();
    let refused = |options: &TransferOptions| {
        let refused = transfer(&checkpoint, &recording, &[], None, options, &mut |_| ());
        refused.map(|_| ()).unwrap_err()
    };
    let early = refused(&options(&[8.0, 20.0], 19.9));
    assert!(matches!(early, TransferError::Asked(_)), "{early}");
    assert!(early.to_string().contains("--from is 20s at the earliest"), "{early}");
    assert!(refused(&options(&[20.0, 8.0], 20.0)).to_string().contains("ascend"));
    assert!(refused(&options(&[], 20.0)).to_string().contains("--seconds"));
    // Half a second holds no window of the encoder, and after 90 s of 60 there is nothing.
    assert!(refused(&options(&[0.5], 20.0))
        .to_string()
        .contains("window of the encoder"));
    assert!(refused(&options(&[80.0], 90.0))
        .to_string()
        .contains("there is nothing"));
    let known = without_encoder(checkpoint.clone());
    let looked_up = transfer(&known, &recording, &[], None, &options(&[8.0], 20.0), &mut |_| ());
    assert!(looked_up
        .map(|_| ())
        .unwrap_err()
        .to_string()
        .contains("[model.identity]"));
}

#[test]
fn fine_tuned_embeddings_leave_all_other_weights_as_they_are() {
    let folder = tempfile::tempdir().unwrap();
    let checkpoint = trained(folder.path());
    let recording = session();
    let part = Interval {
        start_ns: recording.grid_origin_ns().unwrap(),
        end_ns: 20_000_000_000,
    };
    let reference = reference_of(&checkpoint, &recording, part).unwrap();
    let known = identified(&checkpoint, &reference, "new", &recording.unit_ids).unwrap();
    let known = without_encoder(known);
    let options = few_shot();
    let train = Span {
        from: Position::Seconds(0.0),
        to: Position::Seconds(20.0),
    };
    let choice = |steps| Choice {
        learning_rate: 1e-2,
        steps,
        bits_per_spike: None,
        before: None,
    };
    let tuned = |only, steps| {
        let tuner = FewShot {
            options: &options,
            only,
        };
        let mut taken = 0;
        let tuned = tuner
            .tune(&known, &recording, train, &choice(steps), &mut || taken += 1)
            .unwrap();
        assert_eq!(taken, steps);
        tuned
    };
    let changed = |tuned: &Checkpoint| -> Vec<String> {
        let names = known
            .tensors
            .iter()
            .filter(|(name, tensor)| tuned.tensors[*name].data != tensor.data);
        names.map(|(name, _)| name.clone()).collect()
    };
    let embeddings = changed(&tuned(Some(Only::Embeddings), 5));
    let mut tables = TABLES.map(String::from).to_vec();
    tables.sort_unstable();
    assert_eq!(embeddings, tables);
    let all = changed(&tuned(None, 5));
    assert!(
        all.len() > 20 && tables.iter().all(|table| all.contains(table)),
        "{all:?}"
    );
    assert!(changed(&tuned(None, 0)).is_empty());
    // One seed, one result.
    assert_eq!(tuned(None, 5).tensors, tuned(None, 5).tensors);
}

/// What identities are made of lies within the recording and apart from what is scored, and is named.
fn refused_references(path: &Path) {
    let refused = |arguments: &[&str], expected: &str| {
        let output = program_with(path, arguments);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {errors}");
        assert!(errors.contains(expected), "{arguments:?}: {errors}");
    };
    let files = ["best.safetensors", "session.npz"];
    for command in ["eval", "decode", "attribute"] {
        for (identify, from, expected) in [
            ("0s..30s", "20s", "--from is 30s at the earliest"),
            ("0s..30.02s", "30s", "--from is 30.05s at the earliest"),
            ("0s..90s", "50s", "s long from its first spike"),
        ] {
            let flags = ["--identify", identify, "--from", from];
            refused(&[&[command], &files[..], &flags].concat(), expected);
        }
    }
    let apart = ["--identify", "0s..30s", "--from", "30s", "--bootstrap", "0"];
    let scored = program_with(path, &[&["eval"], &files[..], &apart].concat());
    assert!(scored.status.success(), "{scored:?}");
    let calibrate = [&["calibrate"], &files[..], &["--out", "known.safetensors"]].concat();
    refused(&[&calibrate[..], &["--session", ""]].concat(), "--session");
    refused(
        &[&calibrate[..], &["--to", "90s"]].concat(),
        "s long from its first spike",
    );
    assert!(!path.join("known.safetensors").exists());
}

fn program_with(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(program())
        .args(arguments)
        .current_dir(folder)
        .output()
        .unwrap()
}

#[test]
fn the_program_writes_table_page_and_json() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path();
    trained(path);
    let simulated = program_with(
        path,
        &[
            "simulate",
            "--seed",
            "900",
            "--units",
            "12",
            "--seconds",
            "60",
            "--out",
            "session.npz",
        ],
    );
    assert!(simulated.status.success(), "{simulated:?}");
    assert_eq!(std::fs::read(path.join("session.npz")).unwrap(), session_bytes());
    let other = [
        "simulate",
        "--seed",
        "901",
        "--units",
        "12",
        "--seconds",
        "40",
        "--out",
        "other.npz",
    ];
    assert!(program_with(path, &other).status.success());

    let common = [
        "transfer",
        "best.safetensors",
        "session.npz",
        "--seconds",
        "8,20",
        "--from",
        "20s",
        "--bootstrap",
        "50",
    ];
    let with = |more: &[&str]| program_with(path, &[&common[..], more].concat());
    let more = [
        "--steps",
        "4",
        "--learning-rates",
        "1e-3",
        "--html",
        "t.html",
        "--tune-on",
        "other.npz",
    ];
    let printed = with(&more);
    let text = String::from_utf8_lossy(&printed.stdout);
    assert!(printed.status.success(), "{printed:?}");
    for part in [
        ONE_PASS,
        "fine-tuned embeddings",
        TUNED_ALL,
        "8 s",
        "of the true rates:",
        "from 20 s, identities",
    ] {
        assert!(text.contains(part), "{part} is missing: {text}");
    }
    assert!(String::from_utf8_lossy(&printed.stderr).contains("8 s: GLM"));
    let page = std::fs::read_to_string(path.join("t.html")).unwrap();
    assert!(page.contains("seconds of the session that were given") && page.contains("FNV-1a"));

    let json = with(&["--no-fine-tuning", "--json", "--upper", "best.safetensors"]);
    // The network looks none of these units up under its own sessions' names.
    assert_eq!(json.status.code(), Some(2), "{json:?}");
    let unknown = with(&["--no-fine-tuning", "--upper", "best.safetensors"]);
    let errors = String::from_utf8_lossy(&unknown.stderr);
    // Said before anything is computed, and so announced.
    let said: Vec<&str> = errors.lines().filter(|line| !line.starts_with("device ")).collect();
    assert!(
        said.len() == 1 && said[0].starts_with("error: ") && said[0].contains("none of the 12 units"),
        "{errors}"
    );
    refused_references(path);
    let json = with(&["--no-fine-tuning", "--json"]);
    let report: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(report["rows"].as_array().unwrap().len(), 6);
    assert_eq!(report["seconds"], serde_json::json!([8.0, 20.0]));
    assert!(report["rows"][0]["cells"][1]["bits"]["value"].as_f64().unwrap() > 0.0);
    assert_eq!(report["fine_tuning"], Value::Null);
    let own = with(&["--tune-on", "session.npz"]);
    assert_eq!(own.status.code(), Some(2));
    assert!(
        String::from_utf8_lossy(&own.stderr).contains("another session"),
        "{own:?}"
    );
    let early = program_with(
        path,
        &[
            "transfer",
            "best.safetensors",
            "session.npz",
            "--seconds",
            "30",
            "--from",
            "20s",
        ],
    );
    assert_eq!(early.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&early.stderr).contains("at the earliest"));
}
