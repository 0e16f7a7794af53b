//! The events layout of `.npz` recordings: a time and a unit for every spike.

use std::collections::BTreeSet;
use std::io::{Read, Seek};

use super::assemble::{sorted_series, RawRecording};
use super::interval::Interval;
use super::npz::{name_and_unit, Archive};
use super::recording::Series;
use super::time::{seconds_to_ns, NS_PER_S};
use super::{unit_id, DataError};

/// More units than any array has; a larger `n_units` is a damaged file.
pub(super) const MAX_UNITS: usize = 1 << 20;

pub(super) fn read<R: Read + Seek>(archive: &mut Archive<R>, raw: &mut RawRecording) -> Result<(), DataError> {
    let times = spike_times(archive)?;
    let clusters = archive.take("spike_units")?;
    let clusters = clusters
        .to_i64()
        .map_err(|what| archive.array_fault("spike_units", what))?;
    if times.len() != clusters.len() {
        let (n_times, n_units) = (times.len(), clusters.len());
        return Err(archive.fault(format!(
            "spike_times has {n_times} elements and spike_units has {n_units}"
        )));
    }
    let listed = units(archive, &clusters)?;
    let indices = clusters.iter().map(|cluster| listed.binary_search(cluster));
    raw.spikes = times
        .into_iter()
        .zip(indices)
        .map(|(t, index)| Ok((t, index? as u32)))
        .collect::<Result<_, usize>>()
        .map_err(|_| archive.array_fault("spike_units", "names a unit that is not listed"))?;
    raw.unit_ids = listed.iter().map(|&cluster| unit_id(cluster.unsigned_abs())).collect();

    if archive.has("duration_s") {
        let duration = archive.take_scalar("duration_s")?;
        let end_ns = seconds_to_ns(duration).map_err(|what| archive.array_fault("duration_s", what))?;
        if end_ns <= 0 {
            return Err(archive.array_fault(
                "duration_s",
                format!("is {duration}, where a positive time is expected"),
            ));
        }
        raw.intervals = vec![Interval { start_ns: 0, end_ns }];
    }
    read_series(archive, raw)
}

fn spike_times<R: Read + Seek>(archive: &mut Archive<R>) -> Result<Vec<i64>, DataError> {
    let array = archive.take("spike_times")?;
    if array.shape().len() != 1 {
        return Err(archive.array_fault(
            "spike_times",
            format!("has shape {:?}, not one dimension", array.shape()),
        ));
    }
    if !array.is_integer() {
        return times_ns(archive, "spike_times", &array.to_f64());
    }
    if !archive.has("sampling_rate_hz") {
        let what = "holds integers; ticks need the array sampling_rate_hz beside them";
        return Err(archive.array_fault("spike_times", what));
    }
    let rate = archive.take_scalar("sampling_rate_hz")?;
    if !(rate > 0.0 && rate <= NS_PER_S as f64) {
        return Err(archive.array_fault("sampling_rate_hz", format!("is {rate}, not between 0 and 1e9")));
    }
    let ticks = array
        .to_i64()
        .map_err(|what| archive.array_fault("spike_times", what))?;
    let each = ticks.iter().enumerate().map(|(index, &tick)| {
        // Whole seconds apart, so that a long recording at 30 kHz keeps its nanoseconds.
        let seconds = (tick as f64 / rate).trunc();
        let rest = tick as f64 - seconds * rate;
        let (whole, rest) = (seconds_to_ns(seconds), seconds_to_ns(rest / rate));
        whole
            .and_then(|whole| Ok(whole + rest?))
            .map_err(|what| archive.array_fault("spike_times", at(index, what)))
    });
    each.collect()
}

/// The cluster numbers that become units, ascending.
fn units<R: Read + Seek>(archive: &mut Archive<R>, clusters: &[i64]) -> Result<Vec<i64>, DataError> {
    if let Some(index) = clusters
        .iter()
        .position(|cluster| !(0..=i64::from(u32::MAX)).contains(cluster))
    {
        let what = format!("has {} at index {index}, which is no unit number", clusters[index]);
        return Err(archive.array_fault("spike_units", what));
    }
    if !archive.has("n_units") {
        return Ok(clusters.iter().copied().collect::<BTreeSet<_>>().into_iter().collect());
    }
    let n_units = archive.take_scalar("n_units")?;
    if !(n_units >= 0.0 && n_units <= MAX_UNITS as f64 && n_units.fract() == 0.0) {
        return Err(archive.array_fault(
            "n_units",
            format!("is {n_units}, not a number of units up to {MAX_UNITS}"),
        ));
    }
    let n_units = n_units as i64;
    if let Some(index) = clusters.iter().position(|&cluster| cluster >= n_units) {
        let what = format!("has {} at index {index}, but n_units is {n_units}", clusters[index]);
        return Err(archive.array_fault("spike_units", what));
    }
    Ok((0..n_units).collect())
}

/// `P_time_s` gives the sample times of every `P_…` of as many rows; `P_times` alone is a series of bare events.
fn read_series<R: Read + Seek>(archive: &mut Archive<R>, raw: &mut RawRecording) -> Result<(), DataError> {
    for clock in archive.unread() {
        if let Some(prefix) = clock.strip_suffix("_time_s") {
            let times = archive.take(&clock)?;
            let times = times_ns(archive, &clock, &times.to_f64())?;
            for array in archive
                .unread()
                .iter()
                .filter(|array| array.starts_with(&format!("{prefix}_")))
            {
                let values = archive.take(array)?;
                let channels = match *values.shape() {
                    [rows] if rows == times.len() => 1,
                    [rows, channels] if rows == times.len() => channels,
                    _ => {
                        let what = format!("has shape {:?}, but {clock} has {} times", values.shape(), times.len());
                        return Err(archive.array_fault(array, what));
                    }
                };
                let (name, unit) = name_and_unit(array);
                let series = series(name, unit, times.clone(), channels, values.to_f32());
                raw.behaviour.push(sorted_series(series, &mut raw.notes));
            }
        } else if let Some(name) = clock.strip_suffix("_times") {
            let times = archive.take(&clock)?;
            let times = times_ns(archive, &clock, &times.to_f64())?;
            raw.behaviour
                .push(sorted_series(series(name, "", times, 0, Vec::new()), &mut raw.notes));
        }
    }
    Ok(())
}

fn series(name: &str, unit: &str, times_ns: Vec<i64>, channels: usize, values: Vec<f32>) -> Series {
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

/// An array of seconds in nanoseconds.
pub(super) fn times_ns<R: Read + Seek>(
    archive: &Archive<R>,
    array: &str,
    seconds: &[f64],
) -> Result<Vec<i64>, DataError> {
    let each = seconds.iter().enumerate();
    each.map(|(index, &t)| seconds_to_ns(t).map_err(|what| archive.array_fault(array, at(index, what))))
        .collect()
}

fn at(index: usize, what: String) -> String {
    format!("has a bad time at index {index}: it {what}")
}
