//! A population of which it is known what drives each unit: behaviour, a stimulus, both or neither.
//!
//! A ground truth for attribution. A behaviour of two channels wanders (an Ornstein–Uhlenbeck process); one of a few images
//! is shown at a time, as an embedding. In steps of 1 ms a unit fires with probability `1 − exp(−λ · step)`:
//!
//! ```text
//! ln λ(t) = ln baseline + [behaviour drives it] b · behaviour(t) + [the stimulus drives it] s · embedding(t)
//! ```
//! with `b` and `s` vectors of a unit's own, of equal length for all. Nothing else connects units: those that nothing drives
//! are Poisson processes that no model can predict better than by their mean.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

use super::{BEHAVIOUR_STEP_NS, STEP_NS, STEP_S};
use crate::data::{Interval, Recording, Series, Trial, NS_PER_S};

/// Name of the behaviour's series.
pub const BEHAVIOUR: &str = "behaviour";
/// Name of the stimulus's series.
pub const STIMULUS: &str = "stimulus";
/// Prefixes of the units' ids, by what drives them; ids go on with a number.
pub const GROUPS: [&str; 4] = ["behaviour", "stimulus", "both", "neither"];

const BASELINE_HZ: f64 = 8.0;
/// Length of `b` and of `s`: a deviation of the behaviour changes a rate by this much, natural logarithm.
const DRIVE: f64 = 0.7;
/// Time constant of the behaviour, s.
const TAU_S: f64 = 0.6;
const IMAGES: usize = 8;
const EMBEDDING: usize = 4;
/// Shortest and longest time for which an image is shown, s.
const SHOWN_S: [f64; 2] = [0.6, 1.4];

