//! Which input moved a prediction: integrated gradients (Sundararajan, Taly and Yan 2017), on the tape that learns.
//!
//! With F(α) what the network makes of its inputs when all of them are α times as far from a baseline as they were,
//!
//! ```text
//! A_i = (x_i − x⁰_i) ∫₀¹ ∂F(α)/∂x_i dα           Σ_i A_i = F(1) − F(0)
//! ```
//! F is the log-likelihood of the counts that followed, in bits. Inputs are what the encoder attends to, one token at a time (keys and values
//! of a spike, of a unit's start and end), the samples of other modalities, and recent history. At the baseline a token of a unit has
//! keys and values of zero, a modality stands at its mean, and so does recent history: nobody says anything, but it is known how
//! many tokens there are. The integral is a sum over the nodes of a [quadrature](super::quadrature); what it leaves of the equation is the
//! residual.
//! A network that is fed with counts is fed with the expected counts of its own prediction throughout.

use kernels::cpu::{CpuBackend, CpuOptions};
use kernels::tape::{DropRates, Tape};
use kernels::{BackendError, Precision};

use super::quadrature::Node;
use crate::model::checkpoint::Checkpoint;
use crate::model::conditions::Tokens;
use crate::model::network::{Network, SessionPlan, Token};
use crate::model::traces::Traces;

/// A window and what followed it.
#[derive(Debug, Clone, Copy)]
pub struct GradientWindow<'a> {
    /// Spikes of the history, s from its start.
    pub times_s: &'a [f64],
    /// Their units.
    pub units: &'a [u32],
    /// Recent history, for a network that sees it.
    pub traces: Option<&'a Traces>,
    /// What is shown of other modalities.
    pub conditions: &'a [Tokens],
    /// What followed, `[T, N]`.
    pub counts: &'a [f32],
}

/// What each input of a window contributed, in bits.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct WindowGradients {
    /// Of every spike, in the order of the window.
    pub spikes: Vec<f64>,
    /// Of the start and end tokens of every unit, `[N]`.
    pub ends: Vec<f64>,
    /// Of every modality's steps and channels, `[M, C]` each.
    pub conditions: Vec<Vec<f64>>,
    /// Of every unit's own traces, `[N, K]`; nothing without the path of recent history.
    pub own_history: Vec<f64>,
    /// Of the population's traces, `[J, N]`.
    pub population: Vec<f64>,
    /// F(1) and F(0).
    pub ends_of_path: [f64; 2],
}

impl WindowGradients {
    /// Sum of all contributions.
    pub fn sum(&self) -> f64 {
        let parts = [&self.spikes, &self.ends, &self.own_history, &self.population];
        parts.into_iter().chain(&self.conditions).flatten().sum()
    }

    /// F(1) − F(0): what contributions should add up to.
    pub fn gained(&self) -> f64 {
        self.ends_of_path[0] - self.ends_of_path[1]
    }

    /// What the sum over nodes leaves of it.
    pub fn residual(&self) -> f64 {
        self.gained() - self.sum()
    }
}

/// The tokens that the encoder saw with their times, s, `[S]`, and the share of each, `[H, S]`.
pub type Attended = (Vec<(Token, f64)>, Vec<f64>);

/// A checkpoint's network on a tape, asked for gradients of its inputs.
pub struct InputGradients {
    network: Network<Tape<CpuBackend>>,
    /// Keys and values of the units' tokens, `[3N, 2W]`.
    table: Vec<f32>,
    units: usize,
    features: Vec<f32>,
    population: Vec<f32>,
}

impl InputGradients {
    /// For the units at these rows of the checkpoint. Computes on the CPU.
    ///
    /// # Errors
    /// A device that failed.
    pub fn new(checkpoint: &Checkpoint, unit_rows: &[usize], max_spikes: usize) -> Result<Self, BackendError> {
        let mut tape = Tape::new(CpuBackend::new(CpuOptions::default()), DropRates::default());
        // What the network is made of stays as it is: nothing of it is on the way back.
        tape.record(false);
        let plan = SessionPlan {
            unit_rows: unit_rows.to_vec(),
            reference: None,
            bins: checkpoint.config.bins(),
            max_spikes,
            precision: Precision::F32,
        };
        let mut network = Network::new(tape, checkpoint, plan);
        let mut table = vec![0.0; network.unit_tokens() * network.token_width()];
        network.token_table(&mut table)?;
        let tape = network.inputs().0;
        tape.record(true);
        tape.watch(true);
        Ok(InputGradients {
            network,
            table,
            units: unit_rows.len(),
            features: Vec::new(),
            population: Vec::new(),
        })
    }

