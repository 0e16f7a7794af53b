//! `neurohorizon eval`: how well a checkpoint, or simple models, predict a recording's future.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use super::eval_export::{write_export, write_sample, ExportArgs, LatentsOfWindows, SampleReport};
use super::eval_options::{FitArgs, HeldOut};
use super::eval_report::{print_report, Report};
use super::eval_setup::Setup;
use super::{print_json, progress_bar, CliError, ComputeArgs};
use crate::data::Position;
use crate::evaluate::baseline::{mean_rate, FitData, Glm, GlmOptions, Persistence, Recent};
use crate::evaluate::comparison::Comparison;
use crate::evaluate::predictions::{of_network, Predictions};
use crate::evaluate::report::render;
use crate::model::Inference;
use crate::train::config::Part;

/// Score a checkpoint's predictions of a recording's future
///
/// Windows stand on the grid of bins that begins with the first spike; the first history begins where the interval does,
/// each further one a horizon later (see --stride-bins). Prints forward-prediction bits per spike against each unit's mean
/// rate on the training data, with 95 % intervals from a bootstrap over blocks of windows, and further figures. With
/// --baselines, simple models fitted on the part before the interval predict the same windows.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  neurohorizon eval model.ckpt session.npz\n  \
                        neurohorizon eval model.ckpt session.npz --baselines --html report.html\n  \
                        neurohorizon eval model.ckpt session.npz --export out.npz --components 8 --stride-bins 1\n  \
                        neurohorizon eval model.ckpt session.npz --sample sampled.npz --seed 1\n  \
                        neurohorizon eval model.safetensors session.nwb --from 0.5 --to 0.75 --json\n  \
                        neurohorizon eval --baselines-only session.npz --bin-ms 20 --bins 12 --min-rate-hz 0.5\n  \
                        neurohorizon eval --baselines-only day3.npz --fit-on day1.npz --fit-on day2.npz --from 0")]
pub struct EvalArgs {
    /// Checkpoint: a .ckpt of the reference model, or .safetensors; with --baselines-only, the recording
    #[arg(value_name = "CHECKPOINT")]
    pub(super) first: PathBuf,
    /// Recording: .npz or .nwb
    #[arg(
        value_name = "RECORDING",
        required_unless_present = "baselines_only",
        conflicts_with = "baselines_only"
    )]
    pub(super) second: Option<PathBuf>,
    /// Which of the checkpoint's sessions the recording is of, where it knows several (its ids are then SESSION/unit)
    #[arg(long)]
    pub session: Option<String>,
    /// Go on although units that are named like the checkpoint's do not fire like them
    #[arg(long)]
    pub trust_units: bool,
    /// Compute the units' identities from this part of the recording, FROM..TO, in place of looking them up
    #[arg(long, value_name = "FROM..TO", conflicts_with = "session")]
    pub identify: Option<Part>,
    /// Start of the scored interval, counted from the first spike: a fraction (0.8), a percentage (80%) or seconds (96s)
    #[arg(long, default_value = "0.8")]
    pub from: Position,
    /// End of the scored interval, in the same forms
    #[arg(long, default_value = "1")]
    pub to: Position,
    /// Bins between windows [default: the horizon, so that every bin is predicted once]
    #[arg(long, value_name = "BINS")]
    pub stride_bins: Option<usize>,
    /// Bins to predict [default: as the checkpoint was trained; 12 with --baselines-only]
    #[arg(long, value_name = "BINS", visible_alias = "bins")]
    pub horizon_bins: Option<usize>,
    /// Leave out windows whose predicted bins reach into time in which the units were not observed, such as between trials
    #[arg(long)]
    pub observed_only: bool,
    /// Also score mean rates, an exponential average of the recent past, and a Poisson GLM on recent history
    #[arg(long)]
    pub(super) baselines: bool,
    #[command(flatten)]
    pub fit: FitArgs,
    /// Also score units whose spikes the models do not see (co-bps): a fraction of them, drawn with --seed, or
    /// ids with commas between
    #[arg(long, value_name = "FRACTION|IDS")]
    pub held_out_units: Option<HeldOut>,
    /// Resamples for the 95 % intervals; 0 for none
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(0..=100_000))]
    pub(super) bootstrap: u32,
    /// Seed of every random draw
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    #[command(flatten)]
    pub export: ExportArgs,
    #[command(flatten)]
    pub compute: ComputeArgs,
    /// Also write a report with plots: one HTML file that needs no network
    #[arg(long, value_name = "FILE")]
    pub(super) html: Option<PathBuf>,
    /// Print one JSON object: fp_bps, fp_bps_by_bin, fp_bps_ci95, n_windows, n_spikes, n_units, unknown_units, null,
    /// interval_s, backend, notes (what reading the recording changed or left out), models[] (every figure of each), samples
    /// (of --sample), …
    #[arg(long)]
    pub(super) json: bool,
}

