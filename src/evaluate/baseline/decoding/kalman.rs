//! The Kalman filter: behaviour as the state of a linear system that counts are noisy observations of (Wu et al. 2006).
//!
//! ```text
//! x(t) = A x(t − 1) + w,  w ~ N(0, Q)        √count(t − d) − mean = H x(t) + q,  q ~ N(0, R)
//! ```
//! with x the behaviour about its mean, and everything fitted by least squares. The gain is that of the steady state, which a filter
//! reaches within some bins: `K = P Hᵀ R⁻¹`, `P = ((A P Aᵀ + Q)⁻¹ + Hᵀ R⁻¹ H)⁻¹`. Activity leads movement, so that what is
//! decoded is the state d bins after the counts: of those up to a largest the delay with the least squared error on the end of what is fitted.

use nalgebra::{Cholesky, DMatrix, DVector};

use super::{BinDecoder, BinnedBehaviour};

/// Added to the diagonal of R, over its mean: units that never fire have no variance.
const FLOOR: f64 = 1e-3;

/// Steps towards the steady state.
const SETTLING: usize = 1000;

/// See the [module](self).
#[derive(Debug, Clone)]
pub struct Kalman {
    units: usize,
    delay: usize,
    mean: Vec<f32>,
    offset: Vec<f32>,
    /// `(I − K H) A`, `[C, C]`, row-major.
    carry: Vec<f32>,
    /// K, `[C, N]`, row-major.
    gain: Vec<f32>,
    /// x, and the next one while it is made, `[C]` each.
    state: Vec<f32>,
    next: Vec<f32>,
    /// Deviations of the last `delay + 1` bins, a ring of rows.
    recent: Vec<f32>,
    newest: usize,
}

impl Kalman {
    /// Fits every delay up to `most_delay` bins and keeps the best.
    pub fn fit(data: &BinnedBehaviour, most_delay: usize) -> Self {
        let middle = data.judged_from();
        let error = |delay: usize| {
            let mut filter = Kalman::fit_to(data, 0..middle, delay);
            let decoded = super::decode(&mut filter, data);
            let rows = decoded.chunks_exact(data.channels()).enumerate().skip(middle);
            let errors = rows.filter_map(|(bin, row)| {
                let pairs = row.iter().zip(data.target(bin)?);
                Some(pairs.map(|(x, y)| f64::from(x - y).powi(2)).sum::<f64>())
            });
            errors.sum::<f64>()
        };
        let errors: Vec<f64> = (0..=most_delay).map(error).collect();
        let best = (0..=most_delay).min_by(|&a, &b| errors[a].total_cmp(&errors[b]));
        Kalman::fit_to(data, 0..data.bins(), best.unwrap_or(0))
    }

    /// Bins from the counts to the state that they are taken to show.
    pub fn delay(&self) -> usize {
        self.delay
    }

