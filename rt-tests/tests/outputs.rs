//! Outputs beside the prediction: each on its own topic, for every bin, in sequence, and flagged where it is not of its bin.

use std::sync::Arc;
use std::time::Duration;

use emulator::TestDevice;
use kernels::cuda::{CudaBackend, CudaOptions};
use kernels::reference::ReferenceBackend;
use kernels::Precision;
use neurohorizon::acquire::replay::{RecordedSpikes, Replay};
use neurohorizon::acquire::{Pace, Source};
use neurohorizon::model::checkpoint::Checkpoint;
use neurohorizon::model::config::{Decoder, HistoryConfig, ModelConfig};
use neurohorizon::model::factors::{network_hash, Projection};
use neurohorizon::model::network::{Network, SessionPlan};
use neurohorizon::model::{build, BuildOptions, UnitMatch};
use neurohorizon::pipeline::behaviour::Behaviour;
use neurohorizon::pipeline::latents::{Latents, LatentsForm};
use neurohorizon::pipeline::message::{flags, MessageHeader};
use neurohorizon::pipeline::network::NetworkPredictor;
use neurohorizon::pipeline::predictor::{MeanRate, WindowShape};
use neurohorizon::pipeline::{
    NullModel, OutputSpec, PredictError, Predictor, PublishConfig, Run, RunConfig, RunSummary,
};
use serde_json::Value;

const MS: i64 = 1_000_000;
const BIN: i64 = 20 * MS;

/// A message with its topic.
struct Received {
    topic: String,
    header: MessageHeader,
    array: Vec<f32>,
}

/// Runs to the end as fast as it can (or at a pace) and returns all that a subscriber of everything got, and the last `hello`.
fn run(source: Box<dyn Source>, predictor: Box<dyn Predictor>, null: &NullModel) -> (RunSummary, Vec<Received>, Value) {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("tcp://{}", listener.local_addr().unwrap());
    drop(listener);
    let socket = zmq::Context::new().socket(zmq::SUB).unwrap();
    socket.set_rcvhwm(100_000).unwrap();
    socket.set_rcvtimeo(2_000).unwrap();
    socket.connect(&endpoint).unwrap();
    socket.set_subscribe(b"").unwrap();
    let config = RunConfig {
        ring_events: 4_096,
        ..RunConfig::new(PublishConfig {
            wait_for_subscriber: Duration::from_secs(10),
            ..PublishConfig::at(&endpoint)
        })
    };
    let subscriber = std::thread::spawn(move || {
        let (mut received, mut hello) = (Vec::new(), Value::Null);
        // The run has ended when nothing comes for as long as the socket's patience.
        while let Ok(parts) = socket.recv_multipart(0) {
            let topic = String::from_utf8(parts[0].clone()).unwrap();
            if topic == "hello" {
                hello = serde_json::from_slice(&parts[1]).unwrap();
                continue;
            }
            let numbers = parts[2].chunks_exact(4);
            received.push(Received {
                topic,
                header: MessageHeader::read(&parts[1]).unwrap(),
                array: numbers
                    .map(|four| f32::from_le_bytes(four.try_into().unwrap()))
                    .collect(),
            });
        }
        (received, hello)
    });
    let summary = Run::start(&config, vec![source], predictor, null, Arc::default())
        .unwrap()
        .join();
    assert!(
        summary.imbalances.is_empty() && summary.failures.is_empty(),
        "{summary}"
    );
    let (received, hello) = subscriber.join().unwrap();
    (summary, received, hello)
}

fn of<'a>(received: &'a [Received], topic: &str) -> Vec<&'a Received> {
    received.iter().filter(|message| message.topic == topic).collect()
}

/// Mean rates; the model fails in every tenth window, its first output in every tenth from the third on, and its second has
/// nothing before the fifth.
struct WithOutputs {
    mean: MeanRate,
    windows: u32,
    slow: bool,
}

