//! A source on a thread, its ring, and the bins at the other end.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use neurohorizon::acquire::bridge::Carrier;
use neurohorizon::acquire::replay::{RecordedSpikes, Replay};
use neurohorizon::acquire::wire::{ClockConfig, WireCounters, WireReport};
use neurohorizon::acquire::{EventSink, Pace, Poll, Source, SpikeEvent};
use neurohorizon::pipeline::clock::monotonic_ns;
use neurohorizon::pipeline::{event_ring, BinAssembler, BinConfig, EventWriter, IngestTotals, WhenFull};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Packets as datagrams to this address.
pub fn udp(listen: std::net::SocketAddr) -> Carrier {
    Carrier::Udp {
        listen,
        predictions_back: false,
    }
}

pub const UNITS: u32 = 200;
/// Spikes a second of device time.
const RATE: i64 = 50_000;
/// Nothing here takes longer, unless it hangs.
const PATIENCE: Duration = Duration::from_secs(100);

/// Events of one part of a system's tests: a system has 10⁵ in all, or `NEUROHORIZON_WIRE_EVENTS`, and this is one in
/// `of`.
pub fn events(of: usize) -> usize {
    let asked = std::env::var("NEUROHORIZON_WIRE_EVENTS").ok();
    asked.and_then(|events| events.parse().ok()).unwrap_or(100_000) / of
}

/// A device's clock whose spikes may wait for a busy machine.
pub const CLOCK: ClockConfig = ClockConfig {
    speed: 1.0,
    lateness_ns: 2_000_000_000,
    end_ns: None,
};

/// Spikes at random times, from 3 s of device time on; `slower` times fewer a second than usual.
pub fn recorded(events: usize, seed: u64, slower: i64) -> RecordedSpikes {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let length = slower * events as i64 * 1_000_000_000 / RATE;
    let mut spikes: Vec<(i64, u32)> = (0..events)
        .map(|_| {
            (
                3_000_000_000 + random.random_range(0..length),
                random.random_range(0..UNITS),
            )
        })
        .collect();
    spikes.sort_unstable();
    RecordedSpikes {
        times_ns: spikes.iter().map(|spike| spike.0).collect(),
        units: spikes.iter().map(|spike| spike.1).collect(),
        unit_ids: (0..UNITS).map(|unit| format!("u{unit}")).collect(),
    }
}

/// Runs a case on a thread each: they wait most of the time.
pub fn at_once<T: Send>(cases: impl IntoIterator<Item = T>, run: impl Fn(T) + Sync) {
    std::thread::scope(|scope| {
        for case in cases {
            scope.spawn(|| run(case));
        }
    });
}

/// Silence before a replay's first spike, ns.
pub const SILENCE_NS: i64 = 500_000_000;

/// A replay of spikes, with a silence before the first.
pub fn replay(spikes: &RecordedSpikes) -> Replay {
    let (first, last) = (spikes.times_ns[0], spikes.times_ns[spikes.times_ns.len() - 1]);
    let (start, end) = (first - SILENCE_NS, last + 200_000_000);
    Replay::new("recorded", spikes.clone(), start, end, Pace::Clocked(1.0), 1_000_000).unwrap()
}

/// The ring, and a copy of what goes in.
struct Tee {
    writer: EventWriter,
    spikes: Vec<SpikeEvent>,
}

impl EventSink for Tee {
    fn spikes(&mut self, spikes: &[SpikeEvent]) {
        self.writer.spikes(spikes);
        self.spikes.extend_from_slice(spikes);
    }
    fn sample(&mut self, series: usize, time_ns: i64, values: &[f32]) {
        self.writer.sample(series, time_ns, values);
    }
    fn clock(&mut self, device_ns: i64, host_ns: i64) {
        self.writer.clock(device_ns, host_ns);
    }
}

/// A source that runs, with bins that close behind it.
pub struct Rig {
    thread: JoinHandle<Vec<SpikeEvent>>,
    stop: Arc<AtomicBool>,
    bins: BinAssembler,
    pub counters: Arc<WireCounters>,
    pub closed: i64,
}