/// A vector of normal numbers, scaled to a length.
fn of_length(random: &mut ChaCha8Rng, size: usize, length: f64) -> Vec<f64> {
    let x: Vec<f64> = (0..size).map(|_| StandardNormal.sample(random)).collect();
    let norm = x.iter().map(|x| x * x).sum::<f64>().sqrt();
    x.iter().map(|x| x / norm * length).collect()
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// Simulates `units_a_group` units of each group for `duration_ns`, rounded down to whole steps. A trial is one showing of an
/// image, its condition the image.
pub fn planted(units_a_group: usize, seed: u64, duration_ns: i64) -> Recording {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let end_ns = duration_ns.max(0) / STEP_NS * STEP_NS;
    // Embeddings whose products with a vector of length 1 have a variance of about 1.
    let images: Vec<Vec<f64>> = (0..IMAGES)
        .map(|_| of_length(&mut random, EMBEDDING, (EMBEDDING as f64).sqrt()))
        .collect();
    let ids = GROUPS
        .iter()
        .flat_map(|group| (1..=units_a_group).map(move |number| format!("{group}{number}")));
    let drives: Vec<[Vec<f64>; 2]> = (0..GROUPS.len() * units_a_group)
        .map(|unit| {
            let group = unit / units_a_group;
            let by = |driven: bool| if driven { DRIVE } else { 0.0 };
            [
                of_length(&mut random, 2, by(group == 0 || group == 2)),
                of_length(&mut random, EMBEDDING, by(group == 1 || group == 2)),
            ]
        })
        .collect();

    let (mut behaviour, mut trials) = (
        [0.0f64; 2].map(|_| StandardNormal.sample(&mut random)),
        Vec::<Trial>::new(),
    );
    let (mut sampled_ns, mut samples) = (Vec::new(), Vec::new());
    let (mut shown_ns, mut shown) = (Vec::new(), Vec::new());
    let (mut spike_times_ns, mut spike_units) = (Vec::new(), Vec::new());
    let (keep, kick) = {
        let keep = (-STEP_S / TAU_S).exp();
        (keep, (1.0 - keep * keep).sqrt())
    };
    for now_ns in (0..end_ns).step_by(STEP_NS as usize) {
        if trials.last().is_none_or(|trial| now_ns >= trial.end_ns) {
            let image = random.random_range(0..IMAGES);
            let length_s = random.random_range(SHOWN_S[0]..SHOWN_S[1]);
            trials.push(Trial {
                start_ns: now_ns,
                end_ns: now_ns + (length_s * 1e3) as i64 * STEP_NS,
                condition: Some(image as i64),
            });
            shown_ns.push(now_ns);
            shown.extend(images[image].iter().map(|&x| x as f32));
        }
        if now_ns % BEHAVIOUR_STEP_NS == 0 {
            sampled_ns.push(now_ns);
            samples.extend(behaviour.map(|x| x as f32));
        }
        let image = trials.last().and_then(|trial| trial.condition).unwrap_or(0) as usize;
        for (unit, [by_behaviour, by_stimulus]) in drives.iter().enumerate() {
            let drive = dot(by_behaviour, &behaviour) + dot(by_stimulus, &images[image]);
            let fires = 1.0 - (-BASELINE_HZ * drive.exp() * STEP_S).exp();
            if random.random::<f64>() < fires {
                spike_times_ns.push(now_ns + random.random_range(0..STEP_NS));
                spike_units.push(unit as u32);
            }
        }
        for x in &mut behaviour {
            let noise: f64 = StandardNormal.sample(&mut random);
            *x = keep * *x + kick * noise;
        }
    }
    trials.retain(|trial| trial.end_ns <= end_ns);
    let mut order: Vec<usize> = (0..spike_times_ns.len()).collect();
    order.sort_by_key(|&spike| spike_times_ns[spike]);
    let series = |name: &str, times_ns, channels, values| Series {
        name: name.to_owned(),
        unit: String::new(),
        times_ns,
        channels,
        channel_names: Vec::new(),
        values,
    };
    Recording {
        name: format!("planted population of seed {seed}"),
        unit_ids: ids.collect(),
        spike_times_ns: order.iter().map(|&spike| spike_times_ns[spike]).collect(),
        spike_units: order.iter().map(|&spike| spike_units[spike]).collect(),
        start_ns: 0,
        end_ns,
        intervals: vec![Interval { start_ns: 0, end_ns }],
        count_bin_ns: None,
        behaviour: vec![
            series(BEHAVIOUR, sampled_ns, 2, samples),
            series(STIMULUS, shown_ns, EMBEDDING, shown),
        ],
        trials,
        epochs: Vec::new(),
        notes: vec![format!("simulated, {} s", end_ns as f64 / NS_PER_S as f64)],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_follow_what_drives_them_and_nothing_else() {
        let recording = planted(3, 5, 400 * NS_PER_S);
        assert!(recording.spike_times_ns.is_sorted());
        // Correlation of a unit's counts in 100 ms with the best linear combination of a series would need a fit; the squared
        // correlations with each channel, summed, do for telling apart.
        let bin_ns = 100_000_000;
        let bins = (recording.end_ns / bin_ns) as usize;
        let mut counts = vec![vec![0.0f64; bins]; 12];
        for (&t, &unit) in recording.spike_times_ns.iter().zip(&recording.spike_units) {
            counts[unit as usize][(t / bin_ns) as usize] += 1.0;
        }
        let held = |name: &str, channel: usize| -> Vec<f64> {
            let series = recording.series(name).unwrap();
            let at = |bin: usize| {
                series
                    .times_ns
                    .partition_point(|&t| t <= bin as i64 * bin_ns + bin_ns / 2)
                    - 1
            };
            (0..bins).map(|bin| f64::from(series.row(at(bin))[channel])).collect()
        };
        let correlation = |a: &[f64], b: &[f64]| {
            let mean = |x: &[f64]| x.iter().sum::<f64>() / x.len() as f64;
            let (ma, mb) = (mean(a), mean(b));
            let cov: f64 = a.iter().zip(b).map(|(a, b)| (a - ma) * (b - mb)).sum();
            let var = |x: &[f64], m: f64| x.iter().map(|x| (x - m) * (x - m)).sum::<f64>();
            cov / (var(a, ma) * var(b, mb)).sqrt()
        };
        for (unit, counts) in counts.iter().enumerate() {
            let follows = |name: &str, channels: usize| {
                let squares = (0..channels).map(|channel| correlation(counts, &held(name, channel)).powi(2));
                squares.sum::<f64>() > 0.03
            };
            let group = unit / 3;
            assert_eq!(follows(BEHAVIOUR, 2), group == 0 || group == 2, "unit {unit}");
            assert_eq!(follows(STIMULUS, EMBEDDING), group == 1 || group == 2, "unit {unit}");
        }
    }

    #[test]
    fn one_seed_gives_one_population() {
        let of = |seed| planted(2, seed, 3 * NS_PER_S);
        assert_eq!(of(1), of(1));
        assert_ne!(of(1).spike_times_ns, of(2).spike_times_ns);
    }
}
