//! What the threads of a run share: rings of one producer and one consumer, and numbers. They are those of the library and of
//! the processor, or those of a model checker, which then runs the same code in every order of its steps and with every value
//! that the memory model lets a thread see.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::Arc;
use std::time::Duration;

use ringbuf::traits::RingBuffer;
use ringbuf::{CachingCons, CachingProd, HeapRb};

/// A number that threads share; [`AtomicU64`], or a model checker's.
pub trait Number: Default {
    /// As [`AtomicU64::load`].
    fn load(&self, order: Ordering) -> u64;
    /// As [`AtomicU64::store`].
    fn store(&self, value: u64, order: Ordering);
    /// As [`AtomicU64::fetch_add`].
    fn fetch_add(&self, value: u64, order: Ordering) -> u64;
    /// As [`AtomicU64::compare_exchange`].
    fn compare_exchange(&self, now: u64, new: u64, done: Ordering, failed: Ordering) -> Result<u64, u64>;
}

impl Number for AtomicU64 {
    fn load(&self, order: Ordering) -> u64 {
        AtomicU64::load(self, order)
    }
    fn store(&self, value: u64, order: Ordering) {
        AtomicU64::store(self, value, order);
    }
    fn fetch_add(&self, value: u64, order: Ordering) -> u64 {
        AtomicU64::fetch_add(self, value, order)
    }
    fn compare_exchange(&self, now: u64, new: u64, done: Ordering, failed: Ordering) -> Result<u64, u64> {
        AtomicU64::compare_exchange(self, now, new, done, failed)
    }
}

/// Who provides them.
pub trait Sharing {
    /// A ring.
    type Ring<T>: RingBuffer<Item = T>;
    /// A number.
    type Number: Number;

    /// An empty ring of `capacity` places.
    fn ring<T>(capacity: usize) -> Self::Ring<T>;
    /// Sleeps before the next look at what another thread will change.
    fn pause(time: Duration);
}

/// The library's rings and the processor's numbers.
#[derive(Clone, Copy, Debug)]
pub struct Real;

impl Sharing for Real {
    type Ring<T> = HeapRb<T>;
    type Number = AtomicU64;

    fn ring<T>(capacity: usize) -> HeapRb<T> {
        HeapRb::new(capacity)
    }
    fn pause(time: Duration) {
        std::thread::sleep(time);
    }
}

/// A ring's producing end.
pub type Sender<S, T> = CachingProd<Arc<<S as Sharing>::Ring<T>>>;
/// A ring's consuming end.
pub type Receiver<S, T> = CachingCons<Arc<<S as Sharing>::Ring<T>>>;

/// Both ends of a ring of `capacity` places.
pub fn ring<S: Sharing, T>(capacity: usize) -> (Sender<S, T>, Receiver<S, T>) {
    let ring = Arc::new(S::ring(capacity));
    (CachingProd::new(ring.clone()), CachingCons::new(ring))
}
