//! The machine's own floor: what waking up at an intended time costs here, and a message to another process and back, without
//! anything of the runtime. Figures of the runtime stand against it.

use std::io::{BufRead, BufReader, Write};
use std::time::Duration;

use neurohorizon::pipeline::clock::monotonic_ns;
use serde::{Deserialize, Serialize};

use super::child::{command, end_with_the_parent, Kept};
use super::quantiles::{trimmed, Quantiles};
use super::wake::{all_threads_first, sleep_until};

/// Roles of the processes.
pub const PING: &str = "rt-floor";
/// The other end.
pub const ECHO: &str = "rt-echo";
/// Bytes of a message: a header and 12 bins of 96 units.
const BYTES: usize = 112 + 4 * 12 * 96;
/// Times a second.
const RATE_HZ: i64 = 500;
/// Longest wait for an answer.
const PATIENCE_MS: i32 = 5_000;

/// What it costs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Floor {
    /// How much later than it asked for a thread goes on.
    pub timer: Quantiles,
    /// A message of a prediction's size to another process over ZeroMQ on loopback, and back.
    pub round_trip: Quantiles,
    /// Both: from the intended time to the answer. This is the floor that gates count in.
    pub both: Quantiles,
}

/// The floor of this machine for threads under FIFO or not, measured for so long.
///
/// # Errors
/// What did not work, in words.
pub fn measure(seconds: f64, fifo: bool) -> Result<Floor, String> {
    let problem = |error: &dyn std::fmt::Display| format!("the floor cannot be measured: {error}");
    let mut command = command(PING).map_err(|error| problem(&error))?;
    command.args([seconds.to_string(), fifo.to_string()]);
    let mut ping = Kept::spawn(&mut command).map_err(|error| problem(&error))?;
    let output = ping.child().stdout.take().map(super::child::read_all);
    let status = ping.wait(Duration::from_secs_f64(seconds + 30.0));
    let text = output.and_then(|output| output.join().ok()).unwrap_or_default();
    if !status.is_some_and(|status| status.success()) {
        return Err(problem(&format!("{status:?} {}", ping.errors().trim())));
    }
    serde_json::from_str(&text).map_err(|error| problem(&error))
}

/// The role that measures.
///
/// # Errors
/// What did not work, in words.
pub fn ping(arguments: &[String]) -> Result<(), String> {
    end_with_the_parent().map_err(|error| error.to_string())?;
    let [seconds, fifo] = arguments else {
        return Err("rt-floor SECONDS FIFO".into());
    };
    let seconds: f64 = seconds.parse().map_err(|_| format!("{seconds} s"))?;
    let fifo = fifo == "true";
    let mut command = command(ECHO).map_err(|error| error.to_string())?;
    command.arg(fifo.to_string());
    let mut echo = Kept::spawn(&mut command).map_err(|error| error.to_string())?;
    let mut endpoint = String::new();
    let said = echo.child().stdout.take().ok_or("no output")?;
    BufReader::new(said)
        .read_line(&mut endpoint)
        .map_err(|error| error.to_string())?;
    let times = ping_for(endpoint.trim(), seconds, fifo).map_err(|error| error.to_string())?;
    let of = |take: fn(&Turn) -> i64| {
        let numbered: Vec<(i64, i64)> = times.iter().zip(0..).map(|(time, id)| (id, take(time))).collect();
        Quantiles::of(trimmed(&numbered))
    };
    let floor = Floor {
        timer: of(|(intended, woke, _)| woke - intended),
        round_trip: of(|(_, woke, back)| back - woke),
        both: of(|(intended, _, back)| back - intended),
    };
    let json = serde_json::to_string(&floor).map_err(|error| error.to_string())?;
    writeln!(std::io::stdout(), "{json}").map_err(|error| error.to_string())
}

/// Intended time, time of waking, time of the answer, monotonic ns.
type Turn = (i64, i64, i64);

fn pair(timeout_ms: i32) -> Result<zmq::Socket, zmq::Error> {
    let socket = zmq::Context::new().socket(zmq::PAIR)?;
    socket.set_rcvtimeo(timeout_ms)?;
    socket.set_linger(0)?;
    Ok(socket)
}

fn ping_for(endpoint: &str, seconds: f64, fifo: bool) -> Result<Vec<Turn>, Box<dyn std::error::Error>> {
    let socket = pair(PATIENCE_MS)?;
    socket.connect(endpoint)?;
    let mut message = zmq::Message::from(vec![0u8; BYTES]);
    // The connection stands when the first answer comes.
    socket.send(vec![0u8; BYTES], 0)?;
    socket.recv(&mut message, 0)?;
    all_threads_first(fifo)?;
    let period_ns = 1_000_000_000 / RATE_HZ;
    let count = (seconds * RATE_HZ as f64) as i64;
    let begin_ns = monotonic_ns() + period_ns;
    let mut times = Vec::with_capacity(count as usize);
    for number in 0..count {
        let intended = begin_ns + number * period_ns;
        sleep_until(intended);
        let woke = monotonic_ns();
        socket.send(std::mem::replace(&mut message, zmq::Message::new()), 0)?;
        socket.recv(&mut message, 0)?;
        times.push((intended, woke, monotonic_ns()));
    }
    Ok(times)
}

/// The role that answers, until nobody has asked for a while.
///
/// # Errors
/// What did not work, in words.
pub fn echo(arguments: &[String]) -> Result<(), String> {
    end_with_the_parent().map_err(|error| error.to_string())?;
    let fifo = arguments.first().is_some_and(|fifo| fifo == "true");
    let answer = || -> Result<(), Box<dyn std::error::Error>> {
        let socket = pair(PATIENCE_MS)?;
        socket.bind("tcp://127.0.0.1:*")?;
        let endpoint = socket.get_last_endpoint()?.unwrap_or_default();
        writeln!(std::io::stdout(), "{endpoint}")?;
        all_threads_first(fifo)?;
        let mut message = zmq::Message::new();
        while socket.recv(&mut message, 0).is_ok() {
            socket.send(std::mem::replace(&mut message, zmq::Message::new()), 0)?;
        }
        Ok(())
    };
    answer().map_err(|error| error.to_string())
}
