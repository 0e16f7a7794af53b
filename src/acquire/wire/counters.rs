//! What became of everything that a device sent.

use std::fmt;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

use serde::Serialize;

use super::clock::Relation;

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident: $label:literal,)*) => {
        /// Counts of a source, written by its thread and readable from any.
        #[derive(Debug, Default)]
        pub struct WireCounters {
            $($(#[$doc])* pub $name: AtomicU64,)*
            /// How the device's clock stands to the host's.
            pub clock: ClockCells,
        }

        /// A look at [`WireCounters`].
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
        pub struct WireReport {
            $($(#[$doc])* pub $name: u64,)*
            /// How the device's clock stands to the host's, once something has come.
            pub clock: Option<ClockReport>,
        }

        impl WireCounters {
            /// The counts so far.
            pub fn report(&self) -> WireReport {
                WireReport { $($name: self.$name.load(Relaxed),)* clock: self.clock.report() }
            }
        }

        impl fmt::Display for WireReport {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{} spikes", self.spikes)?;
                $(if self.$name > 0 && stringify!($name) != "spikes" {
                    write!(f, ", {} {}", self.$name, $label)?;
                })*
                match self.clock {
                    None => Ok(()),
                    Some(clock) => write!(f, "; {clock}"),
                }
            }
        }
    };
}

counters! {
    /// Spikes handed on to the run, those of units that are not listed among them.
    spikes: "spikes",
    /// Of the spikes: of units that the configuration does not list; the run counts them as unknown.
    unlisted: "of units that are not listed",
    /// Spikes that had come before the run began; not handed on.
    before_the_run: "spikes before the run",
    /// Times that the device was reached.
    connections: "connections",
    /// Times that it was lost.
    disconnections: "times lost",
    /// Time without it since the first connection, ms.
    away_ms: "ms without the device",
    /// Bytes taken in.
    bytes: "bytes",
    /// Bytes that belong to no record: skipped to find the next one, or left over at the end of a connection.
    discarded_bytes: "bytes discarded",
    /// Times that the next record of a stream was not where the one before ended, and had to be looked for.
    resyncs: "times the place in the stream was lost",
    /// Whole messages or datagrams that cannot be read, or are too long.
    malformed: "messages unreadable",
    /// Records or messages that are no spikes: heartbeats, continuous signals, events.
    other: "records of other kinds",
    /// Spikes marked as artifacts or noise whose unit is not listed; not handed on.
    artifacts: "artifacts",
    /// Spikes of another stream than the one taken; not handed on.
    other_streams: "spikes of other streams",
    /// Spikes that came before the protocol or the unit of its clock was known; not handed on.
    undecided: "spikes before the protocol was known",
    /// Spikes and samples whose time lies far from the device's clock; not handed on.
    implausible_times: "with an implausible time",
    /// Times that the device's clock began anew; the spikes that showed it are handed on from the last of them on.
    clock_resets: "clock resets",
    /// Records or messages that the device counted and that never came.
    lost: "lost on the way",
    /// Samples of series handed on to the run.
    samples: "samples",
    /// Packets that came twice, or too late to tell; not used.
    duplicates: "packets that had come before",
    /// Events that the device itself could not send.
    refused_by_device: "refused by the device",
}

impl WireCounters {
    /// Whether the device is not there: not reached yet, or lost and not reached again.
    pub fn is_away(&self) -> bool {
        self.disconnections.load(Relaxed) >= self.connections.load(Relaxed)
    }

    /// Times that the device's clock began anew.
    pub fn clock_resets(&self) -> u64 {
        self.clock_resets.load(Relaxed)
    }

    /// Everything that is known to have been lost before it could be handed on, in the units in which it was noticed.
    pub fn losses(&self) -> u64 {
        let lost = [
            &self.lost,
            &self.discarded_bytes,
            &self.malformed,
            &self.undecided,
            &self.implausible_times,
            &self.refused_by_device,
        ];
        lost.iter().map(|counter| counter.load(Relaxed)).sum()
    }
}

/// Drift that is not known yet.
const UNKNOWN: i64 = i64::MIN;

/// How a device's clock stands to the host's, written by the source's thread.
#[derive(Debug, Default)]
pub struct ClockCells {
    /// 0: nothing is known; 1: from what comes; 2: from exchanges.
    known: AtomicU64,
    offset_ns: AtomicI64,
    uncertainty_ns: AtomicI64,
    drift_ppb: AtomicI64,
}

/// How a device's clock stands to the host's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct ClockReport {
    /// Host time (monotonic) less device time, ns; where there was no exchange, more than that by what the quickest record
    /// takes to come.
    pub offset_ns: i64,
    /// Bound of its error, ns; where there was no exchange, how much the time varies that records take.
    pub uncertainty_ns: i64,
    /// How much longer the device's second is than the host's, parts in 10⁹, once that is known.
    pub drift_ppb: Option<i64>,
    /// Whether the device answers questions for its time.
    pub exchanged: bool,
}

impl ClockCells {
    pub(super) fn store(&self, relation: &Relation) {
        self.offset_ns.store(relation.offset_ns, Relaxed);
        self.uncertainty_ns.store(relation.uncertainty_ns, Relaxed);
        let drift = relation.drift_ppm.map_or(UNKNOWN, |ppm| (ppm * 1e3).round() as i64);
        self.drift_ppb.store(drift, Relaxed);
        self.known.store(1 + u64::from(relation.exchanged), Relaxed);
    }

    fn report(&self) -> Option<ClockReport> {
        let known = self.known.load(Relaxed);
        (known > 0).then(|| ClockReport {
            offset_ns: self.offset_ns.load(Relaxed),
            uncertainty_ns: self.uncertainty_ns.load(Relaxed),
            drift_ppb: Some(self.drift_ppb.load(Relaxed)).filter(|&drift| drift != UNKNOWN),
            exchanged: known == 2,
        })
    }
}

impl fmt::Display for ClockReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (offset_s, uncertainty_ms) = (self.offset_ns as f64 * 1e-9, self.uncertainty_ns as f64 * 1e-6);
        write!(f, "host − device {offset_s:.6} s ± {uncertainty_ms:.3} ms")?;
        if !self.exchanged {
            write!(f, " (and what the quickest record takes)")?;
        }
        match self.drift_ppb {
            Some(drift) => write!(f, ", drift {:.2} ppm", drift as f64 * 1e-3),
            None => Ok(()),
        }
    }
}

/// Adds to a counter that only this thread writes.
pub(crate) fn add(counter: &AtomicU64, count: u64) {
    counter.fetch_add(count, Relaxed);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_names_what_happened_and_nothing_else() {
        let counters = WireCounters::default();
        add(&counters.spikes, 12);
        add(&counters.discarded_bytes, 3);
        assert_eq!(counters.report().to_string(), "12 spikes, 3 bytes discarded");
    }
}
