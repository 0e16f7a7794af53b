//! How far units' weights of recent history are from those that the encoder gave them: a Poisson regression on what a reference
//! shows, with a prior that the units tell of each other, in closed form.
//!
//! The path of recent history ([`crate::model::recent`]) is linear in a unit's weights, so that a change δ of them changes the log
//! rate that was predicted of a bin by
//! ```text
//! Δ[t, n] = φ[t, n] · δ[n]        φ[t, n] = [ own[n, :] | m[t, :] · components ]
//! ```
//! The encoder has seen many units and only a glance of each of these; the reference's own counts know more of some than that.
//! How much more says the population: `δ[n] ~ N(μ, diag σ²)`, with μ and σ² from all units (empirical Bayes, by expectation
//! maximisation), so that a weight in which the encoder is right about everybody stays where it is. Each round is one of iteratively
//! reweighted least squares about the last (McCullagh and Nelder 1989, 2.5):
//! ```text
//! H[n] = Σ rate φ φᵀ        b[n] = Σ (count − rate) φ + H[n] δ[n]        δ[n] ← (H[n] + Σ⁻¹)⁻¹ (b[n] + Σ⁻¹ μ)
//! ```
//! Columns of φ are taken in units of what they vary by over the reference, components along the directions in which they vary
//! independently: so one prior deviation fits all.

use nalgebra::{Cholesky, DMatrix, DVector, SymmetricEigen};

use crate::model::network::LOG_RATE_LIMIT;

/// Rounds of reweighting.
const ROUNDS: usize = 3;
/// Steps of expectation maximisation in each: what little is known of is then still near where it began.
const STEPS: usize = 40;
/// Where σ² begins: a tenth of a unit of log rate, squared.
const FIRST_VARIANCE: f64 = 0.01;
/// What it does not fall below, so that its inverse is finite.
const LEAST_PRIOR_VARIANCE: f64 = 1e-8;
/// Of a log rate, by what is found: rates seven times higher or lower than the encoder has them are accidents of few spikes.
const LARGEST_CHANGE: f64 = 2.0;
/// Times that a change is halved before it is given up.
const MOST_HALVINGS: usize = 6;
/// A direction that varies by less than this part of the most varying one is none.
const LEAST_VARIANCE: f64 = 1e-5;

/// Bins of a reference as the network predicted them, P places of T bins each.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Places {
    /// N.
    pub units: usize,
    /// T.
    pub bins: usize,
    /// K + 1, numbers of a unit's own.
    pub own_width: usize,
    /// C, components of the population, at least one.
    pub components: usize,
    /// What the path sees of each unit itself, `[P, N, K + 1]`.
    pub own: Vec<f32>,
    /// What it sees of the population, weighted as in each bin, `[P, T, C]`.
    pub mixed: Vec<f32>,
    /// As predicted, `[P, T, N]`.
    pub log_rates: Vec<f32>,
    /// As it came, `[P, T, N]`.
    pub counts: Vec<f32>,
    /// What a place counts for: less than one where bins are predicted from several places.
    pub weight: f64,
}

/// Linear maps that give φ's columns their units.
struct Basis {
    /// Root mean square of each of a unit's own numbers, `[K + 1]`.
    own_size: Vec<f64>,
    /// `[C, C]`: components to whitened ones.
    whiten: DMatrix<f64>,
}

/// What the reference says of a unit's δ, as a quadratic form.
struct Evidence {
    hessian: DMatrix<f64>,
    right: DVector<f64>,
}

