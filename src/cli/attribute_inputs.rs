//! `attribute --gradients` and `attribute --npz`.

use clap::Args;

use super::attribute::bits;
use super::eval_report::number;
use super::eval_setup::Setup;
use super::{progress_bar, CliError};
use crate::data::arrays::{ArrayWriter, Elements};
use crate::evaluate::attribution::Attribution;
use crate::evaluate::gradients::InputGradients;
use crate::evaluate::input_attribution::{attribute_inputs, GradientOptions, InputAttribution};
use crate::evaluate::metrics::{Bits, Resamples};
use crate::model::config::ModelConfig;

/// What of the gradients is asked for.
#[derive(Debug, Args)]
pub struct GradientArgs {
    /// Also attribute predictions to every input, by integrated gradients, and say where the encoder attends to
    #[arg(long)]
    pub gradients: bool,
    /// Steps from the baseline to the inputs to begin with; they are doubled for every window whose contributions do not add up
    #[arg(long, value_name = "N", default_value_t = 16, requires = "gradients", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    gradient_steps: u32,
    /// Steps at most
    #[arg(long, value_name = "N", default_value_t = 512, requires = "gradients", value_parser = clap::value_parser!(u32).range(1..=100_000))]
    gradient_most_steps: u32,
    /// Windows, evenly spread over the interval
    #[arg(long, value_name = "N", default_value_t = 64, requires = "gradients", value_parser = clap::value_parser!(u32).range(1..))]
    gradient_windows: u32,
    /// Also attribute the prediction of each unit by itself: takes as many times as long as there are units
    #[arg(long, requires = "gradients")]
    by_target: bool,
}

impl GradientArgs {
    /// Attributes the predictions of the setup's windows, where that is asked for.
    ///
    /// # Errors
    /// A series that is not what the network learned from; a device that failed.
    pub fn attribute(
        &self,
        setup: &Setup,
        config: &ModelConfig,
        quiet: bool,
        resamples: impl Fn(usize) -> Resamples,
    ) -> Result<Option<InputAttribution>, CliError> {
        let (true, Some((checkpoint, rows))) = (self.gradients, &setup.of_checkpoint) else {
            return Ok(None);
        };
        let options = GradientOptions {
            steps: self.gradient_steps as usize,
            most_steps: self.gradient_most_steps as usize,
            windows: self.gradient_windows as usize,
            by_target: self.by_target,
        };
        let bar = progress_bar(quiet, "windows of gradients");
        bar.set_length(options.windows.min(setup.observed.windows()) as u64);
        let most_spikes = setup.observed.starts_ns.iter().map(|&start| {
            let end = start + setup.observed.shape.history_ns;
            setup.spikes.as_spikes().between(start, end).units.len()
        });
        let most_spikes = most_spikes.max().unwrap_or(0).max(1);
        let mut gradients = InputGradients::new(checkpoint, rows, most_spikes)?;
        let inputs = setup.inputs(config, setup.spikes.as_spikes(), Vec::new())?;
        let found = attribute_inputs(
            &mut gradients,
            config,
            inputs,
            &setup.observed,
            &options,
            resamples,
            || bar.inc(1),
        )?;
        bar.finish_and_clear();
        Ok(Some(found))
    }
}

/// Prints what the gradients say.
pub fn print_inputs(inputs: &InputAttribution, unit_ids: &[String]) {
    say!(
        "by integrated gradients, {} windows: {}",
        inputs.windows,
        inputs.in_words()
    );
    let width = inputs.sources.iter().map(String::len).max().unwrap_or(0);
    for (name, of_source) in inputs.sources.iter().zip(&inputs.by_source) {
        say!("  {name:width$}   {}", bits(of_source));
    }
    say!("  {:width$}   {}", "together", bits(&inputs.gained));
    let ms = |values: &[f64]| -> Vec<String> {
        let pairs = inputs.times_s.iter().zip(values);
        pairs
            .map(|(time, value)| format!("{:.0} ms {}", time * 1e3, number(Some(*value), 4)))
            .collect()
    };
    say!("  spikes by time: {}", ms(&inputs.spikes_by_time).join(", "));
    let all = |unit: &usize| inputs.by_unit[*unit].iter().sum::<f64>();
    let mut order: Vec<usize> = (0..unit_ids.len()).collect();
    order.sort_by(|a, b| all(b).total_cmp(&all(a)));
    let first = order
        .iter()
        .take(10)
        .map(|unit| format!("{} {}", unit_ids[*unit], number(Some(all(unit)), 4)));
    if inputs.complete {
        say!(
            "  units that contributed most: {}",
            first.collect::<Vec<_>>().join(", ")
        );
    }
    let names = ["spikes", "starts and ends"]
        .into_iter()
        .chain(inputs.sources[4..].iter().map(String::as_str));
    let attention = names
        .zip(&inputs.attention_by_source)
        .map(|(name, share)| format!("{name} {share:.3}"));
    say!(
        "  attention (where it looks, not what it makes of it): {}",
        attention.collect::<Vec<_>>().join(", ")
    );
}

