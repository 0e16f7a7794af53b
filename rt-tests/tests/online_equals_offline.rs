//! The real checkpoint on the real recording: `eval` gives the reference's figure, and `run` the same as `eval`.

use std::process::Command;

use neurohorizon::data::arrays::{ArrayFile, ArrayWriter, Elements};
use neurohorizon::data::Recording;
use neurohorizon::model::checkpoint::{Checkpoint, Stored};
use neurohorizon::model::config::{Decoder, Feedback, HistoryConfig, ModelConfig};
use neurohorizon::pipeline::message::flags;
use rt_tests::recorded::{that_sees_modalities, with_series};
use rt_tests::subscriber::{free_endpoint, subscribe};
use rt_tests::tiny::config;
use serde_json::Value;

/// Runs the program and reads the JSON object that it prints.
fn json(arguments: &[&str]) -> Value {
    let output = Command::new(rt_tests::program())
        .args(arguments)
        .output()
        .expect("the program starts");
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{arguments:?} printed {text}: {error}"))
}

fn figure(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("{value} is no number"))
}

/// A model that sees recent history keeps its traces over the whole run; `eval` follows them through the recording.
#[test]
fn recent_history_is_the_same_online_and_offline() {
    let (Some(checkpoint), Some(recording)) = (
        rt_tests::shared("checkpoints/neuropixels.ckpt"),
        rt_tests::shared("data/neuropixels.npz"),
    ) else {
        return;
    };
    let known = Checkpoint::load(&checkpoint).unwrap();
    let config = ModelConfig {
        history: Some(HistoryConfig {
            time_constants_s: vec![0.02, 0.3, 5.0],
            population_time_constants: 2,
            components: 4,
        }),
        ..known.config.clone()
    };
    let mut random = Checkpoint::random(&config, known.unit_ids.len() - 1, 6);
    random.unit_ids.clone_from(&known.unit_ids);
    random.null_log_rates.clone_from(&known.null_log_rates);
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("history.safetensors");
    std::fs::write(&file, random.to_safetensors(Stored::F32).unwrap()).unwrap();
    let (file, recording) = (file.display().to_string(), recording.display().to_string());

    for interval in [["--from", "0s", "--to", "12s"], ["--from", "20s", "--to", "32s"]] {
        same_windows(&file, &recording, &interval);
    }
}

/// Trials with time between them in which nothing was observed: traces begin anew there, in a run as in `eval`.
#[test]
fn recent_history_begins_anew_after_unobserved_time_online_too() {
    let Some(recording) = rt_tests::shared("data/m1_centre_out/mihi_2014-03-03.npz") else {
        return;
    };
    let recorded = Recording::load(&recording).unwrap();
    let units = recorded.unit_ids;
    // As if it had learned from this recording: its units fire like these.
    let mut counts = vec![1.0f32; units.len() + 1];
    recorded
        .spike_units
        .iter()
        .for_each(|&unit| counts[unit as usize + 1] += 1.0);
    let tiny = ModelConfig {
        history: Some(HistoryConfig {
            time_constants_s: vec![0.02, 0.3, 5.0],
            population_time_constants: 2,
            components: 4,
        }),
        ..config(Decoder::QueryAug(Feedback::None))
    };
    let mut random = Checkpoint::random(&tiny, units.len(), 6);
    random.null_log_rates = Some(counts.iter().map(|count| (count / 10_000.0).ln()).collect());
    random.unit_ids = std::iter::once("NA".to_owned()).chain(units).collect();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("history.safetensors");
    std::fs::write(&file, random.to_safetensors(Stored::F32).unwrap()).unwrap();
    let (file, recording) = (file.display().to_string(), recording.display().to_string());
    for interval in [["--from", "0s", "--to", "12s"], ["--from", "60s", "--to", "75s"]] {
        same_windows(&file, &recording, &interval);
    }
}

