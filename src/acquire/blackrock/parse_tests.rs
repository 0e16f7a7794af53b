//! Datagrams written by hand from the layouts.

use proptest::prelude::*;

use super::super::packet::Protocol::{V311, V400, V410};
use super::*;

const MS: i64 = 1_000_000;

/// Channel 17, unit 2, time 0x00010203 ticks, four words: pattern, peak, valley, no waveform.
#[rustfmt::skip]
const SPIKE_311: [u8; 24] = [
    0x03, 0x02, 0x01, 0x00, 17, 0, 2, 4,
    0, 0, 0x80, 0x3F, 0, 0, 0, 0, 0, 0, 0, 0, 0x10, 0x00, 0xF0, 0xFF,
];
/// The same at 0x0000000100010203; instrument 1.
#[rustfmt::skip]
const SPIKE_400: [u8; 32] = [
    0x03, 0x02, 0x01, 0x00, 0x01, 0, 0, 0, 17, 0, 2, 4, 0, 1, 0, 0,
    0, 0, 0x80, 0x3F, 0, 0, 0, 0, 0, 0, 0, 0, 0x10, 0x00, 0xF0, 0xFF,
];
/// The same at 0x17979CFE362A0003 ns (2023-11-14); instrument 2.
#[rustfmt::skip]
const SPIKE_410: [u8; 32] = [
    0x03, 0x00, 0x2A, 0x36, 0xFE, 0x9C, 0x97, 0x17, 17, 0, 2, 0, 4, 0, 2, 0,
    0, 0, 0x80, 0x3F, 0, 0, 0, 0, 0, 0, 0, 0, 0x10, 0x00, 0xF0, 0xFF,
];
/// Heartbeats: channel 0x8000, type 0, no payload.
const HEARTBEAT_311: [u8; 8] = [0x03, 0x02, 0x01, 0x00, 0x00, 0x80, 0, 0];
const HEARTBEAT_4: [u8; 16] = [0x03, 0x02, 0x01, 0x00, 0, 0, 0, 0, 0x00, 0x80, 0, 0, 0, 0, 0, 0];

fn spike(device_ns: i64) -> BlackrockSpike {
    BlackrockSpike {
        device_ns,
        channel: 17,
        unit: 2,
    }
}

fn parse(parser: &mut PacketParser, datagram: &[u8]) -> Vec<BlackrockSpike> {
    let mut spikes = Vec::new();
    parser.push(datagram, 0, |spike| spikes.push(spike));
    spikes
}

#[test]
fn golden_datagrams_name_their_layout_and_are_read() {
    // 0x10203 = 66 051 ticks of 33 333.3 ns.
    let mut parser = PacketParser::new(None, None);
    assert_eq!(parse(&mut parser, &SPIKE_311), [spike(2_201_700_000)]);
    assert_eq!((parser.protocol(), parser.unit()), (Some(V311), Some(TimeUnit::Ticks)));

    let mut parser = PacketParser::new(None, Some(TimeUnit::Ticks));
    // 0x1_0001_0203 = 4 295 033 347 ticks.
    assert_eq!(parse(&mut parser, &SPIKE_400), [spike(143_167_778_233_333)]);
    assert_eq!(parser.protocol(), Some(V400));

    let mut parser = PacketParser::new(None, None);
    assert_eq!(parse(&mut parser, &SPIKE_410), [spike(0x1797_9CFE_362A_0003)]);
    assert_eq!((parser.protocol(), parser.unit()), (Some(V410), Some(TimeUnit::Ns)));
}

#[test]
fn each_layout_is_found_behind_heartbeats_and_in_full_datagrams() {
    for (heartbeat, golden, protocol) in [
        (&HEARTBEAT_311[..], &SPIKE_311[..], V311),
        (&HEARTBEAT_4, &SPIKE_400, V400),
        (&HEARTBEAT_4, &SPIKE_410, V410),
    ] {
        let mut parser = PacketParser::new(None, Some(TimeUnit::Ns));
        for _ in 0..3 {
            assert!(parse(&mut parser, heartbeat).is_empty());
        }
        let full = [golden, heartbeat, golden, golden].concat();
        assert_eq!(parse(&mut parser, &full).len(), 3, "{protocol:?}");
        assert_eq!(parser.protocol(), Some(protocol));
        let counts = parser.counts();
        assert_eq!((counts.malformed, counts.discarded, counts.spikes), (0, 0, 3));
    }
}

