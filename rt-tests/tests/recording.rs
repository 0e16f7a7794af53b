//! A run that is recorded, and replayed to the same bits; killed, and replayed up to there; on a full disk, and going on.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use neurohorizon::acquire::host_time::monotonic_ns;
use neurohorizon::acquire::SpikeEvent;
use neurohorizon::data::{LoadOptions, Recording};
use neurohorizon::model::checkpoint::{Checkpoint, Stored};
use neurohorizon::model::config::{IdentityConfig, IdentityScheme, ModelConfig};
use neurohorizon::pipeline::entry::Entry;
use neurohorizon::pipeline::message::{flags, MessageHeader};
use neurohorizon::record::format::{begin, seal, ChunkHead, Kind, CHUNK_HEAD};
use neurohorizon::record::tables::Tables;
use neurohorizon::record::{Ending, RecordReader};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rt_tests::{program, root};
use serde_json::{json as value, Value};

/// What a killed program may lose.
const MOST_LOST_NS: i64 = 100_000_000;

fn command(program: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(arguments).current_dir(root());
    command
}

fn run_arguments<'a>(file: &'a str, speed: &'a str, seconds: &'a str) -> Vec<&'a str> {
    vec![
        "run",
        "configs/simulate.toml",
        "--checkpoint",
        "configs/demo.safetensors",
        "--device",
        "cpu",
        "--threads",
        "1",
        "--endpoint",
        "tcp://127.0.0.1:*",
        "--latest-endpoint",
        "",
        "--json",
        "--latents",
        "newest",
        "--speed",
        speed,
        "--duration",
        seconds,
        "--record",
        file,
    ]
}

fn json(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(&text)
        .unwrap_or_else(|error| panic!("{error}: {text:?}, {}", String::from_utf8_lossy(&output.stderr)))
}

fn replay(program: &Path, file: &Path) -> Value {
    let output = command(program, &["replay", file.to_str().unwrap(), "--json"])
        .output()
        .unwrap();
    let report = json(&output);
    assert!(output.status.success(), "{report}");
    assert_eq!(report["same"], true, "{report}");
    assert_eq!(report["compared"], report["equal"], "{report}");
    assert_eq!(report["outputs"][0], report["outputs"][1], "{report}");
    report
}

/// A replay that ends before the recording does: nothing differs up to there, and it is not called the same.
fn replay_in_part(program: &Path, file: &Path) -> Value {
    let output = command(program, &["replay", file.to_str().unwrap(), "--json"])
        .output()
        .unwrap();
    let report = json(&output);
    assert_eq!(
        (output.status.code(), &report["same"]),
        (Some(3), &Value::Null),
        "{report}"
    );
    let [compared, equal, published] = ["compared", "equal", "published"].map(|key| report[key].as_u64().unwrap());
    assert!(compared > 0 && compared == equal && compared < published, "{report}");
    assert_eq!(report["first_difference"], Value::Null, "{report}");
    let said = command(program, &["replay", file.to_str().unwrap()]).output().unwrap();
    let text = String::from_utf8(said.stdout).unwrap();
    let first = format!("compared     {compared} of {published} published predictions");
    assert!(text.starts_with(&first) && text.contains("the same IN PART"), "{text}");
    report
}

#[test]
fn a_recording_without_predictions_is_not_called_the_same() {
    let (program, folder) = (program(), tempfile::tempdir().unwrap());
    let file = folder.path().join("short.nhr");
    let arguments = run_arguments(file.to_str().unwrap(), "max", "1");
    assert!(command(&program, &arguments).status().unwrap().success());
    // The header alone: its chunk's length stands 16 bytes into its head.
    let bytes = std::fs::read(&file).unwrap();
    let content = u32::from_le_bytes(bytes[24..28].try_into().unwrap()) as usize;
    std::fs::write(&file, &bytes[..8 + 24 + content]).unwrap();
    let output = command(&program, &["replay", file.to_str().unwrap(), "--json"])
        .output()
        .unwrap();
    let report = json(&output);
    assert_eq!(
        (output.status.code(), &report["same"]),
        (Some(1), &Value::Null),
        "{report}"
    );
    assert_eq!(
        (&report["compared"], &report["published"]),
        (&0.into(), &0.into()),
        "{report}"
    );
    assert!(report["verdict"].as_str().unwrap().contains("NOTHING"), "{report}");
}

