//! Plots of distributions as SVG.

use std::fmt::Write;

/// Size of a plot, and the room for its labels, in pixels.
const WIDTH: f64 = 520.0;
const HEIGHT: f64 = 300.0;
const LEFT: f64 = 58.0;
const BELOW: f64 = 42.0;
const ABOVE: f64 = 26.0;
const RIGHT: f64 = 14.0;

/// A curve.
pub struct Curve<'a> {
    /// What it is of.
    pub name: &'static str,
    /// Its colour.
    pub colour: &'static str,
    /// Share of times that are not longer, and the time in µs.
    pub points: &'a [(f64, f64)],
}

/// A curve, and its points as shares of the area.
type Placed<'a, 'b> = (&'a Curve<'b>, Vec<(f64, f64)>);

/// A place on an axis as a share of it, and its label.
type Tick = (f64, String);

/// Nines of a share: 0 of none, 1 of 90 %, 2 of 99 %.
fn nines(share: f64) -> f64 {
    -(1.0 - share).max(1e-9).log10()
}

fn log_us(us: f64) -> f64 {
    us.max(1.0).log10()
}

fn most(curves: &[Curve<'_>], of: impl Fn(&(f64, f64)) -> f64) -> f64 {
    curves.iter().flat_map(|curve| curve.points).map(of).fold(1.0, f64::max)
}

/// The curves that have points, and where these lie.
fn placed<'a, 'b>(curves: &'a [Curve<'b>], place: impl Fn((f64, f64)) -> (f64, f64)) -> Vec<Placed<'a, 'b>> {
    let with_points = curves.iter().filter(|curve| !curve.points.is_empty());
    with_points
        .map(|curve| (curve, curve.points.iter().map(|&point| place(point)).collect()))
        .collect()
}

/// A plot of points that are shares of the area, both from 0 to 1; ticks likewise.
fn drawn(title: &str, axes: (&str, &str), ticks: (&[Tick], &[Tick]), lines: &[Placed<'_, '_>]) -> String {
    let x = |share: f64| LEFT + share * (WIDTH - LEFT - RIGHT);
    let y = |share: f64| HEIGHT - BELOW - share * (HEIGHT - BELOW - ABOVE);
    let mut svg = format!("<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" width={WIDTH} role=img aria-label=\"{title}\">");
    // Writing to a string cannot fail.
    let mut put = |text: std::fmt::Arguments<'_>| {
        let _ = svg.write_fmt(text);
    };
    put(format_args!("<text x={LEFT} y=14>{title}</text>"));
    for (at, label) in ticks.0 {
        let at = x(*at);
        put(format_args!(
            "<path d=\"M{at:.1} {:.1}V{:.1}\" stroke=#e3e6ea /><text x={at:.1} y={:.1} text-anchor=middle>{label}</text>",
            y(0.0),
            y(1.0),
            y(0.0) + 15.0
        ));
    }
    for (at, label) in ticks.1 {
        let at = y(*at);
        put(format_args!(
            "<path d=\"M{:.1} {at:.1}H{:.1}\" stroke=#e3e6ea /><text x={:.1} y={:.1} text-anchor=end>{label}</text>",
            x(0.0),
            x(1.0),
            x(0.0) - 6.0,
            at + 4.0
        ));
    }
    put(format_args!(
        "<text x={:.1} y={:.1} text-anchor=middle>{}</text><text x=4 y={:.1}>{}</text>",
        x(0.5),
        HEIGHT - 8.0,
        axes.0,
        y(1.0) - 2.0,
        axes.1
    ));
    for (number, (curve, points)) in lines.iter().enumerate() {
        let path: Vec<String> = points
            .iter()
            .map(|&(a, b)| format!("{:.1} {:.1}", x(a), y(b)))
            .collect();
        put(format_args!(
            "<path d=\"M{}\" fill=none stroke={} stroke-width=1.8 /><text x={:.1} y={:.1} style=\"fill:{}\">{}</text>",
            path.join("L"),
            curve.colour,
            x(0.03),
            y(0.95) + 14.0 * number as f64,
            curve.colour,
            curve.name
        ));
    }
    svg.push_str("</svg>");
    svg
}

/// Ticks of decades of µs up to `most`, log₁₀.
fn decades(most: f64) -> Vec<Tick> {
    (0..=most as i32)
        .map(|decade| (f64::from(decade) / most, format!("{}", 10f64.powi(decade))))
        .collect()
}

/// Time over the share that is not longer, whose axis has the same room for every further nine.
pub fn percentiles(curves: &[Curve<'_>]) -> String {
    let (widest, highest) = (
        most(curves, |point| nines(point.0)).ceil(),
        most(curves, |point| log_us(point.1)).ceil(),
    );
    let shares = ["0", "90", "99", "99.9", "99.99", "99.999", "99.9999"].iter().zip(0..);
    let across: Vec<Tick> = shares
        .take_while(|(_, nines)| f64::from(*nines) <= widest)
        .map(|(label, nines)| (f64::from(nines) / widest, format!("{label} %")))
        .collect();
    let lines = placed(curves, |(share, us)| (nines(share) / widest, log_us(us) / highest));
    drawn(
        "Percentiles",
        ("share of predictions that take no longer", "µs"),
        (&across, &decades(highest)),
        &lines,
    )
}

/// Share of predictions that take no longer than a time.
pub fn cumulative(curves: &[Curve<'_>]) -> String {
    let widest = most(curves, |point| log_us(point.1)).ceil();
    let up: Vec<Tick> = (0..=4)
        .map(|step| (f64::from(step) / 4.0, format!("{} %", 25 * step)))
        .collect();
    let lines = placed(curves, |(share, us)| (log_us(us) / widest, share));
    drawn("Cumulative", ("µs", "share"), (&decades(widest), &up), &lines)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_further_nine_has_the_same_room() {
        let step = nines(0.999) - nines(0.99);
        assert!((step - 1.0).abs() < 1e-9 && (nines(0.9) - nines(0.0) - 1.0).abs() < 1e-9);
        assert!(nines(1.0).is_finite());
    }

    #[test]
    fn a_plot_holds_its_curves_and_nothing_that_is_no_number() {
        let points = [(0.0, 40.0), (0.9, 80.0), (0.999, 900.0)];
        let curves = [
            Curve {
                name: "one",
                colour: "#123456",
                points: &points,
            },
            Curve {
                name: "none",
                colour: "#654321",
                points: &[],
            },
        ];
        for svg in [percentiles(&curves), cumulative(&curves)] {
            assert!(svg.contains("#123456") && !svg.contains("#654321"), "{svg}");
            assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
        }
    }
}
