//! [`Generation`]: the whole autoregressive part of a prediction as one operation, for backends to which every separate
//! operation costs more than its arithmetic.
//!
//! The network's own loop over bins is the definition; a backend that does not have this operation, or not for these sizes,
//! says so and the loop runs. Letters: D model dim, W inner width, L latents, T bins, N units, K memory tokens a bin.

use crate::backend::{Backend, Norm, View, ViewMut};

/// An attention's query side: `x += to_out(attend(rotate(to_q(norm(x)))))`.
#[derive(Debug)]
pub struct GeneratedAttention<'a, B: Backend + ?Sized> {
    /// Of the queries.
    pub norm: Norm<'a, B::Tensor>,
    /// D → W.
    pub to_q: &'a B::Linear,
    /// W → D.
    pub to_out: &'a B::Linear,
}

/// One decoder layer.
#[derive(Debug)]
pub struct GeneratedLayer<'a, B: Backend + ?Sized> {
    /// Attention to the latents.
    pub cross: GeneratedAttention<'a, B>,
    /// Keys, rotated, and values of the latents, `[L, 2W]`.
    pub latents: View<'a, B::Tensor>,
    /// Attention to the prediction memory.
    pub memory: GeneratedAttention<'a, B>,
    /// Norm of the memory's tokens.
    pub memory_norm: Norm<'a, B::Tensor>,
    /// D → 2W: keys and values of the memory's tokens.
    pub memory_to_kv: &'a B::Linear,
    /// Norm before the attention of bins to bins.
    pub own_norm: Norm<'a, B::Tensor>,
    /// D → 3W.
    pub own_to_qkv: &'a B::Linear,
    /// W → D.
    pub own_to_out: &'a B::Linear,
    /// Norm before the feed-forward layer.
    pub gate_norm: Norm<'a, B::Tensor>,
    /// D → 8D, gated.
    pub gate: &'a B::Linear,
    /// 4D → D.
    pub down: &'a B::Linear,
}

/// The encoder of predicted counts: K learned queries pool what each unit's count and embedding say.
#[derive(Debug)]
pub struct GeneratedMemory<'a, B: Backend + ?Sized> {
    /// 1 → D of ln(1 + count), then GELU.
    pub count_in: &'a B::Linear,
    /// D → D.
    pub count_out: &'a B::Linear,
    /// D → D, to which the unit's part is added, then GELU.
    pub from_count: &'a B::Linear,
    /// `[N, D]`.
    pub unit_part: View<'a, B::Tensor>,
    /// D → D.
    pub unit_out: &'a B::Linear,
    /// D → 2D.
    pub to_kv: &'a B::Linear,
    /// `[K, D]`, projected.
    pub queries: View<'a, B::Tensor>,
    /// Heads of the pooling attention.
    pub heads: usize,
    /// D → D.
    pub to_out: &'a B::Linear,
}

/// From a bin to log rates.
#[derive(Debug)]
pub struct GeneratedHead<'a, B: Backend + ?Sized> {
    /// D → D/2.
    pub bin_proj: &'a B::Linear,
    /// D/2 → D/2.
    pub from_bin: &'a B::Linear,
    /// `[N, D/2]`: the units' part of the same sum, before the GELU.
    pub units: View<'a, B::Tensor>,
    /// D/2 → D/4, then GELU.
    pub hidden: &'a B::Linear,
    /// D/4 → 1.
    pub output: &'a B::Linear,
}

/// Two factors: log rates of bin t and unit n get the product of row t of the one and row n of the other.
#[derive(Debug)]
pub struct GeneratedHistory<'a, B: Backend + ?Sized> {
    /// `[T, C]`.
    pub bins: View<'a, B::Tensor>,
    /// `[N, C]`.
    pub units: View<'a, B::Tensor>,
}

/// Arguments of [`Backend::generate`]: a causal decoder with a prediction memory, each bin fed with the expected counts of
/// the bin before it, the first with none.
pub struct Generation<'a, B: Backend + ?Sized> {
    /// `[T, D]`.
    pub queries: View<'a, B::Tensor>,
    /// The decoder's layers by number.
    pub layer: &'a dyn Fn(usize) -> GeneratedLayer<'a, B>,
    /// Number of layers.
    pub layers: usize,
    /// Heads of the attentions to latents and memory.
    pub cross_heads: usize,
    /// Heads of the attention of bins to bins.
    pub self_heads: usize,
    /// Angles of the bins, from row 0.
    pub bins: &'a B::Rotation,
    /// Angles of the memory's tokens, from row 0; those of one bin are alike.
    pub slots: &'a B::Rotation,
    /// A bin sees its own slot alone, and the first slot's keys are zeros.
    pub local: bool,
    /// The encoder of counts.
    pub memory: GeneratedMemory<'a, B>,
    /// The head.
    pub head: GeneratedHead<'a, B>,
    /// What is added to the log rates.
    pub history: Option<GeneratedHistory<'a, B>>,
    /// Log rates are clamped to ± this.
    pub limit: f32,
    /// `[T·N, 1]`.
    pub log_rates: ViewMut<'a, B::Tensor>,
}
