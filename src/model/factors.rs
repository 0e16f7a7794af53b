//! Factors: few numbers a bin that say in what state the population is, made of the processor's latents.
//!
//! A window has latents at several times of its history, P of each. Those of the newest time, averaged over the P, are the
//! factors `[D]` of the bin that closes the window; [`Projection`] turns them into the K directions in which they vary most.

use super::checkpoint::Checkpoint;
use crate::hash::fnv1a;

/// Tensors that say nothing of how latents come from embeddings: those of the units, of sessions, of the path beside, and of what
/// is read out of latents.
const NOT_OF_LATENTS: [&str; 4] = ["unit_emb.", "session_emb.", "history.", "readout."];

/// A hash of the weights of a network without those of units and sessions: the same for every session it is used in.
pub fn network_hash(checkpoint: &Checkpoint) -> u64 {
    let mut bytes = Vec::new();
    let named = checkpoint.tensors.iter();
    for (name, tensor) in named.filter(|(name, _)| !NOT_OF_LATENTS.iter().any(|prefix| name.starts_with(prefix))) {
        bytes.extend_from_slice(name.as_bytes());
        tensor
            .data
            .iter()
            .for_each(|x| bytes.extend_from_slice(&x.to_le_bytes()));
    }
    fnv1a(&bytes)
}

/// Mean of the latents of the newest time: `latents` `[L, D]`, of which the last `per_step` rows are of one time, into `out`
/// `[D]`.
pub fn newest_step(latents: &[f32], per_step: usize, out: &mut [f32]) {
    out.fill(0.0);
    let rows = latents.chunks_exact(out.len().max(1));
    let older = rows.len().saturating_sub(per_step);
    for row in rows.skip(older) {
        out.iter_mut().zip(row).for_each(|(sum, x)| *sum += x);
    }
    let share = 1.0 / per_step as f32;
    out.iter_mut().for_each(|sum| *sum *= share);
}

/// K orthonormal directions of factors about their mean.
#[derive(Debug, Clone, PartialEq)]
pub struct Projection {
    /// Mean of the factors, `[D]`.
    pub mean: Vec<f32>,
    /// Directions, `[K, D]`.
    pub directions: Vec<f32>,
    /// Of the network that the factors are of, see [`network_hash`].
    pub network_hash: u64,
}

impl Projection {
    /// Number of directions, K.
    pub fn components(&self) -> usize {
        self.directions.len() / self.mean.len().max(1)
    }

    /// Coordinates of `factors` `[D]` along the directions, into `out` `[K]`.
    pub fn project(&self, factors: &[f32], out: &mut [f32]) {
        for (out, direction) in out.iter_mut().zip(self.directions.chunks_exact(self.mean.len().max(1))) {
            let centred = factors.iter().zip(&self.mean).map(|(x, mean)| x - mean);
            *out = direction.iter().zip(centred).map(|(a, x)| a * x).sum();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::config::ModelConfig;

    #[test]
    fn the_newest_latents_are_averaged_and_projected() {
        // Three times of two latents of two channels.
        let latents = [9.0, 9.0, 9.0, 9.0, 9.0, 9.0, 9.0, 9.0, 1.0, 2.0, 3.0, -4.0];
        let mut factors = [7.0; 2];
        newest_step(&latents, 2, &mut factors);
        assert_eq!(factors, [2.0, -1.0]);
        let projection = Projection {
            mean: vec![1.0, 1.0],
            directions: vec![0.6, 0.8, -0.8, 0.6, 1.0, 0.0],
            network_hash: 0,
        };
        let mut out = [0.0; 3];
        projection.project(&factors, &mut out);
        // (1, −2) on each.
        let expected = [0.6 - 1.6, -0.8 - 1.2, 1.0];
        assert!(
            out.iter().zip(expected).all(|(x, y): (&f32, f32)| (x - y).abs() < 1e-6),
            "{out:?}"
        );
        assert_eq!(projection.components(), 3);
    }

    #[test]
    fn a_network_is_the_same_in_every_session() {
        let config = ModelConfig {
            dim: 16,
            dim_head: 8,
            ..ModelConfig::default()
        };
        let checkpoint = Checkpoint::random(&config, 3, 1);
        let mut other_units = checkpoint.clone();
        other_units.tensors.get_mut("unit_emb.weight").unwrap().data[20] += 1.0;
        assert_eq!(network_hash(&checkpoint), network_hash(&other_units));
        assert_ne!(
            network_hash(&checkpoint),
            network_hash(&Checkpoint::random(&config, 3, 2))
        );
    }
}
