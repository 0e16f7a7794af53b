//! A subscriber of predictions in a process of its own, as a stimulator's would be: it stamps what comes, and writes it to the suite.

use std::io::{BufReader, Read, Write};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use neurohorizon::pipeline::clock::monotonic_ns;
use neurohorizon::pipeline::message::{MessageHeader, HEADER_LEN, PREDICTION_TOPIC};

use super::child::{command, end_with_the_parent, Kept};
use super::record::{Received, LENGTH};
use super::wake::all_threads_first;

/// The role.
pub const ROLE: &str = "rt-subscriber";
/// Between two looks at whether the suite wants an end.
const LOOK_MS: i32 = 200;
/// Between two messages of a slow subscriber.
const SLOW: Duration = Duration::from_millis(50);

/// A subscriber's process, and what it has had so far.
pub struct Subscriber {
    /// The process.
    pub process: Kept,
    received: Arc<Mutex<Vec<Received>>>,
    reader: Option<JoinHandle<Result<(), String>>>,
}

impl Subscriber {
    /// Starts one.
    ///
    /// # Errors
    /// What did not work, in words.
    pub fn start(endpoint: &str, fifo: bool, slow: bool) -> Result<Self, String> {
        let problem = |error: std::io::Error| format!("a subscriber cannot be started: {error}");
        let mut command = command(ROLE).map_err(problem)?;
        command.args([endpoint, &fifo.to_string(), &slow.to_string()]);
        let mut process = Kept::spawn(&mut command).map_err(problem)?;
        let received = Arc::<Mutex<Vec<Received>>>::default();
        let reader = process.child().stdout.take().map(|output| {
            let received = received.clone();
            std::thread::spawn(move || {
                let mut output = BufReader::with_capacity(1 << 16, output);
                let mut bytes = [0; LENGTH];
                while output.read_exact(&mut bytes).is_ok() {
                    let one = Received::from_bytes(&bytes)?;
                    received.lock().unwrap_or_else(|held| held.into_inner()).push(one);
                }
                Ok(())
            })
        });
        Ok(Self {
            process,
            received,
            reader,
        })
    }

    /// How many predictions it has had.
    pub fn count(&self) -> usize {
        self.received.lock().unwrap_or_else(|held| held.into_inner()).len()
    }

    /// What it has had so far.
    pub fn so_far(&self) -> Vec<Received> {
        self.received.lock().unwrap_or_else(|held| held.into_inner()).clone()
    }

    /// Lets it take what is left, and end.
    ///
    /// # Errors
    /// What it could not do, in words.
    pub fn finish(mut self) -> Result<Vec<Received>, String> {
        drop(self.process.child().stdin.take());
        let status = self.process.wait(Duration::from_secs(20));
        if let Some(reader) = self.reader.take() {
            reader.join().map_err(|_| "the reader of a subscriber panicked")??;
        }
        match status {
            Some(status) if status.success() => Ok(self.so_far()),
            other => Err(format!(
                "a subscriber ended with {other:?}: {}",
                self.process.errors().trim()
            )),
        }
    }
}

/// The role: `ENDPOINT FIFO SLOW`. Ends when its input does and nothing comes any more.
///
/// # Errors
/// What did not work, in words.
pub fn run(arguments: &[String]) -> Result<(), String> {
    end_with_the_parent().map_err(|error| error.to_string())?;
    let [endpoint, fifo, slow] = arguments else {
        return Err("rt-subscriber ENDPOINT FIFO SLOW".into());
    };
    receive(endpoint, fifo == "true", slow == "true").map_err(|error| error.to_string())
}

fn receive(endpoint: &str, fifo: bool, slow: bool) -> Result<(), Box<dyn std::error::Error>> {
    let socket = zmq::Context::new().socket(zmq::SUB)?;
    socket.set_rcvtimeo(LOOK_MS)?;
    // All of a run, so that what is lost was lost before it came here; a slow one keeps what is usual.
    socket.set_rcvhwm(if slow { 1_000 } else { 0 })?;
    socket.connect(endpoint)?;
    socket.set_subscribe(PREDICTION_TOPIC.as_bytes())?;
    all_threads_first(fifo)?;
    // Writing is left to a thread like any other: the suite may be slow to read.
    let (sender, receiver) = channel::<Received>();
    let writer = std::thread::spawn(move || -> std::io::Result<()> {
        let mut output = std::io::stdout().lock();
        for one in receiver {
            output.write_all(&one.to_bytes())?;
            output.flush()?;
        }
        Ok(())
    });
    let ends = Arc::new(std::sync::atomic::AtomicBool::new(false));
    std::thread::spawn({
        let ends = ends.clone();
        move || {
            let mut nothing = Vec::new();
            let _ = std::io::stdin().read_to_end(&mut nothing);
            ends.store(true, std::sync::atomic::Ordering::Relaxed);
        }
    });
    let mut parts = [zmq::Message::new(), zmq::Message::new(), zmq::Message::new()];
    loop {
        match socket.recv(&mut parts[0], 0) {
            Ok(()) => {}
            Err(zmq::Error::EAGAIN) if ends.load(std::sync::atomic::Ordering::Relaxed) => break,
            Err(zmq::Error::EAGAIN | zmq::Error::EINTR) => continue,
            Err(error) => return Err(error.into()),
        }
        let at_ns = monotonic_ns();
        socket.recv(&mut parts[1], 0)?;
        socket.recv(&mut parts[2], 0)?;
        let header = MessageHeader::read(&parts[1])?;
        let numbers = parts[2]
            .chunks_exact(4)
            .map(|four| f32::from_le_bytes([four[0], four[1], four[2], four[3]]));
        let array_is_sound = parts[1].len() == HEADER_LEN
            && parts[2].len() == 4 * header.bins as usize * header.units as usize
            && numbers.fold(true, |sound, number| sound & number.is_finite());
        sender.send(Received {
            header,
            at_ns,
            array_is_sound,
        })?;
        if slow {
            std::thread::sleep(SLOW);
        }
    }
    drop(sender);
    writer.join().map_err(|_| "the writer panicked")??;
    Ok(())
}
