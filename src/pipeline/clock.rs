//! Host time, and how threads wait for it without burning a core.

use std::time::Duration;

pub use crate::acquire::host_time::monotonic_ns;
use crate::realtime::scheduling::set_timer_slack;

/// Wait of a thread whose data is due at this moment, ns. The system's timers add some 15 µs: a wait costs more to shorten than it
/// is worth below this.
const DUE_POLL_NS: i64 = 10_000;
/// For so long after the expected time data is due at this moment, ns.
const DUE_NS: i64 = 1_000_000;
/// Wait of a thread whose data may come any moment, ns.
const SHORT_POLL_NS: i64 = 50_000;
/// A thread wakes this long before the data that it expects, ns (the 99.9th percentile of an idle machine's timer).
const WAKE_EARLY_NS: i64 = 300_000;
/// Longest wait, ns: what arrives in between is taken in at least this often.
const LONG_WAIT_NS: i64 = 5_000_000;
/// Data that is overdue by this much, ns, is waited for in the waits of [`OVERDUE_POLL_NS`].
const OVERDUE_NS: i64 = 100_000_000;
/// Poll of a thread whose data is long overdue (a device that stopped), ns.
const OVERDUE_POLL_NS: i64 = 1_000_000;

/// How long to sleep at `now_ns` when the next data is expected at `expected_ns` (`None`: any moment).
///
/// Sleeps of at most 5 ms until shortly before the expected time, then polls of 10 µs, of 50 µs once the data is late, and of 1 ms
/// where a device must have stopped.
pub(crate) fn wait_for(now_ns: i64, expected_ns: Option<i64>) -> Duration {
    let wait = match expected_ns {
        None => SHORT_POLL_NS,
        Some(expected) if now_ns - expected > OVERDUE_NS => OVERDUE_POLL_NS,
        Some(expected) if now_ns - expected > DUE_NS => SHORT_POLL_NS,
        Some(expected) => (expected - WAKE_EARLY_NS - now_ns).clamp(DUE_POLL_NS, LONG_WAIT_NS),
    };
    Duration::from_nanos(wait as u64)
}

/// Asks for timers of the calling thread that are exact to a microsecond (Linux rounds sleeps by 50 µs otherwise).
pub(crate) fn use_precise_timers() {
    // A kernel that refuses leaves the timers as they are: later, not wrong.
    let _ = set_timer_slack();
}

/// What is known of the offset host − device from the clock markers of one second.
///
/// A marker arrives late and never early, so the least offset is the best estimate, and the spread bounds its error.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct OffsetEstimate {
    second: i64,
    least: i64,
    most: i64,
    /// Host − device time in ns, of the last whole second (or of the first markers).
    pub offset_ns: i64,
    /// Spread of the markers' offsets in that second, ns.
    pub spread_ns: i64,
    started: bool,
}

impl OffsetEstimate {
    /// Takes in a marker: the device's time, and the host's when it was seen.
    pub fn marker(&mut self, device_ns: i64, host_ns: i64) {
        let (offset, second) = (host_ns - device_ns, host_ns / 1_000_000_000);
        if !self.started || second != self.second {
            if self.started {
                (self.offset_ns, self.spread_ns) = (self.least, self.most - self.least);
            } else {
                (self.offset_ns, self.spread_ns) = (offset, 0);
            }
            (self.second, self.least, self.most, self.started) = (second, offset, offset, true);
        }
        self.least = self.least.min(offset);
        self.most = self.most.max(offset);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_shrink_as_the_data_comes_near() {
        let micros = |now, expected| wait_for(now, expected).as_micros();
        assert_eq!(micros(0, Some(20_000_000)), 5_000);
        assert_eq!(micros(18_000_000, Some(20_000_000)), 1_700);
        assert_eq!(micros(19_900_000, Some(20_000_000)), 10);
        assert_eq!(micros(20_900_000, Some(20_000_000)), 10);
        assert_eq!(micros(21_500_000, Some(20_000_000)), 50);
        assert_eq!(micros(20_500_000, None), 50);
        assert_eq!(micros(200_000_000, Some(20_000_000)), 1_000);
    }

    #[test]
    fn the_offset_is_the_least_of_the_last_second() {
        let mut estimate = OffsetEstimate::default();
        for (device, host) in [(0, 500), (100, 550), (200, 900)] {
            estimate.marker(device, host);
        }
        estimate.marker(999_999_999, 1_000_000_499);
        assert_eq!((estimate.offset_ns, estimate.spread_ns), (450, 250));
    }
}
