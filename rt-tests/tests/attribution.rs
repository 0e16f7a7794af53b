//! Attribution finds what was planted: which units a behaviour drives, which a stimulus, which both and which neither.

use std::sync::atomic::AtomicBool;

use neurohorizon::acquire::simulate::planted::{planted, BEHAVIOUR, GROUPS, STIMULUS};
use neurohorizon::data::Position;
use neurohorizon::evaluate::attribution::{attribute, Attribution, Modality};
use neurohorizon::evaluate::conditions::{conditions_of, windows_shown};
use neurohorizon::evaluate::forward::Inputs;
use neurohorizon::evaluate::gradients::InputGradients;
use neurohorizon::evaluate::input_attribution::{
    attribute_inputs, GradientOptions, InputAttribution, LARGEST_RESIDUAL,
};
use neurohorizon::evaluate::metrics::Resamples;
use neurohorizon::evaluate::parts::of_trials;
use neurohorizon::evaluate::predictions::{of_network, Observed};
use neurohorizon::model::checkpoint::Checkpoint;
use neurohorizon::model::window::{Spikes, WindowShape};
use neurohorizon::model::BackendKind;
use neurohorizon::model::{build, BuildOptions, UnitMatch};
use neurohorizon::train::config::TrainConfig;
use neurohorizon::train::learner::learners;
use neurohorizon::train::sampler::{Source, Span, TrainingSet};
use neurohorizon::train::trainer::Trainer;

const UNITS_A_GROUP: usize = 4;
/// Bits per spike that a unit loses at most without a modality that does not drive it.
const MOST_UNDRIVEN: f64 = 0.006;
const TRAINED_S: f64 = 900.0;
const WHOLE_S: f64 = 1500.0;

const CONFIG: &str = r#"
[data.simulate]
units = 2
seed = 0
train_s = 1.0
validate_s = 1.0

[model]
bin_ms = 50.0
horizon_bins = 4
history_ms = 500.0
dim = 32
dim_head = 16
processor_layers = 1
decoder_layers = 1
latents_per_step = 2

[[model.condition]]
series = "behaviour"

[[model.condition]]
series = "stimulus"
kind = "stimulus"
step_ms = 100

[training]
steps = 3000
batch = 32
validate_every = 3000
threads = 2

[optimiser]
learning_rate = 3e-3

[dropout]
hidden = 0.0
attention = 0.0
residual = 0.0
"#;

/// What each modality contributed, and what each input did, in fewer windows.
fn attributed() -> (Attribution, InputAttribution) {
    let recording = planted(UNITS_A_GROUP, 3, (WHOLE_S * 1e9) as i64);
    let folder = tempfile::tempdir().unwrap();
    let mut config = TrainConfig::parse("test", CONFIG).unwrap();
    config.training.out = folder.path().to_owned();
    let span = |from, to| Span {
        from: Position::Seconds(from),
        to: Position::Seconds(to),
    };
    let source = Source {
        session: "planted".into(),
        recording: recording.clone(),
        training: vec![span(0.0, TRAINED_S)],
        validation: Vec::new(),
        reference: Vec::new(),
        test: Vec::new(),
    };
    let plain = config.model_config().unwrap();
    let shape = WindowShape::new(&plain, plain.bins());
    let set = TrainingSet::new(vec![source], shape, 0.0).unwrap();
    let threads = learners(&config, BackendKind::Cpu).unwrap();
    let mut trainer = Trainer::new(config, set, 0, threads, false).unwrap();
    let outcome = trainer.run(&AtomicBool::new(false), &mut |_| ()).unwrap();
    let checkpoint = Checkpoint::load(&outcome.checkpoint.unwrap()).unwrap();

    let matched = UnitMatch::new(&checkpoint, &recording.unit_ids, None).unwrap();
    let mut network = build(&checkpoint, &matched.rows, &BuildOptions::default()).unwrap();
    let spikes = Spikes {
        times_ns: &recording.spike_times_ns,
        units: &recording.spike_units,
    };
    let null = matched.null_log_rates(&checkpoint).unwrap();
    let interval = ((TRAINED_S * 1e9) as i64, (WHOLE_S * 1e9) as i64);
    let null = null.into_iter().map(f64::from).collect();
    let observed = Observed::new(spikes, shape, interval, shape.bins, null);
    let parts = of_trials(&recording.trials, &observed);
    let resamples = Resamples::new(observed.windows(), 400, 0);
    let config = checkpoint.config.clone();
    let inputs = || Inputs {
        spikes,
        spike_tokens: true,
        traces: None,
        conditions: conditions_of(&config, &recording).unwrap(),
    };
    let shown = windows_shown(&mut inputs().conditions, &observed);
    let modalities: Vec<Modality> = [BEHAVIOUR, STIMULUS]
        .iter()
        .zip(shown)
        .map(|(&name, windows_shown)| Modality {
            name: name.to_owned(),
            windows_shown,
        })
        .collect();
    let options = GradientOptions {
        steps: 8,
        most_steps: 512,
        windows: 100,
        by_target: true,
    };
    let mut gradients = InputGradients::new(&checkpoint, &matched.rows, 4096).unwrap();
    let resampled = |windows| Resamples::new(windows, 400, 0);
    let by_input = attribute_inputs(&mut gradients, &config, inputs(), &observed, &options, resampled, || ()).unwrap();
    let by_modality = attribute(&observed, &modalities, &parts, &resamples, |shown| {
        let mut inputs = inputs();
        inputs.spike_tokens = shown.spike_tokens;
        inputs.conditions = inputs.conditions.showing(|number| shown.modalities[number]);
        of_network(network.as_mut(), "network", inputs, &observed, |_, _| Ok(()))
    })
    .unwrap();
    (by_modality, by_input)
}

