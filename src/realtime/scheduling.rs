//! Scheduling policy, core and timer slack of threads.

use std::io;

use super::report::Step;

/// Timer slack of a thread with deadlines, ns: sleeps are rounded by 50 µs otherwise.
pub const TIMER_SLACK_NS: u64 = 1_000;

/// How a thread is scheduled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Policy {
    /// Like any program: SCHED_OTHER, or another policy without a real-time priority.
    Other,
    /// SCHED_FIFO: before all others of a lower priority, until it sleeps.
    Fifo(u8),
}

/// Schedules thread `thread` (0: the calling one) so. What it starts is scheduled like any program.
///
/// # Errors
/// Where the system does not allow it.
pub fn set_policy(thread: i32, policy: Policy) -> io::Result<()> {
    sys::set_policy(thread, policy)
}

/// How thread `thread` (0: the calling one) is scheduled.
///
/// # Errors
/// Where there is no such thread.
pub fn policy(thread: i32) -> io::Result<Policy> {
    sys::policy(thread)
}

/// Gives thread `thread` (0: the calling one) a real-time priority.
pub fn make_real_time(name: &str, thread: i32, priority: u8) -> Step {
    let what = format!("{name}: SCHED_FIFO {priority}");
    match set_policy(thread, Policy::Fifo(priority)) {
        Ok(()) => Step::done(what, ""),
        Err(error) => Step::refused(what, error, grant_of_priority(priority)),
    }
}

/// What grants a priority of so much.
pub fn grant_of_priority(priority: u8) -> String {
    format!(
        "`ulimit -r {priority}` (a line `@realtime - rtprio {priority}` in /etc/security/limits.d), or `setcap cap_sys_nice+ep` on \
         the program; in a container `--cap-add SYS_NICE --ulimit rtprio={priority}`"
    )
}

/// Pins the calling thread to a core.
pub fn pin(name: &str, core: usize) -> Step {
    let what = format!("{name}: core {core}");
    match sys::pin(core) {
        Ok(()) => Step::done(what, ""),
        Err(error) => Step::refused(
            what,
            error,
            "a core that this program may run on (`taskset -pc $$` lists them)",
        ),
    }
}

/// Makes the calling thread's sleeps exact to a microsecond.
///
/// # Errors
/// Where the system does not allow it: timers stay as they are, later, not wrong.
pub fn set_timer_slack() -> io::Result<()> {
    sys::set_timer_slack()
}

#[cfg(target_os = "linux")]
mod sys {
    use std::io;
    use std::num::NonZeroU64;

    use rustix::thread::{sched_setaffinity, set_current_timer_slack, CpuSet};

    use super::{Policy, TIMER_SLACK_NS};

    pub fn set_policy(thread: i32, policy: Policy) -> io::Result<()> {
        let (policy, priority) = match policy {
            Policy::Other => (libc::SCHED_OTHER, 0),
            Policy::Fifo(priority) => (libc::SCHED_FIFO, i32::from(priority)),
        };
        // The system call itself, whose `struct sched_param` is one number: some C libraries refuse theirs.
        // SAFETY: the call reads `priority`, which outlives it, and nothing else of this program.
        let done = unsafe {
            libc::syscall(
                libc::SYS_sched_setscheduler,
                thread,
                policy | libc::SCHED_RESET_ON_FORK,
                &raw const priority,
            )
        };
        if done == 0 {
            Ok(())
        } else {
            Err(io::Error::last_os_error())
        }
    }

    pub fn policy(thread: i32) -> io::Result<Policy> {
        let mut priority = 0i32;
        // SAFETY: the call takes numbers only.
        let policy = unsafe { libc::syscall(libc::SYS_sched_getscheduler, thread) };
        // SAFETY: the call writes `priority` and nothing else of this program.
        let done = unsafe { libc::syscall(libc::SYS_sched_getparam, thread, &raw mut priority) };
        if policy < 0 || done < 0 {
            return Err(io::Error::last_os_error());
        }
        match policy as i32 & !libc::SCHED_RESET_ON_FORK {
            libc::SCHED_FIFO => Ok(Policy::Fifo(priority as u8)),
            _ => Ok(Policy::Other),
        }
    }

    pub fn pin(core: usize) -> io::Result<()> {
        let mut set = CpuSet::new();
        if core < CpuSet::MAX_CPU {
            set.set(core);
        }
        Ok(sched_setaffinity(None, &set)?)
    }

    pub fn set_timer_slack() -> io::Result<()> {
        Ok(set_current_timer_slack(NonZeroU64::new(TIMER_SLACK_NS))?)
    }
}

#[cfg(not(target_os = "linux"))]
mod sys {
    use std::io;

    use super::Policy;

    pub fn set_policy(_thread: i32, _policy: Policy) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub fn policy(_thread: i32) -> io::Result<Policy> {
        Ok(Policy::Other)
    }

    pub fn pin(_core: usize) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub fn set_timer_slack() -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use super::*;

    #[test]
    fn a_core_that_does_not_exist_is_refused() {
        let step = std::thread::spawn(|| pin("decode", 100_000)).join().unwrap();
        assert!(!step.is_done(), "{step}");
        assert!(step.to_string().starts_with("decode: core 100000: refused"), "{step}");
    }

    #[test]
    fn a_real_time_thread_starts_ordinary_ones() {
        std::thread::spawn(|| {
            let step = make_real_time("test", 0, 3);
            if !step.is_done() {
                assert!(step.to_string().contains("ulimit -r 3"), "{step}");
                return;
            }
            assert_eq!(policy(0).unwrap(), Policy::Fifo(3));
            let started = std::thread::spawn(|| policy(0).unwrap()).join().unwrap();
            assert_eq!(started, Policy::Other);
            set_policy(0, Policy::Other).unwrap();
            assert_eq!(policy(0).unwrap(), Policy::Other);
        })
        .join()
        .unwrap();
    }

    #[test]
    fn the_timer_slack_is_set() {
        std::thread::spawn(|| {
            set_timer_slack().unwrap();
            assert_eq!(rustix::thread::current_timer_slack().unwrap(), TIMER_SLACK_NS);
        })
        .join()
        .unwrap();
    }
}
