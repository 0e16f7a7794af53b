//! Simple models fitted in the same run as an evaluation, on the part before the scored interval or on other recordings: what
//! a network has to beat.
//!
//! [`mean_rate()`] knows each unit's mean, [`persistence`] an exponential average of the recent past, [`glm`] a Poisson regression on
//! every unit's own history and on what the population does. [`decoding`] decodes behaviour.

pub mod binned;
pub(crate) mod components;
pub mod decoding;
pub mod glm;
mod glm_fit;
mod glm_gradient;
pub mod persistence;

pub use binned::{Binned, FitData, FitPart, Source};
pub use glm::{Glm, GlmOptions};
pub use persistence::Persistence;

use super::predictions::{Observed, Predictions};
use crate::model::network::LOG_RATE_LIMIT;
use crate::model::traces::Traces;

/// The recording whose future is predicted, up to each window.
#[derive(Debug, Clone, Copy)]
pub struct Recent<'a> {
    /// Its spikes and when it was observed.
    pub source: Source<'a>,
    /// Units whose spikes the models must not see, `[N]`, or empty for none.
    pub hidden: &'a [bool],
}

impl Recent<'_> {
    /// Calls `visit` with every window's number and the traces at the end of its history. The traces begin at the mean with
    /// the recording.
    fn each_window(
        &self,
        observed: &Observed,
        mean: &[f32],
        traces: &mut Traces,
        mut visit: impl FnMut(usize, &Traces),
    ) {
        let shape = observed.shape;
        let ends: Vec<i64> = observed
            .starts_ns
            .iter()
            .map(|start| start + shape.history_ns)
            .collect();
        let (Some(&anchor), Some(&last)) = (ends.first(), ends.last()) else {
            return;
        };
        // Bins meet the windows' own; what is left over at the recording's start is less than a bin.
        let start = self
            .source
            .observed
            .first()
            .map_or(anchor, |interval| interval.start_ns)
            .min(anchor);
        let first_ns = anchor - (anchor - start) / shape.bin_ns * shape.bin_ns;
        let binned = Binned::new(self.source, observed.units(), shape.bin_ns, first_ns, last);
        let mut windows = ends.iter().enumerate().peekable();
        binned.walk(traces, mean, self.hidden, |bin, traces| {
            let now = first_ns + bin as i64 * shape.bin_ns;
            while let Some((window, _)) = windows.next_if(|(_, &end)| end == now) {
                visit(window, traces);
            }
        });
    }
}

/// Each unit's mean rate over the fit interval, whatever happens.
pub fn mean_rate(fit: &FitData, observed: &Observed) -> Predictions {
    let mut predictions = Predictions::empty("mean rate", observed);
    let log_means = log_means(fit.mean());
    for row in predictions.log_rates.chunks_exact_mut(observed.units().max(1)) {
        row.copy_from_slice(&log_means);
    }
    predictions
}

/// ln of mean counts, within the limit of log rates.
fn log_means(mean: &[f32]) -> Vec<f32> {
    mean.iter()
        .map(|mean| mean.ln().clamp(-LOG_RATE_LIMIT, LOG_RATE_LIMIT))
        .collect()
}
