//! A run: the threads, their rings, their states, and the summary at the end.

use std::convert::Infallible;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError};

use super::bin::{BinAssembler, BinConfig};
use super::clock::{monotonic_ns, use_precise_timers};
use super::decode::{DecodeCounts, Decoder};
use super::exchange::{model_exchange, ModelNote};
use super::guard::Guard;
use super::handle::RunHandle;
use super::hello;
use super::live::{Live, LiveSnapshot, RunState};
use super::message::flags;
use super::modalities::Modalities;
use super::parameters::Parameters;
use super::plan::{check, longest_entry, Attached, NullModel, RunConfig, RunError};
use super::predictor::Predictor;
use super::publish::{BoundEndpoints, PublishCounts, Publisher};
use super::ring::{event_ring, EventWriter, RingCounters, WhenFull};
use super::score::OnlineScore;
use super::slot::{prediction_slots, PredictionSlot};
use super::socket::PublishError;
use super::sources::{SourceView, SourceWatch, WaysBack};
use super::summary::{imbalances, BinBalance, Latencies, Outcome, RunSummary, SpikeBalance};
use super::watch::Watch;
use crate::acquire::{Pace, Poll, SampledSeries, Source};
use crate::realtime::{self, Role, SetUp};

/// Predictions that may wait for the publisher.
const SLOTS: usize = 32;
/// Longest sleep of a source thread, so that it sees a stop in time.
const LONGEST_SOURCE_SLEEP_NS: i64 = 50_000_000;
/// Between the start of the threads and device time 0 of the run, ns: time for the threads to come up.
const LEAD_NS: i64 = 5_000_000;

enum SourceEnd {
    Finished,
    Stopped,
    Failed(String),
}

/// A run that goes on.
pub struct Run {
    handle: Arc<RunHandle>,
    endpoints: BoundEndpoints,
    sources: Vec<(JoinHandle<SourceEnd>, Arc<RingCounters>)>,
    decoder: JoinHandle<DecodeCounts>,
    publisher: JoinHandle<Result<PublishCounts, PublishError>>,
    finished: Receiver<Infallible>,
    start_ns: i64,
    host_start_ns: i64,
    known_units: usize,
    not_delivered: Vec<String>,
    set_up: SetUp,
    series: Vec<SampledSeries>,
}

impl Run {
    /// Takes every buffer, binds the endpoints, waits for a subscriber where that is asked for, and starts.
    ///
    /// The run ends when its sources do or when `stop` is set (by a signal, say).
    ///
    /// # Errors
    /// One sentence about what does not fit, or which endpoint cannot be bound.
    pub fn start(
        config: &RunConfig,
        sources: Vec<Box<dyn Source>>,
        predictor: Box<dyn Predictor>,
        null: &NullModel,
        stop: Arc<AtomicBool>,
    ) -> Result<Self, RunError> {
        Self::start_with(config, sources, predictor, null, stop, Attached::default())
    }

