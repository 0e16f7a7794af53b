//! NWB files made here: every table that is read, and what is refused.

use hdf5_pure::{AttrValue, FileBuilder};

use super::super::{Epoch, Interval, LoadOptions, Recording, Trial};

const S: i64 = 1_000_000_000;

struct Units<'a> {
    ids: &'a [i64],
    times: &'a [f64],
    index: &'a [u8],
    /// Start and stop of each interval, and the ends of each unit's.
    observed: Option<(&'a [f64], &'a [u8])>,
}

const TWO_UNITS: Units = Units {
    ids: &[5, 2],
    times: &[0.5, 0.25, 1.0],
    index: &[2, 3],
    observed: None,
};

fn file_with(units: &Units, more: impl FnOnce(&mut FileBuilder)) -> Vec<u8> {
    let mut file = FileBuilder::new();
    let mut table = file.create_group("units");
    table.create_dataset("id").with_i64_data(units.ids);
    table.create_dataset("spike_times").with_f64_data(units.times);
    table.create_dataset("spike_times_index").with_data(units.index);
    if let Some((bounds, ends)) = units.observed {
        table
            .create_dataset("obs_intervals")
            .with_f64_data(bounds)
            .with_shape(&[bounds.len() as u64 / 2, 2]);
        table.create_dataset("obs_intervals_index").with_data(ends);
    }
    file.add_group(table.finish());
    more(&mut file);
    file.finish().expect("a file in memory")
}

fn read(units: &Units) -> Result<Recording, String> {
    read_bytes(&file_with(units, |_| {}))
}

fn read_bytes(bytes: &[u8]) -> Result<Recording, String> {
    Recording::from_bytes("made.nwb", bytes, &LoadOptions::default()).map_err(|error| error.to_string())
}

#[test]
fn units_are_merged_in_time() {
    let recording = read(&TWO_UNITS).unwrap();
    assert_eq!(recording.unit_ids, ["unit0005", "unit0002"]);
    assert_eq!(recording.spike_times_ns, [S / 4, S / 2, S]);
    assert_eq!(recording.spike_units, [0, 0, 1]);
    assert!(recording.notes[0].starts_with("sorted 1 of 3"), "{:?}", recording.notes);
}

#[test]
fn observed_is_what_every_unit_shares() {
    let observed = Some((&[0.0, 1.0, 2.0, 3.0, 0.5, 2.5][..], &[2u8, 3][..]));
    let recording = read(&Units { observed, ..TWO_UNITS }).unwrap();
    let interval = |start_ns, end_ns| Interval { start_ns, end_ns };
    assert_eq!(
        recording.intervals,
        [interval(S / 2, S + 1), interval(2 * S, 5 * S / 2 + 1)]
    );
    assert!(
        recording.notes.iter().any(|note| note.contains("differ")),
        "{:?}",
        recording.notes
    );
    assert!(recording
        .notes
        .iter()
        .any(|note| note.starts_with("1 of 3 spikes lie outside")));
}

