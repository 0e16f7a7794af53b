//! `neurohorizon train`: from recordings to a checkpoint.

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::compute::{Compute, Device, Weights};
use super::{signals, CliError};
use crate::evaluate::behaviour::Decoded;
use crate::model::checkpoint::{Checkpoint, Stored};
use crate::train::config::{JudgedBy, TrainConfig};
use crate::train::display::{Display, Validation};
use crate::train::learner::learners;
use crate::train::set_up::training_set;
use crate::train::state::write_whole;
use crate::train::trainer::{Ending, Event, Trainer, BEST, LAST};
use crate::train::TrainError;

/// Train a network on recordings
///
/// Writes best.safetensors (the weights of the best validation), last.safetensors (to go on from) and log.jsonl (loss and
/// validations) to the output folder. An interrupt saves the state and ends; --resume goes on with the same bits.
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  neurohorizon train configs/train-neuropixels.toml\n  \
                        neurohorizon train my.toml --out trained/second --seed 2\n  \
                        neurohorizon train my.toml --resume")]
pub struct TrainArgs {
    /// Configuration (see configs/train-*.toml)
    config: PathBuf,
    /// Output folder, in place of training.out
    #[arg(long)]
    out: Option<PathBuf>,
    /// Optimiser steps, in place of training.steps
    #[arg(long)]
    steps: Option<u64>,
    /// Seed, in place of training.seed
    #[arg(long)]
    seed: Option<u64>,
    /// What computes, in place of training.device; on another one the bits are others
    #[arg(long, value_enum)]
    device: Option<Device>,
    /// Threads of the CPU, in place of training.threads
    #[arg(long)]
    threads: Option<usize>,
    /// Go on from the output folder's last.safetensors
    #[arg(long)]
    resume: bool,
    /// Write over what an earlier training left in the output folder
    #[arg(long, conflicts_with = "resume")]
    overwrite: bool,
    /// Also write the best weights, matrices in FP16, to this file
    #[arg(long, value_name = "FILE")]
    export_f16: Option<PathBuf>,
    /// No progress
    #[arg(long)]
    quiet: bool,
}

/// Runs the subcommand.
pub fn run(args: &TrainArgs) -> Result<ExitCode, CliError> {
    let mut config = TrainConfig::load(&args.config)?;
    if let Some(out) = &args.out {
        config.training.out.clone_from(out);
    }
    config.training.steps = args.steps.unwrap_or(config.training.steps);
    config.training.seed = args.seed.unwrap_or(config.training.seed);
    if let Some(device) = args.device {
        let compute = Compute::new(device, Some(Weights::F32))?;
        compute.tell();
        config.training.device = compute.backend;
    }
    config.training.threads = args.threads.unwrap_or(config.training.threads);
    config.check().map_err(CliError::Config)?;
    let earlier = [LAST, BEST]
        .map(|file| config.training.out.join(file))
        .into_iter()
        .find(|file| file.exists());
    if let (Some(file), false, false) = (&earlier, args.resume, args.overwrite) {
        return Err(CliError::Config(format!(
            "{} is there already, from an earlier training: go on with it by --resume, write over it by --overwrite, or \
             name another folder by --out",
            file.display()
        )));
    }
    let learners = learners(&config, config.training.device)?;
    let (set, data_hash) = training_set(&config)?;
    let (out, steps) = (config.training.out.clone(), config.training.steps);
    if !args.quiet {
        introduce(&config, &set);
    }
    let mut trainer = Trainer::new(config, set, data_hash, learners, args.resume)?;
    let (stop, impatient) = signals::catch()?;
    let log_file = |source| TrainError::Write {
        path: out.join("log.jsonl"),
        source,
    };
    std::fs::create_dir_all(&out).map_err(log_file)?;
    let mut log = std::fs::OpenOptions::new()
        .create(true)
        .write(true)
        .append(args.resume)
        .truncate(!args.resume)
        .open(out.join("log.jsonl"))
        .map_err(log_file)?;
    let mut display = Display::new(steps, args.quiet);
    let mut log_failed = None;
    let outcome = trainer.run(&stop, &mut |event| {
        if stop.load(std::sync::atomic::Ordering::Relaxed) {
            impatient.store(true, std::sync::atomic::Ordering::Relaxed);
        }
        if let Err(error) = writeln!(log, "{}", logged(event)) {
            log_failed.get_or_insert(error);
        }
        match event {
            Event::Step {
                step,
                loss,
                learning_rate,
                ..
            } => {
                display.step(*step, *loss, *learning_rate);
            }
            Event::Validated { step, score, best, .. } => {
                let validation = Validation {
                    bits_per_spike: score.bits_per_spike,
                    loss: score.loss,
                    readouts: readouts_text(&score.readouts),
                    best: *best,
                };
                display.validated(*step, &validation);
            }
        }
    });
    display.finish();
    let outcome = outcome?;
    if let Some(error) = log_failed {
        eprintln!("note: {}", log_file(error));
    }
    match outcome.ending {
        Ending::Stopped => {
            say!(
                "stopped after step {}; go on with --resume from {}",
                outcome.step,
                out.join(LAST).display()
            );
        }
        Ending::Finished => say!("trained for {} steps", outcome.step),
        Ending::Patience => say!("ended after step {}: no better validation for a while", outcome.step),
    }
    match (&outcome.checkpoint, outcome.best) {
        (Some(path), Some(best)) => {
            let judged_by = match outcome.judged_by {
                JudgedBy::Spikes => "bits per spike, generated",
                JudgedBy::Behaviour => "mean R² (of classes: share right) of what is read out",
            };
            say!("best validation {best:.5} {judged_by}: {}", path.display());
        }
        (Some(path), None) => say!("nothing to validate on; the latest weights: {}", path.display()),
        (None, _) => say!("not validated yet, so that no weights are the best so far"),
    }
    if let Some(path) = &args.export_f16 {
        let Some(best) = &outcome.checkpoint else {
            return Err(CliError::Config(format!(
                "{} was not written: training ended before its first validation",
                path.display()
            )));
        };
        let bytes = Checkpoint::load(best)?.to_safetensors(Stored::F16)?;
        write_whole(path, &bytes)?;
        say!("in FP16, {} bytes: {}", bytes.len(), path.display());
    }
    Ok(ExitCode::SUCCESS)
}

