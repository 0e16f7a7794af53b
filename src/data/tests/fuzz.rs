//! Damaged input: whatever the bytes are, the answer is a recording or an error, never a panic.
//!
//! The ordinary run is short. `NEUROHORIZON_FUZZ_CASES=1000000 cargo test --release damaged` is the long one.

use hdf5_pure::FileBuilder;
use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};

use super::super::npy::NpyArray;
use super::super::{LoadOptions, Recording};
use super::{npy, npy_f64, npy_i32, npz, shared};

/// Runs a property on seeded inputs: `ordinary` of them, or as many as the environment asks for.
fn check<S: Strategy>(ordinary: u32, strategy: S, property: impl Fn(S::Value)) {
    let cases = std::env::var("NEUROHORIZON_FUZZ_CASES")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(ordinary);
    let config = Config {
        cases,
        failure_persistence: None,
        ..Config::default()
    };
    let mut runner = TestRunner::new_with_rng(config, TestRng::deterministic_rng(RngAlgorithm::ChaCha));
    let result = runner.run(&strategy, |value| {
        property(value);
        Ok(())
    });
    result.unwrap_or_else(|failure| panic!("{failure}"));
}

/// A recording that was read keeps its promises; a refusal is one sentence.
fn check_answer(bytes: &[u8]) {
    match Recording::from_bytes("damaged", bytes, &LoadOptions::default()) {
        Ok(recording) => {
            assert!(recording.n_spikes() > 0 && recording.spike_units.len() == recording.n_spikes());
            assert!(recording.spike_times_ns.is_sorted());
            assert!(recording
                .spike_units
                .iter()
                .all(|&unit| (unit as usize) < recording.n_units()));
            assert!(recording.spikes_between(recording.start_ns, recording.end_ns) == (0..recording.n_spikes()));
            for series in &recording.behaviour {
                assert!(series.times_ns.is_sorted());
                assert_eq!(series.values.len(), series.len() * series.channels);
            }
        }
        Err(error) => assert!(!error.to_string().contains('\n'), "{error}"),
    }
}

/// One way of damaging bytes.
#[derive(Debug, Clone)]
enum Damage {
    Flip(Index, u8),
    Set(Index, u8),
    Truncate(Index),
    Insert(Index, Vec<u8>),
    Repeat(Index, Index),
}

impl Damage {
    fn strategy() -> impl Strategy<Value = Damage> {
        prop_oneof![
            4 => (any::<Index>(), 0..8u8).prop_map(|(at, bit)| Damage::Flip(at, 1 << bit)),
            4 => (any::<Index>(), any::<u8>()).prop_map(|(at, byte)| Damage::Set(at, byte)),
            1 => any::<Index>().prop_map(Damage::Truncate),
            1 => (any::<Index>(), prop::collection::vec(any::<u8>(), 1..8)).prop_map(|(at, new)| Damage::Insert(at, new)),
            1 => (any::<Index>(), any::<Index>()).prop_map(|(from, to)| Damage::Repeat(from, to)),
        ]
    }

    fn apply(&self, bytes: &mut Vec<u8>) {
        if bytes.is_empty() {
            return;
        }
        let n = bytes.len();
        match self {
            Damage::Flip(at, bit) => bytes[at.index(n)] ^= bit,
            Damage::Set(at, byte) => bytes[at.index(n)] = *byte,
            Damage::Truncate(at) => bytes.truncate(at.index(n)),
            Damage::Insert(at, new) => {
                let at = at.index(n);
                bytes.splice(at..at, new.iter().copied());
            }
            Damage::Repeat(from, to) => {
                let (from, to) = (from.index(n), to.index(n));
                let copy = bytes[from.min(to)..from.max(to)].to_vec();
                bytes.extend(copy);
            }
        }
    }
}

fn damages() -> impl Strategy<Value = Vec<Damage>> {
    prop::collection::vec(Damage::strategy(), 1..6)
}

/// A small archive of each layout.
fn archives() -> Vec<Vec<(&'static str, Vec<u8>)>> {
    let counts: [i32; 24] = std::array::from_fn(|cell| cell as i32 % 3);
    vec![
        vec![
            ("spike_times", npy_f64(&[6], &[0.1, 0.2, 0.2, 0.3, 0.4, 0.45])),
            ("spike_units", npy("<u2", &[6], &[1, 0, 0, 0, 2, 0, 1, 0, 2, 0, 1, 0])),
            ("n_units", npy_i32(&[], &[3])),
            ("duration_s", npy_f64(&[], &[0.5])),
            ("position_time_s", npy_f64(&[2], &[0.0, 0.5])),
            ("position_px", npy_i32(&[2, 2], &[1, 2, 3, 4])),
            ("p10_times", npy_f64(&[2], &[0.1, 0.3])),
        ],
        vec![
            ("counts", npy_i32(&[6, 4], &counts)),
            ("bin_s", npy_f64(&[], &[0.1])),
            ("trial", npy_i32(&[6], &[0, 0, 0, 1, 1, 1])),
            ("bin_in_trial", npy_i32(&[6], &[0, 1, 2, 0, 2, 3])),
            ("target", npy_i32(&[6], &[7, 7, 7, 1, 1, 1])),
            ("vel", npy_f64(&[6, 1], &[0.0; 6])),
        ],
        vec![
            ("counts", npy("|u1", &[6, 4], &counts.map(|count| count as u8))),
            ("bin_s", npy_f64(&[], &[0.1])),
            ("time_s", npy_f64(&[6], &[0.0, 0.1, 0.2, 0.7, 0.8, 0.9])),
        ],
        vec![
            ("spikes", npy("|u1", &[2, 3, 2, 2], &counts.map(|count| count as u8))),
            ("dt", npy_f64(&[], &[0.01])),
            ("rates_hz", npy("<f4", &[2, 2, 2], &[0; 32])),
        ],
    ]
}

