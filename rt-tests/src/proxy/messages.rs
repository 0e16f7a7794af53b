//! A proxy of a ZeroMQ publisher's messages.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use zmq::{Context, Socket, SocketType, DONTWAIT};

use super::pieces::{Disorder, Piece, PieceFaults, PieceLedger, Reader};

/// Longest wait for a message, ms; what is held is looked at then.
const IDLE_MS: i32 = 1;
/// After a stop, so long without a message is the end.
const QUIET: Duration = Duration::from_millis(200);
/// Between the first and the last subscription of a subscriber.
const SUBSCRIPTIONS: Duration = Duration::from_millis(50);

/// A proxy between a publisher and one subscriber.
pub struct MessageProxy {
    endpoint: String,
    stop: Arc<AtomicBool>,
    thread: JoinHandle<(PieceLedger, Socket)>,
}

fn socket(context: &Context, kind: SocketType) -> Socket {
    let socket = context.socket(kind).expect("ZeroMQ has a socket");
    // Any number of messages: what is lost here would be in no ledger.
    for set in [Socket::set_sndhwm, Socket::set_rcvhwm] {
        set(&socket, 0).expect("a high-water mark is set");
    }
    socket
}

impl MessageProxy {
    /// A proxy to the publisher at `from`, which is subscribed to when a subscriber has come.
    ///
    /// # Panics
    /// Where ZeroMQ or loopback cannot be used.
    pub fn start(from: &str, faults: PieceFaults, read: Reader) -> Self {
        let context = Context::new();
        let back = socket(&context, SocketType::XPUB);
        back.bind("tcp://127.0.0.1:*").expect("loopback can be bound");
        let endpoint = back.get_last_endpoint().expect("it is bound").expect("it is text");
        let stop = Arc::<AtomicBool>::default();
        let (stopped, from) = (stop.clone(), from.to_owned());
        let thread = std::thread::spawn(move || {
            back.set_rcvtimeo(IDLE_MS).expect("a timeout is set");
            while back.recv_bytes(0).is_err() && !stopped.load(Relaxed) {}
            std::thread::sleep(SUBSCRIPTIONS);
            while back.recv_bytes(DONTWAIT).is_ok() {}
            let front = socket(&context, SocketType::SUB);
            front.set_rcvtimeo(IDLE_MS).expect("a timeout is set");
            front.set_subscribe(b"").expect("everything is subscribed to");
            front.connect(&from).expect("the publisher has an endpoint");
            let mut disorder = Disorder::new(faults, read);
            let mut send = |piece: &Piece| back.send_multipart(piece, 0).expect("a publisher never waits");
            let mut last = Instant::now();
            while !stopped.load(Relaxed) || last.elapsed() < QUIET {
                let now = Instant::now();
                match front.recv_multipart(0) {
                    Ok(piece) => {
                        last = now;
                        disorder.take(piece, now, &mut send);
                    }
                    Err(_) => disorder.release(now, &mut send),
                }
            }
            (disorder.finish(&mut send), back)
        });
        Self { endpoint, stop, thread }
    }

    /// Where the subscriber connects.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// Hands on what has come and what is held, and says what was done; the socket is to live until the subscriber has
    /// read it all.
    ///
    /// # Panics
    /// Where the proxy did.
    pub fn finish(self) -> (PieceLedger, Socket) {
        self.stop.store(true, Relaxed);
        self.thread.join().expect("the proxy does not panic")
    }
}
