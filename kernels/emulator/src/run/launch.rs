//! One launch: which blocks are resident together, and whose turn it is.

use super::barrier::ClusterBarrier;
use super::block::{Block, Failure, Shape};
use super::trap::lanes_of;
use super::warp::{State, Warp};
use super::world::World;
use crate::decode::Kernel;
use crate::memory::global::Global;
use crate::memory::region::Region;
use crate::options::EmulatorOptions;
use crate::random::Random;

/// Threads that a multiprocessor holds.
const RESIDENT_THREADS: u32 = 2048;

/// Steps of a turn, if no order is asked for.
const TURN: u32 = 1000;

/// One launch.
pub struct Run<'a> {
    /// What runs.
    pub kernel: &'a Kernel,
    /// Its shape.
    pub shape: Shape,
    /// Whether all blocks are resident together.
    pub cooperative: bool,
    /// The parameters.
    pub parameters: &'a [u8],
    /// The device.
    pub options: &'a EmulatorOptions,
}

impl Run<'_> {
    /// Refuses what cannot be launched.
    pub fn check(&self) -> Result<(), String> {
        let Self {
            kernel, shape, options, ..
        } = self;
        let limits = &kernel.limits;
        let wrong = |what: String| Err(format!("kernel `{}` cannot be launched: {what}", kernel.name));
        if shape.grid.contains(&0) || shape.grid[1] > 65535 || shape.grid[2] > 65535 || shape.grid[0] > i32::MAX as u32
        {
            return wrong(format!("a grid of {:?} blocks", shape.grid));
        }
        if shape.threads == 0 || shape.threads > 1024 {
            return wrong(format!("blocks of {} threads", shape.threads));
        }
        if let Some(most) = limits.max_threads.filter(|most| shape.threads > *most) {
            return wrong(format!("{} threads a block, and `.maxntid` is {most}", shape.threads));
        }
        if let Some(threads) = limits.threads.filter(|threads| shape.threads != *threads) {
            return wrong(format!(
                "{} threads a block, and `.reqntid` is {threads}",
                shape.threads
            ));
        }
        if self.parameters.len() != kernel.parameter_bytes {
            return wrong(format!(
                "{} bytes of parameters; it declares {}",
                self.parameters.len(),
                kernel.parameter_bytes
            ));
        }
        if shape.dynamic > kernel.dynamic_limit {
            return wrong(format!(
                "{} bytes of dynamic shared memory; it was loaded for {}",
                shape.dynamic, kernel.dynamic_limit
            ));
        }
        if shape.shared > options.shared_bytes {
            return wrong(format!(
                "{} bytes of shared memory; a block has {}",
                shape.shared, options.shared_bytes
            ));
        }
        self.check_cluster().or_else(wrong)?;
        let total = shape.grid.iter().map(|n| u64::from(*n)).product::<u64>();
        let fits = (RESIDENT_THREADS / shape.threads.next_multiple_of(32)).min(32);
        let fits = fits.min(options.shared_bytes / shape.shared.max(1));
        if self.cooperative && total > u64::from(fits * options.multiprocessors) {
            return wrong(format!(
                "{total} blocks at once; {} multiprocessors hold {fits} each",
                options.multiprocessors
            ));
        }
        Ok(())
    }

    fn check_cluster(&self) -> Result<(), String> {
        let (shape, limits) = (&self.shape, &self.kernel.limits);
        if shape.cluster == 0 || shape.cluster > 16 || shape.grid[0] % shape.cluster != 0 {
            return Err(format!(
                "clusters of {} blocks in a grid {} wide",
                shape.cluster, shape.grid[0]
            ));
        }
        if let Some(cluster) = limits.cluster.filter(|cluster| shape.cluster != *cluster) {
            return Err(format!(
                "clusters of {} blocks, and `.reqnctapercluster` is {cluster}",
                shape.cluster
            ));
        }
        if shape.cluster > 1 && self.options.compute < 90 {
            return Err(format!("clusters on a device of capability {}", self.options.compute));
        }
        Ok(())
    }

    /// Runs it to the end. `clock` goes on from launch to launch.
    pub fn run(&self, global: &mut Global, clock: &mut u32) -> Result<u64, String> {
        self.check()?;
        if *clock > u32::MAX / 2 {
            global.forget_touches();
            *clock = 1;
        }
        let shape = &self.shape;
        let mut random = Random::new(self.options.seed);
        let total = shape.grid.iter().product::<u32>();
        let together = if self.cooperative { total } else { shape.cluster };
        let mut world = World {
            kernel: self.kernel,
            global,
            shared: Vec::new(),
            parameters: self.parameters,
            sanitize: self.options.sanitize,
            model: self.options.mma,
            cluster: shape.cluster,
            cooperative: self.cooperative,
            acquired: false,
            last: 0,
            steps: 0,
        };
        world.shared = (0..together)
            .map(|_| Region::new(shape.shared as usize, false))
            .collect();
        let mut blocks: Vec<Block> = (0..together)
            .map(|home| Block::new(&world, shape, home as usize))
            .collect();
        let mut groups: Vec<u32> = (0..total / together).collect();
        random.permute(&mut groups);
        let launch = *clock;
        for group in groups {
            world.acquired = false;
            for (i, block) in blocks.iter_mut().enumerate() {
                let number = group * together + i as u32;
                let at = [
                    number % shape.grid[0],
                    number / shape.grid[0] % shape.grid[1],
                    number / shape.grid[0] / shape.grid[1],
                ];
                world.shared[i].forget();
                block.begin(&mut world, shape, at, (launch, *clock));
                random.permute(&mut block.order);
            }
            self.group(&mut world, &mut blocks, &mut random)?;
            let latest = blocks
                .iter()
                .flat_map(|block| &block.warps)
                .map(|warp| warp.actor.clock)
                .max();
            *clock = (*clock).max(latest.unwrap_or(0) + 1);
        }
        Ok(world.steps)
    }

    /// Runs the blocks that are resident together.
    fn group(&self, world: &mut World<'_>, blocks: &mut [Block], random: &mut Random) -> Result<(), String> {
        let size = self.shape.cluster as usize;
        let mut barriers = vec![ClusterBarrier::default(); blocks.len() / size];
        let mut order: Vec<usize> = (0..blocks.len()).collect();
        loop {
            let mut any = false;
            random.permute(&mut order);
            for &index in &order {
                let mut came = false;
                let steps = random.below(TURN).unwrap_or(TURN);
                let outcome = blocks[index].turn(world, &barriers[index / size], steps, &mut came);
                any |= outcome.map_err(|failure| self.failed(&blocks[index], &failure))?;
                if came {
                    let first = index - index % size;
                    barriers[index / size].open(&mut blocks[first..first + size]);
                }
                if world.steps > self.options.steps {
                    return Err(self.unfinished("did not finish", world.steps, blocks));
                }
            }
            if !any {
                return if blocks.iter().all(Block::done) {
                    Ok(())
                } else if blocks
                    .iter()
                    .any(|block| block.warps.iter().any(|warp| warp.state == State::Ready))
                {
                    continue;
                } else {
                    Err(self.unfinished("waits at barriers where not all will come", world.steps, blocks))
                };
            }
        }
    }

    /// Where a step came from.
    fn place(&self, pc: u32) -> String {
        let step = &self.kernel.steps[(pc as usize).min(self.kernel.steps.len() - 1)];
        let source = &self.kernel.sources[step.source as usize];
        format!("line {} `{}`", source.line, source.text)
    }

    fn failed(&self, block: &Block, failure: &Failure) -> String {
        let [x, y, z] = block.coordinates;
        let thread = failure.warp as u32 * 32 + failure.trap.lane;
        format!(
            "kernel `{}`, {}: block ({x}, {y}, {z}), thread {thread}: {}",
            self.kernel.name,
            self.place(failure.pc),
            failure.trap.what
        )
    }

    /// Where everybody is.
    fn unfinished(&self, what: &str, steps: u64, blocks: &[Block]) -> String {
        let mut text = format!("kernel `{}` {what}, after {steps} steps of warps:", self.kernel.name);
        let warps = blocks
            .iter()
            .flat_map(|block| block.warps.iter().enumerate().map(move |(i, warp)| (block, i, warp)));
        let mut left = 0;
        for (number, (block, index, warp)) in warps.filter(|(_, _, warp)| warp.state != State::Done).enumerate() {
            if number >= 16 {
                left += 1;
                continue;
            }
            let [x, y, z] = block.coordinates;
            text += &format!(
                "\n  block ({x}, {y}, {z}), threads {} and on, {}",
                index * 32,
                self.whereabouts(warp)
            );
        }
        if left > 0 {
            text += &format!("\n  and {left} more warps");
        }
        let done = blocks
            .iter()
            .flat_map(|block| &block.warps)
            .filter(|warp| warp.state == State::Done)
            .count();
        text + &format!("\n  {done} warps are done")
    }

    fn whereabouts(&self, warp: &Warp) -> String {
        match warp.state {
            State::Barrier(id) => format!("wait at barrier {id}: {}", self.place(warp.pc - 1)),
            State::Cluster => format!("wait for the cluster: {}", self.place(warp.pc - 1)),
            _ => {
                let first = lanes_of(warp.active).next().unwrap_or(0);
                format!("lane {first} is at {}", self.place(warp.pc))
            }
        }
    }
}
