//! A serial link: frames of packets on a terminal device.

use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};

use firmware_bridge::{encode_frame, max_frame_len, SequenceCounts, StreamCounts, StreamDecoder, CLOCK_REQUEST_LEN};
use rustix::fs::{open, Mode, OFlags};
use rustix::io::Errno;
use rustix::termios::{isatty, tcflush, tcgetattr, tcsetattr, OptionalActions, QueueSelector};

use super::super::host_time::HostClock;
use super::super::wire::collect::Collector;
use super::super::wire::counters::add;
use super::super::wire::device::Taken;
use super::super::wire::tcp::wait_readable;
use super::super::wire::{READ_BYTES, WAIT_NS};
use super::super::EventSink;
use super::packets::Packets;

/// Longest frame that is read.
const FRAME: usize = 1 << 14;
/// Devices that may share the link.
const DEVICES: usize = 8;
/// Between two attempts to open the link, ns.
const BACK_OFF_NS: i64 = 200_000_000;

/// Opens a terminal: raw, eight bits, no flow control, without waiting.
pub(super) fn open_terminal(path: &Path, baud: u32) -> Result<File, Errno> {
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = open(path, flags, Mode::empty())?;
    if isatty(&file) {
        let mut attributes = tcgetattr(&file)?;
        attributes.make_raw();
        attributes.set_speed(baud)?;
        tcsetattr(&file, OptionalActions::Now, &attributes)?;
        // What was written before anybody listened is old.
        tcflush(&file, QueueSelector::IFlush)?;
    }
    Ok(file.into())
}

/// The way to the devices on a serial link. It opens the link again where it has gone, such as a plug that was pulled.
pub struct Serial {
    path: PathBuf,
    baud: u32,
    file: Option<File>,
    next_ns: i64,
    decoder: Box<StreamDecoder<FRAME, DEVICES>>,
    buffer: Box<[u8]>,
}

impl Serial {
    /// A link that is opened by and by.
    pub fn new(path: PathBuf, baud: u32) -> Self {
        Self {
            path,
            baud,
            file: None,
            next_ns: i64::MIN,
            decoder: Box::default(),
            buffer: vec![0; READ_BYTES].into(),
        }
    }

    /// Asks the device for its time where that is due, and opens the link where it is closed.
    pub fn begin_poll(&mut self, packets: &mut Packets, now_ns: i64) {
        if self.file.is_none() && now_ns >= self.next_ns {
            self.next_ns = now_ns + BACK_OFF_NS;
            self.file = open_terminal(&self.path, self.baud).ok();
        }
        let Some(file) = &mut self.file else { return };
        if let Some(request) = packets.request(now_ns) {
            let mut frame = [0; max_frame_len(CLOCK_REQUEST_LEN)];
            if let Ok(length) = encode_frame(&request, &mut frame) {
                // A question that does not fit is one that is not asked.
                let _ = file.write(&frame[..length]);
            }
        }
    }

    /// Takes a piece of what has come.
    pub fn take(
        &mut self,
        packets: &mut Packets,
        clock: HostClock,
        collector: &mut Collector,
        sink: &mut dyn EventSink,
    ) -> Taken {
        let Some(file) = &mut self.file else {
            return Taken::Nothing;
        };
        let read = file.read(&mut self.buffer);
        let now_ns = clock.now_ns();
        match read {
            Ok(bytes) if bytes > 0 => {
                add(&collector.counters().bytes, bytes as u64);
                let before = self.decoder.counts();
                self.decoder.feed(&self.buffer[..bytes], |received| {
                    packets.take(&received.message, now_ns, collector, sink);
                });
                let (counts, counters) = (self.decoder.counts(), collector.counters());
                add(&counters.discarded_bytes, counts.discarded - before.discarded);
                let unread = |counts: StreamCounts| counts.corrupt + counts.refused;
                add(&counters.malformed, unread(counts) - unread(before));
                add(&counters.resyncs, counts.corrupt - before.corrupt);
                let doubled = |(_, counts): (u32, SequenceCounts)| counts.duplicates + counts.stale;
                packets.left_out(self.decoder.devices().map(doubled).sum(), collector);
                Taken::Something
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                packets.silent(now_ns, collector);
                Taken::Nothing
            }
            // The end of a terminal, or an error: the device has been unplugged.
            _ => {
                self.file = None;
                let before = self.decoder.counts();
                self.decoder.rejoin();
                let discarded = self.decoder.counts().discarded - before.discarded;
                add(&collector.counters().discarded_bytes, discarded);
                packets.gone(now_ns, collector);
                Taken::Nothing
            }
        }
    }

    /// Waits for something to come.
    pub fn wait(&self) {
        match &self.file {
            Some(file) => wait_readable(file.as_fd(), WAIT_NS),
            None => std::thread::sleep(std::time::Duration::from_nanos(WAIT_NS as u64)),
        }
    }
}
