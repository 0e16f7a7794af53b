//! What a device does in a scenario: it warms up, then sends by the schedule, with a packet at the end of every bin.
//!
//! Where bins end by the host's clock is known to nobody but the runtime, and stays the same while the device's clock does. The quickest
//! bins of the warm-up tell it: none closes before its end.

use std::collections::HashSet;

use neurohorizon::pipeline::clock::monotonic_ns;

use super::ledger::{offset_ns, Sent};
use super::load::Sender;
use super::measure::Plan;
use super::record::Received;
use super::scenario::{Event, Scenario};
use super::schedule::{merged, Background, Closing, Packet, Rate};
use super::wake::this_thread_first;

/// Rate of the background while the suite finds out where bins end, spikes/s.
const WARM_UP_HZ: f64 = 2_000.0;
/// Time that a device is away.
const AWAY_NS: i64 = 1_000_000_000;
/// How far a clock jumps, ns.
const JUMP_NS: i64 = 3_600_000_000_000;

/// Intended times of the packets that close bins, from the first bin on that ends after `after_ns`.
fn closing(received: &[Received], bin_ns: i64, after_ns: i64) -> Option<Closing> {
    let last = received.last()?;
    let offset_ns = offset_ns(received)?;
    let close_ns = last.header.bin_end_ns + offset_ns;
    let bins = (after_ns - close_ns).max(0) / bin_ns + 1;
    Some(Closing {
        next_ns: close_ns + bins * bin_ns,
        bin_ns,
    })
}

/// What a device has sent.
pub struct Sending {
    /// What was sent.
    pub sent: Sent,
    /// Intended time of the first packet that closes a bin, …
    pub first_ns: i64,
    /// … and of all of them.
    pub closing: HashSet<i64>,
    /// When the measurement began.
    pub from_ns: i64,
}

/// Whether the device is away at this time.
fn is_away(event: Event, at_ns: i64, from_ns: i64, length_ns: i64) -> bool {
    let begins = [length_ns / 5, length_ns * 3 / 5].map(|begin| from_ns + begin);
    event == Event::SourceKilled && begins.iter().any(|&begin| (begin..begin + AWAY_NS).contains(&at_ns))
}

/// Warms up, finds out where bins end by what a subscriber has had `so_far`, and sends what the scenario says, to its end.
///
/// # Errors
/// FIFO that is not permitted, or a run that predicted nothing.
pub fn send(
    scenario: &Scenario,
    plan: &Plan,
    sender: &mut Sender,
    bin_ns: i64,
    so_far: impl FnOnce() -> Vec<Received>,
) -> Result<Sending, String> {
    this_thread_first(scenario.fifo).map_err(|error| error.to_string())?;
    let begin_ns = monotonic_ns();
    let warm_ns = begin_ns + (plan.warm_up_s * 1e9) as i64;
    let warm_up = Rate {
        hz: WARM_UP_HZ,
        bursts: false,
    };
    Background::new(warm_up, begin_ns, plan.seed)
        .take_while(|packet| packet.at_ns < warm_ns)
        .for_each(|packet| sender.send(packet));
    // What came before the first packets says nothing about where the device's bins end.
    let received: Vec<Received> = so_far()
        .into_iter()
        .filter(|one| one.header.ingest_ns > begin_ns + (warm_ns - begin_ns) / 4)
        .collect();
    let from_ns = monotonic_ns() + 2 * bin_ns;
    let closing = closing(&received, bin_ns, from_ns).ok_or("no prediction while the device warmed up")?;
    let (first_ns, length_ns) = (closing.next_ns, (plan.seconds * 1e9) as i64);
    let (mut away, mut jumps) = (false, 0);
    let background: Box<dyn Iterator<Item = Packet>> = match &plan.recording {
        Some(recording) => Box::new(recording.packets(from_ns)),
        None => Box::new(Background::new(scenario.rate, from_ns, plan.seed + 1)),
    };
    let packets = merged(background, closing);
    for packet in packets.take_while(|packet| packet.at_ns < from_ns + length_ns) {
        let was_away = std::mem::replace(&mut away, is_away(scenario.event, packet.at_ns, from_ns, length_ns));
        if away {
            continue;
        }
        if was_away {
            sender.restart();
        }
        let jump = 3 * (packet.at_ns - from_ns) / length_ns;
        if scenario.event == Event::ClockJumps && jump > jumps {
            sender.jump(if jump == 1 { JUMP_NS } else { -JUMP_NS });
            jumps = jump;
        }
        sender.send(packet);
    }
    Ok(Sending {
        sent: sender.sent,
        first_ns,
        closing: sender.closing.iter().copied().collect(),
        from_ns,
    })
}
