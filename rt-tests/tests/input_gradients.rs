//! Integrated gradients: contributions add up to what the inputs change, and what says nothing contributes nothing.

use neurohorizon::evaluate::gradients::{GradientWindow, InputGradients, WindowGradients};
use neurohorizon::evaluate::quadrature::nodes;
use neurohorizon::model::checkpoint::Checkpoint;
use neurohorizon::model::conditions::Tokens;
use neurohorizon::model::config::{Decoder, Feedback, ModelConfig};
use neurohorizon::model::traces::Traces;
use rt_tests::tiny::{conditions, config, history, shown};

const UNITS: usize = 3;
const TIMES_S: [f64; 5] = [0.004, 0.021, 0.048, 0.07, 0.093];
const SPIKING: [u32; 5] = [0, 2, 0, 1, 2];
const COUNTS: [f32; 9] = [1.0, 0.0, 2.0, 0.0, 1.0, 1.0, 3.0, 0.0, 0.0];

fn attributed(config: &ModelConfig, spikes: usize, nothing_shown: bool, unit: Option<usize>) -> WindowGradients {
    attributed_in(config, spikes, nothing_shown, unit, 400)
}

fn attributed_in(
    config: &ModelConfig,
    spikes: usize,
    nothing_shown: bool,
    unit: Option<usize>,
    steps: usize,
) -> WindowGradients {
    let checkpoint = Checkpoint::random(config, UNITS, 6);
    let mut gradients = InputGradients::new(&checkpoint, &[1, 2, 3], 8).unwrap();
    let traces = config.history.as_ref().map(|path| {
        let mut traces = Traces::of_path(path, 0.02, &[-2.0; UNITS]);
        traces.push_bin([2.0, 0.0, 1.0].into_iter());
        traces
    });
    let shown: Vec<Tokens> = match nothing_shown {
        true => config
            .conditions
            .iter()
            .map(|c| Tokens::none(c, config.history_s()))
            .collect(),
        false => shown(config, 0),
    };
    let window = GradientWindow {
        times_s: &TIMES_S[..spikes],
        units: &SPIKING[..spikes],
        traces: traces.as_ref(),
        conditions: &shown,
        counts: &COUNTS,
    };
    gradients.window(&window, unit, &nodes(steps)).unwrap()
}

/// FP32 sums, and 400 steps.
fn adds_up(found: &WindowGradients) {
    let gained = found.ends_of_path[0] - found.ends_of_path[1];
    println!("{} of {gained}", found.residual());
    assert!(gained.abs() > 0.01, "{gained}: nothing to add up to");
    assert!(found.residual().abs() < 1e-3, "{} of {gained}", found.residual());
}

fn whole(decoder: Decoder) -> ModelConfig {
    ModelConfig {
        history: Some(history()),
        conditions: conditions(),
        ..config(decoder)
    }
}

#[test]
fn contributions_add_up() {
    for decoder in [Decoder::QueryAug(Feedback::None), Decoder::PredictionMemory] {
        let found = attributed(&whole(decoder), 5, false, None);
        adds_up(&found);
        // Every kind of input has a part, and each is measured alone below.
        let parts = [&found.spikes, &found.ends, &found.own_history, &found.population];
        for part in parts.into_iter().chain(&found.conditions) {
            assert!(part.iter().any(|bits| bits.abs() > 1e-5), "{found:?}");
        }
        assert_eq!(
            (found.spikes.len(), found.ends.len(), found.conditions.len()),
            (5, 3, 2)
        );
    }
}

#[test]
fn each_kind_of_input_adds_up_alone() {
    let plain = || config(Decoder::QueryAug(Feedback::None));
    adds_up(&attributed(&plain(), 5, true, None));
    let shown = ModelConfig {
        conditions: conditions(),
        ..plain()
    };
    adds_up(&attributed(&shown, 0, false, None));
    let remembered = ModelConfig {
        history: Some(history()),
        ..plain()
    };
    adds_up(&attributed(&remembered, 0, true, None));
}

#[test]
fn units_add_up_to_all_of_them() {
    let config = whole(Decoder::QueryAug(Feedback::None));
    let all = attributed(&config, 5, false, None);
    let each: Vec<WindowGradients> = (0..UNITS)
        .map(|unit| attributed(&config, 5, false, Some(unit)))
        .collect();
    for (spike, bits) in all.spikes.iter().enumerate() {
        let sum: f64 = each.iter().map(|one| one.spikes[spike]).sum();
        assert!((sum - bits).abs() < 1e-5, "spike {spike}: {sum} and {bits}");
    }
    // A unit's own traces reach its own prediction alone.
    let constants = each[0].own_history.len() / UNITS;
    for (unit, one) in each.iter().enumerate() {
        for (place, bits) in one.own_history.iter().enumerate() {
            assert!(
                place / constants == unit || *bits == 0.0,
                "{place} for unit {unit}: {bits}"
            );
        }
    }
}

#[test]
fn what_is_not_shown_contributes_nothing() {
    let found = attributed(&whole(Decoder::QueryAug(Feedback::None)), 5, true, None);
    assert!(found.conditions.iter().flatten().all(|bits| *bits == 0.0));
}

#[test]
fn what_is_missed_shrinks_with_the_steps() {
    let config = whole(Decoder::QueryAug(Feedback::None));
    let missed = [8, 32, 128, 400].map(|steps| attributed_in(&config, 5, false, None, steps).residual().abs());
    println!("{missed:?}");
    assert!(missed.windows(2).all(|pair| pair[1] < 0.5 * pair[0]), "{missed:?}");
}
