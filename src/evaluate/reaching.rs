//! How well decoders bring a cursor to targets: share of successes, time to target, straightness, and what one decoder is ahead of
//! another over trials with the same target.

use serde::Serialize;

use super::metrics::Resamples;
use crate::acquire::simulate::closed_loop::{ReachTask, TrialOutcome, TrialResult, SAMPLE_NS};
use crate::data::ns_to_seconds;

/// 97.5th percentile of the normal distribution.
const Z: f64 = 1.959_964;

/// What a decoder came to.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ReachFigures {
    /// Its name.
    pub decoder: String,
    /// Trials that it was in charge of and that ended.
    pub trials: usize,
    /// Those of them in which the cursor reached the target.
    pub successes: usize,
    /// Their share.
    pub success_rate: Option<f64>,
    /// Its 95 % interval (Wilson 1927).
    pub success_rate95: Option<[f64; 2]>,
    /// From the target's appearance to the arrival, over successes, s.
    pub time_to_target_s: Option<Quartiles>,
    /// Straight way over the way that was taken, up to the arrival, over successes; 1 is straight.
    pub path_efficiency: Option<Quartiles>,
}

/// Median and quartiles.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Quartiles {
    /// 25th percentile.
    pub lower: f64,
    /// 50th.
    pub median: f64,
    /// 75th.
    pub upper: f64,
}

impl Quartiles {
    fn of(mut values: Vec<f64>) -> Option<Self> {
        values.sort_by(f64::total_cmp);
        let last = values.len().checked_sub(1)?;
        let quantile = |q: f64| {
            let place = q * last as f64;
            let (below, above) = (values[place.floor() as usize], values[place.ceil() as usize]);
            below + (above - below) * place.fract()
        };
        Some(Quartiles {
            lower: quantile(0.25),
            median: quantile(0.5),
            upper: quantile(0.75),
        })
    }
}

/// By how much one decoder is ahead of another, over the sets of trials that both have finished.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ReachLead {
    /// The one.
    pub decoder: String,
    /// The other.
    pub over: String,
    /// Sets.
    pub pairs: usize,
    /// Difference of the shares of successes.
    pub success_rate: f64,
    /// Its 95 % interval over resamples of the sets; none where all pairs agree.
    pub success_rate95: Option<[f64; 2]>,
    /// Mean difference of the times to target, s, below 0 where the one is faster. A trial without success counts with its time-out.
    pub time_s: f64,
    /// Its 95 % interval.
    pub time95_s: Option<[f64; 2]>,
}

/// The 95 % interval of a share (Wilson 1927): `(k + z²/2 ± z √(k (n − k) / n + z²/4)) / (n + z²)`.
fn wilson95(successes: usize, trials: usize) -> Option<[f64; 2]> {
    let (k, n) = (successes as f64, trials as f64);
    let spread = Z * (k * (n - k) / n + Z * Z / 4.0).sqrt();
    let at = |spread: f64| ((k + Z * Z / 2.0 + spread) / (n + Z * Z)).clamp(0.0, 1.0);
    (trials > 0).then(|| [at(-spread), at(spread)])
}

fn time_s(result: &TrialResult) -> Option<f64> {
    match result.outcome {
        TrialOutcome::Success { time_to_target_ns } => Some(ns_to_seconds(time_to_target_ns)),
        TrialOutcome::TimeOut => None,
    }
}

/// Straight way over the way taken up to the arrival.
fn efficiency(result: &TrialResult) -> Option<f64> {
    let TrialOutcome::Success { time_to_target_ns } = result.outcome else {
        return None;
    };
    let length = |from: [f64; 2], to: [f64; 2]| (to[0] - from[0]).hypot(to[1] - from[1]);
    let samples = (time_to_target_ns + SAMPLE_NS - 1) / SAMPLE_NS;
    let way = &result.path_m[..result.path_m.len().min(samples as usize + 1)];
    let taken: f64 = way.windows(2).map(|step| length(step[0], step[1])).sum();
    (taken > 0.0).then(|| length(way[0], way[way.len() - 1]) / taken)
}

/// Figures of every decoder, in the order of their names.
pub fn figures(results: &[TrialResult], names: &[String]) -> Vec<ReachFigures> {
    let of_decoder = |(decoder, name): (usize, &String)| {
        let own: Vec<&TrialResult> = results
            .iter()
            .filter(|result| result.planned.decoder == decoder)
            .collect();
        let times: Vec<f64> = own.iter().filter_map(|result| time_s(result)).collect();
        let (trials, successes) = (own.len(), times.len());
        ReachFigures {
            decoder: name.clone(),
            trials,
            successes,
            success_rate: (trials > 0).then(|| successes as f64 / trials as f64),
            success_rate95: wilson95(successes, trials),
            time_to_target_s: Quartiles::of(times),
            path_efficiency: Quartiles::of(own.iter().filter_map(|result| efficiency(result)).collect()),
        }
    };
    names.iter().enumerate().map(of_decoder).collect()
}

