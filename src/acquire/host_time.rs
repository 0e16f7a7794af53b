//! The host's clock.

/// A poll whose time is so far from the system's, ns, goes by another clock.
const OTHER_CLOCK_NS: u64 = 10_000_000_000;

/// The host's monotonic time in ns (`CLOCK_MONOTONIC`; Python's `time.monotonic_ns()` reads the same clock).
pub fn monotonic_ns() -> i64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec * 1_000_000_000 + now.tv_nsec
}

/// The host's time at the moments at which a source's thread receives.
#[derive(Clone, Copy, Debug)]
pub struct HostClock {
    /// The time of a poll that goes by another clock than the system's, as a test does: it stands still meanwhile.
    still_ns: Option<i64>,
}

impl HostClock {
    /// In a poll that began at `now_ns`.
    pub fn of_poll(now_ns: i64) -> Self {
        let differs_ns = monotonic_ns().saturating_sub(now_ns).unsigned_abs();
        Self {
            still_ns: (differs_ns > OTHER_CLOCK_NS).then_some(now_ns),
        }
    }

    /// The time now, ns. To be read after what came was received: a thread that is kept from running in between would otherwise
    /// take what was sent meanwhile for older than it is, and the device's clock for ahead.
    pub fn now_ns(&self) -> i64 {
        self.still_ns.unwrap_or_else(monotonic_ns)
    }
}
