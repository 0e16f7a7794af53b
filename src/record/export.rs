//! A recording as arrays for NumPy, which [`crate::data::Recording`] reads like any other session.
//!
//! `spike_times` (s), `spike_units`, `unit_ids`; `NAME_time_s` and `NAME_UNIT` of every series; of the predictions `log_rates`
//! `[n, T, N]` with `model_unit_ids`, and their headers as `bin_index`, `bin_end_ns`, `flags`, `epoch`, `sequence`, `ingest_ns`,
//! `decode_start_ns`, `decode_end_ns`, `publish_ns`, `model_hash`, `predicted_bins`, `spikes_in`, `spikes_refused`, `spikes_late`,
//! `spikes_unknown`; of every output `output_TOPIC` `[n, rows, columns]` and `output_TOPIC_bin_index`, `output_TOPIC_flags`,
//! `output_TOPIC_rows`, `output_TOPIC_model_hash`. Rows from `predicted_bins` (of outputs, from `rows`) on are NaN: there were none.
//!
//! Of the requests that changed the run `request_host_ns` (monotonic, as `ingest_ns`), `request_from`, `request` and `request_answer`,
//! JSON as text.
//!
//! What is not in these arrays is counted: `entries_lost` and `requests_left_out` while this was recorded, `left_out_messages`, `left_out_samples` and
//! `left_out_spikes` that have no place, `damaged_bytes` and `damaged_chunks` that could not be read.

use super::reader::Damage;
use super::requests::ChangingRequest;
use super::tables::{MessageTable, Tables};
use crate::data::arrays::{ArrayWriter, Elements};
use crate::pipeline::message::MessageHeader;

/// A reader of one field of a message's header.
type Field<T> = (&'static str, fn(&MessageHeader) -> T);

const LONG: [Field<i64>; 8] = [
    ("bin_index", |header| header.bin_index),
    ("bin_end_ns", |header| header.bin_end_ns),
    ("sequence", |header| header.sequence as i64),
    ("epoch", |header| header.epoch as i64),
    ("ingest_ns", |header| header.ingest_ns),
    ("decode_start_ns", |header| header.decode_start_ns),
    ("decode_end_ns", |header| header.decode_end_ns),
    ("publish_ns", |header| header.publish_ns),
];
const SHORT: [Field<u32>; 6] = [
    ("flags", |header| header.flags),
    ("predicted_bins", |header| header.bins),
    ("spikes_in", |header| header.spikes_in),
    ("spikes_refused", |header| header.spikes_refused),
    ("spikes_late", |header| header.spikes_late),
    ("spikes_unknown", |header| header.spikes_unknown),
];
/// What an output has of its own.
const OF_OUTPUT: [Field<u32>; 2] = [SHORT[0], ("rows", |header| header.bins)];

/// A text of a request: its name, and where it comes from.
type RequestText = (&'static str, fn(&ChangingRequest) -> String);

/// What is told of a request beside its time.
pub(super) const REQUEST_TEXTS: [RequestText; 3] = [
    ("request_from", |request| request.from.clone()),
    ("request", |request| request.request.to_string()),
    ("request_answer", |request| request.answer.to_string()),
];

fn seconds(times_ns: impl Iterator<Item = i64>) -> Vec<f64> {
    times_ns.map(|time| time as f64 * 1e-9).collect()
}

/// A name that an archive's member can have.
fn plain(name: &str) -> String {
    let keep = |c: char| if c.is_alphanumeric() || c == '_' { c } else { '_' };
    name.chars().map(keep).collect()
}

fn add_headers(
    file: &mut ArrayWriter,
    prefix: &str,
    table: &MessageTable,
    (long, short): (&[Field<i64>], &[Field<u32>]),
) -> std::io::Result<()> {
    for (name, of) in long {
        let column = table.column(of);
        file.add(&format!("{prefix}{name}"), &[column.len()], Elements::I64(&column))?;
    }
    for (name, of) in short {
        let column = table.column(of);
        file.add(&format!("{prefix}{name}"), &[column.len()], Elements::U32(&column))?;
    }
    let hashes = table.column(|header| header.model_hash);
    file.add(&format!("{prefix}model_hash"), &[hashes.len()], Elements::U64(&hashes))
}

/// The archive's bytes.
///
/// # Errors
/// Where they do not fit into an archive.
pub fn npz(tables: &Tables) -> std::io::Result<Vec<u8>> {
    let mut file = ArrayWriter::default();
    let numbers = tables.unit_numbers();
    let times_s = seconds(tables.spikes.iter().map(|&(time, _)| time));
    let units: Vec<i64> = tables.spikes.iter().map(|&(_, unit)| numbers[unit as usize]).collect();
    file.add("spike_times", &[times_s.len()], Elements::F64(&times_s))?;
    file.add("spike_units", &[units.len()], Elements::I64(&units))?;
    file.add("unit_ids", &[tables.unit_ids.len()], Elements::Text(&tables.unit_ids))?;
    for table in &tables.series {
        let (name, samples) = (plain(&table.series.name), table.times_ns.len());
        let times_s = seconds(table.times_ns.iter().copied());
        file.add(&format!("{name}_time_s"), &[samples], Elements::F64(&times_s))?;
        let unit = plain(&table.series.unit);
        let name = if unit.is_empty() {
            name
        } else {
            format!("{name}_{unit}")
        };
        let shape = [samples, table.series.channels];
        file.add(&name, &shape, Elements::F32(&table.values))?;
    }
    let predictions = &tables.predictions;
    let shape = |table: &MessageTable| [table.headers.len(), table.output.rows, table.output.cols];
    file.add("log_rates", &shape(predictions), Elements::F32(&predictions.array))?;
    let ids = &tables.header.unit_ids;
    file.add("model_unit_ids", &[ids.len()], Elements::Text(ids))?;
    add_headers(&mut file, "", predictions, (&LONG, &SHORT))?;
    for table in &tables.outputs {
        let name = format!("output_{}", plain(&table.output.topic));
        file.add(&name, &shape(table), Elements::F32(&table.array))?;
        add_headers(&mut file, &format!("{name}_"), table, (&LONG[..1], &OF_OUTPUT))?;
    }
    let requests = &tables.requests;
    let times_ns: Vec<i64> = requests.iter().map(|request| request.host_ns).collect();
    file.add("request_host_ns", &[times_ns.len()], Elements::I64(&times_ns))?;
    for (name, of) in REQUEST_TEXTS {
        let texts: Vec<String> = requests.iter().map(of).collect();
        file.add(name, &[texts.len()], Elements::Text(&texts))?;
    }
    let damaged = |of: fn(&Damage) -> u64| tables.damage.iter().map(of).sum();
    for (name, count) in [
        ("entries_lost", tables.lost),
        ("requests_left_out", tables.requests_left_out),
        ("left_out_messages", tables.left_out.messages),
        ("left_out_samples", tables.left_out.samples),
        ("left_out_spikes", tables.left_out.spikes),
        ("damaged_bytes", damaged(|damage| damage.bytes)),
        ("damaged_chunks", damaged(|damage| damage.chunks)),
    ] {
        file.add(name, &[], Elements::U64(&[count]))?;
    }
    file.finish()
}
