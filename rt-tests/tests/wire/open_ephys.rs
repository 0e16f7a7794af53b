use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use neurohorizon::acquire::open_ephys::{
    encode, Form, OpenEphys, OpenEphysConfig, OpenEphysEmulator, OpenEphysEmulatorConfig,
};
use neurohorizon::acquire::replay::RecordedSpikes;
use neurohorizon::acquire::wire::play::Played;
use neurohorizon::acquire::wire::WireReport;
use rt_tests::proxy::{Content, MessageProxy, PieceFaults, PieceLedger, StreamFaults, TcpProxy, Upstream, Writes};

use super::harness::{assert_closed, assert_exact, at_30_khz, at_once, events, recorded, replay, Rig, CLOCK, UNITS};
use super::judge::{first_of_each, Judgement, Sent};
use super::restart::{assert_survives, Link, Play};

const ANY_PORT: &str = "tcp://127.0.0.1:*";

fn rig(endpoint: &str, form: Form, every_message: bool) -> Rig {
    let source = OpenEphys::new(&OpenEphysConfig {
        endpoint: endpoint.into(),
        stream: None,
        sample_rate_hz: 30_000,
        every_message,
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
    let spikes = recorded(events, 4, 8);
    let emulator = emulator(ANY_PORT, form);
    let rig = rig(&emulator.endpoint().unwrap(), form, form == Form::ZmqInterface);
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
fn every_spike_of_the_event_broadcaster_reaches_its_bin_exactly() {
    at_once([Form::Json, Form::Raw], |form| exact(form, events(8)));
}

#[test]
fn every_spike_of_the_other_forms_reaches_its_bin_exactly() {
    let forms = [Form::LegacyJson, Form::LegacyRaw, Form::ZmqInterface];
    at_once(forms, |form| exact(form, events(16)));
}

#[test]
fn a_restart_of_open_ephys_is_a_gap_that_is_counted_and_no_end() {
    let first = emulator(ANY_PORT, Form::Json);
    let endpoint = first.endpoint().unwrap();
    let rig = rig(&endpoint, Form::Json, false);
    let mut first = Some(first);
    assert_survives(rig, Link::Lossy, move || -> Play {
        let emulator = first.take().unwrap_or_else(|| emulator(&endpoint, Form::Json));
        Box::new(move |source, stop| emulator.play(source, stop).unwrap())
    });
}

/// Plays spikes through a proxy below ZeroMQ, which cuts its stream into other pieces.
fn exact_through(form: Form, spikes: &RecordedSpikes, writes: Writes) {
    let emulator = emulator(ANY_PORT, form);
    let to = emulator
        .endpoint()
        .unwrap()
        .trim_start_matches("tcp://")
        .parse()
        .unwrap();
    let proxy = TcpProxy::start(to, writes, Upstream::Anew, StreamFaults::default());
    let rig = rig(&format!("tcp://{}", proxy.address()), form, false);
    let mut source = replay(spikes);
    let player = std::thread::spawn(move || {
        let played = emulator.play(&mut source, &AtomicBool::new(false)).unwrap();
        (played, emulator)
    });
    let count = spikes.times_ns.len() as u64;
    let counters = rig.counters.clone();
    let (totals, received) = rig.finish(count);
    assert_eq!(player.join().unwrap().0, Played { sent: count, unsent: 0 });
    let ledger = proxy.stop();
    println!(
        "{writes:?}: {}; {} bytes, {} writes",
        counters.report(),
        ledger.came,
        ledger.writes
    );
    assert_exact(&received, spikes, at_30_khz);
    assert_eq!((totals.binned, totals.late), (count, 0));
    if writes == Writes::EveryByte {
        assert_eq!(ledger.writes, ledger.came);
    }
}

#[test]
fn every_spike_of_open_ephys_passes_a_stream_in_pieces_of_any_length() {
    // A message has 200 bytes and more: fewer spikes pass byte by byte.
    let cases = [
        (Form::Raw, recorded(events(100), 31, 100), Writes::EveryByte),
        (Form::Json, recorded(events(20), 32, 20), Writes::Random { most: 80 }),
        (
            Form::Raw,
            recorded(events(20), 33, 20),
            Writes::Coalesced { least: 50_000 },
        ),
    ];
    at_once(cases, |(form, spikes, writes)| exact_through(form, &spikes, writes));
}

/// What is in a message: a spike.
fn content(_piece: &[Vec<u8>]) -> Content {
    Content {
        events: 1,
        records: 1,
        spared: false,
    }
}

struct Outcome {
    ledger: PieceLedger,
    report: WireReport,
    judgement: Judgement,
}

fn through(form: Form, spikes: &RecordedSpikes, faults: PieceFaults) -> Outcome {
    let emulator = emulator(ANY_PORT, form);
    let proxy = MessageProxy::start(&emulator.endpoint().unwrap(), faults, content);
    let mut rig = rig(proxy.endpoint(), form, true);
    let mut source = replay(spikes);
    let player = std::thread::spawn(move || {
        let played = emulator.play(&mut source, &AtomicBool::new(false)).unwrap();
        (played, emulator)
    });
    rig.until("everything played", |_| player.is_finished());
    let count = spikes.times_ns.len() as u64;
    let (played, _emulator) = player.join().unwrap();
    assert_eq!(played, Played { sent: count, unsent: 0 });
    let (ledger, _socket) = proxy.finish();
    assert_eq!(ledger.came.events, count);
    let counters = rig.counters.clone();
    let (totals, received) = rig.settle(ledger.bytes);
    let report = counters.report();
    let delivered = if form == Form::ZmqInterface {
        first_of_each(&ledger.delivered).collect()
    } else {
        ledger.delivered.clone()
    };
    let sent = Sent::new(spikes, &received, at_30_khz);
    let judgement = sent.judge(&received, delivered, ledger.damaged.clone());
    println!("{form:?}: {report}; {judgement:?}; {totals:?}");
    assert_closed(totals, &report);
    assert_eq!(report.clock_resets, 0);
    assert!(totals.late <= judgement.wrong, "{totals:?}");
    let counted = report.spikes + report.implausible_times + report.malformed + report.other + report.other_streams;
    let messages = ledger.delivered.len() + ledger.damaged.len();
    assert_eq!(
        counted + report.duplicates,
        messages as u64,
        "every message is in one count"
    );
    Outcome {
        ledger,
        report,
        judgement,
    }
}

fn faults(seed: u64) -> PieceFaults {
    PieceFaults {
        seed,
        after: 20,
        drop: 0.02,
        duplicate: 0.02,
        reorder: 0.02,
        delay: 0.02,
        truncate: 0.02,
        garbage: 0.02,
        most_steps: 8,
        most_delay: Duration::from_millis(1),
        ..PieceFaults::default()
    }
}

#[test]
fn messages_of_the_zmq_interface_are_told_by_their_numbers_and_lost_ones_counted_each() {
    let spikes = recorded(events(8), 34, 5);
    let Outcome {
        ledger,
        report,
        judgement,
    } = through(Form::ZmqInterface, &spikes, faults(34));
    let count = spikes.times_ns.len() as u64;
    assert!(ledger.dropped.pieces > count / 100 && ledger.duplicated.pieces > count / 100);
    assert_eq!(report.duplicates, ledger.duplicated.pieces, "{report}");
    assert_eq!(
        judgement.intact,
        count - ledger.dropped.pieces - ledger.truncated.pieces
    );
    assert_eq!(judgement.wrong, 0);
    // A message without an end of its waveform or envelope is read; what is left of others is not.
    let unread = ledger.truncated.pieces - judgement.of_damaged;
    assert_eq!(report.malformed, ledger.garbage + unread);
    // Whatever comes after the last message that came is known to nobody.
    let last = ledger.delivered.iter().map(|events| events.end).max().unwrap();
    assert_eq!(
        report.spikes + report.lost,
        last,
        "each message that is lost is counted"
    );
}

#[test]
fn damaged_messages_of_the_event_broadcaster_spoil_no_other() {
    at_once([Form::Json, Form::Raw, Form::LegacyJson, Form::LegacyRaw], |form| {
        let spikes = recorded(events(16), 35, 10);
        let plan = PieceFaults {
            corrupt: 0.02,
            ..faults(35)
        };
        let Outcome {
            ledger,
            report,
            judgement,
        } = through(form, &spikes, plan);
        let count = spikes.times_ns.len() as u64;
        let damaged = ledger.truncated.pieces + ledger.corrupted.pieces;
        assert!(damaged > count / 50 && ledger.reordered.pieces > count / 100);
        // Nothing numbers these messages: what is lost is not known, and what comes twice is taken twice.
        let gone = ledger.dropped.pieces + damaged;
        assert_eq!(judgement.intact, count - gone + ledger.duplicated.pieces);
        assert_eq!((report.lost, report.duplicates), (0, 0));
        // Nor has it a checksum: a changed message may be a spike of another time or unit.
        assert!(judgement.wrong <= ledger.corrupted.pieces, "{judgement:?}");
        assert!(judgement.of_damaged + judgement.wrong <= damaged, "{judgement:?}");
    });
}

#[test]
fn connections_of_the_zmq_interface_that_end_within_a_message_cost_what_is_counted() {
    let spikes = recorded(events(10), 36, 10);
    let emulator = emulator(ANY_PORT, Form::ZmqInterface);
    let to = emulator
        .endpoint()
        .unwrap()
        .trim_start_matches("tcp://")
        .parse()
        .unwrap();
    let faults = StreamFaults {
        seed: 36,
        after: 100_000,
        cut_every: 1_500_000,
        ..StreamFaults::default()
    };
    let proxy = TcpProxy::start(to, Writes::AsTheyCome, Upstream::Anew, faults);
    let mut rig = rig(&format!("tcp://{}", proxy.address()), Form::ZmqInterface, true);
    let mut source = replay(&spikes);
    let player = std::thread::spawn(move || {
        let played = emulator.play(&mut source, &AtomicBool::new(false)).unwrap();
        (played, emulator)
    });
    rig.until("everything played", |_| player.is_finished());
    let (played, _emulator) = player.join().unwrap();
    let counters = rig.counters.clone();
    let (mut seen, mut since) = (0, Instant::now());
    rig.until("nothing more comes", |rig| {
        let spikes = rig.counters.report().spikes;
        if spikes != seen {
            (seen, since) = (spikes, Instant::now());
        }
        since.elapsed() > Duration::from_millis(500)
    });
    let (totals, received) = rig.finish(seen);
    let (ledger, report) = (proxy.stop(), counters.report());
    println!("{report}; {played:?}; {totals:?}; {} connections", ledger.connections);
    let count = spikes.times_ns.len() as u64;
    assert_eq!(played.sent + played.unsent, count);
    assert!(ledger.connections > 2 && report.lost > 0, "{report}");
    assert!((2..=ledger.connections).contains(&report.connections), "{report}");
    assert_closed(totals, &report);
    assert_eq!((report.clock_resets, report.implausible_times, totals.late), (0, 0, 0));
    // What has come is what was sent, in its order; what has not is counted, up to the last that came.
    let judgement = Sent::new(&spikes, &received, at_30_khz).judge(&received, [], std::iter::once(0..count));
    assert_eq!((judgement.of_damaged, judgement.wrong), (report.spikes, 0));
    assert!(received.is_sorted_by_key(|event| event.time_ns));
    let last = report.spikes + report.lost;
    let (first_ns, last_ns) = (received[0].time_ns, received[received.len() - 1].time_ns);
    let sent_ns = |number: u64| at_30_khz(spikes.times_ns[number as usize]) - at_30_khz(spikes.times_ns[0]);
    assert!(last <= count);
    assert_eq!(
        sent_ns(last - 1),
        last_ns - first_ns,
        "spike {last} of {count} is the last"
    );
}
