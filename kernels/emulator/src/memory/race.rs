//! Who touched a word last, and whether a barrier lies between that and the next touch.
//!
//! Every warp has a clock, which advances with each of its barriers and warp-wide operations. Warps that meet at a barrier
//! set their clocks to one more than the greatest of them, and note of each other what it was. A touch at a clock that the
//! next to touch has noted is ordered before it; so is one by the same thread. Clocks never repeat between launches, and so
//! tell touches of earlier launches, which are ordered.

/// Lanes and warps that fit in [`Word`].
const BLOCK: u32 = 11;
const ATOMIC: u32 = 1 << 10;
const MANY: u32 = 1 << 5;

/// How a word is touched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Touch {
    /// Read.
    Read,
    /// Written.
    Write,
    /// Read in a way that may meet atomic writes.
    AtomicRead,
    /// Written, or read and written, in a way that may meet its like.
    AtomicWrite,
}

/// What blocks of one launch may do to each other's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Between {
    /// They run at the same time and order themselves by atomics: not looked at.
    Anything,
    /// Nothing orders them.
    Nothing,
    /// What came before their cluster's last barrier, by its clock.
    Cluster(u32),
}

/// A warp that touches words.
#[derive(Debug, Clone)]
pub struct Actor {
    /// Touches at clocks before this are ordered: of earlier launches, and in shared memory of earlier blocks.
    pub oldest: u32,
    /// Clock at the beginning of its block, or of those that run with it.
    pub begin: u32,
    /// Touches at so many clocks from `begin` on are ordered before whatever it does, whoever made them.
    pub settled: u32,
    /// Its clock.
    pub clock: u32,
    /// No touch after this clock counts as settled, because other blocks may have made it.
    pub ceiling: u32,
    /// What it noted of the clocks of the other warps of its block.
    pub noted: [u32; 32],
    /// Its block, by its low bits.
    pub block: u32,
    /// Its warp.
    pub warp: u32,
    /// How other blocks are taken.
    pub between: Between,
}

/// What is remembered of a word.
#[derive(Debug, Clone, Copy, Default)]
struct Word {
    write_clock: u32,
    /// Block, atomic, warp (5 bits), lane (5 bits).
    write_who: u32,
    read_clock: u32,
    /// Block, many, lane (5 bits).
    read_who: u32,
    /// Warps that read; none if nobody did since the last write.
    readers: u32,
}

/// An earlier touch that no barrier separates from the one that is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Conflict {
    /// How it was touched.
    pub touch: Touch,
    /// The low bits of the block that did.
    pub block: u32,
    /// The thread that did; none if several read.
    pub thread: Option<u32>,
}

/// How many blocks are told apart.
pub const BLOCKS: u32 = 1 << (32 - BLOCK);

impl Actor {
    /// Begins at a clock.
    pub fn restart(&mut self, begin: u32, block: u32) {
        self.begin = begin;
        self.clock = begin;
        self.noted = [begin - 1; 32];
        self.settled = 0;
        self.block = block;
    }

    /// It met others at a barrier: it notes their clocks, and goes on with the next.
    pub fn meet(&mut self, noted: &[u32; 32], warps: usize, latest: u32) {
        self.noted = *noted;
        self.clock = latest + 1;
        let all = self.noted[..warps].iter().min().copied().unwrap_or(latest);
        self.settled = (all.min(self.ceiling) + 1).saturating_sub(self.begin);
    }

    /// Whether whatever happened at a clock is ordered before what it does, whoever did it.
    #[inline(always)]
    fn past(&self, clock: u32) -> bool {
        clock.wrapping_sub(self.begin) < self.settled || clock < self.oldest
    }

    #[inline(always)]
    fn ordered(&self, clock: u32, block: u32, warp: u32, thread: (u32, u32)) -> bool {
        if clock < self.oldest {
            true
        } else if block != self.block {
            match self.between {
                Between::Anything => true,
                Between::Nothing => false,
                Between::Cluster(joined) => clock <= joined,
            }
        } else if warp == self.warp {
            thread.0 == thread.1 || clock < self.clock
        } else {
            clock <= self.noted[warp as usize]
        }
    }
}

impl Word {
    #[inline(always)]
    fn write_conflict(&self, actor: &Actor, lane: u32, atomic: bool) -> Option<Conflict> {
        if actor.past(self.write_clock) {
            return None;
        }
        self.late_write_conflict(actor, lane, atomic)
    }

    fn late_write_conflict(&self, actor: &Actor, lane: u32, atomic: bool) -> Option<Conflict> {
        let (block, warp, by) = (self.write_who >> BLOCK, self.write_who >> 5 & 31, self.write_who & 31);
        let was_atomic = self.write_who & ATOMIC != 0;
        // Atomics order what they stand for between blocks.
        let met = was_atomic && (atomic || block != actor.block);
        if met || (atomic && block != actor.block) || actor.ordered(self.write_clock, block, warp, (by, lane)) {
            return None;
        }
        let touch = if was_atomic { Touch::AtomicWrite } else { Touch::Write };
        Some(Conflict {
            touch,
            block,
            thread: Some(warp * 32 + by),
        })
    }

