//! What a replay says of a recording: whether it was the same, and how much of it was compared.

use std::path::Path;

use crate::pipeline::entry::Entry;
use crate::record::replay::Compared;
use crate::record::{ChangingRequest, Ending, RecordError, RecordReader};

/// What a recording has, read to its end.
pub(super) struct Recorded {
    /// Predictions.
    pub(super) published: u64,
    /// Identities that were taken in: of which of the run's models, and where their reference ended, device ns.
    pub(super) identities: Vec<(u64, i64)>,
    /// Requests that changed the run.
    pub(super) requests: Vec<ChangingRequest>,
    /// Such requests that are not in it.
    pub(super) requests_left_out: u64,
    /// Whether it ends with a summary, undamaged.
    pub(super) whole: bool,
    /// Bytes after where a reader that stops there stops.
    pub(super) left_over_bytes: u64,
    /// What is damaged first, and where.
    pub(super) damage: Option<String>,
}

impl Recorded {
    /// Predictions behind damage are counted too, though a replay does not come to them.
    pub(super) fn read(path: &Path) -> Result<Self, RecordError> {
        let mut reader = RecordReader::open(path)?.past_damage();
        let (mut published, mut identities) = (0, Vec::new());
        while let Some((_, entries)) = reader.next_entries()? {
            for entry in entries {
                match entry {
                    Entry::Prediction(_) => published += 1,
                    Entry::Identities { model, end_ns } => identities.push((model, end_ns)),
                    _ => {}
                }
            }
        }
        let (requests, requests_left_out) = (reader.requests().to_vec(), reader.requests_left_out());
        let first_damage = reader
            .damage()
            .first()
            .map(|damage| (damage.at, damage.problem.clone()));
        let (whole, mut left_over_bytes, last_damage) = match reader.ending().cloned() {
            Some(Ending::Whole { .. }) => (true, 0, None),
            Some(Ending::Damaged { at, left_over, problem }) => (false, left_over, Some((at, problem))),
            Some(Ending::CutOff { left_over, .. }) => (false, left_over, None),
            None => (false, 0, None),
        };
        if let Some((at, _)) = first_damage {
            left_over_bytes = reader.bytes() - at;
        }
        let damage = first_damage.or(last_damage);
        Ok(Self {
            published,
            identities,
            requests,
            requests_left_out,
            whole: whole && damage.is_none(),
            left_over_bytes,
            damage: damage.map(|(at, problem)| format!("{problem}, at byte {at}")),
        })
    }
}

/// Whether it is the same, and that in a sentence. None where nothing differs, but nothing was compared or only a part.
pub(super) fn verdict(compared: &Compared, recorded: &Recorded, ended: Option<&str>) -> (Option<bool>, String) {
    let (count, published) = (compared.compared, recorded.published);
    let not_reached = published.saturating_sub(compared.recorded) + compared.only_recorded;
    if let Some(first) = &compared.first_difference {
        let sentence = format!(
            "DIFFERENT, first at bin {}: {} of the {} was {} and is {}",
            first.bin, first.what, first.of, first.recorded, first.replayed
        );
        return (Some(false), sentence);
    }
    let why = match (&recorded.damage, ended) {
        (Some(damage), _) => format!(": the recording is damaged ({damage})"),
        (None, Some(ended)) => format!(": {ended}"),
        (None, None) => String::new(),
    };
    if count == 0 {
        let sentence = match published {
            0 => "NOTHING was compared: the recording has no predictions".to_string(),
            _ => {
                format!("NOTHING was compared, of {published} predictions none that is the model's own both times{why}")
            }
        };
        return (None, sentence);
    }
    if not_reached > 0 || !why.is_empty() {
        let why = match (why.is_empty(), recorded.whole) {
            (true, false) => ": the recording is cut off, without what its last predictions were made from".into(),
            _ => why,
        };
        let sentence = format!(
            "the same IN PART: {count} of {published} predictions were compared, and the replay did not come to {not_reached}{why}"
        );
        return (None, sentence);
    }
    (Some(true), "the same".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::record::replay::Difference;

    fn of(published: u64, damage: Option<&str>) -> Recorded {
        Recorded {
            published,
            identities: Vec::new(),
            requests: Vec::new(),
            requests_left_out: 0,
            whole: damage.is_none(),
            left_over_bytes: 0,
            damage: damage.map(String::from),
        }
    }

    fn compared(recorded: u64, compared: u64) -> Compared {
        Compared {
            recorded,
            compared,
            equal: compared,
            ..Compared::default()
        }
    }

    #[test]
    fn only_all_of_it_is_the_same() {
        let (same, sentence) = verdict(&compared(10, 7), &of(10, None), None);
        assert_eq!((same, sentence.as_str()), (Some(true), "the same"));
        for (compared, recorded, ended, part) in [
            // Nothing that was looked at could be compared, or nothing is there.
            (compared(10, 0), of(10, None), None, "none that is the model's own"),
            (compared(0, 0), of(0, None), None, "has no predictions"),
            // It ended before the recording did: in what came in, in what went out, and both.
            (
                compared(10, 7),
                of(10, None),
                Some("a model is gone"),
                "a model is gone",
            ),
            (
                compared(10, 7),
                of(12, None),
                None,
                "7 of 12 predictions were compared, and the replay did not come to 2",
            ),
            (
                compared(10, 7),
                of(12, Some("a checksum")),
                None,
                "damaged (a checksum)",
            ),
        ] {
            let (same, sentence) = verdict(&compared, &recorded, ended);
            assert_eq!(same, None, "{sentence}");
            assert!(sentence.contains(part), "{sentence}");
        }
    }

    #[test]
    fn a_difference_is_one_wherever_the_replay_ended() {
        let different = Compared {
            first_difference: Some(Difference {
                bin: 3,
                of: "prediction".into(),
                what: "spikes_in".into(),
                recorded: 1.0,
                replayed: 2.0,
            }),
            ..compared(10, 7)
        };
        for (recorded, ended) in [(of(10, None), None), (of(12, Some("a checksum")), Some("there"))] {
            let (same, sentence) = verdict(&different, &recorded, ended);
            assert_eq!(same, Some(false));
            assert!(
                sentence.contains("first at bin 3: spikes_in of the prediction was 1 and is 2"),
                "{sentence}"
            );
        }
    }
}
