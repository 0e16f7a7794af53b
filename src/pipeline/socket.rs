//! The two ZeroMQ endpoints.

use std::ffi::c_int;

use thiserror::Error;

use super::message::HELLO_TOPIC;

/// Longest subscription, bytes: a prefix of a topic. The publish thread itself keeps the prefixes, letter by letter: a longer one, which
/// could keep it for seconds, ends its connection.
const LONGEST_SUBSCRIPTION: i64 = 1_024;

/// A failure to publish.
#[derive(Debug, Error)]
pub enum PublishError {
    /// Another program has the endpoint.
    #[error("{key} {endpoint} is already in use: stop the program that has it, or choose another endpoint")]
    InUse {
        /// Name of the endpoint in the configuration.
        key: &'static str,
        /// The endpoint.
        endpoint: String,
    },
    /// The endpoint cannot be bound.
    #[error("{key} {endpoint} cannot be bound: {problem}")]
    Bind {
        /// Name of the endpoint in the configuration.
        key: &'static str,
        /// The endpoint.
        endpoint: String,
        /// What ZeroMQ says.
        problem: zmq::Error,
    },
    /// ZeroMQ failed otherwise.
    #[error("publishing failed: {0}")]
    Socket(#[from] zmq::Error),
}

/// Whether every subscriber that asked for a message has a place for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sent {
    ToAll,
    /// At least one subscriber is at its high-water mark.
    SomeoneIsFull,
}

/// The first endpoint: every prediction.
///
/// An XPUB socket: with `ZMQ_XPUB_NODROP` it says when a subscriber is full instead of dropping silently, and it tells
/// of subscriptions.
pub(crate) struct EveryEndpoint {
    socket: zmq::Socket,
}

fn bind(socket: &zmq::Socket, key: &'static str, endpoint: &str) -> Result<String, PublishError> {
    let endpoint = endpoint.to_string();
    socket.bind(&endpoint).map_err(|problem| match problem {
        zmq::Error::EADDRINUSE => PublishError::InUse {
            key,
            endpoint: endpoint.clone(),
        },
        problem => PublishError::Bind {
            key,
            endpoint: endpoint.clone(),
            problem,
        },
    })?;
    // With port 0 the system chose the port.
    Ok(socket.get_last_endpoint()?.unwrap_or(endpoint))
}

impl EveryEndpoint {
    /// Binds the endpoint; returns it with the address it really has.
    pub fn bind(context: &zmq::Context, endpoint: &str, high_water_mark: i32) -> Result<(Self, String), PublishError> {
        let socket = context.socket(zmq::XPUB)?;
        socket.set_sndhwm(high_water_mark)?;
        socket.set_linger(1_000)?;
        socket.set_maxmsgsize(LONGEST_SUBSCRIPTION)?;
        let address = bind(&socket, "endpoint", endpoint)?;
        let mut every = Self { socket };
        every.set_no_drop(true)?;
        Ok((every, address))
    }

    fn set_no_drop(&mut self, on: bool) -> Result<(), zmq::Error> {
        let value = c_int::from(on);
        // SAFETY: the socket is open for as long as `self.socket` lives, and the option reads one c_int from `value`.
        let code = unsafe {
            zmq_sys::zmq_setsockopt(
                self.socket.as_mut_ptr(),
                zmq_sys::ZMQ_XPUB_NODROP as c_int,
                (&raw const value).cast(),
                size_of::<c_int>(),
            )
        };
        if code == 0 {
            return Ok(());
        }
        // SAFETY: reads the calling thread's error number; no argument.
        Err(zmq::Error::from_raw(unsafe { zmq_sys::zmq_errno() }))
    }

    /// Sends a message to every subscriber of its topic, or to none where one of them is full.
    pub fn send(&self, parts: &[&[u8]]) -> Result<Sent, zmq::Error> {
        match self.socket.send_multipart(parts, zmq::DONTWAIT) {
            Ok(()) => Ok(Sent::ToAll),
            Err(zmq::Error::EAGAIN) => Ok(Sent::SomeoneIsFull),
            Err(error) => Err(error),
        }
    }

    /// Sends a message to those who have a place for it: a full subscriber loses it, the others do not.
    ///
    /// ZeroMQ then leaves the full one out, without a word, until it has caught up with half its high-water mark.
    pub fn send_to_those_with_room(&mut self, parts: &[&[u8]]) -> Result<(), zmq::Error> {
        self.set_no_drop(false)?;
        let sent = self.socket.send_multipart(parts, zmq::DONTWAIT);
        self.set_no_drop(true)?;
        sent
    }

    /// Reads the subscriptions that have come in, and calls `came` with the prefix of each.
    pub fn read_subscriptions(&self, mut came: impl FnMut(&[u8])) -> Result<(), zmq::Error> {
        loop {
            match self.socket.recv_bytes(zmq::DONTWAIT) {
                Ok(message) => {
                    // 1 and the topic's prefix: a subscription; 0 and the prefix: its end.
                    if let Some((1, prefix)) = message.split_first() {
                        came(prefix);
                    }
                }
                Err(zmq::Error::EAGAIN) => return Ok(()),
                Err(error) => return Err(error),
            }
        }
    }

    /// Sends a `hello`; where a subscriber is full, nobody gets this one.
    pub fn send_hello(&self, json: &str) -> Result<(), zmq::Error> {
        self.send(&[HELLO_TOPIC.as_bytes(), json.as_bytes()]).map(|_| ())
    }
}

/// The second endpoint: only the latest prediction, in one frame, for subscribers with CONFLATE.
pub(crate) struct LatestEndpoint {
    socket: zmq::Socket,
    frame: Vec<u8>,
}

impl LatestEndpoint {
    /// Binds the endpoint; returns it with the address it really has.
    pub fn bind(context: &zmq::Context, endpoint: &str, high_water_mark: i32) -> Result<(Self, String), PublishError> {
        let socket = context.socket(zmq::PUB)?;
        socket.set_maxmsgsize(LONGEST_SUBSCRIPTION)?;
        socket.set_sndhwm(high_water_mark)?;
        socket.set_linger(0)?;
        let address = bind(&socket, "latest_endpoint", endpoint)?;
        Ok((
            Self {
                socket,
                frame: Vec::new(),
            },
            address,
        ))
    }

    /// Sends header and array as one frame.
    pub fn send(&mut self, header: &[u8], array: &[u8]) -> Result<(), zmq::Error> {
        self.frame.clear();
        self.frame.extend_from_slice(header);
        self.frame.extend_from_slice(array);
        match self.socket.send(&self.frame[..], zmq::DONTWAIT) {
            Err(zmq::Error::EAGAIN) => Ok(()),
            other => other,
        }
    }
}
