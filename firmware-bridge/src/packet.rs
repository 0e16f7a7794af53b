//! The checked reading of a data packet.

use core::fmt;

use crate::layout::{
    checksum, PacketHeader, SampleHead, SampleKind, SpikeRecord, HEADER_LEN, KIND_DATA, MAGIC, SAMPLE_HEAD_LEN,
    SPIKE_LEN, TRAILER_LEN, VERSION,
};

/// Why bytes are no packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PacketError {
    /// Fewer bytes than a packet of this kind has at least.
    Truncated {
        /// Bytes given.
        length: usize,
    },
    /// Another magic.
    Magic([u8; 4]),
    /// Another version.
    Version(u16),
    /// Another kind of packet.
    Kind(u16),
    /// The checksum is not that of the bytes: they were damaged on their way.
    Checksum,
    /// The length is not that of what the header announces.
    Length {
        /// Spikes that the header announces.
        spikes: u16,
        /// Samples that the header announces.
        samples: u16,
        /// Bytes given.
        length: usize,
    },
    /// More bytes than a packet of this kind has.
    TooLong {
        /// Bytes given.
        length: usize,
    },
    /// A sample of a kind that version 2 does not have.
    SampleKind(u8),
    /// A packet of one device more than a link is made for.
    Device(u32),
    /// A tick rate of zero: ticks cannot be turned into time.
    TickRate,
}

impl fmt::Display for PacketError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Truncated { length } => write!(f, "{length} bytes are too few for a packet"),
            Self::Magic(magic) => write!(f, "a packet starts with {magic:?} and not with {MAGIC:?}"),
            Self::Version(version) => write!(f, "a packet has version {version}, but version {VERSION} is read"),
            Self::Kind(kind) => write!(f, "a packet of kind {kind} is not expected here"),
            Self::Checksum => write!(f, "a packet's checksum does not match its bytes"),
            Self::Length {
                spikes,
                samples,
                length,
            } => write!(
                f,
                "a packet announces {spikes} spikes and {samples} samples, but {length} bytes are not as many"
            ),
            Self::TooLong { length } => write!(f, "{length} bytes are too many for a packet of this kind"),
            Self::SampleKind(kind) => write!(f, "a packet holds a sample of the unknown kind {kind}"),
            Self::Device(id) => write!(
                f,
                "a packet comes from device {id}, one more than this link is made for"
            ),
            Self::TickRate => write!(f, "a packet has a tick rate of 0 Hz"),
        }
    }
}

impl core::error::Error for PacketError {}

/// A data packet whose bytes have been checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PacketView<'a> {
    header: PacketHeader,
    spikes: &'a [u8],
    samples: &'a [u8],
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

    /// The behaviour and stimulus samples, in the device's order.
    pub fn samples(&self) -> Samples<'a> {
        Samples { rest: self.samples }
    }
}

/// One behaviour or stimulus sample of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SampleView<'a> {
    /// Ticks after the packet's first tick.
    pub tick_offset: u32,
    /// What the sample is of.
    pub kind: SampleKind,
    /// Number of the series among those of its kind.
    pub series: u16,
    values: &'a [u8],
}

impl<'a> SampleView<'a> {
    /// The values, one a channel; NaN where a channel has none.
    pub fn values(&self) -> impl ExactSizeIterator<Item = f32> + 'a {
        self.values.chunks_exact(4).map(bytemuck::pod_read_unaligned)
    }
}

/// The samples of a packet.
#[derive(Clone, Debug)]
pub struct Samples<'a> {
    rest: &'a [u8],
}

impl<'a> Iterator for Samples<'a> {
    type Item = SampleView<'a>;

    fn next(&mut self) -> Option<Self::Item> {
        let (sample, rest) = split_sample(self.rest).ok()?;
        self.rest = rest;
        Some(sample)
    }
}

/// Why no sample could be split off.
enum SampleError {
    TooShort,
    Kind(u8),
}

fn split_sample(bytes: &[u8]) -> Result<(SampleView<'_>, &[u8]), SampleError> {
    let (head, rest) = bytes.split_at_checked(SAMPLE_HEAD_LEN).ok_or(SampleError::TooShort)?;
    let head: SampleHead = bytemuck::pod_read_unaligned(head);
    let kind = SampleKind::from_number(head.kind).ok_or(SampleError::Kind(head.kind))?;
    let (values, rest) = rest
        .split_at_checked(4 * usize::from(head.channels))
        .ok_or(SampleError::TooShort)?;
    let sample = SampleView {
        tick_offset: head.tick_offset,
        kind,
        series: head.series,
        values,
    };
    Ok((sample, rest))
}

/// Checks what every packet begins with and returns its kind.
pub(crate) fn kind_of(bytes: &[u8]) -> Result<u16, PacketError> {
    let truncated = PacketError::Truncated { length: bytes.len() };
    let &[a, b, c, d, version_low, version_high, ref rest @ ..] = bytes else {
        return Err(truncated);
    };
    if [a, b, c, d] != MAGIC {
        return Err(PacketError::Magic([a, b, c, d]));
    }
    let version = u16::from_le_bytes([version_low, version_high]);
    if version != VERSION {
        return Err(PacketError::Version(version));
    }
    let &[kind_low, kind_high, ..] = rest else {
        return Err(truncated);
    };
    Ok(u16::from_le_bytes([kind_low, kind_high]))
}

/// The bytes before the checksum, which has been compared.
pub(crate) fn checked_body(bytes: &[u8]) -> Result<&[u8], PacketError> {
    let (body, trailer) = bytes
        .split_last_chunk::<TRAILER_LEN>()
        .map(|(body, trailer)| (body, *trailer))
        .ok_or(PacketError::Truncated { length: bytes.len() })?;
    if checksum(body) == trailer {
        Ok(body)
    } else {
        Err(PacketError::Checksum)
    }
}

/// Reads one data packet, which fills `bytes` exactly; they need no alignment.
///
/// # Errors
/// What is wrong with the bytes; nothing of them is given out. After [`PacketError::Checksum`] has been passed, any
/// other error is the sender's mistake and not damage.
pub fn decode(bytes: &[u8]) -> Result<PacketView<'_>, PacketError> {
    let kind = kind_of(bytes)?;
    if kind != KIND_DATA {
        return Err(PacketError::Kind(kind));
    }
    if bytes.len() < HEADER_LEN + TRAILER_LEN {
        return Err(PacketError::Truncated { length: bytes.len() });
    }
    let (head, body) = checked_body(bytes)?.split_at(HEADER_LEN);
    let header: PacketHeader = bytemuck::pod_read_unaligned(head);
    let wrong_length = PacketError::Length {
        spikes: header.spikes,
        samples: header.samples,
        length: bytes.len(),
    };
    let (spikes, samples) = body
        .split_at_checked(usize::from(header.spikes) * SPIKE_LEN)
        .ok_or(wrong_length)?;
    let mut rest = samples;
    for _ in 0..header.samples {
        rest = match split_sample(rest) {
            Ok((_, rest)) => rest,
            Err(SampleError::TooShort) => return Err(wrong_length),
            Err(SampleError::Kind(kind)) => return Err(PacketError::SampleKind(kind)),
        };
    }
    if !rest.is_empty() {
        return Err(wrong_length);
    }
    if header.tick_rate_hz == 0 {
        return Err(PacketError::TickRate);
    }
    Ok(PacketView {
        header,
        spikes,
        samples,
    })
}
