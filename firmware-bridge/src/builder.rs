//! Building packets on a device.

use core::fmt;

use heapless::Vec;

use crate::packet::{PacketHeader, SpikeRecord, HEADER_LEN, MAGIC, SPIKE_LEN, VERSION};

/// The memory given for a packet is too short; the packet is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooShort {
    /// Bytes that the packet needs.
    pub needed: usize,
}

impl fmt::Display for TooShort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the packet needs {} bytes", self.needed)
    }
}

impl core::error::Error for TooShort {}

/// Collects up to `N` spikes and writes them as a packet.
///
/// A spike that finds the packet full is refused and counted in the header's `overflow` of every packet from then on.
#[derive(Clone, Debug)]
pub struct PacketBuilder<const N: usize> {
    device_id: u16,
    tick_rate_hz: u32,
    sequence: u64,
    first_tick: u64,
    overflow: u64,
    spikes: Vec<SpikeRecord, N>,
}

impl<const N: usize> PacketBuilder<N> {
    /// An empty builder for a device with this tick rate.
    pub fn new(device_id: u16, tick_rate_hz: u32) -> Self {
        Self {
            device_id,
            tick_rate_hz,
            sequence: 0,
            first_tick: 0,
            overflow: 0,
            spikes: Vec::new(),
        }
    }

    /// Adds a spike at `tick`; its `tick_offset` is set here. Returns false where it was refused: the packet is full, or
    /// the tick is earlier than the packet's first or too far after it for 32 bits.
    pub fn push(&mut self, tick: u64, mut spike: SpikeRecord) -> bool {
        if self.spikes.is_empty() {
            self.first_tick = tick;
        }
        let offset = tick
            .checked_sub(self.first_tick)
            .and_then(|offset| u32::try_from(offset).ok());
        let pushed = match offset {
            Some(offset) => {
                spike.tick_offset = offset;
                self.spikes.push(spike).is_ok()
            }
            None => false,
        };
        self.overflow += u64::from(!pushed);
        pushed
    }

    /// Spikes in the packet.
    pub fn len(&self) -> usize {
        self.spikes.len()
    }

    /// Whether no spike is in the packet.
    pub fn is_empty(&self) -> bool {
        self.spikes.is_empty()
    }

    /// Writes the packet to the start of `bytes`, returns its length and begins the next.
    ///
    /// # Errors
    /// [`TooShort`] where `bytes` cannot hold it; nothing is lost then.
    pub fn finish(&mut self, bytes: &mut [u8]) -> Result<usize, TooShort> {
        let needed = HEADER_LEN + self.spikes.len() * SPIKE_LEN;
        let Some(out) = bytes.get_mut(..needed) else {
            return Err(TooShort { needed });
        };
        let header = PacketHeader {
            magic: MAGIC,
            version: VERSION,
            device_id: self.device_id,
            sequence: self.sequence,
            first_tick: self.first_tick,
            tick_rate_hz: self.tick_rate_hz,
            count: self.spikes.len() as u32,
            overflow: self.overflow,
        };
        out[..HEADER_LEN].copy_from_slice(bytemuck::bytes_of(&header));
        out[HEADER_LEN..].copy_from_slice(bytemuck::cast_slice(&self.spikes));
        self.sequence += 1;
        self.spikes.clear();
        Ok(needed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::decode;

    fn spike(channel: u16) -> SpikeRecord {
        SpikeRecord {
            tick_offset: 0,
            channel,
            unit: 0,
            flags: 0,
        }
    }

    #[test]
    fn what_is_built_is_read_back() {
        let mut builder = PacketBuilder::<4>::new(3, 30_000);
        assert!(builder.push(100, spike(1)));
        assert!(builder.push(130, spike(2)));
        let mut bytes = [0; 128];
        let length = builder.finish(&mut bytes).unwrap();
        let packet = decode(&bytes[..length]).unwrap();
        assert_eq!(
            (
                packet.header().device_id,
                packet.header().sequence,
                packet.header().first_tick
            ),
            (3, 0, 100)
        );
        let mut spikes = packet.spikes().map(|spike| (spike.tick_offset, spike.channel));
        assert_eq!(
            (spikes.next(), spikes.next(), spikes.next()),
            (Some((0, 1)), Some((30, 2)), None)
        );
        assert!(builder.is_empty());
    }

    #[test]
    fn refused_spikes_are_counted_in_the_next_packets() {
        let mut builder = PacketBuilder::<2>::new(3, 30_000);
        assert!(builder.push(100, spike(0)) && builder.push(100, spike(0)));
        assert!(!builder.push(101, spike(0)));
        let mut bytes = [0; 128];
        let length = builder.finish(&mut bytes).unwrap();
        assert_eq!(decode(&bytes[..length]).unwrap().header().overflow, 1);
        builder.push(200, spike(0));
        assert!(!builder.push(199, spike(0)));
        assert!(!builder.push(200 + (1 << 32), spike(0)));
        let length = builder.finish(&mut bytes).unwrap();
        let header = *decode(&bytes[..length]).unwrap().header();
        assert_eq!(
            (header.sequence, header.overflow, header.count, builder.len()),
            (1, 3, 1, 0)
        );
    }

    #[test]
    fn a_packet_that_does_not_fit_is_kept() {
        let mut builder = PacketBuilder::<2>::new(3, 30_000);
        builder.push(1, spike(0));
        assert_eq!(builder.finish(&mut [0; 47]), Err(TooShort { needed: 48 }));
        assert_eq!(builder.finish(&mut [0; 48]), Ok(48));
    }
}
