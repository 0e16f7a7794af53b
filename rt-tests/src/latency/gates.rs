//! What is asked of the figures, and whether it holds. What was not measured has not passed.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::floor::Floor;
use super::measure::{Compared, Measured};

/// Median of the pipeline without the network's own time, µs.
pub const PIPELINE_P50_US: f64 = 100.0;
/// 99.9th percentile of it, in 99.9th percentiles of the floor.
pub const FLOOR_RATIO: f64 = 4.0;
/// Two 99.9th percentiles that are to be alike: the second, in the first.
pub const ALIKE: f64 = 1.1;
/// Memory that a run may take on after its first tenth, KiB: the allocator's own.
pub const GROWTH_KIB: u64 = 512;
/// Looks at the memory that say whether it grows.
const LOOKS: usize = 20;

/// Of what kind a gate is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Bins and spikes: holds everywhere.
    Ledger,
    /// A figure against another of this machine.
    Ratio,
    /// A figure in time.
    Absolute,
    /// A figure against that of the last release on this kind of machine.
    Baseline,
}

/// What came of a gate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "verdict", content = "why")]
pub enum Verdict {
    /// It holds.
    Passed,
    /// It does not.
    Failed,
    /// It holds or does not, and nothing is asked of it here, for this reason.
    ToldOnly(String),
    /// There is no figure, for this reason.
    NotMeasured(String),
}

/// A gate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Gate {
    /// The scenario.
    pub scenario: String,
    /// Of what kind.
    pub kind: Kind,
    /// What is asked.
    pub asked: String,
    /// What was found.
    pub found: String,
    /// What came of it.
    #[serde(flatten)]
    pub verdict: Verdict,
}

impl fmt::Display for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (word, why) = match &self.verdict {
            Verdict::Passed => ("passed", ""),
            Verdict::Failed => ("FAILED", ""),
            Verdict::ToldOnly(why) => ("not gated", why.as_str()),
            Verdict::NotMeasured(why) => ("not measured", why.as_str()),
        };
        write!(f, "{word:<13} {:<20} {}: {}", self.scenario, self.asked, self.found)?;
        if why.is_empty() {
            Ok(())
        } else {
            write!(f, " ({why})")
        }
    }
}

/// What gates are strict about.
#[derive(Clone, Debug, PartialEq)]
pub struct Strictness {
    /// Why times and their tails are only told; nothing where they are gated.
    pub told_only: Option<String>,
}

impl Gate {
    /// A gate that a figure is to keep: at most `limit`.
    pub fn at_most(
        scenario: &str,
        kind: Kind,
        asked: String,
        (figure, limit): (f64, f64),
        strict: &Strictness,
    ) -> Self {
        let holds = figure.is_finite() && figure <= limit;
        let found = match kind {
            Kind::Absolute => format!("{figure:.0}"),
            _ => format!("{figure:.2}"),
        };
        let verdict = match &strict.told_only {
            Some(why) => Verdict::ToldOnly(why.clone()),
            None if holds => Verdict::Passed,
            None => Verdict::Failed,
        };
        Self {
            scenario: scenario.into(),
            kind,
            asked,
            found: format!("{found}{}", if holds { "" } else { ", which is more" }),
            verdict,
        }
    }

    /// A gate without a figure.
    pub fn not_measured(scenario: &str, kind: Kind, asked: &str, why: &str) -> Self {
        Self {
            scenario: scenario.into(),
            kind,
            asked: asked.into(),
            found: "nothing".into(),
            verdict: Verdict::NotMeasured(why.into()),
        }
    }

    /// A gate that failed because its scenario did.
    pub fn broken(scenario: &str, why: &str) -> Self {
        Self {
            scenario: scenario.into(),
            kind: Kind::Ledger,
            asked: "the scenario runs to its end".into(),
            found: why.into(),
            verdict: Verdict::Failed,
        }
    }
}

/// The gates of a scenario that was run, against the floor of its kind of threads.
pub fn of_scenario(measured: &Measured, floor: &Floor, strict: &Strictness) -> Vec<Gate> {
    let name = &measured.name;
    let problems = &measured.ledger.problems;
    let mut gates = vec![Gate {
        scenario: name.clone(),
        kind: Kind::Ledger,
        asked: "every bin once, in order, on time or flagged; every spike in one count".into(),
        found: if problems.is_empty() {
            format!(
                "{} bins, {} spikes",
                measured.ledger.received, measured.ledger.sent.spikes
            )
        } else {
            problems.join(" | ")
        },
        verdict: if problems.is_empty() {
            Verdict::Passed
        } else {
            Verdict::Failed
        },
    }];
    let always = Strictness { told_only: None };
    let total = &measured.stages.total;
    if measured.gated && total.count == 0 {
        gates.push(Gate::broken(name, "too few predictions to say anything of their times"));
    } else if measured.gated {
        gates.push(Gate::at_most(
            name,
            Kind::Ratio,
            format!(
                "p50 within {FLOOR_RATIO} times the floor's ({:.0} µs)",
                floor.both.p50_us
            ),
            (total.p50_us / floor.both.p50_us, FLOOR_RATIO),
            &always,
        ));
        gates.push(Gate::at_most(
            name,
            Kind::Ratio,
            format!(
                "p99.9 within {FLOOR_RATIO} times the floor's ({:.0} µs)",
                floor.both.p999_us
            ),
            (total.p999_us / floor.both.p999_us, FLOOR_RATIO),
            strict,
        ));
        gates.push(Gate::at_most(
            name,
            Kind::Absolute,
            format!("p50 of at most {PIPELINE_P50_US} µs"),
            (total.p50_us, PIPELINE_P50_US),
            strict,
        ));
    }
    gates.extend(measured.compared.iter().map(|compared| alike(name, compared, strict)));
    if let Some(beside) = &measured.beside_the_swap {
        gates.push(swap_gate(name, beside));
    }
    if let Some(memory) = &measured.memory {
        gates.push(memory_gate(name, memory));
    }
    gates
}

