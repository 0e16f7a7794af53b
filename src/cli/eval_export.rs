//! `eval --export` and `eval --sample`: what was predicted, and spike trains drawn from it, as arrays for NumPy.

use std::path::PathBuf;

use clap::Args;
use kernels::BackendError;
use serde::Serialize;

use super::eval_setup::Setup;
use super::latents_option::{MEAN, NETWORK_HASH, PROJECTION};
use super::CliError;
use crate::data::arrays::{ArrayWriter, Elements};
use crate::data::unit_id;
use crate::evaluate::predictions::Predictions;
use crate::evaluate::spike_statistics::{ExpectedSummary, TrainDifference, TrainStatistics, TrainSummary};
use crate::evaluate::spike_trains::{SpikeTrains, Stretches};
use crate::model::factors::{newest_step, Projection};
use crate::model::principal::PrincipalAxes;
use crate::model::Inference;
use crate::train::state::write_whole;

/// What is written of the network's predictions.
#[derive(Debug, Args)]
pub struct ExportArgs {
    /// Write log_rates and counts [W, T, N], the windows' times, latents and factors as arrays for numpy.load; the README
    /// lists them
    #[arg(long, value_name = "FILE.npz", conflicts_with = "baselines_only")]
    pub export: Option<PathBuf>,
    /// Principal components of the newest latents in that file, which `run --latents FILE.npz` publishes
    #[arg(long, value_name = "K", default_value_t = 8, requires = "export", value_parser = clap::value_parser!(u16).range(1..))]
    pub components: u16,
    /// Also all latents of every window, [W, L, D]
    #[arg(long, requires = "export")]
    pub all_latents: bool,
    /// Draw spike trains from the predicted rates (Poisson, by --seed), compare them with the observed ones, and write both;
    /// the file can be read as a recording
    #[arg(long, value_name = "FILE.npz", conflicts_with = "baselines_only")]
    pub sample: Option<PathBuf>,
}

/// The latents of every window, as they come.
pub struct LatentsOfWindows {
    /// Mean of those of the newest time, `[W, D]`.
    newest: Vec<f32>,
    /// All of them, `[W, L, D]`, where they are kept.
    all: Option<Vec<f32>>,
    shape: (usize, usize),
    buffer: Vec<f32>,
}

impl LatentsOfWindows {
    /// Of windows that this network will predict.
    pub fn new(network: &dyn Inference, keep_all: bool) -> Self {
        let (rows, dim) = network.latent_shape();
        LatentsOfWindows {
            newest: Vec::new(),
            all: keep_all.then(Vec::new),
            shape: (rows, dim),
            buffer: vec![0.0; rows * dim],
        }
    }

    /// Takes those of the window that the network has just predicted.
    ///
    /// # Errors
    /// Where the device fails.
    pub fn take(&mut self, network: &mut dyn Inference) -> Result<(), BackendError> {
        network.latents(&mut self.buffer)?;
        let first = self.newest.len();
        self.newest.resize(first + self.shape.1, 0.0);
        let per_step = network.config().num_latents_per_step;
        newest_step(&self.buffer, per_step, &mut self.newest[first..]);
        if let Some(all) = &mut self.all {
            all.extend_from_slice(&self.buffer);
        }
        Ok(())
    }

    /// The directions in which the newest vary most, with the share of their variance along each.
    fn principal(&self, components: usize, seed: u64) -> (Projection, Vec<f64>) {
        let dim = self.shape.1;
        let mut axes = PrincipalAxes::fit(&self.newest, dim, components, seed);
        for direction in axes.directions.chunks_exact_mut(dim.max(1)) {
            // A direction and its opposite are one: the largest channel's sign settles which is written.
            let largest = direction.iter().copied().max_by(|a, b| a.abs().total_cmp(&b.abs()));
            if largest.is_some_and(|x| x < 0.0) {
                direction.iter_mut().for_each(|x| *x = -*x);
            }
        }
        let shares = axes.variances.iter().map(|variance| variance / axes.total_variance);
        let projection = Projection {
            directions: axes.directions.iter().map(|&x| x as f32).collect(),
            mean: axes.mean.clone(),
            network_hash: 0,
        };
        (projection, shares.collect())
    }
}

