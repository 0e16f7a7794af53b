//! What the system knows of this program's threads.

use std::io;

/// The system's number of the calling thread; 0, which stands for the calling thread, where it gives none.
pub fn current() -> i32 {
    sys::current()
}

/// Processor time that a thread of this program has used, ns.
///
/// # Errors
/// Where it has ended.
pub fn cpu_ns(thread: i32) -> io::Result<u64> {
    sys::cpu_ns(thread)
}

/// Page faults of the calling thread so far: those that waited for a disk, and the others.
pub fn page_faults() -> (u64, u64) {
    sys::page_faults()
}

/// This program's threads; none where the system does not list them.
pub fn all() -> Vec<i32> {
    let Ok(entries) = std::fs::read_dir("/proc/self/task") else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .collect()
}

#[cfg(target_os = "linux")]
mod sys {
    use std::io;

    pub fn current() -> i32 {
        rustix::thread::gettid().as_raw_nonzero().get()
    }

    pub fn cpu_ns(thread: i32) -> io::Result<u64> {
        // The kernel's number of a thread's own clock (`MAKE_THREAD_CPUCLOCK`): the thread's complement, then "of a thread" (4)
        // and "time that it ran" (2).
        let clock = (!thread << 3) | 4 | 2;
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: the call writes `time` and nothing else; a number that is no clock is an error.
        if unsafe { libc::clock_gettime(clock, &raw mut time) } != 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
    }

    pub fn page_faults() -> (u64, u64) {
        // SAFETY: all zeros are numbers.
        let mut used: libc::rusage = unsafe { std::mem::zeroed() };
        // SAFETY: the call writes `used` and nothing else.
        let done = unsafe { libc::getrusage(libc::RUSAGE_THREAD, &raw mut used) };
        if done != 0 {
            return (0, 0);
        }
        (used.ru_majflt as u64, used.ru_minflt as u64)
    }
}

#[cfg(not(target_os = "linux"))]
mod sys {
    use std::io;

    pub fn current() -> i32 {
        0
    }

    pub fn cpu_ns(_thread: i32) -> io::Result<u64> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub fn page_faults() -> (u64, u64) {
        (0, 0)
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn a_threads_time_is_its_own_and_ends_with_it() {
        let (tell, told) = std::sync::mpsc::channel();
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let busy = std::thread::Builder::new()
            .name("busy-for-a-test".into())
            .spawn(move || {
                tell.send(current()).unwrap();
                let _ = ended.recv();
                let since = Instant::now();
                while cpu_ns(current()).unwrap() < 20_000_000 && since.elapsed() < Duration::from_secs(20) {}
                tell.send(current()).unwrap();
                let _ = ended.recv();
            });
        let thread = told.recv().unwrap();
        assert!(cpu_ns(thread).unwrap() < 20_000_000);
        assert!(all().contains(&thread) && all().contains(&current()));
        end.send(()).unwrap();
        told.recv().unwrap();
        assert!(cpu_ns(thread).unwrap() >= 20_000_000);
        drop(end);
        busy.unwrap().join().unwrap();
        let patience = Instant::now();
        while cpu_ns(thread).is_ok() && patience.elapsed() < Duration::from_secs(5) {
            std::thread::yield_now();
        }
        assert!(cpu_ns(thread).is_err() && !all().contains(&thread));
    }
}
