//! The end of those who ask.

use std::time::{Duration, Instant};

use serde_json::Value;

use super::server::is_ready;
use super::{ControlError, Request, MOST_BYTES};

/// A connection to a run's control socket.
pub struct Client {
    socket: zmq::Socket,
    endpoint: String,
    patience: Duration,
}

impl Client {
    /// Connects; that there is somebody shows at the first request. `set_up` may set further options before.
    ///
    /// # Errors
    /// An endpoint that is none.
    pub fn connect(
        endpoint: &str,
        patience: Duration,
        set_up: impl FnOnce(&zmq::Socket) -> Result<(), ControlError>,
    ) -> Result<Self, ControlError> {
        let socket = zmq::Context::new().socket(zmq::DEALER)?;
        socket.set_linger(0)?;
        socket.set_maxmsgsize(MOST_BYTES as i64)?;
        set_up(&socket)?;
        socket.connect(endpoint).map_err(|problem| ControlError::Answer {
            endpoint: endpoint.into(),
            problem: format!("it cannot be connected to: {problem}"),
        })?;
        Ok(Self {
            socket,
            endpoint: endpoint.into(),
            patience,
        })
    }

    /// Asks, and waits for the answer.
    ///
    /// # Errors
    /// Nobody answers in time, or the run refuses; the sentence is the run's own.
    pub fn ask(&self, request: &Request) -> Result<Value, ControlError> {
        let bytes = serde_json::to_vec(request).map_err(|error| self.fault(&error))?;
        self.socket.send(bytes, 0)?;
        let until = Instant::now() + self.patience;
        // A signal may end a wait early.
        while !is_ready(
            &self.socket,
            until.saturating_duration_since(Instant::now()).as_millis() as i64,
        )? {
            if Instant::now() >= until {
                return Err(ControlError::Silence {
                    endpoint: self.endpoint.clone(),
                    seconds: self.patience.as_secs_f64(),
                });
            }
        }
        let parts = self.socket.recv_multipart(0)?;
        let last = parts.last().map_or(&[][..], Vec::as_slice);
        let answer: Value = serde_json::from_slice(last).map_err(|error| self.fault(&error))?;
        match answer["ok"].as_bool() {
            Some(true) => Ok(answer),
            Some(false) => Err(ControlError::Refused(
                answer["error"].as_str().unwrap_or("the run gave no reason").into(),
            )),
            None => Err(self.fault(&"it says neither yes nor no")),
        }
    }

    fn fault(&self, problem: &dyn std::fmt::Display) -> ControlError {
        ControlError::Answer {
            endpoint: self.endpoint.clone(),
            problem: problem.to_string(),
        }
    }
}
