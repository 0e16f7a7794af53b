//! A device's clock against the host's, from exchanges of four times.
//!
//! The host sends at t1, the device receives at t2 and answers at t3, the host receives at t4 (the exchange of NTP, RFC 5905
//! §8). Halfway between t2 and t3 on the device is taken to be halfway between t1 and t4 on the host. The time that the
//! packets spent on their way, `(t4 − t1) − (t3 − t2)`, may all have been spent on one of the two ways: so an exchange is
//! wrong by at most half of it, and that is the uncertainty that each estimate starts from.

use heapless::{HistoryBuf, Vec};

use crate::exchange::ClockReply;

/// Contradicting exchanges in a row that make a step.
const STEP_AFTER: usize = 3;
/// Exchanges that an estimate rests on at least, while there are as many.
const USED_AT_LEAST: usize = 4;
/// An exchange is used while its uncertainty is at most this many times the smallest.
const USED_WITHIN: f64 = 2.0;

/// What is known beforehand of a device's clock.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ClockLimits {
    /// How far the true tick rate may be off the declared one, parts in a million. 200 covers two plain crystals.
    pub max_drift_ppm: f64,
    /// How far the rate may move while exchanges are remembered, parts in a million. 1 covers a plain crystal in a room.
    pub max_wander_ppm: f64,
}

/// What became of an exchange.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClockOutcome {
    /// It is remembered, and used while it is among the fast ones.
    Taken,
    /// Its times contradict each other: an answer before the question, or longer in the device than the exchange took.
    Impossible,
    /// It contradicts the estimate by more than its round trip explains.
    Glitch,
    /// It is the third in a row that contradicts the estimate, and agrees with the other two: the device's clock was set
    /// anew. The estimate starts again from these three.
    Step,
    /// The device has another boot number or tick rate than before. The estimate starts again from this one.
    Restart,
}

/// Counts of a [`ClockEstimator`], by [`ClockOutcome`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ClockCounts {
    /// Exchanges remembered.
    pub taken: u64,
    /// Exchanges that contradict themselves.
    pub impossible: u64,
    /// Exchanges that contradict the estimate.
    pub glitches: u64,
    /// Clocks set anew.
    pub steps: u64,
    /// Devices started anew.
    pub restarts: u64,
}

/// Device time as host time: a line, and how far off it may be. Good for any time, but less so far from the exchanges.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ClockEstimate {
    /// Device time in the middle of the exchanges used, ticks.
    pub tick: u64,
    /// Host time at which the device's counter turned to `tick`, ns.
    pub host_ns: i64,
    /// Host nanoseconds a tick.
    pub ns_per_tick: f64,
    /// Bound of the error at `tick`, ns: at least half the shortest round trip used.
    pub uncertainty_ns: f64,
    /// How much longer the device's second is than the host's, parts in a million.
    pub drift_ppm: f64,
    /// Bound of the drift's error, parts in a million.
    pub drift_uncertainty_ppm: f64,
    /// Counts steps and restarts: estimates of different epochs are of different clocks.
    pub epoch: u32,
}

impl ClockEstimate {
    /// Host time at which the device's counter turns to `tick`, ns.
    pub fn host_ns(&self, tick: u64) -> i64 {
        let since = self.ticks_since(tick) * self.ns_per_tick;
        let half = if since < 0.0 { -0.5 } else { 0.5 };
        self.host_ns.saturating_add((since + half) as i64)
    }

    /// Bound of the error of [`ClockEstimate::host_ns`], ns.
    pub fn uncertainty_ns(&self, tick: u64) -> f64 {
        let since_ns = self.ticks_since(tick).abs() * self.ns_per_tick;
        self.uncertainty_ns + since_ns * self.drift_uncertainty_ppm * 1e-6
    }

    fn ticks_since(&self, tick: u64) -> f64 {
        tick.wrapping_sub(self.tick) as i64 as f64
    }
}

/// An exchange, as a point that the line must pass within `half_ns`.
#[derive(Clone, Copy, Debug)]
struct Point {
    tick: u64,
    host_ns: i64,
    half_ns: f64,
}

