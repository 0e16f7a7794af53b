use std::net::SocketAddr;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use neurohorizon::acquire::intan::{encode, Intan, IntanConfig, IntanEmulator, IntanEmulatorConfig};
use neurohorizon::acquire::replay::RecordedSpikes;
use neurohorizon::acquire::wire::play::Played;
use neurohorizon::acquire::wire::WireReport;
use neurohorizon::acquire::SpikeEvent;
use neurohorizon::pipeline::IngestTotals;
use rt_tests::proxy::{StreamFaults, StreamLedger, TcpProxy, Upstream, Writes};

use super::harness::{assert_closed, assert_exact, at_30_khz, at_once, events, recorded, replay, Rig, CLOCK, UNITS};
use super::judge::{all_but, Sent};
use super::restart::{assert_survives, Link, Play};

/// Bytes of a record.
const RECORD: u64 = 14;
const ANY_PORT: &str = "127.0.0.1:0";

fn emulator(listen: SocketAddr) -> IntanEmulator {
    IntanEmulator::bind(IntanEmulatorConfig {
        listen,
        sample_rate_hz: 30_000,
        blocks_per_write: 1,
    })
    .unwrap()
}

fn rig(address: SocketAddr) -> Rig {
    let units = (0..UNITS).map(|unit| format!("{}:1", String::from_utf8_lossy(&encode::channel_name(unit))));
    let source = Intan::new(&IntanConfig {
        address,
        sample_rate_hz: 30_000,
        units: units.collect(),
        clock: CLOCK,
    })
    .unwrap();
    let counters = source.counters();
    Rig::start(Box::new(source), counters)
}

#[test]
fn every_spike_of_intan_reaches_its_bin_exactly() {
    let spikes = recorded(events(4), 1, 1);
    let emulator = emulator(ANY_PORT.parse().unwrap());
    let rig = rig(emulator.address().unwrap());
    let count = spikes.times_ns.len() as u64;
    let mut source = replay(&spikes);
    let player = std::thread::spawn(move || emulator.play(&mut source, &AtomicBool::new(false)).unwrap());
    let counters = rig.counters.clone();
    let (totals, received) = rig.finish(count);
    assert_eq!(player.join().unwrap(), Played { sent: count, unsent: 0 });
    assert_exact(&received, &spikes, at_30_khz);
    assert_eq!((totals.binned, totals.late, totals.overflowed), (count, 0, 0));
    let report = counters.report();
    assert_eq!(
        (report.bytes, report.spikes, report.connections),
        (RECORD * count, count, 1)
    );
    assert_eq!(
        (report.discarded_bytes, report.implausible_times, report.clock_resets),
        (0, 0, 0)
    );
}

/// What came of spikes that were played through a proxy.
struct Outcome {
    ledger: StreamLedger,
    report: WireReport,
    totals: IngestTotals,
    received: Vec<SpikeEvent>,
}

fn through(spikes: &RecordedSpikes, writes: Writes, faults: StreamFaults) -> Outcome {
    let emulator = emulator(ANY_PORT.parse().unwrap());
    let proxy = TcpProxy::start(emulator.address().unwrap(), writes, Upstream::Kept, faults);
    let mut rig = rig(proxy.address());
    let mut source = replay(spikes);
    let player = std::thread::spawn(move || emulator.play(&mut source, &AtomicBool::new(false)).unwrap());
    rig.until("everything played", |_| player.is_finished());
    let count = spikes.times_ns.len() as u64;
    assert_eq!(player.join().unwrap(), Played { sent: count, unsent: 0 });
    let ledger = proxy.join();
    assert_eq!(ledger.came, RECORD * count);
    let counters = rig.counters.clone();
    // The connection's end counts the bytes that wait for the rest of their record.
    rig.until("its end is seen", |rig| {
        rig.counters.report().disconnections == ledger.connections
    });
    let (totals, received) = rig.settle(ledger.handed_on);
    let report = counters.report();
    println!("{writes:?}: {report}; {} writes; {totals:?}", ledger.writes);
    // Every byte is in a record or discarded, and every record is a spike or counted as something else.
    let records = report.spikes + report.artifacts + report.implausible_times;
    assert_eq!(RECORD * records + report.discarded_bytes, report.bytes, "{report}");
    assert_eq!(
        report.bytes,
        RECORD * count - ledger.lost_bytes() + ledger.garbage_bytes()
    );
    assert_eq!(report.connections, ledger.connections);
    assert_closed(totals, &report);
    Outcome {
        ledger,
        report,
        totals,
        received,
    }
}

