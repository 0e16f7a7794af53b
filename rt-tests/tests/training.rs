//! The trainer: the same bits from the same seed, after an interruption and on any number of threads; it learns; what goes
//! wrong leaves the last good files whole.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use neurohorizon::model::checkpoint::Checkpoint;
use neurohorizon::train::config::{Only, TrainConfig};
use neurohorizon::train::learner::learners;
use neurohorizon::train::set_up::training_set;
use neurohorizon::train::trainer::{Ending, Event, Trainer, BEST, LAST};
use neurohorizon::train::TrainError;

/// A small network on a small population, everything random in use.
const CONFIG: &str = r#"
[data.simulate]
units = 6
seed = 3
train_s = 20.0
validate_s = 8.0

[model]
horizon_bins = 4
history_ms = 200.0
dim = 8
dim_head = 8
cross_heads = 1
self_heads = 2
processor_layers = 1
decoder_layers = 1
latents_per_step = 2
feedback = "prediction_memory"
memory_tokens = 2
memory_heads = 2

[model.recent_history]
time_constants_bins = [1.0, 5.0]
population_time_constants = 1
components = 3

[training]
steps = 12
batch = 9
validate_every = 4
validation_windows = 20
threads = 2

[dropout.units]
min = 2
mode = 4
max = 6

[exposure]
own = 0.5
each_bin = true
ramp_steps = 6
sample = true
noise = 0.03
dropout = 0.05
"#;

fn config(out: &Path, change: impl FnOnce(&mut TrainConfig)) -> TrainConfig {
    let mut config = TrainConfig::parse("test", CONFIG).unwrap();
    config.training.out = out.to_path_buf();
    change(&mut config);
    config
}

fn trainer(config: TrainConfig, resume: bool) -> Result<Trainer, TrainError> {
    let (set, hash) = training_set(&config)?;
    let learners = learners(&config, config.training.device)?;
    Trainer::new(config, set, hash, learners, resume)
}

/// Runs to the end, or until `stop_after` steps; the events that there were.
fn run(config: TrainConfig, resume: bool, stop_after: Option<u64>) -> (Trainer, Vec<Event>, Ending) {
    let mut trainer = trainer(config, resume).unwrap();
    let stop = AtomicBool::new(false);
    let mut events = Vec::new();
    let outcome = trainer
        .run(&stop, &mut |event| {
            if matches!(event, Event::Step { step, .. } if Some(*step) == stop_after) {
                stop.store(true, Ordering::Relaxed);
            }
            events.push(event.clone());
        })
        .unwrap();
    (trainer, events, outcome.ending)
}

#[test]
fn one_seed_gives_one_result() {
    let folders: Vec<_> = (0..4).map(|_| tempfile::tempdir().unwrap()).collect();
    let (whole, events, ending) = run(config(folders[0].path(), |_| {}), false, None);
    assert_eq!(ending, Ending::Finished);
    let (threaded, same, _) = run(
        config(folders[1].path(), |config| config.training.threads = 3),
        false,
        None,
    );
    assert_eq!(events, same, "the number of threads changes nothing");
    assert_eq!(whole.checkpoint().tensors, threaded.checkpoint().tensors);
    let (other, _, _) = run(
        config(folders[2].path(), |config| config.training.seed = 1),
        false,
        None,
    );
    assert_ne!(whole.checkpoint().tensors, other.checkpoint().tensors);

    // Interrupted between two validations, and gone on with.
    let folder = folders[3].path();
    let (_, first, ending) = run(config(folder, |_| {}), false, Some(6));
    assert_eq!((ending, first.len()), (Ending::Stopped, 7));
    let (resumed, rest, _) = run(config(folder, |_| {}), true, None);
    assert_eq!(events[first.len()..], rest[..]);
    assert_eq!(whole.checkpoint().tensors, resumed.checkpoint().tensors);
    let files = |folder: &Path| {
        (
            std::fs::read(folder.join(BEST)).unwrap(),
            Checkpoint::load(&folder.join(LAST)).unwrap().tensors,
        )
    };
    assert_eq!(files(folders[0].path()), files(folder));
}

#[test]
fn it_learns() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path(), |config| {
        let population = config.data.simulate.as_mut().unwrap();
        (population.units, population.train_s) = (24, 60.0);
        config.training.steps = 150;
        config.training.batch = 16;
        config.training.validate_every = 150;
        config.training.validation_windows = None;
        config.dropout.units = None;
        config.dropout.population = 0.0;
    });
    let (mut trainer, _, _) = run(config, false, None);
    let score = trainer.validate().unwrap();
    // Mean rates score 0.
    assert!(score.bits_per_spike.unwrap() > 0.015, "{score:?}");
    let saved = Checkpoint::load(&folder.path().join(BEST)).unwrap();
    assert_eq!(saved.global_step, 150);
    assert_eq!(saved.notes["seed"], "0");
    assert!(saved.unused.is_empty() && saved.notes.contains_key("data_hash"));
}

#[test]
fn what_is_no_number_stops() {
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path(), |config| {
        config.optimiser.learning_rate = 1e30;
        config.training.validate_every = 1;
    });
    let mut trainer = trainer(config, false).unwrap();
    let error = trainer.run(&AtomicBool::new(false), &mut |_| {}).unwrap_err();
    let text = error.to_string();
    assert!(
        matches!(error, TrainError::NotFinite { step, .. } if step > 1),
        "{text}"
    );
    assert!(text.contains("best.safetensors") && text.contains(" s"), "{text}");
    let kept = Checkpoint::load(&folder.path().join(LAST)).unwrap();
    assert!(kept
        .tensors
        .values()
        .all(|tensor| tensor.data.iter().all(|x| x.is_finite())));
}

