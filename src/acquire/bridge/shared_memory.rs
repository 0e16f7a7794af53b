//! A link in shared memory: a ring of packets from a program on this machine, and one of predictions back to it.

use std::time::Duration;

use firmware_bridge_shm::{Link, Peer, PopError, Reader, Role, SharedRing, Sizes, Writer};

use super::super::host_time::HostClock;
use super::super::wire::collect::Collector;
use super::super::wire::counters::add;
use super::super::wire::device::Taken;
use super::super::wire::READ_BYTES;
use super::super::{EventSink, SourceError, WayBack};
use super::packets::Packets;

/// Between two looks at whether the other program lives, which are system calls, ns.
const LOOK_NS: i64 = 20_000_000;
/// Sleep where the ring is empty: nobody wakes a reader of memory.
const EMPTY_WAIT: Duration = Duration::from_micros(100);

/// The host's end of a link.
pub struct SharedMemory {
    reader: Reader<SharedRing>,
    writer: Option<Writer<SharedRing>>,
    peer: Peer,
    looked_ns: i64,
    /// Times that the other end had been opened when its last packet came.
    opened: u64,
    buffer: Box<[u8]>,
}

struct Predictions(Writer<SharedRing>);

impl WayBack for Predictions {
    fn send(&mut self, header: &[u8], array: &[u8]) -> bool {
        self.0.push(&[header, array]).is_ok()
    }
}

impl SharedMemory {
    /// Opens the host's end of the link `name`; `source` stands for it in errors.
    ///
    /// # Errors
    /// A name that is none, another runtime at this end, memory that cannot be used.
    pub fn open(source: &str, name: &str) -> Result<Self, SourceError> {
        let link = Link::open(name, Role::Host, Sizes::default()).map_err(|error| SourceError::Invalid {
            name: source.to_string(),
            problem: error.to_string(),
        })?;
        Ok(Self {
            reader: link.reader,
            writer: Some(link.writer),
            peer: link.peer,
            looked_ns: i64::MIN,
            opened: 0,
            buffer: vec![0; READ_BYTES].into(),
        })
    }

    /// The way back, once.
    pub fn way_back(&mut self) -> Option<Box<dyn WayBack>> {
        let writer = self.writer.take()?;
        Some(Box::new(Predictions(writer)))
    }

    /// Looks now and then whether the other program lives.
    pub fn begin_poll(&mut self, packets: &mut Packets, now_ns: i64, collector: &mut Collector) {
        if now_ns < self.looked_ns.saturating_add(LOOK_NS) {
            return;
        }
        self.looked_ns = now_ns;
        if !self.peer.is_alive() {
            packets.gone(now_ns, collector);
        }
    }

    /// Takes a packet.
    pub fn take(
        &mut self,
        packets: &mut Packets,
        clock: HostClock,
        collector: &mut Collector,
        sink: &mut dyn EventSink,
    ) -> Taken {
        let popped = self.reader.pop(&mut self.buffer);
        let now_ns = clock.now_ns();
        match popped {
            Ok(Some(length)) => {
                let opened = self.peer.opened();
                if opened != std::mem::replace(&mut self.opened, opened) {
                    // It has died and come back between two looks.
                    packets.gone(now_ns, collector);
                }
                packets.take_bytes(&self.buffer[..length], now_ns, collector, sink);
            }
            Ok(None) => {
                packets.silent(now_ns, collector);
                return Taken::Nothing;
            }
            Err(error) => {
                add(&collector.counters().malformed, 1);
                if let PopError::TooLong { length } = error {
                    add(&collector.counters().discarded_bytes, length as u64);
                }
            }
        }
        Taken::Something
    }

    /// Waits a moment.
    pub fn wait(&self) {
        std::thread::sleep(EMPTY_WAIT);
    }
}
