//! Recordings in NWB 2 files (HDF5): <https://nwb-schema.readthedocs.io>.
//!
//! | in the file | becomes |
//! |---|---|
//! | `units`: `id`, `spike_times`, `spike_times_index` | units `unitNNNN` by `id`, and their spikes |
//! | `units/obs_intervals` | the observed intervals: the time in which *every* unit was observed |
//! | `intervals/trials` | trials; the condition from the first whole-number column of [`CONDITION_COLUMNS`] |
//! | `intervals/epochs` | epochs, labelled by their tags |
//! | `intervals/invalid_times` | holes in the observed intervals |
//! | every time series below `processing/behavior` | a behavioural series, in physical units |
//!
//! Observed intervals are closed in NWB and half-open here, so their last nanosecond is kept. Time zero is the file's
//! `timestamps_reference_time`.

use std::collections::HashSet;
use std::path::Path;

use super::assemble::{sorted_series, united, without, RawRecording};
use super::hdf5::Hdf5File;
use super::interval::Interval;
pub use super::nwb_tables::CONDITION_COLUMNS;
use super::nwb_tables::{epochs, invalid_times, ragged_ends, trials};
use super::recording::Series;
use super::time::{seconds_to_ns, NS_PER_S};
use super::{unit_id, DataError, Recording};

/// Groups nested deeper than this below `processing/behavior` are not looked into; links may form circles.
const MAX_DEPTH: usize = 6;

/// Reads the NWB file at `path`; `name` stands for it in messages. Datasets that a recording does not need, such as raw
/// voltages, are not touched.
///
/// # Errors
/// [`DataError::Malformed`] naming the dataset, [`DataError::NoSpikes`].
pub fn read_path(name: &str, path: &Path) -> Result<Recording, DataError> {
    read(name, Hdf5File::open(path))
}

/// Reads an NWB file in memory.
///
/// # Errors
/// As [`read_path`].
pub fn read_bytes(name: &str, bytes: Vec<u8>) -> Result<Recording, DataError> {
    read(name, Hdf5File::from_bytes(bytes))
}

fn read(name: &str, file: Result<Hdf5File, String>) -> Result<Recording, DataError> {
    let mut raw = RawRecording::new(name);
    file.and_then(|file| read_all(&file, &mut raw))
        .map_err(|what| DataError::malformed(name, what))?;
    raw.finish()
}

fn read_all(file: &Hdf5File, raw: &mut RawRecording) -> Result<(), String> {
    read_units(file, raw)?;
    raw.trials = trials(file, &mut raw.notes)?;
    raw.epochs = epochs(file, &mut raw.notes)?;
    let invalid = invalid_times(file, &mut raw.notes)?;
    if !invalid.is_empty() {
        if raw.intervals.is_empty() {
            raw.intervals = span(&raw.spikes).into_iter().collect();
        }
        raw.intervals = without(&raw.intervals, &invalid);
        raw.notes.push(format!(
            "{} invalid intervals were cut out of the observed time",
            invalid.len()
        ));
        if raw.intervals.is_empty() {
            return Err("intervals/invalid_times leaves no observed time".to_owned());
        }
    }
    read_behaviour(file, "processing/behavior", 0, raw)
}

/// From the first of the sorted spikes to the last.
fn span(spikes: &[(i64, u32)]) -> Option<Interval> {
    Some(Interval {
        start_ns: spikes.first()?.0,
        end_ns: spikes.last()?.0 + 1,
    })
}

fn read_units(file: &Hdf5File, raw: &mut RawRecording) -> Result<(), String> {
    let columns = file.members("units")?.ok_or("the file has no table of units")?;
    for column in ["id", "spike_times", "spike_times_index"] {
        if !columns.has_dataset(column) {
            return Err(format!("the table of units has no column {column}"));
        }
    }
    let ids = file.i64s("units/id")?;
    let mut known = HashSet::new();
    for &id in &ids {
        let cluster = u64::try_from(id).map_err(|_| format!("units/id has the negative id {id}"))?;
        if !known.insert(id) {
            return Err(format!("units/id has the id {id} twice"));
        }
        raw.unit_ids.push(unit_id(cluster));
    }

    let times = file.f64s("units/spike_times")?;
    let ends = ragged_ends(file, "units/spike_times", ids.len(), times.len(), &mut raw.notes)?;
    let mut unsorted = 0;
    let mut first = 0;
    for (unit, &end) in ends.iter().enumerate() {
        for (index, &t) in times[first..end].iter().enumerate() {
            let t = seconds_to_ns(t)
                .map_err(|what| format!("units/spike_times has a bad time at index {}: it {what}", first + index))?;
            raw.spikes.push((t, unit as u32));
        }
        unsorted += raw.spikes[first..]
            .windows(2)
            .filter(|pair| pair[1].0 < pair[0].0)
            .count();
        first = end;
    }
    if unsorted > 0 {
        let n_spikes = raw.spikes.len();
        raw.notes.push(format!(
            "sorted {unsorted} of {n_spikes} spikes that came before their unit's previous one"
        ));
    }
    // The table is unit by unit, so the order over all units is never the file's.
    raw.spikes.sort_by_key(|&(t, _)| t);

    if columns.has_dataset("obs_intervals") {
        raw.intervals = observed_by_all(file, ids.len(), &mut raw.notes)?;
    }
    Ok(())
}

