//! Models of how a pool's threads share operations: every order of their steps and every value that the memory model lets them see,
//! by loom, through the code that a pool runs.

use std::cell::Cell;
use std::panic::{catch_unwind, resume_unwind, AssertUnwindSafe};
use std::sync::atomic::Ordering;
use std::sync::Arc;

use loom::sync::atomic::{AtomicBool, AtomicU64};
use loom::thread::{JoinHandle, Thread};

use super::operation::{Caller, Patience, Shared};
use super::sharing::{Flag, Number, Place, Sharing};

/// How strong atomic operations are.
#[derive(Clone, Copy, PartialEq)]
enum Strength {
    AsAsked,
    /// As strong as they are asked to be, but none is one of a single order of all.
    WithoutOneOrder,
    Relaxed,
    /// What reads and writes does so in two steps.
    Torn,
}

thread_local! {
    /// A model's threads are one thread of the system.
    static STRENGTH: Cell<Strength> = const { Cell::new(Strength::AsAsked) };
}

fn order(asked: Ordering) -> Ordering {
    match (STRENGTH.get(), asked) {
        (Strength::Relaxed, _) => Ordering::Relaxed,
        _ => asked,
    }
}

/// Loom knows the single order of all from fences alone: one after every such store and one before every such load.
fn fence(asked: Ordering) {
    if asked == Ordering::SeqCst && matches!(STRENGTH.get(), Strength::AsAsked | Strength::Torn) {
        loom::sync::atomic::fence(Ordering::SeqCst);
    }
}

fn load_order(asked: Ordering) -> Ordering {
    match order(asked) {
        Ordering::SeqCst => Ordering::Acquire,
        asked => asked,
    }
}

fn store_order(asked: Ordering) -> Ordering {
    match order(asked) {
        Ordering::SeqCst => Ordering::Release,
        asked => asked,
    }
}

/// Runs a model; a schedule may take a thread off its core so many times.
fn check(strength: Strength, preemptions: usize, threads: impl Fn() + Sync + Send + 'static) {
    STRENGTH.set(strength);
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(threads);
}

struct Modelled;

/// What a part panics with.
struct PartPanicked;

impl Number for AtomicU64 {
    fn new(value: u64) -> Self {
        AtomicU64::new(value)
    }
    fn load(&self, asked: Ordering) -> u64 {
        fence(asked);
        AtomicU64::load(self, load_order(asked))
    }
    fn store(&self, value: u64, asked: Ordering) {
        AtomicU64::store(self, value, store_order(asked));
        fence(asked);
    }
    fn fetch_add(&self, value: u64, asked: Ordering) -> u64 {
        AtomicU64::fetch_add(self, value, order(asked))
    }
    fn compare_exchange_weak(&self, now: u64, new: u64, done: Ordering, failed: Ordering) -> Result<u64, u64> {
        if STRENGTH.get() != Strength::Torn {
            return AtomicU64::compare_exchange_weak(self, now, new, order(done), order(failed));
        }
        match AtomicU64::load(self, Ordering::Acquire) {
            read if read == now => {
                AtomicU64::store(self, new, Ordering::Release);
                Ok(read)
            }
            read => Err(read),
        }
    }
}

impl Flag for AtomicBool {
    fn new() -> Self {
        AtomicBool::new(false)
    }
    fn load(&self, asked: Ordering) -> bool {
        fence(asked);
        AtomicBool::load(self, load_order(asked))
    }
    fn store(&self, value: bool, asked: Ordering) {
        AtomicBool::store(self, value, store_order(asked));
        fence(asked);
    }
}

/// Loom reports it where one thread reads or writes it while another may be writing it.
struct ModelPlace<T>(loom::cell::UnsafeCell<T>);

// SAFETY: the model's threads take turns on one thread of the system.
unsafe impl<T> Sync for ModelPlace<T> {}

impl<T: Copy> Place<T> for ModelPlace<T> {
    fn new(value: T) -> Self {
        Self(loom::cell::UnsafeCell::new(value))
    }
    unsafe fn get(&self) -> T {
        // SAFETY: nobody writes meanwhile, which loom checks.
        self.0.with(|value| unsafe { *value })
    }
    unsafe fn set(&self, value: T) {
        // SAFETY: nobody reads or writes meanwhile, which loom checks.
        self.0.with_mut(|place| unsafe { *place = value });
    }
}

impl Sharing for Modelled {
    type Number = AtomicU64;
    type Flag = AtomicBool;
    type Place<T: Copy> = ModelPlace<T>;
    type Thread = Thread;
    const SPINS_A_LOOK: u32 = 1;

