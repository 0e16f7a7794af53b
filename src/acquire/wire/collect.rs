//! From records to events: what every source of a device does with a spike once it is parsed.

use std::sync::atomic::Ordering::Relaxed;
use std::sync::Arc;

use super::super::{EventSink, Poll, SpikeEvent};
use super::clock::Exchanged;
use super::counters::add;
use super::{ClockConfig, DeviceClock, Placed, UnitList, WireCounters};

/// Spikes pushed to the sink at once.
const CHUNK: usize = 512;
/// Least time from one clock marker to the next, ns: a marker takes two places in the ring. What comes within it of a marker
/// closes its bin only with what comes next.
const MARKER_NS: i64 = 50_000;
/// Longest time that the clock stands still for records that have not been read yet, ns.
const HELD_NS: i64 = 1_000_000_000;

/// A spike of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// Time on the device's clock, ns.
    pub device_ns: i64,
    /// Index of its unit, where that is listed.
    pub unit: Option<u32>,
    /// Whether the device takes it for an artifact or for noise.
    pub artifact: bool,
}

/// Places spikes on the run's time, hands them on and counts. Never allocates after [`Collector::new`].
#[derive(Debug)]
pub struct Collector {
    units: UnitList,
    clock: DeviceClock,
    counters: Arc<WireCounters>,
    chunk: Vec<SpikeEvent>,
    marked_host_ns: i64,
    away_since_ns: Option<i64>,
    /// Since when there has always been more to read.
    behind_since_ns: Option<i64>,
    /// Whether anything has been placed since the last look.
    placed: bool,
}

impl Collector {
    /// A collector for these units.
    pub fn new(units: UnitList, clock: ClockConfig) -> Self {
        Self {
            units,
            clock: DeviceClock::new(clock),
            counters: Arc::default(),
            chunk: Vec::with_capacity(CHUNK),
            marked_host_ns: i64::MIN,
            away_since_ns: None,
            behind_since_ns: None,
            placed: false,
        }
    }

    /// The units.
    pub fn units(&self) -> &UnitList {
        &self.units
    }

    /// The units, which a list that learns goes on with.
    pub fn units_mut(&mut self) -> &mut UnitList {
        &mut self.units
    }

    /// Begins anew, as if nothing had come yet but the connection. What came counts as from before the run.
    pub fn begin_anew(&mut self) {
        self.clock = self.clock.anew();
        self.chunk.clear();
        self.marked_host_ns = i64::MIN;
        add(&self.counters.before_the_run, self.counters.spikes.swap(0, Relaxed));
        self.counters.unlisted.store(0, Relaxed);
        self.counters.samples.store(0, Relaxed);
    }

    /// The counters.
    pub fn counters(&self) -> &Arc<WireCounters> {
        &self.counters
    }

    /// Device seconds a host second.
    pub fn speed(&self) -> f64 {
        self.clock.speed()
    }

    /// Lets the run's time 0 be host time `host_ns`.
    pub fn start(&mut self, host_ns: i64) {
        self.clock.start(host_ns);
    }

    /// Other sources' events stand beside the device's.
    pub fn share_time(&mut self) {
        self.clock.share();
    }

    /// Exchanges of times with the device say this of its clock.
    pub fn exchanged(&mut self, exchanged: Exchanged) {
        self.clock.exchanged(exchanged);
    }

    /// The device has been reached.
    pub fn connected(&mut self, now_ns: i64) {
        add(&self.counters.connections, 1);
        self.count_away(now_ns);
        self.away_since_ns = None;
        self.clock.fresh();
    }

    /// Counts the whole milliseconds without the device that have not been counted yet.
    fn count_away(&mut self, now_ns: i64) {
        if let Some(since_ns) = &mut self.away_since_ns {
            let passed_ms = now_ns.saturating_sub(*since_ns).max(0) / 1_000_000;
            *since_ns += passed_ms * 1_000_000;
            add(&self.counters.away_ms, passed_ms as u64);
        }
    }

    /// The device has been lost.
    pub fn lost(&mut self, now_ns: i64) {
        add(&self.counters.disconnections, 1);
        self.count_away(now_ns);
        self.away_since_ns = Some(now_ns);
    }

    /// Takes a spike that was seen at host time `now_ns`.
    pub fn spike(&mut self, record: Record, now_ns: i64, sink: &mut dyn EventSink) {
        if record.artifact && record.unit.is_none() {
            return add(&self.counters.artifacts, 1);
        }
        let Some(time_ns) = self.place(record.device_ns, now_ns) else {
            return;
        };
        if record.unit.is_none() {
            add(&self.counters.unlisted, 1);
        }
        add(&self.counters.spikes, 1);
        let unit = record.unit.unwrap_or(self.units.unlisted());
        self.chunk.push(SpikeEvent::spike(time_ns, unit));
        if self.chunk.len() == CHUNK {
            self.hand_on(sink);
        }
    }

