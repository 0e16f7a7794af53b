//! How many floating-point operations a prediction takes at least.

use crate::model::config::{Decoder, Feedback, ModelConfig};

/// Operations of one prediction, a multiplication and an addition being two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize)]
pub struct Operations {
    /// Products with weights over all latents or tokens.
    pub encoder_linear: u64,
    /// Scores and weighted sums of the encoder's attentions.
    pub encoder_attention: u64,
    /// Everything after the processor: decoder, feedback, head.
    pub decoder: u64,
}

impl Operations {
    /// All of them.
    pub fn total(&self) -> u64 {
        self.encoder_linear + self.encoder_attention + self.decoder
    }
}

/// Counts the operations of one generation with `units` units, `bins` bins and `spikes` spikes in the window, given that
/// what depends on the session or on earlier bins is not computed again.
pub fn count(config: &ModelConfig, units: usize, bins: usize, spikes: usize) -> Operations {
    let product = |rows: usize, inputs: usize, outputs: usize| 2 * (rows * inputs * outputs) as u64;
    let attention = |queries: usize, keys: usize, width: usize| 4 * (queries * keys * width) as u64;
    let (d, latents) = (config.dim, config.latent_times().len());
    let cross = config.cross_heads * config.dim_head;
    let own = config.self_heads * config.dim_head;
    let ffn = |rows: usize| product(rows, d, 8 * d) + product(rows, 4 * d, d);

    let processor = product(latents, d, 3 * own) + product(latents, own, d) + ffn(latents);
    let encoder = product(latents, cross, d) + ffn(latents);
    let decoder_tables = config.dec_depth as u64 * product(latents, d, 2 * cross);
    let encoder_linear = encoder + config.enc_depth as u64 * processor + decoder_tables;
    let encoder_attention =
        attention(latents, 2 * units + spikes, cross) + config.enc_depth as u64 * attention(latents, latents, own);

    let memory_tokens = match config.decoder {
        Decoder::QueryAug(_) => 0,
        Decoder::PredictionMemory | Decoder::LocalPredictionMemory => config.memory_tokens,
    };
    let cross_layer = |keys: usize| product(1, d, cross) + attention(1, keys, cross) + product(1, cross, d);
    let mut decoder = 0;
    for bin in 0..bins {
        let mut layer = cross_layer(latents);
        if memory_tokens > 0 {
            layer += product(memory_tokens, d, 2 * cross) + cross_layer((bin + 1) * memory_tokens);
        }
        layer += product(1, d, 3 * own) + attention(1, bin + 1, own) + product(1, own, d) + ffn(1);
        decoder += config.dec_depth as u64 * layer;
        decoder += product(1, d, d / 2) + product(1, d / 2, d / 2);
        decoder += product(units, d / 2, d / 4) + product(units, d / 4, 1);
        decoder += match config.decoder {
            _ if bin == 0 => 0,
            Decoder::QueryAug(Feedback::None) => 0,
            Decoder::QueryAug(Feedback::RateWeighted) => 2 * (units * d) as u64,
            Decoder::QueryAug(Feedback::MlpPool) => product(units, 16, d) + product(1, d, d),
            Decoder::QueryAug(Feedback::CrossAttn) => product(units, d, d) + attention(1, units, d) + product(1, d, d),
            Decoder::PredictionMemory | Decoder::LocalPredictionMemory => {
                3 * product(units, d, d)
                    + product(units, d, 2 * d)
                    + attention(memory_tokens, units, d)
                    + product(memory_tokens, d, d)
            }
        };
    }
    Operations {
        encoder_linear,
        encoder_attention,
        decoder,
    }
}
