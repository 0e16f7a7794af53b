//! What a recording keeps of the bins, and bins made from a recording: the same events, taken at once where they were taken at
//! once, and every bin closed where it closed.

use super::super::predictor::Predictor;
use super::super::tap::IngestTap;
use super::{BinAssembler, ClosedBin};
use crate::acquire::SpikeEvent;

impl BinAssembler {
    /// Everything that is taken in goes into this tap too.
    pub(crate) fn record_to(&mut self, tap: IngestTap) {
        self.tap = Some(tap);
    }

    /// A bin has closed, and the model has been told.
    pub(crate) fn record_closed(&mut self, bin: i64) {
        if let Some(tap) = &mut self.tap {
            tap.closed(bin);
        }
    }

    /// Another model goes along, from the bin on that closes next.
    pub(crate) fn record_joins(&mut self, model: &dyn Predictor) {
        if let Some(tap) = &mut self.tap {
            tap.joins(model.model_hash(), model.origin());
        }
    }

    /// It predicts, from the bin on that closes next.
    pub(crate) fn record_predicts(&mut self, hash: u64) {
        if let Some(tap) = &mut self.tap {
            tap.predicts(hash);
        }
    }

    /// Identities of this model's units were taken in, before the bin closes that closes next.
    pub(crate) fn record_identities(&mut self, model: u64, end_ns: i64) {
        if let Some(tap) = &mut self.tap {
            tap.identities(model, end_ns);
        }
    }

    /// A sample beside the spikes was taken: of which source and series, and whether it was kept.
    pub(crate) fn record_sample(&mut self, of: (usize, usize), time_ns: i64, kept: bool, values: &[f32]) {
        if let Some(tap) = &mut self.tap {
            tap.sample(of, time_ns, kept, values);
        }
    }

    /// Takes in events that a recording says were taken from source `index` at once.
    pub(crate) fn take_recorded(&mut self, index: usize, events: &[SpikeEvent]) {
        let spikes = events.iter().filter(|event| event.is_spike()).count();
        self.streams[index].reader.counters().count_offered(spikes as u64);
        self.take_in(index, events);
    }

    /// Closes the oldest open bin, because a recording says that it closed here.
    pub(crate) fn close_recorded(&mut self) -> ClosedBin {
        self.close()
    }
}
