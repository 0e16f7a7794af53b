//! Behaviour read out of the latents: learned beside the spikes or on a network that stays as it is, and better than nothing.

use std::path::Path;
use std::process::Command;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use neurohorizon::data::unit_id;
use neurohorizon::evaluate::behaviour::Decoded;
use neurohorizon::model::checkpoint::{Checkpoint, Stored};
use neurohorizon::model::config::{ModelConfig, ReadoutConfig, ReadoutKind};
use neurohorizon::train::config::TrainConfig;
use neurohorizon::train::learner::learners;
use neurohorizon::train::set_up::training_set;
use neurohorizon::train::trainer::{Event, Outcome, Trainer};
use neurohorizon::train::TrainError;

/// A population that follows a hand, and a small network.
const CONFIG: &str = r#"
[data.simulate]
units = 40
seed = 5
train_s = 240.0
validate_s = 40.0

[model]
bin_ms = 50.0
horizon_bins = 2
history_ms = 300.0
dim = 16
dim_head = 8
processor_layers = 1
decoder_layers = 1
latents_per_step = 2

[model.recent_history]
time_constants_bins = [1.0, 3.0]
population_time_constants = 2
components = 8

[training]
steps = 240
batch = 16
validate_every = 240
threads = 2

[optimiser]
learning_rate = 4e-3

[dropout]
hidden = 0.0
attention = 0.0
residual = 0.0
population = 0.0
"#;

const READOUTS: &str = r#"
[[model.readout]]
series = "hand_vel"
back = 2
ahead = 1

[[model.readout]]
series = "trial_condition"
kind = "classes"
back = 1
"#;

/// Trains; what the last validation read out.
fn trained(text: &str, out: &Path) -> Result<(Outcome, Vec<Decoded>), TrainError> {
    let mut config = TrainConfig::parse("test", text)?;
    config.training.out = out.to_path_buf();
    let learners = learners(&config, config.training.device)?;
    let (set, hash) = training_set(&config)?;
    let mut trainer = Trainer::new(config, set, hash, learners, false)?;
    let mut last = Vec::new();
    let outcome = trainer.run(&AtomicBool::new(false), &mut |event| {
        if let Event::Validated { score, .. } = event {
            last.clone_from(&score.readouts);
        }
    })?;
    Ok((outcome, last))
}

/// R² of nothing is 0. Returns what is said of the target.
fn says_something_of_the_hand(decoded: &[Decoded]) -> &Decoded {
    let [hand, target] = decoded else {
        panic!("two readouts, not {decoded:?}")
    };
    println!("{hand:?}\n{target:?}");
    assert_eq!(
        (hand.series.as_str(), target.series.as_str()),
        ("hand_vel", "trial_condition")
    );
    assert!(
        hand.r2.len() == 2 && hand.r2.iter().all(|r2| r2.value > 0.5),
        "{hand:?}"
    );
    assert!(target.r2.is_empty(), "{target:?}");
    target
}

#[test]
fn behaviour_is_learned_beside_spikes_and_on_a_network_that_stays_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let (jointly, plain, frozen) = (
        folder.path().join("a"),
        folder.path().join("b"),
        folder.path().join("c"),
    );

    let (_, decoded) = trained(&format!("{CONFIG}{READOUTS}"), &jointly).unwrap();
    let target = says_something_of_the_hand(&decoded);
    // The most frequent class is right as often as it is there; the hand rests most of the time, when nothing tells the target.
    assert!(target.score.unwrap().value > target.chance.unwrap(), "{target:?}");

    let (outcome, decoded) = trained(CONFIG, &plain).unwrap();
    assert!(decoded.is_empty());
    let base = outcome.checkpoint.unwrap();
    let on_top = format!("{CONFIG}{READOUTS}").replace(
        "[training]",
        &format!("[training]\nonly = \"readouts\"\nstart_from = {:?}", base.display()),
    );
    let (outcome, decoded) = trained(&on_top, &frozen).unwrap();
    // Latents that were learned without it hold the hand's movement; of the target they need hold nothing.
    says_something_of_the_hand(&decoded);
    let (before, after) = (
        Checkpoint::load(&base).unwrap(),
        Checkpoint::load(&outcome.checkpoint.unwrap()).unwrap(),
    );
    // Judged by what is read out, which is all that changed.
    let best = outcome.best.unwrap();
    let scores: Vec<f64> = decoded.iter().map(|decoded| decoded.score.unwrap().value).collect();
    assert!((best - scores.iter().sum::<f64>() / 2.0).abs() < 1e-12);
    for (name, tensor) in &before.tensors {
        assert_eq!(*tensor, after.tensors[name], "{name}");
    }
    assert!(after.tensors.keys().any(|name| name.starts_with("readout.")));
    assert!(after.tensors.len() > before.tensors.len());
}

#[test]
fn what_cannot_be_read_out_is_refused_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let with = |text: &str| format!("{CONFIG}\n[[model.readout]]\n{text}\n");
    for (text, expected) in [
        ("series = \"gaze\"", "hand_pos, hand_vel, trial_condition"),
        (
            "series = \"hand_vel\"\nkind = \"classes\"",
            "2 channels; a class is one number",
        ),
        ("series = \"hand_vel\"\nback = 60", "`back` is 60"),
        ("series = \"hand_vel\"\nweight = 0.0", "weight is 0"),
        ("series = \"hand_vel\"\nstep = 3", "step_ms"),
        (
            "series = \"hand_vel\"\n[[model.condition]]\nseries = \"hand_vel\"",
            "what is shown need not be read out",
        ),
    ] {
        let error = trained(&with(text), folder.path()).unwrap_err().to_string();
        assert!(error.contains(expected), "{text}: {error}");
    }
    let error = trained(
        &CONFIG.replace("[training]", "[training]\nonly = \"readouts\""),
        folder.path(),
    );
    assert!(error.unwrap_err().to_string().contains("there is no [[model.readout]]"));
}

#[test]
fn decoders_with_nothing_to_fit_on_are_refused_before_the_network_decodes() {
    let folder = tempfile::tempdir().unwrap();
    let program = |arguments: &[&str]| {
        let mut command = Command::new(rt_tests::program());
        command.args(arguments).current_dir(folder.path()).output().unwrap()
    };
    // So many bins that decoding them takes far longer than reading the files.
    let simulate = ["simulate", "--units", "40", "--seconds", "1800", "--out", "long.npz"];
    assert!(program(&simulate).status.success());
    let config = ModelConfig {
        readouts: vec![ReadoutConfig {
            series: "hand_vel".into(),
            kind: ReadoutKind::Regression,
            step_s: 0.02,
            back: 1,
            ahead: 0,
            unit: String::new(),
            labels: vec!["x".into(), "y".into()],
            mean: vec![0.0; 2],
            deviation: vec![1.0; 2],
        }],
        ..ModelConfig::default()
    };
    let mut checkpoint = Checkpoint::random(&config, 40, 1);
    let ids = std::iter::once("NA".to_owned()).chain((0..40).map(unit_id));
    checkpoint.unit_ids = ids.collect();
    let file = folder.path().join("model.safetensors");
    std::fs::write(file, checkpoint.to_safetensors(Stored::F32).unwrap()).unwrap();
    let begin = Instant::now();
    let decode = ["decode", "model.safetensors", "long.npz", "--from", "0", "--baselines"];
    let output = program(&[&decode[..], &["--device", "cpu", "--trust-units"]].concat());
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(2), "{errors}");
    assert!(errors.contains("fitted on 0 bins"), "{errors}");
    assert!(begin.elapsed() < Duration::from_secs(60), "{:?}", begin.elapsed());
}
