//! What all warps of a launch share.

use crate::decode::Kernel;
use crate::lanes::{lanes_of, Longs};
use crate::memory::global::Global;
use crate::memory::race::{Conflict, Touch};
use crate::memory::region::{Region, Unreadable};
use crate::op::Space;
use crate::options::MmaModel;

/// Bits of a shared address; above them is one more than the block of the cluster that is meant.
pub const RANK: u32 = 24;

/// What all warps of a launch share.
pub struct World<'a> {
    /// What runs.
    pub kernel: &'a Kernel,
    /// The device's memory.
    pub global: &'a mut Global,
    /// Shared memory of all resident blocks.
    pub shared: Vec<Region>,
    /// The parameters.
    pub parameters: &'a [u8],
    /// Whether everything is checked.
    pub sanitize: bool,
    /// How matrices are multiplied.
    pub model: MmaModel,
    /// Blocks of a cluster.
    pub cluster: u32,
    /// Whether all blocks are resident.
    pub cooperative: bool,
    /// Whether the resident block may see what others released.
    pub acquired: bool,
    /// Where the last access found its allocation.
    pub last: usize,
    /// Steps that all warps made.
    pub steps: u64,
}

impl World<'_> {
    /// Where `size` bytes are that a warp of the resident block `block` means.
    #[inline(always)]
    pub fn locate(
        &mut self,
        space: Space,
        block: usize,
        address: u64,
        size: usize,
    ) -> Result<(&mut Region, usize), String> {
        match space {
            Space::Global => self.global.locate(address, size, &mut self.last),
            Space::Shared => {
                let bytes = self.shared[block].data.len();
                if address < 1 << RANK {
                    let offset = address as usize;
                    return if offset + size <= bytes {
                        Ok((&mut self.shared[block], offset))
                    } else {
                        Err(format!(
                            "{size} bytes at {offset} lie outside of the {bytes} bytes of shared memory of the block"
                        ))
                    };
                }
                let rank = (address >> RANK) - 1;
                let offset = (address & ((1 << RANK) - 1)) as usize;
                if rank >= u64::from(self.cluster) || offset + size > bytes {
                    return Err(format!(
                        "{size} bytes at 0x{address:x} lie outside of the {bytes} bytes of shared memory of any block of \
                         the cluster"
                    ));
                }
                let first = block - block % self.cluster as usize;
                Ok((&mut self.shared[first + rank as usize], offset))
            }
        }
    }

    /// Whether `size` bytes lie in one region.
    #[inline(always)]
    pub fn within(&mut self, space: Space, block: usize, address: u64, size: usize) -> bool {
        match space {
            Space::Global => self.global.within(address, size, &mut self.last),
            Space::Shared => address < 1 << RANK && address as usize + size <= self.shared[block].data.len(),
        }
    }

    /// What asynchronous copies promised of a block's shared memory is there.
    pub fn complete(&mut self, block: usize, mask: u32, to: &Longs, bytes: usize) {
        for lane in lanes_of(mask) {
            self.shared[block].written(to[lane as usize] as usize, bytes);
        }
    }

    /// Words for where something is.
    pub fn describe(&self, space: Space, address: u64) -> String {
        match space {
            Space::Global => self.global.describe(address),
            Space::Shared => format!("byte {} of shared memory", address & ((1 << RANK) - 1)),
        }
    }
}

/// Words for why something cannot be read; `at` tells where a byte is.
#[cold]
pub fn unreadable(why: Unreadable, offset: usize, address: u64, describe: impl Fn(u64) -> String) -> String {
    match why {
        Unreadable::Unwritten(byte) => {
            format!(
                "reads what was never written: {}",
                describe(address + (byte - offset) as u64)
            )
        }
        Unreadable::Pending(byte) => format!(
            "touches what an asynchronous copy has yet to fill (`cp.async.wait_group` is missing or too weak): {}",
            describe(address + byte.saturating_sub(offset) as u64)
        ),
    }
}

/// Words for a race.
#[cold]
pub fn race(touch: Touch, conflict: Conflict, own_block: u32, place: &str) -> String {
    let verb = |touch| match touch {
        Touch::Read => "reads",
        Touch::Write => "writes",
        Touch::AtomicRead => "reads by an atomic",
        Touch::AtomicWrite => "writes by an atomic",
    };
    let past = match conflict.touch {
        Touch::Read => "read",
        Touch::Write => "written",
        Touch::AtomicRead | Touch::AtomicWrite => "written by an atomic",
    };
    let who = match conflict.thread {
        Some(thread) => format!("thread {thread}"),
        None => "several threads".to_string(),
    };
    let block = if conflict.block == own_block {
        String::new()
    } else {
        format!(" of block {} (counted along x, then y, then z)", conflict.block)
    };
    format!(
        "race: {} what {who}{block} has {past} with no barrier between: {place}",
        verb(touch)
    )
}
