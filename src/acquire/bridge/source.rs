//! A device's packets as a source.

use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::Arc;

use firmware_bridge::{Arrival, Message, PacketView, SequenceTracker};
use rustix::net::sockopt::{set_socket_recv_buffer_size, set_socket_recv_buffer_size_force};

use super::super::wire::collect::{Collector, Record};
use super::super::wire::counters::add;
use super::super::wire::tcp::wait_readable;
use super::super::wire::ticks::ticks_to_ns;
use super::super::wire::{ClockConfig, UnitList, WireCounters, READ_BYTES, WAIT_NS};
use super::super::{EventSink, Pace, Poll, SampledSeries, Source, SourceError};
use super::{SeriesList, MOST_CHANNELS};

/// Datagrams in one poll before the source's thread looks at the run again.
const DATAGRAMS: usize = 256;
/// A device sends an empty packet where it has nothing else: after this long without any it is lost, ns.
const SILENCE_NS: i64 = 500_000_000;
/// Bytes that the system is asked to hold for the source.
const RECEIVE_BUFFER: usize = 16 << 20;

/// How a device is listened to.
#[derive(Clone, Debug, PartialEq)]
pub struct BridgeConfig {
    /// Where its packets come to.
    pub listen: SocketAddr,
    /// Which device, where several send; the first that is heard without it.
    pub device_id: Option<u32>,
    /// The units: `CHANNEL:UNIT` (see [`UnitList`]).
    pub units: Vec<String>,
    /// The series: see [`SeriesList`].
    pub series: Vec<String>,
    /// Lateness and speed of its clock.
    pub clock: ClockConfig,
}

/// A source of what a device sends.
#[derive(Debug)]
pub struct Bridge {
    name: String,
    socket: UdpSocket,
    device_id: Option<u32>,
    sequence: SequenceTracker,
    series: SeriesList,
    collector: Collector,
    buffer: Box<[u8]>,
    values: Box<[f32]>,
    /// Host time of the last datagram, while the device is there.
    heard_ns: Option<i64>,
}

impl Bridge {
    /// A source that listens.
    ///
    /// # Errors
    /// A list of units or series that cannot be used, an address that cannot be listened on.
    pub fn new(config: &BridgeConfig) -> Result<Self, SourceError> {
        let name = format!("bridge on {}", config.listen);
        let units = UnitList::parse(&name, "bridge.units", &config.units)?;
        let series = SeriesList::parse(&name, "bridge.series", &config.series)?;
        let socket = UdpSocket::bind(config.listen).and_then(|socket| {
            socket.set_nonblocking(true)?;
            Ok(socket)
        });
        let socket = socket.map_err(|error| SourceError::Invalid {
            name: name.clone(),
            problem: format!("it cannot be listened there: {error}"),
        })?;
        // Only a privileged program gets more than the system's limit; what is lost for want of space is counted.
        if set_socket_recv_buffer_size_force(&socket, RECEIVE_BUFFER).is_err() {
            let _ = set_socket_recv_buffer_size(&socket, RECEIVE_BUFFER);
        }
        Ok(Self {
            name,
            socket,
            device_id: config.device_id,
            sequence: SequenceTracker::default(),
            series,
            collector: Collector::new(units, config.clock),
            buffer: vec![0; READ_BYTES].into(),
            values: vec![0.0; MOST_CHANNELS].into(),
            heard_ns: None,
        })
    }

    /// The address that it listens on.
    ///
    /// # Errors
    /// What the system says.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// What became of what the device sent; stays readable while the source runs elsewhere.
    pub fn counters(&self) -> Arc<WireCounters> {
        self.collector.counters().clone()
    }

