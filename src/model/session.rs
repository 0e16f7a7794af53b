//! What a network holds beside its weights: the session's tables, and the buffers that a window writes.

use kernels::{Activation, Backend, LinearArgs, Matrix};

use super::checkpoint::Checkpoint;
use super::conditions::{condition_steps, modality_tokens, ModalityTokens};
use super::config::{Decoder, ModelConfig};
use super::feedback::UnitFeedback;
use super::identity::{Identities, UnitTables};
use super::network::SessionPlan;
use super::readout::ReadoutBuffers;
use super::recent::SessionHistory;
use super::weights::Weights;

/// Rows of the token-type embedding that are used: spike, start, end.
const TOKEN_TYPES: usize = 3;

/// What depends on the session's units, and nothing that changes from window to window.
pub(super) struct Session<B: Backend> {
    /// `[N, D]`.
    pub(super) units: B::Tensor,
    /// A bin in which nobody fired, `[N, 1]`.
    pub(super) silence: B::Tensor,
    /// Embeddings of every token, `[3N, D]`.
    tokens: B::Tensor,
    /// Keys and values of every token, `[3N + steps of all modalities, 2W]`: row `type · N + unit`, then those that a
    /// window writes.
    pub(super) token_key_value: B::Tensor,
    /// Queries of the latents of one step, `[P, W]`.
    pub(super) latent_query: B::Tensor,
    /// Row of the latent embedding for each of the L latents.
    pub(super) latent_rows: B::Rows,
    pub(super) latent_rotation: B::Rotation,
    pub(super) bin_rotation: B::Rotation,
    /// `[T·K]` rows, the time of a memory slot for each of its tokens.
    pub(super) memory_rotation: B::Rotation,
    /// `[N, D/2]`.
    unit_half: B::Tensor,
    /// The units' part of the head's first layer, `[N, D/2]`.
    pub(super) head_units: B::Tensor,
    pub(super) feedback: UnitFeedback<B>,
    pub(super) history: Option<SessionHistory<B>>,
}

/// Everything that a window writes.
pub(super) struct Buffers<B: Backend> {
    pub(super) token_rows: B::Rows,
    pub(super) token_rotation: B::Rotation,
    /// `token_rows` on the host: start and end of every unit, then the spikes and the other modalities' tokens.
    pub(super) token_rows_host: Vec<u32>,
    /// Times of the tokens behind the units' starts and ends, s.
    pub(super) token_times_host: Vec<f64>,
    /// What a window shows of other modalities.
    pub(super) conditions: Vec<ModalityTokens<B>>,
    /// Start and end tokens among them.
    pub(super) ends: usize,
    /// `[L, D]`.
    pub(super) latents: B::Tensor,
    /// `[L, 3W]`.
    pub(super) qkv: B::Tensor,
    /// `[max(L, T), W]`.
    pub(super) query: B::Tensor,
    pub(super) attended: B::Tensor,
    /// `[max(L, T), 4D]`.
    pub(super) hidden: B::Tensor,
    /// A decoder layer's keys (rotated) and values of the latents, `[L, 2W]`.
    pub(super) latent_key_value: Vec<B::Tensor>,
    /// A decoder layer's keys (rotated) and values of the memory, `[T·K, 2W]`; empty without a memory.
    pub(super) memory_key_value: Vec<B::Tensor>,
    /// A decoder layer's rotated queries and keys, and values, of the bins so far, `[T, 3W]`.
    pub(super) bin_qkv: Vec<B::Tensor>,
    /// What the feedback encoder made for each bin, `[T, D]` or `[T·K, D]`.
    pub(super) feedback: B::Tensor,
    /// `[T, D]`.
    pub(super) bins: B::Tensor,
    /// `[T, D/2]` each.
    pub(super) bin_half: B::Tensor,
    pub(super) head_bins: B::Tensor,
    /// `[T·N, D/2]`, `[T·N, D/4]`.
    pub(super) head_hidden: B::Tensor,
    pub(super) head_quarter: B::Tensor,
    /// `[T·N, 1]`: before and after the clamp.
    pub(super) raw_log_rates: B::Tensor,
    pub(super) log_rates: B::Tensor,
    /// Features of recent history on the host: `[N, K + 2]` and `[J, N]`; empty without that path.
    pub(super) features: Vec<f32>,
    pub(super) population: Vec<f32>,
    /// Counts that are fed back, `[T·N, 1]`.
    pub(super) counts: B::Tensor,
    /// Of the behaviour head, where there is one.
    pub(super) readout: Option<ReadoutBuffers<B>>,
}

