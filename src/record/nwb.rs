//! A recording as an NWB 2 file: spikes as `units`, samples below `processing/behavior`, predictions and outputs with their flags
//! and counts below `processing/neurohorizon`, and the requests that changed the run in its table `requests`. Times are the device's, in seconds. What is missing stands in `general/notes`.
//!
//! NWB ties the index of a ragged column to the column by an object reference in the attribute `target`. The HDF5 library
//! writes references as datasets only, so that attribute is not there: this program and plain HDF5 readers find the column by
//! its name, pynwb wants the attribute, and has been seen to read everything once it is added.

use hdf5_pure::{AttrValue, DatasetBuilder, FileBuilder, GroupBuilder};

use super::export::REQUEST_TEXTS;
use super::tables::{MessageTable, SeriesTable, Tables};
use crate::pipeline::message::MessageHeader;

const NS_PER_S: u64 = 1_000_000_000;

fn text(value: &str) -> AttrValue {
    AttrValue::VarLenString(value.into())
}

/// Names a group's or a dataset's type, and tells it from every other.
fn typed((namespace, kind): (&str, &str), id: &str) -> [(&'static str, AttrValue); 3] {
    [
        ("namespace", text(namespace)),
        ("neurodata_type", text(kind)),
        ("object_id", text(id)),
    ]
}

/// An id for each object of the file: the run's epoch and a count.
struct Ids {
    run: u64,
    next: u64,
}

impl Ids {
    fn next(&mut self) -> String {
        self.next += 1;
        let (run, count) = (self.run, self.next);
        format!("{:08x}-{:04x}-4000-8000-{count:012x}", run >> 32, (run >> 16) & 0xFFFF)
    }
}

/// Days since 1970 as year, month and day (Gregorian; H. Hinnant, "chrono-compatible low-level date algorithms").
fn date(days: i64) -> (i64, i64, i64) {
    let shifted = days + 719_468;
    let era = shifted.div_euclid(146_097);
    let day_of_era = shifted.rem_euclid(146_097);
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// A moment in ISO 8601, UTC.
fn iso_8601(unix_ns: u64) -> String {
    let seconds = unix_ns / NS_PER_S;
    let (year, month, day) = date((seconds / 86_400) as i64);
    let (hour, minute, second) = (seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}+00:00")
}

/// A name that a group can have.
fn plain(name: &str) -> String {
    name.replace('/', "_")
}

const CORE: &str = "core";
const TABLES: &str = "hdmf-common";

struct TimeSeries<'a> {
    name: String,
    description: &'a str,
    unit: &'a str,
    times_s: Vec<f64>,
    shape: Vec<u64>,
}

enum Values<'a> {
    Floats(&'a [f32]),
    Counts(&'a [u32]),
    Hashes(&'a [u64]),
}

fn add_series(module: &mut GroupBuilder, ids: &mut Ids, series: &TimeSeries<'_>, values: Values<'_>) {
    let mut group = module.create_group(&series.name);
    for (name, value) in typed((CORE, "TimeSeries"), &ids.next()) {
        group.set_attr(name, value);
    }
    group.set_attr("description", text(series.description));
    group.set_attr("comments", text("no comments"));
    let data = group.create_dataset("data");
    match values {
        Values::Floats(values) => data.with_f32_data(values),
        Values::Counts(values) => data.with_u32_data(values),
        Values::Hashes(values) => data.with_u64_data(values),
    };
    data.with_shape(&series.shape);
    let unit = if series.unit.is_empty() { "unknown" } else { series.unit };
    data.set_attr("unit", text(unit));
    data.set_attr("conversion", AttrValue::F32(1.0));
    data.set_attr("offset", AttrValue::F32(0.0));
    data.set_attr("resolution", AttrValue::F32(-1.0));
    let times = group.create_dataset("timestamps");
    times.with_f64_data(&series.times_s);
    times.set_attr("interval", AttrValue::I32(1));
    times.set_attr("unit", text("seconds"));
    module.add_group(group.finish());
}

fn add_samples(module: &mut GroupBuilder, ids: &mut Ids, table: &SeriesTable) {
    let series = TimeSeries {
        name: plain(&table.series.name),
        description: "samples as they were taken in",
        unit: &table.series.unit,
        times_s: table.times_ns.iter().map(|&time| time as f64 * 1e-9).collect(),
        shape: vec![table.times_ns.len() as u64, table.series.channels as u64],
    };
    add_series(module, ids, &series, Values::Floats(&table.values));
}

/// A series beside the messages: what its name ends in, what it is, and the field of the header.
type Column = (&'static str, &'static str, fn(&MessageHeader) -> u32);

const FLAGS: Column = ("flags", "flags of these messages, bit by bit", |header| header.flags);
const OF_OUTPUTS: [Column; 2] = [
    FLAGS,
    (
        "rows",
        "rows that each of these messages has; the others are NaN",
        |header| header.bins,
    ),
];
const OF_PREDICTIONS: [Column; 6] = [
    FLAGS,
    (
        "predicted_bins",
        "bins that each of these messages predicts; the others are NaN",
        |header| header.bins,
    ),
    (
        "spikes_in",
        "spikes binned since the last of these messages",
        |header| header.spikes_in,
    ),
    (
        "spikes_refused",
        "spikes refused since the last of these messages",
        |header| header.spikes_refused,
    ),
    (
        "spikes_late",
        "late spikes since the last of these messages",
        |header| header.spikes_late,
    ),
    (
        "spikes_unknown",
        "spikes of units unknown to the model since the last of these messages",
        |header| header.spikes_unknown,
    ),
];

fn add_messages(
    module: &mut GroupBuilder,
    ids: &mut Ids,
    table: &MessageTable,
    (description, columns): (&str, &[Column]),
) {
    if table.headers.is_empty() {
        return;
    }
    let messages = table.headers.len() as u64;
    let name = plain(&table.output.topic);
    let mut series = TimeSeries {
        name: name.clone(),
        description,
        unit: "n/a",
        times_s: table.column(|header| header.bin_end_ns as f64 * 1e-9),
        shape: vec![messages, table.output.rows as u64, table.output.cols as u64],
    };
    add_series(module, ids, &series, Values::Floats(&table.array));
    series.shape = vec![messages];
    for (column, description, of) in columns {
        series.name = format!("{name}_{column}");
        series.description = description;
        add_series(module, ids, &series, Values::Counts(&table.column(of)));
    }
    series.name = format!("{name}_model_hash");
    series.description = "hash of the model that each of these messages is of";
    let hashes = table.column(|header| header.model_hash);
    add_series(module, ids, &series, Values::Hashes(&hashes));
}

/// A group of its own below `parent`, filled by `fill`.
fn add_module(
    parent: &mut GroupBuilder,
    ids: &mut Ids,
    name: &str,
    about: &str,
    fill: impl FnOnce(&mut GroupBuilder, &mut Ids),
) {
    let mut group = parent.create_group(name);
    for (name, value) in typed((CORE, "ProcessingModule"), &ids.next()) {
        group.set_attr(name, value);
    }
    group.set_attr("description", text(about));
    fill(&mut group, ids);
    parent.add_group(group.finish());
}

fn units(tables: &Tables, mut table: GroupBuilder, ids: &mut Ids) -> GroupBuilder {
    for (name, value) in typed((CORE, "Units"), &ids.next()) {
        table.set_attr(name, value);
    }
    table.set_attr("description", text("units of the sources"));
    let columns = ["spike_times", "unit_name"].map(String::from).to_vec();
    table.set_attr("colnames", AttrValue::VarLenStringArray(columns));
    let mut of_units = vec![Vec::new(); tables.unit_ids.len()];
    for &(time_ns, unit) in &tables.spikes {
        of_units[unit as usize].push(time_ns as f64 * 1e-9);
    }
    let ends = of_units.iter().scan(0, |end, times| {
        *end += times.len() as u64;
        Some(*end)
    });
    let ends: Vec<u64> = ends.collect();
    let id = table.create_dataset("id");
    id.with_i64_data(&tables.unit_numbers());
    for (name, value) in typed((TABLES, "ElementIdentifiers"), &ids.next()) {
        id.set_attr(name, value);
    }
    let times = table.create_dataset("spike_times");
    times.with_f64_data(&of_units.concat());
    describe(times, "VectorData", "spike times, s of the device clock", ids);
    let index = table.create_dataset("spike_times_index");
    index.with_u64_data(&ends);
    describe(index, "VectorIndex", "where the spike times of each unit end", ids);
    let names: Vec<&str> = tables.unit_ids.iter().map(String::as_str).collect();
    let unit_names = table.create_dataset("unit_name");
    unit_names.with_vlen_strings(&names);
    describe(unit_names, "VectorData", "the id that the unit had in the run", ids);
    table
}

fn describe(column: &mut DatasetBuilder, kind: &str, description: &str, ids: &mut Ids) {
    for (name, value) in typed((TABLES, kind), &ids.next()) {
        column.set_attr(name, value);
    }
    column.set_attr("description", text(description));
}

/// What the run was told, a request a row.
fn add_requests(module: &mut GroupBuilder, ids: &mut Ids, tables: &Tables) {
    if tables.requests.is_empty() {
        return;
    }
    let mut table = module.create_group("requests");
    for (name, value) in typed((TABLES, "DynamicTable"), &ids.next()) {
        table.set_attr(name, value);
    }
    table.set_attr("description", text("requests that changed the run while it went on"));
    let names = REQUEST_TEXTS.map(|(name, _)| name.to_string());
    let columns = std::iter::once("unix_time_s".to_string()).chain(names);
    table.set_attr("colnames", AttrValue::VarLenStringArray(columns.collect()));
    let rows: Vec<i64> = (0..tables.requests.len() as i64).collect();
    let id = table.create_dataset("id");
    id.with_i64_data(&rows);
    for (name, value) in typed((TABLES, "ElementIdentifiers"), &ids.next()) {
        id.set_attr(name, value);
    }
    let header = &tables.header;
    let times_s = tables.requests.iter().map(|request| {
        let since_start_ns = request.host_ns.saturating_sub(header.created_monotonic_ns);
        (header.created_unix_ns as f64 + since_start_ns as f64) * 1e-9
    });
    let times = table.create_dataset("unix_time_s");
    times.with_f64_data(&times_s.collect::<Vec<f64>>());
    describe(
        times,
        "VectorData",
        "when it was heard, s since 1970 of the host's clock",
        ids,
    );
    for (name, of) in REQUEST_TEXTS {
        let texts: Vec<String> = tables.requests.iter().map(of).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let column = table.create_dataset(name);
        column.with_vlen_strings(&texts);
        let about = match name {
            "request_from" => "where it came from: the control socket, or a signal",
            "request" => "the request, JSON",
            _ => "what was answered, JSON",
        };
        describe(column, "VectorData", about, ids);
    }
    module.add_group(table.finish());
}

/// The file's bytes.
///
/// # Errors
/// What the HDF5 library refuses.
pub fn nwb(tables: &Tables) -> Result<Vec<u8>, String> {
    let header = &tables.header;
    let mut ids = Ids {
        run: header.epoch,
        next: 0,
    };
    let mut file = FileBuilder::new();
    for (name, value) in typed((CORE, "NWBFile"), &ids.next()) {
        file.set_attr(name, value);
    }
    file.set_attr("nwb_version", text("2.7.0"));
    let began = iso_8601(header.created_unix_ns);
    let sources: Vec<&str> = header.sources.iter().map(|source| source.name.as_str()).collect();
    let session = format!("{}, predicted by {}", sources.join(" + "), header.description);
    for (name, value) in [
        ("identifier", format!("{:016x}", header.epoch)),
        ("session_description", session),
        ("session_start_time", began.clone()),
        ("timestamps_reference_time", began.clone()),
    ] {
        file.create_dataset(name).with_vlen_strings(&[&value]).with_shape(&[]);
    }
    file.create_dataset("file_create_date").with_vlen_strings(&[&began]);
    for name in ["acquisition", "analysis"] {
        let group = file.create_group(name);
        file.add_group(group.finish());
    }
    let mut general = file.create_group("general");
    let sources_of_it = general.create_dataset("source_script");
    sources_of_it.with_vlen_strings(&[&header.config]).with_shape(&[]);
    sources_of_it.set_attr("file_name", text("the configuration of the run"));
    let missing = tables.missing();
    if !missing.is_empty() {
        let notes = general.create_dataset("notes");
        notes.with_vlen_strings(&[&missing.join("\n")]).with_shape(&[]);
    }
    file.add_group(general.finish());
    let mut stimulus = file.create_group("stimulus");
    for name in ["presentation", "templates"] {
        let group = stimulus.create_group(name);
        stimulus.add_group(group.finish());
    }
    file.add_group(stimulus.finish());
    let mut processing = file.create_group("processing");
    if !tables.series.is_empty() {
        add_module(
            &mut processing,
            &mut ids,
            "behavior",
            "what came in beside the spikes",
            |group, ids| {
                tables.series.iter().for_each(|table| add_samples(group, ids, table));
            },
        );
    }
    add_module(
        &mut processing,
        &mut ids,
        "neurohorizon",
        "what was published",
        |group, ids| {
            let about =
                "ln of the expected count [message, bin ahead, unit], timed by the end of the bin it was made at";
            add_messages(group, ids, &tables.predictions, (about, &OF_PREDICTIONS));
            for output in &tables.outputs {
                add_messages(group, ids, output, ("published beside the predictions", &OF_OUTPUTS));
            }
            add_requests(group, ids, tables);
        },
    );
    file.add_group(processing.finish());
    let table = file.create_group("units");
    file.add_group(units(tables, table, &mut ids).finish());
    file.finish().map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_are_dates() {
        assert_eq!(iso_8601(0), "1970-01-01T00:00:00+00:00");
        assert_eq!(iso_8601(951_827_696 * NS_PER_S), "2000-02-29T12:34:56+00:00");
        assert_eq!(iso_8601(1_798_761_599 * NS_PER_S), "2026-12-31T23:59:59+00:00");
    }
}
