//! The layouts of `.npz` recordings that hold counts in bins instead of spike times.
//!
//! When a spike fell inside its bin is not known. Each is given a time drawn uniformly inside the bin, from a seeded
//! generator: binning the recording again on the same bins gives the file's counts back, and any finer structure is
//! made up. Bins that do not follow one another in the experiment do not touch in time either: trials are laid one
//! after another with one second of unobserved time between them, longer than the history that a model sees, and
//! a bin left out within a trial is a hole. A value of a behavioural series stands at the middle of its bin.

use std::io::{Read, Seek};

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::assemble::RawRecording;
use super::events::{times_ns, MAX_UNITS};
use super::interval::Interval;
use super::npy::NpyArray;
use super::npz::{name_and_unit, Archive};
use super::recording::{Series, Trial};
use super::time::{seconds_to_ns, NS_PER_S};
use super::{unit_id, DataError, LoadOptions};

/// Unobserved time between trials whose true distance the file does not tell.
const TRIAL_GAP_NS: i64 = NS_PER_S;

/// Longer trials are a damaged file.
const MAX_BIN_IN_TRIAL: i64 = 1 << 24;
/// The widest bin that is read; with it even [`MAX_BIN_IN_TRIAL`] bins stay below [`MAX_END_NS`].
const MAX_BIN_NS: i64 = 100 * NS_PER_S;
/// Where a recording must end, so that no sum of times overflows.
const MAX_END_NS: i64 = i64::MAX / 4;
/// Most spikes, and most behavioural values, that are made of one file: compressed counts can stand for far more.
const MAX_EXPANDED: u64 = 1 << 29;

/// `counts` \[T × N\] and its companions.
pub(super) fn read_counts<R: Read + Seek>(
    archive: &mut Archive<R>,
    raw: &mut RawRecording,
    options: &LoadOptions,
) -> Result<(), DataError> {
    let counts = archive.take("counts")?;
    let [n_bins, n_units] = *counts.shape() else {
        return Err(archive.array_fault("counts", format!("has shape {:?}, not bins × units", counts.shape())));
    };
    let counts = checked_counts(archive, "counts", counts, n_units)?;
    if counts.is_empty() {
        return Err(DataError::NoSpikes { name: raw.name.clone() });
    }
    let bin_ns = take_bin_width(archive, "bin_s", n_bins)?;
    let starts = match take_column(archive, "trial", n_bins)? {
        Some(trial) => trial_bins(archive, raw, &trial, bin_ns)?,
        None if archive.has("time_s") => stated_bins(archive, n_bins, bin_ns)?,
        None => (0..n_bins as i64).map(|bin| bin * bin_ns).collect(),
    };

    raw.unit_ids = (0..n_units as u64).map(unit_id).collect();
    raw.count_bin_ns = Some(bin_ns);
    raw.spikes = spread(
        starts.iter().copied().zip(counts.chunks_exact(n_units)),
        bin_ns,
        options.spread_seed,
    );
    raw.intervals = starts
        .iter()
        .map(|&start| Interval {
            start_ns: start,
            end_ns: start + bin_ns,
        })
        .collect();
    raw.notes.push(format!(
        "spike times inside the bins of {bin_ns} ns were drawn with seed {}",
        options.spread_seed
    ));

    let middles: Vec<i64> = starts.iter().map(|start| start + bin_ns / 2).collect();
    for array in archive.unread() {
        let values = archive.take(&array)?;
        let channels = match *values.shape() {
            [rows] if rows == n_bins => 1,
            [rows, channels] if rows == n_bins => channels,
            _ => {
                raw.notes
                    .push(format!("array {array} was not read: its shape is {:?}", values.shape()));
                continue;
            }
        };
        raw.behaviour
            .push(bin_series(&array, middles.clone(), channels, values.to_f32()));
    }
    Ok(())
}

