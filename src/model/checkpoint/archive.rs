//! The reference's `.ckpt`: a zip archive of a pickle and one entry a storage, as `torch.save` writes it.

use std::collections::BTreeMap;
use std::io::{Cursor, Read};

use serde_json::Value as Json;
use zip::{CompressionMethod, ZipArchive};

use super::value::{ElementType, TensorRef, Value};
use super::{pickle, Checkpoint, HostTensor, Reason, Stored};
use crate::model::config::ModelConfig;

/// Prefix of the network's tensors in a Lightning checkpoint.
const PREFIX: &str = "model.";

/// Reads the archive. `hash` is the file's.
pub(super) fn read(bytes: &[u8], hash: u64) -> Result<Checkpoint, Reason> {
    let mut archive = Archive::open(bytes)?;
    let root = pickle::read(&archive.entry("data.pkl")?)?;
    let state = root.get("state_dict").ok_or(Reason::Missing("`state_dict`"))?;
    let hyper = root
        .get("hyper_parameters")
        .ok_or(Reason::Missing("`hyper_parameters`"))?;
    let model = hyper.get("model").ok_or(Reason::Missing("`hyper_parameters.model`"))?;
    let config = ModelConfig::from_json(&to_json(model))?;

    let Value::Dict(items) = state else {
        return Err(Reason::Missing("a `state_dict` of named tensors"));
    };
    let mut tensors = BTreeMap::new();
    let (mut unit_ids, mut session_ids, mut null_log_rates) = (None, Vec::new(), None);
    let mut stored = Stored::F32;
    let mut budget = 4 * bytes.len();
    for (key, value) in items {
        let Value::Text(key) = key else { continue };
        let name = key.strip_prefix(PREFIX).unwrap_or(key);
        match (name, value) {
            ("unit_emb.vocab", vocabulary) => unit_ids = Some(ids_by_row(name, vocabulary)?),
            ("session_emb.vocab", vocabulary) => session_ids = ids_by_row(name, vocabulary)?,
            (name, Value::Tensor(tensor)) => {
                let host = archive.tensor(name, tensor, &mut budget)?;
                if tensor.element == ElementType::F16 {
                    stored = Stored::F16;
                }
                if name == "null_rate_lookup" {
                    null_log_rates = Some(host.data);
                } else {
                    tensors.insert(name.to_string(), host);
                }
            }
            _ => {}
        }
    }
    let count = |key: &str| match root.get(key) {
        Some(Value::Int(count)) => u64::try_from(*count).unwrap_or(0),
        _ => 0,
    };
    Ok(Checkpoint {
        tensors: with_memory_slots(tensors, config.dec_depth),
        config,
        unit_ids: unit_ids.ok_or(Reason::Missing("`model.unit_emb.vocab`"))?,
        session_ids,
        null_log_rates,
        epoch: count("epoch"),
        global_step: count("global_step"),
        hash,
        stored,
        unused: Vec::new(),
        notes: BTreeMap::new(),
    })
}

/// Older checkpoints have three entries a decoder layer (cross, self, feed-forward); renames them to the places that they
/// have among four (cross, memory, self, feed-forward).
fn with_memory_slots(tensors: BTreeMap<String, HostTensor>, layers: usize) -> BTreeMap<String, HostTensor> {
    let prefix = "ar_decoder.layers.";
    // In a layer of three the second entry is the self-attention, which alone has `to_qkv`.
    let old = (0..layers).any(|i| tensors.contains_key(&format!("{prefix}{i}.1.to_qkv.weight")));
    if !old {
        return tensors;
    }
    tensors
        .into_iter()
        .map(|(name, tensor)| {
            let renamed = name.strip_prefix(prefix).and_then(|rest| {
                let (layer, rest) = rest.split_once('.')?;
                let (entry, rest) = rest.split_once('.')?;
                let entry = match entry {
                    "1" => "2",
                    "2" => "3",
                    other => other,
                };
                Some(format!("{prefix}{layer}.{entry}.{rest}"))
            });
            (renamed.unwrap_or(name), tensor)
        })
        .collect()
}

/// Ids in the order of their rows, which must be 0, 1, 2, ….
fn ids_by_row(name: &str, vocabulary: &Value) -> Result<Vec<String>, Reason> {
    let Value::Dict(items) = vocabulary else {
        return Err(Reason::Vocabulary(format!("`{name}` is no dictionary")));
    };
    let mut ids = vec![None; items.len()];
    for (id, row) in items {
        let (Value::Text(id), Value::Int(row)) = (id, row) else {
            return Err(Reason::Vocabulary(format!("`{name}` is no dictionary of ids to rows")));
        };
        let slot = usize::try_from(*row).ok().and_then(|row| ids.get_mut(row));
        match slot {
            Some(slot @ None) => *slot = Some(id.clone()),
            _ => {
                return Err(Reason::Vocabulary(format!(
                    "`{name}` gives `{id}` row {row}, which is taken or too far"
                )))
            }
        }
    }
    Ok(ids.into_iter().flatten().collect())
}

