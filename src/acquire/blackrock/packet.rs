//! The three layouts of a packet's header. Little-endian, without padding.
//!
//! | field | 3.11 | 4.0 | 4.1 and 4.2 |
//! |---|---|---|---|
//! | time | 0, u32 | 0, u64 | 0, u64 |
//! | channel | 4, u16 | 8, u16 | 8, u16 |
//! | type | 6, u8 | 10, u8 | 10, u16 |
//! | length of the payload, words of 4 bytes | 7, u8 | 11, u16 | 12, u16 |
//! | instrument | | 13, u8 | 14, u8 |
//! | header's length | 8 | 16 | 16 |

use serde::{Deserialize, Serialize};

/// Longest packet, bytes.
const LONGEST: usize = 1024;
/// Channel of what is no data.
pub const CONFIGURATION: u16 = 0x8000;
/// Last analogue channel: 256 of the front end, then 16 inputs. Digital inputs follow.
pub const LAST_ANALOGUE: u16 = 272;
/// Highest channel that a plausible packet is of.
const LAST_CHANNEL: u16 = 2048;
/// Most instruments.
const INSTRUMENTS: u8 = 16;
/// Type, on the configuration channel, of the packet that says how many packets were sent.
pub const MONITOR: u16 = 1;
/// Words of a spike's payload without its waveform.
pub const SPIKE_WORDS: usize = 4;

/// A layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Protocol {
    /// Cerebus, up to 3.11.
    #[serde(rename = "3.11")]
    V311,
    /// 4.0.
    #[serde(rename = "4.0")]
    V400,
    /// 4.1 and 4.2.
    #[serde(rename = "4.1")]
    V410,
}

/// A packet's header and payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Packet<'a> {
    /// Ticks or ns.
    pub time: u64,
    /// Channel from 1, 0 for a group of continuous channels, [`CONFIGURATION`].
    pub channel: u16,
    /// What it is, on that channel: a spike's sorted unit.
    pub kind: u16,
    /// The payload.
    pub payload: &'a [u8],
}

/// Two bytes at `at`; callers have checked the length.
fn u16_at(bytes: &[u8], at: usize) -> u16 {
    u16::from_le_bytes([bytes[at], bytes[at + 1]])
}

/// Four bytes at `at`, where there are so many.
pub(super) fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    let (four, _) = bytes.get(at..)?.split_first_chunk::<4>()?;
    Some(u32::from_le_bytes(*four))
}

impl Protocol {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::V311, Self::V400, Self::V410];

    /// Length of a header, bytes.
    pub const fn header(self) -> usize {
        match self {
            Self::V311 => 8,
            Self::V400 | Self::V410 => 16,
        }
    }

    /// The first packet in `bytes` and what follows it, where it is a plausible one.
    pub fn split(self, bytes: &[u8]) -> Option<(Packet<'_>, &[u8])> {
        let header = bytes.get(..self.header())?;
        let time64 = || {
            header[..8]
                .iter()
                .rev()
                .fold(0, |sum, &byte| sum << 8 | u64::from(byte))
        };
        let (time, channel, kind, words, instrument) = match self {
            Self::V311 => (
                u64::from(u32_at(header, 0)?),
                u16_at(header, 4),
                u16::from(header[6]),
                usize::from(header[7]),
                0,
            ),
            Self::V400 => (
                time64(),
                u16_at(header, 8),
                u16::from(header[10]),
                usize::from(u16_at(header, 11)),
                header[13],
            ),
            Self::V410 => (
                time64(),
                u16_at(header, 8),
                u16_at(header, 10),
                usize::from(u16_at(header, 12)),
                header[14],
            ),
        };
        let end = self.header() + 4 * words;
        let plausible = match channel {
            0 => (1..=6).contains(&kind) && words > 0,
            CONFIGURATION => kind <= 0xFF,
            _ => channel <= LAST_CHANNEL && kind <= 0xFF && words > 0,
        };
        if !plausible || instrument >= INSTRUMENTS || end > LONGEST || end > bytes.len() {
            return None;
        }
        let payload = &bytes[self.header()..end];
        let packet = Packet {
            time,
            channel,
            kind,
            payload,
        };
        Some((packet, &bytes[end..]))
    }
}

impl Packet<'_> {
    /// Whether it is a spike: digital inputs and continuous groups have channels of their own.
    pub fn is_spike(&self) -> bool {
        (1..=LAST_ANALOGUE).contains(&self.channel) && self.payload.len() >= 4 * SPIKE_WORDS
    }
}
