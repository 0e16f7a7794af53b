//! A recording as baselines see it: dense counts on a grid of bins, and which of the bins were observed.

use crate::data::Interval;
use crate::model::traces::Traces;
use crate::model::window::{Spikes, WindowShape};

/// A recording's spikes of N units, and when these were observed.
#[derive(Debug, Clone, Copy)]
pub struct Source<'a> {
    /// All spikes, numbered within the N units.
    pub spikes: Spikes<'a>,
    /// Ascending, disjoint; bins that lie in no one of them are unknown and not silent.
    pub observed: &'a [Interval],
}

/// Part of a recording that baselines are fitted on.
#[derive(Debug, Clone, Copy)]
pub struct FitPart<'a> {
    /// The recording.
    pub source: Source<'a>,
    /// Start and end, device ns. Its bins begin at the start; nothing outside is looked at.
    pub interval_ns: (i64, i64),
}

/// Counts of N units in B consecutive bins.
#[derive(Debug, Clone, PartialEq)]
pub struct Binned {
    /// Start of the first bin, device ns.
    pub first_ns: i64,
    /// Width of a bin.
    pub bin_ns: i64,
    /// Units, N.
    pub units: usize,
    /// `[B, N]`.
    pub counts: Vec<f32>,
    /// Whether the units were observed all through the bin, `[B]`.
    pub observed: Vec<bool>,
}

impl Binned {
    /// Counts in the whole bins between `first_ns` and `end_ns`.
    pub fn new(source: Source<'_>, units: usize, bin_ns: i64, first_ns: i64, end_ns: i64) -> Self {
        let bins = ((end_ns - first_ns).max(0) / bin_ns) as usize;
        let mut counts = vec![0.0; bins * units];
        let inside = source.spikes.between(first_ns, first_ns + bins as i64 * bin_ns);
        for (&time, &unit) in inside.times_ns.iter().zip(inside.units) {
            counts[((time - first_ns) / bin_ns) as usize * units + unit as usize] += 1.0;
        }
        let mut intervals = source.observed.iter().peekable();
        let observed = (0..bins as i64).map(|bin| {
            let start = first_ns + bin * bin_ns;
            while intervals.next_if(|interval| interval.end_ns <= start).is_some() {}
            intervals
                .peek()
                .is_some_and(|interval| interval.start_ns <= start && start + bin_ns <= interval.end_ns)
        });
        Binned {
            first_ns,
            bin_ns,
            units,
            observed: observed.collect(),
            counts,
        }
    }

    /// Number of bins, B.
    pub fn bins(&self) -> usize {
        self.observed.len()
    }

    /// Counts `[N]` of a bin.
    pub fn bin(&self, bin: usize) -> &[f32] {
        &self.counts[bin * self.units..(bin + 1) * self.units]
    }

    /// Calls `visit` with every bin and the traces of all bins before it. Traces begin anew after a bin that was not
    /// observed; those of `hidden` units `[N]` stay at the mean.
    pub fn walk(&self, traces: &mut Traces, mean: &[f32], hidden: &[bool], mut visit: impl FnMut(usize, &Traces)) {
        let mut shown = vec![0.0; self.units];
        traces.restart();
        for bin in 0..self.bins() {
            visit(bin, traces);
            if self.observed[bin] {
                shown.copy_from_slice(self.bin(bin));
                for ((shown, &mean), _) in shown.iter_mut().zip(mean).zip(hidden).filter(|(_, &hidden)| hidden) {
                    *shown = mean;
                }
                traces.push_bin(shown.iter().copied());
            } else {
                traces.restart();
            }
        }
        visit(self.bins(), traces);
    }
}

/// The parts that are fitted on, binned, with the last bin of a horizon as wide as the windows have it.
#[derive(Debug, Clone)]
pub struct FitData {
    shape: WindowShape,
    parts: Vec<(Binned, Vec<f32>)>,
    mean: Vec<f32>,
}

impl FitData {
    /// Bins the parts for N units and windows of this form.
    pub fn new(parts: &[FitPart<'_>], units: usize, shape: WindowShape) -> Self {
        let rest_ns = shape.horizon_ns - shape.bin_ns * shape.bins as i64;
        let bin_part = |part: &FitPart<'_>| {
            let (start, end) = part.interval_ns;
            let binned = Binned::new(part.source, units, shape.bin_ns, start, end);
            let mut rest = vec![0.0; if rest_ns > 0 { binned.counts.len() } else { 0 }];
            for (bin, rest) in rest.chunks_exact_mut(units.max(1)).enumerate() {
                let from = start + bin as i64 * shape.bin_ns;
                for &unit in part.source.spikes.between(from, from + rest_ns).units {
                    rest[unit as usize] += 1.0;
                }
            }
            (binned, rest)
        };
        let parts: Vec<(Binned, Vec<f32>)> = parts.iter().map(bin_part).collect();
        let mut mean = vec![0.0; units];
        let mut bins = 0;
        for (binned, _) in &parts {
            for bin in (0..binned.bins()).filter(|&bin| binned.observed[bin]) {
                mean.iter_mut()
                    .zip(binned.bin(bin))
                    .for_each(|(sum, &count)| *sum += count);
                bins += 1;
            }
        }
        mean.iter_mut().for_each(|sum| *sum /= (bins as f32).max(1.0));
        FitData { shape, parts, mean }
    }

