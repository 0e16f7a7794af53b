//! What nobody can beat on simulated spikes: the score of the true expected counts.

use crate::acquire::simulate::Population;
use crate::model::poisson::BitsPerSpike;

/// Windows of an oracle, as a run scores those that do not overlap.
#[derive(Debug, Clone, Copy)]
pub struct OracleWindows {
    /// Start of the first window's history, on the simulation's clock.
    pub start_ns: i64,
    /// Where the simulation ends.
    pub end_ns: i64,
    /// Length of the history.
    pub history_ns: i64,
    /// Width of a bin.
    pub bin_ns: i64,
    /// Predicted bins.
    pub bins: usize,
}

/// Scores the population's own expected counts, given its spikes up to each window's end and the hand's whole path.
/// `population` is fresh, as the run began with it; `null_log_rates` `[N]`.
pub fn score(mut population: Population, windows: OracleWindows, null_log_rates: &[f64]) -> BitsPerSpike {
    let OracleWindows {
        start_ns,
        end_ns,
        history_ns,
        bin_ns,
        bins,
    } = windows;
    let units = population.n_units();
    let mut score = BitsPerSpike::new(bins);
    let (mut expected, mut log_rates) = (vec![0.0; units], vec![0.0; units]);
    let mut counts = vec![0u32; units];
    let mut made_ns = start_ns + history_ns;
    while made_ns + bins as i64 * bin_ns <= end_ns {
        population.advance_to(made_ns, &mut |_, _| {});
        let mut oracle = population.expected_counts();
        for bin in 0..bins {
            let to_ns = made_ns + (bin as i64 + 1) * bin_ns;
            expected.fill(0.0);
            counts.fill(0);
            oracle.advance_to(to_ns, &mut expected);
            population.advance_to(to_ns, &mut |_, unit| counts[unit as usize] += 1);
            let pairs = log_rates.iter_mut().zip(&expected);
            pairs.for_each(|(log_rate, &expected)| *log_rate = expected.ln().max(-10.0) as f32);
            score.add_bin(
                bin,
                &log_rates,
                counts.iter().map(|&count| f64::from(count)),
                null_log_rates,
            );
        }
        score.add_window();
        made_ns += bins as i64 * bin_ns;
    }
    score
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::acquire::simulate::SimulationConfig;

    #[test]
    fn the_oracle_beats_mean_rates_on_every_spike_once() {
        let config = SimulationConfig {
            n_units: 20,
            ..SimulationConfig::default()
        };
        let windows = OracleWindows {
            start_ns: 1_000_000_000,
            end_ns: 21_000_000_000,
            history_ns: 500_000_000,
            bin_ns: 20_000_000,
            bins: 5,
        };
        let mut fresh = Population::new(config.clone(), 4).unwrap();
        let recording = fresh.record(windows.end_ns);
        let bins = windows.end_ns as f64 / windows.bin_ns as f64;
        let null: Vec<f64> = recording
            .unit_counts()
            .iter()
            .map(|&count| (count as f64 / bins).ln())
            .collect();
        let scored = score(Population::new(config, 4).unwrap(), windows, &null);
        // 19.5 s in windows of 0.1 s.
        assert_eq!(scored.windows(), 195);
        let spikes = recording.spikes_between(1_500_000_000, 21_000_000_000).len() as u64;
        assert_eq!(scored.spikes(), spikes);
        assert!(scored.overall().unwrap() > 0.02, "{scored:?}");
    }
}
