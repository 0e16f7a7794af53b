//! Packets, frames and clock replies that nobody meant: never a panic, every byte accounted for, and nothing taken that
//! its checksum does not cover.
//!
//! The short form runs with the other tests. The long form: `NEUROHORIZON_FUZZ_CASES=10000000 cargo test --release -p
//! firmware-bridge --test fuzz_packets`.

use firmware_bridge::{
    encode_frame, max_frame_len, ClockEstimator, ClockLimits, ClockReply, ClockRequest, Device, Message, PacketBuilder,
    SampleKind, SpikeRecord, StreamDecoder,
};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

fn cases() -> usize {
    std::env::var("NEUROHORIZON_FUZZ_CASES")
        .ok()
        .and_then(|cases| cases.parse().ok())
        .unwrap_or(30_000)
}

const MOST: usize = PacketBuilder::<20, 200>::MAX_LEN;

/// A packet of any kind, as a device or host would send it.
fn honest(rng: &mut ChaCha8Rng, out: &mut Vec<u8>) {
    out.clear();
    let device = Device {
        id: rng.random_range(0..3),
        boot: rng.random_range(0..2),
        tick_rate_hz: rng.random_range(1..100_000),
    };
    let request = ClockRequest::new(device.id, rng.random(), rng.random());
    match rng.random_range(0..6) {
        0 => out.extend(request.to_bytes()),
        1 => out.extend(ClockReply::new(&request, device, rng.random(), rng.random()).to_bytes()),
        _ => {
            let mut builder = PacketBuilder::<20, 200>::new(device);
            let mut bytes = [0; MOST];
            for _ in 0..rng.random_range(0..3) {
                builder.finish(&mut bytes).expect("there is room");
            }
            for _ in 0..rng.random_range(0..20) {
                builder.push(rng.random_range(0..500), SpikeRecord::default());
            }
            for _ in 0..rng.random_range(0..5) {
                let values = [rng.random::<f32>(); 6];
                let channels = rng.random_range(0..6);
                builder.push_sample(rng.random_range(0..500), SampleKind::Stimulus, 1, &values[..channels]);
            }
            let length = builder.finish(&mut bytes).expect("there is room");
            out.extend_from_slice(&bytes[..length]);
        }
    }
}

/// Changes, cuts, repeats and joins; half of the time the checksum is made right again, so that what lies behind it is
/// reached.
fn damage(rng: &mut ChaCha8Rng, bytes: &mut Vec<u8>) {
    for _ in 0..rng.random_range(0..6) {
        if bytes.is_empty() {
            break;
        }
        let at = rng.random_range(0..bytes.len());
        match rng.random_range(0..6) {
            0 => bytes[at] = rng.random(),
            1 => bytes[at] ^= 1 << rng.random_range(0..8),
            2 => bytes[at] = [0, 1, 2, 0x7F, 0xFF][rng.random_range(0..5)],
            3 => bytes.truncate(at),
            4 => {
                let piece = bytes[at..].to_vec();
                bytes.extend_from_slice(&piece[..piece.len().min(64)]);
            }
            _ => {
                bytes.remove(at);
            }
        }
    }
    if bytes.len() >= 4 && rng.random() {
        let body = bytes.len() - 4;
        let checksum = crc32fast::hash(&bytes[..body]);
        bytes[body..].copy_from_slice(&checksum.to_le_bytes());
    }
}

fn noise(rng: &mut ChaCha8Rng, bytes: &mut Vec<u8>) {
    bytes.clear();
    bytes.resize(rng.random_range(0..150), 0);
    rng.fill(&mut bytes[..]);
    if rng.random() {
        let head = [b'N', b'H', b'S', b'P', 2, 0, rng.random_range(0..5), 0];
        let length = head.len().min(bytes.len());
        bytes[..length].copy_from_slice(&head[..length]);
    }
}

fn input(rng: &mut ChaCha8Rng, bytes: &mut Vec<u8>) {
    if rng.random_range(0..8) == 0 {
        noise(rng, bytes);
    } else {
        honest(rng, bytes);
    }
    damage(rng, bytes);
}

