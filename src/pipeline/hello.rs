//! The `hello` message: what a subscriber needs to read predictions, as JSON.

use std::sync::atomic::Ordering::Relaxed;

use serde_json::{json, Map, Value};

use super::exchange::ModelNote;
use super::live::Live;
use super::message::{flags, MessageHeader, HEADER_LEN, PREDICTION_TOPIC, VERSION};
use super::modalities::Modalities;
use super::output::OutputSpec;
use super::predictor::Predictor;
use super::sources::SourceView;
use super::switch::StopCause;

/// The part of `hello` that does not change in a run. All keys of the message:
///
/// `schema`, `version`; `topic`, `header_len`, `header` (fields in order, with numpy types), `flags` (name → bit),
/// `array` (dtype, meaning, axes); `outputs` (one for each further topic: `topic`, `array`, `shape`, `labels` of the columns,
/// `row_times_s` from the end of the bin, where rows are of times);
/// `modalities` (what the network may see beside the spikes: `series`, `source`, null where nobody delivers it);
/// `unit_ids`, `bin_ns`, `history_ns`, `horizon_bins`, `last_bin_ns`; `model`
/// (`description`, `hash`); and, new in each message: `epoch`, `sequence`, `state`, `stopped` (why only mean rates go out: `command`,
/// `heartbeat_lost`, `no_heartbeat_yet`, or null), `clock` (`offset_ns` = host
/// monotonic − device time, `uncertainty_ns`: spread of the clock markers in the last second, `host_ns`: now), `samples`
/// (since the start: `received`, `lost`, `late`), `sources` (one each: `name`, and of a device `away`, its wire's counts, and
/// `clock`: `offset_ns`, `uncertainty_ns`, `drift_ppb`, `exchanged`).
pub(crate) fn fixed_part(
    predictor: &dyn Predictor,
    outputs: &[OutputSpec],
    modalities: &Modalities,
    last_bin_ns: i64,
) -> Map<String, Value> {
    let header: Vec<Value> = MessageHeader::FIELDS
        .iter()
        .map(|(name, dtype)| json!([name, dtype]))
        .collect();
    let flags: Map<String, Value> = flags::NAMES
        .iter()
        .map(|(name, bit)| (name.to_string(), json!(bit)))
        .collect();
    let outputs: Vec<Value> = outputs
        .iter()
        .map(|output| {
            json!({
                "topic": output.topic,
                "array": {"dtype": "<f4", "meaning": output.meaning, "axes": output.axes},
                "shape": [output.rows, output.cols],
                "labels": output.labels,
                "row_times_s": output.row_times_s,
            })
        })
        .collect();
    let fixed = json!({
        "schema": "neurohorizon.prediction",
        "version": VERSION,
        "topic": PREDICTION_TOPIC,
        "header_len": HEADER_LEN,
        "header": header,
        "flags": flags,
        "array": {"dtype": "<f4", "meaning": "ln(expected count in the bin)", "axes": ["bin", "unit"]},
        "outputs": outputs,
        "modalities": modalities.sources().map(|(series, source)| json!({"series": series, "source": source})).collect::<Vec<_>>(),
        "unit_ids": predictor.unit_ids(),
        "bin_ns": predictor.bin_ns(),
        "history_ns": predictor.history_ns(),
        "horizon_bins": predictor.horizon_bins(),
        "last_bin_ns": last_bin_ns,
    });
    let mut map = match fixed {
        Value::Object(map) => map,
        _ => Map::new(),
    };
    set_model(&mut map, &ModelNote::of(predictor));
    map
}

/// Says which model predicts.
pub(crate) fn set_model(fixed: &mut Map<String, Value>, model: &ModelNote) {
    let hash = format!("{:016x}", model.hash);
    fixed.insert("model".into(), json!({"description": model.description, "hash": hash}));
}

/// One `hello` message.
pub(crate) fn message(
    fixed: &Map<String, Value>,
    (live, sources): (&Live, &[SourceView]),
    stopped: Option<StopCause>,
    epoch: u64,
    sequence: u64,
    host_ns: i64,
) -> String {
    let mut map = fixed.clone();
    map.insert("epoch".into(), json!(epoch));
    map.insert("sequence".into(), json!(sequence));
    map.insert("state".into(), json!(live.state()));
    map.insert("stopped".into(), json!(stopped));
    let clock = json!({
        "offset_ns": live.clock_offset_ns.load(Relaxed),
        "uncertainty_ns": live.clock_spread_ns.load(Relaxed),
        "host_ns": host_ns,
    });
    map.insert("clock".into(), clock);
    let samples = json!({
        "received": live.samples.load(Relaxed),
        "lost": live.samples_lost.load(Relaxed),
        "late": live.samples_late.load(Relaxed),
    });
    map.insert("samples".into(), samples);
    let sources: Vec<_> = sources.iter().map(SourceView::report).collect();
    map.insert("sources".into(), json!(sources));
    Value::Object(map).to_string()
}
