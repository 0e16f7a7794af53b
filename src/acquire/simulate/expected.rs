//! The simulation's oracle: exact expected counts.

use super::reach::CentreOut;
use super::{mid_step, Population, Tuning, STEP_NS, STEP_S};

/// Expected spike counts of a [`Population`], refractoriness included, given what it knew when this was made: the spikes
/// up to then and the hand's whole path.
///
/// For each unit it carries the probabilities of the ages since the last spike from step to step; a unit of age `a` fires
/// with `drive · step · recovery(a)`, which takes it to age 1. That recursion is the model itself, so the expectation is
/// exact. A count is not Poisson around it: refractoriness makes it more regular.
#[derive(Debug, Clone)]
pub struct ExpectedCounts {
    units: Vec<Tuning>,
    task: CentreOut,
    lead_ns: i64,
    /// Recovery by age − 1, and 1 for "recovered" at the end, `[ages]`.
    recovery: Vec<f64>,
    steps: i64,
    /// Probability of each age of each unit at the start of the next step, `[n_units × ages]`.
    ages: Vec<f64>,
}

impl ExpectedCounts {
    pub(super) fn new(population: &Population) -> ExpectedCounts {
        let mut recovery = population.recovery.clone();
        recovery.push(1.0);
        let mut ages = vec![0.0; population.n_units() * recovery.len()];
        for (of_unit, &age) in ages.chunks_exact_mut(recovery.len()).zip(&population.ages) {
            of_unit[age - 1] = 1.0;
        }
        ExpectedCounts {
            units: population.units.clone(),
            task: population.task.clone(),
            lead_ns: population.lead_ns,
            recovery,
            steps: population.steps,
            ages,
        }
    }

    /// Adds every unit's expected count in the steps from now to `t_ns` to `counts`, `[n_units]`, and moves on to
    /// there. Called at the ends of bins one after another with zeroed `counts` it gives the bins' true means.
    pub fn advance_to(&mut self, t_ns: i64, counts: &mut [f64]) {
        assert_eq!(counts.len(), self.units.len(), "one count a unit");
        while (self.steps + 1) * STEP_NS <= t_ns {
            let motion = self.task.motion(mid_step(self.steps * STEP_NS) + self.lead_ns);
            let of_units = self.ages.chunks_exact_mut(self.recovery.len());
            for ((tuning, ages), count) in self.units.iter().zip(of_units).zip(counts.iter_mut()) {
                let drive = tuning.drive_hz(motion) * STEP_S;
                let mut fired = 0.0;
                let mut grown = 0.0;
                let recovered = ages.len() - 1;
                for (age, recovery) in ages.iter_mut().zip(&self.recovery) {
                    let fires = *age * drive * recovery;
                    fired += fires;
                    let stays = *age - fires;
                    *age = std::mem::replace(&mut grown, stays);
                }
                ages[recovered] += grown;
                // After `grown` moved every age up by one, age 1 is empty, unless it is the only one.
                ages[0] += fired;
                *count += fired;
            }
            self.steps += 1;
        }
    }
}
