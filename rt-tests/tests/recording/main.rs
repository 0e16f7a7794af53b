//! A run that is recorded, and replayed to the same bits; killed, and replayed up to there; on a full disk, and going on.

mod calibrated;

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use neurohorizon::acquire::host_time::monotonic_ns;
use neurohorizon::acquire::SpikeEvent;
use neurohorizon::data::{LoadOptions, Recording};
use neurohorizon::model::checkpoint::{Checkpoint, Stored};
use neurohorizon::pipeline::entry::Entry;
use neurohorizon::pipeline::message::{flags, MessageHeader};
use neurohorizon::record::tables::Tables;
use neurohorizon::record::{Ending, RecordReader};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rt_tests::{program, root};
use serde_json::Value;

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
fn a_run_that_does_not_start_leaves_the_recording_that_was_there() {
    let (program, folder) = (program(), tempfile::tempdir().unwrap());
    let file = folder.path().join("kept.nhr");
    std::fs::write(&file, "a session").unwrap();
    let context = zmq::Context::new();
    let taken = context.socket(zmq::PUB).unwrap();
    taken.bind("tcp://127.0.0.1:*").unwrap();
    let taken = taken.get_last_endpoint().unwrap().unwrap();
    let mut arguments = run_arguments(file.to_str().unwrap(), "max", "1");
    arguments.push("--overwrite");
    let endpoint = arguments.iter().position(|argument| *argument == "--endpoint").unwrap() + 1;
    arguments[endpoint] = &taken;
    let output = command(&program, &arguments).output().unwrap();
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert_eq!(std::fs::read(&file).unwrap(), b"a session");
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    // One that starts replaces it.
    arguments[endpoint] = "tcp://127.0.0.1:*";
    assert!(command(&program, &arguments).status().unwrap().success());
    assert!(RecordReader::open(&file).is_ok());
    assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
}

#[test]
fn a_recording_that_is_being_written_is_not_replaced() {
    let (program, folder) = (program(), tempfile::tempdir().unwrap());
    let file = folder.path().join("live.nhr");
    let mut arguments = run_arguments(file.to_str().unwrap(), "1", "4");
    arguments.push("--overwrite");
    let first = command(&program, &arguments)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
    let mut first = first.unwrap();
    let until = Instant::now() + Duration::from_secs(60);
    while !file.exists() {
        assert!(Instant::now() < until, "there is no recording");
        std::thread::sleep(Duration::from_millis(10));
    }
    let second = command(&program, &arguments).output().unwrap();
    let said = String::from_utf8(second.stderr).unwrap();
    assert!(
        second.status.code() == Some(2) && said.contains("a run is writing it"),
        "{said}"
    );
    assert!(first.wait().unwrap().success());
    let mut reader = RecordReader::open(&file).unwrap();
    while reader.next_entries().unwrap().is_some() {}
    assert!(
        matches!(reader.ending(), Some(Ending::Whole { .. })),
        "{:?}",
        reader.ending()
    );
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