/// That a run of a part of a recording scores what `eval` does of the same part.
fn same_windows(file: &str, recording: &str, interval: &[&str]) {
    let offline = json(&[&["eval", file, recording, "--json"], interval].concat());
    let config = rt_tests::root().join("configs/replay.toml").display().to_string();
    let mut arguments = vec![
        "run",
        &config,
        "--checkpoint",
        file,
        "--recording",
        recording,
        "--json",
        "--quiet",
    ];
    arguments.extend([
        "--endpoint",
        "tcp://127.0.0.1:*",
        "--latest-endpoint",
        "",
        "--speed",
        "max",
    ]);
    arguments.extend(interval);
    let online = json(&arguments);
    let (online, offline) = (&online["score"]["windows"], &offline);
    assert_eq!(
        (&online["n_windows"], &online["n_spikes"]),
        (&offline["n_windows"], &offline["n_spikes"])
    );
    let (online, offline) = (figure(&online["fp_bps"]), figure(&offline["fp_bps"]));
    assert!(
        (online - offline).abs() < 1e-6 * offline.abs().max(1.0),
        "{online} and {offline}"
    );
}

#[test]
fn the_runtime_scores_what_the_reference_scored() {
    let (Some(checkpoint), Some(recording)) = (
        rt_tests::shared("checkpoints/neuropixels.ckpt"),
        rt_tests::shared("data/neuropixels.npz"),
    ) else {
        return;
    };
    let (checkpoint, recording) = (checkpoint.display().to_string(), recording.display().to_string());
    let config = rt_tests::root().join("configs/replay.toml").display().to_string();

    let offline = json(&["eval", &checkpoint, &recording, "--json"]);
    // The figures of the README beside that checkpoint.
    assert!((figure(&offline["fp_bps"]) - 0.009_197_58).abs() < 1e-5, "{offline}");
    assert_eq!(
        (offline["n_windows"].as_u64(), offline["n_spikes"].as_u64()),
        (Some(97), Some(23_871))
    );
    let by_bin = [
        0.029, 0.024, 0.023, 0.019, -0.001, -0.003, 0.007, 0.000, 0.010, 0.005, 0.006, -0.008,
    ];
    for (found, expected) in offline["fp_bps_by_bin"].as_array().expect("a list").iter().zip(by_bin) {
        assert!((figure(found) - expected).abs() < 6e-4, "{found} and not {expected}");
    }

    let run = |extra: &[&str]| {
        let mut arguments = vec![
            "run",
            &config,
            "--checkpoint",
            &checkpoint,
            "--recording",
            &recording,
            "--json",
            "--quiet",
        ];
        arguments.extend(["--endpoint", "tcp://127.0.0.1:*", "--latest-endpoint", ""]);
        arguments.extend(extra);
        json(&arguments)
    };
    let online = run(&["--from", "0.8", "--speed", "max"]);
    let windows = &online["score"]["windows"];
    assert!(
        (figure(&windows["fp_bps"]) - figure(&offline["fp_bps"])).abs() < 1e-6,
        "{windows} and {offline}"
    );
    assert_eq!(windows["n_windows"], offline["n_windows"]);
    assert_eq!(windows["n_spikes"], offline["n_spikes"]);
    assert_eq!(online["imbalances"].as_array().map(Vec::len), Some(0));

    // Every bin, and another horizon.
    let arguments = [
        "eval",
        &checkpoint,
        &recording,
        "--json",
        "--from",
        "110s",
        "--to",
        "115s",
    ];
    let interval = ["--from", "110s", "--to", "115s", "--speed", "max"];
    let every = json(&[&arguments[..], &["--stride-bins", "1"]].concat());
    let online = run(&interval);
    assert!((figure(&online["score"]["every_bin"]["fp_bps"]) - figure(&every["fp_bps"])).abs() < 1e-6);
    let short = json(&[&arguments[..], &["--horizon-bins", "5"]].concat());
    let online = run(&[&interval[..], &["--horizon-bins", "5"]].concat());
    assert!((figure(&online["score"]["windows"]["fp_bps"]) - figure(&short["fp_bps"])).abs() < 1e-6);
}

