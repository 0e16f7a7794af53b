//! Which tensors a configuration needs, and of which shape.

use super::{Checkpoint, Reason};
use crate::model::config::{Decoder, Feedback, IdentityScheme, ModelConfig};

/// A tensor that must be there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expected {
    /// Name without the prefix.
    pub name: String,
    /// Size of every dimension.
    pub shape: Vec<usize>,
    /// What the sizes are, for people.
    pub meaning: &'static str,
}

/// Width of the count's embedding in the `mlp_pool` feedback encoder; the reference fixes it.
const MLP_POOL_COUNT_WIDTH: usize = 16;

/// Token types; the fourth is padding.
const TOKEN_TYPES: usize = 4;

/// Collects expectations.
struct Layout {
    tensors: Vec<Expected>,
}

impl Layout {
    fn tensor(&mut self, name: String, shape: &[usize], meaning: &'static str) {
        self.tensors.push(Expected {
            name,
            shape: shape.to_vec(),
            meaning,
        });
    }

    fn norm(&mut self, prefix: &str, dim: usize) {
        self.tensor(format!("{prefix}.weight"), &[dim], "dim");
        self.tensor(format!("{prefix}.bias"), &[dim], "dim");
    }

    fn linear(&mut self, prefix: &str, outputs: usize, inputs: usize, meaning: &'static str) {
        self.tensor(format!("{prefix}.weight"), &[outputs, inputs], meaning);
        self.tensor(format!("{prefix}.bias"), &[outputs], meaning);
    }

    fn feed_forward(&mut self, prefix: &str, dim: usize) {
        self.norm(&format!("{prefix}.0"), dim);
        self.linear(&format!("{prefix}.1.net.0"), 8 * dim, dim, "8 dim, dim");
        self.linear(&format!("{prefix}.1.net.3"), dim, 4 * dim, "dim, 4 dim");
    }

    fn cross_attention(&mut self, prefix: &str, config: &ModelConfig) {
        let (dim, width) = (config.dim, config.cross_heads * config.dim_head);
        self.norm(&format!("{prefix}.norm"), dim);
        self.norm(&format!("{prefix}.norm_context"), dim);
        self.tensor(
            format!("{prefix}.to_q.weight"),
            &[width, dim],
            "cross_heads · dim_head, dim",
        );
        self.tensor(
            format!("{prefix}.to_kv.weight"),
            &[2 * width, dim],
            "2 cross_heads · dim_head, dim",
        );
        self.linear(&format!("{prefix}.to_out"), dim, width, "dim, cross_heads · dim_head");
    }

    fn self_attention(&mut self, prefix: &str, config: &ModelConfig) {
        let (dim, width) = (config.dim, config.self_heads * config.dim_head);
        self.norm(&format!("{prefix}.norm"), dim);
        self.tensor(
            format!("{prefix}.to_qkv.weight"),
            &[3 * width, dim],
            "3 self_heads · dim_head, dim",
        );
        self.linear(&format!("{prefix}.to_out"), dim, width, "dim, self_heads · dim_head");
    }

    fn pooling(&mut self, prefix: &str, dim: usize) {
        self.tensor(format!("{prefix}.in_proj_weight"), &[3 * dim, dim], "3 dim, dim");
        self.tensor(format!("{prefix}.in_proj_bias"), &[3 * dim], "3 dim");
        self.linear(&format!("{prefix}.out_proj"), dim, dim, "dim, dim");
    }

