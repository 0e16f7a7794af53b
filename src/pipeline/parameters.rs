//! What may change while a run goes on: numbers that anybody may set, and that the hot threads read bin by bin.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

use super::deadline::Deadline;

/// A rate that stands for no limit: JSON has no infinity.
pub const NO_LIMIT_HZ: f64 = f64::MAX;
/// Lowest limit of a rate, spikes a second: its logarithm in the shortest bin is still a number.
pub const LEAST_LIMIT_HZ: f64 = 1e-3;
/// Stands for a time that is not set.
const UNSET: i64 = 0;

/// Values of the parameters, or new ones for some of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ParameterValues {
    /// From a bin's close to its publication, ms.
    pub deadline_ms: Option<f64>,
    /// From a bin's close to the mean rates that are published where the decode thread is stuck, ms.
    pub stuck_after_ms: Option<f64>,
    /// Most spikes a second that are predicted of any unit that has no limit of its own; [`NO_LIMIT_HZ`]: no limit.
    pub most_rate_hz: Option<f64>,
    /// Longest time between two heartbeats of the consumer, ms.
    pub heartbeat_ms: Option<f64>,
}

/// The same, shared by a run's threads.
#[derive(Debug)]
pub struct Parameters {
    /// Whether time means nothing: sources run as fast as they may.
    timeless: bool,
    deadline_ns: AtomicI64,
    stuck_after_ns: AtomicI64,
    /// Bits of an f64; infinite where there is no limit.
    most_rate_hz: AtomicU64,
    /// Whether there is a heartbeat at all does not change in a run.
    heartbeat_ns: AtomicI64,
    /// Held by whoever sets them, so that what was checked is what is stored; never by those who read them.
    setting: Mutex<()>,
}

fn ms(ns: i64) -> Option<f64> {
    (ns != UNSET).then_some(ns as f64 * 1e-6)
}

/// Milliseconds between 0.1 and an hour as ns.
fn to_ns(key: &str, ms: f64) -> Result<i64, String> {
    if (0.1..=3.6e6).contains(&ms) {
        Ok((ms * 1e6).round() as i64)
    } else {
        Err(format!("{key} = {ms} is not between 0.1 ms and an hour"))
    }
}

impl Parameters {
    /// At the start. `deadline_ns` is none where time means nothing; a run then has no deadline, ever.
    pub(crate) fn new(
        deadline_ns: Option<i64>,
        stuck_after_ns: Option<i64>,
        most_rate_hz: Option<f64>,
        heartbeat_ns: Option<i64>,
    ) -> Self {
        Self {
            timeless: deadline_ns.is_none(),
            deadline_ns: AtomicI64::new(deadline_ns.unwrap_or(UNSET)),
            stuck_after_ns: AtomicI64::new(stuck_after_ns.unwrap_or(UNSET)),
            most_rate_hz: AtomicU64::new(most_rate_hz.unwrap_or(f64::INFINITY).to_bits()),
            heartbeat_ns: AtomicI64::new(heartbeat_ns.unwrap_or(UNSET)),
            setting: Mutex::default(),
        }
    }

    /// The deadline as it stands.
    pub(crate) fn deadline(&self) -> Deadline {
        let budget_ns = Some(self.deadline_ns.load(Relaxed)).filter(|&ns| ns != UNSET);
        Deadline { budget_ns }
    }

    /// From a bin's close to what stands in for it, ns; none where time means nothing.
    pub(crate) fn stuck_after_ns(&self) -> Option<i64> {
        Some(self.stuck_after_ns.load(Relaxed)).filter(|&ns| ns != UNSET)
    }

    /// Most spikes a second of any unit without a limit of its own; infinite: no limit.
    pub(crate) fn most_rate_hz(&self) -> f64 {
        f64::from_bits(self.most_rate_hz.load(Relaxed))
    }

    /// Longest time between two heartbeats, ns; none where there need not be any.
    pub(crate) fn heartbeat_ns(&self) -> Option<i64> {
        Some(self.heartbeat_ns.load(Relaxed)).filter(|&ns| ns != UNSET)
    }

    /// The values as they stand.
    pub fn values(&self) -> ParameterValues {
        ParameterValues {
            deadline_ms: ms(self.deadline_ns.load(Relaxed)),
            stuck_after_ms: ms(self.stuck_after_ns.load(Relaxed)),
            most_rate_hz: Some(self.most_rate_hz()).filter(|rate| rate.is_finite()),
            heartbeat_ms: ms(self.heartbeat_ns.load(Relaxed)),
        }
    }

