//! The socket itself, and the command.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use neurohorizon::control::{Client, ControlConfig, ControlError, ControlSocket, Request};
use neurohorizon::pipeline::GuardConfig;
use rt_tests::subscriber::free_endpoint;
use serde_json::Value;

use super::harness::*;

#[test]
fn what_is_no_request_is_answered_and_harms_nobody() {
    told(1_500 * MS, 1.0, GuardConfig::default(), |run, client| {
        let address = serve(run);
        let rude = zmq::Context::new().socket(zmq::DEALER).unwrap();
        rude.set_linger(0).unwrap();
        rude.connect(address.address()).unwrap();
        for parts in [
            vec![b"".to_vec()],
            vec![b"{".to_vec()],
            vec![b"".to_vec(), b"\xff\xfe".to_vec()],
            vec![vec![0; 4]; 30],
            vec![b"{\"command\": \"stop\"}".to_vec(), b"x".to_vec()],
            vec![b"[".repeat(100_000)],
        ] {
            rude.send_multipart(parts, 0).unwrap();
            assert_eq!(rude.poll(zmq::POLLIN, 5_000).unwrap(), 1, "no answer");
            let answer = rude.recv_multipart(0).unwrap();
            let answer: Value = serde_json::from_slice(answer.last().unwrap()).unwrap();
            assert_eq!(answer["ok"], false, "{answer}");
        }
        // Longer than any request: the connection is closed, and the next one is served.
        rude.send(vec![b'x'; 2 << 20], 0).unwrap();
        let polite = Client::connect(address.address(), Duration::from_secs(5), |_| Ok(())).unwrap();
        polite.ask(&Request::State {}).unwrap();
        client.ask(&Request::State {}).unwrap();
        assert!(!run.handle().is_stopping());
        assert_eq!(address.finish(), None);
    });
}

#[test]
fn nobody_listens_for_other_machines_unless_told_to() {
    let config = |endpoint: &str, insecure_bind| ControlConfig {
        insecure_bind,
        ..ControlConfig::at(endpoint)
    };
    let refused = ControlSocket::bind(&config("tcp://0.0.0.0:*", false)).err().unwrap();
    assert!(refused.to_string().contains("--insecure-bind"), "{refused}");
    assert!(ControlSocket::bind(&config("tcp://0.0.0.0:*", true)).is_ok());
    let nobody = Client::connect(&free_endpoint(), Duration::from_millis(100), |_| Ok(())).unwrap();
    assert!(matches!(
        nobody.ask(&Request::State {}),
        Err(ControlError::Silence { .. })
    ));
}

/// The system's number of a process's thread of that name.
fn thread_of(process: u32, name: &str) -> i32 {
    let threads = std::fs::read_dir(format!("/proc/{process}/task")).unwrap();
    let named = threads.map(|thread| thread.unwrap().path()).find(|thread| {
        let comm = std::fs::read_to_string(thread.join("comm")).unwrap_or_default();
        comm.trim() == name
    });
    let named = named.expect("a thread of that name");
    named.file_name().unwrap().to_str().unwrap().parse().unwrap()
}

