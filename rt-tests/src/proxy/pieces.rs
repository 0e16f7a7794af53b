//! Faults of pieces: datagrams, or messages of several frames.

use std::ops::Range;
use std::time::{Duration, Instant};

use rand::{Rng, RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// A message's frames; a datagram is one frame.
pub type Piece = Vec<Vec<u8>>;

/// What a piece holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Content {
    /// Spikes.
    pub events: u64,
    /// What the protocol numbers or counts: packets, messages.
    pub records: u64,
    /// Whether the piece is to pass as it is.
    pub spared: bool,
}

/// Says what an undamaged piece holds.
pub type Reader = fn(&[Vec<u8>]) -> Content;

/// Shares of the pieces that meet with each fault; a piece meets with one at most.
#[derive(Clone, Copy, Debug, Default)]
pub struct PieceFaults {
    /// Seed of everything that is drawn.
    pub seed: u64,
    /// The first so many pass as they are.
    pub after: u64,
    /// Never handed on.
    pub drop: f64,
    /// Handed on twice, the second time up to `most_steps` pieces later.
    pub duplicate: f64,
    /// Handed on after 1 to `most_steps` later ones.
    pub reorder: f64,
    /// Held for up to `most_delay`, or until `most_steps` later ones have passed.
    pub delay: f64,
    /// One of its frames ends early.
    pub truncate: f64,
    /// One of its bytes is changed.
    pub corrupt: f64,
    /// Followed by a piece of random bytes, of as many frames.
    pub garbage: f64,
    /// Most pieces that overtake another.
    pub most_steps: u64,
    /// Longest delay.
    pub most_delay: Duration,
}

/// A number of pieces, and what was in them before they were damaged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tally {
    /// Pieces.
    pub pieces: u64,
    /// Spikes in them.
    pub events: u64,
    /// Records in them.
    pub records: u64,
}

impl Tally {
    fn add(&mut self, content: Content) {
        self.pieces += 1;
        self.events += content.events;
        self.records += content.records;
    }
}

/// What was done to which pieces. Events are numbered from 0 in the order that they came to the proxy.
#[derive(Clone, Debug, Default)]
pub struct PieceLedger {
    /// Everything that came.
    pub came: Tally,
    /// Never handed on.
    pub dropped: Tally,
    /// Handed on twice.
    pub duplicated: Tally,
    /// Handed on behind later ones by plan.
    pub reordered: Tally,
    /// Held for a time.
    pub delayed: Tally,
    /// Handed on without an end.
    pub truncated: Tally,
    /// Handed on with a changed byte.
    pub corrupted: Tally,
    /// Pieces of random bytes handed on.
    pub garbage: u64,
    /// Bytes handed on.
    pub bytes: u64,
    /// Events of each undamaged piece, in the order that pieces were handed on, duplicates among them.
    pub delivered: Vec<Range<u64>>,
    /// Events of each damaged piece that was handed on.
    pub damaged: Vec<Range<u64>>,
}

struct Held {
    /// After which piece it is handed on, if not before.
    after: u64,
    until: Option<Instant>,
    piece: Piece,
    events: Range<u64>,
}

/// Does to pieces what a plan says.
pub struct Disorder {
    faults: PieceFaults,
    read: Reader,
    random: ChaCha8Rng,
    held: Vec<Held>,
    ledger: PieceLedger,
}

enum Fate {
    Pass,
    Drop,
    Duplicate,
    Reorder,
    Delay,
    Truncate,
    Corrupt,
    Garbage,
}

impl Disorder {
    /// Nothing has come yet.
    pub fn new(faults: PieceFaults, read: Reader) -> Self {
        Self {
            faults,
            read,
            random: ChaCha8Rng::seed_from_u64(faults.seed),
            held: Vec::new(),
            ledger: PieceLedger::default(),
        }
    }

    fn fate(&mut self) -> Fate {
        let faults = self.faults;
        let mut drawn = self.random.random::<f64>();
        for (share, fate) in [
            (faults.drop, Fate::Drop),
            (faults.duplicate, Fate::Duplicate),
            (faults.reorder, Fate::Reorder),
            (faults.delay, Fate::Delay),
            (faults.truncate, Fate::Truncate),
            (faults.corrupt, Fate::Corrupt),
            (faults.garbage, Fate::Garbage),
        ] {
            if drawn < share {
                return fate;
            }
            drawn -= share;
        }
        Fate::Pass
    }

    fn hand_on(&mut self, piece: &Piece, events: Range<u64>, out: &mut dyn FnMut(&Piece)) {
        self.ledger.bytes += piece.iter().map(|frame| frame.len() as u64).sum::<u64>();
        self.ledger.delivered.push(events);
        out(piece);
    }

    fn hand_on_damaged(&mut self, piece: &Piece, events: Range<u64>, out: &mut dyn FnMut(&Piece)) {
        self.ledger.bytes += piece.iter().map(|frame| frame.len() as u64).sum::<u64>();
        self.ledger.damaged.push(events);
        out(piece);
    }

    fn hold(&mut self, after: u64, until: Option<Instant>, piece: Piece, events: Range<u64>) {
        self.held.push(Held {
            after,
            until,
            piece,
            events,
        });
    }

