//! Recordings in NumPy's `.npz` archives.
//!
//! Three layouts, told apart by the arrays that an archive has (N units, T bins, S spikes):
//!
//! | layout | arrays | optional |
//! |---|---|---|
//! | events | `spike_times` \[S\] (seconds; or integer ticks with `sampling_rate_hz`), `spike_units` \[S\] | `n_units`, `duration_s`; `P_time_s` \[n\] with `P_UNIT` \[n × channels\]; `P_times` |
//! | binned | `counts` \[T × N\], `bin_s` | `time_s` \[T\] (starts of the bins), `trial` \[T\], `bin_in_trial` \[T\], `target` \[T\]; any numeric array of T rows |
//! | trials | `spikes` \[conditions × repeats × bins × N\], `dt` | `rates_hz`, `latents`: \[conditions × bins × channels\] |
//!
//! A unit's id is `unit` and its number in four digits, as checkpoints write it ([`super::unit_id`]). In the events
//! layout the units are those of `spike_units`, or all of `0..n_units` where that is given. The last part of a
//! series' name states its unit: `hand_vel_m_s` is the series `hand_vel` in m/s.

use std::collections::BTreeMap;
use std::io::{Read, Seek};

use zip::ZipArchive;

use super::assemble::RawRecording;
use super::npy::NpyArray;
use super::{binned, events, DataError, LoadOptions, Recording};

/// Larger arrays are refused: deflate can make a thousand bytes of one, and no recording of counts or spike times
/// comes near.
const MAX_ARRAY_BYTES: u64 = 4 << 30;
const MAX_ARRAYS: usize = 1024;

/// Reads a recording from an archive; `name` stands for it in messages.
///
/// # Errors
/// [`DataError::Malformed`] naming the array, [`DataError::NoSpikes`].
pub fn read<R: Read + Seek>(name: &str, reader: R, options: &LoadOptions) -> Result<Recording, DataError> {
    let mut archive = Archive::open(name, reader)?;
    let mut raw = RawRecording::new(name);
    if archive.has("spike_times") {
        events::read(&mut archive, &mut raw)?;
    } else if archive.has("counts") {
        binned::read_counts(&mut archive, &mut raw, options)?;
    } else if archive.has("spikes") {
        binned::read_trial_tensor(&mut archive, &mut raw, options)?;
    } else {
        let found = archive.unread().join(", ");
        return Err(archive.fault(format!(
            "none of the arrays spike_times, counts and spikes, one of which every layout has, is among \"{found}\""
        )));
    }
    let unread = archive.unread();
    if !unread.is_empty() {
        raw.notes
            .push(format!("arrays that were not read: {}", unread.join(", ")));
    }
    raw.finish()
}

/// An archive whose arrays are taken one by one, and which knows what was left.
pub(super) struct Archive<R> {
    name: String,
    zip: ZipArchive<R>,
    /// Array name to index in the archive; an array that was taken is no longer here.
    unread: BTreeMap<String, usize>,
}

impl<R: Read + Seek> Archive<R> {
    pub fn open(name: &str, reader: R) -> Result<Archive<R>, DataError> {
        let fault = |what: String| DataError::malformed(name, what);
        let zip = ZipArchive::new(reader).map_err(|error| fault(format!("the zip archive is damaged: {error}")))?;
        if zip.len() > MAX_ARRAYS {
            return Err(fault(format!(
                "the archive has {} files; at most {MAX_ARRAYS} are read",
                zip.len()
            )));
        }
        let mut unread = BTreeMap::new();
        for index in 0..zip.len() {
            let file = zip
                .name_for_index(index)
                .and_then(Result::ok)
                .ok_or_else(|| fault(format!("file {index} of the archive has an unreadable name")))?;
            let array = file.strip_suffix(".npy").unwrap_or(&file).to_owned();
            if unread.insert(array.clone(), index).is_some() {
                return Err(fault(format!("the archive has the array {array} twice")));
            }
        }
        Ok(Archive {
            name: name.to_owned(),
            zip,
            unread,
        })
    }

    /// An error about this file.
    pub fn fault(&self, what: impl AsRef<str>) -> DataError {
        DataError::malformed(&self.name, what)
    }

    /// An error about one array; `what` continues the sentence ("has …", "is …").
    pub fn array_fault(&self, array: &str, what: impl std::fmt::Display) -> DataError {
        self.fault(format!("array {array} {what}"))
    }

    pub fn has(&self, array: &str) -> bool {
        self.unread.contains_key(array)
    }

    /// The names of the arrays not taken so far.
    pub fn unread(&self) -> Vec<String> {
        self.unread.keys().cloned().collect()
    }

    /// Takes an array that the layout requires.
    pub fn take(&mut self, array: &str) -> Result<NpyArray, DataError> {
        let index = self
            .unread
            .remove(array)
            .ok_or_else(|| self.fault(format!("array {array} is missing")))?;
        let bytes = self.bytes(array, index)?;
        NpyArray::parse(bytes).map_err(|what| self.array_fault(array, what))
    }

    /// Takes an array if it is there.
    pub fn take_optional(&mut self, array: &str) -> Result<Option<NpyArray>, DataError> {
        self.has(array).then(|| self.take(array)).transpose()
    }

    /// Takes a single number.
    pub fn take_scalar(&mut self, array: &str) -> Result<f64, DataError> {
        self.take(array)?.scalar().map_err(|what| self.array_fault(array, what))
    }

    fn bytes(&mut self, array: &str, index: usize) -> Result<Vec<u8>, DataError> {
        let name = &self.name;
        let damaged = |error: &dyn std::fmt::Display| {
            DataError::malformed(name, format!("array {array} cannot be unpacked: {error}"))
        };
        let file = self.zip.by_index(index).map_err(|error| damaged(&error))?;
        if file.size() > MAX_ARRAY_BYTES {
            return Err(damaged(&format_args!(
                "it says it has {} bytes, beyond 4 GiB",
                file.size()
            )));
        }
        // The stated size is only a claim, so it bounds the reading and not the first allocation.
        let mut bytes = Vec::new();
        file.take(MAX_ARRAY_BYTES)
            .read_to_end(&mut bytes)
            .map_err(|error| damaged(&error))?;
        Ok(bytes)
    }
}

/// Series name and unit from an array's name: `hand_vel_m_s` is `hand_vel` in m/s.
pub(super) fn name_and_unit(array: &str) -> (&str, &str) {
    const UNITS: [(&str, &str); 6] = [
        ("_m_s2", "m/s²"),
        ("_m_s", "m/s"),
        ("_m", "m"),
        ("_px", "px"),
        ("_hz", "Hz"),
        ("_n", "N"),
    ];
    UNITS
        .iter()
        .find_map(|(suffix, unit)| Some((array.strip_suffix(suffix)?, *unit)))
        .filter(|(name, _)| !name.is_empty())
        .unwrap_or((array, ""))
}
