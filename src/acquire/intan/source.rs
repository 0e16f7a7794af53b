//! The spike output as a source.

use std::net::SocketAddr;
use std::sync::atomic::Ordering::Relaxed;

use super::super::host_time::HostClock;
use super::super::wire::collect::{Collector, Record};
use super::super::wire::counters::add;
use super::super::wire::device::{Device, DeviceLink, Taken};
use super::super::wire::tcp::{Got, TcpLink};
use super::super::wire::ticks::ticks_to_ns;
use super::super::wire::{ClockConfig, UnitList, READS, READ_BYTES, WAIT_NS};
use super::super::{EventSink, SourceError};
use super::parse::{is_possible, IntanSpike, SpikeParser, ARTIFACT};

/// How RHX is listened to.
#[derive(Clone, Debug, PartialEq)]
pub struct IntanConfig {
    /// Where its spike output listens.
    pub address: SocketAddr,
    /// Sampling rate, Hz.
    pub sample_rate_hz: u32,
    /// The units: `CHANNEL:UNIT` (see [`UnitList`]) with the native channel name and unit 1 to 4, 0 for spikes that are not
    /// sorted, 128 for likely artifacts.
    pub units: Vec<String>,
    /// Lateness and speed of its clock.
    pub clock: ClockConfig,
}

/// A source of what RHX sorts. It connects by itself, again and again; the run goes on meanwhile.
pub type Intan = Device<IntanLink>;

/// The spike output's connection.
#[derive(Debug)]
pub struct IntanLink {
    tcp: TcpLink,
    parser: SpikeParser,
    sample_rate_hz: u32,
    buffer: Box<[u8]>,
}

impl Intan {
    /// A source that connects when it is first polled.
    ///
    /// # Errors
    /// A unit list that cannot be used, a sampling rate of 0.
    pub fn new(config: &IntanConfig) -> Result<Self, SourceError> {
        let name = format!("Intan RHX at {}", config.address);
        let units = UnitList::parse(&name, "intan.units", &config.units, is_possible)?;
        if config.sample_rate_hz == 0 {
            return Err(SourceError::Invalid {
                name,
                problem: "intan.sample_rate_hz = 0, and no clock stands still".into(),
            });
        }
        let link = IntanLink {
            tcp: TcpLink::new(config.address),
            parser: SpikeParser::default(),
            sample_rate_hz: config.sample_rate_hz,
            buffer: vec![0; READ_BYTES].into(),
        };
        Ok(Device::of(name, link, Collector::new(units, config.clock)))
    }
}

impl IntanLink {
    fn read(&mut self, bytes: usize, now_ns: i64, collector: &mut Collector, sink: &mut dyn EventSink) {
        let rate = self.sample_rate_hz;
        add(&collector.counters().bytes, bytes as u64);
        self.parser.push(&self.buffer[..bytes], |spike: IntanSpike| {
            let artifact = spike.unit == ARTIFACT;
            let units = collector.units_mut();
            let record = Record {
                device_ns: ticks_to_ns(spike.ticks, rate),
                unit: match artifact {
                    true => units.listed_name(spike.name(), spike.unit),
                    false => units.of_name(spike.name(), spike.unit),
                },
                artifact,
            };
            collector.spike(record, now_ns, sink);
        });
    }
}

impl DeviceLink for IntanLink {
    const PIECES: usize = READS;

    fn take(&mut self, clock: HostClock, collector: &mut Collector, sink: &mut dyn EventSink) -> Result<Taken, String> {
        let got = self.tcp.read(clock.now_ns(), &mut self.buffer);
        let now_ns = clock.now_ns();
        match got {
            Got::Bytes(bytes) => self.read(bytes, now_ns, collector, sink),
            Got::Connected => collector.connected(now_ns),
            Got::Lost => {
                self.parser.restart();
                collector.lost(now_ns);
            }
            Got::Nothing => return Ok(Taken::Nothing),
        }
        let counters = collector.counters();
        counters.discarded_bytes.store(self.parser.discarded(), Relaxed);
        counters.resyncs.store(self.parser.resyncs(), Relaxed);
        Ok(Taken::Something)
    }

    fn wait(&mut self) -> Result<(), String> {
        self.tcp.wait(WAIT_NS);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::TcpListener;

    use super::super::super::replay::tests::Kept;
    use super::super::super::Source;
    use super::super::encode::{channel_name, spike, SpikeId};
    use super::*;

    const MS: i64 = 1_000_000;

    fn source(address: SocketAddr, units: &[&str]) -> Intan {
        let config = IntanConfig {
            address,
            sample_rate_hz: 30_000,
            units: units.iter().map(ToString::to_string).collect(),
            clock: ClockConfig {
                speed: 1.0,
                lateness_ns: 0,
                end_ns: None,
            },
        };
        Intan::new(&config).unwrap()
    }

    #[test]
    fn spikes_are_named_and_the_rest_is_counted() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut source = source(listener.local_addr().unwrap(), &["A-000:1", "A-001:0=mine"]);
        assert_eq!(source.unit_ids(), ["A-000:1", "mine"]);
        let counters = source.counters();
        let mut kept = Kept::default();
        source.start(0);
        let mut now = 10 * MS;
        let mut poll_until = |source: &mut Intan, kept: &mut Kept, done: &dyn Fn() -> bool| {
            for _ in 0..20_000 {
                now += MS;
                source.poll(now, kept).unwrap();
                if done() {
                    return;
                }
            }
            panic!("nothing came: {}", counters.report());
        };
        poll_until(&mut source, &mut kept, &|| counters.report().connections == 1);
        let mut peer = listener.accept().unwrap().0;
        let mut bytes = Vec::new();
        spike(&mut bytes, channel_name(0), 3_000, SpikeId::Unit(1));
        bytes.extend(b"?????");
        spike(&mut bytes, channel_name(1), 3_030, SpikeId::Unclassified);
        spike(&mut bytes, channel_name(1), 3_060, SpikeId::Unit(3));
        spike(&mut bytes, channel_name(1), 3_060, SpikeId::Artifact);
        spike(&mut bytes, channel_name(1), 0x8000_0000, SpikeId::Unclassified);
        bytes.extend(b"\x0F\x71");
        peer.write_all(&bytes).unwrap();
        poll_until(&mut source, &mut kept, &|| counters.report().bytes == 77);
        drop(peer);
        poll_until(&mut source, &mut kept, &|| counters.report().disconnections == 1);
        let units: Vec<u32> = kept.spikes.iter().map(|event| event.unit).collect();
        assert_eq!(units, [0, 1, 2], "the last is the number of units that are not listed");
        let times: Vec<i64> = kept
            .spikes
            .iter()
            .map(|event| event.time_ns - kept.spikes[0].time_ns)
            .collect();
        assert_eq!(times, [0, MS, 2 * MS]);
        let report = counters.report();
        assert_eq!((report.spikes, report.unlisted, report.artifacts), (3, 1, 1));
        assert_eq!((report.implausible_times, report.discarded_bytes), (1, 7));
        assert!(kept.clocks.windows(2).all(|pair| pair[0] <= pair[1]) && kept.clocks.len() > 2);
    }
}
