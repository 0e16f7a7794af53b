//! A writer or reader that dies at any point, to the byte, and another that takes its place.

mod support;

use firmware_bridge_shm::{PopError, PushError, Reader, Writer};
use support::Plain;

const CAPACITY: usize = 128;

fn all(reader: &mut Reader<Plain>) -> Vec<Vec<u8>> {
    let mut bytes = [0; CAPACITY];
    let mut records = Vec::new();
    while let Some(length) = reader.pop(&mut bytes).unwrap() {
        records.push(bytes[..length].to_vec());
    }
    records
}

/// A ring in which `before` bytes have passed, so that what follows lies at every place and wraps around.
fn at(before: usize) -> (Plain, Writer<Plain>, Reader<Plain>) {
    let ring = Plain::new(CAPACITY);
    let (mut writer, mut reader) = (Writer::attach(ring.clone()), Reader::attach(ring.clone()));
    for _ in 0..before / 8 {
        writer.push(&[]).unwrap();
        all(&mut reader);
    }
    (ring, writer, reader)
}

#[test]
fn a_writer_that_dies_leaves_whole_records_only() {
    let mut deaths = 0;
    for before in (0..CAPACITY).step_by(8) {
        for life in 0.. {
            let (ring, mut writer, mut reader) = at(before);
            ring.set_life(life);
            writer.push(&[b"first"]).unwrap();
            writer.push(&[b"sec", b"ond, longer"]).unwrap();
            let died = ring.life() == 0;
            ring.set_life(usize::MAX);
            // The next writer starts where the memory stands, whatever it finds there.
            let mut writer = Writer::attach(ring);
            writer.push(&[b"third"]).unwrap();
            let records = all(&mut reader);
            let (last, kept) = records.split_last().unwrap();
            assert_eq!(last, b"third");
            let sent: [&[u8]; 2] = [b"first", b"second, longer"];
            assert!(sent.starts_with(&kept.iter().map(Vec::as_slice).collect::<Vec<_>>()));
            if !died {
                assert_eq!(kept.len(), 2);
                break;
            }
            deaths += 1;
        }
    }
    // 5 + 14 bytes, two lengths, two indices: 37 changes at least, at each of 16 places.
    assert!(deaths >= 16 * 37, "{deaths}");
}

#[test]
fn a_reader_that_dies_leaves_what_it_had_not_finished() {
    for before in (0..CAPACITY).step_by(8) {
        for life in 0..3 {
            let (ring, mut writer, mut reader) = at(before);
            writer.push(&[b"first"]).unwrap();
            writer.push(&[b"second"]).unwrap();
            ring.set_life(life);
            all(&mut reader);
            ring.set_life(usize::MAX);
            let left = all(&mut Reader::attach(ring));
            let expected: [&[u8]; 2] = [b"first", b"second"];
            assert_eq!(left, &expected[life.min(2)..]);
            writer.push(&[b"third"]).unwrap();
        }
    }
}

#[test]
fn a_new_end_can_pass_over_what_is_old() {
    let (ring, mut writer, _) = at(24);
    writer.push(&[b"old"]).unwrap();
    writer.push(&[b"older than new"]).unwrap();
    let mut reader = Reader::attach(ring);
    assert_eq!(reader.skip_all(), Ok(2));
    assert_eq!(reader.skip_all(), Ok(0));
    writer.push(&[b"new"]).unwrap();
    assert_eq!(all(&mut reader), [b"new"]);
}

#[test]
fn what_does_not_fit_is_refused_and_named() {
    let (_, mut writer, mut reader) = at(0);
    assert_eq!(writer.push(&[&[0; 57]]), Err(PushError::TooLong));
    writer.push(&[&[1; 56]]).unwrap();
    writer.push(&[&[2; 56]]).unwrap();
    assert_eq!(writer.waiting(), 128);
    assert_eq!(writer.push(&[]), Err(PushError::Full));
    assert_eq!(reader.pop(&mut [0; 55]), Err(PopError::TooLong { length: 56 }));
    assert_eq!(all(&mut reader), [[2; 56]]);
    writer.push(&[]).unwrap();
    assert_eq!(all(&mut reader), [[0u8; 0]]);
}
