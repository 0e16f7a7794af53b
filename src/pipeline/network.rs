//! The network as a [`Predictor`].

use kernels::{BackendError, Precision};

use super::calibrate::{calibration, Calibration, CalibrationPort, Calibrator};
use super::output::OutputSpec;
use super::predictor::{BinSpikes, Origin, PredictError, Predictor};
use crate::data::Interval;
use crate::model::checkpoint::Checkpoint;
use crate::model::conditions::Tokens;
use crate::model::config::ModelConfig;
use crate::model::identity::IdentityError;
use crate::model::traces::{TraceReader, Traces};
use crate::model::window::{Spikes, WindowShape};
use crate::model::{build, BackendKind, BuildError, BuildOptions, Inference, UnitMatch};

/// An output that is read from the network after its prediction.
pub trait NetworkOutput: Send {
    /// What is published.
    fn spec(&self) -> OutputSpec;
    /// Writes the array of the prediction that `network` has just made, `[rows, cols]`. Does not allocate.
    ///
    /// # Errors
    /// Where the device fails.
    fn read(&mut self, network: &mut dyn Inference, out: &mut [f32]) -> Result<(), BackendError>;
}

/// A checkpoint's network with one session's units.
pub struct NetworkPredictor {
    network: Box<dyn Inference>,
    /// The same on the CPU, where the network runs on a device that may fail.
    standby: Option<Box<dyn Inference>>,
    /// What the device said when it failed, and the network on it, let go of when the run is over. From then on `network` is
    /// what was the standby.
    device_failure: Option<(String, Box<dyn Inference>)>,
    /// Recent history, for a network that sees it.
    traces: Option<Traces>,
    /// When the units were observed, ascending; empty where there is no time at which they were not.
    observed: Vec<Interval>,
    unit_ids: Vec<String>,
    shape: WindowShape,
    model_hash: u64,
    file: String,
    /// Which of its sessions was asked for; empty where none was.
    session: String,
    description: String,
    calibration: Option<Calibrated>,
    outputs: Vec<Box<dyn NetworkOutput>>,
}

/// How identities come while the run goes on.
struct Calibrated {
    port: CalibrationPort,
    /// Until the run has given it a thread.
    calibrator: Option<Calibrator>,
    /// Whether there were identities already.
    ready: bool,
    /// Spikes of each unit so far, and bins: what is predicted until then.
    seen: Box<[u32]>,
    bins: u32,
}

/// What a recording has before the part that is replayed.
#[derive(Clone, Debug)]
pub struct Past {
    /// Times of the model's units' spikes, ns, ascending.
    pub times_ns: Vec<i64>,
    /// Their units, by number among the model's.
    pub units: Vec<u32>,
    /// Start of the grid of bins, ns.
    pub origin_ns: i64,
}

/// Predictions of silence before the first bin: a device runs the first as it is, records the second and repeats the third.
const WARM_UP: usize = 3;

impl NetworkPredictor {
    /// Builds the network for those of the session's units that the checkpoint knows, and runs it once on silence, so that
    /// the first bin finds every buffer and page in place.
    ///
    /// # Errors
    /// Where the checkpoint knows none of the units or cannot predict as many bins as asked, or the device fails.
    pub fn new(
        checkpoint: &Checkpoint,
        name: &str,
        session_ids: &[String],
        options: &BuildOptions,
    ) -> Result<Self, BuildError> {
        let matched = UnitMatch::new(checkpoint, session_ids, options.session.as_deref())?;
        let network = build(checkpoint, &matched.rows, options)?;
        let standby = match options.backend {
            BackendKind::Cuda => {
                let options = BuildOptions {
                    backend: BackendKind::Cpu,
                    precision: Precision::F32,
                    ..options.clone()
                };
                Some(build(checkpoint, &matched.rows, &options)?)
            }
            BackendKind::Cpu | BackendKind::Reference => None,
        };
        let built = Self::of(checkpoint, name, matched, network, standby)?;
        Ok(Self {
            session: options.session.clone().unwrap_or_default(),
            ..built
        })
    }

