//! The subscriber that moves the cursor: what a program beside the runtime does with what it decodes.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::Arc;
use std::thread::JoinHandle;

use crate::acquire::simulate::closed_loop::{Cursor, ReachPort};
use crate::pipeline::clock::monotonic_ns;
use crate::pipeline::message::{flags, MessageHeader, HEADER_LEN};
use crate::pipeline::{Latency, LatencySummary};

/// Messages that may wait for this subscriber.
const HIGH_WATER_MARK: i32 = 10_000;
/// How long it waits for a message before it looks whether the run is over, ms.
const PATIENCE_MS: i32 = 50;

/// A decoder that takes turns.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Control {
    /// What it is called.
    pub name: String,
    /// Where its velocities are published; none of the ideal one, whose velocity is what is intended.
    pub topic: Option<String>,
    /// The row of its array that is the present.
    pub row: usize,
}

/// What the subscriber saw.
#[derive(Debug, Clone)]
pub(super) struct Followed {
    /// Bins that it received.
    pub bins: u64,
    /// Of each decoder, while it was in charge: how many arrays stood in for another.
    pub stand_ins: Vec<u64>,
    /// Of each decoder, while it was in charge: from the end of a bin to the cursor's move.
    pub latency: Vec<LatencySummary>,
    /// The same over all but the ideal one.
    pub all: LatencySummary,
}

/// Starts the thread; it ends once `over` is set and nothing is left to receive.
///
/// # Errors
/// Where ZeroMQ cannot connect.
pub(super) fn follow(
    endpoint: &str,
    port: Arc<ReachPort>,
    controls: Vec<Control>,
    bin_ns: i64,
    over: Arc<AtomicBool>,
) -> Result<JoinHandle<Result<Followed, String>>, zmq::Error> {
    let socket = zmq::Context::new().socket(zmq::SUB)?;
    socket.set_rcvhwm(HIGH_WATER_MARK)?;
    socket.set_rcvtimeo(PATIENCE_MS)?;
    socket.set_linger(0)?;
    for topic in controls.iter().filter_map(|control| control.topic.as_ref()) {
        socket.set_subscribe(topic.as_bytes())?;
    }
    socket.connect(endpoint)?;
    let mut follower = Follower::new(port, controls, bin_ns);
    Ok(std::thread::spawn(move || {
        let (mut topic, mut rest) = (zmq::Message::new(), [zmq::Message::new(), zmq::Message::new()]);
        loop {
            match socket.recv(&mut topic, 0) {
                Ok(()) => {}
                Err(zmq::Error::EAGAIN) if over.load(Relaxed) => break,
                Err(zmq::Error::EAGAIN | zmq::Error::EINTR) => continue,
                Err(problem) => return Err(problem.to_string()),
            }
            // The parts of a message come together.
            for part in &mut rest {
                socket.recv(part, 0).map_err(|problem| problem.to_string())?;
            }
            follower.take(&topic, &rest[0], &rest[1])?;
        }
        Ok(follower.finish())
    }))
}

struct Follower {
    port: Arc<ReachPort>,
    controls: Vec<Control>,
    bin_ns: i64,
    cursor: Cursor,
    /// The topic that says that a bin is there: the first of all.
    beat: String,
    bins: u64,
    stand_ins: Vec<u64>,
    latency: Vec<Latency>,
    all: Latency,
}

impl Follower {
    fn new(port: Arc<ReachPort>, controls: Vec<Control>, bin_ns: i64) -> Self {
        let beat = controls.iter().find_map(|control| control.topic.clone());
        Follower {
            beat: beat.unwrap_or_default(),
            stand_ins: vec![0; controls.len()],
            latency: controls.iter().map(|_| Latency::default()).collect(),
            all: Latency::default(),
            cursor: Cursor::default(),
            bins: 0,
            port,
            controls,
            bin_ns,
        }
    }

    /// Takes a message in. Only that of the decoder in charge moves the cursor; under the ideal one any bin does.
    fn take(&mut self, topic: &[u8], header: &[u8], array: &[u8]) -> Result<(), String> {
        let header = MessageHeader::read(header)?;
        let beats = topic == self.beat.as_bytes();
        if beats {
            self.bins += 1;
        }
        let Some(planned) = self.port.plan().get(self.port.state().trial) else {
            return Ok(());
        };
        let control = &self.controls[planned.decoder];
        let (velocity, decoded) = match &control.topic {
            None if beats => (self.port.intended_m_s(), false),
            Some(own) if own.as_bytes() == topic => (present(&header, array, control.row)?, true),
            _ => return Ok(()),
        };
        if !self
            .cursor
            .advance(&self.port, header.bin_end_ns, self.bin_ns, velocity)
        {
            return Ok(());
        }
        let took_ns = monotonic_ns() - self.port.host_ns(header.bin_end_ns);
        self.latency[planned.decoder].record(took_ns);
        if decoded {
            self.all.record(took_ns);
            let stands_in = header.flags & (flags::HELD | flags::NEUTRAL) != 0;
            self.stand_ins[planned.decoder] += u64::from(stands_in);
        }
        Ok(())
    }

    fn finish(self) -> Followed {
        Followed {
            bins: self.bins,
            stand_ins: self.stand_ins,
            latency: self.latency.iter().map(Latency::summary).collect(),
            all: self.all.summary(),
        }
    }
}

/// A row of two channels.
fn present(header: &MessageHeader, array: &[u8], row: usize) -> Result<[f32; 2], String> {
    let cols = header.units as usize;
    let at = |col: usize| {
        let from = 4 * (row * cols + col);
        let bytes = array.get(from..from + 4).and_then(|four| four.try_into().ok());
        bytes.map(f32::from_le_bytes)
    };
    match (at(0), at(1)) {
        (Some(x), Some(y)) if cols == 2 => Ok([x, y]),
        _ => Err(format!(
            "an array of {} bytes after a header of {HEADER_LEN} has no row {row} of two channels",
            array.len()
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_row_of_the_present_is_read_and_nothing_beyond_the_array() {
        let header = MessageHeader::new(0, 3, 2);
        let array: Vec<u8> = (0..6).flat_map(|x| (x as f32).to_le_bytes()).collect();
        assert_eq!(present(&header, &array, 1), Ok([2.0, 3.0]));
        assert!(present(&header, &array, 3).is_err());
        assert!(present(&MessageHeader::new(0, 2, 3), &array, 0).is_err());
    }
}
