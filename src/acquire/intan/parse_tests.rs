//! Bytes written by hand from the layout of the spike output.

use proptest::prelude::*;

use super::*;

/// `A-010`, sample 0x00010203, unit 2.
const FIRST: [u8; 14] = [
    0x0F, 0x71, 0xE2, 0x3A, b'A', b'-', b'0', b'1', b'0', 0x03, 0x02, 0x01, 0x00, 0x02,
];
/// `D-127`, sample 0x00010204, not sorted.
const SECOND: [u8; 14] = [
    0x0F, 0x71, 0xE2, 0x3A, b'D', b'-', b'1', b'2', b'7', 0x04, 0x02, 0x01, 0x00, 0x40,
];

fn spike(channel: &[u8; 5], ticks: i64, unit: u16) -> IntanSpike {
    IntanSpike {
        channel: *channel,
        ticks,
        unit,
    }
}

fn parse(pieces: &[&[u8]]) -> (Vec<IntanSpike>, SpikeParser) {
    let (mut parser, mut spikes) = (SpikeParser::default(), Vec::new());
    for piece in pieces {
        parser.push(piece, |spike| spikes.push(spike));
    }
    (spikes, parser)
}

fn both() -> Vec<IntanSpike> {
    vec![spike(b"A-010", 0x10203, 2), spike(b"D-127", 0x10204, 0)]
}

#[test]
fn golden_records_are_read() {
    let (spikes, parser) = parse(&[&FIRST, &SECOND]);
    assert_eq!(spikes, both());
    assert_eq!(spikes[1].name(), "D-127");
    assert_eq!((parser.records(), parser.discarded(), parser.waiting()), (2, 0, 0));
}

#[test]
fn every_spike_id_is_its_unit() {
    for (id, unit) in [(1, 1), (2, 2), (4, 3), (8, 4), (0x40, 0), (0x80, ARTIFACT)] {
        let mut bytes = FIRST;
        bytes[13] = id;
        assert_eq!(parse(&[&bytes]).0, [spike(b"A-010", 0x10203, unit)]);
    }
    for id in [0, 3, 0x10, 0xFF] {
        let mut bytes = FIRST;
        bytes[13] = id;
        assert_eq!(parse(&[&bytes]).0, []);
    }
}

#[test]
fn records_split_at_every_byte_or_run_together_are_the_same() {
    let whole = [FIRST, SECOND].concat();
    for at in 0..=whole.len() {
        assert_eq!(parse(&[&whole[..at], &whole[at..]]).0, both(), "split at {at}");
    }
    let bytes: Vec<&[u8]> = whole.chunks(1).collect();
    assert_eq!(parse(&bytes).0, both());
    assert_eq!(parse(&[&whole]).0, both());
}

#[test]
fn a_record_cut_short_costs_its_own_bytes_only() {
    for length in 1..RECORD {
        let (spikes, parser) = parse(&[&FIRST[..length], &SECOND, &FIRST]);
        let wanted = [spike(b"D-127", 0x10204, 0), spike(b"A-010", 0x10203, 2)];
        assert_eq!(spikes, wanted, "{length} bytes left");
        assert_eq!((parser.discarded(), parser.waiting()), (length as u64, 0));
    }
}

#[test]
fn a_record_that_comes_twice_is_two_spikes() {
    assert_eq!(parse(&[&FIRST, &FIRST]).0, [both()[0]; 2]);
}

#[test]
fn a_corrupted_byte_costs_at_most_its_record() {
    // Bytes 6 to 12 are digits and time: other values may be another valid record, at the same place.
    for at in [0, 1, 2, 3, 4, 5, 13] {
        let mut broken = FIRST;
        broken[at] = 0;
        let (spikes, parser) = parse(&[&broken, &SECOND]);
        assert_eq!(spikes, [spike(b"D-127", 0x10204, 0)], "byte {at}");
        assert_eq!((parser.discarded(), parser.resyncs()), (14, 1));
    }
}

