//! Identities by command: `run --calibrate --speed max` is the same each time, and what it saves can be used under its name.

use std::path::Path;
use std::process::{Command, Output};

use neurohorizon::model::checkpoint::{Checkpoint, Stored};
use neurohorizon::model::config::{HistoryConfig, IdentityConfig, IdentityScheme, ModelConfig};
use rt_tests::{program, root};
use serde_json::Value;

/// A checkpoint with an encoder of identities, trained on nothing.
fn checkpoint(folder: &Path) -> String {
    let config = ModelConfig {
        sequence_length: 0.28,
        pred_window: 0.08,
        dim: 16,
        dim_head: 8,
        enc_depth: 1,
        dec_depth: 1,
        self_heads: 2,
        num_latents_per_step: 2,
        history: Some(HistoryConfig {
            time_constants_s: vec![0.02, 0.2],
            population_time_constants: 1,
            components: 3,
        }),
        identity: Some(IdentityConfig {
            scheme: IdentityScheme::Binned,
            window_bins: 10,
            bin_s: 0.02,
            hidden: 12,
            population: false,
            components: 0,
            refine: false,
        }),
        ..ModelConfig::default()
    };
    let file = folder.join("encoder.safetensors");
    let bytes = Checkpoint::random(&config, 3, 1).to_safetensors(Stored::F32).unwrap();
    std::fs::write(&file, bytes).unwrap();
    file.display().to_string()
}

/// `neurohorizon run configs/simulate.toml` as fast as it goes, with these flags.
fn run(flags: &[&str]) -> Output {
    Command::new(program())
        .args([
            "run",
            "configs/simulate.toml",
            "--speed",
            "max",
            "--duration",
            "8",
            "--json",
            "--quiet",
        ])
        .args([
            "--endpoint",
            "tcp://127.0.0.1:*",
            "--latest-endpoint",
            "",
            "--device",
            "cpu",
        ])
        .args(flags)
        .current_dir(root())
        .output()
        .unwrap()
}

fn summary(output: &Output) -> Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn as_fast_as_it_goes_identities_come_at_the_same_bins_and_are_saved_under_their_name() {
    let folder = tempfile::tempdir().unwrap();
    let encoder = checkpoint(folder.path());
    let saved = folder.path().join("saved.safetensors").display().to_string();
    let flags = ["--checkpoint", &encoder, "--calibrate", "3"];
    let save = ["--save-identities", &saved, "--session-name", "my night"];
    let first = summary(&run(&[&flags[..], &save[..]].concat()));
    let second = summary(&run(&flags));
    assert_eq!(first["score"], second["score"]);
    assert_eq!(
        (&first["calibration"]["made"], &first["calibration"]["taken_in"]),
        (&1.into(), &1.into())
    );
    // Mean rates from the first whole history, 0.2 s, until the bin that ends at 3 s.
    let calibrating = &first["bins"]["calibrating"];
    assert_eq!(calibrating, &second["bins"]["calibrating"]);
    assert_eq!(calibrating, 140, "{}", first["bins"]);

    for session in [&[][..], &["--session"][..]] {
        let mut config = String::from("[simulate]\nduration_s = 4.0\n[model]\n");
        if !session.is_empty() {
            config += "session = \"my night\"\n";
        }
        let file = folder.path().join("rig.toml");
        std::fs::write(&file, config).unwrap();
        let output = Command::new(program())
            .arg("run")
            .arg(&file)
            .args(["--checkpoint", &saved, "--speed", "max", "--json", "--quiet"])
            .args([
                "--endpoint",
                "tcp://127.0.0.1:*",
                "--latest-endpoint",
                "",
                "--device",
                "cpu",
            ])
            .output()
            .unwrap();
        let summary = summary(&output);
        assert_eq!(
            (&summary["units"], &summary["bins"]["neutral"]),
            (&96.into(), &0.into())
        );
    }
}