    fn park() {
        loom::thread::park();
    }
    fn unpark(thread: &Thread) {
        thread.unpark();
    }
    fn spin() {
        loom::thread::yield_now();
    }
    fn yield_now() {
        loom::thread::yield_now();
    }
    fn went_well(part: impl FnOnce()) -> bool {
        match catch_unwind(AssertUnwindSafe(part)) {
            Ok(()) => true,
            Err(panic) if panic.is::<PartPanicked>() => false,
            // The model checker's.
            Err(panic) => resume_unwind(panic),
        }
    }
}

/// Whether a worker parks where it finds nothing to do, or spins.
#[derive(Clone, Copy)]
enum Idle {
    Parks,
    Spins,
}

impl Patience for Idle {
    fn begin(&mut self) {}
    fn is_over(&mut self) -> bool {
        matches!(self, Idle::Parks)
    }
}

/// A caller and so many workers.
fn crew(workers: usize, idle: Idle) -> (Caller<Modelled>, Vec<JoinHandle<()>>) {
    let shared = Arc::new(Shared::new(workers, 0));
    let threads: Vec<_> = (0..workers)
        .map(|worker| {
            let shared = shared.clone();
            loom::thread::spawn(move || shared.work(worker, idle))
        })
        .collect();
    let handles = threads.iter().map(|thread| thread.thread().clone()).collect();
    (Caller::new(shared, handles), threads)
}

/// Operations that read what the caller wrote before them, and write what it reads after them.
fn operations(workers: usize, operations: u64, idle: Idle) {
    let (mut caller, threads) = crew(workers, idle);
    let input = ModelPlace::new(0);
    let outputs: Vec<ModelPlace<u64>> = (0..=workers).map(|_| Place::new(0)).collect();
    for operation in 1..=operations {
        // SAFETY: no operation runs.
        unsafe { input.set(operation) };
        let done = caller.run(&|part| {
            let output = &outputs[part];
            // SAFETY: each part is done once, and the caller waits meanwhile.
            unsafe { output.set(output.get() + input.get()) };
        });
        assert!(done);
        // SAFETY: no operation runs.
        let sums: Vec<u64> = outputs.iter().map(|output| unsafe { output.get() }).collect();
        assert_eq!(sums, vec![operation * (operation + 1) / 2; workers + 1]);
    }
    caller.close();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

/// Operations whose parts wait for each other: no thread can do two of them.
fn meetings(operations: usize) {
    let (mut caller, threads) = crew(1, Idle::Parks);
    for _ in 0..operations {
        let begun = loom::sync::Mutex::new(0);
        let other = loom::sync::Condvar::new();
        caller.run(&|_| {
            let mut begun = begun.lock().unwrap();
            *begun += 1;
            other.notify_all();
            while *begun < 2 {
                begun = other.wait(begun).unwrap();
            }
        });
    }
    caller.close();
    threads.into_iter().for_each(|thread| thread.join().unwrap());
}

#[test]
fn every_part_is_done_once_and_the_caller_sees_what_parts_wrote() {
    check(Strength::AsAsked, 2, || operations(1, 2, Idle::Spins));
    // Loom lets two threads that spin go on for ever where more than one thread may be taken off its core.
    check(Strength::AsAsked, 1, || operations(2, 2, Idle::Spins));
}

#[test]
fn workers_that_park_do_parts_once_and_end_with_the_pool() {
    check(Strength::AsAsked, 2, || operations(1, 2, Idle::Parks));
    check(Strength::AsAsked, 1, || operations(2, 1, Idle::Parks));
}

#[test]
fn no_wake_up_is_lost() {
    check(Strength::AsAsked, 2, || meetings(2));
}

#[test]
fn a_part_that_panicked_is_known_to_the_caller() {
    check(Strength::AsAsked, 2, || {
        let (mut caller, threads) = crew(1, Idle::Spins);
        assert!(caller.run(&|_| ()));
        let done = caller.run(&|part| {
            if part == 1 {
                // Says nothing, in each of a thousand schedules.
                resume_unwind(Box::new(PartPanicked));
            }
        });
        assert!(!done);
        caller.close();
        threads.into_iter().for_each(|thread| thread.join().unwrap());
    });
}

#[test]
#[should_panic(expected = "Causality violation")]
fn the_model_notices_atomics_that_are_too_weak() {
    check(Strength::Relaxed, 2, || operations(1, 2, Idle::Spins));
}

#[test]
#[should_panic(expected = "deadlock")]
fn the_model_notices_a_wake_up_that_is_lost() {
    check(Strength::WithoutOneOrder, 2, || meetings(2));
}

#[test]
#[should_panic(expected = "Causality violation")]
fn the_model_notices_a_part_that_is_taken_twice() {
    check(Strength::Torn, 2, || operations(1, 2, Idle::Spins));
}
