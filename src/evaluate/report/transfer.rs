//! What models make of a session's first seconds, as one HTML page.

use super::html::{escape, number, opening, table};
use super::plot::{Axis, Plot};
use crate::evaluate::metrics::Bits;
use crate::evaluate::transfer::Transfer;

/// Classes of colours that the style sheet has.
const COLOURS: usize = 9;

/// The page. `facts` are names and values of its header.
pub fn render_transfer(facts: &[(String, String)], notes: &[String], transfer: &Transfer) -> String {
    let heading = "What the first seconds of a session that was never seen are worth";
    let mut page = opening("NeuroHorizon transfer", heading, facts, notes);
    page.push_str("<h2>Bits per spike</h2>\n");
    page.push_str(&table(&rows(transfer, |cell| text(&cell.bits))));
    page.push_str(
        "<p>Every model on the same windows and over the same null model, each unit's mean rate in the longest of the \
         beginnings; in brackets, 95 % intervals from a bootstrap over blocks of consecutive windows.</p>\n",
    );
    let key = transfer.rows.iter().enumerate().map(|(number, row)| {
        let (class, name) = (number % COLOURS, escape(&row.name));
        format!("<li class=\"m{class}\"><span></span><b>{name}</b></li>\n")
    });
    page.push_str(&format!("<ul class=\"key\">\n{}</ul>\n", key.collect::<String>()));
    page.push_str(&format!(
        "<div class=\"pair\">\n<figure>\n{}<figcaption>Bits per spike against the seconds that were given, with 95 % intervals. \
         What lies below the axis is drawn at its edge.</figcaption>\n</figure>\n<figure>\n{}<figcaption>The same, bin by bin \
         of the horizon, from {} s.</figcaption>\n</figure>\n</div>\n",
        by_seconds(transfer),
        by_bin(transfer),
        transfer.seconds.last().copied().unwrap_or_default()
    ));
    if let Some(first) = transfer.rows.first() {
        page.push_str(&format!(
            "<h2>How much more is gained by: {}</h2>\n",
            escape(&first.name)
        ));
        page.push_str(&table(&rows(transfer, |cell| {
            cell.first_gains_more.map_or(String::new(), |bits| text(&bits))
        })));
        for words in &transfer.in_words {
            page.push_str(&format!("<p>{}.</p>\n", escape(words)));
        }
    }
    page.push_str("<h2>What was chosen</h2>\n");
    page.push_str(&table(&rows(transfer, |cell| cell.detail.clone())));
    page.push_str("</body>\n</html>\n");
    page
}

fn text(bits: &Bits) -> String {
    let interval = bits.ci95.map(|ends| ends.map(|end| number(Some(end), 4)));
    let interval = interval.map_or(String::new(), |[low, high]| format!(" [{low}, {high}]"));
    number(bits.value, 4) + &interval
}

/// A row a model, a column for each number of seconds.
fn rows(transfer: &Transfer, of: impl Fn(&crate::evaluate::transfer::Cell) -> String) -> Vec<Vec<String>> {
    let given = transfer.given();
    let mut rows = vec![std::iter::once(String::new()).chain(given).collect::<Vec<String>>()];
    for row in &transfer.rows {
        let cells = row.cells.iter().map(&of);
        rows.push(std::iter::once(row.name.clone()).chain(cells).collect());
    }
    rows
}

/// An axis of bits per spike. Models that do far worse than the null model would flatten all others: what is gained at most
/// may be lost within the axis.
fn bits_axis<'a>(bits: impl Iterator<Item = &'a Bits> + Clone) -> Axis {
    let best = bits.clone().filter_map(|bits| bits.value).fold(0.01, f64::max);
    let values = bits.flat_map(|bits| bits.ci95.into_iter().flatten().chain(bits.value));
    Axis::linear("bits per spike", values.map(move |value| value.max(-best)).chain([0.0]))
}

fn by_seconds(transfer: &Transfer) -> String {
    let cells = transfer
        .rows
        .iter()
        .flat_map(|row| row.cells.iter().map(|cell| &cell.bits));
    let (first, last) = (transfer.seconds.first(), transfer.seconds.last());
    let ends = [
        first.map_or(1.0, |first| first * 0.9),
        last.map_or(1.0, |last| last * 1.1),
    ];
    let x = Axis::log("seconds of the session that were given", ends).marked(&transfer.seconds);
    let mut plot = Plot::new(x, bits_axis(cells));
    plot.line(&[(ends[0] * 0.1, 0.0), (ends[1] * 10.0, 0.0)], "even");
    for (index, row) in transfer.rows.iter().enumerate() {
        // A little to the side, so that models can be told from each other.
        let aside = 1.0 + 0.012 * (index as f64 - (transfer.rows.len() as f64 - 1.0) / 2.0);
        let points = transfer.seconds.iter().zip(&row.cells);
        let points: Vec<(f64, Bits)> = points.map(|(seconds, cell)| (seconds * aside, cell.bits)).collect();
        draw(&mut plot, &points, index, &row.name);
    }
    plot.finish("bits per spike against seconds")
}

