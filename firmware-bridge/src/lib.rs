#![no_std]
//! The packets between a device, plugin or microcontroller and the runtime. No `std`, no allocation, fixed sizes.
//!
//! A packet is one [`PacketHeader`] and `count` [`SpikeRecord`]s, little-endian, without padding. The device fills it
//! with a [`PacketBuilder`]; the runtime reads it with [`decode`], which checks everything before it gives anything
//! out.
//!
//! ```
//! use firmware_bridge::{decode, PacketBuilder, SpikeRecord};
//!
//! let mut builder = PacketBuilder::<64>::new(7, 30_000);
//! builder.push(1_000, SpikeRecord { tick_offset: 0, channel: 3, unit: 1, flags: 0 });
//! let mut bytes = [0u8; 1024];
//! let length = builder.finish(&mut bytes).unwrap();
//! let packet = decode(&bytes[..length]).unwrap();
//! assert_eq!(packet.header().first_tick, 1_000);
//! assert_eq!(packet.spikes().next().unwrap().channel, 3);
//! ```

mod builder;
mod packet;

pub use builder::{PacketBuilder, TooShort};
pub use packet::{decode, PacketError, PacketHeader, PacketView, SpikeRecord, HEADER_LEN, MAGIC, SPIKE_LEN, VERSION};
