//! A fixed set of threads that share one operation at a time.
//!
//! The caller is thread 0. Workers spin while operations follow each other, so that handing one over costs well under a
//! microsecond, and park after [`SPIN`] without one, so that they leave the cores alone between bins. Nothing allocates
//! after [`Pool::new`]; waking a parked worker is one system call.

use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::Arc;
use std::thread::{JoinHandle, Thread};
use std::time::{Duration, Instant};

/// How long a worker spins for the next operation before it parks.
const SPIN: Duration = Duration::from_micros(150);

/// Spins between two looks at the clock.
const SPINS_A_LOOK: u32 = 128;

type Job = *const (dyn Fn(usize) + Sync);

struct Shared {
    /// Counts operations; a change is the signal to start.
    epoch: AtomicUsize,
    /// The operation, valid from a change of `epoch` until `running` is zero.
    job: UnsafeCell<Option<Job>>,
    /// Workers that have not finished it.
    running: AtomicUsize,
    /// Set when a worker panicked.
    panicked: AtomicBool,
    shutdown: AtomicBool,
    parked: Vec<AtomicBool>,
}

// SAFETY: `job` is written by the caller only while no worker runs (`running` is zero) and read by workers only after they
// saw `epoch` change with Acquire, which the caller stored with Release after writing it.
unsafe impl Sync for Shared {}
// SAFETY: the pointer in `job` is to a `Sync` closure that outlives the operation, see `Pool::run`.
unsafe impl Send for Shared {}

/// The threads.
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    handles: Vec<Thread>,
}

impl Pool {
    /// `threads` threads, the calling one included; with `cores` worker `i` runs on `cores[i % cores.len()]` where the
    /// system allows it.
    pub fn new(threads: usize, cores: Option<&[usize]>) -> Self {
        let count = threads.max(1) - 1;
        let shared = Arc::new(Shared {
            epoch: AtomicUsize::new(0),
            job: UnsafeCell::new(None),
            running: AtomicUsize::new(0),
            panicked: AtomicBool::new(false),
            shutdown: AtomicBool::new(false),
            parked: (0..count).map(|_| AtomicBool::new(false)).collect(),
        });
        let workers: Vec<_> = (0..count)
            .map(|worker| {
                let shared = Arc::clone(&shared);
                let core = cores
                    .filter(|cores| !cores.is_empty())
                    .map(|cores| cores[(worker + 1) % cores.len()]);
                std::thread::Builder::new()
                    .name(format!("kernels-{}", worker + 1))
                    .spawn(move || {
                        if let Some(core) = core {
                            pin_to(core);
                        }
                        work(&shared, worker);
                    })
                    .expect("the system starts a thread")
            })
            .collect();
        let handles = workers.iter().map(|worker| worker.thread().clone()).collect();
        Pool {
            shared,
            workers,
            handles,
        }
    }

    /// Number of threads, the calling one included.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Calls `job(thread)` once on every thread and returns when all are done.
    pub fn run(&mut self, job: &(dyn Fn(usize) + Sync)) {
        if self.workers.is_empty() {
            return job(0);
        }
        let shared = &*self.shared;
        // SAFETY: no worker runs (the last call waited for all of them), so nobody reads `job`. The lifetime is erased, but
        // this function does not return before every worker has finished with it.
        unsafe {
            *shared.job.get() = Some(std::mem::transmute::<&(dyn Fn(usize) + Sync), Job>(job));
        }
        shared.running.store(self.workers.len(), Ordering::Relaxed);
        // SeqCst: either a worker that is about to park sees this, or we see that it parked.
        shared.epoch.fetch_add(1, Ordering::SeqCst);
        for (parked, handle) in shared.parked.iter().zip(&self.handles) {
            if parked.load(Ordering::SeqCst) {
                handle.unpark();
            }
        }
        let own = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| job(0)));
        let mut spins = 0u32;
        while shared.running.load(Ordering::Acquire) != 0 {
            spins += 1;
            // More threads than cores: let the others run.
            if spins % 4096 == 0 {
                std::thread::yield_now();
            }
            std::hint::spin_loop();
        }
        if let Err(panic) = own {
            std::panic::resume_unwind(panic);
        }
        assert!(!shared.panicked.load(Ordering::Relaxed), "a worker thread panicked");
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.shutdown.store(true, Ordering::SeqCst);
        self.shared.epoch.fetch_add(1, Ordering::SeqCst);
        self.handles.iter().for_each(Thread::unpark);
        for worker in self.workers.drain(..) {
            // A worker's panic was reported where the operation ran.
            let _ = worker.join();
        }
    }
}

