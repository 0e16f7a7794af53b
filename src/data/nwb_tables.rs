//! Tables of time intervals in NWB files, and the ragged columns that NWB tables have.

use super::assemble::united;
use super::hdf5::{Hdf5File, Members};
use super::interval::Interval;
use super::recording::{Epoch, Trial};
use super::time::seconds_to_ns;

/// Columns of `intervals/trials` taken for the condition, in order of preference.
pub const CONDITION_COLUMNS: [&str; 6] = [
    "condition",
    "condition_id",
    "target",
    "target_id",
    "stimulus_id",
    "trial_type",
];

/// The ends of each row's part of a ragged column, from `COLUMN_index`.
///
/// # Errors
/// If there is not one end a row, they descend, or they lie beyond the column.
pub(super) fn ragged_ends(
    file: &Hdf5File,
    column: &str,
    rows: usize,
    length: usize,
    notes: &mut Vec<String>,
) -> Result<Vec<usize>, String> {
    let path = format!("{column}_index");
    let index = file.i64s(&path)?;
    if index.len() != rows {
        return Err(format!(
            "{path} has {} elements, but the table has {rows} rows",
            index.len()
        ));
    }
    let mut ends = Vec::with_capacity(rows);
    let mut previous = 0;
    for (row, &end) in index.iter().enumerate() {
        let end = usize::try_from(end).map_err(|_| format!("{path} has the negative end {end} in row {row}"))?;
        if end < previous {
            return Err(format!("{path} falls from {previous} to {end} in row {row}"));
        }
        if end > length {
            return Err(format!(
                "{path} points to {end} in row {row}, but {column} has {length} elements"
            ));
        }
        ends.push(end);
        previous = end;
    }
    if previous < length {
        notes.push(format!(
            "{} elements of {column} belong to no row and were not read",
            length - previous
        ));
    }
    Ok(ends)
}

/// Rows of `intervals/trials`.
pub(super) fn trials(file: &Hdf5File, notes: &mut Vec<String>) -> Result<Vec<Trial>, String> {
    let Some(table) = IntervalTable::read(file, "trials", notes)? else {
        return Ok(Vec::new());
    };
    let mut condition = None;
    for column in CONDITION_COLUMNS {
        let path = format!("{}/{column}", table.path);
        if table.columns.has_dataset(column) && file.is_integer(&path)? && file.shape(&path)? == [table.rows] {
            condition = Some((column, file.i64s(&path)?));
            break;
        }
    }
    let read = [
        "id",
        "start_time",
        "stop_time",
        condition.as_ref().map_or("", |(column, _)| column),
    ];
    let unread: Vec<&str> = table
        .columns
        .datasets
        .iter()
        .map(String::as_str)
        .filter(|column| !read.contains(column))
        .collect();
    if !unread.is_empty() {
        notes.push(format!(
            "columns of {} that were not read: {}",
            table.path,
            unread.join(", ")
        ));
    }
    let trial = |&(row, Interval { start_ns, end_ns })| {
        let condition = condition.as_ref().map(|(_, values): &(&str, Vec<i64>)| values[row]);
        Trial {
            start_ns,
            end_ns,
            condition,
        }
    };
    Ok(table.intervals.iter().map(trial).collect())
}

/// Rows of `intervals/epochs`.
pub(super) fn epochs(file: &Hdf5File, notes: &mut Vec<String>) -> Result<Vec<Epoch>, String> {
    let Some(table) = IntervalTable::read(file, "epochs", notes)? else {
        return Ok(Vec::new());
    };
    let mut labels = vec![String::new(); table.rows];
    if table.columns.has_dataset("tags") && table.columns.has_dataset("tags_index") {
        let column = format!("{}/tags", table.path);
        let tags = file.strings(&column)?;
        let mut first = 0;
        for (label, end) in labels
            .iter_mut()
            .zip(ragged_ends(file, &column, table.rows, tags.len(), notes)?)
        {
            *label = tags[first..end].join(", ");
            first = end;
        }
    }
    let epoch = |&(row, Interval { start_ns, end_ns }): &(usize, Interval)| Epoch {
        start_ns,
        end_ns,
        label: labels[row].clone(),
    };
    Ok(table.intervals.iter().map(epoch).collect())
}

/// `intervals/invalid_times`, ascending and disjoint.
pub(super) fn invalid_times(file: &Hdf5File, notes: &mut Vec<String>) -> Result<Vec<Interval>, String> {
    let table = IntervalTable::read(file, "invalid_times", notes)?;
    Ok(united(
        table
            .into_iter()
            .flat_map(|table| table.intervals)
            .map(|(_, interval)| interval)
            .collect(),
    ))
}

struct IntervalTable {
    path: String,
    columns: Members,
    rows: usize,
    /// Row number and interval of the rows whose times are times.
    intervals: Vec<(usize, Interval)>,
}

impl IntervalTable {
    fn read(file: &Hdf5File, name: &str, notes: &mut Vec<String>) -> Result<Option<IntervalTable>, String> {
        let path = format!("intervals/{name}");
        let Some(columns) = file.members(&path)? else {
            return Ok(None);
        };
        let starts = file.f64s(&format!("{path}/start_time"))?;
        let stops = file.f64s(&format!("{path}/stop_time"))?;
        if starts.len() != stops.len() {
            return Err(format!(
                "{path} has {} start times and {} stop times",
                starts.len(),
                stops.len()
            ));
        }
        let rows = starts.len();
        let each = starts.iter().zip(&stops).enumerate();
        let intervals: Vec<(usize, Interval)> = each
            .filter_map(|(row, (&start, &stop))| {
                let (start_ns, end_ns) = (seconds_to_ns(start).ok()?, seconds_to_ns(stop).ok()?);
                (start_ns <= end_ns).then_some((row, Interval { start_ns, end_ns }))
            })
            .collect();
        if intervals.len() < rows {
            let left_out = rows - intervals.len();
            notes.push(format!(
                "{left_out} of {rows} rows of {path} have no finite, ordered times and were left out"
            ));
        }
        Ok(Some(IntervalTable {
            path,
            columns,
            rows,
            intervals,
        }))
    }
}
