//! The decode thread allocates nothing between its first and its last prediction, nor does a source of a device.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::Arc;
use std::time::Duration;

use kernels::cuda::{CudaBackend, CudaOptions};
use kernels::Precision;
use neurohorizon::acquire::blackrock::{self, Blackrock, BlackrockConfig, Protocol, TimeUnit};
use neurohorizon::acquire::intan::{self, Intan, IntanConfig};
use neurohorizon::acquire::replay::{RecordedSeries, RecordedSpikes, Replay};
use neurohorizon::acquire::wire::ClockConfig;
use neurohorizon::acquire::{EventSink, Pace, SampledSeries, Source, SpikeEvent};
use neurohorizon::model::checkpoint::Checkpoint;
use neurohorizon::model::conditions::Tokens;
use neurohorizon::model::config::{
    ConditionConfig, ConditionKind, Decoder, HistoryConfig, IdentityConfig, IdentityScheme, ModelConfig,
};
use neurohorizon::model::factors::Projection;
use neurohorizon::model::network::{Network, SessionPlan};
use neurohorizon::model::{build, BuildOptions, Inference, UnitMatch};
use neurohorizon::pipeline::behaviour::Behaviour;
use neurohorizon::pipeline::calibrate::Calibration;
use neurohorizon::pipeline::latents::{Latents, LatentsForm};
use neurohorizon::pipeline::network::NetworkPredictor;
use neurohorizon::pipeline::tap::taps;
use neurohorizon::pipeline::{
    Attached, BinSpikes, NullModel, OutputSpec, PredictError, Predictor, PublishConfig, Run, RunConfig,
};
use rt_tests::breaking::Fault;
use rt_tests::counting::{self, Counting};
use rt_tests::idle::IdleDevice;

const MS: i64 = 1_000_000;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Runs on the decode thread, and so sees that thread's count.
struct Watch {
    units: Vec<String>,
    /// Its modalities: what the decode thread keeps of them for it.
    network: ModelConfig,
    shown: usize,
    first: Option<u64>,
    calls: u64,
    since_first: Arc<AtomicU64>,
    predictions: Arc<AtomicU64>,
}

impl Predictor for Watch {
    fn unit_ids(&self) -> &[String] {
        &self.units
    }
    fn bin_ns(&self) -> i64 {
        20 * MS
    }
    fn history_ns(&self) -> i64 {
        500 * MS
    }
    fn horizon_bins(&self) -> usize {
        12
    }
    fn model_hash(&self) -> u64 {
        1
    }
    fn describe(&self) -> String {
        "counts allocations".into()
    }
    fn max_spikes(&self) -> usize {
        // Fewer than a window holds, so that the oldest are pushed out too.
        3_000
    }
    fn network_config(&self) -> Option<&ModelConfig> {
        Some(&self.network)
    }
    fn show(&mut self, modalities: &[Tokens]) {
        self.shown = modalities.iter().map(Tokens::len).sum();
    }
    fn predict(&mut self, _times_s: &[f64], _units: &[u32], log_rates: &mut [f32]) -> Result<(), PredictError> {
        // 50 steps of 10 ms, 5 of 100 ms.
        assert_eq!(self.shown, 55);
        let now = counting::calls();
        let first = *self.first.get_or_insert(now);
        self.since_first.store(now - first, Relaxed);
        self.calls += 1;
        self.predictions.store(self.calls, Relaxed);
        log_rates.fill(if self.calls.is_multiple_of(7) { f32::NAN } else { 0.0 });
        Ok(())
    }
    fn outputs(&self) -> Vec<OutputSpec> {
        let output = |topic: &str| OutputSpec {
            topic: topic.into(),
            rows: 10,
            cols: 30,
            axes: ["row".into(), "column".into()],
            meaning: "what is filled, held and published beside the predictions".into(),
            labels: Vec::new(),
            row_times_s: Vec::new(),
        };
        vec![output("first"), output("second")]
    }
    fn output(&mut self, index: usize, out: &mut [f32]) -> Result<(), PredictError> {
        // An output that fails is held, and the other goes on.
        let fails = index == 1 && self.calls.is_multiple_of(5);
        out.fill(if fails { f32::NAN } else { 1.0 });
        Ok(())
    }
}

