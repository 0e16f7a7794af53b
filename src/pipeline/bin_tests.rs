//! Tests of the bin assembler.

use std::sync::Arc;

use proptest::prelude::*;

use super::bin::{BinAssembler, BinConfig};
use super::ring::{event_ring, EventWriter, WhenFull};
use crate::acquire::{EventSink, Pace, SpikeEvent};

const CONFIG: BinConfig = BinConfig {
    start_ns: 100,
    bin_ns: 20,
    history_ns: 50,
    grace_ns: 0,
    early_ns: 10,
    window_spikes: 100,
    pending_spikes: 1000,
};

fn ids(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| name.to_string()).collect()
}

fn assembler(config: BinConfig, sources: usize, pace: Pace) -> (BinAssembler, Vec<EventWriter>) {
    let model = ids(&["a", "b"]);
    let mut assembler = BinAssembler::new(config, model.len());
    let writers = (0..sources)
        .map(|_| {
            let (writer, reader) = event_ring(1024, WhenFull::Refuse, Arc::default());
            assert_eq!(
                assembler.add_source(reader, pace, &ids(&["b", "stranger", "a"]), &model),
                2
            );
            writer
        })
        .collect();
    (assembler, writers)
}

#[test]
fn a_bin_closes_when_the_clock_passes_its_end_with_or_without_spikes() {
    let (mut bins, mut writers) = assembler(CONFIG, 1, Pace::Clocked(1.0));
    writers[0].spikes(&[
        SpikeEvent::spike(105, 0),
        SpikeEvent::spike(115, 2),
        SpikeEvent::spike(120, 0),
    ]);
    writers[0].clock(119, 1_019);
    bins.ingest();
    assert!(bins.close_next().is_none());
    // The clock is seen at 141, one ns after bin 1 ended: it closed at host 1 040, and bin 0 at 1 020.
    writers[0].clock(141, 1_041);
    bins.ingest();
    let bin = bins.close_next().unwrap();
    assert_eq!(
        (bin.index, bin.end_ns, bin.close_host_ns, bin.spikes),
        (0, 120, 1_020, 2)
    );
    assert_eq!((bins.counts(), bins.early_counts()), (&[1, 1][..], &[0, 1][..]));
    assert!(!bins.history_is_complete(bin.end_ns));
    let bin = bins.close_next().unwrap();
    assert_eq!((bin.index, bin.close_host_ns, bins.counts()), (1, 1_040, &[0, 1][..]));
    assert!(bins.close_next().is_none());
    assert_eq!(bins.expected_close_ns(), Some(1_060));
    writers[0].clock(160, 1_060);
    bins.ingest();
    let bin = bins.close_next().unwrap();
    assert_eq!((bin.spikes, bins.counts()), (0, &[0, 0][..]));
    assert!(bins.history_is_complete(bin.end_ns));
    // The window [110, 160) has left 105 out.
    let mut times = [0.0; 100];
    assert_eq!(bins.window(bin.end_ns, &mut times), (&[5e-9, 10e-9][..], &[0, 1][..]));
}

#[test]
fn late_unknown_and_early_spikes_are_counted() {
    let (mut bins, mut writers) = assembler(CONFIG, 1, Pace::Clocked(1.0));
    writers[0].spikes(&[
        SpikeEvent::spike(99, 0),
        SpikeEvent::spike(101, 1),
        SpikeEvent::spike(102, 77),
    ]);
    writers[0].clock(120, 0);
    bins.ingest();
    bins.close_next().unwrap();
    writers[0].spikes(&[SpikeEvent::spike(119, 0), SpikeEvent::spike(121, 0)]);
    bins.ingest();
    let totals = bins.totals();
    assert_eq!(
        (totals.received, totals.before_start, totals.unknown, totals.late),
        (5, 1, 2, 1)
    );
    assert_eq!(bins.pending(), 1);
}

