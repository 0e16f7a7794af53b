//! What training is judged by: bits per spike that the model generates on validation windows.

use kernels::BackendError;

use super::learner::{Lane, Learner};
use super::prepare::Prepared;
use super::sampler::TrainingSet;
use crate::model::checkpoint::Checkpoint;
use crate::model::poisson::{negative_log_likelihood, BitsPerSpike};

/// How good the model is on the validation windows, generating.
#[derive(Debug, Clone, PartialEq)]
pub struct Score {
    /// Over the whole horizon.
    pub bits_per_spike: Option<f64>,
    /// Bin by bin.
    pub by_bin: Vec<Option<f64>>,
    /// Mean Poisson negative log-likelihood of a count.
    pub loss: f64,
    /// Windows scored.
    pub windows: u64,
}

/// Scores the windows, shared out to the learners; the sums do not depend on their number.
///
/// # Errors
/// A device that failed.
pub fn judge(
    checkpoint: &Checkpoint,
    set: &TrainingSet,
    validation: &[Prepared],
    learners: &mut [Box<dyn Learner>],
) -> Result<Score, BackendError> {
    let parts = validation.chunks(validation.len().div_ceil(learners.len()).max(1));
    let generated: Vec<Result<Vec<Vec<f32>>, BackendError>> = std::thread::scope(|scope| {
        let threads: Vec<_> = learners
            .iter_mut()
            .zip(parts)
            .map(|(learner, part)| {
                scope.spawn(move || {
                    let lanes = by_session(set, part);
                    learner.generate(checkpoint, &lanes.iter().collect::<Vec<_>>())
                })
            })
            .collect();
        threads
            .into_iter()
            .map(|thread| thread.join().expect("a validation thread does not panic"))
            .collect()
    });
    let mut score = BitsPerSpike::new(set.shape().bins);
    let (mut loss, mut counts) = (0.0, 0);
    let mut windows = validation.iter();
    for part in generated {
        for (log_rates, prepared) in part?.iter().zip(windows.by_ref()) {
            let session = set.session_of(prepared.window.recording);
            score.add(log_rates, &prepared.window.counts, &session.null_log_rates);
            counts += log_rates.len();
            let pairs = log_rates.iter().zip(&prepared.window.counts);
            loss += pairs
                .map(|(&r, &y)| negative_log_likelihood(f64::from(r), f64::from(y)))
                .sum::<f64>();
        }
    }
    Ok(Score {
        bits_per_spike: score.overall(),
        by_bin: score.by_bin(),
        loss: loss / counts.max(1) as f64,
        windows: score.windows(),
    })
}

/// Rows of a session's units.
pub(super) fn unit_rows(set: &TrainingSet, recording: usize) -> Vec<usize> {
    let session = set.session_of(recording);
    (1 + session.first_unit..=session.first_unit + session.recorded_ids.len()).collect()
}

/// Recording and start of validation windows: all, or so many evenly spread.
pub(super) fn chosen(set: &TrainingSet, most: Option<usize>) -> Vec<(usize, i64)> {
    let all = set.validation_starts();
    match most {
        Some(most) if most < all.len() => (0..most).map(|i| all[i * all.len() / most]).collect(),
        _ => all,
    }
}

/// Windows that follow one another in a session, as lanes.
fn by_session<'a>(set: &TrainingSet, windows: &'a [Prepared]) -> Vec<Lane<'a>> {
    let session = |prepared: &Prepared| set.recordings()[prepared.window.recording].session;
    windows
        .chunk_by(|a, b| session(a) == session(b))
        .map(|windows| Lane {
            unit_rows: unit_rows(set, windows[0].window.recording),
            reference: windows[0].reference.clone(),
            windows: windows.iter().collect(),
        })
        .collect()
}
