//! The ring between a source's thread and the decode thread: single producer, single consumer, of fixed size. A source's
//! samples go through a ring of their own beside it ([`super::sample_ring`]).
//!
//! Nothing here allocates after [`event_ring`]. A full ring refuses the newest events and counts them, or, where the
//! source runs as fast as it may, makes it wait.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::Arc;
use std::time::Duration;

use ringbuf::traits::{Consumer, Observer, Producer};

use super::sample_ring::SampleWriter;
use super::sharing::{ring, Real, Receiver, Sender, Sharing};
use crate::acquire::{EventSink, SpikeEvent};

/// How long a waiting source sleeps between looks at a full ring.
const FULL_RING_WAIT: Duration = Duration::from_micros(50);

/// What a source does where its ring is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WhenFull {
    /// The newest events are refused and counted.
    Refuse,
    /// The source waits until there is space (or until the run stops).
    Wait,
}

/// Counts of a ring's producer, readable from any thread.
#[derive(Debug, Default)]
pub struct RingCounters {
    offered: AtomicU64,
    refused: AtomicU64,
}

impl RingCounters {
    /// Spikes that the source had for the ring.
    pub fn offered(&self) -> u64 {
        self.offered.load(Ordering::Relaxed)
    }

    /// Counts spikes that come from a recording, and not through the ring.
    pub(crate) fn count_offered(&self, spikes: u64) {
        self.offered.fetch_add(spikes, Ordering::Relaxed);
    }

    /// Those of them that found the ring full.
    pub fn refused(&self) -> u64 {
        self.refused.load(Ordering::Relaxed)
    }
}

/// The source's end of a ring.
pub struct EventWriter<S: Sharing = Real> {
    producer: Sender<S, SpikeEvent>,
    counters: Arc<RingCounters>,
    when_full: WhenFull,
    stop: Arc<AtomicBool>,
    /// None where nobody asked for samples: they are dropped.
    samples: Option<SampleWriter<S>>,
}

/// The decode thread's end of a ring.
pub struct EventReader<S: Sharing = Real> {
    consumer: Receiver<S, SpikeEvent>,
    counters: Arc<RingCounters>,
}

/// A ring of `capacity` events (at least 2). A writer that waits gives up when `stop` is set.
pub fn event_ring(capacity: usize, when_full: WhenFull, stop: Arc<AtomicBool>) -> (EventWriter, EventReader) {
    event_ring_of::<Real>(capacity, when_full, stop)
}

/// The same, of any rings.
pub(crate) fn event_ring_of<S: Sharing>(
    capacity: usize,
    when_full: WhenFull,
    stop: Arc<AtomicBool>,
) -> (EventWriter<S>, EventReader<S>) {
    let (producer, consumer) = ring::<S, _>(capacity.max(2));
    let counters = Arc::new(RingCounters::default());
    (
        EventWriter {
            producer,
            counters: counters.clone(),
            when_full,
            stop,
            samples: None,
        },
        EventReader { consumer, counters },
    )
}

impl<S: Sharing> EventWriter<S> {
    /// Puts samples into this ring from now on.
    pub(crate) fn deliver_samples(&mut self, samples: SampleWriter<S>) {
        self.samples = Some(samples);
    }

    /// Waits for `space` free places; false where nobody will make any.
    fn wait_for_space(&self, space: usize) -> bool {
        while self.producer.vacant_len() < space {
            if self.stop.load(Ordering::Relaxed) || !self.producer.read_is_held() {
                return false;
            }
            S::pause(FULL_RING_WAIT);
        }
        true
    }
}

impl<S: Sharing> EventSink for EventWriter<S> {
    fn spikes(&mut self, spikes: &[SpikeEvent]) {
        let mut rest = spikes;
        loop {
            rest = &rest[self.producer.push_slice(rest)..];
            if rest.is_empty() {
                break;
            }
            if self.when_full == WhenFull::Refuse || !self.wait_for_space(1) {
                self.counters.refused.fetch_add(rest.len() as u64, Ordering::Relaxed);
                break;
            }
        }
        self.counters.offered.fetch_add(spikes.len() as u64, Ordering::Relaxed);
    }

