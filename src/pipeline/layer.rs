//! A predictor around another one: all but what it says otherwise is the other one's.

use super::calibrate::Calibrator;
use super::output::OutputSpec;
use super::predictor::{BinSpikes, Origin, PredictError, Predictor};
use crate::model::conditions::Tokens;
use crate::model::config::ModelConfig;

/// A layer around a predictor, and so a [`Predictor`] itself. What a layer may change has a method here; everything else is handed
/// through in one place, so that no layer forgets a part of it.
pub trait Layer: Send {
    /// The predictor inside.
    fn inner(&self) -> &dyn Predictor;
    /// The same, to be told and asked.
    fn inner_mut(&mut self) -> &mut dyn Predictor;
    /// See [`Predictor::bin_closed`].
    fn on_bin_closed(&mut self, bin: &BinSpikes<'_>) {
        self.inner_mut().bin_closed(bin);
    }
    /// See [`Predictor::outputs`].
    fn all_outputs(&self) -> Vec<OutputSpec> {
        self.inner().outputs()
    }
    /// See [`Predictor::output`].
    ///
    /// # Errors
    /// As there.
    fn read_output(&mut self, index: usize, out: &mut [f32]) -> Result<(), PredictError> {
        self.inner_mut().output(index, out)
    }
}

impl<L: Layer> Predictor for L {
    fn unit_ids(&self) -> &[String] {
        self.inner().unit_ids()
    }
    fn bin_ns(&self) -> i64 {
        self.inner().bin_ns()
    }
    fn history_ns(&self) -> i64 {
        self.inner().history_ns()
    }
    fn horizon_bins(&self) -> usize {
        self.inner().horizon_bins()
    }
    fn model_hash(&self) -> u64 {
        self.inner().model_hash()
    }
    fn origin(&self) -> Origin<'_> {
        self.inner().origin()
    }
    fn describe(&self) -> String {
        self.inner().describe()
    }
    fn max_spikes(&self) -> usize {
        self.inner().max_spikes()
    }
    fn worker_threads(&self) -> Vec<i32> {
        self.inner().worker_threads()
    }
    fn take_up(&mut self, recent_history: &[f32]) -> bool {
        self.inner_mut().take_up(recent_history)
    }
    fn bin_closed(&mut self, bin: &BinSpikes<'_>) {
        self.on_bin_closed(bin);
    }
    fn take_identities(&mut self) -> Option<i64> {
        self.inner_mut().take_identities()
    }
    fn network_config(&self) -> Option<&ModelConfig> {
        self.inner().network_config()
    }
    fn show(&mut self, modalities: &[Tokens]) {
        self.inner_mut().show(modalities);
    }
    fn predict(&mut self, times_s: &[f64], units: &[u32], log_rates: &mut [f32]) -> Result<(), PredictError> {
        self.inner_mut().predict(times_s, units, log_rates)
    }
    fn predict_within(
        &mut self,
        times_s: &[f64],
        units: &[u32],
        bins: &mut dyn FnMut() -> usize,
        log_rates: &mut [f32],
    ) -> Result<usize, PredictError> {
        self.inner_mut().predict_within(times_s, units, bins, log_rates)
    }
    fn outputs(&self) -> Vec<OutputSpec> {
        self.all_outputs()
    }
    fn output(&mut self, index: usize, out: &mut [f32]) -> Result<(), PredictError> {
        self.read_output(index, out)
    }
    fn device_failure(&self) -> Option<&str> {
        self.inner().device_failure()
    }
    fn recent_history(&self) -> Option<&[f32]> {
        self.inner().recent_history()
    }
    fn calibrating(&self) -> bool {
        self.inner().calibrating()
    }
    fn take_calibrator(&mut self) -> Option<Calibrator> {
        self.inner_mut().take_calibrator()
    }
}