fn with_outputs(slow: bool) -> (Box<dyn Predictor>, NullModel) {
    let shape = WindowShape {
        bin_ns: BIN,
        history_ns: 100 * MS,
        horizon_bins: 3,
        max_spikes: 1_000,
    };
    let ids = ["u0", "u1"].map(String::from).to_vec();
    let null = NullModel {
        log_rates: vec![0.5; 2],
        last_bin_ns: BIN,
    };
    let mean = MeanRate::new(ids, shape, &null.log_rates, "test").unwrap();
    let model = WithOutputs { mean, windows: 0, slow };
    (Box::new(model), null)
}

impl Predictor for WithOutputs {
    fn unit_ids(&self) -> &[String] {
        self.mean.unit_ids()
    }
    fn bin_ns(&self) -> i64 {
        self.mean.bin_ns()
    }
    fn history_ns(&self) -> i64 {
        self.mean.history_ns()
    }
    fn horizon_bins(&self) -> usize {
        self.mean.horizon_bins()
    }
    fn model_hash(&self) -> u64 {
        self.mean.model_hash()
    }
    fn describe(&self) -> String {
        self.mean.describe()
    }
    fn max_spikes(&self) -> usize {
        self.mean.max_spikes()
    }
    fn predict(&mut self, times_s: &[f64], units: &[u32], log_rates: &mut [f32]) -> Result<(), PredictError> {
        self.windows += 1;
        if self.slow && self.windows.is_multiple_of(10) {
            std::thread::sleep(Duration::from_nanos(3 * BIN as u64));
        }
        if !self.slow && self.windows.is_multiple_of(10) {
            return Err(PredictError("test".into()));
        }
        self.mean.predict(times_s, units, log_rates)
    }
    fn outputs(&self) -> Vec<OutputSpec> {
        let spec = |topic: &str, rows, cols, labels: &[&str]| OutputSpec {
            topic: topic.into(),
            rows,
            cols,
            axes: ["row".into(), "channel".into()],
            meaning: format!("{topic} in m/s"),
            labels: labels.iter().map(|label| label.to_string()).collect(),
            row_times_s: Vec::new(),
        };
        vec![spec("hand", 2, 3, &["x", "y", "z"]), spec("gaze", 1, 1, &[])]
    }
    fn output(&mut self, index: usize, out: &mut [f32]) -> Result<(), PredictError> {
        out.fill(self.windows as f32);
        match (index, self.windows) {
            (0, windows) if windows % 10 == 3 => Err(PredictError("test".into())),
            (1, ..5) => {
                out[0] = f32::NAN;
                Ok(())
            }
            _ => Ok(()),
        }
    }
}

fn recorded(duration_ms: i64, pace: Pace) -> Box<dyn Source> {
    let spikes = RecordedSpikes {
        times_ns: (0..duration_ms).map(|ms| ms * MS).collect(),
        units: (0..duration_ms).map(|ms| (ms % 2) as u32).collect(),
        unit_ids: ["u0", "u1"].map(String::from).to_vec().into(),
    };
    Box::new(Replay::new("test", spikes, 0, duration_ms * MS, pace, MS).unwrap())
}

