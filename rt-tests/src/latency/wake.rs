//! Threads that wake up when they meant to.

use std::io;
use std::time::Duration;

use neurohorizon::pipeline::clock::monotonic_ns;
use neurohorizon::realtime::scheduling::{policy, set_policy, set_timer_slack, Policy};
use neurohorizon::realtime::threads;

/// Priority of the suite's own threads: above those of the runtime, so that what is measured is not the suite.
const PRIORITY: u8 = 80;

/// Puts the calling thread before all others where `fifo`, and makes its sleeps exact.
///
/// # Errors
/// Where the system does not allow FIFO.
pub fn this_thread_first(fifo: bool) -> io::Result<()> {
    // A kernel that refuses leaves the timers as they are, which the floor shows.
    let _ = set_timer_slack();
    if fifo {
        set_policy(0, Policy::Fifo(PRIORITY))?;
    }
    Ok(())
}

/// The same for every thread of this process, those of ZeroMQ among them.
///
/// # Errors
/// Where the system does not allow FIFO.
pub fn all_threads_first(fifo: bool) -> io::Result<()> {
    this_thread_first(fifo)?;
    if fifo {
        for thread in threads::all() {
            set_policy(thread, Policy::Fifo(PRIORITY))?;
        }
    }
    Ok(())
}

/// Whether this process may run threads under FIFO.
///
/// # Errors
/// Why not, in words.
pub fn fifo_is_permitted() -> Result<(), String> {
    let tried = std::thread::spawn(|| {
        set_policy(0, Policy::Fifo(PRIORITY))?;
        policy(0)
    });
    match tried.join() {
        Ok(Ok(Policy::Fifo(_))) => Ok(()),
        Ok(Ok(Policy::Other)) => Err("the system does not keep SCHED_FIFO".into()),
        Ok(Err(error)) => Err(format!("SCHED_FIFO is not permitted: {error}")),
        Err(_) => Err("SCHED_FIFO could not be tried".into()),
    }
}

/// Sleeps until the monotonic clock says `until_ns`; not at all where that has passed.
pub fn sleep_until(until_ns: i64) {
    loop {
        let left_ns = until_ns - monotonic_ns();
        if left_ns <= 0 {
            return;
        }
        std::thread::sleep(Duration::from_nanos(left_ns as u64));
    }
}
