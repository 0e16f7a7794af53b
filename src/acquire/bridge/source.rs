//! A device's packets as a source.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::super::host_time::HostClock;
use super::super::wire::collect::Collector;
use super::super::wire::datagrams::DATAGRAMS;
use super::super::wire::device::{Device, DeviceLink, Taken};
use super::super::wire::{ClockConfig, UnitList};
use super::super::{EventSink, SampledSeries, SourceError, WayBack};
use super::exchange::ClockExchange;
use super::packets::Packets;
use super::serial::Serial;
#[cfg(target_os = "linux")]
use super::shared_memory::SharedMemory;
use super::udp::Udp;
use super::SeriesList;

/// What brings a device's packets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Carrier {
    /// Datagrams to this address.
    Udp {
        /// Where they come to.
        listen: SocketAddr,
        /// Whether predictions go back to the device.
        predictions_back: bool,
    },
    /// Frames on a serial link.
    Serial {
        /// The terminal, such as `/dev/ttyACM0`.
        path: PathBuf,
        /// Bits a second; without a meaning on USB.
        baud: u32,
    },
    /// Records of a ring in shared memory; predictions go back on another one.
    #[cfg(target_os = "linux")]
    SharedMemory {
        /// Name of the link.
        name: String,
    },
}

/// How a device is listened to.
#[derive(Clone, Debug, PartialEq)]
pub struct BridgeConfig {
    /// What brings its packets.
    pub carrier: Carrier,
    /// Which device, where several send; the first that is heard without it.
    pub device_id: Option<u32>,
    /// Whether it is asked for its time (a plugin cannot answer: it does not hold the clock).
    pub clock_exchange: bool,
    /// The units: `CHANNEL:UNIT` (see [`UnitList`]).
    pub units: Vec<String>,
    /// The series: see [`SeriesList`].
    pub series: Vec<String>,
    /// Lateness and speed of its clock.
    pub clock: ClockConfig,
}

/// A source of what a device sends.
pub type Bridge = Device<BridgeLink>;

/// The way to a device.
pub struct BridgeLink {
    carried: Carried,
    packets: Packets,
}

enum Carried {
    Udp(Udp),
    Serial(Serial),
    #[cfg(target_os = "linux")]
    SharedMemory(SharedMemory),
}

impl Carrier {
    fn name(&self) -> String {
        match self {
            Self::Udp { listen, .. } => format!("bridge on {listen}"),
            Self::Serial { path, .. } => format!("bridge on {}", path.display()),
            #[cfg(target_os = "linux")]
            Self::SharedMemory { name } => format!("bridge on shared memory {name}"),
        }
    }
}

/// Whether a packet can hold spikes of this channel and unit.
fn is_possible(channel: &str, unit: u16) -> Result<(), &'static str> {
    match (channel.parse::<u16>(), u8::try_from(unit)) {
        (Err(_), _) => Err("channels are 0 to 65535"),
        (_, Err(_)) => Err("units are 0 to 255"),
        _ => Ok(()),
    }
}

impl Bridge {
    /// A source that listens.
    ///
    /// # Errors
    /// A list of units or series that cannot be used, an address that cannot be listened on, shared memory that cannot be opened.
    /// A serial link that is not there is waited for.
    pub fn new(config: &BridgeConfig) -> Result<Self, SourceError> {
        let name = config.carrier.name();
        let units = UnitList::parse(&name, "bridge.units", &config.units, is_possible)?;
        let series = SeriesList::parse(&name, "bridge.series", &config.series)?;
        let carried = match &config.carrier {
            Carrier::Udp {
                listen,
                predictions_back,
            } => Carried::Udp(Udp::listen(&name, *listen, *predictions_back)?),
            Carrier::Serial { path, baud } => Carried::Serial(Serial::new(path.clone(), *baud)),
            #[cfg(target_os = "linux")]
            Carrier::SharedMemory { name: link } => Carried::SharedMemory(SharedMemory::open(&name, link)?),
        };
        let link = BridgeLink {
            carried,
            packets: Packets::new(config.device_id, series, ClockExchange::new(config.clock_exchange)),
        };
        Ok(Device::of(name, link, Collector::new(units, config.clock)))
    }

    /// The address that it listens on; none where it does not listen on one.
    pub fn address(&self) -> Option<SocketAddr> {
        match &self.link.carried {
            Carried::Udp(udp) => udp.address().ok(),
            _ => None,
        }
    }
}

impl DeviceLink for BridgeLink {
    const PIECES: usize = DATAGRAMS;

    fn series(&self) -> &[SampledSeries] {
        self.packets.series().series()
    }

    fn way_back(&mut self) -> Option<Box<dyn WayBack>> {
        match &mut self.carried {
            Carried::Udp(udp) => udp.way_back(),
            Carried::Serial(_) => None,
            #[cfg(target_os = "linux")]
            Carried::SharedMemory(memory) => memory.way_back(),
        }
    }

    fn begin_poll(&mut self, now_ns: i64, collector: &mut Collector) {
        let packets = &mut self.packets;
        match &mut self.carried {
            Carried::Udp(udp) => udp.begin_poll(packets, now_ns),
            Carried::Serial(serial) => serial.begin_poll(packets, now_ns),
            #[cfg(target_os = "linux")]
            Carried::SharedMemory(memory) => memory.begin_poll(packets, now_ns, collector),
        }
        let _ = collector;
    }

    fn take(&mut self, clock: HostClock, collector: &mut Collector, sink: &mut dyn EventSink) -> Result<Taken, String> {
        let packets = &mut self.packets;
        match &mut self.carried {
            Carried::Udp(udp) => udp.take(packets, clock, collector, sink),
            Carried::Serial(serial) => Ok(serial.take(packets, clock, collector, sink)),
            #[cfg(target_os = "linux")]
            Carried::SharedMemory(memory) => Ok(memory.take(packets, clock, collector, sink)),
        }
    }

    fn wait(&mut self) -> Result<(), String> {
        match &self.carried {
            Carried::Udp(udp) => udp.wait(),
            Carried::Serial(serial) => serial.wait(),
            #[cfg(target_os = "linux")]
            Carried::SharedMemory(memory) => memory.wait(),
        }
        Ok(())
    }
}
