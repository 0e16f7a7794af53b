//! Whole runs: predictions go back to the device, a device that dies is flagged, and comes back without a restart.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::Arc;
use std::time::{Duration, Instant};

use firmware_bridge::{Device, PacketBuilder, SpikeRecord};
use firmware_bridge_shm::{Link, Role, Sizes};
use neurohorizon::acquire::bridge::Carrier;
use neurohorizon::pipeline::clock::monotonic_ns;
use neurohorizon::pipeline::message::{flags, MessageHeader, HEADER_LEN};
use neurohorizon::pipeline::Outcome;
use rt_tests::mean_rates::{self, HORIZON_BINS};
use rt_tests::subscriber::{free_endpoint, subscribe};

use super::harness::{listening, MS, UNITS};

/// A device's program that sends 20 spikes every 5 ms until it is told to stop, or dies; what came back, and how many were sent.
fn device(name: &str, boot: u32, living: Duration) -> (u64, Vec<Vec<u8>>) {
    let mut link = Link::open(name, Role::Device, Sizes::default()).unwrap();
    let mut packet = PacketBuilder::<32, 64>::new(Device {
        id: 7,
        boot,
        tick_rate_hz: 30_000,
    });
    let (mut bytes, mut record) = (vec![0; 4096], vec![0; 65_536]);
    let (begin, mut sent, mut back) = (Instant::now(), 0, Vec::new());
    while begin.elapsed() < living {
        let tick = begin.elapsed().as_micros() as u64 * 3 / 100;
        packet.begin(tick);
        for channel in 0..20 {
            packet.push(
                tick,
                SpikeRecord {
                    channel,
                    unit: 1,
                    ..SpikeRecord::default()
                },
            );
        }
        let length = packet.finish(&mut bytes).unwrap();
        link.writer.push(&[&bytes[..length]]).unwrap();
        sent += 20;
        while let Some(length) = link.reader.pop(&mut record).unwrap() {
            back.push(record[..length].to_vec());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    (sent, back)
}

#[test]
fn predictions_go_back_and_a_death_is_flagged_until_the_device_is_there_again() {
    let name = format!("run-{}", std::process::id());
    let source = listening(&Carrier::SharedMemory { name: name.clone() }, &["0..39:1"], &[], 40);
    let counters = source.counters();
    let (endpoint, stop) = (free_endpoint(), Arc::<AtomicBool>::default());
    // 4 s.
    let subscriber = subscribe(&endpoint, 199);
    let run = mean_rates::start(vec![Box::new(source)], 7.0, &endpoint, Duration::from_secs(10), &stop);
    let (first, back) = device(&name, 1, Duration::from_millis(1_500));
    let died_ns = monotonic_ns();
    std::thread::sleep(Duration::from_millis(700));
    let returned_ns = monotonic_ns();
    let (second, _) = device(&name, 2, Duration::from_millis(2_500));
    let received = subscriber.join().unwrap();
    stop.store(true, Relaxed);
    let summary = run.join();

    // What went back is what was published, bit by bit.
    assert!(back.len() > 50, "{} predictions came back", back.len());
    for message in &back {
        let header = MessageHeader::read(&message[..HEADER_LEN]).unwrap();
        let (published, array) = received
            .iter()
            .find(|(own, _)| own.sequence == header.sequence)
            .unwrap();
        assert_eq!(&header, published);
        let numbers = message[HEADER_LEN..].chunks_exact(4);
        let numbers: Vec<f32> = numbers
            .map(|four| f32::from_le_bytes([four[0], four[1], four[2], four[3]]))
            .collect();
        assert_eq!((&numbers, array.len()), (array, HORIZON_BINS * UNITS as usize));
    }
    let report = counters.report();
    assert_eq!(
        (report.spikes + report.before_the_run, report.lost, report.connections),
        (first + second, 0, 2),
        "{report}"
    );
    assert_eq!((summary.spikes.offered, summary.spikes.late), (report.spikes, 0));
    assert_eq!((summary.outcome, &summary.imbalances[..]), (Outcome::Stopped, &[][..]));
    assert_eq!(summary.ways_back.len(), 1);

    // No bin was missed; away while the device was, and not before or after.
    let away = |header: &&MessageHeader| header.flags & flags::SOURCE_AWAY != 0;
    let bins: Vec<i64> = received.iter().map(|(header, _)| header.bin_index).collect();
    assert!(bins.windows(2).all(|pair| pair[1] == pair[0] + 1));
    let headers = || received.iter().map(|(header, _)| header);
    let began_ns = headers().find(|header| header.spikes_in > 0).unwrap().publish_ns;
    let gone_ns = 100 * MS;
    for header in headers() {
        let at = header.publish_ns;
        if at > began_ns && at < died_ns {
            assert!(!away(&header), "away at {} ms before it died", (died_ns - at) / MS);
        }
        if at > died_ns + gone_ns && at < returned_ns {
            assert!(away(&header), "there {} ms after it died", (at - died_ns) / MS);
        }
        if at > returned_ns + 1_000 * MS && at < returned_ns + 2_400 * MS {
            assert!(!away(&header), "away {} ms after its return", (at - returned_ns) / MS);
        }
    }
    let recovered = headers()
        .find(|header| header.publish_ns > returned_ns && header.spikes_in > 0)
        .unwrap();
    let took_ms = (recovered.publish_ns - returned_ns) / MS;
    println!("spikes again {took_ms} ms after the device's return");
    assert!(took_ms < 1_000, "{took_ms} ms");
    Link::remove(&name).unwrap();
}
