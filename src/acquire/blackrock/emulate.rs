//! A device's packets without the device: any source of spikes, played over UDP.

use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::AtomicBool;

use super::super::wire::datagrams::source_address;
use super::super::wire::play::{play, Played};
use super::super::wire::ticks::ns_to_ticks;
use super::super::{EventSink, Source, SourceError, SpikeEvent};
use super::encode;
use super::packet::Protocol;
use super::sniff::TimeUnit;
use super::TICKS_HZ;

/// A datagram is sent when it has grown to this, bytes.
const DATAGRAM: usize = 1_400;
/// From one heartbeat to the next, ns of device time.
const HEARTBEAT_NS: i64 = 10_000_000;
/// Heartbeats from one packet that says what was sent to the next.
const MONITOR_EVERY: u32 = 10;

/// How a device is emulated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlackrockEmulatorConfig {
    /// Where packets go; loopback unless asked for otherwise.
    pub to: SocketAddr,
    /// The layout of the packets.
    pub protocol: Protocol,
    /// What the clock counts; ticks always in 3.11.
    pub time_unit: TimeUnit,
    /// Samples of a spike's waveform, 0 to 128.
    pub waveform_samples: u8,
}

/// A sender of packets.
#[derive(Debug)]
pub struct BlackrockEmulator {
    socket: UdpSocket,
    config: BlackrockEmulatorConfig,
}

struct Output<'a> {
    emulator: &'a BlackrockEmulator,
    datagram: Vec<u8>,
    waiting: u64,
    heartbeat: Option<i64>,
    heartbeats: u32,
    packets_since: u32,
    monitors: u32,
    played: Played,
}

impl BlackrockEmulator {
    /// A sender from any free port.
    ///
    /// # Errors
    /// What the system says.
    pub fn new(config: BlackrockEmulatorConfig) -> std::io::Result<Self> {
        let socket = UdpSocket::bind(source_address(config.to))?;
        socket.set_broadcast(true)?;
        Ok(Self { socket, config })
    }

    /// Plays `source`, to its end or until `stop` is set, whether anybody listens or not. Unit `i` of the source is on channel
    /// `i + 1`, sorted unit 1; see [`encode::place_of`].
    ///
    /// # Errors
    /// A source with more units than channels and sorted units, or one that fails.
    pub fn play(&self, source: &mut dyn Source, stop: &AtomicBool) -> Result<Played, SourceError> {
        if source.unit_ids().len() > encode::UNITS as usize {
            return Err(SourceError::Invalid {
                name: source.name().to_string(),
                problem: format!("more than the {} units of Blackrock's channels", encode::UNITS),
            });
        }
        let mut output = Output {
            emulator: self,
            datagram: Vec::new(),
            waiting: 0,
            heartbeat: None,
            heartbeats: 0,
            packets_since: 0,
            monitors: 0,
            played: Played::default(),
        };
        play(source, &mut output, stop)?;
        output.send();
        Ok(output.played)
    }
}

impl Output<'_> {
    fn time(&self, device_ns: i64) -> u64 {
        let config = &self.emulator.config;
        let time = match (config.protocol, config.time_unit) {
            (Protocol::V311, _) | (_, TimeUnit::Ticks) => ns_to_ticks(device_ns, TICKS_HZ),
            (_, TimeUnit::Ns) => device_ns,
        };
        time.max(0) as u64
    }

    fn send(&mut self) {
        if self.datagram.is_empty() {
            return;
        }
        let BlackrockEmulator { socket, config } = self.emulator;
        // Nobody on the port is no error of UDP's, but may be said of the next datagram.
        let sent = socket.send_to(&self.datagram, config.to).is_ok();
        *(if sent {
            &mut self.played.sent
        } else {
            &mut self.played.unsent
        }) += self.waiting;
        self.waiting = 0;
        self.datagram.clear();
    }
}

impl EventSink for Output<'_> {
    /// There is no place for samples in this format.
    fn sample(&mut self, _series: usize, _time_ns: i64, _values: &[f32]) {}

    fn spikes(&mut self, spikes: &[SpikeEvent]) {
        let config = self.emulator.config;
        for spike in spikes {
            let (channel, unit) = encode::place_of(spike.unit);
            let time = self.time(spike.time_ns);
            encode::spike(
                &mut self.datagram,
                config.protocol,
                time,
                channel,
                unit,
                config.waveform_samples,
            );
            self.waiting += 1;
            self.packets_since += 1;
            if self.datagram.len() >= DATAGRAM {
                self.send();
            }
        }
    }

    fn clock(&mut self, device_ns: i64, _host_ns: i64) {
        let (heartbeat, protocol) = (device_ns.div_euclid(HEARTBEAT_NS), self.emulator.config.protocol);
        if self.heartbeat != Some(heartbeat) {
            self.heartbeat = Some(heartbeat);
            let time = self.time(device_ns);
            if self.heartbeats.is_multiple_of(MONITOR_EVERY) {
                encode::monitor(&mut self.datagram, protocol, time, self.packets_since, self.monitors);
                self.monitors = self.monitors.wrapping_add(1);
                self.packets_since = 1;
            }
            self.heartbeats = self.heartbeats.wrapping_add(1);
            encode::heartbeat(&mut self.datagram, protocol, time);
            self.packets_since += 1;
        }
        self.send();
    }
}
