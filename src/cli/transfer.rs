//! `neurohorizon transfer`: what the first seconds of a session that a network never saw are worth.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use indicatif::ProgressBar;
use serde::Serialize;

use super::eval_report::{number, print_table};
use super::eval_setup::FileIdentity;
use super::{print_json, progress_bar, CliError, ComputeArgs};
use crate::data::{Position, Recording};
use crate::evaluate::metrics::Bits;
use crate::evaluate::report::render_transfer;
use crate::evaluate::transfer::{Cell, Transfer};
use crate::model::checkpoint::Checkpoint;
use crate::train::few_shot::FewShotOptions;
use crate::train::state::write_whole;
use crate::train::transfer::{transfer, Doing, Found, TransferOptions, Tuned, Upper};

/// Compare what can be made of the first seconds of a session that the network never saw
///
/// For each number of seconds, on the same later windows and over one null model: identities in one pass without a gradient;
/// each unit's mean rate, an average of the recent past and a Poisson GLM fitted on the same seconds; fine-tuning of the
/// embeddings alone and of all weights, begun from these identities; with --upper networks that know the session; and the true
/// rates where the recording has them. Bits per spike and paired differences with 95 % intervals from a bootstrap over blocks
/// of windows. Steps and learning rate of fine-tuning are chosen on the last fifth of the same seconds, or on --tune-on. Nothing
/// that is scored is fitted on: --from must not be earlier than the longest of --seconds.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  neurohorizon transfer model.safetensors new.npz --seconds 10,30,60 --from 60s --html transfer.html\n  \
                  neurohorizon transfer model.safetensors new.npz --upper knows-it.safetensors --tune-on other.npz"
)]
pub struct TransferArgs {
    /// Checkpoint with an encoder of identities, of a network that never saw the session
    checkpoint: PathBuf,
    /// Recording of the session: .npz or .nwb
    recording: PathBuf,
    /// Seconds of the recording's beginning that models are made of, counted from the first spike, ascending
    #[arg(long, value_delimiter = ',', default_value = "10,30,60")]
    seconds: Vec<f64>,
    /// Start of the scored interval, counted from the first spike: a fraction (0.8), a percentage (80%) or seconds (96s)
    #[arg(long, default_value = "60s")]
    from: Position,
    /// End of the scored interval, in the same forms
    #[arg(long, default_value = "1")]
    to: Position,
    /// Leave out windows whose predicted bins reach into time in which the units were not observed
    #[arg(long)]
    observed_only: bool,
    /// Also a network that was trained on this session, as an upper bound; may be given again
    #[arg(long, value_name = "CHECKPOINT")]
    upper: Vec<PathBuf>,
    /// Which of the sessions of every --upper the recording is of, where it knows several
    #[arg(long, value_name = "SESSION", requires = "upper")]
    upper_session: Option<String>,
    /// Choose steps and learning rate of fine-tuning on this recording of another session that the network never saw
    #[arg(long, value_name = "RECORDING")]
    tune_on: Option<PathBuf>,
    /// Learning rates of fine-tuning of which one is chosen
    #[arg(long, value_delimiter = ',', value_name = "RATES", default_value = "3e-4,1e-3,3e-3", value_parser = rate)]
    learning_rates: Vec<f64>,
    /// Steps of fine-tuning at most
    #[arg(long, value_name = "N", default_value_t = 100, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    steps: u64,
    /// No fine-tuning, which takes most of the time
    #[arg(long)]
    no_fine_tuning: bool,
    /// Resamples for the 95 % intervals; 0 for none
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(0..=100_000))]
    bootstrap: u32,
    /// Seed of every random draw
    #[arg(long, default_value_t = 0)]
    seed: u64,
    #[command(flatten)]
    compute: ComputeArgs,
    /// Also write a report with plots: one HTML file that needs no network
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Print one JSON object: seconds, observed_s, rows[] (name, of_seconds, cells[]: bits, by_bin, first_gains_more, detail), in_words,
    /// tuned[], fine_tuning, interval_s, n_windows, n_spikes, n_units, notes, …
    #[arg(long)]
    json: bool,
}

