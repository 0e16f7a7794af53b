//! Telling a run what to do while it goes on: a ZeroMQ ROUTER socket, and the other end of it.
//!
//! A request is one frame of JSON (behind an empty one, from a REQ socket), and so is its answer. [`Request`] has the commands, with an
//! example each. An answer has `"ok": true` and what was asked for, or `"ok": false` and `"error"`, one sentence. Requests are answered in their
//! order, but for `swap`, which is answered once the new model predicts or is known to need a while, while others go on being answered.
//!
//! Nothing here runs on a hot thread: the control thread sets atomics, and hands a model over by a ring.

mod client;
#[cfg(feature = "curve")]
pub mod curve;
mod endpoint;
mod heart;
mod request;
mod server;

use thiserror::Error;

pub use client::Client;
pub use endpoint::is_local;
pub use heart::Heart;
pub use request::Request;
pub use server::{ControlConfig, ControlServer, ControlSocket, LoadModel, LoadedModel, NoteRequest};

/// Where a run listens unless told otherwise.
pub const DEFAULT_ENDPOINT: &str = "tcp://127.0.0.1:5573";
/// Longest request and answer, bytes.
pub const MOST_BYTES: usize = 1 << 20;

/// Why a run cannot be controlled, or did not do what it was told.
#[derive(Debug, Error)]
pub enum ControlError {
    /// The endpoint cannot be bound.
    #[error("control.endpoint {endpoint} cannot be bound: {problem}")]
    Bind {
        /// The endpoint.
        endpoint: String,
        /// What ZeroMQ says.
        problem: zmq::Error,
    },
    /// Whoever can reach it could stop the run or load a file.
    #[error(
        "control.endpoint {0} is open to other machines, and nothing on it is encrypted: use tcp://127.0.0.1:PORT, or allow it with \
         --insecure-bind, or encrypt it ([control.curve], in a build with the feature `curve`)"
    )]
    Open(String),
    /// Nobody answers.
    #[error("{endpoint}: no answer in {seconds} s: is there a run, and does it listen there ([control])?")]
    Silence {
        /// The endpoint.
        endpoint: String,
        /// How long was waited, s.
        seconds: f64,
    },
    /// What came back is no answer.
    #[error("{endpoint}: what came back is no answer: {problem}")]
    Answer {
        /// The endpoint.
        endpoint: String,
        /// What is wrong with it.
        problem: String,
    },
    /// The run refused.
    #[error("{0}")]
    Refused(String),
    /// A key is no key.
    #[error("{0}")]
    Key(String),
    /// ZeroMQ failed otherwise.
    #[error("the control socket failed: {0}")]
    Socket(#[from] zmq::Error),
    /// A thread could not be started.
    #[error("a thread could not be started: {0}")]
    Thread(#[from] std::io::Error),
}
