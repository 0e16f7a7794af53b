//! What each modality contributed, as one HTML page.

use super::html::{escape, number, opening, table};
use super::plot::{Axis, Plot};
use crate::evaluate::attribution::Attribution;
use crate::evaluate::input_attribution::InputAttribution;
use crate::evaluate::metrics::Bits;

/// The page. `facts` are names and values of its header, `bin_s` is the width of a bin.
pub fn render_attribution(
    facts: &[(&str, String)],
    notes: &[String],
    unit_ids: &[String],
    bin_s: f64,
    attribution: &Attribution,
    inputs: Option<&InputAttribution>,
) -> String {
    let facts: Vec<(String, String)> = facts
        .iter()
        .map(|(name, value)| ((*name).to_owned(), value.clone()))
        .collect();
    let mut page = opening("NeuroHorizon attribution", "What each input contributed", &facts, notes);
    page.push_str("<h2>Figures</h2>\n");
    page.push_str(&table(&overall(attribution)));
    page.push_str(
        "<p>Bits per spike; in brackets, 95 % intervals from a bootstrap over blocks of consecutive windows. Shapley values add \
         up to the difference between all modalities and spikes alone. Both figures speak of the network: what it did not \
         learn to read contributes nothing, and what the spikes already tell is not counted for a modality.</p>\n",
    );
    let of_spikes = ("spike tokens", &attribution.spike_tokens.verdict);
    let beside = attribution.contributions.iter();
    let beside = beside.map(|contribution| (&contribution.modality[..], &contribution.verdict));
    for (name, verdict) in std::iter::once(of_spikes).chain(beside) {
        page.push_str(&format!("<p>{}: {}.</p>\n", escape(name), escape(verdict)));
    }
    if !attribution.parts.is_empty() {
        page.push_str("<h2>Lost without it, in parts of the experiment</h2>\n");
        page.push_str(&table(&by_part(attribution)));
    }
    let key = attribution
        .contributions
        .iter()
        .enumerate()
        .map(|(number, contribution)| {
            let name = escape(&contribution.modality);
            format!("<li class=\"m{number}\"><span></span><b>{name}</b></li>\n")
        });
    page.push_str(&format!(
        "<ul class=\"key\">\n{}</ul>\n<div class=\"pair\">\n",
        key.collect::<String>()
    ));
    for (plot, caption) in [
        (
            by_bin(attribution, bin_s),
            "What is lost without each modality in each bin of the horizon, with 95 % intervals.",
        ),
        (
            by_unit(attribution),
            "What is lost without each modality, unit by unit in their order, with 95 % intervals.",
        ),
    ] {
        page.push_str(&format!(
            "<figure>\n{plot}<figcaption>{caption}</figcaption>\n</figure>\n"
        ));
    }
    page.push_str("</div>\n<h2>Units</h2>\n");
    page.push_str(&table(&units(unit_ids, attribution)));
    if let Some(inputs) = inputs {
        page.push_str(&super::inputs::section(inputs, unit_ids));
    }
    page.push_str("</body>\n</html>\n");
    page
}

fn text(bits: &Bits) -> String {
    let interval = bits.ci95.map(|ends| ends.map(|end| number(Some(end), 4)));
    let interval = interval.map_or(String::new(), |[low, high]| format!(" [{low}, {high}]"));
    number(bits.value, 4) + &interval
}

fn overall(attribution: &Attribution) -> Vec<Vec<String>> {
    let mut rows = vec![["", "bits per spike", "lost without it", "Shapley value"]
        .map(String::from)
        .to_vec()];
    for (name, figures) in [
        ("all modalities", &attribution.with_all),
        ("spikes alone", &attribution.with_none),
    ] {
        rows.push(vec![name.into(), text(&figures.overall), String::new(), String::new()]);
    }
    rows.push(vec![
        "spike tokens".into(),
        String::new(),
        text(&attribution.spike_tokens.delta.overall),
        String::new(),
    ]);
    for contribution in &attribution.contributions {
        let shapley = contribution.shapley.as_ref();
        rows.push(vec![
            contribution.modality.clone(),
            String::new(),
            text(&contribution.delta.overall),
            shapley.map_or(String::new(), |figures| text(&figures.overall)),
        ]);
    }
    rows
}

