//! The layouts of `.npz` recordings, on archives small enough to know every answer.

use super::super::{DataError, Interval, LoadOptions, Recording, Trial};
use super::{npy, npy_f64, npy_i32, npz, read};

const S: i64 = 1_000_000_000;

/// The message of a refusal.
fn refusal(arrays: &[(&str, Vec<u8>)]) -> String {
    read(arrays).expect_err("the archive was accepted").to_string()
}

/// Spikes of each unit in each of the bins that start at `starts`.
fn counts_in(recording: &Recording, starts: &[i64], bin_ns: i64) -> Vec<Vec<u64>> {
    let count = |&start: &i64| {
        let mut counts = vec![0; recording.n_units()];
        for spike in recording.spikes_between(start, start + bin_ns) {
            counts[recording.spike_units[spike] as usize] += 1;
        }
        counts
    };
    starts.iter().map(count).collect()
}

#[test]
fn events_name_units_by_cluster() {
    let recording = read(&[
        ("spike_times", npy_f64(&[4], &[0.5, 0.25, 0.75, -0.125])),
        ("spike_units", npy("<u2", &[4], &[7, 0, 3, 0, 7, 0, 0xf3, 1])),
    ])
    .unwrap();
    assert_eq!(recording.unit_ids, ["unit0003", "unit0007", "unit0499"]);
    assert_eq!(recording.spike_times_ns, [-S / 8, S / 4, S / 2, 3 * S / 4]);
    assert_eq!(recording.spike_units, [2, 0, 1, 1]);
    assert_eq!(
        recording.intervals,
        [Interval {
            start_ns: -S / 8,
            end_ns: 3 * S / 4 + 1
        }]
    );
    assert!(
        recording.notes.iter().any(|note| note.contains("2 of 4 came before")),
        "{:?}",
        recording.notes
    );
    assert!(recording
        .notes
        .iter()
        .any(|note| note.contains("1 of 4 spike times are negative")));
}

#[test]
fn events_with_declared_units_duration_and_behaviour() {
    let recording = read(&[
        ("spike_times", npy_f64(&[1], &[1.5])),
        ("spike_units", npy_i32(&[1], &[1])),
        ("n_units", npy_i32(&[], &[3])),
        ("duration_s", npy_f64(&[], &[2.0])),
        ("position_time_s", npy_f64(&[2], &[0.5, 0.25])),
        ("position_px", npy("<u2", &[2, 2], &[1, 0, 2, 0, 3, 0, 4, 0])),
        ("p10_times", npy_f64(&[2], &[0.1, 0.2])),
        ("W", npy_f64(&[1], &[0.0])),
    ])
    .unwrap();
    assert_eq!(recording.unit_ids, ["unit0000", "unit0001", "unit0002"]);
    assert_eq!(
        (recording.start_ns, recording.end_ns, recording.observed_ns()),
        (0, 2 * S, 2 * S)
    );
    let position = recording
        .behaviour
        .iter()
        .find(|series| series.name == "position")
        .unwrap();
    assert_eq!((position.unit.as_str(), position.channels), ("px", 2));
    assert_eq!(
        (position.times_ns.clone(), position.values.clone()),
        (vec![S / 4, S / 2], vec![3.0, 4.0, 1.0, 2.0])
    );
    let nerve = recording.behaviour.iter().find(|series| series.name == "p10").unwrap();
    assert_eq!((nerve.times_ns.clone(), nerve.channels), (vec![S / 10, S / 5], 0));
    assert!(
        recording
            .notes
            .iter()
            .any(|note| note == "arrays that were not read: W"),
        "{:?}",
        recording.notes
    );
}

#[test]
fn ticks_need_their_rate() {
    let ticks = ("spike_times", npy_i32(&[2], &[1, 30_001]));
    let units = ("spike_units", npy_i32(&[2], &[0, 0]));
    assert!(refusal(&[ticks.clone(), units.clone()]).contains("sampling_rate_hz"));
    let recording = read(&[ticks, units, ("sampling_rate_hz", npy_f64(&[], &[30_000.0]))]).unwrap();
    assert_eq!(recording.spike_times_ns, [33_333, S + 33_333]);
}

