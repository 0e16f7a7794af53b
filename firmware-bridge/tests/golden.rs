//! The bytes of `FORMAT.md`, read and written. The checksum there was computed with Python's `zlib.crc32`.

use firmware_bridge::{
    decode, encode_frame, ClockReply, ClockRequest, Device, Message, PacketBuilder, PacketError, PacketView,
    SampleKind, SpikeRecord, StreamDecoder,
};

/// The bytes of the example under this heading of the specification: what stands left of the bars.
fn example(heading: &str) -> Vec<u8> {
    let page = include_str!("../FORMAT.md");
    let (_, section) = page.split_once(heading).expect("the specification has this heading");
    let (_, block) = section.split_once("```text\n").expect("an example follows");
    let (block, _) = block.split_once("```").expect("the example ends");
    block
        .lines()
        .flat_map(|line| line.split('|').next().unwrap_or_default().split_whitespace())
        .map(|byte| u8::from_str_radix(byte, 16).expect("two hexadecimal digits"))
        .collect()
}

const DEVICE: Device = Device {
    id: 0x0102_0304,
    boot: 0xDEAD_BEEF,
    tick_rate_hz: 30_000,
};

fn data() -> Vec<u8> {
    let bytes = example("### Example of a data packet");
    assert_eq!(bytes.len(), 92);
    bytes
}

fn assert_is_the_example(packet: PacketView<'_>) {
    let header = packet.header();
    assert_eq!(
        (header.device_id, header.boot, header.sequence, header.first_tick),
        (0x0102_0304, 0xDEAD_BEEF, 5, 1_000_000)
    );
    assert_eq!((header.overflow, header.tick_rate_hz), (9, 30_000));
    assert_eq!((header.spikes, header.samples), (2, 2));
    let spike = |tick_offset, channel, unit, flags| SpikeRecord {
        tick_offset,
        channel,
        unit,
        flags,
    };
    let spikes: Vec<_> = packet.spikes().collect();
    assert_eq!(spikes, [spike(0, 17, 1, 0), spike(300, 256, 0, 0x80)]);
    let samples: Vec<_> = packet
        .samples()
        .map(|sample| {
            (
                sample.tick_offset,
                sample.kind,
                sample.series,
                sample.values().collect::<Vec<_>>(),
            )
        })
        .collect();
    assert_eq!(
        samples,
        [
            (10, SampleKind::Behaviour, 3, vec![1.5, -2.0]),
            (20, SampleKind::Stimulus, 7, vec![]),
        ]
    );
}

#[test]
fn the_example_is_read_at_every_alignment() {
    let golden = data();
    for shift in 0..8 {
        let shifted = [vec![0; shift], golden.clone()].concat();
        assert_is_the_example(decode(&shifted[shift..]).unwrap());
    }
}

#[test]
fn the_example_is_written() {
    let golden = data();
    let mut builder = PacketBuilder::<2, 24>::new(DEVICE);
    let mut bytes = [0; 92];
    for _ in 0..5 {
        builder.finish(&mut bytes).unwrap();
    }
    builder.count_lost(9);
    let spike = |channel, unit, flags| SpikeRecord {
        tick_offset: 0,
        channel,
        unit,
        flags,
    };
    assert!(builder.push(1_000_000, spike(17, 1, 0)));
    assert!(builder.push(1_000_300, spike(256, 0, 0x80)));
    assert!(builder.push_sample(1_000_010, SampleKind::Behaviour, 3, &[1.5, -2.0]));
    assert!(builder.push_sample(1_000_020, SampleKind::Stimulus, 7, &[]));
    assert_eq!(builder.finish(&mut bytes), Ok(92));
    assert_eq!(bytes[..], golden[..]);
}

/// The example with some bytes changed and the checksum made right again.
fn with(changes: &[(usize, u8)]) -> Vec<u8> {
    let mut bytes = data();
    for &(at, byte) in changes {
        bytes[at] = byte;
    }
    resealed(bytes)
}

fn resealed(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes.truncate(bytes.len() - 4);
    let checksum = bitwise_crc32(&bytes);
    bytes.extend_from_slice(&checksum.to_le_bytes());
    bytes
}

/// CRC-32 as its definition reads.
fn bitwise_crc32(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for &byte in bytes {
        crc ^= u32::from(byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ if crc & 1 == 1 { 0xEDB8_8320 } else { 0 };
        }
    }
    !crc
}

#[test]
fn the_checksum_is_the_named_one() {
    assert_eq!(bitwise_crc32(b"123456789"), 0xCBF4_3926);
    assert_eq!(resealed(data()), data());
}

