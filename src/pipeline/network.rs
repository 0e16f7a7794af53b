//! The network as a [`Predictor`].

use super::predictor::{PredictError, Predictor};
use crate::model::checkpoint::Checkpoint;
use crate::model::traces::Traces;
use crate::model::window::WindowShape;
use crate::model::{build, BuildError, BuildOptions, Inference, UnitMatch};

/// A checkpoint's network with one session's units.
pub struct NetworkPredictor {
    network: Box<dyn Inference>,
    /// Recent history, for a network that sees it.
    traces: Option<Traces>,
    unit_ids: Vec<String>,
    shape: WindowShape,
    model_hash: u64,
    description: String,
}

impl NetworkPredictor {
    /// Builds the network for those of the session's units that the checkpoint knows, and runs it once on silence, so that
    /// the first bin finds every buffer and page in place.
    ///
    /// # Errors
    /// Where the checkpoint knows none of the units or cannot predict as many bins as asked.
    pub fn new(
        checkpoint: &Checkpoint,
        name: &str,
        session_ids: &[String],
        options: &BuildOptions,
    ) -> Result<Self, BuildError> {
        let matched = UnitMatch::new(checkpoint, session_ids, options.session.as_deref())?;
        let mut network = build(checkpoint, &matched.rows, options)?;
        let traces = matched.traces(checkpoint);
        if let Some(traces) = &traces {
            network.set_traces(traces);
        }
        network.encode(&[], &[]);
        network.generate();
        let shape = WindowShape::new(network.config(), network.plan().bins);
        let description = format!("network {name}, {}", network.describe());
        Ok(NetworkPredictor {
            network,
            traces,
            unit_ids: matched.ids,
            shape,
            model_hash: checkpoint.hash,
            description,
        })
    }

    /// Width of the last predicted bin, ns: it takes what whole bins leave of the trained horizon.
    pub fn last_bin_ns(&self) -> i64 {
        self.shape.horizon_ns - self.shape.bin_ns * (self.shape.bins as i64 - 1)
    }
}

impl Predictor for NetworkPredictor {
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
        self.shape.bins
    }
    fn model_hash(&self) -> u64 {
        self.model_hash
    }
    fn describe(&self) -> String {
        self.description.clone()
    }
    fn max_spikes(&self) -> usize {
        self.network.plan().max_spikes
    }
    fn bin_closed(&mut self, counts: &[u32]) {
        if let Some(traces) = &mut self.traces {
            traces.push_bin(counts.iter().map(|&count| count as f32));
        }
    }
    fn predict(&mut self, times_s: &[f64], units: &[u32], log_rates: &mut [f32]) -> Result<(), PredictError> {
        if let Some(traces) = &self.traces {
            self.network.set_traces(traces);
        }
        self.network.encode(times_s, units);
        self.network.generate();
        self.network
            .log_rates(log_rates)
            .map_err(|error| PredictError(error.to_string()))
    }
}
