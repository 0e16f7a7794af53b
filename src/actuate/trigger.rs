//! Subscription, rule and line put together, on one thread.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use serde::Serialize;
use thiserror::Error;

use super::line::{LineError, LineNews, LineReport, TtlLine};
use super::rule::{Change, Fall, Reading, Rule, RuleConfig, RuleCounts};
use super::subscription::{ReadError, Subscription, SubscriptionCounts};
use crate::pipeline::clock::monotonic_ns;

/// Longest wait, so that a stop is seen in time, ns.
const LONGEST_WAIT_NS: i64 = 20_000_000;
/// How long the end waits for the GUI to confirm that the line is low, ns.
const END_PATIENCE_NS: i64 = 2_000_000_000;
const MS_NS: i64 = 1_000_000;

/// What happens, for whoever shows it.
#[derive(Clone, Debug, PartialEq)]
pub enum News {
    /// The runtime's `hello` has come, and the signal is in it.
    Found,
    /// The runtime was started anew.
    Restarted,
    /// The first message that could not be read.
    Malformed(String),
    /// At the line's end.
    Line(LineNews),
    /// The line was raised by a prediction.
    Raised {
        /// Its number.
        value: f64,
        /// From its publication until now, ns.
        age_ns: i64,
    },
    /// The line was lowered.
    Lowered(Fall),
}

/// What became of everything.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct TriggerReport {
    /// Messages.
    pub predictions: SubscriptionCounts,
    /// What the rule made of them.
    pub rule: RuleCounts,
    /// What was sent.
    pub line: LineReport,
    /// The line was raised, and the GUI has not confirmed that it is low again.
    pub line_may_be_high: bool,
}

/// Why a trigger cannot go on.
#[derive(Debug, Error)]
pub enum TriggerError {
    /// No predictions.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// No line.
    #[error(transparent)]
    Line(#[from] LineError),
    /// Nothing can be waited for.
    #[error("sockets cannot be waited for: {0}")]
    Poll(zmq::Error),
}

/// A subscription that a rule makes a line of.
pub struct Trigger<'a> {
    subscription: Subscription,
    rule: Rule,
    line: Box<dyn TtlLine + 'a>,
    tell: Box<dyn FnMut(&News) + 'a>,
    heartbeat: Option<Box<dyn FnMut(i64) + 'a>>,
}

impl<'a> Trigger<'a> {
    /// A trigger that has not begun.
    pub fn new(
        subscription: Subscription,
        rule: RuleConfig,
        line: Box<dyn TtlLine + 'a>,
        tell: impl FnMut(&News) + 'a,
    ) -> Self {
        Self {
            subscription,
            rule: Rule::new(rule),
            line,
            tell: Box::new(tell),
            heartbeat: None,
        }
    }

    /// Calls this, with the host's time, as long as it goes on and the line can be driven: at least every 20 ms.
    pub fn with_heartbeat(mut self, beat: impl FnMut(i64) + 'a) -> Self {
        self.heartbeat = Some(Box::new(beat));
        self
    }

    /// Runs until `stop` is set or it cannot go on; lowers the line either way.
    pub fn run(mut self, stop: &AtomicBool) -> (TriggerReport, Result<(), TriggerError>) {
        let mut done = Ok(());
        while !stop.load(Relaxed) && done.is_ok() {
            done = self.turn();
        }
        let ended = self.end();
        let report = TriggerReport {
            predictions: self.subscription.counts(),
            rule: self.rule.counts(),
            line: self.line.report(),
            line_may_be_high: self.line.may_be_high(),
        };
        (report, done.and(ended))
    }

    fn turn(&mut self) -> Result<(), TriggerError> {
        self.wait(self.rule.due_ns(), true)?;
        let now_ns = monotonic_ns();
        if let Some(beat) = self.heartbeat.as_mut().filter(|_| self.line.has_contact()) {
            beat(now_ns);
        }
        let fall = self.rule.tick(now_ns);
        self.follow(fall);
        self.step_line(now_ns)?;
        let batch = self.subscription.read()?;
        if let Some(problem) = batch.complaint {
            (self.tell)(&News::Malformed(problem));
        }
        // Reading may have taken a while; what is judged next is judged by the clock.
        let now_ns = monotonic_ns();
        if batch.restarted {
            (self.tell)(&News::Restarted);
            let fall = self.rule.restart(now_ns);
            self.follow(fall);
        }
        if batch.found {
            (self.tell)(&News::Found);
        }
        if let Some(reading) = batch.newest {
            self.judge(&reading, now_ns);
        }
        Ok(self.step_line(now_ns)?)
    }

    fn judge(&mut self, reading: &Reading, now_ns: i64) {
        let ready = self.line.is_ready();
        match self.rule.take(reading, now_ns, ready) {
            Some(Change::Raised) if self.line.raise(reading.publish_ns, now_ns) => {
                let (value, age_ns) = (reading.value, now_ns - reading.publish_ns);
                (self.tell)(&News::Raised { value, age_ns });
            }
            Some(Change::Raised) => {
                let fall = self.rule.lower(now_ns, Fall::GuiLost);
                self.follow(fall);
            }
            fall => self.follow(fall),
        }
    }

    /// Hands a fall of the rule on to the line.
    fn follow(&mut self, change: Option<Change>) {
        if let Some(Change::Lowered(reason)) = change {
            self.line.lower();
            (self.tell)(&News::Lowered(reason));
        }
    }

    fn step_line(&mut self, now_ns: i64) -> Result<(), LineError> {
        let Some(news) = self.line.step(now_ns)? else {
            return Ok(());
        };
        let lost = matches!(news, LineNews::Lost { .. });
        (self.tell)(&News::Line(news));
        if lost {
            let fall = self.rule.lower(now_ns, Fall::GuiLost);
            self.follow(fall);
        }
        Ok(())
    }

    /// Waits for a message, an answer, or what is due first.
    fn wait(&self, due_ns: Option<i64>, for_predictions: bool) -> Result<(), TriggerError> {
        let now_ns = monotonic_ns();
        let due = [due_ns, self.line.due_ns()].into_iter().flatten().min();
        let wait_ns = due.map_or(LONGEST_WAIT_NS, |due| {
            due.saturating_sub(now_ns).clamp(0, LONGEST_WAIT_NS)
        });
        let predictions = for_predictions.then(|| self.subscription.poll_item());
        let mut items: Vec<zmq::PollItem> = predictions.into_iter().chain(self.line.poll_item()).collect();
        match zmq::poll(&mut items, (wait_ns + MS_NS - 1) / MS_NS) {
            Ok(_) | Err(zmq::Error::EINTR) => Ok(()),
            Err(error) => Err(TriggerError::Poll(error)),
        }
    }

    /// Lowers the line and waits, for a while, until the GUI says so.
    fn end(&mut self) -> Result<(), TriggerError> {
        let now_ns = monotonic_ns();
        let fall = self.rule.lower(now_ns, Fall::End);
        self.follow(fall);
        self.line.lower();
        let until_ns = now_ns + END_PATIENCE_NS;
        while self.line.may_be_high() && monotonic_ns() < until_ns {
            self.line.hurry();
            self.step_line(monotonic_ns())?;
            self.wait(Some(until_ns), false)?;
        }
        Ok(())
    }
}