/// Writes `--export`.
///
/// # Errors
/// A file that cannot be written, or latents that do not vary.
pub fn write_export(
    args: &ExportArgs,
    setup: &Setup,
    predictions: &Predictions,
    latents: &LatentsOfWindows,
    seed: u64,
) -> Result<(), CliError> {
    let Some(path) = &args.export else { return Ok(()) };
    let observed = &setup.observed;
    let (windows, bins, units) = (observed.windows(), observed.bins(), observed.units());
    let (rows, dim) = latents.shape;
    let (projection, shares) = latents.principal(usize::from(args.components), seed);
    let components = projection.components();
    if components == 0 {
        return Err(CliError::Config(format!(
            "--export {}: the latents of the {windows} windows do not vary, so that they have no components",
            path.display()
        )));
    }
    let mut factors = vec![0.0; windows * components];
    let pairs = latents
        .newest
        .chunks_exact(dim)
        .zip(factors.chunks_exact_mut(components));
    pairs.for_each(|(newest, out)| projection.project(newest, out));
    let counts: Vec<u32> = observed.counts.iter().map(|&count| count as u32).collect();
    let firsts: Vec<i64> = (0..windows).map(|window| observed.bin_start_ns(window, 0)).collect();
    let shape = observed.shape;

    let write = || -> std::io::Result<Vec<u8>> {
        let mut file = ArrayWriter::default();
        file.add(
            "log_rates",
            &[windows, bins, units],
            Elements::F32(&predictions.log_rates),
        )?;
        file.add("counts", &[windows, bins, units], Elements::U32(&counts))?;
        file.add("window_start_ns", &[windows], Elements::I64(&observed.starts_ns))?;
        file.add("prediction_start_ns", &[windows], Elements::I64(&firsts))?;
        file.add("bin_ns", &[], Elements::I64(&[shape.bin_ns]))?;
        file.add("horizon_ns", &[], Elements::I64(&[shape.horizon_ns]))?;
        file.add("unit_ids", &[units], Elements::Text(&setup.unit_ids))?;
        file.add("null_log_rates", &[units], Elements::F64(&observed.null_log_rates))?;
        file.add("latents_newest", &[windows, dim], Elements::F32(&latents.newest))?;
        file.add("factors", &[windows, components], Elements::F32(&factors))?;
        file.add(MEAN, &[dim], Elements::F32(&projection.mean))?;
        file.add(PROJECTION, &[components, dim], Elements::F32(&projection.directions))?;
        file.add("latents_variance_share", &[components], Elements::F64(&shares))?;
        file.add(NETWORK_HASH, &[], Elements::I64(&[setup.network_hash as i64]))?;
        if let Some(all) = &latents.all {
            file.add("latents", &[windows, rows, dim], Elements::F32(all))?;
        }
        file.finish()
    };
    let bytes = write().map_err(|source| cannot_write(path, source))?;
    Ok(write_whole(path, &bytes)?)
}

/// What drawn trains are like, beside the observed ones.
#[derive(Debug, Serialize)]
pub struct SampleReport {
    /// Of every draw.
    pub seed: u64,
    /// Bins, and how many stretches without a gap they make.
    pub bins: usize,
    /// See `bins`.
    pub stretches: usize,
    /// The observed trains.
    pub observed: TrainSummary,
    /// Those drawn from the predicted rates.
    pub sampled: TrainSummary,
    /// What draws without end of these rates would show.
    pub expected: ExpectedSummary,
    /// How far the drawn trains are from the observed ones.
    pub sampled_to_observed: TrainDifference,
    /// How far a second draw of the same rates is from the first: what chance alone makes.
    pub sampled_to_sampled: TrainDifference,
}

