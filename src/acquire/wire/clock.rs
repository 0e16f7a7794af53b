//! A device's clock beside the host's: where a spike belongs in the run, and how far the run may go on.
//!
//! The run's time starts when the run does and goes on with the host's clock while the device is silent or away. The
//! first spike fixes the device's clock to it; from there on the device's clock alone says where spikes are. Records
//! come late and never early, so the least delay of the last seconds tells the two clocks' drift from the delays of
//! delivery, and the run's time is that of the host less that delay, less `lateness_ns`.
//!
//! Where other sources' events stand beside the device's ([`DeviceClock::share`]), the run's time is the host's: the device's
//! clock is then moved towards it, slowly, so that neither drift nor the delay of the very first record pulls them apart. What
//! it is moved to is what exchanges of times say, or else a least delay of zero.

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
/// A shared time is moved by one in so many ns at most: 20 ms take 2 s.
const SLEW: i64 = 100;
/// Where exchanges say that it is off by more, ns of host time, it is set right at once.
const STEP_NS: i64 = 20_000_000;

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

/// What exchanges of times with a device say of its clock.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Exchanged {
    /// Device time, ns by its declared rate.
    pub device_ns: i64,
    /// Host time at that moment, ns.
    pub host_ns: i64,
    /// Bound of the error, ns.
    pub uncertainty_ns: i64,
    /// How much longer the device's second is than the host's, parts in a million.
    pub drift_ppm: f64,
}

impl Exchanged {
    fn host_ns_of(&self, device_ns: i64) -> i64 {
        let since = device_ns.saturating_sub(self.device_ns);
        let host = self.host_ns.saturating_add(since);
        host.saturating_add((since as f64 * self.drift_ppm * 1e-6) as i64)
    }
}

