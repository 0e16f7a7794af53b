//! The named tensors of a checkpoint as parameters that learn.

use std::collections::HashMap;

use kernels::tape::Gradient;

use super::optimiser::{Parameter, ParameterKind};
use crate::model::checkpoint::{layout, Checkpoint};
use crate::model::identity::TABLES;

/// Every tensor that the network reads, in the order of names; frequencies do not learn.
pub fn parameters(checkpoint: &Checkpoint) -> Vec<Parameter> {
    let expected = layout::expected(&checkpoint.config, checkpoint.unit_ids.len());
    let mut names: Vec<String> = expected.into_iter().map(|tensor| tensor.name).collect();
    names.retain(|name| name != "rotary_emb.omega");
    names.sort_unstable();
    names
        .into_iter()
        .map(|name| {
            let tensor = &checkpoint.tensors[&name];
            let cols = tensor.shape.last().copied().unwrap_or(1);
            let kind = match () {
                _ if name == "unit_emb.weight" || is_unit_table(&name) => ParameterKind::Embedding,
                _ if tensor.shape.len() == 1 => ParameterKind::Vector,
                _ => ParameterKind::Matrix,
            };
            Parameter {
                rows: tensor.data.len() / cols,
                cols,
                value: tensor.data.clone(),
                gradient: vec![0.0; tensor.data.len()],
                kind,
                name,
            }
        })
        .collect()
}

fn is_unit_table(name: &str) -> bool {
    matches!(name, "history.unit_weight" | "history.read" | "history.write")
}

/// Whether a parameter is of the path of recent history.
pub fn is_history(parameter: &Parameter) -> bool {
    parameter.name.starts_with("history.") || parameter.name.starts_with("identity.history.")
}

/// Whether a parameter reads behaviour out of the latents.
pub fn is_of_readouts(parameter: &Parameter) -> bool {
    parameter.name.starts_with("readout.")
}

/// Whether a parameter has a row for each unit.
pub fn is_of_units(parameter: &Parameter) -> bool {
    TABLES.contains(&parameter.name.as_str())
}

/// Writes the parameters' values back.
pub fn store(parameters: &[Parameter], checkpoint: &mut Checkpoint) {
    for parameter in parameters {
        if let Some(tensor) = checkpoint.tensors.get_mut(&parameter.name) {
            tensor.data.copy_from_slice(&parameter.value);
        }
    }
}

/// Where pieces of gradients go.
#[derive(Debug, Clone)]
pub struct GradientMap {
    places: HashMap<String, (usize, usize)>,
    sizes: Vec<usize>,
}

impl GradientMap {
    /// For these parameters.
    pub fn new(parameters: &[Parameter]) -> Self {
        let place = |(index, parameter): (usize, &Parameter)| (parameter.name.clone(), (index, parameter.cols));
        GradientMap {
            places: parameters.iter().enumerate().map(place).collect(),
            sizes: parameters.iter().map(|parameter| parameter.value.len()).collect(),
        }
    }

    /// Zeros, one vector a parameter.
    pub fn zeros(&self) -> Vec<Vec<f32>> {
        self.sizes.iter().map(|&size| vec![0.0; size]).collect()
    }

    /// Adds a piece.
    pub fn add(&self, piece: Gradient<'_>, gradients: &mut [Vec<f32>]) {
        let Some(&(index, cols)) = self.places.get(piece.name) else {
            return;
        };
        for (i, row) in piece.data.chunks_exact(piece.cols.max(1)).enumerate() {
            let at = (piece.row + i) * cols + piece.col;
            let to = &mut gradients[index][at..at + piece.cols];
            to.iter_mut().zip(row).for_each(|(sum, g)| *sum += g);
        }
    }
}
