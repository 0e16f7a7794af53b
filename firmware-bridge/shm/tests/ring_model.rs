//! Every interleaving of a writer and a reader, and every value that the memory model lets them see, by loom.

use std::sync::atomic::Ordering;

use firmware_bridge_shm::{Index, Memory, Reader, Writer};
use loom::cell::UnsafeCell;
use loom::sync::atomic::AtomicU64;
use loom::sync::Arc;

const CAPACITY: usize = 32;

/// An index whose stores are as strong as they are asked to be, or not.
struct Modelled<const WEAK: bool>(AtomicU64);

impl<const WEAK: bool> Index for Modelled<WEAK> {
    fn load(&self, order: Ordering) -> u64 {
        self.0.load(order)
    }

    fn store(&self, value: u64, order: Ordering) {
        self.0.store(value, if WEAK { Ordering::Relaxed } else { order });
    }
}

struct Shared<const WEAK: bool> {
    written: Modelled<WEAK>,
    read: Modelled<WEAK>,
    /// Loom reports it where one thread reads or writes a word while the other may be writing it.
    words: [UnsafeCell<[u8; 8]>; CAPACITY / 8],
}

#[derive(Clone)]
struct Ring<const WEAK: bool>(Arc<Shared<WEAK>>);

impl<const WEAK: bool> Ring<WEAK> {
    fn new() -> Self {
        Self(Arc::new(Shared {
            written: Modelled(AtomicU64::new(0)),
            read: Modelled(AtomicU64::new(0)),
            words: std::array::from_fn(|_| UnsafeCell::new([0; 8])),
        }))
    }
}

impl<const WEAK: bool> Memory for Ring<WEAK> {
    type Index = Modelled<WEAK>;

    fn capacity(&self) -> usize {
        CAPACITY
    }

    fn written(&self) -> &Modelled<WEAK> {
        &self.0.written
    }

    fn read(&self) -> &Modelled<WEAK> {
        &self.0.read
    }

    fn copy_in(&self, at: usize, bytes: &[u8]) {
        for (word, bytes) in self.0.words[at / 8..].iter().zip(bytes.chunks_exact(8)) {
            // SAFETY: loom checks that nothing else holds the word, and reports it otherwise.
            word.with_mut(|word| unsafe { (*word).copy_from_slice(bytes) });
        }
    }

    fn copy_out(&self, at: usize, bytes: &mut [u8]) {
        for (word, bytes) in self.0.words[at / 8..].iter().zip(bytes.chunks_exact_mut(8)) {
            // SAFETY: as above.
            word.with(|word| bytes.copy_from_slice(unsafe { &*word }));
        }
    }
}

/// A record of one word that names itself.
fn record(number: u64) -> [u8; 8] {
    (0x1111_1111 * number).to_le_bytes()
}

/// One thread pushes `records`, the other pops while it does: what came out is what was taken, in order.
fn run<const WEAK: bool>(records: u64) {
    loom::model(move || {
        let ring = Ring::<WEAK>::new();
        // Both before the thread starts: loom loses sight of the reader's loads of an index that the writer itself loads.
        let (mut writer, mut reader) = (Writer::attach(ring.clone()), Reader::attach(ring));
        let writing = loom::thread::spawn(move || {
            (1..=records)
                .map(record)
                .filter(|record| writer.push(&[record]).is_ok())
                .collect::<Vec<_>>()
        });
        let mut popped = Vec::new();
        let mut bytes = [0; 8];
        for _ in 0..records {
            popped.extend(reader.pop(&mut bytes).unwrap().map(|_| bytes));
        }
        let taken = writing.join().unwrap();
        while reader.pop(&mut bytes).unwrap().is_some() {
            popped.push(bytes);
        }
        assert_eq!(popped, taken);
    });
}

/// Either end is opened anew while the other goes on: what the new reader passes over and what it reads are what was taken.
fn reopen<const WEAK: bool>() {
    loom::model(|| {
        let ring = Ring::<WEAK>::new();
        let (mut writer, mut reader) = (Writer::attach(ring.clone()), Reader::attach(ring.clone()));
        let writing = loom::thread::spawn({
            let ring = ring.clone();
            move || {
                let mut taken = Vec::new();
                for number in 1..=3 {
                    if number == 3 {
                        writer = Writer::attach(ring.clone());
                    }
                    taken.extend(writer.push(&[&record(number)]).is_ok().then(|| record(number)));
                }
                taken
            }
        });
        let mut bytes = [0; 8];
        let before = reader.pop(&mut bytes).unwrap().is_some();
        reader = Reader::attach(ring);
        let skipped = reader.skip_all().unwrap();
        let mut popped = Vec::new();
        popped.extend(reader.pop(&mut bytes).unwrap().map(|_| bytes));
        let taken = writing.join().unwrap();
        while reader.pop(&mut bytes).unwrap().is_some() {
            popped.push(bytes);
        }
        assert_eq!(popped, taken[usize::from(before) + skipped as usize..]);
    });
}

#[test]
fn an_end_that_is_opened_anew_goes_on_where_the_last_one_stopped() {
    reopen::<false>();
}

#[test]
#[should_panic(expected = "Causality violation")]
fn the_model_notices_a_reopened_end_that_sees_too_little() {
    reopen::<true>();
}

#[test]
fn every_interleaving_is_in_order_and_whole() {
    // The ring holds two of them: it fills up, and it wraps around.
    run::<false>(4);
}

#[test]
#[should_panic(expected = "Causality violation")]
fn the_model_notices_an_index_that_is_too_weak() {
    run::<true>(4);
}
