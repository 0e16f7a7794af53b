//! The system calls of one thread, and what the kernel counts of it.
//!
//! A seccomp filter on that thread alone lets the calls of a list pass; of every other one the kernel tells a second thread,
//! which writes it down with the moment at which it came and lets it go on. So nothing is broken, and the end of the thread,
//! which frees and unmaps, needs no exception: its calls carry a later moment. Linux.

use std::fmt;
use std::io;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

/// Stands for: there is no listener yet.
const NONE_YET: RawFd = -1;
/// Stands for: there will be none.
const NEVER: RawFd = -2;

/// Calls that have a name here; the others are known by number.
const NAMES: [(i64, &str); 33] = [
    (libc::SYS_read, "read"),
    (libc::SYS_write, "write"),
    (libc::SYS_writev, "writev"),
    (libc::SYS_close, "close"),
    (libc::SYS_openat, "openat"),
    (libc::SYS_statx, "statx"),
    (libc::SYS_lseek, "lseek"),
    (libc::SYS_ioctl, "ioctl"),
    (libc::SYS_fcntl, "fcntl"),
    (libc::SYS_ppoll, "ppoll"),
    (libc::SYS_epoll_ctl, "epoll_ctl"),
    (libc::SYS_recvfrom, "recvfrom"),
    (libc::SYS_recvmsg, "recvmsg"),
    (libc::SYS_recvmmsg, "recvmmsg"),
    (libc::SYS_sendto, "sendto"),
    (libc::SYS_sendmsg, "sendmsg"),
    (libc::SYS_mmap, "mmap"),
    (libc::SYS_munmap, "munmap"),
    (libc::SYS_mremap, "mremap"),
    (libc::SYS_madvise, "madvise"),
    (libc::SYS_mprotect, "mprotect"),
    (libc::SYS_brk, "brk"),
    (libc::SYS_futex, "futex"),
    (libc::SYS_sched_yield, "sched_yield"),
    (libc::SYS_sched_setaffinity, "sched_setaffinity"),
    (libc::SYS_nanosleep, "nanosleep"),
    (libc::SYS_clock_nanosleep, "clock_nanosleep"),
    (libc::SYS_clock_gettime, "clock_gettime"),
    (libc::SYS_getrusage, "getrusage"),
    (libc::SYS_gettid, "gettid"),
    (libc::SYS_rt_sigprocmask, "rt_sigprocmask"),
    (libc::SYS_sigaltstack, "sigaltstack"),
    (libc::SYS_exit, "exit"),
];

/// A system call's name.
pub fn name_of(number: i64) -> String {
    #[cfg(target_arch = "x86_64")]
    if number == libc::SYS_poll {
        return "poll".into();
    }
    let known = NAMES.iter().find(|(known, _)| *known == number);
    known.map_or_else(|| format!("system call {number}"), |(_, name)| (*name).to_string())
}

/// A call that was not on the list.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Call {
    /// The system's number of it.
    pub number: i64,
    /// What its thread had said last of where it is.
    pub moment: u64,
}

impl fmt::Debug for Call {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at {}", name_of(self.number), self.moment)
    }
}

/// What a thread and whoever watches it share.
#[derive(Debug)]
pub struct Watched {
    listener: AtomicI32,
    moment: AtomicU64,
}

impl Default for Watched {
    fn default() -> Self {
        Self {
            listener: AtomicI32::new(NONE_YET),
            moment: AtomicU64::new(0),
        }
    }
}

impl Watched {
    /// The calling thread is watched from now on, to its end: calls that are not `allowed` are written down. Not twice.
    ///
    /// # Errors
    /// A system that has no such filters, or refuses them.
    pub fn begin(&self, allowed: &[i64]) -> io::Result<()> {
        let listener = sys::install(allowed);
        let known = listener.as_ref().copied().unwrap_or(NEVER);
        self.listener.store(known, Ordering::Release);
        listener.map(|_| ())
    }

    /// The watched thread says where it is.
    pub fn at(&self, moment: u64) {
        self.moment.store(moment, Ordering::Release);
    }

    /// Nobody will be watched: the watcher ends.
    pub fn cancel(&self) {
        let _ = self
            .listener
            .compare_exchange(NONE_YET, NEVER, Ordering::AcqRel, Ordering::Acquire);
    }

    /// Writes down what the watched thread calls, until that ends.
    pub fn watcher(self: &Arc<Self>) -> JoinHandle<Vec<Call>> {
        let watched = Arc::clone(self);
        std::thread::spawn(move || {
            let listener = loop {
                match watched.listener.load(Ordering::Acquire) {
                    NONE_YET => std::thread::sleep(Duration::from_micros(200)),
                    NEVER => return Vec::new(),
                    listener => break listener,
                }
            };
            let mut calls = Vec::new();
            while sys::next_call(listener, || watched.moment.load(Ordering::Acquire), &mut calls) {}
            calls
        })
    }
}

