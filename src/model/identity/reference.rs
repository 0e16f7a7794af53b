//! What a unit's identity is computed from: some seconds of its own activity.

use super::super::config::IdentityConfig;
use super::super::window::Spikes;
use super::loadings::loadings;
use crate::data::Interval;

/// Windows of a population's activity, and its mean rates over them.
#[derive(Debug, Clone, PartialEq)]
pub struct Reference {
    /// N.
    units: usize,
    /// M.
    windows: usize,
    /// `[M·N, T]`, row `m · N + n`: counts of unit n in the T bins of window m; `[M·N, 2T]` with the population's beside.
    counts: Vec<f32>,
    /// Of each unit: seconds from the beginning of the windows laid end to end.
    times_s: Vec<Vec<f64>>,
    /// ln of each unit's mean count in a bin of the model, `[N]`.
    log_rates: Vec<f32>,
    /// See [`loadings`], `[N, C]`.
    loadings: Vec<f32>,
    kept: Kept,
}

/// A reference's activity bin by bin, for identities that are refined; empty for others.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Kept {
    /// Spikes within the stretches, ascending.
    pub(super) times_ns: Vec<i64>,
    pub(super) units: Vec<u32>,
    /// When the units were observed, ascending.
    pub(super) stretches: Vec<Interval>,
}

impl Kept {
    fn new(spikes: Spikes<'_>, stretches: &[Interval]) -> Self {
        let mut kept = Kept {
            stretches: stretches.to_vec(),
            ..Kept::default()
        };
        for stretch in stretches {
            let within = spikes.between(stretch.start_ns, stretch.end_ns);
            kept.times_ns.extend_from_slice(within.times_ns);
            kept.units.extend_from_slice(within.units);
        }
        kept
    }
}

/// The expected count of a bin that a mean is never below, whatever its prior: e⁻¹⁰, where log rates are clamped.
const LEAST_MEAN: f64 = 4.54e-5;

