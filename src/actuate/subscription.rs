//! The subscriber: every prediction of one topic, read to the newest, with what was missed counted.

use serde::Serialize;

use super::rule::Reading;
use super::signal::{Hello, Place, Signal, SignalError};
use crate::pipeline::message::HELLO_TOPIC;

/// Messages that may wait here, so that a trigger that was stopped for a while does not make the runtime lose any.
const HIGH_WATER_MARK: i32 = 10_000;
/// Longest message that is taken, bytes; a connection that sends a longer one is given up and made anew.
const LONGEST_MESSAGE: i64 = 64 << 20;
/// Messages that are read in one go, so that a flood of them does not keep the line from falling.
const BATCH: usize = 10_000;

/// What became of the messages that were received.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SubscriptionCounts {
    /// Messages of the topic.
    pub seen: u64,
    /// Messages that never came, by gaps in the sequence.
    pub missed: u64,
    /// Messages that waited behind a newer one, and were not judged.
    pub superseded: u64,
    /// Messages that came after a later one, or twice.
    pub out_of_order: u64,
    /// Messages that cannot be read.
    pub malformed: u64,
    /// Messages of a runtime whose `hello` had not come yet.
    pub undescribed: u64,
    /// Starts of the runtime after the first.
    pub restarts: u64,
}

/// What a look at the socket brought.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Batch {
    /// The newest prediction.
    pub newest: Option<Reading>,
    /// The runtime was started anew since the last look.
    pub restarted: bool,
    /// A `hello` told where the signal is: the rule can judge from here on.
    pub found: bool,
    /// The first message that could not be read, and why.
    pub complaint: Option<String>,
}

/// What is known of the publisher, without the socket.
#[derive(Debug)]
pub struct Follower {
    signal: Signal,
    place: Option<(u64, Place)>,
    epoch: Option<u64>,
    next_sequence: u64,
    complained: bool,
    counts: SubscriptionCounts,
}

impl Follower {
    /// Nothing is known yet.
    pub fn new(signal: Signal) -> Self {
        Self {
            signal,
            place: None,
            epoch: None,
            next_sequence: 0,
            complained: false,
            counts: SubscriptionCounts::default(),
        }
    }

    /// What was counted so far.
    pub fn counts(&self) -> SubscriptionCounts {
        self.counts
    }

    /// Takes a message in, whatever its bytes are.
    ///
    /// # Errors
    /// Where a `hello` says that the signal is not published.
    pub fn take(&mut self, parts: &[Vec<u8>], batch: &mut Batch) -> Result<(), SignalError> {
        match parts {
            [topic, json] if topic == HELLO_TOPIC.as_bytes() => match Hello::read(json) {
                Some(hello) => self.take_hello(&hello, batch)?,
                None => self.complain("a hello is not the JSON that is expected".into(), batch),
            },
            [topic, header, array] if topic == self.signal.topic().as_bytes() => {
                self.counts.seen += 1;
                self.take_prediction(header, array, batch);
            }
            // A subscription is to a prefix: other topics may begin with it.
            [topic, ..] if topic != HELLO_TOPIC.as_bytes() && topic != self.signal.topic().as_bytes() => {}
            _ => self.complain(format!("a message has {} frames", parts.len()), batch),
        }
        Ok(())
    }

    fn complain(&mut self, what: String, batch: &mut Batch) {
        self.counts.malformed += 1;
        if !std::mem::replace(&mut self.complained, true) {
            batch.complaint = Some(what);
        }
    }

    fn take_hello(&mut self, hello: &Hello, batch: &mut Batch) -> Result<(), SignalError> {
        self.meet(hello.epoch, batch);
        if self.place.as_ref().is_none_or(|(epoch, _)| *epoch != hello.epoch) {
            self.place = Some((hello.epoch, self.signal.place(hello)?));
            batch.found = true;
        }
        Ok(())
    }

    /// Notices another start of the runtime.
    fn meet(&mut self, epoch: u64, batch: &mut Batch) {
        let before = self.epoch.replace(epoch);
        if before == Some(epoch) {
            return;
        }
        self.next_sequence = 0;
        if before.is_some() {
            self.counts.restarts += 1;
            batch.restarted = true;
            // What came before is of another runtime.
            batch.newest = None;
        }
    }

    fn take_prediction(&mut self, header: &[u8], array: &[u8], batch: &mut Batch) {
        let Some((described, place)) = &self.place else {
            self.counts.undescribed += 1;
            return;
        };
        let described = *described;
        let (head, value) = match place.read(header, array) {
            Ok(read) => read,
            Err(problem) => return self.complain(problem, batch),
        };
        let first = self.next_sequence == 0;
        self.meet(head.epoch, batch);
        if head.epoch != described {
            self.counts.undescribed += 1;
            return;
        }
        if head.sequence < self.next_sequence {
            self.counts.out_of_order += 1;
            return;
        }
        if !first {
            self.counts.missed = self.counts.missed.saturating_add(head.sequence - self.next_sequence);
        }
        self.next_sequence = head.sequence.saturating_add(1);
        let reading = Reading {
            value,
            flags: head.flags,
            publish_ns: head.publish_ns,
            spikes_in: head.spikes_in,
        };
        if let Some(older) = batch.newest.replace(reading) {
            self.counts.superseded += 1;
            if let Some(newest) = &mut batch.newest {
                newest.spikes_in = newest.spikes_in.saturating_add(older.spikes_in);
            }
        }
    }
}

/// A subscription to the runtime's endpoint of every prediction.
pub struct Subscription {
    socket: zmq::Socket,
    follower: Follower,
}

impl Subscription {
    /// Connects; the runtime need not be there yet.
    ///
    /// # Errors
    /// An endpoint that cannot be connected to.
    pub fn connect(context: &zmq::Context, endpoint: &str, signal: Signal) -> Result<Self, zmq::Error> {
        let socket = context.socket(zmq::SUB)?;
        socket.set_rcvhwm(HIGH_WATER_MARK)?;
        socket.set_maxmsgsize(LONGEST_MESSAGE)?;
        socket.set_linger(0)?;
        socket.set_subscribe(HELLO_TOPIC.as_bytes())?;
        socket.set_subscribe(signal.topic().as_bytes())?;
        socket.connect(endpoint)?;
        let follower = Follower::new(signal);
        Ok(Self { socket, follower })
    }

    /// What was counted so far.
    pub fn counts(&self) -> SubscriptionCounts {
        self.follower.counts()
    }

    /// To wait for the next message with.
    pub fn poll_item(&self) -> zmq::PollItem<'_> {
        self.socket.as_poll_item(zmq::POLLIN)
    }

    /// Reads what has come.
    ///
    /// # Errors
    /// A signal that the runtime does not publish, or a socket that fails.
    pub fn read(&mut self) -> Result<Batch, ReadError> {
        let mut batch = Batch::default();
        for _ in 0..BATCH {
            match self.socket.recv_multipart(zmq::DONTWAIT) {
                Ok(parts) => self.follower.take(&parts, &mut batch)?,
                Err(zmq::Error::EAGAIN) => break,
                Err(zmq::Error::EINTR) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(batch)
    }
}

/// A subscription that cannot go on.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The signal is not published.
    #[error(transparent)]
    Signal(#[from] SignalError),
    /// The socket failed.
    #[error("predictions cannot be received: {0}")]
    Socket(#[from] zmq::Error),
}
