//! What came of a closed loop: text, JSON and the rows of the page.

use std::fmt;

use serde::Serialize;

use super::reach_cursor::{Control, Followed};
use crate::acquire::simulate::closed_loop::{ReachPort, ReachTask, TrialResult};
use crate::evaluate::reaching::{figures, lead, Quartiles, ReachFigures, ReachLead};
use crate::evaluate::report::render_reach;
use crate::pipeline::{LatencySummary, Outcome, RunSummary};

/// Resamples for the intervals of differences.
const RESAMPLES: usize = 2_000;

/// Every figure.
#[derive(Debug, Serialize)]
pub(super) struct ReachReport {
    pub seed: u64,
    /// Targets that were asked for, of each decoder; fewer were shown where the run was stopped.
    pub trials_planned: usize,
    pub decoders: Vec<Decoder>,
    /// The network against each of the classical decoders.
    pub leads: Vec<ReachLead>,
    /// From the end of a bin to the cursor's move, over all decoders but the ideal one.
    pub loop_latency: LatencySummary,
    pub bins_received: u64,
    /// Bins that the cursor's subscriber did not get.
    pub bins_missed: u64,
    pub notes: Vec<String>,
    pub run: RunSummary,
    #[serde(skip)]
    task: ReachTask,
    #[serde(skip)]
    results: Vec<TrialResult>,
}

#[derive(Debug, Serialize)]
pub(super) struct Decoder {
    #[serde(flatten)]
    pub figures: ReachFigures,
    pub stand_ins: u64,
    pub loop_latency: LatencySummary,
}

impl ReachReport {
    /// Sums up.
    pub fn new(
        seed: u64,
        controls: &[Control],
        port: &ReachPort,
        followed: Followed,
        run: RunSummary,
        mut notes: Vec<String>,
    ) -> Self {
        let (results, task) = (port.results(), *port.task());
        let names: Vec<String> = controls.iter().map(|control| control.name.clone()).collect();
        let Followed {
            bins,
            stand_ins,
            latency,
            all,
        } = followed;
        let decoders = figures(&results, &names).into_iter().zip(stand_ins).zip(latency);
        let place = |name: &str| names.iter().position(|known| known == name);
        let pairs = ["Kalman", "Wiener"].map(|other| Some((place("network")?, place(other)?)));
        if run.outcome == Outcome::Stopped {
            notes.push(format!(
                "stopped after {} of {} trials",
                results.len(),
                port.plan().len()
            ));
        }
        ReachReport {
            seed,
            trials_planned: port.plan().len() / controls.len(),
            decoders: decoders
                .map(|((figures, stand_ins), loop_latency)| Decoder {
                    figures,
                    stand_ins,
                    loop_latency,
                })
                .collect(),
            leads: pairs
                .into_iter()
                .flatten()
                .filter_map(|pair| lead(&results, &names, pair, &task, (RESAMPLES, seed)))
                .collect(),
            loop_latency: all,
            bins_received: bins,
            // Also those before it had come: a cursor that stood still for want of them is no decoder's fault.
            bins_missed: run.bins.published.saturating_sub(bins),
            notes,
            run,
            task,
            results,
        }
    }

    /// The page.
    pub fn html(&self) -> String {
        let names: Vec<String> = self
            .decoders
            .iter()
            .map(|decoder| decoder.figures.decoder.clone())
            .collect();
        let task = &self.task;
        let facts = [
            (
                "population",
                format!(
                    "simulated, seed {}, {} units known to the model",
                    self.seed, self.run.units
                ),
            ),
            ("model", self.run.model.clone()),
            ("trials of each decoder", self.trials_planned.to_string()),
            (
                "task",
                format!(
                    "targets at {:.0} cm, radius {:.0} cm, hold {:.2} s, time-out {:.2} s",
                    100.0 * task.reach_m,
                    100.0 * task.radius_m,
                    seconds(task.hold_ns),
                    seconds(task.time_out_ns)
                ),
            ),
            ("end of a bin to the cursor's move", latency(&self.loop_latency)),
            ("bins", self.bins()),
        ];
        let facts: Vec<(String, String)> = facts.map(|(name, value)| (name.to_owned(), value)).into();
        let mut tables = vec![("Decoders", self.decoder_rows())];
        if !self.leads.is_empty() {
            tables.push(("Differences over the same targets", self.lead_rows()));
        }
        render_reach(&facts, &self.notes, &tables, task, &names, &self.results)
    }

