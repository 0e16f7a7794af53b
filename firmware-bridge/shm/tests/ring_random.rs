//! Random records against a plain queue, and memory that another program has written over.

mod support;

use std::collections::VecDeque;
use std::sync::atomic::Ordering;

use firmware_bridge_shm::{Index, Memory, PopError, PushError, Reader, Writer};
use proptest::prelude::*;
use support::Plain;

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_goes_in_comes_out(
        exponent in 4..9u32,
        steps in prop::collection::vec(prop::option::weighted(0.6, prop::collection::vec(any::<u8>(), 0..100)), 0..400),
        split in any::<prop::sample::Index>(),
    ) {
        let ring = Plain::new(1 << exponent);
        let (mut writer, mut reader) = (Writer::attach(ring.clone()), Reader::attach(ring.clone()));
        // Each record with the index behind it; the indices by the definition on the module's page.
        let capacity = 1 << exponent;
        let (mut queue, mut read, mut written) = (VecDeque::<(Vec<u8>, usize)>::new(), 0, 0);
        let mut bytes = [0; 100];
        for step in steps {
            let Some(record) = step else {
                let popped = reader.pop(&mut bytes).unwrap().map(|length| bytes[..length].to_vec());
                let expected = queue.pop_front().map(|(record, end)| {
                    read = end;
                    record
                });
                prop_assert_eq!(popped, expected);
                continue;
            };
            let (head, tail) = record.split_at(split.index(record.len() + 1));
            let to_end = capacity - written % capacity;
            let taken = 8 + record.len().next_multiple_of(8);
            let end = written + taken + if taken > to_end { to_end } else { 0 };
            let expected = if record.len() > capacity / 2 - 8 {
                Err(PushError::TooLong)
            } else if end - read > capacity {
                Err(PushError::Full)
            } else {
                Ok(())
            };
            prop_assert_eq!(writer.push(&[head, tail]), expected);
            if expected.is_ok() {
                written = end;
                queue.push_back((record, end));
            }
            prop_assert_eq!(writer.waiting(), (written - read) as u64);
        }
    }

    /// Whatever stands in the memory: no panic, and both ends find their way once nobody scribbles any more.
    #[test]
    fn damage_is_reported_and_passes(
        words in prop::collection::vec((any::<prop::sample::Index>(), prop_oneof![any::<u64>(), 0..64u64, Just(u64::MAX)]), 1..6),
        indices in any::<(Option<u64>, Option<u64>)>(),
        small in any::<bool>(),
        before in (0..9, 0..9),
        anew in any::<bool>(),
    ) {
        let ring = Plain::new(128);
        let (mut writer, mut reader) = (Writer::attach(ring.clone()), Reader::attach(ring.clone()));
        let mut bytes = [0; 128];
        for _ in 0..before.0 {
            let _ = writer.push(&[b"before"]);
        }
        for _ in 0..before.1 {
            reader.pop(&mut bytes).unwrap();
        }
        for (at, word) in words {
            ring.copy_in(at.index(16) * 8, &word.to_le_bytes());
        }
        let scale = |index: u64| if small { index % 256 } else { index };
        if let Some(written) = indices.0 {
            ring.written().store(scale(written), Ordering::Relaxed);
        }
        if let Some(read) = indices.1 {
            ring.read().store(scale(read), Ordering::Relaxed);
        }
        if anew {
            (writer, reader) = (Writer::attach(ring.clone()), Reader::attach(ring.clone()));
        }
        let mut back = false;
        for round in 0..40u8 {
            let pushed = writer.push(&[&[round; 8]]);
            for _ in 0..20 {
                match reader.pop(&mut bytes) {
                    Ok(Some(length)) => back |= pushed.is_ok() && bytes[..length] == [round; 8],
                    Ok(None) => break,
                    Err(PopError::Damaged | PopError::TooLong { .. }) => (),
                }
            }
        }
        prop_assert!(back);
    }
}
