//! The books of a scenario: every bin published exactly once, in order, on time or flagged; every spike that was sent is in one count.

use std::collections::BTreeMap;

use neurohorizon::pipeline::message::flags;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::record::Received;

/// How much later than its deadline a bin may look by the suite's own reckoning, ns: the moment of its close is known to it only
/// by the quickest bins around it.
const TOLERANCE_NS: i64 = 5_000_000;
/// A bin may have closed so much before the quickest bins around it say, ns: the longest wait of a source's thread.
const POLL_NS: i64 = 500_000;
/// A flag stands in a message at most so many bins from what it speaks of.
const NEAR: usize = 2;
/// So many bins before and after one say when it closed.
const AROUND: usize = 200;
/// Problems of a kind that are told one by one.
const TOLD: usize = 5;

/// What was sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sent {
    /// Spikes.
    pub spikes: u64,
    /// Packets.
    pub packets: u64,
    /// Spikes of the fullest packet.
    pub most_in_a_packet: u64,
    /// Packets that the system did not take.
    pub unsent: u64,
}

/// The counts of a run's summary that the books need.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counted {
    /// Handed on by the source.
    pub on_the_wire: u64,
    /// Packets that never came.
    pub lost_packets: u64,
    /// Spikes with times that cannot be.
    pub implausible: u64,
    /// Packets that came twice, or too late to tell.
    pub duplicates: u64,
    /// `spikes.offered` …
    pub offered: u64,
    /// In a bin.
    pub binned: u64,
    /// Of units that nobody knows.
    pub unknown: u64,
    /// Before the run.
    pub before_start: u64,
    /// After their bin had closed.
    pub late: u64,
    /// Found a ring or a buffer full.
    pub refused: u64,
    /// In a bin that did not close any more.
    pub left_open: u64,
    /// Predictions published.
    pub published: u64,
    /// Bins without a prediction because no slot was free.
    pub without_slot: u64,
    /// Published by the publish thread itself.
    pub stood_in: u64,
    /// Published after the deadline.
    pub missed_deadline: u64,
}

impl Counted {
    /// From a run's summary as JSON.
    ///
    /// # Errors
    /// The count that is not there.
    pub fn read(summary: &Value) -> Result<Self, String> {
        let count = |path: &str| {
            let found = summary.pointer(path).and_then(Value::as_u64);
            found.ok_or_else(|| format!("the summary has no count {path}"))
        };
        Ok(Self {
            on_the_wire: count("/sources/0/spikes")? + count("/sources/0/before_the_run")?,
            lost_packets: count("/sources/0/lost")?,
            implausible: count("/sources/0/implausible_times")?,
            duplicates: count("/sources/0/duplicates")?,
            offered: count("/spikes/offered")?,
            binned: count("/spikes/binned")?,
            unknown: count("/spikes/unknown")?,
            before_start: count("/spikes/before_start")?,
            late: count("/spikes/late")?,
            refused: count("/spikes/ring_refused")? + count("/spikes/overflowed")?,
            left_open: count("/spikes/left_open")?,
            published: count("/bins/published")?,
            without_slot: count("/bins/without_slot")?,
            stood_in: count("/bins/stood_in")?,
            missed_deadline: count("/bins/missed_deadline")?,
        })
    }
}

/// What the books say.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    /// Predictions that the subscriber had.
    pub received: u64,
    /// Spikes sent.
    pub sent: Sent,
    /// The run's own counts.
    pub counted: Counted,
    /// How many predictions had each flag.
    pub flags: BTreeMap<String, u64>,
    /// What does not come out, one sentence each; empty where all is well.
    pub problems: Vec<String>,
}

/// How a run publishes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Bin width, ns.
    pub bin_ns: i64,
    /// Deadline, from a bin's close to its publication, ns.
    pub deadline_ns: i64,
}

/// Host time of a bin's close less its device time, as the quickest bins have it, ns.
pub fn offset_ns(received: &[Received]) -> Option<i64> {
    let sound = received.iter().filter(|one| !one.has(flags::STUCK));
    sound.map(|one| one.header.ingest_ns - one.header.bin_end_ns).min()
}

/// Bins at which a device's clock was fixed to the run's anew: it came, went, or jumped. Bins close at another time of the host
/// from there on.
fn fixed_anew(received: &[Received]) -> Vec<usize> {
    let is_new = |pair: &[Received]| {
        let away = pair[0].has(flags::SOURCE_AWAY) != pair[1].has(flags::SOURCE_AWAY);
        away || pair[1].has(flags::CLOCK_RESET)
    };
    let news = received.windows(2).zip(1..).filter(|(pair, _)| is_new(pair));
    news.map(|(_, index)| index).collect()
}

