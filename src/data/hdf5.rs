//! The boundary to the HDF5 library: the few questions that the NWB reader asks of a file.
//!
//! A damaged file may ask the library for anything. Here sizes are bounded before they are allocated, and a panic
//! inside the library becomes an error, so that nothing but an error ever leaves this module.

use std::panic::{catch_unwind, AssertUnwindSafe};
use std::path::Path;

use hdf5_pure::{AttrValue, Dataset, File, Group, VlenStringReadOptions};

/// More elements than this in one dataset are not a table of spikes or a behavioural series.
const MAX_ELEMENTS: u64 = 1 << 28;
/// Deflate at its best makes 1032 bytes of one; a dataset larger than that many times its file is a false claim.
const MAX_EXPANSION: u64 = 1032;
const MAX_TEXT_BYTES: usize = 1 << 24;

/// An open file; paths start at the root and are written without a leading slash.
pub(super) struct Hdf5File {
    file: File,
    file_bytes: u64,
}

/// What a group holds, by name.
pub(super) struct Members {
    pub groups: Vec<String>,
    pub datasets: Vec<String>,
}

impl Members {
    pub fn has_dataset(&self, name: &str) -> bool {
        self.datasets.iter().any(|dataset| dataset == name)
    }
}

impl Hdf5File {
    /// Opens a file without reading it whole.
    pub fn open(path: &Path) -> Result<Hdf5File, String> {
        let file = guarded("the file", || File::open_streaming(path))?;
        let file_bytes = guarded("the file", || Ok(file.file_size()))?;
        Ok(Hdf5File { file, file_bytes })
    }

    /// A file in memory.
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Hdf5File, String> {
        let file_bytes = bytes.len() as u64;
        Ok(Hdf5File {
            file: guarded("the file", || File::from_bytes(bytes))?,
            file_bytes,
        })
    }

    /// What the group at `path` holds; none if there is no such group.
    pub fn members(&self, path: &str) -> Result<Option<Members>, String> {
        let Some(group) = self.group(path)? else {
            return Ok(None);
        };
        guarded(path, || {
            Ok(Some(Members {
                groups: group.groups()?,
                datasets: group.datasets()?,
            }))
        })
    }

    fn group(&self, path: &str) -> Result<Option<Group>, String> {
        let mut group = guarded("the root group", || Ok(self.file.root()))?;
        for name in path.split('/').filter(|name| !name.is_empty()) {
            if !guarded(path, || group.groups())?.iter().any(|known| known == name) {
                return Ok(None);
            }
            group = guarded(path, || group.group(name))?;
        }
        Ok(Some(group))
    }

    /// The sizes of a dataset's dimensions; empty for a scalar.
    pub fn shape(&self, path: &str) -> Result<Vec<usize>, String> {
        let shape = guarded(path, || self.file.dataset(path)?.shape())?;
        shape
            .into_iter()
            .map(|n| usize::try_from(n).map_err(|_| format!("{path} has a dimension of {n}")))
            .collect()
    }

    /// Whether a dataset's elements are integers.
    pub fn is_integer(&self, path: &str) -> Result<bool, String> {
        use hdf5_pure::DType::{I16, I32, I64, I8, U16, U32, U64, U8};
        let dtype = guarded(path, || self.file.dataset(path)?.dtype())?;
        Ok(matches!(dtype, I8 | I16 | I32 | I64 | U8 | U16 | U32 | U64))
    }

    /// All elements of a numeric dataset as 64-bit floats, row-major.
    pub fn f64s(&self, path: &str) -> Result<Vec<f64>, String> {
        self.read(path, Dataset::read_f64)
    }

    /// All elements of an integer dataset.
    pub fn i64s(&self, path: &str) -> Result<Vec<i64>, String> {
        self.read(path, Dataset::read_i64)
    }

    /// All elements of a dataset of strings.
    pub fn strings(&self, path: &str) -> Result<Vec<String>, String> {
        let limits = VlenStringReadOptions::new()
            .with_max_elements(1 << 20)
            .with_max_payload_bytes(MAX_TEXT_BYTES);
        self.read(path, |dataset| match dataset.dtype()? {
            hdf5_pure::DType::VariableLengthString => dataset.read_vlen_strings(limits),
            _ => dataset.read_string(),
        })
    }

    /// A dataset's attribute as a number; none if it is absent or no number.
    pub fn number_attribute(&self, path: &str, name: &str) -> Result<Option<f64>, String> {
        let attributes = guarded(path, || self.file.dataset(path)?.attrs())?;
        Ok(match attributes.get(name) {
            Some(AttrValue::F32(value)) => Some(f64::from(*value)),
            Some(AttrValue::F64(value)) => Some(*value),
            Some(AttrValue::I32(value)) => Some(f64::from(*value)),
            Some(AttrValue::I64(value)) => Some(*value as f64),
            Some(AttrValue::U32(value)) => Some(f64::from(*value)),
            Some(AttrValue::U64(value)) => Some(*value as f64),
            _ => None,
        })
    }

    /// A dataset's attribute as text; none if it is absent or no text.
    pub fn text_attribute(&self, path: &str, name: &str) -> Result<Option<String>, String> {
        let mut attributes = guarded(path, || self.file.dataset(path)?.attrs())?;
        Ok(match attributes.remove(name) {
            Some(AttrValue::String(text) | AttrValue::AsciiString(text)) => Some(text),
            Some(AttrValue::VarLenString(text) | AttrValue::VarLenAsciiString(text)) => Some(text),
            Some(AttrValue::StringSized { value, .. } | AttrValue::AsciiStringSized { value, .. }) => Some(value),
            _ => None,
        })
    }

    fn read<T>(
        &self,
        path: &str,
        read: impl FnOnce(&Dataset) -> Result<Vec<T>, hdf5_pure::Error>,
    ) -> Result<Vec<T>, String> {
        let dataset = guarded(path, || self.file.dataset(path))?;
        let (shape, element_bytes) = guarded(path, || Ok((dataset.shape()?, dataset.element_size()?)))?;
        let elements = shape.iter().try_fold(1u64, |product, &n| product.checked_mul(n));
        let bound = self.file_bytes.saturating_mul(MAX_EXPANSION);
        match elements {
            Some(n) if n <= MAX_ELEMENTS && n.saturating_mul(element_bytes) <= bound => {}
            _ => {
                return Err(format!(
                    "{path} claims the shape {shape:?}, which does not fit into this file"
                ))
            }
        }
        let values = guarded(path, || read(&dataset))?;
        match elements {
            Some(n) if n == values.len() as u64 => Ok(values),
            _ => Err(format!("{path} has the shape {shape:?} but {} elements", values.len())),
        }
    }
}

/// The library's answer, with its errors and its panics as sentences about `path`.
fn guarded<T>(path: &str, ask: impl FnOnce() -> Result<T, hdf5_pure::Error>) -> Result<T, String> {
    // A panic leaves nothing behind that is used again: every caller gives the file up on the first error.
    match catch_unwind(AssertUnwindSafe(ask)) {
        Ok(Ok(answer)) => Ok(answer),
        Ok(Err(error)) => Err(format!("{path} cannot be read: {error}")),
        Err(_) => Err(format!("{path} cannot be read: the HDF5 structure is damaged")),
    }
}
