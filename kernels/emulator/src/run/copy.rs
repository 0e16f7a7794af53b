//! Asynchronous copies: what is read at once lies in shared memory only after a wait, and until then nobody may look.

use super::reach::Reach;
use super::trap::{lanes_of, trap, Outcome};
use super::warp::Warp;
use super::world::World;
use crate::lanes::{Longs, Words, LANES};
use crate::memory::race::Touch;
use crate::op::{AsyncCopy, Space};

/// Copies that lanes began together and that are not complete.
#[derive(Debug, Clone)]
struct Batch {
    /// The lanes.
    mask: u32,
    /// The group of each.
    groups: [u32; LANES],
    to: Longs,
    bytes: usize,
    data: [[u8; 16]; LANES],
}

/// The copies of a warp that are not complete.
#[derive(Debug, Clone, Default)]
pub struct Copies {
    pending: Vec<Batch>,
    /// The group of each lane that is not committed.
    groups: [u32; LANES],
}

impl Copies {
    /// None.
    pub fn clear(&mut self) {
        self.pending.clear();
        self.groups = [0; LANES];
    }

    /// What these lanes copied since the last time is a group.
    pub fn commit(&mut self, mask: u32) {
        for lane in lanes_of(mask) {
            self.groups[lane as usize] += 1;
        }
    }
}

impl Warp {
    /// `cp.async`.
    pub fn copy(&mut self, world: &mut World<'_>, copy: &AsyncCopy, mask: u32) -> Outcome {
        let to = self.addresses(world.kernel, mask, &copy.to, Space::Shared)?;
        let from = self.addresses(world.kernel, mask, &copy.from, Space::Global)?;
        let bytes = copy.bytes as usize;
        let mut data = [[0u8; 16]; LANES];
        match copy.read {
            None => self.fetch(world, mask, &from, bytes, &mut data)?,
            Some(read) => {
                self.need_words(world.kernel, mask, [read])?;
                let read = self.words[read as usize];
                self.fetch_parts(world, mask, &from, (bytes, &read), &mut data)?;
            }
        }
        let reach = Reach {
            space: Space::Shared,
            size: bytes,
            touch: Touch::Write,
            reads: false,
        };
        self.reach(world, reach, &to, mask, |_, region, mask, offsets| {
            for lane in lanes_of(mask) {
                region.promise(offsets.of(lane), bytes);
            }
        })?;
        self.copies.pending.push(Batch {
            mask,
            groups: self.copies.groups,
            to,
            bytes,
            data,
        });
        Ok(())
    }

    /// Reads as many bytes in all these lanes.
    fn fetch(
        &mut self,
        world: &mut World<'_>,
        mask: u32,
        from: &Longs,
        bytes: usize,
        data: &mut [[u8; 16]; LANES],
    ) -> Outcome {
        let reach = Reach {
            space: Space::Global,
            size: bytes,
            touch: Touch::Read,
            reads: true,
        };
        self.reach(world, reach, from, mask, |_, region, mask, offsets| {
            for lane in lanes_of(mask) {
                let offset = offsets.of(lane);
                data[lane as usize][..bytes].copy_from_slice(&region.data[offset..offset + bytes]);
            }
        })
    }

    /// Reads up to so many bytes, as each lane says; the others are zeros, and lie anywhere.
    fn fetch_parts(
        &mut self,
        world: &mut World<'_>,
        mask: u32,
        from: &Longs,
        (bytes, read): (usize, &Words),
        data: &mut [[u8; 16]; LANES],
    ) -> Outcome {
        let mut whole = 0;
        for lane in lanes_of(mask) {
            let (address, read) = (from[lane as usize], read[lane as usize] as usize);
            if read > bytes {
                return trap(lane, format!("{read} bytes are read of {bytes}"));
            }
            if address % bytes as u64 != 0 {
                return trap(lane, format!("misaligned: 0x{address:x} is not a multiple of {bytes}"));
            }
            whole |= u32::from(read == bytes) << lane;
            for byte in (0..read).filter(|_| read < bytes) {
                let mut one = [[0; 16]; LANES];
                self.fetch(world, 1 << lane, &[address + byte as u64; LANES], 1, &mut one)?;
                data[lane as usize][byte] = one[lane as usize][0];
            }
        }
        if whole == 0 {
            return Ok(());
        }
        self.fetch(world, whole, from, bytes, data)
    }

    /// Completes all but the last `count` groups of these lanes, or everything.
    pub fn wait(&mut self, world: &mut World<'_>, mask: u32, count: Option<u32>) -> Outcome {
        let mut pending = std::mem::take(&mut self.copies.pending);
        for batch in &mut pending {
            let mut complete = 0;
            for lane in lanes_of(mask & batch.mask) {
                let (group, last) = (batch.groups[lane as usize], self.copies.groups[lane as usize]);
                complete |= u32::from(count.is_none_or(|count| group + count < last)) << lane;
            }
            if complete == 0 {
                continue;
            }
            batch.mask &= !complete;
            let (bytes, data) = (batch.bytes, &batch.data);
            world.complete(self.home, complete, &batch.to, bytes);
            // From now on it is these threads that wrote them, now.
            let reach = Reach {
                space: Space::Shared,
                size: bytes,
                touch: Touch::Write,
                reads: false,
            };
            self.reach(world, reach, &batch.to, complete, |_, region, mask, offsets| {
                for lane in lanes_of(mask) {
                    let offset = offsets.of(lane);
                    region.data[offset..offset + bytes].copy_from_slice(&data[lane as usize][..bytes]);
                }
            })?;
        }
        pending.retain(|batch| batch.mask != 0);
        self.copies.pending = pending;
        Ok(())
    }
}
