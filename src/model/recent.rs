//! The path of recent history: a log-linear model of exact traces, added to what the network says.
//!
//! ```text
//! path[t, n] = ln mean[n] + Σ_k (w[t, k] + u[n, k]) own[n, k] + Σ_r m[t, r] · (Σ_n Σ_j R[n, j, r] all[n, j]) · W[n, r]
//! ```
//! with `own[n, k]` the logarithm of unit n's trace against its mean, and one more k whose `own` is 1: a bias of the bin and
//! of the unit; `all[n, j]` is `√trace − √mean` ([`super::traces`]). The last term reads a few components out of the whole population and writes them to
//! every unit, weighted by how far ahead the bin lies. Everything is one product of a row a bin and a row a unit:
//! ```text
//! left[t]  = [ w[t, :] | 1 …             | m[t, :] · components | 1          ]
//! right[n] = [ own[n]  | u[n, :] · own[n] | W[n, :]              | ln mean[n] ]
//! ```
//! The reference has no such path: it finds each unit's own rate again from its spikes.

use kernels::generation::GeneratedHistory;
use kernels::{Backend, Matrix, View, ViewMut};

use super::config::HistoryConfig;
use super::identity::{HistoryRows, HistoryTables};

/// The path's parameters.
pub struct RecentHistory<B: Backend> {
    /// w, `[max bins, K + 1]`.
    pub(super) bin_weight: B::Tensor,
    /// u, `[unit rows, K + 1]`.
    pub(super) unit_weight: B::Tensor,
    /// R, `[unit rows, J · components]`.
    pub(super) read: B::Tensor,
    /// W, `[unit rows, components]`.
    pub(super) write: B::Tensor,
    /// m, `[max bins, components]`.
    pub(super) bin_mix: B::Tensor,
    pub(super) config: HistoryConfig,
}

/// The path for one session's units, and its buffers.
pub(super) struct SessionHistory<B: Backend> {
    /// u of the session's units, `[N, K + 1]`.
    unit_weight: B::Tensor,
    /// R of them, `[N, J · components]`.
    read: B::Tensor,
    /// What [`super::traces::Traces::features`] gave, `[N, K + 2]`.
    own: B::Tensor,
    /// What [`super::traces::Traces::population`] gave, `[J, N]`.
    population: B::Tensor,
    /// `[1, components]`.
    components: B::Tensor,
    /// `[T, 2 (K + 1) + components + 1]`.
    left: B::Tensor,
    /// `[N, 2 (K + 1) + components + 1]`.
    right: B::Tensor,
}

impl<B: Backend> RecentHistory<B> {
    /// What the tables hold of some units.
    pub(super) fn looked_up(&self, backend: &mut B, unit_rows: &B::Rows, units: usize) -> HistoryTables<B> {
        let mut of = |table: &B::Tensor| {
            let mut out = backend.zeros(units, table.cols());
            backend.gather(table.view(), unit_rows, out.view_mut());
            out
        };
        HistoryTables {
            unit_weight: of(&self.unit_weight),
            read: of(&self.read),
            write: of(&self.write),
        }
    }

    /// What depends on the units only.
    pub(super) fn prepare(&self, backend: &mut B, tables: HistoryTables<B>, bins: usize) -> SessionHistory<B> {
        let (own, components) = (self.bin_weight.cols(), self.config.components);
        let (units, width) = (tables.read.rows(), 2 * own + components + 1);
        let mut session = SessionHistory::<B> {
            unit_weight: tables.unit_weight,
            read: tables.read,
            own: backend.zeros(units, own + 1),
            population: backend.zeros(self.config.population_time_constants, units),
            components: backend.zeros(1, components),
            left: backend.zeros(bins, width),
            right: backend.zeros(units, width),
        };
        let write = session.right.block_mut(0, units, 2 * own, components);
        backend.copy(tables.write.view(), false, write);
        backend.fill(1.0, session.left.view_mut());
        let shared = session.left.block_mut(0, bins, 0, own);
        backend.copy(self.bin_weight.row_block(0, bins), false, shared);
        session
    }

    /// Takes the traces of a window in: `features` `[N, K + 2]`, `population` `[J, N]`.
    pub(super) fn set(&self, backend: &mut B, session: &mut SessionHistory<B>, features: &[f32], population: &[f32]) {
        let SessionHistory {
            unit_weight,
            read,
            own,
            population: read_from,
            components,
            left,
            right,
        } = session;
        let (units, bins, width) = (own.rows(), left.rows(), unit_weight.cols());
        backend.upload(features, own.view_mut());
        backend.upload(population, read_from.view_mut());
        let traces = own.block(0, units, 0, width);
        backend.copy(traces, false, right.block_mut(0, units, 0, width));
        backend.multiply(traces, unit_weight.view(), right.block_mut(0, units, width, width));
        let (count, last) = (self.config.components, right.cols() - 1);
        backend.copy(own.block(0, units, width, 1), false, right.block_mut(0, units, last, 1));
        for j in 0..self.config.population_time_constants {
            let from = read.block(0, units, j * count, count);
            backend.sum_rows(read_from.row_block(j, 1), from, j > 0, components.view_mut());
        }
        let mix = self.bin_mix.row_block(0, bins);
        backend.multiply(mix, components.view(), left.block_mut(0, bins, 2 * width, count));
    }
}

impl<B: Backend> SessionHistory<B> {
    /// What is seen of every unit itself, `[N, K + 2]`, and of the population, `[J, N]`.
    pub(super) fn inputs(&self) -> [&B::Tensor; 2] {
        [&self.own, &self.population]
    }

    /// What the population's components are in the window, `[1, components]`.
    pub(super) fn components(&self) -> &B::Tensor {
        &self.components
    }

    /// Takes other rows of the units in.
    pub(super) fn identify(&mut self, backend: &mut B, rows: &HistoryRows) {
        backend.upload(&rows.unit_weight, self.unit_weight.view_mut());
        backend.upload(&rows.read, self.read.view_mut());
        let (units, own) = (self.unit_weight.rows(), self.unit_weight.cols());
        let components = self.components.cols();
        backend.upload(&rows.write, self.right.block_mut(0, units, 2 * own, components));
    }

    /// The two factors of the path's log rates, for a backend that generates at once.
    pub(super) fn generated(&self, bins: usize) -> GeneratedHistory<'_, B> {
        GeneratedHistory {
            bins: self.left.row_block(0, bins),
            units: self.right.view(),
        }
    }

    /// Adds the path's log rates of some bins, `[bins · N, 1]`.
    pub(super) fn add(&self, backend: &mut B, first: usize, bins: usize, out: ViewMut<'_, B::Tensor>) {
        let left: View<'_, B::Tensor> = self.left.row_block(first, bins);
        backend.outer_dot(left, self.right.view(), true, out);
    }
}
