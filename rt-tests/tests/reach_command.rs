//! `neurohorizon reach` as a user starts it: live, in real time, with threads and ZeroMQ.

use std::process::Command;

use rt_tests::program;
use serde_json::Value;

#[test]
fn a_short_closed_loop_ends_well_and_loses_no_bin() {
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join("reach.html");
    // Seed 2 is not the shipped network's, so that no network is needed: the classical decoders compete.
    let output = Command::new(program())
        .args([
            "reach",
            "--seed",
            "2",
            "--trials",
            "2",
            "--time-out",
            "1.5",
            "--fit",
            "60",
            "--json",
            "--quiet",
        ])
        .arg("--html")
        .arg(&page)
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    let run = &report["run"];
    assert_eq!(
        (&run["outcome"], &run["imbalances"]),
        (&"finished".into(), &Value::Array(vec![]))
    );
    assert_eq!(
        (&run["spikes"]["late"], &run["spikes"]["ring_refused"]),
        (&0.into(), &0.into())
    );
    assert_eq!(
        (&report["bins_missed"], &run["bins"]["without_slot"]),
        (&0.into(), &0.into())
    );
    assert!(
        report["notes"][0].as_str().unwrap().contains("classical decoders"),
        "{report}"
    );

    let decoders = report["decoders"].as_array().unwrap();
    let names: Vec<&str> = decoders
        .iter()
        .map(|decoder| decoder["decoder"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["Kalman", "Wiener", "ideal"]);
    for decoder in decoders {
        assert_eq!(decoder["trials"], 2, "{decoder}");
        assert!(decoder["loop_latency"]["count"].as_u64().unwrap() > 20, "{decoder}");
    }
    let page = std::fs::read_to_string(page).unwrap();
    assert_eq!(page.matches("<figure>").count(), 3);
    assert!(page.ends_with("</html>\n"));
}

#[test]
fn flags_that_cannot_be_are_refused_by_name() {
    for (flags, named) in [
        (["--time-out", "0"], "--time-out"),
        (["--hold", "20"], "--hold"),
        (["--units", "0"], "n_units"),
        (["--fit", "0.1"], "--fit"),
    ] {
        let output = Command::new(program())
            .args(["reach", "--seed", "2", "--quiet"])
            .args(flags)
            .output()
            .unwrap();
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.code() == Some(2) && error.contains(named), "{error}");
    }
}
