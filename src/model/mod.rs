//! The network, written once over [`kernels::Backend`]; its configuration; its checkpoints.
//!
//! [`checkpoint`] reads a file into named tensors, [`weights`] lays them out on a backend, [`network`] is the forward pass
//! made of [`layers`] and [`feedback`]; [`build`] puts them together behind [`Inference`], which no longer knows the backend.

pub mod build;
pub mod checkpoint;
pub mod conditions;
pub mod config;
pub mod factors;
pub mod feedback;
pub mod identity;
pub mod layers;
pub mod network;
pub mod poisson;
pub(crate) mod principal;
pub mod readout;
pub mod recent;
mod session;
pub mod traces;
pub mod weights;
pub mod window;

pub use build::{build, BackendKind, BuildError, BuildOptions, Inference, UnitMatch};
pub use network::SessionPlan;
