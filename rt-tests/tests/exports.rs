//! `eval --export` and `eval --sample` as a user calls them: NumPy reads the files, finds in them what was computed by its own
//! arithmetic, and `run --latents` publishes the factors that were exported.

use std::path::Path;
use std::process::{Command, Output};

use neurohorizon::data::arrays::{ArrayFile, ArrayWriter, Elements};
use neurohorizon::data::Recording;
use neurohorizon::model::checkpoint::{Checkpoint, Stored};
use neurohorizon::model::config::{HistoryConfig, ModelConfig};
use neurohorizon::pipeline::message::MessageHeader;
use rt_tests::{program, root, skip};
use serde_json::Value;

const UNITS: u32 = 12;
const PER_STEP: usize = 3;
const SECONDS: usize = 8;

/// A random network of whole bins, and eight seconds of its units' spikes, in a folder.
fn folder() -> (tempfile::TempDir, String, String) {
    let folder = tempfile::tempdir().unwrap();
    let config = ModelConfig {
        sequence_length: 0.74,
        pred_window: 0.24,
        dim: 16,
        dim_head: 8,
        num_latents_per_step: PER_STEP,
        history: Some(HistoryConfig {
            time_constants_s: vec![0.02, 0.2],
            population_time_constants: 1,
            components: 2,
        }),
        ..ModelConfig::default()
    };
    let at = |name: &str| folder.path().join(name).display().to_string();
    let (checkpoint, recording) = (at("model.safetensors"), at("session.npz"));
    let network = Checkpoint::random(&config, UNITS as usize, 4);
    std::fs::write(&checkpoint, network.to_safetensors(Stored::F32).unwrap()).unwrap();
    let n = SECONDS * 400;
    // Out of order by up to three spikes, so that bins hold more and fewer.
    let times: Vec<f64> = (0..n)
        .map(|spike| (spike as f64 + 3.0 * (spike * 37 % 101) as f64 / 101.0) * 2.5e-3)
        .collect();
    let units: Vec<i64> = (0..n as i64)
        .map(|spike| 1 + spike * spike % 101 % i64::from(UNITS))
        .collect();
    let mut archive = ArrayWriter::default();
    archive.add("spike_times", &[n], Elements::F64(&times)).unwrap();
    archive.add("spike_units", &[n], Elements::I64(&units)).unwrap();
    std::fs::write(&recording, archive.finish().unwrap()).unwrap();
    (folder, checkpoint, recording)
}

fn neurohorizon(arguments: &[&str]) -> Output {
    Command::new(program())
        .args(arguments)
        .output()
        .expect("the program starts")
}

fn json(arguments: &[&str]) -> Value {
    let output = neurohorizon(&[arguments, &["--json"]].concat());
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {errors}");
    serde_json::from_slice(&output.stdout).unwrap()
}

fn refused(arguments: &[&str]) -> String {
    let output = neurohorizon(arguments);
    assert_eq!(output.status.code(), Some(2), "{arguments:?}");
    let text = String::from_utf8_lossy(&output.stderr);
    text.lines().filter(|line| line.starts_with("error")).collect()
}

/// Runs a Python program with NumPy; nothing where there is none.
fn python(code: &str, arguments: &[&str]) -> Option<Value> {
    let numpy = Command::new("python3").args(["-c", "import numpy"]).output();
    if !numpy.is_ok_and(|output| output.status.success()) {
        skip("python3 with numpy");
        return None;
    }
    let output = Command::new("python3")
        .args(["-c", code])
        .args(arguments)
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    Some(serde_json::from_slice(&output.stdout).unwrap())
}

