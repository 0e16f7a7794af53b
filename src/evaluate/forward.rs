//! Predicts windows of a recording's future: the offline protocol.
//!
//! Windows stand on the recording's grid of bins, which begins at its `grid_origin_ns`. The first window's history begins
//! at the interval's start; each further one `stride` bins later, as long as every bin that its horizon reaches into ends
//! within the interval. The runtime scores itself by the same rule, so that both give one figure.

use kernels::BackendError;

use crate::model::conditions::ConditionReader;
use crate::model::traces::TraceReader;
use crate::model::window::{Spikes, WindowShape};
use crate::model::Inference;

/// Starts of the histories of all windows in `start_ns .. end_ns`, `stride_bins` apart.
pub fn window_starts(
    shape: WindowShape,
    start_ns: i64,
    end_ns: i64,
    stride_bins: usize,
) -> impl ExactSizeIterator<Item = i64> {
    let length = shape.history_ns + (shape.horizon_ns as u64).next_multiple_of(shape.bin_ns as u64) as i64;
    let stride = shape.bin_ns * stride_bins.max(1) as i64;
    let room = end_ns - start_ns - length;
    let count = if room < 0 { 0 } else { (room / stride + 1) as usize };
    (0..count).map(move |k| start_ns + k as i64 * stride)
}

/// What predictions of a recording are made from.
pub struct Inputs<'a> {
    /// Spikes that the network is shown.
    pub spikes: Spikes<'a>,
    /// Whether those of the history are tokens of the encoder; recent history counts them either way.
    pub spike_tokens: bool,
    /// At or before the first window, for a network with the path of recent history.
    pub traces: Option<TraceReader<'a>>,
    /// Other modalities, for a network that sees some.
    pub conditions: ConditionReader<'a>,
}

impl Inputs<'_> {
    /// Predicts one window: generated log rates into `log_rates` `[T, N]`. Windows follow one another in time. Returns the
    /// spikes that did not fit, the oldest.
    ///
    /// # Errors
    /// Where the device that computes fails.
    pub fn predict_window(
        &mut self,
        network: &mut dyn Inference,
        start_ns: i64,
        times_s: &mut Vec<f64>,
        log_rates: &mut [f32],
    ) -> Result<usize, BackendError> {
        let end_ns = start_ns + WindowShape::new(network.config(), network.plan().bins).history_ns;
        let past = match self.spike_tokens {
            true => self.spikes.between(start_ns, end_ns),
            false => self.spikes.between(start_ns, start_ns),
        };
        let (past, excess) = past.newest(network.plan().max_spikes, start_ns, times_s);
        network.set_conditions(self.conditions.at(end_ns));
        let spikes = self.spikes;
        let traces = self.traces.as_mut().map(|traces| traces.advance(spikes, end_ns));
        network.predict(traces, times_s, past.units, log_rates)?;
        Ok(excess)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: WindowShape = WindowShape {
        history_ns: 500,
        bin_ns: 20,
        bins: 3,
        horizon_ns: 70,
    };

    #[test]
    fn windows_end_within_the_interval() {
        let starts = |end| window_starts(SHAPE, 1000, end, 3).collect::<Vec<_>>();
        assert_eq!(starts(1579), Vec::<i64>::new());
        assert_eq!(starts(1580), vec![1000]);
        assert_eq!(starts(1640), vec![1000, 1060]);
    }
}
