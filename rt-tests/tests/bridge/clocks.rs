//! Devices' clocks: what exchanges of times say, and two devices' events on one time.

use neurohorizon::acquire::bridge::Carrier;
use neurohorizon::acquire::Source;
use neurohorizon::pipeline::clock::monotonic_ns;

use super::harness::{listening, play, poll_until, reached, recorded, replay, udp, Kept, MS};
use super::terminals::Terminals;

/// That the offset which a device's answers say is its true one, within the bound that is said with it.
fn offset_is_true(listen: &Carrier, to: Option<Carrier>) {
    let mut bridge = listening(listen, &["0..39:1"], &[], 300);
    let counters = bridge.counters();
    let to = to.unwrap_or_else(|| reached(listen, &bridge));
    bridge.start(monotonic_ns());
    let player = play(to, replay(recorded(2_000, 2_500 * MS, 5), 2_500 * MS));
    let mut kept = Kept::default();
    poll_until(&mut bridge, &mut kept, |kept| kept.spikes.len() == 2_000);
    // The emulated device's clock is 0 at its start, which it has after it was asked for by a thread that was running.
    let (_, begin_ns) = player.join().unwrap();
    let clock = counters.report().clock.unwrap();
    assert!(clock.exchanged, "{clock}");
    let off_ns = clock.offset_ns - begin_ns;
    println!("{clock}; off by {off_ns} ns at most");
    assert!(off_ns.abs() <= clock.uncertainty_ns + MS, "{off_ns} ns, but {clock}");
    assert!(clock.uncertainty_ns < 3 * MS, "{clock}");
    assert!(clock.drift_ppb.unwrap().abs() <= 200_000, "{clock}");
}

#[test]
fn the_offset_by_datagrams_is_within_its_uncertainty() {
    offset_is_true(&udp(), None);
}

#[test]
fn the_offset_on_a_serial_link_is_within_its_uncertainty() {
    let terminals = Terminals::open();
    let serial = |path: &std::path::PathBuf| Carrier::Serial {
        path: path.clone(),
        baud: 2_000_000,
    };
    offset_is_true(&serial(&terminals.host), Some(serial(&terminals.device)));
}

#[test]
fn two_devices_that_start_at_different_times_are_on_one_time() {
    // Each is told of by answers of its own; the second starts 300 ms after the first.
    let carrier = udp();
    let mut bridges: Vec<_> = (0..2).map(|_| listening(&carrier, &["0..39:1"], &[], 300)).collect();
    let start_ns = monotonic_ns();
    for bridge in &mut bridges {
        bridge.share_time();
        bridge.start(start_ns);
    }
    const LENGTH_NS: i64 = 6_000 * MS;
    let sent = recorded(6_000, LENGTH_NS, 6);
    let to: Vec<Carrier> = bridges.iter().map(|bridge| reached(&carrier, bridge)).collect();
    let player = std::thread::spawn({
        let sent = sent.clone();
        move || {
            let started = to.into_iter().map(|to| {
                std::thread::sleep(std::time::Duration::from_millis(300));
                play(to, replay(sent.clone(), LENGTH_NS))
            });
            started.collect::<Vec<_>>()
        }
    });
    let kept: Vec<Kept> = std::thread::scope(|scope| {
        let polls = bridges.iter_mut().map(|bridge| {
            scope.spawn(|| {
                let mut kept = Kept::default();
                poll_until(bridge, &mut kept, |kept| kept.spikes.len() == 6_000);
                kept
            })
        });
        let polls: Vec<_> = polls.collect();
        polls.into_iter().map(|poll| poll.join().unwrap()).collect()
    });
    let players = player.join().unwrap();
    let begin_ns: Vec<i64> = players.into_iter().map(|player| player.join().unwrap().1).collect();
    // The last second, when the first record's delay has been made up for: each spike is where the host's clock says.
    let mut worst = 0;
    for (kept, begin_ns) in kept.iter().zip(&begin_ns) {
        let last = kept.spikes.iter().zip(sent.times_ns.iter());
        for (event, &time_ns) in last.filter(|(_, &time)| time > LENGTH_NS - 1_000 * MS) {
            worst = worst.max((event.time_ns - (begin_ns - start_ns + time_ns)).abs());
        }
    }
    println!("off by {worst} ns at most");
    assert!(worst < 2 * MS, "{worst} ns");
}