/// A network that sees behaviour and stimuli predicts while they come in, bit for bit, what it predicts from a recording.
#[test]
fn other_modalities_are_the_same_online_and_offline() {
    let folder = tempfile::tempdir().unwrap();
    let (file, session) = (
        folder.path().join("model.safetensors"),
        folder.path().join("session.npz"),
    );
    let recording = with_series(&session);
    let checkpoint = that_sees_modalities(&recording);
    std::fs::write(&file, checkpoint.to_safetensors(Stored::F32).unwrap()).unwrap();
    let (file, session) = (file.display().to_string(), session.display().to_string());

    let exported = folder.path().join("out.npz").display().to_string();
    let (from, to) = (["--from", "2s"], ["--to", "12s"]);
    let eval = [
        "eval",
        &file,
        &session,
        "--json",
        "--stride-bins",
        "1",
        "--export",
        &exported,
    ];
    let offline = json(&[&eval[..], &from, &to].concat());
    let endpoint = free_endpoint();
    let subscriber = subscribe(&endpoint, 499);
    let config = rt_tests::root().join("configs/replay.toml").display().to_string();
    let run = ["run", &config, "--checkpoint", &file, "--recording", &session];
    let run = [
        &run[..],
        &["--json", "--quiet", "--speed", "max", "--device", "cpu"],
        &from,
        &to,
    ]
    .concat();
    let publish = [
        "--endpoint",
        &endpoint,
        "--latest-endpoint",
        "",
        "--wait-for-subscriber",
        "20",
    ];
    let online = json(&[&run[..], &publish].concat());
    let (score, windows) = (&online["score"]["every_bin"], &offline["n_windows"]);
    assert_eq!(
        (&score["n_windows"], &score["n_spikes"]),
        (windows, &offline["n_spikes"])
    );
    assert!(
        (figure(&score["fp_bps"]) - figure(&offline["fp_bps"])).abs() < 1e-6,
        "{online} and {offline}"
    );

    let mut archive = ArrayFile::open(std::path::Path::new(&exported)).unwrap();
    let (shape, log_rates) = archive.take_f32("log_rates", 3).unwrap();
    let received = subscriber.join().unwrap();
    // Those whose bins reach beyond the end are published, and not scored.
    assert!(
        shape[0] > 400 && received.len() >= shape[0],
        "{shape:?} and {}",
        received.len()
    );
    let silent = received
        .iter()
        .filter(|(header, _)| header.flags & flags::MODALITY_SILENT != 0)
        .count();
    for (window, ((_, array), expected)) in received
        .iter()
        .zip(log_rates.chunks_exact(shape[1] * shape[2]))
        .enumerate()
    {
        assert!(
            array.iter().zip(expected).all(|(a, b)| a.to_bits() == b.to_bits()),
            "window {window}"
        );
    }
    // 1.2 s without a sample, a history of 0.5 s.
    assert!((33..=37).contains(&silent), "{silent}");
    let [behaviour, stimulus] = [0, 1].map(|modality| &online["modalities"][modality]);
    assert_eq!((&behaviour["silent"], &stimulus["silent"]), (&silent.into(), &0.into()));
    for modality in [behaviour, stimulus] {
        assert_eq!(
            (&modality["in_time"], &modality["late"]),
            (&modality["offered"], &0.into())
        );
        assert!(modality["source"]
            .as_str()
            .is_some_and(|source| source.contains("session.npz")));
    }

    // What is seen matters: the figure without the series is another.
    let without = folder.path().join("without.npz").display().to_string();
    let mut archive = ArrayWriter::default();
    let times: Vec<f64> = recording
        .spike_times_ns
        .iter()
        .map(|&time| time as f64 * 1e-9)
        .collect();
    let units: Vec<i64> = recording.spike_units.iter().map(|&unit| i64::from(unit)).collect();
    archive
        .add("spike_times", &[times.len()], Elements::F64(&times))
        .unwrap();
    archive
        .add("spike_units", &[times.len()], Elements::I64(&units))
        .unwrap();
    std::fs::write(&without, archive.finish().unwrap()).unwrap();
    let blind = json(
        &[
            &["eval", &file, &without, "--json", "--stride-bins", "1"][..],
            &from,
            &to,
        ]
        .concat(),
    );
    assert!(
        (figure(&blind["fp_bps"]) - figure(&offline["fp_bps"])).abs() > 1e-4,
        "{blind} and {offline}"
    );
}
