//! A fixed set of threads that share one operation at a time.
//!
//! An operation has as many parts as there are threads. Whoever is free takes the next part: the caller never waits for a
//! worker that the system has not let run (it is waking up, or another program has its core), it does that part itself.
//! Workers spin while operations follow each other, so that handing one over costs well under a microsecond, and park after
//! [`SPIN`] without one, so that they leave the cores alone between bins. Nothing allocates after [`Pool::new`]; waking a
//! parked worker is one system call.

use std::cell::UnsafeCell;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::Arc;
use std::thread::{JoinHandle, Thread};
use std::time::{Duration, Instant};

pub use super::place::pin_to;
use super::place::{current_core, current_thread, Elsewhere};

/// How long a worker spins for the next operation before it parks.
const SPIN: Duration = Duration::from_micros(150);

/// Spins between two looks at the clock.
const SPINS_A_LOOK: u32 = 128;

type Job = *const (dyn Fn(usize) + Sync);

struct Shared {
    /// Number of the operation in the upper half, next part that nobody has taken in the lower. A part can be taken only
    /// while its operation's caller still waits for it.
    state: AtomicU64,
    /// Parts of an operation.
    parts: u32,
    /// The operation; written while no part is taken.
    job: UnsafeCell<Option<Job>>,
    /// Parts that are done.
    done: AtomicU32,
    /// Set when a worker panicked.
    panicked: AtomicBool,
    shutdown: AtomicBool,
    parked: Vec<AtomicBool>,
    /// Core that the caller last began an operation on, to stay off it.
    caller_core: AtomicUsize,
}

// SAFETY: `job` is written by the caller only after every part of the last operation is done, and read only by who has taken
// a part, which happens after the write (Release on `state`, Acquire when taking).
unsafe impl Sync for Shared {}
// SAFETY: the pointer in `job` is to a `Sync` closure that outlives the operation, see `Pool::run`.
unsafe impl Send for Shared {}

impl Shared {
    /// Takes the next part of operation `epoch`, if there is one.
    fn take(&self, epoch: u32) -> Option<usize> {
        let mut state = self.state.load(Ordering::Acquire);
        loop {
            let next = state as u32;
            if (state >> 32) as u32 != epoch || next >= self.parts {
                return None;
            }
            match self
                .state
                .compare_exchange_weak(state, state + 1, Ordering::AcqRel, Ordering::Acquire)
            {
                Ok(_) => return Some(next as usize),
                Err(now) => state = now,
            }
        }
    }

    /// Takes and does parts of operation `epoch` until none is left.
    fn help(&self, epoch: u32) {
        while let Some(part) = self.take(epoch) {
            // SAFETY: a part of this operation is taken and not done, so `job` is this operation's and outlives it.
            let job = unsafe { (*self.job.get()).map(|job| &*job) };
            let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                if let Some(job) = job {
                    job(part);
                }
            }));
            if outcome.is_err() {
                self.panicked.store(true, Ordering::Relaxed);
            }
            self.done.fetch_add(1, Ordering::Release);
        }
    }
}

/// The threads.
pub struct Pool {
    shared: Arc<Shared>,
    epoch: u32,
    workers: Vec<JoinHandle<()>>,
    handles: Vec<Thread>,
    /// The system's numbers of the workers.
    ids: Vec<i32>,
}

impl Pool {
    /// `threads` threads, the calling one included; with `cores` worker `i` runs on `cores[i % cores.len()]` where the
    /// system allows it. Without, workers run wherever this thread may, but do not wake up on the core of the caller.
    pub fn new(threads: usize, cores: Option<&[usize]>) -> Self {
        let count = threads.max(1) - 1;
        let shared = Arc::new(Shared {
            state: AtomicU64::new(0),
            parts: count as u32 + 1,
            job: UnsafeCell::new(None),
            done: AtomicU32::new(0),
            panicked: AtomicBool::new(false),
            shutdown: AtomicBool::new(false),
            parked: (0..count).map(|_| AtomicBool::new(false)).collect(),
            caller_core: AtomicUsize::new(current_core()),
        });
        let (tell, told) = std::sync::mpsc::channel();
        let workers: Vec<_> = (0..count)
            .map(|worker| {
                let tell = tell.clone();
                let shared = Arc::clone(&shared);
                let core = cores
                    .filter(|cores| !cores.is_empty())
                    .map(|cores| cores[(worker + 1) % cores.len()]);
                std::thread::Builder::new()
                    .name(format!("kernels-{}", worker + 1))
                    .spawn(move || {
                        // Whoever asked has waited for it: the channel is open.
                        let _ = tell.send(current_thread());
                        drop(tell);
                        let place = match core {
                            Some(core) => {
                                pin_to(core);
                                None
                            }
                            None => Some(Elsewhere::new()),
                        };
                        work(&shared, worker, place);
                    })
                    .expect("the system starts a thread")
            })
            .collect();
        drop(tell);
        let ids = told.into_iter().flatten().collect();
        let handles = workers.iter().map(|worker| worker.thread().clone()).collect();
        Pool {
            shared,
            epoch: 0,
            workers,
            handles,
            ids,
        }
    }

    /// The system's numbers of the threads beside the calling one, where it gives them: for whoever schedules them as it
    /// schedules the caller, which spins for the parts that they have taken.
    pub fn worker_ids(&self) -> &[i32] {
        &self.ids
    }

