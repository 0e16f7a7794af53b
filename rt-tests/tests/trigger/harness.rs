//! The ends that a trigger stands between, and the command itself.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use neurohorizon::actuate::network_events::emulator::Gui;
use neurohorizon::actuate::network_events::NetworkEventsEmulator;
use neurohorizon::pipeline::clock::monotonic_ns;
use neurohorizon::pipeline::message::MessageHeader;
use rt_tests::program;
use serde_json::Value;

/// Nothing here takes longer, unless it hangs.
const PATIENCE: Duration = Duration::from_secs(60);
/// A message is judged, and its TTL answered, well within this.
pub const SETTLE: Duration = Duration::from_millis(100);
pub const UP: &str = "TTL Line=3 State=1";
pub const DOWN: &str = "TTL Line=3 State=0";
/// What every contact begins with.
pub const CONTACT: [&str; 2] = ["IsAcquiring", DOWN];

/// The runtime's endpoint of every prediction, with two units and three bins.
pub struct Publisher {
    socket: zmq::Socket,
    pub endpoint: String,
    pub epoch: u64,
    pub sequence: u64,
    pub units: [&'static str; 2],
}

impl Publisher {
    pub fn bind() -> Self {
        let socket = zmq::Context::new().socket(zmq::PUB).unwrap();
        socket.bind("tcp://127.0.0.1:*").unwrap();
        Self {
            endpoint: socket.get_last_endpoint().unwrap().unwrap(),
            socket,
            epoch: 1,
            sequence: 0,
            units: ["a", "b"],
        }
    }

    pub fn hello(&self) {
        let hello = serde_json::json!({
            "schema": "neurohorizon.prediction", "epoch": self.epoch, "unit_ids": self.units, "horizon_bins": 3, "outputs": [],
        });
        self.socket.send_multipart(["hello", &hello.to_string()], 0).unwrap();
    }

    /// A prediction that expects so many spikes of the second unit in bin 1, published a while ago, and is judged before the next.
    pub fn predict(&mut self, expected: f32, flags: u32, age: Duration) {
        let header = MessageHeader {
            epoch: self.epoch,
            sequence: self.sequence,
            flags,
            publish_ns: monotonic_ns() - age.as_nanos() as i64,
            spikes_in: 1,
            ..MessageHeader::new(0, 3, 2)
        };
        self.sequence += 1;
        let array = [0.0, 0.0, 0.0, expected.ln(), 0.0, 0.0_f32];
        let (header, array): (&[u8], Vec<u8>) = (
            bytemuck::bytes_of(&header),
            array.iter().flat_map(|number| number.to_le_bytes()).collect(),
        );
        self.socket.send_multipart([b"prediction", header, &array], 0).unwrap();
        std::thread::sleep(SETTLE);
    }

