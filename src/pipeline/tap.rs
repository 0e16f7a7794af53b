//! Taps: copies of what the decode thread takes in and the publish thread gives out, on their way to whoever records them.
//!
//! ```text
//! decode thread   events, samples, closed bins ─ byte ring ─▶  a thread that writes them,
//! publish thread  predictions, outputs         ─ byte ring ─▶  or compares them
//! ```
//! An entry ([`super::entry`]) goes into its ring whole or not at all. Where it does not fit it is left out, counted, and an entry
//! that says how many are missing comes before the next; where nothing runs by the clock the thread waits for room instead.
//! Nothing here allocates once [`Taps::split`] has been called, or waits for the reader of a ring while time runs.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::Arc;
use std::time::Duration;

use ringbuf::traits::{Consumer, Observer, Producer};

use super::entry;
use super::message::flags;
use super::predictor::Origin;
use super::ring::WhenFull;
use super::sharing::{ring, Real, Receiver, Sender, Sharing};
use crate::acquire::SpikeEvent;

/// How long a thread that may wait sleeps between looks at a full ring.
const FULL_RING_WAIT: Duration = Duration::from_micros(50);
/// Bytes of an entry beside its values, with room to spare: the longest is the name of a file.
const OVERHEAD: usize = 8_192;

/// What did not reach the recording; readable from any thread.
#[derive(Debug, Default)]
pub struct LossCounters {
    /// Entries of what came in that found no room in their ring or could not be written.
    pub ingested: AtomicU64,
    /// The same of what was published.
    pub published: AtomicU64,
}

impl LossCounters {
    /// Entries lost so far.
    pub fn total(&self) -> u64 {
        self.ingested.load(Relaxed) + self.published.load(Relaxed)
    }
}

/// Both taps before a run has them.
pub struct Taps<S: Sharing = Real> {
    ingest: Sender<S, u8>,
    publish: Sender<S, u8>,
    losses: Arc<LossCounters>,
}

/// The other ends of both rings.
pub struct TapReaders<S: Sharing = Real> {
    /// What came in.
    pub ingest: TapReader<S>,
    /// What was published.
    pub publish: TapReader<S>,
    /// What was lost on the way; whoever reads counts what it loses itself.
    pub losses: Arc<LossCounters>,
}

/// One of them.
pub struct TapReader<S: Sharing = Real>(Receiver<S, u8>);

/// Rings of `capacity` bytes each.
pub fn taps(capacity: usize) -> (Taps, TapReaders) {
    taps_of::<Real>(capacity)
}

/// The same, of any rings.
pub(crate) fn taps_of<S: Sharing>(capacity: usize) -> (Taps<S>, TapReaders<S>) {
    let (ingest, ingested) = ring::<S, _>(capacity.max(1));
    let (publish, published) = ring::<S, _>(capacity.max(1));
    let losses = Arc::new(LossCounters::default());
    let taps = Taps {
        ingest,
        publish,
        losses: losses.clone(),
    };
    let readers = TapReaders {
        ingest: TapReader(ingested),
        publish: TapReader(published),
        losses,
    };
    (taps, readers)
}

impl<S: Sharing> TapReader<S> {
    /// Takes everything there is: whole entries, put after what `into` holds.
    pub fn take(&mut self, into: &mut Vec<u8>) -> usize {
        let (before, waiting) = (into.len(), self.0.occupied_len());
        into.resize(before + waiting, 0);
        // An entry is pushed in one step: as many bytes as were seen at once end with a whole one.
        let taken = self.0.pop_slice(&mut into[before..]);
        into.truncate(before + taken);
        taken
    }

    /// Whether the run's thread has ended and everything that it left has been taken.
    pub fn is_finished(&self) -> bool {
        !self.0.write_is_held() && self.0.is_empty()
    }
}

/// The producer's side of a ring.
struct Tap<S: Sharing> {
    ring: Sender<S, u8>,
    when_full: WhenFull,
    entry: Vec<u8>,
    missing: u64,
}

impl<S: Sharing> Tap<S> {
    fn new(ring: Sender<S, u8>, when_full: WhenFull, longest: usize) -> Self {
        Self {
            ring,
            when_full,
            entry: Vec::with_capacity(longest + OVERHEAD),
            missing: 0,
        }
    }

    fn has_room(&self) -> bool {
        while self.ring.vacant_len() < self.entry.len() {
            let waits = self.when_full == WhenFull::Wait && self.ring.read_is_held();
            if !waits || self.entry.len() > self.ring.capacity().get() {
                return false;
            }
            S::pause(FULL_RING_WAIT);
        }
        true
    }

    /// Pushes an entry, after one about those that are missing before it. Returns how many were lost.
    fn push(&mut self, put: impl Fn(&mut Vec<u8>)) -> u64 {
        if self.missing > 0 {
            entry::put_lost(&mut self.entry, self.missing);
            if self.has_room() {
                self.ring.push_slice(&self.entry);
                self.missing = 0;
            }
        }
        put(&mut self.entry);
        if self.missing == 0 && self.has_room() {
            self.ring.push_slice(&self.entry);
            return 0;
        }
        self.missing += 1;
        1
    }
}

/// The decode thread's tap.
pub(crate) struct IngestTap<S: Sharing = Real> {
    tap: Tap<S>,
    losses: Arc<LossCounters>,
    /// Times that identities were taken in.
    identities: u64,
}

/// The publish thread's tap.
pub(crate) struct PublishTap<S: Sharing = Real> {
    tap: Tap<S>,
    losses: Arc<LossCounters>,
    told: u64,
}

