//! What this user may ask for.

use super::finding::Finding;
use super::MEASURED_ON;
use crate::realtime::scheduling::grant_of_priority;
use crate::realtime::{Role, Settings};

/// Files and sockets that a run with several devices, endpoints and subscribers may have open.
const FILES: u64 = 1_024;

/// Real-time priority.
pub fn priority() -> Finding {
    const NAME: &str = "real-time priority";
    let needed = Settings::recommended().priority_of(Role::Guard).unwrap_or_default();
    match sys::priority() {
        _ if sys::may_set_priority() => Finding::good(NAME, "any: this user has CAP_SYS_NICE"),
        Some(most) if most >= u64::from(needed) => Finding::good(NAME, format!("up to {most}")),
        most => Finding::change(NAME, format!("up to {}; `run --realtime` asks for {needed}", most.unwrap_or(0)))
            .by(grant_of_priority(needed))
            .worth(format!(
                "timers late by 43 µs (p50) and 256 µs (p99.9) in place of 88 µs and 2.7 ms; beside two busy programs 28 µs in \
                 place of 20 ms (p99.9); {MEASURED_ON}"
            )),
    }
}

/// Locked memory.
pub fn memory() -> Finding {
    const NAME: &str = "locked memory";
    if may_lock_memory() {
        return Finding::good(NAME, "no limit");
    }
    let kib = sys::locked_memory().unwrap_or(0) / 1_024;
    Finding::change(NAME, format!("{kib} KiB at most"))
        .by("`ulimit -l unlimited` (a line `@realtime - memlock unlimited` in /etc/security/limits.d), or `setcap cap_ipc_lock+ep` on the program")
        .worth("a page that was written out waits for the disk: milliseconds, in whichever bin touches it (not measured here)")
}

/// Whether memory can be locked without end.
pub fn may_lock_memory() -> bool {
    sys::may_lock() || sys::locked_memory().is_none()
}

/// Open files.
pub fn files() -> Finding {
    const NAME: &str = "open files";
    match sys::open_files() {
        Some(most) if most < FILES => Finding::change(NAME, format!("{most} at most"))
            .by(format!("`ulimit -n {FILES}`"))
            .worth("subscribers beyond it are refused"),
        most => Finding::good(NAME, most.map_or("no limit".into(), |most| format!("{most} at most"))),
    }
}

#[cfg(target_os = "linux")]
mod sys {
    use rustix::process::{getrlimit, Resource};
    use rustix::thread::{capabilities, CapabilitySet};

    fn capable(of: CapabilitySet) -> bool {
        capabilities(None).is_ok_and(|sets| sets.effective.contains(of))
    }

    pub fn may_set_priority() -> bool {
        capable(CapabilitySet::SYS_NICE)
    }

    pub fn may_lock() -> bool {
        capable(CapabilitySet::IPC_LOCK)
    }

    pub fn priority() -> Option<u64> {
        Some(getrlimit(Resource::Rtprio).current.unwrap_or(99))
    }

    pub fn locked_memory() -> Option<u64> {
        getrlimit(Resource::Memlock).current
    }

    pub fn open_files() -> Option<u64> {
        getrlimit(Resource::Nofile).current
    }
}

#[cfg(not(target_os = "linux"))]
mod sys {
    pub fn may_set_priority() -> bool {
        false
    }

    pub fn may_lock() -> bool {
        false
    }

    pub fn priority() -> Option<u64> {
        None
    }

    pub fn locked_memory() -> Option<u64> {
        Some(0)
    }

    pub fn open_files() -> Option<u64> {
        None
    }
}
