//! The window that a prediction looks at and the bins that it predicts, on the device clock.

use super::config::ModelConfig;
use crate::data::Interval;

/// Spikes of the units that a network knows, by device time.
#[derive(Debug, Clone, Copy)]
pub struct Spikes<'a> {
    /// Nanoseconds, ascending.
    pub times_ns: &'a [i64],
    /// Numbers within the session, one a spike.
    pub units: &'a [u32],
}

impl<'a> Spikes<'a> {
    /// Those with `start ≤ time < end`.
    pub fn between(&self, start_ns: i64, end_ns: i64) -> Spikes<'a> {
        let first = self.times_ns.partition_point(|&time| time < start_ns);
        let last = self.times_ns.partition_point(|&time| time < end_ns).max(first);
        Spikes {
            times_ns: &self.times_ns[first..last],
            units: &self.units[first..last],
        }
    }

    /// The newest `most` of them, and how many older ones there are; their times in seconds from `start_ns` on into `times_s`.
    pub fn newest(&self, most: usize, start_ns: i64, times_s: &mut Vec<f64>) -> (Spikes<'a>, usize) {
        let excess = self.units.len().saturating_sub(most);
        let newest = Spikes {
            times_ns: &self.times_ns[excess..],
            units: &self.units[excess..],
        };
        times_s.clear();
        times_s.extend(newest.times_ns.iter().map(|&time| (time - start_ns) as f64 * 1e-9));
        (newest, excess)
    }
}

/// The window of a model in nanoseconds of the device clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WindowShape {
    /// Length of the history.
    pub history_ns: i64,
    /// Width of a bin.
    pub bin_ns: i64,
    /// Predicted bins.
    pub bins: usize,
    /// From the end of the history to the end of the last bin. The last bin takes what whole bins leave over: the
    /// reference's 250 ms are eleven bins of 20 ms and one of 30.
    pub horizon_ns: i64,
}

impl WindowShape {
    /// The window of a configuration, for a horizon of `bins` (its own if it has as many).
    pub fn new(config: &ModelConfig, bins: usize) -> Self {
        let ns = |seconds: f64| (seconds * 1e9).round() as i64;
        let bin_ns = ns(config.bin_size);
        let own = bins == config.bins();
        WindowShape {
            history_ns: ns(config.history_s()),
            bin_ns,
            bins,
            horizon_ns: if own {
                ns(config.pred_window)
            } else {
                bin_ns * bins as i64
            },
        }
    }

    /// Horizons that lie within a stretch, one beginning at each bin from its start on.
    pub fn horizons(&self, stretch: &Interval) -> usize {
        let room = stretch.end_ns - stretch.start_ns - self.horizon_ns;
        if room < 0 {
            return 0;
        }
        (room / self.bin_ns + 1) as usize
    }

    /// Counts the spikes of a horizon that begins at `start_ns` into `counts` `[T, N]`.
    pub fn count(&self, spikes: Spikes<'_>, start_ns: i64, units: usize, counts: &mut [f32]) {
        counts.fill(0.0);
        let future = spikes.between(start_ns, start_ns + self.horizon_ns);
        for (&time, &unit) in future.times_ns.iter().zip(future.units) {
            let bin = (((time - start_ns) / self.bin_ns) as usize).min(self.bins - 1);
            counts[bin * units + unit as usize] += 1.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHAPE: WindowShape = WindowShape {
        history_ns: 500,
        bin_ns: 20,
        bins: 3,
        horizon_ns: 70,
    };

    #[test]
    fn the_last_bin_takes_the_rest() {
        let spikes = Spikes {
            times_ns: &[99, 100, 119, 120, 140, 165, 169, 170],
            units: &[0, 0, 1, 0, 1, 1, 0, 0],
        };
        let mut counts = [9.0; 6];
        SHAPE.count(spikes, 100, 2, &mut counts);
        assert_eq!(counts, [1.0, 1.0, 1.0, 0.0, 1.0, 2.0]);
    }
}
