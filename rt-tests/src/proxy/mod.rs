//! Userspace proxies on loopback between an emulated device and its source: they damage what passes, by a plan and a seed,
//! and keep a ledger of what they did to what.
//!
//! | | carries | faults |
//! |---|---|---|
//! | [`TcpProxy`] | a stream of bytes, ZeroMQ's too | [`StreamFaults`]: segmentation, stalls, cuts, changed and foreign bytes |
//! | [`UdpProxy`] | datagrams | [`PieceFaults`]: loss, duplicates, delay, order, truncation, changed and foreign pieces |
//! | [`MessageProxy`] | messages of a ZeroMQ publisher | the same |
//!
//! A proxy knows no format. Of pieces, a [`Reader`] that the test passes says what is in them, so that the ledger counts events;
//! a stream's ledger holds positions of bytes, which records of a fixed length turn into events.

mod messages;
mod pieces;
mod stream;
mod tcp;
mod udp;

pub use messages::MessageProxy;
pub use pieces::{Content, Disorder, Piece, PieceFaults, PieceLedger, Reader, Tally};
pub use stream::{Damage, Put, StreamFaults, StreamLedger};
pub use tcp::{TcpProxy, Upstream, Writes};
pub use udp::UdpProxy;