/// The time in which every unit was observed; the union, with a note, where no such time exists.
fn observed_by_all(file: &Hdf5File, n_units: usize, notes: &mut Vec<String>) -> Result<Vec<Interval>, String> {
    const PATH: &str = "units/obs_intervals";
    let shape = file.shape(PATH)?;
    let [rows, 2] = *shape else {
        return Err(format!("{PATH} has the shape {shape:?}, not intervals × 2"));
    };
    let bounds = file.f64s(PATH)?;
    let ends = ragged_ends(file, PATH, n_units, rows, notes)?;
    let mut intervals = Vec::with_capacity(rows);
    for (row, pair) in bounds.chunks_exact(2).enumerate() {
        let bound = |t| seconds_to_ns(t).map_err(|what| format!("{PATH} has a bad time in row {row}: it {what}"));
        intervals.push(Interval {
            start_ns: bound(pair[0])?,
            end_ns: bound(pair[1])? + 1,
        });
    }

    let mut first = 0;
    let mut common: Option<Vec<Interval>> = None;
    let mut differ = false;
    for end in ends {
        let of_unit = united(intervals[first..end].to_vec());
        first = end;
        common = Some(match common {
            None => of_unit,
            Some(common) if common == of_unit => common,
            Some(common) => {
                differ = true;
                let pairs = common
                    .iter()
                    .flat_map(|a| of_unit.iter().filter_map(|b| a.intersection(b)));
                pairs.collect()
            }
        });
    }
    let common = common.unwrap_or_default();
    if common.is_empty() && !intervals.is_empty() {
        notes.push(format!("no time is in the {PATH} of every unit; their union was taken"));
        return Ok(united(intervals));
    }
    if differ {
        notes.push(format!("the units' {PATH} differ; the time common to all was taken"));
    }
    Ok(common)
}

/// Takes every group below `path` that has `data` and a clock as a series.
fn read_behaviour(file: &Hdf5File, path: &str, depth: usize, raw: &mut RawRecording) -> Result<(), String> {
    let Some(members) = file.members(path)? else {
        return Ok(());
    };
    if members.has_dataset("data") {
        return read_series(file, path, raw);
    }
    if depth == MAX_DEPTH {
        raw.notes.push(format!("{path} was not read: it is nested too deeply"));
        return Ok(());
    }
    for group in members.groups {
        read_behaviour(file, &format!("{path}/{group}"), depth + 1, raw)?;
    }
    Ok(())
}

fn read_series(file: &Hdf5File, path: &str, raw: &mut RawRecording) -> Result<(), String> {
    let data = format!("{path}/data");
    let (rows, channels) = match *file.shape(&data)? {
        [rows] => (rows, 1),
        [rows, channels] => (rows, channels),
        ref shape => {
            raw.notes.push(format!("{data} was not read: its shape is {shape:?}"));
            return Ok(());
        }
    };
    let members = file.members(path)?.ok_or_else(|| format!("{path} is not a group"))?;
    let times_ns = if members.has_dataset("timestamps") {
        let timestamps = file.f64s(&format!("{path}/timestamps"))?;
        let each = timestamps.iter().enumerate().map(|(index, &t)| {
            seconds_to_ns(t).map_err(|what| format!("{path}/timestamps has a bad time at index {index}: it {what}"))
        });
        each.collect::<Result<Vec<i64>, String>>()?
    } else if members.has_dataset("starting_time") {
        regular_times(file, &format!("{path}/starting_time"), rows)?
    } else {
        raw.notes.push(format!(
            "{path} was not read: it has neither timestamps nor starting_time"
        ));
        return Ok(());
    };
    if times_ns.len() != rows {
        return Err(format!(
            "{data} has {rows} rows, but there are {} times",
            times_ns.len()
        ));
    }
    // NWB's definition of the two attributes: physical value = data × conversion + offset.
    let conversion = file.number_attribute(&data, "conversion")?.unwrap_or(1.0);
    let offset = file.number_attribute(&data, "offset")?.unwrap_or(0.0);
    let values = file
        .f64s(&data)?
        .into_iter()
        .map(|value| (value * conversion + offset) as f32)
        .collect();
    let series = Series {
        name: path.rsplit('/').next().unwrap_or(path).to_owned(),
        unit: file.text_attribute(&data, "unit")?.unwrap_or_default(),
        times_ns,
        channels,
        channel_names: Vec::new(),
        values,
    };
    raw.behaviour.push(sorted_series(series, &mut raw.notes));
    Ok(())
}

/// Times of a series that states its first time and its rate.
fn regular_times(file: &Hdf5File, path: &str, rows: usize) -> Result<Vec<i64>, String> {
    let [start] = file.f64s(path)?[..] else {
        return Err(format!("{path} is not a single time"));
    };
    let start_ns = seconds_to_ns(start).map_err(|what| format!("{path} {what}"))?;
    let rate = file
        .number_attribute(path, "rate")?
        .filter(|rate| *rate > 0.0 && rate.is_finite());
    let rate = rate.ok_or_else(|| format!("{path} has no positive attribute rate"))?;
    let last = seconds_to_ns(rows as f64 / rate).map_err(|what| format!("the end of {path} {what}"))?;
    start_ns
        .checked_add(last)
        .ok_or_else(|| format!("{path} and its rate go beyond the times that can be represented"))?;
    Ok((0..rows)
        .map(|row| start_ns + (row as f64 / rate * NS_PER_S as f64).round() as i64)
        .collect())
}
