//! What `neurohorizon eval` prints: one JSON object, or a table of models and figures.

use serde::Serialize;

use super::eval_export::SampleReport;
use super::eval_samples::print_samples;
use super::eval_setup::{FileIdentity, Setup};
use crate::evaluate::comparison::{Comparison, ModelResult};
use crate::evaluate::metrics::Bits;
use crate::evaluate::report::Document;

/// Everything that is known about an evaluation. The first fields are those of the network, empty without one.
#[derive(Serialize)]
pub struct Report<'a> {
    pub fp_bps: Option<f64>,
    pub fp_bps_by_bin: Vec<Option<f64>>,
    pub fp_bps_ci95: Option<[f64; 2]>,
    pub n_windows: usize,
    pub n_spikes: u64,
    pub n_units: usize,
    pub unknown_units: usize,
    pub null: &'static str,
    pub interval_s: [f64; 2],
    pub backend: &'a str,
    pub notes: &'a [String],
    pub checkpoint: Option<&'a FileIdentity>,
    pub recording: &'a FileIdentity,
    pub fit_on: &'a [FileIdentity],
    pub fit_intervals_s: Vec<[f64; 2]>,
    pub bin_s: f64,
    pub horizon_bins: usize,
    pub history_s: f64,
    pub unit_ids: &'a [String],
    pub held_out_units: Vec<&'a str>,
    pub models: &'a [ModelResult],
    /// Of `--sample`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub samples: Option<&'a SampleReport>,
}

impl<'a> Report<'a> {
    /// Gathers what was computed.
    pub fn new(setup: &'a Setup, comparison: &'a Comparison, samples: Option<&'a SampleReport>) -> Self {
        let observed = comparison.observed();
        let network = comparison.models.first().filter(|_| setup.checkpoint_file.is_some());
        let bits = network.map(|model| &model.figures.bits);
        let shape = observed.shape;
        Report {
            fp_bps: bits.and_then(|bits| bits.overall.value),
            fp_bps_by_bin: bits.map_or(Vec::new(), |bits| bits.by_bin.iter().map(|bin| bin.value).collect()),
            fp_bps_ci95: bits.and_then(|bits| bits.overall.ci95),
            n_windows: observed.windows(),
            n_spikes: observed.spikes(),
            n_units: observed.units(),
            unknown_units: setup.unscored_units,
            null: setup.null,
            interval_s: [setup.seconds(setup.interval_ns.0), setup.seconds(setup.interval_ns.1)],
            backend: &setup.backend,
            notes: &setup.notes,
            checkpoint: setup.checkpoint_file.as_ref(),
            recording: &setup.recording_file,
            fit_on: &setup.fit_files,
            fit_intervals_s: setup.fit_intervals_s(),
            bin_s: shape.bin_ns as f64 * 1e-9,
            horizon_bins: shape.bins,
            history_s: shape.history_ns as f64 * 1e-9,
            unit_ids: &setup.unit_ids,
            held_out_units: setup
                .held_out
                .iter()
                .map(|&unit| setup.unit_ids[unit].as_str())
                .collect(),
            models: &comparison.models,
            samples,
        }
    }

