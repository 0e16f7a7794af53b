//! Which layout packets have, and what their clock counts.

use serde::{Deserialize, Serialize};

use super::packet::Protocol;

/// Datagrams in a row that do not fit the layout after which it is looked for anew.
const MISFITS: u32 = 4;

/// Tells the layouts apart: a datagram is one of whole plausible packets, from its first byte to its last.
#[derive(Clone, Copy, Debug)]
pub struct ProtocolSniffer {
    fixed: bool,
    possible: [bool; 3],
    misfits: u32,
}

impl ProtocolSniffer {
    /// A sniffer, or no more than a name where the layout is known.
    pub fn new(known: Option<Protocol>) -> Self {
        Self {
            fixed: known.is_some(),
            possible: Protocol::ALL.map(|protocol| known.is_none_or(|known| known == protocol)),
            misfits: 0,
        }
    }

    /// The layout, once only one is possible.
    pub fn protocol(&self) -> Option<Protocol> {
        let mut possible = Protocol::ALL
            .into_iter()
            .zip(self.possible)
            .filter(|(_, possible)| *possible);
        let first = possible.next()?.0;
        possible.next().is_none().then_some(first)
    }

    /// Whether a datagram fits a layout that is possible.
    pub fn recognises(&self, datagram: &[u8]) -> bool {
        let mut possible = Protocol::ALL.into_iter().zip(self.possible);
        possible.any(|(protocol, possible)| possible && whole(protocol, datagram))
    }

    /// Looks at a datagram while the layout is not known; false where it fits none that is still possible.
    pub fn look(&mut self, datagram: &[u8]) -> bool {
        let mut fits = self.possible;
        for (fits, protocol) in fits.iter_mut().zip(Protocol::ALL) {
            *fits = *fits && whole(protocol, datagram);
        }
        let any = fits.contains(&true);
        if any {
            self.possible = fits;
        } else {
            self.note(false);
        }
        any
    }

    /// Says whether a datagram fitted: too many in a row that do not are of another device.
    pub fn note(&mut self, fitted: bool) {
        self.misfits = if fitted { 0 } else { self.misfits + 1 };
        if self.misfits >= MISFITS && !self.fixed {
            *self = Self::new(None);
        }
    }
}

fn whole(protocol: Protocol, datagram: &[u8]) -> bool {
    let mut rest = datagram;
    while !rest.is_empty() {
        match protocol.split(rest) {
            Some((_, behind)) => rest = behind,
            None => return false,
        }
    }
    !datagram.is_empty()
}

/// What a clock of 64 bits counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TimeUnit {
    /// 1/30 000 s.
    Ticks,
    /// Nanoseconds.
    Ns,
}

/// A time from here on is ns: as ticks it would be a thousand years.
const SURELY_NS: u64 = 1 << 50;
/// Over so much host time the clock's rate is taken, ns.
const SPAN_NS: i64 = 25_000_000;
/// Counts a second between the two rates, 30 000 and 10⁹, each far from it by a factor of 180.
const BETWEEN_HZ: f64 = 5.5e6;

/// Tells ticks from ns by the rate at which times go on: twice the same answer is one.
#[derive(Clone, Copy, Debug, Default)]
pub struct UnitSniffer {
    unit: Option<TimeUnit>,
    vote: Option<TimeUnit>,
    first: Option<(u64, i64)>,
}

impl UnitSniffer {
    /// A sniffer, or no more than a name where the unit is known.
    pub fn new(known: Option<TimeUnit>) -> Self {
        Self {
            unit: known,
            ..Self::default()
        }
    }

    /// The unit, once it is known.
    pub fn unit(&self) -> Option<TimeUnit> {
        self.unit
    }

    /// Takes the time of a packet that was seen at host time `host_ns`.
    pub fn look(&mut self, time: u64, host_ns: i64) {
        if time >= SURELY_NS {
            self.unit = Some(TimeUnit::Ns);
            return;
        }
        let Some((first, first_host_ns)) = self.first else {
            self.first = Some((time, host_ns));
            return;
        };
        let span_ns = host_ns.saturating_sub(first_host_ns);
        if span_ns < SPAN_NS {
            return;
        }
        self.first = Some((time, host_ns));
        if time <= first {
            self.vote = None;
            return;
        }
        let rate = (time - first) as f64 / (span_ns as f64 * 1e-9);
        let vote = if rate > BETWEEN_HZ {
            TimeUnit::Ns
        } else {
            TimeUnit::Ticks
        };
        if self.vote.replace(vote) == Some(vote) {
            self.unit = Some(vote);
        }
    }
}
