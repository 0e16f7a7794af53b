//! The pipeline from a source to a subscriber: nothing lost, everything counted, faults flagged.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::Arc;
use std::time::Duration;

use neurohorizon::acquire::replay::{RecordedSpikes, Replay};
use neurohorizon::acquire::{EventSink, Pace, Poll, Source, SourceError, SpikeEvent};
use neurohorizon::pipeline::message::{flags, MessageHeader, HEADER_LEN};
use neurohorizon::pipeline::predictor::{MeanRate, WindowShape};
use neurohorizon::pipeline::{
    LiveSnapshot, NullModel, Outcome, PredictError, Predictor, PublishConfig, Run, RunConfig, RunState, RunSummary,
};

const MS: i64 = 1_000_000;
const BIN: i64 = 20 * MS;
const SHAPE: WindowShape = WindowShape {
    bin_ns: BIN,
    history_ns: 100 * MS,
    horizon_bins: 3,
    max_spikes: 1_000,
};

fn ids(n: usize) -> Vec<String> {
    (0..n).map(|unit| format!("u{unit}")).collect()
}

/// Three units, a spike each ms.
fn recorded(duration_ms: i64) -> RecordedSpikes {
    RecordedSpikes {
        times_ns: (0..duration_ms).map(|ms| ms * MS).collect(),
        units: (0..duration_ms).map(|ms| (ms % 3) as u32).collect(),
        unit_ids: ids(3).into(),
    }
}

fn replay(duration_ms: i64, pace: Pace) -> Box<dyn Source> {
    Box::new(Replay::new("test", recorded(duration_ms), 0, duration_ms * MS, pace, MS).unwrap())
}

/// Mean rates of the first two units: the third is unknown to the model.
fn two_units() -> (Box<dyn Predictor>, NullModel) {
    let rates = vec![(20f64 / 3.0).ln(); 2];
    let model = MeanRate::new(ids(2), SHAPE, &rates, "test").unwrap();
    (
        Box::new(model),
        NullModel {
            log_rates: rates,
            last_bin_ns: BIN,
        },
    )
}

fn config(wait_for_subscriber: Duration) -> RunConfig {
    RunConfig {
        ring_events: 4_096,
        ..RunConfig::new(PublishConfig {
            latest_endpoint: Some("tcp://127.0.0.1:*".into()),
            wait_for_subscriber,
            ..PublishConfig::at("tcp://127.0.0.1:*")
        })
    }
}

fn start(config: &RunConfig, source: Box<dyn Source>, model: (Box<dyn Predictor>, NullModel)) -> Run {
    Run::start(config, vec![source], model.0, &model.1, Arc::default()).unwrap()
}

/// The whole of a subscriber: header and array of every prediction until the last bin.
fn subscribe(endpoint: &str, last_bin: i64) -> std::thread::JoinHandle<Vec<(MessageHeader, Vec<f32>)>> {
    let socket = zmq::Context::new().socket(zmq::SUB).unwrap();
    socket.set_rcvtimeo(10_000).unwrap();
    socket.connect(endpoint).unwrap();
    socket.set_subscribe(b"prediction").unwrap();
    std::thread::spawn(move || {
        let mut received: Vec<(MessageHeader, Vec<f32>)> = Vec::new();
        while received.last().is_none_or(|(header, _)| header.bin_index < last_bin) {
            let parts = socket.recv_multipart(0).unwrap();
            assert_eq!((parts.len(), &parts[0][..]), (3, &b"prediction"[..]));
            assert_eq!(parts[1].len(), HEADER_LEN);
            let array = parts[2]
                .chunks_exact(4)
                .map(|four| f32::from_le_bytes(four.try_into().unwrap()))
                .collect();
            received.push((MessageHeader::read(&parts[1]).unwrap(), array));
        }
        received
    })
}

/// A free port of this machine: bound, looked at, and let go.
fn free_endpoint() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    format!("tcp://{}", listener.local_addr().unwrap())
}

fn check_balance(summary: &RunSummary) {
    assert!(summary.imbalances.is_empty(), "{:?}", summary.imbalances);
    assert!(summary.failures.is_empty(), "{:?}", summary.failures);
}