/// Draws trains, writes `--sample`, and says what they are like.
///
/// # Errors
/// Windows that overlap, or a file that cannot be written.
pub fn write_sample(
    args: &ExportArgs,
    setup: &Setup,
    predictions: &Predictions,
    seed: u64,
) -> Result<Option<SampleReport>, CliError> {
    let Some(path) = &args.sample else { return Ok(None) };
    let (shape, units) = (setup.observed.shape, setup.unit_ids.len());
    let overlap = |what| CliError::Config(format!("--sample {}: {what}", path.display()));
    let stretches = Stretches::new(shape, &setup.observed.starts_ns).map_err(overlap)?;
    let expected = stretches.expected_counts(shape, predictions);
    let observed = SpikeTrains::observed(&stretches, units, setup.spikes.as_spikes());
    let drawn = [0, 1].map(|draw| SpikeTrains::drawn(&stretches, units, &expected, seed, draw));
    let of = |trains: &SpikeTrains| TrainStatistics::new(&stretches, trains);
    let (of_observed, of_drawn) = (of(&observed), [of(&drawn[0]), of(&drawn[1])]);

    let bins = stretches.bins();
    let bin_starts: Vec<i64> = stretches.bin_starts_ns().collect();
    let times_s: Vec<f64> = drawn[0].times_ns.iter().map(|&time| time as f64 * 1e-9).collect();
    let spike_units: Vec<i64> = numbers(&setup.unit_ids, &drawn[0].spike_units);
    let interval_ks = of_drawn[0].interval_distances(&of_observed);
    let write = || -> std::io::Result<Vec<u8>> {
        let mut file = ArrayWriter::default();
        file.add("spike_times", &[times_s.len()], Elements::F64(&times_s))?;
        file.add("spike_units", &[spike_units.len()], Elements::I64(&spike_units))?;
        file.add("unit_ids", &[units], Elements::Text(&setup.unit_ids))?;
        file.add("bin_start_ns", &[bins], Elements::I64(&bin_starts))?;
        file.add("expected_counts", &[bins, units], Elements::F32(&expected))?;
        file.add("sampled_counts", &[bins, units], Elements::U32(&drawn[0].counts))?;
        file.add("observed_counts", &[bins, units], Elements::U32(&observed.counts))?;
        file.add("seed", &[], Elements::I64(&[seed as i64]))?;
        file.add("interval_ks", &[units], Elements::F64(&interval_ks))?;
        for (name, of) in [("observed", &of_observed), ("sampled", &of_drawn[0])] {
            let mut per_unit =
                |what: &str, values: &[f64]| file.add(&format!("{name}_{what}"), &[units], Elements::F64(values));
            per_unit("rate_hz", &of.rate_hz)?;
            per_unit("fano_bin", &of.bin.fano)?;
            per_unit("fano_window", &of.window.fano)?;
            per_unit("interval_cv", &of.interval_cv)?;
            for (width, counts) in [("bin", &of.bin), ("window", &of.window)] {
                let name = format!("{name}_correlations_{width}");
                file.add(&name, &[units, units], Elements::F64(&counts.correlations))?;
            }
        }
        file.finish()
    };
    let bytes = write().map_err(|source| cannot_write(path, source))?;
    write_whole(path, &bytes)?;
    Ok(Some(SampleReport {
        seed,
        bins,
        stretches: stretches.numbers().last().map_or(0, |last| last + 1),
        observed: TrainSummary::from(&of_observed),
        sampled: TrainSummary::from(&of_drawn[0]),
        expected: ExpectedSummary::new(&stretches, &expected, &of_observed),
        sampled_to_observed: TrainDifference::new(&of_drawn[0], &of_observed),
        sampled_to_sampled: TrainDifference::new(&of_drawn[1], &of_drawn[0]),
    }))
}

/// The number in every spike's unit id, so that the file read as a recording has the same ids; units of other ids are counted.
fn numbers(ids: &[String], units: &[u32]) -> Vec<i64> {
    let number = |id: &String| {
        let number = id.strip_prefix("unit")?.parse::<u64>().ok()?;
        (unit_id(number) == *id).then_some(number as i64)
    };
    let named: Option<Vec<i64>> = ids.iter().map(number).collect();
    let numbers = named.unwrap_or_else(|| (0..ids.len() as i64).collect());
    units.iter().map(|&unit| numbers[unit as usize]).collect()
}

fn cannot_write(path: &std::path::Path, source: std::io::Error) -> CliError {
    CliError::System {
        what: format!("cannot write {}", path.display()),
        source,
    }
}
