//! What a run tells on the terminal while it goes on.

use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::acquire::wire::{SpareUnits, WireCounters};
use crate::acquire::Source;
use crate::pipeline::StopCause;

/// Notices that predictions were stopped, or go out again.
#[derive(Default)]
pub struct GuardNews(Option<StopCause>);

impl GuardNews {
    /// What has changed since the last call.
    pub fn look(&mut self, cause: Option<StopCause>) -> Option<&'static str> {
        if cause == std::mem::replace(&mut self.0, cause) {
            return None;
        }
        Some(match cause {
            None => "predictions go out",
            Some(StopCause::Command) => "STOPPED by a command: only mean rates go out",
            Some(StopCause::HeartbeatLost) => {
                "STOPPED, the consumer's heartbeat did not come: only mean rates go out until `ctl release`"
            }
            Some(StopCause::NoHeartbeatYet) => "only mean rates go out until the consumer's first heartbeat",
        })
    }
}

/// Notices that a device has been reached or lost.
pub struct DeviceWatch {
    /// The source's name.
    pub name: String,
    counters: Arc<WireCounters>,
    away: bool,
}

impl DeviceWatch {
    /// Of a source that is a device.
    pub fn new(source: &dyn Source) -> Option<Self> {
        Some(Self {
            name: source.name().to_string(),
            counters: source.wire_counters()?,
            away: true,
        })
    }

    /// What has changed since the last call.
    pub fn news(&mut self) -> Option<&'static str> {
        let away = self.counters.is_away();
        if away == std::mem::replace(&mut self.away, away) {
            return None;
        }
        Some(if away {
            "LOST; the run goes on without its spikes until it is back"
        } else {
            "connected"
        })
    }
}

/// Notices units that nobody listed and that have taken a place, and when they have been there for a whole reference.
pub struct SpareNews {
    spares: Vec<(Arc<SpareUnits>, usize)>,
    reference: Duration,
    /// When the newest of them has a whole reference behind it.
    due: Option<Instant>,
}

impl SpareNews {
    /// Of these sources, of whose units' activity identities are computed from `reference`.
    pub fn new(sources: &[Box<dyn Source>], reference: Duration) -> Self {
        let spares = sources.iter().filter_map(|source| source.spare_units());
        Self {
            spares: spares.map(|spares| (spares, 0)).collect(),
            reference,
            due: None,
        }
    }

    /// Tells of each unit that has taken a place since the last call. Says whether it is time to compute identities anew.
    pub fn look(&mut self, tell: impl Fn(&str)) -> bool {
        for (spares, told) in &mut self.spares {
            let taken = spares.taken();
            for unit in &taken[*told..] {
                let seconds = self.reference.as_secs_f64();
                tell(&format!(
                    "{} is listed nowhere: it is {} from here on, with an identity of its own in {seconds} s",
                    unit.is, unit.id
                ));
                self.due = Some(Instant::now() + self.reference);
            }
            *told = taken.len();
        }
        self.due.take_if(|due| Instant::now() >= *due).is_some()
    }
}
