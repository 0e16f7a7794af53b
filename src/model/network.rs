//! The forward pass: spikes → latents → log rates, written once over [`Backend`].
//!
//! What depends on the session's units only is computed once, in [`Network::new`]: keys and values of every (unit, token
//! type), queries of the latents, the unit's part of the head and of the feedback encoder. What depends on the past bins
//! only is cached while generating. Neither changes the numbers beyond the order of sums.

mod inspect;

use kernels::{
    Activation, Attention, Backend, BackendError, Dropout, LinearArgs, Map, Mask, Matrix, Precision, Rotary, View,
};

use std::sync::Arc;

use kernels::generation::{GeneratedHead, Generation};

use super::checkpoint::Checkpoint;
use super::conditions::Tokens;
use super::config::{Decoder, ModelConfig};
use super::identity::{Identities, Reference};
use super::layers::add_linear;
use super::readout::in_units;
use super::recent::SessionHistory;
use super::session::{Buffers, Session};
use super::traces::Traces;
use super::weights::Weights;
pub use inspect::{InputViews, Token};

/// Log rates are clamped to ± this.
pub const LOG_RATE_LIMIT: f32 = 10.0;

/// The sequence of operations of a prediction.
const PREDICTION: u64 = 1;

/// What a network is built for.
#[derive(Debug, Clone)]
pub struct SessionPlan {
    /// Rows of the checkpoint's `unit_emb` that are this session's units, in order.
    pub unit_rows: Vec<usize>,
    /// What the units did, for a network that computes their identities from it; without it they are looked up.
    pub reference: Option<Arc<Reference>>,
    /// Predicted bins, at most the checkpoint's `max_pred_bins`.
    pub bins: usize,
    /// Spikes that a window may hold.
    pub max_spikes: usize,
    /// Storage of the weights.
    pub precision: Precision,
}

/// The network with one session's units on one backend.
pub struct Network<B: Backend> {
    backend: B,
    config: ModelConfig,
    plan: SessionPlan,
    weights: Weights<B>,
    session: Session<B>,
    buffers: Buffers<B>,
}

/// What the decoder reads, and how far it is.
#[derive(Clone, Copy)]
struct Step {
    /// First bin.
    first: usize,
    /// Bins computed together.
    bins: usize,
    /// First of them whose log rates are wanted.
    emit_from: usize,
}

impl<B: Backend> Network<B> {
    /// Lays the weights out, computes the session's tables and takes every buffer.
    ///
    /// # Panics
    /// If the plan names no unit, a row that the checkpoint lacks, or more bins than it has queries for: callers check
    /// outside input first (see [`super::build()`]).
    pub fn new(mut backend: B, checkpoint: &Checkpoint, plan: SessionPlan) -> Self {
        let config = checkpoint.config.clone();
        assert!(!plan.unit_rows.is_empty() && (1..=config.max_pred_bins).contains(&plan.bins));
        let weights = Weights::new(&mut backend, checkpoint, plan.precision);
        let session = Session::new(&mut backend, checkpoint, &weights, &plan);
        let buffers = Buffers::new(&mut backend, &config, &weights, &plan);
        Network {
            backend,
            config,
            plan,
            weights,
            session,
            buffers,
        }
    }

    /// The backend, for people.
    pub fn describe(&self) -> String {
        self.backend.describe()
    }

    /// The system's numbers of the threads that compute beside the calling one.
    pub fn worker_threads(&self) -> &[i32] {
        self.backend.worker_threads()
    }

    /// Sizes and variant.
    pub fn config(&self) -> &ModelConfig {
        &self.config
    }

    /// What it was built for.
    pub fn plan(&self) -> &SessionPlan {
        &self.plan
    }

    /// Takes in what is known of recent history: `features` `[N, K + 2]` as [`super::traces::Traces::features`] gives them,
    /// `population` `[J, N]` as [`super::traces::Traces::population`] does. Of use only where the configuration has the path;
    /// before [`generate`](Self::generate) or [`teacher_force`](Self::teacher_force).
    pub fn set_history(&mut self, features: &[f32], population: &[f32]) {
        if let (Some(path), Some(session)) = (&self.weights.history, &mut self.session.history) {
            path.set(&mut self.backend, session, features, population);
        }
    }

    /// [`set_history`](Self::set_history) from the traces themselves.
    pub fn set_traces(&mut self, traces: &Traces) {
        if let (Some(path), Some(session)) = (&self.weights.history, &mut self.session.history) {
            let Buffers {
                features, population, ..
            } = &mut self.buffers;
            traces.features(features);
            traces.population(population);
            path.set(&mut self.backend, session, features, population);
        }
    }

