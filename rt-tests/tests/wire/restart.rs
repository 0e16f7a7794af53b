//! A device that goes away and comes back.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::Arc;
use std::time::{Duration, Instant};

use neurohorizon::acquire::wire::play::Played;
use neurohorizon::acquire::Source;

use super::harness::{recorded, replay, Rig, SILENCE_NS};

/// Spikes between the parts of a test.
const SPIKES: u64 = 5_000;

/// Plays a source on a device until it is told to stop; the device ends with it.
pub type Play = Box<dyn FnOnce(&mut dyn Source, &AtomicBool) -> Played + Send>;

/// What a link promises.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Link {
    /// All that was written before the end of a connection arrives.
    Lossless,
    /// What was on its way at the end may be gone.
    Lossy,
}

/// That a device's spikes are there again within a second of its return.
fn assert_recovered(back: Instant) {
    let silence = Duration::from_nanos(SILENCE_NS as u64);
    assert!(
        back.elapsed() < silence + Duration::from_secs(1),
        "{:?}",
        back.elapsed()
    );
}

/// Plays a device twice with a pause between: a gap that is counted, bins that go on closing, a clock that begins anew, and
/// spikes again within a second. `start` makes the device anew.
pub fn assert_survives(mut rig: Rig, link: Link, mut start: impl FnMut() -> Play) {
    let spikes = recorded(500_000, 2, 1);
    let mut play = |stop: &Arc<AtomicBool>| {
        let (play, mut source, stop) = (start(), replay(&spikes), stop.clone());
        std::thread::spawn(move || play(&mut source, &stop))
    };
    let stop = Arc::<AtomicBool>::default();
    let player = play(&stop);
    rig.until("spikes", |rig| rig.counters.report().spikes > SPIKES);
    stop.store(true, Relaxed);
    let mut sent = player.join().unwrap().sent;
    rig.until("the loss is seen", |rig| rig.counters.report().disconnections == 1);
    let (closed, spikes) = (rig.closed, rig.counters.report().spikes);
    if link == Link::Lossless {
        assert_eq!(spikes, sent, "what was written before the end has come");
    }
    rig.until("bins close without the device", |rig| rig.closed > closed + 25);

    let stop = Arc::<AtomicBool>::default();
    let player = play(&stop);
    let back = Instant::now();
    rig.until("spikes again", |rig| rig.counters.report().spikes > spikes);
    assert_recovered(back);
    rig.until("more spikes", |rig| rig.counters.report().spikes > spikes + SPIKES);
    stop.store(true, Relaxed);
    sent += player.join().unwrap().sent;
    rig.until("the second loss is seen", |rig| {
        rig.counters.report().disconnections == 2
    });
    let counters = rig.counters.clone();
    let spikes = counters.report().spikes;
    let (totals, _) = rig.finish(spikes);
    let report = counters.report();
    if link == Link::Lossless {
        assert_eq!(spikes, sent, "and so it has the second time");
    }
    assert_eq!((report.spikes, totals.binned, totals.late), (spikes, spikes, 0));
    assert_eq!((report.connections, report.disconnections), (2, 2));
    assert!((450..10_000).contains(&report.away_ms), "{report}");
    assert_eq!(
        (report.clock_resets, report.implausible_times),
        (1, 0),
        "its clock began anew"
    );
}
