//! What a network looks at, from outside: its inputs and their derivatives on a backend that keeps them, and its attention.

use kernels::{Backend, BackendError, Matrix, View};

use super::Network;

/// A network's inputs on its backend, but for the tokens of units.
pub struct InputViews<'a, B: Backend> {
    /// Of each modality, in deviations, `[M, C]`.
    pub conditions: Vec<View<'a, B::Tensor>>,
    /// Of recent history, where the network has that path: every unit's own, `[N, K + 2]`, and the population's, `[J, N]`.
    pub history: Option<[View<'a, B::Tensor>; 2]>,
}

/// What a token that the encoder saw stands for.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Token {
    /// A spike of a unit.
    Spike(u32),
    /// The start or the end of a unit.
    End(u32),
    /// A step of a modality: its number, and the step's.
    Condition(usize, u32),
}

impl<B: Backend> Network<B> {
    /// Rows of the encoder's table that are tokens of units: type · N + unit, of the types spike, start and end.
    pub fn unit_tokens(&self) -> usize {
        3 * self.plan.unit_rows.len()
    }

    /// 2W: the width of the keys and values of a token.
    pub fn token_width(&self) -> usize {
        self.session.token_key_value.cols()
    }

    /// Copies keys and values of the units' tokens out, `[3N, 2W]`.
    ///
    /// # Errors
    /// A device that failed.
    pub fn token_table(&mut self, out: &mut [f32]) -> Result<(), BackendError> {
        let rows = self.unit_tokens();
        self.backend
            .download(self.session.token_key_value.row_block(0, rows), out)
    }

    /// Puts others in their place, from the next [`encode`](Network::encode) on.
    pub fn set_token_table(&mut self, table: &[f32]) {
        let rows = self.unit_tokens();
        self.backend
            .upload(table, self.session.token_key_value.row_block_mut(0, rows));
    }

    /// What it runs on, and its inputs there.
    pub fn inputs(&mut self) -> (&mut B, InputViews<'_, B>) {
        let history = self
            .session
            .history
            .as_ref()
            .map(|history| history.inputs().map(Matrix::view));
        let conditions = self
            .buffers
            .conditions
            .iter()
            .map(|modality| modality.values().view())
            .collect();
        (&mut self.backend, InputViews { conditions, history })
    }

    /// The tokens that the encoder saw last, and their times, s from the window's start.
    pub fn tokens(&self) -> Vec<(Token, f64)> {
        let (buffers, units) = (&self.buffers, self.plan.unit_rows.len() as u32);
        let history_s = self.config.history_s();
        let ends = (0..buffers.ends).map(|end| if end % 2 == 0 { 0.0 } else { history_s });
        let times = ends.chain(buffers.token_times_host.iter().copied());
        let token = |&row: &u32| match row {
            spike if spike < units => Token::Spike(spike),
            end if end < 3 * units => Token::End(end % units),
            row => {
                let of = buffers
                    .conditions
                    .iter()
                    .rposition(|modality| modality.first_row() <= row as usize);
                let modality = of.unwrap_or(0);
                Token::Condition(modality, row - buffers.conditions[modality].first_row() as u32)
            }
        };
        buffers.token_rows_host.iter().map(token).zip(times).collect()
    }

