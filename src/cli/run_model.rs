//! From the configuration to a predictor.

use std::time::Duration;

use super::latents_option::LatentsOption;
use super::run_config::{ms_to_ns, CalibrateSection, ModelSection};
use super::run_source::{Before, SourceFacts};
use super::{CliError, Compute, Device};
use crate::model::checkpoint::Checkpoint;
use crate::model::identity::{set_refine, unidentified};
use crate::model::{BuildError, BuildOptions, UnitMatch};
use crate::pipeline::behaviour::Behaviour;
use crate::pipeline::calibrate::Calibration;
use crate::pipeline::latents::Latents;
use crate::pipeline::network::NetworkPredictor;
use crate::pipeline::predictor::{MeanRate, WindowShape};
use crate::pipeline::{NullModel, Predictor};

/// Bins that the mean-rate model predicts unless told otherwise.
const MEAN_RATE_BINS: usize = 12;

/// A predictor and the null model that its bits per spike are counted against.
pub struct BuiltPredictor {
    /// The predictor.
    pub predictor: Box<dyn Predictor>,
    /// Its null model, in the order of its units.
    pub null: NullModel,
}

/// The checkpoint that the configuration names, if any.
///
/// # Errors
/// Where it cannot be read.
pub fn load_checkpoint(section: &ModelSection) -> Result<Option<Checkpoint>, CliError> {
    Ok(section.checkpoint.as_deref().map(Checkpoint::load).transpose()?)
}

/// Bin width, ns: the checkpoint's, or what the configuration asks of the mean-rate model.
///
/// # Errors
/// Where it is out of range.
pub fn bin_ns(section: &ModelSection, checkpoint: Option<&Checkpoint>) -> Result<i64, CliError> {
    match checkpoint {
        Some(checkpoint) => Ok((checkpoint.config.bin_size * 1e9).round() as i64),
        None => ms_to_ns("model.bin_ms", section.bin_ms, 0.1),
    }
}

/// The predictor that the configuration asks for, for the source's units. The null model is the checkpoint's, or the
/// source's mean rates where it has none. `before` is where recent history begins.
///
/// # Errors
/// Where a number of the configuration is out of its range or the checkpoint does not fit the source.
pub fn build_predictor(
    section: &ModelSection,
    latents: &LatentsOption,
    checkpoint: Option<&Checkpoint>,
    source: &SourceFacts,
    before: Option<&Before>,
) -> Result<BuiltPredictor, CliError> {
    if !(1..=100_000_000).contains(&section.max_spikes) {
        return Err(CliError::Config(format!(
            "model.max_spikes = {} is not in 1–100000000",
            section.max_spikes
        )));
    }
    match checkpoint {
        Some(checkpoint) => network(section, latents, checkpoint, source, before),
        None if *latents != LatentsOption::Off => Err(CliError::Config(
            "publish.latents (--latents) needs a network: model.checkpoint (--checkpoint)".into(),
        )),
        None => mean_rate(section, source),
    }
}

