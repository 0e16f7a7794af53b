//! What the system granted, for people and as JSON.

use std::fmt;

use serde::Serialize;

/// One thing that was asked of the system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Step {
    /// What: `decode: SCHED_FIFO 41`.
    pub what: String,
    /// What became of it.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// What became of a step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "outcome", rename_all = "lowercase")]
pub enum Outcome {
    /// It is so.
    Done {
        /// More about it; may be empty.
        detail: String,
    },
    /// The system does not allow it, or does not have it.
    Refused {
        /// What the system said.
        because: String,
        /// What would grant it; empty where nothing would.
        grant: String,
    },
}

impl Step {
    /// A step that is done.
    pub fn done(what: impl Into<String>, detail: impl Into<String>) -> Self {
        let outcome = Outcome::Done { detail: detail.into() };
        Self {
            what: what.into(),
            outcome,
        }
    }

    /// A step that was refused.
    pub fn refused(what: impl Into<String>, because: impl fmt::Display, grant: impl Into<String>) -> Self {
        let (because, grant) = (because.to_string(), grant.into());
        Self {
            what: what.into(),
            outcome: Outcome::Refused { because, grant },
        }
    }

    /// Whether it is done.
    pub fn is_done(&self) -> bool {
        matches!(self.outcome, Outcome::Done { .. })
    }
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.what)?;
        match &self.outcome {
            Outcome::Done { detail } if detail.is_empty() => Ok(()),
            Outcome::Done { detail } => write!(f, " ({detail})"),
            Outcome::Refused { because, grant } if grant.is_empty() => write!(f, ": refused, {because}"),
            Outcome::Refused { because, grant } => write!(f, ": refused, {because}; it takes {grant}"),
        }
    }
}

/// What a thread of the run used, from its set-up to its end.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ThreadUse {
    /// Its name.
    pub thread: &'static str,
    /// Its SCHED_FIFO priority; none where it was scheduled like any other.
    pub priority: Option<u8>,
    /// Processor time over time that passed: 1 is a whole core.
    pub cpu_share: f64,
    /// Page faults that waited for a disk.
    pub major_faults: u64,
    /// Page faults that did not.
    pub minor_faults: u64,
}

/// What the guard saw.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct GuardReport {
    /// Share of a core that real-time threads may take in a period, by the system or, where it sets none, by the guard.
    pub allowed_share: f64,
    /// Processor time that all watched threads took with a real-time priority, over time that passed.
    pub fifo_share: f64,
    /// Times that a thread had to go on without its priority for a while.
    pub set_back: u64,
}

/// What was asked of the system, and what came of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Report {
    /// Every step, in order.
    pub steps: Vec<Step>,
    /// The run's threads, when they have ended.
    pub threads: Vec<ThreadUse>,
    /// What the guard saw, where it was needed.
    pub guard: Option<GuardReport>,
}

impl Report {
    /// What was refused.
    pub fn refused(&self) -> impl Iterator<Item = &Step> {
        self.steps.iter().filter(|step| !step.is_done())
    }
}

impl fmt::Display for Report {
    /// Lines of a run's summary, each ended.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let done: Vec<String> = self
            .steps
            .iter()
            .filter(|step| step.is_done())
            .map(Step::to_string)
            .collect();
        if !done.is_empty() {
            writeln!(f, "real time    {}", done.join("; "))?;
        }
        self.refused().try_for_each(|step| writeln!(f, "real time    {step}"))?;
        if !self.threads.is_empty() {
            let shares: Vec<String> = self
                .threads
                .iter()
                .map(|of| format!("{} {:.1} %", of.thread, 100.0 * of.cpu_share))
                .collect();
            let faults: u64 = self.threads.iter().map(|of| of.major_faults).sum();
            writeln!(
                f,
                "threads      {} of a core; {faults} page faults waited for a disk",
                shares.join(", ")
            )?;
        }
        match &self.guard {
            Some(guard) if guard.set_back > 0 => writeln!(
                f,
                "guard        threads went on without their priority {} times: they took more than {:.0} % of a core",
                guard.set_back,
                100.0 * guard.allowed_share
            ),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_says_why_and_what_would_grant_it() {
        let report = Report {
            steps: vec![
                Step::done("memory locked", "12 MiB"),
                Step::refused("decode: SCHED_FIFO 41", "not permitted", "`ulimit -r 43`"),
                Step::refused("decode: core 9", "there is no such core", ""),
            ],
            ..Report::default()
        };
        let text = report.to_string();
        assert_eq!(
            text.lines().collect::<Vec<_>>(),
            [
                "real time    memory locked (12 MiB)",
                "real time    decode: SCHED_FIFO 41: refused, not permitted; it takes `ulimit -r 43`",
                "real time    decode: core 9: refused, there is no such core",
            ]
        );
        let json = serde_json::to_value(&report).unwrap();
        assert_eq!(json["steps"][1]["outcome"], "refused");
        assert_eq!(json["steps"][1]["grant"], "`ulimit -r 43`");
        assert_eq!(report.refused().count(), 2);
    }
}