#[test]
fn a_damaged_recording_is_exported_around_the_damage_and_replayed_up_to_it() {
    let (program, folder) = (program(), tempfile::tempdir().unwrap());
    let [file, npz] = ["r.nhr", "r.npz"].map(|name| folder.path().join(name));
    let arguments = run_arguments(file.to_str().unwrap(), "1", "4");
    assert!(command(&program, &arguments).status().unwrap().success());
    let whole = Tables::read(&file).unwrap();
    let mut bytes = std::fs::read(&file).unwrap();
    let at = bytes.len() / 2;
    bytes[at] ^= 4;
    std::fs::write(&file, bytes).unwrap();
    let export = ["export", file.to_str().unwrap(), "--npz", npz.to_str().unwrap()];
    let output = command(&program, &export).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("DAMAGED at byte") && said.contains("1 chunks"), "{said}");
    let rest = Tables::read(&file).unwrap();
    // One chunk of some hundredths of a second is missing of four seconds: of spikes or of predictions.
    let (had, has) = (whole.spikes.len(), rest.spikes.len());
    let (published, exported) = (whole.predictions.headers.len(), rest.predictions.headers.len());
    assert!((had, published) != (has, exported), "{said}");
    assert!(
        10 * has > 9 * had && 10 * exported > 9 * published,
        "{has} of {had}, {exported} of {published}"
    );
    let last = |tables: &Tables| tables.predictions.headers.last().map(|header| header.bin_index);
    assert_eq!(last(&rest), last(&whole));
    let mut arrays = neurohorizon::data::arrays::ArrayFile::open(&npz).unwrap();
    assert_eq!(arrays.take_whole_number("damaged_chunks").unwrap(), 1);
    let (shape, _) = arrays.take_f32("bin_index", 1).unwrap();
    assert_eq!(shape, [exported]);
    let output = command(&program, &["replay", file.to_str().unwrap(), "--json"])
        .output()
        .unwrap();
    let report = json(&output);
    assert_eq!(
        (output.status.code(), &report["same"]),
        (Some(1), &Value::Null),
        "{report}"
    );
    assert_eq!(report["published"].as_u64(), Some(exported as u64), "{report}");
    assert!(report["verdict"].as_str().unwrap().contains("damaged"), "{report}");
}

#[test]
fn a_recorded_run_is_replayed_to_the_same_bits() {
    let (program, folder) = (program(), tempfile::tempdir().unwrap());
    for (speed, seconds) in [("max", "20"), ("1", "4")] {
        let file = folder.path().join(format!("{speed}.nhr"));
        let arguments = run_arguments(file.to_str().unwrap(), speed, seconds);
        let output = command(&program, &arguments).output().unwrap();
        let summary = json(&output);
        assert_eq!(summary["recording"]["lost_ingested"], 0, "{summary}");
        assert_eq!(summary["recording"]["lost_published"], 0, "{summary}");
        let report = replay(&program, &file);
        let (bins, published) = (&summary["bins"], summary["bins"]["published"].as_u64().unwrap());
        assert_eq!(
            (&report["whole"], &report["bins"]),
            (&Value::Bool(true), &bins["closed"])
        );
        assert_eq!(report["spikes"], summary["spikes"]["received"]);
        assert_eq!(report["recorded"].as_u64(), Some(published));
        assert_eq!(report["published"].as_u64(), Some(published));
        assert_eq!(report["compared"], bins["full"], "{report}");
        assert!(bins["full"].as_u64().unwrap() > 50, "{summary}");

        // A file that is there is not written over, and refused before anything else happens to it.
        let before = std::fs::read(&file).unwrap();
        let refused = command(&program, &arguments).output().unwrap();
        assert_eq!(refused.status.code(), Some(2));
        assert!(String::from_utf8_lossy(&refused.stderr).contains("--overwrite"));
        assert!(before == std::fs::read(&file).unwrap());
    }
    let file = folder.path().join("max.nhr");
    let tables = Tables::read(&file).unwrap();
    exports(&program, &file, &tables);
    another_checkpoint_is_refused(&program, &file);
}

