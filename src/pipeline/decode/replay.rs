//! The decode thread of a replay: a recording says what was taken when, and where each bin closed.

use std::sync::{Arc, OnceLock};

use super::super::calibrate::Calibrator;
use super::super::entry::Entry;
use super::{DecodeCounts, Decoder};

/// What a run took in, from a recording. Its entries fit the run: sources and series that there are, bins in their order.
pub struct Feed {
    /// The entries.
    pub entries: Box<dyn Iterator<Item = Entry> + Send>,
    /// Receives why the replay ended before the entries did, or why these ended early.
    pub ended: Arc<OnceLock<String>>,
}

impl Decoder {
    /// Does what [`Decoder::run`] did when this was recorded. Identities are taken in before the same bin as they were then.
    pub fn replay(mut self, feed: Feed, mut calibrator: Option<Calibrator>) -> DecodeCounts {
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
                Entry::Model { .. } | Entry::Lost { .. } | Entry::Prediction(_) | Entry::Output { .. } => {}
            }
            if !self.slots.publisher_lives() {
                break;
            }
        }
        self.finish()
    }
}
