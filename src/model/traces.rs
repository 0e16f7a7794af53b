//! Recent activity of every unit, remembered exactly and cheaply: exponential averages of its counts at several time
//! constants.
//!
//! A trace is updated once a bin, `trace ← a · trace + (1 − a) · count` with `a = exp(−bin / τ)`, so that it costs O(K · N) a
//! bin however far it looks back. A linear path from the traces to the log rates sees `ln((trace + ε) / (mean + ε))`, which
//! is zero for a unit that fires as it does on average.

/// Added to a trace and to its mean under the logarithm, in counts a bin: a silent unit stays finite.
pub const TRACE_FLOOR: f32 = 0.02;

/// Exponential averages of the counts of N units at K time constants.
#[derive(Debug, Clone, PartialEq)]
pub struct Traces {
    /// `a` of each time constant, `[K]`.
    decays: Vec<f32>,
    /// Mean count a bin of each unit, `[N]`: where the traces begin, and what they are compared with.
    mean: Vec<f32>,
    /// Counts a bin, `[K, N]`.
    state: Vec<f32>,
}

impl Traces {
    /// Traces at the mean, for bins of `bin_s` and time constants `tau_s`, both in seconds; `mean` in counts a bin.
    pub fn new(tau_s: &[f64], bin_s: f64, mean: &[f32]) -> Self {
        let mut traces = Traces {
            decays: tau_s.iter().map(|tau| (-bin_s / tau).exp() as f32).collect(),
            mean: mean.to_vec(),
            state: vec![0.0; tau_s.len() * mean.len()],
        };
        traces.restart();
        traces
    }

    /// Number of time constants, K.
    pub fn time_constants(&self) -> usize {
        self.decays.len()
    }

    /// Number of units, N.
    pub fn units(&self) -> usize {
        self.mean.len()
    }

    /// The traces, counts a bin, `[K, N]`.
    pub fn state(&self) -> &[f32] {
        &self.state
    }

    /// Forgets everything: every trace is its unit's mean.
    pub fn restart(&mut self) {
        for trace in self.state.chunks_exact_mut(self.mean.len().max(1)) {
            trace.copy_from_slice(&self.mean);
        }
    }

    /// Takes the counts `[N]` of the bin that has just ended.
    pub fn push_bin(&mut self, counts: &[f32]) {
        assert_eq!(counts.len(), self.mean.len(), "one count a unit");
        let traces = self.state.chunks_exact_mut(self.mean.len().max(1));
        for (trace, &decay) in traces.zip(&self.decays) {
            for (trace, &count) in trace.iter_mut().zip(counts) {
                *trace = decay * *trace + (1.0 - decay) * count;
            }
        }
    }

    /// `own[k, n] = ln((trace + ε) / (mean + ε))` into `out` `[K, N]`, ε = [`TRACE_FLOOR`].
    pub fn features(&self, out: &mut [f32]) {
        assert_eq!(out.len(), self.state.len(), "one feature a trace");
        let traces = self.state.chunks_exact(self.mean.len().max(1));
        for (trace, out) in traces.zip(out.chunks_exact_mut(self.mean.len().max(1))) {
            for ((out, &trace), &mean) in out.iter_mut().zip(trace).zip(&self.mean) {
                *out = ((trace + TRACE_FLOOR) / (mean + TRACE_FLOOR)).ln();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trace_is_an_exponential_average_that_begins_at_the_mean() {
        // Bins of 20 ms and time constants of 20 ms and 20 ms / ln 2: a = 1/e and 1/2.
        let tau = [0.02, 0.02 / std::f64::consts::LN_2];
        let mut traces = Traces::new(&tau, 0.02, &[0.5, 0.0]);
        let mut own = [9.0; 4];
        traces.features(&mut own);
        assert_eq!(own, [0.0; 4]);

        traces.push_bin(&[2.0, 0.0]);
        traces.push_bin(&[0.0, 1.0]);
        let e = (-1.0f32).exp();
        let expected = [
            e * (e * 0.5 + (1.0 - e) * 2.0),
            1.0 - e,
            0.5 * (0.5 * 0.5 + 0.5 * 2.0),
            0.5,
        ];
        for (found, expected) in traces.state().iter().zip(expected) {
            assert!((found - expected).abs() < 1e-6, "{found} and not {expected}");
        }
        traces.features(&mut own);
        assert!((own[2] - (0.645f32 / 0.52).ln()).abs() < 1e-6);
        assert!((own[3] - (0.52f32 / 0.02).ln()).abs() < 1e-6);

        traces.restart();
        assert_eq!(traces.state(), [0.5, 0.0, 0.5, 0.0]);
    }
}
