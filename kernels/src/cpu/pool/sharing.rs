//! What the threads of a pool share an operation by: the processor's numbers and the system's threads, or those of a model
//! checker, which then runs the same code in every order of its steps and with every value that the memory model lets a thread see.

use std::cell::UnsafeCell;
use std::panic::{catch_unwind, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::Thread;

/// A number that threads share; [`AtomicU64`], or a model checker's.
pub trait Number: Send + Sync {
    /// As [`AtomicU64::new`].
    fn new(value: u64) -> Self;
    /// As [`AtomicU64::load`].
    fn load(&self, order: Ordering) -> u64;
    /// As [`AtomicU64::store`].
    fn store(&self, value: u64, order: Ordering);
    /// As [`AtomicU64::fetch_add`].
    fn fetch_add(&self, value: u64, order: Ordering) -> u64;
    /// As [`AtomicU64::compare_exchange_weak`].
    fn compare_exchange_weak(&self, now: u64, new: u64, done: Ordering, failed: Ordering) -> Result<u64, u64>;
}

/// A flag that threads share; [`AtomicBool`], or a model checker's.
pub trait Flag: Send + Sync {
    /// One that is not set.
    fn new() -> Self;
    /// As [`AtomicBool::load`].
    fn load(&self, order: Ordering) -> bool;
    /// As [`AtomicBool::store`].
    fn store(&self, value: bool, order: Ordering);
}

/// A value that one thread at a time may write while no other reads it; [`UnsafeCell`], or a model checker's.
pub trait Place<T> {
    /// One that holds `value`.
    fn new(value: T) -> Self;
    /// A copy of the value.
    ///
    /// # Safety
    /// Nobody writes meanwhile.
    unsafe fn get(&self) -> T;
    /// Puts another value there.
    ///
    /// # Safety
    /// Nobody reads or writes meanwhile.
    unsafe fn set(&self, value: T);
}

/// Who provides them, and the threads.
pub trait Sharing: 'static {
    /// A number.
    type Number: Number;
    /// A flag.
    type Flag: Flag;
    /// A place for a value.
    type Place<T: Copy>: Place<T>;
    /// A thread that can be woken.
    type Thread;
    /// Spins between two questions whether to go on spinning.
    const SPINS_A_LOOK: u32;

    /// As [`std::thread::park`].
    fn park();
    /// As [`Thread::unpark`].
    fn unpark(thread: &Self::Thread);
    /// Passes a moment before the next look at what another thread will change.
    fn spin();
    /// Lets other threads run.
    fn yield_now();
    /// Does a part; false where it panicked.
    fn went_well(part: impl FnOnce()) -> bool;
}

/// The processor's and the system's.
pub struct Real;

impl Number for AtomicU64 {
    fn new(value: u64) -> Self {
        AtomicU64::new(value)
    }
    fn load(&self, order: Ordering) -> u64 {
        AtomicU64::load(self, order)
    }
    fn store(&self, value: u64, order: Ordering) {
        AtomicU64::store(self, value, order);
    }
    fn fetch_add(&self, value: u64, order: Ordering) -> u64 {
        AtomicU64::fetch_add(self, value, order)
    }
    fn compare_exchange_weak(&self, now: u64, new: u64, done: Ordering, failed: Ordering) -> Result<u64, u64> {
        AtomicU64::compare_exchange_weak(self, now, new, done, failed)
    }
}

impl Flag for AtomicBool {
    fn new() -> Self {
        AtomicBool::new(false)
    }
    fn load(&self, order: Ordering) -> bool {
        AtomicBool::load(self, order)
    }
    fn store(&self, value: bool, order: Ordering) {
        AtomicBool::store(self, value, order);
    }
}

impl<T: Copy> Place<T> for UnsafeCell<T> {
    fn new(value: T) -> Self {
        UnsafeCell::new(value)
    }
    unsafe fn get(&self) -> T {
        // SAFETY: nobody writes meanwhile, by this function's contract.
        unsafe { *UnsafeCell::get(self) }
    }
    unsafe fn set(&self, value: T) {
        // SAFETY: nobody reads or writes meanwhile, by this function's contract.
        unsafe { *UnsafeCell::get(self) = value }
    }
}

impl Sharing for Real {
    type Number = AtomicU64;
    type Flag = AtomicBool;
    type Place<T: Copy> = UnsafeCell<T>;
    type Thread = Thread;
    const SPINS_A_LOOK: u32 = 128;

    fn park() {
        std::thread::park();
    }
    fn unpark(thread: &Thread) {
        thread.unpark();
    }
    fn spin() {
        std::hint::spin_loop();
    }
    fn yield_now() {
        std::thread::yield_now();
    }
    fn went_well(part: impl FnOnce()) -> bool {
        catch_unwind(AssertUnwindSafe(part)).is_ok()
    }
}
