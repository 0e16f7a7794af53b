//! `neurohorizon trigger` as a user starts it: between a publisher made by hand, or a run, and Network Events, emulated or made by
//! hand.

mod harness;

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use neurohorizon::control::{Client, Request};
use neurohorizon::pipeline::message::flags;
use rt_tests::subscriber::free_endpoint;
use rt_tests::{program, root};
use serde_json::Value;

use harness::{terminate, trigger, Emulated, Handmade, Publisher, Triggering, CONTACT, DOWN, SETTLE, UP};

#[test]
fn the_line_follows_the_rule_and_nothing_flagged_or_old_raises_it() {
    let (mut publisher, gui_at) = (Publisher::bind(), free_endpoint());
    let gui = Emulated::start(&gui_at);
    let trigger = trigger(&publisher.endpoint, &gui_at, &[]);
    trigger.wait_for("ready", 1, || {});
    trigger.meet(&publisher);
    for expected in [0.7, 1.2, 0.7, 0.4, 0.7] {
        publisher.good(expected);
    }
    for name in [
        "missed_deadline",
        "spikes_refused",
        "held",
        "neutral",
        "skipped",
        "model_failed",
        "calibrating",
        "samples_lost",
    ] {
        let (_, bit) = flags::NAMES.iter().find(|(known, _)| *known == name).unwrap();
        publisher.predict(1.2, *bit, Duration::ZERO);
    }
    publisher.predict(1.2, 1 << 20, Duration::ZERO);
    publisher.predict(1.2, 0, Duration::from_secs(5));
    publisher.good(f32::NAN);
    assert_eq!(gui.requests(), [&CONTACT[..], &[UP, DOWN]].concat());
    publisher.sequence += 3;
    publisher.predict(1.2, flags::STANDBY | flags::SPIKES_UNKNOWN, Duration::ZERO);
    publisher.good(0.5);
    let (code, summary, said) = trigger.end();
    let (requests, high) = gui.stop();
    assert_eq!(requests, [&CONTACT[..], &[UP, DOWN, UP, DOWN]].concat(), "{said}");
    assert_eq!((code, high), (Some(0), vec![]));
    let (predictions, rule) = (&summary["predictions"], &summary["rule"]);
    assert_eq!(
        (&predictions["missed"], &predictions["superseded"]),
        (&3.into(), &0.into()),
        "{summary}"
    );
    assert_eq!((&rule["raised"], &rule["lowered"]["released"]), (&2.into(), &2.into()));
    assert_eq!(
        (&rule["refused"]["flagged"], &rule["refused"]["stale"]),
        (&9.into(), &1.into()),
        "{rule}"
    );
    assert_eq!(&rule["refused"]["not_finite"], 1);
    let line = &summary["line"];
    assert_eq!(
        (&line["handled"], &line["publish_to_handled"]["count"]),
        (&5.into(), &2.into())
    );
    println!(
        "publication to sent {}, to handled {}",
        line["publish_to_sent"], line["publish_to_handled"]
    );
}

#[test]
fn silence_and_what_is_held_lower_the_line() {
    let (mut publisher, gui_at) = (Publisher::bind(), free_endpoint());
    let gui = Emulated::start(&gui_at);
    let trigger = trigger(&publisher.endpoint, &gui_at, &["--silence-ms", "400"]);
    trigger.wait_for("ready", 1, || {});
    trigger.meet(&publisher);
    let published = Instant::now();
    publisher.good(2.0);
    gui.wait_for(4);
    let took = published.elapsed();
    assert!(
        (Duration::from_millis(400)..Duration::from_secs(10)).contains(&took),
        "{took:?}"
    );
    publisher.good(2.0);
    for _ in 0..10 {
        publisher.predict(2.0, flags::HELD, Duration::ZERO);
    }
    let (code, summary, said) = trigger.end();
    let (requests, high) = gui.stop();
    assert_eq!(requests, [&CONTACT[..], &[UP, DOWN, UP, DOWN]].concat(), "{said}");
    assert_eq!((code, high), (Some(0), vec![]));
    assert_eq!(summary["rule"]["lowered"]["silence"], 2, "{said}");
}

