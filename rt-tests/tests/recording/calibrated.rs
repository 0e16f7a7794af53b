//! Runs that compute identities while they go on, and are told what to do: replayed to the same bits.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use neurohorizon::acquire::host_time::monotonic_ns;
use neurohorizon::model::checkpoint::{Checkpoint, Stored};
use neurohorizon::model::config::{IdentityConfig, IdentityScheme, ModelConfig};
use neurohorizon::pipeline::entry::Entry;
use neurohorizon::record::format::{begin, seal, ChunkHead, Kind, CHUNK_HEAD};
use neurohorizon::record::tables::Tables;
use neurohorizon::record::RecordReader;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rt_tests::program;
use serde_json::{json as value, Value};

use super::{command, json, replay, replay_in_part};

/// Of an encoder of identities whose forward pass takes a while.
const SLOW_WIDTH: usize = 1_024;

/// A network that computes identities, of no use but for its bits.
fn with_identities(path: &Path) {
    identities_of_width(path, 16);
}

/// The same, with so many hidden units in its encoder.
fn identities_of_width(path: &Path, hidden: usize) {
    let config = ModelConfig {
        dim: 16,
        dim_head: 8,
        identity: Some(IdentityConfig {
            scheme: IdentityScheme::Binned,
            window_bins: 10,
            bin_s: 0.02,
            hidden,
            population: true,
            components: 0,
            refine: false,
        }),
        ..ModelConfig::default()
    };
    let checkpoint = Checkpoint::random(&config, 96, 3);
    std::fs::write(path, checkpoint.to_safetensors(Stored::F32).unwrap()).unwrap();
}

#[test]
fn identities_computed_live_are_computed_and_taken_in_again() {
    let (program, folder) = (program(), tempfile::tempdir().unwrap());
    let [checkpoint, config, file] = ["c.safetensors", "rig.toml", "r.nhr"].map(|name| folder.path().join(name));
    with_identities(&checkpoint);
    let text = format!(
        "[simulate]\nduration_s = 5.0\n[pipeline]\ndeadline_ms = 1000.0\nstuck_after_ms = 5000.0\n[model]\ncheckpoint = {checkpoint:?}\ndevice = \"cpu\"\nthreads = 1\n\
         calibrate = {{ reference_s = 1.0, every_s = 1.0 }}\n[publish]\nendpoint = \"tcp://127.0.0.1:*\"\n\
         latest_endpoint = \"\"\n[record]\nfile = {file:?}\n"
    );
    std::fs::write(&config, text).unwrap();
    let output = command(&program, &["run", config.to_str().unwrap(), "--json"])
        .output()
        .unwrap();
    let summary = json(&output);
    assert!(summary["calibration"]["taken_in"].as_u64().unwrap() >= 3, "{summary}");
    let report = replay(&program, &file);
    assert_eq!(
        (&report["ended"], &report["same"]),
        (&Value::Null, &Value::Bool(true)),
        "{report}"
    );
    // Whole predictions that were published are compared, every one.
    let bins = |key: &str| summary["bins"][key].as_u64().unwrap();
    let least = bins("full") - bins("shortened") - bins("superseded");
    let compared = report["compared"].as_u64().unwrap();
    assert!(
        (least..=bins("full")).contains(&compared),
        "{report} {}",
        summary["bins"]
    );
    assert!(compared > 100, "{report}");
}

/// A run that computes identities like this, goes by the clock and listens there. How fast this machine is, and
/// what else it does, is not what is tested: bins have time.
fn rig(folder: &Path, checkpoint: &Path, file: &Path, control: &str, calibrate: &str) -> PathBuf {
    let text = format!(
        "[simulate]\nduration_s = 600.0\n[pipeline]\ndeadline_ms = 1000.0\nstuck_after_ms = 5000.0\n[model]\ncheckpoint = {checkpoint:?}\ndevice = \"cpu\"\nthreads = 1\n\
         calibrate = {{ {calibrate} }}\n[publish]\nendpoint = \"tcp://127.0.0.1:*\"\nlatest_endpoint = \"\"\n\
         [control]\nendpoint = {control:?}\n[record]\nfile = {file:?}\n"
    );
    let path = folder.join("rig.toml");
    std::fs::write(&path, text).unwrap();
    path
}

/// A run in the background that is told what to do by `ctl` and by signals.
struct Told {
    run: Child,
    program: PathBuf,
    control: String,
    file: PathBuf,
}

