//! What a run takes in and gives out, entry by entry, as a recording keeps it.
//!
//! An entry is a head of 8 bytes (u32 kind, u32 bytes that follow) and its content; everything is little-endian.
//!
//! | kind | content |
//! |---|---|
//! | 1 events | u32 source, u32 0, then [`SpikeEvent`]s of 16 bytes: spikes and markers, as they were taken from the ring at once |
//! | 2 sample | u32 source, u32 series, i64 device time in ns, u32 1 where it was kept and 0 where there was no room, u32 0, f32 values |
//! | 3 closed | i64 bin index, u64 times that identities were taken in so far: the bin closed here, before what follows was taken |
//! | 4 lost | u64 entries that are missing here |
//! | 5 prediction | header of 112 bytes ([`super::message`]), f32 array |
//! | 6 output | u32 number of the output, u32 0, header, array |
//! | 7 joins | u64 model hash, u32 bytes of its file's name, u32 0, that name and its session's in UTF-8: this model goes along from the bin on that closes next |
//! | 8 predicts | u64 model hash: this model predicts from the bin on that closes next |
//! | 9 identities | u64 number of a model, 0 the run's first and i the i-th that joined, i64 device ns: identities that were computed from the reference that ended there were taken in, before the prediction of the bin that closes next |
//!
//! Kinds 1 to 3 and 7 to 9 come from the decode thread, 5 and 6 from the publish thread, and 4 stands in either's stream.

use super::message::{MessageHeader, HEADER_LEN};
use super::predictor::Origin;
use crate::acquire::SpikeEvent;

/// Bytes before an entry's content.
pub const ENTRY_HEAD: usize = 8;
/// Bytes before a sample's values.
const SAMPLE_HEAD: usize = 24;
const EVENTS: u32 = 1;
const SAMPLE: u32 = 2;
const CLOSED: u32 = 3;
const LOST: u32 = 4;
const PREDICTION: u32 = 5;
const OUTPUT: u32 = 6;
const JOINS: u32 = 7;
const PREDICTS: u32 = 8;
const IDENTITIES: u32 = 9;

/// A published array with its header.
#[derive(Clone, Debug, PartialEq)]
pub struct Message {
    /// The header.
    pub header: MessageHeader,
    /// The array, row-major.
    pub array: Vec<f32>,
}

/// One entry.
#[derive(Clone, Debug, PartialEq)]
pub enum Entry {
    /// Events taken from a source's ring at once.
    Events {
        /// Number of the source.
        source: u32,
        /// Spikes and markers in their order.
        events: Vec<SpikeEvent>,
    },
    /// A sample beside the spikes.
    Sample {
        /// Number of the source.
        source: u32,
        /// Number of the series.
        series: u32,
        /// Device time, ns.
        time_ns: i64,
        /// False where too many samples waited for their bin to close, and it was refused.
        kept: bool,
        /// The values.
        values: Vec<f32>,
    },
    /// A bin closed.
    Closed {
        /// Its index.
        bin: i64,
        /// Times that identities were taken in before its prediction, since the run began.
        identities: u64,
    },
    /// Another model goes along, from the bin on that closes next.
    Joins {
        /// Its hash.
        hash: u64,
        /// Its file.
        file: String,
        /// Which of the file's sessions was asked for; empty where none was.
        session: String,
    },
    /// It predicts, from the bin on that closes next.
    Predicts {
        /// Its hash.
        hash: u64,
    },
    /// Identities of a model's units were taken in, before the prediction of the bin that closes next.
    Identities {
        /// Of which model: 0 is the run's first, i the i-th that joined.
        model: u64,
        /// Where the reference ended that they were computed from, device ns.
        end_ns: i64,
    },
    /// Entries are missing.
    Lost {
        /// How many.
        entries: u64,
    },
    /// A prediction as it was published.
    Prediction(Message),
    /// An output as it was published.
    Output {
        /// Its number.
        output: u32,
        /// What was published.
        message: Message,
    },
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn long(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(bytes.get(at..at + 8)?.try_into().ok()?))
}

/// Numbers that fill `bytes` exactly.
fn numbers<T: bytemuck::AnyBitPattern>(bytes: &[u8]) -> Option<Vec<T>> {
    let elements = bytes.chunks_exact(size_of::<T>());
    elements
        .remainder()
        .is_empty()
        .then(|| elements.map(bytemuck::pod_read_unaligned).collect())
}

impl Message {
    fn parse(bytes: &[u8]) -> Result<Self, String> {
        let header = MessageHeader::read(bytes)?;
        let array: Vec<f32> = numbers(&bytes[HEADER_LEN..]).ok_or("a message's array is cut off")?;
        let (rows, columns) = (header.bins as usize, header.units as usize);
        if rows.checked_mul(columns) != Some(array.len()) {
            let numbers = array.len();
            return Err(format!("a message of {rows} × {columns} has {numbers} numbers"));
        }
        Ok(Self { header, array })
    }
}

