//! A client's TCP connection that comes back by itself: nothing here waits, but for data where that is asked for.

use std::io::{ErrorKind, Read};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::{poll, PollFd, PollFlags, Timespec};
use rustix::io::Errno;
use rustix::net::{connect, ipproto, socket, sockopt, AddressFamily, SocketType};

/// From a lost connection or a refused one to the next attempt, ns: doubles up to the longest.
const FIRST_BACK_OFF_NS: i64 = 50_000_000;
const LONGEST_BACK_OFF_NS: i64 = 400_000_000;
/// An attempt that nobody answers is given up after this, ns.
const CONNECT_PATIENCE_NS: i64 = 2_000_000_000;
/// A silent connection is asked whether it is still there after this, and as often again; then it is lost.
const KEEP_ALIVE: Duration = Duration::from_secs(1);
const KEEP_ALIVE_PROBES: u32 = 3;

#[derive(Debug)]
enum State {
    Away { next_ns: i64 },
    Connecting { socket: OwnedFd, until_ns: i64 },
    Connected(TcpStream),
}

/// What [`TcpLink::read`] came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Got {
    /// The connection has just been made.
    Connected,
    /// So many bytes.
    Bytes(usize),
    /// Nothing for now.
    Nothing,
    /// The connection has just been lost.
    Lost,
}

/// A connection to one address.
#[derive(Debug)]
pub struct TcpLink {
    address: SocketAddr,
    state: State,
    back_off_ns: i64,
}

/// Waits until there is something to read, for `most_ns` at the longest.
pub(crate) fn wait_readable(fd: BorrowedFd<'_>, most_ns: i64) {
    let timeout = Timespec {
        tv_sec: 0,
        tv_nsec: most_ns.clamp(0, 999_999_999),
    };
    // A signal that ends the wait early does no harm: the caller looks again.
    let _ = poll(&mut [PollFd::from_borrowed_fd(fd, PollFlags::IN)], Some(&timeout));
}

impl TcpLink {
    /// A link that is not connected yet.
    pub fn new(address: SocketAddr) -> Self {
        Self {
            address,
            state: State::Away { next_ns: i64::MIN },
            back_off_ns: FIRST_BACK_OFF_NS,
        }
    }

    /// Whether there is a connection.
    pub fn is_connected(&self) -> bool {
        matches!(self.state, State::Connected(_))
    }

    /// Reads what there is, or goes on with connecting. Never waits.
    pub fn read(&mut self, now_ns: i64, into: &mut [u8]) -> Got {
        match &mut self.state {
            State::Connected(stream) => match stream.read(into) {
                Ok(bytes) if bytes > 0 => Got::Bytes(bytes),
                Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => Got::Nothing,
                _ => {
                    self.away(now_ns);
                    Got::Lost
                }
            },
            State::Away { next_ns } if now_ns < *next_ns => Got::Nothing,
            State::Away { .. } => {
                match self.begin() {
                    Ok(socket) => {
                        self.state = State::Connecting {
                            socket,
                            until_ns: now_ns.saturating_add(CONNECT_PATIENCE_NS),
                        }
                    }
                    Err(_) => self.away(now_ns),
                }
                Got::Nothing
            }
            State::Connecting { .. } => self.go_on_connecting(now_ns),
        }
    }

    fn begin(&self) -> Result<OwnedFd, Errno> {
        let family = match self.address {
            SocketAddr::V4(_) => AddressFamily::INET,
            SocketAddr::V6(_) => AddressFamily::INET6,
        };
        let socket = socket(family, SocketType::STREAM, Some(ipproto::TCP))?;
        rustix::io::ioctl_fionbio(&socket, true)?;
        // A machine that vanishes sends no end: its silence must not look like that of the units.
        sockopt::set_socket_keepalive(&socket, true)?;
        sockopt::set_tcp_keepidle(&socket, KEEP_ALIVE)?;
        sockopt::set_tcp_keepintvl(&socket, KEEP_ALIVE)?;
        sockopt::set_tcp_keepcnt(&socket, KEEP_ALIVE_PROBES)?;
        match connect(&socket, &self.address) {
            Ok(()) | Err(Errno::INPROGRESS) => Ok(socket),
            Err(error) => Err(error),
        }
    }

    fn go_on_connecting(&mut self, now_ns: i64) -> Got {
        let now = State::Away { next_ns: now_ns };
        let State::Connecting { socket, until_ns } = std::mem::replace(&mut self.state, now) else {
            return Got::Nothing;
        };
        let ready = {
            let mut fds = [PollFd::new(&socket, PollFlags::OUT)];
            let none = Timespec { tv_sec: 0, tv_nsec: 0 };
            matches!(poll(&mut fds, Some(&none)), Ok(ready) if ready > 0)
        };
        match sockopt::socket_error(&socket) {
            Ok(Ok(())) if ready => {
                let stream = TcpStream::from(socket);
                // On loopback, a port that nobody listens on can be connected to itself by chance.
                if stream.local_addr().ok() == Some(self.address) {
                    self.away(now_ns);
                    return Got::Nothing;
                }
                self.back_off_ns = FIRST_BACK_OFF_NS;
                self.state = State::Connected(stream);
                Got::Connected
            }
            Ok(Ok(())) if now_ns < until_ns => {
                self.state = State::Connecting { socket, until_ns };
                Got::Nothing
            }
            _ => {
                self.away(now_ns);
                Got::Nothing
            }
        }
    }

    fn away(&mut self, now_ns: i64) {
        self.state = State::Away {
            next_ns: now_ns.saturating_add(self.back_off_ns),
        };
        self.back_off_ns = (2 * self.back_off_ns).min(LONGEST_BACK_OFF_NS);
    }

    /// Waits for data, for `most_ns` at the longest; without a connection, just so long.
    pub fn wait(&self, most_ns: i64) {
        match &self.state {
            State::Connected(stream) => wait_readable(stream.as_fd(), most_ns),
            _ => std::thread::sleep(Duration::from_nanos(most_ns.max(0) as u64)),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::net::TcpListener;
    use std::time::Instant;

    use super::*;

    #[test]
    fn a_link_comes_back_when_the_other_side_does() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let begin = Instant::now();
        let mut link = TcpLink::new(address);
        let mut buffer = [0; 16];
        let mut until = |link: &mut TcpLink, wanted: Got| loop {
            let got = link.read(begin.elapsed().as_nanos() as i64, &mut buffer);
            if got == wanted {
                return;
            }
            assert!(got == Got::Nothing && begin.elapsed().as_secs() < 20, "{got:?}");
            link.wait(1_000_000);
        };
        until(&mut link, Got::Connected);
        let mut peer = listener.accept().unwrap().0;
        peer.write_all(b"abc").unwrap();
        until(&mut link, Got::Bytes(3));
        drop((peer, listener));
        until(&mut link, Got::Lost);
        assert!(!link.is_connected());
        // A port in TIME_WAIT may be bound again by a listener with SO_REUSEADDR, which this one sets.
        let _listener = TcpListener::bind(address).unwrap();
        until(&mut link, Got::Connected);
    }
}