#[test]
fn a_place_that_cannot_be_written_is_refused_before_the_run() {
    let folder = tempfile::tempdir().unwrap();
    let encoder = checkpoint(folder.path());
    let output = run(&[
        "--checkpoint",
        &encoder,
        "--calibrate",
        "3",
        "--save-identities",
        "/nonexistent/saved.safetensors",
    ]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success() && output.stdout.is_empty(), "{said}");
    assert!(said.contains("/nonexistent/saved.safetensors"), "{said}");
}

#[test]
fn a_reference_that_is_longer_than_the_run_is_refused_before_it() {
    let folder = tempfile::tempdir().unwrap();
    let output = run(&["--checkpoint", &checkpoint(folder.path()), "--calibrate", "9"]);
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(
        !output.status.success() && said.contains("--calibrate") && said.contains("8.000 s"),
        "{said}"
    );
}

/// `run` of this rig, which predicts nothing but computes identities from 2 s.
fn run_rig(rig: &Path, flags: &[&str]) -> Output {
    Command::new(program())
        .arg("run")
        .arg(rig)
        .args(["--duration", "6", "--json", "--device", "cpu"])
        .args(["--endpoint", "tcp://127.0.0.1:*", "--latest-endpoint", ""])
        .args(flags)
        .output()
        .unwrap()
}

#[test]
fn units_that_are_listed_nowhere_have_identities_as_far_as_there_are_places() {
    let folder = tempfile::tempdir().unwrap();
    let encoder = checkpoint(folder.path());
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let to = socket.local_addr().unwrap().to_string();
    drop(socket);
    let rig = folder.path().join("rig.toml");
    let table =
        format!("[blackrock]\nlisten = \"{to}\"\nunits = [\"1..9:1\"]\nspare_units = 2\nunit_prefix = \"b/\"\n");
    std::fs::write(&rig, table).unwrap();
    let mut emulator = Command::new(program())
        .args([
            "emulate",
            "blackrock",
            "--send-to",
            &to,
            "--units",
            "12",
            "--duration",
            "60",
        ])
        .stdout(std::process::Stdio::null())
        .stderr(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let saved = folder.path().join("saved.safetensors").display().to_string();
    let flags = [
        "--checkpoint",
        &encoder,
        "--calibrate",
        "2",
        "--save-identities",
        &saved,
    ];
    let output = run_rig(&rig, &flags);
    emulator.kill().unwrap();
    emulator.wait().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    let summary = summary(&output);
    let device = &summary["sources"][0];
    let taken: Vec<&str> = (0..2)
        .map(|at| device["spare_units"][at]["is"].as_str().unwrap())
        .collect();
    let outside = ["b/10:1", "b/11:1", "b/12:1"];
    assert!(
        taken[0] != taken[1] && taken.iter().all(|unit| outside.contains(unit)),
        "{device}"
    );
    assert!(said.contains(&format!("{} is listed nowhere", taken[0])), "{said}");
    // The third of them found no place.
    assert!(device["unlisted"].as_u64() > Some(0), "{device}");
    assert_eq!(summary["spikes"]["unknown"], device["unlisted"], "{summary}");
    // The first identities came at 2 s, those of the new units after theirs.
    assert!(summary["calibration"]["made"].as_u64() >= Some(2), "{summary}");
    let named = Checkpoint::from_bytes(&saved, &std::fs::read(&saved).unwrap()).unwrap();
    for unit in taken {
        assert!(
            named.unit_ids.iter().any(|id| id.ends_with(unit)),
            "{:?}",
            named.unit_ids
        );
    }
    assert!(
        !named.unit_ids.iter().any(|id| id.contains("spare:")),
        "{:?}",
        named.unit_ids
    );
    let without = run_rig(&rig, &["--checkpoint", &encoder]);
    let said = String::from_utf8_lossy(&without.stderr);
    assert!(!without.status.success() && said.contains("spare_units"), "{said}");
}
