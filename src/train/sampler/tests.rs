//! Sets and draws on small made-up recordings, where everything can be counted directly.

use std::collections::BTreeSet;
use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::data::{Interval, Position, Recording};
use crate::evaluate::forward::window_starts;
use crate::model::window::WindowShape;

mod real;

/// 500 ns of history, two bins of 20 ns and one of 30: with the whole bins that the horizon reaches into, 580 ns.
const SHAPE: WindowShape = WindowShape {
    history_ns: 500,
    bin_ns: 20,
    bins: 3,
    horizon_ns: 70,
};

fn interval(start_ns: i64, end_ns: i64) -> Interval {
    Interval { start_ns, end_ns }
}

fn recording(name: &str, units: &[&str], spikes: &[(i64, u32)], intervals: &[(i64, i64)]) -> Recording {
    let mut spikes = spikes.to_vec();
    spikes.sort_by_key(|&(time, _)| time);
    Recording {
        name: name.to_owned(),
        unit_ids: units.iter().map(|id| id.to_string()).collect(),
        spike_times_ns: spikes.iter().map(|&(time, _)| time).collect(),
        spike_units: spikes.iter().map(|&(_, unit)| unit).collect(),
        start_ns: intervals[0].0,
        end_ns: intervals[intervals.len() - 1].1,
        intervals: intervals.iter().map(|&(start, end)| interval(start, end)).collect(),
        count_bin_ns: None,
        behaviour: Vec::new(),
        trials: Vec::new(),
        epochs: Vec::new(),
        notes: Vec::new(),
    }
}

fn span(from: f64, to: f64) -> Span {
    Span {
        from: Position::Fraction(from),
        to: Position::Fraction(to),
    }
}

fn source(session: &str, recording: Recording) -> Source {
    Source {
        session: session.to_owned(),
        recording,
        training: vec![span(0.0, 0.6)],
        validation: vec![span(0.6, 0.8)],
        reference: Vec::new(),
        test: vec![span(0.8, 1.0)],
    }
}

/// One spike every 10 ns from 0 to 10 000, of the given number of units in turn.
fn regular(name: &str, units: &[&str]) -> Recording {
    let spikes: Vec<(i64, u32)> = (0..1000).map(|i| (i * 10, (i as usize % units.len()) as u32)).collect();
    recording(name, units, &spikes, &[(0, 10_000)])
}

fn sampler(set: TrainingSet, options: SamplerOptions) -> Sampler {
    Sampler::new(Arc::new(set), options).unwrap()
}

