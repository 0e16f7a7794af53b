//! Tests of the readers: on small archives made here, on the recordings in `../shared/data`, and on damaged input.

use std::io::{Cursor, Write};
use std::path::PathBuf;

use super::{DataError, LoadOptions, Recording};

mod fuzz;
mod layouts;
mod nwb_files;
mod shared_files;

/// A `.npy` file of version 1.0.
fn npy(descr: &str, shape: &[usize], data: &[u8]) -> Vec<u8> {
    let sizes: String = shape.iter().map(|n| format!("{n},")).collect();
    let header = format!("{{'descr': '{descr}', 'fortran_order': False, 'shape': ({sizes}), }}\n");
    let mut file = b"\x93NUMPY\x01\x00".to_vec();
    file.extend((header.len() as u16).to_le_bytes());
    file.extend(header.as_bytes());
    file.extend(data);
    file
}

fn npy_f64(shape: &[usize], values: &[f64]) -> Vec<u8> {
    npy(
        "<f8",
        shape,
        &values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>(),
    )
}

fn npy_i32(shape: &[usize], values: &[i32]) -> Vec<u8> {
    npy(
        "<i4",
        shape,
        &values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>(),
    )
}

/// An archive of the named arrays.
fn npz(arrays: &[(&str, Vec<u8>)], compression: zip::CompressionMethod) -> Vec<u8> {
    let mut writer = zip::ZipWriter::new(Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default().compression_method(compression);
    for (name, bytes) in arrays {
        writer
            .start_file(format!("{name}.npy"), options)
            .expect("a new file in the archive");
        writer.write_all(bytes).expect("writing to memory");
    }
    writer.finish().expect("finishing the archive").into_inner()
}

fn read(arrays: &[(&str, Vec<u8>)]) -> Result<Recording, DataError> {
    let bytes = npz(arrays, zip::CompressionMethod::Deflated);
    Recording::from_bytes("made.npz", &bytes, &LoadOptions::default())
}

/// A file below `../shared`; none, after saying so, where it is absent (and a panic in CI, which has it).
fn shared(path: &str) -> Option<PathBuf> {
    let root = std::env::var_os("NEUROHORIZON_SHARED").map_or_else(
        || PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared"),
        PathBuf::from,
    );
    let path = root.join(path);
    if path.exists() {
        return Some(path);
    }
    assert!(std::env::var_os("CI").is_none(), "{} is absent", path.display());
    println!("skipped: {} is absent", path.display());
    None
}
