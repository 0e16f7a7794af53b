//! A run of a simulated population that somebody talks to, and models for it.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use neurohorizon::acquire::simulate::{Population, SimulationConfig};
use neurohorizon::acquire::simulated::Simulated;
use neurohorizon::acquire::{Pace, Source as _};
use neurohorizon::control::{Client, ControlConfig, ControlServer, ControlSocket, LoadedModel, Request};
use neurohorizon::model::checkpoint::Checkpoint;
use neurohorizon::model::config::{Decoder, Feedback, HistoryConfig, IdentityScheme, ModelConfig};
use neurohorizon::model::identity::unidentified;
use neurohorizon::model::BuildOptions;
use neurohorizon::pipeline::calibrate::Calibration;
use neurohorizon::pipeline::message::flags;
use neurohorizon::pipeline::network::NetworkPredictor;
use neurohorizon::pipeline::{GuardConfig, NullModel, Outcome, PublishConfig, Run, RunConfig, RunSummary};
use rt_tests::subscriber::{free_endpoint, subscribe, Received};
use rt_tests::tiny::{config, history, identity};

pub const MS: i64 = 1_000_000;
pub const BIN: i64 = 20 * MS;
pub const UNITS: usize = 10;
pub const NEUTRAL: f64 = -2.0;
/// Flags of predictions that time, and not the model, decided.
pub const BY_TIME: u32 = flags::HELD | flags::NEUTRAL | flags::SKIPPED | flags::SHORTENED | flags::STUCK;

pub fn seen_history() -> ModelConfig {
    ModelConfig {
        history: Some(history()),
        ..config(Decoder::QueryAug(Feedback::None))
    }
}

/// Models by name, as a folder would have them.
pub fn checkpoint(name: &str) -> Option<Checkpoint> {
    let other_history = HistoryConfig {
        time_constants_s: vec![0.04, 1.0],
        population_time_constants: 1,
        components: 2,
    };
    let (config, units) = match name {
        "first" | "second" | "third" => (seen_history(), UNITS),
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

pub fn ids(units: usize) -> Vec<String> {
    source(BIN, 1.0, units).unit_ids().to_vec()
}

pub fn source(end_ns: i64, speed: f64, units: usize) -> Simulated<Population> {
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

pub fn model(name: &str) -> Result<NetworkPredictor, String> {
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

pub fn run_config(endpoint: &str, guard: GuardConfig) -> RunConfig {
    RunConfig {
        // Time is not what is tested here.
        deadline_ns: Some(200 * MS),
        ring_events: 1 << 14,
        guard,
        ..RunConfig::new(PublishConfig {
            wait_for_subscriber: Duration::from_secs(10),
            ..PublishConfig::at(endpoint)
        })
    }
}

/// Runs `first` for so long, has `tell` talk to it, and returns what was received.
pub fn told(
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

pub fn serve(run: &Run) -> ControlServer {
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

pub fn swap(name: &str) -> Request {
    Request::Swap {
        checkpoint: name.into(),
        session: None,
    }
}

pub fn wait_until(run: &Run, device_ns: i64) {
    while run.live().device_ns < device_ns {
        assert!(!run.wait(Duration::from_millis(2)), "the run ended before");
    }
}
