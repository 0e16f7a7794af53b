use std::net::SocketAddr;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use firmware_bridge::decode;
use neurohorizon::acquire::bridge::{Bridge, BridgeConfig, BridgeEmulator};
use neurohorizon::acquire::wire::play::Played;
use rt_tests::proxy::{Content, PieceFaults, UdpProxy};

use super::harness::{assert_closed, assert_exact, events, recorded, replay, udp, Rig, CLOCK, UNITS};
use super::judge::{first_of_each, Sent};
use super::restart::{assert_survives, Link, Play};

fn rig() -> (Rig, SocketAddr) {
    let source = Bridge::new(&BridgeConfig {
        carrier: udp("127.0.0.1:0".parse().unwrap()),
        clock_exchange: false,
        device_id: None,
        units: vec![format!("0..{}:1", UNITS - 1)],
        series: Vec::new(),
        clock: CLOCK,
    })
    .unwrap();
    let (address, counters) = (source.address().unwrap(), source.counters());
    (Rig::start(Box::new(source), counters), address)
}

#[test]
fn every_spike_of_the_bridge_reaches_its_bin_exactly() {
    let spikes = recorded(events(2), 41, 3);
    let (rig, address) = rig();
    let count = spikes.times_ns.len() as u64;
    let mut source = replay(&spikes);
    let mut emulator = BridgeEmulator::new(&udp(address)).unwrap();
    let player = std::thread::spawn(move || emulator.play(&mut source, &AtomicBool::new(false)).unwrap());
    let counters = rig.counters.clone();
    let (totals, received) = rig.finish(count);
    assert_eq!(player.join().unwrap(), Played { sent: count, unsent: 0 });
    assert_exact(&received, &spikes, |ns| ns);
    assert_eq!((totals.binned, totals.late), (count, 0));
    let report = counters.report();
    assert_eq!((report.lost, report.duplicates, report.malformed), (0, 0, 0));
}

/// What is in a packet. Those without spikes pass: what is lost after the last that comes is known to nobody.
fn content(piece: &[Vec<u8>]) -> Content {
    let packet = decode(&piece[0]).expect("the emulator sends packets");
    let events = packet.spikes().len() as u64;
    Content {
        events,
        records: 1,
        spared: events == 0,
    }
}

#[test]
fn packets_of_the_bridge_are_told_by_number_and_checksum_and_every_one_is_counted() {
    let spikes = recorded(events(2), 42, 3);
    let faults = PieceFaults {
        seed: 42,
        after: 10,
        drop: 0.03,
        duplicate: 0.03,
        reorder: 0.03,
        delay: 0.03,
        truncate: 0.03,
        corrupt: 0.03,
        garbage: 0.03,
        most_steps: 8,
        most_delay: Duration::from_millis(20),
    };
    let (mut rig, address) = rig();
    let proxy = UdpProxy::start(address, faults, content);
    let mut emulator = BridgeEmulator::new(&udp(proxy.address())).unwrap();
    let mut source = replay(&spikes);
    let player = std::thread::spawn(move || emulator.play(&mut source, &AtomicBool::new(false)).unwrap());
    rig.until("everything played", |_| player.is_finished());
    let count = spikes.times_ns.len() as u64;
    assert_eq!(player.join().unwrap(), Played { sent: count, unsent: 0 });
    let ledger = proxy.finish();
    let counters = rig.counters.clone();
    let (totals, received) = rig.settle(ledger.bytes);
    let report = counters.report();
    println!("{report}; {totals:?}");
    let gone = [ledger.dropped, ledger.truncated, ledger.corrupted];
    assert!(gone.iter().all(|tally| tally.pieces > 20) && ledger.reordered.pieces > 20);
    let sent = Sent::new(&spikes, &received, |ns| ns);
    let judgement = sent.judge(&received, first_of_each(&ledger.delivered), []);
    let lost: u64 = gone.iter().map(|tally| tally.events).sum();
    assert_eq!((judgement.intact, judgement.wrong), (count - lost, 0));
    assert_eq!(report.spikes, count - lost);
    assert_eq!(report.lost, gone.iter().map(|tally| tally.pieces).sum::<u64>());
    assert_eq!(report.duplicates, ledger.duplicated.pieces);
    let damaged = ledger.truncated.pieces + ledger.corrupted.pieces + ledger.garbage;
    assert_eq!(report.malformed, damaged);
    assert_closed(totals, &report);
    assert_eq!((totals.binned, totals.late, report.clock_resets), (count - lost, 0, 0));
}

#[test]
fn a_restart_of_a_bridged_device_is_a_gap_that_is_counted_and_no_end() {
    let (rig, address) = rig();
    let counters = rig.counters.clone();
    assert_survives(rig, Link::Lossy, || -> Play {
        let mut emulator = BridgeEmulator::new(&udp(address)).unwrap();
        Box::new(move |source, stop| emulator.play(source, stop).unwrap())
    });
    let report = counters.report();
    assert_eq!((report.duplicates, report.malformed), (0, 0), "{report}");
}
