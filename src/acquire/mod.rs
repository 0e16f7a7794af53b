//! Sources of spikes, one file or folder a system, each behind the trait [`Source`].
//!
//! A source runs on a thread of its own and pushes [`SpikeEvent`]s into a ring. Time is the *device clock*: nanoseconds
//! in the source's own time. Clock markers travel in the same stream as the spikes, so that a bin can close without a
//! spike: silence is data. What else is recorded (behaviour, what was shown) goes as samples of named [`SampledSeries`]
//! through a ring beside the spikes'.

pub mod blackrock;
pub mod bridge;
pub mod host_time;
pub mod intan;
pub mod open_ephys;
pub mod pace;
pub mod replay;
pub mod simulate;
pub mod simulated;
pub mod wire;

use std::sync::Arc;

use bytemuck::{Pod, Zeroable};
use thiserror::Error;

use self::wire::{SpareUnits, WireCounters};

/// One event of a source, 16 bytes, little-endian where it is stored: a spike, or a marker (see the flags).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct SpikeEvent {
    /// Device time in ns; for [`SpikeEvent::HOST_TIME`] the host's monotonic time in ns.
    pub time_ns: i64,
    /// Index into the source's [`Source::unit_ids`]; 0 in markers.
    pub unit: u32,
    /// 0 for a spike, or one of the marker flags.
    pub flags: u32,
}

impl SpikeEvent {
    /// Marker: the device clock has reached `time_ns`, and nothing earlier will come.
    pub const CLOCK: u32 = 1;
    /// Marker: `time_ns` is the host's monotonic time at which the events after it were taken in.
    pub const HOST_TIME: u32 = 2;

    /// A spike of `unit` at device time `time_ns`.
    pub fn spike(time_ns: i64, unit: u32) -> Self {
        Self {
            time_ns,
            unit,
            flags: 0,
        }
    }

    /// A marker: "the device clock has reached `time_ns`".
    pub fn clock(time_ns: i64) -> Self {
        Self {
            time_ns,
            unit: 0,
            flags: Self::CLOCK,
        }
    }

    /// A marker: "what follows was taken in at host time `time_ns`".
    pub fn host_time(time_ns: i64) -> Self {
        Self {
            time_ns,
            unit: 0,
            flags: Self::HOST_TIME,
        }
    }

    /// Whether this is a spike and not a marker.
    pub fn is_spike(&self) -> bool {
        self.flags & (Self::CLOCK | Self::HOST_TIME) == 0
    }
}

/// How a source's device clock runs against the host's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// Device nanoseconds a host nanosecond: 1 for a device, another positive number for a replay at another speed.
    /// Each bin has a deadline, and a full ring refuses the newest events.
    Clocked(f64),
    /// As fast as what follows can take it: no deadline, and the source waits where a ring is full.
    AsFast,
}

/// A series of samples that a source delivers beside the spikes: behaviour, or embeddings of what was shown.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SampledSeries {
    /// What is measured, such as `hand_vel`: a network finds its modalities by this name.
    pub name: String,
    /// The values' unit, such as `m/s`; may be empty.
    pub unit: String,
    /// Values a sample, at least 1.
    pub channels: usize,
}

/// Where a source puts its events: the rings of the pipeline, or a vector in a test.
pub trait EventSink {
    /// Takes spikes, in the source's order. What does not fit is refused and counted, or waited for ([`Pace::AsFast`]).
    fn spikes(&mut self, spikes: &[SpikeEvent]);

    /// Takes a sample of series `series`, an index into the source's [`Source::series`], at device time `time_ns`;
    /// `values` `[channels]` in the unit of the series, NaN where there is none. Before the clock marker that passes it.
    /// What does not fit is refused whole and counted, or waited for ([`Pace::AsFast`]).
    fn sample(&mut self, series: usize, time_ns: i64, values: &[f32]);

    /// Says that the device clock has reached `device_ns`, seen at host time `host_ns`.
    ///
    /// A marker that does not fit is left out: the next one says the same and more.
    fn clock(&mut self, device_ns: i64, host_ns: i64);
}

/// What a [`Source::poll`] asks for next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Poll {
    /// Call again at once.
    Again,
    /// Nothing is due before this host time (monotonic ns).
    WaitUntil(i64),
    /// The source has ended; its last clock marker has been pushed.
    Finished,
}

/// A failure of a source.
#[derive(Debug, Error)]
pub enum SourceError {
    /// What a source was made from cannot be used.
    #[error("source {name}: {problem}")]
    Invalid {
        /// The source's name.
        name: String,
        /// What is wrong, and where.
        problem: String,
    },
    /// The source failed while it ran.
    #[error("source {name} failed: {problem}")]
    Failed {
        /// The source's name.
        name: String,
        /// What happened.
        problem: String,
    },
}

/// The way back to a device: predictions that go where its spikes came from.
pub trait WayBack: Send {
    /// Sends a prediction, the concatenation of its header and its array, without waiting. False where it does not fit or
    /// nobody is there: it is then gone.
    fn send(&mut self, header: &[u8], array: &[u8]) -> bool;
}

/// A system that spikes come from.
pub trait Source: Send {
    /// A short name for messages and statistics.
    fn name(&self) -> &str;

    /// The ids of the units that events number; fixed for the run.
    fn unit_ids(&self) -> &[String];

    /// The series that samples number; fixed for the run.
    fn series(&self) -> &[SampledSeries] {
        &[]
    }

    /// How the device clock runs.
    fn pace(&self) -> Pace;

    /// Device time, in ns, of the first instant that this source reports.
    fn start_ns(&self) -> i64;

    /// Device time, in ns, of the source's end, where it is known beforehand.
    fn end_ns(&self) -> Option<i64>;

    /// What became of what a device sent, readable while the source runs; none where there is no device.
    fn wire_counters(&self) -> Option<Arc<WireCounters>> {
        None
    }

    /// The places for units that nobody listed, readable while the source runs; none where there are none.
    fn spare_units(&self) -> Option<Arc<SpareUnits>> {
        None
    }

    /// The way back to the device, once; none where there is none.
    fn way_back(&mut self) -> Option<Box<dyn WayBack>> {
        None
    }

    /// Other sources run beside this one: a device's time then has to follow the host's, slowly, or they would drift apart.
    fn share_time(&mut self) {}

    /// Starts the clock: device time `start_ns` is host time `host_ns`.
    fn start(&mut self, host_ns: i64);

    /// Pushes what is due at host time `now_ns`. Never blocks for longer than a bounded piece of work.
    ///
    /// # Errors
    /// [`SourceError::Failed`] ends the source; the run then stops and says so.
    fn poll(&mut self, now_ns: i64, sink: &mut dyn EventSink) -> Result<Poll, SourceError>;
}
