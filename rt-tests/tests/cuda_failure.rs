//! A GPU that hangs or fails while predictions are wanted: the CPU takes over within the same bin, and everybody is told.

use std::sync::Arc;
use std::time::{Duration, Instant};

use kernels::cuda::{CudaBackend, CudaOptions};
use kernels::Precision;
use neurohorizon::acquire::replay::{RecordedSpikes, Replay};
use neurohorizon::acquire::Pace;
use neurohorizon::model::checkpoint::Checkpoint;
use neurohorizon::model::config::{Decoder, Feedback, ModelConfig};
use neurohorizon::model::network::{Network, SessionPlan};
use neurohorizon::model::{build, BackendKind, BuildError, BuildOptions, Inference, UnitMatch};
use neurohorizon::pipeline::message::{flags, MessageHeader};
use neurohorizon::pipeline::network::NetworkPredictor;
use neurohorizon::pipeline::{NullModel, Outcome, Predictor, PublishConfig, Run, RunConfig};
use rt_tests::breaking::{BreakingDevice, Fault};
use rt_tests::idle::IdleDevice;

const PATIENCE: Duration = Duration::from_millis(60);
const UNITS: usize = 4;
const MAX_SPIKES: usize = 64;

fn checkpoint() -> Checkpoint {
    Checkpoint::load(&rt_tests::golden().join("prediction_memory.ckpt")).unwrap()
}

fn matched(checkpoint: &Checkpoint) -> UnitMatch {
    UnitMatch::new(checkpoint, &checkpoint.unit_ids[1..=UNITS], None).unwrap()
}

fn on_cpu(checkpoint: &Checkpoint) -> Box<dyn Inference> {
    let options = BuildOptions {
        max_spikes: MAX_SPIKES,
        ..BuildOptions::default()
    };
    build(checkpoint, &matched(checkpoint).rows, &options).unwrap()
}

fn on_breaking(checkpoint: &Checkpoint, replays: usize, fault: Fault) -> Box<dyn Inference> {
    let options = CudaOptions {
        half: true,
        patience: PATIENCE,
    };
    let plan = SessionPlan {
        unit_rows: matched(checkpoint).rows,
        reference: None,
        bins: checkpoint.config.bins(),
        max_spikes: MAX_SPIKES,
        precision: Precision::F16,
    };
    let backend = CudaBackend::new(BreakingDevice::new(replays, fault), options);
    Box::new(Network::new(backend, checkpoint, plan))
}

/// A predictor whose device breaks at its prediction number `good`, after the warm-up, which replays twice.
fn predictor(good: usize, fault: Fault) -> NetworkPredictor {
    let checkpoint = checkpoint();
    let network = on_breaking(&checkpoint, 2 + good, fault);
    let standby = Some(on_cpu(&checkpoint));
    NetworkPredictor::of(&checkpoint, "test", matched(&checkpoint), network, standby).unwrap()
}

#[test]
fn the_cpu_takes_over_within_the_bin() {
    for (fault, said) in [
        (Fault::Hangs, "no answer within 60 ms"),
        (Fault::Fails, "broken on purpose"),
    ] {
        let mut predictor = predictor(2, fault);
        let mut cpu = on_cpu(&checkpoint());
        let size = predictor.horizon_bins() * UNITS;
        let (mut found, mut expected) = (vec![0.0; size], vec![0.0; size]);
        for step in 0..5 {
            let times: Vec<f64> = (0..3 + step).map(|i| 0.01 * i as f64).collect();
            let units: Vec<u32> = (0..3 + step as u32).map(|i| i % UNITS as u32).collect();
            let start = Instant::now();
            predictor.predict(&times, &units, &mut found).unwrap();
            let took = start.elapsed();
            cpu.predict(None, &times, &units, &mut expected).unwrap();
            if step < 2 {
                assert!(predictor.device_failure().is_none());
                let far = found.iter().zip(&expected).map(|(a, b)| (a - b).abs());
                assert!(far.fold(0.0, f32::max) < 2e-2);
            } else {
                let failure = predictor.device_failure().expect("the device has broken");
                assert!(
                    failure.contains(said) && failure.contains("steps of kernel decode (decode.ptx"),
                    "{failure}"
                );
                assert_eq!(found, expected, "the bits of the CPU");
            }
            if step == 2 && fault == Fault::Hangs {
                assert!(took >= PATIENCE);
            }
        }
    }
}

/// A free port of this machine: bound, looked at, and let go.
fn free_endpoint() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    format!("tcp://{}", listener.local_addr().unwrap())
}

