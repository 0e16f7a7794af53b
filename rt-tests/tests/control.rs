//! A run that is told what to do while it goes on: another model, limits, a stop, a heartbeat, over the control socket.

use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use neurohorizon::acquire::simulate::{Population, SimulationConfig};
use neurohorizon::acquire::simulated::Simulated;
use neurohorizon::acquire::{Pace, Source as _};
use neurohorizon::control::{Client, ControlConfig, ControlError, ControlServer, ControlSocket, LoadedModel, Request};
use neurohorizon::model::checkpoint::Checkpoint;
use neurohorizon::model::config::{Decoder, Feedback, HistoryConfig, IdentityScheme, ModelConfig};
use neurohorizon::model::identity::unidentified;
use neurohorizon::model::BuildOptions;
use neurohorizon::pipeline::calibrate::Calibration;
use neurohorizon::pipeline::message::flags;
use neurohorizon::pipeline::network::NetworkPredictor;
use neurohorizon::pipeline::{
    GuardConfig, NullModel, Outcome, ParameterValues, PublishConfig, Run, RunConfig, RunState, RunSummary, StopCause,
};
use rt_tests::subscriber::{free_endpoint, subscribe, Received};
use rt_tests::tiny::{config, history, identity};
use serde_json::Value;

const MS: i64 = 1_000_000;
const BIN: i64 = 20 * MS;
const UNITS: usize = 10;
const NEUTRAL: f64 = -2.0;
/// Flags of predictions that time, and not the model, decided.
const BY_TIME: u32 = flags::HELD | flags::NEUTRAL | flags::SKIPPED | flags::SHORTENED | flags::STUCK;

fn seen_history() -> ModelConfig {
    ModelConfig {
        history: Some(history()),
        ..config(Decoder::QueryAug(Feedback::None))
    }
}

/// Models by name, as a folder would have them.
fn checkpoint(name: &str) -> Option<Checkpoint> {
    let other_history = HistoryConfig {
        time_constants_s: vec![0.04, 1.0],
        population_time_constants: 1,
        components: 2,
    };
    let (config, units) = match name {
        "first" | "second" => (seen_history(), UNITS),
        "other history" => {
            let history = Some(other_history);
            (
                ModelConfig {
                    history,
                    ..seen_history()
                },
                UNITS,
            )
        }
        "more units" => (seen_history(), UNITS + 1),
        "fewer bins" => {
            let pred_window = 0.04;
            let config = ModelConfig {
                sequence_length: 0.1 + pred_window,
                pred_window,
                ..seen_history()
            };
            (config, UNITS)
        }
        "identified" => {
            let identity = Some(identity(IdentityScheme::Binned));
            (
                ModelConfig {
                    identity,
                    ..seen_history()
                },
                UNITS,
            )
        }
        _ => return None,
    };
    let seed = name.bytes().map(u64::from).sum();
    let mut checkpoint = Checkpoint::random(&config, units, seed);
    checkpoint.hash = seed;
    checkpoint.unit_ids = std::iter::once("NA".to_owned()).chain(ids(units)).collect();
    Some(checkpoint)
}

fn ids(units: usize) -> Vec<String> {
    source(BIN, 1.0, units).unit_ids().to_vec()
}

fn source(end_ns: i64, speed: f64, units: usize) -> Simulated<Population> {
    let population = SimulationConfig {
        n_units: units,
        ..SimulationConfig::default()
    };
    Simulated::new(
        Population::new(population, 5).unwrap(),
        0,
        end_ns,
        Pace::Clocked(speed),
        MS,
    )
}

fn model(name: &str) -> Result<NetworkPredictor, String> {
    let checkpoint = checkpoint(name).ok_or_else(|| format!("there is no {name}"))?;
    let options = BuildOptions {
        max_spikes: 4_096,
        ..BuildOptions::default()
    };
    let units = if name == "more units" { UNITS + 1 } else { UNITS };
    let ids = ids(units);
    let build = |checkpoint: &Checkpoint| NetworkPredictor::new(checkpoint, name, &ids, &options);
    if name != "identified" {
        return build(&checkpoint).map_err(|error| error.to_string());
    }
    let unknown = unidentified(&checkpoint, "new", &ids, &[NEUTRAL as f32; UNITS]).unwrap();
    let wanted = Calibration {
        reference_s: 1.0,
        every_s: None,
        in_step: false,
    };
    let predictor = build(&unknown).map_err(|error| error.to_string())?;
    predictor.calibrate(&unknown, wanted).map_err(|error| error.to_string())
}