    /// Takes a sample of a series at device time `device_ns`, seen at host time `now_ns`; `values` `[channels]`.
    pub fn sample(&mut self, (series, device_ns): (usize, i64), values: &[f32], now_ns: i64, sink: &mut dyn EventSink) {
        if let Some(time_ns) = self.place(device_ns, now_ns) {
            add(&self.counters.samples, 1);
            sink.sample(series, time_ns, values);
        }
    }

    /// The device has started again, and its clock with it.
    pub fn restarted(&mut self) {
        self.clock.fresh();
    }

    /// The run's time of a record; none where it cannot be, which is counted.
    fn place(&mut self, device_ns: i64, now_ns: i64) -> Option<i64> {
        let time_ns = match self.clock.place(device_ns, now_ns) {
            Placed::At(time_ns) => time_ns,
            Placed::Reset(time_ns) => {
                add(&self.counters.clock_resets, 1);
                time_ns
            }
            Placed::Implausible => {
                add(&self.counters.implausible_times, 1);
                return None;
            }
        };
        self.placed = true;
        Some(time_ns)
    }

    fn hand_on(&mut self, sink: &mut dyn EventSink) {
        if !self.chunk.is_empty() {
            sink.spikes(&self.chunk);
            self.chunk.clear();
        }
    }

    /// Everything that has come by host time `now_ns` has been taken: hands it on, and the clock after it. Says whether that
    /// was the end.
    pub fn flush(&mut self, now_ns: i64, sink: &mut dyn EventSink) -> Poll {
        self.behind_since_ns = None;
        self.placed = false;
        self.go_on(now_ns, sink)
    }

    /// There is more to read than one poll takes: hands on what has been collected. What has not been read yet may be older
    /// than the clock, which therefore waits; but not for what brings no records, nor without end, so that a flood of one
    /// source does not hold the bins of all. Says whether that was the end.
    pub fn behind(&mut self, now_ns: i64, sink: &mut dyn EventSink) -> Poll {
        let since_ns = *self.behind_since_ns.get_or_insert(now_ns);
        let records = std::mem::take(&mut self.placed);
        if records && now_ns.saturating_sub(since_ns) < HELD_NS {
            self.hand_on(sink);
            return Poll::Again;
        }
        self.go_on(now_ns, sink)
    }

    fn go_on(&mut self, now_ns: i64, sink: &mut dyn EventSink) -> Poll {
        self.hand_on(sink);
        self.count_away(now_ns);
        if now_ns >= self.marked_host_ns.saturating_add(MARKER_NS) {
            self.marked_host_ns = now_ns;
            let reached_ns = self.clock.reached(now_ns);
            if let Some(relation) = self.clock.relation(now_ns) {
                self.counters.clock.store(&relation);
            }
            sink.clock(reached_ns, now_ns);
            if Some(reached_ns) == self.clock.end_ns() {
                return Poll::Finished;
            }
        }
        Poll::Again
    }

    /// When the run ends, ns of its time.
    pub fn end_ns(&self) -> Option<i64> {
        self.clock.end_ns()
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::replay::tests::Kept;
    use super::*;

    const MS: i64 = 1_000_000;

    #[test]
    fn the_clock_waits_for_records_that_were_not_read_yet_and_not_for_garbage() {
        let clock = ClockConfig {
            speed: 1.0,
            lateness_ns: 0,
            end_ns: None,
        };
        let units = UnitList::parse("test", "units", &["1:1".into()], |_, _| Ok(())).unwrap();
        let (mut collector, mut kept) = (Collector::new(units, clock), Kept::default());
        collector.start(0);
        let spike = |device_ns| Record {
            device_ns,
            unit: Some(0),
            artifact: false,
        };
        collector.spike(spike(7_000 * MS), 10 * MS, &mut kept);
        collector.flush(10 * MS, &mut kept);
        assert_eq!(kept.clocks, [10 * MS]);
        for ms in 11..500 {
            collector.spike(spike((6_990 + ms) * MS), ms * MS, &mut kept);
            assert_eq!(collector.behind(ms * MS, &mut kept), Poll::Again);
        }
        assert_eq!((kept.clocks.len(), kept.spikes.len()), (1, 490));
        collector.behind(500 * MS, &mut kept);
        assert_eq!(
            kept.clocks.last(),
            Some(&(500 * MS)),
            "nothing of the last poll was a record"
        );
        for ms in 501..2_000 {
            collector.spike(spike((6_990 + ms) * MS), ms * MS, &mut kept);
            collector.behind(ms * MS, &mut kept);
        }
        let held = kept.clocks.windows(2).map(|pair| pair[1] - pair[0]).max();
        assert!(held < Some(HELD_NS), "{held:?}");
        assert_eq!(kept.clocks.last(), Some(&(1_999 * MS)));
    }
}
