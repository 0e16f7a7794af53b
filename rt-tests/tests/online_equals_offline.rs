//! The real checkpoint on the real recording: `eval` gives the reference's figure, and `run` the same as `eval`.

use std::process::Command;

use neurohorizon::model::checkpoint::{Checkpoint, Stored};
use neurohorizon::model::config::{HistoryConfig, ModelConfig};
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

    let interval = ["--from", "0s", "--to", "12s"];
    let offline = json(&[&["eval", &file, &recording, "--json"], &interval[..]].concat());
    let config = rt_tests::root().join("configs/replay.toml").display().to_string();
    let mut arguments = vec![
        "run",
        &config,
        "--checkpoint",
        &file,
        "--recording",
        &recording,
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
