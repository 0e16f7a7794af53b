//! The Wiener filter: behaviour as a linear function of the counts of the last bins, by ridge regression.
//!
//! ```text
//! y(t) = ȳ + Σ_l Σ_n W[l, n] (√count[t − l, n] − mean_n)        W = (FᵀF + λ I)⁻¹ Fᵀ (y − ȳ)
//! ```
//! λ is that of a few with the least squared error on the end of what is fitted, by a fit of what comes before; the weights are then
//! fitted on all of it. A lag that reaches beyond the beginning counts as the mean.

use nalgebra::{Cholesky, DMatrix};

use super::{BinDecoder, BinnedBehaviour};

/// λ over the mean of the diagonal of FᵀF.
const RIDGES: [f64; 7] = [0.003, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0];

/// See the [module](self).
#[derive(Debug, Clone)]
pub struct Wiener {
    units: usize,
    lags: usize,
    /// Mean √count, `[N]`.
    mean: Vec<f32>,
    /// ȳ, `[C]`.
    offset: Vec<f32>,
    /// `[C, lags, N]`.
    weights: Vec<f32>,
    /// Deviations of the last `lags` bins, a ring of rows, `[lags, N]`.
    recent: Vec<f32>,
    newest: usize,
    ridge: f64,
}

/// FᵀF and Fᵀy of some bins, and what an error on others takes.
struct Moments {
    square: DMatrix<f64>,
    product: DMatrix<f64>,
}

/// Rows of features and of behaviour, both about their means.
struct Rows {
    features: DMatrix<f64>,
    targets: DMatrix<f64>,
}

impl Rows {
    fn new(data: &BinnedBehaviour, bins: std::ops::Range<usize>, lags: usize, mean: &[f64], offset: &[f64]) -> Self {
        let units = data.units();
        let known: Vec<usize> = bins.filter(|&bin| data.target(bin).is_some()).collect();
        let mut features = DMatrix::zeros(known.len(), lags * units);
        let mut targets = DMatrix::zeros(known.len(), data.channels());
        for (row, &bin) in known.iter().enumerate() {
            let mut at = bin;
            for lag in 0..lags {
                for (unit, &count) in data.counts(at).iter().enumerate() {
                    features[(row, lag * units + unit)] = f64::from(count).sqrt() - mean[unit];
                }
                if data.begins(at) {
                    break;
                }
                at -= 1;
            }
            for (channel, &y) in data.target(bin).into_iter().flatten().enumerate() {
                targets[(row, channel)] = f64::from(y) - offset[channel];
            }
        }
        Rows { features, targets }
    }

    fn moments(&self) -> Moments {
        let transposed = self.features.transpose();
        Moments {
            square: &transposed * &self.features,
            product: &transposed * &self.targets,
        }
    }

    /// Σ (y − F W)².
    fn error(&self, weights: &DMatrix<f64>) -> f64 {
        (&self.targets - &self.features * weights).norm_squared()
    }
}

impl Moments {
    fn add(mut self, other: Moments) -> Self {
        self.square += other.square;
        self.product += other.product;
        self
    }

    /// The weights, `[F, C]`; none where the ridge is too small for the numbers' precision.
    fn solve(&self, ridge: f64) -> Option<DMatrix<f64>> {
        let mut square = self.square.clone();
        let width = square.nrows();
        let least = f64::MIN_POSITIVE.sqrt();
        let added = (ridge * square.trace() / width as f64).max(least);
        (0..width).for_each(|i| square[(i, i)] += added);
        Some(Cholesky::new(square)?.solve(&self.product))
    }
}

impl Wiener {
    /// Fits the counts of the last `lags` bins, the present one included.
    ///
    /// # Panics
    /// Without a lag.
    pub fn fit(data: &BinnedBehaviour, lags: usize) -> Self {
        assert!(lags > 0, "a filter of no bin decodes nothing");
        let (units, mean, offset) = (data.units(), data.mean_roots(), data.mean_target());
        let middle = data.judged_from();
        let before = Rows::new(data, 0..middle, lags, &mean, &offset);
        let judging = Rows::new(data, middle..data.bins(), lags, &mean, &offset);
        let of_before = before.moments();
        let error = |&ridge: &f64| {
            let weights = of_before.solve(ridge);
            weights.map_or(f64::INFINITY, |weights| judging.error(&weights))
        };
        let errors: Vec<f64> = RIDGES.iter().map(error).collect();
        let best = (0..RIDGES.len()).min_by(|&a, &b| errors[a].total_cmp(&errors[b]));
        let ridge = RIDGES[best.unwrap_or_default()];
        let all = of_before.add(judging.moments());
        let width = lags * units;
        let solved = all
            .solve(ridge)
            .unwrap_or_else(|| DMatrix::zeros(width, data.channels()));
        let mut weights = vec![0.0; data.channels() * width];
        for (channel, row) in weights.chunks_exact_mut(width.max(1)).enumerate() {
            row.iter_mut()
                .zip(solved.column(channel).iter())
                .for_each(|(w, &x)| *w = x as f32);
        }
        Wiener {
            units,
            lags,
            mean: mean.iter().map(|&x| x as f32).collect(),
            offset: offset.iter().map(|&x| x as f32).collect(),
            weights,
            recent: vec![0.0; width],
            newest: 0,
            ridge,
        }
    }

    /// λ over the mean of the diagonal of FᵀF, as it was chosen.
    pub fn ridge(&self) -> f64 {
        self.ridge
    }
}

impl BinDecoder for Wiener {
    fn name(&self) -> &str {
        "Wiener"
    }

    fn columns(&self) -> usize {
        self.offset.len()
    }

    fn restart(&mut self) {
        self.recent.fill(0.0);
    }

    fn step(&mut self, counts: &[u32], out: &mut [f32]) {
        self.newest = (self.newest + self.lags - 1) % self.lags;
        let row = &mut self.recent[self.newest * self.units..][..self.units];
        for ((x, &count), mean) in row.iter_mut().zip(counts).zip(&self.mean) {
            *x = (count as f32).sqrt() - mean;
        }
        let width = self.lags * self.units;
        for ((out, offset), weights) in out
            .iter_mut()
            .zip(&self.offset)
            .zip(self.weights.chunks_exact(width.max(1)))
        {
            let mut sum = *offset;
            for (lag, weights) in weights.chunks_exact(self.units).enumerate() {
                let at = (self.newest + lag) % self.lags;
                let row = &self.recent[at * self.units..][..self.units];
                sum += weights.iter().zip(row).map(|(w, x)| w * x).sum::<f32>();
            }
            *out = sum;
        }
    }
}
