//! The sliding window of a modality's samples that predictions see.

use crate::model::conditions::Samples;

/// Samples of the last moments and of those to come, in order of time, in memory of fixed size.
#[derive(Debug)]
pub(crate) struct SampleWindow {
    channels: usize,
    capacity: usize,
    // Twice the capacity: the live part slides to the right and moves back when it reaches the end.
    times_ns: Box<[i64]>,
    values: Box<[f32]>,
    start: usize,
    end: usize,
}

impl SampleWindow {
    /// Room for `capacity` samples (at least 2) of `channels` values.
    pub fn new(channels: usize, capacity: usize) -> Self {
        let capacity = capacity.max(2);
        Self {
            channels,
            capacity,
            times_ns: vec![0; 2 * capacity].into(),
            values: vec![0.0; 2 * capacity * channels].into(),
            start: 0,
            end: 0,
        }
    }

    /// Whether the next sample pushes one out.
    pub fn is_full(&self) -> bool {
        self.end - self.start == self.capacity
    }

    fn times(&self) -> &[i64] {
        &self.times_ns[self.start..self.end]
    }

    /// The samples, ascending.
    pub fn samples(&self) -> Samples<'_> {
        Samples {
            times_ns: self.times(),
            values: &self.values[self.start * self.channels..self.end * self.channels],
        }
    }

    /// Puts a sample in its place, behind those of the same time. A full window loses its oldest, which may be the new one;
    /// says whether it did. Moves the samples that are later than the new one: none where they come in order.
    pub fn insert(&mut self, time_ns: i64, values: &[f32]) -> bool {
        let full = self.is_full();
        if full {
            if self.times().first().is_some_and(|&oldest| time_ns < oldest) {
                return true;
            }
            self.start += 1;
        }
        let channels = self.channels;
        if self.end == self.times_ns.len() {
            self.times_ns.copy_within(self.start.., 0);
            self.values.copy_within(self.start * channels.., 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        let later = self.times().iter().rev().take_while(|&&time| time > time_ns).count();
        let at = self.end - later;
        self.times_ns.copy_within(at..self.end, at + 1);
        self.values
            .copy_within(at * channels..self.end * channels, (at + 1) * channels);
        self.times_ns[at] = time_ns;
        self.values[at * channels..(at + 1) * channels].copy_from_slice(values);
        self.end += 1;
        full
    }

    /// Forgets the samples before `time_ns`, but for the last `keep` of them.
    pub fn expire(&mut self, time_ns: i64, keep: usize) {
        let old = self.times().partition_point(|&time| time < time_ns);
        self.start += old.saturating_sub(keep);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// However they come: a bounded list, stably sorted by time.
        #[test]
        fn the_window_is_a_bounded_sorted_list(
            capacity in 2usize..7,
            steps in prop::collection::vec((0i64..30, 0i64..3, 0usize..2), 0..100),
        ) {
            let mut window = SampleWindow::new(2, capacity);
            let mut list: Vec<(i64, f32)> = Vec::new();
            for (number, (offset, expires, keep)) in steps.into_iter().enumerate() {
                let time = number as i64 * 3 + offset;
                let lost = window.insert(time, &[number as f32, -1.0]);
                let at = list.partition_point(|&(other, _)| other <= time);
                list.insert(at, (time, number as f32));
                prop_assert_eq!(lost, list.len() > capacity);
                if lost {
                    list.remove(0);
                }
                if expires == 0 {
                    window.expire(number as i64 * 3, keep);
                    let old = list.partition_point(|&(other, _)| other < number as i64 * 3);
                    list.drain(..old.saturating_sub(keep));
                }
                let samples = window.samples();
                let times: Vec<i64> = list.iter().map(|&(time, _)| time).collect();
                let values: Vec<f32> = list.iter().flat_map(|&(_, value)| [value, -1.0]).collect();
                prop_assert_eq!(samples.times_ns, times);
                prop_assert_eq!(samples.values, values);
            }
        }
    }
}
