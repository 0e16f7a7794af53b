//! A device's clock beside the host's: where a spike belongs in the run, and how far the run may go on.
//!
//! The run's time starts when the run does and goes on with the host's clock while the device is silent or away. The
//! first spike fixes the device's clock to it; from there on the device's clock alone says where spikes are. Records
//! come late and never early, so the least delay of the last seconds tells the two clocks' drift from the delays of
//! delivery, and the run's time is that of the host less that delay, less `lateness_ns`.

use super::delay::LeastDelay;

/// A window over which the least delay is taken, ns of host time; the last whole one counts too.
const WINDOW_NS: i64 = 10_000_000_000;
/// A time further than this from what the two clocks say is implausible, ns of host time.
const TOLERANCE_NS: i64 = 1_000_000_000;
/// The same for the first record after a silence or a lost connection.
const FRESH_TOLERANCE_NS: i64 = 250_000_000;
/// So many implausible times in a row that agree among themselves are a clock that began anew.
const AGREEING: u32 = 8;
/// Most drift of a device's clock against the host's, as a share.
const DRIFT: f64 = 1e-3;

/// How a device's clock is taken.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ClockConfig {
    /// Device seconds a host second: 1, but for an emulator that plays at another speed.
    pub speed: f64,
    /// How much later than the quickest spikes others may come, ns of device time.
    pub lateness_ns: i64,
    /// When the run ends, ns of device time; without it when it is told to.
    pub end_ns: Option<i64>,
}

/// Where a record belongs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Placed {
    /// At this time of the run, ns.
    At(i64),
    /// At this time of the run, ns, after the device's clock began anew.
    Reset(i64),
    /// Nowhere: far from what the clocks say.
    Implausible,
}

#[derive(Clone, Copy, Debug)]
struct Suspect {
    device_ns: i64,
    host_ns: i64,
    count: u32,
}

/// A device's clock beside the host's. Never allocates.
#[derive(Clone, Debug)]
pub struct DeviceClock {
    config: ClockConfig,
    host_start_ns: i64,
    /// Device time at the run's time 0.
    origin_ns: Option<i64>,
    /// Run time of the newest record, and the host's when it came.
    newest_ns: i64,
    newest_host_ns: i64,
    least: LeastDelay,
    window_host_ns: i64,
    reached_ns: i64,
    fresh: bool,
    suspect: Option<Suspect>,
}

impl DeviceClock {
    /// A clock whose run starts at host time 0 until [`DeviceClock::start`].
    pub fn new(config: ClockConfig) -> Self {
        Self {
            config,
            host_start_ns: 0,
            origin_ns: None,
            newest_ns: 0,
            newest_host_ns: 0,
            least: LeastDelay::new(),
            window_host_ns: 0,
            reached_ns: 0,
            fresh: true,
            suspect: None,
        }
    }

    /// Device seconds a host second.
    pub fn speed(&self) -> f64 {
        self.config.speed
    }

    /// When the run ends, ns of device time.
    pub fn end_ns(&self) -> Option<i64> {
        self.config.end_ns
    }

    /// Lets the run's time 0 be host time `host_ns`.
    pub fn start(&mut self, host_ns: i64) {
        self.host_start_ns = host_ns;
        self.window_host_ns = host_ns;
    }

    /// The connection is new, or was silent: the device may have been started anew.
    pub fn fresh(&mut self) {
        self.fresh = true;
        self.suspect = None;
    }

    /// The run's time by the host's clock.
    fn run_ns(&self, host_ns: i64) -> i64 {
        (host_ns.saturating_sub(self.host_start_ns) as f64 * self.config.speed) as i64
    }

    fn scaled(&self, ns: i64) -> i64 {
        (ns as f64 * self.config.speed) as i64
    }

    fn note_delay(&mut self, delay_ns: i64, host_ns: i64) {
        if host_ns.saturating_sub(self.window_host_ns) >= WINDOW_NS {
            self.least.next_window();
            self.window_host_ns = host_ns;
        }
        self.least.note(delay_ns);
    }

