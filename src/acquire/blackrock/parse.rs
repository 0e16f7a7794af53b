//! Parser of a device's datagrams.

use super::super::wire::ticks::{ticks_to_ns, WrapClock};
use super::packet::{u32_at, Packet, Protocol, CONFIGURATION, LAST_ANALOGUE, MONITOR};
use super::sniff::{ProtocolSniffer, TimeUnit, UnitSniffer};
use super::TICKS_HZ;

/// Sorted unit of what the device takes for noise.
pub const NOISE: u16 = 255;

/// Whether a device can send spikes of this channel and sorted unit.
pub(super) fn is_possible(channel: &str, unit: u16) -> Result<(), &'static str> {
    if !channel
        .parse()
        .is_ok_and(|number| (1..=LAST_ANALOGUE).contains(&number))
    {
        return Err("channels with spikes are 1 to 272");
    }
    match unit {
        0..=5 | NOISE => Ok(()),
        _ => Err("units are 1 to 5, 0 for what is not sorted and 255 for noise"),
    }
}

/// A spike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlackrockSpike {
    /// Device time, ns.
    pub device_ns: i64,
    /// Channel, from 1.
    pub channel: u16,
    /// Sorted unit: 0 not sorted, 1 to 5, [`NOISE`].
    pub unit: u16,
}

/// What a parser did with what it was given.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ParserCounts {
    /// Packets read.
    pub packets: u64,
    /// Of them, spikes that were handed on.
    pub spikes: u64,
    /// Spikes in packets whose clock's unit was not known yet.
    pub undecided: u64,
    /// Datagrams from before the layout was known that more than one fits; not read.
    pub ambiguous: u64,
    /// Datagrams that were not read to their end: of no known layout, or broken.
    pub malformed: u64,
    /// Bytes in them that were not read.
    pub discarded: u64,
    /// Packets that the device counted and that never came, at least.
    pub lost: u64,
}

/// How many packets were sent and did not come. The device says from time to time how many it has sent since it last did.
///
/// Compared at each such packet alone, packets that overtake it look lost; the running balance comes out even.
#[derive(Clone, Copy, Debug, Default)]
struct Balance {
    /// Sent less received since the first such packet.
    open: i64,
    /// Received since the last one.
    received: i64,
    started: bool,
    number: Option<u32>,
    /// Given up: packets lost before the balance had to begin anew, and the device's own packets that number themselves.
    closed: u64,
}

impl Balance {
    fn monitor(&mut self, sent: u32, number: Option<u32>) {
        let difference = i64::from(sent) - self.received;
        let missed = match (self.number, number) {
            (Some(before), Some(now)) => now.wrapping_sub(before.wrapping_add(1)),
            _ => 0,
        };
        // Without a number, a balance that falls by more than half an interval shows that one of these packets is missing.
        let fell = -difference > (i64::from(sent) / 2).max(4);
        if !self.started {
            self.started = true;
        } else if missed > 0 || (number.is_none() && fell) {
            // What was sent in between is not known: the balance begins anew, and these packets are lost at least. A number
            // that went back is a device that was started anew.
            self.closed += self.open.max(0) as u64;
            self.closed += if missed < 1 << 31 { u64::from(missed) } else { 0 };
            self.open = 0;
        } else {
            self.open += difference;
        }
        self.received = 0;
        self.number = number;
    }

    fn lost(&self) -> u64 {
        self.closed + self.open.max(0) as u64
    }
}

/// A parser of datagrams. Never allocates, and keeps nothing of a datagram: each begins with a packet, so that what is broken in
/// one is over with it.
#[derive(Clone, Debug)]
pub struct PacketParser {
    protocol: ProtocolSniffer,
    unit: UnitSniffer,
    known_unit: Option<TimeUnit>,
    clock: WrapClock,
    balance: Balance,
    counts: ParserCounts,
}

