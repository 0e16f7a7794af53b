//! Parts of an experiment, as sets of windows: conditions of trials, labels of epochs, thirds of a behaviour.
//!
//! A window belongs to a part by its horizon, which is what is predicted.

use std::collections::BTreeMap;

use super::attribution::Part;
use super::predictions::Observed;
use crate::data::{Epoch, Series, Trial};

/// Windows by a name that each may have.
fn named(observed: &Observed, name: impl Fn(i64, i64) -> Option<String>) -> Vec<Part> {
    let shape = observed.shape;
    let mut parts: BTreeMap<String, Vec<bool>> = BTreeMap::new();
    for (window, &start) in observed.starts_ns.iter().enumerate() {
        let from = start + shape.history_ns;
        if let Some(name) = name(from, from + shape.horizon_ns) {
            parts.entry(name).or_insert_with(|| vec![false; observed.windows()])[window] = true;
        }
    }
    parts
        .into_iter()
        .map(|(name, windows)| Part { name, windows })
        .collect()
}

/// By the condition of the trial in which the horizon begins.
pub fn of_trials(trials: &[Trial], observed: &Observed) -> Vec<Part> {
    named(observed, |from, _| {
        let trial = trials
            .iter()
            .find(|trial| (trial.start_ns..trial.end_ns).contains(&from))?;
        // Padded, so that conditions are listed in their order.
        trial.condition.map(|condition| format!("condition {condition:>3}"))
    })
}

/// By the label of the epoch in which the horizon begins.
pub fn of_epochs(epochs: &[Epoch], observed: &Observed) -> Vec<Part> {
    named(observed, |from, _| {
        let epoch = epochs
            .iter()
            .find(|epoch| (epoch.start_ns..epoch.end_ns).contains(&from))?;
        Some(epoch.label.clone())
    })
}

/// By how large a series is over the horizon: the norm of its mean, in thirds of all windows that have samples.
pub fn of_series(series: &Series, observed: &Observed) -> Vec<Part> {
    let shape = observed.shape;
    let size = |from: i64, to: i64| -> Option<f64> {
        let rows = series.between(from, to).map(|sample| series.row(sample));
        let rows: Vec<&[f32]> = rows.filter(|row| row.iter().all(|x| x.is_finite())).collect();
        let mean = |channel| rows.iter().map(|row| f64::from(row[channel])).sum::<f64>() / rows.len() as f64;
        (!rows.is_empty()).then(|| {
            (0..series.channels)
                .map(|channel| mean(channel).powi(2))
                .sum::<f64>()
                .sqrt()
        })
    };
    let sizes = observed.starts_ns.iter().filter_map(|&start| {
        let from = start + shape.history_ns;
        size(from, from + shape.horizon_ns)
    });
    let mut sizes: Vec<f64> = sizes.collect();
    sizes.sort_by(f64::total_cmp);
    let Some(last) = sizes.len().checked_sub(1) else {
        return Vec::new();
    };
    let bound = |third: usize| sizes[(third * sizes.len() / 3).min(last)];
    let (low, high) = (bound(1), bound(2));
    named(observed, |from, to| {
        let third = match size(from, to)? {
            size if size < low => "1 smallest third",
            size if size < high => "2 middle third",
            _ => "3 largest third",
        };
        Some(format!("{}: {third}", series.name))
    })
}

#[cfg(test)]
mod tests {
    use super::super::metrics::tests::observed;
    use super::*;

    /// Three windows of one unit; see `observed` for their times.
    fn three() -> Observed {
        observed(1, &[0.0, 1.0, 2.0], &[0.0])
    }

    fn starts(observed: &Observed) -> Vec<i64> {
        let history_ns = observed.shape.history_ns;
        observed.starts_ns.iter().map(|start| start + history_ns).collect()
    }

    #[test]
    fn trials_and_epochs_hold_the_horizons_that_begin_in_them() {
        let observed = three();
        let at = starts(&observed);
        let trial = |start_ns, end_ns, condition| Trial {
            start_ns,
            end_ns,
            condition,
        };
        let trials = [
            trial(at[0], at[0] + 1, Some(10)),
            trial(at[1], at[1] + 1, None),
            trial(at[2], at[2] + 1, Some(2)),
        ];
        let parts = of_trials(&trials, &observed);
        assert_eq!(
            parts
                .iter()
                .map(|part| (part.name.as_str(), &part.windows[..]))
                .collect::<Vec<_>>(),
            [
                ("condition   2", &[false, false, true][..]),
                ("condition  10", &[true, false, false])
            ]
        );
        let epochs = [Epoch {
            start_ns: at[1],
            end_ns: at[2] + 1,
            label: "rest".into(),
        }];
        assert_eq!(of_epochs(&epochs, &observed)[0].windows, [false, true, true]);
        assert!(of_trials(&[], &observed).is_empty());
    }

    #[test]
    fn thirds_of_a_series() {
        let observed = three();
        let series = Series {
            name: "speed".into(),
            unit: String::new(),
            times_ns: starts(&observed),
            channels: 2,
            channel_names: Vec::new(),
            values: vec![3.0, 4.0, 0.0, 1.0, -2.0, 0.0],
        };
        let windows: Vec<_> = of_series(&series, &observed)
            .into_iter()
            .map(|part| part.windows)
            .collect();
        assert_eq!(
            windows,
            [[false, true, false], [false, false, true], [true, false, false]]
        );
    }
}
