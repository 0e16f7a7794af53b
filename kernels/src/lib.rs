//! Tensors and every numeric operation of the network, and nothing about brains.
//!
//! [`Backend`] says what the operations are; [`reference`] is their definition in plain loops; [`cpu`] is fast.

pub mod backend;
pub mod cpu;
pub mod cuda;
pub mod generation;
pub mod gradient;
pub mod philox;
pub mod poisson;
pub mod reference;
pub mod tape;

pub use backend::{
    Activation, Attention, Backend, BackendError, Dropout, LinearArgs, LinearSpec, Map, Mask, Matrix, Norm, Origin,
    Precision, Rotary, View, ViewMut, LAYER_NORM_EPSILON,
};
