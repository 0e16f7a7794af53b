//! The protocol of a ring: one writer, one reader, records of any length, and nothing but two indices between them.
//!
//! The indices count bytes since the ring was made and never fall; `index mod capacity` is the place. The writer owns
//! `written`, the reader owns `read`. A record is a u64 length and the bytes, rounded up to 8. It never wraps around: where
//! the rest of the memory is too short, a length of `PASS` sends the reader to the start. A record becomes visible as a whole
//! by the one store to `written`; before that, a writer that dies has changed nothing that anyone reads.

use std::sync::atomic::{AtomicU64, Ordering};

/// The length that says: go on at the start of the memory.
const PASS: u64 = u64::MAX;
const WORD: usize = size_of::<u64>();

/// An index of a ring; [`AtomicU64`], or a model checker's.
pub trait Index {
    /// As [`AtomicU64::load`].
    fn load(&self, order: Ordering) -> u64;
    /// As [`AtomicU64::store`].
    fn store(&self, value: u64, order: Ordering);
}

impl Index for AtomicU64 {
    fn load(&self, order: Ordering) -> u64 {
        AtomicU64::load(self, order)
    }

    fn store(&self, value: u64, order: Ordering) {
        AtomicU64::store(self, value, order);
    }
}

/// Where a ring lies: the same indices and bytes for its writer and its reader.
pub trait Memory {
    /// What the indices are.
    type Index: Index;

    /// Bytes for records: a power of two, at least 16.
    fn capacity(&self) -> usize;
    /// Bytes ever written.
    fn written(&self) -> &Self::Index;
    /// Bytes ever read.
    fn read(&self) -> &Self::Index;
    /// Copies `bytes` to place `at`; they do not reach over the end.
    fn copy_in(&self, at: usize, bytes: &[u8]);
    /// Copies from place `at`; `bytes` does not reach over the end.
    fn copy_out(&self, at: usize, bytes: &mut [u8]);
}

/// Why a record was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PushError {
    /// There is no room until the reader has read.
    Full,
    /// The record is longer than half of the ring.
    TooLong,
    /// The indices contradict each other: another program has written over them. It lasts until the reader has read.
    Damaged,
}

/// Why a record could not be read; it has been passed over, and the next call goes on behind it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PopError {
    /// The record has more bytes than were given for it.
    TooLong {
        /// Bytes that it has.
        length: usize,
    },
    /// The memory holds what no writer writes. Everything written so far has been passed over.
    Damaged,
}

fn rounded(length: usize) -> usize {
    length.next_multiple_of(WORD)
}

/// An index is a multiple of a word, unless another program has written over it.
fn whole_words(index: u64) -> u64 {
    index & !(WORD as u64 - 1)
}

/// Where indices stand, if they are possible.
fn filled(written: u64, read: u64, capacity: usize) -> Option<usize> {
    let filled = usize::try_from(written.checked_sub(read)?).ok()?;
    (filled <= capacity && whole_words(written) == written && whole_words(read) == read).then_some(filled)
}

/// The writing end of a ring.
#[derive(Debug)]
pub struct Writer<M> {
    memory: M,
    written: u64,
    /// `read` as it was last looked at; the reader may be further.
    read: u64,
}

impl<M: Memory> Writer<M> {
    /// Goes on where the last writer stopped. There must be no other writer.
    pub fn attach(memory: M) -> Self {
        let written = whole_words(memory.written().load(Ordering::Relaxed));
        let read = memory.read().load(Ordering::Acquire);
        Self { memory, written, read }
    }

    /// Writes one record, the concatenation of `parts`.
    ///
    /// # Errors
    /// [`PushError`]; nothing is written then.
    pub fn push(&mut self, parts: &[&[u8]]) -> Result<(), PushError> {
        let capacity = self.memory.capacity();
        let length: usize = parts.iter().map(|part| part.len()).sum();
        if length > capacity / 2 - WORD {
            return Err(PushError::TooLong);
        }
        let record = WORD + rounded(length);
        let at = self.written as usize & (capacity - 1);
        let to_end = capacity - at;
        let passed = if record > to_end { to_end } else { 0 };
        if self.free().is_none_or(|free| free < passed + record) {
            self.read = self.memory.read().load(Ordering::Acquire);
            let free = self.free();
            if free.is_none_or(|free| free < passed + record) {
                // Said again, in case another program has written over it: the reader would take the ring for empty.
                self.memory.written().store(self.written, Ordering::Release);
                return Err(if free.is_some() {
                    PushError::Full
                } else {
                    PushError::Damaged
                });
            }
        }
        if passed > 0 {
            self.memory.copy_in(at, &PASS.to_le_bytes());
        }
        let mut at = (at + passed) & (capacity - 1);
        self.memory.copy_in(at, &(length as u64).to_le_bytes());
        at += WORD;
        for part in parts {
            self.memory.copy_in(at, part);
            at += part.len();
        }
        self.written = self.written.wrapping_add((passed + record) as u64);
        // The reader's Acquire on this index makes the bytes above visible to it.
        self.memory.written().store(self.written, Ordering::Release);
        Ok(())
    }

