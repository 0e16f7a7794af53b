//! A source's spikes, samples and clock through its two rings to the decode thread, up to the source's end.

use std::sync::atomic::AtomicU64;
use std::sync::Arc;

use super::super::ring::{event_ring_of, WhenFull};
use super::super::sample_ring::{sample_ring_of, Front, Known, SampleCounters};
use super::{model, weak_model, Modelled};
use crate::acquire::{EventSink, SpikeEvent};

/// Times of samples and spikes, each before the marker that passes it, ns.
const SAMPLES: [i64; 1] = [5];
const MARKERS: [i64; 1] = [10];
/// Host time less device time, ns.
const HOST_NS: i64 = 100;

fn threads() {
    let (mut writer, mut reader) = event_ring_of::<Modelled>(8, WhenFull::Refuse, Arc::default());
    let counters: Arc<[SampleCounters]> = [SampleCounters::default()].into();
    let known = Known {
        modality: 0,
        channels: 1,
    };
    // Three words a sample, and its value.
    let (samples_in, mut samples) = sample_ring_of::<Modelled>(
        8,
        [Some(known)].into(),
        [1].into(),
        counters,
        Arc::<AtomicU64>::default(),
    );
    writer.deliver_samples(samples_in);
    let source = loom::thread::spawn(move || {
        for (sample, marker) in SAMPLES.into_iter().zip(MARKERS) {
            writer.spikes(&[SpikeEvent::spike(sample, 3)]);
            writer.sample(0, sample, &[sample as f32]);
            writer.clock(marker, marker + HOST_NS);
        }
        // The source ends: nothing of it may be lost.
    });
    let (mut events, mut taken) = (Vec::new(), Vec::new());
    let mut into = [SpikeEvent::default(); 8];
    while !reader.is_finished() {
        let popped = reader.pop(&mut into);
        let marker = into[..popped]
            .iter()
            .rev()
            .find(|event| event.flags == SpikeEvent::CLOCK);
        let passed_ns = marker.map_or(0, |event| event.time_ns);
        events.extend_from_slice(&into[..popped]);
        // Whoever has the marker finds every sample before it, whole.
        while let Some(Front { time_ns, .. }) = samples.front() {
            assert_eq!(samples.take(), [time_ns as f32]);
            taken.push(time_ns);
        }
        let due = SAMPLES.iter().filter(|&&sample| sample < passed_ns).count();
        assert!(taken.len() >= due, "{taken:?} at {passed_ns}");
        if popped == 0 {
            loom::thread::yield_now();
        }
    }
    source.join().unwrap();
    let expected: Vec<SpikeEvent> = SAMPLES
        .into_iter()
        .zip(MARKERS)
        .flat_map(|(spike, marker)| {
            [
                SpikeEvent::spike(spike, 3),
                SpikeEvent::host_time(marker + HOST_NS),
                SpikeEvent::clock(marker),
            ]
        })
        .collect();
    assert_eq!(events, expected);
    assert_eq!(taken, SAMPLES);
}

/// A source that runs as fast as it may waits for room, or ends where nobody makes any.
fn waiting(reader_stays: bool) {
    let (mut writer, mut reader) = event_ring_of::<Modelled>(2, WhenFull::Wait, Arc::default());
    let counters = reader.counters().clone();
    let spikes = [1, 2, 3].map(|time_ns| SpikeEvent::spike(time_ns, 0));
    let source = loom::thread::spawn(move || writer.spikes(&spikes));
    let mut events = Vec::new();
    let mut into = [SpikeEvent::default(); 2];
    while reader_stays && !reader.is_finished() {
        let popped = reader.pop(&mut into);
        events.extend_from_slice(&into[..popped]);
        loom::thread::yield_now();
    }
    drop(reader);
    source.join().unwrap();
    if reader_stays {
        assert_eq!(events, spikes);
    }
    let refused = if reader_stays { 0 } else { 1 };
    assert_eq!((counters.offered(), counters.refused()), (3, refused));
}

#[test]
fn a_source_that_waits_loses_nothing() {
    model(2, || waiting(true));
}

#[test]
fn no_source_waits_for_a_decode_thread_that_has_gone() {
    model(2, || waiting(false));
}

#[test]
fn a_markers_samples_are_there_and_nothing_is_lost_at_the_end() {
    model(2, threads);
}

#[test]
#[should_panic(expected = "Causality violation")]
fn the_model_notices_atomics_that_are_too_weak() {
    weak_model(2, threads);
}
