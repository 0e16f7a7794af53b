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
use super::shift::{Shift, ShiftDetector};

/// A window over which the least delay is taken, ns of host time; the last whole one counts too.
const WINDOW_NS: i64 = 10_000_000_000;
/// A time further than this from what the two clocks say is implausible, ns of host time.
const TOLERANCE_NS: i64 = 1_000_000_000;
/// The same for the first record after a silence or a lost connection.
const FRESH_TOLERANCE_NS: i64 = 250_000_000;
/// So many implausible times in a row that agree among themselves are a clock that began anew.
const AGREEING: u32 = 8;
/// After the device's clock was fixed the least delay is not known yet for so long, ns of host time.
const SETTLING_NS: i64 = 2_000_000_000;
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
    /// Bound of the drift's error, parts in a million.
    pub drift_uncertainty_ppm: f64,
}

impl Exchanged {
    fn host_ns_of(&self, device_ns: i64) -> i64 {
        let since = device_ns.saturating_sub(self.device_ns);
        let host = self.host_ns.saturating_add(since);
        host.saturating_add((since as f64 * self.drift_ppm * 1e-6) as i64)
    }

    /// What it says of host time `now_ns`: less the longer ago the exchanges were.
    fn relation(&self, now_ns: i64) -> Relation {
        let since = now_ns.saturating_sub(self.host_ns) as f64;
        let drift = self.drift_ppm * 1e-6;
        let offset_ns = self.host_ns.saturating_sub(self.device_ns);
        let more_ns = since.abs() * self.drift_uncertainty_ppm * 1e-6;
        Relation {
            offset_ns: offset_ns.saturating_add((since * drift / (1.0 + drift)) as i64),
            uncertainty_ns: self.uncertainty_ns.saturating_add(more_ns as i64),
            drift_ppm: Some(self.drift_ppm),
            exchanged: true,
        }
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
    /// Host time from which on the least delay is known.
    settled_host_ns: i64,
    shift: ShiftDetector,
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
            settled_host_ns: i64::MAX,
            shift: ShiftDetector::default(),
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

    /// How it stands to the host's at host time `now_ns`, once a record has been placed.
    pub fn relation(&self, now_ns: i64) -> Option<Relation> {
        if let Some(exchanged) = self.exchanged {
            return Some(exchanged.relation(now_ns));
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
            self.settled_host_ns = host_ns.saturating_add(SETTLING_NS);
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
        let lowest_ns = self.least.lowest().saturating_sub(self.moved_ns);
        let too_soon_ns = time.saturating_sub(here.saturating_sub(lowest_ns));
        let ahead_ns = (time.saturating_sub(expected), too_soon_ns);
        match self.shift(ahead_ns, (device_ns, host_ns)) {
            Shift::None => self.take(time, host_ns),
            // Its delay is no delay.
            Shift::Ahead => self.see(time, host_ns),
            Shift::Set(by_ns) => return Placed::Reset(self.set_right(time, by_ns, host_ns)),
        }
        if self.shared {
            self.follow(device_ns, time, passed_ns);
        }
        Placed::At(time)
    }

    /// Whether the device's clock was set, as a record shows that is so far ahead of the quickest ones ([`ShiftDetector::note`]).
    fn shift(&mut self, ahead_ns: (i64, i64), times_ns: (i64, i64)) -> Shift {
        if times_ns.1 < self.settled_host_ns {
            return Shift::None;
        }
        let config = (self.config.speed, self.config.lateness_ns);
        self.shift.note(ahead_ns, times_ns, config)
    }

    /// The device's clock was set by `by_ns`, as a record shows at what would be `time_ns`: its time goes on as if it had not been.
    fn set_right(&mut self, time_ns: i64, by_ns: i64, host_ns: i64) -> i64 {
        self.origin_ns = self.origin_ns.map(|origin| origin.saturating_add(by_ns));
        self.exchanged = None;
        let time_ns = time_ns.saturating_sub(by_ns);
        self.take(time_ns, host_ns);
        time_ns
    }

    fn take(&mut self, time_ns: i64, host_ns: i64) {
        self.note_delay(self.run_ns(host_ns).saturating_sub(time_ns), host_ns);
        self.see(time_ns, host_ns);
    }

    fn see(&mut self, time_ns: i64, host_ns: i64) {
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
        self.settled_host_ns = host_ns.saturating_add(SETTLING_NS);
        self.shift = ShiftDetector::default();
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
#[path = "clock_tests.rs"]
mod tests;
