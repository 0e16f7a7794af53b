//! What a subscriber writes of a prediction for the suite: its header as it came, and when.

use neurohorizon::pipeline::message::{flags, MessageHeader, HEADER_LEN};

/// A prediction at a subscriber.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Received {
    /// Its header.
    pub header: MessageHeader,
    /// When the subscriber had it, monotonic ns.
    pub at_ns: i64,
    /// Whether the array is of the size that the header says, and all its numbers are finite.
    pub array_is_sound: bool,
}

/// Bytes of one: the header, the time, and whether the array is sound.
pub const LENGTH: usize = HEADER_LEN + 8 + 1;

impl Received {
    /// As bytes.
    pub fn to_bytes(self) -> [u8; LENGTH] {
        let mut bytes = [0; LENGTH];
        bytes[..HEADER_LEN].copy_from_slice(bytemuck::bytes_of(&self.header));
        bytes[HEADER_LEN..LENGTH - 1].copy_from_slice(&self.at_ns.to_le_bytes());
        bytes[LENGTH - 1] = u8::from(self.array_is_sound);
        bytes
    }

    /// From bytes.
    ///
    /// # Errors
    /// Where they are none.
    pub fn from_bytes(bytes: &[u8; LENGTH]) -> Result<Self, String> {
        Ok(Self {
            header: MessageHeader::read(bytes)?,
            at_ns: bytemuck::pod_read_unaligned(&bytes[HEADER_LEN..LENGTH - 1]),
            array_is_sound: bytes[LENGTH - 1] == 1,
        })
    }

    /// Whether a flag is raised.
    pub fn has(&self, flag: u32) -> bool {
        self.header.flags & flag != 0
    }

    /// The names of its flags; one that has none is its number.
    pub fn flag_names(bits: u32) -> Vec<String> {
        let name = |bit: u32| {
            let known = flags::NAMES.iter().find(|(_, flag)| *flag == bit);
            known.map_or_else(|| format!("flag {bit:#x}"), |(name, _)| (*name).to_string())
        };
        (0..u32::BITS)
            .map(|bit| 1 << bit)
            .filter(|bit| bits & bit != 0)
            .map(name)
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bytes_bring_everything_back() {
        let mut header = MessageHeader::new(7, 12, 96);
        header.bin_index = 44;
        let received = Received {
            header,
            at_ns: 123_456_789_012,
            array_is_sound: true,
        };
        assert_eq!(Received::from_bytes(&received.to_bytes()), Ok(received));
        let mut broken = received.to_bytes();
        broken[0] = 0;
        assert!(Received::from_bytes(&broken).is_err());
    }

    #[test]
    fn flags_have_their_names_and_unknown_ones_their_numbers() {
        let bits = flags::HELD | flags::STUCK | 1 << 31;
        assert_eq!(Received::flag_names(bits), ["held", "stuck", "flag 0x80000000"]);
    }
}