fn by_bin(transfer: &Transfer) -> String {
    let last = |row: &crate::evaluate::transfer::Row| row.cells.last().map_or(Vec::new(), |cell| cell.by_bin.clone());
    let all: Vec<Vec<Bits>> = transfer.rows.iter().map(last).collect();
    let bins = all.first().map_or(0, Vec::len);
    let x = Axis::linear("bin of the horizon", [0.7, bins as f64 + 0.3]);
    let mut plot = Plot::new(x, bits_axis(all.iter().flatten()));
    plot.line(&[(-1e3, 0.0), (1e6, 0.0)], "even");
    for (index, (row, bits)) in transfer.rows.iter().zip(&all).enumerate() {
        let aside = 0.04 * (index as f64 - (all.len() as f64 - 1.0) / 2.0);
        let points = bits.iter().enumerate();
        let points: Vec<(f64, Bits)> = points.map(|(bin, &bits)| (bin as f64 + 1.0 + aside, bits)).collect();
        draw(&mut plot, &points, index, &row.name);
    }
    plot.finish("bits per spike bin by bin")
}

fn draw(plot: &mut Plot, points: &[(f64, Bits)], index: usize, name: &str) {
    let class = format!("m{}", index % COLOURS);
    let known: Vec<(f64, f64)> = points.iter().filter_map(|&(x, bits)| Some((x, bits.value?))).collect();
    if known.len() > 1 {
        plot.line(&known, &class);
    }
    for &(x, bits) in points {
        if let Some(interval) = bits.ci95 {
            plot.error_bar(x, interval, &class);
        }
        if let Some(value) = bits.value {
            plot.dot((x, value), 2.5, &class, &format!("{name}: {value:.4} bits per spike"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate::transfer::{Cell, Row};

    fn transfer() -> Transfer {
        let bits = |value: f64| Bits {
            value: Some(value),
            ci95: Some([value - 0.01, value + 0.01]),
        };
        let row = |name: &str, values: [f64; 2]| Row {
            name: name.into(),
            of_seconds: true,
            cells: values
                .map(|value| Cell {
                    bits: bits(value),
                    by_bin: vec![bits(value), bits(value / 2.0)],
                    first_gains_more: Some(bits(0.3 - value)),
                    detail: format!("of {value}"),
                })
                .to_vec(),
        };
        Transfer {
            observed_s: vec![10.0, 60.0],
            seconds: vec![10.0, 60.0],
            rows: vec![row("identities", [0.3, 0.35]), row("<GLM>", [-4.0, 0.2])],
            in_words: vec!["from 10 s, identities: ahead of <GLM> (+4.3)".into()],
        }
    }

    #[test]
    fn the_page_holds_every_figure_and_nothing_from_elsewhere() {
        let facts = [("recording".to_string(), "a&b.npz".to_string())];
        let page = render_transfer(&facts, &["one note".to_string()], &transfer());
        for part in [
            "a&amp;b.npz",
            "Note: one note",
            "0.3000 [0.2900, 0.3100]",
            "&lt;GLM&gt;",
            "-4.0000 [-4.0100, -3.9900]",
            "ahead of &lt;GLM&gt; (+4.3)",
            "of 0.35",
            ">60 s</th>",
        ] {
            assert!(page.contains(part), "{part} is missing");
        }
        assert!(!page.contains("<GLM>") && !page.contains("http") && !page.contains("NaN"));
    }

    #[test]
    fn one_bad_model_does_not_flatten_the_others() {
        // From 0.35 down to −0.35: a height of 262 for 0.7 and 8 % of room. 0.3 lies at 258 · (0.35 + 0.36 − 0.3 …) near the top.
        let plot = by_seconds(&transfer());
        let heights: Vec<f64> = plot
            .split("cy=\"")
            .skip(1)
            .map(|rest| rest.split('"').next().unwrap().parse().unwrap())
            .collect();
        assert_eq!(heights.len(), 4);
        // −4 at the edge; the others apart from each other.
        assert_eq!(heights[2], 274.0);
        assert!(heights[0] < 60.0 && heights[1] < heights[0] - 10.0, "{heights:?}");
    }
}
