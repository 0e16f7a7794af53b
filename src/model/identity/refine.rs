//! From what the encoder says of units to what their reference shows: the network predicts every bin of the reference, and each
//! unit's weights of recent history are moved by what [`super::deviations`] finds.

use super::deviations::{deviations, Places};
use super::{unidentified, Identities, IdentityError, Reference};
use crate::model::build::{build, BuildOptions, Inference};
use crate::model::checkpoint::Checkpoint;
use crate::model::config::HistoryConfig;
use crate::model::traces::{TraceReader, Traces};
use crate::model::window::{Spikes, WindowShape};

/// Places of a reference that are predicted at most: of a longer one each second, third, … bin.
const MOST_PLACES: usize = 1000;

/// A checkpoint that refines its identities, ready to be used again and again.
pub(super) struct Refiner {
    checkpoint: Checkpoint,
    history: HistoryConfig,
    /// m, `[max bins, C]`.
    bin_mix: Vec<f32>,
    shape: WindowShape,
    /// For as many units as were refined last.
    network: Option<(usize, Box<dyn Inference>)>,
}

impl Refiner {
    /// `None` where the checkpoint does not ask for it.
    pub(super) fn new(checkpoint: &Checkpoint) -> Option<Self> {
        let history = checkpoint.config.history.clone()?;
        checkpoint.config.identity.filter(|config| config.refine)?;
        Some(Refiner {
            bin_mix: checkpoint.tensors.get("history.bin_mix")?.data.clone(),
            history,
            shape: WindowShape::new(&checkpoint.config, checkpoint.config.bins()),
            checkpoint: checkpoint.clone(),
            network: None,
        })
    }

    /// Moves the identities that one pass gave; a reference that was not kept bin by bin leaves them as they are.
    ///
    /// # Errors
    /// A network that cannot be built.
    pub(super) fn refine(&mut self, reference: &Reference, identities: &mut Identities) -> Result<(), IdentityError> {
        if reference.kept().stretches.is_empty() {
            return Ok(());
        }
        let places = self.places(reference, identities)?;
        let Some(rows) = &mut identities.history else {
            return Ok(());
        };
        let (own, write) = (places.own_width, places.components);
        for (unit, change) in deviations(&places).chunks_exact(own + write).enumerate() {
            let weights = rows.unit_weight[unit * own..(unit + 1) * own].iter_mut();
            let weights = weights.chain(&mut rows.write[unit * write..(unit + 1) * write]);
            weights
                .zip(change)
                .for_each(|(weight, change)| *weight += *change as f32);
        }
        Ok(())
    }

    fn places(&mut self, reference: &Reference, identities: &Identities) -> Result<Places, IdentityError> {
        let (shape, units) = (self.shape, reference.units());
        let (own_width, components) = (self.history.time_constants_s.len() + 1, self.history.components);
        let kept = reference.kept();
        let all: usize = kept.stretches.iter().map(|stretch| shape.horizons(stretch)).sum();
        let stride = all.div_ceil(MOST_PLACES).max(1);
        let mut places = Places {
            units,
            bins: shape.bins,
            own_width,
            components,
            own: Vec::new(),
            mixed: Vec::new(),
            log_rates: Vec::new(),
            counts: Vec::new(),
            weight: (stride as f64 / shape.bins as f64).min(1.0),
        };
        let Refiner {
            checkpoint,
            history,
            bin_mix,
            network,
            ..
        } = self;
        let read = identities.history.as_ref().map_or(&[][..], |rows| &rows.read);
        let network = known_network(network, checkpoint, identities)?;
        let mut window = Window {
            times_s: Vec::new(),
            features: vec![0.0; units * (own_width + 1)],
            population: vec![0.0; units * history.population_time_constants],
        };
        let mut log_rates = vec![0.0; shape.bins * units];
        let mut counts = log_rates.clone();
        let spikes = Spikes {
            times_ns: &kept.times_ns,
            units: &kept.units,
        };
        for stretch in &kept.stretches {
            let traces = Traces::of_path(history, checkpoint.config.bin_size, &identities.log_rates);
            let observed = [*stretch];
            let mut traces = TraceReader::new(traces, stretch.start_ns, shape.bin_ns, &observed);
            for place in (0..shape.horizons(stretch)).step_by(stride) {
                let now_ns = stretch.start_ns + place as i64 * shape.bin_ns;
                let traces = traces.advance(spikes, now_ns);
                window.predict(
                    network,
                    traces,
                    (spikes, now_ns - shape.history_ns, now_ns),
                    &mut log_rates,
                )?;
                shape.count(spikes, now_ns, units, &mut counts);
                for row in window.features.chunks_exact(own_width + 1) {
                    places.own.extend_from_slice(&row[..own_width]);
                }
                let of_population = components_of(&window.population, read, units, components);
                let mix = bin_mix.chunks_exact(components).take(shape.bins);
                places
                    .mixed
                    .extend(mix.flat_map(|mix| mix.iter().zip(&of_population).map(|(m, x)| m * x)));
                places.log_rates.extend_from_slice(&log_rates);
                places.counts.extend_from_slice(&counts);
            }
        }
        Ok(places)
    }
}

