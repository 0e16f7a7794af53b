//! From a device's packets to events, whatever brings them.

use std::sync::atomic::Ordering::Relaxed;

use firmware_bridge::{Arrival, Message, PacketView, SequenceTracker};

use super::super::host_time::monotonic_ns;
use super::super::wire::collect::{Collector, Record};
use super::super::wire::counters::add;
use super::super::wire::datagrams::Presence;
use super::super::wire::ticks::ticks_to_ns;
use super::super::EventSink;
use super::exchange::ClockExchange;
use super::{SeriesList, MOST_CHANNELS};

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Heard {
    /// It is of the device that is listened to.
    Device,
    /// It is of another one, or of no use.
    Other,
}

/// Reads one device's packets.
#[derive(Debug)]
pub struct Packets {
    device_id: Option<u32>,
    sequence: SequenceTracker,
    series: SeriesList,
    values: Box<[f32]>,
    presence: Presence,
    exchange: ClockExchange,
    /// Packets that had come before and that the link did not hand on.
    left_out: u64,
    /// What the device itself refused: in starts of it that are over, and since its last.
    refused: [u64; 2],
}

impl Packets {
    /// Of the device with this id, or of the first that is heard.
    pub fn new(device_id: Option<u32>, series: SeriesList, exchange: ClockExchange) -> Self {
        Self {
            device_id,
            sequence: SequenceTracker::default(),
            series,
            values: vec![0.0; MOST_CHANNELS].into(),
            presence: Presence::default(),
            exchange,
            left_out: 0,
            refused: [0; 2],
        }
    }

    /// The series that samples number.
    pub fn series(&self) -> &SeriesList {
        &self.series
    }

    /// Nothing has come.
    pub fn silent(&mut self, now_ns: i64, collector: &mut Collector) {
        self.presence.silent(now_ns, collector);
    }

    /// The device is known to have gone.
    pub fn gone(&mut self, now_ns: i64, collector: &mut Collector) {
        self.presence.gone(now_ns, collector);
    }

    /// The link has left out so many packets in all that had come before.
    pub fn left_out(&mut self, packets: u64, collector: &Collector) {
        add(&collector.counters().duplicates, packets.saturating_sub(self.left_out));
        self.left_out = packets;
    }

    /// A question for the device's clock, where one is due.
    pub fn request(&mut self, now_ns: i64) -> Option<[u8; firmware_bridge::CLOCK_REQUEST_LEN]> {
        self.exchange.request(self.device_id?, now_ns)
    }

    /// Takes a message in as it came, of `bytes` bytes.
    pub fn take_bytes(
        &mut self,
        bytes: &[u8],
        now_ns: i64,
        collector: &mut Collector,
        sink: &mut dyn EventSink,
    ) -> Heard {
        let counters = collector.counters();
        add(&counters.bytes, bytes.len() as u64);
        match Message::decode(bytes) {
            Ok(message) => self.take(&message, now_ns, collector, sink),
            Err(_) => {
                add(&counters.malformed, 1);
                add(&counters.discarded_bytes, bytes.len() as u64);
                Heard::Other
            }
        }
    }

    /// Takes a message in.
    pub fn take(
        &mut self,
        message: &Message<'_>,
        now_ns: i64,
        collector: &mut Collector,
        sink: &mut dyn EventSink,
    ) -> Heard {
        match message {
            Message::Data(packet) => self.take_packet(packet, now_ns, collector, sink),
            Message::ClockReply(reply) if Some(reply.device_id) == self.device_id => {
                // As late as it is known to be here: the bound of its error counts on that.
                if let Some(estimate) = self.exchange.reply(reply, monotonic_ns()) {
                    collector.exchanged(estimate);
                }
                Heard::Device
            }
            _ => {
                add(&collector.counters().other, 1);
                Heard::Other
            }
        }
    }

    fn take_packet(
        &mut self,
        packet: &PacketView<'_>,
        now_ns: i64,
        collector: &mut Collector,
        sink: &mut dyn EventSink,
    ) -> Heard {
        let header = packet.header();
        if *self.device_id.get_or_insert(header.device_id) != header.device_id {
            add(&collector.counters().other_streams, u64::from(header.spikes));
            return Heard::Other;
        }
        self.presence.heard(now_ns, collector);
        let arrival = self.sequence.observe(header.boot, header.sequence, header.first_tick);
        let (counts, counters) = (self.sequence.counts(), collector.counters());
        counters.lost.store(counts.missing, Relaxed);
        let doubled = counts.duplicates + counts.stale + self.left_out;
        counters.duplicates.store(doubled, Relaxed);
        if !arrival.is_new() {
            return Heard::Device;
        }
        let [before, refused] = &mut self.refused;
        if matches!(arrival, Arrival::Restart { .. }) {
            *before += std::mem::take(refused);
        }
        // A packet that was overtaken has an older count.
        *refused = header.overflow.max(*refused);
        counters
            .refused_by_device
            .store(before.saturating_add(*refused), Relaxed);
        if matches!(arrival, Arrival::Restart { .. }) {
            collector.restarted();
        }
        let device_ns = |offset: u32| {
            let ticks = header.first_tick.saturating_add(u64::from(offset));
            ticks_to_ns(i64::try_from(ticks).unwrap_or(i64::MAX), header.tick_rate_hz)
        };
        for spike in packet.spikes() {
            let record = Record {
                device_ns: device_ns(spike.tick_offset),
                unit: collector
                    .units_mut()
                    .of_number(u32::from(spike.channel), u16::from(spike.unit)),
                artifact: false,
            };
            collector.spike(record, now_ns, sink);
        }
        for sample in packet.samples() {
            let values = sample.values();
            let channels = values.len();
            let Some(series) = self.series.of(sample.kind, sample.series) else {
                add(&collector.counters().other, 1);
                continue;
            };
            self.values.iter_mut().zip(values).for_each(|(to, value)| *to = value);
            let device_ns = device_ns(sample.tick_offset);
            collector.sample((series, device_ns), &self.values[..channels], now_ns, sink);
        }
        Heard::Device
    }
}
