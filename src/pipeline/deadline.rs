//! The deadline of a bin, and what is published when it cannot be met: the ladder, decided from what decoding has cost so far.
//!
//! ```text
//! the whole horizon → its first bins → the last prediction, held → the mean rates
//! ```
//!
//! Decoding has two parts: one that does not depend on the number of predicted bins, and so much a bin. Both are followed as
//! high quantiles of what they have cost, and so is what reads outputs off a prediction. A bin whose first part would not be done in
//! time is held without being decoded; after the first part as many bins are predicted as there is time for. Whether decoding is
//! still too slow is tried again after some bins, after twice as many where it was, and so on: a bin that is tried may be late. A
//! deadline that has passed before decoding begins cannot be saved by doing less: then the whole horizon is predicted, and
//! flagged as late.

/// Time kept for the hand-over to the publish thread and its send, at most; otherwise a tenth of the budget.
const MARGIN_NS: i64 = 500_000;
/// Steps of a followed quantile, as shares of the difference: up where a cost was above it, down where it was below. They rest
/// where one cost in sixteen is above.
const UP: f64 = 0.3;
const DOWN: f64 = 0.02;
/// Bins that are held before decoding is tried again: it may have been one slow moment. Twice as many after every trial that says
/// it was none, up to the most.
const FIRST_PATIENCE: u32 = 4;
const MOST_PATIENCE: u32 = 64;

/// The time that a bin has from its close to its publication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline {
    /// The budget in ns; `None` where sources run as fast as they may and time means nothing.
    pub budget_ns: Option<i64>,
}

impl Deadline {
    /// Whether a bin that closed at `close_ns` is published too late at `publish_ns`.
    pub fn is_missed(&self, close_ns: i64, publish_ns: i64) -> bool {
        self.budget_ns.is_some_and(|budget| publish_ns - close_ns > budget)
    }

    /// Host time by which decoding has to be done; `None` where time means nothing or the deadline has passed.
    fn done_by_ns(&self, close_ns: i64, now_ns: i64) -> Option<i64> {
        let budget = self.budget_ns?;
        let done_by = close_ns + budget - MARGIN_NS.min(budget / 10);
        (now_ns < close_ns + budget).then_some(done_by)
    }

    /// Whether a bin that closed at `close_ns` is decoded, or the last prediction held. When the next bin has closed too (`behind`),
    /// decoding is late by a whole bin: this one is not decoded, so that the newest can be in time. Neither is one that would not be
    /// done in time, but for a trial. How much of the horizon is predicted is decided while it is decoded.
    pub fn is_decoded(&self, costs: &mut Costs, (close_ns, now_ns): (i64, i64), behind: bool) -> bool {
        if self.budget_ns.is_some() && behind {
            return false;
        }
        let Some(done_by) = self.done_by_ns(close_ns, now_ns) else {
            return true;
        };
        if now_ns as f64 + costs.fixed_ns + costs.bin_ns + costs.outputs_ns > done_by as f64 {
            return costs.is_trial_due();
        }
        costs.is_quick_enough();
        true
    }

    /// How many of `all` bins there is time for at `now_ns`; at least one in a trial.
    pub fn bins_in_time(&self, costs: &Costs, (close_ns, now_ns): (i64, i64), all: usize) -> usize {
        let Some(done_by) = self.done_by_ns(close_ns, now_ns) else {
            return all;
        };
        let left_ns = (done_by - now_ns) as f64 - costs.outputs_ns;
        let bins = match costs.bin_ns > 0.0 {
            true => (left_ns / costs.bin_ns) as usize,
            false if left_ns > 0.0 => all,
            false => 0,
        };
        bins.max(usize::from(costs.trial)).min(all)
    }
}

/// What decoding costs: high quantiles of what it has cost, ns.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Costs {
    /// Of what does not depend on the number of bins.
    fixed_ns: f64,
    /// Of each predicted bin.
    bin_ns: f64,
    /// Of what is read off a prediction.
    outputs_ns: f64,
    /// Whether the bin that is decoded is a trial.
    trial: bool,
    /// Bins held since the last trial, and how many are before the next.
    held: u32,
    patience: u32,
}

impl Costs {
    /// A bin was decoded: the first part in `fixed_ns`, then `bins` bins in `bins_ns`.
    pub fn learn(&mut self, fixed_ns: i64, bins: usize, bins_ns: i64) {
        // A trial says what it costs now.
        let learn = if self.trial { set } else { follow };
        learn(&mut self.fixed_ns, fixed_ns as f64);
        if bins > 0 {
            learn(&mut self.bin_ns, bins_ns as f64 / bins as f64);
        }
    }

    /// Outputs were read off the prediction of that bin, in so many ns.
    pub fn learn_outputs(&mut self, outputs_ns: i64) {
        let learn = if std::mem::take(&mut self.trial) { set } else { follow };
        learn(&mut self.outputs_ns, outputs_ns as f64);
    }

    /// Decoding is too slow by what it has cost. Says whether it is to be tried nevertheless.
    fn is_trial_due(&mut self) -> bool {
        self.patience = self.patience.max(FIRST_PATIENCE);
        self.held += 1;
        self.trial = self.held > self.patience;
        if self.trial {
            self.held = 0;
            self.patience = (2 * self.patience).min(MOST_PATIENCE);
        }
        self.trial
    }

    /// By what it has cost decoding is quick enough.
    fn is_quick_enough(&mut self) {
        (self.held, self.patience) = (0, FIRST_PATIENCE);
    }
}

fn set(quantile: &mut f64, cost: f64) {
    *quantile = cost;
}

