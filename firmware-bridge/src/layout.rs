//! The records that packets are made of, as they lie in memory. `FORMAT.md` is the specification.

use bytemuck::{Pod, Zeroable};

#[cfg(target_endian = "big")]
compile_error!("packets are little-endian and their structs are read as they lie in memory");

/// The first four bytes of every packet.
pub const MAGIC: [u8; 4] = *b"NHSP";
/// Version of the layout.
pub const VERSION: u16 = 2;
/// [`PacketHeader::kind`] of a packet of spikes and samples.
pub const KIND_DATA: u16 = 1;
/// Kind of a [`ClockRequest`](crate::ClockRequest).
pub const KIND_CLOCK_REQUEST: u16 = 2;
/// Kind of a [`ClockReply`](crate::ClockReply).
pub const KIND_CLOCK_REPLY: u16 = 3;
/// Length of a data packet's header in bytes.
pub const HEADER_LEN: usize = size_of::<PacketHeader>();
/// Length of a spike in bytes.
pub const SPIKE_LEN: usize = size_of::<SpikeRecord>();
/// Length of a sample in bytes, without its values.
pub const SAMPLE_HEAD_LEN: usize = size_of::<SampleHead>();
/// Length of the checksum that ends every packet.
pub const TRAILER_LEN: usize = 4;

/// Header of a data packet, 48 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct PacketHeader {
    /// [`MAGIC`].
    pub magic: [u8; 4],
    /// [`VERSION`].
    pub version: u16,
    /// [`KIND_DATA`].
    pub kind: u16,
    /// Which device sends.
    pub device_id: u32,
    /// Another number each time that the device starts; 0 where it has none to give.
    pub boot: u32,
    /// Counts the device's data packets from 0 at each start; a gap is a lost packet.
    pub sequence: u64,
    /// Device time that the packet's events count from, ticks since the device started. Nothing in a later packet is
    /// earlier.
    pub first_tick: u64,
    /// Spikes and samples that the device could not send since it started.
    pub overflow: u64,
    /// Ticks a second.
    pub tick_rate_hz: u32,
    /// Spikes in this packet.
    pub spikes: u16,
    /// Samples in this packet.
    pub samples: u16,
}

/// One spike, 8 bytes.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct SpikeRecord {
    /// Ticks after the packet's first tick.
    pub tick_offset: u32,
    /// Electrode.
    pub channel: u16,
    /// Sorted unit on that electrode; 0: unsorted.
    pub unit: u8,
    /// For the device's own use.
    pub flags: u8,
}

/// What a sample begins with, 8 bytes; `channels` f32 values follow.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct SampleHead {
    /// Ticks after the packet's first tick.
    pub tick_offset: u32,
    /// Number of the series among those of its kind.
    pub series: u16,
    /// The number of a [`SampleKind`].
    pub kind: u8,
    /// Values that follow; 0 for an event that has none.
    pub channels: u8,
}

/// What a sample is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum SampleKind {
    /// What the subject does: a hand's position, a lick.
    Behaviour = 0,
    /// What is done to the subject: a stimulus' parameters, a TTL line.
    Stimulus = 1,
}

impl SampleKind {
    /// The kind of this number.
    pub fn from_number(number: u8) -> Option<Self> {
        match number {
            0 => Some(Self::Behaviour),
            1 => Some(Self::Stimulus),
            _ => None,
        }
    }
}

/// CRC-32/ISO-HDLC (that of Ethernet and zip) of `bytes`.
pub(crate) fn checksum(bytes: &[u8]) -> [u8; TRAILER_LEN] {
    crc32fast::hash(bytes).to_le_bytes()
}
