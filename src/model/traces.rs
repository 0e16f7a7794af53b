//! Recent history, seen exactly: every unit's exponential traces, updated bin by bin.
//!
//! A trace is a running mean of the counts that forgets with its time constant τ: `trace' = a · trace + (1 − a) · count` with
//! `a = exp(−bin / τ)`, from each unit's mean count on. It remembers longer than the history window, at a cost that does not
//! grow with it. What the model sees of a unit's own history is its logarithm against the mean, `ln((trace + ε) / (mean + ε))`;
//! of the population `√trace − √mean`, which leaves units with the weight that their rates give them.

use super::config::HistoryConfig;
use super::window::Spikes;
use crate::data::Interval;

/// ε, in counts a bin: keeps the logarithm of a silent trace finite.
pub const TRACE_FLOOR: f32 = 0.02;

/// The traces of a session's units after some bin.
#[derive(Debug, Clone, PartialEq)]
pub struct Traces {
    /// `a` of each of the K time constants.
    keep: Vec<f32>,
    /// Mean count a bin, `[N]`: where the traces begin, and what they are compared with.
    mean: Vec<f32>,
    /// `[K, N]`.
    state: Vec<f32>,
}

impl Traces {
    /// Traces that stand at the mean, for bins of `bin_s` and time constants in seconds; `mean` in counts a bin, `[N]`.
    pub fn new(time_constants_s: &[f64], bin_s: f64, mean: &[f32]) -> Self {
        Traces {
            keep: time_constants_s.iter().map(|tau| (-bin_s / tau).exp() as f32).collect(),
            state: mean.repeat(time_constants_s.len()),
            mean: mean.to_vec(),
        }
    }

    /// Those of a model's path of recent history. `null_log_rates` are ln of each unit's mean count a bin, `[N]`.
    pub fn of_path(config: &HistoryConfig, bin_s: f64, null_log_rates: &[f32]) -> Self {
        let mean: Vec<f32> = null_log_rates.iter().map(|rate| rate.exp()).collect();
        Traces::new(&config.time_constants_s, bin_s, &mean)
    }

    /// K.
    pub fn time_constants(&self) -> usize {
        self.keep.len()
    }

    /// N.
    pub fn units(&self) -> usize {
        self.mean.len()
    }

    /// Compares with another mean from here on, in counts a bin, `[N]`; the traces stay what they are.
    pub fn compare_with(&mut self, mean: impl Iterator<Item = f32>) {
        self.mean.iter_mut().zip(mean).for_each(|(old, new)| *old = new);
    }

    /// Back to the mean, as at the start of a recording.
    pub fn restart(&mut self) {
        for trace in self.state.chunks_exact_mut(self.mean.len().max(1)) {
            trace.copy_from_slice(&self.mean);
        }
    }

    /// Takes a bin in; its counts, `[N]`.
    pub fn push_bin(&mut self, counts: impl Iterator<Item = f32>) {
        let units = self.mean.len();
        for (unit, count) in counts.take(units).enumerate() {
            for (k, &keep) in self.keep.iter().enumerate() {
                let trace = &mut self.state[k * units + unit];
                *trace = keep * *trace + (1.0 - keep) * count;
            }
        }
    }

    /// `ln((trace + ε) / (mean + ε))`, `[K, N]`, ε = [`TRACE_FLOOR`].
    pub fn log_ratios(&self, out: &mut [f32]) {
        let traces = self.state.chunks_exact(self.mean.len().max(1));
        for (trace, out) in traces.zip(out.chunks_exact_mut(self.mean.len().max(1))) {
            for ((out, &trace), &mean) in out.iter_mut().zip(trace).zip(&self.mean) {
                *out = ((trace + TRACE_FLOOR) / (mean + TRACE_FLOOR)).ln();
            }
        }
    }

    /// What the path sees of each unit: `[N, K + 2]`, a row a unit: the K logarithms, one, and ln of the mean.
    pub fn features(&self, out: &mut [f32]) {
        let (units, constants) = (self.mean.len(), self.keep.len());
        for (unit, row) in out.chunks_exact_mut(constants + 2).enumerate() {
            let log_mean = (self.mean[unit] + TRACE_FLOOR).ln();
            for (k, x) in row[..constants].iter_mut().enumerate() {
                *x = (self.state[k * units + unit] + TRACE_FLOOR).ln() - log_mean;
            }
            row[constants] = 1.0;
            row[constants + 1] = self.mean[unit].ln();
        }
    }

    /// Elements that [`features`](Self::features) writes.
    pub fn feature_count(&self) -> usize {
        self.mean.len() * (self.keep.len() + 2)
    }

    /// What the path sees of the population: `[J, N]`, `√trace − √mean` for the first J time constants.
    pub fn population(&self, out: &mut [f32]) {
        let traces = self.state.chunks_exact(self.mean.len().max(1));
        for (row, trace) in out.chunks_exact_mut(self.mean.len().max(1)).zip(traces) {
            for ((x, trace), mean) in row.iter_mut().zip(trace).zip(&self.mean) {
                *x = trace.sqrt() - mean.sqrt();
            }
        }
    }