    /// Takes other identities of the session's units in, from the next [`encode`](Self::encode) on; allocates nothing. The
    /// traces are to be told of the mean rates apart ([`Traces::compare_with`]).
    pub fn identify(&mut self, identities: &Identities) {
        self.session.identify(&mut self.backend, &self.weights, identities);
    }

    /// Only these units are seen from the next [`encode`](Self::encode) on, numbers within the session: the others have no
    /// start and end tokens, and must have no spikes. They are predicted all the same.
    pub fn see_units(&mut self, present: &[u32]) {
        let (n, buffers) = (self.plan.unit_rows.len() as u32, &mut self.buffers);
        // A window of fewer units may have turned these rows by the times of its spikes.
        let ends: Vec<f64> = present.iter().flat_map(|_| [0.0, self.config.history_s()]).collect();
        self.backend.set_rotation(&mut buffers.token_rotation, 0, &ends);
        buffers.token_rows_host.clear();
        let ends = present.iter().flat_map(|&unit| [n + unit, 2 * n + unit]);
        buffers.token_rows_host.extend(ends);
        buffers.ends = 2 * present.len();
    }

    /// One prediction, from a window's spikes to log rates `[T, N]`: [`set_traces`](Self::set_traces) where the network sees
    /// recent history, [`encode`](Self::encode), [`generate`](Self::generate), [`log_rates`](Self::log_rates); the same
    /// operations each time, so that a backend may repeat them as a whole.
    pub fn predict(
        &mut self,
        traces: Option<&Traces>,
        times_s: &[f64],
        units: &[u32],
        log_rates: &mut [f32],
    ) -> Result<(), BackendError> {
        self.backend.repeat(PREDICTION);
        if let Some(traces) = traces {
            self.set_traces(traces);
        }
        self.encode(times_s, units);
        self.generate();
        self.log_rates(log_rates)
    }

    /// Whether [`predict_within`](Self::predict_within) can stop early: a backend that repeats a prediction as a whole cannot.
    pub fn shortens(&self) -> bool {
        !self.backend.repeats()
    }

    /// As [`predict`](Self::predict), but only the first bins: once the latents are there, `bins` says how many. Returns that
    /// number, at most the plan's; `log_rates` `[T, N]` then holds so many rows. They are those of a whole prediction, since no bin
    /// depends on a later one; without feedback to the last bit or two, as bins then go through their products together.
    pub fn predict_within(
        &mut self,
        traces: Option<&Traces>,
        times_s: &[f64],
        units: &[u32],
        bins: &mut dyn FnMut() -> usize,
        log_rates: &mut [f32],
    ) -> Result<usize, BackendError> {
        if let Some(traces) = traces {
            self.set_traces(traces);
        }
        self.encode(times_s, units);
        let bins = bins().min(self.plan.bins);
        self.generate_first(bins);
        let numbers = bins * self.plan.unit_rows.len();
        let made = self.buffers.log_rates.row_block(0, numbers);
        self.backend.download(made, &mut log_rates[..numbers])?;
        Ok(bins)
    }

    /// What the next windows show of other modalities, in the order of the configuration's `conditions`; nothing until it is
    /// called. Allocates nothing.
    pub fn set_conditions(&mut self, conditions: &[Tokens]) {
        for (modality, tokens) in self.buffers.conditions.iter_mut().zip(conditions) {
            modality.shown.copy(tokens);
        }
    }

