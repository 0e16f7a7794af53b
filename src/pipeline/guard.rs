//! The last look at a prediction before it goes out: whether anything may go out at all, and whether a unit's rate is one that
//! it can have.
//!
//! While predictions are stopped ([`StopSwitch`]) every bin is published as ever, in order and on time, with the mean rates and the
//! flags `neutral` and `stopped`; outputs beside the prediction are zeros. The publish thread reads the switch just before each
//! publication.

use std::sync::Arc;

use super::message::flags;
use super::parameters::{Parameters, LEAST_LIMIT_HZ};
use super::slot::PredictionSlot;
use super::switch::StopSwitch;

/// Limits of the units' rates, as they are configured.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct GuardConfig {
    /// Most spikes a second of any unit without a limit of its own; none: no limit.
    pub most_rate_hz: Option<f64>,
    /// Limits of single units: id, spikes a second.
    pub units: Vec<(String, f64)>,
    /// Longest time between two heartbeats of the consumer, ns; none: there need not be any.
    pub heartbeat_ns: Option<i64>,
}

/// The publish thread's side.
pub(crate) struct Guard {
    pub switch: Arc<StopSwitch>,
    pub parameters: Arc<Parameters>,
    /// N: largest log rate in a bin of ordinary width.
    most: Box<[f32]>,
    /// N: whether the limit is the unit's own.
    own: Box<[bool]>,
    /// What `most` was made of.
    most_rate_hz: f64,
    bin_s: f64,
    /// ln of the last predicted bin's width over the others'.
    last_bin: f32,
    bins: usize,
    /// N: the mean rates.
    neutral: Box<[f32]>,
    /// Predictions with at least one number that was limited, and predictions that were stopped.
    pub limited: u64,
    pub stopped: u64,
}

fn most_log_rate(rate_hz: f64, bin_s: f64) -> f32 {
    (rate_hz * bin_s).ln() as f32
}

impl Guard {
    /// For predictions of `bins` bins of these units; `neutral` are their mean log rates in a bin, and the last bin is of another width.
    ///
    /// # Errors
    /// One sentence about a limit that cannot be.
    pub fn new(
        config: &GuardConfig,
        unit_ids: &[String],
        bins: usize,
        (bin_ns, last_bin_ns): (i64, i64),
        neutral: &[f64],
        (parameters, switch): (Arc<Parameters>, Arc<StopSwitch>),
    ) -> Result<Self, String> {
        let bin_s = bin_ns as f64 * 1e-9;
        let most_rate_hz = config.most_rate_hz.unwrap_or(f64::INFINITY);
        let mut most: Box<[f32]> = vec![most_log_rate(most_rate_hz, bin_s); unit_ids.len()].into();
        let mut own: Box<[bool]> = vec![false; unit_ids.len()].into();
        for (id, rate_hz) in &config.units {
            let Some(unit) = unit_ids.iter().position(|unit| unit == id) else {
                return Err(format!(
                    "guards.unit_most_rate_hz has {id:?}, which is no unit of the model"
                ));
            };
            (most[unit], own[unit]) = (most_log_rate(*rate_hz, bin_s), true);
        }
        let all = config.units.iter().map(|(_, rate)| *rate).chain([most_rate_hz]);
        if let Some(rate) = all.into_iter().find(|rate| rate.is_nan() || *rate < LEAST_LIMIT_HZ) {
            return Err(format!("guards: a rate of at most {rate} Hz is below {LEAST_LIMIT_HZ}"));
        }
        Ok(Self {
            switch,
            parameters,
            most,
            own,
            most_rate_hz,
            bin_s,
            last_bin: (last_bin_ns as f64 / bin_ns as f64).ln() as f32,
            bins,
            neutral: neutral.iter().map(|&rate| rate as f32).collect(),
            limited: 0,
            stopped: 0,
        })
    }

    /// Changes a slot to what may go out, and its flags with it. N × T comparisons; allocates nothing.
    pub fn look(&mut self, slot: &mut PredictionSlot, now_ns: i64) {
        if self.switch.is_stopped(now_ns, self.parameters.heartbeat_ns()) {
            self.stop(slot);
        }
        // The mean rates too are what a consumer acts on.
        if self.limit(slot, self.parameters.most_rate_hz()) {
            slot.header.flags |= flags::LIMITED;
            self.limited += 1;
        }
    }

