//! `eval` on real recordings: baselines reach the figures that are known of these, what is added leaves the network's figures
//! alone, and what cannot be done is said in one sentence.

use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;

fn eval(arguments: &[&str]) -> Output {
    Command::new(rt_tests::program())
        .arg("eval")
        .args(arguments)
        .output()
        .expect("the program starts")
}

fn json(arguments: &[&str]) -> Value {
    let output = eval(&[arguments, &["--json"]].concat());
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {errors}");
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{arguments:?} printed {text}: {error}"))
}

fn model<'a>(report: &'a Value, name: &str) -> &'a Value {
    let models = report["models"].as_array().expect("a list");
    let found = models.iter().find(|model| model["name"] == name);
    found.unwrap_or_else(|| panic!("{name} is not among {models:?}"))
}

fn overall(model: &Value) -> f64 {
    model["bits"]["overall"]["value"].as_f64().expect("a number")
}

fn shared(relative: &str) -> Option<String> {
    rt_tests::shared(relative).map(|path| path.display().to_string())
}

#[test]
fn the_regression_reaches_the_figures_known_of_the_recordings() {
    // Bits per spike of a Poisson GLM without regularisation, from the README beside the recordings.
    let cases = [
        ("data/neuropixels.npz", ["20", "12"], 173, 0.1406),
        ("data/m1_reaching.npz", ["50", "10"], 141, 0.0448),
    ];
    for (recording, [bin_ms, bins], units, known) in cases {
        let Some(recording) = shared(recording) else { return };
        let arguments = ["--baselines-only", &recording, "--bin-ms", bin_ms, "--bins", bins];
        let report = json(
            &[
                &arguments[..],
                &["--min-rate-hz", "0.5", "--glm-weight-decay", "0", "--bootstrap", "100"],
            ]
            .concat(),
        );
        assert_eq!(report["n_units"].as_u64(), Some(units));
        assert!(report["fp_bps"].is_null());
        let glm = overall(model(&report, "GLM"));
        assert!((glm - known).abs() < 0.05 * known, "{recording}: {glm} and not {known}");
        assert!(overall(model(&report, "mean rate")).abs() < 1e-6);
        let [low, high] = [0, 1].map(|end| {
            let interval = &model(&report, "GLM")["bits"]["overall"]["ci95"];
            interval[end].as_f64().expect("a number")
        });
        assert!(low < glm && glm < high && high - low < glm, "[{low}, {high}]");
    }
}

#[test]
fn a_regression_fitted_on_other_days_predicts_this_one() {
    let recordings = ["da01", "da02", "da03"].map(|day| shared(&format!("data/aplysia/Jun0214{day}.npz")));
    let [Some(first), Some(second), Some(third)] = recordings else {
        return;
    };
    let report = json(&[
        "--baselines-only",
        &third,
        "--fit-on",
        &first,
        "--fit-on",
        &second,
        "--from",
        "0",
        "--bin-ms",
        "100",
        "--bins",
        "10",
        "--bootstrap",
        "0",
        "--glm-weight-decay",
        "0.3",
    ]);
    // The README's figure for a regression without regularisation is 0.338.
    assert!(overall(model(&report, "GLM")) > 0.338);
    assert_eq!(report["fit_on"].as_array().map(Vec::len), Some(2));
    let ends = report["fit_intervals_s"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|part| part[1].as_f64());
    assert!(ends.flatten().all(|end| (end - 123.0).abs() < 1.0), "{report}");
    assert!(model(&report, "GLM")["bits"]["overall"]["ci95"].is_null());
}

#[test]
fn baselines_held_out_units_and_a_report_leave_the_networks_figures_alone() {
    let (Some(checkpoint), Some(recording)) = (shared("checkpoints/neuropixels.ckpt"), shared("data/neuropixels.npz"))
    else {
        return;
    };
    let folder = tempfile::tempdir().expect("a folder");
    let page = folder.path().join("report.html").display().to_string();
    let interval = [
        &checkpoint,
        &recording,
        "--from",
        "100s",
        "--to",
        "115s",
        "--bootstrap",
        "50",
    ];
    let interval = interval.map(|argument: &str| argument);
    let plain = json(&interval);
    let more = [
        "--baselines",
        "--glm-weight-decay",
        "1",
        "--held-out-units",
        "unit0019,unit0061",
        "--html",
        &page,
    ];
    let full = json(&[&interval[..], &more].concat());
    for key in ["fp_bps", "fp_bps_by_bin", "fp_bps_ci95", "n_windows", "n_spikes"] {
        assert!(!plain[key].is_null() && plain[key] == full[key], "{key}");
    }
    assert_eq!(model(&plain, "network")["bits"], model(&full, "network")["bits"]);
    assert_eq!(
        plain["fp_bps"],
        model(&plain, "network")["bits"]["by_horizon"][11]["value"]
    );
    assert!(model(&plain, "network")["co_bps"].is_null());

    assert_eq!(full["held_out_units"], serde_json::json!(["unit0019", "unit0061"]));
    let co_bps = |name| model(&full, name)["co_bps"]["by_unit"].as_array().map(Vec::len);
    assert_eq!((co_bps("network"), co_bps("GLM")), (Some(2), Some(2)));
    // Of a unit that it does not see, persistence expects the mean.
    let of = |name| {
        model(&full, name)["co_bps"]["overall"]["value"]
            .as_f64()
            .expect("a number")
    };
    assert!((of("persistence") - of("mean rate")).abs() < 1e-4);
    assert!((overall(model(&full, "persistence")) - overall(model(&full, "mean rate"))).abs() > 1e-3);

    let page = std::fs::read_to_string(Path::new(&page)).expect("it was written");
    let hash = full["checkpoint"]["hash"].as_str().expect("a text");
    assert!(page.contains(hash) && page.contains("unit0061") && page.contains("</html>"));
}

#[test]
fn what_cannot_be_done_is_said_in_one_sentence() {
    let Some(recording) = shared("data/neuropixels.npz") else {
        return;
    };
    let refusal = |arguments: &[&str]| {
        let output = eval(&[&["--baselines-only", &recording], arguments].concat());
        assert_eq!(output.status.code(), Some(2), "{arguments:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    let nothing = refusal(&["--from", "0"]);
    assert!(
        nothing.starts_with("error: baselines have nothing to be fitted on") && nothing.lines().count() == 1,
        "{nothing}"
    );
    let unknown = refusal(&["--held-out-units", "unit9999"]);
    assert!(
        unknown.contains("\"unit9999\"") && unknown.lines().count() == 1,
        "{unknown}"
    );
    let quiet = refusal(&["--min-rate-hz", "1000"]);
    assert!(quiet.contains("1000 Hz") && quiet.lines().count() == 1, "{quiet}");
    assert!(refusal(&["--bin-ms", "0"]).contains("from 1 to 1000000 ms"));
    assert!(refusal(&["--bins", "0"]).contains("--bins is 0"));
    assert!(refusal(&["--held-out-units", "1.5"]).contains("between 0 and 1"));
}