impl Entry {
    /// Reads the first entry of `bytes`, and says how long it is.
    ///
    /// # Errors
    /// One sentence about what is not as it should be.
    pub fn parse(bytes: &[u8]) -> Result<(Self, usize), String> {
        let (Some(kind), Some(length)) = (word(bytes, 0), word(bytes, 4)) else {
            return Err(format!("{} bytes are no entry", bytes.len()));
        };
        let end = ENTRY_HEAD.saturating_add(length as usize);
        let content = bytes
            .get(ENTRY_HEAD..end)
            .ok_or_else(|| format!("an entry of {length} bytes is cut off"))?;
        let entry = match kind {
            PREDICTION => Some(Self::Prediction(Message::parse(content)?)),
            OUTPUT => match (word(content, 0), content.get(8..)) {
                (Some(output), Some(message)) => Some(Self::Output {
                    output,
                    message: Message::parse(message)?,
                }),
                _ => None,
            },
            EVENTS => Self::events(content),
            SAMPLE => Self::sample(content),
            CLOSED if length == 16 => long(content, 0)
                .zip(long(content, 8))
                .map(|(bin, identities)| Self::Closed {
                    bin: bin as i64,
                    identities,
                }),
            JOINS => Self::joins(content),
            PREDICTS if length == 8 => long(content, 0).map(|hash| Self::Predicts { hash }),
            IDENTITIES if length == 16 => {
                let fields = long(content, 0).zip(long(content, 8));
                fields.map(|(model, end_ns)| Self::Identities {
                    model,
                    end_ns: end_ns as i64,
                })
            }
            LOST if length == 8 => long(content, 0).map(|entries| Self::Lost { entries }),
            _ => None,
        };
        let entry = entry.ok_or_else(|| format!("an entry of kind {kind} cannot have {length} bytes"))?;
        Ok((entry, end))
    }

    /// Reads every entry of `bytes`.
    ///
    /// # Errors
    /// As [`Entry::parse`].
    pub fn parse_all(mut bytes: &[u8]) -> Result<Vec<Self>, String> {
        let mut entries = Vec::new();
        while !bytes.is_empty() {
            let (entry, length) = Self::parse(bytes)?;
            entries.push(entry);
            bytes = &bytes[length..];
        }
        Ok(entries)
    }

    fn events(content: &[u8]) -> Option<Self> {
        Some(Self::Events {
            source: word(content, 0)?,
            events: numbers(content.get(8..)?)?,
        })
    }

    fn joins(content: &[u8]) -> Option<Self> {
        let (file, session) = content.get(16..)?.split_at_checked(word(content, 8)? as usize)?;
        let text = |bytes: &[u8]| std::str::from_utf8(bytes).ok().map(str::to_string);
        Some(Self::Joins {
            hash: long(content, 0)?,
            file: text(file)?,
            session: text(session)?,
        })
    }

    fn sample(content: &[u8]) -> Option<Self> {
        Some(Self::Sample {
            source: word(content, 0)?,
            series: word(content, 4)?,
            time_ns: long(content, 8)? as i64,
            kept: match word(content, 16)? {
                0 => false,
                1 => true,
                _ => return None,
            },
            values: numbers(content.get(SAMPLE_HEAD..)?)?,
        })
    }
}

/// Puts an entry into `out`, which is emptied first: its head, and these parts.
fn put(out: &mut Vec<u8>, kind: u32, parts: &[&[u8]]) {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    out.clear();
    out.extend_from_slice(&kind.to_le_bytes());
    out.extend_from_slice(&(length as u32).to_le_bytes());
    parts.iter().for_each(|part| out.extend_from_slice(part));
}

/// Puts the entry of some events of a source into `out`, in place of what it held.
pub fn put_events(out: &mut Vec<u8>, source: usize, events: &[SpikeEvent]) {
    let head = [source as u32, 0];
    put(
        out,
        EVENTS,
        &[bytemuck::cast_slice(&head), bytemuck::cast_slice(events)],
    );
}

/// The same of a sample.
pub fn put_sample(out: &mut Vec<u8>, (source, series): (usize, usize), time_ns: i64, kept: bool, values: &[f32]) {
    let head = [source as u32, series as u32];
    let (time, kept) = (time_ns.to_le_bytes(), [u32::from(kept), 0]);
    put(
        out,
        SAMPLE,
        &[
            bytemuck::cast_slice(&head),
            &time,
            bytemuck::cast_slice(&kept),
            bytemuck::cast_slice(values),
        ],
    );
}

/// The same of a bin that closed.
pub fn put_closed(out: &mut Vec<u8>, bin: i64, identities: u64) {
    put(out, CLOSED, &[&bin.to_le_bytes(), &identities.to_le_bytes()]);
}

/// The same of another model that goes along.
pub fn put_joins(out: &mut Vec<u8>, hash: u64, origin: Origin<'_>) {
    let head = [origin.file.len() as u32, 0];
    put(
        out,
        JOINS,
        &[
            &hash.to_le_bytes(),
            bytemuck::cast_slice(&head),
            origin.file.as_bytes(),
            origin.session.as_bytes(),
        ],
    );
}

/// The same of its first prediction.
pub fn put_predicts(out: &mut Vec<u8>, hash: u64) {
    put(out, PREDICTS, &[&hash.to_le_bytes()]);
}

