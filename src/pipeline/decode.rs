//! The decode thread: takes spikes from the rings, closes bins, runs the model, hands predictions to the publisher.
//!
//! From its first bin to its last it allocates nothing (but the text of a device's failure, once at most), takes no lock, and makes
//! no system call but the sleeps of [`super::clock`] (at most 5 ms long, short polls shortly before a bin is due). What the
//! model does inside [`Predictor::predict`] is the model's promise.

pub(super) mod replay;

use std::sync::atomic::Ordering::Relaxed;
use std::sync::Arc;
use std::time::Duration;

use super::bin::{BinAssembler, ClosedBin, IngestTotals};
use super::clock::{monotonic_ns, use_precise_timers, wait_for};
use super::deadline::{Costs, Deadline};
use super::exchange::ModelPort;
use super::hand_over::hand_over;
use super::live::Live;
use super::message::flags;
use super::modalities::{Modalities, ModalityCounts};
use super::output::{HeldOutputs, OutputSpec};
use super::parameters::Parameters;
use super::predictor::Predictor;
use super::slot::{Announced, PredictionSlot, SlotFiller};
use super::sources::SourceWatch;

/// Longest wait for a free slot where bins go by the clock, ns.
const LONGEST_SLOT_WAIT_NS: i64 = 5_000_000;
/// Sleep between looks for a free slot.
const SLOT_WAIT: Duration = Duration::from_micros(50);

/// What the decode thread counted.
#[derive(Clone, Debug, Default)]
pub(crate) struct DecodeCounts {
    pub totals: IngestTotals,
    pub pending: u64,
    pub pushed_out: u64,
    pub bins: u64,
    pub without_history: u64,
    pub full: u64,
    /// Of these, with the first bins of the horizon only.
    pub shortened: u64,
    pub held: u64,
    pub neutral: u64,
    pub model_failed: u64,
    pub without_slot: u64,
    /// Mean rates, while the units' identities were not known.
    pub calibrating: u64,
    /// Predictions of the network that the standby made.
    pub on_standby: u64,
    /// Samples of every modality.
    pub modalities: Vec<ModalityCounts>,
    /// Samples of series that the network does not know.
    pub unknown_samples: u64,
}

/// Counts that messages report since the last prediction.
#[derive(Clone, Copy, Default)]
struct Reported {
    binned: u64,
    refused: u64,
    late: u64,
    unknown: u64,
    pushed_out: u64,
    without_slot: u64,
    samples_lost: u64,
    samples_late: u64,
}

/// What is said of a prediction that is held, whenever it is.
#[derive(Clone, Copy)]
struct Kept {
    /// Its first bins, that were predicted.
    bins: u32,
    /// What it was, if no prediction of the network.
    flags: u32,
}

pub(crate) struct Decoder {
    bins: BinAssembler,
    modalities: Modalities,
    sources: SourceWatch,
    predictor: Box<dyn Predictor>,
    models: ModelPort,
    parameters: Arc<Parameters>,
    /// As the parameters have it for this bin.
    deadline: Deadline,
    costs: Costs,
    slots: SlotFiller,
    live: Arc<Live>,
    /// T × N: the mean rates in every bin.
    neutral: Box<[f32]>,
    /// T × N: the last prediction.
    last: Box<[f32]>,
    kept: Option<Kept>,
    outputs: HeldOutputs,
    times_s: Box<[f64]>,
    reported: Reported,
    counts: DecodeCounts,
}

impl Decoder {
    /// A decoder whose neutral prediction is `null_log_rates` (N) in every bin; `outputs` are the predictor's.
    pub fn new(
        (bins, modalities, sources): (BinAssembler, Modalities, SourceWatch),
        (predictor, models): (Box<dyn Predictor>, ModelPort),
        parameters: Arc<Parameters>,
        slots: SlotFiller,
        live: Arc<Live>,
        null_log_rates: &[f64],
        outputs: &[OutputSpec],
    ) -> Self {
        let row: Vec<f32> = null_log_rates.iter().map(|&rate| rate as f32).collect();
        let neutral: Box<[f32]> = row.repeat(predictor.horizon_bins()).into();
        Self {
            times_s: vec![0.0; bins.window_capacity()].into(),
            last: neutral.clone(),
            neutral,
            bins,
            modalities,
            sources,
            predictor,
            models,
            deadline: parameters.deadline(),
            parameters,
            costs: Costs::default(),
            slots,
            live,
            kept: None,
            outputs: HeldOutputs::new(outputs),
            reported: Reported::default(),
            counts: DecodeCounts::default(),
        }
    }

