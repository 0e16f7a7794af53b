//! The set made of a real recording.

use std::path::PathBuf;

use super::super::{Source, TrainingSet};
use super::span;
use crate::data::Recording;
use crate::model::window::WindowShape;

/// The windows, counts and rates that the reference's own training code made of a real recording.
#[test]
fn a_real_recording_gives_the_windows_of_the_reference() {
    let root = std::env::var_os("NEUROHORIZON_SHARED").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared"),
        PathBuf::from,
    );
    let (file, expected) = (
        root.join("data/neuropixels.npz"),
        root.join("checkpoints/neuropixels_windows.safetensors"),
    );
    if !(file.exists() && expected.exists()) {
        assert!(std::env::var_os("CI").is_none(), "{} is absent", root.display());
        println!("skipped: {} is absent", root.display());
        return;
    }
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
    let whole = Source {
        session: "s".to_owned(),
        recording,
        training: vec![span(0.0, 0.8)],
        validation: vec![span(0.8, 1.0)],
        test: Vec::new(),
    };
    let set = TrainingSet::new(vec![whole], shape, 0.0).unwrap();
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
