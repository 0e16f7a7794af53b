//! Models of what the threads of a run share: every order of their steps and every value that the memory model lets them see, by
//! loom, through the code that a run has.

mod calibration;
mod exchange;
mod hand_over;
mod rings;
mod switch;
mod taps;

use std::cell::{Cell, UnsafeCell};
use std::mem::MaybeUninit;
use std::num::NonZeroUsize;
use std::sync::atomic::Ordering;
use std::time::Duration;

use loom::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize};
use ringbuf::traits::{Consumer, Observer, Producer, Raw, RingBuffer};

use super::sharing::{Number, Sharing};

thread_local! {
    /// Whether stores and loads are weaker than what is asked for. A model's threads are one thread of the system.
    static WEAK: Cell<bool> = const { Cell::new(false) };
}

fn order(asked: Ordering) -> Ordering {
    if WEAK.get() {
        Ordering::Relaxed
    } else {
        asked
    }
}

/// Runs a model with everything as strong as it is asked to be; a schedule may take a thread off its core so many times.
fn model(preemptions: usize, threads: impl Fn() + Sync + Send + 'static) {
    check(false, preemptions, threads);
}

/// The same with every atomic operation relaxed.
fn weak_model(preemptions: usize, threads: impl Fn() + Sync + Send + 'static) {
    check(true, preemptions, threads);
}

fn check(weak: bool, preemptions: usize, threads: impl Fn() + Sync + Send + 'static) {
    WEAK.set(weak);
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(threads);
}

/// Rings and numbers of the model checker.
pub struct Modelled;

impl Sharing for Modelled {
    type Ring<T> = ModelRing<T>;
    type Number = ModelNumber;

    fn ring<T>(capacity: usize) -> ModelRing<T> {
        ModelRing::new(capacity)
    }
    fn pause(_time: Duration) {
        loom::thread::yield_now();
    }
}

/// A number of the model checker.
#[derive(Debug, Default)]
pub struct ModelNumber(AtomicU64);

impl Number for ModelNumber {
    fn load(&self, asked: Ordering) -> u64 {
        self.0.load(order(asked))
    }
    fn store(&self, value: u64, asked: Ordering) {
        self.0.store(value, order(asked));
    }
    fn fetch_add(&self, value: u64, asked: Ordering) -> u64 {
        self.0.fetch_add(value, order(asked))
    }
    fn compare_exchange(&self, now: u64, new: u64, done: Ordering, failed: Ordering) -> Result<u64, u64> {
        self.0.compare_exchange(now, new, order(done), order(failed))
    }
}

/// The library's ring with the model checker's indices: the library's own ends work on it, with its orderings.
pub struct ModelRing<T> {
    places: Box<[UnsafeCell<MaybeUninit<T>>]>,
    /// Loom reports it where one thread reads or writes a place while the other may be writing it.
    touched: Box<[loom::cell::UnsafeCell<()>]>,
    read: AtomicUsize,
    write: AtomicUsize,
    read_held: AtomicBool,
    write_held: AtomicBool,
}

// SAFETY: the model's threads take turns on one thread of the system, and loom reports a place that two of them may touch at
// once.
unsafe impl<T: Send> Sync for ModelRing<T> {}

impl<T> ModelRing<T> {
    fn new(capacity: usize) -> Self {
        Self {
            places: (0..capacity).map(|_| UnsafeCell::new(MaybeUninit::uninit())).collect(),
            touched: (0..capacity).map(|_| loom::cell::UnsafeCell::new(())).collect(),
            read: AtomicUsize::new(0),
            write: AtomicUsize::new(0),
            read_held: AtomicBool::new(false),
            write_held: AtomicBool::new(false),
        }
    }

    /// The places from `start` to `end`, both modulo twice the capacity, in two parts: first place and length of each.
    fn parts(&self, start: usize, end: usize) -> [(usize, usize); 2] {
        let capacity = self.places.len();
        let length = (end + 2 * capacity - start) % (2 * capacity);
        let first = start % capacity;
        let to_end = length.min(capacity - first);
        [(first, to_end), (0, length - to_end)]
    }
}

impl<T> Observer for ModelRing<T> {
    type Item = T;

    fn capacity(&self) -> NonZeroUsize {
        NonZeroUsize::new(self.places.len()).expect("a ring has places")
    }
    fn read_index(&self) -> usize {
        self.read.load(order(Ordering::Acquire))
    }
    fn write_index(&self) -> usize {
        self.write.load(order(Ordering::Acquire))
    }
    fn read_is_held(&self) -> bool {
        self.read_held.load(order(Ordering::Acquire))
    }
    fn write_is_held(&self) -> bool {
        self.write_held.load(order(Ordering::Acquire))
    }
}

// SAFETY: capacity and indices are those of `places`; slices are the asked range of it, as `parts` has it; the flags are
// replaced atomically.
unsafe impl<T> Raw for ModelRing<T> {
    unsafe fn unsafe_slices(&self, start: usize, end: usize) -> (&[MaybeUninit<T>], &[MaybeUninit<T>]) {
        let [first, second] = self.parts(start, end).map(|(from, length)| {
            let touched = &self.touched[from..from + length];
            touched.iter().for_each(|place| place.with(|_| ()));
            // SAFETY: inside `places`, whose cells are laid out as what they hold; the caller owns the range.
            unsafe { std::slice::from_raw_parts(self.places.as_ptr().add(from).cast(), length) }
        });
        (first, second)
    }

    unsafe fn unsafe_slices_mut(&self, start: usize, end: usize) -> (&mut [MaybeUninit<T>], &mut [MaybeUninit<T>]) {
        let [first, second] = self.parts(start, end).map(|(from, length)| {
            let touched = &self.touched[from..from + length];
            touched.iter().for_each(|place| place.with_mut(|_| ()));
            // SAFETY: as above, and nobody else has the range.
            unsafe { std::slice::from_raw_parts_mut(self.places.as_ptr().add(from).cast_mut().cast(), length) }
        });
        (first, second)
    }

    unsafe fn set_read_index(&self, value: usize) {
        self.read.store(value, order(Ordering::Release));
    }
    unsafe fn set_write_index(&self, value: usize) {
        self.write.store(value, order(Ordering::Release));
    }
    unsafe fn hold_read(&self, flag: bool) -> bool {
        self.read_held.swap(flag, order(Ordering::AcqRel))
    }
    unsafe fn hold_write(&self, flag: bool) -> bool {
        self.write_held.swap(flag, order(Ordering::AcqRel))
    }
}

impl<T> Producer for ModelRing<T> {}
impl<T> Consumer for ModelRing<T> {}
impl<T> RingBuffer for ModelRing<T> {}

impl<T> AsRef<Self> for ModelRing<T> {
    fn as_ref(&self) -> &Self {
        self
    }
}
impl<T> AsMut<Self> for ModelRing<T> {
    fn as_mut(&mut self) -> &mut Self {
        self
    }
}

impl<T> Drop for ModelRing<T> {
    fn drop(&mut self) {
        // A model that has failed must not fail once more while it is taken down.
        if !std::thread::panicking() {
            Consumer::clear(self);
        }
    }
}
