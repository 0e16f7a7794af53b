//! How late timers are, measured.

use std::time::{Duration, Instant};

use super::finding::Finding;
use crate::pipeline::{Latency, LatencySummary};
use crate::realtime::scheduling::{make_real_time, set_timer_slack};
use crate::realtime::{Role, Settings};

/// A timer of a source's tick, for a second.
const TICK: Duration = Duration::from_millis(1);
const TICKS: u32 = 1_000;
/// A real-time timer that is later than this once in a thousand, µs, costs deadlines.
const LATE_US: f64 = 1_000.0;

/// How late 1 ms timers were, for a second each: of an ordinary thread, and of a real-time one where that is allowed.
pub fn measure_both() -> (Option<LatencySummary>, Option<LatencySummary>) {
    (
        measure(None),
        measure(Settings::recommended().priority_of(Role::Decode)),
    )
}

/// On a thread of its own; none where that does not get the priority.
fn measure(priority: Option<u8>) -> Option<LatencySummary> {
    let measured = std::thread::spawn(move || {
        // As the run's threads have it.
        let _ = set_timer_slack();
        if priority.is_some_and(|priority| !make_real_time("timer", 0, priority).is_done()) {
            return None;
        }
        let mut lateness = Latency::default();
        let begun = Instant::now();
        for tick in 1..=TICKS {
            let due = begun + TICK * tick;
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            lateness.record(Instant::now().saturating_duration_since(due).as_nanos() as i64);
        }
        Some(lateness.summary())
    });
    measured.join().ok().flatten()
}

fn percentiles(of: &LatencySummary) -> String {
    format!("{:.0} / {:.0} / {:.0} µs", of.p50_us, of.p99_us, of.p999_us)
}

/// What was measured.
pub fn lateness(ordinary: Option<LatencySummary>, real_time: Option<LatencySummary>) -> Finding {
    const NAME: &str = "timer lateness";
    let ordinary_text = ordinary.as_ref().map_or("not measured".into(), percentiles);
    let Some(real_time) = real_time else {
        return Finding::note(
            NAME,
            format!("p50 / p99 / p99.9 {ordinary_text} in a second; SCHED_FIFO is not allowed"),
        );
    };
    let now = format!(
        "p50 / p99 / p99.9 {ordinary_text} in a second, with SCHED_FIFO {}",
        percentiles(&real_time)
    );
    let tail = ordinary.map_or(0.0, |of| of.p999_us);
    let worth = format!(
        "`run --realtime`: p99.9 from {tail:.0} to {:.0} µs, measured just now",
        real_time.p999_us
    );
    if real_time.p999_us > LATE_US {
        return Finding::change(NAME, now)
            .by("see preemption, idle states and virtualisation: something below the programs holds the cores")
            .worth(worth);
    }
    Finding::good(NAME, now).worth(worth)
}

/// Timer slack of an ordinary thread; a run's threads set their own.
pub fn slack() -> Finding {
    const NAME: &str = "timer slack";
    match sys::slack_ns() {
        Some(ns) => Finding::good(
            NAME,
            format!("{} µs; a run's threads set 1 µs for themselves", ns / 1_000),
        ),
        None => Finding::note(NAME, "unknown: this system has none or does not say"),
    }
}

#[cfg(target_os = "linux")]
mod sys {
    pub fn slack_ns() -> Option<u64> {
        rustix::thread::current_timer_slack().ok()
    }
}

#[cfg(not(target_os = "linux"))]
mod sys {
    pub fn slack_ns() -> Option<u64> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    fn summary(p999_us: f64) -> Option<LatencySummary> {
        Some(LatencySummary {
            count: 1_000,
            p50_us: 50.0,
            p99_us: 100.0,
            p999_us,
            max_us: p999_us,
        })
    }

    #[test]
    fn late_real_time_timers_are_a_fault_and_late_ordinary_ones_are_not() {
        let good = lateness(summary(2_700.0), summary(256.0));
        assert_eq!(good.verdict, Verdict::Good);
        assert!(good.worth.unwrap().contains("from 2700 to 256 µs"));
        assert_eq!(lateness(summary(90.0), summary(1_500.0)).verdict, Verdict::Change);
        assert_eq!(lateness(summary(90.0), None).verdict, Verdict::Note);
    }

    #[test]
    fn a_second_of_timers_is_measured() {
        let measured = measure(None).unwrap();
        assert_eq!(measured.count, u64::from(TICKS));
        assert!(measured.p50_us > 0.0 && measured.p50_us <= measured.max_us);
    }
}
