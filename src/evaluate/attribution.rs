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

/// Predictions whose log rates nowhere differ by more are the same: what left them so was not made use of.
pub const SAME_LOG_RATES: f64 = 1e-4;

/// Windows of a part of the experiment without which it has no interval.
const FEWEST_WINDOWS: usize = 10;

/// What is lost without an input, for people: a negative result too.
fn verdict(input: &str, largest_difference: f64, delta: &Bits, enough_windows: bool) -> String {
    if largest_difference < SAME_LOG_RATES {
        return format!(
            "the network makes no use of {input} (without it no log rate differs by more than {largest_difference:.0e}), so that this \
             says nothing about the data"
        );
    }
    let words = match (delta.value, delta.ci95) {
        (None, _) => "nothing to measure it by",
        (Some(_), None) if !enough_windows => "too few windows for an interval",
        (Some(_), None) => "without an interval nothing can be said of chance",
        (Some(_), Some([low, _])) if low > 0.0 => "predictions gain from it",
        (Some(_), Some([_, high])) if high < 0.0 => "predictions are worse with it",
        (Some(_), Some(_)) => "no measurable contribution: the interval holds zero",
    };
    words.to_owned()
}

/// Most modalities of which every subset is tried.
pub const MOST_MODALITIES: usize = 6;

/// Something beside the spikes that the network may see.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Modality {
    /// Its name.
    pub name: String,
    /// Windows in which anything of it is shown.
    pub windows_shown: usize,
}

/// What predictions are made from.
#[derive(Debug, Clone, Copy)]
pub struct Shown<'a> {
    /// Whether the window's spikes are tokens of the encoder; recent history is shown either way.
    pub spike_tokens: bool,
    /// Whether each modality is shown, `[M]`.
    pub modalities: &'a [bool],
}

/// What the window's spikes contributed as tokens of the encoder, beside all else.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct SpikeTokens {
    /// What is lost without them, in every breakdown.
    pub delta: BitsFigures,
    /// Largest difference of log rates with and without them.
    pub largest_difference: f64,
    /// What that says, in words.
    pub verdict: String,
}

/// What one modality contributed.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Contribution {
    /// The modality.
    pub modality: String,
    /// Windows in which anything of it is shown.
    pub windows_shown: usize,
    /// Largest difference of log rates with and without it, beside all others.
    pub largest_difference: f64,
    /// What Δ says, in words.
    pub verdict: String,
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
    /// The window's spikes as tokens.
    pub spike_tokens: SpikeTokens,
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

/// Number of predictions of every window that [`attribute`] makes: one is without the spikes' tokens.
pub fn passes(modalities: usize) -> usize {
    subsets(modalities).len() + 1
}

/// `|S|! (M − |S| − 1)! / M!` for sets of `size` out of `modalities`.
fn shapley_weight(size: usize, modalities: usize) -> f64 {
    let factorial = |n: usize| (1..=n).map(|k| k as f64).product::<f64>();
    factorial(size) * factorial(modalities - size - 1) / factorial(modalities)
}

fn largest_difference(one: &Predictions, other: &Predictions) -> f64 {
    let pairs = one.log_rates.iter().zip(&other.log_rates);
    pairs.map(|(a, b)| f64::from((a - b).abs())).fold(0.0, f64::max)
}

/// Compares predictions with every subset of the modalities; `predict` makes those of what is shown.
///
/// # Errors
/// Where the device that computes fails.
pub fn attribute(
    observed: &Observed,
    modalities: &[Modality],
    parts: &[Part],
    resamples: &Resamples,
    mut predict: impl FnMut(Shown<'_>) -> Result<Predictions, BackendError>,
) -> Result<Attribution, BackendError> {
    let count = modalities.len();
    let all: Subset = (1 << count) - 1;
    let mut predict = |spike_tokens: bool, set: Subset| {
        let shown: Vec<bool> = (0..count).map(|m| set & (1 << m) != 0).collect();
        predict(Shown {
            spike_tokens,
            modalities: &shown,
        })
    };
    let with_all = predict(true, all)?;
    let mut gains: Vec<Option<Gains>> = vec![None; all + 1];
    gains[all] = Some(Gains::new(observed, &with_all));
    let mut differences = vec![0.0; count];
    for set in subsets(count).into_iter().filter(|&set| set != all) {
        let predictions = predict(true, set)?;
        if let Some(left_out) = (0..count).find(|m| set == all & !(1 << m)) {
            differences[left_out] = largest_difference(&with_all, &predictions);
        }
        gains[set] = Some(Gains::new(observed, &predictions));
    }
    let without_spikes = predict(false, all)?;
    let of = |set: Subset| gains[set].as_ref().expect("every set that is asked for was tried");
    let spike_tokens = SpikeTokens::new(observed, (&with_all, of(all)), &without_spikes, resamples);
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
        let Modality { name, windows_shown } = modalities[m].clone();
        let figures = delta.figures(resamples);
        Contribution {
            verdict: match windows_shown {
                0 => "nothing of it was shown in these windows".to_owned(),
                _ => verdict(&name, differences[m], &figures.overall, resamples.enough_windows()),
            },
            modality: name,
            windows_shown,
            largest_difference: differences[m],
            delta_by_part: parts.iter().map(|part| part.bits(&delta, resamples)).collect(),
            delta: figures,
            shapley,
        }
    };
    Ok(Attribution {
        with_all: of(all).figures(resamples),
        with_none: of(0).figures(resamples),
        spike_tokens,
        contributions: (0..count).map(contribution).collect(),
        parts: parts.iter().map(|part| (part.name.clone(), part.count())).collect(),
    })
}

impl Part {
    fn count(&self) -> usize {
        self.windows.iter().filter(|&&inside| inside).count()
    }

