//! `neurohorizon verify`: the network against outputs of the reference model.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use super::{print_json, CliError, ComputeArgs};
use crate::evaluate::conformance::{cases, check, CaseReport, Tolerance};

/// Compare the network on this machine with outputs of the reference model
///
/// Reads every pair NAME.ckpt + NAME.safetensors of a folder (checkpoint; inputs and expected outputs), runs the
/// checkpoint on the inputs and prints the largest differences. Exits with 1 if any is beyond the tolerance.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  neurohorizon verify rt-tests/golden\n  \
                        neurohorizon verify my-cases --device reference --weights f16 --json")]
pub struct VerifyArgs {
    /// Folder with the pairs
    folder: PathBuf,
    #[command(flatten)]
    compute: ComputeArgs,
    /// Print one JSON object: cases[].name, .teacher_forced_max_abs, .generated_max_abs, .latents_max_rel, .ok, .error;
    /// tolerance; backend; ok
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    backend: String,
    tolerance: Tolerance,
    cases: Vec<CaseReport>,
    ok: bool,
}

/// Runs the subcommand.
pub fn run(args: &VerifyArgs) -> Result<ExitCode, CliError> {
    let options = args.compute.options()?;
    let tolerance = Tolerance::of(options.backend, options.precision);
    let names = cases(&args.folder)?;
    if !args.json {
        say!(
            "{:<28} {:>14} {:>14} {:>14}   tolerance {:.0e}",
            "case",
            "teacher-forced",
            "generated",
            "latents (rel)",
            tolerance.log_rate
        );
    }
    let mut reports = Vec::new();
    for name in names {
        let report = check(&args.folder, &name, &options, tolerance);
        if !args.json {
            print_row(&report);
        }
        reports.push(report);
    }
    let ok = reports.iter().all(|report| report.ok);
    if args.json {
        print_json(&Report {
            backend: format!("{:?} {:?}", options.backend, options.precision).to_lowercase(),
            tolerance,
            cases: reports,
            ok,
        })?;
    } else {
        let passed = reports.iter().filter(|report| report.ok).count();
        say!("{passed} of {} cases within the tolerance", reports.len());
    }
    Ok(if ok { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn print_row(report: &CaseReport) {
    let verdict = if report.ok { "ok" } else { "BEYOND" };
    match (
        report.teacher_forced_max_abs,
        report.generated_max_abs,
        report.latents_max_rel,
    ) {
        (Some(forced), Some(generated), Some(latents)) => {
            say!(
                "{:<28} {forced:>14.2e} {generated:>14.2e} {latents:>14.2e}   {verdict}",
                report.name
            );
        }
        _ => say!(
            "{:<28} {}",
            report.name,
            report.error.as_deref().unwrap_or("no outputs")
        ),
    }
}