    /// Sets those that are given: all of them, or, where one cannot be, none.
    ///
    /// # Errors
    /// One sentence about the first that cannot be.
    pub fn set(&self, new: &ParameterValues) -> Result<(), String> {
        let _setting = self.setting.lock().unwrap_or_else(PoisonError::into_inner);
        let time = |key: &str, ms: Option<f64>| ms.map(|ms| to_ns(key, ms)).transpose();
        let deadline_ns = time("deadline_ms", new.deadline_ms)?;
        let stuck_after_ns = time("stuck_after_ms", new.stuck_after_ms)?;
        let heartbeat_ns = time("heartbeat_ms", new.heartbeat_ms)?;
        if self.timeless && (deadline_ns.is_some() || stuck_after_ns.is_some()) {
            return Err("this run goes as fast as it can: it has no deadline".into());
        }
        let deadline = deadline_ns.unwrap_or(self.deadline_ns.load(Relaxed));
        let stuck_after = stuck_after_ns.unwrap_or(self.stuck_after_ns.load(Relaxed));
        if !self.timeless && stuck_after < deadline {
            return Err(format!(
                "stuck_after_ms = {} is before deadline_ms = {}",
                stuck_after as f64 * 1e-6,
                deadline as f64 * 1e-6
            ));
        }
        if heartbeat_ns.is_some() && self.heartbeat_ns.load(Relaxed) == UNSET {
            return Err(
                "this run was started without a heartbeat (guards.heartbeat_ms): it cannot be asked for now".into(),
            );
        }
        if let Some(rate) = new.most_rate_hz.filter(|rate| rate.is_nan() || *rate < LEAST_LIMIT_HZ) {
            return Err(format!("most_rate_hz = {rate} is below {LEAST_LIMIT_HZ}"));
        }
        for (cell, ns) in [
            (&self.deadline_ns, deadline_ns),
            (&self.stuck_after_ns, stuck_after_ns),
            (&self.heartbeat_ns, heartbeat_ns),
        ] {
            if let Some(ns) = ns {
                cell.store(ns, Relaxed);
            }
        }
        if let Some(rate) = new.most_rate_hz {
            let rate = if rate < NO_LIMIT_HZ { rate } else { f64::INFINITY };
            self.most_rate_hz.store(rate.to_bits(), Relaxed);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parameters() -> Parameters {
        Parameters::new(Some(20_000_000), Some(40_000_000), None, None)
    }

    #[test]
    fn what_is_set_is_read_and_the_rest_stays() {
        let all = parameters();
        all.set(&ParameterValues {
            deadline_ms: Some(15.0),
            most_rate_hz: Some(300.0),
            ..Default::default()
        })
        .unwrap();
        assert_eq!(all.deadline().budget_ns, Some(15_000_000));
        assert_eq!(all.stuck_after_ns(), Some(40_000_000));
        assert_eq!(
            all.values(),
            ParameterValues {
                deadline_ms: Some(15.0),
                stuck_after_ms: Some(40.0),
                most_rate_hz: Some(300.0),
                heartbeat_ms: None,
            }
        );
        all.set(&ParameterValues {
            most_rate_hz: Some(NO_LIMIT_HZ),
            ..Default::default()
        })
        .unwrap();
        assert_eq!((all.most_rate_hz(), all.values().most_rate_hz), (f64::INFINITY, None));
    }

    #[test]
    fn two_at_once_do_not_set_what_neither_could_alone() {
        let [late, stuck_early] =
            [(Some(80.0), None), (None, Some(50.0))].map(|(deadline_ms, stuck_after_ms)| ParameterValues {
                deadline_ms,
                stuck_after_ms,
                ..Default::default()
            });
        for _ in 0..20_000 {
            let all = Parameters::new(Some(20_000_000), Some(100_000_000), None, None);
            let begin = std::sync::Barrier::new(2);
            let set = |values| {
                begin.wait();
                all.set(values).is_ok()
            };
            let (first, second) = std::thread::scope(|scope| {
                let first = scope.spawn(|| set(&late));
                (set(&stuck_early), first.join().unwrap())
            });
            assert_ne!(first, second, "{:?}", all.values());
        }
    }

    #[test]
    fn what_cannot_be_changes_nothing() {
        let all = parameters();
        let before = all.values();
        for (values, named) in [
            (
                ParameterValues {
                    deadline_ms: Some(f64::NAN),
                    ..Default::default()
                },
                "deadline_ms = NaN",
            ),
            (
                ParameterValues {
                    deadline_ms: Some(50.0),
                    most_rate_hz: Some(1.0),
                    ..Default::default()
                },
                "before deadline_ms = 50",
            ),
            (
                ParameterValues {
                    most_rate_hz: Some(5e-324),
                    deadline_ms: Some(1.0),
                    ..Default::default()
                },
                "is below 0.001",
            ),
            (
                ParameterValues {
                    heartbeat_ms: Some(100.0),
                    ..Default::default()
                },
                "without a heartbeat",
            ),
        ] {
            let error = all.set(&values).unwrap_err();
            assert!(error.contains(named), "{error}");
            assert_eq!(all.values(), before);
        }
        let timeless = Parameters::new(None, None, None, None);
        let values = ParameterValues {
            deadline_ms: Some(5.0),
            ..Default::default()
        };
        assert!(timeless.set(&values).unwrap_err().contains("no deadline"));
        assert_eq!(timeless.deadline().budget_ns, None);
    }
}
