//! The clock estimator against devices whose true clock is known.

use firmware_bridge::{ClockEstimator, ClockLimits, ClockOutcome, ClockReply, ClockRequest, Device};
use proptest::prelude::*;

const LIMITS: ClockLimits = ClockLimits {
    max_drift_ppm: 200.0,
    max_wander_ppm: 1.0,
};

/// A device whose second is `1 + drift` of the host's seconds long and whose counter stood at 0 at host time `start_ns`.
#[derive(Clone, Copy, Debug)]
struct Clock {
    start_ns: i64,
    tick_rate_hz: u32,
    drift: f64,
}

impl Clock {
    /// Where the counter stands at host time `host_ns`.
    fn tick(&self, host_ns: f64) -> u64 {
        ((host_ns - self.start_ns as f64) / self.ns_per_tick()) as u64
    }

    /// Host time at which the counter turns to `tick`.
    fn host_ns(&self, tick: u64) -> f64 {
        self.start_ns as f64 + tick as f64 * self.ns_per_tick()
    }

    fn ns_per_tick(&self) -> f64 {
        1e9 / f64::from(self.tick_rate_hz) * (1.0 + self.drift)
    }

    /// An exchange that begins at `at_ns` and spends these times on its way out, in the device and on its way back.
    fn exchange(&self, at_ns: i64, [out, hold, back]: [i64; 3]) -> (ClockReply, i64) {
        let request = ClockRequest::new(1, 0, at_ns);
        let device = Device {
            id: 1,
            boot: 1,
            tick_rate_hz: self.tick_rate_hz,
        };
        let (t2, t3) = (self.tick((at_ns + out) as f64), self.tick((at_ns + out + hold) as f64));
        (ClockReply::new(&request, device, t2, t3), at_ns + out + hold + back)
    }
}

fn second(seconds: f64) -> i64 {
    (seconds * 1e9) as i64
}

#[test]
fn offset_and_drift_are_found() {
    let clock = Clock {
        start_ns: second(3.0),
        tick_rate_hz: 1_000_000,
        drift: 47e-6,
    };
    let mut estimator = ClockEstimator::<32>::new(LIMITS);
    for at in 0..60 {
        // 40 µs each way, and up to 9 µs more.
        let jitter = |factor: i64| 40_000 + at * factor % 10 * 1000;
        let (reply, t4) = clock.exchange(second(10.0 + at as f64), [jitter(7), 5_000, jitter(3)]);
        assert_eq!(estimator.observe(&reply, t4), ClockOutcome::Taken);
    }
    let estimate = estimator.estimate().unwrap();
    assert!((estimate.drift_ppm - 47.0).abs() < 1.0, "{estimate:?}");
    assert!(estimate.drift_uncertainty_ppm < 15.0, "{estimate:?}");
    let tick = clock.tick(70e9);
    assert!((estimate.host_ns(tick) as f64 - clock.host_ns(tick)).abs() < 5_000.0);
    assert!((40_000.0..400_000.0).contains(&estimate.uncertainty_ns(tick)));
}

#[test]
fn slow_exchanges_do_not_spoil_the_fast_ones() {
    let clock = Clock {
        start_ns: 0,
        tick_rate_hz: 1_000_000_000,
        drift: 0.0,
    };
    let mut estimator = ClockEstimator::<32>::new(LIMITS);
    for at in 0..32 {
        // Two of three are held up by 5 ms on their way out alone.
        let out = if at % 3 == 0 { 20_000 } else { 5_020_000 };
        let (reply, t4) = clock.exchange(second(1.0 + at as f64), [out, 0, 20_000]);
        estimator.observe(&reply, t4);
    }
    let estimate = estimator.estimate().unwrap();
    let tick = clock.tick(33e9);
    assert!((estimate.host_ns(tick) as f64 - clock.host_ns(tick)).abs() < 100.0);
    assert!(estimate.uncertainty_ns(estimate.tick) < 50_000.0, "{estimate:?}");
}