/// The flags of so many predictions, which come without gaps.
fn flags_of(endpoint: &str, predictions: u64) -> std::thread::JoinHandle<Vec<u32>> {
    let socket = zmq::Context::new().socket(zmq::SUB).unwrap();
    socket.set_rcvtimeo(10_000).unwrap();
    socket.connect(endpoint).unwrap();
    socket.set_subscribe(b"prediction").unwrap();
    let next = move |sequence| {
        let header = MessageHeader::read(&socket.recv_multipart(0).unwrap()[1]).unwrap();
        assert_eq!(header.sequence, sequence);
        header.flags
    };
    std::thread::spawn(move || (0..predictions).map(next).collect())
}

/// Before anything is repeated the error says which kernel it was.
#[test]
fn a_device_that_breaks_at_once_is_refused_with_the_name_of_the_kernel() {
    let checkpoint = checkpoint();
    let plan = SessionPlan {
        unit_rows: matched(&checkpoint).rows,
        reference: None,
        bins: checkpoint.config.bins(),
        max_spikes: MAX_SPIKES,
        precision: Precision::F16,
    };
    let options = CudaOptions {
        half: true,
        patience: PATIENCE,
    };
    for (fault, said) in [
        (Fault::Hangs, "no answer within 60 ms"),
        (Fault::Fails, "broken on purpose"),
    ] {
        let backend = CudaBackend::new(IdleDevice::breaking_at_launch(0, fault), options);
        let network = Box::new(Network::new(backend, &checkpoint, plan.clone()));
        let built = NetworkPredictor::of(&checkpoint, "test", matched(&checkpoint), network, None);
        let Err(BuildError::Device(reason)) = built else {
            panic!("a device that is broken predicts");
        };
        assert!(
            reason.contains("at kernel ") && reason.contains(".ptx") && reason.contains(said),
            "{reason}"
        );
    }
}

#[test]
fn heads_that_the_kernels_do_not_take_are_refused() {
    for (decoder, expected) in [
        (Decoder::QueryAug(Feedback::CrossAttn), "heads of `cross_attn`"),
        (Decoder::PredictionMemory, "`prediction_memory_heads` makes them 3 wide"),
    ] {
        let config = ModelConfig {
            dim: 12,
            decoder,
            ..ModelConfig::default()
        };
        let checkpoint = Checkpoint::random(&config, UNITS, 1);
        let options = BuildOptions {
            backend: BackendKind::Cuda,
            precision: Precision::F16,
            ..BuildOptions::default()
        };
        let refused = build(&checkpoint, &[1, 2], &options)
            .map(|_| ())
            .unwrap_err()
            .to_string();
        assert!(refused.contains(expected), "{refused}");
        assert!(build(&checkpoint, &[1, 2], &BuildOptions::default()).is_ok());
    }
}

#[test]
fn the_pipeline_goes_on_and_says_so() {
    let (bins, good) = (40, 7);
    let predictor = predictor(good, Fault::Hangs);
    let (bin_ns, history_ns) = (predictor.bin_ns(), predictor.history_ns());
    let null = NullModel {
        log_rates: vec![-1.0; UNITS],
        last_bin_ns: predictor.last_bin_ns(),
    };
    let spikes = RecordedSpikes {
        times_ns: (0..bins).map(|bin| bin * bin_ns + 1).collect(),
        units: (0..bins).map(|bin| (bin % UNITS as i64) as u32).collect(),
        unit_ids: predictor.unit_ids().to_vec().into(),
    };
    let source = Replay::new("test", spikes, 0, bins * bin_ns, Pace::AsFast, bin_ns).unwrap();
    let config = RunConfig {
        ring_events: 4_096,
        ..RunConfig::new(PublishConfig {
            wait_for_subscriber: Duration::from_secs(10),
            ..PublishConfig::at(&free_endpoint())
        })
    };
    let predicted = bins as u64 + 1 - (history_ns as u64).div_ceil(bin_ns as u64);
    let subscriber = flags_of(&config.publish.endpoint, predicted);
    let run = Run::start(
        &config,
        vec![Box::new(source)],
        Box::new(predictor),
        &null,
        Arc::default(),
    )
    .unwrap();
    assert!(run.wait(Duration::from_secs(60)));
    let failure = run
        .handle()
        .device_failure()
        .expect("the device has broken")
        .to_string();
    let summary = run.join();
    assert_eq!(summary.device_failure, Some(failure));
    assert_eq!(summary.outcome, Outcome::Finished);
    assert!(summary.imbalances.is_empty(), "{:?}", summary.imbalances);
    assert_eq!((summary.bins.published, summary.bins.full), (predicted, predicted));
    assert_eq!(summary.bins.on_standby, predicted - good as u64);
    let flagged = subscriber.join().unwrap();
    let expected = (0..predicted as usize).map(|sequence| if sequence < good { 0 } else { flags::STANDBY });
    assert_eq!(flagged, expected.collect::<Vec<u32>>());
    let text = summary.to_string();
    assert!(
        text.contains("device       FAILED") && text.contains("no answer"),
        "{text}"
    );
}
