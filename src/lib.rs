//! NeuroHorizon: a real-time closed-loop brain–computer-interface runtime.
//!
//! Spikes come in from an acquisition system ([`acquire`]), go through lock-free rings into time bins, the network
//! ([`model`]) predicts every unit's spike counts over a horizon, and the predictions go out over ZeroMQ ([`pipeline`]).
//! [`actuate`] raises lines of the rig by what is predicted. [`data`] reads recordings, [`evaluate`] says how good
//! predictions are, [`train`] fits the network to recordings, [`realtime`] asks the system for what threads with deadlines need,
//! [`doctor`] says what it lacks, [`cli`] is the command line.
//! [`record`] keeps all of a run in a file and replays it; [`control`] tells a run what to do while it goes on.
//!
//! Arrows point one way: `cli → {train, evaluate, actuate, control, doctor, record} → pipeline → {model, acquire, data, realtime} → kernels`.

pub mod acquire;
pub mod actuate;
pub mod cli;
pub mod control;
pub mod data;
pub mod doctor;
pub mod evaluate;
pub mod hash;
pub mod model;
pub mod pipeline;
pub mod realtime;
pub mod record;
pub mod train;
