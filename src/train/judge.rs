//! What training is judged by: bits per spike that the model generates on validation windows.

use kernels::BackendError;

use super::config::JudgedBy;
use super::learner::{Generated, Lane, Learner};
use super::prepare::Prepared;
use super::sampler::TrainingSet;
use crate::evaluate::behaviour::{Decoded, DecodingScore};
use crate::model::checkpoint::Checkpoint;
use crate::model::config::{ReadoutConfig, ReadoutKind};
use crate::model::poisson::{negative_log_likelihood, BitsPerSpike};
use crate::model::readout::in_units;

/// How good the model is on the validation windows, generating.
#[derive(Debug, Clone, PartialEq)]
pub struct Score {
    /// Over the whole horizon.
    pub bits_per_spike: Option<f64>,
    /// Bin by bin.
    pub by_bin: Vec<Option<f64>>,
    /// Mean Poisson negative log-likelihood of a count.
    pub loss: f64,
    /// How well each readout decodes the present.
    pub readouts: Vec<Decoded>,
    /// Windows scored.
    pub windows: u64,
}

impl Score {
    /// What validations are compared by: higher is better; nothing where there was nothing to judge by.
    pub fn criterion(&self, judged_by: JudgedBy) -> Option<f64> {
        match judged_by {
            JudgedBy::Spikes => self.bits_per_spike,
            JudgedBy::Behaviour => {
                let scores: Vec<f64> = self
                    .readouts
                    .iter()
                    .filter_map(|decoded| Some(decoded.score?.value))
                    .collect();
                (!scores.is_empty()).then(|| scores.iter().sum::<f64>() / scores.len() as f64)
            }
        }
    }
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
    let generated: Vec<Result<Vec<Generated>, BackendError>> = std::thread::scope(|scope| {
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
    let tasks = &checkpoint.config.readouts;
    let mut decoded: Vec<DecodingScore> = tasks
        .iter()
        .map(|task| DecodingScore::new(task.kind, task.columns()))
        .collect();
    let mut windows = validation.iter();
    for part in generated {
        for (Generated { log_rates, readouts }, prepared) in part?.iter().zip(windows.by_ref()) {
            for (((task, score), read), targets) in tasks.iter().zip(&mut decoded).zip(readouts).zip(&prepared.targets)
            {
                let (columns, channels) = (task.columns(), task.channels());
                let observed = &targets[task.present() * channels..][..channels];
                score.add(
                    1.0,
                    &read[task.present() * columns..][..columns],
                    &in_series_unit(task, observed),
                );
            }
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
        readouts: tasks
            .iter()
            .zip(&decoded)
            .map(|(task, score)| score.decoded(&task.series, "network"))
            .collect(),
        windows: score.windows(),
    })
}

/// Numbers in the series' unit again; numbers of classes as they are.
fn in_series_unit(task: &ReadoutConfig, scaled: &[f32]) -> Vec<f32> {
    match task.kind {
        ReadoutKind::Classes => scaled.to_vec(),
        ReadoutKind::Regression => {
            let mut values = scaled.to_vec();
            in_units(task, &mut values);
            values
        }
    }
}

/// Rows of a session's units.
pub(super) fn unit_rows(set: &TrainingSet, recording: usize) -> Vec<usize> {
    let session = set.session_of(recording);
    (1 + session.first_unit..=session.first_unit + session.recorded_ids.len()).collect()
}

/// Recording and start of validation windows: all, or one from each of so many equal stretches. Where in its stretch moves on by
/// the golden ratio, so that a task that repeats is not looked at in one phase only.
pub(super) fn chosen(set: &TrainingSet, most: Option<usize>) -> Vec<(usize, i64)> {
    let all = set.validation_starts();
    match most {
        Some(most) if most < all.len() => one_a_stretch(all.len(), most).map(|i| all[i]).collect(),
        _ => all,
    }
}

/// `most` of `0..len`, ascending.
fn one_a_stretch(len: usize, most: usize) -> impl Iterator<Item = usize> {
    const GOLDEN: f64 = 0.618_033_988_749_895;
    let stretch = len as f64 / most as f64;
    (0..most).map(move |i| ((i as f64 + (i as f64 * GOLDEN).fract()) * stretch) as usize)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_are_of_every_stretch_and_of_every_phase_of_a_task_that_repeats() {
        // A task of 80 windows, and as many windows a stretch.
        let chosen: Vec<usize> = one_a_stretch(4_800, 60).collect();
        assert!(chosen.iter().enumerate().all(|(i, at)| at / 80 == i));
        let mut phases = [0; 8];
        chosen.iter().for_each(|at| phases[at % 80 / 10] += 1);
        assert!(phases.iter().all(|&count| (6..=9).contains(&count)), "{phases:?}");
    }
}
