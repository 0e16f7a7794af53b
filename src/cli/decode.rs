//! `neurohorizon decode`: how well a network reads behaviour out of a recording's spikes.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use super::eval_options::LookedAtArgs;
use super::eval_report::number;
use super::eval_setup::{FileIdentity, Setup};
use super::{print_json, progress_bar, CliError};
use crate::data::arrays::{ArrayWriter, Elements};
use crate::evaluate::baseline::decoding::{add_decoders, BinnedBehaviour};
use crate::evaluate::behaviour::{Decoded, Decodings, Explained, TargetReader};
use crate::evaluate::decoding::{bin_ends, read_windows, ReadWindows};
use crate::evaluate::metrics::Resamples;
use crate::evaluate::report::{render_decoding, DecodedTask};
use crate::model::config::{ModelConfig, ReadoutConfig, ReadoutKind};
use crate::train::state::write_whole;

/// Decode behaviour from a recording's spikes, and score it
///
/// At the end of every bin of the interval the network reads out what it was trained to ([[model.readout]]), from the spikes up
/// to there. Prints R² by channel (of classes, the share that is right) of the present, with 95 % intervals from a bootstrap over
/// blocks of consecutive bins, and of the steps before and after. With --baselines, the same
/// bins by classical decoders, and by how much the network is ahead.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  neurohorizon decode model.safetensors reach.npz --baselines --html decoding.html\n  \
                        neurohorizon decode model.safetensors new.npz --identify 0s..30s --from 30s --json\n  \
                        neurohorizon decode model.safetensors reach.npz --export decoded.npz"
)]
pub struct DecodeArgs {
    #[command(flatten)]
    looked_at: LookedAtArgs,
    /// Also decode numbers with a Wiener and a Kalman filter, fitted on the part before the interval
    #[arg(long)]
    baselines: bool,
    /// Bins that the Wiener filter sees
    #[arg(long, value_name = "BINS", default_value_t = 10, value_parser = clap::value_parser!(u16).range(1..=200))]
    wiener_lags: u16,
    /// Most bins by which the Kalman filter takes activity to lead behaviour; the best is chosen on the part before the interval
    #[arg(long, value_name = "BINS", default_value_t = 4, value_parser = clap::value_parser!(u16).range(..=200))]
    kalman_delay: u16,
    /// Write times_ns [n] and, of every readout, NAME_decoded and NAME_observed [n, steps, channels], NAME_times_s [steps] as
    /// arrays for numpy.load; of classes, probabilities and numbers of classes
    #[arg(long, value_name = "FILE.npz")]
    export: Option<PathBuf>,
    /// Also write a report with plots: one HTML file that needs no network
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Print one JSON object with every figure
    #[arg(long)]
    json: bool,
}

/// What one readout came to.
#[derive(Serialize)]
struct Task {
    series: String,
    unit: String,
    labels: Vec<String>,
    /// Of the present, a decoder each; the network first.
    decoders: Vec<Decoded>,
    /// By how much the network is ahead of each of the others: by channel, then over channels.
    lead: Vec<Lead>,
    /// Middle of each step from the end of the bin, s, and the network's score of it.
    steps: Vec<(f64, Option<f64>)>,
}

#[derive(Serialize)]
struct Lead {
    over: String,
    lead: Vec<Explained>,
}

#[derive(Serialize)]
struct Report<'a> {
    checkpoint: Option<&'a FileIdentity>,
    recording: &'a FileIdentity,
    interval_s: [f64; 2],
    n_bins: usize,
    n_units: usize,
    backend: &'a str,
    notes: &'a [String],
    readouts: Vec<Task>,
}

