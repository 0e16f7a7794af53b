//! From a checkpoint's tensors to the network's weights on a backend.

use kernels::generation::{GeneratedAttention, GeneratedLayer, GeneratedMemoryAttention};
use kernels::{Backend, Dropout, LinearSpec, Origin, Precision, View};

use super::checkpoint::{Checkpoint, HostTensor};
use super::config::{Decoder, Feedback, IdentityScheme, ReadoutConfig};
use super::feedback::{
    CountMlpPool, CountQuery, FeedbackEncoder, MemoryEncoder, RateWeighted, CROSS_ATTENTION_FEEDBACK_HEADS,
};
use super::identity::{EventPool, HistoryHeads, IdentityEncoder, LoadingLayers, Look, Mlp};
use super::layers::{CrossAttention, FeedForward, LayerNorm, NormedLinear, SelfAttention};
use super::readout::{ReadoutHead, Task};
use super::recent::RecentHistory;

/// One decoder layer.
pub struct DecoderLayer<B: Backend> {
    pub(super) cross: CrossAttention<B>,
    /// Attention to the prediction memory, where the variant has one.
    pub(super) memory: Option<CrossAttention<B>>,
    pub(super) own: SelfAttention<B>,
    pub(super) ffn: FeedForward<B>,
}

impl<B: Backend> DecoderLayer<B> {
    /// Its weights with what it knows of the latents, for a backend that generates at once. `slots` are the angles of the
    /// memory's tokens; `local` says that a bin sees its own slot alone.
    pub(super) fn generated<'a>(
        &'a self,
        latents: View<'a, B::Tensor>,
        slots: &'a B::Rotation,
        local: bool,
    ) -> GeneratedLayer<'a, B> {
        let query_side = |attention: &'a CrossAttention<B>| GeneratedAttention {
            norm: attention.to_q.norm.args(),
            to_q: &attention.to_q.linear,
            to_out: &attention.to_out,
        };
        GeneratedLayer {
            cross: query_side(&self.cross),
            latents,
            memory: self.memory.as_ref().map(|memory| GeneratedMemoryAttention {
                query: query_side(memory),
                norm: memory.to_kv.norm.args(),
                to_kv: &memory.to_kv.linear,
                slots,
                local,
            }),
            own_norm: self.own.to_qkv.norm.args(),
            own_to_qkv: &self.own.to_qkv.linear,
            own_to_out: &self.own.to_out,
            gate_norm: self.ffn.gate.norm.args(),
            gate: &self.ffn.gate.linear,
            down: &self.ffn.down,
        }
    }
}

/// One processor layer.
pub struct ProcessorLayer<B: Backend> {
    pub(super) attention: SelfAttention<B>,
    pub(super) ffn: FeedForward<B>,
}

/// The head: `concat(bin_proj(b), unit_proj(u))` → D/2 → D/4 → 1, its first layer split into the part of the bin and the
/// part of the unit.
pub struct Head<B: Backend> {
    pub(super) bin_proj: B::Linear,
    pub(super) unit_proj: B::Linear,
    pub(super) from_bin: B::Linear,
    /// Carries the first layer's bias.
    pub(super) from_unit: B::Linear,
    pub(super) hidden: B::Linear,
    pub(super) output: B::Linear,
}

/// All weights of the network that do not depend on the session.
pub struct Weights<B: Backend> {
    /// `[unit rows, D]`: every unit that was trained, behind the reserved row 0.
    pub(super) units: B::Tensor,
    /// `[4, D]`: none, start, end, padding.
    pub(super) token_types: B::Tensor,
    /// `[latents per step, D]`.
    pub(super) latents: B::Tensor,
    /// `[max bins, D]`.
    pub(super) bin_queries: B::Tensor,
    /// Angular frequencies, rad/s, `[Dh/2]`.
    pub(super) omega: Vec<f32>,
    pub(super) encoder: CrossAttention<B>,
    pub(super) encoder_ffn: FeedForward<B>,
    pub(super) processor: Vec<ProcessorLayer<B>>,
    pub(super) decoder: Vec<DecoderLayer<B>>,
    pub(super) head: Head<B>,
    pub(super) feedback: FeedbackEncoder<B>,
    pub(super) history: Option<RecentHistory<B>>,
    pub(super) identity: Option<IdentityEncoder<B>>,
    /// Channels → D for each modality; the bias is the token type's embedding.
    pub(super) conditions: Vec<B::Linear>,
    /// What reads behaviour out of the latents, where something is.
    pub(super) readout: Option<ReadoutHead<B>>,
}

