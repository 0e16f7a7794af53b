//! Counts and behaviour of consecutive bins.

use super::FitError;
use crate::data::Recording;
use crate::evaluate::behaviour::samples_of;
use crate::model::conditions::Samples;
use crate::model::config::{ReadoutConfig, ReadoutKind};
use crate::model::readout::targets;

/// Counts of N units and a behaviour of C channels in n bins. Bins that were not wholly observed are left out.
#[derive(Debug, Clone, PartialEq)]
pub struct BinnedBehaviour {
    units: usize,
    channels: usize,
    /// `[n, N]`.
    counts: Vec<u32>,
    /// Mean of the behaviour's samples in each bin, `[n, C]`; NaN where there is none.
    targets: Vec<f32>,
    /// Ends of the bins, ns, ascending, `[n]`.
    ends_ns: Vec<i64>,
    bin_ns: i64,
}

/// Fewest bins that a decoder is fitted on.
const FEWEST: usize = 20;

impl BinnedBehaviour {
    /// Bins of `bin_ns` from the interval's start on, with the mean of the series in each. Units are told by their ids; those that
    /// the recording lacks are silent.
    ///
    /// # Errors
    /// A recording without the series, or too short a stretch of it.
    pub fn of(
        recording: &Recording,
        unit_ids: &[String],
        series: &str,
        interval_ns: (i64, i64),
        bin_ns: i64,
    ) -> Result<Self, FitError> {
        let channels = samples_of(recording, series).map_or(0, |(_, _, channels)| channels);
        let readout = ReadoutConfig {
            series: series.to_owned(),
            kind: ReadoutKind::Regression,
            step_s: bin_ns as f64 * 1e-9,
            back: 1,
            ahead: 0,
            unit: String::new(),
            labels: vec![String::new(); channels],
            mean: vec![0.0; channels],
            deviation: vec![1.0; channels],
        };
        Self::present(recording, unit_ids, &readout, interval_ns, bin_ns)
    }

    /// The same with what a readout is to say of the present at the end of each bin: the mean of the series over its last step.
    ///
    /// # Errors
    /// See [`BinnedBehaviour::of`].
    pub fn present(
        recording: &Recording,
        unit_ids: &[String],
        readout: &ReadoutConfig,
        (start_ns, end_ns): (i64, i64),
        bin_ns: i64,
    ) -> Result<Self, FitError> {
        let (name, series) = (recording.name.clone(), readout.series.clone());
        let Some((times_ns, values, channels)) =
            samples_of(recording, &series).filter(|(_, _, channels)| *channels > 0)
        else {
            return Err(FitError::NoSeries {
                recording: name,
                series,
            });
        };
        let unit = |id: &String| unit_ids.iter().position(|known| known == id);
        let numbers: Vec<Option<usize>> = recording.unit_ids.iter().map(unit).collect();
        let mut data = BinnedBehaviour {
            units: unit_ids.len(),
            channels,
            counts: Vec::new(),
            targets: Vec::new(),
            ends_ns: Vec::new(),
            bin_ns,
        };
        let present = readout.present() * channels;
        for bin in 0..(end_ns - start_ns).max(0) / bin_ns {
            let (from, to) = (start_ns + bin * bin_ns, start_ns + (bin + 1) * bin_ns);
            if !recording.is_observed(from, to) {
                continue;
            }
            let first = data.counts.len();
            data.counts.resize(first + data.units, 0);
            for spike in recording.spikes_between(from, to) {
                if let Some(unit) = numbers[recording.spike_units[spike] as usize] {
                    data.counts[first + unit] += 1;
                }
            }
            let samples = Samples {
                times_ns: &times_ns,
                values: &values,
            };
            data.targets
                .extend(&targets(readout, samples, to, false)[present..present + channels]);
            data.ends_ns.push(to);
        }
        let bins = (0..data.bins()).filter(|&bin| data.target(bin).is_some()).count();
        match bins < FEWEST {
            false => Ok(data),
            true => Err(FitError::TooShort {
                recording: name,
                series,
                bins,
                least: FEWEST,
            }),
        }
    }

    /// n.
    pub fn bins(&self) -> usize {
        self.ends_ns.len()
    }

    /// N.
    pub fn units(&self) -> usize {
        self.units
    }

    /// C.
    pub fn channels(&self) -> usize {
        self.channels
    }

    /// Counts of a bin, `[N]`.
    pub fn counts(&self, bin: usize) -> &[u32] {
        &self.counts[bin * self.units..(bin + 1) * self.units]
    }

    /// The behaviour in a bin, `[C]`, where it was recorded.
    pub fn target(&self, bin: usize) -> Option<&[f32]> {
        let row = &self.targets[bin * self.channels..(bin + 1) * self.channels];
        row.iter().all(|x| x.is_finite()).then_some(row)
    }

    /// Ends of the bins, ns, ascending.
    pub fn ends_ns(&self) -> &[i64] {
        &self.ends_ns
    }

    /// Whether a bin does not follow the one before it at once.
    pub fn begins(&self, bin: usize) -> bool {
        bin == 0 || self.ends_ns[bin] - self.ends_ns[bin - 1] != self.bin_ns
    }

    /// The first of the bins that regularisation is chosen by.
    pub(super) fn judged_from(&self) -> usize {
        ((1.0 - super::JUDGING_SHARE) * self.bins() as f64) as usize
    }

    /// Mean over bins of √count, `[N]`.
    pub(super) fn mean_roots(&self) -> Vec<f64> {
        let mut mean = vec![0.0; self.units];
        for row in self.counts.chunks_exact(self.units.max(1)) {
            let roots = row.iter().map(|&count| f64::from(count).sqrt());
            mean.iter_mut().zip(roots).for_each(|(sum, root)| *sum += root);
        }
        let share = 1.0 / self.bins().max(1) as f64;
        mean.iter_mut().for_each(|sum| *sum *= share);
        mean
    }

    /// Mean of the behaviour over the bins in which it was recorded, `[C]`.
    pub(super) fn mean_target(&self) -> Vec<f64> {
        let rows: Vec<&[f32]> = (0..self.bins()).filter_map(|bin| self.target(bin)).collect();
        let mean = |channel| rows.iter().map(|row| f64::from(row[channel])).sum::<f64>() / rows.len().max(1) as f64;
        (0..self.channels).map(mean).collect()
    }
}