/// An inner width that serves both kinds of attention.
fn scratch_width(config: &ModelConfig) -> usize {
    config.cross_heads.max(config.self_heads) * config.dim_head
}

/// What the checkpoint's tables hold of some units.
fn looked_up<B: Backend>(backend: &mut B, weights: &Weights<B>, unit_rows: &[usize]) -> UnitTables<B> {
    let rows: Vec<u32> = unit_rows.iter().map(|&row| row as u32).collect();
    let mut list = backend.rows(rows.len());
    backend.set_rows(&mut list, &rows);
    let mut units = backend.zeros(rows.len(), weights.units.cols());
    backend.gather(weights.units.view(), &list, units.view_mut());
    let history = weights.history.as_ref();
    UnitTables {
        units,
        history: history.map(|path| path.looked_up(backend, &list, rows.len())),
    }
}

impl<B: Backend> Session<B> {
    pub(super) fn new(backend: &mut B, checkpoint: &Checkpoint, weights: &Weights<B>, plan: &SessionPlan) -> Self {
        let config = &checkpoint.config;
        let (dim, n) = (config.dim, plan.unit_rows.len());
        let UnitTables { units, history } = match (&weights.identity, &plan.reference) {
            (Some(encoder), Some(reference)) => encoder.tables(backend, reference),
            _ => looked_up(backend, weights, &plan.unit_rows),
        };

        let width = weights.encoder.width;
        let mut latent_query = backend.zeros(weights.latents.rows(), width);
        weights
            .encoder
            .to_q
            .apply(backend, weights.latents.view(), latent_query.view_mut());

        let latent_times = config.latent_times();
        let mut latent_rows = backend.rows(latent_times.len());
        backend.set_rows(&mut latent_rows, &config.latent_rows());
        let mut latent_rotation = backend.rotation(latent_times.len(), &weights.omega);
        backend.set_rotation(&mut latent_rotation, 0, &latent_times);

        let centres: Vec<f64> = config.bin_centres(plan.bins).iter().map(|&t| f64::from(t)).collect();
        let mut bin_rotation = backend.rotation(plan.bins, &weights.omega);
        backend.set_rotation(&mut bin_rotation, 0, &centres);
        let slots = plan.bins * weights.feedback.memory_tokens();
        let mut memory_rotation = backend.rotation(slots, &weights.omega);
        if slots > 0 {
            // A local slot carries the time of the bin that its counts came from; its first slot is dealt with apart.
            let shift = usize::from(config.decoder == Decoder::LocalPredictionMemory);
            let times: Vec<f64> = (0..slots)
                .map(|row| centres[(row / weights.feedback.memory_tokens()).saturating_sub(shift)])
                .collect();
            backend.set_rotation(&mut memory_rotation, 0, &times);
        }

        let history = weights.history.as_ref().zip(history);
        let history = history.map(|(path, tables)| path.prepare(backend, tables, plan.bins));
        let mut session = Session {
            history,
            units,
            silence: backend.zeros(n, 1),
            tokens: backend.zeros(TOKEN_TYPES * n, dim),
            token_key_value: backend.zeros(TOKEN_TYPES * n + condition_steps(config), 2 * width),
            latent_query,
            latent_rows,
            latent_rotation,
            bin_rotation,
            memory_rotation,
            unit_half: backend.zeros(n, dim / 2),
            head_units: backend.zeros(n, dim / 2),
            feedback: weights.feedback.room(backend, n, dim),
        };
        session.derive(backend, weights);
        session
    }

    /// Takes other identities of the units in; allocates nothing.
    pub(super) fn identify(&mut self, backend: &mut B, weights: &Weights<B>, identities: &Identities) {
        backend.upload(identities.embeddings(), self.units.view_mut());
        if let (Some(session), Some(tables)) = (&mut self.history, identities.history()) {
            session.identify(backend, tables);
        }
        self.derive(backend, weights);
    }