/// Runs the subcommand.
pub fn run(args: &DecodeArgs) -> Result<ExitCode, CliError> {
    let mut setup = args.looked_at.setup()?;
    let Some(mut network) = setup.network.take() else {
        return Ok(ExitCode::SUCCESS);
    };
    let config = network.config().clone();
    if config.readouts.is_empty() {
        return Err(CliError::Config(
            "this checkpoint reads no behaviour out: there is nothing to decode ([[model.readout]] when it was trained)".into(),
        ));
    }
    let targets = TargetReader::new(&config, &setup.recording)?;
    let ends_ns = bin_ends(setup.observed.shape, setup.interval_ns, setup.origin_ns);
    // Before the network decodes, which takes long: there may be nothing to fit on.
    let binned = match args.baselines {
        true => binned_behaviour(&setup, &config)?,
        false => vec![None; config.readouts.len()],
    };
    let bar = progress_bar(args.json, "bins");
    bar.set_length(ends_ns.len() as u64);
    let inputs = setup.inputs(&config, setup.spikes.as_spikes(), Vec::new())?;
    let windows = read_windows(network.as_mut(), inputs, &targets, &ends_ns, || bar.inc(1))?;
    bar.finish_and_clear();

    let resamples = Resamples::of_recording(ends_ns.len(), args.looked_at.bootstrap as usize, args.looked_at.seed);
    let mut present: Vec<Decodings> = windows
        .iter()
        .map(|window| window.row(window.readout.present()))
        .collect();
    let (lags, delay) = (args.wiener_lags.into(), args.kalman_delay.into());
    for (decodings, binned) in present.iter_mut().zip(&binned) {
        if let Some([fit, data]) = binned {
            add_decoders(fit, data, &ends_ns, lags, delay, decodings);
        }
    }
    let readouts = windows.iter().zip(&present);
    let report = Report {
        checkpoint: setup.checkpoint_file.as_ref(),
        recording: &setup.recording_file,
        interval_s: [setup.seconds(setup.interval_ns.0), setup.seconds(setup.interval_ns.1)],
        n_bins: ends_ns.len(),
        n_units: setup.unit_ids.len(),
        backend: &setup.backend,
        notes: &setup.notes,
        readouts: readouts
            .map(|(window, present)| task(window, present, &resamples))
            .collect(),
    };
    if let Some(path) = &args.export {
        write_whole(
            path,
            &arrays(&ends_ns, &windows).map_err(|source| CliError::System {
                what: format!("cannot write {}", path.display()),
                source,
            })?,
        )?;
    }
    if let Some(path) = &args.html {
        write_whole(path, page(args, &setup, &ends_ns, &report, &present).as_bytes())?;
    }
    if args.json {
        print_json(&report)?;
    } else {
        print(&report);
    }
    Ok(ExitCode::SUCCESS)
}

/// What classical decoders are fitted on, the part before the interval, and what they decode, up to its end; nothing for classes.
fn binned_behaviour(setup: &Setup, config: &ModelConfig) -> Result<Vec<Option<[BinnedBehaviour; 2]>>, CliError> {
    let (recording, units, bin_ns) = (&setup.recording, &setup.unit_ids, setup.observed.shape.bin_ns);
    let (start_ns, end_ns) = setup.interval_ns;
    let of_readout = |readout: &ReadoutConfig| {
        if readout.kind == ReadoutKind::Classes {
            return Ok(None);
        }
        let until = |end_ns| BinnedBehaviour::present(recording, units, readout, (setup.origin_ns, end_ns), bin_ns);
        Ok(Some([until(start_ns)?, until(end_ns)?]))
    };
    config.readouts.iter().map(of_readout).collect()
}

fn task(window: &ReadWindows, present: &Decodings, resamples: &Resamples) -> Task {
    let readout = &window.readout;
    let without = Resamples::new(present.times(), 0, 0);
    let score = |row: usize| window.row(row).figures(&without)[0].score.map(|score| score.value);
    let others = present.decoders.iter().enumerate().skip(1);
    Task {
        series: readout.series.clone(),
        unit: readout.unit.clone(),
        labels: readout.labels.clone(),
        decoders: present.figures(resamples),
        lead: others
            .map(|(decoder, (name, _))| Lead {
                over: name.clone(),
                lead: present.lead(decoder, resamples),
            })
            .collect(),
        steps: readout
            .times_s()
            .into_iter()
            .enumerate()
            .map(|(row, time)| (time, score(row)))
            .collect(),
    }
}

