//! The task: centre-out reaches to eight targets.
//!
//! Every trial takes [`TRIAL_NS`]: the hand holds at the centre, a target appears, after a reaction time the hand reaches
//! to it along a straight minimum-jerk path (Flash & Hogan 1985), holds there and returns. Hold, reaction time and target
//! are drawn for each trial from its own random stream, so any moment can be looked up without going through those before.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::data::{ns_to_seconds, Trial};

const MS: i64 = 1_000_000;
/// Length of a trial.
pub const TRIAL_NS: i64 = 2000 * MS;
/// Duration of the reach, and of the return.
pub const REACH_NS: i64 = 500 * MS;
/// From here to the trial's end the hand returns.
const RETURN_NS: i64 = TRIAL_NS - REACH_NS;
const HOLD_NS: [i64; 2] = [200 * MS, 500 * MS];
const REACTION_NS: [i64; 2] = [150 * MS, 300 * MS];

const DIAGONAL: f64 = std::f64::consts::FRAC_1_SQRT_2;
/// Directions of the targets from the centre, unit vectors, counter-clockwise from the right.
pub const DIRECTIONS: [[f64; 2]; 8] = [
    [1.0, 0.0],
    [DIAGONAL, DIAGONAL],
    [0.0, 1.0],
    [-DIAGONAL, DIAGONAL],
    [-1.0, 0.0],
    [-DIAGONAL, -DIAGONAL],
    [0.0, -1.0],
    [DIAGONAL, -DIAGONAL],
];

/// The hand at one moment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Kinematics {
    /// Position from the centre, m.
    pub position_m: [f64; 2],
    /// Velocity, m/s.
    pub velocity_m_s: [f64; 2],
    /// The target on show, an index into [`DIRECTIONS`]; none while the hand waits at the centre or returns.
    pub target: Option<usize>,
}

/// What units are tuned to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Motion {
    /// Unit vector of the movement.
    pub direction: [f64; 2],
    /// Speed over the reach's peak speed, 0 to 1.
    pub speed: f64,
}

/// One trial, its times counted from the trial's start.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Reach {
    number: i64,
    target: usize,
    cue_ns: i64,
    start_ns: i64,
}

/// The sequence of trials; the same for the same seed.
#[derive(Debug, Clone)]
pub(super) struct CentreOut {
    seed: u64,
    reach_m: f64,
    /// The trial looked at last.
    current: Reach,
}

impl CentreOut {
    pub fn new(seed: u64, reach_m: f64) -> CentreOut {
        CentreOut {
            seed,
            reach_m,
            current: draw_reach(seed, 0),
        }
    }

    /// The movement at `t_ns`; before 0 there is none.
    pub fn motion(&mut self, t_ns: i64) -> Motion {
        let number = t_ns.div_euclid(TRIAL_NS);
        if number != self.current.number {
            self.current = draw_reach(self.seed, number);
        }
        let within = t_ns.rem_euclid(TRIAL_NS);
        let [x, y] = DIRECTIONS[self.current.target];
        let at_rest = Motion {
            direction: [x, y],
            speed: 0.0,
        };
        if t_ns < 0 {
            return at_rest;
        }
        match progress(&self.current, within) {
            Progress::Reaching(part) => Motion {
                direction: [x, y],
                speed: relative_speed(part),
            },
            Progress::Returning(part) => Motion {
                direction: [-x, -y],
                speed: relative_speed(part),
            },
            Progress::AtCentre | Progress::AtTarget => at_rest,
        }
    }

    pub fn kinematics(&self, t_ns: i64) -> Kinematics {
        let still = Kinematics {
            position_m: [0.0; 2],
            velocity_m_s: [0.0; 2],
            target: None,
        };
        if t_ns < 0 {
            return still;
        }
        let within = t_ns.rem_euclid(TRIAL_NS);
        let reach = draw_reach(self.seed, t_ns.div_euclid(TRIAL_NS));
        let (distance, speed) = match progress(&reach, within) {
            Progress::AtCentre => (0.0, 0.0),
            Progress::AtTarget => (1.0, 0.0),
            Progress::Reaching(part) => (travelled(part), relative_speed(part)),
            Progress::Returning(part) => (1.0 - travelled(part), -relative_speed(part)),
        };
        let peak_m_s = peak_speed_m_s(self.reach_m);
        let along = DIRECTIONS[reach.target];
        Kinematics {
            position_m: along.map(|axis| axis * distance * self.reach_m),
            velocity_m_s: along.map(|axis| axis * speed * peak_m_s),
            target: (reach.cue_ns..RETURN_NS).contains(&within).then_some(reach.target),
        }
    }

    /// The trials that start and end within the time given.
    pub fn trials_within(&self, start_ns: i64, end_ns: i64) -> Vec<Trial> {
        let first = start_ns.max(0).div_euclid(TRIAL_NS) + i64::from(start_ns.max(0).rem_euclid(TRIAL_NS) > 0);
        let trial = |number: i64| Trial {
            start_ns: number * TRIAL_NS,
            end_ns: (number + 1) * TRIAL_NS,
            condition: Some(draw_reach(self.seed, number).target as i64),
        };
        (first..end_ns.div_euclid(TRIAL_NS)).map(trial).collect()
    }
}

enum Progress {
    AtCentre,
    /// Part of the reach's duration, 0 to 1.
    Reaching(f64),
    AtTarget,
    Returning(f64),
}

fn progress(reach: &Reach, within_ns: i64) -> Progress {
    let part = |start_ns: i64| (within_ns - start_ns) as f64 / REACH_NS as f64;
    if within_ns < reach.start_ns {
        Progress::AtCentre
    } else if within_ns < reach.start_ns + REACH_NS {
        Progress::Reaching(part(reach.start_ns))
    } else if within_ns < RETURN_NS {
        Progress::AtTarget
    } else {
        Progress::Returning(part(RETURN_NS))
    }
}

fn draw_reach(seed: u64, number: i64) -> Reach {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    // Stream 0 belongs to the units and their spikes.
    random.set_stream(1 + number.unsigned_abs());
    let target = random.random_range(0..DIRECTIONS.len() as u32) as usize;
    let cue_ns = random.random_range(HOLD_NS[0]..HOLD_NS[1]);
    let start_ns = cue_ns + random.random_range(REACTION_NS[0]..REACTION_NS[1]);
    Reach {
        number,
        target,
        cue_ns,
        start_ns,
    }
}

/// Peak speed of a reach, m/s: the minimum-jerk profile's is 15/8 of its mean speed.
pub(super) fn peak_speed_m_s(reach_m: f64) -> f64 {
    1.875 * reach_m / ns_to_seconds(REACH_NS)
}

/// Minimum-jerk distance, `10τ³ − 15τ⁴ + 6τ⁵`.
fn travelled(part: f64) -> f64 {
    part * part * part * (10.0 + part * (-15.0 + part * 6.0))
}

/// Minimum-jerk speed over its peak, `16τ²(1 − τ)²`.
pub(super) fn relative_speed(part: f64) -> f64 {
    let bell = part * (1.0 - part);
    16.0 * bell * bell
}