impl Basis {
    fn new(places: &Places) -> Self {
        let (own, c) = (places.own_width, places.components);
        let mut own_size = vec![0.0f64; own];
        for row in places.own.chunks_exact(own) {
            own_size
                .iter_mut()
                .zip(row)
                .for_each(|(sum, &x)| *sum += f64::from(x).powi(2));
        }
        let rows = (places.own.len() / own) as f64;
        for size in &mut own_size {
            *size = (*size / rows).sqrt();
        }
        let mut moment = DMatrix::<f64>::zeros(c, c);
        let rows = (places.mixed.len() / c) as f64;
        for row in places.mixed.chunks_exact(c) {
            let row = DVector::from_iterator(c, row.iter().map(|&x| f64::from(x)));
            moment.ger(1.0 / rows, &row, &row, 1.0);
        }
        let eigen = SymmetricEigen::new(moment);
        let least = LEAST_VARIANCE * eigen.eigenvalues.iter().copied().fold(0.0, f64::max);
        let scale = |k: usize| match eigen.eigenvalues[k] {
            value if value > least => 1.0 / value.sqrt(),
            _ => 0.0,
        };
        let whiten = DMatrix::from_fn(c, c, |k, i| scale(k) * eigen.eigenvectors[(i, k)]);
        Basis { own_size, whiten }
    }

    /// φ's part that is the unit's own.
    fn own(&self, row: &[f32], phi: &mut [f64]) {
        for ((phi, &x), &size) in phi.iter_mut().zip(row).zip(&self.own_size) {
            *phi = if size > 0.0 { f64::from(x) / size } else { 0.0 };
        }
    }

    /// The components of every place, whitened, `[P, T, C]`.
    fn whitened(&self, places: &Places) -> Vec<f64> {
        let c = places.components;
        let rows = places.mixed.chunks_exact(c);
        rows.flat_map(|row| (0..c).map(move |k| (0..c).map(|i| self.whiten[(k, i)] * f64::from(row[i])).sum()))
            .collect()
    }

    /// A change of the path's weights from one in these units.
    fn of_weights(&self, delta: &DVector<f64>) -> impl Iterator<Item = f64> {
        let own = self.own_size.len();
        let of_own = self.own_size.iter().zip(delta.iter());
        let of_own: Vec<f64> = of_own
            .map(|(&size, x)| if size > 0.0 { x / size } else { 0.0 })
            .collect();
        let of_components = self.whiten.tr_mul(&delta.rows(own, self.whiten.nrows()));
        of_own.into_iter().chain(Vec::from(of_components.as_slice()))
    }
}

/// The change of every unit's weights, `[N, K + 1 + C]`; zero where the reference says nothing.
pub(super) fn deviations(places: &Places) -> Vec<f64> {
    let width = places.own_width + places.components;
    let mut deltas = vec![DVector::zeros(width); places.units];
    if places.log_rates.is_empty() {
        return vec![0.0; places.units * width];
    }
    let basis = Basis::new(places);
    let whitened = basis.whitened(places);
    for _ in 0..ROUNDS {
        let evidence: Vec<Evidence> = deltas
            .iter()
            .enumerate()
            .map(|(unit, delta)| evidence(places, &basis, &whitened, unit, delta))
            .collect();
        deltas = shared(&evidence, width);
        for (unit, delta) in deltas.iter_mut().enumerate() {
            hold_back(places, &basis, &whitened, unit, delta);
        }
    }
    deltas.iter().flat_map(|delta| basis.of_weights(delta)).collect()
}

/// Halves δ until the reference is no less likely than without it and no log rate in it changes by more than [`LARGEST_CHANGE`], and
/// makes it zero where that does not help: a quadratic form says little of a unit that fires far more than was predicted for a moment,
/// and a step by it goes far too far.
fn hold_back(places: &Places, basis: &Basis, whitened: &[f64], unit: usize, delta: &mut DVector<f64>) {
    let (without, _) = log_likelihood(places, basis, whitened, unit, &DVector::zeros(delta.len()));
    for _ in 0..MOST_HALVINGS {
        let (with, largest) = log_likelihood(places, basis, whitened, unit, delta);
        if with >= without && largest <= LARGEST_CHANGE {
            return;
        }
        *delta *= 0.5;
    }
    delta.fill(0.0);
}

