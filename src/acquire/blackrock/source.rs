//! A device's packets as a source.

use std::net::SocketAddr;
use std::sync::atomic::Ordering::Relaxed;

use super::super::host_time::HostClock;
use super::super::wire::collect::{Collector, Record};
use super::super::wire::counters::add;
use super::super::wire::datagrams::{Datagrams, Presence, DATAGRAMS};
use super::super::wire::device::{Device, DeviceLink, Taken};
use super::super::wire::{ClockConfig, UnitList};
use super::super::{EventSink, SourceError};
use super::packet::Protocol;
use super::parse::{BlackrockSpike, PacketParser, NOISE};
use super::sniff::TimeUnit;

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
pub type Blackrock = Device<BlackrockLink>;

/// A device's datagrams.
#[derive(Debug)]
pub struct BlackrockLink {
    datagrams: Datagrams,
    presence: Presence,
    parser: PacketParser,
}

impl Blackrock {
    /// A source that listens.
    ///
    /// # Errors
    /// A unit list that cannot be used, an address that cannot be listened on.
    pub fn new(config: &BlackrockConfig) -> Result<Self, SourceError> {
        let name = format!("Blackrock on {}", config.listen);
        let units = UnitList::parse(&name, "blackrock.units", &config.units)?;
        let link = BlackrockLink {
            datagrams: Datagrams::listen(&name, config.listen)?,
            presence: Presence::default(),
            parser: PacketParser::new(config.protocol, config.time_unit),
        };
        Ok(Device::of(name, link, Collector::new(units, config.clock)))
    }

    /// The address that it listens on.
    ///
    /// # Errors
    /// What the system says.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.link.datagrams.address()
    }
}

impl DeviceLink for BlackrockLink {
    const PIECES: usize = DATAGRAMS;

    fn take(&mut self, clock: HostClock, collector: &mut Collector, sink: &mut dyn EventSink) -> Result<Taken, String> {
        let received = self.datagrams.receive()?;
        let now_ns = clock.now_ns();
        let Some((datagram, _)) = received else {
            self.presence.silent(now_ns, collector);
            return Ok(Taken::Nothing);
        };
        if self.presence.heard(now_ns, collector) {
            self.parser.restart();
        }
        add(&collector.counters().bytes, datagram.len() as u64);
        self.parser.push(datagram, now_ns, |spike: BlackrockSpike| {
            let record = Record {
                device_ns: spike.device_ns,
                unit: collector.units_mut().of_number(u32::from(spike.channel), spike.unit),
                artifact: spike.unit == NOISE,
            };
            collector.spike(record, now_ns, sink);
        });
        let (counts, counters) = (self.parser.counts(), collector.counters());
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
        Ok(Taken::Something)
    }

    fn wait(&mut self) -> Result<(), String> {
        self.datagrams.wait();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::super::super::replay::tests::Kept;
    use super::super::super::Source;
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
