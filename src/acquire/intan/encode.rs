//! Writes the spike output, as RHX does.

/// What a spike output says of a spike.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpikeId {
    /// Sorted into unit 1, 2, 3 or 4.
    Unit(u8),
    /// Not sorted.
    Unclassified,
    /// Likely an artifact.
    Artifact,
}

/// Channels that have a native name: eight ports of 128.
pub const CHANNELS: u32 = 8 * 128;
/// Units that have a (channel, sorted unit): four a channel.
pub const UNITS: u32 = 4 * CHANNELS;

/// Native name of a channel: `A-000` to `H-127`.
pub fn channel_name(channel: u32) -> [u8; 5] {
    let (port, number) = ((channel / 128 % 8) as u8, (channel % 128) as u8);
    [
        b'A' + port,
        b'-',
        b'0' + number / 100,
        b'0' + number / 10 % 10,
        b'0' + number % 10,
    ]
}

/// Where the emulator puts a unit: one a channel as long as there are channels, then a second one, and so on.
pub fn place_of(unit: u32) -> ([u8; 5], SpikeId) {
    let sorted = (unit / CHANNELS % 4) as u8 + 1;
    (channel_name(unit % CHANNELS), SpikeId::Unit(sorted))
}

/// Appends a spike's record to `out`. A counter of samples wraps after 2³².
pub fn spike(out: &mut Vec<u8>, channel: [u8; 5], samples: u32, id: SpikeId) {
    out.extend(0x3AE2_710Fu32.to_le_bytes());
    out.extend(channel);
    out.extend(samples.to_le_bytes());
    out.push(match id {
        // A bit a unit, the first in bit 0.
        SpikeId::Unit(unit) => 1 << (unit.clamp(1, 4) - 1),
        SpikeId::Unclassified => 0x40,
        SpikeId::Artifact => 0x80,
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_records_are_written() {
        let mut out = Vec::new();
        spike(&mut out, channel_name(10), 0x10203, SpikeId::Unit(2));
        spike(&mut out, channel_name(3 * 128 + 127), 0x10204, SpikeId::Unclassified);
        spike(&mut out, channel_name(0), 1, SpikeId::Unit(4));
        spike(&mut out, channel_name(0), 1, SpikeId::Artifact);
        assert_eq!(out[..14], *b"\x0F\x71\xE2\x3AA-010\x03\x02\x01\x00\x02");
        assert_eq!(out[14..28], *b"\x0F\x71\xE2\x3AD-127\x04\x02\x01\x00\x40");
        assert_eq!((out[41], out[55]), (8, 0x80));
    }

    #[test]
    fn units_have_places_of_their_own() {
        let places: std::collections::HashSet<String> =
            (0..UNITS).map(|unit| format!("{:?}", place_of(unit))).collect();
        assert_eq!(places.len(), UNITS as usize);
        assert_eq!(place_of(1_025), (*b"A-001", SpikeId::Unit(2)));
    }
}
