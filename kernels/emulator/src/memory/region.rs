//! A stretch of memory: bytes, which of them were written, and who touched them.

use super::race::{Actor, Conflict, Page, Touch, PAGE};
use crate::lanes::lanes_of;

/// A bit of a word that an asynchronous copy will fill.
const PENDING: u8 = 1 << 4;

/// A stretch of memory.
#[derive(Debug)]
pub struct Region {
    /// What it holds.
    pub data: Vec<u8>,
    /// Per word: which of its bytes were written, and whether a copy will fill it.
    state: Vec<u8>,
    /// Words that are not written, or will be filled.
    open: usize,
    pages: Vec<Option<Box<Page>>>,
}

/// Why bytes cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unreadable {
    /// This byte was never written.
    Unwritten(usize),
    /// An asynchronous copy to this byte is not complete.
    Pending(usize),
}

/// What is wrong with how a lane gets at memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wrong {
    /// It cannot be read.
    Unreadable(Unreadable),
    /// It is a race.
    Conflict(Conflict),
}

/// Where the lanes of a warp are in a region.
#[derive(Debug, Clone)]
pub struct Offsets {
    /// Each of them.
    pub at: [usize; 32],
    /// Whether all lanes are there, one after the other without gaps.
    pub run: bool,
}

impl Offsets {
    /// Of these lanes, each with `size` bytes.
    #[inline(always)]
    pub fn new(at: [usize; 32], mask: u32, size: usize) -> Self {
        let mut gaps = 0;
        for (lane, at_lane) in at.iter().enumerate() {
            gaps |= at_lane ^ (at[0].wrapping_add(lane * size));
        }
        Self {
            at,
            run: gaps == 0 && mask == u32::MAX && size >= 4,
        }
    }

    /// Where a lane is.
    #[inline(always)]
    pub fn of(&self, lane: u32) -> usize {
        self.at[lane as usize]
    }
}

/// Which bytes of a word a stretch covers.
fn covered(word: usize, offset: usize, size: usize) -> u8 {
    let first = offset.saturating_sub(word * 4).min(4);
    let last = (offset + size - word * 4).min(4);
    (((1u16 << last) - 1) & !((1u16 << first) - 1)) as u8
}

impl Region {
    /// Memory that was never written, or that holds zeros.
    pub fn new(bytes: usize, zeros: bool) -> Self {
        let words = bytes.div_ceil(4);
        let mut region = Self {
            data: vec![if zeros { 0 } else { 0xff }; bytes],
            state: vec![if zeros { 0xf } else { 0 }; words],
            open: if zeros { 0 } else { words },
            pages: vec![None; bytes.div_ceil(PAGE)],
        };
        if !bytes.is_multiple_of(4) && !zeros {
            // What lies beyond the end counts as written, so that the last word can be.
            region.state[words - 1] = 0xf & !covered(words - 1, (words - 1) * 4, bytes % 4);
        }
        region
    }

    /// As if it were never written. Who touched it is remembered.
    pub fn forget(&mut self) {
        self.state.fill(0);
        self.open = self.state.len();
        self.data.fill(0xff);
    }

    /// As if nobody had touched it.
    pub fn forget_touches(&mut self) {
        self.pages.fill(None);
    }

    /// Whether these bytes may be read.
    #[inline(always)]
    pub fn readable(&self, offset: usize, size: usize) -> Result<(), Unreadable> {
        if self.open == 0 {
            return Ok(());
        }
        if size == 4 && self.state[offset / 4] == 0xf && offset.is_multiple_of(4) {
            return Ok(());
        }
        self.readable_words(offset, size)
    }

    fn readable_words(&self, offset: usize, size: usize) -> Result<(), Unreadable> {
        for word in offset / 4..(offset + size).div_ceil(4) {
            let needed = covered(word, offset, size);
            let state = self.state[word];
            if state & PENDING != 0 {
                return Err(Unreadable::Pending(offset.max(word * 4)));
            }
            let missing = needed & !state;
            if missing != 0 {
                return Err(Unreadable::Unwritten(word * 4 + missing.trailing_zeros() as usize));
            }
        }
        Ok(())
    }

    /// Whether no copy to one of these bytes is under way.
    fn settled(&self, offset: usize, size: usize) -> Result<(), Unreadable> {
        let words = offset / 4..(offset + size).div_ceil(4);
        if self.state[words].iter().any(|state| state & PENDING != 0) {
            Err(Unreadable::Pending(offset))
        } else {
            Ok(())
        }
    }