    /// The same as a page with plots.
    pub fn document(&self, setup: &'a Setup, comparison: &'a Comparison) -> Document<'a> {
        let file = |file: &FileIdentity| format!("{} (FNV-1a {})", file.path, file.hash);
        let interval = |[from, to]: [f64; 2]| format!("{from:.3} to {to:.3} s");
        let mut facts = vec![
            ("recording", file(self.recording)),
            ("checkpoint", self.checkpoint.map_or("none".to_string(), file)),
            (
                "scored interval",
                format!("{} after the first spike", interval(self.interval_s)),
            ),
            (
                "windows",
                format!(
                    "{} of {} bins of {} ms, {} spikes",
                    self.n_windows,
                    self.horizon_bins,
                    self.bin_s * 1e3,
                    self.n_spikes
                ),
            ),
            ("units", format!("{} scored, {} not", self.n_units, self.unknown_units)),
            ("null model", format!("mean rates of the {}", self.null)),
        ];
        if self.models.len() > 1 {
            let parts: Vec<String> = self.fit_intervals_s.iter().copied().map(interval).collect();
            let files: Vec<String> = self.fit_on.iter().map(file).collect();
            facts.push((
                "baselines fitted on",
                format!("{} {}", parts.join(", "), files.join(", ")),
            ));
        }
        if self.checkpoint.is_some() {
            facts.push(("computed by", self.backend.to_string()));
        }
        facts.push(("made by", format!("neurohorizon {}", env!("CARGO_PKG_VERSION"))));
        Document {
            facts: facts
                .into_iter()
                .map(|(name, value)| (name.to_string(), value))
                .collect(),
            notes: self.notes,
            unit_ids: &setup.unit_ids,
            held_out: &setup.held_out,
            spikes: setup.spikes.as_spikes(),
            origin_ns: setup.origin_ns,
            comparison,
        }
    }
}

/// Prints the table.
pub fn print_report(report: &Report<'_>) {
    match report.checkpoint {
        Some(checkpoint) => say!("{} on {}", checkpoint.path, report.recording.path),
        None => say!("baselines on {}", report.recording.path),
    }
    report.notes.iter().for_each(|note| say!("note             {note}"));
    if report.checkpoint.is_some() {
        say!("backend          {}", report.backend);
    }
    let [from, to] = report.interval_s;
    say!("interval         {from:.3} to {to:.3} s after the first spike");
    match report.checkpoint {
        Some(_) => say!(
            "units            {} known to the checkpoint, {} not",
            report.n_units,
            report.unknown_units
        ),
        None => say!(
            "units            {} scored, {} not",
            report.n_units,
            report.unknown_units
        ),
    }
    say!(
        "windows          {} of {} bins of {} ms",
        report.n_windows,
        report.horizon_bins,
        report.bin_s * 1e3
    );
    say!("spikes predicted {}", report.n_spikes);
    say!("null model       mean rates of the {}", report.null);
    if report.models.len() > 1 {
        let parts: Vec<String> = report
            .fit_intervals_s
            .iter()
            .map(|[from, to]| format!("{from:.3} to {to:.3} s"))
            .collect();
        let files: Vec<&str> = report.fit_on.iter().map(|file| file.path.as_str()).collect();
        say!("baselines fitted {} {}", parts.join(", "), files.join(", "));
    }
    if report.fp_bps.is_some() || report.checkpoint.is_some() {
        say!("fp-bps           {}", number(report.fp_bps, 6));
        let by_bin: Vec<String> = report.fp_bps_by_bin.iter().map(|&bin| number(bin, 6)).collect();
        say!("fp-bps by bin    {}", by_bin.join(" "));
    }
    say!("");
    print_figures(report);
    say!("");
    print_by_bin(report);
    if let Some(samples) = report.samples {
        say!("");
        print_samples(samples);
    }
}

