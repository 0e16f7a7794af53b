//! What a run's threads tell the rest of the program while they run: plain atomics and one text, written by one thread each.

use std::sync::atomic::{AtomicI64, AtomicU64, AtomicU8, Ordering::Relaxed};
use std::sync::OnceLock;

use serde::Serialize;

use super::hand_over::Pulse;

/// State of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
#[repr(u8)]
pub enum RunState {
    /// The configuration has been read.
    Started,
    /// Every buffer has been taken and every socket bound.
    Ready,
    /// Predictions go out as they should.
    Running,
    /// A prediction of the last second was late, held, neutral or lost, or spikes or samples were refused.
    Degraded,
    /// A thread failed; the run ends.
    Fatal,
    /// The run ends: its sources have ended, or it was told to.
    Shutdown,
}

impl RunState {
    fn from_code(code: u8) -> Self {
        use RunState::{Degraded, Fatal, Ready, Running, Shutdown, Started};
        [Started, Ready, Running, Degraded, Fatal, Shutdown]
            .into_iter()
            .find(|state| *state as u8 == code)
            .unwrap_or(Fatal)
    }
}

/// The shared cells of a run.
#[derive(Debug, Default)]
pub(crate) struct Live {
    state: AtomicU8,
    /// Of the decode thread.
    pub pulse: Pulse,
    /// Device time of the end of the bin that closed last, ns.
    pub device_ns: AtomicI64,
    pub clock_offset_ns: AtomicI64,
    pub clock_spread_ns: AtomicI64,
    pub spikes: AtomicU64,
    pub refused: AtomicU64,
    pub samples: AtomicU64,
    pub samples_lost: AtomicU64,
    pub samples_late: AtomicU64,
    pub published: AtomicU64,
    pub missed: AtomicU64,
    pub stand_ins: AtomicU64,
    pub latency_p50_ns: AtomicU64,
    pub latency_p99_ns: AtomicU64,
    /// Bits of an f64; NaN while there is nothing to score.
    bits_per_spike: AtomicU64,
    /// What the device said when it failed and another took over: written once at most, by the decode thread.
    pub device_failure: OnceLock<String>,
}

impl Live {
    pub fn new() -> Self {
        let live = Self::default();
        live.set_bits_per_spike(None);
        live
    }

    pub fn state(&self) -> RunState {
        RunState::from_code(self.state.load(Relaxed))
    }

    /// Goes to `state`; the two final states are not left, and Fatal wins over Shutdown.
    pub fn set_state(&self, state: RunState) {
        let _ = self
            .state
            .fetch_update(Relaxed, Relaxed, |now| match RunState::from_code(now) {
                RunState::Fatal => None,
                RunState::Shutdown if state != RunState::Fatal => None,
                _ => Some(state as u8),
            });
    }

    pub fn set_bits_per_spike(&self, bits: Option<f64>) {
        self.bits_per_spike.store(bits.unwrap_or(f64::NAN).to_bits(), Relaxed);
    }

    pub fn snapshot(&self) -> LiveSnapshot {
        let bits = f64::from_bits(self.bits_per_spike.load(Relaxed));
        LiveSnapshot {
            state: self.state(),
            device_ns: self.device_ns.load(Relaxed),
            spikes: self.spikes.load(Relaxed),
            refused: self.refused.load(Relaxed),
            samples: self.samples.load(Relaxed),
            samples_lost: self.samples_lost.load(Relaxed),
            samples_late: self.samples_late.load(Relaxed),
            published: self.published.load(Relaxed),
            missed: self.missed.load(Relaxed),
            stand_ins: self.stand_ins.load(Relaxed),
            latency_p50_ns: self.latency_p50_ns.load(Relaxed),
            latency_p99_ns: self.latency_p99_ns.load(Relaxed),
            bits_per_spike: (!bits.is_nan()).then_some(bits),
        }
    }
}

/// A look at a run while it goes on.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct LiveSnapshot {
    /// The run's state.
    pub state: RunState,
    /// Device time of the end of the bin that closed last, ns.
    pub device_ns: i64,
    /// Spikes taken from the rings.
    pub spikes: u64,
    /// Spikes refused by full rings and buffers.
    pub refused: u64,
    /// Samples of other modalities taken from the rings.
    pub samples: u64,
    /// Samples refused, or pushed out of a full history.
    pub samples_lost: u64,
    /// Samples that came after their bin had closed.
    pub samples_late: u64,
    /// Predictions published.
    pub published: u64,
    /// Those of them that missed their deadline.
    pub missed: u64,
    /// Those of them that were held or neutral.
    pub stand_ins: u64,
    /// Median time from a bin's close to its publication, ns.
    pub latency_p50_ns: u64,
    /// The 99th percentile of the same.
    pub latency_p99_ns: u64,
    /// Bits per spike over the non-overlapping windows so far.
    pub bits_per_spike: Option<f64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_final_states_stay() {
        let live = Live::new();
        assert_eq!(live.state(), RunState::Started);
        live.set_state(RunState::Running);
        live.set_state(RunState::Shutdown);
        live.set_state(RunState::Running);
        assert_eq!(live.state(), RunState::Shutdown);
        live.set_state(RunState::Fatal);
        live.set_state(RunState::Shutdown);
        assert_eq!(live.state(), RunState::Fatal);
    }
}
