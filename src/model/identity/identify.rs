//! A checkpoint with a session's units in the place of those that it was trained on: everything that takes a checkpoint then
//! takes a session that was never seen.

use kernels::cpu::{CpuBackend, CpuOptions};
use kernels::{Backend, BackendError, Matrix};

use super::super::checkpoint::{Checkpoint, HostTensor};
use super::super::weights::identity_encoder;
use super::{Reference, UnitTables};

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
    /// A device that failed.
    #[error(transparent)]
    Backend(#[from] BackendError),
}

/// What a table of a checkpoint holds of some units.
struct Columns {
    name: &'static str,
    width: usize,
    /// `[N, width]`.
    rows: Vec<f32>,
}

/// Identities of a session's units, as rows of a checkpoint's tables.
pub struct Identities(Vec<Columns>);

impl Identities {
    /// In one forward pass over the reference, on the calling thread.
    ///
    /// # Errors
    /// A checkpoint without an encoder.
    pub fn compute(checkpoint: &Checkpoint, reference: &Reference) -> Result<Self, IdentityError> {
        let mut backend = CpuBackend::new(CpuOptions {
            threads: 1,
            ..CpuOptions::default()
        });
        let encoder = identity_encoder(&mut backend, checkpoint).ok_or(IdentityError::NoEncoder)?;
        let UnitTables { units, history } = encoder.tables(&mut backend, reference);
        let mut tables = vec![("unit_emb.weight", units)];
        if let Some(history) = history {
            tables.extend([
                ("history.unit_weight", history.unit_weight),
                ("history.read", history.read),
                ("history.write", history.write),
            ]);
        }
        let columns = tables.into_iter().map(|(name, tensor)| {
            let mut rows = vec![0.0; tensor.rows() * tensor.cols()];
            backend.download(tensor.view(), &mut rows)?;
            Ok(Columns {
                name,
                width: tensor.cols(),
                rows,
            })
        });
        Ok(Identities(columns.collect::<Result<_, BackendError>>()?))
    }

    /// Writes them to the rows of a checkpoint's tables from `first` on, which must be there.
    pub fn write(&self, checkpoint: &mut Checkpoint, first: usize) {
        for Columns { name, width, rows } in &self.0 {
            if let Some(tensor) = checkpoint.tensors.get_mut(*name) {
                tensor.data[first * width..first * width + rows.len()].copy_from_slice(rows);
            }
        }
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
    let mut out = checkpoint.clone();
    for Columns { name, width, .. } in &identities.0 {
        // Row 0 is no unit.
        let none = checkpoint.tensors.get(*name).map(|tensor| &tensor.data[..*width]);
        let mut data = none.map_or(vec![0.0; *width], <[f32]>::to_vec);
        data.resize((unit_ids.len() + 1) * width, 0.0);
        let shape = vec![unit_ids.len() + 1, *width];
        out.tensors.insert((*name).to_owned(), HostTensor { shape, data });
    }
    identities.write(&mut out, 1);
    let with_none = |names: &[String]| std::iter::once("NA".to_owned()).chain(names.iter().cloned()).collect();
    out.unit_ids = with_none(unit_ids);
    out.session_ids = with_none(&[session.to_owned()]);
    out.null_log_rates = Some(
        std::iter::once(0.0)
            .chain(reference.log_rates().iter().copied())
            .collect(),
    );
    Ok(out)
}
