//! The publish thread: stamps predictions, sends them on both endpoints, scores them, and says `hello` each second.
//!
//! `send` costs several µs and makes system calls, so it has a thread of its own. Scoring happens here too, after the
//! send. Nothing of ours is formatted or allocated here but `hello`, once a second, between two predictions; what ZeroMQ does
//! to hand a message to its own thread (a copy of it, a wake-up, now and then its mailbox's lock) is ZeroMQ's.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use ringbuf::traits::Consumer;
use ringbuf::HeapCons;
use serde_json::{Map, Value};

use super::carried::Carried;
use super::clock::{monotonic_ns, use_precise_timers, wait_for};
use super::deadline::Deadline;
use super::exchange::ModelNote;
use super::guard::Guard;
use super::hand_over::{next, Next};
use super::hello;
use super::live::{Live, RunState};
use super::message::{flags, MessageHeader, PREDICTION_TOPIC};
use super::output::{OutputCounts, OutputSpec, OutputTopic, STAND_IN};
use super::score::{OnlineScore, ScoreReport};
use super::slot::{Announced, PredictionSlot, SlotEmptier};
use super::socket::{EveryEndpoint, LatestEndpoint, PublishError, Sent};
use super::sources::{SourceView, WayBackCounts, WaysBack};
use super::stats::Latency;
use super::switch::StopCause;
use super::tap::PublishTap;
use super::watch::Watch;

/// Time between two `hello` messages and two updates of the live figures, ns.
const HELLO_EVERY_NS: i64 = 1_000_000_000;
const LIVE_EVERY_NS: i64 = 200_000_000;
/// Sleep between two looks at a full subscriber, where nothing runs by the clock.
const FULL_SUBSCRIBER_WAIT: Duration = Duration::from_micros(100);
/// A subscriber that takes nothing for so long, ns, loses the message even where nothing runs by the clock.
const FULL_SUBSCRIBER_PATIENCE_NS: i64 = 10_000_000_000;
/// Predictions without a fault after which a degraded run is running again.
const GOOD_AGAIN: u32 = 50;
/// Flags that make a run degraded.
const FAULTS: u32 = flags::MISSED_DEADLINE
    | flags::SPIKES_REFUSED
    | flags::HELD
    | flags::NEUTRAL
    | flags::MODEL_FAILED
    | flags::PUBLICATION_LOST
    | flags::SAMPLES_LOST
    | flags::SOURCE_AWAY
    | flags::SPIKES_LOST
    | flags::RECORDING_LOST
    | flags::SHORTENED
    | flags::STUCK
    | flags::LIMITED
    | flags::STOPPED;

/// Where predictions go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishConfig {
    /// Endpoint of every prediction.
    pub endpoint: String,
    /// Endpoint of the latest prediction only; `None`: there is none.
    pub latest_endpoint: Option<String>,
    /// Messages kept for a slow subscriber. Below 1000 ZeroMQ loses messages even of quick ones.
    pub high_water_mark: i32,
    /// How long to wait for a subscriber before the run starts; zero: do not wait.
    pub wait_for_subscriber: Duration,
}

impl PublishConfig {
    /// Every prediction on this endpoint, the latest on none; nobody is waited for.
    pub fn at(endpoint: &str) -> Self {
        Self {
            endpoint: endpoint.into(),
            latest_endpoint: None,
            high_water_mark: 1_000,
            wait_for_subscriber: Duration::ZERO,
        }
    }
}

/// What the publish thread counted.
pub(crate) struct PublishCounts {
    pub published: u64,
    pub missed: u64,
    /// Published for the decode thread, and predictions of it that came after that.
    pub stood_in: u64,
    pub superseded: u64,
    /// With a unit's rate limited, and with mean rates because predictions were stopped.
    pub limited: u64,
    pub stopped: u64,
    pub subscriber_overflows: u64,
    pub outputs: Vec<OutputCounts>,
    pub ways_back: Vec<WayBackCounts>,
    pub close_to_publish: Latency,
    pub decode: Latency,
    pub ingest_to_decode: Latency,
    pub handover: Latency,
    pub score: ScoreReport,
}

