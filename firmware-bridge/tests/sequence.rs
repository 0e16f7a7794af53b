//! Gaps, duplicates, late packets and restarts, against a plain list of what was sent.

use std::collections::BTreeSet;

use firmware_bridge::{Arrival, SequenceTracker};
use proptest::prelude::*;

fn arrivals(packets: &[(u32, u64)]) -> (Vec<Arrival>, SequenceTracker) {
    let mut tracker = SequenceTracker::default();
    let arrivals = packets
        .iter()
        .map(|&(boot, sequence)| tracker.observe(boot, sequence, sequence.wrapping_add(1_000)))
        .collect();
    (arrivals, tracker)
}

#[test]
fn each_kind_of_arrival_is_named() {
    use Arrival::*;
    let (seen, tracker) = arrivals(&[
        (7, 100),
        (7, 101),
        (7, 104),
        (7, 103),
        (7, 103),
        (7, 102),
        (7, 99),
        (7, 105),
    ]);
    assert_eq!(
        seen,
        [First, Next, Gap { missing: 2 }, Late, Duplicate, Late, Stale, Next]
    );
    let counts = tracker.counts();
    assert_eq!((counts.received, counts.missing, counts.gaps), (6, 0, 1));
    assert_eq!((counts.late, counts.duplicates, counts.stale), (2, 1, 1));
}

#[test]
fn a_restart_is_seen_by_its_boot_number_however_soon_it_comes() {
    use Arrival::*;
    let (seen, tracker) = arrivals(&[(7, 0), (7, 1), (9, 2), (7, 2), (9, 1), (9, 3)]);
    assert_eq!(seen, [First, Next, Restart { missing: 2 }, Stale, Late, Next]);
    assert_eq!((tracker.counts().missing, tracker.counts().restarts), (1, 1));
}

#[test]
fn a_restart_without_boot_number_is_seen_by_its_distance() {
    use Arrival::*;
    let (seen, _) = arrivals(&[(0, 63), (0, 0), (0, 64), (0, 0), (0, 1)]);
    assert_eq!(seen, [First, Stale, Next, Restart { missing: 0 }, Next]);
    // With a boot number the same is an old packet.
    let (seen, _) = arrivals(&[(5, 0), (5, 64), (5, 0)]);
    assert_eq!(seen, [First, Gap { missing: 63 }, Stale]);
}

#[test]
fn the_largest_numbers_do_not_overflow() {
    use Arrival::*;
    let most = 1 << 32;
    let (seen, tracker) = arrivals(&[
        (1, 0),
        (1, most),
        (1, u64::MAX),
        (2, u64::MAX),
        (2, u64::MAX - 63),
        (2, u64::MAX),
        (3, most),
    ]);
    assert_eq!(
        seen,
        [
            First,
            Gap { missing: most - 1 },
            // Nobody has missed so many packets.
            Restart { missing: 0 },
            Restart { missing: 0 },
            Stale,
            Duplicate,
            Restart { missing: most }
        ]
    );
    assert_eq!(tracker.counts().missing, 2 * most - 1);
}

#[test]
fn a_device_without_boot_number_that_starts_again_soon_is_told_by_its_ticks() {
    use Arrival::*;
    let mut tracker = SequenceTracker::default();
    let mut observe = |sequence, tick| tracker.observe(0, sequence, tick);
    assert_eq!([0, 1, 2].map(|n| observe(n, 10 * n)), [First, Next, Next]);
    assert_eq!(observe(1, 10), Duplicate);
    // Started again, with another tick in its first packet.
    assert_eq!(observe(0, 7), Restart { missing: 0 });
    assert_eq!([1, 2, 3].map(|n| observe(n, 10 * n)), [Next, Next, Next]);
    // Joined in the middle, then started again: the fourth old packet in a row is no straggler.
    let mut tracker = SequenceTracker::default();
    let mut observe = |sequence| tracker.observe(0, sequence, 5 + sequence);
    assert_eq!(observe(40), First);
    assert_eq!([0, 1, 2].map(&mut observe), [Stale; 3]);
    assert_eq!([3, 4].map(observe), [Restart { missing: 0 }, Next]);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// A link that loses, repeats and delays by up to 63 packets: sent = received + missing, to the packet.
    #[test]
    fn the_balance_holds(
        first in 0..1u64 << 60,
        fates in prop::collection::vec((0..10u8, 0..50u64, 0..50u64), 1..400),
    ) {
        // When each copy of each packet arrives; the first always does.
        let mut copies = vec![(0, 0, first)];
        for (at, &(fate, delay, second_delay)) in (1u64..).zip(&fates) {
            match fate {
                0 => (),
                1 => copies.push((at + delay, at, first + at)),
                2 => copies.extend([(at, at, first + at), (at + second_delay, at, first + at)]),
                _ => copies.push((at, at, first + at)),
            }
        }
        copies.sort();
        let mut tracker = SequenceTracker::default();
        let (mut distinct, mut latest, mut late) = (BTreeSet::new(), first, 0);
        for &(_, _, sequence) in &copies {
            let is_new = distinct.insert(sequence);
            let arrival = tracker.observe(3, sequence, sequence);
            prop_assert_eq!(arrival.is_new(), is_new);
            late += u64::from(is_new && sequence < latest);
            latest = latest.max(sequence);
            let counts = tracker.counts();
            prop_assert_eq!(counts.received + counts.missing, latest - first + 1);
        }
        let counts = tracker.counts();
        prop_assert_eq!(counts.received, distinct.len() as u64);
        prop_assert_eq!(counts.duplicates, (copies.len() - distinct.len()) as u64);
        prop_assert_eq!((counts.late, counts.stale, counts.restarts), (late, 0, 0));
    }
}
