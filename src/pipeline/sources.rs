//! What the run's devices say of themselves: for predictions' flags and for the summary.

use std::fmt;
use std::sync::Arc;

use serde::Serialize;

use super::message::flags;
use crate::acquire::wire::{SpareUnit, SpareUnits, WireCounters, WireReport};
use crate::acquire::{Source, WayBack};

/// A source as others see it while it runs.
#[derive(Clone, Debug)]
pub(crate) struct SourceView {
    name: String,
    counters: Option<Arc<WireCounters>>,
    spares: Option<Arc<SpareUnits>>,
}

impl SourceView {
    pub fn of(source: &dyn Source) -> Self {
        Self {
            name: source.name().to_string(),
            counters: source.wire_counters(),
            spares: source.spare_units(),
        }
    }

    /// What has become of what it sent.
    pub fn report(&self) -> SourceReport {
        SourceReport {
            name: self.name.clone(),
            away: self.counters.as_ref().map(|counters| counters.is_away()),
            wire: self.counters.as_ref().map(|counters| counters.report()),
            spare_units: self.spares.as_ref().map_or(Vec::new(), |spares| spares.taken()),
        }
    }
}

/// What has become of what a source sent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct SourceReport {
    /// Its name.
    pub name: String,
    /// Whether the device is not there; none where there is no device.
    pub away: Option<bool>,
    /// The counts of its wire; none where there is no device.
    #[serde(flatten)]
    pub wire: Option<WireReport>,
    /// Units that nobody listed, and the places among the run's units that they have taken.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub spare_units: Vec<SpareUnit>,
}

impl fmt::Display for SourceReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.wire {
            None => write!(f, "{}", self.name),
            Some(wire) => write!(f, "{}: {wire}", self.name),
        }?;
        self.spare_units
            .iter()
            .try_for_each(|unit| write!(f, "; {} is {}", unit.id, unit.is))
    }
}

/// Looks at the devices' counters for what a prediction has to say of them.
pub(crate) struct SourceWatch {
    /// The counters, and the losses and clock resets that have been told.
    devices: Box<[(Arc<WireCounters>, [u64; 2])]>,
}

impl SourceWatch {
    pub fn new(sources: &[SourceView]) -> Self {
        let counters = sources.iter().filter_map(|source| source.counters.clone());
        Self {
            devices: counters.map(|counters| (counters, [0; 2])).collect(),
        }
    }

    /// The flags of what has happened since the last call. Some atomic loads a device.
    pub fn flags(&mut self) -> u32 {
        let mut bits = 0;
        for (counters, told) in &mut self.devices {
            if counters.is_away() {
                bits |= flags::SOURCE_AWAY;
            }
            let [losses, resets] = std::mem::replace(told, [counters.losses(), counters.clock_resets()]);
            if told[0] != losses {
                bits |= flags::SPIKES_LOST;
            }
            if told[1] != resets {
                bits |= flags::CLOCK_RESET;
            }
        }
        bits
    }
}

/// Predictions that went back to a device.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct WayBackCounts {
    /// The source.
    pub source: String,
    /// Sent.
    pub sent: u64,
    /// Not sent: no room, or nobody there.
    pub lost: u64,
}

/// The ways back to the devices, and what has gone there.
pub(crate) struct WaysBack {
    ways: Vec<(Box<dyn WayBack>, WayBackCounts)>,
}

impl WaysBack {
    /// Those that the sources have.
    pub fn of(sources: &mut [Box<dyn Source>]) -> Self {
        let way = |source: &mut Box<dyn Source>| {
            let counts = WayBackCounts {
                source: source.name().to_string(),
                ..WayBackCounts::default()
            };
            Some((source.way_back()?, counts))
        };
        Self {
            ways: sources.iter_mut().filter_map(way).collect(),
        }
    }

    /// Sends a prediction on every one, without waiting.
    pub fn send(&mut self, header: &[u8], array: &[u8]) {
        for (way, counts) in &mut self.ways {
            let sent = way.send(header, array);
            *(if sent { &mut counts.sent } else { &mut counts.lost }) += 1;
        }
    }

    /// What has gone there.
    pub fn into_counts(self) -> Vec<WayBackCounts> {
        self.ways.into_iter().map(|(_, counts)| counts).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering::Relaxed;

    use super::*;

    #[test]
    fn each_loss_is_told_once_and_an_absence_as_long_as_it_lasts() {
        let counters = Arc::<WireCounters>::default();
        let view = SourceView {
            name: "device".into(),
            counters: Some(counters.clone()),
            spares: None,
        };
        let mut watch = SourceWatch::new(&[view]);
        assert_eq!(watch.flags(), flags::SOURCE_AWAY);
        counters.connections.store(1, Relaxed);
        assert_eq!(watch.flags(), 0);
        counters.lost.store(3, Relaxed);
        counters.clock_resets.store(1, Relaxed);
        assert_eq!(watch.flags(), flags::SPIKES_LOST | flags::CLOCK_RESET);
        assert_eq!(watch.flags(), 0);
        // A late packet is no loss any more, and that is news too.
        counters.lost.store(2, Relaxed);
        assert_eq!(watch.flags(), flags::SPIKES_LOST);
        counters.disconnections.store(1, Relaxed);
        assert_eq!((watch.flags(), watch.flags()), (flags::SOURCE_AWAY, flags::SOURCE_AWAY));
    }
}
