//! Centre-out reaches in a closed loop: the population intends to bring a cursor to a target, and the cursor goes where a decoder
//! takes it.
//!
//! Units are those of the open-loop population of the same seed and configuration: the same tuning, refractoriness and steps, and
//! noise of its own. They are driven by the movement that is *intended* at each step, towards the target from where the cursor is
//! seen, as a subject corrects what a decoder got wrong. Its speed rises like that of the open-loop reaches to their peak speed, is
//! proportional to the distance within a reach's length of the target, and is 0 well inside it ([`ReachTask::intention`]).
//!
//! In open loop activity at `t` belongs to the movement at `t + lead_ms`. Here it belongs to the intention at `t`, which is what the
//! hand would do `lead_ms` later: a decoder that was fitted in open loop moves the cursor about `lead_ms` after the intention
//! arises, and that delay is part of the loop, as it is for a subject.
//!
//! Trials come in sets: every decoder in turn takes over for one trial with the same target, so that decoders can be compared in
//! pairs. Which comes first rotates from set to set. In each eight sets every target comes once, in random order.

use std::sync::Arc;

use rand::seq::SliceRandom;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::reach::{peak_speed_m_s, relative_speed, Motion, DIRECTIONS, REACH_NS};
use super::{Population, SimulationConfig, SimulationError, STEP_NS};
use crate::acquire::simulated::SpikeGenerator;

mod cursor;
mod port;
#[cfg(test)]
mod tests;

pub use cursor::Cursor;
pub use port::{LoopState, ReachPort, TrialOutcome, TrialResult, SAMPLE_NS};

/// From the target's appearance to the first intention to move.
const REACTION_NS: i64 = 150_000_000;
/// Random streams beyond those of the open-loop trials.
const SPIKE_STREAM: u64 = u64::MAX;
const TARGET_STREAM: u64 = u64::MAX - 1;
/// A trial's number has 16 bits in the port, of which the last says that all are over.
const MAX_TRIALS: usize = (1 << 16) - 2;

/// The task.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct ReachTask {
    /// Distance of the targets from the centre, m.
    pub reach_m: f64,
    /// The cursor is at the target within this distance, m.
    pub radius_m: f64,
    /// It has to stay there for this long, ns.
    pub hold_ns: i64,
    /// A trial that has not succeeded by then has failed, ns after the target's appearance.
    pub time_out_ns: i64,
    /// The cursor waits at the centre for this long before each target, ns.
    pub pause_ns: i64,
    /// The same before the first, ns.
    pub first_pause_ns: i64,
    /// The cursor stays within this distance of the centre on each axis, m.
    pub workspace_m: f64,
}

impl Default for ReachTask {
    fn default() -> Self {
        ReachTask {
            reach_m: 0.1,
            radius_m: 0.03,
            hold_ns: 300_000_000,
            time_out_ns: 4_000_000_000,
            pause_ns: 600_000_000,
            first_pause_ns: 1_500_000_000,
            workspace_m: 0.15,
        }
    }
}

impl ReachTask {
    /// The movement that is intended `since_ns` after the target's appearance with the cursor there.
    fn intention(&self, since_ns: i64, cursor_m: [f64; 2], target: usize) -> Motion {
        let target_m = self.target_m(target);
        let towards = [target_m[0] - cursor_m[0], target_m[1] - cursor_m[1]];
        let distance = (towards[0] * towards[0] + towards[1] * towards[1]).sqrt();
        if since_ns < REACTION_NS || distance <= self.rest_m() {
            return at_rest();
        }
        let part = (since_ns - REACTION_NS) as f64 / REACH_NS as f64;
        Motion {
            direction: towards.map(|axis| axis / distance),
            speed: relative_speed(part.min(0.5)) * (distance / self.reach_m).min(1.0),
        }
    }

    /// So near the target no movement is intended, m: half its radius.
    fn rest_m(&self) -> f64 {
        0.5 * self.radius_m
    }

    /// A target's place, m.
    pub fn target_m(&self, target: usize) -> [f64; 2] {
        DIRECTIONS[target].map(|axis| axis * self.reach_m)
    }

    /// Whether the cursor is at the target.
    fn at_target(&self, cursor_m: [f64; 2], target: usize) -> bool {
        let target_m = self.target_m(target);
        let [x, y] = [target_m[0] - cursor_m[0], target_m[1] - cursor_m[1]];
        x * x + y * y <= self.radius_m * self.radius_m
    }

    /// Longest that so many trials can take, ns.
    pub fn longest_ns(&self, trials: usize) -> i64 {
        self.first_pause_ns + trials as i64 * (self.pause_ns + self.time_out_ns + STEP_NS)
    }
}

fn at_rest() -> Motion {
    Motion {
        direction: DIRECTIONS[0],
        speed: 0.0,
    }
}

/// A trial before it begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PlannedTrial {
    /// Which set it belongs to; trials of a set have the same target.
    pub set: usize,
    /// The target, an index into [`DIRECTIONS`].
    pub target: usize,
    /// The decoder in charge.
    pub decoder: usize,
}

