//! Faults of a stream of bytes.

use std::collections::BTreeSet;
use std::ops::Range;

use rand::{Rng, RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// How often a stream meets with each fault: once in so many bytes on average, and never where that is 0.
#[derive(Clone, Copy, Debug, Default)]
pub struct StreamFaults {
    /// Seed of everything that is drawn.
    pub seed: u64,
    /// The first so many bytes pass as they are.
    pub after: u64,
    /// A byte is changed.
    pub corrupt_every: u64,
    /// Random bytes are put in.
    pub garbage_every: u64,
    /// Most random bytes at once.
    pub most_garbage: usize,
    /// The connection ends.
    pub cut_every: u64,
}

/// What was done to which bytes, by their position in the stream that came.
#[derive(Clone, Debug, Default)]
pub struct StreamLedger {
    /// Bytes that came.
    pub came: u64,
    /// Bytes handed on, those put in among them.
    pub handed_on: u64,
    /// Changed bytes.
    pub corrupted: Vec<u64>,
    /// Where random bytes were put in, and how many.
    pub garbage: Vec<(u64, u64)>,
    /// Bytes that found no connection.
    pub lost: Vec<Range<u64>>,
    /// Times that a client connected.
    pub connections: u64,
    /// Pieces that were written.
    pub writes: u64,
}

impl StreamLedger {
    /// Bytes put in.
    pub fn garbage_bytes(&self) -> u64 {
        self.garbage.iter().map(|(_, bytes)| bytes).sum()
    }

    /// Bytes that found no connection.
    pub fn lost_bytes(&self) -> u64 {
        self.lost.iter().map(|lost| lost.end - lost.start).sum()
    }

    /// Of a stream of records of `length` bytes, the numbers of those with a changed byte.
    pub fn changed(&self, length: u64) -> BTreeSet<u64> {
        self.corrupted.iter().map(|at| at / length).collect()
    }

    /// The numbers of those that miss bytes or have foreign ones inside.
    pub fn broken(&self, length: u64) -> BTreeSet<u64> {
        let split = self.garbage.iter().filter(|(at, _)| at % length != 0);
        let lost = self.lost.iter().filter(|lost| !lost.is_empty());
        lost.flat_map(|lost| lost.start / length..=(lost.end - 1) / length)
            .chain(split.map(|(at, _)| at / length))
            .collect()
    }
}

/// What comes of a stream.
#[derive(Debug, PartialEq, Eq)]
pub enum Put<'a> {
    /// These bytes.
    Bytes(&'a [u8]),
    /// The end of the connection.
    Cut,
}

/// Does to a stream what a plan says.
pub struct Damage {
    faults: StreamFaults,
    random: ChaCha8Rng,
    next_corrupt: u64,
    next_garbage: u64,
    next_cut: u64,
    connected: bool,
    /// What was done so far.
    pub ledger: StreamLedger,
}

impl Damage {
    /// Nothing has come yet, and nobody is connected.
    pub fn new(faults: StreamFaults) -> Self {
        let mut damage = Self {
            faults,
            random: ChaCha8Rng::seed_from_u64(faults.seed),
            next_corrupt: 0,
            next_garbage: 0,
            next_cut: 0,
            connected: false,
            ledger: StreamLedger::default(),
        };
        damage.next_corrupt = damage.next(faults.after, faults.corrupt_every);
        damage.next_garbage = damage.next(faults.after, faults.garbage_every);
        damage
    }

    fn next(&mut self, from: u64, every: u64) -> u64 {
        if every == 0 {
            return u64::MAX;
        }
        from + self.random.random_range(1..=2 * every)
    }

    /// A client has connected.
    pub fn connected(&mut self) {
        self.next_cut = self.next(self.ledger.came.max(self.faults.after), self.faults.cut_every);
        self.connected = true;
        self.ledger.connections += 1;
    }

    /// Takes bytes, and gives `out` what is handed on. After a cut everything is lost until a client has connected.
    pub fn take(&mut self, mut bytes: &[u8], mut out: impl FnMut(Put<'_>)) {
        while !bytes.is_empty() {
            if !self.connected {
                return self.lose(bytes.len() as u64);
            }
            let next = self.next_corrupt.min(self.next_garbage).min(self.next_cut);
            let plain = (next - self.ledger.came).min(bytes.len() as u64) as usize;
            let (now, rest) = bytes.split_at(plain);
            self.hand_on(now, &mut out);
            self.ledger.came += plain as u64;
            bytes = rest;
            if bytes.is_empty() {
                return;
            }
            let at = self.ledger.came;
            if at == self.next_cut {
                self.connected = false;
                out(Put::Cut);
            } else if at == self.next_garbage {
                let mut garbage = vec![0; self.random.random_range(1..=self.faults.most_garbage.max(1))];
                self.random.fill_bytes(&mut garbage);
                self.ledger.garbage.push((at, garbage.len() as u64));
                self.hand_on(&garbage, &mut out);
                self.next_garbage = self.next(at, self.faults.garbage_every);
            } else {
                let changed = bytes[0] ^ self.random.random_range(1..=u8::MAX);
                self.hand_on(&[changed], &mut out);
                self.ledger.corrupted.push(at);
                self.ledger.came += 1;
                bytes = &bytes[1..];
                self.next_corrupt = self.next(at, self.faults.corrupt_every);
            }
        }
    }

    fn hand_on(&mut self, bytes: &[u8], out: &mut impl FnMut(Put<'_>)) {
        if !bytes.is_empty() {
            self.ledger.handed_on += bytes.len() as u64;
            out(Put::Bytes(bytes));
        }
    }

    fn lose(&mut self, bytes: u64) {
        let at = self.ledger.came;
        self.ledger.came += bytes;
        match self.ledger.lost.last_mut() {
            Some(lost) if lost.end == at => lost.end += bytes,
            _ => self.ledger.lost.push(at..at + bytes),
        }
        // What was planned for these bytes comes after them.
        for next in [&mut self.next_corrupt, &mut self.next_garbage] {
            *next = (*next).max(self.ledger.came);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_byte_is_accounted_for_however_the_stream_comes() {
        let faults = StreamFaults {
            seed: 3,
            after: 100,
            corrupt_every: 300,
            garbage_every: 500,
            most_garbage: 9,
            cut_every: 2_000,
        };
        let stream: Vec<u8> = (0..60_000u32).map(|at| at as u8).collect();
        let run = |piece: usize| {
            let (mut damage, mut put, mut cuts) = (Damage::new(faults), Vec::new(), 0);
            damage.connected();
            for bytes in stream.chunks(piece) {
                let mut cut = false;
                damage.take(bytes, |what| match what {
                    Put::Bytes(bytes) => put.extend_from_slice(bytes),
                    Put::Cut => cut = true,
                });
                if cut {
                    cuts += 1;
                    damage.connected();
                }
            }
            (damage.ledger, put, cuts)
        };
        for piece in [1, 7, 1_000] {
            let (ledger, put, cuts) = run(piece);
            assert_eq!((ledger.came, ledger.handed_on), (60_000, put.len() as u64));
            assert_eq!(ledger.connections, cuts + 1);
            assert!(ledger.corrupted.len() > 100 && ledger.garbage.len() > 50 && cuts > 10);
            assert_eq!(ledger.handed_on, 60_000 - ledger.lost_bytes() + ledger.garbage_bytes());
            let (changed, broken) = (ledger.changed(14), ledger.broken(14));
            assert!(changed.len() > 100 && broken.len() > 40);
            // Apart from what the ledger names, the stream is as it was.
            let mut rest = &put[..];
            let mut garbage = ledger.garbage.iter().peekable();
            let lost = |at: u64| ledger.lost.iter().any(|lost| lost.contains(&at));
            for at in 0..60_000 {
                while let Some((_, bytes)) = garbage.next_if(|(place, _)| *place == at) {
                    rest = &rest[*bytes as usize..];
                }
                if lost(at) {
                    continue;
                }
                let as_it_was = rest[0] == stream[at as usize];
                assert_eq!(as_it_was, ledger.corrupted.binary_search(&at).is_err(), "byte {at}");
                rest = &rest[1..];
            }
            assert!(rest.is_empty());
        }
    }
}
