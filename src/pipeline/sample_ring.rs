//! The ring of a source's samples, beside that of its spikes: single producer, single consumer, of fixed size.
//!
//! A sample is a record of words: its time (two), the network's modality, the values. A record is pushed in one step, so that
//! the reader finds it whole or not at all; it is pushed before the clock marker that passes its time, so that whoever has
//! taken the marker from the spikes' ring finds it here. Samples of series that the network does not know are counted and left
//! out. Nothing here allocates after [`sample_ring`].

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::Arc;

use ringbuf::traits::{Consumer, Observer, Producer};

use super::sharing::{ring, Real, Receiver, Sender, Sharing};

/// Words before a sample's values.
const HEAD: usize = 3;
/// Words that a ring holds at least: a second of 16 channels at 3 kHz.
const LEAST_WORDS: usize = 1 << 16;
/// Samples of every series that it holds at least.
const LEAST_SAMPLES: usize = 64;

/// What became of a modality's samples on their way into the ring; readable from any thread.
#[derive(Debug, Default)]
pub(crate) struct SampleCounters {
    /// Samples that the source had.
    pub offered: AtomicU64,
    /// Those of them that found the ring full.
    pub refused: AtomicU64,
    /// Those of them that had another number of values than their series has channels.
    pub malformed: AtomicU64,
}

/// A series of a source that is one of the network's modalities.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Known {
    /// Number among the network's modalities.
    pub modality: usize,
    /// Values a sample.
    pub channels: usize,
}

/// The source's end.
pub(crate) struct SampleWriter<S: Sharing = Real> {
    producer: Sender<S, u32>,
    /// For each of the source's series.
    known: Box<[Option<Known>]>,
    record: Box<[u32]>,
    /// Of every modality of the network.
    counters: Arc<[SampleCounters]>,
    unknown: Arc<AtomicU64>,
}

/// The decode thread's end.
pub(crate) struct SampleReader<S: Sharing = Real> {
    consumer: Receiver<S, u32>,
    /// Channels of every modality.
    channels: Box<[usize]>,
    front: Option<Front>,
    values: Box<[u32]>,
}

/// The oldest sample in a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Front {
    /// Number among the network's modalities.
    pub modality: usize,
    /// Device time, ns.
    pub time_ns: i64,
}

/// A ring for a source whose series are `known` so, for a network whose modalities have `channels` values each. `counters` are
/// the modalities', `unknown` counts the samples of all other series.
pub(crate) fn sample_ring(
    known: Box<[Option<Known>]>,
    channels: Box<[usize]>,
    counters: Arc<[SampleCounters]>,
    unknown: Arc<AtomicU64>,
) -> (SampleWriter, SampleReader) {
    let records = known.iter().flatten().map(|known| HEAD + known.channels);
    let longest = records.clone().max().unwrap_or(HEAD);
    let words = if longest == HEAD {
        1
    } else {
        LEAST_WORDS.max(LEAST_SAMPLES * records.sum::<usize>())
    };
    sample_ring_of::<Real>(words, known, channels, counters, unknown)
}

/// The same, of any rings, with so many words.
pub(crate) fn sample_ring_of<S: Sharing>(
    words: usize,
    known: Box<[Option<Known>]>,
    channels: Box<[usize]>,
    counters: Arc<[SampleCounters]>,
    unknown: Arc<AtomicU64>,
) -> (SampleWriter<S>, SampleReader<S>) {
    let longest = known
        .iter()
        .flatten()
        .map(|known| HEAD + known.channels)
        .max()
        .unwrap_or(HEAD);
    let (producer, consumer) = ring::<S, _>(words);
    let writer = SampleWriter {
        producer,
        known,
        record: vec![0; longest].into(),
        counters,
        unknown,
    };
    let reader = SampleReader {
        consumer,
        channels,
        front: None,
        values: vec![0; longest - HEAD].into(),
    };
    (writer, reader)
}

impl<S: Sharing> SampleWriter<S> {
    fn known(&self, series: usize) -> Option<Known> {
        self.known.get(series).copied().flatten()
    }

    /// Whether there is room for a sample of this series, or it is not put into the ring at all.
    pub fn has_room(&self, series: usize) -> bool {
        self.known(series)
            .is_none_or(|known| self.producer.vacant_len() >= HEAD + known.channels)
    }

    /// Whether the reader is still there.
    pub fn reader_lives(&self) -> bool {
        self.producer.read_is_held()
    }