    /// What the inputs of a window contributed to the log-likelihood of the counts of `unit`, or of all units, from gradients at
    /// the nodes of the path from the baseline to the inputs.
    ///
    /// # Errors
    /// A device that failed.
    pub fn window(
        &mut self,
        window: &GradientWindow<'_>,
        unit: Option<usize>,
        nodes: &[Node],
    ) -> Result<WindowGradients, BackendError> {
        self.take_history(window);
        let fed = self.expected_counts(window)?;
        let units = self.units;
        let weights = self.weights(window, unit);
        let mut sum = WindowGradients {
            spikes: vec![0.0; window.units.len()],
            ends: vec![0.0; units],
            conditions: window
                .conditions
                .iter()
                .map(|tokens| vec![0.0; tokens.values().len()])
                .collect(),
            own_history: Vec::new(),
            population: Vec::new(),
            ends_of_path: self.ends_of_path(window, &fed, &weights)?,
        };
        for node in nodes {
            self.forward(window, &fed, node.alpha as f32);
            self.likelihood(window, &weights)?;
            self.add_gradients(window, node.weight, &mut sum)?;
        }
        Ok(sum)
    }

    /// F(1) − F(0) of all units, without a gradient.
    ///
    /// # Errors
    /// A device that failed.
    pub fn gained(&mut self, window: &GradientWindow<'_>) -> Result<f64, BackendError> {
        self.take_history(window);
        let fed = self.expected_counts(window)?;
        let weights = self.weights(window, None);
        let [inputs, baseline] = self.ends_of_path(window, &fed, &weights)?;
        Ok(inputs - baseline)
    }

    /// Which counts are looked at, `[T, N]`: those of `unit`, or all.
    fn weights(&self, window: &GradientWindow<'_>, unit: Option<usize>) -> Vec<f32> {
        let counts = |place: usize| unit.is_none_or(|unit| place % self.units == unit);
        (0..window.counts.len())
            .map(|place| f32::from(u8::from(counts(place))))
            .collect()
    }

    /// F(1) and F(0).
    fn ends_of_path(
        &mut self,
        window: &GradientWindow<'_>,
        fed: &[f32],
        weights: &[f32],
    ) -> Result<[f64; 2], BackendError> {
        let mut ends = [0.0; 2];
        for (alpha, value) in [1.0, 0.0].into_iter().zip(&mut ends) {
            self.network.inputs().0.record(false);
            self.forward(window, fed, alpha);
            *value = self.likelihood(window, weights)?;
            self.network.inputs().0.record(true);
        }
        Ok(ends)
    }

    /// How much of the encoder's attention each token of the window gets: see [`Network::encoder_attention`].
    ///
    /// # Errors
    /// A device that failed.
    pub fn attention(&mut self, window: &GradientWindow<'_>) -> Result<Attended, BackendError> {
        self.take_history(window);
        self.network.inputs().0.record(false);
        self.encode(window, 1.0);
        self.network.inputs().0.record(true);
        Ok((self.network.tokens(), self.network.encoder_attention()?))
    }

    fn take_history(&mut self, window: &GradientWindow<'_>) {
        if let (Some(traces), Some(path)) = (window.traces, &self.network.config().history) {
            self.population
                .resize(path.population_time_constants * traces.units(), 0.0);
            self.features.resize(traces.feature_count(), 0.0);
            traces.features(&mut self.features);
            traces.population(&mut self.population);
        }
    }

    /// What the network feeds back, `[T, N]`: the expected counts that it generates from the inputs as they are.
    fn expected_counts(&mut self, window: &GradientWindow<'_>) -> Result<Vec<f32>, BackendError> {
        let mut log_rates = vec![0.0; window.counts.len()];
        if self.network.feeds_back() {
            self.network.inputs().0.record(false);
            self.encode(window, 1.0);
            self.network.generate();
            self.network.log_rates(&mut log_rates)?;
            self.network.inputs().0.record(true);
        }
        Ok(log_rates.into_iter().map(f32::exp).collect())
    }

