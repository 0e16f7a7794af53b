//! A TTL line that can be raised and lowered: that of the GUI, or lines of text.

use serde::Serialize;
use thiserror::Error;

use super::network_events::ttl_request;
use crate::pipeline::{Latency, LatencySummary};

/// A line that cannot be used.
#[derive(Debug, Error)]
pub enum LineError {
    /// The GUI did not take a request as it was meant.
    #[error(
        "{endpoint} answered {reply:?} to {request:?}: is this the plugin Network Events, in a version that knows \
         `Line=` and `State=`, and has it this line?"
    )]
    Refused {
        /// The GUI's endpoint.
        endpoint: String,
        /// What was asked.
        request: String,
        /// What was answered.
        reply: String,
    },
    /// The socket cannot be used.
    #[error("{endpoint} cannot be used: {problem}")]
    Socket {
        /// The GUI's endpoint.
        endpoint: String,
        /// What ZeroMQ says.
        problem: zmq::Error,
    },
}

/// What happened at the line's end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LineNews {
    /// The GUI is there and its line is low: it can be raised. Whether it acquires: otherwise it answers, and drops the TTL.
    Ready {
        /// Whether it acquires.
        acquiring: bool,
    },
    /// The GUI is not there any more or did not answer in time; what the line is now, nobody knows.
    Lost {
        /// The request that was not answered; `None`: one that could not be sent.
        unanswered: Option<String>,
    },
}

/// What became of the requests.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct LineReport {
    /// TTL requests sent.
    pub sent: u64,
    /// Of these, handled.
    pub handled: u64,
    /// Of these, not answered in time.
    pub unanswered: u64,
    /// Rises that could not be sent because the GUI had gone.
    pub not_sent: u64,
    /// Times that contact was lost and the socket made anew.
    pub contact_lost: u64,
    /// From a prediction's publication until the rise was sent.
    pub publish_to_sent: LatencySummary,
    /// From a prediction's publication until the GUI had handled the rise.
    pub publish_to_handled: LatencySummary,
}

/// A line. Nothing is queued: a rise is sent at once or never, and of falls only the newest wish counts.
pub trait TtlLine {
    /// Whether a rise would be sent at once: the line is known to be low, and nothing is unanswered.
    fn is_ready(&self) -> bool;

    /// Whether the GUI has confirmed where the line is since contact was last made.
    fn has_contact(&self) -> bool;

    /// Raises the line for a prediction that was published at `publish_ns`. Returns whether that was sent.
    fn raise(&mut self, publish_ns: i64, now_ns: i64) -> bool;

    /// Asks for the line to be lowered, as soon as that can be sent.
    fn lower(&mut self);

    /// Reads answers, watches the time, sends what waits, and connects again.
    ///
    /// # Errors
    /// A GUI that does not take the requests as they are meant.
    fn step(&mut self, now_ns: i64) -> Result<Option<LineNews>, LineError>;

    /// When [`TtlLine::step`] has something to do though nothing arrives.
    fn due_ns(&self) -> Option<i64>;

    /// To wait for the GUI with.
    fn poll_item(&self) -> Option<zmq::PollItem<'_>>;

    /// Does not wait for the next attempt to connect: the end has come.
    fn hurry(&mut self);

    /// Whether the line may be high: it was raised, and no fall has been confirmed since.
    fn may_be_high(&self) -> bool;

    /// What was counted so far.
    fn report(&self) -> LineReport;
}

/// No GUI: the requests are handed to whoever shows them, and count as handled.
pub struct DryRun<'a> {
    line: u16,
    show: Box<dyn FnMut(&str) + 'a>,
    started: bool,
    high: bool,
    sent: u64,
    latency: Latency,
}

impl<'a> DryRun<'a> {
    /// A line that is low.
    pub fn new(line: u16, show: impl FnMut(&str) + 'a) -> Self {
        Self {
            line,
            show: Box::new(show),
            started: false,
            high: false,
            sent: 0,
            latency: Latency::default(),
        }
    }

    fn set(&mut self, high: bool) {
        self.high = high;
        self.sent += 1;
        (self.show)(&ttl_request(self.line, high));
    }
}

impl TtlLine for DryRun<'_> {
    fn is_ready(&self) -> bool {
        self.started && !self.high
    }

    fn has_contact(&self) -> bool {
        self.started
    }

    fn raise(&mut self, publish_ns: i64, now_ns: i64) -> bool {
        self.latency.record(now_ns - publish_ns);
        self.set(true);
        true
    }

    fn lower(&mut self) {
        if self.high {
            self.set(false);
        }
    }

    fn step(&mut self, _now_ns: i64) -> Result<Option<LineNews>, LineError> {
        let first = !std::mem::replace(&mut self.started, true);
        Ok(first.then_some(LineNews::Ready { acquiring: true }))
    }

    fn due_ns(&self) -> Option<i64> {
        None
    }

    fn poll_item(&self) -> Option<zmq::PollItem<'_>> {
        None
    }

    fn hurry(&mut self) {}

    fn may_be_high(&self) -> bool {
        self.high
    }

    fn report(&self) -> LineReport {
        LineReport {
            sent: self.sent,
            handled: self.sent,
            unanswered: 0,
            not_sent: 0,
            contact_lost: 0,
            publish_to_sent: self.latency.summary(),
            publish_to_handled: self.latency.summary(),
        }
    }
}