/// `sets` trials of each of the decoders.
fn plan(seed: u64, sets: usize, decoders: usize) -> Vec<PlannedTrial> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    random.set_stream(TARGET_STREAM);
    let mut order: Vec<usize> = (0..DIRECTIONS.len()).collect();
    let mut trials = Vec::with_capacity(sets * decoders);
    for set in 0..sets {
        if set % order.len() == 0 {
            order.shuffle(&mut random);
        }
        let target = order[set % order.len()];
        trials.extend((0..decoders).map(|turn| PlannedTrial {
            set,
            target,
            decoder: (set + turn) % decoders,
        }));
    }
    trials
}

/// A running closed loop. Its clock starts at 0 with every unit recovered and the cursor at the centre.
#[derive(Debug)]
pub struct ClosedLoop {
    population: Population,
    task: ReachTask,
    port: Arc<ReachPort>,
    /// Number of the trial.
    trial: usize,
    phase: Phase,
}

#[derive(Debug, Clone, Copy)]
enum Phase {
    /// The cursor is at the centre until then.
    Pause(i64),
    /// The target appeared at `start_ns`; the cursor has been there since `at_target_ns`.
    Trial { start_ns: i64, at_target_ns: Option<i64> },
    /// After the last trial.
    Over,
}

impl ClosedLoop {
    /// A loop over the population of this seed, and the port that the cursor comes in through. `sets` trials of each of `decoders`.
    ///
    /// # Errors
    /// If the configuration cannot be simulated, or there are no trials or too many.
    pub fn new(
        config: SimulationConfig,
        seed: u64,
        task: ReachTask,
        sets: usize,
        decoders: usize,
    ) -> Result<(ClosedLoop, Arc<ReachPort>), SimulationError> {
        let trials = sets.saturating_mul(decoders);
        if !(1..=MAX_TRIALS).contains(&trials) {
            return Err(SimulationError(format!(
                "{sets} trials of each of {decoders} decoders are not between 1 and {MAX_TRIALS} in all"
            )));
        }
        let mut population = Population::new(config, seed)?;
        population.random.set_stream(SPIKE_STREAM);
        let port = Arc::new(ReachPort::new(task, plan(seed, sets, decoders)));
        let closed_loop = ClosedLoop {
            population,
            task,
            port: port.clone(),
            trial: 0,
            phase: Phase::Pause(task.first_pause_ns),
        };
        Ok((closed_loop, port))
    }

    /// Goes one step on in the task, and says what is intended meanwhile.
    fn intend(&mut self) -> Motion {
        let now_ns = self.population.now_ns();
        if let Phase::Pause(until_ns) = self.phase {
            if now_ns < until_ns {
                return at_rest();
            }
            self.phase = Phase::Trial {
                start_ns: now_ns,
                at_target_ns: None,
            };
            self.port.begin(self.trial, now_ns);
        }
        let Phase::Trial { start_ns, at_target_ns } = &mut self.phase else {
            return at_rest();
        };
        let (since_ns, target) = (now_ns - *start_ns, self.port.plan()[self.trial].target);
        let cursor_m = self.port.cursor_m(self.trial);
        self.port.sample(self.trial, since_ns, cursor_m);
        let mut outcome = None;
        if self.task.at_target(cursor_m, target) {
            let arrived_ns = *at_target_ns.get_or_insert(now_ns);
            if now_ns - arrived_ns >= self.task.hold_ns {
                outcome = Some(TrialOutcome::Success {
                    time_to_target_ns: arrived_ns - *start_ns,
                });
            }
        } else {
            *at_target_ns = None;
        }
        if since_ns >= self.task.time_out_ns {
            outcome = outcome.or(Some(TrialOutcome::TimeOut));
        }
        match outcome {
            None => self.task.intention(since_ns, cursor_m, target),
            Some(outcome) => {
                self.port.end(self.trial, outcome);
                self.trial += 1;
                self.phase = match self.trial < self.port.plan().len() {
                    true => Phase::Pause(now_ns + self.task.pause_ns),
                    false => Phase::Over,
                };
                at_rest()
            }
        }
    }
}

impl SpikeGenerator for ClosedLoop {
    fn unit_ids(&self) -> Vec<String> {
        self.population.unit_ids()
    }

    fn advance_to(&mut self, until_ns: i64, emit: &mut dyn FnMut(i64, u32)) {
        let peak_m_s = peak_speed_m_s(self.task.reach_m);
        while self.population.now_ns() + STEP_NS <= until_ns {
            let motion = self.intend();
            let velocity = motion.direction.map(|axis| axis * motion.speed * peak_m_s);
            self.port.intend(velocity);
            self.population.step(motion, &mut |time_ns, unit| emit(time_ns, unit));
        }
    }

    fn started(&mut self, device_ns: i64, host_ns: i64) {
        self.port.start_clock(device_ns, host_ns);
    }

    fn ended(&self) -> bool {
        matches!(self.phase, Phase::Over)
    }
}