fn exact_through(spikes: &RecordedSpikes, writes: Writes) -> StreamLedger {
    let outcome = through(spikes, writes, StreamFaults::default());
    assert_exact(&outcome.received, spikes, at_30_khz);
    let count = spikes.times_ns.len() as u64;
    assert_eq!((outcome.totals.binned, outcome.report.discarded_bytes), (count, 0));
    outcome.ledger
}

#[test]
fn every_spike_of_intan_passes_a_stream_split_at_every_byte() {
    let spikes = recorded(events(5), 11, 5);
    let ledger = exact_through(&spikes, Writes::EveryByte);
    assert_eq!(ledger.writes, ledger.came);
}

#[test]
fn every_spike_of_intan_passes_pieces_of_any_length_and_stops() {
    let stop = Duration::from_millis(60);
    let cases = [
        (12, Writes::Random { most: 60 }),
        (13, Writes::Coalesced { least: 20_000 }),
        (14, Writes::Stalled { most: stop }),
    ];
    at_once(cases, |(seed, writes)| {
        let ledger = exact_through(&recorded(events(20), seed, 1), writes);
        if let Writes::Coalesced { least } = writes {
            assert!(ledger.writes < ledger.came / least as u64 + 20, "{}", ledger.writes);
        }
    });
}

#[test]
fn changed_and_foreign_bytes_of_intan_spoil_no_other_record() {
    let spikes = recorded(events(5), 15, 1);
    let faults = StreamFaults {
        seed: 15,
        after: 100 * RECORD,
        corrupt_every: 50 * RECORD,
        garbage_every: 70 * RECORD,
        most_garbage: 40,
        ..StreamFaults::default()
    };
    let outcome = through(&spikes, Writes::Random { most: 3_000 }, faults);
    let (ledger, report) = (&outcome.ledger, outcome.report);
    let (changed, broken) = (ledger.changed(RECORD), ledger.broken(RECORD));
    let count = spikes.times_ns.len() as u64;
    assert!(changed.len() as u64 > count / 100 && broken.len() as u64 > count / 150);
    let intact = all_but(count, |record| changed.contains(&record) || broken.contains(&record));
    let judgement = Sent::new(&spikes, &outcome.received, at_30_khz).judge(&outcome.received, intact, []);
    println!("{judgement:?}, {} changed, {} broken", changed.len(), broken.len());
    // There is no checksum: a changed record may be one of another unit or time, and no more than that.
    let spoiled = changed.difference(&broken).count() as u64;
    assert!(judgement.wrong <= spoiled, "{judgement:?}");
    assert!(report.implausible_times + report.artifacts + judgement.wrong <= spoiled);
    let lost = count - judgement.intact - judgement.wrong - report.implausible_times - report.artifacts;
    assert_eq!(
        report.discarded_bytes,
        RECORD * lost + ledger.garbage_bytes(),
        "each event that is lost is counted, by its bytes"
    );
    assert_eq!(report.clock_resets, 0);
    assert!(outcome.totals.late <= judgement.wrong, "{:?}", outcome.totals);
}

#[test]
fn a_connection_of_intan_that_ends_within_a_record_costs_what_was_not_sent() {
    let spikes = recorded(events(5), 16, 5);
    let faults = StreamFaults {
        seed: 16,
        after: 100 * RECORD,
        cut_every: 3_000 * RECORD,
        ..StreamFaults::default()
    };
    let outcome = through(&spikes, Writes::AsTheyCome, faults);
    let (ledger, report) = (&outcome.ledger, outcome.report);
    assert!(ledger.connections > 3, "{report}");
    let (count, broken) = (spikes.times_ns.len() as u64, ledger.broken(RECORD));
    let intact = all_but(count, |record| broken.contains(&record));
    let judgement = Sent::new(&spikes, &outcome.received, at_30_khz).judge(&outcome.received, intact, []);
    // The protocol does not number its records: the source knows of the cut and of the pieces on either side of it.
    assert_eq!((judgement.intact, judgement.wrong), (count - broken.len() as u64, 0));
    assert_eq!(
        (report.spikes, outcome.totals.binned),
        (judgement.intact, judgement.intact)
    );
    assert_eq!(
        report.discarded_bytes,
        RECORD * broken.len() as u64 - ledger.lost_bytes(),
        "what is left of the records that miss bytes"
    );
    assert_eq!((report.clock_resets, report.implausible_times), (0, 0));
}

#[test]
fn a_restart_of_intan_is_a_gap_that_is_counted_and_no_end() {
    let first = emulator(ANY_PORT.parse().unwrap());
    let address = first.address().unwrap();
    let mut first = Some(first);
    assert_survives(rig(address), Link::Lossless, move || -> Play {
        let emulator = first.take().unwrap_or_else(|| emulator(address));
        Box::new(move |source, stop| emulator.play(source, stop).unwrap())
    });
}