    fn sample(&mut self, series: usize, time_ns: i64, values: &[f32]) {
        let Some(samples) = &mut self.samples else {
            return;
        };
        while self.when_full == WhenFull::Wait && !samples.has_room(series) {
            if self.stop.load(Ordering::Relaxed) || !samples.reader_lives() {
                break;
            }
            S::pause(FULL_RING_WAIT);
        }
        samples.push(series, time_ns, values);
    }

    fn clock(&mut self, device_ns: i64, host_ns: i64) {
        if self.when_full == WhenFull::Wait {
            self.wait_for_space(2);
        }
        if self.producer.vacant_len() >= 2 {
            self.producer
                .push_slice(&[SpikeEvent::host_time(host_ns), SpikeEvent::clock(device_ns)]);
        }
    }
}

impl<S: Sharing> EventReader<S> {
    /// Takes up to `into.len()` events, oldest first, and says how many.
    pub fn pop(&mut self, into: &mut [SpikeEvent]) -> usize {
        self.consumer.pop_slice(into)
    }

    /// Whether the source has ended and everything that it pushed has been taken.
    pub fn is_finished(&self) -> bool {
        !self.consumer.write_is_held() && self.consumer.is_empty()
    }

    /// The producer's counts.
    pub fn counters(&self) -> &Arc<RingCounters> {
        &self.counters
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn events(n: i64) -> Vec<SpikeEvent> {
        (0..n).map(|time| SpikeEvent::spike(time, 0)).collect()
    }

    #[test]
    fn a_full_ring_refuses_the_newest_and_counts_them() {
        let (mut writer, mut reader) = event_ring(8, WhenFull::Refuse, Arc::default());
        writer.spikes(&events(11));
        writer.clock(99, 99);
        assert_eq!((reader.counters().offered(), reader.counters().refused()), (11, 3));
        let mut out = [SpikeEvent::default(); 16];
        assert_eq!(reader.pop(&mut out), 8);
        assert_eq!(out[7].time_ns, 7);
    }

    #[test]
    fn the_reader_is_finished_only_after_the_last_event() {
        let (mut writer, mut reader) = event_ring(8, WhenFull::Refuse, Arc::default());
        writer.spikes(&events(1));
        assert!(!reader.is_finished());
        drop(writer);
        assert!(!reader.is_finished());
        reader.pop(&mut [SpikeEvent::default(); 4]);
        assert!(reader.is_finished());
    }

    #[test]
    fn a_waiting_writer_loses_nothing_in_parallel() {
        const COUNT: i64 = 100_000;
        let (mut writer, mut reader) = event_ring(64, WhenFull::Wait, Arc::default());
        let source = std::thread::spawn(move || events(COUNT).chunks(100).for_each(|chunk| writer.spikes(chunk)));
        let (mut next, mut out) = (0, [SpikeEvent::default(); 32]);
        while !reader.is_finished() {
            let taken = reader.pop(&mut out);
            for event in &out[..taken] {
                assert_eq!(event.time_ns, next);
                next += 1;
            }
        }
        source.join().unwrap();
        assert_eq!((next, reader.counters().refused()), (COUNT, 0));
    }

    #[test]
    fn a_waiting_writer_gives_up_when_the_run_stops_or_the_reader_is_gone() {
        let stop = Arc::new(AtomicBool::new(true));
        let (mut writer, reader) = event_ring(4, WhenFull::Wait, stop.clone());
        writer.spikes(&events(6));
        assert_eq!(reader.counters().refused(), 2);
        stop.store(false, Ordering::Relaxed);
        let counters = reader.counters().clone();
        drop(reader);
        writer.spikes(&events(3));
        assert_eq!(counters.refused(), 5);
    }
}
