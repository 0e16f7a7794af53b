//! What a swap of the model may cost: no bin. The last message of the former model and the first of the new one tell it.
//!
//! The new model begins with costs that nothing is known of, so that its first bin is decoded in full, unless the bin after it has
//! closed as well: then it has nothing to hold, and the mean rates go out. What no busy machine explains is a fault anywhere: a first
//! prediction that is skipped although its decode began in time, one that is held, cut short or failed, bins that do not follow one
//! another. A bin that the machine kept waiting is skipped or late with any model: beside a swap it counts against the swap where no bin elsewhere in the run was. Where swaps are harmless and
//! a run kept one of its `n` bins waiting, that is one of these two with a probability of `2 / n`.

use neurohorizon::pipeline::message::flags;

use super::ledger::offset_ns;
use super::record::Received;

/// What a machine that keeps the decode thread waiting does to a bin.
const KEPT_WAITING: u32 = flags::HELD | flags::SKIPPED | flags::STUCK | flags::MISSED_DEADLINE;
/// What the first prediction of a model never is, however busy the machine.
const NOT_THE_MODELS: u32 =
    flags::NEUTRAL | flags::SHORTENED | flags::MODEL_FAILED | flags::CALIBRATING | flags::STUCK | flags::STOPPED;

fn names(bits: u32) -> String {
    Received::flag_names(bits).join(", ")
}

/// The first predictions of other models than the one before.
fn swaps(received: &[Received]) -> Vec<usize> {
    let pairs = received.windows(2).zip(1..);
    let other = pairs.filter(|(pair, _)| pair[0].header.model_hash != pair[1].header.model_hash);
    other.map(|(_, at)| at).collect()
}

/// What a swap took from the predictions of a run with bins of `bin_ns`, in which there was one swap.
pub fn problems(received: &[Received], bin_ns: i64) -> Vec<String> {
    let swaps = swaps(received);
    let &[at] = &swaps[..] else {
        return vec![format!("the hash of the model changed {} times, not once", swaps.len())];
    };
    let (last, first) = (&received[at - 1], &received[at]);
    let (last_bin, bin) = (last.header.bin_index, first.header.bin_index);
    let mut problems = Vec::new();
    if bin != last_bin + 1 {
        problems.push(format!(
            "the new model's first bin is {bin}, and the former's last {last_bin}"
        ));
    }
    // Behind before its first prediction, it has none to hold.
    let skipped = first.has(flags::SKIPPED);
    let excused = if skipped { flags::NEUTRAL } else { 0 };
    let wrong = first.header.flags & NOT_THE_MODELS & !excused;
    if wrong != 0 {
        problems.push(format!("the new model's first prediction, bin {bin}: {}", names(wrong)));
    }
    // The quickest bins close last: a decode that began before half a bin had gone by was not behind.
    let since_close = |offset_ns| first.header.decode_start_ns - first.header.bin_end_ns - offset_ns;
    let began_in_time = offset_ns(received).is_some_and(|offset_ns| since_close(offset_ns) < bin_ns / 2);
    if skipped && began_in_time {
        problems.push(format!(
            "the new model's first bin, {bin}, began in time and was skipped"
        ));
    }
    if first.has(flags::HELD) {
        problems.push(format!(
            "the new model's first bin, {bin}, is what the former predicted, held"
        ));
    }
    problems
}

/// Bins beside the swap that were kept waiting, in a run in which no other was; see the head of this page.
pub fn kept_waiting(received: &[Received]) -> Vec<String> {
    let Some(&at) = swaps(received).first() else {
        return Vec::new();
    };
    let mut elsewhere = received[..at - 1].iter().chain(&received[at + 1..]);
    if elsewhere.any(|one| one.has(KEPT_WAITING)) {
        return Vec::new();
    }
    let beside = received[at - 1..=at].iter().filter(|one| one.has(KEPT_WAITING));
    let told = |one: &Received| {
        let flags = names(one.header.flags & KEPT_WAITING);
        format!(
            "bin {} beside the swap, and no other of the run: {flags}",
            one.header.bin_index
        )
    };
    beside.map(told).collect()
}

