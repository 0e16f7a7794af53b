//! Tests of what the decode thread keeps of other modalities.

use std::sync::Arc;

use proptest::prelude::*;

use super::bin::{BinAssembler, BinConfig};
use super::modalities::Modalities;
use super::ring::{event_ring, EventWriter, WhenFull};
use crate::acquire::{EventSink, Pace, Poll, SampledSeries, Source, SourceError};
use crate::model::conditions::{Samples, Tokens};
use crate::model::config::{ConditionConfig, ConditionKind, ModelConfig};

const MS: i64 = 1_000_000;
const BIN: i64 = 20 * MS;

/// Series only: what they hold is pushed by the tests.
struct Silent(Vec<SampledSeries>, Pace);

impl Source for Silent {
    fn name(&self) -> &str {
        "silent"
    }
    fn unit_ids(&self) -> &[String] {
        &[]
    }
    fn series(&self) -> &[SampledSeries] {
        &self.0
    }
    fn pace(&self) -> Pace {
        self.1
    }
    fn start_ns(&self) -> i64 {
        0
    }
    fn end_ns(&self) -> Option<i64> {
        None
    }
    fn start(&mut self, _host_ns: i64) {}
    fn poll(&mut self, _now_ns: i64, _sink: &mut dyn EventSink) -> Result<Poll, SourceError> {
        Ok(Poll::Finished)
    }
}

fn silent(series: &[(&str, usize)]) -> Box<dyn Source> {
    silent_at(series, Pace::Clocked(1.0))
}

fn silent_at(series: &[(&str, usize)], pace: Pace) -> Box<dyn Source> {
    let series = series.iter().map(|&(name, channels)| SampledSeries {
        name: name.into(),
        unit: String::new(),
        channels,
    });
    Box::new(Silent(series.collect(), pace))
}

fn condition(series: &str, kind: ConditionKind, step_s: f64, channels: usize) -> ConditionConfig {
    ConditionConfig {
        series: series.into(),
        kind,
        step_s,
        mean: vec![0.5; channels],
        deviation: vec![2.0; channels],
    }
}

/// A history of 100 ms; behaviour in steps of 30 ms, a stimulus in steps of 50 ms.
fn network() -> ModelConfig {
    ModelConfig {
        sequence_length: 0.16,
        pred_window: 0.06,
        conditions: vec![
            condition("hand", ConditionKind::Behaviour, 0.03, 2),
            condition("image", ConditionKind::Stimulus, 0.05, 1),
        ],
        ..ModelConfig::default()
    }
}

fn set_up(sources: &[Box<dyn Source>]) -> Result<(BinAssembler, Modalities, Vec<EventWriter>), String> {
    let config = BinConfig {
        start_ns: 0,
        bin_ns: BIN,
        history_ns: 100 * MS,
        grace_ns: 0,
        early_ns: 0,
        window_spikes: 10,
        pending_spikes: 10,
    };
    let mut bins = BinAssembler::new(config, 1);
    let mut writers = Vec::new();
    for _ in sources {
        let (writer, reader) = event_ring(1 << 12, WhenFull::Refuse, Arc::default());
        bins.add_source(reader, Pace::AsFast, &[], &["a".into()]);
        writers.push(writer);
    }
    let modalities = Modalities::new(Some(&network()), sources, &mut writers, false)?;
    Ok((bins, modalities, writers))
}

/// What the decode thread does when it looks: the ends of the bins that closed, and what each history showed.
fn look(bins: &mut BinAssembler, modalities: &mut Modalities) -> Vec<(i64, Vec<Tokens>, bool)> {
    let mut closed = Vec::new();
    loop {
        let mut taken = bins.ingest();
        loop {
            taken += modalities.take(bins);
            let Some(bin) = bins.close_next() else { break };
            modalities.bin_closed(bin.end_ns);
            let (tokens, silent) = modalities.shown(bin.end_ns);
            closed.push((bin.end_ns, tokens.to_vec(), silent));
            taken += 1;
        }
        if taken == 0 {
            return closed;
        }
    }
}

