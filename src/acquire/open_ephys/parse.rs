//! Parser of messages, whole as ZeroMQ delivers them; their form is told by their frames.
//!
//! | form | frames |
//! |---|---|
//! | Event Broadcaster | u16, 0 TTL or 1 spike; JSON or the raw body |
//! | the same until 2022, raw | u16, 1 event or 2 spike; f64 seconds; the raw body |
//! | the same until 2022, JSON | `spike/sortedid:1/id:…/ts:…`; JSON |
//! | ZMQ Interface | `DATA` or `EVENT` and a zero byte; JSON; samples |
//!
//! The raw body of a spike, little-endian (26 bytes, then thresholds and waveform, f32):
//!
//! | offset | type | field |
//! |---|---|---|
//! | 0 | u8 | 2, a spike |
//! | 1 | u8 | electrode: 1 single, 2 stereotrode, 3 tetrode, 4 template |
//! | 2 | u16 | source node |
//! | 4 | u16 | stream |
//! | 6 | u16 | electrode's index |
//! | 8 | i64 | sample number of the peak |
//! | 16 | f64 | time, s |
//! | 24 | u16 | sorted unit, 0 not sorted |

use firmware_bridge::SequenceTracker;

use super::json::{Event, Header, LegacySpike, Text};

/// Longest frame that is read, bytes: three times the waveforms of 64 channels with 80 samples each. A longer one would keep the
/// source's thread from others for as long as it is read.
pub const LONGEST: usize = 1 << 16;
/// Length of a raw spike's fixed part.
const RAW: usize = 26;

/// Which plugin in which of its forms.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// Event Broadcaster, JSON.
    Json,
    /// Event Broadcaster, raw.
    Raw,
    /// Event Broadcaster until 2022, JSON.
    LegacyJson,
    /// Event Broadcaster until 2022, raw.
    LegacyRaw,
    /// ZMQ Interface.
    ZmqInterface,
}

/// What an electrode or stream is called.
#[derive(Clone, Debug, PartialEq)]
pub enum Name<'a> {
    /// By its name.
    Text(Text<'a>),
    /// By its number.
    Number(u16),
    /// Not at all.
    None,
}

/// A spike.
#[derive(Clone, Debug, PartialEq)]
pub struct OpenEphysSpike<'a> {
    /// Form of its message.
    pub form: Form,
    /// Its stream.
    pub stream: Name<'a>,
    /// Its electrode: a name in JSON, an index in raw messages.
    pub electrode: Name<'a>,
    /// Sample number.
    pub sample: i64,
    /// Samples a second, where the message says so.
    pub sample_rate_hz: Option<f64>,
    /// Sorted unit, 0 not sorted.
    pub unit: u16,
}

/// What became of messages: `messages` is the sum of `spikes`, `other`, `malformed` and `duplicates`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct MessageCounts {
    /// Messages taken.
    pub messages: u64,
    /// Spikes.
    pub spikes: u64,
    /// Events and continuous data.
    pub other: u64,
    /// Of no known form, broken, or too long.
    pub malformed: u64,
    /// Bytes in those.
    pub discarded: u64,
    /// Numbers of the ZMQ Interface's messages that are missing.
    pub lost: u64,
    /// Messages of the ZMQ Interface whose number has been there before.
    pub duplicates: u64,
}

enum Read<'a> {
    Spike(OpenEphysSpike<'a>),
    Other,
    Duplicate,
}

/// A parser of messages. Messages without JSON take no allocation; those with JSON only where names hold escaped characters.
#[derive(Clone, Debug)]
pub struct MessageParser {
    numbered: bool,
    numbers: SequenceTracker,
    /// The plugin's start that the numbers are of.
    start: Start,
    counts: MessageCounts,
}

/// A plugin has no boot number: where its numbers begin anew after a new connection, it has started again.
#[derive(Clone, Copy, Debug, Default)]
struct Start {
    reconnected: bool,
    newest: Option<u64>,
    /// Missing and duplicate numbers of the starts before.
    lost: u64,
    duplicates: u64,
}

impl MessageParser {
    /// A parser. `numbered`: it is given every message of a ZMQ Interface, so that gaps in their numbers are losses.
    pub fn new(numbered: bool) -> Self {
        Self {
            numbered,
            numbers: SequenceTracker::default(),
            start: Start::default(),
            counts: MessageCounts::default(),
        }
    }

    /// What became of the messages so far.
    pub fn counts(&self) -> MessageCounts {
        self.counts
    }

    /// The connection is new: the plugin may have been started anew.
    pub fn reconnected(&mut self) {
        self.start.reconnected = true;
    }

    /// Takes note of a message's number; false where it has been there before.
    fn is_new(&mut self, number: u64) -> bool {
        let start = &mut self.start;
        if std::mem::take(&mut start.reconnected) && start.newest.is_some_and(|newest| number <= newest) {
            self.numbers = SequenceTracker::default();
            *start = Start {
                lost: self.counts.lost,
                duplicates: self.counts.duplicates,
                ..Start::default()
            };
        }
        start.newest = start.newest.max(Some(number));
        let arrival = self.numbers.observe(0, number, 0);
        let counts = self.numbers.counts();
        self.counts.lost = start.lost.saturating_add(counts.missing);
        self.counts.duplicates = start.duplicates + counts.duplicates + counts.stale;
        arrival.is_new()
    }