#[test]
fn ticks_and_ns_are_told_apart_by_their_rate() {
    for (per_ms, unit) in [(30, TimeUnit::Ticks), (1_000_000, TimeUnit::Ns)] {
        for speed in [0.1, 1.0, 20.0] {
            let mut parser = PacketParser::new(Some(V410), None);
            let mut first = None;
            for step in 0..20 {
                let mut golden = SPIKE_410;
                let time = 5_000_000 + (f64::from(step * 10 * per_ms) * speed) as u64;
                golden[..8].copy_from_slice(&time.to_le_bytes());
                parser.push(&golden, i64::from(step) * 10 * MS, |spike| {
                    first = first.or(Some((step, spike.device_ns)))
                });
            }
            assert_eq!(parser.unit(), Some(unit));
            // Two spans of 30 ms, after the first packet.
            assert_eq!(first.map(|first| first.0), Some(6));
            assert_eq!((parser.counts().undecided, parser.counts().spikes), (6, 14));
        }
    }
}

#[test]
fn what_is_cut_short_loses_its_last_packet_only() {
    for (golden, protocol) in [(&SPIKE_311[..], V311), (&SPIKE_400, V400), (&SPIKE_410, V410)] {
        let full = [golden, golden].concat();
        for length in golden.len() + 1..full.len() {
            let mut parser = PacketParser::new(Some(protocol), Some(TimeUnit::Ns));
            assert_eq!(
                parse(&mut parser, &full[..length]).len(),
                1,
                "{protocol:?}, {length} bytes"
            );
            let counts = parser.counts();
            assert_eq!(
                (counts.malformed, counts.discarded),
                (1, (length - golden.len()) as u64)
            );
            // The next datagram begins with a packet.
            assert_eq!(parse(&mut parser, &full).len(), 2);
        }
    }
}

#[test]
fn a_corrupted_byte_costs_at_most_its_datagram() {
    for (golden, protocol) in [(&SPIKE_311[..], V311), (&SPIKE_400, V400), (&SPIKE_410, V410)] {
        for at in 0..golden.len() {
            for value in [0x00, 0x01, 0x7F, 0x80, 0xFF] {
                let mut parser = PacketParser::new(Some(protocol), Some(TimeUnit::Ns));
                let mut broken = golden.repeat(2);
                broken[at] = value;
                assert!(parse(&mut parser, &broken).len() <= 2);
                let next = parse(&mut parser, golden);
                assert_eq!(
                    (next.len(), next[0].channel, next[0].unit),
                    (1, 17, 2),
                    "{protocol:?}, byte {at}"
                );
            }
        }
    }
}

#[test]
fn datagrams_that_come_twice_are_read_twice() {
    let mut parser = PacketParser::new(None, None);
    assert_eq!(parse(&mut parser, &SPIKE_410).len(), 1);
    assert_eq!(parse(&mut parser, &SPIKE_410).len(), 1);
}

#[test]
fn packets_that_are_no_spikes_are_none() {
    let mut parser = PacketParser::new(Some(V410), Some(TimeUnit::Ns));
    // A group of continuous channels, a configuration packet, digital input on channel 273.
    for (channel, kind) in [(0u16, 5u16), (0x8000, 0x20), (273, 0)] {
        let mut other = SPIKE_410;
        other[8..10].copy_from_slice(&channel.to_le_bytes());
        other[10..12].copy_from_slice(&kind.to_le_bytes());
        assert_eq!(parse(&mut parser, &other), []);
    }
    // Three words are less than a spike's four.
    let mut short = SPIKE_410[..28].to_vec();
    short[12] = 3;
    assert_eq!(parse(&mut parser, &short), []);
    assert_eq!((parser.counts().packets, parser.counts().malformed), (4, 0));
    // The last analogue channel, and noise.
    let mut last = SPIKE_410;
    last[8..12].copy_from_slice(&[0x10, 0x01, 0xFF, 0x00]);
    let spikes = parse(&mut parser, &last);
    assert_eq!((spikes[0].channel, spikes[0].unit), (272, NOISE));
}

