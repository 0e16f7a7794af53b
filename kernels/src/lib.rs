//! Tensors and every numeric operation of the network, and nothing about brains.
//!
//! [`Backend`] says what the operations are; [`reference`] is their definition in plain loops; [`cpu`] is fast.

pub mod backend;
pub mod cpu;
pub mod reference;

pub use backend::{
    Activation, Attention, Backend, BackendError, LinearArgs, LinearSpec, Map, Mask, Matrix, Norm, Precision, Rotary,
    View, ViewMut, LAYER_NORM_EPSILON,
};
