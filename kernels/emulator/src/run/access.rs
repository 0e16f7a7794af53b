//! Loads, stores and atomics of a warp.

use super::reach::Reach;
use super::trap::{lanes_of, trap, Outcome};
use super::warp::Warp;
use super::world::World;
use crate::lanes::{Words, LANES};
use crate::memory::race::Touch;
use crate::op::{Access, Atomic, AtomicAccess, Manner, Place, Slot, Space};

/// A narrow value in a register of `extend` bits, its sign above it.
#[inline(always)]
fn extended(value: u64, width: u8, extend: Option<u8>) -> u64 {
    match extend {
        None => value,
        Some(bits) => {
            let unused = 64 - u32::from(width) * 8;
            let signed = ((value << unused) as i64 >> unused) as u64;
            signed & (u64::MAX >> (64 - u32::from(bits)))
        }
    }
}

/// A parameter's value.
pub fn parameter(bytes: &[u8], at: u16, width: u8, extend: Option<u8>) -> u64 {
    let mut value = [0; 8];
    let at = at as usize;
    value[..width as usize].copy_from_slice(&bytes[at..at + width as usize]);
    extended(u64::from_le_bytes(value), width, extend)
}

/// Word `part` of every lane's `SIZE` bytes, which follow each other.
fn gather<const SIZE: usize>(words: &mut Words, data: &[u8], part: usize) {
    for (word, bytes) in words.iter_mut().zip(data.chunks_exact(SIZE)) {
        let bytes = &bytes[4 * part..4 * part + 4];
        *word = u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
    }
}

/// Writes word `part` of every lane's `SIZE` bytes, which follow each other.
fn scatter<const SIZE: usize>(words: &Words, data: &mut [u8], part: usize) {
    for (word, bytes) in words.iter().zip(data.chunks_exact_mut(SIZE)) {
        bytes[4 * part..4 * part + 4].copy_from_slice(&word.to_le_bytes());
    }
}

impl Warp {
    /// `ld`.
    pub fn load(&mut self, world: &mut World<'_>, access: &Access, mask: u32) -> Outcome {
        let addresses = self.addresses(world.kernel, mask, &access.place, access.space)?;
        let (width, count) = (access.width as usize, access.count as usize);
        let touch = match access.manner {
            Manner::Plain => Touch::Read,
            Manner::Atomic | Manner::Acquire => {
                self.polled = true;
                world.acquired |= access.manner == Manner::Acquire;
                Touch::AtomicRead
            }
        };
        let size = width * count;
        let reach = Reach {
            space: access.space,
            size,
            touch,
            reads: true,
        };
        self.reach(world, reach, &addresses, mask, |warp, region, mask, offsets| {
            for (i, slot) in access.slots[..count].iter().enumerate() {
                match (slot, width) {
                    (Slot::Word(reg), 4) if offsets.run => {
                        let words = &mut warp.words[*reg as usize];
                        let data = &region.data[offsets.at[0]..offsets.at[0] + LANES * size];
                        match count {
                            1 => gather::<4>(words, data, i),
                            2 => gather::<8>(words, data, i),
                            _ => gather::<16>(words, data, i),
                        }
                    }
                    (Slot::Word(reg), 4) => {
                        let words = &mut warp.words[*reg as usize];
                        for lane in lanes_of(mask) {
                            words[lane as usize] = region.word(offsets.of(lane) + i * 4);
                        }
                    }
                    _ => {
                        for lane in lanes_of(mask) {
                            let value = region.load(offsets.of(lane) + i * width, access.width);
                            warp.put(*slot, lane, extended(value, access.width, access.extend));
                        }
                    }
                }
            }
        })?;
        for slot in &access.slots[..count] {
            self.set(*slot, mask);
        }
        Ok(())
    }

    /// `st`.
    pub fn store(&mut self, world: &mut World<'_>, access: &Access, mask: u32) -> Outcome {
        let addresses = self.addresses(world.kernel, mask, &access.place, access.space)?;
        let (width, count) = (access.width as usize, access.count as usize);
        for slot in &access.slots[..count] {
            self.need(world.kernel, mask, *slot)?;
        }
        let touch = if access.manner == Manner::Plain {
            Touch::Write
        } else {
            Touch::AtomicWrite
        };
        let size = width * count;
        let reach = Reach {
            space: access.space,
            size,
            touch,
            reads: false,
        };
        self.reach(world, reach, &addresses, mask, |warp, region, mask, offsets| {
            for (i, slot) in access.slots[..count].iter().enumerate() {
                if let (Slot::Word(reg), 4, true) = (slot, width, offsets.run) {
                    let words = &warp.words[*reg as usize];
                    let data = &mut region.data[offsets.at[0]..offsets.at[0] + LANES * size];
                    match count {
                        1 => scatter::<4>(words, data, i),
                        2 => scatter::<8>(words, data, i),
                        _ => scatter::<16>(words, data, i),
                    }
                    continue;
                }
                for lane in lanes_of(mask) {
                    region.store(offsets.of(lane) + i * width, access.width, warp.get(*slot, lane));
                }
            }
            region.written_by(mask, offsets, size);
        })
    }

    /// `atom` and `red`, lane after lane.
    pub fn atomic(&mut self, world: &mut World<'_>, access: &AtomicAccess, mask: u32) -> Outcome {
        let addresses = self.addresses(world.kernel, mask, &access.place, access.space)?;
        self.polled = true;
        world.acquired |= access.acquire;
        for slot in access.operands {
            self.need(world.kernel, mask, slot)?;
        }
        let size = access.width as usize;
        let reach = Reach {
            space: access.space,
            size,
            touch: Touch::AtomicWrite,
            reads: true,
        };
        self.reach(world, reach, &addresses, mask, |warp, region, mask, offsets| {
            for lane in lanes_of(mask) {
                let offset = offsets.of(lane);
                let old = region.load(offset, access.width);
                let [first, second] = access.operands.map(|slot| warp.get(slot, lane));
                let new = match access.atomic {
                    Atomic::Combine(f) => f(old, first),
                    Atomic::CompareAndSwap if old == first => second,
                    Atomic::CompareAndSwap => old,
                };
                region.store(offset, access.width, new);
                region.written(offset, size);
                if let Some(slot) = access.destination {
                    warp.put(slot, lane, old);
                }
            }
        })?;
        if let Some(slot) = access.destination {
            self.set(slot, mask);
        }
        Ok(())
    }

    /// `prefetch`: does nothing, with an address that must be one.
    pub fn prefetch(&mut self, world: &mut World<'_>, place: &Place, mask: u32) -> Outcome {
        let addresses = self.addresses(world.kernel, mask, place, Space::Global)?;
        for lane in lanes_of(mask) {
            if let Err(what) = world.locate(Space::Global, self.home, addresses[lane as usize], 1) {
                return trap(lane, what);
            }
        }
        Ok(())
    }
}
