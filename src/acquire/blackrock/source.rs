//! A device's packets as a source.

use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::Arc;

use rustix::net::sockopt::{set_socket_recv_buffer_size, set_socket_recv_buffer_size_force};

use super::super::wire::collect::{Collector, Record};
use super::super::wire::counters::add;
use super::super::wire::tcp::wait_readable;
use super::super::wire::{ClockConfig, UnitList, WireCounters, READ_BYTES, WAIT_NS};
use super::super::{EventSink, Pace, Poll, Source, SourceError};
use super::packet::Protocol;
use super::parse::{BlackrockSpike, PacketParser, NOISE};
use super::sniff::TimeUnit;

/// Datagrams in one poll before the source's thread looks at the run again.
const DATAGRAMS: usize = 256;
/// A device sends a heartbeat every 10 ms: after this long without anything it is lost, ns.
const SILENCE_NS: i64 = 500_000_000;
/// Bytes that the system is asked to hold for the source.
const RECEIVE_BUFFER: usize = 16 << 20;

/// How a device is listened to.
#[derive(Clone, Debug, PartialEq)]
pub struct BlackrockConfig {
    /// Where its packets come to.
    pub listen: SocketAddr,
    /// The layout of its packets; found out where it is not given.
    pub protocol: Option<Protocol>,
    /// What its clock counts; found out where it is not given.
    pub time_unit: Option<TimeUnit>,
    /// The units: `CHANNEL:UNIT` (see [`UnitList`]) with the channel's number, from 1, and sorted unit 1 to 5, 0 for spikes
    /// that are not sorted, 255 for noise.
    pub units: Vec<String>,
    /// Lateness and speed of its clock.
    pub clock: ClockConfig,
}

/// A source of what a device sorts.
#[derive(Debug)]
pub struct Blackrock {
    name: String,
    socket: UdpSocket,
    parser: PacketParser,
    collector: Collector,
    buffer: Box<[u8]>,
    /// Host time of the last datagram, while the device is there.
    heard_ns: Option<i64>,
}

impl Blackrock {
    /// A source that listens.
    ///
    /// # Errors
    /// A unit list that cannot be used, an address that cannot be listened on.
    pub fn new(config: &BlackrockConfig) -> Result<Self, SourceError> {
        let name = format!("Blackrock on {}", config.listen);
        let units = UnitList::parse(&name, "blackrock.units", &config.units)?;
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
            parser: PacketParser::new(config.protocol, config.time_unit),
            collector: Collector::new(units, config.clock),
            buffer: vec![0; READ_BYTES].into(),
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
        if self.heard_ns.replace(now_ns).is_none() {
            self.parser.restart();
            self.collector.connected(now_ns);
        }
        let collector = &mut self.collector;
        add(&collector.counters().bytes, bytes as u64);
        self.parser
            .push(&self.buffer[..bytes], now_ns, |spike: BlackrockSpike| {
                let record = Record {
                    device_ns: spike.device_ns,
                    unit: collector.units().of_number(u32::from(spike.channel), spike.unit),
                    artifact: spike.unit == NOISE,
                };
                collector.spike(record, now_ns, sink);
            });
        let (counts, counters) = (self.parser.counts(), self.collector.counters());
        for (counter, count) in [
            (&counters.discarded_bytes, counts.discarded),
            (&counters.malformed, counts.malformed),
            (&counters.undecided, counts.undecided),
            (
                &counters.other,
                counts.packets + counts.ambiguous - counts.spikes - counts.undecided,
            ),
            (&counters.lost, counts.lost),
        ] {
            counter.store(count, Relaxed);
        }
    }
}

impl Source for Blackrock {
    fn name(&self) -> &str {
        &self.name
    }

    fn unit_ids(&self) -> &[String] {
        self.collector.units().ids()
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
                    if self
                        .heard_ns
                        .is_some_and(|heard| now_ns.saturating_sub(heard) > SILENCE_NS)
                    {
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

#[cfg(test)]
mod tests {
    use super::super::super::replay::tests::Kept;
    use super::super::encode;
    use super::*;

    const MS: i64 = 1_000_000;

    #[test]
    fn spikes_are_numbered_silences_are_losses_and_the_rest_is_counted() {
        let config = BlackrockConfig {
            listen: "127.0.0.1:0".parse().unwrap(),
            protocol: None,
            time_unit: Some(TimeUnit::Ticks),
            units: vec!["1..3:1".into(), "2:0=loose".into()],
            clock: ClockConfig {
                speed: 1.0,
                lateness_ns: 0,
                end_ns: None,
            },
        };
        let mut source = Blackrock::new(&config).unwrap();
        let counters = source.counters();
        let device = UdpSocket::bind("127.0.0.1:0").unwrap();
        device.connect(source.address().unwrap()).unwrap();
        let mut kept = Kept::default();
        source.start(0);
        let mut now = 10 * MS;
        let mut send = |source: &mut Blackrock, kept: &mut Kept, bytes: &[u8]| {
            let before = counters.report().bytes;
            device.send(bytes).unwrap();
            for _ in 0..20_000 {
                source.poll(now, kept).unwrap();
                if counters.report().bytes > before {
                    now += MS;
                    return;
                }
            }
            panic!("it does not come");
        };
        let mut datagram = Vec::new();
        encode::heartbeat(&mut datagram, Protocol::V410, 3_000);
        for (ticks, channel, unit) in [
            (3_000, 3, 1),
            (3_030, 2, 0),
            (3_060, 9, 1),
            (3_060, 1, 255),
            (1 << 45, 1, 1),
        ] {
            encode::spike(&mut datagram, Protocol::V410, ticks, channel, unit, 48);
        }
        send(&mut source, &mut kept, &datagram);
        send(&mut source, &mut kept, b"nothing of the kind");
        source.poll(2_000 * MS, &mut kept).unwrap();
        let report = counters.report();
        assert_eq!((report.connections, report.disconnections), (1, 1));
        let units: Vec<u32> = kept.spikes.iter().map(|event| event.unit).collect();
        assert_eq!(units, [2, 3, 4], "the last is the number of units that are not listed");
        let times: Vec<i64> = kept
            .spikes
            .iter()
            .map(|event| event.time_ns - kept.spikes[0].time_ns)
            .collect();
        assert_eq!(times, [0, MS, 2 * MS]);
        assert_eq!((report.spikes, report.unlisted, report.artifacts), (3, 1, 1));
        assert_eq!(
            (report.implausible_times, report.malformed, report.discarded_bytes),
            (1, 1, 19)
        );
        assert_eq!(report.other, 1);
    }
}