/// Whether two tails are alike. One that is longer by chance, as far as so few times can tell, neither passes nor fails.
fn alike(name: &str, compared: &Compared, strict: &Strictness) -> Gate {
    let Compared { what, before, after } = compared;
    if before.count.min(after.count) == 0 {
        return Gate::broken(name, &format!("too few predictions to compare {what}"));
    }
    let asked = format!(
        "{what} p99.9 ({:.0} µs) within {ALIKE} times what it was ({:.0} µs)",
        after.p999_us, before.p999_us
    );
    let figures = (after.p999_us / before.p999_us, ALIKE);
    let mut gate = Gate::at_most(name, Kind::Ratio, asked, figures, strict);
    let ((_, before_us), (after_us, _)) = (before.p999_between_us, after.p999_between_us);
    if gate.verdict == Verdict::Failed && after_us <= ALIKE * before_us {
        gate.verdict = Verdict::ToldOnly(format!(
            "{} and {} times are too few to tell: with 95 % confidence it was up to {before_us:.0} µs and is {after_us:.0} µs or more",
            before.count, after.count
        ));
    }
    gate
}

/// Whether a swap kept bins waiting that the machine did not: a figure against that of the run's other bins.
fn swap_gate(name: &str, beside: &[String]) -> Gate {
    Gate {
        scenario: name.into(),
        kind: Kind::Ratio,
        asked: "the bins beside the swap are held or late no more than others".into(),
        found: if beside.is_empty() {
            "none".into()
        } else {
            beside.join(" | ")
        },
        verdict: if beside.is_empty() {
            Verdict::Passed
        } else {
            Verdict::Failed
        },
    }
}

/// Whether memory has grown: the most of the last tenth against the most until the second tenth ended. `memory` is KiB, look by look.
fn memory_gate(name: &str, memory: &[u64]) -> Gate {
    let asked = format!("memory of the runtime grows by {GROWTH_KIB} KiB at most");
    let tenth = memory.len() / 10;
    let most = |looks: &[u64]| looks.iter().copied().max().unwrap_or(0);
    if memory.len() < LOOKS {
        return Gate::not_measured(name, Kind::Absolute, &asked, "too short");
    }
    let (before, after) = (most(&memory[..2 * tenth]), most(&memory[memory.len() - tenth..]));
    let holds = after <= before + GROWTH_KIB;
    Gate {
        scenario: name.into(),
        kind: Kind::Absolute,
        asked,
        found: format!("{before} KiB, then {after} KiB"),
        verdict: if holds { Verdict::Passed } else { Verdict::Failed },
    }
}

/// Whether some have failed, and all of these ask how a figure stands to another of this machine.
pub fn only_ratios_failed(gates: &[Gate]) -> bool {
    let mut failed = gates.iter().filter(|gate| gate.verdict == Verdict::Failed).peekable();
    failed.peek().is_some() && failed.all(|gate| gate.kind == Kind::Ratio)
}

/// Whether there is neither one that has passed nor one that has failed.
pub fn none_measured(gates: &[Gate]) -> bool {
    !gates
        .iter()
        .any(|gate| matches!(gate.verdict, Verdict::Passed | Verdict::Failed))
}

/// Whether none has failed.
pub fn all_passed(gates: &[Gate]) -> bool {
    gates.iter().all(|gate| gate.verdict != Verdict::Failed)
}

#[cfg(test)]
mod tests {
    use super::super::quantiles::Quantiles;
    use super::super::report::tests::report;
    use super::*;

    fn gate(figure: f64, told_only: Option<&str>) -> Verdict {
        let strict = Strictness {
            told_only: told_only.map(Into::into),
        };
        Gate::at_most(
            "idle",
            Kind::Absolute,
            "p50 of at most 100 µs".into(),
            (figure, 100.0),
            &strict,
        )
        .verdict
    }