#[test]
fn numpy_finds_in_an_export_what_was_scored() {
    let (folder, checkpoint, recording) = folder();
    let file = folder.path().join("out.npz").display().to_string();
    let arguments = [
        "eval",
        &checkpoint,
        &recording,
        "--from",
        "0",
        "--bootstrap",
        "0",
        "--export",
        &file,
    ];
    let report = json(&[&arguments[..], &["--components", "3", "--all-latents"]].concat());
    let code = "
import json, sys, numpy as np
z = np.load(sys.argv[1], allow_pickle=False)
spikes = np.load(sys.argv[2], allow_pickle=False)
W, T, N = z['log_rates'].shape
# Counts, from the spikes.
units = np.array([int(name[4:]) for name in z['unit_ids']])
times = np.round(spikes['spike_times'] * 1e9).astype(np.int64)
counts = np.zeros((W, T, N), int)
for w in range(W):
    for t in range(T):
        start = z['prediction_start_ns'][w] + t * z['bin_ns']
        within = spikes['spike_units'][(times >= start) & (times < start + z['bin_ns'])]
        counts[w, t] = (within[:, None] == units).sum(0)
# Bits per spike.
n, null = z['counts'].astype(float), z['null_log_rates']
log_likelihood = lambda x: (n * x - np.exp(x)).sum()
bits = (log_likelihood(z['log_rates'].astype(float)) - log_likelihood(np.broadcast_to(null, n.shape))) / n.sum() / np.log(2)
# Principal components, by the singular values of all that varies.
newest = z['latents'].reshape(W, -1, z['latents'].shape[2])[:, -int(sys.argv[3]):].mean(1)
centred = (newest - newest.mean(0)).astype(float)
_, singular, directions = np.linalg.svd(centred, full_matrices=False)
along = np.abs((directions[:3] * z['latents_projection']).sum(1))
print(json.dumps({
    'shape': [W, T, N], 'latents': z['latents'].shape, 'same_counts': bool((counts == n).all()), 'bits': bits,
    'steps': np.unique(np.diff(z['window_start_ns'])).tolist(),
    'newest': float(np.abs(newest - z['latents_newest']).max()),
    'factors': float(np.abs(centred @ z['latents_projection'].T - z['factors']).max()),
    'along': along.tolist(), 'share': float(np.abs(singular[:3]**2 / (singular**2).sum() - z['latents_variance_share']).max()),
}))";
    let Some(found) = python(code, &[&file, &recording, &PER_STEP.to_string()]) else {
        return;
    };
    assert_eq!(found["shape"], serde_json::json!([report["n_windows"], 12, UNITS]));
    // Ten times of the history, 50 ms each.
    assert_eq!(
        found["latents"],
        serde_json::json!([report["n_windows"], 10 * PER_STEP, 16])
    );
    assert_eq!(
        (&found["same_counts"], &found["steps"]),
        (&true.into(), &serde_json::json!([240_000_000]))
    );
    let number = |value: &Value| value.as_f64().unwrap();
    assert!(
        (number(&found["bits"]) - number(&report["fp_bps"])).abs() < 1e-5,
        "{found} {}",
        report["fp_bps"]
    );
    assert!(
        number(&found["newest"]) < 1e-6 && number(&found["factors"]) < 1e-5,
        "{found}"
    );
    assert!(
        found["along"]
            .as_array()
            .unwrap()
            .iter()
            .all(|x| (number(x) - 1.0).abs() < 1e-4),
        "{found}"
    );
    assert!(number(&found["share"]) < 1e-4, "{found}");
}

#[test]
fn run_publishes_the_factors_that_were_exported() {
    let (folder, checkpoint, recording) = folder();
    let file = folder.path().join("out.npz").display().to_string();
    let window = [
        "--from",
        "0",
        "--stride-bins",
        "1",
        "--components",
        "2",
        "--export",
        &file,
    ];
    json(&[&["eval", &checkpoint, &recording, "--bootstrap", "0"], &window[..]].concat());
    let mut archive = ArrayFile::open(Path::new(&file)).unwrap();
    let (shape, factors) = archive.take_f32("factors", 2).unwrap();

    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("tcp://{}", listener.local_addr().unwrap());
    drop(listener);
    let socket = zmq::Context::new().socket(zmq::SUB).unwrap();
    socket.set_rcvhwm(10_000).unwrap();
    socket.set_rcvtimeo(20_000).unwrap();
    socket.connect(&endpoint).unwrap();
    // Who asks for the latents only is waited for as well.
    socket.set_subscribe(b"latents").unwrap();
    let wanted = shape[0];
    let subscriber = std::thread::spawn(move || {
        let messages = (0..wanted).map(|_| socket.recv_multipart(0).unwrap());
        messages
            .map(|parts| {
                let numbers = parts[2].chunks_exact(4);
                let array: Vec<f32> = numbers
                    .map(|four| f32::from_le_bytes(four.try_into().unwrap()))
                    .collect();
                (MessageHeader::read(&parts[1]).unwrap(), array)
            })
            .collect::<Vec<_>>()
    });
    let config = root().join("configs/replay.toml").display().to_string();
    let run = [
        "run",
        &config,
        "--checkpoint",
        &checkpoint,
        "--recording",
        &recording,
        "--device",
        "cpu",
    ];
    let live = [
        "--latents",
        &file,
        "--speed",
        "max",
        "--endpoint",
        &endpoint,
        "--latest-endpoint",
        "",
        "--wait-for-subscriber",
        "20",
        "--quiet",
    ];
    let summary = json(&[&run[..], &live].concat());
    let received = subscriber.join().unwrap();
    assert_eq!(summary["outputs"][0]["published"], summary["bins"]["published"]);
    assert_eq!(summary["outputs"][0]["stand_ins"], 0);
    // Windows begin with the first bin and follow one another by a bin, as predictions do.
    for (position, (header, array)) in received.iter().enumerate() {
        assert_eq!(
            (header.sequence, header.bin_index),
            (position as u64, position as i64 + 24)
        );
        let expected = &factors[position * 2..(position + 1) * 2];
        let close = array.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-5);
        assert!(
            array.len() == 2 && close,
            "bin {}: {array:?} and {expected:?}",
            header.bin_index
        );
    }

    let other = Checkpoint::random(
        &Checkpoint::load(Path::new(&checkpoint)).unwrap().config,
        UNITS as usize,
        5,
    );
    let path = folder.path().join("other.safetensors");
    std::fs::write(&path, other.to_safetensors(Stored::F32).unwrap()).unwrap();
    let other = path.display().to_string();
    let run = [
        "run",
        &config,
        "--checkpoint",
        &other,
        "--recording",
        &recording,
        "--device",
        "cpu",
        "--latents",
    ];
    let error = refused(&[&run[..], &[&file]].concat());
    assert!(
        error.contains("out.npz") && error.contains("another network"),
        "{error}"
    );
    let error = refused(&[&run[..], &[&recording]].concat());
    assert!(
        error.contains("session.npz") && error.contains("latents_mean is missing"),
        "{error}"
    );
}

