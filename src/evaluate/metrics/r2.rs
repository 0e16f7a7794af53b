//! Explained variance, `R² = 1 − SS_res / (SS_tot + 1e-8)` (model.md §9), of counts and of trial averages.

use serde::Serialize;

use crate::evaluate::predictions::{Observed, Predictions};

/// Keeps R² finite where nothing varies.
const EPSILON: f64 = 1e-8;

/// Explained variance about two kinds of mean.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Explained {
    /// `SS_tot` about the one mean over all units: a model that knows only the units' mean rates already explains much.
    pub r2: f64,
    /// `SS_tot` about each unit's own mean: such a model explains nothing.
    pub r2_within_units: f64,
}

/// Explained variance of rows of (observed, predicted) values of N units.
pub fn explained_rows(units: usize, rows: impl Iterator<Item = (Vec<f64>, Vec<f64>)>) -> Option<Explained> {
    let mut sums = ExplainedSums::new(units);
    rows.for_each(|(observed, predicted)| sums.add(observed.into_iter().zip(predicted)));
    sums.explained()
}

/// Sums from which both kinds of R² follow, for rows of N values.
#[derive(Debug, Clone)]
pub(super) struct ExplainedSums {
    residual: f64,
    /// Sum and sum of squares of each unit's observed values.
    moments: Vec<(f64, f64)>,
    rows: u64,
}

impl ExplainedSums {
    pub(super) fn new(units: usize) -> Self {
        ExplainedSums {
            residual: 0.0,
            moments: vec![(0.0, 0.0); units],
            rows: 0,
        }
    }

    /// Adds observed and predicted values of every unit.
    pub(super) fn add(&mut self, pairs: impl IntoIterator<Item = (f64, f64)>) {
        self.rows += 1;
        for (moments, (observed, predicted)) in self.moments.iter_mut().zip(pairs) {
            self.residual += (observed - predicted).powi(2);
            moments.0 += observed;
            moments.1 += observed * observed;
        }
    }

    /// `None` before the first row.
    pub(super) fn explained(&self) -> Option<Explained> {
        if self.rows == 0 || self.moments.is_empty() {
            return None;
        }
        let about_mean = |(sum, squares): (f64, f64), n: f64| (squares - sum * sum / n).max(0.0);
        let all = self.moments.iter().fold((0.0, 0.0), |a, b| (a.0 + b.0, a.1 + b.1));
        let rows = self.rows as f64;
        let within: f64 = self.moments.iter().map(|&moments| about_mean(moments, rows)).sum();
        let total = about_mean(all, rows * self.moments.len() as f64);
        Some(Explained {
            r2: 1.0 - self.residual / (total + EPSILON),
            r2_within_units: 1.0 - self.residual / (within + EPSILON),
        })
    }
}

/// R² between predicted and observed counts of every bin of every window.
pub fn explained(observed: &Observed, predictions: &Predictions) -> Option<Explained> {
    let units = observed.units().max(1);
    let mut sums = ExplainedSums::new(observed.units());
    let rows = observed.counts.chunks_exact(units);
    for (counts, log_rates) in rows.zip(predictions.log_rates.chunks_exact(units)) {
        let pairs = counts.iter().zip(log_rates);
        sums.add(pairs.map(|(&count, &rate)| (f64::from(count), f64::from(rate).exp())));
    }
    sums.explained()
}

#[cfg(test)]
mod tests {
    use super::super::tests::{observed, predictions};
    use super::*;

    #[test]
    fn by_hand() {
        // Unit 0: 0, 2 predicted 1, 1; unit 1: 3, 5 predicted 4, 5. SS_res = 1 + 1 + 1 + 0. About the mean 2.5:
        // 6.25 + 0.25 + 0.25 + 6.25 = 13. About each unit's own: 2 + 2.
        let observed = observed(1, &[0.0, 3.0, 2.0, 5.0], &[0.0, 0.0]);
        let rates = [1.0f32, 4.0, 1.0, 5.0].map(f32::ln);
        let found = explained(&observed, &predictions(&observed, &rates)).unwrap();
        assert!((found.r2 - (1.0 - 3.0 / 13.0)).abs() < 1e-6, "{found:?}");
        assert!((found.r2_within_units - (1.0 - 3.0 / 4.0)).abs() < 1e-6, "{found:?}");
    }

    #[test]
    fn mean_rates_explain_nothing_within_units() {
        let observed = observed(2, &[0.0, 3.0, 2.0, 5.0, 1.0, 4.0, 1.0, 4.0], &[0.0, 0.0]);
        let rates: Vec<f32> = [0.0, 4.0f32.ln()].repeat(4);
        let found = explained(&observed, &predictions(&observed, &rates)).unwrap();
        assert!(found.r2_within_units.abs() < 1e-6 && found.r2 > 0.8, "{found:?}");
    }
}
