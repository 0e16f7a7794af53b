//! Other modalities beside the spikes: the decode thread keeps what the network may see of each, by device time.
//!
//! A sample that comes in time is seen by every prediction whose history it lies in, as offline ([`Tokens::fill`]). One that
//! comes after its bin has closed is late: it is counted, and seen by the predictions from then on. A modality without a sample
//! in the whole history is shown as nothing.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::Arc;

use serde::Serialize;

use super::bin::BinAssembler;
use super::ring::EventWriter;
use super::sample_ring::{sample_ring, Known, SampleCounters, SampleReader};
use super::sample_window::SampleWindow;
use crate::acquire::{Pace, SampledSeries, Source};
use crate::model::conditions::Tokens;
use crate::model::config::{ConditionConfig, ConditionKind, ModelConfig};

/// Samples a second of history that there is room for: behaviour is sampled more slowly.
const SAMPLES_PER_S: f64 = 4_000.0;
/// Samples that there is room for, however short the history.
const LEAST_SAMPLES: usize = 1_024;
/// Values that a modality's history holds, 4 MiB; 64 samples at least.
const MOST_VALUES: usize = 1 << 20;
const LEAST_WIDE_SAMPLES: usize = 64;

/// What became of a modality's samples. `offered` is the sum of `ring_refused`, `malformed` and `received`; `received` that of
/// `in_time`, `late` and `overflowed`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct ModalityCounts {
    /// The series' name.
    pub series: String,
    /// The source that delivers it; none where no source does, and the network is shown nothing of it.
    pub source: Option<String>,
    /// Samples that the source had.
    pub offered: u64,
    /// Found their ring full.
    pub ring_refused: u64,
    /// Of another number of values than the series has channels.
    pub malformed: u64,
    /// Taken from the ring.
    pub received: u64,
    /// Came before their bin closed.
    pub in_time: u64,
    /// Came after their bin had closed.
    pub late: u64,
    /// Refused because too many were waiting for their bin to close.
    pub overflowed: u64,
    /// Of those taken: pushed out of a full history before their time.
    pub pushed_out: u64,
    /// Predictions of the network that were shown nothing of it.
    pub silent: u64,
}

impl ModalityCounts {
    /// Samples that no prediction saw, or not for as long as it should have.
    pub fn lost(&self) -> u64 {
        self.ring_refused + self.malformed + self.overflowed + self.pushed_out
    }
}

struct Modality {
    config: ConditionConfig,
    /// Steps of the network's history.
    steps: i64,
    window: SampleWindow,
    counts: ModalityCounts,
}

/// The decode thread's end of every sample ring, and what it keeps of each modality.
pub(crate) struct Modalities {
    list: Vec<Modality>,
    tokens: Vec<Tokens>,
    readers: Vec<SampleReader>,
    counters: Arc<[SampleCounters]>,
    unknown: Arc<AtomicU64>,
    /// The series of the modalities, then those that only a recording keeps: what samples are numbered by.
    series: Vec<SampledSeries>,
    /// Whether no time passes but that of the data, so that samples of later bins can wait.
    wait: bool,
}

/// Samples that there is room for.
fn capacity(config: &ConditionConfig, history_s: f64) -> usize {
    let asked = (history_s * SAMPLES_PER_S).ceil() as usize;
    let most = (MOST_VALUES / config.channels()).max(LEAST_WIDE_SAMPLES);
    asked.max(LEAST_SAMPLES).min(most)
}

impl Modality {
    fn take(&mut self, time_ns: i64, kept: bool, values: &[f32], bins: &BinAssembler) {
        let counts = &mut self.counts;
        counts.received += 1;
        if !kept {
            counts.overflowed += 1;
            return;
        }
        // Before the first bin has closed nothing is late: what was shown before the run counts.
        if time_ns < bins.open_ns() && bins.has_closed_a_bin() {
            counts.late += 1;
        } else {
            counts.in_time += 1;
        }
        counts.pushed_out += u64::from(self.window.insert(time_ns, values));
    }
}

impl Modalities {
    /// Those of a network, from the sources' series of the same names; gives each source's writer a ring for its samples. With
    /// `keep_all` the samples of all other series come through the ring too, for the recording.
    ///
    /// # Errors
    /// One sentence about a series of another number of channels than the network's, or that two sources deliver.
    pub fn new(
        network: Option<&ModelConfig>,
        sources: &[Box<dyn Source>],
        writers: &mut [EventWriter],
        keep_all: bool,
    ) -> Result<Self, String> {
        let (conditions, history_s) =
            network.map_or((&[][..], 0.0), |config| (&config.conditions[..], config.history_s()));
        let mut list: Vec<Modality> = conditions
            .iter()
            .map(|config| Modality {
                steps: config.steps(history_s) as i64,
                window: SampleWindow::new(config.channels(), capacity(config, history_s)),
                counts: ModalityCounts {
                    series: config.series.clone(),
                    ..ModalityCounts::default()
                },
                config: config.clone(),
            })
            .collect();
        let unknown = Arc::new(AtomicU64::new(0));
        let mut all: Vec<SampledSeries> = conditions
            .iter()
            .map(|config| SampledSeries {
                name: config.series.clone(),
                unit: String::new(),
                channels: config.channels(),
            })
            .collect();
        let mut known_series = Vec::new();
        for source in sources {
            let mut known = Vec::new();
            for series in source.series() {
                let Some(modality) = list.iter().position(|modality| modality.config.series == series.name) else {
                    known.push(keep_all.then_some(Known {
                        modality: all.len(),
                        channels: series.channels,
                    }));
                    if keep_all {
                        all.push(series.clone());
                    }
                    continue;
                };
                let Modality { config, counts, .. } = &mut list[modality];
                let (name, found) = (&series.name, series.channels);
                if found != config.channels() {
                    let (source, expected) = (source.name(), config.channels());
                    return Err(format!(
                        "{source}: series {name} has {found} channels, and the network learned from {expected}"
                    ));
                }
                if let Some(first) = counts.source.replace(source.name().to_string()) {
                    let second = source.name();
                    return Err(format!("series {name} is delivered twice, by {first} and by {second}"));
                }
                all[modality].unit.clone_from(&series.unit);
                known.push(Some(Known {
                    modality,
                    channels: found,
                }));
            }
            known_series.push(known);
        }
        let counters: Arc<[SampleCounters]> = all.iter().map(|_| SampleCounters::default()).collect();
        let channels: Box<[usize]> = all.iter().map(|series| series.channels).collect();
        let mut readers = Vec::new();
        for (known, writer) in known_series.into_iter().zip(writers) {
            let (samples, reader) = sample_ring(known.into(), channels.clone(), counters.clone(), unknown.clone());
            writer.deliver_samples(samples);
            readers.push(reader);
        }
        let tokens = conditions
            .iter()
            .map(|config| Tokens::none(config, history_s))
            .collect();
        Ok(Self {
            list,
            tokens,
            readers,
            counters,
            unknown,
            series: all,
            wait: sources.iter().all(|source| source.pace() == Pace::AsFast),
        })
    }