    fn take(&mut self, bytes: usize, now_ns: i64, sink: &mut dyn EventSink) {
        let counters = self.collector.counters().clone();
        add(&counters.bytes, bytes as u64);
        // The buffer is out of its place while it is read, so that the collector can be written.
        let buffer = std::mem::take(&mut self.buffer);
        match Message::decode(&buffer[..bytes]) {
            Ok(Message::Data(packet)) => self.take_packet(&packet, now_ns, sink),
            Ok(_) => add(&counters.other, 1),
            Err(_) => {
                add(&counters.malformed, 1);
                add(&counters.discarded_bytes, bytes as u64);
            }
        }
        self.buffer = buffer;
    }

    fn take_packet(&mut self, packet: &PacketView<'_>, now_ns: i64, sink: &mut dyn EventSink) {
        let header = packet.header();
        let counters = self.collector.counters().clone();
        if *self.device_id.get_or_insert(header.device_id) != header.device_id {
            return add(&counters.other_streams, u64::from(header.spikes));
        }
        if self.heard_ns.replace(now_ns).is_none() {
            self.collector.connected(now_ns);
        }
        let arrival = self.sequence.observe(header.boot, header.sequence);
        let counts = self.sequence.counts();
        counters.lost.store(counts.missing, Relaxed);
        counters.duplicates.store(counts.duplicates + counts.stale, Relaxed);
        counters.refused_by_device.store(header.overflow, Relaxed);
        if !arrival.is_new() {
            return;
        }
        if matches!(arrival, Arrival::Restart { .. }) {
            self.collector.restarted();
        }
        let device_ns = |offset: u32| {
            let ticks = header.first_tick.saturating_add(u64::from(offset));
            ticks_to_ns(i64::try_from(ticks).unwrap_or(i64::MAX), header.tick_rate_hz)
        };
        for spike in packet.spikes() {
            let record = Record {
                device_ns: device_ns(spike.tick_offset),
                unit: self
                    .collector
                    .units()
                    .of_number(u32::from(spike.channel), u16::from(spike.unit)),
                artifact: false,
            };
            self.collector.spike(record, now_ns, sink);
        }
        for sample in packet.samples() {
            let values = sample.values();
            let channels = values.len();
            let Some(series) = self.series.of(sample.kind, sample.series) else {
                add(&counters.other, 1);
                continue;
            };
            self.values.iter_mut().zip(values).for_each(|(to, value)| *to = value);
            let device_ns = device_ns(sample.tick_offset);
            self.collector
                .sample((series, device_ns), &self.values[..channels], now_ns, sink);
        }
    }
}

impl Source for Bridge {
    fn name(&self) -> &str {
        &self.name
    }

    fn unit_ids(&self) -> &[String] {
        self.collector.units().ids()
    }

    fn series(&self) -> &[SampledSeries] {
        self.series.series()
    }

    fn pace(&self) -> Pace {
        Pace::Clocked(self.collector.speed())
    }

    fn start_ns(&self) -> i64 {
        0
    }

    fn end_ns(&self) -> Option<i64> {
        self.collector.end_ns()
    }

    fn start(&mut self, host_ns: i64) {
        self.collector.start(host_ns);
    }

    fn poll(&mut self, now_ns: i64, sink: &mut dyn EventSink) -> Result<Poll, SourceError> {
        for datagram in 0..DATAGRAMS {
            match self.socket.recv(&mut self.buffer) {
                Ok(bytes) => self.take(bytes, now_ns, sink),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                    let silent = |heard: i64| now_ns.saturating_sub(heard) > SILENCE_NS;
                    if self.heard_ns.is_some_and(silent) {
                        self.heard_ns = None;
                        self.collector.lost(now_ns);
                    }
                    let poll = self.collector.flush(now_ns, sink);
                    if datagram == 0 && poll == Poll::Again {
                        wait_readable(self.socket.as_fd(), WAIT_NS);
                    }
                    return Ok(poll);
                }
                Err(error) => {
                    let (name, problem) = (self.name.clone(), error.to_string());
                    return Err(SourceError::Failed { name, problem });
                }
            }
        }
        Ok(self.collector.behind(now_ns, sink))
    }
}