/// The same of identities that were taken in.
pub fn put_identities(out: &mut Vec<u8>, model: u64, end_ns: i64) {
    put(out, IDENTITIES, &[&model.to_le_bytes(), &end_ns.to_le_bytes()]);
}

/// The same of entries that are missing.
pub fn put_lost(out: &mut Vec<u8>, entries: u64) {
    put(out, LOST, &[&entries.to_le_bytes()]);
}

/// The same of a prediction's header and array.
pub fn put_prediction(out: &mut Vec<u8>, header: &[u8], array: &[u8]) {
    put(out, PREDICTION, &[header, array]);
}

/// The same of output number `output`.
pub fn put_output(out: &mut Vec<u8>, output: usize, header: &[u8], array: &[u8]) {
    let head = [output as u32, 0];
    put(out, OUTPUT, &[bytemuck::cast_slice(&head), header, array]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn message(rows: u32, columns: u32, flags: u32) -> Message {
        let mut header = MessageHeader::new(7, rows as usize, columns as usize);
        header.flags = flags;
        let array = (0..rows * columns).map(|x| x as f32 - 0.5).collect();
        Message { header, array }
    }

    fn entries() -> impl Strategy<Value = Entry> {
        let event = (any::<i64>(), any::<u32>(), any::<u32>()).prop_map(|(time_ns, unit, flags)| SpikeEvent {
            time_ns,
            unit,
            flags,
        });
        let values = prop::collection::vec(-1e9f32..1e9, 0..20);
        prop_oneof![
            (any::<u32>(), prop::collection::vec(event, 0..40))
                .prop_map(|(source, events)| Entry::Events { source, events }),
            (any::<u32>(), any::<u32>(), any::<i64>(), any::<bool>(), values).prop_map(
                |(source, series, time_ns, kept, values)| Entry::Sample {
                    source,
                    series,
                    time_ns,
                    kept,
                    values
                }
            ),
            (any::<i64>(), any::<u64>()).prop_map(|(bin, identities)| Entry::Closed { bin, identities }),
            (any::<u64>(), "\\PC{0,30}", "\\PC{0,30}").prop_map(|(hash, file, session)| Entry::Joins {
                hash,
                file,
                session
            }),
            any::<u64>().prop_map(|hash| Entry::Predicts { hash }),
            (any::<u64>(), any::<i64>()).prop_map(|(model, end_ns)| Entry::Identities { model, end_ns }),
            any::<u64>().prop_map(|entries| Entry::Lost { entries }),
            (0u32..5, 0u32..5, any::<u32>()).prop_map(|(t, n, flags)| Entry::Prediction(message(t, n, flags))),
            (any::<u32>(), 0u32..5, 0u32..5).prop_map(|(output, t, n)| Entry::Output {
                output,
                message: message(t, n, 0)
            }),
        ]
    }

    fn encode(entry: &Entry) -> Vec<u8> {
        let mut out = Vec::new();
        let parts = |message: &Message| {
            (
                bytemuck::bytes_of(&message.header).to_vec(),
                bytemuck::cast_slice(&message.array).to_vec(),
            )
        };
        match entry {
            Entry::Events { source, events } => put_events(&mut out, *source as usize, events),
            Entry::Sample {
                source,
                series,
                time_ns,
                kept,
                values,
            } => put_sample(&mut out, (*source as usize, *series as usize), *time_ns, *kept, values),
            Entry::Closed { bin, identities } => put_closed(&mut out, *bin, *identities),
            Entry::Joins { hash, file, session } => put_joins(&mut out, *hash, Origin { file, session }),
            Entry::Predicts { hash } => put_predicts(&mut out, *hash),
            Entry::Identities { model, end_ns } => put_identities(&mut out, *model, *end_ns),
            Entry::Lost { entries } => put_lost(&mut out, *entries),
            Entry::Prediction(message) => {
                let (header, array): (_, Vec<u8>) = parts(message);
                put_prediction(&mut out, &header, &array);
            }
            Entry::Output { output, message } => {
                let (header, array): (_, Vec<u8>) = parts(message);
                put_output(&mut out, *output as usize, &header, &array);
            }
        }
        out
    }

    proptest! {
        #[test]
        fn what_is_put_is_read(all in prop::collection::vec(entries(), 0..8)) {
            let bytes: Vec<u8> = all.iter().flat_map(encode).collect();
            prop_assert_eq!(Entry::parse_all(&bytes).unwrap(), all);
        }

        #[test]
        fn an_entry_that_is_cut_off_is_an_error(entry in entries(), cut in any::<prop::sample::Index>()) {
            let bytes = encode(&entry);
            let cut = cut.index(bytes.len());
            prop_assert!(Entry::parse(&bytes[..cut]).is_err());
        }

        #[test]
        fn damaged_entries_are_read_or_refused(entry in entries(), damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)) {
            let mut bytes = encode(&entry);
            for (at, value) in damage {
                let at = at.index(bytes.len());
                bytes[at] = value;
            }
            if let Ok((_, length)) = Entry::parse(&bytes) {
                prop_assert!(length <= bytes.len());
            }
        }
    }
}
