//! The demonstration: a simulated population, predicted by a small network that was trained on its first ten minutes.

use std::process::ExitCode;

use super::run::run_to_the_end;
use super::run_config::RunFile;
use super::run_model::{bin_ns, build_predictor};
use super::run_source::{build_simulation, BuiltSources};
use super::CliError;
use crate::model::checkpoint::Checkpoint;

/// Made by `neurohorizon train configs/train-demo.toml --export-f16 configs/demo.safetensors`.
const CHECKPOINT: &[u8] = include_bytes!("../../configs/demo.safetensors");

/// The shipped network.
///
/// # Errors
/// None that a build that passed its tests could have.
pub(super) fn shipped() -> Result<Checkpoint, CliError> {
    Ok(Checkpoint::from_bytes("configs/demo.safetensors", CHECKPOINT)?)
}

/// What `neurohorizon` does without a command: `configs/simulate.toml` as it is shipped, with the shipped checkpoint.
///
/// # Errors
/// Where an endpoint cannot be bound.
pub fn demo() -> Result<ExitCode, CliError> {
    let mut file = RunFile::parse("configs/simulate.toml", include_str!("../../configs/simulate.toml"))?;
    let checkpoint = shipped()?;
    file.model.checkpoint = Some("configs/demo.safetensors, built in".into());
    let section = file.simulate.clone().unwrap_or_default();
    eprintln!(
        "A simulated population of {} units, {:.0} s of its life from {:.0} s on; the network was trained on what came \
         before.",
        section.units, section.duration_s, section.fit_s
    );
    let source = BuiltSources::new(vec![build_simulation(
        &section,
        bin_ns(&file.model, Some(&checkpoint))?,
    )?])?;
    let model = build_predictor(
        &file.model,
        &file.publish.latents,
        Some(&checkpoint),
        &source.facts,
        source.before.as_ref(),
    )?;
    run_to_the_end(&file, source, model, None, (false, false, false))
}
