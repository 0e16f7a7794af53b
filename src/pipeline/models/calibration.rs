//! The decode thread hands bins' spikes to the calibrator, and takes in the identities that come of them.

use std::sync::{Arc, Mutex};

use super::super::calibrate::{calibration_of, Calibration, CalibrationPort, Calibrator, Compute};
use super::{model, weak_model, Modelled};
use crate::model::config::{IdentityConfig, IdentityScheme};
use crate::model::identity::{Identities, IdentityError, Reference};

const BIN_S: f64 = 0.01;
const BIN_NS: i64 = 10_000_000;
/// A window is a bin, so that the last bins are looked at whole.
const ENCODER: IdentityConfig = IdentityConfig {
    scheme: IdentityScheme::Binned,
    window_bins: 1,
    bin_s: BIN_S,
    hidden: 1,
    population: false,
    components: 0,
    refine: false,
};
/// Identities of every bin.
const EACH_BIN: Calibration = Calibration {
    reference_s: BIN_S,
    every_s: Some(BIN_S),
    in_step: false,
};

#[derive(Clone, Copy, Debug, PartialEq)]
enum Event {
    Asked,
    /// From a reference of so many spikes.
    Computed(u64),
}

/// Numbers the identities from 1 on, in place of a network.
#[derive(Default)]
struct Numbering {
    computed: u64,
    /// Spikes of every reference, where it matters.
    spikes: Option<f32>,
    events: Arc<Mutex<Vec<Event>>>,
}

impl Compute for Numbering {
    fn compute(&mut self, reference: &Reference) -> Result<Identities, IdentityError> {
        let of = reference.counts().iter().sum::<f32>();
        self.events.lock().unwrap().push(Event::Computed(of as u64));
        if let Some(spikes) = self.spikes {
            assert_eq!(of, spikes, "a reference with a bin missing");
        }
        self.computed += 1;
        Ok(Identities::made_up(vec![self.computed as f32], vec![of]))
    }
}

type Ends = (CalibrationPort<Modelled>, Calibrator<Modelled, Numbering>);

fn ends(numbering: Numbering, wanted: Calibration, places: usize) -> Ends {
    calibration_of(numbering, ENCODER, (BIN_NS, 1), wanted, places)
}

/// A bin with one spike.
fn close(port: &mut CalibrationPort<Modelled>, bin: i64) {
    close_of(port, bin, 1);
}

/// A bin of so many spikes.
fn close_of(port: &mut CalibrationPort<Modelled>, bin: i64, spikes: usize) {
    port.bin_closed(bin * BIN_NS, &vec![bin * BIN_NS - 1; spikes], &vec![0; spikes]);
}

/// The number of the newest identities, if there are new ones.
fn newest(port: &mut CalibrationPort<Modelled>) -> Option<u64> {
    let mut number = None;
    port.take_new(|identities| number = Some(identities.embeddings()[0] as u64));
    number
}

fn in_step() {
    let wanted = Calibration {
        in_step: true,
        ..EACH_BIN
    };
    let (mut port, calibrator) = ends(Numbering::default(), wanted, 8);
    let calibrator = loom::thread::spawn(move || calibrator.run().unwrap());
    for bin in 1..=2 {
        close(&mut port, bin);
        assert_eq!(newest(&mut port), Some(bin as u64));
    }
    drop(port);
    calibrator.join().unwrap();
}

/// Bins of one spike, two, three, and identities that are asked for after some of them, or before the first (0): how many spikes the
/// references had that were looked at.
fn references(bins: usize, asked_after: &[usize]) -> Vec<u64> {
    let wanted = Calibration {
        every_s: None,
        ..EACH_BIN
    };
    let numbering = Numbering::default();
    let events = numbering.events.clone();
    let (mut port, calibrator) = ends(numbering, wanted, 16);
    let control = calibrator.control();
    let calibrator = loom::thread::spawn(move || calibrator.run().unwrap());
    let mut asked = Vec::new();
    for bin in 0..=bins {
        if bin > 0 {
            close_of(&mut port, bin as i64, bin);
        }
        if asked_after.contains(&bin) {
            events.lock().unwrap().push(Event::Asked);
            asked.push((bin, control.recalibrate()));
        }
        for (after, asked) in &asked {
            // Whoever is answered has identities of a reference that ended later.
            if control.is_answered(*asked) {
                assert!(control.latest().unwrap().log_rates()[0] > *after as f32);
            }
        }
    }
    let early = newest(&mut port);
    drop(port);
    calibrator.join().unwrap();
    let events = events.lock().unwrap();
    let computed: Vec<u64> = events
        .iter()
        .filter_map(|event| match event {
            Event::Computed(spikes) => Some(*spikes),
            Event::Asked => None,
        })
        .collect();
    assert!(asked.iter().all(|(_, asked)| control.is_answered(*asked)), "{events:?}");
    assert_eq!(control.counts().made, computed.len() as u64);
    assert_eq!(control.latest().unwrap().embeddings(), [computed.len() as f32]);
    assert!(early <= Some(computed.len() as u64));
    computed
}

fn asked_for() {
    // The first are computed by themselves, before they are asked for or after: neither is an answer.
    assert_eq!(references(2, &[1]), [1, 2]);
}

fn asked_for_late() {
    // However far behind the calibrator is.
    assert_eq!(references(3, &[2]), [1, 3]);
}

fn asked_for_twice() {
    assert_eq!(references(2, &[0, 1]), [1, 2]);
}

fn more_than_there_are_places_for() {
    let (mut port, calibrator) = ends(Numbering::default(), EACH_BIN, 16);
    (1..=6).for_each(|bin| close(&mut port, bin));
    let calibrator = loom::thread::spawn(move || calibrator.run().unwrap());
    let mut taken = Vec::new();
    for _ in 0..4 {
        taken.extend(newest(&mut port));
        loom::thread::yield_now();
    }
    assert!(taken.is_sorted(), "{taken:?}");
    drop(port);
    calibrator.join().unwrap();
}

fn gaps() {
    let wanted = Calibration {
        reference_s: 2.0 * BIN_S,
        ..EACH_BIN
    };
    let numbering = Numbering {
        spikes: Some(2.0),
        ..Numbering::default()
    };
    // A bin is two entries.
    let (mut port, calibrator) = ends(numbering, wanted, 6);
    let counters = calibrator.counters();
    let calibrator = loom::thread::spawn(move || calibrator.run().unwrap());
    (1..=4).for_each(|bin| close(&mut port, bin));
    drop(port);
    calibrator.join().unwrap();
    // At least the first two have room.
    assert!(counters.counts().gaps <= 2);
}

#[test]
fn in_step_identities_are_taken_in_with_the_bin_that_they_are_of() {
    model(2, in_step);
}

#[test]
fn identities_that_are_asked_for_are_computed_after_that() {
    model(2, asked_for);
}

#[test]
fn a_reference_that_ended_before_identities_were_asked_for_is_no_answer() {
    model(2, asked_for_late);
}

#[test]
fn whoever_asks_while_others_are_answered_is_answered_too() {
    model(2, asked_for_twice);
}

#[test]
fn every_place_for_used_identities_is_free_in_time() {
    model(2, more_than_there_are_places_for);
}

#[test]
fn a_reference_begins_anew_after_a_gap() {
    model(2, gaps);
}

#[test]
#[should_panic(expected = "Causality violation")]
fn the_model_notices_atomics_that_are_too_weak() {
    weak_model(2, in_step);
}