#[test]
fn intervals_and_behaviour() {
    let bytes = file_with(&TWO_UNITS, |file| {
        let mut intervals = file.create_group("intervals");
        let mut trials = intervals.create_group("trials");
        trials.create_dataset("start_time").with_f64_data(&[0.5, 0.0, 0.75]);
        trials.create_dataset("stop_time").with_f64_data(&[0.75, 0.5, f64::NAN]);
        trials.create_dataset("target").with_i64_data(&[3, 4, 5]);
        trials.create_dataset("reward").with_f64_data(&[0.0, 1.0, 0.0]);
        intervals.add_group(trials.finish());
        let mut invalid = intervals.create_group("invalid_times");
        invalid.create_dataset("start_time").with_f64_data(&[0.6]);
        invalid.create_dataset("stop_time").with_f64_data(&[0.7]);
        intervals.add_group(invalid.finish());
        let mut epochs = intervals.create_group("epochs");
        epochs.create_dataset("start_time").with_f64_data(&[0.0]);
        epochs.create_dataset("stop_time").with_f64_data(&[1.0]);
        epochs.create_dataset("tags").with_vlen_strings(&["track", "fast"]);
        epochs.create_dataset("tags_index").with_data(&[2u8]);
        intervals.add_group(epochs.finish());
        file.add_group(intervals.finish());

        let mut processing = file.create_group("processing");
        let mut behavior = processing.create_group("behavior");
        let mut wheel = behavior.create_group("wheel");
        let data = wheel.create_dataset("data").with_data(&[1i16, 2, 3]);
        data.set_attr("conversion", AttrValue::F64(0.5));
        data.set_attr("offset", AttrValue::F64(10.0));
        data.set_attr("unit", AttrValue::String("rad".into()));
        wheel
            .create_dataset("starting_time")
            .with_f64_data(&[2.0])
            .set_attr("rate", AttrValue::F32(4.0));
        behavior.add_group(wheel.finish());
        processing.add_group(behavior.finish());
        file.add_group(processing.finish());
    });
    let recording = read_bytes(&bytes).unwrap();
    assert_eq!(
        recording.trials,
        [
            Trial {
                start_ns: 0,
                end_ns: S / 2,
                condition: Some(4)
            },
            Trial {
                start_ns: S / 2,
                end_ns: 3 * S / 4,
                condition: Some(3)
            }
        ]
    );
    assert_eq!(
        recording.epochs,
        [Epoch {
            start_ns: 0,
            end_ns: S,
            label: "track, fast".to_owned()
        }]
    );
    let cut = [(S / 4, 3 * S / 5), (7 * S / 10, S + 1)].map(|(start_ns, end_ns)| Interval { start_ns, end_ns });
    assert_eq!(recording.intervals, cut);
    let wheel = &recording.behaviour[0];
    assert_eq!(
        (wheel.name.as_str(), wheel.unit.as_str(), wheel.channels),
        ("wheel", "rad", 1)
    );
    assert_eq!(wheel.values, [10.5, 11.0, 11.5]);
    assert_eq!(wheel.times_ns, [2 * S, 2 * S + S / 4, 2 * S + S / 2]);
    for words in [
        "1 of 3 rows of intervals/trials",
        "intervals/trials that were not read: reward",
    ] {
        assert!(
            recording.notes.iter().any(|note| note.contains(words)),
            "{:?} lacks {words:?}",
            recording.notes
        );
    }
}

#[test]
fn malformed_tables_are_refused_by_name() {
    let cases = [
        (
            Units {
                index: &[3, 2],
                ..TWO_UNITS
            },
            "units/spike_times_index falls from 3 to 2 in row 1",
        ),
        (
            Units {
                index: &[2, 4],
                ..TWO_UNITS
            },
            "units/spike_times_index points to 4 in row 1",
        ),
        (
            Units {
                index: &[3],
                ..TWO_UNITS
            },
            "units/spike_times_index has 1 elements",
        ),
        (
            Units {
                ids: &[1, 1],
                ..TWO_UNITS
            },
            "units/id has the id 1 twice",
        ),
        (
            Units {
                ids: &[1, -1],
                ..TWO_UNITS
            },
            "units/id has the negative id -1",
        ),
        (
            Units {
                times: &[0.0, f64::INFINITY, 1.0],
                ..TWO_UNITS
            },
            "units/spike_times has a bad time at index 1",
        ),
        (
            Units {
                observed: Some((&[0.0, f64::NAN], &[1, 1])),
                ..TWO_UNITS
            },
            "units/obs_intervals has a bad time in row 0",
        ),
    ];
    for (units, words) in cases {
        let message = read(&units).unwrap_err();
        assert!(
            message.starts_with("made.nwb: ") && message.contains(words),
            "{message:?} lacks {words:?}"
        );
    }
    let mut empty = FileBuilder::new();
    empty.create_dataset("x").with_f64_data(&[0.0]);
    assert!(read_bytes(&empty.finish().unwrap())
        .unwrap_err()
        .contains("no table of units"));
    let silent = Units {
        times: &[],
        index: &[0, 0],
        ..TWO_UNITS
    };
    assert_eq!(read(&silent).unwrap_err(), "made.nwb holds no spikes");
}