/// Whether the bytes were taken, after a look at everything that was given out.
fn read(bytes: &[u8]) -> bool {
    let Ok(message) = Message::decode(bytes) else {
        return false;
    };
    let (body, trailer) = bytes.split_at(bytes.len() - 4);
    assert_eq!(crc32fast::hash(body).to_le_bytes(), trailer);
    match message {
        Message::Data(packet) => {
            let header = packet.header();
            let spikes = packet.spikes().count();
            let (mut samples, mut values) = (0, 0);
            for sample in packet.samples() {
                samples += 1;
                values += sample.values().count();
            }
            assert_eq!(
                (spikes, samples),
                (usize::from(header.spikes), usize::from(header.samples))
            );
            assert_eq!(bytes.len(), 52 + 8 * spikes + 8 * samples + 4 * values);
        }
        Message::ClockRequest(request) => assert_eq!(request.to_bytes()[..], *bytes),
        Message::ClockReply(reply) => assert_eq!(reply.to_bytes()[..], *bytes),
    }
    true
}

#[test]
fn damaged_packets() {
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let (mut bytes, mut taken) = (Vec::new(), 0);
    for _ in 0..cases() {
        input(&mut rng, &mut bytes);
        taken += usize::from(read(&bytes));
    }
    // Some come through and some do not: otherwise the test is blind on one side.
    println!("{taken} of {} packets were taken", cases());
    assert!(taken > cases() / 20 && taken < cases() / 2);
}

#[test]
fn damaged_streams() {
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    let mut decoder = StreamDecoder::<300, 2>::default();
    let (mut bytes, mut frame, mut given, mut sent) = (Vec::new(), [0; 2048], 0u64, 0u64);
    for _ in 0..cases() {
        input(&mut rng, &mut bytes);
        bytes.truncate(frame.len() / 2);
        let length = encode_frame(&bytes, &mut frame).expect("there is room");
        assert!(length <= max_frame_len(bytes.len()));
        let mut link = frame[..length].to_vec();
        if rng.random_range(0..3) == 0 {
            damage(&mut rng, &mut link);
        }
        sent += link.len() as u64;
        let mut rest = &link[..];
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(rng.random_range(0..=rest.len()));
            decoder.feed(piece, |received| {
                given += u64::from(received.arrival.is_none_or(|arrival| arrival.is_new()));
            });
            rest = after;
        }
    }
    decoder.feed(&[0], |_| given += 1);
    let counts = decoder.counts();
    println!("{counts:?}");
    assert_eq!(counts.bytes, sent + 1);
    assert_eq!(counts.bytes, counts.framed + counts.discarded + counts.idle);
    let (mut received, mut repeated) = (0, 0);
    for (_, device) in decoder.devices() {
        received += device.received;
        repeated += device.duplicates + device.stale;
    }
    assert_eq!(counts.packets, given + repeated);
    assert!(received > 0 && counts.corrupt > 0 && counts.refused > 0);
}

#[test]
fn absurd_clocks() {
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let limits = ClockLimits {
        max_drift_ppm: 200.0,
        max_wander_ppm: 1.0,
    };
    let mut estimator = ClockEstimator::<8>::new(limits);
    let number = |rng: &mut ChaCha8Rng| match rng.random_range(0..4) {
        0 => rng.random_range(0..1000u64),
        1 => u64::MAX - rng.random_range(0..1000),
        2 => rng.random_range(0..1 << 40),
        _ => rng.random(),
    };
    for _ in 0..cases() {
        let request = ClockRequest::new(1, 1, number(&mut rng) as i64);
        let device = Device {
            id: 1,
            boot: u32::from(rng.random_range(0..100u8) == 0),
            tick_rate_hz: if rng.random_range(0..50) == 0 { u32::MAX } else { 30_000 },
        };
        let (t2, hold) = (number(&mut rng), number(&mut rng));
        let reply = ClockReply::new(&request, device, t2, t2.wrapping_add(hold));
        estimator.observe(&reply, number(&mut rng) as i64);
        if let Some(estimate) = estimator.estimate() {
            let at = number(&mut rng);
            let _ = estimate.host_ns(at);
            assert!(estimate.uncertainty_ns(at) > 0.0 && estimate.uncertainty_ns(at).is_finite());
            assert!(estimate.drift_ppm.abs() <= limits.max_drift_ppm + 1e-9);
        }
    }
    assert!(estimator.counts().impossible > 0 && estimator.counts().glitches > 0);
}