fn work(shared: &Shared, worker: usize) {
    let mut seen = 0;
    loop {
        seen = wait(shared, worker, seen);
        if shared.shutdown.load(Ordering::SeqCst) {
            return;
        }
        // SAFETY: `epoch` changed and this worker has not finished the operation, so `job` is set and outlives it.
        let job = unsafe { (*shared.job.get()).map(|job| &*job) };
        if let Some(job) = job {
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| job(worker + 1)));
            if outcome.is_err() {
                shared.panicked.store(true, Ordering::Relaxed);
            }
        }
        shared.running.fetch_sub(1, Ordering::Release);
    }
}

/// Returns the next epoch after `seen`.
fn wait(shared: &Shared, worker: usize, seen: usize) -> usize {
    let start = Instant::now();
    loop {
        for _ in 0..SPINS_A_LOOK {
            let epoch = shared.epoch.load(Ordering::Acquire);
            if epoch != seen {
                return epoch;
            }
            std::hint::spin_loop();
        }
        if start.elapsed() > SPIN {
            shared.parked[worker].store(true, Ordering::SeqCst);
            while shared.epoch.load(Ordering::SeqCst) == seen {
                std::thread::park();
            }
            shared.parked[worker].store(false, Ordering::SeqCst);
        }
    }
}

/// Asks the system to run this thread on one core; a refusal leaves it where it is.
#[cfg(target_os = "linux")]
pub fn pin_to(core: usize) {
    let mut set = rustix::thread::CpuSet::new();
    if core < rustix::thread::CpuSet::MAX_CPU {
        set.set(core);
        let _ = rustix::thread::sched_setaffinity(None, &set);
    }
}

/// Other systems place threads themselves.
#[cfg(not(target_os = "linux"))]
pub fn pin_to(_core: usize) {}

/// The part of `0 .. count` that falls to `thread` of `threads`, contiguous.
pub fn share(count: usize, thread: usize, threads: usize) -> std::ops::Range<usize> {
    count * thread / threads..count * (thread + 1) / threads
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicU64;

    #[test]
    fn every_thread_runs_every_job_once() {
        for threads in [1, 2, 3, 5] {
            let mut pool = Pool::new(threads, None);
            let counts: Vec<AtomicU64> = (0..threads).map(|_| AtomicU64::new(0)).collect();
            for round in 0..2000 {
                pool.run(&|thread| {
                    counts[thread].fetch_add(1, Ordering::Relaxed);
                });
                if round % 500 == 0 {
                    // Long enough for the workers to park.
                    std::thread::sleep(Duration::from_millis(2));
                }
                let total: u64 = counts.iter().map(|count| count.load(Ordering::Relaxed)).sum();
                assert_eq!(total, (round + 1) * threads as u64);
            }
        }
    }

    #[test]
    fn a_panic_on_a_worker_reaches_the_caller() {
        let mut pool = Pool::new(2, None);
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            pool.run(&|thread| assert_eq!(thread, 0, "only thread 0 lives"));
        }));
        assert!(outcome.is_err());
    }

    #[test]
    fn shares_cover_everything_once() {
        for count in [0, 1, 7, 320] {
            for threads in 1..6 {
                let all: Vec<usize> = (0..threads).flat_map(|thread| share(count, thread, threads)).collect();
                assert_eq!(all, (0..count).collect::<Vec<_>>());
            }
        }
    }
}