/// Of a unit's counts in the reference with its weights changed by δ, but for what does not depend on δ; and the largest change of a log
/// rate.
fn log_likelihood(places: &Places, basis: &Basis, whitened: &[f64], unit: usize, delta: &DVector<f64>) -> (f64, f64) {
    let (own, c) = (places.own_width, places.components);
    let limit = f64::from(LOG_RATE_LIMIT);
    let (of_own, of_components) = delta.as_slice().split_at(own);
    let mut phi = vec![0.0; own];
    let (mut sum, mut largest) = (0.0, 0.0f64);
    let rows = places.own.chunks_exact(own).skip(unit).step_by(places.units);
    for (row, own_row) in rows.enumerate() {
        basis.own(own_row, &mut phi);
        let shift = dot(&phi, of_own);
        for bin in row * places.bins..(row + 1) * places.bins {
            let at = bin * places.units + unit;
            let change = shift + dot(&whitened[bin * c..(bin + 1) * c], of_components);
            let log_rate = (f64::from(places.log_rates[at]) + change).clamp(-limit, limit);
            sum += places.weight * (f64::from(places.counts[at]) * log_rate - log_rate.exp());
            largest = largest.max(change.abs());
        }
    }
    (sum, largest)
}

/// H and b of a unit about its δ.
fn evidence(places: &Places, basis: &Basis, whitened: &[f64], unit: usize, delta: &DVector<f64>) -> Evidence {
    let Places {
        units,
        bins,
        own_width: own,
        components: c,
        weight,
        ..
    } = *places;
    let width = own + c;
    let limit = f64::from(LOG_RATE_LIMIT);
    let (of_own, of_components) = delta.as_slice().split_at(own);
    // Row-major, of which the lower triangle is filled.
    let mut hessian = vec![0.0; width * width];
    let mut right = vec![0.0; width];
    let mut phi = vec![0.0; width];
    for (row, own_row) in places.own.chunks_exact(own).skip(unit).step_by(units).enumerate() {
        basis.own(own_row, &mut phi[..own]);
        let shift = dot(&phi[..own], of_own);
        // The unit's own numbers are the same in all bins of a place, so that their part is added once.
        let (mut rates, mut more) = (0.0, 0.0);
        let mut mixed = vec![0.0; c];
        for bin in row * bins..(row + 1) * bins {
            let components = &whitened[bin * c..(bin + 1) * c];
            let at = bin * units + unit;
            let log_rate = f64::from(places.log_rates[at]) + shift + dot(components, of_components);
            let rate = weight * log_rate.clamp(-limit, limit).exp();
            let excess = weight * f64::from(places.counts[at]) - rate;
            rates += rate;
            more += excess;
            for (k, &x) in components.iter().enumerate() {
                mixed[k] += rate * x;
                right[own + k] += excess * x;
                add(&mut hessian[(own + k) * width + own..][..=k], rate * x, components);
            }
        }
        for k in 0..own {
            right[k] += more * phi[k];
            add(&mut hessian[k * width..][..=k], rates * phi[k], &phi);
        }
        for (k, &x) in mixed.iter().enumerate() {
            add(&mut hessian[(own + k) * width..][..own], x, &phi);
        }
    }
    let mut hessian = DMatrix::from_row_slice(width, width, &hessian);
    hessian.fill_upper_triangle_with_lower_triangle();
    let mut right = DVector::from_vec(right);
    right.gemv(1.0, &hessian, delta, 1.0);
    Evidence { hessian, right }
}

fn dot(a: &[f64], b: &[f64]) -> f64 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

/// `out += scale · x`, as far as `out` goes.
fn add(out: &mut [f64], scale: f64, x: &[f64]) {
    out.iter_mut().zip(x).for_each(|(out, x)| *out += scale * x);
}