    /// Latents of inputs that are `alpha` times as far from the baseline.
    fn encode(&mut self, window: &GradientWindow<'_>, alpha: f32) {
        let table: Vec<f32> = self.table.iter().map(|x| x * alpha).collect();
        self.network.set_token_table(&table);
        if window.traces.is_some() {
            let width = self.features.len() / self.units;
            let mut features = self.features.clone();
            // The last two are one, and the mean itself.
            for row in features.chunks_exact_mut(width) {
                row[..width - 2].iter_mut().for_each(|x| *x *= alpha);
            }
            let population: Vec<f32> = self.population.iter().map(|x| x * alpha).collect();
            self.network.set_history(&features, &population);
        }
        let conditions: Vec<Tokens> = window.conditions.iter().map(|tokens| tokens.scaled(alpha)).collect();
        self.network.set_conditions(&conditions);
        self.network.encode(window.times_s, window.units);
    }

    fn forward(&mut self, window: &GradientWindow<'_>, fed: &[f32], alpha: f32) {
        self.encode(window, alpha);
        self.network.teacher_force(fed);
    }

    /// F, in bits; its derivative is on the tape, if that records.
    fn likelihood(&mut self, window: &GradientWindow<'_>, weights: &[f32]) -> Result<f64, BackendError> {
        let per_bit = -std::f32::consts::LOG2_E;
        let (tape, log_rates) = self.network.predicted();
        let loss = tape.poisson_loss(log_rates, window.counts, weights, per_bit)?;
        Ok(-loss * std::f64::consts::LOG2_E)
    }

    /// Goes back over one node, and adds its share of what it says of every input.
    fn add_gradients(
        &mut self,
        window: &GradientWindow<'_>,
        share: f64,
        sum: &mut WindowGradients,
    ) -> Result<(), BackendError> {
        let (tape, _) = self.network.predicted();
        tape.backward_all();
        let listed = tape.take_listed()?;
        let (tokens, width) = (self.network.tokens(), self.network.token_width() / 2);
        // One attention takes rows from tables: the encoder's, its queries, keys and values in this order.
        let (keys, values) = (&listed[1], &listed[2]);
        let units = self.units;
        let mut spike = 0;
        for (number, (token, _)) in tokens.iter().enumerate() {
            let row = match *token {
                Token::Spike(unit) => unit as usize,
                // Starts and ends alternate.
                Token::End(unit) => (1 + number % 2) * units + unit as usize,
                Token::Condition(..) => continue,
            };
            let inputs = &self.table[row * 2 * width..][..2 * width];
            let dot = |g: &[f32], x: &[f32]| g.iter().zip(x).map(|(g, x)| f64::from(g * x)).sum::<f64>();
            let at = number * width..(number + 1) * width;
            let of_token = dot(&keys[at.clone()], &inputs[..width]) + dot(&values[at], &inputs[width..]);
            match *token {
                Token::End(unit) => sum.ends[unit as usize] += share * of_token,
                _ => {
                    sum.spikes[spike] += share * of_token;
                    spike += 1;
                }
            }
        }
        let sizes: Vec<usize> = window.conditions.iter().map(|tokens| tokens.values().len()).collect();
        for (modality, size) in sizes.into_iter().enumerate() {
            let mut g = vec![0.0; size];
            let (tape, inputs) = self.network.inputs();
            tape.take_gradient(inputs.conditions[modality], &mut g)?;
            add_products(
                &mut sum.conditions[modality],
                share,
                &g,
                window.conditions[modality].values(),
            );
        }
        if window.traces.is_some() {
            let mut own = vec![0.0; self.features.len()];
            let mut population = vec![0.0; self.population.len()];
            let (tape, inputs) = self.network.inputs();
            if let Some([of_own, of_population]) = inputs.history {
                tape.take_gradient(of_own, &mut own)?;
                tape.take_gradient(of_population, &mut population)?;
            }
            let width = own.len() / units;
            let constants = |values: &[f32]| -> Vec<f32> {
                values
                    .chunks_exact(width)
                    .flat_map(|row| &row[..width - 2])
                    .copied()
                    .collect()
            };
            let (own, features) = (constants(&own), constants(&self.features));
            sum.own_history.resize(own.len(), 0.0);
            sum.population.resize(population.len(), 0.0);
            add_products(&mut sum.own_history, share, &own, &features);
            add_products(&mut sum.population, share, &population, &self.population);
        }
        Ok(())
    }
}

fn add_products(sums: &mut [f64], share: f64, g: &[f32], x: &[f32]) {
    for ((sum, g), x) in sums.iter_mut().zip(g).zip(x) {
        *sum += share * f64::from(g * x);
    }
}
