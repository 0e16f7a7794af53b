//! Calibration: where a model expects 0.1 spikes, are there 0.1 on average?

use serde::Serialize;

use crate::evaluate::predictions::{Observed, Predictions};

/// Groups of equal size into which predictions are sorted.
pub const QUANTILE_BINS: usize = 10;

/// Predictions between two quantiles of all predicted counts, and what was observed there.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct CalibrationBin {
    /// Predictions in the group: one a window, bin and unit.
    pub n: usize,
    /// Mean predicted count.
    pub predicted: f64,
    /// Mean observed count.
    pub observed: f64,
    /// Standard error of the observed mean, as if counts were independent.
    pub observed_se: f64,
}

/// Sorts all predictions into `groups` of equal size (the last few may hold one less) by the predicted count.
pub fn calibration(observed: &Observed, predictions: &Predictions, groups: usize) -> Vec<CalibrationBin> {
    let mut pairs: Vec<(f32, f32)> = predictions
        .log_rates
        .iter()
        .copied()
        .zip(observed.counts.iter().copied())
        .collect();
    pairs.sort_by(|a, b| a.0.total_cmp(&b.0));
    let groups = groups.min(pairs.len()).max(1);
    let edge = |group: usize| (pairs.len() * group).div_ceil(groups);
    (0..groups)
        .filter_map(|group| CalibrationBin::of(&pairs[edge(group)..edge(group + 1)]))
        .collect()
}

impl CalibrationBin {
    /// `None` for no pairs of log rate and count.
    fn of(pairs: &[(f32, f32)]) -> Option<Self> {
        if pairs.is_empty() {
            return None;
        }
        let n = pairs.len() as f64;
        let mean = |value: &dyn Fn(&(f32, f32)) -> f64| pairs.iter().map(value).sum::<f64>() / n;
        let observed = mean(&|pair| f64::from(pair.1));
        let variance = mean(&|pair| (f64::from(pair.1) - observed).powi(2)) * n / (n - 1.0).max(1.0);
        Some(CalibrationBin {
            n: pairs.len(),
            predicted: mean(&|pair| f64::from(pair.0).exp()),
            observed,
            observed_se: (variance / n).sqrt(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{observed, predictions};
    use super::*;

    #[test]
    fn by_hand() {
        let observed = observed(1, &[2.0, 0.0, 1.0, 4.0, 1.0, 0.0, 3.0, 1.0], &[0.0, 0.0]);
        // Sorted by prediction: counts 0, 1, 0, 1 at 0.5; then 2, 4 at 2 and 1, 3 at 3.
        let rates = [2.0f32, 0.5, 0.5, 2.0, 3.0, 0.5, 3.0, 0.5].map(f32::ln);
        let found = calibration(&observed, &predictions(&observed, &rates), 2);
        assert_eq!(found.len(), 2);
        assert_eq!((found[0].n, found[1].n), (4, 4));
        assert!((found[0].predicted - 0.5).abs() < 1e-6 && (found[0].observed - 0.5).abs() < 1e-12);
        // Squares about 1/2: four times 1/4; over n − 1 = 3, over n = 4.
        assert!((found[0].observed_se - (1.0f64 / 3.0 / 4.0).sqrt()).abs() < 1e-12);
        assert!((found[1].predicted - 2.5).abs() < 1e-6 && (found[1].observed - 2.5).abs() < 1e-12);
    }
}