/// From each bin's close to its publication, ns, by the quickest of the bins around it that closed by the same clock.
fn after_close(received: &[Received]) -> Vec<i64> {
    let cuts: Vec<usize> = [0]
        .into_iter()
        .chain(fixed_anew(received))
        .chain([received.len()])
        .collect();
    let from_close = |index: usize, segment: &[usize]| {
        let around = index.saturating_sub(AROUND).max(segment[0])..(index + AROUND).min(segment[1]);
        let header = &received[index].header;
        // Where all around are stuck, those anywhere.
        let offset_ns = offset_ns(&received[around])
            .or_else(|| offset_ns(received))
            .unwrap_or(0);
        header.publish_ns - header.bin_end_ns - offset_ns
    };
    let times = (0..received.len()).map(|index| {
        // A bin at a cut may have closed by either clock.
        let near = cuts
            .windows(2)
            .filter(|cut| cut[0] <= index + NEAR && index < cut[1] + NEAR);
        near.map(|segment| from_close(index, segment)).min().unwrap_or(0)
    });
    times.collect()
}

struct Told(Vec<String>);

impl Told {
    fn say(&mut self, what: &str, found: impl ExactSizeIterator<Item = String>) {
        let all = found.len();
        if all > 0 {
            let some: Vec<String> = found.take(TOLD).collect();
            let more = if all > TOLD { ", …" } else { "" };
            self.0.push(format!("{what} ({all}): {}{more}", some.join("; ")));
        }
    }
}

/// What is wrong with the bins that a subscriber had, which missed none.
pub fn check_bins(received: &[Received], terms: Terms, problems: &mut Vec<String>) {
    let mut told = Told(Vec::new());
    let pairs = || received.windows(2).map(|pair| (&pair[0].header, &pair[1].header));
    let doubled: Vec<_> = pairs().filter(|(a, b)| b.bin_index <= a.bin_index).collect();
    told.say(
        "bins published twice or out of order",
        doubled
            .iter()
            .map(|(a, b)| format!("bin {} after bin {}", b.bin_index, a.bin_index)),
    );
    let missing: Vec<_> = pairs().filter(|(a, b)| b.bin_index > a.bin_index + 1).collect();
    told.say(
        "bins that were not published",
        missing
            .iter()
            .map(|(a, b)| format!("between {} and {}", a.bin_index, b.bin_index)),
    );
    let jumps: Vec<_> = pairs().filter(|(a, b)| b.sequence != a.sequence + 1).collect();
    told.say(
        "gaps in the sequence",
        jumps
            .iter()
            .map(|(a, b)| format!("{} after {}", b.sequence, a.sequence)),
    );
    if let Some(first) = received.first().filter(|first| first.header.sequence != 0) {
        told.0.push(format!(
            "the first prediction has the sequence number {}",
            first.header.sequence
        ));
    }
    let epochs: Vec<_> = pairs().filter(|(a, b)| a.epoch != b.epoch).collect();
    told.say(
        "new publishers",
        epochs.iter().map(|(_, b)| format!("from bin {} on", b.bin_index)),
    );
    let ends: Vec<_> = pairs()
        .filter(|(a, b)| b.bin_end_ns - a.bin_end_ns != (b.bin_index - a.bin_index) * terms.bin_ns)
        .collect();
    told.say(
        "bins of another width",
        ends.iter().map(|(_, b)| format!("bin {}", b.bin_index)),
    );
    let unsound: Vec<_> = received.iter().filter(|one| !one.array_is_sound).collect();
    told.say(
        "arrays of another size, or with numbers that are not finite",
        unsound.iter().map(|one| format!("bin {}", one.header.bin_index)),
    );
    if received.is_empty() {
        told.0.push("no prediction was received".into());
    }
    let after_close: Vec<i64> = after_close(received);
    let timed = || received.iter().zip(after_close.iter().copied());
    let late: Vec<_> = timed()
        .filter(|(one, after)| !one.has(flags::MISSED_DEADLINE) && *after > terms.deadline_ns + TOLERANCE_NS)
        .collect();
    told.say(
        "late without the flag",
        late.iter().map(|(one, after)| {
            format!(
                "bin {} by {} µs",
                one.header.bin_index,
                (after - terms.deadline_ns) / 1_000
            )
        }),
    );
    let flagged: Vec<_> = timed()
        .filter(|(one, after)| one.has(flags::MISSED_DEADLINE) && *after < terms.deadline_ns - POLL_NS)
        .collect();
    told.say(
        "flagged as late and in time",
        flagged.iter().map(|(one, _)| format!("bin {}", one.header.bin_index)),
    );
    let backwards: Vec<_> = received
        .iter()
        .filter(|one| {
            let header = &one.header;
            !(header.decode_start_ns <= header.decode_end_ns
                && header.decode_end_ns <= header.publish_ns
                && header.publish_ns <= one.at_ns)
        })
        .collect();
    told.say(
        "stamps that run backwards",
        backwards.iter().map(|one| format!("bin {}", one.header.bin_index)),
    );
    problems.append(&mut told.0);
}

