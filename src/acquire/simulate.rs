//! A simulated population of motor-cortex-like units with known true rates.
//!
//! Cosine-tuned units (Georgopoulos et al. 1982; speed gain after Moran & Schwartz 1999) with absolute and relative
//! refractoriness fire while a hand makes centre-out reaches ([`reach`]). The model is a point process in steps of
//! [`STEP_NS`], at most one spike a unit and step:
//!
//! - drive `d(t) = max(0, baseline + s·(modulation·cos(θ − θ_preferred) + speed_gain))` in Hz, where `s` is the hand's
//!   speed over its peak speed and `θ` its direction, both `lead_ms` ahead of `t`, as motor cortex leads movement;
//! - in each step a unit fires with probability `d · step · recovery(age)`, where `age` is the whole steps since its last
//!   spike: 0 up to the absolute period, then rising linearly to 1 over the relative one;
//! - the time within the step is uniform.
//!
//! That is the model's definition and not an approximation of a continuous one, so [`ExpectedCounts`] states the
//! expected counts exactly. It uses only operations that IEEE 754 rounds exactly and a ChaCha generator: one seed gives
//! the same spikes on every machine, however the simulation is cut into calls.

use rand::{Rng, RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use crate::data::{unit_id, Interval, Recording, Series, NS_PER_S};

pub mod archive;
pub mod closed_loop;
mod expected;
pub mod planted;
pub mod reach;
#[cfg(test)]
mod tests;

pub use expected::ExpectedCounts;
use reach::{CentreOut, Kinematics, Motion};

/// One step of the simulation: 1 ms.
pub const STEP_NS: i64 = 1_000_000;
const STEP_S: f64 = 1e-3;
/// Sampling interval of the behaviour.
pub(super) const BEHAVIOUR_STEP_NS: i64 = 10_000_000;
/// Name and unit of the series of the behaviour, of two channels each.
pub(super) const HAND_SERIES: [[&str; 2]; 2] = [["hand_pos", "m"], ["hand_vel", "m/s"]];
const MAX_UNITS: usize = 1 << 16;

/// What to simulate. Ranges are `[least, most]`, drawn from uniformly, once a unit.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SimulationConfig {
    /// Number of units.
    pub n_units: usize,
    /// Rate at rest, Hz.
    pub baseline_hz: [f64; 2],
    /// Rate added at peak speed in the preferred direction, and taken away in the opposite one, Hz.
    pub modulation_hz: [f64; 2],
    /// Rate added at peak speed in every direction, Hz.
    pub speed_gain_hz: [f64; 2],
    /// How far activity leads movement, ms.
    pub lead_ms: u32,
    /// After a spike a unit cannot fire for this long, ms.
    pub absolute_refractory_ms: u32,
    /// After that its drive recovers linearly over this time, ms.
    pub relative_refractory_ms: u32,
    /// Distance of the targets from the centre, m.
    pub reach_m: f64,
}

impl Default for SimulationConfig {
    fn default() -> SimulationConfig {
        SimulationConfig {
            n_units: 96,
            baseline_hz: [2.0, 15.0],
            modulation_hz: [5.0, 25.0],
            speed_gain_hz: [0.0, 10.0],
            lead_ms: 100,
            absolute_refractory_ms: 2,
            relative_refractory_ms: 3,
            reach_m: 0.1,
        }
    }
}

impl SimulationConfig {
    fn check(&self) -> Result<(), SimulationError> {
        let fail = |what: String| Err(SimulationError(what));
        if !(1..=MAX_UNITS).contains(&self.n_units) {
            return fail(format!("n_units is {}, not between 1 and {MAX_UNITS}", self.n_units));
        }
        let ranges = [
            ("baseline_hz", self.baseline_hz),
            ("modulation_hz", self.modulation_hz),
            ("speed_gain_hz", self.speed_gain_hz),
        ];
        for (key, [least, most]) in ranges {
            if !(least >= 0.0 && least <= most && most <= 1000.0) {
                return fail(format!("{key} is [{least}, {most}], not a range within 0 to 1000 Hz"));
            }
        }
        let highest: f64 = ranges.iter().map(|(_, [_, most])| most).sum();
        if highest * STEP_S > 1.0 {
            return fail(format!(
                "the highest rates add up to {highest} Hz, more than one spike a millisecond"
            ));
        }
        for (key, ms) in [
            ("lead_ms", self.lead_ms),
            ("absolute_refractory_ms", self.absolute_refractory_ms),
            ("relative_refractory_ms", self.relative_refractory_ms),
        ] {
            if ms > 1000 {
                return fail(format!("{key} is {ms}, more than 1000"));
            }
        }
        if !(self.reach_m > 0.0 && self.reach_m <= 10.0) {
            return fail(format!("reach_m is {}, not between 0 and 10", self.reach_m));
        }
        Ok(())
    }
}

