//! The message of a prediction: a fixed little-endian header of [`HEADER_LEN`] bytes, then `T × N` numbers.
//!
//! | offset | type | field |
//! |---|---|---|
//! | 0 | 4 bytes | magic `NHZP` |
//! | 4 | u16 | version, 1 |
//! | 6 | u16 | length of the header, 112 |
//! | 8 | u32 | flags, see [`flags`] |
//! | 12 | u32 | dtype of the array: 1 = float32, ln(expected count in the bin) |
//! | 16 | u64 | publisher epoch: a number that differs at every start of the publisher |
//! | 24 | u64 | sequence number of this topic, from 0 |
//! | 32 | i64 | bin index: the bin that closed; the first predicted bin is the next one |
//! | 40 | i64 | device time of that bin's end, ns |
//! | 48 | i64 | host time of the last ingest before the decode, monotonic ns |
//! | 56 | i64 | host time of the decode's start, monotonic ns |
//! | 64 | i64 | host time of the decode's end, monotonic ns |
//! | 72 | i64 | host time of the publication, monotonic ns |
//! | 80 | u64 | model hash |
//! | 88 | u32 | spikes binned since the last prediction |
//! | 92 | u32 | spikes refused since then (a full ring or buffer) |
//! | 96 | u32 | late spikes since then |
//! | 100 | u32 | spikes of units unknown to the model since then |
//! | 104 | u32 | T, bins predicted |
//! | 108 | u32 | N, units |
//!
//! An output beside the prediction ([`super::output`]) has the same header: T and N are its rows and columns, the sequence is
//! that of its topic, and the flags `held` and `neutral` speak of its own array, zeros being the neutral one.
//!
//! T is that of `hello`, or less where the flag `shortened` is raised.
//!
//! On the first endpoint a prediction is three frames (topic, header, array), on the latest-only one a single frame
//! (header and array: ZeroMQ's CONFLATE takes no multipart messages).

use bytemuck::{Pod, Zeroable};

#[cfg(target_endian = "big")]
compile_error!("the message is little-endian and its structs are written as they lie in memory");

/// Topic of predictions on the first endpoint.
pub const PREDICTION_TOPIC: &str = "prediction";
/// Topic of the description of what is published, on the first endpoint.
pub const HELLO_TOPIC: &str = "hello";
/// The first four bytes of a header.
pub const MAGIC: [u8; 4] = *b"NHZP";
/// Version of the layout.
pub const VERSION: u16 = 1;
/// Length of the header in bytes.
pub const HEADER_LEN: usize = std::mem::size_of::<MessageHeader>();
/// Code of float32 in [`MessageHeader::dtype`].
pub const DTYPE_F32: u32 = 1;

/// Bits of [`MessageHeader::flags`]. Those about spikes and samples speak of the time since the last
/// prediction.
pub mod flags {
    /// Published after the bin's deadline.
    pub const MISSED_DEADLINE: u32 = 1;
    /// Spikes were refused because a ring or buffer was full.
    pub const SPIKES_REFUSED: u32 = 1 << 1;
    /// Spikes came after their bin had closed; they are in no bin.
    pub const SPIKES_LATE: u32 = 1 << 2;
    /// Spikes of units that the model does not know were left out.
    pub const SPIKES_UNKNOWN: u32 = 1 << 3;
    /// The history held more spikes than the model takes; the oldest were left out.
    pub const WINDOW_TRUNCATED: u32 = 1 << 4;
    /// The array is the last prediction, held.
    pub const HELD: u32 = 1 << 5;
    /// The array is the neutral prediction: the mean rates.
    pub const NEUTRAL: u32 = 1 << 6;
    /// The bin was not decoded because decoding had fallen behind.
    pub const SKIPPED: u32 = 1 << 7;
    /// The model returned an error or numbers that are not finite.
    pub const MODEL_FAILED: u32 = 1 << 8;
    /// An earlier prediction was lost before it was published, or at a subscriber that was full.
    pub const PUBLICATION_LOST: u32 = 1 << 9;

    /// The device failed, now or earlier, and the model ran on the CPU.
    pub const STANDBY: u32 = 1 << 10;

    /// The units' identities are not known yet: the array is their mean rates so far.
    pub const CALIBRATING: u32 = 1 << 11;

