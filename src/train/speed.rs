//! How fast training goes: whole optimiser steps on made-up windows of given sizes.

use std::time::Instant;

use serde::Serialize;

use super::config::TrainConfig;
use super::learner::learners;
use super::prepare::Prepared;
use super::set_up::training_set;
use super::trainer::Trainer;
use super::TrainError;
use crate::model::BackendKind;

/// The sizes that are timed: dim 64, 2 + 2 layers, 80 latents, 173 units, 32 windows of 12 bins; no path of recent history.
const CONFIG: &str = "
[data.simulate]
units = 173
seed = 1
train_s = 60.0
validate_s = 4.0
[model]
[training]
batch = 32
steps = 1000000
";

/// Spikes of a window: with the two tokens of each of 173 units, 900 tokens.
const SPIKES: usize = 554;

/// Steps before the clock counts.
const WARM_UP: u64 = 2;

/// What was measured.
#[derive(Debug, Clone, Serialize)]
pub struct TrainingSpeed {
    /// Optimiser steps a second, from the median.
    pub steps_per_s: f64,
    /// Half of the steps took less, ms.
    pub median_ms: f64,
    /// The slowest, ms.
    pub slowest_ms: f64,
    /// Threads.
    pub threads: usize,
    /// Whether elements were dropped (FFN 0.2, attention 0.2, processor residual 0.4).
    pub dropout: bool,
    /// Steps timed.
    pub steps: u64,
}

/// Times `steps` steps (at least one): forward, backward, sums, clipping, AdamW, weights laid out anew. Batches are ready.
///
/// # Errors
/// As training.
pub fn measure(backend: BackendKind, threads: usize, steps: u64, dropout: bool) -> Result<TrainingSpeed, TrainError> {
    let mut config = TrainConfig::parse("the benchmark", CONFIG)?;
    config.training.threads = threads.max(1);
    if !dropout {
        (config.dropout.hidden, config.dropout.attention, config.dropout.residual) = (0.0, 0.0, 0.0);
    }
    let (set, hash) = training_set(&config)?;
    let recording = &set.recordings()[0];
    let (first_ns, step_ns) = (recording.grid_origin_ns, set.shape().bin_ns);
    let batch: Vec<Prepared> = (0..config.training.batch)
        .map(|number| {
            let mut window = set.window(0, first_ns + 30 * number as i64 * step_ns);
            // Every other spike or so, until there are as many as wanted.
            let count = window.unit.len();
            let taken: Vec<usize> = (0..SPIKES.min(count)).map(|i| i * count / SPIKES.min(count)).collect();
            window.times_s = taken.iter().map(|&i| window.times_s[i]).collect();
            window.unit = taken.iter().map(|&i| window.unit[i]).collect();
            Prepared {
                conditions: Vec::new(),
                window,
                features: Vec::new(),
                population: Vec::new(),
                targets: Vec::new(),
                seed: number as u64,
                reference: None,
            }
        })
        .collect();
    let learners = learners(&config, backend)?;
    let mut trainer = Trainer::new(config, set, hash, learners, false)?;
    let mut durations = Vec::new();
    for step in 0..WARM_UP + steps.max(1) {
        let begin = Instant::now();
        trainer.take_step(&batch)?;
        if step >= WARM_UP {
            durations.push(begin.elapsed().as_secs_f64() * 1e3);
        }
    }
    durations.sort_by(f64::total_cmp);
    let median_ms = durations[durations.len() / 2];
    Ok(TrainingSpeed {
        steps_per_s: 1e3 / median_ms,
        median_ms,
        slowest_ms: durations[durations.len() - 1],
        threads,
        dropout,
        steps: steps.max(1),
    })
}
