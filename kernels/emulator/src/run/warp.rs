//! A warp: its registers, where its lanes are, what it is waiting for.

use super::copy::Copies;
use super::trap::{trap, Outcome};
use super::world::World;
use crate::decode::Kernel;
use crate::lanes::{Longs, Words, LANES};
use crate::memory::race::{Actor, Between};
use crate::op::{Base, Place, Reg, Slot, Space};

/// All lanes.
pub const ALL: u32 = u32::MAX;

/// What a warp is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It can run.
    Ready,
    /// It is at a barrier of its block.
    Barrier(u32),
    /// It waits for its cluster.
    Cluster,
    /// All its threads are done.
    Done,
}

/// A warp.
pub struct Warp {
    /// Registers of 32 bits or fewer.
    pub words: Vec<Words>,
    /// Registers of 64 bits.
    pub longs: Vec<Longs>,
    /// Predicates, a bit a lane.
    pub predicates: Vec<u32>,
    /// Lanes in which each was written.
    pub words_set: Vec<u32>,
    /// Lanes in which each was written.
    pub longs_set: Vec<u32>,
    /// Lanes in which each was written.
    pub predicates_set: Vec<u32>,
    /// The step that runs next.
    pub pc: u32,
    /// The lanes that are there.
    pub active: u32,
    /// Lanes elsewhere, all at this step or further on.
    pub limit: u32,
    /// Where they are.
    pub others: Vec<(u32, u32)>,
    /// Lanes whose threads are not done.
    pub alive: u32,
    /// What it is doing.
    pub state: State,
    /// Who it is to the memory.
    pub actor: Actor,
    /// The clock at the beginning of the launch.
    pub launch: u32,
    /// The clock of its cluster's last barrier.
    pub joined: u32,
    /// The cluster's barrier for which it came, if it has not passed it.
    pub came: Option<u64>,
    /// Its asynchronous copies.
    pub copies: Copies,
    /// Whether it looked at something that others may change, since it last went back.
    pub polled: bool,
    /// Its block among the resident ones.
    pub home: usize,
}

impl Warp {
    /// A warp of a kernel, the constants in its registers.
    pub fn new(kernel: &Kernel, warp: u32, home: usize) -> Self {
        let mut new = Self {
            words: vec![[0xdead_beef; LANES]; kernel.words.len()],
            longs: vec![[0xdead_beef_dead_beef; LANES]; kernel.longs.len()],
            predicates: vec![0; kernel.predicates.len()],
            words_set: vec![0; kernel.words.len()],
            longs_set: vec![0; kernel.longs.len()],
            predicates_set: vec![0; kernel.predicates.len()],
            pc: 0,
            active: 0,
            limit: u32::MAX,
            others: Vec::new(),
            alive: 0,
            state: State::Done,
            actor: Actor {
                oldest: 0,
                begin: 0,
                settled: 0,
                ceiling: 0,
                clock: 0,
                noted: [0; 32],
                block: 0,
                warp,
                between: Between::Nothing,
            },
            launch: 0,
            joined: 0,
            came: None,
            copies: Copies::default(),
            polled: false,
            home,
        };
        for (slot, value) in &kernel.constants {
            match slot {
                Slot::Word(reg) => new.words[*reg as usize] = [*value as u32; LANES],
                Slot::Long(reg) => new.longs[*reg as usize] = [*value; LANES],
            }
        }
        new
    }

    /// At the first step, with so many threads, at the clock of the launch.
    pub fn begin(&mut self, world: &World<'_>, threads: u32, block: u32, (launch, clock): (u32, u32)) {
        let (kernel, sanitize, clustered) = (world.kernel, world.sanitize, world.cluster > 1);
        let set = if sanitize { 0 } else { ALL };
        self.words_set.fill(set);
        self.longs_set.fill(set);
        self.predicates_set.fill(set);
        for (slot, _) in &kernel.constants {
            self.set(*slot, ALL);
        }
        self.alive = if threads >= 32 { ALL } else { (1 << threads) - 1 };
        self.active = self.alive;
        self.pc = 0;
        self.limit = u32::MAX;
        self.others.clear();
        self.state = State::Ready;
        self.launch = launch;
        self.actor.restart(clock, block);
        self.joined = clock - 1;
        self.actor.ceiling = if clustered { self.joined } else { u32::MAX - 1 };
        self.came = None;
        self.copies.clear();
        self.polled = false;
    }

    /// A register is written in these lanes.
    #[inline(always)]
    pub fn set(&mut self, slot: Slot, mask: u32) {
        match slot {
            Slot::Word(reg) => self.words_set[reg as usize] |= mask,
            Slot::Long(reg) => self.longs_set[reg as usize] |= mask,
        }
    }

    /// Writes one lane of a register.
    #[inline(always)]
    pub fn put(&mut self, slot: Slot, lane: u32, value: u64) {
        match slot {
            Slot::Word(reg) => self.words[reg as usize][lane as usize] = value as u32,
            Slot::Long(reg) => self.longs[reg as usize][lane as usize] = value,
        }
    }

    /// Reads one lane of a register.
    #[inline(always)]
    pub fn get(&self, slot: Slot, lane: u32) -> u64 {
        match slot {
            Slot::Word(reg) => u64::from(self.words[reg as usize][lane as usize]),
            Slot::Long(reg) => self.longs[reg as usize][lane as usize],
        }
    }