    #[inline(always)]
    fn readers_ordered(&self, actor: &Actor, lane: u32) -> bool {
        if self.readers == 0 || actor.past(self.read_clock) {
            return true;
        }
        self.late_readers_ordered(actor, lane)
    }

    fn late_readers_ordered(&self, actor: &Actor, lane: u32) -> bool {
        let (block, many) = (self.read_who >> BLOCK, self.read_who & MANY != 0);
        let by = if many { u32::MAX } else { self.read_who & 31 };
        let mut left = self.readers;
        while left != 0 {
            if !actor.ordered(self.read_clock, block, left.trailing_zeros(), (by, lane)) {
                return false;
            }
            left &= left - 1;
        }
        true
    }

    #[inline(always)]
    fn read_conflict(&self, actor: &Actor, lane: u32, atomic: bool) -> Option<Conflict> {
        let block = self.read_who >> BLOCK;
        if (atomic && block != actor.block) || self.readers_ordered(actor, lane) {
            return None;
        }
        let many = self.read_who & MANY != 0;
        let thread = (!many).then(|| self.readers.trailing_zeros() * 32 + (self.read_who & 31));
        Some(Conflict {
            touch: Touch::Read,
            block,
            thread,
        })
    }

    #[inline(always)]
    fn touch(&mut self, actor: &Actor, lane: u32, touch: Touch) -> Option<Conflict> {
        let atomic = matches!(touch, Touch::AtomicRead | Touch::AtomicWrite);
        if let Some(conflict) = self.write_conflict(actor, lane, atomic) {
            return Some(conflict);
        }
        match touch {
            Touch::AtomicRead => {}
            Touch::Read => self.note_reader(actor, lane),
            Touch::Write | Touch::AtomicWrite => {
                if let Some(conflict) = self.read_conflict(actor, lane, atomic) {
                    return Some(conflict);
                }
                self.readers = 0;
                self.write_clock = actor.clock;
                self.write_who = actor.block << BLOCK | if atomic { ATOMIC } else { 0 } | actor.warp << 5 | lane;
            }
        }
        None
    }

    #[inline(always)]
    fn note_reader(&mut self, actor: &Actor, lane: u32) {
        let who = actor.block << BLOCK | lane;
        let past = self.readers == 0 || actor.past(self.read_clock);
        if past || (self.readers == 1 << actor.warp && self.read_who == who) {
            self.readers = 1 << actor.warp;
            self.read_who = who;
            self.read_clock = actor.clock;
        } else {
            self.note_late_reader(actor, lane);
        }
    }

    fn note_late_reader(&mut self, actor: &Actor, lane: u32) {
        let other_block = self.read_who >> BLOCK != actor.block;
        if other_block || self.late_readers_ordered(actor, lane) {
            self.readers = 1 << actor.warp;
            self.read_who = actor.block << BLOCK | lane;
            self.read_clock = actor.clock;
        } else {
            self.readers |= 1 << actor.warp;
            self.read_who = actor.block << BLOCK | MANY;
            self.read_clock = self.read_clock.max(actor.clock);
        }
    }
}

/// Bytes that one [`Page`] covers.
pub const PAGE: usize = 4096;

/// What is remembered of a page: per 16 bytes, or per fewer once so little was touched alone.
#[derive(Debug, Clone)]
pub struct Page {
    shift: u32,
    words: Vec<Word>,
}

impl Page {
    /// Nobody touched it.
    pub fn new() -> Self {
        Self {
            shift: 4,
            words: vec![Word::default(); PAGE / 16],
        }
    }

    /// Touches bytes that lie in the page.
    #[inline(always)]
    pub fn touch(
        &mut self,
        actor: &Actor,
        lane: u32,
        offset: usize,
        size: usize,
        touch: Touch,
    ) -> Result<(), Conflict> {
        if size >> self.shift == 0 {
            self.refine(size.trailing_zeros());
        }
        let first = offset >> self.shift;
        for word in &mut self.words[first..first + (size >> self.shift)] {
            if let Some(conflict) = word.touch(actor, lane, touch) {
                return Err(conflict);
            }
        }
        Ok(())
    }

    /// Touches what 32 lanes have in the page, each `size` bytes, four or more, one after the other.
    #[inline(always)]
    pub fn touch_run(
        &mut self,
        actor: &Actor,
        offset: usize,
        size: usize,
        touch: Touch,
    ) -> Result<(), (u32, Conflict)> {
        if size >> self.shift == 0 {
            self.refine(size.trailing_zeros());
        }
        let first = offset >> self.shift;
        let each = size >> self.shift;
        let words = &mut self.words[first..first + 32 * each];
        for (lane, words) in words.chunks_exact_mut(each).enumerate() {
            for word in words {
                if let Some(conflict) = word.touch(actor, lane as u32, touch) {
                    return Err((lane as u32, conflict));
                }
            }
        }
        Ok(())
    }

    #[cold]
    fn refine(&mut self, shift: u32) {
        let times = 1 << (self.shift - shift);
        self.words = self
            .words
            .iter()
            .flat_map(|word| std::iter::repeat_n(*word, times))
            .collect();
        self.shift = shift;
    }
}
