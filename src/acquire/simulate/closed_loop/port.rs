//! What the simulated subject and the cursor share: atomics, read and written without waiting.
//!
//! Each word is whole by itself: a cursor carries its trial's number, so that one that comes late from the trial before counts for
//! nothing. Every trial's outcome and path have their places before the run begins.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

use super::{PlannedTrial, ReachTask};

/// Time between two points of a recorded path, ns.
pub const SAMPLE_NS: i64 = 20_000_000;

/// Resolution of a position in a word: 1 µm, 24 bits an axis.
const PER_M: f64 = 1e6;
const AXIS_BITS: u32 = 24;
const AXIS_MASK: u64 = (1 << AXIS_BITS) - 1;
const AXIS_MOST: f64 = ((1 << (AXIS_BITS - 1)) - 1) as f64;

/// Bits of the state: the trial's number from here on, below it whether it runs, below that its start in ms.
const TRIAL_SHIFT: u32 = 48;
const RUNS: u64 = 1 << 47;
const MS: i64 = 1_000_000;

/// Outcomes as numbers: others are times to the target, ns.
const PENDING: i64 = -2;
const TIMED_OUT: i64 = -1;

/// Where the loop is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LoopState {
    /// Number of the trial that runs or comes next; that of all trials when they are over.
    pub trial: usize,
    /// When its target appeared, device ns; none while the cursor waits at the centre.
    pub started_ns: Option<i64>,
}

/// How a trial ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TrialOutcome {
    /// The cursor came to the target and stayed.
    Success {
        /// From the target's appearance to the arrival after which it stayed, ns.
        time_to_target_ns: i64,
    },
    /// It did not in time.
    TimeOut,
}

/// A trial that has ended.
#[derive(Debug, Clone, PartialEq)]
pub struct TrialResult {
    /// What was planned.
    pub planned: PlannedTrial,
    /// How it ended.
    pub outcome: TrialOutcome,
    /// The cursor every [`SAMPLE_NS`] from the target's appearance to the end, m.
    pub path_m: Vec<[f64; 2]>,
}

/// The state that is shared.
#[derive(Debug)]
pub struct ReachPort {
    task: ReachTask,
    plan: Box<[PlannedTrial]>,
    state: AtomicU64,
    cursor: AtomicU64,
    /// Two float32.
    intended: AtomicU64,
    /// Host − device time, ns.
    clock_offset_ns: AtomicI64,
    /// `[trials]`.
    outcomes: Box<[AtomicI64]>,
    /// `[trials, samples]`.
    paths: Box<[AtomicU64]>,
}

impl ReachPort {
    pub(super) fn new(task: ReachTask, plan: Vec<PlannedTrial>) -> Self {
        let trials = plan.len();
        ReachPort {
            state: AtomicU64::new(0),
            cursor: AtomicU64::new(0),
            intended: AtomicU64::new(0),
            clock_offset_ns: AtomicI64::new(0),
            outcomes: (0..trials).map(|_| AtomicI64::new(PENDING)).collect(),
            paths: (0..trials * samples(&task)).map(|_| AtomicU64::new(0)).collect(),
            plan: plan.into(),
            task,
        }
    }

    /// The task.
    pub fn task(&self) -> &ReachTask {
        &self.task
    }

    /// Every trial in order, known to both sides.
    pub fn plan(&self) -> &[PlannedTrial] {
        &self.plan
    }

    /// Where the loop is.
    pub fn state(&self) -> LoopState {
        let state = self.state.load(Relaxed);
        let start_ms = (state & (RUNS - 1)) as i64;
        LoopState {
            trial: (state >> TRIAL_SHIFT) as usize,
            started_ns: (state & RUNS != 0).then_some(start_ms * MS),
        }
    }

    /// Puts the cursor of a trial, m.
    pub fn put_cursor(&self, trial: usize, cursor_m: [f64; 2]) {
        self.cursor.store(cursor_word(trial, cursor_m), Relaxed);
    }

    /// The cursor of a trial, m: the centre until it has been put.
    pub fn cursor_m(&self, trial: usize) -> [f64; 2] {
        let word = self.cursor.load(Relaxed);
        match (word >> TRIAL_SHIFT) as usize == trial {
            true => position_m(word),
            false => [0.0; 2],
        }
    }

    /// The velocity that is intended now, m/s.
    pub fn intended_m_s(&self) -> [f32; 2] {
        let word = self.intended.load(Relaxed);
        [f32::from_bits(word as u32), f32::from_bits((word >> 32) as u32)]
    }

