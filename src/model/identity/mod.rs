//! Units' embeddings from their own activity: the network on a session that it never saw, without a gradient.
//!
//! What a checkpoint without it looks up by a unit's name is computed here from a [`Reference`], some seconds of the unit's
//! spikes: its embedding, and its part in the path of recent history.
//!
//! ```text
//! binned   E = MLP₂(mean over windows of MLP₁(counts))
//! events   E = MLP₂(attention of a learned query over the unit's spike times, ln rate)
//! ```
//! Either MLP has three linear layers with GELU between. Windows have no order. A unit's embedding does not depend on which
//! others there are, unless the counts of the population stand beside its own, or its loadings on the population's components
//! ([`loadings`]) do: `E = MLP₂(… + A l) + B l`. A unit's own activity cannot tell which way it is tuned where every way is as
//! frequent; with whom it fires together can, in a frame that all units of the session share.
//!
//! Where a checkpoint asks for it (`refine`), units' weights of recent history are then moved to where the reference's own counts
//! put them, in closed form ([`refine`], [`deviations`]).

mod deviations;
mod identify;
mod loadings;
mod reference;
mod refine;

use kernels::{Activation, Attention, Backend, Dropout, LinearArgs, Mask, Matrix, Rotary, View, ViewMut};

pub use identify::{
    identified, reference_of, set_refine, unidentified, without_encoder, HistoryRows, Identities, IdentityComputer,
    IdentityError, IDENTITIES_NOTE, TABLES,
};
pub use reference::{window_starts, Reference};

use super::config::IdentityConfig;

/// What the rest of the network knows of a session's units.
pub(super) struct UnitTables<B: Backend> {
    /// `[N, D]`.
    pub(super) units: B::Tensor,
    /// Their part in the path of recent history.
    pub(super) history: Option<HistoryTables<B>>,
}

/// Rows of the path of recent history's parameters, one a unit.
pub(super) struct HistoryTables<B: Backend> {
    /// u, `[N, K + 1]`.
    pub(super) unit_weight: B::Tensor,
    /// R, `[N, J · components]`.
    pub(super) read: B::Tensor,
    /// W, `[N, components]`.
    pub(super) write: B::Tensor,
}

/// Three linear layers, GELU after the first two.
pub struct Mlp<B: Backend> {
    pub(super) layers: [B::Linear; 3],
    pub(super) hidden: usize,
    pub(super) outputs: usize,
}

/// What looks at one unit's activity.
pub enum Look<B: Backend> {
    /// At counts, window by window.
    Binned(Mlp<B>),
    /// At spike times.
    Events(EventPool<B>),
}

/// Attention of a learned query over a unit's spikes.
pub struct EventPool<B: Backend> {
    /// `[1, W]`.
    pub(super) query: B::Tensor,
    /// Key and value of a spike, and of what stands for no spike, `[2, 2W]`.
    pub(super) key_value: B::Tensor,
    /// W → hidden.
    pub(super) out: B::Linear,
    /// 1 → hidden, of ln of the mean count a bin.
    pub(super) rate: B::Linear,
    pub(super) heads: usize,
    /// Angular frequencies, rad/s.
    pub(super) omega: Vec<f32>,
}

/// From an embedding to a unit's part in the path of recent history.
pub struct HistoryHeads<B: Backend> {
    pub(super) unit_weight: B::Linear,
    pub(super) read: B::Linear,
    pub(super) write: B::Linear,
    /// K + 1, J · components, components.
    pub(super) widths: [usize; 3],
    /// J.
    pub(super) population_constants: usize,
}

/// The encoder of identities.
pub struct IdentityEncoder<B: Backend> {
    pub(super) config: IdentityConfig,
    pub(super) look: Look<B>,
    pub(super) unit: Mlp<B>,
    /// Where there are components of the population.
    pub(super) loadings: Option<LoadingLayers<B>>,
    pub(super) history: Option<HistoryHeads<B>>,
}

/// What units' loadings on the population's components come in by.
pub struct LoadingLayers<B: Backend> {
    /// A, C → hidden.
    pub(super) hidden: B::Linear,
    /// B, C → D.
    pub(super) straight: B::Linear,
}

impl<B: Backend> Mlp<B> {
    fn apply(&self, backend: &mut B, x: View<'_, B::Tensor>) -> B::Tensor {
        let gelu = || LinearArgs {
            activation: Activation::Gelu,
            ..LinearArgs::default()
        };
        let [first, second, third] = &self.layers;
        let mut a = backend.zeros(x.rows, self.hidden);
        let mut b = backend.zeros(x.rows, self.hidden);
        let mut out = backend.zeros(x.rows, self.outputs);
        backend.linear(x, first, gelu(), a.view_mut());
        backend.linear(a.view(), second, gelu(), b.view_mut());
        backend.linear(b.view(), third, LinearArgs::default(), out.view_mut());
        out
    }
}

