//! A look at one thread of a run from the inside: what runs on it counts its bins, polls or predictions, and between two of them
//! its allocations, page faults and system calls are counted.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use neurohorizon::acquire::wire::WireCounters;
use neurohorizon::acquire::{EventSink, Pace, Poll, SampledSeries, Source, SourceError, WayBack};
use neurohorizon::pipeline::layer::Layer;
use neurohorizon::pipeline::{BinSpikes, Predictor};

use crate::counting;
use crate::system_calls::{Call, Usage, Watched};

/// The moment of calls after the look's end.
const OVER: u64 = u64::MAX;

/// What was seen between the first and the last time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Bins, polls or predictions.
    pub times: u64,
    /// Calls of the allocator, freeing included.
    pub allocations: u64,
    /// Of these times, those with such a call.
    pub times_with_allocations: u64,
    /// What the kernel counted.
    pub usage: Usage,
}

/// Where the look's result comes to.
#[derive(Debug, Default)]
pub struct Findings {
    watched: Arc<Watched>,
    /// Ends the look at the next time.
    enough: AtomicBool,
    refused: OnceLock<String>,
    seen: OnceLock<Seen>,
}

impl Findings {
    /// Ends a look that has no end of its own.
    pub fn enough(&self) {
        self.enough.store(true, Relaxed);
    }

    /// What was seen, once that is over.
    pub fn seen(&self) -> Option<Seen> {
        self.seen.get().copied()
    }

    /// Why this system shows no calls; none where it does.
    pub fn refused(&self) -> Option<&str> {
        self.refused.get().map(String::as_str)
    }

    /// What the thread calls, until it ends.
    pub fn watcher(&self) -> std::thread::JoinHandle<Vec<Call>> {
        self.watched.watcher()
    }

    /// For a thread that never came to the look.
    pub fn cancel(&self) {
        self.watched.cancel();
    }
}

/// Those of the calls that came while it looked.
pub fn during(calls: &[Call]) -> Vec<Call> {
    calls.iter().copied().filter(|call| call.moment != OVER).collect()
}

/// What runs on the thread.
pub struct Probe {
    findings: Arc<Findings>,
    allowed: Vec<i64>,
    first: u64,
    last: u64,
    time: u64,
    before: Option<(u64, Usage)>,
    allocations: u64,
    times_with_allocations: u64,
}

impl Probe {
    /// From the `first` time that it looks to the `last`; system calls that are not `allowed` are written down.
    pub fn new(findings: &Arc<Findings>, allowed: &[i64], (first, last): (u64, u64)) -> Self {
        Self {
            findings: Arc::clone(findings),
            allowed: allowed.to_vec(),
            first,
            last,
            time: 0,
            before: None,
            allocations: 0,
            times_with_allocations: 0,
        }
    }

    /// Looks once; says which time it is.
    pub fn look(&mut self) -> u64 {
        self.time += 1;
        if self.time < self.first || self.findings.seen.get().is_some() {
            return self.time;
        }
        let calls = counting::calls();
        let Some((first_calls, first_usage)) = self.before else {
            self.begin();
            return self.time;
        };
        if calls != first_calls + self.allocations {
            self.allocations = calls - first_calls;
            self.times_with_allocations += 1;
        }
        if self.time < self.last && !self.findings.enough.load(Relaxed) {
            self.findings.watched.at(self.time);
            return self.time;
        }
        // What is asked of the kernel from here on is the test's own.
        self.findings.watched.at(OVER);
        let seen = Seen {
            times: self.time - self.first,
            allocations: self.allocations,
            times_with_allocations: self.times_with_allocations,
            usage: Usage::now().since(first_usage),
        };
        let _ = self.findings.seen.set(seen);
        self.time
    }

    fn begin(&mut self) {
        if let Err(error) = self.findings.watched.begin(&self.allowed) {
            let _ = self.findings.refused.set(error.to_string());
        }
        // As at the end: the question is the test's own.
        self.findings.watched.at(OVER);
        self.before = Some((counting::calls(), Usage::now()));
        self.findings.watched.at(self.time);
    }
}

/// A predictor that is looked at in every bin, and does what it is told beside.
pub struct LookedAt {
    /// The predictor.
    pub inner: Box<dyn Predictor>,
    /// Looks.
    pub probe: Probe,
    /// Called after the look with its number.
    pub beside: Box<dyn FnMut(u64) + Send>,
}

impl Layer for LookedAt {
    fn inner(&self) -> &dyn Predictor {
        self.inner.as_ref()
    }
    fn inner_mut(&mut self) -> &mut dyn Predictor {
        self.inner.as_mut()
    }
    fn on_bin_closed(&mut self, bin: &BinSpikes<'_>) {
        let time = self.probe.look();
        (self.beside)(time);
        self.inner.bin_closed(bin);
    }
}

/// A source that is looked at in every poll, and a way back that is in every prediction.
pub struct LookedAtSource<S> {
    inner: S,
    probe: Option<Probe>,
    way_back: Option<Probe>,
}

impl<S: Source> LookedAtSource<S> {
    /// Looks at the source's thread, at the publish thread, or both.
    pub fn new(inner: S, probe: Option<Probe>, way_back: Option<Probe>) -> Self {
        Self { inner, probe, way_back }
    }
}

impl<S: Source> Source for LookedAtSource<S> {
    fn name(&self) -> &str {
        self.inner.name()
    }
    fn unit_ids(&self) -> &[String] {
        self.inner.unit_ids()
    }
    fn series(&self) -> &[SampledSeries] {
        self.inner.series()
    }
    fn pace(&self) -> Pace {
        self.inner.pace()
    }
    fn start_ns(&self) -> i64 {
        self.inner.start_ns()
    }
    fn end_ns(&self) -> Option<i64> {
        self.inner.end_ns()
    }
    fn wire_counters(&self) -> Option<Arc<WireCounters>> {
        self.inner.wire_counters()
    }
    fn share_time(&mut self) {
        self.inner.share_time();
    }
    fn way_back(&mut self) -> Option<Box<dyn WayBack>> {
        let probe = self.way_back.take()?;
        Some(Box::new(Looking(probe)))
    }
    fn start(&mut self, host_ns: i64) {
        self.inner.start(host_ns);
    }
    fn poll(&mut self, now_ns: i64, sink: &mut dyn EventSink) -> Result<Poll, SourceError> {
        if let Some(probe) = &mut self.probe {
            probe.look();
        }
        self.inner.poll(now_ns, sink)
    }
}

/// A way back that goes nowhere, but runs on the publish thread.
struct Looking(Probe);

impl WayBack for Looking {
    fn send(&mut self, _header: &[u8], _array: &[u8]) -> bool {
        self.0.look();
        true
    }
}