#[test]
fn nothing_is_called_good_that_was_not_kept() {
    let folder = tempfile::tempdir().unwrap();
    let diverging = config(folder.path(), |config| {
        config.optimiser.learning_rate = 1e30;
        config.training.validate_every = 50;
    });
    let mut diverging = trainer(diverging, false).unwrap();
    let error = diverging.run(&AtomicBool::new(false), &mut |_| {}).unwrap_err();
    assert!(error.to_string().contains("no checkpoint had been kept yet"), "{error}");

    let stopped = config(folder.path(), |config| config.training.validate_every = 50);
    let mut stopped = trainer(stopped, false).unwrap();
    let outcome = stopped.run(&AtomicBool::new(true), &mut |_| {}).unwrap();
    assert_eq!(outcome.ending, Ending::Stopped);
    assert_eq!(outcome.checkpoint, None, "nothing was validated");
    assert!(!folder.path().join(BEST).exists());
}

#[test]
fn another_configuration_or_other_data_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    run(config(folder.path(), |_| {}), false, Some(2));
    let refused = |change: &dyn Fn(&mut TrainConfig)| {
        let config = config(folder.path(), change);
        trainer(config, true).err().expect("it is refused").to_string()
    };
    assert!(refused(&|config| config.optimiser.weight_decay = 0.5).contains("another configuration"));
    let best = folder.path().join("elsewhere");
    assert!(refused(&|config| config.training.out = best.clone()).contains("elsewhere"));

    let (_, _, _) = run(config(folder.path(), |_| {}), false, None);
    let start = folder.path().join(BEST);
    let from = |change: &dyn Fn(&mut TrainConfig)| {
        let config = config(folder.path(), |config| {
            config.training.start_from = Some(start.clone());
            change(config);
        });
        trainer(config, false).map(|_| ()).map_err(|error| error.to_string())
    };
    assert_eq!(from(&|_| {}), Ok(()));
    assert!(from(&|config| config.model.dim = 16)
        .unwrap_err()
        .contains("another network"));
    let fewer = from(&|config| config.data.simulate.as_mut().unwrap().units = 5).unwrap_err();
    assert!(fewer.contains("knows 6 units") && fewer.contains("has 5"), "{fewer}");
}

#[test]
fn embeddings_alone_can_be_trained() {
    let folder = tempfile::tempdir().unwrap();
    let mut trainer = trainer(
        config(folder.path(), |config| config.training.only = Some(Only::Embeddings)),
        false,
    )
    .unwrap();
    let before = trainer.checkpoint().clone();
    trainer.run(&AtomicBool::new(false), &mut |_| ()).unwrap();
    for (name, tensor) in &trainer.checkpoint().tensors {
        let of_units = tensor.shape[0] == before.unit_ids.len();
        assert!(of_units || tensor.data == before.tensors[name].data, "{name}");
    }
    for name in ["unit_emb.weight", "history.unit_weight"] {
        assert_ne!(
            trainer.checkpoint().tensors[name].data,
            before.tensors[name].data,
            "{name}"
        );
    }
}

#[test]
fn keys_are_checked() {
    for (from, to, expected) in [
        ("steps = 12", "steps = 0", "training.steps is 0"),
        ("own = 0.5", "own = 1.5", "exposure.own is 1.5"),
        ("own = 0.5", "owns = 0.5", "owns"),
        (
            "feedback = \"prediction_memory\"",
            "feedback = \"memory\"",
            "model.feedback",
        ),
        ("dim = 8", "dim = 7", "`dim` is 7"),
        ("components = 3", "components = 0", "`components` is 0"),
        ("train_s = 20.0", "train_s = 0.0", "train_s"),
        ("units = 6", "units = 1", "has one unit, unit0000"),
    ] {
        let text = CONFIG.replacen(from, to, 1);
        let outcome = TrainConfig::parse("my.toml", &text).and_then(|config| training_set(&config).map(|_| ()));
        let error = outcome.unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
}

/// A process that is killed, or meets a full disk, leaves files that are whole.
#[test]
fn files_are_whole_or_not_there() {
    let folder = tempfile::tempdir().unwrap();
    let toml = folder.path().join("train.toml");
    let text = CONFIG.replacen("steps = 12", "steps = 100000\npatience = 100000", 1);
    std::fs::write(&toml, text.replacen("validate_every = 4", "validate_every = 1", 1)).unwrap();
    let out = folder.path().join("out");
    let start = |limits: &str, more: &str| {
        let script = format!(
            "{limits} exec {} train {} --out {} --quiet {more}",
            rt_tests::program().display(),
            toml.display(),
            out.display()
        );
        std::process::Command::new("sh")
            .arg("-c")
            .arg(script)
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::piped())
            .spawn()
            .unwrap()
    };
    for kill in 0..6 {
        let mut child = start("", if kill == 0 { "" } else { "--resume" });
        while !out.join(LAST).exists() {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        std::thread::sleep(std::time::Duration::from_millis(300 + 37 * kill));
        child.kill().unwrap();
        child.wait().unwrap();
        for file in [BEST, LAST] {
            Checkpoint::load(&out.join(file)).unwrap();
        }
    }
    // Files may be of one block only: as a full disk, writing fails midway.
    let before = std::fs::read(out.join(LAST)).unwrap();
    let child = start("trap '' XFSZ; ulimit -f 1;", "--resume");
    let ended = child.wait_with_output().unwrap();
    assert_eq!(ended.status.code(), Some(2));
    let message = String::from_utf8_lossy(&ended.stderr).into_owned();
    assert!(message.contains("cannot be written"), "{message}");
    assert_eq!(std::fs::read(out.join(LAST)).unwrap(), before);
    assert!(!out.join("last.partial").exists());
}