fn rate(text: &str) -> Result<f64, String> {
    let rate = text.parse::<f64>().ok().filter(|rate| *rate > 0.0 && *rate <= 1.0);
    rate.ok_or_else(|| "a learning rate above 0 and at most 1 is expected".to_string())
}

#[derive(Serialize)]
struct Report<'a> {
    checkpoint: FileIdentity,
    recording: FileIdentity,
    upper: Vec<FileIdentity>,
    tuned_on: Option<FileIdentity>,
    interval_s: [f64; 2],
    bin_s: f64,
    horizon_bins: usize,
    n_windows: usize,
    n_spikes: u64,
    n_units: usize,
    null: String,
    seed: u64,
    fine_tuning: Option<&'a FewShotOptions>,
    tuned: &'a [Tuned],
    notes: &'a [String],
    #[serde(flatten)]
    transfer: &'a Transfer,
}

/// Runs the subcommand.
pub fn run(args: &TransferArgs) -> Result<ExitCode, CliError> {
    let checkpoint = Checkpoint::load(&args.checkpoint)?;
    let recording = Recording::load(&args.recording)?;
    let other = args.tune_on.as_ref().map(Recording::load).transpose()?;
    let upper = |path: &PathBuf| -> Result<Upper, CliError> {
        Ok(Upper {
            name: path.display().to_string(),
            checkpoint: Checkpoint::load(path)?,
            session: args.upper_session.clone(),
        })
    };
    let uppers = args.upper.iter().map(upper).collect::<Result<Vec<_>, _>>()?;
    let build = args.compute.options()?;
    let options = TransferOptions {
        seconds: args.seconds.clone(),
        from: args.from,
        to: args.to,
        observed_only: args.observed_only,
        bootstrap: args.bootstrap as usize,
        seed: args.seed,
        few_shot: (!args.no_fine_tuning).then(|| FewShotOptions {
            steps: args.steps,
            learning_rates: args.learning_rates.clone(),
            seed: args.seed,
            threads: build.threads,
            ..FewShotOptions::default()
        }),
        build,
    };
    let mut shown = Shown {
        quiet: args.json,
        bar: None,
    };
    let found = transfer(
        &checkpoint,
        &recording,
        &uppers,
        other.as_ref(),
        &options,
        &mut |doing| shown.show(doing),
    )?;
    shown.finish();

    let observed = &found.observed;
    let report = Report {
        checkpoint: FileIdentity::of(&args.checkpoint)?,
        recording: FileIdentity::of(&args.recording)?,
        upper: args
            .upper
            .iter()
            .map(|path| FileIdentity::of(path))
            .collect::<Result<_, _>>()?,
        tuned_on: args.tune_on.as_ref().map(|path| FileIdentity::of(path)).transpose()?,
        interval_s: found.interval_s,
        bin_s: observed.shape.bin_ns as f64 * 1e-9,
        horizon_bins: observed.shape.bins,
        n_windows: observed.windows(),
        n_spikes: observed.spikes(),
        n_units: observed.units(),
        null: format!(
            "mean rates of the first {} s, of the spikes that were seen and one more",
            args.seconds.last().copied().unwrap_or_default()
        ),
        seed: args.seed,
        fine_tuning: options.few_shot.as_ref(),
        tuned: &found.tuned,
        notes: &found.notes,
        transfer: &found.transfer,
    };
    if let Some(path) = &args.html {
        write_whole(
            path,
            render_transfer(&facts(&report), &found.notes, &found.transfer).as_bytes(),
        )?;
    }
    if args.json {
        print_json(&report)?;
    } else {
        print(&report, &found);
    }
    Ok(ExitCode::SUCCESS)
}

/// What is being done, on standard error: a line each, and a bar where it has steps.
struct Shown {
    quiet: bool,
    bar: Option<ProgressBar>,
}

impl Shown {
    fn show(&mut self, doing: Doing) {
        match doing {
            Doing::Begins(what, steps) => {
                self.finish();
                if !self.quiet {
                    eprintln!("{what}");
                }
                self.bar = (steps > 0).then(|| {
                    let bar = progress_bar(self.quiet, "steps at most");
                    bar.set_length(steps);
                    bar
                });
            }
            Doing::Step => self.bar.iter().for_each(|bar| bar.inc(1)),
        }
    }

