//! A proxy of a TCP connection.

use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::stream::{Damage, Put, StreamFaults, StreamLedger};

/// Longest wait for bytes; what is collected is written then.
const IDLE: Duration = Duration::from_millis(5);

/// How bytes are written to the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Writes {
    /// As they come.
    AsTheyCome,
    /// One by one.
    EveryByte,
    /// In pieces of 1 to `most` bytes.
    Random {
        /// Most bytes of a piece.
        most: usize,
    },
    /// Collected until there are so many, or no more come.
    Coalesced {
        /// Least bytes of a piece.
        least: usize,
    },
    /// As they come, with stops in which nothing moves.
    Stalled {
        /// Longest stop.
        most: Duration,
    },
}

/// What becomes of the connection to the device when the one to the client is cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upstream {
    /// It stays, and what comes meanwhile is lost and counted.
    Kept,
    /// It is cut too, and made anew for the next client.
    Anew,
}

/// A proxy of one client's connection to a device; the faults meet what the device sends.
pub struct TcpProxy {
    address: SocketAddr,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<StreamLedger>,
}

struct Pump {
    listener: TcpListener,
    to: SocketAddr,
    writes: Writes,
    upstream_is: Upstream,
    stop: Arc<AtomicBool>,
    random: ChaCha8Rng,
    damage: Damage,
    client: Option<TcpStream>,
    upstream: Option<TcpStream>,
    collected: Vec<u8>,
}

impl TcpProxy {
    /// A proxy to the device at `to`, which is connected to when a client has connected.
    ///
    /// # Panics
    /// Where loopback cannot be listened on.
    pub fn start(to: SocketAddr, writes: Writes, upstream: Upstream, faults: StreamFaults) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback can be listened on");
        listener.set_nonblocking(true).expect("a socket may not block");
        let (address, stop) = (
            listener.local_addr().expect("it is bound"),
            Arc::<AtomicBool>::default(),
        );
        let pump = Pump {
            listener,
            to,
            writes,
            upstream_is: upstream,
            stop: stop.clone(),
            random: ChaCha8Rng::seed_from_u64(faults.seed ^ 1),
            damage: Damage::new(faults),
            client: None,
            upstream: None,
            collected: Vec::new(),
        };
        let thread = std::thread::spawn(move || pump.run());
        Self { address, stop, thread }
    }

    /// Where clients connect.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Waits until the device has ended its kept connection and everything is written, and says what was done.
    ///
    /// # Panics
    /// Where the proxy did.
    pub fn join(self) -> StreamLedger {
        self.thread.join().expect("the proxy does not panic")
    }

    /// Ends both connections.
    ///
    /// # Panics
    /// Where the proxy did.
    pub fn stop(self) -> StreamLedger {
        self.stop.store(true, Relaxed);
        self.join()
    }
}

impl Pump {
    fn run(mut self) -> StreamLedger {
        let mut buffer = vec![0; 1 << 16];
        while !self.stop.load(Relaxed) {
            self.look_for_client();
            let Some(upstream) = &mut self.upstream else {
                std::thread::sleep(Duration::from_millis(1));
                continue;
            };
            let mut cut = false;
            let read = upstream.read(&mut buffer);
            let idle = !matches!(read, Ok(1..));
            let ended = match read {
                Ok(bytes) => {
                    self.damage.take(&buffer[..bytes], |put| match put {
                        Put::Bytes(bytes) => self.collected.extend_from_slice(bytes),
                        Put::Cut => cut = true,
                    });
                    bytes == 0
                }
                Err(error) => !matches!(
                    error.kind(),
                    ErrorKind::WouldBlock | ErrorKind::TimedOut | ErrorKind::Interrupted
                ),
            };
            self.write(idle || cut);
            if ended && self.upstream_is == Upstream::Kept {
                break;
            }
            if cut || ended {
                self.cut();
            }
        }
        let Self {
            listener,
            client,
            upstream,
            damage,
            ..
        } = self;
        // First: a client that sees the end connects again at once, and is to be refused.
        drop(listener);
        for socket in client.into_iter().chain(upstream) {
            let _ = socket.shutdown(Shutdown::Both);
        }
        damage.ledger
    }

    fn look_for_client(&mut self) {
        if self.client.is_some() {
            return;
        }
        let Ok((client, _)) = self.listener.accept() else {
            return;
        };
        if self.upstream.is_none() {
            self.upstream = TcpStream::connect(self.to).ok();
        }
        let Some(upstream) = &self.upstream else { return };
        let ready = client
            .set_nonblocking(false)
            .and_then(|()| client.set_nodelay(true))
            .and_then(|()| upstream.set_nodelay(true))
            .and_then(|()| upstream.set_read_timeout(Some(IDLE)))
            .and_then(|()| Ok((client.try_clone()?, upstream.try_clone()?)));
        let Ok((from, to)) = ready else { return };
        let one_by_one = self.writes == Writes::EveryByte;
        // Ends with the client's connection.
        std::thread::spawn(move || carry_back(from, to, one_by_one));
        self.client = Some(client);
        self.damage.connected();
    }

    /// Writes what is collected, as the plan says; a client that has gone takes no more.
    fn write(&mut self, all: bool) {
        let bytes = std::mem::take(&mut self.collected);
        let waits = matches!(self.writes, Writes::Coalesced { least } if bytes.len() < least);
        if bytes.is_empty() || (waits && !all) {
            self.collected = bytes;
            return;
        }
        let mut rest = &bytes[..];
        while let (Some(client), false) = (&mut self.client, rest.is_empty()) {
            let length = match self.writes {
                Writes::EveryByte => 1,
                Writes::Random { most } => self.random.random_range(1..=most.max(1)),
                _ => rest.len(),
            };
            let (now, later) = rest.split_at(length.min(rest.len()));
            if client.write_all(now).is_err() {
                self.client = None;
            }
            self.damage.ledger.writes += 1;
            rest = later;
        }
        if let Writes::Stalled { most } = self.writes {
            std::thread::sleep(most.mul_f64(self.random.random::<f64>()));
        }
    }

    fn cut(&mut self) {
        // The thread that carries back holds the same sockets: dropping them here would not end the connections.
        if let Some(client) = self.client.take() {
            let _ = client.shutdown(Shutdown::Both);
        }
        if self.upstream_is == Upstream::Anew {
            if let Some(upstream) = self.upstream.take() {
                let _ = upstream.shutdown(Shutdown::Both);
            }
        }
    }
}

/// Carries what the client says to the device.
fn carry_back(mut from: TcpStream, mut to: TcpStream, one_by_one: bool) {
    let mut buffer = [0; 4096];
    while let Ok(bytes @ 1..) = from.read(&mut buffer) {
        let length = if one_by_one { 1 } else { bytes };
        if buffer[..bytes].chunks(length).any(|piece| to.write_all(piece).is_err()) {
            return;
        }
    }
}
