//! Barriers of blocks and of clusters.

use super::block::Block;
use super::warp::{State, Warp};

/// One of a block's sixteen barriers.
#[derive(Debug, Clone, Copy, Default)]
pub struct Barrier {
    /// Warps that wait at it.
    came: u32,
    /// How many warps meet.
    expected: u32,
}

impl Barrier {
    /// A warp came. What is wrong with that, or whether all are there now.
    pub fn come(&mut self, warp: usize, expected: u32) -> Result<bool, String> {
        if self.came != 0 && self.expected != expected {
            return Err(format!(
                "{} threads meet at the barrier, and others say {}",
                expected * 32,
                self.expected * 32
            ));
        }
        self.expected = expected;
        self.came |= 1 << warp;
        Ok(self.came.count_ones() >= expected)
    }

    /// Lets everybody go who waits.
    pub fn open(&mut self, warps: &mut [Warp]) {
        let came = std::mem::take(&mut self.came);
        let count = warps.len();
        let members = || (0..32usize).filter(|warp| came >> warp & 1 == 1);
        let latest = members().map(|warp| warps[warp].actor.clock).max().unwrap_or(0);
        let mut noted = [0u32; 32];
        for warp in members() {
            for (noted, theirs) in noted.iter_mut().zip(warps[warp].actor.noted) {
                *noted = (*noted).max(theirs);
            }
        }
        for warp in members() {
            noted[warp] = latest;
        }
        for warp in members() {
            let warp = &mut warps[warp];
            warp.actor.meet(&noted, count, latest);
            warp.state = State::Ready;
        }
    }
}

/// The barrier of a cluster.
#[derive(Debug, Clone, Copy, Default)]
pub struct ClusterBarrier {
    /// How often all came.
    pub passed: u64,
}

impl ClusterBarrier {
    /// A warp came. What is wrong with that.
    pub fn come(&self, warp: &mut Warp) -> Result<(), String> {
        if warp.came.is_some() {
            return Err("came to the cluster's barrier twice without waiting at it".into());
        }
        warp.came = Some(self.passed);
        // What it does from here on is not ordered by this barrier.
        warp.synchronise();
        Ok(())
    }

    /// If all warps of the cluster came that are not done, lets those go who wait.
    pub fn open(&mut self, cluster: &mut [Block]) {
        let mut left = cluster
            .iter()
            .flat_map(|block| &block.warps)
            .filter(|warp| warp.state != State::Done)
            .peekable();
        if left.peek().is_none() || left.any(|warp| warp.came != Some(self.passed)) {
            return;
        }
        let warps = || cluster.iter().flat_map(|block| &block.warps);
        let latest = warps().map(|warp| warp.actor.clock).max().unwrap_or(0);
        self.passed += 1;
        for warp in cluster.iter_mut().flat_map(|block| &mut block.warps) {
            warp.actor.ceiling = latest;
            warp.actor.meet(&[latest; 32], 32, latest);
            warp.joined = latest;
            if warp.state == State::Cluster {
                warp.state = State::Ready;
                warp.came = None;
            }
        }
    }
}
