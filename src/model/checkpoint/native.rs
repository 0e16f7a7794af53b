//! The project's own checkpoints: safetensors, configuration and ids in the metadata.

use std::collections::{BTreeMap, HashMap};

use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensorError, SafeTensors};

use super::{Checkpoint, HostTensor, Reason, Stored};
use crate::model::config::ModelConfig;

/// Marks the metadata as this project's.
const FORMAT: &str = "neurohorizon-1";

/// Begins the metadata keys of notes.
const NOTE: &str = "note.";

/// Tensor that holds the null log rates.
const NULL_RATES: &str = "null_rate_lookup";

/// What is wrong with the container, and what to do about it.
fn damaged(error: SafeTensorError) -> Reason {
    Reason::Archive(match error {
        SafeTensorError::HeaderTooSmall
        | SafeTensorError::InvalidHeaderLength
        | SafeTensorError::MetadataIncompleteBuffer => {
            format!("the file is cut off, or has bytes after its end: copy it again ({error})")
        }
        other => other.to_string(),
    })
}

/// Reads a file's bytes. `hash` is the file's.
pub(super) fn read(bytes: &[u8], hash: u64) -> Result<Checkpoint, Reason> {
    let (_, header) = SafeTensors::read_metadata(bytes).map_err(damaged)?;
    let file = SafeTensors::deserialize(bytes).map_err(damaged)?;
    let metadata = header.metadata().as_ref().ok_or(Reason::Missing("metadata"))?;
    if metadata.get("format").map(String::as_str) != Some(FORMAT) {
        return Err(Reason::Missing("the metadata `format` of a NeuroHorizon checkpoint"));
    }
    let text = |key: &'static str| metadata.get(key).ok_or(Reason::Metadata(key, "is missing".into()));
    let ids = |key: &'static str| -> Result<Vec<String>, Reason> {
        serde_json::from_str(text(key)?).map_err(|error| Reason::Metadata(key, error.to_string()))
    };
    let number = |key: &'static str| -> Result<u64, Reason> {
        text(key)?
            .parse()
            .map_err(|_| Reason::Metadata(key, "is no whole number".into()))
    };
    let config: serde_json::Value =
        serde_json::from_str(text("config")?).map_err(|error| Reason::Metadata("config", error.to_string()))?;

    let mut tensors = BTreeMap::new();
    let mut stored = Stored::F32;
    for (name, view) in file.iter() {
        let data = match view.dtype() {
            Dtype::F32 => view
                .data()
                .chunks_exact(4)
                .map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]]))
                .collect(),
            Dtype::F16 => {
                stored = Stored::F16;
                view.data()
                    .chunks_exact(2)
                    .map(|b| half::f16::from_le_bytes([b[0], b[1]]).to_f32())
                    .collect()
            }
            other => {
                return Err(Reason::Tensor {
                    name: name.to_string(),
                    reason: format!("is stored as {other:?}, expected F32 or F16"),
                })
            }
        };
        let shape = view.shape().to_vec();
        tensors.insert(name.to_string(), HostTensor { shape, data });
    }
    let null_log_rates = tensors.remove(NULL_RATES).map(|tensor| tensor.data);
    Ok(Checkpoint {
        config: ModelConfig::from_json(&config)?,
        tensors,
        unit_ids: ids("unit_ids")?,
        session_ids: ids("session_ids")?,
        null_log_rates,
        epoch: number("epoch")?,
        global_step: number("global_step")?,
        hash,
        stored,
        unused: Vec::new(),
        notes: metadata
            .iter()
            .filter_map(|(key, value)| Some((key.strip_prefix(NOTE)?.to_string(), value.clone())))
            .collect(),
    })
}

/// The file's bytes. With [`Stored::F16`] matrices are rounded to FP16; vectors, frequencies and null rates stay FP32.
pub(super) fn write(checkpoint: &Checkpoint, stored: Stored) -> Result<Vec<u8>, Reason> {
    let null = checkpoint.null_log_rates.as_ref().map(|rates| HostTensor {
        shape: vec![rates.len()],
        data: rates.clone(),
    });
    let named = checkpoint.tensors.iter().map(|(name, tensor)| (name.as_str(), tensor));
    let encoded: Vec<(&str, &[usize], Dtype, Vec<u8>)> = named
        .chain(null.as_ref().map(|tensor| (NULL_RATES, tensor)))
        .map(|(name, tensor)| {
            let (dtype, bytes) = if stored == Stored::F16 && tensor.shape.len() > 1 {
                let halves = tensor.data.iter().flat_map(|&x| half::f16::from_f32(x).to_le_bytes());
                (Dtype::F16, halves.collect())
            } else {
                (Dtype::F32, tensor.data.iter().flat_map(|x| x.to_le_bytes()).collect())
            };
            (name, tensor.shape.as_slice(), dtype, bytes)
        })
        .collect();
    let views = encoded
        .iter()
        .map(|(name, shape, dtype, bytes)| Ok((*name, TensorView::new(*dtype, shape.to_vec(), bytes)?)))
        .collect::<Result<Vec<_>, safetensors::SafeTensorError>>()
        .map_err(|error| Reason::Archive(error.to_string()))?;
    let json = |value: &Vec<String>| serde_json::Value::from(value.clone()).to_string();
    let notes = checkpoint.notes.iter();
    let mut metadata: HashMap<String, String> = notes
        .map(|(key, value)| (format!("{NOTE}{key}"), value.clone()))
        .collect();
    metadata.extend([
        ("format".to_string(), FORMAT.to_string()),
        ("config".to_string(), checkpoint.config.to_json().to_string()),
        ("unit_ids".to_string(), json(&checkpoint.unit_ids)),
        ("session_ids".to_string(), json(&checkpoint.session_ids)),
        ("epoch".to_string(), checkpoint.epoch.to_string()),
        ("global_step".to_string(), checkpoint.global_step.to_string()),
    ]);
    let bytes = safetensors::serialize(views, Some(metadata)).map_err(|error| Reason::Archive(error.to_string()))?;
    in_order(&bytes).ok_or_else(|| Reason::Archive("the header cannot be read back".into()))
}

/// The file with the keys of its header in order, so that the same checkpoint is always the same bytes. Tensors are found
/// by their distance from the header's end, so its length may change; it is padded to whole words.
fn in_order(bytes: &[u8]) -> Option<Vec<u8>> {
    let (length, rest) = bytes.split_first_chunk::<8>()?;
    let (header, data) = rest.split_at_checked(u64::from_le_bytes(*length) as usize)?;
    let mut header: BTreeMap<String, serde_json::Value> = serde_json::from_slice(header).ok()?;
    for value in header.values_mut().filter_map(serde_json::Value::as_object_mut) {
        value.sort_keys();
    }
    let mut header = serde_json::to_vec(&header).ok()?;
    header.resize(header.len().next_multiple_of(8), b' ');
    Some([&(header.len() as u64).to_le_bytes(), &header[..], data].concat())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_cut_off_is_to_be_copied_again() {
        let whole = Checkpoint::random(&ModelConfig::default(), 2, 1)
            .to_safetensors(Stored::F32)
            .unwrap();
        for length in [100, whole.len() / 2, whole.len() - 1] {
            let error = Checkpoint::from_bytes("x", &whole[..length]).unwrap_err().to_string();
            assert!(
                error.contains("cut off") && error.contains("copy it again"),
                "{length}: {error}"
            );
        }
        assert!(Checkpoint::from_bytes("x", &whole).is_ok());
    }
}
