//! Weights to begin with, as the reference's layers begin: uniform within ±1/√inputs for linear layers and their biases,
//! normal with deviation 0.02 for embeddings, ones and zeros for norms.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rand_distr::{Distribution, StandardNormal};

use crate::hash::fnv1a;
use crate::model::checkpoint::Checkpoint;
use crate::model::config::ModelConfig;

/// Deviation of embeddings.
const EMBEDDING: f32 = 0.02;

/// The head's last layer begins so much smaller where the path of recent history predicts already.
const SMALL_HEAD: f32 = 0.1;

/// Deviation of what the path's components write to units.
const WRITE: f32 = 0.1;

/// A network that has learned nothing: of these units, with these null log rates (by unit).
pub fn initial(config: &ModelConfig, unit_ids: &[String], sessions: &[String], null: &[f64], seed: u64) -> Checkpoint {
    let mut checkpoint = Checkpoint::random(config, unit_ids.len(), seed);
    let names: Vec<String> = checkpoint.tensors.keys().cloned().collect();
    for name in names {
        if name == "rotary_emb.omega" {
            continue;
        }
        // A bias begins as its layer's weights do.
        let weight = name.strip_suffix("bias").map(|layer| format!("{layer}weight"));
        let inputs = weight
            .and_then(|weight| checkpoint.tensors.get(&weight))
            .and_then(|weight| (weight.shape.len() > 1).then(|| weight.shape[1]));
        let Some(tensor) = checkpoint.tensors.get_mut(&name) else {
            continue;
        };
        let components = config.history.as_ref().map_or(1, |path| path.components);
        let begin = Begin::of(&name, &tensor.shape, inputs, unit_ids.len(), components);
        let small = config.history.is_some() && name == "head.mlp.4.weight";
        let scale = if small { SMALL_HEAD } else { 1.0 };
        // A tensor begins by its name and the seed alone, so that variants of the network begin alike where they are alike.
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        random.set_stream(fnv1a(name.as_bytes()));
        tensor.data.fill_with(|| scale * begin.draw(&mut random));
        if config.history.is_some() && name == "head.mlp.4.bias" {
            tensor.data.fill(0.0);
        }
    }
    checkpoint.unit_ids = std::iter::once("NA")
        .map(str::to_owned)
        .chain(unit_ids.iter().cloned())
        .collect();
    checkpoint.session_ids = std::iter::once("NA")
        .map(str::to_owned)
        .chain(sessions.iter().cloned())
        .collect();
    checkpoint.null_log_rates = Some(
        std::iter::once(0.0)
            .chain(null.iter().map(|&rate| rate as f32))
            .collect(),
    );
    checkpoint
}

/// Whether a parameter is of the projection out of a decoder layer's attention to the prediction memory.
fn is_memory_output(name: &str) -> bool {
    name.starts_with("ar_decoder.layers.") && name.contains(".1.to_out.")
}

/// Deviation of keys, values and the query of spikes, whose number of channels is that of an attention.
const EVENT: f32 = 0.2;

/// How a tensor's elements begin.
enum Begin {
    Constant(f32),
    Uniform(f32),
    Normal(f32),
}

impl Begin {
    fn of(name: &str, shape: &[usize], bias_inputs: Option<usize>, units: usize, components: usize) -> Self {
        let leaf = name.rsplit('.').next().unwrap_or_default();
        match (name, leaf, shape) {
            ("history.bin_weight" | "history.unit_weight" | "history.bin_mix", ..) => Begin::Constant(0.0),
            // What components of recent history add to a readout begins as nothing, as they do to a prediction.
            _ if name.ends_with(".recent.weight") => Begin::Constant(0.0),
            // Attention to predictions begins by saying nothing: the network then begins as one without feedback.
            _ if is_memory_output(name) => Begin::Constant(0.0),
            ("history.read", _, &[_, cols]) => Begin::Normal(1.0 / ((units * cols / components) as f32).sqrt()),
            ("history.write", ..) => Begin::Normal(WRITE),
            ("identity.history.unit_weight.weight" | "identity.history.unit_weight.bias", ..) => Begin::Constant(0.0),
            // What is read is scaled to the number of units afterwards.
            ("identity.history.read.weight", ..) => Begin::Normal(1.0),
            ("identity.query" | "identity.event", ..) => Begin::Normal(EVENT),
            (_, "bin_emb" | "query" | "summary_queries", _) => Begin::Normal(EMBEDDING),
            _ if name.ends_with("_emb.weight") => Begin::Normal(EMBEDDING),
            // Packed projections begin by Xavier's rule (Glorot and Bengio 2010), their biases at zero.
            (_, "in_proj_weight", &[outputs, inputs]) => Begin::Uniform((6.0 / (inputs + outputs) as f32).sqrt()),
            (_, "in_proj_bias", _) => Begin::Constant(0.0),
            (_, "weight", &[_, inputs]) => Begin::Uniform(1.0 / (inputs as f32).sqrt()),
            (_, "bias", _) => bias_inputs.map_or(Begin::Constant(0.0), |inputs| {
                Begin::Uniform(1.0 / (inputs as f32).sqrt())
            }),
            _ => Begin::Constant(1.0),
        }
    }

    fn draw(&self, random: &mut ChaCha8Rng) -> f32 {
        match *self {
            Begin::Constant(value) => value,
            Begin::Uniform(bound) => random.random_range(-bound..=bound),
            Begin::Normal(deviation) => {
                let x: f32 = StandardNormal.sample(random);
                x * deviation
            }
        }
    }
}