#[test]
fn a_replay_as_fast_as_it_can_reaches_the_subscriber_whole() {
    let mut config = config(Duration::from_secs(10));
    config.publish.endpoint = free_endpoint();
    // 60 s of recording: 3 000 bins, the first history is complete at the end of the fifth.
    let subscriber = subscribe(&config.publish.endpoint, 2_999);
    let run = start(&config, replay(60_000, Pace::AsFast), two_units());
    let received = subscriber.join().unwrap();
    let summary = run.join();
    check_balance(&summary);
    assert_eq!(summary.outcome, Outcome::Finished);
    let spikes = summary.spikes;
    assert_eq!(
        (spikes.offered, spikes.binned, spikes.unknown),
        (60_000, 40_000, 20_000)
    );
    assert_eq!(
        (
            summary.bins.closed,
            summary.bins.without_history,
            summary.bins.published
        ),
        (3_000, 4, 2_996)
    );
    assert_eq!(
        (
            summary.bins.subscriber_overflows,
            summary.bins.missed_deadline,
            summary.bins.full
        ),
        (0, 0, 2_996)
    );
    assert_eq!(received.len(), 2_996);
    let epoch = received[0].0.epoch;
    for (position, (header, array)) in received.iter().enumerate() {
        assert_eq!(
            (header.sequence, header.bin_index),
            (position as u64, position as i64 + 4)
        );
        assert_eq!(header.bin_end_ns, (header.bin_index + 1) * BIN);
        assert_eq!((header.epoch, header.bins, header.units), (epoch, 3, 2));
        assert_eq!(header.flags, flags::SPIKES_UNKNOWN);
        assert!(header.decode_start_ns <= header.decode_end_ns && header.decode_end_ns <= header.publish_ns);
        assert!(array.iter().all(|&rate| rate == (20f64 / 3.0).ln() as f32));
    }
    // Every spike of a known unit is announced once; the first message speaks for the bins before it.
    let total =
        |count: fn(&MessageHeader) -> u32| received.iter().map(|(header, _)| u64::from(count(header))).sum::<u64>();
    assert_eq!(total(|header| header.spikes_in), 40_000);
    assert_eq!(total(|header| header.spikes_unknown), 20_000);
    // The model is the null model.
    let windows = &summary.score.windows;
    assert_eq!((windows.n_windows, summary.score.every_bin.n_windows), (998, 2_993));
    assert!(windows.fp_bps.unwrap().abs() < 1e-6, "{windows:?}");
}

#[test]
fn at_the_speed_of_life_nothing_is_early_and_nothing_is_lost() {
    let summary = start(&config(Duration::ZERO), replay(1_000, Pace::Clocked(1.0)), two_units()).join();
    check_balance(&summary);
    assert!(summary.wall_s >= 0.999 && summary.wall_s < 5.0, "{}", summary.wall_s);
    assert_eq!(
        (summary.bins.closed, summary.bins.published, summary.spikes.offered),
        (50, 46, 1_000)
    );
    assert_eq!(summary.deadline_ms, Some(20.0));
    assert!(summary.latency.close_to_publish.count == 46 && summary.latency.close_to_publish.max_us < 5e6);
}

#[test]
fn the_latest_endpoint_gives_a_single_frame() {
    let run = start(&config(Duration::ZERO), replay(1_500, Pace::Clocked(1.0)), two_units());
    let socket = zmq::Context::new().socket(zmq::SUB).unwrap();
    socket.set_conflate(true).unwrap();
    socket.set_rcvtimeo(10_000).unwrap();
    socket.set_subscribe(b"").unwrap();
    socket.connect(run.endpoints().latest.as_ref().unwrap()).unwrap();
    let frame = socket.recv_bytes(0).unwrap();
    let header = MessageHeader::read(&frame).unwrap();
    assert_eq!(frame.len(), HEADER_LEN + 4 * (header.bins * header.units) as usize);
    run.stop();
    check_balance(&run.join());
}

