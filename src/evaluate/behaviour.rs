//! Behaviour that a network reads out, against what was recorded.

use serde::Serialize;

use super::conditions::SeriesError;
use super::metrics::Resamples;
use crate::data::Recording;
use crate::model::conditions::Samples;
use crate::model::config::{ModelConfig, ReadoutConfig, ReadoutKind};
use crate::model::readout::targets;

/// In place of a series' name: the condition of the trial that a time lies in, as classes.
pub const TRIAL_CONDITION: &str = "trial_condition";

/// Keeps R² finite where nothing varies (model.md §9).
const EPSILON: f64 = 1e-8;

/// Samples of a series of a recording, or of its trials' conditions: times in ns, values `[n, C]`, C.
pub fn samples_of(recording: &Recording, series: &str) -> Option<(Vec<i64>, Vec<f32>, usize)> {
    if let Some(series) = recording.series(series) {
        return Some((series.times_ns.clone(), series.values.clone(), series.channels));
    }
    if series != TRIAL_CONDITION {
        return None;
    }
    let (mut times_ns, mut values) = (Vec::new(), Vec::new());
    for trial in &recording.trials {
        let label = trial.condition.map_or(f32::NAN, |condition| condition as f32);
        // Where one trial follows another at once its label is the later of two samples of one time.
        times_ns.extend([trial.start_ns, trial.end_ns]);
        values.extend([label, f32::NAN]);
    }
    (!times_ns.is_empty()).then_some((times_ns, values, 1))
}

/// What a network's readouts should have said of a recording.
#[derive(Debug, Clone)]
pub struct TargetReader {
    readouts: Vec<(ReadoutConfig, Vec<i64>, Vec<f32>)>,
}

impl TargetReader {
    /// Of every readout; a series that the recording lacks says nothing.
    ///
    /// # Errors
    /// A series of another number of channels.
    pub fn new(config: &ModelConfig, recording: &Recording) -> Result<Self, SeriesError> {
        let readout = |readout: &ReadoutConfig| {
            let (times_ns, values, channels) = samples_of(recording, &readout.series).unwrap_or_default();
            if !times_ns.is_empty() && channels != readout.channels() {
                return Err(SeriesError {
                    recording: recording.name.clone(),
                    series: readout.series.clone(),
                    found: channels,
                    expected: readout.channels(),
                });
            }
            Ok((readout.clone(), times_ns, values))
        };
        Ok(TargetReader {
            readouts: config.readouts.iter().map(readout).collect::<Result<_, _>>()?,
        })
    }

    /// Each readout's targets about a history that ends at `end_ns`: see [`targets`].
    pub fn at(&self, end_ns: i64, scaled: bool) -> Vec<Vec<f32>> {
        let of = |(config, times_ns, values): &(ReadoutConfig, Vec<i64>, Vec<f32>)| {
            let samples = Samples { times_ns, values };
            targets(config, samples, end_ns, scaled)
        };
        self.readouts.iter().map(of).collect()
    }
}

/// How well behaviour was decoded.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Decoded {
    /// The series.
    pub series: String,
    /// What decoded it.
    pub decoder: String,
    /// Times at which there was something to compare with.
    pub times: u64,
    /// `1 − SS_res / SS_tot`, by channel; empty for classes.
    pub r2: Vec<Explained>,
    /// `1 − Σ SS_res / Σ SS_tot` over channels; of classes the share that is right. None where there was nothing.
    pub score: Option<Explained>,
    /// Share of the most frequent class, which is right without looking; none of numbers.
    pub chance: Option<f64>,
}

/// A figure with its 95 % interval, where there is one.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
pub struct Explained {
    /// The figure.
    pub value: f64,
    /// By bootstrap over blocks of consecutive times.
    pub ci95: Option<[f64; 2]>,
}

/// What decoders made of a series, and what was recorded: n times.
#[derive(Debug, Clone)]
pub struct Decodings {
    /// The series' readout.
    pub readout: ReadoutConfig,
    /// What was recorded, `[n, C]`, or numbers of classes `[n, 1]`; NaN where nothing was.
    pub observed: Vec<f32>,
    /// Each decoder's name and what it said, `[n, C]`, or the classes' probabilities `[n, K]`.
    pub decoders: Vec<(String, Vec<f32>)>,
}

impl Decodings {
    /// n.
    pub fn times(&self) -> usize {
        self.observed.len() / self.readout.channels()
    }

    /// A decoder's score with each time counted as often as `weights` `[n]` say.
    fn score(&self, decoder: usize, weights: Option<&[f64]>) -> DecodingScore {
        let (columns, channels) = (self.readout.columns(), self.readout.channels());
        let mut score = DecodingScore::new(self.readout.kind, columns);
        let decoded = self.decoders[decoder].1.chunks_exact(columns);
        for (time, (decoded, observed)) in decoded.zip(self.observed.chunks_exact(channels)).enumerate() {
            score.add(weights.map_or(1.0, |weights| weights[time]), decoded, observed);
        }
        score
    }

