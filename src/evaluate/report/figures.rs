//! The plots of a report.

use super::plot::{Axis, Plot};
use super::{compared, Document};
use crate::evaluate::comparison::ModelResult;
use crate::evaluate::metrics::Bits;

/// Spikes of each unit in the predicted bins, and its rate there in Hz, `[N]`.
pub fn unit_rates(document: &Document<'_>) -> Vec<(f64, f64)> {
    let observed = document.comparison.observed();
    let mut spikes = vec![0.0; observed.units()];
    for row in observed.counts.chunks_exact(observed.units().max(1)) {
        spikes
            .iter_mut()
            .zip(row)
            .for_each(|(sum, &count)| *sum += f64::from(count));
    }
    let seconds = observed.windows() as f64 * observed.shape.horizon_ns as f64 * 1e-9;
    spikes.into_iter().map(|spikes| (spikes, spikes / seconds)).collect()
}

/// Bits per spike of every bin of the horizon.
pub fn by_bin(document: &Document<'_>) -> String {
    over_time(
        document,
        |model| &model.figures.bits.by_bin,
        "bits per spike in the bin",
    )
}

/// Bits per spike of all bins up to each.
pub fn by_horizon(document: &Document<'_>) -> String {
    over_time(
        document,
        |model| &model.figures.bits.by_horizon,
        "bits per spike up to here",
    )
}

fn over_time(document: &Document<'_>, of: impl Fn(&ModelResult) -> &Vec<Bits>, label: &str) -> String {
    let models = &document.comparison.models;
    let bin_ms = document.comparison.observed().shape.bin_ns as f64 * 1e-6;
    let bins = document.comparison.observed().bins();
    // Models stand a little apart, so that their intervals can be told from each other.
    let x = |model: usize, bin: usize| {
        let apart = (model as f64 - (models.len() as f64 - 1.0) / 2.0) * 0.08;
        (bin as f64 + 1.0 + apart) * bin_ms
    };
    let ends = models.iter().flat_map(|model| of(model).iter());
    let values = ends.flat_map(|bits| bits.ci95.into_iter().flatten().chain(bits.value));
    let y = Axis::linear(label, values.chain([0.0]));
    let mut plot = Plot::new(
        Axis::linear("end of the bin, ms ahead", [bin_ms * 0.7, (bins as f64 + 0.3) * bin_ms]),
        y,
    );
    plot.line(&[(0.0, 0.0), (bins as f64 * bin_ms * 2.0, 0.0)], "even");
    for (number, model) in models.iter().enumerate() {
        let class = format!("m{number}");
        let known = of(model).iter().enumerate();
        let known: Vec<(f64, Bits)> = known.map(|(bin, &bits)| (x(number, bin), bits)).collect();
        let points: Vec<(f64, f64)> = known.iter().filter_map(|&(x, bits)| Some((x, bits.value?))).collect();
        if points.len() > 1 {
            plot.line(&points, &class);
        }
        for (x, bits) in known {
            if let Some(interval) = bits.ci95 {
                plot.error_bar(x, interval, &class);
            }
            if let Some(value) = bits.value {
                let title = format!("{}: {value:.4} bits per spike", model.name);
                plot.dot((x, value), 2.5, &class, &title);
            }
        }
    }
    plot.finish(label)
}

/// Mean observed against mean expected counts.
pub fn calibration(document: &Document<'_>) -> String {
    let models = &document.comparison.models;
    let all = || models.iter().flat_map(|model| model.figures.calibration.iter());
    let x = Axis::log("mean expected count in a bin", all().map(|bin| bin.predicted));
    let observed = all().flat_map(|bin| [bin.observed, bin.observed + bin.observed_se]);
    let y = Axis::log(
        "mean observed count in a bin",
        observed.chain(all().map(|bin| bin.predicted)),
    );
    let mut plot = Plot::new(x, y);
    let ends = all().filter(|bin| bin.predicted > 0.0).map(|bin| bin.predicted);
    let (low, high) = ends.fold((f64::INFINITY, 0.0f64), |(low, high), end| {
        (low.min(end), high.max(end))
    });
    if low < high {
        plot.line(&[(low, low), (high, high)], "even");
    }
    for (number, model) in models.iter().enumerate() {
        let class = format!("m{number}");
        for bin in model.figures.calibration.iter().filter(|bin| bin.observed > 0.0) {
            let low = (bin.observed - bin.observed_se).max(bin.observed * 1e-3);
            plot.error_bar(bin.predicted, [low, bin.observed + bin.observed_se], &class);
            let title = format!(
                "{}: expected {:.4}, observed {:.4}",
                model.name, bin.predicted, bin.observed
            );
            plot.dot((bin.predicted, bin.observed), 3.0, &class, &title);
        }
    }
    plot.finish("Calibration")
}

/// Bits per spike of every unit: of one model against the last, or of the only model against the unit's rate.
pub fn by_unit(document: &Document<'_>) -> String {
    let models = &document.comparison.models;
    let rates = unit_rates(document);
    let compared = compared(document);
    let Some(&last) = compared.last() else {
        return String::new();
    };
    let other = Some(compared[0]).filter(|&first| first != last);
    let bits = |model: usize, unit: usize| models[model].figures.bits.by_unit[unit].value;
    let radius = |rate: f64| 1.5 + 1.2 * (1.0 + rate).log2();
    let mut points = Vec::new();
    for (unit, &(_, rate)) in rates.iter().enumerate() {
        let pair = match other {
            Some(other) => bits(last, unit).zip(bits(other, unit)),
            None => Some(rate).filter(|&rate| rate > 0.0).zip(bits(last, unit)),
        };
        points.extend(pair.map(|pair| (pair, rate, &document.unit_ids[unit])));
    }
    let y_label = format!("{}, bits per spike", models[other.unwrap_or(last)].name);
    let ys = central(points.iter().map(|point| point.0 .1));
    let mut plot = match other {
        Some(_) => {
            let xs = central(points.iter().map(|point| point.0 .0));
            let both = [xs[0].min(ys[0]), xs[1].max(ys[1])];
            let label = format!("{}, bits per spike", models[last].name);
            let mut plot = Plot::new(Axis::linear(&label, both), Axis::linear(&y_label, both));
            plot.line(&[(both[0], both[0]), (both[1], both[1])], "even");
            plot
        }
        None => Plot::new(
            Axis::log("rate, Hz", rates.iter().map(|rate| rate.1)),
            Axis::linear(&y_label, ys),
        ),
    };
    for (point, rate, id) in points {
        let title = format!("{id}: {rate:.2} Hz, {:.3} and {:.3}", point.0, point.1);
        plot.dot(point, radius(rate), &format!("unit m{}", other.unwrap_or(last)), &title);
    }
    plot.finish("Bits per spike of every unit")
}

/// The range of all but the outermost twentieth of values on each side, and zero: rare units have wild figures.
fn central(values: impl Iterator<Item = f64>) -> [f64; 2] {
    let mut values: Vec<f64> = values.filter(|value| value.is_finite()).collect();
    values.sort_by(f64::total_cmp);
    let cut = values.len() / 20;
    match values.get(cut..values.len() - cut) {
        Some([first, .., last]) => [first.min(0.0), last.max(0.0)],
        _ => [0.0, 1.0],
    }
}
