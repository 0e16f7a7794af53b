//! Binning on the device clock: the rings of all sources are merged by device time, and a bin closes when every source's
//! clock has passed its end (and the grace for late spikes).
//!
//! Every event that is taken from a ring ends in exactly one count of [`IngestTotals`]. Nothing allocates after
//! [`BinAssembler::new`].

mod recorded;
mod stream;

use std::collections::HashMap;

use self::stream::Stream;
use super::clock::OffsetEstimate;
use super::predictor::BinSpikes;
use super::ring::EventReader;
use super::tap::IngestTap;
use super::window::SpikeWindow;
use crate::acquire::{Pace, SpikeEvent};

/// Events taken from a ring at once.
pub(super) const EVENTS_AT_ONCE: usize = 1024;
/// Entry of a unit map: the model does not know this unit.
const UNKNOWN: u32 = u32::MAX;

/// What a [`BinAssembler`] is made with.
#[derive(Clone, Copy, Debug)]
pub struct BinConfig {
    /// Device time of the start of bin 0, ns.
    pub start_ns: i64,
    /// Bin width, ns.
    pub bin_ns: i64,
    /// History kept for a prediction, ns.
    pub history_ns: i64,
    /// How long after its end a bin stays open for late spikes, ns of device time.
    pub grace_ns: i64,
    /// Spikes in this first part of a bin, ns, are counted separately too; 0 where nobody asks.
    pub early_ns: i64,
    /// Most spikes in the history.
    pub window_spikes: usize,
    /// Most spikes held for bins that are still open.
    pub pending_spikes: usize,
}

/// What happened to the spikes taken from the rings, since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IngestTotals {
    /// Taken from the rings; the sum of all below and of those pending.
    pub received: u64,
    /// Counted in a bin.
    pub binned: u64,
    /// Of a unit that the model does not know.
    pub unknown: u64,
    /// Arrived after their bin had closed.
    pub late: u64,
    /// From before the start of bin 0.
    pub before_start: u64,
    /// Refused because too many spikes were waiting for their bin to close.
    pub overflowed: u64,
}

/// A bin that has just closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClosedBin {
    /// Index of the bin, from 0 at the run's start.
    pub index: i64,
    /// Device time of its end, ns.
    pub end_ns: i64,
    /// Host time, monotonic ns, at which the device clock passed its end plus the grace.
    pub close_host_ns: i64,
    /// Spikes counted in it.
    pub spikes: u64,
}

/// Merges the rings and closes bins.
pub struct BinAssembler {
    config: BinConfig,
    streams: Vec<Stream>,
    chunk: Box<[SpikeEvent]>,
    pending: Vec<(i64, u32)>,
    pending_sorted: bool,
    window: SpikeWindow,
    counts: Box<[u32]>,
    early_counts: Box<[u32]>,
    open_bin: i64,
    totals: IngestTotals,
    last_ingest_ns: i64,
    offset: OffsetEstimate,
    tap: Option<IngestTap>,
}

impl BinAssembler {
    /// An assembler for a model with these units. Sources are added with [`BinAssembler::add_source`].
    pub fn new(config: BinConfig, n_units: usize) -> Self {
        Self {
            config,
            streams: Vec::new(),
            chunk: vec![SpikeEvent::default(); EVENTS_AT_ONCE].into(),
            pending: Vec::with_capacity(config.pending_spikes.max(EVENTS_AT_ONCE)),
            pending_sorted: true,
            window: SpikeWindow::new(config.window_spikes),
            counts: vec![0; n_units].into(),
            early_counts: vec![0; n_units].into(),
            open_bin: 0,
            totals: IngestTotals::default(),
            last_ingest_ns: 0,
            offset: OffsetEstimate::default(),
            tap: None,
        }
    }

    /// Adds a source's ring; its units are found among the model's by id. Returns how many of them the model knows.
    pub fn add_source(
        &mut self,
        reader: EventReader,
        pace: Pace,
        source_units: &[String],
        model_units: &[String],
    ) -> usize {
        let rows: HashMap<&str, u32> = model_units.iter().map(String::as_str).zip(0..).collect();
        let unit_map: Box<[u32]> = source_units
            .iter()
            .map(|id| rows.get(id.as_str()).copied().unwrap_or(UNKNOWN))
            .collect();
        let known = unit_map.iter().filter(|&&unit| unit != UNKNOWN).count();
        self.streams.push(Stream {
            reader,
            pace,
            unit_map,
            clock_ns: i64::MIN,
            clock_host_ns: 0,
            finished: false,
        });
        known
    }

