//! Plots as inline SVG: axes with round ticks, lines, points and bars of error. Colours are classes of the page's style sheet
//! (`m0`, `m1`, … for models), so that they follow the reader's choice of a light or dark page.

use std::fmt::Write;

use super::html::escape;

const WIDTH: f64 = 460.0;
const HEIGHT: f64 = 320.0;
const LEFT: f64 = 62.0;
const RIGHT: f64 = 12.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 46.0;

/// One axis: its range, and whether it is logarithmic.
#[derive(Debug, Clone)]
pub struct Axis {
    label: String,
    low: f64,
    high: f64,
    log: bool,
    marked: Option<Vec<f64>>,
}

impl Axis {
    /// A linear axis that holds all finite `values`, with a little room on both sides.
    pub fn linear(label: &str, values: impl IntoIterator<Item = f64>) -> Self {
        let (low, high) = range(values.into_iter());
        let room = if high > low { 0.04 * (high - low) } else { 0.5 };
        Axis {
            label: label.to_string(),
            low: low - room,
            high: high + room,
            log: false,
            marked: None,
        }
    }

    /// A logarithmic axis that holds all positive `values`.
    pub fn log(label: &str, values: impl IntoIterator<Item = f64>) -> Self {
        let (low, high) = range(values.into_iter().filter(|&value| value > 0.0).map(f64::log10));
        let room = if high > low { 0.04 * (high - low) } else { 0.5 };
        Axis {
            label: label.to_string(),
            low: low - room,
            high: high + room,
            log: true,
            marked: None,
        }
    }

    /// With ticks at these values in place of round ones.
    pub fn marked(mut self, values: &[f64]) -> Self {
        self.marked = Some(values.to_vec());
        self
    }

    /// Where a value lies, 0 to 1; beyond the ends it is drawn at the end.
    fn place(&self, value: f64) -> f64 {
        let value = if self.log { value.log10() } else { value };
        ((value - self.low) / (self.high - self.low)).clamp(0.0, 1.0)
    }

    /// Round values within the range, at most about six.
    fn ticks(&self) -> Vec<f64> {
        if let Some(marked) = &self.marked {
            return marked.clone();
        }
        let step = if self.log {
            ((self.high - self.low) / 6.0).ceil().max(1.0)
        } else {
            round_step((self.high - self.low) / 6.0)
        };
        let first = (self.low / step).ceil() as i64;
        let last = (self.high / step).floor() as i64;
        let at = |i: i64| {
            if self.log {
                10f64.powf(i as f64 * step)
            } else {
                i as f64 * step
            }
        };
        (first..=last).map(at).collect()
    }
}

/// Least and greatest finite value; 0 and 1 if there is none.
fn range(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let finite = values.filter(|value| value.is_finite());
    let (low, high) = finite.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
        (low.min(value), high.max(value))
    });
    if low <= high {
        (low, high)
    } else {
        (0.0, 1.0)
    }
}

/// The least of 1, 2, 5 times a power of ten that is `step` or more.
fn round_step(step: f64) -> f64 {
    let power = 10f64.powf(step.log10().floor());
    let round = [1.0, 2.0, 5.0, 10.0]
        .into_iter()
        .find(|&digit| digit * power >= step * 0.999);
    round.unwrap_or(10.0) * power
}

/// A plot that is being drawn.
#[derive(Debug, Clone)]
pub struct Plot {
    x: Axis,
    y: Axis,
    body: String,
}

impl Plot {
    /// Axes, ticks and grid lines.
    pub fn new(x: Axis, y: Axis) -> Self {
        let mut plot = Plot {
            x,
            y,
            body: String::new(),
        };
        for tick in plot.x.ticks() {
            let (x, y) = (plot.at_x(tick), HEIGHT - BOTTOM);
            plot.write(format_args!(
                "<path class=\"grid\" d=\"M{x:.1} {TOP}V{y}\"/><text class=\"tick\" x=\"{x:.1}\" y=\"{:.1}\" \
                 text-anchor=\"middle\">{}</text>",
                y + 16.0,
                label_of(tick)
            ));
        }
        for tick in plot.y.ticks() {
            let y = plot.at_y(tick);
            plot.write(format_args!(
                "<path class=\"grid\" d=\"M{LEFT} {y:.1}H{:.1}\"/><text class=\"tick\" x=\"{:.1}\" y=\"{:.1}\" \
                 text-anchor=\"end\">{}</text>",
                WIDTH - RIGHT,
                LEFT - 6.0,
                y + 4.0,
                label_of(tick)
            ));
        }
        let (middle, bottom) = ((LEFT + WIDTH - RIGHT) / 2.0, HEIGHT - 8.0);
        let (x_label, y_label) = (escape(&plot.x.label), escape(&plot.y.label));
        plot.write(format_args!(
            "<text x=\"{middle:.1}\" y=\"{bottom:.1}\" text-anchor=\"middle\">{x_label}</text>"
        ));
        let middle = (TOP + HEIGHT - BOTTOM) / 2.0;
        plot.write(format_args!(
            "<text transform=\"translate(14 {middle:.1}) rotate(-90)\" text-anchor=\"middle\">{y_label}</text>"
        ));
        plot
    }

