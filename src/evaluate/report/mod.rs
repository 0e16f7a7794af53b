//! An evaluation as one HTML page that needs nothing else: no network, no script, plots as inline SVG.

mod attribution;
mod decoding;
mod figures;
mod html;
mod inputs;
mod plot;
mod raster;
mod reach;
mod transfer;

use super::comparison::Comparison;
use crate::model::window::Spikes;
pub use attribution::render_attribution;
pub use decoding::{render_decoding, DecodedTask};
use html::{escape, number, opening, table};
pub use reach::render_reach;
pub use transfer::render_transfer;

/// Of every page.
const STYLE: &str = include_str!("style.css");

/// What a report shows.
#[derive(Debug, Clone)]
pub struct Document<'a> {
    /// Names and values of the header: files, hashes, intervals.
    pub facts: Vec<(String, String)>,
    /// What a reader should know beside the figures, one sentence each.
    pub notes: &'a [String],
    /// Ids of the scored units, `[N]`.
    pub unit_ids: &'a [String],
    /// The units that models did not see when co-bps was computed, indices into `unit_ids`.
    pub held_out: &'a [usize],
    /// All spikes of the scored units.
    pub spikes: Spikes<'a>,
    /// Device time from which the page counts seconds.
    pub origin_ns: i64,
    /// Models and figures.
    pub comparison: &'a Comparison,
}

/// The page.
pub fn render(document: &Document<'_>) -> String {
    let heading = "How well the future was predicted";
    let mut page = opening("NeuroHorizon evaluation", heading, &document.facts, document.notes);
    page.push_str("<h2>Figures</h2>\n");
    page.push_str(&table(&figure_rows(document)));
    page.push_str(
        "<p>Bits per spike against each unit's mean rate on the training data; in brackets, 95 % intervals from a bootstrap over \
         blocks of consecutive windows. R² in units is about each unit's own mean, so that knowing the mean rates explains \
         nothing.</p>\n",
    );
    let key = document.comparison.models.iter().enumerate().map(|(number, model)| {
        let name = escape(&model.name);
        format!("<li class=\"m{number}\"><span></span><b>{name}</b></li>\n")
    });
    page.push_str(&format!("<ul class=\"key\">\n{}</ul>\n", key.collect::<String>()));
    page.push_str("<div class=\"pair\">\n");
    let plots = [
        (figures::by_bin(document), "Each bin of the horizon, with 95 % intervals."),
        (figures::by_horizon(document), "All bins up to this one."),
        (
            figures::calibration(document),
            "Predictions sorted into ten groups of equal size: mean expected count against mean observed count, with standard \
             errors. A calibrated model lies on the dashed line.",
        ),
        (
            figures::by_unit(document),
            "One dot a unit, larger for units that fire more. Units beyond the axes are drawn at their edge.",
        ),
    ];
    for (plot, caption) in plots {
        page.push_str(&format!(
            "<figure>\n{plot}<figcaption>{caption}</figcaption>\n</figure>\n"
        ));
    }
    page.push_str("</div>\n<h2>A stretch from the middle of the interval</h2>\n<figure>\n");
    page.push_str(&raster::raster(document));
    page.push_str("</figure>\n<h2>Units</h2>\n<details>\n<summary>Every unit</summary>\n");
    page.push_str(&table(&unit_rows(document)));
    page.push_str("</details>\n</body>\n</html>\n");
    page
}

/// The first model that is not just the mean rates, and the last: those worth comparing unit by unit.
fn compared(document: &Document<'_>) -> Vec<usize> {
    let models = &document.comparison.models;
    let mut compared: Vec<usize> = (0..models.len())
        .filter(|&model| models[model].name != "mean rate")
        .take(1)
        .collect();
    compared.extend(models.len().checked_sub(1));
    compared.dedup();
    compared
}

fn figure_rows(document: &Document<'_>) -> Vec<Vec<String>> {
    let models = &document.comparison.models;
    let with_psth = models.iter().any(|model| model.figures.psth.is_some());
    let with_co_bps = !document.held_out.is_empty();
    let compared = models.iter().any(|model| model.network_gains_more.is_some());
    let mut header = vec!["model", "bits per spike"];
    if compared {
        header.push("the network gains more by");
    }
    header.extend(["R² of counts", "in units"]);
    if with_psth {
        header.extend(["PSTH-R²", "in units"]);
    }
    if with_co_bps {
        header.push("co-bps");
    }
    header.push("");
    let mut rows = vec![header.into_iter().map(String::from).collect::<Vec<String>>()];
    for model in models {
        let figures = &model.figures;
        let bits = |bits: Option<super::metrics::Bits>| {
            let Some(bits) = bits else { return String::new() };
            let interval = bits.ci95.map(|ends| ends.map(|end| number(Some(end), 4)));
            let interval = interval.map_or(String::new(), |[low, high]| format!(" [{low}, {high}]"));
            number(bits.value, 4) + &interval
        };
        let mut row = vec![model.name.clone(), bits(Some(figures.bits.overall))];
        if compared {
            row.push(bits(model.network_gains_more));
        }
        let counts = figures.counts;
        row.push(number(counts.map(|counts| counts.r2), 4));
        row.push(number(counts.map(|counts| counts.r2_within_units), 4));
        if with_psth {
            row.push(number(figures.psth.map(|psth| psth.explained.r2), 4));
            row.push(number(figures.psth.map(|psth| psth.explained.r2_within_units), 4));
        }
        if with_co_bps {
            row.push(bits(model.co_bps.as_ref().map(|co_bps| co_bps.overall)));
        }
        row.push(model.detail.clone());
        rows.push(row);
    }
    rows
}

fn unit_rows(document: &Document<'_>) -> Vec<Vec<String>> {
    let models = &document.comparison.models;
    let mut header: Vec<String> = ["unit", "spikes", "Hz"].map(String::from).to_vec();
    header.extend(models.iter().map(|model| format!("bits per spike, {}", model.name)));
    let mut rows = vec![header];
    for (unit, (spikes, rate)) in figures::unit_rates(document).into_iter().enumerate() {
        let held_out = if document.held_out.contains(&unit) {
            " (held out for co-bps)"
        } else {
            ""
        };
        let mut row = vec![
            format!("{}{held_out}", document.unit_ids[unit]),
            format!("{spikes:.0}"),
            format!("{rate:.2}"),
        ];
        row.extend(
            models
                .iter()
                .map(|model| number(model.figures.bits.by_unit[unit].value, 3)),
        );
        rows.push(row);
    }
    rows
}

#[cfg(test)]
mod tests;
