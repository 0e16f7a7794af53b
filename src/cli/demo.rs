//! The demonstration: a simulated population, predicted by the mean rates of its first seconds.

use std::process::ExitCode;

use super::run::run_to_the_end;
use super::run_config::RunFile;
use super::run_model::{bin_ns, build_predictor};
use super::run_source::build_simulation;
use super::CliError;

/// What `neurohorizon` does without a command: `configs/simulate.toml` as it is shipped.
///
/// # Errors
/// Where an endpoint cannot be bound.
pub fn demo() -> Result<ExitCode, CliError> {
    let file = RunFile::parse("configs/simulate.toml", include_str!("../../configs/simulate.toml"))?;
    let section = file.simulate.clone().unwrap_or_default();
    eprintln!(
        "A simulated population, predicted by the mean rates of its first {} s (there is no trained model here).",
        section.fit_s
    );
    let source = build_simulation(&section, bin_ns(&file.model, None)?)?;
    let model = build_predictor(&file.model, None, &source)?;
    run_to_the_end(&file, source, model, false, false)
}
