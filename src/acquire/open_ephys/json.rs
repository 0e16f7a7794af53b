//! The JSON of messages. Unknown keys are passed over: there are waveforms and metadata among them.

use std::borrow::Cow;

use serde::Deserialize;

/// Text that is borrowed from the message where nothing in it is escaped.
pub(super) type Text<'a> = Cow<'a, str>;

/// What the Event Broadcaster says, of spikes and TTL events.
#[derive(Debug, Deserialize)]
pub(super) struct Event<'a> {
    #[serde(borrow)]
    pub event_type: Text<'a>,
    #[serde(borrow, default)]
    pub stream: Text<'a>,
    #[serde(borrow, default)]
    pub electrode: Text<'a>,
    #[serde(default)]
    pub sample_rate: f64,
    pub sample_number: i64,
    #[serde(default)]
    pub sorted_id: u16,
}

/// What the Event Broadcaster of 2021 says of a spike.
#[derive(Debug, Deserialize)]
pub(super) struct LegacySpike<'a> {
    #[serde(borrow)]
    pub name: Text<'a>,
    #[serde(rename = "sortedID")]
    pub sorted_id: u16,
    pub timing: LegacyTiming,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct LegacyTiming {
    pub sample_rate: f64,
    pub timestamp: i64,
}

/// What the ZMQ Interface says of everything.
#[derive(Debug, Deserialize)]
pub(super) struct Header<'a> {
    pub message_num: Option<u64>,
    #[serde(borrow, rename = "type")]
    pub kind: Text<'a>,
    #[serde(borrow)]
    pub spike: Option<HeaderSpike<'a>>,
}

#[derive(Debug, Deserialize)]
pub(super) struct HeaderSpike<'a> {
    #[serde(borrow, default)]
    pub stream: Text<'a>,
    #[serde(borrow)]
    pub electrode: Text<'a>,
    pub sample_num: i64,
    pub sorted_id: u16,
}
