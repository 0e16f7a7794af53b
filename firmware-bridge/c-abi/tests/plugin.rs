//! The plugin for the Open Ephys GUI, compiled against the stand-in of the GUI and played by it: every spike and TTL change
//! arrives, with the time of every stream, and what nobody takes is counted.
#![cfg(target_os = "linux")]

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use firmware_bridge::{decode, SampleKind};
use firmware_bridge_shm::{Link, Role, Sizes};

/// What `play_streams` of the program adds up to: spikes and TTL changes of its first acquisition.
const PLAYED: (u64, u64) = (1232, 4);

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../plugins/open-ephys")
}

/// The files of a folder that are sources, by name.
fn sources(folder: &Path) -> BTreeSet<String> {
    let names = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    names
        .filter(|path| path.extension() == Some(OsStr::new("cpp")) || path.extension() == Some(OsStr::new("h")))
        .map(|path| path.file_name().unwrap().to_str().unwrap().to_owned())
        .collect()
}

#[test]
fn cmake_lists_exactly_the_sources_that_there_are() {
    let text = std::fs::read_to_string(root().join("CMakeLists.txt")).unwrap();
    let listed: Vec<_> = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("Source/"))
        .collect();
    assert_eq!(
        listed,
        Vec::from_iter(sources(&root().join("Source"))),
        "in alphabetical order"
    );
}