/// What the kernel has counted of a thread.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Page faults that read from a disk.
    pub major_faults: i64,
    /// Other page faults.
    pub minor_faults: i64,
    /// Times that it was taken off its core though it could have gone on.
    pub involuntary: i64,
    /// Times that it waited.
    pub voluntary: i64,
}

impl Usage {
    /// Of the calling thread.
    pub fn now() -> Self {
        sys::usage()
    }

    /// From then to now.
    pub fn since(self, before: Self) -> Self {
        Self {
            major_faults: self.major_faults - before.major_faults,
            minor_faults: self.minor_faults - before.minor_faults,
            involuntary: self.involuntary - before.involuntary,
            voluntary: self.voluntary - before.voluntary,
        }
    }
}

/// Has the calling thread scheduled by SCHED_FIFO at this priority; false where that is refused.
pub fn make_real_time(priority: i32) -> bool {
    sys::make_real_time(priority)
}

mod sys {
    use std::io;
    use std::os::fd::{FromRawFd, OwnedFd, RawFd};

    use super::{Call, Usage};

    fn statement(code: u32, k: u32) -> libc::sock_filter {
        libc::sock_filter {
            code: code as u16,
            jt: 0,
            jf: 0,
            k,
        }
    }

    /// Puts the filter on the calling thread and returns its listener.
    pub fn install(allowed: &[i64]) -> io::Result<RawFd> {
        // The first word of what a filter sees is the call's number.
        let mut program = vec![statement(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0)];
        for (index, &number) in allowed.iter().enumerate() {
            program.push(libc::sock_filter {
                // To the last statement, over the others and the one that tells.
                jt: (allowed.len() - index) as u8,
                ..statement(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, number as u32)
            });
        }
        program.push(statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_USER_NOTIF));
        program.push(statement(libc::BPF_RET | libc::BPF_K, libc::SECCOMP_RET_ALLOW));
        let program = libc::sock_fprog {
            len: program.len() as u16,
            filter: program.as_mut_ptr(),
        };
        // SAFETY: sets a flag of the calling thread; no memory is involved. What it takes from the thread is the right to gain
        // rights by running another program.
        if unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) } != 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel copies the program, which is alive and as long as it says. Without TSYNC the filter is the
        // calling thread's alone; it only allows and tells.
        let listener = unsafe {
            libc::syscall(
                libc::SYS_seccomp,
                libc::SECCOMP_SET_MODE_FILTER,
                libc::SECCOMP_FILTER_FLAG_NEW_LISTENER,
                &raw const program,
            )
        };
        if listener < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(listener as RawFd)
    }

    /// Waits for one call, writes it down and lets it go on; false once the thread has ended (and the listener is closed).
    pub fn next_call(listener: RawFd, moment: impl Fn() -> u64, calls: &mut Vec<Call>) -> bool {
        let mut wait = libc::pollfd {
            fd: listener,
            events: libc::POLLIN,
            revents: 0,
        };
        // SAFETY: one pollfd, alive and the kernel's to write to during the call.
        unsafe { libc::poll(&raw mut wait, 1, -1) };
        if wait.revents & libc::POLLIN == 0 {
            if wait.revents & (libc::POLLHUP | libc::POLLERR | libc::POLLNVAL) != 0 {
                // SAFETY: the listener was made for this watcher, which uses it no more.
                drop(unsafe { OwnedFd::from_raw_fd(listener) });
                return false;
            }
            return true;
        }
        // SAFETY: all zeros are a notification (and the kernel wants them).
        let mut told: libc::seccomp_notif = unsafe { std::mem::zeroed() };
        // SAFETY: the request writes one notification to `told`.
        if unsafe { libc::ioctl(listener, libc::SECCOMP_IOCTL_NOTIF_RECV, &raw mut told) } != 0 {
            return true;
        }
        calls.push(Call {
            number: told.data.nr.into(),
            moment: moment(),
        });
        let mut answer = libc::seccomp_notif_resp {
            id: told.id,
            val: 0,
            error: 0,
            flags: libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32,
        };
        // SAFETY: the request reads one answer. A thread that is gone by now is an error, and needs none.
        unsafe { libc::ioctl(listener, libc::SECCOMP_IOCTL_NOTIF_SEND, &raw mut answer) };
        true
    }

    pub fn make_real_time(priority: i32) -> bool {
        // SAFETY: all zeros are numbers.
        let mut wanted: libc::sched_param = unsafe { std::mem::zeroed() };
        wanted.sched_priority = priority;
        // SAFETY: the call reads `wanted`; thread 0 is the calling one.
        unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const wanted) == 0 }
    }

    pub fn usage() -> Usage {
        // SAFETY: all zeros are numbers.
        let mut used: libc::rusage = unsafe { std::mem::zeroed() };
        // SAFETY: the call writes `used` and nothing else, and does not fail for this argument.
        unsafe { libc::getrusage(libc::RUSAGE_THREAD, &raw mut used) };
        Usage {
            major_faults: used.ru_majflt,
            minor_faults: used.ru_minflt,
            involuntary: used.ru_nivcsw,
            voluntary: used.ru_nvcsw,
        }
    }
}
