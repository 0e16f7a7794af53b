//! The deadline of a bin, and what is published when it cannot be met.

/// The time that a bin has from its close to its publication.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline {
    /// The budget in ns; `None` where sources run as fast as they may and time means nothing.
    pub budget_ns: Option<i64>,
}

/// What fills a prediction: the rungs of the ladder, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rung {
    /// The model's output for this bin.
    Full,
    /// The last output of the model.
    Held,
    /// The mean rates.
    Neutral,
}

impl Deadline {
    /// Whether a bin that closed at `close_ns` is published too late at `publish_ns`.
    pub fn is_missed(&self, close_ns: i64, publish_ns: i64) -> bool {
        self.budget_ns.is_some_and(|budget| publish_ns - close_ns > budget)
    }

    /// The rung for a bin. When the next bin has closed too (`behind`), decoding is late by a whole bin: this one is not
    /// decoded, so that the newest can be in time.
    pub fn rung(&self, behind: bool, have_last: bool) -> Rung {
        match (self.budget_ns.is_some() && behind, have_last) {
            (false, _) => Rung::Full,
            (true, true) => Rung::Held,
            (true, false) => Rung::Neutral,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_budget_runs_from_close_to_publication() {
        let deadline = Deadline { budget_ns: Some(20) };
        assert!(!deadline.is_missed(100, 120));
        assert!(deadline.is_missed(100, 121));
        assert!(!Deadline { budget_ns: None }.is_missed(100, i64::MAX));
    }

    #[test]
    fn who_is_behind_holds_and_who_has_nothing_to_hold_is_neutral() {
        let deadline = Deadline { budget_ns: Some(20) };
        assert_eq!(deadline.rung(false, false), Rung::Full);
        assert_eq!(deadline.rung(true, true), Rung::Held);
        assert_eq!(deadline.rung(true, false), Rung::Neutral);
        assert_eq!(Deadline { budget_ns: None }.rung(true, true), Rung::Full);
    }
}