    /// With means of the spikes that were seen and one more, over the bins and those in which the average unit fires once: after
    /// some seconds a unit that was silent may still fire, and one that fired is likely to fire less.
    pub fn with_one_more_spike(mut self) -> Self {
        let observed = |(binned, _): &(Binned, Vec<f32>)| binned.observed.iter().filter(|&&seen| seen).count();
        let bins = self.parts.iter().map(observed).sum::<usize>() as f32;
        let average = self.mean.iter().sum::<f32>() / (self.mean.len() as f32).max(1.0);
        if average > 0.0 {
            self.mean
                .iter_mut()
                .for_each(|mean| *mean = (*mean * bins + 1.0) / (bins + 1.0 / average));
        }
        self
    }

    /// Mean count a bin of each unit over the observed bins, `[N]`.
    pub fn mean(&self) -> &[f32] {
        &self.mean
    }

    /// Units, N.
    pub fn units(&self) -> usize {
        self.mean.len()
    }

    /// The windows' form.
    pub fn shape(&self) -> WindowShape {
        self.shape
    }

    /// Number of parts.
    pub fn parts(&self) -> usize {
        self.parts.len()
    }

    /// The bins of a part.
    pub fn part(&self, part: usize) -> &Binned {
        &self.parts[part].0
    }

    /// Bins of a part at which a horizon can begin: it was observed to its end.
    pub fn places(&self, part: usize) -> Vec<usize> {
        let binned = &self.parts[part].0;
        let reach = self.shape.bins + usize::from(!self.parts[part].1.is_empty());
        let last = (binned.bins() + 1).saturating_sub(reach);
        (0..last)
            .filter(|&bin| binned.observed[bin..bin + reach].iter().all(|&observed| observed))
            .collect()
    }

    /// Counts of the horizon that begins with bin `place` of a part, into `counts` `[T, N]`.
    pub fn targets(&self, part: usize, place: usize, counts: &mut [f32]) {
        let (binned, rest) = &self.parts[part];
        let units = self.units();
        counts.copy_from_slice(&binned.counts[place * units..(place + self.shape.bins) * units]);
        let end = place + self.shape.bins;
        if let Some(rest) = rest.get(end * units..(end + 1) * units) {
            let last = &mut counts[(self.shape.bins - 1) * units..];
            last.iter_mut().zip(rest).for_each(|(count, &rest)| *count += rest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: WindowShape = WindowShape {
        history_ns: 20,
        bin_ns: 10,
        bins: 2,
        horizon_ns: 25,
    };

    fn source<'a>(times_ns: &'a [i64], units: &'a [u32], observed: &'a [Interval]) -> Source<'a> {
        Source {
            spikes: Spikes { times_ns, units },
            observed,
        }
    }

    fn interval(start_ns: i64, end_ns: i64) -> Interval {
        Interval { start_ns, end_ns }
    }

    #[test]
    fn counts_and_observed_bins() {
        let intervals = [interval(0, 20), interval(25, 50)];
        let source = source(&[0, 9, 10, 29, 31, 55], &[0, 0, 1, 1, 0, 0], &intervals);
        let binned = Binned::new(source, 2, 10, 0, 59);
        assert_eq!(binned.counts, [2.0, 0.0, 0.0, 1.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0]);
        assert_eq!(binned.observed, [true, true, false, true, true]);

        let fit = FitData::new(
            &[FitPart {
                source,
                interval_ns: (0, 59),
            }],
            2,
            SHAPE,
        );
        // Three spikes of unit 0 and one of unit 1 in four observed bins; the average unit fires once in two.
        assert_eq!(fit.mean(), [0.75, 0.25]);
        let more = fit.clone().with_one_more_spike();
        assert!((more.mean()[0] - 4.0 / 6.0).abs() < 1e-6 && (more.mean()[1] - 2.0 / 6.0).abs() < 1e-6);
        // A horizon of 25 ns needs three observed bins in a row.
        assert_eq!(fit.places(0), Vec::<usize>::new());
    }

    #[test]
    fn the_last_bin_takes_the_rest() {
        let intervals = [interval(0, 50)];
        let source = source(&[12, 21, 24, 25, 38], &[0, 0, 0, 0, 0], &intervals);
        let part = FitPart {
            source,
            interval_ns: (0, 50),
        };
        let fit = FitData::new(&[part], 1, SHAPE);
        assert_eq!(fit.places(0), [0, 1, 2]);
        let mut counts = [9.0; 2];
        fit.targets(0, 0, &mut counts);
        assert_eq!(counts, [0.0, 3.0]);
        fit.targets(0, 1, &mut counts);
        assert_eq!(counts, [1.0, 3.0]);
    }

    #[test]
    fn traces_begin_anew_after_a_hole_and_hide_units() {
        let intervals = [interval(0, 20), interval(30, 50)];
        let source = source(&[5, 6, 35], &[0, 1, 0], &intervals);
        let binned = Binned::new(source, 2, 10, 0, 50);
        let mean = [0.25, 0.5];
        // a = 1/2.
        let mut traces = Traces::new(&[10e-9 / std::f64::consts::LN_2], 10e-9, &mean);
        let mut seen = Vec::new();
        binned.walk(&mut traces, &mean, &[false, true], |bin, traces| {
            assert_eq!(traces.state()[1], 0.5);
            seen.push((bin, traces.state()[0]));
        });
        assert_eq!(
            seen,
            [(0, 0.25), (1, 0.625), (2, 0.3125), (3, 0.25), (4, 0.625), (5, 0.3125)]
        );
    }
}
