//! The project's own packets over UDP (crate `firmware-bridge`, whose page is their specification): spikes, behaviour and stimuli from
//! a microcontroller, an FPGA or a plugin. [`source`] listens, [`emulate`] sends without a device.

pub mod emulate;
pub mod series;
pub mod source;

pub use emulate::{BridgeEmulator, MOST_CHANNELS};
pub use series::SeriesList;
pub use source::{Bridge, BridgeConfig};

/// Where packets come to unless asked otherwise.
pub const PORT: u16 = 5580;