    /// Every decoder's figures with intervals.
    pub fn figures(&self, resamples: &Resamples) -> Vec<Decoded> {
        let figures = |decoder: usize| {
            let (name, score) = (&self.decoders[decoder].0, self.score(decoder, None));
            let mut decoded = score.decoded(&self.readout.series, name);
            let columns = decoded.r2.len() + 1;
            let intervals = resamples.intervals95(columns, |weights| {
                let score = self.score(decoder, Some(weights));
                score.r2().into_iter().map(Some).chain([score.score()]).collect()
            });
            let figures = decoded.r2.iter_mut().chain(&mut decoded.score);
            figures.zip(intervals).for_each(|(figure, ci95)| figure.ci95 = ci95);
            decoded
        };
        (0..self.decoders.len()).map(figures).collect()
    }

    /// By how much the first decoder is ahead of another: in R² by channel, and in [`Decoded::score`] at the end.
    pub fn lead(&self, other: usize, resamples: &Resamples) -> Vec<Explained> {
        let lead = |weights: Option<&[f64]>| -> Vec<Option<f64>> {
            let [first, other] = [0, other].map(|decoder| {
                let score = self.score(decoder, weights);
                score
                    .r2()
                    .into_iter()
                    .map(Some)
                    .chain([score.score()])
                    .collect::<Vec<_>>()
            });
            let pairs = first.into_iter().zip(other);
            pairs.map(|(first, other)| Some(first? - other?)).collect()
        };
        let values = lead(None);
        let intervals = resamples.intervals95(values.len(), |weights| lead(Some(weights)));
        let with_interval = values.into_iter().zip(intervals);
        with_interval
            .filter_map(|(value, ci95)| value.map(|value| Explained { value, ci95 }))
            .collect()
    }
}

/// Adds up what was decoded.
#[derive(Debug, Clone)]
pub struct DecodingScore {
    kind: ReadoutKind,
    /// Sums of squared residuals, of observed values and of their squares, by channel.
    sums: Vec<[f64; 3]>,
    /// How often each class was there.
    seen: Vec<f64>,
    right: f64,
    times: f64,
}

impl DecodingScore {
    /// Nothing so far, of `columns` channels or classes.
    pub fn new(kind: ReadoutKind, columns: usize) -> Self {
        DecodingScore {
            kind,
            sums: vec![[0.0; 3]; columns],
            seen: vec![0.0; columns],
            right: 0.0,
            times: 0.0,
        }
    }

    /// Adds what was decoded at one time, `[C]` numbers or `[K]` probabilities, beside what was observed, `[C]` or `[1]` number of
    /// a class, as often as `weight` says. Nothing is compared where that is no number.
    pub fn add(&mut self, weight: f64, decoded: &[f32], observed: &[f32]) {
        if observed.iter().any(|x| !x.is_finite()) {
            return;
        }
        self.times += weight;
        match self.kind {
            ReadoutKind::Regression => {
                for (sums, (&decoded, &observed)) in self.sums.iter_mut().zip(decoded.iter().zip(observed)) {
                    let (decoded, observed) = (f64::from(decoded), f64::from(observed));
                    sums[0] += weight * (decoded - observed).powi(2);
                    sums[1] += weight * observed;
                    sums[2] += weight * observed * observed;
                }
            }
            ReadoutKind::Classes => {
                let class = observed[0] as usize;
                let likeliest = (0..decoded.len()).max_by(|&a, &b| decoded[a].total_cmp(&decoded[b]));
                self.seen[class] += weight;
                self.right += if likeliest == Some(class) { weight } else { 0.0 };
            }
        }
    }

    /// SS_tot of a channel.
    fn total(&self, [_, sum, squares]: &[f64; 3]) -> f64 {
        (squares - sum * sum / self.times).max(0.0)
    }

    /// By channel; empty for classes, and where there was nothing.
    fn r2(&self) -> Vec<f64> {
        let channels = match self.kind {
            ReadoutKind::Regression if self.times > 0.0 => &self.sums[..],
            _ => &[],
        };
        channels
            .iter()
            .map(|sums| 1.0 - sums[0] / (self.total(sums) + EPSILON))
            .collect()
    }

    fn score(&self) -> Option<f64> {
        (self.times > 0.0).then(|| match self.kind {
            ReadoutKind::Regression => {
                let residual: f64 = self.sums.iter().map(|sums| sums[0]).sum();
                let total: f64 = self.sums.iter().map(|sums| self.total(sums)).sum();
                1.0 - residual / (total + EPSILON)
            }
            ReadoutKind::Classes => self.right / self.times,
        })
    }

