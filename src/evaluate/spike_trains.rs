//! Spike trains drawn from predicted rates, beside those that were observed in the same bins.
//!
//! Windows that follow one another without overlap make a train. The rates of a window are predicted from the spikes that were
//! observed before it; what is drawn is never fed back.

use kernels::poisson::{poisson, uniform};

use super::predictions::Predictions;
use crate::model::window::{Spikes, WindowShape};

/// Spike times have their own random numbers, beside those of the counts.
const TIMES: u64 = 1 << 62;
/// Bits of a stream that number windows.
const WINDOW_BITS: u32 = 40;

/// The bins of consecutive windows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stretches {
    /// Width of a bin, ns.
    pub bin_ns: i64,
    /// Bins of a window, T.
    pub window_bins: usize,
    /// Start of every window's first bin, ascending, `[W]`.
    pub starts_ns: Vec<i64>,
}

impl Stretches {
    /// The predicted bins of windows.
    ///
    /// # Errors
    /// Windows that overlap.
    pub fn new(shape: WindowShape, histories_ns: &[i64]) -> Result<Self, String> {
        let length_ns = shape.bin_ns * shape.bins as i64;
        if histories_ns.windows(2).any(|pair| pair[1] - pair[0] < length_ns) {
            return Err(format!(
                "a train is made of windows that do not overlap, and these have less than the {} bins of a horizon between \
                 them",
                shape.bins
            ));
        }
        Ok(Self {
            bin_ns: shape.bin_ns,
            window_bins: shape.bins,
            starts_ns: histories_ns.iter().map(|start| start + shape.history_ns).collect(),
        })
    }

    /// Bins, B = W × T.
    pub fn bins(&self) -> usize {
        self.starts_ns.len() * self.window_bins
    }

    /// Start of every bin, `[B]`.
    pub fn bin_starts_ns(&self) -> impl Iterator<Item = i64> + '_ {
        let bins = 0..self.window_bins as i64;
        let starts = self.starts_ns.iter();
        starts.flat_map(move |start| bins.clone().map(move |bin| start + bin * self.bin_ns))
    }

    /// The stretch of bins without a gap that each window is in, from 0, `[W]`.
    pub fn numbers(&self) -> Vec<usize> {
        let length_ns = self.bin_ns * self.window_bins as i64;
        let mut number = 0;
        let gaps = self.starts_ns.windows(2).map(|pair| pair[1] - pair[0] > length_ns);
        std::iter::once(false)
            .chain(gaps)
            .take(self.starts_ns.len())
            .map(|gap| {
                number += usize::from(gap);
                number
            })
            .collect()
    }

    /// Expected counts in these bins, `[B, N]`: those of the predictions, of which a wider last bin gives what falls into a
    /// bin's width.
    pub fn expected_counts(&self, shape: WindowShape, predictions: &Predictions) -> Vec<f32> {
        let last_ns = shape.horizon_ns - shape.bin_ns * (shape.bins as i64 - 1);
        let share = shape.bin_ns as f32 / last_ns as f32;
        let rows = predictions.log_rates.chunks_exact(predictions.units.max(1)).enumerate();
        rows.flat_map(|(row, log_rates)| {
            let last = row % shape.bins == shape.bins - 1;
            let share = if last { share } else { 1.0 };
            log_rates.iter().map(move |log_rate| log_rate.exp() * share)
        })
        .collect()
    }
}

/// Spikes of N units in the bins of some stretches.
#[derive(Debug, Clone, PartialEq)]
pub struct SpikeTrains {
    /// Units, N.
    pub units: usize,
    /// Counts, `[B, N]`.
    pub counts: Vec<u32>,
    /// Times of all spikes, ascending, ns.
    pub times_ns: Vec<i64>,
    /// Their units.
    pub spike_units: Vec<u32>,
}

impl SpikeTrains {
    /// The spikes that fall into the bins.
    pub fn observed(stretches: &Stretches, units: usize, spikes: Spikes<'_>) -> Self {
        let mut trains = SpikeTrains::none(units);
        for start in stretches.bin_starts_ns() {
            let within = spikes.between(start, start + stretches.bin_ns);
            let first = trains.counts.len();
            trains.counts.resize(first + units, 0);
            within
                .units
                .iter()
                .for_each(|&unit| trains.counts[first + unit as usize] += 1);
            trains.times_ns.extend_from_slice(within.times_ns);
            trains.spike_units.extend_from_slice(within.units);
        }
        trains
    }

    /// Draws from `expected` counts `[B, N]`: independent Poisson counts, and times that are uniform within the bin. The same
    /// `seed` and `draw` give the same spikes; other draws of a seed are independent.
    pub fn drawn(stretches: &Stretches, units: usize, expected: &[f32], seed: u64, draw: u16) -> Self {
        let mut trains = SpikeTrains::none(units);
        let mut spikes: Vec<(i64, u32)> = Vec::new();
        let rows = expected.chunks_exact(units.max(1)).zip(stretches.bin_starts_ns());
        for (bin, (row, start)) in rows.enumerate() {
            let (window, bin) = (bin / stretches.window_bins, bin % stretches.window_bins);
            let stream = u64::from(draw) << WINDOW_BITS | window as u64;
            spikes.clear();
            for (unit, &mean) in row.iter().enumerate() {
                let element = (bin * units + unit) as u32;
                let count = poisson(mean, seed, stream, element) as u32;
                trains.counts.push(count);
                spikes.extend((0..count).map(|spike| {
                    let [place, _] = uniform(seed, stream | TIMES, element, spike);
                    let time = start + ((place * stretches.bin_ns as f64) as i64).min(stretches.bin_ns - 1);
                    (time, unit as u32)
                }));
            }
            spikes.sort_unstable();
            trains.times_ns.extend(spikes.iter().map(|spike| spike.0));
            trains.spike_units.extend(spikes.iter().map(|spike| spike.1));
        }
        trains
    }

