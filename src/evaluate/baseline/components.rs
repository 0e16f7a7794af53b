//! Principal components of the population's recent activity, whitened: a few numbers that say what the whole population does.

use crate::model::principal::PrincipalAxes;

/// A linear map from F features to P uncorrelated components of unit variance.
#[derive(Debug, Clone, PartialEq)]
pub struct Components {
    /// Mean of the features, `[F]`.
    mean: Vec<f32>,
    /// Direction over standard deviation of each component, `[P, F]`.
    directions: Vec<f32>,
}

impl Components {
    /// The `count` directions in which rows of F `features` vary most; fewer where they vary in fewer.
    pub fn fit(features: &[f32], width: usize, count: usize, seed: u64) -> Self {
        let axes = PrincipalAxes::fit(features, width, count, seed);
        let directions = axes.directions.chunks_exact(width.max(1)).zip(&axes.variances);
        let directions = directions.flat_map(|(vector, variance)| vector.iter().map(|x| (x / variance.sqrt()) as f32));
        Components {
            directions: directions.collect(),
            mean: axes.mean,
        }
    }

    /// Number of components, P.
    pub fn count(&self) -> usize {
        self.directions.len() / self.mean.len().max(1)
    }

    /// Components of one row of features, into `out` `[P]`.
    pub fn project(&self, features: &[f32], out: &mut [f32]) {
        for (out, direction) in out.iter_mut().zip(self.directions.chunks_exact(self.mean.len().max(1))) {
            let centred = features.iter().zip(&self.mean).map(|(x, mean)| x - mean);
            *out = direction.iter().zip(centred).map(|(a, x)| a * x).sum();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn components_are_the_directions_of_most_variance_whitened() {
        // Points at ±3 along (1, 1)/√2 and ±1 along (1, −1)/√2 about (5, 0): variances 9/2 and 1/2 over four points.
        let s = std::f32::consts::FRAC_1_SQRT_2;
        let points = [
            [5.0 + 3.0 * s, 3.0 * s],
            [5.0 - 3.0 * s, -3.0 * s],
            [5.0 + s, -s],
            [5.0 - s, s],
        ];
        let components = Components::fit(points.as_flattened(), 2, 2, 0);
        assert_eq!(components.count(), 2);
        let mut out = [0.0; 2];
        for (point, expected) in points.iter().zip([
            [2f32.sqrt(), 0.0],
            [2f32.sqrt(), 0.0],
            [0.0, 2f32.sqrt()],
            [0.0, 2f32.sqrt()],
        ]) {
            components.project(point, &mut out);
            let close = out
                .iter()
                .zip(expected)
                .all(|(found, expected)| (found.abs() - expected).abs() < 1e-4);
            assert!(close, "{out:?}");
        }
    }

    #[test]
    fn what_does_not_vary_gives_no_component() {
        let points = [[1.0f32, 2.0, 7.0], [2.0, 4.0, 7.0], [4.0, 8.0, 7.0]];
        assert_eq!(Components::fit(points.as_flattened(), 3, 3, 0).count(), 1);
        assert_eq!(Components::fit(&[3.0, 3.0], 1, 1, 0).count(), 0);
    }
}
