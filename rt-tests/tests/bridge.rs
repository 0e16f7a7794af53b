//! A device's packets over UDP: every spike and every sample arrives as it was sent, and what did not is counted.

use std::net::UdpSocket;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use firmware_bridge::{Device, PacketBuilder, SampleKind, SpikeRecord};
use neurohorizon::acquire::bridge::{Bridge, BridgeConfig, BridgeEmulator, Carrier};
use neurohorizon::acquire::replay::{RecordedSeries, RecordedSpikes, Replay};
use neurohorizon::acquire::wire::ClockConfig;
use neurohorizon::acquire::{EventSink, Pace, SampledSeries, Source, SpikeEvent};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

const MS: i64 = 1_000_000;
const UNITS: u32 = 40;

/// Everything that a source hands on.
#[derive(Default)]
struct Kept {
    spikes: Vec<SpikeEvent>,
    samples: Vec<(usize, i64, Vec<f32>)>,
    clock_ns: i64,
}

impl EventSink for Kept {
    fn spikes(&mut self, spikes: &[SpikeEvent]) {
        assert!(
            spikes.iter().all(|spike| spike.time_ns >= self.clock_ns),
            "the clock had passed them"
        );
        self.spikes.extend_from_slice(spikes);
    }
    fn sample(&mut self, series: usize, time_ns: i64, values: &[f32]) {
        self.samples.push((series, time_ns, values.to_vec()));
    }
    fn clock(&mut self, device_ns: i64, _host_ns: i64) {
        self.clock_ns = device_ns;
    }
}

fn listening(units: &[&str], series: &[&str], lateness_ms: i64) -> Bridge {
    let owned = |list: &[&str]| list.iter().map(|entry| (*entry).to_owned()).collect();
    Bridge::new(&BridgeConfig {
        carrier: Carrier::Udp {
            listen: "127.0.0.1:0".parse().unwrap(),
            predictions_back: false,
        },
        device_id: None,
        clock_exchange: false,
        units: owned(units),
        series: owned(series),
        clock: ClockConfig {
            speed: 1.0,
            lateness_ns: lateness_ms * MS,
            end_ns: None,
        },
    })
    .unwrap()
}

fn series(name: &str, channels: usize, times_ns: &[i64], values: Vec<f32>) -> RecordedSeries {
    RecordedSeries {
        series: SampledSeries {
            name: name.into(),
            unit: String::new(),
            channels,
        },
        times_ns: times_ns.to_vec().into(),
        values: values.into(),
    }
}

#[test]
fn every_spike_and_sample_arrives_as_it_was_sent() {
    const SPIKES: usize = 60_000;
    const LENGTH_NS: i64 = 2_000 * MS;
    let mut random = ChaCha8Rng::seed_from_u64(3);
    let mut times_ns: Vec<i64> = (0..SPIKES).map(|_| random.random_range(0..LENGTH_NS)).collect();
    times_ns.sort_unstable();
    let units: Vec<u32> = (0..SPIKES).map(|_| random.random_range(0..UNITS)).collect();
    let at: Vec<i64> = (0..400).map(|sample| sample * 5 * MS + 1).collect();
    let hand: Vec<f32> = (0..800).map(|i| i as f32 * 0.25).collect();
    let wide: Vec<f32> = (0..400 * 255).map(|i| (i as f32).sin()).collect();
    let spikes = RecordedSpikes {
        times_ns: times_ns.clone().into(),
        units: units.clone().into(),
        unit_ids: (0..UNITS).map(|unit| format!("u{unit}")).collect::<Vec<_>>().into(),
    };
    let replay = Replay::new("sent", spikes, 0, LENGTH_NS, Pace::Clocked(1.0), MS).unwrap();
    let mut replay = replay
        .with_series(vec![
            series("hand", 2, &at, hand.clone()),
            series("image", 255, &at, wide.clone()),
        ])
        .unwrap();

    let mut bridge = listening(&["0..39:1"], &["behaviour:0=hand:2:m", "behaviour:1=image:255"], 300);
    let counters = bridge.counters();
    let mut emulator = BridgeEmulator::new(&Carrier::Udp {
        listen: bridge.address().unwrap(),
        predictions_back: false,
    })
    .unwrap();
    let sender = std::thread::spawn(move || emulator.play(&mut replay, &AtomicBool::new(false)).unwrap());
    let (mut kept, begin) = (Kept::default(), Instant::now());
    bridge.start(0);
    let mut left_ms = 15_000;
    while left_ms > 0 && (kept.spikes.len() < SPIKES || kept.samples.len() < 800) {
        let now_ns = begin.elapsed().as_nanos() as i64;
        bridge.poll(now_ns, &mut kept).unwrap();
        left_ms = 15_000 - begin.elapsed().as_millis() as i64;
    }
    let played = sender.join().unwrap();
    let report = counters.report();
    println!("{report}");
    assert_eq!((played.sent, played.unsent), (SPIKES as u64, 0));
    assert_eq!((report.spikes, report.samples), (SPIKES as u64, 800));
    assert_eq!(
        (report.lost, report.malformed, report.duplicates, report.unlisted),
        (0, 0, 0, 0)
    );
    let origin = kept.spikes[0].time_ns - times_ns[0];
    for ((event, time), unit) in kept.spikes.iter().zip(&times_ns).zip(&units) {
        assert_eq!((event.time_ns - origin, event.unit), (*time, *unit));
    }
    let of = |number: usize| kept.samples.iter().filter(move |sample| sample.0 == number);
    for (number, (values, channels)) in [(&hand, 2), (&wide, 255)].into_iter().enumerate() {
        let mut found = of(number);
        for (time, row) in at.iter().zip(values.chunks(channels)) {
            let (_, found_ns, found) = found.next().unwrap();
            assert_eq!((found_ns - origin, &found[..]), (*time, row));
        }
        assert!(found.next().is_none());
    }
}

