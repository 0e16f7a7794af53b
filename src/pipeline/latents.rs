//! The network's latents as an output: all of a window, those of its newest time, or a few factors of these.

use kernels::BackendError;

use super::network::NetworkOutput;
use super::output::OutputSpec;
use crate::model::factors::{newest_step, Projection};
use crate::model::Inference;

/// Topic of latents on the first endpoint.
pub const LATENTS_TOPIC: &str = "latents";

/// What of the latents is published.
#[derive(Clone, Debug, PartialEq)]
pub enum LatentsForm {
    /// All of the window, `[L, D]`: those of the oldest time first, P of each.
    Full,
    /// The mean of those of the newest time, `[1, D]`.
    Newest,
    /// The same along the directions of a projection, `[1, K]`.
    Projected(Projection),
}

/// The processor's output after each prediction.
pub struct Latents {
    form: LatentsForm,
    per_step: usize,
    /// All of the window, `[L, D]`; nothing where they are published as they are.
    all: Box<[f32]>,
    /// Of the newest time, `[D]`.
    newest: Box<[f32]>,
    rows: usize,
}

impl Latents {
    /// Latents of networks like this one.
    ///
    /// # Errors
    /// A projection of other latents than this network's.
    pub fn new(network: &dyn Inference, form: LatentsForm) -> Result<Self, String> {
        let (rows, dim) = network.latent_shape();
        if let LatentsForm::Projected(projection) = &form {
            if projection.mean.len() != dim {
                let other = projection.mean.len();
                return Err(format!(
                    "the projection takes {other} channels, and this network's latents have {dim}"
                ));
            }
        }
        Ok(Self {
            per_step: network.config().num_latents_per_step,
            all: vec![0.0; if form == LatentsForm::Full { 0 } else { rows * dim }].into(),
            newest: vec![0.0; dim].into(),
            rows,
            form,
        })
    }
}

impl NetworkOutput for Latents {
    fn spec(&self) -> OutputSpec {
        let dim = self.newest.len();
        let (rows, cols, axes, meaning) = match &self.form {
            LatentsForm::Full => (
                self.rows,
                dim,
                ["latent", "channel"],
                format!(
                    "the processor's output: {} latents of each time of the history, the oldest first",
                    self.per_step
                ),
            ),
            LatentsForm::Newest => (
                1,
                dim,
                ["newest time", "channel"],
                "mean of the processor's latents of the newest time".into(),
            ),
            LatentsForm::Projected(projection) => (
                1,
                projection.components(),
                ["newest time", "factor"],
                "mean of the processor's latents of the newest time, projected on its principal components".into(),
            ),
        };
        let labels = match &self.form {
            LatentsForm::Projected(_) => (1..=cols).map(|k| format!("factor {k}")).collect(),
            LatentsForm::Full | LatentsForm::Newest => Vec::new(),
        };
        OutputSpec {
            topic: LATENTS_TOPIC.into(),
            rows,
            cols,
            axes: axes.map(String::from),
            meaning,
            labels,
            row_times_s: Vec::new(),
        }
    }

    fn read(&mut self, network: &mut dyn Inference, out: &mut [f32]) -> Result<(), BackendError> {
        if self.form == LatentsForm::Full {
            return network.latents(out);
        }
        network.latents(&mut self.all)?;
        newest_step(&self.all, self.per_step, &mut self.newest);
        match &self.form {
            LatentsForm::Projected(projection) => projection.project(&self.newest, out),
            LatentsForm::Full | LatentsForm::Newest => out.copy_from_slice(&self.newest),
        }
        Ok(())
    }
}