fn run_config(endpoint: &str, guard: GuardConfig) -> RunConfig {
    RunConfig {
        start_ns: 0,
        grace_ns: 0,
        // Time is not what is tested here.
        deadline_ns: Some(200 * MS),
        stuck_after_ns: None,
        ring_events: 1 << 14,
        decode_core: None,
        realtime: Default::default(),
        guard,
        publish: PublishConfig {
            endpoint: endpoint.into(),
            latest_endpoint: None,
            high_water_mark: 1_000,
            wait_for_subscriber: Duration::from_secs(10),
        },
    }
}

/// Runs `first` for so long, has `tell` talk to it, and returns what was received.
fn told(
    end_ns: i64,
    speed: f64,
    guard: GuardConfig,
    tell: impl FnOnce(&Run, &Client),
) -> (RunSummary, Received, Vec<String>) {
    let endpoint = free_endpoint();
    let subscriber = subscribe(&endpoint, end_ns / BIN - 1);
    let null = NullModel {
        log_rates: vec![NEUTRAL; UNITS],
        last_bin_ns: BIN,
    };
    let config = run_config(&endpoint, guard);
    let predictor = Box::new(model("first").unwrap());
    let run = Run::start(
        &config,
        vec![Box::new(source(end_ns, speed, UNITS))],
        predictor,
        &null,
        Arc::default(),
    );
    let run = run.unwrap();
    let control = serve(&run);
    let client = Client::connect(control.address(), Duration::from_secs(20), |_| Ok(())).unwrap();
    tell(&run, &client);
    let summary = run.join();
    let received = subscriber.join().unwrap();
    let news = control.news().collect();
    assert_eq!(control.finish(), None);
    assert_eq!(summary.outcome, Outcome::Finished, "{summary}");
    assert!(summary.imbalances.is_empty(), "{:?}", summary.imbalances);
    assert_eq!((summary.bins.without_slot, summary.bins.subscriber_overflows), (0, 0));
    assert_eq!(summary.bins.published, received.len() as u64);
    for pair in received.windows(2) {
        assert_eq!(pair[1].0.bin_index, pair[0].0.bin_index + 1);
        assert_eq!(pair[1].0.sequence, pair[0].0.sequence + 1);
    }
    (summary, received, news)
}

fn serve(run: &Run) -> ControlServer {
    let config = ControlConfig::at("tcp://127.0.0.1:*");
    let load = |path: &Path, _session: Option<&str>| {
        let predictor = model(&path.display().to_string())?;
        Ok(LoadedModel {
            last_bin_ns: predictor.last_bin_ns(),
            predictor: Box::new(predictor),
        })
    };
    let socket = ControlSocket::bind(&config).unwrap();
    socket.serve(run.handle(), Arc::new(load)).unwrap()
}

fn swap(name: &str) -> Request {
    Request::Swap {
        checkpoint: name.into(),
        session: None,
    }
}

