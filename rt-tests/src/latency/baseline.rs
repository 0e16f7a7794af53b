//! The figures of the last release on this kind of machine, which a release is compared with.
//!
//! A kind of machine is its architecture, the model of its processor, the cores that the suite may use, whether SCHED_FIFO is
//! permitted, and whether the build is optimised: machines that agree in these are taken to be alike. Its file is
//! `rt-tests/baselines/KIND.json`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::disturb::cores;
use super::gates::{Gate, Kind, Strictness, Verdict};
use super::report::Report;

/// A median may be so many times the last release's, …
const P50_RATIO: f64 = 1.25;
/// … and a 99.9th percentile.
const P999_RATIO: f64 = 1.5;
/// A difference below this is none, µs: the machine's timers have it.
const NOTHING_US: f64 = 20.0;

/// A kind of machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Machine {
    /// Architecture.
    pub architecture: String,
    /// Model of the processor, as the system names it.
    pub processor: String,
    /// Cores that the suite may use.
    pub cores: usize,
    /// Whether threads may be under FIFO.
    pub fifo: bool,
    /// Whether the build is optimised.
    pub optimised: bool,
}

impl Machine {
    /// This one.
    pub fn here(fifo: bool) -> Self {
        let text = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let named = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name))?;
            Some(line.trim_start().strip_prefix(':')?.trim().to_string())
        };
        Self {
            architecture: std::env::consts::ARCH.into(),
            processor: named("model name").unwrap_or_else(|| "unknown".into()),
            cores: cores(),
            fifo,
            optimised: !cfg!(debug_assertions),
        }
    }

    /// Its kind, as a file is named.
    pub fn kind(&self) -> String {
        let mut kind = format!("{}-{}-{}cores", self.architecture, self.processor, self.cores);
        kind.push_str(if self.fifo { "-fifo" } else { "-nofifo" });
        kind.push_str(if self.optimised { "" } else { "-debug" });
        let plain = kind
            .to_lowercase()
            .replace(|letter: char| !letter.is_ascii_alphanumeric(), "-");
        let words: Vec<&str> = plain.split('-').filter(|word| !word.is_empty()).collect();
        words.join("-")
    }

    /// Where its figures are kept.
    pub fn file(&self) -> PathBuf {
        crate::root().join(format!("rt-tests/baselines/{}.json", self.kind()))
    }
}

/// Figures of a scenario.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// Median, µs.
    pub p50_us: f64,
    /// 99th percentile, µs.
    pub p99_us: f64,
    /// 99.9th percentile, µs.
    pub p999_us: f64,
    /// Predictions.
    pub count: u64,
}

/// Figures of a release.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Baseline {
    /// The release.
    pub release: String,
    /// The kind of machine.
    pub machine: Machine,
    /// The profile: figures of another one are not compared.
    pub profile: String,
    /// By scenario; of the floors too.
    pub figures: BTreeMap<String, Figures>,
}

impl Baseline {
    /// The figures of a report.
    pub fn of(report: &Report) -> Self {
        let of = |quantiles: &super::quantiles::Quantiles| Figures {
            p50_us: quantiles.p50_us,
            p99_us: quantiles.p99_us,
            p999_us: quantiles.p999_us,
            count: quantiles.count,
        };
        let scenarios = report
            .scenarios
            .iter()
            .map(|one| (one.name.clone(), of(&one.stages.total)));
        let floors = [
            ("floor", Some(&report.floors.other)),
            ("floor-fifo", report.floors.fifo.as_ref()),
        ];
        let floors = floors
            .iter()
            .filter_map(|(name, floor)| Some(((*name).to_string(), of(&(*floor)?.both))));
        Self {
            release: report.program.clone(),
            machine: report.machine.clone(),
            profile: report.profile.clone(),
            figures: scenarios.chain(floors).collect(),
        }
    }

    /// Reads one.
    ///
    /// # Errors
    /// One sentence with the file and what is wrong in it.
    pub fn read(file: &std::path::Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
        serde_json::from_str(&text).map_err(|error| format!("{}: {error}", file.display()))
    }

