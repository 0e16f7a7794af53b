//! The latency regression suite as continuous integration runs it: bins, spikes, memory and ratios of medians are asserted, other
//! times are told.

use std::process::{Command, Output};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rt_tests::latency::gates::{Gate, Kind, Verdict};
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

/// For as long as it is held no other test of this file measures: what one takes of the machine is no delay of another's.
fn alone() -> MutexGuard<'static, ()> {
    static MEASURING: Mutex<()> = Mutex::new(());
    MEASURING.lock().unwrap_or_else(PoisonError::into_inner)
}

/// That these scenarios, and no others, were measured against the floor by their medians, and kept the ratio.
fn medians_keep_the_ratio<'a>(gates: &[Gate], scenarios: impl Iterator<Item = &'a str>) {
    let medians: Vec<_> = gates
        .iter()
        .filter(|gate| gate.kind == Kind::Ratio && gate.asked.starts_with("p50"))
        .collect();
    assert!(
        medians.iter().all(|gate| gate.verdict == Verdict::Passed),
        "{medians:?}"
    );
    let names: Vec<_> = medians.iter().map(|gate| gate.scenario.as_str()).collect();
    assert_eq!(names, scenarios.collect::<Vec<_>>());
}

#[test]
fn in_every_scenario_every_bin_is_published_once_every_spike_is_accounted_for_and_medians_keep_their_ratio() {
    let _alone = alone();
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
    let with_fifo = report.without_fifo.is_none();
    let gated = scenario::all()
        .into_iter()
        .filter(|one| one.gated && (with_fifo || !one.fifo));
    medians_keep_the_ratio(&report.gates, gated.map(|one| one.name));
    let ledgers = report.gates.iter().filter(|gate| gate.kind == Kind::Ledger);
    assert_eq!(ledgers.count(), report.scenarios.len());
    for gate in &report.gates {
        assert_ne!(gate.verdict, Verdict::Failed, "{gate}");
    }
    assert_eq!(output.status.code(), Some(0), "{errors}");
    if !report.machine.file().exists() {
        let last = said.lines().last().unwrap_or_default();
        assert!(
            last.contains("not compared with an earlier release: no figures of this kind of machine"),
            "{said}"
        );
    }
    // Other times are told, and said not to be gated.
    let absolute: Vec<_> = report.gates.iter().filter(|gate| gate.kind == Kind::Absolute).collect();
    assert!(!absolute.is_empty());
    assert!(
        absolute.iter().all(|gate| matches!(gate.verdict, Verdict::ToldOnly(_))),
        "{absolute:?}"
    );
    assert!(said.contains("not gated") && std::fs::read_to_string(html).unwrap().contains("not gated"));
}

#[test]
fn two_minutes_of_the_recording_in_a_loop_lose_nothing_and_take_no_more_memory() {
    const SECONDS: u64 = 120;
    if rt_tests::shared("data/neuropixels.npz").is_none() {
        return;
    }
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let json = folder.path().join("report.json");
    let output = suite(&[
        "--profile",
        "soak",
        "--seconds",
        &SECONDS.to_string(),
        "--json",
        json.to_str().unwrap(),
    ]);
    println!("{}\n{}", text(&output.stderr), text(&output.stdout));
    let report: Report = serde_json::from_str(&std::fs::read_to_string(json).unwrap()).unwrap();
    // Every bin once and every sequence number, every spike in one count; memory. The tail of the last twenty seconds against that
    // of the first rests on one time in a thousand: it is for the hour.
    let asked: Vec<_> = report
        .gates
        .iter()
        .filter(|gate| gate.kind == Kind::Ledger || gate.asked.contains("memory"))
        .collect();
    assert_eq!(asked.len(), 2, "{asked:?}");
    for gate in asked {
        assert_eq!(gate.verdict, Verdict::Passed, "{gate}");
    }
    // 1 000 spikes/s in bins of 20 ms were indeed there all that time.
    let ledger = &report.scenarios[0].ledger;
    assert!(
        ledger.received > 50 * SECONDS && ledger.sent.spikes > 1_000 * SECONDS,
        "{ledger:?}"
    );
    let failed = report.gates.iter().any(|gate| gate.verdict == Verdict::Failed);
    assert_eq!(output.status.code(), Some(i32::from(failed)));
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
    let _alone = alone();
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
    let _alone = alone();
    let folder = tempfile::tempdir().unwrap();
    let baseline = folder.path().join("new/baseline.json");
    let measured = |more: &[&str]| {
        let always = ["--profile", "ci", "--scenario", "units-1", "--seconds", "0.5"];
        let output = suite(&[&always[..], &["--baseline", baseline.to_str().unwrap()], more].concat());
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        text(&output.stdout)
    };
    let ends_with = |said: &str, what: &str| {
        let line = said.lines().last().unwrap_or_default();
        assert!(line.ends_with(what), "{said}");
    };
    ends_with(
        &measured(&["--save-baseline"]),
        "not compared with an earlier release: the figures of this run are to be kept",
    );
    // A release that took no time at all: nothing is as quick. In this profile that is told.
    let mut figures: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(&baseline).unwrap()).unwrap();
    figures["figures"]["units-1"]["p50_us"] = 0.001.into();
    std::fs::write(&baseline, figures.to_string()).unwrap();
    let said = measured(&[]);
    ends_with(&said, "; compared with an earlier release");
    let line = said
        .lines()
        .find(|line| line.contains("units-1") && line.contains("p50 within"));
    assert!(line.is_some_and(|line| line.contains("which is more")), "{said}");
}
