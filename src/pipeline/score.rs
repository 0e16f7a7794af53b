//! Bits per spike while the run goes on: each prediction is scored when the bins that it predicted are known.
//!
//! fp-bps = (NLL_null − NLL_model) / (spikes · ln 2), NLL = Σ exp(r) − y·r, r clamped to [−10, 10], sums in f64
//! (model.md §9). Two sums are kept: over every prediction, and over those a whole horizon apart from the first, whose
//! windows do not overlap: the protocol of an offline evaluation.

use serde::Serialize;

use crate::model::poisson::BitsPerSpike;

/// A finished score, as JSON has it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Score {
    /// Bits per spike over all predicted bins; none without spikes.
    pub fp_bps: Option<f64>,
    /// The same, bin by bin.
    pub fp_bps_by_bin: Vec<Option<f64>>,
    /// Predictions scored.
    pub n_windows: u64,
    /// Spikes in the bins that they predicted.
    pub n_spikes: u64,
}

/// Both scores of a run.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ScoreReport {
    /// Over windows that do not overlap.
    pub windows: Score,
    /// Over every prediction.
    pub every_bin: Score,
    /// Predictions whose bins never became known: the last ones, and those around a bin that was lost.
    pub n_unscored: u64,
}

/// Scores predictions as their bins become known. Nothing allocates after [`OnlineScore::new`].
pub struct OnlineScore {
    bins: usize,
    units: usize,
    null_log_rates: Box<[f64]>,
    wide_last_bin: bool,
    // Rings over the bin index, `depth` deep: the prediction made at a bin, and that bin's counts.
    depth: usize,
    predictions: Box<[f32]>,
    counts: Box<[u32]>,
    early_counts: Box<[u32]>,
    first_bin: Option<i64>,
    unbroken_from: i64,
    next_bin: i64,
    pushed: u64,
    every: BitsPerSpike,
    windows: BitsPerSpike,
}

impl OnlineScore {
    /// A score of predictions of `bins` bins against `null_log_rates` (N, ln of the mean count a bin).
    ///
    /// With `wide_last_bin` the last predicted bin goes on into the next one, for as long as that one's early counts
    /// reach (model.md §2: a horizon of 250 ms in bins of 20 ms).
    pub fn new(bins: usize, null_log_rates: &[f64], wide_last_bin: bool) -> Self {
        let units = null_log_rates.len();
        let depth = bins + 2;
        Self {
            bins,
            units,
            null_log_rates: null_log_rates.into(),
            wide_last_bin,
            depth,
            predictions: vec![0.0; depth * bins * units].into(),
            counts: vec![0; depth * units].into(),
            early_counts: vec![0; depth * units].into(),
            first_bin: None,
            unbroken_from: 0,
            next_bin: 0,
            pushed: 0,
            every: BitsPerSpike::new(bins),
            windows: BitsPerSpike::new(bins),
        }
    }

    /// Takes the prediction made when bin `index` closed (T × N) and that bin's counts (N); scores what is now known.
    ///
    /// Where a bin is missing, the predictions that reach over it are left out.
    pub fn push(&mut self, index: i64, counts: &[u32], early_counts: &[u32], log_rates: &[f32]) {
        let first = *self.first_bin.get_or_insert(index);
        if index != self.next_bin {
            self.unbroken_from = index;
        }
        self.next_bin = index + 1;
        self.pushed += 1;
        let slot = self.slot(index);
        let (units, size) = (self.units, self.bins * self.units);
        self.predictions[slot * size..][..size].copy_from_slice(log_rates);
        self.counts[slot * units..][..units].copy_from_slice(counts);
        self.early_counts[slot * units..][..units].copy_from_slice(early_counts);
        let known = index - self.bins as i64 - i64::from(self.wide_last_bin);
        if known >= self.unbroken_from {
            self.score(known, (known - first) % self.bins as i64 == 0);
        }
    }

    fn slot(&self, index: i64) -> usize {
        index.rem_euclid(self.depth as i64) as usize
    }

    fn score(&mut self, made_at: i64, in_windows: bool) {
        let size = self.bins * self.units;
        let prediction = &self.predictions[self.slot(made_at) * size..][..size];
        for (bin, log_rates) in prediction.chunks_exact(self.units).enumerate() {
            let at = made_at + 1 + bin as i64;
            let counts = &self.counts[self.slot(at) * self.units..][..self.units];
            let more = &self.early_counts[self.slot(at + 1) * self.units..][..self.units];
            let reaches_on = self.wide_last_bin && bin + 1 == self.bins;
            let counts = counts
                .iter()
                .zip(more)
                .map(|(&count, &more)| f64::from(count + if reaches_on { more } else { 0 }));
            self.every.add_bin(bin, log_rates, counts.clone(), &self.null_log_rates);
            if in_windows {
                self.windows.add_bin(bin, log_rates, counts, &self.null_log_rates);
            }
        }
        self.every.add_window();
        if in_windows {
            self.windows.add_window();
        }
    }

