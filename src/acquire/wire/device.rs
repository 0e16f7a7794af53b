//! A device as a source: what the sources of all acquisition systems have in common.

use std::sync::Arc;

use super::super::host_time::{monotonic_ns, HostClock};
use super::super::{EventSink, Pace, Poll, SampledSeries, Source, SourceError, SpikeEvent, WayBack};
use super::collect::Collector;
use super::{SpareUnits, WireCounters};

/// Pieces that may have waited for a run.
const MOST_BEFORE: usize = 1 << 20;

/// Takes events that are of no run.
struct Nowhere;

impl EventSink for Nowhere {
    fn spikes(&mut self, _: &[SpikeEvent]) {}

    fn sample(&mut self, _: usize, _: i64, _: &[f32]) {}

    fn clock(&mut self, _: i64, _: i64) {}
}

/// What [`DeviceLink::take`] came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// A piece of what the device has sent, or news of the connection.
    Something,
    /// Nothing for now.
    Nothing,
}

/// Longest time that one poll takes pieces for, ns: what takes long to read must not keep the clock, and with it the bins of
/// others, from going on.
const LONGEST_POLL_NS: i64 = 2_000_000;

/// The way to a device: reads what it sends, and knows how it is written.
pub trait DeviceLink: Send {
    /// Pieces taken in one poll before the source's thread looks at the run again.
    const PIECES: usize;

    /// The series that its samples number.
    fn series(&self) -> &[SampledSeries] {
        &[]
    }

    /// The way back to the device, once; none where there is none.
    fn way_back(&mut self) -> Option<Box<dyn WayBack>> {
        None
    }

    /// What is to be done once a poll, before anything is taken.
    fn begin_poll(&mut self, _now_ns: i64, _collector: &mut Collector) {}

    /// Takes one piece of what the device has sent, without waiting. What it received came by the time that `clock` then shows.
    ///
    /// # Errors
    /// What ends the source, in words. A device that goes is no error.
    fn take(&mut self, clock: HostClock, collector: &mut Collector, sink: &mut dyn EventSink) -> Result<Taken, String>;

    /// Waits until there is something to take, for [`super::WAIT_NS`] or so at the longest.
    ///
    /// # Errors
    /// As [`DeviceLink::take`].
    fn wait(&mut self) -> Result<(), String>;
}

/// A source of what a device sends.
#[derive(Debug)]
pub struct Device<L> {
    name: String,
    pub(in crate::acquire) link: L,
    pub(super) collector: Collector,
}

impl<L: DeviceLink> Device<L> {
    pub(in crate::acquire) fn of(name: String, link: L, collector: Collector) -> Self {
        Self { name, link, collector }
    }

    /// What became of what the device sent; stays readable while the source runs elsewhere.
    pub fn counters(&self) -> Arc<WireCounters> {
        self.collector.counters().clone()
    }

    /// The same, with `prefix` before every unit's id.
    #[must_use]
    pub fn with_unit_prefix(mut self, prefix: &str) -> Self {
        self.collector.units_mut().prefix(prefix);
        self
    }

    /// The same, with places for so many units that come up later ([`SpareUnits`]), whose ids begin with `prefix`. When all others are
    /// listed.
    #[must_use]
    pub fn with_spare_units(mut self, places: usize, prefix: &str) -> Self {
        self.collector.units_mut().add_spares(places, prefix);
        self
    }

    /// What has waited until now is older than the run: taken for new, it would put the device's clock wrong.
    fn leave_out_what_came_before(&mut self) {
        let clock = HostClock::of_poll(monotonic_ns());
        for _ in 0..MOST_BEFORE {
            // A failure is told by the first poll.
            let taken = self.link.take(clock, &mut self.collector, &mut Nowhere);
            if taken != Ok(Taken::Something) {
                break;
            }
        }
        self.collector.begin_anew();
    }

    fn failed(&self, problem: String) -> SourceError {
        let name = self.name.clone();
        SourceError::Failed { name, problem }
    }
}

impl<L: DeviceLink> Source for Device<L> {
    fn name(&self) -> &str {
        &self.name
    }

    fn unit_ids(&self) -> &[String] {
        self.collector.units().ids()
    }

    fn series(&self) -> &[SampledSeries] {
        self.link.series()
    }

    fn pace(&self) -> Pace {
        Pace::Clocked(self.collector.speed())
    }

    fn start_ns(&self) -> i64 {
        0
    }

    fn end_ns(&self) -> Option<i64> {
        self.collector.end_ns()
    }

    fn wire_counters(&self) -> Option<Arc<WireCounters>> {
        Some(self.counters())
    }

    fn spare_units(&self) -> Option<Arc<SpareUnits>> {
        self.collector.units().spares().cloned()
    }

    fn way_back(&mut self) -> Option<Box<dyn WayBack>> {
        self.link.way_back()
    }

    fn share_time(&mut self) {
        self.collector.share_time();
    }

    fn start(&mut self, host_ns: i64) {
        self.leave_out_what_came_before();
        self.collector.start(host_ns);
    }

    fn poll(&mut self, now_ns: i64, sink: &mut dyn EventSink) -> Result<Poll, SourceError> {
        self.link.begin_poll(now_ns, &mut self.collector);
        let clock = HostClock::of_poll(now_ns);
        for piece in 0..L::PIECES {
            let taken = self.link.take(clock, &mut self.collector, sink);
            if taken.map_err(|problem| self.failed(problem))? == Taken::Something {
                if clock.now_ns() - now_ns > LONGEST_POLL_NS {
                    break;
                }
                continue;
            }
            let poll = self.collector.flush(now_ns, sink);
            if piece == 0 && poll == Poll::Again {
                self.link.wait().map_err(|problem| self.failed(problem))?;
            }
            return Ok(poll);
        }
        Ok(self.collector.behind(now_ns, sink))
    }
}
