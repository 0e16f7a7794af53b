//! What each modality contributed: predictions with and without it, on the same windows.
//!
//! With 𝓛(S) the mean log-likelihood a spike, in bits, of what the network predicts when it is shown the modalities S:
//!
//! ```text
//! Δ_m = 𝓛(all) − 𝓛(all but m)                                     what is lost without m
//! φ_m = Σ_{S ∌ m} |S|! (M − |S| − 1)! / M! · (𝓛(S ∪ m) − 𝓛(S))     Shapley value: shares that add up to 𝓛(all) − 𝓛(none)
//! ```
//! Two modalities that say the same have no Δ each and half of the sum each as φ. Both are of the network, not of nature: a
//! modality that the network never learned to read contributes nothing. Spikes are always shown.

use kernels::BackendError;
use serde::Serialize;

use super::metrics::{Bits, BitsFigures, Gains, Resamples};
use super::predictions::{Observed, Predictions};

/// What Δ says, for people: a negative result too.
pub fn in_words(delta: &Bits) -> &'static str {
    match (delta.value, delta.ci95) {
        (None, _) => "nothing to measure it by",
        (Some(_), None) => "without an interval nothing can be said of chance",
        (Some(_), Some([low, _])) if low > 0.0 => "predictions gain from it",
        (Some(_), Some([_, high])) if high < 0.0 => "predictions are worse with it",
        (Some(_), Some(_)) => "no measurable contribution: the interval holds zero",
    }
}

/// Most modalities of which every subset is tried.
pub const MOST_MODALITIES: usize = 6;

/// What one modality contributed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Contribution {
    /// The modality.
    pub modality: String,
    /// Δ_m, in every breakdown.
    pub delta: BitsFigures,
    /// φ_m, in every breakdown; `None` for more than [`MOST_MODALITIES`].
    pub shapley: Option<BitsFigures>,
    /// Δ_m(v) over the windows of each part of the experiment, in the order of [`Attribution::parts`].
    pub delta_by_part: Vec<Bits>,
}

/// What every modality contributed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Attribution {
    /// Bits per spike with all modalities.
    pub with_all: BitsFigures,
    /// Bits per spike with the spikes alone.
    pub with_none: BitsFigures,
    /// By modality.
    pub contributions: Vec<Contribution>,
    /// Names of the parts, such as conditions of trials, and their windows.
    pub parts: Vec<(String, usize)>,
}

/// Windows of a part of the experiment, `[W]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Part {
    /// Its name.
    pub name: String,
    /// Whether each window belongs to it.
    pub windows: Vec<bool>,
}

/// Sets of modalities, a bit each.
type Subset = usize;

/// Which sets have to be tried for `modalities`.
fn subsets(modalities: usize) -> Vec<Subset> {
    let all = (1 << modalities) - 1;
    if modalities <= MOST_MODALITIES {
        return (0..=all).collect();
    }
    let mut sets = vec![0];
    sets.extend((0..modalities).map(|m| all & !(1 << m)));
    sets.push(all);
    sets
}

/// Number of predictions of every window that [`attribute`] makes.
pub fn passes(modalities: usize) -> usize {
    subsets(modalities).len()
}

/// `|S|! (M − |S| − 1)! / M!` for sets of `size` out of `modalities`.
fn shapley_weight(size: usize, modalities: usize) -> f64 {
    let factorial = |n: usize| (1..=n).map(|k| k as f64).product::<f64>();
    factorial(size) * factorial(modalities - size - 1) / factorial(modalities)
}

