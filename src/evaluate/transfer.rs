//! What models make of the first seconds of a session that a network never saw: bits per spike against the seconds that were
//! given, every model on the same windows and over one null model.

use serde::Serialize;

use super::metrics::{Bits, Gains, Resamples};
use super::predictions::{Observed, Predictions};

/// One model, given so many seconds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Cell {
    /// Over the horizon.
    pub bits: Bits,
    /// Bin by bin.
    pub by_bin: Vec<Bits>,
    /// How much more the first row gains with as many seconds, both resampled together; `None` in the first row.
    pub first_gains_more: Option<Bits>,
    /// What was chosen or fitted, for people; may be empty.
    pub detail: String,
}

/// One model with more and more seconds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Row {
    /// The model's name.
    pub name: String,
    /// Whether it is made of the seconds; otherwise it knows the session from elsewhere, and all of its cells are alike.
    pub of_seconds: bool,
    /// One for each number of seconds.
    pub cells: Vec<Cell>,
}

/// A row before figures are made of it.
#[derive(Debug, Clone)]
struct Gained {
    name: String,
    of_seconds: bool,
    cells: Vec<(Gains, String)>,
}

/// Models side by side.
#[derive(Debug, Clone)]
pub struct Comparison {
    observed: Observed,
    seconds: Vec<f64>,
    observed_s: Vec<f64>,
    rows: Vec<Gained>,
}

/// The figures.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Transfer {
    /// Seconds of the session's beginning that models were given.
    pub seconds: Vec<f64>,
    /// For how many of these the units were observed: less in a recording that is cut into trials.
    pub observed_s: Vec<f64>,
    /// The first is what the others are compared with.
    pub rows: Vec<Row>,
    /// In words, for each number of seconds: which rows the first is ahead of, behind, or not told apart from.
    pub in_words: Vec<String>,
}

impl Comparison {
    /// Nothing compared yet; in the first `seconds` the units were observed for `observed_s`.
    pub fn new(observed: Observed, seconds: Vec<f64>, observed_s: Vec<f64>) -> Self {
        Comparison {
            observed,
            seconds,
            observed_s,
            rows: Vec::new(),
        }
    }

    /// What happened.
    pub fn observed(&self) -> &Observed {
        &self.observed
    }

    /// Adds what a model predicts that was made of the next number of seconds: of the first at its first call, and so on.
    pub fn add(&mut self, name: &str, predictions: &Predictions, detail: String) {
        let gains = Gains::new(&self.observed, predictions);
        match self.rows.iter_mut().find(|row| row.of_seconds && row.name == name) {
            Some(row) => row.cells.push((gains, detail)),
            None => self.rows.push(Gained {
                name: name.to_owned(),
                of_seconds: true,
                cells: vec![(gains, detail)],
            }),
        }
    }

    /// Adds what a model predicts that was made of something else than these seconds.
    pub fn add_fixed(&mut self, name: &str, predictions: &Predictions, detail: &str) {
        let gains = Gains::new(&self.observed, predictions);
        self.rows.push(Gained {
            name: name.to_owned(),
            of_seconds: false,
            cells: vec![(gains, detail.to_owned()); self.seconds.len()],
        });
    }

    /// The figures, with intervals from so many resamples.
    ///
    /// # Panics
    /// If a row lacks a number of seconds.
    pub fn figures(&self, bootstrap: usize, seed: u64) -> Transfer {
        let resamples = Resamples::of_recording(self.observed.windows(), bootstrap, seed);
        let row = |(index, row): (usize, &Gained)| {
            assert_eq!(row.cells.len(), self.seconds.len(), "{}", row.name);
            let cells = row.cells.iter().enumerate().map(|(column, (gains, detail))| {
                let figures = gains.figures(&resamples);
                let first = &self.rows[0].cells[column].0;
                Cell {
                    bits: figures.overall,
                    by_bin: figures.by_bin,
                    first_gains_more: (index > 0).then(|| first.over(gains, &resamples)),
                    detail: detail.clone(),
                }
            });
            Row {
                name: row.name.clone(),
                of_seconds: row.of_seconds,
                cells: cells.collect(),
            }
        };
        let rows: Vec<Row> = self.rows.iter().enumerate().map(row).collect();
        let (seconds, observed_s) = (self.seconds.clone(), self.observed_s.clone());
        let mut transfer = Transfer {
            seconds,
            observed_s,
            rows,
            in_words: Vec::new(),
        };
        transfer.in_words = in_words(&transfer.given(), &transfer.rows);
        transfer
    }
}