/// How a device's clock stands to the host's.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Relation {
    /// Host time less device time, ns; without an exchange as much too large as the quickest record took to come.
    pub offset_ns: i64,
    /// Bound of the offset's error, ns; without an exchange how much the time differs that records take to come.
    pub uncertainty_ns: i64,
    /// How much longer the device's second is than the host's, parts in a million, once that is known.
    pub drift_ppm: Option<f64>,
    /// Whether it comes from an exchange.
    pub exchanged: bool,
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
    /// Delays, as if nothing had been moved; and the longest of this window and of the one before.
    least: LeastDelay,
    most_ns: [Option<i64>; 2],
    /// Host time and least delay of the first whole window and of the last one, as if nothing had been moved.
    whole: Option<[(i64, i64); 2]>,
    /// Whether other sources' events stand beside the device's.
    shared: bool,
    /// How far its time has been moved since it was fixed, ns.
    moved_ns: i64,
    exchanged: Option<Exchanged>,
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
            most_ns: [None; 2],
            whole: None,
            shared: false,
            moved_ns: 0,
            exchanged: None,
            window_host_ns: 0,
            reached_ns: 0,
            fresh: true,
            suspect: None,
        }
    }

    /// A clock of the same kind that knows nothing.
    pub fn anew(&self) -> Self {
        Self {
            shared: self.shared,
            ..Self::new(self.config)
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

    /// Other sources' events stand beside the device's: its time follows the host's from here on.
    pub fn share(&mut self) {
        self.shared = true;
    }

    /// Takes note of what exchanges of times say.
    pub fn exchanged(&mut self, exchanged: Exchanged) {
        self.exchanged = Some(exchanged);
    }

    /// How it stands to the host's, once a record has been placed.
    pub fn relation(&self) -> Option<Relation> {
        if let Some(exchanged) = self.exchanged {
            return Some(Relation {
                offset_ns: exchanged.host_ns.saturating_sub(exchanged.device_ns),
                uncertainty_ns: exchanged.uncertainty_ns,
                drift_ppm: Some(exchanged.drift_ppm),
                exchanged: true,
            });
        }
        let origin_ns = self.origin_ns?;
        let most = self.most_ns.iter().flatten().max();
        let drift_ppm = self.whole.and_then(|[(from_ns, from), (to_ns, to)]| {
            (to_ns > from_ns).then(|| (to - from) as f64 / (to_ns - from_ns) as f64 * 1e6)
        });
        Some(Relation {
            offset_ns: self
                .host_start_ns
                .saturating_sub(origin_ns)
                .saturating_add(self.least_delay_ns()),
            uncertainty_ns: most.map_or(0, |most| most.saturating_sub(self.least.get())),
            drift_ppm,
            exchanged: false,
        })
    }

    fn least_delay_ns(&self) -> i64 {
        self.least.get().saturating_sub(self.moved_ns)
    }

    fn note_delay(&mut self, delay_ns: i64, host_ns: i64) {
        if host_ns.saturating_sub(self.window_host_ns) >= WINDOW_NS {
            if self.most_ns[0].is_some() {
                let now = (self.window_host_ns, self.least.get());
                self.whole = Some([self.whole.map_or(now, |[first, _]| first), now]);
            }
            self.least.next_window();
            self.most_ns = [None, self.most_ns[0]];
            self.window_host_ns = host_ns;
        }
        let delay_ns = delay_ns.saturating_add(self.moved_ns);
        self.least.note(delay_ns);
        self.most_ns[0] = Some(self.most_ns[0].map_or(delay_ns, |most| most.max(delay_ns)));
    }

    /// Forgets the delays: the device's time has been fixed anew.
    fn forget_delays(&mut self) {
        self.least.restart();
        self.most_ns = [None; 2];
        (self.whole, self.moved_ns) = (None, 0);
    }

    /// How far a record's time is from what exchanges say, ns.
    fn off_by_exchange(&self, device_ns: i64, time_ns: i64) -> Option<i64> {
        let host_ns = self.exchanged?.host_ns_of(device_ns);
        Some(self.run_ns(host_ns).saturating_sub(time_ns))
    }

    /// Moves the device's time towards the host's, after `passed_ns` of it.
    fn follow(&mut self, device_ns: i64, time_ns: i64, passed_ns: i64) {
        let off = self.off_by_exchange(device_ns, time_ns);
        let error = off.unwrap_or_else(|| self.least_delay_ns());
        let most = passed_ns.max(0) / SLEW;
        let step = error.clamp(-most, most);
        self.origin_ns = self.origin_ns.map(|origin| origin.saturating_sub(step));
        self.moved_ns = self.moved_ns.saturating_add(step);
        self.newest_ns = self.newest_ns.saturating_add(step);
    }

    /// Places a record of device time `device_ns` that was seen at host time `host_ns`.
    pub fn place(&mut self, device_ns: i64, host_ns: i64) -> Placed {
        let here = self.run_ns(host_ns);
        let Some(origin) = self.origin_ns else {
            return Placed::At(self.anchor(device_ns, host_ns));
        };
        let time = device_ns.saturating_sub(origin);
        let off = self.shared.then(|| self.off_by_exchange(device_ns, time)).flatten();
        if let Some(off) = off.filter(|off| off.abs() > self.scaled(STEP_NS)) {
            let time = time.saturating_add(off);
            self.origin_ns = Some(device_ns.saturating_sub(time));
            self.forget_delays();
            self.take(time, host_ns);
            return Placed::Reset(time);
        }
        let expected = here.saturating_sub(self.least_delay_ns());
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
        let passed_ns = time.saturating_sub(self.newest_ns);
        self.take(time, host_ns);
        if self.shared {
            self.follow(device_ns, time, passed_ns);
        }
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
        self.forget_delays();
        self.exchanged = None;
        self.window_host_ns = host_ns;
        self.take(time, host_ns);
        time
    }

    /// The run's time before which nothing will come, at host time `host_ns`; never goes back.
    pub fn reached(&mut self, host_ns: i64) -> i64 {
        let run = self.run_ns(host_ns).saturating_sub(self.least_delay_ns());
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
    fn a_shared_time_is_the_hosts_whatever_the_first_delay_and_the_drift() {
        // The first record takes 40 ms to come, later ones from 1 ms on; the device runs 80 ppm slow for ten minutes.
        let mut clock = clock(1.0, 50);
        clock.share();
        for step in 0..60_000i64 {
            let host = START + 100 * MS + step * 10 * MS;
            let delay = if step == 0 { 40 * MS } else { MS + step % 7 * MS };
            let sent = host - delay;
            let device = 5 * MS + ((sent - START) as f64 * (1.0 - 8e-5)) as i64;
            let Placed::At(time) = clock.place(device, host) else {
                panic!("step {step} is not placed")
            };
            let off = time - (sent - START);
            assert!(off.abs() <= 40 * MS, "step {step}: {off} ns");
            assert!(step < 1_000 || (-MS..=2 * MS).contains(&off), "step {step}: {off} ns");
        }
        let relation = clock.relation().unwrap();
        assert!(
            !relation.exchanged && (5 * MS..8 * MS).contains(&relation.uncertainty_ns),
            "{relation:?}"
        );
        assert!((relation.drift_ppm.unwrap() - 80.0).abs() < 3.0, "{relation:?}");
    }

    #[test]
    fn a_shared_time_is_that_of_the_exchanges_where_there_are_any() {
        // Every record takes 30 ms, the first one 400: without an exchange nobody could tell.
        let mut clock = clock(1.0, 50);
        clock.share();
        for step in 0..2_000i64 {
            let sent = START + 100 * MS + step * 10 * MS;
            let device = sent - START + 7 * MS;
            let placed = clock.place(device, sent + if step == 0 { 400 * MS } else { 30 * MS });
            match (step, placed) {
                (1, Placed::Reset(time)) => assert_eq!(time, sent - START + 1_000),
                (0 | 2.., Placed::At(_)) => {}
                other => panic!("{other:?}"),
            }
            clock.exchanged(Exchanged {
                device_ns: device,
                host_ns: sent + 1_000,
                uncertainty_ns: 2_000,
                drift_ppm: 0.0,
            });
        }
        let sent = START + 30_000 * MS;
        let Placed::At(time) = clock.place(sent - START + 7 * MS, sent + 30 * MS) else {
            panic!("it is placed")
        };
        assert!((time - (sent - START)).abs() <= 1_000, "{}", time - (sent - START));
        let relation = clock.relation().unwrap();
        assert_eq!(
            (relation.offset_ns, relation.uncertainty_ns),
            (START - 7 * MS + 1_000, 2_000)
        );
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