    /// The traces themselves, counts a bin, `[K, N]`.
    pub fn state(&self) -> &[f32] {
        &self.state
    }

    /// Takes over traces of the same shape.
    pub fn set_state(&mut self, state: &[f32]) {
        self.state.copy_from_slice(state);
    }
}

/// Traces that follow a recording forwards. They begin anew after a bin that was not wholly observed.
#[derive(Debug, Clone)]
pub struct TraceReader<'a> {
    traces: Traces,
    /// When the units were observed, ascending.
    observed: &'a [Interval],
    /// Units that stay at the mean whatever they do; none if empty.
    hidden: Vec<bool>,
    bin_ns: i64,
    /// Start of the next bin.
    next_ns: i64,
    counts: Vec<f32>,
}

impl<'a> TraceReader<'a> {
    /// Stands at the beginning of the grid of bins with `traces` as they are.
    pub fn new(traces: Traces, grid_origin_ns: i64, bin_ns: i64, observed: &'a [Interval]) -> Self {
        TraceReader {
            counts: vec![0.0; traces.units()],
            traces,
            observed,
            hidden: Vec::new(),
            bin_ns,
            next_ns: grid_origin_ns,
        }
    }

    /// The same, but that some units `[N]` stay at the mean.
    pub fn hiding(mut self, hidden: Vec<bool>) -> Self {
        self.hidden = hidden;
        self
    }

    /// Takes in every bin that ends by `end_ns`, and returns the traces.
    pub fn advance(&mut self, spikes: Spikes<'_>, end_ns: i64) -> &Traces {
        while self.next_ns + self.bin_ns <= end_ns {
            let bin_end_ns = self.next_ns + self.bin_ns;
            if !Interval::any_holds(self.observed, self.next_ns, bin_end_ns) {
                self.traces.restart();
                self.next_ns = bin_end_ns;
                continue;
            }
            let bin = spikes.between(self.next_ns, bin_end_ns);
            self.counts.fill(0.0);
            bin.units.iter().for_each(|&unit| self.counts[unit as usize] += 1.0);
            for (unit, _) in self.hidden.iter().enumerate().filter(|(_, &hidden)| hidden) {
                self.counts[unit] = self.traces.mean[unit];
            }
            self.traces.push_bin(self.counts.iter().copied());
            self.next_ns = bin_end_ns;
        }
        &self.traces
    }

    /// Where it stands: the start of the next bin.
    pub fn position_ns(&self) -> i64 {
        self.next_ns
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn traces() -> Traces {
        Traces::new(&[0.02 / std::f64::consts::LN_2, 1e9], 0.02, &[0.25, 1.5])
    }

    #[test]
    fn a_trace_halves_its_distance() {
        let mut traces = traces();
        traces.push_bin([1.0, 1.0].into_iter());
        traces.push_bin([0.0, 2.0].into_iter());
        // 0.25 → 0.625 → 0.3125 with the first constant, 1.5 → 1.25 → 1.625; the second constant barely moves.
        assert!((traces.state()[0] - 0.3125).abs() < 1e-6 && (traces.state()[2] - 0.25).abs() < 1e-6);
        let mut features = vec![0.0; traces.feature_count()];
        traces.features(&mut features);
        let expected = [
            (0.3325f32 / 0.27).ln(),
            0.0,
            1.0,
            0.25f32.ln(),
            (1.645f32 / 1.52).ln(),
            0.0,
            1.0,
            1.5f32.ln(),
        ];
        for (found, expected) in features.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-5, "{features:?}");
        }
        let mut population = vec![0.0; 2];
        traces.population(&mut population);
        assert!((population[0] - (0.3125f32.sqrt() - 0.5)).abs() < 1e-6);
        traces.restart();
        assert!((traces.state()[0] - 0.25).abs() < 1e-6);
    }

    #[test]
    fn a_reader_takes_whole_bins() {
        let spikes = Spikes {
            times_ns: &[100, 105, 119, 120],
            units: &[0, 1, 0, 0],
        };
        let mut by_hand = traces();
        by_hand.push_bin([1.0, 1.0].into_iter());
        let observed = [Interval {
            start_ns: 0,
            end_ns: 120,
        }];
        let mut reader = TraceReader::new(traces(), 100, 10, &observed);
        assert_eq!(reader.advance(spikes, 109).state(), traces().state());
        assert_eq!(reader.advance(spikes, 119).state(), by_hand.state());
        by_hand.push_bin([1.0, 0.0].into_iter());
        assert_eq!(reader.advance(spikes, 120).state(), by_hand.state());
        assert_eq!(reader.position_ns(), 120);
        // Beyond what was observed there is nothing to remember.
        assert_eq!(reader.advance(spikes, 130).state(), traces().state());

        let mut hiding = TraceReader::new(traces(), 100, 10, &observed).hiding(vec![true, false]);
        let state = hiding.advance(spikes, 110).state().to_vec();
        assert_eq!((state[0], state[1]), (0.25, 1.25));
    }
}