impl Rig {
    pub fn start(mut source: Box<dyn Source>, counters: Arc<WireCounters>) -> Self {
        let stop = Arc::<AtomicBool>::default();
        let (writer, reader) = event_ring(1 << 18, WhenFull::Refuse, stop.clone());
        let config = BinConfig {
            start_ns: source.start_ns(),
            bin_ns: 20_000_000,
            history_ns: 100_000_000,
            grace_ns: 0,
            early_ns: 0,
            window_spikes: 1 << 16,
            pending_spikes: 1 << 18,
        };
        let ids = source.unit_ids().to_vec();
        let mut bins = BinAssembler::new(config, ids.len());
        assert_eq!(bins.add_source(reader, source.pace(), &ids, &ids), UNITS as usize);
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let spikes = Vec::new();
            let mut tee = Tee { writer, spikes };
            source.start(monotonic_ns());
            while !stopped.load(Relaxed) {
                assert_eq!(source.poll(monotonic_ns(), &mut tee).unwrap(), Poll::Again);
            }
            tee.spikes
        });
        Self {
            thread,
            stop,
            bins,
            counters,
            closed: 0,
        }
    }

    /// Closes what bins are due.
    pub fn close_bins(&mut self) {
        while self.bins.ingest() > 0 {
            while self.bins.close_next().is_some() {
                self.closed += 1;
            }
        }
    }

    /// Closes bins until `done`, and says how long that took.
    pub fn until(&mut self, what: &str, mut done: impl FnMut(&Self) -> bool) -> Duration {
        let begin = Instant::now();
        while !done(self) {
            self.close_bins();
            assert!(begin.elapsed() < PATIENCE, "{what}: {}", self.counters.report());
            std::thread::sleep(Duration::from_millis(1));
        }
        begin.elapsed()
    }

    /// Goes on until the source has taken so many bytes and every spike of theirs is in a bin, and stops: what the bins say,
    /// and the spikes.
    pub fn settle(mut self, bytes: u64) -> (IngestTotals, Vec<SpikeEvent>) {
        self.until(&format!("{bytes} bytes taken"), |rig| {
            rig.counters.report().bytes >= bytes
        });
        // The last of them are counted as bytes before they are counted as spikes.
        let taken = Instant::now();
        self.until("taken in", |_| taken.elapsed() > Duration::from_millis(100));
        let report = self.counters.report();
        assert_eq!(report.bytes, bytes, "{report}");
        self.finish(report.spikes)
    }

    /// Goes on until every spike is in a bin, and stops: what the bins say, and the spikes.
    pub fn finish(mut self, spikes: u64) -> (IngestTotals, Vec<SpikeEvent>) {
        self.until("all in bins", |rig| {
            rig.bins.totals().received == spikes && rig.bins.pending() == 0
        });
        self.stop.store(true, Relaxed);
        (self.bins.totals(), self.thread.join().unwrap())
    }
}

/// That every spike that a source handed on is in one count of the bins, and none is there twice.
pub fn assert_closed(totals: IngestTotals, report: &WireReport) {
    let IngestTotals {
        received,
        binned,
        unknown,
        late,
        before_start,
        overflowed,
    } = totals;
    assert_eq!(received, report.spikes, "{totals:?}");
    assert_eq!(
        binned + unknown + late + before_start + overflowed,
        received,
        "{totals:?}"
    );
    assert!(unknown <= report.unlisted && overflowed == 0, "{totals:?}, {report}");
}

/// That these are the recorded spikes: the same units, and times that differ by one constant.
pub fn assert_exact(received: &[SpikeEvent], recorded: &RecordedSpikes, on_the_wire: impl Fn(i64) -> i64) {
    assert_eq!(received.len(), recorded.times_ns.len());
    let offset = received[0].time_ns - on_the_wire(recorded.times_ns[0]);
    for (position, event) in received.iter().enumerate() {
        let wanted = (
            on_the_wire(recorded.times_ns[position]) + offset,
            recorded.units[position],
        );
        assert_eq!((event.time_ns, event.unit), wanted, "spike {position}");
    }
}

/// A time in ns on a clock of 30 kHz, as ns: the tick that it falls into, rounded to a whole ns.
pub fn at_30_khz(ns: i64) -> i64 {
    let tick = i128::from(ns) * 3 / 100_000;
    ((tick * 200_000 + 3) / 6) as i64
}
