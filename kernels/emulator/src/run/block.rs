//! A resident block: its warps, and how they take turns.

use super::barrier::{Barrier, ClusterBarrier};
use super::step::Stop;
use super::trap::Trap;
use super::warp::{State, Warp};
use super::world::World;
use crate::decode::Special;

/// A resident block.
pub struct Block {
    /// Its warps.
    pub warps: Vec<Warp>,
    /// In which order they take turns.
    pub order: Vec<usize>,
    /// Where it is in the grid.
    pub coordinates: [u32; 3],
    barriers: [Barrier; 16],
}

/// What went wrong, in which warp of a block, at which step.
pub struct Failure {
    /// The lane, and what was wrong.
    pub trap: Box<Trap>,
    /// The warp.
    pub warp: usize,
    /// The step.
    pub pc: u32,
}

/// The shape of a launch.
#[derive(Debug, Clone, Copy)]
pub struct Shape {
    /// Blocks along each axis.
    pub grid: [u32; 3],
    /// Threads of a block.
    pub threads: u32,
    /// Bytes of dynamic shared memory.
    pub dynamic: u32,
    /// Bytes of shared memory.
    pub shared: u32,
    /// Blocks of a cluster, along x.
    pub cluster: u32,
    /// Multiprocessors of the device.
    pub multiprocessors: u32,
}

impl Shape {
    /// The number of a block, counted along x, then y, then z.
    pub fn number(&self, [x, y, z]: [u32; 3]) -> u32 {
        (z.wrapping_mul(self.grid[1]).wrapping_add(y))
            .wrapping_mul(self.grid[0])
            .wrapping_add(x)
    }

    /// What a special register says in a lane.
    fn special(&self, special: Special, at: [u32; 3], warp: u32, lane: u32) -> u32 {
        let along = |axis: u8, of: [u32; 3]| of[axis as usize];
        let first = |axis: u8, value: u32, rest: u32| if axis == 0 { value } else { rest };
        match special {
            Special::Thread(axis) => first(axis, warp * 32 + lane, 0),
            Special::Threads(axis) => first(axis, self.threads, 1),
            Special::Block(axis) => along(axis, at),
            Special::Blocks(axis) => along(axis, self.grid),
            Special::Lane => lane,
            Special::Warp => warp,
            Special::Warps => self.threads.div_ceil(32),
            Special::ClusterBlock => at[0] % self.cluster,
            Special::ClusterBlocks => self.cluster,
            Special::Cluster(axis) => first(axis, at[0] / self.cluster, along(axis, at)),
            Special::Clusters(axis) => first(axis, self.grid[0] / self.cluster, along(axis, self.grid)),
            Special::Below => (1 << lane) - 1,
            Special::UpTo => u32::MAX >> (31 - lane),
            Special::Only => 1 << lane,
            Special::Above => !(u32::MAX >> (31 - lane)),
            Special::From => !((1 << lane) - 1),
            Special::DynamicShared => self.dynamic,
            Special::TotalShared => self.shared,
            Special::Multiprocessor => self.number(at) % self.multiprocessors,
            Special::Multiprocessors => self.multiprocessors,
        }
    }
}

impl Block {
    /// A block whose warps have not begun.
    pub fn new(world: &World<'_>, shape: &Shape, home: usize) -> Self {
        let count = shape.threads.div_ceil(32);
        Self {
            warps: (0..count).map(|warp| Warp::new(world.kernel, warp, home)).collect(),
            order: (0..count as usize).collect(),
            coordinates: [0; 3],
            barriers: [Barrier::default(); 16],
        }
    }

    /// All threads at the first step.
    pub fn begin(&mut self, world: &mut World<'_>, shape: &Shape, at: [u32; 3], clocks: (u32, u32)) {
        let kernel = world.kernel;
        let number = shape.number(at) % crate::memory::race::BLOCKS;
        self.coordinates = at;
        self.barriers = [Barrier::default(); 16];
        for (index, warp) in self.warps.iter_mut().enumerate() {
            let index = index as u32;
            warp.begin(world, shape.threads - index * 32, number, clocks);
            for (special, slot) in &kernel.specials {
                for lane in 0..32 {
                    warp.put(*slot, lane, u64::from(shape.special(*special, at, index, lane)));
                }
                warp.set(*slot, u32::MAX);
            }
        }
    }

    /// Whether all threads are done.
    pub fn done(&self) -> bool {
        self.warps.iter().all(|warp| warp.state == State::Done)
    }

    /// Lets every warp that can run make up to so many steps. Whether any could.
    pub fn turn(
        &mut self,
        world: &mut World<'_>,
        cluster: &ClusterBarrier,
        steps: u32,
        came: &mut bool,
    ) -> Result<bool, Failure> {
        let mut any = false;
        for i in 0..self.order.len() {
            let index = self.order[i];
            let mut stop = None;
            while self.warps[index].state == State::Ready {
                any = true;
                let warp = &mut self.warps[index];
                let outcome = warp.run(world, steps).map_err(|trap| Failure {
                    trap,
                    warp: index,
                    pc: warp.pc,
                })?;
                stop = Some(outcome);
                if outcome != Stop::Arrived {
                    break;
                }
                *came = true;
                let lane = warp.active.trailing_zeros();
                cluster.come(warp).map_err(|what| failure(index, warp, lane, what))?;
            }
            match stop {
                Some(Stop::Barrier(id, count)) => self.barrier(index, id, count)?,
                Some(Stop::Wait) => {
                    *came = true;
                    let warp = &mut self.warps[index];
                    match warp.came {
                        None => {
                            return Err(failure(
                                index,
                                warp,
                                0,
                                "waits for a cluster that it has not told".into(),
                            ))
                        }
                        Some(came) if came < cluster.passed => warp.came = None,
                        Some(_) => warp.state = State::Cluster,
                    }
                }
                Some(Stop::Done) => *came = true,
                _ => {}
            }
        }
        Ok(any)
    }

    fn barrier(&mut self, index: usize, id: u32, count: Option<u32>) -> Result<(), Failure> {
        let all = self.warps.len() as u32;
        let expected = count.map_or(all, |count| count / 32);
        let warp = &mut self.warps[index];
        warp.state = State::Barrier(id);
        if expected > all {
            return Err(failure(
                index,
                warp,
                0,
                format!("{} threads meet at the barrier; there are fewer", expected * 32),
            ));
        }
        match self.barriers[id as usize].come(index, expected) {
            Ok(true) => self.barriers[id as usize].open(&mut self.warps),
            Ok(false) => {}
            Err(what) => return Err(failure(index, &self.warps[index], 0, what)),
        }
        Ok(())
    }
}

/// A failure at the step before the one that is next.
fn failure(index: usize, warp: &Warp, lane: u32, what: String) -> Failure {
    Failure {
        trap: Box::new(Trap { lane, what }),
        warp: index,
        pc: warp.pc - 1,
    }
}
