//! Building data packets on a device.

use core::fmt;

use heapless::Vec;

use crate::layout::{
    checksum, PacketHeader, SampleHead, SampleKind, SpikeRecord, HEADER_LEN, KIND_DATA, MAGIC, SAMPLE_HEAD_LEN,
    SPIKE_LEN, TRAILER_LEN, VERSION,
};

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

/// Who sends: what stays the same in every packet of a device from its start to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Device {
    /// Which device it is.
    pub id: u32,
    /// Another number each time that the device starts; 0 where it has none to give.
    pub boot: u32,
    /// Ticks of its clock a second.
    pub tick_rate_hz: u32,
}

/// Collects up to `SPIKES` spikes, and samples of up to `SAMPLE_BYTES` bytes in all (8 a sample and 4 a channel), and
/// writes them as a packet.
///
/// What finds the packet full is refused and counted in the header's `overflow` of every packet from then on.
#[derive(Clone, Debug)]
pub struct PacketBuilder<const SPIKES: usize, const SAMPLE_BYTES: usize> {
    device: Device,
    sequence: u64,
    first_tick: u64,
    open: bool,
    overflow: u64,
    spikes: Vec<SpikeRecord, SPIKES>,
    samples: u16,
    sample_bytes: Vec<u8, SAMPLE_BYTES>,
}

impl<const SPIKES: usize, const SAMPLE_BYTES: usize> PacketBuilder<SPIKES, SAMPLE_BYTES> {
    const COUNTS_FIT: () = assert!(
        SPIKES <= u16::MAX as usize && SAMPLE_BYTES / SAMPLE_HEAD_LEN <= u16::MAX as usize,
        "a packet counts at most 65535 spikes and 65535 samples"
    );

    /// Bytes that the fullest packet takes.
    pub const MAX_LEN: usize = HEADER_LEN + SPIKES * SPIKE_LEN + SAMPLE_BYTES + TRAILER_LEN;

    /// An empty builder.
    pub fn new(device: Device) -> Self {
        let () = Self::COUNTS_FIT;
        Self {
            device,
            sequence: 0,
            first_tick: 0,
            open: false,
            overflow: 0,
            spikes: Vec::new(),
            samples: 0,
            sample_bytes: Vec::new(),
        }
    }

    /// Opens the packet at `tick`, which its events count from. Without this, the first event opens it. A packet that is
    /// opened and finished without an event says that the device lives and that nothing earlier will come.
    ///
    /// Returns false where the packet was open already: it stays as it was.
    pub fn begin(&mut self, tick: u64) -> bool {
        if self.open {
            return false;
        }
        self.open = true;
        self.first_tick = tick;
        true
    }

    /// Adds a spike at `tick`; its `tick_offset` is set here. Returns false where it was refused: the packet is full, or
    /// the tick is earlier than the packet's first or too far after it for 32 bits.
    pub fn push(&mut self, tick: u64, mut spike: SpikeRecord) -> bool {
        let pushed = match self.offset(tick) {
            Some(offset) => {
                spike.tick_offset = offset;
                self.spikes.push(spike).is_ok()
            }
            None => false,
        };
        self.overflow += u64::from(!pushed);
        pushed
    }

    /// Adds a sample of a behaviour or stimulus series at `tick`. Returns false where it was refused: for the reasons of
    /// [`PacketBuilder::push`], or because it has more than 255 values.
    pub fn push_sample(&mut self, tick: u64, kind: SampleKind, series: u16, values: &[f32]) -> bool {
        let pushed = self.try_push_sample(tick, kind, series, values).is_some();
        self.overflow += u64::from(!pushed);
        pushed
    }

    fn try_push_sample(&mut self, tick: u64, kind: SampleKind, series: u16, values: &[f32]) -> Option<()> {
        let channels = u8::try_from(values.len()).ok()?;
        let free = SAMPLE_BYTES - self.sample_bytes.len();
        if free < SAMPLE_HEAD_LEN + size_of_val(values) {
            return None;
        }
        let head = SampleHead {
            tick_offset: self.offset(tick)?,
            series,
            kind: kind as u8,
            channels,
        };
        self.sample_bytes.extend_from_slice(bytemuck::bytes_of(&head)).ok()?;
        self.sample_bytes.extend_from_slice(bytemuck::cast_slice(values)).ok()?;
        self.samples += 1;
        Some(())
    }

