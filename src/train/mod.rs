//! The offline trainer's parts: what is drawn from recordings ([`sampler`]), how parameters follow their gradients
//! ([`optimiser`], [`schedule`]), and what a person sees of it ([`display`]).

mod curve;
pub mod display;
pub mod optimiser;
pub mod sampler;
pub mod schedule;
