//! What the suite found, as JSON.

use serde::{Deserialize, Serialize};

use super::baseline::Machine;
use super::floor::Floor;
use super::gates::{Gate, Kind, Verdict};
use super::measure::Measured;

/// Version of this form.
pub const VERSION: u32 = 1;

/// Floors of the machine.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Floors {
    /// Of threads like any other.
    pub other: Floor,
    /// Of threads under FIFO; none where that is not permitted.
    pub fifo: Option<Floor>,
}

/// All of it.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    /// [`VERSION`].
    pub version: u32,
    /// Version of the program.
    pub program: String,
    /// The machine.
    pub machine: Machine,
    /// Whether this is an optimised build.
    pub optimised: bool,
    /// The profile.
    pub profile: String,
    /// Why there is nothing under FIFO, if so.
    pub without_fifo: Option<String>,
    /// Floors.
    pub floors: Floors,
    /// Scenarios.
    pub scenarios: Vec<Measured>,
    /// Gates.
    pub gates: Vec<Gate>,
}

impl Report {
    /// What came of the gates, and whether figures of an earlier release stand behind it, in one line.
    pub fn summary(&self) -> String {
        let count = |verdict: &Verdict| self.gates.iter().filter(|gate| gate.verdict == *verdict).count();
        let (passed, failed) = (count(&Verdict::Passed), count(&Verdict::Failed));
        let of_a_baseline = self.gates.iter().filter(|gate| gate.kind == Kind::Baseline);
        let mut without = Some("there are no figures");
        for gate in of_a_baseline {
            without = match &gate.verdict {
                Verdict::NotMeasured(why) => without.and(Some(why)),
                _ => None,
            };
        }
        let compared = without.map_or("compared with an earlier release".into(), |why| {
            format!("not compared with an earlier release: {why}")
        });
        format!(
            "{passed} gates passed, {failed} failed, {} not gated or not measured; {compared}",
            self.gates.len() - passed - failed
        )
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::super::quantiles::Quantiles;
    use super::super::stages::Stages;
    use super::*;

    /// A report with two scenarios.
    pub fn report() -> Report {
        let times: Vec<(i64, i64)> = (1..=2_000).map(|number| (number, 60_000 + 50 * number)).collect();
        let quantiles = Quantiles::of(&times);
        let floor = Floor {
            timer: quantiles.clone(),
            round_trip: quantiles.clone(),
            both: quantiles.clone(),
        };
        let measured = |name: &str| Measured {
            name: name.into(),
            about: "nothing else on the machine".into(),
            fifo: false,
            gated: true,
            stages: Stages {
                total: quantiles.clone(),
                ingest: quantiles.clone(),
                wait: quantiles.clone(),
                decode: quantiles.clone(),
                publish: quantiles.clone(),
                delivery: quantiles.clone(),
                publisher: quantiles.clone(),
            },
            compared: Vec::new(),
            memory: None,
            beside_the_swap: None,
            closed_before: 0,
            ledger: Default::default(),
            notes: Vec::new(),
        };
        Report {
            version: VERSION,
            program: "0.1.0".into(),
            machine: Machine {
                architecture: "x86_64".into(),
                processor: "a processor".into(),
                cores: 2,
                fifo: false,
                optimised: true,
            },
            optimised: true,
            profile: "rig".into(),
            without_fifo: Some("not permitted".into()),
            floors: Floors {
                other: floor,
                fifo: None,
            },
            scenarios: vec![measured("idle"), measured("hogs")],
            gates: Vec::new(),
        }
    }

    #[test]
    fn a_summary_says_whether_figures_of_an_earlier_release_stand_behind_it() {
        let mut report = report();
        let gate = |kind, verdict| Gate {
            kind,
            verdict,
            ..Gate::broken("idle", "the run did not end")
        };
        let none = Verdict::NotMeasured("no figures of this kind of machine".into());
        report.gates = vec![
            gate(Kind::Ledger, Verdict::Failed),
            gate(Kind::Ratio, Verdict::Passed),
            gate(Kind::Ratio, Verdict::ToldOnly("a debug build".into())),
            gate(Kind::Baseline, none.clone()),
        ];
        assert_eq!(
            report.summary(),
            "1 gates passed, 1 failed, 2 not gated or not measured; not compared with an earlier release: no figures of this kind of \
             machine"
        );
        // One scenario that is new has no figures yet; the others were compared.
        report.gates.push(gate(Kind::Baseline, Verdict::Passed));
        assert!(report.summary().ends_with("measured; compared with an earlier release"));
    }

    #[test]
    fn json_brings_everything_back() {
        let report = report();
        let json = serde_json::to_string(&report).unwrap();
        let back: Report = serde_json::from_str(&json).unwrap();
        assert_eq!(serde_json::to_string(&back).unwrap(), json);
    }
}
