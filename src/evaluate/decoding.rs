//! Decodes a recording's behaviour: what the network reads out at the end of every bin of an interval.

use kernels::BackendError;

use super::behaviour::{Decodings, TargetReader};
use super::forward::Inputs;
use crate::model::config::ReadoutConfig;
use crate::model::window::WindowShape;
use crate::model::Inference;

/// What one readout said in every window, and what it should have said.
#[derive(Debug, Clone)]
pub struct ReadWindows {
    /// The readout; R rows.
    pub readout: ReadoutConfig,
    /// `[n, R, C]`, or probabilities of classes `[n, R, K]`.
    pub read: Vec<f32>,
    /// `[n, R, C]`, or numbers of classes `[n, R, 1]`; NaN where nothing was recorded.
    pub targets: Vec<f32>,
}

impl ReadWindows {
    /// One row of every window: what was said of that time, counted from the end of the history.
    pub fn row(&self, row: usize) -> Decodings {
        let rows = self.readout.rows();
        let of = |values: &[f32], width: usize| -> Vec<f32> {
            let windows = values.chunks_exact(rows * width);
            windows
                .flat_map(|window| &window[row * width..][..width])
                .copied()
                .collect()
        };
        Decodings {
            observed: of(&self.targets, self.readout.channels()),
            decoders: vec![("network".into(), of(&self.read, self.readout.columns()))],
            readout: self.readout.clone(),
        }
    }
}

/// The ends of the bins of an interval that begins and ends on the grid; the first whose history begins at `first_ns` or later.
pub fn bin_ends(shape: WindowShape, (start_ns, end_ns): (i64, i64), first_ns: i64) -> Vec<i64> {
    let bins = (end_ns - start_ns).max(0) / shape.bin_ns;
    let ends = (1..=bins).map(|bin| start_ns + bin * shape.bin_ns);
    ends.filter(|end| end - shape.history_ns >= first_ns).collect()
}

/// Reads every task out of the histories that end at `ends_ns`, ascending. `each` is called after every window.
///
/// # Errors
/// Where the device that computes fails.
pub fn read_windows(
    network: &mut dyn Inference,
    mut inputs: Inputs<'_>,
    targets: &TargetReader,
    ends_ns: &[i64],
    mut each: impl FnMut(),
) -> Result<Vec<ReadWindows>, BackendError> {
    let shape = WindowShape::new(network.config(), network.plan().bins);
    let mut log_rates = vec![0.0; shape.bins * network.plan().unit_rows.len()];
    let mut times_s = Vec::new();
    let readouts = network.config().readouts.clone();
    let mut windows: Vec<ReadWindows> = readouts
        .into_iter()
        .map(|readout| ReadWindows {
            readout,
            read: Vec::new(),
            targets: Vec::new(),
        })
        .collect();
    for &end_ns in ends_ns {
        inputs.predict_window(network, end_ns - shape.history_ns, &mut times_s, &mut log_rates)?;
        for (task, (window, expected)) in windows.iter_mut().zip(targets.at(end_ns, false)).enumerate() {
            let (first, size) = (window.read.len(), window.readout.rows() * window.readout.columns());
            window.read.resize(first + size, 0.0);
            network.readout(task, &mut window.read[first..])?;
            window.targets.extend(expected);
        }
        each();
    }
    Ok(windows)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::config::ReadoutKind;

    #[test]
    fn bins_end_within_the_interval_and_histories_within_the_recording() {
        let shape = WindowShape {
            history_ns: 50,
            bin_ns: 20,
            bins: 2,
            horizon_ns: 40,
        };
        assert_eq!(bin_ends(shape, (100, 170), 0), [120, 140, 160]);
        assert_eq!(bin_ends(shape, (0, 100), 0), [60, 80, 100]);
        assert!(bin_ends(shape, (100, 100), 0).is_empty());
    }

    #[test]
    fn a_row_is_that_of_every_window() {
        let readout = ReadoutConfig {
            series: "x".into(),
            kind: ReadoutKind::Classes,
            step_s: 0.1,
            back: 1,
            ahead: 1,
            unit: String::new(),
            labels: vec!["0".into(), "1".into()],
            mean: vec![0.0, 1.0],
            deviation: Vec::new(),
        };
        let windows = ReadWindows {
            readout,
            read: vec![0.1, 0.9, 0.2, 0.8, 0.3, 0.7, 0.4, 0.6],
            targets: vec![0.0, 1.0, 1.0, f32::NAN],
        };
        let ahead = windows.row(1);
        assert_eq!(ahead.decoders[0].1, [0.2, 0.8, 0.4, 0.6]);
        assert!(ahead.observed[0] == 1.0 && ahead.observed[1].is_nan() && ahead.times() == 2);
    }
}
