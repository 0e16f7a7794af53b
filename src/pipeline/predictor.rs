//! What the pipeline asks of a model, and the simplest model: each unit's mean rate.

use thiserror::Error;

use super::calibrate::Calibrator;
use super::output::OutputSpec;
use crate::hash::fnv1a;
use crate::model::conditions::Tokens;
use crate::model::config::ModelConfig;

/// A failure to predict one window. The pipeline then publishes the neutral prediction and goes on.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error("prediction failed: {0}")]
pub struct PredictError(pub String);

/// What a model was made of, as a recording of the run keeps it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Origin<'a> {
    /// Its file.
    pub file: &'a str,
    /// Which of the file's sessions was asked for; empty where none was.
    pub session: &'a str,
}

/// A model that predicts the spike counts of the bins that follow a window of spikes.
pub trait Predictor: Send {
    /// Ids of the model's units, in the order of its outputs; N = their number.
    fn unit_ids(&self) -> &[String];
    /// Bin width in ns.
    fn bin_ns(&self) -> i64;
    /// Length of the history window in ns.
    fn history_ns(&self) -> i64;
    /// Bins predicted ahead, T.
    fn horizon_bins(&self) -> usize;
    /// A hash that changes when the model does.
    fn model_hash(&self) -> u64;
    /// What it was made of; of nothing where it is from no file.
    fn origin(&self) -> Origin<'_> {
        Origin::default()
    }
    /// One line for people: what the model is.
    fn describe(&self) -> String;
    /// Most spikes that a window may hold.
    fn max_spikes(&self) -> usize;
    /// The system's numbers of the threads that take part in a prediction beside the calling one; asked once, before the run.
    fn worker_threads(&self) -> Vec<i32> {
        Vec::new()
    }
    /// Lets recent history stand where another model's stood, of the same kind; false where it is of another shape. Does not allocate.
    fn take_up(&mut self, _recent_history: &[f32]) -> bool {
        false
    }
    /// A bin has closed: called for every bin in order, before the prediction that follows it. Does not allocate.
    fn bin_closed(&mut self, _bin: &BinSpikes<'_>) {}
    /// Takes in the newest identities of the units, where some have been computed meanwhile: called after every
    /// [`bin_closed`](Self::bin_closed), before the prediction that follows it. Says where the reference ended that they were computed
    /// from, device ns. Does not allocate.
    fn take_identities(&mut self) -> Option<i64> {
        None
    }
    /// Sizes of the network, where there is one: its modalities are looked for among the sources' series.
    fn network_config(&self) -> Option<&ModelConfig> {
        None
    }
    /// What the next prediction is shown of other modalities, in the order of the network's `conditions`; called before it.
    /// Does not allocate.
    fn show(&mut self, _modalities: &[Tokens]) {}
    /// Predicts the T bins after a window `[bin_end − history, bin_end)`.
    ///
    /// `times_s`: S spike times in seconds relative to the window's start, sorted; `units`: S model unit indices;
    /// `log_rates`: T × N, row-major, receives ln(expected count in the bin). Does not allocate.
    ///
    /// # Errors
    /// Where this window cannot be predicted; `log_rates` then holds nothing of use.
    fn predict(&mut self, times_s: &[f64], units: &[u32], log_rates: &mut [f32]) -> Result<(), PredictError>;
    /// As [`predict`](Self::predict), where the time may not be enough for all bins: once what does not depend on their number
    /// is done, `bins` says how many there is time for, from 0 to T. Returns how many rows of `log_rates` were made, which are
    /// those of a whole prediction. A predictor that cannot stop early asks nobody and makes all of them.
    ///
    /// # Errors
    /// As [`predict`](Self::predict).
    fn predict_within(
        &mut self,
        times_s: &[f64],
        units: &[u32],
        _bins: &mut dyn FnMut() -> usize,
        log_rates: &mut [f32],
    ) -> Result<usize, PredictError> {
        self.predict(times_s, units, log_rates)?;
        Ok(self.horizon_bins())
    }
    /// The arrays that are published beside each prediction, in order; asked once, before the run.
    fn outputs(&self) -> Vec<OutputSpec> {
        Vec::new()
    }
    /// Writes the array of output `index`, `[rows, cols]`, row-major, that belongs to the prediction just made by
    /// [`predict`](Self::predict), which succeeded. Does not allocate.
    ///
    /// # Errors
    /// Where there is none; `out` then holds nothing of use, and the last one is published in its place.
    fn output(&mut self, index: usize, out: &mut [f32]) -> Result<(), PredictError> {
        let _ = out;
        Err(PredictError(format!("there is no output {index}")))
    }
    /// Why predictions are no longer computed where they were to be, once a device has failed and another has taken over.
    fn device_failure(&self) -> Option<&str> {
        None
    }
    /// Whether the units' identities are not known yet, and mean rates are predicted meanwhile.
    fn calibrating(&self) -> bool {
        false
    }
    /// Where recent history stands, for a model that sees it: what a recording of the run needs to begin from.
    fn recent_history(&self) -> Option<&[f32]> {
        None
    }
    /// What computes the units' identities while the run goes on: it needs a thread of its own, and is handed out once.
    fn take_calibrator(&mut self) -> Option<Calibrator> {
        None
    }
}