    fn fit_to(data: &BinnedBehaviour, bins: std::ops::Range<usize>, delay: usize) -> Self {
        let (units, channels) = (data.units(), data.channels());
        let (mean, offset) = (data.mean_roots(), data.mean_target());
        let state = |bin: usize| {
            let target = data.target(bin)?;
            let deviations = target.iter().zip(&offset).map(|(&y, mean)| f64::from(y) - mean);
            Some(DVector::from_iterator(channels, deviations))
        };
        // The counts that show the state of a bin: those of `delay` bins before, in the same stretch.
        let shown = |bin: usize| -> Option<DVector<f64>> {
            let from = bin.checked_sub(delay)?;
            if (from + 1..=bin).any(|bin| data.begins(bin)) {
                return None;
            }
            let roots = data.counts(from).iter().zip(&mean);
            Some(DVector::from_iterator(
                units,
                roots.map(|(&count, mean)| f64::from(count).sqrt() - mean),
            ))
        };

        let (mut xx, mut yx, mut yy) = (
            DMatrix::zeros(channels, channels),
            DMatrix::zeros(units, channels),
            DMatrix::zeros(units, units),
        );
        let (mut then_then, mut now_then, mut now_now) = (xx.clone(), xx.clone(), xx.clone());
        let (mut seen, mut pairs) = (0.0, 0.0);
        for bin in bins {
            let Some(x) = state(bin) else { continue };
            if let Some(y) = shown(bin) {
                xx.ger(1.0, &x, &x, 1.0);
                yx.ger(1.0, &y, &x, 1.0);
                yy.ger(1.0, &y, &y, 1.0);
                seen += 1.0;
            }
            let before = (!data.begins(bin)).then(|| state(bin - 1)).flatten();
            if let Some(before) = before {
                then_then.ger(1.0, &before, &before, 1.0);
                now_then.ger(1.0, &x, &before, 1.0);
                now_now.ger(1.0, &x, &x, 1.0);
                pairs += 1.0;
            }
        }
        let observe = &yx * inverse(&xx);
        let noise = regular((yy - &observe * yx.transpose()) / f64::max(seen, 1.0));
        let advance = &now_then * inverse(&then_then);
        let drift = regular((now_now - &advance * now_then.transpose()) / f64::max(pairs, 1.0));

        // Hᵀ R⁻¹ and Hᵀ R⁻¹ H: everything else is of the state's few dimensions.
        let informed = match Cholesky::new(noise) {
            Some(noise) => noise.solve(&observe).transpose(),
            None => DMatrix::zeros(channels, units),
        };
        let information = &informed * &observe;
        let mut posterior = drift.clone();
        for _ in 0..SETTLING {
            let prior = &advance * &posterior * advance.transpose() + &drift;
            posterior = inverse(&(inverse(&prior) + &information));
        }
        let gain = &posterior * &informed;
        let carry = (DMatrix::identity(channels, channels) - &gain * &observe) * &advance;
        let rows = |matrix: &DMatrix<f64>| matrix.transpose().iter().map(|&x| x as f32).collect();
        Kalman {
            units,
            delay,
            mean: mean.iter().map(|&x| x as f32).collect(),
            offset: offset.iter().map(|&x| x as f32).collect(),
            carry: rows(&carry),
            gain: rows(&gain),
            state: vec![0.0; channels],
            next: vec![0.0; channels],
            recent: vec![0.0; (delay + 1) * units],
            newest: 0,
        }
    }
}

/// A covariance that has an inverse.
fn regular(mut covariance: DMatrix<f64>) -> DMatrix<f64> {
    let size = covariance.nrows();
    let added = (FLOOR * covariance.trace() / size.max(1) as f64).max(1e-12);
    (0..size).for_each(|i| covariance[(i, i)] += added);
    covariance
}

/// Of a small positive matrix; zeros where it has none.
fn inverse(matrix: &DMatrix<f64>) -> DMatrix<f64> {
    let zeros = || DMatrix::zeros(matrix.nrows(), matrix.ncols());
    matrix.clone().try_inverse().unwrap_or_else(zeros)
}

impl BinDecoder for Kalman {
    fn name(&self) -> &str {
        "Kalman"
    }

    fn columns(&self) -> usize {
        self.offset.len()
    }

    fn restart(&mut self) {
        self.recent.fill(0.0);
        self.state.fill(0.0);
    }

    fn step(&mut self, counts: &[u32], out: &mut [f32]) {
        let rows = self.delay + 1;
        self.newest = (self.newest + rows - 1) % rows;
        let row = &mut self.recent[self.newest * self.units..][..self.units];
        for ((x, &count), mean) in row.iter_mut().zip(counts).zip(&self.mean) {
            *x = (count as f32).sqrt() - mean;
        }
        let oldest = (self.newest + self.delay) % rows;
        let seen = &self.recent[oldest * self.units..][..self.units];
        let channels = self.state.len();
        for (channel, next) in self.next.iter_mut().enumerate() {
            let carry = self.carry[channel * channels..][..channels].iter().zip(&self.state);
            let gain = self.gain[channel * self.units..][..self.units].iter().zip(seen);
            *next = carry.map(|(a, x)| a * x).sum::<f32>() + gain.map(|(k, y)| k * y).sum::<f32>();
        }
        std::mem::swap(&mut self.state, &mut self.next);
        for ((out, x), offset) in out.iter_mut().zip(&self.state).zip(&self.offset) {
            *out = x + offset;
        }
    }
}
