//! How the counts of bin `t − 1` reach bin `t`: the feedback encoders of the `query_aug` decoder and the memory encoder of
//! the prediction-memory decoders.
//!
//! Each encoder has a part that depends on the session's units only; [`UnitFeedback`] holds it, computed once a session.

use kernels::generation::{GeneratedCountQuery, GeneratedFeedback, GeneratedMemory, GeneratedMlpPool};
use kernels::{Activation, Attention, Backend, Dropout, LinearArgs, Map, Mask, Matrix, View, ViewMut};

/// Heads of the `cross_attn` feedback encoder; the reference fixes them.
pub const CROSS_ATTENTION_FEEDBACK_HEADS: usize = 4;

/// The encoder that the decoder variant asks for.
pub enum FeedbackEncoder<B: Backend> {
    /// Bins do not see earlier counts.
    None,
    /// A mean over units of an MLP of (count, embedding).
    MlpPool(CountMlpPool<B>),
    /// Embeddings weighted by the softmax of the counts.
    RateWeighted(RateWeighted),
    /// A learned query over the units.
    CrossAttn(CountQuery<B>),
    /// K memory tokens a bin.
    Memory(MemoryEncoder<B>),
}

/// `mlp_pool`: mean over units of `W₂ gelu(W₁ [count·w + b, u])`.
pub struct CountMlpPool<B: Backend> {
    pub(super) count: B::Linear,
    /// Width of the count's embedding.
    pub(super) count_width: usize,
    pub(super) from_count: B::Linear,
    /// Carries the bias of the first layer.
    pub(super) from_unit: B::Linear,
    pub(super) output: B::Linear,
}

/// `rate_weighted`: `Σ softmax(counts) u`. No parameters.
pub struct RateWeighted;

/// `cross_attn`: one query, keys from unit embeddings, values from embedding plus embedded count.
pub struct CountQuery<B: Backend> {
    /// `[1, D]`.
    pub(super) query: B::Tensor,
    pub(super) count: B::Linear,
    pub(super) to_q: B::Linear,
    pub(super) to_k: B::Linear,
    pub(super) to_v: B::Linear,
    pub(super) to_out: B::Linear,
    pub(super) heads: usize,
}

/// `prediction_memory`: K learned queries pool per-unit codes of `ln(1 + count)` and embedding into K tokens.
pub struct MemoryEncoder<B: Backend> {
    /// `[K, D]`.
    pub(super) queries: B::Tensor,
    pub(super) count_in: B::Linear,
    pub(super) count_out: B::Linear,
    /// Carries the bias of the first per-unit layer.
    pub(super) from_unit: B::Linear,
    pub(super) from_count: B::Linear,
    pub(super) unit_out: B::Linear,
    pub(super) to_q: B::Linear,
    pub(super) to_kv: B::Linear,
    pub(super) to_out: B::Linear,
    pub(super) heads: usize,
    /// K.
    pub(super) tokens: usize,
}

/// What an encoder knows of the session's units, and its scratch.
pub struct UnitFeedback<B: Backend> {
    /// `[N, D]`: the unit's part of the first layer, or the keys.
    unit_part: B::Tensor,
    /// `[K, D]`: projected queries.
    queries: B::Tensor,
    /// `[N, 1]`.
    log_counts: B::Tensor,
    /// `[N, D]` each (`count_code` may be narrower).
    count_code: B::Tensor,
    hidden: B::Tensor,
    /// `[N, 2D]`.
    key_value: B::Tensor,
    /// `[K, D]`.
    pooled: B::Tensor,
}

/// A linear layer without anything around it.
fn linear<B: Backend>(backend: &mut B, x: View<'_, B::Tensor>, layer: &B::Linear, out: ViewMut<'_, B::Tensor>) {
    backend.linear(x, layer, LinearArgs::default(), out);
}

