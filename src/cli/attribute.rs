//! `neurohorizon attribute`: what behaviour and stimuli contributed to the predictions.

use std::path::PathBuf;
use std::process::ExitCode;
use std::str::FromStr;

use clap::Args;
use serde::Serialize;

use super::attribute_inputs::{arrays, print_inputs, GradientArgs};
use super::eval_options::LookedAtArgs;
use super::eval_report::number;
use super::eval_setup::{FileIdentity, Setup};
use super::{print_json, progress_bar, CliError, FAULT_FOUND};
use crate::evaluate::attribution::{attribute, passes, Attribution, Contribution, Modality, Part};
use crate::evaluate::conditions::windows_shown;
use crate::evaluate::input_attribution::InputAttribution;
use crate::evaluate::metrics::{Bits, Resamples};
use crate::evaluate::parts::{of_epochs, of_series, of_trials};
use crate::evaluate::predictions::of_network;
use crate::evaluate::report::render_attribution;
use crate::train::state::write_whole;

/// Say what each modality contributed to the predictions of a recording's future
///
/// The network predicts the same windows with every subset of the modalities that it learned from ([[model.condition]]), the
/// spikes always included. Prints, in bits per spike with 95 % intervals from a bootstrap over blocks of windows: what is lost
/// without each modality, its Shapley value, and whether the network makes any use of it; the first two also bin by bin and unit by unit, and with --by in parts of the experiment. With
/// --gradients, what each input contributed by integrated gradients: spikes by unit and by time before the prediction, recent
/// history, other modalities by step and channel; and where the encoder attends to, which is no attribution. Where these
/// contributions do not add up to what the inputs gained, that is said, and the exit status is 1.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  neurohorizon attribute model.safetensors session.npz --html attribution.html\n  \
                        neurohorizon attribute model.safetensors session.nwb --by trials --json\n  \
                        neurohorizon attribute model.safetensors reach.npz --from 0.8 --by hand_vel\n  \
                        neurohorizon attribute model.safetensors reach.npz --gradients --html inputs.html --npz inputs.npz"
)]
pub struct AttributeArgs {
    #[command(flatten)]
    looked_at: LookedAtArgs,
    /// Also in parts of the experiment: trials (by their condition), epochs (by their label), or the name of a series, whose
    /// thirds of the size of its mean over a horizon are told apart
    #[arg(long, value_name = "trials|epochs|SERIES")]
    by: Option<By>,
    #[command(flatten)]
    gradients: GradientArgs,
    /// Write every figure as arrays for numpy.load: delta, shapley [M] and delta_by_bin [M, T], delta_by_unit [M, N],
    /// delta_by_part [M, V], each with _ci95 [..., 2]; with --gradients also by_source [S], spikes_by_time [G], times_s [G],
    /// spikes_by_unit_and_time [N, G], by_unit [N, 4], MODALITY_by_step, MODALITY_by_channel, by_target and influence_by_target [N, S],
    /// complete [1], residual [1], attention_by_source, attention_by_time [G], attention_by_unit [N, 2]; and the names along the axes
    #[arg(long, value_name = "FILE.npz")]
    npz: Option<PathBuf>,
    /// Also write a report with plots: one HTML file that needs no network
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Print one JSON object with every figure
    #[arg(long)]
    json: bool,
}

/// What parts of an experiment are told apart by.
#[derive(Debug, Clone, PartialEq, Eq)]
enum By {
    Trials,
    Epochs,
    Series(String),
}

impl FromStr for By {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text {
            "trials" => By::Trials,
            "epochs" => By::Epochs,
            series => By::Series(series.to_owned()),
        })
    }
}

#[derive(Serialize)]
struct Report<'a> {
    checkpoint: Option<&'a FileIdentity>,
    recording: &'a FileIdentity,
    interval_s: [f64; 2],
    n_windows: usize,
    n_spikes: u64,
    unit_ids: &'a [String],
    bin_s: f64,
    notes: &'a [String],
    #[serde(flatten)]
    attribution: &'a Attribution,
    /// Of --gradients.
    inputs: Option<&'a InputAttribution>,
}