/// By integrated gradients: a modality moves the predictions of the units that it drives, whether that then helped or not, more than
/// those of any other group (an interval of a group's mean is no wider than the mean of its units' intervals; single units are told
/// apart by what is lost without the modality, above); and what was shown last matters most, of a behaviour that wanders within
/// 0.6 s and of an image that is shown until the next.
fn gradients_find_it_too(inputs: &InputAttribution) {
    println!("{}: {:?}", inputs.in_words(), inputs.by_source);
    // Contributions to all units and to each of them add up.
    assert!(
        inputs.complete && inputs.residual <= LARGEST_RESIDUAL,
        "{}",
        inputs.in_words()
    );
    let together: f64 = inputs.by_source.iter().filter_map(|bits| bits.value).sum();
    let gained = inputs.gained.value.unwrap();
    assert!(
        (together - gained).abs() <= LARGEST_RESIDUAL * gained.abs(),
        "{together} of {gained}"
    );
    for modality in 0..2 {
        let name = &inputs.sources[4 + modality];
        let (mut least_driven, mut most_other) = (f64::INFINITY, f64::NEG_INFINITY);
        for (group, units) in inputs.influence_by_target.chunks(UNITS_A_GROUP).enumerate() {
            let end = |end: usize| {
                let ends = units.iter().map(|by_source| by_source[4 + modality].ci95.unwrap()[end]);
                ends.sum::<f64>() / UNITS_A_GROUP as f64
            };
            println!("  {name} on {}: {:.4} to {:.4}", GROUPS[group], end(0), end(1));
            if [modality, 2].contains(&group) {
                least_driven = least_driven.min(end(0));
            } else {
                most_other = most_other.max(end(1));
            }
        }
        assert!(least_driven > most_other, "{name}: {least_driven} and {most_other}");
        let steps = &inputs.by_modality[modality].0;
        let newest = steps[steps.len() - 1];
        assert!(
            steps[..steps.len() - 1].iter().all(|&older| older < newest),
            "{steps:?}"
        );
    }
    // What attention goes to adds up.
    assert!((inputs.attention_by_source.iter().sum::<f64>() - 1.0).abs() < 1e-9);
}

#[test]
fn the_planted_table_is_recovered() {
    let (attribution, inputs) = attributed();
    gradients_find_it_too(&inputs);
    let modalities = attribution.contributions.iter().enumerate();
    for (modality, contribution) in modalities {
        println!("{}: {:?}", contribution.modality, contribution.delta.overall);
        let (mut least_driven, mut most_other) = (f64::INFINITY, 0.0f64);
        for (unit, delta) in contribution.delta.by_unit.iter().enumerate() {
            let (group, [low, high]) = (unit / UNITS_A_GROUP, delta.ci95.unwrap());
            let name = format!("{}{}", GROUPS[group], 1 + unit % UNITS_A_GROUP);
            println!("  {name}: {:.4} [{low:.4}, {high:.4}]", delta.value.unwrap());
            if [modality, 2].contains(&group) {
                least_driven = least_driven.min(low);
            } else {
                assert!(delta.value.unwrap() <= MOST_UNDRIVEN, "{name}: {delta:?}");
                most_other = most_other.max(high);
            }
        }
        // No interval of a unit that it drives reaches nothing, or the interval of any unit that it does not drive.
        assert!(
            least_driven > most_other,
            "{}: {least_driven} and {most_other}",
            contribution.modality
        );
        assert_eq!(contribution.delta_by_part.len(), 8);
        assert_eq!(contribution.verdict, "predictions gain from it");
        assert!(
            contribution.largest_difference > 0.1,
            "{}",
            contribution.largest_difference
        );
    }
    // The behaviour goes on alike under each of the eight images.
    let by_image = &attribution.contributions[0].delta_by_part;
    assert!(
        by_image.iter().all(|delta| delta.ci95.unwrap()[0] > 0.0),
        "{by_image:?}"
    );
    let shares = attribution
        .contributions
        .iter()
        .map(|each| each.shapley.as_ref().unwrap().overall.value.unwrap());
    let gained = attribution.with_all.overall.value.unwrap() - attribution.with_none.overall.value.unwrap();
    assert!((shares.sum::<f64>() - gained).abs() < 1e-9);
}