#[test]
fn a_stopped_run_sums_up_what_it_did() {
    let run = start(&config(Duration::ZERO), replay(60_000, Pace::Clocked(1.0)), two_units());
    std::thread::sleep(Duration::from_millis(400));
    run.stop();
    let summary = run.join();
    check_balance(&summary);
    assert_eq!(summary.outcome, Outcome::Stopped);
    assert!(summary.bins.published > 0 && summary.wall_s < 10.0, "{summary}");
}

#[test]
fn a_port_in_use_is_one_clear_sentence() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let mut config = config(Duration::ZERO);
    config.publish.endpoint = format!("tcp://{}", taken.local_addr().unwrap());
    let (model, null) = two_units();
    let error = Run::start(&config, vec![replay(100, Pace::AsFast)], model, &null, Arc::default())
        .err()
        .unwrap();
    let expected = format!("endpoint {} is already in use", config.publish.endpoint);
    assert!(error.to_string().starts_with(&expected), "{error}");
}

#[test]
fn sources_and_models_that_do_not_fit_are_refused() {
    let (model, null) = two_units();
    let stranger = RecordedSpikes {
        unit_ids: vec!["x".to_string(); 3].into(),
        ..recorded(10)
    };
    let source = Box::new(Replay::new("test", stranger, 0, 10 * MS, Pace::AsFast, MS).unwrap());
    let error = Run::start(&config(Duration::ZERO), vec![source], model, &null, Arc::default())
        .err()
        .unwrap();
    assert!(error.to_string().contains("none of the source's units"), "{error}");
    let (model, _) = two_units();
    let short = NullModel {
        log_rates: vec![0.0],
        last_bin_ns: BIN,
    };
    let error = Run::start(
        &config(Duration::ZERO),
        vec![replay(10, Pace::AsFast)],
        model,
        &short,
        Arc::default(),
    )
    .err()
    .unwrap();
    assert!(
        error.to_string().contains("1 mean rates were given for 2 units"),
        "{error}"
    );
}

/// What a [`Faulty`] model does with a window.
#[derive(Clone, Copy)]
enum Fault {
    Fails,
    NotANumber,
    TakesThreeBins,
    /// Once: more bins than there are slots.
    TakesFortyBinsOnce,
}

/// The mean-rate model with a fault at every tenth window.
struct Faulty(MeanRate, Fault, u64);

impl Predictor for Faulty {
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
        "faulty".into()
    }
    fn max_spikes(&self) -> usize {
        self.0.max_spikes()
    }
    fn predict(&mut self, times_s: &[f64], units: &[u32], log_rates: &mut [f32]) -> Result<(), PredictError> {
        self.2 += 1;
        self.0.predict(times_s, units, log_rates)?;
        log_rates[0] = self.2 as f32;
        if self.2.is_multiple_of(10) {
            match self.1 {
                Fault::Fails => return Err(PredictError("test".into())),
                Fault::NotANumber => log_rates[1] = f32::NAN,
                Fault::TakesThreeBins => std::thread::sleep(Duration::from_nanos(3 * BIN as u64)),
                Fault::TakesFortyBinsOnce if self.2 == 10 => std::thread::sleep(Duration::from_nanos(40 * BIN as u64)),
                Fault::TakesFortyBinsOnce => {}
            }
        }
        Ok(())
    }
}

fn faulty(fault: Fault) -> (Box<dyn Predictor>, NullModel) {
    let (_, null) = two_units();
    let model = MeanRate::new(ids(2), SHAPE, &null.log_rates, "test").unwrap();
    (Box::new(Faulty(model, fault, 0)), null)
}

/// A run of 100 bins with a fault, by the clock: what was received of it, and its summary.
fn by_the_clock(fault: Fault) -> (Vec<(MessageHeader, Vec<f32>)>, RunSummary) {
    let mut config = config(Duration::from_secs(10));
    config.publish.endpoint = free_endpoint();
    let subscriber = subscribe(&config.publish.endpoint, 99);
    let run = start(&config, replay(2_000, Pace::Clocked(1.0)), faulty(fault));
    let received = subscriber.join().unwrap();
    let summary = run.join();
    check_balance(&summary);
    (received, summary)
}

