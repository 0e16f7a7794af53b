//! A device on the bridge: sends packets over UDP when the schedule says so. Its clock is the host's, in ns, so that a spike's time
//! is the time at which it was to be sent.

use std::net::{SocketAddr, UdpSocket};

use firmware_bridge::{Device, PacketBuilder, SpikeRecord};
use neurohorizon::pipeline::clock::monotonic_ns;

use super::ledger::Sent;
use super::schedule::{Packet, MOST_SPIKES};
use super::wake::sleep_until;

type Builder = PacketBuilder<{ MOST_SPIKES as usize }, 0>;

/// What sends.
pub struct Sender {
    socket: UdpSocket,
    builder: Builder,
    bytes: Box<[u8]>,
    units: u32,
    next_unit: u32,
    boot: u32,
    /// Device time less host time, ns.
    clock_ns: i64,
    /// What it has sent.
    pub sent: Sent,
    /// Intended times of the packets that close bins, in order.
    pub closing: Vec<i64>,
}

fn device(boot: u32) -> Device {
    Device {
        id: 1,
        boot,
        tick_rate_hz: 1_000_000_000,
    }
}

impl Sender {
    /// A device with so many units, all on channels of their own.
    ///
    /// # Errors
    /// What the system says.
    pub fn new(to: SocketAddr, units: u32) -> std::io::Result<Self> {
        let socket = UdpSocket::bind("127.0.0.1:0")?;
        socket.connect(to)?;
        Ok(Self {
            socket,
            builder: Builder::new(device(1)),
            bytes: vec![0; Builder::MAX_LEN].into(),
            units,
            next_unit: 0,
            boot: 1,
            clock_ns: 0,
            sent: Sent::default(),
            closing: Vec::new(),
        })
    }

    /// Starts anew, as a device that was switched off and on: its clock begins at zero, its packets are counted from zero.
    pub fn restart(&mut self) {
        self.boot += 1;
        self.builder = Builder::new(device(self.boot));
        self.clock_ns = -monotonic_ns();
    }

    /// Puts the device's clock on by so much.
    pub fn jump(&mut self, by_ns: i64) {
        self.clock_ns += by_ns;
    }

    fn tick(&self, host_ns: i64) -> u64 {
        (host_ns + self.clock_ns).max(0) as u64
    }

    /// Sends one packet, at its time or, where that has passed, at once.
    pub fn send(&mut self, packet: Packet) {
        sleep_until(packet.at_ns);
        let tick = self.tick(packet.at_ns);
        self.builder.begin(tick);
        for _ in 0..packet.spikes {
            let record = SpikeRecord {
                channel: packet.unit.unwrap_or(self.next_unit) as u16,
                unit: 1,
                ..SpikeRecord::default()
            };
            self.builder.push(tick, record);
            self.next_unit = (self.next_unit + 1) % self.units;
        }
        let Ok(length) = self.builder.write(&mut self.bytes) else {
            return;
        };
        // A socket of the loopback whose receiver has gone says so with the next packet; the packet is sent again then.
        let send = || self.socket.send(&self.bytes[..length]);
        if send().or_else(|_| send()).is_ok() {
            self.builder.sent();
            self.sent.spikes += u64::from(packet.spikes);
            self.sent.packets += 1;
            self.sent.most_in_a_packet = self.sent.most_in_a_packet.max(u64::from(packet.spikes));
        } else {
            self.builder.discard();
            self.sent.unsent += 1;
        }
        if packet.closing {
            self.closing.push(packet.at_ns);
        }
    }
}