    /// How much of the encoder's attention each of the tokens that it saw last got: the mean over latents of the softmax, `[H, S]`;
    /// every head's sum to 1. Of what the encoder multiplies, summed in FP64.
    ///
    /// # Errors
    /// A device that failed.
    pub fn encoder_attention(&mut self) -> Result<Vec<f64>, BackendError> {
        let (heads, width) = (self.config.cross_heads, self.weights.encoder.width);
        let channels = width / heads;
        let mut read = |tensor: &B::Tensor| {
            let mut data = vec![0.0; tensor.rows() * tensor.cols()];
            self.backend.download(tensor.view(), &mut data).map(|()| data)
        };
        let queries = read(&self.session.latent_query)?;
        let table = read(&self.session.token_key_value)?;
        let (rows, tokens) = (&self.buffers.token_rows_host, self.tokens());
        let omega = &self.weights.omega;
        let turned = |row: &[f32], time: f64| -> Vec<f64> {
            let pairs = row.chunks_exact(2).enumerate();
            let turned = pairs.flat_map(|(pair, x)| {
                // Time and product are rounded as everywhere: see `Backend::set_rotation`.
                let (sine, cosine) = f64::from(time as f32 * omega[pair % omega.len()]).sin_cos();
                let [x, y] = [x[0], x[1]].map(f64::from);
                [x * cosine - y * sine, y * cosine + x * sine]
            });
            turned.collect()
        };
        let keys: Vec<Vec<f64>> = rows
            .iter()
            .zip(&tokens)
            .map(|(&row, &(_, time))| turned(&table[row as usize * 2 * width..][..width], time))
            .collect();
        let (times, of_row) = (self.config.latent_times(), self.config.latent_rows());
        let mut attention = vec![0.0; heads * keys.len()];
        for (&time, &row) in times.iter().zip(&of_row) {
            let query = turned(&queries[row as usize * width..][..width], time);
            for (head, attention) in attention.chunks_exact_mut(keys.len().max(1)).enumerate() {
                let of_head = head * channels..(head + 1) * channels;
                let product = |key: &Vec<f64>| {
                    let pairs = query[of_head.clone()].iter().zip(&key[of_head.clone()]);
                    pairs.map(|(q, k)| q * k).sum::<f64>() / (channels as f64).sqrt()
                };
                let logits: Vec<f64> = keys.iter().map(product).collect();
                let most = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let all: f64 = logits.iter().map(|logit| (logit - most).exp()).sum();
                for (sum, logit) in attention.iter_mut().zip(&logits) {
                    *sum += (logit - most).exp() / all / times.len() as f64;
                }
            }
        }
        Ok(attention)
    }
}

#[cfg(test)]
mod tests {
    use kernels::reference::ReferenceBackend;
    use kernels::{Attention, Dropout, Mask, Rotary};

    use super::*;
    use crate::model::checkpoint::Checkpoint;
    use crate::model::config::ModelConfig;
    use crate::model::SessionPlan;

    /// Values that hold a one in a channel of their token's own bring the weights themselves out of an attention.
    #[test]
    fn attention_is_what_the_encoder_multiplies() {
        let config = ModelConfig {
            sequence_length: 0.3,
            pred_window: 0.1,
            dim: 16,
            dim_head: 8,
            cross_heads: 2,
            num_latents_per_step: 3,
            ..ModelConfig::default()
        };
        let checkpoint = Checkpoint::random(&config, 3, 8);
        let plan = SessionPlan {
            unit_rows: vec![1, 2, 3],
            reference: None,
            bins: config.bins(),
            max_spikes: 4,
            precision: kernels::Precision::F32,
        };
        let mut network = Network::new(ReferenceBackend::default(), &checkpoint, plan);
        network.encode(&[0.031, 0.117], &[2, 0]);
        // Six starts and ends and two spikes: as many tokens as a head has channels.
        let found = network.encoder_attention().unwrap();
        let tokens: Vec<Token> = network.tokens().iter().map(|token| token.0).collect();
        assert_eq!(tokens[..2], [Token::End(0), Token::End(0)]);
        assert_eq!(tokens[6..], [Token::Spike(2), Token::Spike(0)]);
        for head in found.chunks(8) {
            assert!((head.iter().sum::<f64>() - 1.0).abs() < 1e-12);
        }

        let Network {
            backend,
            session,
            buffers,
            ..
        } = &mut network;
        let mut ones = vec![0.0; session.token_key_value.rows() * 16];
        for (token, &row) in buffers.token_rows_host.iter().enumerate() {
            for head in 0..2 {
                ones[row as usize * 16 + head * 8 + token] = 1.0;
            }
        }
        let rows = session.token_key_value.rows();
        let values = backend.tensor(rows, 16, &ones);
        let latents = config.latent_times().len();
        let mut out = backend.zeros(latents, 16);
        let args = Attention {
            query: session.latent_query.view(),
            query_rows: Some(&session.latent_rows),
            query_rotary: Some(Rotary {
                rotation: &session.latent_rotation,
                first: 0,
            }),
            key: session.token_key_value.block(0, rows, 0, 16),
            value: values.view(),
            key_rows: Some(&buffers.token_rows),
            key_rotary: Some(Rotary {
                rotation: &buffers.token_rotation,
                first: 0,
            }),
            rotate_value: false,
            heads: 2,
            mask: Mask::All,
            dropout: Dropout::None,
        };
        backend.attention(args, out.view_mut());
        let mut weights = vec![0.0; latents * 16];
        backend.download(out.view(), &mut weights).unwrap();
        for (place, found) in found.iter().enumerate() {
            let expected: f64 = weights.iter().skip(place).step_by(16).map(|&w| f64::from(w)).sum();
            assert!((found - expected / latents as f64).abs() < 1e-5, "{place}: {found}");
        }
    }
}
