//! From the configuration to a predictor.

use super::run_config::{ms_to_ns, ModelSection};
use super::CliError;
use crate::pipeline::predictor::{MeanRate, WindowShape};
use crate::pipeline::{NullModel, Predictor};

/// A predictor and the null model that its bits per spike are counted against.
pub struct BuiltPredictor {
    /// The predictor.
    pub predictor: Box<dyn Predictor>,
    /// Its null model, in the order of its units.
    pub null: NullModel,
}

/// Bin width that the configuration asks for, ns. A checkpoint brings its own.
///
/// # Errors
/// Where it is out of range.
pub fn bin_ns(section: &ModelSection) -> Result<i64, CliError> {
    ms_to_ns("model.bin_ms", section.bin_ms, 0.1)
}

/// The predictor that the configuration asks for, for a source with these units, whose `mean_log_rates` (ln of the mean
/// count a bin) come from `means_from`.
///
/// # Errors
/// Where a number of the configuration is out of its range or the checkpoint cannot be used.
pub fn build_predictor(
    section: &ModelSection,
    source_unit_ids: &[String],
    mean_log_rates: &[f64],
    means_from: &str,
) -> Result<BuiltPredictor, CliError> {
    if let Some(checkpoint) = &section.checkpoint {
        return Err(CliError::Config(format!(
            "checkpoint {}: only mean rates are supported",
            checkpoint.display()
        )));
    }
    let shape = WindowShape {
        bin_ns: bin_ns(section)?,
        history_ns: ms_to_ns("model.history_ms", section.history_ms, 0.1)?,
        horizon_bins: section.horizon_bins,
        max_spikes: section.max_spikes,
    };
    if !(1..=1_000).contains(&shape.horizon_bins) || !(1..=100_000_000).contains(&shape.max_spikes) {
        return Err(CliError::Config(format!(
            "model.horizon_bins = {} is not in 1–1000 or model.max_spikes = {} is not in 1–100000000",
            shape.horizon_bins, shape.max_spikes
        )));
    }
    let predictor = MeanRate::new(source_unit_ids.to_vec(), shape, mean_log_rates, means_from)?;
    Ok(BuiltPredictor {
        predictor: Box::new(predictor),
        null: NullModel {
            log_rates: mean_log_rates.to_vec(),
            last_bin_ns: shape.bin_ns,
        },
    })
}
