use std::net::SocketAddr;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use neurohorizon::acquire::blackrock::packet::{CONFIGURATION, MONITOR};
use neurohorizon::acquire::blackrock::{
    encode, Blackrock, BlackrockConfig, BlackrockEmulator, BlackrockEmulatorConfig, Protocol, TimeUnit,
};
use neurohorizon::acquire::replay::RecordedSpikes;
use neurohorizon::acquire::wire::play::Played;
use neurohorizon::acquire::wire::WireReport;
use rt_tests::proxy::{Content, PieceFaults, PieceLedger, Reader, UdpProxy};

use super::harness::{assert_closed, assert_exact, at_30_khz, at_once, events, recorded, replay, Rig, CLOCK, UNITS};
use super::judge::{Judgement, Sent};
use super::restart::{assert_survives, Link, Play};

fn rig(time_unit: Option<TimeUnit>) -> (Rig, SocketAddr) {
    let units = (0..UNITS).map(|unit| {
        let (channel, sorted) = encode::place_of(unit);
        format!("{channel}:{sorted}")
    });
    let source = Blackrock::new(&BlackrockConfig {
        listen: "127.0.0.1:0".parse().unwrap(),
        protocol: None,
        time_unit,
        units: units.collect(),
        clock: CLOCK,
    })
    .unwrap();
    let (address, counters) = (source.address().unwrap(), source.counters());
    (Rig::start(Box::new(source), counters), address)
}

fn emulator(to: SocketAddr, protocol: Protocol, time_unit: TimeUnit) -> BlackrockEmulator {
    BlackrockEmulator::new(BlackrockEmulatorConfig {
        to,
        protocol,
        time_unit,
        waveform_samples: 0,
    })
    .unwrap()
}

fn exact(protocol: Protocol, time_unit: TimeUnit, events: usize, on_the_wire: impl Fn(i64) -> i64) {
    // A third of TCP's rate: what the system has no space for is lost over UDP, and this is about what is not.
    let spikes = recorded(events, 3, 3);
    // The clock's unit is found out from the heartbeats of the silence before the first spike.
    let (rig, address) = rig(None);
    let count = spikes.times_ns.len() as u64;
    let mut source = replay(&spikes);
    let player = std::thread::spawn(move || {
        let emulator = emulator(address, protocol, time_unit);
        emulator.play(&mut source, &AtomicBool::new(false)).unwrap()
    });
    let counters = rig.counters.clone();
    let (totals, received) = rig.finish(count);
    assert_eq!(player.join().unwrap(), Played { sent: count, unsent: 0 });
    assert_exact(&received, &spikes, on_the_wire);
    assert_eq!((totals.binned, totals.late, totals.overflowed), (count, 0, 0));
    let report = counters.report();
    assert_eq!(
        (report.spikes, report.lost, report.malformed, report.undecided),
        (count, 0, 0, 0)
    );
    assert_eq!(
        (report.implausible_times, report.clock_resets, report.discarded_bytes),
        (0, 0, 0)
    );
}

#[test]
fn every_spike_of_blackrock_reaches_its_bin_exactly() {
    let ticks: fn(i64) -> i64 = at_30_khz;
    let cases = [
        (Protocol::V311, TimeUnit::Ticks, events(4), ticks),
        (Protocol::V400, TimeUnit::Ticks, events(10), ticks),
        (Protocol::V410, TimeUnit::Ns, events(10), |ns| ns),
    ];
    at_once(cases, |(protocol, unit, events, on_the_wire)| {
        exact(protocol, unit, events, on_the_wire);
    });
}

/// What is in a datagram. The device's counts of packets pass, and so does what holds no spike: what is lost after the last
/// count is known to nobody.
fn content(protocol: Protocol, piece: &[Vec<u8>]) -> Content {
    let (mut content, mut rest) = (Content::default(), &piece[0][..]);
    while let Some((packet, behind)) = protocol.split(rest) {
        content.records += 1;
        content.events += u64::from(packet.is_spike());
        content.spared |= packet.channel == CONFIGURATION && packet.kind == MONITOR;
        rest = behind;
    }
    content.spared |= content.events == 0;
    content
}

struct Outcome {
    ledger: PieceLedger,
    report: WireReport,
    judgement: Judgement,
}

fn through(protocol: Protocol, spikes: &RecordedSpikes, faults: PieceFaults) -> Outcome {
    let read: Reader = match protocol {
        Protocol::V311 => |piece| content(Protocol::V311, piece),
        Protocol::V400 => |piece| content(Protocol::V400, piece),
        Protocol::V410 => |piece| content(Protocol::V410, piece),
    };
    let (mut rig, address) = rig(Some(TimeUnit::Ticks));
    let proxy = UdpProxy::start(address, faults, read);
    let to = proxy.address();
    let mut source = replay(spikes);
    let player = std::thread::spawn(move || {
        let emulator = emulator(to, protocol, TimeUnit::Ticks);
        emulator.play(&mut source, &AtomicBool::new(false)).unwrap()
    });
    rig.until("everything played", |_| player.is_finished());
    let count = spikes.times_ns.len() as u64;
    assert_eq!(player.join().unwrap(), Played { sent: count, unsent: 0 });
    let ledger = proxy.finish();
    assert_eq!(ledger.came.events, count);
    let counters = rig.counters.clone();
    let (totals, received) = rig.settle(ledger.bytes);
    let report = counters.report();
    let sent = Sent::new(spikes, &received, at_30_khz);
    let judgement = sent.judge(&received, ledger.delivered.clone(), ledger.damaged.clone());
    println!("{protocol:?}: {report}; {judgement:?}; {totals:?}");
    assert_closed(totals, &report);
    assert_eq!((report.undecided, report.clock_resets), (0, 0), "{report}");
    assert!(totals.late <= judgement.wrong, "{totals:?}");
    Outcome {
        ledger,
        report,
        judgement,
    }
}