/// Every unit's δ, with the prior that all of them make.
fn shared(evidence: &[Evidence], width: usize) -> Vec<DVector<f64>> {
    let units = evidence.len() as f64;
    let mut mean = DVector::<f64>::zeros(width);
    let mut variance = vec![FIRST_VARIANCE; width];
    let mut deltas = Vec::new();
    for _ in 0..STEPS {
        let precision = DVector::from_iterator(width, variance.iter().map(|variance| 1.0 / variance));
        let mut uncertain = DVector::<f64>::zeros(width);
        deltas = evidence
            .iter()
            .map(|Evidence { hessian, right }| {
                let mut total = hessian.clone();
                total.set_diagonal(&(hessian.diagonal() + &precision));
                // Not positive only where numbers are no longer finite; the unit then stays as the encoder has it.
                let Some(cholesky) = Cholesky::new(total) else {
                    return DVector::zeros(width);
                };
                uncertain += cholesky.inverse().diagonal();
                cholesky.solve(&(right + precision.component_mul(&mean)))
            })
            .collect();
        // μ itself has the prior of one unit about zero.
        mean = deltas.iter().sum::<DVector<f64>>() / (units + 1.0);
        for (k, variance) in variance.iter_mut().enumerate() {
            let spread: f64 = deltas.iter().map(|delta| (delta[k] - mean[k]).powi(2)).sum();
            *variance = ((spread + uncertain[k]) / units).max(LEAST_PRIOR_VARIANCE);
        }
    }
    deltas
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;
    use rand_distr::{Distribution, Poisson, StandardNormal};

    const UNITS: usize = 30;
    const BINS: usize = 2;
    const OWN: usize = 2;
    const COMPONENTS: usize = 3;
    const WIDTH: usize = OWN + COMPONENTS;

    /// Counts of units whose true weights differ from the predicted ones by these, `[N, K + 1 + C]`.
    fn places(truth: &[f64], count: usize, seed: u64) -> Places {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut places = Places {
            units: UNITS,
            bins: BINS,
            own_width: OWN,
            components: COMPONENTS,
            own: Vec::new(),
            mixed: Vec::new(),
            log_rates: Vec::new(),
            counts: Vec::new(),
            weight: 1.0,
        };
        for _ in 0..count {
            let mut normal = |size: f32| -> f32 {
                let x: f32 = StandardNormal.sample(&mut random);
                size * x
            };
            let own: Vec<f32> = (0..UNITS).flat_map(|_| [normal(0.3), 1.0]).collect();
            // The third component is nearly the sum of the others: only whitening tells it from them.
            let mut mixed = Vec::new();
            for _ in 0..BINS {
                let (a, b) = (normal(0.05), normal(2.0));
                mixed.extend([a, b, a + b + normal(0.5)]);
            }
            for bin in 0..BINS {
                for unit in 0..UNITS {
                    let log_rate = -0.5 + 0.3 * normal(1.0);
                    let phi = own[unit * OWN..(unit + 1) * OWN].iter();
                    let phi = phi.chain(&mixed[bin * COMPONENTS..(bin + 1) * COMPONENTS]);
                    let change: f64 = phi
                        .zip(&truth[unit * WIDTH..])
                        .map(|(&x, delta)| f64::from(x) * delta)
                        .sum();
                    let rate = (f64::from(log_rate) + change).exp();
                    places.log_rates.push(log_rate);
                    places.counts.push(rate as f32);
                }
            }
            places.own.extend(own);
            places.mixed.extend(mixed);
        }
        for count in &mut places.counts {
            *count = Poisson::new(f64::from(*count)).unwrap().sample(&mut random) as f32;
        }
        places
    }

    /// Mean log-likelihood gained in these places, nats a spike.
    fn gained(places: &Places, deltas: &[f64]) -> f64 {
        let (mut sum, mut spikes) = (0.0, 0.0);
        for (at, (&log_rate, &count)) in places.log_rates.iter().zip(&places.counts).enumerate() {
            let (bin, unit) = (at / UNITS, at % UNITS);
            let own = &places.own[(bin / BINS * UNITS + unit) * OWN..][..OWN];
            let phi = own.iter().chain(&places.mixed[bin * COMPONENTS..][..COMPONENTS]);
            let deltas = &deltas[unit * WIDTH..];
            let change: f64 = phi.zip(deltas).map(|(&x, delta)| f64::from(x) * delta).sum();
            let (log_rate, count) = (f64::from(log_rate), f64::from(count));
            sum += count * change - (log_rate + change).exp() + log_rate.exp();
            spikes += count;
        }
        sum / spikes
    }

    fn planted(size: f64, seed: u64) -> Vec<f64> {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        (0..UNITS)
            .flat_map(|_| {
                // A shift that all units share, one of each unit's own, and three that are nothing.
                let own = size * random.random_range(-1.0..1.0);
                [size, 0.0, 0.0, own, 0.0]
            })
            .collect()
    }

    #[test]
    fn what_was_planted_is_found_and_predicts_other_bins() {
        let truth = planted(0.4, 1);
        let (seen, other) = (places(&truth, 300, 2), places(&truth, 300, 3));
        let found = deviations(&seen);
        let (of_found, of_truth) = (gained(&other, &found), gained(&other, &truth));
        assert!(of_truth > 0.02, "{of_truth}");
        assert!(
            of_found > 0.85 * of_truth && of_found <= of_truth,
            "{of_found} of {of_truth}"
        );
    }

    #[test]
    fn where_the_encoder_is_right_hardly_anything_changes() {
        let truth = vec![0.0; UNITS * WIDTH];
        for count in [5, 300] {
            let (seen, other) = (places(&truth, count, 4), places(&truth, 300, 5));
            let lost = -gained(&other, &deviations(&seen));
            // A maximum-likelihood fit of 300 places would lose about half a nat a weight and unit: 0.5 · 5 · 30 over the spikes.
            let spikes: f32 = other.counts.iter().sum();
            let unshrunk = 0.5 * WIDTH as f64 * UNITS as f64 / f64::from(spikes) * 300.0 / count as f64;
            assert!(lost > 0.0 && lost < 0.5 * unshrunk, "{count}: {lost} of {unshrunk}");
        }
    }

    #[test]
    fn a_reference_without_bins_or_activity_changes_nothing() {
        let mut none = places(&[0.0; UNITS * WIDTH], 0, 0);
        assert_eq!(deviations(&none), vec![0.0; UNITS * WIDTH]);
        none = places(&[0.0; UNITS * WIDTH], 1, 0);
        assert!(deviations(&none).iter().all(|x| x.is_finite()));
        // Of numbers that are always zero.
        none.own.fill(0.0);
        none.mixed.fill(0.0);
        assert_eq!(deviations(&none), vec![0.0; UNITS * WIDTH]);
    }

    /// An artefact, or a cell that is touched: without a limit the first step goes to the end of the range of log rates.
    #[test]
    fn a_unit_that_bursts_once_does_not_take_its_rates_along() {
        let truth = planted(0.4, 1);
        let (mut seen, other) = (places(&truth, 300, 2), places(&truth, 300, 3));
        let usual = gained(&other, &deviations(&seen));
        for spikes in [20.0, 100.0, 1000.0] {
            // In one place unit 4 is silent otherwise.
            for (bin, counts) in seen.counts.chunks_exact_mut(UNITS).enumerate() {
                counts[4] = if bin / BINS == 150 { spikes } else { 0.0 };
            }
            let found = deviations(&seen);
            let own = &seen.own[(150 * UNITS + 4) * OWN..][..OWN];
            let mixed = &seen.mixed[150 * BINS * COMPONENTS..][..COMPONENTS];
            let change = own.iter().chain(mixed).zip(&found[4 * WIDTH..]);
            let change: f64 = change.map(|(&x, delta)| f64::from(x) * delta).sum();
            assert!(change.abs() <= LARGEST_CHANGE + 1e-9, "{spikes}: {change}");
            // The others have nothing to do with it.
            let gain = gained(&other, &found);
            assert!(gain > 0.7 * usual, "{spikes}: {gain} of {usual}");
        }
    }

    #[test]
    fn numbers_that_are_none_leave_a_unit_as_it_is() {
        let mut places = places(&planted(0.4, 1), 100, 2);
        for row in places.log_rates.chunks_exact_mut(UNITS) {
            row[7] = f32::NAN;
        }
        let found = deviations(&places);
        assert!(found.iter().all(|x| x.is_finite()));
        assert_eq!(found[7 * WIDTH..8 * WIDTH], [0.0; WIDTH]);
        assert!(found[8 * WIDTH..9 * WIDTH].iter().any(|&x| x != 0.0));
    }
}