    /// Samples of other modalities were refused (a full ring or buffer, a wrong number of channels) or pushed out of a full
    /// history.
    pub const SAMPLES_LOST: u32 = 1 << 12;
    /// Samples of other modalities came after their bin had closed: predictions from here on see them, those before did not.
    pub const SAMPLES_LATE: u32 = 1 << 13;
    /// A modality that a source delivers had nothing to show in the whole history, and the network was shown nothing of it.
    pub const MODALITY_SILENT: u32 = 1 << 14;

    /// A device is not there: not reached yet, or lost. Its units look silent.
    pub const SOURCE_AWAY: u32 = 1 << 15;
    /// Spikes or samples were lost before they came to the runtime: in the device, on the way, or unreadable.
    pub const SPIKES_LOST: u32 = 1 << 16;
    /// A device's clock began anew or jumped: its times before and after stand to one another as the host's do.
    pub const CLOCK_RESET: u32 = 1 << 17;
    /// Only the first bins of the horizon were predicted, as many as there was time for: T is their number.
    pub const SHORTENED: u32 = 1 << 19;
    /// The decode thread had nothing for this bin long after its deadline: the mean rates stand in for it.
    pub const STUCK: u32 = 1 << 20;

    /// At least one unit's rate was above its limit, and is at it.
    pub const LIMITED: u32 = 1 << 21;
    /// Predictions were stopped, by a command or because the consumer's heartbeat did not come: the array is the mean rates, and
    /// outputs are zeros.
    pub const STOPPED: u32 = 1 << 22;

    /// Something of what came in or went out was not recorded: no room, or a disk that is full.
    pub const RECORDING_LOST: u32 = 1 << 18;

    /// Every flag with its name, for the `hello` message.
    pub const NAMES: [(&str, u32); 23] = [
        ("missed_deadline", MISSED_DEADLINE),
        ("spikes_refused", SPIKES_REFUSED),
        ("spikes_late", SPIKES_LATE),
        ("spikes_unknown", SPIKES_UNKNOWN),
        ("window_truncated", WINDOW_TRUNCATED),
        ("held", HELD),
        ("neutral", NEUTRAL),
        ("skipped", SKIPPED),
        ("model_failed", MODEL_FAILED),
        ("publication_lost", PUBLICATION_LOST),
        ("standby", STANDBY),
        ("calibrating", CALIBRATING),
        ("samples_lost", SAMPLES_LOST),
        ("samples_late", SAMPLES_LATE),
        ("modality_silent", MODALITY_SILENT),
        ("source_away", SOURCE_AWAY),
        ("spikes_lost", SPIKES_LOST),
        ("clock_reset", CLOCK_RESET),
        ("recording_lost", RECORDING_LOST),
        ("shortened", SHORTENED),
        ("stuck", STUCK),
        ("limited", LIMITED),
        ("stopped", STOPPED),
    ];
}

/// Header of a prediction; the module's page has the offsets.
#[repr(C)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
pub struct MessageHeader {
    /// [`MAGIC`].
    pub magic: [u8; 4],
    /// [`VERSION`].
    pub version: u16,
    /// [`HEADER_LEN`].
    pub header_len: u16,
    /// See [`flags`].
    pub flags: u32,
    /// [`DTYPE_F32`].
    pub dtype: u32,
    /// Differs at every start of the publisher.
    pub epoch: u64,
    /// Counts the messages of this topic.
    pub sequence: u64,
    /// The bin that closed.
    pub bin_index: i64,
    /// Device time of its end, ns.
    pub bin_end_ns: i64,
    /// Monotonic ns.
    pub ingest_ns: i64,
    /// Monotonic ns.
    pub decode_start_ns: i64,
    /// Monotonic ns.
    pub decode_end_ns: i64,
    /// Monotonic ns.
    pub publish_ns: i64,
    /// Changes when the model does.
    pub model_hash: u64,
    /// Since the last prediction.
    pub spikes_in: u32,
    /// Since the last prediction.
    pub spikes_refused: u32,
    /// Since the last prediction.
    pub spikes_late: u32,
    /// Since the last prediction.
    pub spikes_unknown: u32,
    /// T.
    pub bins: u32,
    /// N.
    pub units: u32,
}

