//! What a run says at its end, for people and as JSON.

use std::fmt;

use serde::Serialize;

use super::calibrate::CalibrationCounts;
use super::modalities::ModalityCounts;
use super::output::OutputCounts;
use super::score::ScoreReport;
use super::sources::{SourceReport, WayBackCounts};
use super::stats::LatencySummary;
use crate::realtime;

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Every source came to its end.
    Finished,
    /// The run was told to stop.
    Stopped,
    /// A thread failed; [`RunSummary::failures`] says how.
    Failed,
}

/// What happened to every spike. `offered` is the sum of `ring_refused` and `received`; `received` the sum of `binned`,
/// `unknown`, `before_start`, `late`, `overflowed` and `left_open`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct SpikeBalance {
    /// Spikes that the sources had.
    pub offered: u64,
    /// Found their ring full.
    pub ring_refused: u64,
    /// Taken from the rings.
    pub received: u64,
    /// Counted in a bin.
    pub binned: u64,
    /// Of units that the model does not know.
    pub unknown: u64,
    /// From before the run's start.
    pub before_start: u64,
    /// Came after their bin had closed.
    pub late: u64,
    /// Refused because too many waited for their bin to close.
    pub overflowed: u64,
    /// In a bin that had not closed when the run ended.
    pub left_open: u64,
    /// Of those binned: pushed out of a full history before their time.
    pub pushed_out: u64,
}

/// What happened to every bin and prediction. `closed` is the sum of `without_history`, `without_slot`, `full`, `held`
/// and `neutral`; `published` the sum of the last three, less those `superseded`, and those that `stood_in`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct BinBalance {
    /// Bins that closed.
    pub closed: u64,
    /// Closed before a whole history had passed: nothing to predict from.
    pub without_history: u64,
    /// Not predicted because the publisher did not keep up; it stood in for them once it did.
    pub without_slot: u64,
    /// Predicted by the model.
    pub full: u64,
    /// Of the full ones: with the first bins of the horizon only, as many as there was time for.
    pub shortened: u64,
    /// Published with the last prediction.
    pub held: u64,
    /// Published with the mean rates.
    pub neutral: u64,
    /// Of the neutral ones: because the model failed.
    pub model_failed: u64,
    /// Of the neutral ones: because the units' identities were not known yet.
    pub calibrating: u64,
    /// Of the full ones: made on the CPU because the device had failed.
    pub on_standby: u64,
    /// Published; their sequence numbers are 0 … published − 1.
    pub published: u64,
    /// Published after the deadline.
    pub missed_deadline: u64,
    /// Published with the mean rates because the decode thread was stuck, or had no slot.
    pub stood_in: u64,
    /// Predictions that came after the mean rates had stood in for them; not published.
    pub superseded: u64,
    /// Published with a unit's rate at its limit, which was above it.
    pub limited: u64,
    /// Published with the mean rates because predictions were stopped.
    pub stopped: u64,
    /// Times that a subscriber was found at its high-water mark. From then until it has caught up with half of it, it
    /// misses messages; the gap in its sequence says how many. The other subscribers miss none.
    pub subscriber_overflows: u64,
}

/// Latencies of a run.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Latencies {
    /// From a bin's close (the host time at which the device clock passed it) to its publication.
    pub close_to_publish: LatencySummary,
    /// From the last ingest to the decode's start.
    pub ingest_to_decode: LatencySummary,
    /// The decode.
    pub decode: LatencySummary,
    /// From the decode's end to the publication.
    pub handover: LatencySummary,
}

/// What became of a run's recording.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RecordingReport {
    /// The file.
    pub file: String,
    /// Its bytes, without the summary at its end.
    pub bytes: u64,
    /// Entries of what came in that are not in it: no room, or not written.
    pub lost_ingested: u64,
    /// The same of what was published.
    pub lost_published: u64,
    /// Requests that changed the run and are in it.
    pub requests: u64,
    /// Such requests that are not: too many at once, or not written.
    pub requests_left_out: u64,
    /// Why something could not be written, the first time.
    pub failure: Option<String>,
}