    fn finish(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}

/// How fine-tuning was done, in words.
fn fine_tuning(report: &Report<'_>) -> Option<String> {
    let options = report.fine_tuning?;
    let on = match &report.tuned_on {
        Some(file) => format!(
            "on the scored interval of {}, fine-tuned on as many seconds of its own",
            file.path
        ),
        None => "on the last fifth of the same seconds".to_owned(),
    };
    Some(format!(
        "AdamW, {} windows a step, at most {} steps, learning rates {:?} ({} times as large in the path of recent history), seed \
         {}; both chosen {on}, a look every {} steps, no step at all among the choices",
        options.batch,
        options.steps,
        options.learning_rates,
        crate::train::few_shot::HISTORY_RATE,
        options.seed,
        options.judge_every
    ))
}

fn facts(report: &Report<'_>) -> Vec<(String, String)> {
    let file = |file: &FileIdentity| format!("{} (FNV-1a {})", file.path, file.hash);
    let [from, to] = report.interval_s;
    let mut facts = vec![
        ("recording", file(&report.recording)),
        ("checkpoint", file(&report.checkpoint)),
    ];
    facts.extend(report.upper.iter().map(|upper| ("upper bound", file(upper))));
    facts.extend([
        (
            "scored interval",
            format!("{from:.3} to {to:.3} s after the first spike"),
        ),
        (
            "windows",
            format!(
                "{} of {} bins of {} ms, {} spikes of {} units",
                report.n_windows,
                report.horizon_bins,
                report.bin_s * 1e3,
                report.n_spikes,
                report.n_units
            ),
        ),
        ("null model", report.null.clone()),
    ]);
    facts.extend(fine_tuning(report).map(|how| ("fine-tuning", how)));
    facts.push(("made by", format!("neurohorizon {}", env!("CARGO_PKG_VERSION"))));
    let owned = facts.into_iter().map(|(name, value)| (name.to_owned(), value));
    owned.collect()
}

fn print(report: &Report<'_>, found: &Found) {
    for (name, value) in facts(report) {
        say!("{name:<16} {value}");
    }
    report.notes.iter().for_each(|note| say!("note             {note}"));
    let transfer = &found.transfer;
    say!("");
    say!("bits per spike by the seconds that were given, with 95 % intervals");
    print_table(&rows(transfer, |cell| bits(cell.bits)));
    say!("");
    if let Some(first) = transfer.rows.first() {
        say!("how much more is gained by: {}", first.name);
        print_table(&rows(transfer, |cell| {
            cell.first_gains_more.map_or(String::new(), bits)
        }));
        let fixed = transfer.rows.iter().filter(|row| !row.of_seconds);
        for row in fixed {
            let share = |(own, of): (&Cell, &Cell)| own.bits.value.zip(of.bits.value).map(|(own, of)| 100.0 * own / of);
            let shares = first.cells.iter().zip(&row.cells).map(share);
            let shares: Vec<String> = shares.map(|share| number(share, 1) + " %").collect();
            say!("of the {}: {}", row.name, shares.join(", "));
        }
        say!("");
    }
    transfer.in_words.iter().for_each(|words| say!("{words}"));
    say!("");
    say!("what was chosen");
    print_table(&rows(transfer, |cell| cell.detail.clone()));
}

fn bits(bits: Bits) -> String {
    let interval = bits.ci95.map_or(String::new(), |[low, high]| {
        format!(" [{}, {}]", number(Some(low), 4), number(Some(high), 4))
    });
    number(bits.value, 4) + &interval
}

/// A row a model, a column for each number of seconds.
fn rows(transfer: &Transfer, of: impl Fn(&Cell) -> String) -> Vec<Vec<String>> {
    let given = transfer.given();
    let mut rows = vec![std::iter::once(String::new()).chain(given).collect::<Vec<String>>()];
    for row in &transfer.rows {
        rows.push(
            std::iter::once(row.name.clone())
                .chain(row.cells.iter().map(&of))
                .collect(),
        );
    }
    rows
}
