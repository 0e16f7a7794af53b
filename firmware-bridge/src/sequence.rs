//! What a link did to a device's packets, read off their sequence numbers.

use heapless::LinearMap;

use crate::layout::PacketHeader;

/// How many packets back a late one is told from a duplicate.
const WINDOW: u64 = u64::BITS as u64;
/// More packets than this are not missing: the number means something else.
const MOST_MISSING: u64 = 1 << 32;
/// So many packets in a row from before everything that is waited for are of a device that has started again.
const OLD_IN_A_ROW: u32 = 4;

/// What the arrival of a packet says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// The first packet of this device.
    First,
    /// The packet that was due.
    Next,
    /// Packets before this one are missing.
    Gap {
        /// How many.
        missing: u64,
    },
    /// A packet that was taken for missing.
    Late,
    /// A packet that has been here before.
    Duplicate,
    /// A packet too old to tell whether it is late or a duplicate.
    Stale,
    /// The device has started again.
    Restart {
        /// Packets since that start that are missing; 0 where the device has no boot number, or none that can be believed.
        missing: u64,
    },
}

impl Arrival {
    /// Whether the packet's events are to be used: it is no duplicate and not too old to say so.
    pub fn is_new(self) -> bool {
        !matches!(self, Self::Duplicate | Self::Stale)
    }
}

/// Counts of a [`SequenceTracker`].
///
/// Of the packets that a device sent between its first and its last one seen, `received + missing` is the number, while
/// it neither restarted nor sent one that arrived stale.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SequenceCounts {
    /// Packets to use.
    pub received: u64,
    /// Packets that have not come; a late one is taken off again.
    pub missing: u64,
    /// Runs of missing packets.
    pub gaps: u64,
    /// Packets that came after a later one.
    pub late: u64,
    /// Packets that had come before.
    pub duplicates: u64,
    /// Packets too old to tell whether they are late or duplicates.
    pub stale: u64,
    /// Starts of the device after the first.
    pub restarts: u64,
}

/// Follows the boot and sequence numbers of one device.
#[derive(Clone, Debug, Default)]
pub struct SequenceTracker {
    run: Option<Run>,
    previous_boot: u32,
    counts: SequenceCounts,
}

/// One start of a device.
#[derive(Clone, Copy, Debug)]
struct Run {
    boot: u32,
    /// The earliest packet that is waited for.
    first: u64,
    /// The latest packet seen.
    latest: u64,
    /// Bit `i`: packet `latest - i` has come.
    seen: u64,
    /// The lower half of the first tick of packet `n`, at `n` modulo the window.
    ticks: [u32; WINDOW as usize],
    /// Packets in a row that are older than `first`.
    old: u32,
}

impl Run {
    fn from(boot: u32, first: u64, latest: u64, tick: u32) -> Self {
        let mut run = Self {
            boot,
            first,
            latest,
            seen: 1,
            ticks: [0; WINDOW as usize],
            old: 0,
        };
        *run.tick_of(latest) = tick;
        run
    }

    fn tick_of(&mut self, sequence: u64) -> &mut u32 {
        &mut self.ticks[(sequence % WINDOW) as usize]
    }
}

impl SequenceTracker {
    /// Takes note of a packet and says what its arrival means. Its first tick tells, of a device without a boot number (0), a packet
    /// that came before from another one with the same number: where there are no ticks, always give the same.
    pub fn observe(&mut self, boot: u32, sequence: u64, first_tick: u64) -> Arrival {
        let arrival = self.arrival(boot, sequence, first_tick as u32);
        let counts = &mut self.counts;
        counts.received += u64::from(arrival.is_new());
        match arrival {
            Arrival::First | Arrival::Next => (),
            Arrival::Gap { missing } => {
                counts.gaps += 1;
                counts.missing = counts.missing.saturating_add(missing);
            }
            Arrival::Late => {
                counts.late += 1;
                counts.missing -= 1;
            }
            Arrival::Duplicate => counts.duplicates += 1,
            Arrival::Stale => counts.stale += 1,
            Arrival::Restart { missing } => {
                counts.restarts += 1;
                counts.gaps += u64::from(missing > 0);
                counts.missing = counts.missing.saturating_add(missing);
            }
        }
        arrival
    }

    fn arrival(&mut self, boot: u32, sequence: u64, tick: u32) -> Arrival {
        let Some(run) = &mut self.run else {
            self.run = Some(Run::from(boot, sequence, sequence, tick));
            return Arrival::First;
        };
        if boot != run.boot {
            if boot != 0 && boot == self.previous_boot {
                return Arrival::Stale;
            }
            self.previous_boot = run.boot;
            let believed = sequence <= MOST_MISSING;
            *run = Run::from(boot, if believed { 0 } else { sequence }, sequence, tick);
            return Arrival::Restart {
                missing: if believed { sequence } else { 0 },
            };
        }
        if sequence > run.latest {
            let steps = sequence - run.latest;
            if steps > MOST_MISSING {
                *run = Run::from(boot, sequence, sequence, tick);
                return Arrival::Restart { missing: 0 };
            }
            run.seen = if steps < WINDOW { run.seen << steps | 1 } else { 1 };
            run.latest = sequence;
            (*run.tick_of(sequence), run.old) = (tick, 0);
            return match steps - 1 {
                0 => Arrival::Next,
                missing => Arrival::Gap { missing },
            };
        }
        let back = run.latest - sequence;
        let old = back >= WINDOW || sequence < run.first;
        run.old = if old { run.old + 1 } else { 0 };
        let seen = !old && run.seen >> back & 1 == 1;
        let another = seen && *run.tick_of(sequence) != tick;
        if boot == 0 && (back >= WINDOW || another || run.old >= OLD_IN_A_ROW) {
            *run = Run::from(boot, sequence, sequence, tick);
            return Arrival::Restart { missing: 0 };
        }
        if old {
            return Arrival::Stale;
        }
        if seen {
            return Arrival::Duplicate;
        }
        run.seen |= 1 << back;
        *run.tick_of(sequence) = tick;
        Arrival::Late
    }

    /// What has been seen so far.
    pub fn counts(&self) -> SequenceCounts {
        self.counts
    }
}

/// The [`SequenceTracker`]s of up to `DEVICES` devices that share a link.
#[derive(Clone, Debug, Default)]
pub struct SequenceTrackers<const DEVICES: usize> {
    trackers: LinearMap<u32, SequenceTracker, DEVICES>,
}

impl<const DEVICES: usize> SequenceTrackers<DEVICES> {
    /// Takes note of a packet; `None` where it is of one device too many.
    pub fn observe(&mut self, header: &PacketHeader) -> Option<Arrival> {
        if !self.trackers.contains_key(&header.device_id) {
            self.trackers
                .insert(header.device_id, SequenceTracker::default())
                .ok()?;
        }
        let tracker = self.trackers.get_mut(&header.device_id)?;
        Some(tracker.observe(header.boot, header.sequence, header.first_tick))
    }

    /// The counts of each device that has been seen.
    pub fn counts(&self) -> impl Iterator<Item = (u32, SequenceCounts)> + '_ {
        self.trackers
            .iter()
            .map(|(&device, tracker)| (device, tracker.counts()))
    }
}
