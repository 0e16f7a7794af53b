//! The classical decoders, fitted on open-loop reaches, as outputs of the pipeline.

use super::reach::SERIES;
use super::CliError;
use crate::acquire::simulate::{Population, SimulationConfig};
use crate::evaluate::baseline::decoding::{BinDecoder, BinnedBehaviour, Kalman, Wiener};
use crate::pipeline::bin_output::BinOutput;
use crate::pipeline::predictor::{mean_log_rates, BinSpikes};
use crate::pipeline::OutputSpec;

/// Bins that the Wiener filter sees.
const WIENER_LAGS: usize = 10;
/// Most bins by which the Kalman filter takes activity to lead behaviour.
const KALMAN_DELAY: usize = 4;

/// The topic of a decoder.
pub(super) fn topic(name: &str) -> String {
    format!("{}/{SERIES}", name.to_lowercase())
}

/// What was fitted.
pub(super) struct Fitted {
    /// ln of each unit's mean count a bin.
    pub mean_log_rates: Vec<f64>,
    /// Where the means come from, for people.
    pub means_from: String,
    /// The decoders.
    pub decoders: Vec<Box<dyn BinDecoder>>,
}

/// Simulates `fit_ns` of open-loop reaches and fits on them.
///
/// # Errors
/// A population that cannot be simulated, or too short a time.
pub(super) fn fit(
    config: &SimulationConfig,
    seed: u64,
    fit_ns: i64,
    bin_ns: i64,
    known: &[String],
) -> Result<Fitted, CliError> {
    let mut population = Population::new(config.clone(), seed)?;
    let recording = population.record(fit_ns / bin_ns * bin_ns);
    let interval_ns = (recording.start_ns, recording.end_ns);
    let data = BinnedBehaviour::of(&recording, known, SERIES, interval_ns, bin_ns)?;
    Ok(Fitted {
        mean_log_rates: mean_log_rates(
            &recording.spike_times_ns,
            &recording.spike_units,
            recording.unit_ids.len(),
            recording.start_ns,
            recording.end_ns,
            bin_ns,
        ),
        means_from: format!("{:.0} s of open-loop reaches", fit_ns as f64 * 1e-9),
        decoders: vec![
            Box::new(Kalman::fit(&data, KALMAN_DELAY)),
            Box::new(Wiener::fit(&data, WIENER_LAGS)),
        ],
    })
}

/// A decoder as an output.
pub(super) struct DecoderOutput {
    decoder: Box<dyn BinDecoder>,
    decoded: Box<[f32]>,
}

impl DecoderOutput {
    /// At its beginning.
    pub fn new(mut decoder: Box<dyn BinDecoder>) -> Self {
        decoder.restart();
        DecoderOutput {
            decoded: vec![0.0; decoder.columns()].into(),
            decoder,
        }
    }
}

impl BinOutput for DecoderOutput {
    fn spec(&self) -> OutputSpec {
        let name = self.decoder.name();
        OutputSpec {
            topic: topic(name),
            rows: 1,
            cols: self.decoder.columns(),
            axes: ["present".into(), "channel".into()],
            meaning: format!("{SERIES}, m/s, decoded by a {name} filter"),
            labels: vec!["x".into(), "y".into()],
            row_times_s: Vec::new(),
        }
    }

    fn bin_closed(&mut self, bin: &BinSpikes<'_>) {
        self.decoder.step(bin.counts, &mut self.decoded);
    }

    fn read(&mut self, out: &mut [f32]) {
        out.copy_from_slice(&self.decoded);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::acquire::simulate::closed_loop::{ClosedLoop, Cursor, ReachTask, TrialOutcome};
    use crate::acquire::simulated::SpikeGenerator;
    use crate::data::unit_id;

    const BIN_NS: i64 = 20_000_000;
    const SETS: usize = 16;

    /// Both decoders control the cursor, in virtual time: in one thread and without a pipeline.
    #[test]
    fn kalman_and_wiener_filters_reach_most_targets() {
        let config = SimulationConfig::default();
        let ids: Vec<String> = (0..config.n_units as u64).map(unit_id).collect();
        let mut fitted = fit(&config, 1, 120_000_000_000, BIN_NS, &ids).unwrap();
        let decoders = fitted.decoders.len();
        let (mut closed_loop, port) = ClosedLoop::new(config, 1, ReachTask::default(), SETS, decoders).unwrap();
        let (mut cursor, mut end_ns) = (Cursor::default(), 0);
        let (mut counts, mut velocities) = (vec![0; ids.len()], vec![[0.0; 2]; decoders]);
        while !closed_loop.ended() {
            end_ns += BIN_NS;
            counts.fill(0);
            closed_loop.advance_to(end_ns, &mut |_, unit| counts[unit as usize] += 1);
            for (decoder, velocity) in fitted.decoders.iter_mut().zip(&mut velocities) {
                decoder.step(&counts, velocity);
            }
            let planned = port.plan().get(port.state().trial);
            if let Some(planned) = planned {
                cursor.advance(&port, end_ns, BIN_NS, velocities[planned.decoder]);
            }
        }
        for (number, decoder) in fitted.decoders.iter().enumerate() {
            let results = port.results();
            let own = results.iter().filter(|result| result.planned.decoder == number);
            let reached = own.filter(|result| matches!(result.outcome, TrialOutcome::Success { .. }));
            let successes = reached.count();
            // Three quarters: below what a decoder does that follows the intention with 100 ms of delay, above any by chance.
            assert!(4 * successes >= 3 * SETS, "{}: {successes} of {SETS}", decoder.name());
        }
    }
}
