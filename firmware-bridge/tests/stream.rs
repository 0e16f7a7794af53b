//! The stream decoder on links that split, cut, damage, repeat and lose.

mod support;

use firmware_bridge::{
    encode_frame, max_frame_len, Arrival, ClockRequest, Device, Message, PacketBuilder, PacketError, SequenceCounts,
    StreamCounts, StreamDecoder,
};
use proptest::prelude::*;

use support::content;

type Decoder = StreamDecoder<2048, 2>;

fn framed(packet: &[u8]) -> Vec<u8> {
    let mut out = vec![0; max_frame_len(packet.len())];
    let length = encode_frame(packet, &mut out).expect("it is long enough");
    out.truncate(length);
    out
}

/// Empty packets of one device, as frames: `NUMBER` of them, first ticks 0, 1, …
fn numbered<const NUMBER: usize>() -> [Vec<u8>; NUMBER] {
    let mut builder = PacketBuilder::<0, 0>::new(Device {
        id: 1,
        boot: 1,
        tick_rate_hz: 1000,
    });
    core::array::from_fn(|tick| {
        builder.begin(tick as u64);
        let mut bytes = [0; 52];
        builder.finish(&mut bytes).expect("it has this length");
        framed(&bytes)
    })
}

/// The first ticks of the data packets in `bytes`, and the decoder after them.
fn ticks(bytes: &[u8]) -> (Vec<u64>, Decoder) {
    let mut decoder = Decoder::default();
    let mut ticks = Vec::new();
    decoder.feed(bytes, |received| {
        let Message::Data(packet) = received.message else {
            panic!("only data was sent")
        };
        ticks.push(packet.header().first_tick);
    });
    (ticks, decoder)
}

fn assert_balanced(counts: StreamCounts, pending: u64) {
    assert_eq!(
        counts.bytes,
        counts.framed + counts.discarded + counts.idle + pending,
        "{counts:?}"
    );
}

#[test]
fn joined_in_the_middle_it_begins_with_the_next_frame() {
    let [first, second] = numbered::<2>();
    for cut in 1..first.len() {
        let (ticks, decoder) = ticks(&[&first[cut..], &second].concat());
        let counts = decoder.counts();
        assert_eq!((ticks, counts.corrupt), (vec![1], 0));
        // The zero alone says nothing about what was before it.
        let discarded = if cut == first.len() - 1 { 0 } else { first.len() - cut };
        assert_eq!(counts.discarded, discarded as u64);
        assert_balanced(counts, 0);
    }
}

#[test]
fn a_damaged_frame_costs_itself_alone() {
    let frames = numbered::<4>();
    let clean = frames.concat();
    let (before, after) = (frames[0].len(), frames[0].len() + frames[1].len());
    for at in before..after {
        for flip in [1, 0x80, clean[at]].into_iter().filter(|&flip| flip != 0) {
            let mut bytes = clean.clone();
            bytes[at] ^= flip;
            let (ticks, decoder) = ticks(&bytes);
            let counts = decoder.counts();
            // Where the zero between two frames is hit, both are gone.
            let expected: &[u64] = if at == after - 1 { &[0, 3] } else { &[0, 2, 3] };
            assert_eq!(ticks, expected, "byte {at}");
            assert!((1..=2).contains(&counts.corrupt), "byte {at}");
            let missing = 4 - expected.len() as u64;
            let (_, sequence) = decoder.devices().next().expect("it was heard");
            assert_eq!((sequence.missing, sequence.gaps), (missing, 1));
            assert_balanced(counts, 0);
        }
    }
}

#[test]
fn gaps_and_duplicates_are_counted_for_each_device() {
    let [first, second, third, fourth] = numbered::<4>();
    let bytes = [&first[..], &second, &second, &fourth, &third, &first].concat();
    let (ticks, decoder) = ticks(&bytes);
    assert_eq!(ticks, [0, 1, 3, 2]);
    let expected = SequenceCounts {
        received: 4,
        missing: 0,
        gaps: 1,
        late: 1,
        duplicates: 2,
        stale: 0,
        restarts: 0,
    };
    assert_eq!(decoder.devices().collect::<Vec<_>>(), [(1, expected)]);
    assert_eq!(decoder.counts().packets, 6);
}