    fn at_x(&self, value: f64) -> f64 {
        LEFT + self.x.place(value) * (WIDTH - LEFT - RIGHT)
    }

    fn at_y(&self, value: f64) -> f64 {
        HEIGHT - BOTTOM - self.y.place(value) * (HEIGHT - TOP - BOTTOM)
    }

    fn write(&mut self, text: std::fmt::Arguments<'_>) {
        self.body.write_fmt(text).expect("a string takes any text");
        self.body.push('\n');
    }

    /// A line through points.
    pub fn line(&mut self, points: &[(f64, f64)], class: &str) {
        let path: Vec<String> = points
            .iter()
            .map(|&(x, y)| format!("{:.1} {:.1}", self.at_x(x), self.at_y(y)))
            .collect();
        self.write(format_args!("<path class=\"line {class}\" d=\"M{}\"/>", path.join("L")));
    }

    /// A vertical bar from `low` to `high`.
    pub fn error_bar(&mut self, x: f64, [low, high]: [f64; 2], class: &str) {
        let (x, low, high) = (self.at_x(x), self.at_y(low), self.at_y(high));
        self.write(format_args!(
            "<path class=\"error {class}\" d=\"M{x:.1} {low:.1}V{high:.1}\"/>"
        ));
    }

    /// A dot of this radius, with what a reader sees who points at it.
    pub fn dot(&mut self, (x, y): (f64, f64), radius: f64, class: &str, title: &str) {
        let (x, y, title) = (self.at_x(x), self.at_y(y), escape(title));
        self.write(format_args!(
            "<circle class=\"dot {class}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"{radius:.1}\"><title>{title}</title></circle>"
        ));
    }

    /// The finished picture; `description` is for readers who do not see it.
    pub fn finish(&self, description: &str) -> String {
        format!(
            "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">\n{}</svg>\n",
            escape(description),
            self.body
        )
    }
}

/// A tick's number, short.
fn label_of(value: f64) -> String {
    if value != 0.0 && !(1e-3..1e5).contains(&value.abs()) {
        return format!("{value:.0e}");
    }
    let text = format!("{value:.4}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    text.replace('-', "−")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_within_the_axis() {
        let axis = Axis::linear("x", [0.013, 0.247]);
        assert_eq!(
            axis.ticks().iter().map(|&tick| label_of(tick)).collect::<Vec<_>>(),
            ["0.05", "0.1", "0.15", "0.2", "0.25"]
        );
        let axis = Axis::log("x", [0.002, 0.0, 0.7]);
        assert_eq!(
            axis.ticks().iter().map(|&tick| label_of(tick)).collect::<Vec<_>>(),
            ["0.01", "0.1"]
        );
        assert_eq!(label_of(-0.05), "−0.05");
        let axis = Axis::log("s", [10.0, 60.0]).marked(&[10.0, 30.0, 60.0]);
        assert_eq!(axis.ticks(), [10.0, 30.0, 60.0]);
    }

    #[test]
    fn points_lie_where_their_values_say() {
        let mut plot = Plot::new(Axis::linear("x", [0.0, 10.0]), Axis::linear("y", [0.0, 10.0]));
        // 4 % of the range is left on both sides, so that 5 is the middle, and 100 is drawn at the end.
        plot.dot((5.0, 5.0), 2.0, "m0", "<a>");
        plot.dot((100.0, -100.0), 2.0, "m0", "b");
        let svg = plot.finish("d");
        assert!(
            svg.contains("cx=\"255.0\" cy=\"143.0\" r=\"2.0\"><title>&lt;a&gt;</title>"),
            "{svg}"
        );
        assert!(svg.contains("cx=\"448.0\" cy=\"274.0\""), "{svg}");
    }

    #[test]
    fn nothing_to_plot_is_no_fault() {
        let plot = Plot::new(Axis::linear("x", []), Axis::log("y", [0.0, f64::NAN]));
        assert!(!plot.finish("d").contains("NaN"));
    }
}
