//! What the decode thread takes in goes through its tap to whoever records it.

use std::sync::atomic::Ordering::Relaxed;

use super::super::entry::Entry;
use super::super::ring::WhenFull;
use super::super::tap::{taps_of, TapReader};
use super::{model, weak_model, Modelled};

/// Bytes of the entry of a closed bin.
const CLOSED: usize = 24;

/// Takes what there is: whole entries.
fn take(reader: &mut TapReader<Modelled>, entries: &mut Vec<Entry>) {
    let mut bytes = Vec::new();
    reader.take(&mut bytes);
    entries.extend(Entry::parse_all(&bytes).unwrap());
}

/// Where time runs: what finds no room is left out.
fn refusing() {
    const BINS: u64 = 4;
    let (taps, mut readers) = taps_of::<Modelled>(2 * CLOSED);
    let (mut ingest, _publish) = taps.split(WhenFull::Refuse, 0);
    let decoder = loom::thread::spawn(move || (0..BINS as i64).for_each(|bin| ingest.closed(bin)));
    let mut entries = Vec::new();
    for _ in 0..2 {
        take(&mut readers.ingest, &mut entries);
        loom::thread::yield_now();
    }
    decoder.join().unwrap();
    take(&mut readers.ingest, &mut entries);
    assert!(readers.ingest.is_finished());
    let (mut next, mut told) = (0, 0);
    for entry in entries {
        match entry {
            Entry::Closed { bin, .. } => {
                assert_eq!(bin, next as i64);
                next += 1;
            }
            Entry::Lost { entries } => {
                next += entries;
                told += entries;
            }
            other => panic!("{other:?}"),
        }
    }
    // What is lost at the very end stands in the count alone.
    assert_eq!(readers.losses.ingested.load(Relaxed), told + (BINS - next));
}

/// Where time does not run: the decode thread waits for room.
fn waiting(reader_stays: bool) {
    const BINS: i64 = 3;
    let (taps, mut readers) = taps_of::<Modelled>(CLOSED + 1);
    let (mut ingest, _publish) = taps.split(WhenFull::Wait, 0);
    let decoder = loom::thread::spawn(move || (0..BINS).for_each(|bin| ingest.closed(bin)));
    let mut entries = Vec::new();
    while reader_stays && !readers.ingest.is_finished() {
        take(&mut readers.ingest, &mut entries);
        loom::thread::yield_now();
    }
    drop(readers.ingest);
    decoder.join().unwrap();
    let lost = readers.losses.ingested.load(Relaxed);
    if reader_stays {
        let bins: Vec<Entry> = (0..BINS).map(|bin| Entry::Closed { bin, identities: 0 }).collect();
        assert_eq!((entries, lost), (bins, 0));
    } else {
        // The first has room.
        assert_eq!(lost, BINS as u64 - 1);
    }
}

#[test]
fn entries_are_whole_and_what_is_missing_is_said_in_its_place() {
    model(2, refusing);
}

#[test]
fn who_waits_for_room_loses_nothing() {
    model(2, || waiting(true));
}

#[test]
fn nobody_waits_for_a_reader_that_has_gone() {
    model(2, || waiting(false));
}

#[test]
#[should_panic(expected = "Causality violation")]
fn the_model_notices_atomics_that_are_too_weak() {
    weak_model(2, refusing);
}