    /// Bytes free, as far as is known, or `None` for impossible indices.
    fn free(&self) -> Option<usize> {
        let capacity = self.memory.capacity();
        Some(capacity - filled(self.written, self.read, capacity)?)
    }

    /// Bytes that wait to be read.
    pub fn waiting(&self) -> u64 {
        let read = self.memory.read().load(Ordering::Relaxed);
        self.written.saturating_sub(read)
    }
}

/// The reading end of a ring.
#[derive(Debug)]
pub struct Reader<M> {
    memory: M,
    read: u64,
    /// `written` as it was last looked at; the writer may be further.
    written: u64,
}

impl<M: Memory> Reader<M> {
    /// Goes on where the last reader stopped. There must be no other reader.
    pub fn attach(memory: M) -> Self {
        let read = whole_words(memory.read().load(Ordering::Relaxed));
        let written = memory.written().load(Ordering::Acquire);
        Self { memory, read, written }
    }

    /// Copies the oldest record to the start of `bytes` and returns its length, or `None` where there is none.
    ///
    /// # Errors
    /// [`PopError`]; the next call goes on behind what could not be read.
    pub fn pop(&mut self, bytes: &mut [u8]) -> Result<Option<usize>, PopError> {
        let Some((at, length, next)) = self.oldest()? else {
            return Ok(None);
        };
        let copied = bytes.get_mut(..length).map(|bytes| self.memory.copy_out(at, bytes));
        self.go_to(next);
        match copied {
            Some(()) => Ok(Some(length)),
            None => Err(PopError::TooLong { length }),
        }
    }

    /// Passes over every record there is and returns how many there were.
    ///
    /// # Errors
    /// [`PopError::Damaged`] where they could not be counted; they have been passed over all the same.
    pub fn skip_all(&mut self) -> Result<u64, PopError> {
        let mut skipped = 0;
        // No further than it has come by now: the writer may be as fast as this.
        let end = self.memory.written().load(Ordering::Acquire);
        while self.read < end {
            let Some((_, _, next)) = self.oldest()? else {
                break;
            };
            self.go_to(next);
            skipped += 1;
        }
        Ok(skipped)
    }

    /// Place and length of the oldest record, and the index behind it.
    fn oldest(&mut self) -> Result<Option<(usize, usize, u64)>, PopError> {
        if self.read == self.written {
            self.written = self.memory.written().load(Ordering::Acquire);
            if self.read == self.written {
                if self.memory.read().load(Ordering::Relaxed) != self.read {
                    // Another program has written over it: the writer would take the ring for full.
                    self.go_to(self.read);
                }
                return Ok(None);
            }
        }
        match self.located() {
            Some(record) => Ok(Some(record)),
            None => {
                self.written = self.memory.written().load(Ordering::Acquire);
                self.go_to(whole_words(self.written));
                Err(PopError::Damaged)
            }
        }
    }

    /// The record at `read`, if the memory holds one there.
    fn located(&self) -> Option<(usize, usize, u64)> {
        let capacity = self.memory.capacity();
        let mut filled = filled(self.written, self.read, capacity)?;
        let mut at = self.read as usize & (capacity - 1);
        let mut read = self.read;
        let mut length = self.length_at(at);
        if length == PASS {
            let passed = capacity - at;
            filled = filled.checked_sub(passed).filter(|&filled| filled > 0)?;
            read = read.wrapping_add(passed as u64);
            at = 0;
            length = self.length_at(at);
        }
        let length = usize::try_from(length).ok().filter(|&length| length <= capacity / 2)?;
        let record = WORD + rounded(length);
        (record <= filled && record <= capacity - at).then_some((at + WORD, length, read.wrapping_add(record as u64)))
    }

    fn length_at(&self, at: usize) -> u64 {
        let mut length = [0; WORD];
        self.memory.copy_out(at, &mut length);
        u64::from_le_bytes(length)
    }

    fn go_to(&mut self, read: u64) {
        self.read = read;
        // The writer's Acquire on this index keeps it from writing over what is still being copied.
        self.memory.read().store(read, Ordering::Release);
    }
}