    /// The same, recorded or fed from a recording.
    ///
    /// # Errors
    /// As [`Run::start`].
    pub fn start_with(
        config: &RunConfig,
        mut sources: Vec<Box<dyn Source>>,
        mut predictor: Box<dyn Predictor>,
        null: &NullModel,
        stop: Arc<AtomicBool>,
        attached: Attached,
    ) -> Result<Self, RunError> {
        let outputs = predictor.outputs();
        check(config, &sources, predictor.as_ref(), null, &outputs).map_err(RunError::Setup)?;
        let live = Arc::new(Live::new());
        let as_fast = sources[0].pace() == Pace::AsFast;
        let set_up = SetUp::begin(&config.realtime, !as_fast);
        set_up.compute_threads().set_up(&predictor.worker_threads());
        let bin_ns = predictor.bin_ns();
        let deadline_ns = (!as_fast).then(|| config.deadline_ns.unwrap_or(bin_ns));
        let stuck_after_ns = deadline_ns.map(|deadline| config.stuck_after_ns.unwrap_or(2 * deadline));
        if let (Some(stuck_after), Some(deadline)) = (stuck_after_ns, deadline_ns) {
            if stuck_after < deadline {
                let [stuck_after, deadline] = [stuck_after, deadline].map(|ns| ns as f64 / 1e6);
                return Err(RunError::Setup(format!(
                    "pipeline.stuck_after_ms = {stuck_after} is before pipeline.deadline_ms = {deadline}"
                )));
            }
        }
        let guards = &config.guard;
        let parameters = Arc::new(Parameters::new(
            deadline_ns,
            stuck_after_ns,
            guards.most_rate_hz,
            guards.heartbeat_ns,
        ));
        let switch = attached.switch.unwrap_or_else(|| config.switch());
        let guard = Guard::new(
            guards,
            predictor.unit_ids(),
            predictor.horizon_bins(),
            (bin_ns, null.last_bin_ns),
            &null.log_rates,
            (parameters.clone(), switch.clone()),
        )
        .map_err(RunError::Setup)?;
        let (models, exchange, notes) = model_exchange(predictor.as_ref(), null.last_bin_ns);
        let bin_config = BinConfig {
            start_ns: config.start_ns,
            bin_ns,
            history_ns: predictor.history_ns(),
            grace_ns: config.grace_ns,
            early_ns: null.last_bin_ns - bin_ns,
            window_spikes: predictor.max_spikes(),
            pending_spikes: config.ring_events,
        };
        let units = predictor.unit_ids().len();
        let mut bins = BinAssembler::new(bin_config, units);
        let when_full = if as_fast { WhenFull::Wait } else { WhenFull::Refuse };
        let (mut writers, mut counters) = (Vec::new(), Vec::new());
        let mut known_units = 0;
        if sources.len() > 1 {
            sources.iter_mut().for_each(|source| source.share_time());
        }
        let views: Vec<SourceView> = sources.iter().map(|source| SourceView::of(source.as_ref())).collect();
        let ways_back = WaysBack::of(&mut sources);
        for source in &sources {
            let (writer, reader) = event_ring(config.ring_events, when_full, stop.clone());
            writers.push(writer);
            counters.push(reader.counters().clone());
            known_units += bins.add_source(reader, source.pace(), source.unit_ids(), predictor.unit_ids());
        }
        if known_units == 0 {
            return Err(RunError::Setup(format!(
                "none of the source's units ({}, …) is a unit of the model ({}, …)",
                sources[0].unit_ids().first().map_or("none", String::as_str),
                predictor.unit_ids()[0]
            )));
        }
        let modalities = Modalities::new(
            predictor.network_config(),
            &sources,
            &mut writers,
            attached.taps.is_some(),
        )
        .map_err(RunError::Setup)?;
        let series = modalities.series().to_vec();
        let not_delivered = modalities.sources().filter(|(_, source)| source.is_none());
        let not_delivered = not_delivered.map(|(series, _)| series.to_string()).collect();
        let shape = (predictor.horizon_bins(), units);
        let (filler, emptier) = prediction_slots(SLOTS, predictor.model_hash(), shape, &outputs);
        let mut stand_in = PredictionSlot::new(predictor.model_hash(), shape, &outputs);
        for row in stand_in.log_rates.chunks_exact_mut(units) {
            row.iter_mut()
                .zip(&null.log_rates)
                .for_each(|(to, &rate)| *to = rate as f32);
        }
        for output in &mut stand_in.outputs {
            output.flags = flags::NEUTRAL;
        }
        let speed = match sources[0].pace() {
            Pace::Clocked(speed) => speed,
            Pace::AsFast => 1.0,
        };
        let ends: Option<Vec<i64>> = sources.iter().map(|source| source.end_ns()).collect();
        let end_ns = ends.and_then(|ends| ends.into_iter().max());
        let watch = Watch::new((bin_ns, (bin_ns as f64 / speed) as i64), end_ns);
        let score = OnlineScore::new(predictor.horizon_bins(), &null.log_rates, null.last_bin_ns > bin_ns);
        let hello = hello::fixed_part(predictor.as_ref(), &outputs, &modalities, null.last_bin_ns);
        let model = ModelNote::of(predictor.as_ref());
        let threads = realtime::threads::all();
        let (mut publisher, endpoints) = Publisher::bind(
            &config.publish,
            hello,
            &outputs,
            (views.clone(), ways_back),
            (live.clone(), stop.clone()),
            (guard, notes),
            (watch, stand_in, score),
        )?;
        let epoch = publisher.epoch();
        set_up.zeromq_threads(&threads);
        let calibrator = predictor.take_calibrator();
        if let Some(taps) = attached.taps {
            let longest = longest_entry(shape, &outputs, &series);
            let (ingest, publish) = taps.split(when_full, longest);
            bins.record_to(ingest);
            publisher.record_to(publish);
        }
        let decoder = Decoder::new(
            (bins, modalities, SourceWatch::new(&views)),
            (predictor, models),
            parameters.clone(),
            filler,
            live.clone(),
            &null.log_rates,
            &outputs,
        );
        let handle = Arc::new(RunHandle::new(
            (live.clone(), stop.clone()),
            (switch, parameters),
            (exchange, set_up.compute_threads()),
            views,
            (model, units, epoch),
        ));
        let (feed, calibrator) = match attached.feed {
            Some(feed) => (Some((feed, calibrator)), None),
            None => (None, calibrator),
        };
        if let Some(calibrator) = calibrator {
            handle.calibrate_with(calibrator)?;
        }
        live.set_state(RunState::Ready);
        if let Some(before_waiting) = attached.before_waiting {
            before_waiting(handle.clone());
        }
        publisher.wait_for_subscriber(config.publish.wait_for_subscriber)?;
        live.set_state(RunState::Running);

        let named = |name: &str| std::thread::Builder::new().name(name.into());
        // Nothing is ever sent: the channel closes when the publish thread ends.
        let (alive, finished) = crossbeam_channel::bounded(0);
        let publisher = named("publish").spawn({
            let (live, stop) = (live.clone(), stop.clone());
            let plan = set_up.thread(Role::Publish, None);
            move || {
                let _alive = alive;
                let _entered = plan.enter();
                let counts = publisher.run(emptier);
                if counts.is_err() {
                    live.set_state(RunState::Fatal);
                    stop.store(true, Relaxed);
                }
                counts
            }
        })?;
        let plan = set_up.thread(Role::Decode, config.decode_core);
        let decoder = named("decode").spawn(move || {
            let _entered = plan.enter();
            match feed {
                Some((feed, calibrator)) => decoder.replay(feed, calibrator),
                None => decoder.run(),
            }
        })?;
        let host_start_ns = monotonic_ns() + LEAD_NS;
        let mut threads = Vec::new();
        for (source, (writer, counters)) in sources.into_iter().zip(writers.into_iter().zip(counters)) {
            let (live, stop) = (live.clone(), stop.clone());
            let plan = set_up.thread(Role::Source, None);
            let thread = named("source").spawn(move || {
                let _entered = plan.enter();
                run_source(source, writer, host_start_ns, &live, &stop)
            })?;
            threads.push((thread, counters));
        }
        Ok(Self {
            handle,
            endpoints,
            sources: threads,
            decoder,
            publisher,
            finished,
            start_ns: config.start_ns,
            host_start_ns,
            known_units,
            not_delivered,
            set_up,
            series,
        })
    }