    fn stop(&mut self, slot: &mut PredictionSlot) {
        slot.header.bins = self.bins as u32;
        for row in slot.log_rates.chunks_exact_mut(self.neutral.len()) {
            row.copy_from_slice(&self.neutral);
        }
        slot.header.flags &= !(flags::HELD | flags::SHORTENED);
        slot.header.flags |= flags::NEUTRAL | flags::STOPPED;
        for output in &mut slot.outputs {
            output.array.fill(0.0);
            output.flags = output.flags & !flags::HELD | flags::NEUTRAL;
        }
        self.stopped += 1;
    }

    /// Whether a number had to be limited.
    fn limit(&mut self, slot: &mut PredictionSlot, most_rate_hz: f64) -> bool {
        if most_rate_hz != self.most_rate_hz {
            self.most_rate_hz = most_rate_hz;
            let most = most_log_rate(most_rate_hz, self.bin_s);
            let without_own = self.most.iter_mut().zip(&self.own).filter(|(_, own)| !**own);
            without_own.for_each(|(to, _)| *to = most);
        }
        let bins = slot.header.bins as usize;
        let mut above = false;
        for (bin, row) in slot.log_rates.chunks_exact_mut(self.most.len()).take(bins).enumerate() {
            let wider = if bin + 1 == self.bins { self.last_bin } else { 0.0 };
            for (rate, most) in row.iter_mut().zip(&self.most) {
                let most = most + wider;
                above |= *rate > most;
                *rate = rate.min(most);
            }
        }
        above
    }
}

#[cfg(test)]
mod tests {
    use super::super::switch::StopCause;
    use super::*;
    use crate::pipeline::output::OutputSpec;

    const MS: i64 = 1_000_000;

    fn guard(config: &GuardConfig) -> Guard {
        let ids = ["a".to_string(), "b".to_string()];
        let parameters = parameters(config.most_rate_hz, config.heartbeat_ns);
        let switch = Arc::new(StopSwitch::new(config.heartbeat_ns.is_some()));
        Guard::new(config, &ids, 3, (20 * MS, 40 * MS), &[-1.0, -2.0], (parameters, switch)).unwrap()
    }

    fn slot(log_rates: [f32; 6]) -> Box<PredictionSlot> {
        let output = OutputSpec {
            topic: "x".into(),
            rows: 1,
            cols: 2,
            axes: Default::default(),
            meaning: String::new(),
            labels: Vec::new(),
            row_times_s: Vec::new(),
        };
        let mut slot = PredictionSlot::new(7, (3, 2), &[output]);
        slot.log_rates.copy_from_slice(&log_rates);
        slot.outputs[0].array.fill(9.0);
        slot
    }

    fn parameters(most_rate_hz: Option<f64>, heartbeat_ns: Option<i64>) -> Arc<Parameters> {
        Arc::new(Parameters::new(
            Some(20 * MS),
            Some(40 * MS),
            most_rate_hz,
            heartbeat_ns,
        ))
    }

    #[test]
    fn rates_are_limited_by_unit_and_by_the_width_of_the_bin() {
        // In 20 ms at most 2 spikes of a and 1 of b; the last bin is twice as wide.
        let config = GuardConfig {
            most_rate_hz: Some(100.0),
            units: vec![("b".into(), 50.0)],
            heartbeat_ns: None,
        };
        let mut guard = guard(&config);
        let mut tame = slot([0.6, -0.1, 0.0, -9.0, 1.3, 0.6]);
        let before = tame.log_rates.clone();
        guard.look(&mut tame, 0);
        assert_eq!((tame.header.flags, &tame.log_rates), (0, &before));
        let mut wild = slot([0.8, 0.1, f32::INFINITY, -9.0, 9.0, 9.0]);
        guard.look(&mut wild, 0);
        assert_eq!(wild.header.flags, flags::LIMITED);
        let expected: Vec<f32> = [2.0f64, 1.0, 2.0, (-9.0f64).exp(), 4.0, 2.0]
            .iter()
            .map(|count| count.ln() as f32)
            .collect();
        for (rate, expected) in wild.log_rates.iter().zip(&expected) {
            assert!((rate - expected).abs() < 1e-6, "{:?} and {expected:?}", wild.log_rates);
        }
        assert_eq!((guard.limited, guard.stopped), (1, 0));
        // A unit's own limit stays when the others' changes.
        let values = crate::pipeline::ParameterValues {
            most_rate_hz: Some(50.0),
            ..Default::default()
        };
        guard.parameters.set(&values).unwrap();
        let mut lower = slot([0.6, -0.1, -0.1, 0.1, 0.0, 0.0]);
        guard.look(&mut lower, 0);
        assert!(
            lower.log_rates[0].abs() < 1e-6 && lower.log_rates[3].abs() < 1e-6,
            "{:?}",
            lower.log_rates
        );
    }

