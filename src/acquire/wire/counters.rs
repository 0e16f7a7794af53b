//! What became of everything that a device sent.

use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use serde::Serialize;

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident: $label:literal,)*) => {
        /// Counts of a source, written by its thread and readable from any.
        #[derive(Debug, Default)]
        pub struct WireCounters {
            $($(#[$doc])* pub $name: AtomicU64,)*
        }

        /// A look at [`WireCounters`].
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
        pub struct WireReport {
            $($(#[$doc])* pub $name: u64,)*
        }

        impl WireCounters {
            /// The counts so far.
            pub fn report(&self) -> WireReport {
                WireReport { $($name: self.$name.load(Relaxed),)* }
            }
        }

        impl fmt::Display for WireReport {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{} spikes", self.spikes)?;
                $(if self.$name > 0 && stringify!($name) != "spikes" {
                    write!(f, ", {} {}", self.$name, $label)?;
                })*
                Ok(())
            }
        }
    };
}

counters! {
    /// Spikes handed on to the run, those of units that are not listed among them.
    spikes: "spikes",
    /// Of the spikes: of units that the configuration does not list; the run counts them as unknown.
    unlisted: "of units that are not listed",
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
