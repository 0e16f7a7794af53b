//! Files that are whole, cut off, damaged, or no recordings at all.

use std::path::Path;

use proptest::prelude::*;
use serde_json::json;

use super::format::{begin, file_head, seal, Kind};
use super::header::{BinsHeader, RunHeader, SeriesHeader, SourceHeader};
use super::replay::Comparison;
use super::requests::{ChangingRequest, RequestChunk};
use super::tables::{LeftOut, Tables};
use super::{Ending, RecordReader};
use crate::acquire::SpikeEvent;
use crate::pipeline::entry::{self, Entry};
use crate::pipeline::message::{flags, MessageHeader};

fn header() -> RunHeader {
    RunHeader {
        program: "0".into(),
        created_unix_ns: 1,
        created_monotonic_ns: 2,
        epoch: u64::MAX,
        arguments: vec!["run".into()],
        config: "[simulate]\n".into(),
        model: serde_json::Value::Null,
        latents: "off".into(),
        checkpoint: None,
        description: "test".into(),
        model_hash: "07".into(),
        unit_ids: vec!["unit0001".into()],
        bins: BinsHeader {
            start_ns: -5,
            bin_ns: 20,
            history_ns: 100,
            grace_ns: 0,
            horizon_bins: 2,
            ring_events: 1_024,
        },
        sources: vec![SourceHeader {
            name: "test".into(),
            unit_ids: vec!["unit0001".into(), "unit0007".into()],
            series: Vec::new(),
        }],
        series: vec![SeriesHeader {
            name: "hand".into(),
            unit: "m".into(),
            channels: 2,
        }],
        outputs: Vec::new(),
        mean_log_rate_bits: vec![f64::NEG_INFINITY.to_bits(), 0.1f64.to_bits()],
        means_from: "nothing".into(),
        observed_ns: vec![[0, 5]],
        recent_history: Some(vec![1.5f32.to_bits(), f32::NAN.to_bits()]),
    }
}

/// A small file, and where each of its chunks ends.
fn file(chunks: &[(Kind, Vec<u8>)]) -> (Vec<u8>, Vec<usize>) {
    let mut bytes = file_head().to_vec();
    let mut ends = Vec::new();
    for (number, (kind, content)) in chunks.iter().enumerate() {
        let mut chunk = Vec::new();
        begin(&mut chunk);
        chunk.extend_from_slice(content);
        seal(&mut chunk, *kind, number as u64);
        bytes.extend(chunk);
        ends.push(bytes.len());
    }
    (bytes, ends)
}

fn small() -> (Vec<u8>, Vec<usize>) {
    let put = |put: &dyn Fn(&mut Vec<u8>)| {
        let mut out = Vec::new();
        put(&mut out);
        out
    };
    let mut message = MessageHeader::new(7, 2, 1);
    message.bin_index = 4;
    let events = [SpikeEvent::host_time(9), SpikeEvent::spike(3, 1), SpikeEvent::clock(20)];
    let sample = put(&|out| entry::put_sample(out, (0, 0), 5, true, &[1.0, f32::NAN]));
    let prediction = put(&|out| {
        entry::put_prediction(out, bytemuck::bytes_of(&message), bytemuck::cast_slice(&[0.5f32, -0.5]));
    });
    file(&[
        (Kind::Header, serde_json::to_vec(&header()).unwrap()),
        (
            Kind::Ingested,
            [put(&|out| entry::put_events(out, 0, &events)), sample].concat(),
        ),
        (Kind::Ingested, put(&|out| entry::put_closed(out, 0, 0))),
        (Kind::Published, prediction),
        (Kind::Summary, b"{\"outcome\": \"finished\"}".to_vec()),
    ])
}

/// The entries of these bytes, and how they end; nothing where they cannot be opened.
fn read(path: &Path, bytes: &[u8]) -> Option<(Vec<String>, Ending)> {
    std::fs::write(path, bytes).unwrap();
    let mut reader = RecordReader::open(path).ok()?;
    let mut all = Vec::new();
    while let Some((_, entries)) = reader.next_entries().unwrap() {
        all.extend(entries.iter().map(|entry: &Entry| format!("{entry:?}")));
    }
    Some((all, reader.ending().cloned().unwrap()))
}

fn with_path<T>(test: impl FnOnce(&Path) -> T) -> T {
    let folder = tempfile::tempdir().unwrap();
    test(&folder.path().join("r.nhr"))
}