#[test]
fn a_signal_to_end_lowers_the_line() {
    let (mut publisher, gui_at) = (Publisher::bind(), free_endpoint());
    let gui = Emulated::start(&gui_at);
    let trigger = trigger(&publisher.endpoint, &gui_at, &[]);
    trigger.wait_for("ready", 1, || {});
    trigger.meet(&publisher);
    publisher.good(2.0);
    assert_eq!(gui.requests(), [&CONTACT[..], &[UP]].concat());
    let (code, summary, said) = trigger.end();
    let (requests, high) = gui.stop();
    assert_eq!(requests, [&CONTACT[..], &[UP, DOWN]].concat(), "{said}");
    assert_eq!((code, high), (Some(0), vec![]));
    assert_eq!(summary["rule"]["lowered"]["end"], 1, "{said}");
}

#[test]
fn a_gui_that_comes_and_goes_is_never_sent_an_old_pulse() {
    let (mut publisher, gui_at) = (Publisher::bind(), free_endpoint());
    let trigger = trigger(&publisher.endpoint, &gui_at, &[]);
    trigger.meet(&publisher);
    publisher.good(2.0);
    publisher.good(2.0);
    let gui = Emulated::start(&gui_at);
    trigger.wait_for("ready", 1, || {});
    std::thread::sleep(3 * SETTLE);
    assert_eq!(gui.requests(), CONTACT, "the rises of before are not made up for");
    publisher.good(2.0);
    let (requests, high) = gui.stop();
    assert_eq!((requests.last().map(String::as_str), high), (Some(UP), vec![3]));
    trigger.wait_for("LOST", 1, || {});
    publisher.good(2.0);
    publisher.good(2.0);
    let gui = Emulated::start(&gui_at);
    trigger.wait_for("ready", 2, || {});
    std::thread::sleep(3 * SETTLE);
    assert_eq!(
        gui.requests(),
        CONTACT,
        "the line is lowered, and waits for the next prediction"
    );
    publisher.good(2.0);
    publisher.good(0.0);
    let (code, summary, said) = trigger.end();
    let (requests, high) = gui.stop();
    assert_eq!(requests, [&CONTACT[..], &[UP, DOWN]].concat(), "{said}");
    assert_eq!((code, high), (Some(0), vec![]));
    assert_eq!(summary["rule"]["refused"]["gui_not_ready"], 4, "{summary}");
    assert_eq!(
        (
            &summary["rule"]["lowered"]["gui_lost"],
            &summary["line"]["contact_lost"]
        ),
        (&1.into(), &1.into())
    );
}

#[test]
fn a_gui_that_does_not_answer_is_asked_anew_and_its_line_lowered_first() {
    let (mut publisher, gui_at) = (Publisher::bind(), free_endpoint());
    let gui = Handmade::bind(&gui_at);
    let trigger = trigger(&publisher.endpoint, &gui_at, &["--answer-timeout-ms", "300"]);
    gui.contact();
    trigger.wait_for("the GUI does not acquire", 1, || {});
    trigger.meet(&publisher);
    publisher.good(2.0);
    gui.expect(UP, None);
    trigger.wait_for("did not answer \"TTL Line=3 State=1\"", 1, || {});
    gui.contact();
    trigger.wait_for("ready", 2, || {});
    publisher.good(2.0);
    gui.expect(UP, Some("TTLHandled: Line=3 State=1"));
    std::thread::sleep(SETTLE);
    // From here on nobody answers: the end says that the line may be high.
    let (code, summary, said) = trigger.end();
    assert_eq!((code, &summary["line_may_be_high"]), (Some(1), &true.into()), "{said}");
    gui.expect(DOWN, None);
    let line = &summary["line"];
    assert_eq!((&line["sent"], &line["handled"]), (&5.into(), &3.into()), "{line}");
    assert!(line["unanswered"].as_u64() >= Some(2), "{line}");
}