    /// Places a record of device time `device_ns` that was seen at host time `host_ns`.
    pub fn place(&mut self, device_ns: i64, host_ns: i64) -> Placed {
        let here = self.run_ns(host_ns);
        let Some(origin) = self.origin_ns else {
            return Placed::At(self.anchor(device_ns, host_ns));
        };
        let time = device_ns.saturating_sub(origin);
        let expected = here.saturating_sub(self.least.get());
        let drift = host_ns.saturating_sub(self.newest_host_ns).max(0) as f64 * self.config.speed * DRIFT;
        let tolerance = drift as i64 + self.scaled(if self.fresh { FRESH_TOLERANCE_NS } else { TOLERANCE_NS });
        // What waited in a buffer goes on where the newest record left off, however long ago that was.
        let earliest = if self.fresh {
            expected
        } else {
            expected.min(self.newest_ns)
        };
        if time < earliest.saturating_sub(tolerance) || time > expected.saturating_add(tolerance) {
            return self.implausible(device_ns, host_ns);
        }
        self.take(time, host_ns);
        Placed::At(time)
    }

    fn take(&mut self, time_ns: i64, host_ns: i64) {
        self.note_delay(self.run_ns(host_ns).saturating_sub(time_ns), host_ns);
        self.newest_ns = time_ns;
        self.newest_host_ns = host_ns;
        self.fresh = false;
        self.suspect = None;
    }

    fn implausible(&mut self, device_ns: i64, host_ns: i64) -> Placed {
        let count = match self.suspect {
            Some(suspect) => {
                let passed = self.scaled(host_ns.saturating_sub(suspect.host_ns));
                let between = device_ns.saturating_sub(suspect.device_ns);
                let apart = between.saturating_sub(passed).saturating_abs();
                if apart < self.scaled(TOLERANCE_NS) {
                    suspect.count + 1
                } else {
                    1
                }
            }
            None => 1,
        };
        self.suspect = Some(Suspect {
            device_ns,
            host_ns,
            count,
        });
        if self.fresh || count >= AGREEING {
            Placed::Reset(self.anchor(device_ns, host_ns))
        } else {
            Placed::Implausible
        }
    }

    /// Fixes the device's clock to the run's: a record of `device_ns` is now, and not before what has passed.
    fn anchor(&mut self, device_ns: i64, host_ns: i64) -> i64 {
        let time = self.run_ns(host_ns).max(self.reached_ns);
        self.origin_ns = Some(device_ns.saturating_sub(time));
        self.least.restart();
        self.window_host_ns = host_ns;
        self.take(time, host_ns);
        time
    }

