//! The tree of a PTX text to steps: names are looked up, types checked, and whatever is not known is refused.

mod access;
mod arithmetic;
pub mod builder;
mod collective;
mod control;
mod convert;
mod float;
pub mod kernel;
mod modifiers;
mod operands;
mod scope;

pub use kernel::{code_of, kernel, Kernel, Special};