    /// Takes a piece of what the rings hold and returns the number of events taken.
    ///
    /// A source whose clock is past the open bin waits in its ring for the others, so that memory stays bounded.
    pub fn ingest(&mut self) -> usize {
        let due_ns = self.open_due_ns();
        let mut taken = 0;
        for index in 0..self.streams.len() {
            if self.streams[index].clock_ns < due_ns {
                taken += self.ingest_stream(index);
            }
        }
        taken
    }

    fn ingest_stream(&mut self, index: usize) -> usize {
        let stream = &mut self.streams[index];
        // Asked before the pop: what a source pushed before it ended is then in the ring.
        let ended = stream.reader.is_finished();
        let mut chunk = std::mem::take(&mut self.chunk);
        let taken = stream.reader.pop(&mut chunk);
        stream.finished = ended;
        self.take_in(index, &chunk[..taken]);
        self.chunk = chunk;
        taken
    }

    fn take_in(&mut self, index: usize, events: &[SpikeEvent]) {
        if let (Some(tap), false) = (&mut self.tap, events.is_empty()) {
            tap.events(index, events);
        }
        let start_ns = self.config.start_ns;
        let open_ns = self.open_ns();
        let stream = &mut self.streams[index];
        for event in events {
            match event.flags {
                SpikeEvent::HOST_TIME => self.last_ingest_ns = event.time_ns,
                SpikeEvent::CLOCK => {
                    if event.time_ns > stream.clock_ns {
                        stream.clock_ns = event.time_ns;
                        stream.clock_host_ns = self.last_ingest_ns;
                    }
                    if index == 0 {
                        self.offset.marker(event.time_ns, self.last_ingest_ns);
                    }
                }
                _ => {
                    self.totals.received += 1;
                    let unit = stream.unit_map.get(event.unit as usize).copied().unwrap_or(UNKNOWN);
                    if event.time_ns < open_ns {
                        let total = match unit {
                            UNKNOWN => &mut self.totals.unknown,
                            _ if event.time_ns < start_ns => &mut self.totals.before_start,
                            _ => &mut self.totals.late,
                        };
                        *total += 1;
                    } else if self.pending.len() == self.pending.capacity() {
                        self.totals.overflowed += 1;
                    } else {
                        self.pending_sorted &= self.pending.last().is_none_or(|&(time, _)| time <= event.time_ns);
                        self.pending.push((event.time_ns, unit));
                    }
                }
            }
        }
    }

    /// Closes the oldest open bin if it is due.
    pub fn close_next(&mut self) -> Option<ClosedBin> {
        self.can_close().then(|| self.close())
    }

    fn close(&mut self) -> ClosedBin {
        let close_host_ns = self.host_time_of_close();
        let begin_ns = self.open_ns();
        let end_ns = begin_ns + self.config.bin_ns;
        self.sort_pending();
        self.window.expire(end_ns - self.config.history_ns);
        self.counts.fill(0);
        self.early_counts.fill(0);
        let closing = self.pending.partition_point(|&(time, _)| time < end_ns);
        let mut spikes = 0;
        for &(time, unit) in &self.pending[..closing] {
            // Counted with their bin, and not when they came, so that a replay gives the same messages each time.
            if unit == UNKNOWN {
                self.totals.unknown += 1;
                continue;
            }
            spikes += 1;
            self.window.push(time, unit);
            self.counts[unit as usize] += 1;
            if time < begin_ns + self.config.early_ns {
                self.early_counts[unit as usize] += 1;
            }
        }
        self.pending.copy_within(closing.., 0);
        self.pending.truncate(self.pending.len() - closing);
        self.totals.binned += spikes;
        let index = self.open_bin;
        self.open_bin += 1;
        ClosedBin {
            index,
            end_ns,
            close_host_ns,
            spikes,
        }
    }

    /// Whether the oldest open bin is due now.
    pub fn can_close(&self) -> bool {
        self.streams.iter().any(|stream| stream.clock_ns != i64::MIN) && self.watermark_ns() >= self.open_due_ns()
    }

    /// Device time that every source has reached. A source that has ended holds nobody back; when all have, nothing
    /// late can come, and the grace is over too.
    fn watermark_ns(&self) -> i64 {
        let running = self
            .streams
            .iter()
            .filter(|stream| !stream.finished)
            .map(|stream| stream.clock_ns)
            .min();
        let ended = || {
            self.streams
                .iter()
                .map(|stream| stream.clock_ns.saturating_add(self.config.grace_ns))
                .max()
        };
        running.or_else(ended).unwrap_or(i64::MIN)
    }