/// Samples of ones, a step apart.
fn series(name: &str, channels: usize, samples: i64, step_ns: i64) -> RecordedSeries {
    RecordedSeries {
        series: SampledSeries {
            name: name.into(),
            unit: String::new(),
            channels,
        },
        times_ns: (0..samples).map(|sample| sample * step_ns).collect(),
        values: vec![1.0; samples as usize * channels].into(),
    }
}

/// 500 ms of history, of which two modalities are shown.
fn network_that_sees_two() -> ModelConfig {
    let condition = |series: &str, kind, channels: usize, step_s| ConditionConfig {
        series: series.into(),
        kind,
        step_s,
        mean: vec![0.0; channels],
        deviation: vec![1.0; channels],
    };
    ModelConfig {
        conditions: vec![
            condition("hand", ConditionKind::Behaviour, 2, 0.01),
            condition("image", ConditionKind::Stimulus, 5, 0.1),
        ],
        ..ModelConfig::default()
    }
}

/// Too small for what 15 ms bring.
const SMALL_RING: usize = 1 << 12;

/// Allocations of the decode thread since its first prediction, and its predictions; with a ring of so many bytes where it is
/// recorded.
fn allocations(pace: Pace, seconds: i64, record_bytes: Option<usize>) -> (u64, u64) {
    // 10 000 spikes a second, one unit in four unknown to the model.
    let n = seconds * 10_000;
    let ids = |n: usize| (0..n).map(|unit| format!("u{unit}")).collect::<Vec<String>>();
    let spikes = RecordedSpikes {
        times_ns: (0..n).map(|spike| spike * MS / 10).collect(),
        units: (0..n).map(|spike| (spike % 64) as u32).collect(),
        unit_ids: ids(64).into(),
    };
    let source = Replay::new("test", spikes, 0, seconds * 1_000 * MS, pace, MS).unwrap();
    let source = source.with_series(vec![
        series("hand", 2, seconds * 1_000, MS),
        series("image", 5, seconds * 3, 333 * MS),
        series("unknown to the network", 1, seconds * 10, 100 * MS),
    ]);
    let source = source.unwrap();
    let (since_first, predictions) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let watch = Watch {
        units: ids(48),
        network: network_that_sees_two(),
        shown: 0,
        first: None,
        calls: 0,
        since_first: since_first.clone(),
        predictions: predictions.clone(),
    };
    let config = RunConfig {
        ring_events: 4_096,
        ..RunConfig::new(PublishConfig::at("tcp://127.0.0.1:*"))
    };
    let null = NullModel {
        log_rates: vec![0.0; 48],
        last_bin_ns: 20 * MS,
    };
    // The smaller ring overflows where time runs: what is lost is counted and flagged without allocating either.
    let (taps, mut readers) = taps(record_bytes.unwrap_or(0));
    let attached = Attached {
        taps: record_bytes.map(|_| taps),
        ..Attached::default()
    };
    let recorder = std::thread::spawn(move || {
        let mut bytes = Vec::new();
        while !(readers.ingest.is_finished() && readers.publish.is_finished()) {
            bytes.clear();
            readers.ingest.take(&mut bytes);
            readers.publish.take(&mut bytes);
            std::thread::sleep(Duration::from_millis(15));
        }
        readers.losses.total()
    });
    let source: Vec<Box<dyn Source>> = vec![Box::new(source)];
    let summary = Run::start_with(&config, source, Box::new(watch), &null, Arc::default(), attached)
        .unwrap()
        .join();
    let lost = recorder.join().unwrap();
    assert_eq!(
        lost > 0,
        pace != Pace::AsFast && record_bytes == Some(SMALL_RING),
        "{lost}"
    );
    assert!(
        summary.imbalances.is_empty() && summary.spikes.pushed_out > 0,
        "{summary}"
    );
    let [hand, image] = &summary.modalities[..] else {
        panic!("{summary}")
    };
    assert_eq!(
        (hand.in_time, hand.silent, image.silent),
        (seconds as u64 * 1_000, 0, 0)
    );
    assert_eq!(
        (hand.lost(), image.lost(), summary.unknown_samples),
        (0, 0, seconds as u64 * 10)
    );
    assert!(summary.outputs[1].stand_ins > summary.outputs[0].stand_ins, "{summary}");
    (since_first.load(Relaxed), predictions.load(Relaxed))
}