    /// These bytes are written.
    #[inline(always)]
    pub fn written(&mut self, offset: usize, size: usize) {
        if self.open == 0 {
            return;
        }
        if offset.is_multiple_of(4) && size.is_multiple_of(4) {
            let words = &mut self.state[offset / 4..(offset + size) / 4];
            self.open -= words.iter().map(|state| usize::from(*state != 0xf)).sum::<usize>();
            words.fill(0xf);
            return;
        }
        for word in offset / 4..(offset + size).div_ceil(4) {
            let state = self.state[word];
            let new = (state | covered(word, offset, size)) & 0xf;
            self.open -= usize::from(state != 0xf && new == 0xf);
            self.state[word] = new;
        }
    }

    /// What these lanes wrote, each `size` bytes, is written.
    #[inline(always)]
    pub fn written_by(&mut self, mask: u32, offsets: &Offsets, size: usize) {
        if self.open == 0 {
            return;
        }
        if offsets.run {
            return self.written(offsets.at[0], 32 * size);
        }
        for lane in lanes_of(mask) {
            self.written(offsets.of(lane), size);
        }
    }

    /// A copy will fill these words.
    pub fn promise(&mut self, offset: usize, size: usize) {
        for state in &mut self.state[offset / 4..(offset + size) / 4] {
            self.open += usize::from(*state == 0xf);
            *state |= PENDING;
        }
    }

    /// Checks what these lanes do, each to `size` bytes, and remembers it.
    #[inline(always)]
    pub fn check(
        &mut self,
        actor: &Actor,
        (mask, offsets): (u32, &Offsets),
        size: usize,
        touch: Touch,
        reads: bool,
    ) -> Result<(), (u32, Wrong)> {
        let first = offsets.at[0] / 4;
        let known = self.open == 0 || (offsets.run && self.state[first..first + 8 * size].iter().all(|s| *s == 0xf));
        if !known {
            for lane in lanes_of(mask) {
                let offset = offsets.of(lane);
                let readable = if reads {
                    self.readable(offset, size)
                } else {
                    self.settled(offset, size)
                };
                readable.map_err(|why| (lane, Wrong::Unreadable(why)))?;
            }
        }
        match touch {
            Touch::Read => self.touch(actor, (mask, offsets), size, Touch::Read),
            Touch::Write => self.touch(actor, (mask, offsets), size, Touch::Write),
            atomic => self.touch(actor, (mask, offsets), size, atomic),
        }
    }

    #[inline(always)]
    fn touch(
        &mut self,
        actor: &Actor,
        (mask, offsets): (u32, &Offsets),
        size: usize,
        touch: Touch,
    ) -> Result<(), (u32, Wrong)> {
        let first = offsets.at[0];
        let page = &mut self.pages[first / PAGE];
        if let Some(page) = page
            .as_mut()
            .filter(|_| offsets.run && first % PAGE + 32 * size <= PAGE)
        {
            let touched = page.touch_run(actor, first % PAGE, size, touch);
            return touched.map_err(|(lane, conflict)| (lane, Wrong::Conflict(conflict)));
        }
        for lane in lanes_of(mask) {
            let offset = offsets.of(lane);
            let page = self.pages[offset / PAGE].get_or_insert_with(|| Box::new(Page::new()));
            let touched = page.touch(actor, lane, offset % PAGE, size, touch);
            touched.map_err(|conflict| (lane, Wrong::Conflict(conflict)))?;
        }
        Ok(())
    }

    /// A word at a place.
    #[inline(always)]
    pub fn word(&self, offset: usize) -> u32 {
        u32::from_le_bytes(self.bytes(offset))
    }

    /// An element of `width` bytes.
    #[inline(always)]
    pub fn load(&self, offset: usize, width: u8) -> u64 {
        match width {
            4 => u64::from(u32::from_le_bytes(self.bytes(offset))),
            8 => u64::from_le_bytes(self.bytes(offset)),
            2 => u64::from(u16::from_le_bytes(self.bytes(offset))),
            _ => u64::from(self.data[offset]),
        }
    }

    /// Bytes at a place.
    #[inline(always)]
    pub fn bytes<const N: usize>(&self, offset: usize) -> [u8; N] {
        let mut bytes = [0; N];
        bytes.copy_from_slice(&self.data[offset..offset + N]);
        bytes
    }

    /// Writes an element of `width` bytes.
    #[inline(always)]
    pub fn store(&mut self, offset: usize, width: u8, value: u64) {
        match width {
            4 => self.data[offset..offset + 4].copy_from_slice(&(value as u32).to_le_bytes()),
            8 => self.data[offset..offset + 8].copy_from_slice(&value.to_le_bytes()),
            2 => self.data[offset..offset + 2].copy_from_slice(&(value as u16).to_le_bytes()),
            _ => self.data[offset] = value as u8,
        }
    }

    /// The host writes.
    pub fn write(&mut self, offset: usize, data: &[u8]) {
        self.data[offset..offset + data.len()].copy_from_slice(data);
        if !data.is_empty() {
            self.written(offset, data.len());
        }
    }
}