/// `spikes` \[conditions × repeats × bins × N\]: every trial in turn, the first repeat of all conditions first, so that a
/// split in time holds out repeats and not conditions.
pub(super) fn read_trial_tensor<R: Read + Seek>(
    archive: &mut Archive<R>,
    raw: &mut RawRecording,
    options: &LoadOptions,
) -> Result<(), DataError> {
    let spikes = archive.take("spikes")?;
    let [n_conditions, n_repeats, n_bins, n_units] = *spikes.shape() else {
        let what = format!(
            "has shape {:?}, not conditions × repeats × bins × units",
            spikes.shape()
        );
        return Err(archive.array_fault("spikes", what));
    };
    let counts = checked_counts(archive, "spikes", spikes, n_units)?;
    if counts.is_empty() {
        return Err(DataError::NoSpikes { name: raw.name.clone() });
    }
    let bin_ns = take_bin_width(archive, "dt", n_conditions * n_repeats * n_bins)?;
    let trial_ns = bin_ns * n_bins as i64;

    let order: Vec<(usize, usize)> = (0..n_repeats)
        .flat_map(|repeat| (0..n_conditions).map(move |condition| (condition, repeat)))
        .collect();
    let trial_start = |position: usize| position as i64 * (trial_ns + TRIAL_GAP_NS);
    let mut starts = Vec::with_capacity(order.len() * n_bins);
    for (position, &(condition, _)) in order.iter().enumerate() {
        let start_ns = trial_start(position);
        raw.trials.push(Trial {
            start_ns,
            end_ns: start_ns + trial_ns,
            condition: Some(condition as i64),
        });
        raw.intervals.push(Interval {
            start_ns,
            end_ns: start_ns + trial_ns,
        });
        starts.extend((0..n_bins as i64).map(|bin| start_ns + bin * bin_ns));
    }
    let in_order = order.iter().flat_map(|&(condition, repeat)| {
        let first = (condition * n_repeats + repeat) * n_bins * n_units;
        counts[first..first + n_bins * n_units].chunks_exact(n_units)
    });
    raw.unit_ids = (0..n_units as u64).map(unit_id).collect();
    raw.count_bin_ns = Some(bin_ns);
    raw.spikes = spread(starts.iter().copied().zip(in_order), bin_ns, options.spread_seed);
    raw.notes.push(format!(
        "spike times inside the bins of {bin_ns} ns were drawn with seed {}",
        options.spread_seed
    ));

    let middles: Vec<i64> = starts.iter().map(|start| start + bin_ns / 2).collect();
    for array in ["rates_hz", "latents"] {
        let Some(values) = archive.take_optional(array)? else {
            continue;
        };
        let channels = match *values.shape() {
            [conditions, bins, channels] if (conditions, bins) == (n_conditions, n_bins) => channels,
            _ => return Err(archive.array_fault(array, format!("has shape {:?}, unlike spikes", values.shape()))),
        };
        let (values, of_trial) = (values.to_f32(), n_bins * channels);
        if order.len() as u64 * of_trial as u64 > MAX_EXPANDED {
            return Err(archive.array_fault(array, format!("is too large to repeat for {} trials", order.len())));
        }
        let repeated = order
            .iter()
            .flat_map(|&(condition, _)| &values[condition * of_trial..(condition + 1) * of_trial]);
        raw.behaviour.push(bin_series(
            array,
            middles.clone(),
            channels,
            repeated.copied().collect(),
        ));
    }
    Ok(())
}

fn bin_series(array: &str, times_ns: Vec<i64>, channels: usize, values: Vec<f32>) -> Series {
    let (name, unit) = name_and_unit(array);
    let (name, unit) = (name.to_owned(), unit.to_owned());
    Series {
        name,
        unit,
        times_ns,
        channels,
        channel_names: Vec::new(),
        values,
    }
}

/// Spike times from counts: `c` times drawn uniformly inside each bin, ascending within it.
fn spread<'a>(bins: impl Iterator<Item = (i64, &'a [u16])>, bin_ns: i64, seed: u64) -> Vec<(i64, u32)> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut spikes = Vec::new();
    for (start_ns, counts) in bins {
        let first = spikes.len();
        for (unit, &count) in counts.iter().enumerate() {
            spikes.extend((0..count).map(|_| (start_ns + random.random_range(0..bin_ns), unit as u32)));
        }
        spikes[first..].sort_unstable();
    }
    spikes
}

fn checked_counts<R: Read + Seek>(
    archive: &Archive<R>,
    array: &str,
    values: NpyArray,
    n_units: usize,
) -> Result<Vec<u16>, DataError> {
    if n_units > MAX_UNITS {
        return Err(archive.array_fault(array, format!("has {n_units} units; at most {MAX_UNITS} are read")));
    }
    let values = values.to_i64().map_err(|what| archive.array_fault(array, what))?;
    let each = values.into_iter().enumerate().map(|(index, value)| {
        u16::try_from(value).map_err(|_| {
            archive.array_fault(
                array,
                format!("has {value} at index {index}, which is no number of spikes in a bin"),
            )
        })
    });
    let counts = each.collect::<Result<Vec<u16>, _>>()?;
    let total: u64 = counts.iter().map(|&count| u64::from(count)).sum();
    if total > MAX_EXPANDED {
        return Err(archive.array_fault(array, format!("counts {total} spikes; at most {MAX_EXPANDED} are read")));
    }
    Ok(counts)
}

