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
use super::parse::{is_possible, BlackrockSpike, PacketParser, NOISE};
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
        let units = UnitList::parse(&name, "blackrock.units", &config.units, is_possible)?;
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
        if !self.presence.is_there() && self.parser.recognises(datagram) {
            self.presence.heard(now_ns, collector);
            self.parser.restart();
        }
        let unread = self.parser.counts().malformed;
        add(&collector.counters().bytes, datagram.len() as u64);
        self.parser.push(datagram, now_ns, |spike: BlackrockSpike| {
            let (channel, artifact) = (u32::from(spike.channel), spike.unit == NOISE);
            let units = collector.units_mut();
            let record = Record {
                device_ns: spike.device_ns,
                unit: match artifact {
                    true => units.listed_number(channel, spike.unit),
                    false => units.of_number(channel, spike.unit),
                },
                artifact,
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
        if counts.malformed > unread {
            // What others send does not stand for the device.
            self.presence.silent(now_ns, collector);
        } else if self.presence.is_there() {
            self.presence.heard(now_ns, collector);
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

    use super::super::super::host_time::monotonic_ns;
    use super::super::super::replay::tests::Kept;
    use super::super::super::Source;
    use super::super::encode;
    use super::*;

    const MS: i64 = 1_000_000;

    fn config(units: &[&str]) -> BlackrockConfig {
        BlackrockConfig {
            listen: "127.0.0.1:0".parse().unwrap(),
            protocol: None,
            time_unit: Some(TimeUnit::Ticks),
            units: units.iter().map(ToString::to_string).collect(),
            clock: ClockConfig {
                speed: 1.0,
                lateness_ns: 0,
                end_ns: None,
            },
        }
    }

    #[test]
    fn units_are_learned_without_the_noise_and_garbage_does_not_stand_for_a_device() {
        let mut source = Blackrock::new(&config(&[])).unwrap();
        let counters = source.counters();
        let device = UdpSocket::bind("127.0.0.1:0").unwrap();
        device.connect(source.address().unwrap()).unwrap();
        let mut datagram = Vec::new();
        for (channel, unit) in [(7, 2), (7, NOISE as u8), (3, 1)] {
            encode::spike(&mut datagram, Protocol::V410, 3_000, channel, unit, 48);
        }
        let sender = device.try_clone().unwrap();
        let thread = std::thread::spawn(move || {
            for _ in 0..40 {
                sender.send(&datagram).unwrap();
                std::thread::sleep(std::time::Duration::from_millis(10));
            }
        });
        source.learn(0.2, || true).unwrap();
        thread.join().unwrap();
        assert_eq!(source.unit_ids(), ["3:1", "7:2"]);
        // From now on only garbage comes, and no poll finds nothing.
        let mut kept = Kept::default();
        source.start(0);
        let lost = counters.report().disconnections;
        for _ in 0..700 {
            device.send(b"nothing of the kind").unwrap();
            source.poll(monotonic_ns(), &mut kept).unwrap();
            std::thread::sleep(std::time::Duration::from_millis(1));
        }
        assert_eq!(counters.report().disconnections, lost + 1);
    }

    #[test]
    fn spikes_are_numbered_silences_are_losses_and_the_rest_is_counted() {
        let mut source = Blackrock::new(&config(&["1..3:1", "2:0=loose"])).unwrap();
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