impl Told {
    fn start(folder: &Path, checkpoint: &Path, calibrate: &str) -> Self {
        let (program, control) = (program(), rt_tests::subscriber::free_endpoint());
        let file = folder.join("r.nhr");
        let config = rig(folder, checkpoint, &file, &control, calibrate);
        let mut command = command(&program, &["run", config.to_str().unwrap(), "--json", "--quiet"]);
        let run = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        Self {
            run,
            program,
            control,
            file,
        }
    }

    fn ctl(&self, arguments: &[&str]) -> Value {
        let mut command = Command::new(&self.program);
        command.args(["ctl", "--endpoint", &self.control, "--patience", "30", "--json"]);
        let output = command.args(arguments).output().unwrap();
        assert!(
            output.status.success(),
            "{arguments:?}: {}",
            String::from_utf8_lossy(&output.stderr)
        );
        serde_json::from_slice(&output.stdout).unwrap()
    }

    fn signal(&self, name: &str) {
        let sent = Command::new("kill").args([name, &self.run.id().to_string()]).status();
        assert!(sent.unwrap().success());
    }

    /// Waits until `is` of what `ctl` says.
    fn until(&self, what: &str, is: impl Fn(&Value) -> bool) {
        let begin = Instant::now();
        while !is(&self.ctl(&[what])) {
            assert!(begin.elapsed() < Duration::from_secs(60), "{}", self.ctl(&[what]));
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    fn until_computed(&self, least: u64) {
        self.until("statistics", |now| {
            now["calibration"]["taken_in"].as_u64() >= Some(least)
        });
    }

    fn stop(self) -> (Value, PathBuf) {
        self.ctl(&["stop"]);
        let summary = json(&self.run.wait_with_output().unwrap());
        assert_eq!(summary["recording"]["lost_ingested"], 0, "{summary}");
        (summary, self.file)
    }
}

/// Identities that were taken in: of which model, where their reference ended and where the bin that they were taken in with, ns.
fn identities_in(file: &Path) -> Vec<(u64, i64, i64)> {
    let mut reader = RecordReader::open(file).unwrap();
    let bins = reader.header().bins.clone();
    let (mut identities, mut due) = (Vec::new(), Vec::new());
    while let Some((_, entries)) = reader.next_entries().unwrap() {
        for entry in entries {
            match entry {
                Entry::Identities { model, end_ns } => due.push((model, end_ns)),
                Entry::Closed { bin, .. } => {
                    let closed_ns = bins.start_ns + (bin + 1) * bins.bin_ns;
                    identities.extend(due.drain(..).map(|(model, end_ns)| (model, end_ns, closed_ns)));
                }
                _ => {}
            }
        }
    }
    identities
}

/// The replay comes to the end, and compares every prediction that is the model's own.
fn replay_of_all(file: &Path, summary: &Value) -> Value {
    let report = replay(&program(), file);
    assert_eq!(report["ended"], Value::Null, "{report}");
    let bins = |key: &str| summary["bins"][key].as_u64().unwrap();
    let other = ["shortened", "superseded", "limited", "stopped"].map(bins);
    let least = bins("full").saturating_sub(other.iter().sum());
    let compared = report["compared"].as_u64().unwrap();
    assert!(
        (least..=bins("full")).contains(&compared) && compared > 20,
        "{report} {}",
        summary["bins"]
    );
    assert_eq!(
        report["identities"].as_u64(),
        Some(identities_in(file).len() as u64),
        "{report}"
    );
    report
}

#[test]
fn identities_that_were_asked_for_are_computed_and_taken_in_again() {
    let folder = tempfile::tempdir().unwrap();
    let checkpoint = folder.path().join("c.safetensors");
    with_identities(&checkpoint);
    let run = Told::start(folder.path(), &checkpoint, "reference_s = 1.0");
    run.until_computed(1);
    let mut random = ChaCha8Rng::seed_from_u64(4);
    for asked in 0..8 {
        std::thread::sleep(Duration::from_millis(random.random_range(0..400)));
        match asked % 4 {
            3 => run.signal("-USR1"),
            _ => drop(run.ctl(&["recalibrate"])),
        }
    }
    let computed = run.ctl(&["statistics"])["calibration"]["taken_in"].as_u64().unwrap();
    run.ctl(&["recalibrate"]);
    run.until_computed(computed + 1);
    std::thread::sleep(Duration::from_millis(300));
    let (summary, file) = run.stop();
    assert!(summary["calibration"]["taken_in"].as_u64().unwrap() >= 5, "{summary}");
    replay_of_all(&file, &summary);
    of_version_1(&file, "bin ");
}

/// As a program before version 2 would have written it: the replay ends where the recording does not say what identities are of.
fn of_version_1(file: &Path, at: &str) {
    let old = file.with_extension("old");
    let bytes = std::fs::read(file).unwrap();
    let mut version_1 = bytes[..8].to_vec();
    version_1[4] = 1;
    let (mut rest, mut number) = (&bytes[8..], 0);
    while !rest.is_empty() {
        let chunk = ChunkHead::read(rest.first_chunk().unwrap()).unwrap();
        let content;
        (content, rest) = rest[CHUNK_HEAD..].split_at(chunk.length as usize);
        let kept = match chunk.kind {
            Kind::Requests => continue,
            Kind::Ingested => without_identities(content),
            _ => content.to_vec(),
        };
        let mut chunk_1 = Vec::new();
        begin(&mut chunk_1);
        chunk_1.extend(kept);
        seal(&mut chunk_1, chunk.kind, number);
        version_1.extend(chunk_1);
        number += 1;
    }
    std::fs::write(&old, version_1).unwrap();
    let report = match identities_in(file)[0].0 {
        // Before them nothing was the model's own.
        0 => {
            let output = command(&program(), &["replay", old.to_str().unwrap(), "--json"]).output();
            json(&output.unwrap())
        }
        _ => replay_in_part(&program(), &old),
    };
    let ended = report["ended"].as_str().unwrap();
    assert!(
        ended.starts_with(at) && ended.contains("recordings of version 1 do not"),
        "{ended}"
    );
    assert_ne!(report["same"], true, "{report}");
}

fn without_identities(mut entries: &[u8]) -> Vec<u8> {
    let mut kept = Vec::new();
    while !entries.is_empty() {
        let (entry, length) = Entry::parse(entries).unwrap();
        if !matches!(entry, Entry::Identities { .. }) {
            kept.extend(&entries[..length]);
        }
        entries = &entries[length..];
    }
    kept
}

#[test]
fn identities_of_every_model_of_a_run_are_computed_and_taken_in_again() {
    let folder = tempfile::tempdir().unwrap();
    let checkpoint = folder.path().join("c.safetensors");
    with_identities(&checkpoint);
    let run = Told::start(folder.path(), &checkpoint, "reference_s = 1.0, every_s = 0.3");
    run.until_computed(2);
    // The same file twice: one hash, three models.
    for exchanged in 1..=2 {
        // Both of them compute identities until the second has its own.
        run.ctl(&["swap", checkpoint.to_str().unwrap()]);
        run.ctl(&["recalibrate"]);
        run.until("state", |now| now["exchanged"] == exchanged);
        run.ctl(&["recalibrate"]);
        std::thread::sleep(Duration::from_millis(700));
    }
    let (summary, file) = run.stop();
    let identities = identities_in(&file);
    for model in 0..3 {
        let of_model = identities.iter().filter(|(of, ..)| *of == model).count();
        assert!(of_model >= 2, "{of_model} of model {model}: {identities:?}");
    }
    let before = |model: u64| {
        let first = identities.iter().position(|(of, ..)| *of == model).unwrap();
        identities[..first].iter().filter(|(of, ..)| *of + 1 == model).count()
    };
    assert!(before(1) > 0 && before(2) > 0, "{identities:?}");
    let report = replay_of_all(&file, &summary);
    let requests = value!({"recalibrate": 4, "stop": 1, "swap": 2});
    assert_eq!(
        (&report["requests"], &report["requests_left_out"]),
        (&requests, &0.into())
    );
}

#[test]
fn identities_of_a_model_that_was_swapped_in_are_not_guessed() {
    let folder = tempfile::tempdir().unwrap();
    let [checkpoint, plain] = ["c.safetensors", "plain.safetensors"].map(|name| folder.path().join(name));
    with_identities(&checkpoint);
    let (run, file) = {
        // Identities of its own from the start, so that what comes before the swap can be compared.
        let run = Told::start(folder.path(), &checkpoint, "reference_s = 1.0");
        run.until_computed(1);
        std::thread::sleep(Duration::from_millis(1_000));
        std::fs::copy(&checkpoint, &plain).unwrap();
        run.ctl(&["swap", plain.to_str().unwrap()]);
        run.until("state", |now| now["exchanged"] == 1);
        std::thread::sleep(Duration::from_millis(500));
        run.stop()
    };
    replay_of_all(&file, &run);
    // Entries of the second one's identities are damaged so that the checksums are right: no such reference was ever whole.
    let mut bytes = std::fs::read(&file).unwrap();
    let mut at = 8;
    while at < bytes.len() {
        let chunk = ChunkHead::read(bytes[at..].first_chunk().unwrap()).unwrap();
        let end = at + CHUNK_HEAD + chunk.length as usize;
        let mut entry_at = at + CHUNK_HEAD;
        while chunk.kind == Kind::Ingested && entry_at < end {
            let (entry, length) = Entry::parse(&bytes[entry_at..end]).unwrap();
            if let Entry::Identities { model: 1, end_ns } = entry {
                let wrong_ns: i64 = end_ns - 60 * 20_000_000;
                bytes[entry_at + 16..entry_at + 24].copy_from_slice(&wrong_ns.to_le_bytes());
            }
            entry_at += length;
        }
        seal(&mut bytes[at..end], chunk.kind, chunk.number);
        at = end;
    }
    std::fs::write(&file, bytes).unwrap();
    let report = replay_in_part(&program(), &file);
    let ended = report["ended"].as_str().unwrap();
    assert!(
        ended.contains("1 s before") && ended.contains("are not whole in it"),
        "{ended}"
    );
}

#[test]
fn identities_that_take_longer_than_lies_between_two_are_taken_in_with_the_same_bins() {
    let folder = tempfile::tempdir().unwrap();
    let checkpoint = folder.path().join("c.safetensors");
    // So wide that its forward pass takes longer than a tenth of a second.
    identities_of_width(&checkpoint, SLOW_WIDTH);
    let run = Told::start(folder.path(), &checkpoint, "reference_s = 2.0, every_s = 0.1");
    run.until_computed(4);
    std::thread::sleep(Duration::from_millis(1_500));
    let (summary, file) = run.stop();
    let late = identities_in(&file)
        .iter()
        .filter(|(_, end_ns, closed_ns)| closed_ns - end_ns > 120_000_000)
        .count();
    assert!(late >= 2, "{:?}", identities_in(&file));
    replay_of_all(&file, &summary);
}

#[test]
fn what_changed_a_run_is_in_its_recording() {
    let folder = tempfile::tempdir().unwrap();
    let checkpoint = folder.path().join("c.safetensors");
    with_identities(&checkpoint);
    let run = Told::start(folder.path(), &checkpoint, "reference_s = 1.0");
    run.until_computed(1);
    let began_ns = monotonic_ns();
    run.ctl(&["set", "deadline_ms=900", "most_rate_hz=500"]);
    // Neither of these changes anything.
    run.ctl(&["set", "deadline_ms=900"]);
    run.ctl(&["state"]);
    run.ctl(&["recalibrate"]);
    run.ctl(&["emergency-stop"]);
    run.ctl(&["emergency-stop"]);
    run.ctl(&["release"]);
    std::thread::sleep(Duration::from_millis(1_000));
    run.signal("-USR2");
    run.until("state", |now| now["stopped"] == "command");
    run.signal("-USR1");
    std::thread::sleep(Duration::from_millis(500));
    let (summary, file) = run.stop();
    let tables = Tables::read(&file).unwrap();
    let mut requests = tables.requests.clone();
    // Signals are noted when they are looked for.
    requests.sort_by_key(|request| request.host_ns);
    let told: Vec<(&str, &str)> = requests
        .iter()
        .map(|told| (told.from.as_str(), told.command()))
        .collect();
    assert_eq!(
        told,
        [
            ("control", "set"),
            ("control", "recalibrate"),
            ("control", "emergency_stop"),
            ("control", "release"),
            ("SIGUSR2", "emergency_stop"),
            ("SIGUSR1", "recalibrate"),
            ("control", "stop"),
        ]
    );
    assert_eq!(requests[0].request["parameters"]["deadline_ms"], 900.0);
    assert_eq!(requests[0].answer["parameters"]["most_rate_hz"], 500.0);
    assert!(requests
        .iter()
        .all(|told| (began_ns..monotonic_ns()).contains(&told.host_ns)));
    assert_eq!(
        (
            &summary["recording"]["requests"],
            &summary["recording"]["requests_left_out"]
        ),
        (&7.into(), &0.into())
    );
    replay_of_all(&file, &summary);
    let output = command(&program(), &["replay", file.to_str().unwrap()])
        .output()
        .unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(
        text.contains("7 changed the run (2 emergency_stop, 2 recalibrate, 1 release, 1 set, 1 stop)"),
        "{text}"
    );
    let npz = folder.path().join("r.npz");
    let export = ["export", file.to_str().unwrap(), "--npz", npz.to_str().unwrap()];
    assert!(command(&program(), &export).status().unwrap().success());
    let mut arrays = neurohorizon::data::arrays::ArrayFile::open(&npz).unwrap();
    assert_eq!(arrays.take_f32("request_host_ns", 1).unwrap().0, [7]);
}