fn offline(config: &ConditionConfig, times_ns: &[i64], values: &[f32], end_ns: i64) -> Tokens {
    let mut tokens = Tokens::none(config, 0.1);
    tokens.fill(config, Samples { times_ns, values }, end_ns);
    tokens
}

proptest! {
    /// However they are cut into deliveries, and however far a source is ahead: every history shows what it shows offline.
    #[test]
    fn samples_in_time_are_shown_as_offline(
        hand in prop::collection::vec((-30i64..400, -3i8..5), 0..120),
        image in prop::collection::vec((-200i64..400, -3i8..5), 0..12),
        ticks in prop::collection::vec(1i64..70, 1..30),
    ) {
        let sources = [silent(&[("other", 3), ("image", 1), ("hand", 2)])];
        let (mut bins, mut modalities, mut writers) = set_up(&sources).unwrap();
        let sorted = |mut list: Vec<(i64, i8)>| {
            list.sort_by_key(|&(time, _)| time);
            // A missing value now and then.
            let value = |x: i8| if x == -3 { f32::NAN } else { f32::from(x) };
            list.into_iter().map(|(time, x)| (time * MS, value(x))).unzip::<i64, f32, Vec<_>, Vec<_>>()
        };
        let ((hand_ns, hand), (image_ns, image)) = (sorted(hand), sorted(image));
        let both: Vec<f32> = hand.iter().flat_map(|&x| [x, 1.0 - x]).collect();
        let (mut now, mut at, mut closed) = (-300 * MS, [0, 0], Vec::new());
        for tick in ticks {
            now += tick * 30 * MS / 2;
            while at[0] < hand_ns.len() && hand_ns[at[0]] < now {
                writers[0].sample(2, hand_ns[at[0]], &both[2 * at[0]..2 * at[0] + 2]);
                at[0] += 1;
            }
            while at[1] < image_ns.len() && image_ns[at[1]] < now {
                writers[0].sample(1, image_ns[at[1]], &image[at[1]..at[1] + 1]);
                at[1] += 1;
            }
            writers[0].clock(now, 0);
            closed.extend(look(&mut bins, &mut modalities));
        }
        let config = network();
        for (end_ns, shown, silent) in closed {
            let expected = [
                offline(&config.conditions[0], &hand_ns, &both, end_ns),
                offline(&config.conditions[1], &image_ns, &image, end_ns),
            ];
            prop_assert_eq!(silent, expected.iter().any(Tokens::is_empty));
            prop_assert_eq!(shown, expected);
        }
        let (counts, unknown) = modalities.counts();
        prop_assert_eq!((counts[0].in_time, counts[1].in_time), (at[0] as u64, at[1] as u64));
        prop_assert!(counts.iter().all(|each| each.late + each.lost() == 0) && unknown == 0);
    }
}

#[test]
fn late_samples_are_counted_and_shown_from_then_on() {
    let sources = [silent(&[("hand", 2)])];
    let (mut bins, mut modalities, mut writers) = set_up(&sources).unwrap();
    writers[0].sample(0, 5 * MS, &[1.0, 1.0]);
    writers[0].clock(100 * MS, 0);
    assert_eq!(look(&mut bins, &mut modalities).len(), 5);
    // Of a bin that has closed, behind one that has not.
    writers[0].sample(0, 101 * MS, &[3.0, 3.0]);
    writers[0].sample(0, 90 * MS, &[9.0, 9.0]);
    writers[0].clock(120 * MS, 0);
    let closed = look(&mut bins, &mut modalities);
    let config = &network().conditions[0];
    let (times, values) = ([90 * MS, 101 * MS], [9.0, 9.0, 3.0, 3.0]);
    assert_eq!(closed[0].1[0], offline(config, &times, &values, 120 * MS));
    let (counts, _) = modalities.counts();
    assert_eq!((counts[0].in_time, counts[0].late, counts[0].lost()), (2, 1, 0));
    assert_eq!(modalities.totals(), (3, 0, 1));
    // Nobody delivers the image: that is no silence of a source's.
    assert!(!closed[0].2 && counts[1].source.is_none() && counts[1].silent == 6);
    writers[0].clock(400 * MS, 0);
    let closed = look(&mut bins, &mut modalities);
    assert!(
        !closed[2].2 && closed[3].2 && closed[13].2,
        "silent once 90 ms of history have passed"
    );
}

