//! What there is no time for: the first bins of a horizon are those of the whole one, and a run publishes as many as are in time.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::Arc;
use std::time::Duration;

use neurohorizon::acquire::replay::{RecordedSpikes, Replay};
use neurohorizon::acquire::Pace;
use neurohorizon::model::checkpoint::Checkpoint;
use neurohorizon::model::config::{Decoder, Feedback, HistoryConfig, ModelConfig};
use neurohorizon::model::{build, BackendKind, BuildOptions, UnitMatch};
use neurohorizon::pipeline::message::flags;
use neurohorizon::pipeline::predictor::{MeanRate, WindowShape};
use neurohorizon::pipeline::{NullModel, PredictError, Predictor, PublishConfig, Run, RunConfig};
use rt_tests::subscriber::{free_endpoint, subscribe};

const UNITS: usize = 7;
const BINS: usize = 6;
const MS: i64 = 1_000_000;

fn config(decoder: Decoder, causal: bool) -> ModelConfig {
    ModelConfig {
        sequence_length: 0.32,
        pred_window: 0.12,
        dim: 16,
        dim_head: 8,
        enc_depth: 1,
        dec_depth: 2,
        self_heads: 2,
        num_latents_per_step: 2,
        decoder,
        causal,
        history: Some(HistoryConfig {
            time_constants_s: vec![0.02, 0.2],
            population_time_constants: 1,
            components: 3,
        }),
        ..ModelConfig::default()
    }
}

#[test]
fn the_first_bins_of_a_horizon_are_those_of_the_whole() {
    let decoders = [
        Decoder::PredictionMemory,
        Decoder::LocalPredictionMemory,
        Decoder::QueryAug(Feedback::None),
        Decoder::QueryAug(Feedback::MlpPool),
        Decoder::QueryAug(Feedback::RateWeighted),
        Decoder::QueryAug(Feedback::CrossAttn),
    ];
    for (decoder, causal) in decoders
        .into_iter()
        .flat_map(|decoder| [(decoder, true), (decoder, false)])
    {
        for backend in [BackendKind::Reference, BackendKind::Cpu] {
            let checkpoint = Checkpoint::random(&config(decoder, causal), UNITS, 1);
            let options = BuildOptions {
                backend,
                ..BuildOptions::default()
            };
            let rows: Vec<usize> = (1..=UNITS).collect();
            let mut network = build(&checkpoint, &rows, &options).unwrap();
            let matched = UnitMatch::new(&checkpoint, &checkpoint.unit_ids[1..], None).unwrap();
            let mut traces = matched.traces(&checkpoint).unwrap();
            traces.push_bin((0..UNITS).map(|unit| unit as f32));
            let (times, units) = ([0.01, 0.05, 0.11, 0.15, 0.19], [1, 6, 2, 6, 5]);
            let mut whole = vec![0.0; BINS * UNITS];
            network.predict(Some(&traces), &times, &units, &mut whole).unwrap();
            assert!(network.shortens());
            for bins in 0..=BINS + 1 {
                let mut first = vec![f32::NAN; BINS * UNITS];
                let made = network.predict_within(Some(&traces), &times, &units, &mut || bins, &mut first);
                let made = made.unwrap();
                assert_eq!(made, bins.min(BINS));
                let (made, rest) = first.split_at(made * UNITS);
                // Bins that go through a product together are rounded together: without feedback they do.
                let together = decoder == Decoder::QueryAug(Feedback::None);
                let close = |(a, b): (&f32, &f32)| a == b || together && (a - b).abs() <= 1e-6 * (1.0 + b.abs());
                let same = made.iter().zip(&whole).all(close);
                assert!(
                    same,
                    "{decoder:?}, causal {causal}, {backend:?}, {bins} bins: {made:?} {whole:?}"
                );
                assert!(
                    rest.iter().all(|rate| rate.is_nan()),
                    "what was not made was not written"
                );
            }
        }
    }
}

/// A model that needs 3 ms for a window and `per_bin` for each bin, which it numbers.
struct Slow {
    mean: MeanRate,
    per_bin: Arc<AtomicBool>,
}

