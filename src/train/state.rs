//! Files that training writes: whole or not at all, and able to go on from.

use std::io::Write;
use std::path::Path;

use super::optimiser::{OptimiserState, Parameter};
use super::TrainError;
use crate::model::checkpoint::{Checkpoint, HostTensor, Stored};

/// Where a training stands, beside its weights.
#[derive(Clone, Debug, PartialEq)]
pub struct Progress {
    /// Steps taken.
    pub step: u64,
    /// Best validation so far, bits per spike.
    pub best: Option<f64>,
    /// Validations since.
    pub since_best: u64,
    /// The configuration, as JSON: going on with another is refused.
    pub config: String,
}

const FIRST: &str = "optimiser.first.";
const SECOND: &str = "optimiser.second.";

/// Writes bytes beside their place, brings them to the disk, and moves them there: a reader sees the old file or the new.
///
/// # Errors
/// What the system refused, with the file; the previous one is then whole.
pub fn write_whole(path: &Path, bytes: &[u8]) -> Result<(), TrainError> {
    let failed = |source| TrainError::Write {
        path: path.to_path_buf(),
        source,
    };
    let beside = path.with_extension("partial");
    let written = std::fs::File::create(&beside).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()
    });
    let moved = written.and_then(|()| std::fs::rename(&beside, path));
    if moved.is_err() {
        // What is left of it is of no use to anyone.
        let _ = std::fs::remove_file(&beside);
    }
    moved.map_err(failed)?;
    // The name itself is on the disk once the folder is.
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    std::fs::File::open(folder.unwrap_or(Path::new(".")))
        .and_then(|folder| folder.sync_all())
        .map_err(failed)
}

/// The weights, the moments and where training stands, in one checkpoint that also predicts.
///
/// # Errors
/// Where it cannot be written.
pub fn save(
    path: &Path,
    checkpoint: &Checkpoint,
    parameters: &[Parameter],
    optimiser: &OptimiserState,
    progress: &Progress,
) -> Result<(), TrainError> {
    let mut whole = checkpoint.clone();
    for (prefix, moments) in [(FIRST, &optimiser.first), (SECOND, &optimiser.second)] {
        for (parameter, moment) in parameters.iter().zip(moments) {
            let tensor = HostTensor {
                shape: vec![parameter.rows, parameter.cols],
                data: moment.clone(),
            };
            whole.tensors.insert(format!("{prefix}{}", parameter.name), tensor);
        }
    }
    whole.global_step = progress.step;
    let best = progress
        .best
        .map_or(String::new(), |best| format!("{:016x}", best.to_bits()));
    whole.notes.insert("training.best".into(), best);
    whole
        .notes
        .insert("training.since_best".into(), progress.since_best.to_string());
    whole.notes.insert("training.config".into(), progress.config.clone());
    write_whole(path, &whole.to_safetensors(Stored::F32)?)
}

/// Takes a saved training up: its checkpoint without the moments, the moments, and where it stood.
///
/// # Errors
/// Where the file is no saved training of these parameters.
pub fn load(path: &Path) -> Result<(Checkpoint, OptimiserState, Progress), TrainError> {
    let mut checkpoint = Checkpoint::load(path)?;
    let refuse = |what: &str| TrainError::State {
        path: path.to_path_buf(),
        what: what.to_owned(),
    };
    let mut state = OptimiserState {
        steps: checkpoint.global_step,
        first: Vec::new(),
        second: Vec::new(),
    };
    let names: Vec<String> = checkpoint.tensors.keys().cloned().collect();
    for name in names {
        for (prefix, moments) in [(FIRST, &mut state.first), (SECOND, &mut state.second)] {
            if name.starts_with(prefix) {
                moments.extend(checkpoint.tensors.remove(&name).map(|tensor| tensor.data));
            }
        }
    }
    checkpoint.unused.retain(|name| !name.starts_with("optimiser."));
    let mut note = |key: &str| {
        let missing = || {
            refuse(&format!(
                "holds no `{key}`: it is a checkpoint to predict with, not a saved training"
            ))
        };
        checkpoint.notes.remove(key).ok_or_else(missing)
    };
    let best = note("training.best")?;
    let since_best = note("training.since_best")?;
    let config = note("training.config")?;
    let best = match best.as_str() {
        "" => None,
        bits => Some(f64::from_bits(
            u64::from_str_radix(bits, 16).map_err(|_| refuse("has a damaged `training.best`"))?,
        )),
    };
    let since_best = since_best
        .parse()
        .map_err(|_| refuse("has a damaged `training.since_best`"))?;
    let step = checkpoint.global_step;
    Ok((
        checkpoint,
        state,
        Progress {
            step,
            best,
            since_best,
            config,
        },
    ))
}