    pub fn good(&mut self, expected: f32) {
        self.predict(expected, 0, Duration::ZERO);
    }
}

/// Network Events on a thread, with every request that it was sent.
pub struct Emulated {
    requests: Arc<Mutex<Vec<String>>>,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Gui>,
}

impl Emulated {
    pub fn start(endpoint: &str) -> Self {
        let (requests, stop) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let begun = Instant::now();
        let emulator = loop {
            // The port of an emulator that has just gone may still be taken.
            match NetworkEventsEmulator::bind(endpoint, Gui::new(true), Duration::ZERO) {
                Ok(emulator) => break emulator,
                Err(error) => assert!(begun.elapsed() < PATIENCE, "{error}"),
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        let (log, stopped) = (requests.clone(), stop.clone());
        let thread = std::thread::spawn(move || {
            let note = |request: &str, _: &str| log.lock().unwrap().push(request.to_string());
            emulator.serve(&stopped, note).unwrap()
        });
        Self { requests, stop, thread }
    }

    pub fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }

    pub fn wait_for(&self, count: usize) {
        let begun = Instant::now();
        while self.requests().len() < count {
            assert!(begun.elapsed() < PATIENCE, "{:?}", self.requests());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Ends it: every request, and the lines that are high.
    pub fn stop(self) -> (Vec<String>, Vec<u16>) {
        self.stop.store(true, Relaxed);
        let gui = self.thread.join().unwrap();
        let requests = self.requests.lock().unwrap().clone();
        (requests, gui.high_lines())
    }
}

/// The command, and what it says.
pub struct Triggering {
    child: Child,
    said: Arc<Mutex<Vec<String>>>,
    reader: JoinHandle<()>,
}

/// `trigger` for the second unit's bin 1, above 1 and released at 0.5, on line 3, patient but for what `flags` say.
pub fn trigger(predictions: &str, gui: &str, flags: &[&str]) -> Triggering {
    let mut command = Command::new(program());
    command
        .args([
            "trigger",
            "--unit",
            "b",
            "--bins",
            "1",
            "--above",
            "1",
            "--release",
            "0.5",
        ])
        .args(["--line", "3", "--predictions", predictions, "--gui", gui, "--json"])
        .args(["--max-age-ms", "4000", "--hold-ms", "0"])
        .args(flags);
    if !flags.contains(&"--silence-ms") {
        command.args(["--silence-ms", "30000"]);
    }
    if !flags.contains(&"--answer-timeout-ms") {
        command.args(["--answer-timeout-ms", "5000"]);
    }
    Triggering::start(&mut command)
}

impl Triggering {
    pub fn start(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let said = Arc::new(Mutex::new(Vec::new()));
        let (errors, log) = (BufReader::new(child.stderr.take().unwrap()), said.clone());
        let reader = std::thread::spawn(move || {
            for line in errors.lines() {
                log.lock().unwrap().push(line.unwrap());
            }
        });
        Self { child, said, reader }
    }

    /// Waits until it has said so, `count` times in all, with `meanwhile` again and again.
    pub fn wait_for(&self, what: &str, count: usize, mut meanwhile: impl FnMut()) {
        let begun = Instant::now();
        loop {
            let said = self.said.lock().unwrap().clone();
            if said.iter().filter(|line| line.contains(what)).count() >= count {
                return;
            }
            assert!(begun.elapsed() < PATIENCE, "{what:?} is not in {said:?}");
            meanwhile();
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Says `hello` until the trigger has heard it.
    pub fn meet(&self, publisher: &Publisher) {
        self.wait_for("the signal is there", 1, || publisher.hello());
    }

    /// Ends it with SIGTERM: its exit status and its summary.
    pub fn end(self) -> (Option<i32>, Value, String) {
        terminate(&self.child);
        self.result()
    }

    pub fn result(self) -> (Option<i32>, Value, String) {
        let output = self.child.wait_with_output().unwrap();
        self.reader.join().unwrap();
        let said = self.said.lock().unwrap().join("\n");
        let summary = serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {said}"));
        (output.status.code(), summary, said)
    }
}

pub fn terminate(child: &Child) {
    let sent = Command::new("kill").args(["-TERM", &child.id().to_string()]).status();
    assert!(sent.unwrap().success());
}

/// Network Events made by hand, which answers only when it is told to.
pub struct Handmade(zmq::Socket);

impl Handmade {
    pub fn bind(endpoint: &str) -> Self {
        let socket = zmq::Context::new().socket(zmq::ROUTER).unwrap();
        socket.set_rcvtimeo(PATIENCE.as_millis() as i32).unwrap();
        socket.bind(endpoint).unwrap();
        Self(socket)
    }

    /// Takes the next request, which must be this one; answers it where there is an answer.
    pub fn expect(&self, request: &str, answer: Option<&str>) {
        let parts = self.0.recv_multipart(0).unwrap();
        assert_eq!(String::from_utf8_lossy(&parts[2]), request);
        if let Some(answer) = answer {
            let answer = [&parts[0][..], b"", answer.as_bytes()];
            self.0.send_multipart(answer, 0).unwrap();
        }
    }

    pub fn contact(&self) {
        self.expect("IsAcquiring", Some("0"));
        self.expect(DOWN, Some("TTLHandled: Line=3 State=0"));
    }
}
