//! The directions in which rows of features vary most.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

/// Rounds of orthogonal iteration; the components are features, and need no more digits than this gives.
const ROUNDS: usize = 60;

/// The directions in which rows of features vary most.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct PrincipalAxes {
    /// Mean of the features, `[F]`.
    pub mean: Vec<f32>,
    /// Variances along the directions, descending, `[P]`.
    pub variances: Vec<f64>,
    /// Orthonormal directions, `[P, F]`.
    pub directions: Vec<f64>,
    /// Variance in all directions together.
    pub total_variance: f64,
}

impl PrincipalAxes {
    /// The first `count` of rows of `width` features; fewer where they vary in fewer.
    pub fn fit(features: &[f32], width: usize, count: usize, seed: u64) -> Self {
        let rows = features.chunks_exact(width.max(1));
        let n = (rows.len() as f32).max(1.0);
        let mut mean = vec![0.0; width];
        rows.clone()
            .for_each(|row| mean.iter_mut().zip(row).for_each(|(sum, &x)| *sum += x / n));
        let covariance = covariance(rows, &mean);
        let total_variance = (0..width).map(|i| covariance[i * (width + 1)]).sum();
        let (mut variances, mut directions) = leading_eigenvectors(&covariance, width, count.min(width), seed);
        let largest = variances.first().copied().unwrap_or(0.0);
        let kept = variances
            .iter()
            .take_while(|&&variance| variance > 1e-6 * largest)
            .count();
        variances.truncate(kept);
        directions.truncate(kept * width);
        PrincipalAxes {
            mean,
            variances,
            directions,
            total_variance,
        }
    }
}

/// Covariance of the features, `[F, F]`.
fn covariance<'a>(rows: impl ExactSizeIterator<Item = &'a [f32]>, mean: &[f32]) -> Vec<f64> {
    let width = mean.len();
    let n = (rows.len() as f64).max(1.0);
    let mut sums = vec![0.0f64; width * width];
    let mut centred = vec![0.0f64; width];
    for row in rows {
        for ((centred, &x), &mean) in centred.iter_mut().zip(row).zip(mean) {
            *centred = f64::from(x - mean);
        }
        for (i, sums) in sums.chunks_exact_mut(width).enumerate() {
            let x = centred[i];
            sums[i..]
                .iter_mut()
                .zip(&centred[i..])
                .for_each(|(sum, &y)| *sum += x * y);
        }
    }
    for i in 0..width {
        for j in i..width {
            sums[i * width + j] /= n;
            sums[j * width + i] = sums[i * width + j];
        }
    }
    sums
}

/// The largest eigenvalues of a symmetric matrix, descending, and their vectors `[count, F]`, by orthogonal iteration.
fn leading_eigenvectors(matrix: &[f64], width: usize, count: usize, seed: u64) -> (Vec<f64>, Vec<f64>) {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut vectors: Vec<f64> = (0..count * width).map(|_| StandardNormal.sample(&mut random)).collect();
    let mut values = vec![0.0; count];
    orthonormalise(&mut vectors, width);
    for _ in 0..ROUNDS {
        let mut next = vec![0.0; vectors.len()];
        for (next, vector) in next.chunks_exact_mut(width).zip(vectors.chunks_exact(width)) {
            for (row, &x) in matrix.chunks_exact(width).zip(vector) {
                next.iter_mut().zip(row).for_each(|(sum, &m)| *sum += m * x);
            }
        }
        for ((value, next), vector) in values
            .iter_mut()
            .zip(next.chunks_exact(width))
            .zip(vectors.chunks_exact(width))
        {
            *value = dot(next, vector).max(0.0);
        }
        vectors = next;
        orthonormalise(&mut vectors, width);
    }
    (values, vectors)
}

/// Gram–Schmidt, row by row; a row that lies in the span of those before it becomes zero.
fn orthonormalise(vectors: &mut [f64], width: usize) {
    for i in 0..vectors.len() / width.max(1) {
        let (before, rest) = vectors.split_at_mut(i * width);
        let vector = &mut rest[..width];
        let length = dot(vector, vector).sqrt();
        // Twice is enough for orthogonality to rounding.
        for _ in 0..2 {
            for other in before.chunks_exact(width) {
                let along = dot(vector, other);
                vector.iter_mut().zip(other).for_each(|(x, o)| *x -= along * o);
            }
        }
        let rest = dot(vector, vector).sqrt();
        let scale = if rest > 1e-9 * length { 1.0 / rest } else { 0.0 };
        vector.iter_mut().for_each(|x| *x *= scale);
    }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}