    /// Takes a message and returns the spike that it is, if it is one.
    pub fn push<'a>(&mut self, frames: &[&'a [u8]]) -> Option<OpenEphysSpike<'a>> {
        self.counts.messages += 1;
        let fits = frames.iter().all(|frame| frame.len() <= LONGEST);
        let read = if fits { self.read(frames) } else { None };
        match read {
            Some(Read::Spike(spike)) => {
                self.counts.spikes += 1;
                Some(spike)
            }
            Some(Read::Other) => {
                self.counts.other += 1;
                None
            }
            Some(Read::Duplicate) => None,
            None => {
                self.counts.malformed += 1;
                self.counts.discarded += frames.iter().map(|frame| frame.len() as u64).sum::<u64>();
                None
            }
        }
    }

    fn read<'a>(&mut self, frames: &[&'a [u8]]) -> Option<Read<'a>> {
        match *frames {
            [&[low, high], body] => match (u16::from_le_bytes([low, high]), body.first()?) {
                (0, _) => Some(Read::Other),
                (1, b'{') => json(body),
                (1, _) => raw(Form::Raw, body),
                _ => None,
            },
            [&[low, high], time, body] if time.len() == 8 => match u16::from_le_bytes([low, high]) {
                1 => Some(Read::Other),
                2 => raw(Form::LegacyRaw, body),
                _ => None,
            },
            [envelope, body] if envelope.starts_with(b"spike/") => legacy_json(body),
            [envelope, _] if envelope.is_ascii() && envelope.contains(&b'/') => Some(Read::Other),
            [b"DATA\0" | b"EVENT\0" | b"DATA" | b"EVENT", header, _] => self.zmq_interface(header),
            _ => None,
        }
    }

    fn zmq_interface<'a>(&mut self, header: &'a [u8]) -> Option<Read<'a>> {
        let header: Header<'a> = serde_json::from_slice(header).ok()?;
        if let (true, Some(number)) = (self.numbered, header.message_num) {
            if !self.is_new(number) {
                return Some(Read::Duplicate);
            }
        }
        if header.kind != "spike" {
            return Some(Read::Other);
        }
        let spike = header.spike?;
        Some(Read::Spike(OpenEphysSpike {
            form: Form::ZmqInterface,
            stream: Name::Text(spike.stream),
            electrode: Name::Text(spike.electrode),
            sample: spike.sample_num,
            sample_rate_hz: None,
            unit: spike.sorted_id,
        }))
    }
}

fn rate(hz: f64) -> Option<f64> {
    (hz.is_finite() && (1.0..=1e6).contains(&hz)).then_some(hz)
}

fn json(body: &[u8]) -> Option<Read<'_>> {
    let event: Event<'_> = serde_json::from_slice(body).ok()?;
    if event.event_type != "spike" {
        return None;
    }
    Some(Read::Spike(OpenEphysSpike {
        form: Form::Json,
        stream: Name::Text(event.stream),
        electrode: Name::Text(event.electrode),
        sample: event.sample_number,
        sample_rate_hz: Some(rate(event.sample_rate)?),
        unit: event.sorted_id,
    }))
}

fn legacy_json(body: &[u8]) -> Option<Read<'_>> {
    let spike: LegacySpike<'_> = serde_json::from_slice(body).ok()?;
    Some(Read::Spike(OpenEphysSpike {
        form: Form::LegacyJson,
        stream: Name::None,
        electrode: Name::Text(spike.name),
        sample: spike.timing.timestamp,
        sample_rate_hz: Some(rate(spike.timing.sample_rate)?),
        unit: spike.sorted_id,
    }))
}

fn raw(form: Form, body: &[u8]) -> Option<Read<'_>> {
    let (fixed, values) = body.split_first_chunk::<RAW>()?;
    let [2, electrode, _, _, s0, s1, e0, e1, t0, t1, t2, t3, t4, t5, t6, t7, .., u0, u1] = *fixed else {
        return None;
    };
    // Thresholds, and one sample at least, of each channel. How many channels a template has is not in the message.
    let least = match electrode {
        1 => 2 * 4,
        2 => 2 * 2 * 4,
        3 => 2 * 4 * 4,
        4 => 0,
        _ => return None,
    };
    if values.len() < least {
        return None;
    }
    Some(Read::Spike(OpenEphysSpike {
        form,
        stream: Name::Number(u16::from_le_bytes([s0, s1])),
        electrode: Name::Number(u16::from_le_bytes([e0, e1])),
        sample: i64::from_le_bytes([t0, t1, t2, t3, t4, t5, t6, t7]),
        sample_rate_hz: None,
        unit: u16::from_le_bytes([u0, u1]),
    }))
}

#[cfg(test)]
#[path = "parse_tests.rs"]
mod tests;