#[test]
fn a_whole_file_is_read_whole() {
    with_path(|path| {
        let (bytes, _) = small();
        let (entries, ending) = read(path, &bytes).unwrap();
        assert_eq!(entries.len(), 4);
        assert!(matches!(ending, Ending::Whole { summary } if summary["outcome"] == "finished"));
        let tables = Tables::read(path).unwrap();
        assert_eq!(tables.header, header());
        assert_eq!((&tables.spikes[..], tables.lost), (&[(3, 1)][..], 0));
        assert_eq!(tables.series[0].times_ns, [5]);
        assert_eq!(tables.predictions.array, [0.5, -0.5]);
        assert_eq!(tables.unit_numbers(), [1, 7]);
    });
}

fn prediction(bin: i64, array: &[f32], units: usize, change: impl Fn(&mut MessageHeader)) -> Vec<u8> {
    // A hash that no signed number has.
    let mut header = MessageHeader::new(0xC << 60, array.len() / units, units);
    header.bin_index = bin;
    change(&mut header);
    let mut out = Vec::new();
    entry::put_prediction(&mut out, bytemuck::bytes_of(&header), bytemuck::cast_slice(array));
    out
}

/// Whole, shortened, and of shapes that the run did not name.
fn of_many_shapes() -> Vec<u8> {
    let published = [
        prediction(0, &[0.5, -0.5], 1, |header| {
            (header.spikes_in, header.spikes_refused) = (4, 5);
            (header.spikes_late, header.spikes_unknown) = (6, 7);
        }),
        prediction(1, &[1.5], 1, |header| {
            header.flags = crate::pipeline::message::flags::SHORTENED
        }),
        prediction(2, &[2.5, 3.5, 4.5], 1, |_| {}),
        prediction(3, &[2.5, 3.5], 2, |_| {}),
        prediction(4, &[5.5, 6.5], 1, |_| {}),
    ];
    let mut odd = Vec::new();
    entry::put_sample(&mut odd, (0, 3), 5, true, &[1.0]);
    let mut events = Vec::new();
    entry::put_events(&mut events, 0, &[SpikeEvent::spike(3, 9), SpikeEvent::clock(20)]);
    let chunks = [
        (Kind::Header, serde_json::to_vec(&header()).unwrap()),
        (Kind::Ingested, [odd, events].concat()),
        (Kind::Published, published.concat()),
        (Kind::Summary, b"{}".to_vec()),
    ];
    file(&chunks).0
}

#[test]
fn a_shortened_prediction_is_exported_with_nan_where_it_has_none() {
    with_path(|path| {
        std::fs::write(path, of_many_shapes()).unwrap();
        let tables = Tables::read(path).unwrap();
        let table = &tables.predictions;
        assert_eq!(table.column(|header| header.bin_index), [0, 1, 4]);
        assert_eq!(table.column(|header| header.bins), [2, 1, 2]);
        let bits = |values: &[f32]| values.iter().map(|value| value.to_bits()).collect::<Vec<_>>();
        assert_eq!(bits(&table.array), bits(&[0.5, -0.5, 1.5, f32::NAN, 5.5, 6.5]));
        let left_out = LeftOut {
            messages: 2,
            samples: 1,
            spikes: 1,
        };
        assert_eq!(tables.left_out, left_out);
        let missing = tables.missing();
        assert_eq!(missing.len(), 3, "{missing:?}");
        assert!(missing[0].starts_with("2 predictions or outputs"), "{missing:?}");
    });
}

#[test]
fn what_the_headers_count_is_in_both_files() {
    with_path(|path| {
        std::fs::write(path, of_many_shapes()).unwrap();
        let tables = Tables::read(path).unwrap();
        let archive = path.with_extension("npz");
        std::fs::write(&archive, super::export::npz(&tables).unwrap()).unwrap();
        let mut arrays = crate::data::arrays::ArrayFile::open(&archive).unwrap();
        let nwb = hdf5_pure::File::from_bytes(super::nwb::nwb(&tables).unwrap()).unwrap();
        for (name, expected) in [
            ("predicted_bins", [2, 1, 2]),
            ("flags", [0, 1 << 19, 0]),
            ("spikes_in", [4, 0, 0]),
            ("spikes_refused", [5, 0, 0]),
            ("spikes_late", [6, 0, 0]),
            ("spikes_unknown", [7, 0, 0]),
        ] {
            let (_, column) = arrays.take_f32(name, 1).unwrap();
            assert_eq!(column, expected.map(|count| count as f32), "{name}");
            let dataset = nwb
                .dataset(&format!("processing/neurohorizon/prediction_{name}/data"))
                .unwrap();
            assert_eq!(dataset.read_u32().unwrap(), expected, "{name}");
        }
        let (_, hashes) = arrays.take_f32("model_hash", 1).unwrap();
        assert_eq!(hashes, [(0xC_u64 << 60) as f32; 3]);
        let dataset = nwb
            .dataset("processing/neurohorizon/prediction_model_hash/data")
            .unwrap();
        assert_eq!(dataset.read_u64().unwrap(), [0xC << 60; 3]);
        for (name, expected) in [
            ("left_out_messages", 2),
            ("left_out_samples", 1),
            ("left_out_spikes", 1),
            ("entries_lost", 0),
            ("damaged_chunks", 0),
        ] {
            assert_eq!(arrays.take_whole_number(name).unwrap(), expected, "{name}");
        }
        assert!(nwb.dataset("general/notes").is_ok());
    });
}

