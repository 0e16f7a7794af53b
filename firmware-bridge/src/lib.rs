#![no_std]
#![doc = include_str!("../FORMAT.md")]

mod builder;
mod layout;
mod packet;

pub use builder::{Device, PacketBuilder, TooShort};
pub use layout::{
    PacketHeader, SampleHead, SampleKind, SpikeRecord, HEADER_LEN, KIND_DATA, MAGIC, SAMPLE_HEAD_LEN, SPIKE_LEN,
    TRAILER_LEN, VERSION,
};
pub use packet::{decode, PacketError, PacketView, SampleView, Samples};