    /// Gates of a report against these figures. Those of another profile or kind of machine are not compared.
    pub fn gates(&self, report: &Report, strict: &Strictness) -> Vec<Gate> {
        let other = if self.machine != report.machine {
            Some("the figures are of another kind of machine")
        } else if self.profile != report.profile {
            Some("the figures are of another profile")
        } else {
            None
        };
        if let Some(why) = other {
            return vec![Gate::not_measured(
                "all",
                Kind::Baseline,
                "as quick as the last release",
                why,
            )];
        }
        let now = Self::of(report);
        let compare = |(name, before): (&String, &Figures)| -> Vec<Gate> {
            let Some(now) = now.figures.get(name) else {
                return vec![Gate::not_measured(
                    name,
                    Kind::Baseline,
                    "as quick as the last release",
                    "it was not run",
                )];
            };
            let pairs = [
                ("p50", now.p50_us, before.p50_us, P50_RATIO),
                ("p99.9", now.p999_us, before.p999_us, P999_RATIO),
            ];
            let gate = |(what, now, before, ratio): (&str, f64, f64, f64)| {
                let limit = (before * ratio).max(before + NOTHING_US) / before;
                let asked = format!(
                    "{what} within {limit:.2} times that of release {} ({before:.0} µs)",
                    self.release
                );
                let mut gate = Gate::at_most(name, Kind::Baseline, asked, (now / before, limit), strict);
                // The machine itself is no regression of the runtime; a floor that has moved explains one that is none.
                if name.starts_with("floor") && gate.verdict == Verdict::Failed {
                    gate.verdict = Verdict::ToldOnly("the machine is not as it was".into());
                }
                gate
            };
            pairs.map(gate).into()
        };
        self.figures.iter().flat_map(compare).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::super::report::tests::report;
    use super::*;

    const STRICT: Strictness = Strictness { told_only: None };

    fn verdicts(change: impl FnOnce(&mut Report)) -> Vec<(String, Verdict)> {
        let baseline = Baseline::of(&report());
        let mut now = report();
        change(&mut now);
        let gates = baseline.gates(&now, &STRICT);
        gates
            .into_iter()
            .map(|gate| (format!("{} {}", gate.scenario, &gate.asked[..3]), gate.verdict))
            .collect()
    }

    #[test]
    fn the_same_figures_pass() {
        let all = verdicts(|_| ());
        assert_eq!(all.len(), 6);
        assert!(all.iter().all(|(_, verdict)| *verdict == Verdict::Passed), "{all:?}");
    }

    #[test]
    fn slower_ones_fail_by_name_and_a_slower_machine_is_told() {
        let all = verdicts(|now| {
            now.scenarios[0].stages.total.p50_us *= 1.5;
            now.floors.other.both.p999_us *= 3.0;
        });
        let failed: Vec<_> = all.iter().filter(|(_, verdict)| *verdict == Verdict::Failed).collect();
        assert_eq!(failed.len(), 1, "{all:?}");
        assert_eq!(failed[0].0, "idle p50");
        assert!(all
            .iter()
            .any(|(name, verdict)| name == "floor p99" && matches!(verdict, Verdict::ToldOnly(_))));
    }

    #[test]
    fn what_was_not_run_and_another_machine_or_profile_are_not_passed() {
        let none = verdicts(|now| now.scenarios.clear());
        assert!(none
            .iter()
            .any(|(name, verdict)| name.starts_with("idle") && matches!(verdict, Verdict::NotMeasured(_))));
        for all in [
            verdicts(|now| now.machine.cores += 1),
            verdicts(|now| now.profile = "soak".into()),
        ] {
            assert!(matches!(all[..], [(_, Verdict::NotMeasured(_))]), "{all:?}");
        }
    }

    #[test]
    fn a_kind_is_a_file_name() {
        let machine = Machine {
            architecture: "x86_64".into(),
            processor: "Intel(R) Xeon(R) CPU @ 2.20GHz".into(),
            cores: 2,
            fifo: true,
            optimised: true,
        };
        assert_eq!(machine.kind(), "x86-64-intel-r-xeon-r-cpu-2-20ghz-2cores-fifo");
    }
}