/// The spikes of a bin that has closed.
#[derive(Clone, Copy, Debug)]
pub struct BinSpikes<'a> {
    /// Device time of its end, ns.
    pub end_ns: i64,
    /// Counts, `[N]`.
    pub counts: &'a [u32],
    /// Device times of its spikes, ns, ascending; without those that a full history had no room for.
    pub times_ns: &'a [i64],
    /// Their units.
    pub units: &'a [u32],
}

/// Shape of a [`MeanRate`] predictor's windows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WindowShape {
    /// Bin width in ns.
    pub bin_ns: i64,
    /// History in ns.
    pub history_ns: i64,
    /// Bins predicted ahead.
    pub horizon_bins: usize,
    /// Most spikes in a window.
    pub max_spikes: usize,
}

/// Predicts each unit's mean count a bin, whatever the spikes: the null model of bits per spike.
#[derive(Clone, Debug)]
pub struct MeanRate {
    unit_ids: Vec<String>,
    shape: WindowShape,
    log_rates: Vec<f32>,
    hash: u64,
    origin: String,
}

impl MeanRate {
    /// A predictor of the given log rates (N, ln of the mean count a bin), which come from `origin`.
    ///
    /// # Errors
    /// Where the number of rates is not the number of units.
    pub fn new(
        unit_ids: Vec<String>,
        shape: WindowShape,
        log_rates: &[f64],
        origin: &str,
    ) -> Result<Self, PredictError> {
        if unit_ids.len() != log_rates.len() {
            let (rates, units) = (log_rates.len(), unit_ids.len());
            return Err(PredictError(format!("{rates} mean rates were given for {units} units")));
        }
        let log_rates: Vec<f32> = log_rates.iter().map(|&rate| rate as f32).collect();
        let hash = fnv1a(bytemuck::cast_slice(&log_rates));
        Ok(Self {
            unit_ids,
            shape,
            log_rates,
            hash,
            origin: origin.to_string(),
        })
    }
}

impl Predictor for MeanRate {
    fn unit_ids(&self) -> &[String] {
        &self.unit_ids
    }
    fn bin_ns(&self) -> i64 {
        self.shape.bin_ns
    }
    fn history_ns(&self) -> i64 {
        self.shape.history_ns
    }
    fn horizon_bins(&self) -> usize {
        self.shape.horizon_bins
    }
    fn model_hash(&self) -> u64 {
        self.hash
    }
    fn describe(&self) -> String {
        format!("mean rate of each unit, from {}", self.origin)
    }
    fn max_spikes(&self) -> usize {
        self.shape.max_spikes
    }
    fn predict(&mut self, _times_s: &[f64], _units: &[u32], log_rates: &mut [f32]) -> Result<(), PredictError> {
        for row in log_rates.chunks_exact_mut(self.log_rates.len().max(1)) {
            row.copy_from_slice(&self.log_rates);
        }
        Ok(())
    }
}

/// ln of each unit's mean count a bin over the spikes in `[start_ns, end_ns)`, clamped to [−10, 10] (model.md §9): a
/// silent unit has −10.
///
/// `units` are indices below `n_units`; others are left out.
pub fn mean_log_rates(
    times_ns: &[i64],
    units: &[u32],
    n_units: usize,
    start_ns: i64,
    end_ns: i64,
    bin_ns: i64,
) -> Vec<f64> {
    let mut counts = vec![0u64; n_units];
    for (&time, &unit) in times_ns.iter().zip(units) {
        if (start_ns..end_ns).contains(&time) {
            if let Some(count) = counts.get_mut(unit as usize) {
                *count += 1;
            }
        }
    }
    let bins = (end_ns - start_ns) as f64 / bin_ns as f64;
    counts
        .iter()
        .map(|&count| (count as f64 / bins).ln().clamp(-10.0, 10.0))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn means_are_counts_over_bins() {
        // 4 bins of 10 ns: unit 0 spikes twice, unit 1 never; the spike at 40 is outside.
        let rates = mean_log_rates(&[0, 39, 40], &[0, 0, 1], 2, 0, 40, 10);
        assert!((rates[0] - 0.5f64.ln()).abs() < 1e-12);
        assert_eq!(rates[1], -10.0);
    }

    #[test]
    fn every_predicted_bin_is_the_mean() {
        let shape = WindowShape {
            bin_ns: 1,
            history_ns: 1,
            horizon_bins: 3,
            max_spikes: 1,
        };
        let mut predictor = MeanRate::new(vec!["a".into(), "b".into()], shape, &[0.5, -1.0], "test").unwrap();
        let mut out = [9.0; 6];
        predictor.predict(&[], &[], &mut out).unwrap();
        assert_eq!(out, [0.5, -1.0, 0.5, -1.0, 0.5, -1.0]);
        assert!(MeanRate::new(vec!["a".into()], shape, &[], "test").is_err());
    }
}
