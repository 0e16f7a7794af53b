//! A source as the assembler of bins sees it.

use super::super::ring::EventReader;
use crate::acquire::Pace;

/// A source's ring, and how far its clock has come.
pub(super) struct Stream {
    pub reader: EventReader,
    pub pace: Pace,
    pub unit_map: Box<[u32]>,
    pub clock_ns: i64,
    pub clock_host_ns: i64,
    pub finished: bool,
}

impl Stream {
    /// Host time at which this stream's clock passed (or will pass) `device_ns`.
    pub fn host_time_of(&self, device_ns: i64) -> i64 {
        match self.pace {
            Pace::AsFast => self.clock_host_ns,
            Pace::Clocked(speed) => {
                self.clock_host_ns - ((self.clock_ns.saturating_sub(device_ns)) as f64 / speed) as i64
            }
        }
    }
}
