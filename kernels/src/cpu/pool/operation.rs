//! How an operation reaches a pool's threads, and how its caller learns that all of it is done.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;

use super::sharing::{Flag, Number, Place, Sharing};

/// Looks of a caller that waits for others' parts between two times that it lets other threads run.
const LOOKS_A_YIELD: u32 = 4096;

type Job = *const (dyn Fn(usize) + Sync);

/// What a caller and its workers share.
pub struct Shared<S: Sharing> {
    /// Number of the operation in the upper half, next part that nobody has taken in the lower. A part can be taken only
    /// while its operation's caller still waits for it.
    state: S::Number,
    /// Parts of an operation.
    parts: u32,
    /// The operation; written while no part is taken.
    job: S::Place<Option<Job>>,
    /// Parts that are done.
    done: S::Number,
    /// Set when a part panicked.
    panicked: S::Flag,
    shutdown: S::Flag,
    parked: Vec<S::Flag>,
    /// Core that the caller last began an operation on, to stay off it: a hint.
    pub caller_core: AtomicUsize,
}

// SAFETY: `job` is written by the caller only after every part of the last operation is done, and read only by who has taken
// a part, which happens after the write (Release on `state`, Acquire when taking).
unsafe impl<S: Sharing> Sync for Shared<S> {}
// SAFETY: the pointer in `job` is to a `Sync` closure that outlives the operation, see `Caller::run`.
unsafe impl<S: Sharing> Send for Shared<S> {}

/// How long a worker that has nothing to do spins.
pub trait Patience {
    /// It has nothing to do from now on.
    fn begin(&mut self);
    /// Whether it has spun for long enough; it parks where this says so.
    fn is_over(&mut self) -> bool;
}

impl<S: Sharing> Shared<S> {
    /// For a caller and so many workers.
    pub fn new(workers: usize, caller_core: usize) -> Self {
        Self {
            state: S::Number::new(0),
            parts: workers as u32 + 1,
            job: S::Place::new(None),
            done: S::Number::new(0),
            panicked: S::Flag::new(),
            shutdown: S::Flag::new(),
            parked: (0..workers).map(|_| S::Flag::new()).collect(),
            caller_core: AtomicUsize::new(caller_core),
        }
    }

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
            // SAFETY: a part of this operation is taken and not done, so `job` is this operation's and nobody writes it.
            let job = unsafe { self.job.get() };
            // SAFETY: and what it points to outlives it.
            let job = unsafe { job.map(|job| &*job) };
            let went_well = S::went_well(|| {
                if let Some(job) = job {
                    job(part);
                }
            });
            if !went_well {
                self.panicked.store(true, Ordering::Relaxed);
            }
            self.done.fetch_add(1, Ordering::Release);
        }
    }

    /// A worker's life: helps with one operation after the other until the caller is done with it.
    pub fn work(&self, worker: usize, mut patience: impl Patience) {
        let mut seen = 0;
        loop {
            seen = self.wait(worker, seen, &mut patience);
            // Stored before the number that has been seen.
            if self.shutdown.load(Ordering::Relaxed) {
                return;
            }
            self.help(seen);
        }
    }

    /// Returns the next operation's number after `seen`.
    fn wait(&self, worker: usize, seen: u32, patience: &mut impl Patience) -> u32 {
        let epoch = |order| (self.state.load(order) >> 32) as u32;
        patience.begin();
        loop {
            for _ in 0..S::SPINS_A_LOOK {
                let now = epoch(Ordering::Acquire);
                if now != seen {
                    return now;
                }
                S::spin();
            }
            if patience.is_over() {
                self.parked[worker].store(true, Ordering::SeqCst);
                while epoch(Ordering::SeqCst) == seen {
                    S::park();
                }
                self.parked[worker].store(false, Ordering::SeqCst);
            }
        }
    }
}

/// The caller's end.
pub struct Caller<S: Sharing> {
    shared: Arc<Shared<S>>,
    epoch: u32,
    workers: Vec<S::Thread>,
}

impl<S: Sharing> Caller<S> {
    /// `workers` are the threads that [`Shared::work`], in their order.
    pub fn new(shared: Arc<Shared<S>>, workers: Vec<S::Thread>) -> Self {
        Self {
            shared,
            epoch: 0,
            workers,
        }
    }

    /// What it shares with them.
    pub fn shared(&self) -> &Shared<S> {
        &self.shared
    }

    /// Calls `job(part)` once for every part and returns when all are done; false where one has panicked, now or before.
    pub fn run(&mut self, job: &(dyn Fn(usize) + Sync)) -> bool {
        let shared = &*self.shared;
        // SAFETY: the lifetime is erased, but this function does not return before every part is done, and none can be taken
        // afterwards.
        let job = unsafe { std::mem::transmute::<&(dyn Fn(usize) + Sync), Job>(job) };
        // SAFETY: every part of the last operation is done (the last call waited), so nobody reads `job`.
        unsafe { shared.job.set(Some(job)) };
        shared.done.store(0, Ordering::Relaxed);
        self.epoch = self.epoch.wrapping_add(1);
        // SeqCst: either a worker that is about to park sees this, or we see that it parked.
        shared.state.store(u64::from(self.epoch) << 32, Ordering::SeqCst);
        for (parked, worker) in shared.parked.iter().zip(&self.workers) {
            if parked.load(Ordering::SeqCst) {
                S::unpark(worker);
            }
        }
        shared.help(self.epoch);
        let mut looks = 0u32;
        while shared.done.load(Ordering::Acquire) != u64::from(shared.parts) {
            looks += 1;
            // More threads than cores: let the others run.
            if looks.is_multiple_of(LOOKS_A_YIELD) {
                S::yield_now();
            }
            S::spin();
        }
        !shared.panicked.load(Ordering::Relaxed)
    }

    /// Ends the workers.
    pub fn close(&mut self) {
        let shared = &*self.shared;
        shared.shutdown.store(true, Ordering::Relaxed);
        self.epoch = self.epoch.wrapping_add(1);
        // An operation without parts.
        let state = u64::from(self.epoch) << 32 | u64::from(shared.parts);
        shared.state.store(state, Ordering::SeqCst);
        self.workers.iter().for_each(S::unpark);
    }
}