impl PacketParser {
    /// A parser that finds out what it is not told.
    pub fn new(protocol: Option<Protocol>, unit: Option<TimeUnit>) -> Self {
        Self {
            protocol: ProtocolSniffer::new(protocol),
            unit: UnitSniffer::new(unit),
            known_unit: unit,
            clock: WrapClock::default(),
            balance: Balance::default(),
            counts: ParserCounts::default(),
        }
    }

    /// The layout, once it is known.
    pub fn protocol(&self) -> Option<Protocol> {
        self.protocol.protocol()
    }

    /// The unit of the clock, once it is known; packets of 3.11 count ticks.
    pub fn unit(&self) -> Option<TimeUnit> {
        match self.protocol()? {
            Protocol::V311 => Some(TimeUnit::Ticks),
            Protocol::V400 | Protocol::V410 => self.unit.unit(),
        }
    }

    /// What became of everything so far.
    pub fn counts(&self) -> ParserCounts {
        ParserCounts {
            lost: self.balance.lost(),
            ..self.counts
        }
    }

    /// The device may have been started anew: the unit of its clock is found out again, and wraps are forgotten.
    pub fn restart(&mut self) {
        self.unit = UnitSniffer::new(self.known_unit);
        self.clock = WrapClock::default();
    }

    /// Whether a datagram is one of whole packets of the layout, or of one that it may be.
    pub fn recognises(&self, datagram: &[u8]) -> bool {
        self.protocol.recognises(datagram)
    }

    /// Takes a datagram that was seen at host time `host_ns`, and gives each spike to `emit`.
    pub fn push(&mut self, datagram: &[u8], host_ns: i64, mut emit: impl FnMut(BlackrockSpike)) {
        if self.protocol().is_none() && !self.protocol.look(datagram) {
            return self.broken(datagram);
        }
        let Some(protocol) = self.protocol() else {
            // Only packets without a payload, heartbeats and the like, leave more than one layout open.
            self.counts.ambiguous += 1;
            return;
        };
        let mut rest = datagram;
        while !rest.is_empty() {
            let Some((packet, behind)) = protocol.split(rest) else {
                break;
            };
            self.packet(protocol, packet, host_ns, &mut emit);
            rest = behind;
        }
        self.protocol.note(rest.is_empty() && !datagram.is_empty());
        if !rest.is_empty() || datagram.is_empty() {
            self.broken(rest);
        }
    }

    fn broken(&mut self, unread: &[u8]) {
        self.counts.malformed += 1;
        self.counts.discarded += unread.len() as u64;
    }

    fn packet(&mut self, protocol: Protocol, packet: Packet<'_>, host_ns: i64, emit: &mut impl FnMut(BlackrockSpike)) {
        self.counts.packets += 1;
        if packet.channel == CONFIGURATION && packet.kind == MONITOR {
            if let Some(sent) = u32_at(packet.payload, 0) {
                let number = u32_at(packet.payload, 4).filter(|_| protocol == Protocol::V410);
                self.balance.monitor(sent, number);
            }
        }
        self.balance.received += 1;
        let device_ns = match protocol {
            Protocol::V311 => Some(ticks_to_ns(self.clock.extend(packet.time as u32), TICKS_HZ)),
            Protocol::V400 | Protocol::V410 => {
                if self.unit.unit().is_none() {
                    self.unit.look(packet.time, host_ns);
                }
                let time = i64::try_from(packet.time).unwrap_or(i64::MAX);
                self.unit.unit().map(|unit| match unit {
                    TimeUnit::Ns => time,
                    TimeUnit::Ticks => ticks_to_ns(time, TICKS_HZ),
                })
            }
        };
        if !packet.is_spike() {
            return;
        }
        let Some(device_ns) = device_ns else {
            self.counts.undecided += 1;
            return;
        };
        self.counts.spikes += 1;
        emit(BlackrockSpike {
            device_ns,
            channel: packet.channel,
            unit: packet.kind,
        });
    }
}

#[cfg(test)]
#[path = "parse_tests.rs"]
mod tests;
