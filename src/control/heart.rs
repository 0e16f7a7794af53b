//! A consumer's heartbeat, for one that waits for other things on the same thread.

use super::{ControlError, Request};

/// Beats as long as somebody turns it.
pub struct Heart {
    socket: zmq::Socket,
    beat: Vec<u8>,
    every_ns: i64,
    next_ns: i64,
}

impl Heart {
    /// Beats at a run's control socket, every so many ns. Where there is no run, beats are lost and not kept for the next one.
    ///
    /// # Errors
    /// An endpoint that is none.
    pub fn connect(endpoint: &str, every_ns: i64) -> Result<Self, ControlError> {
        let socket = zmq::Context::new().socket(zmq::DEALER)?;
        socket.set_linger(0)?;
        socket.set_immediate(true)?;
        socket.set_sndhwm(1)?;
        socket.connect(endpoint).map_err(|problem| ControlError::Answer {
            endpoint: endpoint.into(),
            problem: format!("it cannot be connected to: {problem}"),
        })?;
        let beat = serde_json::to_vec(&Request::Heartbeat {}).map_err(|problem| ControlError::Answer {
            endpoint: endpoint.into(),
            problem: problem.to_string(),
        })?;
        Ok(Self {
            socket,
            beat,
            every_ns,
            next_ns: i64::MIN,
        })
    }

    /// Beats where that is due at `now_ns`, and waits for nobody.
    ///
    /// # Errors
    /// What ZeroMQ says.
    pub fn turn(&mut self, now_ns: i64) -> Result<(), ControlError> {
        loop {
            // What is answered shows in the predictions' flags.
            match self.socket.recv_multipart(zmq::DONTWAIT) {
                Ok(_) => {}
                Err(zmq::Error::EAGAIN) => break,
                Err(error) => return Err(error.into()),
            }
        }
        if now_ns < self.next_ns {
            return Ok(());
        }
        self.next_ns = now_ns + self.every_ns;
        match self.socket.send(&self.beat, zmq::DONTWAIT) {
            Ok(()) | Err(zmq::Error::EAGAIN) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}