    /// The series of every modality, and the source that delivers it.
    pub fn sources(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        let counts = self.list.iter().map(|modality| &modality.counts);
        counts.map(|counts| (counts.series.as_str(), counts.source.as_deref()))
    }

    /// What samples are numbered by.
    pub fn series(&self) -> &[SampledSeries] {
        &self.series
    }

    /// Takes what the rings hold, and says how many samples that were. Samples of later bins stay in their ring while there is
    /// no room for them and the open bin is due, or sources run as fast as they may and so ahead of it; else they are refused, as one
    /// whose time is far ahead would hold up all behind it.
    pub fn take(&mut self, bins: &mut BinAssembler) -> usize {
        let (due_ns, can_close) = (bins.open_due_ns(), bins.can_close());
        let mut taken = 0;
        for (source, reader) in self.readers.iter_mut().enumerate() {
            while let Some(front) = reader.front() {
                let modality = self.list.get_mut(front.modality);
                let no_room = front.time_ns >= due_ns && modality.as_ref().is_some_and(|own| own.window.is_full());
                if no_room && (can_close || self.wait) {
                    break;
                }
                taken += 1;
                let values = reader.take();
                bins.record_sample((source, front.modality), front.time_ns, !no_room, values);
                match modality {
                    Some(modality) => modality.take(front.time_ns, !no_room, values, bins),
                    // Only the recording keeps it.
                    None => _ = self.unknown.fetch_add(1, Relaxed),
                }
            }
        }
        taken
    }

    /// Takes a sample that a recording says was taken here, and whether it was kept.
    pub fn take_recorded(&mut self, series: usize, (time_ns, kept): (i64, bool), values: &[f32], bins: &BinAssembler) {
        match self.list.get_mut(series) {
            Some(modality) => {
                self.counters[series].offered.fetch_add(1, Relaxed);
                modality.take(time_ns, kept, values, bins);
            }
            None => _ = self.unknown.fetch_add(1, Relaxed),
        }
    }

    /// Forgets what no history from `end_ns` on reaches back to.
    pub fn bin_closed(&mut self, end_ns: i64) {
        for Modality {
            config, steps, window, ..
        } in &mut self.list
        {
            let step_ns = config.step_ns();
            let first_ns = end_ns - *steps * step_ns;
            match config.kind {
                ConditionKind::Behaviour => window.expire(first_ns, 0),
                // What is shown at the end of the first step may have come long before it.
                ConditionKind::Stimulus => window.expire(first_ns + step_ns, 1),
            }
        }
    }

    /// What a history that ends at `end_ns` shows of each modality, and whether one that is delivered shows nothing.
    pub fn shown(&mut self, end_ns: i64) -> (&[Tokens], bool) {
        let mut silent = false;
        for (modality, tokens) in self.list.iter_mut().zip(&mut self.tokens) {
            tokens.fill(&modality.config, modality.window.samples(), end_ns);
            if tokens.is_empty() {
                modality.counts.silent += 1;
                silent |= modality.counts.source.is_some();
            }
        }
        (&self.tokens, silent)
    }

    /// Samples so far: taken in, lost, late.
    pub fn totals(&self) -> (u64, u64, u64) {
        let counters = self.counters.iter();
        let before: u64 = counters
            .map(|ring| ring.refused.load(Relaxed) + ring.malformed.load(Relaxed))
            .sum();
        let counts = self.list.iter().map(|modality| &modality.counts);
        let sum = |count: fn(&ModalityCounts) -> u64| counts.clone().map(count).sum::<u64>();
        (
            sum(|counts| counts.received),
            before + sum(ModalityCounts::lost),
            sum(|counts| counts.late),
        )
    }

    /// What became of every modality's samples, and samples of series that the network does not know. Allocates: at the end.
    pub fn counts(&self) -> (Vec<ModalityCounts>, u64) {
        let with_ring = |(modality, ring): (&Modality, &SampleCounters)| ModalityCounts {
            offered: ring.offered.load(Relaxed),
            ring_refused: ring.refused.load(Relaxed),
            malformed: ring.malformed.load(Relaxed),
            ..modality.counts.clone()
        };
        let counts = self.list.iter().zip(self.counters.iter()).map(with_ring);
        (counts.collect(), self.unknown.load(Relaxed))
    }
}
