//! What the acquisition systems' sources and emulators share: the source, the unit list, the device's
//! clock, connections, counters.

pub mod clock;
pub mod collect;
pub mod counters;
pub mod datagrams;
mod delay;
pub mod device;
pub mod learn;
pub mod play;
mod shift;
pub mod spare;
pub mod tcp;
pub mod ticks;
pub mod units;

pub use clock::{ClockConfig, DeviceClock, Placed};
pub use counters::{WireCounters, WireReport};
pub(crate) use datagrams::RECEIVE_BUFFER;
pub use device::Device;
pub use spare::{SpareUnit, SpareUnits};
pub use units::UnitList;

/// Longest wait for data inside a poll, and so the longest time between two clock markers, ns.
pub(crate) const WAIT_NS: i64 = 500_000;
/// Bytes taken from a socket at once.
pub(crate) const READ_BYTES: usize = 65_536;
/// Reads in one poll before the source's thread looks at the run again. The clock is marked between polls: of garbage, which
/// is parsed most slowly, a poll's reads take less than a millisecond.
pub(crate) const READS: usize = 2;
