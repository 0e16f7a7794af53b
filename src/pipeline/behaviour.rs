//! Decoded behaviour as outputs: what the network's behaviour head reads out, each task on a topic of its own.

use kernels::BackendError;

use super::network::NetworkOutput;
use super::output::OutputSpec;
use crate::model::config::{ReadoutConfig, ReadoutKind};
use crate::model::Inference;

/// Topics of decoded behaviour begin with this; the series' name follows.
pub const BEHAVIOUR_TOPIC: &str = "behaviour/";

/// One task of the behaviour head.
pub struct Behaviour {
    task: usize,
    readout: ReadoutConfig,
}

impl Behaviour {
    /// Every task of a network, in its order.
    pub fn all(network: &dyn Inference) -> impl Iterator<Item = Self> {
        let readouts = network.config().readouts.clone();
        readouts
            .into_iter()
            .enumerate()
            .map(|(task, readout)| Behaviour { task, readout })
    }
}

impl NetworkOutput for Behaviour {
    fn spec(&self) -> OutputSpec {
        let readout = &self.readout;
        let present = readout.present();
        let (what, columns) = match readout.kind {
            ReadoutKind::Regression if readout.unit.is_empty() => (readout.series.clone(), "channel"),
            ReadoutKind::Regression => (format!("{}, {}", readout.series, readout.unit), "channel"),
            ReadoutKind::Classes => (format!("probability of each {}", readout.series), "class"),
        };
        OutputSpec {
            topic: format!("{BEHAVIOUR_TOPIC}{}", readout.series),
            rows: readout.rows(),
            cols: readout.columns(),
            axes: ["step".into(), columns.into()],
            meaning: format!("decoded {what}; row {present} is the present, the step that ends with the bin"),
            labels: readout.labels.clone(),
            row_times_s: readout.times_s(),
        }
    }

    fn read(&mut self, network: &mut dyn Inference, out: &mut [f32]) -> Result<(), BackendError> {
        network.readout(self.task, out)
    }
}
