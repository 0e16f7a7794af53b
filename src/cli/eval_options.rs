//! Flags that several commands on a recording share, and those of `neurohorizon eval` that say what baselines are fitted on and
//! which units are held out.

use std::path::PathBuf;
use std::str::FromStr;

use clap::Args;
use rand::seq::SliceRandom;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

use super::eval::EvalArgs;
use super::eval_setup::Setup;
use super::{CliError, ComputeArgs};
use crate::data::Position;
use crate::train::config::Part;

/// A checkpoint, a recording, and the part of it that is looked at, with intervals from a bootstrap.
#[derive(Debug, Args)]
pub struct LookedAtArgs {
    /// Checkpoint of a trained network
    pub checkpoint: PathBuf,
    /// Recording: .npz or .nwb
    pub recording: PathBuf,
    /// Which of the checkpoint's sessions the recording is of, where it knows several
    #[arg(long)]
    pub session: Option<String>,
    /// Go on although units that are named like the checkpoint's do not fire like them
    #[arg(long)]
    pub trust_units: bool,
    /// Compute the units' identities from this part of the recording, in place of looking them up
    #[arg(long, value_name = "FROM..TO", conflicts_with = "session")]
    pub identify: Option<Part>,
    /// Start of the scored interval, counted from the first spike: a fraction (0.8), a percentage (80%) or seconds (96s)
    #[arg(long, default_value = "0.8")]
    pub from: Position,
    /// End of the scored interval, in the same forms
    #[arg(long, default_value = "1")]
    pub to: Position,
    /// Resamples for the 95 % intervals; 0 for none
    #[arg(long, value_name = "N", default_value_t = 1000, value_parser = clap::value_parser!(u32).range(0..=100_000))]
    pub bootstrap: u32,
    /// Seed of the bootstrap
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
    #[command(flatten)]
    pub compute: ComputeArgs,
}

impl LookedAtArgs {
    /// Reads the files.
    ///
    /// # Errors
    /// As [`Setup::new`].
    pub fn setup(&self) -> Result<Setup, CliError> {
        Setup::new(&EvalArgs {
            session: self.session.clone(),
            trust_units: self.trust_units,
            identify: self.identify,
            from: self.from,
            to: self.to,
            seed: self.seed,
            compute: self.compute.clone(),
            ..EvalArgs::of(&self.checkpoint, &self.recording)
        })
    }
}

/// What baselines are fitted on, and the windows of an evaluation without a checkpoint.
#[derive(Debug, Args)]
pub struct FitArgs {
    /// Score baselines only, without a checkpoint
    #[arg(long)]
    pub baselines_only: bool,
    /// Start of what baselines are fitted on [default: the first spike]
    #[arg(long, value_name = "POSITION", conflicts_with = "fit_on")]
    pub fit_from: Option<Position>,
    /// End of what baselines are fitted on [default: where the scored interval begins]
    #[arg(long, value_name = "POSITION", conflicts_with = "fit_on")]
    pub fit_to: Option<Position>,
    /// Fit baselines on this recording instead; may be given again
    #[arg(long, value_name = "RECORDING")]
    pub fit_on: Vec<PathBuf>,
    /// Weight decay of the GLM [default: the one that predicts the last fifth of the fit interval best]
    #[arg(long, value_name = "DECAY", value_parser = weight_decay)]
    pub glm_weight_decay: Option<f32>,
    /// Width of a bin [default: 20]
    #[arg(long, value_name = "MS", requires = "baselines_only", value_parser = milliseconds)]
    pub bin_ms: Option<f64>,
    /// From the start of a window to its first predicted bin [default: 500]
    #[arg(long, value_name = "MS", requires = "baselines_only", value_parser = milliseconds)]
    pub history_ms: Option<f64>,
    /// Leave out units that fire less often [default: 0]
    #[arg(long, value_name = "HZ", requires = "baselines_only")]
    pub min_rate_hz: Option<f64>,
}

fn weight_decay(text: &str) -> Result<f32, String> {
    let decay = text.parse::<f32>().ok().filter(|decay| (0.0..=1_000.0).contains(decay));
    decay.ok_or_else(|| "a number from 0 to 1000 is expected".to_string())
}

fn milliseconds(text: &str) -> Result<f64, String> {
    let ms = text.parse::<f64>().ok().filter(|ms| (1.0..=1e6).contains(ms));
    ms.ok_or_else(|| "a time from 1 to 1000000 ms is expected".to_string())
}

/// Units that are scored without being seen.
#[derive(Debug, Clone, PartialEq)]
pub enum HeldOut {
    /// This part of them, drawn at random.
    Fraction(f64),
    /// These.
    Ids(Vec<String>),
}

impl FromStr for HeldOut {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.parse::<f64>() {
            Ok(fraction) if fraction > 0.0 && fraction < 1.0 => Ok(HeldOut::Fraction(fraction)),
            Ok(_) => Err(format!("{text:?} is neither a fraction between 0 and 1 nor unit ids")),
            Err(_) => Ok(HeldOut::Ids(text.split(',').map(|id| id.trim().to_string()).collect())),
        }
    }
}

impl HeldOut {
    /// Indices into `ids`, ascending; some units are left to be seen.
    pub fn select(&self, ids: &[String], seed: u64) -> Result<Vec<usize>, CliError> {
        let mut selected = match self {
            HeldOut::Fraction(fraction) => {
                let mut all: Vec<usize> = (0..ids.len()).collect();
                all.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
                all.truncate(((fraction * ids.len() as f64).round() as usize).max(1));
                all
            }
            HeldOut::Ids(held_out) => {
                let index = |id: &String| {
                    let found = ids.iter().position(|known| known == id);
                    found.ok_or_else(|| CliError::Config(format!("--held-out-units names {id:?}, which is not scored")))
                };
                held_out.iter().map(index).collect::<Result<_, _>>()?
            }
        };
        selected.sort_unstable();
        selected.dedup();
        if selected.len() >= ids.len() {
            let what = format!(
                "--held-out-units leaves none of the {} scored units to be seen",
                ids.len()
            );
            return Err(CliError::Config(what));
        }
        Ok(selected)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn held_out_units_are_a_fraction_or_ids() {
        let ids: Vec<String> = ["a", "b", "c", "d", "e"].map(str::to_string).to_vec();
        let select = |text: &str, seed| text.parse::<HeldOut>().expect("it is right").select(&ids, seed);
        assert_eq!(select("d, b,d", 0).unwrap(), [1, 3]);
        assert!(select("b,x", 0).unwrap_err().to_string().contains("\"x\""));
        assert!(select("a,b,c,d,e", 0)
            .unwrap_err()
            .to_string()
            .contains("5 scored units"));
        let drawn = select("0.4", 1).unwrap();
        assert!(drawn.len() == 2 && drawn == select("0.4", 1).unwrap());
        assert!((2..20).any(|seed| select("0.4", seed).unwrap() != drawn));
        assert_eq!(select("0.01", 0).unwrap().len(), 1);
        assert!("1.5".parse::<HeldOut>().is_err() && "0".parse::<HeldOut>().is_err());
    }
}
