//! The steps of a warp.

use super::trap::{trap, Outcome};
use super::warp::{State, Warp};
use super::world::{World, RANK};
use crate::op::{Op, Slot, Space, Verdict};

/// Why a warp stopped running.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// It is another warp's turn.
    Turn,
    /// At a barrier of so many threads, or of all.
    Barrier(u32, Option<u32>),
    /// It came to a barrier of the cluster and goes on.
    Arrived,
    /// It waits for the cluster.
    Wait,
    /// It is done.
    Done,
}

impl Warp {
    /// Runs up to so many steps.
    pub fn run(&mut self, world: &mut World<'_>, steps: u32) -> Outcome<Stop> {
        let mut left = steps;
        let stop = self.steps(world, &mut left);
        world.steps += u64::from(steps - left);
        stop
    }

    fn steps(&mut self, world: &mut World<'_>, left: &mut u32) -> Outcome<Stop> {
        let kernel = world.kernel;
        while *left > 0 {
            *left -= 1;
            if self.pc >= self.limit {
                self.settle();
            }
            let step = &kernel.steps[self.pc as usize];
            let mut mask = self.active;
            if let Some(guard) = step.guard {
                self.need_predicate(kernel, mask, guard.predicate)?;
                let value = self.predicates[guard.predicate as usize];
                mask &= if guard.negate { !value } else { value };
                if mask == 0 {
                    self.pc += 1;
                    continue;
                }
            }
            match &step.op {
                Op::Word1(f, d, a) => {
                    self.need_words(kernel, mask, [*a])?;
                    let value = f(&self.words[*a as usize]);
                    self.put_words(*d, mask, &value);
                }
                Op::Word2(f, d, r) => {
                    self.need_words(kernel, mask, *r)?;
                    let value = f(&self.words[r[0] as usize], &self.words[r[1] as usize]);
                    self.put_words(*d, mask, &value);
                }
                Op::Word3(f, d, r) => {
                    self.need_words(kernel, mask, *r)?;
                    let value = f(
                        &self.words[r[0] as usize],
                        &self.words[r[1] as usize],
                        &self.words[r[2] as usize],
                    );
                    self.put_words(*d, mask, &value);
                }
                Op::Word4(f, d, r) => {
                    self.need_words(kernel, mask, *r)?;
                    let [a, b, c, e] = r.map(|r| &self.words[r as usize]);
                    let value = f(a, b, c, e);
                    self.put_words(*d, mask, &value);
                }
                Op::Long1(f, d, a) => {
                    self.need_longs(kernel, mask, [*a])?;
                    let value = f(&self.longs[*a as usize]);
                    self.put_longs(*d, mask, &value);
                }
                Op::Long2(f, d, r) => {
                    self.need_longs(kernel, mask, *r)?;
                    let value = f(&self.longs[r[0] as usize], &self.longs[r[1] as usize]);
                    self.put_longs(*d, mask, &value);
                }
                Op::Long3(f, d, r) => {
                    self.need_longs(kernel, mask, *r)?;
                    let [a, b, c] = r.map(|r| &self.longs[r as usize]);
                    let value = f(a, b, c);
                    self.put_longs(*d, mask, &value);
                }
                Op::Widen1(f, d, a) => {
                    self.need_words(kernel, mask, [*a])?;
                    let value = f(&self.words[*a as usize]);
                    self.put_longs(*d, mask, &value);
                }
                Op::Widen2(f, d, r) => {
                    self.need_words(kernel, mask, *r)?;
                    let value = f(&self.words[r[0] as usize], &self.words[r[1] as usize]);
                    self.put_longs(*d, mask, &value);
                }
                Op::Widen3(f, d, [a, b, c]) => {
                    self.need_words(kernel, mask, [*a, *b])?;
                    self.need_longs(kernel, mask, [*c])?;
                    let value = f(
                        &self.words[*a as usize],
                        &self.words[*b as usize],
                        &self.longs[*c as usize],
                    );
                    self.put_longs(*d, mask, &value);
                }
                Op::Narrow1(f, d, a) => {
                    self.need_longs(kernel, mask, [*a])?;
                    let value = f(&self.longs[*a as usize]);
                    self.put_words(*d, mask, &value);
                }
                Op::Shift(f, d, [a, b]) => {
                    self.need_longs(kernel, mask, [*a])?;
                    self.need_words(kernel, mask, [*b])?;
                    let value = f(&self.longs[*a as usize], &self.words[*b as usize]);
                    self.put_longs(*d, mask, &value);
                }
                Op::Field(f, d, [a, b, c]) => {
                    self.need_longs(kernel, mask, [*a])?;
                    self.need_words(kernel, mask, [*b, *c])?;
                    let value = f(
                        &self.longs[*a as usize],
                        &self.words[*b as usize],
                        &self.words[*c as usize],
                    );
                    self.put_longs(*d, mask, &value);
                }
                Op::Insert(f, d, [a, b, c, e]) => {
                    self.need_longs(kernel, mask, [*a, *b])?;
                    self.need_words(kernel, mask, [*c, *e])?;
                    let (a, b) = (&self.longs[*a as usize], &self.longs[*b as usize]);
                    let value = f(a, b, &self.words[*c as usize], &self.words[*e as usize]);
                    self.put_longs(*d, mask, &value);
                }
                Op::WordTest(f, verdict, r) => {
                    self.need_words(kernel, mask, *r)?;
                    let value = f(&self.words[r[0] as usize], &self.words[r[1] as usize]);
                    self.judge(world, mask, verdict, value)?;
                }
                Op::LongTest(f, verdict, r) => {
                    self.need_longs(kernel, mask, *r)?;
                    let value = f(&self.longs[r[0] as usize], &self.longs[r[1] as usize]);
                    self.judge(world, mask, verdict, value)?;
                }
                Op::WordSelect(d, [a, b], p) => {
                    self.need_predicate(kernel, mask, *p)?;
                    self.need_words(kernel, mask, [*a, *b])?;
                    let choice = self.predicates[*p as usize];
                    let (a, mut value) = (&self.words[*a as usize], self.words[*b as usize]);
                    for (lane, value) in value.iter_mut().enumerate() {
                        *value = if choice >> lane & 1 == 1 { a[lane] } else { *value };
                    }
                    self.put_words(*d, mask, &value);
                }
                Op::LongSelect(d, [a, b], p) => {
                    self.need_predicate(kernel, mask, *p)?;
                    self.need_longs(kernel, mask, [*a, *b])?;
                    let choice = self.predicates[*p as usize];
                    let (a, mut value) = (&self.longs[*a as usize], self.longs[*b as usize]);
                    for (lane, value) in value.iter_mut().enumerate() {
                        *value = if choice >> lane & 1 == 1 { a[lane] } else { *value };
                    }
                    self.put_longs(*d, mask, &value);
                }
                Op::Logic(logic, d, operands) => {
                    let mut values = [0; 2];
                    for (value, (reg, negate)) in values.iter_mut().zip(operands) {
                        self.need_predicate(kernel, mask, *reg)?;
                        *value = self.predicates[*reg as usize] ^ if *negate { u32::MAX } else { 0 };
                    }
                    self.put_predicate(*d, mask, logic.of(values[0], values[1]));
                }
                Op::Convert(conversion, d, a) => {
                    self.need(kernel, mask, *a)?;
                    for lane in super::trap::lanes_of(mask) {
                        let value = conversion.convert(self.get(*a, lane));
                        self.put(*d, lane, value);
                    }
                    self.set(*d, mask);
                }
                Op::Clock(d) => {
                    let now = world.steps + u64::from(*left ^ u32::MAX);
                    for lane in super::trap::lanes_of(mask) {
                        self.put(*d, lane, now);
                    }
                    self.set(*d, mask);
                }
                Op::Parameter(at, width, extend, d) => {
                    let value = super::access::parameter(world.parameters, *at, *width, *extend);
                    match d {
                        Slot::Word(reg) => self.put_words(*reg, mask, &[value as u32; 32]),
                        Slot::Long(reg) => self.put_longs(*reg, mask, &[value; 32]),
                    }
                }
                Op::Load(access) => self.load(world, access, mask)?,
                Op::Store(access) => self.store(world, access, mask)?,
                Op::Atomic(access) => self.atomic(world, access, mask)?,
                Op::Prefetch(place) => self.prefetch(world, place, mask)?,
                Op::AsyncCopy(copy) => self.copy(world, copy, mask)?,
                Op::Commit => self.copies.commit(mask),
                Op::WaitGroup(count) => self.wait(world, mask, Some(*count))?,
                Op::WaitAll => self.wait(world, mask, None)?,
                Op::Branch(target, uniform) => {
                    if *uniform && mask != self.active {
                        return trap(
                            mask.trailing_zeros(),
                            "not all lanes go the same way, as `.uni` promises",
                        );
                    }
                    let back = *target <= self.pc;
                    let stay = self.active & !mask;
                    if stay != 0 {
                        self.others.push((self.pc + 1, stay));
                        self.limit = self.limit.min(self.pc + 1);
                    }
                    self.active = mask;
                    self.pc = *target;
                    if back && self.polled {
                        // It may be waiting for somebody: let them run.
                        self.polled = false;
                        return Ok(Stop::Turn);
                    }
                    continue;
                }
                Op::Exit => {
                    self.alive &= !mask;
                    self.active &= !mask;
                    if self.active == 0 {
                        if self.others.is_empty() {
                            self.state = State::Done;
                            return Ok(Stop::Done);
                        }
                        self.settle();
                        continue;
                    }
                }
                Op::Trap => return trap(mask.trailing_zeros(), "the kernel trapped"),
                Op::Barrier(id, count) => {
                    let (id, count) = self.barrier_operands(world, mask, *id, *count)?;
                    self.pc += 1;
                    return Ok(Stop::Barrier(id, count));
                }
                Op::WarpBarrier(members) => {
                    self.members(world, mask, *members)?;
                    self.synchronise();
                }
                Op::ClusterArrive => {
                    self.aligned(mask)?;
                    self.pc += 1;
                    return Ok(Stop::Arrived);
                }
                Op::ClusterWait => {
                    self.aligned(mask)?;
                    self.pc += 1;
                    return Ok(Stop::Wait);
                }
                Op::Fence(wide) => world.acquired |= *wide,
                Op::Pause => {
                    self.pc += 1;
                    return Ok(Stop::Turn);
                }
                Op::Nothing => {}
                Op::Shuffle(how, d, inside, r) => self.shuffle(world, mask, *how, (*d, *inside), *r)?,
                Op::Vote(vote, d, p, negate, members) => {
                    self.vote(world, mask, (*vote, *d), (*p, *negate), *members)?;
                }
                Op::ActiveMask(d) => self.put_words(*d, mask, &[mask; 32]),
                Op::Reduce(f, d, a, members) => self.reduce(world, mask, *f, (*d, *a, *members))?,
                Op::LoadMatrix(place, count, turned, d) => {
                    self.load_matrix(world, mask, place, (*count, *turned), *d)?;
                }
                Op::Multiply(multiply) => self.multiply(world, mask, multiply)?,
                Op::MapShared(d, a, rank) => {
                    self.need_words(kernel, mask, [*a, *rank])?;
                    let mut value = self.words[*a as usize];
                    for (value, rank) in value.iter_mut().zip(&self.words[*rank as usize]) {
                        *value = (*value & ((1 << RANK) - 1)) | (rank.wrapping_add(1)) << RANK;
                    }
                    self.put_words(*d, mask, &value);
                }
            }
            self.pc += 1;
        }
        Ok(Stop::Turn)
    }

    /// Puts the result of a comparison where it belongs.
    #[inline(always)]
    fn judge(&mut self, world: &World<'_>, mask: u32, verdict: &Verdict, value: u32) -> Outcome {
        let other = if verdict.logic == crate::op::Logic::First {
            0
        } else {
            self.need_predicate(world.kernel, mask, verdict.other)?;
            self.predicates[verdict.other as usize] ^ if verdict.negate { u32::MAX } else { 0 }
        };
        self.put_predicate(verdict.yes, mask, verdict.logic.of(value, other));
        if let Some(no) = verdict.no {
            self.put_predicate(no, mask, verdict.logic.of(!value, other));
        }
        Ok(())
    }

    /// How accesses to a space are taken.
    pub fn regard(&mut self, world: &World<'_>, space: Space) {
        use crate::memory::race::Between;
        (self.actor.between, self.actor.oldest) = match space {
            Space::Shared => (Between::Cluster(self.joined), self.actor.begin),
            Space::Global if world.acquired || world.cooperative || world.cluster > 1 => {
                (Between::Anything, self.launch)
            }
            Space::Global => (Between::Nothing, self.launch),
        };
    }
}
