//! A ring in the test's own memory.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};

use firmware_bridge_shm::{Index, Memory};

/// An index that stops changing when its program has died.
pub struct Fragile {
    value: AtomicU64,
    life: Rc<Cell<usize>>,
}

impl Index for Fragile {
    fn load(&self, order: Ordering) -> u64 {
        self.value.load(order)
    }

    fn store(&self, value: u64, order: Ordering) {
        if spend(&self.life) {
            self.value.store(value, order);
        }
    }
}

/// Takes one step of a life; false where it has ended.
fn spend(life: &Cell<usize>) -> bool {
    let left = life.get();
    life.set(left.saturating_sub(1));
    left > 0
}

/// A ring in plain memory. `life` counts the changes that are still made to it: the one after the last, and all that
/// follow, are lost, as when the program that makes them has died.
#[derive(Clone)]
pub struct Plain(Rc<Inner>);

struct Inner {
    written: Fragile,
    read: Fragile,
    bytes: Box<[Cell<u8>]>,
    life: Rc<Cell<usize>>,
}

impl Plain {
    pub fn new(capacity: usize) -> Self {
        let life = Rc::new(Cell::new(usize::MAX));
        let index = || Fragile {
            value: AtomicU64::new(0),
            life: Rc::clone(&life),
        };
        Self(Rc::new(Inner {
            written: index(),
            read: index(),
            bytes: vec![Cell::new(0xA5); capacity].into(),
            life: Rc::clone(&life),
        }))
    }

    /// Lets this many more changes happen.
    #[allow(dead_code)] // Not every test kills.
    pub fn set_life(&self, changes: usize) {
        self.0.life.set(changes);
    }

    /// Changes not used up.
    #[allow(dead_code)] // Not every test kills.
    pub fn life(&self) -> usize {
        self.0.life.get()
    }
}

impl Memory for Plain {
    type Index = Fragile;

    fn capacity(&self) -> usize {
        self.0.bytes.len()
    }

    fn written(&self) -> &Fragile {
        &self.0.written
    }

    fn read(&self) -> &Fragile {
        &self.0.read
    }

    fn copy_in(&self, at: usize, bytes: &[u8]) {
        for (cell, &byte) in self.0.bytes[at..at + bytes.len()].iter().zip(bytes) {
            if spend(&self.0.life) {
                cell.set(byte);
            }
        }
    }

    fn copy_out(&self, at: usize, bytes: &mut [u8]) {
        for (cell, byte) in self.0.bytes[at..at + bytes.len()].iter().zip(bytes) {
            *byte = cell.get();
        }
    }
}