    /// Turns the window's spikes into latents, the decoder's keys and values of them, and what is read out of them. `times_s` are seconds from the
    /// start of the history window, `units` numbers within the session, as many of each; at most the plan's spikes.
    pub fn encode(&mut self, times_s: &[f64], units: &[u32]) {
        let Network {
            backend,
            config,
            plan,
            weights,
            session,
            buffers,
        } = self;
        assert!(times_s.len() == units.len() && units.len() <= plan.max_spikes);
        let (ends, rows, times) = (
            buffers.ends,
            &mut buffers.token_rows_host,
            &mut buffers.token_times_host,
        );
        rows.truncate(ends);
        rows.extend_from_slice(units);
        times.clear();
        times.extend_from_slice(times_s);
        for (modality, to_token) in buffers.conditions.iter_mut().zip(&weights.conditions) {
            modality.list(rows, times);
            modality.embed(backend, to_token, &weights.encoder.to_kv, &mut session.token_key_value);
        }
        backend.set_rows(&mut buffers.token_rows, rows);
        backend.set_rotation(&mut buffers.token_rotation, ends, times);

        let (rows, width) = (buffers.latents.rows(), weights.encoder.width);
        let latent_rotary = Rotary {
            rotation: &session.latent_rotation,
            first: 0,
        };
        let x = &mut buffers.latents;
        backend.gather(weights.latents.view(), &session.latent_rows, x.view_mut());
        let tokens = session.token_key_value.rows();
        let args = Attention {
            query: session.latent_query.view(),
            query_rows: Some(&session.latent_rows),
            query_rotary: Some(latent_rotary),
            key: session.token_key_value.block(0, tokens, 0, width),
            value: session.token_key_value.block(0, tokens, width, width),
            key_rows: Some(&buffers.token_rows),
            key_rotary: Some(Rotary {
                rotation: &buffers.token_rotation,
                first: 0,
            }),
            rotate_value: true,
            heads: config.cross_heads,
            mask: Mask::All,
            dropout: Dropout::Weights,
        };
        backend.attention(args, buffers.attended.block_mut(0, rows, 0, width));
        let attended = buffers.attended.block(0, rows, 0, width);
        add_linear(backend, attended, &weights.encoder.to_out, Dropout::None, x.view_mut());
        weights.encoder_ffn.apply(backend, x, rows, &mut buffers.hidden);

        for layer in &weights.processor {
            let (qkv, attended) = (&mut buffers.qkv, &mut buffers.attended);
            layer
                .attention
                .apply_rotating_values(backend, x, latent_rotary, qkv, attended);
            layer.ffn.apply(backend, x, rows, &mut buffers.hidden);
        }
        for (layer, key_value) in weights.decoder.iter().zip(&mut buffers.latent_key_value) {
            layer
                .cross
                .keys_and_values(backend, x.view(), latent_rotary, key_value, 0);
        }
        if let (Some(head), Some(readout)) = (&weights.readout, &mut buffers.readout) {
            let components = session.history.as_ref().map(SessionHistory::components);
            head.read_out(backend, x, latent_rotary, components, readout);
        }
    }

    /// Log rates of every bin, each fed with its own earlier predictions; after [`encode`](Self::encode).
    pub fn generate(&mut self) {
        self.generate_first(self.plan.bins);
    }

    /// The same of the first `bins` bins.
    fn generate_first(&mut self, bins: usize) {
        if bins == 0 {
            return;
        }
        if !self.weights.feedback.is_some() && self.config.causal {
            // Nothing is fed back, so that one pass gives what one by one would.
            return self.decode(Step {
                first: 0,
                bins,
                emit_from: 0,
            });
        }
        if self.generate_at_once(bins) {
            return;
        }
        for t in 0..bins {
            if t == 0 {
                self.first_feedback(false);
            } else {
                self.feed_back_prediction(t - 1);
                self.encode_feedback(t, t - 1);
            }
            // Without the causal mask an earlier bin changes with every later one: the prefix is computed anew.
            let first = if self.config.causal { t } else { 0 };
            self.decode(Step {
                first,
                bins: t + 1 - first,
                emit_from: t,
            });
        }
    }

    /// The loop of [`generate`](Self::generate) as one operation, where the variant and the backend have it.
    fn generate_at_once(&mut self, count: usize) -> bool {
        let Network {
            backend,
            config,
            plan,
            weights,
            session,
            buffers,
        } = self;
        let feedback = weights.feedback.generated(&session.units, &session.feedback);
        let (Some(feedback), true) = (feedback, config.causal) else {
            return false;
        };
        let latents = &buffers.latent_key_value;
        let decoder = &weights.decoder;
        let local = config.decoder == Decoder::LocalPredictionMemory;
        let args = Generation {
            queries: weights.bin_queries.row_block(0, count),
            layer: &|index| decoder[index].generated(latents[index].view(), &session.memory_rotation, local),
            layers: decoder.len(),
            cross_heads: config.cross_heads,
            self_heads: config.self_heads,
            bins: &session.bin_rotation,
            feedback,
            head: GeneratedHead {
                bin_proj: &weights.head.bin_proj,
                from_bin: &weights.head.from_bin,
                units: session.head_units.view(),
                hidden: &weights.head.hidden,
                output: &weights.head.output,
            },
            history: session.history.as_ref().map(|history| history.generated(count)),
            limit: LOG_RATE_LIMIT,
            log_rates: buffers.log_rates.row_block_mut(0, count * plan.unit_rows.len()),
        };
        backend.generate(args)
    }