proptest! {
    /// Windows lie in one observed stretch and one training interval, apart from every validation window and from the
    /// test interval; their spikes and counts are those of a direct count.
    #[test]
    fn windows_are_inside_and_count_what_is_there(
        times in prop::collection::vec((37i64..20_000, 0u32..4), 50..400),
        gap in (3_000i64..15_000, 1i64..2_000),
        grid_starts: bool,
        seed: u64,
    ) {
        let (gap_start, gap_end) = (gap.0, gap.0 + gap.1);
        let spikes: Vec<(i64, u32)> = times.into_iter().filter(|&(t, _)| !(gap_start..gap_end).contains(&t)).collect();
        let made = recording("made", &["a", "b", "c", "d"], &spikes, &[(0, gap_start), (gap_end, 20_000)]);
        let first = made.spike_times_ns[0];
        let set = TrainingSet::new(vec![source("s", made.clone())], SHAPE, 0.0);
        prop_assume!(!matches!(set, Err(SamplerError::ShortInterval { .. })));
        let set = set.unwrap();
        let edge = |fraction: f64| first as f64 + fraction * (20_000 - first) as f64;
        let inside = |start: i64, from: f64, to: f64| {
            start as f64 >= edge(from) - 10.5 && (start + 580) as f64 <= edge(to) + 0.5
        };
        let validation: Vec<i64> = set.validation_starts().into_iter().map(|(_, start)| start).collect();
        prop_assert!(validation.iter().all(|&start| inside(start, 0.6, 0.8)));
        let options = SamplerOptions { seed, batch_size: 20, grid_starts, ..SamplerOptions::default() };
        for window in sampler(set.clone(), options).batch(3).windows.into_iter().chain(set.validation_windows()) {
            let (start, now, end) = (window.start_ns, window.start_ns + 500, window.start_ns + 580);
            prop_assert!(end <= gap_start || start >= gap_end);
            if !validation.contains(&start) {
                prop_assert!(start >= first && inside(start, 0.0, 0.6));
                prop_assert!(validation.iter().all(|&other| end <= other));
                prop_assert!(!grid_starts || (start - first) % 20 == 0);
            }
            let past: Vec<(f64, u32)> = made.spike_times_ns.iter().zip(&made.spike_units)
                .filter(|(&t, _)| start <= t && t < now)
                .map(|(&t, &unit)| ((t - start) as f64 * 1e-9, unit))
                .collect();
            prop_assert_eq!(window.times_s.into_iter().zip(window.unit).collect::<Vec<_>>(), past);
            let edges = [(now, now + 20), (now + 20, now + 40), (now + 40, now + 70)];
            let counts: Vec<f32> = edges.iter().flat_map(|&(from, to)| (0..4).map(move |unit| (from, to, unit)))
                .map(|(from, to, unit)| spikes.iter().filter(|&&(t, u)| from <= t && t < to && u == unit).count() as f32)
                .collect();
            prop_assert_eq!(window.counts, counts);
        }
    }
}

#[test]
fn every_admissible_start_is_drawn_and_no_other() {
    // Training 0 to 2000 and 3000 to 4000: starts 0, 20, … 1420 and 3000, … 3420.
    let mut both = source("s", regular("r", &["a"]));
    (both.validation, both.test) = (Vec::new(), Vec::new());
    both.training = vec![span(0.0, 0.2), span(0.3, 0.4)];
    let set = TrainingSet::new(vec![both], SHAPE, 0.0).unwrap();
    let expected: BTreeSet<i64> = (0..=1420).step_by(20).chain((3000..=3420).step_by(20)).collect();
    let options = SamplerOptions {
        batch_size: 2000,
        ..SamplerOptions::default()
    };
    let drawing = sampler(set.clone(), options);
    assert_eq!(drawing.admissible(), expected.len() as u64);
    let drawn: BTreeSet<i64> = drawing.batch(0).windows.iter().map(|window| window.start_ns).collect();
    assert_eq!(drawn, expected);
    let options = SamplerOptions {
        grid_starts: false,
        ..options
    };
    assert_eq!(sampler(set, options).admissible(), 1421 + 421);
}

#[test]
fn a_batch_depends_on_seed_and_step_alone() {
    let set = TrainingSet::new(vec![source("s", regular("r", &["a", "b", "c"]))], SHAPE, 0.0).unwrap();
    let options = SamplerOptions {
        seed: 7,
        batch_size: 5,
        unit_dropout: Some(UnitDropout {
            min: 1,
            mode: 2,
            max: 4,
        }),
        ..SamplerOptions::default()
    };
    let one = sampler(set.clone(), options);
    let direct: Vec<Batch> = (4..10).map(|step| one.batch(step)).collect();
    let another = sampler(set.clone(), options);
    let ahead = Prefetch::new(4..10, move |step| Ok(another.batch(step))).unwrap();
    assert_eq!(ahead.map(Result::unwrap).collect::<Vec<_>>(), direct);
    assert_ne!(direct[0].windows, direct[1].windows);
    let other = sampler(set, SamplerOptions { seed: 8, ..options });
    assert_ne!(other.batch(4).windows, direct[0].windows);
}

