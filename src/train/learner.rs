//! One thread's work on one backend: the network on a tape over some windows, the gradient of their loss, and what it
//! generates.

use std::sync::Arc;

use kernels::cpu::{CpuBackend, CpuOptions};
use kernels::cuda::driver::DriverError;
use kernels::cuda::gpu::Gpu;
use kernels::cuda::{CudaBackend, CudaOptions};
use kernels::gradient::Differentiable;
use kernels::reference::ReferenceBackend;
use kernels::tape::{DropRates, Tape};
use kernels::{Backend, BackendError, Precision};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, Poisson, StandardNormal};

use super::config::{ExposureSection, TrainConfig};
use super::parameters::GradientMap;
use super::prepare::Prepared;
use super::readouts;
use super::TrainError;
use crate::model::build::check_heads;
use crate::model::checkpoint::Checkpoint;
use crate::model::identity::Reference;
use crate::model::network::Network;
use crate::model::{BackendKind, BuildError, SessionPlan};

/// Windows of one session that a thread goes through one after another; the sums of lanes are added in their order, so that
/// the bits do not depend on the number of threads.
#[derive(Debug)]
pub struct Lane<'a> {
    /// Rows of the unit embedding of the session's units.
    pub unit_rows: Vec<usize>,
    /// What their identities are computed from, where they are.
    pub reference: Option<Arc<Reference>>,
    /// Its windows.
    pub windows: Vec<&'a Prepared>,
}

/// What a lane gives.
#[derive(Debug)]
pub struct LaneSum {
    /// Sum of the loss's terms.
    pub loss: f64,
    /// Sum of the readouts' losses, each multiplied by its scale.
    pub readout_loss: f64,
    /// One vector a parameter.
    pub gradients: Vec<Vec<f32>>,
}

/// What all lanes of a step share.
#[derive(Debug)]
pub struct StepPlan<'a> {
    /// The weights.
    pub checkpoint: &'a Checkpoint,
    /// Where gradients go.
    pub map: &'a GradientMap,
    /// What is fed back.
    pub exposure: &'a ExposureSection,
    /// Share of windows or bins that are fed the model's own counts, at this step.
    pub own: f64,
    /// Every term of the loss is multiplied by this.
    pub scale: f32,
    /// Every term of each readout's loss is multiplied by its own.
    pub readout_scales: Vec<f32>,
    /// Most spikes that a window of the step holds.
    pub max_spikes: usize,
}

/// What a network made of a window, nothing dropped.
#[derive(Debug, Clone, Default)]
pub struct Generated {
    /// `[T·N]`.
    pub log_rates: Vec<f32>,
    /// What each task read out, `[R, columns]`: numbers in the series' unit, or classes' probabilities.
    pub readouts: Vec<Vec<f32>>,
}

/// Fed-back counts beyond this are taken for this: a prediction at the clamp is e¹⁰.
const MOST_FED: f32 = 1000.0;

