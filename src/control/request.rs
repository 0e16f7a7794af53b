//! What a run can be told.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::pipeline::ParameterValues;

/// A request. As JSON: `{"command": "set", "parameters": {"deadline_ms": 15}}`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "command", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// `{"command": "state"}`: what runs, in which state, with which parameters.
    State {},
    /// `{"command": "statistics"}`: the figures so far, and those of the sources.
    Statistics {},
    /// `{"command": "set", "parameters": {"deadline_ms": 15, "most_rate_hz": 300}}`: changes parameters between two bins, all
    /// of them or none.
    Set {
        /// Those that are to change.
        parameters: ParameterValues,
    },
    /// `{"command": "swap", "checkpoint": "new.safetensors", "session": "monkey T"}`: puts another model in the place of the one that
    /// predicts, between two bins and without a missed one.
    Swap {
        /// Its file, as the run's machine and working directory name it.
        checkpoint: PathBuf,
        /// Which of its sessions the units are of, where it knows several.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        session: Option<String>,
    },
    /// `{"command": "recalibrate"}`: computes the units' identities anew, from their last activity.
    Recalibrate {},
    /// `{"command": "emergency_stop"}`: from the next prediction on only mean rates go out, and zeros, until `release`.
    EmergencyStop {},
    /// `{"command": "release"}`: predictions go out again.
    Release {},
    /// `{"command": "heartbeat"}`: the consumer is there (`guards.heartbeat_ms`).
    Heartbeat {},
    /// `{"command": "stop"}`: ends the run in order.
    Stop {},
}

impl Request {
    /// Reads a request.
    ///
    /// # Errors
    /// One sentence about what is no request.
    pub fn parse(bytes: &[u8]) -> Result<Self, String> {
        serde_json::from_slice(bytes).map_err(|error| format!("that is no request: {error}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn every_command_is_read_as_it_is_documented() {
        let set = ParameterValues {
            deadline_ms: Some(15.0),
            most_rate_hz: Some(300.0),
            ..Default::default()
        };
        for (text, request) in [
            (r#"{"command": "state"}"#, Request::State {}),
            (r#"{"command": "statistics"}"#, Request::Statistics {}),
            (
                r#"{"command": "set", "parameters": {"deadline_ms": 15, "most_rate_hz": 300}}"#,
                Request::Set { parameters: set },
            ),
            (
                r#"{"command": "swap", "checkpoint": "new.safetensors", "session": "monkey T"}"#,
                Request::Swap {
                    checkpoint: "new.safetensors".into(),
                    session: Some("monkey T".into()),
                },
            ),
            (r#"{"command": "recalibrate"}"#, Request::Recalibrate {}),
            (r#"{"command": "emergency_stop"}"#, Request::EmergencyStop {}),
            (r#"{"command": "release"}"#, Request::Release {}),
            (r#"{"command": "heartbeat"}"#, Request::Heartbeat {}),
            (r#"{"command": "stop"}"#, Request::Stop {}),
        ] {
            assert_eq!(Request::parse(text.as_bytes()), Ok(request.clone()));
            let again = serde_json::to_vec(&request).unwrap();
            assert_eq!(Request::parse(&again), Ok(request));
        }
    }

    #[test]
    fn what_is_no_request_is_refused_by_name() {
        for (text, named) in [
            ("", "EOF"),
            ("[]", "no request"),
            (r#"{"command": "explode"}"#, "`explode`"),
            (r#"{"command": "stop", "now": true}"#, "`now`"),
            (r#"{"command": "set", "parameters": {"dedline_ms": 1}}"#, "`dedline_ms`"),
            (r#"{"command": "swap"}"#, "`checkpoint`"),
        ] {
            let error = Request::parse(text.as_bytes()).unwrap_err();
            assert!(error.contains(named), "{error}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Request::parse(&bytes);
        }
    }
}
