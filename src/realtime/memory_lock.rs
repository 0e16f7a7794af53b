//! Memory that stays in RAM.

use super::report::Step;

const WHAT: &str = "memory locked";
const GRANT: &str =
    "`ulimit -l unlimited` (a line `@realtime - memlock unlimited` in /etc/security/limits.d), or `setcap \
                     cap_ipc_lock+ep` on the program; in a container `--cap-add IPC_LOCK --ulimit memlock=-1`";

/// Locks all that the program has mapped and, where no limit could make a later allocation fail, all that it will map:
/// stacks of new threads and buffers then have their pages from the beginning. Says whether anything is locked.
pub fn lock() -> (Step, bool) {
    match sys::lock() {
        Ok(true) => (Step::done(WHAT, "present and future"), true),
        Ok(false) => {
            let detail = "present only: later allocations could fail at the limit on locked memory";
            (Step::done(WHAT, detail), true)
        }
        Err(error) => (Step::refused(WHAT, error, GRANT), false),
    }
}

/// Unlocks everything.
pub fn unlock() {
    sys::unlock();
}

#[cfg(target_os = "linux")]
mod sys {
    use std::io;

    use rustix::mm::{mlockall, munlockall, MlockAllFlags};
    use rustix::process::{getrlimit, Resource};
    use rustix::thread::{capabilities, CapabilitySet};

    /// Whether what is mapped later is locked as well.
    pub fn lock() -> io::Result<bool> {
        let capable = capabilities(None).is_ok_and(|sets| sets.effective.contains(CapabilitySet::IPC_LOCK));
        let boundless = capable || getrlimit(Resource::Memlock).current.is_none();
        let mut flags = MlockAllFlags::CURRENT;
        if boundless {
            flags |= MlockAllFlags::FUTURE;
        }
        mlockall(flags)?;
        Ok(boundless)
    }

    pub fn unlock() {
        // It fails only on systems without locked memory.
        let _ = munlockall();
    }
}

#[cfg(not(target_os = "linux"))]
mod sys {
    use std::io;

    pub fn lock() -> io::Result<bool> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub fn unlock() {}
}