impl MessageHeader {
    /// The fields in order with their numpy types, for the `hello` message.
    pub const FIELDS: [(&'static str, &'static str); 20] = [
        ("magic", "S4"),
        ("version", "<u2"),
        ("header_len", "<u2"),
        ("flags", "<u4"),
        ("dtype", "<u4"),
        ("epoch", "<u8"),
        ("sequence", "<u8"),
        ("bin_index", "<i8"),
        ("bin_end_ns", "<i8"),
        ("ingest_ns", "<i8"),
        ("decode_start_ns", "<i8"),
        ("decode_end_ns", "<i8"),
        ("publish_ns", "<i8"),
        ("model_hash", "<u8"),
        ("spikes_in", "<u4"),
        ("spikes_refused", "<u4"),
        ("spikes_late", "<u4"),
        ("spikes_unknown", "<u4"),
        ("bins", "<u4"),
        ("units", "<u4"),
    ];

    /// A header of a `bins` × `units` float32 array with everything else zero.
    pub fn new(model_hash: u64, bins: usize, units: usize) -> Self {
        Self {
            magic: MAGIC,
            version: VERSION,
            header_len: HEADER_LEN as u16,
            dtype: DTYPE_F32,
            model_hash,
            bins: bins as u32,
            units: units as u32,
            ..Self::zeroed()
        }
    }

    /// Reads a header from the start of `bytes`.
    ///
    /// # Errors
    /// One sentence where the bytes are too few or of another magic or version.
    pub fn read(bytes: &[u8]) -> Result<Self, String> {
        let Some(head) = bytes.get(..HEADER_LEN) else {
            return Err(format!(
                "a message of {} bytes is shorter than its header of {HEADER_LEN}",
                bytes.len()
            ));
        };
        let header: Self = bytemuck::pod_read_unaligned(head);
        if header.magic != MAGIC {
            return Err(format!(
                "a message starts with {:?} and not with {MAGIC:?}",
                header.magic
            ));
        }
        if header.version != VERSION {
            return Err(format!(
                "a message has version {} but this is version {VERSION}",
                header.version
            ));
        }
        Ok(header)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The layout by hand: every field holds a number made of its own offset.
    fn bytes_by_hand() -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend_from_slice(b"NHZP");
        bytes.extend_from_slice(&[0x01, 0x00, 0x70, 0x00]);
        bytes.extend_from_slice(&[0x08, 0, 0, 0, 0x01, 0, 0, 0]);
        for offset in [16u8, 24, 32, 40, 48, 56, 64, 72, 80] {
            bytes.extend_from_slice(&[offset, 0xAA, 0, 0, 0, 0, 0, offset]);
        }
        for offset in [88u8, 92, 96, 100, 104, 108] {
            bytes.extend_from_slice(&[offset, 0, 0, 0xBB]);
        }
        bytes
    }

    fn long(offset: u64) -> u64 {
        offset | 0xAA00 | offset << 56
    }

    fn short(offset: u32) -> u32 {
        offset | 0xBB00_0000
    }

    #[test]
    fn the_layout_is_the_documented_one() {
        let bytes = bytes_by_hand();
        assert_eq!((bytes.len(), HEADER_LEN), (112, 112));
        let header = MessageHeader {
            magic: *b"NHZP",
            version: 1,
            header_len: 112,
            flags: 8,
            dtype: 1,
            epoch: long(16),
            sequence: long(24),
            bin_index: long(32) as i64,
            bin_end_ns: long(40) as i64,
            ingest_ns: long(48) as i64,
            decode_start_ns: long(56) as i64,
            decode_end_ns: long(64) as i64,
            publish_ns: long(72) as i64,
            model_hash: long(80),
            spikes_in: short(88),
            spikes_refused: short(92),
            spikes_late: short(96),
            spikes_unknown: short(100),
            bins: short(104),
            units: short(108),
        };
        assert_eq!(bytemuck::bytes_of(&header), bytes);
        assert_eq!(MessageHeader::read(&bytes), Ok(header));
    }

    #[test]
    fn the_field_list_covers_the_header() {
        let size = |code: &str| code[code.len() - 1..].parse::<usize>().unwrap();
        assert_eq!(
            MessageHeader::FIELDS.iter().map(|(_, code)| size(code)).sum::<usize>(),
            HEADER_LEN
        );
    }

    #[test]
    fn wrong_bytes_are_refused() {
        let bytes = bytes_by_hand();
        assert!(MessageHeader::read(&bytes[..111]).unwrap_err().contains("111 bytes"));
        let mut other = bytes.clone();
        other[0] = b'X';
        assert!(MessageHeader::read(&other).is_err());
        let mut newer = bytes;
        newer[4] = 2;
        assert!(MessageHeader::read(&newer).unwrap_err().contains("version 2"));
    }
}
