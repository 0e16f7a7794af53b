//! What predictions that are not published leave to the next one: nothing that they had to say of the time since the last is lost.

use super::message::{flags, MessageHeader};

/// Flags that speak of the time since the last prediction: they go on to the next one where theirs is not published.
const SINCE_THE_LAST: u32 = flags::SPIKES_REFUSED
    | flags::SPIKES_LATE
    | flags::SPIKES_UNKNOWN
    | flags::SAMPLES_LOST
    | flags::SAMPLES_LATE
    | flags::SPIKES_LOST
    | flags::CLOCK_RESET
    | flags::RECORDING_LOST
    | flags::PUBLICATION_LOST;

/// What predictions that were not published had to say of the time since the last one.
#[derive(Clone, Copy, Default)]
pub(crate) struct Carried {
    flags: u32,
    spikes_in: u32,
    spikes_refused: u32,
    spikes_late: u32,
    spikes_unknown: u32,
}

impl Carried {
    /// Takes what a prediction that is not published had to say.
    pub fn add(&mut self, header: &MessageHeader) {
        self.flags |= header.flags & SINCE_THE_LAST;
        self.spikes_in = self.spikes_in.saturating_add(header.spikes_in);
        self.spikes_refused = self.spikes_refused.saturating_add(header.spikes_refused);
        self.spikes_late = self.spikes_late.saturating_add(header.spikes_late);
        self.spikes_unknown = self.spikes_unknown.saturating_add(header.spikes_unknown);
    }

    /// Gives all of it to the next one.
    pub fn give_to(self, header: &mut MessageHeader) {
        header.flags |= self.flags;
        header.spikes_in = header.spikes_in.saturating_add(self.spikes_in);
        header.spikes_refused = header.spikes_refused.saturating_add(self.spikes_refused);
        header.spikes_late = header.spikes_late.saturating_add(self.spikes_late);
        header.spikes_unknown = header.spikes_unknown.saturating_add(self.spikes_unknown);
    }
}
