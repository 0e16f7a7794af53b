//! The packet's layout and its checked reading.
//!
//! Header, 40 bytes: 0 magic `NHSP`; 4 version u16 = 1; 6 device id u16; 8 sequence u64; 16 first tick u64; 24 tick rate
//! u32, Hz; 28 count u32, spikes that follow; 32 overflow u64, spikes that the device has lost since it started.
//! Spike, 8 bytes: 0 tick offset u32, ticks after the first tick; 4 channel u16; 6 unit u8; 7 flags u8.

use core::fmt;

use bytemuck::{Pod, Zeroable};

#[cfg(target_endian = "big")]
compile_error!("packets are little-endian and their structs are read as they lie in memory");

/// The first four bytes of a packet.
pub const MAGIC: [u8; 4] = *b"NHSP";
/// Version of the layout.
pub const VERSION: u16 = 1;
/// Length of a header in bytes.
pub const HEADER_LEN: usize = size_of::<PacketHeader>();
/// Length of a spike in bytes.
pub const SPIKE_LEN: usize = size_of::<SpikeRecord>();

/// Header of a packet.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct PacketHeader {
    /// [`MAGIC`].
    pub magic: [u8; 4],
    /// [`VERSION`].
    pub version: u16,
    /// Which device sends.
    pub device_id: u16,
    /// Counts the device's packets; a gap is a lost packet.
    pub sequence: u64,
    /// The device's clock at the first spike's reference, ticks.
    pub first_tick: u64,
    /// Ticks a second.
    pub tick_rate_hz: u32,
    /// Spikes in this packet.
    pub count: u32,
    /// Spikes that the device could not send since it started.
    pub overflow: u64,
}

/// One spike.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
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

/// Why bytes are no packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PacketError {
    /// Fewer bytes than a header has.
    Truncated {
        /// Bytes given.
        length: usize,
    },
    /// Another magic.
    Magic([u8; 4]),
    /// Another version.
    Version(u16),
    /// The length is not that of the header and its spikes.
    Length {
        /// Spikes that the header announces.
        count: u32,
        /// Bytes given.
        length: usize,
    },
    /// A tick rate of zero: ticks cannot be turned into time.
    TickRate,
}

impl fmt::Display for PacketError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated { length } => write!(f, "a packet of {length} bytes is shorter than its header"),
            Self::Magic(magic) => write!(f, "a packet starts with {magic:?} and not with {MAGIC:?}"),
            Self::Version(version) => write!(f, "a packet has version {version}, but version {VERSION} is read"),
            Self::Length { count, length } => {
                write!(
                    f,
                    "a packet announces {count} spikes, but {length} bytes are not as many"
                )
            }
            Self::TickRate => write!(f, "a packet has a tick rate of 0 Hz"),
        }
    }
}

impl core::error::Error for PacketError {}

/// A packet whose bytes have been checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PacketView<'a> {
    header: PacketHeader,
    spikes: &'a [u8],
}

impl<'a> PacketView<'a> {
    /// The header.
    pub fn header(&self) -> &PacketHeader {
        &self.header
    }

    /// The spikes, in the device's order.
    pub fn spikes(&self) -> impl ExactSizeIterator<Item = SpikeRecord> + 'a {
        self.spikes.chunks_exact(SPIKE_LEN).map(bytemuck::pod_read_unaligned)
    }
}

