//! `[guards]` of a configuration: what may go out.

use std::collections::BTreeMap;

use serde::Deserialize;

use super::run_config::ms_to_ns;
use super::CliError;
use crate::pipeline::GuardConfig;

/// `[guards]`
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GuardsSection {
    /// Most spikes a second that may be predicted of any unit; no limit without it.
    pub most_rate_hz: Option<f64>,
    /// The same of single units, by id.
    pub unit_most_rate_hz: BTreeMap<String, f64>,
    /// Longest time between two heartbeats of the consumer, ms; none are asked for without it.
    pub heartbeat_ms: Option<f64>,
}

impl GuardsSection {
    /// What the pipeline takes of it. Whether the units are the model's is checked there.
    ///
    /// # Errors
    /// A heartbeat out of its range, or one that nobody could send because there is no control socket.
    pub fn config(&self, controlled: bool) -> Result<GuardConfig, CliError> {
        if self.heartbeat_ms.is_some() && !controlled {
            return Err(CliError::Config(
                "guards.heartbeat_ms asks for heartbeats, and there is no control.endpoint that they could come to"
                    .into(),
            ));
        }
        let heartbeat_ns = self.heartbeat_ms.map(|ms| ms_to_ns("guards.heartbeat_ms", ms, 1.0));
        Ok(GuardConfig {
            most_rate_hz: self.most_rate_hz,
            units: self
                .unit_most_rate_hz
                .iter()
                .map(|(id, rate)| (id.clone(), *rate))
                .collect(),
            heartbeat_ns: heartbeat_ns.transpose()?,
        })
    }
}
