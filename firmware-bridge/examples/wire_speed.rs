//! How fast packets are built, framed and read on this machine: median of the runs, and the slowest.
//!
//! `cargo run --release -p firmware-bridge --features std --example wire_speed`

use std::hint::black_box;
use std::time::Instant;

use firmware_bridge::{encode_frame, max_frame_len, Device, Message, PacketBuilder, SpikeRecord, StreamDecoder};

const RUNS: usize = 41;
const PACKETS: usize = 2000;
const SPIKES: usize = 128;

/// Times `work`, which handles `bytes` bytes and [`PACKETS`]·[`SPIKES`] spikes.
fn report(what: &str, bytes: usize, mut work: impl FnMut()) {
    let mut seconds: Vec<f64> = (0..RUNS)
        .map(|_| {
            let start = Instant::now();
            work();
            start.elapsed().as_secs_f64()
        })
        .collect();
    seconds.sort_by(f64::total_cmp);
    let rate = |seconds: f64| (bytes as f64 / seconds / 1e6, (PACKETS * SPIKES) as f64 / seconds / 1e6);
    let ((median, spikes), (slowest, _)) = (rate(seconds[RUNS / 2]), rate(seconds[RUNS - 1]));
    println!("{what:<28} {median:>7.0} MB/s, slowest run {slowest:>7.0} MB/s; {spikes:>6.1} million spikes/s");
}

fn main() {
    let mut builder = PacketBuilder::<SPIKES, 0>::new(Device {
        id: 1,
        boot: 1,
        tick_rate_hz: 30_000,
    });
    let mut packet = [0; PacketBuilder::<SPIKES, 0>::MAX_LEN];
    let mut packets = Vec::new();
    let mut frames = Vec::new();
    let fill = |builder: &mut PacketBuilder<SPIKES, 0>, number: usize| {
        for at in 0..SPIKES {
            let spike = SpikeRecord {
                channel: (at * 7 % 384) as u16,
                unit: (at % 3) as u8,
                ..SpikeRecord::default()
            };
            builder.push((number * 30 + at / 5) as u64, spike);
        }
    };
    for number in 0..PACKETS {
        fill(&mut builder, number);
        let length = builder.finish(&mut packet).expect("it has this length");
        packets.push(packet[..length].to_vec());
        let mut frame = vec![0; max_frame_len(length)];
        let length = encode_frame(&packet[..length], &mut frame).expect("it has this length");
        frames.extend_from_slice(&frame[..length]);
    }
    let packet_bytes: usize = packets.iter().map(Vec::len).sum();
    println!("{PACKETS} packets of {SPIKES} spikes, {RUNS} runs");

    report("build", packet_bytes, || {
        for number in 0..PACKETS {
            fill(&mut builder, number);
            black_box(builder.finish(&mut packet).expect("it has this length"));
        }
    });
    report("frame", frames.len(), || {
        let mut frame = [0; max_frame_len(PacketBuilder::<SPIKES, 0>::MAX_LEN)];
        for packet in &packets {
            black_box(encode_frame(packet, &mut frame).expect("it has this length"));
        }
    });
    report("read datagrams", packet_bytes, || {
        for packet in &packets {
            let Ok(Message::Data(packet)) = Message::decode(packet) else {
                panic!("a data packet was built")
            };
            black_box(packet.spikes().map(|spike| u64::from(spike.channel)).sum::<u64>());
        }
    });
    report("read a serial stream", frames.len(), || {
        let mut decoder = StreamDecoder::<4096, 1>::default();
        let mut read = 0;
        // As a USB read hands them over.
        for bytes in frames.chunks(512) {
            decoder.feed(bytes, |received| {
                if let Message::Data(packet) = received.message {
                    black_box(packet.spikes().map(|spike| u64::from(spike.channel)).sum::<u64>());
                    read += 1;
                }
            });
        }
        assert_eq!(read, PACKETS);
    });
}
