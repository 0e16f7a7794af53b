//! How the learning rate changes over training.

use std::f64::consts::PI;

/// The learning rate of each step; steps are counted from 0.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Schedule {
    /// The same rate at every step.
    Constant {
        /// That rate.
        learning_rate: f64,
    },
    /// One cycle in cosine pieces, as PyTorch's `OneCycleLR` has it: from `max_lr / div_factor` to `max_lr` at step
    /// `pct_start · total_steps − 1`, and down to `max_lr / div_factor / final_div_factor` at the last step. With a
    /// `div_factor` of 1, the reference's recipe, the first part is flat.
    OneCycle {
        /// Highest rate.
        max_lr: f64,
        /// Steps of the whole training.
        total_steps: u64,
        /// Fraction of the steps before the rate goes down.
        pct_start: f64,
        /// Highest rate over first rate.
        div_factor: f64,
        /// First rate over last rate.
        final_div_factor: f64,
    },
    /// A linear rise over `warm_up_steps`, which the highest rate follows, then a cosine down to `floor` of it at the last
    /// step.
    WarmUpCosine {
        /// Highest rate.
        max_lr: f64,
        /// Steps of the whole training.
        total_steps: u64,
        /// Steps of the rise.
        warm_up_steps: u64,
        /// Last rate over highest rate.
        floor: f64,
    },
}

/// A key of the schedule that is out of range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("learning rate schedule: {0}")]
pub struct ScheduleError(String);

impl Schedule {
    /// The reference's recipe: flat until half of the steps, then a cosine down.
    pub fn reference(max_lr: f64, total_steps: u64) -> Self {
        Schedule::OneCycle {
            max_lr,
            total_steps,
            pct_start: 0.5,
            div_factor: 1.0,
            final_div_factor: 1e4,
        }
    }

    /// The same schedule, if its keys are in range.
    ///
    /// # Errors
    /// A sentence that names the key.
    pub fn checked(self) -> Result<Self, ScheduleError> {
        let positive = |key: &str, value: f64| match value.is_finite() && value > 0.0 {
            true => Ok(()),
            false => Err(ScheduleError(format!("`{key}` is {value}, expected a number above 0"))),
        };
        let fraction = |key: &str, value: f64| match (0.0..=1.0).contains(&value) {
            true => Ok(()),
            false => Err(ScheduleError(format!("`{key}` is {value}, expected 0 to 1"))),
        };
        match self {
            Schedule::Constant { learning_rate } => positive("learning_rate", learning_rate)?,
            Schedule::OneCycle {
                max_lr,
                pct_start,
                div_factor,
                final_div_factor,
                ..
            } => {
                positive("max_lr", max_lr)?;
                fraction("pct_start", pct_start)?;
                positive("div_factor", div_factor)?;
                positive("final_div_factor", final_div_factor)?;
            }
            Schedule::WarmUpCosine {
                max_lr,
                total_steps,
                warm_up_steps,
                floor,
            } => {
                positive("max_lr", max_lr)?;
                fraction("floor", floor)?;
                if warm_up_steps > total_steps {
                    return Err(ScheduleError(format!(
                        "`warm_up_steps` is {warm_up_steps}, expected at most the {total_steps} steps of the training"
                    )));
                }
            }
        }
        Ok(self)
    }

    /// The rate of a step; after the last step, the last step's.
    pub fn learning_rate(&self, step: u64) -> f64 {
        match *self {
            Schedule::Constant { learning_rate } => learning_rate,
            Schedule::OneCycle {
                max_lr,
                total_steps,
                pct_start,
                div_factor,
                final_div_factor,
            } => {
                let last = total_steps.saturating_sub(1);
                let (step, last) = (step.min(last) as f64, last as f64);
                let first_lr = max_lr / div_factor;
                let top = (pct_start * total_steps as f64 - 1.0).max(0.0);
                if step < top {
                    cosine(first_lr, max_lr, step / top)
                } else if last > top {
                    cosine(max_lr, first_lr / final_div_factor, (step - top) / (last - top))
                } else {
                    max_lr
                }
            }
            Schedule::WarmUpCosine {
                max_lr,
                total_steps,
                warm_up_steps,
                floor,
            } => {
                let last = total_steps.saturating_sub(1);
                let step = step.min(last);
                if step < warm_up_steps {
                    max_lr * (step + 1) as f64 / (warm_up_steps + 1) as f64
                } else if last > warm_up_steps {
                    let done = (step - warm_up_steps) as f64 / (last - warm_up_steps) as f64;
                    cosine(max_lr, floor * max_lr, done)
                } else {
                    max_lr
                }
            }
        }
    }
}