#[test]
fn the_decode_thread_does_not_allocate() {
    // The counter counts.
    let before = counting::calls();
    drop(std::hint::black_box(vec![0u8; 100]));
    assert_eq!(counting::calls(), before + 2);
    for record_bytes in [None, Some(1 << 22), Some(SMALL_RING)] {
        if record_bytes != Some(SMALL_RING) {
            assert_eq!(allocations(Pace::AsFast, 60, record_bytes), (0, 2_976));
        }
        let (allocations, predictions) = allocations(Pace::Clocked(4.0), 4, record_bytes);
        assert_eq!(allocations, 0);
        assert!(predictions > 100, "{predictions}");
    }
}

/// A network with the path of recent history.
fn with_recent_history() -> Checkpoint {
    let config = ModelConfig {
        dim: 16,
        dim_head: 8,
        history: Some(HistoryConfig {
            time_constants_s: vec![0.02, 0.2, 2.0],
            population_time_constants: 2,
            components: 5,
        }),
        ..ModelConfig::default()
    };
    Checkpoint::random(&config, 9, 1)
}

/// One that also reads behaviour out.
fn with_readouts() -> Checkpoint {
    let config = ModelConfig {
        readouts: rt_tests::tiny::readouts(),
        ..with_recent_history().config
    };
    Checkpoint::random(&config, 9, 1)
}

/// One of every variant.
fn variants() -> impl Iterator<Item = (&'static str, Checkpoint)> {
    let golden = [
        "parallel_tiny",
        "query_aug_mlp_pool",
        "query_aug_rate_weighted",
        "query_aug_cross_attn",
        "prediction_memory",
        "local_prediction_memory",
        "noncausal",
    ];
    let load = |name| {
        (
            name,
            Checkpoint::load(&rt_tests::golden().join(format!("{name}.ckpt"))).unwrap(),
        )
    };
    golden
        .into_iter()
        .map(load)
        .chain([("recent_history", with_recent_history()), ("readouts", with_readouts())])
}

/// The network with every form of its latents, and the behaviour that it reads out, as outputs.
fn with_outputs(network: NetworkPredictor) -> NetworkPredictor {
    let (_, dim) = network.network().latent_shape();
    let projection = Projection {
        mean: vec![0.0; dim],
        directions: vec![0.1; 4 * dim],
        network_hash: 0,
    };
    let forms = [
        LatentsForm::Full,
        LatentsForm::Newest,
        LatentsForm::Projected(projection),
    ];
    let network = forms.into_iter().fold(network, |network, form| {
        let latents = Latents::new(network.network(), form).unwrap();
        network.with_output(Box::new(latents))
    });
    let behaviour: Vec<Behaviour> = Behaviour::all(network.network()).collect();
    behaviour
        .into_iter()
        .fold(network, |network, task| network.with_output(Box::new(task)))
}

/// Allocations of predictions from windows of so many spikes, and of reading the outputs beside them.
fn while_predicting(network: &mut NetworkPredictor, spikes: &[usize]) -> u64 {
    let units = network.unit_ids().len();
    let mut log_rates = vec![0.0; network.horizon_bins() * units];
    let outputs = network.outputs();
    let mut outputs: Vec<Vec<f32>> = outputs
        .iter()
        .map(|output| vec![0.0; output.rows * output.cols])
        .collect();
    let times: Vec<f64> = (0..3_000).map(|spike| f64::from(spike) * 0.5 / 3_000.0).collect();
    let spiking: Vec<u32> = (0..3_000).map(|spike| spike % units as u32).collect();
    let counts = [3u32; 64];
    let before = counting::calls();
    for &spikes in spikes {
        let bin = BinSpikes {
            end_ns: 0,
            counts: &counts[..units],
            times_ns: &[],
            units: &[],
        };
        network.bin_closed(&bin);
        network
            .predict(&times[..spikes], &spiking[..spikes], &mut log_rates)
            .unwrap();
        (0..outputs.len()).for_each(|index| network.output(index, &mut outputs[index]).unwrap());
    }
    counting::calls() - before
}