#[test]
fn what_no_window_can_hold_is_refused_and_counted() {
    let sources = [silent(&[("hand", 2), ("image", 1)])];
    let (mut bins, mut modalities, mut writers) = set_up(&sources).unwrap();
    // A clock that has gone mad: everything lies in the future.
    for number in 0..1_500 {
        writers[0].sample(0, (1 << 50) + number, &[0.0, 0.0]);
    }
    writers[0].sample(0, 3 * MS, &[0.0; 3]);
    writers[0].sample(1, 3 * MS, &[7.0]);
    writers[0].clock(20 * MS, 0);
    let closed = look(&mut bins, &mut modalities);
    // The image behind them waits until they have been refused, and is late.
    assert_eq!((closed.len(), closed[0].1[0].len(), closed[0].1[1].len()), (1, 0, 0));
    look(&mut bins, &mut modalities);
    let (counts, _) = modalities.counts();
    assert_eq!(
        (
            counts[0].offered,
            counts[0].malformed,
            counts[0].received,
            counts[0].overflowed
        ),
        (1_501, 1, 1_500, 476)
    );
    // A bin of more samples than there is room for loses the oldest.
    for number in 0..1_300 {
        writers[0].sample(1, 21 * MS + number, &[number as f32]);
    }
    writers[0].clock(40 * MS, 0);
    let closed = look(&mut bins, &mut modalities);
    let (counts, _) = modalities.counts();
    assert_eq!(
        (counts[1].in_time, counts[1].late, counts[1].pushed_out),
        (1_300, 1, 277)
    );
    let expected = offline(&network().conditions[1], &[21 * MS], &[1_299.0], 40 * MS);
    assert_eq!(closed[0].1[1].len(), 1);
    assert_eq!(closed[0].1[1], expected);
    assert_eq!(modalities.totals().1, 477 + 277);
}

#[test]
fn series_that_do_not_fit_the_network_are_refused_by_name() {
    let refused = |sources: &[Box<dyn Source>]| set_up(sources).map(|_| ()).unwrap_err();
    let channels = refused(&[silent(&[("hand", 3)])]);
    assert_eq!(
        channels,
        "silent: series hand has 3 channels, and the network learned from 2"
    );
    let twice = refused(&[silent(&[("image", 1)]), silent(&[("image", 1)])]);
    assert_eq!(twice, "series image is delivered twice, by silent and by silent");
}

#[test]
fn a_source_that_runs_ahead_loses_no_sample_to_a_window_that_is_full() {
    let sources = [silent_at(&[("hand", 2), ("image", 1)], Pace::AsFast)];
    let (mut bins, mut modalities, mut writers) = set_up(&sources).unwrap();
    // Five seconds of both, before a single marker can be taken.
    for number in 0..5_000 {
        writers[0].sample(0, number * MS, &[number as f32, 0.0]);
    }
    assert!(look(&mut bins, &mut modalities).is_empty());
    for bin in 1..=250 {
        writers[0].clock(bin * BIN, 0);
    }
    let closed = look(&mut bins, &mut modalities);
    assert_eq!(closed.len(), 250);
    let (counts, _) = modalities.counts();
    assert_eq!(
        (counts[0].offered, counts[0].in_time, counts[0].late),
        (5_000, 5_000, 0)
    );
    assert_eq!(modalities.totals().1, 0);
}