    #[test]
    fn a_figure_above_its_limit_fails_and_one_that_is_none_too() {
        assert_eq!(gate(100.0, None), Verdict::Passed);
        assert_eq!(gate(100.1, None), Verdict::Failed);
        assert_eq!(gate(f64::NAN, None), Verdict::Failed);
        assert_eq!(gate(f64::INFINITY, None), Verdict::Failed);
    }

    #[test]
    fn what_is_only_told_neither_passes_nor_fails_and_says_why() {
        for figure in [1.0, 1_000.0] {
            assert_eq!(
                gate(figure, Some("a debug build")),
                Verdict::ToldOnly("a debug build".into())
            );
        }
        let gate = Gate::not_measured("hogs-fifo", Kind::Ratio, "p99.9", "SCHED_FIFO is not permitted");
        assert!(gate.to_string().starts_with("not measured"), "{gate}");
        assert!(gate.to_string().contains("not permitted"), "{gate}");
    }

    #[test]
    fn memory_that_grows_is_found_and_memory_that_settles_is_not() {
        let grown: Vec<u64> = (0..100).map(|look| 10_000 + 20 * look).collect();
        assert_eq!(memory_gate("soak", &grown).verdict, Verdict::Failed);
        let settled: Vec<u64> = (0..100).map(|look: u64| 10_000 + 300 * look.min(10)).collect();
        assert_eq!(memory_gate("soak", &settled).verdict, Verdict::Passed);
        assert!(matches!(
            memory_gate("soak", &settled[..10]).verdict,
            Verdict::NotMeasured(_)
        ));
    }

    #[test]
    fn a_tail_that_has_grown_by_more_than_a_tenth_fails() {
        let of = |us: i64| Quantiles::of(&(0..100).map(|id| (id, us * 1_000)).collect::<Vec<_>>());
        let verdict = |after: Quantiles| {
            let mut measured = report().scenarios.remove(0);
            measured.compared = vec![Compared {
                what: "the publisher's".into(),
                before: of(100),
                after,
            }];
            let strict = Strictness { told_only: None };
            let floor = report().floors.other;
            of_scenario(&measured, &floor, &strict).pop().map(|gate| gate.verdict)
        };
        assert_eq!(verdict(of(108)), Some(Verdict::Passed));
        assert_eq!(verdict(of(112)), Some(Verdict::Failed));
        // Two long times in a thousand may be chance.
        let mut times: Vec<(i64, i64)> = (0..1_000).map(|id| (id, 100_000)).collect();
        (times[0].1, times[1].1) = (300_000, 300_000);
        assert!(matches!(verdict(Quantiles::of(&times)), Some(Verdict::ToldOnly(why)) if why.contains("too few")));
        assert_eq!(verdict(Quantiles::of(&[])), Some(Verdict::Failed));
    }

    #[test]
    fn a_pipeline_that_is_slow_against_its_floor_fails_and_a_ledger_that_does_not_balance() {
        let floor = report().floors.other;
        let failed = |change: fn(&mut Measured)| -> Vec<String> {
            let mut measured = report().scenarios.remove(0);
            change(&mut measured);
            let gates = of_scenario(&measured, &floor, &Strictness { told_only: None });
            let failed = gates.into_iter().filter(|gate| gate.verdict == Verdict::Failed);
            failed.map(|gate| gate.asked).collect()
        };
        // The report's median is 110 µs.
        assert_eq!(failed(|_| ()), ["p50 of at most 100 µs"]);
        assert_eq!(failed(|measured| measured.stages.total.p50_us = 99.0), [""; 0]);
        let slow = failed(|measured| measured.stages.total.p999_us *= 5.0);
        assert!(slow[0].starts_with("p99.9 within 4"), "{slow:?}");
        let swapped = failed(|measured| measured.beside_the_swap = Some(vec!["bin 60: held".into()]));
        assert!(swapped.iter().any(|asked| asked.contains("the swap")), "{swapped:?}");
        let unbalanced = failed(|measured| measured.ledger.problems.push("a gap".into()));
        assert!(unbalanced[0].starts_with("every bin once"), "{unbalanced:?}");
    }

    #[test]
    fn a_ledger_that_does_not_balance_is_not_measured_again_and_a_ratio_is() {
        let failed = |kind| Gate {
            kind,
            ..Gate::broken("idle", "")
        };
        let passed = Gate {
            verdict: Verdict::Passed,
            ..failed(Kind::Ledger)
        };
        assert!(!only_ratios_failed(std::slice::from_ref(&passed)));
        assert!(only_ratios_failed(&[passed, failed(Kind::Ratio)]));
        assert!(!only_ratios_failed(&[failed(Kind::Ratio), failed(Kind::Ledger)]));
    }

    #[test]
    fn one_that_failed_is_enough() {
        let passed = Gate {
            verdict: Verdict::Passed,
            ..Gate::broken("idle", "")
        };
        assert!(all_passed(std::slice::from_ref(&passed)));
        assert!(!all_passed(&[passed, Gate::broken("hogs", "the run did not end")]));
    }
}
