//! A stretch of the recording: every spike of the most active units, and beside it the rates that models predicted.

use std::fmt::Write;

use super::html::escape;
use super::{compared, Document};
use crate::evaluate::predictions::Predictions;

/// Units shown at most, bins shown at most.
const MOST_UNITS: usize = 40;
const MOST_BINS: usize = 60;
const PANEL: f64 = 300.0;
const GAP: f64 = 16.0;
const LEFT: f64 = 8.0;
const TOP: f64 = 22.0;
const ROW: f64 = 8.0;
const BOTTOM: f64 = 36.0;

/// Windows in the middle of the interval that follow one another without overlap, and the units that fire most in them.
struct Stretch {
    windows: Vec<usize>,
    units: Vec<usize>,
    start_ns: i64,
    end_ns: i64,
}

impl Stretch {
    fn choose(document: &Document<'_>) -> Option<Self> {
        let observed = document.comparison.observed();
        let (shape, starts) = (observed.shape, &observed.starts_ns);
        let most = (MOST_BINS / shape.bins).max(1);
        let middle = starts.get(starts.len() / 2)? - (most as i64 / 2) * shape.horizon_ns;
        let mut windows: Vec<usize> = Vec::new();
        for (window, &start) in starts.iter().enumerate().filter(|(_, &start)| start >= middle) {
            let free = windows
                .last()
                .is_none_or(|&last| start >= starts[last] + shape.horizon_ns);
            if free && windows.len() < most {
                windows.push(window);
            }
        }
        let (&first, &last) = (windows.first()?, windows.last()?);
        let mut spikes: Vec<(f32, usize)> = (0..observed.units()).map(|unit| (0.0, unit)).collect();
        for &window in &windows {
            let size = shape.bins * observed.units();
            for (i, &count) in observed.counts[window * size..(window + 1) * size].iter().enumerate() {
                spikes[i % observed.units()].0 += count;
            }
        }
        spikes.sort_by(|a, b| b.0.total_cmp(&a.0));
        spikes.truncate(MOST_UNITS);
        Some(Stretch {
            units: spikes.into_iter().map(|(_, unit)| unit).collect(),
            start_ns: starts[first] + shape.history_ns,
            end_ns: starts[last] + shape.history_ns + shape.horizon_ns,
            windows,
        })
    }

    fn x(&self, panel: usize, time_ns: i64) -> f64 {
        let part = (time_ns - self.start_ns) as f64 / (self.end_ns - self.start_ns) as f64;
        LEFT + panel as f64 * (PANEL + GAP) + part * PANEL
    }

    fn spikes(&self, document: &Document<'_>, svg: &mut String) {
        let mut rows = vec![None; document.unit_ids.len()];
        self.units
            .iter()
            .enumerate()
            .for_each(|(row, &unit)| rows[unit] = Some(row));
        let inside = document.spikes.between(self.start_ns, self.end_ns);
        let mut path = String::new();
        for (&time, &unit) in inside.times_ns.iter().zip(inside.units) {
            if let Some(row) = rows[unit as usize] {
                let _ = write!(
                    path,
                    "M{:.1} {:.1}v{:.0}",
                    self.x(0, time),
                    TOP + row as f64 * ROW + 1.0,
                    ROW - 2.0
                );
            }
        }
        let _ = writeln!(svg, "<path class=\"spikes\" d=\"{path}\"/>");
    }

    /// Cells as strong as the rate is high: the square root of the expected count, full at the greatest of the stretch.
    fn rates(&self, document: &Document<'_>, panel: usize, predictions: &Predictions, svg: &mut String) {
        let observed = document.comparison.observed();
        let shape = observed.shape;
        let rate = |window: usize, bin: usize, unit: usize| {
            let index = (window * shape.bins + bin) * observed.units() + unit;
            f64::from(predictions.log_rates[index]).exp()
        };
        let mut cells = Vec::new();
        for &window in &self.windows {
            for bin in 0..shape.bins {
                for (row, &unit) in self.units.iter().enumerate() {
                    cells.push((row, observed.bin_start_ns(window, bin), rate(window, bin, unit)));
                }
            }
        }
        let greatest = cells.iter().map(|cell| cell.2).fold(f64::MIN_POSITIVE, f64::max);
        for (row, start, rate) in cells {
            let opacity = (rate / greatest).sqrt();
            if opacity >= 0.02 {
                let (x, y) = (self.x(panel, start), TOP + row as f64 * ROW);
                let width = self.x(panel, start + shape.bin_ns) - x;
                let _ = writeln!(
                    svg,
                    "<rect x=\"{x:.1}\" y=\"{y:.0}\" width=\"{width:.1}\" height=\"{ROW}\" fill-opacity=\"{opacity:.2}\"/>"
                );
            }
        }
    }
}

/// Spikes, and the rates that two models predicted. Empty without windows.
pub fn raster(document: &Document<'_>) -> String {
    let Some(stretch) = Stretch::choose(document) else {
        return String::new();
    };
    let models = &document.comparison.models;
    let shown = compared(document);
    let bottom = TOP + stretch.units.len() as f64 * ROW;
    let panels = 1 + shown.len();
    let (width, height) = (LEFT * 2.0 + panels as f64 * (PANEL + GAP) - GAP, bottom + BOTTOM);
    let mut svg =
        format!("<svg viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"Spikes and predicted rates\">\n");
    let names = shown.iter().map(|&model| format!("expected by {}", models[model].name));
    for (panel, name) in ["observed spikes".to_string()].into_iter().chain(names).enumerate() {
        let (left, right) = (stretch.x(panel, stretch.start_ns), stretch.x(panel, stretch.end_ns));
        let seconds = |time: i64| (time - document.origin_ns) as f64 * 1e-9;
        let _ = writeln!(
            svg,
            "<text x=\"{left:.1}\" y=\"14\">{}</text><path class=\"grid\" d=\"M{left:.1} {TOP}H{right:.1}V{bottom}H{left:.1}Z\"/>\
             <text class=\"tick\" x=\"{left:.1}\" y=\"{:.1}\">{:.2} s</text>\
             <text class=\"tick\" x=\"{right:.1}\" y=\"{:.1}\" text-anchor=\"end\">{:.2} s</text>",
            escape(&name),
            bottom + 16.0,
            seconds(stretch.start_ns),
            bottom + 16.0,
            seconds(stretch.end_ns)
        );
    }
    stretch.spikes(document, &mut svg);
    for (panel, &model) in shown.iter().enumerate() {
        let _ = writeln!(svg, "<g class=\"m{model}\" shape-rendering=\"crispEdges\">");
        stretch.rates(document, panel + 1, &models[model].predictions, &mut svg);
        svg.push_str("</g>\n");
    }
    let _ = writeln!(
        svg,
        "<text class=\"tick\" x=\"{LEFT}\" y=\"{:.1}\">the {} units that fire most, from the top; stronger: more spikes \
         expected</text></svg>",
        bottom + 31.0,
        stretch.units.len()
    );
    svg
}
