//! On which cores threads run, where the system lets a program say so.

#[cfg(target_os = "linux")]
pub use linux::{current_core, current_thread, pin_to, Elsewhere};
#[cfg(not(target_os = "linux"))]
pub use other::{current_core, current_thread, pin_to, Elsewhere};

#[cfg(target_os = "linux")]
mod linux {
    use rustix::thread::{gettid, sched_getaffinity, sched_getcpu, sched_setaffinity, CpuSet};

    /// Asks the system to run this thread on one core; a refusal leaves it where it is.
    pub fn pin_to(core: usize) {
        let mut set = CpuSet::new();
        if core < CpuSet::MAX_CPU {
            set.set(core);
            let _ = sched_setaffinity(None, &set);
        }
    }

    /// The core that this thread runs on just now.
    pub fn current_core() -> usize {
        sched_getcpu()
    }

    /// The system's number of this thread.
    pub fn current_thread() -> Option<i32> {
        Some(gettid().as_raw_nonzero().get())
    }

    /// Keeps one thread off a core that another one needs.
    ///
    /// A thread that is woken may be put on the core of the one that wakes it, even if others are idle (Linux looks for
    /// those only among cores that share a cache, and virtual machines often show none that do). The two then take turns
    /// of milliseconds.
    pub struct Elsewhere {
        /// Cores of the thread before any was taken away; `None` if the system does not say.
        allowed: Option<CpuSet>,
        avoided: usize,
    }

    impl Elsewhere {
        /// For the calling thread, which stays where it is for now.
        pub fn new() -> Self {
            Elsewhere {
                allowed: sched_getaffinity(None).ok(),
                avoided: usize::MAX,
            }
        }

        /// Keeps the calling thread off `core` from now on, and no longer off another; a system call if that is a change.
        /// With no other core, or if the system refuses, nothing changes.
        pub fn avoid(&mut self, core: usize) {
            let Some(allowed) = self.allowed.as_ref().filter(|_| core != self.avoided) else {
                return;
            };
            self.avoided = core;
            let mut set = *allowed;
            if core < CpuSet::MAX_CPU {
                set.unset(core);
            }
            if set.count() > 0 {
                let _ = sched_setaffinity(None, &set);
            }
        }
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn a_thread_leaves_the_core_it_avoids_and_only_that() {
            let outcome = std::thread::spawn(|| {
                let before = sched_getaffinity(None).expect("Linux says where a thread may run");
                if before.count() < 2 {
                    println!("skipped: this process has a single core");
                    return;
                }
                let mut elsewhere = Elsewhere::new();
                for core in (0..CpuSet::MAX_CPU).filter(|&core| before.is_set(core)) {
                    elsewhere.avoid(core);
                    let now = sched_getaffinity(None).expect("Linux says where a thread may run");
                    assert!(!now.is_set(core) && now.count() == before.count() - 1);
                    assert_ne!(current_core(), core);
                }
                elsewhere.avoid(usize::MAX);
                assert_eq!(sched_getaffinity(None).map(|set| set.count()), Ok(before.count()));
            });
            outcome.join().expect("no assertion failed");
        }

        #[test]
        fn a_thread_with_one_core_keeps_it() {
            let outcome = std::thread::spawn(|| {
                pin_to(current_core());
                let mut elsewhere = Elsewhere::new();
                elsewhere.avoid(current_core());
                assert_eq!(sched_getaffinity(None).map(|set| set.count()), Ok(1));
            });
            outcome.join().expect("no assertion failed");
        }
    }
}

#[cfg(not(target_os = "linux"))]
mod other {
    /// Other systems place threads themselves.
    pub fn pin_to(_core: usize) {}

    /// No core is known.
    pub fn current_core() -> usize {
        usize::MAX
    }

    /// No number is known.
    pub fn current_thread() -> Option<i32> {
        None
    }

    /// Other systems place threads themselves.
    pub struct Elsewhere;

    impl Elsewhere {
        /// For the calling thread.
        pub fn new() -> Self {
            Elsewhere
        }
        /// Changes nothing.
        pub fn avoid(&mut self, _core: usize) {}
    }
}