#[test]
fn a_model_that_took_another_ones_place_is_replayed_too() {
    let (program, folder) = (program(), tempfile::tempdir().unwrap());
    let [file, second, moved] =
        ["run.nhr", "second.safetensors", "moved.safetensors"].map(|name| folder.path().join(name));
    let mut other = Checkpoint::load(&root().join("configs/demo.safetensors")).unwrap();
    for value in other.tensors.values_mut().flat_map(|tensor| &mut tensor.data) {
        *value *= 1.01;
    }
    std::fs::write(&second, other.to_safetensors(Stored::F32).unwrap()).unwrap();
    let control = rt_tests::subscriber::free_endpoint();
    let mut arguments = run_arguments(file.to_str().unwrap(), "1", "4");
    arguments.extend(["--control", &control]);
    let run = command(&program, &arguments)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    std::thread::sleep(Duration::from_millis(2_000));
    let swap = ["ctl", "--endpoint", &control, "swap", second.to_str().unwrap()];
    assert!(command(&program, &swap).status().unwrap().success());
    let summary = json(&run.wait_with_output().unwrap());
    assert_eq!(summary["exchanged"], 1, "{summary}");
    let report = replay(&program, &file);
    assert_eq!(
        (&report["compared"], &report["ended"]),
        (&summary["bins"]["full"], &Value::Null),
        "{report}"
    );
    assert_eq!(report["bins"], summary["bins"]["closed"]);
    // Without it the replay goes up to there, and says why; with it under another name it is found again.
    std::fs::rename(&second, &moved).unwrap();
    let report = replay_in_part(&program, &file);
    let ended = report["ended"].as_str().unwrap();
    assert!(
        ended.contains("second.safetensors and is not there any more: --also FILE"),
        "{ended}"
    );
    assert!(report["compared"].as_u64().unwrap() < summary["bins"]["full"].as_u64().unwrap());
    let again = [
        "replay",
        file.to_str().unwrap(),
        "--also",
        moved.to_str().unwrap(),
        "--json",
    ];
    let report = json(&command(&program, &again).output().unwrap());
    assert_eq!(
        (&report["same"], &report["compared"]),
        (&Value::Bool(true), &summary["bins"]["full"]),
        "{report}"
    );
}

fn exports(program: &Path, file: &Path, tables: &Tables) {
    let [npz, nwb] = ["npz", "nwb"].map(|kind| file.with_extension(kind));
    let (npz_text, nwb_text) = (npz.to_str().unwrap(), nwb.to_str().unwrap());
    let arguments = ["export", file.to_str().unwrap(), "--npz", npz_text, "--nwb", nwb_text];
    assert!(command(program, &arguments).status().unwrap().success());
    for path in [&npz, &nwb] {
        let read = Recording::load(path).unwrap();
        assert_eq!(read.spike_times_ns.len(), tables.spikes.len(), "{}", path.display());
        // Seconds in double precision are exact to less than a ns here.
        let times = tables.spikes.iter().map(|&(time, _)| time);
        assert!(read.spike_times_ns.iter().copied().eq(times), "{}", path.display());
        let named = |read: &Recording, spike: usize| read.unit_ids[read.spike_units[spike] as usize].clone();
        for (spike, &(_, unit)) in tables.spikes.iter().enumerate().step_by(97) {
            assert_eq!(named(&read, spike), tables.unit_ids[unit as usize]);
        }
    }
    let mut arrays = neurohorizon::data::arrays::ArrayFile::open(&npz).unwrap();
    let (shape, log_rates) = arrays.take_f32("log_rates", 3).unwrap();
    let predictions = &tables.predictions;
    assert_eq!(
        shape,
        [
            predictions.headers.len(),
            predictions.output.rows,
            predictions.output.cols
        ]
    );
    assert_eq!(log_rates, predictions.array);
    let (shape, _) = arrays.take_f32("output_latents", 3).unwrap();
    assert_eq!(shape[0], predictions.headers.len());
    let (_, bins) = arrays.take_f32("bin_index", 1).unwrap();
    assert!(bins
        .iter()
        .zip(&predictions.headers)
        .all(|(&bin, header)| bin == header.bin_index as f32));
    let bytes = std::fs::read(&nwb).unwrap();
    assert!(Recording::from_bytes("x.nwb", &bytes, &LoadOptions::default()).is_ok());
}

