//! No huge pages made behind a thread's back.
//!
//! The kernel puts pages together into huge ones while a program runs; whoever touches them meanwhile waits. Huge pages that
//! are there stay.

use super::report::Step;

const WHAT: &str = "no huge pages made from now on";

/// Turns them off (or back on) for this program.
pub fn turn_off(off: bool) -> Step {
    match sys::turn_off(off) {
        Ok(()) => Step::done(WHAT, ""),
        Err(error) => Step::refused(
            WHAT,
            error,
            "`echo madvise > /sys/kernel/mm/transparent_hugepage/enabled`",
        ),
    }
}

/// Whether they are off for this program.
pub fn are_off() -> bool {
    sys::are_off()
}

#[cfg(target_os = "linux")]
mod sys {
    use std::io;

    pub fn turn_off(off: bool) -> io::Result<()> {
        Ok(rustix::thread::disable_transparent_huge_pages(off)?)
    }

    pub fn are_off() -> bool {
        rustix::thread::transparent_huge_pages_are_disabled().unwrap_or(false)
    }
}

#[cfg(not(target_os = "linux"))]
mod sys {
    use std::io;

    pub fn turn_off(_off: bool) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub fn are_off() -> bool {
        false
    }
}