/// `out = gelu(x Wᵀ + addend)`.
fn gelu_of_sum<B: Backend>(
    backend: &mut B,
    x: View<'_, B::Tensor>,
    layer: &B::Linear,
    addend: Option<View<'_, B::Tensor>>,
    out: ViewMut<'_, B::Tensor>,
) {
    let args = LinearArgs {
        addend,
        activation: Activation::Gelu,
        ..LinearArgs::default()
    };
    backend.linear(x, layer, args, out);
}

/// Standard multi-head attention of projected queries over projected keys and values.
fn pool_heads<B: Backend>(
    backend: &mut B,
    query: View<'_, B::Tensor>,
    key: View<'_, B::Tensor>,
    value: View<'_, B::Tensor>,
    heads: usize,
    out: ViewMut<'_, B::Tensor>,
) {
    let args = Attention {
        query,
        query_rows: None,
        query_rotary: None,
        key,
        value,
        key_rows: None,
        key_rotary: None,
        rotate_value: false,
        heads,
        mask: Mask::All,
        dropout: Dropout::None,
    };
    backend.attention(args, out);
}

impl<B: Backend> FeedbackEncoder<B> {
    /// Whether bins see earlier counts at all.
    pub fn is_some(&self) -> bool {
        !matches!(self, FeedbackEncoder::None)
    }

    /// Memory tokens a bin; zero for the `query_aug` decoder.
    pub fn memory_tokens(&self) -> usize {
        match self {
            FeedbackEncoder::Memory(memory) => memory.tokens,
            _ => 0,
        }
    }

    /// Rows that [`encode`](Self::encode) writes.
    pub fn rows(&self) -> usize {
        self.memory_tokens().max(1)
    }

    /// Room for what depends on the units only, and scratch, for `n` units of dimension `dim`.
    pub(super) fn room(&self, backend: &mut B, n: usize, dim: usize) -> UnitFeedback<B> {
        let code_width = match self {
            FeedbackEncoder::MlpPool(encoder) => encoder.count_width,
            _ => dim,
        };
        let rows = self.rows();
        UnitFeedback {
            unit_part: backend.zeros(n, dim),
            queries: backend.zeros(rows, dim),
            log_counts: backend.zeros(n, 1),
            count_code: backend.zeros(n, code_width),
            hidden: backend.zeros(n, dim),
            key_value: backend.zeros(n, 2 * dim),
            pooled: backend.zeros(rows, dim),
        }
    }

    /// Computes the part that depends on the units only. `units` `[N, D]`.
    pub(super) fn prepare(&self, backend: &mut B, units: &B::Tensor, prepared: &mut UnitFeedback<B>) {
        let unit_part = prepared.unit_part.view_mut();
        match self {
            FeedbackEncoder::None => {}
            FeedbackEncoder::RateWeighted(_) => backend.copy(units.view(), false, unit_part),
            FeedbackEncoder::MlpPool(encoder) => linear(backend, units.view(), &encoder.from_unit, unit_part),
            FeedbackEncoder::CrossAttn(encoder) => {
                linear(backend, units.view(), &encoder.to_k, unit_part);
                linear(
                    backend,
                    encoder.query.view(),
                    &encoder.to_q,
                    prepared.queries.view_mut(),
                );
            }
            FeedbackEncoder::Memory(encoder) => {
                linear(backend, units.view(), &encoder.from_unit, unit_part);
                linear(
                    backend,
                    encoder.queries.view(),
                    &encoder.to_q,
                    prepared.queries.view_mut(),
                );
            }
        }
    }