/// Runs the subcommand.
pub fn run(args: &AttributeArgs) -> Result<ExitCode, CliError> {
    let mut setup = args.looked_at.setup()?;
    let Some(mut network) = setup.network.take() else {
        return Ok(ExitCode::SUCCESS);
    };
    let config = network.config().clone();
    if config.conditions.is_empty() && !args.gradients.gradients {
        return Err(CliError::Config(
            "this checkpoint sees spikes alone: there is nothing to compare ([[model.condition]] when it was trained); --gradients says \
             what its spikes did"
                .into(),
        ));
    }
    let parts = parts(args.by.as_ref(), &setup)?;
    let bar = progress_bar(args.json, "windows");
    bar.set_length((passes(config.conditions.len()) * setup.observed.windows()) as u64);
    let resampled = |windows| Resamples::of_recording(windows, args.looked_at.bootstrap as usize, args.looked_at.seed);
    let resamples = resampled(setup.observed.windows());
    // An error here is a wrong series: every pass sees the same ones.
    let mut inputs = setup.inputs(&config, setup.spikes.as_spikes(), Vec::new())?;
    let shown = windows_shown(&mut inputs.conditions, &setup.observed);
    let named = config.conditions.iter().zip(shown);
    let modalities: Vec<Modality> = named
        .map(|(condition, windows_shown)| Modality {
            name: condition.series.clone(),
            windows_shown,
        })
        .collect();
    let attribution = attribute(&setup.observed, &modalities, &parts, &resamples, |shown| {
        let inputs = setup.inputs(&config, setup.spikes.as_spikes(), Vec::new());
        let mut inputs = inputs.expect("the series were looked at before");
        inputs.spike_tokens = shown.spike_tokens;
        inputs.conditions = inputs.conditions.showing(|number| shown.modalities[number]);
        of_network(network.as_mut(), "network", inputs, &setup.observed, |_, _| {
            bar.inc(1);
            Ok(())
        })
    })?;
    bar.finish_and_clear();
    let inputs = args.gradients.attribute(&setup, &config, args.json, resampled)?;

    let observed = &setup.observed;
    let report = Report {
        checkpoint: setup.checkpoint_file.as_ref(),
        recording: &setup.recording_file,
        interval_s: [setup.seconds(setup.interval_ns.0), setup.seconds(setup.interval_ns.1)],
        n_windows: observed.windows(),
        n_spikes: observed.spikes(),
        unit_ids: &setup.unit_ids,
        bin_s: observed.shape.bin_ns as f64 * 1e-9,
        notes: &setup.notes,
        attribution: &attribution,
        inputs: inputs.as_ref(),
    };
    if let Some(path) = &args.npz {
        let bytes = arrays(&attribution, inputs.as_ref(), &setup.unit_ids).map_err(|source| CliError::System {
            what: format!("cannot write {}", path.display()),
            source,
        })?;
        write_whole(path, &bytes)?;
    }
    if let Some(path) = &args.html {
        let facts = [
            ("recording", setup.recording_file.path.clone()),
            ("checkpoint", args.looked_at.checkpoint.display().to_string()),
            (
                "scored interval",
                format!("{:.3} to {:.3} s", report.interval_s[0], report.interval_s[1]),
            ),
            ("windows", report.n_windows.to_string()),
            ("spikes", report.n_spikes.to_string()),
        ];
        let page = render_attribution(
            &facts,
            &setup.notes,
            &setup.unit_ids,
            report.bin_s,
            &attribution,
            inputs.as_ref(),
        );
        write_whole(path, page.as_bytes())?;
    }
    if args.json {
        print_json(&report)?;
    } else {
        print(&report);
    }
    Ok(match &inputs {
        Some(inputs) if !inputs.complete => ExitCode::from(FAULT_FOUND),
        _ => ExitCode::SUCCESS,
    })
}

fn parts(by: Option<&By>, setup: &Setup) -> Result<Vec<Part>, CliError> {
    let (recording, observed) = (&setup.recording, &setup.observed);
    let (parts, missing) = match by {
        None => return Ok(Vec::new()),
        Some(By::Trials) => (
            of_trials(&recording.trials, observed),
            "trials with conditions".to_owned(),
        ),
        Some(By::Epochs) => (of_epochs(&recording.epochs, observed), "epochs".to_owned()),
        Some(By::Series(name)) => (
            recording
                .series(name)
                .map_or(Vec::new(), |series| of_series(series, observed)),
            format!("values of a series {name:?}"),
        ),
    };
    if parts.is_empty() {
        return Err(CliError::Config(format!(
            "--by: {} has no {missing} in the scored interval",
            recording.name
        )));
    }
    Ok(parts)
}

/// A figure and its interval.
pub(super) fn bits(bits: &Bits) -> String {
    let four_digits = |value: f64| number(Some(value), 4);
    let interval = bits.ci95.map(|ends| ends.map(four_digits));
    let interval = interval.map_or(String::new(), |[low, high]| format!(" [{low}, {high}]"));
    bits.value.map_or("–".to_owned(), four_digits) + &interval
}

fn print(report: &Report<'_>) {
    let attribution = report.attribution;
    say!(
        "{} windows, {} spikes of {} units, bits per spike with 95 % intervals",
        report.n_windows,
        report.n_spikes,
        report.unit_ids.len()
    );
    say!("all modalities   {}", bits(&attribution.with_all.overall));
    say!("spikes alone     {}", bits(&attribution.with_none.overall));
    let width = attribution
        .contributions
        .iter()
        .map(|each| each.modality.len())
        .max()
        .unwrap_or(0)
        .max(12);
    let of_spikes = &attribution.spike_tokens;
    say!(
        "{:width$}   lost without them {}: {}",
        "spike tokens",
        bits(&of_spikes.delta.overall),
        of_spikes.verdict
    );
    for Contribution {
        modality,
        delta,
        shapley,
        delta_by_part,
        verdict,
        ..
    } in &attribution.contributions
    {
        let shapley = shapley.as_ref().map_or(String::new(), |shapley| {
            format!("   Shapley value {}", bits(&shapley.overall))
        });
        say!("{modality:width$}   lost without it {}{shapley}", bits(&delta.overall));
        say!("{:width$}   {verdict}", "");
        for ((part, windows), delta) in attribution.parts.iter().zip(delta_by_part) {
            say!("{:width$}   {part} ({windows} windows): {}", "", bits(delta));
        }
    }
    if let Some(inputs) = report.inputs {
        print_inputs(inputs, report.unit_ids);
    }
    report.notes.iter().for_each(|note| say!("note: {note}"));
}
