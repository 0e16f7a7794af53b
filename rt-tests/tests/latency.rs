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
fn a_scenario_that_cannot_run_has_failed_and_ends_with_one() {
    let output = Command::new(env!("CARGO_BIN_EXE_rt-tests"))
        .args(["--profile", "ci", "--scenario", "nan-weights"])
        .env("NEUROHORIZON_GOLDEN", "/nowhere")
        .output()
        .unwrap();
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("FAILED") && said.contains("/nowhere"), "{said}");
}

#[test]
fn figures_are_kept_and_compared_with() {
    let folder = tempfile::tempdir().unwrap();
    let baseline = folder.path().join("new/baseline.json");
    let measured = |more: &[&str]| {
        let always = ["--profile", "ci", "--scenario", "units-1", "--seconds", "0.5"];
        let output = suite(&[&always[..], &["--baseline", baseline.to_str().unwrap()], more].concat());
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        text(&output.stdout)
    };
    measured(&["--save-baseline"]);
    // A release that took no time at all: nothing is as quick. In this profile that is told.
    let mut figures: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&baseline).unwrap()).unwrap();
    figures["figures"]["units-1"]["p50_us"] = 0.001.into();
    std::fs::write(&baseline, figures.to_string()).unwrap();
    let said = measured(&[]);
    let line = said
        .lines()
        .find(|line| line.contains("units-1") && line.contains("p50 within"));
    assert!(line.is_some_and(|line| line.contains("which is more")), "{said}");
}