fn network(
    section: &ModelSection,
    latents: &LatentsOption,
    checkpoint: &Checkpoint,
    source: &SourceFacts,
    before: Option<&Before>,
) -> Result<BuiltPredictor, CliError> {
    let ids = &source.unit_ids[..];
    let calibration = section
        .calibrate
        .map(|section| calibration_wanted(section, source.in_step));
    let calibration = calibration.transpose()?;
    let log_rates: Vec<f32> = source.mean_log_rates.iter().map(|&rate| rate as f32).collect();
    let unidentified = match section.calibrate {
        Some(section) => {
            let mut unknown = unidentified(checkpoint, &source.name, ids, &log_rates)?;
            set_refine(&mut unknown, section.refine)?;
            Some(unknown)
        }
        None => None,
    };
    let checkpoint = unidentified.as_ref().unwrap_or(checkpoint);
    let patience_ns = ms_to_ns("model.device_patience_ms", section.device_patience_ms, 1.0)?;
    let options = |compute: &Compute| BuildOptions {
        backend: compute.backend,
        precision: compute.precision,
        patience: Duration::from_nanos(patience_ns as u64),
        threads: section.threads,
        cores: section.cores.clone(),
        bins: section.horizon_bins,
        max_spikes: section.max_spikes,
        session: section.session.clone(),
    };
    let name = section
        .checkpoint
        .as_deref()
        .map_or(String::new(), |path| path.display().to_string());
    let mut compute = Compute::new(section.device, section.weights)?;
    let mut built = NetworkPredictor::new(checkpoint, &name, ids, &options(&compute));
    if let (Device::Auto, Err(error @ (BuildError::Device(_) | BuildError::OddHeads { .. }))) = (section.device, &built)
    {
        compute = Compute::instead_of_gpu(section.weights, error);
        built = NetworkPredictor::new(checkpoint, &name, ids, &options(&compute));
    }
    let mut predictor = built?.observed_in(&source.observed);
    let matched = UnitMatch::new(checkpoint, ids, section.session.as_deref())?;
    match before {
        Some(Before::Recorded(before)) => {
            predictor.go_through(&before.of_units(&matched.model_unit), before.until_ns);
        }
        Some(Before::RecentHistory(state)) if !predictor.take_up(state) => {
            return Err(CliError::Config(
                "the recorded run's recent history is not of this network's shape".into(),
            ))
        }
        _ => {}
    }
    if let Some(wanted) = calibration {
        predictor = predictor.calibrate(checkpoint, wanted)?;
    }
    if let Some(form) = latents.form(checkpoint)? {
        let latents = Latents::new(predictor.network(), form).map_err(|what| latents.fault(what))?;
        predictor = predictor.with_output(Box::new(latents));
    }
    let behaviour: Vec<Behaviour> = Behaviour::all(predictor.network()).collect();
    for task in behaviour {
        predictor = predictor.with_output(Box::new(task));
    }
    compute.tell();
    // A device's rates are not known before the run.
    if !section.trust_units && calibration.is_none() && !source.are_devices {
        let known = source.mean_log_rates.iter().zip(&matched.model_unit);
        let known: Vec<f64> = known
            .filter(|(_, unit)| unit.is_some())
            .map(|(&rate, _)| rate)
            .collect();
        matched.check_rates(checkpoint, &known)?;
    }
    let log_rates = match matched.null_log_rates(checkpoint) {
        Some(rates) => rates.into_iter().map(f64::from).collect(),
        None => {
            let known = source.mean_log_rates.iter().zip(&matched.model_unit);
            known
                .filter(|(_, unit)| unit.is_some())
                .map(|(&rate, _)| rate)
                .collect()
        }
    };
    let last_bin_ns = predictor.last_bin_ns();
    Ok(BuiltPredictor {
        predictor: Box::new(predictor),
        null: NullModel { log_rates, last_bin_ns },
    })
}

fn calibration_wanted(section: CalibrateSection, in_step: bool) -> Result<Calibration, CliError> {
    let CalibrateSection {
        reference_s, every_s, ..
    } = section;
    for (key, value) in [("reference_s", Some(reference_s)), ("every_s", every_s)] {
        if value.is_some_and(|seconds| !(0.1..=3600.0).contains(&seconds)) {
            return Err(CliError::Config(format!(
                "model.calibrate.{key} = {} is not in 0.1–3600",
                value.unwrap_or_default()
            )));
        }
    }
    Ok(Calibration {
        reference_s,
        every_s,
        in_step,
    })
}

fn mean_rate(section: &ModelSection, source: &SourceFacts) -> Result<BuiltPredictor, CliError> {
    let shape = WindowShape {
        bin_ns: bin_ns(section, None)?,
        history_ns: ms_to_ns("model.history_ms", section.history_ms, 0.1)?,
        horizon_bins: section.horizon_bins.unwrap_or(MEAN_RATE_BINS),
        max_spikes: section.max_spikes,
    };
    if !(1..=1_000).contains(&shape.horizon_bins) {
        return Err(CliError::Config(format!(
            "model.horizon_bins = {} is not in 1–1000",
            shape.horizon_bins
        )));
    }
    let ids = source.unit_ids.clone();
    let predictor = MeanRate::new(ids, shape, &source.mean_log_rates, &source.means_from)?;
    Ok(BuiltPredictor {
        predictor: Box::new(predictor),
        null: NullModel {
            log_rates: source.mean_log_rates.clone(),
            last_bin_ns: shape.bin_ns,
        },
    })
}
