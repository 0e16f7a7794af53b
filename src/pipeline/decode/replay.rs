//! The decode thread of a replay: a recording says what was taken when, where each bin closed, and which identities were taken in.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, OnceLock};

use super::super::calibrate::recorded::RecordedCalibrator;
use super::super::calibrate::Calibrator;
use super::super::entry::Entry;
use super::super::predictor::{Origin, Predictor};
use super::{DecodeCounts, Decoder};

/// What a run took in, from a recording. Its entries fit the run: sources and series that there are, bins in their order.
pub struct Feed {
    /// The entries.
    pub entries: Box<dyn Iterator<Item = Entry> + Send>,
    /// The identities among them, known before: of which model ([`Entry::Identities`]), and where their reference ended, device ns.
    pub identities: Vec<(u64, i64)>,
    /// Finds the models that took another one's place.
    pub load: Box<LoadRecorded>,
    /// Receives what became of them.
    pub fed: Arc<Fed>,
}

/// What a replay's decode thread says of a recording.
#[derive(Debug, Default)]
pub struct Fed {
    /// Why the replay ended before the entries did, or why these ended early.
    pub ended: OnceLock<String>,
    /// Times that identities were computed again and taken in.
    pub identities: AtomicU64,
}

/// Finds a model by its hash and what it was made of.
pub type LoadRecorded = dyn FnMut(u64, Origin<'_>) -> Result<Box<dyn Predictor>, String> + Send;

/// The calibrators of a replay's models.
struct Calibrators {
    /// All identities that the run took in: of which model, and where their reference ended, device ns.
    recorded: Vec<(u64, i64)>,
    /// By the model's number.
    of_models: BTreeMap<u64, RecordedCalibrator>,
    /// Those that are taken in with the next bin.
    due: Vec<(u64, i64)>,
    /// Times that identities were taken in, with those that are due.
    taken_in: u64,
}

impl Calibrators {
    fn new(recorded: Vec<(u64, i64)>) -> Self {
        Self {
            recorded,
            of_models: BTreeMap::new(),
            due: Vec::new(),
            taken_in: 0,
        }
    }

    fn add(&mut self, model: u64, calibrator: Calibrator) {
        let recorded = self.recorded.iter().filter(|(of, _)| *of == model);
        let calibrator = RecordedCalibrator::new(calibrator, recorded.map(|&(_, end_ns)| end_ns));
        self.of_models.insert(model, calibrator);
    }

    fn take_in_next(&mut self, model: u64, end_ns: i64) {
        self.due.push((model, end_ns));
        self.taken_in += 1;
    }

    /// Whether a model computes its identities and has none yet, though it is to predict.
    fn lacks(&self, model: u64) -> bool {
        let of_model = self.of_models.get(&model);
        of_model.is_some_and(|calibrator| calibrator.handed_over() == 0) && !self.due.iter().any(|(of, _)| *of == model)
    }

    /// The models have been shown a bin: hands over what they take in with it.
    fn bin_shown(&mut self) -> Result<(), String> {
        for calibrator in self.of_models.values_mut() {
            calibrator.look().map_err(|error| error.to_string())?;
        }
        for (model, end_ns) in self.due.drain(..) {
            let calibrator = self.of_models.get_mut(&model);
            let calibrator = calibrator.ok_or_else(|| format!("model {model} of the run computes none"))?;
            if !calibrator.hand_over(end_ns) {
                return Err(format!(
                    "{} s before {:.3} s of the device clock are not whole in it",
                    calibrator.reference_s(),
                    end_ns as f64 * 1e-9
                ));
            }
        }
        Ok(())
    }

    /// Lets go of those of models that no longer predict.
    fn forget_before(&mut self, model: u64) {
        self.of_models = self.of_models.split_off(&model);
    }
}

impl Decoder {
    /// Does what [`Decoder::run`] did when this was recorded. Identities are computed from the same references, and taken in before
    /// the same bin as they were then.
    pub fn replay(mut self, mut feed: Feed, calibrator: Option<Calibrator>) -> DecodeCounts {
        let mut calibrators = Calibrators::new(std::mem::take(&mut feed.identities));
        if let Some(calibrator) = calibrator {
            calibrators.add(0, calibrator);
        }
        let fed = feed.fed.clone();
        for entry in feed.entries.by_ref() {
            if let Err(sentence) = self.replay_entry(entry, &mut feed.load, &mut calibrators) {
                fed.ended.get_or_init(|| sentence);
                break;
            }
            fed.identities
                .store(calibrators.taken_in - calibrators.due.len() as u64, Relaxed);
            if !self.slots.publisher_lives() {
                break;
            }
        }
        self.finish()
    }

    /// Does what the run did with an entry.
    ///
    /// # Errors
    /// Why the replay cannot go on, in one sentence.
    fn replay_entry(
        &mut self,
        entry: Entry,
        load: &mut LoadRecorded,
        calibrators: &mut Calibrators,
    ) -> Result<(), String> {
        match entry {
            Entry::Events { source, events } => self.bins.take_recorded(source as usize, &events),
            Entry::Sample {
                series,
                time_ns,
                kept,
                values,
                ..
            } => {
                let sample = (time_ns, kept);
                self.modalities
                    .take_recorded(series as usize, sample, &values, &self.bins);
            }
            Entry::Identities { model, end_ns } => calibrators.take_in_next(model, end_ns),
            Entry::Closed { bin, identities } => {
                if identities != calibrators.taken_in {
                    return Err(format!(
                        "bin {bin} was predicted with identities of which the recording does not say what they were computed from: \
                         recordings of version 1 do not"
                    ));
                }
                let closed = self.bins.close_recorded();
                self.show(closed);
                calibrators.bin_shown().map_err(|why| {
                    format!(
                        "the identities that bin {bin} was predicted with cannot be computed from the recording: {why}"
                    )
                })?;
                self.go_on_after(closed);
                calibrators.forget_before(self.models.numbers().0);
            }
            Entry::Joins { hash, file, session } => {
                let (file, session) = (&file, &session);
                let joined = load(hash, Origin { file, session }).and_then(|mut predictor| {
                    let calibrator = predictor.take_calibrator();
                    self.models.join_recorded(self.predictor.as_ref(), predictor)?;
                    Ok(calibrator)
                });
                let calibrator = joined
                    .map_err(|sentence| format!("the model {hash:016x} took the place of another: {sentence}"))?;
                if let Some(calibrator) = calibrator {
                    calibrators.add(self.models.numbers().1, calibrator);
                }
            }
            Entry::Predicts { hash } => {
                if calibrators.lacks(self.models.numbers().1) {
                    return Err(format!(
                        "the model {hash:016x} took the place of another, with identities of which the recording does not say what they \
                         were computed from: recordings of version 1 do not"
                    ));
                }
                self.models.predict_recorded();
            }
            Entry::Lost { .. } | Entry::Prediction(_) | Entry::Output { .. } => {}
        }
        Ok(())
    }
}
