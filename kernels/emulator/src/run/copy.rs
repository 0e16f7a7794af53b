//! Asynchronous copies: what is read at once lies in shared memory only after a wait, and until then nobody may look.

use super::access::align;
use super::trap::{lanes_of, trap, Outcome};
use super::warp::Warp;
use super::world::World;
use crate::memory::race::Touch;
use crate::op::{AsyncCopy, Space};

/// A copy that is not complete.
#[derive(Debug, Clone)]
struct Copy {
    lane: u32,
    group: u32,
    to: u64,
    bytes: u8,
    data: [u8; 16],
}

/// The copies of a warp that are not complete.
#[derive(Debug, Clone, Default)]
pub struct Copies {
    pending: Vec<Copy>,
    /// The group of each lane that is not committed.
    groups: [u32; 32],
}

impl Copies {
    /// None.
    pub fn clear(&mut self) {
        self.pending.clear();
        self.groups = [0; 32];
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
        if let Some(read) = copy.read {
            self.need_words(world.kernel, mask, [read])?;
        }
        let bytes = copy.bytes as usize;
        for lane in lanes_of(mask) {
            let (to, from) = (to[lane as usize], from[lane as usize]);
            let read = copy
                .read
                .map_or(bytes, |read| self.words[read as usize][lane as usize] as usize);
            if read > bytes {
                return trap(lane, format!("{read} bytes are read of {bytes}"));
            }
            align(world, Space::Shared, lane, to, bytes)?;
            align(world, Space::Global, lane, from, bytes)?;
            let mut data = [0; 16];
            self.fetch(world, lane, from, &mut data[..read])?;
            self.regard(world, Space::Shared);
            self.check(world, Space::Shared, (lane, to, bytes), Touch::Write, false)?;
            match world.locate(Space::Shared, self.home, to, bytes) {
                Ok((region, offset)) => region.promise(offset, bytes),
                Err(what) => return trap(lane, what),
            }
            let group = self.copies.groups[lane as usize];
            self.copies.pending.push(Copy {
                lane,
                group,
                to,
                bytes: copy.bytes,
                data,
            });
        }
        Ok(())
    }

    /// Reads from global memory.
    fn fetch(&mut self, world: &mut World<'_>, lane: u32, from: u64, data: &mut [u8]) -> Outcome {
        if data.is_empty() {
            return Ok(());
        }
        self.regard(world, Space::Global);
        if data.len().is_power_of_two() {
            self.check(world, Space::Global, (lane, from, data.len()), Touch::Read, true)?;
        } else {
            for at in 0..data.len() {
                self.check(world, Space::Global, (lane, from + at as u64, 1), Touch::Read, true)?;
            }
        }
        match world.locate(Space::Global, self.home, from, data.len()) {
            Ok((region, offset)) => data.copy_from_slice(&region.data[offset..offset + data.len()]),
            Err(what) => return trap(lane, what),
        }
        Ok(())
    }

    /// Completes all but the last `count` groups of these lanes, or everything.
    pub fn wait(&mut self, world: &mut World<'_>, mask: u32, count: Option<u32>) -> Outcome {
        self.regard(world, Space::Shared);
        let mut pending = std::mem::take(&mut self.copies.pending);
        let mut kept = 0;
        for i in 0..pending.len() {
            let copy = &pending[i];
            let waited = mask >> copy.lane & 1 == 1;
            let complete =
                waited && count.is_none_or(|count| copy.group + count < self.copies.groups[copy.lane as usize]);
            if !complete {
                pending.swap(kept, i);
                kept += 1;
                continue;
            }
            let bytes = copy.bytes as usize;
            match world.locate(Space::Shared, self.home, copy.to, bytes) {
                Ok((region, offset)) => {
                    region.write(offset, &copy.data[..bytes]);
                    if world.sanitize {
                        self.check(world, Space::Shared, (copy.lane, copy.to, bytes), Touch::Write, false)?;
                    }
                }
                Err(what) => return trap(copy.lane, what),
            }
        }
        pending.truncate(kept);
        self.copies.pending = pending;
        Ok(())
    }
}