/// What decoder `one` is ahead of decoder `other`; nothing where no set has trials of both.
pub fn lead(
    results: &[TrialResult],
    names: &[String],
    (one, other): (usize, usize),
    task: &ReachTask,
    (resamples, seed): (usize, u64),
) -> Option<ReachLead> {
    let time_out_s = ns_to_seconds(task.time_out_ns);
    let of = |decoder: usize| results.iter().filter(move |result| result.planned.decoder == decoder);
    // A pair: difference in success, difference in time.
    let pairs: Vec<[f64; 2]> = of(one)
        .filter_map(|first| {
            let second = of(other).find(|second| second.planned.set == first.planned.set)?;
            let (first, second) = (time_s(first), time_s(second));
            let success = f64::from(first.is_some()) - f64::from(second.is_some());
            Some([success, first.unwrap_or(time_out_s) - second.unwrap_or(time_out_s)])
        })
        .collect();
    if pairs.is_empty() {
        return None;
    }
    let means = |weights: &[f64]| {
        let sum = |column: usize| {
            pairs
                .iter()
                .zip(weights)
                .map(|(pair, weight)| pair[column] * weight)
                .sum()
        };
        let total: f64 = weights.iter().sum();
        [0, 1].map(|column| -> f64 { sum(column) }).map(|sum| sum / total)
    };
    let [success_rate, time_s] = means(&vec![1.0; pairs.len()]);
    let intervals =
        Resamples::new(pairs.len(), resamples, seed).intervals95(2, |weights| means(weights).map(Some).to_vec());
    Some(ReachLead {
        decoder: names[one].clone(),
        over: names[other].clone(),
        pairs: pairs.len(),
        success_rate,
        // Pairs that all agree say nothing of pairs that would not.
        success_rate95: intervals[0].filter(|_| pairs.iter().any(|pair| pair[0] != pairs[0][0])),
        time_s,
        time95_s: intervals[1],
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::acquire::simulate::closed_loop::PlannedTrial;

    fn trial(set: usize, decoder: usize, time_s: Option<f64>, path_m: &[[f64; 2]]) -> TrialResult {
        let outcome = time_s.map_or(TrialOutcome::TimeOut, |time_s| TrialOutcome::Success {
            time_to_target_ns: (time_s * 1e9) as i64,
        });
        let planned = PlannedTrial {
            set,
            target: 0,
            decoder,
        };
        TrialResult {
            planned,
            outcome,
            path_m: path_m.to_vec(),
        }
    }

    #[test]
    fn shares_have_wilsons_interval() {
        // Newcombe 1998, table I: 81 of 263 is 0.2553 to 0.3662, and 0 of 20 is 0 to 0.1611.
        let near = |got: Option<[f64; 2]>, expected: [f64; 2]| {
            let got = got.unwrap();
            assert!((0..2).all(|i| (got[i] - expected[i]).abs() < 1e-4), "{got:?}");
        };
        near(wilson95(81, 263), [0.2553, 0.3662]);
        near(wilson95(0, 20), [0.0, 0.1611]);
        assert_eq!(wilson95(0, 0), None);
    }

    #[test]
    fn figures_are_over_successes_and_pairs_over_sets() {
        let corner = [[0.0, 0.0], [0.03, 0.0], [0.03, 0.04], [9.0, 9.0]];
        let results = [
            trial(0, 0, Some(0.04), &corner),
            trial(0, 1, None, &corner),
            trial(1, 1, Some(1.0), &corner),
            trial(1, 0, None, &corner),
            trial(2, 0, Some(3.0), &corner),
        ];
        let names = ["a", "b"].map(String::from);
        let figures = figures(&results, &names);
        assert_eq!((figures[0].trials, figures[0].successes), (3, 2));
        let times = figures[0].time_to_target_s.unwrap();
        assert!((times.median - 1.52).abs() < 1e-12, "{times:?}");
        // 5 cm as the crow flies, 7 on foot; what comes after the arrival is left out.
        assert!((efficiency(&results[0]).unwrap() - 5.0 / 7.0).abs() < 1e-12);
        let task = ReachTask::default();
        let lead = lead(&results, &names, (0, 1), &task, (200, 1)).unwrap();
        assert_eq!((lead.pairs, lead.success_rate), (2, 0.0));
        // (0.04 − 4 + 4 − 1) / 2.
        assert!((lead.time_s + 0.48).abs() < 1e-9, "{lead:?}");
        assert!(lead.time95_s.is_some());
    }
}