#[cfg(test)]
mod tests {
    use neurohorizon::pipeline::message::MessageHeader;

    use super::*;

    const BIN_NS: i64 = 20_000_000;
    /// The first bin of the new model.
    const NEW: usize = 60;

    /// A hundred bins, the last forty by another model.
    fn after(change: impl FnOnce(&mut Vec<Received>)) -> Vec<String> {
        let one = |bin: i64| {
            let mut header = MessageHeader::new(if bin < NEW as i64 { 7 } else { 8 }, 12, 4);
            header.bin_index = bin;
            header.bin_end_ns = (bin + 1) * BIN_NS;
            header.ingest_ns = header.bin_end_ns + 700;
            header.decode_start_ns = header.ingest_ns + 50_000;
            Received {
                header,
                at_ns: header.decode_start_ns + 5_000_000,
                array_is_sound: true,
            }
        };
        let mut received = (0..100).map(one).collect();
        change(&mut received);
        [problems(&received, BIN_NS), kept_waiting(&received)].concat()
    }

    #[test]
    fn a_swap_without_fault_has_no_problem() {
        assert_eq!(after(|_| ()), [""; 0]);
        // Spikes that were late are no matter of the model.
        assert_eq!(after(|all| all[NEW].header.flags = flags::SPIKES_LATE), [""; 0]);
    }

    #[test]
    fn a_run_without_a_swap_or_with_more_is_found() {
        for (model, times) in [(7, "0 times"), (9, "2 times")] {
            let found = after(|all| {
                all[NEW + 20 * usize::from(model == 9)..]
                    .iter_mut()
                    .for_each(|one| one.header.model_hash = model)
            });
            assert!(matches!(&found[..], [one] if one.contains(times)), "{found:?}");
        }
    }

    #[test]
    fn a_bin_between_the_models_that_is_missing_is_found() {
        let found = after(|all| {
            all.remove(NEW);
        });
        assert!(
            matches!(&found[..], [one] if one.contains("first bin is 61, and the former's last 59")),
            "{found:?}"
        );
    }

    #[test]
    fn a_first_prediction_that_is_not_the_models_is_found_however_busy_the_machine() {
        for flag in [
            flags::NEUTRAL,
            flags::SHORTENED,
            flags::MODEL_FAILED,
            flags::CALIBRATING,
        ] {
            let found = after(|all| {
                all[20].header.flags = KEPT_WAITING;
                all[NEW].header.flags = flag;
            });
            assert!(matches!(&found[..], [one] if one.contains(&names(flag))), "{found:?}");
        }
    }

    #[test]
    fn a_bin_that_is_skipped_beside_a_swap_counts_against_it_unless_the_machine_held_others() {
        let skipped = |late_ns: i64, elsewhere: u32| {
            after(|all| {
                all[20].header.flags = elsewhere;
                all[NEW].header.flags = flags::NEUTRAL | flags::SKIPPED;
                all[NEW].header.decode_start_ns += late_ns;
            })
        };
        let alone = skipped(BIN_NS, 0);
        assert!(
            matches!(&alone[..], [one] if one.contains("bin 60 beside the swap, and no other")),
            "{alone:?}"
        );
        assert_eq!(skipped(BIN_NS, flags::HELD | flags::SKIPPED), [""; 0]);
        // There was time for it: no machine explains that.
        let in_time = skipped(0, flags::HELD | flags::SKIPPED);
        assert!(
            matches!(&in_time[..], [one] if one.contains("began in time and was skipped")),
            "{in_time:?}"
        );
        let formers = after(|all| {
            all[20].header.flags = KEPT_WAITING;
            all[NEW].header.flags = flags::HELD;
        });
        assert!(
            matches!(&formers[..], [one] if one.contains("what the former predicted")),
            "{formers:?}"
        );
        let before = after(|all| all[NEW - 1].header.flags = flags::MISSED_DEADLINE);
        assert!(
            matches!(&before[..], [one] if one.contains("bin 59 beside the swap")),
            "{before:?}"
        );
    }
}
