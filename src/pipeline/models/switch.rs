//! The switch is thrown, released and looked at by threads that do not wait for each other.

use std::sync::Arc;

use super::super::switch::{StopCause, StopSwitch};
use super::{model, weak_model, Modelled};

/// Longest time between two heartbeats, ns.
const LONGEST_NS: Option<i64> = Some(10);

/// The consumer comes back and predictions are released, while the publish thread looks.
fn released() {
    let switch = Arc::new(StopSwitch::<Modelled>::new(true));
    switch.heartbeat(1);
    assert!(switch.is_stopped(90, LONGEST_NS));
    let control = loom::thread::spawn({
        let switch = switch.clone();
        move || {
            switch.heartbeat(95);
            switch.release(95, LONGEST_NS).unwrap();
        }
    });
    for now_ns in [96, 97] {
        switch.is_stopped(now_ns, LONGEST_NS);
    }
    control.join().unwrap();
    // Nobody has missed a heartbeat since.
    assert_eq!((switch.cause(), switch.stops()), (None, 1));
}

/// Somebody stops predictions while somebody else, who has stopped them before, releases them.
fn stopped() {
    let switch = Arc::new(StopSwitch::<Modelled>::new(false));
    switch.stop();
    let control = loom::thread::spawn({
        let switch = switch.clone();
        move || switch.release(0, None)
    });
    let other = loom::thread::spawn({
        let switch = switch.clone();
        move || {
            switch.stop();
            switch.stops()
        }
    });
    let looked = switch.is_stopped(0, None);
    let released = control.join().unwrap();
    let stops = other.join().unwrap();
    let stopped = switch.cause() == Some(StopCause::Command);
    // It was stopped before the release, or after it, or both were at once and it stays stopped.
    match (&released, switch.stops()) {
        (Ok(()), 1) => assert!(!stopped),
        (Ok(()), 2) => assert!(stopped),
        (Err(_), 1) => assert!(stopped && looked),
        other => panic!("{other:?}"),
    }
    assert_eq!(stops, switch.stops());
    assert!(switch.is_stopped(0, None) == stopped);
}

/// A command and the loss of a heartbeat at once are one stop, and the command is its cause.
fn lost_and_commanded() {
    let switch = Arc::new(StopSwitch::<Modelled>::new(true));
    switch.heartbeat(1);
    let control = loom::thread::spawn({
        let switch = switch.clone();
        move || switch.stop()
    });
    assert!(switch.is_stopped(90, LONGEST_NS));
    control.join().unwrap();
    assert_eq!((switch.cause(), switch.stops()), (Some(StopCause::Command), 1));
}

#[test]
fn who_was_released_for_a_heartbeat_is_not_stopped_for_the_one_before() {
    model(3, released);
}

#[test]
fn a_stop_and_a_release_at_once_leave_a_stop_or_one_after_the_other() {
    model(3, stopped);
}

#[test]
fn a_stop_for_two_causes_is_one_and_the_commands() {
    model(3, lost_and_commanded);
}

#[test]
#[should_panic(expected = "left: (Some(HeartbeatLost), 2)")]
fn the_model_notices_atomics_that_are_too_weak() {
    weak_model(3, released);
}
