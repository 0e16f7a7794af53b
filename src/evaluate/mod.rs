//! How good predictions are, how exact, and how fast.
//!
//! [`forward`] scores predictions of a recording's future, [`conformance`] compares the network with the reference model's
//! own outputs, [`oracle`] scores a simulation's true rates, [`cost`] counts its operations and [`speed`] times it against them.

pub mod conformance;
pub mod cost;
pub mod forward;
pub mod oracle;
pub mod speed;
