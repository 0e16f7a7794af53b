//! The observation model: counts are Poisson given the log rate. Its likelihood, and bits per spike.

use super::network::LOG_RATE_LIMIT;

/// Negative log-likelihood of a count without the constant `ln y!`: `exp(r) − y·r`, r clamped to ± [`LOG_RATE_LIMIT`].
pub fn negative_log_likelihood(log_rate: f64, count: f64) -> f64 {
    let log_rate = log_rate.clamp(-f64::from(LOG_RATE_LIMIT), f64::from(LOG_RATE_LIMIT));
    log_rate.exp() - count * log_rate
}

/// Sums over one bin of the horizon.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct BinSums {
    model: f64,
    null: f64,
    spikes: f64,
}

/// Forward-prediction bits per spike: `(NLL_null − NLL_model) / (spikes · ln 2)`, sums over bins and units in FP64, the null
/// model being each unit's mean count a bin on the training data.
#[derive(Debug, Clone, PartialEq)]
pub struct BitsPerSpike {
    bins: Vec<BinSums>,
    windows: u64,
}

impl BitsPerSpike {
    /// Nothing scored yet, for a horizon of `bins`.
    pub fn new(bins: usize) -> Self {
        BitsPerSpike {
            bins: vec![BinSums::default(); bins],
            windows: 0,
        }
    }

    /// Adds one window: `log_rates` and `counts` `[T, N]`, `null_log_rates` `[N]`.
    pub fn add(&mut self, log_rates: &[f32], counts: &[f32], null_log_rates: &[f64]) {
        let units = null_log_rates.len();
        assert!(log_rates.len() == self.bins.len() * units && counts.len() == log_rates.len());
        let rows = log_rates.chunks_exact(units).zip(counts.chunks_exact(units));
        for (bin, (rates, counts)) in rows.enumerate() {
            self.add_bin(bin, rates, counts.iter().map(|&count| f64::from(count)), null_log_rates);
        }
        self.add_window();
    }

    /// Adds bin `bin` of a window that [`add_window`](Self::add_window) counts: N log rates, counts, null log rates.
    pub fn add_bin(
        &mut self,
        bin: usize,
        log_rates: &[f32],
        counts: impl IntoIterator<Item = f64>,
        null_log_rates: &[f64],
    ) {
        let sums = &mut self.bins[bin];
        for ((&rate, count), &null) in log_rates.iter().zip(counts).zip(null_log_rates) {
            sums.model += negative_log_likelihood(f64::from(rate), count);
            sums.null += negative_log_likelihood(null, count);
            sums.spikes += count;
        }
    }

    /// Counts a window whose bins were added one by one.
    pub fn add_window(&mut self) {
        self.windows += 1;
    }

    /// Windows added.
    pub fn windows(&self) -> u64 {
        self.windows
    }

    /// Spikes in the predicted bins of all windows.
    pub fn spikes(&self) -> u64 {
        self.bins.iter().map(|sums| sums.spikes).sum::<f64>() as u64
    }

    /// Over the whole horizon; `None` before the first spike.
    pub fn overall(&self) -> Option<f64> {
        let mut total = BinSums::default();
        for sums in &self.bins {
            total.model += sums.model;
            total.null += sums.null;
            total.spikes += sums.spikes;
        }
        total.bits()
    }

    /// Bin by bin; `None` for a bin without spikes.
    pub fn by_bin(&self) -> Vec<Option<f64>> {
        self.bins.iter().map(BinSums::bits).collect()
    }
}

impl BinSums {
    fn bits(&self) -> Option<f64> {
        (self.spikes > 0.0).then(|| (self.null - self.model) / (self.spikes * std::f64::consts::LN_2))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_null_model_scores_zero() {
        let null = [-2.0, 0.3, -7.5];
        let mut score = BitsPerSpike::new(2);
        let twice: Vec<f32> = null.iter().chain(&null).map(|&rate| rate as f32).collect();
        for counts in [[0.0, 1.0, 3.0, 2.0, 0.0, 0.0], [1.0; 6]] {
            score.add(&twice, &counts, &null);
        }
        assert_eq!((score.windows(), score.spikes()), (2, 12));
        assert!(score.overall().unwrap().abs() < 1e-6);
        assert!(score.by_bin().iter().all(|bits| bits.unwrap().abs() < 1e-6));
    }

    #[test]
    fn a_known_gain() {
        // One unit, one bin, one spike; the model expects 1, the null model 1/2: ln 2 nats less the half spike of rate.
        let mut score = BitsPerSpike::new(1);
        score.add(&[0.0], &[1.0], &[0.5f64.ln()]);
        let expected = (std::f64::consts::LN_2 - 0.5) / std::f64::consts::LN_2;
        assert!((score.overall().unwrap() - expected).abs() < 1e-12);
    }

    #[test]
    fn no_spikes_no_figure() {
        let mut score = BitsPerSpike::new(1);
        score.add(&[-3.0, -4.0], &[0.0, 0.0], &[-3.0, -3.0]);
        assert_eq!(score.overall(), None);
        assert_eq!(score.by_bin(), vec![None]);
    }
}
