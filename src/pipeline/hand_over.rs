//! What the publish thread does next: the order in which it looks at what the decode thread hands over, announces, and says of
//! itself.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};

use super::sharing::{Number, Real, Sharing};
use super::slot::{Announced, PredictionSlot, SlotEmptier, SlotFiller};
use super::watch::Watch;

/// What the decode thread says of itself.
#[derive(Debug)]
pub(crate) struct Pulse<S: Sharing = Real> {
    alive_ns: S::Number,
    /// 0: unknown.
    expected_close_ns: S::Number,
}

impl<S: Sharing> Default for Pulse<S> {
    fn default() -> Self {
        Self {
            alive_ns: S::Number::default(),
            expected_close_ns: S::Number::default(),
        }
    }
}

impl<S: Sharing> Pulse<S> {
    /// It goes on at this host time, ns.
    pub fn beat(&self, now_ns: i64) {
        self.alive_ns.store(now_ns as u64, Relaxed);
    }

    /// Host time at which it was last seen to go on, ns.
    pub fn alive_ns(&self) -> i64 {
        self.alive_ns.load(Relaxed) as i64
    }

    /// The next bin closes at this host time, ns, as far as is known. Said after the last bin's slot has been handed over: whoever
    /// knows of the next bin finds that slot.
    pub fn expect(&self, close_ns: Option<i64>) {
        self.expected_close_ns.store(close_ns.unwrap_or(0) as u64, Release);
    }

    /// When the next bin closes. To be read before the slots are looked at: one that comes after that belongs to this bin, or to one
    /// before it, and is not slept over.
    pub fn expected(&self) -> Option<i64> {
        Some(self.expected_close_ns.load(Acquire) as i64).filter(|&close_ns| close_ns > 0)
    }
}

/// The decode thread's last step with a bin: hands its slot over, and then says when the next bin closes. A publisher that saw the next
/// close before the slot would sleep while the slot lies there.
pub(crate) fn hand_over<S: Sharing>(
    slots: &mut SlotFiller<S>,
    slot: Box<PredictionSlot>,
    pulse: &Pulse<S>,
    next_close_ns: Option<i64>,
) {
    slots.hand_over(slot);
    pulse.expect(next_close_ns);
}

/// What the publish thread has to do.
pub(crate) enum Next {
    /// Publish a prediction, and give its slot back.
    Publish(Box<PredictionSlot>),
    /// Count a prediction that came when its bin had been published, and give its slot back.
    Superseded(Box<PredictionSlot>),
    /// Publish for the decode thread, which is stuck.
    StandIn(Announced),
    /// Wait until shortly before the next bin closes, where that is known.
    Wait(Option<i64>),
    /// Everything has been published.
    Finished,
}

/// Looks once. `late` is asked for the host time and the watch's patience, ns, where nothing has come; none where nothing is to
/// be published for the decode thread.
pub(crate) fn next<S: Sharing>(
    slots: &mut SlotEmptier<S>,
    watch: &mut Watch,
    pulse: &Pulse<S>,
    late: impl FnOnce() -> Option<(i64, i64)>,
) -> Next {
    let expected = pulse.expected();
    while let Some(bin) = slots.announced() {
        watch.announced(bin);
    }
    if let Some(slot) = slots.take() {
        return match watch.is_news(slot.header.bin_index) {
            true => Next::Publish(slot),
            false => Next::Superseded(slot),
        };
    }
    if slots.decoder_lives() {
        let overdue =
            late().and_then(|(now_ns, patience_ns)| watch.overdue((now_ns, pulse.alive_ns()), Some(patience_ns)));
        if let Some(bin) = overdue {
            return Next::StandIn(bin);
        }
    }
    match slots.is_finished() {
        true => Next::Finished,
        false => Next::Wait(expected),
    }
}
