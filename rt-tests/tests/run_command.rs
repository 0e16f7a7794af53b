//! `neurohorizon run` as a user starts it: on a real recording, with a Python subscriber, with a signal.

use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rt_tests::{program, shared, skip};
use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

fn free_endpoint() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    format!("tcp://{}", listener.local_addr().unwrap())
}

/// `neurohorizon run configs/replay.toml` on the Neuropixels recording, with these flags; `None` where it is absent.
fn run_recording(flags: &[&str]) -> Option<Command> {
    let recording = shared("data/neuropixels.npz")?;
    let mut command = Command::new(program());
    command
        .args(["run", "configs/replay.toml", "--json", "--latest-endpoint", ""])
        .args(flags);
    command.arg("--recording").arg(recording).current_dir(root());
    Some(command)
}

fn summary(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(&text).unwrap_or_else(|error| {
        panic!("{error}: {text:?}, {}", String::from_utf8_lossy(&output.stderr));
    })
}

#[test]
fn the_held_out_part_of_a_recording_is_balanced_and_scored_in_the_known_windows() {
    let Some(mut command) = run_recording(&["--speed", "max", "--from", "0.8", "--endpoint", "tcp://127.0.0.1:*"])
    else {
        return;
    };
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let summary = summary(&output);
    assert_eq!(summary["outcome"], "finished");
    assert_eq!(summary["imbalances"], Value::Array(vec![]));
    // 97 windows: the README of the checkpoints.
    assert_eq!(summary["score"]["windows"]["n_windows"], 97);
    assert!(summary["score"]["windows"]["fp_bps"].as_f64().unwrap().abs() < 1e-6);
    assert_eq!(summary["spikes"]["late"], 0);
    assert_eq!(summary["spikes"]["ring_refused"], 0);
}

#[test]
fn a_simulation_runs_without_data_and_repeats_itself() {
    let flags = [
        "--speed",
        "max",
        "--duration",
        "20",
        "--json",
        "--endpoint",
        "tcp://127.0.0.1:*",
    ];
    let run = || {
        let mut command = Command::new(program());
        command
            .args(["run", "configs/simulate.toml", "--latest-endpoint", ""])
            .args(flags)
            .current_dir(root());
        let output = command.output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        summary(&output)
    };
    let (first, second) = (run(), run());
    assert_eq!(
        (first["bins"]["closed"].as_u64(), first["bins"]["published"].as_u64()),
        (Some(1_000), Some(976))
    );
    assert_eq!(first["imbalances"], Value::Array(vec![]));
    assert!(first["spikes"]["binned"].as_u64().unwrap() > 1_000);
    assert_eq!(
        (&first["spikes"], &first["score"]),
        (&second["spikes"], &second["score"])
    );
}

/// Waits for a child, and ends it where it does not end by itself.
fn wait(mut child: Child, patience: Duration) -> Output {
    let until = Instant::now() + patience;
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > until {
            child.kill().unwrap();
            panic!("the program did not end within {patience:?}");
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    child.wait_with_output().unwrap()
}

#[cfg(unix)]
#[test]
fn an_interrupt_ends_the_run_with_its_summary() {
    let Some(mut command) = run_recording(&["--endpoint", "tcp://127.0.0.1:*"]) else {
        return;
    };
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    // The third line of the start-up says where predictions are: from then on the run goes.
    let mut errors = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.starts_with("predictions") {
        line.clear();
        assert!(
            errors.read_line(&mut line).unwrap() > 0,
            "the program ended before it ran"
        );
    }
    std::thread::sleep(Duration::from_millis(1_000));
    let sent = Command::new("kill")
        .args(["-INT", &child.id().to_string()])
        .status()
        .unwrap();
    assert!(sent.success());
    let output = wait(child, Duration::from_secs(20));
    let mut rest = String::new();
    errors.read_to_string(&mut rest).unwrap();
    assert!(output.status.success(), "{rest}");
    let summary = summary(&output);
    assert_eq!(summary["outcome"], "stopped");
    assert!(summary["bins"]["published"].as_u64().unwrap() > 0);
    assert_eq!(summary["imbalances"], Value::Array(vec![]));
}

#[test]
fn the_python_subscriber_reads_every_prediction() {
    let python = Command::new("python3").args(["-c", "import numpy, zmq"]).output();
    if !python.is_ok_and(|output| output.status.success()) {
        return skip("python3 with numpy and pyzmq");
    }
    let endpoint = free_endpoint();
    let flags = [
        "--speed",
        "max",
        "--from",
        "0s",
        "--to",
        "20s",
        "--endpoint",
        &endpoint,
        "--wait-for-subscriber",
        "30",
    ];
    let Some(mut command) = run_recording(&flags) else {
        return;
    };
    // 1000 bins, the first 24 without a whole history. A file takes the lines: a pipe that nobody reads fills up.
    let lines = tempfile::NamedTempFile::new().unwrap();
    let subscriber = Command::new("python3")
        .args(["examples/subscribe.py", &endpoint, "976"])
        .current_dir(root())
        .stdout(lines.reopen().unwrap())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let output = command.output().unwrap();
    assert_eq!(summary(&output)["bins"]["published"], 976);
    let output = wait(subscriber, Duration::from_secs(20));
    let text = std::fs::read_to_string(lines.path()).unwrap();
    assert!(
        output.status.success(),
        "{text} {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let mut lines = text.lines();
    assert!(
        lines.next().unwrap().starts_with("hello: mean rate of each unit"),
        "{text}"
    );
    for sequence in 0..976 {
        let line = lines.next().unwrap();
        let start = format!("bin {} sequence {sequence} lost 0 flags 0x0 latency ", sequence + 24);
        assert!(line.starts_with(&start), "{line}");
        // 1041 spikes a second in the whole recording: about 250 in 12 bins of 20 ms.
        let expected: f64 = line
            .split(" ms, ")
            .nth(1)
            .unwrap()
            .split(' ')
            .next()
            .unwrap()
            .parse()
            .unwrap();
        assert!((100.0..500.0).contains(&expected), "{line}");
    }
}

#[test]
fn what_is_wrong_is_one_sentence_on_standard_error() {
    let run = |flags: &[&str]| {
        let output = Command::new(program())
            .arg("run")
            .args(flags)
            .current_dir(root())
            .output()
            .unwrap();
        assert_eq!(output.status.code(), Some(2));
        let text = String::from_utf8(output.stderr).unwrap();
        assert_eq!(text.trim_end().lines().count(), 1, "{text}");
        text
    };
    assert!(run(&["nowhere.toml"]).contains("configuration nowhere.toml cannot be read"));
    assert!(run(&["configs/replay.toml", "--recording", "nowhere.npz"]).contains("nowhere.npz"));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("rig.toml");
    std::fs::write(&path, "[publish]\nendpiont = 1\n").unwrap();
    let text = run(&[path.to_str().unwrap()]);
    assert!(text.contains("rig.toml line 2") && text.contains("endpiont"), "{text}");
}
