//! Questions for a device's clock, and what its answers say.

use firmware_bridge::{ClockEstimator, ClockLimits, ClockOutcome, ClockReply, ClockRequest, CLOCK_REQUEST_LEN};

use super::super::host_time::monotonic_ns;
use super::super::wire::clock::Exchanged;
use super::super::wire::ticks::ticks_to_ns;

/// Exchanges remembered.
const REMEMBERED: usize = 32;
/// Questions at the start, and the time between two of these, ns.
const AT_THE_START: u32 = 8;
const SOON_NS: i64 = 20_000_000;
/// Time between two questions after that, ns: does not beat with what devices do each second.
const LATER_NS: i64 = 980_000_000;
/// Two plain crystals, and how far one wanders in a room (`firmware_bridge::ClockLimits`).
const LIMITS: ClockLimits = ClockLimits {
    max_drift_ppm: 200.0,
    max_wander_ppm: 1.0,
};

/// Asks a device for its time now and then.
#[derive(Debug)]
pub struct ClockExchange {
    /// None where nobody is to be asked.
    estimator: Option<ClockEstimator<REMEMBERED>>,
    asked: u32,
    next_ns: i64,
}

impl ClockExchange {
    /// An exchange with a device that answers, or with none.
    pub fn new(answers: bool) -> Self {
        Self {
            estimator: answers.then(|| ClockEstimator::new(LIMITS)),
            asked: 0,
            next_ns: i64::MIN,
        }
    }

    /// A question to send now, where one is due.
    pub fn request(&mut self, device_id: u32, now_ns: i64) -> Option<[u8; CLOCK_REQUEST_LEN]> {
        self.estimator.as_ref()?;
        if now_ns < self.next_ns {
            return None;
        }
        self.next_ns = now_ns + if self.asked < AT_THE_START { SOON_NS } else { LATER_NS };
        let request = ClockRequest::new(device_id, self.asked, monotonic_ns());
        self.asked = self.asked.wrapping_add(1).max(1);
        Some(request.to_bytes())
    }

    /// What is known of the clock after an answer that came at host time `t4_ns`; nothing where the answer is not used.
    pub fn reply(&mut self, reply: &ClockReply, t4_ns: i64) -> Option<Exchanged> {
        let estimator = self.estimator.as_mut()?;
        let outcome = estimator.observe(reply, t4_ns);
        if matches!(outcome, ClockOutcome::Impossible | ClockOutcome::Glitch) {
            return None;
        }
        let estimate = estimator.estimate()?;
        Some(Exchanged {
            device_ns: ticks_to_ns(i64::try_from(estimate.tick).unwrap_or(i64::MAX), reply.tick_rate_hz),
            host_ns: estimate.host_ns,
            uncertainty_ns: estimate.uncertainty_ns as i64,
            drift_ppm: estimate.drift_ppm,
            drift_uncertainty_ppm: estimate.drift_uncertainty_ppm,
        })
    }
}