    /// Opens the packet if need be and returns the offset of `tick` in it.
    fn offset(&mut self, tick: u64) -> Option<u32> {
        self.begin(tick);
        u32::try_from(tick.checked_sub(self.first_tick)?).ok()
    }

    /// Counts `events` that were lost before they came here, as in a queue that was full.
    pub fn count_lost(&mut self, events: u64) {
        self.overflow += events;
    }

    /// Spikes in the packet.
    pub fn spikes(&self) -> usize {
        self.spikes.len()
    }

    /// Samples in the packet.
    pub fn samples(&self) -> usize {
        usize::from(self.samples)
    }

    /// Whether neither a spike nor a sample is in the packet.
    pub fn is_empty(&self) -> bool {
        self.spikes.is_empty() && self.samples == 0
    }

    /// Bytes that [`PacketBuilder::finish`] writes.
    pub fn packet_len(&self) -> usize {
        HEADER_LEN + self.spikes.len() * SPIKE_LEN + self.sample_bytes.len() + TRAILER_LEN
    }

    /// Writes the packet to the start of `bytes` and returns its length. A packet that nothing opened counts from where
    /// the last one did. Follow it by [`PacketBuilder::sent`] or [`PacketBuilder::discard`].
    ///
    /// # Errors
    /// [`TooShort`] where `bytes` cannot hold it.
    pub fn write(&self, bytes: &mut [u8]) -> Result<usize, TooShort> {
        let needed = self.packet_len();
        let Some(out) = bytes.get_mut(..needed) else {
            return Err(TooShort { needed });
        };
        let header = PacketHeader {
            magic: MAGIC,
            version: VERSION,
            kind: KIND_DATA,
            device_id: self.device.id,
            boot: self.device.boot,
            sequence: self.sequence,
            first_tick: self.first_tick,
            overflow: self.overflow,
            tick_rate_hz: self.device.tick_rate_hz,
            spikes: self.spikes.len() as u16,
            samples: self.samples,
        };
        let (body, trailer) = out.split_at_mut(needed - TRAILER_LEN);
        let (head, rest) = body.split_at_mut(HEADER_LEN);
        let (spikes, samples) = rest.split_at_mut(self.spikes.len() * SPIKE_LEN);
        head.copy_from_slice(bytemuck::bytes_of(&header));
        spikes.copy_from_slice(bytemuck::cast_slice(&self.spikes));
        samples.copy_from_slice(&self.sample_bytes);
        trailer.copy_from_slice(&checksum(body));
        Ok(needed)
    }

    /// Begins the next packet: this one has been sent.
    pub fn sent(&mut self) {
        self.sequence += 1;
        self.clear();
    }

    /// Begins the packet anew: it could not be sent, and its events are counted as lost.
    pub fn discard(&mut self) {
        self.overflow += self.spikes.len() as u64 + u64::from(self.samples);
        self.clear();
    }

    fn clear(&mut self) {
        self.open = false;
        self.spikes.clear();
        self.samples = 0;
        self.sample_bytes.clear();
    }

