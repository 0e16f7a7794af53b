//! Loads, stores and atomics of a warp.

use super::trap::{lanes_of, trap, Outcome};
use super::warp::Warp;
use super::world::{race, unreadable, World};
use crate::memory::race::Touch;
use crate::op::{Access, Atomic, AtomicAccess, Manner, Place, Space};

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

/// Refuses an address that is not a multiple of the access.
#[inline(always)]
pub fn align(world: &World<'_>, space: Space, lane: u32, address: u64, size: usize) -> Outcome {
    if address & (size as u64 - 1) == 0 {
        Ok(())
    } else {
        trap(
            lane,
            format!(
                "misaligned: 0x{address:x} is not a multiple of {size}: {}",
                world.describe(space, address)
            ),
        )
    }
}

impl Warp {
    /// Checks one lane's access, and remembers it: where it is in its region.
    #[inline(always)]
    pub fn check(
        &self,
        world: &mut World<'_>,
        space: Space,
        (lane, address, size): (u32, u64, usize),
        touch: Touch,
        reads: bool,
    ) -> Outcome {
        if !world.sanitize {
            return Ok(());
        }
        let home = self.home;
        let (region, offset) = match world.locate(space, home, address, size) {
            Ok(found) => found,
            Err(what) => return trap(lane, what),
        };
        if reads {
            if let Err(why) = region.readable(offset, size) {
                return trap(lane, unreadable(why, offset, address, |at| world.describe(space, at)));
            }
        } else if space == Space::Shared && region.pending(offset, size) {
            let why = crate::memory::region::Unreadable::Pending(offset);
            return trap(lane, unreadable(why, offset, address, |at| world.describe(space, at)));
        }
        if let Err(conflict) = region.touch(&self.actor, lane, offset, size, touch) {
            return trap(
                lane,
                race(touch, conflict, self.actor.block, &world.describe(space, address)),
            );
        }
        Ok(())
    }

    /// `ld`.
    pub fn load(&mut self, world: &mut World<'_>, access: &Access, mask: u32) -> Outcome {
        let addresses = self.addresses(world.kernel, mask, &access.place, access.space)?;
        let (width, count) = (access.width as usize, access.count as usize);
        let size = width * count;
        self.regard(world, access.space);
        let touch = match access.manner {
            Manner::Plain => Touch::Read,
            Manner::Atomic | Manner::Acquire => {
                self.polled = true;
                world.acquired |= access.manner == Manner::Acquire;
                Touch::AtomicRead
            }
        };
        for lane in lanes_of(mask) {
            let address = addresses[lane as usize];
            align(world, access.space, lane, address, size)?;
            self.check(world, access.space, (lane, address, size), touch, true)?;
            let (region, offset) = match world.locate(access.space, self.home, address, size) {
                Ok(found) => found,
                Err(what) => return trap(lane, what),
            };
            for (i, slot) in access.slots[..count].iter().enumerate() {
                let value = region.load(offset + i * width, access.width);
                self.put(*slot, lane, extended(value, access.width, access.extend));
            }
        }
        for slot in &access.slots[..count] {
            self.set(*slot, mask);
        }
        Ok(())
    }

    /// `st`.
    pub fn store(&mut self, world: &mut World<'_>, access: &Access, mask: u32) -> Outcome {
        let addresses = self.addresses(world.kernel, mask, &access.place, access.space)?;
        let (width, count) = (access.width as usize, access.count as usize);
        let size = width * count;
        self.regard(world, access.space);
        for slot in &access.slots[..count] {
            self.need(world.kernel, mask, *slot)?;
        }
        let touch = if access.manner == Manner::Plain {
            Touch::Write
        } else {
            Touch::AtomicWrite
        };
        for lane in lanes_of(mask) {
            let address = addresses[lane as usize];
            align(world, access.space, lane, address, size)?;
            self.check(world, access.space, (lane, address, size), touch, false)?;
            let (region, offset) = match world.locate(access.space, self.home, address, size) {
                Ok(found) => found,
                Err(what) => return trap(lane, what),
            };
            for (i, slot) in access.slots[..count].iter().enumerate() {
                region.store(offset + i * width, access.width, self.get(*slot, lane));
            }
            region.written(offset, size);
        }
        Ok(())
    }

    /// `atom` and `red`, lane after lane.
    pub fn atomic(&mut self, world: &mut World<'_>, access: &AtomicAccess, mask: u32) -> Outcome {
        let addresses = self.addresses(world.kernel, mask, &access.place, access.space)?;
        let size = access.width as usize;
        self.regard(world, access.space);
        self.polled = true;
        world.acquired |= access.acquire;
        for slot in access.operands {
            self.need(world.kernel, mask, slot)?;
        }
        for lane in lanes_of(mask) {
            let address = addresses[lane as usize];
            align(world, access.space, lane, address, size)?;
            self.check(world, access.space, (lane, address, size), Touch::AtomicWrite, true)?;
            let (region, offset) = match world.locate(access.space, self.home, address, size) {
                Ok(found) => found,
                Err(what) => return trap(lane, what),
            };
            let old = region.load(offset, access.width);
            let [first, second] = access.operands.map(|slot| self.get(slot, lane));
            let new = match access.atomic {
                Atomic::Combine(f) => f(old, first),
                Atomic::CompareAndSwap if old == first => second,
                Atomic::CompareAndSwap => old,
            };
            region.store(offset, access.width, new);
            region.written(offset, size);
            if let Some(slot) = access.destination {
                self.put(slot, lane, old);
            }
        }
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