#[test]
fn every_bin_has_its_outputs_and_they_say_when_they_are_not_its_own() {
    let (model, null) = with_outputs(false);
    let (summary, received, hello) = run(recorded(2_000, Pace::AsFast), model, &null);
    // 100 bins, the first 4 without a whole history.
    let order: Vec<&str> = received.iter().map(|message| message.topic.as_str()).collect();
    assert!(order.len() == 3 * 96 && order.chunks(3).all(|bin| bin == ["prediction", "hand", "gaze"]));
    for (position, bin) in received.chunks(3).enumerate() {
        let (window, prediction) = (position as u32 + 1, &bin[0].header);
        let fails = window.is_multiple_of(10);
        assert_eq!(prediction.flags & flags::MODEL_FAILED != 0, fails);
        assert_eq!((prediction.bins, prediction.units), (3, 2));
        for (output, shape) in bin[1..].iter().zip([(2, 3), (1, 1)]) {
            let header = &output.header;
            assert_eq!((header.bins, header.units), shape);
            assert_eq!(header.sequence, position as u64);
            let same = |header: &MessageHeader| {
                let times = [header.ingest_ns, header.decode_start_ns, header.decode_end_ns];
                (
                    header.bin_index,
                    header.bin_end_ns,
                    times,
                    header.model_hash,
                    header.epoch,
                )
            };
            assert_eq!(same(header), same(prediction));
            assert!(header.publish_ns >= prediction.publish_ns);
        }
        // The hand is held where the model or it fails, from the window before.
        let (hand, gaze) = (&bin[1], &bin[2]);
        let expected = match window % 10 {
            0 | 3 => (flags::HELD | flags::MODEL_FAILED, window - 1),
            _ => (0, window),
        };
        assert_eq!(
            (hand.header.flags, &hand.array[..]),
            (expected.0, &[expected.1 as f32; 6][..])
        );
        let expected = match window {
            1..5 => (flags::NEUTRAL | flags::MODEL_FAILED, 0),
            _ if fails => (flags::HELD | flags::MODEL_FAILED, window - 1),
            _ => (0, window),
        };
        assert_eq!(
            (gaze.header.flags, &gaze.array[..]),
            (expected.0, &[expected.1 as f32][..])
        );
    }
    let counts: Vec<_> = summary
        .outputs
        .iter()
        .map(|output| (&output.topic[..], output.published))
        .collect();
    assert_eq!(counts, [("hand", 96), ("gaze", 96)]);
    // Windows 10, 20, … 90, and 3, 13, … 93; and the first four.
    assert_eq!([summary.outputs[0].stand_ins, summary.outputs[1].stand_ins], [19, 13]);

    let outputs = hello["outputs"].as_array().unwrap();
    assert_eq!(
        (&outputs[0]["topic"], &outputs[1]["topic"]),
        (&"hand".into(), &"gaze".into())
    );
    assert_eq!(outputs[0]["shape"], serde_json::json!([2, 3]));
    assert_eq!(outputs[0]["labels"], serde_json::json!(["x", "y", "z"]));
    let array = serde_json::json!({"dtype": "<f4", "meaning": "hand in m/s", "axes": ["row", "channel"]});
    assert_eq!(outputs[0]["array"], array);
}

#[test]
fn outputs_of_bins_that_were_skipped_are_held() {
    let (model, null) = with_outputs(true);
    let (summary, received, _) = run(recorded(2_000, Pace::Clocked(1.0)), model, &null);
    assert!(summary.bins.held >= 5, "{summary}");
    let (predictions, hands) = (of(&received, "prediction"), of(&received, "hand"));
    assert_eq!((predictions.len(), hands.len()), (96, 96));
    let skipped = flags::HELD | flags::SKIPPED;
    for (position, pair) in hands.windows(2).enumerate() {
        assert_eq!(pair[1].header.sequence, pair[0].header.sequence + 1);
        let prediction = &predictions[position + 1].header;
        if prediction.flags & flags::STUCK != 0 {
            // The mean rates stand in for the prediction, and zeros for what is beside it.
            assert_ne!(pair[1].header.flags & flags::NEUTRAL, 0);
            assert!(pair[1].array.iter().all(|&number| number == 0.0));
        } else if prediction.flags & flags::HELD != 0 {
            assert_eq!(pair[1].header.flags & skipped, skipped);
            // After a stand-in it is that of the slow window, which was not published itself.
            assert!(pair[1].array == pair[0].array || pair[0].header.flags & flags::STUCK != 0);
        } else {
            assert_eq!(pair[1].header.flags & flags::SKIPPED, 0);
        }
    }
    assert!(summary.bins.superseded >= 5, "{summary}");
}

