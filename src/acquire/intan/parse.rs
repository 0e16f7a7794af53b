//! Parser of the spike output.
//!
//! | offset | type | field |
//! |---|---|---|
//! | 0 | u32 | magic, 0x3AE2710F |
//! | 4 | 5 × char | native channel name, such as `A-010` |
//! | 9 | u32 | time, samples since the run's start |
//! | 13 | u8 | spike id: 0x01, 0x02, 0x04, 0x08 units 1 to 4, 0x40 not sorted, 0x80 likely an artifact |
//!
//! All little-endian.

use super::super::wire::ticks::WrapClock;

/// Length of a record.
pub const RECORD: usize = 14;
const MAGIC: [u8; 4] = 0x3AE2_710F_u32.to_le_bytes();

/// A spike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IntanSpike {
    /// Native channel name, ASCII.
    pub channel: [u8; 5],
    /// Samples since the run's start, without wraps.
    pub ticks: i64,
    /// Sorted unit 1 to 4, 0 for spikes that are not sorted, [`ARTIFACT`].
    pub unit: u16,
}

/// Unit of spikes that are likely artifacts.
pub const ARTIFACT: u16 = 128;

impl IntanSpike {
    /// The channel's name.
    pub fn name(&self) -> &str {
        // The parser lets ASCII through only.
        std::str::from_utf8(&self.channel).unwrap_or("")
    }
}

/// An incremental parser: bytes in, in pieces of any length, spikes out. Never allocates.
///
/// Bytes that belong to no record are skipped one at a time until the next record begins. Every byte is in a record,
/// discarded, or waiting: `14 · records + discarded + waiting` is what came in.
#[derive(Clone, Debug, Default)]
pub struct SpikeParser {
    waiting: [u8; RECORD],
    filled: usize,
    clock: WrapClock,
    records: u64,
    discarded: u64,
    /// Whether the last that was looked at was no record.
    astray: bool,
    resyncs: u64,
}

fn unit_of(id: u8) -> Option<u16> {
    match id {
        0x01 => Some(1),
        0x02 => Some(2),
        0x04 => Some(3),
        0x08 => Some(4),
        0x40 => Some(0),
        0x80 => Some(ARTIFACT),
        _ => None,
    }
}

/// Whether RHX can send spikes of this channel and sorted unit.
pub(super) fn is_possible(channel: &str, unit: u16) -> Result<(), &'static str> {
    let named = matches!(channel.as_bytes(), [letter, b'-', digits @ ..]
        if letter.is_ascii_uppercase() && digits.len() == 3 && digits.iter().all(u8::is_ascii_digit));
    if !named {
        return Err("native channel names are like A-010");
    }
    match unit {
        0..=4 | ARTIFACT => Ok(()),
        _ => Err("RHX sorts units 1 to 4, has 0 for what is not sorted and 128 for likely artifacts"),
    }
}

/// Channel name, time and unit, where these bytes are a record.
fn record(bytes: &[u8; RECORD]) -> Option<([u8; 5], u32, u16)> {
    let [m0, m1, m2, m3, c0, c1, c2, c3, c4, t0, t1, t2, t3, id] = *bytes;
    let named = c0.is_ascii_uppercase() && c1 == b'-' && [c2, c3, c4].iter().all(u8::is_ascii_digit);
    if [m0, m1, m2, m3] != MAGIC || !named {
        return None;
    }
    Some(([c0, c1, c2, c3, c4], u32::from_le_bytes([t0, t1, t2, t3]), unit_of(id)?))
}

impl SpikeParser {
    /// Takes bytes and gives each spike to `emit`.
    pub fn push(&mut self, mut bytes: &[u8], mut emit: impl FnMut(IntanSpike)) {
        while !bytes.is_empty() {
            if self.filled == 0 {
                bytes = self.whole_records(bytes, &mut emit);
            }
            let taken = bytes.len().min(RECORD - self.filled);
            self.waiting[self.filled..self.filled + taken].copy_from_slice(&bytes[..taken]);
            self.filled += taken;
            bytes = &bytes[taken..];
            if self.filled == RECORD {
                match record(&self.waiting) {
                    Some(fields) => {
                        self.filled = 0;
                        emit(self.spike(fields));
                    }
                    None => self.skip_to_magic(),
                }
            }
        }
    }

    /// Takes the records at the start of `bytes`, and returns what follows them.
    fn whole_records<'a>(&mut self, mut bytes: &'a [u8], emit: &mut impl FnMut(IntanSpike)) -> &'a [u8] {
        while let Some((first, rest)) = bytes.split_first_chunk::<RECORD>() {
            let Some(fields) = record(first) else { break };
            emit(self.spike(fields));
            bytes = rest;
        }
        bytes
    }

    fn spike(&mut self, (channel, ticks, unit): ([u8; 5], u32, u16)) -> IntanSpike {
        self.records += 1;
        self.astray = false;
        IntanSpike {
            channel,
            ticks: self.clock.extend(ticks),
            unit,
        }
    }

    /// Discards at least one waiting byte, up to the next that may begin a record.
    fn skip_to_magic(&mut self) {
        let begins = |at: &usize| {
            let rest = &self.waiting[*at..];
            let length = rest.len().min(MAGIC.len());
            rest[..length] == MAGIC[..length]
        };
        let next = (1..RECORD).find(begins).unwrap_or(RECORD);
        self.waiting.copy_within(next.., 0);
        self.filled = RECORD - next;
        self.discarded += next as u64;
        self.resyncs += u64::from(!std::mem::replace(&mut self.astray, true));
    }

    /// Begins anew, as with a new connection: what waits is discarded.
    pub fn restart(&mut self) {
        self.discarded += self.filled as u64;
        self.filled = 0;
        self.clock = WrapClock::default();
    }

    /// Records found.
    pub fn records(&self) -> u64 {
        self.records
    }

    /// Bytes discarded.
    pub fn discarded(&self) -> u64 {
        self.discarded
    }

    /// Times that the next record was not where the one before ended, and had to be looked for.
    pub fn resyncs(&self) -> u64 {
        self.resyncs
    }

    /// Bytes that wait for the rest of their record, at most 13.
    pub fn waiting(&self) -> usize {
        self.filled
    }
}

#[cfg(test)]
#[path = "parse_tests.rs"]
mod tests;
