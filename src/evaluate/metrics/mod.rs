//! Figures of merit of predictions: [`bits`] per spike with [`bootstrap`] intervals, explained variance ([`r2`]), trial
//! averages ([`psth`]) and [`calibration`].

pub mod bits;
pub mod bootstrap;
pub mod calibration;
pub mod psth;
pub mod r2;

use serde::Serialize;

use super::predictions::{Observed, Predictions};
use crate::data::Trial;
pub use bits::{Bits, BitsFigures, Gains};
pub use bootstrap::Resamples;
pub use r2::{explained_rows, Explained};

/// Every figure of one model.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Figures {
    /// Bits per spike in every breakdown.
    pub bits: BitsFigures,
    /// R² of predicted counts; `None` without windows.
    pub counts: Option<r2::Explained>,
    /// PSTH-R², where the recording has trials with conditions.
    pub psth: Option<psth::Psth>,
    /// Predicted against observed counts, by quantile of the prediction.
    pub calibration: Vec<calibration::CalibrationBin>,
}

impl Figures {
    /// Computes every figure; `gains` are those of the same predictions.
    pub fn new(
        observed: &Observed,
        predictions: &Predictions,
        gains: &Gains,
        trials: &[Trial],
        resamples: &Resamples,
    ) -> Self {
        Figures {
            bits: gains.figures(resamples),
            counts: r2::explained(observed, predictions),
            psth: psth::psth(observed, predictions, trials),
            calibration: calibration::calibration(observed, predictions, calibration::QUANTILE_BINS),
        }
    }
}

#[cfg(test)]
pub(in crate::evaluate) mod tests {
    use super::*;
    use crate::model::window::WindowShape;

    /// Windows of `bins` bins of 10 ns, one after another from 0, with 10 ns of history; `counts` `[W, T, N]`.
    pub fn observed(bins: usize, counts: &[f32], null_log_rates: &[f64]) -> Observed {
        let shape = WindowShape {
            history_ns: 10,
            bin_ns: 10,
            bins,
            horizon_ns: 10 * bins as i64,
        };
        let windows = counts.len() / (bins * null_log_rates.len());
        Observed {
            shape,
            starts_ns: (0..windows as i64).map(|window| window * shape.horizon_ns).collect(),
            counts: counts.to_vec(),
            null_log_rates: null_log_rates.to_vec(),
        }
    }

    /// Predictions of these windows.
    pub fn predictions(observed: &Observed, log_rates: &[f32]) -> Predictions {
        let mut predictions = Predictions::empty("model", observed);
        predictions.log_rates.copy_from_slice(log_rates);
        predictions
    }
}
