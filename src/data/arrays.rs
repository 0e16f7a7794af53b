//! Archives of named arrays that are no recordings: NumPy's `.npz`, written and read.
//!
//! Written archives are the same bytes for the same arrays: nothing in them tells of the time. `numpy.load` reads every array
//! without `allow_pickle`.

use std::fs::File;
use std::io::{BufReader, Cursor, Write};
use std::path::Path;

use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, ZipWriter};

use super::npy::NpyArray;
use super::npz::Archive;
use super::DataError;

/// NumPy puts elements at multiples of this many bytes.
const ALIGNMENT: usize = 64;
/// Before the header's text: magic, version and its length.
const BEFORE_TEXT: usize = 10;

/// Elements of an array.
#[derive(Debug, Clone, Copy)]
pub enum Elements<'a> {
    /// `<f4`
    F32(&'a [f32]),
    /// `<f8`
    F64(&'a [f64]),
    /// `<u4`
    U32(&'a [u32]),
    /// `<i8`
    I64(&'a [i64]),
    /// `<u8`
    U64(&'a [u64]),
    /// `<U…`, as long as the longest.
    Text(&'a [String]),
}

impl Elements<'_> {
    fn count(&self) -> usize {
        match self {
            Elements::F32(x) => x.len(),
            Elements::F64(x) => x.len(),
            Elements::U32(x) => x.len(),
            Elements::I64(x) => x.len(),
            Elements::U64(x) => x.len(),
            Elements::Text(x) => x.len(),
        }
    }

    /// NumPy's name of the type, and the elements as bytes.
    fn encode(&self) -> (String, Vec<u8>) {
        match self {
            Elements::F32(x) => ("<f4".into(), x.iter().flat_map(|x| x.to_le_bytes()).collect()),
            Elements::F64(x) => ("<f8".into(), x.iter().flat_map(|x| x.to_le_bytes()).collect()),
            Elements::U32(x) => ("<u4".into(), x.iter().flat_map(|x| x.to_le_bytes()).collect()),
            Elements::I64(x) => ("<i8".into(), x.iter().flat_map(|x| x.to_le_bytes()).collect()),
            Elements::U64(x) => ("<u8".into(), x.iter().flat_map(|x| x.to_le_bytes()).collect()),
            Elements::Text(texts) => {
                // NumPy has no texts of no characters.
                let longest = texts.iter().map(|text| text.chars().count()).max().unwrap_or(0).max(1);
                let mut bytes = Vec::with_capacity(4 * longest * texts.len());
                for text in *texts {
                    let padded = text.chars().map(u32::from).chain(std::iter::repeat(0)).take(longest);
                    padded.for_each(|c| bytes.extend_from_slice(&c.to_le_bytes()));
                }
                (format!("<U{longest}"), bytes)
            }
        }
    }
}

/// An archive in memory that arrays are added to.
pub struct ArrayWriter(ZipWriter<Cursor<Vec<u8>>>);

impl Default for ArrayWriter {
    fn default() -> Self {
        Self(ZipWriter::new(Cursor::new(Vec::new())))
    }
}

impl ArrayWriter {
    /// Adds an array of this shape, in C order; no size makes a single number.
    ///
    /// # Errors
    /// A name that is there already.
    ///
    /// # Panics
    /// If the elements are not as many as the shape says.
    pub fn add(&mut self, name: &str, shape: &[usize], elements: Elements<'_>) -> std::io::Result<()> {
        assert_eq!(shape.iter().product::<usize>(), elements.count(), "{name} {shape:?}");
        let (descr, bytes) = elements.encode();
        let sizes: String = shape.iter().map(|size| format!("{size},")).collect();
        let mut text = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({sizes}), }}");
        // Spaces and a line's end fill up to where elements may begin.
        let length = (BEFORE_TEXT + text.len() + 1).next_multiple_of(ALIGNMENT) - BEFORE_TEXT;
        text += &" ".repeat(length - 1 - text.len());
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Stored)
            .large_file(bytes.len() > i32::MAX as usize);
        self.0.start_file(format!("{name}.npy"), options)?;
        self.0.write_all(b"\x93NUMPY\x01\x00")?;
        self.0.write_all(&(length as u16).to_le_bytes())?;
        self.0.write_all(text.as_bytes())?;
        self.0.write_all(b"\n")?;
        self.0.write_all(&bytes)
    }

    /// The archive's bytes.
    ///
    /// # Errors
    /// More arrays or bytes than an archive takes.
    pub fn finish(self) -> std::io::Result<Vec<u8>> {
        Ok(self.0.finish()?.into_inner())
    }
}

/// An archive on disk whose arrays are taken by name.
pub struct ArrayFile(Archive<BufReader<File>>);

impl ArrayFile {
    /// Opens an archive.
    ///
    /// # Errors
    /// A file that cannot be read or is no archive.
    pub fn open(path: &Path) -> Result<Self, DataError> {
        let file = File::open(path).map_err(|source| DataError::Read {
            path: path.to_path_buf(),
            source,
        })?;
        Ok(Self(Archive::open(&path.display().to_string(), BufReader::new(file))?))
    }

    /// Takes an array of `dimensions` dimensions as floats, with its shape.
    ///
    /// # Errors
    /// The array's name, and that it is missing, damaged, of another shape, or holds something that is not finite.
    pub fn take_f32(&mut self, name: &str, dimensions: usize) -> Result<(Vec<usize>, Vec<f32>), DataError> {
        let array = self.take(name, dimensions)?;
        let values = array.to_f32();
        if let Some(index) = values.iter().position(|x| !x.is_finite()) {
            return Err(self
                .0
                .array_fault(name, format!("has {} at index {index}", values[index])));
        }
        Ok((array.shape().to_vec(), values))
    }

    /// Takes a single whole number.
    ///
    /// # Errors
    /// The array's name, and that it is missing, damaged, or no single whole number.
    pub fn take_whole_number(&mut self, name: &str) -> Result<i64, DataError> {
        let array = self.take(name, 0)?;
        let values = array.to_i64().map_err(|what| self.0.array_fault(name, what))?;
        Ok(values[0])
    }

    fn take(&mut self, name: &str, dimensions: usize) -> Result<NpyArray, DataError> {
        let array = self.0.take(name)?;
        if array.shape().len() != dimensions {
            let shape = array.shape();
            let what = format!("has shape {shape:?} where {dimensions} dimensions are expected");
            return Err(self.0.array_fault(name, what));
        }
        Ok(array)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn archive() -> Vec<u8> {
        let mut writer = ArrayWriter::default();
        writer
            .add("x", &[2, 3], Elements::F32(&[1.0, -2.5, 3.0, 4.0, 5.0, 6.0]))
            .unwrap();
        writer.add("one", &[], Elements::I64(&[-7])).unwrap();
        writer.add("empty", &[0, 4], Elements::F64(&[])).unwrap();
        let ids = ["a".to_string(), "Ωbc".to_string()];
        writer.add("ids", &[2], Elements::Text(&ids)).unwrap();
        writer.add("counts", &[2], Elements::U32(&[3, u32::MAX])).unwrap();
        writer.finish().unwrap()
    }

    #[test]
    fn what_is_written_is_read_back() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.npz");
        std::fs::write(&path, archive()).unwrap();
        let mut file = ArrayFile::open(&path).unwrap();
        let (shape, x) = file.take_f32("x", 2).unwrap();
        assert_eq!(
            (&shape[..], &x[..]),
            (&[2, 3][..], &[1.0, -2.5, 3.0, 4.0, 5.0, 6.0][..])
        );
        assert_eq!(file.take_whole_number("one").unwrap(), -7);
        assert_eq!(file.take_f32("empty", 2).unwrap(), (vec![0, 4], vec![]));
        assert_eq!(file.take_f32("counts", 1).unwrap().1, [3.0, u32::MAX as f32]);
        let missing = file.take_f32("y", 1).unwrap_err().to_string();
        assert!(
            missing.contains("a.npz") && missing.contains("array y is missing"),
            "{missing}"
        );
    }

    #[test]
    fn what_is_not_as_expected_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.npz");
        std::fs::write(&path, archive()).unwrap();
        let refused = |take: &dyn Fn(&mut ArrayFile) -> Result<(), DataError>| {
            take(&mut ArrayFile::open(&path).unwrap()).unwrap_err().to_string()
        };
        let shape = refused(&|file| file.take_f32("x", 1).map(drop));
        assert!(shape.contains("array x has shape [2, 3]"), "{shape}");
        let text = refused(&|file| file.take_f32("ids", 1).map(drop));
        assert!(text.contains("array ids has elements of type"), "{text}");
        std::fs::write(&path, b"no archive").unwrap();
        assert!(ArrayFile::open(&path).err().unwrap().to_string().contains("a.npz"));
    }

    #[test]
    fn the_same_arrays_are_the_same_bytes_and_elements_are_aligned() {
        let bytes = archive();
        assert_eq!(bytes, archive());
        let header = bytes.windows(6).position(|window| window == b"\x93NUMPY").unwrap();
        let length = usize::from(u16::from_le_bytes([bytes[header + 8], bytes[header + 9]]));
        assert_eq!((10 + length) % 64, 0);
        assert_eq!(bytes[header + 9 + length], b'\n');
    }
}
