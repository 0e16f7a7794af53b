//! `publish.latents` and `run --latents`: what of the network's latents is published.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::de::{Deserializer, Error as _};
use serde::Deserialize;

use super::CliError;
use crate::data::arrays::ArrayFile;
use crate::model::checkpoint::Checkpoint;
use crate::model::factors::{network_hash, Projection};
use crate::pipeline::latents::LatentsForm;

/// Arrays of a projection in the files of `eval --export`: `[D]`, `[K, D]`, and the network's hash.
pub const MEAN: &str = "latents_mean";
/// See [`MEAN`].
pub const PROJECTION: &str = "latents_projection";
/// See [`MEAN`]; 64 bits as a signed number.
pub const NETWORK_HASH: &str = "network_hash";

/// What of the latents is published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LatentsOption {
    /// Nothing.
    Off,
    /// All of the window.
    Full,
    /// The mean of those of its newest time.
    Newest,
    /// The same along the principal components in this file.
    Projected(PathBuf),
}

impl fmt::Display for LatentsOption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Off => write!(f, "off"),
            Self::Full => write!(f, "full"),
            Self::Newest => write!(f, "newest"),
            Self::Projected(path) => write!(f, "{}", path.display()),
        }
    }
}

impl FromStr for LatentsOption {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "off" => Ok(Self::Off),
            "full" => Ok(Self::Full),
            "newest" => Ok(Self::Newest),
            file if file.ends_with(".npz") => Ok(Self::Projected(file.into())),
            other => Err(format!(
                "latents are \"off\", \"full\", \"newest\" or an .npz file of `eval --export`, not {other:?}"
            )),
        }
    }
}

impl<'de> Deserialize<'de> for LatentsOption {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
    }
}

impl LatentsOption {
    /// The form that is published, if any.
    ///
    /// # Errors
    /// A file without a projection, or with one of another network than the checkpoint's.
    pub fn form(&self, checkpoint: &Checkpoint) -> Result<Option<LatentsForm>, CliError> {
        let path = match self {
            Self::Off => return Ok(None),
            Self::Full => return Ok(Some(LatentsForm::Full)),
            Self::Newest => return Ok(Some(LatentsForm::Newest)),
            Self::Projected(path) => path,
        };
        let mut file = ArrayFile::open(path)?;
        let (_, mean) = file.take_f32(MEAN, 1)?;
        let (shape, directions) = file.take_f32(PROJECTION, 2)?;
        let projection = Projection {
            network_hash: file.take_whole_number(NETWORK_HASH)? as u64,
            mean,
            directions,
        };
        if shape[0] == 0 || shape[1] != projection.mean.len() {
            let channels = projection.mean.len();
            return Err(self.fault(format!(
                "array {PROJECTION} has shape {shape:?} beside {channels} channels of {MEAN}"
            )));
        }
        if projection.network_hash != network_hash(checkpoint) {
            return Err(self.fault(
                "the projection was computed from the latents of another network: `eval --export` with this checkpoint makes \
                 one"
                .into(),
            ));
        }
        Ok(Some(LatentsForm::Projected(projection)))
    }

    /// An error about this option.
    pub fn fault(&self, what: String) -> CliError {
        CliError::Config(match self {
            Self::Projected(path) => format!("{}: {what}", path.display()),
            _ => format!("publish.latents: {what}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_option_says_what_there_is() {
        assert_eq!("full".parse(), Ok(LatentsOption::Full));
        assert_eq!("a/b.npz".parse(), Ok(LatentsOption::Projected("a/b.npz".into())));
        let error = "projected".parse::<LatentsOption>().unwrap_err();
        assert!(
            error.contains("\"newest\"") && error.contains("\"projected\""),
            "{error}"
        );
    }
}