    /// Of a network that was built, and another that takes over for good when the first one's device fails. Both have the
    /// same units and horizon.
    ///
    /// # Errors
    /// Where the network cannot predict silence.
    pub fn of(
        checkpoint: &Checkpoint,
        name: &str,
        matched: UnitMatch,
        mut network: Box<dyn Inference>,
        mut standby: Option<Box<dyn Inference>>,
    ) -> Result<Self, BuildError> {
        let traces = matched.traces(checkpoint);
        let mut log_rates = vec![0.0; network.plan().bins * matched.rows.len()];
        for network in std::iter::once(&mut network).chain(&mut standby) {
            for _ in 0..WARM_UP {
                network
                    .predict(traces.as_ref(), &[], &[], &mut log_rates)
                    .map_err(|error| BuildError::Device(error.to_string()))?;
            }
        }
        let shape = WindowShape::new(network.config(), network.plan().bins);
        let description = format!("network {name}, {}", network.describe());
        Ok(NetworkPredictor {
            network,
            standby,
            device_failure: None,
            traces,
            observed: Vec::new(),
            unit_ids: matched.ids,
            shape,
            model_hash: checkpoint.hash,
            file: name.to_string(),
            session: String::new(),
            description,
            calibration: None,
            outputs: Vec::new(),
        })
    }

    /// Computes the units' identities from their activity while the run goes on, and predicts mean rates until then.
    ///
    /// # Errors
    /// A checkpoint without an encoder of identities.
    pub fn calibrate(mut self, checkpoint: &Checkpoint, wanted: Calibration) -> Result<Self, IdentityError> {
        let units = self.unit_ids.len();
        let (port, calibrator) = calibration(checkpoint, units, wanted)?;
        self.description += &format!(", identities from {} s of activity", wanted.reference_s);
        self.calibration = Some(Calibrated {
            port,
            calibrator: Some(calibrator),
            ready: false,
            seen: vec![0; units].into(),
            bins: 0,
        });
        Ok(self)
    }

    /// Lets recent history go through what a recording has before `until_ns`, where the run begins: predictions are then those
    /// that `eval` makes. Whoever knows when the units were observed says so before ([`Self::observed_in`]). Without it, recent history begins at the mean rates.
    pub fn go_through(&mut self, past: &Past, until_ns: i64) {
        if let Some(traces) = &mut self.traces {
            let spikes = Spikes {
                times_ns: &past.times_ns,
                units: &past.units,
            };
            let mut reader = TraceReader::new(traces.clone(), past.origin_ns, self.shape.bin_ns, &self.observed);
            *traces = reader.advance(spikes, until_ns).clone();
        }
    }

    /// Lets recent history begin anew after bins of a recording in which the units were not observed, as `eval` does.
    pub fn observed_in(mut self, intervals: &[Interval]) -> Self {
        self.observed = intervals.to_vec();
        self
    }

    /// The network that predicts.
    pub fn network(&self) -> &dyn Inference {
        self.network.as_ref()
    }

    /// Publishes a further output.
    pub fn with_output(mut self, output: Box<dyn NetworkOutput>) -> Self {
        self.outputs.push(output);
        self
    }

    /// Width of the last predicted bin, ns: it takes what whole bins leave of the trained horizon.
    pub fn last_bin_ns(&self) -> i64 {
        self.shape.horizon_ns - self.shape.bin_ns * (self.shape.bins as i64 - 1)
    }
}

impl Calibrated {
    /// ln of each unit's mean count so far, half a spike added to each, in every bin.
    fn mean_rates(&self, log_rates: &mut [f32]) {
        let bins = self.bins.max(1) as f32;
        for row in log_rates.chunks_exact_mut(self.seen.len()) {
            for (rate, &seen) in row.iter_mut().zip(&self.seen) {
                *rate = ((seen as f32 + 0.5) / bins).ln();
            }
        }
    }
}