/// Faults from the first spikes on: the silence before them tells the layout.
fn faults(seed: u64) -> PieceFaults {
    PieceFaults {
        seed,
        after: 60,
        most_steps: 8,
        most_delay: Duration::from_millis(10),
        ..PieceFaults::default()
    }
}

#[test]
fn packets_of_blackrock_that_are_lost_are_counted_each_and_their_order_is_no_loss() {
    at_once(Protocol::ALL, |protocol| {
        let spikes = recorded(events(11), 21, 3);
        // Only from 4.1 on has the device's count a number. Before, more packets than it counts look like a lost count:
        // those that were overtaken by one are then taken for lost.
        let late = if protocol == Protocol::V410 { 0.05 } else { 0.0 };
        let plan = PieceFaults {
            drop: 0.05,
            reorder: late,
            delay: late,
            ..faults(21)
        };
        let Outcome {
            ledger,
            report,
            judgement,
        } = through(protocol, &spikes, plan);
        let count = spikes.times_ns.len() as u64;
        assert!(ledger.dropped.events > count / 50);
        assert_eq!(
            protocol == Protocol::V410,
            ledger.reordered.pieces.min(ledger.delayed.pieces) > 5
        );
        assert_eq!(judgement.intact, count - ledger.dropped.events);
        assert_eq!((judgement.of_damaged, judgement.wrong), (0, 0));
        assert_eq!((report.lost, report.malformed), (ledger.dropped.records, 0), "{report}");
    });
}

#[test]
fn packets_of_blackrock_that_come_twice_cannot_be_told_and_hide_as_many_losses() {
    let spikes = recorded(events(11), 22, 3);
    let plan = PieceFaults {
        drop: 0.08,
        duplicate: 0.04,
        ..faults(22)
    };
    let Outcome {
        ledger,
        report,
        judgement,
    } = through(Protocol::V410, &spikes, plan);
    let count = spikes.times_ns.len() as u64;
    let (dropped, duplicated) = (ledger.dropped, ledger.duplicated);
    assert!(dropped.records > duplicated.records && duplicated.records > count / 100);
    assert_eq!(judgement.intact, count - dropped.events + duplicated.events);
    assert_eq!((judgement.of_damaged, judgement.wrong), (0, 0));
    assert_eq!(report.lost, dropped.records - duplicated.records, "{report}");
}

#[test]
fn damaged_datagrams_of_blackrock_spoil_no_other_and_what_they_lost_is_counted() {
    at_once(
        [(Protocol::V311, 0.0), (Protocol::V410, 0.05)],
        |(protocol, garbage)| {
            let spikes = recorded(events(10), 23, 3);
            let plan = PieceFaults {
                truncate: 0.05,
                corrupt: 0.05,
                // Random bytes are packets of 3.11 too often to be told from them.
                garbage,
                ..faults(23)
            };
            let Outcome {
                ledger,
                report,
                judgement,
            } = through(protocol, &spikes, plan);
            let count = spikes.times_ns.len() as u64;
            let damaged = ledger.truncated.events + ledger.corrupted.events;
            assert!(ledger.truncated.pieces > 5 && ledger.corrupted.pieces > 5);
            assert_eq!(judgement.intact, count - damaged);
            // There is no checksum: one changed byte is in one packet, which may pass as another spike.
            assert!(
                judgement.wrong + report.implausible_times + report.artifacts <= ledger.corrupted.pieces,
                "{judgement:?}, {report}"
            );
            // Whatever was not read is missing from the device's count.
            let read = report.spikes + report.implausible_times + report.artifacts + report.other;
            assert_eq!(read + report.lost, ledger.came.records, "{report}");
            let unread = ledger.truncated.pieces + ledger.garbage;
            assert!(
                (1..=unread + ledger.corrupted.pieces).contains(&report.malformed),
                "{report}"
            );
        },
    );
}

#[test]
fn a_restart_of_blackrock_is_a_gap_that_is_counted_and_no_end() {
    let (rig, address) = rig(Some(TimeUnit::Ticks));
    assert_survives(rig, Link::Lossy, || -> Play {
        let emulator = emulator(address, Protocol::V410, TimeUnit::Ticks);
        Box::new(move |source, stop| emulator.play(source, stop).unwrap())
    });
}
