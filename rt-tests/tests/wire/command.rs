//! The commands as a user starts them: `emulate` writes the rig, `run` reads it.

use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};

use rt_tests::{program, root};
use serde_json::Value;

/// `neurohorizon emulate SYSTEM` and `neurohorizon run` of the rig that it writes, for three seconds: the run's summary.
fn emulate_and_run(system: &[&str]) -> Value {
    let folder = tempfile::tempdir().unwrap();
    let rig = folder.path().join("rig.toml");
    let program = program();
    let mut emulator = Command::new(&program)
        .arg("emulate")
        .args(system)
        .args(["--units", "50", "--duration", "30", "--rig"])
        .arg(&rig)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut errors = BufReader::new(emulator.stderr.take().unwrap());
    errors.read_line(&mut line).unwrap();
    assert!(line.starts_with("50 units of simulated population"), "{line}");
    let output = Command::new(&program)
        .arg("run")
        .arg(&rig)
        .args(["--duration", "3", "--json", "--quiet", "--latest-endpoint", ""])
        .args(["--endpoint", "tcp://127.0.0.1:*"])
        .current_dir(root())
        .output()
        .unwrap();
    emulator.kill().unwrap();
    emulator.wait().unwrap();
    let mut rest = String::new();
    errors.read_to_string(&mut rest).unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}{rest}");
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A run of three seconds in which nothing is lost.
fn check(summary: &Value) {
    assert_eq!(summary["outcome"], "finished");
    assert_eq!(summary["imbalances"], Value::Array(vec![]));
    assert_eq!(summary["bins"]["closed"], 150, "{}", summary["bins"]);
    let (spikes, device) = (&summary["spikes"], &summary["sources"][0]);
    assert!(spikes["binned"].as_u64() > Some(200), "{spikes}");
    assert_eq!(
        (&spikes["unknown"], &spikes["ring_refused"]),
        (&0.into(), &0.into()),
        "{spikes}"
    );
    assert_eq!(device["spikes"], spikes["offered"]);
    assert_eq!(device["connections"], 1);
    for key in [
        "discarded_bytes",
        "malformed",
        "implausible_times",
        "clock_resets",
        "unlisted",
    ] {
        assert_eq!(device[key], 0, "{key}: {device}");
    }
}

#[test]
fn intan_is_emulated_and_run_by_command() {
    check(&emulate_and_run(&[
        "intan",
        "--listen",
        "127.0.0.1:0",
        "--blocks-per-write",
        "1",
    ]));
}

#[test]
fn blackrock_is_emulated_and_run_by_command() {
    let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let to = socket.local_addr().unwrap().to_string();
    drop(socket);
    check(&emulate_and_run(&["blackrock", "--send-to", &to, "--ns"]));
}

#[test]
fn open_ephys_is_emulated_and_run_by_command() {
    check(&emulate_and_run(&["open-ephys", "--endpoint", "tcp://127.0.0.1:*"]));
}