fn another_checkpoint_is_refused(program: &Path, file: &Path) {
    let mut other = std::fs::read(root().join("configs/demo.safetensors")).unwrap();
    let last = other.len() - 1;
    other[last] ^= 1;
    let path = file.with_extension("safetensors");
    std::fs::write(&path, other).unwrap();
    let arguments = ["replay", file.to_str().unwrap(), "--checkpoint", path.to_str().unwrap()];
    let output = command(program, &arguments).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("is not the checkpoint of this run"));
}

/// Host time of the last marker in a file, and the published bins in it.
fn last_of(file: &Path) -> (i64, Vec<i64>, Ending) {
    let mut reader = RecordReader::open(file).unwrap();
    let (mut last_ns, mut bins) = (0, Vec::new());
    while let Some((_, entries)) = reader.next_entries().unwrap() {
        for entry in entries {
            match entry {
                Entry::Events { events, .. } => {
                    let markers = events.iter().filter(|event| event.flags == SpikeEvent::HOST_TIME);
                    last_ns = markers.map(|event| event.time_ns).max().unwrap_or(0).max(last_ns);
                }
                Entry::Prediction(message) => bins.push(message.header.bin_index),
                _ => {}
            }
        }
    }
    (last_ns, bins, reader.ending().unwrap().clone())
}

/// Where a run publishes; from then on it goes.
fn endpoint(child: &mut Child) -> String {
    let mut lines = BufReader::new(child.stderr.take().unwrap());
    let mut line = String::new();
    while !line.starts_with("predictions") {
        line.clear();
        assert!(
            lines.read_line(&mut line).unwrap() > 0,
            "the program ended before it ran"
        );
    }
    // Somebody has to read what else it says.
    std::thread::spawn(move || lines.lines().for_each(drop));
    line.trim().rsplit(' ').next().unwrap().to_string()
}

/// A subscriber of a run's predictions.
fn subscribe(endpoint: &str) -> zmq::Socket {
    let socket = zmq::Context::new().socket(zmq::SUB).unwrap();
    socket.connect(endpoint).unwrap();
    socket.set_subscribe(b"prediction").unwrap();
    socket
}