/// The checkpoint's network with these identities; built anew where there is none for as many units.
fn known_network<'a>(
    network: &'a mut Option<(usize, Box<dyn Inference>)>,
    checkpoint: &Checkpoint,
    identities: &Identities,
) -> Result<&'a mut dyn Inference, IdentityError> {
    let units = identities.log_rates.len();
    let (_, network) = match network.take().filter(|(built, _)| *built == units) {
        Some(built) => network.insert(built),
        None => {
            let ids: Vec<String> = (0..units).map(|unit| unit.to_string()).collect();
            let unknown = unidentified(checkpoint, "reference", &ids, &identities.log_rates)?;
            let rows: Vec<usize> = (1..=units).collect();
            let options = BuildOptions {
                threads: 1,
                ..BuildOptions::default()
            };
            let built = build(&unknown, &rows, &options).map_err(|error| IdentityError::Refined(error.to_string()))?;
            network.insert((units, built))
        }
    };
    network.identify(identities);
    Ok(network.as_mut())
}

/// What the network sees at one place; its buffers.
struct Window {
    times_s: Vec<f64>,
    /// `[N, K + 2]`.
    features: Vec<f32>,
    /// `[J, N]`.
    population: Vec<f32>,
}

impl Window {
    /// As for a prediction that a run makes: the oldest spikes go where there are too many.
    fn predict(
        &mut self,
        network: &mut dyn Inference,
        traces: &Traces,
        (spikes, start_ns, now_ns): (Spikes<'_>, i64, i64),
        log_rates: &mut [f32],
    ) -> Result<(), IdentityError> {
        traces.features(&mut self.features);
        traces.population(&mut self.population);
        let most = network.plan().max_spikes;
        let (past, _) = spikes
            .between(start_ns, now_ns)
            .newest(most, start_ns, &mut self.times_s);
        network.predict(Some(traces), &self.times_s, past.units, log_rates)?;
        Ok(())
    }
}

/// `Σ_n Σ_j R[n, j, r] all[n, j]`, `[C]`: `population` `[J, N]`, `read` `[N, J · C]`.
fn components_of(population: &[f32], read: &[f32], units: usize, components: usize) -> Vec<f32> {
    let mut sums = vec![0.0; components];
    let width = read.len() / units;
    for (j, row) in population.chunks_exact(units).enumerate() {
        for (x, read) in row.iter().zip(read.chunks_exact(width)) {
            let read = &read[j * components..(j + 1) * components];
            sums.iter_mut().zip(read).for_each(|(sum, r)| *sum += x * r);
        }
    }
    sums
}