/// The network itself: from its first window on, whatever number of spikes follows, on the calling thread of the pool.
#[test]
fn a_network_predicts_without_allocating() {
    for (name, checkpoint) in variants() {
        for threads in [1, 2] {
            let options = BuildOptions {
                threads,
                max_spikes: 3_000,
                ..BuildOptions::default()
            };
            let ids = checkpoint.unit_ids[1..].to_vec();
            let network = NetworkPredictor::new(&checkpoint, name, &ids, &options).unwrap();
            let mut network = with_outputs(network);
            let calls = while_predicting(&mut network, &[0, 1, 40, 3_000, 7]);
            assert_eq!(calls, 0, "{name} with {threads} threads");
        }
    }
}

#[test]
fn identities_are_taken_in_without_allocating() {
    const UNITS: usize = 40;
    let config = ModelConfig {
        dim: 16,
        dim_head: 8,
        identity: Some(IdentityConfig {
            scheme: IdentityScheme::Binned,
            window_bins: 10,
            bin_s: 0.02,
            hidden: 16,
            population: true,
            components: 0,
            refine: false,
        }),
        history: with_recent_history().config.history,
        decoder: Decoder::PredictionMemory,
        ..ModelConfig::default()
    };
    let checkpoint = Checkpoint::random(&config, UNITS, 3);
    let ids = checkpoint.unit_ids[1..].to_vec();
    let wanted = Calibration {
        reference_s: 0.4,
        every_s: Some(0.2),
        in_step: false,
    };
    let predictor = NetworkPredictor::new(&checkpoint, "test", &ids, &BuildOptions::default()).unwrap();
    let mut predictor = predictor.calibrate(&checkpoint, wanted).unwrap();
    let mut calibrator = predictor.take_calibrator().unwrap();
    let units: Vec<u32> = (0..UNITS as u32).collect();
    let counts = vec![1; UNITS];
    let (mut calls, mut ready_at) = (0, None);
    for bin in 1..=60 {
        let end_ns = 20_000_000 * bin;
        let times_ns = [end_ns - 5_000_000; UNITS];
        let before = counting::calls();
        predictor.bin_closed(&BinSpikes {
            end_ns,
            counts: &counts,
            times_ns: &times_ns,
            units: &units,
        });
        predictor.take_identities();
        calls += counting::calls() - before;
        if !predictor.calibrating() {
            ready_at.get_or_insert(bin);
        }
        calibrator.look().unwrap();
    }
    assert_eq!(calls, 0);
    // The reference is whole after bin 20, and taken in by the next.
    assert_eq!(ready_at, Some(21));
    let counts = calibrator.counters().counts();
    assert!((counts.made, counts.taken_in, counts.gaps) == (5, 4, 0), "{counts:?}");
}

/// Calls of the allocator while the text of a failure is put together.
const MOST_OF_A_TEXT: u64 = 16;