    /// Log rates of every bin, bin `t` fed with the given counts of bin `t − 1`; after [`encode`](Self::encode).
    /// `counts` `[T, N]`.
    pub fn teacher_force(&mut self, counts: &[f32]) {
        self.backend.upload(counts, self.buffers.counts.view_mut());
        self.first_feedback(true);
        for t in 1..self.plan.bins {
            self.encode_feedback(t, t - 1);
        }
        self.decode(Step {
            first: 0,
            bins: self.plan.bins,
            emit_from: 0,
        });
    }

    /// What it runs on, and the log rates there, `[T·N, 1]`: for a backend that learns from them.
    pub fn predicted(&mut self) -> (&mut B, View<'_, B::Tensor>) {
        (&mut self.backend, self.buffers.log_rates.view())
    }

    /// Whether bins are fed with earlier counts.
    pub fn feeds_back(&self) -> bool {
        self.weights.feedback.is_some()
    }

    /// The backend alone; tensors that it keeps for this network are of no use afterwards.
    pub fn into_backend(self) -> B {
        self.backend
    }

    /// Copies the log rates out, `[T, N]`.
    pub fn log_rates(&mut self, out: &mut [f32]) -> Result<(), BackendError> {
        self.backend.download(self.buffers.log_rates.view(), out)
    }

    /// What it runs on, and what a task of the behaviour head read out there, `[R, columns]`, in deviations or logits: for a
    /// backend that learns from it. Tasks are numbered as the configuration's `readouts`.
    ///
    /// # Panics
    /// If there is no such task.
    pub fn read_out(&mut self, task: usize) -> (&mut B, View<'_, B::Tensor>) {
        let readout = self.buffers.readout.as_ref().expect("a network with readouts");
        (&mut self.backend, readout.output(task))
    }

    /// Copies out what a task of the behaviour head read, `[R, columns]`: numbers in the series' unit, or the classes'
    /// probabilities.
    ///
    /// # Errors
    /// A device that failed.
    pub fn readout(&mut self, task: usize, out: &mut [f32]) -> Result<(), BackendError> {
        let (backend, read) = self.read_out(task);
        backend.download(read, out)?;
        in_units(&self.config.readouts[task], out);
        Ok(())
    }

    /// Copies the processor's output out, `[L, D]`.
    pub fn latents(&mut self, out: &mut [f32]) -> Result<(), BackendError> {
        self.backend.download(self.buffers.latents.view(), out)
    }

    /// L and D.
    pub fn latent_shape(&self) -> (usize, usize) {
        (self.buffers.latents.rows(), self.buffers.latents.cols())
    }

    /// What bin 0 gets, which has no bin before it: zeros, but that `query_aug` encodes a zero count when the true counts
    /// are fed (as the reference does while training).
    fn first_feedback(&mut self, teacher_forced: bool) {
        let Network {
            backend,
            config,
            weights,
            session,
            buffers,
            ..
        } = self;
        if !weights.feedback.is_some() {
            return;
        }
        let rows = weights.feedback.rows();
        let memory = weights.feedback.memory_tokens() > 0;
        let out = buffers.feedback.row_block_mut(0, rows);
        if memory || !teacher_forced {
            backend.fill(0.0, out);
        } else {
            let silence = session.silence.view();
            weights
                .feedback
                .encode(backend, &session.units, &mut session.feedback, silence, out);
        }
        if memory {
            write_memory(backend, config, weights, session, buffers, 0);
        }
    }

    /// The expected counts of a predicted bin become the counts that are fed back.
    fn feed_back_prediction(&mut self, bin: usize) {
        let n = self.plan.unit_rows.len();
        let rates = self.buffers.log_rates.row_block(bin * n, n);
        self.backend
            .map(Map::Exp, rates, self.buffers.counts.row_block_mut(bin * n, n));
    }

    /// Encodes the counts of bin `from` for bin `t`.
    fn encode_feedback(&mut self, t: usize, from: usize) {
        let Network {
            backend,
            config,
            plan,
            weights,
            session,
            buffers,
        } = self;
        if !weights.feedback.is_some() {
            return;
        }
        let (n, rows) = (plan.unit_rows.len(), weights.feedback.rows());
        let counts = buffers.counts.row_block(from * n, n);
        let out = buffers.feedback.row_block_mut(t * rows, rows);
        weights
            .feedback
            .encode(backend, &session.units, &mut session.feedback, counts, out);
        if weights.feedback.memory_tokens() > 0 {
            write_memory(backend, config, weights, session, buffers, t);
        }
    }

