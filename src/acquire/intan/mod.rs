//! Intan RHX: spikes from the TCP spike output of the RHX software.
//!
//! RHX listens (port 5002), one client at a time. Its stream is records of 14 bytes, one a spike, without sequence numbers:
//! what RHX itself leaves out cannot be seen here. RHX writes once every `TCPNumberDataBlocksPerWrite` blocks of 128
//! samples, 10 unless it is set otherwise, so that spikes come up to 42.7 ms late at 30 kHz.

pub mod emulate;
pub mod encode;
pub mod parse;
pub mod source;

pub use emulate::{IntanEmulator, IntanEmulatorConfig};
pub use parse::{IntanSpike, SpikeParser};
pub use source::{Intan, IntanConfig};

/// Port of the spike output, unless RHX is told otherwise.
pub const SPIKE_PORT: u16 = 5002;