    /// Writes lanes of a register.
    #[inline(always)]
    pub fn put_words(&mut self, reg: Reg, mask: u32, value: &Words) {
        let to = &mut self.words[reg as usize];
        if mask == ALL {
            *to = *value;
        } else {
            for (lane, (to, value)) in to.iter_mut().zip(value).enumerate() {
                *to = if mask >> lane & 1 == 1 { *value } else { *to };
            }
        }
        self.words_set[reg as usize] |= mask;
    }

    /// Writes lanes of a register.
    #[inline(always)]
    pub fn put_longs(&mut self, reg: Reg, mask: u32, value: &Longs) {
        let to = &mut self.longs[reg as usize];
        if mask == ALL {
            *to = *value;
        } else {
            for (lane, (to, value)) in to.iter_mut().zip(value).enumerate() {
                *to = if mask >> lane & 1 == 1 { *value } else { *to };
            }
        }
        self.longs_set[reg as usize] |= mask;
    }

    /// Writes lanes of a predicate.
    #[inline(always)]
    pub fn put_predicate(&mut self, reg: Reg, mask: u32, value: u32) {
        let to = &mut self.predicates[reg as usize];
        *to = (*to & !mask) | (value & mask);
        self.predicates_set[reg as usize] |= mask;
    }

    /// Refuses lanes in which one of these was never written.
    #[inline(always)]
    pub fn need_words<const N: usize>(&self, kernel: &Kernel, mask: u32, regs: [Reg; N]) -> Outcome {
        let set = regs.iter().fold(ALL, |set, reg| set & self.words_set[*reg as usize]);
        if mask & !set == 0 {
            Ok(())
        } else {
            unset(mask, &regs, &self.words_set, &kernel.words)
        }
    }

    /// Refuses lanes in which one of these was never written.
    #[inline(always)]
    pub fn need_longs<const N: usize>(&self, kernel: &Kernel, mask: u32, regs: [Reg; N]) -> Outcome {
        let set = regs.iter().fold(ALL, |set, reg| set & self.longs_set[*reg as usize]);
        if mask & !set == 0 {
            Ok(())
        } else {
            unset(mask, &regs, &self.longs_set, &kernel.longs)
        }
    }

    /// Refuses lanes in which the predicate was never written.
    #[inline(always)]
    pub fn need_predicate(&self, kernel: &Kernel, mask: u32, reg: Reg) -> Outcome {
        if mask & !self.predicates_set[reg as usize] == 0 {
            Ok(())
        } else {
            unset(mask, &[reg], &self.predicates_set, &kernel.predicates)
        }
    }

    /// Refuses lanes in which the register was never written.
    #[inline(always)]
    pub fn need(&self, kernel: &Kernel, mask: u32, slot: Slot) -> Outcome {
        match slot {
            Slot::Word(reg) => self.need_words(kernel, mask, [reg]),
            Slot::Long(reg) => self.need_longs(kernel, mask, [reg]),
        }
    }

    /// The addresses of all lanes.
    #[inline(always)]
    pub fn addresses(&self, kernel: &Kernel, mask: u32, place: &Place, space: Space) -> Outcome<Longs> {
        let offset = place.offset as u64;
        let mut out = [offset; LANES];
        match place.base {
            Base::Zero => {}
            Base::Slot(Slot::Long(reg)) => {
                self.need_longs(kernel, mask, [reg])?;
                for (out, base) in out.iter_mut().zip(&self.longs[reg as usize]) {
                    *out = base.wrapping_add(offset);
                }
            }
            Base::Slot(Slot::Word(reg)) => {
                self.need_words(kernel, mask, [reg])?;
                let wrap = if space == Space::Shared {
                    u64::from(u32::MAX)
                } else {
                    u64::MAX
                };
                for (out, base) in out.iter_mut().zip(&self.words[reg as usize]) {
                    *out = u64::from(*base).wrapping_add(offset) & wrap;
                }
            }
        }
        Ok(out)
    }

    /// The other lanes are elsewhere: whoever is least far runs next.
    pub fn settle(&mut self) {
        if self.active != 0 {
            self.others.push((self.pc, self.active));
        }
        let first = self.others.iter().map(|(pc, _)| *pc).min().unwrap_or(u32::MAX);
        self.active = 0;
        self.limit = u32::MAX;
        for i in (0..self.others.len()).rev() {
            let (pc, mask) = self.others[i];
            if pc == first {
                self.active |= mask;
                self.others.swap_remove(i);
            } else {
                self.limit = self.limit.min(pc);
            }
        }
        self.pc = first;
    }

    /// Everything before this is ordered before everything after it, for all lanes of the warp.
    #[inline(always)]
    pub fn synchronise(&mut self) {
        self.actor.clock += 1;
    }
}

#[cold]
fn unset(mask: u32, regs: &[Reg], set: &[u32], names: &[String]) -> Outcome {
    for reg in regs {
        let missing = mask & !set[*reg as usize];
        if missing != 0 {
            let name = &names[*reg as usize];
            return trap(
                missing.trailing_zeros(),
                format!("uses `{name}`, which was never written in this thread"),
            );
        }
    }
    Ok(())
}
