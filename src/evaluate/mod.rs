//! How good predictions are, how exact, and how fast.
//!
//! [`forward`] predicts windows of a recording's future, [`predictions`] holds what models predicted and what happened,
//! [`metrics`] compares the two, [`conformance`] compares the network with the reference model's own outputs, [`cost`]
//! counts its operations and [`speed`] times it against them.

pub mod conformance;
pub mod cost;
pub mod forward;
pub mod metrics;
pub mod predictions;
pub mod speed;
