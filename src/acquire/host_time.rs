//! The host's clock.

/// The host's monotonic time in ns (`CLOCK_MONOTONIC`; Python's `time.monotonic_ns()` reads the same clock).
pub fn monotonic_ns() -> i64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec * 1_000_000_000 + now.tv_nsec
}
