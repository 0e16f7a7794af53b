//! Every recording in `../shared/data`, against what its README says of it and against its twin in the other format.

use super::super::{Recording, Split};
use super::shared;

fn load(path: &str) -> Option<Recording> {
    shared(&format!("data/{path}")).map(|path| Recording::load(path).expect("a recording of ours"))
}

#[test]
fn neuropixels() {
    let Some(recording) = load("neuropixels.npz") else {
        return;
    };
    assert_eq!((recording.n_spikes(), recording.n_units()), (124_905, 289));
    assert!((recording.first_spike_ns().unwrap() - 4_283_810).abs() < 100);
    assert_eq!(recording.units_at_or_above(0.5).len(), 173);
    assert!(recording.notes.is_empty(), "{:?}", recording.notes);
    let late = recording.slice(recording.split(Split::new(0.8, 1.0).unwrap())).unwrap();
    assert!((late.duration_s() - 0.2 * recording.duration_s()).abs() < 1e-8);
}

#[test]
fn m1_reaching() {
    let Some(recording) = load("m1_reaching.npz") else {
        return;
    };
    assert_eq!(recording.n_units(), 171);
    assert_eq!(recording.intervals.len(), 1);
    assert_eq!(recording.observed_ns(), 15_536 * 50_000_000);
    let names: Vec<_> = recording
        .behaviour
        .iter()
        .map(|series| (series.name.as_str(), series.unit.as_str()))
        .collect();
    assert_eq!(names, [("hand_pos", "m"), ("hand_vel", "m/s")]);
    // Velocity is the derivative of position, if both stand at the same times.
    let [position, velocity] = &recording.behaviour[..] else {
        panic!("two series")
    };
    let (mut error, mut power) = (0.0, 0.0);
    for index in 1..position.len() - 1 {
        let slope = (position.row(index + 1)[0] - position.row(index - 1)[0]) / 0.1;
        error += (slope - velocity.row(index)[0]).powi(2);
        power += velocity.row(index)[0].powi(2);
    }
    assert!(
        error < 0.1 * power,
        "the derivative of position is off by {}",
        error / power
    );
}

#[test]
fn m1_centre_out() {
    for (file, units, trials) in [
        ("chewie_2013-10-03_50ms", 174, 159),
        ("chewie_2013-10-03_whole_trials", 174, 159),
        ("chewie_2013-12-19", 155, 180),
        ("mihi_2014-03-03", 187, 209),
    ] {
        let Some(recording) = load(&format!("m1_centre_out/{file}.npz")) else {
            return;
        };
        assert_eq!((recording.n_units(), recording.trials.len()), (units, trials), "{file}");
        assert!(recording
            .trials
            .iter()
            .all(|trial| (0..8).contains(&trial.condition.unwrap())));
        assert!(recording.observed_ns() > 80_000_000_000 && recording.observed_ns() < 165_000_000_000);
        if file.ends_with("whole_trials") {
            assert_eq!(recording.intervals.len(), trials);
        }
    }
}

#[test]
fn lorenz() {
    let Some(recording) = load("lorenz.npz") else { return };
    assert_eq!((recording.n_units(), recording.trials.len()), (30, 65 * 20));
    assert_eq!(recording.observed_ns(), 65 * 20 * 100 * 10_000_000);
    // The rates are the true ones: the spikes are as many as they say, to four standard deviations.
    let rates = recording
        .behaviour
        .iter()
        .find(|series| series.name == "rates")
        .unwrap();
    let expected: f64 = rates.values.iter().map(|&rate| f64::from(rate) * 0.01).sum();
    let off = recording.n_spikes() as f64 - expected;
    assert!(
        off.abs() < 4.0 * expected.sqrt(),
        "{} spikes where {expected} are expected",
        recording.n_spikes()
    );
}

#[test]
fn aplysia() {
    let Some(folder) = shared("data/aplysia") else { return };
    let mut files = 0;
    for file in std::fs::read_dir(folder).unwrap() {
        let recording = Recording::load(file.unwrap().path()).unwrap();
        assert!((75..=160).contains(&recording.n_units()), "{}", recording.name);
        assert_eq!(
            (recording.start_ns, recording.end_ns),
            (0, 123_000_000_000),
            "{}",
            recording.name
        );
        files += 1;
    }
    assert_eq!(files, 30);
}

#[test]
fn nwb_equals_npz_spike_for_spike() {
    for (nwb, npz) in [
        ("hippocampus_track.nwb", "hippocampus_track.npz"),
        ("aplysia_Jun0414Bda01.nwb", "aplysia/Jun0414Bda01.npz"),
    ] {
        let (Some(nwb), Some(npz)) = (load(&format!("nwb/{nwb}")), load(npz)) else {
            return;
        };
        assert!(npz.n_spikes() > 10_000);
        assert_eq!(nwb.unit_ids, npz.unit_ids);
        assert_eq!(nwb.spike_times_ns, npz.spike_times_ns);
        assert_eq!(nwb.spike_units, npz.spike_units);
    }
}

#[test]
fn nwb_position_is_that_of_the_npz() {
    let (Some(nwb), Some(npz)) = (load("nwb/hippocampus_track.nwb"), load("hippocampus_track.npz")) else {
        return;
    };
    let (position, full) = (&nwb.behaviour[0], &npz.behaviour[0]);
    assert_eq!(
        (position.name.as_str(), position.unit.as_str(), position.channels),
        ("position", "pixels", 2)
    );
    assert_eq!(position.len(), 29_742);
    for index in 0..position.len() {
        let twin = full
            .times_ns
            .binary_search(&position.times_ns[index])
            .expect("the same time in the npz");
        assert_eq!(position.row(index), full.row(twin));
    }
    assert_eq!(nwb.intervals.len(), 1);
    assert_eq!(nwb.first_spike_ns(), Some(nwb.start_ns));
}
