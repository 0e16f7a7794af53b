//! Every check of the ledger, on books that it is to find wrong.

use neurohorizon::pipeline::message::{flags, MessageHeader};

use super::ledger::*;
use super::record::Received;

const MS: i64 = 1_000_000;
const TERMS: Terms = Terms {
    bin_ns: 5 * MS,
    deadline_ns: 6 * MS,
};

/// A hundred bins with two spikes each, published 50 µs after their close.
fn run() -> (Vec<Received>, Sent, Counted) {
    let one = |bin: i64| {
        let mut header = MessageHeader::new(1, 12, 4);
        header.sequence = bin as u64;
        header.bin_index = bin + 20;
        header.bin_end_ns = (bin + 21) * 5 * MS;
        header.ingest_ns = 700 * MS + header.bin_end_ns;
        header.decode_start_ns = header.ingest_ns + 10_000;
        header.decode_end_ns = header.ingest_ns + 30_000;
        header.publish_ns = header.ingest_ns + 50_000;
        header.spikes_in = 2;
        Received {
            header,
            at_ns: header.publish_ns + 30_000,
            array_is_sound: true,
        }
    };
    let sent = Sent {
        spikes: 203,
        packets: 203,
        most_in_a_packet: 1,
        unsent: 0,
    };
    let counted = Counted {
        on_the_wire: 203,
        offered: 203,
        binned: 200,
        left_open: 3,
        published: 100,
        ..Counted::default()
    };
    ((0..100).map(one).collect(), sent, counted)
}

fn problems(change: impl FnOnce(&mut Vec<Received>, &mut Sent, &mut Counted)) -> Vec<String> {
    let (mut received, mut sent, mut counted) = run();
    change(&mut received, &mut sent, &mut counted);
    Ledger::of(&received, sent, counted, TERMS).problems
}

fn found(problems: &[String], what: &str) {
    assert!(
        problems.iter().any(|problem| problem.contains(what)),
        "{what}: {problems:?}"
    );
}

#[test]
fn a_run_without_fault_has_no_problem() {
    assert_eq!(problems(|_, _, _| ()), [""; 0]);
}

#[test]
fn a_bin_that_comes_twice_is_found() {
    found(
        &problems(|received, _, _| received.insert(50, received[49])),
        "twice or out of order (1): bin 69 after bin 69",
    );
}

#[test]
fn bins_in_another_order_are_found() {
    found(&problems(|received, _, _| received.swap(3, 4)), "twice or out of order");
}

#[test]
fn a_bin_that_does_not_come_is_found_with_and_without_a_gap_in_the_sequence() {
    let lost = problems(|received, _, _| {
        received.remove(50);
    });
    found(&lost, "not published (1): between 69 and 71");
    found(&lost, "gaps in the sequence");
    found(&lost, "100 predictions published, but 99 received");
    let hidden = problems(|received, _, _| {
        received.remove(50);
        received[50..].iter_mut().for_each(|one| one.header.sequence -= 1);
    });
    found(&hidden, "not published (1)");
}

#[test]
fn the_first_bins_cannot_be_lost_unnoticed() {
    found(
        &problems(|received, _, _| {
            received.remove(0);
        }),
        "first prediction has the sequence number 1",
    );
}

#[test]
fn a_late_bin_without_the_flag_is_found_and_so_is_a_flag_without_cause() {
    let late = |flag: bool| {
        problems(|received, _, counted| {
            let one = &mut received[30];
            one.header.publish_ns += 14 * MS;
            one.at_ns += 14 * MS;
            if flag {
                one.header.flags |= flags::MISSED_DEADLINE;
                counted.missed_deadline = 1;
            }
        })
    };
    found(&late(false), "late without the flag (1): bin 50 by 8050 µs");
    assert_eq!(late(true), [""; 0]);
    let blamed = problems(|received, _, _| received[30].header.flags |= flags::MISSED_DEADLINE);
    found(&blamed, "flagged as late and in time (1): bin 50");
    found(
        &blamed,
        "0 predictions missed the deadline by the summary, and 1 by their flags",
    );
}

#[test]
fn a_clock_that_is_fixed_anew_makes_no_bin_late_and_hides_none() {
    // The device comes with bin 60 of the run: from there on bins close 30 ms earlier by the host's clock.
    let coming = |late: usize| {
        problems(|received, _, _| {
            for (index, one) in received.iter_mut().enumerate() {
                if index < 40 {
                    one.header.flags |= flags::SOURCE_AWAY;
                    one.header.ingest_ns += 30 * MS;
                    one.header.decode_start_ns += 30 * MS;
                    one.header.decode_end_ns += 30 * MS;
                    one.header.publish_ns += 30 * MS;
                    one.at_ns += 30 * MS;
                }
            }
            received[late].header.publish_ns += 14 * MS * i64::from(late > 0);
            received[late].at_ns += 14 * MS * i64::from(late > 0);
        })
    };
    assert_eq!(coming(0), [""; 0]);
    found(&coming(20), "late without the flag (1): bin 40");
    found(&coming(70), "late without the flag (1): bin 90");
}

#[test]
fn a_spike_that_is_missing_is_found_wherever_it_was_lost() {
    found(
        &problems(|_, sent, _| sent.spikes += 1),
        "204 spikes sent, but 203 came",
    );
    found(
        &problems(|_, sent, _| sent.spikes -= 1),
        "202 spikes sent, but 203 came",
    );
    found(
        &problems(|_, _, counted| counted.left_open -= 1),
        "203 spikes came into the run, but 202",
    );
    found(
        &problems(|received, _, _| received[9].header.spikes_in = 1),
        "199 spikes in bins by the messages, and 200 by the summary",
    );
}

#[test]
fn a_packet_that_was_lost_is_no_problem_where_it_is_told_and_one_that_was_not_is() {
    let lost = |packets| {
        problems(|_, sent, counted| {
            sent.spikes += 1;
            counted.lost_packets = packets;
        })
    };
    assert_eq!(lost(1), [""; 0]);
    found(&lost(2), "2 packets are said to be lost");
    found(
        &problems(|_, _, counted| counted.lost_packets = 1),
        "1 packets are said to be lost, and none was",
    );
}

#[test]
fn late_and_refused_spikes_have_their_flags() {
    let late = |flag| {
        problems(|received, _, counted| {
            received[5].header.spikes_in = 1;
            received[5].header.spikes_late = 1;
            received[5].header.flags = flag;
            (counted.binned, counted.late) = (199, 1);
        })
    };
    assert_eq!(late(flags::SPIKES_LATE), [""; 0]);
    found(&late(0), "1 predictions count late spikes, and 0 have the flag");
}

#[test]
fn numbers_that_are_not_finite_and_stamps_that_run_backwards_are_found() {
    found(
        &problems(|received, _, _| received[5].array_is_sound = false),
        "not finite (1): bin 25",
    );
    found(
        &problems(|received, _, _| received[5].at_ns = received[5].header.publish_ns - 1),
        "backwards (1): bin 25",
    );
}

#[test]
fn nothing_received_is_a_problem() {
    found(
        &problems(|received, _, _| received.clear()),
        "no prediction was received",
    );
}