    /// What it came to, without intervals.
    pub fn decoded(&self, series: &str, decoder: &str) -> Decoded {
        let plain = |value| Explained { value, ci95: None };
        let chance = || self.seen.iter().copied().fold(0.0, f64::max) / self.times;
        Decoded {
            series: series.to_owned(),
            decoder: decoder.to_owned(),
            times: self.times as u64,
            r2: self.r2().into_iter().map(plain).collect(),
            score: self.score().map(plain),
            chance: (self.kind == ReadoutKind::Classes && self.times > 0.0).then(chance),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Trial;

    #[test]
    fn r2_is_of_each_channel_and_weighted_by_variance() {
        let mut score = DecodingScore::new(ReadoutKind::Regression, 2);
        for (decoded, observed) in [
            ([1.0, 10.0], [0.0, 10.0]),
            ([1.0, 30.0], [2.0, 30.0]),
            ([9.0; 2], [f32::NAN, 9.0]),
        ] {
            score.add(1.0, &decoded, &observed);
        }
        let decoded = score.decoded("x", "mean");
        // SS_res 2 and 0 of SS_tot 2 and 200.
        let close = |x: f64, e: f64| assert!((x - e).abs() < 1e-6, "{x} but {e}");
        close(decoded.r2[0].value, 0.0);
        close(decoded.r2[1].value, 1.0);
        close(decoded.score.unwrap().value, 1.0 - 2.0 / 202.0);
        assert_eq!((decoded.times, decoded.chance), (2, None));
        let nothing = DecodingScore::new(ReadoutKind::Regression, 2).decoded("x", "mean");
        assert_eq!((nothing.score, nothing.times), (None, 0));
    }

    #[test]
    fn classes_are_right_or_wrong() {
        let mut score = DecodingScore::new(ReadoutKind::Classes, 3);
        for (decoded, class) in [
            ([0.5, 0.3, 0.2], 0.0),
            ([0.5, 0.3, 0.2], 1.0),
            ([0.1, 0.2, 0.7], 2.0),
            ([0.9, 0.1, 0.0], 0.0),
        ] {
            score.add(1.0, &decoded, &[class]);
        }
        let decoded = score.decoded("target", "network");
        assert_eq!(
            (decoded.score.unwrap().value, decoded.chance, decoded.times),
            (0.75, Some(0.5), 4)
        );
    }

    #[test]
    fn a_decoder_that_is_better_throughout_is_ahead_for_certain() {
        let readout = ReadoutConfig {
            series: "x".into(),
            kind: ReadoutKind::Regression,
            step_s: 0.1,
            back: 1,
            ahead: 0,
            unit: String::new(),
            labels: vec!["0".into()],
            mean: vec![0.0],
            deviation: vec![1.0],
        };
        let observed: Vec<f32> = (0..200).map(|i| (i as f32 * 0.3).sin()).collect();
        let off = |by: f32| observed.iter().map(|x| x + by).collect::<Vec<f32>>();
        let decodings = Decodings {
            readout,
            decoders: vec![("near".into(), off(0.1)), ("far".into(), off(0.5))],
            observed,
        };
        let resamples = Resamples::new(200, 200, 1);
        let [near, far] = &decodings.figures(&resamples)[..] else {
            panic!()
        };
        let interval = |decoded: &Decoded| decoded.r2[0].ci95.unwrap();
        assert!(interval(near)[0] > interval(far)[1] && interval(near)[0] < near.r2[0].value);
        let lead = decodings.lead(1, &resamples);
        let expected = near.r2[0].value - far.r2[0].value;
        assert!((lead[0].value - expected).abs() < 1e-12 && lead[0].ci95.unwrap()[0] > 0.0);
        assert_eq!(lead.len(), 2);
    }

    #[test]
    fn conditions_of_trials_last_as_long_as_they() {
        let trial = |start_ns, end_ns, condition| Trial {
            start_ns,
            end_ns,
            condition,
        };
        let recording = Recording {
            name: "r".into(),
            unit_ids: Vec::new(),
            spike_times_ns: Vec::new(),
            spike_units: Vec::new(),
            start_ns: 0,
            end_ns: 100,
            intervals: Vec::new(),
            count_bin_ns: None,
            behaviour: Vec::new(),
            trials: vec![trial(10, 20, Some(4)), trial(20, 30, Some(7)), trial(40, 50, None)],
            epochs: Vec::new(),
            notes: Vec::new(),
        };
        let (times_ns, values, channels) = samples_of(&recording, TRIAL_CONDITION).unwrap();
        let at = |time: i64| {
            let last = times_ns.partition_point(|&t| t < time);
            values[last - 1]
        };
        assert_eq!((at(20), at(25), channels), (4.0, 7.0, 1));
        assert!(at(35).is_nan() && at(45).is_nan());
        assert!(samples_of(&recording, "hand_vel").is_none());
    }
}
