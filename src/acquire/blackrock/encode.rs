//! Writes a device's packets.

use super::packet::Protocol;

/// Front-end channels, one unit of the emulator each before the next sorted unit begins.
pub const CHANNELS: u32 = 256;
/// Units that have a (channel, sorted unit): five a channel.
pub const UNITS: u32 = 5 * CHANNELS;

/// Channel, from 1, and sorted unit, from 1, that the emulator puts a unit on.
pub fn place_of(unit: u32) -> (u16, u8) {
    ((unit % CHANNELS) as u16 + 1, (unit / CHANNELS % 5) as u8 + 1)
}

/// Appends a header: `words` of 4 bytes follow it. A time of 3.11 wraps after 2³² ticks.
fn header(out: &mut Vec<u8>, protocol: Protocol, time: u64, channel: u16, kind: u8, words: u8) {
    match protocol {
        Protocol::V311 => {
            out.extend((time as u32).to_le_bytes());
            out.extend(channel.to_le_bytes());
            out.extend([kind, words]);
        }
        Protocol::V400 => {
            out.extend(time.to_le_bytes());
            out.extend(channel.to_le_bytes());
            // Type; length of two bytes; instrument; two reserved.
            out.extend([kind, words, 0, 0, 0, 0]);
        }
        Protocol::V410 => {
            out.extend(time.to_le_bytes());
            out.extend(channel.to_le_bytes());
            // Type and length of two bytes each; instrument; one reserved.
            out.extend([kind, 0, words, 0, 0, 0]);
        }
    }
}

/// Appends a spike with a waveform of `samples` (rounded down to an even number, 128 at most) zeros.
pub fn spike(out: &mut Vec<u8>, protocol: Protocol, time: u64, channel: u16, unit: u8, samples: u8) {
    let pairs = samples.min(128) / 2;
    header(out, protocol, time, channel, unit, 4 + pairs);
    // Three pattern values, peak and valley, the waveform.
    out.extend([0; 16]);
    out.resize(out.len() + 4 * usize::from(pairs), 0);
}

/// Appends a heartbeat.
pub fn heartbeat(out: &mut Vec<u8>, protocol: Protocol, time: u64) {
    header(out, protocol, time, 0x8000, 0, 0);
}

/// Appends the packet that says how many packets were sent since the last one of its kind, that one among them; from 4.1 on it
/// has a number.
pub fn monitor(out: &mut Vec<u8>, protocol: Protocol, time: u64, sent: u32, number: u32) {
    let numbered = protocol == Protocol::V410;
    header(out, protocol, time, 0x8000, 1, if numbered { 2 } else { 1 });
    out.extend(sent.to_le_bytes());
    if numbered {
        out.extend(number.to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn golden_packets_are_written() {
        let written = |protocol| {
            let mut out = Vec::new();
            spike(&mut out, protocol, 0x0102_0304, 300, 2, 0);
            monitor(&mut out, protocol, 5, 6, 7);
            out
        };
        let zeros = [0u8; 16];
        let old = [
            &b"\x04\x03\x02\x01\x2C\x01\x02\x04"[..],
            &zeros,
            b"\x05\0\0\0\0\x80\x01\x01\x06\0\0\0",
        ];
        assert_eq!(written(Protocol::V311), old.concat());
        let first = [
            &b"\x04\x03\x02\x01\0\0\0\0\x2C\x01\x02\x04\0\0\0\0"[..],
            &zeros,
            b"\x05\0\0\0\0\0\0\0\0\x80\x01\x01\0\0\0\0\x06\0\0\0",
        ];
        assert_eq!(written(Protocol::V400), first.concat());
        let second = [
            &b"\x04\x03\x02\x01\0\0\0\0\x2C\x01\x02\0\x04\0\0\0"[..],
            &zeros,
            b"\x05\0\0\0\0\0\0\0\0\x80\x01\0\x02\0\0\0\x06\0\0\0\x07\0\0\0",
        ];
        assert_eq!(written(Protocol::V410), second.concat());
    }

    #[test]
    fn a_waveform_of_48_samples_is_112_bytes_of_payload() {
        let mut out = Vec::new();
        spike(&mut out, Protocol::V410, 0, 1, 1, 48);
        assert_eq!((out.len(), out[12]), (16 + 112, 28));
    }
}
