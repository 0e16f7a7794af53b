//! A subscriber of a run's predictions.

use std::thread::JoinHandle;

use neurohorizon::pipeline::message::{MessageHeader, HEADER_LEN};

/// How long a prediction may take to come, ms.
const PATIENCE_MS: i32 = 180_000;

/// Header and array `[T, N]` of every prediction.
pub type Received = Vec<(MessageHeader, Vec<f32>)>;

/// A free port of this machine: bound, looked at, and let go.
///
/// # Panics
/// Where there is none.
pub fn free_endpoint() -> String {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    format!("tcp://{}", listener.local_addr().expect("its address"))
}

/// Takes every prediction until that of the bin `last_bin`.
///
/// # Panics
/// The thread, where a message is no prediction or does not come.
pub fn subscribe(endpoint: &str, last_bin: i64) -> JoinHandle<Received> {
    let socket = zmq::Context::new().socket(zmq::SUB).expect("a socket");
    socket.set_rcvtimeo(PATIENCE_MS).expect("an option");
    socket.connect(endpoint).expect("an endpoint");
    socket.set_subscribe(b"prediction").expect("an option");
    std::thread::spawn(move || {
        let mut received = Received::new();
        while received.last().is_none_or(|(header, _)| header.bin_index < last_bin) {
            let parts = socket.recv_multipart(0).expect("a prediction");
            assert_eq!((parts.len(), parts[1].len()), (3, HEADER_LEN));
            let header = MessageHeader::read(&parts[1]).expect("a header");
            let numbers = parts[2]
                .chunks_exact(4)
                .map(|four| [four[0], four[1], four[2], four[3]]);
            received.push((header, numbers.map(f32::from_le_bytes).collect()));
        }
        received
    })
}