    /// A frame that has bytes.
    fn any_frame<'a>(&mut self, piece: &'a mut Piece) -> Option<&'a mut Vec<u8>> {
        let mut frames: Vec<_> = piece.iter_mut().filter(|frame| !frame.is_empty()).collect();
        let drawn = self.random.random_range(0..frames.len().max(1));
        (drawn < frames.len()).then(|| frames.swap_remove(drawn))
    }

    /// Takes a piece at `now`, and gives `out` what is handed on.
    pub fn take(&mut self, mut piece: Piece, now: Instant, out: &mut dyn FnMut(&Piece)) {
        let content = (self.read)(&piece);
        let first = self.ledger.came.events;
        let events = first..first + content.events;
        let spared = content.spared || self.ledger.came.pieces < self.faults.after;
        self.ledger.came.add(content);
        let number = self.ledger.came.pieces;
        let fate = if spared { Fate::Pass } else { self.fate() };
        let steps = self.faults.most_steps.max(1);
        match fate {
            Fate::Pass => self.hand_on(&piece, events, out),
            Fate::Drop => self.ledger.dropped.add(content),
            Fate::Duplicate => {
                self.ledger.duplicated.add(content);
                self.hand_on(&piece, events.clone(), out);
                let steps = self.random.random_range(0..=steps);
                self.hold(number + steps, None, piece, events);
            }
            Fate::Reorder => {
                self.ledger.reordered.add(content);
                let steps = self.random.random_range(1..=steps);
                self.hold(number + steps, None, piece, events);
            }
            Fate::Delay => {
                self.ledger.delayed.add(content);
                let until = now + self.faults.most_delay.mul_f64(self.random.random::<f64>());
                self.hold(number + steps, Some(until), piece, events);
            }
            Fate::Truncate => {
                self.ledger.truncated.add(content);
                let left = self.random.random::<f64>();
                if let Some(frame) = self.any_frame(&mut piece) {
                    frame.truncate((left * frame.len() as f64) as usize);
                }
                self.hand_on_damaged(&piece, events, out);
            }
            Fate::Corrupt => {
                self.ledger.corrupted.add(content);
                let (place, change) = (self.random.random::<f64>(), self.random.random_range(1..=u8::MAX));
                if let Some(frame) = self.any_frame(&mut piece) {
                    let place = (place * frame.len() as f64) as usize;
                    frame[place] ^= change;
                }
                self.hand_on_damaged(&piece, events, out);
            }
            Fate::Garbage => {
                self.hand_on(&piece, events, out);
                self.ledger.garbage += 1;
                piece.iter_mut().for_each(|frame| self.random.fill_bytes(frame));
                let nothing = first..first;
                self.hand_on_damaged(&piece, nothing, out);
            }
        }
        self.release(now, out);
    }

    /// Hands on what has been held long enough at `now`.
    pub fn release(&mut self, now: Instant, out: &mut dyn FnMut(&Piece)) {
        let number = self.ledger.came.pieces;
        let due = |held: &mut Held| held.after <= number || held.until.is_some_and(|until| until <= now);
        let released: Vec<Held> = self.held.extract_if(.., due).collect();
        for held in released {
            self.hand_on(&held.piece, held.events, out);
        }
    }

    /// Hands on all that is held, and says what was done.
    pub fn finish(mut self, out: &mut dyn FnMut(&Piece)) -> PieceLedger {
        for held in std::mem::take(&mut self.held) {
            self.hand_on(&held.piece, held.events, out);
        }
        self.ledger
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one_event(_: &[Vec<u8>]) -> Content {
        Content {
            events: 1,
            records: 1,
            spared: false,
        }
    }

    #[test]
    fn every_piece_is_accounted_for_and_the_seed_says_what_happens() {
        let faults = PieceFaults {
            seed: 5,
            after: 10,
            drop: 0.1,
            duplicate: 0.1,
            reorder: 0.1,
            delay: 0.1,
            truncate: 0.1,
            corrupt: 0.1,
            garbage: 0.1,
            most_steps: 4,
            most_delay: Duration::from_millis(3),
        };
        let begin = Instant::now();
        let run = || {
            let (mut disorder, mut pieces) = (Disorder::new(faults, one_event), Vec::new());
            for number in 0..10_000u64 {
                let now = begin + Duration::from_millis(number);
                let piece = vec![vec![7], number.to_le_bytes().to_vec()];
                disorder.take(piece, now, &mut |piece| pieces.push(piece.clone()));
            }
            let ledger = disorder.finish(&mut |piece| pieces.push(piece.clone()));
            (pieces, ledger)
        };
        let (pieces, ledger) = run();
        let faulty = [
            ledger.dropped,
            ledger.duplicated,
            ledger.reordered,
            ledger.delayed,
            ledger.truncated,
            ledger.corrupted,
        ];
        assert!(faulty.iter().all(|tally| (800..1_200).contains(&tally.pieces)));
        let (intact, damaged) = (ledger.delivered.len() as u64, ledger.damaged.len() as u64);
        assert_eq!(intact + damaged, pieces.len() as u64);
        assert_eq!(
            damaged,
            ledger.truncated.pieces + ledger.corrupted.pieces + ledger.garbage
        );
        let gone = ledger.dropped.pieces + ledger.truncated.pieces + ledger.corrupted.pieces;
        assert_eq!(intact, 10_000 - gone + ledger.duplicated.pieces);
        assert_eq!(
            ledger.delivered[..10],
            std::array::from_fn::<_, 10, _>(|i| i as u64..i as u64 + 1)
        );
        assert!(!ledger.delivered.is_sorted_by_key(|range| range.start));
        let bytes: usize = pieces.iter().flatten().map(Vec::len).sum();
        assert_eq!(ledger.bytes, bytes as u64);
        assert_eq!(run().0, pieces);
    }
}
