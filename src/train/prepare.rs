//! Windows with everything beside them that a step needs: recent history, what is dropped of it, seeds.

use std::sync::Arc;

use kernels::BackendError;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::config::DropoutSection;
use super::references::References;
use super::sampler::{Batch, TrainingRecording, TrainingSet, Window};
use crate::evaluate::behaviour::TargetReader;
use crate::evaluate::conditions::conditions_of;
use crate::model::checkpoint::Checkpoint;
use crate::model::conditions::Tokens;
use crate::model::config::ModelConfig;
use crate::model::identity::{Identities, Reference};
use crate::model::traces::{TraceReader, Traces};

/// Numbers of a step's windows stay below it, those of its references begin here.
const REFERENCE: u64 = 1 << 32;

/// A seed of something in a step (SplitMix64's finaliser over the three).
fn mixed(seed: u64, step: u64, index: u64) -> u64 {
    let mut x = seed ^ step.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ index.wrapping_mul(0xd1b5_4a32_d192_ed03);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// Bins between two kept states of the traces.
const STRIDE: i64 = 64;

/// A window ready to learn from, or to be judged by.
#[derive(Debug, Clone)]
pub struct Prepared {
    /// Spikes and counts.
    pub window: Window,
    /// See [`Traces::features`]; empty without the path of recent history.
    pub features: Vec<f32>,
    /// See [`Traces::population`], dropped units zero.
    pub population: Vec<f32>,
    /// What it shows of other modalities, in the network's order.
    pub conditions: Vec<Tokens>,
    /// What each readout should say, in deviations or as numbers of classes: see [`crate::model::readout::targets`].
    pub targets: Vec<Vec<f32>>,
    /// Seed of what is random in this window's step.
    pub seed: u64,
    /// What the units' identities are computed from, where they are.
    pub reference: Option<Arc<Reference>>,
}

/// Traces of a recording, kept every [`STRIDE`] bins so that those of any time are near.
#[derive(Debug, Clone)]
struct TraceIndex {
    start: Traces,
    origin_ns: i64,
    bin_ns: i64,
    /// States after `STRIDE · i` bins, `[K, N]` each.
    states: Vec<Vec<f32>>,
}

impl TraceIndex {
    fn new(start: Traces, bin_ns: i64, recording: &TrainingRecording) -> Self {
        let (origin_ns, end_ns) = (recording.grid_origin_ns, recording.recording.end_ns);
        let spikes = recording.spikes();
        let mut reader = TraceReader::new(start.clone(), origin_ns, bin_ns, &recording.recording.intervals);
        let mut states = vec![start.state().to_vec()];
        let mut next_ns = origin_ns + STRIDE * bin_ns;
        while next_ns <= end_ns {
            states.push(reader.advance(spikes, next_ns).state().to_vec());
            next_ns += STRIDE * bin_ns;
        }
        TraceIndex {
            start,
            origin_ns,
            bin_ns,
            states,
        }
    }

    /// The traces after every bin that ends by `end_ns`.
    fn at(&self, recording: &TrainingRecording, end_ns: i64) -> Traces {
        let stretch = STRIDE * self.bin_ns;
        let nearest = ((end_ns - self.origin_ns).max(0) / stretch).min(self.states.len() as i64 - 1);
        let mut traces = self.start.clone();
        traces.set_state(&self.states[nearest as usize]);
        let from_ns = self.origin_ns + nearest * stretch;
        let mut reader = TraceReader::new(traces, from_ns, self.bin_ns, &recording.recording.intervals);
        reader.advance(recording.spikes(), end_ns).clone()
    }
}

/// Prepares windows of a set.
#[derive(Debug, Clone)]
pub struct Preparer {
    set: Arc<TrainingSet>,
    /// By recording; empty without the path of recent history.
    traces: Vec<TraceIndex>,
    /// By recording.
    targets: Vec<TargetReader>,
    model: ModelConfig,
    references: Option<References>,
}

impl Preparer {
    /// Goes through every recording once.
    pub fn new(set: Arc<TrainingSet>, model: &ModelConfig, references: Option<References>) -> Self {
        let (shape, history) = (set.shape(), model.history.as_ref());
        let index = |(number, recording): (usize, &TrainingRecording)| -> Option<TraceIndex> {
            let rates: Vec<f32> = set
                .session_of(number)
                .null_log_rates
                .iter()
                .map(|&rate| rate as f32)
                .collect();
            let start = Traces::of_path(history?, shape.bin_ns as f64 * 1e-9, &rates);
            Some(TraceIndex::new(start, shape.bin_ns, recording))
        };
        let targets = set.recordings().iter().map(|recording| {
            let targets = TargetReader::new(model, &recording.recording);
            targets.expect("the network's channels are those of the set")
        });
        Preparer {
            targets: targets.collect(),
            traces: set.recordings().iter().enumerate().filter_map(index).collect(),
            model: model.clone(),
            references,
            set,
        }
    }

    /// The windows of a step, to learn from. Those of one session share a reference, of which nothing is predicted.
    pub fn step(&self, batch: Batch, seed: u64, dropout: &DropoutSection) -> Vec<Prepared> {
        let session = |window: &Window| self.set.recordings()[window.recording].session;
        let mut drawn: Vec<Option<Arc<Reference>>> = vec![None; self.set.sessions().len()];
        if let Some(references) = &self.references {
            for (number, drawn) in drawn.iter_mut().enumerate() {
                let windows: Vec<&Window> = batch
                    .windows
                    .iter()
                    .filter(|window| session(window) == number)
                    .collect();
                if !windows.is_empty() {
                    *drawn =
                        Some(references.draw(number, &windows, mixed(seed, batch.step, REFERENCE + number as u64)));
                }
            }
        }
        let windows = batch.windows.into_iter().enumerate();
        windows
            .map(|(index, window)| {
                let reference = drawn[session(&window)].clone();
                self.to_learn(window, reference, mixed(seed, batch.step, index as u64), dropout)
            })
            .collect()
    }

    /// Writes the identities of the sessions' units to the checkpoint's tables, where they are computed: it then knows them
    /// by name, too.
    ///
    /// # Errors
    /// A device that failed.
    pub fn write_identities(&self, checkpoint: &mut Checkpoint) -> Result<(), BackendError> {
        let Some(references) = &self.references else {
            return Ok(());
        };
        for (number, session) in self.set.sessions().iter().enumerate() {
            match Identities::compute(checkpoint, &references.fixed(number)) {
                Ok(identities) => identities.write(checkpoint, 1 + session.first_unit),
                Err(error) => return Err(BackendError(error.to_string())),
            }
        }
        Ok(())
    }

    /// A window to be judged by: nothing is dropped.
    pub fn whole(&self, window: Window) -> Prepared {
        let session = self.set.recordings()[window.recording].session;
        let reference = self.references.as_ref().map(|references| references.fixed(session));
        self.seen(window, reference)
    }

    /// A window with what is known of its units.
    fn seen(&self, window: Window, reference: Option<Arc<Reference>>) -> Prepared {
        let (mut features, mut population) = (Vec::new(), Vec::new());
        let end_ns = window.start_ns + self.set.shape().history_ns;
        let recording = &self.set.recordings()[window.recording];
        if let Some(index) = self.traces.get(window.recording) {
            let mut traces = index.at(recording, end_ns);
            if let Some(reference) = &reference {
                traces.compare_with(reference.log_rates().iter().map(|rate| rate.exp()));
            }
            features.resize(traces.feature_count(), 0.0);
            let constants = self
                .model
                .history
                .as_ref()
                .map_or(0, |history| history.population_time_constants);
            population.resize(constants * traces.units(), 0.0);
            traces.features(&mut features);
            traces.population(&mut population);
        }
        let conditions = conditions_of(&self.model, &recording.recording);
        let mut conditions = conditions.expect("the network's channels are those of the set");
        Prepared {
            conditions: conditions.at(end_ns).to_vec(),
            targets: self.targets[window.recording].at(end_ns, true),
            window,
            features,
            population,
            seed: 0,
            reference,
        }
    }

    /// A window to learn from: the population loses units, the others stand for them, and other modalities are left out.
    pub fn to_learn(
        &self,
        window: Window,
        reference: Option<Arc<Reference>>,
        seed: u64,
        dropout: &DropoutSection,
    ) -> Prepared {
        let dropped = dropout.population;
        let mut prepared = self.seen(window, reference);
        prepared.seed = seed;
        let units = self.set.session_of(prepared.window.recording).recorded_ids.len();
        let mut present = vec![false; units];
        prepared
            .window
            .units
            .iter()
            .for_each(|&unit| present[unit as usize] = true);
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let scale = (1.0 / (1.0 - dropped)) as f32;
        let keep: Vec<f32> = present
            .iter()
            .map(|&present| {
                if present && random.random::<f64>() >= dropped {
                    scale
                } else {
                    0.0
                }
            })
            .collect();
        for row in prepared.population.chunks_exact_mut(units) {
            row.iter_mut().zip(&keep).for_each(|(x, keep)| *x *= keep);
        }
        for tokens in &mut prepared.conditions {
            if random.random::<f64>() < dropout.modalities {
                tokens.clear();
            }
        }
        // A unit that is not there at all stands at its mean.
        let width = prepared.features.len() / units;
        for (row, _) in prepared
            .features
            .chunks_exact_mut(width.max(1))
            .zip(&present)
            .filter(|(_, &present)| !present)
        {
            row[..width - 2].fill(0.0);
        }
        prepared
    }
}