    /// [`PacketBuilder::write`] and [`PacketBuilder::sent`] in one, for links that take everything.
    ///
    /// # Errors
    /// [`TooShort`] where `bytes` cannot hold it; nothing is lost then.
    pub fn finish(&mut self, bytes: &mut [u8]) -> Result<usize, TooShort> {
        let length = self.write(bytes)?;
        self.sent();
        Ok(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::decode;

    const DEVICE: Device = Device {
        id: 3,
        boot: 8,
        tick_rate_hz: 30_000,
    };

    fn spike(channel: u16) -> SpikeRecord {
        SpikeRecord {
            channel,
            ..SpikeRecord::default()
        }
    }

    #[test]
    fn what_is_built_is_read_back() {
        let mut builder = PacketBuilder::<4, 24>::new(DEVICE);
        assert!(builder.push(100, spike(1)));
        assert!(builder.push(130, spike(2)));
        assert!(builder.push_sample(110, SampleKind::Stimulus, 5, &[1.5, f32::NAN]));
        assert!(builder.push_sample(140, SampleKind::Behaviour, 6, &[]));
        let mut bytes = [0; 128];
        let length = builder.finish(&mut bytes).unwrap();
        assert_eq!(length, PacketBuilder::<4, 24>::MAX_LEN - 2 * SPIKE_LEN);
        let packet = decode(&bytes[..length]).unwrap();
        let header = packet.header();
        assert_eq!(
            (header.device_id, header.boot, header.sequence, header.first_tick),
            (3, 8, 0, 100)
        );
        let mut spikes = packet.spikes().map(|spike| (spike.tick_offset, spike.channel));
        assert_eq!(
            (spikes.next(), spikes.next(), spikes.next()),
            (Some((0, 1)), Some((30, 2)), None)
        );
        let mut samples = packet.samples();
        let sample = samples.next().unwrap();
        assert_eq!(
            (sample.tick_offset, sample.kind, sample.series),
            (10, SampleKind::Stimulus, 5)
        );
        let mut values = sample.values();
        assert_eq!(
            (values.len(), values.next(), values.next().map(f32::is_nan)),
            (2, Some(1.5), Some(true))
        );
        let sample = samples.next().unwrap();
        assert_eq!(
            (sample.tick_offset, sample.kind, sample.series),
            (40, SampleKind::Behaviour, 6)
        );
        assert_eq!((sample.values().len(), samples.next()), (0, None));
        assert!(builder.is_empty());
    }

    #[test]
    fn what_is_refused_is_counted_in_the_next_packets() {
        let mut builder = PacketBuilder::<2, 12>::new(DEVICE);
        assert!(builder.push(100, spike(0)) && builder.push(100, spike(0)));
        assert!(!builder.push(101, spike(0)));
        assert!(builder.push_sample(101, SampleKind::Behaviour, 0, &[0.0]));
        assert!(!builder.push_sample(101, SampleKind::Behaviour, 0, &[]));
        let mut bytes = [0; 128];
        let length = builder.finish(&mut bytes).unwrap();
        assert_eq!(decode(&bytes[..length]).unwrap().header().overflow, 2);
        builder.push(200, spike(0));
        assert!(!builder.push(199, spike(0)));
        assert!(!builder.push(200 + (1 << 32), spike(0)));
        builder.count_lost(10);
        let length = builder.finish(&mut bytes).unwrap();
        let header = *decode(&bytes[..length]).unwrap().header();
        assert_eq!(
            (header.sequence, header.overflow, header.spikes, builder.spikes()),
            (1, 14, 1, 0)
        );
    }

    #[test]
    fn too_many_values_are_refused() {
        let mut builder = PacketBuilder::<0, 4096>::new(DEVICE);
        assert!(builder.push_sample(0, SampleKind::Behaviour, 0, &[0.0; 255]));
        assert!(!builder.push_sample(0, SampleKind::Behaviour, 0, &[0.0; 256]));
    }

    #[test]
    fn an_empty_packet_tells_the_time() {
        let mut builder = PacketBuilder::<2, 0>::new(DEVICE);
        assert!(builder.begin(77));
        assert!(!builder.begin(78));
        let mut bytes = [0; 64];
        let length = builder.finish(&mut bytes).unwrap();
        let packet = decode(&bytes[..length]).unwrap();
        assert_eq!((length, packet.header().first_tick, packet.spikes().len()), (52, 77, 0));
    }

    #[test]
    fn a_packet_that_does_not_fit_is_kept() {
        let mut builder = PacketBuilder::<2, 0>::new(DEVICE);
        builder.push(1, spike(0));
        assert_eq!(builder.finish(&mut [0; 59]), Err(TooShort { needed: 60 }));
        assert_eq!(builder.finish(&mut [0; 60]), Ok(60));
    }

    #[test]
    fn a_packet_that_could_not_be_sent_leaves_no_gap_but_is_counted() {
        let mut builder = PacketBuilder::<2, 12>::new(DEVICE);
        builder.push(1, spike(0));
        builder.push_sample(1, SampleKind::Behaviour, 0, &[1.0]);
        let mut bytes = [0; 128];
        builder.write(&mut bytes).unwrap();
        builder.discard();
        builder.begin(9);
        let length = builder.finish(&mut bytes).unwrap();
        let header = *decode(&bytes[..length]).unwrap().header();
        assert_eq!((header.sequence, header.first_tick, header.overflow), (0, 9, 2));
        assert_eq!((header.spikes, header.samples), (0, 0));
    }
}
