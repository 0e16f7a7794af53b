//! [`Generation`]: the whole autoregressive part of a prediction as one operation, for backends to which every separate
//! operation costs more than its arithmetic.
//!
//! The network's own loop over bins is the definition; a backend that does not have this operation, or not for these sizes,
//! says so and the loop runs. Letters: D model dim, W inner width, L latents, T bins, N units, K memory tokens a bin,
//! C width of a count's embedding, F of the rows of recent history.

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

/// Attention to the prediction memory.
#[derive(Debug)]
pub struct GeneratedMemoryAttention<'a, B: Backend + ?Sized> {
    /// The bins' side.
    pub query: GeneratedAttention<'a, B>,
    /// Of the memory's tokens.
    pub norm: Norm<'a, B::Tensor>,
    /// D → 2W: keys and values of the memory's tokens.
    pub to_kv: &'a B::Linear,
    /// Angles of the memory's tokens, from row 0; those of one bin are alike.
    pub slots: &'a B::Rotation,
    /// A bin sees its own slot alone, and the first slot's keys are zeros.
    pub local: bool,
}

/// One decoder layer.
pub struct GeneratedLayer<'a, B: Backend + ?Sized> {
    /// Attention to the latents.
    pub cross: GeneratedAttention<'a, B>,
    /// Keys, rotated, and values of the latents, `[L, 2W]`.
    pub latents: View<'a, B::Tensor>,
    /// Attention to the prediction memory, where there is one.
    pub memory: Option<GeneratedMemoryAttention<'a, B>>,
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

/// How the expected counts of a bin reach the next one: by K memory tokens, or by a vector `[D]` that is added to its query.
pub enum GeneratedFeedback<'a, B: Backend + ?Sized> {
    /// Tokens that every layer attends to.
    Memory(GeneratedMemory<'a, B>),
    /// A mean over units.
    MlpPool(GeneratedMlpPool<'a, B>),
    /// Units `[N, D]` weighted by the softmax of the counts.
    RateWeighted(View<'a, B::Tensor>),
    /// A learned query over the units.
    CrossAttn(GeneratedCountQuery<'a, B>),
}

/// K learned queries pool what each unit's count and embedding say.
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

/// `output(mean over units of gelu(from_count(count(counts)) + unit_part))`.
#[derive(Debug)]
pub struct GeneratedMlpPool<'a, B: Backend + ?Sized> {
    /// 1 → C.
    pub count: &'a B::Linear,
    /// C → D.
    pub from_count: &'a B::Linear,
    /// `[N, D]`.
    pub unit_part: View<'a, B::Tensor>,
    /// D → D.
    pub output: &'a B::Linear,
}

/// `to_out(attention)` of one query over units, whose values are `to_v(count(counts) + units)`.
#[derive(Debug)]
pub struct GeneratedCountQuery<'a, B: Backend + ?Sized> {
    /// 1 → D.
    pub count: &'a B::Linear,
    /// `[N, D]`.
    pub units: View<'a, B::Tensor>,
    /// D → D.
    pub to_v: &'a B::Linear,
    /// `[N, D]`, projected.
    pub keys: View<'a, B::Tensor>,
    /// `[1, D]`, projected.
    pub query: View<'a, B::Tensor>,
    /// Heads.
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
    /// `[T, F]`.
    pub bins: View<'a, B::Tensor>,
    /// `[N, F]`.
    pub units: View<'a, B::Tensor>,
}

/// Arguments of [`Backend::generate`]: a causal decoder, each bin fed with the expected counts of the bin before it, the first
/// with none.
pub struct Generation<'a, B: Backend + ?Sized> {
    /// `[T, D]`.
    pub queries: View<'a, B::Tensor>,
    /// The decoder's layers by number.
    pub layer: &'a dyn Fn(usize) -> GeneratedLayer<'a, B>,
    /// Number of layers.
    pub layers: usize,
    /// Heads of the attentions to latents and to the prediction memory.
    pub cross_heads: usize,
    /// Heads of the attention of bins to bins.
    pub self_heads: usize,
    /// Angles of the bins, from row 0.
    pub bins: &'a B::Rotation,
    /// The encoder of counts.
    pub feedback: GeneratedFeedback<'a, B>,
    /// The head.
    pub head: GeneratedHead<'a, B>,
    /// What is added to the log rates.
    pub history: Option<GeneratedHistory<'a, B>>,
    /// Log rates are clamped to ± this.
    pub limit: f32,
    /// `[T·N, 1]`.
    pub log_rates: ViewMut<'a, B::Tensor>,
}
