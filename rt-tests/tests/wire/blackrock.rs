use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::Arc;
use std::time::Instant;

use neurohorizon::acquire::blackrock::{
    encode, Blackrock, BlackrockConfig, BlackrockEmulator, BlackrockEmulatorConfig, Protocol, TimeUnit,
};
use neurohorizon::acquire::wire::play::Played;

use super::harness::{assert_exact, assert_recovered, at_30_khz, events, recorded, replay, Rig, CLOCK, UNITS};

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
    let mut spikes = recorded(events, 3);
    spikes.times_ns = spikes.times_ns.iter().map(|time| 3 * time).collect();
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
fn every_spike_of_blackrock_3_11_reaches_its_bin_exactly() {
    exact(Protocol::V311, TimeUnit::Ticks, events(), at_30_khz);
}

#[test]
fn every_spike_of_blackrock_4_0_reaches_its_bin_exactly() {
    exact(Protocol::V400, TimeUnit::Ticks, events() / 4, at_30_khz);
}

#[test]
fn every_spike_of_blackrock_4_1_with_ns_reaches_its_bin_exactly() {
    exact(Protocol::V410, TimeUnit::Ns, events() / 4, |ns| ns);
}

#[test]
fn a_restart_of_blackrock_is_a_gap_that_is_counted_and_no_end() {
    let (mut rig, address) = rig(Some(TimeUnit::Ticks));
    let play = |stop: &Arc<AtomicBool>| {
        let stop = stop.clone();
        std::thread::spawn(move || {
            let emulator = emulator(address, Protocol::V410, TimeUnit::Ticks);
            emulator.play(&mut replay(&recorded(500_000, 2)), &stop).unwrap()
        })
    };
    let stop = Arc::<AtomicBool>::default();
    let player = play(&stop);
    rig.until("spikes", |rig| rig.counters.report().spikes > 5_000);
    stop.store(true, Relaxed);
    player.join().unwrap();
    rig.until("the loss is seen", |rig| rig.counters.report().disconnections == 1);
    let (closed, spikes) = (rig.closed, rig.counters.report().spikes);
    rig.until("bins close without the device", |rig| rig.closed > closed + 25);

    let stop = Arc::<AtomicBool>::default();
    let player = play(&stop);
    let back = Instant::now();
    rig.until("spikes again", |rig| rig.counters.report().spikes > spikes);
    assert_recovered(back);
    rig.until("more spikes", |rig| rig.counters.report().spikes > spikes + 5_000);
    stop.store(true, Relaxed);
    player.join().unwrap();
    rig.until("the second loss is seen", |rig| {
        rig.counters.report().disconnections == 2
    });
    let counters = rig.counters.clone();
    let (totals, _) = rig.finish(counters.report().spikes);
    let report = counters.report();
    assert_eq!((totals.binned, totals.late), (report.spikes, 0));
    assert_eq!((report.connections, report.disconnections), (2, 2));
    assert!((450..10_000).contains(&report.away_ms), "{report}");
    assert_eq!(
        (report.clock_resets, report.implausible_times),
        (1, 0),
        "its clock began anew"
    );
}
