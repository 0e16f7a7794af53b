//! What the lanes of a warp tell each other.

use super::trap::{lanes_of, trap, Outcome};
use super::warp::{Warp, ALL};
use super::world::World;
use crate::op::{Reg, Shuffle, Vote};

impl Warp {
    /// Refuses a step that all threads of the warp must make, if one that is not done is elsewhere.
    pub fn aligned(&self, mask: u32) -> Outcome {
        let missing = self.alive & !mask;
        if missing == 0 {
            Ok(())
        } else {
            let lane = missing.trailing_zeros();
            trap(
                mask.trailing_zeros(),
                format!(
                    "divergent: all threads of the warp must be here, and lane {lane} is not (lanes 0x{mask:08x} are)"
                ),
            )
        }
    }

    /// The same, with all 32 threads there.
    pub fn complete(&self, mask: u32) -> Outcome {
        self.aligned(mask)?;
        if mask == ALL {
            Ok(())
        } else {
            trap(
                mask.trailing_zeros(),
                format!("all 32 threads of the warp must be here, and only lanes 0x{mask:08x} are"),
            )
        }
    }

    /// The members of a warp-wide step, all of which must be here.
    pub fn members(&self, world: &World<'_>, mask: u32, reg: Reg) -> Outcome<u32> {
        self.need_words(world.kernel, mask, [reg])?;
        let members = self.words[reg as usize];
        let first = members[mask.trailing_zeros() as usize];
        for lane in lanes_of(mask) {
            let own = members[lane as usize];
            if own >> lane & 1 == 0 {
                return trap(
                    lane,
                    format!("the thread is not among the members 0x{own:08x} that it names"),
                );
            }
            if own != first {
                return trap(
                    lane,
                    format!("names the members 0x{own:08x}, others name 0x{first:08x}"),
                );
            }
        }
        let missing = first & self.alive & !mask;
        if missing != 0 {
            let lane = missing.trailing_zeros();
            return trap(
                mask.trailing_zeros(),
                format!("lane {lane} is among the members 0x{first:08x} and is not here (lanes 0x{mask:08x} are)"),
            );
        }
        Ok(first)
    }

    /// `shfl`: value, lane, clamp and segment, members.
    pub fn shuffle(
        &mut self,
        world: &World<'_>,
        mask: u32,
        how: Shuffle,
        (d, inside): (Reg, Option<Reg>),
        [value, distance, clamp, members]: [Reg; 4],
    ) -> Outcome {
        self.need_words(world.kernel, mask, [value, distance, clamp])?;
        let members = self.members(world, mask, members)?;
        let values = self.words[value as usize];
        let (mut out, mut found) = (values, 0u32);
        for lane in lanes_of(mask) {
            let c = self.words[clamp as usize][lane as usize];
            let b = self.words[distance as usize][lane as usize] & 31;
            let (clamp, segment) = (c & 31, c >> 8 & 31);
            let last = (lane & segment) | (clamp & !segment);
            let first = lane & segment;
            let (from, within) = match how {
                Shuffle::Up => (lane.wrapping_sub(b), lane as i32 - b as i32 >= last as i32),
                Shuffle::Down => (lane + b, lane + b <= last),
                Shuffle::Butterfly => (lane ^ b, lane ^ b <= last),
                Shuffle::Index => {
                    let from = first | (b & !segment);
                    (from, from <= last)
                }
            };
            if !within {
                continue;
            }
            if members >> from & 1 == 0 || mask >> from & 1 == 0 {
                let why = if members >> from & 1 == 0 {
                    "is not among the members"
                } else {
                    "is not here"
                };
                return trap(
                    lane,
                    format!("reads lane {from}, which {why} (members 0x{members:08x}, here 0x{mask:08x})"),
                );
            }
            found |= 1 << lane;
            out[lane as usize] = values[from as usize];
        }
        self.put_words(d, mask, &out);
        if let Some(inside) = inside {
            self.put_predicate(inside, mask, found);
        }
        self.synchronise();
        Ok(())
    }

    /// `vote`.
    pub fn vote(
        &mut self,
        world: &World<'_>,
        mask: u32,
        (vote, d): (Vote, Reg),
        (predicate, negate): (Reg, bool),
        members: Reg,
    ) -> Outcome {
        self.need_predicate(world.kernel, mask, predicate)?;
        self.members(world, mask, members)?;
        let value = self.predicates[predicate as usize];
        let yes = mask & if negate { !value } else { value };
        let all = |yes: bool| if yes { ALL } else { 0 };
        match vote {
            Vote::Ballot => self.put_words(d, mask, &[yes; 32]),
            Vote::Any => self.put_predicate(d, mask, all(yes != 0)),
            Vote::All => self.put_predicate(d, mask, all(yes == mask)),
            Vote::Uniform => self.put_predicate(d, mask, all(yes == mask || yes == 0)),
        }
        self.synchronise();
        Ok(())
    }

    /// `redux`: result, value, members.
    pub fn reduce(
        &mut self,
        world: &World<'_>,
        mask: u32,
        f: fn(u32, u32) -> u32,
        (d, value, members): (Reg, Reg, Reg),
    ) -> Outcome {
        self.need_words(world.kernel, mask, [value])?;
        self.members(world, mask, members)?;
        let values = self.words[value as usize];
        let mut lanes = lanes_of(mask).map(|lane| values[lane as usize]);
        let first = lanes.next().unwrap_or(0);
        let result = lanes.fold(first, f);
        self.put_words(d, mask, &[result; 32]);
        self.synchronise();
        Ok(())
    }

    /// What a barrier of the block is told: its number, and how many threads meet.
    pub fn barrier_operands(
        &self,
        world: &World<'_>,
        mask: u32,
        id: Reg,
        count: Option<Reg>,
    ) -> Outcome<(u32, Option<u32>)> {
        self.aligned(mask)?;
        let lane = mask.trailing_zeros();
        let value = |reg: Reg| -> Outcome<u32> {
            self.need_words(world.kernel, mask, [reg])?;
            let value = self.words[reg as usize][lane as usize];
            if lanes_of(mask).any(|l| self.words[reg as usize][l as usize] != value) {
                return trap(lane, "the lanes name different barriers or counts");
            }
            Ok(value)
        };
        let id = value(id)?;
        if id > 15 {
            return trap(lane, format!("there are barriers 0 to 15, and no {id}"));
        }
        let count = count.map(value).transpose()?;
        if let Some(count) = count.filter(|count| *count == 0 || count % 32 != 0) {
            return trap(lane, format!("{count} threads are no whole warps"));
        }
        Ok((id, count))
    }
}