#[test]
fn bad_events_are_refused_by_name_and_index() {
    let times = |values: &[f64]| ("spike_times", npy_f64(&[values.len()], values));
    let units = |values: &[i32]| ("spike_units", npy_i32(&[values.len()], values));
    let cases = [
        (
            refusal(&[times(&[0.0, f64::NAN]), units(&[0, 0])]),
            "spike_times has a bad time at index 1: it is NaN",
        ),
        (
            refusal(&[times(&[1e300]), units(&[0])]),
            "spike_times has a bad time at index 0",
        ),
        (
            refusal(&[times(&[0.0]), units(&[0, 1])]),
            "spike_times has 1 elements and spike_units has 2",
        ),
        (refusal(&[times(&[0.0]), units(&[-1])]), "spike_units has -1 at index 0"),
        (
            refusal(&[times(&[0.0]), units(&[3]), ("n_units", npy_i32(&[], &[3]))]),
            "index 0, but n_units is 3",
        ),
        (
            refusal(&[times(&[0.0]), units(&[0]), ("n_units", npy_f64(&[], &[1e18]))]),
            "n_units is 1000000000000000000",
        ),
        (
            refusal(&[times(&[0.0]), units(&[0]), ("duration_s", npy_f64(&[], &[-1.0]))]),
            "duration_s is -1",
        ),
        (refusal(&[times(&[0.0])]), "array spike_units is missing"),
        (
            refusal(&[("spike_times", b"text".to_vec()), units(&[0])]),
            "array spike_times is not a .npy array",
        ),
        (refusal(&[("other", npy_i32(&[], &[0]))]), "\"other\""),
        (refusal(&[times(&[]), units(&[])]), "made.npz holds no spikes"),
    ];
    for (message, words) in cases {
        assert!(
            message.starts_with("made.npz") && message.contains(words),
            "{message:?} lacks {words:?}"
        );
    }
}

#[test]
fn a_refusal_is_one_line_whatever_it_quotes() {
    let message = refusal(&[("tw\no", npy_i32(&[], &[0]))]);
    assert!(message.contains("\"tw\\no\"") && !message.contains('\n'), "{message:?}");
}

#[test]
fn neither_zip_nor_hdf5() {
    let error = Recording::from_bytes("notes.txt", b"hello", &LoadOptions::default()).unwrap_err();
    assert!(
        matches!(&error, DataError::UnknownFormat { name } if name == "notes.txt"),
        "{error}"
    );
}

#[test]
fn counts_come_back_when_binned_again() {
    let counts: Vec<i32> = (0..40).map(|cell| cell * 7 % 5).collect();
    let arrays = [
        ("counts", npy_i32(&[20, 2], &counts)),
        ("bin_s", npy_f64(&[], &[0.05])),
        // Rounded to a millisecond, and with one hole of ten bins before bin 10.
        (
            "time_s",
            npy_f64(
                &[20],
                &std::array::from_fn::<f64, 20, _>(|bin| {
                    12.591
                        + 0.05 * bin as f64
                        + if bin % 2 == 0 { 0.0004 } else { 0.0 }
                        + if bin < 10 { 0.0 } else { 0.5 }
                }),
            ),
        ),
        (
            "hand_vel_m_s",
            npy_f64(&[20, 2], &std::array::from_fn::<f64, 40, _>(|index| index as f64)),
        ),
    ];
    let recording = read(&arrays).unwrap();
    let first = 12_591_400_000;
    let bin = S / 20;
    let starts: Vec<i64> = (0..20)
        .map(|index| first + bin * (index + if index < 10 { 0 } else { 10 }))
        .collect();
    let expected: Vec<Vec<u64>> = counts
        .chunks(2)
        .map(|row| row.iter().map(|&count| count as u64).collect())
        .collect();
    assert_eq!(counts_in(&recording, &starts, bin), expected);
    // Cell 0 is empty and cell 1 is not: the first spike lies in the first bin, and so does the grid's origin.
    assert_eq!(
        (recording.count_bin_ns, recording.grid_origin_ns()),
        (Some(bin), Some(first))
    );
    let after_the_hole = recording.count_bin_of(starts[12] + bin - 1).map(|bin| bin.start_ns);
    assert_eq!(after_the_hole, Some(starts[12]));
    let part = |from: i64| Interval {
        start_ns: first + from * bin,
        end_ns: first + (from + 10) * bin,
    };
    assert_eq!(recording.intervals, [part(0), part(20)]);
    let velocity = &recording.behaviour[0];
    assert_eq!((velocity.name.as_str(), velocity.unit.as_str()), ("hand_vel", "m/s"));
    assert_eq!(
        (velocity.times_ns[1], velocity.row(1)),
        (first + bin + bin / 2, &[2.0, 3.0][..])
    );
}

#[test]
fn spreading_is_seeded() {
    let arrays = [("counts", npy_i32(&[2, 1], &[9, 9])), ("bin_s", npy_f64(&[], &[0.1]))];
    let bytes = npz(&arrays, zip::CompressionMethod::Stored);
    let with_seed = |spread_seed| Recording::from_bytes("x", &bytes, &LoadOptions { spread_seed }).unwrap();
    assert_eq!(with_seed(1), with_seed(1));
    assert_ne!(with_seed(1).spike_times_ns, with_seed(2).spike_times_ns);
}

