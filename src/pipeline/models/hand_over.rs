//! The decode thread announces bins and hands predictions over; the publish thread publishes them, or stands in where one is
//! overdue.

use std::sync::Arc;

use super::super::hand_over::{hand_over, next, Next, Pulse};
use super::super::slot::{prediction_slots, Announced, SlotEmptier, SlotFiller};
use super::super::watch::Watch;
use super::{model, weak_model, Modelled};

const BINS: i64 = 2;
/// A bin closes every so many ns; it is stood in for so many after its close; the publish thread's clock goes on by so much
/// from one look to the next.
const BIN_NS: i64 = 10;
const PATIENCE_NS: i64 = 4;
const LOOK_NS: i64 = 7;

fn bin(index: i64) -> Announced {
    Announced {
        bin_index: index,
        bin_end_ns: (index + 1) * BIN_NS,
        close_ns: (index + 1) * BIN_NS,
    }
}

/// What the publish thread did.
#[derive(Default)]
struct Done {
    published: Vec<i64>,
    stood_in: u64,
    superseded: u64,
    /// Bins whose slot it has had.
    slots: Vec<i64>,
}

/// Decodes every bin for which there is a slot, in the decode thread's order; returns which.
fn decode(mut slots: SlotFiller<Modelled>, pulse: &Pulse<Modelled>) -> Vec<i64> {
    let mut handed_over = Vec::new();
    for index in 0..BINS {
        pulse.beat(bin(index).close_ns);
        let Some(mut slot) = slots.take() else { continue };
        slots.announce(bin(index));
        slot.header.bin_index = index;
        slot.header.bin_end_ns = bin(index).bin_end_ns;
        slot.close_ns = bin(index).close_ns;
        hand_over(&mut slots, slot, pulse, Some(bin(index + 1).close_ns));
        handed_over.push(index);
    }
    handed_over
}

/// Publishes until the decode thread has ended.
fn publish(slots: &mut SlotEmptier<Modelled>, pulse: &Pulse<Modelled>) -> Done {
    let mut watch = Watch::new((BIN_NS, BIN_NS), Some(bin(BINS - 1).bin_end_ns));
    let (mut done, mut now_ns) = (Done::default(), bin(0).close_ns);
    loop {
        now_ns += LOOK_NS;
        match next(slots, &mut watch, pulse, || Some((now_ns, PATIENCE_NS))) {
            Next::Publish(slot) => {
                let index = slot.header.bin_index;
                while let Some(missing) = watch.left_out(index) {
                    watch.published(missing);
                    done.published.push(missing.bin_index);
                    done.stood_in += 1;
                }
                watch.published(bin(index));
                done.published.push(index);
                done.slots.push(index);
                slots.give_back(slot);
            }
            Next::Superseded(slot) => {
                done.superseded += 1;
                done.slots.push(slot.header.bin_index);
                slots.give_back(slot);
            }
            Next::StandIn(stuck) => {
                assert_eq!(stuck, bin(stuck.bin_index));
                watch.published(stuck);
                done.published.push(stuck.bin_index);
                done.stood_in += 1;
            }
            Next::Wait(expected) => {
                // It sleeps until shortly before then: no slot of a bin before that one may lie there, nor come.
                if let Some(close_ns) = expected {
                    let before = close_ns / BIN_NS - 2;
                    assert!(
                        done.slots.contains(&before),
                        "slept while the slot of bin {before} lay there"
                    );
                }
                loom::thread::yield_now();
            }
            Next::Finished => return done,
        }
    }
}

fn threads(slots: usize) {
    let (filler, mut emptier) = prediction_slots::<Modelled>(slots, 1, (1, 1), &[]);
    let pulse = Arc::new(Pulse::<Modelled>::default());
    let decoder = loom::thread::spawn({
        let pulse = pulse.clone();
        move || decode(filler, &pulse)
    });
    let done = publish(&mut emptier, &pulse);
    let handed_over = decoder.join().unwrap();
    // Every slot has come, and in order; every bin went out once, and in order, whoever published it.
    assert_eq!(done.slots, handed_over);
    assert!(
        done.published.windows(2).all(|two| two[0] + 1 == two[1]),
        "{:?}",
        done.published
    );
    assert!(
        handed_over.iter().all(|bin| done.published.contains(bin)),
        "{:?}",
        done.published
    );
    // What came late is counted.
    assert_eq!(
        done.published.len() as u64 + done.superseded,
        handed_over.len() as u64 + done.stood_in
    );
}

#[test]
fn every_bin_is_published_once_and_in_order_by_one_thread_or_the_other() {
    model(2, || threads(2));
}

#[test]
fn a_slot_that_goes_round_is_never_in_two_hands() {
    model(2, || threads(1));
}

#[test]
#[should_panic(expected = "Causality violation")]
fn the_model_notices_atomics_that_are_too_weak() {
    weak_model(2, || threads(2));
}