#[test]
fn the_program_does_what_ctl_says() {
    let folder = tempfile::tempdir().unwrap();
    let program = rt_tests::program();
    let rig =
        "[simulate]\nunits = 20\nfit_s = 1.0\nduration_s = 60.0\n[guards]\nunit_most_rate_hz = { \"unit0003\" = 0.5 }\n";
    std::fs::write(folder.path().join("rig.toml"), rig).unwrap();
    let control = free_endpoint();
    let mut run = Command::new(&program);
    run.current_dir(folder.path())
        .args([
            "run",
            "rig.toml",
            "--json",
            "--endpoint",
            "tcp://127.0.0.1:*",
            "--latest-endpoint",
            "",
        ])
        .args(["--control", &control]);
    let run = run.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let ctl = |arguments: &[&str]| {
        let mut command = Command::new(&program);
        let output = command
            .args(["ctl", "--endpoint", &control])
            .args(arguments)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        (output.status.code(), text)
    };
    let begin = Instant::now();
    while !ctl(&["state", "--patience", "0.5"]).1.contains("DEGRADED") {
        // Degraded, because unit0003 has its limit.
        assert!(begin.elapsed() < Duration::from_secs(30), "{:?}", ctl(&["state"]));
    }
    assert_eq!(ctl(&["emergency-stop"]).0, Some(0));
    let (code, state) = ctl(&["state", "--json"]);
    let state: Value = serde_json::from_str(&state).unwrap();
    assert_eq!(
        (code, &state["stopped"], &state["units"]),
        (Some(0), &Value::from("command"), &Value::from(20))
    );
    assert_eq!(ctl(&["release"]).0, Some(0));
    // Without a socket too.
    let pid = rustix::process::Pid::from_raw(run.id() as i32).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::USR2).unwrap();
    assert!(ctl(&["state"]).1.contains("command"));
    // Signals that come to the control thread itself do not end it.
    let thread = thread_of(run.id(), "control");
    for _ in 0..50 {
        // SAFETY: no memory is touched; a wrong number is an error.
        let sent = unsafe { libc::syscall(libc::SYS_tgkill, run.id(), thread, libc::SIGUSR2) };
        assert_eq!(sent, 0);
        std::thread::sleep(Duration::from_millis(1));
    }
    assert!(ctl(&["state"]).1.contains("command"));
    let (code, refused) = ctl(&["set", "deadline_ms=500"]);
    assert_eq!(code, Some(1));
    assert!(
        refused.contains("stuck_after_ms = 40 is before deadline_ms = 500"),
        "{refused}"
    );
    assert_eq!(ctl(&["set", "deadline_ms=soon"]).0, Some(2));
    assert_eq!(ctl(&["heartbeat"]).0, Some(1));
    assert_eq!(ctl(&["stop"]).0, Some(0));
    let output = run.wait_with_output().unwrap();
    assert!(output.status.success());
    let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(summary["outcome"], "stopped");
    let (limited, stopped) = (&summary["bins"]["limited"], &summary["bins"]["stopped"]);
    assert!(
        limited.as_u64() > Some(0) && stopped.as_u64() > Some(0),
        "{}",
        summary["bins"]
    );
    assert_eq!(ctl(&["state", "--patience", "0.2"]).0, Some(2));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.contains("STOPPED by a command"), "{errors}");
}

#[test]
fn a_run_that_waits_for_a_subscriber_says_so_and_can_be_stopped() {
    const WAIT_S: u64 = 120;
    let folder = tempfile::tempdir().unwrap();
    let program = rt_tests::program();
    std::fs::write(
        folder.path().join("rig.toml"),
        "[simulate]\nunits = 20\nfit_s = 1.0\nduration_s = 60.0\n",
    )
    .unwrap();
    let control = free_endpoint();
    let mut run = Command::new(&program);
    run.current_dir(folder.path())
        .args([
            "run",
            "rig.toml",
            "--json",
            "--endpoint",
            "tcp://127.0.0.1:*",
            "--latest-endpoint",
            "",
        ])
        .args([
            "--control",
            &control,
            "--record",
            "r.nhr",
            "--wait-for-subscriber",
            &WAIT_S.to_string(),
        ]);
    let run = run.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let begin = Instant::now();
    let client = Client::connect(&control, Duration::from_secs(60), |_| Ok(())).unwrap();
    let state = client.ask(&Request::State {}).unwrap();
    assert_eq!(
        (&state["state"], &state["waits_for"]),
        (&"READY".into(), &"a subscriber".into()),
        "{state}"
    );
    client.ask(&Request::Stop {}).unwrap();
    let output = run.wait_with_output().unwrap();
    assert!(begin.elapsed() < Duration::from_secs(WAIT_S), "it waited");
    let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&summary["outcome"], &summary["recording"]["requests"]),
        (&"stopped".into(), &1.into()),
        "{summary}"
    );
}