    /// Bits per spike over the windows so far; none without spikes.
    pub fn bits_per_spike(&self) -> Option<f64> {
        self.windows.overall()
    }

    /// The scores so far.
    pub fn report(&self) -> ScoreReport {
        ScoreReport {
            windows: (&self.windows).into(),
            every_bin: (&self.every).into(),
            n_unscored: self.pushed - self.every.windows(),
        }
    }
}

impl From<&BitsPerSpike> for Score {
    fn from(sums: &BitsPerSpike) -> Self {
        Score {
            fp_bps: sums.overall(),
            fp_bps_by_bin: sums.by_bin(),
            n_windows: sums.windows(),
            n_spikes: sums.spikes(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng};

    /// Counts, early counts and predictions.
    type Series = (Vec<[u32; 2]>, Vec<[u32; 2]>, Vec<[f32; 6]>);

    /// 40 bins, predicted 3 ahead, 2 units.
    fn series(seed: u64) -> Series {
        let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(seed);
        let counts: Vec<[u32; 2]> = (0..40)
            .map(|_| [rng.random_range(0..4), rng.random_range(0..3)])
            .collect();
        let early = counts.iter().map(|pair| pair.map(|count| count / 2)).collect();
        let rates = (0..40)
            .map(|_| std::array::from_fn(|_| rng.random_range(-2.0..1.0)))
            .collect();
        (counts, early, rates)
    }

    /// The definition, over the predictions made at `made_at`.
    fn by_definition(made_at: &[usize], null: &[f64; 2], wide: bool, (counts, early, rates): &Series) -> f64 {
        let (mut difference, mut spikes) = (0.0, 0.0);
        for &at in made_at {
            for bin in 0..3 {
                for unit in 0..2 {
                    let extra = if wide && bin == 2 { early[at + 4][unit] } else { 0 };
                    let count = f64::from(counts[at + 1 + bin][unit] + extra);
                    let rate = f64::from(rates[at][2 * bin + unit]);
                    difference += (null[unit].exp() - count * null[unit]) - (rate.exp() - count * rate);
                    spikes += count;
                }
            }
        }
        difference / (spikes * 2f64.ln())
    }

    fn run(null: &[f64; 2], wide: bool, data: &Series, lost: &[usize]) -> ScoreReport {
        let mut score = OnlineScore::new(3, null, wide);
        for bin in (5..40).filter(|bin| !lost.contains(bin)) {
            score.push(bin as i64, &data.0[bin], &data.1[bin], &data.2[bin]);
        }
        score.report()
    }

    #[test]
    fn scores_are_the_definition_over_windows_and_over_every_bin() {
        let (null, data) = ([-0.3, 0.2], series(1));
        for wide in [false, true] {
            let report = run(&null, wide, &data, &[]);
            let last = if wide { 35 } else { 36 };
            let every: Vec<usize> = (5..=last).collect();
            let windows: Vec<usize> = (5..=last).step_by(3).collect();
            assert_eq!(
                (report.every_bin.n_windows, report.windows.n_windows),
                (every.len() as u64, windows.len() as u64)
            );
            assert!((report.every_bin.fp_bps.unwrap() - by_definition(&every, &null, wide, &data)).abs() < 1e-12);
            assert!((report.windows.fp_bps.unwrap() - by_definition(&windows, &null, wide, &data)).abs() < 1e-12);
            assert_eq!(report.n_unscored, 35 - every.len() as u64);
        }
    }

    #[test]
    fn predictions_that_reach_over_a_lost_bin_are_left_out() {
        let (null, data) = ([-0.3, 0.2], series(2));
        let report = run(&null, false, &data, &[20]);
        let every: Vec<usize> = (5..=16).chain(21..=36).collect();
        let windows: Vec<usize> = every.iter().copied().filter(|at| (at - 5) % 3 == 0).collect();
        assert!((report.every_bin.fp_bps.unwrap() - by_definition(&every, &null, false, &data)).abs() < 1e-12);
        assert!((report.windows.fp_bps.unwrap() - by_definition(&windows, &null, false, &data)).abs() < 1e-12);
    }

    #[test]
    fn null_rates_score_zero_and_silence_scores_nothing() {
        let (null, mut data) = ([-0.3, 0.2], series(3));
        data.2
            .iter_mut()
            .for_each(|rates| *rates = [-0.3, 0.2, -0.3, 0.2, -0.3, 0.2]);
        assert!(run(&null, false, &data, &[]).every_bin.fp_bps.unwrap().abs() < 1e-6);
        data.0.iter_mut().for_each(|counts| *counts = [0, 0]);
        assert_eq!(run(&null, false, &data, &[]).windows.fp_bps, None);
    }
}
