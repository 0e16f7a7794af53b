//! A checkpoint with a session's units in the place of those that it was trained on: everything that takes a checkpoint then
//! takes a session that was never seen.

use kernels::cpu::{CpuBackend, CpuOptions};
use kernels::{Backend, BackendError, Matrix};

use super::super::checkpoint::Checkpoint;
use super::super::weights::identity_encoder;
use super::super::window::Spikes;
use super::refine::Refiner;
use super::{IdentityEncoder, Reference, UnitTables};
use crate::data::{Interval, Recording};

/// Why identities cannot be computed.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// There is nothing to compute them with.
    #[error("this checkpoint looks its units up by name; it has no encoder of identities ([model.identity] when it was trained)")]
    NoEncoder,
    /// The reference is of other units than were named.
    #[error("{named} units are named, and the reference is of {units}")]
    Units {
        /// Ids.
        named: usize,
        /// Of the reference.
        units: usize,
    },
    /// Too little activity is asked for.
    #[error("identities from {reference_s} s of activity: a window of this checkpoint's encoder has {window_s} s")]
    Short {
        /// Seconds.
        reference_s: f64,
        /// Seconds.
        window_s: f64,
    },
    /// Counts that cannot be counted again.
    #[error(
        "{recording} holds counts in bins of {count_ms} ms, and the encoder of identities takes bins of {bin_ms} ms"
    )]
    Counts {
        /// Its name.
        recording: String,
        /// ms.
        count_ms: f64,
        /// ms.
        bin_ms: f64,
    },
    /// A reference in which no window fits.
    #[error(
        "{recording}: the reference has no observed stretch as long as a window of the encoder, which is {window_s} s"
    )]
    NoWindow {
        /// Its name.
        recording: String,
        /// Seconds.
        window_s: f64,
    },
    /// Weights that are not there cannot be refined.
    #[error("identities cannot be refined: this checkpoint has no path of recent history ([model.recent_history]), whose weights are what is refined")]
    NothingToRefine,
    /// The network that identities are refined with.
    #[error("identities cannot be refined: {0}")]
    Refined(String),
    /// A device that failed.
    #[error(transparent)]
    Backend(#[from] BackendError),
}

/// What the observed stretches of a part of a recording say of its units, for the encoder of a checkpoint.
///
/// # Errors
/// A checkpoint without an encoder; a part in which no window fits; counts in bins that are not those of the encoder.
pub fn reference_of(
    checkpoint: &Checkpoint,
    recording: &Recording,
    part: Interval,
) -> Result<Reference, IdentityError> {
    let config = checkpoint.config.identity.ok_or(IdentityError::NoEncoder)?;
    if let Some(count_ns) = recording
        .count_bin_ns
        .filter(|count_ns| config.bin_ns() % count_ns != 0)
    {
        return Err(IdentityError::Counts {
            recording: recording.name.clone(),
            count_ms: count_ns as f64 * 1e-6,
            bin_ms: config.bin_ns() as f64 * 1e-6,
        });
    }
    let observed: Vec<Interval> = recording
        .intervals
        .iter()
        .filter_map(|seen| seen.intersection(&part))
        .collect();
    let spikes = Spikes {
        times_ns: &recording.spike_times_ns,
        units: &recording.spike_units,
    };
    let bin_ns = (checkpoint.config.bin_size * 1e9).round() as i64;
    Reference::of_stretches(&config, bin_ns, recording.n_units(), spikes, &observed).ok_or_else(|| {
        IdentityError::NoWindow {
            recording: recording.name.clone(),
            window_s: config.window_ns() as f64 * 1e-9,
        }
    })
}

/// Note in a checkpoint of a session whose units' identities are computed, or will be, and were not learned: the session.
pub const IDENTITIES_NOTE: &str = "identities_computed_for";

/// The tables of a checkpoint that have a row for every unit; the first alone where there is no path of recent history.
pub const TABLES: [&str; 4] = [
    "unit_emb.weight",
    "history.unit_weight",
    "history.read",
    "history.write",
];

/// Units' identities: what a network knows of them, on the host.
#[derive(Debug, Clone, PartialEq)]
pub struct Identities {
    /// `[N, D]`.
    embeddings: Vec<f32>,
    pub(super) history: Option<HistoryRows>,
    /// ln of each unit's mean count in a bin of the model, `[N]`.
    pub(super) log_rates: Vec<f32>,
}

/// Units' part in the path of recent history.
#[derive(Debug, Clone, PartialEq)]
pub struct HistoryRows {
    /// `[N, K + 1]`.
    pub unit_weight: Vec<f32>,
    /// `[N, J · components]`.
    pub read: Vec<f32>,
    /// `[N, components]`.
    pub write: Vec<f32>,
}

impl Identities {
    /// In one forward pass over the reference, on the calling thread, and refined where the checkpoint asks for it.
    ///
    /// # Errors
    /// A checkpoint without an encoder.
    pub fn compute(checkpoint: &Checkpoint, reference: &Reference) -> Result<Self, IdentityError> {
        IdentityComputer::new(checkpoint)?.compute(reference)
    }

    /// These embeddings and log rates, of no network.
    #[cfg(test)]
    pub(crate) fn made_up(embeddings: Vec<f32>, log_rates: Vec<f32>) -> Self {
        Self {
            embeddings,
            history: None,
            log_rates,
        }
    }

    /// `[N, D]`.
    pub fn embeddings(&self) -> &[f32] {
        &self.embeddings
    }

    /// Their part in the path of recent history, where the network has it.
    pub fn history(&self) -> Option<&HistoryRows> {
        self.history.as_ref()
    }

    /// ln of each unit's mean count in a bin of the model, `[N]`.
    pub fn log_rates(&self) -> &[f32] {
        &self.log_rates
    }

