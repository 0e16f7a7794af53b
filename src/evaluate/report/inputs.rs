//! Integrated gradients and attention, as a section of the attribution's page.

use std::fmt::Write;

use super::html::{escape, number, table};
use super::plot::{Axis, Plot};
use crate::evaluate::input_attribution::InputAttribution;
use crate::evaluate::metrics::Bits;

/// Units of the table and the map at most: those that contributed most.
const MOST_UNITS: usize = 60;

/// The section.
pub fn section(inputs: &InputAttribution, unit_ids: &[String]) -> String {
    let mut page = String::from("<h2>By integrated gradients</h2>\n");
    if !inputs.complete {
        page.push_str(&format!("<p class=\"fault\">{}.</p>\n", escape(&inputs.in_words())));
    }
    page.push_str(&table(&sources(inputs)));
    page.push_str(&format!(
        "<p>Bits per spike, {} windows. The baseline has keys and values of zero for the tokens of units, modalities and recent \
         history at their means, and what the inputs gained over it is to be made up by their contributions. A gain over a baseline is \
         not a gain over doing without (that is Δ, above).</p>\n",
        inputs.windows
    ));
    if !inputs.complete {
        // Where contributions do not add up, maps of them would be believed all the same.
        return page;
    }
    page.push_str(&format!("<p>Here {}.</p>\n", escape(&inputs.in_words())));
    page.push_str("<div class=\"pair\">\n");
    let of_time = |values: &[f64]| -> Vec<(f64, f64)> {
        let times = inputs.times_s.iter().map(|time| time * 1e3);
        times.zip(values.iter().copied()).collect()
    };
    page.push_str(&line_figure(
        &of_time(&inputs.spikes_by_time),
        "ms before the prediction",
        "bits per spike",
        "What spikes contributed, by their time before the prediction.",
    ));
    page.push_str(&line_figure(
        &of_time(&inputs.attention_by_time),
        "ms before the prediction",
        "share of attention",
        "The encoder's attention to spikes by their time. Attention is where a network looks, not what it makes of it.",
    ));
    for ((steps, _), name) in inputs.by_modality.iter().zip(&inputs.sources[4..]) {
        let count = steps.len() as f64;
        let points = steps
            .iter()
            .enumerate()
            .map(|(step, &bits)| (step as f64 - count + 0.5, bits))
            .collect::<Vec<_>>();
        let caption = format!("What {} contributed, step by step of the history.", escape(name));
        page.push_str(&line_figure(
            &points,
            "steps before the prediction",
            "bits per spike",
            &caption,
        ));
    }
    page.push_str("</div>\n");
    let order = most_first(inputs);
    page.push_str(&format!(
        "<figure>\n{}<figcaption>What the spikes of each unit contributed, by their time before the prediction (the newest on the right); the {} units \
         that contributed most, blue where they helped and red where they did harm.</figcaption>\n</figure>\n",
        map(inputs, &order, unit_ids),
        order.len()
    ));
    page.push_str(&table(&units(inputs, &order, unit_ids)));
    page
}

fn line_figure(points: &[(f64, f64)], x: &str, y: &str, caption: &str) -> String {
    let axis = Axis::linear(y, points.iter().map(|point| point.1).chain([0.0]));
    let mut plot = Plot::new(Axis::linear(x, points.iter().map(|point| point.0)), axis);
    plot.line(points, "m0");
    for &point in points {
        plot.dot(point, 2.5, "m0", &format!("{:.0}: {:.5}", point.0, point.1));
    }
    format!(
        "<figure>\n{}<figcaption>{caption}</figcaption>\n</figure>\n",
        plot.finish(y)
    )
}

fn sources(inputs: &InputAttribution) -> Vec<Vec<String>> {
    let text = |bits: &Bits| {
        let interval = bits.ci95.map_or(String::new(), |[low, high]| {
            format!(" [{}, {}]", number(Some(low), 4), number(Some(high), 4))
        });
        number(bits.value, 4) + &interval
    };
    let mut rows = vec![["", "contributed", "attention"].map(String::from).to_vec()];
    for (source, name) in inputs.sources.iter().enumerate() {
        // Recent history is not attended to.
        let attended = match source {
            0 | 1 => Some(source),
            2 | 3 => None,
            modality => Some(modality - 2),
        };
        let attention = attended.map_or(String::new(), |place| {
            number(Some(inputs.attention_by_source[place]), 3)
        });
        rows.push(vec![name.clone(), text(&inputs.by_source[source]), attention]);
    }
    rows.push(vec!["all, over the baseline".into(), text(&inputs.gained), "1".into()]);
    rows
}