#[test]
fn outputs_whose_topics_begin_alike_are_refused() {
    struct Alike(Box<dyn Predictor>);
    impl Predictor for Alike {
        fn unit_ids(&self) -> &[String] {
            self.0.unit_ids()
        }
        fn bin_ns(&self) -> i64 {
            self.0.bin_ns()
        }
        fn history_ns(&self) -> i64 {
            self.0.history_ns()
        }
        fn horizon_bins(&self) -> usize {
            self.0.horizon_bins()
        }
        fn model_hash(&self) -> u64 {
            self.0.model_hash()
        }
        fn describe(&self) -> String {
            self.0.describe()
        }
        fn max_spikes(&self) -> usize {
            self.0.max_spikes()
        }
        fn predict(&mut self, times_s: &[f64], units: &[u32], out: &mut [f32]) -> Result<(), PredictError> {
            self.0.predict(times_s, units, out)
        }
        fn outputs(&self) -> Vec<OutputSpec> {
            let mut outputs = self.0.outputs();
            outputs[1].topic = "handle".into();
            outputs
        }
    }
    let (model, null) = with_outputs(false);
    let config = RunConfig::new(PublishConfig::at("tcp://127.0.0.1:*"));
    let source = vec![recorded(100, Pace::AsFast)];
    let refused = Run::start(&config, source, Box::new(Alike(model)), &null, Arc::default());
    let error = refused.err().unwrap().to_string();
    assert!(error.contains("\"handle\"") && error.contains("\"hand\""), "{error}");
}

const UNITS: usize = 12;

/// A network that feeds its counts back and sees recent history, with random weights.
fn network() -> Checkpoint {
    let config = ModelConfig {
        dim: 16,
        dim_head: 8,
        num_latents_per_step: 3,
        decoder: Decoder::PredictionMemory,
        history: Some(HistoryConfig {
            time_constants_s: vec![0.02, 0.2],
            population_time_constants: 1,
            components: 2,
        }),
        ..ModelConfig::default()
    };
    Checkpoint::random(&config, UNITS, 4)
}

/// Spikes at irregular times: two primes that share no pattern with the bins.
fn irregular(ids: &[String], duration_ms: i64) -> RecordedSpikes {
    let n = duration_ms / 2;
    RecordedSpikes {
        times_ns: (0..n).map(|spike| spike * 2 * MS + (spike * 7_919) % MS).collect(),
        units: (0..n).map(|spike| (spike * 31 % 101 % UNITS as i64) as u32).collect(),
        unit_ids: ids.to_vec().into(),
    }
}

/// The latents `[L, D]` of the window that ends with each bin, by the network alone.
fn offline(checkpoint: &Checkpoint, ids: &[String], spikes: &RecordedSpikes, bin: i64) -> Vec<f32> {
    let matched = UnitMatch::new(checkpoint, ids, None).unwrap();
    let mut network = build(checkpoint, &matched.rows, &BuildOptions::default()).unwrap();
    let (end, history) = ((bin + 1) * BIN, 500 * MS);
    let window = spikes.times_ns.iter().zip(&*spikes.units);
    let window = window.filter(|(&time, _)| (end - history..end).contains(&time));
    let (times, units): (Vec<f64>, Vec<u32>) = window
        .map(|(&time, &unit)| ((time - (end - history)) as f64 * 1e-9, unit))
        .unzip();
    network.encode(&times, &units);
    let (rows, dim) = network.latent_shape();
    let mut latents = vec![0.0; rows * dim];
    network.latents(&mut latents).unwrap();
    latents
}

