//! What identities are computed from while learning: a new reference for every session of every step, so that none can be
//! learned by heart, and one that stays for validation.

use std::sync::Arc;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::config::IdentitySection;
use super::sampler::{TrainingSet, Window};
use super::TrainError;
use crate::data::Interval;
use crate::model::config::IdentityConfig;
use crate::model::identity::{window_starts, Reference};

/// Draws references of the sessions of a set.
#[derive(Debug, Clone)]
pub struct References {
    set: Arc<TrainingSet>,
    config: IdentityConfig,
    /// Fewest and most windows of a drawn reference.
    windows: (usize, usize),
    /// By session.
    fixed: Vec<Arc<Reference>>,
}

/// Where a window begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Start {
    recording: usize,
    start_ns: i64,
}

impl References {
    /// With the encoder's sizes and how long references are.
    ///
    /// # Errors
    /// A session without a stretch as long as a window.
    pub fn new(set: Arc<TrainingSet>, config: IdentityConfig, section: &IdentitySection) -> Result<Self, TrainError> {
        let windows_of = |seconds: f64| ((seconds * 1e9 / config.window_ns() as f64).round() as usize).max(1);
        let mut references = References {
            windows: (windows_of(section.shortest_s), windows_of(section.longest_s)),
            fixed: Vec::new(),
            set,
            config,
        };
        for (session, described) in references.set.clone().sessions().iter().enumerate() {
            let mut starts = references.starts(session, 0);
            if starts.is_empty() {
                return Err(TrainError::Config(format!(
                    "session {} has no observed stretch as long as a window of model.identity, which is {} s",
                    described.name,
                    config.window_ns() as f64 * 1e-9
                )));
            }
            starts.truncate(windows_of(section.validation_s));
            let reference = references.made_of(session, &starts);
            references.fixed.push(Arc::new(reference));
        }
        Ok(references)
    }

    /// The one that stays, of a session.
    pub fn fixed(&self, session: usize) -> Arc<Reference> {
        self.fixed[session].clone()
    }

    /// A new one of a session, that sees nothing of what is to be predicted in `windows`.
    pub fn draw(&self, session: usize, windows: &[&Window], seed: u64) -> Arc<Reference> {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let offset_bins = random.random_range(0..self.config.window_bins as i64);
        let mut starts = self.starts(session, offset_bins * self.config.bin_ns());
        let shape = self.set.shape();
        let predicted: Vec<(usize, Interval)> = windows
            .iter()
            .map(|window| {
                let start_ns = window.start_ns + shape.history_ns;
                let end_ns = start_ns + shape.horizon_ns;
                (window.recording, Interval { start_ns, end_ns })
            })
            .collect();
        starts.retain(|start| {
            let window = Interval {
                start_ns: start.start_ns,
                end_ns: start.start_ns + self.config.window_ns(),
            };
            let meets = |(recording, part): &(usize, Interval)| {
                *recording == start.recording && part.intersection(&window).is_some()
            };
            !predicted.iter().any(meets)
        });
        if starts.is_empty() {
            // So short a session, or so many windows of it, that every stretch is predicted in part.
            return self.fixed(session);
        }
        let count = random.random_range(self.windows.0..=self.windows.1).min(starts.len());
        let first = random.random_range(0..starts.len());
        starts.rotate_left(first);
        starts.truncate(count);
        Arc::new(self.made_of(session, &starts))
    }

    /// Windows one after another in what the session's units are known from, `offset_ns` after the stretches' beginnings.
    fn starts(&self, session: usize, offset_ns: i64) -> Vec<Start> {
        let members = self.set.recordings().iter().enumerate();
        let mut starts = Vec::new();
        for (recording, member) in members.filter(|(_, member)| member.session == session) {
            for stretch in &member.reference {
                let first_ns = member.grid_at_or_after(stretch.start_ns, self.config.bin_ns()) + offset_ns;
                let windows = window_starts(&self.config, first_ns, stretch.end_ns);
                starts.extend(windows.map(|start_ns| Start { recording, start_ns }));
            }
        }
        starts
    }

    fn made_of(&self, session: usize, starts: &[Start]) -> Reference {
        let windows: Vec<_> = starts
            .iter()
            .map(|start| (self.set.recordings()[start.recording].spikes(), start.start_ns))
            .collect();
        let units = self.set.sessions()[session].recorded_ids.len();
        Reference::new(&self.config, self.set.shape().bin_ns, units, &windows)
    }
}
