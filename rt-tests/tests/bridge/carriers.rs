//! The same packets by every carrier: datagrams, a serial link, shared memory.

use std::path::PathBuf;

use firmware_bridge_shm::Link;
use neurohorizon::acquire::bridge::Carrier;
use neurohorizon::acquire::Source;

use super::harness::{listening, play, poll_until, reached, recorded, replay, series, udp, Kept, MS};
use super::terminals::Terminals;

/// That every spike and sample arrives as it was sent.
fn arrive(listen: &Carrier, to: Option<Carrier>, spikes: usize, wide_channels: usize) {
    const LENGTH_NS: i64 = 2_000 * MS;
    let sent = recorded(spikes, LENGTH_NS, 3);
    let at: Vec<i64> = (0..400).map(|sample| sample * 5 * MS + 1).collect();
    let hand: Vec<f32> = (0..800).map(|i| i as f32 * 0.25).collect();
    let wide: Vec<f32> = (0..400 * wide_channels).map(|i| (i as f32).sin()).collect();
    let replay = replay(sent.clone(), LENGTH_NS)
        .with_series(vec![
            series("hand", 2, &at, hand.clone()),
            series("image", wide_channels, &at, wide.clone()),
        ])
        .unwrap();
    let image = format!("behaviour:1=image:{wide_channels}");
    let mut bridge = listening(listen, &["0..39:1"], &["behaviour:0=hand:2:m", &image], 300);
    let counters = bridge.counters();
    let to = to.unwrap_or_else(|| reached(listen, &bridge));
    let mut kept = Kept::default();
    bridge.start(neurohorizon::pipeline::clock::monotonic_ns());
    let player = play(to, replay);
    poll_until(&mut bridge, &mut kept, |kept| {
        kept.spikes.len() >= spikes && kept.samples.len() >= 800
    });
    assert_eq!(player.join().unwrap().0, spikes as u64);
    let report = counters.report();
    assert_eq!((report.spikes, report.samples), (spikes as u64, 800));
    assert_eq!(
        (report.lost, report.malformed, report.duplicates, report.unlisted),
        (0, 0, 0, 0),
        "{report}"
    );
    let origin = kept.spikes[0].time_ns - sent.times_ns[0];
    for ((event, time), unit) in kept.spikes.iter().zip(sent.times_ns.iter()).zip(sent.units.iter()) {
        assert_eq!((event.time_ns - origin, event.unit), (*time, *unit));
    }
    for (number, (values, channels)) in [(&hand, 2), (&wide, wide_channels)].into_iter().enumerate() {
        let mut found = kept.samples.iter().filter(|sample| sample.0 == number);
        for (time, row) in at.iter().zip(values.chunks(channels)) {
            let (_, found_ns, found) = found.next().unwrap();
            assert_eq!((found_ns - origin, &found[..]), (*time, row));
        }
        assert!(found.next().is_none());
    }
}

#[test]
fn every_spike_and_sample_arrives_by_datagrams_as_it_was_sent() {
    arrive(&udp(), None, 60_000, 255);
}

#[test]
fn every_spike_and_sample_arrives_through_shared_memory_as_it_was_sent() {
    let name = format!("carriers-{}", std::process::id());
    let carrier = Carrier::SharedMemory { name: name.clone() };
    arrive(&carrier, Some(carrier.clone()), 60_000, 255);
    Link::remove(&name).unwrap();
}

#[test]
fn every_spike_and_sample_arrives_on_a_serial_link_as_it_was_sent() {
    let terminals = Terminals::open();
    let serial = |path: &PathBuf| Carrier::Serial {
        path: path.clone(),
        baud: 2_000_000,
    };
    arrive(&serial(&terminals.host), Some(serial(&terminals.device)), 20_000, 31);
}

#[test]
fn a_serial_link_that_is_pulled_out_and_comes_back_is_a_loss_and_no_end() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ttyNeuro");
    let first = Terminals::open();
    std::os::unix::fs::symlink(&first.host, &path).unwrap();
    let carrier = Carrier::Serial {
        path: path.clone(),
        baud: 115_200,
    };
    let mut bridge = listening(&carrier, &["0..39:1"], &[], 300);
    let counters = bridge.counters();
    bridge.start(neurohorizon::pipeline::clock::monotonic_ns());
    let mut kept = Kept::default();
    for (number, terminals) in [first, Terminals::open()].into_iter().enumerate() {
        std::fs::remove_file(&path).unwrap();
        std::os::unix::fs::symlink(&terminals.host, &path).unwrap();
        let to = Carrier::Serial {
            path: terminals.device.clone(),
            baud: 115_200,
        };
        let wanted = kept.spikes.len() + 200;
        let player = play(to, replay(recorded(200, 200 * MS, number as u64), 200 * MS));
        poll_until(&mut bridge, &mut kept, |kept| kept.spikes.len() == wanted);
        player.join().unwrap();
        drop(terminals);
        poll_until(&mut bridge, &mut kept, |_| {
            counters.report().disconnections == number as u64 + 1
        });
    }
    let report = counters.report();
    assert_eq!(
        (report.connections, report.lost, report.spikes),
        (2, 0, 400),
        "{report}"
    );
}