#[test]
fn dropped_units_leave_no_spikes() {
    let names: Vec<String> = (0..20).map(|unit| format!("u{unit}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let set = TrainingSet::new(vec![source("s", regular("r", &names))], SHAPE, 0.0).unwrap();
    let options = |min, mode, max| SamplerOptions {
        batch_size: 4000,
        unit_dropout: Some(UnitDropout { min, mode, max }),
        ..SamplerOptions::default()
    };
    let windows = sampler(set.clone(), options(3, 6, 15)).batch(0).windows;
    for window in &windows {
        assert!((3..15).contains(&window.units.len()));
        assert!(window.units.is_sorted_by(|a, b| a < b));
        let whole = set.window(window.recording, window.start_ns);
        let kept = whole
            .times_s
            .iter()
            .zip(&whole.unit)
            .filter(|(_, unit)| window.units.contains(unit));
        assert!(kept.eq(window.times_s.iter().zip(&window.unit)));
        assert_eq!(window.counts, whole.counts);
    }
    // The mean of the triangular distribution is (3 + 6 + 15) / 3 = 8, its whole part on average half less; the standard
    // error of the mean of 4000 is 0.04.
    let mean = windows.iter().map(|window| window.units.len() as f64).sum::<f64>() / 4000.0;
    assert!((mean - 7.5).abs() < 0.2, "{mean}");
    let times_kept = |unit| windows.iter().filter(|window| window.units.contains(&unit)).count() as f64 / 4000.0;
    assert!((0..20).all(|unit| (times_kept(unit) - 7.5 / 20.0).abs() < 0.05));

    let whole = |windows: Vec<Window>| windows.iter().all(|window| window.units.len() == 20);
    assert!(whole(sampler(set.clone(), options(30, 80, 200)).batch(0).windows));
    assert!(whole(sampler(set, options(20, 80, 200)).batch(0).windows));
}

#[test]
fn counted_spikes_get_new_times_inside_their_bins() {
    // Bins of 60 ns from 0: the grid's 20 ns bins begin with the first spike's bin, at 60.
    let spikes: Vec<(i64, u32)> = (0..1500).map(|i| (70 + i * 6, (i % 3) as u32)).collect();
    let mut counted = recording("counted", &["a", "b", "c"], &spikes, &[(0, 12_000)]);
    counted.count_bin_ns = Some(60);
    let set = TrainingSet::new(vec![source("s", counted)], SHAPE, 0.0).unwrap();
    assert_eq!(set.recordings()[0].grid_origin_ns, 60);
    let options = SamplerOptions {
        batch_size: 50,
        ..SamplerOptions::default()
    };
    for window in sampler(set.clone(), options).batch(0).windows {
        assert_eq!(window.start_ns % 20, 0);
        let stored = set.window(0, window.start_ns);
        assert_ne!(window.times_s, stored.times_s);
        assert!(window.times_s.is_sorted());
        let in_bins = |window: &Window| {
            let bin = |t: f64| (window.start_ns + (t * 1e9).round() as i64) / 60;
            let mut bins: Vec<(i64, u32)> = window
                .times_s
                .iter()
                .map(|&t| bin(t))
                .zip(window.unit.clone())
                .collect();
            bins.sort_unstable();
            bins
        };
        assert_eq!(in_bins(&window), in_bins(&stored));
        // Bins that the history cuts through keep their times.
        let edges = |window: &Window| {
            let absolute = window
                .times_s
                .iter()
                .map(|&t| window.start_ns + (t * 1e9).round() as i64);
            let whole = |t: i64| t / 60 * 60 >= window.start_ns && t / 60 * 60 + 60 <= window.start_ns + 500;
            absolute.filter(|&t| !whole(t)).collect::<Vec<_>>()
        };
        assert_eq!(edges(&window), edges(&stored));
    }
    let options = SamplerOptions {
        spread: false,
        ..options
    };
    let drawn = sampler(set.clone(), options).batch(0).windows;
    assert!(drawn.iter().all(|window| *window == set.window(0, window.start_ns)));
}

#[test]
fn rates_are_those_of_the_observed_training_intervals() {
    // First spike at 100, end at 10 100: training 100 to 6100, observed in it 100 to 3100 and 4100 to 6100: 250 bins.
    let spikes: Vec<(i64, u32)> = [
        (100, 0),
        (3099, 0),
        (3100, 0),
        (4099, 1),
        (4100, 1),
        (6099, 1),
        (6100, 1),
        (200, 1),
        (300, 2),
        (9000, 3),
    ]
    .to_vec();
    let made = recording("made", &["a", "b", "c", "d"], &spikes, &[(0, 3100), (4100, 10_100)]);
    let set = TrainingSet::new(vec![source("s", made.clone())], SHAPE, 0.0).unwrap();
    let session = &set.sessions()[0];
    let expected = [
        (2.0f64 / 250.0).ln(),
        (3.0f64 / 250.0).ln(),
        (1.0f64 / 250.0).ln(),
        -10.0,
    ];
    for (rate, expected) in session.null_log_rates.iter().zip(expected) {
        assert!((rate - expected).abs() < 1e-12, "{:?}", session.null_log_rates);
    }

    // 5000 ns: 2 spikes are 400 000 Hz.
    let set = TrainingSet::new(vec![source("s", made.clone())], SHAPE, 399_999.0).unwrap();
    assert_eq!(set.sessions()[0].recorded_ids, ["a", "b"]);
    assert_eq!(set.recordings()[0].recording.n_spikes(), 8);
    // The grid stays where the first spike of all units is.
    let made_b = made.select_units(&["b", "c", "d", "a"]).unwrap();
    let set = TrainingSet::new(vec![source("s", made_b)], SHAPE, 500_000.0).unwrap();
    assert_eq!(
        (set.unit_ids(), set.recordings()[0].grid_origin_ns),
        (&["b".to_owned()][..], 100)
    );
    let error = TrainingSet::new(vec![source("s", made)], SHAPE, 1e6)
        .unwrap_err()
        .to_string();
    assert_eq!(
        error,
        "no unit of session s fires at 1000000 Hz or more in the training intervals; the highest rate is 600000.000 Hz"
    );
}

#[test]
fn recordings_of_one_session_share_their_units() {
    let first = source("monkey", regular("first", &["a", "b"]));
    let mut second = source("monkey", regular("second", &["b", "a"]));
    let alone = TrainingSet::new(vec![first.clone(), second.clone()], SHAPE, 0.0).unwrap();
    assert_eq!(alone.unit_ids(), ["a", "b"]);
    assert_eq!(alone.sessions().len(), 1);
    // Unit "a" is the even one in the first recording and the odd one in the second.
    assert_eq!(alone.recordings()[0].recording.spike_units[..2], [0, 1]);
    assert_eq!(alone.recordings()[1].recording.spike_units[..2], [1, 0]);
    let drawn = sampler(alone, SamplerOptions::default()).batch(0).windows;
    assert!((0..2).all(|recording| drawn.iter().any(|window| window.recording == recording)));

    // A recording that is only validated takes its rates from the others.
    (second.training, second.validation, second.test) = (Vec::new(), vec![span(0.0, 1.0)], Vec::new());
    let third = source("rat", regular("third", &["b", "c", "d"]));
    let set = TrainingSet::new(vec![first, third, second.clone()], SHAPE, 0.0).unwrap();
    assert_eq!(set.unit_ids(), ["monkey/a", "monkey/b", "rat/b", "rat/c", "rat/d"]);
    assert_eq!(
        (set.sessions()[1].first_unit, &set.session_of(2).name[..]),
        (2, "monkey")
    );
    // 300 spikes of each unit in the 300 bins of 0 to 6000.
    assert!(set.sessions()[0].null_log_rates.iter().all(|rate| rate.abs() < 1e-12));
    assert_eq!(set.window(1, 0).counts.len(), 9);

    let error = TrainingSet::new(vec![second], SHAPE, 0.0).unwrap_err().to_string();
    assert!(error.contains("session monkey has no training interval"), "{error}");
    let other = source("monkey", regular("other", &["a", "c"]));
    let both = vec![source("monkey", regular("first", &["a", "b"])), other];
    let error = TrainingSet::new(both, SHAPE, 0.0).unwrap_err().to_string();
    assert!(
        error.starts_with("first and other are both of session monkey, but unit b"),
        "{error}"
    );
}

#[test]
fn validation_windows_follow_one_another_and_begin_anew_after_a_gap() {
    let set = TrainingSet::new(vec![source("s", regular("r", &["a"]))], SHAPE, 0.0).unwrap();
    let expected: Vec<(usize, i64)> = window_starts(SHAPE, 6000, 8000, 3).map(|start| (0, start)).collect();
    assert_eq!(expected[..2], [(0, 6000), (0, 6060)]);
    assert_eq!(set.validation_starts(), expected);

    let mut broken = regular("r", &["a"]);
    broken.intervals = vec![interval(0, 6650), interval(6810, 10_000)];
    let set = TrainingSet::new(vec![source("s", broken)], SHAPE, 0.0).unwrap();
    let starts: Vec<i64> = set.validation_starts().into_iter().map(|(_, start)| start).collect();
    // 6000 + 580 and 6060 + 580 end before 6650; then from the first edge after 6810.
    assert_eq!(starts[..3], [6000, 6060, 6820]);
    assert_eq!(starts.last(), Some(&(6820 + 10 * 60)));
    assert!(set.validation_windows().map(|window| window.start_ns).eq(starts));
}

#[test]
fn what_cannot_be_trained_on_is_refused() {
    let refused = |change: &dyn Fn(&mut Source)| {
        let mut source = source("s", regular("r", &["a"]));
        change(&mut source);
        TrainingSet::new(vec![source], SHAPE, 0.0).unwrap_err().to_string()
    };
    assert_eq!(
        refused(&|source| source.validation = vec![span(0.4, 0.7)]),
        "r: the training interval 0.000 s to 0.000 s and the validation interval 0.000 s to 0.000 s overlap"
    );
    assert!(refused(&|source| source.test = vec![span(0.7, 0.9)]).contains("the validation interval"));
    assert!(refused(&|source| source.training = vec![span(0.0, 0.05)]).contains("the training interval"));
    let silent = |source: &mut Source| {
        let recording = &mut source.recording;
        recording.spike_times_ns.drain(1..700);
        recording.spike_units.drain(1..700);
        source.training = vec![span(0.1, 0.6)];
    };
    assert_eq!(refused(&silent), "r has no spikes in its training intervals");
    assert!(refused(&|source| source.recording.spike_times_ns.clear()).contains("holds no spikes"));
    assert!(matches!(
        TrainingSet::new(Vec::new(), SHAPE, 0.0),
        Err(SamplerError::NoRecordings)
    ));
    let bad_rate = TrainingSet::new(vec![source("s", regular("r", &["a"]))], SHAPE, f64::NAN);
    assert!(bad_rate.unwrap_err().to_string().contains("`min_rate_hz` is NaN"));

    let set = Arc::new(TrainingSet::new(vec![source("s", regular("r", &["a"]))], SHAPE, 0.0).unwrap());
    for (min, mode, max) in [(0, 1, 2), (3, 2, 4), (1, 5, 4)] {
        let options = SamplerOptions {
            unit_dropout: Some(UnitDropout { min, mode, max }),
            ..SamplerOptions::default()
        };
        let error = Sampler::new(Arc::clone(&set), options).unwrap_err().to_string();
        assert!(error.contains(&format!("min {min}, mode {mode}, max {max}")), "{error}");
    }
    let options = SamplerOptions {
        batch_size: 0,
        ..SamplerOptions::default()
    };
    assert!(Sampler::new(set, options)
        .unwrap_err()
        .to_string()
        .contains("`batch_size` is 0"));
}
