//! How good predictions are, how exact, and how fast.
//!
//! [`attribution`] says what each modality contributed, [`gradients`] and [`input_attribution`] what each input did; [`behaviour`] how well behaviour was read
//! out by [`decoding`]. [`forward`] predicts windows of a recording's future, [`baseline`] does so with simple models fitted on the spot;
//! [`predictions`] holds what was predicted and what happened, [`metrics`] compares the two, [`comparison`] puts models side
//! by side and [`report`] shows them. [`spike_trains`] draws trains from predicted rates, and [`spike_statistics`] compares them with those that were
//! observed. [`transfer`] compares what is made of a session's first
//! seconds. [`oracle`] scores a simulation's true rates, [`truth`] a recording's. [`conformance`] compares the network with
//! the reference model's own outputs, [`cost`] counts its operations and [`speed`] times it against them.

pub mod attribution;
pub mod baseline;
pub mod behaviour;
pub mod comparison;
pub mod conditions;
pub mod conformance;
pub mod cost;
pub mod decoding;
pub mod forward;
pub mod gradients;
pub mod input_attribution;
pub mod metrics;
pub mod oracle;
pub mod parts;
pub mod predictions;
pub mod quadrature;
pub mod reaching;
pub mod report;
pub mod speed;
pub mod spike_statistics;
pub mod spike_trains;
pub mod transfer;
pub mod truth;