    /// Δ in its windows; without an interval where they are few.
    fn bits(&self, delta: &Gains, resamples: &Resamples) -> Bits {
        let bits = delta.of_windows(&self.windows).figures(resamples).overall;
        Bits {
            ci95: bits.ci95.filter(|_| self.count() >= FEWEST_WINDOWS),
            ..bits
        }
    }
}

impl SpikeTokens {
    fn new(
        observed: &Observed,
        (with, gained): (&Predictions, &Gains),
        without: &Predictions,
        resamples: &Resamples,
    ) -> Self {
        let delta = Gains::sum(&[(1.0, gained), (-1.0, &Gains::new(observed, without))]).figures(resamples);
        let largest_difference = largest_difference(with, without);
        let enough = resamples.enough_windows();
        SpikeTokens {
            verdict: verdict("the window's spikes", largest_difference, &delta.overall, enough),
            delta,
            largest_difference,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::metrics::tests::{observed, predictions};
    use super::*;
    use std::f64::consts::LN_2;

    fn modalities(names: &[&str]) -> Vec<Modality> {
        let shown = |name: &&str| Modality {
            name: (*name).to_owned(),
            windows_shown: 1,
        };
        names.iter().map(shown).collect()
    }

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
        let predict = |shown: Shown<'_>| Ok(predictions(&observed, &rates(shown.modalities).map(|x| x as f32)));
        let resamples = Resamples::new(observed.windows(), 0, 0);
        let attribution = attribute(&observed, &modalities(&["a", "b"]), &[], &resamples, predict).unwrap();

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
        let of = |value, ci95| verdict("x", 0.1, &Bits { value, ci95 }, true);
        assert!(of(Some(0.1), Some([-0.1, 0.3])).contains("no measurable"));
        assert!(of(Some(-0.1), Some([-0.3, -0.05])).contains("worse"));
        assert!(of(Some(0.1), Some([0.05, 0.3])).contains("gain"));
        assert!(of(None, None).contains("nothing"));
    }

    /// Of a spike a window: `a` and the window's spikes change no log rate, `b` lowers it, and `c` raises it.
    fn of_windows(windows: usize, resamples: usize) -> Attribution {
        let observed = observed(1, &vec![1.0; windows], &[0.0]);
        let predict = |shown: Shown<'_>| {
            let of = |modality: usize, by: f32| if shown.modalities[modality] { by } else { 0.0 };
            let log_rate = -0.5 + of(0, 5e-5) + of(1, -0.2) + of(2, 0.3);
            Ok(predictions(&observed, &vec![log_rate; windows]))
        };
        let resamples = Resamples::of_recording(windows, resamples, 0);
        let mut modalities = modalities(&["a", "b", "c", "d"]);
        modalities[3].windows_shown = 0;
        attribute(&observed, &modalities, &[], &resamples, predict).unwrap()
    }

    #[test]
    fn what_is_not_made_use_of_is_told_from_what_does_not_help() {
        let attribution = of_windows(100, 100);
        let verdict = |modality: usize| &attribution.contributions[modality].verdict[..];
        let words = verdict(0);
        assert!(
            words.starts_with("the network makes no use of a (") && words.contains("5e-5"),
            "{words}"
        );
        assert!(words.ends_with("says nothing about the data"), "{words}");
        assert_eq!(verdict(1), "predictions are worse with it");
        assert_eq!(verdict(2), "predictions gain from it");
        assert_eq!(verdict(3), "nothing of it was shown in these windows");
        let difference = attribution.contributions[1].largest_difference;
        assert!((difference - 0.2).abs() < 1e-6, "{difference}");
        let of_spikes = &attribution.spike_tokens;
        assert!(of_spikes.verdict.contains("no use of the window's spikes") && of_spikes.largest_difference == 0.0);
    }

    #[test]
    fn few_windows_give_no_verdict() {
        let attribution = of_windows(2, 100);
        let contribution = &attribution.contributions[2];
        assert_eq!(contribution.verdict, "too few windows for an interval");
        assert_eq!(contribution.delta.overall.ci95, None);
        // That it is not made use of, any window tells.
        assert!(attribution.contributions[0].verdict.contains("no use"));
    }

    #[test]
    fn weights_of_all_sets_without_one_add_up_to_one() {
        for count in 1..=MOST_MODALITIES {
            let sum: f64 = (0..1usize << (count - 1))
                .map(|set| shapley_weight(set.count_ones() as usize, count))
                .sum();
            assert!((sum - 1.0).abs() < 1e-12);
        }
        assert_eq!(passes(2), 5);
        assert_eq!(passes(MOST_MODALITIES + 1), MOST_MODALITIES + 4);
    }

    #[test]
    fn a_part_counts_its_own_windows() {
        // Two windows of one bin; the modality helps in the second alone.
        let observed = observed(1, &[1.0, 3.0], &[0.0]);
        let predict = |shown: Shown<'_>| {
            let second = if shown.modalities[0] { 1.0 } else { 0.0 };
            Ok(predictions(&observed, &[0.0, second]))
        };
        let part = |name: &str, windows: [bool; 2]| Part {
            name: name.into(),
            windows: windows.to_vec(),
        };
        let parts = [part("first", [true, false]), part("second", [false, true])];
        let resamples = Resamples::new(2, 0, 0);
        let attribution = attribute(&observed, &modalities(&["x"]), &parts, &resamples, predict).unwrap();
        let by_part = &attribution.contributions[0].delta_by_part;
        assert_eq!(by_part[0].value, Some(0.0));
        let expected = (3.0 - (1f64.exp() - 1.0)) / (3.0 * LN_2);
        assert!((by_part[1].value.unwrap() - expected).abs() < 1e-6);
        assert_eq!(attribution.parts, [("first".into(), 1), ("second".into(), 1)]);
    }
}