#[test]
fn published_latents_are_those_of_the_network_for_the_same_bins() {
    const DURATION_MS: i64 = 1_200;
    let checkpoint = network();
    let ids = checkpoint.unit_ids[1..].to_vec();
    let spikes = irregular(&ids, DURATION_MS);
    let null = NullModel {
        log_rates: vec![-1.0; UNITS],
        last_bin_ns: BIN,
    };
    let projection = Projection {
        mean: (0..16).map(|i| 0.1 * i as f32).collect(),
        directions: (0..32).map(|i| if i % 5 == 0 { 0.5 } else { -0.25 }).collect(),
        network_hash: network_hash(&checkpoint),
    };
    for form in [
        LatentsForm::Full,
        LatentsForm::Newest,
        LatentsForm::Projected(projection.clone()),
    ] {
        let predictor = NetworkPredictor::new(&checkpoint, "test", &ids, &BuildOptions::default()).unwrap();
        let latents = Latents::new(predictor.network(), form.clone()).unwrap();
        let null = NullModel {
            last_bin_ns: predictor.last_bin_ns(),
            ..null.clone()
        };
        let predictor = predictor.with_output(Box::new(latents));
        let source = Replay::new("test", spikes.clone(), 0, DURATION_MS * MS, Pace::AsFast, MS).unwrap();
        let (_, received, hello) = run(Box::new(source), Box::new(predictor), &null);
        let published = of(&received, "latents");
        // 60 bins, the first 24 without a whole history.
        assert_eq!(published.len(), 36);
        let shape = &hello["outputs"][0]["shape"];
        for (position, message) in published.iter().enumerate() {
            let header = message.header;
            assert_eq!(
                (header.sequence, header.bin_index),
                (position as u64, position as i64 + 24)
            );
            assert_eq!(header.flags, 0);
            assert_eq!(*shape, serde_json::json!([header.bins, header.units]));
            let all = offline(&checkpoint, &ids, &spikes, header.bin_index);
            // The last three rows are of the newest time.
            let newest: Vec<f32> = (0..16)
                .map(|d| (0..3).map(|p| all[all.len() - 16 * (p + 1) + d]).sum::<f32>() / 3.0)
                .collect();
            let expected = match form {
                LatentsForm::Full => all,
                LatentsForm::Newest => newest,
                LatentsForm::Projected(_) => (0..2)
                    .map(|k| {
                        (0..16)
                            .map(|d| projection.directions[16 * k + d] * (newest[d] - projection.mean[d]))
                            .sum()
                    })
                    .collect(),
            };
            assert_eq!(message.array.len(), expected.len());
            for (found, expected) in message.array.iter().zip(&expected) {
                assert!(
                    (found - expected).abs() < 1e-6,
                    "bin {}: {found} and {expected}",
                    header.bin_index
                );
            }
        }
        // They differ from bin to bin: equality above says something.
        assert!(published.windows(2).all(|pair| pair[0].array != pair[1].array));
    }
}

#[test]
fn published_behaviour_is_what_the_network_reads_out_of_the_same_bins() {
    const DURATION_MS: i64 = 1_200;
    let config = ModelConfig {
        readouts: rt_tests::tiny::readouts(),
        ..network().config
    };
    let checkpoint = Checkpoint::random(&config, UNITS, 4);
    let ids = checkpoint.unit_ids[1..].to_vec();
    let spikes = irregular(&ids, DURATION_MS);
    let mut predictor = NetworkPredictor::new(&checkpoint, "test", &ids, &BuildOptions::default()).unwrap();
    let tasks: Vec<Behaviour> = Behaviour::all(predictor.network()).collect();
    for task in tasks {
        predictor = predictor.with_output(Box::new(task));
    }
    let null = NullModel {
        log_rates: vec![-1.0; UNITS],
        last_bin_ns: predictor.last_bin_ns(),
    };
    let source = Replay::new("test", spikes.clone(), 0, DURATION_MS * MS, Pace::AsFast, MS).unwrap();
    let (_, received, hello) = run(Box::new(source), Box::new(predictor), &null);

    let matched = UnitMatch::new(&checkpoint, &ids, None).unwrap();
    let mut alone = build(&checkpoint, &matched.rows, &BuildOptions::default()).unwrap();
    let mut traces = matched.traces(&checkpoint).unwrap();
    let mut binned = 0;
    let [hand, target] = ["behaviour/hand", "behaviour/target"].map(|topic| of(&received, topic));
    assert_eq!((hand.len(), target.len()), (36, 36));
    for (hand, target) in hand.iter().zip(&target) {
        let bin = hand.header.bin_index;
        let all = || spikes.times_ns.iter().zip(&*spikes.units);
        for bin in binned..=bin {
            let mut counts = [0.0; UNITS];
            let inside = all().filter(|(&time, _)| time / BIN == bin);
            inside.for_each(|(_, &unit)| counts[unit as usize] += 1.0);
            traces.push_bin(counts.into_iter());
        }
        binned = bin + 1;
        let from = (bin + 1) * BIN - 500 * MS;
        let window = all().filter(|(&time, _)| (from..from + 500 * MS).contains(&time));
        let (times, units): (Vec<f64>, Vec<u32>) =
            window.map(|(&time, &unit)| ((time - from) as f64 * 1e-9, unit)).unzip();
        let mut log_rates = vec![0.0; alone.plan().bins * UNITS];
        alone.predict(Some(&traces), &times, &units, &mut log_rates).unwrap();
        for (task, message) in [hand, target].into_iter().enumerate() {
            let mut expected = vec![0.0; message.array.len()];
            alone.readout(task, &mut expected).unwrap();
            assert_eq!(message.array, expected, "bin {bin}");
            assert_eq!((message.header.bin_index, message.header.flags), (bin, 0));
        }
        assert!((target.array.iter().sum::<f32>() - 1.0).abs() < 1e-6);
    }
    assert!(hand.windows(2).all(|pair| pair[0].array != pair[1].array));
    let said = &hello["outputs"][0];
    assert_eq!(said["shape"], serde_json::json!([4, 2]));
    let times: Vec<f64> = serde_json::from_value(said["row_times_s"].clone()).unwrap();
    let expected = [-0.05, -0.03, -0.01, 0.01];
    assert!(times.iter().zip(expected).all(|(t, e)| (t - e).abs() < 1e-12));
    assert!(said["array"]["meaning"]
        .as_str()
        .unwrap()
        .contains("row 2 is the present"));
}

