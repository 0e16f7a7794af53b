//! Messages written by hand from the plugins' layouts.

use proptest::prelude::*;

use super::*;

/// Tetrode 5 of node 300 in stream 258; sample 0x0102030405060708; 1.5 s; sorted unit 3; thresholds, and one sample a channel.
const RAW_TETRODE: &[u8] = b"\x02\x03\x2C\x01\x02\x01\x05\x00\x08\x07\x06\x05\x04\x03\x02\x01\
\x00\x00\x00\x00\x00\x00\xF8\x3F\x03\x00\
\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";

const JSON: &[u8] = b"{\r\n  \"event_type\": \"spike\",\r\n  \"stream\": \"Probe A\",\r\n  \"source_node\": 101,\r\n  \
\"electrode\": \"Electrode 1\",\r\n  \"num_channels\": 1,\r\n  \"sample_rate\": 30000.0,\r\n  \"sample_number\": 4200000000,\r\n  \
\"sorted_id\": 2,\r\n  \"amp1\": 53.25\r\n}";

const TTL_JSON: &[u8] =
    b"{\"event_type\": \"ttl\", \"stream\": \"Probe A\", \"source_node\": 101, \"sample_rate\": 30000.0, \
\"channel_name\": \"TTL\", \"sample_number\": 12, \"line\": 3, \"state\": true}";

const LEGACY_JSON: &[u8] = b"{\"type\": \"spike\", \"sortedID\": 1, \"numChannels\": 4, \"threshold\": [1, 2, 3, 4], \
\"timing\": {\"sampleRate\": 30000, \"timestamp\": 23384}, \"identifier\": \"spikesource\", \"name\": \"TT1\", \"metaData\": []}";

const INTERFACE_SPIKE: &[u8] =
    b"{\"message_num\": 7, \"type\": \"spike\", \"spike\": {\"stream\": \"Probe A\", \"source_node\": 101, \
\"electrode\": \"Electrode \\u0031\", \"sample_num\": 99, \"num_channels\": 1, \"num_samples\": 1, \"sorted_id\": 4, \
\"threshold\": [-50]}, \"timestamp\": 1700000000000}";

const INTERFACE_DATA: &[u8] = b"{\"message_num\": 10, \"type\": \"data\", \"content\": {\"stream\": \"Probe A\", \
\"channel_num\": 0, \"channel_name\": \"CH1\", \"num_samples\": 1, \"sample_num\": 0, \"sample_rate\": 30000}, \
\"data_size\": 4, \"timestamp\": 1700000000000}";

fn parse<'a>(frames: &[&'a [u8]]) -> (Option<OpenEphysSpike<'a>>, MessageCounts) {
    let mut parser = MessageParser::new(false);
    (parser.push(frames), parser.counts())
}

fn text(name: &str) -> Name<'_> {
    Name::Text(name.into())
}

#[test]
fn golden_messages_of_every_form_are_read() {
    let raw = |form| OpenEphysSpike {
        form,
        stream: Name::Number(258),
        electrode: Name::Number(5),
        sample: 0x0102_0304_0506_0708,
        sample_rate_hz: None,
        unit: 3,
    };
    assert_eq!(parse(&[&[1, 0], RAW_TETRODE]).0, Some(raw(Form::Raw)));
    assert_eq!(parse(&[&[2, 0], &[0; 8], RAW_TETRODE]).0, Some(raw(Form::LegacyRaw)));
    let json = OpenEphysSpike {
        form: Form::Json,
        stream: text("Probe A"),
        electrode: text("Electrode 1"),
        sample: 4_200_000_000,
        sample_rate_hz: Some(30_000.0),
        unit: 2,
    };
    assert_eq!(parse(&[&[1, 0], JSON]).0, Some(json));
    let legacy = OpenEphysSpike {
        form: Form::LegacyJson,
        stream: Name::None,
        electrode: text("TT1"),
        sample: 23_384,
        sample_rate_hz: Some(30_000.0),
        unit: 1,
    };
    assert_eq!(
        parse(&[b"spike/sortedid:1/id:spikesource/ts:23384", LEGACY_JSON]).0,
        Some(legacy)
    );
    let interface = OpenEphysSpike {
        form: Form::ZmqInterface,
        stream: text("Probe A"),
        electrode: text("Electrode 1"),
        sample: 99,
        sample_rate_hz: None,
        unit: 4,
    };
    assert_eq!(parse(&[b"EVENT\0", INTERFACE_SPIKE, &[0; 4]]).0, Some(interface));
}

#[test]
fn events_and_samples_are_no_spikes_and_no_faults() {
    for frames in [
        &[&[0u8, 0][..], TTL_JSON][..],
        // A raw TTL event of 34 bytes.
        &[
            &[0, 0],
            b"\x01\x03\x65\0\0\0\0\0\x0C\0\0\0\0\0\0\0\0\0\0\0\0\0\xF0\xBF\x03\x01\x08\0\0\0\0\0\0\0",
        ],
        &[&[1, 0], &[0; 8], b"\x01\x03"],
        &[b"ttl/id:events/ts:12", b"{}"],
        &[b"DATA\0", INTERFACE_DATA, &[0; 4]],
        &[
            b"EVENT\0",
            b"{\"message_num\": 1, \"type\": \"event\", \"content\": {}}",
            &[0; 10],
        ],
    ] {
        let (spike, counts) = parse(frames);
        assert_eq!((spike, counts.other, counts.malformed), (None, 1, 0), "{frames:?}");
    }
}