/// A simulation that cannot be: one sentence that names the key.
#[derive(Debug, thiserror::Error)]
#[error("simulation: {0}")]
pub struct SimulationError(String);

/// A unit's tuning.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Tuning {
    /// Rate at rest, Hz.
    pub baseline_hz: f64,
    /// Depth of the cosine at peak speed, Hz.
    pub modulation_hz: f64,
    /// Rate added at peak speed in every direction, Hz.
    pub speed_gain_hz: f64,
    /// Preferred direction, a unit vector.
    pub preferred: [f64; 2],
}

impl Tuning {
    fn draw(config: &SimulationConfig, random: &mut ChaCha8Rng) -> Tuning {
        let mut from = |[least, most]: [f64; 2]| least + (most - least) * random.random::<f64>();
        let (baseline_hz, modulation_hz) = (from(config.baseline_hz), from(config.modulation_hz));
        let speed_gain_hz = from(config.speed_gain_hz);
        // A direction without trigonometry, whose rounding differs between machines: a point in the unit disc.
        let preferred = loop {
            let [x, y] = [from([-1.0, 1.0]), from([-1.0, 1.0])];
            let square = x * x + y * y;
            if square > 0.01 && square <= 1.0 {
                break [x / square.sqrt(), y / square.sqrt()];
            }
        };
        Tuning {
            baseline_hz,
            modulation_hz,
            speed_gain_hz,
            preferred,
        }
    }

    /// Drive in Hz: the rate that the unit would have without refractoriness.
    fn drive_hz(&self, motion: Motion) -> f64 {
        let [x, y] = motion.direction;
        let cosine = self.preferred[0] * x + self.preferred[1] * y;
        (self.baseline_hz + motion.speed * (self.modulation_hz * cosine + self.speed_gain_hz)).max(0.0)
    }
}

/// The recovery after a spike, by age in steps: element `a - 1` for age `a`; 1 beyond the last.
fn recovery(config: &SimulationConfig) -> Vec<f64> {
    let relative = f64::from(config.relative_refractory_ms);
    let silent = (0..config.absolute_refractory_ms).map(|_| 0.0);
    silent
        .chain((1..=config.relative_refractory_ms).map(|step| f64::from(step) / (relative + 1.0)))
        .collect()
}

/// A running simulation. Its clock starts at 0 with the hand at rest and every unit recovered.
#[derive(Debug, Clone)]
pub struct Population {
    name: String,
    units: Vec<Tuning>,
    task: CentreOut,
    lead_ns: i64,
    recovery: Vec<f64>,
    random: ChaCha8Rng,
    /// Whole steps done.
    steps: i64,
    /// Steps since each unit's last spike, at most `recovery.len() + 1`, which stands for "recovered".
    ages: Vec<usize>,
    /// The spikes of the current step, (time within it, unit).
    step_spikes: Vec<(u32, u32)>,
}

impl Population {
    /// A population of its own for every seed.
    ///
    /// # Errors
    /// If the configuration cannot be simulated.
    pub fn new(config: SimulationConfig, seed: u64) -> Result<Population, SimulationError> {
        config.check()?;
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let units = (0..config.n_units)
            .map(|_| Tuning::draw(&config, &mut random))
            .collect();
        let recovery = recovery(&config);
        Ok(Population {
            name: format!("simulated population, seed {seed}"),
            units,
            task: CentreOut::new(seed, config.reach_m),
            lead_ns: i64::from(config.lead_ms) * STEP_NS,
            random,
            steps: 0,
            ages: vec![recovery.len() + 1; config.n_units],
            recovery,
            step_spikes: Vec::with_capacity(config.n_units),
        })
    }

    /// Number of units.
    pub fn n_units(&self) -> usize {
        self.units.len()
    }

    /// The units' ids, `unit0000` on.
    pub fn unit_ids(&self) -> Vec<String> {
        (0..self.n_units() as u64).map(unit_id).collect()
    }

    /// The units' tuning, `[n_units]`.
    pub fn tuning(&self) -> &[Tuning] {
        &self.units
    }

    /// Up to here the simulation is done; a multiple of [`STEP_NS`].
    pub fn now_ns(&self) -> i64 {
        self.steps * STEP_NS
    }

