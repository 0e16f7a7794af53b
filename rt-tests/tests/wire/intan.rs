use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::Arc;
use std::time::Instant;

use neurohorizon::acquire::intan::{encode, Intan, IntanConfig, IntanEmulator, IntanEmulatorConfig};
use neurohorizon::acquire::wire::play::Played;

use super::harness::{assert_exact, assert_recovered, at_30_khz, events, recorded, replay, Rig, CLOCK, UNITS};

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
    let spikes = recorded(events(), 1);
    let emulator = emulator("127.0.0.1:0".parse().unwrap());
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
        (14 * count, count, 1)
    );
    assert_eq!(
        (report.discarded_bytes, report.implausible_times, report.clock_resets),
        (0, 0, 0)
    );
}

#[test]
fn a_restart_of_intan_is_a_gap_that_is_counted_and_no_end() {
    let first = emulator("127.0.0.1:0".parse().unwrap());
    let address = first.address().unwrap();
    let mut rig = rig(address);
    let play = |emulator: IntanEmulator, stop: &Arc<AtomicBool>| {
        let stop = stop.clone();
        std::thread::spawn(move || emulator.play(&mut replay(&recorded(500_000, 2)), &stop).unwrap())
    };
    let stop = Arc::<AtomicBool>::default();
    let player = play(first, &stop);
    rig.until("spikes", |rig| rig.counters.report().spikes > 10_000);
    stop.store(true, Relaxed);
    let sent = player.join().unwrap().sent;
    rig.until("the loss is seen", |rig| rig.counters.report().disconnections == 1);
    assert_eq!(
        rig.counters.report().spikes,
        sent,
        "what was written before the end has come"
    );
    let closed = rig.closed;
    rig.until("bins close without the device", |rig| rig.closed > closed + 25);

    let stop = Arc::<AtomicBool>::default();
    let player = play(emulator(address), &stop);
    let back = Instant::now();
    rig.until("spikes again", |rig| rig.counters.report().spikes > sent);
    assert_recovered(back);
    rig.until("more spikes", |rig| rig.counters.report().spikes > sent + 10_000);
    stop.store(true, Relaxed);
    let sent = sent + player.join().unwrap().sent;
    let counters = rig.counters.clone();
    let (totals, _) = rig.finish(sent);
    let report = counters.report();
    assert_eq!((report.spikes, totals.binned, totals.late), (sent, sent, 0));
    assert_eq!(
        (report.connections, report.disconnections),
        (2, 2),
        "the second one has ended too"
    );
    assert!((450..10_000).contains(&report.away_ms), "{report}");
    assert_eq!(
        (report.clock_resets, report.implausible_times),
        (1, 0),
        "its clock began anew"
    );
}
