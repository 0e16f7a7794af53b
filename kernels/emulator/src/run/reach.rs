//! How the lanes of a warp get at memory: all at once where they can, with everything checked first.

use super::trap::{lanes_of, trap, Outcome};
use super::warp::Warp;
use super::world::{race, unreadable, World};
use crate::lanes::Longs;
use crate::memory::race::Touch;
use crate::memory::region::{Offsets, Region, Wrong};
use crate::op::Space;

/// What lanes do to memory.
#[derive(Debug, Clone, Copy)]
pub struct Reach {
    /// Where.
    pub space: Space,
    /// How many bytes each; a power of two.
    pub size: usize,
    /// How.
    pub touch: Touch,
    /// Whether the bytes must have been written.
    pub reads: bool,
}

impl Warp {
    /// Checks what these lanes do at their addresses, and does it: `act` is told where they are, for all of them or for some
    /// at a time.
    #[inline(always)]
    pub fn reach(
        &mut self,
        world: &mut World<'_>,
        reach: Reach,
        addresses: &Longs,
        mask: u32,
        mut act: impl FnMut(&mut Self, &mut Region, u32, &Offsets),
    ) -> Outcome {
        self.regard(world, reach.space);
        let (low, span, bits) = extent(addresses, mask);
        if bits & (reach.size as u64 - 1) != 0 {
            return misaligned(world, reach, addresses, mask);
        }
        if let Some(span) = span.map(|span| span as usize + reach.size) {
            if world.within(reach.space, self.home, low, span) {
                return self.reach_lanes(world, reach, addresses, mask, (low, span), &mut act);
            }
        }
        for lane in lanes_of(mask) {
            let at = (addresses[lane as usize], reach.size);
            self.reach_lanes(world, reach, addresses, 1 << lane, at, &mut act)?;
        }
        Ok(())
    }

    /// The same where everything lies between these addresses.
    #[inline(always)]
    fn reach_lanes(
        &mut self,
        world: &mut World<'_>,
        reach: Reach,
        addresses: &Longs,
        mask: u32,
        (low, span): (u64, usize),
        act: &mut impl FnMut(&mut Self, &mut Region, u32, &Offsets),
    ) -> Outcome {
        let sanitize = world.sanitize;
        let (region, first) = match world.locate(reach.space, self.home, low, span) {
            Ok(found) => found,
            Err(what) => return trap(mask.trailing_zeros(), what),
        };
        let mut at = [0; 32];
        for (at, address) in at.iter_mut().zip(addresses) {
            *at = (address.wrapping_sub(low) as usize).wrapping_add(first);
        }
        let offsets = Offsets::new(at, mask, reach.size);
        if sanitize {
            if let Err((lane, wrong)) =
                region.check(&self.actor, (mask, &offsets), reach.size, reach.touch, reach.reads)
            {
                return self.wrong(world, reach, lane, (addresses[lane as usize], offsets.of(lane)), wrong);
            }
        }
        act(self, region, mask, &offsets);
        Ok(())
    }

    #[cold]
    fn wrong(
        &self,
        world: &World<'_>,
        reach: Reach,
        lane: u32,
        (address, offset): (u64, usize),
        wrong: Wrong,
    ) -> Outcome {
        let what = match wrong {
            Wrong::Unreadable(why) => unreadable(why, offset, address, |at| world.describe(reach.space, at)),
            Wrong::Conflict(conflict) => race(
                reach.touch,
                conflict,
                self.actor.block,
                &world.describe(reach.space, address),
            ),
        };
        trap(lane, what)
    }
}

/// The lowest of the addresses, how far the highest is from it if that is less than 2 GiB, and the bits that are set in any.
#[inline(always)]
fn extent(addresses: &Longs, mask: u32) -> (u64, Option<u32>, u64) {
    let first = addresses[mask.trailing_zeros() as usize & 31];
    let mut here = *addresses;
    if mask != u32::MAX {
        for (lane, address) in here.iter_mut().enumerate() {
            *address = if mask >> lane & 1 == 1 { *address } else { first };
        }
    }
    let (mut far, mut bits) = (0, 0);
    let mut distances = [0i32; 32];
    for (distance, address) in distances.iter_mut().zip(&here) {
        let wide = address.wrapping_sub(first);
        far |= wide.wrapping_add(1 << 30) >> 31;
        bits |= address;
        *distance = wide as i32;
    }
    let (mut low, mut high) = (0, 0);
    for distance in distances {
        low = low.min(distance);
        high = high.max(distance);
    }
    let span = (far == 0).then_some((high - low) as u32);
    (first.wrapping_add(i64::from(low) as u64), span, bits)
}

#[cold]
fn misaligned(world: &World<'_>, reach: Reach, addresses: &Longs, mask: u32) -> Outcome {
    let size = reach.size as u64;
    let lane = lanes_of(mask)
        .find(|lane| addresses[*lane as usize] & (size - 1) != 0)
        .unwrap_or(0);
    let address = addresses[lane as usize];
    let place = world.describe(reach.space, address);
    trap(
        lane,
        format!("misaligned: 0x{address:x} is not a multiple of {size}: {place}"),
    )
}
