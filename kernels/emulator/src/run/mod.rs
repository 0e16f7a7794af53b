//! Runs launches: warps step by step, blocks and their barriers, grids.

mod access;
mod barrier;
pub mod block;
mod collective;
mod copy;
pub mod launch;
mod matrix;
mod reach;
mod step;
mod trap;
mod warp;
mod world;