impl<B: Backend> Weights<B> {
    /// Lays a validated checkpoint's weights out for `backend`. Matrices that multiply are stored in `precision`;
    /// embeddings, norms, biases and frequencies stay FP32.
    pub fn new(backend: &mut B, checkpoint: &Checkpoint, precision: Precision) -> Self {
        let config = &checkpoint.config;
        let mut loader = Loader {
            backend,
            checkpoint,
            precision,
        };
        let processor = (0..config.enc_depth)
            .map(|i| ProcessorLayer {
                attention: loader.self_attention(&format!("proc_layers.{i}.0")),
                ffn: loader.feed_forward(&format!("proc_layers.{i}.1"), Dropout::Residual),
            })
            .collect();
        let with_memory = matches!(
            config.decoder,
            Decoder::PredictionMemory | Decoder::LocalPredictionMemory
        );
        let decoder = (0..config.dec_depth)
            .map(|i| DecoderLayer {
                cross: loader.cross_attention(&format!("ar_decoder.layers.{i}.0")),
                memory: with_memory.then(|| loader.cross_attention(&format!("ar_decoder.layers.{i}.1"))),
                own: loader.self_attention(&format!("ar_decoder.layers.{i}.2")),
                ffn: loader.feed_forward(&format!("ar_decoder.layers.{i}.3"), Dropout::None),
            })
            .collect();
        Weights {
            units: loader.table("unit_emb.weight"),
            token_types: loader.table("token_type_emb.weight"),
            latents: loader.table("latent_emb.weight"),
            bin_queries: loader.table("bin_emb"),
            omega: loader.host("rotary_emb.omega").data.clone(),
            encoder: loader.cross_attention("enc_atn"),
            encoder_ffn: loader.feed_forward("enc_ffn", Dropout::None),
            processor,
            decoder,
            head: loader.head(),
            feedback: loader.feedback(),
            history: loader.history(),
            identity: loader.identity(),
            conditions: config
                .conditions
                .iter()
                .map(|condition| loader.linear(&format!("condition.{}", condition.series)))
                .collect(),
            readout: loader.readout(),
        }
    }
}

/// The encoder of identities alone, in FP32, where the checkpoint has one.
pub(super) fn identity_encoder<B: Backend>(backend: &mut B, checkpoint: &Checkpoint) -> Option<IdentityEncoder<B>> {
    let mut loader = Loader {
        backend,
        checkpoint,
        precision: Precision::F32,
    };
    loader.identity()
}

/// Makes backend weights out of named tensors. The checkpoint was validated, so every name is there.
struct Loader<'a, B: Backend> {
    backend: &'a mut B,
    checkpoint: &'a Checkpoint,
    precision: Precision,
}

/// A rectangle of a weight matrix.
#[derive(Clone, Copy)]
struct Slice {
    row: usize,
    rows: usize,
    col: usize,
    cols: usize,
}