fn arrays(ends_ns: &[i64], windows: &[ReadWindows]) -> std::io::Result<Vec<u8>> {
    let mut writer = ArrayWriter::default();
    writer.add("times_ns", &[ends_ns.len()], Elements::I64(ends_ns))?;
    for ReadWindows { readout, read, targets } in windows {
        let (name, n, rows) = (&readout.series, ends_ns.len(), readout.rows());
        writer.add(
            &format!("{name}_decoded"),
            &[n, rows, readout.columns()],
            Elements::F32(read),
        )?;
        writer.add(
            &format!("{name}_observed"),
            &[n, rows, readout.channels()],
            Elements::F32(targets),
        )?;
        writer.add(&format!("{name}_times_s"), &[rows], Elements::F64(&readout.times_s()))?;
    }
    writer.finish()
}

fn page(args: &DecodeArgs, setup: &Setup, ends_ns: &[i64], report: &Report<'_>, present: &[Decodings]) -> String {
    let facts = [
        ("recording", setup.recording_file.path.clone()),
        ("checkpoint", args.looked_at.checkpoint.display().to_string()),
        (
            "scored interval",
            format!("{:.3} to {:.3} s", report.interval_s[0], report.interval_s[1]),
        ),
        ("bins", report.n_bins.to_string()),
        ("units", report.n_units.to_string()),
    ];
    let times_s: Vec<f64> = ends_ns.iter().map(|&end| setup.seconds(end)).collect();
    let tasks: Vec<DecodedTask<'_>> = report
        .readouts
        .iter()
        .zip(present)
        .map(|(task, decodings)| DecodedTask {
            decodings,
            figures: &task.decoders,
            steps: &task.steps,
        })
        .collect();
    render_decoding(&facts, &setup.notes, &times_s, &tasks)
}

fn print(report: &Report<'_>) {
    let text = |figure: &Explained, percent: bool| {
        let number = |x: f64| match percent {
            true => number(Some(100.0 * x), 1) + " %",
            false => number(Some(x), 3),
        };
        let interval = figure.ci95.map_or(String::new(), |[low, high]| {
            format!(" [{}, {}]", number(low), number(high))
        });
        number(figure.value) + &interval
    };
    say!(
        "{} bins, {} units, {}; of the present, with 95 % intervals",
        report.n_bins,
        report.n_units,
        report.backend
    );
    for task in &report.readouts {
        let unit = if task.unit.is_empty() {
            String::new()
        } else {
            format!(" ({})", task.unit)
        };
        say!("{}{unit}", task.series);
        for decoded in &task.decoders {
            let Some(score) = &decoded.score else {
                say!("  {:<8} nothing was recorded in the interval", decoded.decoder);
                continue;
            };
            if let Some(chance) = decoded.chance {
                let right = text(score, true);
                say!(
                    "  {:<8} {right} right; the most frequent class {:.1} %",
                    decoded.decoder,
                    100.0 * chance
                );
                continue;
            }
            let channels = task.labels.iter().zip(&decoded.r2);
            let channels: Vec<String> = channels
                .map(|(label, r2)| format!("{label} {}", text(r2, false)))
                .collect();
            say!(
                "  {:<8} R² {}; all {}",
                decoded.decoder,
                channels.join(", "),
                text(score, false)
            );
        }
        for Lead { over, lead } in &task.lead {
            let lead: Vec<String> = lead.iter().map(|lead| text(lead, false)).collect();
            say!("  network over {over}: {}", lead.join(", "));
        }
        if task.steps.len() > 1 {
            let steps = task.steps.iter().map(|(time, score)| {
                let score = score.map_or("–".to_owned(), |score| number(Some(score), 3));
                format!("{:+.0} ms {score}", time * 1e3)
            });
            say!("  by step: {}", steps.collect::<Vec<_>>().join(", "));
        }
    }
    report.notes.iter().for_each(|note| say!("note: {note}"));
}
