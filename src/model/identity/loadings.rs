//! How units take part in what the population does together: principal components of counts, as far as they stand out of the
//! noise.
//!
//! Counts are taken about each unit's mean, in units of the deviation that a Poisson count of that mean has. Independent
//! Poisson units then make variances up to `(1 + √γ)²` along some direction, with `γ = N / B` for N units and B bins
//! (Marchenko and Pastur 1967). A direction in which the population truly varies by `ℓ` more shows the variance
//! `λ = (1 + ℓ)(1 + γ/ℓ)`, and what is found has the squared cosine `(1 − γ/ℓ²) / (1 + γ/ℓ)` with it (Baik and Silverstein 2006;
//! Paul 2007). A unit's loading is its part of the direction times `√N` and that cosine: as much as the average unit's is 1, and
//! nearer to nothing the less certain the direction. How much the population varied along it is left out: some seconds may
//! hold more movements one way than the other, and that says nothing of the units.

use crate::model::principal::PrincipalAxes;

/// Spikes beside those that were seen, in the deviation of a unit that hardly fires.
const MORE_SPIKES: f32 = 2.0;

/// Of `counts` `[B, N]`, on at most `components` components C: `[N, C]`, zero where fewer stand out. Components come in the
/// order of their variance; that each unit's sign could as well be the other, and that components of equal variance have no
/// order, is for the reader to bear.
pub(super) fn loadings(counts: &[f32], units: usize, components: usize) -> Vec<f32> {
    let mut loadings = vec![0.0; units * components];
    let bins = counts.len() / units.max(1);
    if components == 0 || bins == 0 {
        return loadings;
    }
    let mut mean = vec![0.0f32; units];
    for row in counts.chunks_exact(units) {
        mean.iter_mut().zip(row).for_each(|(sum, count)| *sum += count);
    }
    let share = 1.0 / bins as f32;
    mean.iter_mut().for_each(|sum| *sum *= share);
    let deviation: Vec<f32> = mean.iter().map(|mean| (mean + MORE_SPIKES * share).sqrt()).collect();
    let mut standard = counts.to_vec();
    for row in standard.chunks_exact_mut(units) {
        for ((x, mean), deviation) in row.iter_mut().zip(&mean).zip(&deviation) {
            *x = (*x - mean) / deviation;
        }
    }
    let axes = PrincipalAxes::fit(&standard, units, components, 0);
    let directions = axes.directions.chunks_exact(units).zip(&axes.variances);
    for (component, (direction, &variance)) in directions.enumerate() {
        let scale = (units as f64).sqrt() * certainty(variance, units as f64 / bins as f64);
        // One of the two signs, the same however the direction was found.
        let scale = if direction.iter().sum::<f64>() < 0.0 {
            -scale
        } else {
            scale
        };
        for (row, x) in loadings.chunks_exact_mut(components).zip(direction) {
            row[component] = (scale * x) as f32;
        }
    }
    loadings
}

/// The cosine of a direction of this variance with the true one; 0 within the noise.
fn certainty(variance: f64, gamma: f64) -> f64 {
    if variance <= (1.0 + gamma.sqrt()).powi(2) {
        return 0.0;
    }
    let beyond = variance - 1.0 - gamma;
    let planted = 0.5 * (beyond + (beyond * beyond - 4.0 * gamma).max(0.0).sqrt());
    ((1.0 - gamma / (planted * planted)) / (1.0 + gamma / planted))
        .max(0.0)
        .sqrt()
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;
    use rand_distr::{Distribution, Poisson};

    /// Counts of mean 2 of units that follow a common signal by these Poisson deviations.
    fn counts(depth: &[f64], bins: usize) -> Vec<f32> {
        let mut random = ChaCha8Rng::seed_from_u64(5);
        let mut counts = Vec::new();
        for _ in 0..bins {
            let signal = if random.random::<bool>() { 1.0 } else { -1.0 };
            for depth in depth {
                let mean = 2.0 + depth * signal * 2f64.sqrt();
                counts.push(Poisson::new(mean).unwrap().sample(&mut random) as f32);
            }
        }
        counts
    }

    #[test]
    fn loadings_are_what_was_planted() {
        let depth: Vec<f64> = (0..40).map(|unit| f64::from(unit % 5) * 0.25 - 0.25).collect();
        let average = (depth.iter().map(|depth| depth * depth).sum::<f64>() / 40.0).sqrt();
        let found = loadings(&counts(&depth, 4000), 40, 3);
        for (unit, &depth) in depth.iter().enumerate() {
            // Depths of up to 3/4 about a deviation of one; a loading's error is about 1/√4000 over the average depth.
            let (loading, expected) = (f64::from(found[3 * unit]), depth / average);
            assert!(
                (loading - expected).abs() < 0.2,
                "{unit}: {loading}, planted {expected}"
            );
        }
        // The population has one component and no other: what is found beside it is nearly all uncertain.
        let others: Vec<f32> = found.chunks(3).flat_map(|row| row[1..].to_vec()).collect();
        let square = others.iter().map(|x| x * x).sum::<f32>() / others.len() as f32;
        assert!(square < 0.1, "{square}");
    }

    #[test]
    fn independent_and_silent_units_have_hardly_any() {
        let mut found = loadings(&counts(&[0.0; 40], 400), 40, 2);
        let square = found.iter().map(|x| x * x).sum::<f32>() / found.len() as f32;
        assert!(square < 0.25, "{square}");
        found = loadings(&[0.0; 200], 2, 3);
        assert_eq!(found, [0.0; 6]);
        assert!(loadings(&[], 2, 0).is_empty());
    }

    #[test]
    fn the_noise_of_many_units_is_known() {
        // γ = 1/4: independent units make up to (3/2)² = 9/4.
        assert_eq!(certainty(2.25, 0.25), 0.0);
        // ℓ = 2: λ = 3 · 9/8, squared cosine (15/16) / (9/8) = 5/6.
        assert!((certainty(3.375, 0.25) - (5.0f64 / 6.0).sqrt()).abs() < 1e-12);
    }
}
