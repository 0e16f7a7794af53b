//! A simulated session as a file: what `Recording::load` reads like a real one, with the true rates beside it.

use super::{Population, SimulationConfig, SimulationError, BEHAVIOUR_STEP_NS, STEP_NS};
use crate::data::arrays::{ArrayWriter, Elements};
use crate::data::NS_PER_S;

/// Why there is no file.
#[derive(Debug, thiserror::Error)]
pub enum ArchiveError {
    /// A population that cannot be.
    #[error(transparent)]
    Simulation(#[from] SimulationError),
    /// More than an archive takes.
    #[error("the simulated session does not fit into an archive: {0}")]
    Archive(#[from] std::io::Error),
}

/// The first `duration_ns` of the population of a seed, rounded down to steps of 10 ms, as an `.npz` recording of the events
/// layout ([`crate::data::npz`]): spikes, the hand's position and velocity, and `rates_hz`, the expected counts of every unit
/// in steps of 10 ms over their length, refractoriness included, for one who knows the hand's path and no spike. The same
/// seed gives the same bytes.
///
/// # Errors
/// [`ArchiveError`].
pub fn archive(config: &SimulationConfig, seed: u64, duration_ns: i64) -> Result<Vec<u8>, ArchiveError> {
    let duration_ns = duration_ns.max(0) / BEHAVIOUR_STEP_NS * BEHAVIOUR_STEP_NS;
    let mut population = Population::new(config.clone(), seed)?;
    let mut expected = population.expected_counts();
    let recording = population.record(duration_ns);
    let units = recording.n_units();
    let seconds = |ns: i64| ns as f64 / NS_PER_S as f64;

    let steps = (duration_ns / BEHAVIOUR_STEP_NS) as usize;
    let step_s: Vec<f64> = (0..steps as i64)
        .map(|step| seconds(step * BEHAVIOUR_STEP_NS))
        .collect();
    let mut rates_hz = Vec::with_capacity(steps * units);
    let mut counts = vec![0.0; units];
    for step in 1..=steps as i64 {
        counts.fill(0.0);
        expected.advance_to(step * BEHAVIOUR_STEP_NS, &mut counts);
        let step_s = seconds(BEHAVIOUR_STEP_NS);
        rates_hz.extend(counts.iter().map(|count| (count / step_s) as f32));
    }
    let times_s: Vec<f64> = recording
        .spike_times_ns
        .iter()
        .map(|&time_ns| seconds(time_ns))
        .collect();
    let spike_units: Vec<i64> = recording.spike_units.iter().map(|&unit| i64::from(unit)).collect();

    let mut file = ArrayWriter::default();
    file.add("spike_times", &[times_s.len()], Elements::F64(&times_s))?;
    file.add("spike_units", &[spike_units.len()], Elements::I64(&spike_units))?;
    file.add("n_units", &[], Elements::I64(&[units as i64]))?;
    file.add("duration_s", &[], Elements::F64(&[seconds(duration_ns)]))?;
    file.add("hand_time_s", &[steps], Elements::F64(&step_s))?;
    for series in &recording.behaviour {
        let name = format!("{}_{}", series.name, series.unit.replace('/', "_"));
        file.add(&name, &[steps, series.channels], Elements::F32(&series.values))?;
    }
    file.add("rates_time_s", &[steps], Elements::F64(&step_s))?;
    file.add("rates_hz", &[steps, units], Elements::F32(&rates_hz))?;
    Ok(file.finish()?)
}

const _: () = assert!(BEHAVIOUR_STEP_NS % STEP_NS == 0, "a step of behaviour has whole steps");

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{LoadOptions, Recording};

    fn small() -> SimulationConfig {
        SimulationConfig {
            n_units: 5,
            ..SimulationConfig::default()
        }
    }

    #[test]
    fn what_is_written_is_the_recording_with_its_rates() {
        let bytes = archive(&small(), 7, 20 * NS_PER_S + 3).unwrap();
        let read = Recording::from_bytes("s", &bytes, &LoadOptions::default()).unwrap();
        let recorded = Population::new(small(), 7).unwrap().record(20 * NS_PER_S);
        assert_eq!(read.spike_times_ns, recorded.spike_times_ns);
        assert_eq!(read.spike_units, recorded.spike_units);
        assert_eq!(
            (read.unit_ids.clone(), read.intervals.clone()),
            (recorded.unit_ids, recorded.intervals)
        );
        for series in &recorded.behaviour {
            let found = read.series(&series.name).unwrap();
            assert_eq!((&found.unit, &found.times_ns), (&series.unit, &series.times_ns));
            assert_eq!(found.values, series.values);
        }
        // Over 20 s the counts are the rates' to a few of their deviations.
        let rates = read.series("rates").unwrap();
        assert_eq!((rates.unit.as_str(), rates.channels, rates.len()), ("Hz", 5, 2000));
        for (unit, count) in read.unit_counts().into_iter().enumerate() {
            let expected: f64 = (0..rates.len())
                .map(|step| f64::from(rates.row(step)[unit]) * 0.01)
                .sum();
            assert!(
                (count as f64 - expected).abs() < 4.0 * expected.sqrt(),
                "{unit}: {count} of {expected}"
            );
        }
        assert_eq!(read.notes, Vec::<String>::new());
    }

    #[test]
    fn one_seed_is_one_file() {
        let of = |seed| archive(&small(), seed, NS_PER_S).unwrap();
        assert_eq!(of(1), of(1));
        assert_ne!(of(1), of(2));
    }
}
