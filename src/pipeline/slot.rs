//! Prediction slots: taken once before the run, filled by the decode thread, emptied by the publish thread and sent back.

use ringbuf::traits::{Consumer, Observer, Producer};

use super::message::MessageHeader;
use super::output::{OutputSlot, OutputSpec};
use super::sharing::{ring, Real, Receiver, Sender, Sharing};

/// One prediction on its way from the decode thread to the publish thread.
pub(crate) struct PredictionSlot {
    pub header: MessageHeader,
    /// T × N log rates.
    pub log_rates: Box<[f32]>,
    /// The outputs beside it, in the predictor's order.
    pub outputs: Box<[OutputSlot]>,
    /// Counts of the bin that closed, N.
    pub counts: Box<[u32]>,
    /// Counts of that bin's first part, N.
    pub early_counts: Box<[u32]>,
    /// Host time at which the bin closed, monotonic ns.
    pub close_ns: i64,
}

impl PredictionSlot {
    /// Room for `bins` × `units` predictions with these outputs beside them, which are zeros and neutral.
    pub fn new(model_hash: u64, (bins, units): (usize, usize), outputs: &[OutputSpec]) -> Box<Self> {
        Box::new(Self {
            header: MessageHeader::new(model_hash, bins, units),
            log_rates: vec![0.0; bins * units].into(),
            outputs: outputs.iter().map(OutputSlot::new).collect(),
            counts: vec![0; units].into(),
            early_counts: vec![0; units].into(),
            close_ns: 0,
        })
    }
}

/// A bin that is being decoded: what whoever waits for its prediction has to know where none comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Announced {
    /// The bin that closed.
    pub bin_index: i64,
    /// Device time of its end, ns.
    pub bin_end_ns: i64,
    /// Host time at which it closed, ns.
    pub close_ns: i64,
}

/// The decode thread's end: takes free slots, hands over filled ones.
pub(crate) struct SlotFiller<S: Sharing = Real> {
    free: Receiver<S, Box<PredictionSlot>>,
    filled: Sender<S, Box<PredictionSlot>>,
    announced: Sender<S, Announced>,
}

/// The publish thread's end: takes filled slots, gives them back.
pub(crate) struct SlotEmptier<S: Sharing = Real> {
    filled: Receiver<S, Box<PredictionSlot>>,
    free: Sender<S, Box<PredictionSlot>>,
    announced: Receiver<S, Announced>,
}

/// `count` slots of `bins` × `units` predictions with these outputs beside them, and the two rings that they go round in.
pub(crate) fn prediction_slots<S: Sharing>(
    count: usize,
    model_hash: u64,
    (bins, units): (usize, usize),
    outputs: &[OutputSpec],
) -> (SlotFiller<S>, SlotEmptier<S>) {
    let (mut free_in, free_out) = ring::<S, _>(count);
    let (filled_in, filled_out) = ring::<S, _>(count);
    // One a slot, and that of the bin that waits for one.
    let (announced_in, announced_out) = ring::<S, _>(2 * count);
    free_in.push_iter((0..count).map(|_| PredictionSlot::new(model_hash, (bins, units), outputs)));
    (
        SlotFiller {
            free: free_out,
            filled: filled_in,
            announced: announced_in,
        },
        SlotEmptier {
            filled: filled_out,
            free: free_in,
            announced: announced_out,
        },
    )
}

impl<S: Sharing> SlotFiller<S> {
    /// A free slot, if the publisher keeps up.
    pub fn take(&mut self) -> Option<Box<PredictionSlot>> {
        self.free.try_pop()
    }

    /// Says that a bin is being decoded. Where the publish thread does not look, it need not know.
    pub fn announce(&mut self, bin: Announced) {
        let _ = self.announced.try_push(bin);
    }

    /// Hands a filled slot over. There is a place for every slot.
    pub fn hand_over(&mut self, slot: Box<PredictionSlot>) {
        let handed = self.filled.try_push(slot);
        debug_assert!(handed.is_ok());
    }

    /// Whether the publish thread is still there.
    pub fn publisher_lives(&self) -> bool {
        self.filled.read_is_held()
    }
}

impl<S: Sharing> SlotEmptier<S> {
    /// The oldest filled slot.
    pub fn take(&mut self) -> Option<Box<PredictionSlot>> {
        self.filled.try_pop()
    }

    /// The next bin that is being decoded.
    pub fn announced(&mut self) -> Option<Announced> {
        self.announced.try_pop()
    }

    /// Whether the decode thread is there.
    pub fn decoder_lives(&self) -> bool {
        self.filled.write_is_held()
    }

    /// Gives a slot back. There is a place for every slot.
    pub fn give_back(&mut self, slot: Box<PredictionSlot>) {
        let given = self.free.try_push(slot);
        debug_assert!(given.is_ok());
    }

    /// Whether the decode thread has ended and every slot has been taken.
    pub fn is_finished(&self) -> bool {
        !self.filled.write_is_held() && self.filled.is_empty()
    }
}