/// Starts a run, kills it after `after`, and says how much of it is not in its file, ns.
fn kill_after(program: &Path, file: &Path, after: Duration) -> (i64, Ending) {
    let mut arguments = run_arguments(file.to_str().unwrap(), "1", "60");
    arguments.retain(|argument| *argument != "--json");
    let mut child = command(program, &arguments)
        .stderr(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    let socket = subscribe(&endpoint(&mut child));
    std::thread::sleep(after);
    let killed_ns = monotonic_ns();
    child.kill().unwrap();
    child.wait().unwrap();
    let (last_ns, bins, ending) = last_of(file);
    while let Ok(parts) = socket.recv_multipart(zmq::DONTWAIT) {
        let header = MessageHeader::read(&parts[1]).unwrap();
        let kept = bins.contains(&header.bin_index);
        assert!(
            kept || killed_ns - header.publish_ns < MOST_LOST_NS,
            "bin {} is lost",
            header.bin_index
        );
    }
    (killed_ns - last_ns, ending)
}

#[test]
fn a_killed_run_loses_its_last_moments_only_and_is_replayed() {
    let kills = std::env::var("NEUROHORIZON_KILLS").map_or(10, |text| text.parse().unwrap());
    let (program, folder) = (program(), tempfile::tempdir().unwrap());
    let mut random = ChaCha8Rng::seed_from_u64(9);
    let (mut lost, mut cut_off) = (Vec::new(), 0);
    for kill in 0..kills {
        let file = folder.path().join(format!("{kill}.nhr"));
        let after = Duration::from_micros(random.random_range(300_000..2_000_000));
        let (lost_ns, ending) = kill_after(&program, &file, after);
        assert!(
            lost_ns < MOST_LOST_NS,
            "kill {kill} after {after:?}: {} ms are lost",
            lost_ns as f64 * 1e-6
        );
        let Ending::CutOff { left_over, .. } = ending else {
            panic!("{ending:?}")
        };
        cut_off += u64::from(left_over > 0);
        lost.push(lost_ns);
        // A run that is killed before its history is full has published nothing that could be compared.
        if last_of(&file).1.is_empty() {
            let output = command(&program, &["replay", file.to_str().unwrap()]).output().unwrap();
            assert_eq!(output.status.code(), Some(1));
            assert!(String::from_utf8_lossy(&output.stdout).contains("NOTHING was compared"));
        } else {
            assert_eq!(replay(&program, &file)["whole"], false);
        }
        std::fs::remove_file(&file).unwrap();
    }
    lost.sort_unstable();
    let ms = |ns: i64| ns as f64 * 1e-6;
    println!(
        "{kills} kills: lost {:.1} ms in the median, {:.1} ms at most; {cut_off} in the middle of a write",
        ms(lost[lost.len() / 2]),
        ms(lost[lost.len() - 1])
    );
}

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

/// A shell that lets the program write files of so many blocks of 512 bytes at most.
fn limited(program: &Path, arguments: &[&str], blocks: u32) -> Command {
    let mut shell = Command::new("sh");
    shell
        .arg("-c")
        .arg(format!("ulimit -f {blocks}; exec \"$0\" \"$@\""))
        .arg(program)
        .args(arguments);
    shell.current_dir(root());
    shell
}

#[test]
fn a_full_disk_does_not_stop_the_run_and_is_flagged() {
    let (program, folder) = (program(), tempfile::tempdir().unwrap());
    let file: PathBuf = folder.path().join("full.nhr");
    let arguments = run_arguments(file.to_str().unwrap(), "1", "4");
    let mut shell = limited(&program, &arguments, 400);
    let mut child = shell.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let socket = subscribe(&endpoint(&mut child));
    let output = child.wait_with_output().unwrap();
    let summary = json(&output);
    let mut flagged = 0;
    while let Ok(parts) = socket.recv_multipart(zmq::DONTWAIT) {
        let header = MessageHeader::read(&parts[1]).unwrap();
        flagged += u32::from(header.flags & flags::RECORDING_LOST != 0);
    }
    assert!(flagged > 10, "{flagged}");
    assert_eq!(summary["outcome"], "finished", "{summary}");
    let (closed, recording) = (summary["bins"]["closed"].as_u64(), &summary["recording"]);
    assert_eq!(closed, Some(200));
    assert!(recording["lost_ingested"].as_u64().unwrap() > 0, "{summary}");
    assert!(
        recording["failure"].as_str().unwrap().contains("too large"),
        "{summary}"
    );
    // What is there is whole, and is replayed.
    let (_, _, ending) = last_of(&file);
    let torn = matches!(ending, Ending::Damaged { .. } | Ending::CutOff { left_over: 1.., .. });
    assert!(!torn, "{ending:?}");
    // Either lane may have found the last room: only where both end together is all of it compared.
    let output = command(&program, &["replay", file.to_str().unwrap(), "--json"])
        .output()
        .unwrap();
    let (status, report) = (output.status.code(), json(&output));
    let all = report["ended"].is_null() && report["recorded"] == report["published"];
    let expected = if all {
        (Some(0), Value::Bool(true))
    } else {
        (Some(3), Value::Null)
    };
    assert_eq!((status, report["same"].clone()), expected, "{report}");
    assert_eq!(report["compared"], report["equal"], "{report}");
    assert!(report["bins"].as_u64().unwrap() > 20, "{report}");
}