#[test]
fn trials_lie_apart_and_a_bin_left_out_is_a_hole() {
    let recording = read(&[
        ("counts", npy_i32(&[5, 1], &[1, 2, 0, 3, 1])),
        ("bin_s", npy_f64(&[], &[0.1])),
        ("trial", npy_i32(&[5], &[4, 4, 4, 9, 9])),
        ("bin_in_trial", npy_i32(&[5], &[1, 2, 4, 0, 1])),
        ("target", npy_i32(&[5], &[6, 6, 6, 2, 2])),
    ])
    .unwrap();
    let second = 500_000_000 + S;
    assert_eq!(
        recording.trials,
        [
            Trial {
                start_ns: 0,
                end_ns: 500_000_000,
                condition: Some(6)
            },
            Trial {
                start_ns: second,
                end_ns: second + 200_000_000,
                condition: Some(2)
            },
        ]
    );
    let interval = |start_ns, end_ns| Interval { start_ns, end_ns };
    assert_eq!(
        recording.intervals,
        [
            interval(100_000_000, 300_000_000),
            interval(400_000_000, 500_000_000),
            interval(second, second + 200_000_000)
        ]
    );
    let starts = [100_000_000, 200_000_000, 400_000_000, second, second + 100_000_000];
    assert_eq!(counts_in(&recording, &starts, 100_000_000), [[1], [2], [0], [3], [1]]);
}

#[test]
fn trial_tensor_holds_out_repeats_last() {
    // Two conditions × two repeats × two bins × one unit; the counts are 1 to 8 in the file's order.
    let recording = read(&[
        ("spikes", npy("|u1", &[2, 2, 2, 1], &[1, 2, 3, 4, 5, 6, 7, 8])),
        ("dt", npy_f64(&[], &[0.01])),
        ("rates_hz", npy_f64(&[2, 2, 1], &[10.0, 20.0, 30.0, 40.0])),
    ])
    .unwrap();
    let conditions: Vec<_> = recording.trials.iter().map(|trial| trial.condition).collect();
    assert_eq!(conditions, [Some(0), Some(1), Some(0), Some(1)]);
    let bin = S / 100;
    let starts: Vec<i64> = recording
        .trials
        .iter()
        .flat_map(|trial| [trial.start_ns, trial.start_ns + bin])
        .collect();
    assert_eq!(
        counts_in(&recording, &starts, bin),
        [[1], [2], [5], [6], [3], [4], [7], [8]]
    );
    assert_eq!(
        recording.behaviour[0].values,
        [10.0, 20.0, 30.0, 40.0, 10.0, 20.0, 30.0, 40.0]
    );
    assert_eq!(
        recording.behaviour[0].times_ns[2],
        recording.trials[1].start_ns + bin / 2
    );
    assert_eq!(recording.observed_ns(), 8 * bin);
}

#[test]
fn bad_counts_are_refused_by_name_and_index() {
    let counts = ("counts", npy_i32(&[2, 1], &[1, 1]));
    let bin = ("bin_s", npy_f64(&[], &[0.1]));
    let cases = [
        (
            refusal(&[("counts", npy_i32(&[2], &[1, 1])), bin.clone()]),
            "not bins × units",
        ),
        (
            refusal(&[("counts", npy_i32(&[2, 1], &[1, -1])), bin.clone()]),
            "counts has -1 at index 1",
        ),
        (
            refusal(&[("counts", npy_f64(&[1, 1], &[0.5])), bin.clone()]),
            "counts has 0.5 at index 0",
        ),
        (refusal(std::slice::from_ref(&counts)), "array bin_s is missing"),
        (
            refusal(&[counts.clone(), ("bin_s", npy_f64(&[], &[0.0]))]),
            "bin_s is 0, not a bin width",
        ),
        (
            refusal(&[counts.clone(), bin.clone(), ("trial", npy_i32(&[3], &[0, 0, 0]))]),
            "trial has shape [3]",
        ),
        (
            refusal(&[
                counts.clone(),
                bin.clone(),
                ("trial", npy_i32(&[2], &[0, 0])),
                ("bin_in_trial", npy_i32(&[2], &[3, 3])),
            ]),
            "bin_in_trial has 3 at index 1",
        ),
        (
            refusal(&[counts, bin.clone(), ("time_s", npy_f64(&[2], &[1.0, 0.0]))]),
            "time_s steps by less",
        ),
        (
            refusal(&[("counts", npy_i32(&[2, 1], &[0, 0])), bin]),
            "holds no spikes",
        ),
        (
            refusal(&[("spikes", npy_i32(&[1, 1], &[0]))]),
            "not conditions × repeats × bins × units",
        ),
    ];
    for (message, words) in cases {
        assert!(
            message.starts_with("made.npz") && message.contains(words),
            "{message:?} lacks {words:?}"
        );
    }
}