    /// Runs until every source has ended and its ring is empty.
    pub fn run(mut self) -> DecodeCounts {
        use_precise_timers();
        loop {
            self.live.pulse.beat(monotonic_ns());
            let mut taken = self.bins.ingest();
            let mut closed = false;
            loop {
                // After the markers that close the bin: the samples before these are then in their ring.
                taken += self.modalities.take(&mut self.bins);
                let Some(bin) = self.bins.close_next() else {
                    break;
                };
                self.finish_bin(bin);
                closed = true;
            }
            if taken > 0 || closed {
                continue;
            }
            if self.bins.is_finished() {
                break;
            }
            let expected = self.bins.expected_close_ns();
            self.live.pulse.expect(expected);
            std::thread::sleep(wait_for(monotonic_ns(), expected));
        }
        self.finish()
    }

    fn finish(mut self) -> DecodeCounts {
        self.counts.totals = self.bins.totals();
        self.counts.pending = self.bins.pending();
        self.counts.pushed_out = self.bins.pushed_out();
        (self.counts.modalities, self.counts.unknown_samples) = self.modalities.counts();
        self.counts
    }

    fn finish_bin(&mut self, bin: ClosedBin) {
        self.show(bin);
        self.go_on_after(bin);
    }

    /// Shows a bin that has closed to the model that predicts, and to one that goes along.
    fn show(&mut self, bin: ClosedBin) {
        self.counts.bins += 1;
        self.live.device_ns.store(bin.end_ns, Relaxed);
        self.deadline = self.parameters.deadline();
        if let Some(joining) = self.models.joining() {
            self.bins.record_joins(joining);
        }
        let spikes = self.bins.spikes(bin.end_ns);
        self.predictor.bin_closed(&spikes);
        self.models.bin_closed(&spikes);
    }

    /// Takes in identities that have been computed, and the model that is ready, and predicts.
    fn go_on_after(&mut self, bin: ClosedBin) {
        let (predicts, joined) = self.models.numbers();
        if let Some(end_ns) = self.predictor.take_identities() {
            self.bins.record_identities(predicts, end_ns);
        }
        if let Some(end_ns) = self.models.take_identities() {
            self.bins.record_identities(joined, end_ns);
        }
        if self.models.exchange(&mut self.predictor) {
            self.costs = Costs::default();
            // What the former made is not held in the new one's name.
            self.kept = None;
            self.outputs.forget();
            self.bins.record_predicts(self.predictor.model_hash());
        }
        self.bins.record_closed(bin.index);
        self.modalities.bin_closed(bin.end_ns);
        if self.bins.history_is_complete(bin.end_ns) {
            match self.free_slot() {
                Some(slot) => self.predict(bin, slot),
                None => self.counts.without_slot += 1,
            }
        } else {
            self.counts.without_history += 1;
        }
        self.tell();
    }

    /// A free slot. Where there is none, waits for the publisher to give one back: for a quarter of a bin at most where bins
    /// go by the clock, which is long where this thread catches up and the publisher lets go what it has stood in for.
    fn free_slot(&mut self) -> Option<Box<PredictionSlot>> {
        let slot = self.slots.take();
        if slot.is_some() {
            return slot;
        }
        let most_ns = LONGEST_SLOT_WAIT_NS.min(self.predictor.bin_ns() / 4);
        let until_ns = self.deadline.budget_ns.map(|_| monotonic_ns() + most_ns);
        while self.slots.publisher_lives() && until_ns.is_none_or(|until_ns| monotonic_ns() < until_ns) {
            std::thread::sleep(SLOT_WAIT);
            let slot = self.slots.take();
            if slot.is_some() {
                return slot;
            }
        }
        // What it gave back before it ended, or in the last moment.
        self.slots.take()
    }