/// What the host does for a GPU: nothing is allocated but the text of its failure, and the CPU that takes over has what it
/// needs.
#[test]
fn a_network_on_a_gpu_predicts_without_allocating() {
    for (name, checkpoint) in variants() {
        let matched = UnitMatch::new(&checkpoint, &checkpoint.unit_ids[1..], None).unwrap();
        let plan = SessionPlan {
            unit_rows: matched.rows.clone(),
            reference: None,
            bins: checkpoint.config.bins(),
            max_spikes: 3_000,
            precision: Precision::F16,
        };
        let on = |device| -> Box<dyn Inference> {
            let backend = CudaBackend::new(device, CudaOptions::default());
            Box::new(Network::new(backend, &checkpoint, plan.clone()))
        };
        let sound = NetworkPredictor::of(&checkpoint, name, matched.clone(), on(IdleDevice::sound()), None).unwrap();
        let mut sound = with_outputs(sound);
        assert_eq!(while_predicting(&mut sound, &[0, 1, 40, 3_000, 7]), 0, "{name}");

        let options = BuildOptions {
            max_spikes: 3_000,
            ..BuildOptions::default()
        };
        let standby = build(&checkpoint, &matched.rows, &options).unwrap();
        // The warm-up replays twice.
        let device = IdleDevice::breaking_at_replay(3, Fault::Fails);
        let mut breaking = NetworkPredictor::of(&checkpoint, name, matched, on(device), Some(standby)).unwrap();
        assert_eq!(while_predicting(&mut breaking, &[40]), 0, "{name}");
        assert!(breaking.device_failure().is_none());
        let calls = while_predicting(&mut breaking, &[41]);
        assert!(breaking.device_failure().is_some());
        assert!(calls <= MOST_OF_A_TEXT, "{name}: {calls} allocations");
        assert_eq!(while_predicting(&mut breaking, &[0, 1, 40, 3_000, 7]), 0, "{name}");
    }
}

/// A sink that keeps nothing but a count.
#[derive(Default)]
struct Counted(u64);

impl EventSink for Counted {
    fn spikes(&mut self, spikes: &[SpikeEvent]) {
        self.0 += spikes.len() as u64;
    }
    fn sample(&mut self, _series: usize, _time_ns: i64, _values: &[f32]) {}
    fn clock(&mut self, _device_ns: i64, _host_ns: i64) {}
}

/// Polls until `spikes` have come, and says how often that allocated.
fn while_taking(source: &mut dyn Source, spikes: u64) -> u64 {
    let mut sink = Counted::default();
    let before = counting::calls();
    let mut now = 0;
    while sink.0 < spikes {
        now += MS;
        source.poll(now, &mut sink).unwrap();
        assert!(now < 60_000 * MS, "{} of {spikes} spikes have come", sink.0);
    }
    counting::calls() - before
}

/// From the socket to the ring: connecting, reading, skipping what is broken, placing and counting.
#[test]
fn sources_of_devices_take_spikes_without_allocating() {
    const SPIKES: u32 = 500;
    let units = |channels: &str| vec![format!("{channels}:1")];
    let clock = ClockConfig {
        speed: 1.0,
        lateness_ns: 0,
        end_ns: None,
    };
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut bytes = Vec::new();
    for spike in 0..SPIKES {
        intan::encode::spike(
            &mut bytes,
            intan::encode::channel_name(spike % 200),
            spike,
            intan::encode::SpikeId::Unit(1),
        );
        bytes.extend(b"?!");
    }
    let config = IntanConfig {
        address: listener.local_addr().unwrap(),
        sample_rate_hz: 30_000,
        units: units("A-000..A-127"),
        clock,
    };
    let mut source = Intan::new(&config).unwrap();
    source.start(0);
    let client = std::thread::spawn(move || {
        let mut stream = listener.accept().unwrap().0;
        std::io::Write::write_all(&mut stream, &bytes).unwrap();
        stream
    });
    assert_eq!(while_taking(&mut source, SPIKES.into()), 0, "Intan");
    client.join().unwrap();

    let config = BlackrockConfig {
        listen: "127.0.0.1:0".parse().unwrap(),
        protocol: None,
        time_unit: Some(TimeUnit::Ticks),
        units: units("1..128"),
        clock,
    };
    let mut source = Blackrock::new(&config).unwrap();
    source.start(0);
    let device = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    for spike in 0..SPIKES {
        let mut datagram = Vec::new();
        let channel = (spike % 200 + 1) as u16;
        blackrock::encode::spike(&mut datagram, Protocol::V410, spike.into(), channel, 1, 0);
        device.send_to(&datagram, source.address().unwrap()).unwrap();
        device.send_to(b"?", source.address().unwrap()).unwrap();
        if spike % 50 == 49 {
            assert_eq!(while_taking(&mut source, 50), 0, "Blackrock");
        }
    }
}
