//! Receive buffers, and what a message through ZeroMQ takes.

use std::time::{Duration, Instant};

use super::finding::{Files, Finding};
use super::MEASURED_ON;
use crate::acquire::wire::RECEIVE_BUFFER;
use crate::pipeline::{Latency, LatencySummary};

const RMEM: &str = "/proc/sys/net/core/rmem_max";
/// Bytes of a message, and for how long messages go to and fro.
const MESSAGE: usize = 256;
const MEASURE: Duration = Duration::from_millis(500);
/// Longest wait for one, ms.
const PATIENCE_MS: i32 = 1_000;
/// A round trip that takes longer than this once in a hundred, µs, is part of every closed loop's latency.
const SLOW_US: f64 = 2_000.0;

/// How much may wait for a source that listens to datagrams.
pub fn receive_buffer(files: &Files) -> Finding {
    const NAME: &str = "receive buffers";
    let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
    let wanted = RECEIVE_BUFFER as u64;
    let Some(most) = files.read(RMEM).and_then(|text| text.parse::<u64>().ok()) else {
        return Finding::unknown(NAME, RMEM);
    };
    let now = format!("{:.1} MiB at most; sources ask for {:.0} MiB", mib(most), mib(wanted));
    if most >= wanted {
        return Finding::good(NAME, now);
    }
    if sys::may_exceed() {
        return Finding::good(NAME, format!("{now} and get them: this user has CAP_NET_ADMIN"));
    }
    Finding::change(NAME, now)
        .by(format!("`sysctl -w net.core.rmem_max={wanted}`"))
        .worth(format!(
            "datagrams that come while a source waits for its core are kept {:.0} times as long before they are lost",
            wanted as f64 / most.max(1) as f64
        ))
}

/// What a message to a subscriber and back takes on this machine.
pub fn round_trip() -> Finding {
    const NAME: &str = "ZeroMQ round trip";
    let measured = match measure() {
        Ok(measured) => measured,
        Err(error) => {
            return Finding::change(NAME, format!("cannot be measured on tcp://127.0.0.1: {error}"))
                .by("let programs open sockets on the loopback interface")
        }
    };
    let now = format!(
        "{MESSAGE} B over tcp://127.0.0.1, p50 / p99 {:.0} / {:.0} µs",
        measured.p50_us, measured.p99_us
    );
    if measured.p99_us > SLOW_US {
        return Finding::note(NAME, now)
            .by("fewer busy programs beside it, or `run --realtime`, which gives ZeroMQ's threads a priority")
            .worth(format!("one way over tcp took 41 / 379 µs (p50 / p99); {MEASURED_ON}"));
    }
    Finding::good(NAME, now)
}

fn measure() -> Result<LatencySummary, zmq::Error> {
    let context = zmq::Context::new();
    let socket = |kind| {
        let socket = context.socket(kind)?;
        socket.set_linger(0)?;
        socket.set_rcvtimeo(PATIENCE_MS)?;
        Ok::<_, zmq::Error>(socket)
    };
    let (ask, answer) = (socket(zmq::REQ)?, socket(zmq::REP)?);
    answer.bind("tcp://127.0.0.1:*")?;
    let address = answer.get_last_endpoint()?.unwrap_or_default();
    ask.connect(&address)?;
    let echo = std::thread::spawn(move || {
        // An empty message is the last.
        while let Ok(message) = answer.recv_bytes(0) {
            if answer.send(&message, 0).is_err() || message.is_empty() {
                break;
            }
        }
    });
    let mut latency = Latency::default();
    let begun = Instant::now();
    let outcome = loop {
        let sent = Instant::now();
        let came = ask.send(&[7; MESSAGE][..], 0).and_then(|()| ask.recv_bytes(0));
        if let Err(error) = came {
            break Err(error);
        }
        latency.record(sent.elapsed().as_nanos() as i64);
        if begun.elapsed() > MEASURE {
            break Ok(());
        }
    };
    if outcome.is_ok() {
        ask.send(&[][..], 0)?;
    }
    // It ends at the empty message, or when nothing comes for as long as it waits.
    let _ = echo.join();
    outcome.map(|()| latency.summary())
}

#[cfg(target_os = "linux")]
mod sys {
    use rustix::thread::{capabilities, CapabilitySet};

    pub fn may_exceed() -> bool {
        capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::NET_ADMIN))
    }
}

#[cfg(not(target_os = "linux"))]
mod sys {
    pub fn may_exceed() -> bool {
        false
    }
}

#[cfg(test)]
mod tests {
    use super::super::finding::machine;
    use super::super::Verdict;
    use super::*;

    #[test]
    fn a_small_receive_buffer_is_to_be_changed_unless_sources_may_exceed_it() {
        let (_folder, small) = machine(&[(RMEM, "212992\n")]);
        let found = receive_buffer(&small);
        let good = found.verdict == Verdict::Good;
        assert_eq!(good, sys::may_exceed(), "{found}");
        assert!(
            found.now.starts_with("0.2 MiB at most; sources ask for 16 MiB"),
            "{found}"
        );
        let (_folder, large) = machine(&[(RMEM, "16777216\n")]);
        assert_eq!(receive_buffer(&large).verdict, Verdict::Good);
    }

    #[test]
    fn messages_go_to_and_fro() {
        let measured = measure().unwrap();
        assert!(measured.count > 10 && measured.p50_us > 1.0, "{measured:?}");
    }
}