    /// Runs the decoder and the head over some bins; those before them are in the caches.
    fn decode(&mut self, step: Step) {
        let Network {
            backend,
            config,
            plan,
            weights,
            session,
            buffers,
        } = self;
        let Step { first, bins, emit_from } = step;
        let end = first + bins;
        let x = &mut buffers.bins;
        backend.copy(
            weights.bin_queries.row_block(first, bins),
            false,
            x.row_block_mut(0, bins),
        );
        let memory_tokens = weights.feedback.memory_tokens();
        if weights.feedback.is_some() && memory_tokens == 0 {
            backend.copy(buffers.feedback.row_block(first, bins), true, x.row_block_mut(0, bins));
        }
        let rotary = Rotary {
            rotation: &session.bin_rotation,
            first,
        };
        let memory_mask = if config.decoder == Decoder::LocalPredictionMemory {
            Mask::Local {
                first,
                keys_per_query: memory_tokens,
            }
        } else {
            Mask::Causal {
                first,
                keys_per_query: memory_tokens,
            }
        };
        for (i, layer) in weights.decoder.iter().enumerate() {
            let (query, attended) = (&mut buffers.query, &mut buffers.attended);
            let latents = buffers.latent_key_value[i].view();
            layer
                .cross
                .apply(backend, x, bins, rotary, latents, Mask::All, query, attended);
            if let Some(memory) = &layer.memory {
                let slots = buffers.memory_key_value[i].row_block(0, end * memory_tokens);
                memory.apply(backend, x, bins, rotary, slots, memory_mask, query, attended);
            }
            let cache = &mut buffers.bin_qkv[i];
            let rotation = &session.bin_rotation;
            layer
                .own
                .apply_cached(backend, x, first, bins, rotation, config.causal, cache, attended);
            layer.ffn.apply(backend, x, bins, &mut buffers.hidden);
        }

        let (skipped, emitted, n) = (emit_from - first, end - emit_from, plan.unit_rows.len());
        let head = &weights.head;
        let plain = LinearArgs::default();
        let bin_half = &mut buffers.bin_half;
        backend.linear(
            x.row_block(skipped, emitted),
            &head.bin_proj,
            plain,
            bin_half.row_block_mut(0, emitted),
        );
        let plain = LinearArgs::default();
        let head_bins = &mut buffers.head_bins;
        backend.linear(
            bin_half.row_block(0, emitted),
            &head.from_bin,
            plain,
            head_bins.row_block_mut(0, emitted),
        );
        let rows = emitted * n;
        let hidden = buffers.head_hidden.row_block_mut(0, rows);
        backend.outer_add(
            head_bins.row_block(0, emitted),
            session.head_units.view(),
            Activation::Gelu,
            hidden,
        );
        let args = LinearArgs {
            activation: Activation::Gelu,
            ..LinearArgs::default()
        };
        let hidden = buffers.head_hidden.row_block(0, rows);
        backend.linear(hidden, &head.hidden, args, buffers.head_quarter.row_block_mut(0, rows));
        let plain = LinearArgs::default();
        let quarter = buffers.head_quarter.row_block(0, rows);
        let raw = buffers.raw_log_rates.row_block_mut(0, rows);
        backend.linear(quarter, &head.output, plain, raw);
        if let Some(history) = &session.history {
            history.add(
                backend,
                emit_from,
                emitted,
                buffers.raw_log_rates.row_block_mut(0, rows),
            );
        }
        let clamped = buffers.log_rates.row_block_mut(emit_from * n, rows);
        backend.map(
            Map::Clamp(LOG_RATE_LIMIT),
            buffers.raw_log_rates.row_block(0, rows),
            clamped,
        );
    }
}

/// Keys and values of memory slot `t` for every decoder layer.
fn write_memory<B: Backend>(
    backend: &mut B,
    config: &ModelConfig,
    weights: &Weights<B>,
    session: &Session<B>,
    buffers: &mut Buffers<B>,
    t: usize,
) {
    let tokens = weights.feedback.memory_tokens();
    let row = t * tokens;
    let rotary = Rotary {
        rotation: &session.memory_rotation,
        first: row,
    };
    for (layer, key_value) in weights.decoder.iter().zip(&mut buffers.memory_key_value) {
        let Some(memory) = &layer.memory else { continue };
        let slot = buffers.feedback.row_block(row, tokens);
        memory.keys_and_values(backend, slot, rotary, key_value, row);
        if t == 0 && config.decoder == Decoder::LocalPredictionMemory {
            // The reference gives the first local slot an embedding of zeros (cosine too), so that its keys vanish.
            backend.fill(0.0, key_value.block_mut(0, tokens, 0, memory.width));
        }
    }
}
