//! The offline trainer's parts: how parameters follow their gradients ([`optimiser`], [`schedule`]).

pub mod optimiser;
pub mod schedule;
