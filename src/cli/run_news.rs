//! What a run tells on the terminal while it goes on.

use std::sync::Arc;

use crate::acquire::wire::WireCounters;
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