impl<B: Backend> EventPool<B> {
    /// `[N, hidden]`.
    fn apply(&self, backend: &mut B, reference: &Reference, hidden: usize) -> B::Tensor {
        let (units, width) = (reference.units(), self.query.cols());
        let most = (0..units).map(|unit| reference.times_s(unit).len()).max().unwrap_or(0);
        let mut pooled = backend.zeros(units, width);
        let mut now = backend.rotation(1, &self.omega);
        backend.set_rotation(&mut now, 0, &[0.0]);
        backend.reserve(1, most + 1, self.heads, width / self.heads, 0);
        for unit in 0..units {
            // The first row stands for no spike: a silent unit attends to it alone.
            let times_s = reference.times_s(unit);
            let mut rows = backend.rows(times_s.len() + 1);
            let mut list = vec![0; times_s.len() + 1];
            list[0] = 1;
            backend.set_rows(&mut rows, &list);
            let mut rotation = backend.rotation(times_s.len() + 1, &self.omega);
            backend.set_rotation(&mut rotation, 0, &[0.0]);
            backend.set_rotation(&mut rotation, 1, times_s);
            let args = Attention {
                query: self.query.view(),
                query_rows: None,
                query_rotary: Some(Rotary {
                    rotation: &now,
                    first: 0,
                }),
                key: self.key_value.block(0, 2, 0, width),
                value: self.key_value.block(0, 2, width, width),
                key_rows: Some(&rows),
                key_rotary: Some(Rotary {
                    rotation: &rotation,
                    first: 0,
                }),
                rotate_value: true,
                heads: self.heads,
                mask: Mask::All,
                dropout: Dropout::None,
            };
            backend.attention(args, pooled.row_block_mut(unit, 1));
        }
        let log_rates = backend.tensor(units, 1, reference.log_rates());
        let mut out = backend.zeros(units, hidden);
        backend.linear(log_rates.view(), &self.rate, LinearArgs::default(), out.view_mut());
        let args = LinearArgs {
            accumulate: true,
            ..LinearArgs::default()
        };
        backend.linear(pooled.view(), &self.out, args, out.view_mut());
        out
    }
}

/// `out = Σ of the blocks of rows of x / their number`: `x` `[M·N, H]`, `out` `[N, H]`.
fn mean_of_windows<B: Backend>(backend: &mut B, x: &B::Tensor, windows: usize, out: ViewMut<'_, B::Tensor>) {
    let units = x.rows() / windows;
    let mut sum = backend.zeros(units, x.cols());
    for window in 0..windows {
        backend.copy(x.row_block(window * units, units), true, sum.view_mut());
    }
    let share = backend.tensor(1, x.cols(), &vec![1.0 / windows as f32; x.cols()]);
    backend.multiply(sum.view(), share.view(), out);
}

impl<B: Backend> IdentityEncoder<B> {
    /// What the network knows of the units of a reference.
    pub(super) fn tables(&self, backend: &mut B, reference: &Reference) -> UnitTables<B> {
        let (units, hidden) = (reference.units(), self.config.hidden);
        let mut looked = match &self.look {
            Look::Binned(mlp) => {
                let inputs = self.config.inputs();
                let counts = backend.tensor(reference.windows() * units, inputs, reference.counts());
                let windows = mlp.apply(backend, counts.view());
                let mut mean = backend.zeros(units, hidden);
                mean_of_windows(backend, &windows, reference.windows(), mean.view_mut());
                mean
            }
            Look::Events(pool) => pool.apply(backend, reference, hidden),
        };
        let beside = self.loadings.as_ref().map(|layers| {
            let components = self.config.components;
            (layers, backend.tensor(units, components, reference.loadings()))
        });
        let more = || LinearArgs {
            accumulate: true,
            ..LinearArgs::default()
        };
        if let Some((layers, loadings)) = &beside {
            backend.linear(loadings.view(), &layers.hidden, more(), looked.view_mut());
        }
        let mut embedding = self.unit.apply(backend, looked.view());
        if let Some((layers, loadings)) = &beside {
            backend.linear(loadings.view(), &layers.straight, more(), embedding.view_mut());
        }
        let history = self.history.as_ref().map(|heads| heads.tables(backend, &embedding));
        UnitTables {
            units: embedding,
            history,
        }
    }
}

impl<B: Backend> HistoryHeads<B> {
    fn tables(&self, backend: &mut B, units: &B::Tensor) -> HistoryTables<B> {
        let [own, read, write] = self.widths;
        let n = units.rows();
        let mut of = |layer: &B::Linear, width: usize| {
            let mut out = backend.zeros(n, width);
            backend.linear(units.view(), layer, LinearArgs::default(), out.view_mut());
            out
        };
        let unit_weight = of(&self.unit_weight, own);
        let raw = of(&self.read, read);
        let write = of(&self.write, write);
        // A component is a sum over units and traces: it keeps its size, however many there are.
        let size = 1.0 / ((n * self.population_constants) as f32).sqrt();
        let scale = backend.tensor(1, read, &vec![size; read]);
        let mut scaled = backend.zeros(n, read);
        backend.multiply(raw.view(), scale.view(), scaled.view_mut());
        HistoryTables {
            unit_weight,
            read: scaled,
            write,
        }
    }
}