    fn bins(&self) -> String {
        let bins = &self.run.bins;
        format!(
            "{} received, {} missed by the cursor; {} past the deadline, {} held",
            self.bins_received, self.bins_missed, bins.missed_deadline, bins.held
        )
    }

    fn decoder_rows(&self) -> Vec<Vec<String>> {
        let header = [
            "decoder",
            "reached",
            "success rate",
            "time to target, s",
            "path efficiency",
            "loop p50/p99/max, ms",
        ];
        let row = |decoder: &Decoder| {
            let figures = &decoder.figures;
            vec![
                figures.decoder.clone(),
                format!("{}/{}", figures.successes, figures.trials),
                with_interval(figures.success_rate, figures.success_rate95, 2),
                quartiles(figures.time_to_target_s),
                quartiles(figures.path_efficiency),
                latency(&decoder.loop_latency),
            ]
        };
        let header = header.map(String::from).to_vec();
        std::iter::once(header).chain(self.decoders.iter().map(row)).collect()
    }

    fn lead_rows(&self) -> Vec<Vec<String>> {
        let header = ["difference", "pairs", "success rate", "time, s"]
            .map(String::from)
            .to_vec();
        let row = |lead: &ReachLead| {
            vec![
                format!("{} − {}", lead.decoder, lead.over),
                lead.pairs.to_string(),
                with_interval(Some(lead.success_rate), lead.success_rate95, 2),
                with_interval(Some(lead.time_s), lead.time95_s, 2),
            ]
        };
        std::iter::once(header).chain(self.leads.iter().map(row)).collect()
    }
}

impl fmt::Display for ReachReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_rows(f, &self.decoder_rows())?;
        if !self.leads.is_empty() {
            writeln!(f)?;
            write_rows(f, &self.lead_rows())?;
        }
        writeln!(
            f,
            "\nIn brackets: 95 % intervals; of times and efficiencies the quartiles, over successes."
        )?;
        writeln!(
            f,
            "In differences of times a trial without success counts with its time-out."
        )?;
        writeln!(
            f,
            "end of a bin to the cursor's move, p50/p99/max: {} ms",
            latency(&self.loop_latency)
        )?;
        write!(f, "bins: {}", self.bins())?;
        for note in &self.notes {
            write!(f, "\nnote: {note}")?;
        }
        for fault in self.run.failures.iter().chain(&self.run.imbalances) {
            write!(f, "\nFAULT: {fault}")?;
        }
        Ok(())
    }
}

/// Columns of equal width, the first to the left.
fn write_rows(f: &mut fmt::Formatter<'_>, rows: &[Vec<String>]) -> fmt::Result {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    for row in rows {
        for (column, cell) in row.iter().enumerate() {
            let width = width(column);
            match column {
                0 => write!(f, "{cell:<width$}")?,
                _ => write!(f, "  {cell:>width$}")?,
            }
        }
        writeln!(f)?;
    }
    Ok(())
}

fn seconds(ns: i64) -> f64 {
    ns as f64 * 1e-9
}

fn latency(summary: &LatencySummary) -> String {
    if summary.count == 0 {
        return "–".into();
    }
    let [p50, p99, max] = [summary.p50_us, summary.p99_us, summary.max_us].map(|us| us * 1e-3);
    format!("{p50:.2}/{p99:.2}/{max:.2}")
}

fn with_interval(value: Option<f64>, interval: Option<[f64; 2]>, digits: usize) -> String {
    match (value, interval) {
        (Some(value), Some([low, high])) => format!("{value:.digits$} [{low:.digits$}, {high:.digits$}]"),
        (Some(value), None) => format!("{value:.digits$}"),
        (None, _) => "–".into(),
    }
}

fn quartiles(quartiles: Option<Quartiles>) -> String {
    let interval = quartiles.map(|quartiles| [quartiles.lower, quartiles.upper]);
    with_interval(quartiles.map(|quartiles| quartiles.median), interval, 2)
}