/// What is trained on what.
fn introduce(config: &TrainConfig, set: &crate::train::sampler::TrainingSet) {
    let seconds = |of: &dyn Fn(&crate::train::sampler::TrainingRecording) -> &Vec<crate::data::Interval>| -> f64 {
        let stretches = set.recordings().iter().flat_map(of);
        stretches.map(|stretch| stretch.duration_ns() as f64 * 1e-9).sum()
    };
    eprintln!(
        "{} units of {} sessions; {:.1} s to learn from, {:.1} s to be judged by; {} bins of {} ms ahead of {} ms",
        set.unit_ids().len(),
        set.sessions().len(),
        seconds(&|recording| &recording.training),
        seconds(&|recording| &recording.validation),
        config.model.horizon_bins,
        config.model.bin_ms,
        config.model.history_ms,
    );
    for recording in set.recordings() {
        recording
            .recording
            .notes
            .iter()
            .for_each(|note| eprintln!("note: {}: {note}", recording.recording.name));
    }
}

/// R² by channel, or the share of classes that are right.
fn readouts_text(readouts: &[Decoded]) -> String {
    let text = |decoded: &Decoded| {
        let r2: Vec<String> = decoded.r2.iter().map(|r2| format!("{:.3}", r2.value)).collect();
        match (decoded.score, r2.is_empty()) {
            (None, _) => String::new(),
            (Some(score), true) => format!(", {} {:.1} % right", decoded.series, 100.0 * score.value),
            (Some(_), false) => format!(", {} R² {}", decoded.series, r2.join(" ")),
        }
    };
    readouts.iter().map(text).collect()
}

fn logged(event: &Event) -> serde_json::Value {
    match event {
        Event::Step {
            step,
            loss,
            readout_loss,
            learning_rate,
            gradient_norm,
        } => json!({
            "step": step,
            "loss": loss,
            "readout_loss": readout_loss,
            "learning_rate": learning_rate,
            "gradient_norm": gradient_norm,
        }),
        Event::Validated {
            step,
            score,
            criterion,
            best,
        } => json!({
            "step": step,
            "bits_per_spike": score.bits_per_spike,
            "by_bin": score.by_bin,
            "validation_loss": score.loss,
            "readouts": score.readouts,
            "criterion": criterion,
            "best": best,
        }),
    }
}
