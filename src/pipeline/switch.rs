//! The switch that lets predictions out, or not.
//!
//! A stop stays until it is released: by a command, or because the consumer's heartbeat did not come. The switch can be thrown from
//! any thread, a signal's handler too: it waits for nobody.

use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed};

use serde::Serialize;

use super::sharing::{Number, Real, Sharing};

/// Why nothing but mean rates goes out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[repr(u8)]
pub enum StopCause {
    /// Somebody commanded it.
    Command = 1,
    /// The consumer's heartbeat did not come in time.
    HeartbeatLost = 2,
    /// The consumer's first heartbeat has not come yet.
    NoHeartbeatYet = 3,
}

impl StopCause {
    fn of(state: u64) -> Option<Self> {
        use StopCause::{Command, HeartbeatLost, NoHeartbeatYet};
        [Command, HeartbeatLost, NoHeartbeatYet]
            .into_iter()
            .find(|cause| *cause as u64 == state & CAUSE)
    }
}

/// Bits of the state that hold the cause.
const CAUSE: u64 = 0xff;

/// The state after `state`, with this cause.
fn after(state: u64, cause: Option<StopCause>) -> u64 {
    (state & !CAUSE).wrapping_add(CAUSE + 1) | cause.map_or(0, |cause| cause as u64)
}

/// The switch: whether predictions may go out.
#[derive(Debug)]
pub struct StopSwitch<S: Sharing = Real> {
    /// The cause, 0 where they may; above it how often it was set, so that whoever looks twice knows whether anybody has set it
    /// meanwhile.
    state: S::Number,
    /// Host time of the last heartbeat, monotonic ns; 0 before the first.
    heartbeat_at_ns: S::Number,
    heartbeats: S::Number,
    /// Times that it was thrown after predictions had been allowed.
    stops: S::Number,
}

impl<S: Sharing> StopSwitch<S> {
    /// Predictions may go out, or with `heartbeat` once the first one has come.
    pub(crate) fn new(heartbeat: bool) -> Self {
        let state = S::Number::default();
        if heartbeat {
            state.store(StopCause::NoHeartbeatYet as u64, Relaxed);
        }
        Self {
            state,
            heartbeat_at_ns: S::Number::default(),
            heartbeats: S::Number::default(),
            stops: S::Number::default(),
        }
    }

    /// Why nothing but mean rates goes out; none where predictions do.
    pub fn cause(&self) -> Option<StopCause> {
        StopCause::of(self.state.load(Relaxed))
    }

    /// Sets the cause unless somebody has set it after `state`.
    fn set(&self, state: u64, cause: Option<StopCause>) -> Result<u64, u64> {
        self.state.compare_exchange(state, after(state, cause), AcqRel, Acquire)
    }

    /// Stops predictions, from the next one on, until they are released.
    pub fn stop(&self) {
        // A command stands above a heartbeat that did not come.
        let mut state = self.state.load(Acquire);
        while let Err(now) = self.set(state, Some(StopCause::Command)) {
            state = now;
        }
        self.stops.fetch_add(u64::from(StopCause::of(state).is_none()), Relaxed);
    }

    /// A heartbeat came at `now_ns`. The first one lets predictions go out where nothing else forbids them.
    pub fn heartbeat(&self, now_ns: i64) {
        self.heartbeat_at_ns.store(now_ns as u64, Relaxed);
        self.heartbeats.fetch_add(1, Relaxed);
        let state = self.state.load(Acquire);
        if StopCause::of(state) == Some(StopCause::NoHeartbeatYet) {
            // Whoever stops them meanwhile wins.
            let _ = self.set(state, None);
        }
    }

    /// Host time of the last heartbeat, ns; none before the first.
    fn last_heartbeat(&self) -> Option<i64> {
        Some(self.heartbeat_at_ns.load(Relaxed) as i64).filter(|&at_ns| at_ns != 0)
    }

    /// Lets predictions go out again. `heartbeat_ns` is the longest time between two heartbeats, where there must be any.
    ///
    /// # Errors
    /// Where the heartbeat does not come.
    pub fn release(&self, now_ns: i64, heartbeat_ns: Option<i64>) -> Result<(), String> {
        let state = self.state.load(Acquire);
        let last = self.last_heartbeat();
        if heartbeat_ns.is_some_and(|longest| last.is_none_or(|at_ns| now_ns - at_ns > longest)) {
            return Err("the consumer's heartbeat does not come: predictions stay stopped".into());
        }
        // Whoever stops them meanwhile wins.
        match self.set(state, None) {
            Err(now) if StopCause::of(now).is_some() => {
                Err("predictions were stopped at the same moment: they stay so".into())
            }
            _ => Ok(()),
        }
    }

    /// Heartbeats so far.
    pub fn heartbeats(&self) -> u64 {
        self.heartbeats.load(Relaxed)
    }

    /// Times that predictions were stopped.
    pub fn stops(&self) -> u64 {
        self.stops.load(Relaxed)
    }

    /// Throws itself where the heartbeat is overdue, and says whether predictions are stopped.
    pub(super) fn is_stopped(&self, now_ns: i64, heartbeat_ns: Option<i64>) -> bool {
        // Before the heartbeat: where they have been released, the one that they were released for is seen here, and a release
        // after this look is not undone.
        let state = self.state.load(Acquire);
        let last = self.last_heartbeat();
        let overdue = heartbeat_ns.is_some_and(|longest| last.is_some_and(|at_ns| now_ns - at_ns > longest));
        let may_go_out = StopCause::of(state).is_none();
        if overdue && may_go_out && self.set(state, Some(StopCause::HeartbeatLost)).is_ok() {
            self.stops.fetch_add(1, Relaxed);
        }
        self.cause().is_some()
    }
}