#[test]
fn samples_are_of_their_seed_and_their_statistics_are_numpys() {
    let (folder, checkpoint, recording) = folder();
    let at = |name: &str| folder.path().join(name).display().to_string();
    let sample = |file: &str, seed: &str| {
        let arguments = [
            "eval",
            &checkpoint,
            &recording,
            "--from",
            "0",
            "--bootstrap",
            "0",
            "--sample",
            file,
        ];
        json(&[&arguments[..], &["--seed", seed]].concat())["samples"].clone()
    };
    let files = ["first.npz", "again.npz", "other.npz"].map(at);
    let statistics = sample(&files[0], "1");
    assert_eq!(sample(&files[1], "1"), statistics);
    assert_ne!(sample(&files[2], "2"), statistics);
    let bytes = files.each_ref().map(|file| std::fs::read(file).unwrap());
    assert!(bytes[0] == bytes[1] && bytes[0] != bytes[2]);

    let drawn = Recording::load(&files[0]).unwrap();
    let ids: Vec<String> = (1..=UNITS).map(|unit| format!("unit{unit:04}")).collect();
    assert!(drawn.unit_ids.iter().all(|id| ids.contains(id)) && drawn.unit_ids.len() > 1);

    let code = "
import json, sys, numpy as np
np.seterr(invalid='ignore')
z = np.load(sys.argv[1], allow_pickle=False)
out = {}
def error(a, b):
    # A unit that was never drawn has no Fano factor and no correlations, on both sides.
    assert (np.isnan(a) == np.isnan(b)).all() and np.isfinite(a).mean() > 0.5
    return float(np.nanmax(np.abs(a - b)))
sampled, observed = z['sampled_correlations_bin'], z['observed_correlations_bin']
off = ~np.eye(len(sampled), dtype=bool) & np.isfinite(sampled) & np.isfinite(observed)
for name in ('observed', 'sampled'):
    c = z[name + '_counts'].astype(float)
    w = c.reshape(-1, 12, c.shape[1]).sum(1)
    for width, x in (('bin', c), ('window', w)):
        out[name + '_fano_' + width] = error(x.var(0) / x.mean(0), z[name + '_fano_' + width])
        out[name + '_correlations_' + width] = error(np.corrcoef(x.T), z[name + '_correlations_' + width])
    out[name + '_rate_hz'] = error(c.mean(0) / 0.02, z[name + '_rate_hz'])
a, b = z['sampled_counts'].sum(1), z['observed_counts'].sum(1)
hist = lambda x: np.bincount(x, minlength=max(a.max(), b.max()) + 1) / len(x)
print(json.dumps({'errors': out, 'ratio': a.var() / b.var(), 'distance': 0.5 * np.abs(hist(a) - hist(b)).sum(),
    'synchrony': b.var() / z['observed_counts'].var(0).sum(),
    'pairs': np.corrcoef(sampled[off], observed[off])[0, 1],
    'spikes': len(z['spike_times']) - int(z['sampled_counts'].sum())}))";
    let Some(found) = python(code, &[&files[0]]) else {
        return;
    };
    let number = |value: &Value| value.as_f64().unwrap();
    let errors = found["errors"].as_object().unwrap();
    assert_eq!(errors.len(), 10);
    assert!(errors.values().all(|error| number(error) < 1e-9), "{found}");
    assert_eq!(found["spikes"], 0);
    let apart = &statistics["sampled_to_observed"];
    for (found, reported) in [
        (&found["ratio"], &apart["population_variance_ratio"]),
        (&found["distance"], &apart["population_distance"]),
        (&found["pairs"], &apart["correlation_bin"]),
        (&found["synchrony"], &statistics["observed"]["synchrony_bin"]),
    ] {
        assert!((number(found) - number(reported)).abs() < 1e-9, "{found} {reported}");
    }
}

#[test]
fn what_cannot_be_written_is_said_in_one_sentence() {
    let (folder, checkpoint, recording) = folder();
    let file = folder.path().join("s.npz").display().to_string();
    let eval = [
        "eval",
        &checkpoint,
        &recording,
        "--from",
        "0",
        "--bootstrap",
        "0",
        "--device",
        "cpu",
    ];
    let overlap = refused(&[&eval[..], &["--sample", &file, "--stride-bins", "3"]].concat());
    assert!(
        overlap.contains("s.npz") && overlap.contains("do not overlap"),
        "{overlap}"
    );
    let nowhere = folder.path().join("nowhere/out.npz").display().to_string();
    assert!(refused(&[&eval[..], &["--export", &nowhere]].concat()).contains("nowhere"));
    let without = ["eval", "--baselines-only", &recording, "--sample", &file];
    assert!(refused(&without).contains("--baselines-only"));
}