/// What a run says at its end.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RunSummary {
    /// How it ended.
    pub outcome: Outcome,
    /// What failed, one sentence each.
    pub failures: Vec<String>,
    /// The model that predicted last, in one line.
    pub model: String,
    /// Models that took another one's place while it ran.
    pub exchanged: u64,
    /// What was asked of the system for the run's threads, and what came of it; none where nothing was asked for.
    pub realtime: Option<realtime::Report>,
    /// What the device said when it failed and the CPU took over.
    pub device_failure: Option<String>,
    /// How often the units' identities were computed, and what it took; none where they are looked up.
    pub calibration: Option<CalibrationCounts>,
    /// Units of the model.
    pub units: usize,
    /// Device time that passed, s.
    pub device_s: f64,
    /// Host time that passed, s.
    pub wall_s: f64,
    /// The deadline, ms; none where the sources ran as fast as they could.
    pub deadline_ms: Option<f64>,
    /// Spikes.
    pub spikes: SpikeBalance,
    /// Bins and predictions.
    pub bins: BinBalance,
    /// Samples of every modality that the network may see beside the spikes.
    pub modalities: Vec<ModalityCounts>,
    /// Samples of series that the network does not know.
    pub unknown_samples: u64,
    /// The outputs beside the predictions.
    pub outputs: Vec<OutputCounts>,
    /// The sources, and what became of what devices sent.
    pub sources: Vec<SourceReport>,
    /// Predictions that went back to the devices themselves.
    pub ways_back: Vec<WayBackCounts>,
    /// Latencies.
    pub latency: Latencies,
    /// Bits per spike.
    pub score: ScoreReport,
    /// What the true expected counts of a simulated source score on the windows that do not overlap; set by who knows them.
    pub oracle_fp_bps: Option<f64>,
    /// The recording of the run; none where there is none.
    pub recording: Option<RecordingReport>,
    /// Sums that do not come out; empty in every correct run.
    pub imbalances: Vec<String>,
}

impl SpikeBalance {
    fn check(&self, problems: &mut Vec<String>) {
        let taken = self.ring_refused + self.received;
        if self.offered != taken {
            problems.push(format!(
                "{} spikes offered, but {taken} refused or received",
                self.offered
            ));
        }
        let ended = self.binned + self.unknown + self.before_start + self.late + self.overflowed + self.left_open;
        if self.received != ended {
            problems.push(format!("{} spikes received, but {ended} accounted for", self.received));
        }
    }
}

impl BinBalance {
    fn check(&self, problems: &mut Vec<String>) {
        let predicted = self.full + self.held + self.neutral;
        let ended = self.without_history + self.without_slot + predicted;
        if self.closed != ended {
            problems.push(format!("{} bins closed, but {ended} accounted for", self.closed));
        }
        if self.published + self.superseded != predicted + self.stood_in {
            problems.push(format!(
                "{predicted} predictions made and {} stood in, but {} published and {} superseded",
                self.stood_in, self.published, self.superseded
            ));
        }
    }
}

impl ModalityCounts {
    fn check(&self, problems: &mut Vec<String>) {
        let (series, offered, received) = (&self.series, self.offered, self.received);
        let taken = self.ring_refused + self.malformed + received;
        if offered != taken {
            problems.push(format!(
                "{offered} samples of {series} offered, but {taken} refused or received"
            ));
        }
        let ended = self.in_time + self.late + self.overflowed;
        if received != ended {
            problems.push(format!(
                "{received} samples of {series} received, but {ended} accounted for"
            ));
        }
    }
}

/// The sums that do not come out, one sentence each.
pub(crate) fn imbalances(
    spikes: &SpikeBalance,
    bins: &BinBalance,
    outputs: &[OutputCounts],
    modalities: &[ModalityCounts],
) -> Vec<String> {
    let mut problems = Vec::new();
    spikes.check(&mut problems);
    bins.check(&mut problems);
    modalities.iter().for_each(|modality| modality.check(&mut problems));
    for output in outputs.iter().filter(|output| output.published != bins.published) {
        let (topic, own, all) = (&output.topic, output.published, bins.published);
        problems.push(format!("{all} predictions published, but {own} of {topic}"));
    }
    problems
}

