//! The latency regression suite: what an experimenter runs before a stimulator is attached.
//!
//! ```text
//! floor      → what this machine costs without the runtime
//! schedule   → when packets are to be sent, whatever comes of them (an open loop)
//! sending, load → a device on the bridge      ┐
//! runtime    → `neurohorizon run`             ├ processes of their own; disturb: what goes on beside them
//! subscriber → takes and stamps predictions   ┘
//! stages, quantiles, ledger, expected, swap → what came of it
//! gates, baseline → whether that is good enough, here and against the last release
//! report, html, plot → JSON, HTML
//! ```

pub mod baseline;
pub mod child;
pub mod cli;
pub mod disturb;
pub mod expected;
pub mod faulty;
pub mod floor;
pub mod gates;
pub mod html;
pub mod ledger;
#[cfg(test)]
mod ledger_tests;
pub mod load;
pub mod looped;
pub mod measure;
pub mod plot;
pub mod quantiles;
pub mod record;
pub mod report;
pub mod runtime;
pub mod scenario;
pub mod schedule;
pub mod sending;
pub mod stages;
pub mod subscriber;
pub mod swap;
pub mod wake;