    fn identity(&mut self, config: &ModelConfig) {
        let Some(identity) = &config.identity else { return };
        let (hidden, width) = (identity.hidden, config.cross_heads * config.dim_head);
        let mut mlp = |prefix: &str, inputs: usize, outputs: usize| {
            self.linear(&format!("{prefix}.0"), hidden, inputs, "identity.hidden, inputs");
            self.linear(
                &format!("{prefix}.1"),
                hidden,
                hidden,
                "identity.hidden, identity.hidden",
            );
            self.linear(&format!("{prefix}.2"), outputs, hidden, "outputs, identity.hidden");
        };
        mlp("identity.unit", hidden, config.dim);
        match identity.scheme {
            IdentityScheme::Binned => mlp("identity.window", identity.inputs(), hidden),
            IdentityScheme::Events => {
                let meaning = "1 or 2, cross_heads · dim_head";
                self.tensor("identity.query".into(), &[1, width], meaning);
                self.tensor("identity.event".into(), &[2, 2 * width], "2, 2 cross_heads · dim_head");
                self.linear(
                    "identity.pooled",
                    hidden,
                    width,
                    "identity.hidden, cross_heads · dim_head",
                );
                self.linear("identity.rate", hidden, 1, "identity.hidden, 1");
            }
        }
        if identity.components > 0 {
            let meaning = "identity.hidden or dim, identity.components";
            self.linear("identity.loadings", hidden, identity.components, meaning);
            self.linear("identity.straight", config.dim, identity.components, meaning);
        }
        if let Some(history) = &config.history {
            let read = history.population_time_constants * history.components;
            for (part, outputs) in [
                ("unit_weight", history.time_constants_s.len() + 1),
                ("read", read),
                ("write", history.components),
            ] {
                self.linear(
                    &format!("identity.history.{part}"),
                    outputs,
                    config.dim,
                    "columns of the table, dim",
                );
            }
        }
    }

    fn readouts(&mut self, config: &ModelConfig) {
        if config.readouts.is_empty() {
            return;
        }
        self.cross_attention("readout.cross", config);
        self.feed_forward("readout.ffn", config.dim);
        for readout in &config.readouts {
            let (prefix, columns) = (format!("readout.task.{}", readout.series), readout.columns());
            self.tensor(format!("{prefix}.query"), &[1, config.dim], "1, dim");
            self.linear(&format!("{prefix}.output"), columns, config.dim, "columns, dim");
            if let Some(history) = &config.history {
                let shape = [readout.rows() * columns, history.components];
                self.tensor(format!("{prefix}.recent.weight"), &shape, "steps · columns, components");
            }
        }
    }

    fn feedback(&mut self, config: &ModelConfig) {
        let dim = config.dim;
        match config.decoder {
            Decoder::QueryAug(Feedback::None | Feedback::RateWeighted) => {}
            Decoder::QueryAug(Feedback::MlpPool) => {
                let width = MLP_POOL_COUNT_WIDTH;
                self.linear("feedback_encoder.rate_proj", width, 1, "16, 1");
                self.linear("feedback_encoder.mlp.0", dim, width + dim, "dim, 16 + dim");
                self.linear("feedback_encoder.mlp.2", dim, dim, "dim, dim");
            }
            Decoder::QueryAug(Feedback::CrossAttn) => {
                self.tensor("feedback_encoder.query".into(), &[1, 1, dim], "1, 1, dim");
                self.linear("feedback_encoder.rate_proj", dim, 1, "dim, 1");
                self.pooling("feedback_encoder.attn", dim);
            }
            Decoder::PredictionMemory | Decoder::LocalPredictionMemory => {
                let prefix = "prediction_memory_encoder";
                let queries = [1, config.memory_tokens, dim];
                self.tensor(
                    format!("{prefix}.summary_queries"),
                    &queries,
                    "1, prediction_memory_k, dim",
                );
                self.linear(&format!("{prefix}.count_proj.0"), dim, 1, "dim, 1");
                self.linear(&format!("{prefix}.count_proj.2"), dim, dim, "dim, dim");
                self.linear(&format!("{prefix}.per_neuron_mlp.0"), dim, 2 * dim, "dim, 2 dim");
                self.linear(&format!("{prefix}.per_neuron_mlp.2"), dim, dim, "dim, dim");
                self.pooling(&format!("{prefix}.pool"), dim);
            }
        }
    }
}

