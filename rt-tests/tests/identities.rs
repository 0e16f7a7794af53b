//! Sessions that a network never saw: identities from activity are the same however they come in, and a run computes them
//! while it predicts.

use std::sync::Arc;
use std::time::Duration;

use neurohorizon::acquire::replay::{RecordedSpikes, Replay};
use neurohorizon::acquire::Pace;
use neurohorizon::model::checkpoint::Checkpoint;
use neurohorizon::model::config::{Decoder, Feedback, HistoryConfig, IdentityConfig, IdentityScheme, ModelConfig};
use neurohorizon::model::identity::{identified, unidentified, Identities, IdentityError, Reference};
use neurohorizon::model::window::Spikes;
use neurohorizon::model::{build, BuildOptions, UnitMatch};
use neurohorizon::pipeline::calibrate::Calibration;
use neurohorizon::pipeline::network::NetworkPredictor;
use neurohorizon::pipeline::{NullModel, Outcome, PublishConfig, Run, RunConfig};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

const UNITS: usize = 7;
const MS: i64 = 1_000_000;
const BIN_NS: i64 = 20 * MS;

fn config(scheme: IdentityScheme, population: bool, decoder: Decoder) -> ModelConfig {
    ModelConfig {
        sequence_length: 0.28,
        pred_window: 0.08,
        dim: 16,
        dim_head: 8,
        enc_depth: 1,
        dec_depth: 1,
        self_heads: 2,
        num_latents_per_step: 2,
        decoder,
        history: Some(HistoryConfig {
            time_constants_s: vec![0.02, 0.2],
            population_time_constants: 1,
            components: 3,
        }),
        identity: Some(IdentityConfig {
            scheme,
            window_bins: 10,
            bin_s: 0.02,
            hidden: 12,
            population,
            components: 0,
            refine: false,
        }),
        ..ModelConfig::default()
    }
}

/// Trained on three other units.
fn checkpoint(config: &ModelConfig) -> Checkpoint {
    Checkpoint::random(config, 3, 1)
}

fn ids() -> Vec<String> {
    (0..UNITS).map(|unit| format!("new{unit}")).collect()
}

/// Seconds of made-up activity: unit n fires n times as often as unit 1, unit 0 never.
fn activity(seconds: f64) -> (Vec<i64>, Vec<u32>) {
    let mut random = ChaCha8Rng::seed_from_u64(4);
    let mut spikes: Vec<(i64, u32)> = Vec::new();
    for unit in 1..UNITS {
        for _ in 0..(3.0 * unit as f64 * seconds) as usize {
            spikes.push((random.random_range(0..(seconds * 1e9) as i64), unit as u32));
        }
    }
    spikes.sort_unstable();
    spikes.into_iter().unzip()
}

fn reference(config: &ModelConfig, starts_ns: &[i64]) -> Reference {
    let (times_ns, units) = activity(4.0);
    let spikes = Spikes {
        times_ns: &times_ns,
        units: &units,
    };
    let windows: Vec<_> = starts_ns.iter().map(|&start_ns| (spikes, start_ns)).collect();
    Reference::new(&config.identity.unwrap(), BIN_NS, UNITS, &windows)
}

fn windows_of_200_ms(count: i64) -> Vec<i64> {
    (0..count).map(|window| window * 200 * MS).collect()
}

/// Log rates that a network predicts from some spikes.
fn predicted(network: &mut dyn neurohorizon::model::Inference, checkpoint: &Checkpoint) -> Vec<f32> {
    let mut traces = UnitMatch::new(checkpoint, &ids(), None)
        .unwrap()
        .traces(checkpoint)
        .unwrap();
    traces.push_bin((0..UNITS).map(|unit| unit as f32));
    let mut log_rates = vec![0.0; 4 * UNITS];
    let (times, units) = ([0.01, 0.05, 0.11, 0.15, 0.19], [1, 6, 2, 6, 5]);
    network.predict(Some(&traces), &times, &units, &mut log_rates).unwrap();
    log_rates
}

#[test]
fn a_network_that_runs_takes_in_what_one_is_built_with() {
    for (scheme, population) in [(IdentityScheme::Binned, true), (IdentityScheme::Events, false)] {
        for decoder in [
            Decoder::PredictionMemory,
            Decoder::QueryAug(Feedback::MlpPool),
            Decoder::QueryAug(Feedback::CrossAttn),
        ] {
            let config = config(scheme, population, decoder);
            let checkpoint = checkpoint(&config);
            let reference = reference(&config, &windows_of_200_ms(20));
            let known = identified(&checkpoint, &reference, "new", &ids()).unwrap();
            let rows: Vec<usize> = (1..=UNITS).collect();
            let options = BuildOptions::default();
            let expected = predicted(build(&known, &rows, &options).unwrap().as_mut(), &known);

            let unknown = unidentified(&checkpoint, "new", &ids(), reference.log_rates()).unwrap();
            let mut network = build(&unknown, &rows, &options).unwrap();
            let before = predicted(network.as_mut(), &known);
            network.identify(&Identities::compute(&checkpoint, &reference).unwrap());
            let after = predicted(network.as_mut(), &known);
            assert_eq!(after, expected, "{scheme:?} {decoder:?}");
            assert_ne!(before, expected, "{scheme:?} {decoder:?}");
        }
    }
}

