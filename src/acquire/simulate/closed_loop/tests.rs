//! The loop in virtual time, without a pipeline: generator, decoder and cursor in one thread.

use super::*;

const BIN_NS: i64 = 20_000_000;

/// Where a cursor goes: it is asked once a bin, after the bin has closed.
type Steer<'a> = dyn FnMut(&ReachPort, &mut Cursor, i64) + 'a;

fn run(seed: u64, sets: usize, steer: &mut Steer<'_>) -> (Vec<(i64, u32)>, Vec<TrialResult>) {
    let task = ReachTask {
        time_out_ns: 2_000_000_000,
        ..ReachTask::default()
    };
    let (mut closed_loop, port) = ClosedLoop::new(SimulationConfig::default(), seed, task, sets, 1).unwrap();
    let (mut spikes, mut cursor, mut end_ns) = (Vec::new(), Cursor::default(), 0);
    while !closed_loop.ended() {
        end_ns += BIN_NS;
        closed_loop.advance_to(end_ns, &mut |time_ns, unit| spikes.push((time_ns, unit)));
        steer(&port, &mut cursor, end_ns);
        assert!(end_ns <= task.longest_ns(sets) + BIN_NS, "the loop does not end");
    }
    assert_eq!(port.state().trial, sets);
    (spikes, port.results())
}

fn follow_the_intention(port: &ReachPort, cursor: &mut Cursor, end_ns: i64) {
    cursor.advance(port, end_ns, BIN_NS, port.intended_m_s());
}

fn successes(results: &[TrialResult]) -> usize {
    let reached = |result: &&TrialResult| matches!(result.outcome, TrialOutcome::Success { .. });
    results.iter().filter(reached).count()
}

#[test]
fn one_seed_and_one_path_give_the_same_spikes() {
    let (spikes, results) = run(7, 4, &mut follow_the_intention);
    assert_eq!(
        (&spikes, &results),
        (
            &run(7, 4, &mut follow_the_intention).0,
            &run(7, 4, &mut follow_the_intention).1
        )
    );
    assert_ne!(spikes, run(8, 4, &mut follow_the_intention).0);
    // The path matters: the spikes part once the cursor does.
    assert_ne!(spikes, run(7, 4, &mut |_, _, _| {}).0);
}

#[test]
fn a_cursor_that_does_what_is_intended_reaches_nearly_every_target() {
    let (_, results) = run(1, 16, &mut follow_the_intention);
    assert_eq!(results.len(), 16);
    assert!(successes(&results) >= 15, "{results:?}");
    for result in results {
        let (first, last) = (result.path_m[0], *result.path_m.last().unwrap());
        assert_eq!(first, [0.0; 2]);
        assert!(ReachTask::default().at_target(last, result.planned.target));
    }
}

#[test]
fn a_still_cursor_reaches_none() {
    let (_, results) = run(1, 8, &mut |_, _, _| {});
    assert_eq!((results.len(), successes(&results)), (8, 0));
    assert!(results
        .iter()
        .all(|result| result.path_m.iter().all(|point| *point == [0.0; 2])));
}

#[test]
fn units_are_tuned_as_in_open_loop() {
    let (closed_loop, _) = ClosedLoop::new(SimulationConfig::default(), 5, ReachTask::default(), 1, 1).unwrap();
    let open = Population::new(SimulationConfig::default(), 5).unwrap();
    assert_eq!(closed_loop.population.tuning(), open.tuning());
}

#[test]
fn every_decoder_has_every_target_and_every_turn_as_often() {
    let trials = plan(3, 24, 3);
    for decoder in 0..3 {
        for target in 0..8 {
            let times = trials
                .iter()
                .filter(|trial| (trial.decoder, trial.target) == (decoder, target));
            assert_eq!(times.count(), 3);
        }
        for turn in 0..3 {
            assert_eq!(
                trials
                    .iter()
                    .skip(turn)
                    .step_by(3)
                    .filter(|trial| trial.decoder == decoder)
                    .count(),
                8
            );
        }
    }
    for set in trials.chunks(3) {
        assert!(set
            .iter()
            .all(|trial| (trial.set, trial.target) == (set[0].set, set[0].target)));
    }
}

#[test]
fn intention_is_fast_far_away_slow_near_and_none_inside() {
    let task = ReachTask::default();
    let late = REACTION_NS + REACH_NS;
    assert_eq!(task.intention(REACTION_NS - 1, [0.0; 2], 0).speed, 0.0);
    let far = task.intention(late, [-0.05, 0.0], 0);
    assert_eq!((far.direction, far.speed), ([1.0, 0.0], 1.0));
    let near = task.intention(late, [0.06, 0.0], 0);
    assert!((near.speed - 0.4).abs() < 1e-12, "{near:?}");
    assert_eq!(task.intention(late, [0.09, 0.0], 0).speed, 0.0);
    // Past the target it is back.
    assert_eq!(task.intention(late, [0.15, 0.0], 0).direction, [-1.0, 0.0]);
}

#[test]
fn a_loop_without_trials_is_refused() {
    let error = ClosedLoop::new(SimulationConfig::default(), 0, ReachTask::default(), 0, 3).unwrap_err();
    assert!(error.to_string().contains("0 trials"), "{error}");
    assert!(ClosedLoop::new(SimulationConfig::default(), 0, ReachTask::default(), 65_535, 1).is_err());
}
