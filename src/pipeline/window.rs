//! The sliding window of spikes that a prediction sees.

/// Spikes of the last moments, in order of time, in memory of fixed size.
///
/// At most `capacity` spikes are held: a new one above it pushes out the oldest, which is counted.
#[derive(Debug)]
pub struct SpikeWindow {
    // Twice the capacity: the live part slides to the right and moves back when it reaches the end.
    times_ns: Box<[i64]>,
    units: Box<[u32]>,
    start: usize,
    end: usize,
    capacity: usize,
    pushed_out: u64,
}

impl SpikeWindow {
    /// An empty window of at most `capacity` spikes (at least 1).
    pub fn new(capacity: usize) -> Self {
        let capacity = capacity.max(1);
        Self {
            times_ns: vec![0; 2 * capacity].into(),
            units: vec![0; 2 * capacity].into(),
            start: 0,
            end: 0,
            capacity,
            pushed_out: 0,
        }
    }

    /// Adds a spike that is no earlier than the last.
    pub fn push(&mut self, time_ns: i64, unit: u32) {
        if self.end - self.start == self.capacity {
            self.start += 1;
            self.pushed_out += 1;
        }
        if self.end == self.times_ns.len() {
            self.times_ns.copy_within(self.start..self.end, 0);
            self.units.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        self.times_ns[self.end] = time_ns;
        self.units[self.end] = unit;
        self.end += 1;
    }

    /// Forgets the spikes before `time_ns`.
    pub fn expire(&mut self, time_ns: i64) {
        self.start += self.times_ns[self.start..self.end].partition_point(|&time| time < time_ns);
    }

    /// The spikes from `start_ns` on: device times, units.
    pub fn since(&self, start_ns: i64) -> (&[i64], &[u32]) {
        let first = self.start + self.times_ns[self.start..self.end].partition_point(|&time| time < start_ns);
        (&self.times_ns[first..self.end], &self.units[first..self.end])
    }

    /// Spikes pushed out before their time, since the start.
    pub fn pushed_out(&self) -> u64 {
        self.pushed_out
    }

    /// Writes the spikes' times, in seconds from `start_ns`, to `times_s` (length of at least the capacity).
    ///
    /// Returns the times and the units.
    pub fn relative<'a>(&'a self, start_ns: i64, times_s: &'a mut [f64]) -> (&'a [f64], &'a [u32]) {
        let live = self.start..self.end;
        for (out, &time) in times_s.iter_mut().zip(&self.times_ns[live.clone()]) {
            *out = (time - start_ns) as f64 * 1e-9;
        }
        (&times_s[..live.len()], &self.units[live])
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::VecDeque;

    #[test]
    fn times_are_seconds_from_the_windows_start() {
        let mut window = SpikeWindow::new(4);
        window.push(1_500_000_000, 7);
        assert_eq!(window.relative(1_000_000_000, &mut [0.0; 4]), (&[0.5][..], &[7][..]));
    }

    proptest! {
        #[test]
        fn the_window_is_a_bounded_queue(capacity in 1usize..9, steps in prop::collection::vec((0i64..5, 0i64..20), 0..200)) {
            let mut window = SpikeWindow::new(capacity);
            let (mut queue, mut now, mut pushed_out) = (VecDeque::new(), 0, 0);
            for (step, history) in steps {
                now += step;
                window.expire(now - history);
                queue.retain(|&(time, _)| time >= now - history);
                window.push(now, step as u32);
                queue.push_back((now, step as u32));
                if queue.len() > capacity {
                    queue.pop_front();
                    pushed_out += 1;
                }
                let mut times = vec![0.0; capacity];
                let (times, units) = window.relative(0, &mut times);
                let expected: Vec<f64> = queue.iter().map(|&(time, _)| time as f64 * 1e-9).collect();
                let expected_units: Vec<u32> = queue.iter().map(|&(_, unit)| unit).collect();
                prop_assert_eq!(times, &expected[..]);
                prop_assert_eq!(units, &expected_units[..]);
                prop_assert_eq!(window.pushed_out(), pushed_out);
            }
        }
    }
}