#[test]
fn a_magic_inside_a_record_that_is_none_begins_the_next() {
    // The first four bytes again, then the record proper.
    let bytes = [&FIRST[..4], &FIRST, &[0x0F, 0x71], &SECOND].concat();
    let (spikes, parser) = parse(&[&bytes]);
    assert_eq!((spikes, parser.discarded(), parser.resyncs()), (both(), 6, 2));
}

#[test]
fn the_sample_counter_goes_on_over_its_wrap() {
    let (mut before, mut after) = (FIRST, SECOND);
    before[9..13].copy_from_slice(&[0xFE, 0xFF, 0xFF, 0xFF]);
    after[9..13].copy_from_slice(&[0x01, 0x00, 0x00, 0x00]);
    let spikes = parse(&[&before, &after]).0;
    assert_eq!((spikes[0].ticks, spikes[1].ticks), (0xFFFF_FFFE, 0x1_0000_0001));
}

#[test]
fn a_restart_discards_what_waits_and_forgets_the_wraps() {
    let (mut parser, mut spikes) = (SpikeParser::default(), Vec::new());
    let mut late = FIRST;
    late[9..13].copy_from_slice(&[0xFF; 4]);
    parser.push(&[&late[..], &FIRST[..9]].concat(), |spike| spikes.push(spike));
    parser.restart();
    parser.push(&FIRST, |spike| spikes.push(spike));
    assert_eq!((spikes[1].ticks, parser.discarded(), parser.waiting()), (0x10203, 9, 0));
}

fn written() -> impl Strategy<Value = ([u8; 14], IntanSpike)> {
    let ids = prop::sample::select(vec![(1u8, 1u16), (2, 2), (4, 3), (8, 4), (0x40, 0), (0x80, ARTIFACT)]);
    (0u8..8, 0u16..1000, 0u32..1 << 30, ids).prop_map(|(port, number, ticks, (id, unit))| {
        let mut bytes = FIRST;
        bytes[4] = b'A' + port;
        bytes[6..9].copy_from_slice(format!("{number:03}").as_bytes());
        bytes[9..13].copy_from_slice(&ticks.to_le_bytes());
        bytes[13] = id;
        let channel = [bytes[4], bytes[5], bytes[6], bytes[7], bytes[8]];
        (bytes, spike(&channel, i64::from(ticks), unit))
    })
}

proptest! {
    #[test]
    fn records_among_other_bytes_are_all_found(
        parts in prop::collection::vec((prop::collection::vec(0u8..0x0F, 0..30), written()), 0..20),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..10),
    ) {
        // The other bytes hold no first byte of the magic, so that no record can begin in them.
        let mut stream = Vec::new();
        let (mut wanted, mut other) = (Vec::new(), 0);
        for (noise, (bytes, spike)) in parts {
            other += noise.len() as u64;
            stream.extend(noise);
            stream.extend(bytes);
            wanted.push(spike);
        }
        let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.index(stream.len() + 1)).collect();
        cuts.extend([0, stream.len()]);
        cuts.sort_unstable();
        let pieces: Vec<&[u8]> = cuts.windows(2).map(|pair| &stream[pair[0]..pair[1]]).collect();
        let (spikes, parser) = parse(&pieces);
        prop_assert_eq!(spikes, wanted);
        prop_assert_eq!((parser.discarded(), parser.waiting()), (other, 0));
    }

    #[test]
    fn every_byte_is_accounted_for_however_the_stream_is_cut(
        bytes in prop::collection::vec(prop::sample::select(
            vec![0x0Fu8, 0x71, 0xE2, 0x3A, b'A', b'-', b'0', 1, 0]), 0..300),
        cut in any::<prop::sample::Index>(),
    ) {
        let (whole, parser) = parse(&[&bytes]);
        let length = 14 * parser.records() + parser.discarded() + parser.waiting() as u64;
        prop_assert_eq!(length, bytes.len() as u64);
        prop_assert_eq!(whole.len() as u64, parser.records());
        let at = cut.index(bytes.len() + 1);
        let (cut, again) = parse(&[&bytes[..at], &bytes[at..]]);
        prop_assert_eq!((whole, parser.discarded()), (cut, again.discarded()));
    }
}
