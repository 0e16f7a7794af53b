//! The layers that the network is made of: each is its weights and one function that calls the backend.
//!
//! Letters in shapes: D model dim, W = heads × Dh the inner width of an attention, L latents, T bins, N units.

use kernels::{Attention, Backend, Dropout, LinearArgs, Mask, Matrix, Norm, Rotary, View, ViewMut};

/// Gain and bias of a LayerNorm, each `[1, D]`.
pub struct LayerNorm<B: Backend> {
    pub(super) gain: B::Tensor,
    pub(super) bias: B::Tensor,
}

impl<B: Backend> LayerNorm<B> {
    pub(super) fn args(&self) -> Norm<'_, B::Tensor> {
        Norm {
            gain: &self.gain,
            bias: &self.bias,
        }
    }
}

/// `norm(x) Wᵀ + b`.
pub struct NormedLinear<B: Backend> {
    pub(super) norm: LayerNorm<B>,
    pub(super) linear: B::Linear,
}

impl<B: Backend> NormedLinear<B> {
    pub(super) fn apply(&self, backend: &mut B, x: View<'_, B::Tensor>, out: ViewMut<'_, B::Tensor>) {
        let args = LinearArgs {
            norm: Some(self.norm.args()),
            ..LinearArgs::default()
        };
        backend.linear(x, &self.linear, args, out);
    }
}

/// `out += x Wᵀ + b`, of which `dropout` is dropped while learning.
pub(super) fn add_linear<B: Backend>(
    backend: &mut B,
    x: View<'_, B::Tensor>,
    linear: &B::Linear,
    dropout: Dropout,
    out: ViewMut<'_, B::Tensor>,
) {
    let args = LinearArgs {
        dropout,
        accumulate: true,
        ..LinearArgs::default()
    };
    backend.linear(x, linear, args, out);
}

/// Attention from one sequence to another. `to_q` acts on the queries, `to_kv` on the context; `to_out` maps W to D.
pub struct CrossAttention<B: Backend> {
    pub(super) to_q: NormedLinear<B>,
    pub(super) to_kv: NormedLinear<B>,
    pub(super) to_out: B::Linear,
    pub(super) heads: usize,
    /// W.
    pub(super) width: usize,
}

impl<B: Backend> CrossAttention<B> {
    /// Keys (rotated) and values of context rows: `context` `[S, D]` → `key_value` `[S, 2W]`.
    pub(super) fn keys_and_values(
        &self,
        backend: &mut B,
        context: View<'_, B::Tensor>,
        rotary: Rotary<'_, B::Rotation>,
        key_value: &mut B::Tensor,
        first_row: usize,
    ) {
        let rows = context.rows;
        self.to_kv
            .apply(backend, context, key_value.row_block_mut(first_row, rows));
        backend.rotate(rotary, key_value.block_mut(first_row, rows, 0, self.width));
    }

    /// `x += attention(x → key_value)`; the keys are rotated already. `x` `[M, D]`, `key_value` `[S, 2W]`, `query` and
    /// `attended` scratch of at least `[M, W]`.
    #[allow(clippy::too_many_arguments)] // scratch is the caller's, so that nothing is allocated here
    pub(super) fn apply(
        &self,
        backend: &mut B,
        x: &mut B::Tensor,
        rows: usize,
        rotary: Rotary<'_, B::Rotation>,
        key_value: View<'_, B::Tensor>,
        mask: Mask,
        query: &mut B::Tensor,
        attended: &mut B::Tensor,
    ) {
        let width = self.width;
        self.to_q
            .apply(backend, x.row_block(0, rows), query.block_mut(0, rows, 0, width));
        backend.rotate(rotary, query.block_mut(0, rows, 0, width));
        let args = Attention {
            query: query.block(0, rows, 0, width),
            query_rows: None,
            query_rotary: None,
            key: key_value.tensor.block(key_value.row, key_value.rows, 0, width),
            value: key_value.tensor.block(key_value.row, key_value.rows, width, width),
            key_rows: None,
            key_rotary: None,
            rotate_value: false,
            heads: self.heads,
            mask,
            dropout: Dropout::Weights,
        };
        backend.attention(args, attended.block_mut(0, rows, 0, width));
        add_linear(
            backend,
            attended.block(0, rows, 0, width),
            &self.to_out,
            Dropout::None,
            x.row_block_mut(0, rows),
        );
    }
}

