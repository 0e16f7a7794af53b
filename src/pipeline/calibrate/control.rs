//! What the rest of the program has of a run's calibration: what it came to, the identities computed last, and a way to ask for others.

use std::sync::atomic::{
    AtomicU64,
    Ordering::{Acquire, Relaxed},
};
use std::sync::{Arc, Mutex, PoisonError};

use super::super::sharing::{Number, Real, Sharing};
use crate::model::identity::Identities;

/// What calibrations came to; readable from any thread.
#[derive(Debug, Default)]
pub struct CalibrationCounters {
    pub(super) made: AtomicU64,
    pub(super) taken_in: AtomicU64,
    pub(super) gaps: AtomicU64,
    pub(super) longest_ns: AtomicU64,
    pub(super) longest_take_ns: AtomicU64,
}

/// The same, in figures.
#[derive(Clone, Copy, Debug, Default, PartialEq, serde::Serialize)]
pub struct CalibrationCounts {
    /// Identities computed.
    pub made: u64,
    /// Of these, taken in by the decode thread.
    pub taken_in: u64,
    /// Bins whose spikes the calibrator could not be told of.
    pub gaps: u64,
    /// Longest computation of identities, what refines them included, ms, beside the decode thread.
    pub longest_ms: f64,
    /// Longest time that the decode thread took to take identities in, ms.
    pub longest_take_ms: f64,
}

impl CalibrationCounters {
    /// The figures so far.
    pub fn counts(&self) -> CalibrationCounts {
        let ms = |ns: &AtomicU64| ns.load(Relaxed) as f64 * 1e-6;
        CalibrationCounts {
            made: self.made.load(Relaxed),
            taken_in: self.taken_in.load(Relaxed),
            gaps: self.gaps.load(Relaxed),
            longest_ms: ms(&self.longest_ns),
            longest_take_ms: ms(&self.longest_take_ns),
        }
    }
}

/// Identities that were asked for: the first bin, counted as the calibrator is told of them, that their reference may end with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asked(u64);

/// What the rest of the program has of a run's calibration; the decode thread has no part in it.
#[derive(Debug)]
pub struct CalibrationControl<S: Sharing = Real> {
    /// Bins that the calibrator was told of.
    told: Arc<S::Number>,
    /// As [`Asked`]; 0 where nobody asks.
    pub(super) asked: S::Number,
    /// The bin that the reference of the newest identities ended with; 0 before the first.
    pub(super) computed: S::Number,
    pub(super) latest: Mutex<Option<Arc<Identities>>>,
    counters: Arc<CalibrationCounters>,
}

impl<S: Sharing> CalibrationControl<S> {
    pub(super) fn new(told: Arc<S::Number>, counters: Arc<CalibrationCounters>) -> Self {
        Self {
            told,
            asked: S::Number::default(),
            computed: S::Number::default(),
            latest: Mutex::default(),
            counters,
        }
    }

    /// Has identities computed once more, as soon as a whole reference has ended after this.
    pub fn recalibrate(&self) -> Asked {
        let first = self.told.load(Relaxed) + 1;
        let mut now = self.asked.load(Relaxed);
        // Whoever asks last is answered last.
        while now < first {
            match self.asked.compare_exchange(now, first, Relaxed, Relaxed) {
                Ok(_) => break,
                Err(other) => now = other,
            }
        }
        Asked(first)
    }

    /// Whether identities have been computed since they were asked for, from a reference that ended after that.
    pub fn is_answered(&self, asked: Asked) -> bool {
        self.computed.load(Acquire) >= asked.0
    }

    /// The identities computed last, of the run's units in their order; none before the first.
    pub fn latest(&self) -> Option<Arc<Identities>> {
        self.latest.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What calibrations came to so far.
    pub fn counts(&self) -> CalibrationCounts {
        self.counters.counts()
    }
}