/// Units by the size of all that they contributed.
fn most_first(inputs: &InputAttribution) -> Vec<usize> {
    let size = |unit: &usize| inputs.by_unit[*unit].iter().map(|bits| bits.abs()).sum::<f64>();
    let mut order: Vec<usize> = (0..inputs.by_unit.len()).collect();
    order.sort_by(|a, b| size(b).total_cmp(&size(a)));
    order.truncate(MOST_UNITS);
    order
}

fn units(inputs: &InputAttribution, order: &[usize], unit_ids: &[String]) -> Vec<Vec<String>> {
    let header = [
        "unit",
        "its spikes",
        "its start and end",
        "its own history",
        "in the population's",
        "attention to its spikes",
    ];
    let mut rows = vec![header.map(String::from).to_vec()];
    rows.extend(order.iter().map(|&unit| {
        let bits = inputs.by_unit[unit].iter().map(|&bits| number(Some(bits), 5));
        let attention = number(Some(inputs.attention_by_unit[unit][0]), 4);
        std::iter::once(unit_ids[unit].clone())
            .chain(bits)
            .chain([attention])
            .collect()
    }));
    rows
}

/// Units down, time to the right; a cell's colour is its sign, its strength its size over the largest.
fn map(inputs: &InputAttribution, order: &[usize], unit_ids: &[String]) -> String {
    const ROW: f64 = 9.0;
    const LEFT: f64 = 90.0;
    const WIDTH: f64 = 480.0;
    let groups = inputs.times_s.len();
    let cell = |unit: usize, group: usize| inputs.spikes_by_unit_and_time[unit * groups + group];
    let all = order
        .iter()
        .flat_map(|&unit| (0..groups).map(move |group| cell(unit, group).abs()));
    let largest = all.fold(f64::MIN_POSITIVE, f64::max);
    let (width, height) = ((WIDTH - LEFT) / groups as f64, ROW * order.len() as f64);
    let mut svg =
        format!("<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"contributions by unit and time\">\n");
    for (row, &unit) in order.iter().enumerate() {
        let y = row as f64 * ROW;
        write!(
            svg,
            "<text class=\"tick\" x=\"{:.0}\" y=\"{:.1}\" text-anchor=\"end\" style=\"font-size:8px\">{}</text>",
            LEFT - 4.0,
            y + ROW - 1.5,
            escape(&unit_ids[unit])
        )
        .expect("a string takes any text");
        for group in 0..groups {
            let bits = cell(unit, group);
            let class = if bits < 0.0 { "m5" } else { "m0" };
            writeln!(
                svg,
                "<g class=\"{class}\"><rect x=\"{:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{:.1}\" fill-opacity=\"{:.3}\"><title>{}, {:.0} ms: \
                 {bits:.6}</title></rect></g>",
                LEFT + group as f64 * width,
                width - 0.5,
                ROW - 0.5,
                bits.abs() / largest,
                escape(&unit_ids[unit]),
                inputs.times_s[group] * 1e3
            )
            .expect("a string takes any text");
        }
    }
    svg + "</svg>\n"
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of one unit and no modality.
    fn found(complete: bool) -> InputAttribution {
        let bits = Bits {
            value: Some(-1e-6),
            ci95: None,
        };
        InputAttribution {
            complete,
            residual: if complete { 0.01 } else { 0.86 },
            windows: 3,
            steps: 512,
            steps_mean: 100.0,
            sources: ["spikes", "starts and ends", "own history", "population's history"]
                .map(String::from)
                .to_vec(),
            by_source: vec![bits; 4],
            gained: bits,
            times_s: vec![-0.1],
            spikes_by_time: vec![0.1],
            spikes_by_unit_and_time: vec![0.1],
            by_unit: vec![[0.1; 4]],
            by_modality: Vec::new(),
            by_target: Vec::new(),
            influence_by_target: Vec::new(),
            attention_by_source: vec![0.5; 2],
            attention_by_head: vec![vec![0.5; 2]],
            attention_by_time: vec![0.5],
            attention_by_unit: vec![[0.5; 2]],
        }
    }

    #[test]
    fn what_does_not_add_up_is_not_drawn() {
        let ids = ["unit0000".to_string()];
        let [whole, part] = [true, false].map(|complete| section(&found(complete), &ids));
        assert!(whole.contains("<figure>") && whole.contains("unit0000") && whole.contains("miss 1.0 %"));
        assert!(!whole.contains("INCOMPLETE") && !whole.contains("-0.0000"));
        assert!(part.contains("<p class=\"fault\">INCOMPLETE: with 512 steps contributions still miss 86.0 %"));
        assert!(!part.contains("<figure>") && !part.contains("unit0000"));
    }
}
