//! A proxy of datagrams.

use std::net::{SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::net::sockopt::{set_socket_recv_buffer_size, set_socket_recv_buffer_size_force};

use super::pieces::{Disorder, Piece, PieceFaults, PieceLedger, Reader};

/// Longest wait for a datagram; what is held is looked at then.
const IDLE: Duration = Duration::from_millis(1);
/// Bytes that the system is asked to hold for the proxy: what it loses here would be in no ledger.
const RECEIVE_BUFFER: usize = 16 << 20;

/// A proxy between a device that sends datagrams and the source that they are for.
pub struct UdpProxy {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<PieceLedger>,
}

impl UdpProxy {
    /// A proxy to the source at `to`.
    ///
    /// # Panics
    /// Where loopback cannot be used.
    pub fn start(to: SocketAddr, faults: PieceFaults, read: Reader) -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("loopback can be bound");
        socket.set_read_timeout(Some(IDLE)).expect("a socket has a timeout");
        if set_socket_recv_buffer_size_force(&socket, RECEIVE_BUFFER).is_err() {
            let _ = set_socket_recv_buffer_size(&socket, RECEIVE_BUFFER);
        }
        let (address, stop) = (socket.local_addr().expect("it is bound"), Arc::<AtomicBool>::default());
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            let mut disorder = Disorder::new(faults, read);
            let mut send = |piece: &Piece| {
                let sent = socket.send_to(&piece[0], to);
                assert_eq!(sent.ok(), Some(piece[0].len()), "loopback takes every datagram");
            };
            let mut buffer = vec![0; 1 << 16];
            loop {
                match socket.recv(&mut buffer) {
                    Ok(bytes) => disorder.take(vec![buffer[..bytes].to_vec()], Instant::now(), &mut send),
                    // Everything that was sent before the stop lies in the buffer by then.
                    Err(_) if stopped.load(Relaxed) => return disorder.finish(&mut send),
                    Err(_) => disorder.release(Instant::now(), &mut send),
                }
            }
        });
        Self { address, stop, thread }
    }

    /// Where the device sends to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Hands on what has come and what is held, and says what was done.
    ///
    /// # Panics
    /// Where the proxy did.
    pub fn finish(self) -> PieceLedger {
        self.stop.store(true, Relaxed);
        self.thread.join().expect("the proxy does not panic")
    }
}