impl Predictor for Slow {
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
        "slow".into()
    }
    fn max_spikes(&self) -> usize {
        self.mean.max_spikes()
    }
    fn predict(&mut self, times_s: &[f64], units: &[u32], log_rates: &mut [f32]) -> Result<(), PredictError> {
        self.mean.predict(times_s, units, log_rates)
    }
    fn predict_within(
        &mut self,
        _: &[f64],
        _: &[u32],
        bins: &mut dyn FnMut() -> usize,
        log_rates: &mut [f32],
    ) -> Result<usize, PredictError> {
        std::thread::sleep(Duration::from_millis(3));
        let bins = bins();
        let ms = if self.per_bin.load(Relaxed) { 6 } else { 1 };
        for (bin, log_rate) in log_rates[..bins].iter_mut().enumerate() {
            std::thread::sleep(Duration::from_millis(ms));
            *log_rate = bin as f32;
        }
        Ok(bins)
    }
}

#[test]
fn a_run_publishes_the_bins_that_there_is_time_for_and_says_how_many() {
    // Bins of 40 ms, a deadline of 40: ten predicted bins of 6 ms are too many, of 1 ms they are not.
    let slow = Arc::new(AtomicBool::new(true));
    let shape = WindowShape {
        bin_ns: 40 * MS,
        history_ns: 80 * MS,
        horizon_bins: 10,
        max_spikes: 100,
    };
    let ids = vec!["unit".to_string()];
    let mean = MeanRate::new(ids.clone(), shape, &[-1.0], "test").unwrap();
    let spikes = RecordedSpikes {
        times_ns: vec![0, 2_000 * MS].into(),
        units: vec![0, 0].into(),
        unit_ids: ids.into(),
    };
    let source = Replay::new("test", spikes, 0, 4_000 * MS, Pace::Clocked(1.0), MS).unwrap();
    let endpoint = free_endpoint();
    let config = RunConfig {
        stuck_after_ns: Some(1_000 * MS),
        ring_events: 4_096,
        ..RunConfig::new(PublishConfig {
            wait_for_subscriber: Duration::from_secs(10),
            ..PublishConfig::at(&endpoint)
        })
    };
    let null = NullModel {
        log_rates: vec![-1.0],
        last_bin_ns: 40 * MS,
    };
    let subscriber = subscribe(&endpoint, 99);
    let model = Box::new(Slow {
        mean,
        per_bin: slow.clone(),
    });
    let run = Run::start(&config, vec![Box::new(source)], model, &null, Arc::default()).unwrap();
    std::thread::sleep(Duration::from_millis(2_000));
    slow.store(false, Relaxed);
    let received = subscriber.join().unwrap();
    let summary = run.join();
    println!("{summary}");
    assert!(summary.imbalances.is_empty(), "{:?}", summary.imbalances);
    let mut shortened = Vec::new();
    for (header, array) in &received {
        assert_eq!(array.len(), header.bins as usize);
        if header.flags & flags::SHORTENED != 0 {
            assert!((1..10).contains(&header.bins));
            assert!(array.iter().enumerate().all(|(bin, &rate)| rate == bin as f32));
            shortened.push((header.bin_index, header.bins));
        } else {
            assert_eq!(header.bins, 10);
        }
    }
    // The first is whole and late; then, while it is slow, most have some bins, and are in time.
    assert_eq!(summary.bins.shortened, shortened.len() as u64);
    assert!(shortened.len() > 20, "{shortened:?}");
    let late = received
        .iter()
        .filter(|(header, _)| header.flags & flags::SHORTENED != 0 && header.flags & flags::MISSED_DEADLINE != 0);
    assert!(late.count() <= shortened.len() / 4, "{summary}");
    // Once it is quick again, whole horizons come back within a second.
    let last: Vec<u32> = received.iter().rev().take(20).map(|(header, _)| header.bins).collect();
    assert!(last.iter().filter(|&&bins| bins == 10).count() >= 15, "{last:?}");
}