    /// Number of threads, the calling one included, and of parts of an operation.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// Calls `job(part)` once for every part and returns when all are done.
    pub fn run(&mut self, job: &(dyn Fn(usize) + Sync)) {
        if self.workers.is_empty() {
            return job(0);
        }
        let shared = &*self.shared;
        // SAFETY: every part of the last operation is done (the last call waited), so nobody reads `job`. The lifetime is
        // erased, but this function does not return before every part is done, and none can be taken afterwards.
        unsafe {
            *shared.job.get() = Some(std::mem::transmute::<&(dyn Fn(usize) + Sync), Job>(job));
        }
        shared.done.store(0, Ordering::Relaxed);
        shared.caller_core.store(current_core(), Ordering::Relaxed);
        self.epoch = self.epoch.wrapping_add(1);
        // SeqCst: either a worker that is about to park sees this, or we see that it parked.
        shared.state.store(u64::from(self.epoch) << 32, Ordering::SeqCst);
        for (parked, handle) in shared.parked.iter().zip(&self.handles) {
            if parked.load(Ordering::SeqCst) {
                handle.unpark();
            }
        }
        shared.help(self.epoch);
        let mut spins = 0u32;
        while shared.done.load(Ordering::Acquire) != shared.parts {
            spins += 1;
            // More threads than cores: let the others run.
            if spins.is_multiple_of(4096) {
                std::thread::yield_now();
            }
            std::hint::spin_loop();
        }
        assert!(
            !shared.panicked.load(Ordering::Relaxed),
            "a part of an operation panicked"
        );
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.shared.shutdown.store(true, Ordering::SeqCst);
        let no_part = u64::from(self.shared.parts);
        self.shared
            .state
            .store(u64::from(self.epoch.wrapping_add(1)) << 32 | no_part, Ordering::SeqCst);
        self.handles.iter().for_each(Thread::unpark);
        for worker in self.workers.drain(..) {
            // A worker's panic was reported where the operation ran.
            let _ = worker.join();
        }
    }
}

fn work(shared: &Shared, worker: usize, mut place: Option<Elsewhere>) {
    let mut seen = 0;
    loop {
        seen = wait(shared, worker, seen, &mut place);
        if shared.shutdown.load(Ordering::SeqCst) {
            return;
        }
        shared.help(seen);
    }
}

/// Returns the next operation's number after `seen`. A worker without a core of its own moves off the caller's before it
/// parks, when nobody waits for it.
fn wait(shared: &Shared, worker: usize, seen: u32, place: &mut Option<Elsewhere>) -> u32 {
    let epoch = |order| (shared.state.load(order) >> 32) as u32;
    let start = Instant::now();
    loop {
        for _ in 0..SPINS_A_LOOK {
            let now = epoch(Ordering::Acquire);
            if now != seen {
                return now;
            }
            std::hint::spin_loop();
        }
        if start.elapsed() > SPIN {
            if let Some(place) = place {
                place.avoid(shared.caller_core.load(Ordering::Relaxed));
            }
            shared.parked[worker].store(true, Ordering::SeqCst);
            while epoch(Ordering::SeqCst) == seen {
                std::thread::park();
            }
            shared.parked[worker].store(false, Ordering::SeqCst);
        }
    }
}

/// The part of `0 .. count` that falls to `thread` of `threads`, contiguous.
pub fn share(count: usize, thread: usize, threads: usize) -> std::ops::Range<usize> {
    count * thread / threads..count * (thread + 1) / threads
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_part_is_done_once() {
        for threads in [1, 2, 3, 5] {
            let mut pool = Pool::new(threads, None);
            let counts: Vec<AtomicU64> = (0..threads).map(|_| AtomicU64::new(0)).collect();
            for round in 0..20_000 {
                pool.run(&|part| {
                    counts[part].fetch_add(1, Ordering::Relaxed);
                });
                if round % 4000 == 0 {
                    // Long enough for the workers to park.
                    std::thread::sleep(Duration::from_millis(2));
                }
                assert!(counts.iter().all(|count| count.load(Ordering::Relaxed) == round + 1));
            }
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_worker_that_parked_wakes_up_off_the_callers_core() {
        let caller = || {
            let mut pool = Pool::new(2, None);
            let core = current_core();
            pin_to(core);
            let worker_core = AtomicUsize::new(usize::MAX);
            let here = std::thread::current().id();
            for _ in 0..20 {
                let begun = AtomicU32::new(0);
                pool.run(&|_| {
                    if std::thread::current().id() != here {
                        worker_core.store(current_core(), Ordering::Relaxed);
                    }
                    // Nobody does both parts.
                    begun.fetch_add(1, Ordering::Relaxed);
                    while begun.load(Ordering::Relaxed) < 2 {
                        std::thread::yield_now();
                    }
                });
                // Longer than a worker spins.
                std::thread::sleep(Duration::from_millis(2));
            }
            assert_ne!(worker_core.load(Ordering::Relaxed), core);
        };
        if std::thread::available_parallelism().is_ok_and(|cores| cores.get() < 2) {
            println!("skipped: this process has a single core");
            return;
        }
        std::thread::spawn(caller).join().expect("no assertion failed");
    }

    #[test]
    fn a_panic_in_a_part_reaches_the_caller() {
        let mut pool = Pool::new(2, None);
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            pool.run(&|part| assert_eq!(part, 0, "only part 0 goes well"));
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