    /// Host time of a device time, monotonic ns.
    pub fn host_ns(&self, device_ns: i64) -> i64 {
        device_ns + self.clock_offset_ns.load(Relaxed)
    }

    /// How a trial ended, once it has.
    pub fn outcome(&self, trial: usize) -> Option<TrialOutcome> {
        match self.outcomes[trial].load(Relaxed) {
            PENDING => None,
            TIMED_OUT => Some(TrialOutcome::TimeOut),
            time_to_target_ns => Some(TrialOutcome::Success { time_to_target_ns }),
        }
    }

    /// The trials that have ended, in order. To be read when the run is over, or for those that ended a while ago.
    pub fn results(&self) -> Vec<TrialResult> {
        let per_trial = samples(&self.task);
        let result = |(trial, &planned): (usize, &PlannedTrial)| {
            let outcome = self.outcome(trial)?;
            let length_ns = match outcome {
                TrialOutcome::Success { time_to_target_ns } => time_to_target_ns + self.task.hold_ns,
                TrialOutcome::TimeOut => self.task.time_out_ns,
            };
            let points = &self.paths[trial * per_trial..][..(length_ns / SAMPLE_NS) as usize + 1];
            Some(TrialResult {
                planned,
                outcome,
                path_m: points.iter().map(|word| position_m(word.load(Relaxed))).collect(),
            })
        };
        self.plan.iter().enumerate().filter_map(result).collect()
    }

    pub(super) fn begin(&self, trial: usize, start_ns: i64) {
        let state = (trial as u64) << TRIAL_SHIFT | RUNS | (start_ns / MS) as u64;
        self.state.store(state, Relaxed);
    }

    pub(super) fn sample(&self, trial: usize, since_ns: i64, cursor_m: [f64; 2]) {
        if since_ns % SAMPLE_NS == 0 {
            let place = trial * samples(&self.task) + (since_ns / SAMPLE_NS) as usize;
            self.paths[place].store(cursor_word(trial, cursor_m), Relaxed);
        }
    }

    pub(super) fn end(&self, trial: usize, outcome: TrialOutcome) {
        let number = match outcome {
            TrialOutcome::Success { time_to_target_ns } => time_to_target_ns,
            TrialOutcome::TimeOut => TIMED_OUT,
        };
        self.outcomes[trial].store(number, Relaxed);
        self.state.store((trial as u64 + 1) << TRIAL_SHIFT, Relaxed);
    }

    pub(super) fn intend(&self, velocity_m_s: [f64; 2]) {
        let [x, y] = velocity_m_s.map(|axis| u64::from((axis as f32).to_bits()));
        self.intended.store(y << 32 | x, Relaxed);
    }

    pub(super) fn start_clock(&self, device_ns: i64, host_ns: i64) {
        self.clock_offset_ns.store(host_ns - device_ns, Relaxed);
    }
}

/// Points of the longest path, that of a trial that times out, with both ends.
fn samples(task: &ReachTask) -> usize {
    (task.time_out_ns / SAMPLE_NS) as usize + 1
}

fn cursor_word(trial: usize, cursor_m: [f64; 2]) -> u64 {
    // A number that is none becomes 0.
    let axis = |m: f64| (m * PER_M).round().clamp(-AXIS_MOST, AXIS_MOST) as i64 as u64 & AXIS_MASK;
    (trial as u64) << TRIAL_SHIFT | axis(cursor_m[0]) << AXIS_BITS | axis(cursor_m[1])
}

fn position_m(word: u64) -> [f64; 2] {
    // Shifted up and down again so that the sign fills the upper bits.
    let axis = |bits: u64| ((bits << (64 - AXIS_BITS)) as i64 >> (64 - AXIS_BITS)) as f64 / PER_M;
    [axis(word >> AXIS_BITS), axis(word)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_position_comes_back_to_the_micrometre() {
        for position in [[0.1, -0.1], [-8.0, 8.0], [0.0, 0.000_001], [-0.000_001, 0.15]] {
            let back = position_m(cursor_word(65_534, position));
            assert!((0..2).all(|i| (back[i] - position[i]).abs() < 0.6e-6), "{back:?}");
        }
        assert_eq!(position_m(cursor_word(0, [f64::NAN, 1e9])), [0.0, AXIS_MOST / PER_M]);
    }

    #[test]
    fn a_cursor_of_another_trial_counts_for_nothing() {
        let port = ReachPort::new(ReachTask::default(), Vec::new());
        port.put_cursor(3, [0.02, -0.03]);
        assert_eq!(port.cursor_m(3), [0.02, -0.03]);
        assert_eq!(port.cursor_m(4), [0.0; 2]);
    }
}