#[test]
fn what_is_broken_is_counted_with_its_bytes() {
    let no_rate = JSON
        .iter()
        .map(|&byte| if byte == b'3' { b'0' } else { byte })
        .collect::<Vec<u8>>();
    let mut invalid = RAW_TETRODE.to_vec();
    invalid[1] = 100;
    let long = vec![b'{'; LONGEST + 1];
    for frames in [
        &[][..],
        &[&[1u8, 0][..]][..],
        &[&[1, 0], b""],
        &[&[2, 0], RAW_TETRODE],
        &[&[1, 0], &RAW_TETRODE[1..]],
        &[&[1, 0], &invalid],
        &[&[1, 0], &no_rate],
        &[&[1, 0], &long],
        // A TTL event is not announced as a spike.
        &[&[1, 0], TTL_JSON],
        &[&[9, 0], &[0; 8], RAW_TETRODE],
        &[b"spike/", TTL_JSON],
        &[b"EVENT\0", b"{\"type\": \"spike\"}", &[0; 4]],
        &[b"EVENT\0", INTERFACE_SPIKE],
        &[&[1, 0], JSON, JSON, JSON],
    ] {
        let bytes: usize = frames.iter().map(|frame| frame.len()).sum();
        let (spike, counts) = parse(frames);
        assert_eq!((spike, counts.malformed, counts.discarded), (None, 1, bytes as u64));
    }
    // JSON that nests without end is no way to run out of stack.
    let deep = ["{\"event_type\": ", &"[".repeat(100_000)].concat();
    assert_eq!(parse(&[&[1, 0], deep.as_bytes()]).1.malformed, 1);
}

#[test]
fn messages_cut_short_are_refused_at_every_length() {
    for length in 0..RAW + 32 {
        assert_eq!(parse(&[&[1, 0], &RAW_TETRODE[..length]]).0, None, "{length} bytes");
    }
    for length in 0..JSON.len() {
        assert_eq!(parse(&[&[1, 0], &JSON[..length]]).0, None, "{length} bytes");
    }
    for length in 0..INTERFACE_SPIKE.len() {
        assert_eq!(
            parse(&[b"EVENT\0", &INTERFACE_SPIKE[..length], &[]]).0,
            None,
            "{length} bytes"
        );
    }
}

#[test]
fn a_message_that_comes_twice_is_one_spike_where_numbers_tell() {
    for (numbered, spikes, duplicates) in [(true, 1, 1), (false, 2, 0)] {
        let mut parser = MessageParser::new(numbered);
        let frames = [&b"EVENT\0"[..], INTERFACE_SPIKE, &[0; 4]];
        assert!(parser.push(&frames).is_some());
        assert_eq!(parser.push(&frames).is_some(), !numbered);
        let counts = parser.counts();
        assert_eq!((counts.spikes, counts.duplicates, counts.lost), (spikes, duplicates, 0));
    }
}

#[test]
fn a_corrupted_byte_costs_at_most_its_message() {
    for golden in [RAW_TETRODE, JSON] {
        for at in 0..golden.len() {
            let mut parser = MessageParser::new(false);
            let mut broken = golden.to_vec();
            broken[at] ^= 0x80;
            parser.push(&[&[1, 0], &broken]);
            assert!(parser.push(&[&[1, 0], golden]).is_some(), "byte {at}");
            assert_eq!(parser.counts().messages, 2);
        }
    }
    // JSON is no text any more with a byte above 0x7F in it.
    let mut broken = JSON.to_vec();
    broken[30] ^= 0x80;
    assert_eq!(parse(&[&[1, 0], &broken]).1.malformed, 1);
}

#[test]
fn missing_numbers_are_losses_where_every_message_is_taken() {
    let spike = |number: u32| format!("{{\"message_num\": {number}, \"type\": \"event\", \"content\": {{}}}}");
    for (numbered, lost) in [(true, 5), (false, 0)] {
        let mut parser = MessageParser::new(numbered);
        // 12 to 14 are missing; then the plugin begins anew, and 1 and 2 are missing.
        for number in [10, 11, 15, 0, 3] {
            if number == 0 {
                parser.reconnected();
            }
            parser.push(&[b"EVENT\0", spike(number).as_bytes(), &[]]);
        }
        assert_eq!((parser.counts().lost, parser.counts().other), (lost, 5));
    }
}

#[test]
fn numbers_tell_what_comes_late_from_what_comes_twice() {
    let spike = |number: u32| format!("{{\"message_num\": {number}, \"type\": \"event\", \"content\": {{}}}}");
    let mut parser = MessageParser::new(true);
    for number in [0, 1, 4, 2, 4, 3, 1, 5] {
        parser.push(&[b"EVENT\0", spike(number).as_bytes(), &[]]);
    }
    let counts = parser.counts();
    assert_eq!((counts.lost, counts.duplicates, counts.other), (0, 2, 6));
}

proptest! {
    #[test]
    fn every_message_is_in_one_count(
        messages in prop::collection::vec(prop::collection::vec(prop_oneof![
            Just(vec![1u8, 0]), Just(vec![2, 0]), Just(vec![0; 8]), Just(RAW_TETRODE.to_vec()), Just(JSON.to_vec()),
            Just(LEGACY_JSON.to_vec()), Just(INTERFACE_SPIKE.to_vec()), Just(b"EVENT\0".to_vec()), Just(b"spike/".to_vec()),
            prop::collection::vec(any::<u8>(), 0..40),
        ], 0..5), 0..20),
    ) {
        let mut parser = MessageParser::new(true);
        let mut spikes = 0;
        for message in &messages {
            let frames: Vec<&[u8]> = message.iter().map(Vec::as_slice).collect();
            spikes += u64::from(parser.push(&frames).is_some());
        }
        let counts = parser.counts();
        prop_assert_eq!((counts.messages, counts.spikes), (messages.len() as u64, spikes));
        prop_assert_eq!(counts.messages, counts.spikes + counts.other + counts.malformed + counts.duplicates);
    }
}