    /// What others may ask of this run and tell it, from any thread, until it has been joined and after.
    pub fn handle(&self) -> Arc<RunHandle> {
        self.handle.clone()
    }

    /// The figures so far.
    pub fn live(&self) -> LiveSnapshot {
        self.handle.live()
    }

    /// What was asked of the system so far, and what came of it; none where nothing was asked for.
    pub fn realtime(&self) -> Option<realtime::Report> {
        self.set_up.report()
    }

    /// The addresses of the endpoints.
    pub fn endpoints(&self) -> &BoundEndpoints {
        &self.endpoints
    }

    /// Units of the sources that the model knows.
    pub fn known_units(&self) -> usize {
        self.known_units
    }

    /// The series that recorded samples are numbered by.
    pub fn series(&self) -> &[SampledSeries] {
        &self.series
    }

    /// The series that the network may see beside the spikes, and no source delivers: it is shown nothing of them.
    pub fn not_delivered(&self) -> &[String] {
        &self.not_delivered
    }

    /// Asks the run to end: sources stop, what they delivered is published.
    pub fn stop(&self) {
        self.handle.stop();
    }

    /// Waits until the last prediction is out (or can no longer come), for `most` at the longest. Says whether it is.
    pub fn wait(&self, most: Duration) -> bool {
        matches!(self.finished.recv_timeout(most), Err(RecvTimeoutError::Disconnected))
    }

