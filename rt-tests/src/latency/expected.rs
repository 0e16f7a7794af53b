//! What a scenario must have brought about: one in which nothing happened shows nothing.

use serde_json::Value;

use super::ledger::Ledger;
use super::scenario::{Event, Model};

fn count(summary: &Value, path: &str) -> u64 {
    summary.pointer(path).and_then(Value::as_u64).unwrap_or(0)
}

/// What did not happen although it should have, or happened and was not told.
pub fn missing(event: Event, model: Model, summary: &Value, ledger: &Ledger) -> Vec<String> {
    let mut problems = Vec::new();
    let mut ask = |holds: bool, otherwise: &str| {
        if !holds {
            problems.push(otherwise.to_string());
        }
    };
    let flagged = |flag: &str| ledger.flags.get(flag).copied().unwrap_or(0);
    match event {
        Event::DiskFull => {
            let failure = summary.pointer("/recording/failure").is_some_and(Value::is_string);
            ask(failure, "the disk was full, and the summary does not say so");
            ask(
                flagged("recording_lost") > 0,
                "the disk was full, and no prediction has the flag of it",
            );
        }
        Event::SourceKilled => {
            ask(
                count(summary, "/sources/0/disconnections") >= 2,
                "the device went twice, and the summary does not say so",
            );
            ask(
                flagged("source_away") > 1,
                "the device was away, and no prediction has the flag of it",
            );
        }
        Event::ClockJumps => {
            ask(
                count(summary, "/sources/0/clock_resets") >= 2,
                "the clock jumped twice, and the summary does not say so",
            );
            ask(
                flagged("clock_reset") > 0,
                "the clock jumped, and no prediction has the flag of it",
            );
        }
        Event::ModelSwap => {
            ask(
                count(summary, "/exchanged") == 1,
                "another model was to predict, and none did",
            );
        }
        _ => {}
    }
    match model {
        Model::GpuHangs => {
            ask(
                summary["device_failure"].is_string(),
                "the GPU hung, and the summary does not say so",
            );
            let standby = count(summary, "/bins/on_standby");
            ask(
                standby > 0 && flagged("standby") > 0,
                "the GPU hung, and nothing took over",
            );
        }
        Model::NanWeights => {
            let (failed, published) = (flagged("model_failed"), ledger.counted.published);
            let whole = failed + flagged("skipped") >= published && failed > 0;
            ask(
                whole,
                "weights are not numbers, and not every prediction has the flag of it",
            );
        }
        _ => {}
    }
    problems
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_scenario_in_which_nothing_happened_is_found() {
        let (nothing, ledger) = (json!({}), Ledger::default());
        for event in [
            Event::DiskFull,
            Event::SourceKilled,
            Event::ClockJumps,
            Event::ModelSwap,
        ] {
            assert!(
                !missing(event, Model::MeanRate, &nothing, &ledger).is_empty(),
                "{event:?}"
            );
        }
        for model in [Model::GpuHangs, Model::NanWeights] {
            assert!(!missing(Event::None, model, &nothing, &ledger).is_empty(), "{model:?}");
        }
        assert!(missing(Event::None, Model::MeanRate, &nothing, &ledger).is_empty());
    }

    #[test]
    fn what_happened_and_was_told_is_as_it_should_be() {
        let mut ledger = Ledger::default();
        for flag in [
            "recording_lost",
            "source_away",
            "clock_reset",
            "standby",
            "model_failed",
        ] {
            ledger.flags.insert(flag.into(), 2);
        }
        ledger.counted.published = 2;
        let summary = json!({
            "recording": {"failure": "the disk is full"},
            "sources": [{"disconnections": 2, "clock_resets": 2}],
            "exchanged": 1,
            "device_failure": "no answer",
            "bins": {"on_standby": 2},
        });
        for event in [
            Event::DiskFull,
            Event::SourceKilled,
            Event::ClockJumps,
            Event::ModelSwap,
        ] {
            assert_eq!(missing(event, Model::GpuHangs, &summary, &ledger), [""; 0], "{event:?}");
        }
        assert_eq!(missing(Event::None, Model::NanWeights, &summary, &ledger), [""; 0]);
    }
}