    /// Device time, ns, of the start of the oldest open bin.
    pub fn open_ns(&self) -> i64 {
        self.config.start_ns + self.open_bin * self.config.bin_ns
    }

    /// Whether a bin has closed already.
    pub fn has_closed_a_bin(&self) -> bool {
        self.open_bin > 0
    }

    /// Device time, ns, at which the oldest open bin is due: its end and the grace.
    pub fn open_due_ns(&self) -> i64 {
        self.config.start_ns + (self.open_bin + 1) * self.config.bin_ns + self.config.grace_ns
    }

    /// Host time at which the open bin is due: of the last of the clocks that pass its end.
    fn host_time_of_close(&self) -> i64 {
        let due_ns = self.open_due_ns();
        let passing = self
            .streams
            .iter()
            .filter(|stream| stream.clock_ns >= due_ns || !stream.finished);
        passing
            .map(|stream| stream.host_time_of(due_ns))
            .max()
            .unwrap_or(self.last_ingest_ns)
    }

    /// Host time at which the open bin is expected to be due; `None` before the first clock marker and where no source
    /// runs by the clock.
    pub fn expected_close_ns(&self) -> Option<i64> {
        let clocked = |stream: &&Stream| {
            matches!(stream.pace, Pace::Clocked(_)) && stream.clock_ns != i64::MIN && !stream.finished
        };
        self.streams
            .iter()
            .filter(clocked)
            .map(|stream| stream.host_time_of(self.open_due_ns()))
            .max()
    }

    // Sources interleave by chance in the merge; sorting by (time, unit) makes the order theirs alone. A single source's
    // own order is kept where it is sorted by time.
    fn sort_pending(&mut self) {
        if self.streams.len() > 1 || !self.pending_sorted {
            self.pending.sort_unstable();
        }
        self.pending_sorted = true;
    }

    /// Whether every source has ended and its ring is empty.
    pub fn is_finished(&self) -> bool {
        self.streams.iter().all(|stream| stream.finished)
    }

    /// The window of spikes before `end_ns`, relative to its start: times in seconds (written to `times_s`), units.
    pub fn window<'a>(&'a self, end_ns: i64, times_s: &'a mut [f64]) -> (&'a [f64], &'a [u32]) {
        self.window.relative(end_ns - self.config.history_ns, times_s)
    }

    /// The spikes of the bin that closed last and ends at `end_ns`.
    pub fn spikes(&self, end_ns: i64) -> BinSpikes<'_> {
        let (times_ns, units) = self.window.since(end_ns - self.config.bin_ns);
        BinSpikes {
            end_ns,
            counts: &self.counts,
            times_ns,
            units,
        }
    }

    /// Whether the history before `end_ns` is complete: the run is old enough.
    pub fn history_is_complete(&self, end_ns: i64) -> bool {
        end_ns - self.config.history_ns >= self.config.start_ns
    }

    /// Counts of the bin that closed last, N.
    pub fn counts(&self) -> &[u32] {
        &self.counts
    }

    /// Counts of its first part ([`BinConfig::early_ns`]), N.
    pub fn early_counts(&self) -> &[u32] {
        &self.early_counts
    }

    /// What happened to the spikes so far.
    pub fn totals(&self) -> IngestTotals {
        self.totals
    }

    /// Spikes that wait for their bin to close.
    pub fn pending(&self) -> u64 {
        self.pending.len() as u64
    }

    /// Spikes pushed out of the history because it was full; they had been counted in a bin.
    pub fn pushed_out(&self) -> u64 {
        self.window.pushed_out()
    }

    /// Spikes that found a ring full, over all sources.
    pub fn ring_refused(&self) -> u64 {
        self.streams
            .iter()
            .map(|stream| stream.reader.counters().refused())
            .sum()
    }

    /// Host time, monotonic ns, of the last marker taken in.
    pub fn last_ingest_ns(&self) -> i64 {
        self.last_ingest_ns
    }

    /// The first source's clock against the host's: offset and its spread, ns.
    pub fn clock_offset(&self) -> (i64, i64) {
        (self.offset.offset_ns, self.offset.spread_ns)
    }

    /// Most spikes that [`BinAssembler::window`] can return.
    pub fn window_capacity(&self) -> usize {
        self.config.window_spikes.max(1)
    }
}