/// Attention of a sequence to itself.
pub struct SelfAttention<B: Backend> {
    pub(super) to_qkv: NormedLinear<B>,
    pub(super) to_out: B::Linear,
    pub(super) heads: usize,
    /// W.
    pub(super) width: usize,
}

impl<B: Backend> SelfAttention<B> {
    /// `x += attention(x → x)` over all rows of `x` `[L, D]`, keys, queries and values rotated. Scratch: `qkv` `[L, 3W]`,
    /// `attended` `[L, W]`.
    pub(super) fn apply_rotating_values(
        &self,
        backend: &mut B,
        x: &mut B::Tensor,
        rotary: Rotary<'_, B::Rotation>,
        qkv: &mut B::Tensor,
        attended: &mut B::Tensor,
    ) {
        let (rows, width) = (x.rows(), self.width);
        self.to_qkv.apply(backend, x.view(), qkv.view_mut());
        let args = Attention {
            query: qkv.block(0, rows, 0, width),
            query_rows: None,
            query_rotary: Some(rotary),
            key: qkv.block(0, rows, width, width),
            value: qkv.block(0, rows, 2 * width, width),
            key_rows: None,
            key_rotary: Some(rotary),
            rotate_value: true,
            heads: self.heads,
            mask: Mask::All,
            dropout: Dropout::Weights,
        };
        backend.attention(args, attended.block_mut(0, rows, 0, width));
        let attended = attended.block(0, rows, 0, width);
        add_linear(backend, attended, &self.to_out, Dropout::Residual, x.view_mut());
    }

    /// The decoder's self-attention: rows `first ..` of a growing sequence, whose earlier rows stand in `cache`
    /// `[T, 3W]` already. `x` `[rows, D]`.
    #[allow(clippy::too_many_arguments)] // scratch is the caller's, so that nothing is allocated here
    pub(super) fn apply_cached(
        &self,
        backend: &mut B,
        x: &mut B::Tensor,
        first: usize,
        rows: usize,
        rotation: &B::Rotation,
        causal: bool,
        cache: &mut B::Tensor,
        attended: &mut B::Tensor,
    ) {
        let (width, end) = (self.width, first + rows);
        self.to_qkv
            .apply(backend, x.row_block(0, rows), cache.row_block_mut(first, rows));
        let rotary = Rotary { rotation, first };
        backend.rotate(rotary, cache.block_mut(first, rows, 0, 2 * width));
        let mask = if causal {
            Mask::Causal {
                first,
                keys_per_query: 1,
            }
        } else {
            Mask::All
        };
        let args = Attention {
            query: cache.block(first, rows, 0, width),
            query_rows: None,
            query_rotary: None,
            key: cache.block(0, end, width, width),
            value: cache.block(0, end, 2 * width, width),
            key_rows: None,
            key_rotary: None,
            rotate_value: false,
            heads: self.heads,
            mask,
            dropout: Dropout::Weights,
        };
        backend.attention(args, attended.block_mut(0, rows, 0, width));
        add_linear(
            backend,
            attended.block(0, rows, 0, width),
            &self.to_out,
            Dropout::None,
            x.row_block_mut(0, rows),
        );
    }
}

/// LayerNorm, D → 8D, GEGLU, 4D → D.
pub struct FeedForward<B: Backend> {
    pub(super) gate: NormedLinear<B>,
    pub(super) down: B::Linear,
    /// What is dropped of the output while learning.
    pub(super) dropout: Dropout,
}

impl<B: Backend> FeedForward<B> {
    /// `x += ffn(x)` over the first `rows` rows; `hidden` scratch of at least `[rows, 4D]`.
    pub(super) fn apply(&self, backend: &mut B, x: &mut B::Tensor, rows: usize, hidden: &mut B::Tensor) {
        let args = LinearArgs {
            norm: Some(self.gate.norm.args()),
            dropout: Dropout::Hidden,
            ..LinearArgs::default()
        };
        backend.linear(
            x.row_block(0, rows),
            &self.gate.linear,
            args,
            hidden.row_block_mut(0, rows),
        );
        let hidden = hidden.row_block(0, rows);
        add_linear(backend, hidden, &self.down, self.dropout, x.row_block_mut(0, rows));
    }
}