#[test]
fn every_changed_bit_and_every_missing_byte_is_noticed() {
    let golden = data();
    for bit in 0..golden.len() * 8 {
        let mut bytes = golden.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        assert!(decode(&bytes).is_err(), "bit {bit}");
    }
    for length in 0..golden.len() {
        let expected = if length < 52 {
            PacketError::Truncated { length }
        } else {
            PacketError::Checksum
        };
        assert_eq!(decode(&golden[..length]), Err(expected));
    }
}

#[test]
fn what_the_sender_wrote_wrongly_is_named() {
    let length = |spikes, samples, length| {
        Err(PacketError::Length {
            spikes,
            samples,
            length,
        })
    };
    assert_eq!(decode(&with(&[(0, b'X')])), Err(PacketError::Magic(*b"XHSP")));
    assert_eq!(decode(&with(&[(4, 3)])), Err(PacketError::Version(3)));
    assert_eq!(decode(&with(&[(6, 9)])), Err(PacketError::Kind(9)));
    assert_eq!(decode(&with(&[(45, 1)])), length(258, 2, 92));
    assert_eq!(decode(&with(&[(46, 1)])), length(2, 1, 92));
    assert_eq!(decode(&with(&[(46, 3)])), length(2, 3, 92));
    assert_eq!(decode(&with(&[(71, 5)])), length(2, 2, 92));
    assert_eq!(decode(&with(&[(70, 2)])), Err(PacketError::SampleKind(2)));
    assert_eq!(decode(&with(&[(40, 0), (41, 0)])), Err(PacketError::TickRate));
}

#[test]
fn version_1_is_refused_by_name() {
    // An empty packet of version 1: device 3, 30 kHz, no spike.
    let mut bytes = [0u8; 40];
    bytes[..8].copy_from_slice(&[b'N', b'H', b'S', b'P', 1, 0, 3, 0]);
    bytes[24..28].copy_from_slice(&30_000u32.to_le_bytes());
    let error = decode(&bytes).unwrap_err();
    assert_eq!(error, PacketError::Version(1));
    assert_eq!(error.to_string(), "a packet has version 1, but version 2 is read");
}

#[test]
fn the_clock_examples_are_read_and_written() {
    let (request_bytes, reply_bytes) = (
        example("### Example of a clock request"),
        example("### Example of a clock reply"),
    );
    let request = ClockRequest::new(0x0102_0304, 42, 1_000_000_000);
    assert_eq!(request.to_bytes()[..], request_bytes[..]);
    assert_eq!(Message::decode(&request_bytes), Ok(Message::ClockRequest(request)));
    let reply = ClockReply::new(&request, DEVICE, 1_000_000, 1_000_003);
    assert_eq!(reply.to_bytes()[..], reply_bytes[..]);
    assert_eq!(Message::decode(&reply_bytes), Ok(Message::ClockReply(reply)));
    assert_eq!((reply.exchange, reply.t1_ns), (42, 1_000_000_000));

    assert_eq!(ClockRequest::from_bytes(&reply_bytes), Err(PacketError::Kind(3)));
    assert_eq!(ClockReply::from_bytes(&data()), Err(PacketError::Kind(1)));
    assert_eq!(decode(&request_bytes), Err(PacketError::Kind(2)));
    for length in 0..28 {
        assert_eq!(
            ClockRequest::from_bytes(&request_bytes[..length]),
            Err(PacketError::Truncated { length })
        );
    }
    let longer = resealed([&request_bytes[..], &[0; 8]].concat());
    assert_eq!(
        ClockRequest::from_bytes(&longer),
        Err(PacketError::TooLong { length: 36 })
    );
    let mut no_rate = reply_bytes.clone();
    no_rate[20..24].fill(0);
    assert_eq!(ClockReply::from_bytes(&resealed(no_rate)), Err(PacketError::TickRate));
}

#[test]
fn the_frame_example_is_read_and_written() {
    let (request, frame) = (
        example("### Example of a clock request"),
        example("### Example of a frame"),
    );
    let mut out = [0; 30];
    assert_eq!(encode_frame(&request, &mut out), Ok(30));
    assert_eq!(out[..], frame[..]);
    let mut decoder = StreamDecoder::<30, 1>::default();
    let mut read = Vec::new();
    decoder.feed(&frame, |received| match received.message {
        Message::ClockRequest(request) => read.push(request),
        other => panic!("{other:?}"),
    });
    assert_eq!(read, [ClockRequest::from_bytes(&request).unwrap()]);
}
