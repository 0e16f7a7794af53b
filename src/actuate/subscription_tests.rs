//! What comes from the socket: read where it is right, counted where it is not, and never believed.

use proptest::prelude::*;

use super::signal::*;
use super::subscription::{Batch, Follower, SubscriptionCounts};
use crate::pipeline::message::MessageHeader;

fn hello(epoch: u64, units: &[&str]) -> Vec<u8> {
    let hello = serde_json::json!({
        "schema": "neurohorizon.prediction", "epoch": epoch, "unit_ids": units, "horizon_bins": 3,
        "outputs": [
            {"topic": "behaviour/hand", "shape": [3, 2], "labels": [], "row_times_s": [-0.03, -0.01, 0.01]},
            {"topic": "behaviour/go", "shape": [1, 2], "labels": ["stay", "go"], "row_times_s": [-0.01]},
            {"topic": "latents", "shape": [4, 2]},
        ],
    });
    hello.to_string().into_bytes()
}

fn message(topic: &str, header: &MessageHeader, array: &[f32]) -> Vec<Vec<u8>> {
    let array = array.iter().flat_map(|number| number.to_le_bytes()).collect();
    vec![topic.into(), bytemuck::bytes_of(header).to_vec(), array]
}

fn unit(unit: &str, bins: Option<Bins>) -> Signal {
    Signal::Unit {
        unit: unit.into(),
        bins,
    }
}

fn output(topic: &str, row: Option<usize>, column: Column) -> Signal {
    Signal::Output {
        topic: topic.into(),
        row,
        column,
    }
}

/// The number that a signal finds in this array, 3 × 2 or as long as it needs.
fn value(signal: &Signal, array: &[f32]) -> f64 {
    let hello = Hello::read(&hello(1, &["a", "b"])).unwrap();
    let cols = 2;
    let header = MessageHeader::new(0, array.len() / cols, cols);
    let parts = message("any", &header, array);
    signal.place(&hello).unwrap().read(&parts[1], &parts[2]).unwrap().1
}

#[test]
fn the_number_is_the_one_that_was_named() {
    let numbers = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
    let bins = |text: &str| Some(text.parse().unwrap());
    assert_eq!(value(&output("behaviour/hand", None, Column::Index(1)), &numbers), 4.0);
    assert_eq!(
        value(&output("behaviour/hand", Some(2), Column::Index(0)), &numbers),
        5.0
    );
    assert_eq!(value(&output("behaviour/hand", None, Column::Norm), &numbers), 5.0);
    let go = "go".parse().unwrap();
    assert_eq!(value(&output("behaviour/go", None, go), &numbers[..2]), 2.0);
    let logs = [0.0, 1.0, 0.0, 2.0, 0.0, 3.0].map(|expected: f32| expected.ln());
    assert!((value(&unit("b", bins("2")), &logs) - 3.0).abs() < 1e-6);
    assert!((value(&unit("b", bins("0..1")), &logs) - 1.5).abs() < 1e-6);
    assert!((value(&unit("b", None), &logs) - 2.0).abs() < 1e-6);
    assert_eq!(value(&unit("a", None), &logs), 0.0);
}

#[test]
fn what_is_not_published_is_named_with_what_is() {
    let hello = Hello::read(&hello(1, &["a", "b"])).unwrap();
    let range = |text: &str| Some(text.parse().unwrap());
    for (signal, said) in [
        (unit("c", None), "no unit \"c\": it has a, b"),
        (unit("a", range("1..3")), "bin 3 is out of range: prediction has 3"),
        (
            output("behaviour/x", None, Column::Norm),
            "it has behaviour/hand, behaviour/go, latents",
        ),
        (
            output("behaviour/hand", None, Column::Index(2)),
            "channel 2 is out of range: behaviour/hand has 2",
        ),
        (output("behaviour/hand", Some(3), Column::Norm), "row 3 is out of range"),
        (
            output("behaviour/go", None, Column::Label("no".into())),
            "it has stay, go",
        ),
        (
            output("behaviour/hand", None, Column::Label("x".into())),
            "2 without names",
        ),
        (output("latents", None, Column::Norm), "--row"),
    ] {
        let error = signal.place(&hello).unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
    }
    assert!("3..1".parse::<Bins>().is_err() && "x".parse::<Bins>().is_err());
}

fn prediction(epoch: u64, sequence: u64, log_rate: f32) -> Vec<Vec<u8>> {
    let header = MessageHeader {
        epoch,
        sequence,
        ..MessageHeader::new(0, 3, 2)
    };
    message("prediction", &header, &[log_rate; 6])
}