/// The bin width in nanoseconds, from 1 µs to [`MAX_BIN_NS`], such that `n_bins` bins and gaps end in time.
fn take_bin_width<R: Read + Seek>(archive: &mut Archive<R>, array: &str, n_bins: usize) -> Result<i64, DataError> {
    let seconds = archive.take_scalar(array)?;
    let bin_ns = match seconds_to_ns(seconds) {
        Ok(bin_ns) if (1_000..=MAX_BIN_NS).contains(&bin_ns) => bin_ns,
        _ => return Err(archive.array_fault(array, format!("is {seconds}, not a bin width in seconds (1e-6 to 100)"))),
    };
    if n_bins as i128 * i128::from(bin_ns + TRIAL_GAP_NS) > i128::from(MAX_END_NS) {
        let what = format!("is {seconds} s, with which {n_bins} bins are longer than can be represented");
        return Err(archive.array_fault(array, what));
    }
    Ok(bin_ns)
}

/// An optional column of whole numbers, one a bin.
fn take_column<R: Read + Seek>(
    archive: &mut Archive<R>,
    array: &str,
    n_bins: usize,
) -> Result<Option<Vec<i64>>, DataError> {
    let Some(values) = archive.take_optional(array)? else {
        return Ok(None);
    };
    if *values.shape() != [n_bins] {
        let what = format!("has shape {:?}, but counts has {n_bins} bins", values.shape());
        return Err(archive.array_fault(array, what));
    }
    values
        .to_i64()
        .map(Some)
        .map_err(|what| archive.array_fault(array, what))
}

/// Bins whose starts the file states in `time_s`. Rounded times (a step within half a bin of the width) count as
/// contiguous; a longer step is a hole.
fn stated_bins<R: Read + Seek>(archive: &mut Archive<R>, n_bins: usize, bin_ns: i64) -> Result<Vec<i64>, DataError> {
    let stated = archive.take("time_s")?;
    if *stated.shape() != [n_bins] {
        let what = format!("has shape {:?}, but counts has {n_bins} bins", stated.shape());
        return Err(archive.array_fault("time_s", what));
    }
    let stated = times_ns(archive, "time_s", &stated.to_f64())?;
    let mut starts: Vec<i64> = Vec::with_capacity(n_bins);
    for (index, &t) in stated.iter().enumerate() {
        let expected = starts.last().map_or(t, |last| last + bin_ns);
        if t < expected - bin_ns / 2 {
            let what = format!("steps by less than half a bin at index {index}");
            return Err(archive.array_fault("time_s", what));
        }
        starts.push(if t > expected + bin_ns / 2 { t } else { expected });
    }
    Ok(starts)
}

/// Bins of trials (runs of equal `trial` numbers), laid one trial after another; fills in the trials too.
///
/// A trial starts where its bin 0 is or would be, by `bin_in_trial`, and ends with its last bin.
fn trial_bins<R: Read + Seek>(
    archive: &mut Archive<R>,
    raw: &mut RawRecording,
    trial: &[i64],
    bin_ns: i64,
) -> Result<Vec<i64>, DataError> {
    let n_bins = trial.len();
    let bin_in_trial = take_column(archive, "bin_in_trial", n_bins)?;
    let target = take_column(archive, "target", n_bins)?;

    let mut starts = Vec::with_capacity(n_bins);
    let mut origin: i64 = 0;
    let mut first = 0;
    for run in trial.chunk_by(|a, b| a == b) {
        let mut previous = -1;
        for index in first..first + run.len() {
            let bin = bin_in_trial.as_ref().map_or((index - first) as i64, |bins| bins[index]);
            if !(0..MAX_BIN_IN_TRIAL).contains(&bin) || bin <= previous {
                let what = format!("has {bin} at index {index}, which does not follow {previous} in its trial");
                return Err(archive.array_fault("bin_in_trial", what));
            }
            previous = bin;
            starts.push(origin + bin * bin_ns);
        }
        let end_ns = origin + (previous + 1) * bin_ns;
        if end_ns > MAX_END_NS {
            return Err(archive.array_fault("bin_in_trial", "makes a recording longer than can be represented"));
        }
        let condition = target.as_ref().map(|target| target[first]);
        if let Some(target) = &target {
            let changes = target[first..first + run.len()]
                .iter()
                .any(|value| Some(*value) != condition);
            if changes {
                raw.notes.push(format!(
                    "target changes within trial {}; its first value was taken",
                    run[0]
                ));
            }
        }
        raw.trials.push(Trial {
            start_ns: origin,
            end_ns,
            condition,
        });
        origin = end_ns + TRIAL_GAP_NS;
        first += run.len();
    }
    Ok(starts)
}