/// Compares predictions with every subset of the modalities; `predict` makes those of the modalities for which it is given
/// `true`, `[M]`.
///
/// # Errors
/// Where the device that computes fails.
pub fn attribute(
    observed: &Observed,
    modalities: &[String],
    parts: &[Part],
    resamples: &Resamples,
    mut predict: impl FnMut(&[bool]) -> Result<Predictions, BackendError>,
) -> Result<Attribution, BackendError> {
    let count = modalities.len();
    let all: Subset = (1 << count) - 1;
    let mut gains: Vec<Option<Gains>> = vec![None; all + 1];
    for set in subsets(count) {
        let shown: Vec<bool> = (0..count).map(|m| set & (1 << m) != 0).collect();
        gains[set] = Some(Gains::new(observed, &predict(&shown)?));
    }
    let of = |set: Subset| gains[set].as_ref().expect("every set that is asked for was tried");
    let contribution = |m: usize| {
        let bit = 1 << m;
        let delta = Gains::sum(&[(1.0, of(all)), (-1.0, of(all & !bit))]);
        let shapley = (count <= MOST_MODALITIES).then(|| {
            let without = (0..=all).filter(|set| set & bit == 0);
            let terms: Vec<(f64, &Gains)> = without
                .flat_map(|set| {
                    let weight = shapley_weight(set.count_ones() as usize, count);
                    [(weight, of(set | bit)), (-weight, of(set))]
                })
                .collect();
            Gains::sum(&terms).figures(resamples)
        });
        Contribution {
            modality: modalities[m].clone(),
            delta_by_part: parts
                .iter()
                .map(|part| delta.of_windows(&part.windows).figures(resamples).overall)
                .collect(),
            delta: delta.figures(resamples),
            shapley,
        }
    };
    Ok(Attribution {
        with_all: of(all).figures(resamples),
        with_none: of(0).figures(resamples),
        contributions: (0..count).map(contribution).collect(),
        parts: parts
            .iter()
            .map(|part| (part.name.clone(), part.windows.iter().filter(|&&inside| inside).count()))
            .collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::super::metrics::tests::{observed, predictions};
    use super::*;
    use std::f64::consts::LN_2;

    /// Log-likelihood of counts, in nats, but for what does not depend on the rates.
    fn log_likelihood(counts: &[f64], log_rates: &[f64]) -> f64 {
        counts.iter().zip(log_rates).map(|(y, x)| y * x - x.exp()).sum()
    }

    #[test]
    fn shares_are_those_of_the_definition() {
        // One unit, one window of two bins. The log rate is what modalities 0 and 1 add to it; 1 only helps with 0.
        let counts = [1.0, 3.0];
        let observed = observed(2, &counts.map(|c| c as f32), &[0.0]);
        let rates = |shown: &[bool]| match shown {
            [false, _] => [0.0, 0.0],
            [true, false] => [0.0, 0.5],
            _ => [0.0, 1.0],
        };
        let names = ["a".to_string(), "b".to_string()];
        let predict = |shown: &[bool]| Ok(predictions(&observed, &rates(shown).map(|x| x as f32)));
        let resamples = Resamples::new(observed.windows(), 0, 0);
        let attribution = attribute(&observed, &names, &[], &resamples, predict).unwrap();

        let value = |shown: [bool; 2]| log_likelihood(&counts, &rates(&shown)) / (4.0 * LN_2);
        let (none, a, b, both) = (
            value([false, false]),
            value([true, false]),
            value([false, true]),
            value([true, true]),
        );
        let [first, second] = &attribution.contributions[..] else {
            panic!()
        };
        let overall = |figures: &BitsFigures| figures.overall.value.unwrap();
        let close = |x: f64, y: f64| assert!((x - y).abs() < 1e-6, "{x} but {y}");
        close(overall(&first.delta), both - b);
        close(overall(&second.delta), both - a);
        let (share_a, share_b) = (
            overall(first.shapley.as_ref().unwrap()),
            overall(second.shapley.as_ref().unwrap()),
        );
        close(share_a, 0.5 * (a - none) + 0.5 * (both - b));
        close(share_b, 0.5 * (b - none) + 0.5 * (both - a));
        close(
            share_a + share_b,
            overall(&attribution.with_all) - overall(&attribution.with_none),
        );
    }

    #[test]
    fn negative_results_are_said() {
        let of = |value, ci95| in_words(&Bits { value, ci95 });
        assert!(of(Some(0.1), Some([-0.1, 0.3])).contains("no measurable"));
        assert!(of(Some(-0.1), Some([-0.3, -0.05])).contains("worse"));
        assert!(of(Some(0.1), Some([0.05, 0.3])).contains("gain"));
        assert!(of(None, None).contains("nothing"));
    }

    #[test]
    fn weights_of_all_sets_without_one_add_up_to_one() {
        for count in 1..=MOST_MODALITIES {
            let sum: f64 = (0..1usize << (count - 1))
                .map(|set| shapley_weight(set.count_ones() as usize, count))
                .sum();
            assert!((sum - 1.0).abs() < 1e-12);
        }
        assert_eq!(passes(2), 4);
        assert_eq!(passes(MOST_MODALITIES + 1), MOST_MODALITIES + 3);
    }

    #[test]
    fn a_part_counts_its_own_windows() {
        // Two windows of one bin; the modality helps in the second alone.
        let observed = observed(1, &[1.0, 3.0], &[0.0]);
        let predict = |shown: &[bool]| {
            let second = if shown[0] { 1.0 } else { 0.0 };
            Ok(predictions(&observed, &[0.0, second]))
        };
        let part = |name: &str, windows: [bool; 2]| Part {
            name: name.into(),
            windows: windows.to_vec(),
        };
        let parts = [part("first", [true, false]), part("second", [false, true])];
        let resamples = Resamples::new(2, 0, 0);
        let attribution = attribute(&observed, &["x".into()], &parts, &resamples, predict).unwrap();
        let by_part = &attribution.contributions[0].delta_by_part;
        assert_eq!(by_part[0].value, Some(0.0));
        let expected = (3.0 - (1f64.exp() - 1.0)) / (3.0 * LN_2);
        assert!((by_part[1].value.unwrap() - expected).abs() < 1e-6);
        assert_eq!(attribution.parts, [("first".into(), 1), ("second".into(), 1)]);
    }
}