#[test]
fn an_answer_that_means_something_else_ends_the_trigger() {
    let gui_at = free_endpoint();
    let gui = Handmade::bind(&gui_at);
    let trigger = trigger(&free_endpoint(), &gui_at, &[]);
    gui.expect("IsAcquiring", Some("1"));
    gui.expect(DOWN, Some("TTLHandled: Channel=1 on=0"));
    let (code, _, said) = trigger.result();
    assert_eq!(code, Some(2));
    assert!(said.contains("error: ") && said.contains("Channel=1 on=0"), "{said}");
}

#[test]
fn another_start_of_the_runtime_lowers_the_line_and_is_read_anew() {
    let (mut publisher, gui_at) = (Publisher::bind(), free_endpoint());
    let gui = Emulated::start(&gui_at);
    let trigger = trigger(&publisher.endpoint, &gui_at, &[]);
    trigger.wait_for("ready", 1, || {});
    trigger.meet(&publisher);
    publisher.good(2.0);
    (publisher.epoch, publisher.sequence, publisher.units) = (2, 0, ["b", "a"]);
    publisher.good(2.0);
    assert_eq!(gui.requests(), [&CONTACT[..], &[UP, DOWN]].concat());
    trigger.wait_for("the signal is there", 2, || publisher.hello());
    // The first column is the unit's now, and expects one spike, which is not more than one.
    publisher.good(2.0);
    (publisher.epoch, publisher.units) = (3, ["c", "d"]);
    publisher.hello();
    let (code, summary, said) = trigger.result();
    let (requests, high) = gui.stop();
    assert_eq!((requests.len(), high), (4, vec![]), "{said}");
    assert_eq!(code, Some(2));
    assert!(
        said.contains("error: the runtime predicts no unit \"b\": it has c, d"),
        "{said}"
    );
    assert_eq!(summary["predictions"]["restarts"], 2);
}

#[test]
fn flags_that_cannot_be_are_refused_by_name() {
    for (flags, named) in [
        (&["--unit", "a"][..], "--above"),
        (&["--above", "1"], "--unit"),
        (
            &["--unit", "a", "--above", "1", "--release", "2"],
            "--release 2 is beyond --above 1",
        ),
        (
            &["--unit", "a", "--below", "1", "--release", "0"],
            "--release 0 is beyond --below 1",
        ),
        (&["--unit", "a", "--above", "NaN"], "--above"),
        (&["--unit", "a", "--above", "1", "--bins", "3..1"], "3..1"),
        (&["--unit", "a", "--above", "1", "--silence-ms", "0"], "--silence-ms"),
        (
            &["--unit", "a", "--above", "1", "--refuse-flag", "hold"],
            "missed_deadline",
        ),
        (&["--unit", "a", "--above", "1", "--line", "257"], "257"),
        (&["--topic", "prediction", "--channel", "0", "--above", "1"], "--unit"),
        (&["--unit", "a", "--above", "1", "--gui", "nowhere"], "nowhere"),
    ] {
        let output = Command::new(program()).arg("trigger").args(flags).output().unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(
            output.status.code() == Some(2) && error.contains(named),
            "{flags:?}: {error}"
        );
    }
}