    /// Its weights with one session's tables, for a backend that generates at once; nothing if bins do not see earlier counts.
    pub(super) fn generated<'a>(
        &'a self,
        units: &'a B::Tensor,
        prepared: &'a UnitFeedback<B>,
    ) -> Option<GeneratedFeedback<'a, B>> {
        let (unit_part, queries) = (prepared.unit_part.view(), prepared.queries.view());
        Some(match self {
            FeedbackEncoder::None => return None,
            FeedbackEncoder::MlpPool(encoder) => GeneratedFeedback::MlpPool(GeneratedMlpPool {
                count: &encoder.count,
                from_count: &encoder.from_count,
                unit_part,
                output: &encoder.output,
            }),
            FeedbackEncoder::RateWeighted(_) => GeneratedFeedback::RateWeighted(unit_part),
            FeedbackEncoder::CrossAttn(encoder) => GeneratedFeedback::CrossAttn(GeneratedCountQuery {
                count: &encoder.count,
                units: units.view(),
                to_v: &encoder.to_v,
                keys: unit_part,
                query: queries,
                heads: encoder.heads,
                to_out: &encoder.to_out,
            }),
            FeedbackEncoder::Memory(encoder) => GeneratedFeedback::Memory(GeneratedMemory {
                count_in: &encoder.count_in,
                count_out: &encoder.count_out,
                from_count: &encoder.from_count,
                unit_part,
                unit_out: &encoder.unit_out,
                to_kv: &encoder.to_kv,
                queries,
                heads: encoder.heads,
                to_out: &encoder.to_out,
            }),
        })
    }

    /// Encodes one bin's counts `[N, 1]` into `out`, `[1, D]` to be added to the next bin's query, or `[K, D]` memory tokens.
    pub(super) fn encode(
        &self,
        backend: &mut B,
        units: &B::Tensor,
        prepared: &mut UnitFeedback<B>,
        counts: View<'_, B::Tensor>,
        out: ViewMut<'_, B::Tensor>,
    ) {
        let UnitFeedback {
            unit_part,
            queries,
            log_counts,
            count_code,
            hidden,
            key_value,
            pooled,
        } = prepared;
        let dim = units.cols();
        match self {
            FeedbackEncoder::None => {}
            FeedbackEncoder::RateWeighted(_) => backend.pool(Some(counts), unit_part.view(), false, out),
            FeedbackEncoder::MlpPool(encoder) => {
                linear(backend, counts, &encoder.count, count_code.view_mut());
                let addend = Some(unit_part.view());
                gelu_of_sum(
                    backend,
                    count_code.view(),
                    &encoder.from_count,
                    addend,
                    hidden.view_mut(),
                );
                // The mean of an affine map is the affine map of the mean.
                backend.pool(None, hidden.view(), false, pooled.view_mut());
                linear(backend, pooled.view(), &encoder.output, out);
            }
            FeedbackEncoder::CrossAttn(encoder) => {
                let args = LinearArgs {
                    addend: Some(units.view()),
                    ..LinearArgs::default()
                };
                backend.linear(counts, &encoder.count, args, count_code.view_mut());
                linear(backend, count_code.view(), &encoder.to_v, hidden.view_mut());
                let (key, value) = (unit_part.view(), hidden.view());
                pool_heads(backend, queries.view(), key, value, encoder.heads, pooled.view_mut());
                linear(backend, pooled.view(), &encoder.to_out, out);
            }
            FeedbackEncoder::Memory(encoder) => {
                backend.map(Map::Log1p, counts, log_counts.view_mut());
                gelu_of_sum(backend, log_counts.view(), &encoder.count_in, None, hidden.view_mut());
                linear(backend, hidden.view(), &encoder.count_out, count_code.view_mut());
                let addend = Some(unit_part.view());
                gelu_of_sum(
                    backend,
                    count_code.view(),
                    &encoder.from_count,
                    addend,
                    hidden.view_mut(),
                );
                linear(backend, hidden.view(), &encoder.unit_out, count_code.view_mut());
                linear(backend, count_code.view(), &encoder.to_kv, key_value.view_mut());
                let n = key_value.rows();
                let (key, value) = (key_value.block(0, n, 0, dim), key_value.block(0, n, dim, dim));
                pool_heads(backend, queries.view(), key, value, encoder.heads, pooled.view_mut());
                linear(backend, pooled.view(), &encoder.to_out, out);
            }
        }
    }
}
