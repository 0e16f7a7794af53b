//! Blackrock Cerebus and Gemini: spikes from the packets that an NSP or hub sends over UDP.
//!
//! Three layouts of packets are told apart by what comes ([`sniff`]), and clocks that count 30 kHz ticks from those that count
//! nanoseconds. Nothing is sent to the device: Central, or whatever configures it, does that.

pub mod emulate;
pub mod encode;
pub mod packet;
pub mod parse;
pub mod sniff;
pub mod source;

pub use emulate::{BlackrockEmulator, BlackrockEmulatorConfig};
pub use packet::Protocol;
pub use parse::{BlackrockSpike, PacketParser};
pub use sniff::TimeUnit;
pub use source::{Blackrock, BlackrockConfig};

/// Port that a device's packets come to, unless it is set up otherwise.
pub const DATA_PORT: u16 = 51002;
/// Ticks a second of a clock that counts ticks.
pub const TICKS_HZ: u32 = 30_000;