/// Follows a device's clock by its last `N` exchanges: about 32, one each second.
///
/// The estimate is the straight line, least squares weighted by 1/half², through the exchanges with the shortest round
/// trips: those within twice the shortest, and four in any case. Its bounds add up what each exchange may be off, with
/// the weight that it has in the line: they hold for any delays, as long as the clock keeps its [`ClockLimits`]. While
/// the exchanges say less about the drift than the limits do, the drift is taken for 0, give or take the limit.
#[derive(Clone, Debug)]
pub struct ClockEstimator<const N: usize> {
    limits: ClockLimits,
    device: Option<(u32, u32)>,
    tick_ns: f64,
    points: HistoryBuf<Point, N>,
    suspects: Vec<Point, STEP_AFTER>,
    epoch: u32,
    estimate: Option<ClockEstimate>,
    counts: ClockCounts,
}

impl<const N: usize> ClockEstimator<N> {
    /// An estimator that knows no exchange yet.
    pub fn new(limits: ClockLimits) -> Self {
        const { assert!(N >= STEP_AFTER, "a step needs room for its exchanges") };
        Self {
            limits,
            device: None,
            tick_ns: 0.0,
            points: HistoryBuf::new(),
            suspects: Vec::new(),
            epoch: 0,
            estimate: None,
            counts: ClockCounts::default(),
        }
    }

    /// The estimate, once there has been an exchange.
    pub fn estimate(&self) -> Option<ClockEstimate> {
        self.estimate
    }

    /// What became of the exchanges so far.
    pub fn counts(&self) -> ClockCounts {
        self.counts
    }

    /// Takes note of a reply that arrived at host time `t4_ns`.
    pub fn observe(&mut self, reply: &ClockReply, t4_ns: i64) -> ClockOutcome {
        let outcome = self.outcome(reply, t4_ns);
        match outcome {
            ClockOutcome::Taken => self.counts.taken += 1,
            ClockOutcome::Impossible => self.counts.impossible += 1,
            ClockOutcome::Glitch => self.counts.glitches += 1,
            ClockOutcome::Step => self.counts.steps += 1,
            ClockOutcome::Restart => self.counts.restarts += 1,
        }
        outcome
    }

    fn outcome(&mut self, reply: &ClockReply, t4_ns: i64) -> ClockOutcome {
        let tick_ns = 1e9 / f64::from(reply.tick_rate_hz);
        let Some(point) = self.point(reply, t4_ns, tick_ns) else {
            return ClockOutcome::Impossible;
        };
        let device = Some((reply.boot, reply.tick_rate_hz));
        if self.device != device {
            let restart = self.device.is_some();
            self.device = device;
            self.tick_ns = tick_ns;
            self.start_again(&[point], restart);
            return if restart {
                ClockOutcome::Restart
            } else {
                ClockOutcome::Taken
            };
        }
        if self.estimate.is_some_and(|estimate| contradicts(&estimate, point)) {
            return self.suspect(point);
        }
        self.suspects.clear();
        self.points.write(point);
        self.estimate = self.fit();
        ClockOutcome::Taken
    }

    /// The point that an exchange says the line passes, or `None` for an impossible one.
    ///
    /// The counter turned to t2 before the request arrived, by up to a tick, and to t3 before the reply left: so halfway
    /// between them is between `t1 + hold/2 − tick` and `t4 − hold/2` on the host.
    fn point(&self, reply: &ClockReply, t4_ns: i64, tick_ns: f64) -> Option<Point> {
        let hold = reply.t3_tick.checked_sub(reply.t2_tick)?;
        let whole_ns = t4_ns.checked_sub(reply.t1_ns).filter(|&ns| ns >= 0)?;
        let hold_ns = hold as f64 * tick_ns;
        let slack_ns = hold_ns * self.limits.max_drift_ppm * 1e-6;
        let trip_ns = whole_ns as f64 - hold_ns;
        if trip_ns < -tick_ns - slack_ns {
            return None;
        }
        let half_odd_ticks = if hold % 2 == 1 { 1.0 } else { 0.5 };
        Some(Point {
            tick: reply.t2_tick + hold / 2,
            host_ns: (reply.t1_ns + whole_ns / 2).saturating_sub((half_odd_ticks * tick_ns) as i64),
            half_ns: (trip_ns.max(0.0) + tick_ns) / 2.0 + slack_ns + 2.0,
        })
    }

