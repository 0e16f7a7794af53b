//! A fixed set of threads that share one operation at a time.
//!
//! An operation has as many parts as there are threads. Whoever is free takes the next part: the caller never waits for a
//! worker that the system has not let run (it is waking up, or another program has its core), it does that part itself.
//! Workers spin while operations follow each other, so that handing one over costs well under a microsecond, and park after
//! [`SPIN`] without one, so that they leave the cores alone between bins. Nothing allocates after [`Pool::new`]; waking a
//! parked worker is one system call.

mod operation;
mod sharing;

#[cfg(test)]
mod models;

use std::sync::atomic::Ordering;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

pub use super::place::pin_to;
use super::place::{current_core, current_thread, Elsewhere};
use operation::{Caller, Patience, Shared};
use sharing::Real;

/// How long a worker spins for the next operation before it parks.
const SPIN: Duration = Duration::from_micros(150);

/// The threads.
pub struct Pool {
    caller: Caller<Real>,
    workers: Vec<JoinHandle<()>>,
    /// The system's numbers of the workers.
    ids: Vec<i32>,
}

impl Pool {
    /// `threads` threads, the calling one included; with `cores` worker `i` runs on `cores[i % cores.len()]` where the
    /// system allows it. Without, workers run wherever this thread may, but do not wake up on the core of the caller.
    pub fn new(threads: usize, cores: Option<&[usize]>) -> Self {
        let count = threads.max(1) - 1;
        let shared = Arc::new(Shared::new(count, current_core()));
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
                        let spin = Spin {
                            shared: &shared,
                            place,
                            since: Instant::now(),
                        };
                        shared.work(worker, spin);
                    })
                    .expect("the system starts a thread")
            })
            .collect();
        drop(tell);
        let ids = told.into_iter().flatten().collect();
        let handles = workers.iter().map(|worker| worker.thread().clone()).collect();
        Pool {
            caller: Caller::new(shared, handles),
            workers,
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
        self.caller
            .shared()
            .caller_core
            .store(current_core(), Ordering::Relaxed);
        assert!(self.caller.run(job), "a part of an operation panicked");
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.caller.close();
        for worker in self.workers.drain(..) {
            // A worker's panic was reported where the operation ran.
            let _ = worker.join();
        }
    }
}

/// A worker spins for [`SPIN`]. One without a core of its own moves off the caller's before it parks, when nobody waits for it.
struct Spin<'a> {
    shared: &'a Shared<Real>,
    place: Option<Elsewhere>,
    since: Instant,
}

impl Patience for Spin<'_> {
    fn begin(&mut self) {
        self.since = Instant::now();
    }

    fn is_over(&mut self) -> bool {
        let over = self.since.elapsed() > SPIN;
        if let (true, Some(place)) = (over, &mut self.place) {
            place.avoid(self.shared.caller_core.load(Ordering::Relaxed));
        }
        over
    }
}

/// The part of `0 .. count` that falls to `thread` of `threads`, contiguous.
pub fn share(count: usize, thread: usize, threads: usize) -> std::ops::Range<usize> {
    count * thread / threads..count * (thread + 1) / threads
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize};

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
