//! The project's own packets (crate `firmware-bridge`, whose page is their specification): spikes, behaviour and stimuli from a
//! microcontroller, an FPGA or a plugin, by datagrams ([`udp`]), a serial link ([`serial`]) or shared memory
//! (`shared_memory`). [`source`] listens, [`packets`] reads, [`exchange`] asks for the device's time, [`emulate`] sends without
//! a device.

pub mod emulate;
mod emulate_port;
pub mod exchange;
pub mod packets;
pub mod serial;
pub mod series;
#[cfg(target_os = "linux")]
pub mod shared_memory;
pub mod source;
pub mod udp;

pub use emulate::{BridgeEmulator, MOST_CHANNELS};
pub use series::SeriesList;
pub use source::{Bridge, BridgeConfig, Carrier};

/// Where packets come to unless asked otherwise.
pub const PORT: u16 = 5580;
