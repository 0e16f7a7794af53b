//! The clock of sources that have no device behind them: it delivers in ticks, as a device delivers packets.

use super::Pace;

/// Turns host time into the device time that is due, in whole ticks.
///
/// Ticks start at the source's start, so that a bin width that is a multiple of the tick closes on a tick.
#[derive(Clone, Debug)]
pub struct Pacer {
    pace: Pace,
    start_ns: i64,
    tick_ns: i64,
    host_start_ns: i64,
    next_tick: i64,
}

/// What a [`Pacer`] says is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Due {
    /// Everything before this device time.
    Until(i64),
    /// Nothing before this host time.
    At(i64),
}

impl Pacer {
    /// A pacer whose device clock starts at `start_ns` and delivers every `tick_ns` (at least 1).
    pub fn new(pace: Pace, start_ns: i64, tick_ns: i64) -> Self {
        Self {
            pace,
            start_ns,
            tick_ns: tick_ns.max(1),
            host_start_ns: 0,
            next_tick: 1,
        }
    }

    /// How the clock runs.
    pub fn pace(&self) -> Pace {
        self.pace
    }

    /// Lets device time `start_ns` be host time `host_ns`.
    pub fn start(&mut self, host_ns: i64) {
        self.host_start_ns = host_ns;
        self.next_tick = 1;
    }

    /// What is due at host time `now_ns`. A clock that fell behind catches up in one step.
    pub fn due(&mut self, now_ns: i64) -> Due {
        match self.pace {
            Pace::AsFast => self.take(self.next_tick),
            Pace::Clocked(speed) => {
                let passed = ((now_ns - self.host_start_ns) as f64 * speed / self.tick_ns as f64).floor() as i64;
                if passed < self.next_tick {
                    let host = self.next_tick as f64 * self.tick_ns as f64 / speed;
                    return Due::At(self.host_start_ns + host.ceil() as i64);
                }
                self.take(passed)
            }
        }
    }

    fn take(&mut self, tick: i64) -> Due {
        self.next_tick = tick + 1;
        Due::Until(self.start_ns + tick * self.tick_ns)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_follow_the_host_clock_at_the_given_speed() {
        let mut pacer = Pacer::new(Pace::Clocked(2.0), 1_000, 100);
        pacer.start(50_000);
        // The first tick, device 1 100, is 50 host ns after the start at twice the speed of life.
        assert_eq!(pacer.due(50_000), Due::At(50_050));
        assert_eq!(pacer.due(50_050), Due::Until(1_100));
        assert_eq!(pacer.due(50_051), Due::At(50_100));
        // 5 ticks late: one step.
        assert_eq!(pacer.due(50_340), Due::Until(1_600));
    }

    #[test]
    fn as_fast_gives_a_tick_a_call() {
        let mut pacer = Pacer::new(Pace::AsFast, 0, 10);
        pacer.start(7);
        assert_eq!(pacer.due(0), Due::Until(10));
        assert_eq!(pacer.due(0), Due::Until(20));
    }
}
