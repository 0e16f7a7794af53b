//! The network against outputs of the reference model: every pair `NAME.ckpt` + `NAME.safetensors` in a folder.

use std::path::{Path, PathBuf};

use kernels::Precision;
use safetensors::{Dtype, SafeTensors};
use serde::Serialize;

use crate::model::checkpoint::{Checkpoint, CheckpointError};
use crate::model::{build, BackendKind, BuildError, BuildOptions, Inference, UnitMatch};

/// Largest absolute difference of log rates, and relative one of latents, that passes.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Tolerance {
    /// Log rates, absolute.
    pub log_rate: f32,
    /// Latents, relative (see [`CaseReport::latents_max_rel`]).
    pub latents: f32,
}

impl Tolerance {
    /// What weights of a precision are held to. With FP32 weights a GPU's exponentials and GELUs, which are approximate, are
    /// what is left of the difference.
    pub fn of(backend: BackendKind, precision: Precision) -> Self {
        let bound = match (precision, backend) {
            (Precision::F32, BackendKind::Cpu | BackendKind::Reference) => 1e-4,
            (Precision::F32, BackendKind::Cuda) => 1e-3,
            (Precision::F16 | Precision::Bf16, _) => 2e-2,
        };
        Tolerance {
            log_rate: bound,
            latents: bound,
        }
    }
}

/// How far one case is from the reference.
#[derive(Debug, Clone, Serialize)]
pub struct CaseReport {
    /// File name without its ending.
    pub name: String,
    /// Largest absolute difference of the log rates with true counts fed back; absent if the case could not run.
    pub teacher_forced_max_abs: Option<f32>,
    /// The same with the model's own predictions fed back.
    pub generated_max_abs: Option<f32>,
    /// Largest difference of a latent's element over the larger of its size and the root mean square of all of them.
    pub latents_max_rel: Option<f32>,
    /// Within the tolerance.
    pub ok: bool,
    /// Why it could not run.
    pub error: Option<String>,
}