/// Figures with their intervals.
struct Figures(Vec<f64>, Vec<f64>);

impl Figures {
    fn new<'a>(bits: impl Iterator<Item = &'a Bits>) -> Self {
        let (mut values, mut intervals) = (Vec::new(), Vec::new());
        for bits in bits {
            values.push(bits.value.unwrap_or(f64::NAN));
            intervals.extend(bits.ci95.unwrap_or([f64::NAN; 2]));
        }
        Figures(values, intervals)
    }

    fn add(&self, writer: &mut ArrayWriter, name: &str, shape: &[usize]) -> std::io::Result<()> {
        writer.add(name, shape, Elements::F64(&self.0))?;
        let with_ends: Vec<usize> = shape.iter().copied().chain([2]).collect();
        writer.add(&format!("{name}_ci95"), &with_ends, Elements::F64(&self.1))
    }
}

/// The archive of `--npz`; see its help. NaN where there is no figure.
///
/// # Errors
/// More than an archive takes.
pub fn arrays(
    attribution: &Attribution,
    inputs: Option<&InputAttribution>,
    unit_ids: &[String],
) -> std::io::Result<Vec<u8>> {
    let mut writer = ArrayWriter::default();
    let each = &attribution.contributions;
    let (m, n, bins) = (each.len(), unit_ids.len(), attribution.with_all.by_bin.len());
    let names: Vec<String> = each.iter().map(|one| one.modality.clone()).collect();
    let parts: Vec<String> = attribution.parts.iter().map(|part| part.0.clone()).collect();
    writer.add("unit_ids", &[n], Elements::Text(unit_ids))?;
    if m > 0 {
        writer.add("modalities", &[m], Elements::Text(&names))?;
        Figures::new(each.iter().map(|one| &one.delta.overall)).add(&mut writer, "delta", &[m])?;
        Figures::new(each.iter().flat_map(|one| &one.delta.by_bin)).add(&mut writer, "delta_by_bin", &[m, bins])?;
        Figures::new(each.iter().flat_map(|one| &one.delta.by_unit)).add(&mut writer, "delta_by_unit", &[m, n])?;
        let shapley: Vec<&Bits> = each
            .iter()
            .filter_map(|one| Some(&one.shapley.as_ref()?.overall))
            .collect();
        Figures::new(shapley.iter().copied()).add(&mut writer, "shapley", &[shapley.len()])?;
    }
    if m > 0 && !parts.is_empty() {
        writer.add("parts", &[parts.len()], Elements::Text(&parts))?;
        Figures::new(each.iter().flat_map(|one| &one.delta_by_part)).add(
            &mut writer,
            "delta_by_part",
            &[m, parts.len()],
        )?;
    }
    let Some(inputs) = inputs else {
        return writer.finish();
    };
    let (sources, groups) = (inputs.sources.len(), inputs.times_s.len());
    writer.add("complete", &[1], Elements::I64(&[i64::from(inputs.complete)]))?;
    writer.add("residual", &[1], Elements::F64(&[inputs.residual]))?;
    writer.add("sources", &[sources], Elements::Text(&inputs.sources))?;
    Figures::new(inputs.by_source.iter()).add(&mut writer, "by_source", &[sources])?;
    for (name, values) in [
        ("times_s", &inputs.times_s),
        ("spikes_by_time", &inputs.spikes_by_time),
        ("attention_by_time", &inputs.attention_by_time),
    ] {
        writer.add(name, &[groups], Elements::F64(values))?;
    }
    writer.add(
        "spikes_by_unit_and_time",
        &[n, groups],
        Elements::F64(&inputs.spikes_by_unit_and_time),
    )?;
    writer.add("by_unit", &[n, 4], Elements::F64(inputs.by_unit.as_flattened()))?;
    for ((steps, channels), name) in inputs.by_modality.iter().zip(&inputs.sources[4..]) {
        writer.add(&format!("{name}_by_step"), &[steps.len()], Elements::F64(steps))?;
        writer.add(
            &format!("{name}_by_channel"),
            &[channels.len()],
            Elements::F64(channels),
        )?;
    }
    if !inputs.by_target.is_empty() {
        Figures::new(inputs.by_target.iter().flatten()).add(&mut writer, "by_target", &[n, sources])?;
        Figures::new(inputs.influence_by_target.iter().flatten()).add(
            &mut writer,
            "influence_by_target",
            &[n, sources],
        )?;
    }
    let attention = &inputs.attention_by_source;
    writer.add("attention_by_source", &[attention.len()], Elements::F64(attention))?;
    writer.add(
        "attention_by_unit",
        &[n, 2],
        Elements::F64(inputs.attention_by_unit.as_flattened()),
    )?;
    writer.finish()
}
