//! The way back: a line of the rig is raised and lowered by what the runtime predicts.
//!
//! ```text
//!  every-prediction endpoint                                                         Open Ephys GUI
//!  ─────────────────────────                                                         ──────────────
//!  hello, prediction, behaviour/… ─▶ [`subscription`] ─▶ [`signal`] ─▶ [`rule`] ─▶ [`line`] ─▶ Network Events
//!                                     newest message      one number    up, down     a TTL line
//! ```
//!
//! It is for a process of its own ([`trigger::Trigger`]), which the runtime knows nothing of. It subscribes to the endpoint of every
//! prediction and not to the latest-only one: only there are `hello`, which says which column a unit is, and the topics of outputs,
//! and only there does a gap in the sequence mean a loss. What the latest-only endpoint is for, that nobody acts on what is
//! old, is ensured otherwise: all that waits is read and the newest alone is judged, and its publication time is compared with
//! the clock before the line is raised. Both clocks must be the same one, that of the runtime's machine.
//!
//! Arrows: `cli → actuate → pipeline`'s messages, clock and histograms.

pub mod line;
pub mod network_events;
pub mod rule;
#[cfg(test)]
mod rule_tests;
pub mod signal;
pub mod subscription;
#[cfg(test)]
mod subscription_tests;
pub mod trigger;
