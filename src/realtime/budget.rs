//! How much processor time real-time threads may take.

/// What the kernel allows unless told otherwise, and what is held to where it would allow all.
pub const DEFAULT_SHARE: f64 = 0.95;
/// Of what is allowed: taken without end, and on top of it at once.
const STEADY: f64 = 0.9;
const AT_ONCE: f64 = 0.05;

/// What the system allows real-time threads.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Allowance {
    /// Share of a core in every period.
    pub share: f64,
    /// The period, ns.
    pub period_ns: u64,
    /// Whether the system stops those that take more.
    pub enforced: bool,
}

impl Allowance {
    /// From `sched_rt_runtime_us` (−1: no limit) and `sched_rt_period_us`; what cannot be read is taken for the kernel's
    /// defaults. Never more than [`DEFAULT_SHARE`].
    pub fn from_texts(runtime_us: Option<&str>, period_us: Option<&str>) -> Self {
        let number = |text: Option<&str>| text.and_then(|text| text.trim().parse::<i64>().ok());
        let period_us = number(period_us).filter(|&period| period > 0).unwrap_or(1_000_000);
        let runtime_us = number(runtime_us);
        let share = match runtime_us {
            Some(runtime) if runtime >= 0 => runtime as f64 / period_us as f64,
            _ => DEFAULT_SHARE,
        };
        Self {
            share: share.min(DEFAULT_SHARE),
            period_ns: period_us as u64 * 1_000,
            enforced: runtime_us.is_some_and(|runtime| runtime >= 0 && runtime < period_us),
        }
    }

    /// This machine's.
    pub fn of_this_machine() -> Self {
        let read = |name: &str| std::fs::read_to_string(format!("/proc/sys/kernel/{name}")).ok();
        let (runtime, period) = (read("sched_rt_runtime_us"), read("sched_rt_period_us"));
        Self::from_texts(runtime.as_deref(), period.as_deref())
    }
}

/// A leaky bucket of processor time: what is used fills it, time empties it. In any period no more is used than it lets run
/// out plus what it holds, 95 % of what is allowed; the rest is for the time until someone looks.
#[derive(Clone, Debug)]
pub struct Budget {
    /// Emptied by so many ns a ns.
    rate: f64,
    holds_ns: f64,
    level_ns: f64,
    over: bool,
}

impl Budget {
    /// Of so many cores.
    pub fn new(allowance: Allowance, cores: usize) -> Self {
        let allowed = allowance.share * cores as f64;
        Self {
            rate: STEADY * allowed,
            holds_ns: AT_ONCE * allowed * allowance.period_ns as f64,
            level_ns: 0.0,
            over: false,
        }
    }

    /// `used_ns` were used in the last `passed_ns`. Says whether it is overdrawn: from when it runs over until it is empty.
    pub fn take(&mut self, used_ns: u64, passed_ns: u64) -> bool {
        self.level_ns = (self.level_ns + used_ns as f64 - self.rate * passed_ns as f64).max(0.0);
        self.over = self.level_ns > if self.over { 0.0 } else { self.holds_ns };
        self.over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICK_NS: u64 = 10_000_000;

    #[test]
    fn limits_are_read_as_the_kernel_writes_them() {
        let of = |runtime, period| Allowance::from_texts(runtime, period);
        let kernel = of(Some("950000\n"), Some("1000000\n"));
        assert_eq!(
            (kernel.share, kernel.period_ns, kernel.enforced),
            (0.95, 1_000_000_000, true)
        );
        assert_eq!(of(Some("400000"), Some("500000")).share, 0.8);
        // No limit, and a limit that is none.
        for runtime in ["-1\n", "1000000\n"] {
            let none = of(Some(runtime), Some("1000000"));
            assert_eq!((none.share, none.enforced), (DEFAULT_SHARE, false), "{runtime}");
        }
        let absent = of(None, None);
        assert_eq!((absent.share, absent.enforced), (DEFAULT_SHARE, false));
        assert_eq!(of(Some("0"), None).share, 0.0);
    }

    /// The most that a thread which takes all it gets uses in any period, as a share, and its share in the long run.
    fn greedy(allowance: Allowance) -> (f64, f64) {
        let mut budget = Budget::new(allowance, 1);
        let ticks = 10 * (allowance.period_ns / TICK_NS) as usize;
        let mut over = false;
        let used: Vec<u64> = (0..ticks)
            .map(|_| {
                let used = if over { 0 } else { TICK_NS };
                over = budget.take(used, TICK_NS);
                used
            })
            .collect();
        let period = (allowance.period_ns / TICK_NS) as usize;
        let most = used
            .windows(period)
            .map(|window| window.iter().sum::<u64>())
            .max()
            .unwrap();
        let all: u64 = used.iter().sum();
        (
            most as f64 / allowance.period_ns as f64,
            all as f64 / (ticks as u64 * TICK_NS) as f64,
        )
    }

    #[test]
    fn a_greedy_thread_stays_below_what_is_allowed_in_every_period() {
        for (runtime, allowed) in [("950000", 0.95), ("-1", 0.95), ("500000", 0.5)] {
            let (most, steady) = greedy(Allowance::from_texts(Some(runtime), None));
            assert!(most < allowed, "{most} of {allowed} in a period");
            // The looks are coarse: what is empty is noticed late.
            assert!(steady > 0.8 * allowed, "{steady} of {allowed} in the long run");
        }
    }

    #[test]
    fn work_below_the_budget_is_never_overdrawn() {
        let mut budget = Budget::new(Allowance::from_texts(None, None), 1);
        // 17 of every 20 ms, all at once.
        assert!((0..10_000).all(|tick| !budget.take(if tick % 2 == 0 { TICK_NS } else { 7_000_000 }, TICK_NS)));
    }
}