/// What is wrong with the spikes: the sum of those in bins, late, refused, unknown and left over is what was sent, and messages say
/// of them what the summary says.
pub fn check_spikes(sent: Sent, counted: Counted, received: &[Received], problems: &mut Vec<String>) {
    let on_the_way = counted.on_the_wire + counted.implausible;
    let missing = sent.spikes.checked_sub(on_the_way);
    match missing {
        None => problems.push(format!("{} spikes sent, but {on_the_way} came", sent.spikes)),
        Some(missing) if missing > counted.lost_packets * sent.most_in_a_packet => problems.push(format!(
            "{} spikes sent, but {on_the_way} came, and {} packets are said to be lost",
            sent.spikes, counted.lost_packets
        )),
        Some(0) if counted.lost_packets > 0 && sent.unsent == 0 => {
            problems.push(format!(
                "{} packets are said to be lost, and none was",
                counted.lost_packets
            ));
        }
        Some(missing) if missing < counted.lost_packets => problems.push(format!(
            "{} packets are said to be lost, but only {missing} spikes are missing",
            counted.lost_packets
        )),
        Some(_) => {}
    }
    let ended =
        counted.binned + counted.unknown + counted.before_start + counted.late + counted.refused + counted.left_open;
    if counted.offered != ended {
        problems.push(format!(
            "{} spikes came into the run, but {ended} are accounted for",
            counted.offered
        ));
    }
    if counted.duplicates > 0 {
        problems.push(format!(
            "{} packets are said to have come twice, and none was sent twice",
            counted.duplicates
        ));
    }
    let published = received.len() as u64;
    if published != counted.published {
        problems.push(format!(
            "{} predictions published, but {published} received",
            counted.published
        ));
    }
    if counted.without_slot > counted.stood_in {
        problems.push(format!(
            "{} bins had no prediction for want of a slot, and {} were stood in for",
            counted.without_slot, counted.stood_in
        ));
    }
    let flagged = |flag| received.iter().filter(|one| one.has(flag)).count() as u64;
    let missed = flagged(flags::MISSED_DEADLINE);
    if missed != counted.missed_deadline {
        problems.push(format!(
            "{} predictions missed the deadline by the summary, and {missed} by their flags",
            counted.missed_deadline
        ));
    }
    // Where the last bins were stood in for, nothing came that their counts could be carried on to.
    let last_skipped = received.last().is_some_and(|last| last.has(flags::SKIPPED));
    let ends_stood_in = counted.stood_in > 0 && last_skipped;
    let sum = |field: fn(&Received) -> u32| received.iter().map(|one| u64::from(field(one))).sum::<u64>();
    let said = [
        ("in bins", sum(|one| one.header.spikes_in), counted.binned),
        ("late", sum(|one| one.header.spikes_late), counted.late),
        ("unknown", sum(|one| one.header.spikes_unknown), counted.unknown),
    ];
    for (what, by_messages, by_summary) in said {
        // What is late after the last prediction has no message to stand in.
        let late_after_all = what == "late" && by_messages < by_summary;
        let carried_on_to_none = ends_stood_in && by_messages < by_summary;
        if by_messages != by_summary && !late_after_all && !carried_on_to_none {
            problems.push(format!(
                "{by_messages} spikes {what} by the messages, and {by_summary} by the summary"
            ));
        }
    }
    for (what, flag, counts) in [
        (
            "late",
            flags::SPIKES_LATE,
            received.iter().filter(|one| one.header.spikes_late > 0).count() as u64,
        ),
        (
            "refused",
            flags::SPIKES_REFUSED,
            received.iter().filter(|one| one.header.spikes_refused > 0).count() as u64,
        ),
    ] {
        let flagged = flagged(flag);
        if flagged != counts {
            problems.push(format!(
                "{counts} predictions count {what} spikes, and {flagged} have the flag of it"
            ));
        }
    }
}

/// How many predictions had each flag.
pub fn count_flags(received: &[Received]) -> BTreeMap<String, u64> {
    let mut counts = BTreeMap::new();
    for name in received.iter().flat_map(|one| Received::flag_names(one.header.flags)) {
        *counts.entry(name).or_insert(0) += 1;
    }
    counts
}

impl Ledger {
    /// The books of a run of which the subscriber missed nothing.
    pub fn of(received: &[Received], sent: Sent, counted: Counted, terms: Terms) -> Self {
        let mut problems = Vec::new();
        check_bins(received, terms, &mut problems);
        check_spikes(sent, counted, received, &mut problems);
        Self {
            received: received.len() as u64,
            sent,
            counted,
            flags: count_flags(received),
            problems,
        }
    }
}