#[test]
fn grace_keeps_a_bin_open_for_late_spikes() {
    let (mut bins, mut writers) = assembler(BinConfig { grace_ns: 5, ..CONFIG }, 1, Pace::Clocked(1.0));
    writers[0].clock(124, 24);
    writers[0].spikes(&[SpikeEvent::spike(122, 0), SpikeEvent::spike(118, 0)]);
    bins.ingest();
    assert!(bins.close_next().is_none());
    writers[0].clock(126, 26);
    bins.ingest();
    let bin = bins.close_next().unwrap();
    assert_eq!((bin.spikes, bin.close_host_ns, bins.totals().late), (1, 25, 0));
}

#[test]
fn a_bin_waits_for_the_slowest_source_and_not_for_one_that_has_ended() {
    let (mut bins, mut writers) = assembler(CONFIG, 2, Pace::Clocked(1.0));
    writers[0].clock(200, 1_000);
    writers[1].spikes(&[SpikeEvent::spike(103, 0)]);
    writers[1].clock(119, 1_000);
    bins.ingest();
    assert!(bins.close_next().is_none());
    writers[1].clock(120, 1_001);
    bins.ingest();
    assert_eq!(
        bins.close_next().map(|bin| (bin.spikes, bin.close_host_ns)),
        Some((1, 1_001))
    );
    drop(writers.pop());
    bins.ingest();
    bins.ingest();
    assert_eq!(bins.close_next().map(|bin| bin.index), Some(1));
    assert!(!bins.is_finished());
}

#[test]
fn spikes_that_no_bin_can_hold_yet_are_refused_and_counted() {
    let (mut bins, mut writers) = assembler(
        BinConfig {
            pending_spikes: 0,
            ..CONFIG
        },
        1,
        Pace::Clocked(1.0),
    );
    let spikes: Vec<SpikeEvent> = (0..1024).map(|_| SpikeEvent::spike(110, 0)).collect();
    for _ in 0..2 {
        writers[0].spikes(&spikes);
        bins.ingest();
    }
    // The least that is kept is one chunk.
    assert_eq!((bins.pending(), bins.totals().overflowed), (1024, 1024));
}

proptest! {
    /// However the spikes are cut into pieces and shared between sources: the bins are those of the plain definition,
    /// and every spike is in exactly one count.
    #[test]
    fn bins_are_the_plain_histogram(
        mut times in prop::collection::vec(90i64..400, 0..300),
        cut in 1usize..50,
        sources in 1usize..4,
    ) {
        times.sort_unstable();
        let (mut bins, mut writers) = assembler(CONFIG, sources, Pace::AsFast);
        let mut closed = Vec::new();
        for piece in times.chunks(cut) {
            for (position, &time) in piece.iter().enumerate() {
                writers[position % sources].spikes(&[SpikeEvent::spike(time, (time % 3) as u32)]);
            }
            for writer in &mut writers {
                writer.clock(*piece.last().unwrap(), 0);
            }
            while bins.ingest() > 0 {
                while let Some(bin) = bins.close_next() {
                    closed.push((bin, bins.counts().to_vec()));
                }
            }
        }
        for (index, (bin, counts)) in closed.iter().enumerate() {
            prop_assert_eq!(bin.index, index as i64);
            let within = |time: &&i64| (bin.end_ns - 20..bin.end_ns).contains(*time);
            for (row, source_unit) in [(0, 2), (1, 0)] {
                let expected = times.iter().filter(within).filter(|&&time| time % 3 == source_unit).count();
                prop_assert_eq!(counts[row], expected as u32);
            }
        }
        let totals = bins.totals();
        let ended = totals.binned + totals.unknown + totals.late + totals.before_start + totals.overflowed;
        prop_assert_eq!(totals.received, times.len() as u64);
        prop_assert_eq!(totals.received, ended + bins.pending());
        prop_assert_eq!(totals.late + totals.overflowed, 0);
    }
}
