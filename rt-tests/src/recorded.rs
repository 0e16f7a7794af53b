//! A recording with behaviour and stimuli, and a network that sees them.

use std::path::Path;

use neurohorizon::acquire::simulate::planted::planted;
use neurohorizon::data::arrays::{ArrayWriter, Elements};
use neurohorizon::data::Recording;
use neurohorizon::model::checkpoint::Checkpoint;
use neurohorizon::model::config::{ConditionConfig, ConditionKind, ModelConfig};

/// A recording of the planted population whose tracker loses the animal now and then, as an .npz file has it.
///
/// # Panics
/// Where the file cannot be written.
pub fn with_series(path: &Path) -> Recording {
    let mut recording = planted(2, 5, 14_000_000_000);
    let hand = &mut recording.behaviour[0];
    let kept: Vec<usize> = (0..hand.len())
        .filter(|&sample| !(600..720).contains(&sample))
        .collect();
    for sample in 250..290 {
        hand.values[2 * sample] = f32::NAN;
    }
    hand.values = kept.iter().flat_map(|&sample| hand.row(sample).to_vec()).collect();
    hand.times_ns = kept.iter().map(|&sample| hand.times_ns[sample]).collect();
    let seconds = |times: &[i64]| times.iter().map(|&time| time as f64 * 1e-9).collect::<Vec<f64>>();
    let mut archive = ArrayWriter::default();
    let n = recording.n_spikes();
    let units: Vec<i64> = recording.spike_units.iter().map(|&unit| i64::from(unit)).collect();
    archive
        .add("spike_times", &[n], Elements::F64(&seconds(&recording.spike_times_ns)))
        .expect("an array");
    archive
        .add("spike_units", &[n], Elements::I64(&units))
        .expect("an array");
    for series in &recording.behaviour {
        let (name, rows) = (&series.name, series.len());
        archive
            .add(
                &format!("{name}_time_s"),
                &[rows],
                Elements::F64(&seconds(&series.times_ns)),
            )
            .expect("an array");
        archive
            .add(
                &format!("{name}_x"),
                &[rows, series.channels],
                Elements::F32(&series.values),
            )
            .expect("an array");
    }
    std::fs::write(path, archive.finish().expect("an archive")).expect("a file");
    Recording::load(path).expect("a recording")
}

/// A random network that sees behaviour and a stimulus of such a recording.
pub fn that_sees_modalities(recording: &Recording) -> Checkpoint {
    let condition = |series: &str, kind, channels: usize, step_s| ConditionConfig {
        series: series.into(),
        kind,
        step_s,
        mean: vec![0.1; channels],
        deviation: vec![0.5; channels],
    };
    let config = ModelConfig {
        dim: 16,
        dim_head: 8,
        num_latents_per_step: 2,
        conditions: vec![
            condition("behaviour_x", ConditionKind::Behaviour, 2, 0.07),
            condition("stimulus_x", ConditionKind::Stimulus, 4, 0.1),
        ],
        ..ModelConfig::default()
    };
    let mut checkpoint = Checkpoint::random(&config, recording.n_units(), 6);
    checkpoint.unit_ids = std::iter::once("NA".into()).chain(recording.unit_ids.clone()).collect();
    checkpoint
}
