//! Datagrams that come to an address, and whether the device that sends them is still there.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;

use rustix::net::sockopt::{set_socket_recv_buffer_size, set_socket_recv_buffer_size_force};

use super::super::SourceError;
use super::collect::Collector;
use super::tcp::wait_readable;
use super::{READ_BYTES, WAIT_NS};

/// Datagrams in one poll before the source's thread looks at the run again.
pub(in crate::acquire) const DATAGRAMS: usize = 256;
/// Bytes that the system is asked to hold.
pub(crate) const RECEIVE_BUFFER: usize = 16 << 20;
/// A device says something every few milliseconds: after this long without anything it is lost, ns.
const SILENCE_NS: i64 = 500_000_000;

/// Where datagrams to `to` are sent from: this machine alone where they stay on it.
pub fn source_address(to: SocketAddr) -> SocketAddr {
    match to {
        SocketAddr::V4(to) if to.ip().is_loopback() => (Ipv4Addr::LOCALHOST, 0).into(),
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(to) if to.ip().is_loopback() => (Ipv6Addr::LOCALHOST, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    }
}

/// A socket that listens.
#[derive(Debug)]
pub struct Datagrams {
    socket: UdpSocket,
    buffer: Box<[u8]>,
}

impl Datagrams {
    /// Listens on `address`; `source` stands for it in errors.
    ///
    /// # Errors
    /// An address that cannot be listened on.
    pub fn listen(source: &str, address: SocketAddr) -> Result<Self, SourceError> {
        let socket = UdpSocket::bind(address).and_then(|socket| {
            socket.set_nonblocking(true)?;
            Ok(socket)
        });
        let socket = socket.map_err(|error| SourceError::Invalid {
            name: source.to_string(),
            problem: format!("it cannot be listened there: {error}"),
        })?;
        // Only a privileged program gets more than the system's limit; what is lost for want of space is counted.
        if set_socket_recv_buffer_size_force(&socket, RECEIVE_BUFFER).is_err() {
            let _ = set_socket_recv_buffer_size(&socket, RECEIVE_BUFFER);
        }
        Ok(Self {
            socket,
            buffer: vec![0; READ_BYTES].into(),
        })
    }

    /// The address that it listens on.
    ///
    /// # Errors
    /// What the system says.
    pub fn address(&self) -> std::io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// The socket, to answer from.
    pub fn socket(&self) -> &UdpSocket {
        &self.socket
    }

    /// The next datagram and its sender, if one is there.
    ///
    /// # Errors
    /// What the system says, in words.
    pub fn receive(&mut self) -> Result<Option<(&[u8], SocketAddr)>, String> {
        match self.socket.recv_from(&mut self.buffer) {
            Ok((bytes, from)) => Ok(Some((&self.buffer[..bytes], from))),
            // Refused: an answer of ours found nobody there, which is no news of what is sent to us.
            Err(error)
                if matches!(
                    error.kind(),
                    ErrorKind::WouldBlock | ErrorKind::Interrupted | ErrorKind::ConnectionRefused
                ) =>
            {
                Ok(None)
            }
            Err(error) => Err(error.to_string()),
        }
    }

    /// Waits for a datagram, for [`WAIT_NS`] at the longest.
    pub fn wait(&self) {
        wait_readable(self.socket.as_fd(), WAIT_NS);
    }
}

/// Whether a device that says nothing when it goes is there.
#[derive(Clone, Copy, Debug, Default)]
pub struct Presence {
    /// Host time at which it was heard last, while it is there.
    heard_ns: Option<i64>,
}

impl Presence {
    /// Whether it is there.
    pub fn is_there(&self) -> bool {
        self.heard_ns.is_some()
    }

    /// It is heard.
    pub fn heard(&mut self, now_ns: i64, collector: &mut Collector) {
        if self.heard_ns.replace(now_ns).is_none() {
            collector.connected(now_ns);
        }
    }

    /// Nothing is heard.
    pub fn silent(&mut self, now_ns: i64, collector: &mut Collector) {
        if self
            .heard_ns
            .is_some_and(|heard| now_ns.saturating_sub(heard) > SILENCE_NS)
        {
            self.gone(now_ns, collector);
        }
    }

    /// It is known to have gone.
    pub fn gone(&mut self, now_ns: i64, collector: &mut Collector) {
        if self.heard_ns.take().is_some() {
            collector.lost(now_ns);
        }
    }
}