#[test]
fn a_stall_of_more_bins_than_there_are_slots_costs_none() {
    let (received, summary) = by_the_clock(Fault::TakesFortyBinsOnce);
    assert_eq!(
        (summary.bins.published, summary.bins.without_slot, received.len()),
        (96, 0, 96),
        "{summary}"
    );
    assert!(summary.bins.stood_in >= 36, "{summary}");
    for pair in received.windows(2) {
        assert_eq!(pair[1].0.bin_index, pair[0].0.bin_index + 1);
    }
}

#[test]
fn a_model_that_fails_gives_neutral_predictions_that_say_so() {
    for fault in [Fault::Fails, Fault::NotANumber] {
        let mut config = config(Duration::from_secs(10));
        config.publish.endpoint = free_endpoint();
        let subscriber = subscribe(&config.publish.endpoint, 99);
        let summary = start(&config, replay(2_000, Pace::AsFast), faulty(fault)).join();
        check_balance(&summary);
        let received = subscriber.join().unwrap();
        assert_eq!(
            (summary.bins.neutral, summary.bins.model_failed, summary.bins.full),
            (9, 9, 87)
        );
        for (position, (header, array)) in received.iter().enumerate() {
            let failed = (position + 1).is_multiple_of(10);
            assert_eq!(header.flags & (flags::NEUTRAL | flags::MODEL_FAILED) != 0, failed);
            let first = if failed {
                (20f64 / 3.0).ln() as f32
            } else {
                (position + 1) as f32
            };
            assert_eq!(array[0], first);
        }
    }
}

#[test]
fn a_slow_model_gives_held_predictions_that_say_so_and_no_gap() {
    let (received, summary) = by_the_clock(Fault::TakesThreeBins);
    assert_eq!((summary.bins.published, received.len()), (96, 96));
    assert!(summary.bins.held >= 5 && summary.bins.stood_in >= 5, "{summary}");
    assert!(summary.bins.superseded >= 5, "{summary}");
    let mean = received[0].1[1];
    let mut newest = 0.0;
    for (before, after) in received.iter().zip(&received[1..]) {
        assert_eq!(after.0.sequence, before.0.sequence + 1);
        assert_eq!(after.0.bin_index, before.0.bin_index + 1);
        let (flags, first) = (after.0.flags, after.1[0]);
        if flags & flags::STUCK != 0 {
            // The slow prediction was not waited for.
            assert_eq!(
                flags & (flags::NEUTRAL | flags::SKIPPED),
                flags::NEUTRAL | flags::SKIPPED
            );
            assert!(after.1.iter().all(|&rate| rate == mean));
            continue;
        }
        // The model numbers what it makes: what is held is the newest, even if it came too late to be published itself.
        assert!(first >= newest, "{first} after {newest}");
        if flags & flags::HELD != 0 {
            assert_ne!(flags & flags::SKIPPED, 0);
            assert!(first == newest || first % 10.0 == 0.0, "{first} after {newest}");
        }
        newest = first;
    }
    // Nobody waits longer than twice the deadline, and what a busy machine adds to it.
    let waited = received.iter().filter(|(header, _)| header.flags & flags::STUCK != 0);
    assert!(waited.count() >= 5);
}

#[test]
fn a_subscriber_that_hangs_is_counted_and_the_others_miss_nothing() {
    // 200 messages of 1 MB a second: the sockets' own buffers are soon full, and the mark of 100 after half a second more.
    let shape = WindowShape {
        horizon_bins: 1_000,
        ..SHAPE
    };
    let rates = vec![0.0; 256];
    let model = MeanRate::new(ids(256), shape, &rates, "test").unwrap();
    let mut config = config(Duration::from_secs(10));
    config.publish.high_water_mark = 100;
    config.publish.endpoint = free_endpoint();
    let context = zmq::Context::new();
    let hanging = context.socket(zmq::SUB).unwrap();
    hanging.set_rcvhwm(1).unwrap();
    hanging.connect(&config.publish.endpoint).unwrap();
    hanging.set_subscribe(b"prediction").unwrap();
    let other = subscribe(&config.publish.endpoint, 299);
    let model = (
        Box::new(model) as Box<dyn Predictor>,
        NullModel {
            log_rates: rates,
            last_bin_ns: BIN,
        },
    );
    let run = start(&config, replay(6_000, Pace::Clocked(4.0)), model);
    let received = other.join().unwrap();
    let summary = run.join();
    check_balance(&summary);
    assert!(summary.bins.subscriber_overflows > 0, "{summary}");
    assert!(received
        .iter()
        .any(|(header, _)| header.flags & flags::PUBLICATION_LOST != 0));
    for pair in received.windows(2) {
        assert_eq!(pair[1].0.sequence, pair[0].0.sequence + 1);
    }
}