fn after(messages: &[Vec<Vec<u8>>]) -> (Batch, SubscriptionCounts) {
    let (mut follower, mut batch) = (Follower::new(unit("b", None)), Batch::default());
    for parts in messages {
        follower.take(parts, &mut batch).unwrap();
    }
    (batch, follower.counts())
}

fn hello_message(epoch: u64, units: &[&str]) -> Vec<Vec<u8>> {
    vec!["hello".into(), hello(epoch, units)]
}

#[test]
fn gaps_repetitions_and_restarts_are_counted() {
    let (batch, counts) = after(&[
        prediction(1, 4, 1.0),
        hello_message(1, &["a", "b"]),
        prediction(1, 5, 1.0),
        prediction(1, 9, 1.0),
        prediction(1, 8, 2.0),
        prediction(1, 9, 2.0),
        prediction(1, 10, 0.0),
    ]);
    let expected = SubscriptionCounts {
        seen: 6,
        missed: 3,
        superseded: 2,
        out_of_order: 2,
        undescribed: 1,
        ..SubscriptionCounts::default()
    };
    assert_eq!((counts, batch.found, batch.restarted), (expected, true, false));
    assert_eq!(batch.newest.unwrap().value, 1.0);
}

#[test]
fn after_a_restart_nothing_counts_until_the_new_runtime_has_said_which_unit_is_where() {
    let before = [
        hello_message(1, &["a", "b"]),
        prediction(1, 7, 0.0),
        prediction(2, 0, 1.0),
    ];
    let (batch, counts) = after(&before);
    assert_eq!((batch.newest, batch.restarted), (None, true));
    assert_eq!((counts.restarts, counts.undescribed, counts.missed), (1, 1, 0));
    let anew = [hello_message(2, &["b", "a"]), prediction(2, 1, 0.0)];
    let (batch, counts) = after(&[&before[..], &anew].concat());
    assert_eq!((batch.newest.unwrap().value, counts.restarts), (1.0, 1));
    let mut follower = Follower::new(unit("b", None));
    let mut batch = Batch::default();
    follower.take(&before[0], &mut batch).unwrap();
    assert!(
        follower.take(&hello_message(2, &["a"]), &mut batch).is_err(),
        "b is gone"
    );
}

/// Messages that are right but for a few bytes, frames or lengths, and arbitrary ones.
fn damaged() -> impl Strategy<Value = Vec<Vec<u8>>> {
    let right = prop_oneof![
        Just(hello_message(1, &["a", "b"])),
        (0..20_u64).prop_map(|sequence| prediction(1, sequence, 1.0)),
        any::<(u32, u32)>().prop_map(|(bins, units)| {
            let header = MessageHeader {
                bins,
                units,
                ..MessageHeader::new(0, 3, 2)
            };
            message("prediction", &header, &[0.0; 6])
        }),
    ];
    let changes = prop::collection::vec(
        (any::<prop::sample::Index>(), any::<prop::sample::Index>(), any::<u8>()),
        0..4,
    );
    let changed = (right, changes).prop_map(|(mut parts, changes)| {
        for (part, at, byte) in changes {
            let part = part.index(parts.len());
            let length = parts[part].len();
            match byte % 4 {
                0 => parts[part].truncate(at.index(length + 1)),
                1 => parts[part].push(byte),
                _ if length > 0 => parts[part][at.index(length)] = byte,
                _ => {}
            }
        }
        parts
    });
    let arbitrary = prop::collection::vec(prop::collection::vec(any::<u8>(), 0..150), 0..5);
    prop_oneof![4 => changed, 1 => arbitrary]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn damaged_messages_are_counted_and_no_more(messages in prop::collection::vec(damaged(), 0..30)) {
        for signal in [unit("b", Some(Bins { first: 1, last: 2 })), output("behaviour/hand", None, Column::Norm)] {
            let (mut follower, mut batch) = (Follower::new(signal), Batch::default());
            follower.take(&hello_message(1, &["a", "b"]), &mut batch).unwrap();
            for parts in &messages {
                // A hello whose damage took the unit's name away is an error, as it should be.
                let _ = follower.take(parts, &mut batch);
            }
            let counts = follower.counts();
            prop_assert!(counts.superseded + counts.out_of_order <= counts.seen);
            prop_assert!(counts.malformed == 0 || batch.complaint.is_some());
        }
    }
}