#[test]
fn one_wrong_reply_changes_nothing_and_three_that_agree_are_a_step() {
    let clock = Clock {
        start_ns: 0,
        tick_rate_hz: 1_000_000,
        drift: 10e-6,
    };
    let set_anew = Clock {
        start_ns: -second(5.0),
        ..clock
    };
    let far = Clock {
        start_ns: -second(9.0),
        ..clock
    };
    let delays = [50_000, 1_000, 50_000];
    let mut estimator = ClockEstimator::<32>::new(LIMITS);
    let mut observe = |clock: Clock, at: i64| {
        let (reply, t4) = clock.exchange(second(at as f64), delays);
        let outcome = estimator.observe(&reply, t4);
        (outcome, estimator.estimate().unwrap())
    };
    for at in 1..20 {
        assert_eq!(observe(clock, at).0, ClockOutcome::Taken);
    }
    let before = observe(clock, 20).1;
    assert_eq!(observe(far, 21), (ClockOutcome::Glitch, before));
    assert_eq!(observe(set_anew, 22), (ClockOutcome::Glitch, before));
    assert_eq!(observe(clock, 23).0, ClockOutcome::Taken);
    // Three that do not agree with each other are no step.
    let before = observe(clock, 24).1;
    assert_eq!(observe(set_anew, 25), (ClockOutcome::Glitch, before));
    assert_eq!(observe(far, 26), (ClockOutcome::Glitch, before));
    assert_eq!(observe(set_anew, 27), (ClockOutcome::Glitch, before));
    assert_eq!(observe(set_anew, 28), (ClockOutcome::Glitch, before));
    let (outcome, after) = observe(set_anew, 29);
    assert_eq!((outcome, after.epoch), (ClockOutcome::Step, before.epoch + 1));
    let tick = set_anew.tick(30e9);
    assert!((after.host_ns(tick) as f64 - set_anew.host_ns(tick)).abs() <= after.uncertainty_ns(tick));
    assert_eq!(observe(set_anew, 30).0, ClockOutcome::Taken);
    let counts = estimator.counts();
    assert_eq!((counts.taken, counts.glitches, counts.steps), (23, 6, 1));
}

#[test]
fn another_boot_number_starts_again_at_once() {
    let clock = Clock {
        start_ns: 0,
        tick_rate_hz: 30_000,
        drift: 0.0,
    };
    let mut estimator = ClockEstimator::<8>::new(LIMITS);
    let (mut reply, t4) = clock.exchange(second(1.0), [1000; 3]);
    estimator.observe(&reply, t4);
    reply.boot += 1;
    reply.t2_tick = 0;
    reply.t3_tick = 0;
    assert_eq!(estimator.observe(&reply, t4), ClockOutcome::Restart);
    let estimate = estimator.estimate().unwrap();
    assert_eq!((estimate.tick, estimate.epoch), (0, 1));
}

#[test]
fn impossible_times_are_refused() {
    let device = Device {
        id: 1,
        boot: 1,
        tick_rate_hz: 1000,
    };
    let request = ClockRequest::new(1, 0, 1000);
    let mut estimator = ClockEstimator::<8>::new(LIMITS);
    for (t2, t3, t4) in [
        // Answered before it was asked.
        (50, 50, 999),
        // Left before it came.
        (50, 49, 2000),
        // A second in the device, a microsecond on the host.
        (50, 1050, 2000),
        // Two ticks in the device, less than one on the host.
        (50, 52, 900_000),
    ] {
        let reply = ClockReply::new(&request, device, t2, t3);
        assert_eq!(estimator.observe(&reply, t4), ClockOutcome::Impossible);
    }
    assert!(estimator.estimate().is_none());
    // One tick in the device may be next to nothing: the counter was about to turn.
    let reply = ClockReply::new(&request, device, 50, 51);
    assert_eq!(estimator.observe(&reply, 2000), ClockOutcome::Taken);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever the delays, the estimate is within its own bound of the truth, now and five seconds later, and the bound is
    /// never below half of the shortest round trip.
    #[test]
    fn the_uncertainty_is_a_bound(
        start_ns in -second(1e5)..second(0.5),
        tick_rate_hz in prop::sample::select(vec![1_000u32, 30_000, 1_000_000, 125_000_000]),
        drift in -190e-6..190e-6f64,
        delays in prop::collection::vec((1_000..200_000i64, 0..5_000_000i64, 0..300_000i64, 0..8u8, 0..1_000i64), 2..80),
    ) {
        let clock = Clock { start_ns, tick_rate_hz, drift };
        let mut estimator = ClockEstimator::<32>::new(LIMITS);
        let mut shortest = f64::INFINITY;
        for (at, &(delay, more, hold, which, early)) in (1..).zip(&delays) {
            // A queue now and then, on one way or the other.
            let out = delay + if which == 0 { more } else { 0 };
            let back = delay / 2 + if which == 1 { more } else { 0 };
            let begin = second(f64::from(at)) - early * 1000;
            let (reply, t4) = clock.exchange(begin, [out, hold, back]);
            prop_assert_eq!(estimator.observe(&reply, t4), ClockOutcome::Taken);
            shortest = shortest.min((out + back) as f64);
            let estimate = estimator.estimate().unwrap();
            for later in [0, second(5.0)] {
                let tick = clock.tick((t4 + later) as f64);
                let error = (estimate.host_ns(tick) as f64 - clock.host_ns(tick)).abs();
                // The truth itself is rounded: a double of 1e14 ns is good to 16 parts in a thousand.
                let bound = estimate.uncertainty_ns(tick) + 1.0;
                prop_assert!(error <= bound, "{} off, bound {}: {:?}", error, bound, estimate);
            }
            prop_assert!(estimate.uncertainty_ns >= shortest / 2.0);
        }
    }
}