#[test]
fn nonsense_is_counted_and_another_layout_is_found_in_time() {
    let mut parser = PacketParser::new(None, Some(TimeUnit::Ns));
    parse(&mut parser, &SPIKE_410);
    assert_eq!(parser.protocol(), Some(V410));
    let mut datagrams = 0;
    while parse(&mut parser, &SPIKE_311).is_empty() {
        datagrams += 1;
        assert!(datagrams < 20);
    }
    assert_eq!(parser.protocol(), Some(V311));
    assert_eq!(parser.counts().malformed, datagrams);
    parse(&mut parser, b"");
    assert_eq!(parser.counts().malformed, datagrams + 1);
}

/// A packet of 4.1 that says that `sent` packets went before it, the `number`th of its kind.
fn monitor(sent: u32, number: u32) -> Vec<u8> {
    let mut packet = HEARTBEAT_4.to_vec();
    packet[10] = 1;
    packet[12] = 2;
    packet.extend(sent.to_le_bytes());
    packet.extend(number.to_le_bytes());
    packet
}

#[test]
fn lost_packets_are_a_running_balance() {
    let mut parser = PacketParser::new(Some(V410), Some(TimeUnit::Ns));
    let spikes = |parser: &mut PacketParser, count: usize| {
        (0..count).for_each(|_| assert_eq!(parse(parser, &SPIKE_410).len(), 1));
    };
    parse(&mut parser, &monitor(999, 7));
    // The packet itself and ten spikes.
    spikes(&mut parser, 10);
    parse(&mut parser, &monitor(11, 8));
    assert_eq!(parser.counts().lost, 0);
    // Three of ten are missing, then two come late: one is lost.
    spikes(&mut parser, 7);
    parse(&mut parser, &monitor(11, 9));
    assert_eq!(parser.counts().lost, 3);
    spikes(&mut parser, 12);
    parse(&mut parser, &monitor(11, 10));
    assert_eq!(parser.counts().lost, 1);
    // Two of the device's own packets are missing, and who knows what else.
    spikes(&mut parser, 3);
    parse(&mut parser, &monitor(11, 13));
    assert_eq!(parser.counts().lost, 3);
    // The device begins anew.
    parse(&mut parser, &monitor(0, 0));
    spikes(&mut parser, 4);
    parse(&mut parser, &monitor(5, 1));
    assert_eq!(parser.counts().lost, 3);
}

#[test]
fn clocks_of_32_bits_go_on_over_their_wrap() {
    let mut parser = PacketParser::new(Some(V311), None);
    let (mut before, mut after) = (SPIKE_311, SPIKE_311);
    before[..4].copy_from_slice(&[0xFF; 4]);
    after[..4].copy_from_slice(&[29, 0, 0, 0]);
    let first = parse(&mut parser, &before)[0].device_ns;
    assert_eq!(parse(&mut parser, &after)[0].device_ns - first, MS);
}

proptest! {
    #[test]
    fn every_datagram_is_accounted_for(
        datagrams in prop::collection::vec((prop::collection::vec(any::<u8>(), 0..100), any::<bool>()), 0..60),
    ) {
        let mut parser = PacketParser::new(None, None);
        let mut emitted = 0;
        for (position, (bytes, golden)) in datagrams.iter().enumerate() {
            let datagram = if *golden { &SPIKE_410[..] } else { bytes };
            parser.push(datagram, position as i64 * MS, |_| emitted += 1);
        }
        let counts = parser.counts();
        prop_assert_eq!(counts.spikes, emitted);
        prop_assert!(counts.spikes + counts.undecided <= counts.packets);
        let bytes: usize = datagrams.iter().map(|(bytes, golden)| if *golden { 32 } else { bytes.len() }).sum();
        prop_assert!(counts.discarded as usize <= bytes);
        prop_assert!(counts.malformed + counts.ambiguous <= datagrams.len() as u64);
    }

    #[test]
    fn golden_packets_in_any_datagrams_are_all_found(
        lengths in prop::collection::vec(1usize..40, 1..20),
        which in 0usize..3,
    ) {
        let (golden, protocol) = [(&SPIKE_311[..], V311), (&SPIKE_400[..], V400), (&SPIKE_410[..], V410)][which];
        let mut parser = PacketParser::new(None, Some(TimeUnit::Ns));
        let mut found = 0;
        for &length in &lengths {
            found += parse(&mut parser, &golden.repeat(length)).len();
        }
        prop_assert_eq!(found, lengths.iter().sum::<usize>());
        prop_assert_eq!(parser.protocol(), Some(protocol));
        prop_assert_eq!(parser.counts().malformed, 0);
    }
}
