//! The decode thread of a replay: a recording says what was taken when, and where each bin closed.

use std::sync::{Arc, OnceLock};

use super::super::calibrate::Calibrator;
use super::super::entry::Entry;
use super::super::predictor::{Origin, Predictor};
use super::{DecodeCounts, Decoder};

/// What a run took in, from a recording. Its entries fit the run: sources and series that there are, bins in their order.
pub struct Feed {
    /// The entries.
    pub entries: Box<dyn Iterator<Item = Entry> + Send>,
    /// Finds the models that took another one's place.
    pub load: Box<LoadRecorded>,
    /// Receives why the replay ended before the entries did, or why these ended early.
    pub ended: Arc<OnceLock<String>>,
}

/// Finds a model by its hash and what it was made of.
pub type LoadRecorded = dyn FnMut(u64, Origin<'_>) -> Result<Box<dyn Predictor>, String> + Send;

impl Decoder {
    /// Does what [`Decoder::run`] did when this was recorded. Identities are taken in before the same bin as they were then.
    pub fn replay(mut self, mut feed: Feed, mut calibrator: Option<Calibrator>) -> DecodeCounts {
        let mut taken_in = 0;
        for entry in feed.entries {
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
                Entry::Closed { bin, identities } => {
                    if let Some(calibrator) = calibrator.as_mut().filter(|_| identities > taken_in) {
                        let computed = calibrator.look();
                        let due = calibrator.counters().counts().made;
                        if computed.is_err() || due < identities {
                            feed.ended.get_or_init(|| {
                                format!("the identities that bin {bin} was predicted with were asked for from outside")
                            });
                            break;
                        }
                        taken_in = identities;
                    }
                    let closed = self.bins.close_recorded();
                    self.finish_bin(closed);
                }
                Entry::Joins { hash, file, session } => {
                    let (file, session) = (&file, &session);
                    let joined = (feed.load)(hash, Origin { file, session }).and_then(|mut predictor| match predictor
                        .take_calibrator()
                    {
                        None => self.models.join_recorded(self.predictor.as_ref(), predictor),
                        Some(_) => Err("it computed its units' identities itself".into()),
                    });
                    if let Err(sentence) = joined {
                        feed.ended
                            .get_or_init(|| format!("the model {hash:016x} took the place of another: {sentence}"));
                        break;
                    }
                }
                Entry::Predicts { .. } => self.models.predict_recorded(),
                Entry::Lost { .. } | Entry::Prediction(_) | Entry::Output { .. } => {}
            }
            if !self.slots.publisher_lives() {
                break;
            }
        }
        self.finish()
    }
}
