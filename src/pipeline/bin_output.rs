//! Outputs that are computed from the counts of every bin as it closes, beside whatever predicts.

use super::layer::Layer;
use super::output::OutputSpec;
use super::predictor::{BinSpikes, PredictError, Predictor};

/// An output of every closed bin's counts: a classical decoder, for one.
///
/// It is published with the prediction of its bin; where that stands in for another, so does the output
/// ([`super::output`]), though the bin itself was taken in.
pub trait BinOutput: Send {
    /// What is published.
    fn spec(&self) -> OutputSpec;
    /// A bin has closed: called for every bin in order. Does not allocate.
    fn bin_closed(&mut self, bin: &BinSpikes<'_>);
    /// Writes the array of the bin that closed last, `[rows, cols]`. Does not allocate.
    fn read(&mut self, out: &mut [f32]);
}

/// A predictor with outputs of closed bins after its own.
pub struct WithBinOutputs {
    inner: Box<dyn Predictor>,
    /// Outputs of the predictor itself.
    own: usize,
    outputs: Vec<Box<dyn BinOutput>>,
}

impl WithBinOutputs {
    /// Adds `outputs` to what `inner` publishes.
    pub fn new(inner: Box<dyn Predictor>, outputs: Vec<Box<dyn BinOutput>>) -> Self {
        Self {
            own: inner.outputs().len(),
            inner,
            outputs,
        }
    }
}

impl Layer for WithBinOutputs {
    fn inner(&self) -> &dyn Predictor {
        self.inner.as_ref()
    }
    fn inner_mut(&mut self) -> &mut dyn Predictor {
        self.inner.as_mut()
    }
    fn on_bin_closed(&mut self, bin: &BinSpikes<'_>) {
        self.inner.bin_closed(bin);
        self.outputs.iter_mut().for_each(|output| output.bin_closed(bin));
    }
    fn all_outputs(&self) -> Vec<OutputSpec> {
        let added = self.outputs.iter().map(|output| output.spec());
        self.inner.outputs().into_iter().chain(added).collect()
    }
    fn read_output(&mut self, index: usize, out: &mut [f32]) -> Result<(), PredictError> {
        match index.checked_sub(self.own) {
            None => self.inner.output(index, out),
            Some(added) => {
                self.outputs[added].read(out);
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::predictor::{MeanRate, WindowShape};
    use super::*;

    /// Spikes of the bin, times a number.
    struct Total(&'static str, f32, f32);

    impl BinOutput for Total {
        fn spec(&self) -> OutputSpec {
            OutputSpec {
                topic: self.0.into(),
                rows: 1,
                cols: 1,
                axes: ["bin".into(), "sum".into()],
                meaning: "spikes".into(),
                labels: Vec::new(),
                row_times_s: Vec::new(),
            }
        }
        fn bin_closed(&mut self, bin: &BinSpikes<'_>) {
            self.2 = self.1 * bin.counts.iter().sum::<u32>() as f32;
        }
        fn read(&mut self, out: &mut [f32]) {
            out[0] = self.2;
        }
    }

    fn mean_rate() -> Box<dyn Predictor> {
        let shape = WindowShape {
            bin_ns: 1,
            history_ns: 1,
            horizon_bins: 1,
            max_spikes: 1,
        };
        Box::new(MeanRate::new(vec!["a".into()], shape, &[0.0], "test").unwrap())
    }

    #[test]
    fn added_outputs_come_after_those_of_the_predictor_and_see_every_bin() {
        let inner = WithBinOutputs::new(mean_rate(), vec![Box::new(Total("one", 1.0, 0.0))]);
        let mut both = WithBinOutputs::new(Box::new(inner), vec![Box::new(Total("two", 2.0, 0.0))]);
        let topics: Vec<String> = both.outputs().into_iter().map(|spec| spec.topic).collect();
        assert_eq!(topics, ["one", "two"]);
        let (mut one, mut two) = ([0.0], [0.0]);
        for count in [3, 5] {
            both.bin_closed(&BinSpikes {
                end_ns: 1,
                counts: &[count],
                times_ns: &[],
                units: &[],
            });
            both.output(0, &mut one).unwrap();
            both.output(1, &mut two).unwrap();
            assert_eq!((one, two), ([count as f32], [2.0 * count as f32]));
        }
    }
}