    /// By the names of a checkpoint's tables.
    fn tables(&self) -> impl Iterator<Item = (&'static str, &[f32])> {
        let history = self.history.iter();
        let history = history.flat_map(|rows| [&rows.unit_weight[..], &rows.read, &rows.write]);
        TABLES
            .into_iter()
            .zip(std::iter::once(&self.embeddings[..]).chain(history))
    }

    /// Writes them to the rows of a checkpoint's tables from `first` on, which must be there.
    pub fn write(&self, checkpoint: &mut Checkpoint, first: usize) {
        let units = self.log_rates.len();
        for (name, rows) in self.tables() {
            let width = rows.len() / units;
            if let Some(tensor) = checkpoint.tensors.get_mut(name) {
                tensor.data[first * width..first * width + rows.len()].copy_from_slice(rows);
            }
        }
    }
}

/// A checkpoint's encoder of identities, ready to be used again and again.
pub struct IdentityComputer {
    backend: CpuBackend,
    encoder: IdentityEncoder<CpuBackend>,
    refiner: Option<Refiner>,
}

impl IdentityComputer {
    /// On one thread, the one that calls.
    ///
    /// # Errors
    /// A checkpoint without an encoder.
    pub fn new(checkpoint: &Checkpoint) -> Result<Self, IdentityError> {
        let mut backend = CpuBackend::new(CpuOptions {
            threads: 1,
            ..CpuOptions::default()
        });
        let encoder = identity_encoder(&mut backend, checkpoint).ok_or(IdentityError::NoEncoder)?;
        let refiner = Refiner::new(checkpoint);
        Ok(IdentityComputer {
            backend,
            encoder,
            refiner,
        })
    }

    /// One forward pass, and what refines it.
    ///
    /// # Errors
    /// A device that failed.
    pub fn compute(&mut self, reference: &Reference) -> Result<Identities, IdentityError> {
        let UnitTables { units, history } = self.encoder.tables(&mut self.backend, reference);
        let mut rows = |tensor: &<CpuBackend as Backend>::Tensor| {
            let mut rows = vec![0.0; tensor.rows() * tensor.cols()];
            self.backend.download(tensor.view(), &mut rows).map(|()| rows)
        };
        let history = history.map(|tables| {
            Ok::<_, BackendError>(HistoryRows {
                unit_weight: rows(&tables.unit_weight)?,
                read: rows(&tables.read)?,
                write: rows(&tables.write)?,
            })
        });
        let mut identities = Identities {
            history: history.transpose()?,
            embeddings: rows(&units)?,
            log_rates: reference.log_rates().to_vec(),
        };
        if let Some(refiner) = &mut self.refiner {
            refiner.refine(reference, &mut identities)?;
        }
        Ok(identities)
    }
}

/// The checkpoint with the reference's units in place of its own, under these ids, with the rates of the reference.
///
/// # Errors
/// A checkpoint without an encoder; as many ids as there are units are expected.
pub fn identified(
    checkpoint: &Checkpoint,
    reference: &Reference,
    session: &str,
    unit_ids: &[String],
) -> Result<Checkpoint, IdentityError> {
    if unit_ids.len() != reference.units() {
        return Err(IdentityError::Units {
            named: unit_ids.len(),
            units: reference.units(),
        });
    }
    let identities = Identities::compute(checkpoint, reference)?;
    let mut out = unidentified(checkpoint, session, unit_ids, reference.log_rates())?;
    identities.write(&mut out, 1);
    Ok(out)
}

/// Has identities refined, or not, in place of what the checkpoint says; `None` leaves it at that.
///
/// # Errors
/// A checkpoint without an encoder, or without a path of recent history to refine.
pub fn set_refine(checkpoint: &mut Checkpoint, refine: Option<bool>) -> Result<(), IdentityError> {
    let identity = checkpoint.config.identity.as_mut().ok_or(IdentityError::NoEncoder)?;
    identity.refine = refine.unwrap_or(identity.refine);
    if identity.refine && checkpoint.config.history.is_none() {
        return Err(IdentityError::NothingToRefine);
    }
    Ok(())
}

/// The checkpoint with its units' identities as weights like others, and without the encoder that they came from.
pub fn without_encoder(mut checkpoint: Checkpoint) -> Checkpoint {
    checkpoint.config.identity = None;
    checkpoint.tensors.retain(|name, _| !name.starts_with("identity."));
    checkpoint
}

/// The checkpoint with units of which only ids and `log_rates` (ln of the mean count a bin) are known yet: their rows of the
/// tables are zeros.
///
/// # Errors
/// A checkpoint without an encoder of identities.
pub fn unidentified(
    checkpoint: &Checkpoint,
    session: &str,
    unit_ids: &[String],
    log_rates: &[f32],
) -> Result<Checkpoint, IdentityError> {
    if checkpoint.config.identity.is_none() {
        return Err(IdentityError::NoEncoder);
    }
    let mut out = checkpoint.clone();
    for name in TABLES {
        if let Some(tensor) = out.tensors.get_mut(name) {
            let width = tensor.shape.last().copied().unwrap_or(1);
            // Row 0 is no unit.
            tensor.data.truncate(width);
            tensor.data.resize((unit_ids.len() + 1) * width, 0.0);
            tensor.shape = vec![unit_ids.len() + 1, width];
        }
    }
    let with_none = |names: &[String]| std::iter::once("NA".to_owned()).chain(names.iter().cloned()).collect();
    out.unit_ids = with_none(unit_ids);
    out.session_ids = with_none(&[session.to_owned()]);
    out.null_log_rates = Some(std::iter::once(0.0).chain(log_rates.iter().copied()).collect());
    out.notes.insert(IDENTITIES_NOTE.into(), session.into());
    Ok(out)
}
