//! Checkpoints with random weights: for timing and for tests, where only sizes matter.

use std::collections::BTreeMap;

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

use super::{layout, Checkpoint, HostTensor, Stored};
use crate::model::config::ModelConfig;

impl Checkpoint {
    /// A network of `units` units with normal weights scaled by the square root of the inputs, norms of ones, and the
    /// frequencies that the reference computes (log-spaced periods for the first half of the pairs, zero for the rest).
    pub fn random(config: &ModelConfig, units: usize, seed: u64) -> Checkpoint {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let tensors = layout::expected(config, units + 1)
            .into_iter()
            .map(|expected| {
                let count: usize = expected.shape.iter().product();
                let is_norm = expected.name.contains("norm") || expected.name.ends_with(".0.weight");
                let data = if expected.name == "rotary_emb.omega" {
                    omega(config)
                } else if is_norm && expected.shape.len() == 1 && expected.name.ends_with("weight") {
                    vec![1.0; count]
                } else {
                    let inputs = expected.shape.last().copied().unwrap_or(1).max(1);
                    let scale = if expected.shape.len() == 1 {
                        0.02
                    } else {
                        1.0 / (inputs as f32).sqrt()
                    };
                    (0..count)
                        .map(|_| {
                            let x: f32 = StandardNormal.sample(&mut random);
                            x * scale
                        })
                        .collect()
                };
                let shape = expected.shape;
                (expected.name, HostTensor { shape, data })
            })
            .collect();
        let ids = (1..=units).map(|unit| format!("unit{unit:04}"));
        Checkpoint {
            config: config.clone(),
            tensors,
            unit_ids: std::iter::once("NA".to_string()).chain(ids).collect(),
            session_ids: vec!["NA".into()],
            null_log_rates: config.history.is_some().then(|| vec![-2.0; units + 1]),
            epoch: 0,
            global_step: 0,
            hash: seed,
            stored: Stored::F32,
            unused: Vec::new(),
            notes: BTreeMap::new(),
        }
    }
}

/// `2π / period`, periods log-spaced from `t_min` to `t_max` over the first quarter of the head's channels; zero beyond.
fn omega(config: &ModelConfig) -> Vec<f32> {
    let turning = config.dim_head / 4;
    (0..config.dim_head / 2)
        .map(|i| {
            if i >= turning {
                return 0.0;
            }
            let at = if turning > 1 {
                i as f64 / (turning - 1) as f64
            } else {
                0.0
            };
            let period = (config.t_min.ln() + at * (config.t_max / config.t_min).ln()).exp();
            (std::f64::consts::TAU / period) as f32
        })
        .collect()
}
