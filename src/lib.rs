//! NeuroHorizon: a real-time closed-loop brain–computer-interface runtime.
//!
//! Spikes come in from an acquisition system ([`acquire`]), go through lock-free rings into time bins, the network
//! ([`model`]) predicts every unit's spike counts over a horizon, and the predictions go out over ZeroMQ ([`pipeline`]).
//! [`data`] reads recordings, [`evaluate`] says how good predictions are, [`train`] fits the network to recordings,
//! [`cli`] is the command line.
//!
//! [`record`] keeps all of a run in a file and replays it.
//!
//! Arrows point one way: `cli → {train, evaluate, record} → pipeline → {model, acquire, data} → kernels`.

pub mod acquire;
pub mod cli;
pub mod data;
pub mod evaluate;
pub mod hash;
pub mod model;
pub mod pipeline;
pub mod record;
pub mod train;