    /// Puts a sample into the ring, or counts what became of it.
    pub fn push(&mut self, series: usize, time_ns: i64, values: &[f32]) {
        let Some(Known { modality, channels }) = self.known(series) else {
            self.unknown.fetch_add(1, Relaxed);
            return;
        };
        let counters = &self.counters[modality];
        counters.offered.fetch_add(1, Relaxed);
        if values.len() != channels {
            counters.malformed.fetch_add(1, Relaxed);
            return;
        }
        let record = &mut self.record[..HEAD + channels];
        let time = time_ns as u64;
        record[..HEAD].copy_from_slice(&[time as u32, (time >> 32) as u32, modality as u32]);
        let bits = values.iter().map(|value| value.to_bits());
        record[HEAD..]
            .iter_mut()
            .zip(bits)
            .for_each(|(word, bits)| *word = bits);
        if self.producer.vacant_len() >= record.len() {
            self.producer.push_slice(record);
        } else {
            counters.refused.fetch_add(1, Relaxed);
        }
    }
}

impl<S: Sharing> SampleReader<S> {
    /// The oldest sample, which stays where it is.
    pub fn front(&mut self) -> Option<Front> {
        if self.front.is_none() {
            let mut head = [0; HEAD];
            // Records are pushed whole: with its first word all of one is there.
            if self.consumer.pop_slice(&mut head) == HEAD {
                self.front = Some(Front {
                    modality: head[2] as usize,
                    time_ns: (u64::from(head[0]) | u64::from(head[1]) << 32) as i64,
                });
            }
        }
        self.front
    }

    /// Takes the oldest sample's values, `[channels]`; none without one.
    pub fn take(&mut self) -> &[f32] {
        let channels = self.front.take().map_or(0, |front| self.channels[front.modality]);
        let values = &mut self.values[..channels];
        self.consumer.pop_slice(values);
        bytemuck::cast_slice(values)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ring() -> (SampleWriter, SampleReader, Arc<[SampleCounters]>, Arc<AtomicU64>) {
        let counters: Arc<[SampleCounters]> = (0..2).map(|_| SampleCounters::default()).collect();
        let unknown = Arc::new(AtomicU64::new(0));
        let known = [(1, 3), (0, 1)].map(|(modality, channels)| Some(Known { modality, channels }));
        let known = [known[0], None, known[1]].into();
        let (writer, reader) = sample_ring(known, [1, 3].into(), counters.clone(), unknown.clone());
        (writer, reader, counters, unknown)
    }

    #[test]
    fn samples_come_out_whole_and_in_order() {
        let (mut writer, mut reader, counters, unknown) = ring();
        writer.push(0, -5, &[1.0, f32::NAN, 3.0]);
        writer.push(1, 7, &[9.0]);
        writer.push(7, 7, &[9.0]);
        writer.push(2, i64::MAX, &[4.0]);
        writer.push(2, 8, &[4.0, 5.0]);
        let front = |modality, time_ns| Some(Front { modality, time_ns });
        assert_eq!((reader.front(), reader.front()), (front(1, -5), front(1, -5)));
        let values = reader.take();
        assert!(values[0] == 1.0 && values[1].is_nan() && values[2] == 3.0);
        assert_eq!(reader.front(), front(0, i64::MAX));
        assert_eq!(reader.take(), [4.0]);
        assert_eq!(reader.front(), None);
        assert_eq!(unknown.load(Relaxed), 2);
        assert_eq!(
            (counters[0].offered.load(Relaxed), counters[0].malformed.load(Relaxed)),
            (2, 1)
        );
    }

    #[test]
    fn a_sample_that_does_not_fit_is_refused_whole_and_counted() {
        let (mut writer, mut reader, counters, _) = ring();
        // Of 6 and of 4 words.
        let fits = LEAST_WORDS / 6;
        for time in 0..fits as i64 + 3 {
            writer.push(0, time, &[1.0, 2.0, 3.0]);
        }
        assert_eq!(counters[1].refused.load(Relaxed), 3);
        assert!(!writer.has_room(0) && writer.has_room(2) && writer.has_room(1));
        writer.push(2, 1, &[0.5]);
        assert_eq!(counters[0].refused.load(Relaxed), 0);
        for time in 0..fits as i64 {
            assert_eq!(reader.front().map(|front| front.time_ns), Some(time));
            assert_eq!(reader.take(), [1.0, 2.0, 3.0]);
        }
        assert_eq!(reader.front().map(|front| front.modality), Some(0));
        assert_eq!(reader.take(), [0.5]);
    }
}
