//! The network, written once over `kernels::Backend`; its configuration; its checkpoints.

pub mod checkpoint;
pub mod config;