    fn none(units: usize) -> Self {
        SpikeTrains {
            units,
            counts: Vec::new(),
            times_ns: Vec::new(),
            spike_units: Vec::new(),
        }
    }

    /// Intervals between successive spikes of each unit within a stretch, ns, ascending: `[N][…]`.
    pub fn intervals(&self, stretches: &Stretches) -> Vec<Vec<i64>> {
        let numbers = stretches.numbers();
        let mut last: Vec<Option<(i64, usize)>> = vec![None; self.units];
        let mut intervals = vec![Vec::new(); self.units];
        for (&time, &unit) in self.times_ns.iter().zip(&self.spike_units) {
            let unit = unit as usize;
            let window = stretches.starts_ns.partition_point(|&start| start <= time) - 1;
            let before = last[unit].replace((time, numbers[window]));
            if let Some((before, _)) = before.filter(|&(_, number)| number == numbers[window]) {
                intervals[unit].push(time - before);
            }
        }
        intervals.iter_mut().for_each(|intervals| intervals.sort_unstable());
        intervals
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: WindowShape = WindowShape {
        history_ns: 100,
        bin_ns: 20,
        bins: 2,
        horizon_ns: 40,
    };

    #[test]
    fn windows_make_stretches_and_intervals_do_not_cross_gaps() {
        let stretches = Stretches::new(SHAPE, &[0, 40, 120]).unwrap();
        assert_eq!(stretches.starts_ns, [100, 140, 220]);
        assert_eq!(stretches.numbers(), [0, 0, 1]);
        let starts: Vec<i64> = stretches.bin_starts_ns().collect();
        assert_eq!(starts, [100, 120, 140, 160, 220, 240]);
        let spikes = Spikes {
            times_ns: &[99, 100, 119, 139, 140, 179, 180, 225, 259, 260],
            units: &[0, 0, 1, 0, 1, 0, 0, 0, 0, 1],
        };
        let trains = SpikeTrains::observed(&stretches, 2, spikes);
        assert_eq!(trains.counts, [1, 1, 1, 0, 0, 1, 1, 0, 1, 0, 1, 0]);
        // Unit 0 at 100, 139, 179 | 225, 259; unit 1 at 119, 140.
        assert_eq!(trains.intervals(&stretches), [vec![34, 39, 40], vec![21]]);
        assert!(Stretches::new(SHAPE, &[0, 20]).unwrap_err().contains("do not overlap"));
    }

    #[test]
    fn a_wider_last_bin_gives_its_share() {
        let shape = WindowShape {
            horizon_ns: 50,
            ..SHAPE
        };
        let predictions = Predictions {
            model: "m".into(),
            bins: 2,
            units: 1,
            starts_ns: vec![0],
            log_rates: vec![0.0, 3f32.ln()],
        };
        let stretches = Stretches::new(shape, &[0]).unwrap();
        let expected = stretches.expected_counts(shape, &predictions);
        // 3 spikes in 30 ns are 2 in 20.
        assert!(expected[0] == 1.0 && (expected[1] - 2.0).abs() < 1e-6, "{expected:?}");
    }

    #[test]
    fn draws_are_of_their_seed_and_lie_in_their_bins() {
        let stretches = Stretches::new(SHAPE, &(0..500).map(|w| 40 * w).collect::<Vec<_>>()).unwrap();
        let expected: Vec<f32> = (0..2_000).map(|i| if i % 2 == 0 { 0.3 } else { 2.0 }).collect();
        let draw = |seed, draw| SpikeTrains::drawn(&stretches, 2, &expected, seed, draw);
        let trains = draw(1, 0);
        assert_eq!(trains, draw(1, 0));
        assert!(trains.counts != draw(2, 0).counts && trains.counts != draw(1, 1).counts);
        assert!(trains.times_ns.is_sorted());
        // Counting its spikes gives its counts.
        let spikes = Spikes {
            times_ns: &trains.times_ns,
            units: &trains.spike_units,
        };
        assert_eq!(SpikeTrains::observed(&stretches, 2, spikes).counts, trains.counts);
        let means = [0, 1].map(|unit| trains.counts.iter().skip(unit).step_by(2).sum::<u32>());
        // 300 and 2000 expected, of which the standard deviations are 17 and 45.
        assert!(
            (232..368).contains(&means[0]) && (1_820..2_180).contains(&means[1]),
            "{means:?}"
        );
        // Places within a bin are uniform: mean 9.5 of 0 … 19, standard error 5.8 / √2300.
        let places = trains.times_ns.iter().map(|time| (time - 100) % 20);
        let mean = places.sum::<i64>() as f64 / trains.times_ns.len() as f64;
        assert!((mean - 9.5).abs() < 0.5, "{mean}");
    }
}