/// A case that cannot be compared.
#[derive(Debug, thiserror::Error)]
pub enum ConformanceError {
    /// The folder cannot be listed.
    #[error("cannot read folder {path}: {source}")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// It holds no pair.
    #[error("{0} holds no pair NAME.ckpt + NAME.safetensors")]
    NoCase(PathBuf),
    /// The checkpoint cannot be read.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The network cannot be built.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// The expected outputs cannot be read.
    #[error("{path}: {reason}")]
    Expected {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The device failed.
    #[error(transparent)]
    Backend(#[from] kernels::BackendError),
}

/// Inputs and outputs of the reference, see the README of the golden files.
struct Expected {
    unit_ids: Vec<String>,
    spike_times: Vec<f64>,
    spike_units: Vec<u32>,
    target_unit_index: Vec<i64>,
    target_counts: Vec<f32>,
    latents: Vec<f32>,
    teacher_forced: Vec<f32>,
    generated: Vec<f32>,
}

impl Expected {
    fn read(path: &Path) -> Result<Self, ConformanceError> {
        let fail = |reason: String| ConformanceError::Expected {
            path: path.to_path_buf(),
            reason,
        };
        let bytes = std::fs::read(path).map_err(|error| fail(error.to_string()))?;
        let (_, metadata) = SafeTensors::read_metadata(&bytes).map_err(|error| fail(error.to_string()))?;
        let tensors = SafeTensors::deserialize(&bytes).map_err(|error| fail(error.to_string()))?;
        let unit_ids = metadata
            .metadata()
            .as_ref()
            .and_then(|metadata| metadata.get("unit_ids"));
        let unit_ids = unit_ids.ok_or_else(|| fail("the metadata has no `unit_ids`".into()))?;
        let raw = |name: &str, dtype: Dtype| -> Result<&[u8], ConformanceError> {
            let tensor = tensors.tensor(name).map_err(|error| fail(error.to_string()))?;
            if tensor.dtype() != dtype {
                return Err(fail(format!("`{name}` is {:?}, expected {dtype:?}", tensor.dtype())));
            }
            Ok(tensor.data())
        };
        let floats = |name: &str| -> Result<Vec<f32>, ConformanceError> {
            let bytes = raw(name, Dtype::F32)?.chunks_exact(4);
            Ok(bytes.map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect())
        };
        let eight = |name: &str, dtype: Dtype| -> Result<Vec<[u8; 8]>, ConformanceError> {
            let bytes = raw(name, dtype)?.chunks_exact(8);
            Ok(bytes.map(|b| b.try_into().expect("chunks of eight")).collect())
        };
        let integers = |name: &str| -> Result<Vec<i64>, ConformanceError> {
            Ok(eight(name, Dtype::I64)?.into_iter().map(i64::from_le_bytes).collect())
        };
        let unit_ids: Vec<String> =
            serde_json::from_str(unit_ids).map_err(|error| fail(format!("`unit_ids`: {error}")))?;
        let spike_units = integers("spike_units")?.into_iter().map(|unit| {
            let known = u32::try_from(unit)
                .ok()
                .filter(|&unit| (unit as usize) < unit_ids.len());
            known.ok_or_else(|| fail(format!("`spike_units` names unit {unit} of {}", unit_ids.len())))
        });
        Ok(Expected {
            spike_units: spike_units.collect::<Result<_, _>>()?,
            spike_times: eight("spike_times", Dtype::F64)?
                .into_iter()
                .map(f64::from_le_bytes)
                .collect(),
            target_unit_index: integers("target_unit_index")?,
            target_counts: floats("target_counts")?,
            latents: floats("latents")?,
            teacher_forced: floats("log_rate_teacher_forced")?,
            generated: floats("log_rate_generated")?,
            unit_ids,
        })
    }
}

/// Names of the pairs in a folder, sorted.
pub fn cases(folder: &Path) -> Result<Vec<String>, ConformanceError> {
    let failed = |source| ConformanceError::Folder {
        path: folder.to_path_buf(),
        source,
    };
    let mut names = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let is_checkpoint = path.extension().is_some_and(|ending| ending == "ckpt");
        if is_checkpoint && path.with_extension("safetensors").is_file() {
            names.extend(path.file_stem().map(|stem| stem.to_string_lossy().into_owned()));
        }
    }
    names.sort();
    if names.is_empty() {
        return Err(ConformanceError::NoCase(folder.to_path_buf()));
    }
    Ok(names)
}

/// What makes a network from a checkpoint, rows of its units, and options.
pub type Builder<'a> = dyn Fn(&Checkpoint, &[usize], &BuildOptions) -> Result<Box<dyn Inference>, BuildError> + 'a;

/// Runs one case; what keeps it from running is part of the report.
pub fn check(folder: &Path, name: &str, options: &BuildOptions, tolerance: Tolerance) -> CaseReport {
    check_on(folder, name, options, tolerance, &build)
}

/// [`check`] of networks that are made by `builder`.
pub fn check_on(
    folder: &Path,
    name: &str,
    options: &BuildOptions,
    tolerance: Tolerance,
    builder: &Builder<'_>,
) -> CaseReport {
    match compare(folder, name, options, builder) {
        Ok((teacher_forced, generated, latents)) => CaseReport {
            name: name.to_string(),
            teacher_forced_max_abs: Some(teacher_forced),
            generated_max_abs: Some(generated),
            latents_max_rel: Some(latents),
            ok: teacher_forced <= tolerance.log_rate && generated <= tolerance.log_rate && latents <= tolerance.latents,
            error: None,
        },
        Err(error) => CaseReport {
            name: name.to_string(),
            teacher_forced_max_abs: None,
            generated_max_abs: None,
            latents_max_rel: None,
            ok: false,
            error: Some(error.to_string()),
        },
    }
}

/// Largest differences: teacher-forced log rates, generated log rates, latents.
fn compare(
    folder: &Path,
    name: &str,
    options: &BuildOptions,
    builder: &Builder<'_>,
) -> Result<(f32, f32, f32), ConformanceError> {
    let checkpoint = Checkpoint::load(&folder.join(format!("{name}.ckpt")))?;
    let path = folder.join(format!("{name}.safetensors"));
    let expected = Expected::read(&path)?;
    let fail = |reason: String| ConformanceError::Expected {
        path: path.clone(),
        reason,
    };

    let units = UnitMatch::new(&checkpoint, &expected.unit_ids, None)?;
    let rows: Vec<i64> = units.rows.iter().map(|&row| row as i64).collect();
    if rows != expected.target_unit_index {
        return Err(fail(
            "`target_unit_index` is not the checkpoint's rows of `unit_ids`".into(),
        ));
    }
    let history = checkpoint.config.history_s();
    let (times, spikes): (Vec<f64>, Vec<u32>) = expected
        .spike_times
        .iter()
        .zip(&expected.spike_units)
        .filter(|(&time, _)| time < history)
        .map(|(&time, &unit)| (time, unit))
        .unzip();

    let options = BuildOptions {
        max_spikes: times.len().max(1),
        ..options.clone()
    };
    let mut network = builder(&checkpoint, &units.rows, &options)?;
    let outputs = network.plan().bins * rows.len();
    let (latents, dim) = network.latent_shape();
    for (name, found, wanted) in [
        ("target_counts", expected.target_counts.len(), outputs),
        ("log_rate_teacher_forced", expected.teacher_forced.len(), outputs),
        ("log_rate_generated", expected.generated.len(), outputs),
        ("latents", expected.latents.len(), latents * dim),
    ] {
        if found != wanted {
            return Err(fail(format!("`{name}` has {found} elements, the model makes {wanted}")));
        }
    }

    let mut log_rates = vec![0.0; outputs];
    let mut latents = vec![0.0; latents * dim];
    network.encode(&times, &spikes);
    network.latents(&mut latents)?;
    network.teacher_force(&expected.target_counts);
    network.log_rates(&mut log_rates)?;
    let teacher_forced = max_abs_difference(&log_rates, &expected.teacher_forced);
    network.generate();
    network.log_rates(&mut log_rates)?;
    let generated = max_abs_difference(&log_rates, &expected.generated);
    Ok((
        teacher_forced,
        generated,
        max_relative_difference(&latents, &expected.latents),
    ))
}

/// NaN if either side holds one.
fn max_abs_difference(a: &[f32], b: &[f32]) -> f32 {
    let differences = a.iter().zip(b).map(|(a, b)| (a - b).abs());
    differences.fold(0.0, |largest, d| if d > largest || d.is_nan() { d } else { largest })
}

fn max_relative_difference(a: &[f32], reference: &[f32]) -> f32 {
    let squares: f64 = reference.iter().map(|&x| f64::from(x).powi(2)).sum();
    let rms = (squares / reference.len() as f64).sqrt() as f32;
    let differences = a.iter().zip(reference).map(|(a, b)| (a - b).abs() / b.abs().max(rms));
    differences.fold(0.0, |largest, d| if d > largest || d.is_nan() { d } else { largest })
}