/// Plain values as JSON; tensors and the like as null.
fn to_json(value: &Value) -> Json {
    match value {
        Value::None | Value::Tensor(_) => Json::Null,
        Value::Bool(flag) => Json::Bool(*flag),
        Value::Int(number) => Json::from(*number),
        Value::Float(number) => Json::from(*number),
        Value::Text(text) => Json::from(text.as_str()),
        Value::List(items) => Json::Array(items.iter().map(to_json).collect()),
        Value::Dict(items) => Json::Object(
            items
                .iter()
                .filter_map(|(key, value)| match key {
                    Value::Text(key) => Some((key.clone(), to_json(value))),
                    _ => None,
                })
                .collect(),
        ),
    }
}

/// The zip archive; `torch.save` puts everything into one folder and compresses nothing.
struct Archive<'a> {
    zip: ZipArchive<Cursor<&'a [u8]>>,
    folder: String,
    /// Bytes of the file.
    length: u64,
    /// Storages read so far.
    storages: BTreeMap<String, Vec<u8>>,
}

impl<'a> Archive<'a> {
    fn open(bytes: &'a [u8]) -> Result<Self, Reason> {
        let zip = ZipArchive::new(Cursor::new(bytes)).map_err(|error| Reason::Archive(error.to_string()))?;
        let mut names = zip.file_names().filter_map(Result::ok);
        let pickle = names.find(|name| name == "data.pkl" || name.ends_with("/data.pkl"));
        let folder = pickle
            .ok_or(Reason::Missing("the entry `data.pkl`"))?
            .trim_end_matches("data.pkl")
            .to_string();
        drop(names);
        let mut archive = Archive {
            zip,
            folder,
            length: bytes.len() as u64,
            storages: BTreeMap::new(),
        };
        if let Ok(order) = archive.entry("byteorder") {
            if order != b"little" {
                return Err(Reason::Archive("its numbers are not little-endian".into()));
            }
        }
        Ok(archive)
    }

    fn entry(&mut self, name: &str) -> Result<Vec<u8>, Reason> {
        let name = format!("{}{name}", self.folder);
        let failed = |error: String| Reason::Archive(format!("entry `{name}`: {error}"));
        let most = self.length;
        let mut entry = self.zip.by_name(&name).map_err(|error| failed(error.to_string()))?;
        if entry.compression() != CompressionMethod::Stored {
            return Err(failed("it is compressed, which PyTorch never does".into()));
        }
        if entry.size() > most {
            return Err(failed("it claims to be larger than the file".into()));
        }
        let mut data = Vec::with_capacity(entry.size() as usize);
        entry
            .read_to_end(&mut data)
            .map_err(|error| failed(error.to_string()))?;
        Ok(data)
    }

    fn tensor(&mut self, name: &str, tensor: &TensorRef, budget: &mut usize) -> Result<HostTensor, Reason> {
        let damaged = |reason: &str| Reason::Tensor {
            name: name.to_string(),
            reason: reason.to_string(),
        };
        if !self.storages.contains_key(&tensor.storage) {
            let data = self.entry(&format!("data/{}", tensor.storage))?;
            self.storages.insert(tensor.storage.clone(), data);
        }
        let storage = &self.storages[&tensor.storage];
        let elements = storage.len() / tensor.element.size();
        let count = tensor
            .shape
            .iter()
            .try_fold(1usize, |count, &size| count.checked_mul(size));
        let count = count
            .filter(|&count| count <= elements)
            .ok_or_else(|| damaged("is larger than its storage"))?;
        *budget = budget
            .checked_sub(count)
            .ok_or_else(|| damaged("repeats a storage too often"))?;
        let last = tensor
            .shape
            .iter()
            .zip(&tensor.stride)
            .try_fold(tensor.offset, |last, (&size, &stride)| {
                last.checked_add(size.saturating_sub(1).checked_mul(stride)?)
            });
        if count > 0 && last.is_none_or(|last| last >= elements) {
            return Err(damaged("reaches beyond its storage"));
        }
        let mut data = Vec::with_capacity(count);
        let mut index = vec![0usize; tensor.shape.len()];
        for _ in 0..count {
            let at: usize = index.iter().zip(&tensor.stride).map(|(i, stride)| i * stride).sum();
            data.push(element(storage, tensor.element, tensor.offset + at));
            for (i, &size) in index.iter_mut().zip(&tensor.shape).rev() {
                *i += 1;
                if *i < size {
                    break;
                }
                *i = 0;
            }
        }
        Ok(HostTensor {
            shape: tensor.shape.clone(),
            data,
        })
    }
}

/// Element `index` of a storage as FP32.
fn element(storage: &[u8], kind: ElementType, index: usize) -> f32 {
    let bytes = &storage[index * kind.size()..][..kind.size()];
    match (kind, bytes) {
        (ElementType::F32, &[a, b, c, d]) => f32::from_le_bytes([a, b, c, d]),
        (ElementType::I32, &[a, b, c, d]) => i32::from_le_bytes([a, b, c, d]) as f32,
        (ElementType::F16, &[a, b]) => half::f16::from_le_bytes([a, b]).to_f32(),
        (ElementType::Bf16, &[a, b]) => half::bf16::from_le_bytes([a, b]).to_f32(),
        (ElementType::U8, &[a]) => f32::from(a),
        (_, &[a, b, c, d, e, f, g, h]) => {
            let eight = [a, b, c, d, e, f, g, h];
            if kind == ElementType::F64 {
                f64::from_le_bytes(eight) as f32
            } else {
                i64::from_le_bytes(eight) as f32
            }
        }
        _ => unreachable!("the slice has the element's size"),
    }
}