/// Every tensor that the forward pass of `config` reads, with `unit_rows` rows of unit embeddings.
pub fn expected(config: &ModelConfig, unit_rows: usize) -> Vec<Expected> {
    let dim = config.dim;
    let mut layout = Layout { tensors: Vec::new() };
    layout.tensor(
        "unit_emb.weight".into(),
        &[unit_rows, dim],
        "rows of `unit_emb.vocab`, dim",
    );
    layout.tensor("token_type_emb.weight".into(), &[TOKEN_TYPES, dim], "4, dim");
    layout.tensor(
        "latent_emb.weight".into(),
        &[config.num_latents_per_step, dim],
        "num_latents_per_step, dim",
    );
    layout.tensor(
        "bin_emb".into(),
        &[1, config.max_pred_bins, dim],
        "1, max_pred_bins, dim",
    );
    layout.tensor("rotary_emb.omega".into(), &[config.dim_head / 2], "dim_head / 2");
    layout.cross_attention("enc_atn", config);
    layout.feed_forward("enc_ffn", dim);
    for i in 0..config.enc_depth {
        layout.self_attention(&format!("proc_layers.{i}.0"), config);
        layout.feed_forward(&format!("proc_layers.{i}.1"), dim);
    }
    let memory = matches!(
        config.decoder,
        Decoder::PredictionMemory | Decoder::LocalPredictionMemory
    );
    for i in 0..config.dec_depth {
        layout.cross_attention(&format!("ar_decoder.layers.{i}.0"), config);
        if memory {
            layout.cross_attention(&format!("ar_decoder.layers.{i}.1"), config);
        }
        layout.self_attention(&format!("ar_decoder.layers.{i}.2"), config);
        layout.feed_forward(&format!("ar_decoder.layers.{i}.3"), dim);
    }
    layout.linear("head.bin_proj", dim / 2, dim, "dim / 2, dim");
    layout.linear("head.unit_proj", dim / 2, dim, "dim / 2, dim");
    layout.linear("head.mlp.0", dim / 2, dim, "dim / 2, dim");
    layout.linear("head.mlp.2", dim / 4, dim / 2, "dim / 4, dim / 2");
    layout.linear("head.mlp.4", 1, dim / 4, "1, dim / 4");
    layout.feedback(config);
    if let Some(history) = &config.history {
        let (own, bins) = (history.time_constants_s.len() + 1, config.max_pred_bins);
        let read = history.population_time_constants * history.components;
        let meaning = "max_pred_bins, time constants + 1";
        layout.tensor("history.bin_weight".into(), &[bins, own], meaning);
        let meaning = "unit rows, time constants + 1";
        layout.tensor("history.unit_weight".into(), &[unit_rows, own], meaning);
        let meaning = "unit rows, population_time_constants · components";
        layout.tensor("history.read".into(), &[unit_rows, read], meaning);
        let meaning = "unit rows, components";
        layout.tensor("history.write".into(), &[unit_rows, history.components], meaning);
        let meaning = "max_pred_bins, components";
        layout.tensor("history.bin_mix".into(), &[bins, history.components], meaning);
    }
    layout.identity(config);
    for condition in &config.conditions {
        let prefix = format!("condition.{}", condition.series);
        layout.linear(&prefix, dim, condition.channels(), "dim, channels");
    }
    layout.readouts(config);
    layout.tensors
}

/// Checks that every tensor is there, has its shape and is finite; notes those that the network does not read.
pub(super) fn validate(checkpoint: &mut Checkpoint) -> Result<(), Reason> {
    let rows = checkpoint.unit_ids.len();
    if rows < 2 {
        return Err(Reason::Vocabulary("it knows no unit".into()));
    }
    let expected = expected(&checkpoint.config, rows);
    for Expected { name, shape, meaning } in &expected {
        let refuse = |reason: String| Reason::Tensor {
            name: name.clone(),
            reason,
        };
        let tensor = checkpoint
            .tensors
            .get(name)
            .ok_or_else(|| refuse("is missing".into()))?;
        if tensor.shape != *shape {
            return Err(refuse(format!(
                "has shape {:?}, expected {shape:?} ({meaning})",
                tensor.shape
            )));
        }
        if let Some(index) = tensor.data.iter().position(|x| !x.is_finite()) {
            return Err(refuse(format!("holds {} at element {index}", tensor.data[index])));
        }
    }
    if let Some(rates) = &checkpoint.null_log_rates {
        let refuse = |reason: String| Reason::Tensor {
            name: "null_rate_lookup".into(),
            reason,
        };
        if rates.len() != rows {
            return Err(refuse(format!(
                "has {} elements, expected one for each of {rows} rows",
                rates.len()
            )));
        }
        // Row 0 stands for no unit.
        if let Some(index) = rates.iter().skip(1).position(|x| !x.is_finite()) {
            return Err(refuse(format!("holds {} for unit row {}", rates[index + 1], index + 1)));
        }
    }
    if checkpoint.config.history.is_some() && checkpoint.null_log_rates.is_none() {
        return Err(Reason::Missing("`null_rate_lookup`, which `recent_history` needs,"));
    }
    checkpoint.unused = checkpoint
        .tensors
        .keys()
        .filter(|name| !expected.iter().any(|expected| expected.name == **name))
        .cloned()
        .collect();
    Ok(())
}