    fn predict(&mut self, bin: ClosedBin, mut slot: Box<PredictionSlot>) {
        let decode_start_ns = monotonic_ns();
        slot.counts.copy_from_slice(self.bins.counts());
        slot.early_counts.copy_from_slice(self.bins.early_counts());
        let behind = self.is_behind();
        slot.header.bins = self.predictor.horizon_bins() as u32;
        slot.header.model_hash = self.predictor.model_hash();
        self.slots.announce(Announced {
            bin_index: bin.index,
            bin_end_ns: bin.end_ns,
            close_ns: bin.close_host_ns,
        });
        let times = (bin.close_host_ns, decode_start_ns);
        let decoded = self.deadline.is_decoded(&mut self.costs, times, behind);
        let mut bits = match decoded {
            true => self.decode(bin, &mut slot),
            false => self.hold(&mut slot),
        };
        let filled_from_ns = monotonic_ns();
        self.outputs.fill(self.predictor.as_mut(), bits, &mut slot.outputs);
        if decoded {
            self.costs.learn_outputs(monotonic_ns() - filled_from_ns);
        }
        let count = match bits {
            _ if bits & flags::HELD != 0 => &mut self.counts.held,
            _ if bits & flags::NEUTRAL != 0 => &mut self.counts.neutral,
            _ => &mut self.counts.full,
        };
        *count += 1;
        self.counts.model_failed += u64::from(bits & flags::MODEL_FAILED != 0);
        self.counts.shortened += u64::from(bits & (flags::SHORTENED | flags::HELD) == flags::SHORTENED);
        bits |= self.report_spikes(&mut slot) | self.sources.flags();
        slot.header.flags = bits;
        slot.header.bin_index = bin.index;
        slot.header.bin_end_ns = bin.end_ns;
        slot.header.ingest_ns = self.bins.last_ingest_ns();
        slot.header.decode_start_ns = decode_start_ns;
        slot.close_ns = bin.close_host_ns;
        slot.header.decode_end_ns = monotonic_ns();
        let next_close_ns = self.bins.expected_close_ns();
        hand_over(&mut self.slots, slot, &self.live.pulse, next_close_ns);
    }

    /// Whether the next bin has closed as well. Takes in what the rings hold until that is known.
    fn is_behind(&mut self) -> bool {
        while self.deadline.budget_ns.is_some() && !self.bins.can_close() {
            if self.bins.ingest() == 0 {
                return false;
            }
        }
        self.bins.can_close()
    }

    /// Runs the model; its failure, or a number that is not finite, makes the prediction neutral. Returns the flags.
    fn decode(&mut self, bin: ClosedBin, slot: &mut PredictionSlot) -> u32 {
        let (shown, silent) = self.modalities.shown(bin.end_ns);
        self.predictor.show(shown);
        let silent = if silent { flags::MODALITY_SILENT } else { 0 };
        let (times_s, units) = self.bins.window(bin.end_ns, &mut self.times_s);
        let all = self.predictor.horizon_bins();
        let (begin_ns, mut encoded_ns) = (monotonic_ns(), None);
        let mut in_time = || {
            let now_ns = monotonic_ns();
            encoded_ns = Some(now_ns);
            self.deadline
                .bins_in_time(&self.costs, (bin.close_host_ns, now_ns), all)
        };
        let made = self
            .predictor
            .predict_within(times_s, units, &mut in_time, &mut slot.log_rates);
        let end_ns = monotonic_ns();
        let failure = self.predictor.device_failure();
        if let Some(failure) = failure {
            self.live.device_failure.get_or_init(|| failure.to_string());
        }
        let on_standby = failure.is_some();
        let (failed, made) = (made.is_err(), made.unwrap_or(0));
        // What cannot stop early has no second part.
        let encoded_ns = encoded_ns.unwrap_or(end_ns);
        self.costs.learn(encoded_ns - begin_ns, made, end_ns - encoded_ns);
        let units = self.neutral.len() / all;
        let (done, rest) = slot.log_rates.split_at_mut(made * units);
        let finite = done.iter().all(|rate| rate.is_finite());
        if made == 0 && !failed {
            // There was no time for a single bin.
            return self.hold(slot);
        }
        if failed || !finite {
            slot.log_rates.copy_from_slice(&self.neutral);
            return flags::NEUTRAL | flags::MODEL_FAILED;
        }
        if self.predictor.calibrating() {
            let bits = flags::NEUTRAL | flags::CALIBRATING;
            self.keep(slot, bits);
            self.counts.calibrating += 1;
            return bits;
        }
        let mut bits = silent;
        if made < all {
            // Not published: what the score has for these bins.
            rest.copy_from_slice(&self.neutral[made * units..]);
            slot.header.bins = made as u32;
            bits |= flags::SHORTENED;
        }
        if on_standby {
            self.counts.on_standby += 1;
            bits |= flags::STANDBY;
        }
        self.keep(slot, bits & (flags::SHORTENED | flags::STANDBY));
        bits
    }