impl Transfer {
    /// The numbers of seconds in words, with those in which the units were observed where these are fewer.
    pub fn given(&self) -> Vec<String> {
        let given = |(&seconds, &observed_s): (&f64, &f64)| match observed_s < 0.99 * seconds {
            true => format!("{seconds} s ({observed_s:.1} s observed)"),
            false => format!("{seconds} s"),
        };
        self.seconds.iter().zip(&self.observed_s).map(given).collect()
    }
}

/// A sentence for each number of seconds.
fn in_words(given: &[String], rows: &[Row]) -> Vec<String> {
    let Some((first, others)) = rows.split_first() else {
        return Vec::new();
    };
    let sentence = |(column, given): (usize, &String)| {
        let with = |of: &dyn Fn([f64; 2]) -> bool| -> Vec<String> {
            let named = others.iter().filter_map(|row| {
                let more = row.cells[column].first_gains_more?;
                let value = more.value?;
                of(more.ci95?).then(|| format!("{} ({})", row.name, signed(value)))
            });
            named.collect()
        };
        let parts = [
            ("ahead of", with(&|[low, _]| low > 0.0)),
            ("behind", with(&|[_, high]| high < 0.0)),
            ("not told apart from", with(&|[low, high]| low <= 0.0 && high >= 0.0)),
        ];
        let parts: Vec<String> = parts
            .iter()
            .filter(|(_, names)| !names.is_empty())
            .map(|(how, names)| format!("{how} {}", names.join(", ")))
            .collect();
        format!(
            "from {given}, {}: {}",
            first.name,
            match parts.is_empty() {
                true => "compared without intervals".to_owned(),
                false => parts.join("; "),
            }
        )
    };
    given.iter().enumerate().map(sentence).collect()
}

/// With its sign, but for zero, which has a plus.
fn signed(value: f64) -> String {
    // −0 + 0 is 0.
    format!("{:+.4}", (value * 1e4).round() / 1e4 + 0.0)
}

#[cfg(test)]
mod tests {
    use super::super::metrics::tests::{observed, predictions};
    use super::*;

    #[test]
    fn no_zero_is_negative() {
        assert_eq!(
            [-1e-5, 0.0, -0.00016, 0.1].map(signed),
            ["+0.0000", "+0.0000", "-0.0002", "+0.1000"]
        );
    }

    #[test]
    fn every_row_has_a_cell_for_every_number_of_seconds() {
        // One unit, 40 windows of one bin, a spike in each; the null model expects 1/2.
        let observed = observed(1, &[1.0; 40], &[0.5f64.ln()]);
        let of = |rate: f32| predictions(&observed, &[rate; 40]);
        let mut comparison = Comparison::new(observed.clone(), vec![10.0, 30.0], vec![2.8, 30.0]);
        for rate in [0.7f32, 0.9] {
            comparison.add("identities", &of(rate.ln()), String::new());
            comparison.add("mean rate", &of(0.6f32.ln()), String::new());
        }
        comparison.add_fixed("upper bound", &of(0.8f32.ln()), "elsewhere");
        let transfer = comparison.figures(100, 0);
        let names: Vec<&str> = transfer.rows.iter().map(|row| row.name.as_str()).collect();
        assert_eq!(names, ["identities", "mean rate", "upper bound"]);
        // Of a spike and a rate r against 1/2: ln(2 r) − (r − 1/2), in bits.
        let gain = |rate: f64| ((2.0 * rate).ln() - (rate - 0.5)) / std::f64::consts::LN_2;
        let close =
            |bits: Bits, expected: f64| assert!((bits.value.unwrap() - expected).abs() < 1e-6, "{bits:?} {expected}");
        close(transfer.rows[0].cells[1].bits, gain(0.9));
        close(
            transfer.rows[1].cells[0].first_gains_more.unwrap(),
            gain(0.7) - gain(0.6),
        );
        close(
            transfer.rows[2].cells[0].first_gains_more.unwrap(),
            gain(0.7) - gain(0.8),
        );
        assert!(transfer.rows[2].cells[1].first_gains_more.unwrap().ci95.unwrap()[0] > 0.0);
        assert!(transfer.rows[0].cells[0].first_gains_more.is_none());
        let words = &transfer.in_words[0];
        assert!(
            words.starts_with("from 10 s (2.8 s observed), identities: ahead of mean rate")
                && words.contains("behind upper"),
            "{words}"
        );
        assert!(transfer.in_words[1].contains("ahead of mean rate (") && !transfer.in_words[1].contains("behind"));
    }
}