impl<B: Backend> Loader<'_, B> {
    fn host(&self, name: &str) -> &HostTensor {
        self.checkpoint
            .tensors
            .get(name)
            .unwrap_or_else(|| panic!("a validated checkpoint has `{name}`"))
    }

    /// Rows and columns, leading dimensions of size one dropped; a vector is one row.
    fn matrix_shape(&self, name: &str) -> (usize, usize) {
        let shape = &self.host(name).shape;
        match shape[..] {
            [cols] => (1, cols),
            [rows, cols] | [1, rows, cols] => (rows, cols),
            _ => panic!("`{name}` has shape {shape:?}, which no layer has"),
        }
    }

    fn table(&mut self, name: &str) -> B::Tensor {
        let (rows, cols) = self.matrix_shape(name);
        let data = &self.checkpoint.tensors[name].data;
        self.backend.parameter(name, rows, cols, data)
    }

    fn slice(&mut self, weight: &str, bias: Option<&str>, slice: Slice, gated: bool) -> B::Linear {
        let (_, stride) = self.matrix_shape(weight);
        let tensors = &self.checkpoint.tensors;
        let origin = Origin {
            weight,
            bias: bias.unwrap_or_default(),
            row: slice.row,
            col: slice.col,
        };
        let bias = bias.map(|bias| &tensors[bias].data[slice.row..slice.row + slice.rows]);
        let spec = LinearSpec {
            weight: &tensors[weight].data[slice.row * stride + slice.col..],
            row_stride: stride,
            outputs: slice.rows,
            inputs: slice.cols,
            bias,
            gated,
            precision: self.precision,
            origin,
        };
        self.backend.linear_layer(&spec)
    }

    fn whole(&self, weight: &str) -> Slice {
        let (rows, cols) = self.matrix_shape(weight);
        Slice {
            row: 0,
            rows,
            col: 0,
            cols,
        }
    }

    /// `prefix.weight` and `prefix.bias`.
    fn linear(&mut self, prefix: &str) -> B::Linear {
        let weight = format!("{prefix}.weight");
        let whole = self.whole(&weight);
        self.slice(&weight, Some(&format!("{prefix}.bias")), whole, false)
    }

    /// Columns `col ..` of `prefix.weight`, with the bias or without.
    fn linear_columns(&mut self, prefix: &str, col: usize, cols: usize, with_bias: bool) -> B::Linear {
        let weight = format!("{prefix}.weight");
        let slice = Slice {
            col,
            cols,
            ..self.whole(&weight)
        };
        let bias = format!("{prefix}.bias");
        self.slice(&weight, with_bias.then_some(bias.as_str()), slice, false)
    }

    /// Rows `row ..` of the packed query, key and value projection of a standard multi-head attention.
    fn projection_rows(&mut self, prefix: &str, row: usize, rows: usize) -> B::Linear {
        let weight = format!("{prefix}.in_proj_weight");
        let slice = Slice {
            row,
            rows,
            ..self.whole(&weight)
        };
        self.slice(&weight, Some(&format!("{prefix}.in_proj_bias")), slice, false)
    }

    fn norm(&mut self, prefix: &str) -> LayerNorm<B> {
        LayerNorm {
            gain: self.table(&format!("{prefix}.weight")),
            bias: self.table(&format!("{prefix}.bias")),
        }
    }

    fn normed(&mut self, norm: &str, weight: &str) -> NormedLinear<B> {
        let norm = self.norm(norm);
        let whole = self.whole(weight);
        NormedLinear {
            norm,
            linear: self.slice(weight, None, whole, false),
        }
    }

    fn cross_attention(&mut self, prefix: &str) -> CrossAttention<B> {
        let config = &self.checkpoint.config;
        let (heads, width) = (config.cross_heads, config.cross_heads * config.dim_head);
        CrossAttention {
            to_q: self.normed(&format!("{prefix}.norm"), &format!("{prefix}.to_q.weight")),
            to_kv: self.normed(&format!("{prefix}.norm_context"), &format!("{prefix}.to_kv.weight")),
            to_out: self.linear(&format!("{prefix}.to_out")),
            heads,
            width,
        }
    }

    fn self_attention(&mut self, prefix: &str) -> SelfAttention<B> {
        let config = &self.checkpoint.config;
        let (heads, width) = (config.self_heads, config.self_heads * config.dim_head);
        SelfAttention {
            to_qkv: self.normed(&format!("{prefix}.norm"), &format!("{prefix}.to_qkv.weight")),
            to_out: self.linear(&format!("{prefix}.to_out")),
            heads,
            width,
        }
    }

    fn feed_forward(&mut self, prefix: &str, dropout: Dropout) -> FeedForward<B> {
        let weight = format!("{prefix}.1.net.0.weight");
        let whole = self.whole(&weight);
        let norm = self.norm(&format!("{prefix}.0"));
        FeedForward {
            gate: NormedLinear {
                norm,
                linear: self.slice(&weight, Some(&format!("{prefix}.1.net.0.bias")), whole, true),
            },
            down: self.linear(&format!("{prefix}.1.net.3")),
            dropout,
        }
    }

    fn head(&mut self) -> Head<B> {
        let half = self.checkpoint.config.dim / 2;
        Head {
            bin_proj: self.linear("head.bin_proj"),
            unit_proj: self.linear("head.unit_proj"),
            from_bin: self.linear_columns("head.mlp.0", 0, half, false),
            from_unit: self.linear_columns("head.mlp.0", half, half, true),
            hidden: self.linear("head.mlp.2"),
            output: self.linear("head.mlp.4"),
        }
    }

    fn history(&mut self) -> Option<RecentHistory<B>> {
        let config = self.checkpoint.config.history.clone()?;
        Some(RecentHistory {
            bin_weight: self.table("history.bin_weight"),
            unit_weight: self.table("history.unit_weight"),
            read: self.table("history.read"),
            write: self.table("history.write"),
            bin_mix: self.table("history.bin_mix"),
            config,
        })
    }

    fn readout(&mut self) -> Option<ReadoutHead<B>> {
        let config = &self.checkpoint.config;
        let (readouts, with_history) = (&config.readouts, config.history.is_some());
        if readouts.is_empty() {
            return None;
        }
        let mut task = |readout: &ReadoutConfig| {
            let (prefix, columns) = (format!("readout.task.{}", readout.series), readout.columns());
            let recent = format!("{prefix}.recent.weight");
            let slice = |row| Slice {
                row: row * columns,
                rows: columns,
                ..self.whole(&recent)
            };
            let slices: Vec<Slice> = match with_history {
                true => (0..readout.rows()).map(slice).collect(),
                false => Vec::new(),
            };
            Task {
                rows: readout.rows(),
                columns,
                query: self.table(&format!("{prefix}.query")),
                output: self.linear(&format!("{prefix}.output")),
                recent: slices
                    .into_iter()
                    .map(|slice| self.slice(&recent, None, slice, false))
                    .collect(),
            }
        };
        Some(ReadoutHead {
            tasks: readouts.iter().map(&mut task).collect(),
            cross: self.cross_attention("readout.cross"),
            ffn: self.feed_forward("readout.ffn", Dropout::None),
        })
    }

    fn mlp(&mut self, prefix: &str) -> Mlp<B> {
        let (hidden, _) = self.matrix_shape(&format!("{prefix}.0.weight"));
        let (outputs, _) = self.matrix_shape(&format!("{prefix}.2.weight"));
        Mlp {
            layers: [0, 1, 2].map(|layer| self.linear(&format!("{prefix}.{layer}"))),
            hidden,
            outputs,
        }
    }

    fn identity(&mut self) -> Option<IdentityEncoder<B>> {
        let config = &self.checkpoint.config;
        let (identity, heads, history) = (config.identity?, config.cross_heads, config.history.as_ref());
        let look = match identity.scheme {
            IdentityScheme::Binned => Look::Binned(self.mlp("identity.window")),
            IdentityScheme::Events => Look::Events(EventPool {
                query: self.table("identity.query"),
                key_value: self.table("identity.event"),
                out: self.linear("identity.pooled"),
                rate: self.linear("identity.rate"),
                heads,
                omega: self.host("rotary_emb.omega").data.clone(),
            }),
        };
        let history = history.map(|path| HistoryHeads {
            unit_weight: self.linear("identity.history.unit_weight"),
            read: self.linear("identity.history.read"),
            write: self.linear("identity.history.write"),
            widths: [
                path.time_constants_s.len() + 1,
                path.population_time_constants * path.components,
                path.components,
            ],
            population_constants: path.population_time_constants,
        });
        Some(IdentityEncoder {
            config: identity,
            look,
            unit: self.mlp("identity.unit"),
            loadings: (identity.components > 0).then(|| LoadingLayers {
                hidden: self.linear("identity.loadings"),
                straight: self.linear("identity.straight"),
            }),
            history,
        })
    }

    fn feedback(&mut self) -> FeedbackEncoder<B> {
        let config = &self.checkpoint.config;
        let (dim, heads) = (config.dim, config.memory_heads);
        match config.decoder {
            Decoder::QueryAug(Feedback::None) => FeedbackEncoder::None,
            Decoder::QueryAug(Feedback::RateWeighted) => FeedbackEncoder::RateWeighted(RateWeighted),
            Decoder::QueryAug(Feedback::MlpPool) => {
                let (_, inputs) = self.matrix_shape("feedback_encoder.mlp.0.weight");
                let count_width = inputs - dim;
                FeedbackEncoder::MlpPool(CountMlpPool {
                    count: self.linear("feedback_encoder.rate_proj"),
                    count_width,
                    from_count: self.linear_columns("feedback_encoder.mlp.0", 0, count_width, false),
                    from_unit: self.linear_columns("feedback_encoder.mlp.0", count_width, dim, true),
                    output: self.linear("feedback_encoder.mlp.2"),
                })
            }
            Decoder::QueryAug(Feedback::CrossAttn) => FeedbackEncoder::CrossAttn(CountQuery {
                query: self.table("feedback_encoder.query"),
                count: self.linear("feedback_encoder.rate_proj"),
                to_q: self.projection_rows("feedback_encoder.attn", 0, dim),
                to_k: self.projection_rows("feedback_encoder.attn", dim, dim),
                to_v: self.projection_rows("feedback_encoder.attn", 2 * dim, dim),
                to_out: self.linear("feedback_encoder.attn.out_proj"),
                heads: CROSS_ATTENTION_FEEDBACK_HEADS,
            }),
            Decoder::PredictionMemory | Decoder::LocalPredictionMemory => {
                let prefix = "prediction_memory_encoder";
                FeedbackEncoder::Memory(MemoryEncoder {
                    queries: self.table(&format!("{prefix}.summary_queries")),
                    count_in: self.linear(&format!("{prefix}.count_proj.0")),
                    count_out: self.linear(&format!("{prefix}.count_proj.2")),
                    from_unit: self.linear_columns(&format!("{prefix}.per_neuron_mlp.0"), 0, dim, true),
                    from_count: self.linear_columns(&format!("{prefix}.per_neuron_mlp.0"), dim, dim, false),
                    unit_out: self.linear(&format!("{prefix}.per_neuron_mlp.2")),
                    to_q: self.projection_rows(&format!("{prefix}.pool"), 0, dim),
                    to_kv: self.projection_rows(&format!("{prefix}.pool"), dim, 2 * dim),
                    to_out: self.linear(&format!("{prefix}.pool.out_proj")),
                    heads,
                    tokens: config.memory_tokens,
                })
            }
        }
    }
}