fn by_part(attribution: &Attribution) -> Vec<Vec<String>> {
    let mut header = vec![String::new(), "windows".into()];
    header.extend(attribution.contributions.iter().map(|each| each.modality.clone()));
    let mut rows = vec![header];
    for (part, (name, windows)) in attribution.parts.iter().enumerate() {
        let mut row = vec![name.clone(), windows.to_string()];
        row.extend(
            attribution
                .contributions
                .iter()
                .map(|each| text(&each.delta_by_part[part])),
        );
        rows.push(row);
    }
    rows
}

fn units(unit_ids: &[String], attribution: &Attribution) -> Vec<Vec<String>> {
    let mut header = vec!["unit".to_string(), "all modalities".into(), "spikes alone".into()];
    for contribution in &attribution.contributions {
        header.push(format!("lost without {}", contribution.modality));
    }
    let mut rows = vec![header];
    for (unit, id) in unit_ids.iter().enumerate() {
        let mut row = vec![
            id.clone(),
            number(attribution.with_all.by_unit[unit].value, 4),
            number(attribution.with_none.by_unit[unit].value, 4),
        ];
        let contributions = attribution.contributions.iter();
        row.extend(contributions.map(|contribution| text(&contribution.delta.by_unit[unit])));
        rows.push(row);
    }
    rows
}

/// One series a modality, each with its x values.
fn with_intervals(attribution: &Attribution, x: &Axis, y: &str, series: impl Fn(usize) -> Vec<(f64, Bits)>) -> String {
    let all: Vec<Vec<(f64, Bits)>> = (0..attribution.contributions.len()).map(series).collect();
    let values = all
        .iter()
        .flatten()
        .flat_map(|(_, bits)| bits.ci95.into_iter().flatten().chain(bits.value));
    let mut plot = Plot::new(x.clone(), Axis::linear(y, values.chain([0.0])));
    plot.line(&[(-1e3, 0.0), (1e6, 0.0)], "even");
    for (modality, points) in all.iter().enumerate() {
        let class = format!("m{modality}");
        for &(x, bits) in points {
            if let Some(interval) = bits.ci95 {
                plot.error_bar(x, interval, &class);
            }
            if let Some(value) = bits.value {
                let title = format!("{}: {value:.4}", attribution.contributions[modality].modality);
                plot.dot((x, value), 2.5, &class, &title);
            }
        }
    }
    plot.finish(y)
}

/// A little to the side, so that modalities can be told from each other.
fn apart(modality: usize, of: usize) -> f64 {
    (modality as f64 - (of as f64 - 1.0) / 2.0) * 0.15
}

fn by_bin(attribution: &Attribution, bin_s: f64) -> String {
    let (bins, of) = (attribution.with_all.by_bin.len(), attribution.contributions.len());
    let bin_ms = bin_s * 1e3;
    let x = Axis::linear("end of the bin, ms ahead", [bin_ms * 0.5, (bins as f64 + 0.5) * bin_ms]);
    with_intervals(attribution, &x, "bits per spike lost", |modality| {
        let bits = attribution.contributions[modality].delta.by_bin.iter().enumerate();
        bits.map(|(bin, &bits)| ((bin as f64 + 1.0 + apart(modality, of)) * bin_ms, bits))
            .collect()
    })
}

fn by_unit(attribution: &Attribution) -> String {
    let (units, of) = (attribution.with_all.by_unit.len(), attribution.contributions.len());
    let x = Axis::linear("unit", [-0.5, units as f64 - 0.5]);
    with_intervals(attribution, &x, "bits per spike lost, by unit", |modality| {
        let bits = attribution.contributions[modality].delta.by_unit.iter().enumerate();
        bits.map(|(unit, &bits)| (unit as f64 + apart(modality, of), bits))
            .collect()
    })
}