#[test]
fn damaged_arbitrary_bytes() {
    check(2_000, prop::collection::vec(any::<u8>(), 0..256), |bytes| {
        check_answer(&bytes);
        check_answer(&[b"PK\x03\x04", &bytes[..]].concat());
        assert!(NpyArray::parse(bytes.clone()).is_err());
        // Whatever comes after the magic and the version is a header.
        let _ = NpyArray::parse([b"\x93NUMPY\x01\x00", &bytes[..]].concat());
    });
}

#[test]
fn damaged_archives() {
    let stored: Vec<Vec<u8>> = archives()
        .iter()
        .map(|arrays| npz(arrays, zip::CompressionMethod::Stored))
        .collect();
    let deflated = archives()
        .into_iter()
        .map(|arrays| npz(&arrays, zip::CompressionMethod::Deflated));
    let whole: Vec<Vec<u8>> = stored.into_iter().chain(deflated).collect();
    whole
        .iter()
        .for_each(|bytes| assert!(Recording::from_bytes("whole", bytes, &LoadOptions::default()).is_ok()));
    check(2_000, (any::<Index>(), damages()), |(which, damages)| {
        let mut bytes = whole[which.index(whole.len())].clone();
        damages.iter().for_each(|damage| damage.apply(&mut bytes));
        check_answer(&bytes);
    });
}

/// Damage inside an array that the archive itself does not notice: checksums are made after it.
#[test]
fn damaged_arrays() {
    let whole = archives();
    check(
        2_000,
        (any::<Index>(), any::<Index>(), damages()),
        |(which, array, damages)| {
            let mut arrays = whole[which.index(whole.len())].clone();
            let array = array.index(arrays.len());
            damages.iter().for_each(|damage| damage.apply(&mut arrays[array].1));
            check_answer(&npz(&arrays, zip::CompressionMethod::Stored));
        },
    );
}

/// Headers made of the words that headers are made of, in any order.
#[test]
fn damaged_headers() {
    let words = prop::sample::select(vec![
        "{",
        "}",
        "(",
        ")",
        ",",
        ":",
        " ",
        "'",
        "\"",
        "'descr'",
        "'fortran_order'",
        "'shape'",
        "'<f8'",
        "'|u1'",
        "'|O'",
        "'>i4'",
        "True",
        "False",
        "(2,)",
        "()",
        "(0, 3)",
        "18446744073709551615",
        "-1",
        "1e9",
        "é",
        "\0",
        "[",
    ]);
    let well_formed = (
        "'(<f8|<f2|.b1|<i4|=u2|O)'",
        "(True|False)",
        "\\((0, |1, |2, |[0-9]{1,20}, ){0,4}\\)",
    )
        .prop_map(|(descr, order, shape)| format!("{{'descr': {descr}, 'fortran_order': {order}, 'shape': {shape}}}"));
    let header = prop_oneof![
        prop::collection::vec(words, 0..24).prop_map(|words| words.concat()),
        well_formed
    ];
    check(2_000, (header, 0..5u8, 0..65usize), |(header, version, data_bytes)| {
        let mut file = vec![0x93, b'N', b'U', b'M', b'P', b'Y', version, 0];
        match version {
            1 => file.extend((header.len() as u16).to_le_bytes()),
            _ => file.extend((header.len() as u32).to_le_bytes()),
        }
        file.extend(header.as_bytes());
        file.resize(file.len() + data_bytes, 1);
        if let Ok(array) = NpyArray::parse(file) {
            let elements = array.shape().iter().product::<usize>();
            assert_eq!(array.to_f64().len(), elements);
            assert_eq!(array.to_f32().len(), elements);
            let _ = array.to_i64();
        }
    });
}

#[test]
fn damaged_nwb_made_here() {
    let mut file = FileBuilder::new();
    let mut units = file.create_group("units");
    units.create_dataset("id").with_i64_data(&[0, 1]);
    units
        .create_dataset("spike_times")
        .with_f64_data(&[0.1, 0.2, 0.3])
        .with_chunks(&[2])
        .with_deflate(6);
    units.create_dataset("spike_times_index").with_data(&[1u8, 3]);
    file.add_group(units.finish());
    let whole = file.finish().expect("a file in memory");
    assert!(Recording::from_bytes("whole", &whole, &LoadOptions::default()).is_ok());
    check(500, damages(), |damages| {
        let mut bytes = whole.clone();
        damages.iter().for_each(|damage| damage.apply(&mut bytes));
        check_answer(&bytes);
    });
}

/// A file written by pynwb, with damage in its first pages, where the structure is, as often as in its data.
#[test]
fn damaged_nwb_from_pynwb() {
    let Some(path) = shared("data/nwb/aplysia_Jun0414Bda01.nwb") else {
        return;
    };
    let whole = std::fs::read(path).expect("the file");
    let spots = prop::collection::vec((any::<Index>(), any::<bool>(), any::<u8>()), 1..20);
    check(
        100,
        (spots, prop::option::weighted(0.2, any::<Index>())),
        |(spots, cut)| {
            let mut bytes = whole.clone();
            for (at, early, byte) in spots {
                let range = if early { bytes.len().min(20_000) } else { bytes.len() };
                bytes[at.index(range)] = byte;
            }
            if let Some(cut) = cut {
                bytes.truncate(cut.index(whole.len()));
            }
            check_answer(&bytes);
        },
    );
}
