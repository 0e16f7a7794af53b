use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::Arc;
use std::time::Instant;

use neurohorizon::acquire::open_ephys::{
    encode, Form, OpenEphys, OpenEphysConfig, OpenEphysEmulator, OpenEphysEmulatorConfig,
};
use neurohorizon::acquire::wire::play::Played;

use super::harness::{assert_exact, assert_recovered, at_30_khz, events, recorded, replay, Rig, CLOCK, UNITS};

fn rig(endpoint: &str, form: Form) -> Rig {
    let source = OpenEphys::new(&OpenEphysConfig {
        endpoint: endpoint.into(),
        stream: None,
        sample_rate_hz: 30_000,
        every_message: form == Form::ZmqInterface,
        units: (0..UNITS)
            .map(|unit| format!("{}:1", encode::electrode_of(unit, form)))
            .collect(),
        clock: CLOCK,
    })
    .unwrap();
    let counters = source.counters();
    Rig::start(Box::new(source), counters)
}

fn emulator(endpoint: &str, form: Form) -> OpenEphysEmulator {
    // Any number of messages: what a GUI's high-water mark drops is not what this is about.
    OpenEphysEmulator::bind(OpenEphysEmulatorConfig {
        endpoint: endpoint.into(),
        form,
        sample_rate_hz: 30_000,
        high_water_mark: 0,
    })
    .unwrap()
}

fn exact(form: Form, events: usize) {
    let mut spikes = recorded(events, 4);
    spikes.times_ns = spikes.times_ns.iter().map(|time| 3 * time).collect();
    let emulator = emulator("tcp://127.0.0.1:*", form);
    let rig = rig(&emulator.endpoint().unwrap(), form);
    let count = spikes.times_ns.len() as u64;
    let mut source = replay(&spikes);
    let player = std::thread::spawn(move || {
        let played = emulator.play(&mut source, &AtomicBool::new(false)).unwrap();
        (played, emulator)
    });
    let counters = rig.counters.clone();
    let (totals, received) = rig.finish(count);
    assert_eq!(player.join().unwrap().0, Played { sent: count, unsent: 0 });
    assert_exact(&received, &spikes, at_30_khz);
    assert_eq!((totals.binned, totals.late, totals.overflowed), (count, 0, 0));
    let report = counters.report();
    assert_eq!(
        (report.spikes, report.malformed, report.lost, report.other),
        (count, 0, 0, 0)
    );
    assert_eq!(
        (report.implausible_times, report.clock_resets, report.connections),
        (0, 0, 1)
    );
}

#[test]
fn every_spike_of_the_event_broadcasters_json_reaches_its_bin_exactly() {
    exact(Form::Json, events());
}

#[test]
fn every_spike_of_the_event_broadcasters_raw_form_reaches_its_bin_exactly() {
    exact(Form::Raw, events());
}

#[test]
fn every_spike_of_the_older_forms_reaches_its_bin_exactly() {
    exact(Form::LegacyJson, events() / 4);
    exact(Form::LegacyRaw, events() / 4);
}

#[test]
fn every_spike_of_the_zmq_interface_reaches_its_bin_exactly() {
    exact(Form::ZmqInterface, events() / 2);
}

#[test]
fn a_restart_of_open_ephys_is_a_gap_that_is_counted_and_no_end() {
    let first = emulator("tcp://127.0.0.1:*", Form::Json);
    let endpoint = first.endpoint().unwrap();
    let mut rig = rig(&endpoint, Form::Json);
    let play = |emulator: OpenEphysEmulator, stop: &Arc<AtomicBool>| {
        let stop = stop.clone();
        std::thread::spawn(move || emulator.play(&mut replay(&recorded(500_000, 2)), &stop).unwrap())
    };
    let stop = Arc::<AtomicBool>::default();
    let player = play(first, &stop);
    rig.until("spikes", |rig| rig.counters.report().spikes > 5_000);
    stop.store(true, Relaxed);
    player.join().unwrap();
    rig.until("the loss is seen", |rig| rig.counters.report().disconnections == 1);
    let (closed, spikes) = (rig.closed, rig.counters.report().spikes);
    rig.until("bins close without the device", |rig| rig.closed > closed + 25);

    let stop = Arc::<AtomicBool>::default();
    let player = play(emulator(&endpoint, Form::Json), &stop);
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