    /// The run's time before which nothing will come, at host time `host_ns`; never goes back.
    pub fn reached(&mut self, host_ns: i64) -> i64 {
        let run = self.run_ns(host_ns).saturating_sub(self.least.get());
        let reached = run.saturating_sub(self.config.lateness_ns);
        self.reached_ns = self.reached_ns.max(reached).min(self.config.end_ns.unwrap_or(i64::MAX));
        self.reached_ns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: i64 = 1_000_000;
    const START: i64 = 77_000 * MS;

    fn clock(speed: f64, lateness_ms: i64) -> DeviceClock {
        let mut clock = DeviceClock::new(ClockConfig {
            speed,
            lateness_ns: lateness_ms * MS,
            end_ns: None,
        });
        clock.start(START);
        clock
    }

    #[test]
    fn the_run_goes_on_with_the_host_while_nothing_comes() {
        let mut clock = clock(1.0, 5);
        assert_eq!(clock.reached(START), 0);
        assert_eq!(clock.reached(START + 20 * MS), 15 * MS);
        assert_eq!(clock.reached(START + 10 * MS), 15 * MS, "it never goes back");
    }

    #[test]
    fn the_device_alone_says_where_spikes_are() {
        let mut clock = clock(2.0, 0);
        let device = 123_456_789 * MS;
        assert_eq!(clock.place(device, START + 10 * MS), Placed::At(20 * MS));
        // 4 ms later by the device, whenever it comes.
        assert_eq!(clock.place(device + 4 * MS, START + 90 * MS), Placed::At(24 * MS));
    }

    #[test]
    fn blocks_of_spikes_are_never_late_when_the_lateness_covers_a_block() {
        // A block of 43 ms of spikes comes at its end, as a burst: the oldest of the first one comes first.
        let mut clock = clock(1.0, 50);
        for block in 0..600 {
            let host = START + (block + 1) * 43 * MS;
            for step in 0..43 {
                let reached = clock.reached(host);
                match clock.place((block * 43 + step) * MS, host) {
                    Placed::At(time) => assert!(time >= reached, "block {block}: {time} < {reached}"),
                    other => panic!("{other:?}"),
                }
            }
            assert!(clock.reached(host) >= host - START - 50 * MS);
        }
    }

    #[test]
    fn a_wrong_time_is_left_out_and_a_clock_that_began_anew_is_taken() {
        let mut clock = clock(1.0, 0);
        let host = |ms: i64| START + ms * MS;
        assert_eq!(clock.place(1_000_000 * MS, host(10)), Placed::At(10 * MS));
        assert_eq!(clock.place(i64::MAX, host(11)), Placed::Implausible);
        assert_eq!(clock.place(i64::MIN, host(11)), Placed::Implausible);
        assert_eq!(clock.place(1_000_002 * MS, host(12)), Placed::At(12 * MS));
        for spike in 0..7 {
            assert_eq!(clock.place(spike * MS, host(5_000 + spike)), Placed::Implausible);
        }
        assert_eq!(clock.place(7 * MS, host(5_007)), Placed::Reset(5_007 * MS));
        assert_eq!(clock.place(8 * MS, host(5_009)), Placed::At(5_008 * MS));
    }

    #[test]
    fn records_with_times_ahead_of_the_others_do_not_take_the_clock_with_them() {
        let mut clock = clock(1.0, 5);
        for step in 0..20_000 {
            let host = START + step * MS;
            // Within a second of where they belong, and so taken for spikes.
            if step % 2_000 == 1_999 {
                assert!(matches!(clock.place((step + 900) * MS, host), Placed::At(_)));
            }
            let reached = clock.reached(host);
            assert_eq!(clock.place(step * MS, host), Placed::At(step * MS));
            assert!(reached <= step * MS, "step {step}: it would be late");
        }
    }

    #[test]
    fn the_first_record_of_a_new_connection_may_begin_anew() {
        let mut clock = clock(1.0, 0);
        let host = |ms: i64| START + ms * MS;
        clock.place(500_000 * MS, host(1_000));
        clock.fresh();
        // The device's clock went on: nothing changes.
        assert_eq!(clock.place(502_000 * MS, host(3_003)), Placed::At(3_000 * MS));
        clock.fresh();
        clock.reached(host(4_000));
        assert_eq!(clock.place(0, host(4_000)), Placed::Reset(4_000 * MS));
    }

    #[test]
    fn spikes_that_waited_in_a_buffer_are_no_reset() {
        let mut clock = clock(1.0, 0);
        let host = |ms: i64| START + ms * MS;
        clock.place(0, host(0));
        // The host stood still for 20 s; then everything comes at once.
        for ms in 1..20_000 {
            assert_eq!(clock.place(ms * MS, host(20_000)), Placed::At(ms * MS));
        }
    }

    #[test]
    fn drift_is_followed() {
        // The device runs 100 ppm slow for ten minutes: the run's time stays within its lateness of the device's.
        let mut clock = clock(1.0, 2);
        for step in 0..6_000i64 {
            let host = START + step * 100 * MS;
            let device = (step * 100 * MS) as f64 * (1.0 - 1e-4);
            assert!(matches!(clock.place(device as i64, host), Placed::At(_)));
            let lag = device as i64 - clock.reached(host);
            assert!((0..=4 * MS).contains(&lag), "step {step}: {lag} ns");
        }
    }
}
