//! The two ways to a runtime.

use std::io;
use std::net::UdpSocket;
use std::sync::Arc;

use crate::error::OpenError;

/// The longest prediction that is taken: what a UDP datagram can hold.
pub const LONGEST: usize = 65_536;

/// Towards the runtime.
pub enum Outgoing {
    /// A ring in shared memory.
    #[cfg(target_os = "linux")]
    Shm(firmware_bridge_shm::Writer<firmware_bridge_shm::SharedRing>),
    /// Datagrams.
    Udp(Arc<UdpSocket>),
}

/// From the runtime.
pub enum Incoming {
    /// A ring in shared memory.
    #[cfg(target_os = "linux")]
    Shm(firmware_bridge_shm::Reader<firmware_bridge_shm::SharedRing>),
    /// Datagrams.
    Udp(Arc<UdpSocket>),
}

/// What is known of the runtime.
pub enum Host {
    /// By the locks on the shared memory.
    #[cfg(target_os = "linux")]
    Shm(firmware_bridge_shm::Peer),
    /// Over UDP nobody can say.
    Unknown,
}

impl Outgoing {
    /// Sends one packet, without waiting; false where there is no room.
    pub fn send(&mut self, packet: &[u8]) -> bool {
        match self {
            #[cfg(target_os = "linux")]
            Self::Shm(writer) => writer.push(&[packet]).is_ok(),
            // The socket does not block. Nobody listening is reported by the datagram after, which is then not sent.
            Self::Udp(socket) => socket.send(packet).is_ok_and(|sent| sent == packet.len()),
        }
    }

    /// Bytes that wait for the runtime.
    pub fn waiting(&self) -> u64 {
        match self {
            #[cfg(target_os = "linux")]
            Self::Shm(writer) => writer.waiting(),
            Self::Udp(_) => 0,
        }
    }
}

/// What [`Incoming::receive`] found.
pub enum Received {
    /// A message of this length.
    Message(usize),
    /// A message that could not be read.
    Damaged,
    /// No message.
    None,
}

impl Incoming {
    /// Receives one message, without waiting.
    pub fn receive(&mut self, buffer: &mut [u8]) -> Received {
        match self {
            #[cfg(target_os = "linux")]
            Self::Shm(reader) => match reader.pop(buffer) {
                Ok(Some(length)) => Received::Message(length),
                Ok(None) => Received::None,
                Err(_) => Received::Damaged,
            },
            Self::Udp(socket) => socket.recv(buffer).map_or(Received::None, Received::Message),
        }
    }
}

/// Opens the way that `address` names.
pub fn open(address: &str) -> Result<(Outgoing, Incoming, Host), OpenError> {
    match address.split_once(':') {
        Some(("shm", name)) => open_shm(name),
        Some(("udp", address)) => {
            let socket = open_udp(address).map_err(|error| OpenError::Udp {
                address: address.to_string(),
                error,
            })?;
            let socket = Arc::new(socket);
            Ok((Outgoing::Udp(Arc::clone(&socket)), Incoming::Udp(socket), Host::Unknown))
        }
        _ => Err(OpenError::Address(address.to_string())),
    }
}

#[cfg(target_os = "linux")]
fn open_shm(name: &str) -> Result<(Outgoing, Incoming, Host), OpenError> {
    use firmware_bridge_shm::{Link, Role, Sizes};
    let link = Link::open(name, Role::Device, Sizes::default())?;
    Ok((
        Outgoing::Shm(link.writer),
        Incoming::Shm(link.reader),
        Host::Shm(link.peer),
    ))
}

#[cfg(not(target_os = "linux"))]
fn open_shm(_name: &str) -> Result<(Outgoing, Incoming, Host), OpenError> {
    Err(OpenError::NoShm)
}

fn open_udp(address: &str) -> io::Result<UdpSocket> {
    use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, ToSocketAddrs};
    let host = address
        .to_socket_addrs()?
        .next()
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the host has no address"))?;
    let any: SocketAddr = match host {
        SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any)?;
    // From now on only the runtime's own datagrams are received.
    socket.connect(host)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}