#[test]
fn run_trigger_and_network_events_work_as_commands() {
    let (predictions, gui_at, program) = (free_endpoint(), free_endpoint(), program());
    let emulator = Command::new(&program)
        .args(["emulate", "network-events", "--listen", &gui_at])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut run = Command::new(&program)
        .args([
            "run",
            "configs/simulate.toml",
            "--checkpoint",
            "configs/demo.safetensors",
        ])
        .args([
            "--duration",
            "8",
            "--latest-endpoint",
            "",
            "--endpoint",
            &predictions,
            "--quiet",
        ])
        .current_dir(root())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let trigger = Triggering::start(
        Command::new(&program)
            .args([
                "trigger",
                "--topic",
                "behaviour/hand_vel",
                "--channel",
                "norm",
                "--above",
                "0.1",
            ])
            .args(["--predictions", &predictions, "--gui", &gui_at, "--json"]),
    );
    assert!(run.wait().unwrap().success());
    let (code, summary, said) = trigger.end();
    terminate(&emulator);
    let printed = String::from_utf8(emulator.wait_with_output().unwrap().stdout).unwrap();
    assert_eq!((code, &summary["line_may_be_high"]), (Some(0), &false.into()), "{said}");
    let (counts, rule, line) = (&summary["predictions"], &summary["rule"], &summary["line"]);
    assert!(
        counts["seen"].as_u64() > Some(200) && counts["missed"] == 0,
        "{summary}"
    );
    assert!(rule["raised"].as_u64() >= Some(1), "{summary}");
    assert_eq!(line["sent"], line["handled"], "{line}");
    let ups = printed
        .matches("TTL Line=1 State=1  →  TTLHandled: Line=1 State=1")
        .count() as u64;
    assert_eq!(rule["raised"].as_u64(), Some(ups), "{printed}");
    assert!(printed.ends_with("every line is low\n"), "{printed}");
    println!(
        "publication to sent {}, to handled {}",
        line["publish_to_sent"], line["publish_to_handled"]
    );
}

#[test]
fn a_run_lets_predictions_out_as_long_as_the_trigger_lives() {
    let (predictions, gui_at, control, program) = (free_endpoint(), free_endpoint(), free_endpoint(), program());
    let folder = tempfile::tempdir().unwrap();
    let rig = format!(
        "[simulate]\nfit_s = 1.0\nduration_s = 60.0\n[guards]\nheartbeat_ms = 500.0\n[control]\nendpoint = \"{control}\"\n\
         [publish]\nlatest_endpoint = \"\"\nendpoint = \"{predictions}\"\n"
    );
    std::fs::write(folder.path().join("rig.toml"), rig).unwrap();
    let run = Command::new(&program)
        .args(["run", "rig.toml", "--json"])
        .current_dir(folder.path())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let client = Client::connect(&control, Duration::from_secs(20), |_| Ok(())).unwrap();
    let stopped_by = || client.ask(&Request::State {}).unwrap()["stopped"].clone();
    let wait_for = |cause: Value| {
        let begin = Instant::now();
        while stopped_by() != cause {
            assert!(
                begin.elapsed() < Duration::from_secs(20),
                "{} and not {cause}",
                stopped_by()
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    };
    assert_eq!(stopped_by(), "no_heartbeat_yet");
    // Without the GUI the line cannot be driven, and it is as if there were no consumer.
    let start = |gui: &str| {
        let mut command = Command::new(&program);
        command.args(["trigger", "--unit", "unit0003", "--above", "1e9", "--json"]);
        Triggering::start(command.args(["--predictions", &predictions, "--gui", gui, "--heartbeat", &control]))
    };
    let trigger = start(&gui_at);
    std::thread::sleep(Duration::from_millis(700));
    assert_eq!(stopped_by(), "no_heartbeat_yet");
    let gui = Emulated::start(&gui_at);
    wait_for(Value::Null);
    std::thread::sleep(Duration::from_millis(1_500));
    assert_eq!(stopped_by(), Value::Null);
    let (code, _, said) = trigger.end();
    assert_eq!(code, Some(0), "{said}");
    wait_for("heartbeat_lost".into());
    client.ask(&Request::Stop {}).unwrap();
    gui.stop();
    let output = run.wait_with_output().unwrap();
    let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
    let (published, stopped) = (&summary["bins"]["published"], &summary["bins"]["stopped"]);
    assert!(
        stopped.as_u64() > Some(10) && published.as_u64().unwrap() > stopped.as_u64().unwrap() + 50,
        "{summary}"
    );
}