#[test]
fn requests_are_in_both_files_and_those_that_are_not_are_counted() {
    with_path(|path| {
        let of = |host_ns, command: &str| ChangingRequest {
            host_ns,
            from: "control".into(),
            request: json!({ "command": command }),
            answer: json!({"ok": true}),
        };
        let chunk = |left_out, requests: &[ChangingRequest]| {
            let requests = requests.to_vec();
            (
                Kind::Requests,
                serde_json::to_vec(&RequestChunk { left_out, requests }).unwrap(),
            )
        };
        let requests = [of(2_000_000_002, "stop"), of(3, "release"), of(4, "recalibrate")];
        let (bytes, ends) = file(&[
            (Kind::Header, serde_json::to_vec(&header()).unwrap()),
            chunk(2, &requests[..2]),
            chunk(0, &requests[2..]),
            chunk(5, &[]),
            (Kind::Summary, b"{}".to_vec()),
        ]);
        std::fs::write(path, &bytes).unwrap();
        let tables = Tables::read(path).unwrap();
        assert_eq!((&tables.requests[..], tables.requests_left_out), (&requests[..], 7));
        let missing = tables.missing();
        assert!(
            missing.len() == 1 && missing[0].starts_with("7 requests"),
            "{missing:?}"
        );
        let archive = path.with_extension("npz");
        std::fs::write(&archive, super::export::npz(&tables).unwrap()).unwrap();
        let mut arrays = crate::data::arrays::ArrayFile::open(&archive).unwrap();
        assert_eq!(arrays.take_whole_number("requests_left_out").unwrap(), 7);
        let (_, times) = arrays.take_f32("request_host_ns", 1).unwrap();
        assert_eq!(times, [2_000_000_002.0, 3.0, 4.0]);
        let nwb = hdf5_pure::File::from_bytes(super::nwb::nwb(&tables).unwrap()).unwrap();
        let column = |name: &str| {
            nwb.dataset(&format!("processing/neurohorizon/requests/{name}"))
                .unwrap()
        };
        // It began at 1 ns of the one clock, which is 2 ns of the other.
        assert_eq!(column("unix_time_s").read_f64().unwrap()[0], 2_000_000_001.0 * 1e-9);
        let commands = column("request").read_string().unwrap();
        assert_eq!(commands[2], r#"{"command":"recalibrate"}"#);
        // Damaged requests are left out like other chunks.
        let mut damaged = bytes.clone();
        damaged[ends[1] - 1] ^= 1;
        std::fs::write(path, damaged).unwrap();
        let tables = Tables::read(path).unwrap();
        assert_eq!((&tables.requests[..], tables.requests_left_out), (&requests[2..], 5));
        assert_eq!(tables.damage.len(), 1);
    });
}

#[test]
fn a_recording_of_version_1_is_read() {
    with_path(|path| {
        let (mut bytes, _) = small();
        let (all, _) = read(path, &bytes).unwrap();
        bytes[4] = 1;
        assert_eq!(read(path, &bytes).unwrap().0, all);
        bytes[4] = 3;
        assert!(read(path, &bytes).is_none());
    });
}

#[test]
fn an_export_goes_on_behind_every_damaged_byte() {
    with_path(|path| {
        let (bytes, ends) = small();
        for at in ends[0]..ends[3] {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << (at % 8);
            std::fs::write(path, damaged).unwrap();
            let tables = Tables::read(path).unwrap();
            let hit = ends.iter().filter(|&&end| end <= at).count();
            let [damage] = &tables.damage[..] else {
                panic!("{at}: {:?}", tables.damage)
            };
            let (begin, end) = (ends[hit - 1] as u64, ends[hit] as u64);
            assert_eq!(
                (damage.at, damage.bytes, damage.chunks),
                (begin, end - begin, 1),
                "{at}"
            );
            // Everything that lies in other chunks.
            assert_eq!(tables.spikes.len(), usize::from(hit != 1), "{at}");
            assert_eq!(tables.series.len(), usize::from(hit != 1), "{at}");
            assert_eq!(tables.predictions.headers.len(), usize::from(hit != 3), "{at}");
            assert!(matches!(tables.ending, Ending::Whole { .. }), "{at}");
            assert_eq!(tables.missing().len(), 1, "{at}");
        }
    });
}

#[test]
fn chunks_that_are_missing_doubled_or_far_behind_damage_are_told_apart() {
    with_path(|path| {
        let (bytes, ends) = small();
        let damage = |bytes: &[u8]| {
            std::fs::write(path, bytes).unwrap();
            let tables = Tables::read(path).unwrap();
            assert_eq!((tables.spikes.len(), tables.predictions.headers.len()), (1, 1));
            assert!(matches!(tables.ending, Ending::Whole { .. }), "{:?}", tables.ending);
            let pieces = tables.damage.iter().map(|damage| (damage.bytes, damage.chunks));
            pieces.collect::<Vec<_>>()
        };
        let without = [&bytes[..ends[1]], &bytes[ends[2]..]].concat();
        assert_eq!(damage(&without), [(0, 1)]);
        let doubled = [&bytes[..ends[2]], &bytes[ends[1]..]].concat();
        assert_eq!(damage(&doubled), [((ends[2] - ends[1]) as u64, 0)]);
        // Farther than is read at once, and across the border of two reads.
        for length in [5, (1 << 20) - 3, (1 << 20) + 1, (17 << 20) + 11] {
            let foreign = [&bytes[..ends[2]], &vec![b'N'; length][..], &bytes[ends[2]..]].concat();
            assert_eq!(damage(&foreign), [(length as u64, 0)]);
        }
        // Damaged chunks side by side are one piece.
        let mut twice = bytes.clone();
        twice[ends[1] + 30] ^= 1;
        twice[ends[3] - 1] ^= 1;
        std::fs::write(path, twice).unwrap();
        let tables = Tables::read(path).unwrap();
        assert_eq!(tables.damage.len(), 1);
        assert_eq!((tables.damage[0].chunks, tables.spikes.len()), (2, 1));
    });
}

/// What looks like many long chunks would otherwise be checksummed as often.
#[test]
fn what_looks_like_many_long_chunks_is_not_looked_into_without_end() {
    let (mut bytes, ends) = small();
    bytes.truncate(ends[0]);
    let heads = 100_000;
    for head in 0..heads {
        let mut chunk = Vec::new();
        begin(&mut chunk);
        seal(&mut chunk, Kind::Ingested, 1);
        let left = ((heads - head - 1) * chunk.len()) as u32;
        chunk[16..20].copy_from_slice(&left.to_le_bytes());
        bytes.extend(chunk);
    }
    with_path(|path| {
        let (_, ending) = read(path, &bytes).unwrap();
        assert!(!matches!(ending, Ending::Whole { .. }), "{ending:?}");
        assert!(Tables::read(path).is_ok());
    });
}

#[test]
fn sizes_that_no_run_has_are_refused() {
    let refused = |change: &dyn Fn(&mut RunHeader)| {
        let mut absurd = header();
        change(&mut absurd);
        absurd.check().unwrap_err()
    };
    assert!(header().check().is_ok());
    assert!(refused(&|header| header.bins.ring_events = 1 << 62).contains("rings of"));
    assert!(refused(&|header| header.bins.ring_events = 0).contains("rings of 0"));
    for channels in [0, 1 << 62] {
        assert!(refused(&|header| header.series[0].channels = channels).contains("channels"));
        let of_a_source = |header: &mut RunHeader| {
            let mut series = header.series.clone();
            series[0].channels = channels;
            header.sources[0].series = series;
        };
        assert!(refused(&of_a_source).contains("channels"));
    }
}

/// A bin that was stood in for has no counts; whoever comes next has them.
#[test]
fn counts_of_a_bin_that_was_stood_in_for_are_not_compared() {
    let counted = |bin: i64, spikes_in: u32, flags: u32| {
        prediction(bin, &[0.5, -0.5], 1, |header| {
            header.spikes_in = spikes_in;
            header.flags = flags;
        })
    };
    let stood_in = flags::NEUTRAL | flags::SKIPPED;
    let compared = |recorded: [Vec<u8>; 4], replayed: [Vec<u8>; 4]| {
        let recorded = Entry::parse_all(&recorded.concat()).unwrap();
        let mut comparison = Comparison::new(recorded.into_iter());
        comparison.take(Entry::parse_all(&replayed.concat()).unwrap());
        comparison.finish()
    };
    let replayed = || [counted(0, 5, 0), counted(1, 5, 0), counted(2, 5, 0), counted(3, 5, 0)];
    let recorded = [
        counted(0, 5, 0),
        counted(1, 0, stood_in),
        counted(2, 10, 0),
        counted(3, 5, 0),
    ];
    let report = compared(recorded, replayed());
    assert_eq!((report.compared, report.equal, report.not_full), (3, 3, 1));
    assert_eq!(report.first_difference, None);
    // Where nothing was stood in for they are.
    let other = [counted(0, 5, 0), counted(1, 5, 0), counted(2, 6, 0), counted(3, 5, 0)];
    let report = compared(other, replayed());
    assert_eq!(report.first_difference.map(|difference| difference.bin), Some(2));
}

#[test]
fn wherever_it_is_cut_off_only_the_last_chunk_is_lost() {
    with_path(|path| {
        let (bytes, ends) = small();
        let (all, _) = read(path, &bytes).unwrap();
        // Entries up to the end of each chunk.
        let up_to = [0, 2, 3, 4, 4];
        for length in 0..bytes.len() {
            let found = read(path, &bytes[..length]);
            let whole = ends.iter().filter(|&&end| end <= length).count();
            if whole == 0 {
                assert!(found.is_none(), "{length}");
                continue;
            }
            let (entries, ending) = found.unwrap();
            assert_eq!(entries, all[..up_to[whole - 1]], "{length}");
            let at = ends[whole - 1];
            let left_over = (length - at) as u64;
            assert_eq!(
                ending,
                Ending::CutOff {
                    at: at as u64,
                    left_over
                },
                "{length}"
            );
        }
    });
}

#[test]
fn every_damaged_byte_is_found() {
    with_path(|path| {
        let (bytes, ends) = small();
        let (all, _) = read(path, &bytes).unwrap();
        for at in 0..bytes.len() {
            let mut damaged = bytes.clone();
            damaged[at] ^= 1 << (at % 8);
            let Some((entries, ending)) = read(path, &damaged) else {
                assert!(at < ends[0], "{at}");
                continue;
            };
            assert!(entries.len() <= all.len() && entries == all[..entries.len()], "{at}");
            // What comes before the damage is still there, and damage is told from an end.
            let before = ends.iter().filter(|&&end| end <= at).count();
            assert_eq!(entries.len(), [0, 0, 2, 3, 4][before], "{at}");
            match ending {
                Ending::Whole { .. } => panic!("byte {at}"),
                Ending::Damaged { at: found, .. } => assert_eq!(found as usize, ends[before - 1]),
                Ending::CutOff { .. } => assert_eq!(before, 4, "{at}"),
            }
        }
    });
}

#[test]
fn a_chunk_that_is_missing_or_doubled_is_found() {
    with_path(|path| {
        let (bytes, ends) = small();
        let without = [&bytes[..ends[1]], &bytes[ends[2]..]].concat();
        assert!(matches!(read(path, &without).unwrap().1, Ending::Damaged { .. }));
        let doubled = [&bytes[..ends[2]], &bytes[ends[1]..]].concat();
        assert!(matches!(read(path, &doubled).unwrap().1, Ending::Damaged { .. }));
        let behind = [&bytes[..], &[0]].concat();
        assert!(!matches!(read(path, &behind).unwrap().1, Ending::Whole { .. }));
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Nothing that a file says makes the reader panic, even where its checksums are right.
    #[test]
    fn whatever_chunks_hold_is_read_or_refused(
        chunks in prop::collection::vec((0usize..5, prop::collection::vec(any::<u8>(), 0..60)), 0..5),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
    ) {
        let kinds = [Kind::Header, Kind::Ingested, Kind::Published, Kind::Summary, Kind::Requests];
        let mut all = vec![(Kind::Header, serde_json::to_vec(&header()).unwrap())];
        all.extend(chunks.into_iter().map(|(kind, content)| (kinds[kind], content)));
        let (mut bytes, _) = file(&all);
        for (at, value) in damage {
            let at = at.index(bytes.len());
            bytes[at] = value;
        }
        with_path(|path| {
            read(path, &bytes);
            if let Ok(tables) = Tables::read(path) {
                super::export::npz(&tables).unwrap();
                super::nwb::nwb(&tables).unwrap();
            }
        });
    }
}
