//! Recent history, seen exactly: every unit's exponential traces, updated bin by bin.
//!
//! A trace is a running mean of the counts that forgets with its time constant τ: `trace' = a · trace + (1 − a) · count` with
//! `a = exp(−bin / τ)`, from each unit's mean count on. It remembers longer than the history window, at a cost that does not
//! grow with it. What the model sees of a unit's own history is its logarithm against the mean, `ln((trace + ε) / (mean + ε))`;
//! of the population `√trace − √mean`, which leaves units with the weight that their rates give them.

use super::config::HistoryConfig;
use super::window::Spikes;

/// ε, in counts a bin: keeps the logarithm of a silent trace finite.
pub const TRACE_FLOOR: f32 = 0.02;

/// The traces of a session's units after some bin.
#[derive(Debug, Clone, PartialEq)]
pub struct Traces {
    /// `a` of each of the K time constants.
    keep: Vec<f32>,
    /// Mean count a bin, `[N]`.
    mean: Vec<f32>,
    /// `ln(mean + ε)`, `[N]`.
    log_mean: Vec<f32>,
    /// ln of the mean as the null model has it, `[N]`.
    null_log_rates: Vec<f32>,
    /// `[K, N]`.
    state: Vec<f32>,
}

impl Traces {
    /// Traces that stand at the mean. `null_log_rates` are ln of each unit's mean count in a bin of `bin_s` seconds, `[N]`.
    pub fn new(config: &HistoryConfig, bin_s: f64, null_log_rates: &[f32]) -> Self {
        let mean: Vec<f32> = null_log_rates.iter().map(|rate| rate.exp()).collect();
        Traces {
            keep: config
                .time_constants_s
                .iter()
                .map(|tau| (-bin_s / tau).exp() as f32)
                .collect(),
            log_mean: mean.iter().map(|mean| (mean + TRACE_FLOOR).ln()).collect(),
            state: mean.repeat(config.time_constants_s.len()),
            null_log_rates: null_log_rates.to_vec(),
            mean,
        }
    }

    /// N.
    pub fn units(&self) -> usize {
        self.mean.len()
    }

    /// Back to the mean, as at the start of a recording.
    pub fn restart(&mut self) {
        for trace in self.state.chunks_exact_mut(self.mean.len()) {
            trace.copy_from_slice(&self.mean);
        }
    }

    /// Takes a bin in; its counts, `[N]`.
    pub fn push_bin(&mut self, counts: &[u32]) {
        for (trace, &keep) in self.state.chunks_exact_mut(self.mean.len()).zip(&self.keep) {
            for (trace, &count) in trace.iter_mut().zip(counts) {
                *trace = keep * *trace + (1.0 - keep) * count as f32;
            }
        }
    }

    /// What the population shows: `[J, N]`, `√trace − √mean` for the first J time constants.
    pub fn population(&self, out: &mut [f32]) {
        for (row, trace) in out
            .chunks_exact_mut(self.mean.len())
            .zip(self.state.chunks_exact(self.mean.len()))
        {
            for ((x, trace), mean) in row.iter_mut().zip(trace).zip(&self.mean) {
                *x = trace.sqrt() - mean.sqrt();
            }
        }
    }

    /// What the model sees of each unit: `[N, K + 2]`, a row a unit: the K logarithms, one, and ln of the mean.
    pub fn features(&self, out: &mut [f32]) {
        let (units, constants) = (self.mean.len(), self.keep.len());
        for (unit, row) in out.chunks_exact_mut(constants + 2).enumerate() {
            for (k, x) in row[..constants].iter_mut().enumerate() {
                *x = (self.state[k * units + unit] + TRACE_FLOOR).ln() - self.log_mean[unit];
            }
            row[constants] = 1.0;
            row[constants + 1] = self.null_log_rates[unit];
        }
    }

    /// Elements that [`features`](Self::features) writes.
    pub fn feature_count(&self) -> usize {
        self.mean.len() * (self.keep.len() + 2)
    }

    /// The traces themselves, `[K, N]`.
    pub fn state(&self) -> &[f32] {
        &self.state
    }

    /// Takes over traces of the same shape.
    pub fn set_state(&mut self, state: &[f32]) {
        self.state.copy_from_slice(state);
    }
}

/// Traces that follow a recording forwards.
#[derive(Debug, Clone)]
pub struct TraceReader {
    traces: Traces,
    bin_ns: i64,
    /// Start of the next bin.
    next_ns: i64,
    counts: Vec<u32>,
}

impl TraceReader {
    /// Stands at the beginning of the grid of bins, at the mean.
    pub fn new(traces: Traces, grid_origin_ns: i64, bin_ns: i64) -> Self {
        TraceReader {
            counts: vec![0; traces.units()],
            traces,
            bin_ns,
            next_ns: grid_origin_ns,
        }
    }

    /// Takes in every bin that ends by `end_ns`, and returns the traces.
    pub fn advance(&mut self, spikes: Spikes<'_>, end_ns: i64) -> &Traces {
        while self.next_ns + self.bin_ns <= end_ns {
            let bin = spikes.between(self.next_ns, self.next_ns + self.bin_ns);
            self.counts.fill(0);
            bin.units.iter().for_each(|&unit| self.counts[unit as usize] += 1);
            self.traces.push_bin(&self.counts);
            self.next_ns += self.bin_ns;
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
        let config = HistoryConfig {
            time_constants_s: vec![0.02 / std::f64::consts::LN_2, 1e9],
            population_time_constants: 1,
            components: 1,
        };
        Traces::new(&config, 0.02, &[0.25f32.ln(), 1.5f32.ln()])
    }

    #[test]
    fn a_trace_halves_its_distance() {
        let mut traces = traces();
        traces.push_bin(&[1, 1]);
        traces.push_bin(&[0, 2]);
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
        by_hand.push_bin(&[1, 1]);
        let mut reader = TraceReader::new(traces(), 100, 10);
        assert_eq!(reader.advance(spikes, 109).state(), traces().state());
        assert_eq!(reader.advance(spikes, 119).state(), by_hand.state());
        by_hand.push_bin(&[1, 0]);
        assert_eq!(reader.advance(spikes, 120).state(), by_hand.state());
        assert_eq!(reader.position_ns(), 120);
    }
}