#[test]
fn what_is_lost_doubled_damaged_or_of_others_is_counted() {
    let mut bridge = listening(&["0..9:1", "3:2=third"], &["stimulus:4=image:3"], 300);
    let counters = bridge.counters();
    let device = UdpSocket::bind("127.0.0.1:0").unwrap();
    device.connect(bridge.address().unwrap()).unwrap();
    let builder = |id: u32, boot: u32| {
        PacketBuilder::<16, 1024>::new(Device {
            id,
            boot,
            tick_rate_hz: 30_000,
        })
    };
    let spike = |channel: u16, unit: u8| SpikeRecord {
        channel,
        unit,
        ..SpikeRecord::default()
    };
    let mut packets: Vec<Vec<u8>> = Vec::new();
    let mut finish = |builder: &mut PacketBuilder<16, 1024>| {
        let mut bytes = vec![0; 4096];
        let length = builder.finish(&mut bytes).unwrap();
        bytes.truncate(length);
        packets.push(bytes.clone());
        bytes
    };
    let mut ours = builder(7, 1);
    for tick in 0..5u64 {
        // Ten milliseconds apart; the second of each is of a unit that is not listed.
        ours.push(tick * 300, spike(3, 2));
        ours.push(tick * 300, spike(5, 9));
        ours.push_sample(tick * 300, SampleKind::Stimulus, 4, &[tick as f32, 1.0, 2.0]);
        ours.push_sample(tick * 300, SampleKind::Behaviour, 0, &[1.0]);
        finish(&mut ours);
    }
    let mut theirs = builder(8, 1);
    theirs.push(0, spike(0, 1));
    let of_others = finish(&mut theirs);
    let mut again = builder(7, 2);
    again.count_lost(6);
    again.push(30, spike(3, 2));
    let after_restart = finish(&mut again);

    let mut damaged = packets[1].clone();
    damaged[50] ^= 1;
    // The third is lost, the fourth comes twice.
    let sent = [
        &packets[0],
        &damaged,
        &packets[1],
        &packets[3],
        &packets[3],
        &packets[4],
        &of_others,
        &after_restart,
    ];
    let mut kept = Kept::default();
    bridge.start(0);
    for (number, bytes) in sent.iter().enumerate() {
        let before = counters.report().bytes;
        device.send(bytes).unwrap();
        let now_ns = (number as i64 + 1) * 10 * MS;
        let came = (0..20_000).any(|_| {
            bridge.poll(now_ns, &mut kept).unwrap();
            counters.report().bytes > before
        });
        assert!(came, "datagram {number} does not come");
    }
    bridge.poll(2_000 * MS, &mut kept).unwrap();
    let report = counters.report();
    println!("{report}");
    assert_eq!(
        (report.spikes, report.unlisted),
        (9, 4),
        "of the packets 0, 1, 3 and 4, and after the restart"
    );
    assert_eq!((report.samples, report.other), (4, 4));
    assert_eq!((report.lost, report.duplicates, report.malformed), (1, 1, 1));
    assert_eq!((report.other_streams, report.refused_by_device), (1, 6));
    assert_eq!((report.connections, report.disconnections), (1, 1));
    assert_eq!(bridge.unit_ids()[10], "third");
    assert!(kept.spikes.iter().all(|event| event.unit >= 10));
    let shown: Vec<f32> = kept.samples.iter().map(|sample| sample.2[0]).collect();
    assert_eq!(shown, [0.0, 1.0, 3.0, 4.0]);
}