/// A source that fails after a while, or delivers late.
struct Odd {
    units: Vec<String>,
    step: i64,
    fails: bool,
}

impl Source for Odd {
    fn name(&self) -> &str {
        "odd"
    }
    fn unit_ids(&self) -> &[String] {
        &self.units
    }
    fn pace(&self) -> Pace {
        Pace::AsFast
    }
    fn start_ns(&self) -> i64 {
        0
    }
    fn end_ns(&self) -> Option<i64> {
        None
    }
    fn start(&mut self, _host_ns: i64) {}
    fn poll(&mut self, now_ns: i64, sink: &mut dyn EventSink) -> Result<Poll, SourceError> {
        self.step += 1;
        if self.step == 20 {
            if self.fails {
                return Err(SourceError::Failed {
                    name: "odd".into(),
                    problem: "the cable was pulled".into(),
                });
            }
            return Ok(Poll::Finished);
        }
        // One spike in time, and from the second bin on one that is a whole bin late.
        let begin = (self.step - 1) * BIN;
        sink.spikes(&[
            SpikeEvent::spike(begin + 5, 0),
            SpikeEvent::spike((begin - BIN + 5).max(0), 1),
        ]);
        sink.clock(begin + BIN, now_ns);
        Ok(Poll::Again)
    }
}

#[test]
fn late_spikes_are_counted_and_flagged() {
    let mut config = config(Duration::from_secs(10));
    config.publish.endpoint = free_endpoint();
    let subscriber = subscribe(&config.publish.endpoint, 18);
    let summary = start(
        &config,
        Box::new(Odd {
            units: ids(2),
            step: 0,
            fails: false,
        }),
        two_units(),
    )
    .join();
    check_balance(&summary);
    let received = subscriber.join().unwrap();
    // The decode thread takes what lies in the ring before it closes a bin, so a late spike may still find its bin open.
    let spikes = summary.spikes;
    assert_eq!((spikes.offered, spikes.late + spikes.binned), (38, 38));
    let announced: u32 = received.iter().map(|(header, _)| header.spikes_late).sum();
    assert_eq!(u64::from(announced), spikes.late);
    for (header, _) in &received {
        assert_eq!(header.flags & flags::SPIKES_LATE != 0, header.spikes_late > 0);
    }
}

#[test]
fn a_source_that_fails_ends_the_run_and_is_named() {
    let run = start(
        &config(Duration::ZERO),
        Box::new(Odd {
            units: ids(2),
            step: 0,
            fails: true,
        }),
        two_units(),
    );
    assert!(run.wait(Duration::from_secs(20)));
    let live: LiveSnapshot = run.live();
    assert_eq!(live.state, RunState::Fatal);
    let summary = run.join();
    assert_eq!((summary.outcome, summary.bins.closed), (Outcome::Failed, 19));
    assert_eq!(summary.failures, ["source odd failed: the cable was pulled"]);
    assert!(summary.imbalances.is_empty(), "{:?}", summary.imbalances);
}

#[test]
fn a_stop_while_waiting_for_a_subscriber_ends_the_run() {
    let stop = Arc::new(AtomicBool::new(false));
    let stopper = std::thread::spawn({
        let stop = stop.clone();
        move || {
            std::thread::sleep(Duration::from_millis(100));
            stop.store(true, Relaxed);
        }
    });
    let (model, null) = two_units();
    let source = replay(60_000, Pace::Clocked(1.0));
    let run = Run::start(&config(Duration::from_secs(600)), vec![source], model, &null, stop).unwrap();
    let summary = run.join();
    stopper.join().unwrap();
    assert_eq!((summary.outcome, summary.bins.published), (Outcome::Stopped, 0));
}
