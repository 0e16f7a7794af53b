//! Writes the plugins' messages.

use serde_json::json;

use super::parse::Form;

/// Samples of a waveform.
const SAMPLES: usize = 40;
/// Stream that the emulator's spikes are of.
pub const STREAM: &str = "emulated";
/// The same by number, in raw messages.
pub const STREAM_ID: u16 = 7;
/// Units of the emulator: an electrode each.
pub const UNITS: u32 = 1 << 16;

/// Electrode, as a configuration names it, that the emulator puts a unit on; its sorted unit is 1.
pub fn electrode_of(unit: u32, form: Form) -> String {
    match form {
        Form::Raw | Form::LegacyRaw => unit.to_string(),
        Form::Json | Form::LegacyJson | Form::ZmqInterface => format!("Electrode {}", unit + 1),
    }
}

/// A spike of a single electrode, sorted unit 1.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Spike {
    /// Index of the electrode, from 0.
    pub electrode: u32,
    /// Sample number.
    pub sample: i64,
    /// Samples a second.
    pub sample_rate_hz: u32,
    /// Number of the message, of the ZMQ Interface.
    pub number: u64,
}

impl Spike {
    fn seconds(&self) -> f64 {
        self.sample as f64 / f64::from(self.sample_rate_hz)
    }

    /// The frames of its message.
    pub fn frames(&self, form: Form) -> Vec<Vec<u8>> {
        let rate = f64::from(self.sample_rate_hz);
        let name = electrode_of(self.electrode, form);
        // The GUI prints JSON over several lines.
        let text = |value: serde_json::Value| format!("{value:#}").into_bytes();
        match form {
            Form::Json => {
                let body = json!({
                    "event_type": "spike", "stream": STREAM, "source_node": 102, "electrode": name, "num_channels": 1,
                    "sample_rate": rate, "sample_number": self.sample, "sorted_id": 1, "amp1": 61.5,
                });
                vec![vec![1, 0], text(body)]
            }
            Form::Raw => vec![vec![1, 0], self.raw()],
            Form::LegacyRaw => vec![vec![2, 0], self.seconds().to_le_bytes().to_vec(), self.raw()],
            Form::LegacyJson => {
                let envelope = format!("spike/sortedid:1/id:spikesource/ts:{}", self.sample);
                let body = json!({
                    "type": "spike", "sortedID": 1, "numChannels": 1, "threshold": [-50.0],
                    "timing": {"sampleRate": rate, "timestamp": self.sample},
                    "identifier": "spikesource", "name": name, "metaData": [],
                });
                vec![envelope.into_bytes(), text(body)]
            }
            Form::ZmqInterface => {
                let header = json!({
                    "message_num": self.number, "type": "spike",
                    "spike": {
                        "stream": STREAM, "source_node": 102, "electrode": name, "sample_num": self.sample,
                        "num_channels": 1, "num_samples": SAMPLES, "sorted_id": 1, "threshold": [-50.0],
                    },
                    "timestamp": 1_700_000_000_000_u64,
                });
                vec![b"EVENT\0".to_vec(), text(header), vec![0; 4 * SAMPLES]]
            }
        }
    }

    /// The raw body: spike, single electrode, node 102.
    fn raw(&self) -> Vec<u8> {
        let mut body = vec![2, 1];
        body.extend(102u16.to_le_bytes());
        body.extend(STREAM_ID.to_le_bytes());
        body.extend((self.electrode as u16).to_le_bytes());
        body.extend(self.sample.to_le_bytes());
        body.extend(self.seconds().to_le_bytes());
        body.extend(1u16.to_le_bytes());
        body.extend((-50f32).to_le_bytes());
        body.resize(body.len() + 4 * SAMPLES, 0);
        body
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPIKE: Spike = Spike {
        electrode: 4,
        sample: 45_000,
        sample_rate_hz: 30_000,
        number: 9,
    };

    #[test]
    fn golden_raw_bodies_are_written() {
        let frames = SPIKE.frames(Form::Raw);
        assert_eq!(frames[0], [1, 0]);
        // 45 000 = 0xAFC8; 1.5 s; threshold −50.
        let begin = b"\x02\x01\x66\0\x07\0\x04\0\xC8\xAF\0\0\0\0\0\0\0\0\0\0\0\0\xF8\x3F\x01\0\0\0\x48\xC2";
        assert_eq!(frames[1][..30], *begin);
        assert_eq!(frames[1].len(), 190);
        let legacy = SPIKE.frames(Form::LegacyRaw);
        assert_eq!(
            (&legacy[0][..], &legacy[1][..]),
            (&[2, 0][..], &b"\0\0\0\0\0\0\xF8\x3F"[..])
        );
        assert_eq!(legacy[2], frames[1]);
    }

    #[test]
    fn json_is_printed_over_several_lines_under_the_plugins_keys() {
        let text = |form, frame: usize| String::from_utf8(SPIKE.frames(form)[frame].clone()).unwrap();
        let body = text(Form::Json, 1);
        assert!(
            body.starts_with("{\n") && body.contains("\"electrode\": \"Electrode 5\""),
            "{body}"
        );
        assert!(body.contains("\"sample_number\": 45000"), "{body}");
        assert_eq!(text(Form::LegacyJson, 0), "spike/sortedid:1/id:spikesource/ts:45000");
        assert!(text(Form::LegacyJson, 1).contains("\"sortedID\": 1"));
        assert_eq!(text(Form::ZmqInterface, 0), "EVENT\0");
        assert!(text(Form::ZmqInterface, 1).contains("\"message_num\": 9"));
    }
}
