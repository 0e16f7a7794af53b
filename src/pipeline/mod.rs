//! The real-time path, in the order that data takes: ring, bin, decode, deadline, publish.
//!
//! ```text
//!  source thread(s)        decode thread                          publish thread
//!  ─────────────────       ───────────────────────────────        ─────────────────
//!  Source::poll →    ring  → merge by device time → bin closes     slot → score
//!  SpikeEvent        SPSC  → window → Predictor → prediction   → SPSC   → ZeroMQ
//! ```
//!
//! Threads sleep while nothing is due ([`clock`]), so that on two cores a predictor with two threads has both. A slow
//! or failing part never stops the others: what is lost on the way is refused, counted, and flagged in the next
//! [`message`]. [`runtime::Run`] puts it together. [`tap`]s copy what comes in and goes out for a recording, and
//! [`Feed`] is a recording in place of the rings.

pub mod behaviour;
mod bin;
pub mod bin_output;
#[cfg(test)]
mod bin_tests;
pub mod calibrate;
mod carried;
pub mod clock;
pub mod deadline;
mod decode;
pub mod entry;
mod exchange;
mod guard;
mod hand_over;
mod handle;
mod hello;
mod ingest;
pub mod latents;
pub mod layer;
mod live;
pub mod message;
mod modalities;
#[cfg(test)]
mod modalities_tests;
#[cfg(test)]
mod models;
pub mod network;
pub mod output;
mod parameters;
mod plan;
pub mod predictor;
mod publish;
mod ring;
pub mod runtime;
mod sample_ring;
mod sample_window;
pub mod score;
mod sharing;
mod slot;
mod socket;
mod sources;
mod stats;
mod summary;
mod switch;
pub mod tap;
mod watch;
mod window;

pub use bin::{BinAssembler, BinConfig, ClosedBin, IngestTotals};
pub use decode::replay::{Fed, Feed, LoadRecorded};
pub use exchange::ModelNote;
pub use guard::GuardConfig;
pub use handle::RunHandle;
pub use ingest::{ingest_benchmark, IngestReport};
pub use live::{LiveSnapshot, RunState};
pub use modalities::ModalityCounts;
pub use output::{OutputCounts, OutputSpec};
pub use parameters::{ParameterValues, Parameters, NO_LIMIT_HZ};
pub use plan::{Attached, NullModel, RunConfig, RunError};
pub use predictor::{BinSpikes, MeanRate, PredictError, Predictor};
pub use publish::{BoundEndpoints, PublishConfig};
pub use ring::{event_ring, EventReader, EventWriter, RingCounters, WhenFull};
pub use runtime::Run;
pub use socket::PublishError;
pub use sources::{SourceReport, WayBackCounts};
pub use stats::{Latency, LatencySummary};
pub use summary::{BinBalance, Latencies, Outcome, RecordingReport, RunSummary, SpikeBalance};
pub use switch::{StopCause, StopSwitch};
pub use window::SpikeWindow;
