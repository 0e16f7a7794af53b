//! How well behaviour was decoded, as one HTML page.

use super::html::{number, opening, table};
use super::plot::{Axis, Plot};
use crate::evaluate::behaviour::{Decoded, Decodings, Explained};
use crate::model::config::ReadoutKind;

/// What the page shows of one readout.
pub struct DecodedTask<'a> {
    /// What was decoded and what was recorded, of the present.
    pub decodings: &'a Decodings,
    /// Each decoder's figures, in the order of the decodings.
    pub figures: &'a [Decoded],
    /// Middle of each step from the end of the bin, s, and the network's score of it.
    pub steps: &'a [(f64, Option<f64>)],
}

/// So much of the traces is drawn, s.
const SHOWN_S: f64 = 20.0;

/// The page. `facts` are names and values of its header, `times_s` those of the decodings.
pub fn render_decoding(
    facts: &[(&str, String)],
    notes: &[String],
    times_s: &[f64],
    tasks: &[DecodedTask<'_>],
) -> String {
    let facts: Vec<(String, String)> = facts
        .iter()
        .map(|(name, value)| ((*name).to_owned(), value.clone()))
        .collect();
    let mut page = opening("NeuroHorizon decoding", "How well behaviour was decoded", &facts, notes);
    page.push_str(
        "<p>Decoded at the end of every bin from the spikes up to there. R² = 1 − SS_res / SS_tot, over channels weighted by their \
         variance; in brackets, 95 % intervals from a bootstrap over blocks of consecutive bins.</p>\n",
    );
    for task in tasks {
        let readout = &task.decodings.readout;
        let unit = if readout.unit.is_empty() {
            String::new()
        } else {
            format!(", {}", readout.unit)
        };
        page.push_str(&format!(
            "<h2>{}{}</h2>\n",
            super::escape(&readout.series),
            super::escape(&unit)
        ));
        page.push_str(&table(&figures(task)));
        if readout.kind == ReadoutKind::Regression {
            let key = task.decodings.decoders.iter().enumerate().map(|(number, (name, _))| {
                let name = super::escape(name);
                format!("<li class=\"m{number}\"><span></span><b>{name}</b></li>\n")
            });
            page.push_str(&format!("<ul class=\"key\">\n{}</ul>\n", key.collect::<String>()));
        }
        page.push_str("<div class=\"pair\">\n");
        if readout.kind == ReadoutKind::Regression {
            for channel in 0..readout.channels() {
                let caption = format!(
                    "Channel {}: recorded (thin) and decoded, the first {SHOWN_S} s of the interval.",
                    super::escape(&readout.labels[channel])
                );
                page.push_str(&figure(&traces(task, times_s, channel), &caption));
            }
        }
        if task.steps.len() > 1 {
            page.push_str(&figure(
                &by_step(task),
                "The network's score by the time that is decoded, counted from the end of the bin: what lies before it is decoded \
                 with the spikes that followed, what lies after it is foretold.",
            ));
        }
        page.push_str("</div>\n");
    }
    page.push_str("</body>\n</html>\n");
    page
}

fn figure(plot: &str, caption: &str) -> String {
    format!("<figure>\n{plot}<figcaption>{caption}</figcaption>\n</figure>\n")
}

fn figures(task: &DecodedTask<'_>) -> Vec<Vec<String>> {
    let text = |figure: &Explained| {
        let interval = figure.ci95.map_or(String::new(), |[low, high]| {
            format!(" [{}, {}]", number(Some(low), 3), number(Some(high), 3))
        });
        number(Some(figure.value), 3) + &interval
    };
    let readout = &task.decodings.readout;
    let classes = readout.kind == ReadoutKind::Classes;
    let mut header = vec![String::new()];
    match classes {
        true => header.extend(["share right", "most frequent class", "bins"].map(String::from)),
        false => {
            header.extend(readout.labels.iter().map(|label| format!("R² of {label}")));
            header.extend(["R² of all", "bins"].map(String::from));
        }
    }
    let mut rows = vec![header];
    for decoded in task.figures {
        let mut row = vec![decoded.decoder.clone()];
        row.extend(decoded.r2.iter().map(text));
        row.push(decoded.score.as_ref().map_or("–".into(), text));
        row.extend(decoded.chance.map(|chance| number(Some(chance), 3)));
        row.push(decoded.times.to_string());
        rows.push(row);
    }
    rows
}

fn traces(task: &DecodedTask<'_>, times_s: &[f64], channel: usize) -> String {
    let (readout, first) = (&task.decodings.readout, times_s.first().copied().unwrap_or(0.0));
    let shown = times_s.partition_point(|&time| time < first + SHOWN_S);
    let columns = readout.columns();
    let of = |values: &[f32]| -> Vec<(f64, f64)> {
        let values = values.iter().skip(channel).step_by(columns);
        let points = times_s[..shown].iter().zip(values);
        points
            .map(|(&time, &x)| (time, f64::from(x)))
            .filter(|(_, x)| x.is_finite())
            .collect()
    };
    let observed = of(&task.decodings.observed);
    let decoded: Vec<Vec<(f64, f64)>> = task.decodings.decoders.iter().map(|(_, values)| of(values)).collect();
    let all = observed.iter().chain(decoded.iter().flatten());
    let label = format!("{} {} {}", readout.series, readout.labels[channel], readout.unit);
    let y = Axis::linear(label.trim(), all.map(|&(_, x)| x));
    let mut plot = Plot::new(
        Axis::linear("s from the first spike", times_s[..shown].iter().copied()),
        y,
    );
    // What is drawn last lies on top: the network.
    for (number, points) in decoded.iter().enumerate().rev() {
        plot.line(points, &format!("m{number}"));
    }
    plot.line(&observed, "observed");
    plot.finish(&label)
}

fn by_step(task: &DecodedTask<'_>) -> String {
    let known: Vec<(f64, f64)> = task
        .steps
        .iter()
        .filter_map(|&(time, score)| Some((1e3 * time, score?)))
        .collect();
    let y = Axis::linear("score", known.iter().map(|&(_, score)| score));
    let mut plot = Plot::new(
        Axis::linear("ms from the end of the bin", known.iter().map(|&(time, _)| time)),
        y,
    );
    plot.line(&known, "m0");
    for &(time, score) in &known {
        plot.dot((time, score), 3.0, "m0", &format!("{time:+.0} ms: {score:.3}"));
    }
    plot.finish("score by step")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate::metrics::Resamples;
    use crate::model::config::ReadoutConfig;

    #[test]
    fn the_page_shows_every_decoder_and_names_nothing_as_markup() {
        let readout = ReadoutConfig {
            series: "<hand>".into(),
            kind: ReadoutKind::Regression,
            step_s: 0.1,
            back: 1,
            ahead: 1,
            unit: "m/s".into(),
            labels: vec!["x".into()],
            mean: vec![0.0],
            deviation: vec![1.0],
        };
        let decodings = Decodings {
            readout,
            observed: vec![0.0, 1.0, f32::NAN],
            decoders: vec![
                ("network".into(), vec![0.0, 0.9, 3.0]),
                ("Wiener".into(), vec![0.1, 0.7, 2.0]),
            ],
        };
        let figures = decodings.figures(&Resamples::new(3, 0, 0));
        let task = DecodedTask {
            decodings: &decodings,
            figures: &figures,
            steps: &[(-0.05, Some(0.9)), (0.05, None)],
        };
        let page = render_decoding(&[("recording", "a & b".into())], &[], &[0.1, 0.2, 0.3], &[task]);
        assert!(page.contains("&lt;hand&gt;") && !page.contains("<hand>") && page.contains("a &amp; b"));
        assert!(
            page.contains("Wiener") && page.contains("0.980") && !page.contains("NaN"),
            "{page}"
        );
    }
}