/// Reads one packet, which fills `bytes` exactly; they need no alignment.
///
/// # Errors
/// What is wrong with the bytes; nothing of them is given out.
pub fn decode(bytes: &[u8]) -> Result<PacketView<'_>, PacketError> {
    let (Some(head), Some(spikes)) = (bytes.get(..HEADER_LEN), bytes.get(HEADER_LEN..)) else {
        return Err(PacketError::Truncated { length: bytes.len() });
    };
    let header: PacketHeader = bytemuck::pod_read_unaligned(head);
    if header.magic != MAGIC {
        return Err(PacketError::Magic(header.magic));
    }
    if header.version != VERSION {
        return Err(PacketError::Version(header.version));
    }
    if u64::from(header.count) * SPIKE_LEN as u64 != spikes.len() as u64 {
        return Err(PacketError::Length {
            count: header.count,
            length: bytes.len(),
        });
    }
    if header.tick_rate_hz == 0 {
        return Err(PacketError::TickRate);
    }
    Ok(PacketView { header, spikes })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Device 0x0102, packet 5, two spikes at 30 kHz, written by hand from the layout above.
    const GOLDEN: [u8; 56] = [
        b'N', b'H', b'S', b'P', 1, 0, 0x02, 0x01, // magic, version, device
        5, 0, 0, 0, 0, 0, 0, 0, // sequence
        0x40, 0x42, 0x0F, 0, 0, 0, 0, 0, // first tick 1 000 000
        0x30, 0x75, 0, 0, // 30 000 Hz
        2, 0, 0, 0, // spikes
        9, 0, 0, 0, 0, 0, 0, 0, // lost by the device
        0, 0, 0, 0, 17, 0, 1, 0, // at the first tick, channel 17, unit 1
        0x2C, 0x01, 0, 0, 0, 1, 0, 0x80, // 300 ticks later, channel 256, unsorted, flag 128
    ];

    #[test]
    fn golden_bytes_are_read_at_every_alignment() {
        let mut shifted = [0u8; 64];
        for shift in 0..8 {
            shifted[shift..shift + 56].copy_from_slice(&GOLDEN);
            let packet = decode(&shifted[shift..shift + 56]).unwrap();
            let header = packet.header();
            assert_eq!(
                (header.device_id, header.sequence, header.first_tick),
                (0x0102, 5, 1_000_000)
            );
            assert_eq!((header.tick_rate_hz, header.count, header.overflow), (30_000, 2, 9));
            let mut spikes = packet.spikes();
            assert_eq!(spikes.len(), 2);
            assert_eq!(
                spikes.next(),
                Some(SpikeRecord {
                    tick_offset: 0,
                    channel: 17,
                    unit: 1,
                    flags: 0
                })
            );
            assert_eq!(
                spikes.next(),
                Some(SpikeRecord {
                    tick_offset: 300,
                    channel: 256,
                    unit: 0,
                    flags: 128
                })
            );
        }
    }

    #[test]
    fn the_structs_are_the_golden_bytes() {
        let packet = decode(&GOLDEN).unwrap();
        assert_eq!(bytemuck::bytes_of(packet.header()), &GOLDEN[..40]);
        for (spike, bytes) in packet.spikes().zip(GOLDEN[40..].chunks_exact(8)) {
            assert_eq!(bytemuck::bytes_of(&spike), bytes);
        }
    }

    #[test]
    fn wrong_bytes_are_refused() {
        for length in 0..40 {
            assert_eq!(decode(&GOLDEN[..length]), Err(PacketError::Truncated { length }));
        }
        for length in 40..56 {
            assert_eq!(decode(&GOLDEN[..length]), Err(PacketError::Length { count: 2, length }));
        }
        let with = |at: usize, byte: u8| {
            let mut bytes = GOLDEN;
            bytes[at] = byte;
            bytes
        };
        assert_eq!(decode(&with(0, b'X')), Err(PacketError::Magic(*b"XHSP")));
        assert_eq!(decode(&with(4, 2)), Err(PacketError::Version(2)));
        // A count whose bytes do not fit 32 bits.
        assert_eq!(
            decode(&with(31, 0x20)),
            Err(PacketError::Length {
                count: 0x2000_0002,
                length: 56
            })
        );
        let mut bytes = GOLDEN;
        bytes[24..28].fill(0);
        assert_eq!(decode(&bytes), Err(PacketError::TickRate));
    }
}
