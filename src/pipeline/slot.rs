//! Prediction slots: taken once before the run, filled by the decode thread, emptied by the publish thread and sent back.

use ringbuf::traits::{Consumer, Observer, Producer, Split};
use ringbuf::{HeapCons, HeapProd, HeapRb};

use super::message::MessageHeader;
use super::output::{OutputSlot, OutputSpec};

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

/// The decode thread's end: takes free slots, hands over filled ones.
pub(crate) struct SlotFiller {
    free: HeapCons<Box<PredictionSlot>>,
    filled: HeapProd<Box<PredictionSlot>>,
}

/// The publish thread's end: takes filled slots, gives them back.
pub(crate) struct SlotEmptier {
    filled: HeapCons<Box<PredictionSlot>>,
    free: HeapProd<Box<PredictionSlot>>,
}

/// `count` slots of `bins` × `units` predictions with these outputs beside them, and the two rings that they go round in.
pub(crate) fn prediction_slots(
    count: usize,
    model_hash: u64,
    (bins, units): (usize, usize),
    outputs: &[OutputSpec],
) -> (SlotFiller, SlotEmptier) {
    let (mut free_in, free_out) = HeapRb::new(count).split();
    let (filled_in, filled_out) = HeapRb::new(count).split();
    free_in.push_iter((0..count).map(|_| {
        Box::new(PredictionSlot {
            header: MessageHeader::new(model_hash, bins, units),
            log_rates: vec![0.0; bins * units].into(),
            outputs: outputs.iter().map(OutputSlot::new).collect(),
            counts: vec![0; units].into(),
            early_counts: vec![0; units].into(),
            close_ns: 0,
        })
    }));
    (
        SlotFiller {
            free: free_out,
            filled: filled_in,
        },
        SlotEmptier {
            filled: filled_out,
            free: free_in,
        },
    )
}

impl SlotFiller {
    /// A free slot, if the publisher keeps up.
    pub fn take(&mut self) -> Option<Box<PredictionSlot>> {
        self.free.try_pop()
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

impl SlotEmptier {
    /// The oldest filled slot.
    pub fn take(&mut self) -> Option<Box<PredictionSlot>> {
        self.filled.try_pop()
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
