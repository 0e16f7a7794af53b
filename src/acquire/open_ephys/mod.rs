//! Open Ephys GUI: spikes from its plugins "Event Broadcaster" and "ZMQ Interface", which publish over ZeroMQ.
//!
//! The GUI hands spikes on once a block of audio, so that they come 20 to 30 ms late. Neither plugin sets a high-water mark: a
//! subscriber that is 1000 messages behind misses some, which the Event Broadcaster's messages do not show; the ZMQ Interface
//! numbers its messages, those of continuous data among them.

pub mod emulate;
pub mod encode;
mod json;
pub mod parse;
pub mod source;

pub use emulate::{OpenEphysEmulator, OpenEphysEmulatorConfig};
pub use parse::{Form, MessageParser, OpenEphysSpike};
pub use source::{OpenEphys, OpenEphysConfig};

/// Endpoint of the Event Broadcaster, unless its port was taken.
pub const EVENT_BROADCASTER: &str = "tcp://127.0.0.1:5557";
/// Endpoint of the ZMQ Interface, unless its port was taken.
pub const ZMQ_INTERFACE: &str = "tcp://127.0.0.1:5556";