    /// Simulates every step that ends at or before `t_ns`, and hands over its spikes (time in ns, unit) in order of time,
    /// then unit. Every emitted time is before `t_ns`; every spike before [`Population::now_ns`] has been emitted.
    /// Does not allocate.
    pub fn advance_to(&mut self, t_ns: i64, emit: &mut impl FnMut(i64, u32)) {
        while self.now_ns() + STEP_NS <= t_ns {
            let motion = self.task.motion(mid_step(self.now_ns()) + self.lead_ns);
            self.step(motion, emit);
        }
    }

    /// Simulates one step in which units are driven by `motion`. Does not allocate.
    fn step(&mut self, motion: Motion, emit: &mut impl FnMut(i64, u32)) {
        let start_ns = self.now_ns();
        for (unit, (tuning, age)) in self.units.iter().zip(&mut self.ages).enumerate() {
            // One draw a unit and step whatever happened before: its upper half decides, its lower half is the time.
            let draw = self.random.next_u64();
            let recovered = self.recovery.get(*age - 1).copied().unwrap_or(1.0);
            let probability = tuning.drive_hz(motion) * STEP_S * recovered;
            if ((draw >> 32) as f64) < probability * 4_294_967_296.0 {
                let within = ((draw & 0xffff_ffff) * STEP_NS as u64) >> 32;
                self.step_spikes.push((within as u32, unit as u32));
                *age = 1;
            } else if *age <= self.recovery.len() {
                *age += 1;
            }
        }
        self.step_spikes.sort_unstable();
        for (within, unit) in self.step_spikes.drain(..) {
            emit(start_ns + i64::from(within), unit);
        }
        self.steps += 1;
    }

    /// The rate that drives a unit at `t_ns`, Hz, constant within a step. Refractoriness takes from it:
    /// [`Population::expected_counts`] says how much.
    pub fn true_rate_hz(&self, unit: usize, t_ns: i64) -> f64 {
        let start_ns = t_ns.div_euclid(STEP_NS) * STEP_NS;
        self.units[unit].drive_hz(self.task.clone().motion(mid_step(start_ns) + self.lead_ns))
    }

    /// The hand at `t_ns`, past or future.
    pub fn kinematics(&self, t_ns: i64) -> Kinematics {
        self.task.kinematics(t_ns)
    }

    /// The oracle from now on: it knows the hand's future and the spikes so far, and nothing of those to come. On a fresh
    /// population that is the true rate, refractoriness included.
    pub fn expected_counts(&self) -> ExpectedCounts {
        ExpectedCounts::new(self)
    }

    /// Simulates `duration_ns` from now (rounded down to whole steps), with the hand's position (m) and velocity (m/s) at
    /// 100 Hz and the trials that lie wholly inside; a trial's condition is its target, 0 to 7. Times are those of the
    /// simulation's clock.
    pub fn record(&mut self, duration_ns: i64) -> Recording {
        let start_ns = self.now_ns();
        let end_ns = start_ns + duration_ns.max(0) / STEP_NS * STEP_NS;
        let (mut spike_times_ns, mut spike_units) = (Vec::new(), Vec::new());
        self.advance_to(end_ns, &mut |t_ns, unit| {
            spike_times_ns.push(t_ns);
            spike_units.push(unit);
        });
        let times_ns: Vec<i64> = (start_ns..end_ns).step_by(BEHAVIOUR_STEP_NS as usize).collect();
        let series = |[name, unit]: [&str; 2], value: &dyn Fn(Kinematics) -> [f64; 2]| Series {
            name: name.to_owned(),
            unit: unit.to_owned(),
            channels: 2,
            channel_names: vec!["x".to_owned(), "y".to_owned()],
            values: times_ns
                .iter()
                .flat_map(|&t| value(self.kinematics(t)).map(|value| value as f32))
                .collect(),
            times_ns: times_ns.clone(),
        };
        Recording {
            behaviour: vec![
                series(HAND_SERIES[0], &|hand| hand.position_m),
                series(HAND_SERIES[1], &|hand| hand.velocity_m_s),
            ],
            name: self.name.clone(),
            unit_ids: self.unit_ids(),
            spike_times_ns,
            spike_units,
            start_ns,
            end_ns,
            intervals: vec![Interval { start_ns, end_ns }],
            count_bin_ns: None,
            trials: self.task.trials_within(start_ns, end_ns),
            epochs: Vec::new(),
            notes: vec![format!("simulated, {} s", (end_ns - start_ns) as f64 / NS_PER_S as f64)],
        }
    }
}

/// Drive is taken at the middle of a step.
fn mid_step(start_ns: i64) -> i64 {
    start_ns + STEP_NS / 2
}