impl Predictor for NetworkPredictor {
    fn unit_ids(&self) -> &[String] {
        &self.unit_ids
    }
    fn bin_ns(&self) -> i64 {
        self.shape.bin_ns
    }
    fn history_ns(&self) -> i64 {
        self.shape.history_ns
    }
    fn horizon_bins(&self) -> usize {
        self.shape.bins
    }
    fn model_hash(&self) -> u64 {
        self.model_hash
    }
    fn origin(&self) -> Origin<'_> {
        Origin {
            file: &self.file,
            session: &self.session,
        }
    }
    fn describe(&self) -> String {
        self.description.clone()
    }
    fn max_spikes(&self) -> usize {
        self.network.plan().max_spikes
    }
    fn worker_threads(&self) -> Vec<i32> {
        let networks = std::iter::once(&self.network).chain(&self.standby);
        networks.flat_map(|network| network.worker_threads()).copied().collect()
    }
    fn bin_closed(&mut self, bin: &BinSpikes<'_>) {
        let start_ns = bin.end_ns - self.shape.bin_ns;
        let was_observed = self.observed.is_empty() || Interval::any_holds(&self.observed, start_ns, bin.end_ns);
        match &mut self.traces {
            Some(traces) if was_observed => traces.push_bin(bin.counts.iter().map(|&count| count as f32)),
            Some(traces) => traces.restart(),
            None => {}
        }
        let Some(calibrated) = &mut self.calibration else {
            return;
        };
        calibrated.port.bin_closed(bin.end_ns, bin.times_ns, bin.units);
        if !calibrated.ready {
            calibrated.bins += 1;
            let seen = calibrated.seen.iter_mut().zip(bin.counts);
            seen.for_each(|(sum, &count)| *sum = sum.saturating_add(count));
        }
    }
    fn take_identities(&mut self) -> Option<i64> {
        let calibrated = self.calibration.as_mut()?;
        let (networks, traces) = ([Some(&mut self.network), self.standby.as_mut()], &mut self.traces);
        let mut networks = networks;
        calibrated.port.take_new(|identities| {
            for network in networks.iter_mut().flatten() {
                network.identify(identities);
            }
            if let Some(traces) = traces {
                traces.compare_with(identities.log_rates().iter().map(|rate| rate.exp()));
            }
            calibrated.ready = true;
        })
    }
    fn network_config(&self) -> Option<&ModelConfig> {
        Some(self.network.config())
    }
    fn show(&mut self, modalities: &[Tokens]) {
        for network in std::iter::once(&mut self.network).chain(&mut self.standby) {
            network.set_conditions(modalities);
        }
    }
    fn take_up(&mut self, recent_history: &[f32]) -> bool {
        let traces = self.traces.as_mut();
        let traces = traces.filter(|traces| traces.state().len() == recent_history.len());
        traces.map(|traces| traces.set_state(recent_history)).is_some()
    }
    fn recent_history(&self) -> Option<&[f32]> {
        self.traces.as_ref().map(Traces::state)
    }
    fn calibrating(&self) -> bool {
        self.calibration.as_ref().is_some_and(|calibrated| !calibrated.ready)
    }
    fn take_calibrator(&mut self) -> Option<Calibrator> {
        self.calibration.as_mut()?.calibrator.take()
    }
    fn predict(&mut self, times_s: &[f64], units: &[u32], log_rates: &mut [f32]) -> Result<(), PredictError> {
        let all = self.shape.bins;
        self.predict_within(times_s, units, &mut || all, log_rates)?;
        Ok(())
    }
    fn predict_within(
        &mut self,
        times_s: &[f64],
        units: &[u32],
        bins: &mut dyn FnMut() -> usize,
        log_rates: &mut [f32],
    ) -> Result<usize, PredictError> {
        let all = self.shape.bins;
        if let Some(calibrated) = self.calibration.as_ref().filter(|calibrated| !calibrated.ready) {
            calibrated.mean_rates(log_rates);
            return Ok(all);
        }
        let traces = self.traces.as_ref();
        let made = if self.network.shortens() {
            self.network.predict_within(traces, times_s, units, bins, log_rates)
        } else {
            self.network.predict(traces, times_s, units, log_rates).map(|()| all)
        };
        let error = match made {
            Ok(made) => return Ok(made),
            Err(error) => error,
        };
        // Once in a run at most: the text of what the device said is the only thing here that allocates.
        let Some(standby) = self.standby.take() else {
            return Err(PredictError(error.to_string()));
        };
        let failed = std::mem::replace(&mut self.network, standby);
        self.device_failure = Some((error.to_string(), failed));
        self.network
            .predict(traces, times_s, units, log_rates)
            .map_err(|error| PredictError(error.to_string()))?;
        Ok(all)
    }
    fn outputs(&self) -> Vec<OutputSpec> {
        self.outputs.iter().map(|output| output.spec()).collect()
    }
    fn output(&mut self, index: usize, out: &mut [f32]) -> Result<(), PredictError> {
        self.outputs[index]
            .read(self.network.as_mut(), out)
            .map_err(|error| PredictError(error.to_string()))
    }
    fn device_failure(&self) -> Option<&str> {
        self.device_failure.as_ref().map(|(said, _)| said.as_str())
    }
}