    /// Waits for the end and sums up.
    pub fn join(self) -> RunSummary {
        let mut failures = Vec::new();
        let published = match self.publisher.join() {
            Ok(Ok(counts)) => Some(counts),
            Ok(Err(error)) => {
                failures.push(error.to_string());
                None
            }
            Err(_) => {
                failures.push("the publish thread panicked".into());
                None
            }
        };
        let wall_s = (monotonic_ns() - self.host_start_ns) as f64 * 1e-9;
        // The publisher is the last to end unless something failed: whatever still runs then has to end too.
        let stopped_before = self.handle.stop.swap(true, Relaxed);
        let decoded = self.decoder.join().unwrap_or_else(|_| {
            failures.push("the decode thread panicked".into());
            DecodeCounts::default()
        });
        let (model, exchanged) = (self.handle.model().description, self.handle.exchanged());
        let calibration = self.handle.calibration_counts();
        self.handle.exchange.close();
        for thread in self.handle.take_calibrators() {
            match thread.join() {
                Ok(Ok(())) => {}
                Ok(Err(error)) => failures.push(error.to_string()),
                Err(_) => failures.push("the calibrator thread panicked".into()),
            }
        }
        let (mut offered, mut ring_refused, mut all_finished) = (0, 0, true);
        for (thread, counters) in self.sources {
            match thread.join() {
                Ok(SourceEnd::Finished) => {}
                Ok(SourceEnd::Stopped) => all_finished = false,
                Ok(SourceEnd::Failed(error)) => failures.push(error),
                Err(_) => failures.push("a source thread panicked".into()),
            }
            offered += counters.offered();
            ring_refused += counters.refused();
        }
        self.handle.live.set_state(if failures.is_empty() {
            RunState::Shutdown
        } else {
            RunState::Fatal
        });
        let outcome = match (failures.is_empty(), stopped_before && !all_finished) {
            (false, _) => Outcome::Failed,
            (true, true) => Outcome::Stopped,
            (true, false) => Outcome::Finished,
        };
        let totals = decoded.totals;
        let spikes = SpikeBalance {
            offered,
            ring_refused,
            received: totals.received,
            binned: totals.binned,
            unknown: totals.unknown,
            before_start: totals.before_start,
            late: totals.late,
            overflowed: totals.overflowed,
            left_open: decoded.pending,
            pushed_out: decoded.pushed_out,
        };
        let published = published.unwrap_or_else(|| PublishCounts::none(self.handle.live().published));
        let bins = BinBalance {
            closed: decoded.bins,
            without_history: decoded.without_history,
            without_slot: decoded.without_slot,
            full: decoded.full,
            shortened: decoded.shortened,
            held: decoded.held,
            neutral: decoded.neutral,
            model_failed: decoded.model_failed,
            calibrating: decoded.calibrating,
            on_standby: decoded.on_standby,
            published: published.published,
            missed_deadline: published.missed,
            stood_in: published.stood_in,
            superseded: published.superseded,
            limited: published.limited,
            stopped: published.stopped,
            subscriber_overflows: published.subscriber_overflows,
        };
        RunSummary {
            outcome,
            failures,
            model,
            exchanged,
            realtime: self.set_up.report(),
            device_failure: self.handle.device_failure().map(str::to_string),
            calibration,
            units: self.handle.units(),
            device_s: (self.handle.live().device_ns - self.start_ns).max(0) as f64 * 1e-9,
            wall_s,
            deadline_ms: self.handle.parameters().values().deadline_ms,
            imbalances: imbalances(&spikes, &bins, &published.outputs, &decoded.modalities),
            spikes,
            bins,
            modalities: decoded.modalities,
            unknown_samples: decoded.unknown_samples,
            outputs: published.outputs,
            sources: self.handle.sources(),
            ways_back: published.ways_back,
            latency: Latencies {
                close_to_publish: published.close_to_publish.summary(),
                ingest_to_decode: published.ingest_to_decode.summary(),
                decode: published.decode.summary(),
                handover: published.handover.summary(),
            },
            score: published.score,
            oracle_fp_bps: None,
            recording: None,
        }
    }
}

/// Pumps a source into its ring until it ends, fails, or the run stops. Dropping the writer tells the decode thread.
fn run_source(
    mut source: Box<dyn Source>,
    mut writer: EventWriter,
    host_start_ns: i64,
    live: &Live,
    stop: &AtomicBool,
) -> SourceEnd {
    use_precise_timers();
    source.start(host_start_ns);
    while !stop.load(Relaxed) {
        let now_ns = monotonic_ns();
        match source.poll(now_ns, &mut writer) {
            Ok(Poll::Again) => {}
            Ok(Poll::Finished) => return SourceEnd::Finished,
            Ok(Poll::WaitUntil(host_ns)) => {
                let wait = (host_ns - now_ns).clamp(0, LONGEST_SOURCE_SLEEP_NS);
                std::thread::sleep(Duration::from_nanos(wait as u64));
            }
            Err(error) => {
                live.set_state(RunState::Fatal);
                stop.store(true, Relaxed);
                return SourceEnd::Failed(error.to_string());
            }
        }
    }
    SourceEnd::Stopped
}
