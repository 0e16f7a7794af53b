//! PSTH-R²: how well predictions, averaged over the trials of a condition, follow the averaged counts.
//!
//! A predicted bin belongs to a trial if it lies within it; its place is the number of bins from the trial's start to its own
//! start, rounded. Bins of the same condition at the same place are averaged over the trials, for each unit, however far ahead
//! they were predicted; places that only one trial reaches are left out.

use std::collections::BTreeMap;

use serde::Serialize;

use super::r2::{Explained, ExplainedSums};
use crate::data::Trial;
use crate::evaluate::predictions::{Observed, Predictions};

/// PSTH-R² and what it was computed from.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Psth {
    /// Over conditions, places in the trial, and units.
    #[serde(flatten)]
    pub explained: Explained,
    /// Conditions with at least one place.
    pub conditions: usize,
    /// Trials that had a predicted bin.
    pub trials: usize,
    /// Pairs of condition and place.
    pub places: usize,
}

/// Sums over the trials of one condition at one place.
struct Place {
    trials: u32,
    observed: Vec<f64>,
    predicted: Vec<f64>,
}

/// Compares trial averages; `None` where no condition has two trials with bins at the same place.
pub fn psth(observed: &Observed, predictions: &Predictions, trials: &[Trial]) -> Option<Psth> {
    let units = observed.units();
    let mut places: BTreeMap<(i64, i64), Place> = BTreeMap::new();
    let mut reached = vec![false; trials.len()];
    let bin_ns = observed.shape.bin_ns;
    for row in 0..observed.windows() * observed.bins() {
        let start = observed.bin_start_ns(row / observed.bins(), row % observed.bins());
        let Some(index) = trials.partition_point(|trial| trial.start_ns <= start).checked_sub(1) else {
            continue;
        };
        let trial = &trials[index];
        let (Some(condition), true) = (trial.condition, start + bin_ns <= trial.end_ns) else {
            continue;
        };
        reached[index] = true;
        let offset = (start - trial.start_ns + bin_ns / 2) / bin_ns;
        let place = places.entry((condition, offset)).or_insert_with(|| Place {
            trials: 0,
            observed: vec![0.0; units],
            predicted: vec![0.0; units],
        });
        place.trials += 1;
        let columns = row * units..(row + 1) * units;
        for (sum, &count) in place.observed.iter_mut().zip(&observed.counts[columns.clone()]) {
            *sum += f64::from(count);
        }
        for (sum, &rate) in place.predicted.iter_mut().zip(&predictions.log_rates[columns]) {
            *sum += f64::from(rate).exp();
        }
    }
    places.retain(|_, place| place.trials > 1);
    let mut sums = ExplainedSums::new(units);
    for place in places.values() {
        let trials = f64::from(place.trials);
        let pairs = place.observed.iter().zip(&place.predicted);
        sums.add(pairs.map(|(observed, predicted)| (observed / trials, predicted / trials)));
    }
    let mut conditions: Vec<i64> = places.keys().map(|&(condition, _)| condition).collect();
    conditions.dedup();
    Some(Psth {
        explained: sums.explained()?,
        conditions: conditions.len(),
        trials: reached.into_iter().filter(|&reached| reached).count(),
        places: places.len(),
    })
}

#[cfg(test)]
mod tests {
    use super::super::tests::{observed, predictions};
    use super::*;

    fn trial(start_ns: i64, end_ns: i64, condition: Option<i64>) -> Trial {
        Trial {
            start_ns,
            end_ns,
            condition,
        }
    }

    #[test]
    fn trials_of_a_condition_are_averaged_by_hand() {
        // Bins of 10 ns begin at 10, 20, 30, …, 80 (history 10, windows of two bins); one unit.
        let counts = [1.0, 4.0, 3.0, 2.0, 9.0, 0.0, 2.0, 7.0];
        let observed = observed(2, &counts, &[0.0]);
        assert_eq!([observed.bin_start_ns(0, 0), observed.bin_start_ns(3, 1)], [10, 80]);
        let rates = [2.0f32, 4.0, 2.0, 1.0, 9.0, 1.0, 1.0, 7.0].map(f32::ln);
        let trials = [
            // Places 0 and 1: counts 1, 4 predicted 2, 4. The grid's bins begin 1 ns after the trial's.
            trial(9, 31, Some(5)),
            // Places 0 and 1: counts 3, 2 predicted 2, 1. The bin at 50 is not within it.
            trial(30, 59, Some(5)),
            trial(60, 70, None),
            // Another condition with a single trial.
            trial(70, 90, Some(6)),
        ];
        let found = psth(&observed, &predictions(&observed, &rates), &trials).unwrap();
        // Averages: observed 2, 3; predicted 2, 2.5. SS_res = 0.25, SS_tot = 0.5.
        assert!((found.explained.r2 - 0.5).abs() < 1e-6, "{found:?}");
        assert_eq!((found.conditions, found.trials, found.places), (1, 3, 2));
    }

    #[test]
    fn without_repeated_trials_there_is_no_figure() {
        let observed = observed(2, &[1.0, 4.0], &[0.0]);
        let predicted = predictions(&observed, &[0.0, 0.0]);
        assert_eq!(psth(&observed, &predicted, &[]), None);
        assert_eq!(psth(&observed, &predicted, &[trial(0, 100, Some(1))]), None);
        assert_eq!(
            psth(&observed, &predicted, &[trial(0, 20, None), trial(20, 40, None)]),
            None
        );
    }
}
