//! Programs in C and C++ against the static library: what they push arrives, what is published reaches them, and valgrind
//! finds nothing to say.
#![cfg(target_os = "linux")]

mod support;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use firmware_bridge::{decode, SampleKind};
use firmware_bridge_shm::Link;
use support::{prediction, Name};

const LANGUAGES: [(&str, &[&str]); 2] = [("c", &["cc", "-std=c11"]), ("cpp", &["c++", "-std=c++17"])];

/// Compiles the program of this language.
fn build(language: &str, compiler: &[&str], folder: &Path) -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    // Cargo puts the static library beside the tests that use the crate.
    let library = std::env::current_exe()
        .unwrap()
        .with_file_name("libneurohorizon_bridge.a");
    let program = folder.join(format!("device-{language}"));
    let output = Command::new(compiler[0])
        .args(&compiler[1..])
        .args(["-g", "-O1", "-Wall", "-Wextra", "-Wpedantic", "-Wconversion", "-Werror"])
        .arg(format!("-I{}", root.join("include").display()))
        .arg(root.join(format!("tests/c/device.{language}")))
        .arg(library)
        .args(["-lpthread", "-ldl", "-lm", "-o"])
        .arg(&program)
        .output()
        .unwrap_or_else(|error| panic!("{}: {error}", compiler[0]));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    program
}

/// What a program printed and pushed.
struct Ran {
    output: Output,
    /// The spikes' ticks.
    spikes: Vec<u64>,
    samples: Vec<Sample>,
}

/// Tick, kind, series and values.
type Sample = (u64, SampleKind, u16, Vec<f32>);

/// Runs `command` with the link's address and plays the runtime.
fn run(mut command: Command, name: &Name) -> Ran {
    let mut host: Link = name.host();
    let child = command
        .arg(name.address())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (mut spikes, mut samples, mut last_tick) = (Vec::new(), Vec::new(), 0);
    let mut bytes = [0; 4096];
    let give_up = Instant::now() + Duration::from_secs(60);
    while last_tick < 1500 && Instant::now() < give_up {
        let Some(length) = host.reader.pop(&mut bytes).unwrap() else {
            std::thread::sleep(Duration::from_micros(200));
            continue;
        };
        let packet = decode(&bytes[..length]).unwrap();
        let header = packet.header();
        assert_eq!((header.device_id, header.tick_rate_hz, header.overflow), (7, 30_000, 0));
        assert!(header.first_tick >= last_tick, "time runs backwards");
        last_tick = header.first_tick;
        spikes.extend(
            packet
                .spikes()
                .map(|spike| header.first_tick + u64::from(spike.tick_offset)),
        );
        samples.extend(packet.samples().map(|sample| {
            (
                header.first_tick + u64::from(sample.tick_offset),
                sample.kind,
                sample.series,
                sample.values().collect(),
            )
        }));
    }
    host.writer.push(&[&prediction(3)]).unwrap();
    Ran {
        output: child.wait_with_output().unwrap(),
        spikes,
        samples,
    }
}

fn assert_fine(ran: &Ran) {
    let output = &ran.output;
    let text = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert_eq!(
        text,
        "taken 400 1 1 0\nprediction 3 of 2 x 3: 0.5 1 1.5 -2 -2.5 -3\npackets 7, refused 0, host 2\n"
    );
    assert_eq!(ran.spikes, (1000..1400).collect::<Vec<_>>());
    assert_eq!(
        ran.samples,
        [
            (1400, SampleKind::Behaviour, 2, vec![0.5, -1.5, 2.25]),
            (1401, SampleKind::Stimulus, 0, vec![]),
        ]
    );
}

#[test]
fn programs_push_and_are_answered() {
    let folder = tempfile::tempdir().unwrap();
    for (language, compiler) in LANGUAGES {
        let program = build(language, compiler, folder.path());
        assert_fine(&run(Command::new(program), &Name::new(language)));
    }
}

#[test]
fn valgrind_finds_nothing() {
    if Command::new("valgrind").arg("--version").output().is_err() {
        println!("NOT CHECKED: valgrind is not installed");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    for (language, compiler) in LANGUAGES {
        let program = build(language, compiler, folder.path());
        let mut command = Command::new("valgrind");
        command
            .args([
                "--quiet",
                "--leak-check=full",
                "--show-leak-kinds=definite,indirect,possible",
            ])
            .args([
                "--errors-for-leak-kinds=definite,indirect,possible",
                "--error-exitcode=9",
            ])
            .arg(program);
        let ran = run(command, &Name::new(&format!("valgrind-{language}")));
        assert_fine(&ran);
        assert_eq!(String::from_utf8_lossy(&ran.output.stderr), "");
    }
}
