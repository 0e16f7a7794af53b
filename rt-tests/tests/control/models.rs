//! Another model in the place of the one that predicts.

use std::sync::Arc;
use std::time::{Duration, Instant};

use neurohorizon::control::{ControlError, Request};
use neurohorizon::pipeline::message::flags;
use neurohorizon::pipeline::{GuardConfig, NullModel, Run};
use rt_tests::subscriber::{free_endpoint, subscribe, Received};
use serde_json::Value;

use super::harness::*;

fn alone(name: &str, end_ns: i64) -> Received {
    let endpoint = free_endpoint();
    let subscriber = subscribe(&endpoint, end_ns / BIN - 1);
    let null = NullModel {
        log_rates: vec![NEUTRAL; UNITS],
        last_bin_ns: BIN,
    };
    let predictor = Box::new(model(name).unwrap());
    let config = run_config(&endpoint, GuardConfig::default());
    let run = Run::start(
        &config,
        vec![Box::new(source(end_ns, 4.0, UNITS))],
        predictor,
        &null,
        Arc::default(),
    );
    run.unwrap().join();
    subscriber.join().unwrap()
}

/// How many predictions have the same bits as those of the same bin in a run of that model alone; the others are counted too.
fn same_as_alone(received: &Received, alone: &Received) -> (usize, usize) {
    let (mut same, mut other) = (0, 0);
    for (header, array) in received.iter().filter(|(header, _)| header.flags & BY_TIME == 0) {
        let there = alone.iter().find(|(there, _)| there.bin_index == header.bin_index);
        if let Some((_, expected)) = there.filter(|(there, _)| there.flags & BY_TIME == 0) {
            *(if array == expected { &mut same } else { &mut other }) += 1;
        }
    }
    (same, other)
}

#[test]
fn another_model_predicts_from_one_bin_to_the_next_as_if_it_always_had() {
    let end = 4_000 * MS;
    let (summary, received, news) = told(end, 2.0, GuardConfig::default(), |run, client| {
        wait_until(run, 1_500 * MS);
        let answer = client.ask(&swap("second")).unwrap();
        assert_eq!(answer["predicts"], true);
        let state = client.ask(&Request::State {}).unwrap();
        assert!(state["model"].as_str().unwrap().contains("second"), "{state}");
        assert_eq!(
            (&state["exchanged"], &state["next_model"]),
            (&Value::from(1), &Value::Null)
        );
    });
    assert_eq!(summary.exchanged, 1);
    assert!(summary.model.contains("second"), "{}", summary.model);
    assert!(
        news.iter()
            .any(|news| news.contains("second") && news.ends_with("predicts now")),
        "{news:?}"
    );
    let [first, second] = ["first", "second"].map(|name| checkpoint(name).unwrap().hash);
    let at = received
        .iter()
        .position(|(header, _)| header.model_hash == second)
        .unwrap();
    let (before, after) = received.split_at(at);
    assert!(
        before.len() > 50 && after.len() > 50,
        "{} and {}",
        before.len(),
        after.len()
    );
    assert!(before.iter().all(|(header, _)| header.model_hash == first));
    assert!(after.iter().all(|(header, _)| header.model_hash == second));
    // Its recent history is the first one's: from its first bin on it predicts what it had predicted from the start.
    for (part, name) in [(before, "first"), (after, "second")] {
        let (same, other) = same_as_alone(&part.to_vec(), &alone(name, end));
        assert!(same > 40, "{name}: only {same} could be compared");
        assert_eq!(other, 0, "{name}: of {}", same + other);
    }
}

#[test]
fn a_model_goes_along_until_it_has_what_it_needs() {
    let mut asked_at = 0;
    let end = 12_000 * MS;
    let (summary, received, _) = told(end, 2.0, GuardConfig::default(), |run, client| {
        wait_until(run, 1_000 * MS);
        asked_at = run.live().device_ns;
        // 5 × 1 s of its longest trace.
        let answer = client.ask(&swap("other history")).unwrap();
        assert_eq!(answer["predicts"], false);
        let state = client.ask(&Request::State {}).unwrap();
        assert!(state["model"].as_str().unwrap().contains("first"), "{state}");
        assert!(
            state["next_model"].as_str().unwrap().contains("other history"),
            "{state}"
        );
        let busy = client.ask(&swap("second")).unwrap_err().to_string();
        assert!(busy.contains("on its way"), "{busy}");
        wait_until(run, asked_at + 6_000 * MS);
        assert_eq!(run.handle().exchanged(), 1);
        // And this one computes identities from a second.
        client.ask(&swap("identified")).unwrap();
    });
    assert_eq!(summary.exchanged, 2);
    assert_eq!(summary.calibration.map(|counts| counts.taken_in), Some(1));
    let first_of = |name: &str| {
        let hash = checkpoint(name).unwrap().hash;
        received.iter().find(|(header, _)| header.model_hash == hash).unwrap().0
    };
    let (history, identified) = (first_of("other history"), first_of("identified"));
    assert!(
        history.bin_end_ns >= asked_at + 5_000 * MS,
        "{} after {asked_at}",
        history.bin_end_ns
    );
    assert!(identified.bin_end_ns >= history.bin_end_ns + 1_000 * MS);
    // Nobody waited with mean rates.
    let stand_ins = received
        .iter()
        .filter(|(header, _)| header.flags & (flags::NEUTRAL | flags::CALIBRATING) != 0);
    assert_eq!(stand_ins.count(), 0);
}

#[test]
fn a_model_that_does_not_fit_is_refused_and_the_first_goes_on() {
    let (summary, _, _) = told(1_500 * MS, 1.0, GuardConfig::default(), |run, client| {
        wait_until(run, 300 * MS);
        for (name, named) in [
            ("more units", "number of units is 11"),
            ("fewer bins", "number of bins is 2"),
            ("nowhere", "there is no nowhere"),
        ] {
            match client.ask(&swap(name)) {
                Err(ControlError::Refused(sentence)) => assert!(sentence.contains(named), "{sentence}"),
                other => panic!("{name}: {other:?}"),
            }
        }
    });
    assert_eq!(summary.exchanged, 0);
    assert!(summary.model.contains("first"));
}

#[test]
fn hello_speaks_of_the_model_that_predicts_though_several_came_at_once() {
    told(3_000 * MS, 1.0, GuardConfig::default(), |run, client| {
        let socket = zmq::Context::new().socket(zmq::SUB).unwrap();
        socket.connect(&run.endpoints().every).unwrap();
        socket.set_subscribe(b"hello").unwrap();
        socket.set_rcvtimeo(1_500).unwrap();
        let hello = || {
            let parts = socket.recv_multipart(0).expect("a hello");
            serde_json::from_slice::<Value>(&parts[1]).unwrap()["model"]["description"].clone()
        };
        assert!(hello().as_str().unwrap().contains("first"));
        // A hello a second: less time than that for both.
        client.ask(&swap("second")).unwrap();
        client.ask(&swap("third")).unwrap();
        let begin = Instant::now();
        while !hello().as_str().unwrap().contains("third") {
            assert!(begin.elapsed() < Duration::from_secs(1), "it speaks of another model");
        }
    });
}
