//! Sets made of real recordings.

use std::path::PathBuf;

use super::super::{Source, TrainingSet};
use super::span;
use crate::data::{LoadOptions, Recording};
use crate::model::window::WindowShape;

/// A file below `../shared`; none, after saying so, where it is absent (and a panic in CI, which has it).
fn shared(path: &str) -> Option<PathBuf> {
    let root = std::env::var_os("NEUROHORIZON_SHARED").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared"),
        PathBuf::from,
    );
    let path = root.join(path);
    if path.exists() {
        return Some(path);
    }
    assert!(std::env::var_os("CI").is_none(), "{} is absent", path.display());
    println!("skipped: {} is absent", path.display());
    None
}

fn first_four_fifths(recording: Recording) -> Source {
    Source {
        session: "s".to_owned(),
        recording,
        training: vec![span(0.0, 0.8)],
        validation: vec![span(0.8, 1.0)],
        reference: Vec::new(),
        test: Vec::new(),
    }
}

/// The windows, counts and rates that the reference's own training code made of a real recording.
#[test]
fn a_real_recording_gives_the_windows_of_the_reference() {
    let (Some(file), Some(expected)) = (
        shared("data/neuropixels.npz"),
        shared("checkpoints/neuropixels_windows.safetensors"),
    ) else {
        return;
    };
    let expected = std::fs::read(expected).unwrap();
    let (_, header) = safetensors::SafeTensors::read_metadata(&expected).unwrap();
    let ids: Vec<String> = serde_json::from_str(&header.metadata().as_ref().unwrap()["unit_ids"]).unwrap();
    let tensors = safetensors::SafeTensors::deserialize(&expected).unwrap();
    let numbers = |name: &str| -> Vec<f32> {
        let bytes = tensors.tensor(name).unwrap().data().chunks_exact(4);
        bytes.map(|four| f32::from_le_bytes(four.try_into().unwrap())).collect()
    };

    let shape = WindowShape {
        history_ns: 500_000_000,
        bin_ns: 20_000_000,
        bins: 12,
        horizon_ns: 240_000_000,
    };
    let recording = Recording::load(file).unwrap().select_units(&ids).unwrap();
    let set = TrainingSet::new(vec![first_four_fifths(recording)], shape, 0.0).unwrap();
    assert_eq!(set.validation_starts().len(), 97);
    let counts: Vec<f32> = set
        .validation_windows()
        .take(8)
        .flat_map(|window| window.counts)
        .collect();
    assert_eq!(counts, numbers("counts"));
    for (rate, expected) in set.sessions()[0].null_log_rates.iter().zip(numbers("null_log_rate")) {
        assert!((rate - f64::from(expected)).abs() < 1e-4, "{rate}, expected {expected}");
    }
}

/// Of 171 units 141 fire at 0.5 Hz or more, and windows on the grid hold whole bins of the file: however the spikes are
/// spread inside their bins, the counts are the same.
#[test]
fn windows_of_a_recording_of_counts_hold_its_counts() {
    let Some(file) = shared("data/m1_reaching.npz") else {
        return;
    };
    let shape = WindowShape {
        history_ns: 500_000_000,
        bin_ns: 50_000_000,
        bins: 10,
        horizon_ns: 500_000_000,
    };
    let [one, another] = [1, 2].map(|spread_seed| {
        let recording = Recording::load_with(&file, &LoadOptions { spread_seed }).unwrap();
        TrainingSet::new(vec![first_four_fifths(recording)], shape, 0.5).unwrap()
    });
    assert_eq!(one.unit_ids().len(), 141);
    let mut windows = 0;
    for (a, b) in one.validation_windows().zip(another.validation_windows()) {
        assert_eq!((a.start_ns, &a.counts), (b.start_ns, &b.counts));
        assert_ne!(a.times_s, b.times_s);
        windows += 1;
    }
    assert!(windows > 300);
}