#[test]
fn windows_have_no_order_and_units_no_neighbours() {
    let config = config(IdentityScheme::Binned, false, Decoder::PredictionMemory);
    let checkpoint = checkpoint(&config);
    let forwards = windows_of_200_ms(20);
    let backwards: Vec<i64> = forwards.iter().rev().copied().collect();
    let identities = |starts: &[i64]| Identities::compute(&checkpoint, &reference(&config, starts)).unwrap();
    let (a, b) = (identities(&forwards), identities(&backwards));
    for (x, y) in a.embeddings().iter().zip(b.embeddings()) {
        assert!((x - y).abs() < 1e-5, "{x} {y}");
    }
    assert_eq!(a.log_rates(), b.log_rates());
    // Unit 3 alone.
    let (times_ns, units) = activity(4.0);
    let alone: Vec<i64> = times_ns
        .iter()
        .zip(&units)
        .filter(|(_, &unit)| unit == 3)
        .map(|(&t, _)| t)
        .collect();
    let zeros = vec![0; alone.len()];
    let spikes = Spikes {
        times_ns: &alone,
        units: &zeros,
    };
    let windows: Vec<_> = forwards.iter().map(|&start| (spikes, start)).collect();
    let lone = Reference::new(&config.identity.unwrap(), BIN_NS, 1, &windows);
    let lone = Identities::compute(&checkpoint, &lone).unwrap();
    for (x, y) in lone.embeddings().iter().zip(&a.embeddings()[3 * 16..4 * 16]) {
        assert!((x - y).abs() < 1e-5, "{x} {y}");
    }
}

#[test]
fn what_cannot_be_computed_is_said() {
    let config = config(IdentityScheme::Binned, false, Decoder::PredictionMemory);
    let known = checkpoint(&config);
    let reference = reference(&config, &[0]);
    let plain = Checkpoint::random(
        &ModelConfig {
            identity: None,
            ..config.clone()
        },
        3,
        1,
    );
    assert!(matches!(
        Identities::compute(&plain, &reference),
        Err(IdentityError::NoEncoder)
    ));
    assert!(matches!(
        identified(&known, &reference, "new", &ids()[1..]),
        Err(IdentityError::Units { named: 6, units: 7 })
    ));
    let unknown = unidentified(&known, "new", &ids(), &[-3.0; UNITS]).unwrap();
    let predictor = NetworkPredictor::new(&unknown, "test", &ids(), &BuildOptions::default()).unwrap();
    let short = Calibration {
        reference_s: 0.1,
        every_s: None,
        in_step: false,
    };
    let refused = predictor.calibrate(&unknown, short).map(|_| ()).unwrap_err();
    assert!(refused.to_string().contains("0.1 s of activity"), "{refused}");
}

#[test]
fn a_run_computes_them_from_counts_while_it_predicts() {
    computed_in_a_run(&config(IdentityScheme::Binned, true, Decoder::PredictionMemory));
}

#[test]
fn a_run_computes_them_from_spike_times_while_it_predicts() {
    computed_in_a_run(&config(IdentityScheme::Events, false, Decoder::PredictionMemory));
}

fn computed_in_a_run(config: &ModelConfig) {
    let checkpoint = checkpoint(config);
    let unknown = unidentified(&checkpoint, "new", &ids(), &[-3.0; UNITS]).unwrap();
    let predictor = NetworkPredictor::new(&unknown, "test", &ids(), &BuildOptions::default()).unwrap();
    let wanted = Calibration {
        reference_s: 1.0,
        every_s: Some(0.5),
        in_step: false,
    };
    let predictor = predictor.calibrate(&unknown, wanted).unwrap();
    let null = NullModel {
        log_rates: vec![-3.0; UNITS],
        last_bin_ns: predictor.last_bin_ns(),
    };
    let (times_ns, units) = activity(4.0);
    let spikes = RecordedSpikes {
        times_ns: times_ns.into(),
        units: units.into(),
        unit_ids: ids().into(),
    };
    let source = Replay::new("test", spikes, 0, 4_000 * MS, Pace::Clocked(1.0), MS).unwrap();
    let run = RunConfig {
        // Whatever else the machine does, the bins must come.
        deadline_ns: Some(1_000 * MS),
        ring_events: 4_096,
        ..RunConfig::new(PublishConfig::at("tcp://127.0.0.1:*"))
    };
    let run = Run::start(&run, vec![Box::new(source)], Box::new(predictor), &null, Arc::default()).unwrap();
    assert!(run.wait(Duration::from_secs(60)));
    let summary = run.join();
    println!("{summary}");
    assert_eq!(summary.outcome, Outcome::Finished);
    assert!(summary.imbalances.is_empty(), "{:?}", summary.imbalances);
    // 200 bins; ten are history alone, and the last may be waiting for the clock of a source that has ended.
    assert!(summary.bins.published >= 190, "{:?}", summary.bins);
    let calibration = summary.calibration.expect("there was one");
    assert_eq!((calibration.gaps, summary.bins.held), (0, 0));
    // At 1 s, 1.5 s, … of device time.
    assert!((5..=7).contains(&calibration.made), "{calibration:?}");
    assert!(calibration.taken_in >= 5, "{calibration:?}");
    // Mean rates until a bin or two after the first second.
    let calibrating = summary.bins.calibrating;
    assert!((40..60).contains(&calibrating), "{:?}", summary.bins);
    assert_eq!(summary.bins.neutral, calibrating);
}