    fn suspect(&mut self, point: Point) -> ClockOutcome {
        let drift = self.limits.max_drift_ppm * 1e-6;
        let agrees = self.suspects.iter().all(|other| {
            let apart_ns = ticks_between(other.tick, point.tick) * self.tick_ns;
            let off_ns = ns_between(other.host_ns, point.host_ns) - apart_ns;
            off_ns.abs() <= other.half_ns + point.half_ns + apart_ns.abs() * drift
        });
        if !agrees {
            self.suspects.clear();
        }
        // There is room: at STEP_AFTER it was emptied.
        let _ = self.suspects.push(point);
        if self.suspects.len() < STEP_AFTER {
            return ClockOutcome::Glitch;
        }
        let suspects = self.suspects.clone();
        self.start_again(&suspects, true);
        ClockOutcome::Step
    }

    fn start_again(&mut self, points: &[Point], another_clock: bool) {
        self.points.clear();
        self.suspects.clear();
        for &point in points {
            self.points.write(point);
        }
        self.epoch += u32::from(another_clock);
        self.estimate = self.fit();
    }

    /// The largest uncertainty that an exchange is used with.
    fn widest_used(&self) -> f64 {
        let mut smallest = [f64::INFINITY; USED_AT_LEAST];
        for point in self.points.as_slice() {
            let mut half_ns = point.half_ns;
            for kept in &mut smallest {
                if half_ns < *kept {
                    core::mem::swap(kept, &mut half_ns);
                }
            }
        }
        (USED_WITHIN * smallest[0]).max(smallest[USED_AT_LEAST - 1])
    }

    fn fit(&self) -> Option<ClockEstimate> {
        let origin = *self.points.as_slice().first()?;
        let widest = self.widest_used();
        // (weight, device ns since the origin, host ns gained on them, half)
        let used = || {
            self.points
                .as_slice()
                .iter()
                .filter(|point| point.half_ns <= widest)
                .map(|point| {
                    let x = ticks_between(origin.tick, point.tick) * self.tick_ns;
                    let y = ns_between(origin.host_ns, point.host_ns) - x;
                    (1.0 / (point.half_ns * point.half_ns), x, y, point.half_ns)
                })
        };
        let (mut weight, mut x_mean, mut y_mean) = (0.0, 0.0, 0.0);
        for (w, x, y, _) in used() {
            weight += w;
            x_mean += w * x;
            y_mean += w * y;
        }
        x_mean /= weight;
        y_mean /= weight;
        let (mut xx, mut xy, mut offset_bound, mut slope_bound, mut spread) = (0.0, 0.0, 0.0, 0.0, 0.0);
        for (w, x, y, half) in used() {
            let (dx, dy) = (x - x_mean, y - y_mean);
            xx += w * dx * dx;
            xy += w * dx * dy;
            offset_bound += w * half;
            slope_bound += w * dx.abs() * half;
            spread += w * dx.abs();
        }
        let max_drift = self.limits.max_drift_ppm * 1e-6;
        let wander = self.limits.max_wander_ppm * 1e-6;
        let (drift, drift_bound) = if slope_bound < max_drift * xx {
            ((xy / xx).clamp(-max_drift, max_drift), slope_bound / xx + 2.0 * wander)
        } else {
            (0.0, max_drift)
        };
        let ticks = (x_mean / self.tick_ns) as i64;
        let host_ns = x_mean + y_mean - (x_mean - ticks as f64 * self.tick_ns) * (1.0 + drift);
        Some(ClockEstimate {
            tick: origin.tick.wrapping_add_signed(ticks),
            host_ns: origin.host_ns.saturating_add(host_ns as i64),
            ns_per_tick: self.tick_ns * (1.0 + drift),
            uncertainty_ns: (offset_bound + wander * spread) / weight + 2.0,
            drift_ppm: drift * 1e6,
            drift_uncertainty_ppm: drift_bound * 1e6,
            epoch: self.epoch,
        })
    }
}

fn contradicts(estimate: &ClockEstimate, point: Point) -> bool {
    let off_ns = ns_between(estimate.host_ns(point.tick), point.host_ns);
    off_ns.abs() > point.half_ns + estimate.uncertainty_ns(point.tick)
}

fn ticks_between(from: u64, to: u64) -> f64 {
    to.wrapping_sub(from) as i64 as f64
}

fn ns_between(from: i64, to: i64) -> f64 {
    to.wrapping_sub(from) as f64
}
