//! Interrupts, and a terminal that hangs up: the first asks for an orderly end, the second ends at once. SIGUSR1 asks for new identities of the units; SIGUSR2
//! stops predictions; SIGXFSZ does not end a run that is recorded.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering::Relaxed};
use std::sync::Arc;

use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2, SIGXFSZ};

use super::CliError;
use crate::acquire::host_time::monotonic_ns;

/// A flag that the first signal sets, and one that lets the next signal end the program at once.
pub fn catch() -> Result<(Arc<AtomicBool>, Arc<AtomicBool>), CliError> {
    let (stop, impatient) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let hang_up = (!is_ignored(SIGHUP)).then_some(SIGHUP);
    for signal in [SIGINT, SIGTERM].into_iter().chain(hang_up) {
        signal_hook::flag::register_conditional_shutdown(signal, 130, impatient.clone())
            .and_then(|_| signal_hook::flag::register(signal, stop.clone()))
            .map_err(|source| CliError::System {
                what: "signals cannot be caught".into(),
                source,
            })?;
    }
    Ok((stop, impatient))
}

/// Whether the program was started so that a signal does nothing to it, as `nohup` does with SIGHUP. Only Linux says so.
fn is_ignored(signal: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let ignored = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let ignored = ignored.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok());
    ignored.is_some_and(|mask| mask >> (signal - 1) & 1 == 1)
}

/// A flag that every signal sets that would otherwise end the program; none ends it at once.
pub fn catch_every_end() -> Result<Arc<AtomicBool>, CliError> {
    catch().map(|(stop, _)| stop)
}

/// A flag that SIGUSR1 sets.
pub fn catch_recalibrate() -> Result<Arc<AtomicBool>, CliError> {
    let asked = Arc::new(AtomicBool::new(false));
    register(SIGUSR1, &asked)?;
    Ok(asked)
}

/// Has SIGUSR2 call `stop`, at once and in whatever thread it comes to. Returns where the host time of the last one stands, monotonic ns;
/// 0 before the first.
pub fn catch_emergency(stop: impl Fn() + Sync + Send + 'static) -> Result<Arc<AtomicI64>, CliError> {
    let at_ns = Arc::new(AtomicI64::new(0));
    let heard_ns = at_ns.clone();
    let heard = move || {
        stop();
        heard_ns.store(monotonic_ns(), Relaxed);
    };
    // SAFETY: all that it may do is what a signal handler may: the one caller's `stop` and this store to atomics, and POSIX has
    // clock_gettime among the functions that a handler may call.
    let registered = unsafe { signal_hook::low_level::register(SIGUSR2, heard) };
    registered.map(|_| at_ns).map_err(|source| CliError::System {
        what: "signals cannot be caught".into(),
        source,
    })
}

/// From here on a file that has grown to its limit is an error of the write, and does not end the program.
pub fn survive_full_files() -> Result<(), CliError> {
    register(SIGXFSZ, &Arc::default())
}

fn register(signal: i32, flag: &Arc<AtomicBool>) -> Result<(), CliError> {
    signal_hook::flag::register(signal, flag.clone())
        .map(|_| ())
        .map_err(|source| CliError::System {
            what: "signals cannot be caught".into(),
            source,
        })
}