fn follow(quantile: &mut f64, cost: f64) {
    let step = if cost > *quantile { UP } else { DOWN };
    *quantile += step * (cost - *quantile);
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: i64 = 1_000_000;
    const DEADLINE: Deadline = Deadline {
        budget_ns: Some(20 * MS),
    };

    fn costs(fixed_ms: i64, bin_ms: i64) -> Costs {
        let mut costs = Costs::default();
        (0..200).for_each(|_| costs.learn(fixed_ms * MS, 10, 10 * bin_ms * MS));
        costs
    }

    #[test]
    fn the_budget_runs_from_close_to_publication() {
        assert!(!DEADLINE.is_missed(100, 100 + 20 * MS));
        assert!(DEADLINE.is_missed(100, 101 + 20 * MS));
        assert!(!Deadline { budget_ns: None }.is_missed(100, i64::MAX));
    }

    #[test]
    fn who_is_behind_decodes_nothing_and_tries_nothing() {
        let mut none = Costs::default();
        assert!(DEADLINE.is_decoded(&mut none, (0, 0), false));
        assert!(!DEADLINE.is_decoded(&mut none, (0, 0), true));
        let timeless = Deadline { budget_ns: None };
        assert!(timeless.is_decoded(&mut none, (0, 0), true));
        assert_eq!(timeless.bins_in_time(&costs(5, 5), (0, i64::MAX / 2), 12), 12);
        // No trial is due before four bins were held for their cost, and none is spent on bins that are not decoded.
        let mut slow = costs(30, 1);
        let before = slow;
        (0..100).for_each(|_| assert!(!DEADLINE.is_decoded(&mut slow, (0, 0), true)));
        assert_eq!(slow, before);
        // Of a deadline that has passed nothing is learned about what is quick.
        let decoded = [(); 5].map(|()| DEADLINE.is_decoded(&mut slow, (0, 0), false));
        assert_eq!(decoded, [false, false, false, false, true]);
        let tried = slow;
        assert!(DEADLINE.is_decoded(&mut slow, (0, 25 * MS), false));
        assert_eq!(slow, tried);
    }

    #[test]
    fn as_many_bins_are_predicted_as_there_is_time_for() {
        // 20 ms, less a margin of half a ms: after 8 ms there is time for eleven bins of one ms.
        let costs = costs(8, 1);
        assert_eq!(DEADLINE.bins_in_time(&costs, (0, 8 * MS), 12), 11);
        assert_eq!(DEADLINE.bins_in_time(&costs, (0, MS), 12), 12);
        assert_eq!(DEADLINE.bins_in_time(&costs, (0, 19 * MS), 12), 0);
        // In the margin a hold would still be in time.
        assert_eq!(DEADLINE.bins_in_time(&costs, (0, 19_600_000), 12), 0);
        // What is late already is not cut short.
        assert_eq!(DEADLINE.bins_in_time(&costs, (0, 21 * MS), 12), 12);
    }

    #[test]
    fn a_bin_that_would_be_late_is_held_and_one_that_is_late_is_decoded() {
        let mut slow = costs(15, 1);
        assert!(DEADLINE.is_decoded(&mut slow, (0, 2 * MS), false));
        assert!(!DEADLINE.is_decoded(&mut slow, (0, 5 * MS), false));
        assert!(!DEADLINE.is_decoded(&mut slow, (0, 19_600_000), false));
        assert!(DEADLINE.is_decoded(&mut slow, (0, 25 * MS), false));
        // What reads the outputs counts.
        let mut reading = costs(15, 1);
        (0..200).for_each(|_| reading.learn_outputs(3 * MS));
        assert!(!DEADLINE.is_decoded(&mut reading, (0, 2 * MS), false));
        assert_eq!(DEADLINE.bins_in_time(&reading, (0, 10 * MS), 12), 6);
    }

    #[test]
    fn what_stays_too_slow_is_tried_ever_more_rarely_and_what_is_quick_again_soon() {
        let mut costs = costs(30, 1);
        let mut bins = 0;
        let mut until_trial = |costs: &mut Costs| loop {
            bins += 1;
            if DEADLINE.is_decoded(costs, (0, 0), false) {
                return bins;
            }
        };
        let mut tried = Vec::new();
        for _ in 0..7 {
            tried.push(until_trial(&mut costs));
            costs.learn(30 * MS, 1, MS);
            costs.learn_outputs(0);
        }
        let apart: Vec<i32> = tried.windows(2).map(|two| two[1] - two[0]).collect();
        assert_eq!((tried[0], apart), (5, vec![9, 17, 33, 65, 65, 65]));
        until_trial(&mut costs);
        costs.learn(2 * MS, 1, MS);
        costs.learn_outputs(0);
        assert!(DEADLINE.is_decoded(&mut costs, (0, 0), false));
        assert_eq!(DEADLINE.bins_in_time(&costs, (0, 2 * MS), 12), 12);
    }

    #[test]
    fn one_slow_moment_is_forgotten_and_slowness_is_learned() {
        let mut costs = costs(2, 1);
        costs.learn(200 * MS, 10, 10 * MS);
        costs.learn_outputs(0);
        let held = (0..100)
            .take_while(|_| !DEADLINE.is_decoded(&mut costs, (0, 0), false))
            .count();
        assert!((1..10).contains(&held), "held {held} bins");
        // A cost that is there in one bin of ten is what is expected.
        for bin in 0..400 {
            costs.learn(if bin % 10 == 0 { 16 * MS } else { 2 * MS }, 10, 10 * MS);
            costs.learn_outputs(0);
        }
        assert!(!DEADLINE.is_decoded(&mut costs, (0, 9 * MS), false));
    }
}
