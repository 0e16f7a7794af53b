//! Frames on a serial link, and what is read back from one that is cut, damaged or joined in the middle.
//!
//! A frame is a packet in COBS (Cheshire and Baker, "Consistent Overhead Byte Stuffing", IEEE/ACM Trans. Networking 7(2),
//! 1999), which takes all zeros out, and a zero.

use heapless::Vec;

use crate::builder::TooShort;
use crate::message::Message;
use crate::packet::{checked_body, PacketError};
use crate::sequence::{Arrival, SequenceCounts, SequenceTrackers};

/// The most bytes that a packet of `packet_len` bytes takes as a frame.
pub const fn max_frame_len(packet_len: usize) -> usize {
    cobs::max_encoding_length(packet_len) + 1
}

/// Writes `packet` as a frame to the start of `out` and returns the frame's length.
///
/// # Errors
/// [`TooShort`] where `out` is shorter than [`max_frame_len`] says.
pub fn encode_frame(packet: &[u8], out: &mut [u8]) -> Result<usize, TooShort> {
    let needed = max_frame_len(packet.len());
    let Some(out) = out.get_mut(..needed) else {
        return Err(TooShort { needed });
    };
    let length = cobs::encode(packet, out);
    out[length] = 0;
    Ok(length + 1)
}

/// Counts of a [`StreamDecoder`]. `bytes` is the sum of `framed`, `discarded`, `idle` and what waits for its frame's end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct StreamCounts {
    /// Bytes taken in.
    pub bytes: u64,
    /// Bytes of frames that held a packet, with their zeros.
    pub framed: u64,
    /// Bytes of everything else, with the zero that ended it.
    pub discarded: u64,
    /// Zeros that ended nothing.
    pub idle: u64,
    /// Packets read, of all kinds; the duplicate and stale ones among them were not given out.
    pub packets: u64,
    /// Frames that were damaged: no COBS, another magic or checksum, or longer than the decoder's memory.
    pub corrupt: u64,
    /// Frames that were whole, but that this version does not read, or of one device too many.
    pub refused: u64,
}

/// What a [`StreamDecoder`] read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received<'a> {
    /// The packet.
    pub message: Message<'a>,
    /// For a data packet, what its arrival says of those before it.
    pub arrival: Option<Arrival>,
}

/// Reads packets from the bytes of a serial link that up to `DEVICES` devices share. Frames are up to `FRAME` bytes long:
/// [`max_frame_len`] of the longest packet.
///
/// It may join in the middle of a frame: those bytes are discarded, but not counted as a corrupt frame.
#[derive(Clone, Debug, Default)]
pub struct StreamDecoder<const FRAME: usize, const DEVICES: usize> {
    /// The frame so far, without the zero that ends it.
    frame: Vec<u8, FRAME>,
    /// Bytes since the last zero; more than are in `frame` where it is too long.
    pending: u64,
    joined: bool,
    last_refusal: Option<PacketError>,
    counts: StreamCounts,
    sequences: SequenceTrackers<DEVICES>,
}

/// What a frame was.
enum Frame<'a> {
    Packet(Message<'a>),
    Corrupt,
    Refused(PacketError),
}

impl<const FRAME: usize, const DEVICES: usize> StreamDecoder<FRAME, DEVICES> {
    /// Takes bytes in, in pieces of any size, and hands out each packet that they complete. Duplicate and stale data
    /// packets are counted and not handed out.
    pub fn feed(&mut self, mut bytes: &[u8], mut received: impl FnMut(Received<'_>)) {
        self.counts.bytes += bytes.len() as u64;
        while let Some(end) = bytes.iter().position(|&byte| byte == 0) {
            self.append(&bytes[..end]);
            self.end_frame(&mut received);
            bytes = &bytes[end + 1..];
        }
        self.append(bytes);
    }

    /// The link has broken off and will begin anew, perhaps in the middle of a frame. What is known of the devices' packets stays,
    /// so that none is handed out twice.
    pub fn rejoin(&mut self) {
        self.counts.discarded += self.pending;
        self.frame.clear();
        (self.pending, self.joined) = (0, false);
    }

    fn append(&mut self, bytes: &[u8]) {
        self.pending += bytes.len() as u64;
        if self.pending <= FRAME as u64 {
            // It fits: `frame` holds all that is pending.
            let _ = self.frame.extend_from_slice(bytes);
        }
    }

    fn end_frame(&mut self, received: &mut impl FnMut(Received<'_>)) {
        let Self {
            frame,
            pending,
            joined,
            last_refusal,
            counts,
            sequences,
        } = self;
        let length = *pending + 1;
        let middle = !*joined;
        *joined = true;
        if *pending == 0 {
            counts.idle += 1;
            return;
        }
        let read = if *pending > FRAME as u64 {
            Frame::Corrupt
        } else {
            read_frame(frame)
        };
        let read = match read {
            Frame::Packet(Message::Data(packet)) => match sequences.observe(packet.header()) {
                Some(arrival) => Ok((Message::Data(packet), Some(arrival))),
                None => Err(Some(PacketError::Device(packet.header().device_id))),
            },
            Frame::Packet(message) => Ok((message, None)),
            Frame::Refused(error) => Err(Some(error)),
            Frame::Corrupt => Err(None),
        };
        match read {
            Ok((message, arrival)) => {
                counts.packets += 1;
                counts.framed += length;
                if arrival.is_none_or(Arrival::is_new) {
                    received(Received { message, arrival });
                }
            }
            Err(refusal) => {
                counts.discarded += length;
                counts.refused += u64::from(refusal.is_some());
                counts.corrupt += u64::from(refusal.is_none() && !middle);
                *last_refusal = refusal.or(*last_refusal);
            }
        }
        frame.clear();
        *pending = 0;
    }

    /// What has come so far.
    pub fn counts(&self) -> StreamCounts {
        self.counts
    }

    /// Gaps, duplicates and restarts of each device seen.
    pub fn devices(&self) -> impl Iterator<Item = (u32, SequenceCounts)> + '_ {
        self.sequences.counts()
    }

    /// Why the latest of [`StreamCounts::refused`] was refused.
    pub fn last_refusal(&self) -> Option<PacketError> {
        self.last_refusal
    }
}

fn read_frame(frame: &mut [u8]) -> Frame<'_> {
    let Ok(length) = cobs::decode_in_place(frame) else {
        return Frame::Corrupt;
    };
    let packet = &frame[..length];
    match Message::decode(packet) {
        Ok(message) => Frame::Packet(message),
        // Version 1 had no checksum.
        Err(error @ PacketError::Version(1)) => Frame::Refused(error),
        Err(PacketError::Magic(_)) => Frame::Corrupt,
        Err(error) if checked_body(packet).is_ok() => Frame::Refused(error),
        Err(_) => Frame::Corrupt,
    }
}