    /// Computes what follows from the units' embeddings.
    fn derive(&mut self, backend: &mut B, weights: &Weights<B>) {
        let units = self.units.view();
        let types = weights.token_types.row_block(0, TOKEN_TYPES);
        backend.outer_add(types, units, Activation::Identity, self.tokens.view_mut());
        let (to_kv, rows) = (&weights.encoder.to_kv, self.tokens.rows());
        to_kv.apply(backend, self.tokens.view(), self.token_key_value.row_block_mut(0, rows));
        let plain = LinearArgs::default();
        backend.linear(units, &weights.head.unit_proj, plain, self.unit_half.view_mut());
        let (plain, half) = (LinearArgs::default(), self.unit_half.view());
        backend.linear(half, &weights.head.from_unit, plain, self.head_units.view_mut());
        weights.feedback.prepare(backend, &self.units, &mut self.feedback);
    }
}

impl<B: Backend> Buffers<B> {
    pub(super) fn new(backend: &mut B, config: &ModelConfig, weights: &Weights<B>, plan: &SessionPlan) -> Self {
        let (dim, n, bins) = (config.dim, plan.unit_rows.len(), plan.bins);
        let latents = config.latent_times().len();
        let (cross_width, self_width) = (weights.encoder.width, config.self_heads * config.dim_head);
        let shown = plan.max_spikes + condition_steps(config);
        let tokens = 2 * n + shown;
        let memory = weights.feedback.memory_tokens();
        let rows = latents.max(bins);

        let mut token_rotation = backend.rotation(tokens, &weights.omega);
        let ends: Vec<f64> = (0..n).flat_map(|_| [0.0, config.history_s()]).collect();
        backend.set_rotation(&mut token_rotation, 0, &ends);
        let mut token_rows_host = Vec::with_capacity(tokens);
        token_rows_host.extend((0..n as u32).flat_map(|unit| [n as u32 + unit, 2 * n as u32 + unit]));

        let layers = 0..config.dec_depth;
        let buffers = Buffers {
            token_rows: backend.rows(tokens),
            token_rotation,
            token_rows_host,
            token_times_host: Vec::with_capacity(shown),
            conditions: modality_tokens(backend, config, TOKEN_TYPES * n),
            ends: 2 * n,
            latents: backend.zeros(latents, dim),
            qkv: backend.zeros(latents, 3 * self_width),
            query: backend.zeros(rows, scratch_width(config)),
            attended: backend.zeros(rows, scratch_width(config)),
            hidden: backend.zeros(rows, 4 * dim),
            latent_key_value: layers
                .clone()
                .map(|_| backend.zeros(latents, 2 * cross_width))
                .collect(),
            memory_key_value: layers
                .clone()
                .filter(|_| memory > 0)
                .map(|_| backend.zeros(bins * memory, 2 * cross_width))
                .collect(),
            bin_qkv: layers.map(|_| backend.zeros(bins, 3 * self_width)).collect(),
            feedback: backend.zeros(bins * weights.feedback.rows(), dim),
            bins: backend.zeros(bins, dim),
            bin_half: backend.zeros(bins, dim / 2),
            head_bins: backend.zeros(bins, dim / 2),
            head_hidden: backend.zeros(bins * n, dim / 2),
            head_quarter: backend.zeros(bins * n, dim / 4),
            raw_log_rates: backend.zeros(bins * n, 1),
            log_rates: backend.zeros(bins * n, 1),
            counts: backend.zeros(bins * n, 1),
            readout: weights
                .readout
                .as_ref()
                .map(|head| head.prepare(backend, config, &weights.omega)),
            features: vec![
                0.0;
                n * config
                    .history
                    .as_ref()
                    .map_or(0, |path| path.time_constants_s.len() + 2)
            ],
            population: vec![0.0; n * config.history.as_ref().map_or(0, |path| path.population_time_constants)],
        };
        let heads = config.cross_heads.max(config.self_heads);
        let widest = (4 * dim).max(scratch_width(config));
        backend.reserve(rows.max(bins * n), tokens.max(latents), heads, config.dim_head, widest);
        buffers
    }
}