fn wait_until(run: &Run, device_ns: i64) {
    while run.live().device_ns < device_ns {
        assert!(!run.wait(Duration::from_millis(2)), "the run ended before");
    }
}

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
fn a_stop_lets_only_mean_rates_out_until_it_is_released() {
    let mut told_at = [0; 2];
    let (summary, received, news) = told(2_000 * MS, 1.0, GuardConfig::default(), |run, client| {
        wait_until(run, 500 * MS);
        told_at[0] = neurohorizon::pipeline::clock::monotonic_ns();
        let answer = client.ask(&Request::EmergencyStop {}).unwrap();
        assert_eq!(answer["stopped"], "command");
        wait_until(run, 1_000 * MS);
        assert_eq!(run.live().state, RunState::Degraded);
        told_at[1] = neurohorizon::pipeline::clock::monotonic_ns();
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
        assert!(header.publish_ns > told_at[0]);
    }
    // One piece, from the first prediction after the command was answered to the first after the release.
    let (first, last) = (stopped[0].0, stopped[stopped.len() - 1].0);
    assert_eq!(last.sequence - first.sequence + 1, stopped.len() as u64);
    println!(
        "from the command to the first stopped prediction {:.1} ms",
        (first.publish_ns - told_at[0]) as f64 * 1e-6
    );
    let between = received
        .iter()
        .filter(|(header, _)| header.publish_ns > told_at[0] && header.sequence < first.sequence);
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

#[test]
fn what_is_no_request_is_answered_and_harms_nobody() {
    told(1_500 * MS, 1.0, GuardConfig::default(), |run, client| {
        let address = serve(run);
        let rude = zmq::Context::new().socket(zmq::DEALER).unwrap();
        rude.set_linger(0).unwrap();
        rude.connect(address.address()).unwrap();
        for parts in [
            vec![b"".to_vec()],
            vec![b"{".to_vec()],
            vec![b"".to_vec(), b"\xff\xfe".to_vec()],
            vec![vec![0; 4]; 30],
            vec![b"{\"command\": \"stop\"}".to_vec(), b"x".to_vec()],
            vec![b"[".repeat(100_000)],
        ] {
            rude.send_multipart(parts, 0).unwrap();
            assert_eq!(rude.poll(zmq::POLLIN, 5_000).unwrap(), 1, "no answer");
            let answer = rude.recv_multipart(0).unwrap();
            let answer: Value = serde_json::from_slice(answer.last().unwrap()).unwrap();
            assert_eq!(answer["ok"], false, "{answer}");
        }
        // Longer than any request: the connection is closed, and the next one is served.
        rude.send(vec![b'x'; 2 << 20], 0).unwrap();
        let polite = Client::connect(address.address(), Duration::from_secs(5), |_| Ok(())).unwrap();
        polite.ask(&Request::State {}).unwrap();
        client.ask(&Request::State {}).unwrap();
        assert!(!run.handle().is_stopping());
        assert_eq!(address.finish(), None);
    });
}

#[test]
fn nobody_listens_for_other_machines_unless_told_to() {
    let config = |endpoint: &str, insecure_bind| ControlConfig {
        insecure_bind,
        ..ControlConfig::at(endpoint)
    };
    let refused = ControlSocket::bind(&config("tcp://0.0.0.0:*", false)).err().unwrap();
    assert!(refused.to_string().contains("--insecure-bind"), "{refused}");
    assert!(ControlSocket::bind(&config("tcp://0.0.0.0:*", true)).is_ok());
    let nobody = Client::connect(&free_endpoint(), Duration::from_millis(100), |_| Ok(())).unwrap();
    assert!(matches!(
        nobody.ask(&Request::State {}),
        Err(ControlError::Silence { .. })
    ));
}

#[test]
fn the_program_does_what_ctl_says() {
    let folder = tempfile::tempdir().unwrap();
    let program = rt_tests::program();
    let rig =
        "[simulate]\nunits = 20\nfit_s = 1.0\nduration_s = 60.0\n[guards]\nunit_most_rate_hz = { \"unit0003\" = 0.5 }\n";
    std::fs::write(folder.path().join("rig.toml"), rig).unwrap();
    let control = free_endpoint();
    let mut run = Command::new(&program);
    run.current_dir(folder.path())
        .args([
            "run",
            "rig.toml",
            "--json",
            "--endpoint",
            "tcp://127.0.0.1:*",
            "--latest-endpoint",
            "",
        ])
        .args(["--control", &control]);
    let run = run.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let ctl = |arguments: &[&str]| {
        let mut command = Command::new(&program);
        let output = command
            .args(["ctl", "--endpoint", &control])
            .args(arguments)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        (output.status.code(), text)
    };
    let begin = Instant::now();
    while !ctl(&["state", "--patience", "0.5"]).1.contains("DEGRADED") {
        // Degraded, because unit0003 has its limit.
        assert!(begin.elapsed() < Duration::from_secs(30), "{:?}", ctl(&["state"]));
    }
    assert_eq!(ctl(&["emergency-stop"]).0, Some(0));
    let (code, state) = ctl(&["state", "--json"]);
    let state: Value = serde_json::from_str(&state).unwrap();
    assert_eq!(
        (code, &state["stopped"], &state["units"]),
        (Some(0), &Value::from("command"), &Value::from(20))
    );
    assert_eq!(ctl(&["release"]).0, Some(0));
    // Without a socket too.
    let pid = rustix::process::Pid::from_raw(run.id() as i32).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::USR2).unwrap();
    assert!(ctl(&["state"]).1.contains("command"));
    let (code, refused) = ctl(&["set", "deadline_ms=500"]);
    assert_eq!(code, Some(1));
    assert!(
        refused.contains("stuck_after_ms = 40 is before deadline_ms = 500"),
        "{refused}"
    );
    assert_eq!(ctl(&["set", "deadline_ms=soon"]).0, Some(2));
    assert_eq!(ctl(&["heartbeat"]).0, Some(1));
    assert_eq!(ctl(&["stop"]).0, Some(0));
    let output = run.wait_with_output().unwrap();
    assert!(output.status.success());
    let summary: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(summary["outcome"], "stopped");
    let (limited, stopped) = (&summary["bins"]["limited"], &summary["bins"]["stopped"]);
    assert!(
        limited.as_u64() > Some(0) && stopped.as_u64() > Some(0),
        "{}",
        summary["bins"]
    );
    assert_eq!(ctl(&["state", "--patience", "0.2"]).0, Some(2));
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(errors.contains("STOPPED by a command"), "{errors}");
}