impl EvalArgs {
    /// As the command line has it without any flag.
    pub fn of(checkpoint: &Path, recording: &Path) -> Self {
        #[derive(clap::Parser)]
        struct Alone {
            #[command(flatten)]
            eval: EvalArgs,
        }
        let files = [OsStr::new("eval"), checkpoint.as_os_str(), recording.as_os_str()];
        <Alone as clap::Parser>::parse_from([files[0], OsStr::new("--"), files[1], files[2]]).eval
    }

    /// The checkpoint, unless only baselines are asked for.
    pub fn checkpoint(&self) -> Option<&PathBuf> {
        self.second.as_ref().map(|_| &self.first)
    }

    /// The recording.
    pub fn recording(&self) -> &PathBuf {
        self.second.as_ref().unwrap_or(&self.first)
    }
}

/// Runs the subcommand.
pub fn run(args: &EvalArgs) -> Result<ExitCode, CliError> {
    let mut setup = Setup::new(args)?;
    let mut comparison = Comparison::new(
        setup.observed.clone(),
        setup.recording.trials.clone(),
        setup.held_out.clone(),
        args.bootstrap as usize,
        args.seed,
    )
    .with_truth(setup.true_rates());
    // Before anything that takes long: there may be nothing to fit on.
    let baselines = args.baselines || args.fit.baselines_only;
    let fit = baselines.then(|| setup.fit_data()).transpose()?;
    let samples = predict_with_network(args, &mut setup, &mut comparison)?;
    if let Some(fit) = &fit {
        predict_with_baselines(args, &setup, fit, &mut comparison);
    }
    if let Some(truth) = comparison.truth().cloned() {
        comparison.add(truth, None, "of the recording".to_owned());
    }
    let report = Report::new(&setup, &comparison, samples.as_ref());
    if let Some(path) = &args.html {
        std::fs::write(path, render(&report.document(&setup, &comparison))).map_err(|source| CliError::System {
            what: format!("cannot write the report {}", path.display()),
            source,
        })?;
    }
    if args.json {
        print_json(&report)?;
    } else {
        print_report(&report);
    }
    Ok(ExitCode::SUCCESS)
}

/// Returns what was drawn from the predictions, where that was asked for.
fn predict_with_network(
    args: &EvalArgs,
    setup: &mut Setup,
    comparison: &mut Comparison,
) -> Result<Option<SampleReport>, CliError> {
    let Some(mut network) = setup.network.take() else {
        return Ok(None);
    };
    let bar = progress_bar(args.json, "windows");
    let passes = if setup.held_out.is_empty() { 1 } else { 2 };
    bar.set_length((passes * setup.observed.windows()) as u64);
    let keep_latents = args.export.export.is_some();
    let mut latents = LatentsOfWindows::new(network.as_ref(), args.export.all_latents);
    let mut predict = |spikes, hidden, keep_latents| -> Result<Predictions, CliError> {
        let inputs = setup.inputs(network.config(), spikes, hidden)?;
        let each = |_, network: &mut dyn Inference| {
            bar.inc(1);
            if keep_latents {
                latents.take(network)?;
            }
            Ok(())
        };
        Ok(of_network(network.as_mut(), "network", inputs, &setup.observed, each)?)
    };
    let predictions = predict(setup.spikes.as_spikes(), Vec::new(), keep_latents)?;
    let without = match setup.held_out.is_empty() {
        true => None,
        false => Some(predict(setup.spikes_shown().as_spikes(), setup.hidden(), false)?),
    };
    bar.finish_and_clear();
    write_export(&args.export, setup, &predictions, &latents, args.seed)?;
    let samples = write_sample(&args.export, setup, &predictions, args.seed)?;
    comparison.add_network(predictions, without.as_ref(), setup.backend.clone());
    Ok(samples)
}

fn predict_with_baselines(args: &EvalArgs, setup: &Setup, fit: &FitData, comparison: &mut Comparison) {
    let (shape, units) = (setup.observed.shape, setup.unit_ids.len());
    let parts = setup.fit_parts();
    let recent = Recent {
        source: setup.source(),
        hidden: &[],
    };
    let hidden = setup.hidden();
    let shown = Recent {
        hidden: &hidden,
        ..recent
    };
    let held_out = !setup.held_out.is_empty();
    let observed = &setup.observed;

    let mean = mean_rate(fit, observed);
    comparison.add(mean.clone(), held_out.then_some(&mean), String::new());

    let persistence = Persistence::fit(fit);
    let without = held_out.then(|| persistence.predict(shown, observed));
    let detail = format!("time constant {:.3} s", persistence.tau_s());
    comparison.add(persistence.predict(recent, observed), without.as_ref(), detail);

    let bar = progress_bar(args.json, "steps of the GLM");
    let options = GlmOptions {
        weight_decay: args.fit.glm_weight_decay,
        seed: args.seed,
        ..GlmOptions::default()
    };
    let glm = Glm::fit(&parts, units, shape, &options, |done, all| {
        bar.set_length(all as u64);
        bar.set_position(done as u64);
    });
    bar.finish_and_clear();
    let without = held_out.then(|| glm.predict(shown, observed));
    let detail = format!("weight decay {}", glm.weight_decay());
    comparison.add(glm.predict(recent, observed), without.as_ref(), detail);
}