#[test]
fn what_is_whole_but_not_understood_is_refused_by_name() {
    let mut version_1 = [0u8; 40];
    version_1[..6].copy_from_slice(&[b'N', b'H', b'S', b'P', 1, 0]);
    let of_device = |id| {
        let mut bytes = [0; 52];
        let device = Device {
            id,
            boot: 1,
            tick_rate_hz: 1,
        };
        PacketBuilder::<0, 0>::new(device)
            .finish(&mut bytes)
            .expect("it has this length");
        framed(&bytes)
    };
    let mut decoder = Decoder::default();
    decoder.feed(&[0], |_| ());
    decoder.feed(&framed(&version_1), |received| panic!("{received:?}"));
    assert_eq!(decoder.last_refusal(), Some(PacketError::Version(1)));
    let mut arrivals = Vec::new();
    for id in [8, 9, 10] {
        decoder.feed(&of_device(id), |received| arrivals.push(received.arrival));
    }
    assert_eq!(arrivals, [Some(Arrival::First); 2]);
    assert_eq!(decoder.last_refusal(), Some(PacketError::Device(10)));
    let counts = decoder.counts();
    assert_eq!((counts.refused, counts.corrupt, counts.packets), (2, 0, 2));
    assert_balanced(counts, 0);
}

#[test]
fn a_frame_longer_than_the_memory_is_counted_and_passed_over() {
    let mut decoder = StreamDecoder::<54, 1>::default();
    let [first, second] = numbered::<2>();
    assert_eq!(first.len(), 54);
    let endless = [1; 1000];
    let mut packets = 0;
    for bytes in [&[0][..], &endless, &endless, &[0], &first, &[1; 55], &[0], &second] {
        decoder.feed(bytes, |_| packets += 1);
    }
    let counts = decoder.counts();
    assert_eq!((packets, counts.corrupt, counts.discarded), (2, 2, 2001 + 56));
    assert_balanced(counts, 0);
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is built is read back, however the bytes are split, and whatever junk stands between the frames.
    #[test]
    fn frames_survive_splits_and_junk(
        contents in prop::collection::vec(content(), 1..6),
        junk in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 6),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..20),
    ) {
        let mut builder = PacketBuilder::<40, 1280>::new(contents[0].device);
        let packets: Vec<_> = contents.iter().map(|content| content.put_into(&mut builder)).collect();
        let mut bytes = Vec::new();
        for (packet, junk) in packets.iter().zip(&junk) {
            bytes.extend_from_slice(junk);
            bytes.push(0);
            bytes.extend_from_slice(&framed(packet));
        }
        let mut cuts: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len())).chain([0, bytes.len()]).collect();
        cuts.sort_unstable();
        let mut decoder = Decoder::default();
        let mut expected = packets.iter();
        for pair in cuts.windows(2) {
            decoder.feed(&bytes[pair[0]..pair[1]], |received| {
                let packet = expected.next().expect("no more than were sent");
                assert_eq!(Message::decode(packet), Ok(received.message));
            });
        }
        prop_assert_eq!(expected.len(), 0);
        let counts = decoder.counts();
        prop_assert_eq!(counts.packets, packets.len() as u64);
        assert_balanced(counts, 0);
    }

    /// COBS against its definition: zeros out, lengths in.
    #[test]
    fn frames_are_cobs(bytes in prop::collection::vec(prop_oneof![1..=255u8, 0..3u8], 0..800)) {
        let frame = framed(&bytes);
        let (end, body) = frame.split_last().expect("it is not empty");
        prop_assert!(*end == 0 && !body.contains(&0));
        let (mut decoded, mut rest) = (Vec::new(), body);
        while let Some((&code, after)) = rest.split_first() {
            let (piece, after) = after.split_at(usize::from(code) - 1);
            decoded.extend_from_slice(piece);
            if code != 255 && !after.is_empty() {
                decoded.push(0);
            }
            rest = after;
        }
        prop_assert_eq!(decoded, bytes);
    }
}

#[test]
fn clock_packets_pass_between_data() {
    let [first, second] = numbered::<2>();
    let request = ClockRequest::new(1, 2, 3);
    let mut seen = Vec::new();
    let mut decoder = Decoder::default();
    decoder.feed(
        &[&first[..], &framed(&request.to_bytes()), &second].concat(),
        |received| {
            seen.push((
                received.arrival,
                matches!(received.message, Message::ClockRequest(r) if r == request),
            ))
        },
    );
    assert_eq!(
        seen,
        [
            (Some(Arrival::First), false),
            (None, true),
            (Some(Arrival::Next), false)
        ]
    );
}
