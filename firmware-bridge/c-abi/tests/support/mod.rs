//! The runtime's end of a link, for the tests.

use firmware_bridge_shm::{Link, Role, Sizes};

/// A name that no other test has; its file goes when this does.
pub struct Name(String);

impl Name {
    pub fn new(test: &str) -> Self {
        Self(format!("test-c-{test}-{}", std::process::id()))
    }

    pub fn address(&self) -> String {
        format!("shm:{}", self.0)
    }

    pub fn host(&self) -> Link {
        Link::open(&self.0, Role::Host, Sizes::default()).unwrap()
    }
}

impl Drop for Name {
    fn drop(&mut self) {
        let _ = Link::remove(&self.0);
    }
}

/// A prediction of 2 bins × 3 units, by hand from the table of the runtime's message.
pub fn prediction(sequence: u8) -> Vec<u8> {
    let mut message = Vec::new();
    message.extend(b"NHZP"); // magic
    message.extend([1, 0]); // version
    message.extend([112, 0]); // length of the header
    message.extend([0x20, 0, 0, 0]); // flags: held
    message.extend([1, 0, 0, 0]); // float32
    message.extend([0xEE, 0, 0, 0, 0, 0, 0, 0]); // epoch
    message.extend([sequence, 0, 0, 0, 0, 0, 0, 0]);
    message.extend([41, 0, 0, 0, 0, 0, 0, 0]); // bin index
    message.extend([0x40, 0x42, 0x0F, 0, 0, 0, 0, 0]); // bin end: 1 ms
    for time in [50, 51, 52, 53] {
        message.extend([time, 0, 0, 0, 0, 0, 0, 0]); // ingest, decode start and end, publication
    }
    message.extend([8, 7, 6, 5, 4, 3, 2, 1]); // model hash
    for count in [12, 13, 14, 15] {
        message.extend([count, 0, 0, 0]); // spikes in, refused, late, unknown
    }
    message.extend([2, 0, 0, 0, 3, 0, 0, 0]); // bins, units
    for value in [0.5f32, 1.0, 1.5, -2.0, -2.5, -3.0] {
        message.extend(value.to_le_bytes());
    }
    message
}
