//! True rates, where a recording of simulated spikes brings them: what no model can beat.

use super::metrics::{explained_rows, Explained};
use super::predictions::{Observed, Predictions};
use crate::data::Series;

/// Name of the series that holds the true rate of every unit of the file, in Hz, a sample a bin (`rates_hz` in a file).
pub const TRUE_RATES: &str = "rates";

/// The expected counts in the windows of `observed`, as if a model had predicted them. `channels` are the series' channels
/// of the scored units, `[N]`. A bin that the series does not reach into has the null model's rate.
pub fn predictions(series: &Series, channels: &[usize], observed: &Observed) -> Predictions {
    let mut truth = Predictions::empty("true rates", observed);
    let bin_ns = observed.shape.bin_ns;
    for window in 0..observed.windows() {
        for bin in 0..observed.bins() {
            let from_ns = observed.bin_start_ns(window, bin);
            let samples = series.between(from_ns, from_ns + bin_ns);
            let row = &mut truth.window_mut(window)[bin * channels.len()..][..channels.len()];
            for ((log_rate, &channel), &null) in row.iter_mut().zip(channels).zip(&observed.null_log_rates) {
                let sum: f64 = samples
                    .clone()
                    .map(|sample| f64::from(series.row(sample)[channel]))
                    .sum();
                let expected = sum / samples.len() as f64 * bin_ns as f64 * 1e-9;
                *log_rate = if samples.is_empty() {
                    null as f32
                } else {
                    expected.ln().max(-10.0) as f32
                };
            }
        }
    }
    truth
}

/// How much of the true expected counts' variance a model explains.
pub fn explained_truth(truth: &Predictions, model: &Predictions) -> Option<Explained> {
    let rows = truth.log_rates.chunks_exact(truth.units.max(1));
    let counts = |row: &[f32]| row.iter().map(|rate| f64::from(rate.exp())).collect::<Vec<f64>>();
    let rows = rows.zip(model.log_rates.chunks_exact(truth.units.max(1)));
    explained_rows(truth.units, rows.map(|(truth, model)| (counts(truth), counts(model))))
}

#[cfg(test)]
mod tests {
    use super::super::metrics::tests::observed;
    use super::*;

    #[test]
    fn rates_become_expected_counts() {
        let observed = observed(1, &[0.0, 1.0], &[-1.0, -2.0]);
        let from_ns = observed.bin_start_ns(0, 0);
        let bin_s = observed.shape.bin_ns as f64 * 1e-9;
        let series = Series {
            name: TRUE_RATES.into(),
            unit: "Hz".into(),
            times_ns: vec![from_ns],
            channels: 3,
            channel_names: Vec::new(),
            values: vec![7.0, (0.5 / bin_s) as f32, (3.0 / bin_s) as f32],
        };
        let truth = predictions(&series, &[2, 1], &observed);
        assert!((truth.log_rates[0].exp() - 3.0).abs() < 1e-5 && (truth.log_rates[1].exp() - 0.5).abs() < 1e-5);
        let own = explained_truth(&truth, &truth).unwrap();
        assert!((own.r2 - 1.0).abs() < 1e-6);
        // A model that says 1.75, the mean of both, explains nothing.
        let mut mean = truth.clone();
        mean.log_rates.fill(1.75f32.ln());
        assert!(explained_truth(&truth, &mean).unwrap().r2.abs() < 1e-6);
    }
}