/// Half a cosine from `from` (where `done` is 0) to `to` (1).
fn cosine(from: f64, to: f64, done: f64) -> f64 {
    to + (from - to) * 0.5 * (1.0 + (PI * done).cos())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assert_rates(schedule: Schedule, expected: &[(u64, f64)]) {
        for &(step, rate) in expected {
            let actual = schedule.learning_rate(step);
            assert!((actual - rate).abs() < 1e-12, "step {step}: {actual}, expected {rate}");
        }
    }

    /// 102 steps: flat to step 0.5 · 102 − 1 = 50, half-way down at 50 + 51/2 (between 75 and 76), at the end 1e-4 of it.
    /// A third of the way, at step 67, the cosine is 1/2: 3/4 of the way up from the last rate.
    #[test]
    fn the_reference_recipe_is_flat_and_then_falls() {
        let schedule = Schedule::reference(2.0, 102).checked().unwrap();
        let low = 2e-4;
        assert_rates(
            schedule,
            &[
                (0, 2.0),
                (25, 2.0),
                (50, 2.0),
                (67, low + 0.75 * (2.0 - low)),
                (84, low + 0.25 * (2.0 - low)),
                (101, low),
                (1000, low),
            ],
        );
        let about_half = schedule.learning_rate(75) + schedule.learning_rate(76);
        assert!((about_half - (2.0 + low)).abs() < 1e-12);
    }

    /// 20 steps, a quarter of them rising: the top at step 4, half the rise at step 2, the last at step 19.
    #[test]
    fn one_cycle_rises_from_its_first_rate() {
        let schedule = Schedule::OneCycle {
            max_lr: 1.0,
            total_steps: 20,
            pct_start: 0.25,
            div_factor: 5.0,
            final_div_factor: 2.0,
        };
        assert_rates(
            schedule,
            &[(0, 0.2), (2, 0.6), (4, 1.0), (9, 0.1 + 0.75 * 0.9), (19, 0.1)],
        );
    }

    /// Steps 0, 1, 2 rise by quarters; from step 3 to step 9 the cosine: a half at step 6, the floor at step 9.
    #[test]
    fn warm_up_is_linear_and_the_cosine_ends_at_the_floor() {
        let schedule = Schedule::WarmUpCosine {
            max_lr: 4.0,
            total_steps: 10,
            warm_up_steps: 3,
            floor: 0.25,
        };
        let expected = [
            (0, 1.0),
            (1, 2.0),
            (2, 3.0),
            (3, 4.0),
            (5, 3.25),
            (6, 2.5),
            (9, 1.0),
            (10, 1.0),
        ];
        assert_rates(schedule.checked().unwrap(), &expected);
    }

    #[test]
    fn trainings_of_few_steps_have_a_rate() {
        for total in 0..4 {
            for pct_start in [0.0, 0.5, 1.0] {
                let schedule = Schedule::OneCycle {
                    max_lr: 1.0,
                    total_steps: total,
                    pct_start,
                    div_factor: 1.0,
                    final_div_factor: 10.0,
                };
                assert!((0..5).all(|step| (0.1..=1.0).contains(&schedule.learning_rate(step))));
            }
        }
        let constant = Schedule::Constant { learning_rate: 0.3 };
        assert_rates(constant, &[(0, 0.3), (u64::MAX, 0.3)]);
    }

    #[test]
    fn keys_out_of_range_are_named() {
        let refused = |schedule: Schedule| schedule.checked().unwrap_err().to_string();
        assert!(refused(Schedule::reference(f64::NAN, 10)).contains("`max_lr` is NaN"));
        assert!(refused(Schedule::Constant { learning_rate: 0.0 }).contains("`learning_rate` is 0"));
        let late = Schedule::WarmUpCosine {
            max_lr: 1.0,
            total_steps: 10,
            warm_up_steps: 11,
            floor: 0.0,
        };
        assert!(refused(late).contains("`warm_up_steps` is 11"));
        let over = Schedule::OneCycle {
            max_lr: 1.0,
            total_steps: 10,
            pct_start: 1.5,
            div_factor: 1.0,
            final_div_factor: 1.0,
        };
        assert!(refused(over).contains("`pct_start` is 1.5"));
    }
}