impl<S: Sharing> Taps<S> {
    /// One for each thread. Entries have at most `longest` bytes of values.
    pub(crate) fn split(self, when_full: WhenFull, longest: usize) -> (IngestTap<S>, PublishTap<S>) {
        let ingest = IngestTap {
            tap: Tap::new(self.ingest, when_full, longest),
            losses: self.losses.clone(),
            identities: 0,
        };
        let publish = PublishTap {
            tap: Tap::new(self.publish, when_full, longest),
            losses: self.losses,
            told: 0,
        };
        (ingest, publish)
    }
}

impl<S: Sharing> IngestTap<S> {
    fn push(&mut self, put: impl Fn(&mut Vec<u8>)) {
        let lost = self.tap.push(put);
        self.losses.ingested.fetch_add(lost, Relaxed);
    }

    /// Events that were taken from a source's ring at once.
    pub fn events(&mut self, source: usize, events: &[SpikeEvent]) {
        self.push(|out| entry::put_events(out, source, events));
    }

    /// A sample that was taken, and whether it was kept.
    pub fn sample(&mut self, of: (usize, usize), time_ns: i64, kept: bool, values: &[f32]) {
        self.push(|out| entry::put_sample(out, of, time_ns, kept, values));
    }

    /// Another model goes along, from the bin on that closes next.
    pub fn joins(&mut self, hash: u64, origin: Origin<'_>) {
        self.push(|out| entry::put_joins(out, hash, origin));
    }

    /// It predicts, from the bin on that closes next.
    pub fn predicts(&mut self, hash: u64) {
        self.push(|out| entry::put_predicts(out, hash));
    }

    /// Identities of a model's units were taken in before the bin closes that closes next: of the first model, 0, or the first that
    /// joined, 1, and so on. Their reference ended at `end_ns`.
    pub fn identities(&mut self, model: u64, end_ns: i64) {
        self.identities += 1;
        self.push(|out| entry::put_identities(out, model, end_ns));
    }

    /// A bin has closed, and the model has been told.
    pub fn closed(&mut self, bin: i64) {
        let identities = self.identities;
        self.push(|out| entry::put_closed(out, bin, identities));
    }
}

impl<S: Sharing> PublishTap<S> {
    fn push(&mut self, put: impl Fn(&mut Vec<u8>)) {
        let lost = self.tap.push(put);
        self.losses.published.fetch_add(lost, Relaxed);
    }

    /// The flag of what has been lost since the last call.
    pub fn flags(&mut self) -> u32 {
        let lost = self.losses.total();
        let news = std::mem::replace(&mut self.told, lost) != lost;
        if news {
            flags::RECORDING_LOST
        } else {
            0
        }
    }

    /// A prediction as it was published.
    pub fn prediction(&mut self, header: &[u8], array: &[u8]) {
        self.push(|out| entry::put_prediction(out, header, array));
    }

    /// An output as it was published.
    pub fn output(&mut self, output: usize, header: &[u8], array: &[u8]) {
        self.push(|out| entry::put_output(out, output, header, array));
    }
}

#[cfg(test)]
mod tests {
    use super::entry::Entry;
    use super::*;

    #[test]
    fn what_finds_no_room_is_counted_flagged_and_said_in_its_place() {
        let (taps, mut readers) = taps(100);
        let (mut ingest, mut publish) = taps.split(WhenFull::Refuse, 32);
        assert_eq!(publish.flags(), 0);
        let events = [SpikeEvent::spike(5, 1), SpikeEvent::clock(6)];
        // 48 bytes each: two fit.
        for source in 0..4 {
            ingest.events(source, &events);
        }
        assert_eq!((publish.flags(), publish.flags()), (flags::RECORDING_LOST, 0));
        let mut bytes = Vec::new();
        assert_eq!(readers.ingest.take(&mut bytes), 96);
        ingest.closed(3);
        ingest.events(9, &[SpikeEvent::default(); 10]);
        assert_eq!(readers.losses.ingested.load(Relaxed), 3);
        readers.ingest.take(&mut bytes);
        // Both are 24 bytes long.
        ingest.identities(2, -7);
        ingest.closed(4);
        readers.ingest.take(&mut bytes);
        let of = |source| Entry::Events {
            source,
            events: events.to_vec(),
        };
        let closed = Entry::Closed { bin: 3, identities: 0 };
        assert_eq!(
            Entry::parse_all(&bytes).unwrap(),
            [
                of(0),
                of(1),
                Entry::Lost { entries: 2 },
                closed,
                Entry::Lost { entries: 1 },
                Entry::Identities { model: 2, end_ns: -7 },
                Entry::Closed { bin: 4, identities: 1 },
            ]
        );
        assert!(!readers.ingest.is_finished());
        drop(ingest);
        assert!(readers.ingest.is_finished());
    }

    #[test]
    fn where_nothing_runs_by_the_clock_a_full_ring_is_waited_for() {
        let (taps, mut readers) = taps(64);
        let (mut ingest, _publish) = taps.split(WhenFull::Wait, 16);
        let decode = std::thread::spawn(move || (0..1_000).for_each(|bin| ingest.closed(bin)));
        let mut bytes = Vec::new();
        while !readers.ingest.is_finished() {
            readers.ingest.take(&mut bytes);
        }
        decode.join().unwrap();
        let bins: Vec<Entry> = (0..1_000).map(|bin| Entry::Closed { bin, identities: 0 }).collect();
        assert_eq!(Entry::parse_all(&bytes).unwrap(), bins);
        assert_eq!(readers.losses.total(), 0);
    }
}