/// A device that repeats a prediction as one captured graph has the latents of the window it predicted last all the same.
#[test]
fn latents_are_read_after_a_repeated_prediction_of_a_device() {
    let checkpoint = network();
    let plan = SessionPlan {
        unit_rows: (1..=UNITS).collect(),
        reference: None,
        bins: 2,
        max_spikes: 64,
        precision: Precision::F16,
    };
    let options = CudaOptions {
        half: true,
        patience: Duration::from_secs(1_000),
    };
    let device = CudaBackend::new(TestDevice::new(), options);
    let mut device = Network::new(device, &checkpoint, plan.clone());
    let mut reference = Network::new(ReferenceBackend::default(), &checkpoint, plan);
    let traces = UnitMatch::new(&checkpoint, &checkpoint.unit_ids[1..], None).unwrap();
    let traces = traces.traces(&checkpoint);
    let (rows, dim) = reference.latent_shape();
    let (mut found, mut expected) = (vec![0.0; rows * dim], vec![0.0; rows * dim]);
    let mut log_rates = vec![0.0; 2 * UNITS];
    let mut before: Option<Vec<f32>> = None;
    for window in 0..4u32 {
        let times: Vec<f64> = (0..10)
            .map(|spike| 0.04 * f64::from(spike) + 0.01 * f64::from(window))
            .collect();
        let units: Vec<u32> = (0..10).map(|spike| (spike * (window + 1)) % UNITS as u32).collect();
        device.predict(traces.as_ref(), &times, &units, &mut log_rates).unwrap();
        device.latents(&mut found).unwrap();
        reference.encode(&times, &units);
        reference.latents(&mut expected).unwrap();
        // Weights are FP16 on both sides; the device multiplies FP16 by FP16.
        let apart = found
            .iter()
            .zip(&expected)
            .map(|(a, b)| (a - b).abs())
            .fold(0.0, f32::max);
        assert!(apart < 2e-2, "window {window}: {apart}");
        if let Some(before) = before.replace(expected.clone()) {
            let moved = before
                .iter()
                .zip(&expected)
                .map(|(a, b)| (a - b).abs())
                .fold(0.0, f32::max);
            assert!(moved > 0.1, "window {window} moves latents by {moved} only");
        }
    }
}

#[test]
fn a_projection_of_other_latents_is_refused() {
    let checkpoint = network();
    let ids = checkpoint.unit_ids[1..].to_vec();
    let predictor = NetworkPredictor::new(&checkpoint, "test", &ids, &BuildOptions::default()).unwrap();
    let projection = Projection {
        mean: vec![0.0; 15],
        directions: vec![0.0; 30],
        network_hash: 0,
    };
    let error = Latents::new(predictor.network(), LatentsForm::Projected(projection))
        .err()
        .unwrap();
    assert!(error.contains("15 channels") && error.contains("16"), "{error}");
}
