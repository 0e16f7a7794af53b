//! Batches of windows, drawn.

use std::sync::Arc;

use rand::seq::index;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Triangular};

use super::set::window_ns;
use super::{SamplerError, TrainingSet, Window};

/// How many units of a window are kept: the whole part of a draw from a triangular distribution, and never more than
/// there are. Sessions of fewer than `min` units are kept whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnitDropout {
    /// Fewest units that are kept.
    pub min: usize,
    /// The most likely number.
    pub mode: usize,
    /// Most units that are kept.
    pub max: usize,
}

/// Choices in drawing.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SamplerOptions {
    /// Seed of every draw.
    pub seed: u64,
    /// Windows a batch.
    pub batch_size: usize,
    /// Histories begin on the recording's grid of bins; otherwise at any nanosecond.
    pub grid_starts: bool,
    /// Whether some units are left out of each window.
    pub unit_dropout: Option<UnitDropout>,
    /// Where a recording holds counts, spikes get new times inside their bins in every draw. A bin that is not wholly in
    /// the history keeps its times, so that no spike comes in from what is predicted.
    pub spread: bool,
}

impl Default for SamplerOptions {
    fn default() -> Self {
        SamplerOptions {
            seed: 0,
            batch_size: 64,
            grid_starts: true,
            unit_dropout: None,
            spread: true,
        }
    }
}

/// The windows of one step.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// The step that it is for.
    pub step: u64,
    /// Its windows.
    pub windows: Vec<Window>,
}

/// Window starts at equal distances.
#[derive(Debug, Clone, Copy)]
struct Starts {
    recording: usize,
    first_ns: i64,
    step_ns: i64,
    /// Number of these and all earlier ones.
    up_to: u64,
}

/// Draws windows uniformly from all that lie wholly inside an observed stretch of a training interval.
#[derive(Debug, Clone)]
pub struct Sampler {
    set: Arc<TrainingSet>,
    options: SamplerOptions,
    starts: Vec<Starts>,
    kept_units: Option<Triangular<f64>>,
}

impl Sampler {
    /// A sampler of a set.
    ///
    /// # Errors
    /// If an option is out of range.
    pub fn new(set: Arc<TrainingSet>, options: SamplerOptions) -> Result<Self, SamplerError> {
        if options.batch_size == 0 {
            return Err(SamplerError::Option(
                "`batch_size` is 0, expected at least 1".to_owned(),
            ));
        }
        let kept_units = options.unit_dropout.map(|dropout| {
            let UnitDropout { min, mode, max } = dropout;
            let refuse = || {
                SamplerError::Option(format!(
                    "`unit_dropout` has min {min}, mode {mode}, max {max}, expected 1 ≤ min ≤ mode ≤ max"
                ))
            };
            if min == 0 {
                return Err(refuse());
            }
            Triangular::new(min as f64, max as f64, mode as f64).map_err(|_| refuse())
        });
        let (shape, step_ns) = (set.shape(), if options.grid_starts { set.shape().bin_ns } else { 1 });
        let mut starts = Vec::new();
        let mut up_to = 0;
        for (index, recording) in set.recordings().iter().enumerate() {
            for stretch in &recording.training {
                let first_ns = recording.grid_at_or_after(stretch.start_ns, step_ns);
                let room_ns = stretch.end_ns - window_ns(shape) - first_ns;
                if room_ns >= 0 {
                    up_to += (room_ns / step_ns) as u64 + 1;
                    starts.push(Starts {
                        recording: index,
                        first_ns,
                        step_ns,
                        up_to,
                    });
                }
            }
        }
        Ok(Sampler {
            set,
            options,
            starts,
            kept_units: kept_units.transpose()?,
        })
    }

    /// What it draws from.
    pub fn set(&self) -> &Arc<TrainingSet> {
        &self.set
    }

    /// Number of different window starts.
    pub fn admissible(&self) -> u64 {
        self.starts.last().map_or(0, |starts| starts.up_to)
    }

    /// The batch of a step.
    pub fn batch(&self, step: u64) -> Batch {
        let mut random = ChaCha8Rng::seed_from_u64(self.options.seed);
        random.set_stream(step);
        let windows = (0..self.options.batch_size).map(|_| self.draw(&mut random)).collect();
        Batch { step, windows }
    }

    fn draw(&self, random: &mut ChaCha8Rng) -> Window {
        let number = random.random_range(0..self.admissible());
        let place = self.starts.partition_point(|starts| starts.up_to <= number);
        let starts = self.starts[place];
        let before = if place == 0 { 0 } else { self.starts[place - 1].up_to };
        let start_ns = starts.first_ns + (number - before) as i64 * starts.step_ns;
        let mut window = self.set.window(starts.recording, start_ns);
        if self.options.spread {
            self.spread(&mut window, random);
        }
        if let (Some(dropout), Some(kept)) = (self.options.unit_dropout, self.kept_units) {
            drop_units(&mut window, dropout.min, kept.sample(random), random);
        }
        window
    }

    /// Draws the times of spikes anew, inside the bins that they were counted in.
    fn spread(&self, window: &mut Window, random: &mut ChaCha8Rng) {
        let recording = &self.set.recordings()[window.recording];
        if recording.recording.count_bin_ns.is_none() {
            return;
        }
        let (start_ns, end_ns) = (window.start_ns, window.start_ns + self.set.shape().history_ns);
        let past = recording.spikes().between(start_ns, end_ns);
        let mut spikes: Vec<(i64, u32)> = past.times_ns.iter().copied().zip(past.units.iter().copied()).collect();
        for (time_ns, _) in &mut spikes {
            let bin = recording.recording.count_bin_of(*time_ns);
            if let Some(bin) = bin.filter(|bin| start_ns <= bin.start_ns && bin.end_ns <= end_ns) {
                *time_ns = random.random_range(bin.start_ns..bin.end_ns);
            }
        }
        spikes.sort_unstable();
        window.times_s = spikes.iter().map(|(t, _)| (t - start_ns) as f64 * 1e-9).collect();
        window.unit = spikes.iter().map(|&(_, unit)| unit).collect();
    }
}

/// Keeps `drawn` of a window's units, chosen at random.
fn drop_units(window: &mut Window, min: usize, drawn: f64, random: &mut ChaCha8Rng) {
    let all = window.units.len();
    let kept = (drawn as usize).min(all);
    if all < min || kept == all {
        return;
    }
    let mut units: Vec<u32> = index::sample(random, all, kept)
        .into_iter()
        .map(|unit| unit as u32)
        .collect();
    units.sort_unstable();
    let mut keeps = vec![false; all];
    units.iter().for_each(|&unit| keeps[unit as usize] = true);
    window.units = units;
    let spikes = window.times_s.iter().zip(&window.unit);
    (window.times_s, window.unit) = spikes.filter(|(_, &unit)| keeps[unit as usize]).unzip();
}