    #[test]
    fn bins_that_were_not_predicted_are_not_looked_at() {
        let config = GuardConfig {
            most_rate_hz: Some(50.0),
            ..Default::default()
        };
        let mut guard = guard(&config);
        let mut short = slot([-1.0, -1.0, 5.0, 5.0, 5.0, 5.0]);
        short.header.bins = 1;
        guard.look(&mut short, 0);
        assert_eq!(short.header.flags, 0);
    }

    #[test]
    fn the_mean_rates_of_a_stop_are_limited_too() {
        // At most half a spike in 20 ms, where the mean rates are exp(-1) and exp(-2): of b they are above its own limit.
        let config = GuardConfig {
            most_rate_hz: Some(25.0),
            units: vec![("b".into(), 5.0)],
            heartbeat_ns: None,
        };
        let mut guard = guard(&config);
        guard.switch.stop();
        let mut stopped = slot([5.0; 6]);
        guard.look(&mut stopped, 0);
        assert_eq!(stopped.header.flags, flags::NEUTRAL | flags::STOPPED | flags::LIMITED);
        let (a, b) = (stopped.log_rates[0], stopped.log_rates[1]);
        assert!(a == -1.0 && (b - 0.1f32.ln()).abs() < 1e-6, "{a} {b}");
    }

    #[test]
    fn a_stop_makes_everything_neutral_until_it_is_released() {
        let mut guard = guard(&GuardConfig::default());
        let switch = guard.switch.clone();
        switch.stop();
        let mut stopped = slot([5.0; 6]);
        stopped.header.bins = 1;
        stopped.header.flags = flags::SHORTENED | flags::SPIKES_LATE;
        guard.look(&mut stopped, 0);
        assert_eq!(*stopped.log_rates, [-1.0, -2.0, -1.0, -2.0, -1.0, -2.0]);
        assert_eq!(
            stopped.header.flags,
            flags::NEUTRAL | flags::STOPPED | flags::SPIKES_LATE
        );
        assert_eq!(stopped.header.bins, 3);
        assert_eq!((*stopped.outputs[0].array).as_ref(), [0.0, 0.0]);
        assert_eq!(stopped.outputs[0].flags, flags::NEUTRAL);
        switch.release(0, None).unwrap();
        let mut free = slot([5.0; 6]);
        guard.look(&mut free, 0);
        assert_eq!((free.header.flags, free.log_rates[0]), (0, 5.0));
        assert_eq!((guard.stopped, switch.stops()), (1, 1));
    }

    #[test]
    fn a_heartbeat_allows_and_its_loss_stays_a_stop() {
        let heartbeat = Some(100 * MS);
        let mut guard = guard(&GuardConfig {
            heartbeat_ns: heartbeat,
            ..Default::default()
        });
        let switch = guard.switch.clone();
        let mut stopped_at = |ms: i64| {
            let mut slot = slot([5.0; 6]);
            guard.look(&mut slot, ms * MS);
            slot.header.flags & flags::STOPPED != 0
        };
        assert!(stopped_at(10) && switch.cause() == Some(StopCause::NoHeartbeatYet));
        assert!(switch.release(20 * MS, heartbeat).is_err());
        switch.heartbeat(30 * MS);
        assert!(!stopped_at(130));
        assert!(stopped_at(131) && switch.cause() == Some(StopCause::HeartbeatLost));
        // It comes again: that alone releases nothing.
        switch.heartbeat(140 * MS);
        assert!(stopped_at(141));
        switch.release(142 * MS, heartbeat).unwrap();
        assert!(!stopped_at(143));
        // A command stands above a heartbeat.
        switch.stop();
        switch.heartbeat(150 * MS);
        assert!(stopped_at(151) && switch.cause() == Some(StopCause::Command));
        assert_eq!((switch.stops(), switch.heartbeats()), (2, 3));
    }

    #[test]
    fn limits_that_cannot_be_are_refused_by_name() {
        let ids = ["a".to_string()];
        let refused = |most_rate_hz, units: &[(&str, f64)]| {
            let config = GuardConfig {
                most_rate_hz,
                units: units.iter().map(|(id, rate)| (id.to_string(), *rate)).collect(),
                heartbeat_ns: None,
            };
            let shared = (parameters(None, None), Arc::new(StopSwitch::new(false)));
            Guard::new(&config, &ids, 3, (MS, MS), &[0.0], shared)
                .err()
                .unwrap_or_default()
        };
        assert!(refused(None, &[("z", 5.0)]).contains("\"z\""));
        assert!(refused(Some(f64::NAN), &[]).contains("NaN Hz"));
        assert!(refused(None, &[("a", -1.0)]).contains("-1 Hz"));
    }
}