    /// Keeps a prediction to be held, and what is to be said of it then.
    fn keep(&mut self, slot: &PredictionSlot, flags: u32) {
        self.last.copy_from_slice(&slot.log_rates);
        let bins = slot.header.bins;
        self.kept = Some(Kept { bins, flags });
    }

    /// Fills a slot with the last prediction, or with the mean rates where there is none. Returns the flags.
    fn hold(&mut self, slot: &mut PredictionSlot) -> u32 {
        let Some(kept) = self.kept else {
            slot.log_rates.copy_from_slice(&self.neutral);
            return flags::NEUTRAL | flags::SKIPPED;
        };
        slot.log_rates.copy_from_slice(&self.last);
        slot.header.bins = kept.bins;
        flags::HELD | flags::SKIPPED | kept.flags
    }

    /// Writes the counts since the last prediction into the header and returns the flags they raise.
    fn report_spikes(&mut self, slot: &mut PredictionSlot) -> u32 {
        let totals = self.bins.totals();
        let (_, samples_lost, samples_late) = self.modalities.totals();
        let now = Reported {
            binned: totals.binned,
            refused: self.bins.ring_refused() + totals.overflowed,
            late: totals.late,
            unknown: totals.unknown,
            pushed_out: self.bins.pushed_out(),
            without_slot: self.counts.without_slot,
            samples_lost,
            samples_late,
        };
        let before = std::mem::replace(&mut self.reported, now);
        let since = |now: u64, before: u64| (now - before).min(u64::from(u32::MAX)) as u32;
        slot.header.spikes_in = since(now.binned, before.binned);
        slot.header.spikes_refused = since(now.refused, before.refused);
        slot.header.spikes_late = since(now.late, before.late);
        slot.header.spikes_unknown = since(now.unknown, before.unknown);
        let raised = [
            (now.refused > before.refused, flags::SPIKES_REFUSED),
            (now.late > before.late, flags::SPIKES_LATE),
            (now.unknown > before.unknown, flags::SPIKES_UNKNOWN),
            (now.pushed_out > before.pushed_out, flags::WINDOW_TRUNCATED),
            (now.without_slot > before.without_slot, flags::PUBLICATION_LOST),
            (now.samples_lost > before.samples_lost, flags::SAMPLES_LOST),
            (now.samples_late > before.samples_late, flags::SAMPLES_LATE),
        ];
        raised
            .iter()
            .filter(|(is, _)| *is)
            .fold(0, |bits, (_, flag)| bits | flag)
    }

    fn tell(&self) {
        let totals = self.bins.totals();
        let (offset, spread) = self.bins.clock_offset();
        let (samples, samples_lost, samples_late) = self.modalities.totals();
        self.live.samples.store(samples, Relaxed);
        self.live.samples_lost.store(samples_lost, Relaxed);
        self.live.samples_late.store(samples_late, Relaxed);
        self.live.spikes.store(totals.received, Relaxed);
        self.live
            .refused
            .store(self.bins.ring_refused() + totals.overflowed, Relaxed);
        self.live.clock_offset_ns.store(offset, Relaxed);
        self.live.clock_spread_ns.store(spread, Relaxed);
    }
}