impl Reference {
    /// Windows, none of which may overlap another: the spikes that each lies in, and where it begins. `bin_ns` is the
    /// model's bin.
    ///
    /// A unit's mean is that of its spikes and one more, over the windows' time and the time in which the average unit
    /// fires once: a unit that was silent for some seconds may still fire.
    ///
    /// # Panics
    /// Without a window, or with a unit number that is not below `units`.
    pub fn new(config: &IdentityConfig, bin_ns: i64, units: usize, windows: &[(Spikes<'_>, i64)]) -> Self {
        assert!(!windows.is_empty(), "a reference has a window");
        let (bins, width_ns) = (config.window_bins, config.bin_ns());
        let window_ns = config.window_ns();
        let width = config.inputs();
        let mut counts = vec![0.0f32; windows.len() * units * width];
        let mut times_s = vec![Vec::new(); units];
        let mut own = vec![
            0.0f32;
            if config.components > 0 {
                windows.len() * bins * units
            } else {
                0
            }
        ];
        for (window, &(spikes, start_ns)) in windows.iter().enumerate() {
            let rows = &mut counts[window * units * width..(window + 1) * units * width];
            let seen = spikes.between(start_ns, start_ns + window_ns);
            for (&time_ns, &unit) in seen.times_ns.iter().zip(seen.units) {
                let bin = ((time_ns - start_ns) / width_ns) as usize;
                rows[unit as usize * width + bin.min(bins - 1)] += 1.0;
                let before_ns = window as i64 * window_ns;
                times_s[unit as usize].push((before_ns + time_ns - start_ns) as f64 * 1e-9);
            }
            if config.components > 0 {
                let of_window = &mut own[window * bins * units..(window + 1) * bins * units];
                for (unit, row) in rows.chunks_exact(width).enumerate() {
                    let column = of_window.iter_mut().skip(unit).step_by(units);
                    column.zip(&row[..bins]).for_each(|(to, &count)| *to = count);
                }
            }
            if config.population {
                population_beside(rows, units, bins);
            }
        }
        let model_bins = windows.len() as f64 * window_ns as f64 / bin_ns as f64;
        let all: usize = times_s.iter().map(Vec::len).sum();
        let average = (all as f64 / units as f64 / model_bins).max(LEAST_MEAN);
        let mean = |times: &Vec<f64>| (times.len() as f64 + 1.0) / (model_bins + 1.0 / average);
        Reference {
            units,
            windows: windows.len(),
            counts,
            log_rates: times_s.iter().map(|times| mean(times).ln() as f32).collect(),
            loadings: loadings(&own, units, config.components),
            times_s,
            kept: Kept::default(),
        }
    }

    /// Whole windows one after another in stretches of a recording; `None` where none fits.
    pub fn of_stretches(
        config: &IdentityConfig,
        bin_ns: i64,
        units: usize,
        spikes: Spikes<'_>,
        stretches: &[Interval],
    ) -> Option<Self> {
        let starts = stretches
            .iter()
            .flat_map(|stretch| window_starts(config, stretch.start_ns, stretch.end_ns));
        let windows: Vec<_> = starts.map(|start_ns| (spikes, start_ns)).collect();
        (!windows.is_empty()).then(|| {
            let mut reference = Reference::new(config, bin_ns, units, &windows);
            if config.refine {
                reference.kept = Kept::new(spikes, stretches);
            }
            reference
        })
    }

    /// N.
    pub fn units(&self) -> usize {
        self.units
    }

    /// M.
    pub fn windows(&self) -> usize {
        self.windows
    }

    /// `[M·N, T]` or `[M·N, 2T]`, row `m · N + n`.
    pub fn counts(&self) -> &[f32] {
        &self.counts
    }

    /// A unit's spikes, seconds from the beginning of the windows laid end to end.
    pub fn times_s(&self, unit: usize) -> &[f64] {
        &self.times_s[unit]
    }

    /// Each unit's loadings on the population's components ([`super::loadings`]), `[N, C]`.
    pub fn loadings(&self) -> &[f32] {
        &self.loadings
    }

    /// Its activity bin by bin.
    pub(super) fn kept(&self) -> &Kept {
        &self.kept
    }

    /// ln of each unit's mean count in a bin of the model, `[N]`.
    pub fn log_rates(&self) -> &[f32] {
        &self.log_rates
    }
}

/// Where windows begin that lie one after another between two times.
pub fn window_starts(config: &IdentityConfig, first_ns: i64, end_ns: i64) -> impl Iterator<Item = i64> {
    let window_ns = config.window_ns();
    let count = ((end_ns - first_ns).max(0) / window_ns) as usize;
    (0..count as i64).map(move |window| first_ns + window * window_ns)
}

/// Beside each unit's counts, those of all others against their mean over the window, less one; zero where none fires.
fn population_beside(rows: &mut [f32], units: usize, bins: usize) {
    let mut all = vec![0.0f32; bins];
    for row in rows.chunks_exact(2 * bins) {
        all.iter_mut().zip(row).for_each(|(sum, count)| *sum += count);
    }
    debug_assert_eq!(rows.len(), units * 2 * bins);
    for row in rows.chunks_exact_mut(2 * bins) {
        let (own, others) = row.split_at_mut(bins);
        let total: f32 = all.iter().sum::<f32>() - own.iter().sum::<f32>();
        if total <= 0.0 {
            continue;
        }
        let mean = total / bins as f32;
        for ((other, all), own) in others.iter_mut().zip(&all).zip(own.iter()) {
            *other = (all - own) / mean - 1.0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::config::IdentityScheme;

    fn config(population: bool) -> IdentityConfig {
        IdentityConfig {
            scheme: IdentityScheme::Binned,
            window_bins: 4,
            bin_s: 0.01,
            hidden: 8,
            population,
            components: 0,
            refine: false,
        }
    }

    const MS: i64 = 1_000_000;

    #[test]
    fn counts_times_and_means() {
        // Two windows of 40 ms, at 0 and 100 ms; what lies between belongs to neither.
        let times_ns = [0, 9 * MS, 39 * MS, 50 * MS, 100 * MS, 125 * MS, 140 * MS];
        let units = [0, 0, 1, 1, 0, 1, 0];
        let spikes = Spikes {
            times_ns: &times_ns,
            units: &units,
        };
        let reference = Reference::new(&config(false), 20 * MS, 3, &[(spikes, 0), (spikes, 100 * MS)]);
        #[rustfmt::skip]
        let expected = [
            2.0, 0.0, 0.0, 0.0,  0.0, 0.0, 0.0, 1.0,  0.0, 0.0, 0.0, 0.0,
            1.0, 0.0, 0.0, 0.0,  0.0, 0.0, 1.0, 0.0,  0.0, 0.0, 0.0, 0.0,
        ];
        assert_eq!(reference.counts(), expected);
        // Seconds are nanoseconds times 1e-9, which is not a number's nearest decimal.
        let expected = [0.0, 0.009, 0.04];
        assert_eq!(reference.times_s(0).len(), expected.len());
        assert!(reference
            .times_s(0)
            .iter()
            .zip(expected)
            .all(|(t, e)| (t - e).abs() < 1e-12));
        // 80 ms are four bins of the model; 5 spikes of 3 units: the average unit fires once in 2.4 bins.
        for (rate, spikes) in reference.log_rates().iter().zip([3.0f32, 2.0, 0.0]) {
            assert!((rate.exp() - (spikes + 1.0) / 6.4).abs() < 1e-6);
        }
    }

    #[test]
    fn the_population_stands_beside() {
        let times_ns = [0, MS, 2 * MS, 31 * MS];
        let spikes = Spikes {
            times_ns: &times_ns,
            units: &[0, 1, 1, 0],
        };
        let reference = Reference::new(&config(true), 20 * MS, 2, &[(spikes, 0)]);
        // Unit 1 fires twice in the first bin, so 4 times its mean; unit 0 once there and once in the last.
        #[rustfmt::skip]
        let expected = [
            1.0, 0.0, 0.0, 1.0,  3.0, -1.0, -1.0, -1.0,
            2.0, 0.0, 0.0, 0.0,  1.0, -1.0, -1.0, 1.0,
        ];
        assert_eq!(reference.counts(), expected);
    }
}
