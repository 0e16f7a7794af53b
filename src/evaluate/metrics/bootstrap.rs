//! Bootstrap intervals over windows: what the figures would have been on another stretch of the same recording.
//!
//! Windows that follow one another are alike, so that blocks of consecutive windows are drawn, with replacement, and not
//! single ones (the circular block bootstrap; a block may run over the last window into the first). A block has W^(1/3)
//! windows, rounded up. All models of an evaluation share one set of draws, so that their differences can be resampled too.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// Fewer resamples in which a figure exists give no interval.
const FEWEST: usize = 20;

/// With fewer blocks a resample is nearly the recording itself: of one or two, every resample is, and intervals have no width.
const FEWEST_BLOCKS: usize = 10;

/// How often each window is drawn, in each of B resamples.
#[derive(Debug, Clone, PartialEq)]
pub struct Resamples {
    windows: usize,
    /// `[B, W]`.
    weights: Vec<f64>,
}

/// Consecutive windows that are drawn together.
fn block(windows: usize) -> usize {
    (windows as f64).cbrt().ceil() as usize
}

impl Resamples {
    /// Draws `count` resamples of a recording's windows; none of so few that intervals would say nothing.
    pub fn of_recording(windows: usize, count: usize, seed: u64) -> Self {
        let none = Resamples::new(windows, 0, seed);
        match none.enough_windows() {
            true => Resamples::new(windows, count, seed),
            false => none,
        }
    }

    /// Whether there are blocks enough for intervals.
    pub fn enough_windows(&self) -> bool {
        self.windows >= FEWEST_BLOCKS * block(self.windows).max(1)
    }

    /// Draws `count` resamples of `windows` windows.
    pub fn new(windows: usize, count: usize, seed: u64) -> Self {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let block = block(windows);
        let mut weights = vec![0.0; windows * count];
        for weights in weights.chunks_exact_mut(windows.max(1)) {
            let mut drawn = 0;
            while drawn < windows {
                let first = random.random_range(0..windows);
                let length = block.min(windows - drawn);
                (first..first + length).for_each(|window| weights[window % windows] += 1.0);
                drawn += length;
            }
        }
        Resamples { windows, weights }
    }

    /// 2.5th and 97.5th percentile of each of the `columns` figures that `figures` gives for the windows' weights `[W]`.
    /// `None` where too few resamples have a figure.
    pub fn intervals95(&self, columns: usize, figures: impl Fn(&[f64]) -> Vec<Option<f64>>) -> Vec<Option<[f64; 2]>> {
        let mut values = vec![Vec::new(); columns];
        for weights in self.weights.chunks_exact(self.windows.max(1)) {
            for (values, figure) in values.iter_mut().zip(figures(weights)) {
                values.extend(figure);
            }
        }
        let interval = |mut values: Vec<f64>| {
            values.sort_by(f64::total_cmp);
            (values.len() >= FEWEST).then(|| [quantile(&values, 0.025), quantile(&values, 0.975)])
        };
        values.into_iter().map(interval).collect()
    }
}

/// The `q` quantile of ascending values, interpolated between the two nearest.
fn quantile(ascending: &[f64], q: f64) -> f64 {
    let place = q * (ascending.len() - 1) as f64;
    let (below, above) = (ascending[place.floor() as usize], ascending[place.ceil() as usize]);
    below + (above - below) * place.fract()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_resample_has_as_many_windows() {
        let resamples = Resamples::new(30, 200, 7);
        let sums: Vec<f64> = resamples
            .weights
            .chunks(30)
            .map(|weights| weights.iter().sum())
            .collect();
        assert_eq!(sums, [30.0; 200]);
        assert_eq!(resamples, Resamples::new(30, 200, 7));
        assert_ne!(resamples, Resamples::new(30, 200, 8));
        // Blocks of four: in a resample of blocks a window is mostly drawn as often as its neighbour.
        let alike = |weights: &[f64]| (0..29).filter(|&w| weights[w] == weights[w + 1]).count();
        let mean = resamples.weights.chunks(30).map(alike).sum::<usize>() as f64 / 200.0;
        assert!(mean > 15.0, "{mean}");
    }

    #[test]
    fn quantiles_are_interpolated() {
        let values = [1.0, 2.0, 4.0];
        assert_eq!(
            [0.0, 0.25, 0.5, 0.75, 1.0].map(|q| quantile(&values, q)),
            [1.0, 1.5, 2.0, 3.0, 4.0]
        );
    }

    #[test]
    fn the_interval_of_a_mean_is_about_four_standard_errors_wide() {
        // 400 independent windows of variance 1/12: the standard error of their mean is 0.01443.
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let values: Vec<f64> = (0..400).map(|_| random.random::<f64>()).collect();
        let mean = |weights: &[f64]| {
            vec![Some(
                weights.iter().zip(&values).map(|(w, v)| w * v).sum::<f64>() / 400.0,
            )]
        };
        let [low, high] = Resamples::new(400, 2000, 3).intervals95(1, mean)[0].unwrap();
        let width = high - low;
        assert!((width - 2.0 * 1.96 * 0.01443).abs() < 0.25 * width, "{width}");
        let centre = values.iter().sum::<f64>() / 400.0;
        assert!(low < centre && centre < high);
    }

    #[test]
    fn few_windows_have_no_resamples() {
        for (windows, enough) in [(0, false), (2, false), (39, false), (40, true), (600, true)] {
            let resamples = Resamples::of_recording(windows, 100, 0);
            assert_eq!(resamples.enough_windows(), enough, "{windows}");
            let interval = resamples.intervals95(1, |_| vec![Some(1.0)])[0];
            assert_eq!(interval.is_some(), enough, "{windows}");
        }
    }

    #[test]
    fn figures_that_rarely_exist_have_no_interval() {
        let resamples = Resamples::new(4, 100, 0);
        let rarely = |weights: &[f64]| vec![(weights[0] == 4.0).then_some(1.0), Some(2.0)];
        assert_eq!(resamples.intervals95(2, rarely), [None, Some([2.0, 2.0])]);
    }
}