/// The bound endpoints and all that is counted.
pub(crate) struct Publisher {
    every: EveryEndpoint,
    latest: Option<LatestEndpoint>,
    tap: Option<PublishTap>,
    outputs: Vec<OutputTopic>,
    sources: Vec<SourceView>,
    ways_back: WaysBack,
    hello: Map<String, Value>,
    live: Arc<Live>,
    stop: Arc<AtomicBool>,
    guard: Guard,
    /// Why predictions were stopped when `hello` was last said.
    stopped_by: Option<StopCause>,
    /// Models that will predict, or do already; and those of them that have been taken from there.
    models: HeapCons<ModelNote>,
    known: Vec<ModelNote>,
    /// Of the model whose prediction was published last, and of the one that `hello` last spoke of.
    model_hash: u64,
    told_hash: u64,
    /// As the parameters have it for this bin.
    deadline: Deadline,
    score: OnlineScore,
    epoch: u64,
    sequence: u64,
    hello_sequence: u64,
    next_hello_ns: i64,
    next_live_ns: i64,
    good_for: u32,
    lost_before: bool,
    missed: u64,
    stand_ins: u64,
    watch: Watch,
    /// The mean rates in every bin, for bins that the decode thread is stuck in or had no slot for.
    stand_in: Option<Box<PredictionSlot>>,
    /// Its log rates as they were: limits are put on what it holds.
    mean_rates: Box<[f32]>,
    stood_in: u64,
    superseded: u64,
    carried: Carried,
    subscriber_overflows: u64,
    close_to_publish: Latency,
    decode: Latency,
    ingest_to_decode: Latency,
    handover: Latency,
}

/// The addresses that the endpoints really have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BoundEndpoints {
    /// Of every prediction.
    pub every: String,
    /// Of the latest only.
    pub latest: Option<String>,
}