fn bits(value: Option<f64>) -> String {
    value.map_or("none (no spikes in a complete window)".to_string(), |bits| {
        // Adding zero takes the sign from what rounds to it.
        format!("{:.6}", (bits * 1e6).round() / 1e6 + 0.0)
    })
}

impl fmt::Display for RunSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (spikes, bins, score) = (&self.spikes, &self.bins, &self.score);
        let outcome = format!("{:?}", self.outcome).to_lowercase();
        writeln!(
            f,
            "{outcome} after {:.2} s of device time in {:.2} s",
            self.device_s, self.wall_s
        )?;
        writeln!(f, "model        {} ({} units)", self.model, self.units)?;
        writeln!(
            f,
            "spikes       {} offered: {} binned, {} of unknown units, {} late, {} before the start, {} refused, {} in \
             an open bin",
            spikes.offered,
            spikes.binned,
            spikes.unknown,
            spikes.late,
            spikes.before_start,
            spikes.ring_refused + spikes.overflowed,
            spikes.left_open
        )?;
        for modality in &self.modalities {
            write!(f, "{:<12} ", modality.series)?;
            match &modality.source {
                None => writeln!(f, "delivered by no source: the network was shown nothing of it")?,
                Some(_) => writeln!(
                    f,
                    "{} samples: {} in time, {} late, {} lost; {} predictions without any in their history",
                    modality.offered,
                    modality.in_time,
                    modality.late,
                    modality.lost(),
                    modality.silent
                )?,
            }
        }
        writeln!(
            f,
            "predictions  {} published: {} full ({} shortened), {} held, {} neutral, {} stood in for a stuck decode thread; {} \
             missed the deadline{}; a subscriber was full {} times; {} lost before",
            bins.published,
            bins.full,
            bins.shortened,
            bins.held,
            bins.neutral,
            bins.stood_in,
            bins.missed_deadline,
            self.deadline_ms.map_or(String::new(), |ms| format!(" of {ms} ms")),
            bins.subscriber_overflows,
            bins.without_slot
        )?;
        if bins.limited + bins.stopped > 0 {
            writeln!(
                f,
                "guards       {} predictions with a unit at its limit; {} with mean rates because predictions were stopped",
                bins.limited, bins.stopped
            )?;
        }
        if self.exchanged > 0 {
            writeln!(f, "exchanged    the model, {} times", self.exchanged)?;
        }
        for output in &self.outputs {
            writeln!(
                f,
                "{:<12} {} published: {} held or zeros; a subscriber was full {} times",
                output.topic, output.published, output.stand_ins, output.subscriber_overflows
            )?;
        }
        for source in self.sources.iter().filter(|source| source.wire.is_some()) {
            writeln!(f, "source       {source}")?;
        }
        for way in &self.ways_back {
            let (source, sent, lost) = (&way.source, way.sent, way.lost);
            writeln!(
                f,
                "way back     {sent} predictions sent to {source}, {lost} found no room or nobody"
            )?;
        }
        if let Some(failure) = &self.device_failure {
            writeln!(
                f,
                "device       FAILED, {} predictions were made on the CPU instead: {failure}",
                bins.on_standby
            )?;
        }
        if let Some(calibration) = &self.calibration {
            writeln!(
                f,
                "identities   computed {} times in {:.1} ms at most, taken in {} times in {:.2} ms; mean rates in {} \
                 predictions before; {} bins could not be told of",
                calibration.made,
                calibration.longest_ms,
                calibration.taken_in,
                calibration.longest_take_ms,
                bins.calibrating,
                calibration.gaps
            )?;
        }
        if let Some(report) = &self.realtime {
            write!(f, "{report}")?;
        }
        for (name, latency) in [
            ("close → publish", self.latency.close_to_publish),
            ("decode", self.latency.decode),
        ] {
            writeln!(
                f,
                "{name:<16} p50 {:.0} µs, p99 {:.0} µs, p99.9 {:.0} µs, max {:.0} µs",
                latency.p50_us, latency.p99_us, latency.p999_us, latency.max_us
            )?;
        }
        writeln!(
            f,
            "bits per spike   {} over {} windows that do not overlap ({} spikes); {} over every prediction",
            bits(score.windows.fp_bps),
            score.windows.n_windows,
            score.windows.n_spikes,
            bits(score.every_bin.fp_bps)
        )?;
        if let (Some(oracle), Some(own)) = (self.oracle_fp_bps, score.windows.fp_bps) {
            writeln!(
                f,
                "oracle           {oracle:.4} over the same windows from the true rates; the model reaches {:.0} % of it",
                100.0 * own / oracle
            )?;
        }
        if let Some(recording) = &self.recording {
            let RecordingReport {
                file,
                bytes,
                lost_ingested,
                lost_published,
                requests,
                requests_left_out,
                failure,
            } = recording;
            let megabytes = *bytes as f64 * 1e-6;
            write!(f, "recording        {file}, {megabytes:.1} MB; ")?;
            match (lost_ingested + lost_published, failure) {
                (0, None) => writeln!(f, "whole")?,
                (_, failure) => writeln!(
                    f,
                    "NOT WHOLE: {lost_ingested} entries of what came in and {lost_published} of what was published are missing{}",
                    failure.as_ref().map_or(String::new(), |failure| format!(" ({failure})"))
                )?,
            }
            if *requests_left_out > 0 {
                let all = requests + requests_left_out;
                writeln!(
                    f,
                    "requests         {requests_left_out} of {all} that changed the run are NOT recorded: too many at once, or not written"
                )?;
            }
        }
        if self.imbalances.is_empty() {
            write!(f, "balance      every spike, bin and prediction is accounted for")?;
        } else {
            write!(f, "balance      WRONG: {}", self.imbalances.join("; "))?;
        }
        self.failures
            .iter()
            .try_for_each(|failure| write!(f, "\nfailure      {failure}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lost_spike_bin_or_prediction_is_an_imbalance() {
        let spikes = SpikeBalance {
            offered: 21,
            ring_refused: 1,
            received: 20,
            binned: 10,
            unknown: 4,
            before_start: 1,
            late: 2,
            overflowed: 1,
            left_open: 2,
            pushed_out: 5,
        };
        let bins = BinBalance {
            closed: 10,
            without_history: 3,
            without_slot: 1,
            full: 3,
            held: 2,
            neutral: 1,
            model_failed: 1,
            published: 6,
            ..BinBalance::default()
        };
        let output = OutputCounts {
            topic: "latents".into(),
            published: 6,
            stand_ins: 3,
            subscriber_overflows: 0,
        };
        assert!(imbalances(&spikes, &bins, std::slice::from_ref(&output), &[]).is_empty());
        let lost = OutputCounts { published: 5, ..output };
        assert_eq!(imbalances(&spikes, &bins, &[lost], &[]).len(), 1);
        assert_eq!(
            imbalances(&SpikeBalance { offered: 22, ..spikes }, &bins, &[], &[]).len(),
            1
        );
        assert_eq!(
            imbalances(&SpikeBalance { late: 1, ..spikes }, &bins, &[], &[]).len(),
            1
        );
        assert_eq!(
            imbalances(&spikes, &BinBalance { published: 5, ..bins }, &[], &[]).len(),
            1
        );
        assert_eq!(
            imbalances(&spikes, &BinBalance { closed: 11, ..bins }, &[], &[]).len(),
            1
        );
        let samples = ModalityCounts {
            series: "hand_vel".into(),
            offered: 12,
            ring_refused: 1,
            malformed: 1,
            received: 10,
            in_time: 7,
            late: 2,
            overflowed: 1,
            pushed_out: 3,
            ..ModalityCounts::default()
        };
        assert!(imbalances(&spikes, &bins, &[], std::slice::from_ref(&samples)).is_empty());
        let lost = [
            ModalityCounts {
                malformed: 0,
                ..samples.clone()
            },
            ModalityCounts { late: 1, ..samples },
        ];
        assert_eq!(imbalances(&spikes, &bins, &[], &lost).len(), 2);
    }
}
