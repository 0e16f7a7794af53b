//! What may go out: a stop, a heartbeat, limits of rates.

use std::time::Duration;

use neurohorizon::control::{ControlError, Request};
use neurohorizon::pipeline::message::flags;
use neurohorizon::pipeline::{GuardConfig, ParameterValues, RunState, StopCause};

use super::harness::*;

#[test]
fn a_stop_lets_only_mean_rates_out_until_it_is_released() {
    let mut told_at = 0;
    let (summary, received, news) = told(2_000 * MS, 1.0, GuardConfig::default(), |run, client| {
        wait_until(run, 500 * MS);
        told_at = neurohorizon::pipeline::clock::monotonic_ns();
        let answer = client.ask(&Request::EmergencyStop {}).unwrap();
        assert_eq!(answer["stopped"], "command");
        wait_until(run, 1_000 * MS);
        assert_eq!(run.live().state, RunState::Degraded);
        client.ask(&Request::Release {}).unwrap();
    });
    let stopped: Vec<_> = received
        .iter()
        .filter(|(header, _)| header.flags & flags::STOPPED != 0)
        .collect();
    assert_eq!(summary.bins.stopped, stopped.len() as u64);
    assert!((15..40).contains(&stopped.len()), "{} stopped", stopped.len());
    for (header, array) in &stopped {
        assert!(header.flags & flags::NEUTRAL != 0);
        assert!(array.iter().all(|rate| *rate == NEUTRAL as f32));
        assert!(header.publish_ns > told_at);
    }
    // One piece, from the first prediction after the command was answered to the first after the release.
    let (first, last) = (stopped[0].0, stopped[stopped.len() - 1].0);
    assert_eq!(last.sequence - first.sequence + 1, stopped.len() as u64);
    println!(
        "from the command to the first stopped prediction {:.1} ms",
        (first.publish_ns - told_at) as f64 * 1e-6
    );
    let between = received
        .iter()
        .filter(|(header, _)| header.publish_ns > told_at && header.sequence < first.sequence);
    // The one that was on its way.
    assert!(between.count() <= 1);
    assert_eq!(news.iter().filter(|news| news.contains("EMERGENCY STOP")).count(), 1);
}

#[test]
fn predictions_go_out_as_long_as_the_consumer_is_heard() {
    let guard = GuardConfig {
        heartbeat_ns: Some(150 * MS),
        ..Default::default()
    };
    let mut last_beat = 0;
    let (_, received, _) = told(3_000 * MS, 1.0, guard, |run, client| {
        wait_until(run, 400 * MS);
        assert_eq!(run.handle().switch().cause(), Some(StopCause::NoHeartbeatYet));
        assert!(matches!(
            client.ask(&Request::Release {}),
            Err(ControlError::Refused(_))
        ));
        for _ in 0..20 {
            client.ask(&Request::Heartbeat {}).unwrap();
            last_beat = neurohorizon::pipeline::clock::monotonic_ns();
            std::thread::sleep(Duration::from_millis(30));
        }
        // The heart stops.
        std::thread::sleep(Duration::from_millis(400));
        assert_eq!(run.handle().switch().cause(), Some(StopCause::HeartbeatLost));
        let refused = client.ask(&Request::Release {}).unwrap_err().to_string();
        assert!(refused.contains("heartbeat"), "{refused}");
        client.ask(&Request::Heartbeat {}).unwrap();
        assert_eq!(run.handle().switch().cause(), Some(StopCause::HeartbeatLost));
        client.ask(&Request::Release {}).unwrap();
        let set = |heartbeat_ms| ParameterValues {
            heartbeat_ms: Some(heartbeat_ms),
            ..Default::default()
        };
        client
            .ask(&Request::Set {
                parameters: set(60_000.0),
            })
            .unwrap();
    });
    let is_stopped = |at: usize| received[at].0.flags & flags::STOPPED != 0;
    let changes: Vec<usize> = (1..received.len())
        .filter(|at| is_stopped(*at) != is_stopped(at - 1))
        .collect();
    assert!(is_stopped(0) && changes.len() == 3, "{changes:?}");
    let lost = &received[changes[1]].0;
    let late_ms = (lost.publish_ns - last_beat) as f64 * 1e-6;
    println!(
        "the first stopped prediction came {late_ms:.1} ms after the last heartbeat was answered (150 ms allowed)"
    );
    assert!((140.0..=250.0).contains(&late_ms), "{late_ms}");
}

#[test]
fn a_limit_holds_from_the_next_bin_on() {
    let most_rate_hz = 3.0;
    let (summary, received, _) = told(1_500 * MS, 1.0, GuardConfig::default(), |run, client| {
        wait_until(run, 600 * MS);
        let parameters = ParameterValues {
            most_rate_hz: Some(most_rate_hz),
            ..Default::default()
        };
        let answer = client.ask(&Request::Set { parameters }).unwrap();
        assert_eq!(answer["parameters"]["most_rate_hz"], most_rate_hz);
    });
    let most = (most_rate_hz * 0.02).ln() as f32;
    let first = received
        .iter()
        .position(|(header, _)| header.flags & flags::LIMITED != 0)
        .unwrap();
    let above = |array: &[f32]| array.iter().any(|rate| *rate > most + 1e-6);
    assert!(
        received[..first].iter().any(|(_, array)| above(array)),
        "there was nothing to limit"
    );
    assert!(!received[first..].iter().any(|(_, array)| above(array)));
    let limited = received
        .iter()
        .filter(|(header, _)| header.flags & flags::LIMITED != 0)
        .count();
    assert_eq!(summary.bins.limited, limited as u64);
}