impl Publisher {
    /// Binds the endpoints.
    pub fn bind(
        config: &PublishConfig,
        hello: Map<String, Value>,
        outputs: &[OutputSpec],
        (sources, ways_back): (Vec<SourceView>, WaysBack),
        (live, stop): (Arc<Live>, Arc<AtomicBool>),
        (guard, models): (Guard, HeapCons<ModelNote>),
        (watch, stand_in, score): (Watch, Box<PredictionSlot>, OnlineScore),
    ) -> Result<(Self, BoundEndpoints), PublishError> {
        let context = zmq::Context::new();
        let (every, every_at) = EveryEndpoint::bind(&context, &config.endpoint, config.high_water_mark)?;
        let latest = match &config.latest_endpoint {
            Some(endpoint) => Some(LatestEndpoint::bind(&context, endpoint, config.high_water_mark)?),
            None => None,
        };
        let (latest, latest_at) = latest.unzip();
        let epoch = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |time| time.as_nanos() as u64);
        let publisher = Self {
            every,
            latest,
            tap: None,
            outputs: outputs.iter().map(OutputTopic::new).collect(),
            sources,
            ways_back,
            hello,
            live,
            stop,
            stopped_by: guard.switch.cause(),
            models,
            known: Vec::new(),
            model_hash: stand_in.header.model_hash,
            told_hash: stand_in.header.model_hash,
            deadline: guard.parameters.deadline(),
            guard,
            score,
            epoch,
            sequence: 0,
            hello_sequence: 0,
            next_hello_ns: 0,
            next_live_ns: 0,
            good_for: 0,
            lost_before: false,
            missed: 0,
            stand_ins: 0,
            watch,
            mean_rates: stand_in.log_rates.clone(),
            stand_in: Some(stand_in),
            stood_in: 0,
            superseded: 0,
            carried: Carried::default(),
            subscriber_overflows: 0,
            close_to_publish: Latency::default(),
            decode: Latency::default(),
            ingest_to_decode: Latency::default(),
            handover: Latency::default(),
        };
        Ok((
            publisher,
            BoundEndpoints {
                every: every_at,
                latest: latest_at,
            },
        ))
    }

    /// Everything that is published goes into this tap too.
    pub fn record_to(&mut self, tap: PublishTap) {
        self.tap = Some(tap);
    }

    /// Tells this start of the publisher from every other.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// Whether a subscriber of predictions or of an output has come.
    fn is_asked_for(&self) -> Result<bool, zmq::Error> {
        let outputs = self.outputs.iter().map(|output| output.counts.topic.as_str());
        let topics = outputs.chain([PREDICTION_TOPIC]);
        let mut asked = false;
        self.every.read_subscriptions(|prefix| {
            asked |= topics.clone().any(|topic| topic.as_bytes().starts_with(prefix));
        })?;
        Ok(asked)
    }

    /// Waits for a subscriber of predictions or of an output, at most `patience` or until the run is stopped; says `hello` meanwhile.
    pub fn wait_for_subscriber(&mut self, patience: Duration) -> Result<(), PublishError> {
        let until_ns = monotonic_ns() + patience.as_nanos() as i64;
        while monotonic_ns() < until_ns && !self.stop.load(Relaxed) {
            if self.is_asked_for()? {
                // Whoever has just come gets a `hello` before the first prediction.
                self.next_hello_ns = 0;
                break;
            }
            self.say_hello()?;
            std::thread::sleep(Duration::from_millis(5));
        }
        Ok(())
    }

    /// Publishes until the decode thread has ended and every slot is empty.
    pub fn run(mut self, mut slots: SlotEmptier) -> Result<PublishCounts, PublishError> {
        use_precise_timers();
        loop {
            self.say_hello()?;
            let patience_ns = self.guard.parameters.stuck_after_ns();
            let patience_ns = patience_ns.filter(|_| !self.stop.load(Relaxed));
            let late = || Some((monotonic_ns(), patience_ns?));
            match next(&mut slots, &mut self.watch, &self.live.pulse, late) {
                Next::Publish(mut slot) => {
                    while let Some(bin) = self.watch.left_out(slot.header.bin_index) {
                        self.stand_in(bin, flags::NEUTRAL | flags::SKIPPED)?;
                    }
                    self.publish(&mut slot)?;
                    self.score
                        .push(slot.header.bin_index, &slot.counts, &slot.early_counts, &slot.log_rates);
                    slots.give_back(slot);
                }
                Next::Superseded(slot) => {
                    self.carried.add(&slot.header);
                    self.superseded += 1;
                    slots.give_back(slot);
                }
                Next::StandIn(bin) => self.stand_in(bin, flags::NEUTRAL | flags::SKIPPED | flags::STUCK)?,
                Next::Wait(expected) => {
                    std::thread::sleep(wait_for(monotonic_ns(), expected));
                    continue;
                }
                Next::Finished => break,
            }
            self.tell();
        }
        self.next_live_ns = 0;
        self.tell();
        Ok(PublishCounts {
            published: self.sequence,
            missed: self.missed,
            stood_in: self.stood_in,
            superseded: self.superseded,
            limited: self.guard.limited,
            stopped: self.guard.stopped,
            subscriber_overflows: self.subscriber_overflows,
            outputs: self.outputs.into_iter().map(|output| output.counts).collect(),
            ways_back: self.ways_back.into_counts(),
            close_to_publish: self.close_to_publish,
            decode: self.decode,
            ingest_to_decode: self.ingest_to_decode,
            handover: self.handover,
            score: self.score.report(),
        })
    }

    /// Publishes the mean rates for a bin that the decode thread is stuck in, or had no slot for.
    fn stand_in(&mut self, bin: Announced, flags: u32) -> Result<(), PublishError> {
        let now_ns = monotonic_ns();
        // It is out of its place while it is published.
        let Some(mut slot) = self.stand_in.take() else {
            return Ok(());
        };
        slot.log_rates.copy_from_slice(&self.mean_rates);
        slot.header = MessageHeader {
            flags,
            ..MessageHeader::new(self.model_hash, slot.header.bins as usize, slot.header.units as usize)
        };
        slot.header.bin_index = bin.bin_index;
        slot.header.bin_end_ns = bin.bin_end_ns;
        slot.header.ingest_ns = self.live.pulse.alive_ns();
        (slot.header.decode_start_ns, slot.header.decode_end_ns) = (now_ns, now_ns);
        slot.close_ns = bin.close_ns;
        let published = self.publish(&mut slot);
        self.stand_in = Some(slot);
        self.stood_in += 1;
        published
    }

    fn publish(&mut self, slot: &mut PredictionSlot) -> Result<(), PublishError> {
        self.watch.published(Announced {
            bin_index: slot.header.bin_index,
            bin_end_ns: slot.header.bin_end_ns,
            close_ns: slot.close_ns,
        });
        self.deadline = self.guard.parameters.deadline();
        self.guard.look(slot, monotonic_ns());
        self.model_hash = slot.header.model_hash;
        let header = &mut slot.header;
        std::mem::take(&mut self.carried).give_to(header);
        let of_bin = header.flags;
        header.epoch = self.epoch;
        header.sequence = self.sequence;
        self.sequence += 1;
        if std::mem::take(&mut self.lost_before) {
            header.flags |= flags::PUBLICATION_LOST;
        }
        header.flags |= self.tap.as_mut().map_or(0, PublishTap::flags);
        header.publish_ns = monotonic_ns();
        if self.deadline.is_missed(slot.close_ns, header.publish_ns) {
            header.flags |= flags::MISSED_DEADLINE;
            self.missed += 1;
        }
        let numbers = header.bins as usize * header.units as usize;
        let (head, array) = (
            bytemuck::bytes_of(header),
            bytemuck::cast_slice(&slot.log_rates[..numbers]),
        );
        let parts = [PREDICTION_TOPIC.as_bytes(), head, array];
        if self.send(&parts)? == Sent::SomeoneIsFull {
            self.every.send_to_those_with_room(&parts)?;
            self.subscriber_overflows += 1;
            self.lost_before = true;
        }
        if let Some(latest) = &mut self.latest {
            latest.send(head, array)?;
        }
        self.ways_back.send(head, array);
        if let Some(tap) = &mut self.tap {
            tap.prediction(head, array);
        }
        self.stand_ins += u64::from(header.flags & STAND_IN != 0);
        self.close_to_publish.record(header.publish_ns - slot.close_ns);
        self.decode.record(header.decode_end_ns - header.decode_start_ns);
        self.ingest_to_decode.record(header.decode_start_ns - header.ingest_ns);
        self.handover.record(header.publish_ns - header.decode_end_ns);
        let of_outputs = self.publish_outputs(slot, of_bin)?;
        self.good_for = if (slot.header.flags | of_outputs) & FAULTS == 0 {
            self.good_for.saturating_add(1)
        } else {
            0
        };
        if self.good_for == 0 {
            self.live.set_state(RunState::Degraded);
        } else if self.good_for == GOOD_AGAIN {
            self.live.set_state(RunState::Running);
        }
        Ok(())
    }

    /// Publishes a slot's outputs after its prediction; `of_bin` are the flags that the decode thread gave that. Returns the
    /// flags of all of them.
    fn publish_outputs(&mut self, slot: &PredictionSlot, of_bin: u32) -> Result<u32, PublishError> {
        let mut all = 0;
        for (index, output) in slot.outputs.iter().enumerate() {
            let topic = &mut self.outputs[index];
            let mut header = topic.next_header(&slot.header, of_bin, output.flags);
            header.publish_ns = monotonic_ns();
            if self.deadline.is_missed(slot.close_ns, header.publish_ns) {
                header.flags |= flags::MISSED_DEADLINE;
            }
            all |= header.flags;
            let (head, array) = (bytemuck::bytes_of(&header), bytemuck::cast_slice(&output.array));
            let parts = [self.outputs[index].counts.topic.as_bytes(), head, array];
            if self.send(&parts)? == Sent::SomeoneIsFull {
                self.every.send_to_those_with_room(&parts)?;
                self.outputs[index].lost();
            }
            if let Some(tap) = &mut self.tap {
                tap.output(index, head, array);
            }
        }
        Ok(all)
    }

    /// Sends; where nothing runs by the clock, waits for a full subscriber, as a source waits for a full ring.
    fn send(&self, parts: &[&[u8]]) -> Result<Sent, zmq::Error> {
        let until_ns = monotonic_ns() + FULL_SUBSCRIBER_PATIENCE_NS;
        loop {
            let sent = self.every.send(parts)?;
            let waits = self.deadline.budget_ns.is_none() && !self.stop.load(Relaxed) && monotonic_ns() < until_ns;
            if sent == Sent::ToAll || !waits {
                return Ok(sent);
            }
            std::thread::sleep(FULL_SUBSCRIBER_WAIT);
        }
    }

    fn say_hello(&mut self) -> Result<(), PublishError> {
        let now_ns = monotonic_ns();
        let stopped_by = self.guard.switch.cause();
        // A stop, its end, and another model are told at once.
        let news = stopped_by != self.stopped_by || self.model_hash != self.told_hash;
        if now_ns >= self.next_hello_ns || news {
            self.next_hello_ns = now_ns + HELLO_EVERY_NS;
            self.stopped_by = stopped_by;
            self.tell_model();
            self.every.read_subscriptions(|_| {})?;
            let json = hello::message(
                &self.hello,
                (&self.live, &self.sources),
                stopped_by,
                self.epoch,
                self.hello_sequence,
                now_ns,
            );
            self.every.send_hello(&json)?;
            self.hello_sequence += 1;
        }
        Ok(())
    }

    /// Has `hello` speak of the model that predicts. Several may have taken one another's place since it was last said.
    fn tell_model(&mut self) {
        self.known.extend(self.models.pop_iter());
        if let Some(place) = self.known.iter().rposition(|model| model.hash == self.model_hash) {
            hello::set_model(&mut self.hello, &self.known[place]);
            self.known.drain(..=place);
        }
        self.told_hash = self.model_hash;
    }

    fn tell(&mut self) {
        self.live.published.store(self.sequence, Relaxed);
        self.live.missed.store(self.missed, Relaxed);
        self.live.stand_ins.store(self.stand_ins, Relaxed);
        let now_ns = monotonic_ns();
        if now_ns >= self.next_live_ns {
            self.next_live_ns = now_ns + LIVE_EVERY_NS;
            self.live
                .latency_p50_ns
                .store(self.close_to_publish.quantile_ns(0.5), Relaxed);
            self.live
                .latency_p99_ns
                .store(self.close_to_publish.quantile_ns(0.99), Relaxed);
            self.live.set_bits_per_spike(self.score.bits_per_spike());
        }
    }
}

impl PublishCounts {
    /// What is known of a publisher that failed after `published` predictions.
    pub fn none(published: u64) -> Self {
        Self {
            published,
            missed: 0,
            stood_in: 0,
            superseded: 0,
            limited: 0,
            stopped: 0,
            subscriber_overflows: 0,
            outputs: Vec::new(),
            ways_back: Vec::new(),
            close_to_publish: Latency::default(),
            decode: Latency::default(),
            ingest_to_decode: Latency::default(),
            handover: Latency::default(),
            score: OnlineScore::new(1, &[], false).report(),
        }
    }
}