fn print_figures(report: &Report<'_>) {
    let held_out = !report.held_out_units.is_empty();
    let trials = report.models.iter().any(|model| model.figures.psth.is_some());
    let compared = report.models.iter().any(|model| model.network_gains_more.is_some());
    let mut header = vec!["model", "bits/spike", "95 %"];
    if compared {
        header.extend(["network − it", "95 %"]);
    }
    header.extend(["R² counts", "in units"]);
    if trials {
        header.extend(["PSTH-R²", "in units"]);
    }
    if held_out {
        header.extend(["co-bps", "95 %"]);
    }
    header.push("");
    let mut rows = vec![header.into_iter().map(String::from).collect::<Vec<String>>()];
    for model in report.models {
        let figures = &model.figures;
        let mut row = vec![
            model.name.clone(),
            value(figures.bits.overall),
            interval(figures.bits.overall),
        ];
        if compared {
            let more = model.network_gains_more;
            row.extend([more.map_or(String::new(), value), more.map_or(String::new(), interval)]);
        }
        let explained = figures.counts;
        row.push(number(explained.map(|explained| explained.r2), 4));
        row.push(number(explained.map(|explained| explained.r2_within_units), 4));
        if trials {
            let explained = figures.psth.map(|psth| psth.explained);
            row.push(number(explained.map(|explained| explained.r2), 4));
            row.push(number(explained.map(|explained| explained.r2_within_units), 4));
        }
        if held_out {
            let co_bps = model.co_bps.as_ref().map(|co_bps| co_bps.overall);
            row.push(co_bps.map_or(String::new(), value));
            row.push(co_bps.map_or(String::new(), interval));
        }
        row.push(model.detail.clone());
        rows.push(row);
    }
    print_table(&rows);
    if held_out {
        let ids = &report.held_out_units;
        say!("co-bps on {} held-out units: {}", ids.len(), ids.join(", "));
    }
    if let Some(truth) = report.models.iter().find(|model| model.name == "true rates") {
        let of = |model: &ModelResult| model.figures.bits.overall.value;
        for model in report.models.iter().filter(|model| model.name != "true rates") {
            let share = of(model).zip(of(truth)).map(|(own, all)| 100.0 * own / all);
            let explained = model.r2_to_true_rates.map(|explained| explained.r2);
            say!(
                "{}: {} % of the true rates' bits per spike, R² to the true rates {}",
                model.name,
                number(share, 1),
                number(explained, 4)
            );
        }
    }
    if let Some(psth) = report.models.first().and_then(|model| model.figures.psth) {
        let (conditions, trials) = (psth.conditions, psth.trials);
        say!("PSTH over {conditions} conditions and {trials} trials");
    }
}

fn print_by_bin(report: &Report<'_>) {
    let mut header = vec!["bits/spike by bin".to_string()];
    header.extend((1..=report.horizon_bins).map(|bin| format!("{:.0} ms", bin as f64 * report.bin_s * 1e3)));
    let mut rows = vec![header];
    for model in report.models {
        let by_bin = model.figures.bits.by_bin.iter().map(|bin| number(bin.value, 3));
        rows.push([model.name.clone()].into_iter().chain(by_bin).collect());
    }
    for model in report.models.iter().filter(|_| report.horizon_bins > 1) {
        let by_horizon = model.figures.bits.by_horizon.iter().map(|bin| number(bin.value, 3));
        rows.push(
            [format!("{}, up to", model.name)]
                .into_iter()
                .chain(by_horizon)
                .collect(),
        );
    }
    print_table(&rows);
}

/// Columns as wide as their widest entry; numbers flush right.
pub(super) fn print_table(rows: &[Vec<String>]) {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| {
        rows.iter()
            .filter_map(|row| row.get(column))
            .map(|cell| cell.chars().count())
            .max()
    };
    let widths: Vec<usize> = (0..columns).map(|column| width(column).unwrap_or(0)).collect();
    for row in rows {
        let cells = row
            .iter()
            .zip(&widths)
            .enumerate()
            .map(|(column, (cell, &width))| match column {
                0 => format!("{cell:<width$}"),
                _ => format!("{cell:>width$}"),
            });
        say!("{}", cells.collect::<Vec<String>>().join("  ").trim_end());
    }
}

/// A figure with so many digits.
pub(super) fn number(value: Option<f64>, digits: usize) -> String {
    match value {
        // No minus before a zero.
        Some(value) if value.abs() < 0.5 * 0.1f64.powi(digits as i32) => format!("{:.digits$}", 0.0),
        Some(value) => format!("{value:.digits$}"),
        None => "no spikes".to_string(),
    }
}

fn value(bits: Bits) -> String {
    number(bits.value, 4)
}

fn interval(bits: Bits) -> String {
    bits.ci95.map_or(String::new(), |[low, high]| {
        format!("[{}, {}]", number(Some(low), 4), number(Some(high), 4))
    })
}
