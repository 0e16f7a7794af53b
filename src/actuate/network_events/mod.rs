//! The Open Ephys GUI's plugin "Network Events": text requests over ZeroMQ, each with one answer.
//!
//! The plugin hands a TTL on at the beginning of the next block of audio, and only while it acquires; it answers
//! `TTLHandled` either way.

pub mod client;
pub mod emulator;

pub use client::{NetworkEvents, NetworkEventsConfig};
pub use emulator::{EmulatorCounts, NetworkEventsEmulator};

/// Endpoint of the plugin on the same machine, unless another port was chosen. (The plugin ZMQ Interface likes the same port.)
pub const NETWORK_EVENTS: &str = "tcp://127.0.0.1:5556";
/// Lines that the plugin has, counted from 1.
pub const LINES: u16 = 256;

/// Asks whether the GUI acquires: `1` or `0`.
const IS_ACQUIRING: &str = "IsAcquiring";

/// The request that sets a line.
pub fn ttl_request(line: u16, high: bool) -> String {
    format!("TTL Line={line} State={}", u8::from(high))
}

/// The answer to [`ttl_request`].
pub fn ttl_handled(line: u16, high: bool) -> String {
    format!("TTLHandled: Line={line} State={}", u8::from(high))
}
