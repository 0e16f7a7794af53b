//! The latency regression suite as continuous integration runs it: bins and spikes are asserted, times are told.

use std::process::{Command, Output};

use rt_tests::latency::gates::{Kind, Verdict};
use rt_tests::latency::report::Report;
use rt_tests::latency::scenario;

fn suite(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_rt-tests"))
        .args(arguments)
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn in_every_scenario_every_bin_is_published_once_and_every_spike_is_accounted_for() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str| folder.path().join(name).display().to_string();
    let (json, html) = (file("report.json"), file("report.html"));
    let output = suite(&["--profile", "ci", "--json", &json, "--html", &html]);
    let (said, errors) = (text(&output.stdout), text(&output.stderr));
    println!("{errors}\n{said}");
    let report: Report = serde_json::from_str(&std::fs::read_to_string(json).unwrap()).unwrap();
    assert_eq!(
        report.scenarios.len() + usize::from(report.without_fifo.is_some()) * 2,
        scenario::all().len()
    );
    for gate in report.gates.iter().filter(|gate| gate.kind == Kind::Ledger) {
        assert_eq!(gate.verdict, Verdict::Passed, "{gate}");
    }
    // Times are told, and said not to be gated.
    let absolute: Vec<_> = report.gates.iter().filter(|gate| gate.kind == Kind::Absolute).collect();
    assert!(!absolute.is_empty());
    assert!(
        absolute.iter().all(|gate| matches!(gate.verdict, Verdict::ToldOnly(_))),
        "{absolute:?}"
    );
    assert!(said.contains("not gated") && std::fs::read_to_string(html).unwrap().contains("not gated"));
    let failed = report.gates.iter().any(|gate| gate.verdict == Verdict::Failed);
    assert_eq!(output.status.code(), Some(i32::from(failed)), "{errors}");
}

#[test]
fn wrong_usage_ends_with_two_and_says_what_there_is() {
    for (arguments, named) in [
        (&["--profile", "never"][..], "soak"),
        (&["--profile", "ci", "--scenario", "none"], "idle-fifo"),
        (&[], "--profile"),
        (&["--profile", "ci", "--baseline", "/nowhere.json"], "/nowhere.json"),
    ] {
        let output = suite(arguments);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        assert!(text(&output.stderr).contains(named), "{}", text(&output.stderr));
    }
}

#[test]
fn a_gate_that_fails_ends_with_one() {
    let folder = tempfile::tempdir().unwrap();
    let (json, baseline) = (folder.path().join("report.json"), folder.path().join("baseline.json"));
    let measured = |more: &[&str]| {
        let always = ["--profile", "ci", "--scenario", "units-1", "--seconds", "0.5"];
        suite(&[&always[..], more].concat())
    };
    let saved = measured(&["--save-baseline", "--baseline", baseline.to_str().unwrap()]);
    assert_eq!(saved.status.code(), Some(0), "{}", text(&saved.stdout));
    // A release that took no time at all: nothing is as quick. In profile ci that is told only.
    let mut figures: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&baseline).unwrap()).unwrap();
    figures["figures"]["units-1"]["p50_us"] = 0.001.into();
    std::fs::write(&baseline, figures.to_string()).unwrap();
    let told = measured(&[
        "--baseline",
        baseline.to_str().unwrap(),
        "--json",
        json.to_str().unwrap(),
    ]);
    assert_eq!(told.status.code(), Some(0), "{}", text(&told.stdout));
    assert!(text(&told.stdout).contains("which is more"), "{}", text(&told.stdout));
    let mut report: Report = serde_json::from_str(&std::fs::read_to_string(&json).unwrap()).unwrap();
    report.gates[0].verdict = Verdict::Failed;
    assert!(!rt_tests::latency::gates::all_passed(&report.gates));
}
