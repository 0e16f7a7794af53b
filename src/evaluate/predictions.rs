//! What is compared: the counts that were observed in the windows of an interval, and the log rates that models predicted.
//!
//! Every model of an evaluation predicts the same windows, so that their figures differ by the model alone.

use kernels::BackendError;

use super::forward::{window_starts, Inputs};
use crate::model::window::{Spikes, WindowShape};
use crate::model::Inference;

/// What happened in the predicted bins of W windows, and the null model's expectation.
#[derive(Debug, Clone, PartialEq)]
pub struct Observed {
    /// The windows' form; T = `shape.bins`.
    pub shape: WindowShape,
    /// Starts of the windows' histories, device ns, `[W]`; the first predicted bin begins `shape.history_ns` later.
    pub starts_ns: Vec<i64>,
    /// Spike counts, `[W, T, N]`.
    pub counts: Vec<f32>,
    /// ln of each unit's mean count a bin on the training data, `[N]`.
    pub null_log_rates: Vec<f64>,
}

impl Observed {
    /// Counts `spikes` in the windows of an interval, `stride_bins` apart.
    pub fn new(
        spikes: Spikes<'_>,
        shape: WindowShape,
        interval_ns: (i64, i64),
        stride_bins: usize,
        null_log_rates: Vec<f64>,
    ) -> Self {
        let starts_ns: Vec<i64> = window_starts(shape, interval_ns.0, interval_ns.1, stride_bins).collect();
        let units = null_log_rates.len();
        let mut counts = vec![0.0; starts_ns.len() * shape.bins * units];
        for (&start, counts) in starts_ns
            .iter()
            .zip(counts.chunks_exact_mut((shape.bins * units).max(1)))
        {
            shape.count(spikes, start + shape.history_ns, units, counts);
        }
        Observed {
            shape,
            starts_ns,
            counts,
            null_log_rates,
        }
    }

    /// Leaves out the windows whose start does not satisfy `keep`.
    pub fn retain(&mut self, keep: impl Fn(i64) -> bool) {
        let size = (self.bins() * self.units()).max(1);
        let kept = self.starts_ns.iter().zip(self.counts.chunks_exact(size));
        let (starts, counts): (Vec<i64>, Vec<&[f32]>) = kept.filter(|(&start, _)| keep(start)).unzip();
        self.counts = counts.concat();
        self.starts_ns = starts;
    }

    /// Predicted bins a window, T.
    pub fn bins(&self) -> usize {
        self.shape.bins
    }

    /// Units, N.
    pub fn units(&self) -> usize {
        self.null_log_rates.len()
    }

    /// Windows, W.
    pub fn windows(&self) -> usize {
        self.starts_ns.len()
    }

    /// Spikes in all predicted bins.
    pub fn spikes(&self) -> u64 {
        self.counts.iter().map(|&count| f64::from(count)).sum::<f64>() as u64
    }

    /// Start of a predicted bin, device ns.
    pub fn bin_start_ns(&self, window: usize, bin: usize) -> i64 {
        self.starts_ns[window] + self.shape.history_ns + bin as i64 * self.shape.bin_ns
    }

    /// The same windows with only these units, in this order.
    pub fn select_units(&self, units: &[usize]) -> Observed {
        Observed {
            shape: self.shape,
            starts_ns: self.starts_ns.clone(),
            counts: select_columns(&self.counts, self.units(), units),
            null_log_rates: units.iter().map(|&unit| self.null_log_rates[unit]).collect(),
        }
    }
}

/// What one model predicted for the windows of an [`Observed`].
#[derive(Debug, Clone, PartialEq)]
pub struct Predictions {
    /// The model's name, as reports show it.
    pub model: String,
    /// Predicted bins a window, T.
    pub bins: usize,
    /// Units, N.
    pub units: usize,
    /// Starts of the windows' histories, device ns, `[W]`.
    pub starts_ns: Vec<i64>,
    /// ln of the expected counts, `[W, T, N]`.
    pub log_rates: Vec<f32>,
}

impl Predictions {
    /// Room for a model's predictions of the windows of `observed`; every expected count is 1 until it is written.
    pub fn empty(model: &str, observed: &Observed) -> Self {
        Predictions {
            model: model.to_string(),
            bins: observed.bins(),
            units: observed.units(),
            starts_ns: observed.starts_ns.clone(),
            log_rates: vec![0.0; observed.counts.len()],
        }
    }

    /// The log rates `[T, N]` of a window, to be written.
    pub fn window_mut(&mut self, window: usize) -> &mut [f32] {
        let size = self.bins * self.units;
        &mut self.log_rates[window * size..(window + 1) * size]
    }

    /// The same windows with only these units, in this order.
    pub fn select_units(&self, units: &[usize]) -> Predictions {
        Predictions {
            model: self.model.clone(),
            bins: self.bins,
            units: units.len(),
            starts_ns: self.starts_ns.clone(),
            log_rates: select_columns(&self.log_rates, self.units, units),
        }
    }
}

fn select_columns(values: &[f32], columns: usize, selected: &[usize]) -> Vec<f32> {
    let rows = values.chunks_exact(columns.max(1));
    rows.flat_map(|row| selected.iter().map(|&column| row[column]))
        .collect()
}

/// The network's generated predictions of the windows of `observed`, from inputs that may lack spikes that `observed` counts.
/// `each` is called after every window with its number and the network that has just predicted it.
///
/// # Errors
/// Where the device that computes fails.
pub fn of_network(
    network: &mut dyn Inference,
    model: &str,
    mut inputs: Inputs<'_>,
    observed: &Observed,
    mut each: impl FnMut(usize, &mut dyn Inference) -> Result<(), BackendError>,
) -> Result<Predictions, BackendError> {
    let mut predictions = Predictions::empty(model, observed);
    let mut times = Vec::new();
    for (window, &start) in observed.starts_ns.iter().enumerate() {
        inputs.predict_window(network, start, &mut times, predictions.window_mut(window))?;
        each(window, network)?;
    }
    Ok(predictions)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: WindowShape = WindowShape {
        history_ns: 40,
        bin_ns: 20,
        bins: 2,
        horizon_ns: 40,
    };

    #[test]
    fn windows_are_counted_one_after_another() {
        let spikes = Spikes {
            times_ns: &[0, 45, 60, 79, 80, 101],
            units: &[0, 1, 0, 0, 2, 1],
        };
        let observed = Observed::new(spikes, SHAPE, (0, 120), 2, vec![-1.0; 3]);
        assert_eq!(observed.starts_ns, [0, 40]);
        assert_eq!(
            observed.counts,
            [0.0, 1.0, 0.0, 2.0, 0.0, 0.0, 0.0, 0.0, 1.0, 0.0, 1.0, 0.0]
        );
        assert_eq!((observed.windows(), observed.spikes()), (2, 5));
        assert_eq!(observed.bin_start_ns(1, 1), 100);

        let part = observed.select_units(&[2, 0]);
        assert_eq!(part.counts, [0.0, 0.0, 0.0, 2.0, 1.0, 0.0, 0.0, 0.0]);
        let mut predictions = Predictions::empty("m", &observed);
        predictions.log_rates[2] = 7.0;
        assert_eq!(predictions.select_units(&[2, 0]).log_rates[0], 7.0);

        let mut second = observed.clone();
        second.retain(|start| start > 0);
        assert_eq!((second.windows(), second.spikes()), (1, 2));
        assert_eq!(second.counts, observed.counts[6..]);
    }
}
