//! Recordings on disk; one type [`Recording`] for all of them.
//!
//! [`Recording::load`] looks at a file's first bytes and reads it as an `.npz` archive (the layouts are described at
//! [`npz`]) or as an NWB file ([`nwb`]). Everything that a reader changed or left out is listed in
//! [`Recording::notes`]; everything that it cannot make sense of is a [`DataError`] of one sentence.
//!
//! | in the file | what happens |
//! |---|---|
//! | a spike time that is not finite, or beyond ±4·10⁹ s | error that names its index |
//! | spike times out of order | stably sorted by time, counted in the notes |
//! | negative spike times | kept (time zero is the file's own), counted in the notes |
//! | a spike of a unit outside the declared units | error that names its index |
//! | spikes outside the observed intervals | kept, counted in the notes |
//! | no spikes at all | [`DataError::NoSpikes`] |
//! | arrays that no part of a layout asks for | named in the notes |

use std::io::{Cursor, Read};
use std::path::{Path, PathBuf};

pub mod arrays;
mod assemble;
mod binned;
mod events;
mod grid;
mod hdf5;
mod interval;
mod npy;
pub mod npz;
pub mod nwb;
mod nwb_tables;
mod recording;
#[cfg(test)]
mod tests;
mod time;

pub use grid::Position;
pub use interval::{Interval, Split};
pub use recording::{Epoch, Recording, Series, Trial};
pub use time::{ns_to_seconds, seconds_to_ns, NS_PER_S};

/// Why a recording could not be read; each is one sentence that names the file and, inside it, the array or table.
#[derive(Debug, thiserror::Error)]
pub enum DataError {
    /// The operating system could not open or read the file.
    #[error("cannot read {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: std::io::Error,
    },
    /// The first bytes are those of no format that is read here.
    #[error("{name} is neither an npz archive (zip) nor an NWB file (HDF5)")]
    UnknownFormat {
        /// The file's name.
        name: String,
    },
    /// The file is of a known format, and its contents are damaged or not a recording.
    #[error("{name}: {what}")]
    Malformed {
        /// The file's name.
        name: String,
        /// What is wrong with which array.
        what: String,
    },
    /// The recording is well formed, and empty.
    #[error("{name} holds no spikes")]
    NoSpikes {
        /// The recording's name.
        name: String,
    },
    /// A question to a recording that it cannot answer, such as an unknown unit or an empty split.
    #[error("{0}")]
    Selection(String),
}

impl DataError {
    fn malformed(name: &str, what: impl AsRef<str>) -> DataError {
        DataError::Malformed {
            name: name.to_owned(),
            what: one_line(what.as_ref()),
        }
    }
}

/// A sentence that quotes a damaged file, without the line breaks and other control characters it may have quoted.
fn one_line(text: &str) -> String {
    let escaped = |c: char| {
        if c.is_control() {
            c.escape_default().collect()
        } else {
            String::from(c)
        }
    };
    text.chars().map(escaped).collect()
}

/// Choices in reading a recording.
#[derive(Debug, Clone, Default)]
pub struct LoadOptions {
    /// Seed of the spike times drawn inside the bins of a file that holds only counts.
    pub spread_seed: u64,
}

const ZIP_MAGIC: [&[u8]; 2] = [b"PK\x03\x04", b"PK\x05\x06"];
const HDF5_MAGIC: &[u8] = b"\x89HDF\r\n\x1a\n";

impl Recording {
    /// Reads a recording; the format is told from the file's contents, not from its name.
    ///
    /// # Errors
    /// [`DataError`]; see the table in the [module documentation](self).
    pub fn load(path: impl AsRef<Path>) -> Result<Recording, DataError> {
        Recording::load_with(path, &LoadOptions::default())
    }

    /// [`Recording::load`] with choices.
    ///
    /// # Errors
    /// As [`Recording::load`].
    pub fn load_with(path: impl AsRef<Path>, options: &LoadOptions) -> Result<Recording, DataError> {
        let path = path.as_ref();
        let unreadable = |source| DataError::Read {
            path: path.to_path_buf(),
            source,
        };
        let name = path.display().to_string();
        let mut file = std::fs::File::open(path).map_err(unreadable)?;
        let mut magic = Vec::with_capacity(HDF5_MAGIC.len());
        file.by_ref()
            .take(HDF5_MAGIC.len() as u64)
            .read_to_end(&mut magic)
            .map_err(unreadable)?;
        match Format::of(&magic) {
            Some(Format::Npz) => {
                let file = std::fs::File::open(path).map_err(unreadable)?;
                npz::read(&name, std::io::BufReader::new(file), options)
            }
            Some(Format::Nwb) => nwb::read_path(&name, path),
            None => Err(DataError::UnknownFormat { name }),
        }
    }

    /// Reads a recording from memory; `name` stands for it in messages.
    ///
    /// # Errors
    /// As [`Recording::load`].
    pub fn from_bytes(name: &str, bytes: &[u8], options: &LoadOptions) -> Result<Recording, DataError> {
        match Format::of(bytes) {
            Some(Format::Npz) => npz::read(name, Cursor::new(bytes), options),
            Some(Format::Nwb) => nwb::read_bytes(name, bytes.to_vec()),
            None => Err(DataError::UnknownFormat { name: name.to_owned() }),
        }
    }
}

enum Format {
    Npz,
    Nwb,
}

impl Format {
    fn of(first_bytes: &[u8]) -> Option<Format> {
        if ZIP_MAGIC.iter().any(|magic| first_bytes.starts_with(magic)) {
            Some(Format::Npz)
        } else if first_bytes.starts_with(HDF5_MAGIC) {
            Some(Format::Nwb)
        } else {
            None
        }
    }
}

/// The unit id of a cluster number, as checkpoints write it: cluster 7 is `unit0007`.
pub fn unit_id(cluster: u64) -> String {
    format!("unit{cluster:04}")
}
