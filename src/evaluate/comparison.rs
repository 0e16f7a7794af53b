//! Models side by side on the same windows: predictions and figures, as reports show them.

use serde::Serialize;

use super::metrics::{Bits, BitsFigures, Explained, Figures, Gains, Resamples};
use super::predictions::{Observed, Predictions};
use super::truth::explained_truth;
use crate::data::Trial;

/// One model's predictions and figures.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ModelResult {
    /// The model's name.
    pub name: String,
    /// What was chosen or fitted, for people; may be empty.
    pub detail: String,
    /// Every figure.
    #[serde(flatten)]
    pub figures: Figures,
    /// Bits per spike on held-out units, whose spikes the model did not see (co-bps).
    pub co_bps: Option<BitsFigures>,
    /// How much more the network gained than this model, bits per spike over the horizon; `None` without a network.
    pub network_gains_more: Option<Bits>,
    /// How much of the true rates' variance was explained, where the recording brings them.
    pub r2_to_true_rates: Option<Explained>,
    /// What was predicted from all spikes.
    #[serde(skip)]
    pub predictions: Predictions,
}

/// What all models are compared on.
#[derive(Debug, Clone)]
pub struct Comparison {
    observed: Observed,
    trials: Vec<Trial>,
    held_out: Vec<usize>,
    resamples: Resamples,
    network: Option<Gains>,
    truth: Option<Predictions>,
    /// The models, in the order in which they were added.
    pub models: Vec<ModelResult>,
}

impl Comparison {
    /// Nothing compared yet. `held_out` are units whose figures are also computed from predictions made without their
    /// spikes; `bootstrap` resamples are drawn for the intervals.
    pub fn new(observed: Observed, trials: Vec<Trial>, held_out: Vec<usize>, bootstrap: usize, seed: u64) -> Self {
        let resamples = Resamples::of_recording(observed.windows(), bootstrap, seed);
        Comparison {
            observed,
            trials,
            held_out,
            resamples,
            network: None,
            truth: None,
            models: Vec::new(),
        }
    }

    /// Compares models with the true rates too; before any is added.
    pub fn with_truth(mut self, truth: Option<Predictions>) -> Self {
        self.truth = truth;
        self
    }

    /// The true rates, where they are known.
    pub fn truth(&self) -> Option<&Predictions> {
        self.truth.as_ref()
    }

    /// What happened.
    pub fn observed(&self) -> &Observed {
        &self.observed
    }

    /// Adds the network, with which the models that are added later are compared; see [`Comparison::add`].
    pub fn add_network(&mut self, predictions: Predictions, without_held_out: Option<&Predictions>, detail: String) {
        let gains = Gains::new(&self.observed, &predictions);
        self.push(predictions, without_held_out, detail, &gains);
        self.network = Some(gains);
    }

    /// Adds a model: what it predicted from all spikes, and what it predicted without those of the held-out units.
    pub fn add(&mut self, predictions: Predictions, without_held_out: Option<&Predictions>, detail: String) {
        let gains = Gains::new(&self.observed, &predictions);
        self.push(predictions, without_held_out, detail, &gains);
    }

    fn push(
        &mut self,
        predictions: Predictions,
        without_held_out: Option<&Predictions>,
        detail: String,
        gains: &Gains,
    ) {
        let co_bps = without_held_out.map(|predictions| {
            let observed = self.observed.select_units(&self.held_out);
            Gains::new(&observed, &predictions.select_units(&self.held_out)).figures(&self.resamples)
        });
        self.models.push(ModelResult {
            name: predictions.model.clone(),
            detail,
            figures: Figures::new(&self.observed, &predictions, gains, &self.trials, &self.resamples),
            co_bps,
            network_gains_more: self
                .network
                .as_ref()
                .map(|network| network.over(gains, &self.resamples)),
            r2_to_true_rates: self
                .truth
                .as_ref()
                .and_then(|truth| explained_truth(truth, &predictions)),
            predictions,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::super::metrics::tests::{observed, predictions};
    use super::*;

    #[test]
    fn held_out_units_are_scored_on_predictions_without_their_spikes() {
        // Two units, one window of one bin. The null model expects 1/2 of each; unit 1 fires once.
        let observed = observed(1, &[0.0, 1.0], &[0.5f64.ln(); 2]);
        let half = 0.5f32.ln();
        let mut comparison = Comparison::new(observed.clone(), Vec::new(), vec![1], 0, 0);
        let seen = predictions(&observed, &[half, half]);
        // Without the spikes of unit 1 it expects 1 of it, and something absurd of unit 0, which is not scored.
        let unseen = predictions(&observed, &[5.0, 0.0]);
        comparison.add_network(seen, Some(&unseen), String::new());
        let model = &comparison.models[0];
        assert!(model.figures.bits.overall.value.unwrap().abs() < 1e-6);
        let expected = (std::f64::consts::LN_2 - 0.5) / std::f64::consts::LN_2;
        let co_bps = model.co_bps.as_ref().unwrap();
        assert!((co_bps.overall.value.unwrap() - expected).abs() < 1e-6);
        assert_eq!(co_bps.by_unit.len(), 1);

        comparison.add(predictions(&observed, &[half, 0.0]), None, String::new());
        let less = comparison.models[1].network_gains_more.unwrap().value.unwrap();
        assert!((less + expected).abs() < 1e-6, "{less}");
    }
}