/// What computes for the trainer.
pub trait Learner: Send {
    /// Goes through the lanes one after another; consecutive lanes of one session share the network.
    ///
    /// # Errors
    /// A device that failed.
    fn learn(&mut self, plan: &StepPlan<'_>, lanes: &[&Lane<'_>]) -> Result<Vec<LaneSum>, BackendError>;

    /// What the network makes of the windows of lanes, window by window.
    ///
    /// # Errors
    /// A device that failed.
    fn generate(&mut self, checkpoint: &Checkpoint, lanes: &[&Lane<'_>]) -> Result<Vec<Generated>, BackendError>;
}

/// What the configuration asks for: a thread each on the CPU, one for a GPU.
///
/// # Errors
/// A GPU is asked for, and there is none that can be used.
pub fn learners(config: &TrainConfig, backend: BackendKind) -> Result<Vec<Box<dyn Learner>>, TrainError> {
    let rates = config.drop_rates();
    let cpu = |_| Box::new(OnTape::new(CpuBackend::new(CpuOptions::default()), rates)) as Box<dyn Learner>;
    Ok(match backend {
        BackendKind::Cpu => (0..config.training.threads).map(cpu).collect(),
        BackendKind::Reference => vec![Box::new(OnTape::new(ReferenceBackend::default(), rates))],
        BackendKind::Cuda => {
            let model = config.model_config().map_err(TrainError::Config)?;
            check_heads(&model).map_err(|error| TrainError::Config(error.to_string()))?;
            let refused = |error: DriverError| BackendError(BuildError::Device(error.to_string()).to_string());
            let gpu = Gpu::open(0).map_err(refused)?;
            let options = CudaOptions {
                half: false,
                ..CudaOptions::default()
            };
            vec![Box::new(OnTape::new(CudaBackend::new(gpu, options), rates))]
        }
    })
}

/// A tape over a backend, used again from step to step.
pub struct OnTape<B: Differentiable> {
    tape: Option<Tape<B>>,
}

impl<B: Differentiable> OnTape<B> {
    /// With what is dropped.
    pub fn new(backend: B, rates: DropRates) -> Self {
        OnTape {
            tape: Some(Tape::new(backend, rates)),
        }
    }

    /// Gives every run of lanes of one session a network, and `work` each of its lanes.
    fn each<T>(
        &mut self,
        checkpoint: &Checkpoint,
        max_spikes: usize,
        lanes: &[&Lane<'_>],
        mut work: impl FnMut(&mut Network<Tape<B>>, &Lane<'_>) -> Result<T, BackendError>,
    ) -> Result<Vec<T>, BackendError> {
        let mut results = Vec::with_capacity(lanes.len());
        for lanes in lanes.chunk_by(|a, b| a.unit_rows == b.unit_rows && a.reference == b.reference) {
            let mut tape = self.tape.take().expect("put back after every session");
            tape.clear();
            let session = SessionPlan {
                unit_rows: lanes[0].unit_rows.clone(),
                reference: lanes[0].reference.clone(),
                bins: checkpoint.config.bins(),
                max_spikes,
                precision: Precision::F32,
            };
            let mut network = Network::new(tape, checkpoint, session);
            let done: Result<Vec<T>, BackendError> = lanes.iter().map(|lane| work(&mut network, lane)).collect();
            self.tape = Some(network.into_backend());
            results.extend(done?);
        }
        Ok(results)
    }
}

impl<B: Differentiable + Send> Learner for OnTape<B>
where
    Tape<B>: Send,
{
    fn learn(&mut self, plan: &StepPlan<'_>, lanes: &[&Lane<'_>]) -> Result<Vec<LaneSum>, BackendError> {
        self.each(plan.checkpoint, plan.max_spikes, lanes, |network, lane| {
            learn_lane(network, plan, lane)
        })
    }

    fn generate(&mut self, checkpoint: &Checkpoint, lanes: &[&Lane<'_>]) -> Result<Vec<Generated>, BackendError> {
        let windows = lanes.iter().flat_map(|lane| &lane.windows);
        let max_spikes = windows.map(|prepared| prepared.window.unit.len()).max().unwrap_or(0);
        let generated = self.each(checkpoint, max_spikes, lanes, |network, lane| {
            network.predicted().0.record(false);
            lane.windows
                .iter()
                .map(|prepared| {
                    let log_rates = generate_window(network, prepared)?;
                    Ok(Generated {
                        log_rates,
                        readouts: read_out(network)?,
                    })
                })
                .collect::<Result<Vec<_>, _>>()
        })?;
        Ok(generated.into_iter().flatten().collect())
    }
}

/// Log rates that the network generates in a window, `[T·N]`.
fn generate_window<B: Differentiable>(
    network: &mut Network<Tape<B>>,
    prepared: &Prepared,
) -> Result<Vec<f32>, BackendError> {
    let window = &prepared.window;
    network.set_history(&prepared.features, &prepared.population);
    network.set_conditions(&prepared.conditions);
    network.encode(&window.times_s, &window.unit);
    network.generate();
    let mut log_rates = vec![0.0; window.counts.len()];
    network.log_rates(&mut log_rates)?;
    Ok(log_rates)
}

/// What every task read out of the window that was encoded last.
fn read_out<B: Differentiable>(network: &mut Network<Tape<B>>) -> Result<Vec<Vec<f32>>, BackendError> {
    let sizes: Vec<usize> = network
        .config()
        .readouts
        .iter()
        .map(|readout| readout.rows() * readout.columns())
        .collect();
    let mut read = |(task, size)| {
        let mut out = vec![0.0; size];
        network.readout(task, &mut out).map(|()| out)
    };
    sizes.into_iter().enumerate().map(&mut read).collect()
}

/// Adds the readouts' losses of a window to its gradients, and returns their sum.
fn learn_readouts<B: Differentiable>(
    network: &mut Network<Tape<B>>,
    plan: &StepPlan<'_>,
    prepared: &Prepared,
) -> Result<f64, BackendError> {
    let mut sum = 0.0;
    let tasks = plan.checkpoint.config.readouts.iter().zip(&prepared.targets);
    for (task, ((config, targets), &scale)) in tasks.zip(&plan.readout_scales).enumerate() {
        if scale == 0.0 || readouts::present(targets) == 0 {
            continue;
        }
        let (tape, read) = network.read_out(task);
        let mut values = vec![0.0; read.rows * read.cols];
        tape.download(read, &mut values)?;
        let mut gradient = vec![0.0; values.len()];
        sum += f64::from(scale) * readouts::loss(config, &values, targets, &mut gradient);
        gradient.iter_mut().for_each(|g| *g *= scale);
        tape.add_gradient(read, &gradient);
    }
    Ok(sum)
}

fn learn_lane<B: Differentiable>(
    network: &mut Network<Tape<B>>,
    plan: &StepPlan<'_>,
    lane: &Lane<'_>,
) -> Result<LaneSum, BackendError> {
    let mark = network.predicted().0.mark();
    let feeds_back = network.feeds_back();
    let mut sum = LaneSum {
        loss: 0.0,
        readout_loss: 0.0,
        gradients: plan.map.zeros(),
    };
    let weights = vec![1.0; lane.windows.first().map_or(0, |prepared| prepared.window.counts.len())];
    for prepared in &lane.windows {
        let window = &prepared.window;
        network.predicted().0.start(prepared.seed);
        network.see_units(&window.units);
        let mut random = ChaCha8Rng::seed_from_u64(prepared.seed);
        random.set_stream(1);
        let fed = if feeds_back {
            fed_counts(network, plan, prepared, &mut random)?
        } else {
            window.counts.clone()
        };
        network.set_history(&prepared.features, &prepared.population);
        network.set_conditions(&prepared.conditions);
        network.encode(&window.times_s, &window.unit);
        network.teacher_force(&fed);
        let (tape, log_rates) = network.predicted();
        sum.loss += tape.poisson_loss(log_rates, &window.counts, &weights, plan.scale)?;
        sum.readout_loss += learn_readouts(network, plan, prepared)?;
        network.predicted().0.backward(mark);
    }
    let tape = network.predicted().0;
    tape.backward_before(mark);
    tape.take_gradients(&mut |piece| plan.map.add(piece, &mut sum.gradients))?;
    Ok(sum)
}

/// What the model is fed in a window: true counts, its own, or some of each. Its own are those that it makes when it
/// generates, without dropping, from the weights that it has now.
fn fed_counts<B: Differentiable>(
    network: &mut Network<Tape<B>>,
    plan: &StepPlan<'_>,
    prepared: &Prepared,
    random: &mut ChaCha8Rng,
) -> Result<Vec<f32>, BackendError> {
    let window = &prepared.window;
    let mut fed = window.counts.clone();
    let bins = plan.checkpoint.config.bins();
    let units = fed.len() / bins;
    let of_window: bool = random.random_bool(plan.own);
    let own: Vec<bool> = (0..bins)
        .map(|_| {
            if plan.exposure.each_bin {
                random.random_bool(plan.own)
            } else {
                of_window
            }
        })
        .collect();
    if own.contains(&true) {
        network.predicted().0.record(false);
        let generated = generate_window(network, prepared);
        network.predicted().0.record(true);
        let log_rates = generated?;
        for (bin, _) in own.iter().enumerate().filter(|(_, &own)| own) {
            let row = bin * units..(bin + 1) * units;
            for (fed, rate) in fed[row.clone()].iter_mut().zip(&log_rates[row]) {
                let expected = rate.exp().min(MOST_FED);
                *fed = match Poisson::new(expected) {
                    Ok(counts) if plan.exposure.sample => counts.sample(random),
                    _ => expected,
                };
            }
        }
    }
    let (noise, dropout) = (plan.exposure.noise as f32, plan.exposure.dropout);
    if noise > 0.0 || dropout > 0.0 {
        for count in &mut fed {
            let shift: f32 = StandardNormal.sample(random);
            *count = (count.ln_1p() + noise * shift).max(0.0).exp_m1();
            if random.random::<f64>() < dropout {
                *count = 0.0;
            }
        }
    }
    Ok(fed)
}