fn compile(arguments: impl FnOnce(&mut Command)) {
    let compiler = std::env::var("CXX").unwrap_or_else(|_| "c++".to_owned());
    let mut command = Command::new(&compiler);
    command
        .args([
            "-std=c++17",
            "-g",
            "-O1",
            "-Wall",
            "-Wextra",
            "-Wpedantic",
            "-Wconversion",
            "-Werror",
        ])
        .arg("-I")
        .arg(root().join("stand-in/Plugins/Headers"));
    arguments(&mut command);
    let output = command.output().unwrap_or_else(|error| panic!("{compiler}: {error}"));
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// The plugin as a library, and the program that plays the GUI; they go when this does.
struct Built(tempfile::TempDir);

impl Built {
    fn new() -> Self {
        let built = Self(tempfile::tempdir().unwrap());
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        // Cargo puts the static library beside the tests that use the crate.
        let library = std::env::current_exe()
            .unwrap()
            .with_file_name("libneurohorizon_bridge.a");
        let folder = root().join("Source");
        compile(|command| {
            let files = sources(&folder).into_iter().filter(|name| name.ends_with(".cpp"));
            command
                .args(["-shared", "-fPIC", "-fvisibility=hidden", "-DOEPLUGIN", "-I"])
                .arg(here.join("include"))
                .args(files.map(|name| folder.join(name)))
                .arg(library)
                .args(["-Wl,--exclude-libs,ALL", "-lpthread", "-ldl", "-lm", "-o"])
                .arg(built.plugin());
        });
        compile(|command| {
            command
                .arg(root().join("stand-in/StandIn.cpp"))
                .args(["open_ephys.cpp", "allocations.cpp"].map(|name| here.join("tests/c").join(name)))
                // The plugin finds the GUI's functions in the program.
                .args(["-rdynamic", "-ldl", "-o"])
                .arg(built.gui());
        });
        built
    }

    fn plugin(&self) -> PathBuf {
        self.0.path().join("neurohorizon.so")
    }

    fn gui(&self) -> PathBuf {
        self.0.path().join("gui")
    }

    fn start(&self, mut command: Command, address: &str, play: &str) -> Child {
        command
            .arg(self.plugin())
            .args([address, play])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    }

    fn play(&self, address: &str, play: &str) -> String {
        let child = self.start(Command::new(self.gui()), address, play);
        text_of(&child.wait_with_output().unwrap())
    }
}

/// What a program that ended well printed.
fn text_of(output: &Output) -> String {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{text}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    text
}

/// What came of one acquisition of one stream.
#[derive(Debug, Default, PartialEq)]
struct Acquisition {
    tick_rate_hz: u32,
    /// Tick, channel and unit.
    spikes: Vec<(u64, u16, u8)>,
    /// Tick, series and value.
    samples: Vec<(u64, u16, f32)>,
    /// The times of packets without an event.
    times: Vec<u64>,
}

/// Acquisitions by device, and by boot number in their order.
#[derive(Default)]
struct Heard(BTreeMap<u32, Vec<(u32, Acquisition, Vec<u64>)>>);

impl Heard {
    fn take(&mut self, bytes: &[u8]) {
        let packet = decode(bytes).unwrap();
        let header = packet.header();
        let starts = self.0.entry(header.device_id).or_default();
        if starts.last().is_none_or(|(boot, ..)| *boot != header.boot) {
            let acquisition = Acquisition {
                tick_rate_hz: header.tick_rate_hz,
                ..Acquisition::default()
            };
            starts.push((header.boot, acquisition, Vec::new()));
        }
        let (_, acquisition, first_ticks) = starts.last_mut().unwrap();
        assert_eq!((header.sequence, header.overflow), (first_ticks.len() as u64, 0));
        assert!(
            first_ticks.last().is_none_or(|last| *last <= header.first_tick),
            "time runs backwards"
        );
        first_ticks.push(header.first_tick);
        let tick = |offset: u32| header.first_tick + u64::from(offset);
        if header.spikes == 0 && header.samples == 0 {
            acquisition.times.push(header.first_tick);
        }
        for spike in packet.spikes() {
            let spike = (tick(spike.tick_offset), spike.channel, spike.unit);
            acquisition.spikes.push(spike);
        }
        for sample in packet.samples() {
            assert_eq!((sample.kind, sample.values().len()), (SampleKind::Stimulus, 1));
            let value = sample.values().next().unwrap();
            acquisition
                .samples
                .push((tick(sample.tick_offset), sample.series, value));
        }
    }

    /// The acquisitions of each device.
    fn acquisitions(self) -> BTreeMap<u32, Vec<Acquisition>> {
        let of_device = |starts: Vec<(u32, Acquisition, Vec<u64>)>| starts.into_iter().map(|start| start.1).collect();
        self.0
            .into_iter()
            .map(|(device, starts)| (device, of_device(starts)))
            .collect()
    }
}

/// What `play_streams` of the program plays: device 40 is the first stream, 41 the second that is enabled.
fn played() -> BTreeMap<u32, Vec<Acquisition>> {
    let (mut spikes, mut samples, mut times) = (Vec::new(), Vec::new(), Vec::new());
    let mut first = 0;
    for block in 0..20 {
        let length = if block == 12 { 0 } else { 640 };
        let count = match block {
            4 => 1200,
            12 => 0,
            _ if block % 3 == 0 => 5,
            _ => 0,
        };
        spikes.extend((0..count).map(|i| (first + i * 640 / count, (i % 3) as u16, (i % 4) as u8)));
        if block == 1 {
            spikes.extend([(first - 50, 1, 2), (first, 0, 255)]);
        }
        match block {
            5 => samples.push((first + 7, 3, 1.0)),
            8 => samples.push((first + 7, 3, 0.0)),
            9 => samples.push((first + 8, 257, 1.0)),
            _ => {}
        }
        first += length;
        // Spikes up to 100 samples before the end may still come.
        times.extend((length > 0).then_some(first - 100));
    }
    let probe = Acquisition {
        tick_rate_hz: 30_000,
        spikes,
        samples,
        times,
    };
    let probe_again = Acquisition {
        tick_rate_hz: 30_000,
        spikes: vec![(0, 0, 1)],
        samples: vec![],
        times: vec![540],
    };
    // No electrodes: nothing comes late.
    let aux = |blocks: u64, samples| Acquisition {
        tick_rate_hz: 2_500,
        spikes: vec![],
        samples,
        times: (1..=blocks).map(|block| block * 53).collect(),
    };
    BTreeMap::from([
        (40, vec![probe, probe_again]),
        (41, vec![aux(20, vec![(9 * 53 + 52, 0, 1.0)]), aux(1, vec![])]),
    ])
}

/// What the user sees of `play_streams` where everything is taken.
fn seen_text() -> String {
    let (spikes, changes) = PLAYED;
    let first = format!("{spikes} spikes, {changes} TTL changes, 0 lost, 1 of units beyond 255");
    let second = "1 spikes, 0 TTL changes, 0 lost";
    format!(
        "library NeuroHorizon {}, API 10, 1 plugin: 0 -1\nplugin NeuroHorizon, type 1, processor 3\n\
         panel: {first}\nmessage: NeuroHorizon: {first}\npanel: {second}\nmessage: NeuroHorizon: {second}\n\
         0 allocations in the callback\n",
        env!("CARGO_PKG_VERSION")
    )
}

/// The runtime's ends of the links of two streams; their files go when this does.
struct Links([String; 2]);

impl Links {
    fn new(test: &str) -> Self {
        let name = format!("test-plugin-{test}-{}", std::process::id());
        Self([name.clone(), format!("{name}-2")])
    }

    fn address(&self) -> String {
        format!("shm:{}", self.0[0])
    }

    /// Listens on both until the program has ended.
    fn hear(&self, start: impl FnOnce() -> Child) -> (Output, Heard) {
        let open = |name: &String| Link::open(name, Role::Host, Sizes::default()).unwrap();
        let mut hosts = self.0.each_ref().map(open);
        let mut child = start();
        let (mut heard, mut bytes) = (Heard::default(), [0; 4096]);
        let give_up = Instant::now() + Duration::from_secs(60);
        loop {
            // Looked at first: what was pushed before the end is then read after it.
            let ended = child.try_wait().unwrap().is_some();
            for host in &mut hosts {
                while let Some(length) = host.reader.pop(&mut bytes).unwrap() {
                    heard.take(&bytes[..length]);
                }
            }
            if ended {
                return (child.wait_with_output().unwrap(), heard);
            }
            assert!(Instant::now() < give_up, "the program does not end");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}

impl Drop for Links {
    fn drop(&mut self) {
        for name in &self.0 {
            let _ = Link::remove(name);
        }
    }
}

#[test]
fn every_event_arrives_over_udp_and_shared_memory() {
    let built = Built::new();

    let links = Links::new("all");
    let (output, heard) = links.hear(|| built.start(Command::new(built.gui()), &links.address(), "streams"));
    assert_eq!(text_of(&output), seen_text());
    assert_eq!(heard.acquisitions(), played());

    let host = UdpSocket::bind("127.0.0.1:0").unwrap();
    let text = built.play(&format!("udp:{}", host.local_addr().unwrap()), "streams");
    assert_eq!(text, seen_text());
    host.set_nonblocking(true).unwrap();
    let (mut heard, mut bytes) = (Heard::default(), [0; 4096]);
    while let Ok(length) = host.recv(&mut bytes) {
        heard.take(&bytes[..length]);
    }
    assert_eq!(heard.acquisitions(), played());
}

/// The spikes, TTL changes and losses of the first panel.
fn counts(text: &str) -> [u64; 3] {
    let panel = text.lines().find_map(|line| line.strip_prefix("panel: ")).unwrap();
    let number = |part: &str| part.split(' ').next()?.parse().ok();
    let numbers: Vec<u64> = panel.split(", ").filter_map(number).collect();
    numbers[..3].try_into().unwrap()
}

#[test]
fn without_a_runtime_the_acquisition_goes_on_and_losses_are_counted() {
    let built = Built::new();

    // Nobody empties the link, and it is full some time.
    let links = Links::new("absent");
    let text = built.play(&links.address(), "flood");
    assert!(text.contains("; no runtime on 2 of 2 links"), "{text}");
    let [spikes, changes, lost] = counts(&text);
    assert!(spikes > 100_000 && lost > 10_000, "{text}");
    assert_eq!(spikes + changes + lost, 40 * 5001);

    // Nobody listens, which the system says some time.
    let unused = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let text = built.play(&format!("udp:{unused}"), "streams");
    assert_eq!(counts(&text).iter().sum::<u64>(), PLAYED.0 + PLAYED.1);

    // An address that is none.
    let text = built.play("spikes", "streams");
    assert_eq!(counts(&text), [0, 0, PLAYED.0 + PLAYED.1], "{text}");
    let message = "message: NeuroHorizon: an address is \"shm:NAME\" or \"udp:HOST:PORT\", not \"spikes\"\n";
    assert!(text.contains(message), "{text}");
    assert!(!text.contains("refused"), "{text}");
}

#[test]
fn valgrind_finds_nothing_in_the_plugin() {
    if Command::new("valgrind").arg("--version").output().is_err() {
        println!("NOT CHECKED: valgrind is not installed");
        return;
    }
    let built = Built::new();
    let links = Links::new("valgrind");
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
        .arg(built.gui());
    let (output, heard) = links.hear(|| built.start(command, &links.address(), "streams"));
    assert_eq!(text_of(&output), seen_text());
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert_eq!(heard.acquisitions(), played());
}
