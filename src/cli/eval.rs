//! `neurohorizon eval`: how well a checkpoint predicts a recording's future.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use super::{print_json, progress_bar, CliError, ComputeArgs};
use crate::data::{Position, Recording};
use crate::evaluate::forward::score;
use crate::model::checkpoint::Checkpoint;
use crate::model::traces::TraceReader;
use crate::model::window::{Spikes, WindowShape};
use crate::model::{build, UnitMatch};
use crate::pipeline::predictor::mean_log_rates;

/// Score a checkpoint's predictions of a recording's future
///
/// Windows stand on the grid of bins that begins with the first spike (in a file of counts, with its bin); the first
/// history begins where the interval does, each further one a horizon later (see --stride-bins). Prints
/// forward-prediction bits per spike against each unit's mean rate on the training data.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  neurohorizon eval model.ckpt session.npz\n  \
                        neurohorizon eval model.safetensors session.nwb --from 0.5 --to 0.75 --json")]
pub struct EvalArgs {
    /// Checkpoint: a .ckpt of the reference model, or .safetensors
    checkpoint: PathBuf,
    /// Recording: .npz or .nwb
    recording: PathBuf,
    /// Start of the scored interval, counted from the first spike: a fraction (0.8), a percentage (80%) or seconds (96s)
    #[arg(long, default_value = "0.8")]
    from: Position,
    /// End of the scored interval, in the same forms
    #[arg(long, default_value = "1")]
    to: Position,
    /// Bins between windows [default: the horizon, so that every bin is predicted once]
    #[arg(long, value_name = "BINS")]
    stride_bins: Option<usize>,
    /// Bins to predict [default: as the checkpoint was trained]
    #[arg(long, value_name = "BINS")]
    horizon_bins: Option<usize>,
    #[command(flatten)]
    compute: ComputeArgs,
    /// Print one JSON object: fp_bps, fp_bps_by_bin, n_windows, n_spikes, n_units, unknown_units, null, interval_s,
    /// backend, notes (what reading the recording changed or left out)
    #[arg(long)]
    json: bool,
}

#[derive(Serialize)]
struct Report {
    fp_bps: Option<f64>,
    fp_bps_by_bin: Vec<Option<f64>>,
    n_windows: u64,
    n_spikes: u64,
    n_units: usize,
    unknown_units: usize,
    null: &'static str,
    interval_s: [f64; 2],
    backend: String,
    notes: Vec<String>,
}

/// Runs the subcommand.
pub fn run(args: &EvalArgs) -> Result<ExitCode, CliError> {
    let checkpoint = Checkpoint::load(&args.checkpoint)?;
    let recording = Recording::load(&args.recording)?;
    let matched = UnitMatch::new(&checkpoint, &recording.unit_ids)?;
    let mut options = args.compute.options();
    options.bins = args.horizon_bins;
    let mut network = build(&checkpoint, &matched.rows, &options)?;
    let shape = WindowShape::new(network.config(), network.plan().bins);

    let interval = recording.grid_interval(args.from, args.to, shape.bin_ns)?;
    let origin = recording.grid_origin_ns().unwrap_or(interval.0);
    let (times_ns, units) = recording.spikes_of(&matched.model_unit);
    let spikes = Spikes {
        times_ns: &times_ns,
        units: &units,
    };
    let (null_log_rates, null) = match matched.null_log_rates(&checkpoint) {
        Some(rates) => (rates.into_iter().map(f64::from).collect(), "checkpoint"),
        None => {
            let rates = mean_log_rates(&times_ns, &units, matched.rows.len(), origin, interval.0, shape.bin_ns);
            (rates, "recording before the interval")
        }
    };
    let traces = matched.traces(&checkpoint);
    let traces = traces.map(|traces| TraceReader::new(traces, origin, shape.bin_ns));
    let bar = progress_bar(args.json, "windows");
    let stride = args.stride_bins.unwrap_or(shape.bins);
    let scored = score(
        network.as_mut(),
        traces,
        spikes,
        &null_log_rates,
        interval,
        stride,
        |done, all| {
            bar.set_length(all as u64);
            bar.set_position(done as u64);
        },
    )?;
    bar.finish_and_clear();
    if scored.windows() == 0 {
        return Err(CliError::Config(format!(
            "the interval is {:.3} s long, and a window of history and horizon takes {:.3} s",
            (interval.1 - interval.0) as f64 * 1e-9,
            (shape.history_ns + shape.horizon_ns) as f64 * 1e-9
        )));
    }

    let report = Report {
        fp_bps: scored.overall(),
        fp_bps_by_bin: scored.by_bin(),
        n_windows: scored.windows(),
        n_spikes: scored.spikes(),
        n_units: matched.rows.len(),
        unknown_units: matched.unknown(),
        null,
        interval_s: [(interval.0 - origin) as f64 * 1e-9, (interval.1 - origin) as f64 * 1e-9],
        backend: network.describe(),
        notes: recording.notes,
    };
    if args.json {
        print_json(&report)?;
    } else {
        print_report(args, &report);
    }
    Ok(ExitCode::SUCCESS)
}

fn print_report(args: &EvalArgs, report: &Report) {
    let bits = |bits: Option<f64>| bits.map_or("no spikes".to_string(), |bits| format!("{bits:.6}"));
    say!("{} on {}", args.checkpoint.display(), args.recording.display());
    report.notes.iter().for_each(|note| say!("note             {note}"));
    say!("backend          {}", report.backend);
    say!(
        "interval         {:.3} to {:.3} s after the first spike",
        report.interval_s[0],
        report.interval_s[1]
    );
    say!(
        "units            {} known to the checkpoint, {} not",
        report.n_units,
        report.unknown_units
    );
    say!("windows          {}", report.n_windows);
    say!("spikes predicted {}", report.n_spikes);
    say!("null model       mean rates of the {}", report.null);
    say!("fp-bps           {}", bits(report.fp_bps));
    let by_bin: Vec<String> = report.fp_bps_by_bin.iter().map(|&bin| bits(bin)).collect();
    say!("fp-bps by bin    {}", by_bin.join(" "));
}
